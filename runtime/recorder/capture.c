/* Capturing: a call is recorded to be looked at. Its trace does not run by itself, and at the end whatever existed
 * before (cells, gradients, random streams, handles) is as it was. Every change of such a thing is logged and undone in
 * reverse.
 */
#include "capture.h"

typedef enum { FB_CHANGED_CELL, FB_CHANGED_GRAD, FB_CHANGED_STREAM, FB_CHANGED_HANDLE, FB_NOTED } fb_change_kind;

/* What one change replaced. All pointers are references of its own. */
typedef struct {
  fb_change_kind kind;
  PyObject *name, *file; /* what did it, and where */
  int line;
  PyObject *object; /* the leaf, stream or tensor; of a note, its tensors */
  fb_cell *cell;
  const fb_type *type;
  uint32_t version;
  fb_watch *watch;
  uint32_t writes, aside;
  PyObject *grad, *dict;
  int64_t seed, offset;
  const fb_view *view;
  fb_leaf *leaf;
  int64_t *starts;
} fb_change;

struct fb_capture {
  fb_change *changes;
  uint32_t n_changes, cap_changes;
  fb_cell **cells; /* made from host memory since it began */
  uint32_t n_cells, cap_cells;
  fb_leaf **leaves; /* likewise */
  uint32_t n_leaves, cap_leaves;
  fb_region *region; /* NULL, or what is recorded is one */
  bool open;         /* values may be read: the trace runs */
  bool read;         /* one was, before that */
  PyObject *file;
  int line;
};

/* ---- the log --------------------------------------------------------------------------------------------- */

static fb_capture *current(void) {
  const fb_recorder *rec = fb_mine();
  return rec ? rec->capture : NULL;
}

static PyObject *name_of_call(const fb_recorder *rec) {
  const fb_node *node = rec->state;
  return node->kind == FB_CALL ? Py_NewRef(node->function->name) : PyUnicode_FromString("backward");
}

/* A new entry; `name` is taken over. */
static fb_change *add(fb_capture *c, fb_change_kind kind, PyObject *name) {
  if (!name || fb_grow((void **)&c->changes, &c->cap_changes, c->n_changes + 1, sizeof(fb_change)) < 0) {
    Py_XDECREF(name);
    return NULL;
  }
  fb_change *change = &c->changes[c->n_changes++];
  *change = (fb_change){.kind = kind, .name = name};
  change->line = fb_user_line(&change->file);
  return change;
}

/* Whether the cell was made since the capture began. Memory that others see is not ours, whenever it was wrapped. */
static bool is_inside(const fb_recorder *rec, const fb_cell *cell) {
  if (cell->shared)
    return false;
  if (cell->home == rec && cell->epoch == rec->id && cell->input == FB_NO_SLOT)
    return true;
  for (uint32_t i = 0; i < rec->capture->n_cells; i++)
    if (rec->capture->cells[i] == cell)
      return true;
  return false;
}

int fb_capture_cell(fb_cell *cell) {
  fb_capture *c = current();
  if (!c || cell->shared)
    return 0;
  if (fb_grow((void **)&c->cells, &c->cap_cells, c->n_cells + 1, sizeof cell) < 0)
    return -1;
  cell->refs++;
  c->cells[c->n_cells++] = cell;
  return 0;
}

int fb_capture_leaf(fb_leaf *leaf) {
  fb_capture *c = current();
  if (!c)
    return 0;
  if (fb_grow((void **)&c->leaves, &c->cap_leaves, c->n_leaves + 1, sizeof leaf) < 0)
    return -1;
  c->leaves[c->n_leaves++] = (fb_leaf *)Py_NewRef(leaf);
  return 0;
}

int fb_capture_write(fb_recorder *rec, fb_tensor *t) {
  fb_cell *cell = t->cell;
  if (is_inside(rec, cell))
    return 0;
  if (fb_region_refuse(rec->capture->region, "changes a tensor from outside in place", "Return its new value.") < 0)
    return -1;
  fb_change *change = add(rec->capture, FB_CHANGED_CELL, name_of_call(rec));
  if (!change)
    return -1;
  cell->refs++;
  change->cell = cell;
  change->type = cell->type;
  change->version = cell->version;
  if (cell->watch) {
    change->watch = cell->watch;
    change->watch->refs++;
    change->writes = change->watch->writes;
    change->aside = change->watch->aside;
  }
  return 0;
}

