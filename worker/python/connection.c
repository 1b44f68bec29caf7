/* gunicorn.socket and wsgi.early_hints: see connection.h. */
#include "worker/python/connection.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include <structmember.h>

#include "worker/app/app.h"
#include "worker/http/chars.h"
#include "worker/http/handover.h"
#include "worker/python/errors.h"
#include "worker/python/gate.h"
#include "worker/python/input.h"
#include "worker/python/interpreter.h"
#include "worker/python/start_response.h"

#define IDLE_MAX 64

struct hints {
	PyObject_HEAD vectorcallfunc call;
	struct connection *connection; /* owned */
};

static PyTypeObject connection_type, hints_type;

static struct connection *idle; /* owned; protected by the GIL, as all here */
static size_t nidle;

/* ---- the socket's C half: what connection.py calls ---- */

/* The request's exchange, or NULL with the exception that a closed socket gives. */
static struct app_exchange *
exchange_of(struct connection *c)
{
	if (c->x != NULL && c->x->fd != -1)
		return c->x;
	errno = EBADF;
	PyErr_SetFromErrno(PyExc_OSError);
	return NULL;
}

/* look(): a descriptor of its own. */
static PyObject *
connection_look(PyObject *self, PyObject *unused)
{
	struct connection *c = (struct connection *)self;
	struct app_exchange *x = exchange_of(c);
	int fd;

	(void)unused;
	if (x == NULL)
		return NULL;
	fd = http_handover_look(x->fd);
	if (fd == -1)
		return PyErr_SetFromErrno(PyExc_OSError);
	c->given = true;
	return PyLong_FromLong(fd);
}

/* Nobody reads the body or writes the response meanwhile, in whatever thread. 0 or -1. */
static int
hand_over(struct connection *c, struct app_exchange *x, int fd)
{
	struct gate *in = input_gate(c->input), *out = start_response_gate(c->start_response);
	PyThreadState *state;
	int result, error;

	if (gate_enter(in, "wsgi.input") == -1)
		return -1;
	if (gate_enter(out, "the response") == -1) {
		gate_leave(in);
		return -1;
	}
	state = PyEval_SaveThread();
	result = http_handover(x->response, x->body->in, fd, &x->relay);
	error = errno;
	PyEval_RestoreThread(state);
	gate_leave(out);
	gate_leave(in);
	if (result == 0)
		return 0;
	errno = error;
	PyErr_SetFromErrno(PyExc_OSError);
	return -1;
}

/* take(fd): from here on that descriptor is the connection. */
static PyObject *
connection_take(PyObject *self, PyObject *number)
{
	struct connection *c = (struct connection *)self;
	struct app_exchange *x = exchange_of(c);
	int fd = (int)PyLong_AsLong(number);

	if (x == NULL || (fd == -1 && PyErr_Occurred()))
		return NULL;
	if (!x->response->handed_over && hand_over(c, x, fd) == -1)
		return NULL;
	Py_RETURN_NONE;
}

/* upgrade: whether the client has asked for another protocol. */
static PyObject *
connection_upgrade(PyObject *self, void *closure)
{
	struct app_exchange *x = exchange_of((struct connection *)self);

	(void)closure;
	if (x == NULL)
		return NULL;
	return PyBool_FromLong(
	    x->response->is_connect || http_request_header(x->request, "upgrade") != NULL);
}

static void
connection_free(PyObject *self)
{
	PyObject_Free(self);
}

