/* The access log's format: see access_format.h. One row an atom in atoms[]. */
#include "worker/access_format.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_SEC  1000000000
#define NS_PER_MSEC 1000000
#define NS_PER_USEC 1000

/* Where a line is being put together; what does not fit is cut. */
struct out {
	char *p, *end;
};

/* The request that a line is about. */
struct entry {
	const struct app_exchange *exchange;
	int64_t took; /* ns */
	const char *script_name;
};

/* One thing to print: a literal, or an atom with its argument. */
struct item {
	void (*put)(struct out *, const struct item *, const struct entry *);
	char *text;   /* owned: the literal, or a name of a header or of an environ key */
	size_t n;     /* length of text */
	size_t index; /* of an environ key among the names */
};

struct access_format {
	struct item *items; /* owned */
	size_t nitems;
	char **names; /* owned, the strings are the items' */
	size_t nnames;
	char *script_name; /* owned */
};

/* ---- putting ---- */

static void
put_bytes(struct out *o, const char *s, size_t n)
{
	if (n > (size_t)(o->end - o->p))
		n = (size_t)(o->end - o->p);
	memcpy(o->p, s, n);
	o->p += n;
}

static void
put_text(struct out *o, const char *s)
{
	put_bytes(o, s, strlen(s));
}

static void
put_number(struct out *o, uint64_t value, int min_digits)
{
	char digits[20], *end = digits + sizeof(digits), *p = end;

	for (; value != 0 || p > end - min_digits; value /= 10)
		*--p = (char)('0' + value % 10);
	put_bytes(o, p, (size_t)(end - p));
}

static void
put_char_escaped(struct out *o, unsigned char c)
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
	put_bytes(o, quoted, n);
}

static bool
is_plain(unsigned char c)
{
	return c >= 0x20 && c <= 0x7e && c != '"' && c != '\\';
}

/* What the client chose. */
static void
put_foreign(struct out *o, const char *s, size_t n)
{
	size_t from = 0;

	for (size_t i = 0; i < n; i++) {
		if (is_plain((unsigned char)s[i]))
			continue;
		put_bytes(o, s + from, i - from);
		put_char_escaped(o, (unsigned char)s[i]);
		from = i + 1;
	}
	if (from < n) /* s may be NULL when there is nothing */
		put_bytes(o, s + from, n - from);
}

/* ---- the atoms ---- */

static void
put_literal(struct out *o, const struct item *item, const struct entry *e)
{
	(void)e;
	put_bytes(o, item->text, item->n);
}

static void
put_dash(struct out *o, const struct item *item, const struct entry *e)
{
	(void)item;
	(void)e;
	put_bytes(o, "-", 1);
}

static void
put_remote_addr(struct out *o, const struct item *item, const struct entry *e)
{
	(void)item;
	put_text(o, e->exchange->peer->remote_addr);
}

/* "[23/Nov/2026:07:17:00 +0000]", made once a second. */
static void
put_time(struct out *o, const struct item *item, const struct entry *e)
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
	put_text(o, stamp);
}

static void
put_method(struct out *o, const struct item *item, const struct entry *e)
{
	(void)item;
	put_foreign(o, e->exchange->request->method.p, e->exchange->request->method.n);
}

static void
put_protocol(struct out *o, const struct item *item, const struct entry *e)
{
	(void)item;
	put_text(o, "HTTP/");
	put_number(o, e->exchange->request->major, 1);
	put_bytes(o, ".", 1);
	put_number(o, e->exchange->request->minor, 1);
}

