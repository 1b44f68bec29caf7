/*
 * Reading, writing and checking the configuration: see settings.h. Nothing here
 * names a setting but the table of environment defaults and settings_check.
 */
#include "common/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libconfig.h>

#include "common/address.h"
#include "common/mem.h"
#include "common/privs.h"
#include "common/settings_table.h"

/* A configuration file is a page or two; what is larger is something else. */
#define CONFIG_MAX (1 << 20)

/* Settings whose default the environment may give, as gunicorn has it. */
static const struct {
	const char *setting, *variable, *prefix;
} env_defaults[] = {
    {"workers", "WEB_CONCURRENCY", ""},
    {"bind", "PORT", "0.0.0.0:"},
    {"script_name", "SCRIPT_NAME", ""},
};

static int refuse(struct settings_error *, const char *, ...)
    __attribute__((__format__(__printf__, 2, 3)));

static int
refuse(struct settings_error *error, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(error->text, sizeof(error->text), format, ap);
	va_end(ap);
	return -1;
}

static void *
field_of(const struct settings *s, const struct setting *row)
{
	return (char *)s + row->offset;
}

/* ---- where each value came from ---- */

static char **
origin_of(const struct settings *s, const struct setting *row)
{
	return &s->origins[row - settings_table];
}

static void
origin_set(struct settings *s, const struct setting *row, const char *origin)
{
	char **slot = origin_of(s, row);
	char *copy = xstrdup(origin);

	free(*slot);
	*slot = copy;
}

const char *
settings_origin(const struct settings *s, const char *name)
{
	const char *origin = *origin_of(s, settings_find(name));

	return origin != NULL ? origin : "default";
}

/* ---- one setting from text ---- */

static int
unknown_setting(const char *name, const char *origin, struct settings_error *error)
{
	const char *nearest = settings_nearest(name);

	if (settings_only_gunicorn(name))
		return refuse(
		    error, "%s: %s: gunicorn has this setting, greenicorn does not", origin, name);
	if (nearest != NULL)
		return refuse(
		    error, "%s: %s: unknown setting, did you mean %s?", origin, name, nearest);
	return refuse(error, "%s: %s: unknown setting", origin, name);
}

int
settings_set(struct settings *s, const char *name, const char *value, const char *origin,
    struct settings_error *error)
{
	const struct setting *row = settings_find(name);
	struct kind_error why;

	if (row == NULL)
		return unknown_setting(name, origin, error);
	if (row->kind->from_text(field_of(s, row), value, &row->range, &why) == -1)
		return refuse(error, "%s: %s: %s", origin, name, why.text);
	origin_set(s, row, origin);
	return 0;
}

int
settings_append(struct settings *s, const char *name, const char *value, const char *origin,
    struct settings_error *error)
{
	const struct setting *row = settings_find(name);

	if (row == NULL)
		return unknown_setting(name, origin, error);
	if (row->kind != &kind_LIST)
		return refuse(error, "%s: %s: not a list", origin, name);
	strlist_append(field_of(s, row), value);
	origin_set(s, row, origin);
	return 0;
}

/* ---- a configuration file ---- */

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
		return refuse(error, "%s: %s: %.*s is out of range", place.text, copy, n, digits);
	return refuse(error, "%s: %s: %.*s is out of range (%lld to %lld)", place.text, copy, n,
	    digits, row->range.min, row->range.max);
}

/*
 * A look at the text before libconfig sees it, for the two things that it would do
 * without a word: cut large numbers, and include other files.
 */
