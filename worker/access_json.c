/* JSON for the access log: see access_json.h. One row a field in fields[]. */
#include "worker/access_json.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "worker/in_flight.h"

/*
 * Of one text, escaped. Seven fields have texts of the client's: path, query, host, address, agent,
 * referer and user; the rest of a line takes less than 2 KiB.
 */
#define TEXT_MAX 4096
_Static_assert(7 * TEXT_MAX + 2048 < ACCESS_JSON_MAX, "a line may not be cut");

#define USER_MAX 1024

/* ---- strings ---- */

/*
 * The length of the well-formed UTF-8 sequence at p (RFC 3629 section 4: the shortest form, no
 * surrogates, nothing beyond U+10FFFF), or 0.
 */
static size_t
utf8_length(const unsigned char *p, size_t n)
{
	unsigned char low = 0x80, high = 0xbf; /* of the second byte */
	size_t length;

	if (p[0] < 0x80)
		return 1;
	if (p[0] < 0xc2 || p[0] > 0xf4)
		return 0;
	length = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if (p[0] == 0xe0)
		low = 0xa0;
	else if (p[0] == 0xed)
		high = 0x9f;
	else if (p[0] == 0xf0)
		low = 0x90;
	else if (p[0] == 0xf4)
		high = 0x8f;
	if (n < length || p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < length; i++)
		if (p[i] < 0x80 || p[i] > 0xbf)
			return 0;
	return length;
}

/* One character, or a byte that is none: into buf, how long it is; *used bytes of p are done. */
static size_t
char_escape(char buf[8], const unsigned char *p, size_t n, size_t *used)
{
	size_t length = utf8_length(p, n);

	*used = length > 0 ? length : 1;
	if (length == 0)
		return (size_t)snprintf(buf, 8, "\\ufffd");
	if (*p < 0x20 || *p == 0x7f)
		return (size_t)snprintf(buf, 8, "\\u%04x", *p);
	if (*p == '"' || *p == '\\') {
		buf[0] = '\\';
		buf[1] = (char)*p;
		return 2;
	}
	memcpy(buf, p, length);
	return length;
}

