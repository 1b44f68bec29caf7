/*
 * Reloading: a new generation is built beside the old one, which stays as the
 * fallback until a worker of the new one is ready. Whatever fails before that changes nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/mem.h"
#include "common/statsd.h"
#include "common/syslog_out.h"
#include "master/daemon.h"
#include "master/internal.h"
#include "master/notify.h"

/* Settings that only a restart can change keep the value that they have. */
static int
settings_hold(struct settings *s, const struct settings *old)
{
	for (size_t i = 0; i < settings_count; i++) {
		const struct setting *row = &settings_table[i];

		if (row->effect != SETTING_RESTART || settings_equal(s, old, row))
			continue;
		log_warnx("%s: %s: a restart is needed for the change",
		    settings_origin(s, row->name), row->name);
		if (settings_copy(s, old, row) == -1)
			return -1;
	}
	return 0;
}

static void
reload_failed(struct master *m, const char *why)
{
	log_errorx("Reload failed: the old configuration stays");
	snprintf(m->reload_error, sizeof(m->reload_error), "%.*s", (int)sizeof(m->reload_error) - 1,
	    why);
	if (m->current->proven) /* else its first worker says so */
		notify_ready();
}

/* NULL after logging why and saying so to systemd. */
static struct generation *
generation_load(struct master *m, const struct generation *old)
{
	struct generation *new;
	struct settings settings;
	struct settings_error error;

	if (options_load(m->config->options, &settings, &error) == -1) {
		log_errorx("%s", error.text);
		reload_failed(m, error.text);
		return NULL;
	}
	if (settings_hold(&settings, &old->settings) == -1) {
		log_error("cannot keep a setting");
		settings_fini(&settings);
		reload_failed(m, "out of memory");
		return NULL;
	}
	new = generation_new(&settings, old, NULL, &m->config->privs, 1);
	if (new == NULL)
		reload_failed(m, "its sockets cannot be had");
	return new;
}

/*
 * The new generation waits beside a proven one. One that has not been proven yet, it
 * replaces.
 */
void
reload_begin(struct master *m)
{
	struct generation *new;

	notify_reloading();
	if ((new = generation_load(m, m->current)) == NULL)
		return;
	new->workers_before = (int)m->current->workers;
	if (m->current->proven) {
		m->fallback = m->current;
	} else {
		new->prior = m->fallback;
		hooks_mold_leave(m, m->current);
		generation_free(m->current, new);
	}
	m->current = new;
	m->backoff = (struct backoff){0};
}

/* The log goes where the new settings say; where that fails, it stays where it is. */
static void
log_apply(const struct settings *s)
{
	if (log_open(s->errorlog, (enum log_level)log_level_parse(s->loglevel)) == -1)
		log_warn(
		    "%s: errorlog: cannot open %s", settings_origin(s, "errorlog"), s->errorlog);
	syslog_out_apply(s);
	statsd_apply(s);
}

static void
pidfile_apply(struct master *m, const struct settings *s)
{
	char *path = upgrade_pidfile(&m->upgrade, s);

	if (pidfile_move(&m->pidfile, path) == -1)
		log_warn("%s: pidfile: cannot write %s", settings_origin(s, "pidfile"), path);
	free(path);
}

/* systemd gives them back to us after a crash; those that it opened itself it has. */
static void
store_sockets(const struct generation *g)
{
	int *fds = xcalloc(g->nbindings, sizeof(*fds));
	size_t n = 0;

	for (size_t i = 0; i < g->nbindings; i++)
		if (!g->bindings[i].listener.inherited)
			fds[n++] = g->bindings[i].listener.fd;
	notify_store(fds, n);
	free(fds);
}

/*
 * A worker of the new generation is ready: what the old one alone had is given up. From
 * here on each new worker that is ready lets an old one go (reconcile).
 */
void
reload_commit(struct master *m)
{
	const struct settings *s = &m->current->settings;

	m->current->proven = true;
	m->current->prior = NULL;
	m->hooks.started = true;
	m->reload_error[0] = '\0';
	if (m->fallback != NULL) {
		log_apply(s);
		m->metrics.workers = 0; /* to be told again, where statsd is now */
		pidfile_apply(m, s);
		hooks_mold_leave(m, m->fallback);
		generation_free(m->fallback, m->current);
		m->fallback = NULL;
	}
	store_sockets(m->current);
	notify_ready();
	daemon_ready(s);
	upgrade_ready(m);
}

void
reload_roll_back(struct master *m, const char *why)
{
	hooks_mold_leave(m, m->current);
	generation_free(m->current, m->fallback);
	m->current = m->fallback;
	m->fallback = NULL;
	reload_failed(m, why);
}
