/* The Python backend: WSGI applications (PEP 3333) on an embedded CPython >= 3.11. */
#ifndef PYTHON_PYTHON_H
#define PYTHON_PYTHON_H

#include "worker/app/app.h"

extern const struct app_ops python_app_ops;

#endif
