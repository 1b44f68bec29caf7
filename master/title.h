/* The master's name in ps(1). */
#ifndef MASTER_TITLE_H
#define MASTER_TITLE_H

/* Replace the command line by text, as far as there is room. Nothing may point into argv any more.
 */
void title_set(int argc, char **argv, const char *text);

#endif