static int
config_precheck(const char *path, const char *text, struct settings_error *error)
{
	const char *p = text, *end, *name = "";
	size_t n, name_n = 0;

	while (*p != '\0') {
		if ((end = skip_opaque(p)) != p) {
			p = end;
			continue;
		}
		if (strncmp(p, "@include", 8) == 0)
			return refuse(error, "%s: @include is not supported, one file has all",
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
		return unknown_setting(name, place.text, error);
	if (row->kind->from_config(field_of(s, row), value, &row->range, &why) == -1)
		return refuse(error, "%s: %s: %s", place.text, name, why.text);
	origin_set(s, row, place.text);
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
	return refuse(error, "%s:%d: %.*s%s%s", path, line, (int)n, text != NULL ? text : "",
	    n > 0 ? ": " : "", config_error_text(config));
}

/* Read a configuration's text over what is there; path is for the errors. */
static int
config_read_text(
    struct settings *s, const char *path, const char *text, struct settings_error *error)
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
		errno = EFBIG;
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
		return refuse(error,
		    "%s: a Python file is not read; write the settings as workers = 4; "
		    "bind = [ \"127.0.0.1:8000\" ]; into a file for greenicorn.conf(5)",
		    path);
	if ((fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)) == -1)
		return refuse(error, "%s: cannot read it: %s", path, strerror(errno));
	if (fstat(fd, &st) == -1 || !S_ISREG(st.st_mode))
		refuse(error, "%s: cannot read it: not a regular file", path);
	else if ((text = read_all(fd)) == NULL)
		refuse(error, "%s: cannot read it: %s", path, strerror(errno));
	else
		rc = config_read_text(s, path, text, error);
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
		return refuse(error, "settings: cannot read them: %s", strerror(errno));
	rc = config_read_text(s, "settings", text, error);
	free(text);
	return rc;
}

/* ---- beginning and end ---- */

/* The defaults are a configuration file of their own, read like any other. */
static int
defaults_read(struct settings *s, struct settings_error *error)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	int rc;

	if (out == NULL)
		return refuse(error, "default: %s", strerror(errno));
	for (size_t i = 0; i < settings_count; i++)
		if (settings_table[i].def != NULL)
			fprintf(out, "%s = %s;\n", settings_table[i].name, settings_table[i].def);
	if (fclose(out) == EOF) {
		free(text);
		return refuse(error, "default: %s", strerror(errno));
	}
	rc = config_read_text(s, "default", text, error);
	free(text);
	for (size_t i = 0; i < settings_count; i++) {
		free(s->origins[i]);
		s->origins[i] = NULL;
	}
	return rc;
}

static int
environment_read(struct settings *s, struct settings_error *error)
{
	const char *value;
	char *text;
	int rc = 0;

	for (size_t i = 0; i < sizeof(env_defaults) / sizeof(env_defaults[0]) && rc == 0; i++) {
		value = getenv(env_defaults[i].variable);
		if (value == NULL || *value == '\0')
			continue;
		text = xasprintf("%s%s", env_defaults[i].prefix, value);
		rc =
		    settings_set(s, env_defaults[i].setting, text, env_defaults[i].variable, error);
		free(text);
	}
	return rc;
}

int
settings_init(struct settings *s, struct settings_error *error)
{
	memset(s, 0, sizeof(*s));
	s->origins = xcalloc(settings_count, sizeof(*s->origins));
	if (defaults_read(s, error) == -1 || environment_read(s, error) == -1) {
		settings_fini(s);
		return -1;
	}
	return 0;
}

void
settings_fini(struct settings *s)
{
	if (s->origins == NULL)
		return;
	for (size_t i = 0; i < settings_count; i++) {
		settings_table[i].kind->fini(field_of(s, &settings_table[i]));
		free(s->origins[i]);
	}
	free(s->origins);
	s->origins = NULL;
}

bool
settings_equal(const struct settings *a, const struct settings *b, const struct setting *row)
{
	return row->kind->equal(field_of(a, row), field_of(b, row));
}

/* By way of text: what one prints, the other reads. */
int
settings_copy(struct settings *s, const struct settings *from, const struct setting *row)
{
	struct settings_error error;
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	int rc = -1;

	if (out == NULL)
		return -1;
	fprintf(out, "%s = ", row->name);
	row->kind->print(field_of(from, row), out);
	fputc(';', out);
	if (fclose(out) == 0)
		rc = config_read_text(s, settings_origin(from, row->name), text, &error);
	free(text);
	return rc;
}

/* ---- writing ---- */

int
settings_write(const struct settings *s, FILE *out)
{
	for (size_t i = 0; i < settings_count; i++) {
		fprintf(out, "%s = ", settings_table[i].name);
		settings_table[i].kind->print(field_of(s, &settings_table[i]), out);
		fputs(";\n", out);
	}
	return fflush(out) == EOF || ferror(out) ? -1 : 0;
}

