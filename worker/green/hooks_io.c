/*
 * Reading and writing: try without blocking; when the kernel says "not yet" and the
 * caller would have blocked, wait for the descriptor and try again.
 *
 * What a blocking call promises is kept: MSG_WAITALL and sends of a stream go on until all
 * is done, O_NONBLOCK and MSG_DONTWAIT give EAGAIN, SO_RCVTIMEO and SO_SNDTIMEO end
 * the wait with EAGAIN, what was transferred before an error is returned as a short count.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "worker/green/offloaded.h"

/* One call's state: what it waits for. */
struct io {
	int fd;
	int events;
	int flags;    /* MSG_*; 0 for read and write */
	bool checked; /* the next two are known */
	bool nonblocking;
	int64_t deadline;
	bool no_event; /* nothing tells when to go on: see addressed() */
	unsigned round;
};

/* Asked only once a call could not go on: most never get here. */
static void
io_check(struct io *io)
{
	if (io->checked)
		return;
	io->checked = true;
	/* urgent data and the queue of errors are never waited for (recv(2)) */
	io->nonblocking = (io->flags & MSG_DONTWAIT) != 0 ||
			  (io->events == GREEN_READ && (io->flags & (MSG_OOB | MSG_ERRQUEUE))) ||
			  fd_is_nonblocking(io->fd);
	if (!io->nonblocking)
		io->deadline =
		    green_fd_deadline(io->fd, io->events == GREEN_READ ? SO_RCVTIMEO : SO_SNDTIMEO);
}

/* After EAGAIN: 0 to try again, -1 with errno as the real call would have it. */
static int
io_wait(struct io *io)
{
	io_check(io);
	if (io->nonblocking) {
		errno = EAGAIN;
		return -1;
	}
	if (io->no_event) {
		if (hook_pause(&io->round, io->deadline))
			return 0;
		errno = ETIMEDOUT;
	} else if (green_fd_wait_interruptibly(io->fd, io->events, io->deadline) == 0)
		return 0;
	if (errno == ETIMEDOUT)
		errno = EAGAIN;
	return -1;
}

static bool
would_block(void)
{
	return errno == EAGAIN || errno == EWOULDBLOCK;
}

static bool
is_stream(int fd)
{
	int type = 0;
	socklen_t len = sizeof(type);

	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM;
}

/* ---- lists of buffers ---- */

/* A copy that can be advanced; small ones need no memory. */
struct iovs {
	struct iovec few[8], *v;
	size_t n;
};

static int
iovs_init(struct iovs *s, const struct iovec *iov, size_t n)
{
	s->v = s->few;
	s->n = n;
	if (n > IOV_MAX) {
		errno = EINVAL;
		return -1;
	}
	if (n > 8 && (s->v = calloc(n, sizeof(*iov))) == NULL)
		return -1;
	if (n > 0)
		memcpy(s->v, iov, n * sizeof(*iov));
	return 0;
}

static void
iovs_fini(struct iovs *s)
{
	int saved = errno;

	if (s->v != s->few)
		free(s->v);
	errno = saved;
}

static size_t
iov_total(const struct iovec *iov, size_t n)
{
	size_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += iov[i].iov_len;
	return sum;
}

void
green_msg_advance(struct msghdr *msg, size_t n)
{
	while (msg->msg_iovlen > 0 && n >= msg->msg_iov->iov_len) {
		n -= msg->msg_iov->iov_len;
		msg->msg_iov++;
		msg->msg_iovlen--;
	}
	if (msg->msg_iovlen > 0) {
		msg->msg_iov->iov_base = (char *)msg->msg_iov->iov_base + n;
		msg->msg_iov->iov_len -= n;
	}
}

/* ---- receiving ---- */

/* MSG_WAITALL on a stream: the rest of what was asked for, after `done` bytes. */
static ssize_t
recv_rest(struct io *io, char *buf, size_t n, ssize_t done)
{
	io_check(io);
	while (done > 0 && (size_t)done < n && !io->nonblocking) {
		ssize_t r =
		    REAL(recv)(io->fd, buf + done, n - (size_t)done, io->flags | MSG_DONTWAIT);

		if (r > 0)
			done += r;
		else if (r == 0 || !would_block() || io_wait(io) == -1)
			break;
	}
	return done;
}

static bool
wants_all(const struct io *io)
{
	return (io->flags & MSG_WAITALL) && !(io->flags & (MSG_PEEK | MSG_ERRQUEUE)) &&
	       is_stream(io->fd);
}

