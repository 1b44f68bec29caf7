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
	NMETHODS
};

static method theirs[NMETHODS], is_owned;

static PyObject *
acquire(int which, PyObject *lock, void *a, void *b, void *c)
{
	PyObject *result;

	green_lock_begin(lock);
	result = theirs[which](lock, a, b, c);
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
	ours[which] = *d->d_method;
	theirs[which] = (method)(void (*)(void))ours[which].ml_meth;
	ours[which].ml_meth = (PyCFunction)(void (*)(void))rows[which].ours;
	d->d_method = &ours[which];
	Py_DECREF(d);
}

void
locks_watch(void)
{
	PyObject *module = PyImport_ImportModule("_thread");
	PyMethodDescrObject *d;

	if (module == NULL) {
		PyErr_Clear();
		return;
	}
	d = descriptor_find(module, "RLock", "_is_owned");
	if (d != NULL) {
		is_owned = (method)(void (*)(void))d->d_method->ml_meth;
		for (int i = 0; i < NMETHODS; i++)
			method_watch(module, i);
	}
	Py_XDECREF(d);
	Py_DECREF(module);
}
