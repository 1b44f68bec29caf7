/* --help, for the width of the terminal. */
#ifndef MASTER_HELP_H
#define MASTER_HELP_H

/* Print it to standard output. */
void help_print(void);

#endif
