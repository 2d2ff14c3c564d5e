/* Types, interned: they become small numbers that keys are made of, as views (views.c) and static arguments (statics.c)
 * do. */
#include "function.h"

PyTypeObject *fb_tensor_type; /* tensor.c makes it */

static PyObject *type_ids; /* (shape, dtype, requires_grad, device) -> index */
static PyObject *cpu;      /* the device that types have by default */
static fb_type **types;
static uint32_t n_types, cap_types;

int fb_grow(void **array, uint32_t *cap, uint32_t need, size_t item) {
  if (need <= *cap)
    return 0;
  uint32_t wanted = *cap ? *cap * 2 : 16;
  while (wanted < need)
    wanted *= 2;
  void *grown = PyMem_Realloc(*array, wanted * item);
  if (!grown) {
    PyErr_NoMemory();
    return -1;
  }
  *array = grown;
  *cap = wanted;
  return 0;
}

/* ---- types ----------------------------------------------------------------------------------------------- */

static int too_large(PyObject *shape, PyObject *dtype) {
  PyErr_Format(fb_out_of_memory(),
               "[memory] a tensor of shape %R and dtype %S has more bytes than int64 counts. Use smaller sizes.", shape,
               dtype);
  return -1;
}

/* The dtype's `code`, if it has one that can be read: see look.c. */
static char code_of(PyObject *dtype) {
  PyObject *code = PyObject_GetAttrString(dtype, "code");
  const char *text = code && PyUnicode_Check(code) ? PyUnicode_AsUTF8(code) : NULL;
  char found = text && *text && strchr("?bBhHiIqQefd", *text) ? *text : 0;
  Py_XDECREF(code);
  PyErr_Clear();
  return found;
}

/* Bytes fit int64, so that no arithmetic on sizes, here or in programs, ever overflows. */
static int type_fill(fb_type *t, PyObject *shape, PyObject *dtype) {
  PyObject *size = PyObject_GetAttrString(dtype, "itemsize");
  if (!size)
    return -1;
  int64_t bytes = PyLong_AsLongLong(size);
  bool is_empty = false, fits = true;
  Py_DECREF(size);
  if (PyErr_Occurred())
    return -1;
  t->itemsize = (size_t)bytes;
  for (int i = 0; i < t->ndim; i++) {
    PyObject *item = PyTuple_GET_ITEM(shape, i);
    if (!PyLong_Check(item)) {
      if ((!t->sizes && !(t->sizes = PyMem_Calloc((size_t)t->ndim, sizeof *t->sizes))) ||
          !(t->sizes[i] = fb_size_read(item)))
        return PyErr_Occurred() ? -1 : (PyErr_NoMemory(), -1);
      t->symbolic = true;
      continue;
    }
    int overflow;
    t->dims[i] = PyLong_AsLongLongAndOverflow(item, &overflow);
    if (overflow > 0)
      return too_large(shape, dtype);
    if (overflow < 0 || t->dims[i] < 0) {
      if (!PyErr_Occurred())
        PyErr_Format(PyExc_ValueError, "[tensor] shape %R has a negative size. Give sizes of at least 0.", shape);
      return -1;
    }
    is_empty |= t->dims[i] == 0;
    fits &= !__builtin_mul_overflow(bytes, t->dims[i], &bytes);
  }
  if (!is_empty && !fits)
    return too_large(shape, dtype);
  t->bytes = is_empty ? 0 : (size_t)bytes;
  return 0;
}

static void type_free(fb_type *t) {
  for (int i = 0; t->sizes && i < t->ndim; i++)
    PyMem_Free(t->sizes[i]);
  PyMem_Free(t->sizes);
  Py_XDECREF(t->size);
  PyMem_Free(t);
}

/* A type that only this thread knows; it has a number already. */
static fb_type *type_new(PyObject *shape, PyObject *dtype, PyObject *device, bool requires_grad) {
  Py_ssize_t ndim = PyTuple_GET_SIZE(shape);
  fb_type *t = PyMem_Calloc(1, sizeof(fb_type) + (size_t)ndim * sizeof(int64_t));
  if (!t)
    return (fb_type *)PyErr_NoMemory();
  t->ndim = (int)ndim;
  t->requires_grad = requires_grad;
  t->code = device == cpu ? code_of(dtype) : 0;
  uint64_t skeleton[4] = {(uint64_t)ndim, (uint64_t)(uintptr_t)dtype, requires_grad, (uint64_t)(uintptr_t)device};
  t->skeleton = fb_skeleton_intern(skeleton, 4);
  if (!t->skeleton || type_fill(t, shape, dtype) < 0 || !(t->size = fb_size_of(shape)) ||
      fb_grow((void **)&types, &cap_types, n_types + 1, sizeof *types) < 0) {
    type_free(t);
    return NULL;
  }
  t->shape = Py_NewRef(shape);
  t->dtype = Py_NewRef(dtype);
  t->device = Py_NewRef(device);
  t->id = n_types++;
  types[t->id] = t;
  return t;
}

