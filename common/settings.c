/*
 * The effective configuration: defaults, single settings, writing: see settings.h.
 * Nothing here names a setting but the table of environment defaults.
 */
#include "common/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "common/mem.h"
#include "common/refuse.h"
#include "common/settings_internal.h"

/* Settings whose default the environment may give, as gunicorn has it. */
static const struct {
	const char *setting, *variable, *prefix;
} env_defaults[] = {
    {"workers", "WEB_CONCURRENCY", ""},
    {"bind", "PORT", "0.0.0.0:"},
    {"script_name", "SCRIPT_NAME", ""},
    {"forwarded_allow_ips", "FORWARDED_ALLOW_IPS", ""},
};

void *
settings_field(const struct settings *s, const struct setting *row)
{
	return (char *)s + row->offset;
}

/* ---- where each value came from ---- */

static char **
origin_of(const struct settings *s, const struct setting *row)
{
	return &s->origins[row - settings_table];
}

void
settings_origin_set(struct settings *s, const struct setting *row, const char *origin)
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

int
settings_unknown(const char *name, const char *origin, struct settings_error *error)
{
	const struct setting *nearest = settings_nearest(name, false);

	if (nearest != NULL)
		return REFUSE(error, "%s: %s: unknown setting, did you mean %s?", origin, name,
		    nearest->name);
	return REFUSE(error, "%s: %s: unknown setting", origin, name);
}

int
settings_set(struct settings *s, const char *name, const char *value, const char *origin,
    struct settings_error *error)
{
	const struct setting *row = settings_find(name);
	struct kind_error why;

	if (row == NULL)
		return settings_unknown(name, origin, error);
	if (row->kind->from_text(settings_field(s, row), value, &row->range, &why) == -1)
		return REFUSE(error, "%s: %s: %s", origin, name, why.text);
	settings_origin_set(s, row, origin);
	return 0;
}

int
settings_append(struct settings *s, const char *name, const char *value, const char *origin,
    struct settings_error *error)
{
	const struct setting *row = settings_find(name);

	if (row == NULL)
		return settings_unknown(name, origin, error);
	if (row->kind != &kind_LIST)
		return REFUSE(error, "%s: %s: not a list", origin, name);
	strlist_append(settings_field(s, row), value);
	settings_origin_set(s, row, origin);
	return 0;
}

/* ---- beginning and end ---- */

/* The defaults are a configuration file of their own, read like any other. */
static int
defaults_init(struct settings *s, struct settings_error *error)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	int rc;

	memset(s, 0, sizeof(*s));
	s->origins = xcalloc(settings_count, sizeof(*s->origins));
	if (out == NULL)
		return REFUSE(error, "default: %s", strerror(errno));
	for (size_t i = 0; i < settings_count; i++)
		if (settings_table[i].def != NULL)
			fprintf(out, "%s = %s;\n", settings_table[i].name, settings_table[i].def);
	if (fclose(out) == EOF) {
		free(text);
		return REFUSE(error, "default: %s", strerror(errno));
	}
	rc = settings_read_text(s, "default", text, error);
	free(text);
	for (size_t i = 0; i < settings_count; i++) {
		free(s->origins[i]);
		s->origins[i] = NULL;
	}
	return rc;
}

/* gunicorn's words for it; all others mean no. */
static const char *
sendfile_wanted(const char *value)
{
	static const char *const yes[] = {"y", "1", "yes", "true"};

	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++)
		if (strcasecmp(value, yes[i]) == 0)
			return "true";
	return "false";
}

static int
environment_read(struct settings *s, struct settings_error *error)
{
	const char *value = getenv("SENDFILE");
	char *text;
	int rc = 0;

	if (value != NULL)
		rc = settings_set(s, "sendfile", sendfile_wanted(value), "SENDFILE", error);

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
	if (defaults_init(s, error) == -1 || environment_read(s, error) == -1) {
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
		settings_table[i].kind->fini(settings_field(s, &settings_table[i]));
		free(s->origins[i]);
	}
	free(s->origins);
	s->origins = NULL;
}

bool
settings_equal(const struct settings *a, const struct settings *b, const struct setting *row)
{
	return row->kind->equal(settings_field(a, row), settings_field(b, row));
}

bool
settings_is_default(const struct settings *s, const struct setting *row)
{
	struct settings defaults;
	struct settings_error error;
	bool same;

	if (*origin_of(s, row) == NULL)
		return true;
	same = defaults_init(&defaults, &error) == 0 && settings_equal(s, &defaults, row);
	settings_fini(&defaults);
	return same;
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
	row->kind->print(settings_field(from, row), out);
	fputc(';', out);
	if (fclose(out) == 0)
		rc = settings_read_text(s, settings_origin(from, row->name), text, &error);
	free(text);
	return rc;
}

/* ---- writing ---- */

int
settings_write(const struct settings *s, FILE *out)
{
	for (size_t i = 0; i < settings_count; i++) {
		fprintf(out, "%s = ", settings_table[i].name);
		settings_table[i].kind->print(settings_field(s, &settings_table[i]), out);
		fputs(";\n", out);
	}
	return fflush(out) == EOF || ferror(out) ? -1 : 0;
}

/* A path may have anything in it, a comment ends with its line. */
static void
comment_print(const char *text, FILE *out)
{
	for (; *text != '\0'; text++)
		fputc((unsigned char)*text < 0x20 ? '?' : *text, out);
}

/* Those that do nothing are left out, unless somebody has set them. */
static bool
is_worth_showing(const struct settings *s, const struct setting *row)
{
	return row->effect != SETTING_COMMAND_LINE &&
	       (!setting_is_unused(row) || !settings_is_default(s, row));
}

int
settings_show(const struct settings *s, FILE *out)
{
	const char *group = "";

	for (size_t i = 0; i < settings_count; i++) {
		const struct setting *row = &settings_table[i];

		if (!is_worth_showing(s, row))
			continue;
		if (strcmp(group, row->group) != 0)
			fprintf(out, "%s# ---- %s ----\n", *group ? "\n" : "", row->group);
		group = row->group;
		fprintf(out, "%s = ", row->name);
		row->kind->print(settings_field(s, row), out);
		fputs("; # ", out);
		comment_print(settings_origin(s, row->name), out);
		fprintf(out, "%s%s\n", setting_is_unused(row) ? "; does nothing here: " : "",
		    setting_is_unused(row) ? row->why : "");
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
