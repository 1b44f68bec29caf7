/*
 * Accepting: see accept.h. The workers stand in a line at each listening socket, and the kernel
 * wakes the first that waits (EPOLLEXCLUSIVE): it passes by those that compute. Who has more
 * connections than the workers have on average goes to the end of the line, and so is woken
 * when all the others are busy.
 *
 * A worker that is awake needs no waking: in a burst of connections it could take most of them
 * before the others, which are awake too, have had a processor. One that has clearly more
 * than its share stays away for a moment.
 */
#include "worker/accept.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <event2/event.h>

#include "common/contract.h"
#include "common/log.h"
#include "worker/green/green.h"
#include "worker/worker.h"

#define NS_PER_SEC 1000000000LL

/* Accepted at one wake-up. */
#define ACCEPT_ALONE  16
#define ACCEPT_SHARED 1

/* How many above the average are too many: an eighth of it, and some. */
#define SHARE_PART 8
#define SHARE_SOME 4

/* How long others have the first go at what waits, when we have too many. */
#define YIELD_USECS 1000

/* After accept(2) has failed for want of something, try again then. */
#define RETRY_USECS 100000

struct acceptor {
	struct acceptors *all;
	struct listener *listener;
	struct event *event; /* owned */
};

struct acceptors {
	const struct worker_contract *contract;
	accept_fn *accepted;
	void *arg;
	bool wanted, paused; /* what is asked for; until the timer, no matter what */
	bool open;           /* the events are on */
	int64_t warned_at;   /* when a failure was last logged */
	struct event *pause; /* owned */
	size_t n;
	struct acceptor each[];
};

static void
acceptors_close(struct acceptors *a)
{
	a->open = false;
	for (size_t i = 0; i < a->n; i++)
		event_del(a->each[i].event);
}

static void
acceptors_pause(struct acceptors *a, suseconds_t usecs)
{
	struct timeval pause = {0, usecs};

	a->paused = evtimer_add(a->pause, &pause) == 0;
	acceptors_close(a);
}

/* Out of descriptors or memory: the connection stays in the kernel, and would wake us on and on. */
static void
acceptors_failed(struct acceptors *a, const char *what)
{
	int64_t now = green_now();

	if (a->warned_at == 0 || now - a->warned_at >= NS_PER_SEC) {
		log_warn("%s", what);
		a->warned_at = now;
	}
	acceptors_pause(a, RETRY_USECS);
}

/* To the end of the line. */
static void
acceptors_queue_up(struct acceptors *a)
{
	for (size_t i = 0; a->open && i < a->n; i++)
		if (green_fd_queue_up(a->each[i].listener->fd) == -1)
			acceptors_failed(a, "cannot wait for connections");
}

/* The one place that turns the events on and off. */
static void
acceptors_settle(struct acceptors *a)
{
	bool want = a->wanted && !a->paused;

	if (want == a->open)
		return;
	if (!want) {
		acceptors_close(a);
		return;
	}
	a->open = true;
	for (size_t i = 0; a->open && i < a->n; i++)
		if (event_add(a->each[i].event, NULL) == -1)
			acceptors_failed(a, "cannot wait for connections");
	acceptors_queue_up(a);
}

static void
on_pause_over(evutil_socket_t fd, short what, void *arg)
{
	struct acceptors *a = arg;

	(void)fd;
	(void)what;
	a->paused = false;
	acceptors_settle(a);
}

/* How the workers that accept share the connections. */
struct shares {
	uint64_t ours, all, workers;
};

static struct shares
shares_take(const struct worker_contract *contract)
{
	const struct scoreboard *sb = contract->scoreboard;
	struct shares s = {
	    .ours = atomic_load_explicit(&contract->row->connections, memory_order_relaxed)};
	size_t n = scoreboard_used(sb);

	for (size_t i = 0; i < n; i++) {
		const struct scoreboard_row *row = &sb->rows[i];

		if (atomic_load_explicit(&row->state, memory_order_relaxed) != SCOREBOARD_READY)
			continue;
		s.all += atomic_load_explicit(&row->connections, memory_order_relaxed);
		s.workers++;
	}
	return s;
}

/*
 * Let others go first if they have fewer. One more than the average is nothing: under a light load
 * the same worker, with its memory in the processor's caches, takes all.
 */
