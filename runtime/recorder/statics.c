/* Static arguments of a call: found by identity in a small cache of each function, interned by value otherwise. */
#include "function.h"

typedef struct {
  uint32_t id;         /* of no other, now or later */
  uint32_t pins;       /* rows of functions' caches, and what stays */
  bool marked, doomed; /* see fb_interned_limit */
  PyObject *values;    /* tuple */
  PyObject *key;       /* canonical */
} fb_static;

static PyObject *static_ids; /* canonical key -> id */
static fb_static *statics;   /* by id */
static uint32_t n_statics, cap_statics, next_id, collect_at;

/* ---- by value -------------------------------------------------------------------------------------------- */

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

/* NULL: it is gone. Valid until the next one is added. */
static fb_static *static_find(uint32_t id) {
  uint32_t low = 0, high = n_statics;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (statics[middle].id < id)
      low = middle + 1;
    else
      high = middle;
  }
  return low < n_statics && statics[low].id == id ? &statics[low] : NULL;
}

/* Keys may be compared by Python code: the first to be put there counts, and numbers are never used twice. */
static int64_t static_add(PyObject *values, PyObject *key) {
  PyObject *number = PyLong_FromUnsignedLong(next_id);
  if (!number || fb_grow((void **)&statics, &cap_statics, n_statics + 1, sizeof *statics) < 0) {
    Py_XDECREF(number);
    return -1;
  }
  statics[n_statics++] = (fb_static){.id = next_id++, .values = Py_NewRef(values), .key = Py_NewRef(key)};
  PyObject *known = PyDict_SetDefault(static_ids, key, number);
  int64_t id = known ? PyLong_AsLongLong(known) : -1;
  Py_DECREF(number);
  return id;
}

