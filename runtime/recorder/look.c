/* Looking: what is in a tensor as Python numbers, and where its memory is. Reading runs what was recorded; memory that
 * is there is read as it lies, through the strides of the tensor's view. */
#include "module.h"

#define FB_MAX_DIMS 64

/* The elements of a tensor, held while they are looked at: other threads, and destructors, may run in between. */
typedef struct {
  const fb_type *type;
  fb_buffer *buffer;
  const char *first;
  int64_t strides[FB_MAX_DIMS]; /* in elements */
} fb_look;

static void dense_strides(const fb_type *type, int64_t *strides) {
  int64_t step = 1;
  for (int i = type->ndim - 1; i >= 0; i--) {
    strides[i] = step;
    step *= type->dims[i] ? type->dims[i] : 1;
  }
}

/* The cell's value is there, and `t` is still on it. 1: it is, 0: look again, -1: error. */
static int settle(fb_tensor *t, const fb_view *view) {
  fb_cell *c = t->cell;
  if (FB_LIKELY(c->buffer && !fb_cell_owed(c)))
    return t->view == view;
  c->refs++; /* another thread may assign to the tensor's `data` */
  int status = fb_flush_cell(c);
  if (status == 0 && !c->buffer)
    status = fb_cell_raise(c);
  bool same = t->cell == c && t->view == view;
  fb_cell_release(c);
  return status < 0 ? -1 : same;
}

/* 1: in strides, 0: not, or its elements have no code; -1: error. After 1, look_end: until then the type stays, also
 * where another thread assigns to `data`. */
static int look_at(fb_tensor *t, fb_look *look) {
  fb_learning_spoil();
  const fb_view *view;
  const int64_t *layout = NULL;
  int settled;
  do {
    view = t->view;
    if (view && fb_view_layout(view, &layout) < 0)
      return -1;
    settled = settle(t, view);
  } while (settled == 0);
  if (settled < 0 || !(look->type = fb_tensor_get_type(t)))
    return -1;
  const fb_type *type = look->type;
  layout = view ? view->layout : NULL; /* what it was may have been forgotten, and another be in its place */
  if (!type->code || type->ndim > FB_MAX_DIMS || (view && !layout))
    return 0;
  int64_t first = 0;
  if (view) {
    memcpy(look->strides, layout + 1, (size_t)type->ndim * sizeof *layout);
    first = layout[0];
    for (uint32_t i = 0; i < view->n_starts; i++)
      first += t->starts[i] * layout[1 + type->ndim + (int)i];
  } else {
    dense_strides(type, look->strides);
  }
  look->buffer = t->cell->buffer;
  fb_buffer_retain(look->buffer);
  fb_in_hand++;
  look->first = (const char *)fb_buffer_data(look->buffer) + first * (int64_t)type->itemsize;
  return 1;
}

static void look_end(const fb_look *look) {
  fb_buffer_release(look->buffer);
  fb_in_hand--;
}

static PyObject *array_of(fb_tensor *t) {
  PyObject *hook = fb_hook(fb_hooks.array_of, "array_of");
  return hook ? PyObject_CallOneArg(hook, (PyObject *)t) : NULL;
}

static int64_t count(const fb_type *type) {
  int64_t n = 1;
  for (int i = 0; i < type->ndim; i++)
    n *= type->dims[i];
  return n;
}

/* ---- numbers --------------------------------------------------------------------------------------------- */

#define READ(type, make)                                                                                               \
  do {                                                                                                                 \
    type value;                                                                                                        \
    memcpy(&value, at, sizeof value); /* memory of others may lie anywhere */                                          \
    return make(value);                                                                                                \
  } while (0)

