/* Expressions of sizes that differ from run to run, and skeletons: what is left of keys without them. */
#include "function.h"

/* ---- expressions ----------------------------------------------------------------------------------------- */

fb_size *fb_size_read(PyObject *o) {
  PyObject *rows = PyTuple_Check(o) ? Py_NewRef(o) : PyObject_GetAttrString(o, "program");
  if (!rows)
    return NULL;
  Py_ssize_t n = PyTuple_Check(rows) ? PyTuple_GET_SIZE(rows) : 0;
  fb_size *s = PyMem_Calloc(1, sizeof *s + (size_t)n * sizeof *s->rows);
  if (!s)
    PyErr_NoMemory();
  else if (!n)
    PyErr_SetString(PyExc_TypeError, "[size] a program is a tuple of rows.");
  for (Py_ssize_t i = 0; s && i < n; i++, s->n++) {
    long long a, b;
    int op;
    if (!PyArg_ParseTuple(PyTuple_GET_ITEM(rows, i), "iLL;a row is (operator, a, b)", &op, &a, &b))
      break;
    bool known = op >= FB_X_CONST && op <= FB_X_MAX;
    bool leaf = op == FB_X_CONST || op == FB_X_SYMBOL;
    if (!known || (!leaf && (a < 0 || a >= i || b < 0 || b >= i))) {
      PyErr_SetString(PyExc_ValueError, "[size] a row has an unknown operator or names a later row.");
      break;
    }
    s->rows[i] = (fb_expr){op, a, b};
  }
  Py_DECREF(rows);
  if (s && (!n || s->n < (uint32_t)n)) {
    PyMem_Free(s);
    s = NULL;
  }
  return s;
}

PyObject *fb_size_rows(const fb_size *s) {
  PyObject *rows = PyTuple_New(s->n);
  for (uint32_t i = 0; rows && i < s->n; i++) {
    PyObject *row = Py_BuildValue("(iLL)", s->rows[i].op, (long long)s->rows[i].a, (long long)s->rows[i].b);
    if (!row)
      Py_CLEAR(rows);
    else
      PyTuple_SET_ITEM(rows, i, row);
  }
  return rows;
}

bool fb_size_value(const fb_size *s, const int64_t *symbols, int64_t *value) {
  int64_t fixed[32], *values = s->n <= 32 ? fixed : PyMem_Malloc(s->n * sizeof *values);
  bool has = values && fb_evaluate(s->rows, 0, (int32_t)s->n, symbols, values) == (int32_t)s->n;
  if (has)
    *value = values[s->n - 1];
  if (values != fixed)
    PyMem_Free(values);
  return has;
}

/* ---- skeletons ------------------------------------------------------------------------------------------- */

static PyObject *skeletons; /* bytes of words -> id */

uint32_t fb_skeleton_intern(const uint64_t *words, uint32_t n) {
  if (!skeletons && !(skeletons = PyDict_New()))
    return 0;
  PyObject *key = PyBytes_FromStringAndSize((const char *)words, n * (Py_ssize_t)sizeof *words);
  PyObject *found = key ? PyDict_GetItemWithError(skeletons, key) : NULL;
  uint32_t id = found ? (uint32_t)PyLong_AsUnsignedLong(found) : 0;
  if (key && !found && !PyErr_Occurred()) {
    id = (uint32_t)PyDict_GET_SIZE(skeletons) + 1;
    PyObject *number = PyLong_FromUnsignedLong(id);
    if (!number || PyDict_SetItem(skeletons, key, number) < 0)
      id = 0;
    Py_XDECREF(number);
  }
  Py_XDECREF(key);
  return id;
}

typedef struct {
  uint64_t key; /* function and statics; 0: empty */
  uint32_t skeleton, n;
  int64_t *sizes;
} fb_split;
static fb_split *splits;
static uint32_t split_mask, n_splits;

static fb_split *split_place(uint64_t key) {
  uint32_t i = (uint32_t)(key * 0x9E3779B97F4A7C15ull >> 32) & split_mask;
  while (splits[i].key && splits[i].key != key)
    i = (i + 1) & split_mask;
  return &splits[i];
}

static int split_reserve(void) {
  if (splits && (n_splits + 1) * 2 <= split_mask)
    return 0;
  uint32_t old_size = splits ? split_mask + 1 : 0, size = old_size ? old_size * 2 : 64;
  fb_split *old = splits;
  if (!(splits = PyMem_Calloc(size, sizeof *splits))) {
    splits = old;
    return PyErr_NoMemory(), -1;
  }
  split_mask = size - 1;
  for (uint32_t i = 0; i < old_size; i++)
    if (old[i].key)
      *split_place(old[i].key) = old[i];
  PyMem_Free(old);
  return 0;
}

