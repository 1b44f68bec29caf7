/*
 * A runtime's own locks: which one a green thread is acquiring, and who took it last and has not
 * released it since. A small table by address in which a newer entry replaces an older one: what
 * it does not know stays unknown.
 */
#include "worker/green/internal.h"

#define NHOLDERS 1024

static struct holder {
	_Atomic(const void *) lock;
	_Atomic pid_t tid;
} holders[NHOLDERS];

static struct holder *
holder_slot(const void *lock)
{
	uint64_t h = (uint64_t)(uintptr_t)lock * 0x9e3779b97f4a7c15ULL;

	return &holders[h >> 54];
}

void
green_lock_begin(const void *lock)
{
	struct green *g = green_tls_self;

	if (g != NULL)
		g->lock = lock;
}

/* Relaxed, here and below: the lock itself orders who takes and releases it. */
void
green_lock_end(const void *lock, bool taken)
{
	struct green *g = green_tls_self;
	struct holder *h = holder_slot(lock);

	if (g == NULL)
		return;
	g->lock = NULL;
	if (!taken)
		return;
	atomic_store_explicit(&h->lock, lock, memory_order_relaxed);
	atomic_store_explicit(&h->tid, g->identity.tid, memory_order_relaxed);
}

void
green_lock_released(const void *lock)
{
	struct holder *h = holder_slot(lock);

	if (atomic_load_explicit(&h->lock, memory_order_relaxed) == lock)
		atomic_store_explicit(&h->tid, 0, memory_order_relaxed);
}

pid_t
green_holder_of(const void *lock)
{
	struct holder *h = holder_slot(lock);

	if (atomic_load_explicit(&h->lock, memory_order_relaxed) != lock)
		return 0;
	return atomic_load_explicit(&h->tid, memory_order_relaxed);
}
