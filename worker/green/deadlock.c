/*
 * Deadlocks: green threads that wait, without a deadline, for locks that they hold one another.
 * Each waits for one lock and each lock has at most one holder; so from any thread there is one way
 * to follow, and a deadlock is a way that comes back to itself. A lock held by an OS thread, or
 * by a green thread that waits for anything else, ends the way.
 *
 * Who holds a mutex or a lock for writing is what glibc has stored in it; for a runtime's own locks
 * it is who took them last (holder.c). Such a lock may also be released by somebody who never
 * took it: those that wait for one that they took themselves wait for such a sign.
 */
#include <stdlib.h>

#include "worker/green/internal.h"

struct candidate {
	struct green *green;
	uintptr_t lock;
	pid_t tid, holder;
	unsigned walk; /* in which it was met; 0: not yet */
};

static bool
is_candidate(const struct green_view *v)
{
	return v->parked && !v->running && v->waiting.deadline == GREEN_NEVER && v->holder != 0 &&
	       !(v->waiting.on == GREEN_ON_LOCK && v->holder == v->tid);
}

static int
compare_tids(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	return (x->tid > y->tid) - (x->tid < y->tid);
}

/* NULL with *n 0: there are none, or no memory to look at them; sorted by tid. */
static struct candidate *
candidates_take(size_t *n)
{
	struct candidate *list = NULL, *more;
	size_t room = 0;
	struct green *g;

	*n = 0;
	LIST_FOREACH (g, &green_all, every) {
		struct green_view v = green_look(g);

		if (!is_candidate(&v))
			continue;
		if (*n == room) {
			room = room == 0 ? 64 : room * 2;
			more = realloc(list, room * sizeof(*list));
			if (more == NULL)
				break;
			list = more;
		}
		list[(*n)++] = (struct candidate){
		    .green = g, .lock = v.waiting.object, .tid = v.tid, .holder = v.holder};
	}
	if (*n > 0)
		qsort(list, *n, sizeof(*list), compare_tids);
	return list;
}

static struct candidate *
holder_among(struct candidate *list, size_t n, const struct candidate *c)
{
	struct candidate key = {.tid = c->holder};

	return bsearch(&key, list, n, sizeof(*list), compare_tids);
}

/*
 * A cycle counts when all its members were in one at the last look, too, for the same
 * locks, and is told once.
 */
static bool
cycle_tell(struct candidate *list, size_t n, struct candidate *first,
    void (*fn)(struct green *, void *), void *arg)
{
	struct candidate *c = first;
	bool lasts = true, told = true;

	do {
		struct green *g = c->green;

		lasts &= g->suspect == c->lock;
		told &= g->accused == c->lock;
		g->suspect = c->lock;
		c = holder_among(list, n, c);
	} while (c != first);
	if (!lasts || told)
		return false;
	do {
		c->green->accused = c->lock;
		fn(c->green, arg);
		c = holder_among(list, n, c);
	} while (c != first);
	return true;
}

bool
green_deadlock_find(void (*fn)(struct green *, void *), void *arg)
{
	size_t n;
	struct candidate *list = candidates_take(&n), *c;
	bool found = false;

	for (size_t i = 0; i < n && !found; i++) {
		unsigned walk = (unsigned)i + 1;

		for (c = &list[i]; c != NULL && c->walk == 0; c = holder_among(list, n, c))
			c->walk = walk;
		if (c != NULL && c->walk == walk)
			found = cycle_tell(list, n, c, fn, arg);
	}
	free(list);
	return found;
}