HOOK ssize_t
recvfrom(int fd, void *buf, size_t n, int flags, struct sockaddr *from, socklen_t *len)
{
	struct io io = {.fd = fd, .events = GREEN_READ, .flags = flags};
	ssize_t r;

	if (!on_green())
		return REAL(recvfrom)(fd, buf, n, flags, from, len);
	while ((r = REAL(recvfrom)(fd, buf, n, flags | MSG_DONTWAIT, from, len)) == -1 &&
	       would_block())
		if (io_wait(&io) == -1)
			return -1;
	if (r > 0 && (size_t)r < n && wants_all(&io))
		r = recv_rest(&io, buf, n, r);
	return r;
}

HOOK ssize_t
recv(int fd, void *buf, size_t n, int flags)
{
	struct io io = {.fd = fd, .events = GREEN_READ, .flags = flags};
	ssize_t r;

	if (!on_green())
		return REAL(recv)(fd, buf, n, flags);
	while ((r = REAL(recv)(fd, buf, n, flags | MSG_DONTWAIT)) == -1 && would_block())
		if (io_wait(&io) == -1)
			return -1;
	if (r > 0 && (size_t)r < n && wants_all(&io))
		r = recv_rest(&io, buf, n, r);
	return r;
}

/* The same with several buffers; what came with the first bytes (addresses, descriptors) stays. */
static ssize_t
recvmsg_rest(struct io *io, const struct msghdr *msg, ssize_t done)
{
	struct msghdr rest = {0};
	struct iovs iovs;

	if (iovs_init(&iovs, msg->msg_iov, msg->msg_iovlen) == -1)
		return done;
	rest.msg_iov = iovs.v;
	rest.msg_iovlen = iovs.n;
	green_msg_advance(&rest, (size_t)done);
	io_check(io);
	while (rest.msg_iovlen > 0 && !io->nonblocking) {
		ssize_t r = REAL(recvmsg)(io->fd, &rest, io->flags | MSG_DONTWAIT);

		if (r > 0) {
			done += r;
			green_msg_advance(&rest, (size_t)r);
		} else if (r == 0 || !would_block() || io_wait(io) == -1)
			break;
	}
	iovs_fini(&iovs);
	return done;
}

HOOK ssize_t
recvmsg(int fd, struct msghdr *msg, int flags)
{
	struct io io = {.fd = fd, .events = GREEN_READ, .flags = flags};
	ssize_t r;

	if (!on_green())
		return REAL(recvmsg)(fd, msg, flags);
	while ((r = REAL(recvmsg)(fd, msg, flags | MSG_DONTWAIT)) == -1 && would_block())
		if (io_wait(&io) == -1)
			return -1;
	if (r > 0 && (size_t)r < iov_total(msg->msg_iov, msg->msg_iovlen) && wants_all(&io))
		r = recvmsg_rest(&io, msg, r);
	return r;
}

/* Blocks for the first message, or, without MSG_WAITFORONE, until all have come or the time is up.
 */
HOOK int
recvmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags, struct timespec *timeout)
{
	struct io io = {.fd = fd, .events = GREEN_READ, .flags = flags};
	int64_t until;
	unsigned got = 0;
	int r;

	if (!on_green())
		return REAL(recvmmsg)(fd, msgs, n, flags, timeout);
	if (timeout != NULL && (timeout->tv_sec < 0 || !timespec_valid(timeout))) {
		errno = EINVAL;
		return -1;
	}
	if (n > IOV_MAX) /* as the kernel does */
		n = IOV_MAX;
	until = timeout == NULL ? GREEN_NEVER : green_deadline(timespec_ns(timeout));
	while (got < n) {
		r = REAL(recvmmsg)(fd, msgs + got, n - got, flags | MSG_DONTWAIT, NULL);
		if (r > 0)
			got += (unsigned)r;
		if (r == -1 && !would_block())
			break;
		if (got == n || (got > 0 && (flags & MSG_WAITFORONE)) || green_now() >= until)
			break;
		io_check(&io);
		if (until < io.deadline)
			io.deadline = until;
		if (io_wait(&io) == -1)
			break;
	}
	if (got > 0 && timeout != NULL) {
		int64_t left = until - green_now();
		*timeout = timespec_of(left > 0 ? left : 0);
	}
	return got > 0 || n == 0 ? (int)got : -1;
}

/* ---- sending ---- */

/* A datagram to a unix socket whose queue is full: our own socket is writable all the time. */
static bool
addressed(const struct sockaddr *to)
{
	return to != NULL && to->sa_family == AF_UNIX;
}

