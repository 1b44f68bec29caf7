/*
 * Request heads: one row a case. The head ends at an unmapped page, is scanned
 * whole and byte by byte, and what was understood is compared as one line of text:
 * method|target's path|query|host|version|keep or close|framing|number of fields.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "worker/http/request.h"

#define GUARDED (2 * 1024 * 1024)

static char *guarded_end; /* the byte there is not mapped */
static struct http_request req;
static const struct http_limits defaults = {
    .line = 4094, .fields = 100, .field_size = 8190, .require_host = true};

struct row {
	const char *head;
	size_t n;
	const char *want; /* the line of text, or the status */
};

#define ROW(head, want)                      \
	{                                    \
		head, sizeof(head) - 1, want \
	}
/* With the rest of a request around it. */
#define LINE(line, want)    ROW(line "\r\nHost: h\r\n\r\n", want)
#define FIELD(field, want)  ROW("GET / HTTP/1.1\r\nHost: h\r\n" field "\r\n\r\n", want)
#define FIELD0(field, want) ROW("POST / HTTP/1.0\r\n" field "\r\n\r\n", want)
#define HOST(host, want)    ROW("GET / HTTP/1.1\r\nHost: " host "\r\n\r\n", want)

static int
setup(void **state)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *p =
	    mmap(NULL, GUARDED + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	if (p == MAP_FAILED || mprotect(p + GUARDED, page, PROT_NONE) == -1)
		return -1;
	guarded_end = p + GUARDED;
	http_request_init(&req);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	http_request_fini(&req);
	return munmap(guarded_end - GUARDED, GUARDED + (size_t)sysconf(_SC_PAGESIZE));
}

static void
describe(int status, char *out, size_t size)
{
	char framing[48] = "";

	if (status != 0) {
		(void)snprintf(out, size, "%d", status);
		return;
	}
	if (req.content_length >= 0)
		(void)snprintf(framing, sizeof(framing), "%lld", (long long)req.content_length);
	if (req.chunked)
		strcat(framing, "chunked");
	if (req.expect_continue)
		strcat(framing, "+expect");
	(void)snprintf(out, size, "%.*s|%.*s|%.*s|%.*s|%u.%u|%s|%s|%zu", (int)req.method.n,
	    req.method.p, (int)req.path.n, req.path.p, (int)req.query.n, req.query.p,
	    (int)req.host.n, req.host.p, req.major, req.minor, req.keep_alive ? "keep" : "close",
	    framing, req.nheaders);
}

/* Scan as if the bytes came one by one: each time the buffer ends at the unmapped page. */
static long
scan_bytewise(const char *head, size_t n, const struct http_limits *limits)
{
	size_t scanned = 0;
	long rc = 0;

	for (size_t have = 1; have <= n && rc == 0; have++) {
		char *at = guarded_end - have;

		memcpy(at, head, have);
		rc = http_head_scan(at, have, &scanned, limits);
		assert_true(scanned <= have);
	}
	return rc;
}

/* Status of the whole way: scan, then parse. 0 when accepted, 1 when incomplete. */
static int
take(const char *head, size_t n, const struct http_limits *limits)
{
	char *at = guarded_end - n;
	size_t scanned = 0;
	long len;
	int status;

	memcpy(at, head, n);
	len = http_head_scan(at, n, &scanned, limits);
	if (n < 20000) {
		assert_int_equal(scan_bytewise(head, n, limits), len);
		memcpy(at, head, n);
	}
	if (len == 0)
		return 1;
	if (len < 0)
		return (int)-len;
	assert_true((size_t)len <= n);
	memmove(guarded_end - len, at, (size_t)len);
	if (limits->folding)
		http_head_unfold(guarded_end - len, (size_t)len);
	status = http_request_parse(&req, guarded_end - len, (size_t)len, limits);
	if (status != 0)
		assert_non_null(req.error);
	else
		assert_null(req.error);
	return status;
}

static void
check_rows(const struct row *rows, size_t n, const struct http_limits *limits)
{
	char got[4096];
	size_t wrong = 0;

	for (size_t i = 0; i < n; i++) {
		describe(take(rows[i].head, rows[i].n, limits), got, sizeof(got));
		if (strcmp(got, rows[i].want) != 0) {
			print_error("row %zu: %s\n  got  %s\n  want %s\n", i, rows[i].head, got,
			    rows[i].want);
			wrong++;
		}
	}
	assert_int_equal(wrong, 0);
}

#define CHECK(rows) check_rows(rows, sizeof(rows) / sizeof((rows)[0]), &defaults)

