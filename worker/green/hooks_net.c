/* Connecting and accepting. */
#include "worker/green/offloaded.h"

/* ---- connect and accept ---- */

/* The connection is being made: wait for its outcome. */
static int
connect_finish(int fd, int64_t deadline)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	int err = 0;
	socklen_t len = sizeof(err);

	while (REAL(poll)(&p, 1, 0) == 0)
		if (green_fd_wait_interruptibly(fd, GREEN_WRITE, deadline) == -1) {
			if (errno == ETIMEDOUT)
				errno = EINPROGRESS; /* what SO_SNDTIMEO gives (socket(7)) */
			return -1;
		}
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) == -1)
		return -1;
	if (err != 0) {
		errno = err;
		return -1;
	}
	return 0;
}

/* One try that cannot block: there is no MSG_DONTWAIT for connect. */
static int
connect_nonblocking(int fd, int flags, const struct sockaddr *addr, socklen_t len)
{
	int rc, saved;

	if (REAL(fcntl)(fd, F_SETFL, flags | O_NONBLOCK) == -1)
		return -1;
	rc = REAL(connect)(fd, addr, len);
	saved = errno;
	(void)REAL(fcntl)(fd, F_SETFL, flags);
	errno = saved;
	return rc;
}

HOOK int
connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	int64_t deadline;
	unsigned round = 0;
	int flags;

	if (!on_green() || (flags = green_fd_flags(fd)) == -1 || (flags & O_NONBLOCK))
		return REAL(connect)(fd, addr, len);
	deadline = green_fd_deadline(fd, SO_SNDTIMEO);
	for (;;) {
		if (connect_nonblocking(fd, flags, addr, len) == 0)
			return 0;
		if (errno == EINPROGRESS || errno == EALREADY)
			return connect_finish(fd, deadline);
		/* a unix socket's queue is full: nothing tells when it no longer is */
		if (errno != EAGAIN || addr->sa_family != AF_UNIX || !hook_pause(&round, deadline))
			return -1;
	}
}

/* ---- accept: there is no MSG_DONTWAIT for it either ---- */

OFFLOADED_CALL(hook_offload, int, -1, accept4, 4, int, fd, struct sockaddr *, addr, socklen_t *,
    len, int, flags)

/* Of another socket the real call says at once what is wrong. */
static bool
listens(int fd)
{
	int yes = 0;
	socklen_t len = sizeof(yes);

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &yes, &len) == 0 && yes;
}

/*
 * Wait until there is somebody. The call itself is a helper's: another process may be quicker, and
 * it would wait for the next.
 */
static int
green_accept(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int64_t deadline;

	if (fd_is_nonblocking(fd) || !listens(fd))
		return REAL(accept4)(fd, addr, len, flags);
	deadline = green_fd_deadline(fd, SO_RCVTIMEO);
	while (REAL(poll)(&p, 1, 0) == 0) {
		if (green_fd_wait_interruptibly(fd, GREEN_READ, deadline) == 0)
			continue;
		if (errno == ETIMEDOUT)
			errno = EAGAIN;
		return -1;
	}
	return accept4_offloaded(fd, addr, len, flags);
}

HOOK int
accept(int fd, struct sockaddr *addr, socklen_t *len)
{
	return on_green() ? green_accept(fd, addr, len, 0) : REAL(accept)(fd, addr, len);
}

HOOK int
accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	return on_green() ? green_accept(fd, addr, len, flags)
			  : REAL(accept4)(fd, addr, len, flags);
}

HOOK_ALIAS(__connect, connect)
