/* Load the application, with gunicorn's distinction of what went wrong: see load.h. */
#include "worker/python/load.h"

#include "common/contract.h"
#include "common/log.h"
#include "worker/python/errors.h"
#include "worker/python/interpreter.h"
#include "worker/python/reload.h"

/* A URI that names no application is one line; all else, SystemExit too, has a traceback. */
static int
log_failure(PyObject *exception)
{
	if (interpreter_is(exception, "AppImportError")) {
		error_log_message(exception);
		return WORKER_EXIT_APP;
	}
	error_log("Exception in worker process", exception);
	return WORKER_EXIT_BOOT;
}

int
load_failed(void)
{
	PyObject *exception = error_take();
	int code = log_failure(exception);

	Py_DECREF(exception);
	return code;
}

int
load_application(const char *uri, PyObject **callable)
{
	PyObject *text = PyUnicode_DecodeFSDefault(uri != NULL ? uri : ""), *exception;
	int code;

	*callable = NULL;
	if (text != NULL)
		*callable = interpreter_call("load", &text, 1);
	Py_XDECREF(text);
	if (*callable != NULL)
		return 0;
	exception = error_take();
	code = log_failure(exception);
	*callable = reload_page(exception); /* the next save may set it right */
	Py_DECREF(exception);
	return *callable != NULL ? 0 : code;
}
