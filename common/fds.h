/*
 * Descriptors handed from process to process by sd_listen_fds(3)'s convention:
 * numbers from 3 on, LISTEN_FDS of them, for LISTEN_PID, with names in
 * LISTEN_FDNAMES. systemd, the master, tests and other supervisors all use it.
 */
#ifndef COMMON_FDS_H
#define COMMON_FDS_H

#include <stddef.h>

struct fd_named {
	int fd; /* -1: claimed */
	char *name;
};

struct fds {
	struct fd_named *items;
	size_t n;
};

/*
 * The receiver: take what the environment says is for this process, set
 * close-on-exec on it and remove the three variables. 0, with none when there is
 * nothing for us, or -1 with errno: EINVAL for a broken environment, EBADF for a
 * descriptor that is not open.
 */
int fds_take(struct fds *);

/* The first descriptor of that name that nobody claimed yet, the caller's from here on; or -1. */
int fds_claim(struct fds *, const char *name);

/* Free the list and close what fds_take took and nobody claimed. */
void fds_close(struct fds *);

/*
 * The sender: list descriptors, which stay the caller's, in the order in which
 * the receiver is to get them. Free the list with fds_free.
 */
void fds_add(struct fds *, int fd, const char *name);
void fds_free(struct fds *);

/*
 * In the child, between fork and exec: move the descriptors to 3, 4, …, mark all
 * above as close-on-exec, and set the environment. 0, or -1 with errno.
 */
int fds_pass(const struct fds *);

#endif
