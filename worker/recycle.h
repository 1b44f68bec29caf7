/*
 * When a worker has done enough and should make way for a fresh one: max_requests,
 * max_worker_memory, max_worker_age. The master decides when it may go.
 */
#ifndef WORKER_RECYCLE_H
#define WORKER_RECYCLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/settings.h"

/* max_requests, and at random up to max_requests_jitter more; 0: no limit. */
uint64_t recycle_requests(const struct settings *);

/*
 * Whether the process is larger or, `age` nanoseconds after it began to serve, older than it
 * should be; then why has a line for the log.
 */
bool recycle_due(const struct settings *, int64_t age, char *why, size_t size);

#endif
