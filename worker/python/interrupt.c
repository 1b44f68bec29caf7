/* Exceptions from outside: see interrupt.h. */
#include "worker/python/interrupt.h"

#include <sys/queue.h>

#include <errno.h>
#include <stdlib.h>

#include "worker/green/green.h"
#include "worker/python/thread.h"

/*
 * How many waits in a row fail for one interruption. A library in C may turn the error into one of
 * its own, or try again: then the next wait is to fail. But who tries for ever is not to spin for
 * ever.
 */
#define WAITS 8

#define SECONDS_MAX 1e9

enum arm_state { ARM_COUNTING, ARM_FIRED, ARM_RAISED };

/* One Timeout between its start and its end; in order of starting. */
struct arm {
	TAILQ_ENTRY(arm) link, due_link;
	struct slot *slot;         /* borrowed: it outlives this */
	PyObject *key;             /* owned: the Timeout */
	struct green_alarm *alarm; /* owned */
	int64_t deadline;
	enum arm_state state;
	bool due; /* on the list of those whose time has come */
};
TAILQ_HEAD(arm_list, arm);

/*
 * What a green thread is to be interrupted by. While one exception makes its way out, those
 * that were there at that time wait: they must not hit who cleans up. They are the first `held`
 * of armed; all of them go on when the one that was raised is disarmed.
 */
struct slot {
	PyObject_HEAD struct green *green; /* NULL: its thread is over */
	struct arm_list armed;
	size_t held;
	PyObject *job;    /* compared only: who may be thrown at; NULL: nobody */
	PyObject *thrown; /* owned: NULL, or what somebody sent, see slot_throw */
};

static __thread struct slot *mine; /* owned */

/* The loop's: see on_alarm. */
static struct arm_list due = TAILQ_HEAD_INITIALIZER(due);
static struct green_job due_job;
static bool due_job_runs;

/* ---- what is to be raised next ---- */

static struct arm *
next_fired(const struct slot *s)
{
	struct arm *a;
	size_t i = 0;

	TAILQ_FOREACH (a, &s->armed, link)
		if (i++ >= s->held && a->state == ARM_FIRED)
			return a;
	return NULL;
}

static bool
is_wanted(const struct slot *s)
{
	return next_fired(s) != NULL || (s->thrown != NULL && s->held == 0);
}

static void
slot_update(struct slot *s)
{
	if (s->green != NULL)
		green_interrupt(s->green, is_wanted(s) ? WAITS : 0);
}

static void
hold_all(struct slot *s)
{
	struct arm *a;

	s->held = 0;
	TAILQ_FOREACH (a, &s->armed, link)
		s->held++;
}

/* A new reference to a Timeout or what was thrown; NULL: nothing. */
static PyObject *
slot_take(struct slot *s)
{
	struct arm *a = next_fired(s);
	PyObject *key = NULL;

	if (a != NULL) {
		a->state = ARM_RAISED;
		key = Py_NewRef(a->key);
	} else if (s->thrown != NULL && s->held == 0) {
		key = s->thrown;
		s->thrown = NULL;
	}
	if (key != NULL)
		hold_all(s);
	slot_update(s);
	return key;
}

bool
interrupt_raise(void)
{
	PyObject *key = mine != NULL && is_wanted(mine) ? slot_take(mine) : NULL, *exception;

	if (key == NULL)
		return false;
	exception = PyObject_CallMethod(key, "_thrown", NULL);
	Py_DECREF(key);
	if (exception != NULL)
		PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
	Py_XDECREF(exception);
	return true;
}

/* ---- time ---- */

/* On a green thread. */
static void
due_run(void *arg)
{
	struct arm *a;

	(void)arg;
	due_job_runs = false;
	if (thread_attach() == -1)
		return; /* no memory, or the end */
	while ((a = TAILQ_FIRST(&due)) != NULL) {
		TAILQ_REMOVE(&due, a, due_link);
		a->due = false;
		a->state = ARM_FIRED;
		slot_update(a->slot);
	}
	thread_detach();
}

/* From the loop, which has no GIL. */
static void
on_alarm(void *arg)
{
	struct arm *a = arg;

	a->due = true;
	TAILQ_INSERT_TAIL(&due, a, due_link);
	if (due_job_runs)
		return;
	due_job_runs = true;
	due_job = (struct green_job){.fn = due_run};
	green_run(&due_job);
}

static void
arm_free(struct arm *a)
{
	TAILQ_REMOVE(&a->slot->armed, a, link);
	if (a->due)
		TAILQ_REMOVE(&due, a, due_link);
	green_alarm_free(a->alarm);
	Py_DECREF(a->key);
	free(a);
}

/* arm(timeout, seconds): raise timeout._thrown() in this thread then. */
static PyObject *
slot_arm(PyObject *self, PyObject *args)
{
	struct slot *s = (struct slot *)self;
	double seconds;
	PyObject *key;
	struct arm *a;

	if (!PyArg_ParseTuple(args, "Od", &key, &seconds))
		return NULL;
	if (s != mine) {
		PyErr_SetString(PyExc_RuntimeError, "not this thread's");
		return NULL;
	}
	if (!(seconds > 0))
		seconds = 0;
	if (seconds > SECONDS_MAX)
		seconds = SECONDS_MAX;
	a = calloc(1, sizeof(*a));
	if (a == NULL)
		return PyErr_NoMemory();
	a->slot = s;
	a->deadline = green_deadline((int64_t)(seconds * 1e9));
	a->alarm = green_alarm_new(a->deadline, on_alarm, a);
	if (a->alarm == NULL) {
		free(a);
		return PyErr_NoMemory();
	}
	a->key = Py_NewRef(key);
	TAILQ_INSERT_TAIL(&s->armed, a, link);
	Py_RETURN_NONE;
}