static void
test_request_line(void **state)
{
	static const struct row rows[] = {
	    LINE("GET / HTTP/1.1", "GET|/||h|1.1|keep||1"),
	    LINE("GET /a/b?c=d HTTP/1.1", "GET|/a/b|c=d|h|1.1|keep||1"),
	    LINE("GET /a?b?c HTTP/1.1", "GET|/a|b?c|h|1.1|keep||1"),
	    LINE("GET /? HTTP/1.1", "GET|/||h|1.1|keep||1"),
	    LINE("GET //a//b HTTP/1.1", "GET|//a//b||h|1.1|keep||1"),
	    LINE("GET /%00%2f%zz HTTP/1.1", "GET|/%00%2f%zz||h|1.1|keep||1"),
	    LINE("GET /{a|b}^\"<> HTTP/1.1", "GET|/{a|b}^\"<>||h|1.1|keep||1"),
	    LINE("\r\nGET / HTTP/1.1", "GET|/||h|1.1|keep||1"),
	    /* one CRLF before it is tolerated (RFC 9112 section 2.2), no more */
	    LINE("\r\n\r\nGET / HTTP/1.1", "400"), LINE("\nGET / HTTP/1.1", "400"),
	    LINE(" GET / HTTP/1.1", "400"), LINE("\tGET / HTTP/1.1", "400"),
	    LINE("GET  / HTTP/1.1", "400"), LINE("GET /  HTTP/1.1", "400"),
	    LINE("GET / HTTP/1.1 ", "400"), LINE("GET\t/ HTTP/1.1", "400"),
	    LINE("GET /\tHTTP/1.1", "400"), LINE("GET /a b HTTP/1.1", "400"),
	    LINE("GET HTTP/1.1", "400"), LINE("GET  HTTP/1.1", "400"), LINE("GET", "400"),
	    LINE("GET /", "400"), /* HTTP/0.9 */
	    LINE("GET / ", "400"), LINE("/ HTTP/1.1", "400"), LINE("GET /\0 HTTP/1.1", "400"),
	    LINE("GET /\x01 HTTP/1.1", "400"), LINE("GET /\x7f HTTP/1.1", "400"),
	    LINE("GET /\r HTTP/1.1", "400"), LINE("GET /\xc3\xa9 HTTP/1.1", "400"),
	    LINE("GET /a#b HTTP/1.1", "400"), LINE("GET a HTTP/1.1", "400"),
	    LINE("GET ?a HTTP/1.1", "400"), LINE("GET ../a HTTP/1.1", "400"),
	    ROW("\x16\x03\x01\x02", "400"), /* a TLS handshake: at its first byte */
	};

	(void)state;
	CHECK(rows);
}

static void
test_method(void **state)
{
	static const struct row rows[] = {
	    LINE("FOOBAR / HTTP/1.1", "FOOBAR|/||h|1.1|keep||1"),
	    LINE("M-SEARCH / HTTP/1.1", "M-SEARCH|/||h|1.1|keep||1"),
	    LINE("ABC!$_1 / HTTP/1.1", "ABC!$_1|/||h|1.1|keep||1"),
	    LINE("ABCDEFGHIJKLMNOPQRST / HTTP/1.1", "ABCDEFGHIJKLMNOPQRST|/||h|1.1|keep||1"),
	    LINE("ABCDEFGHIJKLMNOPQRSTU / HTTP/1.1", "400"),
	    LINE("GE / HTTP/1.1", "400"),
	    LINE("get / HTTP/1.1", "400"),
	    LINE("GEt / HTTP/1.1", "400"),
	    LINE("GE#T / HTTP/1.1", "400"),
	    LINE("GE(T / HTTP/1.1", "400"),
	    LINE("GE\xc4T / HTTP/1.1", "400"),
	    LINE("GE\0T / HTTP/1.1", "400"),
	};

	(void)state;
	CHECK(rows);
}

static void
test_version(void **state)
{
	static const struct row rows[] = {
	    LINE("GET / HTTP/1.0", "GET|/||h|1.0|close||1"),
	    LINE("GET / HTTP/1.2", "GET|/||h|1.1|keep||1"),
	    LINE("GET / HTTP/2.0", "505"),
	    LINE("GET / HTTP/0.9", "505"),
	    LINE("GET / HTTP/3.1", "505"),
	    ROW("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"),
	    LINE("GET / HTTP/1.01", "400"),
	    LINE("GET / HTTP/01.1", "400"),
	    LINE("GET / HTTP/1", "400"),
	    LINE("GET / HTTP/1.", "400"),
	    LINE("GET / HTTP/.1", "400"),
	    LINE("GET / HTTP/11", "400"),
	    LINE("GET / HTTP/a.1", "400"),
	    LINE("GET / HTTP/1.a", "400"),
	    LINE("GET / http/1.1", "400"),
	    LINE("GET / Http/1.1", "400"),
	    LINE("GET / HTTP 1.1", "400"),
	    LINE("GET / HTTPS/1.1", "400"),
	    LINE("GET / HTTP/-1.1", "400"),
	    LINE("GET / HTTP/1,1", "400"),
	    LINE("GET / ICE/1.0", "400"),
	    LINE("GET / XHTTP/1.1", "400"),
	};

	(void)state;
	CHECK(rows);
}

