/* The process's title: see title.h. */
#include "master/title.h"

#include <string.h>

/* ps(1) shows the memory where the kernel laid out the arguments, one behind the other. */
void
title_set(int argc, char **argv, const char *text)
{
	char *begin = argv[0], *end = begin;
	size_t n = strlen(text);

	for (int i = 0; i < argc && argv[i] == end; i++)
		end += strlen(argv[i]) + 1;
	if (end == begin)
		return;
	if (n > (size_t)(end - begin) - 1)
		n = (size_t)(end - begin) - 1;
	memset(begin, 0, (size_t)(end - begin));
	memcpy(begin, text, n);
}
