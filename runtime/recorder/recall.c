/* Calls of functions written in Python that give views, or come to one recorded call: what such a call has come to is
 * done again for equal arguments, without Python. Numbers, strings, dtypes, None, and tuples and lists of these are
 * compared by what they are; a call with anything else is always the function's. Next: forwarded.c, recalled.c. */
#include "call.h"

enum { IS_INT = 1, IS_OBJECT, IS_TUPLE, IS_LIST, IS_TENSOR, IS_FLOAT };
#define KIND_BITS 3

static bool add(fb_asked *asked, unsigned kind, uint64_t word) {
  if (asked->n == FB_ASKED_WORDS)
    return false;
  asked->words[0] = asked->words[0] << KIND_BITS | kind;
  asked->words[asked->n++] = word;
  return true;
}

static bool add_object(fb_asked *asked, PyObject *o) {
  if (asked->n_pins == FB_ASKED_PINS)
    return false;
  asked->pins[asked->n_pins++] = o;
  return add(asked, IS_OBJECT, (uint64_t)(uintptr_t)o);
}

static bool add_value(fb_asked *asked, const fb_tensor *t, PyObject *o, int recalled) {
  if (FB_LIKELY(PyLong_CheckExact(o))) {
    int overflow;
    int64_t value = PyLong_AsLongLongAndOverflow(o, &overflow);
    return !overflow && add(asked, IS_INT, (uint64_t)value);
  }
  if (PyTuple_Check(o) || PyList_CheckExact(o)) { /* a list may change meanwhile: no pins */
    bool is_tuple = PyTuple_Check(o);
    Py_ssize_t n = PySequence_Fast_GET_SIZE(o);
    bool known = add(asked, is_tuple ? IS_TUPLE : IS_LIST, (uint64_t)n);
    for (Py_ssize_t i = 0; known && i < n; i++) {
      PyObject *item = PySequence_Fast_GET_ITEM(o, i);
      known = (is_tuple || PyLong_CheckExact(item)) && add_value(asked, t, item, recalled);
    }
    return known;
  }
  if (o == Py_None || PyBool_Check(o) || PyUnicode_CheckExact(o) || Py_TYPE(o) == Py_TYPE(t->cell->type->dtype))
    return add_object(asked, o);
  if (PyFloat_CheckExact(o)) {
    uint64_t bits;
    double value = PyFloat_AS_DOUBLE(o);
    memcpy(&bits, &value, sizeof bits);
    return add(asked, IS_FLOAT, bits);
  }
  if (recalled != FB_BY_TYPES || !fb_is_tensor(o))
    return false;
  const fb_type *type = fb_tensor_get_type((fb_tensor *)o);
  if (!type)
    PyErr_Clear();
  return type && add(asked, IS_TENSOR, type->id);
}

/* What is shown of what, and what gradients have to do with it. Two words. */
static inline bool origin_of(const fb_tensor *t, uint64_t *words) {
  const fb_type *type = t->view ? NULL : fb_type_with_grad(t->cell->type, false);
  if (FB_UNLIKELY(!t->view && !type)) {
    PyErr_Clear();
    return false;
  }
  uint32_t mode = fb_recorder_get()->mode;
  bool cut = !(mode & FB_GRAD_MODE) && t->cell->type->requires_grad;
  words[0] = t->view ? (uint64_t)t->view->id << 1 | 1 : (uint64_t)type->id << 1;
  words[1] = mode | (uint64_t)cut << 32 | (uint64_t)(t->leaf != NULL) << 33;
  return true;
}

/* The words: kinds of the following ones, function, origin, mode; then arguments. */
static bool ask(fb_asked *asked, uint32_t function, int recalled, PyObject *const *args, Py_ssize_t n,
                PyObject *kwnames) {
  const fb_tensor *t = (fb_tensor *)args[0];
  asked->n = 4;
  asked->n_pins = 0;
  asked->words[0] = 0;
  asked->words[1] = function;
  if (!origin_of(t, asked->words + 2))
    return false;
  if (recalled == FB_BY_PLACE && t->view)
    for (uint32_t i = 0; i < t->view->n_starts; i++)
      if (!add(asked, IS_INT, (uint64_t)t->starts[i]))
        return false;
  for (Py_ssize_t i = 1; i < n; i++)
    if (!add_value(asked, t, args[i], recalled))
      return false;
  for (Py_ssize_t i = 0; kwnames && i < PyTuple_GET_SIZE(kwnames); i++)
    if (!add_object(asked, PyTuple_GET_ITEM(kwnames, i)) || !add_value(asked, t, args[n + i], recalled))
      return false;
  return true;
}

static inline __attribute__((always_inline)) PyObject *give(fb_tensor *t, const fb_recalled *known,
                                                            const fb_shown *shown) {
  if (!shown->view)
    return Py_NewRef((PyObject *)t);
  return fb_view_shown(t, shown->view, known->starts + shown->first, shown->n_own);
}