static void
test_target_forms(void **state)
{
	static const struct row rows[] = {
	    LINE("GET http://a.b/c?d HTTP/1.1", "GET|/c|d|a.b|1.1|keep||1"),
	    LINE("GET HTTP://a.b:80/c HTTP/1.1", "GET|/c||a.b:80|1.1|keep||1"),
	    LINE("GET https://[::1]:8/ HTTP/1.1", "GET|/||[::1]:8|1.1|keep||1"),
	    LINE("GET http://a HTTP/1.1", "GET|/||a|1.1|keep||1"),
	    LINE("GET http://a?b HTTP/1.1", "GET|/|b|a|1.1|keep||1"),
	    LINE("GET http://a/http://b HTTP/1.1", "GET|/http://b||a|1.1|keep||1"),
	    LINE("GET http:// HTTP/1.1", "400"),
	    LINE("GET http:///a HTTP/1.1", "400"),
	    LINE("GET http://?a HTTP/1.1", "400"),
	    LINE("GET http://:80/ HTTP/1.1", "400"),
	    LINE("GET http://u@a/ HTTP/1.1", "400"),
	    LINE("GET http://u:p@a/ HTTP/1.1", "400"),
	    LINE("GET http://a:b/ HTTP/1.1", "400"),
	    LINE("GET http://a:65536/ HTTP/1.1", "400"),
	    LINE("GET http://[::1/ HTTP/1.1", "400"),
	    LINE("GET http://a\\b/ HTTP/1.1", "400"),
	    LINE("GET http:/a HTTP/1.1", "400"),
	    LINE("GET ftp://a/ HTTP/1.1", "400"),
	    LINE("GET javascript:a HTTP/1.1", "400"),
	    /* the Host beside it still has to be right, and there */
	    ROW("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", "GET|/||a|1.1|keep||1"),
	    ROW("GET http://a/ HTTP/1.1\r\nHost: b@c\r\n\r\n", "400"),
	    ROW("GET http://a/ HTTP/1.1\r\n\r\n", "400"),
	    LINE("CONNECT a:443 HTTP/1.1", "CONNECT|||a:443|1.1|keep||1"),
	    LINE("CONNECT [::1]:443 HTTP/1.1", "CONNECT|||[::1]:443|1.1|keep||1"),
	    LINE("CONNECT a HTTP/1.1", "400"),
	    LINE("CONNECT a: HTTP/1.1", "400"),
	    LINE("CONNECT :443 HTTP/1.1", "400"),
	    LINE("CONNECT /a HTTP/1.1", "400"),
	    LINE("CONNECT http://a:443/ HTTP/1.1", "400"),
	    LINE("CONNECT u@a:443 HTTP/1.1", "400"),
	    LINE("CONNECT * HTTP/1.1", "400"),
	    LINE("GET a:443 HTTP/1.1", "400"),
	    LINE("OPTIONS * HTTP/1.1", "OPTIONS|||h|1.1|keep||1"),
	    LINE("OPTIONS /a HTTP/1.1", "OPTIONS|/a||h|1.1|keep||1"),
	    LINE("OPTIONS ** HTTP/1.1", "400"),
	    LINE("OPTIONS *?a HTTP/1.1", "400"),
	    LINE("GET * HTTP/1.1", "400"),
	};

	(void)state;
	CHECK(rows);
}

static void
test_line_endings(void **state)
{
	static const struct row rows[] = {
	    ROW("GET / HTTP/1.1\nHost: h\r\n\r\n", "400"),
	    ROW("GET / HTTP/1.1\r\nHost: h\n\r\n", "400"),
	    ROW("GET / HTTP/1.1\r\nHost: h\r\n\n", "400"),
	    ROW("GET / HTTP/1.1\r\nHost: h\n\n", "400"),
	    ROW("GET / HTTP/1.1\rHost: h\r\n\r\n", "400"),
	    ROW("GET / HTTP/1.1\r\nHost: h\rA: b\r\n\r\n", "400"),
	    ROW("GET / HTTP/1.1\r\nHost: h\r\r\n\r\n", "400"),
	    ROW("GET / HTTP/1.1\r\nHost: h\r\n\rX", "400"),
	    ROW("GET / HTTP/1.1\r\r\nHost: h\r\n\r\n", "400"),
	    ROW("GET / HTTP/1.1\r\nA: \rTransfer-Encoding: chunked\r\nHost: h\r\n\r\n", "400"),
	    ROW("GET / HTTP/1.1\r\nHost: h\r\nA: b\nC: d\r\n\r\n", "400"),
	    /* what is missing is waited for */
	    ROW("GET / HTTP/1.1", "1"),
	    ROW("GET / HTTP/1.1\r\n", "1"),
	    ROW("GET / HTTP/1.1\r\nHost: h\r\n\r", "1"),
	    ROW("\r", "1"),
	    ROW("\r\n", "1"),
	};

	(void)state;
	CHECK(rows);
}

static void
test_header_names(void **state)
{
	static const struct row rows[] = {
	    FIELD("A: b", "GET|/||h|1.1|keep||2"),
	    FIELD("!#$%&'*+-.^_`|~0aZ: b", "GET|/||h|1.1|keep||2"),
	    FIELD("Content_Length: 5", "GET|/||h|1.1|keep||2"),
	    FIELD("Transfer_Encoding: chunked", "GET|/||h|1.1|keep||2"),
	    FIELD("A : b", "400"),
	    FIELD("A\t: b", "400"),
	    FIELD(" A: b", "400"),
	    FIELD("\tA: b", "400"),
	    FIELD(" Content-Length: 5", "400"),
	    FIELD(": b", "400"),
	    FIELD("A", "400"),
	    FIELD("A b: c", "400"),
	    FIELD("A(: b", "400"),
	    FIELD("A\": b", "400"),
	    FIELD("A\x01: b", "400"),
	    FIELD("A\x80: b", "400"),
	    FIELD("A\0: b", "400"),
	    FIELD("\0A: b", "400"),
	    FIELD("A: b\r\n c", "400"), /* obs-fold */
	    FIELD("A: b\r\n\tc", "400"),
	    FIELD("A:\r\n b", "400"),
	    FIELD("A: b\r\n ", "400"),
	};

	(void)state;
	CHECK(rows);
}

