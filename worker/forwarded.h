/*
 * What a proxy in front of us says of its client, and whether we believe it (gunicorn's
 * forwarded_allow_ips, secure_scheme_headers, forwarder_headers, header_map; our forwarded_for).
 * A peer on a unix socket is always believed, as in gunicorn.
 */
#ifndef WORKER_FORWARDED_H
#define WORKER_FORWARDED_H

#include <stdbool.h>
#include <stddef.h>

#include "worker/http/request.h"

struct forwarded;
struct settings;
struct sockaddr;

/* NULL with why, of size bytes. settings are borrowed for its life. */
struct forwarded *forwarded_new(const struct settings *, char *why, size_t size);
void forwarded_free(struct forwarded *);

/* Whether what this peer says is believed. */
bool forwarded_trusts(const struct forwarded *, const struct sockaddr *peer);

/* A client as it was forwarded. Large enough for any IPv6 address and any port. */
struct forwarded_client {
	char addr[46]; /* "": not told */
	char port[6];  /* "": not told */
};

struct forwarded_view {
	const char *scheme;          /* "http" or "https"; NULL: not told */
	struct http_str script_name; /* n is 0: not told */
	struct forwarded_client client;
};

/*
 * Read the fields of a request from a peer that is trusted or not, and remove those that must not
 * reach the application: names with an underscore, which in environ would pass for others with a
 * dash. 0, or 400 with request->error.
 */
int forwarded_read(
    const struct forwarded *, struct http_request *, bool trusted, struct forwarded_view *);

#endif
