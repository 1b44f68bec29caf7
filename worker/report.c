/* Snapshots as text: see report.h. Runs on the watchdog's thread, which may wait and allocate. */
#include "worker/report.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/address.h"
#include "common/contract.h"
#include "common/log.h"

#define NS_PER_SEC 1000000000LL

/* Of one dump: stacks told, and requests named for each. */
#define STACKS_MAX 50
#define NAMED_MAX  10

/* Places that have been told; then no more are. */
#define PLACES_MAX 256
/* Reports at once, and how long it takes until one more may be. */
#define REPORTS_MAX      10
#define REPORTS_EVERY_NS (6 * NS_PER_SEC)

/* ---- one green thread in words ---- */

/* Another end, or a name; what somebody else named may hold anything. */
static void
descriptor_print(FILE *out, int fd)
{
	struct address peer = {.len = sizeof(peer.any)};
	char text[ADDRESS_TEXT_SIZE], path[32];
	ssize_t n;

	fprintf(out, "descriptor %d", fd);
	if (getpeername(fd, &peer.any.sa, &peer.len) == 0 && peer.any.sa.sa_family != AF_UNIX) {
		address_format(&peer, text, sizeof(text));
		fprintf(out, " (%s)", strncmp(text, "http://", 7) == 0 ? text + 7 : text);
		return;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, text, sizeof(text));
	if (n <= 0)
		return;
	fputs(" (", out);
	for (ssize_t i = 0; i < n; i++)
		fputc(text[i] >= ' ' && text[i] <= '~' ? text[i] : '?', out);
	fputc(')', out);
}

static void
name_print(FILE *out, const struct snapshot_thread *t)
{
	if (t->request[0] == '\0')
		fputs("a green thread without a request", out);
	else
		fprintf(out, "%s from %s", t->request, t->client);
}

static void
holder_print(FILE *out, const struct snapshot *s, const struct snapshot_thread *t)
{
	bool maybe = t->waiting.on == GREEN_ON_LOCK;

	if (t->holder == 0 || (maybe && t->holder == t->tid))
		return; /* not known; or it waits for somebody's sign */
	fputs(maybe ? ", last taken by " : ", held by ", out);
	if (t->holder == t->tid) {
		fputs("itself", out);
		return;
	}
	for (size_t i = 0; i < s->n; i++) {
		if (s->threads[i].tid == t->holder) {
			name_print(out, &s->threads[i]);
			return;
		}
	}
	fprintf(out, "thread %d", (int)t->holder);
}

static void
waiting_print(FILE *out, const struct snapshot *s, const struct snapshot_thread *t)
{
	static const char *const objects[] = {
	    [GREEN_ON_MUTEX] = "mutex",
	    [GREEN_ON_RWLOCK] = "read-write lock",
	    [GREEN_ON_SEMAPHORE] = "semaphore",
	    [GREEN_ON_CONDITION] = "condition",
	    [GREEN_ON_FUTEX] = "futex",
	    [GREEN_ON_LOCK] = "lock",
	};
	const struct green_waiting *w = &t->waiting;

	switch (w->on) {
	case GREEN_ON_WAKE:
		fputs("waits to be woken", out);
		break;
	case GREEN_ON_TIME:
		fputs("sleeps", out);
		break;
	case GREEN_ON_READ:
	case GREEN_ON_WRITE:
		fprintf(out, "waits to %s ", w->on == GREEN_ON_READ ? "read" : "write");
		descriptor_print(out, (int)w->object);
		break;
	case GREEN_ON_DESCRIPTORS:
		fprintf(out, "waits for one of %zu descriptors", (size_t)w->object);
		break;
	case GREEN_ON_HELPER:
		fputs("waits for a helper thread (a look-up of a name)", out);
		break;
	default:
		fprintf(out, "waits for the %s %#zx", objects[w->on], (size_t)w->object);
		holder_print(out, s, t);
	}
	if (w->deadline != GREEN_NEVER)
		fprintf(
		    out, ", at most %.2f s more", (double)(w->deadline - green_now()) / NS_PER_SEC);
}

static void
thread_print(FILE *out, const struct snapshot *s, const struct snapshot_thread *t)
{
	name_print(out, t);
	if (t->started != 0)
		fprintf(out, " for %.2f s", (double)(green_now() - t->started) / NS_PER_SEC);
	fputs(": ", out);
	if (t->running)
		fputs("computing", out);
	else if (t->parked)
		waiting_print(out, s, t);
	else
		fputs("about to go on", out);
}

