/* Two masters at a time: see upgrade.h. */
#include "master/upgrade.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/contract.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/orphan.h"
#include "master/internal.h"
#include "master/notify.h"

/* How we were started. Copies: the title overwrites the one, setenv changes the other. */
static char **start_argv, **start_environ;

extern char **environ;

static char **
strings_copy(char **strings)
{
	size_t n = 0;
	char **copy;

	while (strings[n] != NULL)
		n++;
	copy = xcalloc(n + 1, sizeof(*copy));
	for (size_t i = 0; i < n; i++)
		copy[i] = xstrdup(strings[i]);
	return copy;
}

void
upgrade_remember(char **argv)
{
	start_argv = strings_copy(argv);
	start_environ = strings_copy(environ);
}

static void
descriptor_close(int *fd)
{
	if (*fd != -1)
		close(*fd);
	*fd = -1;
}

/* It has ended: what it had is ours alone. */
static void
predecessor_forget(struct upgrade *u)
{
	log_info("Master has been promoted.");
	u->predecessor = 0;
	descriptor_close(&u->predecessor_fd);
	descriptor_close(&u->predecessor_control);
}

/* Its other end is the predecessor's alone, and open until we have said that we are ready. */
static bool
is_hung_up(int control)
{
	struct pollfd pfd = {.fd = control};

	return poll(&pfd, 1, 0) == 1;
}

/*
 * Who made the socket is who started us: the environment alone proves nothing. One that is gone by
 * now, whoever may have its pid since, has made way for us.
 */
static void
predecessor_meet(struct upgrade *u, int control)
{
	struct ucred peer;
	socklen_t n = sizeof(peer);

	if (control == -1)
		return;
	if (getsockopt(control, SOL_SOCKET, SO_PEERCRED, &peer, &n) == -1)
		fatal("descriptor named " CONTRACT_FD_CONTROL);
	u->predecessor_control = control;
	u->predecessor_fd = (int)syscall(SYS_pidfd_open, peer.pid, 0);
	if (u->predecessor_fd == -1 && errno != ESRCH)
		fatal("cannot watch the master that started this one (pid:%d)", (int)peer.pid);
	u->predecessor = peer.pid;
	if (u->predecessor_fd == -1 || is_hung_up(control))
		predecessor_forget(u);
}

void
upgrade_begin(struct upgrade *u, struct fds *inherited)
{
	const char *text = getenv(CONTRACT_ENV_PREDECESSOR);

	*u = (struct upgrade){.predecessor_fd = -1,
	    .predecessor_control = -1,
	    .successor_fd = -1,
	    .successor_control = -1};
	if (text != NULL)
		predecessor_meet(u, fds_claim(inherited, CONTRACT_FD_CONTROL));
	unsetenv(CONTRACT_ENV_PREDECESSOR);
}

char *
upgrade_pidfile(const struct upgrade *u, const struct settings *s)
{
	if (s->pidfile == NULL)
		return NULL;
	return u->predecessor != 0 ? xasprintf("%s.2", s->pidfile) : xstrdup(s->pidfile);
}

bool
upgrade_shared(const struct master *m)
{
	return m->upgrade.predecessor != 0 || m->upgrade.successor != 0;
}

/* ---- the old master ---- */

/*
 * Sockets from systemd replace the setting bind there, too. Ours are offered to it, during a
 * reload those of both generations: one of the two is what its configuration wants.
 */
static int
successor_descriptors(const struct generation *g, int control)
{
	struct fds fds = {0};
	int rc;

	for (; g != NULL; g = generation_is_inherited(g) ? NULL : g->prior)
		for (size_t i = 0; i < g->nbindings; i++)
			fds_add(&fds, g->bindings[i].listener.fd,
			    g->bindings[i].listener.inherited ? CONTRACT_FD_LISTEN
							      : CONTRACT_FD_BOUND);
	fds_add(&fds, control, CONTRACT_FD_CONTROL);
	rc = fds_pass(&fds);
	fds_free(&fds);
	return rc;
}

/*
 * As we were started, in the same directory. The watchdog's variable names a process that
 * the new one is not, but the service manager wants to hear from it.
 */
