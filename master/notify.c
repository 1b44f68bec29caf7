/* sd_notify(3) by hand: see notify.h. */
#include "master/notify.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/log.h"
#include "common/scoreboard.h"

static struct sockaddr_un address;
static socklen_t address_len; /* 0: nobody wants to know */

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
	} else if (n > 0) {
		log_warnx("NOTIFY_SOCKET: \"%s\" is no socket's name", name);
	}
	unsetenv("NOTIFY_SOCKET");
}

static void
notify(const char *text)
{
	int fd;

	if (address_len == 0)
		return;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd == -1 || sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&address,
			    address_len) == -1)
		log_warn("cannot notify the service manager");
	if (fd != -1)
		close(fd);
}

void
notify_ready(void)
{
	notify("READY=1\nSTATUS=serving");
}

void
notify_stopping(void)
{
	notify("STOPPING=1\nSTATUS=stopping");
}

void
notify_reloading(void)
{
	char text[96];

	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64 "\nSTATUS=reloading",
	    scoreboard_now() / 1000);
	notify(text);
}
