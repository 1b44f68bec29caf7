/*
 * Any bytes as a request head. The first byte chooses the limits; the rest comes whole
 * and in pieces. Whatever is accepted must be what a strict reader would see too.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tests/fuzz/fuzz.h"
#include "worker/http/request.h"

static void
check_str(struct http_str s, const char *head, size_t n)
{
	static const char root[] = "/";

	if (s.n == 0 || (s.n == 1 && s.p[0] == root[0]))
		return;
	FUZZ_ASSERT(s.p >= head && s.p + s.n <= head + n);
	FUZZ_ASSERT(memchr(s.p, '\r', s.n) == NULL);
	FUZZ_ASSERT(memchr(s.p, '\n', s.n) == NULL);
	FUZZ_ASSERT(memchr(s.p, '\0', s.n) == NULL);
}

/* Fields that decide framing, found again by the plainest of means. */
static size_t
count_fields(const struct http_request *req, const char *name)
{
	size_t count = 0;

	for (size_t i = 0; i < req->nheaders; i++)
		if (req->headers[i].name.n == strlen(name) &&
		    strncasecmp(req->headers[i].name.p, name, strlen(name)) == 0)
			count++;
	return count;
}

static void
check_accepted(const struct http_request *req, const char *head, size_t n)
{
	size_t lines = 0, framing = count_fields(req, "content-length");

	check_str(req->method, head, n);
	check_str(req->target, head, n);
	check_str(req->path, head, n);
	check_str(req->query, head, n);
	check_str(req->authority, head, n);
	check_str(req->host, head, n);
	for (size_t i = 0; i < req->nheaders; i++) {
		FUZZ_ASSERT(req->headers[i].name.n > 0);
		check_str(req->headers[i].name, head, n);
		check_str(req->headers[i].value, head, n);
		FUZZ_ASSERT(memchr(req->headers[i].name.p, ' ', req->headers[i].name.n) == NULL);
	}
	/* every line ends with CRLF, and is the request line, a field, or empty */
	for (size_t i = 0; i < n; i++) {
		FUZZ_ASSERT((head[i] == '\n') == (i > 0 && head[i - 1] == '\r'));
		lines += head[i] == '\n';
	}
	FUZZ_ASSERT(lines == req->nheaders + 2 + (head[0] == '\r'));
	FUZZ_ASSERT(n >= 4 && memcmp(head + n - 4, "\r\n\r\n", 4) == 0);
	FUZZ_ASSERT(req->major == 1 && req->minor <= 1 && req->error == NULL);
	FUZZ_ASSERT((req->content_length != -1) == (framing == 1) && framing <= 1);
	FUZZ_ASSERT(req->content_length >= -1);
	FUZZ_ASSERT(req->chunked == (count_fields(req, "transfer-encoding") == 1));
	FUZZ_ASSERT(!req->chunked || (req->content_length == -1 && req->minor == 1));
	FUZZ_ASSERT(count_fields(req, "transfer-encoding") <= 1);
	FUZZ_ASSERT(count_fields(req, "host") <= 1);
}

/*
 * In pieces of one to seven bytes: the same answer as for the whole. Of two faults the one that
 * shows first may be another.
 */
static long
scan_in_pieces(const char *buf, size_t n, const struct http_limits *limits)
{
	size_t scanned = 0, have = 0;
	long rc = 0;

	while (rc == 0 && have < n) {
		have += 1 + (unsigned char)buf[have] % 7;
		if (have > n)
			have = n;
		rc = http_head_scan(buf, have, &scanned, limits);
		FUZZ_ASSERT(scanned <= have);
	}
	return rc;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct http_limits choices[] = {
	    {4094, 100, 8190, .require_host = true},
	    {20, 3, 20, .require_host = false},
	    {.any_method = true, .any_version = true},
	    {100, 1, 0, .require_host = true},
	    {0, 9, 0, .folding = true},
	};
	static struct http_request req;
	const struct http_limits *limits;
	size_t scanned = 0;
	char *head;
	long n, pieces;

	if (size < 1)
		return 0;
	limits = &choices[data[0] % 5];
	size--;
	head = malloc(size > 0 ? size : 1); /* of exactly that size: its end is watched */
	FUZZ_ASSERT(head != NULL);
	memcpy(head, data + 1, size);
	http_request_init(&req);
	n = http_head_scan(head, size, &scanned, limits);
	FUZZ_ASSERT(n <= (long)size);
	FUZZ_ASSERT(n >= 0 || n == -400 || n == -414 || n == -431);
	pieces = scan_in_pieces(head, size, limits);
	FUZZ_ASSERT(pieces == n || (pieces < 0 && n < 0));
	if (n > 0) {
		FUZZ_ASSERT((size_t)n <= http_head_max(limits));
		if (limits->folding)
			http_head_unfold(head, (size_t)n);
		if (http_request_parse(&req, head, (size_t)n, limits) == 0)
			check_accepted(&req, head, (size_t)n);
		else
			FUZZ_ASSERT(req.error != NULL);
	}
	/* parse does not rely on scan: what it accepts alone is no worse. */
	if (n < 0 && http_request_parse(&req, head, size, limits) == 0)
		check_accepted(&req, head, size);
	http_request_fini(&req);
	free(head);
	return 0;
}
