/*
 * Locks that do without pthreads: Rust's standard library, libstdc++'s guards of static
 * variables and abseil wait by the futex system call itself, through syscall(2). One green
 * thread that parks inside such a lock would stop the worker when the next one waits for it.
 *
 * Also pthread_once(3), which waits inside libc.
 */
#include <limits.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "worker/green/hooks.h"

static int64_t
futex_deadline(int op, const struct timespec *ts)
{
	if (ts == NULL)
		return GREEN_NEVER;
	if ((op & FUTEX_CMD_MASK) == FUTEX_WAIT) /* a duration; the others give a point in time */
		return green_deadline(timespec_ns(ts));
	return deadline_at((op & FUTEX_CLOCK_REALTIME) ? CLOCK_REALTIME : CLOCK_MONOTONIC, ts);
}

static long
futex_wait(const _Atomic uint32_t *addr, int op, uint32_t expected, const struct timespec *ts)
{
	int64_t deadline = futex_deadline(op, ts);
	struct waiter w;
	bool timed_out = false;

	waitq_add(&w, (const void *)addr);
	if (atomic_load(addr) != expected) {
		if (waitq_remove(&w))
			waitq_wake((const void *)addr, 1);
		errno = EAGAIN;
		return -1;
	}
	while (!timed_out && w.queued)
		timed_out = green_park_on(GREEN_ON_FUTEX, (uintptr_t)addr, deadline) == -1;
	if (waitq_remove(&w))
		return 0;
	errno = ETIMEDOUT;
	return -1;
}

static bool
is_wait(int op)
{
	int cmd = op & FUTEX_CMD_MASK;

	return cmd == FUTEX_WAIT || cmd == FUTEX_WAIT_BITSET;
}

/*
 * How many of ours to wake. Those that move waiters elsewhere wake them instead, and
 * one for some bits only wakes all: they look again.
 */
static int
wakes(int op, long n)
{
	switch (op & FUTEX_CMD_MASK) {
	case FUTEX_WAKE:
		return n > INT_MAX ? INT_MAX : (int)n;
	case FUTEX_WAKE_BITSET:
	case FUTEX_REQUEUE:
	case FUTEX_CMP_REQUEUE:
	case FUTEX_WAKE_OP:
		return INT_MAX;
	default:
		return 0;
	}
}

/*
 * A futex that another process may wake (without FUTEX_PRIVATE_FLAG), or several at once: a helper
 * waits for it.
 */
struct raw_call {
	long nr, a[6], result;
};

static void
raw_run(void *arg)
{
	struct raw_call *c = arg;

	c->result = REAL(syscall)(c->nr, c->a[0], c->a[1], c->a[2], c->a[3], c->a[4], c->a[5]);
}

static long
raw_offload(struct raw_call *c)
{
	(void)hook_offload(raw_run, c);
	return c->result;
}

static long
futex(struct raw_call *c)
{
	int op = (int)c->a[1];

	if (on_green() && is_wait(op))
		return (op & FUTEX_PRIVATE_FLAG)
			   ? futex_wait((const _Atomic uint32_t *)c->a[0], op, (uint32_t)c->a[2],
				 (const struct timespec *)c->a[3])
			   : raw_offload(c);
	raw_run(c);
	if (c->result >= 0 && wakes(op, c->a[2]) > 0)
		waitq_wake((const void *)c->a[0], wakes(op, c->a[2]));
	return c->result;
}

/*
 * And what changes descriptors, which must be seen. Like libc's it takes six arguments from
 * wherever they would be, also when there are fewer.
 */
HOOK __attribute__((no_sanitize("address"))) long
syscall(long nr, ...)
{
	struct raw_call c = {.nr = nr};
	va_list ap;

	va_start(ap, nr);
	for (int i = 0; i < 6; i++)
		c.a[i] = va_arg(ap, long);
	va_end(ap);
	switch (nr) {
	case SYS_futex:
		return futex(&c);
	case SYS_futex_waitv:
		return on_green() ? raw_offload(&c) : (raw_run(&c), c.result);
	case SYS_close:
		return close((int)c.a[0]);
	case SYS_close_range:
		return close_range((unsigned)c.a[0], (unsigned)c.a[1], (int)c.a[2]);
	case SYS_dup3:
		return dup3((int)c.a[0], (int)c.a[1], (int)c.a[2]);
	case SYS_fcntl:
		return fcntl((int)c.a[0], (int)c.a[1], c.a[2]);
	case SYS_ioctl:
		return ioctl((int)c.a[0], (unsigned long)c.a[1], c.a[2]);
	default:
		raw_run(&c);
		return c.result;
	}
}

/* glibc's states: 1 in the low bits is "somebody is at it". */
HOOK int
pthread_once(pthread_once_t *once, void (*fn)(void))
{
	unsigned round = 0;

	if (on_green())
		while ((atomic_load((_Atomic pthread_once_t *)once) & 3) == 1)
			(void)hook_pause(&round, GREEN_NEVER);
	return REAL(pthread_once)(once, fn);
}
