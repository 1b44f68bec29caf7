/* The master's loop: see master.h. */
#include "master/master.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/contract.h"
#include "common/log.h"
#include "common/mem.h"
#include "master/backoff.h"
#include "master/child.h"
#include "master/notify.h"
#include "master/reconcile.h"

/* Children at a time, old generations' that still finish included. */
#define SLOTS 4096
/* How long a worker has to dump its stacks after SIGABRT; one told to hurry, after SIGQUIT. */
#define ABORT_GRACE (1 * BACKOFF_SECOND)
#define HURRY_GRACE (2 * BACKOFF_SECOND)

struct master {
	const struct master_config *config;
	struct generation *current;  /* owned: the wanted one */
	struct generation *fallback; /* owned: the proven one, until current is proven; or NULL */
	struct child *children;      /* owned; oldest first */
	size_t n;
	struct scoreboard scoreboard;
	struct pidfile pidfile;
	struct backoff backoff;
	int signals;          /* owned: a signalfd */
	bool stopping;        /* the server is to end */
	int stop_signal;      /* what workers are told to stop with */
	uint64_t reopened_at; /* the last SIGUSR1 */
	int exit_code;
	const char *reason; /* why, if it is not 0 */
};

static uint64_t
seconds(int n)
{
	return (uint64_t)n * BACKOFF_SECOND;
}

/* ---- stopping ---- */

static void
master_stop(struct master *m, int sig)
{
	if (m->stopping)
		return;
	m->stopping = true;
	m->stop_signal = sig;
	notify_stopping();
	generation_close_sockets(m->current, NULL);
	if (m->fallback != NULL)
		generation_close_sockets(m->fallback, NULL);
}

/* End the server because of a worker that exited with that code. */
static void
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

/* ---- reloading ---- */

/* Settings that only a restart can change keep the value that they have. */
static int
settings_hold(struct settings *s, const struct settings *old)
{
	for (size_t i = 0; i < settings_count; i++) {
		const struct setting *row = &settings_table[i];

		if (row->reload || settings_equal(s, old, row))
			continue;
		log_warnx("%s: %s: a restart is needed for the change",
		    settings_origin(s, row->name), row->name);
		if (settings_copy(s, old, row) == -1)
			return -1;
	}
	return 0;
}

static struct generation *
generation_load(struct master *m, const struct generation *old)
{
	struct settings settings;
	struct settings_error error;

	if (options_load(m->config->options, &settings, &error) == -1) {
		log_errorx("%s", error.text);
		return NULL;
	}
	if (settings_hold(&settings, &old->settings) == -1) {
		log_error("cannot keep a setting");
		settings_fini(&settings);
		return NULL;
	}
	return generation_new(&settings, old, NULL, &m->config->privs, 1);
}

static void
reload_failed(void)
{
	log_errorx("Reload failed: the old configuration stays");
	notify_ready();
}

/*
 * The new generation waits beside a proven one. One that has not been proven yet, it
 * replaces.
 */
static void
master_reload(struct master *m)
{
	struct generation *new;

	notify_reloading();
	if ((new = generation_load(m, m->current)) == NULL) {
		reload_failed();
		return;
	}
	if (m->current->proven) {
		m->fallback = m->current;
	} else {
		new->prior = m->fallback;
		generation_free(m->current, new);
	}
	m->current = new;
	m->backoff = (struct backoff){0};
}

/* The log goes where the new settings say; where that fails, it stays where it is. */
static void
log_apply(const struct settings *s)
{
	if (log_open(s->errorlog, (enum log_level)log_level_parse(s->loglevel)) == -1)
		log_warn(
		    "%s: errorlog: cannot open %s", settings_origin(s, "errorlog"), s->errorlog);
}

/*
 * A worker of the new generation is ready: what the old one alone had is given up. From
 * here on each new worker that is ready lets an old one go (reconcile).
 */
static void
generation_commit(struct master *m)
{
	const struct settings *s = &m->current->settings;

	m->current->proven = true;
	m->current->prior = NULL;
	if (m->fallback != NULL) {
		log_apply(s);
		if (pidfile_move(&m->pidfile, s->pidfile) == -1)
			log_warn("%s: pidfile: cannot write %s", settings_origin(s, "pidfile"),
			    s->pidfile);
		generation_free(m->fallback, m->current);
		m->fallback = NULL;
	}
	notify_ready();
}

static void
generation_roll_back(struct master *m)
{
	generation_free(m->current, m->fallback);
	m->current = m->fallback;
	m->fallback = NULL;
	reload_failed();
}

/* ---- children ---- */

