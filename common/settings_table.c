/* The table of settings, made from settings.def, and looking names up in it. */
#include "common/settings_table.h"

#include <limits.h>
#include <string.h>

#include "common/settings.h"

/* What the column "effect" may say. */
#define RELOAD         SETTING_RELOAD, NULL
#define RESTART        SETTING_RESTART, NULL
#define COMMAND_LINE   SETTING_COMMAND_LINE, NULL
#define NOTHING(words) SETTING_NOTHING, words
#define REFUSED(words) SETTING_REFUSED, words
#define NO_TLS         REFUSED("not supported yet: have a proxy such as nginx do TLS")
#define NO_HTTP2       NOTHING("there is no HTTP/2 yet")
#define NO_ASGI        NOTHING("applications are WSGI")
#define NO_DIRTY       NOTHING("there are no dirty arbiters")

const struct setting settings_table[] = {
#define SETTING(field, kind, min, max, def, effect, short_flag, long_flag, metavar, group, help)   \
	{#field, &kind_##kind, offsetof(struct settings, field), {min, max, metavar}, def, effect, \
	    short_flag, long_flag, metavar, group, help},
#include "common/settings.def"
#undef SETTING
};

const size_t settings_count = sizeof(settings_table) / sizeof(settings_table[0]);

const struct plain_flag plain_flags[] = {
    {"from-gunicorn", "FILE", FLAG_FROM_GUNICORN,
	"Print a configuration file, made of gunicorn's gunicorn.conf.py, which is run, and exit."},
    {"version", NULL, 'v', "Print the version and exit."},
    {"help", NULL, 'h', "Print this help and exit."},
};

const size_t plain_flags_count = sizeof(plain_flags) / sizeof(plain_flags[0]);

const char *
setting_alias(const struct setting *row)
{
	static const struct {
		const char *name, *flag;
	} aliases[] = {
	    {"errorlog", "log-file"},
	    {"paste", "paster"},
	};

	for (size_t i = 0; i < sizeof(aliases) / sizeof(aliases[0]); i++)
		if (strcmp(aliases[i].name, row->name) == 0)
			return aliases[i].flag;
	return NULL;
}

const struct setting *
settings_find(const char *name)
{
	for (size_t i = 0; i < settings_count; i++)
		if (strcmp(settings_table[i].name, name) == 0)
			return &settings_table[i];
	return NULL;
}

bool
setting_is_unused(const struct setting *row)
{
	return row->effect == SETTING_NOTHING || row->effect == SETTING_REFUSED;
}

bool
setting_flag_clears(const struct setting *row)
{
	return row->metavar == NULL && strncmp(row->long_flag, "no-", 3) == 0 &&
	       strcmp(row->def, "true") == 0;
}

static bool
letter_differs(char a, char b)
{
	return (a == '-' ? '_' : a) != (b == '-' ? '_' : b);
}

/* How many letters must be added, removed or changed to make b of a (Levenshtein). */
static unsigned
distance(const char *a, const char *b)
{
	unsigned row[64], diagonal, above, best;
	size_t n = strlen(b);

	for (size_t j = 0; j <= n; j++)
		row[j] = (unsigned)j;
	for (; *a != '\0'; a++) {
		diagonal = row[0]++;
		for (size_t j = 1; j <= n; j++) {
			above = row[j];
			best = diagonal + letter_differs(*a, b[j - 1]);
			if (above + 1 < best)
				best = above + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			diagonal = above;
			row[j] = best;
		}
	}
	return row[n];
}

/* Near enough to suggest: no more than a third of the letters differ. */
const struct setting *
settings_nearest(const char *text, bool flag)
{
	const struct setting *nearest = NULL, *row;
	unsigned d, least = (unsigned)strlen(text) / 3 + 1;

	for (row = settings_table; row < settings_table + settings_count; row++) {
		if (flag && row->long_flag == NULL)
			continue;
		d = distance(text, row->name);
		if (row->long_flag != NULL && distance(text, row->long_flag) < d)
			d = distance(text, row->long_flag);
		if (d <= least && (nearest == NULL || d < least)) {
			least = d;
			nearest = row;
		}
	}
	return nearest;
}
