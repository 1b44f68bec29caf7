/*
 * Request bodies: one row a case, each decoded in five ways: from the buffer, from the socket,
 * split in the middle, byte by byte (a message of SOCK_SEQPACKET is never joined with the
 * next) and through reads of several sizes. What comes after the body must be left alone.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "worker/green/green.h"
#include "worker/http/body.h"
#include "worker/http/request.h"

#define MS        1000000LL
#define MARK      16 /* a head lies before */
#define ROOM      1024
#define BYTEWISE  150 /* messages that surely fit into a socket's buffer */
#define CHUNKED   (-1)
#define LONG_TEXT 200000

struct row {
	int64_t length; /* or CHUNKED */
	const char *input;
	size_t n;
	int error;        /* status, 0 for none */
	const char *body; /* as far as it came */
	size_t body_n;
	size_t rest; /* bytes after it */
};

#define LENGTH(length, input, error, body, rest)                                      \
	{                                                                             \
		length, input, sizeof(input) - 1, error, body, sizeof(body) - 1, rest \
	}
#define CHUNKS(input, error, body, rest) LENGTH(CHUNKED, input, error, body, rest)

/* How a case is fed and read. */
struct way {
	const char *name;
	int type;        /* of the socket pair */
	int in_buffer;   /* percent of the input that lies in the buffer at first */
	size_t message;  /* bytes a message, 0: all */
	size_t read;     /* size of reads; 0: peek and skip */
	size_t skip_max; /* of a peek */
};

static const struct way ways[] = {
    {"buffer", SOCK_STREAM, 100, 0, 0, SIZE_MAX},
    {"buffer, little by little", SOCK_STREAM, 100, 0, 0, 1},
    {"socket", SOCK_STREAM, 0, 0, 100, 0},
    {"half", SOCK_STREAM, 50, 0, 3, 0},
    {"bytewise", SOCK_SEQPACKET, 0, 1, 0, SIZE_MAX},
    {"bytewise, direct", SOCK_SEQPACKET, 0, 1, 8192, 0},
    {"direct", SOCK_STREAM, 0, 0, 8192, 0},
};

struct fixture {
	int peer;
	struct http_input in;
	struct http_body body;
	char buf[MARK + ROOM];
};

static void
request_of(struct http_request *req, int64_t length)
{
	memset(req, 0, sizeof(*req));
	req->chunked = length == CHUNKED;
	req->content_length = length;
}

static void
open_fixture(struct fixture *f, int64_t length, int type, const char *buffered, size_t n)
{
	struct http_request req;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, type, 0, fds), 0);
	f->peer = fds[1];
	assert_true(n <= ROOM);
	memset(f->buf, '#', sizeof(f->buf));
	memcpy(f->buf + MARK, buffered, n);
	f->in = (struct http_input){.fd = fds[0],
	    .buf = f->buf,
	    .size = sizeof(f->buf),
	    .mark = MARK,
	    .pos = MARK,
	    .len = MARK + n,
	    .timeout = 5000 * MS};
	request_of(&req, length);
	http_body_init(&f->body, &req, &f->in);
}

static void
close_fixture(struct fixture *f)
{
	for (int i = 0; i < MARK; i++)
		assert_int_equal(f->buf[i], '#'); /* the head was not touched */
	close(f->peer);
	close(f->in.fd);
}

static void
feed(struct fixture *f, const char *p, size_t n, size_t message)
{
	size_t step;

	for (; n > 0; p += step, n -= step) {
		step = message == 0 || message > n ? n : message;
		assert_int_equal(send(f->peer, p, step, MSG_DONTWAIT | MSG_NOSIGNAL), step);
	}
	assert_int_equal(shutdown(f->peer, SHUT_WR), 0);
}

