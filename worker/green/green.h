/*
 * Green threads: blocking code, unchanged, that does not block.
 *
 * A green thread is a whole thread whose kernel half sleeps: a C stack, a
 * pthread of its own (thread-local storage, pthread_self, errno), run by one
 * OS thread, the loop's, which wears its identity meanwhile. The library knows
 * neither HTTP nor Python; it needs libc and libevent.
 *
 * hooks.c makes the executable that links it interpose libc's blocking calls:
 * on a green thread recv, poll, sem_wait, pthread_mutex_lock, nanosleep, …
 * park it and let others run; anywhere else they are the real calls.
 *
 * Times are nanoseconds of CLOCK_MONOTONIC; a deadline of GREEN_NEVER is none.
 * Unless said otherwise a function is for the loop's OS thread only: from a
 * green thread or from a callback of the loop.
 */
#ifndef GREEN_GREEN_H
#define GREEN_GREEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct event_base;
struct green;
struct msghdr;

#define GREEN_NEVER INT64_MAX

struct green_config {
	size_t stack_size; /* bytes reserved for each; 0: 8 MiB. Committed when touched */
	size_t max_idle;   /* pooled threads kept when there is nothing to run; 0: 64 */
	/* A green thread is about to end (the pool shrinks, green_fini): runs on it. */
	void (*at_exit)(void *arg);
	void *arg;
};

/*
 * One piece of work for a pooled green thread. The caller owns the struct until
 * fn has been entered; when no thread can be made (EAGAIN from a limit on
 * tasks), jobs wait in order for one to come free.
 */
struct green_job {
	void (*fn)(void *arg);
	void *arg;
	struct green_job *next; /* internal */
};

struct green_stats {
	size_t threads; /* that exist, running, parked or pooled */
	size_t busy;    /* that have a job */
	size_t queued;  /* jobs that wait for a thread */
	uint64_t switches;
	uint64_t refused;  /* times that a thread could not be made */
	int refused_error; /* and why, the last time: EAGAIN, ENOMEM */
};

/* Once in a process, on the OS thread that will run green_loop. 0, or -1 with errno. */
int green_init(struct event_base *, const struct green_config *);

/* End all pooled threads (the running ones must be done) and free everything. */
void green_fini(void);

/* Flags for an event_base that fits: no cached time; its timers may be 4 ms early. NULL with errno.
 */
struct event_base *green_event_base_new(void);

/* Run the loop and the green threads until green_loop_stop. 0, or -1 with errno. */
int green_loop(void);
void green_loop_stop(void);

/* fn(arg) at the end of each pass of the loop, when no green thread is runnable there. */
void green_on_pass(void (*fn)(void *arg), void *arg);

/*
 * Count from now on how long each green thread runs: two looks at the clock for each switch. Before
 * green_loop.
 */
void green_account(void);

/* How long this one has run so far, whatever it did: ns; 0 without green_account. */
int64_t green_run_time(void);

/* Run job->fn(job->arg) on a green thread, soon. From any OS thread. */
void green_run(struct green_job *);

/* The green thread that this code runs on; NULL on the loop itself or an OS thread. */
struct green *green_self(void);

/*
 * This thread's code was interrupted by a fault at that address: has it used up the stack of a
 * green thread, then that one's size in bytes, else 0. Async-signal-safe.
 */
size_t green_stack_used_up(const void *address);

/* Let the other runnable ones run; nothing on other than a green thread. */
void green_yield(void);

/* What a green thread waits for, for those who look at it (green_each). */
enum green_on {
	GREEN_ON_WAKE, /* green_wake, by whoever knows */
	GREEN_ON_TIME, /* its deadline only */
	GREEN_ON_READ, /* object is a descriptor */
	GREEN_ON_WRITE,
	GREEN_ON_DESCRIPTORS, /* one of several: object says of how many */
	GREEN_ON_MUTEX,       /* from here on object is an address */
	GREEN_ON_RWLOCK,
	GREEN_ON_SEMAPHORE,
	GREEN_ON_CONDITION,
	GREEN_ON_FUTEX,
	GREEN_ON_LOCK,   /* see green_lock_begin */
	GREEN_ON_HELPER, /* what runs on a helper thread, see green_offload */
};

struct green_waiting {
	enum green_on on;
	uintptr_t object;
	int64_t deadline;
};

/*
 * Park until green_wake or the deadline. A wake that came before the park is
 * not lost: it ends the next park at once. 0, or -1 with errno ETIMEDOUT.
 */
int green_park_on(enum green_on, uintptr_t object, int64_t deadline);
int green_park(int64_t deadline);

/* Wake one: from any OS thread, also while it runs (see green_park). */
void green_wake(struct green *);

/* Sleep; 0, or -1 with EINTR never: hooks.c has the libc forms. */
void green_sleep_until(int64_t deadline);

/*
 * From now on that many waits of g fail with ECANCELED, the one it is in first; 0: no more. From
 * any OS thread. Only waits of descriptors, children and time; and, while the thread itself says
 * that it expects so, epoll_wait, and semaphores with a deadline: those with ETIMEDOUT. Saying so
 * or the contrary returns whether a wait has failed that way since the last time.
 */
