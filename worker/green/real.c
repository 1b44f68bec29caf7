/* Finding the functions that our own, exported by the executable, hide. */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "worker/green/real.h"

struct real_calls real_calls;

/*
 * glibc has two families of pthread_cond_*: x86-64's current one is of 2.3.2,
 * and a plain dlsym may give the older, whose conditions look different.
 */
static void *
real_lookup(const char *name)
{
	void *fn = NULL;

#ifdef __x86_64__
	if (strncmp(name, "pthread_cond_", 13) == 0)
		fn = dlvsym(RTLD_NEXT, name, "GLIBC_2.3.2");
#endif
	if (fn == NULL)
		fn = dlsym(RTLD_NEXT, name);
	return fn;
}

/*
 * At the latest before main(): dlsym allocates, and a first call can come from where nothing may
 * be, such as the leak sanitizer's end, which holds the allocator's locks and yields.
 */
__attribute__((constructor)) void
real_resolve(void)
{
	struct real_calls found;

#define REAL_CALL(ret, name, params) found.name = (ret(*) params)real_lookup(#name);
#include "worker/green/real.def"
#undef REAL_CALL
	found.resolved = true;
	real_calls = found;
}
