/*
 * Semaphores, mutexes, conditions, read-write locks. The objects stay libc's own and are
 * shared with OS threads: a green thread tries (the real try call), and when it would block it
 * waits under the object's address (waitq.c). The releasing calls, on every thread, do the
 * real thing first and then wake one who waits here.
 *
 * An object shared between processes may be released where we cannot see it: for a semaphore a
 * helper thread waits; locks, which have an owner, are tried again after pauses. Whether it is so,
 * which clock a condition uses and who holds a lock is read from glibc's structs, whose layout is
 * part of its ABI.
 */
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "worker/green/offloaded.h"

/* How a sort of lock is taken without waiting, and what it is for those who look. */
struct lock_kind {
	int (*try)(void *);
	enum green_on on;
	bool interruptible; /* green_interrupt is told as ETIMEDOUT */
};

/*
 * Try until it does not say EBUSY: the result, or ETIMEDOUT. A wake that came though the try
 * before had succeeded is passed on: it was meant for who can use it.
 */
static int
lock_wait(const struct lock_kind *kind, void *obj, bool shared, int64_t deadline)
{
	struct waiter w;
	unsigned round = 0;
	bool timed_out = false;
	int rc;

	while ((rc = kind->try(obj)) == EBUSY) {
		if (timed_out)
			return ETIMEDOUT;
		if (shared) {
			timed_out = !hook_pause(&round, deadline);
			continue;
		}
		waitq_add(&w, obj);
		rc = kind->try(obj);
		if (rc != EBUSY) {
			if (waitq_remove(&w))
				waitq_wake(obj, 1);
			return rc;
		}
		timed_out = (kind->interruptible ? green_park_interruptibly : green_park_on)(
				kind->on, (uintptr_t)obj, deadline) == -1;
		if (waitq_remove(&w))
			timed_out = false;
	}
	return rc;
}

/* As pthread_*_timed* want it: EINVAL only when it would have to wait. */
static int
lock_timed(const struct lock_kind *kind, void *obj, bool shared, clockid_t clock,
    const struct timespec *at)
{
	int rc = kind->try(obj);

	if (rc != EBUSY)
		return rc;
	if (!timespec_valid(at) || (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC))
		return EINVAL;
	return lock_wait(kind, obj, shared, deadline_at(clock, at));
}

/* ---- semaphores ---- */

/* glibc's struct new_sem (64-bit): the value and the waiters, then 0 or, when shared, 128 */
static bool
sem_is_shared(const sem_t *sem)
{
	return ((const unsigned *)(const void *)sem)[2] != 0;
}

static int
sem_try(void *sem)
{
	return sem_trywait(sem) == 0 ? 0 : errno == EAGAIN ? EBUSY : errno;
}

static const struct lock_kind sem_kind = {sem_try, GREEN_ON_SEMAPHORE, false};
static const struct lock_kind sem_kind_interruptible = {sem_try, GREEN_ON_SEMAPHORE, true};

static int
sem_result(int rc)
{
	if (rc == 0)
		return 0;
	errno = rc;
	return -1;
}

OFFLOADED_CALL(hook_offload, int, -1, sem_wait, 1, sem_t *, sem)
OFFLOADED_CALL(hook_offload, int, -1, sem_clockwait, 3, sem_t *, sem, clockid_t, clock,
    const struct timespec *, at)

HOOK int
sem_wait(sem_t *sem)
{
	int rc;

	if (!on_green())
		return REAL(sem_wait)(sem);
	rc = sem_try(sem);
	if (rc == EBUSY && sem_is_shared(sem))
		return sem_wait_offloaded(sem);
	return sem_result(rc == EBUSY ? lock_wait(&sem_kind, sem, false, GREEN_NEVER) : rc);
}

