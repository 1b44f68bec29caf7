/*
 * wsgi.input, start_response and write() belong to one request and one user at a
 * time, but the application may keep them and hand them to other threads. The
 * gate lets one in at a time and nobody after the request's end, when what lies
 * behind it is gone. All functions are called with the GIL, which protects it.
 */
#ifndef PYTHON_GATE_H
#define PYTHON_GATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <semaphore.h>
#include <stdbool.h>

struct gate {
	bool open;
	bool busy;
	sem_t *waiter; /* on the stack of gate_wait; NULL: nobody waits */
};

/* 0, or -1 with ValueError (closed: said of "what") or RuntimeError (in use). */
int gate_enter(struct gate *, const char *what);
void gate_leave(struct gate *);

/* For the request's own thread: wait until nobody is inside. */
void gate_wait(struct gate *);

/* Wait, then let nobody in again. */
void gate_close(struct gate *);

#endif
