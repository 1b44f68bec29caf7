/* The command line: see options.h. The flags are the rows of settings.def, and a few more. */
#include "master/options.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "common/mem.h"
#include "master/help.h"
#include "master/words.h"

#define DEFAULT_CONFIG "greenicorn.conf"

/* What getopt_long needs, made of the tables above. */
struct flags {
	struct option *options;
	char *letters;
};

static void
flags_add(struct flags *f, size_t *n, const char *name, const char *metavar, int value)
{
	int has_arg = metavar == NULL   ? no_argument
		      : *metavar == '[' ? optional_argument
					: required_argument;

	f->options[(*n)++] = (struct option){name, has_arg, NULL, value};
}

static void
letters_add(char **end, int letter, bool has_arg)
{
	if (letter == 0 || letter >= FLAG_FROM_GUNICORN)
		return;
	*(*end)++ = (char)letter;
	if (has_arg)
		*(*end)++ = ':';
}

static struct flags
flags_make(void)
{
	size_t max = 2 * settings_count + plain_flags_count, n = 0;
	struct flags f = {xcalloc(max + 1, sizeof(*f.options)), xcalloc(2 * max + 2, 1)};
	char *end = f.letters;
	const struct setting *row;

	*end++ = ':'; /* tell a missing argument from an unknown flag */
	for (size_t i = 0; i < settings_count; i++) {
		row = &settings_table[i];
		if (row->long_flag != NULL)
			flags_add(&f, &n, row->long_flag, row->metavar, FLAG_SETTING + (int)i);
		if (setting_alias(row) != NULL)
			flags_add(&f, &n, setting_alias(row), row->metavar, FLAG_SETTING + (int)i);
		letters_add(&end, row->short_flag, row->metavar != NULL);
	}
	for (size_t i = 0; i < plain_flags_count; i++) {
		flags_add(
		    &f, &n, plain_flags[i].name, plain_flags[i].metavar, plain_flags[i].letter);
		letters_add(&end, plain_flags[i].letter, false);
	}
	return f;
}

static const struct setting *
setting_of_flag(int value)
{
	if (value >= FLAG_SETTING)
		return &settings_table[value - FLAG_SETTING];
	for (size_t i = 0; i < settings_count; i++)
		if (settings_table[i].short_flag == value)
			return &settings_table[i];
	return NULL;
}

/* ---- parsing ---- */

static _Noreturn void
usage_error(const char *origin, const char *problem, const char *what)
{
	fprintf(stderr, "usage: greenicorn [OPTIONS] [APP_MODULE]\ngreenicorn: error: %s: %s: %s\n",
	    origin, problem, what);
	exit(2);
}

/* How many flags begin with those n letters. */
static size_t
flags_beginning(const struct flags *f, const char *letters, size_t n)
{
	size_t found = 0;

	for (const struct option *o = f->options; o->name != NULL; o++)
		found += strncmp(o->name, letters, n) == 0;
	return found;
}

/* What getopt_long did not like. */
static _Noreturn void
flag_error(const struct flags *f, char **argv, int found, const char *origin)
{
	const char *word = argv[optind - 1], *name = word + 2;
	size_t n = strcspn(word, "=");
	const struct setting *nearest;
	char given[256];

	if (optopt > 0 && optopt < FLAG_FROM_GUNICORN)
		snprintf(given, sizeof(given), "-%c", optopt);
	else
		snprintf(given, sizeof(given), "%.*s", (int)n, word);
	if (found == ':')
		usage_error(origin, "its argument is missing", given);
	if (optopt >= FLAG_SETTING || (optopt > 0 && strncmp(word, "--", 2) == 0))
		usage_error(origin, "it takes no argument", given);
	if (optopt == 0 && flags_beginning(f, name, n - 2) > 1)
		usage_error(origin, "several flags begin so", given);
	nearest = optopt == 0 ? settings_nearest(given + 2, true) : NULL;
	if (nearest != NULL)
		snprintf(given + strlen(given), sizeof(given) - strlen(given),
		    ", did you mean --%s?", nearest->long_flag);
	usage_error(origin, "no such flag", given);
}

/*
 * What is no number where one belongs is a mistake of the command line, as argparse has it; what is
 * out of the setting's range is found later, and one of the configuration.
 */
static void
number_check(const struct setting *row, const char *value, const char *origin)
{
	static const struct kind_range any = {INT_MIN, INT_MAX, NULL};
	struct kind_error why;
	int number;

	if (row->kind != &kind_COUNT && row->kind != &kind_SECONDS)
		return;
	if (row->kind->from_text(&number, value, &any, &why) == -1)
		usage_error(origin, row->name, why.text);
}

/* A flag without an argument is a switch. */
static void
given_add(struct options *o, const struct setting *row, const char *value, const char *origin)
{
	if (value == NULL)
		value = setting_flag_clears(row) ? "false" : "true";
	number_check(row, value, origin);
	o->given = xreallocarray(o->given, o->n + 1, sizeof(*o->given));
	o->given[o->n++] = (struct option_given){row, xstrdup(value), origin};
}

static void
string_replace(char **slot, const char *value)
{
	char *copy = xstrdup(value);

	free(*slot);
	*slot = copy;
}

static void
flag_take(struct options *o, int flag, const char *origin)
{
	const struct setting *row;

	if (flag == 'h') {
		help_print();
		exit(0);
	}
	if (flag == 'v') {
		puts("greenicorn (version " GREENICORN_VERSION ")");
		exit(0);
	}
	if (flag == FLAG_FROM_GUNICORN) {
		string_replace(&o->from_gunicorn, optarg);
		return;
	}
	row = setting_of_flag(flag);
	if (row == settings_find("config"))
		string_replace(&o->config, optarg);
	else
		given_add(o, row, optarg, origin);
}

