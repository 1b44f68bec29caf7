/*
 * Metrics for a statsd, by datagrams, with gunicorn's names (statsd_host, statsd_prefix,
 * dogstatsd_tags). One for the process, for its loop's OS thread. What is told gathers until
 * statsd_flush, several metrics a packet; what the daemon does not take is lost.
 */
#ifndef COMMON_STATSD_H
#define COMMON_STATSD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct settings;

/* As the settings have it, instead of what was. A host that cannot be found is a line in the log.
 */
void statsd_apply(const struct settings *);

/* Whether there is one; else what follows does nothing. */
bool statsd_wanted(void);

/* Lines of the error log are counted from here on. */
void statsd_begin(void);

/* gunicorn.requests, gunicorn.request.duration and gunicorn.request.status.STATUS. */
void statsd_request(int status, int64_t ns);

void statsd_gauge(const char *name, uint64_t value);
void statsd_histogram(const char *name, uint64_t value);

/* Send what there is, with what the error log has counted: gunicorn.log.error and so on. */
void statsd_flush(void);

/* Whether that is an address by its looks: HOST, HOST:PORT, unix:PATH. -1 with a reason. */
int statsd_check(const char *address, char *why, size_t why_size);

#endif
