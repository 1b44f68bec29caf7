/* Thread states: see thread.h. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "worker/python/interpreter.h"
#include "worker/python/interrupt.h"
#include "worker/python/serving.h"
#include "worker/python/thread.h"

static __thread PyThreadState *self; /* owned; NULL: none yet */
static PyThreadState *first;         /* borrowed: Python's main thread's, which lasts to the end */
static bool closed;

void
thread_adopt(void)
{
	self = first = PyEval_SaveThread();
}

void
thread_leave(void)
{
	(void)PyEval_SaveThread();
	self = NULL;
}

/*
 * PyOS_AfterFork_Child makes the calling thread Python's main one and binds the state to
 * it; but for its identity, which it takes for unchanged.
 */
void
thread_inherit(void)
{
	self = first;
	PyEval_RestoreThread(first);
	first->thread_id = PyThread_get_thread_ident();
	PyOS_AfterFork_Child();
}

int
thread_attach(void)
{
	bool fresh = self == NULL;

	if (fresh && (closed || (self = PyThreadState_New(PyInterpreterState_Main())) == NULL))
		return -1;
	PyEval_RestoreThread(self);
	if (fresh)
		interpreter_begin_thread();
	return 0;
}

bool
thread_is_ours(void)
{
	return self != NULL;
}

void
thread_detach(void)
{
	PyEval_SaveThread();
}

/* Clearing the state runs destructors of thread-local values: Python code. */
static void
state_delete(void)
{
	PyThreadState_Clear(self);
	PyThreadState_DeleteCurrent();
	self = NULL;
}

void
thread_end(void)
{
	if (self == NULL || self == first || closed)
		return;
	PyEval_RestoreThread(self);
	interpreter_forget_thread();
	serving_forget();
	interrupt_thread_end();
	state_delete();
}

int
thread_renew(void)
{
	if (self == first)
		return 0;
	state_delete();
	return thread_attach();
}

void
thread_close_all(void)
{
	closed = true;
}
