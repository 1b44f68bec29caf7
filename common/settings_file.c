/* Reading a configuration file: libconfig's syntax, and what it would do without a word. */
#include "common/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <libconfig.h>

#include "common/mem.h"
#include "common/refuse.h"
#include "common/settings_internal.h"

/* A configuration file is a page or two; what is larger is something else. */
#define CONFIG_MAX (1 << 20)

/* How deep files may include one another: libconfig's limit. */
#define INCLUDE_DEPTH 10

/* One file, or another text, being read. */
struct reading {
	struct settings *settings;
	const char *path; /* for the errors, and where included files are looked for */
	char *text;
	unsigned depth;  /* how many files lead here */
	unsigned *lines; /* where each setting has been set; 0: not yet */
	struct settings_error *error;
};

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

/* ---- @include: the other files' settings come first, what this one says itself wins ---- */

static int file_read(struct settings *, const char *path, unsigned depth, struct settings_error *);

/* The files that a name beside this file stands for: itself, or those that match it. */
static int
include_find(const struct reading *r, const char *name, glob_t *found)
{
	const char *slash = strrchr(r->path, '/');
	int dir_n = *name != '/' && slash != NULL ? (int)(slash + 1 - r->path) : 0, rc;
	char *path = xasprintf("%.*s%s", dir_n, r->path, name);

	rc = glob(path, GLOB_NOMAGIC, NULL, found);
	free(path);
	return rc == 0 || rc == GLOB_NOMATCH ? 0 : -1;
}

static int
include_read(const struct reading *r, const char *name, struct place place)
{
	glob_t found = {0};
	int rc = include_find(r, name, &found);

	if (rc == -1)
		REFUSE(r->error, "%s: cannot include %s", place.text, name);
	for (size_t i = 0; i < found.gl_pathc && rc == 0; i++) {
		if (r->depth == INCLUDE_DEPTH)
			rc = REFUSE(r->error, "%s: more than %d files that include one another",
			    place.text, INCLUDE_DEPTH);
		else if (access(found.gl_pathv[i], R_OK) == -1)
			rc = REFUSE(r->error, "%s: cannot include %s: %s", place.text,
			    found.gl_pathv[i], strerror(errno));
		else
			rc = file_read(r->settings, found.gl_pathv[i], r->depth + 1, r->error);
	}
	globfree(&found);
	return rc;
}

/* Read what the directive at p names, and blank it: libconfig is not to see it. */
static int
include_take(const struct reading *r, char *p, bool nested)
{
	struct place place = place_of(r->path, r->text, p);
	char *name = p + strlen("@include"), *end;

	name += strspn(name, " \t");
	end = *name == '"' ? strpbrk(name + 1, "\"\n") : NULL;
	if (end == NULL || *end != '"')
		return REFUSE(r->error, "%s: expected @include \"FILE\"", place.text);
	if (nested)
		return REFUSE(r->error, "%s: @include cannot stand in a group", place.text);
	*end = '\0';
	if (include_read(r, name + 1, place) == -1)
		return -1;
	memset(p, ' ', (size_t)(end + 1 - p));
	return 0;
}

/*
 * A look at the text before libconfig sees it, for what it would do without a word or
 * otherwise: cut large numbers, take some for octal ones, and include other files.
 */
static int
config_precheck(const struct reading *r)
{
	const char *end, *name = "";
	size_t n, name_n = 0, nesting = 0;
	char *p = r->text;

	while (*p != '\0') {
		if ((end = skip_opaque(p)) != p) {
			p += end - p;
			continue;
		}
		if (p > r->text && strchr(" \t\n=:,([", p[-1]) != NULL)
			p = skip_zeros(p);
		if (strncmp(p, "@include", 8) == 0 && include_take(r, p, nesting > 0) == -1)
			return -1;
		nesting += strchr("{[(", *p) != NULL;
		nesting -= nesting > 0 && strchr("}])", *p) != NULL;
		n = name_length(p);
		if (n > 0 && *p >= '0' && *p <= '9') {
			if (!number_fits(p))
				return refuse_number(
				    name, name_n, p, place_of(r->path, r->text, p), r->error);
		} else if (n > 0 && *p != '-') {
			name = p;
			name_n = n;
		}
		p += *p == '-' || n == 0 ? 1 : n;
	}
	return 0;
}

