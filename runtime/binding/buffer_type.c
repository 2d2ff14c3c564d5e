/* The Python type Buffer: one reference to an fb_buffer, visible through the buffer protocol. */
#include "binding.h"

#include <stddef.h>

static int finalizing(void) {
#if PY_VERSION_HEX >= 0x030D0000
  return Py_IsFinalizing();
#else
  return _Py_IsFinalizing();
#endif
}

/* The last reference to imported memory may go on any thread. After the interpreter's end it is left to the system. */
static void release_view(void *owner) {
  if (!Py_IsInitialized() || finalizing())
    return;
  PyGILState_STATE gil = PyGILState_Ensure();
  PyBuffer_Release(owner);
  PyMem_Free(owner);
  PyGILState_Release(gil);
}

/* Asking for the format costs NumPy the making of one; some others refuse without. */
static int get_view(PyObject *object, Py_buffer *view) {
  if (PyObject_GetBuffer(object, view, PyBUF_C_CONTIGUOUS) == 0)
    return 0;
  if (!PyErr_ExceptionMatches(PyExc_BufferError))
    return -1;
  PyErr_Clear();
  return PyObject_GetBuffer(object, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT);
}

fb_buffer *fb_buffer_object_import(PyObject *object, int *readonly) {
  Py_buffer *view = PyMem_Calloc(1, sizeof *view);
  if (view == NULL)
    return (fb_buffer *)PyErr_NoMemory();
  if (get_view(object, view) < 0) {
    PyMem_Free(view);
    return NULL;
  }
  if (readonly != NULL)
    *readonly = view->readonly;
  fb_buffer *b;
  fb_status status = fb_buffer_wrap(view->buf, (size_t)view->len, release_view, view, &b);
  if (status == FB_OK)
    return b;
  PyBuffer_Release(view);
  PyMem_Free(view);
  return (fb_buffer *)fb_raise(status, 0);
}

PyObject *fb_buffer_object(fb_buffer *b, int readonly) {
  BufferObject *self = PyObject_New(BufferObject, fb_api.buffer_type);
  if (self == NULL) {
    fb_buffer_release(b);
    return NULL;
  }
  self->buffer = b;
  self->exports = 0;
  self->readonly = readonly;
  return (PyObject *)self;
}

PyObject *fb_buffer_object_exporter(const fb_buffer *b, int *readonly) {
  const Py_buffer *view = fb_buffer_owner(b, release_view);
  if (readonly != NULL)
    *readonly = view != NULL && view->readonly;
  return view == NULL ? NULL : view->obj;
}

PyObject *fb_buffer_object_wrap(fb_buffer *b) {
  int readonly;
  fb_buffer_object_exporter(b, &readonly);
  return fb_buffer_object(b, readonly);
}

fb_buffer *fb_buffer_object_get(PyObject *object) {
  if (!Py_IS_TYPE(object, fb_api.buffer_type)) {
    PyErr_Format(PyExc_TypeError, "[buffer] expected a Buffer, got %.100s.", Py_TYPE(object)->tp_name);
    return NULL;
  }
  fb_buffer *b = ((BufferObject *)object)->buffer;
  if (b == NULL)
    PyErr_SetString(PyExc_ValueError, "[buffer] this Buffer was donated to a plan. Use the plan's output.");
  return b;
}

/* ---- methods ------------------------------------------------------------------------------------------- */

static PyObject *buffer_alloc(PyObject *type, PyObject *argument) {
  (void)type;
  Py_ssize_t bytes = PyNumber_AsSsize_t(argument, PyExc_OverflowError);
  if (bytes == -1 && PyErr_Occurred())
    return NULL;
  if (bytes < 0)
    return PyErr_Format(PyExc_ValueError, "[alloc] %zd bytes were asked for. Pass 0 or more.", bytes);
  fb_buffer *b;
  fb_status status = fb_buffer_alloc((size_t)bytes, &b);
  return status == FB_OK ? fb_buffer_object(b, 0) : fb_raise(status, 0);
}

static PyObject *buffer_from_object(PyObject *type, PyObject *argument) {
  (void)type;
  int readonly = 0;
  fb_buffer *b = fb_buffer_object_import(argument, &readonly);
  return b == NULL ? NULL : fb_buffer_object(b, readonly);
}

static void buffer_dealloc(PyObject *object) {
  PyTypeObject *type = Py_TYPE(object);
  fb_buffer_release(((BufferObject *)object)->buffer);
  PyObject_Free(object);
  Py_DECREF(type);
}

