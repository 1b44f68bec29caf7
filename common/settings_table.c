/* The table of settings, made from settings.def, and looking names up in it. */
#include "common/settings_table.h"

#include <limits.h>
#include <string.h>

#include "common/settings.h"

/* What the column "on HUP" may say. */
enum { RESTART = 0, RELOAD = 1 };

const struct setting settings_table[] = {
#define SETTING(field, kind, min, max, def, hup, short_flag, long_flag, metavar, group, help) \
	{#field, &kind_##kind, #kind, offsetof(struct settings, field), {min, max}, def, hup, \
	    short_flag, long_flag, metavar, group, help},
#include "common/settings.def"
#undef SETTING
};

const size_t settings_count = sizeof(settings_table) / sizeof(settings_table[0]);

/* Settings of gunicorn 26.1 that have no row: whoever brings its file is told so. */
/* clang-format off */
static const char *const gunicorn_only[] = {
    "threads", "asgi_loop", "asgi_lifespan", "asgi_disconnect_grace_period", "http_parser",
    "reload", "reload_engine", "reload_extra_files", "spew", "sendfile", "reuse_port", "daemon",
    "worker_tmp_dir", "tmp_upload_dir", "secure_scheme_headers", "forwarded_allow_ips", "paste",
    "proxy_protocol", "proxy_allow_ips", "protocol", "uwsgi_allow_ips", "raw_paste_global_conf",
    "permit_obsolete_folding", "strip_header_spaces", "permit_unconventional_http_method",
    "permit_unconventional_http_version", "casefold_http_method", "forwarder_headers",
    "header_map", "root_path", "disable_redirect_access_to_syslog", "logger_class", "logconfig",
    "logconfig_dict", "logconfig_json", "syslog_addr", "syslog", "syslog_prefix",
    "syslog_facility", "enable_stdio_inheritance", "statsd_host", "dogstatsd_tags",
    "statsd_prefix", "enable_backlog_metric", "default_proc_name", "on_starting", "on_reload",
    "when_ready", "pre_fork", "post_fork", "post_worker_init", "worker_int", "worker_abort",
    "pre_exec", "pre_request", "post_request", "child_exit", "worker_exit", "nworkers_changed",
    "on_exit", "ssl_context", "keyfile", "certfile", "ssl_version", "cert_reqs", "ca_certs",
    "suppress_ragged_eofs", "do_handshake_on_connect", "ciphers", "http_protocols",
    "http2_cleartext", "http2_max_concurrent_streams", "http2_initial_window_size",
    "http2_max_frame_size", "http2_max_header_list_size", "dirty_apps", "dirty_workers",
    "dirty_timeout", "dirty_threads", "dirty_graceful_timeout", "on_dirty_starting",
    "dirty_post_fork", "dirty_worker_init", "dirty_worker_exit", "control_socket",
    "control_socket_mode", "control_socket_disable",
};
/* clang-format on */

bool
settings_only_gunicorn(const char *name)
{
	for (size_t i = 0; i < sizeof(gunicorn_only) / sizeof(gunicorn_only[0]); i++)
		if (strcmp(gunicorn_only[i], name) == 0)
			return true;
	return false;
}

const struct setting *
settings_find(const char *name)
{
	for (size_t i = 0; i < settings_count; i++)
		if (strcmp(settings_table[i].name, name) == 0)
			return &settings_table[i];
	return NULL;
}

/* How many letters must be added, removed or changed to make b of a (Levenshtein). */
static unsigned
distance(const char *a, const char *b)
{
	unsigned row[64], diagonal, above, best;
	size_t n = strlen(b);

	for (size_t j = 0; j <= n; j++)
		row[j] = (unsigned)j;
	for (; *a != '\0'; a++) {
		diagonal = row[0]++;
		for (size_t j = 1; j <= n; j++) {
			above = row[j];
			best = diagonal + (*a != b[j - 1]);
			if (above + 1 < best)
				best = above + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			diagonal = above;
			row[j] = best;
		}
	}
	return row[n];
}

/* Near enough to suggest: no more than a third of the letters differ. */
const char *
settings_nearest(const char *text)
{
	const char *nearest = NULL;
	unsigned d, least = (unsigned)strlen(text) / 3 + 1;

	for (size_t i = 0; i < settings_count; i++) {
		d = distance(text, settings_table[i].name);
		if (d <= least && (nearest == NULL || d < least)) {
			least = d;
			nearest = settings_table[i].name;
		}
	}
	return nearest;
}
