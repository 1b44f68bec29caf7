/* The process's title: see title.h. */
#include "common/title.h"

#include <string.h>
#include <unistd.h>

#include "common/mem.h"

static struct {
	char *begin; /* NULL: no room */
	size_t size;
	size_t shown; /* bytes that may be other than NUL */
} title;

/* Where these strings end that the kernel laid out one behind the other, from `end` on. */
static char *
strings_end(char *const *strings, size_t n, char *end)
{
	for (size_t i = 0; i < n && strings[i] == end; i++)
		end += strlen(end) + 1;
	return end;
}

/* ps(1) shows the memory of the arguments, and what follows it when their last NUL is overwritten.
 */
void
title_init(int argc, char **argv)
{
	size_t n = 0;
	char **copy, *end;

	while (environ[n] != NULL)
		n++;
	end = strings_end(argv, (size_t)argc, argv[0]);
	if (end == argv[0])
		return;
	end = strings_end(environ, n, end);
	copy = xcalloc(n + 1, sizeof(*copy));
	for (size_t i = 0; i < n; i++)
		copy[i] = xstrdup(environ[i]);
	environ = copy;
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