static void
test_header_values(void **state)
{
	static const struct row rows[] = {
	    FIELD("A:", "GET|/||h|1.1|keep||2"),
	    FIELD("A: \t ", "GET|/||h|1.1|keep||2"),
	    FIELD("A: b\tc", "GET|/||h|1.1|keep||2"),
	    FIELD("A: \xc3\xa9\xff", "GET|/||h|1.1|keep||2"),
	    FIELD("A: ::", "GET|/||h|1.1|keep||2"),
	    FIELD("A: b\0", "400"),
	    FIELD("A: b\x01", "400"),
	    FIELD("A: \x0b"
		  "b",
		"400"),
	    FIELD("A: b\x1f", "400"),
	    FIELD("A: b\x7f", "400"),
	    FIELD("A: \x08", "400"),
	};
	const struct http_header *h;

	(void)state;
	CHECK(rows);
	assert_int_equal(
	    take("GET / HTTP/1.1\r\nHost:h\r\nX-A:\t b c \t\r\nx-b:\r\n\r\n", 46, &defaults), 0);
	h = http_request_header(&req, "x-a");
	assert_non_null(h);
	assert_int_equal(h->value.n, 3);
	assert_memory_equal(h->value.p, "b c", 3);
	assert_memory_equal(h->name.p, "X-A", 3);
	h = http_request_header(&req, "x-b");
	assert_non_null(h);
	assert_int_equal(h->value.n, 0);
	assert_null(http_request_header(&req, "x-c"));
}

static void
test_content_length(void **state)
{
	static const struct row rows[] = {
	    FIELD("Content-Length: 0", "GET|/||h|1.1|keep|0|2"),
	    FIELD("content-LENGTH:5", "GET|/||h|1.1|keep|5|2"),
	    FIELD("Content-Length: 0005 ", "GET|/||h|1.1|keep|5|2"),
	    FIELD("Content-Length: 9223372036854775807", "GET|/||h|1.1|keep|9223372036854775807|2"),
	    FIELD("Content-Length: 9223372036854775808", "400"),
	    FIELD("Content-Length: 18446744073709551621", "400"),
	    FIELD("Content-Length: 00000000000000000005", "400"),
	    FIELD("Content-Length: 99999999999999999999999", "400"),
	    FIELD("Content-Length:", "400"),
	    FIELD("Content-Length: +5", "400"),
	    FIELD("Content-Length: -0", "400"),
	    FIELD("Content-Length: -5", "400"),
	    FIELD("Content-Length: 0x5", "400"),
	    FIELD("Content-Length: 5_0", "400"),
	    FIELD("Content-Length: 0o5", "400"),
	    FIELD("Content-Length: 5 5", "400"),
	    FIELD("Content-Length: 5;", "400"),
	    FIELD("Content-Length: \"5\"", "400"),
	    FIELD("Content-Length: 5, 5", "400"),
	    FIELD("Content-Length: 5, 6", "400"),
	    FIELD("Content-Length: 5,", "400"),
	    FIELD("Content-Length: 5.0", "400"),
	    FIELD("Content-Length: 1e3", "400"),
	    FIELD("Content-Length: \xd9\xa5", "400"),
	    FIELD("Content-Length: 5\r\nContent-Length: 5", "400"),
	    FIELD("Content-Length: 5\r\nContent-Length: 6", "400"),
	    FIELD("Content-Length: 5\r\nA: b\r\ncontent-length: 5", "400"),
	    FIELD("Content-Length : 5", "400"),
	    FIELD0("Content-Length: 5", "POST|/|||1.0|close|5|1"),
	};

	(void)state;
	CHECK(rows);
}

