/* --help: see help.h. The text is that of settings.def. */
#include "master/help.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/mem.h"
#include "common/settings_table.h"

/* Narrower than that, a line holds no text; wider, it is hard to read. */
enum { WIDTH_MIN = 40, WIDTH_MAX = 120, WIDTH_ELSE = 80 };

/* Where lines end, and where the flags' texts begin. */
struct layout {
	int width, indent;
};

static struct layout
layout_find(void)
{
	const char *columns = getenv("COLUMNS");
	struct winsize size = {0};
	int width = columns != NULL ? atoi(columns) : 0;

	if (width <= 0 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0)
		width = size.ws_col;
	if (width <= 0)
		width = WIDTH_ELSE;
	width = width < WIDTH_MIN ? WIDTH_MIN : width > WIDTH_MAX ? WIDTH_MAX : width;
	return (struct layout){width, width >= WIDTH_ELSE ? 36 : 8};
}

/* Print text from l->indent to l->width, word by word; the cursor is at column. */
static void
wrap(const struct layout *l, int column, const char *text)
{
	int n;

	if (column >= l->indent)
		column = printf("\n") - 1;
	column += printf("%*s", l->indent - column, "");
	for (; *text != '\0'; text += n + (text[n] == ' ')) {
		n = (int)strcspn(text, " ");
		if (column > l->indent && column + 1 + n > l->width)
			column = printf("\n%*s", l->indent, "") - 1;
		else if (column > l->indent)
			column += printf(" ");
		column += printf("%.*s", n, text);
	}
	putchar('\n');
}

static void
flag_print(const struct layout *l, int letter, const char *name, const char *alias,
    const char *metavar, const char *help)
{
	int column;

	column = letter ? printf("  -%c, --%s", letter, name) : printf("      --%s", name);
	if (alias != NULL)
		column += printf(", --%s", alias);
	if (metavar != NULL)
		column += printf(*metavar == '[' ? "%s" : " %s", metavar);
	wrap(l, column, help);
}

static void
setting_print(const struct layout *l, const struct setting *row)
{
	char *text = xasprintf("%s%s", setting_flag_clears(row) ? "Turn off: " : "", row->help);

	flag_print(l, row->short_flag, row->long_flag, setting_alias(row), row->metavar, text);
	free(text);
}

/* What is there for gunicorn's sake: the names will do. */
static void
unused_print(const struct layout *l)
{
	struct layout margin = {l->width, 6};
	char *names = NULL;
	size_t size;
	FILE *out = open_memstream(&names, &size);

	if (out == NULL)
		return;
	for (size_t i = 0; i < settings_count; i++) {
		const struct setting *row = &settings_table[i];

		if (row->long_flag == NULL || !setting_is_unused(row))
			continue;
		if (row->short_flag != 0)
			fprintf(out, "-%c ", row->short_flag);
		fprintf(out, "--%s ", row->long_flag);
		if (setting_alias(row) != NULL)
			fprintf(out, "--%s ", setting_alias(row));
	}
	if (fclose(out) == EOF)
		return;
	puts("\nOf gunicorn, and of no use here (greenicorn.conf(5) says why):");
	wrap(&margin, 0, names);
	free(names);
}

void
help_print(void)
{
	const struct layout layout = layout_find();
	const char *group = "";

	puts("usage: greenicorn [OPTIONS] [APP_MODULE]\n\nOptions:");
	for (size_t i = 0; i < plain_flags_count; i++) {
		const struct plain_flag *f = &plain_flags[i];

		flag_print(&layout, f->letter < FLAG_FROM_GUNICORN ? f->letter : 0, f->name, NULL,
		    f->metavar, f->help);
	}
	for (size_t i = 0; i < settings_count; i++) {
		const struct setting *row = &settings_table[i];

		if (row->long_flag == NULL || setting_is_unused(row))
			continue;
		if (strcmp(group, row->group) != 0)
			printf("\n%s:\n", group = row->group);
		setting_print(&layout, row);
	}
	unused_print(&layout);
	puts("\nEvery setting, and the file that has them: greenicorn.conf(5).");
}
