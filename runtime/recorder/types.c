/* Types, interned: they become small numbers that keys are made of, as views (views.c) and static arguments (statics.c)
 * do. */
#include "function.h"

PyTypeObject *fb_tensor_type; /* tensor.c makes it */

static PyObject *symbolic_types; /* (shape, dtype, requires_grad, device) -> address: they stay */
static PyObject *cpu;            /* the device that types have by default */
static fb_type **types;          /* all, by id */
static uint32_t n_types, cap_types, next_id, collect_at;
static fb_type **table; /* the others, in chains */
static uint32_t table_mask, n_plain;
uint32_t fb_in_hand;

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
  Py_XDECREF(t->shape);
  PyMem_Free(t);
}

/* A type that only this thread knows. Dtypes and devices, by whose addresses skeletons are known, stay for ever. */
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
  if (!t->skeleton || type_fill(t, shape, dtype) < 0 || !(t->size = fb_size_of(shape))) {
    type_free(t);
    return NULL;
  }
  t->shape = Py_NewRef(shape);
  t->dtype = Py_NewRef(dtype);
  t->device = Py_NewRef(device);
  return t;
}

static int type_number(fb_type *t) {
  if (fb_grow((void **)&types, &cap_types, n_types + 1, sizeof *types) < 0)
    return -1;
  t->id = next_id++;
  types[n_types++] = t;
  return 0;
}

/* ---- those of sizes that are numbers: their table compares them without Python ---------------------------- */

typedef struct {
  const int64_t *dims;
  int ndim;
  const PyObject *dtype, *device;
  bool requires_grad;
} fb_plain;

static uint32_t plain_hash(const fb_plain *p) {
  uint64_t h = (uint64_t)(uintptr_t)p->dtype ^ (uint64_t)(uintptr_t)p->device << 7 ^ p->requires_grad;
  for (int i = 0; i < p->ndim; i++)
    h = (h ^ (uint64_t)p->dims[i]) * 0x9E3779B97F4A7C15ull;
  return (uint32_t)(h >> 32 ^ h >> 11);
}

static fb_type *plain_find(const fb_plain *p, uint32_t hash) {
  for (fb_type *t = table ? table[hash & table_mask] : NULL; t; t = t->hash_next)
    if (t->hash == hash && t->ndim == p->ndim && t->dtype == p->dtype && t->device == p->device &&
        t->requires_grad == p->requires_grad && !memcmp(t->dims, p->dims, (size_t)p->ndim * sizeof *p->dims)) {
      t->doomed = false;
      return t;
    }
  return NULL;
}

static void plain_place(fb_type *t) {
  fb_type **bucket = &table[t->hash & table_mask];
  t->hash_next = *bucket;
  *bucket = t;
}

static int plain_reserve(void) {
  if (table && n_plain < table_mask)
    return 0;
  uint32_t size = table ? (table_mask + 1) * 2 : 256;
  fb_type **grown = PyMem_Calloc(size, sizeof *grown);
  if (!grown)
    return PyErr_NoMemory(), -1;
  PyMem_Free(table);
  table = grown;
  table_mask = size - 1;
  for (uint32_t i = 0; i < n_types; i++)
    if (!types[i]->symbolic)
      plain_place(types[i]);
  return 0;
}

/* Asking a dtype may let other threads in: the first type to be put there counts. */
static fb_type *plain_add(const fb_plain *p, uint32_t hash, PyObject *shape, PyObject *dtype, PyObject *device) {
  fb_type *t = type_new(shape, dtype, device, p->requires_grad), *known = t ? plain_find(p, hash) : NULL;
  if (!t)
    return NULL;
  t->hash = hash;
  if (known || plain_reserve() < 0 || type_number(t) < 0) {
    type_free(t);
    return known;
  }
  plain_place(t);
  n_plain++;
  return t;
}

/* Its sizes, if they are ints of at least 0 that int64 holds. */
static bool read_dims(PyObject *shape, int64_t *dims) {
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(shape); i++) {
    PyObject *item = PyTuple_GET_ITEM(shape, i);
    int overflow = 0;
    if (!PyLong_Check(item) || (dims[i] = PyLong_AsLongLongAndOverflow(item, &overflow)) < 0 || overflow)
      return false;
  }
  return true;
}

/* ---- those of sizes with symbols --------------------------------------------------------------------------- */

/* Compared by Python code, so other threads may be let in: the first to be put there counts. */
static fb_type *symbolic_add(PyObject *key, PyObject *shape, PyObject *dtype, PyObject *device, bool requires_grad) {
  fb_type *t = type_new(shape, dtype, device, requires_grad);
  PyObject *address = t ? PyLong_FromVoidPtr(t) : NULL;
  PyObject *known = address ? PyDict_SetDefault(symbolic_types, key, address) : NULL;
  if (known == address && known && type_number(t) < 0)
    known = NULL; /* nobody has it */
  else if (known)
    t = PyLong_AsVoidPtr(known);
  Py_XDECREF(address);
  return known ? t : NULL;
}

