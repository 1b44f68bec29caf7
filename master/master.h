/*
 * The master: keeps the wanted workers running until it is told to stop. Signals
 * and workers' deaths only change what is wanted or present; reconcile() says what follows.
 */
#ifndef MASTER_MASTER_H
#define MASTER_MASTER_H

#include "common/privs.h"
#include "common/scoreboard.h"
#include "master/generation.h"
#include "master/options.h"
#include "master/pidfile.h"
#include "master/upgrade.h"

struct master_config {
	const struct options *options; /* borrowed: to load the settings again */
	const char *worker;            /* borrowed: the worker's executable */
	struct privs privs;            /* who we are by now */
};

/* Hold back the signals that master_run takes. 0, or -1 with errno. */
int master_block_signals(void);

/*
 * Run with a first generation, a pid file and the ties to another master, all owned from
 * here on; the exit code.
 */
int master_run(const struct master_config *, struct generation *, const struct pidfile *,
    const struct upgrade *);

#endif
