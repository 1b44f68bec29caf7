/* start_response and write(): see start_response.h. */
#include "worker/python/start_response.h"

#include <errno.h>
#include <stddef.h>

#include <structmember.h>

#include "common/log.h"
#include "worker/python/gate.h"

struct start_response {
	PyObject_HEAD vectorcallfunc call;
	struct http_response *response; /* borrowed; NULL after the request */
	struct gate gate;
};

/* What start_response returns: callable, bytes only. */
struct write {
	PyObject_HEAD vectorcallfunc call;
	PyObject *start_response; /* owned */
};

static PyTypeObject start_response_type, write_type;

int
start_response_text(PyObject *value, const char *what, struct http_str *s)
{
	if (!PyUnicode_Check(value)) {
		PyErr_Format(PyExc_TypeError, "%s must be str, not %.200s: %R", what,
		    Py_TYPE(value)->tp_name, value);
		return -1;
	}
#if PY_VERSION_HEX < 0x030c0000
	if (PyUnicode_READY(value) == -1)
		return -1;
#endif
	if (PyUnicode_KIND(value) != PyUnicode_1BYTE_KIND) {
		PyErr_Format(PyExc_ValueError, "%s has characters beyond latin-1: %R", what, value);
		return -1;
	}
	s->p = (const char *)PyUnicode_1BYTE_DATA(value);
	s->n = (size_t)PyUnicode_GET_LENGTH(value);
	return 0;
}

/* The exception for a refusal by http_response_*: EINVAL is the application's mistake. */
static void
refuse(const struct http_response *response, PyObject *value)
{
	if (errno == ENOMEM)
		PyErr_NoMemory();
	else if (errno == EALREADY)
		PyErr_SetString(PyExc_AssertionError, "Response headers already sent!");
	else
		PyErr_Format(PyExc_ValueError, "%s: %R",
		    response->error != NULL ? response->error : "refused", value);
}

static int
set_status(struct http_response *response, PyObject *status)
{
	struct http_str text;

	if (start_response_text(status, "status", &text) == -1)
		return -1;
	if (http_response_status(response, text.p, text.n) == 0)
		return 0;
	refuse(response, status);
	return -1;
}

/* Once for each name; there are seven, and no two are of the same length. */
static void
warn_left_out(struct http_str name)
{
	static unsigned warned;
	unsigned bit = 1U << (name.n < 32 ? name.n : 31);

	if (warned & bit)
		return;
	warned |= bit;
	log_warnx("the application's %.*s fields are left out of responses: connections are the "
		  "server's (PEP 3333)",
	    (int)name.n, name.p);
}

static int
set_header(struct http_response *response, PyObject *header)
{
	PyObject *pair = header;
	struct http_str name, value;
	int result = -1;

	if (PyTuple_CheckExact(header))
		Py_INCREF(pair);
	else if ((pair = PySequence_Fast(header, "a header must be a (name, value) tuple")) == NULL)
		return -1;
	if (PySequence_Fast_GET_SIZE(pair) != 2) {
		PyErr_Format(
		    PyExc_ValueError, "a header must be a (name, value) tuple: %R", header);
		goto out;
	}
	if (start_response_text(PySequence_Fast_GET_ITEM(pair, 0), "header name", &name) == -1 ||
	    start_response_text(PySequence_Fast_GET_ITEM(pair, 1), "header value", &value) == -1)
		goto out;
	result = http_response_header(response, name.p, name.n, value.p, value.n);
	if (result == -1)
		refuse(response, header);
	else if (result == 1)
		warn_left_out(name);
out:
	Py_DECREF(pair);
	return result == -1 ? -1 : 0;
}

/* PEP 3333 asks for a list; gunicorn takes what can be iterated over, and so do we. */
static int
set_headers(struct http_response *response, PyObject *headers)
{
	PyObject *list = PySequence_Fast(headers, "headers must be a list of (name, value) tuples");
	Py_ssize_t i;
	int result = 0;

	if (list == NULL)
		return -1;
	for (i = 0; result == 0 && i < PySequence_Fast_GET_SIZE(list); i++) {
		PyObject *header = Py_NewRef(PySequence_Fast_GET_ITEM(list, i));

		result = set_header(response, header);
		Py_DECREF(header);
	}
	Py_DECREF(list);
	return result;
}

/* raise exc_info[1].with_traceback(exc_info[2]) */
static void
reraise(PyObject *exc_info)
{
	PyObject *value, *trace;

	if (!PyTuple_Check(exc_info) || PyTuple_GET_SIZE(exc_info) != 3 ||
	    !PyExceptionInstance_Check(PyTuple_GET_ITEM(exc_info, 1))) {
		PyErr_SetString(PyExc_TypeError, "exc_info must be what sys.exc_info() returns");
		return;
	}
	value = PyTuple_GET_ITEM(exc_info, 1);
	trace = PyTuple_GET_ITEM(exc_info, 2);
	if (trace != Py_None && PyException_SetTraceback(value, trace) == -1)
		return;
	PyErr_SetObject((PyObject *)Py_TYPE(value), value);
}

static PyObject *write_new(PyObject *start_response);