static bool
is_plain(unsigned char c)
{
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

static void
print_string(struct access_out *o, const char *s, size_t n)
{
	const unsigned char *p = (const unsigned char *)s;
	const char *limit = o->p + TEXT_MAX - 8;
	size_t i = 0, used, length;
	char buf[8];

	print_bytes(o, "\"", 1);
	while (i < n && o->p < limit) {
		for (used = i; used < n && used - i < (size_t)(limit - o->p) && is_plain(p[used]);)
			used++;
		if (used > i) {
			print_bytes(o, s + i, used - i);
			i = used;
			continue;
		}
		length = char_escape(buf, p + i, n - i, &used);
		print_bytes(o, buf, length);
		i += used;
	}
	print_bytes(o, "\"", 1);
}

/* Nothing, and so no field, for an empty text. */
static void
print_str(struct access_out *o, struct http_str s)
{
	if (s.n > 0)
		print_string(o, s.p, s.n);
}

/* ---- the fields ---- */

/* "2026-11-23T07:17:00.123456Z"; all but the fraction is made once a second. */
static void
put_timestamp(struct access_out *o, const struct access_entry *e)
{
	static char stamp[32];
	static time_t made = -1;
	struct timespec now = {0, 0};
	struct tm tm;

	(void)e;
	clock_gettime(CLOCK_REALTIME, &now);
	if (now.tv_sec != made && gmtime_r(&now.tv_sec, &tm) != NULL) {
		strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S.", &tm);
		made = now.tv_sec;
	}
	print_bytes(o, "\"", 1);
	print_text(o, stamp);
	print_number(o, (uint64_t)now.tv_nsec / 1000, 6);
	print_bytes(o, "Z\"", 2);
}

static void
put_method(struct access_out *o, const struct access_entry *e)
{
	print_str(o, e->exchange->request->method);
}

static void
put_path(struct access_out *o, const struct access_entry *e)
{
	print_str(o, e->exchange->request->path);
}

static void
put_query(struct access_out *o, const struct access_entry *e)
{
	print_str(o, e->exchange->request->query);
}

static void
put_scheme(struct access_out *o, const struct access_entry *e)
{
	print_string(o, e->exchange->peer->scheme, strlen(e->exchange->peer->scheme));
}

static void
put_version(struct access_out *o, const struct access_entry *e)
{
	print_bytes(o, "\"", 1);
	print_number(o, e->exchange->request->major, 1);
	print_bytes(o, ".", 1);
	print_number(o, e->exchange->request->minor, 1);
	print_bytes(o, "\"", 1);
}

/* Host without its port. */
static void
put_host(struct access_out *o, const struct access_entry *e)
{
	struct http_str host = e->exchange->request->host;
	const char *colon = host.n > 0 ? memrchr(host.p, ':', host.n) : NULL;

	if (colon != NULL && memchr(colon, ']', (size_t)(host.p + host.n - colon)) == NULL)
		host.n = (size_t)(colon - host.p);
	print_str(o, host);
}

static void
put_request_size(struct access_out *o, const struct access_entry *e)
{
	if (e->exchange->body->received > 0)
		print_number(o, e->exchange->body->received, 1);
}

static void
put_status(struct access_out *o, const struct access_entry *e)
{
	print_number(o, (uint64_t)e->exchange->response->status, 1);
}

static void
put_response_size(struct access_out *o, const struct access_entry *e)
{
	print_number(o, e->exchange->response->sent, 1);
}

static void
put_duration(struct access_out *o, const struct access_entry *e)
{
	print_seconds(o, e->took);
}

static void
put_client(struct access_out *o, const struct access_entry *e)
{
	const char *addr = e->exchange->peer->remote_addr;

	print_str(o, (struct http_str){addr, strlen(addr)});
}

/* Digits, by whoever made it; not worth a field without an address. */
static void
put_client_port(struct access_out *o, const struct access_entry *e)
{
	print_text(o, e->exchange->peer->remote_port);
}

static void
put_agent(struct access_out *o, const struct access_entry *e)
{
	const struct http_header *h = entry_header(e, "User-Agent", 10);

	if (h != NULL)
		print_str(o, h->value);
}

/* The convention has a list for each field of a request. */
static void
put_referer(struct access_out *o, const struct access_entry *e)
{
	const struct http_header *h = entry_header(e, "Referer", 7);

	if (h == NULL)
		return;
	print_bytes(o, "[", 1);
	print_string(o, h->value.p, h->value.n);
	print_bytes(o, "]", 1);
}

static void
put_user(struct access_out *o, const struct access_entry *e)
{
	char name[USER_MAX];

	print_str(o, (struct http_str){name, entry_user(e, name, sizeof(name))});
}

static void
put_pid(struct access_out *o, const struct access_entry *e)
{
	(void)e;
	print_number(o, (uint64_t)getpid(), 1);
}

/*
 * Of W3C's traceparent, "00-TRACE-PARENT-FLAGS": what ties this line to the spans of all servers.
 * The parent is the caller's span, not ours.
 */
static void
put_trace(struct access_out *o, const struct access_entry *e)
{
	const struct http_header *h = entry_header(e, "traceparent", 11);
	const char *p;

	if (h == NULL || h->value.n < 55 || h->value.p[2] != '-' || h->value.p[35] != '-')
		return;
	p = h->value.p + 3;
	for (size_t i = 0; i < 32; i++)
		if (!(p[i] >= '0' && p[i] <= '9') && !(p[i] >= 'a' && p[i] <= 'f'))
			return;
	print_string(o, p, 32);
}

static void
put_id(struct access_out *o, const struct access_entry *e)
{
	print_str(o, e->exchange->request_id);
}

static void
put_in_flight(struct access_out *o, const struct access_entry *e)
{
	(void)e;
	print_number(o, in_flight_count(), 1);
}

/* One that prints nothing is left out. */
static const struct field {
	const char *name;
	void (*put)(struct access_out *, const struct access_entry *);
} fields[] = {
    {"http.request.method", put_method},
    {"url.path", put_path},
    {"url.query", put_query},
    {"url.scheme", put_scheme},
    {"network.protocol.version", put_version},
    {"server.address", put_host},
    {"http.request.body.size", put_request_size},
    {"http.response.status_code", put_status},
    {"http.response.body.size", put_response_size},
    {"http.server.request.duration", put_duration},
    {"client.address", put_client},
    {"client.port", put_client_port},
    {"user_agent.original", put_agent},
    {"http.request.header.referer", put_referer},
    {"user.name", put_user},
    {"process.pid", put_pid},
    {"trace_id", put_trace},
    {"greenicorn.request_id", put_id},
    {"greenicorn.in_flight", put_in_flight},
};

void
access_json_print(struct access_out *o, const struct access_entry *e)
{
	print_text(o, "{\"timestamp\":");
	put_timestamp(o, e);
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		char *before = o->p, *value;

		print_text(o, ",\"");
		print_text(o, fields[i].name);
		print_text(o, "\":");
		value = o->p;
		fields[i].put(o, e);
		if (o->p == value)
			o->p = before;
	}
	for (const struct access_time *t = access_times; t->name != NULL; t++) {
		print_text(o, ",\"greenicorn.");
		print_text(o, t->name);
		print_text(o, "\":");
		print_seconds(o, t->ns(e));
	}
	print_bytes(o, "}", 1);
}
