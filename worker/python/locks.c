/*
 * Python's locks seen from outside: see locks.h. Up to 3.12 they are libc's semaphores, which have
 * no owner; from 3.13 on an atomic byte, of which libc sees nothing until somebody has to wait. So
 * we stand in front of the C functions behind their methods, as the hooks stand in front of libc's:
 * each method's descriptor gets a definition of ours, the same but for the function, which calls
 * theirs. Types, names and objects stay as they are. It costs a lock some nanoseconds.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "worker/green/green.h"
#include "worker/python/interrupt.h"
#include "worker/python/locks.h"

/*
 * A method takes its arguments in one of several ways (METH_NOARGS, METH_VARARGS, METH_FASTCALL, …
 * and that changes between versions), all of them in registers: they are passed on as they come.
 */
typedef PyObject *(*method)(PyObject *, void *, void *, void *);

enum {
	ACQUIRE,
	ACQUIRE_OLD,
	ENTER,
	RELEASE,
	RELEASE_OLD,
	EXIT,
	R_ACQUIRE,
	R_ENTER,
	R_RELEASE,
	R_EXIT,
	EPOLL,
	NMETHODS
};

static method theirs[NMETHODS], is_owned;
static PyMethodDef *their_methods[NMETHODS]; /* as they were */
static double timeout_max;                   /* _thread.TIMEOUT_MAX */

/* Of a call as it came: the argument of that name, which is also the i-th; NULL: none. Borrowed. */
static PyObject *
argument(int which, void *a, void *b, void *c, Py_ssize_t i, const char *name)
{
	PyObject *args = a, *const *values = a, *names = c;
	Py_ssize_t n = (Py_ssize_t)b;

	if (their_methods[which]->ml_flags & METH_VARARGS) {
		if (i < PyTuple_GET_SIZE(args))
			return PyTuple_GET_ITEM(args, i);
		return b == NULL ? NULL : PyDict_GetItemString(b, name);
	}
	if (i < n)
		return values[i];
	for (Py_ssize_t k = 0; names != NULL && k < PyTuple_GET_SIZE(names); k++)
		if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, k), name) == 0)
			return values[n + k];
	return NULL;
}

static bool
waits_for_ever(int which, void *a, void *b, void *c)
{
	PyObject *blocking, *timeout;

	if (which == ENTER || which == R_ENTER)
		return true;
	blocking = argument(which, a, b, c, 0, "blocking");
	timeout = argument(which, a, b, c, 1, "timeout");
	if (blocking != NULL && blocking != Py_True)
		return false;
	return timeout == NULL || (PyLong_CheckExact(timeout) && PyLong_AsLong(timeout) == -1);
}

/*
 * Only a wait that has a limit is prepared to end without the lock, in every version of Python; so
 * one that may be interrupted gets the longest there is. It counts as none (green_deadline).
 */
static PyObject *
acquire_with_limit(int which, PyObject *lock)
{
	PyMethodDef *acquire = their_methods[which >= R_ACQUIRE ? R_ACQUIRE : ACQUIRE];
	PyObject *bound = PyCFunction_New(acquire, lock), *result;

	if (bound == NULL)
		return NULL;
	result = PyObject_CallFunction(bound, "Od", Py_True, timeout_max);
	Py_DECREF(bound);
	return result;
}

static PyObject *
acquire_interruptibly(int which, PyObject *lock, void *a, void *b, void *c)
{
	bool for_ever = waits_for_ever(which, a, b, c);
	PyObject *result;

	do {
		(void)green_expect_interrupts(true);
		result = for_ever ? acquire_with_limit(which, lock) : theirs[which](lock, a, b, c);
		if (!green_expect_interrupts(false) || result != Py_False)
			return result;
		if (interrupt_raise()) {
			Py_DECREF(result);
			return NULL;
		}
	} while (for_ever);
	return result;
}

static PyObject *
acquire(int which, PyObject *lock, void *a, void *b, void *c)
{
	PyObject *result;

	green_lock_begin(lock);
	result = interrupt_possible() ? acquire_interruptibly(which, lock, a, b, c)
				      : theirs[which](lock, a, b, c);
	green_lock_end(lock, result == Py_True);
	return result;
}

static PyObject *
release(int which, PyObject *lock, void *a, void *b, void *c)
{
	green_lock_released(lock);
	return theirs[which](lock, a, b, c);
}

