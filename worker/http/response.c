/*
 * Framing is decided in head_complete and nowhere else (RFC 9112 section 6.3):
 * nothing for responses without a body, Content-Length when the length is known,
 * chunked on 1.1, the end of the connection on 1.0. The application's fields
 * are collected as text behind the status line; ours go between, where gunicorn has them.
 */
#include "worker/http/response.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "worker/green/green.h"
#include "worker/http/chars.h"
#include "worker/http/page.h"

#define HEAD_FIRST   512
#define HEAD_KEPT    (16 * 1024) /* from one request to the next */
#define SERVER_MAX   200
#define OURS_MAX     400           /* Server, Date, Connection and framing together */
#define UNWAITED_MAX (1024 * 1024) /* then others have their turn */
#define GATHER_MAX   2048
#define COPY_SIZE    (64 * 1024)

void
http_response_init(struct http_response *resp, int fd, int64_t send_timeout, const char *server)
{
	memset(resp, 0, sizeof(*resp));
	resp->fd = fd;
	resp->send_timeout = send_timeout;
	resp->server = server;
	resp->server_len = server != NULL ? strnlen(server, SERVER_MAX) : 0;
	resp->length = -1;
}

void
http_response_fini(struct http_response *resp)
{
	free(resp->head);
	resp->head = NULL;
	resp->head_len = resp->head_cap = 0;
}

void
http_response_begin(struct http_response *resp, const struct http_request *req, bool keep_alive)
{
	if (resp->head_cap > HEAD_KEPT)
		http_response_fini(resp);
	resp->status = 0;
	resp->keep_alive = keep_alive && req->keep_alive;
	resp->head_sent = resp->failed = resp->finished = resp->cut = resp->cut_short = false;
	resp->handed_over = false;
	resp->sent = 0;
	resp->waited = 0;
	resp->is_head = req->is_head;
	resp->is_connect = req->is_connect;
	resp->is_http10 = req->major == 1 && req->minor == 0;
	resp->no_body = resp->chunked = false;
	resp->has_date = resp->has_server = resp->has_connection = false;
	resp->length = -1;
	resp->head_len = resp->status_len = 0;
	resp->unwaited = 0;
	resp->error = NULL;
}

static int
invalid(struct http_response *resp, const char *why)
{
	resp->error = why;
	errno = EINVAL;
	return -1;
}

/* Room for n bytes more. 0, or -1 with ENOMEM. */
static int
text_reserve(char **text, size_t len, size_t *cap, size_t n)
{
	size_t more = *cap == 0 ? HEAD_FIRST : *cap;
	char *p;

	while (more - len < n)
		more *= 2;
	p = realloc(*text, more);
	if (p == NULL)
		return -1;
	*text = p;
	*cap = more;
	return 0;
}

static int
head_reserve(struct http_response *resp, size_t n)
{
	if (resp->head_cap - resp->head_len >= n)
		return 0;
	return text_reserve(&resp->head, resp->head_len, &resp->head_cap, n);
}

/* Room was reserved. */
static void
head_put(struct http_response *resp, const char *p, size_t n)
{
	memcpy(resp->head + resp->head_len, p, n);
	resp->head_len += n;
}

int
http_response_status(struct http_response *resp, const char *status, size_t n)
{
	if (resp->head_sent) {
		errno = EALREADY;
		return -1;
	}
	if (n < 3 || status[0] < '1' || status[0] > '9' || status[1] < '0' || status[1] > '9' ||
	    status[2] < '0' || status[2] > '9' || (n > 3 && status[3] != ' '))
		return invalid(resp, "the status must begin with three digits and a space");
	if (!http_chars_all(status, n, HTTP_CHAR_VALUE))
		return invalid(resp, "control characters in the status");
	resp->head_len = 0;
	if (head_reserve(resp, n + 12) == -1)
		return -1;
	/* gunicorn answers with the request's version. */
	head_put(resp, resp->is_http10 ? "HTTP/1.0 " : "HTTP/1.1 ", 9);
	head_put(resp, status, n);
	if (n == 3)
		head_put(resp, " ", 1); /* RFC 9112 section 4: the space is not optional */
	head_put(resp, "\r\n", 2);
	resp->status_len = resp->head_len;
	resp->status = (status[0] - '0') * 100 + (status[1] - '0') * 10 + (status[2] - '0');
	resp->has_date = resp->has_server = resp->has_connection = false;
	resp->length = -1;
	resp->no_body = resp->is_head || resp->status < 200 || resp->status == 204 ||
			resp->status == 304 || (resp->is_connect && resp->status < 300);
	/* After an interim response as the last one, or a switch of protocols, HTTP is over. */
	if (resp->status < 200 || resp->is_connect)
		resp->keep_alive = false;
	return 0;
}

