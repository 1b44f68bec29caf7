/*
 * Each thread that runs requests, green or native, has a PyThreadState of its
 * own: made at first use, kept in a __thread variable, gone with thread_end.
 * Between thread_attach and thread_detach it holds the GIL. A green thread must
 * never wait in C while it is attached: nobody else could run Python, and the
 * next one to attach would be the same OS thread.
 */
#ifndef PYTHON_THREAD_H
#define PYTHON_THREAD_H

#include <stdbool.h>

/* After Py_Initialize: keep the state that it made as this thread's, and detach. */
void thread_adopt(void);

/*
 * In a forked child: thread_leave, attached, where Python's main thread was, then thread_inherit on
 * the thread that is to be it from here on: that one is attached afterwards.
 */
void thread_leave(void);
void thread_inherit(void);

/* 0, or -1 when there is no memory for a state. */
int thread_attach(void);
void thread_detach(void);

/* Whether this thread is one of those, and has a state. */
bool thread_is_ours(void);

/* Delete this thread's state, if it has one. Not attached before and after. */
void thread_end(void);

/* Attached: something is left over in the state; swap it for a new one. 0 or -1, detached. */
int thread_renew(void);

/* From here on no thread may attach, and thread_end does nothing. */
void thread_close_all(void);

#endif
