/* Forking twice: see orphan.h. */
#include "common/orphan.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the one in between says before it ends; the application may have handlers that interrupt. */
static pid_t
pid_receive(int fd)
{
	pid_t pid;
	ssize_t n;

	while ((n = read(fd, &pid, sizeof(pid))) == -1 && errno == EINTR)
		;
	if (n == sizeof(pid))
		return pid;
	errno = EAGAIN;
	return -1;
}

pid_t
orphan_fork(void)
{
	pid_t between, pid = -1;
	int fds[2], saved_errno;

	if (pipe2(fds, O_CLOEXEC) == -1)
		return -1;
	between = fork();
	if (between == 0) {
		pid = fork();
		if (pid == 0) {
			close(fds[0]);
			close(fds[1]);
			return 0;
		}
		_exit(pid == -1 || write(fds[1], &pid, sizeof(pid)) != sizeof(pid));
	}
	saved_errno = errno;
	close(fds[1]);
	if (between != -1) {
		pid = pid_receive(fds[0]);
		saved_errno = errno;
		while (waitpid(between, NULL, 0) == -1 && errno == EINTR)
			;
	}
	close(fds[0]);
	errno = saved_errno;
	return pid;
}
