/* A request's environ (PEP 3333, "environ Variables"; gunicorn's keys). */
#ifndef PYTHON_ENVIRON_H
#define PYTHON_ENVIRON_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

struct app_config;
struct app_exchange;
struct connection;
struct environ_maker;

/* What all requests share, made once. NULL with an exception. */
struct environ_maker *environ_maker_new(const struct app_config *);
void environ_maker_free(struct environ_maker *);

/* A new dictionary, the request's own; NULL with an exception. */
PyObject *environ_new(
    struct environ_maker *, const struct app_exchange *, PyObject *input, struct connection *);

/* What the access log prints of it, after the application: fills in x->log_values. */
void environ_log(PyObject *dict, struct app_exchange *);

#endif
