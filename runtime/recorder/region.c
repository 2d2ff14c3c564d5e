/* Regions: what a function records is looked at like a capture, beside the trace that goes on, in a recorder of its
 * own. It reads values of the trace around it as they are: computed or not, they become inputs. Nothing of it runs.
 */
#include "capture.h"

struct fb_region {
  PyObject *name; /* of whose region it is */
  fb_cell **held; /* that it reads */
  uint32_t n_held, cap_held;
  bool draws; /* it may draw random numbers: what it draws is told by region_drawn() */
};

bool fb_region_draws(const fb_region *r) { return r && r->draws; }

int fb_region_hold(fb_recorder *rec, fb_cell *cell) {
  fb_region *r = fb_capture_region(rec);
  if (fb_grow((void **)&r->held, &r->cap_held, r->n_held + 1, sizeof cell) < 0)
    return -1;
  cell->refs++;
  r->held[r->n_held++] = cell;
  return 0;
}

void fb_region_free(fb_region *r) {
  if (!r)
    return;
  for (uint32_t i = 0; i < r->n_held; i++)
    fb_cell_release(r->held[i]);
  PyMem_Free(r->held);
  Py_DECREF(r->name);
  PyMem_Free(r);
}

int fb_region_refuse(const fb_region *r, const char *what, const char *remedy) {
  if (!r)
    return 0;
  PyErr_Format(PyExc_RuntimeError, "[%U] a function that it may run %s. %s", r->name, what, remedy);
  return -1;
}

PyObject *fb_region_error(const fb_region *r) {
  PyObject *text = PyUnicode_FromFormat(
      "[%U] this tensor was computed by a function that it may run and never had a value. Return it.", r->name);
  return text ? Py_BuildValue("(O(N))", PyExc_RuntimeError, text) : NULL;
}

/* ---- for Python ------------------------------------------------------------------------------------------ */

PyObject *fb_py_region_begin(PyObject *module, PyObject *name) {
  (void)module;
  fb_recorder *outer = fb_recorder_get();
  fb_region *r = PyMem_Calloc(1, sizeof *r);
  if (!r)
    return PyErr_NoMemory();
  r->name = Py_NewRef(name);
  fb_recorder *rec = fb_region_take(outer);
  if (fb_capture_start(rec, r) < 0) {
    rec->outer = NULL;
    rec->orphan = true;
    fb_region_free(r);
    return NULL;
  }
  fb_current = rec;
  Py_RETURN_NONE;
}

static fb_recorder *region(void) {
  fb_recorder *rec = fb_recorder_get();
  if (!rec->outer)
    PyErr_SetString(PyExc_RuntimeError, "[region] no region is being recorded. Call region_begin() first.");
  return rec->outer ? rec : NULL;
}

/* The leaf whose value an input is, or NULL. */
static fb_leaf *leaf_of_input(const fb_recorder *rec, uint32_t slot) {
  for (uint32_t i = 0; i < rec->n_leaves; i++)
    if (rec->leaves[i].data == slot)
      return rec->leaves[i].anchor->leaf;
  return NULL;
}

static PyObject *tensor_of_input(const fb_recorder *rec, const fb_trace_input *in) {
  fb_cell *c = in->cell;
  if (c) {
    c->refs++;
  } else if ((c = fb_cell_new(in->type))) { /* made by the function, of which nobody holds it any more */
    fb_buffer_retain(in->buffer);
    c->buffer = in->buffer;
  }
  PyObject *made = c ? fb_tensor_new(c, NULL) : NULL;
  fb_leaf *leaf = made ? leaf_of_input(rec, in->slot) : NULL;
  if (leaf) {
    ((fb_tensor *)made)->leaf = (fb_leaf *)Py_NewRef(leaf);
    fb_tensor_track((fb_tensor *)made);
  }
  return made;
}

PyObject *fb_py_region_draws(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  const fb_recorder *rec = region();
  if (!rec)
    return NULL;
  fb_capture_region(rec)->draws = true;
  Py_RETURN_NONE;
}

PyObject *fb_py_region_inputs(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  const fb_recorder *rec = region();
  PyObject *list = rec ? PyList_New(0) : NULL;
  for (uint32_t i = 0; list && i < rec->n_inputs; i++) {
    const fb_trace_input *in = &rec->inputs[i];
    if (in->kind != FB_BUFFER)
      continue;
    PyObject *tensor = tensor_of_input(rec, in);
    PyObject *item = tensor ? Py_BuildValue("(IN)", in->slot, tensor) : NULL;
    if (!item || PyList_Append(list, item) < 0)
      Py_CLEAR(list);
    Py_XDECREF(item);
  }
  return list;
}

PyObject *fb_py_region_end(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  fb_recorder *rec = region();
  if (!rec || fb_capture_finish(rec) < 0)
    return NULL;
  fb_current = rec->outer;
  rec->outer = NULL;
  rec->orphan = true; /* for the next one */
  Py_RETURN_NONE;
}
