/*
 * A tool of the build: prints what settings.def says, for people.
 *
 *	settings-doc conf		the sample configuration
 *	settings-doc man TEMPLATE	a manual page, with a list in mdoc(7) in the place
 *					of the comments .\" settings, .\" options and .\" unused
 *	settings-doc completions SHELL	what bash, zsh or fish completes
 *	settings-doc json		the table itself, for docs/gunicorn.md
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/doc_completions.h"
#include "common/settings_table.h"

/* The settings that a file may use, with their headings; the index of the next from i on. */
static size_t
next_used(size_t i)
{
	while (i < settings_count && (setting_is_unused(&settings_table[i]) ||
					 settings_table[i].effect == SETTING_COMMAND_LINE))
		i++;
	return i;
}

/* ---- the sample configuration ---- */

/* The names alone, as many in a line as fit. */
static void
conf_print_unused(void)
{
	int column = 0;

	puts("\n# ---- gunicorn's, accepted, but of no use here: greenicorn.conf(5) says why "
	     "----\n#");
	for (size_t i = 0; i < settings_count; i++) {
		const char *name = settings_table[i].name;

		if (!setting_is_unused(&settings_table[i]))
			continue;
		if (column > 0 && column + 1 + (int)strlen(name) > 90)
			column = printf("\n") - 1;
		column += printf("%s%s", column == 0 ? "# " : " ", name);
	}
	putchar('\n');
}

static void
conf_print(void)
{
	const char *group = "";

	puts("# greenicorn.conf: every setting, at its default. See greenicorn.conf(5).\n"
	     "#\n"
	     "# The names are gunicorn's, the syntax is libconfig's: NAME = VALUE; with text in\n"
	     "# double quotes. An empty text means: not set. The command line has the last word.");
	for (size_t i = next_used(0); i < settings_count; i = next_used(i + 1)) {
		const struct setting *row = &settings_table[i];

		if (strcmp(group, row->group) != 0)
			printf("\n# ---- %s ----\n", group = row->group);
		printf("\n# %s\n#%s = %s;\n", row->help, row->name, row->def ? row->def : "\"\"");
	}
	conf_print_unused();
}

/* ---- manual pages ---- */

/* Text as one argument of a macro. */
static void
mdoc_quote(const char *text)
{
	putchar('"');
	for (; *text != '\0'; text++) {
		if (*text == '\\')
			fputs("\\e", stdout);
		else if (*text == '"')
			fputs("\\(dq", stdout);
		else if (*text == '-')
			fputs("\\-", stdout);
		else
			putchar(*text);
	}
	putchar('"');
}

static void
mdoc_long_flag(const char *name)
{
	fputs("Fl \\-", stdout);
	for (const char *p = name; *p != '\0'; p++)
		printf(*p == '-' ? "\\-" : "%c", *p);
}

/* ".Fl w , Fl \-workers", as part of a line. */
static void
mdoc_flags(const struct setting *row)
{
	if (row->short_flag != 0)
		printf("Fl %c , ", row->short_flag);
	mdoc_long_flag(row->long_flag);
	if (setting_alias(row) != NULL) {
		fputs(" , ", stdout);
		mdoc_long_flag(setting_alias(row));
	}
}

/* mdoc wants each sentence on a line of its own. */
static void
mdoc_text(const char *text)
{
	for (; *text != '\0'; text++) {
		putchar(*text);
		if (text[0] == '.' && text[1] == ' ') {
			putchar('\n');
			text++;
		}
	}
	putchar('\n');
}

static void
mdoc_range(const struct setting *row)
{
	const struct kind_range *range = &row->range;

	if (range->max != 0 && range->max != INT_MAX && row->kind != &kind_MODE)
		printf("From %lld to %lld.\n", range->min, range->max);
}

/* The words of a choice, without the bars. */
static void
mdoc_words(const struct setting *row)
{
	fputs("One of ", stdout);
	for (const char *p = row->metavar + (*row->metavar == '['); *p != '\0' && *p != ']'; p++)
		fputs((char[]){*p == '|' ? ',' : *p, *p == '|' ? ' ' : '\0', '\0'}, stdout);
	puts(".");
}

