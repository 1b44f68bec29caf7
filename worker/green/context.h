/* Switching stacks and thread pointers: the machine-dependent part, see context.c. */
#ifndef GREEN_CONTEXT_H
#define GREEN_CONTEXT_H

#include <pthread.h>
#include <sys/types.h>

#ifdef GREEN_UCONTEXT
#include <ucontext.h>
struct context {
	ucontext_t uc;
};
#else
struct context {
	void *sp; /* what the callee must keep lies on the stack there */
};
#endif

/* Who the OS thread is: pthread_self, thread-local storage, errno. */
struct identity {
	void *tp; /* the thread register */
	pthread_t thread;
	pid_t tid; /* of the kernel half: what glibc stores as a mutex's owner */
};

/* Choose how the thread register is set; once. */
void context_init(void);

/* The calling thread's thread pointer. */
void *context_thread_pointer(void);

/* Set it: the calling code goes on as another thread, on the stack where it is. */
void context_wear(void *tp);

/* fn(arg) will start at the stack's top on the first switch there; it never returns. */
void context_make(struct context *, void *stack, char *top, void (*fn)(void *), void *arg);

/* Leave here, go on there as tp. */
void context_switch(struct context *from, struct context *to, void *tp);

#endif