int fb_capture_grad(fb_leaf *leaf, const char *name) {
  fb_capture *c = current();
  for (uint32_t i = 0; c && i < c->n_leaves; i++)
    if (c->leaves[i] == leaf)
      return 0;
  if (fb_region_refuse(c ? c->region : NULL, "sets the gradient of a tensor from outside",
                       "Return it, from autograd.grad().") < 0)
    return -1;
  fb_change *change = c ? add(c, FB_CHANGED_GRAD, PyUnicode_FromString(name)) : NULL;
  if (!change)
    return c ? -1 : 0;
  change->object = Py_NewRef(leaf);
  change->grad = Py_XNewRef(leaf->grad);
  return 0;
}

int fb_capture_stream(fb_stream *s) {
  fb_capture *c = current();
  if (!fb_region_draws(c ? c->region : NULL) &&
      fb_region_refuse(c ? c->region : NULL, "draws random numbers", "Draw them before, and use them in it.") < 0)
    return -1;
  fb_change *change = c ? add(c, FB_CHANGED_STREAM, PyUnicode_FromString("random numbers")) : NULL;
  if (!change)
    return c ? -1 : 0;
  change->object = Py_NewRef(s);
  change->seed = s->seed;
  change->offset = s->offset;
  return 0;
}

int fb_capture_handle(fb_tensor *t) {
  fb_capture *c = current();
  if (!c)
    return 0;
  PyObject *dict = t->dict ? PyDict_Copy(t->dict) : NULL;
  size_t bytes = t->starts ? t->view->n_starts * sizeof(int64_t) : 0;
  int64_t *starts = bytes ? PyMem_Malloc(bytes) : NULL;
  fb_change *change = (dict || !t->dict) && (starts || !bytes)
                          ? add(c, FB_CHANGED_HANDLE, PyUnicode_FromString("a tensor's attributes"))
                          : (fb_change *)(PyErr_Occurred() ? NULL : PyErr_NoMemory());
  if (!change) {
    Py_XDECREF(dict);
    PyMem_Free(starts);
    return -1;
  }
  if (bytes)
    memcpy(starts, t->starts, bytes);
  t->cell->refs++;
  change->object = Py_NewRef(t);
  change->cell = t->cell;
  fb_view_enter(t->view);
  change->view = t->view;
  change->leaf = (fb_leaf *)Py_XNewRef(t->leaf);
  change->starts = starts;
  change->dict = dict;
  return 0;
}

/* ---- flushes --------------------------------------------------------------------------------------------- */

bool fb_capture_holds(const fb_recorder *rec) { return rec->capture && !rec->capture->open; }

int fb_capture_refuse(fb_recorder *rec) {
  fb_capture *c = rec->capture;
  if (!c->read) {
    c->read = true;
    c->line = fb_user_line(&c->file);
  }
  if (fb_region_refuse(c->region, "reads a value, which is not computed yet", "Compute with tensors only.") < 0)
    return -1;
  PyErr_SetString(PyExc_RuntimeError, "[export] a value is read while the model is being recorded: it is not computed "
                                      "yet. Compute with tensors only.");
  return -1;
}

/* ---- undoing --------------------------------------------------------------------------------------------- */

static void undo_cell(const fb_change *change) {
  change->cell->version = change->version;
  fb_cell_retype(change->cell, change->type);
  if (!change->watch)
    return;
  change->watch->writes = change->writes;
  change->watch->aside = change->aside;
}

static void undo_handle(fb_change *change) {
  fb_tensor *t = (fb_tensor *)change->object;
  fb_tensor_part(t);
  fb_tensor_show(t, NULL);
  fb_cell *cell = t->cell;
  t->cell = change->cell;
  change->cell = cell;
  fb_tensor_show(t, change->view);
  int64_t *starts = t->starts;
  t->starts = change->starts;
  change->starts = starts;
  fb_leaf *leaf = t->leaf;
  t->leaf = change->leaf;
  change->leaf = leaf;
  if (t->leaf && !t->view)
    t->leaf->anchor->leaf = t->leaf;
  if (t->dict) {
    PyDict_Clear(t->dict);
    if (change->dict && PyDict_Update(t->dict, change->dict) < 0)
      PyErr_Clear();
  }
}