/* ---- a text that is being made ---- */

struct text {
	FILE *out; /* owned; NULL: no memory */
	char *p;   /* owned */
	size_t n;
};

static bool
text_open(struct text *t)
{
	*t = (struct text){0};
	t->out = open_memstream(&t->p, &t->n);
	return t->out != NULL;
}

/* Log it below a line. */
static void
text_log(struct text *t, enum log_level level, const char *format, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, format);
	vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	if (fclose(t->out) == 0)
		log_text(level, line, t->p, t->n);
	free(t->p);
}

static void
stack_print(FILE *out, const struct snapshot *s, unsigned stack)
{
	if (stack == SNAPSHOT_NO_STACK)
		fputs("  (its stack was not read)\n", out);
	else
		fwrite(s->text + s->stacks[stack].at, 1, s->stacks[stack].n, out);
}

/* ---- all of them ---- */

/* Requests before others, the oldest first. */
static int
compare_ages(const void *a, const void *b)
{
	const struct snapshot_thread *x = a, *y = b;

	if ((x->started == 0) != (y->started == 0))
		return x->started == 0 ? 1 : -1;
	return (x->started > y->started) - (x->started < y->started);
}

/* Those with this stack, the first few by name, then the stack. */
static void
group_report(const struct snapshot *s, unsigned stack, enum log_level level)
{
	size_t n = 0;
	struct text text;

	if (!text_open(&text))
		return;
	for (size_t i = 0; i < s->n; i++) {
		if (s->threads[i].stack != stack || n++ >= NAMED_MAX)
			continue;
		fputs("  ", text.out);
		thread_print(text.out, s, &s->threads[i]);
		fputc('\n', text.out);
	}
	if (n > NAMED_MAX)
		fprintf(text.out, "  and %zu more\n", n - NAMED_MAX);
	stack_print(text.out, s, stack);
	text_log(&text, level, "%zu with this stack:", n);
}

/*
 * The running one's first, unless it has been told, then as they come; those whose stack is
 * not known last.
 */
static void
groups_report(const struct snapshot *s, enum log_level level, const struct snapshot_thread *told)
{
	size_t members[SNAPSHOT_STACKS + 1] = {0};

	for (size_t i = 0; i < s->n; i++)
		members[s->threads[i].stack] += &s->threads[i] != told;
	for (unsigned i = 0; i < s->nstacks && i < STACKS_MAX; i++)
		if (members[i] > 0)
			group_report(s, i, level);
	if (s->nstacks > STACKS_MAX)
		log_warnx("and %zu more stacks", s->nstacks - STACKS_MAX);
	if (members[SNAPSHOT_NO_STACK] > 0)
		group_report(s, SNAPSHOT_NO_STACK, level);
	if (s->left_out > 0)
		log_warnx("and %zu more green threads", s->left_out);
}

static size_t
requests_count(const struct snapshot *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->n; i++)
		n += s->threads[i].started != 0;
	return n;
}

/* Who runs is the first, or nobody does: NULL. */
static const struct snapshot_thread *
running_report(const struct snapshot *s)
{
	struct text text;

	if (s->n == 0 || !s->threads[0].running) {
		log_criticalx("Worker timeout (pid:%d): no request was running", (int)getpid());
		return NULL;
	}
	if (!text_open(&text))
		return NULL;
	stack_print(text.out, s, s->threads[0].stack);
	if (s->threads[0].started == 0)
		text_log(&text, LOG_LEVEL_CRITICAL,
		    "Worker timeout (pid:%d): it was running this, and no request:", (int)getpid());
	else
		text_log(&text, LOG_LEVEL_CRITICAL,
		    "Worker timeout (pid:%d): it was running %s from %s for %.2f s:", (int)getpid(),
		    s->threads[0].request, s->threads[0].client,
		    (double)(green_now() - s->threads[0].started) / NS_PER_SEC);
	return &s->threads[0];
}

void
report_dump(const struct snapshot *s, bool aborting)
{
	enum log_level level = aborting ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING;
	const struct snapshot_thread *told = NULL;
	struct text text;
	size_t n;

	if (s == NULL) {
		log_errorx(
		    "No stacks (pid:%d): the worker's thread takes no signals", (int)getpid());
		return;
	}
	if (aborting)
		told = running_report(s);
	if (s->n > 1)
		qsort(s->threads + s->threads[0].running, s->n - s->threads[0].running,
		    sizeof(*s->threads), compare_ages);
	n = requests_count(s);
	if (!text_open(&text))
		return;
	text_log(&text, level,
	    "Stacks (pid:%d): %zu request%s in flight, %zu more wait for a green thread",
	    (int)getpid(), n, n == 1 ? "" : "s", s->queued);
	groups_report(s, level, told);
}

