/* The watchdog thread, its signals, and what it looks for: see watch.h. */
#include "worker/watch.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/contract.h"
#include "common/log.h"
#include "worker/app/app.h"
#include "worker/green/green.h"
#include "worker/report.h"
#include "worker/snapshot.h"

#define NS_PER_SEC 1000000000LL
#define NS_PER_MS  1000000LL

/* How long the loop's OS thread may take to answer a signal: deep in the kernel it does not. */
#define ANSWER_NS (1 * NS_PER_SEC)
/* How long it may read stacks: nothing else runs meanwhile, and after an ABRT the master waits. */
#define READING_NS (400 * NS_PER_MS)
/* While nothing runs, look that often whether the beginning of something was missed. */
#define IDLE_NS (1 * NS_PER_SEC)

/* More in one deadlock are not named. */
#define DEADLOCK_MAX 16

/* What others ask the watchdog to do; on its own it looks for blocking. */
enum { REQUEST_STOP = 1, REQUEST_DUMP = 2, REQUEST_ABORT = 4, REQUEST_DEADLOCK = 8 };

/* Who has the snapshot: the watchdog until it asks, then the loop's OS thread until it is taken. */
enum { SNAPSHOT_OURS, SNAPSHOT_ASKED, SNAPSHOT_BEING_TAKEN };

static struct {
	struct watch_config config;
	bool running; /* there is a watchdog */
	pthread_t thread;
	pid_t pid, loop_tid;
	const struct green *main_green;
	_Atomic bool serving;
	_Atomic uint32_t kick; /* futex: the watchdog sleeps while it is 0 */
	_Atomic unsigned requests;

	struct snapshot snapshot;
	_Atomic int snapshot_state;
	_Atomic uint32_t asked, answered; /* futexes: for the snapshot; it is taken */
	_Atomic unsigned taken;           /* how many there were */
	uint64_t turn;                    /* of the one that has run for long */
	struct sigaction abort_before;

	/* one green thread's turn */
	int64_t seen_at, lasted; /* ns; lasted: as far as we have seen */
	int64_t preempt_at;      /* when it has lasted for so long */
	bool counted;
	struct blocked_report told;

	/* what the loop found and the watchdog has not reported yet */
	const struct green *deadlock[DEADLOCK_MAX];
	size_t ndeadlock;
	_Atomic bool deadlock_pending;
} w = {.snapshot = {.fd = -1}};

static void
watch_request(unsigned what)
{
	atomic_fetch_or(&w.requests, what);
	green_kick(&w.kick);
}

/* ---- signals ---- */

/* On the loop's OS thread, in the handler. False: nobody has asked, or given up since. */
static bool
snapshot_answer(void)
{
	int asked = SNAPSHOT_ASKED;

	if (!atomic_compare_exchange_strong(&w.snapshot_state, &asked, SNAPSHOT_BEING_TAKEN))
		return false;
	snapshot_take(&w.snapshot);
	atomic_fetch_add(&w.taken, 1);
	green_kick(&w.answered);
	return true;
}

/*
 * The signal that asks for a dump may have ended the very system call that blocks the worker
 * (EINTR): on the loop's OS thread stay where we are until the snapshot is taken.
 */
static void
dump_request(unsigned what)
{
	int64_t give_up = green_deadline(ANSWER_NS);
	unsigned taken = atomic_load(&w.taken);

	watch_request(what);
	if (gettid() != w.loop_tid || !w.running)
		return;
	/* what asks for it may interrupt us, and take it, too */
	while (atomic_load(&w.taken) == taken && !snapshot_answer() && green_now() < give_up)
		green_kick_wait(&w.asked, 10 * NS_PER_MS);
}

/* From ourselves it asks for a snapshot, from anybody else for a dump. */
static void
on_dump(int sig, siginfo_t *info, void *context)
{
	int saved_errno = errno;

	(void)sig;
	(void)context;
	if (info->si_code == SI_TKILL && info->si_pid == w.pid && gettid() == w.loop_tid)
		snapshot_answer();
	else if (getpid() == w.pid) /* and no child that the application has forked */
		dump_request(REQUEST_DUMP);
	errno = saved_errno;
}

static _Noreturn void
die(int sig)
{
	struct sigaction action = {.sa_handler = SIG_DFL};
	sigset_t set;

	(void)sigaction(sig, &action, NULL);
	sigemptyset(&set);
	sigaddset(&set, sig);
	(void)pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	(void)syscall(SYS_tgkill, getpid(), gettid(), sig);
	_exit(128 + sig);
}

