/* wsgi.errors: see error_stream.h. It holds nothing, so there is nothing to flush. */
#include "worker/python/error_stream.h"

#include "common/log.h"

static int
stream_put(PyObject *text)
{
	PyThreadState *state;
	PyObject *bytes;

	if (!PyUnicode_Check(text)) {
		PyErr_Format(PyExc_TypeError, "write() argument must be str, not %.200s",
		    Py_TYPE(text)->tp_name);
		return -1;
	}
	bytes = PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace");
	if (bytes == NULL)
		return -1;
	state = PyEval_SaveThread(); /* a full pipe makes it wait */
	log_raw(PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes));
	PyEval_RestoreThread(state);
	Py_DECREF(bytes);
	return 0;
}

static PyObject *
stream_write(PyObject *Py_UNUSED(self), PyObject *text)
{
	return stream_put(text) == 0 ? PyLong_FromSsize_t(PyUnicode_GetLength(text)) : NULL;
}

static PyObject *
stream_writelines(PyObject *Py_UNUSED(self), PyObject *lines)
{
	PyObject *iterator = PyObject_GetIter(lines), *line;

	if (iterator == NULL)
		return NULL;
	while ((line = PyIter_Next(iterator)) != NULL) {
		int failed = stream_put(line);

		Py_DECREF(line);
		if (failed)
			break;
	}
	Py_DECREF(iterator);
	if (PyErr_Occurred())
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *
stream_flush(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
	Py_RETURN_NONE;
}

static PyObject *
stream_isatty(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
	Py_RETURN_FALSE;
}

static PyObject *
stream_get_encoding(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
	return PyUnicode_FromString("utf-8");
}

static PyMethodDef stream_methods[] = {
    {"write", stream_write, METH_O, NULL},
    {"writelines", stream_writelines, METH_O, NULL},
    {"flush", stream_flush, METH_NOARGS, NULL},
    {"isatty", stream_isatty, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef stream_getset[] = {
    {"encoding", stream_get_encoding, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyTypeObject stream_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "greenicorn.ErrorStream",
    .tp_doc = "The error log: wsgi.errors.",
    .tp_basicsize = sizeof(PyObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_methods = stream_methods,
    .tp_getset = stream_getset,
};

PyObject *
error_stream_new(void)
{
	return PyType_Ready(&stream_type) == 0 ? PyObject_New(PyObject, &stream_type) : NULL;
}
