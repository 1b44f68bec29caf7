/* wsgi.input (PEP 3333, "Input and Error Streams"): a request's body as a file that is read. */
#ifndef PYTHON_INPUT_H
#define PYTHON_INPUT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

struct gate;
struct http_body;

/* Prepare the type. 0 or -1 with an exception. */
int input_type_ready(void);

/* A new reference, or NULL with an exception. */
PyObject *input_new(struct http_body *, int fd);

/* For who must keep others from reading meanwhile: see gate.h. */
struct gate *input_gate(PyObject *);

/* Whether a read has failed: the client is gone, too slow, or its framing broken. */
bool input_failed(PyObject *);

/* The request is over: end what still reads in another thread; later calls raise ValueError. */
void input_detach(PyObject *);

#endif
