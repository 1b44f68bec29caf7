/* A plain interpreter runs from_gunicorn.py: see from_gunicorn.h. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "worker/python/from_gunicorn.h"

#include "common/mem.h"
#include "common/settings_table.h"
#include "worker/python/from_gunicorn_source.h"

int
from_gunicorn(const char *path)
{
	char **argv = xcalloc(settings_count + 5, sizeof(*argv));
	int argc = 0, status;

	argv[argc++] = xstrdup(PYTHON_PROGRAM);
	argv[argc++] = xstrdup("-c");
	argv[argc++] = xstrdup(from_gunicorn_source);
	argv[argc++] = xstrdup(path);
	for (size_t i = 0; i < settings_count; i++)
		argv[argc++] =
		    xasprintf("%s=%s", settings_table[i].name, settings_table[i].kind->name);
	status = Py_BytesMain(argc, argv);
	while (argc > 0)
		free(argv[--argc]);
	free(argv);
	return status;
}