static PyObject *element(char code, const char *at) {
  switch (code) {
  case 'f':
    READ(float, PyFloat_FromDouble);
  case 'd':
    READ(double, PyFloat_FromDouble);
  case 'q':
    READ(int64_t, PyLong_FromLongLong);
  case 'i':
    READ(int32_t, PyLong_FromLong);
  case '?':
    return PyBool_FromLong(*at != 0);
  case 'h':
    READ(int16_t, PyLong_FromLong);
  case 'b':
    READ(int8_t, PyLong_FromLong);
  case 'B':
    READ(uint8_t, PyLong_FromLong);
  case 'H':
    READ(uint16_t, PyLong_FromLong);
  case 'I':
    READ(uint32_t, PyLong_FromUnsignedLong);
  case 'Q':
    READ(uint64_t, PyLong_FromUnsignedLongLong);
  case 'e':
    return PyFloat_FromDouble(PyFloat_Unpack2(at, PY_LITTLE_ENDIAN));
  }
  PyErr_Format(PyExc_SystemError, "[item] an element has the unknown code '%c'.", code);
  return NULL;
}

PyObject *fb_py_item(PyObject *module, PyObject *o) {
  (void)module;
  fb_tensor *t = fb_as_tensor(o, "item");
  const fb_type *type = t ? fb_tensor_get_type(t) : NULL;
  if (!type)
    return NULL;
  if (count(type) != 1)
    return PyErr_Format(PyExc_RuntimeError, "[item] a tensor of shape %S has %lld elements, not one. Index it first.",
                        type->size, (long long)count(type));
  fb_look look;
  int found = look_at(t, &look);
  if (found < 0)
    return NULL;
  if (FB_LIKELY(found)) {
    PyObject *number = element(look.type->code, look.first);
    look_end(&look);
    return number;
  }
  PyObject *array = array_of(t), *number = array ? PyObject_CallMethod(array, "item", NULL) : NULL;
  Py_XDECREF(array);
  return number;
}

static PyObject *list_of(const fb_look *look, int dim, const char *at) {
  if (dim == look->type->ndim)
    return element(look->type->code, at);
  int64_t n = look->type->dims[dim], step = look->strides[dim] * (int64_t)look->type->itemsize;
  PyObject *list = PyList_New(n);
  for (int64_t i = 0; list && i < n; i++) {
    PyObject *item = list_of(look, dim + 1, at + i * step);
    if (!item)
      Py_CLEAR(list);
    else
      PyList_SET_ITEM(list, i, item);
  }
  return list;
}

PyObject *fb_py_tolist(PyObject *module, PyObject *o) {
  (void)module;
  fb_look look;
  fb_tensor *t = fb_as_tensor(o, "tolist");
  int found = t ? look_at(t, &look) : -1;
  if (found < 0)
    return NULL;
  if (FB_LIKELY(found)) {
    PyObject *list = list_of(&look, 0, look.first);
    look_end(&look);
    return list;
  }
  PyObject *array = array_of(t), *list = array ? PyObject_CallMethod(array, "tolist", NULL) : NULL;
  Py_XDECREF(array);
  return list;
}

/* Python's own error for what is no number is another class than that of `item()`. */
static int check_one(PyObject *o, const char *op, PyObject *error) {
  fb_tensor *t = fb_as_tensor(o, op);
  const fb_type *type = t ? fb_tensor_get_type(t) : NULL;
  int64_t n = type ? count(type) : -1;
  if (type && n != 1)
    PyErr_Format(error, "[%s] a tensor of shape %S has %lld elements, not one. Index it first.", op, type->size,
                 (long long)n);
  return n == 1 ? 0 : -1;
}

static PyObject *converted(PyObject *o, PyObject *(*convert)(PyObject *)) {
  PyObject *number = fb_py_item(NULL, o), *made = number ? convert(number) : NULL;
  Py_XDECREF(number);
  return made;
}

PyObject *fb_py_to_float(PyObject *module, PyObject *o) {
  (void)module;
  return check_one(o, "float", PyExc_ValueError) < 0 ? NULL : converted(o, PyNumber_Float);
}

PyObject *fb_py_to_int(PyObject *module, PyObject *o) {
  (void)module;
  return check_one(o, "int", PyExc_ValueError) < 0 ? NULL : converted(o, PyNumber_Long);
}

static PyObject *truth(PyObject *number) {
  int found = PyObject_IsTrue(number);
  return found < 0 ? NULL : PyBool_FromLong(found);
}

