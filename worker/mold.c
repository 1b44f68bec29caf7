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
#include "common/syslog_out.h"
#include "worker/access_log.h"
#include "worker/app/app.h"
#include "worker/title.h"

/* What the master wants: one worker more, or that the hooks hear something. */
struct order {
	size_t slot;
	unsigned age;
	int control;    /* owned: the new worker's; -1: it is for the hooks */
	char words[64]; /* that */
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
	memcpy(order->words, text, (size_t)n + 1);
	if (CMSG_FIRSTHDR(&msg) != NULL && ancillary.header.cmsg_type == SCM_RIGHTS)
		memcpy(&order->control, CMSG_DATA(&ancillary.header), sizeof(order->control));
	if (order->control == -1)
		return 1;
	if (sscanf(text, CONTRACT_MSG_FORK " %zu %u", &order->slot, &order->age) == 2)
		return 1;
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

/*
 * It ends when the master says so, and not by what a terminal or a service manager sends to all
 * processes: hooks are called until the last worker has ended. No SIG_IGN, which programs that a
 * hook starts would inherit.
 */
static void
on_signal(int sig)
{
	(void)sig;
}

static const int signals[] = {SIGINT, SIGQUIT, SIGTERM};

#define NSIGNALS (sizeof(signals) / sizeof(signals[0]))

static void
signals_handle(void (*handler)(int))
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};

	for (size_t i = 0; i < NSIGNALS; i++)
		if (sigaction(signals[i], &action, NULL) == -1)
			log_warn("sigaction");
}

/* For the time of a fork: one for the worker, which has no handlers yet, must not be lost. */
static void
signals_block(int how)
{
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < NSIGNALS; i++)
		sigaddset(&set, signals[i]);
	pthread_sigmask(how, &set, NULL);
}

/* In the new worker: what was the mold's becomes its own. */
static void
become_worker(struct worker_contract *contract, const struct order *order)
{
	close(contract->control);
	contract->control = order->control;
	if (contract->memory != -1)
		close(contract->memory);
	contract->memory = -1;
	contract->age = order->age;
	contract->row = &contract->scoreboard->rows[order->slot];
	contract->requests = scoreboard_requests(contract->scoreboard, order->slot);
	syslog_out_after_fork();
	worker_reopen_files(contract);
	worker_title_set("worker", 0);
}

/* Mostly for the hooks. */
static void
order_tell(struct worker_contract *contract, struct app *app, const char *words)
{
	const char *hook = CONTRACT_MSG_HOOK " ";
	bool asks = strncmp(words, hook, strlen(hook)) == 0;
	int rc;

	if (strcmp(words, CONTRACT_MSG_REOPEN) == 0) {
		worker_reopen_files(contract);
		app_backends[0]->reopen(app);
		return;
	}
	rc = app_backends[0]->heed(app, asks ? words + strlen(hook) : words);
	while (strcmp(words, CONTRACT_MSG_DEAF) == 0 && contract->nlisteners > 0)
		listener_close(&contract->listeners[--contract->nlisteners]);
	if (asks)
		(void)say(contract->control, rc == 0 ? CONTRACT_MSG_DONE : CONTRACT_MSG_FAILED);
}

/* Whether this is the new worker. */
static bool
order_fulfil(struct worker_contract *contract, struct app *app, const struct order *order)
{
	const struct app_ops *ops = app_backends[0];
	char answer[64];
	pid_t pid;

	ops->fork_begin(app, count_tasks(), order->age);
	signals_block(SIG_BLOCK);
	pid = orphan_fork(); /* the master's, which is a subreaper */
	if (pid == 0)
		signals_handle(SIG_DFL);
	signals_block(SIG_UNBLOCK);
	ops->fork_end(app, pid);
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
	struct order order = {0};
	int rc;

	signals_handle(on_signal);
	rc = mold_load(contract, app);
	if (rc != 0)
		return rc;
	log_info("%s loaded, to fork workers from (pid: %d)",
	    settings_preloads(&contract->settings) ? "Application" : "Server hooks", (int)getpid());
	worker_leave_streams(&contract->settings);
	if (say(contract->control, CONTRACT_MSG_READY) == -1)
		fatal("cannot tell the master");
	while ((rc = order_receive(contract->control, &order)) != 0) {
		if (rc == -1 || order.slot >= contract->scoreboard->nrows)
			log_errorx("the master asks for something strange");
		else if (order.control == -1)
			order_tell(contract, *app, order.words);
		else if (order_fulfil(contract, *app, &order)) {
			become_worker(contract, &order);
			return 0;
		}
	}
	app_backends[0]->unload(*app);
	*app = NULL;
	return 0;
}
