/*
 * The effective configuration. settings.def has one row a setting; the struct,
 * the parser, the defaults, the flags, --help, the man page's list, the sample
 * configuration and the text handed to the workers all come from those rows.
 *
 * Order of precedence, lowest first: default (which may come from the
 * environment: WEB_CONCURRENCY, PORT), the configuration file,
 * GREENICORN_CMD_ARGS (GUNICORN_CMD_ARGS), the command line.
 */
#ifndef COMMON_SETTINGS_H
#define COMMON_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "common/kinds.h"

struct settings {
#define SETTING(field, kind, ...) KIND_CTYPE_##kind field;
#include "common/settings.def"
#undef SETTING
	char **origins; /* private: "file:line" or the like of each, for the errors of
			   settings_check */
};

/* An error message of one line, "file:line: setting: what is wrong". */
struct settings_error {
	char text[1024];
};

/* Fill in the defaults; read the environment for those that have one there. */
int settings_init(struct settings *, struct settings_error *);
void settings_fini(struct settings *);

/* Read a configuration file over what is there. 0, or -1 with the error told. */
int settings_read_file(struct settings *, const char *path, struct settings_error *);

/* The same from a descriptor that settings_write_fd wrote (read from its start). */
int settings_read_fd(struct settings *, int fd, struct settings_error *);

/* Write a configuration file for people, with where each value came from. 0, or -1 with errno. */
int settings_show(const struct settings *, FILE *);

/* Write all settings as a configuration file. 0, or -1 with errno. */
int settings_write(const struct settings *, FILE *);
int settings_write_fd(const struct settings *, int fd);

/* Set one setting from text as a flag or a variable gives it; origin is for the error. */
int settings_set(struct settings *, const char *name, const char *value, const char *origin,
    struct settings_error *);

/* The same for one more item of a list, which settings_set replaces. */
int settings_append(struct settings *, const char *name, const char *value, const char *origin,
    struct settings_error *);

/* Whether the application is loaded before the workers are forked: preload_app, without reload. */
bool settings_preloads(const struct settings *);

/* Where a setting's value came from, "file:line" or the like: for error texts. */
const char *settings_origin(const struct settings *, const char *name);

/* Whether two have the same value for a setting of settings_table.h. */
struct setting;
bool settings_equal(const struct settings *, const struct settings *, const struct setting *);

/* Whether a setting has the value that it has when nobody says anything. */
bool settings_is_default(const struct settings *, const struct setting *);

/* Give it the other's value of that setting. 0, or -1 with errno. */
int settings_copy(struct settings *, const struct settings *from, const struct setting *);

/* Put the variables of raw_env into the environment. 0, or -1 with errno. */
int settings_export(const struct settings *);

/* Checks that need more than one setting, or the system (users, addresses). */
int settings_check(const struct settings *, struct settings_error *);

#endif
