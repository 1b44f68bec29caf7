/*
 * The server's half of PEP 3333, "Buffering and Streaming": each string leaves
 * before the next is asked for; the head leaves with the first that is not empty.
 */
#include "worker/python/respond.h"

#include <errno.h>
#include <string.h>

#include "common/log.h"
#include "worker/python/file_wrapper.h"
#include "worker/python/forked.h"
#include "worker/python/start_response.h"

static PyObject *name_close; /* owned, interned */

int
respond_init(void)
{
	name_close = PyUnicode_InternFromString("close");
	return name_close != NULL ? 0 : -1;
}

/* The client is gone: no error of the application's, and gunicorn says so at debug too. */
static void
client_gone(struct http_response *response, int error)
{
	response->keep_alive = false;
	if (error == EPIPE)
		log_debug("Ignoring EPIPE");
	else if (error == ECONNRESET)
		log_debug("Ignoring connection reset");
	else
		log_debug("Ignoring failed write: %s", strerror(error));
}

/* Something is to be sent: start_response must have been called. 0 or -1 with an exception. */
static int
check_started(const struct http_response *response)
{
	if (response->status != 0)
		return 0;
	PyErr_SetString(PyExc_AssertionError, "the application did not call start_response()");
	return -1;
}

static int
check_bytes(PyObject *data)
{
	if (PyBytes_Check(data))
		return 0;
	PyErr_Format(PyExc_TypeError, "the application's iterable must give bytes, not %.200s",
	    Py_TYPE(data)->tp_name);
	return -1;
}

/*
 * Send data (NULL: nothing), and the end if it is the last. Without the GIL, and
 * after other threads' write(). 0, or -1 when the client is gone.
 */
static int
send_part(struct http_response *response, PyObject *start_response, PyObject *data, bool last)
{
	PyThreadState *state;
	int result = 0, error;

	start_response_take(start_response);
	state = PyEval_SaveThread();
	if (data != NULL)
		result =
		    http_response_write(response, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data));
	if (result == 0 && last)
		result = http_response_finish(response);
	error = errno;
	if (result == -1)
		client_gone(response, error);
	PyEval_RestoreThread(state);
	start_response_give(start_response);
	return result;
}

/* A list or tuple of at most one string: the length is known before the head leaves. */
static int
respond_whole(struct http_response *response, PyObject *start_response, PyObject *data)
{
	if (check_started(response) == -1 || (data != NULL && check_bytes(data) == -1))
		return -1;
	if (!response->head_sent)
		http_response_length(response, data != NULL ? PyBytes_GET_SIZE(data) : 0);
	send_part(response, start_response, data, true);
	return 0;
}

static int
respond_each(struct http_response *response, PyObject *start_response, PyObject *result)
{
	PyObject *iterator = PyObject_GetIter(result), *data;
	int gone = 0;

	if (iterator == NULL)
		return -1;
	while (!gone && (data = PyIter_Next(iterator)) != NULL) {
		forked_check();
		if (response->handed_over)
			; /* the iterable itself may be what uses the socket */
		else if (check_bytes(data) == 0 && PyBytes_GET_SIZE(data) > 0 &&
			 check_started(response) == 0)
			gone = send_part(response, start_response, data, false);
		Py_DECREF(data);
		if (PyErr_Occurred())
			break;
	}
	Py_DECREF(iterator);
	forked_check();
	if (PyErr_Occurred())
		return -1;
	if (gone || response->handed_over)
		return 0;
	if (check_started(response) == -1)
		return -1;
	send_part(response, start_response, NULL, true);
	return 0;
}

/* A regular file: its length is known, and the kernel sends it. */
static int
respond_file(struct http_response *response, PyObject *start_response, const struct file_part *part)
{
	PyThreadState *state;
	int result, error;

	if (check_started(response) == -1)
		return -1;
	start_response_take(start_response);
	state = PyEval_SaveThread();
	if (!response->head_sent)
		http_response_length(response, part->count);
	result = http_response_sendfile(response, part->fd, part->offset, part->count);
	if (result == 0)
		result = http_response_finish(response);
	error = errno;
	if (result == -1)
		client_gone(response, error);
	PyEval_RestoreThread(state);
	start_response_give(start_response);
	return 0;
}

int
respond(struct http_response *response, PyObject *start_response, PyObject *result)
{
	PyObject *only;
	struct file_part part;
	int code;

	/* A generator may be in the middle of what it does with the socket. */
	if (response->handed_over && !PyIter_Check(result))
		return 0;
	if (PyList_CheckExact(result) || PyTuple_CheckExact(result)) {
		if (PySequence_Fast_GET_SIZE(result) > 1)
			return respond_each(response, start_response, result);
		only = PySequence_Fast_GET_SIZE(result) == 1 ? PySequence_Fast_GET_ITEM(result, 0)
							     : NULL;
		Py_XINCREF(only); /* the list is the application's: it may change */
		code = respond_whole(response, start_response, only);
		Py_XDECREF(only);
		return code;
	}
	if (PyObject_TypeCheck(result, &file_wrapper_type) && file_wrapper_part(result, &part))
		return respond_file(response, start_response, &part);
	if (PyBytes_Check(result) || PyUnicode_Check(result)) {
		PyErr_Format(PyExc_TypeError,
		    "the application must return an iterable of bytes, not %s itself",
		    Py_TYPE(result)->tp_name);
		return -1;
	}
	return respond_each(response, start_response, result);
}

int
respond_close(PyObject *result)
{
	PyObject *close, *closed;

	if (PyList_CheckExact(result) || PyTuple_CheckExact(result))
		return 0;
	close = PyObject_GetAttr(result, name_close);
	if (close == NULL) {
		if (!PyErr_ExceptionMatches(PyExc_AttributeError))
			return -1;
		PyErr_Clear();
		return 0;
	}
	closed = PyObject_CallNoArgs(close);
	Py_DECREF(close);
	Py_XDECREF(closed);
	return closed == NULL ? -1 : 0;
}
