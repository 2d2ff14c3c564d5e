/* Indexing by ints, slices, None and `...`: views whose links are found again by what they select, without Python.
 * Anything else, and whatever is out of range, is the frontend's business. */
#include "call.h"

#define FB_MAX_RANK 16 /* of indexed tensors, and of results */

/* A window: per dim of the tensor where it starts, how many elements it takes and how far apart, and the result's
 * shape. All but the starts makes the key of a link. */
typedef struct {
  int64_t starts[FB_MAX_RANK];
  int64_t key[3 * FB_MAX_RANK]; /* sizes, steps, shape */
  uint32_t rank, n_shape;
} fb_window;

/* ---- links --------------------------------------------------------------------------------------------- */

/* The link, made by the frontend's view `window(tensor, starts, sizes, steps, shape)`. */
static const fb_view *learn(fb_function *f, fb_tensor *t, const fb_window *w) {
  PyObject *sizes = fb_symbol_tuple(w->key, w->rank),
           *steps = sizes ? fb_symbol_tuple(w->key + w->rank, w->rank) : NULL;
  PyObject *shape = steps ? fb_symbol_tuple(w->key + 2 * w->rank, w->n_shape) : NULL;
  PyObject *values[5] = {(PyObject *)t, Py_None, sizes, steps, shape};
  const fb_view *v = shape ? fb_view_link(f, values, w->rank) : NULL;
  Py_XDECREF(sizes);
  Py_XDECREF(steps);
  Py_XDECREF(shape);
  return v;
}

/* NULL without an error: another thread has put the tensor on another base. */
static const fb_view *link_of(fb_function *f, fb_tensor *t, const fb_window *w) {
  const void *origin = fb_view_origin(t);
  fb_selection asked = {
      .origin = origin, .key = w->key, .n = 2 * w->rank + w->n_shape, .detached = fb_view_detaches(f, t)};
  if (!origin)
    return NULL;
  const fb_view *v = fb_selection_find(&asked);
  if (FB_LIKELY(v != NULL))
    return v;
  if (!(v = learn(f, t, w)) || v->origin != origin)
    return NULL;
  bool is_new = v->detached == asked.detached && !fb_selection_find(&asked);
  asked.view = v;
  return is_new && fb_selection_remember(&asked) < 0 ? NULL : v;
}

/* ---- reading an index ------------------------------------------------------------------------------------ */

static void take(fb_window *w, int64_t *sizes, int64_t *steps, int64_t start, int64_t size, int64_t step, bool keep,
                 int64_t *shape) {
  w->starts[w->rank] = start;
  sizes[w->rank] = size;
  steps[w->rank++] = step;
  if (keep)
    shape[w->n_shape++] = size;
}

static bool is_plain(PyObject *o) { return o == Py_None || PyLong_CheckExact(o); }

/* One item for a dim of `extent` elements; false where it is not ours. */
static bool take_item(fb_window *w, int64_t *sizes, int64_t *steps, int64_t *shape, PyObject *item, int64_t extent) {
  if (FB_LIKELY(PyLong_CheckExact(item))) {
    int overflow;
    int64_t index = PyLong_AsLongLongAndOverflow(item, &overflow);
    if (overflow || index < -extent || index >= extent)
      return false;
    take(w, sizes, steps, index < 0 ? index + extent : index, 1, 1, false, shape);
    return true;
  }
  Py_ssize_t start, stop, step;
  const PySliceObject *slice = (PySliceObject *)item;
  if (!PySlice_Check(item) || !is_plain(slice->start) || !is_plain(slice->stop) || !is_plain(slice->step))
    return false;
  if (PySlice_Unpack(item, &start, &stop, &step) < 0) { /* a step of 0 */
    PyErr_Clear();
    return false;
  }
  if (step < 0)
    return false;
  Py_ssize_t size = PySlice_AdjustIndices((Py_ssize_t)extent, &start, &stop, step);
  take(w, sizes, steps, size ? start : 0, size, size > 1 ? step : 1, true, shape);
  return true;
}

static void take_rest(fb_window *w, int64_t *sizes, int64_t *steps, int64_t *shape, const fb_type *type, uint32_t to) {
  while (w->rank < to)
    take(w, sizes, steps, 0, type->dims[w->rank], 1, true, shape);
}

/* How many dims the items take; -1 where one is not ours, or there are too many. */
static int count_used(PyObject *const *items, Py_ssize_t n, int ndim) {
  int used = 0, ellipses = 0;
  for (Py_ssize_t i = 0; i < n; i++) {
    bool is_dim = PyLong_CheckExact(items[i]) || PySlice_Check(items[i]);
    if (!is_dim && items[i] != Py_None && items[i] != Py_Ellipsis)
      return -1;
    used += is_dim;
    ellipses += items[i] == Py_Ellipsis;
  }
  return used > ndim || ellipses > 1 || ndim + (int)n > FB_MAX_RANK ? -1 : used;
}

