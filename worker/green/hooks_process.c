/*
 * Children: waiting for them, system(3) and popen(3), which wait inside libc, vfork(2).
 * In a forked child there are no green threads: sched.c forgets them (pthread_atfork).
 */
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "worker/green/hooks.h"

extern char **environ;

/* ---- waiting ---- */

static int
pidfd_of(idtype_t type, id_t id, int options)
{
	/* a pidfd tells of the end only; P_ALL and groups have none */
	if (type != P_PID || (options & (WSTOPPED | WCONTINUED)) || !(options & WEXITED))
		return -1;
	return (int)syscall(SYS_pidfd_open, (pid_t)id, 0);
}

/* A child may have ended when this returns 0; -1 with ECANCELED. */
static int
child_wait(int pidfd, unsigned *round)
{
	if (pidfd == -1)
		errno = ENOSYS;
	else if (green_fd_wait_interruptibly(pidfd, GREEN_READ, GREEN_NEVER) == 0)
		return 0;
	if (errno == ECANCELED)
		return -1;
	(void)hook_pause(round, GREEN_NEVER);
	return 0;
}

static void
pidfd_close(int pidfd)
{
	int saved = errno;

	if (pidfd != -1)
		(void)green_fd_close(pidfd);
	errno = saved;
}

HOOK pid_t
wait4(pid_t pid, int *status, int options, struct rusage *usage)
{
	unsigned round = 0;
	pid_t rc;
	int pidfd;

	if (!on_green() || (options & WNOHANG))
		return REAL(wait4)(pid, status, options, usage);
	rc = REAL(wait4)(pid, status, options | WNOHANG, usage);
	if (rc != 0)
		return rc;
	/* WUNTRACED is WSTOPPED, WEXITED is implied here */
	pidfd = pidfd_of(pid > 0 ? P_PID : P_ALL, (id_t)pid, options | WEXITED);
	do
		rc = child_wait(pidfd, &round);
	while (rc == 0 && (rc = REAL(wait4)(pid, status, options | WNOHANG, usage)) == 0);
	pidfd_close(pidfd);
	return rc;
}

HOOK pid_t
waitpid(pid_t pid, int *status, int options)
{
	return on_green() ? wait4(pid, status, options, NULL) : REAL(waitpid)(pid, status, options);
}

HOOK pid_t
wait(int *status)
{
	return waitpid(-1, status, 0);
}

HOOK_ALIAS(__wait, wait)
HOOK_ALIAS(__waitpid, waitpid)

HOOK pid_t
wait3(int *status, int options, struct rusage *usage)
{
	return wait4(-1, status, options, usage);
}

HOOK int
waitid(idtype_t type, id_t id, siginfo_t *info, int options)
{
	siginfo_t own;
	siginfo_t *si = info != NULL ? info : &own;
	unsigned round = 0;
	int rc, pidfd;

	if (!on_green() || (options & WNOHANG))
		return REAL(waitid)(type, id, info, options);
	si->si_pid = 0; /* stays 0 when there is nobody yet */
	rc = REAL(waitid)(type, id, si, options | WNOHANG);
	if (rc == -1 || si->si_pid != 0)
		return rc;
	pidfd = pidfd_of(type, id, options);
	do
		rc = child_wait(pidfd, &round);
	while (rc == 0 && (rc = REAL(waitid)(type, id, si, options | WNOHANG)) == 0 &&
	       si->si_pid == 0);
	pidfd_close(pidfd);
	return rc;
}

/* ---- system and popen ---- */