void green_interrupt(struct green *, int waits);
bool green_expect_interrupts(bool);

/* fn(arg) from the loop at that time, once; NULL with errno. To be freed in any case. */
struct green_alarm;
struct green_alarm *green_alarm_new(int64_t at, void (*fn)(void *arg), void *arg);
void green_alarm_free(struct green_alarm *);

/*
 * That descriptor, for which an event of the loop is already added, is waited for by other
 * processes, too: from now on the kernel wakes one of them, the first in the line that is idle, and
 * we are at its end. Where that cannot be had, it wakes all. 0, or -1 with errno: it is
 * not waited for any more.
 */
int green_fd_queue_up(int fd);

int64_t green_now(void);
/* now + ns without overflow; ns < 0 gives GREEN_NEVER. */
int64_t green_deadline(int64_t ns);

/*
 * Descriptors. Each has at most one registration with the event loop, edge-
 * triggered and kept until the descriptor is closed, which the wrapped close(2)
 * tells us; closing one on which somebody waits ends that wait with EBADF.
 */
enum {
	GREEN_READ = 1,
	GREEN_WRITE = 2,
	GREEN_HANGUP = 4, /* told to green_fd_watch: the peer has finished sending, also
			   * when its last bytes came with the same edge */
};

/*
 * Wait until the descriptor may be ready (try again after it: edges can be
 * stale). On an OS thread or the loop: poll(2). 0, or -1 with errno: ETIMEDOUT,
 * EBADF (closed meanwhile), EPERM (a regular file: always ready), ENOMEM.
 */
int green_fd_wait(int fd, int events, int64_t deadline);

/*
 * Call cb(fd, events, arg) from the loop on each edge of fd, beside those who
 * wait; cb NULL ends it. 0, or -1 with errno.
 */
int green_fd_watch(int fd, void (*cb)(int fd, int events, void *arg), void *arg);

/*
 * fd, close-on-exec and open until its number is closed, is ours and not the application's: a
 * forked child starts without it. Nothing is sent or shut down by that. 0, or -1 with errno.
 */
int green_fd_own(int fd);

/* Forget fd and close it without waking the loop for nothing. */
int green_fd_close(int fd);

/* For who sends or receives in parts: drop the first n bytes of msg's buffers. */
void green_msg_advance(struct msghdr *msg, size_t n);

/*
 * Run fn(arg) on a helper OS thread with the real blocking calls and park
 * meanwhile; errno is carried there and back. On other than a green thread: run it here.
 * 0, or -1 with errno EAGAIN when no helper can be had. What may wait for
 * another green thread must be a long one: it does not queue for a helper.
 */
int green_offload(void (*fn)(void *arg), void *arg);
int green_offload_long(void (*fn)(void *arg), void *arg);

void green_get_stats(struct green_stats *);

/*
 * Looking at green threads (look.c). What runs as one job may say so: the tag is any pointer,
 * NULL again at its end. Setting it begins a new turn.
 */
void green_tag_set(void *tag);

/* This thread's; NULL on other than a green thread. Async-signal-safe. */
void *green_tag(void);

struct green_view {
	struct green *green;
	void *tag;
	bool running; /* this is who has the OS thread */
	bool parked;  /* waiting says for what; if not it is about to run, or pooled */
	struct green_waiting waiting;
	pid_t tid;    /* what locks call it */
	pid_t holder; /* of the mutex or lock that it waits for; 0: none, or not known */
};

/*
 * All green threads, the running one first. On the loop's OS thread, where it may also be
 * called from a signal handler, whatever that interrupted.
 */
void green_each(void (*fn)(const struct green_view *, void *arg), void *arg);

/*
 * Call fn(arg) here and now with the identity of another green thread, which stands still
 * meanwhile: thread-local storage is its own; the hooks are the real calls. Where green_each may
 * be called.
 */
void green_wear(struct green *, void (*fn)(void *arg), void *arg);

/*
 * A runtime's own locks (Python's), which we see only as the semaphores behind them: around
 * acquiring one, and when one is released. Also on OS threads, of which nothing is noted.
 */
void green_lock_begin(const void *lock);
void green_lock_end(const void *lock, bool taken);
void green_lock_released(const void *lock);

/*
 * Look for a deadlock: call fn for each green thread of one that was there at the last call, too,
 * and has not been told yet. Whether there is one. On the loop, about once a second.
 */
bool green_deadlock_find(void (*fn)(struct green *, void *arg), void *arg);

/*
 * From any OS thread: a number that changes when another green thread or another job has its turn;
 * odd while one runs.
 */
uint64_t green_turn(void);

/*
 * From any OS thread: if it is still that turn when the one that runs parks or yields, the rest of
 * its job comes behind all others: one turn of one such job at the end of each pass of the loop.
 */
void green_turn_defer(uint64_t turn);

/*
 * Set *word to 1 and wake who sleeps on that futex; sleep while it is 0, at most ns. For OS threads
 * and signal handlers: the real calls, whoever they are made by.
 */
void green_kick(_Atomic uint32_t *word);
void green_kick_wait(_Atomic uint32_t *word, int64_t ns);

/* The same when a green thread runs next. Once. */
void green_kick_at_turn(_Atomic uint32_t *word);

#endif
