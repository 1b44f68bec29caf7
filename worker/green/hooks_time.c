/* sleep, usleep, nanosleep, clock_nanosleep, sched_yield: park until then. */
#include <sched.h>

#include "worker/green/offloaded.h"

bool
hook_pause(unsigned *round, int64_t deadline)
{
	int64_t pause = 50000LL << (*round < 8 ? *round : 8);
	int64_t until = green_deadline(pause < 10000000 ? pause : 10000000);

	if (green_now() >= deadline)
		return false;
	++*round;
	green_sleep_until(until < deadline ? until : deadline);
	return true;
}

int
hook_offload(void (*fn)(void *arg), void *arg)
{
	unsigned round = 0;

	while (green_offload_long(fn, arg) == -1)
		(void)hook_pause(&round, GREEN_NEVER);
	return 0;
}

/* 0, or -1 with errno ECANCELED. */
static int
sleep_interruptibly(int64_t deadline)
{
	int saved = errno;

	while (green_park_interruptibly(GREEN_ON_TIME, 0, deadline) == 0)
		;
	if (errno != ETIMEDOUT)
		return -1;
	errno = saved;
	return 0;
}

HOOK int
nanosleep(const struct timespec *ts, struct timespec *left)
{
	if (!on_green())
		return REAL(nanosleep)(ts, left);
	if (ts->tv_sec < 0 || !timespec_valid(ts)) {
		errno = EINVAL;
		return -1;
	}
	if (timespec_ns(ts) == 0) {
		green_yield();
		return 0;
	}
	return sleep_interruptibly(green_deadline(timespec_ns(ts)));
}

OFFLOADED_CALL(hook_offload, int, EAGAIN, clock_nanosleep, 4, clockid_t, clock, int, flags,
    const struct timespec *, ts, struct timespec *, left)

/* Clocks that go on with the time; others count what the processor does. */
static bool
is_wall_clock(clockid_t clock)
{
	return clock == CLOCK_MONOTONIC || clock == CLOCK_REALTIME || clock == CLOCK_BOOTTIME ||
	       clock == CLOCK_TAI;
}

HOOK int
clock_nanosleep(clockid_t clock, int flags, const struct timespec *ts, struct timespec *left)
{
	if (!on_green())
		return REAL(clock_nanosleep)(clock, flags, ts, left);
	if (!is_wall_clock(clock))
		return clock_nanosleep_offloaded(clock, flags, ts, left);
	if (ts->tv_sec < 0 || !timespec_valid(ts))
		return EINVAL;
	if ((flags & TIMER_ABSTIME) == 0)
		return nanosleep(ts, left) == 0 ? 0 : errno;
	/* the clock may be set meanwhile: look again */
	for (;;) {
		int64_t deadline = deadline_at(clock, ts);

		if (green_now() >= deadline)
			return 0;
		if (sleep_interruptibly(deadline) == -1)
			return errno;
	}
}

HOOK unsigned
sleep(unsigned seconds)
{
	if (!on_green())
		return REAL(sleep)(seconds);
	green_sleep_until(green_deadline((int64_t)seconds * 1000000000));
	return 0;
}

HOOK int
usleep(useconds_t usec)
{
	if (!on_green())
		return REAL(usleep)(usec);
	green_sleep_until(green_deadline((int64_t)usec * 1000));
	return 0;
}

/* Spinning on a lock that another green thread holds must let that one run. */
HOOK int
sched_yield(void)
{
	if (!on_green())
		return REAL(sched_yield)();
	green_yield();
	return 0;
}

HOOK_ALIAS(__nanosleep, nanosleep)
HOOK_ALIAS(__sched_yield, sched_yield)
