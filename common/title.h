/* A process's name in ps(1), in the place of its command line. */
#ifndef COMMON_TITLE_H
#define COMMON_TITLE_H

/*
 * At the start of main: the memory of the arguments and of the environment becomes room for the
 * title. The environment moves elsewhere; nothing may point into argv any more once title_set is
 * called.
 */
void title_init(int argc, char **argv);

/* Show this text, as far as there is room; nothing at all without title_init. */
void title_set(const char *text);

#endif
