/*
 * Which request this thread answers, for those who name threads: boot.py gives
 * threading.current_thread() of a request its method and path as name. It costs a request
 * two stores; a text is made when somebody asks for it.
 */
#ifndef PYTHON_SERVING_H
#define PYTHON_SERVING_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

struct app_exchange;

/* Attached, around a request. */
void serving_begin(struct app_exchange *);
void serving_end(void);

/* Attached: this thread is about to end; who still holds its name's source learns nothing more. */
void serving_forget(void);

/* In a forked child: the request's connection is the parent's, and its descriptor closed. */
void serving_disconnect(void);

/* For boot.py: serving_slot and serving_request. */
extern PyMethodDef serving_functions[];

#endif
