/*
 * An executor: where what does not run on its own green thread runs instead. Either on native
 * threads, on which the hooks are the real calls, or on one green thread that makes itself
 * available; the calls wait in order for a thread to come free.
 */
#ifndef GREEN_EXECUTOR_H
#define GREEN_EXECUTOR_H

#include <stddef.h>
#include <stdint.h>

struct executor_config {
	unsigned threads;           /* native ones at most; 0: executor_work does it all */
	size_t stack_size;          /* bytes, of each */
	void (*waiting)(void *arg); /* without threads: from the loop, when there is work */
	void *arg;
};

/* Once in a process, on the loop's thread. 0, or -1 with errno when there can be no thread. */
int executor_start(const struct executor_config *);

/* Call fn(arg) there, and park until it has returned. On a green thread. */
void executor_call(void (*fn)(void *arg), void *arg);

/* Make all calls that wait, on this thread. */
void executor_work(void);

/* Calls that have been begun and not ended. */
unsigned executor_running(void);

/* End the threads; none may run. */
void executor_stop(void);

#endif
