/* Connecting, accepting, and the names of hosts. */
#include <fcntl.h>
#include <string.h>

#include "worker/green/hooks.h"

/* ---- connect and accept ---- */

/* The connection is being made: wait for its outcome. */
static int
connect_finish(int fd, int64_t deadline)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	int err = 0;
	socklen_t len = sizeof(err);

	while (REAL(poll)(&p, 1, 0) == 0)
		if (green_fd_wait(fd, GREEN_WRITE, deadline) == -1) {
			if (errno == ETIMEDOUT)
				errno = EINPROGRESS; /* what SO_SNDTIMEO gives (socket(7)) */
			return -1;
		}
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) == -1)
		return -1;
	if (err != 0) {
		errno = err;
		return -1;
	}
	return 0;
}

/* One try that cannot block: there is no MSG_DONTWAIT for connect. */
static int
connect_nonblocking(int fd, int flags, const struct sockaddr *addr, socklen_t len)
{
	int rc, saved;

	if (fcntl(fd, F_SETFL, flags | O_NONBLOCK) == -1)
		return -1;
	rc = REAL(connect)(fd, addr, len);
	saved = errno;
	(void)fcntl(fd, F_SETFL, flags);
	errno = saved;
	return rc;
}

HOOK int
connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	int64_t deadline;
	unsigned round = 0;
	int flags;

	if (!on_green() || (flags = fcntl(fd, F_GETFL)) == -1 || (flags & O_NONBLOCK))
		return REAL(connect)(fd, addr, len);
	deadline = hook_socket_deadline(fd, SO_SNDTIMEO);
	for (;;) {
		if (connect_nonblocking(fd, flags, addr, len) == 0)
			return 0;
		if (errno == EINPROGRESS || errno == EALREADY)
			return connect_finish(fd, deadline);
		/* a unix socket's queue is full: nothing tells when it no longer is */
		if (errno != EAGAIN || addr->sa_family != AF_UNIX || !hook_pause(&round, deadline))
			return -1;
	}
}

/* Wait until accept(2) will find somebody, unless the descriptor is not to block. */
static int
accept_wait(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int64_t deadline;
	int flags;

	if (REAL(poll)(&p, 1, 0) != 0)
		return 0;
	flags = fcntl(fd, F_GETFL);
	if (flags == -1 || (flags & O_NONBLOCK))
		return 0;
	deadline = hook_socket_deadline(fd, SO_RCVTIMEO);
	do {
		if (green_fd_wait(fd, GREEN_READ, deadline) == -1) {
			if (errno == ETIMEDOUT)
				errno = EAGAIN;
			return -1;
		}
	} while (REAL(poll)(&p, 1, 0) == 0);
	return 0;
}

HOOK int
accept(int fd, struct sockaddr *addr, socklen_t *len)
{
	if (on_green() && accept_wait(fd) == -1)
		return -1;
	return REAL(accept)(fd, addr, len);
}

HOOK int
accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	if (on_green() && accept_wait(fd) == -1)
		return -1;
	return REAL(accept4)(fd, addr, len, flags);
}

/*
 * ---- names ----
 *
 * The look-ups block inside libc, in nsswitch modules and the resolver: they run on a
 * helper thread. What they return is carried in a struct with a member an argument.
 */

/* On a green thread run name##_call on a helper; it runs the real one on what `args` holds. */
#define LOOKUP(type, name, fields, call)     \
	struct name##_args {                 \
		fields;                      \
		type result;                 \
		int herr;                    \
	};                                   \
	static void name##_call(void *arg)   \
	{                                    \
		struct name##_args *a = arg; \
		a->result = REAL(name) call; \
		a->herr = h_errno;           \
	}

LOOKUP(int, getaddrinfo, const char *node; const char *service; const struct addrinfo *hints;
       struct addrinfo * *res, (a->node, a->service, a->hints, a->res))

/* Nothing to look up: an address in digits. (The service may be a name: /etc/services is local.) */
static bool
is_numeric(const char *node, const struct addrinfo *hints)
{
	return node == NULL || (hints != NULL && (hints->ai_flags & AI_NUMERICHOST)) ||
	       (strspn(node, "0123456789.") == strlen(node)) || strchr(node, ':') != NULL;
}

HOOK int
getaddrinfo(
    const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **res)
{
	struct getaddrinfo_args a = {node, service, hints, res, 0, 0};

	if (!on_green() || is_numeric(node, hints))
		return REAL(getaddrinfo)(node, service, hints, res);
	return green_offload(getaddrinfo_call, &a) == -1 ? EAI_AGAIN : a.result;
}

