/* Modes and other things that hold for the length of a block. Python takes an interrupt between two of its
   instructions; what is entered and left here, in C, is never half entered, and is left whatever happens:
   - `ModeScope` sets bits of the thread's mode, and puts back what they were. It does so when it dies, too, if nobody
   left it.
   - `Context` calls `enter()` and `leave()` of a Python class, and `leave()` again until no interrupt cut it short. */
#include "trace.h"
#include <structmember.h>

typedef struct mode_scope {
  PyObject_HEAD uint32_t mask, bits;
  uint32_t before;    /* the mode when it was made, where making it set it */
  uint32_t n_entered; /* blocks that it is entered in */
  bool is_set;        /* a GradScope that has not been entered or undone since it was made */
} mode_scope;

/* ---- blocks of a thread ---------------------------------------------------------------------------------- */

static void put_back(fb_recorder *rec, uint32_t mask, uint32_t before) {
  rec->mode = (rec->mode & ~mask) | (before & mask);
}

static int enter_block(fb_recorder *rec, mode_scope *scope, uint32_t before) {
  if (rec->n_blocks == rec->cap_blocks &&
      fb_grow((void **)&rec->blocks, &rec->cap_blocks, rec->n_blocks + 1, sizeof *rec->blocks) < 0)
    return -1;
  rec->blocks[rec->n_blocks++] = (fb_mode_block){scope, scope->mask, before};
  scope->n_entered++;
  return 0;
}

/* Leave the innermost block of `scope` in this thread; false where there is none. One that others were entered in
   leaves its bits to the next of those: that one puts them back. */
static bool leave_block(fb_recorder *rec, mode_scope *scope) {
  uint32_t i = rec->n_blocks;
  while (i && rec->blocks[i - 1].scope != scope)
    i--;
  if (!i)
    return false;
  fb_mode_block left = rec->blocks[--i];
  memmove(&rec->blocks[i], &rec->blocks[i + 1], (rec->n_blocks - i - 1) * sizeof *rec->blocks);
  rec->n_blocks--;
  uint32_t mask = left.mask;
  for (; i < rec->n_blocks && mask; i++) {
    uint32_t both = mask & rec->blocks[i].mask;
    rec->blocks[i].before = (rec->blocks[i].before & ~both) | (left.before & both);
    mask &= ~both;
  }
  put_back(rec, mask, left.before);
  scope->n_entered--;
  return true;
}

/* A block is left in the thread that entered it; where another one leaves it, in that one's stead. */
static void leave_anywhere(mode_scope *scope) {
  if (fb_current && leave_block(fb_current, scope))
    return;
  for (fb_recorder *rec = fb_recorders(); rec; rec = rec->next)
    if (rec != fb_current && leave_block(rec, scope))
      return;
  scope->n_entered = 0; /* the thread has ended */
}

void fb_mode_forget(fb_recorder *rec, uint32_t mode) {
  for (uint32_t i = 0; i < rec->n_blocks; i++)
    rec->blocks[i].scope->n_entered--;
  rec->n_blocks = 0;
  rec->mode = mode;
}

/* Whether the thread is in a block of a scope of this class. */
PyObject *fb_py_is_entered(PyObject *module, PyObject *type) {
  (void)module;
  const fb_recorder *rec = fb_recorder_get();
  bool found = false;
  for (uint32_t i = 0; i < rec->n_blocks && !found; i++)
    found = (PyObject *)Py_TYPE(rec->blocks[i].scope) == type;
  return PyBool_FromLong(found);
}

/* ---- ModeScope ------------------------------------------------------------------------------------------- */

static mode_scope *made(PyTypeObject *type, uint32_t mask, uint32_t bits) {
  fb_recorder *rec = fb_recorder_get();
  mode_scope *scope = (mode_scope *)type->tp_alloc(type, 0);
  if (scope)
    scope->mask = mask, scope->bits = bits, scope->before = rec->mode;
  return scope;
}

static PyObject *mode_scope_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"mask", "bits", NULL};
  unsigned int mask, bits;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "II:ModeScope", names, &mask, &bits))
    return NULL;
  if (mask >= 1u << FB_MODE_BITS || bits & ~mask)
    return PyErr_Format(PyExc_ValueError, "[mode] bits %u of mask %u are not among the %d of a mode.", bits, mask,
                        FB_MODE_BITS);
  return (PyObject *)made(type, mask, bits);
}

/* In C as well: a local of a `__new__` in Python would live on in the traceback of an interrupt. */
static PyObject *grad_scope_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"mode", NULL};
  int mode;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "p:set_grad_enabled", names, &mode))
    return NULL;
  mode_scope *scope = made(type, FB_GRAD_MODE, mode ? FB_GRAD_MODE : 0);
  if (scope) {
    scope->is_set = true;
    put_back(fb_current, scope->mask, scope->bits);
  }
  return (PyObject *)scope;
}

static PyObject *mode_scope_enter(PyObject *self, PyObject *unused) {
  (void)unused;
  mode_scope *scope = (mode_scope *)self;
  fb_recorder *rec = fb_recorder_get();
  if (enter_block(rec, scope, scope->is_set ? scope->before : rec->mode) < 0)
    return NULL;
  scope->is_set = false;
  put_back(rec, scope->mask, scope->bits);
  Py_RETURN_NONE;
}

