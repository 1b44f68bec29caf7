/*
 * Waiting for descriptors. Each descriptor has an entry in a table; the first
 * wait registers it with the event loop once, for reading and writing, edge-
 * triggered, and the registration stays until the descriptor is closed. Who
 * waits has tried the call before and tries it again afterwards, so an edge that came
 * in between only costs one more try.
 *
 * A close is seen by the hooks (hooks_fd.c). On another OS thread it may not touch the event
 * loop: it marks the entry and leaves the rest to the loop.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "worker/green/internal.h"
#include "worker/green/real.h"

/* fs.nr_open's usual limit: 1,048,576 descriptors, in chunks made when one of them waits. */
#define CHUNK   1024
#define NCHUNKS 1024

/* One green thread's wait for one descriptor; on its stack. */
struct fd_waiter {
	TAILQ_ENTRY(fd_waiter) link;
	struct green *green;
	int events; /* GREEN_READ, GREEN_WRITE */
	bool ready, closed;
};

/* What is known of a descriptor; of an older epoch: nothing. */
struct fd_known {
	_Atomic uint64_t epoch;
	unsigned has;
	enum fd_kind kind;
	int flags;
	int64_t limit[2]; /* SO_RCVTIMEO, SO_SNDTIMEO; GREEN_NEVER */
};
enum { KNOW_KIND = 1, KNOW_FLAGS = 2, KNOW_LIMITS = 4, NO_NOWAIT = 8 /* and 16: by event */ };

struct fd_entry {
	struct event event;
	struct fd_known known; /* the green threads' */
	TAILQ_HEAD(, fd_waiter) waiters;
	void (*watch)(int fd, int events, void *arg);
	void *watch_arg;
	_Atomic bool own; /* not for forked children */
	_Atomic bool registered;
	_Atomic bool stale;  /* closed on another OS thread, not yet taken down */
	_Atomic bool listed; /* on closed_list */
	_Atomic(struct fd_entry *) closed_next;
};

static _Atomic(struct fd_entry *) chunks[NCHUNKS];
static _Atomic(struct fd_entry *) closed_list;
static _Atomic uint64_t epoch = 1;

/* The entry if there has ever been one; from any OS thread. */
static struct fd_entry *
entry_peek(int fd)
{
	struct fd_entry *chunk;

	if (fd < 0 || fd >= CHUNK * NCHUNKS)
		return NULL;
	chunk = atomic_load_explicit(&chunks[fd / CHUNK], memory_order_acquire);
	return chunk == NULL ? NULL : &chunk[fd % CHUNK];
}

static struct fd_entry *
entry_get(int fd)
{
	struct fd_entry *chunk;

	if (fd < 0 || fd >= CHUNK * NCHUNKS) {
		errno = fd < 0 ? EBADF : ENOMEM;
		return NULL;
	}
	if (atomic_load_explicit(&chunks[fd / CHUNK], memory_order_acquire) == NULL) {
		chunk = calloc(CHUNK, sizeof(*chunk));
		if (chunk == NULL)
			return NULL;
		for (int i = 0; i < CHUNK; i++)
			TAILQ_INIT(&chunk[i].waiters);
		atomic_store_explicit(&chunks[fd / CHUNK], chunk, memory_order_release);
	}
	return entry_peek(fd);
}

void
green_fd_fini(void)
{
	for (int i = 0; i < NCHUNKS; i++) {
		struct fd_entry *chunk = atomic_exchange(&chunks[i], NULL);

		for (int j = 0; chunk != NULL && j < CHUNK; j++)
			if (atomic_load(&chunk[j].registered))
				event_del(&chunk[j].event);
		free(chunk);
	}
	atomic_store(&closed_list, NULL);
}

int
green_fd_own(int fd)
{
	struct fd_entry *e = entry_get(fd);

	if (e == NULL)
		return -1;
	atomic_store(&e->own, true);
	return 0;
}

/*
 * In the child. The epoll set is shared with the parent: touch nothing, only forget, and give up
 * what is the worker's. The table, and no list of connections, says what that is: the thread
 * that forked need not have been the loop's, which may have been changing such a list.
 */