static PyObject *
start(struct start_response *self, PyObject *status, PyObject *headers, PyObject *exc_info)
{
	struct http_response *response = self->response;

	/* frameworks answer what was a WebSocket, too: nothing of that leaves */
	if (response->handed_over)
		return write_new((PyObject *)self);
	if (exc_info != NULL && exc_info != Py_None) {
		if (response->head_sent) {
			reraise(exc_info);
			return NULL;
		}
	} else if (response->status != 0) {
		PyErr_SetString(PyExc_AssertionError, "Response headers already set!");
		return NULL;
	}
	if (set_status(response, status) == -1 || set_headers(response, headers) == -1)
		return NULL;
	return write_new((PyObject *)self);
}

/* Sort positional and named arguments into args[3]. 0, or -1 with TypeError. */
static int
sort_arguments(PyObject *const *given, Py_ssize_t n, PyObject *names, PyObject **args)
{
	static const char *const known[3] = {"status", "headers", "exc_info"};
	Py_ssize_t i, named = names != NULL ? PyTuple_GET_SIZE(names) : 0;
	int at;

	for (i = 0; i < n && i < 3; i++)
		args[i] = given[i];
	for (i = 0; n <= 3 && i < named; i++) {
		for (at = 0; at < 3; at++)
			if (PyUnicode_CompareWithASCIIString(
				PyTuple_GET_ITEM(names, i), known[at]) == 0)
				break;
		if (at == 3 || args[at] != NULL)
			break;
		args[at] = given[n + i];
	}
	if (n <= 3 && i == named && args[0] != NULL && args[1] != NULL)
		return 0;
	PyErr_SetString(PyExc_TypeError,
	    "start_response() takes (status, headers, exc_info=None) and nothing else");
	return -1;
}

static PyObject *
start_response_call(PyObject *callable, PyObject *const *given, size_t nargsf, PyObject *names)
{
	struct start_response *self = (struct start_response *)callable;
	PyObject *args[3] = {NULL, NULL, NULL}, *result;

	if (sort_arguments(given, PyVectorcall_NARGS(nargsf), names, args) == -1)
		return NULL;
	if (gate_enter(&self->gate, "start_response") == -1)
		return NULL;
	result = start(self, args[0], args[1], args[2]);
	gate_leave(&self->gate);
	return result;
}

/* Send without the GIL. 0, or -1 with OSError: the client is gone. */
static int
send_bytes(struct http_response *response, PyObject *data)
{
	PyThreadState *state;
	int result, error;

	state = PyEval_SaveThread();
	result = http_response_write(response, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data));
	error = errno;
	PyEval_RestoreThread(state);
	errno = error;
	if (result == -1)
		PyErr_SetFromErrno(PyExc_OSError);
	return result;
}

static PyObject *
write_call(PyObject *callable, PyObject *const *args, size_t nargsf, PyObject *names)
{
	struct start_response *start_response;
	int result;

	if (PyVectorcall_NARGS(nargsf) != 1 || (names != NULL && PyTuple_GET_SIZE(names) > 0)) {
		PyErr_SetString(PyExc_TypeError, "write() takes one bytes argument");
		return NULL;
	}
	if (!PyBytes_Check(args[0])) {
		PyErr_Format(
		    PyExc_TypeError, "write() takes bytes, not %.200s", Py_TYPE(args[0])->tp_name);
		return NULL;
	}
	start_response = (struct start_response *)((struct write *)callable)->start_response;
	if (gate_enter(&start_response->gate, "write()") == -1)
		return NULL;
	result = send_bytes(start_response->response, args[0]);
	gate_leave(&start_response->gate);
	if (result == -1)
		return NULL;
	Py_RETURN_NONE;
}

static void
write_free(PyObject *self)
{
	Py_DECREF(((struct write *)self)->start_response);
	PyObject_Free(self);
}

static PyTypeObject write_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "greenicorn.write",
    .tp_doc = "write(data): send some of the body at once.",
    .tp_basicsize = sizeof(struct write),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(struct write, call),
    .tp_call = PyVectorcall_Call,
    .tp_dealloc = write_free,
};

static PyObject *
write_new(PyObject *start_response)
{
	struct write *write = PyObject_New(struct write, &write_type);

	if (write == NULL)
		return NULL;
	write->call = write_call;
	write->start_response = Py_NewRef(start_response);
	return (PyObject *)write;
}

static PyTypeObject start_response_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "greenicorn.start_response",
    .tp_doc = "start_response(status, headers, exc_info=None): begin the response.",
    .tp_basicsize = sizeof(struct start_response),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(struct start_response, call),
    .tp_call = PyVectorcall_Call,
};

int
start_response_type_ready(void)
{
	return PyType_Ready(&start_response_type) == 0 ? PyType_Ready(&write_type) : -1;
}

PyObject *
start_response_new(struct http_response *response)
{
	struct start_response *self = PyObject_New(struct start_response, &start_response_type);

	if (self == NULL)
		return NULL;
	self->call = start_response_call;
	self->response = response;
	self->gate = (struct gate){.open = true};
	return (PyObject *)self;
}

struct gate *
start_response_gate(PyObject *self)
{
	return &((struct start_response *)self)->gate;
}

void
start_response_take(PyObject *self)
{
	struct gate *gate = &((struct start_response *)self)->gate;

	gate_wait(gate);
	gate->busy = true;
}

void
start_response_give(PyObject *self)
{
	gate_leave(&((struct start_response *)self)->gate);
}

void
start_response_detach(PyObject *self)
{
	gate_close(&((struct start_response *)self)->gate);
	((struct start_response *)self)->response = NULL;
}
