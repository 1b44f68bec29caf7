/*
 * poll, select, epoll_wait and their kin: ask the kernel without waiting; when nothing is
 * ready, wait for an edge on any of the descriptors and ask again.
 *
 * The signal masks of the p-forms are not applied while a green thread waits: the mask
 * belongs to the OS thread, which runs others meanwhile (docs/architecture.md).
 */
#include <stdlib.h>
#include <string.h>

#include "worker/green/hooks.h"

static int
green_poll(struct pollfd *fds, nfds_t n, int64_t deadline)
{
	int rc;

	while ((rc = REAL(poll)(fds, n, 0)) == 0)
		if (green_fd_wait_any(fds, n, deadline) == -1)
			return errno == ETIMEDOUT ? REAL(poll)(fds, n, 0) : -1;
	return rc;
}

static int64_t
deadline_ms(int timeout)
{
	return timeout < 0 ? GREEN_NEVER : green_deadline((int64_t)timeout * 1000000);
}

HOOK int
poll(struct pollfd *fds, nfds_t n, int timeout)
{
	if (!on_green() || timeout == 0)
		return REAL(poll)(fds, n, timeout);
	return green_poll(fds, n, deadline_ms(timeout));
}

HOOK int
ppoll(struct pollfd *fds, nfds_t n, const struct timespec *ts, const sigset_t *mask)
{
	if (!on_green() || (ts != NULL && (ts->tv_sec < 0 || !timespec_valid(ts))))
		return REAL(ppoll)(fds, n, ts, mask);
	return green_poll(fds, n, ts == NULL ? GREEN_NEVER : green_deadline(timespec_ns(ts)));
}

int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size);
int __ppoll_chk(
    struct pollfd *fds, nfds_t n, const struct timespec *ts, const sigset_t *mask, size_t size);

HOOK int
__poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size)
{
	if (size / sizeof(*fds) < n)
		__chk_fail();
	return poll(fds, n, timeout);
}

HOOK int
__ppoll_chk(
    struct pollfd *fds, nfds_t n, const struct timespec *ts, const sigset_t *mask, size_t size)
{
	if (size / sizeof(*fds) < n)
		__chk_fail();
	return ppoll(fds, n, ts, mask);
}

HOOK_ALIAS(__poll, poll)

/* ---- select: the kernel's own on copies of the sets, poll's lists for the wait ---- */

/* Three sets as given; Linux takes sets larger than FD_SETSIZE, so they are counted in bytes. */
struct sets {
	fd_set *user[3], *asked[3];
	size_t bytes; /* of each */
	void *memory; /* owned: asked[0], [1], [2] */
};

static int
sets_init(struct sets *s, int n, fd_set *r, fd_set *w, fd_set *x)
{
	size_t word = 8 * sizeof(long);

	s->user[0] = r;
	s->user[1] = w;
	s->user[2] = x;
	s->bytes = ((size_t)n + word - 1) / word * sizeof(long);
	s->memory = calloc(3, s->bytes + 1);
	if (s->memory == NULL)
		return -1;
	for (int i = 0; i < 3; i++) {
		s->asked[i] = (fd_set *)((char *)s->memory + (size_t)i * s->bytes);
		if (s->user[i] != NULL)
			memcpy(s->asked[i], s->user[i], s->bytes);
	}
	return 0;
}

/* select(2) without waiting, into the user's sets. */
static int
sets_try(struct sets *s, int n)
{
	struct timeval zero = {0, 0};

	for (int i = 0; i < 3; i++)
		if (s->user[i] != NULL)
			memcpy(s->user[i], s->asked[i], s->bytes);
	return REAL(select)(n, s->user[0], s->user[1], s->user[2], &zero);
}

static bool
sets_has(const struct sets *s, int i, int fd)
{
	const unsigned long *words = (const unsigned long *)(const void *)s->asked[i];
	size_t bits = 8 * sizeof(long);

	return s->user[i] != NULL && (words[(size_t)fd / bits] >> ((size_t)fd % bits)) & 1;
}

/* The same descriptors as a list for poll: *list is owned by the caller. */
static int
sets_list(const struct sets *s, int n, struct pollfd **list)
{
	static const short events[3] = {POLLIN, POLLOUT, POLLPRI};
	nfds_t count = 0;

	*list = calloc((size_t)n + 1, sizeof(**list));
	if (*list == NULL)
		return -1;
	for (int fd = 0; fd < n; fd++) {
		short wanted = 0;

		for (int i = 0; i < 3; i++)
			if (sets_has(s, i, fd))
				wanted |= events[i];
		if (wanted != 0)
			(*list)[count++] = (struct pollfd){.fd = fd, .events = wanted};
	}
	return (int)count;
}