/* After the first part an error is told by the next call, and no SIGPIPE raised. */
static int
part_flags(const struct io *io, size_t done)
{
	return io->flags | MSG_DONTWAIT | (done > 0 ? MSG_NOSIGNAL : 0);
}

HOOK ssize_t
sendto(int fd, const void *buf, size_t n, int flags, const struct sockaddr *to, socklen_t len)
{
	struct io io = {.fd = fd, .events = GREEN_WRITE, .flags = flags};
	size_t done = 0;

	if (!on_green())
		return REAL(sendto)(fd, buf, n, flags, to, len);
	io.no_event = addressed(to);
	for (;;) {
		ssize_t r = REAL(sendto)(
		    fd, (const char *)buf + done, n - done, part_flags(&io, done), to, len);

		if (r >= 0 && (done += (size_t)r) >= n)
			return (ssize_t)done;
		if (r == -1 && !would_block())
			break;
		io_check(&io);
		if ((r >= 0 && io.nonblocking) || (r == -1 && io_wait(&io) == -1))
			break;
	}
	return done > 0 ? (ssize_t)done : -1;
}

HOOK ssize_t
send(int fd, const void *buf, size_t n, int flags)
{
	if (!on_green())
		return REAL(send)(fd, buf, n, flags);
	return sendto(fd, buf, n, flags, NULL, 0);
}

/* After a partial send: the rest, without the control data, which went with the first part. */
static ssize_t
sendmsg_rest(struct io *io, const struct msghdr *msg, ssize_t done)
{
	struct msghdr rest = *msg;
	struct iovs iovs;

	io_check(io);
	if (io->nonblocking || iovs_init(&iovs, msg->msg_iov, msg->msg_iovlen) == -1)
		return done;
	rest.msg_control = NULL;
	rest.msg_controllen = 0;
	rest.msg_iov = iovs.v;
	green_msg_advance(&rest, (size_t)done);
	while (rest.msg_iovlen > 0) {
		ssize_t r = REAL(sendmsg)(io->fd, &rest, part_flags(io, 1));

		if (r >= 0) {
			done += r;
			green_msg_advance(&rest, (size_t)r);
		} else if (!would_block() || io_wait(io) == -1)
			break;
	}
	iovs_fini(&iovs);
	return done;
}

HOOK ssize_t
sendmsg(int fd, const struct msghdr *msg, int flags)
{
	struct io io = {.fd = fd, .events = GREEN_WRITE, .flags = flags};
	ssize_t r;

	if (!on_green())
		return REAL(sendmsg)(fd, msg, flags);
	io.no_event = addressed(msg->msg_name);
	while ((r = REAL(sendmsg)(fd, msg, flags | MSG_DONTWAIT)) == -1 && would_block())
		if (io_wait(&io) == -1)
			return -1;
	if (r >= 0 && (size_t)r < iov_total(msg->msg_iov, msg->msg_iovlen))
		r = sendmsg_rest(&io, msg, r);
	return r;
}

HOOK int
sendmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
	unsigned sent = 0;

	if (!on_green())
		return REAL(sendmmsg)(fd, msgs, n, flags);
	if (n > IOV_MAX) /* as the kernel does */
		n = IOV_MAX;
	while (sent < n) {
		ssize_t r = sendmsg(fd, &msgs[sent].msg_hdr, flags);

		if (r == -1)
			break;
		msgs[sent++].msg_len = (unsigned)r;
	}
	return sent > 0 || n == 0 ? (int)sent : -1;
}

/*
 * ---- read and write: any descriptor ----
 *
 * What has O_NONBLOCK and what is a regular file goes to the real call; sockets have
 * MSG_DONTWAIT. For the others (pipes, terminals, eventfd, …) there is RWF_NOWAIT, which costs more
 * than the plain call.
 */

/* From this size on a file's read is worth asking what is in memory. */
#define BIG_READ (64 * 1024)

static bool
poll_now(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};

	return REAL(poll)(&p, 1, 0) != 0;
}

/* The kernel or the descriptor does not know RWF_NOWAIT: terminals, pipes before Linux 6.4, … */
static bool
nowait_unknown(int fd, int event)
{
	if (errno != EOPNOTSUPP && errno != ENOSYS)
		return false;
	green_fd_set_no_nowait(fd, event);
	return true;
}

