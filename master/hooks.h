/*
 * Server hooks that gunicorn calls in its master: on_starting, pre_fork, child_exit and so on. This
 * master has no Python. A mold calls them (worker/mold.h), which then also forks the workers: what
 * the hooks leave behind there, in variables or the environment, the workers have. One order at a
 * time, and nobody waits for it: what comes meanwhile queues.
 */
#ifndef MASTER_HOOKS_H
#define MASTER_HOOKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Orders: what has happened. Some call no hook, but tell the mold what its hooks may ask. */
enum hook_order {
	HOOK_START,      /* on_starting, when_ready; the number of workers */
	HOOK_RELOAD,     /* on_reload; the number of workers, and the one before */
	HOOK_AGAIN,      /* the mold before it has died; the number of workers */
	HOOK_PRE_FORK,   /* the new worker's age */
	HOOK_CHILD_EXIT, /* pid, age */
	HOOK_NWORKERS,   /* new number, old number */
	HOOK_PRE_EXEC,
	HOOK_ON_EXIT,
};

struct hook_event {
	enum hook_order order;
	int a, b;
};

/* What a mold has been told to do last. */
struct hook_state {
	bool busy; /* with `event` */
	struct hook_event event;
	uint64_t until; /* it may take so long; CHILD_NEVER */
	bool prepared;  /* pre_fork has been called for the next worker */
};

/* What waits for a mold, oldest first. */
struct hook_queue {
	struct hook_event *events; /* owned */
	size_t n;
	bool started; /* on_starting has been called, or never will be */
};

/* Whether these settings have hooks for the mold. */
struct settings;
bool hooks_set(const struct settings *);

struct master;
struct generation;

/* Something has happened. */
void hooks_tell(struct master *, enum hook_order, int a, int b);

/* SIGUSR2: start the new master, after pre_exec if that is set. */
void hooks_upgrade(struct master *);

/* A worker is to be forked from the current generation's mold. False: pre_fork comes first. */
bool hooks_prepare(struct master *);

/* Whether all hooks have run that come before the next worker. */
bool hooks_idle(const struct master *);

/* See that the next order is given and the last one carried out; when to come back at the latest.
 */
uint64_t hooks_step(struct master *);

/* A generation's mold is ready; has carried out its order; has died; will be stopped on purpose. */
void hooks_mold_ready(struct master *, struct generation *);
void hooks_mold_done(struct master *, struct generation *, bool failed);
void hooks_mold_lost(struct master *, struct generation *);
void hooks_mold_leave(struct master *, struct generation *);

/* The server stops: whether a generation's mold is still needed. */
bool hooks_need(const struct generation *);

/* The workers are gone: whether there is something to wait for still. Told to hurry, not for long.
 */
bool hooks_pending(const struct master *);
void hooks_hurry(struct master *);

#endif
