/* Going into the background: see daemon.h. */
#include "master/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"
#include "common/streams.h"

/* Where to tell the one that waits; -1: nobody does. */
static int waiting_fd = -1;

/* How the daemon ended, which has become our child. */
static int
exit_code(void)
{
	int status, code = 1;
	pid_t pid;

	while ((pid = wait(&status)) > 0 || errno == EINTR)
		if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) != 0)
			code = WEXITSTATUS(status);
	return code;
}

static _Noreturn void
await(int fd, const struct settings *s)
{
	char byte;
	ssize_t n;
	int code;

	while ((n = read(fd, &byte, 1)) == -1 && errno == EINTR)
		;
	if (n == 1)
		_exit(0);
	code = exit_code();
	if (s->errorlog != NULL && strcmp(s->errorlog, "-") != 0)
		fprintf(stderr, "greenicorn has not started; %s may tell why\n", s->errorlog);
	_exit(code);
}

void
daemon_detach(const struct settings *s)
{
	int fds[2];
	pid_t pid;

	/* the daemon is an orphan soon: ours then, so that we learn how it ended */
	if (pipe2(fds, O_CLOEXEC) == -1 || prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == -1)
		fatal("daemon");
	if ((pid = fork()) == -1)
		fatal("daemon: fork");
	if (pid != 0) {
		close(fds[1]);
		await(fds[0], s);
	}
	close(fds[0]);
	if (setsid() == -1 || (pid = fork()) == -1)
		fatal("daemon: setsid or fork");
	if (pid != 0)
		_exit(0);
	waiting_fd = fds[1];
}

void
daemon_ready(const struct settings *s)
{
	ssize_t n;

	if (waiting_fd == -1)
		return;
	if (streams_detach(s->enable_stdio_inheritance) == -1)
		log_warn("daemon: /dev/null");
	while ((n = write(waiting_fd, "", 1)) == -1 && errno == EINTR)
		;
	if (n == -1)
		log_debug("nobody waits for the daemon: %s", strerror(errno));
	close(waiting_fd);
	waiting_fd = -1;
}
