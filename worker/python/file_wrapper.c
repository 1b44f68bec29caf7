/* wsgi.file_wrapper: see file_wrapper.h. */
#include "worker/python/file_wrapper.h"

#include <stddef.h>
#include <sys/stat.h>

#include <structmember.h>

#define BLOCK_SIZE 8192 /* gunicorn's */

struct file_wrapper {
	PyObject_HEAD PyObject *filelike; /* owned */
	Py_ssize_t block_size;
};

static PyObject *file_io, *buffered_reader, *buffered_random; /* owned: classes of io */
static PyObject *name_read, *name_close, *name_raw, *name_tell, *name_fileno;

static PyObject *
wrapper_make(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {(char *)"filelike", (char *)"blksize", NULL};
	PyObject *filelike;
	Py_ssize_t block_size = BLOCK_SIZE;
	struct file_wrapper *wrapper;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|n", names, &filelike, &block_size))
		return NULL;
	wrapper = (struct file_wrapper *)type->tp_alloc(type, 0);
	if (wrapper == NULL)
		return NULL;
	wrapper->filelike = Py_NewRef(filelike);
	wrapper->block_size = block_size > 0 ? block_size : BLOCK_SIZE;
	return (PyObject *)wrapper;
}

static int
wrapper_traverse(PyObject *self, visitproc visit, void *arg)
{
	Py_VISIT(((struct file_wrapper *)self)->filelike);
	return 0;
}

static int
wrapper_clear(PyObject *self)
{
	Py_CLEAR(((struct file_wrapper *)self)->filelike);
	return 0;
}

static void
wrapper_free(PyObject *self)
{
	PyObject_GC_UnTrack(self);
	wrapper_clear(self);
	Py_TYPE(self)->tp_free(self);
}

static PyObject *
wrapper_next(PyObject *self)
{
	struct file_wrapper *wrapper = (struct file_wrapper *)self;
	PyObject *size = PyLong_FromSsize_t(wrapper->block_size), *data;
	int more;

	if (size == NULL)
		return NULL;
	data = PyObject_CallMethodOneArg(wrapper->filelike, name_read, size);
	Py_DECREF(size);
	if (data == NULL)
		return NULL;
	more = PyObject_IsTrue(data);
	if (more != 1)
		Py_CLEAR(data);
	return data;
}

/* The file's close(), if it has one. */
static PyObject *
wrapper_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
	PyObject *close = PyObject_GetAttr(((struct file_wrapper *)self)->filelike, name_close);
	PyObject *result;

	if (close == NULL) {
		if (!PyErr_ExceptionMatches(PyExc_AttributeError))
			return NULL;
		PyErr_Clear();
		Py_RETURN_NONE;
	}
	result = PyObject_CallNoArgs(close);
	Py_DECREF(close);
	return result;
}

static PyMethodDef wrapper_methods[] = {
    {"close", wrapper_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef wrapper_members[] = {
    {"filelike", T_OBJECT, offsetof(struct file_wrapper, filelike), READONLY, NULL},
    {"blksize", T_PYSSIZET, offsetof(struct file_wrapper, block_size), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject file_wrapper_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "greenicorn.FileWrapper",
    .tp_doc = "FileWrapper(filelike, blksize=8192): wsgi.file_wrapper.",
    .tp_basicsize = sizeof(struct file_wrapper),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = wrapper_make,
    .tp_dealloc = wrapper_free,
    .tp_traverse = wrapper_traverse,
    .tp_clear = wrapper_clear,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = wrapper_next,
    .tp_methods = wrapper_methods,
    .tp_members = wrapper_members,
};

static int
names_make(void)
{
	name_read = PyUnicode_InternFromString("read");
	name_close = PyUnicode_InternFromString("close");
	name_raw = PyUnicode_InternFromString("raw");
	name_tell = PyUnicode_InternFromString("tell");
	name_fileno = PyUnicode_InternFromString("fileno");
	if (name_read == NULL || name_close == NULL || name_raw == NULL || name_tell == NULL ||
	    name_fileno == NULL)
		return -1;
	return 0;
}

int
file_wrapper_type_ready(void)
{
	PyObject *io = PyImport_ImportModule("io");

	if (io == NULL)
		return -1;
	file_io = PyObject_GetAttrString(io, "FileIO");
	buffered_reader = PyObject_GetAttrString(io, "BufferedReader");
	buffered_random = PyObject_GetAttrString(io, "BufferedRandom");
	Py_DECREF(io);
	if (file_io == NULL || buffered_reader == NULL || buffered_random == NULL)
		return -1;
	return names_make() == 0 ? PyType_Ready(&file_wrapper_type) : -1;
}

/*
 * fileno() alone does not say that read() gives that file's bytes: gzip's, lzma's
 * and any object around them have one as well. So only what open() makes counts.
 */
static bool
is_plain_file(PyObject *file)
{
	PyObject *type = (PyObject *)Py_TYPE(file), *raw;
	bool plain;

	if (type == file_io)
		return true;
	if (type != buffered_reader && type != buffered_random)
		return false;
	raw = PyObject_GetAttr(file, name_raw);
	plain = raw != NULL && (PyObject *)Py_TYPE(raw) == file_io;
	Py_XDECREF(raw);
	return plain;
}

static long long
call_for_number(PyObject *file, PyObject *method)
{
	PyObject *result = PyObject_CallMethodNoArgs(file, method);
	long long value = result != NULL ? PyLong_AsLongLong(result) : -1;

	Py_XDECREF(result);
	return value;
}

/* tell(), not lseek: a buffered file may have read ahead of where the application is. */
bool
file_wrapper_part(PyObject *self, struct file_part *part)
{
	PyObject *file = ((struct file_wrapper *)self)->filelike;
	struct stat st;

	if (Py_TYPE(self) != &file_wrapper_type || file == NULL || !is_plain_file(file))
		goto no;
	if ((part->fd = call_for_number(file, name_fileno)) < 0)
		goto no;
	if ((part->offset = call_for_number(file, name_tell)) < 0)
		goto no;
	if (fstat(part->fd, &st) == -1 || !S_ISREG(st.st_mode))
		goto no;
	if ((part->count = st.st_size - part->offset) <= 0)
		goto no; /* at its end; or in /proc, where files have no size */
	return true;
no:
	PyErr_Clear(); /* closed, not seekable, …: reading it will tell */
	return false;
}