/* The whole body to out; returns its length, or -1 with what came before in *got. */
static int
read_all(struct http_body *body, const struct way *way, char *out, size_t size, size_t *got)
{
	char chunk[8192];
	const char *p;
	ssize_t n;

	for (*got = 0;; *got += (size_t)n) {
		if (way->read > 0) {
			n = http_body_read(body, chunk, way->read);
			p = chunk;
		} else {
			n = http_body_peek(body, &p);
			if (n > 0 && (size_t)n > way->skip_max)
				n = (ssize_t)way->skip_max;
		}
		if (n <= 0)
			return (int)n;
		assert_true(*got + (size_t)n <= size);
		memcpy(out + *got, p, (size_t)n);
		if (way->read == 0)
			http_body_skip(body, (size_t)n);
	}
}

/* What was not used: in the buffer and behind it in the socket. */
static size_t
count_rest(struct fixture *f)
{
	size_t rest = f->in.len - f->in.pos;
	char c[4096];
	ssize_t n;

	while ((n = recv(f->in.fd, c, sizeof(c), MSG_DONTWAIT)) > 0)
		rest += (size_t)n;
	return rest;
}

static bool
check_row(const struct row *row, const struct way *way)
{
	struct fixture f;
	char out[4096];
	size_t buffered = row->n * (size_t)way->in_buffer / 100, got;
	int rc;
	bool ok;

	if (buffered > ROOM || (way->message == 1 && row->n > BYTEWISE))
		return true;
	open_fixture(&f, row->length, way->type, row->input, buffered);
	feed(&f, row->input + buffered, row->n - buffered, way->message);
	errno = 0;
	rc = read_all(&f.body, way, out, sizeof(out), &got);
	ok = f.body.error == row->error && got == row->body_n && memcmp(out, row->body, got) == 0 &&
	     f.body.received == got;
	if (row->error == 0)
		ok = ok && rc == 0 && f.body.done && count_rest(&f) == row->rest;
	else
		ok = ok && rc == -1 && errno == EPROTO && !f.body.done &&
		     http_body_read(&f.body, out, 1) == -1 && errno == EPROTO;
	if (!ok)
		print_error("%s: %s\n  got %d, status %d, %zu bytes: %.*s\n", way->name, row->input,
		    rc, f.body.error, got, (int)got, out);
	close_fixture(&f);
	return ok;
}

static void
check_rows(const struct row *rows, size_t n)
{
	size_t wrong = 0;

	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < sizeof(ways) / sizeof(ways[0]); j++)
			wrong += !check_row(&rows[i], &ways[j]);
	assert_int_equal(wrong, 0);
}

#define CHECK(rows) check_rows(rows, sizeof(rows) / sizeof((rows)[0]))

static void
test_length(void **state)
{
	static const struct row rows[] = {
	    LENGTH(0, "", 0, "", 0),
	    LENGTH(0, "GET /", 0, "", 5),
	    LENGTH(5, "hello", 0, "hello", 0),
	    LENGTH(5, "helloGET /", 0, "hello", 5),
	    LENGTH(5, "a\0\r\nbGET", 0, "a\0\r\nb", 3),
	    LENGTH(5, "hell", 400, "hell", 0),
	    LENGTH(5, "", 400, "", 0),
	    LENGTH(INT64_MAX, "hello", 400, "hello", 0),
	};

	(void)state;
	CHECK(rows);
}

static void
test_chunked(void **state)
{
	static const struct row rows[] = {
	    CHUNKS("0\r\n\r\n", 0, "", 0),
	    CHUNKS("0\r\n\r\nGET /", 0, "", 5),
	    CHUNKS("0000000000000000\r\n\r\n", 0, "", 0),
	    CHUNKS("5\r\nhello\r\n0\r\n\r\nGET", 0, "hello", 3),
	    CHUNKS("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", 0, "hello world", 0),
	    CHUNKS("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", 0, "01234567890123456789", 0),
	    CHUNKS("0000000000000002\r\n\r\n\r\n0\r\n\r\n", 0, "\r\n", 0),
	    CHUNKS("3\r\na\0b\r\n0\r\n\r\n", 0, "a\0b", 0),
	    CHUNKS("11\r\n0123456789abcdef0\r\n0\r\n\r\n", 0, "0123456789abcdef0", 0),
	};

	(void)state;
	CHECK(rows);
}

