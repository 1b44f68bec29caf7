/*
 * Ending the waits of a green thread from outside, for who wants an exception raised in it. Only
 * waits are ended that may fail anyway, and that fail to the interpreter or to a library that
 * copes: those of descriptors, children and time. Locks are not, unless the interpreter said that
 * it copes (green_expect_interrupts).
 *
 * Also alarms: a call from the loop at a time.
 */
#include <errno.h>
#include <stdlib.h>

#include "worker/green/internal.h"

struct green_alarm {
	struct event event;
	int64_t at;
	void (*fn)(void *arg);
	void *arg;
};

void
green_interrupt(struct green *g, int waits)
{
	atomic_store(&g->interrupts, waits);
	if (waits > 0)
		green_wake(g);
}

bool
green_expect_interrupts(bool expect)
{
	struct green *g = green_tls_self;
	bool was;

	if (g == NULL)
		return false;
	was = g->was_interrupted;
	g->expects_interrupts = expect;
	g->was_interrupted = false;
	return was;
}

/* Whether this wait is to fail; each counts, whether or not the caller tells anybody. */
static bool
is_interrupted(struct green *g)
{
	int n = atomic_load_explicit(&g->interrupts, memory_order_relaxed);

	while (__builtin_expect(n > 0, 0))
		if (atomic_compare_exchange_weak(&g->interrupts, &n, n - 1))
			return true;
	return false;
}

int
green_park_interruptibly(enum green_on on, uintptr_t object, int64_t deadline)
{
	struct green *g = green_tls_self;

	if (!is_interrupted(g)) {
		if (green_park_on(on, object, deadline) == -1)
			return -1;
		if (!is_interrupted(g))
			return 0;
	}
	g->was_interrupted = true;
	errno = ECANCELED;
	return -1;
}

/* ---- alarms ---- */

static int
alarm_set(struct green_alarm *a)
{
	int64_t ns = a->at - green_now();
	struct timeval tv = {0, 0};

	if (ns > 0) {
		ns += 999;
		tv.tv_sec = ns / 1000000000;
		tv.tv_usec = ns % 1000000000 / 1000;
	}
	return evtimer_add(&a->event, &tv);
}

/* The event loop's own idea of the time may be some milliseconds ahead. */
static void
on_alarm(evutil_socket_t fd, short what, void *arg)
{
	struct green_alarm *a = arg;

	(void)fd;
	(void)what;
	if (green_now() < a->at && alarm_set(a) == 0)
		return;
	a->fn(a->arg);
}

struct green_alarm *
green_alarm_new(int64_t at, void (*fn)(void *arg), void *arg)
{
	struct green_alarm *a = malloc(sizeof(*a));

	if (a == NULL)
		return NULL;
	a->fn = fn;
	a->arg = arg;
	a->at = at;
	evtimer_assign(&a->event, green_base, on_alarm, a);
	if (alarm_set(a) == -1) {
		free(a);
		return NULL;
	}
	return a;
}

void
green_alarm_free(struct green_alarm *a)
{
	if (a == NULL)
		return;
	evtimer_del(&a->event);
	free(a);
}
