/*
 * gunicorn's server hooks: functions of the application that the settings name. hooks.py finds
 * and calls them; with none set it is not even there. All attached, unless it says otherwise.
 */
#ifndef PYTHON_HOOKS_H
#define PYTHON_HOOKS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

#include "worker/app/app.h"

/* All settings: a new dictionary, or NULL. */
PyObject *hooks_settings(const struct settings *);

/* Find the functions. 0, or an enum worker_exit after logging which setting is wrong. */
int hooks_open(const struct app_config *);

/*
 * In a worker: post_fork, before the application is loaded, and post_worker_init after it. 0, or
 * -1 with an exception: the worker must not start. worker_exit, once, if it has begun.
 */
int hooks_began(const struct app_config *);
int hooks_loaded(PyObject *application);
void hooks_ended(void);

/*
 * In the mold: what the master says (contract.h), 0, or -1 after logging: it is on_starting that
 * failed. Around a fork of a worker of that age: with its pid, or -1.
 */
int hooks_heed(const char *words);
void hooks_forking(unsigned age);
void hooks_forked(pid_t);

/* Whether one of them is set; attached or not. */
bool hooks_have(enum app_hook);

/*
 * Call one, and log what it raises. The thread is attached by these; for APP_HOOK_ABORT, when
 * the worker is stuck, any thread may call: another one calls the hook, and gets a moment for it.
 */
void hooks_run(enum app_hook);

/*
 * Around a request, only where hooks_around_requests() says so: a new reference to the request as
 * the hooks see it, NULL when memory is gone; *failed: an exception is set, the request's answer.
 */
bool hooks_around_requests(void);
PyObject *hooks_before(const struct app_exchange *, PyObject *input, bool *failed);
void hooks_after(const struct app_exchange *, PyObject *request, PyObject *env);

#endif
