/* The embedded interpreter's start and end: see interpreter.h. */
#include "worker/python/interpreter.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "worker/app/app.h"
#include "worker/python/boot_source.h"
#include "worker/python/connection_source.h"
#include "worker/python/errors.h"
#include "worker/python/greenicorn_source.h"
#include "worker/python/hubs_source.h"
#include "worker/python/interrupt.h"
#include "worker/python/locks.h"
#include "worker/python/serving.h"
#include "worker/python/spawn.h"
#include "worker/python/stack.h"

static PyObject *boot; /* owned: the module that boot.py is */

/* Borrowed, boot.py's: a pipe with something in it when the main thread has something to do. */
static int signal_fd = -1, nudge_fd = -1;

static bool hubs; /* gevent or eventlet have been imported: hubs.py */

/*
 * What python3 does for its signals without handlers of Python's own (the worker
 * has those): a write to a closed socket or past a size limit is an error, not
 * the end. subprocess gives both back to its children.
 */
static int
signals_ignore(void)
{
	static const int signals[] = {SIGPIPE, SIGXFSZ};
	struct sigaction now, ignore = {.sa_handler = SIG_IGN};
	size_t i;

	for (i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		if (sigaction(signals[i], NULL, &now) == -1)
			return -1;
		if (now.sa_handler == SIG_DFL && sigaction(signals[i], &ignore, NULL) == -1)
			return -1;
	}
	return 0;
}

/*
 * The interpreter that was named when this was built gives sys.prefix and the
 * paths; PYTHONPATH, PYTHONHOME and the rest of the environment count as ever.
 */
static PyStatus
python_initialize(void)
{
	char *argv[] = {(char *)"greenicorn"};
	PyConfig config;
	PyStatus status;

	PyConfig_InitPythonConfig(&config);
	config.install_signal_handlers = 0;
	config.parse_argv = 0;
	status = PyConfig_SetBytesString(&config, &config.program_name, PYTHON_PROGRAM);
	if (!PyStatus_Exception(status))
		status = PyConfig_SetBytesArgv(&config, 1, argv);
	if (!PyStatus_Exception(status))
		status = Py_InitializeFromConfig(&config);
	PyConfig_Clear(&config);
	return status;
}

/* log_info(text), for boot.py. */
static PyObject *
boot_log_info(PyObject *module, PyObject *text)
{
	const char *utf8 = PyUnicode_AsUTF8(text);

	(void)module;
	if (utf8 == NULL)
		return NULL;
	log_info("%s", utf8);
	Py_RETURN_NONE;
}

/* watch_hubs(), for hubs.py: there may be some from now on. */
static PyObject *
boot_watch_hubs(PyObject *module, PyObject *unused)
{
	(void)module;
	(void)unused;
	hubs = true;
	Py_RETURN_NONE;
}

/* module_source(): of the module greenicorn. */
static PyObject *
boot_module_source(PyObject *module, PyObject *unused)
{
	(void)module;
	(void)unused;
	return PyUnicode_FromString(greenicorn_source);
}

