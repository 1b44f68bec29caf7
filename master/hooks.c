/* The queue of server hooks, and the molds that call them: see hooks.h. */
#include "master/hooks.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "common/contract.h"
#include "common/log.h"
#include "common/mem.h"
#include "master/internal.h"

/* How long a hook may go on when somebody is in a hurry. */
#define HURRY_GRACE (2 * BACKOFF_SECOND)

/* What the mold is sent, how many numbers with it, and what the log calls it. */
static const struct {
	const char *word;
	int numbers;
	const char *name;
	bool kept; /* when its mold is replaced by the next generation's, that one calls it */
} orders[] = {
    [HOOK_START] = {CONTRACT_MSG_HOOK " start", 1, "on_starting", false},
    [HOOK_RELOAD] = {CONTRACT_MSG_HOOK " reload", 2, "on_reload", false},
    [HOOK_AGAIN] = {CONTRACT_MSG_HOOK " again", 1, "nothing", false},
    [HOOK_PRE_FORK] = {CONTRACT_MSG_HOOK " pre_fork", 1, "pre_fork", false},
    [HOOK_CHILD_EXIT] = {CONTRACT_MSG_HOOK " child_exit", 2, "child_exit", true},
    [HOOK_NWORKERS] = {CONTRACT_MSG_HOOK " nworkers_changed", 2, "nworkers_changed", true},
    [HOOK_PRE_EXEC] = {CONTRACT_MSG_HOOK " pre_exec", 0, "pre_exec", true},
    [HOOK_ON_EXIT] = {CONTRACT_MSG_HOOK " on_exit", 0, "on_exit", true},
};

bool
hooks_set(const struct settings *s)
{
	return s->on_starting != NULL || s->when_ready != NULL || s->on_reload != NULL ||
	       s->pre_exec != NULL || s->on_exit != NULL || s->nworkers_changed != NULL ||
	       s->pre_fork != NULL || s->child_exit != NULL;
}

/* ---- the queue ---- */

static void
queue_insert(struct hook_queue *q, size_t at, struct hook_event event)
{
	q->events = xreallocarray(q->events, q->n + 1, sizeof(*q->events));
	memmove(&q->events[at + 1], &q->events[at], (q->n - at) * sizeof(*q->events));
	q->events[at] = event;
	q->n++;
}

static struct hook_event
queue_pop(struct hook_queue *q)
{
	struct hook_event event = q->events[0];

	q->n--;
	memmove(&q->events[0], &q->events[1], q->n * sizeof(*q->events));
	return event;
}

/* ---- a mold ---- */

static bool
is_able(const struct generation *g)
{
	return g != NULL && g->hooks && g->mold.ready;
}

/* Which calls what is in the queue: the old one until the new one can. */
static struct generation *
caller(const struct master *m)
{
	if (is_able(m->current))
		return m->current;
	return is_able(m->fallback) ? m->fallback : NULL;
}

static uint64_t
limit_of(const struct master *m, const struct generation *g, enum hook_order order)
{
	int limit = g->settings.timeout;

	if (m->stopping)
		limit = g->settings.graceful_timeout > 0 ? g->settings.graceful_timeout : 1;
	else if (order == HOOK_START || order == HOOK_RELOAD)
		limit = g->settings.boot_timeout;
	return limit > 0 ? scoreboard_now() + (uint64_t)limit * BACKOFF_SECOND : CHILD_NEVER;
}

static void
give(struct master *m, struct generation *g, struct hook_event event)
{
	const int numbers[] = {event.a, event.b};
	struct hook_state *hook = &g->mold.hook;

	hook->busy = true;
	hook->event = event;
	hook->until = limit_of(m, g, event.order);
	if (mold_tell(&g->mold, orders[event.order].word, numbers, orders[event.order].numbers) ==
	    -1)
		log_warn("cannot have %s called", orders[event.order].name); /* it will be reaped */
}

/* ---- what happens ---- */

void
hooks_tell(struct master *m, enum hook_order order, int a, int b)
{
	if (m->current->hooks || (m->fallback != NULL && m->fallback->hooks))
		queue_insert(&m->hooks, m->hooks.n, (struct hook_event){order, a, b});
}

void
hooks_upgrade(struct master *m)
{
	struct generation *g = caller(m);

	if (g != NULL && g->settings.pre_exec != NULL && !m->stopping)
		hooks_tell(m, HOOK_PRE_EXEC, 0, 0);
	else
		upgrade_start(m);
}

