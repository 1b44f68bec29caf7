/*
 * Any bytes as a body. The first byte chooses framing, where the bytes lie and how they
 * are read; read from a socket in pieces, they must decode to what they do in one buffer.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"
#include "worker/http/body.h"
#include "worker/http/request.h"

#define MARK       8
#define INPUT_MAX  65536
#define SMALL_ROOM 1024

struct result {
	char body[INPUT_MAX];
	size_t n;
	size_t rest;
	int error;
	bool done;
};

static void
decode(struct http_body *body, unsigned how, struct result *result)
{
	static const size_t sizes[] = {0, 1, 7, 8192};
	size_t size = sizes[how % 4];
	const char *p;
	ssize_t n;

	result->n = 0;
	for (;;) {
		if (size == 0)
			n = http_body_peek(body, &p);
		else
			n = http_body_read(body, result->body + result->n,
			    size < INPUT_MAX - result->n ? size : INPUT_MAX - result->n);
		if (n <= 0)
			break;
		FUZZ_ASSERT((size_t)n <= INPUT_MAX - result->n);
		if (size == 0) {
			memcpy(result->body + result->n, p, (size_t)n);
			http_body_skip(body, (size_t)n);
		}
		result->n += (size_t)n;
	}
	FUZZ_ASSERT(body->received == result->n);
	FUZZ_ASSERT(body->in->pos >= body->in->mark && body->in->pos <= body->in->len);
	FUZZ_ASSERT(body->in->len <= body->in->size);
	FUZZ_ASSERT((body->error != 0) == (n == -1) && (n == -1 || body->done));
	FUZZ_ASSERT(n == 0 || errno == EPROTO);
	result->error = body->error;
	result->done = body->done;
	result->rest = body->in->len - body->in->pos;
}

/* Everything lies in a buffer that has room for nothing else. */
static void
decode_buffer(const struct http_request *req, const char *p, size_t n, struct result *result)
{
	struct http_input in = {.fd = -1, .size = MARK + n, .len = MARK + n, .eof = true};
	struct http_body body;

	in.pos = in.mark = MARK;
	in.buf = malloc(in.size);
	FUZZ_ASSERT(in.buf != NULL);
	memcpy(in.buf + MARK, p, n);
	http_body_init(&body, req, &in);
	decode(&body, 0, result);
	free(in.buf);
}

static void
decode_socket(
    const struct http_request *req, const char *p, size_t n, unsigned how, struct result *result)
{
	char buf[MARK + SMALL_ROOM], rest[4096];
	struct http_input in = {.buf = buf, .size = sizeof(buf), .timeout = -1};
	struct http_body body;
	size_t buffered = how % 16 * n / 16;
	ssize_t more;
	int fds[2];

	if (buffered > SMALL_ROOM)
		buffered = SMALL_ROOM;
	FUZZ_ASSERT(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	FUZZ_ASSERT(n == buffered || send(fds[1], p + buffered, n - buffered, MSG_DONTWAIT) ==
					 (ssize_t)(n - buffered));
	FUZZ_ASSERT(shutdown(fds[1], SHUT_WR) == 0);
	memcpy(buf + MARK, p, buffered);
	in.fd = fds[0];
	in.pos = in.mark = MARK;
	in.len = MARK + buffered;
	http_body_init(&body, req, &in);
	decode(&body, how >> 4, result);
	while ((more = recv(fds[0], rest, sizeof(rest), MSG_DONTWAIT)) > 0)
		result->rest += (size_t)more;
	close(fds[0]);
	close(fds[1]);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct result whole, pieces;
	struct http_request req = {.content_length = -1};
	const char *p = (const char *)data + 2;
	unsigned how;

	if (size < 2 || size > INPUT_MAX)
		return 0;
	how = data[0];
	size -= 2;
	req.chunked = (data[1] & 3) != 0; /* lengths are the duller half */
	if (!req.chunked)
		req.content_length = data[1] >> 2;
	decode_buffer(&req, p, size, &whole);
	decode_socket(&req, p, size, how, &pieces);
	/* A line that fits the large buffer and not the small one is no difference that counts. */
	if (whole.error == pieces.error) {
		FUZZ_ASSERT(whole.n == pieces.n && whole.done == pieces.done);
		FUZZ_ASSERT(whole.error != 0 || whole.rest == pieces.rest);
	} else
		FUZZ_ASSERT(whole.error == 0 && pieces.error == 400 && size > SMALL_ROOM);
	FUZZ_ASSERT(memcmp(whole.body, pieces.body, whole.n < pieces.n ? whole.n : pieces.n) == 0);
	return 0;
}
