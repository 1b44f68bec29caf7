/*
 * What is to be done so that the workers present become the workers wanted. A
 * function of its arguments only: the clock is one of them, and nothing is spawned or killed
 * here, so that the tests need no processes.
 */
#ifndef MASTER_RECONCILE_H
#define MASTER_RECONCILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "master/child.h"

/* What there should be. */
struct wanted {
	size_t workers;        /* how many; 0 while the server stops */
	unsigned generation;   /* of which generation */
	bool proven;           /* one of that generation has been ready */
	size_t surge;          /* so many more processes may be there during a reload; at least 1 */
	uint64_t timeout;      /* ns a worker may be silent; 0: for ever */
	uint64_t boot_timeout; /* ns a worker may take to be ready; 0: for ever */
	uint64_t spawn_after;  /* after workers that died young: not before */
};

enum action_kind {
	ACTION_SPAWN, /* one more of the wanted generation */
	ACTION_STOP,  /* tell a child to finish */
	ACTION_ABORT, /* a child is silent, or not ready in time: SIGABRT */
	ACTION_KILL,  /* a child that was told to stop is still there: SIGKILL */
};

struct action {
	enum action_kind kind;
	size_t child; /* its index; of no meaning for ACTION_SPAWN */
};

struct plan {
	struct action *actions; /* the caller's: room for one a child, and one a wanted worker */
	size_t n;
	uint64_t wake; /* when to ask again at the latest; CHILD_NEVER */
};

/*
 * children are in the order of their age, oldest first. The caller does what the
 * plan says and asks again, until the plan is empty.
 */
void reconcile(
    const struct wanted *, const struct child *children, size_t n, uint64_t now, struct plan *);

#endif
