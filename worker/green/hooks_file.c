/*
 * Files: locks on them, FIFOs that are opened, what the kernel copies between descriptors, and
 * what waits for the disk. The kernel gives no event for any of it: a helper thread makes the real
 * call, unless a try without waiting has done it.
 */
#include <stdarg.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <termios.h>

#include "worker/green/offloaded.h"

/* A copy of this size between files takes longer than to have a helper do it. */
#define BIG_COPY (256 * 1024)

static bool
would_block(void)
{
	return errno == EAGAIN || errno == EWOULDBLOCK || errno == EACCES;
}

/* ---- locks: of the process or of the open file, so a helper can take them for us ---- */

OFFLOADED_CALL(hook_offload, int, -1, flock, 2, int, fd, int, operation)

HOOK int
flock(int fd, int operation)
{
	int rc;

	if (!on_green() || (operation & LOCK_NB))
		return REAL(flock)(fd, operation);
	rc = REAL(flock)(fd, operation | LOCK_NB);
	return rc == 0 || !would_block() ? rc : flock_offloaded(fd, operation);
}

OFFLOADED_CALL(hook_offload, int, -1, lockf, 3, int, fd, int, command, off_t, n)

HOOK int
lockf(int fd, int command, off_t n)
{
	int rc;

	if (!on_green() || command != F_LOCK)
		return REAL(lockf)(fd, command, n);
	rc = REAL(lockf)(fd, F_TLOCK, n);
	return rc == 0 || !would_block() ? rc : lockf_offloaded(fd, command, n);
}

HOOK_ALIAS(lockf64, lockf)

OFFLOADED_CALL(hook_offload, int, -1, fcntl, 3, int, fd, int, command, void *, arg)

static int
lock_record(int fd, int command, void *arg)
{
	int rc = REAL(fcntl)(fd, command == F_SETLKW ? F_SETLK : F_OFD_SETLK, arg);

	return rc == 0 || !would_block() ? rc : fcntl_offloaded(fd, command, arg);
}

HOOK int
fcntl(int fd, int command, ...)
{
	va_list ap;
	void *arg;
	int rc;

	va_start(ap, command);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (on_green() && (command == F_SETLKW || command == F_OFD_SETLKW))
		return lock_record(fd, command, arg);
	rc = REAL(fcntl)(fd, command, arg);
	if (command == F_SETFL)
		green_fd_changed();
	return rc;
}

HOOK_ALIAS(fcntl64, fcntl)
HOOK_ALIAS(__fcntl, fcntl)

/* ---- opening a FIFO waits for who opens its other end ---- */

OFFLOADED_CALL(
    hook_offload, int, -1, openat, 4, int, dir, const char *, path, int, flags, mode_t, mode)

static bool
is_fifo(int dir, const char *path, int flags)
{
	struct stat st;

	if ((flags & O_ACCMODE) == O_RDWR || (flags & (O_NONBLOCK | O_PATH | O_DIRECTORY | O_EXCL)))
		return false;
	return fstatat(dir, path, &st, 0) == 0 && S_ISFIFO(st.st_mode);
}

static int
green_openat(int dir, const char *path, int flags, mode_t mode)
{
	int saved = errno;

	if (on_green() && is_fifo(dir, path, flags))
		return openat_offloaded(dir, path, flags, mode);
	errno = saved;
	return REAL(openat)(dir, path, flags, mode);
}

/* The mode is there when a file may be made. */
#define OPEN_MODE(mode, flags)                   \
	if ((flags) & (O_CREAT | __O_TMPFILE)) { \
		va_list ap;                      \
		va_start(ap, flags);             \
		mode = va_arg(ap, mode_t);       \
		va_end(ap);                      \
	}

HOOK int
open(const char *path, int flags, ...)
{
	mode_t mode = 0;

	OPEN_MODE(mode, flags)
	return green_openat(AT_FDCWD, path, flags, mode);
}

HOOK int
openat(int dir, const char *path, int flags, ...)
{
	mode_t mode = 0;

	OPEN_MODE(mode, flags)
	return green_openat(dir, path, flags, mode);
}

HOOK int
creat(const char *path, mode_t mode)
{
	return green_openat(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode);
}

HOOK_ALIAS(open64, open)
HOOK_ALIAS(openat64, openat)
HOOK_ALIAS(creat64, creat)
HOOK_ALIAS(__open, open)
HOOK_ALIAS(__open64, open)

/* What callers built with _FORTIFY_SOURCE use: without O_CREAT. */
int __open_2(const char *path, int flags);
int __openat_2(int dir, const char *path, int flags);

