/*
 * environ: a copy of a template with what differs from request to request on
 * top. The template is never changed once made, and what a request sets is set
 * on its own copy only: copying may run the garbage collector, hence other requests.
 */
#include "worker/python/environ.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "worker/app/app.h"
#include "worker/python/error_stream.h"
#include "worker/python/file_wrapper.h"
#include "worker/python/header_names.h"

/* Keys that requests set, interned once. */
enum key {
	KEY_INPUT,
	KEY_URL_SCHEME,
	KEY_METHOD,
	KEY_QUERY,
	KEY_RAW_URI,
	KEY_PROTOCOL,
	KEY_PATH_INFO,
	KEY_REMOTE_ADDR,
	KEY_REMOTE_PORT,
	KEY_SERVER_NAME,
	KEY_SERVER_PORT,
	KEY_HOST,
	KEY_COOKIE,
	NKEYS
};

static const char *const key_names[NKEYS] = {"wsgi.input", "wsgi.url_scheme", "REQUEST_METHOD",
    "QUERY_STRING", "RAW_URI", "SERVER_PROTOCOL", "PATH_INFO", "REMOTE_ADDR", "REMOTE_PORT",
    "SERVER_NAME", "SERVER_PORT", "HTTP_HOST", "HTTP_COOKIE"};

static const char *const method_names[] = {
    "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE"};
#define NMETHODS (sizeof(method_names) / sizeof(method_names[0]))

/* The last text of a kind and its str: addresses and names repeat. */
struct last_text {
	char text[64];
	PyObject *str; /* owned */
};

struct environ_maker {
	PyObject *template; /* owned, like all below */
	PyObject *keys[NKEYS];
	PyObject *methods[NMETHODS];
	PyObject *http_1_0;
	struct last_text scheme, remote_addr, server_name, server_port;
	struct header_names *names;
	char *script_name;
	size_t script_name_n;
};

/* Room in the template's table beyond its own keys, for a request's headers without growing. */
#define SPARE_KEYS 6

static PyObject *
latin1(struct http_str s)
{
	return PyUnicode_DecodeLatin1(s.p, s.n, NULL);
}

/* dict[key] = value, with value's reference taken over. 0 or -1. */
static int
put(PyObject *dict, PyObject *key, PyObject *value)
{
	int result = value != NULL ? PyDict_SetItem(dict, key, value) : -1;

	Py_XDECREF(value);
	return result;
}

