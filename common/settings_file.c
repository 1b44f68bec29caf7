/* Reading a configuration file: libconfig's syntax, and what it would do without a word. */
#include "common/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libconfig.h>

#include "common/mem.h"
#include "common/refuse.h"
#include "common/settings_internal.h"

/* A configuration file is a page or two; what is larger is something else. */
#define CONFIG_MAX (1 << 20)

/* "path:line" of a place in a file's text. */
struct place {
	char text[PATH_MAX + 16];
};

static struct place
place_of(const char *path, const char *text, const char *p)
{
	struct place place;
	int line = 1;

	for (; text < p; text++)
		line += *text == '\n';
	snprintf(place.text, sizeof(place.text), "%s:%d", path, line);
	return place;
}

/* The end of what begins at p and holds no values: a comment or a string; p itself if neither. */
static const char *
skip_opaque(const char *p)
{
	const char *end;

	if (*p == '#' || strncmp(p, "//", 2) == 0)
		return p + strcspn(p, "\n");
	if (strncmp(p, "/*", 2) == 0)
		return (end = strstr(p + 2, "*/")) != NULL ? end + 2 : p + strlen(p);
	if (*p != '"')
		return p;
	for (p++; *p != '\0' && *p != '"'; p++)
		if (*p == '\\' && p[1] != '\0')
			p++;
	return *p == '"' ? p + 1 : p;
}

