/*
 * Exceptions that are raised in a green thread while it waits: greenicorn.Timeout, and what
 * Handle.cancel() sends. The wait fails with ECANCELED (green_interrupt), and where the interpreter
 * makes an OSError of it, the exception is raised in its place; locks and select.epoll say so
 * themselves (locks.c).
 */
#ifndef PYTHON_INTERRUPT_H
#define PYTHON_INTERRUPT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

/* Stand in front of OSError.__new__. 0, or -1 with an exception. */
int interrupt_watch(void);

/* Whether somebody may want to interrupt this thread. */
bool interrupt_possible(void);

/* Raise what is wanted in this thread. False: nothing is. */
bool interrupt_raise(void);

/* A request or another job is over: nobody interrupts the next one. Attached. */
void interrupt_forget(void);

/* The green thread ends. Attached. */
void interrupt_thread_end(void);

/* For boot.py and greenicorn.py: slot(). */
extern PyMethodDef interrupt_functions[];

#endif
