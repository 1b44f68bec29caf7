/* The request of each thread: see serving.h. */
#include "worker/python/serving.h"

#include <stdio.h>

#include "worker/app/app.h"
#include "worker/python/thread.h"

/* A thread's name is for a column of a log. */
#define NAME_MAX_BYTES 80

/* The capsule's name; another one says that the thread is over, and its variable with it. */
#define SLOT      "greenicorn.slot"
#define SLOT_OVER "greenicorn.over"

/* Read by other threads, too, with the GIL; so it changes with the GIL only. */
static __thread struct app_exchange *serving;
static __thread PyObject *slot; /* owned: a capsule with &serving; NULL until somebody asks */

void
serving_begin(struct app_exchange *x)
{
	serving = x;
}

void
serving_end(void)
{
	serving = NULL;
}

void
serving_forget(void)
{
	if (slot != NULL && PyCapsule_SetName(slot, SLOT_OVER) == -1)
		PyErr_Clear();
	Py_CLEAR(slot);
}

void
serving_disconnect(void)
{
	if (serving == NULL)
		return;
	serving->fd = -1;
	serving->response->fd = -1;
	serving->body->in->fd = -1;
}

/* serving_slot(): what tells of this thread's request, from any thread; None on foreign ones. */
static PyObject *
serving_slot(PyObject *module, PyObject *unused)
{
	(void)module;
	(void)unused;
	if (!thread_is_ours())
		Py_RETURN_NONE;
	if (slot == NULL && (slot = PyCapsule_New(&serving, SLOT, NULL)) == NULL)
		return NULL;
	return Py_NewRef(slot);
}

/*
 * The method and the path, as they came, that is, without control characters; not the query,
 * which may hold secrets. What is not printable ASCII cannot be in there, and shall not
 * depend on it.
 */
static PyObject *
request_name(const struct http_request *q)
{
	const struct http_str *path = q->path.n > 0 ? &q->path : &q->target;
	char text[NAME_MAX_BYTES + 1];
	int n;

	n = snprintf(
	    text, sizeof(text), "%.*s %.*s", (int)q->method.n, q->method.p, (int)path->n, path->p);
	if (n > NAME_MAX_BYTES) {
		n = NAME_MAX_BYTES;
		snprintf(text + NAME_MAX_BYTES - 3, 4, "...");
	}
	for (int i = 0; i < n; i++)
		if (text[i] < ' ' || text[i] > '~')
			text[i] = '?';
	return PyUnicode_FromStringAndSize(text, n);
}

/* serving_request(slot): when its thread's request began, and that one's name; None without one. */
static PyObject *
serving_request(PyObject *module, PyObject *capsule)
{
	struct app_exchange **of, *x;

	(void)module;
	if (!PyCapsule_IsValid(capsule, SLOT))
		Py_RETURN_NONE;
	of = PyCapsule_GetPointer(capsule, SLOT);
	if (of == NULL || (x = *of) == NULL)
		Py_RETURN_NONE;
	return Py_BuildValue("LN", (long long)x->started, request_name(x->request));
}

PyMethodDef serving_functions[] = {
    {"serving_slot", serving_slot, METH_NOARGS, NULL},
    {"serving_request", serving_request, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