static void
test_transfer_encoding(void **state)
{
	static const struct row rows[] = {
	    FIELD("Transfer-Encoding: chunked", "GET|/||h|1.1|keep|chunked|2"),
	    FIELD("transfer-encoding:CHUNKED\t", "GET|/||h|1.1|keep|chunked|2"),
	    FIELD("Transfer-Encoding: chunked, chunked", "400"),
	    FIELD("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "400"),
	    FIELD("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", "400"),
	    FIELD("Transfer-Encoding: identity", "400"),
	    FIELD("Transfer-Encoding: identity, chunked", "400"),
	    FIELD("Transfer-Encoding: chunked, identity", "400"),
	    FIELD("Transfer-Encoding: chunked, gzip", "400"),
	    FIELD("Transfer-Encoding: chunked;q=1", "400"),
	    FIELD("Transfer-Encoding: \"chunked\"", "400"),
	    FIELD("Transfer-Encoding: chunked chunked", "400"),
	    FIELD("Transfer-Encoding:", "400"),
	    FIELD("Transfer-Encoding: ,chunked", "400"),
	    FIELD("Transfer-Encoding: chunked,", "400"),
	    FIELD("Transfer-Encoding: \x0b"
		  "chunked",
		"400"),
	    FIELD("Transfer-Encoding: chunked\0", "400"),
	    FIELD("Transfer-Encoding: \0", "400"),
	    FIELD("Transfer-Encoding:\r\n chunked", "400"),
	    FIELD("Transfer-Encoding : chunked", "400"),
	    FIELD("Transfer-Encoding\x0b: chunked", "400"),
	    FIELD("Transfer-Encoding: gzip", "501"),
	    FIELD("Transfer-Encoding: gzip, chunked", "501"),
	    FIELD("Transfer-Encoding: xchunked", "501"),
	    FIELD("Transfer-Encoding: chunke", "501"),
	    FIELD("Transfer-Encoding: chunked\r\nContent-Length: 5", "400"),
	    FIELD("Content-Length: 5\r\nTransfer-Encoding: chunked", "400"),
	    FIELD("Content-Length: 0\r\nTransfer-Encoding: chunked", "400"),
	    FIELD("Content-Length: 5\r\nTransfer-Encoding: gzip", "400"),
	    FIELD("Transfer-Encoding: identity\r\nContent-Length: 5", "400"),
	    FIELD0("Transfer-Encoding: chunked", "400"),
	    FIELD0("Transfer-Encoding: gzip", "400"),
	    /* no method, and no upgrade, changes the framing */
	    ROW("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 5\r\n\r\n",
		"CONNECT|||a:1|1.1|keep|5|2"),
	    FIELD("Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 5",
		"GET|/||h|1.1|keep|5|4"),
	    FIELD("Connection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked",
		"GET|/||h|1.1|keep|chunked|4"),
	};

	(void)state;
	CHECK(rows);
}

static void
test_host(void **state)
{
	static const struct row rows[] = {
	    HOST("a.b-c_d~e:8000", "GET|/||a.b-c_d~e:8000|1.1|keep||1"),
	    HOST("127.0.0.1", "GET|/||127.0.0.1|1.1|keep||1"),
	    HOST("[::ffff:1.2.3.4]:80", "GET|/||[::ffff:1.2.3.4]:80|1.1|keep||1"),
	    HOST("a%c3%a9", "GET|/||a%c3%a9|1.1|keep||1"),
	    HOST("a:", "GET|/||a:|1.1|keep||1"), /* RFC 3986: the port may be empty */
	    HOST("a:65535", "GET|/||a:65535|1.1|keep||1"),
	    HOST("a:65536", "400"),
	    HOST("a:99999999999999999999999", "400"),
	    HOST("a:8o", "400"),
	    HOST("a:-1", "400"),
	    HOST("a:80:80", "400"),
	    HOST("", "400"),
	    HOST(" ", "400"),
	    HOST(":80", "400"),
	    HOST("a, b", "400"),
	    HOST("a,b", "400"),
	    HOST("a b", "400"),
	    HOST("u@a", "400"),
	    HOST("u:p@a", "400"),
	    HOST("a/b", "400"),
	    HOST("a?b", "400"),
	    HOST("a#b", "400"),
	    HOST("a\\b", "400"),
	    HOST("http://a", "400"),
	    HOST("a%", "400"),
	    HOST("a%2", "400"),
	    HOST("a%gg", "400"),
	    HOST("\xc3\xa9", "400"),
	    HOST("[::1", "400"),
	    HOST("[]", "400"),
	    HOST("[a]", "400"),
	    HOST("[::1]a", "400"),
	    HOST("[::1%25lo]", "400"),
	    HOST("[v1.a]", "400"),
	    HOST("a[::1]", "400"),
	    HOST("::1", "400"),
	    HOST("a\r\nHost: a", "400"),
	    HOST("a\r\nHost: b", "400"),
	    ROW("GET / HTTP/1.1\r\n\r\n", "400"),
	    ROW("GET / HTTP/1.1\r\nA: b\r\n\r\n", "400"),
	    ROW("GET / HTTP/1.0\r\n\r\n", "GET|/|||1.0|close||0"),
	    ROW("GET / HTTP/1.0\r\nHost: a@b\r\n\r\n", "400"),
	};
	/* As gunicorn has it. */
	static const struct row lenient[] = {
	    ROW("GET / HTTP/1.1\r\n\r\n", "GET|/|||1.1|keep||0"),
	    HOST("", "GET|/|||1.1|keep||1"),
	    HOST("a@b", "400"),
	    HOST("a\r\nHost: a", "400"),
	    HOST("\r\nHost: ", "400"),
	};
	struct http_limits limits = defaults;

	(void)state;
	CHECK(rows);
	limits.require_host = false;
	check_rows(lenient, sizeof(lenient) / sizeof(lenient[0]), &limits);
}

/* gunicorn's permit_unconventional_http_method and _version. */
static void
test_unconventional(void **state)
{
	static const struct row rows[] = {
	    LINE("get / HTTP/1.1", "get|/||h|1.1|keep||1"),
	    LINE("G# / HTTP/1.1", "G#|/||h|1.1|keep||1"),
	    LINE("A-METHOD-OF-21-LETTERS / HTTP/1.1", "A-METHOD-OF-21-LETTERS|/||h|1.1|keep||1"),
	    LINE("connect h:80 HTTP/1.1", "400"),
	    LINE("G(T / HTTP/1.1", "400"),
	    LINE(" / HTTP/1.1", "400"),
	    LINE("GET / HTTP/2.0", "GET|/||h|1.1|keep||1"),
	    LINE("GET / HTTP/9.0", "GET|/||h|1.1|keep||1"),
	    LINE("GET / HTTP/0.9", "GET|/||h|1.0|close||1"),
	    LINE("GET / HTTP/10.1", "400"),
	    LINE("GET / HTTP/2", "400"),
	    LINE("PRI * HTTP/2.0", "400"),
	    ROW("POST / HTTP/0.9\r\nTransfer-Encoding: chunked\r\n\r\n", "400"),
	    ROW("POST / HTTP/2.0\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: "
		"chunked\r\n\r\n",
		"400"),
	};
	struct http_limits limits = defaults;

	(void)state;
	limits.any_method = limits.any_version = true;
	check_rows(rows, sizeof(rows) / sizeof(rows[0]), &limits);
}

/* gunicorn's permit_obsolete_folding. */
static void
test_folding(void **state)
{
	static const struct row rows[] = {
	    FIELD("A: b\r\n c", "GET|/||h|1.1|keep||2"),
	    FIELD("A:\r\n\tb\r\n  c\r\nD: e", "GET|/||h|1.1|keep||3"),
	    FIELD("A: b\r\n Content-Length: 5", "GET|/||h|1.1|keep||2"),
	    FIELD("A: b\r\n ", "400"),
	    FIELD("A: b\r\n \r\n c", "400"),
	    FIELD("A: b\r\n \n c", "400"),
	    FIELD("A: b\n c", "400"),
	    FIELD("A\r\n : b", "400"),
	    FIELD("Content-Length:\r\n 5", "400"),
	    FIELD("content-length: 5\r\n 5", "400"),
	    FIELD("Transfer-Encoding:\r\n chunked", "400"),
	    FIELD("Transfer-Encoding : a\r\n chunked", "400"),
	    FIELD("Connection: close,\r\n te", "400"),
	    FIELD("Expect:\r\n 100-continue", "400"),
	    FIELD("Content-Type: a/b;\r\n c=d", "400"),
	    HOST("h\r\n .example", "400"),
	    ROW("GET / HTTP/1.1\r\n Host: h\r\n\r\n", "400"),
	    ROW("\r\nGET / HTTP/1.1\r\n Host: h\r\n\r\n", "400"),
	    ROW("GET /\r\n HTTP/1.1\r\nHost: h\r\n\r\n", "400"),
	    ROW("\r\n GET / HTTP/1.1\r\nHost: h\r\n\r\n", "400"),
	};
	static const char folded[] = "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n\tc\r\n\r\n";
	struct http_limits limits = defaults;

	(void)state;
	limits.folding = true;
	check_rows(rows, sizeof(rows) / sizeof(rows[0]), &limits);
	assert_int_equal(take(folded, sizeof(folded) - 1, &limits), 0);
	assert_int_equal(req.headers[1].value.n, 5);
	assert_memory_equal(req.headers[1].value.p, "b  \tc", 5);
	limits.field_size = 7;
	assert_int_equal(take(folded, sizeof(folded) - 1, &limits), 431);
}

static void
test_connection_and_expect(void **state)
{
	static const struct row rows[] = {
	    FIELD("Connection: close", "GET|/||h|1.1|close||2"),
	    FIELD("Connection: CLOSE", "GET|/||h|1.1|close||2"),
	    FIELD("Connection: keep-alive, close", "GET|/||h|1.1|close||2"),
	    FIELD("Connection: close\r\nConnection: keep-alive", "GET|/||h|1.1|close||3"),
	    FIELD("Connection: closed", "GET|/||h|1.1|keep||2"),
	    FIELD("Connection: upgrade", "GET|/||h|1.1|keep||2"),
	    FIELD("Connection:", "GET|/||h|1.1|keep||2"),
	    FIELD0("Connection: keep-alive", "POST|/|||1.0|keep||1"),
	    FIELD0("Connection: Keep-Alive, TE", "POST|/|||1.0|keep||1"),
	    FIELD0("Connection: keep-alive, close", "POST|/|||1.0|close||1"),
	    FIELD("Content-Length: 5\r\nExpect: 100-Continue", "GET|/||h|1.1|keep|5+expect|3"),
	    FIELD("Expect: 100-continue\r\nTransfer-Encoding: chunked",
		"GET|/||h|1.1|keep|chunked+expect|3"),
	    FIELD("Expect: 200-ok", "417"),
	    FIELD("Expect: 100-continue, a", "417"),
	    FIELD("Expect:", "417"),
	    FIELD("Expect: a\r\nContent-Length: x", "400"),
	    FIELD("Expect: a\r\nTransfer-Encoding: identity", "400"),
	    FIELD0("Expect: 100-continue\r\nContent-Length: 5", "POST|/|||1.0|close|5|2"),
	    FIELD0("Expect: a", "POST|/|||1.0|close||1"),
	    FIELD("Content-Type: a\r\nContent-Type: a", "400"),
	    FIELD("Content-Type: a", "GET|/||h|1.1|keep||2"),
	};

	(void)state;
	CHECK(rows);
}

/* A head with a target of so many bytes, so many fields, the first of so many bytes (0: as short).
 */
static size_t
make_head(char *out, size_t line, size_t fields, size_t field_size)
{
	size_t n = (size_t)sprintf(out, "GET /");

	while (n < line - strlen(" HTTP/1.1"))
		out[n++] = 'a';
	n += (size_t)sprintf(out + n, " HTTP/1.1\r\n");
	for (size_t i = 0; i < fields; i++) {
		size_t start = n;

		n += (size_t)sprintf(out + n, i == 0 ? "Host: h" : "A:b");
		while (i == 1 && n - start < field_size)
			out[n++] = 'b';
		n += (size_t)sprintf(out + n, "\r\n");
	}
	return n + (size_t)sprintf(out + n, "\r\n");
}

static void
test_limits(void **state)
{
	static const struct {
		size_t limit_line, limit_fields, limit_size; /* what is configured */
		size_t line, fields, size;                   /* what comes */
		int status;
	} rows[] = {
	    {4094, 100, 8190, 4094, 2, 0, 0},
	    {4094, 100, 8190, 4095, 2, 0, 414},
	    {50, 100, 8190, 50, 2, 0, 0},
	    {50, 100, 8190, 51, 2, 0, 414},
	    {0, 100, 8190, 1048576, 2, 0, 0},
	    {0, 100, 8190, 1048577, 2, 0, 414},
	    {100000, 100, 8190, 100000, 2, 0, 0},
	    {100000, 100, 8190, 100001, 2, 0, 414},
	    {9000000, 100, 8190, 1048577, 2, 0, 414},
	    {4094, 100, 8190, 20, 100, 0, 0},
	    {4094, 100, 8190, 20, 101, 0, 431},
	    {4094, 1, 8190, 20, 1, 0, 0},
	    {4094, 1, 8190, 20, 2, 0, 431},
	    {4094, 0, 8190, 20, 32768, 0, 0},
	    {4094, 0, 8190, 20, 32769, 0, 431},
	    {4094, 99999, 8190, 20, 32769, 0, 431},
	    {4094, 100, 8190, 20, 2, 8190, 0},
	    {4094, 100, 8190, 20, 2, 8191, 431},
	    {4094, 100, 0, 20, 2, 1048576, 0},
	    {4094, 100, 0, 20, 2, 1048577, 431},
	    {4094, 100, 7, 20, 2, 7, 0},
	    {4094, 100, 7, 20, 2, 8, 431},
	    {4094, 100, 500000, 20, 2, 500000, 0},
	    {4094, 100, 1048576, 20, 2, 1048576, 0},
	    {4094, 100, 9000000, 20, 2, 1048577, 431},
	};
	char *head = malloc(GUARDED);

	(void)state;
	assert_non_null(head);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct http_limits limits = {.line = rows[i].limit_line,
		    .fields = rows[i].limit_fields,
		    .field_size = rows[i].limit_size,
		    .require_host = true};
		size_t n = make_head(head, rows[i].line, rows[i].fields, rows[i].size);
		int status = take(head, n, &limits);

		if (status != rows[i].status)
			print_error("row %zu\n", i);
		assert_int_equal(status, rows[i].status);
		if (status == 0)
			assert_true(n <= http_head_max(&limits));
	}
	free(head);
}

