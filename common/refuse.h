/* Saying no: a reason into the caller's buffer, and -1. */
#ifndef COMMON_REFUSE_H
#define COMMON_REFUSE_H

#include <stddef.h>

/* Print the reason, cut to size; text may be NULL. Returns -1. */
int refuse(char *text, size_t size, const char *, ...)
    __attribute__((__format__(__printf__, 3, 4)));

/* The same for a struct with a member text[]. */
#define REFUSE(error, ...) refuse((error)->text, sizeof((error)->text), __VA_ARGS__)

#endif