static void undo(fb_change *change) {
  if (change->kind == FB_CHANGED_CELL) {
    undo_cell(change);
  } else if (change->kind == FB_CHANGED_GRAD) {
    fb_leaf *leaf = (fb_leaf *)change->object;
    PyObject *grad = leaf->grad;
    leaf->grad = change->grad;
    change->grad = grad;
  } else if (change->kind == FB_CHANGED_STREAM) {
    fb_stream *s = (fb_stream *)change->object;
    s->seed = change->seed;
    s->offset = change->offset;
  } else if (change->kind == FB_CHANGED_HANDLE) {
    undo_handle(change);
  }
}

static void change_clear(fb_change *change) {
  Py_XDECREF(change->name);
  Py_XDECREF(change->file);
  Py_XDECREF(change->object);
  if (change->cell)
    fb_cell_release(change->cell);
  fb_view_leave(change->view);
  if (change->watch)
    fb_watch_release(change->watch);
  Py_XDECREF(change->grad);
  Py_XDECREF(change->dict);
  Py_XDECREF(change->leaf);
  PyMem_Free(change->starts);
}

static PyObject *error_of_dropped(const fb_capture *c) {
  if (c->region)
    return fb_region_error(c->region);
  return Py_BuildValue("(O(s))", PyExc_RuntimeError,
                       "[export] this tensor was computed while a model was being recorded for export and never had a "
                       "value. Call the model again.");
}

/* What has not run never will: cells made in the trace keep an error, others what they held before it. */
static int drop_trace(fb_recorder *rec) {
  PyObject *error = error_of_dropped(rec->capture);
  if (!error)
    return -1;
  for (uint32_t i = 0; i < rec->n_inputs; i++)
    if (rec->inputs[i].cell && rec->inputs[i].cell->epoch == rec->id)
      fb_cell_retype(rec->inputs[i].cell, rec->inputs[i].type);
  for (uint32_t s = 0; s < rec->n_slots; s++) {
    fb_cell *c = rec->owner[s];
    if (c && !c->buffer)
      Py_XSETREF(c->error, Py_NewRef(error));
  }
  Py_DECREF(error);
  fb_undo_ended(rec);
  fb_recorder_reset(rec);
  return 0;
}

static void capture_free(fb_capture *c) {
  for (uint32_t i = 0; i < c->n_changes; i++)
    change_clear(&c->changes[i]);
  for (uint32_t i = 0; i < c->n_cells; i++)
    fb_cell_release(c->cells[i]);
  for (uint32_t i = 0; i < c->n_leaves; i++)
    Py_DECREF(c->leaves[i]);
  Py_XDECREF(c->file);
  fb_region_free(c->region);
  PyMem_Free(c->changes);
  PyMem_Free(c->cells);
  PyMem_Free(c->leaves);
  PyMem_Free(c);
}

/* ---- for Python ------------------------------------------------------------------------------------------ */

static fb_capture *in_force(void) {
  fb_capture *c = current();
  if (!c)
    PyErr_SetString(PyExc_RuntimeError, "[capture] nothing is being captured. Call capture_begin() first.");
  return c;
}

int fb_capture_start(fb_recorder *rec, fb_region *region) {
  rec->capture = PyMem_Calloc(1, sizeof *rec->capture);
  if (!rec->capture)
    return PyErr_NoMemory(), -1;
  rec->capture->region = region;
  return 0;
}

fb_region *fb_capture_region(const fb_recorder *rec) { return rec->capture ? rec->capture->region : NULL; }

PyObject *fb_py_capture_begin(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  fb_recorder *rec = fb_recorder_get();
  if (rec->capture)
    return PyErr_Format(PyExc_RuntimeError, "[export] a model that is being exported cannot export another.");
  return fb_flush_own(rec) == 0 && fb_capture_start(rec, NULL) == 0 ? Py_NewRef(Py_None) : NULL;
}

PyObject *fb_py_capture_open(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  fb_capture *c = in_force();
  if (!c)
    return NULL;
  c->open = true;
  fb_tell_change();
  Py_RETURN_NONE;
}

int fb_capture_finish(fb_recorder *rec) {
  fb_capture *c = rec->capture;
  if (rec->n_slots && drop_trace(rec) < 0)
    return -1;
  rec->capture = NULL;
  for (uint32_t i = c->n_changes; i-- > 0;)
    undo(&c->changes[i]);
  fb_tell_change();
  capture_free(c);
  return 0;
}

