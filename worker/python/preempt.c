/* The thread that asks for the GIL: see preempt.h. */
#include "worker/python/preempt.h"

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>
#include <unistd.h>

#include "worker/green/green.h"

/* How long to wait, with the lock, until the one that had it waits for it. */
#define PATIENCE_NS 5000000
#define PAUSE_NS    20000

static struct {
	_Atomic bool open;
	_Atomic pid_t pid; /* of the process whose thread it is: a forked one has none */
	pthread_t thread;
	sem_t asked;
	_Atomic uint64_t turn; /* the one to end */
} p;

/*
 * With the lock, which whoever runs has just given up: until that one waits for it, that is,
 * another has its turn. Python does not see to it: the thread that asked may have been fast, and
 * the lock be free again.
 */
static void
wait_for_turn(uint64_t turn)
{
	const struct timespec pause = {.tv_nsec = PAUSE_NS};
	int64_t deadline = green_deadline(PATIENCE_NS);

	while (green_turn() == turn && green_now() < deadline)
		(void)nanosleep(&pause, NULL);
}

static void *
preempter_main(void *arg)
{
	PyThreadState *state = PyThreadState_New(PyInterpreterState_Main());

	(void)arg;
	if (state == NULL)
		return NULL;
	for (;;) {
		while (sem_wait(&p.asked) == -1)
			; /* EINTR */
		while (sem_trywait(&p.asked) == 0)
			; /* asked several times while we waited for the lock: once is enough */
		PyEval_RestoreThread(state);
		if (!atomic_load(&p.open))
			break;
		wait_for_turn(atomic_load(&p.turn));
		PyEval_SaveThread();
	}
	PyThreadState_Clear(state);
	PyThreadState_DeleteCurrent();
	return NULL;
}

/* With all signals blocked: those for the process are for others. */
static int
thread_start(void)
{
	sigset_t all, old;

	if (sem_init(&p.asked, 0, 0) == -1)
		return -1;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	errno = pthread_create(&p.thread, NULL, preempter_main, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return errno == 0 ? 0 : -1;
}

void
preempt_open(void)
{
	atomic_store(&p.open, true);
}

void
preempt_turn(uint64_t turn)
{
	if (!atomic_load(&p.open))
		return;
	if (atomic_load(&p.pid) != getpid()) {
		if (thread_start() == -1)
			return; /* a limit: the next time, perhaps */
		atomic_store(&p.pid, getpid());
	}
	atomic_store(&p.turn, turn);
	(void)sem_post(&p.asked);
}

void
preempt_close(void)
{
	atomic_store(&p.open, false);
	if (atomic_load(&p.pid) != getpid())
		return;
	(void)sem_post(&p.asked);
	(void)pthread_join(p.thread, NULL);
}
