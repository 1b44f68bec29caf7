/* Children of requests: see forked.h. */
#include "worker/python/forked.h"

#include <pthread.h>
#include <stdbool.h>
#include <unistd.h>

#include "common/log.h"
#include "worker/python/errors.h"
#include "worker/python/interpreter.h"
#include "worker/python/serving.h"

static bool forked;

static void
after_fork(void)
{
	forked = true;
	serving_disconnect();
}

void
forked_watch(void)
{
	static bool watching;

	forked = false;
	if (watching)
		return;
	watching = true;
	if (pthread_atfork(NULL, NULL, after_fork) != 0)
		log_warnx("no memory to watch for forks");
}

/* sys.exit(n) in the child means n; whatever else came back is a mistake. */
static int
exit_status(void)
{
	PyObject *exception, *status = NULL;
	int n = 1;

	if (!PyErr_Occurred()) {
		log_errorx("A process that a request has forked came back from it");
		return n;
	}
	exception = error_take();
	if (!PyErr_GivenExceptionMatches(exception, PyExc_SystemExit))
		error_log("Error in a process that a request has forked", exception);
	else if ((status = interpreter_call("exit_status", &exception, 1)) != NULL)
		n = (int)PyLong_AsLong(status);
	Py_XDECREF(status);
	Py_DECREF(exception);
	return n;
}

void
forked_check(void)
{
	int status;

	if (__builtin_expect(!forked, 1))
		return;
	status = exit_status();
	interpreter_flush();
	_exit(status);
}