static void
mdoc_setting(const struct setting *row)
{
	printf(".It Ic %s No = Ar %s\n", row->name, row->kind->name);
	mdoc_text(row->help);
	mdoc_range(row);
	if (row->kind == &kind_CHOICE)
		mdoc_words(row);
	if (row->def != NULL) {
		fputs("The default is\n.Ql ", stdout);
		mdoc_quote(row->def);
		puts(" .");
	} else {
		puts("Not set by default.");
	}
	if (row->effect == SETTING_RESTART)
		puts("A change needs a restart.");
	if (row->long_flag != NULL) {
		fputs("On the command line:\n.", stdout);
		mdoc_flags(row);
		puts(" .");
	}
}

static void
mdoc_settings(void)
{
	const char *group = "";

	for (size_t i = next_used(0); i < settings_count; i = next_used(i + 1)) {
		const struct setting *row = &settings_table[i];

		if (strcmp(group, row->group) != 0) {
			printf("%s.Ss %s\n.Bl -tag -width Ds\n", *group ? ".El\n" : "", row->group);
			group = row->group;
		}
		mdoc_setting(row);
	}
	puts(".El");
}

static void
mdoc_unused(void)
{
	puts(".Bl -tag -width Ds -compact");
	for (size_t i = 0; i < settings_count; i++) {
		const struct setting *row = &settings_table[i];

		if (!setting_is_unused(row))
			continue;
		printf(".It Ic %s\n", row->name);
		mdoc_text(row->why);
	}
	puts(".El");
}

static void
mdoc_options(void)
{
	for (size_t i = 0; i < settings_count; i++) {
		const struct setting *row = &settings_table[i];

		if (row->long_flag == NULL || setting_is_unused(row))
			continue;
		fputs(".It ", stdout);
		mdoc_flags(row);
		if (row->metavar != NULL)
			printf(" Ar %s", row->metavar);
		puts(setting_flag_clears(row) ? "\nTurn off:" : "");
		mdoc_text(row->help);
	}
}

static int
man_print(const char *template)
{
	FILE *in = fopen(template, "r");
	char line[1024];

	if (in == NULL) {
		perror(template);
		return 1;
	}
	while (fgets(line, sizeof(line), in) != NULL) {
		if (strcmp(line, ".\\\" settings\n") == 0)
			mdoc_settings();
		else if (strcmp(line, ".\\\" options\n") == 0)
			mdoc_options();
		else if (strcmp(line, ".\\\" unused\n") == 0)
			mdoc_unused();
		else
			fputs(line, stdout);
	}
	return fclose(in) == EOF;
}

/* ---- JSON ---- */

static void
json_text(const char *name, const char *text)
{
	printf("\"%s\": ", name);
	if (text == NULL) {
		fputs("null", stdout);
		return;
	}
	putchar('"');
	for (; *text != '\0'; text++)
		printf(*text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
	putchar('"');
}

/* The table's texts hold no control characters. */
static void
json_print(void)
{
	static const char *const effects[] = {
	    "reload", "restart", "command line", "nothing", "refused"};

	for (size_t i = 0; i < settings_count; i++) {
		const struct setting *row = &settings_table[i];
		const char letter[] = {(char)row->short_flag, '\0'};
		const struct {
			const char *name, *text;
		} texts[] = {{"name", row->name}, {"kind", row->kind->name}, {"default", row->def},
		    {"effect", effects[row->effect]}, {"why", row->why},
		    {"letter", *letter != '\0' ? letter : NULL}, {"flag", row->long_flag},
		    {"alias", setting_alias(row)}, {"argument", row->metavar},
		    {"group", row->group}, {"help", row->help}};

		fputs(i == 0 ? "[\n{" : ",\n{", stdout);
		for (size_t j = 0; j < sizeof(texts) / sizeof(texts[0]); j++) {
			fputs(j == 0 ? "" : ", ", stdout);
			json_text(texts[j].name, texts[j].text);
		}
		putchar('}');
	}
	puts("\n]");
}

int
main(int argc, char **argv)
{
	int rc = 1;

	if (argc == 2 && strcmp(argv[1], "conf") == 0) {
		conf_print();
		rc = 0;
	} else if (argc == 3 && strcmp(argv[1], "man") == 0) {
		rc = man_print(argv[2]);
	} else if (argc == 2 && strcmp(argv[1], "json") == 0) {
		json_print();
		rc = 0;
	} else if (argc == 3 && strcmp(argv[1], "completions") == 0) {
		rc = completions_print(argv[2]) == 0 ? 0 : 1;
	} else {
		fputs(
		    "usage: settings-doc conf | man TEMPLATE | completions SHELL | json\n", stderr);
	}
	return fflush(stdout) == EOF ? 1 : rc;
}