static ssize_t
readv_stream(int fd, const struct iovec *iov, int n)
{
	struct io io = {.fd = fd, .events = GREEN_READ};
	ssize_t r;

	while (!green_fd_no_nowait(fd, GREEN_READ)) {
		r = REAL(preadv2)(fd, iov, n, -1, RWF_NOWAIT);
		if (r >= 0)
			return r;
		if (nowait_unknown(fd, GREEN_READ))
			break;
		if (!would_block() || io_wait(&io) == -1)
			return -1;
	}
	while (!poll_now(fd, POLLIN))
		if (io_wait(&io) == -1)
			return -1;
	return REAL(readv)(fd, iov, n);
}

OFFLOADED_CALL(hook_offload, ssize_t, -1, readv, 3, int, fd, const struct iovec *, iov, int, n)

/* What is in memory at once; a helper reads what is not, since the disk takes its time. */
static ssize_t
readv_file(int fd, const struct iovec *iov, int n)
{
	struct msghdr rest = {0};
	struct iovs iovs;
	ssize_t r, done = 0;

	if (iovs_init(&iovs, iov, (size_t)n) == -1)
		return -1;
	rest.msg_iov = iovs.v;
	rest.msg_iovlen = iovs.n;
	do {
		r = REAL(preadv2)(fd, rest.msg_iov, (int)rest.msg_iovlen, -1, RWF_NOWAIT);
		if (r == -1 && would_block())
			r = readv_offloaded(fd, rest.msg_iov, (int)rest.msg_iovlen);
		else if (r == -1 && nowait_unknown(fd, GREEN_READ))
			r = REAL(readv)(fd, rest.msg_iov, (int)rest.msg_iovlen);
		if (r > 0) {
			done += r;
			green_msg_advance(&rest, (size_t)r);
		}
	} while (r > 0 && rest.msg_iovlen > 0);
	iovs_fini(&iovs);
	return done > 0 ? done : r;
}

static ssize_t
green_readv(int fd, const struct iovec *iov, int n)
{
	struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)n};
	size_t total = n > 0 && n <= IOV_MAX ? iov_total(iov, (size_t)n) : 0;

	if (total == 0 || green_fd_is_nonblocking_known(fd))
		return REAL(readv)(fd, iov, n);
	switch (green_fd_kind(fd)) {
	case FD_FILE:
		return total < BIG_READ ? REAL(readv)(fd, iov, n) : readv_file(fd, iov, n);
	case FD_SOCKET:
		return recvmsg(fd, &msg, 0);
	default:
		return readv_stream(fd, iov, n);
	}
}

HOOK ssize_t
readv(int fd, const struct iovec *iov, int n)
{
	return on_green() ? green_readv(fd, iov, n) : REAL(readv)(fd, iov, n);
}

static ssize_t
green_read(int fd, void *buf, size_t n)
{
	struct iovec iov = {buf, n};
	enum fd_kind kind;

	if (n == 0 || green_fd_is_nonblocking_known(fd))
		return REAL(read)(fd, buf, n);
	kind = green_fd_kind(fd);
	if (kind == FD_SOCKET)
		return recv(fd, buf, n, 0);
	if (kind == FD_FILE)
		return n < BIG_READ ? REAL(read)(fd, buf, n) : readv_file(fd, &iov, 1);
	return readv_stream(fd, &iov, 1);
}

HOOK ssize_t
read(int fd, void *buf, size_t n)
{
	return on_green() ? green_read(fd, buf, n) : REAL(read)(fd, buf, n);
}

/*
 * Without RWF_NOWAIT: a pipe that is writable has room for one page, and more could block, so it
 * goes in pieces. Others (terminals, devices) take what they are given.
 */
static ssize_t
writev_polled(struct io *io, const struct iovec *iov, int n)
{
	while (!poll_now(io->fd, POLLOUT))
		if (io_wait(io) == -1)
			return -1;
	while (n > 1 && iov->iov_len == 0) {
		iov++;
		n--;
	}
	if (green_fd_kind(io->fd) != FD_PIPE)
		return REAL(writev)(io->fd, iov, n);
	return REAL(write)(
	    io->fd, iov->iov_base, iov->iov_len < PIPE_BUF ? iov->iov_len : PIPE_BUF);
}

/* One step: what could be written now, after waiting for room for some. */
static ssize_t
writev_some(struct io *io, const struct iovec *iov, int n)
{
	ssize_t r;

	while (!green_fd_no_nowait(io->fd, GREEN_WRITE)) {
		r = REAL(pwritev2)(io->fd, iov, n, -1, RWF_NOWAIT);
		if (r >= 0)
			return r;
		if (nowait_unknown(io->fd, GREEN_WRITE))
			break;
		if (!would_block() || io_wait(io) == -1)
			return -1;
	}
	return writev_polled(io, iov, n);
}

