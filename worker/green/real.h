/*
 * REAL(recv)(…) is libc's recv, or that of whoever else interposes behind us
 * (AddressSanitizer). Found on first use: constructors of other libraries may
 * call a hook before our own would run.
 */
#ifndef GREEN_REAL_H
#define GREEN_REAL_H

#include <aio.h>
#include <dirent.h>
#include <grp.h>
#include <mqueue.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <resolv.h>
#include <semaphore.h>
#include <shadow.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

struct real_calls {
#define REAL_CALL(ret, name, params) ret(*name) params;
#include "worker/green/real.def"
#undef REAL_CALL
	bool resolved;
};

extern struct real_calls real_calls;
void real_resolve(void);

static inline struct real_calls *
real_get(void)
{
	if (__builtin_expect(!real_calls.resolved, 0))
		real_resolve();
	return &real_calls;
}

#define REAL(name) (real_get()->name)

#endif
