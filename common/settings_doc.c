/*
 * A tool of the build: prints what settings.def says, for people.
 *
 *	settings-doc conf		the sample configuration
 *	settings-doc man TEMPLATE	a manual page, with a list in mdoc(7) in the place
 *					of the comments .\" settings and .\" options
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/settings_table.h"

static const struct {
	const char *kind, *name;
} kind_names[] = {
    {"COUNT", "number"},
    {"SECONDS", "seconds"},
    {"DURATION", "duration"},
    {"SIZE", "size"},
    {"MODE", "mode"},
    {"BOOL", "boolean"},
    {"STRING", "string"},
    {"LEVEL", "level"},
    {"ACCOUNT", "account"},
    {"LIST", "list"},
};

static const char *
kind_name(const struct setting *row)
{
	for (size_t i = 0; i < sizeof(kind_names) / sizeof(kind_names[0]); i++)
		if (strcmp(kind_names[i].kind, row->kind_name) == 0)
			return kind_names[i].name;
	fprintf(stderr, "settings-doc: no name for the kind %s\n", row->kind_name);
	exit(1);
}

/* Whether this row stands under another heading than the one before it. */
static bool
begins_group(size_t i)
{
	return i == 0 || strcmp(settings_table[i].group, settings_table[i - 1].group) != 0;
}

/* ---- the sample configuration ---- */

static void
conf_print(void)
{
	puts("# greenicorn.conf: every setting, at its default. See greenicorn.conf(5).\n"
	     "#\n"
	     "# The names are gunicorn's, the syntax is libconfig's: NAME = VALUE; with text in\n"
	     "# double quotes. An empty text means: not set. The command line has the last word.");
	for (size_t i = 0; i < settings_count; i++) {
		const struct setting *row = &settings_table[i];

		if (begins_group(i))
			printf("\n# ---- %s ----\n", row->group);
		printf("\n# %s\n#%s = %s;\n", row->help, row->name, row->def ? row->def : "\"\"");
	}
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

/* ".Fl w , Fl \-workers", as part of a line. */
static void
mdoc_flags(const struct setting *row)
{
	if (row->short_flag != 0)
		printf("Fl %c , ", row->short_flag);
	fputs("Fl \\-", stdout);
	for (const char *p = row->long_flag; *p != '\0'; p++)
		printf(*p == '-' ? "\\-" : "%c", *p);
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

	if (range->max != 0 && range->max != INT_MAX && strcmp(row->kind_name, "MODE") != 0)
		printf("From %lld to %lld.\n", range->min, range->max);
}

static void
mdoc_setting(const struct setting *row)
{
	printf(".It Ic %s No = Ar %s\n", row->name, kind_name(row));
	mdoc_text(row->help);
	mdoc_range(row);
	if (row->def != NULL) {
		fputs("The default is\n.Ql ", stdout);
		mdoc_quote(row->def);
		puts(" .");
	} else {
		puts("Not set by default.");
	}
	if (!row->reload)
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
	for (size_t i = 0; i < settings_count; i++) {
		if (begins_group(i))
			printf("%s.Ss %s\n.Bl -tag -width Ds\n", i ? ".El\n" : "",
			    settings_table[i].group);
		mdoc_setting(&settings_table[i]);
	}
	puts(".El");
}

static void
mdoc_options(void)
{
	for (size_t i = 0; i < settings_count; i++) {
		const struct setting *row = &settings_table[i];

		if (row->long_flag == NULL)
			continue;
		fputs(".It ", stdout);
		mdoc_flags(row);
		if (row->metavar != NULL)
			printf(" Ar %s", row->metavar);
		puts(strncmp(row->long_flag, "no-", 3) == 0 ? "\nTurn off:" : "");
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
		else
			fputs(line, stdout);
	}
	return fclose(in) == EOF;
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
	} else {
		fputs("usage: settings-doc conf | man TEMPLATE\n", stderr);
	}
	return fflush(stdout) == EOF ? 1 : rc;
}
