/* One request, from exchange to exchange: the app_ops of the Python backend. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdio.h>
#include <stdlib.h>

#include "common/contract.h"
#include "common/log.h"
#include "common/settings.h"
#include "worker/python/connection.h"
#include "worker/python/environ.h"
#include "worker/python/errors.h"
#include "worker/python/file_wrapper.h"
#include "worker/python/forked.h"
#include "worker/python/hooks.h"
#include "worker/python/input.h"
#include "worker/python/interrupt.h"
#include "worker/python/interpreter.h"
#include "worker/python/load.h"
#include "worker/python/logs.h"
#include "worker/python/preempt.h"
#include "worker/python/python.h"
#include "worker/python/reload.h"
#include "worker/python/respond.h"
#include "worker/python/serving.h"
#include "worker/python/spawn.h"
#include "worker/python/stack.h"
#include "worker/python/start_response.h"
#include "worker/python/thread.h"

struct app {
	PyObject *callable;            /* owned */
	struct environ_maker *environ; /* owned */
	bool frozen;                   /* preloading: the collector does not see what was loaded */
};

/* Send an error page; without effect when a head has left. */
static void
answer_error(struct http_response *response, int status)
{
	PyThreadState *state = PyEval_SaveThread();
	http_response_error(response, status, "");
	PyEval_RestoreThread(state);
}

/* gunicorn's line, with the traceback below it. */
static void
log_failure(const struct http_request *request, PyObject *exception)
{
	char what[512];

	snprintf(what, sizeof(what), "Error handling request %.*s %.*s", (int)request->method.n,
	    request->method.p, (int)request->target.n, request->target.p);
	error_log(what, exception);
}

/*
 * The current exception came out of the application: log it and answer, unless
 * it is our own OSError about a client that is gone or sends rubbish.
 */
static void
request_failed(struct app_exchange *x, PyObject *input)
{
	PyObject *exception = error_take();
	bool client = PyErr_GivenExceptionMatches(exception, PyExc_OSError) &&
		      (x->response->failed || (input != NULL && input_failed(input)));
	int status = client && x->body->error != 0 ? x->body->error : 500;

	if (!client)
		log_failure(x->request, exception);
	else if (status != 500)
		log_warnx("Invalid request from ip=%s: %s", x->peer->remote_addr,
		    status == 408 ? "request body too slow" : "request body broken");
	else
		log_debug("Ignored premature client disconnection.");
	Py_DECREF(exception);
	answer_error(x->response, status);
}

