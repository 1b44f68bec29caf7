/*
 * A connection becomes the application's: see handover.h.
 *
 * Bytes that we have received cannot be put back into the socket, and an application that waits
 * with select(2) or reads past Python's socket object must find them all the same. So there is
 * the relay: two green threads that copy, one for each direction. It is rare: a WebSocket's
 * client sends nothing before it has the server's 101 (RFC 6455 section 4.1).
 */
#include "worker/http/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "worker/green/green.h"
#include "worker/http/body.h"
#include "worker/http/response.h"

#define COPY_SIZE (16 * 1024)

struct http_relay {
	int client; /* borrowed: the connection */
	int pair;   /* owned: our end, the application has the other */
	struct green_job up, down;
	int running;
	struct green *waiter; /* for the end of both */
	int64_t send_timeout; /* ns for the client to take what is left at the end */
	size_t n;             /* of early */
	char early[];         /* what the client has sent already */
};

int
http_handover_look(int fd)
{
	int given = fcntl(fd, F_DUPFD_CLOEXEC, 0), error;

	if (given == -1 || green_fd_own(given) == 0)
		return given;
	error = errno;
	(void)close(given);
	errno = error;
	return -1;
}

/* However long it takes. 0, or -1 when the other side is gone. */
static int
send_all(int fd, const char *p, size_t n)
{
	ssize_t sent;

	while (n > 0) {
		sent = send(fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent >= 0) {
			p += sent;
			n -= (size_t)sent;
		} else if (errno == EAGAIN || errno == EWOULDBLOCK) {
			if (green_fd_wait(fd, GREEN_WRITE, GREEN_NEVER) == -1)
				return -1;
		} else if (errno != EINTR) {
			return -1;
		}
	}
	return 0;
}

/* Until from ends or to takes no more; to is told that. */
static void
copy(int from, int to)
{
	char *buf = malloc(COPY_SIZE);
	ssize_t n = 0;

	while (buf != NULL) {
		n = recv(from, buf, COPY_SIZE, MSG_DONTWAIT);
		if (n == 0 || (n > 0 && send_all(to, buf, (size_t)n) == -1))
			break;
		if (n > 0)
			green_yield(); /* two fast sides would never let others run */
		else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
			break;
		else if (green_fd_wait(from, GREEN_READ, GREEN_NEVER) == -1)
			break;
	}
	(void)shutdown(to, SHUT_WR);
	free(buf);
}

static void
relay_leave(struct http_relay *r)
{
	if (--r->running == 0 && r->waiter != NULL)
		green_wake(r->waiter);
}

static void
relay_up(void *arg)
{
	struct http_relay *r = arg;

	if (send_all(r->pair, r->early, r->n) == 0)
		copy(r->client, r->pair);
	relay_leave(r);
}

static void
relay_down(void *arg)
{
	struct http_relay *r = arg;

	copy(r->pair, r->client);
	relay_leave(r);
}

/* The descriptor given becomes the application's end. */
static struct http_relay *
relay_new(struct http_input *in, int given, int64_t send_timeout)
{
	size_t n = in->len - in->pos;
	struct http_relay *r = calloc(1, sizeof(*r) + n);
	int pair[2];

	if (r == NULL || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == -1) {
		free(r);
		return NULL;
	}
	if (green_fd_own(pair[0]) == -1 || dup3(pair[1], given, O_CLOEXEC) == -1 ||
	    green_fd_own(given) == -1) {
		(void)close(pair[0]);
		(void)close(pair[1]);
		free(r);
		return NULL;
	}
	(void)close(pair[1]);
	r->client = in->fd;
	r->pair = pair[0];
	r->send_timeout = send_timeout;
	r->n = n;
	memcpy(r->early, in->buf + in->pos, n);
	r->running = 2;
	r->up = (struct green_job){.fn = relay_up, .arg = r};
	r->down = (struct green_job){.fn = relay_down, .arg = r};
	green_run(&r->up);
	green_run(&r->down);
	return r;
}

void
http_relay_end(struct http_relay *r)
{
	int64_t deadline;

	if (r == NULL)
		return;
	/* What the application has sent is still to be read from the pair, and no more comes. */
	(void)shutdown(r->pair, SHUT_RDWR);
	(void)shutdown(r->client, SHUT_RD);
	deadline = green_deadline(r->send_timeout);
	r->waiter = green_self();
	while (r->running > 0) {
		if (green_park(deadline) == 0)
			continue;
		(void)shutdown(r->client, SHUT_RDWR);
		deadline = GREEN_NEVER;
	}
	(void)close(r->pair);
	free(r);
}

int
http_handover(
    struct http_response *resp, struct http_input *in, int given, struct http_relay **relay)
{
	*relay = NULL;
	if (resp->status == 101 && http_response_send_head(resp) == -1)
		return -1;
	if (in->len > in->pos) {
		*relay = relay_new(in, given, resp->send_timeout);
		if (*relay == NULL)
			return -1;
	} else if (green_self() != NULL) {
		/* On another OS thread it would stay registered, as the file is still open. */
		(void)green_fd_close(in->fd);
		in->fd = -1;
	}
	resp->fd = -1;
	in->eof = true;
	in->pos = in->len;
	http_response_hand_over(resp);
	return 0;
}
