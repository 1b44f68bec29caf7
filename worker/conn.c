/*
 * Connections: see conn.h. A connection is in one of five states, and on the list of that
 * state; all of a list have the same timeout, so that its first is the next to expire.
 *
 *	FRESH    accepted, not a byte so far
 *	HEAD     has the beginning of a request
 *	SERVING  a green thread answers a request
 *	IDLE     between two requests
 *	LINGER   answered and shut down; what still comes in is dropped
 *
 * Its descriptor is registered with the loop once, edge-triggered: an edge while a green
 * thread serves is only noted (readable), and looked at afterwards.
 */
#include "worker/conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include <event2/event.h>

#include "common/log.h"
#include "worker/green/green.h"

#define NS_PER_SEC 1000000000LL

/* A client gets that long, and may send that much, to read the last response. */
#define LINGER_NS    (2 * NS_PER_SEC)
#define LINGER_BYTES (4U << 20)

/* When the worker stops: time for a request that is on its way, for one that has begun. */
#define DRAIN_NS      (NS_PER_SEC / 2)
#define DRAIN_HEAD_NS (5 * NS_PER_SEC)

/* So many requests that are cut off get a line in the log. */
#define CUT_LINES 20

enum conn_state { CONN_FRESH, CONN_HEAD, CONN_SERVING, CONN_IDLE, CONN_LINGER, CONN_NSTATES };

struct conn {
	int fd; /* owned; -1 at the end of one that the application took over */
	enum conn_state state;
	bool readable;              /* there may be something to receive */
	bool hangup;                /* the peer has finished sending */
	bool closing;               /* no request after those that have arrived */
	bool trusted;               /* the peer is a proxy of ours: see forwarded.h */
	unsigned dropped;           /* bytes, while lingering */
	struct conns *conns;        /* borrowed */
	const struct listener *via; /* borrowed */
	struct exchange *exchange;  /* owned; NULL while there is nothing received */
	struct green_job job;
	TAILQ_ENTRY(conn) link;
	int64_t deadline;
	char addr[INET6_ADDRSTRLEN]; /* REMOTE_ADDR; "" on a unix socket */
	char port[6];
};
TAILQ_HEAD(conn_list, conn);

struct conns {
	struct conns_config config;
	struct exchange_pool pool;
	struct conn_list lists[CONN_NSTATES];
	int64_t timeouts[CONN_NSTATES]; /* ns; -1: none */
	struct event *timer;            /* owned */
	int64_t armed;                  /* when the timer fires; GREEN_NEVER: it is off */
	size_t script_name_n;
	size_t count, in_flight;
	uint64_t begun, served; /* requests */
	bool draining;
};

static void conn_receive(struct conn *);

/* ---- time ---- */

static void
timer_arm(struct conns *s, int64_t deadline)
{
	int64_t ns;
	struct timeval tv = {0, 0};

	if (deadline >= s->armed)
		return; /* it fires before that, and looks again */
	s->armed = deadline;
	ns = deadline - green_now();
	if (ns > 0) {
		ns += 999; /* never early */
		tv.tv_sec = ns / NS_PER_SEC;
		tv.tv_usec = ns % NS_PER_SEC / 1000;
	}
	evtimer_add(s->timer, &tv);
}

/* The only place that changes the state, but for a new connection. */
static void
conn_set_state(struct conn *c, enum conn_state state)
{
	struct conns *s = c->conns;

	TAILQ_REMOVE(&s->lists[c->state], c, link);
	s->in_flight -= c->state == CONN_SERVING;
	c->state = state;
	s->in_flight += state == CONN_SERVING;
	TAILQ_INSERT_TAIL(&s->lists[state], c, link);
	c->deadline = green_deadline(s->timeouts[state]);
	timer_arm(s, c->deadline);
	if (s->config.in_flight != NULL)
		s->config.in_flight(s->config.arg);
}

/* ---- the end of a connection ---- */

static void
conn_release_exchange(struct conn *c)
{
	if (c->exchange != NULL)
		exchange_give_back(&c->conns->pool, c->exchange);
	c->exchange = NULL;
}

static void
conn_close(struct conn *c)
{
	struct conns *s = c->conns;

	conn_release_exchange(c);
	TAILQ_REMOVE(&s->lists[c->state], c, link);
	s->in_flight -= c->state == CONN_SERVING;
	s->count--;
	if (c->fd != -1)
		(void)green_fd_close(c->fd);
	free(c);
	s->config.closed(s->config.arg);
}

