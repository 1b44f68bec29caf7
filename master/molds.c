/* The molds of the generations, as part of the master: kept, heard, ended. See mold.h. */
#include <signal.h>

#include "common/contract.h"
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
	if (!g->has_mold || m->stopping)
		return CHILD_NEVER;
	if (g->mold.pid == 0 && now >= m->backoff.until)
		mold_begin(m, g);
	*ready = g->mold.ready && hooks_idle(m);
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

static void
mold_hear(struct master *m, struct generation *g)
{
	enum mold_word word = mold_listen(&g->mold);

	if (word == MOLD_READY) {
		log_debug("mold (pid %d): ready", (int)g->mold.pid);
		hooks_mold_ready(m, g);
	} else if (word != MOLD_SILENT) {
		hooks_mold_done(m, g, word == MOLD_FAILED);
	}
}

void
molds_listen(struct master *m)
{
	mold_hear(m, m->current);
	if (m->fallback != NULL)
		mold_hear(m, m->fallback);
}

void
molds_stop(struct master *m)
{
	struct generation *both[] = {m->current, m->fallback};

	for (size_t i = 0; i < 2; i++) {
		if (both[i] == NULL)
			continue;
		if (!hooks_need(both[i]))
			mold_stop(&both[i]->mold);
		else if (mold_tell(&both[i]->mold, CONTRACT_MSG_DEAF, NULL, 0) == -1)
			log_warn("cannot tell the mold to close its sockets");
	}
}

void
molds_reopen(struct master *m)
{
	struct generation *both[] = {m->current, m->fallback};

	for (size_t i = 0; i < 2; i++)
		if (both[i] != NULL && both[i]->mold.control != -1 &&
		    mold_tell(&both[i]->mold, CONTRACT_MSG_REOPEN, NULL, 0) == -1)
			log_warn("cannot tell the mold to open its log again");
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
	hooks_mold_lost(m, g);
	if (status == 0) { /* no worker's, this is no end for it */
		log_errorx("The mold (pid:%d) has ended", (int)pid);
		backoff_fail(&m->backoff, scoreboard_now());
	}
	crew_mourn(m, &as_child, status);
}