static ssize_t
writev_stream(int fd, const struct iovec *iov, int n)
{
	struct io io = {.fd = fd, .events = GREEN_WRITE};
	struct msghdr rest = {0};
	struct iovs iovs;
	ssize_t r, done = 0;

	r = writev_some(&io, iov, n);
	if (r < 0 || (size_t)r == iov_total(iov, (size_t)n))
		return r;
	/* short: a call that blocks goes on */
	io_check(&io);
	if (io.nonblocking || iovs_init(&iovs, iov, (size_t)n) == -1)
		return r;
	rest.msg_iov = iovs.v;
	rest.msg_iovlen = iovs.n;
	while (r > 0) {
		done += r;
		green_msg_advance(&rest, (size_t)r);
		if (rest.msg_iovlen == 0)
			break;
		r = writev_some(&io, rest.msg_iov, (int)rest.msg_iovlen);
	}
	iovs_fini(&iovs);
	return done;
}

static ssize_t
green_writev(int fd, const struct iovec *iov, int n)
{
	struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)n};
	size_t total = n > 0 && n <= IOV_MAX ? iov_total(iov, (size_t)n) : 0;
	enum fd_kind kind;

	if (total == 0 || green_fd_is_nonblocking_known(fd) ||
	    (kind = green_fd_kind(fd)) == FD_FILE)
		return REAL(writev)(fd, iov, n);
	return kind == FD_SOCKET ? sendmsg(fd, &msg, 0) : writev_stream(fd, iov, n);
}

HOOK ssize_t
writev(int fd, const struct iovec *iov, int n)
{
	return on_green() ? green_writev(fd, iov, n) : REAL(writev)(fd, iov, n);
}

static ssize_t
green_write(int fd, const void *buf, size_t n)
{
	struct iovec iov = {(void *)(uintptr_t)buf, n};
	enum fd_kind kind;

	if (n == 0 || green_fd_is_nonblocking_known(fd) || (kind = green_fd_kind(fd)) == FD_FILE)
		return REAL(write)(fd, buf, n);
	return kind == FD_SOCKET ? sendto(fd, buf, n, 0, NULL, 0) : writev_stream(fd, &iov, 1);
}

HOOK ssize_t
write(int fd, const void *buf, size_t n)
{
	return on_green() ? green_write(fd, buf, n) : REAL(write)(fd, buf, n);
}

/* ---- other forms of the same ---- */

/* At the offset -1 they are readv and writev (preadv2(2)), for pipes and sockets, too. */
HOOK ssize_t
preadv2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	return on_green() && offset == -1 && flags == 0 ? green_readv(fd, iov, n)
							: REAL(preadv2)(fd, iov, n, offset, flags);
}

HOOK ssize_t
pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	return on_green() && offset == -1 && flags == 0 ? green_writev(fd, iov, n)
							: REAL(pwritev2)(fd, iov, n, offset, flags);
}

HOOK int
eventfd_read(int fd, eventfd_t *value)
{
	return read(fd, value, sizeof(*value)) == (ssize_t)sizeof(*value) ? 0 : -1;
}

HOOK int
eventfd_write(int fd, eventfd_t value)
{
	return write(fd, &value, sizeof(value)) == (ssize_t)sizeof(value) ? 0 : -1;
}

HOOK_ALIAS(preadv64v2, preadv2)
HOOK_ALIAS(pwritev64v2, pwritev2)
HOOK_ALIAS(__read, read)
HOOK_ALIAS(__write, write)
HOOK_ALIAS(__send, send)

/* The fortified ones, which callers built with _FORTIFY_SOURCE use. */
ssize_t __read_chk(int fd, void *buf, size_t n, size_t size);
ssize_t __recv_chk(int fd, void *buf, size_t n, size_t size, int flags);
ssize_t __recvfrom_chk(
    int fd, void *buf, size_t n, size_t size, int flags, struct sockaddr *from, socklen_t *len);

HOOK ssize_t
__read_chk(int fd, void *buf, size_t n, size_t size)
{
	if (n > size)
		__chk_fail();
	return read(fd, buf, n);
}

HOOK ssize_t
__recv_chk(int fd, void *buf, size_t n, size_t size, int flags)
{
	if (n > size)
		__chk_fail();
	return recv(fd, buf, n, flags);
}

HOOK ssize_t
__recvfrom_chk(
    int fd, void *buf, size_t n, size_t size, int flags, struct sockaddr *from, socklen_t *len)
{
	if (n > size)
		__chk_fail();
	return recvfrom(fd, buf, n, flags, from, len);
}
