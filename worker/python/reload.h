/*
 * gunicorn's --reload and --spew: what is watched is told by reload.py, which has a thread of its
 * own for it; an application that cannot be loaded is replaced by a page that says why. Attached.
 */
#ifndef PYTHON_RELOAD_H
#define PYTHON_RELOAD_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

struct app_config;

/* Before the application is loaded. 0, or -1 with an exception. */
int reload_open(const struct app_config *);

/* Begin to watch, once it is loaded or is not. 0, or -1 with an exception. */
int reload_watch(void);

/* The page for an application that could not be loaded: a new reference; NULL: there is none. */
PyObject *reload_page(PyObject *exception);

#endif
