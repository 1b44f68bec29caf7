/*
 * Switching from one green thread to another, in about 20 instructions and no
 * system call. swapcontext(3) would save the signal mask with two system calls
 * at each switch and know nothing of the thread register; so a switch keeps
 * just what the ABI says that a callee keeps, changes the stack pointer, then
 * the thread register (x86-64: FS base, aarch64: TPIDR_EL0), and returns.
 *
 * FS base is written by wrfsbase where kernel and processor allow it, else
 * (Linux before 5.9, valgrind) by arch_prctl(2).
 *
 * With -Dcontext=ucontext the stacks are switched by swapcontext: slower, for
 * comparison and for tools that follow it.
 */
#include "worker/green/context.h"

#include <signal.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#if !defined(__x86_64__) && !defined(__aarch64__)
#error "green threads need x86-64 or aarch64 (see docs/architecture.md)"
#endif

#ifdef __x86_64__
#include <asm/prctl.h>
#define HWCAP2_FSGSBASE_BIT (1UL << 1)
#endif

void *
context_thread_pointer(void)
{
	void *tp;

#ifdef __x86_64__
	__asm__("movq %%fs:0, %0" : "=r"(tp)); /* the ABI: the block's first word is its address */
#else
	__asm__("mrs %0, tpidr_el0" : "=r"(tp));
#endif
	return tp;
}

void
context_wear(void *tp)
{
#ifdef __x86_64__
	long rc = SYS_arch_prctl; /* not wrfsbase: whoever needs this is in no hurry */
	__asm__ volatile("syscall" : "+a"(rc) : "D"(ARCH_SET_FS), "S"(tp) : "rcx", "r11", "memory");
#else
	__asm__ volatile("msr tpidr_el0, %0" : : "r"(tp) : "memory");
#endif
}

#ifdef GREEN_UCONTEXT

static sigset_t loop_mask;

void
context_init(void)
{
	pthread_sigmask(SIG_SETMASK, NULL, &loop_mask);
}

static void
trampoline(unsigned fn_hi, unsigned fn_lo, unsigned arg_hi, unsigned arg_lo)
{
	void (*fn)(void *) = (void (*)(void *))(((uintptr_t)fn_hi << 32) | fn_lo);

	fn((void *)(((uintptr_t)arg_hi << 32) | arg_lo));
}

void
context_make(struct context *c, void *stack, char *top, void (*fn)(void *), void *arg)
{
	uintptr_t f = (uintptr_t)fn, a = (uintptr_t)arg;

	getcontext(&c->uc);
	c->uc.uc_stack.ss_sp = stack;
	c->uc.uc_stack.ss_size = (size_t)(top - (char *)stack);
	c->uc.uc_link = NULL;
	c->uc.uc_sigmask = loop_mask; /* not the kernel half's, which blocks everything */
	/* makecontext passes ints: a pointer goes as two halves */
	makecontext(&c->uc, (void (*)(void))trampoline, 4, (unsigned)(f >> 32), (unsigned)f,
	    (unsigned)(a >> 32), (unsigned)a);
}

void
context_switch(struct context *from, struct context *to, void *tp)
{
	context_wear(tp);
	swapcontext(&from->uc, &to->uc);
}

#else

void green_switch_wrfsbase(void **from, void *to, void *tp);
void green_switch_prctl(void **from, void *to, void *tp);
void green_context_start(void);

#ifdef __x86_64__

static void (*switch_fn)(void **from, void *to, void *tp) = green_switch_prctl;

/* rdi: where to leave our stack pointer, rsi: the other's, rdx: its thread pointer */
#define SAVE                                                                \
	"	pushq %rbp\n	pushq %rbx\n	pushq %r12\n	pushq %r13\n	pushq %r14\n" \
	"	pushq %r15\n	subq $8, %rsp\n	stmxcsr (%rsp)\n	fnstcw 4(%rsp)\n"   \
	"	movq %rsp, (%rdi)\n	movq %rsi, %rsp\n"
#define RESTORE                                                               \
	"	ldmxcsr (%rsp)\n	fldcw 4(%rsp)\n	addq $8, %rsp\n	popq %r15\n	popq " \
	"%r14\n"                                                              \
	"	popq %r13\n	popq %r12\n	popq %rbx\n	popq %rbp\n	ret\n"

