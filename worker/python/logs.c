/*
 * Python's logging: see logs.h. When lines are to go through Python's loggers, whoever has one, the
 * loop perhaps, only queues it; a green thread takes it there. Lines of other OS threads, those at
 * CRITICAL and those that the queue has no room for are written as ever: they may be the last.
 */
#include "worker/python/logs.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "common/settings.h"
#include "common/syslog_out.h"
#include "worker/app/app.h"
#include "worker/green/green.h"
#include "worker/python/errors.h"
#include "worker/python/hooks.h"
#include "worker/python/interpreter.h"
#include "worker/python/logs_source.h"
#include "worker/python/thread.h"

#define QUEUE_MAX (4 << 20) /* bytes */
#define ACCESS    (-1)      /* in place of a level */

struct line {
	struct line *next;
	int level;
	size_t n;
	char text[];
};

static struct {
	PyObject *module;             /* owned: logs.py */
	struct app_access_log access; /* as long as the worker lives */
	bool diverted;                /* the error log's lines come here */
	pid_t pid, tid;               /* ours, and the loop's OS thread; 0 in a mold */
				      /* the loop's OS thread */
	struct line *first, **last;
	size_t bytes;
	bool running; /* the green thread that takes them */
	struct green_job job;
} logs = {.last = &logs.first};

/* logging's numbers. */
static const int py_levels[] = {
    [LOG_LEVEL_DEBUG] = 10,
    [LOG_LEVEL_INFO] = 20,
    [LOG_LEVEL_WARNING] = 30,
    [LOG_LEVEL_ERROR] = 40,
    [LOG_LEVEL_CRITICAL] = 50,
};

/* The one at or below it. */
static enum log_level
level_of(long number)
{
	int level = LOG_LEVEL_CRITICAL;

	while (level > LOG_LEVEL_DEBUG && py_levels[level] > number)
		level--;
	return (enum log_level)level;
}

/* ---- what Python's handlers write ---- */

static void
error_put(int level, const char *text, size_t n)
{
	log_formatted(level_of(level), text, n);
}

/* A line for the access log on its way to the loop's OS thread, which alone may touch it. */
struct late_line {
	struct green_job job;
	size_t n;
	char text[];
};

static void
late_line_main(void *arg)
{
	struct late_line *line = arg;

	logs.access.write(logs.access.log, line->text, line->n);
	free(line);
}

/* In a child that the application has forked there is no access log. */
static void
access_put(int level, const char *text, size_t n)
{
	struct late_line *line;

	(void)level;
	if (logs.access.log == NULL || getpid() != logs.pid)
		return;
	if (gettid() == logs.tid) {
		logs.access.write(logs.access.log, text, n);
	} else if ((line = malloc(sizeof(*line) + n)) != NULL) {
		*line = (struct late_line){.job = {.fn = late_line_main, .arg = line}, .n = n};
		memcpy(line->text, text, n);
		green_run(&line->job);
	}
}

static void
syslog_error_put(int level, const char *text, size_t n)
{
	syslog_out_error(level_of(level), text, n);
}

static void
syslog_access_put(int level, const char *text, size_t n)
{
	(void)level;
	syslog_out_access(text, n);
}

