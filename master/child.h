/* A worker process as the master sees it. */
#ifndef MASTER_CHILD_H
#define MASTER_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/scoreboard.h"

struct generation;
struct mold;

#define CHILD_NEVER UINT64_MAX

/* STARTING → READY → STOPPING → reaped; only child_set_state moves it. */
enum child_state { CHILD_STARTING, CHILD_READY, CHILD_STOPPING };

/* Times are nanoseconds of the scoreboard's clock. */
struct child {
	pid_t pid;
	size_t slot;         /* its row in the scoreboard */
	unsigned age;        /* the how-manieth of this master */
	unsigned generation; /* the number of the generation that it runs */
	enum child_state state;
	int control;                /* owned: our end of its control socket */
	struct scoreboard_row *row; /* borrowed; NULL in tests: no heartbeat */
	uint64_t spawned;
	uint64_t ready_at; /* 0: never was */
	bool retiring;     /* it asks to be replaced */
	bool aborted;      /* it was told to stop because it showed no life */
	uint64_t kill_at;  /* while STOPPING: when to use SIGKILL */
};

/*
 * When it last showed life: its heartbeat, or becoming ready. Until it is ready its start
 * counts alone: a worker that waits for ever while it loads must not hold up a reload.
 */
uint64_t child_last_life(const struct child *);

/* What `worker` is to be: see mold.h. */
enum child_kind { CHILD_WORKER, CHILD_MOLD };

struct child_role {
	enum child_kind kind;
	size_t slot;  /* a worker's row of the scoreboard */
	unsigned age; /* the how-manieth worker of this master it is */
};

/*
 * Start `worker` (a path) with the generation's settings and sockets. Its pid, with our end
 * of its control socket, owned by the caller, in *control; or -1 with errno.
 */
pid_t child_exec(const struct generation *, const char *worker, const struct scoreboard *,
    const struct child_role *, int *control);

/*
 * One worker more, on a row of the scoreboard: forked from the generation's mold, which is
 * ready, or started if that is NULL. 0, or -1 with errno.
 */
int child_spawn(struct child *, const struct generation *, struct mold *, const char *worker,
    const struct scoreboard *, const struct child_role *);

/* In a forked child: the environment that a worker finds. 0, or -1 with errno. */
struct settings;
int child_environment_set(const struct settings *, size_t slot);

/* In a forked child, before it executes: no signal is blocked or ignored. 0, or -1 with errno. */
int child_reset_signals(void);

/* It said that it is ready. */
void child_set_ready(struct child *);

/* Send a signal that ends it, and note when to lose patience. */
void child_stop(struct child *, int sig, uint64_t kill_at);

/* It closed its control socket: so do we. */
void child_hang_up(struct child *);

/* It was reaped: close its control socket, free its row. */
void child_release(struct child *, const struct scoreboard *);

const char *child_state_name(enum child_state);

#endif
