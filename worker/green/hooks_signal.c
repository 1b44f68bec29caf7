/*
 * Signals. Those of the process come to the loop's OS thread, which runs the green threads; its
 * mask is theirs. The kernel half of a green thread has all signals blocked: one sent to it by
 * pthread_kill would wait there for ever.
 *
 * What waits for blocked signals waits for a signalfd(2) of them, and then takes the signal by
 * the real call. There is no waiting for signals that are not blocked: their handlers run at once,
 * whichever green thread has its turn.
 */
#include <stddef.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>

#include "worker/green/hooks.h"

/* ---- sending ---- */

/*
 * The green thread that a pthread is, from its thread-local storage, which lies at the same
 * distance from every thread's pthread_t.
 */
static struct green *
green_of(pthread_t thread)
{
	ptrdiff_t distance = (char *)&green_tls_self - (char *)pthread_self();

	return *(struct green **)(void *)((char *)thread + distance);
}

HOOK int
pthread_kill(pthread_t thread, int sig)
{
	if (green_of(thread) == NULL)
		return REAL(pthread_kill)(thread, sig);
	return syscall(SYS_tgkill, getpid(), green_loop_tid, sig) == 0 ? 0 : errno;
}

HOOK int
raise(int sig)
{
	return (int)syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), sig);
}

/* ---- waiting ---- */

static void
close_signalfd(int fd)
{
	int saved = errno;

	(void)green_fd_close(fd);
	errno = saved;
}

/* The signal, or -1 with errno: EAGAIN at the deadline. */
static int
green_sigwait(const sigset_t *set, siginfo_t *info, int64_t deadline)
{
	const struct timespec now = {0, 0};
	int sig, fd;

	if ((sig = REAL(sigtimedwait)(set, info, &now)) != -1 || errno != EAGAIN)
		return sig;
	fd = signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd == -1)
		return -1;
	while ((sig = REAL(sigtimedwait)(set, info, &now)) == -1 && errno == EAGAIN)
		if (green_fd_wait_interruptibly(fd, GREEN_READ, deadline) == -1) {
			errno = errno == ETIMEDOUT ? EAGAIN : errno;
			break;
		}
	close_signalfd(fd);
	return sig;
}

HOOK int
sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *ts)
{
	if (!on_green() || (ts != NULL && (ts->tv_sec < 0 || !timespec_valid(ts))))
		return REAL(sigtimedwait)(set, info, ts);
	return green_sigwait(set, info, ts == NULL ? GREEN_NEVER : green_deadline(timespec_ns(ts)));
}

HOOK int
sigwaitinfo(const sigset_t *set, siginfo_t *info)
{
	return on_green() ? green_sigwait(set, info, GREEN_NEVER) : REAL(sigwaitinfo)(set, info);
}

HOOK int
sigwait(const sigset_t *set, int *sig)
{
	int rc;

	if (!on_green())
		return REAL(sigwait)(set, sig);
	while ((rc = green_sigwait(set, NULL, GREEN_NEVER)) == -1)
		if (errno != EINTR)
			return errno;
	*sig = rc;
	return 0;
}

/* The signals that are blocked now and not in mask; the others have run their handlers already. */
static int
signalfd_of_mask(const sigset_t *mask)
{
	sigset_t blocked, set;

	(void)pthread_sigmask(SIG_BLOCK, NULL, &blocked);
	sigemptyset(&set);
	for (int sig = 1; sig < NSIG; sig++)
		if (sigismember(&blocked, sig) == 1 && sigismember(mask, sig) == 0)
			sigaddset(&set, sig);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* poll(2) of nothing for no time changes the mask and back, and lets pending signals in. */
HOOK int
sigsuspend(const sigset_t *mask)
{
	const struct timespec now = {0, 0};
	int rc, fd;

	if (!on_green())
		return REAL(sigsuspend)(mask);
	fd = signalfd_of_mask(mask);
	if (fd == -1)
		return -1;
	while ((rc = REAL(ppoll)(NULL, 0, &now, mask)) == 0)
		if (green_fd_wait_interruptibly(fd, GREEN_READ, GREEN_NEVER) == -1)
			break;
	close_signalfd(fd);
	return -1;
}

HOOK int
pause(void)
{
	sigset_t mask;

	if (!on_green())
		return REAL(pause)();
	(void)pthread_sigmask(SIG_BLOCK, NULL, &mask);
	return sigsuspend(&mask);
}
