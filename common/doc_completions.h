/* Completions for shells: a part of the tool settings-doc. */
#ifndef COMMON_DOC_COMPLETIONS_H
#define COMMON_DOC_COMPLETIONS_H

/* Print them for bash, zsh or fish. 0, or -1: no such shell. */
int completions_print(const char *shell);

#endif
