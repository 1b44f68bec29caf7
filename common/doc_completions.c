/*
 * Completions for shells: see doc_completions.h. They offer the flags that --help explains,
 * the words of a choice, files, directories and accounts where a setting has such a value,
 * and for the application the modules here and one folder below.
 */
#include "common/doc_completions.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/settings_table.h"

/* What a flag's argument may be, by what --help calls it. */
static const struct values {
	const char *metavar;
	const char *bash, *zsh, *fish; /* how each shell finds them */
	const char *words;             /* or these, with bars; what else begins so is allowed */
} values_table[] = {
    {"FILE", "-f", "_files", "-r -F", NULL},
    {"PATH", "-f", "_files", "-r -F", NULL},
    {"DIR", "-d", "_files -/", "-x -a '(__fish_complete_directories)'", NULL},
    {"DIRS", "-d", "_files -/", "-x -a '(__fish_complete_directories)'", NULL},
    {"USER", "-u", "_users", "-x -a '(__fish_complete_users)'", NULL},
    {"GROUP", "-g", "_groups", "-x -a '(__fish_complete_groups)'", NULL},
    {"LEVEL", NULL, NULL, NULL, "debug|info|warning|error|critical"},
    {"CLASS", NULL, NULL, NULL, "gevent|sync|gthread"},
    {"FORMAT", NULL, NULL, NULL, "json"},
    {"FACILITY", NULL, NULL, NULL,
	"user|daemon|local0|local1|local2|local3|local4|local5|local6|local7"},
};

/* A flag, whether of a setting or not. */
struct flag {
	int letter; /* 0: none */
	const char *name, *alias, *metavar, *help;
	bool repeats, clears;
};

/* The flag of that number, those of the settings first; false: it is not offered. */
static bool
flag_get(struct flag *f, size_t i)
{
	const struct setting *row = &settings_table[i];
	const struct plain_flag *plain = &plain_flags[i - settings_count];

	if (i >= settings_count) {
		*f = (struct flag){plain->letter < FLAG_FROM_GUNICORN ? plain->letter : 0,
		    plain->name, NULL, plain->metavar, plain->help, false, false};
		return true;
	}
	if (row->long_flag == NULL || setting_is_unused(row))
		return false;
	*f = (struct flag){row->short_flag, row->long_flag, setting_alias(row), row->metavar,
	    row->help, row->kind == &kind_LIST, setting_flag_clears(row)};
	return true;
}

#define FOR_EACH_FLAG(f)                                                   \
	for (size_t i_ = 0; i_ < settings_count + plain_flags_count; i_++) \
		if (flag_get(f, i_))

/* How its values are found; NULL: nothing is known of them. */
static const struct values *
values_of(const struct flag *f)
{
	static struct values choice;

	for (size_t i = 0; f->metavar != NULL && i < sizeof(values_table) / sizeof(values_table[0]);
	     i++)
		if (strcmp(values_table[i].metavar, f->metavar) == 0)
			return &values_table[i];
	if (f->metavar == NULL || strchr(f->metavar, '|') == NULL)
		return NULL;
	choice.words = f->metavar;
	return &choice;
}

/* "a|b" or "[a|b]" with blanks. */
static void
words_print(const char *words)
{
	for (; *words != '\0'; words++)
		if (*words != '[' && *words != ']')
			putchar(*words == '|' ? ' ' : *words);
}

/* ---- bash ---- */

/* All names of a flag, with something between them. */
static void
names_print(const struct flag *f, const char *between)
{
	if (f->letter != 0)
		printf("-%c%s", f->letter, between);
	printf("--%s", f->name);
	if (f->alias != NULL)
		printf("%s--%s", between, f->alias);
}

static void
bash_case(const struct flag *f)
{
	const struct values *v = values_of(f);

	if (f->metavar == NULL)
		return;
	fputs("\t", stdout);
	names_print(f, " | ");
	if (v == NULL) {
		puts(") ;;");
	} else if (v->words == NULL) {
		printf(") _greenicorn_offer %s ;;\n", v->bash);
	} else {
		fputs(") _greenicorn_offer -W '", stdout);
		words_print(v->words);
		puts("' ;;");
	}
}

/*
 * The word after "=" is one of its own to bash, if "=" is in COMP_WORDBREAKS. compgen -W expands
 * its words as a command line: a file's name must not get there unless it is a module's.
 */
