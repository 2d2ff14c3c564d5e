/* Cells, leaves and the Tensor type: allocation, attributes, garbage collection. */
#include "capture.h"
#include <structmember.h>
#include <stddef.h>

PyTypeObject *fb_leaf_type;

/* ---- cells ----------------------------------------------------------------------------------------------- */

#define FB_FREE_CELLS 1024
static fb_cell *free_cells[FB_FREE_CELLS];
static uint32_t n_free_cells;
static uint64_t live_cells;

uint64_t fb_live_cells(void) { return live_cells; }

FB_HOT fb_cell *fb_cell_new(const fb_type *type) {
  fb_cell *c;
  if (FB_LIKELY(n_free_cells))
    c = free_cells[--n_free_cells];
  else if (!(c = PyMem_Calloc(1, sizeof(fb_cell)))) /* free cells keep buffer, segment, watch, error, flags cleared */
    return (fb_cell *)PyErr_NoMemory();
  live_cells++;
  c->refs = 1;
  c->version = 0;
  c->epoch = 0;
  c->slot = c->use = c->input = FB_NO_SLOT;
  c->type = type;
  fb_type_enter(type);
  return c;
}

static FB_NOINLINE void cell_release_values(fb_cell *c) {
  if (c->placed)
    fb_cell_unplace(c);
  fb_buffer *b = c->buffer;
  fb_segment *s = c->segment;
  PyObject *error = c->error;
  c->buffer = NULL;
  c->segment = NULL;
  c->error = NULL;
  if (c->watch)
    fb_watch_release(c->watch);
  c->watch = NULL;
  c->shared = c->placed = c->unset = c->apart = c->lost_gradient = false;
  fb_buffer_release(b); /* these may let other threads in */
  Py_XDECREF(error);
  if (s)
    fb_segment_release(s);
}

FB_NOINLINE void fb_leave_input(fb_recorder *rec, uint32_t input) {
  rec->held_bytes += rec->inputs[input].cell->type->bytes;
  rec->inputs[input].cell = NULL;
  rec->flush_soon |= rec->held_bytes > fb_limits.max_bytes;
}

void fb_cell_retype(fb_cell *c, const fb_type *type) {
  fb_type_leave(c->type);
  fb_type_enter(type);
  c->type = type;
}

static FB_NOINLINE void cell_forget_history(fb_cell *c) {
  if (c->segment)
    fb_cell_set_history(c, NULL, 0); /* may let other threads in */
}

FB_HOT void fb_cell_release(fb_cell *c) {
  if (--c->refs) {
    if (FB_UNLIKELY(!fb_cell_leads_back(c)))
      cell_forget_history(c);
    return;
  }
  fb_recorder *rec = c->home;
  if (rec && c->epoch == rec->id) {
    if (FB_UNLIKELY(c->input != FB_NO_SLOT))
      fb_leave_input(rec, c->input);
    if (c->slot != FB_NO_SLOT && rec->owner[c->slot] == c)
      rec->owner[c->slot] = NULL;
  }
  if (FB_UNLIKELY(c->buffer || c->segment || c->error || c->watch || c->apart))
    cell_release_values(c);
  live_cells--;
  fb_type_leave(c->type);
  if (FB_LIKELY(n_free_cells < FB_FREE_CELLS))
    free_cells[n_free_cells++] = c;
  else
    PyMem_Free(c);
}

/* ---- leaves ---------------------------------------------------------------------------------------------- */

void fb_anchor_release(fb_anchor *a) {
  if (!--a->refs)
    PyMem_Free(a);
}

static fb_leaf *leaf_new(void) {
  fb_anchor *a = PyMem_Calloc(1, sizeof(fb_anchor));
  if (!a)
    return (fb_leaf *)PyErr_NoMemory();
  fb_leaf *leaf = PyObject_GC_New(fb_leaf, fb_leaf_type);
  if (!leaf) {
    PyMem_Free(a);
    return NULL;
  }
  a->refs = 1;
  a->leaf = leaf;
  leaf->anchor = a;
  leaf->grad = NULL;
  PyObject_GC_Track(leaf);
  return leaf;
}

static int leaf_traverse(fb_leaf *self, visitproc visit, void *arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(self->grad);
  return 0;
}

