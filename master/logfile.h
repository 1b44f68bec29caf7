/* Log files that root opens and another user must be able to open again. */
#ifndef MASTER_LOGFILE_H
#define MASTER_LOGFILE_H

#include "common/privs.h"

/*
 * Make the file if need be and give it to those that we are about to become. Nothing
 * happens for NULL, "-", or what is no plain file of root's own. 0, or -1 with errno when it
 * cannot be opened.
 */
int logfile_give(const char *path, const struct privs *);

#endif
