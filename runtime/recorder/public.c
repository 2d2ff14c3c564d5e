/* Public: a callable that users call, such that its errors can be told in their words. It forwards each call; only an
 * exception costs something: report(function, name, exception, args, kwargs) then says which exception to raise.
 * Keywords in another spelling are forwarded under the name that the function knows. */
#include "cells.h"
#include "module.h"

#include <structmember.h>

typedef struct {
  PyObject_HEAD vectorcallfunc vectorcall;
  PyObject *function, *name, *report, *dict, *weakrefs;
  PyObject *spellings; /* other name of a parameter -> its name, or NULL */
  PyObject *more;      /* what a call with a keyword goes to that the function does not know, or NULL */
  int recalled; /* what the outcome of a call follows from, FB_NOT_RECALLED where Python is always asked: see call.h */
  uint32_t id;
} fb_public;

static PyObject *keywords(PyObject *const *values, PyObject *names) {
  PyObject *made = PyDict_New();
  for (Py_ssize_t i = 0; made && names && i < PyTuple_GET_SIZE(names); i++)
    if (PyDict_SetItem(made, PyTuple_GET_ITEM(names, i), values[i]) < 0)
      Py_CLEAR(made);
  return made;
}

static PyObject *positionals(PyObject *const *values, Py_ssize_t n) {
  PyObject *made = PyTuple_New(n);
  for (Py_ssize_t i = 0; made && i < n; i++)
    PyTuple_SET_ITEM(made, i, Py_NewRef(values[i]));
  return made;
}

static void throw(PyObject *error) {
  PyObject *traceback = PyException_GetTraceback(error);
  PyErr_Restore(Py_NewRef(Py_TYPE(error)), Py_NewRef(error), traceback);
}

/* Whether a keyword is one of those that `more` knows (see out.py). */
static bool gives_more(PyObject *kwnames) {
  static const char *const names[] = {"out", "layout", "pin_memory", "names"};
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(kwnames); i++)
    for (int k = 0; k < 4; k++)
      if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, i), names[k]) == 0)
        return true;
  return false;
}

/* Replaces the exception that is set by what `report` makes of it. */
static void explain(fb_public *p, PyObject *const *args, Py_ssize_t n, PyObject *kwnames) {
  PyObject *type, *error, *traceback;
  PyErr_Fetch(&type, &error, &traceback);
  PyErr_NormalizeException(&type, &error, &traceback);
  if (traceback)
    PyException_SetTraceback(error, traceback);
  PyObject *positional = positionals(args, n), *named = keywords(args + n, kwnames), *found = NULL;
  if (positional && named)
    found = PyObject_CallFunctionObjArgs(p->report, p->function, p->name, error, positional, named, NULL);
  if (!PyErr_Occurred() || !fb_is_interruption(PyErr_Occurred())) { /* else the interrupt is raised */
    PyErr_Clear();                                                  /* what went wrong here does not count */
    throw(found && PyExceptionInstance_Check(found) ? found : error);
  }
  Py_XDECREF(found);
  Py_XDECREF(positional);
  Py_XDECREF(named);
  Py_XDECREF(type);
  Py_XDECREF(error);
  Py_XDECREF(traceback);
}

/* A call that raises has perhaps recorded some of its parts. What of them may fail is run first: errors come in the
 * order of the program, none at a later read of something else. `trace` and `n` are what it was before the call. */
static void run_parts(uint64_t trace, uint32_t n) {
  fb_recorder *rec = fb_current;
  if (!rec || rec->n_locs <= (rec->id == trace ? n : 0) || rec->capture || rec->outer || rec->held)
    return;
  PyObject *type, *error, *traceback;
  PyErr_Fetch(&type, &error, &traceback);
  if (fb_flush_own(rec) == 0) {
    PyErr_Restore(type, error, traceback);
    return;
  }
  Py_XDECREF(type);
  Py_XDECREF(error);
  Py_XDECREF(traceback);
}

static FB_NOINLINE void tell(fb_public *p, PyObject *const *args, size_t nargsf, PyObject *kwnames, uint64_t trace,
                             uint32_t n) {
  if (PyErr_ExceptionMatches(PyExc_Exception)) {
    explain(p, args, PyVectorcall_NARGS(nargsf), kwnames);
    if (PyErr_ExceptionMatches(PyExc_Exception))
      run_parts(trace, n);
  }
}

static PyObject *told(fb_public *p, PyObject *function, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
  const fb_recorder *rec = fb_current;
  uint64_t trace = rec ? rec->id : 0;
  uint32_t n = rec ? rec->n_locs : 0;
  PyObject *result = PyObject_Vectorcall(function, args, nargsf, kwnames);
  if (FB_UNLIKELY(!result))
    tell(p, args, nargsf, kwnames, trace, n);
  return result;
}

