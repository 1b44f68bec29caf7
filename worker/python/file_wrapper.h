/* wsgi.file_wrapper (PEP 3333, "Optional Platform-Specific File Handling"). */
#ifndef PYTHON_FILE_WRAPPER_H
#define PYTHON_FILE_WRAPPER_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

extern PyTypeObject file_wrapper_type;

/* Prepare the type. 0 or -1 with an exception. */
int file_wrapper_type_ready(void);

/* What sendfile(2) would send of a wrapped file. */
struct file_part {
	int fd; /* borrowed */
	off_t offset;
	int64_t count;
};

/* Whether the wrapped object is a regular file that the kernel may send, and which part. */
bool file_wrapper_part(PyObject *, struct file_part *);

#endif