/* write(level, text) */
static PyObject *
put(PyObject *args, void (*to)(int, const char *, size_t))
{
	PyObject *text, *bytes;
	PyThreadState *state;
	int level;

	if (!PyArg_ParseTuple(args, "iU", &level, &text))
		return NULL;
	bytes = PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace");
	if (bytes == NULL)
		return NULL;
	state = PyEval_SaveThread(); /* a full pipe makes it wait */
	to(level, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
	PyEval_RestoreThread(state);
	Py_DECREF(bytes);
	Py_RETURN_NONE;
}

static PyObject *
write_error(PyObject *Py_UNUSED(self), PyObject *args)
{
	return put(args, error_put);
}

static PyObject *
write_access(PyObject *Py_UNUSED(self), PyObject *args)
{
	return put(args, access_put);
}

static PyObject *
write_syslog_error(PyObject *Py_UNUSED(self), PyObject *args)
{
	return put(args, syslog_error_put);
}

static PyObject *
write_syslog_access(PyObject *Py_UNUSED(self), PyObject *args)
{
	return put(args, syslog_access_put);
}

static PyMethodDef functions[] = {
    {"write_error", write_error, METH_VARARGS, NULL},
    {"write_access", write_access, METH_VARARGS, NULL},
    {"write_syslog_error", write_syslog_error, METH_VARARGS, NULL},
    {"write_syslog_access", write_syslog_access, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

/* ---- lines on their way to Python ---- */

static struct line *
line_take(void)
{
	struct line *line = logs.first;

	if (line == NULL)
		return NULL;
	logs.first = line->next;
	if (logs.first == NULL)
		logs.last = &logs.first;
	logs.bytes -= line->n;
	return line;
}

static void
line_deliver(const struct line *line)
{
	PyObject *text = PyUnicode_DecodeUTF8(line->text, (Py_ssize_t)line->n, "backslashreplace");
	PyObject *result = NULL;

	if (text != NULL && line->level == ACCESS)
		result = PyObject_CallMethod(logs.module, "access", "O", text);
	else if (text != NULL)
		result =
		    PyObject_CallMethod(logs.module, "error", "iO", py_levels[line->level], text);
	if (result == NULL) /* a filter or formatter of the application's, most likely */
		PyErr_WriteUnraisable(logs.module);
	Py_XDECREF(text);
	Py_XDECREF(result);
}

static void
lines_deliver(void)
{
	struct line *line;

	while ((line = line_take()) != NULL) {
		line_deliver(line);
		free(line);
	}
}

/* On a green thread, not attached. */
static void
deliver_main(void *arg)
{
	(void)arg;
	if (thread_attach() == 0) {
		lines_deliver();
		thread_detach();
	}
	logs.running = false;
}

/* In a forked child, too, the number of the OS thread is another. */
static bool
line_queue(int level, const char *text, size_t n)
{
	struct line *line;

	if (logs.bytes + n > QUEUE_MAX || gettid() != logs.tid ||
	    (line = malloc(sizeof(*line) + n)) == NULL)
		return false;
	*line = (struct line){.level = level, .n = n};
	memcpy(line->text, text, n);
	*logs.last = line;
	logs.last = &line->next;
	logs.bytes += n;
	if (!logs.running) {
		logs.running = true;
		logs.job = (struct green_job){.fn = deliver_main};
		green_run(&logs.job);
	}
	return true;
}

static bool
error_take_line(int level, const char *text, size_t n)
{
	return level < LOG_LEVEL_CRITICAL && line_queue(level, text, n);
}

static void
access_take_line(const char *text, size_t n)
{
	(void)line_queue(ACCESS, text, n);
}

/* The process is about to end, and Python will not run again. */
static void
lines_give_back(void)
{
	struct line *line;

	while ((line = line_take()) != NULL) {
		if (line->level != ACCESS)
			log_line((enum log_level)line->level, line->text, line->n);
		free(line);
	}
}

/* ---- beginning and end ---- */

static int
failed(void)
{
	PyObject *exception = error_take(), *class;
	bool told = false;

	class = PyObject_GetAttrString(logs.module, "LogConfigError");
	if (class != NULL && PyErr_GivenExceptionMatches(exception, class)) {
		error_log_message(exception);
		told = true;
	}
	if (!told)
		error_log("cannot prepare Python's logging", exception);
	PyErr_Clear();
	Py_XDECREF(class);
	Py_DECREF(exception);
	return -1;
}

/* On the loop's OS thread. */
static void
process_note(const struct app_config *config)
{
	logs.access = config->access_log;
	logs.pid = getpid();
	logs.tid = gettid();
}

int
logs_open(const struct app_config *config)
{
	PyObject *settings, *result = NULL;

	logs.module =
	    interpreter_import("_greenicorn_logs", "<greenicorn logs>", logs_source, functions);
	if (logs.module == NULL) {
		error_log_current("cannot prepare Python's logging");
		return -1;
	}
	if (config->is_worker)
		process_note(config);
	settings = hooks_settings(config->settings);
	if (settings != NULL)
		result = PyObject_CallMethod(logs.module, "setup", "(N)", settings);
	if (result == NULL)
		return failed();
	Py_DECREF(result);
	return 0;
}

static int
errors_begin(void)
{
	PyObject *level = PyObject_CallMethod(logs.module, "error_wanted", NULL);

	if (level == NULL)
		return failed();
	if (level != Py_None) {
		log_level_set(level_of(PyLong_AsLong(level)));
		log_divert(error_take_line, lines_give_back);
		logs.diverted = true;
	}
	Py_DECREF(level);
	return 0;
}

static int
accesses_begin(const struct settings *s)
{
	PyObject *format;
	int rc = 0;

	if (logs.access.log == NULL)
		return 0;
	format = PyObject_CallMethod(logs.module, "access_wanted", "s", s->access_log_format);
	if (format == NULL)
		return failed();
	if (format != Py_None) {
		const char *text = PyUnicode_AsUTF8(format);

		if (text == NULL ||
		    logs.access.divert(logs.access.log, text, access_take_line) == -1)
			rc = failed();
	}
	Py_DECREF(format);
	return rc;
}

int
logs_begin(const struct app_config *config)
{
	process_note(config);
	return errors_begin() == -1 || accesses_begin(config->settings) == -1 ? -1 : 0;
}

void
logs_end(void)
{
	if (logs.module == NULL)
		return;
	lines_deliver();
	log_divert_end();
	logs.diverted = false;
}

bool
logs_exception(const char *what, PyObject *exception)
{
	PyObject *result;

	if (!logs.diverted)
		return false;
	result = PyObject_CallMethod(logs.module, "exception", "sO", what, exception);
	if (result == NULL)
		PyErr_Clear();
	Py_XDECREF(result);
	return result != NULL;
}

void
logs_reopen(void)
{
	PyObject *result = PyObject_CallMethod(logs.module, "reopen", NULL);

	if (result == NULL)
		error_log_current("cannot reopen the log files of Python");
	Py_XDECREF(result);
}
