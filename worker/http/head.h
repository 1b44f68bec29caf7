/* The limits as they are applied: for head.c and request.c only. */
#ifndef HTTP_HEAD_H
#define HTTP_HEAD_H

#include "worker/http/request.h"

void http_limits_clamp(const struct http_limits *, struct http_limits *out);

#endif
