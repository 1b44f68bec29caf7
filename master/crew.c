/* The workers: started, heard, reaped; and what a death means for the server. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "common/contract.h"
#include "common/log.h"
#include "common/mem.h"
#include "master/internal.h"

static int
crew_slot(const struct master *m)
{
	bool used[SLOTS] = {false};

	for (size_t i = 0; i < m->n; i++)
		used[m->children[i].slot] = true;
	for (int slot = 0; slot < SLOTS; slot++)
		if (!used[slot])
			return slot;
	errno = EAGAIN;
	return -1;
}

static struct child *
crew_find(const struct master *m, pid_t pid)
{
	for (size_t i = 0; i < m->n; i++)
		if (m->children[i].pid == pid)
			return &m->children[i];
	return NULL;
}

/* 0, or -1 with errno: also when a mold lies and names one that we have. */
static int
crew_add(struct master *m, struct mold *mold)
{
	int slot = crew_slot(m);
	struct child_role role = {.slot = (size_t)slot, .age = m->age + 1};
	struct child child;

	if (slot == -1 ||
	    child_spawn(&child, m->current, mold, m->config->worker, &m->scoreboard, &role) == -1)
		return -1;
	m->age++;
	if (crew_find(m, child.pid) != NULL) {
		child_hang_up(&child);
		mold_stop(mold);
		errno = EPROTO;
		return -1;
	}
	m->children = xreallocarray(m->children, m->n + 1, sizeof(*m->children));
	m->children[m->n++] = child;
	log_info("Booting worker with pid: %d", (int)child.pid);
	return 0;
}

void
crew_spawn(struct master *m)
{
	struct generation *g = m->current;

	if (scoreboard_now() < m->backoff.until)
		return; /* the one before it could not be started */
	if (g->has_mold && !hooks_prepare(m))
		return;
	if (crew_add(m, g->has_mold ? &g->mold : NULL) == 0)
		return;
	log_error("cannot start a worker");
	backoff_fail(&m->backoff, scoreboard_now());
}

static void
crew_ready(struct master *m, struct child *c)
{
	if (c->ready_at != 0)
		return;
	child_set_ready(c);
	if (m->reopened_at > c->spawned)
		kill(c->pid, SIGUSR1); /* it may have opened its logs before */
	if (c->generation == m->current->number && !m->current->proven && !m->stopping)
		reload_commit(m);
}

static void
crew_retire(struct master *m, struct child *c)
{
	if (c->state == CHILD_READY && c->generation == m->current->number)
		c->retiring = true; /* those of older generations are about to go anyway */
}

static const struct {
	const char *text;
	void (*heed)(struct master *, struct child *);
} crew_words[] = {
    {CONTRACT_MSG_READY, crew_ready},
    {CONTRACT_MSG_RETIRE, crew_retire},
};

static void
crew_hear(struct master *m, struct child *c, const char *text, size_t n)
{
	for (size_t i = 0; i < sizeof(crew_words) / sizeof(crew_words[0]); i++)
		if (n == strlen(crew_words[i].text) && memcmp(text, crew_words[i].text, n) == 0)
			crew_words[i].heed(m, c);
}

/*
 * Take what a child says. The application has that socket too: neither a flood of words
 * nor its end may keep the master busy.
 */
void
crew_listen(struct master *m, struct child *c)
{
	char text[16];
	ssize_t n = -1;

	for (int i = 0; i < 8; i++) {
		n = recv(c->control, text, sizeof(text), MSG_DONTWAIT);
		if (n <= 0)
			break;
		crew_hear(m, c, text, (size_t)n);
	}
	if (n == 0 || (n == -1 && errno != EAGAIN && errno != EINTR))
		child_hang_up(c);
}

/*
 * What a worker was doing when it died: " In flight: GET /x, GET /y and 3 more". It has written
 * that itself, so it may be anything; log_sanitise has the last word.
 */
static void
requests_describe(const struct scoreboard *sb, const struct child *c, char *text, size_t size)
{
	const struct scoreboard_request *r;
	uint32_t left, named = 0;
	size_t n = 0;

	text[0] = '\0';
	if (c->row == NULL)
		return;
	left = atomic_load(&c->row->in_flight);
	r = scoreboard_requests(sb, c->slot);
	for (size_t i = 0; i < SCOREBOARD_REQUESTS && named < left; i++) {
		if (atomic_load(&r[i].ticket) == 0)
			continue;
		n += (size_t)snprintf(text + n, size - n, "%s%.*s",
		    named++ == 0 ? " In flight: " : ", ", (int)sizeof(r[i].text), r[i].text);
	}
	if (named > 0 && left > named)
		snprintf(text + n, size - n, " and %u more", left - named);
}

