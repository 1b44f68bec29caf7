/* Closing: who waits on the descriptor must learn of it, and its registration must go. */
#include "worker/green/hooks.h"

HOOK int
close(int fd)
{
	green_fd_forget(fd);
	return REAL(close)(fd);
}

HOOK int
dup2(int from, int to)
{
	if (from != to)
		green_fd_forget(to);
	return REAL(dup2)(from, to);
}

HOOK int
dup3(int from, int to, int flags)
{
	if (from != to)
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

/* It closes inside libc. */
HOOK int
fclose(FILE *fp)
{
	int fd = fileno(fp);

	if (fd >= 0)
		green_fd_forget(fd);
	return REAL(fclose)(fp);
}
