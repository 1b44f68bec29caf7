/*
 * The last words of a worker that crashes: which request it was in, and whether it has used up its
 * C stack, in one line of the error log. Then whatever would have happened happens:
 * Python's faulthandler logs the stacks, a handler of the application runs, the worker dies.
 */
#ifndef WORKER_CRASH_H
#define WORKER_CRASH_H

/*
 * On the loop's OS thread, which gets a stack for its handlers: come in front of the handlers that
 * there are. Those set later come first and pass on what they do not want, as such handlers do.
 */
void crash_watch(void);

#endif