/* Too long is known before the line ends, and the whole is bounded whatever its lines are. */
static void
test_limits_while_incomplete(void **state)
{
	struct http_limits limits = {.line = 50, .fields = 0, .field_size = 60};
	char *at = guarded_end - 512 * 1024;
	size_t scanned = 0, n = 0;

	(void)state;
	memset(at, 'A', 512 * 1024);
	assert_int_equal(http_head_scan(at, 51, &scanned, &limits), 0); /* the last may be CR */
	assert_int_equal(http_head_scan(at, 52, &scanned, &limits), -414);
	memcpy(at, "GET / HTTP/1.1\r\n", 16);
	assert_int_equal(http_head_scan(at, 16 + 61, &scanned, &limits), 0);
	assert_int_equal(http_head_scan(at, 16 + 62, &scanned, &limits), -431);
	for (n = 16; n < 512 * 1024 - 4; n += 4)
		memcpy(at + n, "A:\r\n", 4);
	scanned = 0;
	assert_int_equal(http_head_scan(at, n, &scanned, &limits), -431);
	assert_true(http_head_max(&limits) < 512 * 1024);
	limits = (struct http_limits){.line = 20, .fields = 3, .field_size = 20};
	n = http_head_max(&limits);
	assert_int_equal(n, 2 + 22 + 3 * 22 + 2);
	for (int over = 0; over < 2; over++) {
		int last = (int)n - 16 - 3 * 22 - 4 - 2 + over;

		n = (size_t)sprintf(at,
		    "GET / HTTP/1.1\r\nA:%018d\r\nA:%018d\r\nA:%018d\r\nA:%0*d\r\n\r\n", 0, 0, 0,
		    last, 0);
		scanned = 0;
		assert_int_equal(http_head_scan(at, n, &scanned, &limits), over ? -431 : (long)n);
	}
	limits = (struct http_limits){.line = 50, .fields = 0, .field_size = 60};
	for (n = 16; n < 512 * 1024 - 4; n += 4)
		memcpy(at + n, "A:\r\n", 4);
	scanned = 0;
	assert_int_equal(http_head_scan(at, 200 * 1024, &scanned, &limits), 0);
	assert_true(scanned > 200 * 1024 - 4);
}

