/* The process's title: see title.h. */
#include "common/title.h"

#include <string.h>
#include <unistd.h>

#include "common/mem.h"

static struct {
	char *begin; /* NULL: no room */
	size_t size;
	size_t shown; /* bytes that may be other than NUL */
	char **environment;
} title;

/* Where these strings end that the kernel laid out one behind the other, from `end` on. */
static char *
strings_end(char *const *strings, size_t n, char *end)
{
	for (size_t i = 0; i < n && strings[i] == end; i++)
		end += strlen(end) + 1;
	return end;
}

/* The environment at another place, in one block that is kept: libc never frees what it drops. */
static char **
environment_copy(size_t n)
{
	size_t size = (n + 1) * sizeof(char *);
	char **copy, *at;

	for (size_t i = 0; i < n; i++)
		size += strlen(environ[i]) + 1;
	copy = xcalloc(1, size);
	at = (char *)(copy + n + 1);
	for (size_t i = 0; i < n; i++) {
		copy[i] = at;
		at = stpcpy(at, environ[i]) + 1;
	}
	return copy;
}

/* ps(1) shows the memory of the arguments, and what follows it when their last NUL is overwritten.
 */
void
title_init(int argc, char **argv)
{
	size_t n = 0;
	char *end;

	while (environ[n] != NULL)
		n++;
	end = strings_end(argv, (size_t)argc, argv[0]);
	if (end == argv[0])
		return;
	end = strings_end(environ, n, end);
	environ = title.environment = environment_copy(n);
	title.begin = argv[0];
	title.size = title.shown = (size_t)(end - argv[0]);
}

void
title_set(const char *text)
{
	size_t n = strlen(text);

	if (title.begin == NULL)
		return;
	if (n > title.size - 1)
		n = title.size - 1;
	memcpy(title.begin, text, n);
	if (n < title.shown)
		memset(title.begin + n, 0, title.shown - n);
	title.shown = n;
}
