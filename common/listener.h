/* Listening sockets: bound by the master, inherited by the workers. */
#ifndef COMMON_LISTENER_H
#define COMMON_LISTENER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "common/address.h"

struct listener {
	int fd; /* owned; listening, non-blocking, close-on-exec */
	struct address address;
	char text[ADDRESS_TEXT_SIZE]; /* http://127.0.0.1:8000, unix:/path */
	char server_name[64];         /* SERVER_NAME; "" on a unix socket */
	char server_port[8];          /* SERVER_PORT; likewise */
	bool inherited;               /* not bound by us: nor do we unlink it */
	dev_t dev;                    /* the socket file that we made, to unlink no other */
	ino_t ino;
};

struct listener_options {
	int backlog;
	bool reuse_port; /* other servers may have the address, too: SO_REUSEPORT, socket(7) */
	mode_t umask;    /* of a unix socket's file */
	uid_t uid;       /* its owner; -1: whoever we are */
	gid_t gid;
};

/*
 * Bind and listen. A unix socket that nobody listens on any more is replaced. 0, or -1 with errno
 * (EADDRINUSE, EACCES, ENOTSOCK: the path is another kind of file, …).
 */
int listener_open(struct listener *, const struct address *, const struct listener_options *);

/*
 * Take over a listening socket (systemd's, the master's) and learn its address.
 * Owned from here on in success only. 0, or -1 with errno: ENOTSOCK, EINVAL when it
 * does not listen, EAFNOSUPPORT.
 */
int listener_adopt(struct listener *, int fd);

/*
 * An adopted one that an earlier process of ours bound: listener_unlink may remove its file. 0, or
 * -1 with errno for a unix socket whose file is gone: nobody can connect to it any more.
 */
int listener_own(struct listener *);

/* Close, but leave a unix socket's file: others listen on it still. */
void listener_close(struct listener *);

/* Remove the file of a unix socket, if it is the one that we made. */
void listener_unlink(struct listener *);

#endif
