/*
 * Who took a semaphore last. Semaphores have no owner, but Python makes its locks of them (up to
 * 3.13), and who acquired such a lock last holds it. A small table by address in which a
 * newer entry replaces an older one: what it does not know stays unknown.
 */
#include "worker/green/internal.h"

#define NHOLDERS 1024

static struct holder {
	_Atomic(const void *) object;
	_Atomic pid_t tid;
} holders[NHOLDERS];

static struct holder *
holder_slot(const void *object)
{
	uint64_t h = (uint64_t)(uintptr_t)object * 0x9e3779b97f4a7c15ULL;

	return &holders[h >> 54];
}

/* Relaxed, here and below: the object's own release and acquisition order them. */
void
green_holder_set(const void *object)
{
	struct holder *h = holder_slot(object);

	atomic_store_explicit(&h->object, object, memory_order_relaxed);
	atomic_store_explicit(&h->tid, green_tls_self->identity.tid, memory_order_relaxed);
}

void
green_holder_clear(const void *object)
{
	struct holder *h = holder_slot(object);

	if (atomic_load_explicit(&h->object, memory_order_relaxed) == object)
		atomic_store_explicit(&h->tid, 0, memory_order_relaxed);
}

pid_t
green_holder_of(const void *object)
{
	struct holder *h = holder_slot(object);

	if (atomic_load_explicit(&h->object, memory_order_relaxed) != object)
		return 0;
	return atomic_load_explicit(&h->tid, memory_order_relaxed);
}
