/*
 * The floor under any server that answers each request as it comes: one recv and one send
 * in C, with nothing parsed and no application. What a server costs more than this is its own;
 * the rest is the kernel's. `./dev bench hello` runs it beside the others: floor PORT.
 */
#include <arpa/inet.h>
#include <err.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 256

/* As many bytes as greenicorn sends for hello. */
static const char response[] = "HTTP/1.1 200 OK\r\n"
			       "Server: greenicorn\r\n"
			       "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
			       "Connection: keep-alive\r\n"
			       "Content-Type: text/plain\r\n"
			       "Content-Length: 14\r\n\r\n"
			       "Hello, world!\n";

static int
listen_at(const char *port)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	address.sin_port = htons((uint16_t)atoi(port));
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd == -1 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == -1 ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)) == -1 || listen(fd, 2048) == -1)
		err(1, "port %s", port);
	return fd;
}

/* Edge-triggered, as greenicorn's connections are. */
static void
watch(int epoll, int fd, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.fd = fd};

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == -1)
		err(1, "epoll_ctl");
}

static void
take(int epoll, int listener)
{
	int on = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);

	if (fd == -1)
		return;
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == -1)
		err(1, "TCP_NODELAY");
	watch(epoll, fd, EPOLLIN | EPOLLET);
}

static void
answer(int fd)
{
	char request[4096];

	if (recv(fd, request, sizeof(request), 0) <= 0 ||
	    send(fd, response, sizeof(response) - 1, MSG_NOSIGNAL) == -1)
		close(fd);
}

int
main(int argc, char **argv)
{
	struct epoll_event events[EVENTS];
	int epoll = epoll_create1(0), listener, n;

	if (argc != 2)
		errx(2, "usage: floor PORT");
	if (epoll == -1)
		err(1, "epoll_create1");
	listener = listen_at(argv[1]);
	watch(epoll, listener, EPOLLIN);
	for (;;) {
		if ((n = epoll_wait(epoll, events, EVENTS, -1)) == -1)
			err(1, "epoll_wait");
		for (int i = 0; i < n; i++) {
			if (events[i].data.fd == listener)
				take(epoll, listener);
			else
				answer(events[i].data.fd);
		}
	}
}
