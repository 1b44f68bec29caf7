/*
 * What the access log's two shapes, gunicorn's notation and JSON, share: a place to print to, the
 * request that a line is about, and what it takes to say something of it.
 */
#ifndef WORKER_ACCESS_PRINT_H
#define WORKER_ACCESS_PRINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/app/app.h"

/* Where a line is being put together; what does not fit is cut. */
struct access_out {
	char *p, *end;
};

/* The request that a line is about. */
struct access_entry {
	const struct app_exchange *exchange;
	int64_t took; /* ns, from the complete head */
};

void print_bytes(struct access_out *, const char *, size_t);
void print_text(struct access_out *, const char *);
void print_number(struct access_out *, uint64_t, int min_digits);

/* ns as seconds with six digits behind the point; less than nothing is 0. */
void print_seconds(struct access_out *, int64_t ns);

/* The parts of a request's time: "queue_time" and so on. */
struct access_time {
	const char *name;
	int64_t (*ns)(const struct access_entry *);
	unsigned wants; /* ACCESS_WANTS_… */
};
extern const struct access_time access_times[]; /* ends with name NULL */

/* The last one of that name, as in gunicorn; NULL: none. */
const struct http_header *entry_header(const struct access_entry *, const char *name, size_t n);

/* The name in "Authorization: Basic base64(name:password)"; nothing of the password. Its length. */
size_t entry_user(const struct access_entry *, char *buf, size_t size);

#endif