/* Receive and forget. Returns 0 when there is no more for now, -1 at the end of all. */
static int
conn_drop_input(struct conn *c)
{
	static char rubbish[16384];
	ssize_t n;

	c->readable = false;
	while (c->dropped < LINGER_BYTES) {
		n = recv(c->fd, rubbish, sizeof(rubbish), MSG_DONTWAIT);
		if (n > 0)
			c->dropped += (unsigned)n;
		else if (n == 0 || errno != EINTR)
			return n == -1 && errno == EAGAIN ? 0 : -1;
	}
	return -1;
}

/*
 * Closing while the client still sends would reset the connection, and the client
 * might never see the response: RFC 9112 section 9.6.
 */
static void
conn_linger(struct conn *c)
{
	conn_release_exchange(c);
	if (shutdown(c->fd, SHUT_WR) == -1 || conn_drop_input(c) == -1)
		conn_close(c);
	else
		conn_set_state(c, CONN_LINGER);
}

/* After the last response. */
static void
conn_finish(struct conn *c, enum exchange_end end)
{
	if (end == EXCHANGE_GONE)
		c->fd = c->exchange->input.fd;
	if (end == EXCHANGE_CLOSE && c->readable) {
		conn_drop_input(c);
		if (c->dropped > 0)
			end = EXCHANGE_LINGER;
	}
	if (end == EXCHANGE_LINGER)
		conn_linger(c);
	else
		conn_close(c);
}

