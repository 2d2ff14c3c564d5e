/* Tensors as Python makes them and asks of them: from buffers, as leaves, what they share, whose memory others see. */
#include "module.h"

static int parse_class(PyObject *cls, PyTypeObject **type) {
  *type = cls == Py_None ? NULL : (PyTypeObject *)cls;
  if (*type && (!PyType_Check(cls) || !PyType_IsSubtype(*type, fb_tensor_type))) {
    PyErr_Format(PyExc_TypeError, "[tensor] %R is not a subclass of Tensor.", cls);
    return -1;
  }
  return 0;
}

/* Kernels rely on elements being aligned; foreign memory where they are not is copied unless it must stay shared. */
static fb_buffer *usable_buffer(fb_buffer *b, bool shared, size_t itemsize) {
  fb_buffer *copy = b;
  if (shared || fb_buffer_is_pooled(b) || !itemsize || (uintptr_t)fb_buffer_data(b) % itemsize == 0) {
    fb_buffer_retain(b);
    return b;
  }
  fb_status status = fb_buffer_alloc(fb_buffer_bytes(b), &copy);
  if (status != FB_OK)
    return fb_raise_status(status, 0), NULL;
  memcpy(fb_buffer_data(copy), fb_buffer_data(b), fb_buffer_bytes(b));
  return copy;
}

PyObject *fb_tensor_on(fb_buffer *b, const fb_type *type, PyTypeObject *cls, bool shared, bool unset) {
  fb_cell *c = fb_cell_new(type);
  if (!c)
    return NULL;
  c->shared = shared;
  c->unset = unset;
  c->buffer = fb_capture_cell(c) == 0 ? usable_buffer(b, shared, type->itemsize) : NULL;
  if (c->buffer && shared)
    fb_buffer_written(c->buffer, true);
  return c->buffer ? fb_tensor_new(c, cls) : (fb_cell_release(c), NULL);
}

PyObject *fb_py_tensor_from_buffer(PyObject *module, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"buffer", "shape", "dtype", "requires_grad", "cls", "shared", "unset", "device", NULL};
  PyObject *buffer, *shape, *dtype, *cls = Py_None, *device = NULL;
  int requires_grad = 0, shared = 0, unset = 0;
  PyTypeObject *type;
  (void)module;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|pOppU:tensor_from_buffer", names, &buffer, &shape, &dtype,
                                   &requires_grad, &cls, &shared, &unset, &device) ||
      parse_class(cls, &type) < 0)
    return NULL;
  fb_type *described = fb_type_intern(shape, dtype, device, false);
  fb_buffer *b = described ? fb_buffer_from_python(buffer) : NULL;
  if (!b)
    return NULL;
  if ((fb_buffer_device(b) == NULL) != fb_type_on_cpu(described))
    return PyErr_Format(PyExc_ValueError, "[tensor] the buffer does not lie on %U. Report this as a bug.",
                        described->device);
  if (fb_buffer_bytes(b) < described->bytes)
    return PyErr_Format(PyExc_ValueError, "[tensor] a buffer of %zu bytes is too small for shape %R of %R.",
                        fb_buffer_bytes(b), shape, dtype);
  PyObject *made = fb_tensor_on(b, described, type, shared, unset);
  if (made && requires_grad && fb_tensor_make_leaf((fb_tensor *)made) < 0)
    Py_CLEAR(made);
  return made;
}

PyObject *fb_py_make_leaf(PyObject *module, PyObject *args) {
  PyObject *o, *cls = Py_None;
  int requires_grad;
  PyTypeObject *type;
  (void)module;
  if (!PyArg_ParseTuple(args, "Op|O:make_leaf", &o, &requires_grad, &cls) || parse_class(cls, &type) < 0)
    return NULL;
  fb_tensor *t = fb_as_tensor(o, "make_leaf");
  if (!t || (requires_grad && fb_tensor_check_leaf(t, "make_leaf") < 0))
    return NULL;
  int64_t *starts = NULL;
  if (!requires_grad && fb_tensor_copy_starts(t, &starts) < 0)
    return NULL;
  fb_tensor *made = fb_tensor_through(t, requires_grad ? NULL : t->view, type); /* may let other threads in */
  if (!made) {
    PyMem_Free(starts);
    return NULL;
  }
  made->starts = starts;
  if (requires_grad && fb_tensor_make_leaf(made) < 0)
    Py_CLEAR(made);
  return (PyObject *)made;
}

PyObject *fb_py_set_requires_grad(PyObject *module, PyObject *args) {
  PyObject *o;
  int requires_grad;
  (void)module;
  if (!PyArg_ParseTuple(args, "Op:set_requires_grad", &o, &requires_grad))
    return NULL;
  fb_tensor *t = fb_as_tensor(o, "requires_grad_");
  if (!t)
    return NULL;
  const fb_type *type = fb_tensor_get_type(t);
  if (!type || type->requires_grad == requires_grad)
    return type ? Py_NewRef(o) : NULL;
  if (!fb_tensor_is_leaf(t))
    return PyErr_Format(PyExc_RuntimeError,
                        "[requires_grad_] only leaf tensors can stop requiring grad. Use detach().");
  int status = !requires_grad                                  ? fb_tensor_end_leaf(t)
               : fb_tensor_check_leaf(t, "requires_grad_") < 0 ? -1
               : fb_tensor_make_leaf(t) < 0                    ? -1
                                                               : fb_tensor_restore_grad(t);
  return status < 0 ? NULL : Py_NewRef(o);
}

