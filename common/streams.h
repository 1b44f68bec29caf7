/* The standard streams of a process that goes into the background. */
#ifndef COMMON_STREAMS_H
#define COMMON_STREAMS_H

#include <stdbool.h>

/*
 * Let them be /dev/null; with keep, output may go on to what is no terminal. 0, or -1 with errno.
 */
int streams_detach(bool keep);

/* capture_output: let output go to the error log's file, if it is one. 0, or -1 with errno. */
int streams_capture(void);

#endif
