/*
 * The kinds of settings: how a value is read from a configuration file, from a
 * flag, printed and freed. Adding a kind is a C type in kinds.h and a row here.
 */
#include "common/kinds.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <libconfig.h>

#include "common/log.h"
#include "common/mem.h"
#include "common/refuse.h"

/* What the reader wrote, for the error text. */
static const char *
type_name(const config_setting_t *value)
{
	switch (config_setting_type(value)) {
	case CONFIG_TYPE_INT:
	case CONFIG_TYPE_INT64:
		return "a number";
	case CONFIG_TYPE_FLOAT:
		return "a fraction";
	case CONFIG_TYPE_STRING:
		return "a string";
	case CONFIG_TYPE_BOOL:
		return "true or false";
	case CONFIG_TYPE_GROUP:
		return "a group";
	default:
		return "a list";
	}
}

static int
refuse_type(struct kind_error *error, const char *wanted, const config_setting_t *value)
{
	return REFUSE(error, "expected %s, found %s", wanted, type_name(value));
}

static bool
is_integer(const config_setting_t *value)
{
	return config_setting_type(value) == CONFIG_TYPE_INT ||
	       config_setting_type(value) == CONFIG_TYPE_INT64;
}

/* ---- numbers ---- */

static int
range_check(long long n, const struct kind_range *range, struct kind_error *error)
{
	if (n >= range->min && n <= range->max)
		return 0;
	return REFUSE(error, "%lld is out of range (%lld to %lld)", n, range->min, range->max);
}

static int
int_set(void *field, long long n, const struct kind_range *range, struct kind_error *error)
{
	if (range_check(n, range, error) == -1)
		return -1;
	*(int *)field = (int)n;
	return 0;
}

/*
 * Digits with an optional sign, and 0x, 0o or 0b before them as in Python; beyond long long it
 * becomes the largest.
 */
static bool
number_parse(const char *text, long long *n, char **end)
{
	const char *digits = text + (*text == '-' || *text == '+');
	int letter = *digits == '0' ? digits[1] | 0x20 : 0;
	int base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 10;

	digits += base == 8 || base == 2 ? 2 : 0; /* strtoll knows the other */
	if (!isxdigit((unsigned char)*digits))
		return false;
	*n = strtoll(digits, end, base);
	if (*text == '-')
		*n = -*n;
	return *end != digits;
}

static int
count_from_text(
    void *field, const char *text, const struct kind_range *range, struct kind_error *error)
{
	long long n;
	char *end;

	if (!number_parse(text, &n, &end) || *end != '\0')
		return REFUSE(error, "expected a whole number, found \"%s\"", text);
	return int_set(field, n, range, error);
}

static int
count_from_config(void *field, const config_setting_t *value, const struct kind_range *range,
    struct kind_error *error)
{
	if (config_setting_type(value) == CONFIG_TYPE_STRING)
		return count_from_text(field, config_setting_get_string(value), range, error);
	if (!is_integer(value))
		return refuse_type(error, "a whole number", value);
	return int_set(field, config_setting_get_int64(value), range, error);
}

static void
int_print(const void *field, FILE *out)
{
	fprintf(out, "%d", *(const int *)field);
}

static bool
int_equal(const void *a, const void *b)
{
	return *(const int *)a == *(const int *)b;
}

static void
nothing_fini(void *field)
{
	(void)field;
}

/* ---- seconds with a fraction ---- */

static int
duration_set(void *field, double n, const struct kind_range *range, struct kind_error *error)
{
	if (!(n >= (double)range->min && n <= (double)range->max)) /* neither is NaN */
		return REFUSE(
		    error, "%g is out of range (%lld to %lld)", n, range->min, range->max);
	*(double *)field = n;
	return 0;
}

static int
duration_from_text(
    void *field, const char *text, const struct kind_range *range, struct kind_error *error)
{
	double n;
	char *end;

	if (*text == '\0' || text[strspn(text, "0123456789.")] != '\0' ||
	    (n = strtod(text, &end), *end != '\0'))
		return REFUSE(error, "expected seconds such as 2 or 0.1, found \"%s\"", text);
	return duration_set(field, n, range, error);
}