static FB_NOINLINE PyObject *learn(fb_public *p, const fb_asked *asked, PyObject *const *args, size_t nargsf,
                                   PyObject *kwnames) {
  fb_learning learning;
  fb_learning_begin(&learning, (fb_tensor *)args[0]);
  PyObject *result = told(p, p->function, args, nargsf, kwnames);
  if (result)
    fb_remember(asked, &learning, args, PyVectorcall_NARGS(nargsf) + (kwnames ? PyTuple_GET_SIZE(kwnames) : 0), result);
  fb_learning_end(&learning);
  return result;
}

static PyObject *recalled(fb_public *p, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
  fb_asked asked;
  PyObject *result;
  if (FB_LIKELY(fb_recall(&asked, p->id, p->recalled, args, PyVectorcall_NARGS(nargsf), kwnames, &result))) {
    if (FB_UNLIKELY(!result))
      tell(p, args, nargsf, kwnames, 0, 0);
    return result;
  }
  return asked.n ? learn(p, &asked, args, nargsf, kwnames) : told(p, p->function, args, nargsf, kwnames);
}

static PyObject *forward(fb_public *p, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
  bool more = FB_UNLIKELY(kwnames && p->more) && gives_more(kwnames);
  if (p->recalled && !more)
    return recalled(p, args, nargsf, kwnames);
  return told(p, more ? p->more : p->function, args, nargsf, kwnames);
}

/* A method is told by its name alone. */
static int given_twice(fb_public *p, PyObject *name) {
  Py_ssize_t end = PyUnicode_GET_LENGTH(p->name), dot = PyUnicode_FindChar(p->name, '.', 0, end, -1);
  PyObject *told = dot < -1 ? NULL : PyUnicode_Substring(p->name, dot + 1, end);
  if (told)
    PyErr_Format(PyExc_TypeError, "[%U] argument '%U' was given twice.", told, name);
  Py_XDECREF(told);
  return -1;
}

/* A new reference to the names that the function knows; NULL with an error. */
static PyObject *known_names(fb_public *p, PyObject *kwnames) {
  Py_ssize_t n = PyTuple_GET_SIZE(kwnames);
  PyObject *made = PyTuple_New(n);
  for (Py_ssize_t i = 0; made && i < n; i++) {
    PyObject *given = PyTuple_GET_ITEM(kwnames, i), *known = PyDict_GetItemWithError(p->spellings, given);
    int twice = known ? PySequence_Contains(kwnames, known) : 0;
    if (twice > 0)
      twice = given_twice(p, known);
    if (twice < 0 || (!known && PyErr_Occurred()))
      Py_CLEAR(made);
    else
      PyTuple_SET_ITEM(made, i, Py_NewRef(known ? known : given));
  }
  return made;
}

static FB_NOINLINE PyObject *call_spelled(fb_public *p, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
  PyObject *names = known_names(p, kwnames);
  PyObject *result = names ? forward(p, args, nargsf, names) : NULL;
  Py_XDECREF(names);
  return result;
}

static PyObject *call(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
  fb_public *p = (fb_public *)self;
  if (FB_UNLIKELY(kwnames && p->spellings))
    return call_spelled(p, args, nargsf, kwnames);
  return forward(p, args, nargsf, kwnames);
}

static PyObject *intercepted_call(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
  return fb_intercepted_call(call, self, args, nargsf, kwnames);
}

/* ---- the type -------------------------------------------------------------------------------------------- */

static int read_recalled(PyObject *given) {
  static const char *const names[] = {"", "operand", "types", "place"};
  for (int i = 0; given && i < 4; i++)
    if (PyUnicode_CompareWithASCIIString(given, names[i]) == 0)
      return i;
  return given ? -1 : FB_NOT_RECALLED;
}

static PyObject *make(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  static uint32_t n_made;
  PyObject *function, *name, *report, *spellings = NULL, *more = NULL, *recalled = NULL;
  static char *names[] = {"function", "name", "report", "spellings", "more", "recalled", NULL};
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OUO|O!OU:Public", names, &function, &name, &report, &PyDict_Type,
                                   &spellings, &more, &recalled))
    return NULL;
  int follow = read_recalled(recalled);
  if (follow < 0)
    return PyErr_Format(PyExc_ValueError, "[public] calls recalled by '%U' are not known. Use operand, types or place.",
                        recalled);
  fb_public *p = (fb_public *)type->tp_alloc(type, 0);
  if (!p)
    return NULL;
  bool is_method =
      PyUnicode_FindChar(name, '.', 0, PyUnicode_GET_LENGTH(name), 1) >= 0; /* of a class, which calls functions */
  p->vectorcall = fb_intercepting() && !is_method ? intercepted_call : call;
  p->function = Py_NewRef(function);
  p->name = Py_NewRef(name);
  p->report = Py_NewRef(report);
  p->spellings = spellings && PyDict_GET_SIZE(spellings) ? Py_NewRef(spellings) : NULL;
  p->more = more && more != Py_None ? Py_NewRef(more) : NULL;
  p->recalled = follow;
  p->id = n_made++;
  return (PyObject *)p;
}

