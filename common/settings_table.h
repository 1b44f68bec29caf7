/* The rows of settings.def as data: for the readers, --help, the man page, the sample file. */
#ifndef COMMON_SETTINGS_TABLE_H
#define COMMON_SETTINGS_TABLE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/kinds.h"

enum setting_effect {
	SETTING_RELOAD,       /* a HUP may change it */
	SETTING_RESTART,      /* only a new start does */
	SETTING_COMMAND_LINE, /* it is made for the command line */
	SETTING_NOTHING,      /* accepted, and does nothing here */
	SETTING_REFUSED,      /* only its default is accepted */
};

struct setting {
	const char *name;
	const struct kind *kind;
	size_t offset;           /* of the field in struct settings */
	struct kind_range range; /* of a number, or the words of a choice */
	const char *def;         /* text of a configuration file; NULL: not set */
	enum setting_effect effect;
	const char *why;       /* of SETTING_NOTHING and SETTING_REFUSED: a few words */
	int short_flag;        /* 'w'; 0: none */
	const char *long_flag; /* "workers"; NULL: none */
	const char *metavar;   /* what --help calls its argument; NULL: it takes none */
	const char *group;     /* the heading it stands under */
	const char *help;      /* a sentence */
};

extern const struct setting settings_table[];
extern const size_t settings_count;

/* A flag that is no setting. */
struct plain_flag {
	const char *name;
	const char *metavar; /* NULL: it takes no argument */
	int letter;          /* its short flag; above any character: there is none */
	const char *help;
};

/* What stands for flags without a letter; settings' are FLAG_SETTING and above. */
enum { FLAG_FROM_GUNICORN = 256, FLAG_SETTING };

extern const struct plain_flag plain_flags[];
extern const size_t plain_flags_count;

/* gunicorn's second name for its flag, or NULL. */
const char *setting_alias(const struct setting *);

/* The row of that name, or NULL. */
const struct setting *settings_find(const char *name);

/* Whether it is there for gunicorn's sake only. */
bool setting_is_unused(const struct setting *);

/* Whether its flag, which takes no argument, says no: --no-sendfile. */
bool setting_flag_clears(const struct setting *);

/*
 * The setting that text, which is no name, was perhaps meant to be, or NULL. Names of flags
 * count as well; with flag only settings that have one.
 */
const struct setting *settings_nearest(const char *text, bool flag);

#endif
