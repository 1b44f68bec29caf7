/*
 * access_log_format: gunicorn's notation, compiled once into a list of what to
 * print, or "json". Text from the client is printed so that it can neither end a quoted
 * field nor forge a line: quote and backslash get a backslash, and what is not
 * printable ASCII becomes \xHH; for JSON see access_json.h.
 */
#ifndef WORKER_ACCESS_FORMAT_H
#define WORKER_ACCESS_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#include "worker/app/app.h"

struct access_format;

/*
 * Compile. An atom that does not exist prints "-", as gunicorn's. NULL when the notation itself is
 * broken, with the reason in why, or when memory is gone.
 */
struct access_format *access_format_new(const char *format, char *why, size_t why_size);
void access_format_free(struct access_format *);

/*
 * Print one answered request into buf, with "\n" at the end and cut to size, which for JSON is
 * ACCESS_JSON_MAX at least. now is green_now() at the end of the response. Returns the length.
 */
size_t access_format_print(
    const struct access_format *, const struct app_exchange *, int64_t now, char *buf, size_t size);

/* The environ keys that the format prints, n of them: app_exchange's log_names. */
char *const *access_format_names(const struct access_format *, size_t *n);

/* What must be noted of each request because the format prints it, and costs something. */
#define ACCESS_WANTS_TIMES    1U /* app_exchange's arrived and complete */
#define ACCESS_WANTS_RUN_TIME 2U /* its ran */
#define ACCESS_WANTS_ID       4U /* its request_id */
unsigned access_format_wants(const struct access_format *);

#endif
