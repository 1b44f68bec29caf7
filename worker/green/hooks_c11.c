/*
 * The threads of C11 (threads.h), which librdkafka is built on. In glibc they are the POSIX ones
 * under other names, but call them inside libc, past the hooks.
 */
#include <threads.h>

#include "worker/green/offloaded.h"

static int
thrd_result(int rc)
{
	switch (rc) {
	case 0:
		return thrd_success;
	case EBUSY:
		return thrd_busy;
	case ETIMEDOUT:
		return thrd_timedout;
	case ENOMEM:
		return thrd_nomem;
	default:
		return thrd_error;
	}
}

static pthread_mutex_t *
mutex_of(mtx_t *m)
{
	return (pthread_mutex_t *)(void *)m;
}

static pthread_cond_t *
cond_of(cnd_t *c)
{
	return (pthread_cond_t *)(void *)c;
}

HOOK int
mtx_lock(mtx_t *m)
{
	return thrd_result(pthread_mutex_lock(mutex_of(m)));
}

HOOK int
mtx_timedlock(mtx_t *restrict m, const struct timespec *restrict at)
{
	return thrd_result(pthread_mutex_timedlock(mutex_of(m), at));
}

HOOK int
mtx_unlock(mtx_t *m)
{
	return thrd_result(pthread_mutex_unlock(mutex_of(m)));
}

HOOK int
cnd_wait(cnd_t *c, mtx_t *m)
{
	return thrd_result(pthread_cond_wait(cond_of(c), mutex_of(m)));
}

HOOK int
cnd_timedwait(cnd_t *restrict c, mtx_t *restrict m, const struct timespec *restrict at)
{
	return thrd_result(pthread_cond_timedwait(cond_of(c), mutex_of(m), at));
}

HOOK int
cnd_signal(cnd_t *c)
{
	return thrd_result(pthread_cond_signal(cond_of(c)));
}

HOOK int
cnd_broadcast(cnd_t *c)
{
	return thrd_result(pthread_cond_broadcast(cond_of(c)));
}

HOOK void
call_once(once_flag *flag, void (*fn)(void))
{
	(void)pthread_once((pthread_once_t *)(void *)flag, fn);
}

/* Its own codes: -1 is interrupted, which does not happen here, less is an error. */
HOOK int
thrd_sleep(const struct timespec *ts, struct timespec *left)
{
	if (!on_green())
		return REAL(thrd_sleep)(ts, left);
	return nanosleep(ts, left) == 0 ? 0 : -2;
}

HOOK void
thrd_yield(void)
{
	(void)sched_yield();
}

OFFLOADED(hook_offload, int, thrd_error, thrd_join, 2, thrd_t, thread, int *, value)