static int
take_length(struct http_response *resp, struct http_str value)
{
	int64_t length = http_parse_length(value);

	if (length == -1)
		return invalid(resp, "Content-Length is not a number");
	if (resp->length != -1 && resp->length != length)
		return invalid(resp, "two Content-Length fields that differ");
	resp->length = length;
	return 0;
}

static void
take_connection(struct http_response *resp, struct http_str value)
{
	struct http_str rest = value, option;

	while (http_list_next(&rest, &option)) {
		if (http_str_is(option, "close"))
			resp->keep_alive = false;
		else if (http_str_is(option, "upgrade"))
			resp->has_connection = true;
	}
}

/* PEP 3333, "Other HTTP Features": these are the server's. */
static bool
is_hop_by_hop(struct http_str name)
{
	switch (name.n) {
	case 2:
		return http_str_is(name, "te");
	case 7:
		return http_str_is(name, "trailer");
	case 8:
		return http_str_is(name, "trailers");
	case 10:
		return http_str_is(name, "keep-alive");
	case 17:
		return http_str_is(name, "transfer-encoding");
	case 18:
		return http_str_is(name, "proxy-authenticate");
	case 19:
		return http_str_is(name, "proxy-authorization");
	}
	return false;
}

enum take { TAKE_REFUSED = -1, TAKE_PUT, TAKE_DONE, TAKE_LEFT_OUT };

/* Fields that are not just text. */
static enum take
take_special(struct http_response *resp, struct http_str name, struct http_str value)
{
	if (name.n == 14 && http_str_is(name, "content-length"))
		return take_length(resp, value) == -1 ? TAKE_REFUSED : TAKE_DONE;
	if (name.n == 10 && http_str_is(name, "connection")) {
		take_connection(resp, value);
		return TAKE_DONE;
	}
	if (is_hop_by_hop(name))
		return TAKE_LEFT_OUT;
	if (name.n == 4 && http_str_is(name, "date"))
		resp->has_date = true;
	else if (name.n == 6 && http_str_is(name, "server"))
		resp->has_server = true;
	return TAKE_PUT;
}

static int
check_field(struct http_response *resp, struct http_str name, struct http_str value)
{
	if (!http_is_token(name.p, name.n))
		return invalid(resp, "a header's name is not a token");
	if (!http_chars_all(value.p, value.n, HTTP_CHAR_VALUE))
		return invalid(resp, "control characters in a header's value");
	return 0;
}

int
http_response_header(
    struct http_response *resp, const char *name, size_t name_n, const char *value, size_t value_n)
{
	struct http_str n = {name, name_n}, v = {value, value_n};
	enum take taken;

	if (resp->head_sent) {
		errno = EALREADY;
		return -1;
	}
	if (resp->status == 0)
		return invalid(resp, "a header field before the status");
	if (check_field(resp, n, v) == -1)
		return -1;
	v = http_str_trim(v);
	taken = take_special(resp, n, v);
	if (taken != TAKE_PUT)
		return taken == TAKE_REFUSED ? -1 : taken == TAKE_LEFT_OUT;
	if (head_reserve(resp, name_n + v.n + 4) == -1)
		return -1;
	head_put(resp, name, name_n);
	head_put(resp, ": ", 2);
	head_put(resp, v.p, v.n);
	head_put(resp, "\r\n", 2);
	return 0;
}