PyObject *fb_py_set_cell(PyObject *module, PyObject *args) {
  PyObject *a, *b;
  (void)module;
  if (!PyArg_ParseTuple(args, "OO:set_cell", &a, &b))
    return NULL;
  fb_tensor *t = fb_as_tensor(a, "data"), *other = fb_as_tensor(b, "data");
  if (!t || !other || fb_tensor_become(t, other) < 0)
    return NULL;
  Py_RETURN_NONE;
}

/* Whether a tensor shows its base in another way than whole and as it is: it cannot be a leaf. */
PyObject *fb_py_is_part(PyObject *module, PyObject *o) {
  (void)module;
  fb_tensor *t = fb_as_tensor(o, "is_part");
  if (!t)
    return NULL;
  return PyBool_FromLong(t->view && !t->view->identity && !t->leaf);
}

/* Whether a view is all that is left of its base: nobody sees whether it has elements of its own. */
PyObject *fb_py_is_lone_view(PyObject *module, PyObject *o) {
  (void)module;
  fb_tensor *t = fb_as_tensor(o, "is_lone_view");
  if (!t)
    return NULL;
  return PyBool_FromLong(t->view && !t->view->identity && !t->leaf && t->cell->refs == 1 && !t->cell->shared);
}

/* What is written to a tensor's storage from now on would be missed elsewhere: refuse it. */
PyObject *fb_py_set_apart(PyObject *module, PyObject *o) {
  (void)module;
  fb_tensor *t = fb_as_tensor(o, "set_apart");
  if (!t)
    return NULL;
  t->cell->apart = true;
  Py_RETURN_NONE;
}

PyObject *fb_py_is_of_leaf(PyObject *module, PyObject *o) {
  (void)module;
  fb_tensor *t = fb_as_tensor(o, "is_of_leaf");
  return t ? PyBool_FromLong(t->leaf != NULL) : NULL;
}

PyObject *fb_py_view_info(PyObject *module, PyObject *o) {
  (void)module;
  fb_tensor *t = fb_as_tensor(o, "view_info");
  PyObject *starts = t ? fb_tensor_starts(t) : NULL;
  fb_in_hand++; /* another thread may assign to `data` */
  PyObject *made =
      starts ? Py_BuildValue("(OON)", t->view ? t->view->payload : Py_None, t->cell->type->shape, starts) : NULL;
  fb_in_hand--;
  return made;
}

PyObject *fb_py_same_storage(PyObject *module, PyObject *args) {
  PyObject *a, *b;
  (void)module;
  if (!PyArg_ParseTuple(args, "OO:same_storage", &a, &b))
    return NULL;
  fb_tensor *x = fb_as_tensor(a, "same_storage"), *y = x ? fb_as_tensor(b, "same_storage") : NULL;
  return y ? PyBool_FromLong(x->cell == y->cell) : NULL;
}

/* What is about to be seen from outside, and written there, must be this cell's alone: copies and kept values may lie
 * in the same buffer. */
static int own_buffer(fb_cell *c) {
  bool readonly;
  fb_buffer_exporter(c->buffer, &readonly);
  if (c->shared || (fb_buffer_refs(c->buffer) == 1 && !readonly))
    return 0;
  fb_buffer *copy = NULL;
  fb_status status = fb_buffer_alloc(c->type->bytes, &copy);
  if (status != FB_OK)
    return fb_raise_status(status, 0), -1;
  memcpy(fb_buffer_data(copy), fb_buffer_data(c->buffer), c->type->bytes);
  fb_cell_set_value(c, copy);
  return 0;
}

/* Run the traces that have the cell's value or have read it: they read its very memory, which may change from now on.
 */
static int flush_readers(fb_cell *c) {
  fb_recorder *r;
  do {
    if (!c->placed)
      return fb_cell_pending(c) ? fb_flush(c->home) : 0;
    for (r = fb_recorders(); r && !fb_cell_is_read_by(r, c);)
      r = r->next;
  } while (r && fb_flush(r) == 0);
  return r ? -1 : 0;
}

int fb_cell_share(fb_cell *c, bool shared) {
  c->refs++;
  int status = flush_readers(c);
  if (status == 0)
    status = fb_cell_settle(fb_recorder_get(), c);
  if (status == 0 && shared)
    status = own_buffer(c);
  if (status == 0) {
    c->shared = shared;
    if (c->buffer)
      fb_buffer_written(c->buffer, shared);
  }
  fb_cell_release(c);
  return status;
}

PyObject *fb_py_set_shared(PyObject *module, PyObject *args) {
  PyObject *o;
  int shared;
  (void)module;
  if (!PyArg_ParseTuple(args, "Op:set_shared", &o, &shared))
    return NULL;
  fb_tensor *t = fb_as_tensor(o, "set_shared");
  return t && fb_cell_share(t->cell, shared) == 0 ? Py_NewRef(Py_None) : NULL;
}

PyObject *fb_py_is_shared(PyObject *module, PyObject *o) {
  (void)module;
  fb_tensor *t = fb_as_tensor(o, "is_shared");
  return t ? PyBool_FromLong(t->cell->shared) : NULL;
}
