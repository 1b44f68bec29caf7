/*
 * Taking new connections from the listening sockets, which all workers share: each one by a
 * worker that is not busy, so that all have about as many. Only one is woken for it.
 */
#ifndef WORKER_ACCEPT_H
#define WORKER_ACCEPT_H

#include <stdbool.h>

#include "common/address.h"
#include "common/listener.h"

struct acceptors;
struct event_base;
struct worker_contract;

/* A connection: fd is the receiver's, non-blocking. The listener outlives it. */
typedef void accept_fn(int fd, const struct listener *, const struct address *peer, void *arg);

/* The contract is borrowed; its row says how many connections we have. NULL with errno. */
struct acceptors *acceptors_new(
    struct event_base *, const struct worker_contract *, accept_fn *, void *arg);
void acceptors_free(struct acceptors *);

/* Whether to take any; at first not. Also from within the accept_fn. */
void acceptors_open(struct acceptors *, bool);

/*
 * Once a second: take what nobody was woken for. One who was may have died, or been stopped,
 * before it took the connection.
 */
void acceptors_look(struct acceptors *);

/*
 * We stop, and our row says so. Take the connections that are left to us, which for the last worker
 * that goes are all that the kernel has established, and close the listening sockets: who
 * connects later is refused, or served by others, but does not wait for us.
 */
void acceptors_finish(struct acceptors *);

#endif
