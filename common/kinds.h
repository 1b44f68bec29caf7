/* What kinds of values settings have: a C type, and a set of functions each (kinds.c). */
#ifndef COMMON_KINDS_H
#define COMMON_KINDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* A list of strings; items and the strings are owned. */
struct strlist {
	char **items;
	size_t n;
};

#define KIND_CTYPE_COUNT    int       /* a number: gunicorn's int */
#define KIND_CTYPE_SECONDS  int       /* whole seconds */
#define KIND_CTYPE_DURATION double    /* seconds with a fraction */
#define KIND_CTYPE_SIZE     long long /* bytes; k, m, g may follow */
#define KIND_CTYPE_MODE     int       /* octal */
#define KIND_CTYPE_BOOL     bool
#define KIND_CTYPE_STRING   char *         /* owned; NULL: not set */
#define KIND_CTYPE_LEVEL    char *         /* a log level's name */
#define KIND_CTYPE_ACCOUNT  char *         /* a user's or group's name or number */
#define KIND_CTYPE_FUNCTION char *         /* "module:function" */
#define KIND_CTYPE_CHOICE   char *         /* one of the row's words */
#define KIND_CTYPE_JSON     char *         /* owned; a group, told in JSON; NULL: not set */
#define KIND_CTYPE_LIST     struct strlist /* one string will do as well */
#define KIND_CTYPE_COMMAS   struct strlist /* the same, or one string with commas */
#define KIND_CTYPE_DICT     struct strlist /* each item is "NAME: VALUE" */

struct config_setting_t;

/* Why a value was refused, in words that follow "setting: ". */
struct kind_error {
	char text[512];
};

/* Limits of a numeric setting, both included; the words of a choice, as in settings.def. */
struct kind_range {
	long long min, max;
	const char *words;
};

/*
 * One kind. The readers return 0, or -1 with the error told and the field as it
 * was; they free what the field had before.
 */
struct kind {
	const char *name; /* what the manual calls it */
	/* From a value in a configuration file. */
	int (*from_config)(void *field, const struct config_setting_t *, const struct kind_range *,
	    struct kind_error *);
	/* From a flag or a variable. */
	int (*from_text)(void *field, const char *, const struct kind_range *, struct kind_error *);
	/* As the text of a configuration file. */
	void (*print)(const void *field, FILE *);
	void (*fini)(void *field);
	bool (*equal)(const void *a, const void *b);
};

extern const struct kind kind_COUNT, kind_SECONDS, kind_DURATION, kind_SIZE, kind_MODE, kind_BOOL,
    kind_STRING, kind_LEVEL, kind_ACCOUNT, kind_FUNCTION, kind_CHOICE, kind_JSON, kind_LIST,
    kind_COMMAS, kind_DICT;

void strlist_append(struct strlist *, const char *);
void strlist_clear(struct strlist *);

#endif
