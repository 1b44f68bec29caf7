/*
 * A name for a request, under which several servers can log it: what the client, a proxy mostly,
 * says in X-Request-ID, or one of ours.
 */
#ifndef WORKER_REQUEST_ID_H
#define WORKER_REQUEST_ID_H

#include "worker/http/request.h"

#define REQUEST_ID_SIZE 32

/* The client's when it is sane; else one is made in made: 32 hexadecimal digits. */
struct http_str request_id(const struct http_request *, char made[REQUEST_ID_SIZE]);

#endif
