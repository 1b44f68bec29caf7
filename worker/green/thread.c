/*
 * The identity of a green thread: a pthread created on the green thread's own
 * stack, whose kernel half records who it is and sleeps in its first frame.
 * The loop's OS thread runs the green thread below that frame, with that
 * pthread's thread pointer (DESIGN section 2).
 *
 *	high   thread control block, thread-local storage (glibc puts them here)
 *	       start_thread, half_main: the kernel half sleeps here
 *	entry  the green thread's frames, down to
 *	       ROOM: the kernel half's stack pointer is here while it sleeps
 *	low    the guard
 *
 * The kernel half sleeps with its stack pointer at the far end, where it
 * stores nothing: should a signal that cannot be blocked (glibc's setuid
 * broadcast) run on it, its frame lies there. So the first frames share a page with
 * the thread control block.
 */
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "worker/green/internal.h"
#include "worker/green/real.h"

/*
 * Below the stack, never touched: as much as the kernel keeps below a process's own stack, since a
 * function with a big array may step over a single page (stack_guard_gap).
 */
#define GUARD (1UL << 20)
#define PAGE  4096
#define ROOM  (16 * 1024)
/* Beside the kernel half's own frame: the red zone of x86-64's ABI, and some. */
#define BESIDE 256
/* What a pooled thread keeps of its stack; deeper pages are given back. */
#define KEEP (32 * 1024)

__thread struct green *green_tls_self;
__thread bool green_tls_loop;
__thread bool green_tls_vforked;

/*
 * Store where the stack ends here, sleep with the stack pointer at `aside` until *half is
 * HALF_RELEASED, and come back. The stack below is another's from HALF_ASLEEP on: nothing is
 * called or stored there.
 */
static inline void
half_sleep(_Atomic uint32_t *half, char *aside, char **end)
{
#ifdef __x86_64__
	register long timeout __asm__("r10") = 0;
	__asm__ volatile("	movq %%rsp, (%[end])\n"
			 "	movq %%rsp, %%rbx\n"
			 "	movq %[aside], %%rsp\n"
			 "	movl %[asleep], (%%rdi)\n"
			 "1:	movl %[futex], %%eax\n"
			 "	syscall\n"
			 "	cmpl %[asleep], (%%rdi)\n"
			 "	je 1b\n"
			 "	movq %%rbx, %%rsp\n"
			 :
			 : "D"(half), "S"(FUTEX_WAIT_PRIVATE), "d"(HALF_ASLEEP),
			 "r"(timeout), [aside] "r"(aside), [end] "r"(end),
			 [asleep] "i"(HALF_ASLEEP), [futex] "i"(SYS_futex)
			 : "rax", "rbx", "rcx", "r11", "cc", "memory");
#else
	register long nr __asm__("x8") = SYS_futex;
	register long op __asm__("x1") = FUTEX_WAIT_PRIVATE;
	register long asleep __asm__("x2") = HALF_ASLEEP;
	register long timeout __asm__("x3") = 0;
	__asm__ volatile("	mov x9, sp\n"
			 "	str x9, [%[end]]\n"
			 "	mov sp, %[aside]\n"
			 "	stlr w2, [%[half]]\n"
			 "1:	mov x0, %[half]\n"
			 "	svc #0\n"
			 "	ldar w10, [%[half]]\n"
			 "	cmp w10, w2\n"
			 "	b.eq 1b\n"
			 "	mov sp, x9\n"
			 :
			 : "r"(nr), "r"(op), "r"(asleep),
			 "r"(timeout), [half] "r"(half), [aside] "r"(aside), [end] "r"(end)
			 : "x0", "x9", "x10", "cc", "memory");
#endif
}

static void *
half_main(void *arg)
{
	struct green *g = arg;

	green_tls_self = g;
	green_tls_loop = true;
	g->identity.tp = context_thread_pointer();
	g->identity.thread = pthread_self();
	g->identity.tid = (pid_t)syscall(SYS_gettid);
	green_born(g);
	half_sleep(&g->half, (char *)g->stack + GUARD + ROOM, &g->entry);
	/* the green thread is over; what follows (destructors) runs as an OS thread */
	green_tls_self = NULL;
	green_tls_loop = false;
	return NULL;
}

static void *
stack_map(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	if (mprotect(p, GUARD, PROT_NONE) == -1) {
		int saved = errno;
		munmap(p, size);
		errno = saved;
		return NULL;
	}
	/* a huge page would commit 2 MiB for the first frame; kernels without them: EINVAL */
	(void)madvise((char *)p + GUARD, size - GUARD, MADV_NOHUGEPAGE);
	return p;
}

/* Create the pthread with every signal blocked: it inherits the mask. */
static int
kernel_half_create(struct green *g)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int rc;

	rc = pthread_attr_init(&attr);
	if (rc != 0)
		return rc;
	rc = pthread_attr_setstack(&attr, (char *)g->stack + GUARD, g->stack_size - GUARD);
	if (rc == 0) {
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &old);
		rc = pthread_create(&g->identity.thread, &attr, half_main, g);
		pthread_sigmask(SIG_SETMASK, &old, NULL);
	}
	pthread_attr_destroy(&attr);
	return rc;
}

/* NULL with errno: EAGAIN when the limit on tasks or mappings is reached, ENOMEM. */
struct green *
green_thread_new(size_t stack_size)
{
	struct green *g = calloc(1, sizeof(*g));
	int rc;

	if (g == NULL)
		return NULL;
	g->stack_size = stack_size + GUARD;
	g->stack = stack_map(g->stack_size);
	rc = g->stack == NULL ? errno : kernel_half_create(g);
	if (rc != 0) {
		if (g->stack != NULL)
			munmap(g->stack, g->stack_size);
		free(g);
		errno = rc;
		return NULL;
	}
	return g;
}

bool
green_thread_start(struct green *g)
{
	if (atomic_load_explicit(&g->half, memory_order_acquire) != HALF_ASLEEP)
		return false;
	g->entry = (char *)(((uintptr_t)g->entry - BESIDE) & ~(uintptr_t)63);
	context_make(&g->context, (char *)g->stack + GUARD, g->entry, green_main, g);
	return true;
}

void
green_thread_release(struct green *g)
{
	atomic_store_explicit(&g->half, HALF_RELEASED, memory_order_release);
	syscall(SYS_futex, &g->half, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

int
green_thread_join(struct green *g, bool wait)
{
	int rc = wait ? REAL(pthread_join)(g->identity.thread, NULL)
		      : pthread_tryjoin_np(g->identity.thread, NULL);

	if (rc != 0)
		return rc;
	munmap(g->stack, g->stack_size);
	free(g);
	return 0;
}

void
green_thread_trim(struct green *g)
{
	char *low = (char *)g->stack + GUARD;
	char *keep = (char *)((uintptr_t)(g->entry - KEEP) & ~(uintptr_t)(PAGE - 1));

	if (keep > low)
		(void)madvise(low, (size_t)(keep - low), MADV_DONTNEED);
}

size_t
green_stack_used_up(const void *address)
{
	const struct green *g = green_tls_self;
	const char *at = address, *low;

	if (g == NULL)
		return 0;
	low = g->stack;
	return at >= low && at < low + GUARD ? g->stack_size - GUARD : 0;
}