void
http_response_length(struct http_response *resp, int64_t length)
{
	/* Where no body may follow, what the application returned says nothing about it. */
	if (resp->length == -1 && !resp->no_body && !resp->head_sent)
		resp->length = length;
}

/* Append text to p; returns the new end. */
static char *
put(char *p, const char *text, size_t n)
{
	memcpy(p, text, n);
	return p + n;
}

#define PUT(p, literal) put(p, literal, sizeof(literal) - 1)

static char *
put_number(char *p, uint64_t n)
{
	char digits[20];
	size_t i = sizeof(digits);

	do
		digits[--i] = (char)('0' + n % 10);
	while ((n /= 10) > 0);
	return put(p, digits + i, sizeof(digits) - i);
}

static char *
put_framing(struct http_response *resp, char *p)
{
	/* RFC 9110 section 8.6: none in 1xx, 204 and 2xx to CONNECT. */
	bool length_allowed = resp->is_head || resp->status == 304 || !resp->no_body;

	if (resp->status == 204 || resp->status < 200 || (resp->is_connect && resp->no_body))
		length_allowed = false;
	if (resp->length >= 0 && length_allowed) {
		p = PUT(p, "Content-Length: ");
		p = put_number(p, (uint64_t)resp->length);
		p = PUT(p, "\r\n");
	} else if (!resp->no_body && resp->length == -1 && !resp->is_http10) {
		resp->chunked = true;
		p = PUT(p, "Transfer-Encoding: chunked\r\n");
	}
	return p;
}

/* The fields that are ours, to p. Returns their end. */
static char *
put_ours(struct http_response *resp, char *p)
{
	if (!resp->has_server && resp->server_len > 0) {
		p = PUT(p, "Server: ");
		p = put(p, resp->server, resp->server_len);
		p = PUT(p, "\r\n");
	}
	if (!resp->has_date) {
		p = PUT(p, "Date: ");
		p = put(p, http_date(), 29);
		p = PUT(p, "\r\n");
	}
	if (!resp->keep_alive && resp->status != 101)
		p = PUT(p, "Connection: close\r\n");
	else if (resp->has_connection)
		p = PUT(p, "Connection: upgrade\r\n");
	else
		p = PUT(p, "Connection: keep-alive\r\n");
	return put_framing(resp, p);
}

/* Make the collected text a whole head. */
static int
head_complete(struct http_response *resp)
{
	char ours[OURS_MAX], *fields;
	size_t n;

	if (head_reserve(resp, OURS_MAX + 2) == -1)
		return -1;
	/* On 1.0 a body of unknown length ends with the connection. */
	if (!resp->no_body && resp->length == -1 && resp->is_http10)
		resp->keep_alive = false;
	n = (size_t)(put_ours(resp, ours) - ours);
	fields = resp->head + resp->status_len;
	memmove(fields + n, fields, resp->head_len - resp->status_len);
	memcpy(fields, ours, n);
	resp->head_len += n;
	head_put(resp, "\r\n", 2);
	return 0;
}

static int
fail(struct http_response *resp, int error)
{
	resp->failed = true;
	resp->keep_alive = false;
	errno = error;
	return -1;
}

/* Bytes that the peer has not taken yet. */
static int
unsent(int fd)
{
	int n = 0;

	return ioctl(fd, SIOCOUTQ, &n) == 0 ? n : 0;
}

/*
 * After an attempt that would have blocked; *deadline is -1 after progress. The socket becomes
 * writable only when a third of its buffer is free: a peer that takes less meanwhile is slow, not
 * stuck.
 */
static int
wait_progress(struct http_response *resp, int64_t *deadline)
{
	int before = unsent(resp->fd), now;

	if (*deadline == -1)
		*deadline = green_deadline(resp->send_timeout);
	resp->unwaited = 0;
	while (green_fd_wait(resp->fd, GREEN_WRITE, *deadline) == -1) {
		if (errno != ETIMEDOUT || (now = unsent(resp->fd)) >= before)
			return -1;
		before = now;
		*deadline = green_deadline(resp->send_timeout);
	}
	return 0;
}