static PyObject *mode_scope_exit(PyObject *self, PyObject *args) {
  (void)args;
  if (((mode_scope *)self)->n_entered)
    leave_anywhere((mode_scope *)self);
  Py_RETURN_NONE;
}

static PyObject *mode_scope_undo(PyObject *self, PyObject *unused) {
  (void)unused;
  mode_scope *scope = (mode_scope *)self;
  if (scope->is_set)
    put_back(fb_recorder_get(), scope->mask, scope->before);
  scope->is_set = false;
  Py_RETURN_NONE;
}

/* One that was made to be entered, and was not because of an exception, has not happened. */
static void mode_scope_dealloc(PyObject *self) {
  mode_scope *scope = (mode_scope *)self;
  PyTypeObject *type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  while (scope->n_entered)
    leave_anywhere(scope);
  if (scope->is_set && fb_current && PyErr_Occurred())
    put_back(fb_current, scope->mask, scope->before);
  type->tp_free(self);
  Py_DECREF(type);
}

static int mode_scope_traverse(PyObject *self, visitproc visit, void *arg) {
  Py_VISIT(Py_TYPE(self));
  return 0;
}

static PyMethodDef mode_scope_methods[] = {
    {"__enter__", mode_scope_enter, METH_NOARGS, NULL},
    {"__exit__", mode_scope_exit, METH_VARARGS, NULL},
    {"undo", mode_scope_undo, METH_NOARGS, "Take back what making it set."},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot mode_scope_slots[] = {
    {Py_tp_new, mode_scope_new},
    {Py_tp_dealloc, mode_scope_dealloc},
    {Py_tp_traverse, mode_scope_traverse},
    {Py_tp_methods, mode_scope_methods},
    {Py_tp_doc, "ModeScope(mask, bits): bits of the thread's mode, for the length of a block."},
    {0, NULL},
};
static PyType_Spec mode_scope_spec = {
    .name = "flambeau.runtime._recorder.ModeScope",
    .basicsize = sizeof(mode_scope),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = mode_scope_slots,
};

static PyMemberDef grad_scope_members[] = {
    {"_bits", T_UINT, offsetof(mode_scope, bits), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot grad_scope_slots[] = {
    {Py_tp_new, grad_scope_new},
    {Py_tp_dealloc, mode_scope_dealloc},
    {Py_tp_traverse, mode_scope_traverse},
    {Py_tp_members, grad_scope_members},
    {Py_tp_doc, "GradScope(mode): a ModeScope of grad mode that acts when it is made, and ends with a block if it is "
                "used for one."},
    {0, NULL},
};
static PyType_Spec grad_scope_spec = {
    .name = "flambeau.runtime._recorder.GradScope",
    .basicsize = sizeof(mode_scope),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = grad_scope_slots,
};

/* ---- Context --------------------------------------------------------------------------------------------- */

#define MOST_TRIES 1000

/* `leave()` until it comes to its end, or fails by itself. The first interrupt that cut it short is raised afterwards.
 */
static int leave(PyObject *self) {
  PyObject *type = NULL, *value = NULL, *traceback = NULL;
  int status = -1;
  for (int tries = 0; status < 0 && tries < MOST_TRIES; tries++) {
    PyObject *done = PyObject_CallMethod(self, "leave", NULL);
    status = done ? 0 : -1;
    Py_XDECREF(done);
    if (!done && (type || PyErr_ExceptionMatches(PyExc_Exception)))
      break;
    if (!done)
      PyErr_Fetch(&type, &value, &traceback);
  }
  if (type && PyErr_Occurred()) { /* it failed by itself after an interrupt: that is the news */
    Py_DECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
  } else if (type)
    PyErr_Restore(type, value, traceback);
  return PyErr_Occurred() ? -1 : 0;
}

static PyObject *context_enter(PyObject *self, PyObject *unused) {
  (void)unused;
  PyObject *entered = PyObject_CallMethod(self, "enter", NULL);
  if (entered)
    return entered;
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  if (leave(self) < 0)
    PyErr_Clear();
  PyErr_Restore(type, value, traceback);
  return NULL;
}

static PyObject *context_exit(PyObject *self, PyObject *args) {
  (void)args;
  if (leave(self) < 0)
    return NULL;
  Py_RETURN_NONE;
}

static PyMethodDef context_methods[] = {
    {"__enter__", context_enter, METH_NOARGS, NULL},
    {"__exit__", context_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot context_slots[] = {
    {Py_tp_methods, context_methods},
    {Py_tp_doc,
     "Base of context managers in Python: `enter()` gives what `as` names; `leave()` may be called any number of "
     "times, also without or in the middle of `enter()`."},
    {0, NULL},
};
static PyType_Spec context_spec = {
    .name = "flambeau.runtime._recorder.Context",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = context_slots,
};

/* The type of a spec, in the module; borrowed. */
static PyObject *add_type(PyObject *module, const char *name, PyType_Spec *spec, PyObject *base) {
  PyObject *type = PyType_FromSpecWithBases(spec, base);
  if (!type || PyModule_AddObject(module, name, type) < 0) {
    Py_XDECREF(type);
    return NULL;
  }
  return type;
}

int fb_mode_add_types(PyObject *module) {
  PyObject *scope = add_type(module, "ModeScope", &mode_scope_spec, NULL);
  if (!scope || !add_type(module, "GradScope", &grad_scope_spec, scope))
    return -1;
  return add_type(module, "Context", &context_spec, NULL) ? 0 : -1;
}