/* The request line as received, but for the version. */
static void
put_request(struct out *o, const struct item *item, const struct entry *e)
{
	put_method(o, item, e);
	put_bytes(o, " ", 1);
	put_foreign(o, e->exchange->request->target.p, e->exchange->request->target.n);
	put_bytes(o, " ", 1);
	put_protocol(o, item, e);
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* PATH_INFO: decoded, without SCRIPT_NAME. */
static void
put_path(struct out *o, const struct item *item, const struct entry *e)
{
	struct http_str path = e->exchange->request->path;
	size_t skip = strlen(e->script_name);

	(void)item;
	if (skip <= path.n && memcmp(path.p, e->script_name, skip) == 0) {
		path.p += skip;
		path.n -= skip;
	}
	for (size_t i = 0; i < path.n; i++) {
		char c = path.p[i];

		if (c == '%' && i + 2 < path.n && hex_digit(path.p[i + 1]) >= 0 &&
		    hex_digit(path.p[i + 2]) >= 0) {
			c = (char)(hex_digit(path.p[i + 1]) << 4 | hex_digit(path.p[i + 2]));
			i += 2;
		}
		put_foreign(o, &c, 1);
	}
}

static void
put_query(struct out *o, const struct item *item, const struct entry *e)
{
	(void)item;
	put_foreign(o, e->exchange->request->query.p, e->exchange->request->query.n);
}

static void
put_status(struct out *o, const struct item *item, const struct entry *e)
{
	(void)item;
	put_number(o, (uint64_t)e->exchange->response->status, 3);
}

static void
put_sent(struct out *o, const struct item *item, const struct entry *e)
{
	(void)item;
	put_number(o, e->exchange->response->sent, 1);
}

static void
put_seconds(struct out *o, const struct item *item, const struct entry *e)
{
	(void)item;
	put_number(o, (uint64_t)(e->took / NS_PER_SEC), 1);
}

static void
put_milliseconds(struct out *o, const struct item *item, const struct entry *e)
{
	(void)item;
	put_number(o, (uint64_t)(e->took / NS_PER_MSEC), 1);
}

static void
put_microseconds(struct out *o, const struct item *item, const struct entry *e)
{
	(void)item;
	put_number(o, (uint64_t)(e->took / NS_PER_USEC), 1);
}

static void
put_decimal_seconds(struct out *o, const struct item *item, const struct entry *e)
{
	put_seconds(o, item, e);
	put_bytes(o, ".", 1);
	put_number(o, (uint64_t)(e->took % NS_PER_SEC / NS_PER_USEC), 6);
}

static void
put_pid(struct out *o, const struct item *item, const struct entry *e)
{
	(void)item;
	(void)e;
	put_bytes(o, "<", 1);
	put_number(o, (uint64_t)getpid(), 1);
	put_bytes(o, ">", 1);
}

/* ---- atoms with a name, and those that look at one header ---- */

/* The last one of that name, as in gunicorn. */
static const struct http_header *
request_header(const struct http_request *req, const char *name, size_t n)
{
	for (size_t i = req->nheaders; i-- > 0;) {
		const struct http_header *h = &req->headers[i];

		if (h->name.n == n && strncasecmp(h->name.p, name, n) == 0)
			return h;
	}
	return NULL;
}

static void
put_named_header(struct out *o, const struct entry *e, const char *name, size_t n)
{
	const struct http_header *h = request_header(e->exchange->request, name, n);

	if (h != NULL)
		put_foreign(o, h->value.p, h->value.n);
	else
		put_bytes(o, "-", 1);
}

static void
put_request_header(struct out *o, const struct item *item, const struct entry *e)
{
	put_named_header(o, e, item->text, item->n);
}

static void
put_referer(struct out *o, const struct item *item, const struct entry *e)
{
	(void)item;
	put_named_header(o, e, "Referer", 7);
}

static void
put_user_agent(struct out *o, const struct item *item, const struct entry *e)
{
	(void)item;
	put_named_header(o, e, "User-Agent", 10);
}

/* The response keeps the head that it sent: lines that end in CRLF, the first is the status. */
static void
put_response_header(struct out *o, const struct item *item, const struct entry *e)
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
	put_bytes(o, "-", 1);
}

static void
put_environ(struct out *o, const struct item *item, const struct entry *e)
{
	const char *value = NULL;

	if (item->index < e->exchange->nlog && e->exchange->log_values != NULL)
		value = e->exchange->log_values[item->index];
	if (value != NULL)
		put_foreign(o, value, strlen(value));
	else
		put_bytes(o, "-", 1);
}

static int
base64_digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* The name in "Authorization: Basic base64(name:password)"; nothing of the password. */
static void
put_user(struct out *o, const struct item *item, const struct entry *e)
{
	const struct http_header *h = request_header(e->exchange->request, "Authorization", 13);
	unsigned bits = 0, nbits = 0;
	char *start = o->p;

	(void)item;
	if (h != NULL && h->value.n > 6 && strncasecmp(h->value.p, "Basic ", 6) == 0) {
		for (size_t i = 6; i < h->value.n && h->value.p[i] != '='; i++) {
			int digit = base64_digit(h->value.p[i]);
			char c;

			if (digit < 0)
				continue;
			bits = bits << 6 | (unsigned)digit;
			nbits += 6;
			if (nbits < 8)
				continue;
			nbits -= 8;
			c = (char)(bits >> nbits);
			if (c == ':')
				break;
			put_foreign(o, &c, 1);
		}
	}
	if (o->p == start)
		put_bytes(o, "-", 1);
}

static const struct atom {
	const char *key;
	void (*put)(struct out *, const struct item *, const struct entry *);
} atoms[] = {
    {"h", put_remote_addr},
    {"l", put_dash},
    {"u", put_user},
    {"t", put_time},
    {"r", put_request},
    {"m", put_method},
    {"U", put_path},
    {"q", put_query},
    {"H", put_protocol},
    {"s", put_status},
    {"B", put_sent},
    {"b", put_sent},
    {"f", put_referer},
    {"a", put_user_agent},
    {"T", put_seconds},
    {"M", put_milliseconds},
    {"D", put_microseconds},
    {"L", put_decimal_seconds},
    {"p", put_pid},
};

