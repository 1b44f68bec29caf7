/* Reading and printing addresses: see address.h. */
#include "common/address.h"

#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/refuse.h"

/* Longer than any host name (RFC 1123) or IPv6 literal with a zone. */
#define HOST_SIZE 256

static int
parse_unix(struct address *a, const char *path, char *why, size_t why_size)
{
	size_t n;

	if (strncmp(path, "//", 2) == 0) /* unix:///run/x.sock means the same */
		path += 2;
	n = strlen(path);
	if (n == 0)
		return refuse(why, why_size, "no path after unix:");
	if (n >= sizeof(a->any.un.sun_path))
		return refuse(why, why_size, "a path of %zu characters, the system allows %zu", n,
		    sizeof(a->any.un.sun_path) - 1);
	*a = (struct address){.any.un.sun_family = AF_UNIX};
	memcpy(a->any.un.sun_path, path, n);
	a->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1);
	return 0;
}

/* Split "host:port", "[v6]:port", "host", "[v6]", ":port", "v6" (more than one colon). */
static int
split(const char *text, char *host, size_t host_size, const char **port, char *why, size_t why_size)
{
	const char *colon = strrchr(text, ':'), *end;

	*port = NULL;
	if (text[0] == '[') {
		if ((end = strchr(text, ']')) == NULL)
			return refuse(why, why_size, "no ] in %s", text);
		if (end[1] == ':')
			*port = end + 2;
		else if (end[1] != '\0')
			return refuse(why, why_size, "no :PORT after the ] in %s", text);
		text++;
	} else if (colon != NULL && strchr(text, ':') == colon) {
		end = colon;
		*port = colon + 1;
	} else {
		end = text + strlen(text);
	}
	if ((size_t)(end - text) >= host_size)
		return refuse(why, why_size, "the host's name is too long");
	snprintf(host, host_size, "%.*s", (int)(end - text), text);
	return 0;
}

static int
parse_port(const char *text, char *why, size_t why_size)
{
	char *end;
	long n;

	if (text == NULL)
		return ADDRESS_PORT_DEFAULT;
	if (*text < '0' || *text > '9')
		return refuse(why, why_size, "the port is no number: \"%s\"", text);
	n = strtol(text, &end, 10);
	if (*end != '\0')
		return refuse(why, why_size, "the port is no number: \"%s\"", text);
	if (n < 0 || n > 65535)
		return refuse(why, why_size, "port %s is out of range (0 to 65535)", text);
	return (int)n;
}

/* A name means IPv4 first, as with gunicorn; no host at all is every IPv4 address. */
static int
resolve(struct address *a, const char *host, int port, char *why, size_t why_size)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list;
	char service[8];
	int rc;

	snprintf(service, sizeof(service), "%d", port);
	hints.ai_family = strchr(host, ':') != NULL ? AF_INET6 : AF_INET;
	rc = getaddrinfo(*host != '\0' ? host : NULL, service, &hints, &list);
	if (rc != 0 && hints.ai_family == AF_INET) {
		hints.ai_family = AF_INET6;
		rc = getaddrinfo(host, service, &hints, &list);
	}
	if (rc != 0)
		return refuse(why, why_size, "unknown host \"%s\": %s", host, gai_strerror(rc));
	*a = (struct address){.len = list->ai_addrlen};
	memcpy(&a->any, list->ai_addr, list->ai_addrlen);
	freeaddrinfo(list);
	return 0;
}

/* Read text, and look the name up if that is wanted. */
static int
parse(struct address *a, const char *text, bool look_up, char *why, size_t why_size)
{
	char host[HOST_SIZE];
	const char *port_text;
	int port;

	if (strncmp(text, "unix:", 5) == 0)
		return parse_unix(a, text + 5, why, why_size);
	if (strncmp(text, "tcp://", 6) == 0)
		text += 6;
	if (*text == '\0')
		return refuse(why, why_size, "an empty address");
	if (strncmp(text, "fd://", 5) == 0)
		return refuse(why, why_size,
		    "sockets are taken over as systemd passes them: LISTEN_PID, LISTEN_FDS");
	if (strchr(text, '/') != NULL)
		return refuse(why, why_size,
		    "\"%s\" is no address: write HOST:PORT, or unix:PATH for a path", text);
	if (split(text, host, sizeof(host), &port_text, why, why_size) == -1 ||
	    (port = parse_port(port_text, why, why_size)) == -1)
		return -1;
	return look_up ? resolve(a, host, port, why, why_size) : 0;
}

int
address_parse(struct address *a, const char *text, char *why, size_t why_size)
{
	return parse(a, text, true, why, why_size);
}

int
address_check(const char *text, char *why, size_t why_size)
{
	struct address a;

	return parse(&a, text, false, why, why_size);
}

const char *
address_path(const struct address *a)
{
	if (a->any.sa.sa_family != AF_UNIX ||
	    a->len <= (socklen_t)offsetof(struct sockaddr_un, sun_path) ||
	    a->any.un.sun_path[0] == '\0')
		return NULL;
	return a->any.un.sun_path;
}

void
address_names(const struct address *a, char *host, size_t host_size, char *port, size_t port_size)
{
	host[0] = port[0] = '\0';
	if (a->any.sa.sa_family == AF_UNIX)
		return;
	if (getnameinfo(&a->any.sa, a->len, host, (socklen_t)host_size, port, (socklen_t)port_size,
		NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		host[0] = port[0] = '\0';
}

/* A unix socket from elsewhere may be abstract, with a leading NUL: shown as @, as ss(8) does. */
static void
format_unix(const struct address *a, char *buf, size_t size)
{
	size_t n = a->len - offsetof(struct sockaddr_un, sun_path);

	if (address_path(a) != NULL)
		snprintf(buf, size, "unix:%.*s", (int)n, a->any.un.sun_path);
	else
		snprintf(buf, size, "unix:@%.*s", n > 0 ? (int)n - 1 : 0, a->any.un.sun_path + 1);
}

void
address_format(const struct address *a, char *buf, size_t size)
{
	char host[INET6_ADDRSTRLEN + 24], port[8];

	if (a->any.sa.sa_family == AF_UNIX) {
		format_unix(a, buf, size);
		return;
	}
	address_names(a, host, sizeof(host), port, sizeof(port));
	snprintf(buf, size, a->any.sa.sa_family == AF_INET6 ? "http://[%s]:%s" : "http://%s:%s",
	    host, port);
}
