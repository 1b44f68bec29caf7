/* Saying no: see refuse.h. */
#include "common/refuse.h"

#include <stdarg.h>
#include <stdio.h>

int
refuse(char *text, size_t size, const char *format, ...)
{
	va_list ap;

	if (text != NULL) {
		va_start(ap, format);
		vsnprintf(text, size, format, ap);
		va_end(ap);
	}
	return -1;
}