static PyMethodDef boot_functions[] = {
    {"module_source", boot_module_source, METH_NOARGS, NULL},
    {"log_info", boot_log_info, METH_O, NULL},
    {"watch_hubs", boot_watch_hubs, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

PyObject *
interpreter_import(const char *name, const char *file, const char *source, PyMethodDef *more)
{
	PyMethodDef *const functions[] = {
	    serving_functions, interrupt_functions, spawn_functions, boot_functions, more};
	PyObject *code = Py_CompileString(source, file, Py_file_input), *module = NULL;

	if (code != NULL)
		module = PyImport_AddModule(name); /* borrowed */
	for (size_t i = 0; module != NULL && i < sizeof(functions) / sizeof(functions[0]); i++)
		if (functions[i] != NULL && PyModule_AddFunctions(module, functions[i]) == -1)
			module = NULL;
	if (module != NULL)
		module = PyImport_ExecCodeModule(name, code);
	Py_XDECREF(code);
	return module;
}

/* threading must be imported here: before 3.13 its main thread is the one that does. */
static int
boot_import(void)
{
	static const struct {
		const char *name, *file, *source;
	} parts[] = {
	    {"_greenicorn_hubs", "<greenicorn hubs>", hubs_source},
	    {"_greenicorn_connection", "<greenicorn connection>", connection_source},
	};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		PyObject *module =
		    interpreter_import(parts[i].name, parts[i].file, parts[i].source, NULL);

		if (module == NULL)
			return -1;
		Py_DECREF(module); /* boot.py imports it */
	}
	boot = interpreter_import("_greenicorn", "<greenicorn>", boot_source, NULL);
	return boot == NULL ? -1 : 0;
}

PyObject *
interpreter_call(const char *function, PyObject *const *args, size_t nargs)
{
	PyObject *callable, *result;

	if (boot == NULL || (callable = PyObject_GetAttrString(boot, function)) == NULL)
		return NULL;
	result = PyObject_Vectorcall(callable, args, nargs, NULL);
	Py_DECREF(callable);
	return result;
}

/* The same with text arguments as the system gives them (os.fsdecode); NULL is None. */
static int
boot_call_text(const char *function, const char *first, const char *second, size_t nargs)
{
	PyObject *args[2], *result = NULL;

	args[0] = first != NULL ? PyUnicode_DecodeFSDefault(first) : Py_NewRef(Py_None);
	args[1] = second != NULL ? PyUnicode_DecodeFSDefault(second) : Py_NewRef(Py_None);
	if (args[0] != NULL && args[1] != NULL)
		result = interpreter_call(function, args, nargs);
	Py_XDECREF(args[0]);
	Py_XDECREF(args[1]);
	Py_XDECREF(result);
	return result == NULL ? -1 : 0;
}

static void
boot_call_quietly(const char *function)
{
	PyObject *result = interpreter_call(function, NULL, 0);

	if (result == NULL)
		PyErr_Clear();
	Py_XDECREF(result);
}

int
interpreter_is(PyObject *exception, const char *class_name)
{
	PyObject *class = PyObject_GetAttrString(boot, class_name);
	int is;

	if (class == NULL) {
		PyErr_Clear();
		return 0;
	}
	is = PyErr_GivenExceptionMatches(exception, class);
	Py_DECREF(class);
	return is;
}

static int
boot_call_fd(const char *function, int descriptor)
{
	PyObject *fd = PyLong_FromLong(descriptor), *result = NULL;

	if (fd != NULL)
		result = interpreter_call(function, &fd, 1);
	Py_XDECREF(fd);
	Py_XDECREF(result);
	return result == NULL ? -1 : 0;
}

/* An activated virtual environment counts unless the settings name one. */
static int
virtualenv_enter(const char *directory)
{
	PyObject *exception;

	if (directory == NULL || *directory == '\0')
		directory = getenv("VIRTUAL_ENV");
	if (directory == NULL || *directory == '\0')
		return 0;
	if (boot_call_text("virtualenv", directory, NULL, 1) == 0)
		return 0;
	exception = error_take();
	if (interpreter_is(exception, "VirtualenvError"))
		error_log_message(exception);
	else
		error_log("virtualenv failed", exception);
	Py_DECREF(exception);
	return -1;
}

static int
signals_watch(void)
{
	PyObject *pipe = interpreter_call("watch_signals", NULL, 0);
	int ok;

	if (pipe == NULL)
		return -1;
	ok = PyArg_ParseTuple(pipe, "ii", &signal_fd, &nudge_fd);
	Py_DECREF(pipe);
	return ok ? 0 : -1;
}

int
interpreter_signal_fd(void)
{
	return signal_fd;
}

void
interpreter_nudge(void)
{
	/* when it is full, the main thread has something to do anyhow */
	if (nudge_fd != -1 && write(nudge_fd, "", 1) == -1 && errno != EAGAIN)
		log_warn("cannot wake Python's main thread");
}

/*
 * sys.exit() in a handler is how an application says that it wants to end: it may have
 * put this handler in place of ours, which would have stopped the worker.
 */
static void
main_thread_raised(const char *where)
{
	PyObject *exception = error_take();

	if (!PyErr_GivenExceptionMatches(exception, PyExc_SystemExit))
		error_log(where, exception);
	else if (kill(getpid(), SIGQUIT) == -1)
		log_error("kill");
	Py_DECREF(exception);
}

void
interpreter_signals(void)
{
	char numbers[64];

	while (read(signal_fd, numbers, sizeof(numbers)) > 0)
		; /* which ones, Python knows */
	/* and what C libraries want done on the main thread (Py_AddPendingCall) */
	while (Py_MakePendingCalls() == -1)
		main_thread_raised("Error in a signal handler");
}

bool
interpreter_has_hubs(void)
{
	return hubs;
}

bool
interpreter_wait_in_hub(void)
{
	PyObject *fd = PyLong_FromLong(signal_fd), *result = NULL;
	bool waited;

	if (fd != NULL)
		result = interpreter_call("wait_in_hub", &fd, 1);
	Py_XDECREF(fd);
	if (result == NULL)
		main_thread_raised("Error in a greenlet of the main thread");
	waited = result == Py_True;
	Py_XDECREF(result);
	return waited;
}

/* What belongs to the process, not to the interpreter. */
static int
process_watch(const struct app_config *config)
{
	if (boot_call_fd("watch_faults", log_fd()) == -1 || signals_watch() == -1 ||
	    (config->stack_fd != -1 && stack_watch(config->stack_fd) == -1))
		return -1;
	config->signals_set();
	return 0;
}

int
interpreter_adopt(const struct app_config *config)
{
	boot_call_quietly("forget_hubs_after_fork");
	if (process_watch(config) == 0)
		return 0;
	error_log_current("cannot prepare Python");
	return -1;
}

void
interpreter_freeze(void)
{
	PyObject *result = interpreter_call("freeze", NULL, 0);

	if (result == NULL)
		error_log_current("gc.freeze failed");
	Py_XDECREF(result);
}

void
interpreter_warn_threads(size_t tasks, bool preloaded)
{
	PyObject *names = interpreter_call("other_threads", NULL, 0);

	if (names != NULL)
		log_warnx("%s started %zu threads (%s), which its "
			  "workers do not have: start them in each worker",
		    preloaded ? "preload_app: the application has" : "server hooks: they have",
		    tasks - 1, PyUnicode_AsUTF8(names));
	else
		PyErr_Clear();
	Py_XDECREF(names);
}

int
interpreter_start(const struct app_config *config)
{
	PyStatus status;

	if (signals_ignore() == -1) {
		log_error("sigaction");
		return -1;
	}
	status = python_initialize();
	if (PyStatus_Exception(status)) {
		log_errorx("cannot start Python (%s): %s", PYTHON_PROGRAM,
		    status.err_msg != NULL ? status.err_msg : "it asks to exit");
		return -1;
	}
	if (boot_import() == -1 || process_watch(config) == -1 || interrupt_watch() == -1)
		goto fail;
	locks_watch();
	if (virtualenv_enter(config->virtualenv) == -1)
		return -1;
	if (boot_call_text("paths", config->chdir, config->pythonpath, 2) == -1)
		goto fail;
	return 0;
fail:
	error_log_current("cannot prepare Python");
	return -1;
}

/*
 * Not Py_FinalizeEx: it takes modules apart below daemon threads and extension
 * modules that still run, a known cause of crashes at exit, and gives back
 * memory that the kernel takes anyway. The GIL is kept: whatever runs on stays out of Python.
 */
void
interpreter_stop(bool join)
{
	PyObject *argument = join ? Py_True : Py_False;
	PyObject *result = interpreter_call("stop", &argument, 1);

	if (result == NULL)
		error_log_current("exit handler failed");
	Py_XDECREF(result);
}

void
interpreter_flush(void)
{
	boot_call_quietly("flush");
}

void
interpreter_begin_thread(void)
{
	boot_call_quietly("begin_thread");
}

void
interpreter_forget_thread(void)
{
	boot_call_quietly("forget_thread");
}

void
interpreter_finish_hubs(void)
{
	boot_call_quietly("finish_hubs");
}
