/* Tensors of Python numbers: a number, or nested lists and tuples of them, all equally long. Anything else, and what
 * does not fit, is the frontend's business. */
#include "module.h"

#define FB_MAX_NESTING 32
enum { HAS_BOOL = 1, HAS_INT = 2, HAS_FLOAT = 4 };

typedef struct {
  int64_t shape[FB_MAX_NESTING];
  int ndim;
  int kinds;           /* of the numbers */
  int64_t least, most; /* of the ints, and 0 */
} fb_literal;

static bool is_list(PyObject *o) { return PyList_CheckExact(o) || PyTuple_CheckExact(o); }

/* The shape along first items. False: too deep, or without elements. */
static bool read_shape(PyObject *data, fb_literal *found) {
  for (; is_list(data); data = PySequence_Fast_GET_ITEM(data, 0)) {
    if (found->ndim == FB_MAX_NESTING || !PySequence_Fast_GET_SIZE(data))
      return false;
    found->shape[found->ndim++] = PySequence_Fast_GET_SIZE(data);
  }
  return true;
}

static bool read_kinds(PyObject *data, int dim, fb_literal *found) {
  if (dim < found->ndim) {
    if (!is_list(data) || PySequence_Fast_GET_SIZE(data) != found->shape[dim])
      return false;
    for (Py_ssize_t i = 0; i < found->shape[dim]; i++)
      if (!read_kinds(PySequence_Fast_GET_ITEM(data, i), dim + 1, found))
        return false;
    return true;
  }
  int overflow = 0;
  if (PyFloat_CheckExact(data)) {
    found->kinds |= HAS_FLOAT;
    return true;
  }
  if (PyBool_Check(data)) {
    found->kinds |= HAS_BOOL;
    return true;
  }
  if (!PyLong_CheckExact(data))
    return false;
  int64_t value = PyLong_AsLongLongAndOverflow(data, &overflow);
  found->kinds |= HAS_INT;
  found->least = value < found->least ? value : found->least;
  found->most = value > found->most ? value : found->most;
  return !overflow;
}

#define WRITE(type, value)                                                                                             \
  do {                                                                                                                 \
    type converted = (type)(value);                                                                                    \
    memcpy(at, &converted, sizeof converted);                                                                          \
    return at + sizeof converted;                                                                                      \
  } while (0)

/* Where there are floats, ints become floats first: 64 bits, then the dtype's. */
static char *write_float(char code, double value, char *at) {
  if (code == 'f')
    WRITE(float, value);
  if (code == 'd')
    WRITE(double, value);
  WRITE(bool, value != 0);
}

static char *write_int(char code, int64_t value, char *at) {
  switch (code) {
  case 'q':
    WRITE(int64_t, value);
  case 'i':
    WRITE(int32_t, value);
  case 'f':
    WRITE(float, value);
  case 'd':
    WRITE(double, value);
  }
  WRITE(bool, value != 0);
}

static char *write_number(PyObject *data, bool floats, char code, char *at) {
  if (PyFloat_CheckExact(data))
    return write_float(code, PyFloat_AS_DOUBLE(data), at);
  int64_t value = PyLong_AsLongLong(data);
  return floats ? write_float(code, (double)value, at) : write_int(code, value, at);
}

static char *write_all(PyObject *data, const fb_literal *found, int dim, char code, char *at) {
  if (dim == found->ndim)
    return write_number(data, found->kinds & HAS_FLOAT, code, at);
  for (Py_ssize_t i = 0; i < found->shape[dim]; i++)
    at = write_all(PySequence_Fast_GET_ITEM(data, i), found, dim + 1, code, at);
  return at;
}

static PyObject *make(PyObject *data, const fb_literal *found, const fb_type *type) {
  fb_cell *c = fb_cell_new(type);
  if (!c)
    return NULL;
  fb_status status = fb_capture_cell(c) == 0 ? fb_buffer_alloc(type->bytes, &c->buffer) : FB_OK;
  if (status == FB_OK && c->buffer) {
    write_all(data, found, 0, type->code, fb_buffer_data(c->buffer));
    return fb_tensor_new(c, NULL);
  }
  fb_cell_release(c);
  return status == FB_OK ? NULL : fb_raise_status(status, 0);
}

/* The type of the data, and what is found in it; NULL without an error: not ours. Interning a new type runs Python
 * code, which may change the data: then it is read again. */
static const fb_type *read_data(PyObject *const *args, fb_literal *found) {
  for (;;) {
    uint32_t n_types = fb_types_made();
    *found = (fb_literal){0};
    if (!read_shape(args[0], found) || !read_kinds(args[0], 0, found))
      return NULL;
    PyObject *own = args[found->kinds & HAS_FLOAT ? 2 : found->kinds & HAS_INT ? 3 : 4];
    PyObject *shape = fb_symbol_tuple(found->shape, (uint32_t)found->ndim);
    const fb_type *type = shape ? fb_type_intern(shape, args[1] == Py_None ? own : args[1], NULL, false) : NULL;
    Py_XDECREF(shape);
    if (!type || fb_types_made() == n_types)
      return type;
  }
}

/* literal(data, dtype or None, dtype of floats, of ints, of bools) -> Tensor; None: not ours. */
PyObject *fb_py_literal(PyObject *module, PyObject *const *args, Py_ssize_t n) {
  (void)module;
  if (n != 5)
    return PyErr_Format(PyExc_TypeError, "[literal] takes 5 arguments, got %zd.", n);
  fb_literal found;
  int quiet = fb_quiet_begin();
  const fb_type *type = read_data(args, &found);
  bool is_held = type && (type->code != 'i' || (found.least >= INT32_MIN && found.most <= INT32_MAX));
  bool is_written = is_held && type->code && strchr(found.kinds & HAS_FLOAT ? "fd?" : "fdqi?", type->code);
  PyObject *made = is_written ? make(args[0], &found, type) : NULL;
  fb_quiet_end(quiet);
  return made || PyErr_Occurred() ? made : Py_NewRef(Py_None);
}
