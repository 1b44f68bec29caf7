/* Metrics for a statsd: see statsd.h. */
#include "common/statsd.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/outlet.h"
#include "common/settings.h"

#define STATSD_PORT     8125
#define PACKET_MAX      1432 /* fits an Ethernet frame, also by IPv6 */
#define METRIC_NAME_MAX 48
#define VALUE_MAX       32
#define PREFIX_MAX      200
#define TAGS_MAX        300
#define METRIC_MAX      (PREFIX_MAX + METRIC_NAME_MAX + VALUE_MAX + TAGS_MAX + 16)
#define ADDRESS_MAX     512

static struct {
	struct outlet *outlet; /* owned; NULL: there is none */
	char prefix[PREFIX_MAX + 2], tags[TAGS_MAX + 3];
	char packet[PACKET_MAX];
	size_t n;
	struct log_counts counted; /* lines that have been told of */
} out;

/* gunicorn's notation of an address as an outlet's. */
static void
address_translate(const char *text, char *address, size_t size)
{
	const char *path = strncmp(text, "unix:", 5) == 0 ? text + 5 : NULL;

	if (path != NULL)
		snprintf(address, size, "unix://%s", strncmp(path, "//", 2) == 0 ? path + 2 : path);
	else
		snprintf(
		    address, size, "udp://%s", strncmp(text, "udp://", 6) == 0 ? text + 6 : text);
}

int
statsd_check(const char *text, char *why, size_t why_size)
{
	char address[ADDRESS_MAX];

	address_translate(text, address, sizeof(address));
	return outlet_check(address, why, why_size);
}

/* "PREFIX." with one dot, however many it has; "" when there is none. */
static void
prefix_set(const char *prefix)
{
	size_t n = prefix != NULL ? strnlen(prefix, PREFIX_MAX) : 0;

	while (n > 0 && prefix[n - 1] == '.')
		n--;
	snprintf(out.prefix, sizeof(out.prefix), "%.*s%s", (int)n, n > 0 ? prefix : "",
	    n > 0 ? "." : "");
}

static void
tags_set(const char *tags)
{
	bool none = tags == NULL || *tags == '\0';

	snprintf(
	    out.tags, sizeof(out.tags), "%s%.*s", none ? "" : "|#", TAGS_MAX, none ? "" : tags);
}

void
statsd_apply(const struct settings *s)
{
	char address[ADDRESS_MAX], why[256];

	outlet_close(out.outlet);
	out.outlet = NULL;
	out.n = 0;
	if (s->statsd_host == NULL)
		return;
	prefix_set(s->statsd_prefix);
	tags_set(s->dogstatsd_tags);
	address_translate(s->statsd_host, address, sizeof(address));
	out.outlet = outlet_open(address, STATSD_PORT, why, sizeof(why));
	if (out.outlet == NULL)
		log_warnx("%s: statsd_host: %s: %s", settings_origin(s, "statsd_host"),
		    s->statsd_host, why);
}

bool
statsd_wanted(void)
{
	return out.outlet != NULL;
}

void
statsd_begin(void)
{
	out.counted = log_counts();
}

static void
packet_send(void)
{
	if (out.n > 0)
		(void)outlet_send(out.outlet, out.packet, out.n - 1); /* not the last "\n" */
	out.n = 0;
}

/* "PREFIX.NAME:VALUE|KIND|#TAGS"; names are ours, and short. */
static void
metric_add(const char *name, const char *value, const char *kind)
{
	char metric[METRIC_MAX], *p = metric;
	size_t n;

	p = stpcpy(stpcpy(p, out.prefix), name);
	*p++ = ':';
	p = stpcpy(p, value);
	*p++ = '|';
	p = stpcpy(stpcpy(p, kind), out.tags);
	*p++ = '\n';
	n = (size_t)(p - metric);
	if (out.n + n > sizeof(out.packet))
		packet_send();
	memcpy(out.packet + out.n, metric, n);
	out.n += n;
}

static void
number_add(const char *name, uint64_t value, const char *kind)
{
	char text[VALUE_MAX];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	metric_add(name, text, kind);
}

void
statsd_request(int status, int64_t ns)
{
	uint64_t us = ns > 0 ? (uint64_t)ns / 1000 : 0;
	char name[METRIC_NAME_MAX], ms[VALUE_MAX];

	if (out.outlet == NULL)
		return;
	snprintf(ms, sizeof(ms), "%" PRIu64 ".%03u", us / 1000, (unsigned)(us % 1000));
	snprintf(name, sizeof(name), "gunicorn.request.status.%d", status);
	metric_add("gunicorn.request.duration", ms, "ms");
	metric_add("gunicorn.requests", "1", "c|@1.0");
	metric_add(name, "1", "c|@1.0");
}

void
statsd_gauge(const char *name, uint64_t value)
{
	if (out.outlet != NULL)
		number_add(name, value, "g");
}

void
statsd_histogram(const char *name, uint64_t value)
{
	if (out.outlet != NULL)
		number_add(name, value, "h");
}

static void
count_add(const char *name, unsigned long now, unsigned long before)
{
	if (now != before)
		number_add(name, now - before, "c|@1.0");
}

/* gunicorn counts what is logged with a traceback as an exception, and as nothing else. */
static void
counts_add(void)
{
	struct log_counts now = log_counts(), *told = &out.counted;

	count_add("gunicorn.log.critical", now.lines[LOG_LEVEL_CRITICAL],
	    told->lines[LOG_LEVEL_CRITICAL]);
	count_add("gunicorn.log.error", now.lines[LOG_LEVEL_ERROR], told->lines[LOG_LEVEL_ERROR]);
	count_add(
	    "gunicorn.log.warning", now.lines[LOG_LEVEL_WARNING], told->lines[LOG_LEVEL_WARNING]);
	count_add("gunicorn.log.exception", now.texts, told->texts);
	*told = now;
}

void
statsd_flush(void)
{
	if (out.outlet == NULL)
		return;
	counts_add();
	packet_send();
}
