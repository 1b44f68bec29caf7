/*
 * The command line and its variable. They are parsed once; a reload applies
 * them again over a fresh reading of the file.
 */
#ifndef MASTER_OPTIONS_H
#define MASTER_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/settings.h"
#include "common/settings_table.h"

/* One flag as given. */
struct option_given {
	const struct setting *setting;
	char *value;        /* owned */
	const char *origin; /* "command line", "GREENICORN_CMD_ARGS"; static */
};

struct options {
	char *cwd;           /* owned; where we were started: relative paths begin there */
	char *config;        /* owned; the file's absolute path; NULL: there is none */
	char *app;           /* owned; the command line's APP_MODULE; NULL */
	char *from_gunicorn; /* owned; the file to translate, which is then all there is to do */
	struct option_given *given; /* owned */
	size_t n;
};

/*
 * Parse GREENICORN_CMD_ARGS (or GUNICORN_CMD_ARGS) and argv. Ends the process itself
 * for --help and --version (0) and for what is no option at all (2).
 */
void options_parse(struct options *, int argc, char **argv);
void options_free(struct options *);

/* Fill in all settings: defaults, file, variable, command line; and check them. */
int options_load(const struct options *, struct settings *, struct settings_error *);

#endif
