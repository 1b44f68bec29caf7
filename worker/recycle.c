/* The limits on a worker's life: see recycle.h. */
#include "worker/recycle.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

#include "worker/green/green.h"

#define NS_PER_SEC INT64_C(1000000000)

uint64_t
recycle_requests(const struct settings *s)
{
	uint64_t allowed = (uint64_t)s->max_requests, random = 0;

	if (allowed == 0 || s->max_requests_jitter == 0)
		return allowed;
	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) == -1)
		random = (uint64_t)green_now() ^ (uint64_t)getpid() << 16;
	return allowed + random % ((uint64_t)s->max_requests_jitter + 1);
}

/* proc(5), statm: the second number is the resident set, in pages. 0 when it cannot be had. */
static int64_t
resident_bytes(void)
{
	char text[128];
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	ssize_t n;
	long pages;

	if (fd == -1)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	return sscanf(text, "%*d %ld", &pages) == 1 ? pages * sysconf(_SC_PAGESIZE) : 0;
}

bool
recycle_due(const struct settings *s, int64_t age, char *why, size_t size)
{
	int64_t bytes;

	if (s->max_worker_age > 0 && age >= s->max_worker_age * NS_PER_SEC) {
		snprintf(why, size, "Autorestarting worker after %d s.", s->max_worker_age);
		return true;
	}
	if (s->max_worker_memory == 0 || (bytes = resident_bytes()) <= s->max_worker_memory)
		return false;
	snprintf(why, size, "Autorestarting worker at %" PRId64 " MB of memory.", bytes >> 20);
	return true;
}
