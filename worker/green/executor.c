/*
 * The executor: see executor.h. Native threads are made when a call finds none idle, as Python's
 * ThreadPoolExecutor does, and then stay: what the application keeps in threading.local is
 * meant to last.
 */
#include "worker/green/executor.h"

#include <errno.h>
#include <stdlib.h>

#include "worker/green/internal.h"
#include "worker/green/real.h"

struct call {
	void (*fn)(void *arg);
	void *arg;
	bool done;
	struct green *green; /* who waits for it */
	STAILQ_ENTRY(call) link;
};

static struct {
	struct executor_config config;
	pthread_mutex_t lock;
	pthread_cond_t more; /* a call, or the end */
	STAILQ_HEAD(, call) calls;
	pthread_t *threads; /* owned */
	unsigned n, idle, waiting, running;
	bool stop;
} ex = {.lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER};

/* The lock is held, but not during the call. */
static void
call_next(void)
{
	struct call *call = STAILQ_FIRST(&ex.calls);

	STAILQ_REMOVE_HEAD(&ex.calls, link);
	ex.waiting--;
	ex.running++;
	REAL(pthread_mutex_unlock)(&ex.lock);
	call->fn(call->arg);
	REAL(pthread_mutex_lock)(&ex.lock);
	ex.running--;
	call->done = true; /* its green thread goes on only with the lock: see executor_call */
	green_wake(call->green);
}

static void *
thread_main(void *arg)
{
	(void)arg;
	REAL(pthread_mutex_lock)(&ex.lock);
	while (!ex.stop) {
		if (!STAILQ_EMPTY(&ex.calls)) {
			call_next();
			continue;
		}
		ex.idle++;
		REAL(pthread_cond_wait)(&ex.more, &ex.lock);
		ex.idle--;
	}
	REAL(pthread_mutex_unlock)(&ex.lock);
	return NULL;
}

/*
 * The lock is held. Signals are not blocked: the application's children would inherit that. A
 * handler may run on any thread, as in every program with threads.
 */
static int
thread_start(void)
{
	pthread_attr_t attr;
	int rc = pthread_attr_init(&attr);

	if (rc != 0)
		return rc;
	rc = pthread_attr_setstacksize(&attr, ex.config.stack_size);
	if (rc == 0)
		rc = pthread_create(&ex.threads[ex.n], &attr, thread_main, NULL);
	if (rc == 0)
		ex.n++;
	pthread_attr_destroy(&attr);
	return rc;
}

int
executor_start(const struct executor_config *config)
{
	int rc;

	ex.config = *config;
	ex.stop = false;
	STAILQ_INIT(&ex.calls);
	if (config->threads == 0)
		return 0;
	ex.threads = calloc(config->threads, sizeof(*ex.threads));
	if (ex.threads == NULL)
		return -1;
	REAL(pthread_mutex_lock)(&ex.lock);
	rc = thread_start();
	REAL(pthread_mutex_unlock)(&ex.lock);
	errno = rc;
	return rc == 0 ? 0 : -1;
}

void
executor_call(void (*fn)(void *arg), void *arg)
{
	struct call call = {.fn = fn, .arg = arg, .green = green_tls_self};

	REAL(pthread_mutex_lock)(&ex.lock);
	STAILQ_INSERT_TAIL(&ex.calls, &call, link);
	ex.waiting++;
	if (ex.config.threads == 0) {
		ex.config.waiting(ex.config.arg);
	} else {
		if (ex.waiting > ex.idle && ex.n < ex.config.threads)
			(void)thread_start(); /* else those that there are do it, later */
		REAL(pthread_cond_signal)(&ex.more);
	}
	while (!call.done) {
		REAL(pthread_mutex_unlock)(&ex.lock);
		(void)green_park_on(GREEN_ON_HELPER, 0, GREEN_NEVER);
		REAL(pthread_mutex_lock)(&ex.lock);
	}
	REAL(pthread_mutex_unlock)(&ex.lock);
}

void
executor_work(void)
{
	REAL(pthread_mutex_lock)(&ex.lock);
	while (!STAILQ_EMPTY(&ex.calls))
		call_next();
	REAL(pthread_mutex_unlock)(&ex.lock);
}

unsigned
executor_running(void)
{
	unsigned n;

	REAL(pthread_mutex_lock)(&ex.lock);
	n = ex.running;
	REAL(pthread_mutex_unlock)(&ex.lock);
	return n;
}

void
executor_stop(void)
{
	REAL(pthread_mutex_lock)(&ex.lock);
	ex.stop = true;
	REAL(pthread_cond_broadcast)(&ex.more);
	REAL(pthread_mutex_unlock)(&ex.lock);
	while (ex.n > 0)
		(void)REAL(pthread_join)(ex.threads[--ex.n], NULL);
	free(ex.threads);
	ex.threads = NULL;
}