HOOK int
sem_clockwait(sem_t *sem, clockid_t clock, const struct timespec *at)
{
	int rc;

	if (!on_green())
		return REAL(sem_clockwait)(sem, clock, at);
	rc = sem_try(sem);
	if (rc == EBUSY && sem_is_shared(sem))
		return sem_clockwait_offloaded(sem, clock, at);
	return sem_result(
	    rc != EBUSY ? rc
			: lock_timed(green_tls_self->expects_interrupts ? &sem_kind_interruptible
									: &sem_kind,
			      sem, false, clock, at));
}

HOOK int
sem_timedwait(sem_t *sem, const struct timespec *at)
{
	return on_green() ? sem_clockwait(sem, CLOCK_REALTIME, at) : REAL(sem_timedwait)(sem, at);
}

HOOK int
sem_post(sem_t *sem)
{
	int rc = REAL(sem_post)(sem);

	if (rc == 0)
		waitq_wake(sem, 1);
	return rc;
}

/* ---- mutexes ---- */

/* Of glibc's __kind: PTHREAD_MUTEX_PSHARED_BIT; a robust one is released by its owner's death. */
#define MUTEX_SHARED 128
#define MUTEX_ROBUST 16
#define MUTEX_TYPE   3

static bool
mutex_is_shared(const pthread_mutex_t *m)
{
	return (m->__data.__kind & (MUTEX_SHARED | MUTEX_ROBUST)) != 0;
}

static int
mutex_try(void *m)
{
	return pthread_mutex_trylock(m);
}

static const struct lock_kind mutex_kind = {mutex_try, GREEN_ON_MUTEX, false};

/* An error-checking mutex that is ours already: waiting would be for ourselves. */
static bool
mutex_would_deadlock(const pthread_mutex_t *m)
{
	return (m->__data.__kind & MUTEX_TYPE) == PTHREAD_MUTEX_ERRORCHECK_NP &&
	       m->__data.__owner == green_tls_self->identity.tid;
}

HOOK int
pthread_mutex_lock(pthread_mutex_t *m)
{
	int rc;

	if (!on_green())
		return REAL(pthread_mutex_lock)(m);
	rc = pthread_mutex_trylock(m);
	if (rc != EBUSY)
		return rc;
	if (mutex_would_deadlock(m))
		return EDEADLK;
	return lock_wait(&mutex_kind, m, mutex_is_shared(m), GREEN_NEVER);
}

HOOK int
pthread_mutex_clocklock(pthread_mutex_t *m, clockid_t clock, const struct timespec *at)
{
	int rc;

	if (!on_green())
		return REAL(pthread_mutex_clocklock)(m, clock, at);
	rc = pthread_mutex_trylock(m);
	if (rc != EBUSY)
		return rc;
	if (mutex_would_deadlock(m))
		return EDEADLK;
	return lock_timed(&mutex_kind, m, mutex_is_shared(m), clock, at);
}

HOOK int
pthread_mutex_timedlock(pthread_mutex_t *m, const struct timespec *at)
{
	if (!on_green())
		return REAL(pthread_mutex_timedlock)(m, at);
	return pthread_mutex_clocklock(m, CLOCK_REALTIME, at);
}

HOOK int
pthread_mutex_unlock(pthread_mutex_t *m)
{
	int rc = REAL(pthread_mutex_unlock)(m);

	if (rc == 0)
		waitq_wake(m, 1);
	return rc;
}

/*
 * Priorities are those of kernel threads, and so are the owners that the kernel knows: it would not
 * let the loop's OS thread release what another task seems to own. Here all mutexes are plain ones.
 */
HOOK int
pthread_mutexattr_setprotocol(pthread_mutexattr_t *attr, int protocol)
{
	if (protocol != PTHREAD_PRIO_INHERIT && protocol != PTHREAD_PRIO_PROTECT)
		return REAL(pthread_mutexattr_setprotocol)(attr, protocol);
	return 0;
}

/* ---- conditions ---- */

/* glibc's __wrefs: bit 0 process-shared, bit 1 CLOCK_MONOTONIC */
static bool
cond_is_shared(const pthread_cond_t *c)
{
	return (c->__data.__wrefs & 1) != 0;
}