static int
duration_from_config(void *field, const config_setting_t *value, const struct kind_range *range,
    struct kind_error *error)
{
	if (is_integer(value))
		return duration_set(field, (double)config_setting_get_int64(value), range, error);
	if (config_setting_type(value) == CONFIG_TYPE_STRING)
		return duration_from_text(field, config_setting_get_string(value), range, error);
	if (config_setting_type(value) != CONFIG_TYPE_FLOAT)
		return refuse_type(error, "seconds such as 2 or 0.1", value);
	return duration_set(field, config_setting_get_float(value), range, error);
}

static void
duration_print(const void *field, FILE *out)
{
	fprintf(out, "%.9g", *(const double *)field);
}

static bool
duration_equal(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return !(*x < *y) && !(*x > *y);
}

/* ---- bytes ---- */

static int
size_set(void *field, long long n, const struct kind_range *range, struct kind_error *error)
{
	if (range_check(n, range, error) == -1)
		return -1;
	*(long long *)field = n;
	return 0;
}

static int
size_from_text(
    void *field, const char *text, const struct kind_range *range, struct kind_error *error)
{
	static const char suffixes[] = "kmg";
	const char *suffix;
	long long n;
	char *end;

	if (!number_parse(text, &n, &end))
		return REFUSE(
		    error, "expected a size such as 8388608 or \"8m\", found \"%s\"", text);
	if (*end != '\0') {
		suffix = strchr(suffixes, *end | 0x20);
		if (suffix == NULL || *suffix == '\0' || end[1] != '\0')
			return REFUSE(
			    error, "expected k, m or g after the number, found \"%s\"", end);
		if (__builtin_mul_overflow(n, 1LL << (10 * (suffix - suffixes + 1)), &n))
			n = LLONG_MAX;
	}
	return size_set(field, n, range, error);
}

static int
size_from_config(void *field, const config_setting_t *value, const struct kind_range *range,
    struct kind_error *error)
{
	if (is_integer(value))
		return size_set(field, config_setting_get_int64(value), range, error);
	if (config_setting_type(value) != CONFIG_TYPE_STRING)
		return refuse_type(error, "a size such as 8388608 or \"8m\"", value);
	return size_from_text(field, config_setting_get_string(value), range, error);
}

/* As a string: libconfig would cut a plain number to 32 bits. */
static void
size_print(const void *field, FILE *out)
{
	fprintf(out, "\"%lld\"", *(const long long *)field);
}

static bool
size_equal(const void *a, const void *b)
{
	return *(const long long *)a == *(const long long *)b;
}

/* ---- file modes: octal, with or without the leading 0, as chmod(1) takes them ---- */

static int
mode_from_text(
    void *field, const char *text, const struct kind_range *range, struct kind_error *error)
{
	const char *digits = strncasecmp(text, "0o", 2) == 0 ? text + 2 : text;
	char *end;
	unsigned long n;

	n = strtoul(digits, &end, 8);
	if (*digits < '0' || *digits > '7' || *end != '\0')
		return REFUSE(error, "expected an octal number such as 022, found \"%s\"", text);
	if (n > (unsigned long)range->max)
		return REFUSE(
		    error, "%s is out of range (0 to %llo)", text, (unsigned long long)range->max);
	*(int *)field = (int)n;
	return 0;
}

/* 022 comes here as twenty-two: its decimal digits are the octal ones that were written. */
static int
mode_from_config(void *field, const config_setting_t *value, const struct kind_range *range,
    struct kind_error *error)
{
	char digits[24];

	if (config_setting_type(value) == CONFIG_TYPE_STRING)
		return mode_from_text(field, config_setting_get_string(value), range, error);
	if (!is_integer(value) || config_setting_get_format(value) == CONFIG_FORMAT_HEX)
		return REFUSE(error, "expected an octal number such as 022");
	snprintf(digits, sizeof(digits), "%lld", config_setting_get_int64(value));
	return mode_from_text(field, digits, range, error);
}

