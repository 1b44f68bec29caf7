/*
 * Memory for booting and for the master: never NULL, the process ends when there is none.
 * Not for what a request needs: there a failed allocation ends that connection.
 */
#ifndef COMMON_MEM_H
#define COMMON_MEM_H

#include <stddef.h>

void *xcalloc(size_t n, size_t size) __attribute__((__returns_nonnull__));
void *xreallocarray(void *, size_t n, size_t size) __attribute__((__returns_nonnull__));
char *xstrdup(const char *) __attribute__((__returns_nonnull__));
char *xasprintf(const char *, ...)
    __attribute__((__format__(__printf__, 1, 2), __returns_nonnull__));

#endif
