/* The master's metrics: see metrics.h. */
#include "master/metrics.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "common/statsd.h"
#include "master/internal.h"

#define BACKLOG_EVERY BACKOFF_SECOND

static size_t
workers_count(const struct master *m)
{
	size_t n = 0;

	for (size_t i = 0; i < m->n; i++)
		n += m->children[i].state != CHILD_STOPPING;
	return n;
}

/* Of a listening socket Linux says there how many connections nobody has accepted yet. */
static uint64_t
backlog_sum(const struct generation *g)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < g->nbindings; i++) {
		struct tcp_info info = {0};
		socklen_t size = sizeof(info);

		if (getsockopt(g->bindings[i].listener.fd, IPPROTO_TCP, TCP_INFO, &info, &size) ==
		    0)
			sum += info.tcpi_unacked;
	}
	return sum;
}

static uint64_t
backlog_update(struct master *m)
{
	uint64_t now = scoreboard_now();

	if (!m->current->settings.enable_backlog_metric || m->stopping)
		return CHILD_NEVER;
	if (now >= m->metrics.backlog_at + BACKLOG_EVERY) {
		m->metrics.backlog_at = now;
		statsd_histogram("gunicorn.backlog", backlog_sum(m->current));
	}
	return m->metrics.backlog_at + BACKLOG_EVERY;
}

uint64_t
metrics_update(struct master *m)
{
	size_t workers;
	uint64_t wake;

	if (!statsd_wanted())
		return CHILD_NEVER;
	workers = workers_count(m);
	if (workers != m->metrics.workers)
		statsd_gauge("gunicorn.workers", workers);
	m->metrics.workers = workers;
	wake = backlog_update(m);
	statsd_flush();
	return wake;
}
