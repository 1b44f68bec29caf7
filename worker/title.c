/* The worker's title: see title.h. */
#include "worker/title.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "common/title.h"

#define TITLE_PREFIX "greenicorn: "

static struct {
	char *name; /* owned: "[hello:app]"; NULL: not the master's */
	const char *role;
	uint32_t in_flight;
} shown;

void
worker_title_init(int argc, char **argv)
{
	const char *name = strchr(argv[0], '[');

	if (argc != 1 || name == NULL || strncmp(argv[0], TITLE_PREFIX, strlen(TITLE_PREFIX)) != 0)
		return;
	shown.name = xstrdup(name);
	title_init(argc, argv);
}

void
worker_title_set(const char *role, uint32_t in_flight)
{
	char text[512];
	int n;

	if (shown.name == NULL || (shown.role == role && shown.in_flight == in_flight))
		return;
	shown.role = role;
	shown.in_flight = in_flight;
	n = snprintf(text, sizeof(text), TITLE_PREFIX "%s %.400s", role, shown.name);
	if (in_flight > 0)
		snprintf(text + n, sizeof(text) - (size_t)n, " %" PRIu32 " in flight", in_flight);
	title_set(text);
}