static int
put_named(PyObject *dict, const char *name, PyObject *value)
{
	PyObject *key = PyUnicode_InternFromString(name);
	int result = -1;

	if (key == NULL)
		Py_XDECREF(value);
	else
		result = put(dict, key, value);
	Py_XDECREF(key);
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
	    {"wsgi.errors", error_stream_new()},
	    {"wsgi.multithread", Py_NewRef(Py_True)},
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
		if (put_named(dict, rows[i].name, rows[i].value) == -1)
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
	for (i = 0; i < NMETHODS; i++)
		if ((maker->methods[i] = PyUnicode_InternFromString(method_names[i])) == NULL)
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
	for (i = 0; i < NMETHODS; i++)
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

/* A new reference to the str of a text that is mostly the same as the last time. */
static PyObject *
last_text(struct last_text *last, const char *text)
{
	size_t n = strlen(text);
	PyObject *str;

	if (last->str != NULL && strcmp(last->text, text) == 0)
		return Py_NewRef(last->str);
	str = PyUnicode_DecodeLatin1(text, n, NULL);
	if (str != NULL && n < sizeof(last->text)) {
		memcpy(last->text, text, n + 1);
		Py_XDECREF(last->str);
		last->str = Py_NewRef(str);
	}
	return str;
}

/* A new reference. */
static PyObject *
method_str(const struct environ_maker *maker, struct http_str method)
{
	size_t i;

	for (i = 0; i < NMETHODS; i++)
		if (strlen(method_names[i]) == method.n &&
		    memcmp(method_names[i], method.p, method.n) == 0)
			return Py_NewRef(maker->methods[i]);
	return latin1(method);
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-decoded once, bytes as latin-1; what is no escape stays as it is. */
static PyObject *
unquote(struct http_str s)
{
	char small[1024], *copy = small, *out;
	PyObject *str;
	size_t i;

	if (s.n == 0 || memchr(s.p, '%', s.n) == NULL)
		return latin1(s);
	if (s.n > sizeof(small) && (copy = PyMem_Malloc(s.n)) == NULL)
		return PyErr_NoMemory();
	for (i = 0, out = copy; i < s.n; i++, out++) {
		if (s.p[i] == '%' && i + 2 < s.n && hex_digit(s.p[i + 1]) >= 0 &&
		    hex_digit(s.p[i + 2]) >= 0) {
			*out = hex_digit(s.p[i + 1]) << 4 | hex_digit(s.p[i + 2]);
			i += 2;
		} else
			*out = s.p[i];
	}
	str = PyUnicode_DecodeLatin1(copy, out - copy, NULL);
	if (copy != small)
		PyMem_Free(copy);
	return str;
}

/* The path below SCRIPT_NAME, decoded; an exception when it is not below it. */
static PyObject *
path_info(const struct environ_maker *maker, struct http_str path)
{
	size_t n = maker->script_name_n;

	if (n == 0)
		return unquote(path);
	if (path.n >= n && memcmp(path.p, maker->script_name, n) == 0 &&
	    (path.n == n || path.p[n] == '/'))
		return unquote((struct http_str){path.p + n, path.n - n});
	PyErr_Format(PyExc_ValueError, "the request's path does not start with SCRIPT_NAME %s",
	    maker->script_name);
	return NULL;
}

/* The request line's keys. */
static int
put_line(struct environ_maker *maker, PyObject *dict, const struct http_request *request)
{
	PyObject *uri = latin1(request->target), *path;

	if (uri == NULL)
		return -1;
	/* Mostly they are the same text: no query, nothing to decode. */
	if (maker->script_name_n == 0 && request->path.p == request->target.p &&
	    request->path.n == request->target.n &&
	    memchr(request->path.p, '%', request->path.n) == NULL)
		path = Py_NewRef(uri);
	else
		path = path_info(maker, request->path);
	if (put(dict, maker->keys[KEY_RAW_URI], uri) == -1) {
		Py_XDECREF(path);
		return -1;
	}
	if (put(dict, maker->keys[KEY_PATH_INFO], path) == -1)
		return -1;
	if (request->query.n > 0 && put(dict, maker->keys[KEY_QUERY], latin1(request->query)) == -1)
		return -1;
	if ((request->method.n != 3 || memcmp(request->method.p, "GET", 3) != 0) &&
	    put(dict, maker->keys[KEY_METHOD], method_str(maker, request->method)) == -1)
		return -1;
	if (request->minor == 0)
		return PyDict_SetItem(dict, maker->keys[KEY_PROTOCOL], maker->http_1_0);
	return 0;
}

/* On a unix socket the client's Host says who we are; PEP 3333 wants neither key empty. */
static int
put_server_from_host(struct environ_maker *maker, PyObject *dict, const struct app_exchange *x)
{
	struct http_str name = x->request->host, port = {"80", 2};
	const char *colon = NULL;

	if (strcmp(x->peer->scheme, "https") == 0)
		port = (struct http_str){"443", 3};
	if (name.n > 0)
		colon = memrchr(name.p, ':', name.n);
	if (colon != NULL &&
	    memchr(colon, ']', name.p + name.n - colon) == NULL) { /* not in [v6] */
		if (name.p + name.n - colon > 1)
			port = (struct http_str){colon + 1, name.p + name.n - colon - 1};
		name.n = colon - name.p;
	}
	if (name.n == 0)
		name = (struct http_str){"localhost", 9};
	if (put(dict, maker->keys[KEY_SERVER_NAME], latin1(name)) == -1)
		return -1;
	return put(dict, maker->keys[KEY_SERVER_PORT], latin1(port));
}

static int
put_peer(struct environ_maker *maker, PyObject *dict, const struct app_exchange *x)
{
	const struct app_peer *peer = x->peer;

	if (strcmp(peer->scheme, "http") != 0 &&
	    put(dict, maker->keys[KEY_URL_SCHEME], last_text(&maker->scheme, peer->scheme)) == -1)
		return -1;
	if (put(dict, maker->keys[KEY_REMOTE_ADDR],
		last_text(&maker->remote_addr, peer->remote_addr)) == -1)
		return -1;
	if (*peer->remote_port != '\0' &&
	    put(dict, maker->keys[KEY_REMOTE_PORT],
		PyUnicode_DecodeLatin1(peer->remote_port, strlen(peer->remote_port), NULL)) == -1)
		return -1;
	if (*peer->server_name == '\0')
		return put_server_from_host(maker, dict, x);
	if (put(dict, maker->keys[KEY_SERVER_NAME],
		last_text(&maker->server_name, peer->server_name)) == -1)
		return -1;
	return put(
	    dict, maker->keys[KEY_SERVER_PORT], last_text(&maker->server_port, peer->server_port));
}

/* A name's second value: RFC 6265 section 5.4 for Cookie, RFC 9110 section 5.3 for all others. */
static int
join(struct environ_maker *maker, PyObject *dict, PyObject *key, PyObject *value)
{
	PyObject *before = PyDict_GetItemWithError(dict, key), *both;
	int cookie;

	if (before == NULL)
		return -1;
	cookie = PyUnicode_Compare(key, maker->keys[KEY_COOKIE]) == 0;
	both = PyUnicode_FromFormat(cookie ? "%U; %U" : "%U,%U", before, value);
	return put(dict, key, both);
}

static int
put_header(struct environ_maker *maker, PyObject *dict, const struct http_header *header)
{
	PyObject *key, *value;
	Py_ssize_t before = PyDict_Size(dict);
	int result;

	result = header_names_key(maker->names, header->name.p, header->name.n, &key);
	if (result != 1)
		return result;
	value = latin1(header->value);
	if (value == NULL || PyDict_SetDefault(dict, key, value) == NULL)
		result = -1;
	else if (PyDict_Size(dict) == before)
		result = join(maker, dict, key, value);
	else
		result = 0;
	Py_DECREF(key);
	Py_XDECREF(value);
	return result;
}

PyObject *
environ_new(struct environ_maker *maker, const struct app_exchange *x, PyObject *input)
{
	const struct http_request *request = x->request;
	PyObject *dict = PyDict_Copy(maker->template);
	size_t i;

	if (dict == NULL)
		return NULL;
	if (PyDict_SetItem(dict, maker->keys[KEY_INPUT], input) == -1 ||
	    put_line(maker, dict, request) == -1 || put_peer(maker, dict, x) == -1)
		goto fail;
	for (i = 0; i < request->nheaders; i++)
		if (put_header(maker, dict, &request->headers[i]) == -1)
			goto fail;
	/* An absolute-form target says more than the Host field (RFC 9112 section 3.2.2). */
	if (request->authority.n > 0 &&
	    put(dict, maker->keys[KEY_HOST], latin1(request->authority)) == -1)
		goto fail;
	return dict;
fail:
	Py_DECREF(dict);
	return NULL;
}

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
