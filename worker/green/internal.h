/* What the files of the green-thread runtime share among themselves. */
#ifndef GREEN_INTERNAL_H
#define GREEN_INTERNAL_H

#include <sys/queue.h>

#include <event2/event.h>
#include <event2/event_struct.h>
#include <pthread.h>
#include <stdatomic.h>

#include "worker/green/context.h"
#include "worker/green/green.h"

/* Whether somebody asked to wake it, and whether it sleeps. See green_wake. */
enum green_state { GREEN_RUNNING, GREEN_PARKED, GREEN_WOKEN };

/* What the kernel half does; a futex. */
enum green_half { HALF_STARTING, HALF_ASLEEP, HALF_RELEASED };

struct green {
	struct context context;   /* where it goes on */
	struct identity identity; /* its pthread */
	void *stack;              /* owned mapping, guard first */
	size_t stack_size;        /* with the guard */
	char *entry;              /* top of its own frames, below the parked ones */
	_Atomic int state;        /* enum green_state */
	bool timed_out;
	bool deferred; /* for the rest of its job: see green_turn_defer */
	bool used;     /* ran since the stack was last trimmed */
	bool retiring;
	bool exited;                    /* green_main is over: the kernel half may end */
	_Atomic uint32_t half;          /* enum green_half */
	int64_t resumed, ran;           /* with green_account: ns, since when and before that */
	size_t timer;                   /* its place among those with a deadline; 0: none */
	TAILQ_ENTRY(green) link;        /* on the run queue, the idle list or the dying list */
	_Atomic(struct green *) remote; /* next on the list of those woken from other OS threads */
	struct green_waiting waiting;   /* while it is parked */
	void *tag;                      /* its job's: green_tag_set */
	const void *lock;               /* a runtime's own, while it is being acquired: holder.c */
	_Atomic int interrupts;         /* how many waits are to fail: interrupt.c */
	bool expects_interrupts, was_interrupted;
	LIST_ENTRY(green) every;    /* all there are, for look.c */
	uintptr_t suspect, accused; /* locks: in a cycle at the last look; told of (deadlock.c) */
};
TAILQ_HEAD(green_list, green);
LIST_HEAD(green_all, green);

/* This thread's green thread; NULL on the loop and on OS threads, and in a forked child. */
extern __thread struct green *green_tls_self __attribute__((tls_model("initial-exec")));

/* Whether this OS thread is the loop's (true on every green thread too). */
extern __thread bool green_tls_loop __attribute__((tls_model("initial-exec")));

/* In the child of vfork(2), which has our memory but descriptors of its own. */
extern __thread bool green_tls_vforked __attribute__((tls_model("initial-exec")));

extern struct event_base *green_base;
extern pid_t green_loop_tid;

/* thread.c: the identity, a pthread whose kernel half parks */
struct green *green_thread_new(size_t stack_size);
/* From now on its stack is the green thread's. False: the kernel half does not sleep yet. */
bool green_thread_start(struct green *);
/* Let the kernel half end; then join (without waiting: EBUSY) and free. */
void green_thread_release(struct green *);
int green_thread_join(struct green *, bool wait);
void green_thread_trim(struct green *);

/* sched.c */
void green_born(struct green *);
_Noreturn void green_main(void *);
void green_notify_loop(void);
/* Be the loop's thread, on this stack, for a call that knows nothing of green threads: until
 * context_wear(result). */
void *green_lay_aside(void);

/* timers.c: deadlines of parked ones. There must be room for as many (0, or -1 with errno). */
int green_timers_reserve(size_t n);
/* Whether it is the first of all now. */
bool green_timers_add(struct green *, int64_t deadline);
void green_timers_remove(struct green *);
/* NULL: there are none. */
struct green *green_timers_first(int64_t *deadline);
void green_timers_fini(void);

/* look.c: what others may see of the scheduler, also from a signal handler */
extern struct green_all green_all;
extern struct green *green_current;  /* NULL while the loop runs */
extern _Atomic uint64_t green_turns; /* odd while a green thread runs */
extern _Atomic uint64_t green_turn_deferred;
extern _Atomic(_Atomic uint32_t *) green_kick_wanted;
void green_all_add(struct green *);
struct green_view green_look(struct green *);
void green_kick_due(void);

/* Something else is being done now: a green thread is entered, left, or takes the next job. */
static inline void
green_turn_add(uint64_t n)
{
	atomic_store_explicit(&green_turns,
	    atomic_load_explicit(&green_turns, memory_order_relaxed) + n, memory_order_relaxed);
}

/* holder.c: who took a runtime's own lock last, 0 when that is not known */
pid_t green_holder_of(const void *lock);

/*
 * interrupt.c: a park that green_interrupt ends: -1 with errno ECANCELED, or as green_park_on. For
 * waits on behalf of the application that may fail with any errno.
 */
int green_park_interruptibly(enum green_on, uintptr_t object, int64_t deadline);

/* fd.c */
/* As green_fd_wait, and ECANCELED. */
int green_fd_wait_interruptibly(int fd, int events, int64_t deadline);
void green_fd_fini(void);
void green_fd_after_fork(void);
/* Descriptor fd is about to be closed, by whichever thread: who waits gets EBADF. */
void green_fd_forget(int fd);
void green_fd_forget_range(unsigned first, unsigned last);
/* The loop's share of closes on other OS threads. */
void green_fd_drain_closed(void);
/*
 * Wait until something may have happened to one of them, of which a poll(2) just now said nothing.
 * 0, or -1 with errno: ETIMEDOUT, ENOMEM, ECANCELED.
 */
struct pollfd;
int green_fd_wait_any(const struct pollfd *, unsigned long nfds, int64_t deadline);

/*
 * What a descriptor is, asked once and kept until it may have changed: on green threads only.
 * green_fd_changed is for who changes flags or time limits of any, from any OS thread: descriptors
 * share them with their duplicates.
 */
enum fd_kind { FD_FILE, FD_PIPE, FD_SOCKET, FD_OTHER };
enum fd_kind green_fd_kind(int fd);
int green_fd_flags(int fd); /* F_GETFL; -1 with errno */
/* Without asking: whether it has been found to have O_NONBLOCK. */
bool green_fd_is_nonblocking_known(int fd);
/* When a call that begins now has to give up: SO_RCVTIMEO or SO_SNDTIMEO; GREEN_NEVER without. */
int64_t green_fd_deadline(int fd, int option);
/* Whether RWF_NOWAIT is unknown to it, for GREEN_READ or GREEN_WRITE. */
bool green_fd_no_nowait(int fd, int event);
void green_fd_set_no_nowait(int fd, int event);
void green_fd_changed(void);

/* waitq.c: waiting by address, for everything that is released in memory */
struct waiter {
	TAILQ_ENTRY(waiter) link;
	const void *addr;
	struct green *green;     /* NULL: an OS thread, which sleeps on queued as a futex */
	_Atomic uint32_t queued; /* changed with the bucket's lock held */
};
void waitq_add(struct waiter *, const void *addr);
/* Returns whether it had been woken, that is, was no longer queued. */
bool waitq_remove(struct waiter *);
void waitq_wake(const void *addr, int n);
void waitq_after_fork(void);

/* offload.c */
void green_offload_init(void);
void green_offload_fini(void);
void green_offload_after_fork(void);

#endif