static void
mode_print(const void *field, FILE *out)
{
	fprintf(out, "\"%#o\"", (unsigned)*(const int *)field);
}

/* ---- true and false ---- */

static int
bool_from_text(
    void *field, const char *text, const struct kind_range *range, struct kind_error *error)
{
	(void)range;
	if (strcasecmp(text, "true") != 0 && strcasecmp(text, "false") != 0)
		return REFUSE(error, "expected true or false, found \"%s\"", text);
	*(bool *)field = strcasecmp(text, "true") == 0;
	return 0;
}

static int
bool_from_config(void *field, const config_setting_t *value, const struct kind_range *range,
    struct kind_error *error)
{
	if (config_setting_type(value) == CONFIG_TYPE_STRING)
		return bool_from_text(field, config_setting_get_string(value), range, error);
	if (config_setting_type(value) != CONFIG_TYPE_BOOL)
		return refuse_type(error, "true or false", value);
	*(bool *)field = config_setting_get_bool(value);
	return 0;
}

static void
bool_print(const void *field, FILE *out)
{
	fputs(*(const bool *)field ? "true" : "false", out);
}

static bool
bool_equal(const void *a, const void *b)
{
	return *(const bool *)a == *(const bool *)b;
}

/* ---- strings: an empty one means "not set", so that every value can be written down ---- */

static void
quote(const char *text, FILE *out)
{
	fputc('"', out);
	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			fprintf(out, "\\x%02x", c);
		else
			fputc(c, out);
	}
	fputc('"', out);
}

static int
string_from_text(
    void *field, const char *text, const struct kind_range *range, struct kind_error *error)
{
	char *copy = *text != '\0' ? xstrdup(text) : NULL;

	(void)range;
	(void)error;
	free(*(char **)field);
	*(char **)field = copy;
	return 0;
}

static int
string_from_config(void *field, const config_setting_t *value, const struct kind_range *range,
    struct kind_error *error)
{
	if (config_setting_type(value) != CONFIG_TYPE_STRING)
		return refuse_type(error, "a string", value);
	return string_from_text(field, config_setting_get_string(value), range, error);
}

static void
string_print(const void *field, FILE *out)
{
	const char *text = *(char *const *)field;

	quote(text != NULL ? text : "", out);
}

static void
string_fini(void *field)
{
	free(*(char **)field);
	*(char **)field = NULL;
}

static bool
string_equal(const void *a, const void *b)
{
	const char *x = *(char *const *)a, *y = *(char *const *)b;

	return x == y || (x != NULL && y != NULL && strcmp(x, y) == 0);
}

/* ---- log levels ---- */

static int
level_from_text(
    void *field, const char *text, const struct kind_range *range, struct kind_error *error)
{
	if (log_level_parse(text) == -1)
		return REFUSE(
		    error, "expected debug, info, warning, error or critical, found \"%s\"", text);
	return string_from_text(field, text, range, error);
}

static int
level_from_config(void *field, const config_setting_t *value, const struct kind_range *range,
    struct kind_error *error)
{
	if (config_setting_type(value) != CONFIG_TYPE_STRING)
		return refuse_type(error, "a level's name in quotes", value);
	return level_from_text(field, config_setting_get_string(value), range, error);
}

/* ---- a function of the application's ---- */

/* MODULE:FUNCTION, MODULE.FUNCTION or FILE.py:FUNCTION; whether it is there, Python will know. */
static int
function_from_text(
    void *field, const char *text, const struct kind_range *range, struct kind_error *error)
{
	const char *sign = strrchr(text, ':');

	if (sign == NULL)
		sign = strrchr(text, '.');
	if (*text != '\0' && (sign == NULL || sign == text || sign[1] == '\0'))
		return REFUSE(error, "expected module:function, found \"%s\"", text);
	return string_from_text(field, text, range, error);
}