static int
wait_writable(struct http_response *resp, int64_t *deadline)
{
	int64_t since = green_now();
	int rc = wait_progress(resp, deadline);

	resp->waited += green_now() - since; /* clock_gettime(3) keeps errno */
	return rc;
}

/* A peer that reads faster than the application writes would never let others run. */
static void
let_others_run(struct http_response *resp, size_t sent)
{
	resp->unwaited += sent;
	if (resp->unwaited < UNWAITED_MAX)
		return;
	resp->unwaited = 0;
	if (green_self() != NULL)
		green_yield();
}

/* Send all of it; *sent is how much left, also when it fails. */
static int
send_all(struct http_response *resp, struct iovec *iov, size_t iovlen, int flags, size_t *sent)
{
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = iovlen};
	int64_t deadline = -1;
	ssize_t n;

	*sent = 0;
	while (msg.msg_iovlen > 0) {
		flags |= MSG_DONTWAIT | MSG_NOSIGNAL;
		if (msg.msg_iovlen == 1)
			n = send(resp->fd, msg.msg_iov->iov_base, msg.msg_iov->iov_len, flags);
		else
			n = sendmsg(resp->fd, &msg, flags);
		if (n >= 0) {
			*sent += (size_t)n;
			green_msg_advance(&msg, (size_t)n);
			deadline = -1;
			let_others_run(resp, (size_t)n);
		} else if (errno == EAGAIN || errno == EWOULDBLOCK) {
			if (wait_writable(resp, &deadline) == -1)
				return fail(resp, errno);
		} else if (errno != EINTR)
			return fail(resp, errno);
	}
	return 0;
}

/* How many of n bytes may still be sent. */
static uint64_t
body_room(struct http_response *resp, uint64_t n)
{
	uint64_t left;

	if (resp->no_body)
		return 0;
	if (resp->length == -1)
		return n;
	left = (uint64_t)resp->length - resp->sent;
	if (n <= left)
		return n;
	resp->cut = true;
	return left;
}

/* 0, or -1 when nothing can be sent any more. */
static int
check_usable(struct http_response *resp)
{
	if (resp->failed) {
		errno = EPIPE;
		return -1;
	}
	if (resp->status == 0)
		return invalid(resp, "no status was set");
	if (resp->finished)
		return invalid(resp, "the response is finished");
	return 0;
}

/*
 * Put what follows the head behind it, if there is little of it: sending one piece
 * instead of several saves more than the copy costs. Returns how many pieces are left.
 */
static size_t
gather(struct http_response *resp, struct iovec *iov, size_t iovlen)
{
	size_t n = 0;

	for (size_t i = 1; i < iovlen; i++)
		n += iov[i].iov_len;
	if (n > GATHER_MAX || head_reserve(resp, n) == -1)
		return iovlen;
	for (size_t i = 1; i < iovlen; i++)
		head_put(resp, iov[i].iov_base, iov[i].iov_len);
	iov[0] = (struct iovec){resp->head, resp->head_len};
	return 1;
}

/* Send the head, unless it has left, with n bytes of the body. */
static int
send_part(struct http_response *resp, const void *data, size_t n, int flags)
{
	char size_line[20];
	struct iovec iov[4];
	size_t iovlen = 0, before = 0, sent;
	bool with_head = !resp->head_sent;
	int rc;

	if (with_head) {
		if (head_complete(resp) == -1)
			return fail(resp, ENOMEM);
		iov[iovlen++] = (struct iovec){resp->head, resp->head_len};
		before = resp->head_len;
		resp->head_sent = true;
	}
	if (n > 0 && resp->chunked) {
		int digits = snprintf(size_line, sizeof(size_line), "%zX\r\n", n);

		iov[iovlen++] = (struct iovec){size_line, (size_t)digits};
		before += (size_t)digits;
	}
	if (n > 0)
		iov[iovlen++] = (struct iovec){(void *)data, n};
	if (n > 0 && resp->chunked)
		iov[iovlen++] = (struct iovec){"\r\n", 2};
	if (with_head)
		iovlen = gather(resp, iov, iovlen);
	rc = send_all(resp, iov, iovlen, flags, &sent);
	if (sent > before)
		resp->sent += sent - before < n ? sent - before : n;
	return rc;
}