static int64_t static_lookup(PyObject *values) {
  if (!static_ids && !(static_ids = PyDict_New()))
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
  fb_static *known = id >= 0 ? static_find((uint32_t)id) : NULL;
  if (known)
    known->doomed = false;
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

PyObject *fb_static_values(uint32_t id) {
  const fb_static *found = static_find(id);
  if (!found || !found->values)
    PyErr_Format(PyExc_RuntimeError, "[recorder] static arguments %u have been forgotten. Report this as a bug.", id);
  return found ? found->values : NULL;
}

bool fb_static_is_there(uint32_t id) {
  const fb_static *found = static_find(id);
  return found && found->values;
}

uint32_t fb_static_count(void) { return n_statics; }

static void add_pins(uint32_t id, int n) {
  fb_static *found = static_find(id);
  if (found)
    found->pins += (uint32_t)n;
}

void fb_static_pin(uint32_t id) { add_pins(id, 1); }
void fb_static_unpin(uint32_t id) { add_pins(id, -1); }

/* ---- memory ------------------------------------------------------------------------------------------------ */

void fb_statics_collect_soon(void) { collect_at = 0; }

bool fb_statics_are_full(uint32_t most) { return n_statics > most && n_statics > collect_at; }

void fb_static_hold(uint32_t id, bool lives) {
  fb_static *found = static_find(id);
  if (found) {
    found->marked |= lives;
    found->doomed = false;
  }
}

/* Nobody finds it any more, unless somebody has meanwhile: hashing and comparing may let other threads in. */
static void static_unlink(uint32_t id) {
  fb_static *s = static_find(id);
  PyObject *key = Py_NewRef(s->key), *found = PyDict_GetItemWithError(static_ids, key);
  if (found && PyLong_AsUnsignedLong(found) == id && static_find(id)->doomed)
    PyDict_DelItem(static_ids, key);
  PyErr_Clear();
  s = static_find(id);
  if (s->doomed && !s->pins)
    Py_CLEAR(s->values);
  Py_DECREF(key);
}

static void statics_compact(void) {
  uint32_t kept = 0, before = n_statics;
  PyObject **keys = PyMem_Malloc(before * sizeof *keys);
  uint32_t n_keys = 0;
  for (uint32_t i = 0; keys && i < before; i++) {
    if (statics[i].values)
      statics[kept++] = statics[i];
    else
      keys[n_keys++] = statics[i].key;
  }
  if (keys)
    n_statics = kept;
  for (uint32_t i = 0; i < n_keys; i++)
    Py_DECREF(keys[i]);
  PyMem_Free(keys);
}

void fb_statics_sweep(void) {
  uint32_t *dead = PyMem_Malloc(((size_t)n_statics + 1) * sizeof *dead), n_dead = 0, live = 0;
  for (uint32_t i = 0; dead && i < n_statics; i++) {
    fb_static *s = &statics[i];
    bool lives = s->marked || s->pins;
    if (!lives && s->doomed)
      dead[n_dead++] = s->id;
    live += lives;
    s->doomed = !lives;
    s->marked = false;
  }
  for (uint32_t i = 0; i < n_dead; i++)
    static_unlink(dead[i]);
  PyMem_Free(dead);
  if (n_dead)
    statics_compact();
  collect_at = n_statics + live; /* as of types */
}

/* ---- by identity ----------------------------------------------------------------------------------------- */

#define FB_ROW 14
typedef struct {
  uint32_t n;
  const void *item[FB_ROW];
} fb_row;

static inline bool row_push(fb_row *row, const void *item) {
  if (row->n == FB_ROW)
    return false;
  row->item[row->n++] = item;
  return true;
}

static bool row_push_items(fb_row *row, PyObject *const *items, Py_ssize_t n) {
  if (!row_push(row, (void *)(uintptr_t)(n << 1 | 1))) /* odd: cannot be an object */
    return false;
  for (Py_ssize_t i = 0; i < n; i++)
    if (!fb_static_is_stable(items[i]) || !row_push(row, items[i]))
      return false;
  return true;
}

static bool row_push_value(fb_row *row, PyObject *value, bool variadic) {
  if (PyTuple_Check(value))
    return row_push_items(row, ((PyTupleObject *)value)->ob_item, PyTuple_GET_SIZE(value));
  if (variadic && !PyList_Check(value))
    return row_push_items(row, &value, 1);
  return !PyList_Check(value) && row_push(row, value);
}

static void row_pin(fb_function *f, uint32_t index, const fb_row *row, uint32_t id) {
  PyObject **line = f->cache + index * (FB_ROW + 1), *before[FB_ROW];
  uintptr_t n_before = (uintptr_t)line[FB_ROW];
  for (uint32_t i = 0; i < row->n; i++)
    if (!((uintptr_t)row->item[i] & 1))
      Py_INCREF((PyObject *)row->item[i]);
  memcpy(before, line, sizeof before);
  memcpy(line, row->item, row->n * sizeof *line);
  line[FB_ROW] = (PyObject *)(uintptr_t)row->n;
  if (n_before)
    add_pins(f->cache_id[index], -1);
  if (row->n)
    add_pins(id, 1);
  f->cache_id[index] = id;
  for (uintptr_t i = 0; i < n_before; i++) /* last, since it may run Python code */
    if (!((uintptr_t)before[i] & 1))
      Py_DECREF(before[i]);
}

static int64_t statics_slow(fb_function *f, PyObject *const *values, PyObject *const *rest, Py_ssize_t n_rest) {
  PyObject *given[64], *packed = NULL;
  PyObject *names = PyTuple_New(f->n_static);
  if (!names)
    return -1;
  uint32_t n = 0;
  for (uint32_t i = 0; i < f->n_params; i++) {
    if (f->param[i].kind != FB_P_STATIC && !(f->kind == FB_VIEW && f->param[i].kind == FB_P_NUMBER))
      continue;
    PyTuple_SET_ITEM(names, n, Py_NewRef(f->param[i].name));
    given[n] = values[i];
    if (f->variadic && i + 1 == f->n_positional) {
      if (n_rest)
        packed = PyTuple_New(n_rest);
      else if (!PyTuple_Check(values[i]) && !PyList_Check(values[i]))
        packed = PyTuple_Pack(1, values[i]);
      for (Py_ssize_t j = 0; packed && j < n_rest; j++)
        PyTuple_SET_ITEM(packed, j, Py_NewRef(rest[j]));
      if (packed)
        given[n] = packed;
    }
    n++;
  }
  int64_t id = PyErr_Occurred() ? -1 : fb_static_intern(given, n, PyUnicode_AsUTF8(f->name), names);
  Py_XDECREF(packed);
  Py_DECREF(names);
  return id;
}

int64_t fb_bind_statics(fb_function *f, PyObject *const *values, PyObject *const *rest, Py_ssize_t n_rest) {
  if (!f->n_static)
    return 0;
  fb_row row = {0};
  bool cached = true;
  for (uint32_t i = 0; cached && i < f->n_params; i++) {
    if (f->param[i].kind != FB_P_STATIC && !(f->kind == FB_VIEW && f->param[i].kind == FB_P_NUMBER))
      continue;
    bool variadic = f->variadic && i + 1 == f->n_positional;
    cached = variadic && n_rest ? row_push_items(&row, rest, n_rest) : row_push_value(&row, values[i], variadic);
  }
  if (!cached)
    return statics_slow(f, values, rest, n_rest);
  uintptr_t hash = 0;
  for (uint32_t i = 0; i < row.n; i++)
    hash = (hash ^ (uintptr_t)row.item[i]) * 0x9E3779B97F4A7C15ull;
  uint32_t index = (uint32_t)(hash >> 40) % FB_STATIC_CACHE;
  PyObject **line = f->cache + index * (FB_ROW + 1);
  if (FB_LIKELY((uintptr_t)line[FB_ROW] == row.n && !memcmp(line, row.item, row.n * sizeof *line)))
    return f->cache_id[index];
  int64_t id = statics_slow(f, values, rest, n_rest);
  if (id >= 0)
    row_pin(f, index, &row, (uint32_t)id);
  return id;
}

PyObject **fb_new_statics(void) {
  PyObject **cache = PyMem_Calloc(FB_STATIC_CACHE * (FB_ROW + 1), sizeof *cache);
  return cache ? cache : (PyObject **)PyErr_NoMemory();
}

void fb_free_statics(fb_function *f) {
  fb_row empty = {0};
  for (uint32_t i = 0; f->cache && i < FB_STATIC_CACHE; i++)
    row_pin(f, i, &empty, 0);
  PyMem_Free(f->cache);
}

PyObject *fb_function_statics(fb_function *f, uint32_t id) {
  PyObject *dict = PyDict_New();
  if (!dict || !f->n_static)
    return dict;
  PyObject *values = fb_static_values(id);
  Py_ssize_t n = 0;
  if (!values) {
    Py_DECREF(dict);
    return NULL;
  }
  for (uint32_t i = 0; i < f->n_params; i++)
    if (f->param[i].kind == FB_P_STATIC || (f->kind == FB_VIEW && f->param[i].kind == FB_P_NUMBER))
      if (PyDict_SetItem(dict, f->param[i].name, PyTuple_GET_ITEM(values, n++)) < 0) {
        Py_DECREF(dict);
        return NULL;
      }
  return dict;
}