static int
function_from_config(void *field, const config_setting_t *value, const struct kind_range *range,
    struct kind_error *error)
{
	if (config_setting_type(value) != CONFIG_TYPE_STRING)
		return refuse_type(error, "module:function in quotes", value);
	return function_from_text(field, config_setting_get_string(value), range, error);
}

/* ---- one of a few words: those of "a|b", or of "[a|b]", which may be a switch as well ---- */

/* What a switch's word means: off is the first of the words, on the last; NULL: neither. */
static const char *
choice_of_switch(const char *text, const char *words)
{
	static const char *const off[] = {"false", "0", "none"}, *const on[] = {"true", "1"};

	if (*words != '[')
		return NULL;
	for (size_t i = 0; i < sizeof(off) / sizeof(off[0]); i++)
		if (strcasecmp(text, off[i]) == 0)
			return words + 1;
	for (size_t i = 0; i < sizeof(on) / sizeof(on[0]); i++)
		if (strcasecmp(text, on[i]) == 0)
			return strrchr(words, '|') + 1;
	return NULL;
}

static int
choice_from_text(
    void *field, const char *text, const struct kind_range *range, struct kind_error *error)
{
	const char *word = choice_of_switch(text, range->words), *p = range->words;
	size_t n = strlen(text);
	char *copy;

	for (p += *p == '['; word == NULL && *p != '\0'; p += *p == '|' || *p == ']') {
		if (strcspn(p, "|]") == n && strncasecmp(p, text, n) == 0)
			word = p;
		p += strcspn(p, "|]");
	}
	if (word == NULL)
		return REFUSE(error, "expected %s, found \"%s\"", range->words, text);
	copy = xasprintf("%.*s", (int)strcspn(word, "|]"), word);
	free(*(char **)field);
	*(char **)field = copy;
	return 0;
}

static int
choice_from_config(void *field, const config_setting_t *value, const struct kind_range *range,
    struct kind_error *error)
{
	if (*range->words == '[' && config_setting_type(value) == CONFIG_TYPE_BOOL)
		return choice_from_text(
		    field, config_setting_get_bool(value) ? "true" : "false", range, error);
	if (config_setting_type(value) != CONFIG_TYPE_STRING)
		return REFUSE(
		    error, "expected %s in quotes, found %s", range->words, type_name(value));
	return choice_from_text(field, config_setting_get_string(value), range, error);
}

/* ---- users and groups: whether they exist is settings_check's business ---- */

static int
account_from_config(void *field, const config_setting_t *value, const struct kind_range *range,
    struct kind_error *error)
{
	char number[24];

	if (!is_integer(value))
		return config_setting_type(value) == CONFIG_TYPE_STRING
			   ? string_from_config(field, value, range, error)
			   : refuse_type(error, "a name or a number", value);
	snprintf(number, sizeof(number), "%lld", config_setting_get_int64(value));
	return string_from_text(field, number, range, error);
}

/* ---- lists of strings ---- */

void
strlist_append(struct strlist *list, const char *text)
{
	list->items = xreallocarray(list->items, list->n + 1, sizeof(*list->items));
	list->items[list->n++] = xstrdup(text);
}

void
strlist_clear(struct strlist *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->items[i]);
	free(list->items);
	*list = (struct strlist){0};
}

static int
list_from_text(
    void *field, const char *text, const struct kind_range *range, struct kind_error *error)
{
	(void)range;
	(void)error;
	strlist_clear(field);
	strlist_append(field, text);
	return 0;
}

static int
list_from_config(void *field, const config_setting_t *value, const struct kind_range *range,
    struct kind_error *error)
{
	struct strlist list = {0};
	const config_setting_t *item;
	int n;