static size_t
name_length(const char *p)
{
	return strspn(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-*");
}

/* Whether libconfig reads the number at p as what it says: it cuts to 32 bits, without an L. */
static bool
number_fits(const char *p)
{
	char *end;
	long long n;

	errno = 0;
	n = strtoll(p, &end, 0);
	return errno == 0 && (n <= INT_MAX || *end == 'L');
}

static int
refuse_number(const char *name, size_t name_n, const char *digits, struct place place,
    struct settings_error *error)
{
	char copy[64];
	const struct setting *row;
	int n = (int)name_length(digits);

	snprintf(copy, sizeof(copy), "%.*s", (int)name_n, name);
	if ((row = settings_find(copy)) == NULL)
		return REFUSE(error, "%s: %s: %.*s is out of range", place.text, copy, n, digits);
	return REFUSE(error, "%s: %s: %.*s is out of range (%lld to %lld)", place.text, copy, n,
	    digits, row->range.min, row->range.max);
}

/* libconfig 1.7 reads 022 as eighteen, 1.5 and 1.8 as twenty-two; this way it is 22 to all. */
static char *
skip_zeros(char *p)
{
	while (*p == '0' && p[1] >= '0' && p[1] <= '9')
		*p++ = ' ';
	return p;
}

/*
 * A look at the text before libconfig sees it, for the things that it would do without
 * a word: cut large numbers, take some for octal ones, and include other files.
 */
static int
config_precheck(const char *path, char *text, struct settings_error *error)
{
	const char *end, *name = "";
	size_t n, name_n = 0;
	char *p = text;

	while (*p != '\0') {
		if ((end = skip_opaque(p)) != p) {
			p += end - p;
			continue;
		}
		if (p > text && strchr(" \t\n=:,([", p[-1]) != NULL)
			p = skip_zeros(p);
		if (strncmp(p, "@include", 8) == 0)
			return REFUSE(error, "%s: @include is not supported, one file has all",
			    place_of(path, text, p).text);
		n = name_length(p);
		if (n > 0 && *p >= '0' && *p <= '9') {
			if (!number_fits(p))
				return refuse_number(
				    name, name_n, p, place_of(path, text, p), error);
		} else if (n > 0 && *p != '-') {
			name = p;
			name_n = n;
		}
		p += *p == '-' || n == 0 ? 1 : n;
	}
	return 0;
}

static int
config_take(struct settings *s, const config_setting_t *value, const char *path,
    struct settings_error *error)
{
	const char *name = config_setting_name(value);
	const struct setting *row = settings_find(name);
	struct place place;
	struct kind_error why;

	snprintf(place.text, sizeof(place.text), "%s:%u", path,
	    (unsigned)config_setting_source_line(value));
	if (row == NULL)
		return settings_unknown(name, place.text, error);
	if (row->kind->from_config(settings_field(s, row), value, &row->range, &why) == -1)
		return REFUSE(error, "%s: %s: %s", place.text, name, why.text);
	settings_origin_set(s, row, place.text);
	return 0;
}

/* libconfig's complaint, with what the line begins with: "duplicate setting name" needs one. */
static int
refuse_syntax(
    const char *path, const char *text, const config_t *config, struct settings_error *error)
{
	int line = config_error_line(config);
	size_t n;

	for (int i = 1; i < line && (text = strchr(text, '\n')) != NULL; i++)
		text++;
	if (text != NULL)
		text += strspn(text, " \t");
	n = text != NULL ? name_length(text) : 0;
	return REFUSE(error, "%s:%d: %.*s%s%s", path, line, (int)n, text != NULL ? text : "",
	    n > 0 ? ": " : "", config_error_text(config));
}

int
settings_read_text(struct settings *s, const char *path, char *text, struct settings_error *error)
{
	config_t config;
	const config_setting_t *root;
	int n, rc = -1;

	if (config_precheck(path, text, error) == -1)
		return -1;
	config_init(&config);
	if (config_read_string(&config, text) == CONFIG_FALSE) {
		refuse_syntax(path, text, &config, error);
		goto out;
	}
	root = config_root_setting(&config);
	n = config_setting_length(root);
	for (int i = 0; i < n; i++)
		if (config_take(s, config_setting_get_elem(root, (unsigned)i), path, error) == -1)
			goto out;
	rc = 0;
out:
	config_destroy(&config);
	return rc;
}

/* All of a descriptor's text from its start, or NULL with errno. */
static char *
read_all(int fd)
{
	char *text = xcalloc(1, CONFIG_MAX + 1);
	size_t n = 0;
	ssize_t r;

	while ((r = pread(fd, text + n, CONFIG_MAX - n, (off_t)n)) > 0)
		n += (size_t)r;
	if (r == 0 && n < CONFIG_MAX && memchr(text, '\0', n) == NULL)
		return text;
	if (r == 0)
		errno = n < CONFIG_MAX ? EINVAL : EFBIG;
	free(text);
	return NULL;
}

static bool
is_python(const char *path)
{
	size_t n = strlen(path);

	return (n > 3 && strcmp(path + n - 3, ".py") == 0) || strncmp(path, "python:", 7) == 0;
}

int
settings_read_file(struct settings *s, const char *path, struct settings_error *error)
{
	char *text = NULL;
	struct stat st;
	int fd, rc = -1;

	if (is_python(path))
		return REFUSE(error,
		    "%s: a Python file is not read; write the settings as workers = 4; "
		    "bind = [ \"127.0.0.1:8000\" ]; into a file for greenicorn.conf(5)",
		    path);
	if ((fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)) == -1)
		return REFUSE(error, "%s: cannot read it: %s", path, strerror(errno));
	if (fstat(fd, &st) == -1 || !S_ISREG(st.st_mode))
		REFUSE(error, "%s: cannot read it: not a regular file", path);
	else if ((text = read_all(fd)) == NULL)
		REFUSE(error, "%s: cannot read it: %s", path, strerror(errno));
	else
		rc = settings_read_text(s, path, text, error);
	free(text);
	close(fd);
	return rc;
}

int
settings_read_fd(struct settings *s, int fd, struct settings_error *error)
{
	char *text = read_all(fd);
	int rc;

	if (text == NULL)
		return REFUSE(error, "settings: cannot read them: %s", strerror(errno));
	rc = settings_read_text(s, "settings", text, error);
	free(text);
	return rc;
}
