/* What environ.c and environ_maker.c share: what all requests have in common, made once. */
#ifndef PYTHON_ENVIRON_MAKER_H
#define PYTHON_ENVIRON_MAKER_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "worker/python/header_names.h"

/* Keys that requests set, interned once. */
enum key {
	KEY_INPUT,
	KEY_SOCKET,
	KEY_EARLY_HINTS,
	KEY_URL_SCHEME,
	KEY_METHOD,
	KEY_QUERY,
	KEY_RAW_URI,
	KEY_PROTOCOL,
	KEY_PATH_INFO,
	KEY_SCRIPT_NAME,
	KEY_REMOTE_ADDR,
	KEY_REMOTE_PORT,
	KEY_SERVER_NAME,
	KEY_SERVER_PORT,
	KEY_HOST,
	KEY_COOKIE,
	KEY_REQUEST_ID,
	NKEYS
};

#define ENVIRON_METHODS 9
extern const char *const environ_methods[ENVIRON_METHODS];

/* The last text of a kind and its str: addresses and names repeat. */
struct last_text {
	char text[64];
	PyObject *str; /* owned */
};

struct environ_maker {
	PyObject *template; /* owned, like all below */
	PyObject *keys[NKEYS];
	PyObject *methods[ENVIRON_METHODS];
	PyObject *http_1_0;
	struct last_text scheme, remote_addr, server_name, server_port;
	struct header_names *names;
	char *script_name;
	size_t script_name_n;
};

#endif