static int leaf_clear(fb_leaf *self) {
  Py_CLEAR(self->grad);
  return 0;
}

static void leaf_dealloc(fb_leaf *self) {
  PyTypeObject *type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  self->anchor->leaf = NULL;
  fb_anchor_release(self->anchor);
  Py_CLEAR(self->grad);
  type->tp_free(self);
  Py_DECREF(type);
}

static PyMemberDef leaf_members[] = {{"grad", T_OBJECT, offsetof(fb_leaf, grad), 0, "The gradient, a Tensor or None."},
                                     {NULL, 0, 0, 0, NULL}};
static PyType_Slot leaf_slots[] = {{Py_tp_traverse, leaf_traverse},
                                   {Py_tp_clear, leaf_clear},
                                   {Py_tp_dealloc, leaf_dealloc},
                                   {Py_tp_members, leaf_members},
                                   {0, NULL}};
static PyType_Spec leaf_spec = {"flambeau.runtime._recorder.Leaf", sizeof(fb_leaf), 0,
                                Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                                leaf_slots};

int fb_tensor_make_leaf(fb_tensor *t) {
  if (t->leaf)
    return 0;
  fb_leaf *leaf = fb_capture_handle(t) < 0 ? NULL : leaf_new();
  if (!leaf)
    return -1;
  if (t->leaf) { /* another thread was faster */
    Py_DECREF((PyObject *)leaf);
    return 0;
  }
  t->leaf = leaf;
  if (fb_capture_leaf(leaf) < 0)
    return -1;
  fb_view_leave(t->view);
  t->view = NULL; /* callers make sure that it selects the whole base */
  if (fb_cell_pending(t->cell))
    t->cell->home->new_leaves = true;
  return fb_tensor_track(t);
}

/* ---- types of handles ------------------------------------------------------------------------------------ */

const fb_type *fb_tensor_get_type(const fb_tensor *t) {
  bool grad = t->leaf || t->cell->type->requires_grad;
  if (t->view)
    return t->view->types[grad];
  if (t->leaf)
    return fb_type_with_grad(t->cell->type, true);
  return t->cell->type;
}

bool fb_tensor_is_leaf(const fb_tensor *t) {
  if (t->leaf && !t->view)
    return true;
  const fb_type *type = fb_tensor_get_type(t);
  return type && !type->requires_grad;
}

/* ---- handles --------------------------------------------------------------------------------------------- */

#define FB_FREE_TENSORS 1024
static fb_tensor *free_tensors[FB_FREE_TENSORS]; /* these keep their reference to the type */
static uint32_t n_free_tensors;

static FB_NOINLINE fb_tensor *tensor_allocate(PyTypeObject *cls) {
  if (cls && cls != fb_tensor_type)
    return (fb_tensor *)cls->tp_alloc(cls, 0); /* zeroed, and tracked by the collector */
  fb_tensor *t = PyObject_GC_New(fb_tensor, fb_tensor_type);
  if (t) {
    t->view = NULL;
    t->leaf = NULL;
    t->starts = NULL;
    t->dict = t->weakrefs = NULL;
    t->holders = NULL;
    t->cut = false;
  }
  return t;
}

FB_HOT PyObject *fb_tensor_new(fb_cell *cell, PyTypeObject *cls) {
  fb_tensor *t;
  if (FB_LIKELY(n_free_tensors && (!cls || cls == fb_tensor_type))) {
    t = free_tensors[--n_free_tensors];
    Py_SET_REFCNT((PyObject *)t, 1);
  } else if (!(t = tensor_allocate(cls))) {
    fb_cell_release(cell);
    return NULL;
  }
  t->cell = cell;
  return (PyObject *)t;
}

static void count_cut(fb_tensor *t, bool cut) {
  t->cell->cut += cut - t->cut;
  t->cut = cut;
}

void fb_tensor_show(fb_tensor *t, const fb_view *v) {
  fb_view_enter(v);
  fb_view_leave(t->view);
  t->view = v;
  count_cut(t, v && v->detached);
}