/* The master's has the requests logged first; abort(3) is the backend's, once: it raises it again.
 */
static void
on_abort(int sig, siginfo_t *info, void *context)
{
	static volatile sig_atomic_t passed_on;

	(void)context;
	if (info->si_code == SI_USER && getpid() == w.pid && w.running) {
		int saved_errno = errno;

		dump_request(REQUEST_ABORT);
		errno = saved_errno;
		return;
	}
	if (passed_on || (w.abort_before.sa_flags & SA_SIGINFO) ||
	    w.abort_before.sa_handler == SIG_DFL || w.abort_before.sa_handler == SIG_IGN)
		die(sig);
	passed_on = 1;
	w.abort_before.sa_handler(sig);
}

void
watch_signals(void)
{
	struct sigaction action = {.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK}, before;

	sigemptyset(&action.sa_mask);
	action.sa_sigaction = on_dump;
	if (sigaction(CONTRACT_SIGNAL_DUMP, &action, NULL) == -1)
		log_warn("sigaction");
	action.sa_sigaction = on_abort;
	action.sa_flags |= SA_NODEFER; /* who has it passed on to may raise it again */
	if (sigaction(SIGABRT, &action, &before) == -1)
		log_warn("sigaction");
	else if (before.sa_sigaction != on_abort)
		w.abort_before = before;
}

/* ---- snapshots, in the watchdog ---- */

/*
 * Have one taken. False: the loop's OS thread does not answer. It can be in a system call that
 * no signal interrupts, or the application has blocked all signals.
 */
static bool
snapshot_get(bool (*wants)(const struct green_view *))
{
	int64_t give_up = green_deadline(ANSWER_NS);
	int asked;

	snapshot_clear(&w.snapshot);
	w.snapshot.wants = wants;
	w.snapshot.deadline = green_deadline(READING_NS);
	atomic_store(&w.answered, 0);
	atomic_store(&w.snapshot_state, SNAPSHOT_ASKED);
	green_kick(&w.asked);
	if (syscall(SYS_tgkill, w.pid, w.loop_tid, CONTRACT_SIGNAL_DUMP) == -1)
		log_warn("tgkill");
	while (atomic_load(&w.answered) == 0) {
		asked = SNAPSHOT_ASKED;
		if (green_now() >= give_up &&
		    atomic_compare_exchange_strong(&w.snapshot_state, &asked, SNAPSHOT_OURS)) {
			atomic_store(&w.asked, 0);
			return false;
		}
		green_kick_wait(&w.answered, 10 * NS_PER_MS);
	}
	atomic_store(&w.asked, 0);
	atomic_store(&w.snapshot_state, SNAPSHOT_OURS);
	return true;
}

/* Not those in the pool, nor the main one while it only waits for the application's signals. */
static bool
wants_all(const struct green_view *v)
{
	if (v->green == w.main_green)
		return v->running || (v->parked && v->waiting.on != GREEN_ON_WAKE);
	return v->running || v->parked || v->tag != NULL;
}

/* It may be another's turn by now. */
static bool
wants_blocking(const struct green_view *v)
{
	return v->running && green_turn() == w.turn;
}

static bool
wants_deadlocked(const struct green_view *v)
{
	for (size_t i = 0; i < w.ndeadlock; i++)
		if (w.deadlock[i] == v->green)
			return true;
	return false;
}

/* ---- what it reports ---- */

static void
dump(bool aborting)
{
	bool answered = snapshot_get(wants_all);

	report_dump(answered ? &w.snapshot : NULL, aborting);
	if (aborting) {
		w.config.ops->hook(APP_HOOK_ABORT);
		die(SIGABRT);
	}
	snapshot_clear(&w.snapshot);
}

static void
deadlock_report(void)
{
	if (snapshot_get(wants_deadlocked))
		report_deadlock(&w.snapshot);
	atomic_store(&w.deadlock_pending, false);
}

static void
blocking_report(void)
{
	w.counted = true;
	if (w.config.blocked != NULL)
		atomic_fetch_add_explicit(w.config.blocked, 1, memory_order_relaxed);
	if (report_blocked_allowed() && snapshot_get(wants_blocking) && w.snapshot.n > 0)
		report_blocked(&w.snapshot, w.lasted, &w.told);
}

/* ---- the watchdog ---- */

