/* wsgi.input: see input.h. Every read gives up the GIL: the body may have to be waited for. */
#include "worker/python/input.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "worker/http/body.h"
#include "worker/python/gate.h"

/* Room for a read without a known end grows from here, doubling: a client must send
 * what it makes us allocate. */
#define FIRST_ROOM (64 * 1024)

struct input {
	PyObject_HEAD struct http_body *body; /* borrowed; NULL after the request */
	struct gate gate;
	int fd; /* borrowed */
	bool failed;
	bool closed; /* by the application */
};

static PyTypeObject input_type;

static int
input_enter(struct input *in)
{
	if (in->closed) {
		PyErr_SetString(PyExc_ValueError, "I/O operation on closed file");
		return -1;
	}
	return gate_enter(&in->gate, "wsgi.input");
}

/* OSError for what http_body told by errno: the client's doing, in words. */
static void
input_fail(struct input *in, int error)
{
	const char *text = NULL;
	PyObject *exception;

	in->failed = true;
	if (error == ETIMEDOUT)
		text = "the client took too long to send the request body";
	else if (error == EPROTO && in->body->in->eof)
		text = "the client closed the connection before the end of the request body";
	else if (error == EPROTO)
		text = "the request body is not framed as HTTP/1.1 demands";
	else if (error == EPIPE || error == ECONNRESET)
		text = "the client is gone";
	errno = error;
	if (text == NULL) {
		PyErr_SetFromErrno(PyExc_OSError);
		return;
	}
	/* Calling OSError picks ConnectionResetError, TimeoutError, … by number. */
	exception = PyObject_CallFunction(PyExc_OSError, "is", error, text);
	if (exception != NULL)
		PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
	Py_XDECREF(exception);
}

static Py_ssize_t
body_read(struct input *in, char *p, size_t n)
{
	PyThreadState *state;
	ssize_t got;
	int error;

	state = PyEval_SaveThread();
	got = http_body_read(in->body, p, n);
	error = errno;
	PyEval_RestoreThread(state);
	if (got == -1)
		input_fail(in, error);
	return got;
}

static Py_ssize_t
body_peek(struct input *in, const char **p)
{
	PyThreadState *state;
	ssize_t got;
	int error;

	state = PyEval_SaveThread();
	got = http_body_peek(in->body, p);
	error = errno;
	PyEval_RestoreThread(state);
	if (got == -1)
		input_fail(in, error);
	return got;
}

/* How much to allocate at first for a read of up to n bytes. */
static size_t
first_room(const struct input *in, size_t n)
{
	size_t room = FIRST_ROOM;

	if (!in->body->chunked && !in->body->done && (uint64_t)in->body->left < (uint64_t)n)
		n = in->body->left; /* exact, when it is no more than that */
	return n < room ? n : room;
}

/* Up to n bytes; fewer only at the end of the body. */
static PyObject *
read_bytes(struct input *in, size_t n)
{
	size_t room = first_room(in, n), have = 0;
	PyObject *bytes = PyBytes_FromStringAndSize(NULL, room);
	Py_ssize_t got;

	while (bytes != NULL) {
		if (have == room) {
			if (have == n || in->body->done)
				break;
			room = n - have < room ? n : room * 2;
			if (_PyBytes_Resize(&bytes, room) == -1)
				return NULL;
		}
		got = body_read(in, PyBytes_AS_STRING(bytes) + have, room - have);
		if (got == -1)
			Py_CLEAR(bytes);
		if (got <= 0)
			break;
		have += got;
	}
	if (bytes != NULL && have != room)
		_PyBytes_Resize(&bytes, have); /* NULL with an exception when it fails */
	return bytes;
}

/* Up to and with the next newline, but no more than limit bytes; empty at the end. */
static PyObject *
read_line(struct input *in, size_t limit)
{
	PyObject *line = NULL;
	size_t have = 0, take = 0;
	const char *p, *newline = NULL;
	Py_ssize_t got = 0;

	while (newline == NULL && have < limit && (got = body_peek(in, &p)) > 0) {
		take = (size_t)got < limit - have ? (size_t)got : limit - have;
		if ((newline = memchr(p, '\n', take)) != NULL)
			take = newline - p + 1;
		if (line == NULL)
			line = PyBytes_FromStringAndSize(NULL, take);
		else
			_PyBytes_Resize(&line, have + take);
		if (line == NULL)
			return NULL;
		memcpy(PyBytes_AS_STRING(line) + have, p, take);
		http_body_skip(in->body, take);
		have += take;
	}
	if (got == -1) {
		Py_XDECREF(line);
		return NULL;
	}
	return line != NULL ? line : PyBytes_FromStringAndSize(NULL, 0);
}

/* The size argument of file methods: absent, None or negative is "all". 0 or -1. */
static int
size_argument(const char *method, PyObject *const *args, Py_ssize_t nargs, size_t *n)
{
	Py_ssize_t value;

	*n = PY_SSIZE_T_MAX;
	if (nargs > 1) {
		PyErr_Format(
		    PyExc_TypeError, "%s() takes at most 1 argument (%zd given)", method, nargs);
		return -1;
	}
	if (nargs == 0 || args[0] == Py_None)
		return 0;
	value = PyNumber_AsSsize_t(args[0], PyExc_OverflowError);
	if (value == -1 && PyErr_Occurred())
		return -1;
	if (value >= 0)
		*n = value;
	return 0;
}

static PyObject *
input_read(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
	struct input *in = (struct input *)self;
	PyObject *bytes;
	size_t n;

	if (size_argument("read", args, nargs, &n) == -1 || input_enter(in) == -1)
		return NULL;
	bytes = read_bytes(in, n);
	gate_leave(&in->gate);
	return bytes;
}

