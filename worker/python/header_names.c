/*
 * Header names to environ keys: see header_names.h. The table is keyed by names
 * as clients write them ("Host" and "host" are two entries of one key), so that
 * a known name costs a look at eight of its bytes and a comparison.
 */
#include "worker/python/header_names.h"

#include <stdint.h>
#include <string.h>

#define SLOTS      512 /* a power of two */
#define PROBES     8   /* clients choose names: what they can fill and slow down is bounded */
#define MAX_NAME   52  /* longer names are not kept; a slot fills a cache line */
#define PREFIX     "HTTP_"
#define PREFIX_LEN 5

struct slot {
	PyObject *key; /* owned; NULL: free */
	uint32_t n;
	char name[MAX_NAME];
};

struct header_names {
	unsigned char upper[256]; /* '-' to '_', 'a' to 'A', …; all non-ASCII to 0 */
	struct slot slots[SLOTS];
};

/* Kept from the start, as browsers and as HTTP/2 proxies write them: junk cannot crowd them out. */
static const char *const common[] = {"Content-Type", "Content-Length", "Host", "Cookie",
    "User-Agent", "Accept", "Accept-Encoding", "Accept-Language", "Authorization", "Cache-Control",
    "Connection", "Forwarded", "If-Modified-Since", "If-None-Match", "Origin", "Pragma", "Priority",
    "Range", "Referer", "Sec-Fetch-Dest", "Sec-Fetch-Mode", "Sec-Fetch-Site", "Sec-Fetch-User",
    "Transfer-Encoding", "Upgrade-Insecure-Requests", "Via", "X-Forwarded-For", "X-Forwarded-Host",
    "X-Forwarded-Port", "X-Forwarded-Proto", "X-Real-IP", "X-Request-ID", "X-Requested-With",
    "content-type", "content-length", "host", "cookie", "user-agent", "accept", "accept-encoding",
    "accept-language", "authorization", "connection", "sec-ch-ua", "sec-ch-ua-mobile",
    "sec-ch-ua-platform", "traceparent", "tracestate", "x-forwarded-for", "x-forwarded-host",
    "x-forwarded-port", "x-forwarded-proto", "x-request-id"};

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

/* A new reference to the key of any name; 1, 0 or -1 as header_names_key. */
static int
key_of(const unsigned char *upper, const char *name, size_t n, PyObject **key)
{
	char small[256], *copy = small;
	size_t i;

	*key = NULL;
	if (n > sizeof(small) && (copy = PyMem_Malloc(n)) == NULL) {
		PyErr_NoMemory();
		return -1;
	}
	for (i = 0; i < n && (copy[i] = upper[(unsigned char)name[i]]) != '\0'; i++)
		;
	if (i == n)
		*key = key_make(copy, n);
	if (copy != small)
		PyMem_Free(copy);
	if (i < n)
		return 0;
	return *key != NULL ? 1 : -1;
}

/* Of the first and the last four bytes: "…-Host", "…-Port" and "…-For" differ there. */
static uint32_t
name_hash(const char *name, size_t n)
{
	uint32_t first = 0, last = 0, hash;

	if (n >= 4) {
		memcpy(&first, name, 4);
		memcpy(&last, name + n - 4, 4);
	} else
		memcpy(&first, name, n);
	hash = (first * 2654435761u) ^ (last * 2246822507u) ^ (uint32_t)n;
	return hash ^ hash >> 15;
}

int
header_names_key(struct header_names *names, const char *name, size_t n, PyObject **key)
{
	struct slot *slot = NULL;
	uint32_t hash;
	int i, result;

	hash = name_hash(name, n);
	for (i = 0; n <= MAX_NAME && i < PROBES; i++) {
		slot = &names->slots[(hash + i) & (SLOTS - 1)];
		if (slot->key == NULL)
			break;
		if (slot->n == n && memcmp(slot->name, name, n) == 0) {
			*key = Py_NewRef(slot->key);
			return 1;
		}
	}
	result = key_of(names->upper, name, n, key);
	if (result == 1 && slot != NULL && slot->key == NULL) {
		PyUnicode_InternInPlace(
		    key); /* the application's constants are then the same object */
		memcpy(slot->name, name, n);
		slot->n = n;
		slot->key = Py_NewRef(*key);
	}
	return result;
}

/* Only tokens come here (RFC 9110 section 5.6.2), so all of it is ASCII. */
static void
upper_fill(unsigned char *upper)
{
	int c;

	for (c = 0; c < 128; c++)
		upper[c] = c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c;
	upper['-'] = '_';
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