FB_HOT fb_tensor *fb_tensor_through(const fb_tensor *t, const fb_view *v, PyTypeObject *cls) {
  t->cell->refs++;
  fb_view_enter(v); /* now, for another thread may forget it else */
  fb_tensor *made = (fb_tensor *)fb_tensor_new(t->cell, cls);
  if (FB_UNLIKELY(!made)) {
    fb_view_leave(v);
    return NULL;
  }
  made->view = v;
  if (FB_UNLIKELY(v && v->detached))
    count_cut(made, true);
  return made;
}

static FB_NOINLINE void tensor_release_extras(fb_tensor *t) {
  if (t->weakrefs)
    PyObject_ClearWeakRefs((PyObject *)t);
  Py_CLEAR(t->leaf);
  Py_CLEAR(t->dict);
  PyMem_Free(t->starts);
  t->starts = NULL;
  if (t->cell)
    count_cut(t, false); /* its reference goes next */
}

FB_HOT static void tensor_dealloc(fb_tensor *t) {
  PyTypeObject *type = Py_TYPE(t);
  if (FB_UNLIKELY(PyObject_GC_IsTracked((PyObject *)t))) {
    PyObject_GC_UnTrack(t);
    fb_tensor_part(t);
  }
  if (FB_UNLIKELY(t->weakrefs || t->leaf || t->dict || t->starts || t->cut))
    tensor_release_extras(t);
  fb_view_leave(t->view);
  t->view = NULL;
  fb_cell *cell = t->cell;
  t->cell = NULL;
  if (FB_LIKELY(cell != NULL))
    fb_cell_release(cell);
  if (FB_LIKELY(type == fb_tensor_type && n_free_tensors < FB_FREE_TENSORS)) {
    free_tensors[n_free_tensors++] = t;
    return;
  }
  type->tp_free(t);
  Py_DECREF(type);
}

static int tensor_traverse(fb_tensor *t, visitproc visit, void *arg) {
  Py_VISIT(Py_TYPE(t));
  Py_VISIT(t->leaf);
  Py_VISIT(t->dict);
  if (t->holders) /* hooks in its history may refer to it again */
    Py_VISIT(t->holders);
  else if (t->cell && t->cell->refs == 1)
    Py_VISIT(t->cell->segment);
  return 0;
}

static int tensor_clear(fb_tensor *t) {
  Py_CLEAR(t->dict);
  return 0; /* the leaf clears its own grad, a segment its hooks */
}

static PyObject *tensor_tp_new(PyTypeObject *cls, PyObject *args, PyObject *kwargs) {
  PyObject *hook = fb_hook(fb_hooks.construct, "construct");
  return hook ? PyObject_CallFunctionObjArgs(hook, cls, args, kwargs ? kwargs : Py_None, NULL) : NULL;
}

static int tensor_setattro(PyObject *self, PyObject *name, PyObject *value) {
  if (fb_tensor_track((fb_tensor *)self) < 0)
    return -1;
  return PyObject_GenericSetAttr(self, name, value);
}

static Py_hash_t tensor_hash(PyObject *self) {
  size_t address = (size_t)self;
  return (Py_hash_t)(address >> 4 | address << (8 * sizeof address - 4));
}

/* ---- attributes ------------------------------------------------------------------------------------------ */

static PyObject *get_shape(fb_tensor *t, void *closure) {
  (void)closure;
  const fb_type *type = fb_tensor_get_type(t);
  return type ? Py_NewRef(type->size) : NULL;
}

static PyObject *get_dtype(fb_tensor *t, void *closure) {
  (void)closure;
  const fb_type *type = fb_tensor_get_type(t);
  return type ? Py_NewRef(type->dtype) : NULL;
}

static PyObject *get_place(fb_tensor *t, void *closure) {
  (void)closure;
  return Py_NewRef(t->cell->type->device);
}

static PyObject *get_ndim(fb_tensor *t, void *closure) {
  (void)closure;
  const fb_type *type = fb_tensor_get_type(t);
  return type ? PyLong_FromLong(type->ndim) : NULL;
}

static PyObject *get_requires_grad(fb_tensor *t, void *closure) {
  (void)closure;
  const fb_type *type = fb_tensor_get_type(t);
  return type ? PyBool_FromLong(type->requires_grad) : NULL;
}

static PyObject *get_is_leaf(fb_tensor *t, void *closure) {
  (void)closure;
  return PyBool_FromLong(fb_tensor_is_leaf(t));
}

