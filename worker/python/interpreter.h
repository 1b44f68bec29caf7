/*
 * The embedded interpreter: as /usr/bin/python3 would start it (environment,
 * site, encodings), with the functions of boot.py as its servants.
 */
#ifndef PYTHON_INTERPRETER_H
#define PYTHON_INTERPRETER_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

#ifdef Py_GIL_DISABLED
#error "greenicorn needs a Python with the GIL: it orders what green and native threads do"
#endif

struct app_config;

/*
 * Initialise Python on this thread, which is its main thread from here on, and set
 * sys.path and the virtual environment. 0, attached; or -1 after logging why.
 */
int interpreter_start(const struct app_config *);

/*
 * Run the application's exit handlers and flush; before that, wait for its threads
 * as Python's own end does, unless it never got to run. Attached, and stays so.
 */
void interpreter_stop(bool join);

/* Flush sys.stdout and sys.stderr. Swallows exceptions. */
void interpreter_flush(void);

/*
 * Signals for which the application has set a handler (signal.signal): the descriptor is
 * readable when some came; interpreter_signals, attached on the main thread, runs the
 * handlers and logs what they raise.
 */
int interpreter_signal_fd(void);
void interpreter_signals(void);

/* Make it readable. */
void interpreter_nudge(void);

/*
 * gevent and eventlet: hubs.py. Whether there can be hubs, attached or not. All else attached:
 * on the main thread, run its hub until the descriptor above is readable (false: it has none);
 * on another one, run what has been left in its hubs and end them, at the end of each job.
 */
bool interpreter_has_hubs(void);
bool interpreter_wait_in_hub(void);
void interpreter_finish_hubs(void);

/* A module from its source, with more functions (or NULL) beside ours. New reference, or NULL. */
PyObject *interpreter_import(
    const char *name, const char *file, const char *source, PyMethodDef *more);

/* Call a function of boot.py. A new reference, or NULL with an exception. */
PyObject *interpreter_call(const char *function, PyObject *const *args, size_t nargs);

/* Whether the exception is the class of that name in boot.py. */
int interpreter_is(PyObject *exception, const char *class_name);

/* This thread has a new state: let the threading module treat it as new. Swallows exceptions. */
void interpreter_begin_thread(void);

/* This thread is about to end: let the threading module forget it. Swallows exceptions. */
void interpreter_forget_thread(void);

/*
 * Attached. Preloading: before the first fork, put all objects out of the garbage collector's
 * sight, so that it leaves their pages shared; and say which threads the children will not have.
 */
void interpreter_freeze(void);
void interpreter_warn_threads(size_t tasks, bool preloaded);

/* In a forked child, on its main thread: what interpreter_start did that a child must do again. */
int interpreter_adopt(const struct app_config *);

#endif