/* sh -c command, with the signals that a shell expects; its stdin or stdout may be fd. */
static int
spawn_shell(pid_t *pid, const char *command, int fd, int target)
{
	char sh[] = "sh", c[] = "-c", dashes[] = "--";
	char *argv[] = {sh, c, dashes, (char *)(uintptr_t)command, NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t set;
	int rc;

	posix_spawnattr_init(&attr);
	posix_spawn_file_actions_init(&actions);
	sigemptyset(&set);
	posix_spawnattr_setsigmask(&attr, &set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGQUIT);
	sigaddset(&set, SIGPIPE);
	sigaddset(&set, SIGXFSZ);
	posix_spawnattr_setsigdefault(&attr, &set);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	rc = fd == -1 ? 0 : posix_spawn_file_actions_adddup2(&actions, fd, target);
	if (rc == 0)
		rc = posix_spawn(pid, "/bin/sh", &actions, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	return rc;
}

/*
 * Unlike libc's it does not ignore SIGINT and SIGQUIT meanwhile: they are the worker's, not
 * this request's.
 */
HOOK int
system(const char *command)
{
	int status, rc;
	pid_t pid;

	if (!on_green() || command == NULL)
		return REAL(system)(command);
	rc = spawn_shell(&pid, command, -1, -1);
	if (rc != 0) {
		errno = rc;
		return -1;
	}
	while (wait4(pid, &status, 0, NULL) == -1)
		if (errno != EINTR && errno != ECANCELED) /* the child is ours alone to wait for */
			return -1;
	return status;
}

/* Streams that popen gave out on green threads; the loop's OS thread's only. */
struct popened {
	FILE *fp; /* borrowed: the caller's */
	pid_t pid;
	struct popened *next;
};

static struct popened *popened;

/* Close-on-exec always: POSIX wants later children not to have the streams of earlier ones. */
static FILE *
popen_start(struct popened *p, const char *command, bool reading)
{
	int fds[2], rc, mine = reading ? 0 : 1;

	if (pipe2(fds, O_CLOEXEC) == -1)
		return NULL;
	rc = spawn_shell(&p->pid, command, fds[!mine], reading ? STDOUT_FILENO : STDIN_FILENO);
	close(fds[!mine]);
	if (rc == 0 && (p->fp = fdopen(fds[mine], reading ? "r" : "w")) != NULL)
		return p->fp;
	if (rc != 0)
		errno = rc;
	rc = errno;
	close(fds[mine]);
	errno = rc;
	return NULL;
}

HOOK FILE *
popen(const char *command, const char *mode)
{
	bool reading = strchr(mode, 'r') != NULL, writing = strchr(mode, 'w') != NULL;
	struct popened *p;

	if (!on_green())
		return REAL(popen)(command, mode);
	if (reading == writing) {
		errno = EINVAL;
		return NULL;
	}
	p = calloc(1, sizeof(*p));
	if (p == NULL)
		return NULL;
	if (popen_start(p, command, reading) == NULL) {
		free(p);
		return NULL;
	}
	p->next = popened;
	popened = p;
	return p->fp;
}

static void
real_pclose(void *arg)
{
	struct popened *p = arg;

	p->pid = REAL(pclose)(p->fp);
}

HOOK int
pclose(FILE *fp)
{
	struct popened **pp = &popened, *p, foreign = {.fp = fp};
	int status = -1;
	pid_t pid;

	if (!on_green()) {
		green_fd_forget(fileno(fp));
		return REAL(pclose)(fp);
	}
	while (*pp != NULL && (*pp)->fp != fp)
		pp = &(*pp)->next;
	p = *pp;
	if (p == NULL) { /* an OS thread opened it */
		green_fd_forget(fileno(fp));
		(void)hook_offload(real_pclose, &foreign);
		return foreign.pid;
	}
	*pp = p->next;
	pid = p->pid;
	free(p);
	fclose(fp);
	while (wait4(pid, &status, 0, NULL) == -1)
		if (errno != EINTR && errno != ECANCELED) /* the child is ours alone to wait for */
			return -1;
	return status;
}

/* ---- vfork ---- */

/*
 * The child borrows our memory and stack until it executes: no C function may stand between it
 * and the caller. The return address waits in a register; in the child this thread is no green
 * thread, so that every hook is the real call, and what it closes stays registered here (the
 * descriptors are its own, the memory is not); the parent is what it was.
 */
#ifdef __x86_64__
__asm__(".text\n.globl vfork\n.type vfork, @function\n"
	"vfork:\n"
	"	popq %rdi\n"
	"	movq green_tls_self@gottpoff(%rip), %rsi\n"
	"	movq %fs:(%rsi), %rdx\n"
	"	movq green_tls_vforked@gottpoff(%rip), %r8\n"
	"	movl $58, %eax\n" /* SYS_vfork */
	"	syscall\n"
	"	pushq %rdi\n"
	"	testq %rax, %rax\n"
	"	jnz 1f\n"
	"	movq $0, %fs:(%rsi)\n"
	"	movb $1, %fs:(%r8)\n"
	"	ret\n"
	"1:	movq %rdx, %fs:(%rsi)\n"
	"	movb $0, %fs:(%r8)\n"
	"	cmpq $-4096, %rax\n"
	"	ja 2f\n"
	"	ret\n"
	"2:	movl %eax, %edi\n"
	"	jmp green_vfork_failed\n"
	".size vfork, . - vfork\n");
#else
__asm__(".text\n.globl vfork\n.type vfork, %function\n"
	"vfork:\n"
	"	mrs x9, tpidr_el0\n"
	"	adrp x10, :gottprel:green_tls_self\n"
	"	ldr x10, [x10, :gottprel_lo12:green_tls_self]\n"
	"	add x9, x9, x10\n"
	"	ldr x11, [x9]\n"
	"	mrs x12, tpidr_el0\n"
	"	adrp x10, :gottprel:green_tls_vforked\n"
	"	ldr x10, [x10, :gottprel_lo12:green_tls_vforked]\n"
	"	add x12, x12, x10\n"
	"	mov w13, #1\n"
	"	mov x0, #0x4111\n" /* CLONE_VFORK | CLONE_VM | SIGCHLD */
	"	mov x1, #0\n	mov x2, #0\n	mov x3, #0\n	mov x4, #0\n"
	"	mov x8, #220\n" /* SYS_clone */
	"	svc #0\n"
	"	cbnz x0, 1f\n"
	"	str xzr, [x9]\n"
	"	strb w13, [x12]\n"
	"	ret\n"
	"1:	str x11, [x9]\n"
	"	strb wzr, [x12]\n"
	"	cmn x0, #4095\n"
	"	b.hs 2f\n"
	"	ret\n"
	"2:	b green_vfork_failed\n"
	".size vfork, . - vfork\n");
#endif

int green_vfork_failed(int negative_errno);

__attribute__((used)) int
green_vfork_failed(int negative_errno)
{
	errno = -negative_errno;
	return -1;
}