static _Noreturn void
become_successor(const struct master *m, int control, pid_t old)
{
	char number[24];

	snprintf(number, sizeof(number), "%d", (int)old);
	environ = start_environ;
	unsetenv("WATCHDOG_PID");
	if (chdir(m->config->options->cwd) == 0 && child_reset_signals() == 0 &&
	    setenv(CONTRACT_ENV_PREDECESSOR, number, 1) == 0 &&
	    successor_descriptors(m->current, control) == 0)
		execvp(start_argv[0], start_argv);
	dprintf(STDERR_FILENO, "cannot start %s: %s\n", start_argv[0], strerror(errno));
	_exit(1);
}

/*
 * Nobody's child here: systemd waits at a stop only for a main process that is its own child. For
 * as long as that takes orphans are not ours, which with preload_app they are else.
 */
static pid_t
successor_spawn(const struct master *m, int control)
{
	pid_t pid, old = getpid();
	int subreaper = 0;

	if (prctl(PR_GET_CHILD_SUBREAPER, &subreaper) == -1 ||
	    prctl(PR_SET_CHILD_SUBREAPER, 0) == -1)
		return -1;
	pid = orphan_fork();
	if (pid == 0)
		become_successor(m, control, old);
	if (prctl(PR_SET_CHILD_SUBREAPER, subreaper) == -1)
		log_warn("cannot be a subreaper again");
	return pid;
}

void
upgrade_start(struct master *m)
{
	int control[2], fd = -1;
	pid_t pid;

	if (m->stopping)
		return;
	if (upgrade_shared(m)) {
		log_warnx("USR2 signal ignored. %s exists.",
		    m->upgrade.successor != 0 ? "Child" : "Parent");
		return;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, control) == -1) {
		log_error("cannot start a new master");
		return;
	}
	pid = successor_spawn(m, control[1]);
	if (pid == -1 || (fd = (int)syscall(SYS_pidfd_open, pid, 0)) == -1) {
		log_error("cannot start a new master");
		if (pid != -1) /* it has only just been made: nobody else has its pid yet */
			(void)kill(pid, SIGKILL);
		close(control[0]);
	} else {
		log_info("Starting a new master with pid: %d", (int)pid);
		m->upgrade.successor = pid;
		m->upgrade.successor_fd = fd;
		m->upgrade.successor_control = control[0];
		m->upgrade.successor_ready = false;
	}
	close(control[1]);
}

/* It serves: for the service manager it is the main process from here on. */
void
upgrade_listen(struct master *m)
{
	char text[sizeof(CONTRACT_MSG_READY)];
	ssize_t n = recv(m->upgrade.successor_control, text, sizeof(text), MSG_DONTWAIT);

	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	descriptor_close(&m->upgrade.successor_control);
	if (n <= 0)
		return;
	m->upgrade.successor_ready = true;
	log_info("The new master (pid:%d) is ready", (int)m->upgrade.successor);
	notify_main_pid(m->upgrade.successor);
	notify_mute(true);
}

void
upgrade_resume(struct master *m)
{
	struct upgrade *u = &m->upgrade;
	int pid = (int)u->successor;

	upgrade_listen(m); /* its last words */
	descriptor_close(&u->successor_control);
	descriptor_close(&u->successor_fd);
	u->successor = 0;
	notify_mute(false);
	notify_main_pid(getpid());
	if (u->successor_ready)
		log_info("The new master (pid:%d) has stopped: this one goes on", pid);
	else
		log_errorx("The new master (pid:%d) has failed: this one goes on", pid);
}

/* ---- the new master ---- */

void
upgrade_ready(struct master *m)
{
	struct upgrade *u = &m->upgrade;

	if (u->predecessor_control == -1)
		return;
	if (send(u->predecessor_control, CONTRACT_MSG_READY, strlen(CONTRACT_MSG_READY),
		MSG_NOSIGNAL | MSG_DONTWAIT) == -1)
		log_warn("cannot tell the old master that this one is ready");
	descriptor_close(&u->predecessor_control);
}

void
upgrade_promote(struct master *m)
{
	struct upgrade *u = &m->upgrade;
	pid_t predecessor = u->predecessor;
	char *path;

	predecessor_forget(u);
	path = upgrade_pidfile(u, &m->current->settings);
	if (pidfile_inherit(&m->pidfile, path, predecessor) == -1)
		log_warn("%s: pidfile: cannot write %s",
		    settings_origin(&m->current->settings, "pidfile"), path);
	free(path);
	notify_main_pid(getpid());
}
