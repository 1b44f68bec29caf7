/* Header names to environ keys: see header_names.h. */
#include "worker/python/header_names.h"

#include <stdint.h>
#include <string.h>

#define SLOTS      1024 /* a power of two */
#define MAX_KEPT   512  /* clients choose names: what they can fill is bounded */
#define MAX_NAME   64   /* longer names are not kept */
#define PREFIX     "HTTP_"
#define PREFIX_LEN 5

struct slot {
	uint32_t hash;
	uint32_t n;
	const char *name; /* within key, in upper case; NULL: free */
	PyObject *key;    /* owned */
};

struct header_names {
	size_t kept;
	unsigned char upper[256]; /* '-' to '_', 'a' to 'A', …; '_' to 0 */
	struct slot slots[SLOTS];
};

/* Kept from the start, so that junk cannot crowd them out. */
static const char *const common[] = {"CONTENT-TYPE", "CONTENT-LENGTH", "HOST", "COOKIE",
    "USER-AGENT", "ACCEPT", "ACCEPT-ENCODING", "ACCEPT-LANGUAGE", "ACCEPT-CHARSET", "AUTHORIZATION",
    "CACHE-CONTROL", "CONNECTION", "CONTENT-ENCODING", "DATE", "DNT", "EXPECT", "FORWARDED",
    "IF-MATCH", "IF-MODIFIED-SINCE", "IF-NONE-MATCH", "IF-RANGE", "KEEP-ALIVE", "ORIGIN", "PRAGMA",
    "PRIORITY", "RANGE", "REFERER", "SEC-CH-UA", "SEC-CH-UA-MOBILE", "SEC-CH-UA-PLATFORM",
    "SEC-FETCH-DEST", "SEC-FETCH-MODE", "SEC-FETCH-SITE", "SEC-FETCH-USER", "TE", "TRACEPARENT",
    "TRACESTATE", "TRANSFER-ENCODING", "UPGRADE", "UPGRADE-INSECURE-REQUESTS", "VIA",
    "X-FORWARDED-FOR", "X-FORWARDED-HOST", "X-FORWARDED-PORT", "X-FORWARDED-PROTO", "X-REAL-IP",
    "X-REQUEST-ID", "X-REQUESTED-WITH"};

/* CGI's two names without prefix. */
static int
is_bare(const char *name, size_t n)
{
	return (n == 12 && memcmp(name, "CONTENT_TYPE", n) == 0) ||
	       (n == 14 && memcmp(name, "CONTENT_LENGTH", n) == 0);
}

/* The key for a name in upper case. A new reference or NULL. */
static PyObject *
key_make(const char *name, size_t n)
{
	size_t prefix = is_bare(name, n) ? 0 : PREFIX_LEN;
	PyObject *key = PyUnicode_New(prefix + n, 127);

	if (key == NULL)
		return NULL;
	memcpy(PyUnicode_1BYTE_DATA(key), PREFIX, prefix);
	memcpy(PyUnicode_1BYTE_DATA(key) + prefix, name, n);
	return key;
}

/* The slot that has the name, or where it would go. */
static struct slot *
slot_find(struct header_names *names, const char *name, size_t n, uint32_t hash)
{
	size_t at = hash & (SLOTS - 1);
	struct slot *slot;

	for (;; at = (at + 1) & (SLOTS - 1)) {
		slot = &names->slots[at];
		if (slot->name == NULL)
			return slot;
		if (slot->hash == hash && slot->n == n && memcmp(slot->name, name, n) == 0)
			return slot;
	}
}

static PyObject *
key_keep(struct header_names *names, struct slot *slot, const char *name, size_t n, uint32_t hash)
{
	PyObject *key = key_make(name, n);

	if (key == NULL || names->kept >= MAX_KEPT)
		return key;
	PyUnicode_InternInPlace(&key); /* the application's constants are then the same object */
	slot->hash = hash;
	slot->n = n;
	slot->key = Py_NewRef(key);
	slot->name = (const char *)PyUnicode_1BYTE_DATA(key) + PyUnicode_GET_LENGTH(key) - n;
	names->kept++;
	return key;
}

static int
key_long(const unsigned char *upper, const char *name, size_t n, PyObject **key)
{
	char *copy = PyMem_Malloc(n);
	size_t i;

	if (copy == NULL) {
		PyErr_NoMemory();
		return -1;
	}
	for (i = 0; i < n && (copy[i] = upper[(unsigned char)name[i]]) != '\0'; i++)
		;
	*key = i == n ? key_make(copy, n) : NULL;
	PyMem_Free(copy);
	if (i < n)
		return 0;
	return *key != NULL ? 1 : -1;
}

int
header_names_key(struct header_names *names, const char *name, size_t n, PyObject **key)
{
	char copy[MAX_NAME];
	uint32_t hash = 2166136261u; /* FNV-1a */
	struct slot *slot;
	size_t i;

	if (n > MAX_NAME)
		return key_long(names->upper, name, n, key);
	for (i = 0; i < n; i++) {
		copy[i] = names->upper[(unsigned char)name[i]];
		if (copy[i] == '\0')
			return 0;
		hash = (hash ^ (unsigned char)copy[i]) * 16777619u;
	}
	slot = slot_find(names, copy, n, hash);
	if (slot->name != NULL)
		*key = Py_NewRef(slot->key);
	else
		*key = key_keep(names, slot, copy, n, hash);
	return *key != NULL ? 1 : -1;
}

/* Only tokens come here (RFC 9110 section 5.6.2), so all of it is ASCII. */
static void
upper_fill(unsigned char *upper)
{
	int c;

	for (c = 0; c < 128; c++)
		upper[c] = c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c;
	upper['-'] = '_';
	upper['_'] = '\0';
}

struct header_names *
header_names_new(void)
{
	struct header_names *names = PyMem_Calloc(1, sizeof(*names));
	PyObject *key;
	size_t i;

	if (names == NULL) {
		PyErr_NoMemory();
		return NULL;
	}
	upper_fill(names->upper);
	for (i = 0; i < sizeof(common) / sizeof(common[0]); i++) {
		if (header_names_key(names, common[i], strlen(common[i]), &key) == -1) {
			header_names_free(names);
			return NULL;
		}
		Py_DECREF(key);
	}
	return names;
}

void
header_names_free(struct header_names *names)
{
	size_t i;

	if (names == NULL)
		return;
	for (i = 0; i < SLOTS; i++)
		Py_XDECREF(names->slots[i].key);
	PyMem_Free(names);
}
