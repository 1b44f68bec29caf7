/* Server hooks, the C half: what hooks.py is told, and when it is called. See hooks.h. */
#include "worker/python/hooks.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>

#include "common/contract.h"
#include "common/listener.h"
#include "common/log.h"
#include "common/scoreboard.h"
#include "common/settings.h"
#include "common/settings_table.h"
#include "worker/python/errors.h"
#include "worker/python/forked.h"
#include "worker/python/hooks_source.h"
#include "worker/python/interpreter.h"
#include "worker/python/thread.h"

/* How long worker_abort may take: the master kills what is still there two seconds after ABRT. */
#define ABORT_PATIENCE_SECS 1

static struct {
	PyObject *module;                 /* owned: hooks.py; NULL: no hook is set */
	const struct scoreboard_row *row; /* ours; NULL in the mold */
	bool have[APP_HOOKS];

	/* Around requests; all owned, and NULL without such hooks. */
	PyObject *worker, *request_type, *response_type;
	PyObject *pre_request, *post_request; /* or NULL */
	unsigned long long requests;          /* so far */
} hooks;

/* The settings and functions of hooks.py for enum app_hook. */
static const struct {
	size_t setting; /* offset of its field */
	const char *function;
} by_app[APP_HOOKS] = {
    [APP_HOOK_INT] = {offsetof(struct settings, worker_int), "interrupted"},
    [APP_HOOK_ABORT] = {offsetof(struct settings, worker_abort), "aborted"},
    [APP_HOOK_EXIT] = {offsetof(struct settings, worker_exit), "ended"},
};

/* ---- the settings as Python values ---- */

static PyObject *
value_int(const void *field)
{
	return PyLong_FromLong(*(const int *)field);
}

static PyObject *
value_size(const void *field)
{
	return PyLong_FromLongLong(*(const long long *)field);
}

static PyObject *
value_double(const void *field)
{
	return PyFloat_FromDouble(*(const double *)field);
}

static PyObject *
value_bool(const void *field)
{
	return PyBool_FromLong(*(const bool *)field);
}

static PyObject *
value_string(const void *field)
{
	const char *text = *(char *const *)field;

	return text != NULL ? PyUnicode_DecodeFSDefault(text) : Py_NewRef(Py_None);
}

static PyObject *
value_list(const void *field)
{
	const struct strlist *list = field;
	PyObject *value = PyList_New((Py_ssize_t)list->n);

	for (size_t i = 0; value != NULL && i < list->n; i++) {
		PyObject *item = PyUnicode_DecodeFSDefault(list->items[i]);

		if (item == NULL)
			Py_CLEAR(value);
		else
			PyList_SET_ITEM(value, (Py_ssize_t)i, item);
	}
	return value;
}

static const struct {
	const struct kind *kind;
	PyObject *(*value)(const void *field);
} values[] = {
    {&kind_COUNT, value_int},
    {&kind_SECONDS, value_int},
    {&kind_MODE, value_int},
    {&kind_DURATION, value_double},
    {&kind_SIZE, value_size},
    {&kind_BOOL, value_bool},
    {&kind_STRING, value_string},
    {&kind_LEVEL, value_string},
    {&kind_ACCOUNT, value_string},
    {&kind_FUNCTION, value_string},
    {&kind_CHOICE, value_string},
    {&kind_JSON, value_string},
    {&kind_LIST, value_list},
    {&kind_COMMAS, value_list},
    {&kind_DICT, value_list},
};

static PyObject *
setting_value(const struct settings *settings, const struct setting *row)
{
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		if (values[i].kind == row->kind)
			return values[i].value((const char *)settings + row->offset);
	return PyErr_Format(PyExc_SystemError, "a setting of kind %s", row->kind->name);
}

PyObject *
hooks_settings(const struct settings *settings)
{
	PyObject *dict = PyDict_New();

	for (size_t i = 0; dict != NULL && i < settings_count; i++) {
		PyObject *value = setting_value(settings, &settings_table[i]);

		if (value == NULL ||
		    PyDict_SetItemString(dict, settings_table[i].name, value) == -1)
			Py_CLEAR(dict);
		Py_XDECREF(value);
	}
	return dict;
}

/* [(descriptor, text), …] */
static PyObject *
listeners_list(const struct listener *listeners, size_t n)
{
	PyObject *list = PyList_New((Py_ssize_t)n);

	for (size_t i = 0; list != NULL && i < n; i++) {
		PyObject *item = Py_BuildValue("is", listeners[i].fd, listeners[i].text);

		if (item == NULL)
			Py_CLEAR(list);
		else
			PyList_SET_ITEM(list, (Py_ssize_t)i, item);
	}
	return list;
}

/* ---- what hooks.py asks ---- */