int
http_response_write(struct http_response *resp, const void *data, size_t n)
{
	if (check_usable(resp) == -1)
		return -1;
	if (n == 0)
		return 0;
	n = (size_t)body_room(resp, n);
	if (n == 0 && resp->head_sent)
		return 0;
	return send_part(resp, data, n, 0);
}

int
http_response_send_head(struct http_response *resp)
{
	if (check_usable(resp) == -1)
		return -1;
	return resp->head_sent ? 0 : send_part(resp, NULL, 0, 0);
}

void
http_response_hand_over(struct http_response *resp)
{
	resp->handed_over = resp->failed = true;
	resp->keep_alive = false;
	resp->status = 101;
}

int
http_hints_add(struct http_response *resp, struct http_hints *hints, struct http_str name,
    struct http_str value)
{
	if (check_field(resp, name, value) == -1)
		return -1;
	if (is_hop_by_hop(name) || http_str_is(name, "connection") ||
	    http_str_is(name, "upgrade") || http_str_is(name, "content-length"))
		return invalid(resp, "framing fields do not belong into early hints");
	value = http_str_trim(value);
	if (text_reserve(&hints->text, hints->n, &hints->cap, name.n + value.n + 4) == -1)
		return -1;
	hints->n += (size_t)sprintf(hints->text + hints->n, "%.*s: ", (int)name.n, name.p);
	memcpy(hints->text + hints->n, value.p, value.n);
	memcpy(hints->text + hints->n + value.n, "\r\n", 2);
	hints->n += value.n + 2;
	return 0;
}

int
http_hints_send(struct http_response *resp, struct http_hints *hints)
{
	static const char line[] = "HTTP/1.1 103 Early Hints\r\n";
	struct iovec iov[] = {
	    {(void *)line, sizeof(line) - 1}, {hints->text, hints->n}, {(void *)"\r\n", 2}};
	size_t sent;

	if (resp->is_http10 || resp->head_sent || resp->handed_over)
		return 0;
	if (resp->failed) {
		errno = EPIPE;
		return -1;
	}
	return send_all(resp, iov, 3, 0, &sent);
}

/* read(2) and write, for what sendfile cannot do; count < 0: to the end. */
static int
copy_file(struct http_response *resp, int fd, off_t offset, int64_t count)
{
	char *buf = malloc(COPY_SIZE);
	int rc = buf != NULL ? 0 : -1;

	while (rc == 0 && count != 0 && !resp->cut) {
		size_t want = count < 0 || count > COPY_SIZE ? COPY_SIZE : (size_t)count;
		ssize_t n = pread(fd, buf, want, offset);

		if (n == -1 && errno == ESPIPE)
			n = read(fd, buf, want);
		if (n == -1 && errno == EINTR)
			continue;
		if (n <= 0) {
			rc = (int)n;
			break;
		}
		offset += n;
		if (count > 0)
			count -= n;
		rc = http_response_write(resp, buf, (size_t)n);
	}
	free(buf);
	return rc;
}

/* Bytes from the file until count have left, it ends, or sendfile cannot (then *copy). */
static int
send_file(struct http_response *resp, int fd, off_t *offset, int64_t *count, bool *copy)
{
	int64_t deadline = -1;
	ssize_t n;

	while (*count > 0) {
		n = sendfile(
		    resp->fd, fd, offset, *count < UNWAITED_MAX ? (size_t)*count : UNWAITED_MAX);
		if (n > 0) {
			*count -= n;
			resp->sent += (uint64_t)n;
			deadline = -1;
			let_others_run(resp, (size_t)n);
		} else if (n == 0) {
			break; /* shorter than it was: http_response_finish sees it */
		} else if (errno == EAGAIN || errno == EWOULDBLOCK) {
			if (wait_writable(resp, &deadline) == -1)
				return fail(resp, errno);
		} else if (errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP) {
			*copy = true;
			break;
		} else if (errno != EINTR)
			return fail(resp, errno);
	}
	return 0;
}

