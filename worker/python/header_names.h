/*
 * From a header's name to its key in environ ("X-Forwarded-For" is
 * HTTP_X_FORWARDED_FOR): the keys are made once and kept, with their hashes.
 */
#ifndef PYTHON_HEADER_NAMES_H
#define PYTHON_HEADER_NAMES_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

struct header_names;

/* NULL with an exception. */
struct header_names *header_names_new(void);
void header_names_free(struct header_names *);

/*
 * 1 and a new reference in *key; 0 for a name that is not ASCII; -1 with an exception. A name
 * with an underscore has the key of the one with a dash: see worker/forwarded.h.
 */
int header_names_key(struct header_names *, const char *name, size_t n, PyObject **key);

#endif
