/*
 * The end of a head, and its limits, before anything is understood of it. Only
 * CRLF ends a line: who takes a bare LF or CR for one sees other requests than a
 * proxy does (RFC 9112 section 2.2 allows either; it is safe to allow neither).
 */
#include <string.h>

#include "worker/http/chars.h"
#include "worker/http/head.h"

/* gunicorn's MAX_REQUEST_LINE, MAX_HEADERS, DEFAULT_MAX_HEADERFIELD_SIZE. */
#define LINE_MAX_BYTES     8190
#define FIELDS_MAX         32768
#define FIELD_SIZE_DEFAULT 8190
/* Ours: what one setting may ask for, and what all fields may have together beyond one. */
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
	if (out->field_size == 0)
		out->field_size = FIELD_SIZE_DEFAULT;
	if (out->field_size > FIELD_SIZE_MAX)
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
line_start_valid(const char *line, size_t n, bool request_line)
{
	if (line[0] == '\r')
		return n < 2 || line[1] == '\n';
	if (line[0] == '\n')
		return false;
	/* A request line without a method is parse's to refuse; a TLS handshake is not waited for.
	 */
	return (http_chars[(unsigned char)line[0]] & HTTP_CHAR_TOKEN) ||
	       (request_line && line[0] == ' ');
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

		if (!line_start_valid(line, len - pos, first))
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