/* And once more after the same time, if it has its turn still. */
static void
turn_preempt(uint64_t turn)
{
	w.preempt_at = w.lasted + w.config.preempt;
	green_turn_defer(turn);
	w.config.ops->preempt(turn);
}

/* Half of what is looked for, so that it is seen at most that much late. */
static int64_t
look_interval(void)
{
	int64_t report = w.config.blocking_threshold, preempt = w.config.preempt;
	int64_t ns = (preempt > 0 && (report == 0 || preempt < report) ? preempt : report) / 2;

	return ns < NS_PER_MS ? NS_PER_MS : ns < IDLE_NS ? ns : IDLE_NS;
}

/*
 * A turn that is the same as at the last look has lasted since then. Not longer than two intervals
 * at a time: the whole process may have been stopped meanwhile. Returns how long to sleep.
 */
static int64_t
look_at_turn(void)
{
	int64_t now = green_now(), interval = look_interval(), since = now - w.seen_at;
	uint64_t turn = green_turn();
	bool idle = (turn & 1) == 0 && turn == w.turn;

	if (turn != w.turn || idle) {
		if (w.told.request[0] != '\0')
			report_blocked_end(&w.told, w.lasted + since / 2);
		w.told.request[0] = '\0';
		w.counted = false;
		w.lasted = 0;
		w.preempt_at = w.config.preempt;
		w.turn = turn;
	} else {
		w.lasted += since < 2 * interval ? since : 2 * interval;
		if (w.config.preempt > 0 && w.lasted >= w.preempt_at)
			turn_preempt(turn);
		if (w.config.blocking_threshold > 0 && w.lasted >= w.config.blocking_threshold &&
		    !w.counted && atomic_load(&w.serving))
			blocking_report();
	}
	w.seen_at = now;
	if (!idle)
		return interval;
	green_kick_at_turn(&w.kick);
	return green_turn() == turn ? IDLE_NS : interval; /* one may have begun before that */
}

static void *
watchdog_main(void *arg)
{
	bool looking = w.config.blocking_threshold > 0 || w.config.preempt > 0;
	int64_t ns = look_interval();

	(void)arg;
	for (;;) {
		unsigned what;

		if (atomic_load(&w.kick) == 0)
			green_kick_wait(&w.kick, looking ? ns : 3600 * NS_PER_SEC);
		atomic_store(&w.kick, 0);
		what = atomic_exchange(&w.requests, 0);
		if (what & REQUEST_STOP)
			return NULL;
		if (what & (REQUEST_DUMP | REQUEST_ABORT))
			dump((what & REQUEST_ABORT) != 0);
		if (what & REQUEST_DEADLOCK)
			deadlock_report();
		if (looking)
			ns = look_at_turn();
	}
}

/* With all signals blocked: those for the process are for others. */
static int
thread_start(void)
{
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&w.thread, NULL, watchdog_main, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc;
}

void
watch_start(const struct watch_config *config)
{
	w.config = *config;
	w.pid = getpid();
	w.loop_tid = gettid();
	if (snapshot_init(&w.snapshot) == -1) {
		log_warn("no watchdog");
		return;
	}
	w.snapshot.write_stack = config->ops->write_stack;
	watch_signals();
	errno = thread_start();
	w.running = errno == 0;
	if (!w.running)
		log_warn("no watchdog");
}

void
watch_stop(void)
{
	if (w.running) {
		watch_request(REQUEST_STOP);
		pthread_join(w.thread, NULL);
	}
	w.running = false;
	if (w.snapshot.fd != -1)
		snapshot_fini(&w.snapshot);
}

int
watch_stack_fd(void)
{
	return w.snapshot.fd;
}

void
watch_main(void)
{
	w.main_green = green_self();
}

void
watch_serving(bool serving)
{
	green_tag_set(NULL); /* a turn of its own for what follows */
	atomic_store(&w.serving, serving);
}

/* ---- on the loop ---- */

static void
deadlock_add(struct green *g, void *arg)
{
	(void)arg;
	if (w.ndeadlock < DEADLOCK_MAX)
		w.deadlock[w.ndeadlock++] = g;
}

bool
watch_deadlocks(void)
{
	if (!w.running || atomic_load(&w.deadlock_pending))
		return false;
	w.ndeadlock = 0;
	if (!green_deadlock_find(deadlock_add, NULL))
		return false;
	atomic_store(&w.deadlock_pending, true);
	watch_request(REQUEST_DEADLOCK);
	return true;
}
