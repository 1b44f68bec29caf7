/* Two masters at a time: see upgrade.h. */
#include "master/upgrade.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/contract.h"
#include "common/log.h"
#include "common/mem.h"
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
upgrade_remember(int argc, char **argv)
{
	(void)argc; /* argv ends with NULL */
	start_argv = strings_copy(argv);
	start_environ = strings_copy(environ);
}

void
upgrade_begin(struct upgrade *u, struct fds *inherited)
{
	const char *text = getenv(CONTRACT_ENV_PREDECESSOR);

	*u = (struct upgrade){
	    .predecessor_fd = -1, .predecessor_control = -1, .successor_control = -1};
	if (text != NULL && strtol(text, NULL, 10) == getppid()) {
		u->predecessor = getppid();
		u->predecessor_control = fds_claim(inherited, CONTRACT_FD_CONTROL);
		u->predecessor_fd = (int)syscall(SYS_pidfd_open, u->predecessor, 0);
		if (u->predecessor_fd == -1 || getppid() != u->predecessor)
			fatalx("the master that started this one is gone");
	}
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

/* Sockets from systemd replace the setting bind there, too; ours are offered to it. */
static int
successor_descriptors(const struct generation *g, int control)
{
	struct fds fds = {0};
	int rc;

	for (size_t i = 0; i < g->nbindings; i++)
		fds_add(&fds, g->bindings[i].listener.fd,
		    g->bindings[i].listener.inherited ? CONTRACT_FD_LISTEN : CONTRACT_FD_BOUND);
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
become_successor(const struct master *m, const struct generation *g, int control)
{
	char number[24];

	snprintf(number, sizeof(number), "%d", (int)getppid());
	environ = start_environ;
	unsetenv("WATCHDOG_PID");
	if (chdir(m->config->options->cwd) == 0 && child_reset_signals() == 0 &&
	    setenv(CONTRACT_ENV_PREDECESSOR, number, 1) == 0 &&
	    successor_descriptors(g, control) == 0)
		execvp(start_argv[0], start_argv);
	dprintf(STDERR_FILENO, "cannot start %s: %s\n", start_argv[0], strerror(errno));
	_exit(1);
}

void
upgrade_start(struct master *m)
{
	const struct generation *g = m->fallback != NULL ? m->fallback : m->current;
	int control[2];
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
	pid = fork();
	if (pid == 0)
		become_successor(m, g, control[1]);
	if (pid == -1) {
		log_error("cannot start a new master");
		close(control[0]);
	} else {
		log_info("Starting a new master with pid: %d", (int)pid);
		m->upgrade.successor = pid;
		m->upgrade.successor_control = control[0];
	}
	close(control[1]);
}

static void
successor_hang_up(struct upgrade *u)
{
	if (u->successor_control != -1)
		close(u->successor_control);
	u->successor_control = -1;
}

/* It serves: for the service manager it is the main process from here on. */
void
upgrade_listen(struct master *m)
{
	char text[sizeof(CONTRACT_MSG_READY)];
	ssize_t n = recv(m->upgrade.successor_control, text, sizeof(text), MSG_DONTWAIT);

	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	successor_hang_up(&m->upgrade);
	if (n <= 0)
		return;
	log_info("The new master (pid:%d) is ready", (int)m->upgrade.successor);
	notify_main_pid(m->upgrade.successor);
	notify_mute(true);
}

void
upgrade_reaped(struct master *m, pid_t pid, int status)
{
	struct upgrade *u = &m->upgrade;

	if (pid != u->successor)
		return;
	u->successor = 0;
	successor_hang_up(u);
	notify_mute(false);
	notify_main_pid(getpid());
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		log_info("The new master (pid:%d) has stopped: this one goes on", (int)pid);
	else
		log_errorx("The new master (pid:%d) has failed: this one goes on", (int)pid);
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
	close(u->predecessor_control);
	u->predecessor_control = -1;
}

void
upgrade_promote(struct master *m)
{
	struct upgrade *u = &m->upgrade;
	pid_t predecessor = u->predecessor;
	char *path;

	log_info("Master has been promoted.");
	u->predecessor = 0;
	close(u->predecessor_fd);
	u->predecessor_fd = -1;
	path = upgrade_pidfile(u, &m->current->settings);
	if (pidfile_inherit(&m->pidfile, path, predecessor) == -1)
		log_warn("%s: pidfile: cannot write %s",
		    settings_origin(&m->current->settings, "pidfile"), path);
	free(path);
	notify_main_pid(getpid());
}
