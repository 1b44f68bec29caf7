/* What kinds of values settings have: a C type, and a pair of functions each (kinds.c). */
#ifndef COMMON_KINDS_H
#define COMMON_KINDS_H

#include <stdbool.h>
#include <stddef.h>

/* A list of strings; items and the strings are owned. */
struct strlist {
	char **items;
	size_t n;
};

#define KIND_CTYPE_COUNT   int		  /* a number: gunicorn's int */
#define KIND_CTYPE_SECONDS int		  /* whole seconds */
#define KIND_CTYPE_SIZE	   long long	  /* bytes; k, m, g may follow */
#define KIND_CTYPE_MODE	   int		  /* octal */
#define KIND_CTYPE_BOOL	   bool
#define KIND_CTYPE_STRING  char *	  /* owned; NULL: not set */
#define KIND_CTYPE_LEVEL   char *	  /* a log level's name */
#define KIND_CTYPE_LIST	   struct strlist /* one string will do as well */

#endif
