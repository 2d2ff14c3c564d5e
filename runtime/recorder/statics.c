/* Static arguments of a call: found by identity in a small cache of each function, interned by value otherwise. */
#include "function.h"

static PyObject *static_ids;  /* canonical key -> index */
static PyObject *static_list; /* index -> tuple of values */

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
  for (uint32_t i = 0; i < f->n_params; i++)
    if (f->param[i].kind == FB_P_STATIC || (f->kind == FB_VIEW && f->param[i].kind == FB_P_NUMBER))
      if (PyDict_SetItem(dict, f->param[i].name, PyTuple_GET_ITEM(values, n++)) < 0) {
        Py_DECREF(dict);
        return NULL;
      }
  return dict;
}