static clockid_t
cond_clock(const pthread_cond_t *c)
{
	return (c->__data.__wrefs & 2) ? CLOCK_MONOTONIC : CLOCK_REALTIME;
}

/*
 * Queue, release the mutex, park, take the mutex again. Only a wake that took us off the queue
 * counts. For a shared condition: after a pause say that it was signalled; POSIX
 * allows such wake-ups and every caller looks again.
 */
static int
cond_wait(pthread_cond_t *c, pthread_mutex_t *m, int64_t deadline)
{
	struct waiter w;
	unsigned round = 4;
	bool timed_out = false, shared = cond_is_shared(c);
	int rc;

	if (!shared)
		waitq_add(&w, c);
	rc = pthread_mutex_unlock(m);
	if (rc != 0) {
		if (!shared)
			(void)waitq_remove(&w);
		return rc;
	}
	if (shared)
		timed_out = !hook_pause(&round, deadline);
	else {
		while (!timed_out && w.queued)
			timed_out = green_park_on(GREEN_ON_CONDITION, (uintptr_t)c, deadline) == -1;
		timed_out = !waitq_remove(&w);
	}
	rc = pthread_mutex_lock(m);
	return rc != 0 ? rc : timed_out ? ETIMEDOUT : 0;
}

/*
 * The same on an OS thread: libc's own wait releases the mutex inside libc, and would not wake a
 * green thread that waits for it. It is a cancellation point like libc's.
 */
struct os_cond {
	struct waiter w;
	pthread_cond_t *c;
	pthread_mutex_t *m;
};

static void
os_cond_cancelled(void *arg)
{
	struct os_cond *oc = arg;

	if (waitq_remove(&oc->w))
		(void)pthread_cond_signal(oc->c); /* it was meant for one who goes on */
	(void)pthread_mutex_lock(oc->m);
}

static long
os_cond_sleep(struct os_cond *oc, int op, const struct timespec *at)
{
	long rc;
	int type;

	pthread_cleanup_push(os_cond_cancelled, oc);
	(void)pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
	rc = REAL(syscall)(SYS_futex, &oc->w.queued, op, 1, at, NULL, FUTEX_BITSET_MATCH_ANY);
	(void)pthread_setcanceltype(type, NULL);
	pthread_cleanup_pop(0);
	return rc;
}

static int
os_cond_wait(pthread_cond_t *c, pthread_mutex_t *m, clockid_t clock, const struct timespec *at)
{
	int op = FUTEX_WAIT_BITSET_PRIVATE | (clock == CLOCK_REALTIME ? FUTEX_CLOCK_REALTIME : 0);
	struct os_cond oc = {.c = c, .m = m};
	bool timed_out = false;
	int rc;

	waitq_add(&oc.w, c);
	rc = pthread_mutex_unlock(m);
	if (rc != 0) {
		(void)waitq_remove(&oc.w);
		return rc;
	}
	while (!timed_out && oc.w.queued)
		timed_out = os_cond_sleep(&oc, op, at) == -1 && errno == ETIMEDOUT;
	timed_out = !waitq_remove(&oc.w);
	rc = pthread_mutex_lock(m);
	return rc != 0 ? rc : timed_out ? ETIMEDOUT : 0;
}

HOOK int
pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m)
{
	if (on_green())
		return cond_wait(c, m, GREEN_NEVER);
	if (cond_is_shared(c))
		return REAL(pthread_cond_wait)(c, m);
	return os_cond_wait(c, m, CLOCK_MONOTONIC, NULL);
}

HOOK int
pthread_cond_clockwait(
    pthread_cond_t *c, pthread_mutex_t *m, clockid_t clock, const struct timespec *at)
{
	if (!on_green() && cond_is_shared(c))
		return REAL(pthread_cond_clockwait)(c, m, clock, at);
	if (!timespec_valid(at) || (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC))
		return EINVAL;
	return on_green() ? cond_wait(c, m, deadline_at(clock, at)) : os_cond_wait(c, m, clock, at);
}