static void
test_chunk_size(void **state)
{
	static const struct row rows[] = {
	    CHUNKS("\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("+5\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("-5\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("0x5\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("5_0\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS(" 5\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("\t5\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("5 \r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("5 5\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("5g\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("5h\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("5,5\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("\"5\"\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("5\0\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("\xd9\xa5\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("00000000000000005\r\nhello\r\n0\r\n\r\n", 400, "", 0), /* 17 digits */
	    CHUNKS("10000000000000005\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("ffffffffffffffff\r\nhello", 400, "", 0),
	    CHUNKS("8000000000000000\r\nhello", 400, "", 0),
	    CHUNKS("7fffffffffffffff\r\nhello", 400, "hello", 0), /* cut short */
	};

	(void)state;
	CHECK(rows);
}

static void
test_chunk_lines(void **state)
{
	static const struct row rows[] = {
	    CHUNKS("5\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("5\rhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("5\r\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("5\n\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("5\r\nhello\n0\r\n\r\n", 400, "hello", 0),
	    CHUNKS("5\r\nhello\r0\r\n\r\n", 400, "hello", 0),
	    CHUNKS("5\r\nhello0\r\n\r\n", 400, "hello", 0),
	    CHUNKS("5\r\nhelloXX0\r\n\r\n", 400, "hello", 0),
	    CHUNKS("5\r\nhello\r\r\n0\r\n\r\n", 400, "hello", 0),
	    CHUNKS("5\r\nhello\r\n\r\n0\r\n\r\n", 400, "hello", 0),
	    CHUNKS("5\r\nhello!\r\n0\r\n\r\n", 400, "hello", 0),
	    CHUNKS("5\r\nhell\r\n0\r\n\r\n", 400, "hell\r", 0),
	    CHUNKS("0\r\n\n", 400, "", 0),
	    CHUNKS("0\n\r\n", 400, "", 0),
	    CHUNKS("0\r\n\rX", 400, "", 0),
	    CHUNKS("0\r\n", 400, "", 0),
	    CHUNKS("0\r\n\r", 400, "", 0),
	    CHUNKS("0", 400, "", 0),
	    CHUNKS("", 400, "", 0),
	    CHUNKS("5\r\nhello", 400, "hello", 0),
	    CHUNKS("5\r\nhello\r\n", 400, "hello", 0),
	    CHUNKS("5\r\nhello\r\n0\r\n", 400, "hello", 0),
	};

	(void)state;
	CHECK(rows);
}

static void
test_chunk_extensions(void **state)
{
	static const struct row rows[] = {
	    CHUNKS("5;a\r\nhello\r\n0;b\r\n\r\n", 0, "hello", 0),
	    CHUNKS("5;a=b\r\nhello\r\n0\r\n\r\n", 0, "hello", 0),
	    CHUNKS("5 ; a = b ;c\r\nhello\r\n0\r\n\r\n", 0, "hello", 0),
	    CHUNKS("5;a ;b\r\nhello\r\n0\r\n\r\n", 0, "hello", 0),
	    CHUNKS("5;a=\"\"\r\nhello\r\n0\r\n\r\n", 0, "hello", 0),
	    CHUNKS("5;a=\"b c;\\\"\xc3\t\"\r\nhello\r\n0\r\n\r\n", 0, "hello", 0),
	    CHUNKS("5;\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("5; \r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("5;;a\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("5;a;\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("5;=b\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("5;a=\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("5;a \r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("5;a b\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("5;a=b c\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("5;a=\"b\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("5;a=\"b\\\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("5;a=\"b\"c\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("5;a=\"\x01\"\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("5;a=\"\\\x01\"\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("5;a\nb\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("5;\nb\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("5;a\rb\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("5;a\0\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	    CHUNKS("5;\xc3=b\r\nhello\r\n0\r\n\r\n", 400, "", 0),
	};

	(void)state;
	CHECK(rows);
}

static void
test_trailers(void **state)
{
	static const struct row rows[] = {
	    CHUNKS("0\r\nA: b\r\n\r\nGET", 0, "", 3),
	    CHUNKS("5\r\nhello\r\n0\r\nX-Sum: 1\r\nB:\r\n\r\n", 0, "hello", 0),
	    CHUNKS("0\r\nA b\r\n\r\n", 400, "", 0),
	    CHUNKS("0\r\nA : b\r\n\r\n", 400, "", 0),
	    CHUNKS("0\r\n: b\r\n\r\n", 400, "", 0),
	    CHUNKS("0\r\n A: b\r\n\r\n", 400, "", 0),
	    CHUNKS("0\r\nA: b\r\n c\r\n\r\n", 400, "", 0),
	    CHUNKS("0\r\nA: b\n\r\n", 400, "", 0),
	    CHUNKS("0\r\nA: b\rc\r\n\r\n", 400, "", 0),
	    CHUNKS("0\r\nA: b\0\r\n\r\n", 400, "", 0),
	    CHUNKS("0\r\nA: b\x01\r\n\r\n", 400, "", 0),
	    CHUNKS("0\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", 400, "", 0),
	    CHUNKS("0\r\nContent-Length: 5\r\n\r\n", 400, "", 0),
	    CHUNKS("0\r\ntransfer-encoding: chunked\r\n\r\n", 400, "", 0),
	    CHUNKS("0\r\nHost: h\r\n\r\n", 400, "", 0),
	    CHUNKS("0\r\nAuthorization: a\r\n\r\n", 400, "", 0),
	    CHUNKS("0\r\nContent-Type: a\r\n\r\n", 400, "", 0),
	    CHUNKS("0\r\nTrailer: a\r\n\r\n", 400, "", 0),
	    CHUNKS("0\r\nCookie: a\r\n\r\n", 400, "", 0),
	    CHUNKS("0\r\nA: b\r\nSet-Cookie: a\r\n\r\n", 400, "", 0),
	};

	(void)state;
	CHECK(rows);
}

/* Decode input that a thread sends: also more than fits into sockets and buffers. */
struct sender {
	int fd;
	const char *p;
	size_t n;
};

static void *
sender_run(void *arg)
{
	struct sender *s = arg;
	ssize_t n;

	while (s->n > 0 && (n = send(s->fd, s->p, s->n, MSG_NOSIGNAL)) > 0) {
		s->p += n;
		s->n -= (size_t)n;
	}
	shutdown(s->fd, SHUT_WR);
	return NULL;
}

/* Returns the error's status; the body is in out. */
static int
decode(int64_t length, const char *input, size_t n, size_t read_size, char *out, size_t size,
    size_t *got)
{
	const struct way way = {.read = read_size, .skip_max = SIZE_MAX};
	struct fixture f;
	struct sender sender;
	pthread_t thread;
	int rc;

	open_fixture(&f, length, SOCK_STREAM, "", 0);
	sender = (struct sender){f.peer, input, n};
	assert_int_equal(pthread_create(&thread, NULL, sender_run, &sender), 0);
	rc = read_all(&f.body, &way, out, size, got);
	assert_int_equal(rc == -1, f.body.error != 0);
	shutdown(f.in.fd, SHUT_RDWR); /* the sender may still have some */
	assert_int_equal(pthread_join(thread, NULL), 0);
	close_fixture(&f);
	return f.body.error;
}

static void
test_long_bodies(void **state)
{
	static const size_t sizes[] = {0, 1, 100, 4096, 8192};
	char *text = malloc(LONG_TEXT), *chunked = malloc(LONG_TEXT * 8), *out = malloc(LONG_TEXT);
	size_t n = 0, got;

	(void)state;
	for (size_t i = 0; i < LONG_TEXT; i++)
		text[i] = (char)(i * 7 + i / 251);
	for (size_t at = 0, step = 1; at < LONG_TEXT; at += step, step = step * 3 % 5003 + 1) {
		if (step > LONG_TEXT - at)
			step = LONG_TEXT - at;
		n += (size_t)sprintf(chunked + n, "%zx\r\n", step);
		memcpy(chunked + n, text + at, step);
		n += step;
		n += (size_t)sprintf(chunked + n, "\r\n");
	}
	n += (size_t)sprintf(chunked + n, "0\r\n\r\n");
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		assert_int_equal(
		    decode(LONG_TEXT, text, LONG_TEXT, sizes[i], out, LONG_TEXT, &got), 0);
		assert_int_equal(got, LONG_TEXT);
		assert_memory_equal(out, text, LONG_TEXT);
		assert_int_equal(decode(CHUNKED, chunked, n, sizes[i], out, LONG_TEXT, &got), 0);
		assert_int_equal(got, LONG_TEXT);
		assert_memory_equal(out, text, LONG_TEXT);
	}
	free(text);
	free(chunked);
	free(out);
}

/* One chunk with an extension of so many bytes, many chunks with it, trailers of so many. */
static void
test_overhead_is_bounded(void **state)
{
	static const struct {
		size_t ext, chunks, trailers, trailer_size;
		int error;
	} rows[] = {
	    {256, 1, 0, 0, 0},
	    {257, 1, 0, 0, 400},
	    {100000, 1, 0, 0, 400},
	    {256, 64, 0, 0, 0},
	    {256, 65, 0, 0, 400},
	    {0, 20000, 0, 0, 0},
	    {0, 1, 16, 1000, 0},
	    {0, 1, 17, 1000, 400},
	    {0, 1, 10000, 5, 400},
	    {0, 1, 1, 20000, 400},
	    {256, 60, 2, 1000, 400},
	};
	char *input = malloc(1024 * 1024), *out = malloc(20000);
	size_t n, got;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		n = 0;
		for (size_t j = 0; j < rows[i].chunks; j++) {
			input[n++] = '1';
			memset(input + n, 'a', rows[i].ext);
			if (rows[i].ext > 0)
				input[n] = ';';
			n += rows[i].ext;
			n += (size_t)sprintf(input + n, "\r\nx\r\n");
		}
		n += (size_t)sprintf(input + n, "0\r\n");
		for (size_t j = 0; j < rows[i].trailers; j++) {
			memset(input + n, 'a', rows[i].trailer_size);
			memcpy(input + n, "A:", 2);
			n += rows[i].trailer_size;
			n += (size_t)sprintf(input + n, "\r\n");
		}
		n += (size_t)sprintf(input + n, "\r\n");
		if (decode(CHUNKED, input, n, 100, out, 20000, &got) != rows[i].error)
			fail_msg("row %zu", i);
	}
	free(input);
	free(out);
}

/* What the peer has been sent so far. */
static const char *
peer_got(struct fixture *f)
{
	static char text[256];
	ssize_t n = recv(f->peer, text, sizeof(text) - 1, MSG_DONTWAIT);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static const char continue_line[] = "HTTP/1.1 100 Continue\r\n\r\n";

static void
open_expecting(struct fixture *f, int64_t length, const char *buffered)
{
	struct http_request req;

	open_fixture(f, length, SOCK_STREAM, buffered, strlen(buffered));
	request_of(&req, length);
	req.expect_continue = true;
	http_body_init(&f->body, &req, &f->in);
}

static void
test_continue_when_it_must_wait(void **state)
{
	struct fixture f;
	char c[16];

	(void)state;
	open_expecting(&f, 5, "");
	f.in.timeout = 10 * MS;
	assert_string_equal(peer_got(&f), ""); /* not before the application reads */
	assert_int_equal(http_body_read(&f.body, c, sizeof(c)), -1);
	assert_int_equal(errno, ETIMEDOUT);
	assert_int_equal(f.body.error, 408);
	assert_string_equal(peer_got(&f), continue_line);
	close_fixture(&f);
}

/* A client that sends its body when it was told to, and what it was told in all. */
struct waiting_client {
	int fd;
	char told[256];
};

static void *
waiting_client_run(void *arg)
{
	static const char input[] = "1\r\na\r\n1\r\nb\r\n0\r\n\r\n";
	struct waiting_client *client = arg;
	struct timeval limit = {5, 0};
	ssize_t n;

	(void)setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	n = recv(client->fd, client->told, sizeof(client->told) - 1, 0);
	for (size_t i = 0; n > 0 && i < sizeof(input) - 1; i++)
		if (send(client->fd, input + i, 1, MSG_NOSIGNAL) != 1)
			break;
	return NULL;
}

static void
test_continue_only_once(void **state)
{
	struct fixture f;
	struct waiting_client client = {0};
	pthread_t thread;
	char c[16];

	(void)state;
	open_expecting(&f, CHUNKED, "");
	client.fd = f.peer;
	assert_int_equal(pthread_create(&thread, NULL, waiting_client_run, &client), 0);
	assert_int_equal(http_body_read(&f.body, c, sizeof(c)), 1);
	assert_int_equal(http_body_read(&f.body, c, sizeof(c)), 1);
	assert_int_equal(http_body_read(&f.body, c, sizeof(c)), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_string_equal(client.told, continue_line);
	assert_string_equal(peer_got(&f), "");
	assert_true(http_body_drain(&f.body, 0, GREEN_NEVER));
	close_fixture(&f);
}

/* A client that began to send waits for nothing any more. */
static void
test_no_continue_in_the_middle(void **state)
{
	struct fixture f;
	char c[16];

	(void)state;
	open_expecting(&f, CHUNKED, "");
	assert_int_equal(send(f.peer, "5\r\nhe", 5, 0), 5);
	assert_int_equal(http_body_read(&f.body, c, sizeof(c)), 2);
	f.in.timeout = 5 * MS;
	assert_int_equal(http_body_read(&f.body, c, sizeof(c)), -1);
	assert_int_equal(f.body.error, 408);
	assert_string_equal(peer_got(&f), "");
	close_fixture(&f);
}

static void
test_no_continue_when_bytes_are_there(void **state)
{
	struct fixture f;
	char c[16];

	(void)state;
	open_expecting(&f, 5, "hello");
	assert_int_equal(http_body_read(&f.body, c, sizeof(c)), 5);
	assert_int_equal(http_body_read(&f.body, c, sizeof(c)), 0);
	assert_string_equal(peer_got(&f), "");
	close_fixture(&f);

	open_expecting(&f, 5, "");
	feed(&f, "hello", 5, 0);
	assert_int_equal(http_body_read(&f.body, c, sizeof(c)), 5);
	assert_string_equal(peer_got(&f), "");
	close_fixture(&f);

	open_expecting(&f, 0, "");
	assert_int_equal(http_body_read(&f.body, c, sizeof(c)), 0);
	assert_true(http_body_drain(&f.body, 0, GREEN_NEVER));
	assert_string_equal(peer_got(&f), "");
	close_fixture(&f);
}

static bool
never(void *arg)
{
	*(int *)arg += 1;
	return false;
}

static void
test_no_continue_after_the_response(void **state)
{
	struct fixture f;
	char c[16];
	int asked = 0;

	(void)state;
	open_expecting(&f, 5, "");
	f.body.may_continue = never;
	f.body.arg = &asked;
	f.in.timeout = 5 * MS;
	assert_int_equal(http_body_read(&f.body, c, sizeof(c)), -1);
	assert_int_equal(f.body.error, 408);
	assert_int_equal(asked, 1);
	assert_string_equal(peer_got(&f), "");
	close_fixture(&f);
}

static void
test_drain(void **state)
{
	static const struct {
		int64_t length;
		const char *input;
		bool expecting;
		uint64_t max;
		bool usable;
	} rows[] = {
	    {0, "", false, 0, true},
	    {5, "hello", false, 5, true},
	    {5, "hello", false, 4, false},
	    {5, "hell", false, 100, false}, /* and then it ends */
	    {5, "hello", true, 100, false},
	    {CHUNKED, "5\r\nhello\r\n0\r\n\r\n", false, 5, true},
	    {CHUNKED, "5\r\nhello\r\n0\r\n\r\n", false, 4, false},
	    {CHUNKED, "5\r\nhello\n0\r\n\r\n", false, 100, false},
	    {CHUNKED, "0\r\n\r\n", true, 100, false},
	    {INT64_MAX, "hello", false, 1000000, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct fixture f;

		if (rows[i].expecting)
			open_expecting(&f, rows[i].length, rows[i].input);
		else
			open_fixture(
			    &f, rows[i].length, SOCK_STREAM, rows[i].input, strlen(rows[i].input));
		feed(&f, "GET", 0, 0);
		if (http_body_drain(&f.body, rows[i].max, GREEN_NEVER) != rows[i].usable)
			fail_msg("row %zu", i);
		assert_string_equal(peer_got(&f), "");
		close_fixture(&f);
	}
}

/* A client that is gone: told apart from one that is slow; the error stays. */
static void
test_reset_and_timeout(void **state)
{
	struct fixture f;
	char c[16];

	(void)state;
	open_fixture(&f, 5, SOCK_STREAM, "he", 2);
	assert_int_equal(send(f.in.fd, "x", 1, 0), 1); /* unread at close: a reset */
	close(f.peer);
	f.peer = dup(f.in.fd);
	assert_int_equal(http_body_read(&f.body, c, sizeof(c)), 2);
	assert_int_equal(http_body_read(&f.body, c, sizeof(c)), -1);
	assert_int_equal(errno, ECONNRESET);
	assert_int_equal(f.body.error, 400);
	assert_false(http_body_drain(&f.body, 100, GREEN_NEVER));
	close_fixture(&f);

	open_fixture(&f, 5, SOCK_STREAM, "he", 2);
	assert_false(http_body_drain(&f.body, 100, green_deadline(5 * MS))); /* not body_timeout */
	close_fixture(&f);

	open_fixture(&f, CHUNKED, SOCK_STREAM, "5\r\nhe", 5);
	f.in.timeout = 5 * MS;
	assert_int_equal(http_body_read(&f.body, c, sizeof(c)), 2);
	assert_int_equal(http_body_read(&f.body, c, sizeof(c)), -1);
	assert_int_equal(errno, ETIMEDOUT);
	assert_int_equal(http_body_read(&f.body, c, sizeof(c)), -1);
	assert_int_equal(errno, ETIMEDOUT);
	assert_int_equal(f.body.error, 408);
	close_fixture(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_length),
	    cmocka_unit_test(test_chunked),
	    cmocka_unit_test(test_chunk_size),
	    cmocka_unit_test(test_chunk_lines),
	    cmocka_unit_test(test_chunk_extensions),
	    cmocka_unit_test(test_trailers),
	    cmocka_unit_test(test_long_bodies),
	    cmocka_unit_test(test_overhead_is_bounded),
	    cmocka_unit_test(test_continue_when_it_must_wait),
	    cmocka_unit_test(test_continue_only_once),
	    cmocka_unit_test(test_no_continue_in_the_middle),
	    cmocka_unit_test(test_no_continue_when_bytes_are_there),
	    cmocka_unit_test(test_no_continue_after_the_response),
	    cmocka_unit_test(test_drain),
	    cmocka_unit_test(test_reset_and_timeout),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
