/* Splitting a variable into words as a shell would. */
#ifndef MASTER_WORDS_H
#define MASTER_WORDS_H

#include "common/kinds.h"

/*
 * Append the words of text: blanks separate, quotes and backslashes keep them
 * (Python's shlex.split, which gunicorn uses). 0, or -1 when a quote is not closed.
 */
int words_split(struct strlist *, const char *text);

#endif
