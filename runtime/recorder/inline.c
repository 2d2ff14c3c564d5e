/* What a gradient engine in Python needs to record op by op: the trace as data, slots as tensors and back. */
#include "module.h"

PyObject *fb_py_slot_for_tensor(PyObject *module, PyObject *o) {
  (void)module;
  fb_tensor *t = fb_as_tensor(o, "slot_for_tensor");
  uint64_t word;
  fb_recorder *rec = fb_recorder_get();
  if (!t || (!fb_resident(rec, t, &word) && fb_enter(rec, t, FB_WHOLE, &word) < 0))
    return NULL;
  return PyLong_FromUnsignedLong(fb_word_slot(word));
}

PyObject *fb_py_import_history(PyObject *module, PyObject *o) {
  (void)module;
  fb_tensor *t = fb_as_tensor(o, "import_history");
  fb_recorder *rec = fb_recorder_get();
  uint64_t word;
  if (!t)
    return NULL;
  fb_hold hold;
  fb_hold_begin(&hold, rec);
  int status = fb_imports_refresh(rec) < 0 ? -1 : fb_import_history(rec, t, &word);
  fb_hold_end(&hold);
  return status < 0 ? NULL : PyLong_FromUnsignedLong(fb_word_slot(word));
}

PyObject *fb_py_trace_export(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  return fb_export(fb_subject());
}

PyObject *fb_py_trace_notes(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  fb_recorder *rec = fb_subject();
  if (!rec->notes && !(rec->notes = PyDict_New()))
    return NULL;
  return Py_NewRef(rec->notes);
}

/* End the history of these slots, in ascending order, as a backward() that does not retain the graph does. */
PyObject *fb_py_free_history(PyObject *module, PyObject *o) {
  (void)module;
  PyObject *items = PySequence_Tuple(o);
  uint32_t n = items ? (uint32_t)PyTuple_GET_SIZE(items) : 0;
  uint32_t *slots = items ? PyMem_Malloc((n + (size_t)1) * sizeof *slots) : NULL;
  for (uint32_t i = 0; slots && i < n; i++)
    slots[i] = (uint32_t)PyLong_AsUnsignedLong(PyTuple_GET_ITEM(items, i));
  fb_recorder *rec = fb_recorder_get();
  int status = slots && !PyErr_Occurred() ? fb_add_freed(rec, slots, n, 0) : -1;
  if (status == 0)
    status = fb_note_ended(rec, slots, n, rec->n_slots);
  PyMem_Free(slots);
  Py_XDECREF(items);
  return status < 0 ? (PyErr_Occurred() ? NULL : PyErr_NoMemory()) : Py_NewRef(Py_None);
}

/* The values of the sizes of the current trace that differ from run to run: those of symbols 0, 1, ... */
PyObject *fb_py_trace_sizes(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  const fb_recorder *rec = fb_subject();
  return fb_symbol_tuple(rec->symbols, rec->state->n_symbols);
}

/* What says all of the current trace but its values: (number of its state, sizes that differ from run to run); None
 * where it has imported others. */
PyObject *fb_py_trace_key(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  const fb_recorder *rec = fb_subject();
  if (rec->state->has_import)
    Py_RETURN_NONE;
  return Py_BuildValue("(KN)", (unsigned long long)rec->state->id,
                       fb_symbol_tuple(rec->symbols, rec->state->n_symbols));
}

/* How often the current trace has been run, each time by a program that was for once, and the nanoseconds that these
 * say were spent; None where another one has. */
PyObject *fb_py_trace_returns(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  const fb_program *p = (const fb_program *)fb_subject()->state->program;
  if (p && !p->once)
    Py_RETURN_NONE;
  return Py_BuildValue("(iK)", p ? p->once : 0, (unsigned long long)(p ? p->spent : 0));
}

static PyObject *equations(const fb_node *state, uint32_t from);

static int add_equations(PyObject *list, const fb_node *n) {
  int status = 0;
  if (n->sized->equations)
    return PyList_SetSlice(list, PY_SSIZE_T_MAX, PY_SSIZE_T_MAX, n->sized->equations);
  for (uint32_t i = 0; status == 0 && i < n->sized->n_guards; i++) {
    if (n->sized->guards[i].relation != 0)
      continue;
    PyObject *rows = fb_size_rows(n->sized->guards[i].size);
    status = rows ? PyList_Append(list, rows) : -1;
    Py_XDECREF(rows);
  }
  if (status < 0 || n->kind != FB_SEGMENT || !n->sized->exprs)
    return status;
  PyObject *inner = equations(n->imported, 0), *item = inner ? PyTuple_Pack(2, n->sized->exprs, inner) : NULL;
  status = item ? PyList_Append(list, item) : -1;
  Py_XDECREF(item);
  Py_XDECREF(inner);
  return status;
}

/* Of the states behind the first `from`, in the order of recording. */
static PyObject *equations(const fb_node *state, uint32_t from) {
  PyObject *list = PyList_New(0);
  for (const fb_node *n = state; list && n->depth > from; n = n->parent)
    if (n->sized && add_equations(list, n) < 0)
      Py_CLEAR(list);
  if (list && PyList_Reverse(list) < 0)
    Py_CLEAR(list);
  return list;
}

