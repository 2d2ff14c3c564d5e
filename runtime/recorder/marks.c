/* Marks: objects of the frontend's that belong to a place in a gradient history. They live as long as it can be
 * reached: with the current trace, then with its segment. */
#include "capture.h"

static int add_mark(fb_mark **marks, uint32_t *n, uint32_t *cap, uint32_t slot, PyObject *object) {
  if (fb_grow((void **)marks, cap, *n + 1, sizeof **marks) < 0)
    return -1;
  (*marks)[(*n)++] = (fb_mark){slot, Py_NewRef(object)};
  return 0;
}

void fb_marks_drop(fb_mark **marks, uint32_t *n, uint32_t *cap) {
  fb_mark *dropped = *marks;
  uint32_t count = *n;
  *marks = NULL;
  *n = *cap = 0;
  for (uint32_t i = 0; i < count; i++)
    Py_DECREF(dropped[i].object);
  PyMem_Free(dropped);
}

int fb_marks_keep(fb_segment *s, const fb_recorder *rec) {
  int status = 0;
  for (uint32_t i = 0; status == 0 && i < rec->n_marks; i++) {
    uint32_t slot = fb_flat_slot(s->program, rec->marks[i].slot);
    if (slot != FB_NO_SLOT)
      status = add_mark(&s->marks, &s->n_marks, &s->cap_marks, slot, rec->marks[i].object);
  }
  return status;
}

/* Where a cell's history is: a slot of the current trace, or of *segment. */
static uint32_t place_of(const fb_recorder *rec, const fb_cell *c, fb_segment **segment) {
  *segment = NULL;
  const fb_recorder *home = c->epoch == rec->id ? rec : fb_cell_owed(c) ? c->home : NULL;
  if (!home) {
    *segment = c->segment;
    return c->segment ? c->segment_slot : FB_NO_SLOT;
  }
  uint32_t slot = c->use == FB_NO_SLOT ? c->history : c->use;
  for (uint32_t i = 0; i < home->n_origins; i++)
    if (home->origins[i].slot == slot) {
      *segment = home->origins[i].segment;
      return home->origins[i].segment_slot;
    }
  return home == rec ? slot : FB_NO_SLOT; /* in a trace of another thread's: nothing here comes from it */
}

bool fb_tensor_is_lost(const fb_recorder *rec, const fb_tensor *t) {
  fb_segment *s = NULL;
  if (!t->leaf && t->cell->type->requires_grad)
    place_of(rec, t->cell, &s);
  return s == fb_segment_lost();
}

PyObject *fb_py_mark_history(PyObject *module, PyObject *args) {
  PyObject *o, *object;
  (void)module;
  if (!PyArg_ParseTuple(args, "OO:mark_history", &o, &object))
    return NULL;
  fb_tensor *t = fb_as_tensor(o, "mark_history");
  fb_recorder *rec = fb_recorder_get();
  if (!t || fb_cell_settle(rec, t->cell) < 0)
    return NULL;
  fb_segment *s;
  uint32_t slot = place_of(rec, t->cell, &s);
  if (t->leaf || slot == FB_NO_SLOT)
    return PyErr_Format(PyExc_ValueError, "[mark_history] the tensor is no result with gradient history.");
  int status = s == fb_segment_lost() ? 0
               : s                    ? add_mark(&s->marks, &s->n_marks, &s->cap_marks, slot, object)
                                      : add_mark(&rec->marks, &rec->n_marks, &rec->cap_marks, slot, object);
  if (status < 0 || fb_tensor_track(t) < 0) /* the object may refer to the tensor */
    return NULL;
  Py_RETURN_NONE;
}

static int list_marks(PyObject *list, const fb_mark *marks, uint32_t n, uint32_t base) {
  for (uint32_t i = 0; i < n; i++) {
    PyObject *pair = Py_BuildValue("(IO)", base + marks[i].slot, marks[i].object);
    int status = pair ? PyList_Append(list, pair) : -1;
    Py_XDECREF(pair);
    if (status < 0)
      return -1;
  }
  return 0;
}

/* [(slot, object)] of the current trace and of those imported into it, in the order in which they were made there. */
PyObject *fb_py_trace_marks(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  const fb_recorder *rec = fb_recorder_get();
  PyObject *list = PyList_New(0);
  for (uint32_t i = 0; list && i < rec->n_imports; i++) {
    const fb_segment *s = rec->imports[i].segment;
    if (list_marks(list, s->marks, s->n_marks, rec->imports[i].base) < 0)
      Py_CLEAR(list);
  }
  if (list && list_marks(list, rec->marks, rec->n_marks, 0) < 0)
    Py_CLEAR(list);
  return list;
}

/* The slot of a tensor's history in the current trace, if it is there or was imported; else None. */
PyObject *fb_py_known_history(PyObject *module, PyObject *o) {
  (void)module;
  fb_tensor *t = fb_as_tensor(o, "known_history");
  const fb_recorder *rec = fb_recorder_get();
  if (!t)
    return NULL;
  if (t->leaf) {
    fb_place place;
    return fb_anchor_find(rec, t->leaf->anchor, &place) ? PyLong_FromUnsignedLong(rec->leaves[place.history].slot)
                                                        : Py_NewRef(Py_None);
  }
  fb_segment *s = NULL;
  uint32_t slot = t->cell->type->requires_grad ? place_of(rec, t->cell, &s) : FB_NO_SLOT;
  const fb_import *import = s ? fb_import_of(rec, s) : NULL;
  if (slot == FB_NO_SLOT || (s && !import))
    Py_RETURN_NONE;
  return PyLong_FromUnsignedLong(s ? import->base + slot : slot);
}
