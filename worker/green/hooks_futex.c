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

/* Those that move waiters elsewhere wake ours instead: they look again. */
static int
wakes(int op, long n)
{
	switch (op & FUTEX_CMD_MASK) {
	case FUTEX_WAKE:
	case FUTEX_WAKE_BITSET:
		return n > INT_MAX ? INT_MAX : (int)n;
	case FUTEX_REQUEUE:
	case FUTEX_CMP_REQUEUE:
	case FUTEX_WAKE_OP:
		return INT_MAX;
	default:
		return 0;
	}
}

/*
 * Shared futexes (without FUTEX_PRIVATE_FLAG) may be woken by another process: the real call.
 * Like libc's it takes six arguments from wherever they would be, also when there are fewer.
 */
HOOK __attribute__((no_sanitize("address"))) long
syscall(long nr, ...)
{
	long a[6], rc;
	va_list ap;

	va_start(ap, nr);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (nr != SYS_futex)
		return REAL(syscall)(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (on_green() && is_wait((int)a[1]) && (a[1] & FUTEX_PRIVATE_FLAG))
		return futex_wait((const _Atomic uint32_t *)a[0], (int)a[1], (uint32_t)a[2],
		    (const struct timespec *)a[3]);
	rc = REAL(syscall)(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (rc >= 0 && wakes((int)a[1], a[2]) > 0)
		waitq_wake((const void *)a[0], wakes((int)a[1], a[2]));
	return rc;
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