static int
green_select(int n, fd_set *r, fd_set *w, fd_set *x, int64_t deadline)
{
	struct pollfd *list = NULL;
	struct sets s;
	int rc, count;

	if (sets_init(&s, n, r, w, x) == -1)
		return -1;
	rc = sets_try(&s, n);
	count = rc == 0 ? sets_list(&s, n, &list) : 0;
	if (count == -1)
		rc = -1;
	/* select's own view decides: poll tells of hang-ups that are none of select's sets' */
	while (rc == 0) {
		bool over = green_fd_wait_any(list, (nfds_t)count, deadline) == -1;

		if (over && errno != ETIMEDOUT)
			rc = -1;
		else
			rc = sets_try(&s, n);
		if (over)
			break;
	}
	free(list);
	free(s.memory);
	return rc;
}

HOOK int
select(int n, fd_set *r, fd_set *w, fd_set *x, struct timeval *tv)
{
	int64_t deadline = GREEN_NEVER, left;
	int rc;

	if (!on_green() || n < 0 || (tv != NULL && (tv->tv_sec < 0 || tv->tv_usec < 0)))
		return REAL(select)(n, r, w, x, tv);
	if (tv != NULL)
		deadline =
		    green_deadline((int64_t)tv->tv_sec * 1000000000 + (int64_t)tv->tv_usec * 1000);
	rc = green_select(n, r, w, x, deadline);
	if (tv != NULL) { /* Linux tells how much was left */
		left = deadline - green_now();
		left = left < 0 ? 0 : left / 1000;
		*tv = (struct timeval){left / 1000000, left % 1000000};
	}
	return rc;
}

HOOK int
pselect(int n, fd_set *r, fd_set *w, fd_set *x, const struct timespec *ts, const sigset_t *mask)
{
	if (!on_green() || n < 0 || (ts != NULL && (ts->tv_sec < 0 || !timespec_valid(ts))))
		return REAL(pselect)(n, r, w, x, ts, mask);
	return green_select(n, r, w, x, ts == NULL ? GREEN_NEVER : green_deadline(timespec_ns(ts)));
}

HOOK_ALIAS(__select, select)

/* ---- epoll: an epoll set is itself a descriptor that becomes readable ---- */

/* Event loops in C (libev, libuv) abort when it fails: interrupted only for the interpreter itself.
 */
static int
green_epoll(int fd, struct epoll_event *events, int n, int64_t deadline)
{
	int (*wait)(int, int, int64_t) =
	    green_tls_self->expects_interrupts ? green_fd_wait_interruptibly : green_fd_wait;
	int rc;

	while ((rc = REAL(epoll_wait)(fd, events, n, 0)) == 0)
		if (wait(fd, GREEN_READ, deadline) == -1)
			return errno == ETIMEDOUT ? REAL(epoll_wait)(fd, events, n, 0) : -1;
	return rc;
}

/*
 * An event loop that does not wait has tasks that are ready: asyncio.sleep(0) and gevent.sleep(0)
 * mean that others shall have their turn. Other requests are among them.
 */
static bool
green_epoll_waits(int timeout)
{
	if (!on_green())
		return false;
	if (timeout == 0)
		green_yield();
	return timeout != 0;
}

HOOK int
epoll_wait(int fd, struct epoll_event *events, int n, int timeout)
{
	if (!green_epoll_waits(timeout))
		return REAL(epoll_wait)(fd, events, n, timeout);
	return green_epoll(fd, events, n, deadline_ms(timeout));
}

HOOK int
epoll_pwait(int fd, struct epoll_event *events, int n, int timeout, const sigset_t *mask)
{
	if (!green_epoll_waits(timeout))
		return REAL(epoll_pwait)(fd, events, n, timeout, mask);
	return green_epoll(fd, events, n, deadline_ms(timeout));
}

HOOK int
epoll_pwait2(
    int fd, struct epoll_event *events, int n, const struct timespec *ts, const sigset_t *mask)
{
	if (!on_green() || (ts != NULL && (ts->tv_sec < 0 || !timespec_valid(ts))))
		return REAL(epoll_pwait2)(fd, events, n, ts, mask);
	return green_epoll(
	    fd, events, n, ts == NULL ? GREEN_NEVER : green_deadline(timespec_ns(ts)));
}