/* `o` with Ellipsis for its ints, which are appended to `sizes`. New reference. */
static PyObject *without_ints(PyObject *o, int64_t **sizes, uint32_t *n, uint32_t *cap) {
  if (PyLong_CheckExact(o)) {
    int overflow;
    int64_t value = PyLong_AsLongLongAndOverflow(o, &overflow);
    if (overflow)
      return Py_NewRef(o);
    if (fb_grow((void **)sizes, cap, *n + 1, sizeof **sizes) < 0)
      return NULL;
    (*sizes)[(*n)++] = value;
    return Py_NewRef(Py_Ellipsis);
  }
  if (!PyTuple_Check(o))
    return Py_NewRef(o);
  PyObject *made = PyTuple_New(PyTuple_GET_SIZE(o));
  for (Py_ssize_t i = 0; made && i < PyTuple_GET_SIZE(o); i++) {
    PyObject *item = without_ints(PyTuple_GET_ITEM(o, i), sizes, n, cap);
    if (!item)
      Py_CLEAR(made);
    else
      PyTuple_SET_ITEM(made, i, item);
  }
  return made;
}

static int64_t split_statics(fb_function *f, uint32_t statics, fb_split *split) {
  PyObject *given = fb_static_values(statics), *items[64];
  uint32_t count = 0, cap = 0;
  int64_t id = given ? 0 : -1; /* forgotten: see learn_call */
  for (uint32_t i = 0; id >= 0 && i < f->n_params; i++) {
    if (f->param[i].kind != FB_P_STATIC && !(f->kind == FB_VIEW && f->param[i].kind == FB_P_NUMBER))
      continue;
    PyObject *value = PyTuple_GET_ITEM(given, count);
    items[count] = f->param[i].is_size ? without_ints(value, &split->sizes, &split->n, &cap) : Py_NewRef(value);
    id = items[count] ? 0 : -1;
    count += id == 0;
  }
  if (id == 0)
    id = fb_static_intern(items, count, PyUnicode_AsUTF8(f->name), f->params);
  for (uint32_t i = 0; i < count; i++)
    Py_DECREF(items[i]);
  return id;
}

int64_t fb_static_sizes(fb_function *f, uint32_t statics, const int64_t **sizes, uint32_t *n) {
  *n = 0;
  if (!f->has_sizes)
    return statics;
  if (split_reserve() < 0)
    return -1;
  uint64_t key = (uint64_t)f->id << 32 | statics;
  fb_split *place = split_place(key);
  if (!place->key) {
    fb_split made = {.key = key};
    int64_t skeleton =
        split_statics(f, statics, &made); /* other threads may be let in: the table is another one then */
    if (skeleton < 0 || split_reserve() < 0) {
      PyMem_Free(made.sizes);
      return -1;
    }
    made.skeleton = (uint32_t)skeleton;
    fb_static_pin(made.skeleton); /* patterns are found by it: there are as many as forms of calls */
    place = split_place(key);
    if (place->key) {
      PyMem_Free(made.sizes);
    } else {
      *place = made;
      n_splits++;
    }
  }
  *sizes = place->sizes;
  *n = place->n;
  return place->skeleton;
}

void fb_splits_sweep(void) {
  fb_split *old = splits, *kept = old ? PyMem_Calloc((size_t)split_mask + 1, sizeof *kept) : NULL;
  if (!kept)
    return;
  splits = kept;
  n_splits = 0;
  for (uint32_t i = 0; i <= split_mask; i++) {
    if (!old[i].key)
      continue;
    if (fb_static_is_there((uint32_t)old[i].key)) {
      *split_place(old[i].key) = old[i];
      n_splits++;
    } else {
      PyMem_Free(old[i].sizes);
    }
  }
  PyMem_Free(old);
}

PyObject *fb_symbol_tuple(const int64_t *symbols, uint32_t n) {
  PyObject *tuple = PyTuple_New(n);
  for (uint32_t i = 0; tuple && i < n; i++) {
    PyObject *value = PyLong_FromLongLong(symbols[i]);
    if (!value)
      Py_CLEAR(tuple);
    else
      PyTuple_SET_ITEM(tuple, i, value);
  }
  return tuple;
}
