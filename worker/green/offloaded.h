/*
 * A hook that runs libc's own function on a helper thread, made from a line that says its type and
 * parameters, as the kernel's SYSCALL_DEFINE:
 *
 *	OFFLOADED(hook_offload, int, -1, fsync, 1, int, fd)
 *
 * OFFLOADED_CALL makes only the function fsync_offloaded, for hooks that look before they use it.
 */
#ifndef GREEN_OFFLOADED_H
#define GREEN_OFFLOADED_H

#include "worker/green/hooks.h"

/* m applied to n pairs of type and name, with sep() in between */
#define PAIRS1(m, sep, t, a)      m(t, a)
#define PAIRS2(m, sep, t, a, ...) m(t, a) sep() PAIRS1(m, sep, __VA_ARGS__)
#define PAIRS3(m, sep, t, a, ...) m(t, a) sep() PAIRS2(m, sep, __VA_ARGS__)
#define PAIRS4(m, sep, t, a, ...) m(t, a) sep() PAIRS3(m, sep, __VA_ARGS__)
#define PAIRS5(m, sep, t, a, ...) m(t, a) sep() PAIRS4(m, sep, __VA_ARGS__)
#define PAIRS6(m, sep, t, a, ...) m(t, a) sep() PAIRS5(m, sep, __VA_ARGS__)
#define PAIRS7(m, sep, t, a, ...) m(t, a) sep() PAIRS6(m, sep, __VA_ARGS__)
#define PAIRS8(m, sep, t, a, ...) m(t, a) sep() PAIRS7(m, sep, __VA_ARGS__)

#define PAIR_PARAM(t, a)  t a
#define PAIR_FIELD(t, a)  t a;
#define PAIR_NAME(t, a)   a
#define PAIR_MEMBER(t, a) call->a
#define PAIR_COMMA()      ,
#define PAIR_NOTHING()

#define PARAMS(n, ...)  PAIRS##n(PAIR_PARAM, PAIR_COMMA, __VA_ARGS__)
#define FIELDS(n, ...)  PAIRS##n(PAIR_FIELD, PAIR_NOTHING, __VA_ARGS__)
#define NAMES(n, ...)   PAIRS##n(PAIR_NAME, PAIR_COMMA, __VA_ARGS__)
#define MEMBERS(n, ...) PAIRS##n(PAIR_MEMBER, PAIR_COMMA, __VA_ARGS__)

/* failure is the result when there is no helper (errno is EAGAIN then). */
#define OFFLOADED_CALL(how, type, failure, name, n, ...)                    \
	struct name##_call {                                                \
		type result;                                                \
		FIELDS(n, __VA_ARGS__)                                      \
	};                                                                  \
	static void name##_run(void *arg)                                   \
	{                                                                   \
		struct name##_call *call = arg;                             \
		call->result = REAL(name)(MEMBERS(n, __VA_ARGS__));         \
	}                                                                   \
	static type name##_offloaded(PARAMS(n, __VA_ARGS__))                \
	{                                                                   \
		struct name##_call call = {failure, NAMES(n, __VA_ARGS__)}; \
		(void)how(name##_run, &call);                               \
		return call.result;                                         \
	}

#define OFFLOADED(how, type, failure, name, n, ...)                         \
	OFFLOADED_CALL(how, type, failure, name, n, __VA_ARGS__)            \
	HOOK type name(PARAMS(n, __VA_ARGS__))                              \
	{                                                                   \
		return on_green() ? name##_offloaded(NAMES(n, __VA_ARGS__)) \
				  : REAL(name)(NAMES(n, __VA_ARGS__));      \
	}

#endif
