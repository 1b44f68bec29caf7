/* Noting the requests in flight: see in_flight.h. */
#include "worker/in_flight.h"

#include <string.h>

#include "worker/http/request.h"

#define ALL_USED ((1U << SCOREBOARD_REQUESTS) - 1)

static struct {
	struct scoreboard_row *row;          /* borrowed */
	struct scoreboard_request *requests; /* borrowed */
	uint32_t used;                       /* a bit for each of them */
	uint32_t begun, count;
} in_flight;

void
in_flight_init(struct scoreboard_row *row, struct scoreboard_request *requests)
{
	in_flight.row = row;
	in_flight.requests = requests;
}

static size_t
put(char *text, size_t at, size_t size, const char *p, size_t n)
{
	if (n > size - at)
		n = size - at;
	memcpy(text + at, p, n);
	return at + n;
}

/* Not the query, which may hold secrets. */
static void
request_note(struct scoreboard_request *r, const struct http_request *q)
{
	bool has_path = q->path.n > 0;
	const char *place = has_path ? q->path.p : q->target.p;
	size_t n = has_path ? q->path.n : q->target.n, size = sizeof(r->text), at;

	at = put(r->text, 0, size / 2, q->method.p, q->method.n);
	at = put(r->text, at, size, " ", 1);
	if (n > size - at)
		memcpy(r->text + put(r->text, at, size - 3, place, n), "...", 3);
	else if ((at = put(r->text, at, size, place, n)) < size)
		r->text[at] = '\0';
}

/*
 * A ticket is the number of the request, that of its place, and a bit so that it is not 0. When
 * all places are taken, one after the other changes hands.
 */
uint32_t
in_flight_begin(const struct http_request *q)
{
	uint32_t number = ++in_flight.begun, ticket;
	unsigned i = number % SCOREBOARD_REQUESTS;

	if (in_flight.used != ALL_USED)
		i = (unsigned)__builtin_ctz(~in_flight.used);
	ticket = number * SCOREBOARD_REQUESTS | i | 1U << 31;
	in_flight.used |= 1U << i;
	request_note(&in_flight.requests[i], q);
	atomic_store_explicit(&in_flight.requests[i].ticket, ticket, memory_order_release);
	atomic_store_explicit(&in_flight.row->in_flight, ++in_flight.count, memory_order_relaxed);
	return ticket;
}

void
in_flight_end(uint32_t ticket)
{
	unsigned i = ticket % SCOREBOARD_REQUESTS;
	struct scoreboard_request *r = &in_flight.requests[i];

	atomic_store_explicit(&in_flight.row->in_flight, --in_flight.count, memory_order_relaxed);
	if (atomic_load_explicit(&r->ticket, memory_order_relaxed) != ticket)
		return;
	atomic_store_explicit(&r->ticket, 0, memory_order_relaxed);
	in_flight.used &= ~(1U << i);
}

uint32_t
in_flight_count(void)
{
	return in_flight.count;
}
