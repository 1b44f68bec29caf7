/* What the hooks share: who is concerned, how time is given, what a closed wait means. */
#ifndef GREEN_HOOKS_H
#define GREEN_HOOKS_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <time.h>

#include "worker/green/internal.h"
#include "worker/green/real.h"

/* Exported by the executable, in front of libc's function of the same name. */
#define HOOK __attribute__((visibility("default"), used))

/* What the fortified forms call when the caller's buffer is too small. */
_Noreturn void __chk_fail(void);

/* Another name that callers may know a hook by, defined in the same file. */
#define HOOK_ALIAS(alias, name) __asm__(".globl " #alias "\n.set " #alias ", " #name "\n");

/* Only green threads wait cooperatively; all others get the real call. */
static inline bool
on_green(void)
{
	return __builtin_expect(green_tls_self != NULL, 0);
}

static inline int64_t
timespec_ns(const struct timespec *ts)
{
	int64_t ns;

	if (ts->tv_sec < 0)
		return 0;
	if (__builtin_mul_overflow((int64_t)ts->tv_sec, 1000000000LL, &ns) ||
	    __builtin_add_overflow(ns, (int64_t)ts->tv_nsec, &ns))
		return INT64_MAX;
	return ns;
}

static inline bool
timespec_valid(const struct timespec *ts)
{
	return ts->tv_nsec >= 0 && ts->tv_nsec < 1000000000;
}

/* A deadline given as a point of another clock's time. */
static inline int64_t
deadline_at(clockid_t clock, const struct timespec *at)
{
	struct timespec now;
	int64_t left;

	if (clock_gettime(clock, &now) == -1)
		return 0;
	left = timespec_ns(at) - timespec_ns(&now);
	return green_deadline(left > 0 ? left : 0);
}

static inline struct timespec
timespec_of(int64_t ns)
{
	return (struct timespec){ns / 1000000000, ns % 1000000000};
}

/* The caller has said that he does not wait for this descriptor. */
static inline bool
fd_is_nonblocking(int fd)
{
	int flags = green_fd_flags(fd);

	return flags != -1 && (flags & O_NONBLOCK);
}

/*
 * Wait for what gives no sign when it happens (another process's lock, a thread's
 * end): look again after a pause that doubles from 50 us up to 10 ms. False at
 * the deadline.
 */
bool hook_pause(unsigned *round, int64_t deadline);

/*
 * Run fn(arg) on a helper thread of its own (green_offload_long). When a limit allows no
 * helper: after pauses, once there is one.
 */
int hook_offload(void (*fn)(void *arg), void *arg);

#endif
