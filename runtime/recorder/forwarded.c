/* Calls of functions in Python that come to one recorded call: how that is found out, and made again. */
#include "call.h"

/* ---- learning: what is recorded while the function runs --------------------------------------------------- */

void fb_learning_begin(fb_learning *learning, const fb_tensor *t) {
  fb_recorder *rec = fb_recorder_get();
  *learning = (fb_learning){
      .outer = rec->learning, .rec = rec, .state = rec->state, .trace = rec->id, .cell = t->cell, .view = t->view};
  learning->cell->refs++; /* so that no other is where it and its view have been */
  fb_view_enter(learning->view);
  rec->learning = learning;
  rec->learns = true;
}

static PyObject *tuple_of(PyObject *const *items, Py_ssize_t n) {
  PyObject *tuple = PyTuple_New(n);
  for (Py_ssize_t i = 0; tuple && i < n; i++)
    PyTuple_SET_ITEM(tuple, i, Py_NewRef(items[i]));
  return tuple;
}

/* Several arguments for one are a tuple of them. */
static void note(fb_learning *learning, fb_function *f, PyObject *const *values, PyObject *const *rest,
                 Py_ssize_t n_rest) {
  const fb_recorder *rec = learning->rec;
  PyObject *several = NULL;
  learning->spoilt |= learning->function || learning->state != rec->state || learning->trace != rec->id ||
                      f->n_params > FB_MOST_FORWARDED;
  if (learning->spoilt || (n_rest && !(several = tuple_of(rest, n_rest)))) {
    learning->spoilt = true;
    PyErr_Clear();
    return;
  }
  learning->function = f;
  for (uint32_t i = 0; i < f->n_params; i++)
    learning->values[i] = several && i == f->n_positional - 1 ? several : Py_NewRef(values[i]);
}

void fb_learning_note(fb_recorder *rec, fb_function *f, PyObject *const *values, PyObject *const *rest,
                      Py_ssize_t n_rest) {
  for (fb_learning *l = rec->learning; l; l = l->outer)
    note(l, f, values, rest, n_rest);
}

void fb_learning_take(fb_recorder *rec, PyObject *result) {
  for (fb_learning *l = rec->learning; l; l = l->outer) {
    l->spoilt |= !result || l->result;
    if (l->spoilt)
      continue;
    l->result = Py_NewRef(result);
    l->state = rec->state;
    l->trace = rec->id;
  }
}

void fb_learning_end(fb_learning *learning) {
  fb_recorder *rec = learning->rec;
  rec->learning = learning->outer;
  rec->learns = rec->learning != NULL;
  for (uint32_t i = 0; learning->function && i < learning->function->n_params; i++)
    Py_DECREF(learning->values[i]);
  Py_XDECREF(learning->result);
  fb_view_leave(learning->view);
  fb_cell_release(learning->cell);
}

/* not_recalled(): the calls that are on their way are never made without Python, for that does more than they record.
 */
PyObject *fb_py_not_recalled(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  fb_learning_spoil();
  Py_RETURN_NONE;
}

/* A value has been read, which may be another in an equal call. */
void fb_learning_spoil(void) {
  for (fb_learning *l = fb_recorder_get()->learning; l; l = l->outer)
    l->spoilt = true;
}

/* ---- what it came to -------------------------------------------------------------------------------------- */

/* Whether a value is the same in each equal call, and may be held as long as anybody likes. */
static bool is_constant(PyObject *o, const fb_param *p) {
  return o == p->fallback || o == Py_None || PyBool_Check(o) || PyLong_CheckExact(o) || PyFloat_CheckExact(o) ||
         PyComplex_CheckExact(o) || (p->kind == FB_P_STATIC && fb_static_is_stable(o));
}

