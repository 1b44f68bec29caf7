/*
 * The logs and Python's logging (logs.py): loggers that write to ours, and our lines through those
 * loggers where logconfig or the application wants that. Attached, unless said otherwise.
 */
#ifndef PYTHON_LOGS_H
#define PYTHON_LOGS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

struct app_config;

/* Before the application is loaded. 0, or -1 after logging what is wrong. */
int logs_open(const struct app_config *);

/* In a worker, once it is loaded: from here on our lines go where it has them go. 0, or -1
 * likewise. */
int logs_begin(const struct app_config *);

/* The last lines; from here on they are written by us again. */
void logs_end(void);

/* An exception, for handlers that look at it; false: log it in some other way. */
bool logs_exception(const char *what, PyObject *exception);

/* SIGUSR1: the files of Python's handlers. */
void logs_reopen(void);

#endif
