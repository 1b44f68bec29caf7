/*
 * Telling another program: see outlet.h. The system calls themselves, not libc's: in a worker those
 * might park a green thread, and the log is written from everywhere.
 */
#include "common/outlet.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "common/address.h"
#include "common/refuse.h"

/* How long the first connection of a stream may take, and how often there is another try. */
#define CONNECT_SECS 1
#define RETRY_SECS   1

/* Of tries to have it for ourselves: whoever has it does not wait, but may be gone (fork). */
#define LOCK_TRIES 1000

#define ADDRESS_MAX 512

struct outlet {
	struct address to;
	int type;      /* SOCK_DGRAM or SOCK_STREAM */
	bool any_type; /* a unix socket: when it is no datagram socket, it is a stream */
	int fd;        /* owned; -1: none */
	time_t retry;  /* a stream: no other try before that */
	atomic_flag busy;
};

/* ---- addresses ---- */

static const struct scheme {
	const char *prefix;
	int type;
	bool local, any_type;
} schemes[] = {
    {"udp://", SOCK_DGRAM, false, false},
    {"tcp://", SOCK_STREAM, false, false},
    {"unix://", SOCK_DGRAM, true, true},
};

/* Its scheme, and in rest what follows it. */
static const struct scheme *
scheme_of(const char *address, const char **rest)
{
	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		*rest = address + strlen(schemes[i].prefix);
		if (strncmp(address, schemes[i].prefix, strlen(schemes[i].prefix)) == 0)
			return &schemes[i];
	}
	return NULL;
}

/* "#dgram" and "#stream" at a path's end: cut off. */
static void
take_type(struct outlet *o, char *path)
{
	char *mark = strrchr(path, '#');

	if (mark == NULL || (strcmp(mark, "#dgram") != 0 && strcmp(mark, "#stream") != 0))
		return;
	o->type = strcmp(mark, "#dgram") == 0 ? SOCK_DGRAM : SOCK_STREAM;
	o->any_type = false;
	*mark = '\0';
}

/* The kind of socket, and the address as the setting bind has it. 0, or -1 with why. */
static int
read_address(struct outlet *o, const char *address, int default_port, char text[ADDRESS_MAX],
    char *why, size_t why_size)
{
	const char *rest, *colon;
	const struct scheme *scheme = scheme_of(address, &rest);

	if (scheme == NULL)
		return refuse(
		    why, why_size, "expected udp://HOST:PORT, tcp://HOST:PORT or unix://PATH");
	if (strlen(rest) > ADDRESS_MAX - 32)
		return refuse(why, why_size, "an address of %zu characters", strlen(rest));
	o->type = scheme->type;
	o->any_type = scheme->any_type;
	colon = strrchr(rest, ':');
	if (scheme->local) {
		snprintf(text, ADDRESS_MAX, "unix:%s", rest);
		take_type(o, text);
	} else if (colon != NULL && strchr(colon, ']') == NULL) {
		snprintf(text, ADDRESS_MAX, "%s%s", colon == rest ? "localhost" : "", rest);
	} else {
		snprintf(
		    text, ADDRESS_MAX, "%s:%d", *rest != '\0' ? rest : "localhost", default_port);
	}
	return 0;
}

int
outlet_check(const char *address, char *why, size_t why_size)
{
	struct outlet o;
	char text[ADDRESS_MAX];

	if (read_address(&o, address, 1, text, why, why_size) == -1)
		return -1;
	return address_check(text, why, why_size);
}

/* ---- sockets ---- */

static time_t
now_secs(void)
{
	struct timespec now = {0, 0};

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

static void
drop(struct outlet *o)
{
	if (o->fd != -1)
		(void)syscall(SYS_close, o->fd);
	o->fd = -1;
}

/* A stream is being connected when this returns, and takes what comes once it is. */
static bool
connect_begin(struct outlet *o)
{
	if (o->type == SOCK_STREAM && now_secs() < o->retry)
		return false;
	o->retry = now_secs() + RETRY_SECS;
	o->fd = (int)syscall(
	    SYS_socket, o->to.any.sa.sa_family, o->type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (o->fd == -1 || o->type == SOCK_DGRAM)
		return o->fd != -1;
	if (syscall(SYS_connect, o->fd, &o->to.any, o->to.len) == 0 || errno == EINPROGRESS)
		return true;
	drop(o);
	return false;
}

/* RFC 6587 section 3.4.2 */
static bool
send_stream(struct outlet *o, const void *p, size_t n)
{
	struct iovec parts[] = {{(void *)(uintptr_t)p, n}, {(void *)(uintptr_t) "\n", 1}};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
	long sent = syscall(SYS_sendmsg, o->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (sent == (long)n + 1)
		return true;
	if (sent != -1 || (errno != EAGAIN && errno != EINTR))
		drop(o); /* broken, or a message was cut: the next one begins a new stream */
	return false;
}

/* To the address each time: so a daemon that is started again is found again. */
static bool
send_datagram(struct outlet *o, const void *p, size_t n)
{
	long sent =
	    syscall(SYS_sendto, o->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL, &o->to.any, o->to.len);

	if (sent == -1 && errno == EPROTOTYPE && o->any_type) {
		drop(o);
		o->type = SOCK_STREAM;
		o->retry = 0;
		return connect_begin(o) && send_stream(o, p, n);
	}
	if (sent == -1 && (errno == EBADF || errno == ENOTSOCK))
		o->fd = -1; /* in a child that has closed what it does not know */
	return sent != -1;
}

static bool
lock(struct outlet *o)
{
	for (int i = 0; i < LOCK_TRIES; i++) {
		if (!atomic_flag_test_and_set(&o->busy))
			return true;
		(void)syscall(SYS_sched_yield);
	}
	return false;
}

bool
outlet_send(struct outlet *o, const void *p, size_t n)
{
	bool sent = false;

	if (!lock(o))
		return false;
	if (o->fd != -1 || connect_begin(o))
		sent = o->type == SOCK_DGRAM ? send_datagram(o, p, n) : send_stream(o, p, n);
	atomic_flag_clear(&o->busy);
	return sent;
}

struct outlet *
outlet_open(const char *address, int default_port, char *why, size_t why_size)
{
	struct outlet *o = calloc(1, sizeof(*o));
	struct timespec limit = {CONNECT_SECS, 0};
	struct pollfd pfd = {.events = POLLOUT};
	char text[ADDRESS_MAX];

	if (o == NULL || read_address(o, address, default_port, text, why, why_size) == -1 ||
	    address_parse(&o->to, text, why, why_size) == -1) {
		if (o == NULL)
			snprintf(why, why_size, "out of memory");
		free(o);
		return NULL;
	}
	atomic_flag_clear(&o->busy);
	o->fd = -1;
	if (connect_begin(o) && o->type == SOCK_STREAM) {
		pfd.fd = o->fd;
		(void)syscall(SYS_ppoll, &pfd, 1, &limit, NULL, 0);
	}
	return o;
}

void
outlet_close(struct outlet *o)
{
	if (o == NULL)
		return;
	drop(o);
	free(o);
}

bool
outlet_keeps_bounds(const struct outlet *o)
{
	return o->type == SOCK_DGRAM;
}

void
outlet_after_fork(struct outlet *o)
{
	atomic_flag_clear(&o->busy);
	if (o->type != SOCK_STREAM)
		return;
	drop(o);
	o->retry = 0;
}

int
outlet_fd(const struct outlet *o)
{
	return o->fd;
}
