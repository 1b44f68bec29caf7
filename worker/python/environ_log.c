/* environ for the access log's %({NAME}e)s, after the application has had it. */
#include "worker/python/environ.h"

#include <string.h>
#include <strings.h>

#include "worker/app/app.h"

/* A borrowed reference to the value whose key is name without regard to case, or NULL. */
static PyObject *
find_any_case(PyObject *dict, const char *name)
{
	PyObject *key, *value = PyDict_GetItemString(dict, name);
	Py_ssize_t at = 0;
	const char *text;

	if (value != NULL)
		return value;
	while (PyDict_Next(dict, &at, &key, &value)) {
		if (!PyUnicode_Check(key) || (text = PyUnicode_AsUTF8(key)) == NULL)
			PyErr_Clear();
		else if (strcasecmp(text, name) == 0)
			return value;
	}
	return NULL;
}

/* str() of the application's objects is the application's code: it may raise. */
static char *
text_of(PyObject *value)
{
	PyObject *str, *bytes = NULL;
	char *copy = NULL;

	Py_INCREF(value);
	str = PyObject_Str(value);
	Py_DECREF(value);
	if (str != NULL)
		bytes = PyUnicode_AsEncodedString(str, "utf-8", "backslashreplace");
	if (bytes != NULL)
		copy = strdup(PyBytes_AS_STRING(bytes));
	else
		PyErr_Clear();
	Py_XDECREF(str);
	Py_XDECREF(bytes);
	return copy;
}

void
environ_log(PyObject *dict, struct app_exchange *x)
{
	PyObject *value;
	size_t i;

	for (i = 0; i < x->nlog; i++) {
		value = find_any_case(dict, x->log_names[i]);
		if (value != NULL && x->log_values[i] == NULL)
			x->log_values[i] = text_of(value);
	}
}
