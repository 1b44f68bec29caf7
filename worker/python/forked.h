/*
 * Requests may fork. A child that then returns from the application, or raises, would
 * go on as a second worker on the same sockets: it ends instead, and the client
 * hears from the parent only.
 */
#ifndef PYTHON_FORKED_H
#define PYTHON_FORKED_H

/* In the worker, before it serves; again in one that is forked to be a worker. */
void forked_watch(void);

/* Attached, whenever the application has returned: does not come back in a forked child. */
void forked_check(void);

#endif