static void
bash_print(void)
{
	struct flag f;

	puts("# Completion of greenicorn's command line for bash; made from the table of "
	     "settings.\n\n"
	     "_greenicorn_offer()\n{\n"
	     "\tmapfile -t COMPREPLY < <(compgen \"$@\" -- \"$cur\")\n"
	     "\tcase $1 in -f | -d) compopt -o filenames 2>/dev/null ;; esac\n}\n\n"
	     "_greenicorn_modules()\n{\n"
	     "\tlocal path\n"
	     "\tfor path in *.py */*.py; do\n"
	     "\t\tpath=${path%.py}\n"
	     "\t\t[[ ! $path =~ ^[A-Za-z0-9_/]+$ ]] || echo \"${path//\\//.}\"\n"
	     "\tdone\n}\n");
	puts("_greenicorn()\n{\n"
	     "\tlocal cur=${COMP_WORDS[COMP_CWORD]} flag=${COMP_WORDS[COMP_CWORD - 1]} joined=\n"
	     "\tCOMPREPLY=()\n"
	     "\tif [ \"$cur\" = = ]; then\n\t\tcur= joined=1\n"
	     "\telif [ \"$flag\" = = ]; then\n\t\tflag=${COMP_WORDS[COMP_CWORD - 2]} "
	     "joined=1\n\tfi\n"
	     "\tcase $flag in");
	FOR_EACH_FLAG(&f)
	bash_case(&f);
	fputs("\t*)\n\t\tcase $cur in\n\t\t-*) _greenicorn_offer -W '\n", stdout);
	FOR_EACH_FLAG(&f)
	{
		fputs("\t\t\t", stdout);
		names_print(&f, " ");
		putchar('\n');
	}
	puts("\t\t\t' ;;\n\t\t*) [ -n \"$joined\" ] || _greenicorn_offer -W "
	     "\"$(_greenicorn_modules)\" "
	     ";;\n\t\tesac ;;\n"
	     "\tesac\n}\n\ncomplete -F _greenicorn greenicorn");
}

/* ---- zsh ---- */

/* A text in single quotes, where _arguments takes some characters for its own. */
static void
zsh_text(const char *text)
{
	for (; *text != '\0'; text++) {
		if (strchr("[]:\\", *text) != NULL)
			putchar('\\');
		fputs(*text == '\'' ? "'\\''" : (char[]){*text, '\0'}, stdout);
	}
}

/* Flags that say the same exclude one another, unless they may be repeated. */
static void
zsh_name(const struct flag *f, const char *dashes, const char *name, const char *equals)
{
	const struct values *v = values_of(f);

	fputs("\t\t'", stdout);
	if (f->repeats) {
		putchar('*');
	} else {
		putchar('(');
		names_print(f, " ");
		putchar(')');
	}
	printf("%s%s%s[%s", dashes, name, f->metavar != NULL ? equals : "",
	    f->clears ? "Turn off\\: " : "");
	zsh_text(f->help);
	putchar(']');
	if (f->metavar != NULL) {
		fputs(*f->metavar == '[' ? "::" : ":", stdout);
		fputs(v != NULL && v->words == f->metavar ? f->name : f->metavar, stdout);
		putchar(':');
	}
	if (v != NULL && v->words != NULL) {
		putchar('(');
		words_print(v->words);
		putchar(')');
	} else if (v != NULL) {
		fputs(v->zsh, stdout);
	}
	puts("' \\");
}

static void
zsh_print(void)
{
	struct flag f;

	puts("#compdef greenicorn\n"
	     "# Completion of greenicorn's command line for zsh; made from the table of "
	     "settings.\n\n"
	     "_greenicorn_modules()\n{\n"
	     "\tlocal -a modules\n"
	     "\tmodules=(*.py(N:r) */*.py(N:r:gs@/@.@))\n"
	     "\tcompadd -a modules\n}\n\n"
	     "_greenicorn()\n{\n"
	     "\t_arguments -s -S \\");
	FOR_EACH_FLAG(&f)
	{
		if (f.letter != 0)
			zsh_name(&f, "-", (char[]){(char)f.letter, '\0'}, "+");
		zsh_name(&f, "--", f.name, "=");
		if (f.alias != NULL)
			zsh_name(&f, "--", f.alias, "=");
	}
	puts("\t\t'1:application:_greenicorn_modules'\n}\n\n_greenicorn \"$@\"");
}

/* ---- fish ---- */

static void
fish_text(const char *text)
{
	for (; *text != '\0'; text++) {
		if (*text == '\'' || *text == '\\')
			putchar('\\');
		putchar(*text);
	}
}

static void
fish_flag(const struct flag *f)
{
	const struct values *v = values_of(f);

	fputs("complete -c greenicorn", stdout);
	if (f->letter != 0)
		printf(" -s %c", f->letter);
	printf(" -l %s", f->name);
	if (f->alias != NULL)
		printf(" -l %s", f->alias);
	if (v != NULL && v->words != NULL) {
		printf(" %s -a '", *f->metavar == '[' ? "-f" : "-x");
		words_print(v->words);
		putchar('\'');
	} else if (f->metavar != NULL) {
		printf(" %s", v != NULL ? v->fish : "-x");
	}
	printf(" -d '%s", f->clears ? "Turn off: " : "");
	fish_text(f->help);
	puts("'");
}

static void
fish_print(void)
{
	struct flag f;

	puts("# Completion of greenicorn's command line for fish; made from the table of "
	     "settings.\n\n"
	     "function __greenicorn_modules\n"
	     "\tset -l files *.py */*.py\n"
	     "\tstring replace -r '\\.py$' '' -- $files | string replace -a / .\n"
	     "end\n\n"
	     "complete -c greenicorn -f -a '(__greenicorn_modules)'");
	FOR_EACH_FLAG(&f)
	fish_flag(&f);
}

int
completions_print(const char *shell)
{
	static const struct {
		const char *shell;
		void (*print)(void);
	} shells[] = {{"bash", bash_print}, {"zsh", zsh_print}, {"fish", fish_print}};

	for (size_t i = 0; i < sizeof(shells) / sizeof(shells[0]); i++) {
		if (strcmp(shells[i].shell, shell) == 0) {
			shells[i].print();
			return 0;
		}
	}
	return -1;
}
