/* Size: what x.shape is, a tuple of ints that knows how many elements they make. Slices and sums of it are Sizes, too.
 */
#include "function.h"

static PyTypeObject *size_type;

PyObject *fb_size_of(PyObject *shape) {
  PyObject *args = PyTuple_Pack(1, shape);
  PyObject *made = args ? PyTuple_Type.tp_new(size_type, args, NULL) : NULL;
  Py_XDECREF(args);
  return made;
}

/* Takes over a reference; what is not a tuple stays as it is. */
static PyObject *sized(PyObject *plain) {
  if (!plain || !PyTuple_CheckExact(plain))
    return plain;
  PyObject *made = fb_size_of(plain);
  Py_DECREF(plain);
  return made;
}

/* The sequence that Size was called with, `args` itself for none; NULL with an error. Borrowed. */
static PyObject *argument(PyObject *args, PyObject *kwargs) {
  PyObject *given = NULL, *name, *value;
  Py_ssize_t at = 0;
  if (kwargs && PyDict_Next(kwargs, &at, &name, &value))
    return PyErr_Format(PyExc_TypeError, "[Size] there is no argument '%S'. It takes: one sequence of ints.", name);
  if (PyTuple_GET_SIZE(args) == 0)
    return args;
  if (PyTuple_GET_SIZE(args) == 1)
    given = PyTuple_GET_ITEM(args, 0);
  if (given && (PyList_Check(given) || PyTuple_Check(given)))
    return given;
  return PyErr_Format(PyExc_TypeError, "[Size] expected one tuple or list of ints, got %R. Write Size((2, 3)).", args);
}

static PyObject *make(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  (void)type;
  PyObject *given = argument(args, kwargs), *items = given ? PySequence_List(given) : NULL;
  for (Py_ssize_t i = 0; items && i < PyList_GET_SIZE(items); i++) {
    PyObject *item = PyList_GET_ITEM(items, i), *size = PyIndex_Check(item) ? PyNumber_Index(item) : NULL;
    if (size) {
      PyList_SetItem(items, i, size);
      continue;
    }
    if (!PyErr_Occurred())
      PyErr_Format(PyExc_TypeError, "[Size] entry %zd is a %.100s. Pass ints.", i, Py_TYPE(item)->tp_name);
    Py_CLEAR(items);
  }
  PyObject *plain = items ? PyList_AsTuple(items) : NULL;
  Py_XDECREF(items);
  return sized(plain);
}

static PyObject *numel(PyObject *self, PyObject *unused) {
  (void)unused;
  PyObject *product = PyLong_FromLong(1);
  for (Py_ssize_t i = 0; product && i < PyTuple_GET_SIZE(self); i++) {
    PyObject *next = PyNumber_Multiply(product, PyTuple_GET_ITEM(self, i));
    Py_SETREF(product, next);
  }
  return product;
}

static PyObject *reduce(PyObject *self, PyObject *unused) {
  (void)unused;
  PyObject *sizes = PySequence_List(self);
  return sizes ? Py_BuildValue("(O(N))", (PyObject *)size_type, sizes) : NULL;
}

static PyObject *subscript(PyObject *self, PyObject *index) {
  return sized(PyTuple_Type.tp_as_mapping->mp_subscript(self, index));
}

static PyObject *concat(PyObject *self, PyObject *other) {
  return sized(PyTuple_Type.tp_as_sequence->sq_concat(self, other));
}

static PyObject *repeat(PyObject *self, Py_ssize_t n) { return sized(PyTuple_Type.tp_as_sequence->sq_repeat(self, n)); }

static PyMethodDef methods[] = {{"numel", numel, METH_NOARGS, "The number of elements of a tensor of this shape."},
                                {"__reduce__", reduce, METH_NOARGS, NULL},
                                {0}};
static PyType_Slot slots[] = {{Py_tp_doc, "The shape of a tensor: a tuple of ints with numel()."},
                              {Py_tp_new, make},
                              {Py_tp_methods, methods},
                              {Py_mp_subscript, subscript},
                              {Py_sq_concat, concat},
                              {Py_sq_repeat, repeat},
                              {0, NULL}};
static PyType_Spec spec = {.name = "flambeau.Size", .flags = Py_TPFLAGS_DEFAULT, .slots = slots};

int fb_shape_init(PyObject *module) {
  PyObject *bases = PyTuple_Pack(1, (PyObject *)&PyTuple_Type);
  size_type = bases ? (PyTypeObject *)PyType_FromSpecWithBases(&spec, bases) : NULL;
  Py_XDECREF(bases);
  return size_type ? PyModule_AddObjectRef(module, "Size", (PyObject *)size_type) : -1;
}
