/* greenicorn --from-gunicorn: gunicorn's configuration file, which is Python, as one of ours. */
#ifndef PYTHON_FROM_GUNICORN_H
#define PYTHON_FROM_GUNICORN_H

/* Run that file, and print its settings to standard output. The process's exit status. */
int from_gunicorn(const char *path);

#endif
