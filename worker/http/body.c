/*
 * The chunked decoder is straight-line code over the connection's buffer: a
 * chunk's line is bounded and fits the buffer whole, so that no state has to be kept in the
 * middle of one. It accepts what RFC 9112 section 7.1 writes and nothing else: bare
 * LF or CR, signs, "0x", bytes between data and CRLF are how requests are smuggled.
 */
#include "worker/http/body.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "worker/green/green.h"
#include "worker/http/chars.h"

#define CHUNK_DIGITS  16
#define CHUNK_EXT_MAX 256
#define OVERHEAD_MAX  (16 * 1024) /* extensions and trailers of one body */
#define TRAILER_MAX   8190
#define DIRECT_MIN    4096 /* from here on past the buffer into the caller's memory */
#define UNWAITED_MAX  (1024 * 1024)

static ssize_t
body_fail(struct http_body *body, int status, int error)
{
	body->error = status;
	errno = error;
	return -1;
}

void
http_body_init(struct http_body *body, const struct http_request *req, struct http_input *in)
{
	*body = (struct http_body){.in = in, .chunked = req->chunked};
	if (!req->chunked)
		body->left = req->content_length > 0 ? req->content_length : 0;
	body->done = !req->chunked && body->left == 0;
	body->expect_continue = req->expect_continue && !body->done;
}

/* The client waits for this before it sends the body (RFC 9110 section 10.1.1). */
static int
send_continue(struct http_body *body)
{
	static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
	int64_t deadline = green_deadline(body->in->timeout);
	size_t sent = 0;
	ssize_t n;

	body->expect_continue = false;
	if (body->may_continue != NULL && !body->may_continue(body->arg))
		return 0;
	while (sent < sizeof(text) - 1) {
		n = send(body->in->fd, text + sent, sizeof(text) - 1 - sent,
		    MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n >= 0)
			sent += (size_t)n;
		else if (errno == EAGAIN || errno == EWOULDBLOCK) {
			if (green_fd_wait(body->in->fd, GREEN_WRITE, deadline) == -1)
				return -1;
		} else if (errno != EINTR)
			return -1;
	}
	return 0;
}

/* A client that sends faster than we read would never let others run. */
static void
let_others_run(struct http_body *body, size_t got)
{
	body->unwaited += got;
	if (body->unwaited < UNWAITED_MAX)
		return;
	body->unwaited = 0;
	if (green_self() != NULL)
		green_yield();
}

/* Until the client has sent more: 0, or -1. */
static int
wait_readable(struct http_body *body, int64_t *deadline)
{
	int64_t since = green_now();
	int rc = 0;

	if (*deadline == -1)
		*deadline = green_deadline(body->in->timeout);
	if ((body->expect_continue && send_continue(body) == -1) ||
	    green_fd_wait(body->in->fd, GREEN_READ, *deadline) == -1)
		rc = -1;
	body->waited += green_now() - since; /* clock_gettime(3) keeps errno */
	body->unwaited = 0;
	return rc;
}

/* At least one byte from the socket, or -1: the end of the stream is an error inside a body. */
static ssize_t
body_recv(struct http_body *body, char *dst, size_t n)
{
	struct http_input *in = body->in;
	int64_t deadline = -1;
	ssize_t got;

	while (!in->eof) {
		got = recv(in->fd, dst, n, MSG_DONTWAIT);
		if (got > 0) {
			body->expect_continue = false;
			let_others_run(body, (size_t)got);
			return got;
		}
		if (got == 0) {
			in->eof = true;
			break;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN && errno != EWOULDBLOCK)
			return body_fail(body, 400, errno);
		if (wait_readable(body, &deadline) == -1)
			return body_fail(body, errno == ETIMEDOUT ? 408 : 400, errno);
	}
	return body_fail(body, 400, EPROTO);
}

/* More bytes behind those that lie in the buffer. */
static int
body_fill(struct http_body *body)
{
	struct http_input *in = body->in;
	ssize_t got;

	if (in->pos > in->mark) {
		memmove(in->buf + in->mark, in->buf + in->pos, in->len - in->pos);
		in->len -= in->pos - in->mark;
		in->pos = in->mark;
	}
	if (in->len == in->size)
		return (int)body_fail(body, 400, EPROTO); /* a line that does not fit */
	got = body_recv(body, in->buf + in->len, in->size - in->len);
	if (got == -1)
		return -1;
	in->len += (size_t)got;
	return 0;
}

