/* Load the application, with gunicorn's distinction of what went wrong: see load.h. */
#include "worker/python/load.h"

#include "common/contract.h"
#include "common/log.h"
#include "worker/python/errors.h"
#include "worker/python/interpreter.h"

/* A URI that names no application is one line; all else, SystemExit too, has a traceback. */
int
load_failed(void)
{
	PyObject *exception = error_take();
	int code = WORKER_EXIT_BOOT;

	if (interpreter_is(exception, "AppImportError")) {
		code = WORKER_EXIT_APP;
		error_log_message(exception);
	} else
		error_log("Exception in worker process", exception);
	Py_DECREF(exception);
	return code;
}

int
load_application(const char *uri, PyObject **callable)
{
	PyObject *text = PyUnicode_DecodeFSDefault(uri != NULL ? uri : "");

	*callable = NULL;
	if (text != NULL)
		*callable = interpreter_call("load", &text, 1);
	Py_XDECREF(text);
	return *callable != NULL ? 0 : load_failed();
}