PyObject *fb_py_capture_end(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  fb_recorder *rec = fb_recorder_get();
  return in_force() && fb_capture_finish(rec) == 0 ? Py_NewRef(Py_None) : NULL;
}

/* ---- what captures have seen ----------------------------------------------------------------------------- */

PyObject *fb_py_capturing(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  return PyBool_FromLong(current() != NULL);
}

PyObject *fb_py_capture_read(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  fb_capture *c = in_force();
  if (!c)
    return NULL;
  return c->read && c->file ? Py_BuildValue("(Oi)", c->file, c->line) : c->read ? PyTuple_New(0) : Py_NewRef(Py_None);
}

PyObject *fb_py_capture_note(PyObject *module, PyObject *args) {
  PyObject *name, *tensors;
  (void)module;
  fb_capture *c = in_force();
  if (!c || !PyArg_ParseTuple(args, "UO:capture_note", &name, &tensors))
    return NULL;
  fb_change *change = add(c, FB_NOTED, Py_NewRef(name));
  if (!change)
    return NULL;
  change->object = Py_NewRef(tensors);
  Py_RETURN_NONE;
}

PyObject *fb_py_capture_outside(PyObject *module, PyObject *o) {
  (void)module;
  fb_tensor *t = fb_as_tensor(o, "capture_outside");
  return t && in_force() ? PyBool_FromLong(!is_inside(fb_current, t->cell)) : NULL;
}

static bool is_first_of_leaf(const fb_capture *c, uint32_t at) {
  for (uint32_t i = 0; i < at; i++)
    if (c->changes[i].kind == FB_CHANGED_GRAD && c->changes[i].object == c->changes[at].object)
      return false;
  return true;
}

/* (kind, name, (file, line) or None, what): a tensor that was written, a leaf that has another gradient, noted tensors.
 */
static PyObject *described(const fb_capture *c, uint32_t at) {
  const fb_change *change = &c->changes[at];
  PyObject *where = change->file ? Py_BuildValue("(Oi)", change->file, change->line) : Py_NewRef(Py_None);
  if (!where)
    return NULL;
  if (change->kind == FB_CHANGED_CELL) {
    change->cell->refs++;
    return Py_BuildValue("(sONN)", "write", change->name, where, fb_tensor_new(change->cell, NULL));
  }
  return Py_BuildValue("(sONO)", change->kind == FB_NOTED ? "note" : "grad", change->name, where, change->object);
}

PyObject *fb_py_capture_changes(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  const fb_capture *c = in_force();
  PyObject *list = c ? PyList_New(0) : NULL;
  for (uint32_t i = 0; list && i < c->n_changes; i++) {
    const fb_change *change = &c->changes[i];
    if (change->kind == FB_CHANGED_GRAD) {
      const PyObject *grad = ((fb_leaf *)change->object)->grad;
      if (!grad || grad == change->grad || !is_first_of_leaf(c, i))
        continue;
    } else if (change->kind != FB_CHANGED_CELL && change->kind != FB_NOTED) {
      continue;
    }
    PyObject *item = described(c, i);
    if (!item || PyList_Append(list, item) < 0)
      Py_CLEAR(list);
    Py_XDECREF(item);
  }
  return list;
}

PyObject *fb_py_region_drawn(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  const fb_capture *c = in_force();
  PyObject *found = c ? PyDict_New() : NULL;
  for (uint32_t i = 0; found && i < c->n_changes; i++) {
    const fb_change *change = &c->changes[i];
    if (change->kind != FB_CHANGED_STREAM)
      continue;
    uint64_t drawn = (uint64_t)((fb_stream *)change->object)->offset - (uint64_t)change->offset;
    PyObject *count = PyLong_FromUnsignedLongLong(drawn);
    if (!count || !PyDict_SetDefault(found, change->object, count))
      Py_CLEAR(found);
    Py_XDECREF(count);
  }
  return found;
}

PyObject *fb_py_leaf_of(PyObject *module, PyObject *o) {
  (void)module;
  fb_tensor *t = fb_as_tensor(o, "leaf_of");
  return t ? Py_NewRef(t->leaf && !t->view ? (PyObject *)t->leaf : Py_None) : NULL;
}