	if (config_setting_type(value) == CONFIG_TYPE_STRING)
		return list_from_text(field, config_setting_get_string(value), range, error);
	if (!config_setting_is_array(value) && !config_setting_is_list(value))
		return refuse_type(error, "a string or a list of strings", value);
	n = config_setting_length(value);
	for (int i = 0; i < n; i++) {
		item = config_setting_get_elem(value, (unsigned)i);
		if (config_setting_type(item) != CONFIG_TYPE_STRING) {
			strlist_clear(&list);
			return REFUSE(
			    error, "expected strings in the list, found %s", type_name(item));
		}
		strlist_append(&list, config_setting_get_string(item));
	}
	strlist_clear(field);
	*(struct strlist *)field = list;
	return 0;
}

static void
list_print(const void *field, FILE *out)
{
	const struct strlist *list = field;

	fputs("[ ", out);
	for (size_t i = 0; i < list->n; i++) {
		fputs(i ? ", " : "", out);
		quote(list->items[i], out);
	}
	fputs(list->n ? " ]" : "]", out);
}

static void
list_fini(void *field)
{
	strlist_clear(field);
}

static bool
list_equal(const void *a, const void *b)
{
	const struct strlist *x = a, *y = b;

	if (x->n != y->n)
		return false;
	for (size_t i = 0; i < x->n; i++)
		if (strcmp(x->items[i], y->items[i]) != 0)
			return false;
	return true;
}

/* ---- lists that may be written with commas ---- */

static int
commas_from_text(
    void *field, const char *text, const struct kind_range *range, struct kind_error *error)
{
	struct strlist list = {0};
	char *copy = xstrdup(text), *rest = copy, *item, *end;

	(void)range;
	(void)error;
	while ((item = strsep(&rest, ",")) != NULL) {
		item += strspn(item, " \t\n");
		for (end = item + strlen(item); end > item && strchr(" \t\n", end[-1]);)
			*--end = '\0';
		if (*item != '\0')
			strlist_append(&list, item);
	}
	free(copy);
	strlist_clear(field);
	*(struct strlist *)field = list;
	return 0;
}

static int
commas_from_config(void *field, const config_setting_t *value, const struct kind_range *range,
    struct kind_error *error)
{
	if (config_setting_type(value) == CONFIG_TYPE_STRING)
		return commas_from_text(field, config_setting_get_string(value), range, error);
	return list_from_config(field, value, range, error);
}

/* ---- names with values: a group, or a list of "NAME: VALUE" ---- */

/* The list's items become "NAME: VALUE"; it is given up if one is not. */
static int
dict_take(void *field, struct strlist *list, struct kind_error *error)
{
	char *item, *value;

	for (size_t i = 0; i < list->n; i++) {
		item = list->items[i];
		value = strchr(item, ':');
		if (value == NULL || value == item) {
			REFUSE(error, "expected \"NAME: VALUE\", found \"%s\"", item);
			strlist_clear(list);
			return -1;
		}
		*value++ = '\0';
		list->items[i] = xasprintf("%s: %s", item, value + strspn(value, " "));
		free(item);
	}
	strlist_clear(field);
	*(struct strlist *)field = *list;
	return 0;
}

static int
dict_from_text(
    void *field, const char *text, const struct kind_range *range, struct kind_error *error)
{
	struct strlist list = {0};

	commas_from_text(&list, text, range, error);
	return dict_take(field, &list, error);
}

static int
dict_from_config(void *field, const config_setting_t *value, const struct kind_range *range,
    struct kind_error *error)
{
	struct strlist list = {0};
	const config_setting_t *item;
	char *text;

	if (!config_setting_is_group(value)) {
		if (list_from_config(&list, value, range, error) == -1)
			return refuse_type(error, "a group of NAME = \"VALUE\"", value);
		return dict_take(field, &list, error);
	}
	for (int i = 0; i < config_setting_length(value); i++) {
		item = config_setting_get_elem(value, (unsigned)i);
		if (config_setting_type(item) != CONFIG_TYPE_STRING) {
			strlist_clear(&list);
			return refuse_type(error, "a string for each name", item);
		}
		text =
		    xasprintf("%s: %s", config_setting_name(item), config_setting_get_string(item));
		strlist_append(&list, text);
		free(text);
	}
	return dict_take(field, &list, error);
}