/* Its place in *i. */
static struct arm *
arm_find(struct slot *s, PyObject *key, size_t *i)
{
	struct arm *a;

	*i = 0;
	TAILQ_FOREACH (a, &s->armed, link) {
		if (a->key == key)
			return a;
		++*i;
	}
	return NULL;
}

/* disarm(timeout): it is over. Whether its time had come and it has not been raised. */
static PyObject *
slot_disarm(PyObject *self, PyObject *key)
{
	struct slot *s = (struct slot *)self;
	size_t i;
	struct arm *a = arm_find(s, key, &i);
	bool fired;

	if (a == NULL)
		Py_RETURN_FALSE;
	if (s != mine) {
		PyErr_SetString(PyExc_RuntimeError, "a Timeout ends in the thread that started it");
		return NULL;
	}
	fired = a->state != ARM_RAISED && green_now() >= a->deadline;
	if (a->state == ARM_RAISED)
		s->held = 0;
	else if (i < s->held)
		s->held--;
	arm_free(a);
	slot_update(s);
	return PyBool_FromLong(fired);
}

/* begin(job): what runs here now; None: nothing more that may be thrown at. */
static PyObject *
slot_begin(PyObject *self, PyObject *job)
{
	struct slot *s = (struct slot *)self;

	s->job = job == Py_None ? NULL : job;
	Py_CLEAR(s->thrown);
	slot_update(s);
	Py_RETURN_NONE;
}

/* throw(job, x): if that still runs here raise x._thrown() in it; from any thread. */
static PyObject *
slot_throw(PyObject *self, PyObject *args)
{
	struct slot *s = (struct slot *)self;
	PyObject *job, *key;

	if (!PyArg_ParseTuple(args, "OO", &job, &key))
		return NULL;
	if (s->job == job) {
		Py_XSETREF(s->thrown, Py_NewRef(key));
		slot_update(s);
	}
	Py_RETURN_NONE;
}

static void
slot_dealloc(PyObject *self)
{
	Py_CLEAR(((struct slot *)self)->thrown);
	PyObject_Free(self);
}

static PyMethodDef slot_methods[] = {
    {"arm", slot_arm, METH_VARARGS, NULL},
    {"disarm", slot_disarm, METH_O, NULL},
    {"begin", slot_begin, METH_O, NULL},
    {"throw", slot_throw, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject slot_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "greenicorn.Slot",
    .tp_basicsize = sizeof(struct slot),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = slot_dealloc,
    .tp_methods = slot_methods,
};

/* slot(): this thread's; None on an OS thread. */
static PyObject *
interrupt_slot(PyObject *module, PyObject *unused)
{
	(void)module;
	(void)unused;
	if (green_self() == NULL || !thread_is_ours())
		Py_RETURN_NONE;
	if (mine == NULL) {
		mine = PyObject_New(struct slot, &slot_type);
		if (mine == NULL)
			return NULL;
		mine->green = green_self();
		TAILQ_INIT(&mine->armed);
		mine->held = 0;
		mine->job = mine->thrown = NULL;
	}
	return Py_NewRef((PyObject *)mine);
}

PyMethodDef interrupt_functions[] = {
    {"slot", interrupt_slot, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

void
interrupt_forget(void)
{
	struct arm *a;

	if (mine == NULL)
		return;
	while ((a = TAILQ_FIRST(&mine->armed)) != NULL)
		arm_free(a);
	mine->held = 0;
	mine->job = NULL;
	Py_CLEAR(mine->thrown);
	slot_update(mine);
}

void
interrupt_thread_end(void)
{
	interrupt_forget();
	if (mine != NULL)
		mine->green = NULL;
	Py_CLEAR(mine);
}

/* ---- where it is raised ---- */

bool
interrupt_possible(void)
{
	return mine != NULL;
}

static newfunc oserror_new;

/*
 * A call of libc has failed and an OSError is being made of it: with ECANCELED, which of all
 * calls only interrupted ones give, what interrupted it is raised instead. Subclasses inherit this
 * function.
 */
static PyObject *
oserror_new_or_raise(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	PyObject *number;

	if (mine != NULL && (PyObject *)type == PyExc_OSError && PyTuple_GET_SIZE(args) >= 2) {
		number = PyTuple_GET_ITEM(args, 0);
		if (PyLong_Check(number) && PyLong_AsLong(number) == ECANCELED && interrupt_raise())
			return NULL;
		PyErr_Clear(); /* a number that is no long */
	}
	return oserror_new(type, args, kwargs);
}

/*
 * In type and in those that have inherited it: OSError.__new__ refuses to make an object of a
 * type with another tp_new than its own.
 */
static int
new_replace(PyTypeObject *type)
{
	PyObject *list = PyObject_CallMethod((PyObject *)&PyType_Type, "__subclasses__", "O", type);
	int rc = list == NULL ? -1 : 0;

	if (type->tp_new == oserror_new)
		type->tp_new = oserror_new_or_raise;
	for (Py_ssize_t i = 0; rc == 0 && i < PyList_GET_SIZE(list); i++)
		rc = new_replace((PyTypeObject *)PyList_GET_ITEM(list, i));
	Py_XDECREF(list);
	return rc;
}

int
interrupt_watch(void)
{
	PyTypeObject *type = (PyTypeObject *)PyExc_OSError;

	if (PyType_Ready(&slot_type) == -1)
		return -1;
	oserror_new = type->tp_new;
	return new_replace(type);
}
