/*
 * A limit on tasks or memory: see crowd.h. The kernel does not say which one it was (clone(2):
 * EAGAIN), so the line has them all.
 */
#include "worker/crowd.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "common/log.h"
#include "worker/green/green.h"

#define QUIET_NS (60 * INT64_C(1000000000))

/* A limit as its file has it, "unknown" when there is none. */
struct limit_text {
	char s[32];
};

static struct limit_text
limit_in(const char *path)
{
	struct limit_text text = {"unknown"};
	FILE *f = fopen(path, "re");

	if (f == NULL)
		return text;
	if (fscanf(f, "%31s", text.s) != 1)
		strcpy(text.s, "unknown");
	fclose(f);
	return text;
}

/* Of the control group that we are in: cgroups(7), version 2, or the pids controller of version 1.
 */
static struct limit_text
limit_of_group(void)
{
	struct limit_text text = {"unknown"};
	bool found = false;
	char line[4096], path[sizeof(line) + 64], *at;
	FILE *f = fopen("/proc/self/cgroup", "re");

	while (f != NULL && !found && fgets(line, sizeof(line), f) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, "0::", 3) == 0)
			snprintf(path, sizeof(path), "/sys/fs/cgroup%s/pids.max", line + 3);
		else if ((at = strstr(line, ":pids:")) != NULL)
			snprintf(path, sizeof(path), "/sys/fs/cgroup/pids%s/pids.max", at + 6);
		else
			continue;
		text = limit_in(path);
		found = strcmp(text.s, "unknown") != 0;
	}
	if (f != NULL)
		fclose(f);
	return text;
}

static struct limit_text
limit_of_user(void)
{
	struct limit_text text = {"unlimited"};
	struct rlimit r;

	if (getrlimit(RLIMIT_NPROC, &r) == 0 && r.rlim_cur != RLIM_INFINITY)
		snprintf(text.s, sizeof(text.s), "%ju", (uintmax_t)r.rlim_cur);
	return text;
}

static void
crowd_report(const struct green_stats *s)
{
	char limits[256];

	if (s->refused_error == EAGAIN)
		snprintf(limits, sizeof(limits),
		    "ulimit -u is %s, the control group's pids.max %s, kernel.threads-max %s",
		    limit_of_user().s, limit_of_group().s,
		    limit_in("/proc/sys/kernel/threads-max").s);
	else
		snprintf(limits, sizeof(limits), "vm.max_map_count is %s",
		    limit_in("/proc/sys/vm/max_map_count").s);
	log_warnx("Requests wait for others to end: no more threads than %zu, %s (%s); %zu wait",
	    s->threads, strerror(s->refused_error), limits, s->queued);
}

void
crowd_watch(void)
{
	static uint64_t seen;
	static int64_t quiet_until;
	struct green_stats s;
	int64_t now;

	green_get_stats(&s);
	if (s.refused == seen)
		return;
	seen = s.refused;
	now = green_now();
	if (now < quiet_until)
		return;
	quiet_until = now + QUIET_NS;
	crowd_report(&s);
}
