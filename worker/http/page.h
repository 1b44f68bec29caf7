/* The HTML page of an error response: for response.c only. */
#ifndef HTTP_PAGE_H
#define HTTP_PAGE_H

#include <stddef.h>

#define HTTP_PAGE_MAX 2048

/* Written to buf, which has HTTP_PAGE_MAX bytes; the message is cut to fit. Returns its length. */
size_t http_page(char *buf, const char *phrase, const char *message);

#endif
