/*
 * The requests in flight, noted where the master can read them after a death that leaves no time
 * for words (SIGKILL, for want of memory perhaps). Costs a request a copy of 60 bytes at most.
 */
#ifndef WORKER_IN_FLIGHT_H
#define WORKER_IN_FLIGHT_H

#include <stdint.h>

#include "common/scoreboard.h"

struct http_request;

/* Where to note them; before the first request. */
void in_flight_init(struct scoreboard_row *, struct scoreboard_request *);

/* On the loop's OS thread. What in_flight_begin returned is for in_flight_end. */
uint32_t in_flight_begin(const struct http_request *);
void in_flight_end(uint32_t ticket);

/* How many there are now. */
uint32_t in_flight_count(void);

#endif
