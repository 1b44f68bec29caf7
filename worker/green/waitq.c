/*
 * Waiting by address: green threads (and OS threads, for conditions) that wait for a semaphore,
 * mutex, condition or lock in memory are queued under its address; the hooks of the releasing calls
 * look here, on whatever OS thread they run.
 *
 * Who waits queues first and then tries once more; who releases does so first and
 * then looks at the queue. With a full fence on both sides one of them sees the
 * other. Only the address is used: the object may be gone when waitq_wake looks.
 */
#include <linux/futex.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "worker/green/internal.h"
#include "worker/green/real.h"

#define NBUCKETS 256

static struct bucket {
	pthread_mutex_t lock; /* taken by the real calls only */
	_Atomic unsigned n;
	TAILQ_HEAD(, waiter) waiters;
} buckets[NBUCKETS];

__attribute__((constructor(101))) static void
buckets_init(void)
{
	for (int i = 0; i < NBUCKETS; i++) {
		pthread_mutex_init(&buckets[i].lock, NULL);
		atomic_store(&buckets[i].n, 0);
		TAILQ_INIT(&buckets[i].waiters);
	}
}

/* Another thread may have held a lock at the fork, and nobody waits here any more. */
void
waitq_after_fork(void)
{
	buckets_init();
}

static struct bucket *
bucket_of(const void *addr)
{
	uint64_t h = (uint64_t)(uintptr_t)addr * 0x9e3779b97f4a7c15ULL;

	return &buckets[h >> 56];
}

void
waitq_add(struct waiter *w, const void *addr)
{
	struct bucket *b = bucket_of(addr);

	w->addr = addr;
	w->green = green_tls_self;
	w->queued = 1;
	REAL(pthread_mutex_lock)(&b->lock);
	TAILQ_INSERT_TAIL(&b->waiters, w, link);
	atomic_fetch_add(&b->n, 1);
	REAL(pthread_mutex_unlock)(&b->lock);
	atomic_thread_fence(memory_order_seq_cst);
}

static void
dequeue(struct bucket *b, struct waiter *w)
{
	TAILQ_REMOVE(&b->waiters, w, link);
	atomic_fetch_sub(&b->n, 1);
	w->queued = 0;
}

bool
waitq_remove(struct waiter *w)
{
	struct bucket *b = bucket_of(w->addr);
	bool woken;

	REAL(pthread_mutex_lock)(&b->lock);
	woken = !w->queued;
	if (!woken)
		dequeue(b, w);
	REAL(pthread_mutex_unlock)(&b->lock);
	return woken;
}

void
waitq_wake(const void *addr, int n)
{
	struct bucket *b = bucket_of(addr);
	struct waiter *w, *next;

	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&b->n, memory_order_relaxed) == 0)
		return;
	REAL(pthread_mutex_lock)(&b->lock);
	for (w = TAILQ_FIRST(&b->waiters); w != NULL && n > 0; w = next) {
		next = TAILQ_NEXT(w, link);
		if (w->addr != addr)
			continue;
		dequeue(b, w);
		n--;
		/* under the lock: w is on its stack until it has removed itself */
		if (w->green != NULL)
			green_wake(w->green);
		else
			(void)REAL(syscall)(
			    SYS_futex, &w->queued, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	}
	REAL(pthread_mutex_unlock)(&b->lock);
}
