/* Development: see reload.h. */
#include "worker/python/reload.h"

#include "common/settings.h"
#include "worker/app/app.h"
#include "worker/python/errors.h"
#include "worker/python/interpreter.h"
#include "worker/python/reload_source.h"

static struct {
	PyObject *module; /* owned; NULL: neither setting is on */
	void (*changed)(const char *why);
	bool on;
} reload;

/* changed(why), for reload.py. */
static PyObject *
reload_changed(PyObject *module, PyObject *why)
{
	PyObject *bytes = PyUnicode_EncodeFSDefault(why);

	(void)module;
	if (bytes == NULL)
		return NULL;
	reload.changed(PyBytes_AS_STRING(bytes));
	Py_DECREF(bytes);
	Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"changed", reload_changed, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyObject *
files_list(const struct strlist *files)
{
	PyObject *list = PyList_New(0);

	for (size_t i = 0; list != NULL && i < files->n; i++) {
		PyObject *file = PyUnicode_DecodeFSDefault(files->items[i]);

		if (file == NULL || PyList_Append(list, file) == -1)
			Py_CLEAR(list);
		Py_XDECREF(file);
	}
	return list;
}

int
reload_open(const struct app_config *config)
{
	const struct settings *s = config->settings;
	PyObject *files, *result = NULL;

	if (!s->reload && !s->spew)
		return 0;
	reload.changed = config->changed;
	reload.on = s->reload;
	reload.module = interpreter_import(
	    "_greenicorn_reload", "<greenicorn reload>", reload_source, functions);
	files = files_list(&s->reload_extra_files);
	if (reload.module != NULL && files != NULL)
		result = PyObject_CallMethod(reload.module, "begin", "OsO",
		    s->reload ? Py_True : Py_False, s->reload_engine, files);
	Py_XDECREF(files);
	Py_XDECREF(result);
	if (result != NULL && s->spew) {
		result = PyObject_CallMethod(reload.module, "spew", NULL);
		Py_XDECREF(result);
	}
	return result != NULL ? 0 : -1;
}

int
reload_watch(void)
{
	PyObject *result;

	if (!reload.on)
		return 0;
	result = PyObject_CallMethod(reload.module, "watch", NULL);
	Py_XDECREF(result);
	return result != NULL ? 0 : -1;
}

PyObject *
reload_page(PyObject *exception)
{
	PyObject *page;

	if (!reload.on)
		return NULL;
	page = PyObject_CallMethod(reload.module, "page", "O", exception);
	if (page == NULL)
		error_log_current("cannot show why the application was not loaded");
	return page;
}