/* What is there already, or one wait for more (io.BufferedIOBase.read1). */
static PyObject *
input_read1(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
	struct input *in = (struct input *)self;
	PyObject *bytes = NULL;
	Py_ssize_t got = 0;
	const char *p = NULL;
	size_t n;

	if (size_argument("read1", args, nargs, &n) == -1 || input_enter(in) == -1)
		return NULL;
	if (n > 0)
		got = body_peek(in, &p);
	if (got >= 0) {
		n = (size_t)got < n ? (size_t)got : n;
		bytes = PyBytes_FromStringAndSize(p, n);
		if (bytes != NULL && n > 0)
			http_body_skip(in->body, n);
	}
	gate_leave(&in->gate);
	return bytes;
}

static PyObject *
input_readinto(PyObject *self, PyObject *target)
{
	struct input *in = (struct input *)self;
	Py_buffer buffer;
	Py_ssize_t got = 0;

	if (PyObject_GetBuffer(target, &buffer, PyBUF_WRITABLE) == -1)
		return NULL;
	if (input_enter(in) == -1) {
		PyBuffer_Release(&buffer);
		return NULL;
	}
	if (buffer.len > 0)
		got = body_read(in, buffer.buf, buffer.len);
	gate_leave(&in->gate);
	PyBuffer_Release(&buffer);
	return got == -1 ? NULL : PyLong_FromSsize_t(got);
}

static PyObject *
input_readline(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
	struct input *in = (struct input *)self;
	PyObject *line;
	size_t limit;

	if (size_argument("readline", args, nargs, &limit) == -1 || input_enter(in) == -1)
		return NULL;
	line = read_line(in, limit);
	gate_leave(&in->gate);
	return line;
}

/* Lines until hint bytes are reached; a hint of 0 is none, as in io. */
static PyObject *
input_readlines(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
	struct input *in = (struct input *)self;
	PyObject *lines, *line;
	size_t hint, total = 0;

	if (size_argument("readlines", args, nargs, &hint) == -1 || input_enter(in) == -1)
		return NULL;
	if (hint == 0)
		hint = PY_SSIZE_T_MAX;
	lines = PyList_New(0);
	while (lines != NULL && total < hint) {
		line = read_line(in, PY_SSIZE_T_MAX);
		if (line == NULL ||
		    (PyBytes_GET_SIZE(line) > 0 && PyList_Append(lines, line) == -1))
			Py_CLEAR(lines);
		if (lines == NULL || PyBytes_GET_SIZE(line) == 0) {
			Py_XDECREF(line);
			break;
		}
		total += PyBytes_GET_SIZE(line);
		Py_DECREF(line);
	}
	gate_leave(&in->gate);
	return lines;
}

static PyObject *
input_next(PyObject *self)
{
	struct input *in = (struct input *)self;
	PyObject *line;

	if (input_enter(in) == -1)
		return NULL;
	line = read_line(in, PY_SSIZE_T_MAX);
	gate_leave(&in->gate);
	if (line != NULL && PyBytes_GET_SIZE(line) == 0)
		Py_CLEAR(line); /* StopIteration */
	return line;
}

/* For the application it is closed; the server still reads the rest or hangs up. */
static PyObject *
input_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
	((struct input *)self)->closed = true;
	Py_RETURN_NONE;
}

static PyObject *
input_flush(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
	Py_RETURN_NONE;
}

static PyObject *
input_true(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
	Py_RETURN_TRUE;
}

static PyObject *
input_false(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
	Py_RETURN_FALSE;
}

static PyObject *
input_get_closed(PyObject *self, void *Py_UNUSED(closure))
{
	struct input *in = (struct input *)self;

	return PyBool_FromLong(in->closed || !in->gate.open);
}

#define FASTCALL(f) ((PyCFunction)(void (*)(void))(f))

static PyMethodDef input_methods[] = {
    {"read", FASTCALL(input_read), METH_FASTCALL, NULL},
    {"read1", FASTCALL(input_read1), METH_FASTCALL, NULL},
    {"readinto", input_readinto, METH_O, NULL},
    {"readline", FASTCALL(input_readline), METH_FASTCALL, NULL},
    {"readlines", FASTCALL(input_readlines), METH_FASTCALL, NULL},
    {"close", input_close, METH_NOARGS, NULL},
    {"flush", input_flush, METH_NOARGS, NULL}, /* for io.TextIOWrapper around it */
    {"readable", input_true, METH_NOARGS, NULL},
    {"writable", input_false, METH_NOARGS, NULL},
    {"seekable", input_false, METH_NOARGS, NULL},
    {"isatty", input_false, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef input_getset[] = {
    {"closed", input_get_closed, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyTypeObject input_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "greenicorn.Input",
    .tp_doc = "A request's body: wsgi.input.",
    .tp_basicsize = sizeof(struct input),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = input_next,
    .tp_methods = input_methods,
    .tp_getset = input_getset,
};

int
input_type_ready(void)
{
	return PyType_Ready(&input_type);
}

PyObject *
input_new(struct http_body *body, int fd)
{
	struct input *in = PyObject_New(struct input, &input_type);

	if (in == NULL)
		return NULL;
	in->body = body;
	in->gate = (struct gate){.open = true};
	in->fd = fd;
	in->failed = false;
	in->closed = false;
	return (PyObject *)in;
}

struct gate *
input_gate(PyObject *self)
{
	return &((struct input *)self)->gate;
}

bool
input_failed(PyObject *self)
{
	return ((struct input *)self)->failed;
}

/* A thread that still reads is woken by the end of file that shutdown makes. */
void
input_detach(PyObject *self)
{
	struct input *in = (struct input *)self;

	if (in->gate.busy)
		shutdown(in->fd, SHUT_RD);
	gate_close(&in->gate);
	in->body = NULL;
}