/* ---- taking what libconfig has read ---- */

static int
setting_take(const struct reading *r, const struct setting *row, const config_setting_t *value,
    const char *place)
{
	unsigned *line = &r->lines[row - settings_table];
	struct kind_error why;

	if (*line != 0)
		return REFUSE(
		    r->error, "%s: %s: it is set in line %u already", place, row->name, *line);
	*line = config_setting_source_line(value);
	if (row->kind->from_config(settings_field(r->settings, row), value, &row->range, &why) ==
	    -1)
		return REFUSE(r->error, "%s: %s: %s", place, row->name, why.text);
	settings_origin_set(r->settings, row, place);
	return 0;
}

/* A group that is no setting itself has settings, under whatever name it likes. */
static int
group_take(const struct reading *r, const config_setting_t *group)
{
	const config_setting_t *value;
	const struct setting *row;
	struct place place;
	int rc = 0;

	for (int i = 0; i < config_setting_length(group) && rc == 0; i++) {
		value = config_setting_get_elem(group, (unsigned)i);
		row = settings_find(config_setting_name(value));
		snprintf(place.text, sizeof(place.text), "%s:%u", r->path,
		    (unsigned)config_setting_source_line(value));
		if (row != NULL)
			rc = setting_take(r, row, value, place.text);
		else if (config_setting_is_group(value))
			rc = group_take(r, value);
		else
			rc = settings_unknown(config_setting_name(value), place.text, r->error);
	}
	return rc;
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

static int
text_read(const struct reading *r)
{
	config_t config;
	int rc;

	if (config_precheck(r) == -1)
		return -1;
	config_init(&config);
	if (config_read_string(&config, r->text) == CONFIG_FALSE)
		rc = refuse_syntax(r->path, r->text, &config, r->error);
	else
		rc = group_take(r, config_root_setting(&config));
	config_destroy(&config);
	return rc;
}

static int
text_read_at(
    struct settings *s, const char *path, char *text, unsigned depth, struct settings_error *error)
{
	struct reading r = {s, path, text, depth, xcalloc(settings_count, sizeof(*r.lines)), error};
	int rc = text_read(&r);

	free(r.lines);
	return rc;
}

int
settings_read_text(struct settings *s, const char *path, char *text, struct settings_error *error)
{
	return text_read_at(s, path, text, 0, error);
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

/* /dev/null: to say that there is no file. */
static bool
is_null(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(1, 3);
}

static int
file_read(struct settings *s, const char *path, unsigned depth, struct settings_error *error)
{
	char *text = NULL;
	struct stat st;
	int fd, rc = -1;

	if (is_python(path))
		return REFUSE(error,
		    "%s: a Python file is not read: greenicorn --from-gunicorn %s > "
		    "greenicorn.conf "
		    "makes one of it that is",
		    path, path);

	if ((fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)) == -1)
		return REFUSE(error, "%s: cannot read it: %s", path, strerror(errno));
	if (fstat(fd, &st) == -1 || (!S_ISREG(st.st_mode) && !is_null(&st)))
		REFUSE(error, "%s: cannot read it: not a regular file", path);
	else if ((text = read_all(fd)) == NULL)
		REFUSE(error, "%s: cannot read it: %s", path, strerror(errno));
	else
		rc = text_read_at(s, path, text, depth, error);
	free(text);
	close(fd);
	return rc;
}

int
settings_read_file(struct settings *s, const char *path, struct settings_error *error)
{
	return file_read(s, path, 0, error);
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
