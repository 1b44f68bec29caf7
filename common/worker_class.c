/* The names of worker classes: see worker_class.h. */
#include "common/worker_class.h"

#include <stdio.h>
#include <string.h>

#include "common/settings.h"

#define EGG "egg:gunicorn#"

static const struct worker_class {
	const char *name, *dotted;
	enum worker_kind kind;
} classes[] = {
    {"green", "green", WORKER_GREEN},
    {"gevent", "gunicorn.workers.ggevent.GeventWorker", WORKER_GREEN},
    {"gevent_wsgi", "gunicorn.workers.ggevent.GeventPyWSGIWorker", WORKER_GREEN},
    {"gevent_pywsgi", "gunicorn.workers.ggevent.GeventPyWSGIWorker", WORKER_GREEN},
    {"eventlet", "gunicorn.workers.geventlet.EventletWorker", WORKER_GREEN},
    {"sync", "gunicorn.workers.sync.SyncWorker", WORKER_SYNC},
    {"gthread", "gunicorn.workers.gthread.ThreadWorker", WORKER_GTHREAD},
};

/* Parts of names of classes that serve ASGI applications. */
static const char *const asgi[] = {"uvicorn", "asgi", "aiohttp", "hypercorn", "daphne"};

static void
explain(const char *name, char *why, size_t size)
{
	for (size_t i = 0; i < sizeof(asgi) / sizeof(asgi[0]); i++)
		if (strstr(name, asgi[i]) != NULL) {
			snprintf(why, size,
			    "%s is for ASGI applications: greenicorn serves WSGI ones", name);
			return;
		}
	if (strchr(name, '.') != NULL)
		snprintf(why, size,
		    "%s is a class of Python's, and greenicorn's workers are none: "
		    "expected green (or gevent, eventlet), sync or gthread",
		    name);
	else
		snprintf(why, size,
		    "expected green, or gevent, gevent_pywsgi, eventlet, which mean the same here; "
		    "sync or gthread");
}

/* NULL: there is no such class. */
static const struct worker_class *
class_find(const char *name)
{
	if (name == NULL)
		return NULL;
	if (strncmp(name, EGG, strlen(EGG)) == 0)
		name += strlen(EGG);
	for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++)
		if (strcmp(name, classes[i].name) == 0 || strcmp(name, classes[i].dotted) == 0)
			return &classes[i];
	return NULL;
}

/* gunicorn: "If you try to use the sync worker type and set the threads setting to more than 1 …"
 */
static bool
is_threaded_sync(const struct worker_class *class, const struct settings *s)
{
	return class != NULL && class->kind == WORKER_SYNC && s->threads > 1;
}

int
worker_class_kind(const struct settings *s, char *why, size_t size)
{
	const struct worker_class *class = class_find(s->worker_class);

	if (class != NULL)
		return is_threaded_sync(class, s) ? WORKER_GTHREAD : (int)class->kind;
	explain(s->worker_class != NULL ? s->worker_class : "", why, size);
	return -1;
}

const char *
worker_class_name(const struct settings *s)
{
	return is_threaded_sync(class_find(s->worker_class), s) ? "gthread" : s->worker_class;
}