/* ---- compiling ---- */

static struct item *
item_add(struct access_format *f)
{
	struct item *items = realloc(f->items, (f->nitems + 1) * sizeof(*items));

	if (items == NULL)
		return NULL;
	f->items = items;
	f->items[f->nitems] = (struct item){.put = put_dash};
	return &f->items[f->nitems++];
}

static int
literal_add(struct access_format *f, const char *text, size_t n)
{
	struct item *item;

	if (n == 0)
		return 0;
	item = item_add(f);
	if (item == NULL || (item->text = strndup(text, n)) == NULL)
		return -1;
	item->put = put_literal;
	item->n = n;
	return 0;
}

static int
name_add(struct access_format *f, struct item *item)
{
	char **names = realloc(f->names, (f->nnames + 1) * sizeof(*names));

	if (names == NULL)
		return -1;
	f->names = names;
	item->index = f->nnames;
	f->names[f->nnames++] = item->text;
	return 0;
}

/* "{name}i", "{name}o", "{name}e". */
static int
named_atom_add(struct access_format *f, struct item *item, const char *key, size_t n)
{
	const char *close = memchr(key, '}', n);

	if (close == NULL || close + 2 != key + n)
		return 0; /* gunicorn knows no such atom: "-" */
	item->n = (size_t)(close - key) - 1;
	if ((item->text = strndup(key + 1, item->n)) == NULL)
		return -1;
	if (close[1] == 'i')
		item->put = put_request_header;
	else if (close[1] == 'o')
		item->put = put_response_header;
	else if (close[1] == 'e') {
		item->put = put_environ;
		return name_add(f, item);
	}
	return 0;
}

static int
atom_add(struct access_format *f, const char *key, size_t n)
{
	struct item *item = item_add(f);

	if (item == NULL)
		return -1;
	if (n > 0 && key[0] == '{')
		return named_atom_add(f, item, key, n);
	for (size_t i = 0; i < sizeof(atoms) / sizeof(atoms[0]); i++)
		if (n == 1 && atoms[i].key[0] == key[0])
			item->put = atoms[i].put;
	return 0;
}

/* One "%…" at p. Returns what follows it; NULL with a reason when it is broken. */
static const char *
directive_add(struct access_format *f, const char *p, char *why, size_t why_size)
{
	const char *close;

	if (p[1] == '%')
		return literal_add(f, "%", 1) == 0 ? p + 2 : NULL;
	close = p[1] == '(' ? strchr(p, ')') : NULL;
	if (close == NULL) {
		snprintf(why, why_size, "\"%.20s\" is neither %%%% nor %%(atom)s", p);
		return NULL;
	}
	/* gunicorn prints by Python's %: of its conversions these print the same */
	if (close[1] == '\0' || strchr("sdi", close[1]) == NULL) {
		snprintf(why, why_size, "\"%.40s\" does not end in )s", p);
		return NULL;
	}
	return atom_add(f, p + 2, (size_t)(close - p) - 2) == 0 ? close + 2 : NULL;
}

static int
format_compile(struct access_format *f, const char *p, char *why, size_t why_size)
{
	while (*p != '\0') {
		size_t n = strcspn(p, "%");

		if (literal_add(f, p, n) == -1)
			return -1;
		p += n;
		if (*p == '%' && (p = directive_add(f, p, why, why_size)) == NULL)
			return -1;
	}
	return 0;
}

struct access_format *
access_format_new(const char *format, const char *script_name, char *why, size_t why_size)
{
	struct access_format *f = calloc(1, sizeof(*f));

	snprintf(why, why_size, "out of memory");
	if (f == NULL)
		return NULL;
	f->script_name = strdup(script_name != NULL ? script_name : "");
	if (f->script_name == NULL || format_compile(f, format, why, why_size) == -1) {
		access_format_free(f);
		return NULL;
	}
	return f;
}

void
access_format_free(struct access_format *f)
{
	if (f == NULL)
		return;
	for (size_t i = 0; i < f->nitems; i++)
		free(f->items[i].text);
	free(f->items);
	free(f->names);
	free(f->script_name);
	free(f);
}

size_t
access_format_print(const struct access_format *f, const struct app_exchange *exchange, int64_t now,
    char *buf, size_t size)
{
	struct entry e = {
	    .exchange = exchange,
	    .took = now > exchange->started ? now - exchange->started : 0,
	    .script_name = f->script_name,
	};
	struct out o = {.p = buf, .end = buf + size - 1};

	for (size_t i = 0; i < f->nitems; i++)
		f->items[i].put(&o, &f->items[i], &e);
	*o.p++ = '\n';
	return (size_t)(o.p - buf);
}

char *const *
access_format_names(const struct access_format *f, size_t *n)
{
	*n = f->nnames;
	return f->names;
}
