/* Interning: types, static attribute tuples and views become small numbers that keys are made of. */
#include "function.h"

PyTypeObject *fb_tensor_type; /* tensor.c makes it */

static PyObject *type_ids; /* (shape, dtype, requires_grad, device) -> index */
static PyObject *cpu;      /* the device that types have by default */
static fb_type **types;
static uint32_t n_types, cap_types;

static PyObject *static_ids;  /* canonical key -> index */
static PyObject *static_list; /* index -> tuple of values */

static fb_view **views;
static uint32_t n_views, cap_views;
static uint32_t *view_table, view_mask; /* open addressing; id + 1, 0 is empty */

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

/* ---- statics --------------------------------------------------------------------------------------------- */

bool fb_static_is_stable(PyObject *o) {
  if (PyTuple_Check(o)) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(o); i++)
      if (!fb_static_is_stable(PyTuple_GET_ITEM(o, i)))
        return false;
    return true;
  }
  return !PyList_Check(o);
}

/* Lists become tuples, index-like objects ints. New reference; NULL with an error. */
static PyObject *normalised(PyObject *o) {
  if (o == Py_None || PyBool_Check(o) || PyLong_CheckExact(o) || PyFloat_CheckExact(o) || PyUnicode_CheckExact(o))
    return Py_NewRef(o);
  if (PyTuple_Check(o) || PyList_Check(o)) {
    Py_ssize_t n = PySequence_Fast_GET_SIZE(o);
    PyObject *made = PyTuple_New(n);
    for (Py_ssize_t i = 0; made && i < n; i++) {
      PyObject *item = normalised(PySequence_Fast_GET_ITEM(o, i));
      if (!item) {
        Py_CLEAR(made);
        break;
      }
      PyTuple_SET_ITEM(made, i, item);
    }
    return made;
  }
  if (fb_is_tensor(o)) {
    PyErr_SetString(PyExc_TypeError, "must not be a Tensor");
    return NULL;
  }
  if (PyFloat_Check(o))
    return PyFloat_FromDouble(PyFloat_AS_DOUBLE(o));
  if (PyIndex_Check(o) && !PySequence_Check(o))
    return PyNumber_Index(o);
  return Py_NewRef(o);
}

/* A key that tells 1, 1.0 and True apart, and 0.0 from -0.0. */
static PyObject *canonical(PyObject *o) {
  if (o == Py_None || PyLong_CheckExact(o) || PyUnicode_CheckExact(o))
    return Py_NewRef(o);
  if (PyTuple_Check(o)) {
    Py_ssize_t n = PyTuple_GET_SIZE(o);
    PyObject *made = PyTuple_New(n);
    for (Py_ssize_t i = 0; made && i < n; i++) {
      PyObject *item = canonical(PyTuple_GET_ITEM(o, i));
      if (!item) {
        Py_CLEAR(made);
        break;
      }
      PyTuple_SET_ITEM(made, i, item);
    }
    return made;
  }
  if (PyFloat_CheckExact(o)) {
    int64_t bits;
    double value = PyFloat_AS_DOUBLE(o);
    memcpy(&bits, &value, sizeof bits);
    return Py_BuildValue("(OL)", (PyObject *)&PyFloat_Type, (long long)bits);
  }
  if (PyComplex_CheckExact(o)) {
    int64_t bits[2];
    Py_complex value = PyComplex_AsCComplex(o);
    memcpy(bits, &value, sizeof bits);
    return Py_BuildValue("(OLL)", (PyObject *)&PyComplex_Type, (long long)bits[0], (long long)bits[1]);
  }
  return PyTuple_Pack(2, (PyObject *)Py_TYPE(o), o);
}

/* Keys may be compared by Python code: the first to be put there counts, and numbers are never used twice. */
static int64_t static_add(PyObject *values, PyObject *key) {
  if (PyList_Append(static_list, values) < 0)
    return -1;
  PyObject *number = PyLong_FromSsize_t(PyList_GET_SIZE(static_list) - 1);
  PyObject *known = number ? PyDict_SetDefault(static_ids, key, number) : NULL;
  int64_t id = known ? PyLong_AsLongLong(known) : -1;
  Py_XDECREF(number);
  return id;
}

static int64_t static_lookup(PyObject *values) {
  if (!static_ids && (!(static_ids = PyDict_New()) || !(static_list = PyList_New(0))))
    return -1;
  PyObject *key = canonical(values);
  if (!key)
    return -1;
  int64_t id = -1;
  PyObject *found = PyDict_GetItemWithError(static_ids, key);
  if (found)
    id = PyLong_AsLongLong(found);
  else if (!PyErr_Occurred())
    id = static_add(values, key);
  Py_DECREF(key);
  return id;
}

int64_t fb_static_intern(PyObject *const *values, Py_ssize_t n, const char *function, PyObject *names) {
  PyObject *tuple = PyTuple_New(n);
  if (!tuple)
    return -1;
  for (Py_ssize_t i = 0; i < n; i++) {
    PyObject *value = normalised(values[i]);
    Py_hash_t hash = value ? PyObject_Hash(value) : -1;
    if (hash == -1) {
      Py_XDECREF(value);
      Py_DECREF(tuple);
      if (PyErr_ExceptionMatches(PyExc_TypeError))
        PyErr_Format(PyExc_TypeError, "[%s] argument '%U' has type %.100s, which is not a static value.%s", function,
                     PyTuple_GET_ITEM(names, i), Py_TYPE(values[i])->tp_name,
                     fb_is_tensor(values[i]) ? " Use `.item()` to pass a tensor's value."
                                             : " Pass numbers, strings, dtypes or tuples of these.");
      return -1;
    }
    PyTuple_SET_ITEM(tuple, i, value);
  }
  int64_t id = static_lookup(tuple);
  Py_DECREF(tuple);
  return id;
}

