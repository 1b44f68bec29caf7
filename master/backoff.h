/* Patience with workers that die young: how long to wait before the next. */
#ifndef MASTER_BACKOFF_H
#define MASTER_BACKOFF_H

#include <stdint.h>

#define BACKOFF_SECOND  1000000000ull
#define BACKOFF_FIRST   (BACKOFF_SECOND / 2)
#define BACKOFF_LONGEST (30 * BACKOFF_SECOND)
/* A worker that was ready for as long as this did not die young. */
#define BACKOFF_STABLE (10 * BACKOFF_SECOND)
/* Without a death for as long as this, all is forgotten. */
#define BACKOFF_FORGET (60 * BACKOFF_SECOND)

/* All zero to begin with. Times are the scoreboard's. */
struct backoff {
	uint64_t delay; /* the last one */
	uint64_t last;  /* when a worker last died young */
	uint64_t until; /* start none before */
};

/*
 * A worker died young at `now`. The delay doubles each time, but several that die
 * while we wait count as one. Returns the delay when it was set anew, else 0.
 */
uint64_t backoff_fail(struct backoff *, uint64_t now);

#endif
