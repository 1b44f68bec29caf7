/* libevent's base, and what it cannot do itself: wait for a descriptor in a line. */
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "worker/green/internal.h"
#include "worker/green/real.h"

/* The base's epoll set, borrowed; -1: not known. */
static int loop_set = -1;

static void
quiet_libevent(int severity, const char *msg)
{
	/* it would write to standard error; what fails is reported by return values */
	(void)severity;
	(void)msg;
}

/*
 * libevent does not tell which descriptor its epoll set is; it is the first that it opens. What is
 * no epoll set refuses what green_fd_queue_up asks of it.
 */
static struct event_base *
base_new(const struct event_config *config)
{
	int first = epoll_create1(EPOLL_CLOEXEC);
	struct event_base *base;

	if (first == -1)
		return NULL;
	REAL(close)(first);
	base = event_base_new_with_config(config);
	loop_set = base != NULL ? first : -1;
	return base;
}

struct event_base *
green_event_base_new(void)
{
	struct event_config *config = event_config_new();
	struct event_base *base;

	if (config == NULL)
		return NULL;
	event_set_log_callback(quiet_libevent);
	event_config_require_features(config, EV_FEATURE_ET | EV_FEATURE_O1);
	/*
	 * The cached time is from before a callback, and a green thread may run for long: a timer
	 * counted from it would be early. What libevent calls a precise timer is a system call at
	 * each poll; so its timers tick in 4 ms, and those of green threads are ours.
	 */
	event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_NO_CACHE_TIME);
	base = base_new(config);
	event_config_free(config);
	return base;
}

/*
 * The event's own registration, which wakes everybody, is replaced by one that does not; libevent
 * finds the event by the descriptor. EPOLLEXCLUSIVE cannot be added to one (epoll_ctl(2)), and a
 * new registration is at the end of the line anyway.
 */
int
green_fd_queue_up(int fd)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.fd = fd};

	if (loop_set == -1 || epoll_ctl(loop_set, EPOLL_CTL_DEL, fd, NULL) == -1)
		return 0;
	return epoll_ctl(loop_set, EPOLL_CTL_ADD, fd, &event);
}
