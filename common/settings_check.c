/* Checks that need more than a value's form: the system's users, directories, addresses. */
#include "common/settings.h"

#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/address.h"
#include "common/outlet.h"
#include "common/networks.h"
#include "common/privs.h"
#include "common/refuse.h"
#include "common/settings_table.h"
#include "common/statsd.h"
#include "common/syslog_out.h"
#include "common/worker_class.h"

/* Refuse the setting's value, naming the place that it came from. */
static int
refuse_value(
    const struct settings *s, const char *name, const char *why, struct settings_error *error)
{
	return REFUSE(error, "%s: %s: %s", settings_origin(s, name), name, why);
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
	char why[512];

	if (worker_class_kind(s, why, sizeof(why)) != -1)
		return 0;
	return refuse_value(s, "worker_class", why, error);
}

static int
check_access_log_format(const struct settings *s, struct settings_error *error)
{
	if (s->access_log_format != NULL)
		return 0;
	return refuse_value(s, "access_log_format", "an empty format", error);
}

static int
check_proxies(const struct settings *s, struct settings_error *error)
{
	char why[256];

	if (networks_parse(NULL, &s->forwarded_allow_ips, why, sizeof(why)) == -1)
		return refuse_value(s, "forwarded_allow_ips", why, error);
	return 0;
}

static int
check_logging(const struct settings *s, struct settings_error *error)
{
	char why[256];

	if (s->syslog_addr == NULL)
		return refuse_value(s, "syslog_addr", "no address", error);
	if (outlet_check(s->syslog_addr, why, sizeof(why)) == -1)
		return refuse_value(s, "syslog_addr", why, error);
	if (s->syslog_facility == NULL || syslog_out_facility(s->syslog_facility) == -1)
		return refuse_value(s, "syslog_facility",
		    "expected user, daemon, local0 to local7, auth, authpriv, cron, ftp, kern, "
		    "lpr, "
		    "mail, news, security, syslog or uucp",
		    error);
	if (s->statsd_host != NULL && statsd_check(s->statsd_host, why, sizeof(why)) == -1)
		return refuse_value(s, "statsd_host", why, error);
	return 0;
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

/* What would be wrong to pass over, such as a certificate for a server that speaks plain text. */
static int
check_refused(const struct settings *s, struct settings_error *error)
{
	for (size_t i = 0; i < settings_count; i++)
		if (settings_table[i].effect == SETTING_REFUSED &&
		    !settings_is_default(s, &settings_table[i]))
			return refuse_value(
			    s, settings_table[i].name, settings_table[i].why, error);
	return 0;
}

int
settings_check(const struct settings *s, struct settings_error *error)
{
	if (check_refused(s, error) == -1 || check_bind(s, error) == -1 ||
	    check_accounts(s, error) == -1 || check_raw_env(s, error) == -1 ||
	    check_worker_class(s, error) == -1 || check_access_log_format(s, error) == -1 ||
	    check_proxies(s, error) == -1 || check_logging(s, error) == -1 ||
	    check_directory(s, "chdir", s->chdir, error) == -1 ||
	    check_directory(s, "virtualenv", s->virtualenv, error) == -1)
		return -1;
	return 0;
}

bool
settings_preloads(const struct settings *s)
{
	return s->preload_app && !s->reload;
}
