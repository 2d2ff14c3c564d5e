/* Calls with tensors of one class, those with names, go to a handler of the frontend's in place of the function.
 * Nothing is intercepted until `intercept` is called, so that who has no such tensors pays nothing. */
#include "call.h"

static PyTypeObject *intercepted;
static PyObject *handler;

static bool is_intercepted(PyObject *o) {
  return Py_TYPE(o) == intercepted || PyType_IsSubtype(Py_TYPE(o), intercepted);
}

static bool holds_intercepted(PyObject *o) {
  if (fb_is_tensor(o))
    return is_intercepted(o);
  if (!PyTuple_Check(o) && !PyList_Check(o))
    return false;
  for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(o); i++)
    if (is_intercepted(PySequence_Fast_GET_ITEM(o, i)))
      return true;
  return false;
}

bool fb_intercepting(void) { return intercepted != NULL; }

PyObject *fb_intercepted_call(vectorcallfunc plain, PyObject *self, PyObject *const *args, size_t nargsf,
                              PyObject *kwnames) {
  Py_ssize_t given = PyVectorcall_NARGS(nargsf), n = given + (kwnames ? PyTuple_GET_SIZE(kwnames) : 0), i = 0;
  while (i < n && !holds_intercepted(args[i]))
    i++;
  if (i == n)
    return plain(self, args, nargsf, kwnames);
  PyObject **shifted = PyMem_Malloc((size_t)(n + 1) * sizeof *shifted);
  if (!shifted)
    return PyErr_NoMemory();
  shifted[0] = self;
  memcpy(shifted + 1, args, (size_t)n * sizeof *shifted);
  PyObject *result = PyObject_Vectorcall(handler, shifted, (size_t)given + 1, kwnames);
  PyMem_Free(shifted);
  return result;
}

int fb_intercept(PyObject *cls, PyObject *handles) {
  if (!PyType_Check(cls) || !PyType_IsSubtype((PyTypeObject *)cls, fb_tensor_type)) {
    PyErr_Format(PyExc_TypeError, "[intercept] %R is not a subclass of Tensor.", cls);
    return -1;
  }
  Py_XSETREF(handler, Py_NewRef(handles));
  Py_XSETREF(intercepted, (PyTypeObject *)Py_NewRef(cls));
  return 0;
}

/* alias(tensor, cls): another handle, of class `cls`, of the same value with the same history; a leaf's is the same
 * leaf. */
PyObject *fb_py_alias(PyObject *module, PyObject *args) {
  PyObject *o, *cls;
  (void)module;
  if (!PyArg_ParseTuple(args, "O!O!:alias", fb_tensor_type, &o, &PyType_Type, &cls))
    return NULL;
  if (!PyType_IsSubtype((PyTypeObject *)cls, fb_tensor_type))
    return PyErr_Format(PyExc_TypeError, "[alias] %R is not a subclass of Tensor.", cls);
  fb_tensor *t = (fb_tensor *)o;
  uint32_t n = t->starts ? t->view->n_starts : 0;
  int64_t *starts = n ? PyMem_Malloc(n * sizeof *starts) : NULL;
  if (n && !starts)
    return PyErr_NoMemory();
  if (n)
    memcpy(starts, t->starts, n * sizeof *starts);
  PyObject *leaf = Py_XNewRef((PyObject *)t->leaf);
  fb_tensor *made = fb_tensor_through(t, t->view, (PyTypeObject *)cls); /* may let other threads in */
  if (!made) {
    PyMem_Free(starts);
    Py_XDECREF(leaf);
    return NULL;
  }
  made->starts = starts;
  made->leaf = (fb_leaf *)leaf;
  if ((PyTypeObject *)cls != fb_tensor_type && fb_tensor_track(made) < 0) /* the collector sees it from the start */
    Py_CLEAR(made);
  return (PyObject *)made;
}