static int buffer_getbuffer(PyObject *object, Py_buffer *view, int flags) {
  fb_buffer *b = fb_buffer_object_get(object);
  if (b == NULL)
    return -1;
  if (fb_buffer_device(b) != NULL) {
    PyErr_SetString(PyExc_BufferError, "[buffer] it lies on a device whose memory cannot be read here. Download it.");
    return -1;
  }
  BufferObject *self = (BufferObject *)object;
  if (PyBuffer_FillInfo(view, object, fb_buffer_data(b), (Py_ssize_t)fb_buffer_bytes(b), self->readonly, flags) < 0)
    return -1;
  self->exports++;
  return 0;
}

static void buffer_releasebuffer(PyObject *object, Py_buffer *view) {
  (void)view;
  ((BufferObject *)object)->exports--;
}

static PyObject *get_nbytes(PyObject *object, void *closure) {
  (void)closure;
  fb_buffer *b = fb_buffer_object_get(object);
  return b == NULL ? NULL : PyLong_FromSize_t(fb_buffer_bytes(b));
}

static PyObject *get_address(PyObject *object, void *closure) {
  (void)closure;
  fb_buffer *b = fb_buffer_object_get(object);
  return b == NULL ? NULL : PyLong_FromVoidPtr(fb_buffer_data(b));
}

static PyObject *get_refs(PyObject *object, void *closure) {
  (void)closure;
  fb_buffer *b = fb_buffer_object_get(object);
  return b == NULL ? NULL : PyLong_FromLongLong(fb_buffer_refs(b));
}

static PyObject *get_pooled(PyObject *object, void *closure) {
  (void)closure;
  fb_buffer *b = fb_buffer_object_get(object);
  return b == NULL ? NULL : PyBool_FromLong(fb_buffer_is_pooled(b));
}

static PyObject *get_on_cpu(PyObject *object, void *closure) {
  (void)closure;
  fb_buffer *b = fb_buffer_object_get(object);
  return b == NULL ? NULL : PyBool_FromLong(fb_buffer_device(b) == NULL);
}

static PyObject *get_readonly(PyObject *object, void *closure) {
  (void)closure;
  return PyBool_FromLong(((BufferObject *)object)->readonly);
}

static PyObject *get_donated(PyObject *object, void *closure) {
  (void)closure;
  return PyBool_FromLong(((BufferObject *)object)->buffer == NULL);
}

static PyObject *buffer_repr(PyObject *object) {
  fb_buffer *b = ((BufferObject *)object)->buffer;
  if (b == NULL)
    return PyUnicode_FromString("<Buffer donated>");
  return PyUnicode_FromFormat("<Buffer %zd bytes at %p>", (Py_ssize_t)fb_buffer_bytes(b), fb_buffer_data(b));
}

static PyMethodDef methods[] = {
    {"alloc", buffer_alloc, METH_O | METH_STATIC,
     PyDoc_STR("alloc(nbytes)\n--\n\nA new block from the pool, 64-byte aligned, not cleared. Raises OutOfMemory.")},
    {"from_object", buffer_from_object, METH_O | METH_STATIC,
     PyDoc_STR(
         "from_object(obj)\n--\n\nShares the memory of a C-contiguous buffer-protocol object and keeps it alive.")},
    {0},
};

static PyGetSetDef getters[] = {
    {"nbytes", get_nbytes, NULL, PyDoc_STR("Size in bytes."), NULL},
    {"address", get_address, NULL, PyDoc_STR("Address of the first byte."), NULL},
    {"refs", get_refs, NULL, PyDoc_STR("References to the block, this object's included."), NULL},
    {"pooled", get_pooled, NULL, PyDoc_STR("Whether the block belongs to the pool rather than to another object."),
     NULL},
    {"on_cpu", get_on_cpu, NULL, PyDoc_STR("Whether this process can read the memory."), NULL},
    {"readonly", get_readonly, NULL, PyDoc_STR("Whether the memory was imported from a read-only object."), NULL},
    {"donated", get_donated, NULL, PyDoc_STR("Whether a plan took the block: this object is empty then."), NULL},
    {0},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("A reference to a block of memory; supports the buffer protocol.")},
    {Py_tp_dealloc, buffer_dealloc},
    {Py_tp_repr, buffer_repr},
    {Py_tp_methods, methods},
    {Py_tp_getset, getters},
    {Py_bf_getbuffer, buffer_getbuffer},
    {Py_bf_releasebuffer, buffer_releasebuffer},
    {0, NULL},
};

PyType_Spec fb_buffer_type_spec = {
    .name = "flambeau.runtime._binding.Buffer",
    .basicsize = sizeof(BufferObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};
