/*
 * The watchdog: an OS thread beside the loop's that sees when the loop's has been with one green
 * thread for too long, and that logs what all of them do when it is asked to. It never needs
 * Python's lock, nor the loop: stacks are read in a signal handler on the loop's OS thread.
 */
#ifndef WORKER_WATCH_H
#define WORKER_WATCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct app_ops;

struct watch_config {
	const struct app_ops *ops;
	int64_t preempt; /* ns after which a green thread has to let others run; 0: never */
	int64_t blocking_threshold; /* ns; 0: none */
	_Atomic uint64_t *blocked;  /* counts green threads that ran for longer than that */
};

/*
 * Start it, on the loop's OS thread before the application is loaded. Without a thread for it
 * (a limit) the worker goes on unwatched, after a line in the log.
 */
void watch_start(const struct watch_config *);
void watch_stop(void);

/* Where the backend prints stacks; -1: it need not. */
int watch_stack_fd(void);

/*
 * The backend has set signal handlers of its own: put ours in front. Aborts by ourselves
 * (abort(3)) stay its.
 */
void watch_signals(void);

/* On the main green thread: while it only waits for the application's signals, it is not told of.
 */
void watch_main(void);

/* On the main green thread: there are requests now, or no more, which could be blocked. */
void watch_serving(bool);

/* On the loop, about once a second: look for a deadlock, and report it; whether there is a new one.
 */
bool watch_deadlocks(void);

#endif
