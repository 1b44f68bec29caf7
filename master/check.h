/* --check-config: load the application as a worker would, and say how it went. */
#ifndef MASTER_CHECK_H
#define MASTER_CHECK_H

#include "common/settings.h"

/* The process's exit status; what is wrong has been written to standard error. */
int check_application(const struct settings *, const char *worker);

#endif
