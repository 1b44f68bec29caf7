/*
 * A request's body as straight-line reads: Content-Length and chunked framing
 * (RFC 9112 sections 6 and 7.1, strictly), from a connection's buffer and then
 * its socket. Reads block the calling green thread, not the worker.
 */
#ifndef HTTP_BODY_H
#define HTTP_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct http_request;

/*
 * A connection's input. buf[pos..len) was received and not used yet. Below mark
 * lies the head that views point to: it is never moved or written over while the
 * request lives; what is read for the body goes to buf[mark..size).
 */
struct http_input {
	int fd;      /* borrowed */
	char *buf;   /* borrowed: the connection's */
	size_t size; /* of buf; size - mark is at least 1 KiB */
	size_t mark, pos, len;
	int64_t timeout; /* ns to wait for more bytes; -1: no limit */
	bool eof;        /* the peer has finished sending */
};

struct http_body {
	struct http_input *in; /* borrowed */
	bool chunked;
	bool expect_continue; /* "100 Continue" is still to be sent, on the first read */
	bool done;            /* everything was read */
	int error;            /* status: 400 broken framing or cut short, 408 too slow; 0 */
	int64_t left;         /* of the length, or of the current chunk */
	size_t overhead;      /* bytes of chunk extensions and trailers so far, bounded */
	bool started;         /* a chunk came before: its CRLF is due */
	uint64_t received;    /* body bytes delivered */
	int64_t waited;       /* ns, for the client to send more */
	size_t unwaited;      /* bytes that came without a wait: see body.c */
	/* Tells the response side that an interim response may still be sent; NULL: yes. */
	bool (*may_continue)(void *arg);
	void *arg;
};

void http_body_init(struct http_body *, const struct http_request *, struct http_input *);

/*
 * The next decoded bytes that lie in the buffer, waiting for some if there are
 * none: *p is a view that lives until the next call on this body. Returns how many (> 0),
 * 0 at the end of the body, or -1 with errno: EPROTO (body->error is 400),
 * ETIMEDOUT (408), or the socket's. http_body_skip uses n of them up.
 */
ssize_t http_body_peek(struct http_body *, const char **p);
void http_body_skip(struct http_body *, size_t n);

/* read(2) on the body: up to n bytes, 0 only at its end, large ones straight into dst. */
ssize_t http_body_read(struct http_body *, void *dst, size_t n);

/*
 * Before the next request: read and drop the rest, up to max bytes and until the deadline
 * (GREEN_NEVER: none). Returns whether the connection can be used on (false: too much, broken, or
 * the client waits for a 100 that was never sent).
 */
bool http_body_drain(struct http_body *, uint64_t max, int64_t deadline);

#endif
