/* What the watchdog writes into the error log, from snapshots. */
#ifndef WORKER_REPORT_H
#define WORKER_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/snapshot.h"

/* Everything in flight; NULL: the worker's thread did not answer. On the way to SIGABRT or not. */
void report_dump(const struct snapshot *, bool aborting);

/* The members of a deadlock. */
void report_deadlock(const struct snapshot *);

/* What was told about a green thread that runs for too long; request is "" for nothing. */
struct blocked_report {
	char request[sizeof(((struct snapshot_thread *)0)->request)];
	char place[512];
};

/* Whether one more report would be written: there may have been too many of late. */
bool report_blocked_allowed(void);

/*
 * The one thread in the snapshot has run for ns. Tells it once for each place, that is, line of
 * the application's code.
 */
void report_blocked(const struct snapshot *, int64_t ns, struct blocked_report *);

/* It has ended, ns after its beginning. */
void report_blocked_end(const struct blocked_report *, int64_t ns);

#endif
