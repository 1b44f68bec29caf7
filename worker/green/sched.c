/*
 * The scheduler: a run queue that the loop's OS thread works off after each
 * pass of the event loop, and a pool of green threads that take jobs.
 *
 * A green thread runs until it parks; it then switches to the loop, never to
 * another green thread. green_wake puts it back on the run queue, from any OS
 * thread: the others go through a lock-free list and an eventfd.
 */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "worker/green/internal.h"
#include "worker/green/real.h"

#define STACK_DEFAULT    (8UL << 20)
#define MAX_IDLE_DEFAULT 64
/* Of the run queue in a pass: green threads that wake each other need not wait for a poll each
 * time. */
#define ROUNDS            16
#define HOUSEKEEPING_SECS 1
/* Threads that nobody needs stay for that long: bursts come in trains, and a thread costs as much
 * as several requests. */
#define SURPLUS_SECS      10
#define SPAWN_AT_ONCE     16
#define SPAWN_RETRY_USECS 50000
/*
 * Who met the limit on tasks gives back that part of its threads, for so long: the application's
 * forks and threads, other workers and the master have the same limit. Not who has only a few.
 */
#define LIMIT_SPARE 8
#define LIMIT_SECS  60
#define LIMIT_FEW   16

struct event_base *green_base;
pid_t green_loop_tid;

static struct {
	struct green_config config;
	struct context loop;
	void *loop_tp;
	struct green_list run;               /* runnable, in order */
	struct green_list deferred;          /* runnable when no others are */
	struct green_list idle;              /* pooled, the one used last first */
	struct green_list dying;             /* their kernel half is ending */
	struct green_job *jobs, **jobs_tail; /* that wait for a thread */
	size_t njobs, budget;                /* budget: how many may still be begun in this pass */
	size_t threads, busy, nidle,
	    idle_low;          /* idle_low: least nidle since the last housekeeping */
	unsigned surplus_secs; /* for how long there have been idle ones beyond max_idle */
	bool shrinking;        /* some of those have ended since memory was given back */
	struct green_job trim;
	size_t unborn;       /* created, their kernel half is still starting */
	size_t limit;        /* no more threads for now than that; SIZE_MAX: no limit is known */
	unsigned limit_secs; /* for how long it still counts */
	uint64_t refused;
	int refused_error;
	uint64_t switches;
	bool accounting; /* the time that each runs is counted */
	bool stop;
	void (*on_pass)(void *);
	void *on_pass_arg;
	int wake_fd, clock_fd;
	struct event wake_event, housekeeping, retry, clock;
	int64_t clock_at;                   /* when clock fires; GREEN_NEVER: it is off */
	_Atomic(struct green *) remote;     /* woken by other OS threads, newest first */
	_Atomic(struct green *) born;       /* new ones, likewise */
	_Atomic(struct green_job *) posted; /* jobs of other OS threads, likewise */
	_Atomic bool poked;                 /* the eventfd has been written since the last drain */
} rt;

int64_t
green_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t
green_deadline(int64_t ns)
{
	int64_t deadline;

	if (ns < 0 || __builtin_add_overflow(green_now(), ns, &deadline))
		return GREEN_NEVER;
	return deadline;
}

struct green *
green_self(void)
{
	return green_tls_self;
}

/* ---- switching ---- */

/* It yields, or has parked: see green_turn_defer. */
static inline void
turn_over(struct green *g)
{
	uint64_t deferred = atomic_load_explicit(&green_turn_deferred, memory_order_relaxed);

	if (__builtin_expect(green_turn() == deferred, 0))
		g->deferred = true;
}

static void
green_resume(struct green *g)
{
	green_current = g;
	rt.switches++;
	g->used = true;
	green_turn_add(1);
	if (__builtin_expect(
		atomic_load_explicit(&green_kick_wanted, memory_order_relaxed) != NULL, 0))
		green_kick_due();
	if (__builtin_expect(rt.accounting, 0))
		g->resumed = green_now();
	context_switch(&rt.loop, &g->context, g->identity.tp);
	if (__builtin_expect(rt.accounting, 0))
		g->ran += green_now() - g->resumed;
	turn_over(g);
	green_turn_add(1);
	green_current = NULL;
}

void
green_account(void)
{
	rt.accounting = true;
}

int64_t
green_run_time(void)
{
	const struct green *g = green_current;

	return rt.accounting && g != NULL ? g->ran + green_now() - g->resumed : 0;
}

static void
green_suspend(struct green *g)
{
	context_switch(&g->context, &rt.loop, rt.loop_tp);
}