__asm__(".text\n"
	".globl green_switch_wrfsbase\n.hidden green_switch_wrfsbase\n"
	".type green_switch_wrfsbase, @function\n"
	"green_switch_wrfsbase:\n" SAVE "	wrfsbase %rdx\n" RESTORE
	".size green_switch_wrfsbase, . - green_switch_wrfsbase\n"

	".globl green_switch_prctl\n.hidden green_switch_prctl\n"
	".type green_switch_prctl, @function\n"
	"green_switch_prctl:\n" SAVE "	movl $158, %eax\n	movl $0x1002, %edi\n	movq %rdx, "
	"%rsi\n	syscall\n" /* ARCH_SET_FS
			    */
    RESTORE ".size green_switch_prctl, . - green_switch_prctl\n"

	/* first entry: r12 is the function, r13 its argument; no caller, for unwinders */
	".globl green_context_start\n.hidden green_context_start\n"
	".type green_context_start, @function\n"
	"green_context_start:\n"
	"	.cfi_startproc\n	.cfi_undefined 16\n"
	"	xorl %ebp, %ebp\n	movq %r13, %rdi\n	callq *%r12\n	ud2\n"
	"	.cfi_endproc\n"
	".size green_context_start, . - green_context_start\n");

void
context_init(void)
{
	if (getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE_BIT)
		switch_fn = green_switch_wrfsbase;
}

void
context_make(struct context *c, void *stack, char *top, void (*fn)(void *), void *arg)
{
	uint64_t *sp = (uint64_t *)((uintptr_t)top & ~(uintptr_t)15);
	uint32_t *fp;

	(void)stack;
	*--sp = (uint64_t)green_context_start; /* ret */
	*--sp = 0;                             /* rbp */
	*--sp = 0;                             /* rbx */
	*--sp = (uint64_t)fn;                  /* r12 */
	*--sp = (uint64_t)arg;                 /* r13 */
	*--sp = 0;                             /* r14 */
	*--sp = 0;                             /* r15 */
	fp = (uint32_t *)--sp;
	__asm__ volatile("stmxcsr %0" : "=m"(fp[0]));
	__asm__ volatile("fnstcw %0" : "=m"(fp[1]));
	c->sp = sp;
}

void
context_switch(struct context *from, struct context *to, void *tp)
{
	switch_fn(&from->sp, to->sp, tp);
}

#else /* __aarch64__ */

__asm__(".text\n"
	".globl green_switch_wrfsbase\n.hidden green_switch_wrfsbase\n"
	".type green_switch_wrfsbase, %function\n"
	"green_switch_wrfsbase:\n"
	"	sub sp, sp, #176\n"
	"	stp x19, x20, [sp, #0]\n	stp x21, x22, [sp, #16]\n"
	"	stp x23, x24, [sp, #32]\n	stp x25, x26, [sp, #48]\n"
	"	stp x27, x28, [sp, #64]\n	stp x29, x30, [sp, #80]\n"
	"	stp d8, d9, [sp, #96]\n	stp d10, d11, [sp, #112]\n"
	"	stp d12, d13, [sp, #128]\n	stp d14, d15, [sp, #144]\n"
	"	mrs x9, fpcr\n	str x9, [sp, #160]\n"
	"	mov x9, sp\n	str x9, [x0]\n	mov sp, x1\n	msr tpidr_el0, x2\n"
	"	ldr x9, [sp, #160]\n	msr fpcr, x9\n"
	"	ldp x19, x20, [sp, #0]\n	ldp x21, x22, [sp, #16]\n"
	"	ldp x23, x24, [sp, #32]\n	ldp x25, x26, [sp, #48]\n"
	"	ldp x27, x28, [sp, #64]\n	ldp x29, x30, [sp, #80]\n"
	"	ldp d8, d9, [sp, #96]\n	ldp d10, d11, [sp, #112]\n"
	"	ldp d12, d13, [sp, #128]\n	ldp d14, d15, [sp, #144]\n"
	"	add sp, sp, #176\n	ret\n"
	".size green_switch_wrfsbase, . - green_switch_wrfsbase\n"

	".globl green_context_start\n.hidden green_context_start\n"
	".type green_context_start, %function\n"
	"green_context_start:\n"
	"	.cfi_startproc\n	.cfi_undefined 30\n"
	"	mov x29, #0\n	mov x0, x20\n	blr x19\n	brk #1\n"
	"	.cfi_endproc\n"
	".size green_context_start, . - green_context_start\n");

void
context_init(void)
{
}

void
context_make(struct context *c, void *stack, char *top, void (*fn)(void *), void *arg)
{
	uint64_t *sp = (uint64_t *)((uintptr_t)top & ~(uintptr_t)15) - 22;

	(void)stack;
	for (int i = 0; i < 22; i++)
		sp[i] = 0;
	sp[0] = (uint64_t)fn;                   /* x19 */
	sp[1] = (uint64_t)arg;                  /* x20 */
	sp[11] = (uint64_t)green_context_start; /* x30 */
	__asm__ volatile("mrs %0, fpcr" : "=r"(sp[20]));
	c->sp = sp;
}

void
context_switch(struct context *from, struct context *to, void *tp)
{
	green_switch_wrfsbase(&from->sp, to->sp, tp);
}

#endif
#endif
