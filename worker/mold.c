/* Forking workers from a process that has loaded the application: see mold.h. */
#include "worker/mold.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/contract.h"
#include "common/log.h"
#include "common/orphan.h"
#include "worker/access_log.h"
#include "worker/app/app.h"
#include "worker/title.h"

/* What the master wants: one worker more. */
struct order {
	size_t slot;
	unsigned age;
	int control; /* owned: the new worker's */
};

static void
no_signals_of_ours(void)
{
}

static int
mold_load(const struct worker_contract *contract, struct app **app)
{
	struct app_config config = worker_app_config(contract);

	config.stack_fd = -1; /* nothing is watched in here */
	config.signals_set = no_signals_of_ours;
	return app_backends[0]->load(&config, app);
}

static int
say(int control, const char *text)
{
	return send(control, text, strlen(text), MSG_NOSIGNAL) == -1 ? -1 : 0;
}

/* The next order; 0 when the master is gone, -1 for something that is no order. */
static int
order_receive(int control, struct order *order)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} ancillary;
	char text[64];
	struct iovec iov = {text, sizeof(text) - 1};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	struct pollfd pfd = {.fd = control, .events = POLLIN};
	ssize_t n;

	do {
		(void)poll(&pfd, 1, -1);
		msg.msg_control = ancillary.space;
		msg.msg_controllen = sizeof(ancillary.space);
		n = recvmsg(control, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	} while (n == -1 && (errno == EINTR || errno == EAGAIN));
	if (n <= 0)
		return 0;
	text[n] = '\0';
	order->control = -1;
	if (CMSG_FIRSTHDR(&msg) != NULL && ancillary.header.cmsg_type == SCM_RIGHTS)
		memcpy(&order->control, CMSG_DATA(&ancillary.header), sizeof(order->control));
	if (order->control != -1 &&
	    sscanf(text, CONTRACT_MSG_FORK " %zu %u", &order->slot, &order->age) == 2)
		return 1;
	if (order->control != -1)
		close(order->control);
	return -1;
}

/* How many threads the kernel sees in this process; fork copies only one. */
static size_t
count_tasks(void)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *entry;
	size_t n = 0;

	if (dir == NULL)
		return 1;
	while ((entry = readdir(dir)) != NULL)
		n += *entry->d_name != '.';
	closedir(dir);
	return n;
}

/* In the new worker: what was the mold's becomes its own. */
static void
become_worker(struct worker_contract *contract, const struct order *order)
{
	close(contract->control);
	contract->control = order->control;
	contract->age = order->age;
	contract->row = &contract->scoreboard->rows[order->slot];
	contract->requests = scoreboard_requests(contract->scoreboard, order->slot);
	if (log_reopen() == -1)
		log_warn("cannot reopen the error log");
	if (contract->access_log != NULL && access_log_reopen(contract->access_log) == -1)
		log_warn("cannot reopen %s", contract->settings.accesslog);
	worker_title_set("worker", 0);
}

/* Whether this is the new worker. */
static bool
order_fulfil(struct worker_contract *contract, struct app *app, const struct order *order)
{
	const struct app_ops *ops = app_backends[0];
	char answer[64];
	pid_t pid;

	ops->fork_begin(app, count_tasks());
	pid = orphan_fork(); /* the master's, which is a subreaper */
	ops->fork_end(app, pid == 0);
	if (pid == 0)
		return true;
	close(order->control);
	if (pid == -1)
		log_error("cannot fork a worker");
	snprintf(answer, sizeof(answer), CONTRACT_MSG_FORKED " %d", (int)pid);
	(void)say(contract->control, answer); /* a master that is gone is seen at the next order */
	return false;
}

int
mold_run(struct worker_contract *contract, struct app **app)
{
	struct order order;
	int rc;

	rc = mold_load(contract, app);
	if (rc != 0)
		return rc;
	log_info("Application loaded, to fork workers from (pid: %d)", (int)getpid());
	worker_leave_streams(&contract->settings);
	if (say(contract->control, CONTRACT_MSG_READY) == -1)
		fatal("cannot tell the master");
	while ((rc = order_receive(contract->control, &order)) != 0) {
		if (rc == -1 || order.slot >= contract->scoreboard->nrows) {
			log_errorx("the master asks for something strange");
			continue;
		}
		if (order_fulfil(contract, *app, &order)) {
			become_worker(contract, &order);
			return 0;
		}
	}
	app_backends[0]->unload(*app);
	*app = NULL;
	return 0;
}