PyObject *fb_static_values(uint32_t id) { return PyList_GET_ITEM(static_list, id); }

/* ---- views ----------------------------------------------------------------------------------------------- */

static uint32_t view_hash(const void *origin, const fb_function *f, uint32_t statics, bool detached, uint32_t n_own) {
  uint64_t h = (uint64_t)(uintptr_t)origin * 0x9E3779B97F4A7C15ull;
  h ^= ((uint64_t)f->id << 32 | statics) * 0xC2B2AE3D27D4EB4Full;
  h ^= (uint64_t)(n_own * 2 + detached) * 0xD6E8FEB86659FD93ull;
  return (uint32_t)(h >> 29);
}

static bool view_is(const fb_view *v, const void *origin, const fb_function *f, uint32_t statics, bool detached,
                    uint32_t n_own) {
  return v->origin == origin && v->function == f && v->statics == statics && v->detached == detached &&
         v->n_own == n_own;
}

fb_view *fb_view_find(const void *origin, fb_function *f, uint32_t statics, bool detached, uint32_t n_own) {
  const fb_view *recent = f->recent_view;
  if (FB_LIKELY(recent && view_is(recent, origin, f, statics, detached, n_own)))
    return (fb_view *)recent;
  if (!view_table)
    return NULL;
  for (uint32_t i = view_hash(origin, f, statics, detached, n_own) & view_mask; view_table[i];
       i = (i + 1) & view_mask) {
    fb_view *v = views[view_table[i] - 1];
    if (view_is(v, origin, f, statics, detached, n_own)) {
      f->recent_view = v;
      return v;
    }
  }
  return NULL;
}

static void view_place(const fb_view *v) {
  uint32_t i = view_hash(v->origin, v->function, v->statics, v->detached, v->n_own) & view_mask;
  while (view_table[i])
    i = (i + 1) & view_mask;
  view_table[i] = v->id + 1;
}

static int view_table_reserve(void) {
  if (view_table && (n_views + 1) * 2 <= view_mask)
    return 0;
  uint32_t size = view_table ? (view_mask + 1) * 2 : 256;
  uint32_t *table = PyMem_Calloc(size, sizeof *table);
  if (!table) {
    PyErr_NoMemory();
    return -1;
  }
  PyMem_Free(view_table);
  view_table = table;
  view_mask = size - 1;
  for (uint32_t i = 1; i < n_views; i++)
    if (views[i]->origin)
      view_place(views[i]);
  return 0;
}

/* The sizes among its own statics after its parent's, and what is left of the chain without them. */
static int view_split(fb_view *v) {
  const int64_t *own;
  uint32_t n, inherited = v->parent ? v->parent->n_sizes : 0;
  int64_t statics = fb_static_sizes(v->function, v->statics, &own, &n);
  if (statics < 0 || !(v->sizes = PyMem_Malloc((inherited + n + 1) * sizeof *v->sizes)))
    return PyErr_Occurred() ? -1 : (PyErr_NoMemory(), -1);
  if (inherited)
    memcpy(v->sizes, v->parent->sizes, inherited * sizeof *v->sizes);
  if (n)
    memcpy(v->sizes + inherited, own, n * sizeof *v->sizes);
  v->n_sizes = inherited + n;
  uint64_t words[5] = {v->parent ? v->parent->skeleton : 0, v->function->id, (uint64_t)statics, v->detached, v->n_own};
  v->skeleton = fb_skeleton_intern(words, 5);
  return v->skeleton ? 0 : -1;
}

fb_view *fb_view_like(const fb_view *like, PyObject *payload) {
  if (fb_grow((void **)&views, &cap_views, n_views + 1, sizeof *views) < 0)
    return NULL;
  fb_view *v = PyMem_Calloc(1, sizeof *v);
  if (!v)
    return (fb_view *)PyErr_NoMemory();
  *v = *like;
  v->limits = NULL;
  v->sizes = NULL;
  v->n_sizes = 0;
  v->origin = NULL;
  v->id = n_views;
  v->function = (fb_function *)Py_NewRef(like->function);
  v->payload = Py_NewRef(payload);
  views[n_views++] = v;
  return v;
}

static void view_free(fb_view *v) {
  PyMem_Free(v->sizes);
  PyMem_Free(v->limits);
  PyMem_Free(v);
}

/* View 0 stands for "the base itself" in keys, so ids start at 1. */
fb_view *fb_view_add(const fb_view *given) {
  fb_view *v = PyMem_Malloc(sizeof(fb_view));
  if (!v) {
    PyMem_Free(given->limits);
    return (fb_view *)PyErr_NoMemory();
  }
  *v = *given;
  v->identity = v->function->detach && (!v->parent || v->parent->identity);
  v->aside = v->function->aside || (v->parent && v->parent->aside);
  v->n_starts = v->n_own + (v->parent ? v->parent->n_starts : 0);
  int status = view_split(v); /* runs Python code: other threads may be let in */
  fb_view *known = status == 0 ? fb_view_find(v->origin, v->function, v->statics, v->detached, v->n_own) : NULL;
  if (!n_views)
    n_views = 1;
  if (status < 0 || known || view_table_reserve() < 0 ||
      fb_grow((void **)&views, &cap_views, n_views + 1, sizeof *views) < 0) {
    view_free(v);
    return known;
  }
  v->id = n_views;
  Py_INCREF((PyObject *)v->function);
  Py_INCREF(v->payload);
  views[n_views++] = v;
  view_place(v);
  v->function->recent_view = v;
  return v;
}

fb_view *fb_view_by_id(uint32_t id) { return views[id]; }
uint32_t fb_view_count(void) { return n_views ? n_views - 1 : 0; }