PyObject *fb_py_to_bool(PyObject *module, PyObject *o) {
  (void)module;
  fb_tensor *t = fb_as_tensor(o, "bool");
  const fb_type *type = t ? fb_tensor_get_type(t) : NULL;
  if (type && count(type) != 1)
    return PyErr_Format(
        PyExc_RuntimeError,
        "[bool] the truth of a tensor of shape %S is ambiguous. Use .any(), .all() or compare its item().", type->size);
  return type ? converted(o, truth) : NULL;
}

PyObject *fb_py_to_index(PyObject *module, PyObject *o) {
  (void)module;
  fb_tensor *t = fb_as_tensor(o, "index");
  const fb_type *type = t ? fb_tensor_get_type(t) : NULL;
  static PyObject *name;
  PyObject *whole = type ? fb_attribute_of(type->dtype, &name, "is_integral") : NULL;
  int is_whole = whole ? PyObject_IsTrue(whole) : -1;
  Py_XDECREF(whole);
  if (is_whole == 0)
    PyErr_Format(PyExc_TypeError, "[index] a tensor of dtype %S cannot be used as an index. Convert it with .long().",
                 type->dtype);
  if (is_whole > 0 && check_one(o, "index", PyExc_TypeError) < 0)
    return NULL;
  return is_whole > 0 ? converted(o, PyNumber_Long) : NULL;
}

/* ---- memory ---------------------------------------------------------------------------------------------- */

/* Whether each element has a place of its own; an array whose elements share places must not be written to. */
static bool is_spread(const fb_look *look) {
  for (int i = 0; i < look->type->ndim; i++)
    if (look->strides[i] == 0 && look->type->dims[i] != 1)
      return false;
  return true;
}

/* memory(tensor) -> (shape, NumPy dtype, Buffer, offset, strides), as numpy.ndarray takes them, or None. */
PyObject *fb_py_memory(PyObject *module, PyObject *o) {
  (void)module;
  fb_look look;
  fb_tensor *t = fb_as_tensor(o, "memory");
  int found = t ? look_at(t, &look) : -1;
  if (found <= 0)
    return found < 0 ? NULL : Py_NewRef(Py_None);
  const fb_type *type = look.type;
  PyObject *strides = NULL, *made = NULL;
  if (count(type) && is_spread(&look)) {
    for (int i = 0; i < type->ndim; i++)
      look.strides[i] *= (int64_t)type->itemsize;
    strides = fb_symbol_tuple(look.strides, (uint32_t)type->ndim);
  }
  Py_ssize_t offset = look.first - (const char *)fb_buffer_data(look.buffer);
  static PyObject *name;
  PyObject *dtype = strides ? fb_attribute_of(type->dtype, &name, "numpy") : NULL;
  if (dtype)
    fb_buffer_retain(look.buffer);
  PyObject *buffer = dtype ? fb_buffer_to_python(look.buffer) : NULL;
  if (buffer)
    made = Py_BuildValue("(OOOnO)", type->shape, dtype, buffer, offset, strides);
  look_end(&look);
  Py_XDECREF(buffer);
  Py_XDECREF(dtype);
  Py_XDECREF(strides);
  return made || PyErr_Occurred() ? made : Py_NewRef(Py_None);
}

/* strides(tensor) -> tuple, in elements, or None: without a look at what they are. */
PyObject *fb_py_strides(PyObject *module, PyObject *o) {
  (void)module;
  const int64_t *layout = NULL;
  fb_tensor *t = fb_as_tensor(o, "strides");
  const fb_view *view = t ? t->view : NULL;
  if (!t || (view && fb_view_layout(view, &layout) < 0))
    return NULL;
  if (view) {
    fb_in_hand++;
    PyObject *found = layout ? fb_symbol_tuple(layout + 1, (uint32_t)view->types[0]->ndim) : Py_NewRef(Py_None);
    fb_in_hand--;
    return found;
  }
  int64_t strides[FB_MAX_DIMS];
  const fb_type *type = t->cell->type;
  if (type->ndim > FB_MAX_DIMS)
    return Py_NewRef(Py_None);
  dense_strides(type, strides);
  return fb_symbol_tuple(strides, (uint32_t)type->ndim);
}
