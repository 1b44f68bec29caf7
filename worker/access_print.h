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
	const char *script_name;
};

void print_bytes(struct access_out *, const char *, size_t);
void print_text(struct access_out *, const char *);
void print_number(struct access_out *, uint64_t, int min_digits);

/* ns as seconds with six digits behind the point; less than nothing is 0. */
void print_seconds(struct access_out *, int64_t ns);

/* What the parts of a request's time are: ns. */
int64_t entry_queue_time(const struct access_entry *); /* ready, but no green thread for it */
int64_t entry_head_time(const struct access_entry *);  /* first to last byte of the head */
int64_t entry_body_time(const struct access_entry *);  /* waited for more of the request's body */
int64_t entry_send_time(const struct access_entry *);  /* waited for the client to take more */
int64_t entry_app_time(const struct access_entry *);   /* all the rest of what it took */

/* The last one of that name, as in gunicorn; NULL: none. */
const struct http_header *entry_header(const struct access_entry *, const char *name, size_t n);

/* The name in "Authorization: Basic base64(name:password)"; nothing of the password. Its length. */
size_t entry_user(const struct access_entry *, char *buf, size_t size);

#endif
