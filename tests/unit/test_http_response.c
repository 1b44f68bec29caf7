/*
 * Responses as the peer of a socket pair sees them: one row a case, the date written as D.
 * Longer bodies go to a reader in a thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "worker/http/request.h"
#include "worker/http/response.h"

#define MS   1000000LL
#define LONG (4 * 1024 * 1024)

/* What the head has between status line and the application's fields. */
#define OURS  "Server: s\r\nDate: D\r\nConnection: keep-alive\r\n"
#define CLOSE "Server: s\r\nDate: D\r\nConnection: close\r\n"
#define CHUNK "Transfer-Encoding: chunked\r\n"

struct fixture {
	int peer;
	struct http_request req;
	struct http_response resp;
};

static void
open_fixture(struct fixture *f, const char *method, unsigned minor)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	f->peer = fds[1];
	memset(&f->req, 0, sizeof(f->req));
	f->req.method = (struct http_str){method, strlen(method)};
	f->req.is_head = strcmp(method, "HEAD") == 0;
	f->req.is_connect = strcmp(method, "CONNECT") == 0;
	f->req.major = 1;
	f->req.minor = minor;
	f->req.keep_alive = true;
	http_response_init(&f->resp, fds[0], 5000 * MS, "s");
	http_response_begin(&f->resp, &f->req, true);
}

static void
close_fixture(struct fixture *f)
{
	http_response_fini(&f->resp);
	close(f->resp.fd);
	if (f->peer != -1)
		close(f->peer);
}

static int
set_status(struct fixture *f, const char *status)
{
	return http_response_status(&f->resp, status, strlen(status));
}

static int
set_header(struct fixture *f, const char *name, const char *value)
{
	return http_response_header(&f->resp, name, strlen(name), value, strlen(value));
}

static int
write_text(struct fixture *f, const char *text)
{
	return http_response_write(&f->resp, text, strlen(text));
}

/* What has come so far. */
static const char *
received(struct fixture *f)
{
	static char text[8192];
	ssize_t n = recv(f->peer, text, sizeof(text) - 1, MSG_DONTWAIT);
	char *date;

	text[n > 0 ? n : 0] = '\0';
	date = strstr(text, "Date: ");
	if (date != NULL && strncmp(date + 31, " GMT\r\n", 6) == 0) {
		date[6] = 'D';
		memmove(date + 7, date + 35, strlen(date + 35) + 1);
	}
	return text;
}

struct row {
	const char *method;
	unsigned minor;
	const char *status;
	const char *headers[8]; /* name, value, … */
	int64_t length;         /* told by http_response_length; -1: not */
	const char *parts[4];   /* of the body */
	const char *want;
	bool keep_alive;   /* at the end */
	const char *flags; /* "cut", "short" */
};

static void
check_row(const struct row *row)
{
	struct fixture f;
	const char *flags, *got;

	open_fixture(&f, row->method, row->minor);
	assert_int_equal(set_status(&f, row->status), 0);
	for (size_t i = 0; i < 8 && row->headers[i] != NULL; i += 2)
		assert_int_equal(set_header(&f, row->headers[i], row->headers[i + 1]), 0);
	if (row->length >= 0)
		http_response_length(&f.resp, row->length);
	for (size_t i = 0; i < 4 && row->parts[i] != NULL; i++)
		assert_int_equal(write_text(&f, row->parts[i]), 0);
	assert_int_equal(http_response_finish(&f.resp), 0);
	assert_int_equal(http_response_finish(&f.resp), 0);
	assert_true(f.resp.finished);
	got = received(&f);
	flags = f.resp.cut ? "cut" : f.resp.cut_short ? "short" : "";
	if (strcmp(got, row->want) != 0 || f.resp.keep_alive != row->keep_alive ||
	    strcmp(flags, row->flags != NULL ? row->flags : "") != 0)
		fail_msg("%s 1.%u %s: keep-alive %d %s, got\n%s\nwant\n%s", row->method, row->minor,
		    row->status, f.resp.keep_alive, flags, got, row->want);
	close_fixture(&f);
}

static void
check_rows(const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++)
		check_row(&rows[i]);
}

#define CHECK(rows) check_rows(rows, sizeof(rows) / sizeof((rows)[0]))