/* Shapes with symbols are compared by Python code, so other threads may be let in: the first to be put there counts. */
static fb_type *type_add(PyObject *key, PyObject *shape, PyObject *dtype, PyObject *device, bool requires_grad) {
  fb_type *t = type_new(shape, dtype, device, requires_grad);
  PyObject *id = t ? PyLong_FromUnsignedLong(t->id) : NULL;
  PyObject *known = id ? PyDict_SetDefault(type_ids, key, id) : NULL;
  t = known ? types[PyLong_AsUnsignedLong(known)] : NULL;
  Py_XDECREF(id);
  return t;
}

/* The one object that stands for a device. New reference; NULL with an error. */
static PyObject *device_name(PyObject *device) {
  if (!cpu && !(cpu = PyUnicode_InternFromString("cpu")))
    return NULL;
  if (!device)
    return Py_NewRef(cpu);
  if (!PyUnicode_CheckExact(device))
    return PyErr_Format(PyExc_TypeError, "[tensor] device %R is no str.", device);
  Py_INCREF(device);
  PyUnicode_InternInPlace(&device);
  return device;
}

static fb_type *type_intern(PyObject *shape, PyObject *dtype, PyObject *given, bool requires_grad) {
  if (!type_ids && !(type_ids = PyDict_New()))
    return NULL;
  PyObject *device = device_name(given), *sizes = device ? PySequence_Tuple(shape) : NULL;
  if (!sizes) {
    Py_XDECREF(device);
    return NULL;
  }
  fb_type *t = NULL;
  PyObject *key = PyTuple_Pack(4, sizes, dtype, requires_grad ? Py_True : Py_False, device);
  if (key) {
    PyObject *found = PyDict_GetItemWithError(type_ids, key);
    if (found)
      t = types[PyLong_AsUnsignedLong(found)];
    else if (!PyErr_Occurred())
      t = type_add(key, sizes, dtype, device, requires_grad);
    Py_DECREF(key);
  }
  Py_DECREF(sizes);
  Py_DECREF(device); /* the type keeps it */
  return t;
}

bool fb_type_on_cpu(const fb_type *type) { return type->device == cpu; }

static bool is_plain(PyObject *shape) {
  for (Py_ssize_t i = 0; PyTuple_Check(shape) && i < PyTuple_GET_SIZE(shape); i++)
    if (!PyLong_CheckExact(PyTuple_GET_ITEM(shape, i)))
      return false;
  return PyTuple_Check(shape);
}

/* With plain sizes it lets no other thread in. */
FB_NOINLINE fb_type *fb_type_intern(PyObject *shape, PyObject *dtype, PyObject *device, bool requires_grad) {
  if (!is_plain(shape))
    return type_intern(shape, dtype, device, requires_grad);
  int quiet = fb_quiet_begin();
  fb_type *t = type_intern(shape, dtype, device, requires_grad);
  fb_quiet_end(quiet);
  return t;
}

fb_type *fb_type_with_grad(const fb_type *type, bool requires_grad) {
  if (type->requires_grad == requires_grad)
    return (fb_type *)type;
  if (!type->with_other_grad) {
    fb_type *other = fb_type_intern(type->shape, type->dtype, type->device, requires_grad);
    if (!other)
      return NULL;
    other->with_other_grad = (fb_type *)type;
    ((fb_type *)type)->with_other_grad = other;
  }
  return type->with_other_grad;
}

const fb_type *fb_type_at(const fb_type *type, const int64_t *symbols) {
  if (!type->symbolic)
    return type;
  int64_t fixed[16], *dims = type->ndim <= 16 ? fixed : PyMem_Malloc((size_t)type->ndim * sizeof *dims);
  const fb_type *found = NULL;
  bool known = dims != NULL;
  for (int i = 0; known && i < type->ndim; i++) {
    dims[i] = type->dims[i];
    known = !type->sizes[i] || fb_size_value(type->sizes[i], symbols, &dims[i]);
  }
  size_t bytes = (size_t)type->ndim * sizeof *dims;
  if (known && type->recent && !memcmp(dims, type->recent->dims, bytes)) {
    found = type->recent;
  } else if (known) {
    PyObject *shape = fb_symbol_tuple(dims, (uint32_t)type->ndim);
    found = shape ? fb_type_intern(shape, type->dtype, type->device, type->requires_grad) : NULL;
    ((fb_type *)type)->recent = found;
    Py_XDECREF(shape);
  } else if (dims) {
    PyErr_Format(PyExc_RuntimeError, "[tensor] a size of %R has no 64-bit value.", type->shape);
  } else {
    PyErr_NoMemory();
  }
  if (dims != fixed)
    PyMem_Free(dims);
  return found;
}

fb_type *fb_type_by_id(uint32_t id) { return types[id]; }
uint32_t fb_type_count(void) { return n_types; }