static PyObject *bind_to(PyObject *self, PyObject *object, PyObject *type) {
  (void)type;
  return object && object != Py_None ? PyMethod_New(self, object) : Py_NewRef(self);
}

/* What is not its own is the function's: __name__, __defaults__, __code__, ... */
static PyObject *get_attribute(PyObject *self, PyObject *name) {
  PyObject *found = PyObject_GenericGetAttr(self, name);
  if (found || !PyErr_ExceptionMatches(PyExc_AttributeError))
    return found;
  PyErr_Clear();
  return PyObject_GetAttr(((fb_public *)self)->function, name);
}

/* The function's own, unless it was set here. */
static PyObject *get_forwarded(PyObject *self, void *name) {
  fb_public *p = (fb_public *)self;
  PyObject *found = p->dict ? PyDict_GetItemString(p->dict, name) : NULL;
  return found ? Py_NewRef(found) : PyObject_GetAttrString(p->function, name);
}

static PyObject *represent(PyObject *self) { return PyObject_Repr(((fb_public *)self)->function); }

/* Pickled, and copied, by name. */
static PyObject *reduce(PyObject *self, PyObject *unused) {
  (void)unused;
  return get_forwarded(self, "__qualname__");
}

static int traverse(PyObject *self, visitproc visit, void *arg) {
  fb_public *p = (fb_public *)self;
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(p->function);
  Py_VISIT(p->report);
  Py_VISIT(p->dict);
  Py_VISIT(p->spellings);
  Py_VISIT(p->more);
  return 0;
}

static int clear(PyObject *self) {
  fb_public *p = (fb_public *)self;
  Py_CLEAR(p->function);
  Py_CLEAR(p->report);
  Py_CLEAR(p->dict);
  Py_CLEAR(p->spellings);
  Py_CLEAR(p->more);
  return 0;
}

static void dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  if (((fb_public *)self)->weakrefs)
    PyObject_ClearWeakRefs(self);
  clear(self);
  Py_CLEAR(((fb_public *)self)->name);
  type->tp_free(self);
  Py_DECREF(type);
}

static PyMemberDef members[] = {{"__wrapped__", T_OBJECT, offsetof(fb_public, function), READONLY, NULL},
                                {"more", T_OBJECT, offsetof(fb_public, more), READONLY, NULL},
                                {"__vectorcalloffset__", T_PYSSIZET, offsetof(fb_public, vectorcall), READONLY, NULL},
                                {"__dictoffset__", T_PYSSIZET, offsetof(fb_public, dict), READONLY, NULL},
                                {"__weaklistoffset__", T_PYSSIZET, offsetof(fb_public, weakrefs), READONLY, NULL},
                                {0}};

static PyGetSetDef getters[] = {{"__doc__", get_forwarded, NULL, NULL, "__doc__"},
                                {"__module__", get_forwarded, NULL, NULL, "__module__"},
                                {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
                                {0}};

static PyMethodDef methods[] = {{"__reduce__", reduce, METH_NOARGS, NULL}, {0}};

static PyType_Slot slots[] = {{Py_tp_new, make},          {Py_tp_call, PyVectorcall_Call},
                              {Py_tp_descr_get, bind_to}, {Py_tp_getattro, get_attribute},
                              {Py_tp_repr, represent},    {Py_tp_traverse, traverse},
                              {Py_tp_clear, clear},       {Py_tp_dealloc, dealloc},
                              {Py_tp_members, members},   {Py_tp_getset, getters},
                              {Py_tp_methods, methods},   {0, NULL}};

static PyType_Spec spec = {
    .name = "flambeau.runtime._recorder.Public",
    .basicsize = sizeof(fb_public),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR,
    .slots = slots,
};

static PyTypeObject *public_type;

/* intercept(cls, handler, callables): see intercept.c. Functions made later, and what is public then, are like these.
 */
PyObject *fb_py_intercept(PyObject *module, PyObject *args) {
  PyObject *cls, *handler, *callables;
  (void)module;
  if (!PyArg_ParseTuple(args, "OOO!:intercept", &cls, &handler, &PyTuple_Type, &callables) ||
      fb_intercept(cls, handler) < 0)
    return NULL;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(callables); i++) {
    PyObject *o = PyTuple_GET_ITEM(callables, i);
    if (Py_TYPE(o) == fb_function_type)
      fb_function_intercept((fb_function *)o);
    else if (Py_TYPE(o) == public_type)
      ((fb_public *)o)->vectorcall = intercepted_call;
  }
  Py_RETURN_NONE;
}

int fb_public_init(PyObject *module) {
  PyObject *type = PyType_FromSpec(&spec);
  public_type = (PyTypeObject *)type; /* kept */
  return type ? PyModule_AddType(module, public_type) : -1;
}
