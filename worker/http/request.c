/*
 * A complete head into a struct http_request. http-parser splits the fields; each
 * of its views is checked again against the bytes around it, because the
 * library is built lenient (a bare LF, folded lines, spaces in names pass
 * it). What decides framing (RFC 9112 section 6) is decided here, from the names
 * as they were received.
 */
#include "worker/http/request.h"

#include <http_parser.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "worker/http/chars.h"
#include "worker/http/head.h"
#include "worker/http/line.h"

#define HEADERS_FIRST 16

/* What is known while the fields are read. */
struct parse {
	struct http_request *req;
	struct http_limits limits;
	const char *next; /* where the next field has to start */
	const char *end;  /* of the head */
	int status;       /* to refuse with; 0 */
	int late;         /* to refuse with when nothing worse is found: 501, 417 */
	bool complete, have_host, have_type, have_coding, close, keep_alive;
};

static http_parser primed; /* after a request line: see prime */
static http_parser_settings callbacks;

static int
refuse(struct parse *ps, int status, const char *why)
{
	ps->status = http_refuse(ps->req, status, why);
	return -1;
}

static int
take_host(struct parse *ps, struct http_str value)
{
	if (ps->have_host)
		return refuse(ps, 400, "Duplicate Host header");
	ps->have_host = true;
	/*
	 * A client sends an empty Host when the target has no authority (RFC 9112 section 3.2); an
	 * http target always has one, so this is let pass only where no Host would be, too.
	 */
	if (!http_authority_valid(value, false) && (value.n > 0 || ps->limits.require_host))
		return refuse(ps, 400, "Invalid Host header");
	ps->req->host = value;
	return 0;
}

static int
take_length(struct parse *ps, struct http_str value)
{
	if (ps->req->content_length != -1)
		return refuse(ps, 400, "Duplicate Content-Length header");
	ps->req->content_length = http_parse_length(value);
	if (ps->req->content_length == -1)
		return refuse(ps, 400, "Invalid Content-Length header");
	return 0;
}

/*
 * Exactly "chunked" is understood. Other lists of codings are 501 if a server could
 * understand them, that is, chunked comes last if at all (RFC 9112 section 6.1).
 */
static int
take_coding(struct parse *ps, struct http_str value)
{
	struct http_str rest = value, coding;
	bool chunked = false;
	size_t n = 0;

	if (ps->have_coding || ps->req->minor == 0)
		return refuse(ps, 400, "Invalid Transfer-Encoding header");
	ps->have_coding = true;
	for (; http_list_next(&rest, &coding); n++) {
		if (chunked || !http_is_token(coding.p, coding.n) ||
		    http_str_is(coding, "identity"))
			return refuse(ps, 400, "Invalid Transfer-Encoding header");
		chunked = http_str_is(coding, "chunked");
	}
	ps->req->chunked = chunked && n == 1;
	if (!ps->req->chunked)
		ps->late = 501;
	return 0;
}

static void
take_connection(struct parse *ps, struct http_str value)
{
	struct http_str rest = value, option;

	while (http_list_next(&rest, &option)) {
		if (http_str_is(option, "close"))
			ps->close = true;
		else if (http_str_is(option, "keep-alive"))
			ps->keep_alive = true;
	}
}

/* HTTP/1.0 knows no Expect: it is not looked at (RFC 9110 section 10.1.1). */
static void
take_expect(struct parse *ps, struct http_str value)
{
	if (ps->req->minor == 0)
		return;
	if (http_str_is(value, "100-continue"))
		ps->req->expect_continue = true;
	else
		ps->late = 417;
}

/* The fields that mean something to the server; told apart by their length first. */
static int
take_header(struct parse *ps, const struct http_header *h)
{
	switch (h->name.n) {
	case 4:
		if (http_str_is(h->name, "host"))
			return take_host(ps, h->value);
		break;
	case 6:
		if (http_str_is(h->name, "expect"))
			take_expect(ps, h->value);
		break;
	case 10:
		if (http_str_is(h->name, "connection"))
			take_connection(ps, h->value);
		break;
	case 12:
		if (http_str_is(h->name, "content-type")) {
			if (ps->have_type)
				return refuse(ps, 400, "Duplicate Content-Type header");
			ps->have_type = true;
		}
		break;
	case 14:
		if (http_str_is(h->name, "content-length"))
			return take_length(ps, h->value);
		break;
	case 17:
		if (http_str_is(h->name, "transfer-encoding"))
			return take_coding(ps, h->value);
		break;
	}
	return 0;
}

static int
headers_grow(struct http_request *req)
{
	size_t cap = req->cap == 0 ? HEADERS_FIRST : req->cap * 2;
	struct http_header *headers = realloc(req->headers, cap * sizeof(*headers));

	if (headers == NULL)
		return -1;
	req->headers = headers;
	req->cap = cap;
	return 0;
}

/* A name begins where the line before ended, and a colon follows it at once. */
static int
on_field(http_parser *parser, const char *at, size_t n)
{
	struct parse *ps = parser->data;
	struct http_request *req = ps->req;

	if (at != ps->next || !http_is_token(at, n) || at[n] != ':')
		return refuse(ps, 400, "Invalid header name");
	if (req->nheaders == ps->limits.fields)
		return refuse(ps, 431, "Too many header fields");
	if (req->nheaders == req->cap && headers_grow(req) == -1)
		return refuse(ps, 500, "Out of memory");
	req->headers[req->nheaders].name = (struct http_str){at, n};
	ps->next = NULL;
	return 0;
}

