/*
 * Looking at green threads from outside: who there is, who runs, what the others wait for. Some
 * of it is called from a signal handler on the loop's OS thread, which may have interrupted
 * anything: the list is always whole, nothing is allocated or locked.
 */
#include <linux/futex.h>
#include <sys/syscall.h>

#include "worker/green/internal.h"
#include "worker/green/real.h"

struct green_all green_all = LIST_HEAD_INITIALIZER(green_all);
struct green *green_current;
_Atomic uint64_t green_turns;
_Atomic uint64_t green_turn_deferred;
_Atomic(_Atomic uint32_t *) green_kick_wanted;

/* Removing is one store, LIST_REMOVE's; here the new one must point on before it is pointed to. */
void
green_all_add(struct green *g)
{
	g->every.le_next = LIST_FIRST(&green_all);
	atomic_signal_fence(memory_order_seq_cst);
	LIST_INSERT_HEAD(&green_all, g, every);
}

void
green_tag_set(void *tag)
{
	if (green_current == NULL)
		return;
	green_current->tag = tag;
	green_turn_add(2);
}

void *
green_tag(void)
{
	return green_tls_self != NULL ? green_tls_self->tag : NULL;
}

/* Who has the object that g waits for, as the thread number that locks store. */
static pid_t
holder_of(const struct green_waiting *w)
{
	switch (w->on) {
	case GREEN_ON_MUTEX:
		return ((const pthread_mutex_t *)w->object)->__data.__owner;
	case GREEN_ON_RWLOCK: /* readers are only counted */
		return ((const pthread_rwlock_t *)w->object)->__data.__cur_writer;
	case GREEN_ON_LOCK:
		return green_holder_of((const void *)w->object);
	default:
		return 0;
	}
}

struct green_view
green_look(struct green *g)
{
	struct green_view view = {
	    .green = g,
	    .tag = g->tag,
	    .running = g == green_current,
	    .parked = atomic_load(&g->state) == GREEN_PARKED,
	    .tid = g->identity.tid,
	};

	if (!view.running && view.parked) {
		view.waiting = g->waiting;
		if (g->lock != NULL && g->waiting.on >= GREEN_ON_MUTEX) {
			view.waiting.on = GREEN_ON_LOCK;
			view.waiting.object = (uintptr_t)g->lock;
		}
		view.holder = holder_of(&view.waiting);
	}
	return view;
}

void
green_each(void (*fn)(const struct green_view *, void *), void *arg)
{
	struct green *current = green_current, *g;
	struct green_view view;

	if (current != NULL) {
		view = green_look(current);
		fn(&view, arg);
	}
	LIST_FOREACH (g, &green_all, every) {
		if (g == current)
			continue;
		view = green_look(g);
		fn(&view, arg);
	}
}

/* A function of its own: the compiler may keep the address of thread-local memory within one. */
static __attribute__((noinline)) void
call_as_worn(void (*fn)(void *), void *arg)
{
	struct green *self = green_tls_self;

	green_tls_self = NULL;
	fn(arg);
	green_tls_self = self;
}

void
green_wear(struct green *g, void (*fn)(void *), void *arg)
{
	void *mine = context_thread_pointer();

	context_wear(g->identity.tp);
	call_as_worn(fn, arg);
	context_wear(mine);
}

uint64_t
green_turn(void)
{
	return atomic_load_explicit(&green_turns, memory_order_relaxed);
}

void
green_turn_defer(uint64_t turn)
{
	atomic_store_explicit(&green_turn_deferred, turn, memory_order_relaxed);
}

/* Not by the hook of syscall(3), which looks for green threads that wait there, with a lock. */
void
green_kick(_Atomic uint32_t *word)
{
	atomic_store(word, 1);
	(void)REAL(syscall)(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void
green_kick_wait(_Atomic uint32_t *word, int64_t ns)
{
	struct timespec ts = {ns / 1000000000, ns % 1000000000};

	(void)REAL(syscall)(SYS_futex, word, FUTEX_WAIT_PRIVATE, 0, &ts, NULL, 0);
}

void
green_kick_at_turn(_Atomic uint32_t *word)
{
	atomic_store(&green_kick_wanted, word);
}

void
green_kick_due(void)
{
	_Atomic uint32_t *word = atomic_exchange(&green_kick_wanted, NULL);

	if (word != NULL)
		green_kick(word);
}
