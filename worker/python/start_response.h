/* start_response and the write() that it returns (PEP 3333, "The start_response() Callable"). */
#ifndef PYTHON_START_RESPONSE_H
#define PYTHON_START_RESPONSE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "worker/http/response.h"

/* Prepare the types. 0 or -1 with an exception. */
int start_response_type_ready(void);

/* A new reference, or NULL with an exception. */
PyObject *start_response_new(struct http_response *);

/*
 * The server's own use of the response while the application may use it too:
 * waits until nobody else does. Each take is followed by a give.
 */
void start_response_take(PyObject *);
void start_response_give(PyObject *);

/* The request is over: later calls raise ValueError. */
void start_response_detach(PyObject *);

#endif
