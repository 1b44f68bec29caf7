/* What the files that make up the master share: its state, and who changes it. */
#ifndef MASTER_INTERNAL_H
#define MASTER_INTERNAL_H

#include "master/backoff.h"
#include "master/child.h"
#include "master/hooks.h"
#include "master/master.h"
#include "master/metrics.h"
#include "master/status.h"
#include "master/upgrade.h"

/* Children at a time, old generations' that still finish included. */
#define SLOTS 4096

struct master {
	const struct master_config *config;
	struct generation *current;  /* owned: the wanted one */
	struct generation *fallback; /* owned: the proven one, until current is proven; or NULL */
	struct child *children;      /* owned; oldest first */
	size_t n;
	unsigned age; /* of the youngest: how many there have been */
	struct scoreboard scoreboard;
	struct pidfile pidfile;
	struct status status;
	struct metrics metrics;
	struct upgrade upgrade;
	struct hook_queue hooks;
	uint64_t served;        /* requests that workers which are gone have answered */
	uint64_t blocked;       /* likewise: that let no other run for too long */
	char reload_error[200]; /* why the last reload failed; "" when it did not */
	struct backoff backoff;
	int signals;          /* owned: a signalfd */
	bool stopping;        /* the server is to end */
	int stop_signal;      /* what workers are told to stop with */
	uint64_t reopened_at; /* the last SIGUSR1 */
	int exit_code;
	const char *reason; /* why, if it is not 0 */
};

/* master.c: end the server; workers are told to stop with that signal. */
void master_stop(struct master *, int sig);

/* The same because a worker exited with that code, which becomes the server's. */
void master_halt(struct master *, int code);

/* reload.c: SIGHUP; then what the first of the new workers says, or its death. */
void reload_begin(struct master *);
void reload_commit(struct master *);
void reload_roll_back(struct master *, const char *why);

/*
 * molds.c: with preload_app or hooks, see that the current generation has a mold. When to come back
 * at the latest; workers may be started now if *ready.
 */
uint64_t molds_keep(struct master *, bool *ready);
/*
 * Take what they say; they are to end; to open their logs again; one of the children that ended
 * may have been one.
 */
void molds_listen(struct master *);
void molds_stop(struct master *);
void molds_reopen(struct master *);
void molds_reaped(struct master *, pid_t, int status);

/* A process of that generation, which was ready or not, has ended without being told to. */
void crew_mourn(struct master *, const struct child *, int status);

/* crew.c: one more worker; what a worker says; what became of those that died. */
void crew_spawn(struct master *);
void crew_listen(struct master *, struct child *);
void crew_reap(struct master *);

#endif
