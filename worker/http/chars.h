/* Which bytes may stand where (RFC 9110 section 5.6.2, RFC 9112), and small comparisons. */
#ifndef HTTP_CHARS_H
#define HTTP_CHARS_H

#include <stdbool.h>
#include <stddef.h>

#include "worker/http/request.h"

enum {
	HTTP_CHAR_TOKEN = 1,  /* tchar: methods, field names, codings */
	HTTP_CHAR_VALUE = 2,  /* field-vchar, SP, HTAB; obs-text */
	HTTP_CHAR_TARGET = 4, /* visible US-ASCII but "#" */
	HTTP_CHAR_HOST = 8,   /* reg-name without "%" and ",": see request.c */
	HTTP_CHAR_QUOTED = 16 /* qdtext: what may stand in a quoted-string unescaped */
};

extern const unsigned char http_chars[256];

/* Whether all n bytes are of that class; true for none. */
static inline bool
http_chars_all(const char *p, size_t n, unsigned char class)
{
	unsigned char both = class;

	for (size_t i = 0; i < n; i++)
		both &= http_chars[(unsigned char)p[i]];
	return both != 0;
}

static inline bool
http_is_token(const char *p, size_t n)
{
	return n > 0 && http_chars_all(p, n, HTTP_CHAR_TOKEN);
}

/* The same but for case as a lower-case literal. */
bool http_str_is(struct http_str, const char *lower);

/* Without spaces and tabs around it. */
struct http_str http_str_trim(struct http_str);

/*
 * The next element of a comma-separated list, trimmed (it may be empty). *rest starts
 * as the whole value; false when all were given.
 */
bool http_list_next(struct http_str *rest, struct http_str *element);

/* A hexadecimal digit's value, or -1. */
int http_hex_digit(char);

/* The byte of the escape (RFC 3986 section 2.1) with which n characters begin, or -1: it is none.
 */
int http_percent_byte(const char *, size_t n);

/* Digits only, at most 19 of them, at most INT64_MAX. -1 when it is not that. */
int64_t http_parse_length(struct http_str);

#endif
