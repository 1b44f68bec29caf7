/* Taking stock of the green threads: see snapshot.h. */
#include "worker/snapshot.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "worker/app/app.h"

#define TEXT_SIZE    (1 << 20)
#define THREADS_MAX  32768
#define THREADS_SIZE (THREADS_MAX * sizeof(struct snapshot_thread))

int
snapshot_init(struct snapshot *s)
{
	int saved;

	*s = (struct snapshot){.fd = memfd_create("greenicorn-stacks", MFD_CLOEXEC)};
	if (s->fd == -1)
		return -1;
	s->text = mmap(NULL, TEXT_SIZE, PROT_READ, MAP_SHARED, s->fd, 0);
	s->threads = mmap(NULL, THREADS_SIZE, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (s->text != MAP_FAILED && s->threads != MAP_FAILED && ftruncate(s->fd, TEXT_SIZE) == 0)
		return 0;
	saved = errno;
	snapshot_fini(s);
	errno = saved;
	return -1;
}

void
snapshot_fini(struct snapshot *s)
{
	if (s->text != MAP_FAILED)
		munmap(s->text, TEXT_SIZE);
	if (s->threads != MAP_FAILED)
		munmap(s->threads, THREADS_SIZE);
	close(s->fd);
}

void
snapshot_clear(struct snapshot *s)
{
	/* cut short, the file gives its pages back; a write that goes wrong then ends in SIGBUS */
	if (ftruncate(s->fd, 0) == 0)
		(void)ftruncate(s->fd, TEXT_SIZE);
	(void)madvise(s->threads, THREADS_SIZE, MADV_DONTNEED);
	s->n = s->left_out = s->nstacks = s->used = 0;
}

/* ---- a stack that is just being changed may be broken: the fault ends the reading ---- */

static struct {
	sigjmp_buf back;
	volatile sig_atomic_t armed;
	pid_t tid;
	struct sigaction before[2];
} guard;

static const int guard_signals[2] = {SIGSEGV, SIGBUS};

/* Somebody else's fault comes again when we return, and goes to who had the signal. */
static void
on_fault(int sig)
{
	if (guard.armed && gettid() == guard.tid)
		siglongjmp(guard.back, 1);
	for (int i = 0; i < 2; i++)
		if (guard_signals[i] == sig)
			(void)sigaction(sig, &guard.before[i], NULL);
}

static void
guard_install(void)
{
	struct sigaction action = {.sa_handler = on_fault, .sa_flags = SA_ONSTACK};

	guard.tid = gettid();
	for (int i = 0; i < 2; i++)
		(void)sigaction(guard_signals[i], &action, &guard.before[i]);
}

static void
guard_remove(void)
{
	for (int i = 0; i < 2; i++)
		(void)sigaction(guard_signals[i], &guard.before[i], NULL);
}

/* As the green thread whose stack it is. */
static void
write_guarded(void *arg)
{
	struct snapshot *s = arg;

	if (sigsetjmp(guard.back, 1) == 0) {
		guard.armed = 1;
		s->write_stack();
	} else {
		s->unreadable = true;
	}
	guard.armed = 0;
}

/* ---- stacks ---- */

static uint64_t
hash_of(const char *p, size_t n)
{
	uint64_t h = 0xcbf29ce484222325ULL; /* FNV-1a */

	for (size_t i = 0; i < n; i++)
		h = (h ^ (unsigned char)p[i]) * 0x100000001b3ULL;
	return h;
}

/* The n bytes behind what is used are a stack: the same as another, or one more. */
static unsigned
stack_intern(struct snapshot *s, size_t n)
{
	const char *text = s->text + s->used;
	uint64_t hash = hash_of(text, n);

	for (unsigned i = 0; i < s->nstacks; i++) {
		const struct snapshot_stack *k = &s->stacks[i];

		if (k->hash == hash && k->n == n && memcmp(s->text + k->at, text, n) == 0)
			return i;
	}
	if (s->nstacks == SNAPSHOT_STACKS)
		return SNAPSHOT_NO_STACK;
	s->stacks[s->nstacks] = (struct snapshot_stack){.at = s->used, .n = n, .hash = hash};
	s->used += n;
	return (unsigned)s->nstacks++;
}

static unsigned
stack_take(struct snapshot *s, struct green *g)
{
	off_t end;

	if (s->write_stack == NULL || s->unreadable || s->used >= TEXT_SIZE / 2 ||
	    green_now() > s->deadline || lseek(s->fd, (off_t)s->used, SEEK_SET) == -1)
		return SNAPSHOT_NO_STACK;
	green_wear(g, write_guarded, s);
	end = lseek(s->fd, 0, SEEK_CUR);
	if (s->unreadable || end <= (off_t)s->used || end > TEXT_SIZE)
		return SNAPSHOT_NO_STACK;
	return stack_intern(s, (size_t)end - s->used);
}

/* ---- threads ---- */

/* Append what is printable, as far as there is room: for a log that nobody shall forge. */
static size_t
text_add(char *buf, size_t size, size_t used, const char *p, size_t n)
{
	for (size_t i = 0; i < n && used + 1 < size; i++)
		buf[used++] = p[i] > ' ' && p[i] <= '~' ? p[i] : '?';
	buf[used] = '\0';
	return used;
}

/* Not the query, which may hold secrets. */
static void
request_describe(struct snapshot_thread *t, const struct app_exchange *x)
{
	const struct http_request *q = x->request;
	const struct http_str *path = q->path.n > 0 ? &q->path : &q->target;
	size_t n = text_add(t->request, sizeof(t->request) - 1, 0, q->method.p, q->method.n);

	t->request[n++] = ' ';
	n = text_add(t->request, sizeof(t->request), n, path->p, path->n);
	if (n + 1 == sizeof(t->request))
		memcpy(t->request + n - 3, "...", 3);
	t->started = x->started;
	if (x->peer->remote_addr[0] == '\0') {
		(void)text_add(t->client, sizeof(t->client), 0, "unix:", 5);
		return;
	}
	n = text_add(
	    t->client, sizeof(t->client), 0, x->peer->remote_addr, strlen(x->peer->remote_addr));
	n = text_add(t->client, sizeof(t->client), n, ":", 1);
	(void)text_add(
	    t->client, sizeof(t->client), n, x->peer->remote_port, strlen(x->peer->remote_port));
}

static void
thread_take(const struct green_view *v, void *arg)
{
	struct snapshot *s = arg;
	struct snapshot_thread *t;

	if (!s->wants(v))
		return;
	if (s->n == THREADS_MAX) {
		s->left_out++;
		return;
	}
	t = &s->threads[s->n++];
	*t = (struct snapshot_thread){
	    .green = v->green,
	    .running = v->running,
	    .parked = v->parked,
	    .waiting = v->waiting,
	    .tid = v->tid,
	    .holder = v->holder,
	};
	if (v->tag != NULL)
		request_describe(t, v->tag);
	t->stack = stack_take(s, v->green);
}

void
snapshot_take(struct snapshot *s)
{
	struct green_stats stats;

	green_get_stats(&stats);
	s->queued = stats.queued;
	guard_install();
	green_each(thread_take, s);
	guard_remove();
}
