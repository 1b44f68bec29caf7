/* One user at a time, none after the end: see gate.h. */
#include "worker/python/gate.h"

int
gate_enter(struct gate *gate, const char *what)
{
	if (!gate->open) {
		PyErr_Format(PyExc_ValueError, "%s is closed: its request is over", what);
		return -1;
	}
	if (gate->busy) {
		PyErr_Format(PyExc_RuntimeError, "%s is in use by another thread", what);
		return -1;
	}
	gate->busy = true;
	return 0;
}

void
gate_leave(struct gate *gate)
{
	gate->busy = false;
	if (gate->waiter != NULL)
		sem_post(gate->waiter);
	gate->waiter = NULL;
}

/* The GIL orders sem_post before sem_destroy. */
void
gate_wait(struct gate *gate)
{
	PyThreadState *state;
	sem_t left;

	while (gate->busy) {
		sem_init(&left, 0, 0);
		gate->waiter = &left;
		state = PyEval_SaveThread();
		while (sem_wait(&left) == -1)
			; /* EINTR */
		PyEval_RestoreThread(state);
		sem_destroy(&left);
	}
}

void
gate_close(struct gate *gate)
{
	gate_wait(gate);
	gate->open = false;
}