bool
hooks_prepare(struct master *m)
{
	struct hook_state *hook = &m->current->mold.hook;

	if (m->current->settings.pre_fork == NULL)
		return true;
	if (hook->prepared) {
		hook->prepared = false;
		return true;
	}
	if (!hook->busy)
		give(m, m->current, (struct hook_event){HOOK_PRE_FORK, (int)m->age + 1, 0});
	return false;
}

bool
hooks_idle(const struct master *m)
{
	return !m->current->hooks || (!m->current->mold.hook.busy && m->hooks.n == 0);
}

static void
mold_hurry(struct generation *g, uint64_t now)
{
	struct hook_state *hook = &g->mold.hook;

	if (!hook->busy || now < hook->until)
		return;
	log_criticalx("The hook %s has not come back: what calls it is killed (pid:%d)",
	    orders[hook->event.order].name, (int)g->mold.pid);
	hook->until = CHILD_NEVER;
	g->mold.aborted = true;
	if (g->mold.pid != 0 && kill(g->mold.pid, SIGKILL) == -1)
		log_warn("cannot kill the mold");
}

uint64_t
hooks_step(struct master *m)
{
	struct generation *both[] = {m->current, m->fallback}, *g = caller(m);
	uint64_t wake = CHILD_NEVER;

	if (g != NULL && !g->mold.hook.busy && m->hooks.n > 0)
		give(m, g, queue_pop(&m->hooks));
	for (size_t i = 0; i < 2; i++) {
		if (both[i] == NULL)
			continue;
		mold_hurry(both[i], scoreboard_now());
		if (both[i]->mold.hook.busy && both[i]->mold.hook.until < wake)
			wake = both[i]->mold.hook.until;
	}
	return wake;
}

/* ---- what molds say ---- */

void
hooks_mold_ready(struct master *m, struct generation *g)
{
	struct hook_event event = {HOOK_AGAIN, (int)g->workers, g->workers_before};

	if (!g->hooks)
		return;
	for (size_t i = 0; i < m->n; i++) {
		const int numbers[] = {(int)m->children[i].pid, (int)m->children[i].age};

		if (mold_tell(&g->mold, CONTRACT_MSG_KNOWN, numbers, 2) == 0)
			continue;
		log_warn("cannot name all workers to the hooks");
		break;
	}
	if (!g->introduced)
		event.order = m->hooks.started ? HOOK_RELOAD : HOOK_START;
	g->introduced = true;
	give(m, g, event);
}

/* As in gunicorn: there is no server then, and no on_exit. */
static void
start_failed(struct master *m, struct generation *g)
{
	mold_stop(&g->mold);
	m->reason = "The hook on_starting failed.";
	m->exit_code = WORKER_EXIT_FAILED;
	master_stop(m, SIGTERM);
}

void
hooks_mold_done(struct master *m, struct generation *g, bool failed)
{
	struct hook_state *hook = &g->mold.hook;

	if (!hook->busy)
		return;
	hook->busy = false;
	if (hook->event.order == HOOK_START && failed)
		start_failed(m, g);
	else if (hook->event.order == HOOK_START)
		m->hooks.started = true;
	else if (hook->event.order == HOOK_PRE_FORK)
		hook->prepared = true;
	else if (hook->event.order == HOOK_PRE_EXEC)
		upgrade_start(m);
}

/* The hook may be why: it is not called again. */
void
hooks_mold_lost(struct master *m, struct generation *g)
{
	struct hook_state hook = g->mold.hook;

	g->mold.hook = (struct hook_state){0};
	if (!hook.busy)
		return;
	log_errorx("The hook %s was cut short", orders[hook.event.order].name);
	if (hook.event.order == HOOK_START)
		start_failed(m, g);
	else if (hook.event.order == HOOK_PRE_EXEC)
		upgrade_start(m);
}

void
hooks_mold_leave(struct master *m, struct generation *g)
{
	struct hook_state *hook = &g->mold.hook;

	if (hook->busy && orders[hook->event.order].kept)
		queue_insert(&m->hooks, 0, hook->event);
	hook->busy = false;
}

/* ---- the end ---- */

bool
hooks_need(const struct generation *g)
{
	return is_able(g) && !(g->mold.hook.busy && g->mold.hook.event.order == HOOK_START);
}

bool
hooks_pending(const struct master *m)
{
	const struct generation *g = caller(m);

	return g != NULL && (g->mold.hook.busy || m->hooks.n > 0);
}

void
hooks_hurry(struct master *m)
{
	struct generation *g = caller(m);
	uint64_t until = scoreboard_now() + HURRY_GRACE;

	m->hooks.n = 0;
	if (g != NULL && g->mold.hook.until > until)
		g->mold.hook.until = until;
}
