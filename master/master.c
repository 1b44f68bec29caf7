/* The master's loop and its signals: see master.h. */
#include "master/master.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "common/contract.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/statsd.h"
#include "master/internal.h"
#include "master/notify.h"
#include "master/reconcile.h"

/* How long a worker has to dump its stacks after SIGABRT; one told to hurry, after SIGQUIT. */
#define ABORT_GRACE (2 * BACKOFF_SECOND)
#define HURRY_GRACE (2 * BACKOFF_SECOND)
/* A worker ends by itself at graceful_timeout, with its log lines; if not, soon after it. */
#define STOP_GRACE (BACKOFF_SECOND / 2)

static uint64_t
seconds(int n)
{
	return (uint64_t)n * BACKOFF_SECOND;
}

/* ---- stopping ---- */

/* Its unix sockets' files stay where another master has the same sockets. */
static const struct generation *
heir_of(const struct master *m, const struct generation *g)
{
	return upgrade_shared(m) ? g : NULL;
}

void
master_stop(struct master *m, int sig)
{
	if (m->stopping)
		return;
	m->stopping = true;
	m->stop_signal = sig;
	notify_stopping();
	molds_stop(m);
	generation_close_sockets(m->current, heir_of(m, m->current));
	if (m->fallback != NULL)
		generation_close_sockets(m->fallback, heir_of(m, m->fallback));
}

/* End the server because of a worker that exited with that code. */
void
master_halt(struct master *m, int code)
{
	m->exit_code = code;
	if (code == WORKER_EXIT_BOOT)
		m->reason = "Worker failed to boot.";
	else if (code == WORKER_EXIT_APP)
		m->reason = "App failed to load.";
	else
		m->reason = "Worker failed to start.";
	master_stop(m, SIGTERM);
}

/* ---- signals: each only says what is wanted ---- */

static void
on_chld(struct master *m)
{
	(void)m; /* crew_reap follows in any case */
}

static void
on_term(struct master *m)
{
	master_stop(m, SIGTERM);
}

/* During a graceful stop it means: enough now. */
static void
on_quit(struct master *m)
{
	uint64_t kill_at = scoreboard_now() + HURRY_GRACE;

	for (size_t i = 0; i < m->n; i++)
		if (m->stopping && m->children[i].state == CHILD_STOPPING &&
		    m->children[i].kill_at > kill_at)
			child_stop(&m->children[i], SIGQUIT, kill_at);
	if (m->stopping)
		hooks_hurry(m);
	master_stop(m, SIGQUIT);
	m->stop_signal = SIGQUIT;
}

static void
on_hup(struct master *m)
{
	log_info("Hang up: Master");
	if (!m->stopping)
		reload_begin(m);
}

static void
workers_want(struct master *m, size_t n)
{
	hooks_tell(m, HOOK_NWORKERS, (int)n, (int)m->current->workers);
	m->current->workers = n;
}

static void
on_ttin(struct master *m)
{
	if (m->current->workers < SLOTS / 4)
		workers_want(m, m->current->workers + 1);
}

static void
on_ttou(struct master *m)
{
	if (m->current->workers > 1)
		workers_want(m, m->current->workers - 1);
}

/* A worker that is still starting has no handler yet: it is told when it is ready. */
static void
on_usr1(struct master *m)
{
	if (log_reopen() == -1)
		log_warn("cannot open the error log again");
	m->reopened_at = scoreboard_now();
	molds_reopen(m);
	for (size_t i = 0; i < m->n; i++)
		if (m->children[i].ready_at != 0)
			kill(m->children[i].pid, SIGUSR1);
}

static void
on_usr2(struct master *m)
{
	hooks_upgrade(m);
}

/*
 * Stop all workers, keep the master: until HUP or TTIN. A terminal sends it whenever its window
 * changes; gunicorn heeds it in daemons only, we where there is no terminal.
 */
static void
on_winch(struct master *m)
{
	int fd = open("/dev/tty", O_RDONLY | O_NOCTTY | O_CLOEXEC);

	if (fd != -1) {
		close(fd);
		log_debug("SIGWINCH ignored. There is a terminal");
		return;
	}
	log_info("graceful stop of workers");
	workers_want(m, 0);
}