static void
test_framing(void **state)
{
	static const struct row rows[] = {
	    /* a length that the application gives */
	    {"GET", 1, "200 OK", {"Content-Length", "5", "A", "b"}, -1, {"hello"},
		"HTTP/1.1 200 OK\r\n" OURS "Content-Length: 5\r\nA: b\r\n\r\nhello", true, NULL},
	    {"GET", 1, "200 OK", {"Content-Length", " 005 "}, -1, {"he", "llo"},
		"HTTP/1.1 200 OK\r\n" OURS "Content-Length: 5\r\n\r\nhello", true, NULL},
	    {"GET", 1, "200 OK", {"Content-Length", "0"}, -1, {NULL},
		"HTTP/1.1 200 OK\r\n" OURS "Content-Length: 0\r\n\r\n", true, NULL},
	    {"GET", 1, "200 OK", {"Content-Length", "5", "content-length", "5"}, -1, {"hello"},
		"HTTP/1.1 200 OK\r\n" OURS "Content-Length: 5\r\n\r\nhello", true, NULL},
	    /* one that the server knows */
	    {"GET", 1, "200 OK", {NULL}, 5, {"hello"},
		"HTTP/1.1 200 OK\r\n" OURS "Content-Length: 5\r\n\r\nhello", true, NULL},
	    {"GET", 1, "200 OK", {"Content-Length", "5"}, 7, {"hello"},
		"HTTP/1.1 200 OK\r\n" OURS "Content-Length: 5\r\n\r\nhello", true, NULL},
	    {"GET", 1, "200 OK", {NULL}, -1, {NULL},
		"HTTP/1.1 200 OK\r\n" OURS "Content-Length: 0\r\n\r\n", true, NULL},
	    /* none */
	    {"GET", 1, "200 OK", {NULL}, -1, {"hello", "", " world, what a day"},
		"HTTP/1.1 200 OK\r\n" OURS CHUNK
		"\r\n5\r\nhello\r\n12\r\n world, what a day\r\n0\r\n\r\n",
		true, NULL},
	    {"GET", 0, "200 OK", {NULL}, -1, {"hello", " world"},
		"HTTP/1.0 200 OK\r\n" CLOSE "\r\nhello world", false, NULL},
	    {"GET", 0, "200 OK", {"Content-Length", "5"}, -1, {"hello"},
		"HTTP/1.0 200 OK\r\n" OURS "Content-Length: 5\r\n\r\nhello", true, NULL},
	    {"GET", 0, "200 OK", {NULL}, -1, {NULL},
		"HTTP/1.0 200 OK\r\n" OURS "Content-Length: 0\r\n\r\n", true, NULL},
	    /* too much, too little */
	    {"GET", 1, "200 OK", {"Content-Length", "5"}, -1, {"hel", "lo world", "!"},
		"HTTP/1.1 200 OK\r\n" OURS "Content-Length: 5\r\n\r\nhello", true, "cut"},
	    {"GET", 1, "200 OK", {"Content-Length", "0"}, -1, {"hello"},
		"HTTP/1.1 200 OK\r\n" OURS "Content-Length: 0\r\n\r\n", true, "cut"},
	    {"GET", 1, "200 OK", {"Content-Length", "6"}, -1, {"hello"},
		"HTTP/1.1 200 OK\r\n" OURS "Content-Length: 6\r\n\r\nhello", false, "short"},
	    {"GET", 1, "200 OK", {"Content-Length", "6"}, -1, {NULL},
		"HTTP/1.1 200 OK\r\n" CLOSE "Content-Length: 6\r\n\r\n", false, "short"},
	    {"GET", 1, "500", {NULL}, 1, {"a"},
		"HTTP/1.1 500 \r\n" OURS "Content-Length: 1\r\n\r\na", true, NULL},
	};

	(void)state;
	CHECK(rows);
}

/* No body, and nothing said about it that the application did not say. */
static void
test_without_body(void **state)
{
	static const struct row rows[] = {
	    {"HEAD", 1, "200 OK", {NULL}, -1, {"hello"}, "HTTP/1.1 200 OK\r\n" OURS "\r\n", true,
		NULL},
	    {"HEAD", 1, "200 OK", {NULL}, 0, {NULL}, "HTTP/1.1 200 OK\r\n" OURS "\r\n", true, NULL},
	    {"HEAD", 1, "200 OK", {"Content-Length", "5"}, -1, {"hello"},
		"HTTP/1.1 200 OK\r\n" OURS "Content-Length: 5\r\n\r\n", true, NULL},
	    {"HEAD", 1, "200 OK", {"Content-Length", "5"}, -1, {NULL},
		"HTTP/1.1 200 OK\r\n" OURS "Content-Length: 5\r\n\r\n", true, NULL},
	    {"HEAD", 0, "200 OK", {NULL}, -1, {"hello"}, "HTTP/1.0 200 OK\r\n" OURS "\r\n", true,
		NULL},
	    {"GET", 1, "204 No Content", {NULL}, 5, {"hello"},
		"HTTP/1.1 204 No Content\r\n" OURS "\r\n", true, NULL},
	    {"GET", 1, "204 No Content", {"Content-Length", "0"}, -1, {NULL},
		"HTTP/1.1 204 No Content\r\n" OURS "\r\n", true, NULL},
	    {"HEAD", 1, "204 No Content", {"Content-Length", "0"}, -1, {NULL},
		"HTTP/1.1 204 No Content\r\n" OURS "\r\n", true, NULL},
	    {"GET", 1, "304 Not Modified", {"Content-Length", "5"}, -1, {"hello"},
		"HTTP/1.1 304 Not Modified\r\n" OURS "Content-Length: 5\r\n\r\n", true, NULL},
	    {"GET", 1, "304 Not Modified", {"ETag", "x"}, 0, {NULL},
		"HTTP/1.1 304 Not Modified\r\n" OURS "ETag: x\r\n\r\n", true, NULL},
	    {"GET", 1, "100 Continue", {NULL}, -1, {"hello"},
		"HTTP/1.1 100 Continue\r\n" CLOSE "\r\n", false, NULL},
	    {"GET", 1, "101 Switching Protocols", {"Connection", "Upgrade", "Upgrade", "websocket"},
		-1, {NULL},
		"HTTP/1.1 101 Switching Protocols\r\nServer: s\r\nDate: D\r\nConnection: "
		"upgrade\r\n"
		"Upgrade: websocket\r\n\r\n",
		false, NULL},
	    {"CONNECT", 1, "200 OK", {"Content-Length", "5"}, -1, {"hello"},
		"HTTP/1.1 200 OK\r\n" CLOSE "\r\n", false, NULL},
	    {"CONNECT", 1, "405 No", {NULL}, 2, {"no"},
		"HTTP/1.1 405 No\r\n" CLOSE "Content-Length: 2\r\n\r\nno", false, NULL},
	};

	(void)state;
	CHECK(rows);
}

