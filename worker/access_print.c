/* What lines of the access log are made of: see access_print.h. */
#include "worker/access_print.h"

#include <string.h>
#include <strings.h>

#include "worker/access_format.h"

#define NS_PER_SEC  1000000000
#define NS_PER_USEC 1000

void
print_bytes(struct access_out *o, const char *s, size_t n)
{
	if (n > (size_t)(o->end - o->p))
		n = (size_t)(o->end - o->p);
	memcpy(o->p, s, n);
	o->p += n;
}

void
print_text(struct access_out *o, const char *s)
{
	print_bytes(o, s, strlen(s));
}

void
print_number(struct access_out *o, uint64_t value, int min_digits)
{
	char digits[20], *end = digits + sizeof(digits), *p = end;

	for (; value != 0 || p > end - min_digits; value /= 10)
		*--p = (char)('0' + value % 10);
	print_bytes(o, p, (size_t)(end - p));
}

void
print_seconds(struct access_out *o, int64_t ns)
{
	uint64_t value = ns > 0 ? (uint64_t)ns : 0;

	print_number(o, value / NS_PER_SEC, 1);
	print_bytes(o, ".", 1);
	print_number(o, value % NS_PER_SEC / NS_PER_USEC, 6);
}

/* It is ready, but there is no green thread for it. */
static int64_t
queue_time(const struct access_entry *e)
{
	return e->exchange->started - e->exchange->complete;
}

/* First to last byte of the head. */
static int64_t
head_time(const struct access_entry *e)
{
	return e->exchange->complete - e->exchange->arrived;
}

/* The wait for more of the request's body. */
static int64_t
body_time(const struct access_entry *e)
{
	return e->exchange->body->waited;
}

/* The wait for the client to take more. */
static int64_t
send_time(const struct access_entry *e)
{
	return e->exchange->response->waited;
}

/* All the rest of what it took. */
static int64_t
app_time(const struct access_entry *e)
{
	return e->took - body_time(e) - send_time(e);
}

static int64_t
green_time(const struct access_entry *e)
{
	return e->exchange->ran;
}

const struct access_time access_times[] = {
    {"queue_time", queue_time, ACCESS_WANTS_TIMES},
    {"head_time", head_time, ACCESS_WANTS_TIMES},
    {"body_time", body_time, 0},
    {"app_time", app_time, 0},
    {"send_time", send_time, 0},
    {"green_time", green_time, ACCESS_WANTS_RUN_TIME},
    {NULL, NULL, 0},
};

const struct http_header *
entry_header(const struct access_entry *e, const char *name, size_t n)
{
	const struct http_request *req = e->exchange->request;

	for (size_t i = req->nheaders; i-- > 0;) {
		const struct http_header *h = &req->headers[i];

		if (h->name.n == n && strncasecmp(h->name.p, name, n) == 0)
			return h;
	}
	return NULL;
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

size_t
entry_user(const struct access_entry *e, char *buf, size_t size)
{
	const struct http_header *h = entry_header(e, "Authorization", 13);
	unsigned bits = 0, nbits = 0;
	size_t n = 0;

	if (h == NULL || h->value.n <= 6 || strncasecmp(h->value.p, "Basic ", 6) != 0)
		return 0;
	for (size_t i = 6; i < h->value.n && h->value.p[i] != '=' && n < size; i++) {
		int digit = base64_digit(h->value.p[i]);

		if (digit < 0)
			continue;
		bits = bits << 6 | (unsigned)digit;
		nbits += 6;
		if (nbits < 8)
			continue;
		nbits -= 8;
		buf[n] = (char)(bits >> nbits);
		if (buf[n] == ':')
			break;
		n++;
	}
	return n;
}
