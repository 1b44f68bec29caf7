/*
 * Helper threads for calls that block inside libc, where no hook reaches: name
 * look-ups, foremost. A few OS threads, made on demand, that end when idle.
 */
#include <errno.h>
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
	int saved_errno;
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

/* The next job, or NULL when there was none for IDLE_SECONDS. The lock is held. */
static struct offload *
next_job(void)
{
	struct offload *job;
	struct timespec until;
	int rc = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += IDLE_SECONDS;
	pool.idle++;
	while ((job = TAILQ_FIRST(&pool.jobs)) == NULL && !pool.stop && rc == 0)
		rc = REAL(pthread_cond_timedwait)(&pool.more, &pool.lock, &until);
	pool.idle--;
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
		errno = 0;
		job->fn(job->arg);
		job->saved_errno = errno;
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

/* Queue the job and see that somebody will take it. The lock is held. */
static int
submit(struct offload *job)
{
	int rc;

	/* an idle helper may have been woken for an earlier job already */
	if (pool.idle <= pool.waiting && pool.helpers < MAX_HELPERS) {
		rc = helper_start();
		if (rc == 0)
			pool.helpers++;
		else if (pool.helpers == 0)
			return rc;
	}
	TAILQ_INSERT_TAIL(&pool.jobs, job, link);
	pool.waiting++;
	REAL(pthread_cond_signal)(&pool.more);
	return 0;
}

int
green_offload(void (*fn)(void *arg), void *arg)
{
	struct offload job = {.fn = fn, .arg = arg, .green = green_tls_self};
	int rc;

	if (job.green == NULL) {
		fn(arg);
		return 0;
	}
	REAL(pthread_mutex_lock)(&pool.lock);
	rc = submit(&job);
	while (rc == 0 && !job.done) {
		REAL(pthread_mutex_unlock)(&pool.lock);
		(void)green_park_on(GREEN_ON_HELPER, 0, GREEN_NEVER);
		REAL(pthread_mutex_lock)(&pool.lock);
	}
	REAL(pthread_mutex_unlock)(&pool.lock);
	errno = rc == 0 ? job.saved_errno : EAGAIN;
	return rc == 0 ? 0 : -1;
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
