/* The backends that are built in; the first runs the application. */
#include "worker/app/app.h"
#include "worker/python/python.h"

const struct app_ops *const app_backends[] = {
    &python_app_ops,
    NULL,
};
