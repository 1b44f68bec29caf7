/* The request line and what it names: for request.c only. */
#ifndef HTTP_LINE_H
#define HTTP_LINE_H

#include "worker/http/request.h"

/* Note why a request is refused; returns the status. */
int http_refuse(struct http_request *, int status, const char *why);

/* Take a request line (without CRLF) apart. 0, or the status to refuse it with. */
int http_line_parse(struct http_request *, const char *line, size_t n, const struct http_limits *);

/* Whether it is host or host:port, and the host is not empty (RFC 3986 section 3.2, no userinfo).
 */
bool http_authority_valid(struct http_str, bool need_port);

#endif