/* A field that decides framing is never hidden by the limit on their number. */
static void
test_framing_beyond_count(void **state)
{
	static const char head[] =
	    "POST / HTTP/1.1\r\nHost: h\r\nA: b\r\nContent-Length: 5\r\n\r\n";
	struct http_limits limits = defaults;

	(void)state;
	limits.fields = 2;
	assert_int_equal(take(head, sizeof(head) - 1, &limits), 431);
	limits.fields = 3;
	assert_int_equal(take(head, sizeof(head) - 1, &limits), 0);
	assert_int_equal(req.content_length, 5);
}

/* Parse alone must refuse what scan would not have given it. */
static void
test_parse_alone(void **state)
{
	static const struct row rows[] = {
	    ROW("", "400"),
	    ROW("\r\n", "400"),
	    ROW("\r\n\r\n", "400"),
	    ROW("GET / HTTP/1.1\r\nHost: h\r\n", "400"),
	    ROW("GET / HTTP/1.1\r\nHost: h", "400"),
	    ROW("GET / HTTP/1.1\r\n", "400"),
	    ROW("GET / HTTP/1.1\r\nHost: h\n\r\n", "400"),
	    ROW("GET / HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n", "400"),
	    ROW("GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c: d\r\n\r\n", "400"),
	    ROW("GET / HTTP/1.1\r\nHost: h\r\nA:\r\n b\r\n\r\n", "400"),
	    ROW("GET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET|/||h|1.1|keep||1"),
	};
	static const char longer[] = "GET / HTTP/1.1\r\nHost: hh\r\n\r\n";
	struct http_limits limits = defaults;
	char got[512];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char *at = guarded_end - rows[i].n;

		memcpy(at, rows[i].head, rows[i].n);
		describe(http_request_parse(&req, at, rows[i].n, &defaults), got, sizeof(got));
		assert_string_equal(got, rows[i].want);
	}
	limits.field_size = 7;
	assert_int_equal(http_request_parse(&req, longer, sizeof(longer) - 1, &limits), 431);
	limits.line = 13;
	assert_int_equal(http_request_parse(&req, longer, sizeof(longer) - 1, &limits), 414);
}