int
settings_write_fd(const struct settings *s, int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0), rc;
	FILE *out;

	if (copy == -1)
		return -1;
	if ((out = fdopen(copy, "w")) == NULL) {
		close(copy);
		return -1;
	}
	rc = settings_write(s, out);
	if (fclose(out) == EOF)
		rc = -1;
	return rc;
}

int
settings_export(const struct settings *s)
{
	const char *pair, *equals;
	char *name;
	int rc = 0;

	for (size_t i = 0; i < s->raw_env.n && rc == 0; i++) {
		pair = s->raw_env.items[i];
		equals = strchrnul(pair, '=');
		name = strndup(pair, (size_t)(equals - pair));
		rc = name != NULL ? setenv(name, *equals != '\0' ? equals + 1 : "", 1) : -1;
		free(name);
	}
	return rc;
}

/* ---- checks of more than a value's form ---- */

/* Refuse the setting's value, naming the place that it came from. */
static int
refuse_value(
    const struct settings *s, const char *name, const char *why, struct settings_error *error)
{
	return refuse(error, "%s: %s: %s", settings_origin(s, name), name, why);
}

static int
check_bind(const struct settings *s, struct settings_error *error)
{
	struct address address;
	char why[256];

	if (s->bind.n == 0)
		return refuse_value(s, "bind", "no address to listen on", error);
	for (size_t i = 0; i < s->bind.n; i++)
		if (address_parse(&address, s->bind.items[i], why, sizeof(why)) == -1)
			return refuse_value(s, "bind", why, error);
	return 0;
}

static int
check_accounts(const struct settings *s, struct settings_error *error)
{
	struct privs privs;
	bool bad_group;
	char why[256];

	if (privs_resolve(&privs, s->user, s->group, s->initgroups, &bad_group, why, sizeof(why)) ==
	    -1)
		return refuse_value(s, bad_group ? "group" : "user", why, error);
	if (geteuid() != 0 && privs_differ(&privs))
		return refuse_value(
		    s, s->user != NULL ? "user" : "group", "only root can become another", error);
	return 0;
}

static int
check_raw_env(const struct settings *s, struct settings_error *error)
{
	for (size_t i = 0; i < s->raw_env.n; i++)
		if (strchr(s->raw_env.items[i], '=') == NULL || s->raw_env.items[i][0] == '=')
			return refuse_value(s, "raw_env", "expected NAME=VALUE", error);
	return 0;
}

static int
check_worker_class(const struct settings *s, struct settings_error *error)
{
	static const char *const green[] = {"green", "gevent", "gevent_pywsgi", "eventlet"};

	for (size_t i = 0; i < sizeof(green) / sizeof(green[0]); i++)
		if (s->worker_class != NULL && strcmp(s->worker_class, green[i]) == 0)
			return 0;
	return refuse_value(s, "worker_class",
	    "expected green, or gevent, gevent_pywsgi, eventlet, which mean the same here", error);
}

/* A relative one is below chdir, where everything is loaded. */
static int
check_directory(
    const struct settings *s, const char *name, const char *path, struct settings_error *error)
{
	struct stat st;
	char full[PATH_MAX], why[PATH_MAX + 64];

	if (path == NULL)
		return 0;
	if (*path == '/' || path == s->chdir || s->chdir == NULL)
		snprintf(full, sizeof(full), "%s", path);
	else
		snprintf(full, sizeof(full), "%s/%s", s->chdir, path);
	if (stat(full, &st) == 0 && S_ISDIR(st.st_mode))
		return 0;
	snprintf(why, sizeof(why), "no such directory: \"%s\"", path);
	return refuse_value(s, name, why, error);
}

int
settings_check(const struct settings *s, struct settings_error *error)
{
	if (check_bind(s, error) == -1 || check_accounts(s, error) == -1 ||
	    check_raw_env(s, error) == -1 || check_worker_class(s, error) == -1 ||
	    check_directory(s, "chdir", s->chdir, error) == -1 ||
	    check_directory(s, "virtualenv", s->virtualenv, error) == -1)
		return -1;
	return 0;
}