static PyObject *get_version(fb_tensor *t, void *closure) {
  (void)closure;
  return PyLong_FromUnsignedLong(t->cell->version);
}

#define RETAINED_GRAD "_retained_grad"

/* While a leaf does not require grad, its gradient is kept where those of other tensors are. */
int fb_tensor_end_leaf(fb_tensor *t) {
  fb_leaf *leaf = (fb_leaf *)Py_NewRef((PyObject *)t->leaf);
  PyObject *grad = Py_XNewRef(leaf->grad);
  int status = fb_capture_handle(t) < 0 || fb_capture_grad(leaf, "requires_grad_") < 0 ? -1 : 0;
  if (status == 0 && grad)
    status = PyObject_SetAttrString((PyObject *)t, RETAINED_GRAD, grad);
  Py_XDECREF(grad);
  if (status == 0) {
    leaf->anchor->leaf = NULL; /* views of it may keep it: it gets no more gradients */
    Py_CLEAR(leaf->grad);
    if (t->leaf == leaf)
      Py_CLEAR(t->leaf);
  }
  Py_DECREF((PyObject *)leaf);
  return status;
}

int fb_tensor_restore_grad(fb_tensor *t) {
  PyObject *grad = t->dict ? PyDict_GetItemString(t->dict, RETAINED_GRAD) : NULL;
  if (!grad)
    return 0;
  Py_XSETREF(t->leaf->grad, Py_NewRef(grad));
  return PyDict_DelItemString(t->dict, RETAINED_GRAD);
}

static PyObject *get_grad(fb_tensor *t, void *closure) {
  (void)closure;
  PyObject *grad = NULL;
  if (t->leaf && !t->view)
    grad = t->leaf->grad;
  else if (t->dict) /* where the frontend's retain_grad() puts it */
    grad = PyDict_GetItemString(t->dict, RETAINED_GRAD);
  return Py_NewRef(grad ? grad : Py_None);
}

static int set_grad(fb_tensor *t, PyObject *value, void *closure) {
  (void)closure;
  if (value == Py_None)
    value = NULL;
  if (value && !fb_is_tensor(value)) {
    PyErr_Format(PyExc_TypeError, "[grad] a gradient must be a Tensor or None, got %.100s.", Py_TYPE(value)->tp_name);
    return -1;
  }
  if (value && value == (PyObject *)t) {
    PyErr_SetString(PyExc_RuntimeError, "[grad] a tensor cannot be its own gradient. Assign another tensor.");
    return -1;
  }
  if (!t->leaf || t->view) {
    if (!value)
      return t->dict && PyDict_GetItemString(t->dict, RETAINED_GRAD) ? PyDict_DelItemString(t->dict, RETAINED_GRAD) : 0;
    PyErr_SetString(PyExc_RuntimeError,
                    "[grad] only a leaf tensor that requires grad holds a gradient. Call requires_grad_() first.");
    return -1;
  }
  if (value) {
    const fb_type *mine = fb_tensor_get_type(t), *other = fb_tensor_get_type((fb_tensor *)value);
    if (!mine || !other)
      return -1;
    if (mine->device != other->device) {
      PyErr_Format(PyExc_RuntimeError,
                   "[grad] the gradient lies on %U, the tensor on %U. Move it to the tensor's device with to(device).",
                   other->device, mine->device);
      return -1;
    }
    if (mine->dtype != other->dtype || fb_type_with_grad(mine, false) != fb_type_with_grad(other, false)) {
      PyErr_Format(PyExc_RuntimeError,
                   "[grad] the gradient has shape %R and dtype %R, the tensor %R and %R. Assign a tensor of the same "
                   "shape and dtype.",
                   other->shape, other->dtype, mine->shape, mine->dtype);
      return -1;
    }
  }
  if (fb_capture_grad(t->leaf, "an assignment") < 0)
    return -1;
  Py_XSETREF(t->leaf->grad, Py_XNewRef(value));
  return 0;
}

/* Made by a backward() of a trace that was dropped, where there was no gradient before. */
static bool is_lost(PyObject *o) {
  const fb_cell *c = fb_is_tensor(o) ? ((fb_tensor *)o)->cell : NULL;
  return c && c->lost_gradient && c->error && !c->buffer;
}

