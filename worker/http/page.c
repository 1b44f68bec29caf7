/* Error pages: gunicorn's text (util.write_error), for people who look for its words. */
#include "worker/http/page.h"

#include <stdio.h>
#include <string.h>

#include "worker/http/response.h"

#define MESSAGE_MAX (HTTP_PAGE_MAX / 2)

/* As Python's html.escape. NULL: the character itself, or nothing for a control character. */
static const char *
entity(char c)
{
	switch (c) {
	case '&':
		return "&amp;";
	case '<':
		return "&lt;";
	case '>':
		return "&gt;";
	case '"':
		return "&quot;";
	case '\'':
		return "&#x27;";
	}
	return NULL;
}

static void
escape(char *out, size_t size, const char *in)
{
	size_t n = 0;

	for (; *in != '\0' && n + sizeof("&quot;") < size; in++) {
		const char *e = entity(*in);

		if (e != NULL) {
			memcpy(out + n, e, strlen(e));
			n += strlen(e);
		} else if ((unsigned char)*in >= ' ' && *in != 0x7f)
			out[n++] = *in;
	}
	out[n] = '\0';
}

size_t
http_page(char *buf, const char *phrase, const char *message)
{
	char escaped[MESSAGE_MAX];
	int n;

	escape(escaped, sizeof(escaped), message != NULL ? message : "");
	n = snprintf(buf, HTTP_PAGE_MAX,
	    "<html>\n"
	    "  <head>\n"
	    "    <title>%s</title>\n"
	    "  </head>\n"
	    "  <body>\n"
	    "    <h1><p>%s</p></h1>\n"
	    "    %s\n"
	    "  </body>\n"
	    "</html>\n",
	    phrase, phrase, escaped);
	return n > 0 ? (size_t)n : 0;
}

size_t
http_error_page(char *buf, size_t size, int status, const char *message, const char *server)
{
	char page[HTTP_PAGE_MAX];
	const char *phrase = http_status_phrase(status);
	size_t page_len = http_page(page, phrase, message);
	int n;

	n = snprintf(buf, size,
	    "HTTP/1.1 %d %s\r\n"
	    "%s%s%s"
	    "Date: %s\r\n"
	    "Connection: close\r\n"
	    "Content-Type: text/html\r\n"
	    "Content-Length: %zu\r\n"
	    "\r\n%s",
	    status, phrase, server != NULL ? "Server: " : "", server != NULL ? server : "",
	    server != NULL ? "\r\n" : "", http_date(), page_len, page);
	if (n < 0 || size == 0)
		return 0;
	return (size_t)n < size ? (size_t)n : size - 1;
}
