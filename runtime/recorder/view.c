/* Views: handles on the same cell. Making one records nothing; its link of the chain is interned. */
#include "capture.h"

PyObject *fb_tensor_starts(const fb_tensor *t) {
  uint32_t n = t->view ? t->view->n_starts : 0;
  PyObject *tuple = PyTuple_New(n);
  for (uint32_t i = 0; tuple && i < n; i++) {
    PyObject *start = PyLong_FromLongLong(t->starts[i]);
    if (!start)
      Py_CLEAR(tuple);
    else
      PyTuple_SET_ITEM(tuple, i, start);
  }
  return tuple;
}

/* ("tensor", shape, dtype, requires_grad, of a leaf, view payload or None, shape of the base, device) */
PyObject *fb_operand_info(fb_tensor *t, bool elements) {
  const fb_type *type = fb_tensor_get_type(t);
  if (!type)
    return NULL;
  bool viewed = t->view && !elements;
  return Py_BuildValue("(sOOOOOOO)", "tensor", type->shape, type->dtype, type->requires_grad ? Py_True : Py_False,
                       t->leaf || fb_tensor_is_leaf(t) ? Py_True : Py_False, viewed ? t->view->payload : Py_None,
                       elements ? type->shape : t->cell->type->shape, type->device);
}

/* The greatest allowed starts; *limits NULL: unchecked. */
static int read_limits(const fb_function *f, uint32_t n_own, PyObject *given, int64_t **limits) {
  *limits = NULL;
  if (given == Py_None || !n_own)
    return 0;
  PyObject *items = PySequence_Tuple(given);
  if (!items)
    return -1;
  int status = -1;
  if (PyTuple_GET_SIZE(items) != n_own)
    PyErr_Format(PyExc_ValueError, "[%U] expand gave %zd limits for %u starts.", f->name, PyTuple_GET_SIZE(items),
                 n_own);
  else if (!(*limits = PyMem_Calloc(n_own, sizeof **limits)))
    PyErr_NoMemory();
  else
    status = 0;
  for (uint32_t i = 0; status == 0 && i < n_own; i++) {
    (*limits)[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(items, i));
    status = (*limits)[i] == -1 && PyErr_Occurred() ? -1 : 0;
  }
  Py_DECREF(items);
  if (status < 0) {
    PyMem_Free(*limits);
    *limits = NULL;
  }
  return status;
}

/* The view that the frontend has answered with, if it is one that `parent` was made from. */
static const fb_view *known_before(const fb_view *parent, PyObject *payload) {
  while (parent && parent->payload != payload)
    parent = parent->parent;
  return parent;
}

static fb_view *learn(fb_function *f, fb_tensor *t, uint32_t statics, bool detached, uint32_t n_own,
                      const void *origin) {
  const fb_view *parent = t->view;
  PyObject *hook = fb_hook(fb_hooks.expand, "expand"), *info = hook ? fb_operand_info(t, false) : NULL;
  PyObject *values = info ? fb_function_statics(f, statics) : NULL, *answer = NULL;
  if (values)
    answer = PyObject_CallFunction(hook, "O[OI]OI", (PyObject *)f, info, n_own, values, fb_recorder_get()->mode);
  Py_XDECREF(info);
  Py_XDECREF(values);
  PyObject *payload, *shape, *dtype, *limits = Py_None;
  if (!answer)
    return NULL;
  fb_view *v = NULL;
  if (PyTuple_Check(answer) &&
      PyArg_ParseTuple(answer, "O(OO)|O;expand of a view returns (payload, (shape, dtype)[, limits])", &payload, &shape,
                       &dtype, &limits)) {
    fb_view made = {.origin = origin,
                    .parent = parent,
                    .same = known_before(parent, payload),
                    .function = f,
                    .statics = statics,
                    .detached = detached,
                    .n_own = n_own,
                    .payload = payload};
    made.types[0] = fb_type_intern(shape, dtype, t->cell->type->device, false);
    made.types[1] = made.types[0] ? fb_type_with_grad(made.types[0], !detached) : NULL;
    if (made.types[1] && read_limits(f, n_own, limits, &made.limits) == 0)
      v = fb_view_add(&made);
  } else if (!PyErr_Occurred()) {
    PyErr_SetString(PyExc_TypeError, "[expand] a view's expansion must be a tuple.");
  }
  Py_DECREF(answer);
  return v;
}

