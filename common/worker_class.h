/*
 * What a worker runs requests on: gunicorn's worker_class and threads. The classes of gunicorn
 * that are green threads there are ours here.
 */
#ifndef COMMON_WORKER_CLASS_H
#define COMMON_WORKER_CLASS_H

#include <stddef.h>

struct settings;

enum worker_kind {
	WORKER_GREEN,   /* a green thread each, as many as there are */
	WORKER_SYNC,    /* one at a time, on the main thread */
	WORKER_GTHREAD, /* `threads` at a time, each on a native thread */
};

/*
 * The kind of worker_class: gunicorn's short names, its "egg:gunicorn#NAME" and its classes'
 * dotted names. Of sync with more than one thread it is gthread, as in gunicorn. -1: what is named
 * is none of these, and why (size bytes) says what to do.
 */
int worker_class_kind(const struct settings *, char *why, size_t size);

/* What the log calls it: as it was given, or "gthread" where sync has become that. Borrowed. */
const char *worker_class_name(const struct settings *);

#endif