void
green_fd_after_fork(void)
{
	for (int i = 0; i < NCHUNKS; i++) {
		struct fd_entry *chunk = atomic_exchange(&chunks[i], NULL);

		for (int j = 0; chunk != NULL && j < CHUNK; j++)
			if (atomic_load_explicit(&chunk[j].own, memory_order_relaxed))
				(void)REAL(close)(i * CHUNK + j);
	}
	atomic_store(&closed_list, NULL);
}

static void
wake_waiters(struct fd_entry *e, int events, bool closed)
{
	struct fd_waiter *w;

	TAILQ_FOREACH (w, &e->waiters, link) {
		if (!closed && (w->events & events) == 0)
			continue;
		w->ready = true;
		w->closed = w->closed || closed;
		green_wake(w->green);
	}
}

static void
on_edge(evutil_socket_t fd, short what, void *arg)
{
	struct fd_entry *e = arg;
	/* For a hangup of both directions libevent gives no EV_WRITE: who sends must see it, too.
	 */
	int events = ((what & EV_READ) ? GREEN_READ : 0) |
		     ((what & (EV_WRITE | EV_CLOSED)) ? GREEN_WRITE : 0) |
		     ((what & EV_CLOSED) ? GREEN_HANGUP : 0);

	wake_waiters(e, events, false);
	if (e->watch != NULL)
		e->watch((int)fd, events, e->watch_arg);
}

/* On the loop's OS thread: end the registration and all waits. */
static void
entry_unregister(struct fd_entry *e)
{
	if (!atomic_exchange(&e->registered, false))
		return;
	atomic_store(&e->stale, false);
	event_del(&e->event);
	e->watch = NULL;
	wake_waiters(e, 0, true);
}

static int
entry_register(int fd, struct fd_entry *e)
{
	if (atomic_load(&e->stale))
		entry_unregister(e);
	if (atomic_load(&e->registered))
		return 0;
	errno = 0; /* epoll_ctl(2) knows what cannot be waited for: EPERM for a regular file */
	event_assign(&e->event, green_base, fd, EV_READ | EV_WRITE | EV_CLOSED | EV_ET | EV_PERSIST,
	    on_edge, e);
	if (event_add(&e->event, NULL) == -1) {
		if (errno == 0)
			errno = ENOMEM;
		return -1;
	}
	atomic_store(&e->registered, true);
	return 0;
}

void
green_fd_forget(int fd)
{
	struct fd_entry *e = entry_peek(fd), *head;

	if (e == NULL || green_tls_vforked)
		return;
	if (atomic_load_explicit(&e->own, memory_order_relaxed))
		atomic_store_explicit(&e->own, false, memory_order_relaxed);
	if (green_tls_loop)
		e->known.epoch = 0;
	else if (e->known.epoch != 0)
		green_fd_changed();
	if (!atomic_load(&e->registered))
		return;
	if (green_tls_loop) {
		entry_unregister(e);
		return;
	}
	atomic_store(&e->stale, true);
	if (atomic_exchange(&e->listed, true))
		return; /* from an earlier descriptor with this number */
	head = atomic_load(&closed_list);
	do
		atomic_store(&e->closed_next, head);
	while (!atomic_compare_exchange_weak(&closed_list, &head, e));
	green_notify_loop();
}

void
green_fd_forget_range(unsigned first, unsigned last)
{
	if (last >= CHUNK * NCHUNKS)
		last = CHUNK * NCHUNKS - 1;
	for (unsigned fd = first; fd <= last; fd++) {
		if (atomic_load_explicit(&chunks[fd / CHUNK], memory_order_acquire) == NULL)
			fd |= CHUNK - 1; /* on to the next chunk */
		else
			green_fd_forget((int)fd);
	}
}

void
green_fd_drain_closed(void)
{
	struct fd_entry *e = atomic_exchange(&closed_list, NULL), *next;

	for (; e != NULL; e = next) {
		next = atomic_load(&e->closed_next);
		atomic_store(
		    &e->listed, false); /* before stale: a close from here on lists it again */
		if (atomic_load(&e->stale))
			entry_unregister(e);
	}
}