static int read_starts(fb_function *f, PyObject *value, int64_t *own, uint32_t *n) {
  if (!PyTuple_Check(value) || PyTuple_GET_SIZE(value) > 32) {
    PyErr_Format(PyExc_TypeError, "[%U] starts must be a tuple of at most 32 ints.", f->name);
    return -1;
  }
  *n = (uint32_t)PyTuple_GET_SIZE(value);
  for (uint32_t i = 0; i < *n; i++) {
    own[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(value, i));
    if (own[i] == -1 && PyErr_Occurred())
      return -1;
  }
  return 0;
}

static int check_starts(const fb_view *v, const int64_t *own) {
  for (uint32_t i = 0; v->limits && i < v->n_own; i++)
    if (own[i] < 0 || own[i] > v->limits[i]) {
      PyErr_Format(PyExc_IndexError, "[%U] start %lld is out of range. It must be in [0, %lld].", v->function->name,
                   (long long)own[i], (long long)v->limits[i]);
      return -1;
    }
  return 0;
}

PyObject *fb_view_shown(fb_tensor *t, const fb_view *v, const int64_t *own, uint32_t n_own) {
  int64_t *starts = NULL;
  if (v->n_starts) {
    uint32_t inherited = v->n_starts - n_own;
    starts = PyMem_Malloc(v->n_starts * sizeof *starts);
    if (!starts)
      return PyErr_NoMemory();
    if (inherited)
      memcpy(starts, t->starts, inherited * sizeof *starts);
    if (n_own)
      memcpy(starts + inherited, own, n_own * sizeof *starts);
  }
  PyObject *leaf = v->detached ? NULL : Py_XNewRef((PyObject *)t->leaf);
  fb_tensor *made = fb_tensor_through(t, v, NULL); /* may let other threads in */
  if (FB_UNLIKELY(!made)) {
    PyMem_Free(starts);
    Py_XDECREF(leaf);
    return NULL;
  }
  made->starts = starts;
  made->leaf = (fb_leaf *)leaf;
  return (PyObject *)made;
}

bool fb_view_detaches(const fb_function *f, const fb_tensor *t) {
  return f->detach || (t->view && t->view->detached) ||
         (!(fb_recorder_get()->mode & FB_GRAD_MODE) && (t->leaf || t->cell->type->requires_grad));
}

const void *fb_view_origin(const fb_tensor *t) {
  return t->view ? (const void *)t->view : fb_type_with_grad(t->cell->type, false);
}

/* The chain of the tensor's view, or `origin` itself, with one more link: found or learnt. NULL: error. */
static const fb_view *link_of(fb_function *f, fb_tensor *t, uint32_t statics, uint32_t n_own) {
  for (;;) {
    bool detached = fb_view_detaches(f, t);
    const void *origin = fb_view_origin(t);
    const fb_view *v = origin ? fb_view_find(origin, f, statics, detached, n_own) : NULL;
    /* once it is known nobody comes in between: another thread may assign to `data` meanwhile */
    if (FB_LIKELY(v != NULL) || !origin)
      return v;
    fb_in_hand++;
    bool learnt = learn(f, t, statics, detached, n_own, origin) != NULL;
    fb_in_hand--;
    if (!learnt)
      return NULL;
  }
}

PyObject *fb_view_handle(fb_tensor *t, const fb_view *v, const int64_t *own) {
  return FB_UNLIKELY(v->same != NULL) ? fb_view_shown(t, v->same, NULL, 0) : fb_view_shown(t, v, own, v->n_own);
}

const fb_view *fb_view_link(fb_function *f, PyObject *const *values, uint32_t n_own) {
  int64_t statics = fb_bind_statics(f, values, NULL, 0);
  return statics < 0 ? NULL : link_of(f, (fb_tensor *)values[0], (uint32_t)statics, n_own);
}

PyObject *fb_record_view(fb_function *f, PyObject *const *values, uint32_t statics) {
  fb_tensor *t = (fb_tensor *)values[0];
  if (!fb_is_tensor(values[0]))
    return PyErr_Format(PyExc_TypeError, "[%U] argument '%U' must be a Tensor, got %.100s.", f->name, f->param[0].name,
                        Py_TYPE(values[0])->tp_name);
  int64_t own[32];
  uint32_t n_own = 0;
  for (uint32_t i = 1; i < f->n_params; i++)
    if (f->param[i].kind == FB_P_STARTS && read_starts(f, values[i], own, &n_own) < 0)
      return NULL;
  const fb_view *v = link_of(f, t, statics, n_own);
  if (!v || FB_UNLIKELY(v->limits && check_starts(v, own) < 0))
    return NULL;
  return fb_view_handle(t, v, own);
}
