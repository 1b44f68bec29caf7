/*
 * A request's head: bytes in, views out. Views point into the caller's buffer
 * and live as long as it does; nothing is copied.
 *
 * nodejs http-parser (strict) reads the head; in front of it a strict layer of
 * ours refuses what it would let pass (RFC 9112, and the list of attacks in
 * docs/architecture.md): bare LF, obs-fold, whitespace before the colon, every
 * Transfer-Encoding but exactly "chunked", every Content-Length but digits, …
 * No other file includes http_parser.h.
 */
#ifndef HTTP_REQUEST_H
#define HTTP_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_str {
	const char *p; /* borrowed, not terminated */
	size_t n;
};

struct http_header {
	struct http_str name;  /* as received */
	struct http_str value; /* without whitespace around it */
};

/* What a head may be. gunicorn's limit_request_*: in bytes, 0 is the largest that is allowed. */
struct http_limits {
	size_t line;       /* request line, without CRLF */
	size_t fields;     /* number of header fields */
	size_t field_size; /* one header line, without CRLF */
	bool require_host; /* 400 for HTTP/1.1 without Host (RFC 9112 section 3.2) */
	/* gunicorn's permit_*: */
	bool any_method;  /* any token is a method */
	bool any_version; /* other versions than 1 are taken for 1.1, 0 for 1.0 */
	bool folding;     /* fields may go on in the next line (RFC 9112 section 5.2) */
};

struct http_request {
	struct http_str method;
	bool is_head, is_connect;  /* the method, exactly: it decides how a response is framed */
	struct http_str target;    /* as received: gunicorn's RAW_URI */
	struct http_str path;      /* not decoded; "" for "*" and CONNECT, "/" when there is none */
	struct http_str query;     /* without "?" */
	struct http_str authority; /* of an absolute-form target or CONNECT; else empty */
	struct http_str host;      /* effective: authority if there is one, else the Host field */
	unsigned major, minor;     /* 1.0 or 1.1 */
	bool keep_alive;           /* what the client asks for (RFC 9112 section 9.3) */
	bool expect_continue;      /* Expect: 100-continue, on 1.1 */
	bool chunked;              /* the body is chunked */
	int64_t content_length;    /* -1: none given */
	struct http_header *headers; /* owned array */
	size_t nheaders;
	size_t cap;        /* of headers */
	const char *error; /* static text, after http_request_parse refused: for the log */
};

void http_request_init(struct http_request *);
void http_request_fini(struct http_request *);

/*
 * Look for the end of a head in buf[0..len). *scanned remembers how far earlier
 * calls came (start at 0), so that a slow head is not scanned twice. Returns the
 * head's length (with its empty line) when complete, 0 when bytes are missing,
 * or -status (-414, -431, -400) as soon as a limit is passed or a line ends wrongly.
 * One CRLF before the request line is skipped over: it is part of the length.
 */
long http_head_scan(const char *buf, size_t len, size_t *scanned, const struct http_limits *);

/*
 * Make folded fields of a complete head one line each, by blanks, where limits->folding lets
 * http_head_scan pass them; not those that decide framing or that have nothing in a line:
 * http_request_parse refuses what stays folded.
 */
void http_head_unfold(char *head, size_t n);

/* The longest head that http_head_scan lets pass: how far a buffer for it need grow. */
size_t http_head_max(const struct http_limits *);

/*
 * Parse a complete head of n bytes, as http_head_scan measured it. Returns 0, or
 * the status to refuse it with (400, 414, 417, 431, 501, 505; 500 when memory is
 * gone) and req->error; what was understood of method and target is kept for the log
 * (as it came: control characters are the logger's to escape).
 */
int http_request_parse(
    struct http_request *, const char *head, size_t n, const struct http_limits *);

/* First header with that name (lower-case literal), or NULL. */
const struct http_header *http_request_header(const struct http_request *, const char *name);

/* "Bad Request" for 400; "Unknown" for what has no phrase. */
const char *http_status_phrase(int status);

#endif
