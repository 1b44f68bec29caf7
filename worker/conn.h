/*
 * The connections of a worker. One that waits for a request, or has half a head, lives
 * in the loop and costs bytes; from the complete head to the end of the response
 * it has a green thread.
 */
#ifndef WORKER_CONN_H
#define WORKER_CONN_H

#include <stddef.h>
#include <stdint.h>

#include "common/address.h"
#include "common/listener.h"
#include "worker/exchange.h"

struct conns;
struct event_base;

struct conns_config {
	struct exchange_config exchange;
	const struct forwarded *forwarded; /* borrowed */
	const char *script_name;           /* SCRIPT_NAME, borrowed */
	int64_t keepalive;      /* ns between two requests; 0: one request a connection */
	int64_t header_timeout; /* ns from the first byte of a head to its last */
	uint64_t max_requests;  /* requests after which used_up is called; 0: never */
	void (*used_up)(void *arg);
	void (*closed)(void *arg);    /* there is one connection less */
	void (*in_flight)(void *arg); /* there is one request in flight more or less; NULL */
	void *arg;
};

/* NULL with errno. */
struct conns *conns_new(struct event_base *, const struct conns_config *);

/* All connections must have ended. */
void conns_free(struct conns *);

/* Take over an accepted, non-blocking socket. The listener must outlive it. */
void conns_add(struct conns *, int fd, const struct listener *, const struct address *peer);

/*
 * The worker stops: answer what arrives with Connection: close, and close what
 * stays idle. A connection is open for a moment longer, since its client may have
 * sent a request that has not arrived yet; the rest of a head may take a few seconds.
 */
void conns_drain(struct conns *);

/* Close all that have no request in flight, at once. */
void conns_abandon(struct conns *);

/* Log the requests in flight, a line each up to a limit: they are about to be cut off. */
void conns_log_cut(const struct conns *);

size_t conns_count(const struct conns *);
size_t conns_in_flight(const struct conns *);
uint64_t conns_served(const struct conns *);

#endif
