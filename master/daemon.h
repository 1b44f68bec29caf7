/* Going into the background (gunicorn's daemon): the one that was started stays until all is well.
 */
#ifndef MASTER_DAEMON_H
#define MASTER_DAEMON_H

#include "common/settings.h"

/*
 * Returns in a process of its own session, which is no leader there and so never gets a terminal.
 * The caller waits: it exits with 0 at daemon_ready, else with the code of the process that ended,
 * having said where the reason is. Before anything that belongs to a process: its id, its children.
 */
void daemon_detach(const struct settings *);

/* A worker serves: leave the standard streams, and let the waiting one go. Once; else nothing. */
void daemon_ready(const struct settings *);

#endif
