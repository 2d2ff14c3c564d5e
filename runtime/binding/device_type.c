/* The Python type Device: an NVIDIA GPU that is open as long as the process runs. */
#include "../src/cuda.h"
#include "binding.h"

#include <string.h>

typedef struct {
  PyObject_HEAD fb_cuda *cuda;
  fb_device *device;
} DeviceObject;

fb_device *fb_device_object_get(PyObject *object) {
  if (Py_IS_TYPE(object, fb_api.device_type))
    return ((DeviceObject *)object)->device;
  PyErr_Format(PyExc_TypeError, "[device] expected a Device, got %.100s.", Py_TYPE(object)->tp_name);
  return NULL;
}

static PyObject *device_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"driver", "number", NULL};
  const char *driver = NULL;
  int number = 0;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|zi:Device", names, &driver, &number))
    return NULL;
  DeviceObject *self = (DeviceObject *)type->tp_alloc(type, 0);
  if (self == NULL)
    return NULL;
  fb_status status;
  Py_BEGIN_ALLOW_THREADS;
  status = fb_cuda_open(driver, number, &self->cuda);
  Py_END_ALLOW_THREADS;
  if (status == FB_OK && (self->device = fb_cuda_as_device(self->cuda)) != NULL)
    return (PyObject *)self;
  if (status == FB_OK) {
    fb_cuda_close(self->cuda);
    PyErr_NoMemory();
  } else {
    fb_raise(status, 0);
  }
  Py_DECREF(self);
  return NULL;
}

/* Buffers and plans may outlive the object, so the device stays open. */
static void device_dealloc(PyObject *object) {
  PyTypeObject *type = Py_TYPE(object);
  type->tp_free(object);
  Py_DECREF(type);
}

/* ---- methods ------------------------------------------------------------------------------------------- */

static PyObject *device_load(PyObject *object, PyObject *code) {
  char *ptx;
  Py_ssize_t length;
  if (PyBytes_AsStringAndSize(code, &ptx, &length) < 0) /* ends with a zero byte */
    return NULL;
  fb_cuda_kernel *kernel;
  fb_status status = fb_cuda_load(((DeviceObject *)object)->cuda, ptx, &kernel);
  return status == FB_OK ? PyLong_FromVoidPtr(kernel) : fb_raise(status, 0);
}

static PyObject *device_upload(PyObject *object, PyObject *argument) {
  fb_device *d = ((DeviceObject *)object)->device;
  Py_buffer view;
  if (PyObject_GetBuffer(argument, &view, PyBUF_C_CONTIGUOUS) < 0)
    return NULL;
  fb_buffer *b = NULL;
  fb_status status = d->alloc(d, (size_t)view.len, &b);
  if (status == FB_OK)
    status = d->upload(d, fb_buffer_data(b), view.buf, (size_t)view.len);
  PyBuffer_Release(&view);
  if (status == FB_OK)
    return fb_buffer_object(b, 0);
  fb_buffer_release(b);
  return fb_raise(status, 0);
}

static PyObject *device_download(PyObject *object, PyObject *argument) {
  fb_device *d = ((DeviceObject *)object)->device;
  fb_buffer *from = fb_buffer_object_get(argument), *to = NULL;
  if (from == NULL)
    return NULL;
  if (fb_buffer_device(from) != d)
    return PyErr_Format(PyExc_ValueError, "[device] the Buffer lies elsewhere. Ask the device that it lies on.");
  fb_status status = fb_buffer_alloc(fb_buffer_bytes(from), &to);
  if (status == FB_OK)
    status = d->download(d, fb_buffer_data(to), fb_buffer_data(from), fb_buffer_bytes(from));
  if (status == FB_OK)
    return fb_buffer_object(to, 0);
  fb_buffer_release(to);
  return fb_raise(status, 0);
}

static PyObject *get_name(PyObject *object, void *closure) {
  (void)closure;
  fb_cuda_info info;
  fb_cuda_get_info(((DeviceObject *)object)->cuda, &info);
  return PyUnicode_FromString(info.name);
}

static PyObject *get_capability(PyObject *object, void *closure) {
  (void)closure;
  fb_cuda_info info;
  fb_cuda_get_info(((DeviceObject *)object)->cuda, &info);
  return Py_BuildValue("(ii)", info.major, info.minor);
}

static PyObject *get_live_bytes(PyObject *object, void *closure) {
  (void)closure;
  fb_cuda_info info;
  fb_cuda_get_info(((DeviceObject *)object)->cuda, &info);
  return PyLong_FromSize_t(info.live_bytes);
}

static PyMethodDef methods[] = {
    {"load", device_load, METH_O,
     PyDoc_STR("load(ptx)\n--\n\nCompile PTX (bytes) that defines `kernel`: the number that plans know it by. It stays "
               "loaded. Raises RuntimeError.")},
    {"upload", device_upload, METH_O,
     PyDoc_STR("upload(obj)\n--\n\nA Buffer on the device with the bytes of a C-contiguous buffer-protocol object.")},
    {"download", device_download, METH_O,
     PyDoc_STR("download(buffer)\n--\n\nA Buffer of this process with the bytes of one on the device.")},
    {0},
};

static PyGetSetDef getters[] = {
    {"name", get_name, NULL, PyDoc_STR("What the driver calls it."), NULL},
    {"capability", get_capability, NULL, PyDoc_STR("Its compute capability: major and minor."), NULL},
    {"live_bytes", get_live_bytes, NULL, PyDoc_STR("Memory of its pool that is in use."), NULL},
    {0},
};

static PyType_Slot slots[] = {
    {Py_tp_doc,
     (void *)PyDoc_STR("Device(driver=None, number=0)\n--\n\n"
                       "An NVIDIA GPU. `driver` is the path of the driver's library, None the system's. Raises "
                       "RuntimeError.")},
    {Py_tp_new, device_new},
    {Py_tp_dealloc, device_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, getters},
    {0, NULL},
};

PyType_Spec fb_device_type_spec = {
    .name = "flambeau.runtime._binding.Device",
    .basicsize = sizeof(DeviceObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};