static void
log_death(const struct child *c, int status, const struct scoreboard *sb)
{
	int pid = (int)c->pid;
	const char *name = WIFSIGNALED(status) ? sigabbrev_np(WTERMSIG(status)) : NULL;
	char requests[SCOREBOARD_REQUESTS * (sizeof(struct scoreboard_request) + 2) + 32];

	requests_describe(sb, c, requests, sizeof(requests));

	if (WIFEXITED(status)) {
		if (WEXITSTATUS(status) != 0)
			log_errorx("Worker (pid:%d) exited with code %d.%s", pid,
			    WEXITSTATUS(status), requests);
	} else if (WTERMSIG(status) == SIGKILL) {
		log_errorx(
		    "Worker (pid:%d) was sent SIGKILL! Perhaps out of memory?%s", pid, requests);
	} else if (WTERMSIG(status) == SIGTERM) {
		log_info("Worker (pid:%d) was sent SIGTERM!", pid);
	} else {
		log_warnx("Worker (pid:%d) was sent SIG%s!%s", pid, name ? name : "RT", requests);
	}
}

/* Whether a child ended although nobody told it to, or for showing no life. */
static bool
died_unasked(const struct child *c, int status)
{
	if (c->state == CHILD_STOPPING)
		return c->aborted;
	return c->ready_at == 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

static bool
is_boot_failure(int status)
{
	return WIFEXITED(status) && (WEXITSTATUS(status) == WORKER_EXIT_FAILED ||
					WEXITSTATUS(status) == WORKER_EXIT_BOOT ||
					WEXITSTATUS(status) == WORKER_EXIT_APP);
}

/* Why a reload fails whose first worker ended so. */
static const char *
death_reason(const struct child *c, int status)
{
	if (c->aborted)
		return "the application was not loaded within boot_timeout";
	if (!WIFEXITED(status))
		return "a new worker was killed while it loaded the application";
	if (WEXITSTATUS(status) == WORKER_EXIT_APP)
		return "there is no such application";
	return "the application did not load";
}

/*
 * A worker died unasked. One that cannot even start ends the server while none
 * has ever been ready, and a reload while none of the new ones has; otherwise the next one
 * starts, at once if this one had lived for a while.
 */
static void
crew_judge(struct master *m, const struct child *c, int status)
{
	uint64_t now = scoreboard_now(), delay;

	if (c->generation != m->current->number || m->stopping)
		return;
	if (!m->current->proven && m->fallback != NULL) {
		reload_roll_back(m, death_reason(c, status));
		return;
	}
	if (!m->current->proven && is_boot_failure(status)) {
		master_halt(m, WEXITSTATUS(status));
		return;
	}
	if (c->ready_at != 0 && now - c->ready_at >= BACKOFF_STABLE)
		return;
	delay = backoff_fail(&m->backoff, now);
	if (delay >= BACKOFF_SECOND)
		log_warnx("Workers die young: the next one starts in %d s",
		    (int)(delay / BACKOFF_SECOND));
}

void
crew_mourn(struct master *m, const struct child *c, int status)
{
	log_death(c, status, &m->scoreboard);
	if (died_unasked(c, status))
		crew_judge(m, c, status);
}

static void
crew_bury(struct master *m, size_t i, int status)
{
	struct child c;

	crew_listen(m, &m->children[i]); /* its last words */
	c = m->children[i];
	memmove(&m->children[i], &m->children[i + 1], (m->n - i - 1) * sizeof(c));
	m->n--;
	m->served += c.row->served;
	m->blocked += c.row->blocked;
	hooks_tell(m, HOOK_CHILD_EXIT, (int)c.pid, (int)c.age);
	crew_mourn(m, &c, status);
	child_release(&c, &m->scoreboard);
}

/* Also children that are not ours: as process 1 of a container we inherit orphans. */
void
crew_reap(struct master *m)
{
	struct child *c;
	pid_t pid;
	int status;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		molds_reaped(m, pid, status);
		if ((c = crew_find(m, pid)) != NULL)
			crew_bury(m, (size_t)(c - m->children), status);
	}
}