/* Call the application and send what it gives: the error is answered before close() is called. */
static void
run(struct app *app, struct app_exchange *x, PyObject *env, PyObject *start_response,
    PyObject *input, struct connection *connection)
{
	PyObject *args[3] = {NULL, env, start_response}, *result;

	result =
	    PyObject_Vectorcall(app->callable, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
	forked_check();
	if (result == NULL) {
		if (!connection_given_up(connection))
			request_failed(x, input);
		return;
	}
	if (respond(x->response, start_response, result) == -1)
		request_failed(x, input);
	if (respond_close(result) == -1)
		request_failed(x, input);
	Py_DECREF(result);
}

/* Attached, in a context of its own. */
static void
exchange_run(struct app *app, struct app_exchange *x)
{
	PyObject *input = input_new(x->body, x->fd), *env = NULL;
	PyObject *start_response = start_response_new(x->response), *request = NULL;
	struct connection *connection = NULL;
	bool failed = input == NULL || start_response == NULL;

	serving_begin(x);
	if (!failed && hooks_around_requests())
		request = hooks_before(x, input, &failed);
	if (!failed)
		connection = connection_begin(x, input, start_response);
	if (connection != NULL)
		env = environ_new(app->environ, x, input, connection);
	if (env != NULL)
		run(app, x, env, start_response, input, connection);
	else
		request_failed(x, input);
	if (request != NULL)
		hooks_after(x, request, env);
	Py_XDECREF(request);
	if (start_response != NULL)
		start_response_detach(start_response);
	if (input != NULL)
		input_detach(input);
	if (env != NULL && x->nlog > 0)
		environ_log(env, x);
	Py_XDECREF(env);
	if (connection != NULL)
		connection_end(connection);
	Py_XDECREF(start_response);
	Py_XDECREF(input);
	serving_end();
	interrupt_forget();
}

/*
 * Pooled threads would hand one request's context variables to the next: each
 * request has a fresh contextvars.Context, like a new thread. When it cannot be
 * left (the application has left another one entered), the thread state goes with it.
 */
static void
python_handle(struct app *app, struct app_exchange *x)
{
	PyObject *context;

	if (thread_attach() == -1) {
		log_errorx("no memory for a thread state");
		http_response_error(x->response, 500, "");
		return;
	}
	context = PyContext_New();
	if (context == NULL || PyContext_Enter(context) == -1) {
		request_failed(x, NULL);
		Py_XDECREF(context);
		thread_detach();
		return;
	}
	exchange_run(app, x);
	if (PyContext_Exit(context) == -1) {
		error_log_current("The request left its context changed");
		Py_DECREF(context);
		if (thread_renew() == 0)
			thread_detach();
		return;
	}
	Py_DECREF(context);
	thread_detach();
}

/* Most requests leave nothing, and most applications cannot. */
static void
python_leftovers(struct app *app)
{
	(void)app;
	if (!interpreter_has_hubs() || thread_attach() == -1)
		return;
	interpreter_finish_hubs();
	thread_detach();
}

static int
types_ready(void)
{
	if (input_type_ready() == -1 || start_response_type_ready() == -1 ||
	    file_wrapper_type_ready() == -1 || connection_type_ready() == -1)
		return -1;
	return respond_init();
}

/* The beginning of a worker, which may have the application already. Attached; likewise. */
static int
app_begin(struct app *app, const struct app_config *config)
{
	int code = 0;

	if (hooks_began(config) == -1 || reload_open(config) == -1)
		return load_failed();
	if (app->callable == NULL)
		code = load_application(config->uri, &app->callable);
	if (code == 0 && hooks_loaded(app->callable) == -1)
		code = load_failed();
	if (code == 0 && reload_watch() == -1)
		code = load_failed();
	if (code == 0 && logs_begin(config) == -1)
		code = WORKER_EXIT_BOOT;
	return code;
}

/* Attached. 0 or an enum worker_exit, after logging. */
static int
app_prepare(struct app *app, const struct app_config *config)
{
	int code;

	if (types_ready() == -1 || (app->environ = environ_maker_new(config)) == NULL) {
		error_log_current("cannot prepare Python");
		return WORKER_EXIT_BOOT;
	}
	if (logs_open(config) == -1)
		return WORKER_EXIT_BOOT;
	if ((code = hooks_open(config)) != 0)
		return code;
	if (config->is_worker)
		return app_begin(app, config);
	if (!settings_preloads(config->settings) && !config->settings->check_config)
		return 0; /* each worker loads it */
	return load_application(config->uri, &app->callable);
}

/* Attached, and stays so: see interpreter_stop. */
static void
app_give_up(void)
{
	hooks_ended();
	interpreter_stop(false);
	thread_close_all();
}

static int
python_load(const struct app_config *config, struct app **result)
{
	struct app *app = calloc(1, sizeof(*app));
	int code;

	/* gunicorn sets it: applications look there to see what runs them. */
	if (app == NULL || setenv("SERVER_SOFTWARE", config->software, 1) == -1) {
		log_error("cannot load the application");
		free(app);
		return WORKER_EXIT_BOOT;
	}
	spawn_open();
	if (interpreter_start(config) == -1) {
		free(app);
		return WORKER_EXIT_BOOT;
	}
	code = app_prepare(app, config);
	if (code != 0) {
		environ_maker_free(app->environ);
		free(app);
		app_give_up();
		return code;
	}
	forked_watch();
	thread_adopt();
	preempt_open();
	*result = app;
	return 0;
}

static void
python_fork_begin(struct app *app, size_t tasks, unsigned age)
{
	(void)thread_attach(); /* this thread has a state */
	hooks_forking(age);
	if (!app->frozen) {
		interpreter_freeze();
		if (tasks > 1)
			interpreter_warn_threads(tasks, app->callable != NULL);
	}
	app->frozen = true;
	PyOS_BeforeFork();
}

static void
python_fork_end(struct app *app, pid_t pid)
{
	(void)app;
	if (pid == 0) {
		thread_leave();
		return;
	}
	PyOS_AfterFork_Parent();
	hooks_forked(pid);
	thread_detach();
}

static int
python_heed(struct app *app, const char *words)
{
	int rc;

	(void)app;
	if (thread_attach() == -1)
		return -1;
	rc = hooks_heed(words);
	thread_detach();
	return rc;
}

static int
python_adopt(struct app *app, const struct app_config *config)
{
	int rc;

	thread_inherit();
	spawn_open();
	forked_watch(); /* this fork was no request's */
	logs_reopen();  /* they may have been renamed since the mold opened them */
	rc = interpreter_adopt(config) == 0 ? app_begin(app, config) : WORKER_EXIT_BOOT;
	if (rc == 0)
		thread_detach();
	else
		app_give_up();
	return rc;
}

static int
python_attend_fd(struct app *app)
{
	(void)app;
	return interpreter_signal_fd();
}

static bool
python_idle(struct app *app)
{
	bool waited;

	(void)app;
	if (!interpreter_has_hubs() || thread_attach() == -1)
		return false;
	waited = interpreter_wait_in_hub();
	thread_detach();
	return waited;
}

static void
python_nudge(struct app *app)
{
	(void)app;
	if (interpreter_has_hubs())
		interpreter_nudge();
}

static void
python_attend(struct app *app)
{
	(void)app;
	if (thread_attach() == -1)
		return;
	interpreter_signals();
	thread_detach();
}

static void
python_reopen(struct app *app)
{
	(void)app;
	if (thread_attach() == -1)
		return;
	logs_reopen();
	thread_detach();
}

/* The thread stays attached: see interpreter_stop. */
static void
python_unload(struct app *app)
{
	preempt_close();
	if (thread_attach() == -1)
		return;
	hooks_ended();
	logs_end(); /* exit handlers close those of logging */
	interpreter_stop(true);
	thread_close_all();
	environ_maker_free(app->environ);
	Py_XDECREF(app->callable);
	free(app);
}

const struct app_ops python_app_ops = {
    .name = "python",
    .load = python_load,
    .fork_begin = python_fork_begin,
    .fork_end = python_fork_end,
    .adopt = python_adopt,
    .heed = python_heed,
    .attend_fd = python_attend_fd,
    .idle = python_idle,
    .nudge = python_nudge,
    .attend = python_attend,
    .handle = python_handle,
    .leftovers = python_leftovers,
    .preempt = preempt_turn,
    .write_stack = stack_write,
    .has_hook = hooks_have,
    .hook = hooks_run,
    .thread_exit = thread_end,
    .reopen = python_reopen,
    .unload = python_unload,
};