/* Take a line of up to max bytes out of the buffer: it stays there until the next fill. */
static int
body_line(struct http_body *body, size_t max, struct http_str *line)
{
	struct http_input *in = body->in;
	const char *start, *lf;
	size_t have;

	for (;;) {
		start = in->buf + in->pos;
		have = in->len - in->pos;
		lf = memchr(start, '\n', have < max + 2 ? have : max + 2);
		if (lf != NULL)
			break;
		if (have >= max + 2)
			return (int)body_fail(body, 400, EPROTO);
		if (body_fill(body) == -1)
			return -1;
	}
	if (lf == start || lf[-1] != '\r')
		return (int)body_fail(body, 400, EPROTO);
	*line = (struct http_str){start, (size_t)(lf - start) - 1};
	in->pos += line->n + 2;
	return 0;
}

static void
skip_blanks(struct http_str *s)
{
	while (s->n > 0 && (s->p[0] == ' ' || s->p[0] == '\t')) {
		s->p++;
		s->n--;
	}
}

static bool
skip_char(struct http_str *s, char c)
{
	if (s->n == 0 || s->p[0] != c)
		return false;
	s->p++;
	s->n--;
	return true;
}

static bool
skip_token(struct http_str *s)
{
	size_t n = 0;

	while (n < s->n && (http_chars[(unsigned char)s->p[n]] & HTTP_CHAR_TOKEN))
		n++;
	s->p += n;
	s->n -= n;
	return n > 0;
}

/* The rest of a quoted-string, after its first quote. */
static bool
skip_quoted(struct http_str *s)
{
	while (s->n > 0) {
		if (skip_char(s, '"'))
			return true;
		if (skip_char(s, '\\')) {
			if (s->n == 0 || !(http_chars[(unsigned char)s->p[0]] & HTTP_CHAR_VALUE))
				return false;
		} else if (!(http_chars[(unsigned char)s->p[0]] & HTTP_CHAR_QUOTED))
			return false;
		s->p++;
		s->n--;
	}
	return false;
}

/* RFC 9112 section 7.1.1: *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] ). */
static bool
extensions_valid(struct http_str s)
{
	while (s.n > 0) {
		skip_blanks(&s);
		if (!skip_char(&s, ';'))
			return false;
		skip_blanks(&s);
		if (!skip_token(&s))
			return false;
		if (s.n > 0 && s.p[0] != ';') {
			skip_blanks(&s);
			if (skip_char(&s, '=')) {
				skip_blanks(&s);
				if (!(skip_char(&s, '"') ? skip_quoted(&s) : skip_token(&s)))
					return false;
			} else if (s.n == 0 || s.p[0] != ';')
				return false;
		}
	}
	return true;
}

/* Size and extensions of a chunk. */
static int
chunk_line_parse(struct http_body *body, struct http_str line)
{
	uint64_t size = 0;
	size_t i = 0;
	int digit;

	for (; i < line.n && (digit = http_hex_digit(line.p[i])) >= 0; i++) {
		if (i == CHUNK_DIGITS)
			return (int)body_fail(body, 400, EPROTO);
		size = size << 4 | (uint64_t)digit;
	}
	body->overhead += line.n - i;
	if (i == 0 || size > INT64_MAX || line.n - i > CHUNK_EXT_MAX ||
	    body->overhead > OVERHEAD_MAX ||
	    !extensions_valid((struct http_str){line.p + i, line.n - i}))
		return (int)body_fail(body, 400, EPROTO);
	body->left = (int64_t)size;
	return 0;
}

/*
 * Fields that a trailer must not carry (RFC 9110 section 6.5.1): framing, routing,
 * authentication, how the content is read. We deliver none, but who forwards them would.
 */