static void
test_fields(void **state)
{
	static const struct row rows[] = {
	    {"GET", 1, "200 OK", {"Server", "mine"}, 0, {NULL},
		"HTTP/1.1 200 OK\r\nDate: D\r\nConnection: keep-alive\r\nContent-Length: 0\r\n"
		"Server: mine\r\n\r\n",
		true, NULL},
	    {"GET", 1, "200 OK", {"date", "today"}, 0, {NULL},
		"HTTP/1.1 200 OK\r\nServer: s\r\nConnection: keep-alive\r\nContent-Length: 0\r\n"
		"date: today\r\n\r\n",
		true, NULL},
	    {"GET", 1, "200 OK", {"Connection", "close"}, 0, {NULL},
		"HTTP/1.1 200 OK\r\n" CLOSE "Content-Length: 0\r\n\r\n", false, NULL},
	    {"GET", 1, "200 OK", {"connection", "x, Close"}, 0, {NULL},
		"HTTP/1.1 200 OK\r\n" CLOSE "Content-Length: 0\r\n\r\n", false, NULL},
	    {"GET", 1, "200 OK", {"Connection", "keep-alive"}, 0, {NULL},
		"HTTP/1.1 200 OK\r\n" OURS "Content-Length: 0\r\n\r\n", true, NULL},
	    {"GET", 1, "200 OK", {"Set-Cookie", "a", "Set-Cookie", "b", "X", " \tc\td\xe9 "}, 0,
		{NULL},
		"HTTP/1.1 200 OK\r\n" OURS
		"Content-Length: 0\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nX: c\td\xe9\r\n\r\n",
		true, NULL},
	    {"GET", 1, "200 OK", {"X", ""}, 0, {NULL},
		"HTTP/1.1 200 OK\r\n" OURS "Content-Length: 0\r\nX: \r\n\r\n", true, NULL},
	};

	(void)state;
	CHECK(rows);
}

/* What an application must not send: text that would be another head, and what is the server's. */
static void
test_refused(void **state)
{
	static const struct {
		const char *name;
		size_t name_n;
		const char *value;
		size_t value_n;
	} fields[] = {
#define BAD(name, value) {name, sizeof(name) - 1, value, sizeof(value) - 1}
	    BAD("", "a"), BAD("A:", "a"), BAD("A B", "a"), BAD("A\r\nB", "a"), BAD("A\0", "a"),
	    BAD("\xe9", "a"), BAD("A", "a\r\nB: c"), BAD("A", "a\n"), BAD("A", "\r"),
	    BAD("A", "a\0b"), BAD("A", "\x01"), BAD("A", "\x7f"), BAD("Content-Length", ""),
	    BAD("Content-Length", "-1"), BAD("Content-Length", "+1"), BAD("Content-Length", "1 1"),
	    BAD("Content-Length", "1, 1"), BAD("Content-Length", "a"),
	    BAD("Content-Length", "9223372036854775808"), BAD("Content-Length", "4"), /* after 5 */
	};
	static const char *const left_out[] = {"Transfer-Encoding", "keep-alive", "TE", "Trailer",
	    "Trailers", "Proxy-Authenticate", "Proxy-Authorization"};
	static const char *const statuses[] = {"", "20", "2000 OK", "200OK", "abc OK", "099 OK",
	    "-20 OK", " 200 OK", "200\tOK", "200 O\r\nK", "200 OK\n", "200 \x01"};
	struct fixture f;

	(void)state;
	open_fixture(&f, "GET", 1);
	assert_int_equal(set_header(&f, "A", "b"), -1); /* no status yet */
	assert_int_equal(write_text(&f, "a"), -1);
	assert_int_equal(http_response_finish(&f.resp), -1);
	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
		f.resp.error = NULL;
		errno = 0;
		if (set_status(&f, statuses[i]) != -1 || errno != EINVAL || f.resp.error == NULL)
			fail_msg("status \"%s\" was taken", statuses[i]);
	}
	assert_int_equal(http_response_status(&f.resp, "200 \0", 5), -1);
	assert_int_equal(set_status(&f, "200 OK"), 0);
	assert_int_equal(set_header(&f, "Content-Length", "5"), 0);
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		f.resp.error = NULL;
		errno = 0;
		if (http_response_header(&f.resp, fields[i].name, fields[i].name_n, fields[i].value,
			fields[i].value_n) != -1 ||
		    errno != EINVAL || f.resp.error == NULL)
			fail_msg("field \"%s: %s\" was taken", fields[i].name, fields[i].value);
	}
	for (size_t i = 0; i < sizeof(left_out) / sizeof(left_out[0]); i++)
		assert_int_equal(set_header(&f, left_out[i], "chunked"), 1);
	assert_int_equal(write_text(&f, "hello"), 0);
	assert_int_equal(http_response_finish(&f.resp), 0);
	assert_string_equal(
	    received(&f), "HTTP/1.1 200 OK\r\n" OURS "Content-Length: 5\r\n\r\nhello");
	assert_int_equal(write_text(&f, "more"), -1);
	close_fixture(&f);
}

