/* sd_notify(3) by hand: see notify.h. */
#include "master/notify.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/contract.h"
#include "common/log.h"
#include "common/scoreboard.h"

static struct sockaddr_un address;
static socklen_t address_len;      /* 0: nobody wants to know */
static uint64_t watchdog_interval; /* ns */
static bool muted;

/* sd_watchdog_enabled(3): so many microseconds at most between two signs of life. Half is safe. */
static void
watchdog_init(void)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");

	if (usec != NULL && (pid == NULL || strtol(pid, NULL, 10) == getpid()))
		watchdog_interval = strtoull(usec, NULL, 10) * 1000 / 2;
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
}

/* A path, or @name for an abstract socket. */
void
notify_init(void)
{
	const char *name = getenv("NOTIFY_SOCKET");
	size_t n = name != NULL ? strlen(name) : 0;

	if (n > 1 && n < sizeof(address.sun_path) && (*name == '/' || *name == '@')) {
		address.sun_family = AF_UNIX;
		memcpy(address.sun_path, name, n);
		if (*name == '@')
			address.sun_path[0] = '\0';
		address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
		watchdog_init();
	} else if (n > 0) {
		log_warnx("NOTIFY_SOCKET: \"%s\" is no socket's name", name);
	}
	unsetenv("NOTIFY_SOCKET");
}

bool
notify_wanted(void)
{
	return address_len != 0;
}

/* A service manager that reads nothing must not hold us up for longer than this. */
#define PATIENCE_US 500000

/*
 * With a copy of descriptor fd, unless it is -1. What is said again and again anyway is not
 * waited for.
 */
static void
notify_with(const char *text, int fd, bool wait)
{
	const struct timeval patience = {.tv_usec = PATIENCE_US};
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec iov = {(char *)(uintptr_t)text, strlen(text)};
	struct msghdr msg = {
	    .msg_name = &address, .msg_namelen = address_len, .msg_iov = &iov, .msg_iovlen = 1};
	int sock;

	if (address_len == 0 || muted)
		return;
	if (fd != -1) {
		msg.msg_control = control.space;
		msg.msg_controllen = sizeof(control.space);
		control.header = (struct cmsghdr){.cmsg_level = SOL_SOCKET,
		    .cmsg_type = SCM_RIGHTS,
		    .cmsg_len = CMSG_LEN(sizeof(fd))};
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	}
	sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (sock == -1 ||
	    setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) == -1 ||
	    (sendmsg(sock, &msg, MSG_NOSIGNAL | (wait ? 0 : MSG_DONTWAIT)) == -1 &&
		(wait || errno != EAGAIN)))
		log_warn("cannot notify the service manager");
	if (sock != -1)
		close(sock);
}

static void
notify(const char *text)
{
	notify_with(text, -1, true);
}

static void
notify_again(const char *text)
{
	notify_with(text, -1, false);
}

void
notify_ready(void)
{
	notify("READY=1");
}

void
notify_stopping(void)
{
	notify("STOPPING=1");
}

void
notify_reloading(void)
{
	char text[96];

	snprintf(
	    text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, scoreboard_now() / 1000);
	notify(text);
}

void
notify_status(const char *status)
{
	char text[512];

	snprintf(text, sizeof(text), "STATUS=%s", status);
	for (char *p = text; *p != '\0'; p++)
		if (*p == '\n')
			*p = ' ';
	notify_again(text);
}

void
notify_main_pid(pid_t pid)
{
	char text[32];

	snprintf(text, sizeof(text), "MAINPID=%d", (int)pid);
	notify(text);
}

void
notify_extend(uint64_t ns)
{
	char text[64];

	snprintf(text, sizeof(text), "EXTEND_TIMEOUT_USEC=%" PRIu64, ns / 1000);
	notify_again(text);
}

uint64_t
notify_watchdog_interval(void)
{
	return watchdog_interval;
}

void
notify_watchdog(void)
{
	notify_again("WATCHDOG=1");
}

void
notify_mute(bool mute)
{
	muted = mute;
}

void
notify_store(const int *fds, size_t n)
{
	notify("FDSTOREREMOVE=1\nFDNAME=" CONTRACT_FD_BOUND);
	for (size_t i = 0; i < n; i++)
		notify_with("FDSTORE=1\nFDNAME=" CONTRACT_FD_BOUND, fds[i], true);
}