static bool
trailer_forbidden(struct http_str name)
{
	static const char *const names[] = {"authorization", "cache-control", "connection",
	    "content-encoding", "content-length", "content-range", "content-type", "cookie",
	    "expect", "forwarded", "host", "keep-alive", "max-forwards", "pragma",
	    "proxy-authenticate", "proxy-authorization", "proxy-connection", "range", "set-cookie",
	    "te", "trailer", "transfer-encoding", "upgrade", "www-authenticate", "x-forwarded-for",
	    "x-forwarded-host", "x-forwarded-proto"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (http_str_is(name, names[i]))
			return true;
	return false;
}

/* Fields after the last chunk: read, checked, dropped. */
static int
trailers_skip(struct http_body *body)
{
	struct http_str line, name;
	const char *colon;

	for (;;) {
		if (body_line(body, TRAILER_MAX, &line) == -1)
			return -1;
		if (line.n == 0)
			return 0;
		body->overhead += line.n + 2;
		colon = memchr(line.p, ':', line.n);
		name = (struct http_str){line.p, colon != NULL ? (size_t)(colon - line.p) : 0};
		if (body->overhead > OVERHEAD_MAX || !http_is_token(name.p, name.n) ||
		    !http_chars_all(colon + 1, line.n - name.n - 1, HTTP_CHAR_VALUE) ||
		    trailer_forbidden(name))
			return (int)body_fail(body, 400, EPROTO);
	}
}

/* From the end of a chunk's data into the next chunk, or to the end of the body. */
static int
chunk_next(struct http_body *body)
{
	struct http_str line;

	if (body->started) {
		if (body_line(body, 0, &line) == -1)
			return -1;
	}
	body->started = true;
	if (body_line(body, CHUNK_DIGITS + CHUNK_EXT_MAX, &line) == -1 ||
	    chunk_line_parse(body, line) == -1)
		return -1;
	if (body->left == 0) {
		if (trailers_skip(body) == -1)
			return -1;
		body->done = true;
	}
	return 0;
}

/* 1 when there are bytes of the body to come, 0 at its end, -1. */
static int
body_advance(struct http_body *body)
{
	if (body->error != 0) {
		errno = body->error == 408 ? ETIMEDOUT : EPROTO;
		return -1;
	}
	if (!body->done && body->left == 0 && chunk_next(body) == -1)
		return -1;
	return !body->done;
}

static void
body_account(struct http_body *body, size_t n)
{
	body->left -= (int64_t)n;
	body->received += n;
	if (body->left == 0 && !body->chunked)
		body->done = true;
}

ssize_t
http_body_peek(struct http_body *body, const char **p)
{
	struct http_input *in = body->in;
	int more = body_advance(body);
	size_t have;

	if (more != 1)
		return more;
	if (in->pos == in->len && body_fill(body) == -1)
		return -1;
	have = in->len - in->pos;
	*p = in->buf + in->pos;
	return body->left < (int64_t)have ? (ssize_t)body->left : (ssize_t)have;
}

void
http_body_skip(struct http_body *body, size_t n)
{
	body->in->pos += n;
	body_account(body, n);
}

ssize_t
http_body_read(struct http_body *body, void *dst, size_t n)
{
	struct http_input *in = body->in;
	const char *p;
	ssize_t got;
	int more;

	if (n == 0)
		return 0;
	more = body_advance(body);
	if (more != 1)
		return more;
	if (in->pos == in->len && n >= DIRECT_MIN) {
		if ((uint64_t)body->left < n)
			n = (size_t)body->left;
		got = body_recv(body, dst, n);
		if (got > 0)
			body_account(body, (size_t)got);
		return got;
	}
	got = http_body_peek(body, &p);
	if (got <= 0)
		return got;
	if ((size_t)got > n)
		got = (ssize_t)n;
	memcpy(dst, p, (size_t)got);
	http_body_skip(body, (size_t)got);
	return got;
}

bool
http_body_drain(struct http_body *body, uint64_t max, int64_t deadline)
{
	const char *p;
	ssize_t n = 0;

	/* Whether a client that was not told to continue sends the body all the same, nobody knows.
	 */
	if (!body->done && body->expect_continue)
		return false;
	if (!body->chunked && (uint64_t)body->left > max)
		return false;
	while (!body->done) {
		int64_t left = deadline == GREEN_NEVER ? -1 : deadline - green_now();

		if (left <= 0 && left != -1)
			return false;
		body->in->timeout = left;
		n = http_body_peek(body, &p);
		if (n <= 0 || (uint64_t)n > max)
			return n == 0;
		http_body_skip(body, (size_t)n);
		max -= (uint64_t)n;
	}
	return true;
}
