/*
 * The mold of a generation: a process that has loaded the application (the setting preload_app), or
 * only server hooks, and forks the workers, which are our children all the same. See worker/mold.h.
 */
#ifndef MASTER_MOLD_H
#define MASTER_MOLD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/scoreboard.h"
#include "master/hooks.h"

struct generation;
struct child_role;

struct mold {
	pid_t pid;    /* 0: there is none */
	int control;  /* owned; -1 */
	bool ready;   /* the application is loaded */
	bool aborted; /* it took too long for that */
	uint64_t spawned;
	struct hook_state hook;
};

#define MOLD_NONE ((struct mold){.control = -1})

/* Start one. 0, or -1 with errno. */
int mold_start(
    struct mold *, const struct generation *, const char *worker, const struct scoreboard *);

/* Take what it says: it has become ready; it has carried out an order, or failed to. */
enum mold_word { MOLD_SILENT, MOLD_READY, MOLD_DONE, MOLD_FAILED };
enum mold_word mold_listen(struct mold *);

/* Tell it something, with up to two numbers. 0, or -1 with errno. */
int mold_tell(struct mold *, const char *what, const int *numbers, int n);

/*
 * A new worker of that role; control, its end of the control socket, stays the
 * caller's. Its pid, which is a child's, or -1 with errno: then the mold, of no use any more, is
 * stopped.
 */
pid_t mold_fork(struct mold *, const struct child_role *, int control);

/* End it at once: it does nothing that could be lost. */
void mold_stop(struct mold *);

/* It was reaped. */
void mold_reaped(struct mold *);

#endif
