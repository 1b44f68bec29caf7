/* The text of STATUS=, WATCHDOG=1 and EXTEND_TIMEOUT_USEC=: see status.h. */
#include "master/status.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "master/internal.h"
#include "master/notify.h"

#define NUMBERS_EVERY (10 * BACKOFF_SECOND)
#define EXTEND_EVERY  (5 * BACKOFF_SECOND)
#define EXTEND_BY     (20 * BACKOFF_SECOND)

/* Workers show life once a second: so long without it is none. */
#define BEATS (3 * BACKOFF_SECOND)

struct numbers {
	size_t ready, new_ready; /* of any generation; of the current one */
	size_t left;             /* children, whatever they do */
	uint64_t in_flight, served, blocked;
	bool alive; /* one of the ready ones has shown life in time */
};

static struct numbers
numbers_take(const struct master *m, uint64_t now)
{
	uint64_t limit = notify_watchdog_interval();
	struct numbers n = {.left = m->n, .served = m->served, .blocked = m->blocked};

	for (size_t i = 0; i < m->n; i++) {
		const struct child *c = &m->children[i];

		n.in_flight += c->row->in_flight;
		n.served += c->row->served;
		n.blocked += c->row->blocked;
		if (c->state != CHILD_READY)
			continue;
		n.ready++;
		n.new_ready += c->generation == m->current->number;
		n.alive |= child_last_life(c) + (limit > BEATS ? limit : BEATS) > now;
	}
	return n;
}

/* Starting, reloading, stopping: systemd limits how long that may last. */
static bool
in_transition(const struct master *m, const struct numbers *n)
{
	return m->stopping || !m->current->proven || n->new_ready < n->ready;
}

static void
phase_text(const struct master *m, const struct numbers *n, uint64_t now, char *text, size_t size)
{
	size_t wanted = m->current->workers, used;

	if (m->stopping)
		snprintf(text, size, "stopping: %zu workers left", n->left);
	else if (!m->current->proven && m->fallback == NULL)
		snprintf(text, size, "starting: no worker of %zu is ready yet", wanted);
	else if (in_transition(m, n))
		snprintf(
		    text, size, "reloading: %zu of %zu new workers ready", n->new_ready, wanted);
	else
		snprintf(text, size, "%zu of %zu workers ready", n->ready, wanted);
	used = strlen(text);
	if (m->reload_error[0] != '\0')
		used += (size_t)snprintf(
		    text + used, size - used, "; the last reload failed: %s", m->reload_error);
	if (used < size && now < m->backoff.until && m->backoff.delay >= BACKOFF_SECOND)
		snprintf(text + used, size - used,
		    "; workers die young: the next one starts %d s after the last",
		    (int)(m->backoff.delay / BACKOFF_SECOND));
}

/* At once when the phase changes, else the numbers from time to time. */
static void
status_tell(struct master *m, const struct numbers *n, uint64_t now)
{
	char phase[sizeof(m->status.phase)], *text;

	phase_text(m, n, now, phase, sizeof(phase));
	if (strcmp(phase, m->status.phase) == 0 && now < m->status.numbers_at + NUMBERS_EVERY)
		return;
	memcpy(m->status.phase, phase, sizeof(phase));
	m->status.numbers_at = now;
	text = xasprintf("%s; %" PRIu64 " requests in flight, %" PRIu64 " answered, %" PRIu64
			 " blocked others",
	    phase, n->in_flight, n->served, n->blocked);
	notify_status(text);
	free(text);
}

/* Healthy is a worker that shows life: a master that only exists is no service, unless by WINCH. */
static uint64_t
watchdog_tell(struct master *m, const struct numbers *n, uint64_t now)
{
	uint64_t interval = notify_watchdog_interval();

	if (interval == 0)
		return CHILD_NEVER;
	if (now >= m->status.watchdog_at + interval) {
		m->status.watchdog_at = now;
		if (n->alive || m->stopping || m->current->workers == 0)
			notify_watchdog();
	}
	return m->status.watchdog_at + interval;
}

/* Each of these phases has a limit of ours (boot_timeout, graceful_timeout): systemd's shall not
 * cut it. */
static uint64_t
extend_tell(struct master *m, const struct numbers *n, uint64_t now)
{
	if (!in_transition(m, n))
		return CHILD_NEVER;
	if (now >= m->status.extended_at + EXTEND_EVERY) {
		m->status.extended_at = now;
		notify_extend(EXTEND_BY);
	}
	return m->status.extended_at + EXTEND_EVERY;
}

static uint64_t
earliest(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

uint64_t
status_update(struct master *m)
{
	uint64_t now = scoreboard_now(), wake;
	struct numbers n;

	if (!notify_wanted())
		return CHILD_NEVER;
	n = numbers_take(m, now);
	status_tell(m, &n, now);
	wake = earliest(watchdog_tell(m, &n, now), extend_tell(m, &n, now));
	return earliest(wake, m->status.numbers_at + NUMBERS_EVERY);
}
