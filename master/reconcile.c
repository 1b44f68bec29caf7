/* Comparing wanted with present: see reconcile.h. */
#include "master/reconcile.h"

/* How many there are of each sort that matters. */
struct census {
	size_t starting, ready; /* current ones */
	size_t old_ready;       /* others */
	size_t old_generation;  /* of these, those of another generation */
};

/* One that asks to be replaced is as good as one of an older generation. */
static bool
is_current(const struct wanted *w, const struct child *c)
{
	return c->generation == w->generation && !c->retiring;
}

static void
plan_add(struct plan *plan, enum action_kind kind, size_t child)
{
	plan->actions[plan->n++] = (struct action){.kind = kind, .child = child};
}

static void
plan_wake(struct plan *plan, uint64_t when)
{
	if (when < plan->wake)
		plan->wake = when;
}

/* When a child that nobody has told to stop must have shown life, or be ready. */
static uint64_t
life_deadline(const struct wanted *w, const struct child *c)
{
	uint64_t limit = c->ready_at == 0 ? w->boot_timeout : w->timeout;

	return limit != 0 ? child_last_life(c) + limit : CHILD_NEVER;
}

/* Deadlines: of a child that was told to stop, and of one that should show life. */
static void
plan_deadlines(
    struct plan *plan, const struct wanted *w, const struct child *children, size_t n, uint64_t now)
{
	uint64_t deadline;
	enum action_kind kind;

	for (size_t i = 0; i < n; i++) {
		if (children[i].state == CHILD_STOPPING) {
			deadline = children[i].kill_at;
			kind = ACTION_KILL;
		} else {
			deadline = life_deadline(w, &children[i]);
			kind = ACTION_ABORT;
		}
		if (now >= deadline)
			plan_add(plan, kind, i);
		else
			plan_wake(plan, deadline);
	}
}

static struct census
census_take(const struct wanted *w, const struct child *children, size_t n)
{
	struct census c = {0};

	for (size_t i = 0; i < n; i++) {
		bool wanted = is_current(w, &children[i]);

		if (children[i].state == CHILD_STARTING)
			c.starting += wanted;
		else if (children[i].state == CHILD_READY && wanted)
			c.ready++;
		else if (children[i].state == CHILD_READY) {
			c.old_ready++;
			c.old_generation += children[i].generation != w->generation;
		}
	}
	return c;
}

/* Stop up to `count` children of that sort, oldest first. */
static void
plan_stops(struct plan *plan, const struct wanted *w, const struct child *children, size_t n,
    bool of_wanted, enum child_state state, size_t count)
{
	for (size_t i = 0; i < n && count > 0; i++) {
		if (children[i].state != state || is_current(w, &children[i]) != of_wanted)
			continue;
		plan_add(plan, ACTION_STOP, i);
		count--;
	}
}

/*
 * More than wanted. Of the old generations none needs to start any more, and one
 * that is ready goes for each new one that has become ready: with fewer than wanted
 * in all, none goes. Of the wanted generation those that are still starting go first.
 */
static void
plan_excess(struct plan *plan, const struct wanted *w, const struct census *c,
    const struct child *children, size_t n)
{
	size_t present = c->starting + c->ready, excess, starting;

	plan_stops(plan, w, children, n, false, CHILD_STARTING, n);
	if (c->ready + c->old_ready > w->workers && (c->ready > 0 || w->workers == 0))
		plan_stops(
		    plan, w, children, n, false, CHILD_READY, c->ready + c->old_ready - w->workers);
	if (present > w->workers) {
		excess = present - w->workers;
		starting = excess < c->starting ? excess : c->starting;
		plan_stops(plan, w, children, n, true, CHILD_STARTING, starting);
		plan_stops(plan, w, children, n, true, CHILD_READY, excess - starting);
	}
}

/*
 * How many may start now. Without an older generation to lean on: all. During a
 * reload one goes first, to show that the application loads; then as many as
 * keep the number of processes within what is wanted and the surge. Workers that ask to
 * be replaced are, one at a time.
 */
static size_t
spawns_allowed(const struct wanted *w, const struct census *c)
{
	size_t total = c->starting + c->ready + c->old_ready;
	size_t surge = c->old_generation > 0 ? w->surge : 1;

	if (c->old_ready == 0)
		return w->workers;
	if (!w->proven)
		return c->starting == 0 ? 1 : 0;
	return total < w->workers + surge ? w->workers + surge - total : 0;
}

static void
plan_spawns(struct plan *plan, const struct wanted *w, const struct census *c, uint64_t now)
{
	size_t present = c->starting + c->ready, missing, allowed;

	if (present >= w->workers)
		return;
	if (now < w->spawn_after) {
		plan_wake(plan, w->spawn_after);
		return;
	}
	missing = w->workers - present;
	allowed = spawns_allowed(w, c);
	for (size_t i = 0; i < missing && i < allowed; i++)
		plan_add(plan, ACTION_SPAWN, 0);
}

void
reconcile(
    const struct wanted *w, const struct child *children, size_t n, uint64_t now, struct plan *plan)
{
	struct census c;

	plan->n = 0;
	plan->wake = CHILD_NEVER;
	plan_deadlines(plan, w, children, n, now);
	if (plan->n > 0)
		return; /* what follows depends on what these leave */
	c = census_take(w, children, n);
	plan_excess(plan, w, &c, children, n);
	plan_spawns(plan, w, &c, now);
}