/* Answer what is no request, without waiting, and close. */
static void
conn_refuse(struct conn *c, int status)
{
	char page[1024];
	size_t n;

	n = http_error_page(page, sizeof(page), status, exchange_error(c->exchange, status),
	    c->conns->config.exchange.server);
	(void)send(c->fd, page, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	conn_linger(c);
}

/* ---- requests ---- */

/* Who the request is from, and below what path the application is mounted. */
static void
conn_describe(const struct conn *c)
{
	const struct conns *s = c->conns;
	struct exchange *x = c->exchange;
	const struct forwarded_view *view = &x->forwarded;
	bool told = view->client.addr[0] != '\0';

	x->peer = (struct app_peer){
	    .remote_addr = told ? view->client.addr : c->addr,
	    .remote_port = told ? view->client.port : c->port,
	    .server_name = c->via->server_name,
	    .server_port = c->via->server_port,
	    .scheme = view->scheme != NULL ? view->scheme : "http",
	};
	x->app.script_name = view->script_name;
	if (view->script_name.n == 0)
		x->app.script_name = (struct http_str){s->config.script_name, s->script_name_n};
}

/* 1: a request is ready to be served. 0: bytes are missing. -1: refused, c may be gone. */
static int
conn_parse(struct conn *c)
{
	struct exchange *x = c->exchange;
	int rc = exchange_parse(&c->conns->pool, x);

	if (rc == 0)
		return 0;
	if (rc > 0) {
		rc = -forwarded_read(
		    c->conns->config.forwarded, &x->request, c->trusted, &x->forwarded);
		if (rc == 0) {
			conn_describe(c);
			return 1;
		}
	}
	log_warnx("Invalid request from ip=%s: %s", c->addr, exchange_error(c->exchange, -rc));
	conn_refuse(c, -rc);
	return -1;
}

/*
 * Whether this answer may leave the connection open. While draining it may when the client
 * has sent its next request already: that one would be lost with a "close" here.
 */
static bool
conn_keeps(const struct conn *c)
{
	const struct conns *s = c->conns;
	const struct exchange *x = c->exchange;
	bool body = x->request.chunked || x->request.content_length > 0;

	return s->config.keepalive > 0 && !c->closing &&
	       (!s->draining || (!body && x->len > x->head));
}

static enum exchange_end
conn_serve(struct conn *c)
{
	struct conns *s = c->conns;
	enum exchange_end end;

	if (++s->begun == s->config.max_requests)
		s->config.used_up(s->config.arg);
	end = exchange_serve(&s->pool, c->exchange, conn_keeps(c));
	s->served++;
	return end;
}

/* One request, and those that lie in the buffer already. c may be gone afterwards. */
static void
conn_answer(struct conn *c)
{
	enum exchange_end end;
	int more;

	do {
		bool body = c->exchange->request.chunked || c->exchange->request.content_length > 0;

		end = conn_serve(c);
		if (end != EXCHANGE_NEXT) {
			conn_finish(c, end);
			return;
		}
		/* what filled the buffer with the body's end may have left more behind it */
		c->readable = c->readable || body;
		more = conn_parse(c);
	} while (more > 0);
	if (more == 0)
		conn_receive(c);
}

/* On a green thread. What the application does after its response holds up no connection. */
static void
conn_main(void *arg)
{
	struct conn *c = arg;
	const struct exchange_config *config = &c->conns->config.exchange;

	conn_answer(c);
	if (config->kind == WORKER_GREEN)
		config->ops->leftovers(config->app);
}

static void
conn_start(struct conn *c)
{
	conn_set_state(c, CONN_SERVING);
	c->job = (struct green_job){.fn = conn_main, .arg = c};
	green_run(&c->job);
}

/* ---- receiving, in the loop ---- */

/* Everything was received: wait for more, in the right state. */
static void
conn_rest(struct conn *c)
{
	if (c->exchange != NULL && c->exchange->len > 0) {
		if (c->state != CONN_HEAD)
			conn_set_state(c, CONN_HEAD);
		return;
	}
	if (c->closing) {
		conn_close(c);
		return;
	}
	conn_release_exchange(c);
	if (c->state != CONN_FRESH && c->state != CONN_IDLE)
		conn_set_state(c, CONN_IDLE);
}

/* One recv(2) into the buffer: as that, but -1 with EAGAIN only once all is received. */
static ssize_t
conn_recv(struct conn *c)
{
	struct exchange *x = c->exchange;
	size_t room;
	ssize_t n;

	if (x == NULL)
		x = c->exchange = exchange_take(&c->conns->pool, c->fd);
	if (x == NULL || exchange_reserve(x) == -1) {
		errno = ENOMEM;
		return -1;
	}
	room = x->size - x->len;
	do
		n = recv(c->fd, x->buf + x->len, room, MSG_DONTWAIT);
	while (n == -1 && errno == EINTR);
	if (n > 0) {
		exchange_received(&c->conns->pool, x, (size_t)n);
		/* less than there was room for: the rest will come with an edge (epoll(7)) */
		c->readable = (size_t)n == room || c->hangup;
	}
	return n;
}

/* Receive and parse until a request is complete or nothing is left to receive. */
static void
conn_receive(struct conn *c)
{
	while (c->readable) {
		ssize_t n = conn_recv(c);

		if (n > 0) {
			int rc = conn_parse(c);

			if (rc < 0)
				return;
			if (rc > 0) {
				conn_start(c);
				return;
			}
			/* a reset that came with these bytes has no edge of its own: look again */
			c->readable = true;
		} else if (n == -1 && errno == EAGAIN) {
			c->readable = false;
		} else {
			conn_close(c);
			return;
		}
	}
	conn_rest(c);
}

static void
on_edge(int fd, int events, void *arg)
{
	struct conn *c = arg;

	(void)fd;
	if (events & GREEN_HANGUP)
		c->hangup = true;
	if ((events & (GREEN_READ | GREEN_HANGUP)) == 0)
		return;
	c->readable = true;
	if (c->state == CONN_LINGER) {
		if (conn_drop_input(c) == -1)
			conn_close(c);
	} else if (c->state != CONN_SERVING) {
		conn_receive(c);
	}
}

/* ---- expiry ---- */

static void
conn_expire(struct conn *c)
{
	switch (c->state) {
	case CONN_HEAD:
		log_debug("No complete request head in time from ip=%s", c->addr);
		c->exchange->request.error = NULL;
		conn_refuse(c, 408);
		break;
	case CONN_FRESH:
	case CONN_IDLE:
		/* a last look: what has arrived is served */
		c->closing = true;
		c->readable = true;
		conn_receive(c);
		break;
	default:
		conn_close(c);
	}
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct conns *s = arg;
	int64_t now = green_now();
	struct conn *c;

	(void)fd;
	(void)what;
	s->armed = GREEN_NEVER;
	for (int i = 0; i < CONN_NSTATES; i++)
		while ((c = TAILQ_FIRST(&s->lists[i])) != NULL && c->deadline <= now)
			conn_expire(c); /* leaves this list */
	for (int i = 0; i < CONN_NSTATES; i++)
		if ((c = TAILQ_FIRST(&s->lists[i])) != NULL)
			timer_arm(s, c->deadline);
}

/* ---- all connections ---- */

struct conns *
conns_new(struct event_base *base, const struct conns_config *config)
{
	struct conns *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->config = *config;
	s->script_name_n = strlen(config->script_name);
	s->pool.config = config->exchange;
	for (int i = 0; i < CONN_NSTATES; i++)
		TAILQ_INIT(&s->lists[i]);
	s->timeouts[CONN_FRESH] = s->timeouts[CONN_HEAD] = config->header_timeout;
	s->timeouts[CONN_IDLE] = config->keepalive;
	s->timeouts[CONN_LINGER] = LINGER_NS;
	s->timeouts[CONN_SERVING] = -1;
	s->armed = GREEN_NEVER;
	s->timer = evtimer_new(base, on_timer, s);
	if (s->timer == NULL) {
		free(s);
		errno = ENOMEM;
		return NULL;
	}
	return s;
}

void
conns_free(struct conns *s)
{
	if (s == NULL)
		return;
	event_free(s->timer);
	exchange_pool_fini(&s->pool);
	free(s);
}

static void
conn_name_peer(struct conn *c, const struct address *peer)
{
	in_port_t port = 0;

	if (peer->any.sa.sa_family == AF_INET) {
		inet_ntop(AF_INET, &peer->any.in.sin_addr, c->addr, sizeof(c->addr));
		port = peer->any.in.sin_port;
	} else if (peer->any.sa.sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &peer->any.in6.sin6_addr, c->addr, sizeof(c->addr));
		port = peer->any.in6.sin6_port;
	} else {
		return;
	}
	snprintf(c->port, sizeof(c->port), "%u", (unsigned)ntohs(port));
}

