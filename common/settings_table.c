/* The table of settings, made from settings.def, and looking names up in it. */
#include "common/settings_table.h"

#include <limits.h>
#include <string.h>

#include "common/settings.h"

/* What the column "on HUP" may say. */
enum { RESTART = 0, RELOAD = 1 };

const struct setting settings_table[] = {
#define SETTING(field, kind, min, max, def, hup, short_flag, long_flag, metavar, group, help) \
	{#field, &kind_##kind, #kind, offsetof(struct settings, field), {min, max}, def, hup, \
	    short_flag, long_flag, metavar, group, help},
#include "common/settings.def"
#undef SETTING
};

const size_t settings_count = sizeof(settings_table) / sizeof(settings_table[0]);

const struct setting *
settings_find(const char *name)
{
	for (size_t i = 0; i < settings_count; i++)
		if (strcmp(settings_table[i].name, name) == 0)
			return &settings_table[i];
	return NULL;
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
			best = diagonal + (*a != b[j - 1]);
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
const char *
settings_nearest(const char *text)
{
	const char *nearest = NULL;
	unsigned d, least = (unsigned)strlen(text) / 3 + 1;

	for (size_t i = 0; i < settings_count; i++) {
		d = distance(text, settings_table[i].name);
		if (d <= least && (nearest == NULL || d < least)) {
			least = d;
			nearest = settings_table[i].name;
		}
	}
	return nearest;
}
