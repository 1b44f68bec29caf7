/*
 * The scoreboard: one cache line a worker in memory that the master shares
 * with all of them. A worker writes only its own row; all may read. Behind the rows
 * each worker has a place where it notes its requests, for the master to tell of when it is dead.
 */
#ifndef COMMON_SCOREBOARD_H
#define COMMON_SCOREBOARD_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum scoreboard_state {
	SCOREBOARD_EMPTY = 0,
	SCOREBOARD_STARTING,
	SCOREBOARD_READY,
	SCOREBOARD_STOPPING,
};

struct scoreboard_row {
	_Alignas(64) _Atomic uint64_t heartbeat; /* CLOCK_MONOTONIC, nanoseconds; 0: none yet */
	_Atomic uint32_t pid;
	_Atomic uint32_t state;       /* enum scoreboard_state */
	_Atomic uint32_t connections; /* open now */
	_Atomic uint32_t in_flight;   /* requests being answered now */
	_Atomic uint64_t served;      /* requests answered since the start */
	_Atomic uint64_t blocked;     /* times that one let no other run for too long */
};

/* So many requests of a worker are noted; when more are in flight, the later ones rather. */
#define SCOREBOARD_REQUESTS 16

struct scoreboard_request {
	_Alignas(64) _Atomic uint32_t ticket; /* 0: none */
	char text[60];                        /* method and path, ended by NUL unless full */
};

/* What is about all rows. */
struct scoreboard_head {
	_Alignas(64) _Atomic uint64_t used; /* rows from this number on have never been */
};

struct scoreboard {
	int fd; /* owned; the memfd */
	size_t nrows;
	struct scoreboard_row *rows;  /* owned mapping */
	struct scoreboard_head *head; /* in it, at the end */
};

/* Make a scoreboard of nrows rows, all zero. 0, or -1 with errno. */
int scoreboard_create(struct scoreboard *, size_t nrows);

/* Map the scoreboard behind fd, which is owned from here on. 0, or -1 with errno. */
int scoreboard_attach(struct scoreboard *, int fd);

/* How many rows to look at: the master has used no others; at most nrows. */
size_t scoreboard_used(const struct scoreboard *);
void scoreboard_use(const struct scoreboard *, size_t row);

/* The SCOREBOARD_REQUESTS of a row. */
struct scoreboard_request *scoreboard_requests(const struct scoreboard *, size_t row);

/* From here on it is not for children: one that the application forks must not beat for us. */
void scoreboard_keep(const struct scoreboard *);

/* Unmap and close. */
void scoreboard_close(struct scoreboard *);

/* CLOCK_MONOTONIC in nanoseconds: the scoreboard's clock. */
uint64_t scoreboard_now(void);

#endif
