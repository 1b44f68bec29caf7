/*
 * Changing user and groups. libc has every thread of the process make the system call, by a signal
 * whose handler notes that its thread has done so. On the loop's OS thread, with a green
 * thread's identity, it would note that for the wrong one, and libc would ask again for ever. So a
 * green thread lays its identity aside meanwhile; its kernel half is asked like all the others.
 */
#include "worker/green/hooks.h"

/* The call is in a function of its own: the address of errno is another there. */
#define IDS_HOOK(fn, params, args)                             \
	static __attribute__((noinline)) int fn##_aside params \
	{                                                      \
		return REAL(fn) args == -1 ? errno : 0;        \
	}                                                      \
	HOOK int fn params                                     \
	{                                                      \
		void *mine;                                    \
		int error;                                     \
                                                               \
		if (!on_green())                               \
			return REAL(fn) args;                  \
		mine = green_lay_aside();                      \
		error = fn##_aside args;                       \
		context_wear(mine);                            \
		if (error == 0)                                \
			return 0;                              \
		errno = error;                                 \
		return -1;                                     \
	}

IDS_HOOK(setuid, (uid_t id), (id))
IDS_HOOK(setgid, (gid_t id), (id))
IDS_HOOK(seteuid, (uid_t id), (id))
IDS_HOOK(setegid, (gid_t id), (id))
IDS_HOOK(setreuid, (uid_t real, uid_t effective), (real, effective))
IDS_HOOK(setregid, (gid_t real, gid_t effective), (real, effective))
IDS_HOOK(setresuid, (uid_t real, uid_t effective, uid_t saved), (real, effective, saved))
IDS_HOOK(setresgid, (gid_t real, gid_t effective, gid_t saved), (real, effective, saved))
IDS_HOOK(setgroups, (size_t n, const gid_t *list), (n, list))
IDS_HOOK(initgroups, (const char *user, gid_t group), (user, group))
