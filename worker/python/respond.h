/* From what the application returned to bytes on the connection. */
#ifndef PYTHON_RESPOND_H
#define PYTHON_RESPOND_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "worker/http/response.h"

/* Prepare what is shared. 0 or -1 with an exception. */
int respond_init(void);

/*
 * Send the whole response that result, the application's iterable, gives.
 * 0: done, or the client is gone; -1 with the application's exception.
 */
int respond(struct http_response *, PyObject *start_response, PyObject *result);

/* Call result.close() if there is one: always, and after everything else. 0 or -1 with an
 * exception. */
int respond_close(PyObject *result);

#endif
