/* One request and its response: see exchange.h. */
#include "worker/exchange.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/log.h"
#include "common/statsd.h"
#include "worker/access_format.h"
#include "worker/access_log.h"
#include "worker/green/executor.h"
#include "worker/green/green.h"
#include "worker/http/handover.h"
#include "worker/in_flight.h"

/* Small, as thousands of requests may be parked at once: heads need not more, bodies get more. */
#define BUFFER_SIZE 2048
#define BUFFER_KEPT 32768 /* in the pool: what needed more was a rare head */
#define BODY_ROOM   16384 /* beyond the head, for a request with a body */
#define POOL_MAX    64

/* What of a body the application did not read is dropped, to keep the connection. */
#define DRAIN_BYTES 65536
#define DRAIN_NS    2000000000LL

/* ---- the pool ---- */

static void
exchange_free(struct exchange *x)
{
	http_request_fini(&x->request);
	http_response_fini(&x->response);
	free(x->app.log_values);
	free(x->buf);
	free(x);
}

static struct exchange *
exchange_new(struct exchange_pool *pool)
{
	const struct exchange_config *config = &pool->config;
	struct exchange *x = calloc(1, sizeof(*x));

	if (x == NULL)
		return NULL;
	http_request_init(&x->request);
	http_response_init(&x->response, -1, config->send_timeout, config->server);
	x->response.copy_files = !config->sendfile;
	x->app.request = &x->request;
	x->app.body = &x->body;
	x->app.response = &x->response;
	x->app.peer = &x->peer;
	x->app.log_names = access_log_names(config->access_log, &x->app.nlog);
	x->size = BUFFER_SIZE;
	x->buf = malloc(x->size);
	if (x->app.nlog > 0)
		x->app.log_values = calloc(x->app.nlog, sizeof(*x->app.log_values));
	if (x->buf == NULL || (x->app.nlog > 0 && x->app.log_values == NULL)) {
		exchange_free(x);
		return NULL;
	}
	return x;
}

struct exchange *
exchange_take(struct exchange_pool *pool, int fd)
{
	struct exchange *x = pool->idle;

	if (x != NULL) {
		pool->idle = x->next;
		pool->nidle--;
	} else if ((x = exchange_new(pool)) == NULL) {
		return NULL;
	}
	x->len = x->scanned = 0;
	x->response.fd = fd;
	x->app.fd = fd;
	return x;
}

void
exchange_give_back(struct exchange_pool *pool, struct exchange *x)
{
	if (pool->nidle >= POOL_MAX || x->size > BUFFER_KEPT) {
		exchange_free(x);
		return;
	}
	x->next = pool->idle;
	pool->idle = x;
	pool->nidle++;
}

void
exchange_pool_fini(struct exchange_pool *pool)
{
	struct exchange *x;

	while ((x = pool->idle) != NULL) {
		pool->idle = x->next;
		exchange_free(x);
	}
	pool->nidle = 0;
}

/* ---- the head ---- */

static int
buffer_grow(struct exchange *x, size_t size)
{
	char *buf = realloc(x->buf, size);

	if (buf == NULL)
		return -1;
	x->buf = buf;
	x->size = size;
	return 0;
}

int
exchange_reserve(struct exchange *x)
{
	return x->len < x->size ? 0 : buffer_grow(x, x->size * 2);
}

static bool
has_body(const struct http_request *request)
{
	return request->chunked || request->content_length > 0;
}

void
exchange_received(const struct exchange_pool *pool, struct exchange *x, size_t n)
{
	if (x->len == 0 && pool->config.wants & ACCESS_WANTS_TIMES)
		x->app.arrived = green_now();
	x->len += n;
}

/* casefold_http_method, for the application: request.is_head remembers what was received. */
static void
method_fold(struct exchange *x)
{
	char *p = x->buf + (x->request.method.p - x->buf);

	for (size_t i = 0; i < x->request.method.n; i++)
		if (p[i] >= 'a' && p[i] <= 'z')
			p[i] = (char)(p[i] - 'a' + 'A');
}

int
exchange_parse(struct exchange_pool *pool, struct exchange *x)
{
	const struct http_limits *limits = &pool->config.limits;
	long n = http_head_scan(x->buf, x->len, &x->scanned, limits);

	if (n == 0)
		return 0; /* the scan bounds how long a head may become */
	if (n < 0) {
		x->request.error = NULL;
		return (int)n;
	}
	x->head = (size_t)n;
	if (limits->folding)
		http_head_unfold(x->buf, x->head);
	n = http_request_parse(&x->request, x->buf, x->head, limits);
	if (n == 0 && has_body(&x->request) && x->size - x->head < BODY_ROOM) {
		if (buffer_grow(x, x->head + BODY_ROOM) == -1)
			return -500;
		n = http_request_parse(
		    &x->request, x->buf, x->head, limits); /* it may have moved */
	}
	if (n == 0 && pool->config.fold_methods)
		method_fold(x);
	if (n == 0 && pool->config.wants & ACCESS_WANTS_TIMES)
		x->app.complete = green_now();
	return n == 0 ? 1 : -(int)n;
}