void
report_deadlock(const struct snapshot *s)
{
	struct text text;

	if (!text_open(&text))
		return;
	for (size_t i = 0; i < s->n; i++) {
		fputs("  ", text.out);
		thread_print(text.out, s, &s->threads[i]);
		fputc('\n', text.out);
		stack_print(text.out, s, s->threads[i].stack);
	}
	text_log(&text, LOG_LEVEL_ERROR,
	    "Deadlock (pid:%d): %zu green thread%s for locks of %s:", (int)getpid(), s->n,
	    s->n == 1 ? " waits" : "s wait", s->n == 1 ? "its own" : "each other");
}

/* ---- blocking ---- */

static struct {
	uint64_t places[PLACES_MAX]; /* hashes */
	size_t nplaces;
	int allowance; /* reports that may be written now */
	int64_t refilled_at;
} blocked = {.allowance = REPORTS_MAX};

bool
report_blocked_allowed(void)
{
	int64_t now = green_now(), more = (now - blocked.refilled_at) / REPORTS_EVERY_NS;

	if (more > 0) {
		blocked.allowance = more > REPORTS_MAX - blocked.allowance
					? REPORTS_MAX
					: blocked.allowance + (int)more;
		blocked.refilled_at = now;
	}
	return blocked.allowance > 0 && blocked.nplaces < PLACES_MAX;
}

/* Python's own modules and installed packages are not where the application does it. */
static bool
is_library(const char *line)
{
	static const char *const marks[] = {
	    "/site-packages/", "/dist-packages/", "/lib/python3", "File \"<"};

	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
		if (strstr(line, marks[i]) != NULL)
			return true;
	return false;
}

/*
 * The innermost line of the application's own code, without the blanks before it; of any code, when
 * there is none.
 */
static void
place_find(const struct snapshot *s, unsigned stack, char *place, size_t size)
{
	const char *p = s->text + s->stacks[stack].at, *end = p + s->stacks[stack].n, *eol;
	char line[512];

	snprintf(place, size, "unknown code");
	for (bool found = false; p < end; p = eol + 1) {
		eol = memchr(p, '\n', (size_t)(end - p));
		if (eol == NULL)
			return;
		p += strspn(p, " ");
		snprintf(line, sizeof(line), "%.*s", (int)(eol - p), p);
		if (strncmp(line, "File ", 5) != 0)
			continue;
		if (!found || !is_library(line))
			snprintf(place, size, "%s", line);
		if (!is_library(line))
			return;
		found = true;
	}
}

static bool
place_is_new(const char *place)
{
	uint64_t h = 0xcbf29ce484222325ULL; /* FNV-1a */

	for (; *place != '\0'; place++)
		h = (h ^ (unsigned char)*place) * 0x100000001b3ULL;
	for (size_t i = 0; i < blocked.nplaces; i++)
		if (blocked.places[i] == h)
			return false;
	blocked.places[blocked.nplaces++] = h;
	return true;
}

void
report_blocked(const struct snapshot *s, int64_t ns, struct blocked_report *told)
{
	const struct snapshot_thread *t = &s->threads[0];
	struct text text;

	if (t->stack == SNAPSHOT_NO_STACK)
		snprintf(told->place, sizeof(told->place), "code whose stack was not read");
	else
		place_find(s, t->stack, told->place, sizeof(told->place));
	if (!place_is_new(told->place) || !text_open(&text))
		return;
	blocked.allowance--;
	snprintf(told->request, sizeof(told->request), "%s",
	    t->request[0] != '\0' ? t->request : "A green thread without a request");
	stack_print(text.out, s, t->stack);
	text_log(&text, LOG_LEVEL_WARNING,
	    "%s lets no other request run, for %.2f s so far (blocking_threshold): %s",
	    told->request, (double)ns / NS_PER_SEC, told->place);
}

void
report_blocked_end(const struct blocked_report *told, int64_t ns)
{
	log_warnx("%s let no other request run for %.2f s in all: %s", told->request,
	    (double)ns / NS_PER_SEC, told->place);
}