void *
green_lay_aside(void)
{
	void *mine = context_thread_pointer();

	context_wear(rt.loop_tp);
	return mine;
}

static void
green_enqueue(struct green *g)
{
	TAILQ_INSERT_TAIL(g->deferred ? &rt.deferred : &rt.run, g, link);
}

/* Make the loop come round; once between two drains. */
void
green_notify_loop(void)
{
	uint64_t one = 1;

	if (atomic_exchange(&rt.poked, true))
		return;
	while (REAL(write)(rt.wake_fd, &one, sizeof(one)) == -1 && errno == EINTR)
		;
}

static void
remote_push(_Atomic(struct green *) *list, struct green *g)
{
	struct green *head = atomic_load_explicit(list, memory_order_relaxed);

	do
		atomic_store_explicit(&g->remote, head, memory_order_relaxed);
	while (!atomic_compare_exchange_weak(list, &head, g));
	green_notify_loop();
}

/* Take a list that others push to, in the order of pushing. */
static struct green *
remote_take(_Atomic(struct green *) *list)
{
	struct green *g = atomic_exchange(list, NULL), *ordered = NULL, *next;

	for (; g != NULL; g = next) {
		next = atomic_load_explicit(&g->remote, memory_order_relaxed);
		atomic_store_explicit(&g->remote, ordered, memory_order_relaxed);
		ordered = g;
	}
	return ordered;
}

void
green_wake(struct green *g)
{
	if (atomic_exchange(&g->state, GREEN_WOKEN) != GREEN_PARKED)
		return; /* runs, or is woken already: its next park returns at once */
	if (green_tls_loop)
		green_enqueue(g);
	else
		remote_push(&rt.remote, g);
}

