/* Python exceptions in the error log. Called attached; exceptions while at it are swallowed. */
#ifndef PYTHON_ERRORS_H
#define PYTHON_ERRORS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* The current exception, normalised, with its traceback; clears it. A new reference. */
PyObject *error_take(void);

/* "what", and the traceback below it, in one write. */
void error_log(const char *what, PyObject *exception);

/* The same for the current exception, which is cleared. */
void error_log_current(const char *what);

/* str(exception) as one line at ERROR. */
void error_log_message(PyObject *exception);

#endif
