/* What the master tells statsd: how many workers there are, how many connections wait. */
#ifndef MASTER_METRICS_H
#define MASTER_METRICS_H

#include <stddef.h>
#include <stdint.h>

struct master;

struct metrics {
	size_t workers;      /* told last */
	uint64_t backlog_at; /* when the backlog was told */
};

/* To be called in each turn of the loop; returns when to come back at the latest. */
uint64_t metrics_update(struct master *);

#endif