/* Each worker that is ready logs what its requests do; one that is not has no handler yet. */
static void
on_dump(struct master *m)
{
	for (size_t i = 0; i < m->n; i++)
		if (m->children[i].ready_at != 0)
			kill(m->children[i].pid, CONTRACT_SIGNAL_DUMP);
}

static const struct signal_row {
	int number; /* 0: CONTRACT_SIGNAL_DUMP, which is no constant */
	const char *name;
	void (*act)(struct master *);
} signal_rows[] = {
    {SIGCHLD, "chld", on_chld},
    {SIGTERM, "term", on_term},
    {SIGINT, "int", on_quit},
    {SIGQUIT, "quit", on_quit},
    {SIGHUP, "hup", on_hup},
    {SIGTTIN, "ttin", on_ttin},
    {SIGTTOU, "ttou", on_ttou},
    {SIGUSR1, "usr1", on_usr1},
    {SIGUSR2, "usr2", on_usr2},
    {SIGWINCH, "winch", on_winch},
    {0, "rtmin+3", on_dump},
};

#define SIGNAL_ROWS (sizeof(signal_rows) / sizeof(signal_rows[0]))

static int
signal_number(const struct signal_row *row)
{
	return row->number != 0 ? row->number : CONTRACT_SIGNAL_DUMP;
}

static sigset_t
signal_set(void)
{
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < SIGNAL_ROWS; i++)
		sigaddset(&set, signal_number(&signal_rows[i]));
	return set;
}

int
master_block_signals(void)
{
	sigset_t set = signal_set();

	/* a log whose reader is gone ends nobody, nor does one that may not grow (RLIMIT_FSIZE) */
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR || signal(SIGXFSZ, SIG_IGN) == SIG_ERR)
		return -1;
	return sigprocmask(SIG_BLOCK, &set, NULL);
}

static void
master_take_signals(struct master *m)
{
	struct signalfd_siginfo info;

	while (read(m->signals, &info, sizeof(info)) == sizeof(info)) {
		for (size_t i = 0; i < SIGNAL_ROWS; i++) {
			if (signal_number(&signal_rows[i]) != (int)info.ssi_signo)
				continue;
			if (info.ssi_signo == SIGCHLD)
				log_debug("Handling signal: %s", signal_rows[i].name);
			else
				log_info("Handling signal: %s", signal_rows[i].name);
			signal_rows[i].act(m);
		}
	}
}

/* ---- the loop ---- */

static void
master_act(struct master *m, const struct action *a)
{
	struct child *c = &m->children[a->child];
	uint64_t now = scoreboard_now();

	switch (a->kind) {
	case ACTION_SPAWN:
		crew_spawn(m);
		break;
	case ACTION_STOP:
		child_stop(c, m->stop_signal,
		    now + seconds(m->current->settings.graceful_timeout) + STOP_GRACE);
		break;
	case ACTION_ABORT:
		if (c->ready_at == 0)
			log_criticalx("WORKER TIMEOUT (pid:%d): not ready after %d s", (int)c->pid,
			    m->current->settings.boot_timeout);
		else
			log_criticalx("WORKER TIMEOUT (pid:%d)", (int)c->pid);
		c->aborted = true;
		child_stop(c, SIGABRT, now + ABORT_GRACE);
		break;
	case ACTION_KILL:
		child_stop(c, SIGKILL, CHILD_NEVER);
		break;
	}
}

/* Make present match wanted; returns when to look again at the latest. */
static uint64_t
master_reconcile(struct master *m)
{
	struct plan plan = {0};
	struct wanted wanted;
	uint64_t wake;
	bool ready;

	do {
		wake = molds_keep(m, &ready);
		wanted = (struct wanted){.workers = m->stopping ? 0 : m->current->workers,
		    .generation = m->current->number,
		    .proven = m->current->proven,
		    .surge = (size_t)m->current->settings.max_reload_parallel,
		    .timeout = seconds(m->current->settings.timeout),
		    .boot_timeout = seconds(m->current->settings.boot_timeout),
		    .spawn_after = ready ? m->backoff.until : CHILD_NEVER};
		plan.actions =
		    xreallocarray(plan.actions, m->n + wanted.workers, sizeof(*plan.actions));
		reconcile(&wanted, m->children, m->n, scoreboard_now(), &plan);
		for (size_t i = 0; i < plan.n; i++)
			master_act(m, &plan.actions[i]);
	} while (plan.n > 0);
	free(plan.actions);
	return plan.wake < wake ? plan.wake : wake;
}

