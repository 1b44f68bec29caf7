/*
 * Helper threads for calls that wait inside libc or the kernel, where no hook reaches. There are
 * two sorts: look-ups (names, users) share a few helpers and queue for them; what may wait until
 * another green thread does something, such as a file's lock, never queues: it has a helper of its
 * own, or none. Helpers are made on demand and end when idle, but for one, which is kept for
 * look-ups when a limit on tasks allows no more.
 */
#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "worker/green/internal.h"
#include "worker/green/real.h"

#define MAX_HELPERS  32
#define IDLE_SECONDS 10

struct offload {
	void (*fn)(void *arg);
	void *arg;
	int saved_errno, saved_h_errno; /* in and out */
	bool done;
	struct green *green;
	TAILQ_ENTRY(offload) link;
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t more; /* a job, or the end */
	pthread_cond_t gone; /* a helper has ended */
	TAILQ_HEAD(, offload) jobs;
	unsigned helpers, idle, waiting; /* waiting: jobs that nobody has taken yet */
	bool stop;
} pool;

__attribute__((constructor(101))) static void
pool_init(void)
{
	pthread_condattr_t attr;

	memset(&pool, 0, sizeof(pool));
	pthread_mutex_init(&pool.lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&pool.more, &attr);
	pthread_cond_init(&pool.gone, &attr);
	pthread_condattr_destroy(&attr);
	TAILQ_INIT(&pool.jobs);
}

/* The helpers are not in the child. */
void
green_offload_after_fork(void)
{
	pool_init();
}

/* Whether there was something to do within IDLE_SECONDS. The lock is held. */
static bool
wait_for_job(void)
{
	struct timespec until;
	int rc = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += IDLE_SECONDS;
	while (TAILQ_EMPTY(&pool.jobs) && !pool.stop && rc == 0)
		rc = REAL(pthread_cond_timedwait)(&pool.more, &pool.lock, &until);
	return !TAILQ_EMPTY(&pool.jobs);
}

/* The next job, or NULL when this helper is not needed. The lock is held. */
static struct offload *
next_job(void)
{
	struct offload *job;

	pool.idle++;
	while (!wait_for_job() && !pool.stop && pool.idle == 1)
		; /* the last idle one stays */
	pool.idle--;
	job = TAILQ_FIRST(&pool.jobs);
	if (job != NULL) {
		TAILQ_REMOVE(&pool.jobs, job, link);
		pool.waiting--;
	}
	return job;
}

static void *
helper_main(void *arg)
{
	struct offload *job;

	(void)arg;
	REAL(pthread_mutex_lock)(&pool.lock);
	while ((job = next_job()) != NULL) {
		REAL(pthread_mutex_unlock)(&pool.lock);
		errno = job->saved_errno;
		h_errno = job->saved_h_errno;
		job->fn(job->arg);
		job->saved_errno = errno;
		job->saved_h_errno = h_errno;
		REAL(pthread_mutex_lock)(&pool.lock);
		job->done =
		    true; /* its green thread goes on only with the lock: see green_offload */
		green_wake(job->green);
	}
	pool.helpers--;
	REAL(pthread_cond_signal)(&pool.gone);
	REAL(pthread_mutex_unlock)(&pool.lock);
	return NULL;
}

/* Signals are for the loop's thread. */
static int
helper_start(void)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all, old;
	int rc = pthread_attr_init(&attr);

	if (rc != 0)
		return rc;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&thread, &attr, helper_main, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return rc;
}

/*
 * Queue the job and see that somebody will take it. The lock is held. An idle helper may have
 * been woken for an earlier job already; the last idle one is not for long jobs.
 */
static int
submit(struct offload *job, bool is_long)
{
	bool short_of = pool.idle <= pool.waiting + (is_long ? 1 : 0);
	int rc;

	if (short_of && (is_long || pool.helpers < MAX_HELPERS)) {
		rc = helper_start();
		if (rc == 0)
			pool.helpers++;
		else if (is_long || pool.helpers == 0)
			return rc;
	}
	if (is_long)
		TAILQ_INSERT_HEAD(&pool.jobs, job, link);
	else
		TAILQ_INSERT_TAIL(&pool.jobs, job, link);
	pool.waiting++;
	REAL(pthread_cond_signal)(&pool.more);
	return 0;
}

static int
run_on_helper(void (*fn)(void *arg), void *arg, bool is_long)
{
	struct offload job = {.fn = fn, .arg = arg, .green = green_tls_self};
	int rc;

	job.saved_errno = errno;
	job.saved_h_errno = h_errno;
	REAL(pthread_mutex_lock)(&pool.lock);
	rc = submit(&job, is_long);
	while (rc == 0 && !job.done) {
		REAL(pthread_mutex_unlock)(&pool.lock);
		(void)green_park_on(GREEN_ON_HELPER, 0, GREEN_NEVER);
		REAL(pthread_mutex_lock)(&pool.lock);
	}
	REAL(pthread_mutex_unlock)(&pool.lock);
	errno = rc == 0 ? job.saved_errno : EAGAIN;
	h_errno = rc == 0 ? job.saved_h_errno : TRY_AGAIN;
	return rc == 0 ? 0 : -1;
}

int
green_offload(void (*fn)(void *arg), void *arg)
{
	if (green_tls_self != NULL)
		return run_on_helper(fn, arg, false);
	fn(arg);
	return 0;
}

int
green_offload_long(void (*fn)(void *arg), void *arg)
{
	if (green_tls_self != NULL)
		return run_on_helper(fn, arg, true);
	fn(arg);
	return 0;
}

/* The helper that is always there; without it (a limit) look-ups say that they should be tried
 * again. */
void
green_offload_init(void)
{
	REAL(pthread_mutex_lock)(&pool.lock);
	if (pool.helpers == 0 && helper_start() == 0)
		pool.helpers++;
	REAL(pthread_mutex_unlock)(&pool.lock);
}

/* Wait a moment for the helpers to end; one that is stuck in a look-up is left to exit. */
void
green_offload_fini(void)
{
	struct timespec until;
	int rc = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += 1;
	REAL(pthread_mutex_lock)(&pool.lock);
	pool.stop = true;
	REAL(pthread_cond_broadcast)(&pool.more);
	while (pool.helpers > 0 && rc == 0)
		rc = REAL(pthread_cond_timedwait)(&pool.gone, &pool.lock, &until);
	pool.stop = false;
	REAL(pthread_mutex_unlock)(&pool.lock);
}