/* replace_grad(owner, old, new): owner.grad = new if it is `old` (None: none); whether it was. Where `new` was there
 * before a trace that was dropped, and was lost with it, there is none. */
PyObject *fb_py_replace_grad(PyObject *module, PyObject *args) {
  PyObject *owner, *old, *new;
  (void)module;
  if (!PyArg_ParseTuple(args, "OOO:replace_grad", &owner, &old, &new))
    return NULL;
  fb_leaf *leaf = Py_IS_TYPE(owner, fb_leaf_type) ? (fb_leaf *)owner
                  : fb_is_tensor(owner)           ? ((fb_tensor *)owner)->leaf
                                                  : NULL;
  if (!leaf) { /* a result's: nobody else has the frontend's dict in hand */
    int status = PyObject_SetAttrString(owner, "grad", new);
    return status < 0 ? NULL : Py_NewRef(Py_True);
  }
  if (leaf->grad != (old == Py_None ? NULL : old))
    Py_RETURN_FALSE;
  if (fb_capture_grad(leaf, "backward") < 0)
    return NULL;
  Py_XSETREF(leaf->grad, new == Py_None || is_lost(new) ? NULL : Py_NewRef(new));
  Py_RETURN_TRUE;
}

static PyObject *get_dict(PyObject *self, void *closure) {
  return fb_tensor_track((fb_tensor *)self) < 0 ? NULL : PyObject_GenericGetDict(self, closure);
}

static PyGetSetDef tensor_getset[] = {
    {"shape", (getter)get_shape, NULL, "Sizes, outermost first: a tuple of ints with numel().", NULL},
    {"_place", (getter)get_place, NULL, "The name of the device that the elements lie on.", NULL},
    {"dtype", (getter)get_dtype, NULL, "The element type.", NULL},
    {"ndim", (getter)get_ndim, NULL, "The number of dimensions.", NULL},
    {"requires_grad", (getter)get_requires_grad, NULL, "Whether operations on this tensor are differentiated.", NULL},
    {"is_leaf", (getter)get_is_leaf, NULL, "Whether no recorded operation made this tensor.", NULL},
    {"_version", (getter)get_version, NULL, "How often the storage was written.", NULL},
    {"grad", (getter)get_grad, (setter)set_grad, "The gradient that backward() accumulated, or None.", NULL},
    {"__dict__", get_dict, PyObject_GenericSetDict, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyMemberDef tensor_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(fb_tensor, dict), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(fb_tensor, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL}};

fb_tensor *fb_as_tensor(PyObject *o, const char *what) {
  if (fb_is_tensor(o))
    return (fb_tensor *)o;
  PyErr_Format(PyExc_TypeError, "[%s] expected a Tensor, got %.100s.", what, Py_TYPE(o)->tp_name);
  return NULL;
}

static const PyType_Slot tensor_slots[] = {
    {Py_tp_dealloc, tensor_dealloc},
    {Py_tp_traverse, tensor_traverse},
    {Py_tp_clear, tensor_clear},
    {Py_tp_new, tensor_tp_new},
    {Py_tp_setattro, tensor_setattro},
    {Py_tp_hash, tensor_hash},
    {Py_tp_getset, tensor_getset},
    {Py_tp_members, tensor_members},
    {Py_tp_doc, "A multi-dimensional array whose operations are recorded, compiled and run when a value is needed."}};

int fb_tensor_init(PyObject *module, const PyType_Slot *operators, size_t n_operators) {
  PyType_Slot slots[128];
  size_t n = sizeof tensor_slots / sizeof *tensor_slots;
  memcpy(slots, tensor_slots, sizeof tensor_slots);
  memcpy(slots + n, operators, n_operators * sizeof *slots);
  slots[n + n_operators] = (PyType_Slot){0, NULL};
  PyType_Spec spec = {"flambeau.Tensor", sizeof(fb_tensor), 0,
                      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots};
  fb_tensor_type = (PyTypeObject *)PyType_FromSpec(&spec);
  fb_leaf_type = (PyTypeObject *)PyType_FromSpec(&leaf_spec);
  if (!fb_tensor_type || !fb_leaf_type)
    return -1;
  return PyModule_AddObjectRef(module, "Tensor", (PyObject *)fb_tensor_type);
}
