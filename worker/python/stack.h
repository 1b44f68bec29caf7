/* The calling thread's Python stack as text, from a signal handler, whoever holds the GIL. */
#ifndef PYTHON_STACK_H
#define PYTHON_STACK_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Attached, once: stacks go to fd. 0, or -1 with an exception. */
int stack_watch(int fd);

/*
 * Write it, innermost call first, or nothing for a thread without Python. Reads the interpreter's
 * frames as they lie there: in the middle of a change it may fault.
 */
void stack_write(void);

#endif