static PyMethodDef connection_methods[] = {
    {"look", connection_look, METH_NOARGS, NULL},
    {"take", connection_take, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef connection_members[] = {
    {"kept", T_BOOL, offsetof(struct connection, kept), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef connection_attributes[] = {
    {"upgrade", connection_upgrade, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyTypeObject connection_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "greenicorn.exchange",
    .tp_basicsize = sizeof(struct connection),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_methods = connection_methods,
    .tp_members = connection_members,
    .tp_getset = connection_attributes,
    .tp_dealloc = connection_free,
};

/* ---- early hints ---- */

/* A str or bytes as bytes: a view. 0 or -1. */
static int
text_of(PyObject *value, struct http_str *s)
{
	if (PyBytes_Check(value)) {
		*s = (struct http_str){PyBytes_AS_STRING(value), (size_t)PyBytes_GET_SIZE(value)};
		return 0;
	}
	return start_response_text(value, "an early hint", s);
}

/* A (name, value) pair. 0 or -1. */
static int
hint_add(struct http_response *response, struct http_hints *hints, PyObject *item)
{
	PyObject *pair = PySequence_Tuple(item);
	struct http_str name, value;
	int result = -1;

	if (pair == NULL)
		return -1;
	if (PyTuple_GET_SIZE(pair) != 2)
		PyErr_SetString(PyExc_ValueError, "an early hint must be a (name, value) tuple");
	else if (text_of(PyTuple_GET_ITEM(pair, 0), &name) == 0 &&
		 text_of(PyTuple_GET_ITEM(pair, 1), &value) == 0) {
		result = http_hints_add(response, hints, name, value);
		if (result == -1 && errno == ENOMEM)
			PyErr_NoMemory();
		else if (result == -1) /* the value may be a secret: only the name is told */
			PyErr_Format(
			    PyExc_ValueError, "%s: %R", response->error, PyTuple_GET_ITEM(pair, 0));
	}
	Py_DECREF(pair);
	return result;
}

/* The client may be gone: the response will find that out, too. */
static void
hints_send(struct http_response *response, struct http_hints *text)
{
	PyThreadState *state = PyEval_SaveThread();

	(void)http_hints_send(response, text);
	PyEval_RestoreThread(state);
}

static int
hints_take(struct http_response *response, PyObject *list)
{
	PyObject *iterator = PyObject_GetIter(list), *item;
	struct http_hints text = {0};

	if (iterator == NULL)
		return -1;
	while ((item = PyIter_Next(iterator)) != NULL) {
		(void)hint_add(response, &text, item);
		Py_DECREF(item);
		if (PyErr_Occurred())
			break;
	}
	Py_DECREF(iterator);
	if (!PyErr_Occurred())
		hints_send(response, &text);
	free(text.text);
	return PyErr_Occurred() ? -1 : 0;
}

/* After the response has begun, and after the request, they come too late: gunicorn ignores that.
 */
static PyObject *
hints_call(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *names)
{
	struct connection *c = ((struct hints *)self)->connection;
	struct gate *gate;
	int result;

	if (PyVectorcall_NARGS(nargsf) != 1 || (names != NULL && PyTuple_GET_SIZE(names) > 0)) {
		PyErr_SetString(
		    PyExc_TypeError, "wsgi.early_hints takes a list of (name, value) tuples");
		return NULL;
	}
	if (c->x == NULL)
		Py_RETURN_NONE;
	gate = start_response_gate(c->start_response);
	if (gate_enter(gate, "the response") == -1)
		return NULL;
	result = hints_take(c->x->response, args[0]);
	gate_leave(gate);
	if (result == -1)
		return NULL;
	Py_RETURN_NONE;
}

static void
hints_free(PyObject *self)
{
	Py_DECREF(((struct hints *)self)->connection);
	PyObject_Free(self);
}

static PyTypeObject hints_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "greenicorn.early_hints",
    .tp_doc =
	"early_hints(headers): send a 103 Early Hints response (RFC 8297) before the response.",
    .tp_basicsize = sizeof(struct hints),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(struct hints, call),
    .tp_call = PyVectorcall_Call,
    .tp_dealloc = hints_free,
};

static PyObject *
hints_new(struct connection *c)
{
	struct hints *hints = PyObject_New(struct hints, &hints_type);

	if (hints == NULL)
		return NULL;
	hints->call = hints_call;
	hints->connection = (struct connection *)Py_NewRef(c);
	return (PyObject *)hints;
}

/* ---- lending them ---- */

int
connection_type_ready(void)
{
	return PyType_Ready(&connection_type) == 0 ? PyType_Ready(&hints_type) : -1;
}

static void
connection_drop(struct connection *c)
{
	Py_CLEAR(c->socket);
	Py_CLEAR(c->hints);
	Py_DECREF(c);
}

static struct connection *
connection_new(void)
{
	struct connection *c = PyObject_New(struct connection, &connection_type);
	PyObject *self = (PyObject *)c;

	if (c == NULL)
		return NULL;
	c->x = NULL;
	c->given = c->kept = false;
	c->hints = NULL;
	c->socket = interpreter_call("make_connection", &self, 1);
	if (c->socket != NULL)
		c->hints = hints_new(c);
	if (c->hints != NULL)
		return c;
	connection_drop(c);
	return NULL;
}

struct connection *
connection_begin(struct app_exchange *x, PyObject *input, PyObject *start_response)
{
	struct connection *c = idle;

	if (c != NULL) {
		idle = c->next;
		nidle--;
	} else if ((c = connection_new()) == NULL) {
		return NULL;
	}
	c->x = x;
	c->input = input;
	c->start_response = start_response;
	return c;
}

static void
socket_end(PyObject *socket)
{
	PyObject *args[] = {socket, Py_REFCNT(socket) > 1 ? Py_True : Py_False};
	PyObject *result = interpreter_call("end_connection", args, 2);

	if (result == NULL)
		error_log_current("Error closing a connection");
	Py_XDECREF(result);
}

void
connection_end(struct connection *c)
{
	if (c->given)
		socket_end(c->socket);
	c->x = NULL;
	if (!c->given && Py_REFCNT(c->socket) == 1 && Py_REFCNT(c->hints) == 1 &&
	    nidle < IDLE_MAX) {
		c->next = idle;
		idle = c;
		nidle++;
		return;
	}
	connection_drop(c);
}

bool
connection_given_up(struct connection *c)
{
	if (!c->given || !PyErr_ExceptionMatches(PyExc_StopIteration))
		return false;
	PyErr_Clear();
	http_response_hand_over(c->x->response);
	return true;
}
