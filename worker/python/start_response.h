/* start_response and the write() that it returns (PEP 3333, "The start_response() Callable"). */
#ifndef PYTHON_START_RESPONSE_H
#define PYTHON_START_RESPONSE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "worker/http/response.h"

struct gate;

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

/* For who must keep others from sending meanwhile: see gate.h. */
struct gate *start_response_gate(PyObject *);

/* A str whose characters are bytes, as PEP 3333 wants them: a view. 0, or -1 with an exception. */
int start_response_text(PyObject *, const char *what, struct http_str *);

/* The request is over: later calls raise ValueError. */
void start_response_detach(PyObject *);

#endif