/* (how many states the current trace has come through, what is 0 because of those behind the first `from`): programs of
 * sizes, and of imported traces (what their symbols are in this one, their list). */
PyObject *fb_py_trace_equations(PyObject *module, PyObject *number) {
  (void)module;
  unsigned long from = PyLong_AsUnsignedLong(number);
  if (PyErr_Occurred())
    return NULL;
  const fb_node *state = fb_subject()->state;
  return Py_BuildValue("(IN)", state->depth, equations(state, (uint32_t)from));
}

/* {slot: number} of the scalars that entered the current trace. */
PyObject *fb_py_trace_scalars(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  fb_recorder *rec = fb_recorder_get();
  PyObject *found = PyDict_New(), *inputs = found ? fb_input_values(rec) : NULL;
  for (uint32_t i = 0; inputs && i < rec->n_inputs; i++) {
    PyObject *pair = PyList_GET_ITEM(inputs, i);
    if (rec->inputs[i].kind != FB_BUFFER &&
        PyDict_SetItem(found, PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1)) < 0)
      Py_CLEAR(inputs);
  }
  if (!inputs)
    Py_CLEAR(found);
  Py_XDECREF(inputs);
  return found;
}

/* The number that entered the current trace at a slot, or None. */
PyObject *fb_py_trace_scalar(PyObject *module, PyObject *number) {
  (void)module;
  unsigned long slot = PyLong_AsUnsignedLong(number);
  if (PyErr_Occurred())
    return NULL;
  const fb_trace_input *in = fb_input_at(fb_recorder_get(), (uint32_t)slot);
  if (!in || in->kind == FB_BUFFER)
    Py_RETURN_NONE;
  return in->kind == FB_FLOAT  ? PyFloat_FromDouble(in->f)
         : in->kind == FB_BOOL ? PyBool_FromLong(in->i)
                               : PyLong_FromLongLong(in->i);
}

/* [(slot, Leaf)] of the leaves of the current trace that are alive. */
PyObject *fb_py_trace_leaves(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  fb_recorder *rec = fb_recorder_get();
  PyObject *list = PyList_New(0);
  for (uint32_t i = 0; list && i < rec->n_leaves; i++) {
    fb_leaf *leaf = rec->leaves[i].anchor->leaf;
    PyObject *pair = leaf ? Py_BuildValue("(IO)", rec->leaves[i].slot, leaf) : NULL;
    if (leaf && (!pair || PyList_Append(list, pair) < 0))
      Py_CLEAR(list);
    Py_XDECREF(pair);
  }
  return list;
}

/* Its history outlasts the trace, as its value does. */
static void take_origin(const fb_recorder *rec, uint32_t slot, fb_cell *c) {
  for (uint32_t i = 0; i < rec->n_origins; i++)
    if (rec->origins[i].slot == slot)
      fb_cell_set_history(c, rec->origins[i].segment, rec->origins[i].segment_slot);
}

/* A cell for a value of the trace whose own cell is gone or has moved on. */
static fb_cell *cell_for_slot(fb_recorder *rec, uint32_t slot, const fb_type *type) {
  fb_cell *owner = rec->owner[slot];
  if (owner && owner->slot == slot && owner->use == slot) {
    owner->refs++;
    if (!owner->segment) /* nobody could come to it */
      take_origin(rec, slot, owner);
    return owner;
  }
  fb_cell *c = fb_cell_new(type);
  if (!c)
    return NULL;
  c->epoch = rec->id;
  c->home = rec;
  c->slot = c->use = slot;
  take_origin(rec, slot, c);
  const fb_trace_input *in = fb_input_at(rec, slot);
  if (in && in->kind == FB_BUFFER) {
    fb_buffer_retain(in->buffer);
    c->buffer = in->buffer;
    return c;
  }
  if (!owner)
    rec->owner[slot] = c;
  return c;
}

PyObject *fb_py_tensor_for_slot(PyObject *module, PyObject *number) {
  (void)module;
  fb_recorder *rec = fb_recorder_get();
  unsigned long slot = PyLong_AsUnsignedLong(number);
  if (PyErr_Occurred())
    return NULL;
  const fb_type *type = slot < rec->n_slots ? fb_slot_type(rec->state, (uint32_t)slot) : NULL;
  if (!type && PyErr_Occurred())
    return NULL;
  if (!type)
    return PyErr_Format(PyExc_ValueError, "[tensor_for_slot] slot %lu holds no tensor of the current trace.", slot);
  fb_anchor *leaf = NULL;
  for (uint32_t i = 0; i < rec->n_leaves; i++)
    if (rec->leaves[i].slot == slot)
      leaf = rec->leaves[i].anchor;
  if (!(type = fb_type_at(type, rec->symbols)))
    return NULL;
  fb_cell *c = cell_for_slot(rec, (uint32_t)slot, type);
  PyObject *made = c ? fb_tensor_new(c, NULL) : NULL;
  if (made && leaf && leaf->leaf) {
    ((fb_tensor *)made)->leaf = (fb_leaf *)Py_NewRef(leaf->leaf);
    fb_tensor_track((fb_tensor *)made);
  }
  return made;
}
