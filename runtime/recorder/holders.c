/* What the collector of garbage sees of cells: the handles that share a cell hold its history together.
 *
 * A history may hold, in its marks, tensors with that history. A handle that the collector sees holds, beside its cell,
 * an object that all such handles of the cell share; where the cell has no other holders, this stands for it. */
#include "cells.h"

typedef struct fb_holders {
  PyObject_HEAD fb_cell *cell; /* NULL once no handle is left */
  uint32_t n;                  /* handles */
} fb_holders;

static PyTypeObject *holders_type;

static int holders_traverse(fb_holders *h, visitproc visit, void *arg) {
  Py_VISIT(Py_TYPE(h));
  if (h->cell && h->cell->refs == h->n)
    Py_VISIT(h->cell->segment);
  return 0;
}

static void holders_dealloc(fb_holders *h) {
  PyTypeObject *type = Py_TYPE(h);
  PyObject_GC_UnTrack(h);
  PyObject_GC_Del(h);
  Py_DECREF(type);
}

static PyType_Slot holders_slots[] = {{Py_tp_traverse, holders_traverse}, {Py_tp_dealloc, holders_dealloc}, {0, NULL}};
static PyType_Spec holders_spec = {"flambeau.runtime._recorder.Holders", sizeof(fb_holders), 0,
                                   Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                                   holders_slots};

int fb_holders_init(void) {
  holders_type = (PyTypeObject *)PyType_FromSpec(&holders_spec);
  return holders_type ? 0 : -1;
}

static fb_holders *holders_of(fb_cell *c) {
  if (c->holders)
    return (fb_holders *)Py_NewRef((PyObject *)c->holders);
  int quiet = fb_quiet_begin();
  fb_holders *h = PyObject_GC_New(fb_holders, holders_type);
  fb_quiet_end(quiet);
  if (!h)
    return NULL;
  h->cell = c;
  h->n = 0;
  c->holders = h;
  PyObject_GC_Track(h);
  return h;
}

int fb_tensor_track(fb_tensor *t) {
  if (!PyObject_GC_IsTracked((PyObject *)t))
    PyObject_GC_Track(t);
  if (t->holders || t->leaf || !t->cell->type->requires_grad)
    return 0;
  if (!(t->holders = holders_of(t->cell)))
    return -1;
  t->holders->n++;
  return 0;
}

void fb_tensor_part(fb_tensor *t) {
  fb_holders *h = t->holders;
  if (!h)
    return;
  t->holders = NULL;
  if (--h->n == 0) {
    h->cell->holders = NULL;
    h->cell = NULL; /* who lists objects may have this one */
  }
  Py_DECREF((PyObject *)h);
}

PyObject *fb_py_track(PyObject *module, PyObject *o) {
  (void)module;
  fb_tensor *t = fb_as_tensor(o, "track");
  return !t || fb_tensor_track(t) < 0 ? NULL : Py_NewRef(Py_None);
}
