/*
 * Giving a connection's socket to the application, which speaks a protocol of its own
 * on it from there on (a WebSocket): what gunicorn.socket is for.
 */
#ifndef HTTP_HANDOVER_H
#define HTTP_HANDOVER_H

struct http_input;
struct http_relay;
struct http_response;

/*
 * Another descriptor of the connection, to look at it; a forked child does not get it. The
 * caller's. -1 with errno.
 */
int http_handover_look(int fd);

/*
 * From here on the connection is that descriptor (of http_handover_look) and nothing of the
 * response leaves any more, but for a "101 Switching Protocols" that waits to be sent. What the
 * client has sent beyond what was read as HTTP comes first: the descriptor becomes one
 * end of a pair then, with a *relay behind the other end, which has to be ended after
 * the request. The input's own descriptor is -1 afterwards, or still to be closed. From any
 * OS thread, while nobody else uses the two. 0, or -1 with errno: nothing has changed.
 */
int http_handover(
    struct http_response *, struct http_input *, int given, struct http_relay **relay);

/* On a green thread: send what the application has sent, close. NULL is nothing to do. */
void http_relay_end(struct http_relay *);

#endif