/* The rest after a head is the body's or the next request's: the length says where. */
static void
test_pipelined(void **state)
{
	static const char two[] = "\r\nGET /1 HTTP/1.1\r\nHost: h\r\n\r\n"
				  "GET /2 HTTP/1.1\r\nHost: h\r\n\r\n";
	size_t scanned = 0, first, second;

	(void)state;
	first = (size_t)http_head_scan(two, sizeof(two) - 1, &scanned, &defaults);
	assert_int_equal(first, 2 + 28);
	assert_int_equal(http_request_parse(&req, two, first, &defaults), 0);
	assert_memory_equal(req.path.p, "/1", 2);
	scanned = 0;
	second = (size_t)http_head_scan(two + first, sizeof(two) - 1 - first, &scanned, &defaults);
	assert_int_equal(second, 28);
	assert_int_equal(http_request_parse(&req, two + first, second, &defaults), 0);
	assert_memory_equal(req.path.p, "/2", 2);
}

/* For the log, also of a request that was refused; a reused struct keeps nothing of the last. */
static void
test_kept_and_forgotten(void **state)
{
	static const char good[] =
	    "POST /a?b HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\n";
	static const char bad[] = "GET /c HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n";

	(void)state;
	assert_int_equal(take(good, sizeof(good) - 1, &defaults), 0);
	assert_int_equal(take(bad, sizeof(bad) - 1, &defaults), 400);
	assert_memory_equal(req.method.p, "GET", 3);
	assert_memory_equal(req.target.p, "/c", 2);
	assert_int_equal(req.query.n, 0);
	assert_int_equal(take("FOO\r\n\r\n", 7, &defaults), 400);
	assert_int_equal(req.target.n, 0);
	assert_int_equal(req.nheaders, 0);
	assert_int_equal(req.content_length, -1);
	assert_false(req.keep_alive);
}

static void
test_phrases(void **state)
{
	(void)state;
	assert_string_equal(http_status_phrase(200), "OK");
	assert_string_equal(http_status_phrase(400), "Bad Request");
	assert_string_equal(http_status_phrase(431), "Request Header Fields Too Large");
	assert_string_equal(http_status_phrase(501), "Not Implemented");
	assert_string_equal(http_status_phrase(505), "HTTP Version Not Supported");
	assert_string_equal(http_status_phrase(299), "Unknown");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_request_line),
	    cmocka_unit_test(test_method),
	    cmocka_unit_test(test_version),
	    cmocka_unit_test(test_target_forms),
	    cmocka_unit_test(test_line_endings),
	    cmocka_unit_test(test_header_names),
	    cmocka_unit_test(test_header_values),
	    cmocka_unit_test(test_content_length),
	    cmocka_unit_test(test_transfer_encoding),
	    cmocka_unit_test(test_host),
	    cmocka_unit_test(test_unconventional),
	    cmocka_unit_test(test_folding),
	    cmocka_unit_test(test_connection_and_expect),
	    cmocka_unit_test(test_limits),
	    cmocka_unit_test(test_limits_while_incomplete),
	    cmocka_unit_test(test_framing_beyond_count),
	    cmocka_unit_test(test_parse_alone),
	    cmocka_unit_test(test_pipelined),
	    cmocka_unit_test(test_kept_and_forgotten),
	    cmocka_unit_test(test_phrases),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
