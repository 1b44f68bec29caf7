/*
 * Python stacks without the GIL. What prints them is the interpreter's own faulthandler, which is
 * made for that, and knows the frames of each version. The function is not exported by all of
 * them (3.13, 3.14), but faulthandler.register() makes it a signal's handler; and we take it
 * from there. It prints the stack of the thread state that belongs to the calling thread.
 */
#include "worker/python/stack.h"

#include <signal.h>

#include "common/contract.h"
#include "worker/python/interpreter.h"

static void (*print)(int sig);

int
stack_watch(int fd)
{
	PyObject *args[2] = {PyLong_FromLong(CONTRACT_SIGNAL_DUMP), PyLong_FromLong(fd)};
	PyObject *result = NULL;
	struct sigaction action;

	if (args[0] != NULL && args[1] != NULL)
		result = interpreter_call("watch_stacks", args, 2);
	if (result != NULL && sigaction(CONTRACT_SIGNAL_DUMP, NULL, &action) == 0 &&
	    (action.sa_flags & SA_SIGINFO) == 0)
		print = action.sa_handler;
	Py_XDECREF(args[0]);
	Py_XDECREF(args[1]);
	Py_XDECREF(result);
	return result == NULL ? -1 : 0;
}

void
stack_write(void)
{
	if (print != NULL)
		print(CONTRACT_SIGNAL_DUMP);
}