/* The index of the argument that is this very tensor; `n` where none is, or more than one. */
static uint32_t index_of(PyObject *const *args, uint32_t n, PyObject *o) {
  uint32_t found = n;
  for (uint32_t i = 0; i < n; i++) {
    if (args[i] == o && found < n)
      return n;
    found = args[i] == o ? i : found;
  }
  return found;
}

/* Whether it is as the recorded call gave it: no leaf, and without attributes. */
static bool is_plain(PyObject *o) {
  return Py_TYPE(o) == fb_tensor_type && !((fb_tensor *)o)->leaf && !((fb_tensor *)o)->dict;
}

static bool are_plain(PyObject *tuple) {
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); i++)
    if (!is_plain(PyTuple_GET_ITEM(tuple, i)))
      return false;
  return true;
}

/* The named tuple of the same items; NULL where it is something else. */
static PyTypeObject *named_tuple(PyObject *results, PyObject *named) {
  if (!PyTuple_CheckExact(results) || !PyTuple_Check(named) || Py_SIZE(results) != Py_SIZE(named) ||
      Py_TYPE(named)->tp_basicsize != PyTuple_Type.tp_basicsize)
    return NULL;
  for (Py_ssize_t i = 0; i < Py_SIZE(results); i++)
    if (PyTuple_GET_ITEM(results, i) != PyTuple_GET_ITEM(named, i))
      return NULL;
  return Py_TYPE(named);
}

fb_forwarded *fb_forwarded_of(const fb_learning *learning, PyObject *const *args, Py_ssize_t n, PyObject *result) {
  fb_function *f = learning->function;
  PyTypeObject *made = NULL;
  if (result != learning->result && (!learning->result || !(made = named_tuple(learning->result, result))))
    return NULL;
  if (PyTuple_Check(result) ? !are_plain(result) : index_of(args, (uint32_t)n, result) == n && !is_plain(result))
    return NULL;
  fb_forwarded *forwarded = PyMem_Calloc(1, sizeof *forwarded + f->n_params * sizeof *forwarded->of);
  if (!forwarded)
    return NULL;
  forwarded->refs = 1;
  forwarded->function = (fb_function *)Py_NewRef((PyObject *)f);
  forwarded->made = (PyTypeObject *)Py_XNewRef((PyObject *)made);
  for (; forwarded->n < f->n_params; forwarded->n++) {
    PyObject *value = learning->values[forwarded->n];
    uint32_t from = fb_is_tensor(value) ? index_of(args, (uint32_t)n, value) : 0;
    if (fb_is_tensor(value) ? from == n : !is_constant(value, &f->param[forwarded->n]))
      break;
    forwarded->of[forwarded->n].value = fb_is_tensor(value) ? NULL : Py_NewRef(value);
    forwarded->of[forwarded->n].from = from;
  }
  if (forwarded->n == f->n_params)
    return forwarded;
  fb_forwarded_leave(forwarded);
  return NULL;
}

/* ---- making it again -------------------------------------------------------------------------------------- */

static PyObject *named(PyTypeObject *made, PyObject *results) {
  Py_ssize_t n = PyTuple_GET_SIZE(results);
  PyObject *tuple = made->tp_alloc(made, n);
  for (Py_ssize_t i = 0; tuple && i < n; i++)
    PyTuple_SET_ITEM(tuple, i, Py_NewRef(PyTuple_GET_ITEM(results, i)));
  return tuple;
}

FB_HOT PyObject *fb_forward(fb_forwarded *forwarded, PyObject *const *args) {
  PyObject *values[FB_MOST_FORWARDED];
  for (uint32_t i = 0; i < forwarded->n; i++)
    values[i] = forwarded->of[i].value ? forwarded->of[i].value : args[forwarded->of[i].from];
  forwarded->refs++; /* it may be forgotten meanwhile */
  PyObject *results = fb_function_record(forwarded->function, values), *result = results;
  if (results && forwarded->made) {
    result = named(forwarded->made, results);
    Py_DECREF(results);
  }
  fb_forwarded_leave(forwarded);
  return result;
}