/* It may have been acquired several times. */
static PyObject *
release_recursive(int which, PyObject *lock, void *a, void *b, void *c)
{
	PyObject *result = theirs[which](lock, a, b, c), *owned;

	if (result == NULL)
		return NULL;
	owned = is_owned(lock, NULL, NULL, NULL);
	if (owned == Py_False)
		green_lock_released(lock);
	Py_XDECREF(owned);
	return result;
}

/* Interrupted it raises an OSError, and so what is wanted. */
static PyObject *
poll(int which, PyObject *epoll, void *a, void *b, void *c)
{
	PyObject *result;

	(void)green_expect_interrupts(true);
	result = theirs[which](epoll, a, b, c);
	(void)green_expect_interrupts(false);
	return result;
}

#define METHOD(name, which, how)                                         \
	static PyObject *name(PyObject *lock, void *a, void *b, void *c) \
	{                                                                \
		return how(which, lock, a, b, c);                        \
	}

METHOD(lock_acquire, ACQUIRE, acquire)
METHOD(lock_acquire_old, ACQUIRE_OLD, acquire)
METHOD(lock_enter, ENTER, acquire)
METHOD(lock_release, RELEASE, release)
METHOD(lock_release_old, RELEASE_OLD, release)
METHOD(lock_exit, EXIT, release)
METHOD(rlock_acquire, R_ACQUIRE, acquire)
METHOD(rlock_enter, R_ENTER, acquire)
METHOD(rlock_release, R_RELEASE, release_recursive)
METHOD(rlock_exit, R_EXIT, release_recursive)
METHOD(epoll_poll, EPOLL, poll)

static const struct {
	const char *type, *name;
	method ours;
} rows[NMETHODS] = {
    [ACQUIRE] = {"LockType", "acquire", lock_acquire},
    [ACQUIRE_OLD] = {"LockType", "acquire_lock", lock_acquire_old},
    [ENTER] = {"LockType", "__enter__", lock_enter},
    [RELEASE] = {"LockType", "release", lock_release},
    [RELEASE_OLD] = {"LockType", "release_lock", lock_release_old},
    [EXIT] = {"LockType", "__exit__", lock_exit},
    [R_ACQUIRE] = {"RLock", "acquire", rlock_acquire},
    [R_ENTER] = {"RLock", "__enter__", rlock_enter},
    [R_RELEASE] = {"RLock", "release", rlock_release},
    [R_EXIT] = {"RLock", "__exit__", rlock_exit},
    [EPOLL] = {"epoll", "poll", epoll_poll},
};

/* A new reference: the descriptor of a method that is written in C; NULL without an exception. */
static PyMethodDescrObject *
descriptor_find(PyObject *module, const char *type_name, const char *name)
{
	PyObject *type = PyObject_GetAttrString(module, type_name), *found = NULL;

	if (type != NULL)
		found = PyObject_GetAttrString(type, name);
	PyErr_Clear();
	Py_XDECREF(type);
	if (found != NULL && !Py_IS_TYPE(found, &PyMethodDescr_Type))
		Py_CLEAR(found);
	return (PyMethodDescrObject *)found;
}

static void
method_watch(PyObject *module, int which)
{
	static PyMethodDef ours[NMETHODS];
	PyMethodDescrObject *d = descriptor_find(module, rows[which].type, rows[which].name);

	if (d == NULL)
		return;
	their_methods[which] = d->d_method;
	ours[which] = *d->d_method;
	theirs[which] = (method)(void (*)(void))ours[which].ml_meth;
	ours[which].ml_meth = (PyCFunction)(void (*)(void))rows[which].ours;
	d->d_method = &ours[which];
	Py_DECREF(d);
}

static void
epoll_watch(void)
{
	PyObject *module = PyImport_ImportModule("select");

	if (module == NULL) {
		PyErr_Clear();
		return;
	}
	method_watch(module, EPOLL);
	Py_DECREF(module);
}

void
locks_watch(void)
{
	PyObject *module = PyImport_ImportModule("_thread");
	PyMethodDescrObject *d;
	PyObject *max;

	epoll_watch();
	if (module == NULL) {
		PyErr_Clear();
		return;
	}
	d = descriptor_find(module, "RLock", "_is_owned");
	max = PyObject_GetAttrString(module, "TIMEOUT_MAX");
	if (d != NULL && max != NULL) {
		timeout_max = PyFloat_AsDouble(max);
		is_owned = (method)(void (*)(void))d->d_method->ml_meth;
		for (int i = 0; i < EPOLL; i++)
			method_watch(module, i);
	}
	Py_XDECREF(d);
	Py_XDECREF(max);
	Py_DECREF(module);
}