/* start_response a second time, with exc_info: nothing of the first is left. */
static void
test_second_status(void **state)
{
	struct fixture f;

	(void)state;
	open_fixture(&f, "GET", 1);
	assert_int_equal(set_status(&f, "204 No Content, with a long phrase"), 0);
	assert_int_equal(set_header(&f, "Content-Length", "7"), 0);
	assert_int_equal(set_header(&f, "Server", "mine"), 0);
	assert_int_equal(set_status(&f, "500 Oh"), 0);
	assert_int_equal(write_text(&f, ""), 0);
	assert_string_equal(received(&f), "");
	assert_int_equal(write_text(&f, "oh"), 0);
	assert_int_equal(set_status(&f, "200 OK"), -1);
	assert_int_equal(errno, EALREADY);
	assert_int_equal(set_header(&f, "A", "b"), -1);
	assert_int_equal(errno, EALREADY);
	assert_string_equal(received(&f), "HTTP/1.1 500 Oh\r\n" OURS CHUNK "\r\n2\r\noh\r\n");
	assert_int_equal(http_response_finish(&f.resp), 0);
	assert_string_equal(received(&f), "0\r\n\r\n");
	close_fixture(&f);
}

/* One after the other on one connection; what the client and the server want decides. */
static void
test_reuse(void **state)
{
	static const struct {
		bool client, server, keep;
	} rows[] = {{true, true, true}, {true, false, false}, {false, true, false}};
	struct fixture f;
	char *big = malloc(100000);

	(void)state;
	open_fixture(&f, "GET", 1);
	memset(big, 'a', 100000);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		f.req.keep_alive = rows[i].client;
		http_response_begin(&f.resp, &f.req, rows[i].server);
		assert_int_equal(set_status(&f, "200 OK"), 0);
		http_response_length(&f.resp, 2);
		assert_int_equal(write_text(&f, "ok"), 0);
		assert_int_equal(http_response_finish(&f.resp), 0);
		assert_int_equal(f.resp.keep_alive, rows[i].keep);
		assert_int_equal(f.resp.sent, 2);
		assert_non_null(strstr(received(&f), rows[i].keep ? OURS : CLOSE));
		/* a head that needs much memory does not keep it */
		http_response_begin(&f.resp, &f.req, true);
		assert_int_equal(set_status(&f, "200 OK"), 0);
		assert_int_equal(http_response_header(&f.resp, "A", 1, big, 100000), 0);
		assert_true(f.resp.head_cap > 100000);
		http_response_begin(&f.resp, &f.req, true);
		assert_int_equal(f.resp.head_cap, 0);
	}
	free(big);
	close_fixture(&f);
}

/* ---- longer bodies ---- */

struct reader {
	int fd;
	char *data;
	size_t n;
	bool slow;
};

static void *
reader_run(void *arg)
{
	struct reader *r = arg;
	struct timespec pause = {0, 200000};
	ssize_t n;

	while ((n = recv(r->fd, r->data + r->n, r->slow ? 8192 : 65536, 0)) > 0) {
		r->n += (size_t)n;
		if (r->slow)
			(void)nanosleep(&pause, NULL);
	}
	return NULL;
}

static char *long_text;

static int
setup(void **state)
{
	(void)state;
	(void)signal(SIGPIPE, SIG_IGN); /* as in the worker: sendfile */
	long_text = malloc(LONG);
	if (long_text == NULL)
		return -1;
	for (size_t i = 0; i < LONG; i++)
		long_text[i] = (char)(i * 7 + i / 251);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	free(long_text);
	return 0;
}

static void
start_reader(struct fixture *f, struct reader *r, pthread_t *thread, bool slow)
{
	*r = (struct reader){.fd = f->peer, .data = malloc(LONG + 65536 + 1024), .slow = slow};
	assert_non_null(r->data);
	assert_int_equal(pthread_create(thread, NULL, reader_run, r), 0);
}

/* The response has ended: what came behind the head. */
static size_t
join_reader(struct fixture *f, struct reader *r, pthread_t thread, const char **body)
{
	shutdown(f->resp.fd, SHUT_WR);
	assert_int_equal(pthread_join(thread, NULL), 0);
	*body = memmem(r->data, r->n, "\r\n\r\n", 4);
	assert_non_null(*body);
	*body += 4;
	return r->n - (size_t)(*body - r->data);
}

