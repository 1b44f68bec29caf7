/* The atoms of gunicorn's notation, and ours: a row each in atoms[]. See access_atoms.h. */
#include "worker/access_atoms.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "worker/access_format.h"
#include "worker/http/chars.h"
#include "worker/in_flight.h"

#define NS_PER_SEC  1000000000
#define NS_PER_MSEC 1000000
#define NS_PER_USEC 1000
#define USER_MAX    1024

/* ---- what the client chose ---- */

static void
put_char_escaped(struct access_out *o, unsigned char c)
{
	static const char hex[] = "0123456789abcdef";
	char quoted[4] = {'\\', (char)c};
	size_t n = 2;

	if (c < 0x20 || c > 0x7e) {
		quoted[1] = 'x';
		quoted[2] = hex[c >> 4];
		quoted[3] = hex[c & 15];
		n = 4;
	}
	print_bytes(o, quoted, n);
}

static bool
is_plain(unsigned char c)
{
	return c >= 0x20 && c <= 0x7e && c != '"' && c != '\\';
}

/* What the client chose. */
static void
put_foreign(struct access_out *o, const char *s, size_t n)
{
	size_t from = 0;

	for (size_t i = 0; i < n; i++) {
		if (is_plain((unsigned char)s[i]))
			continue;
		print_bytes(o, s + from, i - from);
		put_char_escaped(o, (unsigned char)s[i]);
		from = i + 1;
	}
	if (from < n) /* s may be NULL when there is nothing */
		print_bytes(o, s + from, n - from);
}

/* ---- the atoms ---- */

static void
put_literal(struct access_out *o, const struct access_item *item, const struct access_entry *e)
{
	(void)e;
	print_bytes(o, item->text, item->n);
}

static void
put_dash(struct access_out *o, const struct access_item *item, const struct access_entry *e)
{
	(void)item;
	(void)e;
	print_bytes(o, "-", 1);
}

static void
put_remote_addr(struct access_out *o, const struct access_item *item, const struct access_entry *e)
{
	(void)item;
	print_text(o, e->exchange->peer->remote_addr);
}

