/* Starting a mold and having it fork workers: see mold.h. */
#include "master/mold.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/contract.h"
#include "common/log.h"
#include "master/child.h"

/* Nothing else runs in a mold: a fork takes milliseconds, unless something is badly wrong. */
#define FORK_PATIENCE_MS 5000

int
mold_start(
    struct mold *mold, const struct generation *g, const char *worker, const struct scoreboard *sb)
{
	struct child_role role = {.kind = CHILD_MOLD};
	pid_t pid;

	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == -1) /* its children shall be ours */
		return -1;
	pid = child_exec(g, worker, sb, &role, &mold->control);
	if (pid == -1)
		return -1;
	mold->pid = pid;
	mold->ready = mold->aborted = false;
	mold->hook = (struct hook_state){0};
	mold->spawned = scoreboard_now();
	return 0;
}

static void
mold_hang_up(struct mold *mold)
{
	if (mold->control != -1)
		close(mold->control);
	mold->control = -1;
	mold->ready = false;
}

enum mold_word
mold_listen(struct mold *mold)
{
	static const char *const words[] = {[MOLD_READY] = CONTRACT_MSG_READY,
	    [MOLD_DONE] = CONTRACT_MSG_DONE,
	    [MOLD_FAILED] = CONTRACT_MSG_FAILED};
	enum mold_word word;
	char text[16];
	ssize_t n;

	if (mold->control == -1)
		return MOLD_SILENT;
	n = recv(mold->control, text, sizeof(text) - 1, MSG_DONTWAIT);
	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return MOLD_SILENT;
	if (n <= 0) { /* it ends, and if it does not, soon: see molds_keep */
		mold_hang_up(mold);
		mold->spawned = scoreboard_now();
		return MOLD_SILENT;
	}
	text[n] = '\0';
	for (word = MOLD_FAILED; word > MOLD_SILENT; word--)
		if (strcmp(text, words[word]) == 0)
			break;
	if ((word == MOLD_READY) == mold->ready) /* once, and before all else */
		return MOLD_SILENT;
	mold->ready = true;
	return word;
}

int
mold_tell(struct mold *mold, const char *what, const int *numbers, int n)
{
	char text[64];
	int len = snprintf(text, sizeof(text), "%s", what);

	for (int i = 0; i < n; i++)
		len += snprintf(text + len, sizeof(text) - (size_t)len, " %d", numbers[i]);
	return send(mold->control, text, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT) == -1 ? -1 : 0;
}

static int
order_send(int to, const struct child_role *role, int control)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} ancillary = {0};
	char text[64];
	struct iovec iov = {text, 0};
	struct msghdr msg = {.msg_iov = &iov,
	    .msg_iovlen = 1,
	    .msg_control = ancillary.space,
	    .msg_controllen = sizeof(ancillary.space)};

	iov.iov_len = (size_t)snprintf(
	    text, sizeof(text), CONTRACT_MSG_FORK " %zu %u", role->slot, role->age);
	ancillary.header = (struct cmsghdr){.cmsg_level = SOL_SOCKET,
	    .cmsg_type = SCM_RIGHTS,
	    .cmsg_len = CMSG_LEN(sizeof(control))};
	memcpy(CMSG_DATA(&ancillary.header), &control, sizeof(control));
	return sendmsg(to, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) == -1 ? -1 : 0;
}

/* The mold runs the application: what it names we shall signal one day, perhaps as root. */
static bool
is_child(int pid)
{
	siginfo_t info;

	return pid > 0 && waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

static pid_t
answer_receive(int from)
{
	struct pollfd pfd = {.fd = from, .events = POLLIN};
	char text[64];
	ssize_t n;
	int pid;

	if (poll(&pfd, 1, FORK_PATIENCE_MS) != 1) {
		errno = ETIMEDOUT;
		return -1;
	}
	n = recv(from, text, sizeof(text) - 1, MSG_DONTWAIT);
	if (n <= 0) {
		errno = EPIPE;
		return -1;
	}
	text[n] = '\0';
	errno = EPROTO;
	return sscanf(text, CONTRACT_MSG_FORKED " %d", &pid) == 1 && is_child(pid) ? pid : -1;
}

void
mold_stop(struct mold *mold)
{
	mold_hang_up(mold);
	if (mold->pid != 0 && kill(mold->pid, SIGKILL) == -1)
		log_warn("cannot kill the mold (pid:%d)", (int)mold->pid);
	mold->pid = 0;
	mold->hook = (struct hook_state){0};
}

pid_t
mold_fork(struct mold *mold, const struct child_role *role, int control)
{
	pid_t pid = -1;
	int saved_errno;

	if (order_send(mold->control, role, control) == 0)
		pid = answer_receive(mold->control);
	saved_errno = errno;
	if (pid == -1)
		mold_stop(mold);
	errno = saved_errno;
	return pid;
}

void
mold_reaped(struct mold *mold)
{
	mold_hang_up(mold);
	mold->pid = 0;
}
