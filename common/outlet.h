/*
 * Where things are told to another program that nobody waits for: a syslog daemon, a statsd. What
 * it does not take at once is lost; so one that is dead or slow costs a system call. In a worker no
 * green thread parks here.
 */
#ifndef COMMON_OUTLET_H
#define COMMON_OUTLET_H

#include <stdbool.h>
#include <stddef.h>

struct outlet;

/*
 * To udp://HOST[:PORT], tcp://HOST[:PORT] or unix://PATH, which may end in #dgram or #stream, and
 * else is what listens there. A name is looked up here and now; a stream is connected, and again a
 * second after it broke. NULL with a reason in why, when the address is none; one where nobody
 * listens is no mistake.
 */
struct outlet *outlet_open(const char *address, int default_port, char *why, size_t why_size);
void outlet_close(struct outlet *); /* NULL does nothing */

/* Whether that is an address by its looks. -1 with a reason. */
int outlet_check(const char *address, char *why, size_t why_size);

/* Whether a message may have several lines; on a stream each is one, "\n" is added there. */
bool outlet_keeps_bounds(const struct outlet *);

/* From any OS thread; not from a signal handler. false: it is lost. */
bool outlet_send(struct outlet *, const void *, size_t);

/* In a forked process, which shares a stream with others: it is to have its own. */
void outlet_after_fork(struct outlet *);

/* Its descriptor, which changes; -1: none. For a child that the application forks to inherit. */
int outlet_fd(const struct outlet *);

#endif
