/* Addresses in networks: see networks.h. All are kept as IPv6, so that there is one comparison. */
#include "common/networks.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/kinds.h"
#include "common/mem.h"
#include "common/refuse.h"

#define V4_PREFIX 96 /* of ::ffff:0:0/96, where IPv4 lies */

/* ---- addresses ---- */

static void
ip_from_v4(struct ip *ip, const struct in_addr *in)
{
	memset(&ip->in6, 0, sizeof(ip->in6));
	memset(ip->in6.s6_addr + 10, 0xff, 2);
	memcpy(ip->in6.s6_addr + 12, in, 4);
}

bool
ip_parse(struct ip *ip, const char *text, size_t n)
{
	char copy[INET6_ADDRSTRLEN];
	struct in_addr in;

	if (n >= sizeof(copy) || memchr(text, '\0', n) != NULL)
		return false;
	memcpy(copy, text, n);
	copy[n] = '\0';
	if (inet_pton(AF_INET6, copy, &ip->in6) == 1)
		return true;
	if (inet_pton(AF_INET, copy, &in) != 1)
		return false;
	ip_from_v4(ip, &in);
	return true;
}

bool
ip_from_sockaddr(struct ip *ip, const struct sockaddr *sa)
{
	if (sa->sa_family == AF_INET)
		ip_from_v4(ip, &((const struct sockaddr_in *)sa)->sin_addr);
	else if (sa->sa_family == AF_INET6)
		ip->in6 = ((const struct sockaddr_in6 *)sa)->sin6_addr;
	else
		return false;
	return true;
}

void
ip_format(const struct ip *ip, char *buf)
{
	if (IN6_IS_ADDR_V4MAPPED(&ip->in6))
		inet_ntop(AF_INET, ip->in6.s6_addr + 12, buf, INET6_ADDRSTRLEN);
	else
		inet_ntop(AF_INET6, &ip->in6, buf, INET6_ADDRSTRLEN);
}

/* ---- networks ---- */

/* The bits of a byte, of 16, that belong to the prefix. */
static unsigned char
prefix_byte(unsigned prefix, unsigned byte)
{
	unsigned bits = prefix > byte * 8 ? prefix - byte * 8 : 0;

	return bits >= 8 ? 0xff : (unsigned char)(0xff00 >> bits);
}

static bool
network_is_v4(const struct network *net)
{
	return net->prefix >= V4_PREFIX && IN6_IS_ADDR_V4MAPPED(&net->first);
}

/* "8", or "255.0.0.0", or its complement as access lists have it. The prefix, or -1. */
static int
parse_prefix(const char *text, bool v4)
{
	unsigned long n;
	struct in_addr in;
	uint32_t mask;
	char *end;

	if (*text >= '0' && *text <= '9') {
		n = strtoul(text, &end, 10);
		if (*end == '\0')
			return n <= (v4 ? 32 : 128) ? (int)n : -1;
	}
	if (!v4 || inet_pton(AF_INET, text, &in) != 1)
		return -1;
	mask = ntohl(in.s_addr);
	if (mask != 0 && (mask & 0x80000000) == 0)
		mask = ~mask;
	return (~mask & (~mask + 1)) == 0 ? __builtin_popcount(mask) : -1;
}

/* The address without what lies beyond the prefix; whether that was nothing. */
static bool
network_cut(struct network *net)
{
	struct in6_addr before = net->first;

	for (unsigned i = 0; i < 16; i++)
		net->first.s6_addr[i] &= prefix_byte(net->prefix, i);
	return memcmp(&before, &net->first, sizeof(before)) == 0;
}

static int
network_parse(struct network *net, const char *text, char *why, size_t why_size)
{
	const char *slash = strchr(text, '/');
	struct ip ip;
	char first[INET6_ADDRSTRLEN];
	bool v4;
	int prefix;

	if (!ip_parse(&ip, text, slash != NULL ? (size_t)(slash - text) : strlen(text)))
		return refuse(why, why_size,
		    "\"%s\" is no address or network (192.0.2.1, 192.0.2.0/24, 2001:db8::/32, *)",
		    text);
	/* ::ffff:a.b.c.d/n is written with 128 bits, a.b.c.d/n with 32 */
	v4 = memchr(text, ':', strlen(text)) == NULL;
	prefix = slash != NULL ? parse_prefix(slash + 1, v4) : v4 ? 32 : 128;
	if (prefix == -1)
		return refuse(why, why_size, "\"%s\": no such network mask", text);
	net->first = ip.in6;
	net->prefix = (unsigned)prefix + (v4 ? V4_PREFIX : 0);
	if (network_cut(net))
		return 0;
	ip_format(&(struct ip){net->first}, first);
	return refuse(why, why_size, "\"%s\" has host bits set: did you mean %s%s, or %.*s alone?",
	    text, first, slash, (int)(slash - text), text);
}

int
networks_parse(struct networks *networks, const struct strlist *list, char *why, size_t why_size)
{
	struct networks all = {.items = xcalloc(list->n > 0 ? list->n : 1, sizeof(*all.items))};

	for (size_t i = 0; i < list->n; i++) {
		if (strcmp(list->items[i], "*") == 0) {
			all.any = true;
		} else if (network_parse(&all.items[all.n++], list->items[i], why, why_size) ==
			   -1) {
			networks_fini(&all);
			return -1;
		}
	}
	if (networks != NULL)
		*networks = all;
	else
		networks_fini(&all);
	return 0;
}

void
networks_fini(struct networks *networks)
{
	free(networks->items);
	*networks = (struct networks){0};
}

static bool
network_contains(const struct network *net, const struct in6_addr *in6)
{
	for (unsigned i = 0; i < 16 && i * 8 < net->prefix; i++)
		if ((in6->s6_addr[i] & prefix_byte(net->prefix, i)) != net->first.s6_addr[i])
			return false;
	/* ::/0 is all of IPv6, which IPv4 is no part of */
	return IN6_IS_ADDR_V4MAPPED(in6) == network_is_v4(net);
}

bool
networks_contain(const struct networks *networks, const struct ip *ip)
{
	for (size_t i = 0; i < networks->n; i++)
		if (network_contains(&networks->items[i], &ip->in6))
			return true;
	return false;
}
