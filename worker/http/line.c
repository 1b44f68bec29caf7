/*
 * The request line (RFC 9112 section 3): method, target in its four forms,
 * version. http-parser never sees it: it knows a fixed list of methods, and
 * CONNECT would change how it reads what follows.
 */
#include "worker/http/line.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "worker/http/chars.h"

/* gunicorn's: all of IANA's methods, none that is a typing error. */
#define METHOD_MIN 3
#define METHOD_MAX 20

int
http_refuse(struct http_request *req, int status, const char *why)
{
	req->error = why;
	return status;
}

static bool
str_equals(struct http_str s, const char *literal)
{
	return s.n == strlen(literal) && memcmp(s.p, literal, s.n) == 0;
}

/*
 * A token, and gunicorn's rule: none with lower-case letters or "#"; unknown ones are the
 * application's.
 */
static bool
method_valid(struct http_str m, bool any)
{
	if (!http_is_token(m.p, m.n))
		return false;
	if (any)
		return true;
	if (m.n < METHOD_MIN || m.n > METHOD_MAX)
		return false;
	for (size_t i = 0; i < m.n; i++)
		if ((m.p[i] >= 'a' && m.p[i] <= 'z') || m.p[i] == '#')
			return false;
	return true;
}

/* RFC 9112 section 2.3: exactly "HTTP/" DIGIT "." DIGIT, and the letters are case-sensitive. */
static int
parse_version(struct http_request *req, const char *p, size_t n, bool any)
{
	if (n != 8 || memcmp(p, "HTTP/", 5) != 0 || p[5] < '0' || p[5] > '9' || p[6] != '.' ||
	    p[7] < '0' || p[7] > '9')
		return http_refuse(req, 400, "Invalid HTTP Version");
	if (p[5] != '1' && !any)
		return http_refuse(req, 505, "HTTP version not supported");
	req->major = 1;
	/* A higher version is answered as the highest that we know (RFC 9110 section 6.2). */
	req->minor = p[5] == '0' || (p[5] == '1' && p[7] == '0') ? 0 : 1;
	return 0;
}

/* An IPv6 address without its brackets. IPvFuture does not exist. */
static bool
ip_literal_valid(const char *p, size_t n)
{
	char text[INET6_ADDRSTRLEN];
	struct in6_addr addr;

	if (n >= sizeof(text) || memchr(p, '\0', n) != NULL)
		return false;
	memcpy(text, p, n);
	text[n] = '\0';
	return inet_pton(AF_INET6, text, &addr) == 1;
}

/* reg-name of RFC 3986 without ",": a list of hosts is an attack, not a name. */
static bool
host_valid(const char *p, size_t n)
{
	static const char hex[] = "0123456789abcdefABCDEF";
	size_t i = 0;

	while (i < n) {
		if (http_chars[(unsigned char)p[i]] & HTTP_CHAR_HOST) {
			i++;
		} else {
			if (p[i] != '%' || n - i < 3 || !memchr(hex, p[i + 1], sizeof(hex) - 1) ||
			    !memchr(hex, p[i + 2], sizeof(hex) - 1))
				return false;
			i += 3;
		}
	}
	return n > 0;
}

/* Digits up to 65535; RFC 3986 allows none after the colon. */
static bool
port_valid(const char *p, size_t n)
{
	unsigned long port = 0;

	for (size_t i = 0; i < n; i++) {
		if (p[i] < '0' || p[i] > '9')
			return false;
		port = port * 10 + (unsigned long)(p[i] - '0');
		if (port > 65535)
			return false;
	}
	return true;
}

bool
http_authority_valid(struct http_str a, bool need_port)
{
	const char *end = a.p + a.n, *colon, *close;

	if (a.n == 0)
		return false;
	if (a.p[0] == '[') {
		close = memchr(a.p, ']', a.n);
		if (close == NULL || !ip_literal_valid(a.p + 1, (size_t)(close - a.p) - 1))
			return false;
		colon = close + 1;
		if (colon < end && *colon != ':')
			return false;
	} else {
		colon = memchr(a.p, ':', a.n);
		if (colon == NULL)
			colon = end;
		if (!host_valid(a.p, (size_t)(colon - a.p)))
			return false;
	}
	if (end - colon <= 1)
		return !need_port;
	return port_valid(colon + 1, (size_t)(end - colon) - 1);
}

static void
split_query(struct http_request *req, const char *p, size_t n)
{
	const char *mark = n > 0 ? memchr(p, '?', n) : NULL;

	req->path = (struct http_str){p, mark != NULL ? (size_t)(mark - p) : n};
	if (mark != NULL)
		req->query = (struct http_str){mark + 1, (size_t)(p + n - mark) - 1};
}

/* http://authority/path?query: the authority overrules Host (RFC 9112 section 3.2.2). */
static int
parse_absolute(struct http_request *req)
{
	const char *p = req->target.p, *end = p + req->target.n, *start;

	if (req->target.n > 7 && strncasecmp(p, "http://", 7) == 0)
		start = p + 7;
	else if (req->target.n > 8 && strncasecmp(p, "https://", 8) == 0)
		start = p + 8;
	else
		return http_refuse(req, 400, "Invalid request target");
	for (p = start; p < end && *p != '/' && *p != '?'; p++)
		;
	req->authority = (struct http_str){start, (size_t)(p - start)};
	if (!http_authority_valid(req->authority, false))
		return http_refuse(req, 400, "Invalid authority in the request target");
	split_query(req, p, (size_t)(end - p));
	if (req->path.n == 0)
		req->path = (struct http_str){"/", 1};
	return 0;
}

static int
parse_target(struct http_request *req)
{
	struct http_str t = req->target;

	/*
	 * "#" never is part of a target; who cuts it off there and who does not might disagree
	 * about the path. Bytes above ASCII have to be percent-encoded.
	 */
	if (t.n == 0 || !http_chars_all(t.p, t.n, HTTP_CHAR_TARGET))
		return http_refuse(req, 400, "Invalid request target");
	if (req->is_connect) {
		req->authority = t;
		if (!http_authority_valid(t, true))
			return http_refuse(req, 400, "Invalid authority in the request target");
		return 0;
	}
	if (t.p[0] == '/') {
		split_query(req, t.p, t.n);
		return 0;
	}
	if (t.p[0] == '*' && t.n == 1) {
		if (!str_equals(req->method, "OPTIONS"))
			return http_refuse(req, 400, "Invalid request target");
		return 0;
	}
	return parse_absolute(req);
}

int
http_line_parse(
    struct http_request *req, const char *line, size_t n, const struct http_limits *limits)
{
	const char *end = line + n, *space, *target;
	int status;

	space = memchr(line, ' ', n);
	if (space == NULL)
		return http_refuse(req, 400, "Invalid request line");
	req->method = (struct http_str){line, (size_t)(space - line)};
	req->is_head = str_equals(req->method, "HEAD");
	req->is_connect = str_equals(req->method, "CONNECT");
	target = space + 1;
	space = memchr(target, ' ', (size_t)(end - target));
	if (space == NULL)
		return http_refuse(req, 400, "Invalid request line");
	req->target = (struct http_str){target, (size_t)(space - target)};
	status = parse_version(req, space + 1, (size_t)(end - space) - 1, limits->any_version);
	if (status != 0)
		return status;
	if (!method_valid(req->method, limits->any_method))
		return http_refuse(req, 400, "Invalid HTTP method");
	return parse_target(req);
}