/* On no green thread: the plain system call does. */
static int
os_thread_wait(int fd, int events, int64_t deadline)
{
	struct pollfd p = {.fd = fd};
	int rc;

	p.events =
	    (short)(((events & GREEN_READ) ? POLLIN : 0) | ((events & GREEN_WRITE) ? POLLOUT : 0));
	do {
		int64_t ns = deadline - green_now();
		struct timespec ts = {0, 0};

		if (ns > 0)
			ts = (struct timespec){ns / 1000000000, ns % 1000000000};
		rc = REAL(ppoll)(&p, 1, deadline == GREEN_NEVER ? NULL : &ts, NULL);
	} while (rc == -1 && errno == EINTR);
	if (rc == 0)
		errno = ETIMEDOUT;
	else if (rc == 1 && (p.revents & POLLNVAL)) {
		errno = EBADF;
		rc = -1;
	}
	return rc == 1 ? 0 : -1;
}

typedef int park_fn(enum green_on, uintptr_t object, int64_t deadline);

static int
fd_wait(int fd, int events, int64_t deadline, park_fn *park)
{
	struct fd_waiter w = {.green = green_tls_self, .events = events};
	struct fd_entry *e;
	int rc = 0;

	if (w.green == NULL)
		return os_thread_wait(fd, events, deadline);
	e = entry_get(fd);
	if (e == NULL || entry_register(fd, e) == -1)
		return -1;
	TAILQ_INSERT_TAIL(&e->waiters, &w, link);
	while (rc == 0 && !w.ready)
		rc = park(
		    events & GREEN_READ ? GREEN_ON_READ : GREEN_ON_WRITE, (uintptr_t)fd, deadline);
	TAILQ_REMOVE(&e->waiters, &w, link);
	if (w.closed) {
		errno = EBADF;
		return -1;
	}
	return w.ready ? 0 : -1;
}

int
green_fd_wait(int fd, int events, int64_t deadline)
{
	return fd_wait(fd, events, deadline, green_park_on);
}

int
green_fd_wait_interruptibly(int fd, int events, int64_t deadline)
{
	return fd_wait(fd, events, deadline, green_park_interruptibly);
}

int
green_fd_watch(int fd, void (*cb)(int fd, int events, void *arg), void *arg)
{
	struct fd_entry *e = entry_get(fd);

	if (e == NULL)
		return -1;
	if (cb != NULL && entry_register(fd, e) == -1)
		return -1;
	e->watch = cb;
	e->watch_arg = arg;
	return 0;
}

int
green_fd_close(int fd)
{
	green_fd_forget(fd);
	return REAL(close)(fd);
}

/* ---- what is known of a descriptor ---- */

void
green_fd_changed(void)
{
	atomic_fetch_add(&epoch, 1);
}

/*
 * Whoever changes a descriptor does so first and then begins an epoch; so what is asked
 * after the epoch was read is good for that epoch.
 */
static struct fd_known *
known_of(int fd)
{
	static struct fd_known none; /* beyond the table: asked each time */
	struct fd_entry *e = entry_get(fd);
	struct fd_known *k = e == NULL ? &none : &e->known;
	uint64_t now = atomic_load(&epoch);

	if (e == NULL || k->epoch != now)
		*k = (struct fd_known){.epoch = now};
	return k;
}

/* /dev/null, zero, random, … never wait: they are as good as files. */
#define MEMORY_DEVICES 1

static enum fd_kind
kind_of(const struct stat *st)
{
	switch (st->st_mode & S_IFMT) {
	case S_IFREG:
	case S_IFDIR:
	case S_IFBLK:
		return FD_FILE;
	case S_IFIFO:
		return FD_PIPE;
	case S_IFSOCK:
		return FD_SOCKET;
	case S_IFCHR:
		return major(st->st_rdev) == MEMORY_DEVICES ? FD_FILE : FD_OTHER;
	default:
		return FD_OTHER;
	}
}

enum fd_kind
green_fd_kind(int fd)
{
	struct fd_known *k = known_of(fd);
	struct stat st;

	if (k->has & KNOW_KIND)
		return k->kind;
	if (fstat(fd, &st) == -1)
		return FD_FILE; /* the real call says what is wrong */
	k->kind = kind_of(&st);
	k->has |= KNOW_KIND;
	return k->kind;
}

bool
green_fd_is_nonblocking_known(int fd)
{
	struct fd_known *k = known_of(fd);

	return (k->has & KNOW_FLAGS) && (k->flags & O_NONBLOCK);
}

int
green_fd_flags(int fd)
{
	struct fd_known *k = known_of(fd);

	if (k->has & KNOW_FLAGS)
		return k->flags;
	k->flags = REAL(fcntl)(fd, F_GETFL);
	if (k->flags != -1)
		k->has |= KNOW_FLAGS;
	return k->flags;
}

