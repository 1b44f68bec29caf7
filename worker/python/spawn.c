/* Functions on green threads of their own: see spawn.h. */
#include "worker/python/spawn.h"

#include <stdlib.h>
#include <unistd.h>

#include "common/log.h"
#include "worker/green/green.h"
#include "worker/python/errors.h"
#include "worker/python/forked.h"
#include "worker/python/interpreter.h"
#include "worker/python/interrupt.h"
#include "worker/python/thread.h"

struct spawned {
	struct green_job job;
	PyObject *fn; /* owned */
};

/* The process that has the event loop; 0: there is none yet, we are the mold (preload_app). */
static pid_t home;

void
spawn_open(void)
{
	if (green_self() != NULL)
		home = getpid();
}

static void
spawned_run(void *arg)
{
	struct spawned *s = arg;
	PyObject *fn = s->fn, *result;

	free(s);
	if (thread_attach() == -1) {
		log_errorx("no memory for a thread state: a spawned function is lost");
		return;
	}
	result = PyObject_CallNoArgs(fn);
	Py_DECREF(fn);
	forked_check();
	if (result == NULL)
		error_log_current("A spawned function failed");
	Py_XDECREF(result);
	interrupt_forget();
	if (interpreter_has_hubs())
		interpreter_finish_hubs();
	thread_detach();
}

/* spawn_run(fn): call it on a green thread, soon. */
static PyObject *
spawn_run(PyObject *module, PyObject *fn)
{
	struct spawned *s = calloc(1, sizeof(*s));

	(void)module;
	if (s == NULL)
		return PyErr_NoMemory();
	s->fn = Py_NewRef(fn);
	s->job = (struct green_job){.fn = spawned_run, .arg = s};
	green_run(&s->job);
	Py_RETURN_NONE;
}

/* spawn_ready(): whether there is a loop; None while the application is being preloaded. */
static PyObject *
spawn_ready(PyObject *module, PyObject *unused)
{
	(void)module;
	(void)unused;
	if (home == 0)
		Py_RETURN_NONE;
	return PyBool_FromLong(home == getpid());
}

static PyObject *
spawn_stats(PyObject *module, PyObject *unused)
{
	struct green_stats s;

	(void)module;
	(void)unused;
	green_get_stats(&s);
	return Py_BuildValue("{s:n,s:n,s:n,s:K}", "threads", (Py_ssize_t)s.threads, "busy",
	    (Py_ssize_t)s.busy, "queued", (Py_ssize_t)s.queued, "switches",
	    (unsigned long long)s.switches);
}

/* spawn_log(what, exception) */
static PyObject *
spawn_log(PyObject *module, PyObject *args)
{
	const char *what;
	PyObject *exception;

	(void)module;
	if (!PyArg_ParseTuple(args, "sO", &what, &exception))
		return NULL;
	error_log(what, exception);
	Py_RETURN_NONE;
}

PyMethodDef spawn_functions[] = {
    {"spawn_run", spawn_run, METH_O, NULL},
    {"spawn_ready", spawn_ready, METH_NOARGS, NULL},
    {"spawn_stats", spawn_stats, METH_NOARGS, NULL},
    {"spawn_log", spawn_log, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
