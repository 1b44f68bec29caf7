/* --help, for the width of the terminal. */
#ifndef MASTER_HELP_H
#define MASTER_HELP_H

#include <stddef.h>

/* A flag that is no setting. */
struct help_flag {
	const char *name;
	const char *metavar; /* NULL: it takes no argument */
	int letter; /* what getopt_long returns for it; above any character: there is none */
	const char *help;
};

/* Print it to standard output, with n flags before those of the settings. */
void help_print(const struct help_flag *, size_t n);

#endif
