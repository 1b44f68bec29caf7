/*
 * Closing: who waits on the descriptor must learn of it, and its registration must go. And the
 * calls that change what is remembered of descriptors (fcntl is in hooks_file.c).
 */
#include <dirent.h>
#include <mqueue.h>
#include <stdarg.h>
#include <sys/ioctl.h>

#include "worker/green/hooks.h"

HOOK int
close(int fd)
{
	green_fd_forget(fd);
	return REAL(close)(fd);
}

/* What is not going to be closed stays. */
static bool
dup_closes(int from, int to)
{
	return from != to && REAL(fcntl)(from, F_GETFD) != -1;
}

HOOK int
dup2(int from, int to)
{
	if (dup_closes(from, to))
		green_fd_forget(to);
	return REAL(dup2)(from, to);
}

HOOK int
dup3(int from, int to, int flags)
{
	if (dup_closes(from, to) && (flags & ~O_CLOEXEC) == 0)
		green_fd_forget(to);
	return REAL(dup3)(from, to, flags);
}

HOOK int
close_range(unsigned first, unsigned last, int flags)
{
	if (first <= last && (flags & CLOSE_RANGE_CLOEXEC) == 0)
		green_fd_forget_range(first, last);
	return REAL(close_range)(first, last, flags);
}

HOOK void
closefrom(int first)
{
	green_fd_forget_range(first < 0 ? 0 : (unsigned)first, ~0U);
	REAL(closefrom)(first);
}

/* ---- these close inside libc ---- */

static void
forget_stream(FILE *fp)
{
	int saved = errno, fd = fileno(fp);

	if (fd >= 0)
		green_fd_forget(fd);
	errno = saved;
}

HOOK int
fclose(FILE *fp)
{
	forget_stream(fp);
	return REAL(fclose)(fp);
}

HOOK FILE *
freopen(const char *path, const char *mode, FILE *fp)
{
	forget_stream(fp);
	return REAL(freopen)(path, mode, fp);
}

HOOK_ALIAS(freopen64, freopen)

HOOK int
closedir(DIR *dir)
{
	green_fd_forget(dirfd(dir));
	return REAL(closedir)(dir);
}

HOOK int
mq_close(mqd_t queue)
{
	green_fd_forget(queue);
	return REAL(mq_close)(queue);
}

/* ---- O_NONBLOCK and time limits ---- */

HOOK int
ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;
	int rc;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	rc = REAL(ioctl)(fd, request, arg);
	if (request == FIONBIO)
		green_fd_changed();
	return rc;
}

HOOK int
setsockopt(int fd, int level, int option, const void *value, socklen_t len)
{
	int rc = REAL(setsockopt)(fd, level, option, value, len);

	if (level == SOL_SOCKET && (option == SO_RCVTIMEO_OLD || option == SO_SNDTIMEO_OLD ||
				       option == SO_RCVTIMEO_NEW || option == SO_SNDTIMEO_NEW))
		green_fd_changed();
	return rc;
}

HOOK_ALIAS(__close, close)
