/* The application's URI: module:callable, module:factory("a", k=1), module. */
#ifndef PYTHON_LOAD_H
#define PYTHON_LOAD_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Attached. 0 and a new reference, or WORKER_EXIT_BOOT or _APP after logging why. */
int load_application(const char *uri, PyObject **callable);

/* Attached, with an exception that says why the worker cannot start: WORKER_EXIT_BOOT or _APP. */
int load_failed(void);

#endif