static bool read_index(const fb_type *type, PyObject *const *items, Py_ssize_t n, fb_window *w) {
  int used = count_used(items, n, type->ndim);
  if (used < 0)
    return false;
  uint32_t rank = (uint32_t)type->ndim;
  int64_t *sizes = w->key, *steps = sizes + rank, *shape = steps + rank;
  w->rank = w->n_shape = 0;
  for (Py_ssize_t i = 0; i < n; i++) {
    if (items[i] == Py_None)
      shape[w->n_shape++] = 1;
    else if (items[i] == Py_Ellipsis)
      take_rest(w, sizes, steps, shape, type, w->rank + rank - (uint32_t)used);
    else if (!take_item(w, sizes, steps, shape, items[i], type->dims[w->rank]))
      return false;
  }
  take_rest(w, sizes, steps, shape, type, rank);
  return true;
}

/* ---- views ----------------------------------------------------------------------------------------------- */

static fb_function *window_function(void) {
  return fb_hooks.window && Py_IS_TYPE(fb_hooks.window, fb_function_type) ? (fb_function *)fb_hooks.window : NULL;
}

bool fb_try_index(fb_tensor *t, PyObject *index, PyObject **result) {
  fb_function *f = window_function();
  fb_window w;
  bool is_tuple = PyTuple_CheckExact(index);
  PyObject *const *items = is_tuple ? ((PyTupleObject *)index)->ob_item : &index;
  const fb_view *v;
  do {
    const fb_type *type = f ? fb_tensor_get_type(t) : NULL;
    if (!type || !type->ndim || !read_index(type, items, is_tuple ? PyTuple_GET_SIZE(index) : 1, &w))
      return false;
    v = link_of(f, t, &w);
  } while (FB_UNLIKELY(!v) && !PyErr_Occurred());
  *result = v ? fb_view_handle(t, v, w.starts) : NULL;
  return true;
}

/* The two show the same elements of the same base: what `x[i] += y` assigns at last. */
static bool is_same(const fb_tensor *a, const fb_tensor *b) {
  if (a->cell != b->cell || !a->view || !b->view || a->view->payload != b->view->payload ||
      a->view->n_starts != b->view->n_starts)
    return false;
  return !a->view->n_starts || !memcmp(a->starts, b->starts, a->view->n_starts * sizeof *a->starts);
}

/* What stores `value` in the view `place`; NULL: not ours. */
static PyObject *storing(const fb_tensor *place, PyObject *value) {
  if (PyFloat_CheckExact(value) || PyLong_CheckExact(value) || PyBool_Check(value))
    return fb_hooks.fill;
  if (!fb_is_tensor(value))
    return NULL;
  const fb_type *to = fb_tensor_get_type(place), *from = fb_tensor_get_type((fb_tensor *)value);
  return to && from && to->dtype == from->dtype && from->ndim <= to->ndim ? fb_hooks.copy : NULL;
}

bool fb_try_assign(fb_tensor *t, PyObject *index, PyObject *value, int *status) {
  PyObject *place, *store;
  if (!fb_try_index(t, index, &place))
    return false;
  *status = place ? 0 : -1;
  if (place && fb_is_tensor(value) && is_same((fb_tensor *)place, (fb_tensor *)value)) {
    Py_DECREF(place);
    return true;
  }
  if (place && !(store = storing((fb_tensor *)place, value))) {
    Py_DECREF(place);
    return false;
  }
  if (place) {
    PyObject *args[3] = {NULL, place, value};
    PyObject *done = PyObject_Vectorcall(store, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    *status = done ? 0 : -1;
    Py_XDECREF(done);
    Py_DECREF(place);
  }
  return true;
}

/* iter(x): of its slices along the first dimension, all made at once. */
PyObject *fb_iterate(PyObject *o) {
  fb_tensor *t = (fb_tensor *)o;
  fb_function *f = window_function();
  const fb_type *type = fb_tensor_get_type(t);
  if (!type)
    return NULL;
  if (!type->ndim)
    return PyErr_Format(PyExc_TypeError, "[iter] a 0-d tensor cannot be iterated. Use .item() for its value.");
  int64_t n = type->dims[0];
  PyObject *rows = PyTuple_New(n);
  for (int64_t i = 0; rows && i < n; i++) {
    PyObject *index = PyLong_FromLongLong(i), *row = NULL;
    if (index && (!f || !fb_try_index(t, index, &row)))
      row = PyObject_GetItem(o, index);
    Py_XDECREF(index);
    if (row)
      PyTuple_SET_ITEM(rows, i, row);
    else
      Py_CLEAR(rows);
  }
  PyObject *iterator = rows ? PyObject_GetIter(rows) : NULL;
  Py_XDECREF(rows);
  return iterator;
}
