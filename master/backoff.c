/* How long to wait before the next worker: see backoff.h. */
#include "master/backoff.h"

#include <stdbool.h>

uint64_t
backoff_fail(struct backoff *b, uint64_t now)
{
	bool forgotten = b->delay == 0 || now - b->last > BACKOFF_FORGET;

	b->last = now;
	if (now < b->until)
		return 0;
	if (forgotten)
		b->delay = BACKOFF_FIRST;
	else if (b->delay < BACKOFF_LONGEST / 2)
		b->delay *= 2;
	else
		b->delay = BACKOFF_LONGEST;
	b->until = now + b->delay;
	return b->delay;
}
