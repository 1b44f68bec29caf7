/* Python exceptions in the error log: see errors.h. */
#include "worker/python/errors.h"

#include <string.h>

#include "common/log.h"
#include "worker/python/interpreter.h"
#include "worker/python/logs.h"

PyObject *
error_take(void)
{
#if PY_VERSION_HEX >= 0x030c0000
	PyObject *value = PyErr_GetRaisedException();
#else
	PyObject *type, *value, *trace;

	PyErr_Fetch(&type, &value, &trace);
	PyErr_NormalizeException(&type, &value, &trace);
	if (value != NULL && trace != NULL)
		PyException_SetTraceback(value, trace);
	Py_XDECREF(type);
	Py_XDECREF(trace);
#endif
	return value != NULL ? value : Py_NewRef(Py_None);
}

/*
 * Text as the log takes it, whatever surrogates and NULs are in it. Steals text.
 * PyMem_Free it; NULL: no memory.
 */
static char *
encode(PyObject *text)
{
	PyObject *bytes = NULL;
	char *copy = NULL;
	Py_ssize_t i, n;

	if (text != NULL && PyUnicode_Check(text))
		bytes = PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace");
	n = bytes != NULL ? PyBytes_GET_SIZE(bytes) : 0;
	if (bytes != NULL && (copy = PyMem_Malloc(n + 1)) != NULL) {
		memcpy(copy, PyBytes_AS_STRING(bytes), n + 1);
		for (i = 0; i < n; i++)
			if (copy[i] == '\0')
				copy[i] = '?';
	}
	Py_XDECREF(text);
	Py_XDECREF(bytes);
	PyErr_Clear();
	return copy;
}

void
error_log(const char *what, PyObject *exception)
{
	PyThreadState *state;
	char *text;

	if (logs_exception(what, exception))
		return;
	text = encode(interpreter_call("format_exception", &exception, 1));
	state = PyEval_SaveThread(); /* a full pipe makes logging wait */

	if (text != NULL)
		log_text(LOG_LEVEL_ERROR, what, text, strlen(text));
	else /* no memory, or a __str__ that raises */
		log_errorx("%s: %s", what, Py_TYPE(exception)->tp_name);
	PyEval_RestoreThread(state);
	PyMem_Free(text);
}

void
error_log_current(const char *what)
{
	PyObject *exception = error_take();

	error_log(what, exception);
	Py_DECREF(exception);
}

void
error_log_message(PyObject *exception)
{
	char *text = encode(PyObject_Str(exception));
	PyThreadState *state = PyEval_SaveThread();

	log_errorx("%s", text != NULL ? text : Py_TYPE(exception)->tp_name);
	PyEval_RestoreThread(state);
	PyMem_Free(text);
}