/* sendfile knows no MSG_DONTWAIT: the socket itself must not block meanwhile. */
static int
send_file_nonblocking(struct http_response *resp, int fd, off_t *offset, int64_t *count, bool *copy)
{
	int flags = fcntl(resp->fd, F_GETFL), rc, error;

	if (flags == -1)
		return fail(resp, errno);
	if ((flags & O_NONBLOCK) == 0 && fcntl(resp->fd, F_SETFL, flags | O_NONBLOCK) == -1)
		return fail(resp, errno);
	rc = send_file(resp, fd, offset, count, copy);
	error = errno;
	if ((flags & O_NONBLOCK) == 0 && fcntl(resp->fd, F_SETFL, flags) == -1)
		return fail(resp, errno);
	errno = error;
	return rc;
}

int
http_response_sendfile(struct http_response *resp, int fd, off_t offset, int64_t count)
{
	struct stat st;
	bool copy = false;
	off_t end;

	if (check_usable(resp) == -1 || fstat(fd, &st) == -1)
		return -1;
	if (resp->no_body)
		return resp->head_sent ? 0 : send_part(resp, NULL, 0, 0);
	/* Files of /proc say that they are empty: they are copied until they end. */
	if (!S_ISREG(st.st_mode) || st.st_size == 0)
		return copy_file(resp, fd, offset, count);
	if (count < 0 || count > st.st_size - offset)
		count = offset < st.st_size ? st.st_size - offset : 0;
	http_response_length(resp, count);
	if (resp->copy_files || (resp->head_sent && resp->chunked))
		return copy_file(resp, fd, offset, count);
	end = offset + count;
	count = (int64_t)body_room(resp, (uint64_t)count);
	if (!resp->head_sent && send_part(resp, NULL, 0, count > 0 ? MSG_MORE : 0) == -1)
		return -1;
	if (send_file_nonblocking(resp, fd, &offset, &count, &copy) == -1)
		return -1;
	if (!copy)
		return 0;
	resp->cut = false; /* copying finds out again */
	return copy_file(resp, fd, offset, end - offset);
}

int
http_response_finish(struct http_response *resp)
{
	struct iovec last = {"0\r\n\r\n", 5};
	size_t sent;
	int rc = 0;

	if (resp->finished)
		return 0;
	if (check_usable(resp) == -1)
		return -1;
	http_response_length(resp, 0); /* nothing was written: the length is known after all */
	if (!resp->no_body && resp->length > 0 && resp->sent < (uint64_t)resp->length) {
		resp->cut_short = true;
		resp->keep_alive = false;
	}
	if (!resp->head_sent)
		rc = send_part(resp, NULL, 0, 0);
	else if (resp->chunked)
		rc = send_all(resp, &last, 1, 0, &sent);
	resp->finished = rc == 0;
	return rc;
}

int
http_response_error(struct http_response *resp, int status, const char *message)
{
	char page[HTTP_PAGE_MAX], line[64], length[24];
	const char *phrase = http_status_phrase(status);
	size_t page_len;
	int line_len, length_len;

	resp->keep_alive = false;
	if (resp->head_sent || resp->handed_over)
		return 0;
	page_len = http_page(page, phrase, message);
	line_len = snprintf(line, sizeof(line), "%d %s", status, phrase);
	length_len = snprintf(length, sizeof(length), "%zu", page_len);
	if (http_response_status(resp, line, (size_t)line_len) == -1 ||
	    http_response_header(resp, "Content-Type", 12, "text/html", 9) == -1 ||
	    http_response_header(resp, "Content-Length", 14, length, (size_t)length_len) == -1 ||
	    http_response_write(resp, page, page_len) == -1)
		return -1;
	return http_response_finish(resp);
}
