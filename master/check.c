/* Starting one worker that only loads the application: see check.h. */
#include "master/check.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/contract.h"
#include "common/fds.h"
#include "common/privs.h"
#include "master/child.h"
#include "master/generation.h"

/* In the child: as the user that would serve, from the settings alone. */
static int
become_checker(const struct settings *s, const char *worker, int settings_fd)
{
	char *argv[] = {"greenicorn: check", NULL};
	struct fds fds = {0};
	struct privs privs;
	bool bad_group;

	if (privs_resolve(&privs, s->user, s->group, s->initgroups, &bad_group, NULL, 0) == -1 ||
	    (privs_differ(&privs) && privs_drop(&privs) == -1) || child_reset_signals() == -1 ||
	    child_environment_set(s, 0) == -1)
		return -1;
	fds_add(&fds, settings_fd, CONTRACT_FD_SETTINGS);
	return fds_pass(&fds) == -1 ? -1 : execv(worker, argv);
}

int
check_application(const struct settings *s, const char *worker)
{
	int fd = generation_pack(s), status = 0;
	pid_t pid = fd != -1 ? fork() : -1;

	if (pid == 0) {
		if (become_checker(s, worker, fd) == -1)
			fprintf(stderr, "cannot start %s: %s\n", worker, strerror(errno));
		_exit(WORKER_EXIT_FAILED);
	}
	if (fd != -1)
		close(fd);
	while (pid != -1 && waitpid(pid, &status, 0) == -1)
		if (errno != EINTR)
			pid = -1;
	if (pid == -1)
		fprintf(stderr, "Error: cannot check the application: %s\n", strerror(errno));
	else if (status != 0)
		fputs("Error while loading the application\n", stderr);
	return pid != -1 && status == 0 ? 0 : 1;
}
