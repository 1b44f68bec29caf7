/* Splitting into words: see words.h. */
#include "master/words.h"

#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

static const char blanks[] = " \t\r\n";

/*
 * Copy one word from *text to dst, which has room for all of it, and move *text behind it.
 * In single quotes all is literal; in double quotes a backslash keeps " and \ only.
 */
static int
word_take(const char **text, char *dst)
{
	const char *p = *text;
	char quote = '\0';

	for (; *p != '\0' && (quote != '\0' || strchr(blanks, *p) == NULL); p++) {
		if (quote == '\0' && (*p == '"' || *p == '\'')) {
			quote = *p;
		} else if (*p == quote) {
			quote = '\0';
		} else {
			if (*p == '\\' && quote != '\'' &&
			    (quote == '\0' || p[1] == '"' || p[1] == '\\') && *++p == '\0')
				return -1;
			*dst++ = *p;
		}
	}
	*dst = '\0';
	*text = p;
	return quote == '\0' ? 0 : -1;
}

int
words_split(struct strlist *list, const char *text)
{
	char *word = xcalloc(strlen(text) + 1, 1);
	int rc = 0;

	while (*(text += strspn(text, blanks)) != '\0') {
		if ((rc = word_take(&text, word)) == -1)
			break;
		strlist_append(list, word);
	}
	free(word);
	return rc;
}