/* A value is what lies between colon and CRLF; an empty one has no place of its own. */
static int
on_value(http_parser *parser, const char *at, size_t n)
{
	struct parse *ps = parser->data;
	struct http_header *h = &ps->req->headers[ps->req->nheaders];
	const char *p;

	if (ps->next != NULL)
		return refuse(ps, 400, "Folded header line");
	p = h->name.p + h->name.n + 1;
	while (*p == ' ' || *p == '\t')
		p++;
	if (n > 0 && at != p)
		return refuse(ps, 400, "Invalid header value");
	if (!http_chars_all(p, n, HTTP_CHAR_VALUE))
		return refuse(ps, 400, "Invalid header value");
	if (ps->end - (p + n) < 4 || p[n] != '\r' || p[n + 1] != '\n')
		return refuse(ps, 400, "Invalid line ending");
	if ((size_t)(p + n - h->name.p) > ps->limits.field_size)
		return refuse(ps, 431, "Header field too large");
	h->value = http_str_trim((struct http_str){p, n});
	ps->next = p + n + 2;
	ps->req->nheaders++;
	return take_header(ps, h);
}

/* Stops the parser: the body is body.c's. */
static int
on_complete(http_parser *parser)
{
	struct parse *ps = parser->data;

	ps->complete = true;
	return -1;
}

/*
 * A parser that has seen a request line, to be copied: line.c reads the real one, so that
 * no method or target changes how the fields are read.
 */
static void
prime(void)
{
	static const char line[] = "GET / HTTP/1.1\r\n";

	http_parser_settings_init(&callbacks);
	callbacks.on_header_field = on_field;
	callbacks.on_header_value = on_value;
	callbacks.on_headers_complete = on_complete;
	http_parser_set_max_header_size(UINT32_MAX); /* ours is http_head_max */
	http_parser_init(&primed, HTTP_REQUEST);
	(void)http_parser_execute(&primed, &callbacks, line, sizeof(line) - 1);
}

void
http_request_init(struct http_request *req)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	(void)pthread_once(&once, prime);
	memset(req, 0, sizeof(*req));
}

void
http_request_fini(struct http_request *req)
{
	free(req->headers);
	req->headers = NULL;
	req->cap = req->nheaders = 0;
}

static void
request_reset(struct http_request *req)
{
	const struct http_str none = {"", 0};

	req->method = req->target = req->path = req->query = req->authority = req->host = none;
	req->major = req->minor = 0;
	req->keep_alive = req->expect_continue = req->chunked = false;
	req->is_head = req->is_connect = false;
	req->content_length = -1;
	req->nheaders = 0;
	req->error = NULL;
}

/* All fields from p up to the empty line at the end of the head. */
static int
parse_fields(struct parse *ps, const char *p)
{
	http_parser parser = primed;
	size_t n = (size_t)(ps->end - p);

	parser.data = ps;
	ps->next = p;
	(void)http_parser_execute(&parser, &callbacks, p, n);
	if (ps->status != 0)
		return ps->status;
	if (!ps->complete)
		return http_refuse(
		    ps->req, 400, http_errno_description(HTTP_PARSER_ERRNO(&parser)));
	if (ps->next != ps->end - 2)
		return http_refuse(ps->req, 400, "Invalid line ending");
	return 0;
}

/* What only shows when all fields are known. */
static int
check_fields(struct parse *ps)
{
	struct http_request *req = ps->req;

	if (req->content_length != -1 && ps->have_coding)
		return http_refuse(req, 400, "Both Content-Length and Transfer-Encoding");
	if (!ps->have_host && req->minor > 0 && ps->limits.require_host)
		return http_refuse(req, 400, "Missing Host header");
	if (ps->late == 501)
		return http_refuse(req, 501, "Unsupported transfer coding");
	if (ps->late == 417)
		return http_refuse(req, 417, "Unsupported expectation");
	if (req->authority.n > 0)
		req->host = req->authority;
	req->keep_alive = !ps->close && (req->minor > 0 || ps->keep_alive);
	return 0;
}

int
http_request_parse(
    struct http_request *req, const char *head, size_t n, const struct http_limits *limits)
{
	struct parse ps = {.req = req, .end = head + n};
	const char *line = head, *lf;
	int status;

	request_reset(req);
	http_limits_clamp(limits, &ps.limits);
	if (n >= 2 && head[0] == '\r' && head[1] == '\n')
		line += 2;
	lf = memchr(line, '\n', (size_t)(ps.end - line));
	if (lf == NULL || lf == line || lf[-1] != '\r' || ps.end - lf < 3 || ps.end[-2] != '\r' ||
	    ps.end[-1] != '\n')
		return http_refuse(req, 400, "Invalid line ending");
	if ((size_t)(lf - 1 - line) > ps.limits.line)
		return http_refuse(req, 414, "Request line too long");
	status = http_line_parse(req, line, (size_t)(lf - 1 - line), &ps.limits);
	if (status == 0)
		status = parse_fields(&ps, lf + 1);
	if (status == 0)
		status = check_fields(&ps);
	return status;
}

const struct http_header *
http_request_header(const struct http_request *req, const char *name)
{
	for (size_t i = 0; i < req->nheaders; i++)
		if (http_str_is(req->headers[i].name, name))
			return &req->headers[i];
	return NULL;
}

const char *
http_status_phrase(int status)
{
	switch (status) {
#define PHRASE(number, name, phrase) \
	case number:                 \
		return #phrase;
		HTTP_STATUS_MAP(PHRASE)
#undef PHRASE
	}
	return "Unknown";
}
