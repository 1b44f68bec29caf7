/*
 * The end of a head, and its limits, before anything is understood of it. Only
 * CRLF ends a line: who takes a bare LF or CR for one sees other requests than a
 * proxy does (RFC 9112 section 2.2 allows either; it is safe to allow neither).
 */
#include <string.h>
#include <strings.h>

#include "worker/http/chars.h"
#include "worker/http/head.h"

/* gunicorn's MAX_HEADERS. */
#define FIELDS_MAX 32768
/* Ours: what one setting may ask for, and what all fields may have together beyond one. */
#define LINE_MAX_BYTES (1024 * 1024)
#define FIELD_SIZE_MAX (1024 * 1024)
#define FIELDS_BYTES   (256 * 1024)

void
http_limits_clamp(const struct http_limits *limits, struct http_limits *out)
{
	*out = *limits;
	if (out->line == 0 || out->line > LINE_MAX_BYTES)
		out->line = LINE_MAX_BYTES;
	if (out->fields == 0 || out->fields > FIELDS_MAX)
		out->fields = FIELDS_MAX;
	if (out->field_size == 0 || out->field_size > FIELD_SIZE_MAX)
		out->field_size = FIELD_SIZE_MAX;
}

/* With limits that were clamped. */
static size_t
head_max(const struct http_limits *limits)
{
	size_t fields = limits->fields * (limits->field_size + 2);

	if (fields > FIELDS_BYTES + limits->field_size)
		fields = FIELDS_BYTES + limits->field_size;
	return 2 + limits->line + 2 + fields + 2;
}

size_t
http_head_max(const struct http_limits *limits)
{
	struct http_limits clamped;

	http_limits_clamp(limits, &clamped);
	return head_max(&clamped);
}

/* What a line may not begin with: seen at once, not only when its end comes. */
static bool
line_start_valid(const char *line, size_t n, bool request_line, bool folding)
{
	if (line[0] == '\r')
		return n < 2 || line[1] == '\n';
	if (line[0] == '\n')
		return false;
	if (line[0] == ' ' || line[0] == '\t')
		return request_line ? line[0] == ' ' : folding;
	/* A request line without a method is parse's to refuse; a TLS handshake is not waited for.
	 */
	return http_chars[(unsigned char)line[0]] & HTTP_CHAR_TOKEN;
}

/*
 * Lines that are complete are not looked at again: *scanned is where the first
 * incomplete one starts. Their number is counted by http_request_parse.
 */
long
http_head_scan(const char *buf, size_t len, size_t *scanned, const struct http_limits *asked)
{
	struct http_limits limits;
	size_t pos = *scanned, max;

	http_limits_clamp(asked, &limits);
	max = head_max(&limits);
	while (pos < len) {
		bool first = pos == 0 || (pos == 2 && buf[0] == '\r');
		size_t limit = first ? limits.line : limits.field_size, n;
		const char *line = buf + pos, *lf;

		if (!line_start_valid(line, len - pos, first, limits.folding))
			return -400;
		lf = memchr(line, '\n', len - pos);
		n = lf != NULL ? (size_t)(lf - line) : len - pos;
		/* n counts a CR that may be there already. */
		if (n > limit + 1)
			return first ? -414 : -431;
		if (pos + n + (lf != NULL) > max)
			return -431;
		if (lf == NULL)
			break;
		if (n == 0 || line[n - 1] != '\r')
			return -400;
		pos += n + 1;
		if (n == 1) {
			if (!first)
				return (long)pos;
			if (pos > 2)
				return -400; /* a second empty line before the request line */
		}
	}
	*scanned = pos;
	return 0;
}

/* ---- folded lines ---- */

/*
 * Whether proxies might frame messages, or route them, by this field: one that does not
 * unfold it, or drops the line that goes on, would see another request than we do.
 */
static bool
field_is_critical(const char *line)
{
	static const char *const names[] = {"host:", "content-length:", "transfer-encoding:",
	    "connection:", "expect:", "content-type:"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strncasecmp(line, names[i], strlen(names[i])) == 0)
			return true;
	return false;
}

/* Nothing but blanks up to CRLF: others may take it for the end of the head. */
static bool
line_is_blank(const char *line)
{
	return line[strspn(line, " \t")] == '\r';
}

void
http_head_unfold(char *head, size_t n)
{
	char *end = head + n, *line = head, *lf;
	const char *field = NULL; /* none yet: nothing goes on from the request line */

	if (n > 2 && line[0] == '\r')
		line += 2;
	for (; (lf = memchr(line, '\n', (size_t)(end - line))) != NULL && lf + 1 < end;
	     line = lf + 1) {
		if (lf[1] != ' ' && lf[1] != '\t')
			field = lf + 1;
		else if (field != NULL && !field_is_critical(field) && !line_is_blank(lf + 1))
			lf[-1] = lf[0] = ' ';
	}
}
