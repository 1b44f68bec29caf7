/* Starting and stopping worker processes: see child.h and common/contract.h. */
#include "master/child.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/contract.h"
#include "common/fds.h"
#include "common/log.h"
#include "master/generation.h"
#include "master/mold.h"

static const char *const state_names[] = {
    [CHILD_STARTING] = "starting",
    [CHILD_READY] = "ready",
    [CHILD_STOPPING] = "stopping",
};

const char *
child_state_name(enum child_state state)
{
	return state_names[state];
}

static void
child_set_state(struct child *c, enum child_state state)
{
	c->state = state;
	log_debug("worker %zu (pid %d): %s", c->slot, (int)c->pid, child_state_name(state));
}

uint64_t
child_last_life(const struct child *c)
{
	uint64_t beat = 0;

	if (c->ready_at == 0)
		return c->spawned;
	if (c->row != NULL)
		beat = atomic_load_explicit(&c->row->heartbeat, memory_order_relaxed);
	return beat > c->ready_at ? beat : c->ready_at;
}

/* exec resets handlers but neither what is ignored nor what is blocked. */
int
child_reset_signals(void)
{
	struct sigaction dfl = {.sa_handler = SIG_DFL};
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		(void)sigaction(sig, &dfl, NULL); /* fails for SIGKILL, SIGSTOP and libc's own */
	sigemptyset(&none);
	return sigprocmask(SIG_SETMASK, &none, NULL);
}

int
child_environment_set(const struct settings *s, size_t slot)
{
	char number[24];

	snprintf(number, sizeof(number), "%zu", slot);
	if (setenv(CONTRACT_ENV_SLOT, number, 1) == -1 ||
	    setenv("SERVER_SOFTWARE", "greenicorn/" GREENICORN_VERSION, 1) == -1)
		return -1;
	return settings_export(s);
}

static int
descriptors_pass(const struct generation *g, const struct scoreboard *sb, int control)
{
	struct fds fds = {0};
	int rc;

	for (size_t i = 0; i < g->nbindings; i++)
		fds_add(&fds, g->bindings[i].listener.fd, CONTRACT_FD_LISTEN);
	fds_add(&fds, control, CONTRACT_FD_CONTROL);
	fds_add(&fds, g->settings_fd, CONTRACT_FD_SETTINGS);
	fds_add(&fds, sb->fd, CONTRACT_FD_SCOREBOARD);
	if (g->memory_fd != -1)
		fds_add(&fds, g->memory_fd, CONTRACT_FD_MEMORY);
	rc = fds_pass(&fds);
	fds_free(&fds);
	return rc;
}

/*
 * The master may have been given capabilities to bind low ports (AmbientCapabilities of
 * systemd.exec(5)): they are not for the application.
 */
static int
privileges_limit(const struct settings *s)
{
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) == -1 && errno != EINVAL)
		return -1;
	return s->no_new_privs ? prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) : 0;
}

static int
role_export(const struct child_role *role)
{
	char age[16];

	if (role->kind == CHILD_MOLD)
		return setenv(CONTRACT_ENV_MOLD, "1", 1);
	snprintf(age, sizeof(age), "%u", role->age);
	return setenv(CONTRACT_ENV_AGE, age, 1);
}

/* In the child. The log's descriptor may have been replaced by then: complain on standard error. */
static _Noreturn void
become_worker(const struct generation *g, const char *worker, const struct scoreboard *sb,
    const struct child_role *role, int control)
{
	char *argv[] = {role->kind == CHILD_MOLD ? g->mold_title : g->title, NULL};

	if (child_reset_signals() == 0 && child_environment_set(&g->settings, role->slot) == 0 &&
	    role_export(role) == 0 && descriptors_pass(g, sb, control) == 0 &&
	    privileges_limit(&g->settings) == 0)
		execv(worker, argv);
	dprintf(STDERR_FILENO, "cannot start %s: %s\n", worker, strerror(errno));
	_exit(WORKER_EXIT_FAILED);
}

/* Close one end, or both where the fork failed. */
static pid_t
control_settle(pid_t pid, const int pair[2], int *control)
{
	int saved_errno = errno;

	close(pair[1]);
	*control = pid != -1 ? pair[0] : -1;
	if (pid == -1)
		close(pair[0]);
	errno = saved_errno;
	return pid;
}

pid_t
child_exec(const struct generation *g, const char *worker, const struct scoreboard *sb,
    const struct child_role *role, int *control)
{
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == -1)
		return -1;
	pid = fork();
	if (pid == 0)
		become_worker(g, worker, sb, role, pair[1]);
	return control_settle(pid, pair, control);
}

static pid_t
child_fork(struct mold *mold, const struct child_role *role, int *control)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == -1)
		return -1;
	return control_settle(mold_fork(mold, role, pair[1]), pair, control);
}

static void
row_clear(const struct scoreboard *sb, size_t slot)
{
	struct scoreboard_row *row = &sb->rows[slot];
	struct scoreboard_request *requests = scoreboard_requests(sb, slot);

	atomic_store(&row->heartbeat, 0);
	atomic_store(&row->pid, 0);
	atomic_store(&row->state, SCOREBOARD_EMPTY);
	atomic_store(&row->connections, 0);
	atomic_store(&row->in_flight, 0);
	atomic_store(&row->served, 0);
	atomic_store(&row->blocked, 0);
	for (size_t i = 0; i < SCOREBOARD_REQUESTS; i++)
		atomic_store(&requests[i].ticket, 0);
}

int
child_spawn(struct child *c, const struct generation *g, struct mold *mold, const char *worker,
    const struct scoreboard *sb, const struct child_role *role)
{
	int control;
	pid_t pid;

	row_clear(sb, role->slot);
	scoreboard_use(sb, role->slot);
	pid = mold != NULL ? child_fork(mold, role, &control)
			   : child_exec(g, worker, sb, role, &control);
	if (pid == -1)
		return -1;
	*c = (struct child){.pid = pid,
	    .slot = role->slot,
	    .age = role->age,
	    .generation = g->number,
	    .control = control,
	    .row = &sb->rows[role->slot],
	    .spawned = scoreboard_now(),
	    .kill_at = CHILD_NEVER};
	child_set_state(c, CHILD_STARTING);
	return 0;
}

void
child_set_ready(struct child *c)
{
	c->ready_at = scoreboard_now();
	if (c->state == CHILD_STARTING)
		child_set_state(c, CHILD_READY);
}

void
child_stop(struct child *c, int sig, uint64_t kill_at)
{
	if (kill(c->pid, sig) == -1)
		log_warn("cannot signal worker (pid:%d)", (int)c->pid);
	c->kill_at = kill_at;
	if (c->state != CHILD_STOPPING)
		child_set_state(c, CHILD_STOPPING);
}

void
child_hang_up(struct child *c)
{
	if (c->control != -1)
		close(c->control);
	c->control = -1;
}

void
child_release(struct child *c, const struct scoreboard *sb)
{
	child_hang_up(c);
	if (c->row != NULL)
		row_clear(sb, c->slot);
}
