/*
 * The mold: a process that loads the application once (the setting preload_app), or server hooks
 * that gunicorn calls in its master, and forks a worker whenever the master asks for one. Nothing
 * but these hooks runs in it: one thread, no event loop, no connections.
 */
#ifndef WORKER_MOLD_H
#define WORKER_MOLD_H

#include "worker/worker.h"

/*
 * Load the application, say so, and serve the master until it is gone (contract.h). Returns an
 * enum worker_exit, and *app NULL, in the mold; in each worker that was forked it returns
 * 0, with the loaded application for worker_run, and the worker's own control and row.
 */
int mold_run(struct worker_contract *, struct app **app);

#endif