static PyObject *give_all(fb_tensor *t, const fb_recalled *known) {
  int was = fb_quiet_begin(); /* nobody forgets it meanwhile, or makes another tensor of this one */
  PyObject *all = PyTuple_New(known->n_shown);
  for (uint32_t i = 0; all && i < known->n_shown; i++) {
    PyObject *one = give(t, known, &known->shown[i]);
    if (one)
      PyTuple_SET_ITEM(all, i, one);
    else
      Py_CLEAR(all);
  }
  fb_quiet_end(was);
  return all;
}

static PyObject *become(fb_tensor *t, const fb_recalled *known) {
  PyObject *shown = give(t, known, known->shown);
  int status = shown ? fb_tensor_become(t, (fb_tensor *)shown) : -1;
  Py_XDECREF(shown);
  return status < 0 ? NULL : Py_NewRef((PyObject *)t);
}

static FB_NOINLINE PyObject *more_than_a_view(fb_tensor *t, const fb_recalled *known, PyObject *const *args) {
  return known->forwarded ? fb_forward(known->forwarded, args) : known->becomes ? become(t, known) : give_all(t, known);
}

FB_HOT bool fb_recall(fb_asked *asked, uint32_t function, int recalled, PyObject *const *args, Py_ssize_t n,
                      PyObject *kwnames, PyObject **result) {
  if (!n || Py_TYPE(args[0]) != fb_tensor_type || !ask(asked, function, recalled, args, n, kwnames)) {
    asked->n = 0;
    return false;
  }
  const fb_recalled *known = fb_recalled_find(asked);
  if (!known)
    return false;
  fb_tensor *t = (fb_tensor *)args[0];
  *result = FB_LIKELY(known->is_view) ? give(t, known, known->shown) : more_than_a_view(t, known, args);
  return true;
}

/* ---- remembering ----------------------------------------------------------------------------------------- */

/* How many of the starts are those of what shows `own`, too. */
static uint32_t inherited_starts(const fb_view *own, const fb_view *v) {
  for (; v; v = v->parent)
    for (const fb_view *mine = own; mine; mine = mine->parent)
      if (mine == v)
        return v->n_starts;
  return 0;
}

/* Whether one of the results is what making it again from `t`, which showed `own`, gives. */
static bool describe(const fb_tensor *t, const fb_view *own, PyObject *o, fb_recalled *found, fb_shown *shown) {
  *shown = (fb_shown){.first = found->n_starts};
  if (o == (PyObject *)t && !found->becomes)
    return true;
  const fb_tensor *made = (fb_tensor *)o;
  if (Py_TYPE(o) != fb_tensor_type || made->cell != t->cell || !made->view ||
      made->leaf != (made->view->detached ? NULL : t->leaf))
    return false;
  uint32_t inherited = inherited_starts(own, made->view);
  shown->view = made->view;
  shown->n_own = made->view->n_starts - inherited;
  if (shown->n_own)
    memcpy(found->starts + found->n_starts, made->starts + inherited, shown->n_own * sizeof *made->starts);
  found->n_starts += shown->n_own;
  return true;
}

static uint32_t count_starts(PyObject *o) {
  return Py_TYPE(o) == fb_tensor_type && ((fb_tensor *)o)->view ? ((fb_tensor *)o)->view->n_starts : 0;
}

static bool describe_all(const fb_learning *learning, const fb_tensor *t, PyObject *result, fb_recalled *found) {
  PyObject **items = found->is_tuple ? ((PyTupleObject *)result)->ob_item : &result;
  found->n_shown = found->is_tuple ? (uint32_t)PyTuple_GET_SIZE(result) : 1;
  if (!found->n_shown || found->n_shown > FB_MOST_SHOWN)
    return false;
  uint32_t most = 0;
  for (uint32_t i = 0; i < found->n_shown; i++)
    most += count_starts(items[i]);
  found->starts = PyMem_Malloc((most + 1) * sizeof *found->starts);
  found->shown = PyMem_Malloc(found->n_shown * sizeof *found->shown);
  bool same = found->starts && found->shown;
  for (uint32_t i = 0; same && i < found->n_shown; i++)
    same = describe(t, learning->view, items[i], found, &found->shown[i]);
  return same;
}

void fb_remember(const fb_asked *asked, const fb_learning *learning, PyObject *const *args, Py_ssize_t n,
                 PyObject *result) {
  const fb_tensor *t = (fb_tensor *)args[0];
  const fb_recorder *rec = learning->rec;
  fb_recalled found = {.is_tuple = PyTuple_CheckExact(result)};
  uint64_t origin[2];
  if (learning->spoilt || learning->cell != t->cell || learning->state != rec->state || learning->trace != rec->id)
    return;
  found.becomes = t->view != learning->view;
  if (learning->function && !found.becomes)
    found.forwarded = fb_forwarded_of(learning, args, n, result);
  bool same =
      !learning->function &&
      (found.becomes ? result == args[0] : origin_of(t, origin) && !memcmp(origin, asked->words + 2, sizeof origin)) &&
      describe_all(learning, t, result, &found);
  found.is_view = !found.forwarded && !found.becomes && !found.is_tuple;
  if (same || found.forwarded)
    fb_recalled_keep(asked, &found);
  else
    fb_recalled_clear(&found);
}
