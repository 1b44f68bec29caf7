/*
 * What the master and a worker share, and nothing else: descriptors, names in
 * the environment, signals, exit codes, the messages on the control socket. A
 * test, or another supervisor, can start one worker by hand with it.
 *
 * Descriptors are passed as systemd does it (sd_listen_fds(3)): LISTEN_FDS of
 * them from 3 on, LISTEN_PID is the receiver, LISTEN_FDNAMES has a name for
 * each, separated by colons. The application's URI is the settings' wsgi_app.
 */
#ifndef COMMON_CONTRACT_H
#define COMMON_CONTRACT_H

#define CONTRACT_FDS_START 3

/* Names in LISTEN_FDNAMES. */
#define CONTRACT_FD_LISTEN     "listen"     /* bound, listening socket; one or more */
#define CONTRACT_FD_CONTROL    "control"    /* SOCK_SEQPACKET to the master; optional */
#define CONTRACT_FD_SETTINGS   "settings"   /* memfd: the settings as a configuration file */
#define CONTRACT_FD_BOUND      "bound"      /* to a master: a socket that an earlier one bound */
#define CONTRACT_FD_SCOREBOARD "scoreboard" /* memfd: see scoreboard.h; optional */
#define CONTRACT_FD_MEMORY     "memory"     /* memfd: what hooks of one mold leave to the next */

/* The worker's row in the scoreboard, a number from 0; absent means 0. */
#define CONTRACT_ENV_SLOT "GREENICORN_SLOT"

/* The how-manieth worker of the server it is, from 1: gunicorn's worker.age; for server hooks. */
#define CONTRACT_ENV_AGE "GREENICORN_AGE"

/*
 * Set for the mold (preload_app), a worker that only loads the application. It has the
 * worker's descriptors. Once it has said READY it takes orders on the control socket: FORK, a
 * slot and an age, with the new worker's end of its control socket (SCM_RIGHTS). It answers FORKED
 * and the worker's pid, or -1. The worker is the child of the next subreaper, which the master is.
 *
 * With server hooks for the master there is a mold, too; unless preload_app is set it leaves the
 * application to the workers. HOOK with some words, see master/hooks.c, has it call them; it
 * answers DONE or FAILED, but nothing to KNOWN, which only tells it of a worker, DEAF: the
 * server stops, and nobody shall connect to the mold's copies of the listening sockets, and REOPEN,
 * which every mold gets: the log files.
 */
#define CONTRACT_ENV_MOLD   "GREENICORN_MOLD"
#define CONTRACT_MSG_FORK   "fork"
#define CONTRACT_MSG_FORKED "forked"
#define CONTRACT_MSG_HOOK   "hook"
#define CONTRACT_MSG_KNOWN  "known"
#define CONTRACT_MSG_DEAF   "deaf"
#define CONTRACT_MSG_REOPEN "reopen"
#define CONTRACT_MSG_DONE   "done"
#define CONTRACT_MSG_FAILED "failed"

/* For a master that another one started to take over from it: the other's pid. */
#define CONTRACT_ENV_PREDECESSOR "GREENICORN_PID"

/*
 * On the control socket, one datagram each. The worker says READY once the
 * application is loaded and it accepts. End of file there means that the
 * master is gone: the worker then finishes as at SIGTERM.
 */
#define CONTRACT_MSG_READY "ready"

/*
 * RETIRE: it has done enough (max_requests and the like) and would like to be replaced. It
 * serves on until SIGTERM, which comes when another worker is ready in its place.
 */
#define CONTRACT_MSG_RETIRE "retire"

/*
 * Signals to a worker: SIGTERM finish the requests in flight, then exit 0;
 * SIGINT and SIGQUIT exit 0 at once; SIGUSR1 reopen the log files; SIGABRT
 * (no heartbeat for `timeout`) log what every request does, with its stack, and die;
 * CONTRACT_SIGNAL_DUMP the same without the end. The master takes that one, too, and passes
 * it on. It is none of gunicorn's.
 */
#define CONTRACT_SIGNAL_DUMP (SIGRTMIN + 3) /* <signal.h> */

enum worker_exit {
	WORKER_EXIT_OK = 0,
	WORKER_EXIT_FAILED = 1, /* broken contract or settings */
	WORKER_EXIT_BOOT = 3,   /* an exception while loading the application */
	WORKER_EXIT_APP = 4,    /* no such module attribute, or not callable */
};

#endif