/* Short writes happen anywhere: in the head, in a chunk's frame, in data. */
static void
test_slow_reader(void **state)
{
	(void)state;
	for (int chunked = 0; chunked < 2; chunked++) {
		struct fixture f;
		struct reader r;
		pthread_t thread;
		const char *body;
		int small = 1;

		open_fixture(&f, "GET", 1);
		(void)setsockopt(f.resp.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
		start_reader(&f, &r, &thread, true);
		assert_int_equal(set_status(&f, "200 OK"), 0);
		if (!chunked)
			http_response_length(&f.resp, LONG);
		assert_int_equal(http_response_write(&f.resp, long_text, 1), 0);
		assert_int_equal(http_response_write(&f.resp, long_text + 1, LONG - 1), 0);
		assert_int_equal(http_response_finish(&f.resp), 0);
		assert_int_equal(f.resp.sent, LONG);
		if (chunked) {
			static const char frame[] = "1\r\n\0\r\n3FFFFF\r\n";

			assert_int_equal(join_reader(&f, &r, thread, &body),
			    sizeof(frame) - 1 + LONG - 1 + strlen("\r\n0\r\n\r\n"));
			assert_memory_equal(body, frame, sizeof(frame) - 1);
			body += sizeof(frame) - 1;
			assert_memory_equal(body, long_text + 1, LONG - 1);
			assert_memory_equal(body + LONG - 1, "\r\n0\r\n\r\n", 7);
		} else {
			assert_int_equal(join_reader(&f, &r, thread, &body), LONG);
			assert_memory_equal(body, long_text, LONG);
		}
		free(r.data);
		close_fixture(&f);
	}
}

/* So slowly that the socket is not writable again for longer than send_timeout. */
static void *
reader_crawl(void *arg)
{
	struct reader *r = arg;
	struct timespec pause = {0, 40 * MS};
	ssize_t n;

	for (int i = 0; (n = recv(r->fd, r->data + r->n, 32768, 0)) > 0; i++) {
		r->n += (size_t)n;
		if (i < 20)
			(void)nanosleep(&pause, NULL);
	}
	return NULL;
}

static void
test_crawling_reader_is_not_given_up(void **state)
{
	struct reader r = {.data = malloc(LONG + 65536 + 1024)};
	int size = 400000;
	struct fixture f;
	pthread_t thread;
	const char *body;

	(void)state;
	assert_non_null(r.data);
	open_fixture(&f, "GET", 1);
	r.fd = f.peer;
	f.resp.send_timeout = 200 * MS;
	(void)setsockopt(f.resp.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	assert_int_equal(pthread_create(&thread, NULL, reader_crawl, &r), 0);
	assert_int_equal(set_status(&f, "200 OK"), 0);
	http_response_length(&f.resp, LONG);
	assert_int_equal(http_response_write(&f.resp, long_text, LONG), 0);
	assert_int_equal(http_response_finish(&f.resp), 0);
	assert_int_equal(join_reader(&f, &r, thread, &body), LONG);
	assert_memory_equal(body, long_text, LONG);
	free(r.data);
	close_fixture(&f);
}

static void
test_reader_that_stopped(void **state)
{
	struct fixture f;

	(void)state;
	open_fixture(&f, "GET", 1);
	f.resp.send_timeout = 10 * MS;
	assert_int_equal(set_status(&f, "200 OK"), 0);
	assert_int_equal(http_response_write(&f.resp, long_text, LONG), -1);
	assert_int_equal(errno, ETIMEDOUT);
	assert_true(f.resp.failed);
	assert_false(f.resp.keep_alive);
	assert_true(f.resp.sent > 0 && f.resp.sent < LONG);
	assert_int_equal(write_text(&f, "more"), -1);
	assert_int_equal(errno, EPIPE);
	assert_int_equal(http_response_finish(&f.resp), -1);
	close_fixture(&f);
}

static void
test_reader_that_left(void **state)
{
	struct fixture f;
	FILE *file = tmpfile();

	(void)state;
	assert_non_null(file);
	assert_int_equal(fwrite("hello", 1, 5, file), 5);
	assert_int_equal(fflush(file), 0);
	for (int with_file = 0; with_file < 2; with_file++) {
		open_fixture(&f, "GET", 1);
		close(f.peer);
		f.peer = -1;
		(void)signal(SIGPIPE, with_file ? SIG_IGN : SIG_DFL);
		assert_int_equal(set_status(&f, "200 OK"), 0);
		errno = 0;
		if (with_file)
			assert_int_equal(http_response_sendfile(&f.resp, fileno(file), 0, -1), -1);
		else
			assert_int_equal(write_text(&f, "hello"), -1);
		assert_int_equal(errno, EPIPE);
		assert_true(f.resp.failed);
		assert_false(f.resp.keep_alive);
		assert_int_equal(f.resp.sent, 0);
		close_fixture(&f);
	}
	fclose(file);
}

/* ---- files ---- */

struct file_row {
	const char *method;
	unsigned minor;
	const char *content_length; /* or NULL */
	const char *before;         /* written first, or NULL */
	off_t offset;
	int64_t count;
	const char *want; /* the response */
	bool keep_alive;
};

static void
test_sendfile(void **state)
{
	static const struct file_row rows[] = {
	    {"GET", 1, NULL, NULL, 0, -1,
		"HTTP/1.1 200 OK\r\n" OURS "Content-Length: 10\r\n\r\n0123456789", true},
	    {"GET", 1, NULL, NULL, 3, -1,
		"HTTP/1.1 200 OK\r\n" OURS "Content-Length: 7\r\n\r\n3456789", true},
	    {"GET", 1, NULL, NULL, 3, 4, "HTTP/1.1 200 OK\r\n" OURS "Content-Length: 4\r\n\r\n3456",
		true},
	    {"GET", 1, NULL, NULL, 3, 100,
		"HTTP/1.1 200 OK\r\n" OURS "Content-Length: 7\r\n\r\n3456789", true},
	    {"GET", 1, NULL, NULL, 10, -1, "HTTP/1.1 200 OK\r\n" OURS "Content-Length: 0\r\n\r\n",
		true},
	    {"GET", 1, NULL, NULL, 99, -1, "HTTP/1.1 200 OK\r\n" OURS "Content-Length: 0\r\n\r\n",
		true},
	    {"GET", 1, "4", NULL, 0, -1, "HTTP/1.1 200 OK\r\n" OURS "Content-Length: 4\r\n\r\n0123",
		true},
	    {"GET", 1, "11", NULL, 0, -1,
		"HTTP/1.1 200 OK\r\n" OURS "Content-Length: 11\r\n\r\n0123456789", false},
	    {"GET", 1, "11", "a", 0, -1,
		"HTTP/1.1 200 OK\r\n" OURS "Content-Length: 11\r\n\r\na0123456789", true},
	    {"GET", 1, NULL, "a", 0, -1,
		"HTTP/1.1 200 OK\r\n" OURS CHUNK "\r\n1\r\na\r\nA\r\n0123456789\r\n0\r\n\r\n",
		true},
	    {"GET", 0, NULL, NULL, 0, -1,
		"HTTP/1.0 200 OK\r\n" OURS "Content-Length: 10\r\n\r\n0123456789", true},
	    {"GET", 0, NULL, "a", 0, -1, "HTTP/1.0 200 OK\r\n" CLOSE "\r\na0123456789", false},
	    {"HEAD", 1, NULL, NULL, 0, -1, "HTTP/1.1 200 OK\r\n" OURS "\r\n", true},
	};
	FILE *file = tmpfile();

	(void)state;
	assert_non_null(file);
	assert_int_equal(fwrite("0123456789", 1, 10, file), 10);
	assert_int_equal(fflush(file), 0);
	/* With sendfile(2), without, and when it refuses: EINVAL is for descriptors that append. */
	for (size_t i = 0; i < 3 * sizeof(rows) / sizeof(rows[0]); i++) {
		const struct file_row *row = &rows[i / 3];
		struct fixture f;

		open_fixture(&f, row->method, row->minor);
		f.resp.copy_files = i % 3 == 1;
		if (i % 3 == 2)
			assert_int_equal(fcntl(f.resp.fd, F_SETFL, O_APPEND), 0);
		assert_int_equal(set_status(&f, "200 OK"), 0);
		if (row->content_length != NULL)
			assert_int_equal(set_header(&f, "Content-Length", row->content_length), 0);
		if (row->before != NULL)
			assert_int_equal(write_text(&f, row->before), 0);
		assert_int_equal(
		    http_response_sendfile(&f.resp, fileno(file), row->offset, row->count), 0);
		assert_int_equal(http_response_finish(&f.resp), 0);
		assert_string_equal(received(&f), row->want);
		assert_int_equal(f.resp.keep_alive, row->keep_alive);
		assert_int_equal(fcntl(f.resp.fd, F_GETFL) & O_NONBLOCK, 0); /* as it was */
		close_fixture(&f);
	}
	fclose(file);
}

static void
test_sendfile_to_slow_reader(void **state)
{
	struct fixture f;
	struct reader r;
	pthread_t thread;
	const char *body;
	FILE *file = tmpfile();

	(void)state;
	assert_non_null(file);
	assert_int_equal(fwrite(long_text, 1, LONG, file), LONG);
	assert_int_equal(fflush(file), 0);
	open_fixture(&f, "GET", 1);
	start_reader(&f, &r, &thread, true);
	assert_int_equal(set_status(&f, "200 OK"), 0);
	assert_int_equal(http_response_sendfile(&f.resp, fileno(file), 0, -1), 0);
	assert_int_equal(http_response_finish(&f.resp), 0);
	assert_int_equal(join_reader(&f, &r, thread, &body), LONG);
	assert_memory_equal(body, long_text, LONG);
	assert_int_equal(f.resp.sent, LONG);
	free(r.data);
	close_fixture(&f);

	open_fixture(&f, "GET", 1);
	f.resp.send_timeout = 10 * MS;
	assert_int_equal(set_status(&f, "200 OK"), 0);
	assert_int_equal(http_response_sendfile(&f.resp, fileno(file), 0, -1), -1);
	assert_int_equal(errno, ETIMEDOUT);
	assert_true(f.resp.failed);
	close_fixture(&f);
	fclose(file);
}

/* Pipes, and files of /proc that have no size, are read and written. */
static void
test_sendfile_of_other_files(void **state)
{
	struct fixture f;
	int fds[2], fd;
	char version[1024], want[2048];
	ssize_t n;

	(void)state;
	open_fixture(&f, "GET", 1);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(write(fds[1], "hello", 5), 5);
	close(fds[1]);
	assert_int_equal(set_status(&f, "200 OK"), 0);
	assert_int_equal(http_response_sendfile(&f.resp, fds[0], 0, -1), 0);
	assert_int_equal(http_response_finish(&f.resp), 0);
	assert_string_equal(
	    received(&f), "HTTP/1.1 200 OK\r\n" OURS CHUNK "\r\n5\r\nhello\r\n0\r\n\r\n");
	close(fds[0]);

	fd = open("/proc/version", O_RDONLY);
	assert_int_not_equal(fd, -1);
	n = read(fd, version, sizeof(version));
	assert_true(n > 0);
	http_response_begin(&f.resp, &f.req, true);
	assert_int_equal(set_status(&f, "200 OK"), 0);
	assert_int_equal(http_response_sendfile(&f.resp, fd, 0, -1), 0);
	assert_int_equal(http_response_finish(&f.resp), 0);
	(void)snprintf(want, sizeof(want),
	    "HTTP/1.1 200 OK\r\n" OURS CHUNK "\r\n%zX\r\n%.*s\r\n0\r\n\r\n", (size_t)n, (int)n,
	    version);
	assert_string_equal(received(&f), want);
	close(fd);

	/* the file is bad: an error, but not the connection's */
	http_response_begin(&f.resp, &f.req, true);
	assert_int_equal(set_status(&f, "200 OK"), 0);
	assert_int_equal(http_response_sendfile(&f.resp, -1, 0, -1), -1);
	assert_int_equal(errno, EBADF);
	assert_false(f.resp.failed);

	/* no end of it is waited for once the length is reached */
	fd = open("/dev/zero", O_RDONLY);
	assert_int_not_equal(fd, -1);
	assert_int_equal(set_header(&f, "Content-Length", "3"), 0);
	assert_int_equal(http_response_sendfile(&f.resp, fd, 0, -1), 0);
	assert_int_equal(http_response_finish(&f.resp), 0);
	assert_int_equal(f.resp.sent, 3);
	close(fd);
	close_fixture(&f);
}

/* ---- errors and dates ---- */

#define PAGE(phrase, message)                                                                      \
	"<html>\n  <head>\n    <title>" phrase "</title>\n  </head>\n  <body>\n    <h1><p>" phrase \
	"</p></h1>\n    " message "\n  </body>\n</html>\n"

#define STR(text) ((struct http_str){text, sizeof(text) - 1})

static void
test_early_hints(void **state)
{
	static const struct {
		struct http_str name, value;
	} bad[] = {
	    {STR("Li nk"), STR("a")},
	    {STR(""), STR("a")},
	    {STR("Link"), STR("a\r\nSet-Cookie: b")},
	    {STR("Link"), STR("a\0b")},
	    {STR("Content-Length"), STR("5")},
	    {STR("transfer-encoding"), STR("chunked")},
	    {STR("Connection"), STR("close")},
	    {STR("Upgrade"), STR("h2c")},
	};
	struct http_hints hints = {0};
	struct fixture f;

	(void)state;
	open_fixture(&f, "GET", 1);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(http_hints_add(&f.resp, &hints, bad[i].name, bad[i].value), -1);
		assert_non_null(f.resp.error);
	}
	assert_int_equal(http_hints_send(&f.resp, &hints), 0);
	assert_string_equal(received(&f), "HTTP/1.1 103 Early Hints\r\n\r\n");
	assert_int_equal(
	    http_hints_add(&f.resp, &hints, STR("Link"), STR(" </a>; rel=preload ")), 0);
	assert_int_equal(http_hints_add(&f.resp, &hints, STR("X"), STR("")), 0);
	assert_int_equal(set_status(&f, "200 OK"), 0);
	assert_int_equal(http_hints_send(&f.resp, &hints), 0); /* the head has not left */
	assert_string_equal(
	    received(&f), "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nX: \r\n\r\n");
	assert_int_equal(http_response_finish(&f.resp), 0);
	assert_string_equal(received(&f), "HTTP/1.1 200 OK\r\n" OURS "Content-Length: 0\r\n\r\n");
	assert_int_equal(http_hints_send(&f.resp, &hints), 0);
	assert_string_equal(received(&f), "");
	close_fixture(&f);
	open_fixture(&f, "GET", 0);
	assert_int_equal(http_hints_send(&f.resp, &hints), 0);
	assert_string_equal(received(&f), "");
	free(hints.text);
	close_fixture(&f);
}

static void
test_handed_over(void **state)
{
	struct fixture f;

	(void)state;
	open_fixture(&f, "GET", 1);
	http_response_hand_over(&f.resp);
	assert_int_equal(http_response_error(&f.resp, 500, ""), 0);
	assert_int_equal(set_status(&f, "200 OK"), 0);
	assert_int_equal(write_text(&f, "a"), -1);
	assert_int_equal(http_response_send_head(&f.resp), -1);
	assert_string_equal(received(&f), "");
	assert_false(f.resp.keep_alive);
	close_fixture(&f);
}

static void
test_error(void **state)
{
	static const char page[] = PAGE("Internal Server Error", "&lt;b&gt; &amp; &quot;c&#x27;");
	char want[1024];
	struct fixture f;

	(void)state;
	(void)snprintf(want, sizeof(want),
	    "HTTP/1.1 500 Internal Server Error\r\n" CLOSE
	    "Content-Length: %zu\r\nContent-Type: text/html\r\n\r\n",
	    sizeof(page) - 1);
	open_fixture(&f, "HEAD", 1);
	assert_int_equal(set_status(&f, "200 OK"), 0);
	assert_int_equal(set_header(&f, "A", "b"), 0);
	assert_int_equal(http_response_error(&f.resp, 500, "<b> & \"c'"), 0);
	assert_string_equal(received(&f), want);
	assert_false(f.resp.keep_alive);
	close_fixture(&f);

	strcat(want, page);
	open_fixture(&f, "GET", 1);
	assert_int_equal(http_response_error(&f.resp, 500, "<b> & \"c'"), 0);
	assert_string_equal(received(&f), want);
	assert_true(f.resp.finished);
	close_fixture(&f);

	/* when the head has left, all that can be done is to hang up */
	open_fixture(&f, "GET", 1);
	assert_int_equal(set_status(&f, "200 OK"), 0);
	assert_int_equal(write_text(&f, "a"), 0);
	(void)received(&f);
	assert_int_equal(http_response_error(&f.resp, 500, ""), 0);
	assert_string_equal(received(&f), "");
	assert_false(f.resp.keep_alive);
	assert_false(f.resp.finished);
	close_fixture(&f);
}

static void
test_error_page(void **state)
{
	static const char page[] = PAGE("Request Header Fields Too Large", "a");
	char buf[4096], want[1024], longer[5000];
	size_t n;

	(void)state;
	(void)snprintf(want, sizeof(want),
	    "HTTP/1.1 431 Request Header Fields Too Large\r\nServer: s\r\nDate: %s\r\n"
	    "Connection: close\r\nContent-Type: text/html\r\nContent-Length: %zu\r\n\r\n%s",
	    http_date(), sizeof(page) - 1, page);
	n = http_error_page(buf, sizeof(buf), 431, "a\r\n", "s");
	assert_int_equal(n, strlen(want));
	assert_int_equal(strlen(buf), n);
	/* a second may have passed since: all but the date */
	assert_memory_equal(buf, want, strstr(want, "Date: ") - want);
	assert_string_equal(strstr(buf, " GMT"), strstr(want, " GMT"));
	assert_null(
	    strstr(http_error_page(buf, sizeof(buf), 400, NULL, NULL) > 0 ? buf : "", "Server"));
	/* a message of any length is cut, not the page */
	memset(longer, '&', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	n = http_error_page(buf, sizeof(buf), 400, longer, "s");
	assert_string_equal(buf + n - 8, "</html>\n");
	/* nothing is written beyond the size */
	memset(buf, '#', sizeof(buf));
	assert_int_equal(http_error_page(buf, 10, 400, "a", "s"), 9);
	assert_int_equal(buf[10], '#');
	assert_int_equal(http_error_page(buf, 0, 400, "a", "s"), 0);
}

static void
test_date(void **state)
{
	char before[64], after[64], date[64];
	time_t now = time(NULL);

	(void)state;
	(void)strftime(before, sizeof(before), "%a, %d %b %Y %H:%M:%S GMT", gmtime(&now));
	(void)snprintf(date, sizeof(date), "%s", http_date());
	now = time(NULL);
	(void)strftime(after, sizeof(after), "%a, %d %b %Y %H:%M:%S GMT", gmtime(&now));
	assert_int_equal(strlen(date), 29);
	assert_true(strcmp(date, before) == 0 || strcmp(date, after) == 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_framing),
	    cmocka_unit_test(test_without_body),
	    cmocka_unit_test(test_fields),
	    cmocka_unit_test(test_refused),
	    cmocka_unit_test(test_second_status),
	    cmocka_unit_test(test_reuse),
	    cmocka_unit_test(test_slow_reader),
	    cmocka_unit_test(test_crawling_reader_is_not_given_up),
	    cmocka_unit_test(test_reader_that_stopped),
	    cmocka_unit_test(test_reader_that_left),
	    cmocka_unit_test(test_sendfile),
	    cmocka_unit_test(test_sendfile_to_slow_reader),
	    cmocka_unit_test(test_sendfile_of_other_files),
	    cmocka_unit_test(test_early_hints),
	    cmocka_unit_test(test_handed_over),
	    cmocka_unit_test(test_error),
	    cmocka_unit_test(test_error_page),
	    cmocka_unit_test(test_date),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