void
conns_add(struct conns *s, int fd, const struct listener *via, const struct address *peer)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (c == NULL || green_fd_own(fd) == -1 || green_fd_watch(fd, on_edge, c) == -1) {
		log_warn("cannot serve a connection");
		free(c);
		(void)green_fd_close(fd);
		return;
	}
	c->fd = fd;
	c->conns = s;
	c->via = via;
	c->trusted = forwarded_trusts(s->config.forwarded, &peer->any.sa);
	conn_name_peer(c, peer);
	s->count++;
	c->state = CONN_FRESH;
	TAILQ_INSERT_TAIL(&s->lists[CONN_FRESH], c, link);
	c->deadline = green_deadline(s->timeouts[CONN_FRESH]);
	timer_arm(s, c->deadline);
}

/* The deadlines of a state come closer; they stay in order. */
static void
state_hasten(struct conns *s, enum conn_state state, int64_t timeout)
{
	int64_t deadline = green_deadline(timeout);
	struct conn *c;

	if (s->timeouts[state] > timeout)
		s->timeouts[state] = timeout;
	TAILQ_FOREACH (c, &s->lists[state], link)
		if (c->deadline > deadline)
			c->deadline = deadline;
	if ((c = TAILQ_FIRST(&s->lists[state])) != NULL)
		timer_arm(s, c->deadline);
}

void
conns_drain(struct conns *s)
{
	s->draining = true;
	s->timeouts[CONN_FRESH] = s->timeouts[CONN_IDLE] = DRAIN_NS;
	state_hasten(s, CONN_FRESH, DRAIN_NS);
	state_hasten(s, CONN_IDLE, DRAIN_NS);
	state_hasten(s, CONN_HEAD, DRAIN_HEAD_NS);
}

void
conns_abandon(struct conns *s)
{
	struct conn *c;

	for (int i = 0; i < CONN_NSTATES; i++)
		while (i != CONN_SERVING && (c = TAILQ_FIRST(&s->lists[i])) != NULL)
			conn_close(c);
}

void
conns_log_cut(const struct conns *s)
{
	const struct conn *c;
	size_t left = s->in_flight, lines = 0;

	TAILQ_FOREACH (c, &s->lists[CONN_SERVING], link) {
		const struct http_request *r = &c->exchange->request;

		if (lines++ == CUT_LINES)
			break;
		left--;
		log_warnx("Cut off after %.1f s: %.*s %.*s (client %s)",
		    (double)(green_now() - c->exchange->app.started) / NS_PER_SEC, (int)r->method.n,
		    r->method.p, (int)r->path.n, r->path.p, *c->addr ? c->addr : "-");
	}
	if (left > 0)
		log_warnx("Cut off: %zu more requests", left);
}

size_t
conns_count(const struct conns *s)
{
	return s->count;
}

size_t
conns_in_flight(const struct conns *s)
{
	return s->in_flight;
}

uint64_t
conns_served(const struct conns *s)
{
	return s->served;
}
