/* IP addresses and networks of them: who is believed (forwarded_allow_ips and its like). */
#ifndef COMMON_NETWORKS_H
#define COMMON_NETWORKS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

struct strlist;

/* An address; an IPv4 one is ::ffff:a.b.c.d, as a socket of both families shows it. */
struct ip {
	struct in6_addr in6;
};

/* From text without zone and brackets: n characters. False when it is none. */
bool ip_parse(struct ip *, const char *text, size_t n);

/* False for what is no IP address: a unix socket's. */
bool ip_from_sockaddr(struct ip *, const struct sockaddr *);

/* As text, INET6_ADDRSTRLEN bytes: 192.0.2.1 also for ::ffff:192.0.2.1. */
void ip_format(const struct ip *, char *buf);

struct network {
	struct in6_addr first;
	unsigned prefix; /* of 128 bits */
};

struct networks {
	struct network *items; /* owned */
	size_t n;
	bool any; /* one of them was "*" */
};

/*
 * Read addresses, networks (10.0.0.0/8, 10.0.0.0/255.0.0.0, 2001:db8::/32) and "*". As Python's
 * ipaddress does, refuse a network whose address has bits beyond the prefix. 0, or -1 with why
 * and nothing to be freed; NULL for networks only checks.
 */
int networks_parse(struct networks *, const struct strlist *, char *why, size_t why_size);
void networks_fini(struct networks *);

/* Whether the address is in one of them; "any" is not looked at. */
bool networks_contain(const struct networks *, const struct ip *);

#endif
