/* Stream: where random numbers are drawn from, a seed and how many were drawn. Calls that draw enter both as scalars.
 */
#include "capture.h"

static PyTypeObject *stream_type;

fb_stream *fb_stream_of(PyObject *o) { return PyObject_TypeCheck(o, stream_type) ? (fb_stream *)o : NULL; }

int fb_stream_advance(fb_stream *s, uint64_t draws) {
  if (fb_capture_stream(s) < 0)
    return -1;
  s->offset = (int64_t)(((uint64_t)s->offset + draws) & INT64_MAX);
  return 0;
}

int fb_stream_draws(PyObject *payload, uint64_t *draws, fb_size **size) {
  PyObject *found = PyObject_GetAttrString(payload, "draws");
  *draws = 0;
  *size = NULL;
  if (found && PyLong_Check(found))
    *draws = PyLong_AsUnsignedLongLong(found);
  else if (found)
    *size = fb_size_read(found);
  Py_XDECREF(found);
  return PyErr_Occurred() ? -1 : 0;
}

static void stream_dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);
  type->tp_free(self);
  Py_DECREF(type);
}

static int64_t *field_of(PyObject *self, void *closure) {
  fb_stream *s = (fb_stream *)self;
  return closure ? &s->offset : &s->seed;
}

static PyObject *get_field(PyObject *self, void *closure) { return PyLong_FromLongLong(*field_of(self, closure)); }

static int set_field(PyObject *self, PyObject *value, void *closure) {
  int64_t number = value ? PyLong_AsLongLong(value) : -1;
  if (!value)
    PyErr_SetString(PyExc_AttributeError, "[Stream] its state cannot be deleted.");
  if (PyErr_Occurred() || fb_capture_stream((fb_stream *)self) < 0)
    return -1;
  *field_of(self, closure) = number;
  return 0;
}

static char is_offset[] = "offset";
static PyGetSetDef attributes[] = {{"_seed", get_field, set_field, NULL, NULL},
                                   {"_offset", get_field, set_field, NULL, is_offset},
                                   {NULL, NULL, NULL, NULL, NULL}};

/* _advance(count): (seed, offset) from which `count` numbers are drawn now. No two threads get the same ones. */
static PyObject *stream_advance(PyObject *self, PyObject *count) {
  fb_stream *s = (fb_stream *)self;
  int64_t draws = PyLong_AsLongLong(count), seed = s->seed, offset = s->offset;
  if ((draws == -1 && PyErr_Occurred()) || fb_stream_advance(s, (uint64_t)draws) < 0)
    return NULL;
  return Py_BuildValue("(LL)", (long long)seed, (long long)offset);
}

/* _start(seed, offset): both at once. */
static PyObject *stream_start(PyObject *self, PyObject *args) {
  long long seed, offset;
  fb_stream *s = (fb_stream *)self;
  if (!PyArg_ParseTuple(args, "LL:_start", &seed, &offset) || fb_capture_stream(s) < 0)
    return NULL;
  s->seed = seed;
  s->offset = offset;
  Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"_advance", stream_advance, METH_O, "_advance(count): the (seed, offset) at which `count` numbers are drawn now."},
    {"_start", stream_start, METH_VARARGS, "_start(seed, offset): draw from there on."},
    {NULL, NULL, 0, NULL}};
static PyType_Slot slots[] = {{Py_tp_new, PyType_GenericNew},
                              {Py_tp_dealloc, stream_dealloc},
                              {Py_tp_getset, attributes},
                              {Py_tp_methods, methods},
                              {Py_tp_doc, "A seed and how many numbers were drawn: `_seed`, `_offset`."},
                              {0, NULL}};
static PyType_Spec spec = {"flambeau.runtime._recorder.Stream", sizeof(fb_stream), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots};

int fb_stream_init(PyObject *module) {
  stream_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
  return stream_type ? PyModule_AddObjectRef(module, "Stream", (PyObject *)stream_type) : -1;
}
