/*
 * USR2: a second master, from the program that is on the disk by then, beside this one. Both
 * have the listening sockets and workers of their own until one of the two is told to stop:
 * the old one, and the new one is promoted; or the new one, and nothing has happened. As
 * gunicorn's.
 */
#ifndef MASTER_UPGRADE_H
#define MASTER_UPGRADE_H

#include <stdbool.h>
#include <sys/types.h>

#include "common/fds.h"

struct master;
struct settings;

/* The other master. */
struct upgrade {
	pid_t predecessor;       /* the one that started us, while it lives; 0: none */
	int predecessor_fd;      /* owned: a pidfd */
	int predecessor_control; /* owned: where we say that we are ready; -1 */
	pid_t successor;         /* the one that USR2 started, while it lives; 0: none */
	int successor_fd;        /* owned: a pidfd, for it is not our child */
	int successor_control;   /* owned: it says when it is ready; -1 */
	bool successor_ready;
};

/* First of all: how we were started, to be started again. */
void upgrade_remember(char **argv);

/* Whether another master started us: it says so in the environment, from where this takes it. */
void upgrade_begin(struct upgrade *, struct fds *inherited);

/* SIGUSR2. */
void upgrade_start(struct master *);

/* Our first worker is ready: the predecessor wants to know. */
void upgrade_ready(struct master *);

/* What the descriptors have to say: successor_control, successor_fd, predecessor_fd. */
void upgrade_listen(struct master *);
void upgrade_resume(struct master *);
void upgrade_promote(struct master *);

/* Whether another master has our sockets, too: their files stay when we stop. */
bool upgrade_shared(const struct master *);

/* The pid file's name while there is a predecessor: with ".2" behind; the caller frees. NULL: none.
 */
char *upgrade_pidfile(const struct upgrade *, const struct settings *);

#endif
