/* environ: a copy of the template with what differs from request to request on top. */
#include "worker/python/environ.h"

#include <string.h>

#include "worker/app/app.h"
#include "worker/http/chars.h"
#include "worker/python/connection.h"
#include "worker/python/environ_maker.h"

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

	for (i = 0; i < ENVIRON_METHODS; i++)
		if (strlen(environ_methods[i]) == method.n &&
		    memcmp(environ_methods[i], method.p, method.n) == 0)
			return Py_NewRef(maker->methods[i]);
	return latin1(method);
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
		int byte = http_percent_byte(s.p + i, s.n - i);

		*out = byte >= 0 ? (char)byte : s.p[i];
		i += byte >= 0 ? 2 : 0;
	}
	str = PyUnicode_DecodeLatin1(copy, out - copy, NULL);
	if (copy != small)
		PyMem_Free(copy);
	return str;
}

/* The path below SCRIPT_NAME, decoded; an exception when it is not below it. */
static PyObject *
path_info(struct http_str script_name, struct http_str path)
{
	size_t n = script_name.n;
	PyObject *name;

	if (n == 0)
		return unquote(path);
	if (path.n >= n && memcmp(path.p, script_name.p, n) == 0 &&
	    (path.n == n || path.p[n] == '/'))
		return unquote((struct http_str){path.p + n, path.n - n});
	name = latin1(script_name);
	if (name != NULL)
		PyErr_Format(PyExc_ValueError,
		    "the request's path does not start with SCRIPT_NAME %R", name);
	Py_XDECREF(name);
	return NULL;
}

/* The template has the setting's; a trusted proxy may have named another one. */
static int
put_script_name(struct environ_maker *maker, PyObject *dict, struct http_str name)
{
	if (name.n == maker->script_name_n && memcmp(name.p, maker->script_name, name.n) == 0)
		return 0;
	return put(dict, maker->keys[KEY_SCRIPT_NAME], latin1(name));
}

/* The request line's keys. */
static int
put_line(struct environ_maker *maker, PyObject *dict, const struct app_exchange *x)
{
	const struct http_request *request = x->request;
	PyObject *uri = latin1(request->target), *path;

	if (uri == NULL)
		return -1;
	/* Mostly they are the same text: no query, nothing to decode. */
	if (x->script_name.n == 0 && request->path.p == request->target.p &&
	    request->path.n == request->target.n &&
	    memchr(request->path.p, '%', request->path.n) == NULL)
		path = Py_NewRef(uri);
	else
		path = path_info(x->script_name, request->path);
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
environ_new(struct environ_maker *maker, const struct app_exchange *x, PyObject *input,
    struct connection *connection)
{
	const struct http_request *request = x->request;
	PyObject *dict = PyDict_Copy(maker->template);
	size_t i;

	if (dict == NULL)
		return NULL;
	if (PyDict_SetItem(dict, maker->keys[KEY_INPUT], input) == -1 ||
	    PyDict_SetItem(dict, maker->keys[KEY_SOCKET], connection->socket) == -1 ||
	    PyDict_SetItem(dict, maker->keys[KEY_EARLY_HINTS], connection->hints) == -1 ||
	    put_line(maker, dict, x) == -1 || put_script_name(maker, dict, x->script_name) == -1 ||
	    put_peer(maker, dict, x) == -1)
		goto fail;
	for (i = 0; i < request->nheaders; i++)
		if (put_header(maker, dict, &request->headers[i]) == -1)
			goto fail;
	/* An absolute-form target says more than the Host field (RFC 9112 section 3.2.2). */
	if (request->authority.n > 0 &&
	    put(dict, maker->keys[KEY_HOST], latin1(request->authority)) == -1)
		goto fail;
	if (x->request_id.n > 0 &&
	    put(dict, maker->keys[KEY_REQUEST_ID], latin1(x->request_id)) == -1)
		goto fail;
	return dict;
fail:
	Py_DECREF(dict);
	return NULL;
}
