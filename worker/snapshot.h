/*
 * What the green threads of this process are doing at one moment: which request, waiting for
 * what, with which application-level stack. Taken on the loop's OS thread from a signal handler,
 * whatever that has interrupted; read afterwards by another thread.
 */
#ifndef WORKER_SNAPSHOT_H
#define WORKER_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/green/green.h"

#define SNAPSHOT_STACKS   256
#define SNAPSHOT_NO_STACK SNAPSHOT_STACKS

struct snapshot_thread {
	struct green *green; /* to compare only */
	bool running, parked;
	struct green_waiting waiting;
	pid_t tid, holder;
	int64_t started;   /* the request's; 0: there is none */
	unsigned stack;    /* index, or SNAPSHOT_NO_STACK */
	char request[160]; /* method and path, printable ASCII; "" without a request */
	char client[56];
};

struct snapshot_stack {
	size_t at, n; /* in text: lines as the backend prints them, innermost call first */
	uint64_t hash;
};

struct snapshot {
	int fd;                          /* owned: a memfd, where the backend prints stacks */
	char *text;                      /* owned: its mapping */
	size_t used;                     /* of text */
	struct snapshot_thread *threads; /* owned mapping */
	size_t n, left_out;
	struct snapshot_stack stacks[SNAPSHOT_STACKS];
	size_t nstacks;
	bool unreadable;           /* a stack was broken: none are read any more */
	void (*write_stack)(void); /* the backend's: prints the calling thread's stack to fd */
	bool (*wants)(const struct green_view *); /* who is taken */
	size_t queued;                            /* requests that wait for a green thread */
	int64_t deadline;                         /* no more stacks are read after that */
};

/* 0, or -1 with errno. */
int snapshot_init(struct snapshot *);
void snapshot_fini(struct snapshot *);

/* In the signal handler. */
void snapshot_take(struct snapshot *);

/* Give the memory back that the last one used. */
void snapshot_clear(struct snapshot *);

#endif
