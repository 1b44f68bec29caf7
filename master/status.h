/*
 * What `systemctl status` shows of us, and the signs of life that systemd may want: made
 * from the master's state, whenever its loop turns.
 */
#ifndef MASTER_STATUS_H
#define MASTER_STATUS_H

#include <stdint.h>

struct master;

/* When something was last told, in ns of the scoreboard's clock. */
struct status {
	char phase[320]; /* the last text but for its numbers */
	uint64_t numbers_at, watchdog_at, extended_at;
};

/* Tell what is due; returns when something is due again, CHILD_NEVER for not at all. */
uint64_t status_update(struct master *);

#endif