static void
acceptors_share(struct acceptors *a, const struct shares *s)
{
	if (s->workers <= 1)
		return;
	if (s->ours * s->workers > s->all + s->all / SHARE_PART + s->workers * SHARE_SOME)
		acceptors_pause(a, YIELD_USECS);
	else if (s->ours * s->workers > s->all + s->workers)
		acceptors_queue_up(a);
}

/* Errors of one connection, or of the network it comes over: accept(2). */
static bool
accept_may_go_on(int error)
{
	switch (error) {
	case EINTR:
	case ECONNABORTED:
	case EPERM: /* a firewall's rule */
	case EPROTO:
	case ENETDOWN:
	case ENETUNREACH:
	case EHOSTDOWN:
	case EHOSTUNREACH:
	case ENOPROTOOPT:
	case ENONET:
		return true;
	default:
		return false;
	}
}

/* Up to so many connections. How many, which is fewer only when there were no more. */
static int
acceptor_take(struct acceptor *self, int batch)
{
	struct acceptors *a = self->all;
	int taken = 0;

	while (a->open && taken < batch) {
		struct address peer = {.len = sizeof(peer.any)};
		int s = accept4(
		    self->listener->fd, &peer.any.sa, &peer.len, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (s != -1) {
			taken++;
			a->accepted(s, self->listener, &peer, a->arg);
		} else if (errno == EAGAIN) {
			break;
		} else if (!accept_may_go_on(errno)) {
			acceptors_failed(a, "accept");
		}
	}
	return taken;
}

static void
on_acceptable(evutil_socket_t fd, short what, void *arg)
{
	struct acceptor *self = arg;
	struct shares shares = shares_take(self->all->contract);
	int taken = acceptor_take(self, shares.workers > 1 ? ACCEPT_SHARED : ACCEPT_ALONE);

	(void)fd;
	(void)what;
	shares.ours += (uint64_t)taken;
	shares.all += (uint64_t)taken;
	if (taken > 0 && self->all->open)
		acceptors_share(self->all, &shares);
}

void
acceptors_open(struct acceptors *a, bool wanted)
{
	a->wanted = wanted;
	acceptors_settle(a);
}

void
acceptors_look(struct acceptors *a)
{
	acceptors_settle(a);
	for (size_t i = 0; i < a->n; i++)
		on_acceptable(a->each[i].listener->fd, EV_READ, &a->each[i]);
}

void
acceptors_finish(struct acceptors *a)
{
	bool last;

	a->paused = false;
	acceptors_settle(a);
	atomic_thread_fence(memory_order_seq_cst); /* of two that stop at once one sees the other */
	last = shares_take(a->contract).workers == 0;
	for (size_t i = 0; i < a->n; i++)
		(void)acceptor_take(&a->each[i], last ? INT_MAX : ACCEPT_SHARED);
	acceptors_close(a);
	a->wanted = false;
	for (size_t i = 0; i < a->n; i++)
		listener_close(a->each[i].listener);
}

struct acceptors *
acceptors_new(
    struct event_base *base, const struct worker_contract *contract, accept_fn *accepted, void *arg)
{
	size_t n = contract->nlisteners;
	struct acceptors *a = calloc(1, sizeof(*a) + n * sizeof(a->each[0]));

	if (a == NULL)
		return NULL;
	a->contract = contract;
	a->accepted = accepted;
	a->arg = arg;
	a->n = n;
	a->pause = evtimer_new(base, on_pause_over, a);
	for (size_t i = 0; i < n; i++) {
		struct acceptor *it = &a->each[i];

		*it = (struct acceptor){.all = a, .listener = &contract->listeners[i]};
		it->event =
		    event_new(base, it->listener->fd, EV_READ | EV_PERSIST, on_acceptable, it);
		if (it->event == NULL || a->pause == NULL) {
			acceptors_free(a);
			errno = ENOMEM;
			return NULL;
		}
	}
	return a;
}

void
acceptors_free(struct acceptors *a)
{
	if (a == NULL)
		return;
	for (size_t i = 0; i < a->n; i++)
		if (a->each[i].event != NULL)
			event_free(a->each[i].event);
	if (a->pause != NULL)
		event_free(a->pause);
	free(a);
}
