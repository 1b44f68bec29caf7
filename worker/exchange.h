/*
 * An exchange: what a connection needs from the first byte of a request to the
 * end of its response, and only then; taken from a pool and given back.
 */
#ifndef WORKER_EXCHANGE_H
#define WORKER_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/worker_class.h"
#include "worker/app/app.h"
#include "worker/forwarded.h"
#include "worker/http/body.h"
#include "worker/http/request.h"
#include "worker/http/response.h"
#include "worker/request_id.h"

struct access_log;

/* The same for all exchanges of a worker. All borrowed. */
struct exchange_config {
	struct http_limits limits;
	int64_t body_timeout; /* ns that a client may be silent in a body */
	int64_t send_timeout; /* ns that a client may take nothing */
	const char *server;   /* the Server field */
	bool sendfile;        /* files are sent with sendfile(2) */
	bool fold_methods;    /* get becomes GET */
	const struct app_ops *ops;
	struct app *app;
	struct access_log *access_log; /* NULL: none */
	unsigned wants;                /* access_log_wants of it */
	enum worker_kind kind;         /* where the application runs */
};

struct exchange {
	struct exchange *next; /* in the pool */
	char *buf;             /* owned */
	size_t size, len;      /* of buf; received and not used yet */
	size_t scanned;        /* how far the end of the head was looked for */
	size_t head;           /* length of the complete head */
	struct http_request request;
	struct http_input input;
	struct http_body body;
	struct http_response response;
	struct app_peer peer;            /* for the caller to fill in */
	struct forwarded_view forwarded; /* likewise */
	struct app_exchange app;
	char made_id[REQUEST_ID_SIZE]; /* what app.request_id may point to */
};

struct exchange_pool {
	struct exchange_config config;
	struct exchange *idle; /* owned; the one used last first */
	size_t nidle;
};

void exchange_pool_fini(struct exchange_pool *);

/* For the connection fd, with an empty buffer. NULL when memory is gone. */
struct exchange *exchange_take(struct exchange_pool *, int fd);
void exchange_give_back(struct exchange_pool *, struct exchange *);

/* More was received, n bytes behind buf[0..len). */
void exchange_received(const struct exchange_pool *, struct exchange *, size_t n);

/* Make room to receive into buf[len..size). 0, or -1 when memory is gone. */
int exchange_reserve(struct exchange *);

/* Read a head in buf[0..len): 1 when it is complete, 0 when bytes are missing, or -status. */
int exchange_parse(struct exchange_pool *, struct exchange *);

/* How the connection goes on after a response. */
enum exchange_end {
	EXCHANGE_NEXT,   /* the next request, which may lie in the buffer already */
	EXCHANGE_CLOSE,  /* nothing is left to receive, or nobody to send to */
	EXCHANGE_LINGER, /* the client may still be sending: let it read the response */
	EXCHANGE_GONE,   /* the application has had it; input.fd, unless -1, is to be closed */
};

/* On a green thread: answer the request that exchange_parse found complete. */
enum exchange_end exchange_serve(struct exchange_pool *, struct exchange *, bool keep_alive);

/* Why exchange_parse refused. */
const char *exchange_error(const struct exchange *, int status);

#endif
