/*
 * The deadlines of green threads that are parked: a heap with four children a node, whose entries
 * carry the time. Ordering them touches no green thread's memory, which nobody else has
 * in a cache when a thousand sleep; and a node's children are one cache line.
 */
#include <errno.h>
#include <stdlib.h>

#include "worker/green/internal.h"

#define CHILDREN 4

struct entry {
	int64_t deadline;
	struct green *green; /* green->timer is this entry's place, counted from 1 */
};

static struct entry *heap; /* owned */
static size_t count, room;

int
green_timers_reserve(size_t n)
{
	struct entry *more;

	if (n <= room)
		return 0;
	if (n < 2 * room)
		n = 2 * room;
	more = realloc(heap, n * sizeof(*heap));
	if (more == NULL) {
		errno = ENOMEM;
		return -1;
	}
	heap = more;
	room = n;
	return 0;
}

static void
place(size_t i, struct entry e)
{
	heap[i] = e;
	e.green->timer = i + 1;
}

/* Put e where i is free, or above. */
static void
sift_up(size_t i, struct entry e)
{
	while (i > 0) {
		size_t parent = (i - 1) / CHILDREN;

		if (heap[parent].deadline <= e.deadline)
			break;
		place(i, heap[parent]);
		i = parent;
	}
	place(i, e);
}

/* Put e where i is free, or below. */
static void
sift_down(size_t i, struct entry e)
{
	for (;;) {
		size_t child = i * CHILDREN + 1, end = child + CHILDREN, least = child;

		if (child >= count)
			break;
		for (; child < end && child < count; child++)
			if (heap[child].deadline < heap[least].deadline)
				least = child;
		if (e.deadline <= heap[least].deadline)
			break;
		place(i, heap[least]);
		i = least;
	}
	place(i, e);
}

bool
green_timers_add(struct green *g, int64_t deadline)
{
	sift_up(count++, (struct entry){deadline, g});
	return g->timer == 1;
}

void
green_timers_remove(struct green *g)
{
	size_t i = g->timer - 1;
	struct entry last;

	if (g->timer == 0)
		return;
	g->timer = 0;
	last = heap[--count];
	if (i == count)
		return;
	if (i > 0 && last.deadline < heap[(i - 1) / CHILDREN].deadline)
		sift_up(i, last);
	else
		sift_down(i, last);
}

struct green *
green_timers_first(int64_t *deadline)
{
	if (count == 0)
		return NULL;
	*deadline = heap[0].deadline;
	return heap[0].green;
}

void
green_timers_fini(void)
{
	free(heap);
	heap = NULL;
	count = room = 0;
}