LOOKUP(int, getnameinfo, const struct sockaddr *sa; socklen_t len; char *host; socklen_t hostlen;
       char *serv; socklen_t servlen;
       int flags, (a->sa, a->len, a->host, a->hostlen, a->serv, a->servlen, a->flags))

HOOK int
getnameinfo(const struct sockaddr *sa, socklen_t len, char *host, socklen_t hostlen, char *serv,
    socklen_t servlen, int flags)
{
	struct getnameinfo_args a = {sa, len, host, hostlen, serv, servlen, flags, 0, 0};

	if (!on_green() || (flags & NI_NUMERICHOST))
		return REAL(getnameinfo)(sa, len, host, hostlen, serv, servlen, flags);
	return green_offload(getnameinfo_call, &a) == -1 ? EAI_AGAIN : a.result;
}

/* The old forms tell errors in h_errno, which is the helper's own. */
static struct hostent *
hostent_result(int offloaded, struct hostent *result, int herr)
{
	if (offloaded == -1) {
		h_errno = TRY_AGAIN;
		return NULL;
	}
	h_errno = herr;
	return result;
}

LOOKUP(struct hostent *, gethostbyname, const char *name, (a->name))

HOOK struct hostent *
gethostbyname(const char *name)
{
	struct gethostbyname_args a = {name, NULL, 0};
	int rc;

	if (!on_green())
		return REAL(gethostbyname)(name);
	rc = green_offload(gethostbyname_call, &a);
	return hostent_result(rc, a.result, a.herr);
}

LOOKUP(struct hostent *, gethostbyname2, const char *name; int af, (a->name, a->af))

HOOK struct hostent *
gethostbyname2(const char *name, int af)
{
	struct gethostbyname2_args a = {name, af, NULL, 0};
	int rc;

	if (!on_green())
		return REAL(gethostbyname2)(name, af);
	rc = green_offload(gethostbyname2_call, &a);
	return hostent_result(rc, a.result, a.herr);
}

LOOKUP(struct hostent *, gethostbyaddr, const void *addr; socklen_t len;
       int type, (a->addr, a->len, a->type))

HOOK struct hostent *
gethostbyaddr(const void *addr, socklen_t len, int type)
{
	struct gethostbyaddr_args a = {addr, len, type, NULL, 0};
	int rc;

	if (!on_green())
		return REAL(gethostbyaddr)(addr, len, type);
	rc = green_offload(gethostbyaddr_call, &a);
	return hostent_result(rc, a.result, a.herr);
}

LOOKUP(int, gethostbyname_r, const char *name; struct hostent * ret; char *buf; size_t n;
       struct hostent * *res; int *err, (a->name, a->ret, a->buf, a->n, a->res, a->err))

HOOK int
gethostbyname_r(
    const char *name, struct hostent *ret, char *buf, size_t n, struct hostent **res, int *err)
{
	struct gethostbyname_r_args a = {name, ret, buf, n, res, err, 0, 0};

	if (!on_green())
		return REAL(gethostbyname_r)(name, ret, buf, n, res, err);
	return green_offload(gethostbyname_r_call, &a) == -1 ? EAGAIN : a.result;
}

LOOKUP(int, gethostbyname2_r, const char *name; int af; struct hostent * ret; char *buf; size_t n;
       struct hostent * *res; int *err, (a->name, a->af, a->ret, a->buf, a->n, a->res, a->err))

HOOK int
gethostbyname2_r(const char *name, int af, struct hostent *ret, char *buf, size_t n,
    struct hostent **res, int *err)
{
	struct gethostbyname2_r_args a = {name, af, ret, buf, n, res, err, 0, 0};

	if (!on_green())
		return REAL(gethostbyname2_r)(name, af, ret, buf, n, res, err);
	return green_offload(gethostbyname2_r_call, &a) == -1 ? EAGAIN : a.result;
}

LOOKUP(int, gethostbyaddr_r, const void *addr; socklen_t len; int type; struct hostent * ret;
       char *buf; size_t n; struct hostent * *res;
       int *err, (a->addr, a->len, a->type, a->ret, a->buf, a->n, a->res, a->err))

HOOK int
gethostbyaddr_r(const void *addr, socklen_t len, int type, struct hostent *ret, char *buf, size_t n,
    struct hostent **res, int *err)
{
	struct gethostbyaddr_r_args a = {addr, len, type, ret, buf, n, res, err, 0, 0};

	if (!on_green())
		return REAL(gethostbyaddr_r)(addr, len, type, ret, buf, n, res, err);
	return green_offload(gethostbyaddr_r_call, &a) == -1 ? EAGAIN : a.result;
}