/* gunicorn lets the word of --proxy-protocol stand apart: it is taken if it is one of the words. */
static void
optional_word_take(const struct setting *row, int argc, char **argv)
{
	char *word = NULL;
	struct kind_error why;

	if (row->metavar == NULL || *row->metavar != '[' || optarg != NULL || optind >= argc)
		return;
	if (row->kind->from_text(&word, argv[optind], &row->range, &why) == 0)
		optarg = argv[optind++];
	row->kind->fini(&word);
}

static void
parse(struct options *o, const struct flags *flags, int argc, char **argv, const char *origin)
{
	int flag;

	opterr = 0;
	optind = 0; /* glibc: begin anew */
	while ((flag = getopt_long(argc, argv, flags->letters, flags->options, NULL)) != -1) {
		if (flag == '?' || flag == ':')
			flag_error(flags, argv, flag, origin);
		if (flag >= FLAG_SETTING)
			optional_word_take(setting_of_flag(flag), argc, argv);
		flag_take(o, flag, origin);
	}
	if (optind < argc)
		string_replace(&o->app, argv[optind++]);
	if (optind < argc)
		usage_error(origin, "more than one application", argv[optind]);
}

static void
parse_variable(struct options *o, const struct flags *flags)
{
	const char *name = "GREENICORN_CMD_ARGS", *text = getenv(name);
	struct strlist words = {0};

	if (text == NULL)
		text = getenv(name = "GUNICORN_CMD_ARGS");
	if (text == NULL)
		return;
	strlist_append(&words, "greenicorn");
	if (words_split(&words, text) == -1)
		usage_error(name, "a quote is not closed, or a backslash is its end", text);
	words.items = xreallocarray(words.items, words.n + 1, sizeof(*words.items));
	words.items[words.n] = NULL;
	parse(o, flags, (int)words.n, words.items, name);
	strlist_clear(&words);
}

/* The server may change directory; a reload must find the same file. */
static char *
absolute(const struct options *o, const char *path)
{
	return *path == '/' ? xstrdup(path) : xasprintf("%s/%s", o->cwd, path);
}

static void
config_resolve(struct options *o)
{
	char *given = o->config;

	if (given == NULL && access(DEFAULT_CONFIG, F_OK) == 0)
		o->config = absolute(o, DEFAULT_CONFIG);
	if (given == NULL)
		return;
	if (strncmp(given, "python:", 7) == 0) /* a module's name: settings_read_file refuses it */
		return;
	o->config = absolute(o, strncmp(given, "file:", 5) == 0 ? given + 5 : given);
	free(given);
}

void
options_parse(struct options *o, int argc, char **argv)
{
	struct flags flags = flags_make();

	*o = (struct options){.cwd = getcwd(NULL, 0)};
	if (o->cwd == NULL)
		fatal("cannot find the current directory");
	parse_variable(o, &flags);
	parse(o, &flags, argc, argv, "command line");
	config_resolve(o);
	free(flags.options);
	free(flags.letters);
}

void
options_free(struct options *o)
{
	for (size_t i = 0; i < o->n; i++)
		free(o->given[i].value);
	free(o->given);
	free(o->cwd);
	free(o->config);
	free(o->app);
	free(o->from_gunicorn);
}

/* ---- applying ---- */

/* Whether the same source has given that setting before: a list then grows. */
static bool
given_before(const struct options *o, size_t i)
{
	for (size_t j = 0; j < i; j++)
		if (o->given[j].setting == o->given[i].setting &&
		    o->given[j].origin == o->given[i].origin)
			return true;
	return false;
}

static int
given_apply(const struct options *o, struct settings *s, struct settings_error *error)
{
	const struct option_given *g;
	int rc = 0;

	for (size_t i = 0; i < o->n && rc == 0; i++) {
		g = &o->given[i];
		if (g->setting->kind == &kind_LIST && given_before(o, i))
			rc = settings_append(s, g->setting->name, g->value, g->origin, error);
		else
			rc = settings_set(s, g->setting->name, g->value, g->origin, error);
	}
	if (rc == 0 && o->app != NULL)
		rc = settings_set(s, "wsgi_app", o->app, "command line", error);
	return rc;
}

/* gunicorn takes a relative chdir from where it was started; workers are told the whole path. */
static int
chdir_resolve(const struct options *o, struct settings *s, struct settings_error *error)
{
	char *path;
	int rc;

	if (s->chdir == NULL || *s->chdir == '/')
		return 0;
	path = absolute(o, s->chdir);
	rc = settings_set(s, "chdir", path, settings_origin(s, "chdir"), error);
	free(path);
	return rc;
}

int
options_load(const struct options *o, struct settings *s, struct settings_error *error)
{
	if (settings_init(s, error) == -1)
		return -1;
	if ((o->config != NULL && settings_read_file(s, o->config, error) == -1) ||
	    (o->config != NULL &&
		settings_set(s, "config", o->config, "command line", error) == -1) ||
	    given_apply(o, s, error) == -1 || chdir_resolve(o, s, error) == -1 ||
	    settings_check(s, error) == -1)
		goto fail;
	if (s->wsgi_app == NULL && !s->print_config) {
		snprintf(error->text, sizeof(error->text), "No application module specified.");
		goto fail;
	}
	return 0;
fail:
	settings_fini(s);
	return -1;
}
