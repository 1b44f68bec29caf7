/*
 * The template that environs are copies of, and the strings that they are made
 * of. The template is never changed once made: copying it may run the garbage
 * collector, hence other requests.
 */
#include "worker/python/environ_maker.h"

#include <string.h>

#include "worker/app/app.h"
#include "worker/python/environ.h"
#include "worker/python/error_stream.h"
#include "worker/python/file_wrapper.h"

static const char *const key_names[NKEYS] = {
    [KEY_INPUT] = "wsgi.input",
    [KEY_SOCKET] = "gunicorn.socket",
    [KEY_EARLY_HINTS] = "wsgi.early_hints",
    [KEY_URL_SCHEME] = "wsgi.url_scheme",
    [KEY_METHOD] = "REQUEST_METHOD",
    [KEY_QUERY] = "QUERY_STRING",
    [KEY_RAW_URI] = "RAW_URI",
    [KEY_PROTOCOL] = "SERVER_PROTOCOL",
    [KEY_PATH_INFO] = "PATH_INFO",
    [KEY_SCRIPT_NAME] = "SCRIPT_NAME",
    [KEY_REMOTE_ADDR] = "REMOTE_ADDR",
    [KEY_REMOTE_PORT] = "REMOTE_PORT",
    [KEY_SERVER_NAME] = "SERVER_NAME",
    [KEY_SERVER_PORT] = "SERVER_PORT",
    [KEY_HOST] = "HTTP_HOST",
    [KEY_COOKIE] = "HTTP_COOKIE",
    [KEY_REQUEST_ID] = "greenicorn.request_id",
};

const char *const environ_methods[ENVIRON_METHODS] = {
    "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE"};

/* Room in the template's table beyond its own keys, for a request's headers without growing. */
#define SPARE_KEYS 6

/* dict[name] = value, with value's reference taken over. 0 or -1. */
static int
put(PyObject *dict, const char *name, PyObject *value)
{
	int result = value != NULL ? PyDict_SetItemString(dict, name, value) : -1;

	Py_XDECREF(value);
	return result;
}

/* What never changes, and the commonest value of what does. */
static int
template_fill(PyObject *dict, const struct app_config *config)
{
	const struct {
		const char *name;
		PyObject *value;
	} rows[] = {
	    {"wsgi.version", Py_BuildValue("(ii)", 1, 0)},
	    {"wsgi.url_scheme", PyUnicode_InternFromString("http")},
	    {"wsgi.input", Py_NewRef(Py_None)},
	    {"gunicorn.socket", Py_NewRef(Py_None)},
	    {"wsgi.early_hints", Py_NewRef(Py_None)},
	    {"wsgi.errors", error_stream_new()},
	    {"wsgi.multithread", PyBool_FromLong(config->multithread)},
	    {"wsgi.multiprocess", PyBool_FromLong(config->multiprocess)},
	    {"wsgi.run_once", Py_NewRef(Py_False)},
	    {"wsgi.file_wrapper", Py_NewRef((PyObject *)&file_wrapper_type)},
	    {"wsgi.input_terminated", Py_NewRef(Py_True)},
	    {"SERVER_SOFTWARE",
		PyUnicode_DecodeLatin1(config->software, strlen(config->software), NULL)},
	    {"REQUEST_METHOD", PyUnicode_InternFromString("GET")},
	    {"QUERY_STRING", PyUnicode_New(0, 0)},
	    {"RAW_URI", Py_NewRef(Py_None)},
	    {"SERVER_PROTOCOL", PyUnicode_InternFromString("HTTP/1.1")},
	    {"SCRIPT_NAME",
		PyUnicode_DecodeLatin1(config->script_name, strlen(config->script_name), NULL)},
	    {"PATH_INFO", Py_NewRef(Py_None)},
	    {"REMOTE_ADDR", Py_NewRef(Py_None)},
	    {"SERVER_NAME", Py_NewRef(Py_None)},
	    {"SERVER_PORT", Py_NewRef(Py_None)},
	};
	int result = 0;
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (put(dict, rows[i].name, rows[i].value) == -1)
			result = -1;
	return result;
}

/* A dict's table never shrinks when keys go, and a copy has the same table. */
static int
template_widen(PyObject *dict)
{
	char name[] = "spare 0";
	int i;

	for (i = 0; i < SPARE_KEYS; i++) {
		name[6] = '0' + i;
		if (PyDict_SetItemString(dict, name, Py_None) == -1)
			return -1;
	}
	for (i = 0; i < SPARE_KEYS; i++) {
		name[6] = '0' + i;
		if (PyDict_DelItemString(dict, name) == -1)
			return -1;
	}
	return 0;
}

static int
strings_make(struct environ_maker *maker)
{
	size_t i;

	for (i = 0; i < NKEYS; i++)
		if ((maker->keys[i] = PyUnicode_InternFromString(key_names[i])) == NULL)
			return -1;
	for (i = 0; i < ENVIRON_METHODS; i++)
		if ((maker->methods[i] = PyUnicode_InternFromString(environ_methods[i])) == NULL)
			return -1;
	maker->http_1_0 = PyUnicode_InternFromString("HTTP/1.0");
	return maker->http_1_0 != NULL ? 0 : -1;
}

struct environ_maker *
environ_maker_new(const struct app_config *config)
{
	struct environ_maker *maker = PyMem_Calloc(1, sizeof(*maker));

	if (maker == NULL) {
		PyErr_NoMemory();
		return NULL;
	}
	maker->script_name_n = strlen(config->script_name);
	if ((maker->script_name = PyMem_Malloc(maker->script_name_n + 1)) == NULL) {
		PyErr_NoMemory();
		goto fail;
	}
	memcpy(maker->script_name, config->script_name, maker->script_name_n + 1);
	if (strings_make(maker) == -1 || (maker->names = header_names_new()) == NULL ||
	    (maker->template = PyDict_New()) == NULL ||
	    template_fill(maker->template, config) == -1 || template_widen(maker->template) == -1)
		goto fail;
	return maker;
fail:
	environ_maker_free(maker);
	return NULL;
}

void
environ_maker_free(struct environ_maker *maker)
{
	size_t i;

	if (maker == NULL)
		return;
	for (i = 0; i < NKEYS; i++)
		Py_XDECREF(maker->keys[i]);
	for (i = 0; i < ENVIRON_METHODS; i++)
		Py_XDECREF(maker->methods[i]);
	Py_XDECREF(maker->http_1_0);
	Py_XDECREF(maker->scheme.str);
	Py_XDECREF(maker->remote_addr.str);
	Py_XDECREF(maker->server_name.str);
	Py_XDECREF(maker->server_port.str);
	Py_XDECREF(maker->template);
	header_names_free(maker->names);
	PyMem_Free(maker->script_name);
	PyMem_Free(maker);
}
