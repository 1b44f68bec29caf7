/*
 * What environ has of the request's connection: gunicorn.socket (its Python half is
 * connection.py) and wsgi.early_hints. The objects are made once and lent to one request
 * after another until one of them is used or kept.
 */
#ifndef PYTHON_CONNECTION_H
#define PYTHON_CONNECTION_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

struct app_exchange;

struct connection {
	PyObject_HEAD struct app_exchange *x; /* borrowed; NULL after the request */
	PyObject *input, *start_response;     /* borrowed; as long as x */
	PyObject *socket, *hints;             /* owned; both own us: NULL ends the cycle */
	struct connection *next;              /* that waits for a request */
	bool given;                           /* the socket has a descriptor */
	bool kept;                            /* the application has another one of it */
};

/* Prepare the types. 0 or -1 with an exception. */
int connection_type_ready(void);

/* For a request; NULL with an exception. */
struct connection *connection_begin(
    struct app_exchange *, PyObject *input, PyObject *start_response);

/* The request is over, environ gone or the application's to keep. Swallows exceptions. */
void connection_end(struct connection *);

/*
 * The current exception is a StopIteration from an application that has seen the socket: how
 * gunicorn is told that there is no response to be sent. If so it is cleared, and none is.
 */
bool connection_given_up(struct connection *);

#endif