HOOK int
pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *at)
{
	if (!on_green() && cond_is_shared(c))
		return REAL(pthread_cond_timedwait)(c, m, at);
	return pthread_cond_clockwait(c, m, cond_clock(c), at);
}

HOOK int
pthread_cond_signal(pthread_cond_t *c)
{
	int rc = REAL(pthread_cond_signal)(c);

	waitq_wake(c, 1);
	return rc;
}

HOOK int
pthread_cond_broadcast(pthread_cond_t *c)
{
	int rc = REAL(pthread_cond_broadcast)(c);

	waitq_wake(c, INT_MAX);
	return rc;
}

/* ---- read-write locks ---- */

static bool
rwlock_is_shared(const pthread_rwlock_t *l)
{
	return l->__data.__shared != 0;
}

static bool
rwlock_is_mine(const pthread_rwlock_t *l)
{
	return l->__data.__cur_writer == green_tls_self->identity.tid;
}

static int
rwlock_try_read(void *l)
{
	return pthread_rwlock_tryrdlock(l);
}

static int
rwlock_try_write(void *l)
{
	return pthread_rwlock_trywrlock(l);
}

static const struct lock_kind read_kind = {rwlock_try_read, GREEN_ON_RWLOCK, false};
static const struct lock_kind write_kind = {rwlock_try_write, GREEN_ON_RWLOCK, false};

static int
rwlock_clock(
    const struct lock_kind *kind, pthread_rwlock_t *l, clockid_t clock, const struct timespec *at)
{
	return rwlock_is_mine(l) ? EDEADLK : lock_timed(kind, l, rwlock_is_shared(l), clock, at);
}

static int
rwlock_wait(const struct lock_kind *kind, pthread_rwlock_t *l)
{
	return rwlock_is_mine(l) ? EDEADLK : lock_wait(kind, l, rwlock_is_shared(l), GREEN_NEVER);
}

HOOK int
pthread_rwlock_rdlock(pthread_rwlock_t *l)
{
	return on_green() ? rwlock_wait(&read_kind, l) : REAL(pthread_rwlock_rdlock)(l);
}

HOOK int
pthread_rwlock_wrlock(pthread_rwlock_t *l)
{
	return on_green() ? rwlock_wait(&write_kind, l) : REAL(pthread_rwlock_wrlock)(l);
}

HOOK int
pthread_rwlock_timedrdlock(pthread_rwlock_t *l, const struct timespec *at)
{
	return on_green() ? rwlock_clock(&read_kind, l, CLOCK_REALTIME, at)
			  : REAL(pthread_rwlock_timedrdlock)(l, at);
}

HOOK int
pthread_rwlock_timedwrlock(pthread_rwlock_t *l, const struct timespec *at)
{
	return on_green() ? rwlock_clock(&write_kind, l, CLOCK_REALTIME, at)
			  : REAL(pthread_rwlock_timedwrlock)(l, at);
}

HOOK int
pthread_rwlock_clockrdlock(pthread_rwlock_t *l, clockid_t clock, const struct timespec *at)
{
	return on_green() ? rwlock_clock(&read_kind, l, clock, at)
			  : REAL(pthread_rwlock_clockrdlock)(l, clock, at);
}

HOOK int
pthread_rwlock_clockwrlock(pthread_rwlock_t *l, clockid_t clock, const struct timespec *at)
{
	return on_green() ? rwlock_clock(&write_kind, l, clock, at)
			  : REAL(pthread_rwlock_clockwrlock)(l, clock, at);
}

HOOK int
pthread_rwlock_unlock(pthread_rwlock_t *l)
{
	int rc = REAL(pthread_rwlock_unlock)(l);

	if (rc == 0)
		waitq_wake(l, INT_MAX);
	return rc;
}