/* Have the loop come round at that time, or before. */
static void
clock_arm(int64_t deadline)
{
	int64_t at = deadline > 0 ? deadline : 1; /* 0 would turn it off */
	struct itimerspec when = {.it_value = {at / 1000000000, at % 1000000000}};

	if (deadline >= rt.clock_at)
		return;
	rt.clock_at = deadline;
	timerfd_settime(rt.clock_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

/* Edge-triggered and never read: the next setting takes it back. */
static void
on_clock(evutil_socket_t fd, short what, void *arg)
{
	int64_t now = green_now(), deadline;
	struct green *g;

	(void)fd;
	(void)what;
	(void)arg;
	rt.clock_at = GREEN_NEVER;
	while ((g = green_timers_first(&deadline)) != NULL && deadline <= now) {
		green_timers_remove(g);
		if (atomic_exchange(&g->state, GREEN_WOKEN) == GREEN_PARKED) {
			g->timed_out = true;
			green_enqueue(g);
		}
	}
	if (g != NULL)
		clock_arm(deadline);
}

int
green_park_on(enum green_on on, uintptr_t object, int64_t deadline)
{
	struct green *g = green_current;
	int expected = GREEN_RUNNING;

	g->timed_out = false;
	g->waiting = (struct green_waiting){on, object, deadline};
	if (atomic_compare_exchange_strong(&g->state, &expected, GREEN_PARKED)) {
		/* From here another OS thread may wake us, which only queues us. */
		if (deadline != GREEN_NEVER && green_timers_add(g, deadline))
			clock_arm(deadline);
		green_suspend(g);
		green_timers_remove(g);
	}
	/* not just a store: we see what those did who found us woken already */
	(void)atomic_exchange(&g->state, GREEN_RUNNING);
	if (g->timed_out) {
		errno = ETIMEDOUT;
		return -1;
	}
	return 0;
}

int
green_park(int64_t deadline)
{
	return green_park_on(GREEN_ON_WAKE, 0, deadline);
}

void
green_yield(void)
{
	struct green *g = green_current;

	if (g == NULL)
		return;
	turn_over(g);
	green_enqueue(g); /* as GREEN_RUNNING: a wake is kept for the next park */
	green_suspend(g);
}

void
green_sleep_until(int64_t deadline)
{
	int saved_errno = errno; /* the park's ETIMEDOUT is how a sleep should end */

	while (green_park_on(GREEN_ON_TIME, 0, deadline) == 0)
		; /* an early wake was meant for something else */
	errno = saved_errno;
}

/* ---- threads and jobs ---- */

static struct green_job *
job_take(void)
{
	struct green_job *job = rt.jobs;

	if (job == NULL || rt.budget == 0)
		return NULL;
	rt.jobs = job->next;
	if (rt.jobs == NULL)
		rt.jobs_tail = &rt.jobs;
	rt.njobs--;
	rt.budget--;
	green_turn_add(2);
	return job;
}

static void
green_go_idle(struct green *g)
{
	rt.busy--;
	rt.nidle++;
	TAILQ_INSERT_HEAD(&rt.idle, g, link);
	green_suspend(g); /* nobody wakes an idle thread: green_leave_idle and green_resume */
	atomic_store(&g->state, GREEN_RUNNING);
}

static void
green_leave_idle(struct green *g)
{
	TAILQ_REMOVE(&rt.idle, g, link);
	g->deferred = false; /* as the end of its last job may have been */
	if (--rt.nidle < rt.idle_low)
		rt.idle_low = rt.nidle;
	rt.busy++;
}

/* Whether this thread is one too many. */
static bool
over_limit(void)
{
	return rt.threads > rt.limit;
}

/* A pooled thread's life, on its own stack: job after job, as long as none parks and some wait. */
_Noreturn void
green_main(void *arg)
{
	struct green *g = arg;

	atomic_store(&g->state, GREEN_RUNNING);
	for (;;) {
		struct green_job *job = over_limit() ? NULL : job_take();

		g->deferred = false;
		if (job != NULL)
			job->fn(job->arg);
		else if (g->retiring || over_limit())
			break;
		else
			green_go_idle(g);
	}
	if (rt.config.at_exit != NULL)
		rt.config.at_exit(rt.config.arg);
	g->exited = true;
	green_suspend(g);
	abort(); /* nobody switches to one that has exited */
}

/* On the kernel half's own OS thread, which sleeps at once. */
void
green_born(struct green *g)
{
	remote_push(&rt.born, g);
}

/* A limit on tasks or memory: the jobs wait for those that run. */
static void
spawn_refused(void)
{
	struct timeval tv = {0, SPAWN_RETRY_USECS};
	size_t n = rt.threads + rt.unborn;

	rt.refused++;
	rt.refused_error = errno;
	if (n > LIMIT_FEW) {
		rt.limit = n - n / LIMIT_SPARE;
		rt.limit_secs = LIMIT_SECS;
	} else if (!evtimer_pending(&rt.retry, NULL)) {
		evtimer_add(&rt.retry, &tv);
	}
}

/*
 * Jobs wait and all threads are parked: have some more on their way. Not one for each job: most
 * jobs never park.
 */
static void
spawn_threads(void)
{
	while (rt.unborn < rt.njobs && rt.unborn < SPAWN_AT_ONCE &&
	       rt.threads + rt.unborn < rt.limit) {
		if (green_timers_reserve(rt.threads + rt.unborn + 1) == -1 ||
		    green_thread_new(rt.config.stack_size) == NULL) {
			spawn_refused();
			return;
		}
		rt.unborn++;
	}
}

static void
on_retry(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	spawn_threads();
}

/* On another OS thread: the loop takes it from here. */
static void
job_post(struct green_job *job)
{
	job->next = atomic_load(&rt.posted);
	while (!atomic_compare_exchange_weak(&rt.posted, &job->next, job))
		;
	green_notify_loop();
}

void
green_run(struct green_job *job)
{
	if (!green_tls_loop) {
		job_post(job);
		return;
	}
	job->next = NULL;
	*rt.jobs_tail = job;
	rt.jobs_tail = &job->next;
	rt.njobs++;
	if (TAILQ_EMPTY(&rt.idle) && rt.unborn == 0)
		spawn_threads(); /* so that the loop, should it wait, is woken for the job */
}

/* A thread that ended leaves its stack: let the kernel half go, and join it later. */
static void
green_bury(struct green *g)
{
	rt.threads--;
	rt.busy--;
	LIST_REMOVE(g, every);
	TAILQ_INSERT_TAIL(&rt.dying, g, link);
	green_thread_release(g);
}

static void
green_retire_idle(size_t n)
{
	struct green *g;

	while (n-- > 0 && (g = TAILQ_LAST(&rt.idle, green_list)) != NULL) {
		green_leave_idle(g);
		g->retiring = true;
		green_enqueue(g);
	}
}

static void
join_dying(bool wait)
{
	struct green *g, *next;

	for (g = TAILQ_FIRST(&rt.dying); g != NULL; g = next) {
		next = TAILQ_NEXT(g, link);
		TAILQ_REMOVE(&rt.dying, g, link);
		if (green_thread_join(g, wait) != 0)
			TAILQ_INSERT_HEAD(&rt.dying, g, link);
	}
}

static void
trim(void *arg)
{
	(void)arg;
	(void)malloc_trim(0);
}

/* On a green thread, for a helper: it takes milliseconds. */
static void
trim_main(void *arg)
{
	(void)green_offload(trim, arg);
}

/*
 * Some have been idle for longer than is good: end half of those that were not needed since the
 * last round. After the last of them give back what malloc has kept of a burst; libc does so of
 * itself only at the top of its heaps.
 */
static void
pool_shrink(void)
{
	if (rt.idle_low > rt.config.max_idle) {
		if (++rt.surplus_secs <= SURPLUS_SECS)
			return;
		green_retire_idle((rt.idle_low - rt.config.max_idle + 1) / 2);
		rt.shrinking = true;
		return;
	}
	rt.surplus_secs = 0;
	if (!rt.shrinking || !TAILQ_EMPTY(&rt.dying))
		return;
	rt.shrinking = false;
	rt.trim = (struct green_job){.fn = trim_main};
	green_run(&rt.trim);
}

/*
 * Once a second: give back what idle threads used of their stacks, and end those that nobody needs.
 */
static void
on_housekeeping(evutil_socket_t fd, short what, void *arg)
{
	struct green *g;

	(void)fd;
	(void)what;
	(void)arg;
	TAILQ_FOREACH (g, &rt.idle, link) {
		if (g->used)
			green_thread_trim(g);
		g->used = false;
	}
	join_dying(false);
	if (rt.limit != SIZE_MAX && --rt.limit_secs == 0) {
		rt.limit = SIZE_MAX;
		spawn_threads();
	}
	pool_shrink();
	rt.idle_low = rt.nidle;
}

/* ---- the loop ---- */

static void
on_wake_fd(evutil_socket_t fd, short what, void *arg)
{
	/* Edge-triggered and never read: the loop came round, that is all. */
	(void)fd;
	(void)what;
	(void)arg;
}

/* In the order of posting. */
static void
take_posted(void)
{
	struct green_job *job = atomic_exchange(&rt.posted, NULL), *ordered = NULL, *next;

	for (; job != NULL; job = next) {
		next = job->next;
		job->next = ordered;
		ordered = job;
	}
	for (; ordered != NULL; ordered = next) {
		next = ordered->next;
		green_run(ordered);
	}
}

static void
drain_remote(void)
{
	struct green *g, *next;

	if (!atomic_exchange(&rt.poked, false))
		return;
	take_posted();
	for (g = remote_take(&rt.remote); g != NULL; g = next) {
		next = atomic_load_explicit(&g->remote, memory_order_relaxed);
		green_enqueue(g);
	}
	for (g = remote_take(&rt.born); g != NULL; g = next) {
		next = atomic_load_explicit(&g->remote, memory_order_relaxed);
		if (!green_thread_start(g)) { /* it is just about to, and has told us before */
			remote_push(&rt.born, g);
			REAL(sched_yield)();
			continue;
		}
		rt.unborn--;
		rt.threads++;
		rt.busy++;
		green_all_add(g);
		atomic_store(&g->state, GREEN_WOKEN);
		green_enqueue(g);
	}
	green_fd_drain_closed();
}

static void
run_one(struct green *g)
{
	green_resume(g);
	if (g->exited)
		green_bury(g);
}

/* Those that are runnable now; who becomes so meanwhile waits for the next round. */
static void
run_queue(void)
{
	struct green_list now;
	struct green *g;

	TAILQ_INIT(&now);
	TAILQ_CONCAT(&now, &rt.run, link);
	while ((g = TAILQ_FIRST(&now)) != NULL) {
		TAILQ_REMOVE(&now, g, link);
		run_one(g);
	}
}

/*
 * The jobs that wait: the thread used last takes them one after another, with its stack and its
 * thread-local memory still in the processor's caches, until one parks; then the next thread.
 */
static void
run_jobs(void)
{
	struct green *g;

	while (rt.budget > 0 && rt.jobs != NULL && (g = TAILQ_FIRST(&rt.idle)) != NULL) {
		green_leave_idle(g);
		run_one(g);
	}
	if (rt.jobs != NULL && TAILQ_EMPTY(&rt.idle))
		spawn_threads();
}

/* One of those that compute, so that the loop comes round between two of them. */
static void
run_deferred(void)
{
	struct green *g = TAILQ_FIRST(&rt.deferred);

	if (g == NULL)
		return;
	TAILQ_REMOVE(&rt.deferred, g, link);
	run_one(g);
}

static int
loop_pass(void)
{
	int flags = EVLOOP_ONCE;

	if (!TAILQ_EMPTY(&rt.run) || !TAILQ_EMPTY(&rt.deferred) ||
	    (rt.jobs != NULL && !TAILQ_EMPTY(&rt.idle)) || atomic_load(&rt.poked))
		flags |= EVLOOP_NONBLOCK;
	if (event_base_loop(green_base, flags) == -1)
		return -1;
	drain_remote();
	rt.budget = rt.njobs; /* those that come meanwhile wait for the next pass */
	for (int i = 0; i < ROUNDS && !TAILQ_EMPTY(&rt.run); i++)
		run_queue();
	run_jobs();
	run_deferred();
	if (rt.on_pass != NULL)
		rt.on_pass(rt.on_pass_arg);
	return 0;
}

int
green_loop(void)
{
	rt.stop = false;
	while (!rt.stop)
		if (loop_pass() == -1)
			return -1;
	return 0;
}

void
green_loop_stop(void)
{
	rt.stop = true;
	event_base_loopbreak(green_base);
}

void
green_on_pass(void (*fn)(void *), void *arg)
{
	rt.on_pass = fn;
	rt.on_pass_arg = arg;
}

/* In a forked child only the forking thread exists; it goes on as an OS thread. */
static void
after_fork_child(void)
{
	green_tls_self = NULL;
	green_tls_loop = false;
	green_current = NULL;
	green_timers_fini();
	waitq_after_fork();
	green_fd_after_fork();
	green_offload_after_fork();
}

static int
loop_events_init(void)
{
	struct timeval second = {HOUSEKEEPING_SECS, 0};

	rt.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	rt.clock_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (rt.wake_fd == -1 || rt.clock_fd == -1)
		return -1;
	event_assign(
	    &rt.wake_event, green_base, rt.wake_fd, EV_READ | EV_ET | EV_PERSIST, on_wake_fd, NULL);
	event_assign(&rt.housekeeping, green_base, -1, EV_PERSIST, on_housekeeping, NULL);
	evtimer_assign(&rt.retry, green_base, on_retry, NULL);
	event_assign(
	    &rt.clock, green_base, rt.clock_fd, EV_READ | EV_ET | EV_PERSIST, on_clock, NULL);
	rt.clock_at = GREEN_NEVER;
	if (event_add(&rt.wake_event, NULL) == -1 || event_add(&rt.clock, NULL) == -1 ||
	    event_add(&rt.housekeeping, &second) == -1)
		return -1;
	return 0;
}

int
green_init(struct event_base *base, const struct green_config *config)
{
	static bool atfork_done;

	memset(&rt, 0, sizeof(rt));
	if (config != NULL)
		rt.config = *config;
	if (rt.config.stack_size == 0)
		rt.config.stack_size = STACK_DEFAULT;
	if (rt.config.max_idle == 0)
		rt.config.max_idle = MAX_IDLE_DEFAULT;
	TAILQ_INIT(&rt.run);
	TAILQ_INIT(&rt.deferred);
	TAILQ_INIT(&rt.idle);
	TAILQ_INIT(&rt.dying);
	rt.jobs_tail = &rt.jobs;
	rt.limit = SIZE_MAX;
	green_base = base;
	green_loop_tid = gettid();
	context_init();
	rt.loop_tp = context_thread_pointer();
	green_tls_loop = true;
	if (!atfork_done && (errno = pthread_atfork(NULL, NULL, after_fork_child)) != 0)
		return -1;
	atfork_done = true;
	green_offload_init();
	return loop_events_init();
}

/* A job was given up on purpose while its thread still runs: such threads are left alone. */
void
green_fini(void)
{
	while (rt.unborn > 0)
		loop_pass();
	green_retire_idle(rt.nidle);
	while (!TAILQ_EMPTY(&rt.run)) {
		run_queue();
	}
	join_dying(true);
	green_offload_fini();
	event_del(&rt.wake_event);
	event_del(&rt.housekeeping);
	evtimer_del(&rt.retry);
	event_del(&rt.clock);
	green_timers_fini();
	green_fd_fini();
	REAL(close)(rt.wake_fd);
	REAL(close)(rt.clock_fd);
	green_tls_loop = false;
	green_base = NULL;
}

void
green_get_stats(struct green_stats *s)
{
	s->threads = rt.threads;
	s->busy = rt.busy;
	s->queued = rt.njobs;
	s->switches = rt.switches;
	s->refused = rt.refused;
	s->refused_error = rt.refused_error;
}