HOOK int
__open_2(const char *path, int flags)
{
	if (flags & (O_CREAT | __O_TMPFILE))
		__chk_fail();
	return green_openat(AT_FDCWD, path, flags, 0);
}

HOOK int
__openat_2(int dir, const char *path, int flags)
{
	if (flags & (O_CREAT | __O_TMPFILE))
		__chk_fail();
	return green_openat(dir, path, flags, 0);
}

HOOK_ALIAS(__open64_2, __open_2)
HOOK_ALIAS(__openat64_2, __openat_2)

/* ---- copies within the kernel ---- */

/* Sockets and pipes, unless their owner has said that he does not wait. */
static bool
can_wait(int fd)
{
	return green_fd_kind(fd) != FD_FILE && !fd_is_nonblocking(fd);
}

static bool
copy_is_long(int from, int to, size_t n)
{
	if (!on_green())
		return false;
	return can_wait(from) || can_wait(to) || (n >= BIG_COPY && green_fd_kind(to) == FD_FILE);
}

OFFLOADED_CALL(
    hook_offload, ssize_t, -1, sendfile, 4, int, to, int, from, off_t *, offset, size_t, n)

HOOK ssize_t
sendfile(int to, int from, off_t *offset, size_t n)
{
	return copy_is_long(from, to, n) ? sendfile_offloaded(to, from, offset, n)
					 : REAL(sendfile)(to, from, offset, n);
}

HOOK_ALIAS(sendfile64, sendfile)

OFFLOADED_CALL(hook_offload, ssize_t, -1, splice, 6, int, from, off64_t *, offset_from, int, to,
    off64_t *, offset_to, size_t, n, unsigned, flags)

HOOK ssize_t
splice(int from, off64_t *offset_from, int to, off64_t *offset_to, size_t n, unsigned flags)
{
	return copy_is_long(from, to, n)
		   ? splice_offloaded(from, offset_from, to, offset_to, n, flags)
		   : REAL(splice)(from, offset_from, to, offset_to, n, flags);
}

OFFLOADED_CALL(hook_offload, ssize_t, -1, tee, 4, int, from, int, to, size_t, n, unsigned, flags)

HOOK ssize_t
tee(int from, int to, size_t n, unsigned flags)
{
	return copy_is_long(from, to, 0) && !(flags & SPLICE_F_NONBLOCK)
		   ? tee_offloaded(from, to, n, flags)
		   : REAL(tee)(from, to, n, flags);
}

OFFLOADED_CALL(hook_offload, ssize_t, -1, vmsplice, 4, int, fd, const struct iovec *, iov, size_t,
    n, unsigned, flags)

HOOK ssize_t
vmsplice(int fd, const struct iovec *iov, size_t n, unsigned flags)
{
	return on_green() && !(flags & SPLICE_F_NONBLOCK) && can_wait(fd)
		   ? vmsplice_offloaded(fd, iov, n, flags)
		   : REAL(vmsplice)(fd, iov, n, flags);
}

OFFLOADED_CALL(hook_offload, ssize_t, -1, copy_file_range, 6, int, from, off64_t *, offset_from,
    int, to, off64_t *, offset_to, size_t, n, unsigned, flags)

HOOK ssize_t
copy_file_range(
    int from, off64_t *offset_from, int to, off64_t *offset_to, size_t n, unsigned flags)
{
	return on_green() && n >= BIG_COPY
		   ? copy_file_range_offloaded(from, offset_from, to, offset_to, n, flags)
		   : REAL(copy_file_range)(from, offset_from, to, offset_to, n, flags);
}

/*
 * ---- what waits for the disk or the terminal ----
 *
 * Milliseconds on a disk, against some 20 us for the helper (docs/cooperation.md).
 */

OFFLOADED(hook_offload, int, -1, fsync, 1, int, fd)
OFFLOADED(hook_offload, int, -1, fdatasync, 1, int, fd)
OFFLOADED(hook_offload, int, -1, syncfs, 1, int, fd)
OFFLOADED(
    hook_offload, int, -1, sync_file_range, 4, int, fd, off64_t, from, off64_t, n, unsigned, flags)
OFFLOADED(hook_offload, int, -1, msync, 3, void *, start, size_t, n, int, flags)
OFFLOADED(hook_offload, int, -1, tcdrain, 1, int, fd)

static void
real_sync(void *arg)
{
	(void)arg;
	REAL(sync)();
}

HOOK void
sync(void)
{
	if (on_green())
		(void)hook_offload(real_sync, NULL);
	else
		REAL(sync)();
}