/* "[23/Nov/2026:07:17:00 +0000]", made once a second. */
static void
put_time(struct access_out *o, const struct access_item *item, const struct access_entry *e)
{
	static const char months[12][4] = {
	    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
	static char stamp[64];
	static time_t made;
	time_t now = time(NULL);
	struct tm tm;
	char zone[8];

	(void)item;
	(void)e;
	if (now != made) {
		localtime_r(&now, &tm);
		strftime(zone, sizeof(zone), "%z", &tm);
		/* the month in English whatever locale the application has set */
		snprintf(stamp, sizeof(stamp), "[%02d/%s/%d:%02d:%02d:%02d %s]", tm.tm_mday,
		    months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec, zone);
		made = now;
	}
	print_text(o, stamp);
}

static void
put_method(struct access_out *o, const struct access_item *item, const struct access_entry *e)
{
	(void)item;
	put_foreign(o, e->exchange->request->method.p, e->exchange->request->method.n);
}

static void
put_protocol(struct access_out *o, const struct access_item *item, const struct access_entry *e)
{
	(void)item;
	print_text(o, "HTTP/");
	print_number(o, e->exchange->request->major, 1);
	print_bytes(o, ".", 1);
	print_number(o, e->exchange->request->minor, 1);
}

/* The request line as received, but for the version. */
static void
put_request(struct access_out *o, const struct access_item *item, const struct access_entry *e)
{
	put_method(o, item, e);
	print_bytes(o, " ", 1);
	put_foreign(o, e->exchange->request->target.p, e->exchange->request->target.n);
	print_bytes(o, " ", 1);
	put_protocol(o, item, e);
}

/* PATH_INFO: decoded, without SCRIPT_NAME. */
static void
put_path(struct access_out *o, const struct access_item *item, const struct access_entry *e)
{
	struct http_str path = e->exchange->request->path;
	struct http_str skip = e->exchange->script_name;

	(void)item;
	if (skip.n > 0 && skip.n <= path.n && memcmp(path.p, skip.p, skip.n) == 0) {
		path.p += skip.n;
		path.n -= skip.n;
	}
	for (size_t i = 0; i < path.n; i++) {
		int byte = http_percent_byte(path.p + i, path.n - i);
		char c = byte >= 0 ? (char)byte : path.p[i];

		i += byte >= 0 ? 2 : 0;
		put_foreign(o, &c, 1);
	}
}

static void
put_query(struct access_out *o, const struct access_item *item, const struct access_entry *e)
{
	(void)item;
	put_foreign(o, e->exchange->request->query.p, e->exchange->request->query.n);
}

static void
put_status(struct access_out *o, const struct access_item *item, const struct access_entry *e)
{
	(void)item;
	print_number(o, (uint64_t)e->exchange->response->status, 3);
}

static void
put_sent(struct access_out *o, const struct access_item *item, const struct access_entry *e)
{
	(void)item;
	print_number(o, e->exchange->response->sent, 1);
}

static void
put_seconds(struct access_out *o, const struct access_item *item, const struct access_entry *e)
{
	(void)item;
	print_number(o, (uint64_t)(e->took / NS_PER_SEC), 1);
}

static void
put_milliseconds(struct access_out *o, const struct access_item *item, const struct access_entry *e)
{
	(void)item;
	print_number(o, (uint64_t)(e->took / NS_PER_MSEC), 1);
}

static void
put_microseconds(struct access_out *o, const struct access_item *item, const struct access_entry *e)
{
	(void)item;
	print_number(o, (uint64_t)(e->took / NS_PER_USEC), 1);
}

static void
put_decimal_seconds(
    struct access_out *o, const struct access_item *item, const struct access_entry *e)
{
	(void)item;
	print_seconds(o, e->took);
}

static void
put_pid(struct access_out *o, const struct access_item *item, const struct access_entry *e)
{
	(void)item;
	(void)e;
	print_bytes(o, "<", 1);
	print_number(o, (uint64_t)getpid(), 1);
	print_bytes(o, ">", 1);
}

/* ---- atoms with a name, and those that look at one header ---- */

static void
put_named_header(struct access_out *o, const struct access_entry *e, const char *name, size_t n)
{
	const struct http_header *h = entry_header(e, name, n);

	if (h != NULL)
		put_foreign(o, h->value.p, h->value.n);
	else
		print_bytes(o, "-", 1);
}

static void
put_request_header(
    struct access_out *o, const struct access_item *item, const struct access_entry *e)
{
	put_named_header(o, e, item->text, item->n);
}

static void
put_referer(struct access_out *o, const struct access_item *item, const struct access_entry *e)
{
	(void)item;
	put_named_header(o, e, "Referer", 7);
}

static void
put_user_agent(struct access_out *o, const struct access_item *item, const struct access_entry *e)
{
	(void)item;
	put_named_header(o, e, "User-Agent", 10);
}

/* The response keeps the head that it sent: lines that end in CRLF, the first is the status. */
static void
put_response_header(
    struct access_out *o, const struct access_item *item, const struct access_entry *e)
{
	const struct http_response *resp = e->exchange->response;
	const char *p = resp->head, *end = p + resp->head_len, *eol;

	for (; p != NULL && (eol = memchr(p, '\r', (size_t)(end - p))) != NULL; p = eol + 2) {
		if ((size_t)(eol - p) <= item->n || p[item->n] != ':' ||
		    strncasecmp(p, item->text, item->n) != 0) {
			if (end - eol < 2)
				break;
			continue;
		}
		p += item->n + 1;
		while (p < eol && (*p == ' ' || *p == '\t'))
			p++;
		put_foreign(o, p, (size_t)(eol - p));
		return;
	}
	print_bytes(o, "-", 1);
}

static void
put_environ(struct access_out *o, const struct access_item *item, const struct access_entry *e)
{
	const char *value = NULL;

	if (item->index < e->exchange->nlog && e->exchange->log_values != NULL)
		value = e->exchange->log_values[item->index];
	if (value != NULL)
		put_foreign(o, value, strlen(value));
	else
		print_bytes(o, "-", 1);
}

static void
put_user(struct access_out *o, const struct access_item *item, const struct access_entry *e)
{
	char name[USER_MAX];
	size_t n = entry_user(e, name, sizeof(name));

	(void)item;
	if (n > 0)
		put_foreign(o, name, n);
	else
		print_bytes(o, "-", 1);
}

/* ---- those that gunicorn does not have ---- */

static void
put_part(struct access_out *o, const struct access_item *item, const struct access_entry *e)
{
	print_seconds(o, access_times[item->index].ns(e));
}

static void
put_request_id(struct access_out *o, const struct access_item *item, const struct access_entry *e)
{
	(void)item;
	put_foreign(o, e->exchange->request_id.p, e->exchange->request_id.n);
}

static void
put_in_flight(struct access_out *o, const struct access_item *item, const struct access_entry *e)
{
	(void)item;
	(void)e;
	print_number(o, in_flight_count(), 1);
}

/* ---- the table ---- */

static const struct atom {
	const char *key;
	void (*put)(struct access_out *, const struct access_item *, const struct access_entry *);
	unsigned wants;
} atoms[] = {
    {"h", put_remote_addr, 0},
    {"l", put_dash, 0},
    {"u", put_user, 0},
    {"t", put_time, 0},
    {"r", put_request, 0},
    {"m", put_method, 0},
    {"U", put_path, 0},
    {"q", put_query, 0},
    {"H", put_protocol, 0},
    {"s", put_status, 0},
    {"B", put_sent, 0},
    {"b", put_sent, 0},
    {"f", put_referer, 0},
    {"a", put_user_agent, 0},
    {"T", put_seconds, 0},
    {"M", put_milliseconds, 0},
    {"D", put_microseconds, 0},
    {"L", put_decimal_seconds, 0},
    {"p", put_pid, 0},
    {"request_id", put_request_id, ACCESS_WANTS_ID},
    {"in_flight", put_in_flight, 0},
};

unsigned
access_atom_set(struct access_item *item, const char *key, size_t n)
{
	item->put = put_dash; /* gunicorn's, of what it does not know */
	for (size_t i = 0; i < sizeof(atoms) / sizeof(atoms[0]); i++) {
		if (strlen(atoms[i].key) == n && memcmp(atoms[i].key, key, n) == 0) {
			item->put = atoms[i].put;
			return atoms[i].wants;
		}
	}
	for (size_t i = 0; access_times[i].name != NULL; i++) {
		if (strlen(access_times[i].name) == n &&
		    memcmp(access_times[i].name, key, n) == 0) {
			item->put = put_part;
			item->index = i;
			return access_times[i].wants;
		}
	}
	return 0;
}

bool
access_atom_set_named(struct access_item *item, char kind)
{
	static const struct {
		char kind;
		void (*put)(
		    struct access_out *, const struct access_item *, const struct access_entry *);
	} kinds[] = {{'i', put_request_header}, {'o', put_response_header}, {'e', put_environ}};

	item->put = put_dash;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (kinds[i].kind == kind)
			item->put = kinds[i].put;
	return kind == 'e';
}

void
access_literal_set(struct access_item *item)
{
	item->put = put_literal;
}