/* ---- a group of anything, told in JSON: what Python is to get as a dictionary ---- */

static void
json_quote(const char *text, FILE *out)
{
	fputc('"', out);
	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < 0x20)
			fprintf(out, "\\u%04x", c);
		else
			fputc(c, out);
	}
	fputc('"', out);
}

static void
json_print(const config_setting_t *value, FILE *out)
{
	bool group = config_setting_is_group(value);

	switch (config_setting_type(value)) {
	case CONFIG_TYPE_INT:
	case CONFIG_TYPE_INT64:
		fprintf(out, "%lld", config_setting_get_int64(value));
		return;
	case CONFIG_TYPE_FLOAT:
		fprintf(out, "%.17g", config_setting_get_float(value));
		return;
	case CONFIG_TYPE_BOOL:
		fputs(config_setting_get_bool(value) ? "true" : "false", out);
		return;
	case CONFIG_TYPE_STRING:
		json_quote(config_setting_get_string(value), out);
		return;
	}
	fputc(group ? '{' : '[', out);
	for (int i = 0; i < config_setting_length(value); i++) {
		const config_setting_t *item = config_setting_get_elem(value, (unsigned)i);

		fputs(i > 0 ? ", " : "", out);
		if (group) {
			json_quote(config_setting_name(item), out);
			fputs(": ", out);
		}
		json_print(item, out);
	}
	fputc(group ? '}' : ']', out);
}

static int
json_from_config(void *field, const config_setting_t *value, const struct kind_range *range,
    struct kind_error *error)
{
	char *text = NULL;
	size_t size;
	FILE *out;

	if (config_setting_type(value) == CONFIG_TYPE_STRING)
		return string_from_text(field, config_setting_get_string(value), range, error);
	if (!config_setting_is_group(value))
		return refuse_type(error, "a group, or JSON in a string", value);
	if ((out = open_memstream(&text, &size)) == NULL)
		return REFUSE(error, "%s", strerror(errno));
	json_print(value, out);
	if (fclose(out) == EOF) {
		free(text);
		return REFUSE(error, "%s", strerror(errno));
	}
	free(*(char **)field);
	*(char **)field = text;
	return 0;
}

/* ---- the table ---- */

#define KIND(id, name, from_config, from_text, print, fini, equal) \
	const struct kind kind_##id = {name, from_config, from_text, print, fini, equal}

KIND(COUNT, "number", count_from_config, count_from_text, int_print, nothing_fini, int_equal);
KIND(SECONDS, "seconds", count_from_config, count_from_text, int_print, nothing_fini, int_equal);
KIND(DURATION, "duration", duration_from_config, duration_from_text, duration_print, nothing_fini,
    duration_equal);
KIND(SIZE, "size", size_from_config, size_from_text, size_print, nothing_fini, size_equal);
KIND(MODE, "mode", mode_from_config, mode_from_text, mode_print, nothing_fini, int_equal);
KIND(BOOL, "boolean", bool_from_config, bool_from_text, bool_print, nothing_fini, bool_equal);
KIND(STRING, "string", string_from_config, string_from_text, string_print, string_fini,
    string_equal);
KIND(LEVEL, "level", level_from_config, level_from_text, string_print, string_fini, string_equal);
KIND(ACCOUNT, "account", account_from_config, string_from_text, string_print, string_fini,
    string_equal);
KIND(FUNCTION, "function", function_from_config, function_from_text, string_print, string_fini,
    string_equal);
KIND(LIST, "list", list_from_config, list_from_text, list_print, list_fini, list_equal);
KIND(CHOICE, "choice", choice_from_config, choice_from_text, string_print, string_fini,
    string_equal);
KIND(JSON, "dictionary", json_from_config, string_from_text, string_print, string_fini,
    string_equal);
KIND(COMMAS, "list", commas_from_config, commas_from_text, list_print, list_fini, list_equal);
KIND(DICT, "dictionary", dict_from_config, dict_from_text, list_print, list_fini, list_equal);