static fb_type *symbolic_intern(PyObject *shape, PyObject *dtype, PyObject *device, bool requires_grad) {
  if (!symbolic_types && !(symbolic_types = PyDict_New()))
    return NULL;
  PyObject *key = PyTuple_Pack(4, shape, dtype, requires_grad ? Py_True : Py_False, device);
  PyObject *found = key ? PyDict_GetItemWithError(symbolic_types, key) : NULL;
  fb_type *t = NULL;
  if (found)
    t = PyLong_AsVoidPtr(found);
  else if (key && !PyErr_Occurred())
    t = symbolic_add(key, shape, dtype, device, requires_grad);
  Py_XDECREF(key);
  return t;
}

/* ---- interning --------------------------------------------------------------------------------------------- */

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

static fb_type *type_intern(PyObject *sizes, PyObject *dtype, PyObject *device, bool requires_grad) {
  Py_ssize_t ndim = PyTuple_GET_SIZE(sizes);
  int64_t fixed[16], *dims = ndim <= 16 ? fixed : PyMem_Malloc((size_t)ndim * sizeof *dims);
  if (!dims)
    return (fb_type *)PyErr_NoMemory();
  fb_type *t;
  if (read_dims(sizes, dims)) {
    fb_plain plain = {dims, (int)ndim, dtype, device, requires_grad};
    uint32_t hash = plain_hash(&plain);
    if (!(t = plain_find(&plain, hash)))
      t = plain_add(&plain, hash, sizes, dtype, device);
  } else {
    t = symbolic_intern(sizes, dtype, device, requires_grad);
  }
  if (dims != fixed)
    PyMem_Free(dims);
  return t;
}

bool fb_type_on_cpu(const fb_type *type) { return type->device == cpu; }

static bool is_plain(PyObject *shape) {
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(shape); i++)
    if (!PyLong_CheckExact(PyTuple_GET_ITEM(shape, i)))
      return false;
  return true;
}

/* With plain sizes it lets no other thread in. */
FB_NOINLINE fb_type *fb_type_intern(PyObject *shape, PyObject *dtype, PyObject *given, bool requires_grad) {
  PyObject *device = device_name(given), *sizes = device ? PySequence_Tuple(shape) : NULL;
  fb_type *t = NULL;
  if (sizes) {
    bool quietly = is_plain(sizes);
    int quiet = quietly && fb_quiet_begin();
    t = type_intern(sizes, dtype, device, requires_grad);
    if (quietly)
      fb_quiet_end(quiet);
    Py_DECREF(sizes);
  }
  Py_XDECREF(device); /* the type keeps it */
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
    ((fb_type *)found)->doomed = false;
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

fb_type *fb_type_by_id(uint32_t id) {
  uint32_t low = 0, high = n_types;
  while (high - low > 1) {
    uint32_t middle = low + (high - low) / 2;
    if (types[middle]->id <= id)
      low = middle;
    else
      high = middle;
  }
  return types[low];
}

uint32_t fb_type_count(void) { return n_types; }
uint32_t fb_types_made(void) { return next_id; }

/* ---- memory ------------------------------------------------------------------------------------------------ */

void fb_types_collect_soon(void) { collect_at = 0; }

bool fb_types_are_full(uint32_t most) { return n_plain > most && n_plain > collect_at; }

/* Types that differ in `requires_grad` live and die together. */
static bool is_dead(const fb_type *t) {
  const fb_type *other = t->with_other_grad;
  return !t->marked && t->doomed && (!other || (!other->marked && other->doomed));
}

static void mark_pairs(void) {
  for (uint32_t i = 0; i < n_types; i++) {
    fb_type *t = types[i];
    t->marked |= t->cells || t->symbolic;
    if (t->marked)
      fb_type_mark(t->with_other_grad);
  }
  for (uint32_t i = 0; i < n_types; i++)
    if (types[i]->recent && is_dead(types[i]->recent))
      types[i]->recent = NULL;
}

void fb_types_sweep(void) {
  fb_type *dead = NULL;
  uint32_t kept = 0, live = 0;
  if (!table)
    return;
  mark_pairs();
  memset(table, 0, ((size_t)table_mask + 1) * sizeof *table);
  for (uint32_t i = 0; i < n_types; i++)
    types[i]->hash_next = is_dead(types[i]) ? types[i] : NULL; /* itself: is dead */
  for (uint32_t i = 0; i < n_types; i++) {
    fb_type *t = types[i];
    if (t->hash_next) {
      t->hash_next = dead;
      dead = t;
      continue;
    }
    live += t->marked;
    t->doomed = !t->marked;
    t->marked = false;
    types[kept++] = t;
    if (!t->symbolic)
      plain_place(t);
  }
  n_plain -= n_types - kept;
  n_types = kept;
  collect_at = n_plain + live; /* not twice what is there: what is doomed would make it more each time */
  while (dead) {
    fb_type *next = dead->hash_next;
    type_free(dead);
    dead = next;
  }
}
