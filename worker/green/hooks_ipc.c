/*
 * What waits for others inside libc or the kernel, and gives no descriptor to wait for: barriers,
 * the ends of threads, System V's and POSIX's queues and semaphores, asynchronous I/O. A try
 * without waiting where there is one; then a helper thread makes the real call.
 */
#include <aio.h>
#include <mqueue.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>

#include "worker/green/offloaded.h"

/* ---- threads ---- */

OFFLOADED(hook_offload, int, EAGAIN, pthread_barrier_wait, 1, pthread_barrier_t *, barrier)

OFFLOADED_CALL(hook_offload, int, EAGAIN, pthread_join, 2, pthread_t, thread, void **, value)

HOOK int
pthread_join(pthread_t thread, void **value)
{
	int rc;

	if (!on_green())
		return REAL(pthread_join)(thread, value);
	if (pthread_equal(thread, pthread_self()))
		return EDEADLK;
	rc = pthread_tryjoin_np(thread, value);
	return rc == EBUSY ? pthread_join_offloaded(thread, value) : rc;
}

OFFLOADED_CALL(hook_offload, int, EAGAIN, pthread_clockjoin_np, 4, pthread_t, thread, void **,
    value, clockid_t, clock, const struct timespec *, at)

HOOK int
pthread_clockjoin_np(pthread_t thread, void **value, clockid_t clock, const struct timespec *at)
{
	int rc;

	if (!on_green())
		return REAL(pthread_clockjoin_np)(thread, value, clock, at);
	if (pthread_equal(thread, pthread_self()))
		return EDEADLK;
	rc = pthread_tryjoin_np(thread, value);
	return rc == EBUSY ? pthread_clockjoin_np_offloaded(thread, value, clock, at) : rc;
}

HOOK int
pthread_timedjoin_np(pthread_t thread, void **value, const struct timespec *at)
{
	return pthread_clockjoin_np(thread, value, CLOCK_REALTIME, at);
}

/* ---- System V ---- */

OFFLOADED_CALL(hook_offload, int, -1, semtimedop, 4, int, id, struct sembuf *, ops, size_t, n,
    const struct timespec *, timeout)

#define FEW_OPS 16

/* All that it asks for, at once: 0, or -1 with EAGAIN. */
static int
semop_try(int id, const struct sembuf *ops, size_t n)
{
	struct sembuf now[FEW_OPS];

	if (n > FEW_OPS) {
		errno = EAGAIN;
		return -1;
	}
	for (size_t i = 0; i < n; i++) {
		now[i] = ops[i];
		now[i].sem_flg |= IPC_NOWAIT;
	}
	return REAL(semtimedop)(id, now, n, NULL);
}

HOOK int
semtimedop(int id, struct sembuf *ops, size_t n, const struct timespec *timeout)
{
	int rc;

	if (!on_green() || n == 0)
		return REAL(semtimedop)(id, ops, n, timeout);
	rc = semop_try(id, ops, n);
	return rc == 0 || errno != EAGAIN ? rc : semtimedop_offloaded(id, ops, n, timeout);
}

HOOK int
semop(int id, struct sembuf *ops, size_t n)
{
	return semtimedop(id, ops, n, NULL);
}

OFFLOADED_CALL(hook_offload, ssize_t, -1, msgrcv, 5, int, id, void *, msg, size_t, size, long, type,
    int, flags)

HOOK ssize_t
msgrcv(int id, void *msg, size_t size, long type, int flags)
{
	ssize_t rc;

	if (!on_green() || (flags & IPC_NOWAIT))
		return REAL(msgrcv)(id, msg, size, type, flags);
	rc = REAL(msgrcv)(id, msg, size, type, flags | IPC_NOWAIT);
	return rc != -1 || errno != ENOMSG ? rc : msgrcv_offloaded(id, msg, size, type, flags);
}

OFFLOADED_CALL(
    hook_offload, int, -1, msgsnd, 4, int, id, const void *, msg, size_t, size, int, flags)

HOOK int
msgsnd(int id, const void *msg, size_t size, int flags)
{
	int rc;

	if (!on_green() || (flags & IPC_NOWAIT))
		return REAL(msgsnd)(id, msg, size, flags);
	rc = REAL(msgsnd)(id, msg, size, flags | IPC_NOWAIT);
	return rc == 0 || errno != EAGAIN ? rc : msgsnd_offloaded(id, msg, size, flags);
}

/* ---- POSIX ---- */

OFFLOADED(hook_offload, ssize_t, -1, mq_receive, 4, mqd_t, queue, char *, msg, size_t, size,
    unsigned *, priority)
OFFLOADED(hook_offload, ssize_t, -1, mq_timedreceive, 5, mqd_t, queue, char *, msg, size_t, size,
    unsigned *, priority, const struct timespec *, at)
OFFLOADED(hook_offload, int, -1, mq_send, 4, mqd_t, queue, const char *, msg, size_t, size,
    unsigned, priority)
OFFLOADED(hook_offload, int, -1, mq_timedsend, 5, mqd_t, queue, const char *, msg, size_t, size,
    unsigned, priority, const struct timespec *, at)

typedef const struct aiocb *const *aio_list_t;

OFFLOADED(hook_offload, int, -1, aio_suspend, 3, aio_list_t, list, int, n, const struct timespec *,
    timeout)

HOOK_ALIAS(aio_suspend64, aio_suspend)