/* worker_row(): whether we serve on, how many requests we had, when the loop last came round. */
static PyObject *
hooks_worker_row(PyObject *module, PyObject *unused)
{
	const struct scoreboard_row *row = hooks.row;

	(void)module;
	(void)unused;
	if (row == NULL)
		return Py_BuildValue("OKd", Py_True, 0ULL, 0.0);
	return Py_BuildValue("OKd",
	    atomic_load(&row->state) < SCOREBOARD_STOPPING ? Py_True : Py_False,
	    hooks.requests > 0 ? hooks.requests : (unsigned long long)atomic_load(&row->served),
	    (double)atomic_load(&row->heartbeat) / 1e9);
}

static PyMethodDef functions[] = {
    {"worker_row", hooks_worker_row, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

/* ---- finding them ---- */

static bool
any_is_set(const struct settings *settings)
{
	for (size_t i = 0; i < settings_count; i++) {
		const struct setting *row = &settings_table[i];

		if (row->kind == &kind_FUNCTION && !setting_is_unused(row) &&
		    *(char *const *)((const char *)settings + row->offset) != NULL)
			return true;
	}
	return false;
}

/* A name that is wrong is one line; what its module raises has a traceback. */
static int
open_failed(void)
{
	PyObject *exception = error_take();
	PyObject *class = NULL, *cause = NULL, *what = NULL;

	if (hooks.module != NULL)
		class = PyObject_GetAttrString(hooks.module, "HookError");
	if (class == NULL || !PyErr_GivenExceptionMatches(exception, class))
		error_log("cannot prepare the server hooks", exception);
	else if ((cause = PyException_GetCause(exception)) == NULL)
		error_log_message(exception);
	else if ((what = PyObject_Str(exception)) != NULL && PyUnicode_AsUTF8(what) != NULL)
		error_log(PyUnicode_AsUTF8(what), cause);
	PyErr_Clear();
	Py_XDECREF(what);
	Py_XDECREF(cause);
	Py_XDECREF(class);
	Py_DECREF(exception);
	return WORKER_EXIT_FAILED;
}

int
hooks_open(const struct app_config *config)
{
	const struct settings *settings = config->settings;
	PyObject *dict, *listeners, *result = NULL;

	if (!any_is_set(settings))
		return 0;
	hooks.module =
	    interpreter_import("_greenicorn_hooks", "<greenicorn hooks>", hooks_source, functions);
	if (hooks.module == NULL)
		return open_failed();
	dict = hooks_settings(settings);
	listeners = listeners_list(config->listeners, config->nlisteners);
	if (dict != NULL && listeners != NULL)
		result = PyObject_CallMethod(hooks.module, "open_hooks", "OOii", dict, listeners,
		    (int)getppid(), config->memory);
	Py_XDECREF(dict);
	Py_XDECREF(listeners);
	if (result == NULL)
		return open_failed();
	Py_DECREF(result);
	for (size_t i = 0; i < APP_HOOKS; i++)
		hooks.have[i] =
		    *(char *const *)((const char *)settings + by_app[i].setting) != NULL;
	return 0;
}

/* ---- the mold's ---- */

static void
tell(const char *function, long number)
{
	PyObject *result = PyObject_CallMethod(hooks.module, function, "l", number);

	if (result == NULL)
		error_log_current("a server hook's worker cannot be noted");
	Py_XDECREF(result);
}

int
hooks_heed(const char *words)
{
	PyObject *result;

	if (hooks.module == NULL)
		return 0;
	result = PyObject_CallMethod(hooks.module, "heed", "s", words);
	forked_check();
	Py_XDECREF(result);
	if (result != NULL)
		return 0;
	error_log_current("Exception in a server hook");
	return -1;
}

void
hooks_forking(unsigned age)
{
	if (hooks.module != NULL)
		tell("forking", (long)age);
}

void
hooks_forked(pid_t pid)
{
	if (hooks.module != NULL)
		tell("forked", (long)pid);
}

/* ---- a worker's ---- */

static void
run(enum app_hook hook)
{
	PyObject *result = PyObject_CallMethod(hooks.module, by_app[hook].function, NULL);

	forked_check();
	if (result == NULL)
		error_log_current("a server hook failed");
	Py_XDECREF(result);
}

/* A new reference to the function of a hook, or NULL: it is not set. */
static PyObject *
function_of(const char *name)
{
	PyObject *all = PyObject_GetAttrString(hooks.module, "functions");
	PyObject *function = all != NULL ? PyDict_GetItemString(all, name) : NULL;

	Py_XINCREF(function);
	Py_XDECREF(all);
	return function;
}

static int
requests_begin(void)
{
	hooks.pre_request = function_of("pre_request");
	hooks.post_request = function_of("post_request");
	if (!hooks_around_requests())
		return 0;
	hooks.worker = PyObject_GetAttrString(hooks.module, "worker");
	hooks.request_type = PyObject_GetAttrString(hooks.module, "Request");
	hooks.response_type = PyObject_GetAttrString(hooks.module, "Response");
	return hooks.worker != NULL && hooks.request_type != NULL && hooks.response_type != NULL
		   ? 0
		   : -1;
}

int
hooks_began(const struct app_config *config)
{
	PyObject *result;

	if (hooks.module == NULL)
		return 0;
	hooks.row = config->row;
	result = PyObject_CallMethod(hooks.module, "began", "I", config->age);
	forked_check();
	Py_XDECREF(result);
	return result != NULL ? requests_begin() : -1;
}

int
hooks_loaded(PyObject *application)
{
	PyObject *result;

	if (hooks.module == NULL)
		return 0;
	result = PyObject_CallMethod(hooks.module, "loaded", "O", application);
	forked_check();
	Py_XDECREF(result);
	return result != NULL ? 0 : -1;
}

void
hooks_ended(void)
{
	if (hooks.have[APP_HOOK_EXIT])
		run(APP_HOOK_EXIT);
}

bool
hooks_have(enum app_hook hook)
{
	return hooks.have[hook];
}

static sem_t aborted;

static void *
abort_main(void *arg)
{
	PyThreadState *state = PyThreadState_New(PyInterpreterState_Main());

	(void)arg;
	if (state == NULL)
		return NULL;
	PyEval_RestoreThread(state);
	run(APP_HOOK_ABORT);
	PyEval_SaveThread();
	(void)sem_post(&aborted);
	return NULL; /* the state is left: the process is about to end */
}

/*
 * The caller is the watchdog, and the application perhaps in a loop, or in C with Python's lock:
 * then it never comes to the hook.
 */
static void
run_abort(void)
{
	struct timespec deadline;
	pthread_t thread;
	int rc;

	if (sem_init(&aborted, 0, 0) == -1 ||
	    pthread_create(&thread, NULL, abort_main, NULL) != 0 ||
	    clock_gettime(CLOCK_MONOTONIC, &deadline) == -1) {
		log_warnx("worker_abort cannot be run: no thread for it");
		return;
	}
	deadline.tv_sec += ABORT_PATIENCE_SECS;
	do
		rc = sem_clockwait(&aborted, CLOCK_MONOTONIC, &deadline);
	while (rc == -1 && errno == EINTR);
	if (rc == -1)
		log_warnx("worker_abort has not ended in time: it takes long, or the worker is "
			  "stuck with Python's lock");
}

void
hooks_run(enum app_hook hook)
{
	if (!hooks.have[hook])
		return;
	if (hook == APP_HOOK_ABORT) {
		run_abort();
	} else if (thread_attach() == 0) {
		run(hook);
		thread_detach();
	}
}

/* ---- requests ---- */

bool
hooks_around_requests(void)
{
	return hooks.pre_request != NULL || hooks.post_request != NULL;
}

/* The head as it came, without its last line end. */
static PyObject *
head_bytes(const struct http_request *request)
{
	const char *start = request->method.p, *end = request->target.p + request->target.n;

	if (request->nheaders > 0) {
		const struct http_header *last = &request->headers[request->nheaders - 1];

		end = last->value.n > 0 ? last->value.p + last->value.n
					: last->name.p + last->name.n + 1;
	}
	return PyBytes_FromStringAndSize(start, end - start);
}

PyObject *
hooks_before(const struct app_exchange *x, PyObject *input, bool *failed)
{
	PyObject *request, *result;

	*failed = true;
	request = PyObject_CallFunction(hooks.request_type, "NIsssO", head_bytes(x->request),
	    x->request->minor, x->peer->remote_addr, x->peer->remote_port, x->peer->scheme, input);
	if (request == NULL)
		return NULL;
	if (hooks.pre_request != NULL) {
		result =
		    PyObject_CallFunctionObjArgs(hooks.pre_request, hooks.worker, request, NULL);
		forked_check();
		*failed = result == NULL;
		Py_XDECREF(result);
	} else
		*failed = false;
	hooks.requests++;
	return request;
}

void
hooks_after(const struct app_exchange *x, PyObject *request, PyObject *env)
{
	const struct http_response *response = x->response;
	PyObject *made, *result = NULL;

	if (hooks.post_request == NULL)
		return;
	made = PyObject_CallFunction(hooks.response_type, "ONKN", request,
	    PyBytes_FromStringAndSize(response->head, (Py_ssize_t)response->head_len),
	    (unsigned long long)response->sent, PyBool_FromLong(response->head_sent));
	if (made != NULL)
		result = PyObject_CallFunctionObjArgs(hooks.post_request, hooks.worker, request,
		    env != NULL ? env : Py_None, made, NULL);
	forked_check();
	if (result == NULL)
		error_log_current("Exception in post_request hook");
	Py_XDECREF(made);
	Py_XDECREF(result);
}
