/* wsgi.errors: text into the error log as it comes. */
#ifndef PYTHON_ERROR_STREAM_H
#define PYTHON_ERROR_STREAM_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* One serves all requests. A new reference, or NULL with an exception. */
PyObject *error_stream_new(void);

#endif
