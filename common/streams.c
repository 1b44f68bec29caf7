/* Leaving the standard streams: see streams.h. */
#include "common/streams.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/log.h"

int
streams_detach(bool keep)
{
	int null = open("/dev/null", O_RDWR | O_NOCTTY | O_CLOEXEC), rc = 0, saved_errno;

	if (null == -1)
		return -1;
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if ((fd == STDIN_FILENO || !keep || isatty(fd)) && dup2(null, fd) == -1)
			rc = -1;
	saved_errno = errno;
	close(null);
	log_stderr_replaced();
	errno = saved_errno;
	return rc;
}

int
streams_capture(void)
{
	int fd = log_fd();

	if (fd == STDERR_FILENO)
		return 0;
	return dup2(fd, STDOUT_FILENO) == -1 || dup2(fd, STDERR_FILENO) == -1 ? -1 : 0;
}
