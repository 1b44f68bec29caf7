/* The table of character classes, and comparisons that know no locale. */
#include "worker/http/chars.h"

#include <string.h>

#define T HTTP_CHAR_TOKEN
#define V HTTP_CHAR_VALUE
#define R HTTP_CHAR_TARGET
#define H HTTP_CHAR_HOST
#define Q HTTP_CHAR_QUOTED

const unsigned char http_chars[256] = {
    ['\t'] = V | Q,
    [' '] = V | Q,
    ['!'] = T | V | R | H | Q,
    ['"'] = V | R,
    ['#'] = T | V | Q,
    ['$'] = T | V | R | H | Q,
    ['%'] = T | V | R | Q,
    ['&'] = T | V | R | H | Q,
    ['\''] = T | V | R | H | Q,
    ['('] = V | R | H | Q,
    [')'] = V | R | H | Q,
    ['*'] = T | V | R | H | Q,
    ['+'] = T | V | R | H | Q,
    [','] = V | R | Q,
    ['-'] = T | V | R | H | Q,
    ['.'] = T | V | R | H | Q,
    ['/'] = V | R | Q,
    ['0' ... '9'] = T | V | R | H | Q,
    [':'] = V | R | Q,
    [';'] = V | R | H | Q,
    ['<'] = V | R | Q,
    ['='] = V | R | H | Q,
    ['>'] = V | R | Q,
    ['?'] = V | R | Q,
    ['@'] = V | R | Q,
    ['A' ... 'Z'] = T | V | R | H | Q,
    ['['] = V | R | Q,
    ['\\'] = V | R,
    [']'] = V | R | Q,
    ['^'] = T | V | R | Q,
    ['_'] = T | V | R | H | Q,
    ['`'] = T | V | R | Q,
    ['a' ... 'z'] = T | V | R | H | Q,
    ['{'] = V | R | Q,
    ['|'] = T | V | R | Q,
    ['}'] = V | R | Q,
    ['~'] = T | V | R | H | Q,
    [0x80 ... 0xff] = V | Q,
};

static char
lower_of(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

bool
http_str_is(struct http_str s, const char *lower)
{
	size_t i;

	for (i = 0; i < s.n && lower[i] != '\0'; i++)
		if (lower_of(s.p[i]) != lower[i])
			return false;
	return i == s.n && lower[i] == '\0';
}

struct http_str
http_str_trim(struct http_str s)
{
	while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t')) {
		s.p++;
		s.n--;
	}
	while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

bool
http_list_next(struct http_str *rest, struct http_str *element)
{
	const char *comma;

	if (rest->p == NULL)
		return false;
	comma = rest->n > 0 ? memchr(rest->p, ',', rest->n) : NULL;
	*element = (struct http_str){rest->p, comma != NULL ? (size_t)(comma - rest->p) : rest->n};
	if (comma != NULL)
		*rest = (struct http_str){comma + 1, rest->n - element->n - 1};
	else
		*rest = (struct http_str){NULL, 0};
	*element = http_str_trim(*element);
	return true;
}

int64_t
http_parse_length(struct http_str s)
{
	int64_t value = 0;

	if (s.n == 0 || s.n > 19)
		return -1;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return -1;
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, s.p[i] - '0', &value))
			return -1;
	}
	return value;
}

int
http_hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int
http_percent_byte(const char *p, size_t n)
{
	int high, low;

	if (n < 3 || p[0] != '%')
		return -1;
	high = http_hex_digit(p[1]);
	low = http_hex_digit(p[2]);
	return high >= 0 && low >= 0 ? high << 4 | low : -1;
}
