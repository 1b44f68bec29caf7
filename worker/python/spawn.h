/* The C half of the module greenicorn (greenicorn.py): functions on green threads of their own. */
#ifndef PYTHON_SPAWN_H
#define PYTHON_SPAWN_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* On the main green thread, before the application is loaded (or after the fork): spawning works.
 */
void spawn_open(void);

/* For greenicorn.py: spawn_ready, spawn_run, spawn_stats, spawn_log. */
extern PyMethodDef spawn_functions[];

#endif