static int
slot_find(const struct master *m)
{
	bool used[SLOTS] = {false};

	for (size_t i = 0; i < m->n; i++)
		used[m->children[i].slot] = true;
	for (int slot = 0; slot < SLOTS; slot++)
		if (!used[slot])
			return slot;
	errno = EAGAIN;
	return -1;
}

static void
master_spawn(struct master *m)
{
	int slot = slot_find(m);
	struct child child;

	if (slot == -1 || child_spawn(&child, m->current, m->config->worker, &m->scoreboard,
			      (size_t)slot) == -1) {
		log_error("cannot start a worker");
		backoff_fail(&m->backoff, scoreboard_now());
		return;
	}
	m->children = xreallocarray(m->children, m->n + 1, sizeof(*m->children));
	m->children[m->n++] = child;
	log_info("Booting worker with pid: %d", (int)child.pid);
}

/* Take what a child says; the only word is "ready". */
static void
child_listen(struct master *m, struct child *c)
{
	char text[64];
	ssize_t n;

	while ((n = recv(c->control, text, sizeof(text), MSG_DONTWAIT)) > 0) {
		if ((size_t)n != strlen(CONTRACT_MSG_READY) ||
		    memcmp(text, CONTRACT_MSG_READY, (size_t)n) != 0 || c->ready_at != 0)
			continue;
		child_set_ready(c);
		if (m->reopened_at > c->spawned)
			kill(c->pid, SIGUSR1); /* it may have opened its logs before */
		if (c->generation == m->current->number && !m->current->proven && !m->stopping)
			generation_commit(m);
	}
}

static void
log_death(const struct child *c, int status)
{
	int pid = (int)c->pid;

	if (WIFEXITED(status)) {
		if (WEXITSTATUS(status) != 0)
			log_errorx(
			    "Worker (pid:%d) exited with code %d.", pid, WEXITSTATUS(status));
	} else if (WTERMSIG(status) == SIGKILL) {
		log_errorx("Worker (pid:%d) was sent SIGKILL! Perhaps out of memory?", pid);
	} else if (WTERMSIG(status) == SIGTERM) {
		log_info("Worker (pid:%d) was sent SIGTERM!", pid);
	} else {
		log_warnx("Worker (pid:%d) was sent SIG%s!", pid, sigabbrev_np(WTERMSIG(status)));
	}
}

/* Whether a child ended although nobody told it to, or for showing no life. */
static bool
died_unasked(const struct child *c, int status)
{
	if (c->state == CHILD_STOPPING)
		return c->aborted;
	return c->ready_at == 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

static bool
is_boot_failure(int status)
{
	return WIFEXITED(status) && (WEXITSTATUS(status) == WORKER_EXIT_FAILED ||
					WEXITSTATUS(status) == WORKER_EXIT_BOOT ||
					WEXITSTATUS(status) == WORKER_EXIT_APP);
}

/*
 * A worker died unasked. One that cannot even start ends the server while none
 * has ever been ready, and a reload while none of the new ones has; otherwise the next one
 * starts, at once if this one had lived for a while.
 */
static void
death_judge(struct master *m, const struct child *c, int status)
{
	uint64_t now = scoreboard_now(), delay;

	if (c->generation != m->current->number || m->stopping)
		return;
	if (!m->current->proven && m->fallback != NULL) {
		generation_roll_back(m);
		return;
	}
	if (!m->current->proven && is_boot_failure(status)) {
		master_halt(m, WEXITSTATUS(status));
		return;
	}
	if (c->ready_at != 0 && now - c->ready_at >= BACKOFF_STABLE)
		return;
	delay = backoff_fail(&m->backoff, now);
	if (delay >= BACKOFF_SECOND)
		log_warnx("Workers die young: the next one starts in %d s",
		    (int)(delay / BACKOFF_SECOND));
}

static void
child_bury(struct master *m, size_t i, int status)
{
	struct child c;

	child_listen(m, &m->children[i]); /* its last words */
	c = m->children[i];
	memmove(&m->children[i], &m->children[i + 1], (m->n - i - 1) * sizeof(c));
	m->n--;
	child_release(&c);
	log_death(&c, status);
	if (died_unasked(&c, status))
		death_judge(m, &c, status);
}

/* Also children that are not ours: as process 1 of a container we inherit orphans. */
static void
master_reap(struct master *m)
{
	pid_t pid;
	int status;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (size_t i = 0; i < m->n; i++) {
			if (m->children[i].pid == pid) {
				child_bury(m, i, status);
				break;
			}
		}
	}
}

/* ---- signals: each only says what is wanted ---- */