/* Sleep until a signal, a child's word, or that time. */
static void
master_wait(struct master *m, uint64_t wake)
{
	struct pollfd *pfds = xcalloc(m->n + 6, sizeof(*pfds)), *more = pfds + m->n;
	uint64_t now = scoreboard_now(), ns = wake > now ? wake - now : 0;
	struct timespec ts = {(time_t)(ns / BACKOFF_SECOND), (long)(ns % BACKOFF_SECOND)};

	more[0] = (struct pollfd){.fd = m->signals, .events = POLLIN};
	more[1] = (struct pollfd){.fd = m->upgrade.successor_control, .events = POLLIN};
	more[2] = (struct pollfd){.fd = m->upgrade.predecessor_fd, .events = POLLIN};
	more[3] = (struct pollfd){.fd = m->current->mold.control, .events = POLLIN};
	more[4] = (struct pollfd){.fd = m->upgrade.successor_fd, .events = POLLIN};
	more[5] = (struct pollfd){
	    .fd = m->fallback != NULL ? m->fallback->mold.control : -1, .events = POLLIN};
	for (size_t i = 0; i < m->n; i++)
		pfds[i] = (struct pollfd){.fd = m->children[i].control, .events = POLLIN};
	if (ppoll(pfds, m->n + 6, wake != CHILD_NEVER ? &ts : NULL, NULL) > 0) {
		for (size_t i = 0; i < m->n; i++)
			if (pfds[i].revents != 0)
				crew_listen(m, &m->children[i]);
		if (more[1].revents != 0)
			upgrade_listen(m);
		if (more[2].revents != 0)
			upgrade_promote(m);
		if (more[3].revents != 0 || more[5].revents != 0)
			molds_listen(m);
		if (more[4].revents != 0)
			upgrade_resume(m);
	}
	free(pfds);
}

static int
master_init(struct master *m)
{
	sigset_t set = signal_set();

	if ((m->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)) == -1) {
		log_error("signalfd");
		return -1;
	}
	if (scoreboard_create(&m->scoreboard, SLOTS) == -1) {
		log_error("cannot make the scoreboard");
		close(m->signals);
		return -1;
	}
	return 0;
}

static void
master_fini(struct master *m)
{
	pidfile_remove(&m->pidfile);
	generation_free(m->fallback, heir_of(m, m->fallback));
	generation_free(m->current, heir_of(m, m->current));
	scoreboard_close(&m->scoreboard);
	close(m->signals);
	free(m->children);
	free(m->hooks.events);
}

static uint64_t
earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* One turn; wake: when to come back at the latest. */
static void
master_turn(struct master *m, uint64_t wake)
{
	master_wait(m, earlier(wake, hooks_step(m)));
	master_take_signals(m);
	crew_reap(m);
}

/* The last workers' child_exit, and on_exit. */
static void
master_leave(struct master *m)
{
	if (!m->hooks.started)
		return;
	hooks_tell(m, HOOK_ON_EXIT, 0, 0);
	while (hooks_pending(m))
		master_turn(m, CHILD_NEVER);
	if (m->hooks.n > 0)
		log_warnx("Calls of server hooks that are lost: %zu", m->hooks.n);
}

int
master_run(const struct master_config *config, struct generation *first,
    const struct pidfile *pidfile, const struct upgrade *upgrade)
{
	struct master m = {.config = config,
	    .current = first,
	    .pidfile = *pidfile,
	    .upgrade = *upgrade,
	    .stop_signal = SIGTERM};
	uint64_t wake;

	if (master_init(&m) == -1)
		fatalx("cannot start");
	for (;;) {
		wake = master_reconcile(&m);
		if (m.stopping && m.n == 0)
			break;
		wake = earlier(wake, earlier(status_update(&m), metrics_update(&m)));
		master_turn(&m, wake);
	}
	log_info("Shutting down: Master");
	if (m.reason != NULL)
		log_errorx("Reason: %s", m.reason);
	master_leave(&m);
	statsd_flush();
	master_fini(&m);
	return m.exit_code;
}
