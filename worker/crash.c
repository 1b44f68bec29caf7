/*
 * The last words of a worker that crashes: see crash.h. All but crash_watch is async-signal-safe,
 * and reads what may be broken: a fault in here goes to the handler before ours.
 */
#include "worker/crash.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/siglog.h"
#include "worker/app/app.h"
#include "worker/green/green.h"

/* Of the signal handlers on the loop's OS thread, faulthandler's among them. */
#define HANDLER_STACK (64 * 1024)

static struct {
	int number;
	const char *name;
	struct sigaction before; /* what we came in place of */
} signals[] = {
    {.number = SIGSEGV, .name = "SIGSEGV"},
    {.number = SIGBUS, .name = "SIGBUS"},
    {.number = SIGILL, .name = "SIGILL"},
    {.number = SIGFPE, .name = "SIGFPE"},
};

#define NSIGNALS (sizeof(signals) / sizeof(signals[0]))

/* Method and path; not the query, which may hold secrets. */
static void
add_place(struct siglog *l, const struct app_exchange *x)
{
	const struct http_request *q;

	if (x == NULL) {
		siglog_add(l, " outside of requests");
		return;
	}
	q = x->request;
	siglog_add(l, " in ");
	siglog_add_n(l, q->method.p, q->method.n);
	siglog_add(l, " ");
	if (q->path.n > 0)
		siglog_add_n(l, q->path.p, q->path.n);
	else
		siglog_add_n(l, q->target.p, q->target.n);
}

/* si_code above 0: a fault at an address; else somebody has sent the signal. */
static void
add_cause(struct siglog *l, const char *name, const siginfo_t *info)
{
	size_t stack;

	siglog_add(l, ": signal ");
	siglog_add_number(l, (uint64_t)info->si_signo);
	siglog_add(l, ", ");
	siglog_add(l, name);
	if (info->si_code > 0) {
		siglog_add(l, " at ");
		siglog_add_hex(l, (uint64_t)(uintptr_t)info->si_addr);
	} else {
		siglog_add(l, ", sent by pid ");
		siglog_add_number(l, (uint64_t)info->si_pid);
	}
	if (info->si_code > 0 && (stack = green_stack_used_up(info->si_addr)) > 0) {
		siglog_add(l, ": C stack overflow, beyond stack_size = ");
		siglog_add_number(l, stack);
	}
}

/*
 * With the former handler back in its place a fault comes again when we return; a signal that was
 * sent must be sent again, to this thread.
 */
static void
on_crash(int number, siginfo_t *info, void *context)
{
	struct siglog l;
	int saved_errno = errno;
	size_t i = 0;

	(void)context;
	while (i < NSIGNALS - 1 && signals[i].number != number)
		i++;
	(void)sigaction(number, &signals[i].before, NULL);
	siglog_begin(&l, LOG_LEVEL_CRITICAL);
	siglog_add(&l, "Worker crashed");
	add_place(&l, green_tag());
	add_cause(&l, signals[i].name, info);
	siglog_end(&l);
	if (info->si_code <= 0)
		(void)syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), number);
	errno = saved_errno;
}

void
crash_watch(void)
{
	static char stack[HANDLER_STACK] __attribute__((aligned(64)));
	stack_t handlers = {.ss_sp = stack, .ss_size = sizeof(stack)};
	struct sigaction action = {
	    .sa_sigaction = on_crash,
	    .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER,
	};

	siglog_prepare();
	/* a green thread's own stack may be what has come to its end */
	if (sigaltstack(&handlers, NULL) == -1)
		log_warn("sigaltstack");
	for (size_t i = 0; i < NSIGNALS; i++)
		if (sigaction(signals[i].number, &action, &signals[i].before) == -1)
			log_warn("sigaction");
}