const char *
exchange_error(const struct exchange *x, int status)
{
	return x->request.error != NULL ? x->request.error : http_status_phrase(status);
}

/* ---- the response ---- */

/* An interim response may only come before the final one. */
static bool
may_continue(void *arg)
{
	const struct http_response *response = arg;

	return !response->head_sent;
}

static void
exchange_begin(const struct exchange_config *config, struct exchange *x, bool keep_alive)
{
	x->input = (struct http_input){
	    .fd = x->app.fd,
	    .buf = x->buf,
	    .size = x->size,
	    .mark = x->head,
	    .pos = x->head,
	    .len = x->len,
	    .timeout = config->body_timeout,
	};
	http_body_init(&x->body, &x->request, &x->input);
	x->body.may_continue = may_continue;
	x->body.arg = &x->response;
	http_response_begin(&x->response, &x->request, keep_alive);
	x->app.relay = NULL;
	x->app.started = green_now();
	if (config->wants & ACCESS_WANTS_ID)
		x->app.request_id = request_id(&x->request, x->made_id);
}

static void
exchange_log(const struct exchange_config *config, struct exchange *x)
{
	access_log_add(config->access_log, &x->app);
	if (statsd_wanted())
		statsd_request(x->response.status, green_now() - x->app.started);
	for (size_t i = 0; i < x->app.nlog; i++) {
		free(x->app.log_values[i]);
		x->app.log_values[i] = NULL;
	}
}

/* PEP 3333 leaves it to the server; a body of another length breaks the framing: RFC 9112
 * section 6.3. */
static void
log_length(const struct exchange *x)
{
	const struct http_request *q = &x->request;

	if (x->response.cut || x->response.cut_short)
		log_warnx("%.*s %.*s: the response is %s than its Content-Length says",
		    (int)q->method.n, q->method.p, (int)q->target.n, q->target.p,
		    x->response.cut ? "longer, and cut," : "shorter");
}

/* What was received beyond this request moves to the front: the next one, whose turn begins now. */
static void
buffer_advance(const struct exchange_config *config, struct exchange *x)
{
	if (config->wants & ACCESS_WANTS_TIMES)
		x->app.arrived = green_now();
	x->len = x->input.len - x->input.pos;
	memmove(x->buf, x->buf + x->input.pos, x->len);
	x->scanned = 0;
}

/* How long this thread has run. */
static int64_t
run_time(void)
{
	struct timespec ts;

	if (green_self() != NULL)
		return green_run_time();
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

struct handling {
	const struct exchange_config *config;
	struct exchange *x;
};

/* On the thread that is to run the application. */
static void
exchange_handle(void *arg)
{
	const struct handling *h = arg;
	const struct exchange_config *config = h->config;
	struct app_exchange *x = &h->x->app;
	bool timed = config->wants & ACCESS_WANTS_RUN_TIME, green = green_self() != NULL;
	int64_t before = timed ? run_time() : 0;

	if (green)
		green_tag_set(x);
	config->ops->handle(config->app, x);
	if (green)
		green_tag_set(NULL);
	if (timed)
		x->ran = run_time() - before;
}

static void
exchange_run(const struct exchange_config *config, struct exchange *x)
{
	struct handling h = {config, x};

	if (config->kind == WORKER_GREEN) {
		exchange_handle(&h);
		return;
	}
	if (config->kind == WORKER_GTHREAD)
		green_tag_set(&x->app);
	executor_call(exchange_handle, &h);
	green_tag_set(NULL);
}

enum exchange_end
exchange_serve(struct exchange_pool *pool, struct exchange *x, bool keep_alive)
{
	const struct exchange_config *config = &pool->config;
	uint32_t ticket = in_flight_begin(&x->request);

	exchange_begin(config, x, keep_alive);
	exchange_run(config, x);
	http_relay_end(x->app.relay);
	if (!x->response.finished)
		(void)http_response_error(
		    &x->response, x->body.error != 0 ? x->body.error : 500, "");
	log_length(x);
	exchange_log(config, x);
	in_flight_end(ticket);
	if (x->response.handed_over)
		return EXCHANGE_GONE;
	if (x->response.failed)
		return EXCHANGE_CLOSE;
	if (x->response.keep_alive &&
	    http_body_drain(&x->body, DRAIN_BYTES, green_deadline(DRAIN_NS))) {
		buffer_advance(config, x);
		return EXCHANGE_NEXT;
	}
	return x->body.done && x->input.pos == x->input.len ? EXCHANGE_CLOSE : EXCHANGE_LINGER;
}
