/*
 * A response: the one place that decides framing, Connection and what a head
 * looks like. Writes block the calling green thread while the peer reads slowly,
 * not the worker. The head leaves with the first bytes of the body at once.
 */
#ifndef HTTP_RESPONSE_H
#define HTTP_RESPONSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "worker/http/request.h"

struct http_response {
	int fd;               /* borrowed */
	int64_t send_timeout; /* ns that the peer may take nothing; -1: no limit */
	const char *server;   /* borrowed: the Server field's value */
	bool copy_files;      /* files are read and written, not sent by sendfile(2) */

	int status;      /* 0 until http_response_status */
	bool keep_alive; /* whether the connection may be used on; false is final */
	bool head_sent;
	bool failed; /* the peer is gone or too slow: further writes fail */
	bool finished;
	bool handed_over; /* the application has the socket (handover.h): writes fail */
	bool cut;         /* the application wrote more than its Content-Length: dropped */
	bool cut_short;   /* it wrote less: known after http_response_finish */
	uint64_t sent;    /* body bytes that left, without framing: the access log's %(B)s */
	int64_t waited;   /* ns, for the client to take more: the access log's %(send_time)s */

	/* private */
	bool is_head, is_http10, is_connect, no_body, chunked, has_date, has_server, has_connection;
	int64_t length; /* announced; -1: none */
	char *head;     /* owned; grows; kept from request to request */
	size_t head_len, head_cap;
	size_t status_len; /* of the status line, at the start of head */
	size_t server_len;
	size_t unwaited;   /* bytes that left without a wait: see response.c */
	const char *error; /* static text: why the last call gave EINVAL */
};

void http_response_init(struct http_response *, int fd, int64_t send_timeout, const char *server);
void http_response_fini(struct http_response *);

/* Begin the answer to a request; keep_alive: the server is willing. */
void http_response_begin(struct http_response *, const struct http_request *, bool keep_alive);

/*
 * Status line, as PEP 3333 has it: "200 OK". Drops fields set before (a second
 * start_response with exc_info). 0; -1 with EINVAL and resp->error (not three digits, control
 * characters), EALREADY when the head has left, ENOMEM.
 */
int http_response_status(struct http_response *, const char *status, size_t n);

/*
 * One header field. Content-Length is taken as framing; Connection: close is
 * obeyed; Server and Date of the application win over ours. 0; 1 for a hop-by-hop field (PEP 3333)
 * other than Connection and Upgrade, which is left out; -1 with EINVAL and resp->error: not a
 * token, CR, LF or NUL in the value, a Content-Length that is no number or contradicts; ENOMEM.
 */
int http_response_header(
    struct http_response *, const char *name, size_t name_n, const char *value, size_t value_n);

/* The whole body's length is known (one string): used when the application gave none. */
void http_response_length(struct http_response *, int64_t length);

/*
 * Send some of the body (n may be 0: nothing happens, so that the head can still change).
 * What exceeds the Content-Length is cut, bodies of HEAD, 204 and 304 are
 * dropped. 0; -1 with errno EPIPE, ECONNRESET, ETIMEDOUT, ….
 */
int http_response_write(struct http_response *, const void *, size_t n);

/* Send the head now. 0 or -1 as for write. */
int http_response_send_head(struct http_response *);

/* The socket is not ours any more; what the application does with it counts as a 101. */
void http_response_hand_over(struct http_response *);

/* The fields of a "103 Early Hints" (RFC 8297), as text. All zero to begin with. */
struct http_hints {
	char *text; /* owned: the caller frees */
	size_t n, cap;
};

/* 0, or -1 with EINVAL and resp->error, or ENOMEM. */
int http_hints_add(
    struct http_response *, struct http_hints *, struct http_str name, struct http_str value);

/*
 * Send it, in front of the response. Nothing is sent to a client of HTTP/1.0, and nothing when the
 * response's head has left. 0 or -1 as for write.
 */
int http_hints_send(struct http_response *, struct http_hints *);

/*
 * The same from a file, by sendfile(2) where that works: count bytes from offset; count < 0:
 * to its end. sendfile has no MSG_NOSIGNAL: the process must ignore SIGPIPE.
 */
int http_response_sendfile(struct http_response *, int fd, off_t offset, int64_t count);

/*
 * The body is complete: send the head if it has not left, the last chunk, and decide
 * keep_alive (a body shorter than announced cannot be used on). 0 or -1 as for write.
 */
int http_response_finish(struct http_response *);

/*
 * A whole error response with a small HTML page, as gunicorn's, and Connection:
 * close. Does nothing when a head has left already (keep_alive becomes false).
 * 0 or -1 as for write.
 */
int http_response_error(struct http_response *, int status, const char *message);

/* The error response as bytes, for the loop to send without waiting: length, cut to size. */
size_t http_error_page(char *buf, size_t size, int status, const char *message, const char *server);

/* "Mon, 23 Nov 2026 06:41:00 GMT", made once a second and thread; 29 characters. */
const char *http_date(void);

#endif
