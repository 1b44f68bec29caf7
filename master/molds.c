/* The molds of the generations, as part of the master: kept, heard, ended. See mold.h. */
#include <signal.h>

#include "common/log.h"
#include "master/internal.h"

static uint64_t
boot_deadline(const struct generation *g)
{
	uint64_t limit = (uint64_t)g->settings.boot_timeout * BACKOFF_SECOND;

	return limit != 0 ? g->mold.spawned + limit : CHILD_NEVER;
}

static void
mold_begin(struct master *m, struct generation *g)
{
	if (mold_start(&g->mold, g, m->config->worker, &m->scoreboard) == 0) {
		log_info("Booting mold with pid: %d", (int)g->mold.pid);
		return;
	}
	log_error("cannot start a mold");
	backoff_fail(&m->backoff, scoreboard_now());
}

uint64_t
molds_keep(struct master *m, bool *ready)
{
	struct generation *g = m->current;
	uint64_t now = scoreboard_now();

	*ready = true;
	if (!g->settings.preload_app || m->stopping)
		return CHILD_NEVER;
	if (g->mold.pid == 0 && now >= m->backoff.until)
		mold_begin(m, g);
	*ready = g->mold.ready;
	if (g->mold.pid == 0)
		return m->backoff.until;
	if (g->mold.ready || g->mold.aborted)
		return CHILD_NEVER;
	if (now < boot_deadline(g))
		return boot_deadline(g);
	log_criticalx("WORKER TIMEOUT (pid:%d): not ready after %d s", (int)g->mold.pid,
	    g->settings.boot_timeout);
	g->mold.aborted = true;
	if (kill(g->mold.pid, SIGKILL) == -1)
		log_warn("cannot kill the mold");
	return CHILD_NEVER;
}

void
molds_listen(struct master *m)
{
	if (mold_listen(&m->current->mold))
		log_debug("mold (pid %d): ready", (int)m->current->mold.pid);
}

void
molds_stop(struct master *m)
{
	mold_stop(&m->current->mold);
	if (m->fallback != NULL)
		mold_stop(&m->fallback->mold);
}

/* A mold that cannot load the application is as bad as a worker that cannot. */
void
molds_reaped(struct master *m, pid_t pid, int status)
{
	struct generation *g = m->current;
	struct child as_child = {.pid = pid, .state = CHILD_STARTING};

	if (m->fallback != NULL && m->fallback->mold.pid == pid)
		g = m->fallback;
	if (g->mold.pid != pid)
		return;
	as_child.generation = g->number;
	as_child.ready_at = g->mold.ready ? g->mold.spawned : 0;
	as_child.aborted = g->mold.aborted;
	mold_reaped(&g->mold);
	if (status == 0) { /* no worker's, this is no end for it */
		log_errorx("The mold (pid:%d) has ended", (int)pid);
		backoff_fail(&m->backoff, scoreboard_now());
	}
	crew_mourn(m, &as_child, status);
}