static int64_t
ask_limit(int fd, int option)
{
	struct timeval tv = {0, 0};
	socklen_t len = sizeof(tv);

	if (getsockopt(fd, SOL_SOCKET, option, &tv, &len) == -1 ||
	    (tv.tv_sec == 0 && tv.tv_usec == 0))
		return GREEN_NEVER;
	return (int64_t)tv.tv_sec * 1000000000 + (int64_t)tv.tv_usec * 1000;
}

int64_t
green_fd_deadline(int fd, int option)
{
	struct fd_known *k;
	int64_t limit;

	if (green_fd_kind(fd) != FD_SOCKET)
		return GREEN_NEVER;
	k = known_of(fd);
	if (!(k->has & KNOW_LIMITS)) {
		k->limit[0] = ask_limit(fd, SO_RCVTIMEO);
		k->limit[1] = ask_limit(fd, SO_SNDTIMEO);
		k->has |= KNOW_LIMITS;
	}
	limit = k->limit[option == SO_SNDTIMEO];
	return limit == GREEN_NEVER ? GREEN_NEVER : green_deadline(limit);
}

bool
green_fd_no_nowait(int fd, int event)
{
	return (known_of(fd)->has & (NO_NOWAIT * (unsigned)event)) != 0;
}

void
green_fd_set_no_nowait(int fd, int event)
{
	known_of(fd)->has |= NO_NOWAIT * (unsigned)event;
}

/* ---- several at once: poll, select ---- */

static int
poll_events(short events)
{
	if (events == 0)
		return GREEN_READ; /* errors and hang-ups come with either */
	if (events & POLLPRI)      /* no event of its own here: any edge may be it */
		return GREEN_READ | GREEN_WRITE;
	return ((events & (POLLIN | POLLRDNORM | POLLRDBAND | POLLRDHUP)) ? GREEN_READ : 0) |
	       ((events & (POLLOUT | POLLWRNORM | POLLWRBAND)) ? GREEN_WRITE : 0);
}

/* Put w on its descriptor's list, unless that is to be ignored (w->green stays NULL). */
static int
poll_register(struct fd_waiter *w, const struct pollfd *p)
{
	struct fd_entry *e;

	w->green = NULL;
	if (p->fd < 0)
		return 0;
	e = entry_get(p->fd);
	if (e == NULL || entry_register(p->fd, e) == -1)
		return errno == EPERM ? 0 : -1; /* a regular file: nothing ever happens to it */
	*w = (struct fd_waiter){.green = green_tls_self, .events = poll_events(p->events)};
	TAILQ_INSERT_TAIL(&e->waiters, w, link);
	return 0;
}

static void
poll_unregister(struct fd_waiter *ws, const struct pollfd *fds, nfds_t n)
{
	for (nfds_t i = 0; i < n; i++)
		if (ws[i].green != NULL)
			TAILQ_REMOVE(&entry_peek(fds[i].fd)->waiters, &ws[i], link);
}

/*
 * What becomes ready after the caller's own try gives an edge, also on a descriptor that is
 * registered only now.
 */
int
green_fd_wait_any(const struct pollfd *fds, nfds_t nfds, int64_t deadline)
{
	struct fd_waiter few[16], *ws = few;
	int rc = 0, saved;
	nfds_t n;

	if (nfds > sizeof(few) / sizeof(few[0]) && (ws = calloc(nfds, sizeof(*ws))) == NULL)
		return -1;
	for (n = 0; n < nfds && rc == 0; n++)
		rc = poll_register(&ws[n], &fds[n]);
	if (rc == 0 && nfds == 1)
		rc = green_park_interruptibly(
		    ws[0].events & GREEN_READ ? GREEN_ON_READ : GREEN_ON_WRITE,
		    (uintptr_t)fds[0].fd, deadline);
	else if (rc == 0)
		rc = green_park_interruptibly(
		    nfds == 0 ? GREEN_ON_TIME : GREEN_ON_DESCRIPTORS, (uintptr_t)nfds, deadline);
	else if (errno == EBADF)
		rc = 0; /* closed meanwhile: the next try says so */
	saved = errno;
	poll_unregister(ws, fds, n);
	if (ws != few)
		free(ws);
	errno = saved;
	return rc;
}
