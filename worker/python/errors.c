/* Python exceptions in the error log: see errors.h. */
#include "worker/python/errors.h"

#include "common/log.h"
#include "worker/python/interpreter.h"

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
 * Text as the log takes it: a C string without the last newline, whatever
 * surrogates and NULs are in it. Steals text. PyMem_Free it; NULL: no memory.
 */
static char *
encode(PyObject *text)
{
	PyObject *bytes = NULL;
	char *copy = NULL;
	Py_ssize_t i, n;

	if (text != NULL && PyUnicode_Check(text))
		bytes = PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace");
	if (bytes != NULL && (copy = PyMem_Malloc(PyBytes_GET_SIZE(bytes) + 1)) != NULL) {
		n = PyBytes_GET_SIZE(bytes);
		for (i = 0; i < n; i++)
			copy[i] =
			    PyBytes_AS_STRING(bytes)[i] != '\0' ? PyBytes_AS_STRING(bytes)[i] : '?';
		if (n > 0 && copy[n - 1] == '\n')
			n--;
		copy[n] = '\0';
	}
	Py_XDECREF(text);
	Py_XDECREF(bytes);
	PyErr_Clear();
	return copy;
}

/* log_errorx, without the GIL: a full pipe may make it wait. */
static void
log_text(const char *what, const char *between, const char *text)
{
	Py_BEGIN_ALLOW_THREADS log_errorx("%s%s%s", what, between, text);
	Py_END_ALLOW_THREADS
}

void
error_log(const char *what, PyObject *exception)
{
	char *text = encode(interpreter_call("format_exception", &exception, 1));

	if (text != NULL)
		log_text(what, "\n", text);
	else /* no memory, or a __str__ that raises */
		log_text(what, ": ", Py_TYPE(exception)->tp_name);
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

	log_text(text != NULL ? text : Py_TYPE(exception)->tp_name, "", "");
	PyMem_Free(text);
}
