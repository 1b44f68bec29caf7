/* Where to listen, in gunicorn's notation: HOST, HOST:PORT, [V6]:PORT, unix:PATH. */
#ifndef COMMON_ADDRESS_H
#define COMMON_ADDRESS_H

#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#define ADDRESS_PORT_DEFAULT 8000
#define ADDRESS_TEXT_SIZE    160

union address_any {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;
	struct sockaddr_storage storage;
};

struct address {
	union address_any any;
	socklen_t len;
};

/*
 * Read text; a host's name is looked up. 0, or -1 with a reason in why, which may be
 * NULL: "no port in …", "unknown host …".
 */
int address_parse(struct address *, const char *text, char *why, size_t why_size);

/* The same without looking up: what it says of the form. */
int address_check(const char *text, char *why, size_t why_size);

/* The path of a unix socket in the file system; NULL for all else. */
const char *address_path(const struct address *);

/* As gunicorn prints it: http://127.0.0.1:8000, http://[::1]:8000, unix:/path. */
void address_format(const struct address *, char *buf, size_t size);

/* SERVER_NAME and SERVER_PORT, numeric; "" for a unix socket. */
void address_names(
    const struct address *, char *host, size_t host_size, char *port, size_t port_size);

#endif
