/* One worker process: accepts, serves, beats, and stops when it is told to. */
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

#include <stddef.h>

#include "common/listener.h"
#include "common/scoreboard.h"
#include "common/settings.h"

struct access_log;
struct app;
struct app_config;

/* What the worker was started with: common/contract.h. All owned by who started it. */
struct worker_contract {
	struct settings settings;
	struct listener *listeners;
	size_t nlisteners;
	int control;                         /* to the master; -1: none */
	struct scoreboard_row *row;          /* ours */
	struct scoreboard_request *requests; /* ours */
	const struct scoreboard *scoreboard; /* everybody's; nrows is 0: there is none */
	struct access_log *access_log;       /* NULL: none */
	int memory;                          /* a mold's, for hooks; -1 */
	unsigned age;                        /* the how-manieth worker of the server */
};

/* How the application is to be loaded, but for what only a running worker has. */
struct app_config worker_app_config(const struct worker_contract *);

/*
 * Load the application, or adopt the one that the mold has loaded (else NULL), and serve
 * until it is time to stop. Returns an enum worker_exit.
 */
int worker_run(const struct worker_contract *, struct app *);

/* Open the log files again, under their names. */
void worker_reopen_files(const struct worker_contract *);

/* All is loaded: a daemon's worker, or mold, lets go of the terminal. */
void worker_leave_streams(const struct settings *);

#endif
