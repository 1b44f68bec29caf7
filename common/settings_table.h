/* The rows of settings.def as data: for the readers, --help, the man page, the sample file. */
#ifndef COMMON_SETTINGS_TABLE_H
#define COMMON_SETTINGS_TABLE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/kinds.h"

struct setting {
	const char *name;
	const struct kind *kind;
	const char *kind_name;   /* "COUNT" */
	size_t offset;           /* of the field in struct settings */
	struct kind_range range; /* of a number */
	const char *def;         /* text of a configuration file; NULL: not set */
	bool reload;             /* a HUP may change it */
	int short_flag;          /* 'w'; 0: none */
	const char *long_flag;   /* "workers"; NULL: none */
	const char *metavar;     /* what --help calls its argument; NULL: it takes none */
	const char *group;       /* the heading it stands under */
	const char *help;        /* a sentence */
};

extern const struct setting settings_table[];
extern const size_t settings_count;

/* The row of that name, or NULL. */
const struct setting *settings_find(const char *name);

/* Whether gunicorn has a setting of that name, and we do not. */
bool settings_only_gunicorn(const char *name);

/* The known name that text was perhaps meant to be, or NULL. */
const char *settings_nearest(const char *text);

#endif