static void
on_chld(struct master *m)
{
	(void)m; /* master_reap follows in any case */
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
	master_stop(m, SIGQUIT);
	m->stop_signal = SIGQUIT;
}

static void
on_hup(struct master *m)
{
	log_info("Hang up: Master");
	if (!m->stopping)
		master_reload(m);
}

static void
on_ttin(struct master *m)
{
	if (m->current->workers < SLOTS / 4)
		m->current->workers++;
}

static void
on_ttou(struct master *m)
{
	if (m->current->workers > 1)
		m->current->workers--;
}

/* A worker that is still starting has no handler yet: it is told when it is ready. */
static void
on_usr1(struct master *m)
{
	if (log_reopen() == -1)
		log_warn("cannot open the error log again");
	m->reopened_at = scoreboard_now();
	for (size_t i = 0; i < m->n; i++)
		if (m->children[i].ready_at != 0)
			kill(m->children[i].pid, SIGUSR1);
}

static void
on_usr2(struct master *m)
{
	(void)m;
	log_warnx("USR2 signal ignored: no upgrade without a restart yet");
}

static const struct signal_row {
	int number;
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
};

#define SIGNAL_ROWS (sizeof(signal_rows) / sizeof(signal_rows[0]))

static sigset_t
signal_set(void)
{
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < SIGNAL_ROWS; i++)
		sigaddset(&set, signal_rows[i].number);
	return set;
}

int
master_block_signals(void)
{
	sigset_t set = signal_set();

	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR) /* a log whose reader is gone ends nobody */
		return -1;
	return sigprocmask(SIG_BLOCK, &set, NULL);
}

static void
master_take_signals(struct master *m)
{
	struct signalfd_siginfo info;

	while (read(m->signals, &info, sizeof(info)) == sizeof(info)) {
		for (size_t i = 0; i < SIGNAL_ROWS; i++) {
			if (signal_rows[i].number != (int)info.ssi_signo)
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
		master_spawn(m);
		break;
	case ACTION_STOP:
		child_stop(c, m->stop_signal, now + seconds(m->current->settings.graceful_timeout));
		break;
	case ACTION_ABORT:
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

	do {
		wanted = (struct wanted){.workers = m->stopping ? 0 : m->current->workers,
		    .generation = m->current->number,
		    .proven = m->current->proven,
		    .timeout = seconds(m->current->settings.timeout),
		    .spawn_after = m->backoff.until};
		plan.actions =
		    xreallocarray(plan.actions, m->n + wanted.workers, sizeof(*plan.actions));
		reconcile(&wanted, m->children, m->n, scoreboard_now(), &plan);
		for (size_t i = 0; i < plan.n; i++)
			master_act(m, &plan.actions[i]);
	} while (plan.n > 0);
	free(plan.actions);
	return plan.wake;
}

/* Sleep until a signal, a child's word, or that time. */
static void
master_wait(struct master *m, uint64_t wake)
{
	struct pollfd *pfds = xcalloc(m->n + 1, sizeof(*pfds));
	uint64_t now = scoreboard_now(), ns = wake > now ? wake - now : 0;
	struct timespec ts = {(time_t)(ns / BACKOFF_SECOND), (long)(ns % BACKOFF_SECOND)};

	pfds[m->n] = (struct pollfd){.fd = m->signals, .events = POLLIN};
	for (size_t i = 0; i < m->n; i++)
		pfds[i] = (struct pollfd){.fd = m->children[i].control, .events = POLLIN};
	if (ppoll(pfds, m->n + 1, wake != CHILD_NEVER ? &ts : NULL, NULL) > 0)
		for (size_t i = 0; i < m->n; i++)
			if (pfds[i].revents != 0)
				child_listen(m, &m->children[i]);
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
	generation_free(m->fallback, NULL);
	generation_free(m->current, NULL);
	scoreboard_close(&m->scoreboard);
	close(m->signals);
	free(m->children);
}

int
master_run(const struct master_config *config, struct generation *first, struct pidfile *pidfile)
{
	struct master m = {
	    .config = config, .current = first, .pidfile = *pidfile, .stop_signal = SIGTERM};
	uint64_t wake;

	if (master_init(&m) == -1)
		fatalx("cannot start");
	for (;;) {
		wake = master_reconcile(&m);
		if (m.stopping && m.n == 0)
			break;
		master_wait(&m, wake);
		master_take_signals(&m);
		master_reap(&m);
	}
	log_info("Shutting down: Master");
	if (m.reason != NULL)
		log_errorx("Reason: %s", m.reason);
	master_fini(&m);
	return m.exit_code;
}
