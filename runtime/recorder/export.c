/* Traces as Python data for the hooks: the path from the root to a state, entry by entry. */
#include "trace.h"

PyObject *fb_slot_tuple(const uint32_t *slots, uint32_t n) {
  PyObject *tuple = PyTuple_New(n);
  for (uint32_t i = 0; tuple && i < n; i++) {
    PyObject *slot = PyLong_FromUnsignedLong(slots[i]);
    if (!slot)
      Py_CLEAR(tuple);
    else
      PyTuple_SET_ITEM(tuple, i, slot);
  }
  return tuple;
}

static PyObject *slot_range(uint32_t first, uint32_t n) {
  PyObject *tuple = PyTuple_New(n);
  for (uint32_t i = 0; tuple && i < n; i++) {
    PyObject *slot = PyLong_FromUnsignedLong(first + i);
    if (!slot)
      Py_CLEAR(tuple);
    else
      PyTuple_SET_ITEM(tuple, i, slot);
  }
  return tuple;
}

static int append(PyObject *list, PyObject *item) {
  int status = item ? PyList_Append(list, item) : -1;
  Py_XDECREF(item);
  return status;
}

/* ---- what many entries have --------------------------------------------------------------------------------- */

/* Exports are kept with gradients that were put off, and each tuple is one more that Python's collector looks at: those
 * that most calls have are made once. */
#define SHARED_SLOTS 256

static PyObject *make_single(uint32_t slot) { return Py_BuildValue("(I)", slot); }

static PyObject *make_plain_ref(uint32_t slot) { return Py_BuildValue("(IO())", slot, Py_None); }

static PyObject *made_once(PyObject **known, PyObject *(*make)(uint32_t), uint32_t slot) {
  if (slot >= SHARED_SLOTS)
    return make(slot);
  if (!known[slot])
    known[slot] = make(slot);
  return Py_XNewRef(known[slot]);
}

/* (slot,) */
static PyObject *single(uint32_t slot) {
  static PyObject *known[SHARED_SLOTS];
  return made_once(known, make_single, slot);
}

/* (slot, None, ()) */
static PyObject *plain_ref(uint32_t slot) {
  static PyObject *known[SHARED_SLOTS];
  return made_once(known, make_plain_ref, slot);
}

/* (-1,) */
static PyObject *no_write(void) {
  static PyObject *known;
  if (!known)
    known = Py_BuildValue("(i)", -1);
  return Py_XNewRef(known);
}

/* ---- entries ------------------------------------------------------------------------------------------------ */

/* (slot, view payload or None, slots of the view's starts); `next` is the next scalar slot. */
PyObject *fb_ref_of_word(uint64_t word, uint32_t *next) {
  if (fb_word_slot(word) == FB_TAG_NONE)
    return Py_NewRef(Py_None);
  const fb_view *view = fb_word_view(word) ? fb_view_by_id(fb_word_view(word)) : NULL;
  if (!view)
    return plain_ref(fb_word_slot(word));
  PyObject *starts = slot_range(*next, view->n_starts);
  if (!starts)
    return NULL;
  *next += view->n_starts;
  return Py_BuildValue("(ION)", fb_word_slot(word), view->payload, starts);
}

static const char *const scalar_kinds[] = {"float", "int", "bool"};

/* The operands of a call, flattened; appends the entries of its scalars to `entries`. */
static PyObject *call_operands(const fb_node *node, PyObject *entries) {
  PyObject *list = PyList_New(0);
  uint32_t next = node->base, listed = 0;
  for (uint32_t i = 1; list && i < node->n_words; i++) {
    uint64_t w = node->words[i];
    uint32_t first = next;
    int status = 0;
    switch (fb_word_slot(w)) {
    case FB_TAG_LIST:
      continue;
    case FB_TAG_NUMBER:
      i++; /* fall through */
    case FB_TAG_NONE:
      status = PyList_Append(list, Py_None);
      break;
    case FB_TAG_SCALAR:
      status = append(entries, Py_BuildValue("(sIs)", "scalar", next, scalar_kinds[fb_word_high(w)]));
      if (status == 0)
        status = append(list, plain_ref(next));
      next++;
      break;
    default:
      status = append(list, fb_ref_of_word(w, &next));
      for (listed = first; status == 0 && listed < next; listed++)
        status = append(entries, Py_BuildValue("(sIs)", "scalar", listed, "int"));
    }
    if (status < 0)
      Py_CLEAR(list);
  }
  PyObject *tuple = list ? PyList_AsTuple(list) : NULL;
  Py_XDECREF(list);
  return tuple;
}

static PyObject *result_slots(const fb_node *node) {
  uint32_t first = node->base + node->n_scalars;
  if (node->n_results == 1 && node->results[0].type)
    return single(first);
  PyObject *tuple = PyTuple_New(node->n_results);
  for (uint32_t i = 0; tuple && i < node->n_results; i++) {
    PyObject *slot = node->results[i].type ? PyLong_FromUnsignedLong(first + i) : Py_NewRef(Py_None);
    if (!slot)
      Py_CLEAR(tuple);
    else
      PyTuple_SET_ITEM(tuple, i, slot);
  }
  return tuple;
}

static PyObject *result_writes(const fb_node *node) {
  if (node->n_results == 1 && node->results[0].write < 0)
    return no_write();
  PyObject *tuple = PyTuple_New(node->n_results);
  for (uint32_t i = 0; tuple && i < node->n_results; i++) {
    PyObject *write = PyLong_FromLong(node->results[i].write);
    if (!write)
      Py_CLEAR(tuple);
    else
      PyTuple_SET_ITEM(tuple, i, write);
  }
  return tuple;
}

/* The line of the call in this trace, or where the state was learnt. */
static PyObject *location(const fb_node *node, const fb_recorder *rec) {
  for (uint32_t i = rec && node->flags & FB_FALLIBLE ? rec->n_locs : 0; i && rec->locs[i - 1].depth >= node->depth; i--)
    if (rec->locs[i - 1].depth == node->depth) {
      PyCodeObject *code = rec->locs[i - 1].code;
      return !code ? Py_NewRef(Py_None)
                   : Py_BuildValue("(Oi)", code->co_filename, PyCode_Addr2Line(code, rec->locs[i - 1].instruction));
    }
  return node->file ? Py_BuildValue("(Oi)", node->file, node->line) : Py_NewRef(Py_None);
}

static int export_call(const fb_node *node, const char *name, PyObject *entries, const fb_recorder *rec) {
  PyObject *operands = call_operands(node, entries);
  if (!operands)
    return -1;
  return append(entries, Py_BuildValue("(sONNNNO)", name, node->payload ? node->payload : Py_None, operands,
                                       result_slots(node), result_writes(node), location(node, rec),
                                       node->function ? (PyObject *)node->function : Py_None));
}

/* Words of a segment entry: header, id, then old | new << 32 for values; scalars are a tag and then the old slot. */
static PyObject *provided_slots(const fb_node *node, PyObject *entries) {
  PyObject *provided = PyDict_New();
  uint32_t next = node->base;
  for (uint32_t i = 2; provided && i < node->n_words; i++) {
    uint32_t old = fb_word_slot(node->words[i]), now = fb_word_high(node->words[i]);
    int status = 0;
    if (old == FB_TAG_SIZE)
      break; /* they come last, and are in the node's expressions */
    if (old == FB_TAG_SCALAR) {
      status = append(entries, Py_BuildValue("(sIs)", "scalar", next, scalar_kinds[now]));
      old = fb_word_slot(node->words[++i]);
      now = next++;
    }
    PyObject *key = PyLong_FromUnsignedLong(old), *value = PyLong_FromUnsignedLong(now);
    if (status < 0 || !key || !value || PyDict_SetItem(provided, key, value) < 0)
      Py_CLEAR(provided);
    Py_XDECREF(key);
    Py_XDECREF(value);
  }
  return provided;
}

/* The export of an imported state. A trace that imports equal ones, as those of a loop's rounds, has it once. */
static PyObject *imported_entries(const fb_node *node, fb_recorder *rec) {
  if (rec && !rec->exported_states && !(rec->exported_states = PyDict_New()))
    return NULL;
  PyObject *key = rec ? PyLong_FromUnsignedLongLong(node->imported->id) : NULL;
  PyObject *known = key ? PyDict_GetItemWithError(rec->exported_states, key) : NULL;
  PyObject *inner = known ? Py_NewRef(known) : PyErr_Occurred() ? NULL : fb_export_state(node->imported, NULL);
  if (inner && key && !known && PyDict_SetItem(rec->exported_states, key, inner) < 0)
    Py_CLEAR(inner);
  Py_XDECREF(key);
  return inner;
}

static int export_segment(const fb_node *node, PyObject *entries, fb_recorder *rec) {
  PyObject *provided = provided_slots(node, entries), *inner = provided ? imported_entries(node, rec) : NULL;
  if (!inner) {
    Py_XDECREF(provided);
    return -1;
  }
  PyObject *sizes = node->sized && node->sized->exprs ? Py_NewRef(node->sized->exprs) : PyTuple_New(0);
  return append(entries, Py_BuildValue("(sINKNN)", "segment", node->base + node->n_scalars, inner,
                                       (unsigned long long)node->imported->id, provided, sizes));
}

static int export_mark(const fb_node *node, const char *kind, PyObject *entries) {
  PyObject *slots = PyTuple_New(node->n_words - 1);
  for (uint32_t i = 1; slots && i < node->n_words; i++) {
    PyObject *slot = PyLong_FromUnsignedLong(fb_word_slot(node->words[i]));
    if (!slot)
      Py_CLEAR(slots);
    else
      PyTuple_SET_ITEM(slots, i - 1, slot);
  }
  return slots ? append(entries, Py_BuildValue("(sN)", kind, slots)) : -1;
}

static int export_node(const fb_node *node, PyObject *entries, fb_recorder *rec) {
  const fb_type *type = node->type;
  switch ((fb_node_kind)node->kind) {
  case FB_INPUT:
    return append(entries, Py_BuildValue("(sIOOOOO)", "input", node->base, type->shape, type->dtype,
                                         type->requires_grad ? Py_True : Py_False, Py_False, type->device));
  case FB_LEAF:
    return append(entries, fb_word_slot(node->words[1]) == FB_NO_SLOT
                               ? Py_BuildValue("(sIO)", "leaf", node->base, Py_None)
                               : Py_BuildValue("(sII)", "leaf", node->base, fb_word_slot(node->words[1])));
  case FB_LINK:
    return append(entries, Py_BuildValue("(sII)", "link", fb_word_slot(node->words[1]), fb_word_high(node->words[1])));
  case FB_GRAFT:
    return append(entries, Py_BuildValue("(sIII)", "graft", node->base, fb_word_slot(node->words[1]),
                                         fb_word_high(node->words[1])));
  case FB_CALL:
    return export_call(node, "call", entries, rec);
  case FB_BACKWARD:
    return export_call(node, "backward", entries, rec);
  case FB_GRAD:
    return export_call(node, "grad", entries, rec);
  case FB_SEGMENT:
    return export_segment(node, entries, rec);
  case FB_MODIFIED:
    return export_mark(node, fb_word_high(node->words[0]) ? "written_aside" : "modified", entries);
  case FB_FREED:
    return export_mark(node, "freed", entries);
  case FB_ROOT:
  case FB_REACH:
    break;
  }
  return 0;
}

/* The entries of `state` behind the first `from` states are appended. */
static int export_states(fb_node *state, uint32_t from, PyObject *entries, fb_recorder *rec) {
  uint32_t n = state->depth - from;
  fb_node **path = PyMem_Malloc((n + (size_t)1) * sizeof *path);
  if (!path)
    return PyErr_NoMemory(), -1;
  for (fb_node *node = state; node->depth > from; node = node->parent)
    path[node->depth - from - 1] = node;
  int status = 0;
  for (uint32_t i = 0; status == 0 && i < n; i++)
    status = export_node(path[i], entries, rec);
  PyMem_Free(path);
  return status;
}

PyObject *fb_export_state(fb_node *state, fb_recorder *rec) {
  PyObject *entries = PyList_New(0);
  if (entries && export_states(state, 0, entries, rec) < 0)
    Py_CLEAR(entries);
  return entries;
}

/* Only what has come since the last time is added: who asks after every call of a long trace looks at each once. */
PyObject *fb_export(fb_recorder *rec) {
  if (!rec->exported && !(rec->exported = PyList_New(0)))
    return NULL;
  PyObject *entries = rec->exported; /* Python code may run meanwhile, but the trace is held or runs */
  Py_ssize_t before = PyList_GET_SIZE(entries);
  if (export_states(rec->state, rec->exported_to, entries, rec) < 0) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyList_SetSlice(entries, before, PY_SSIZE_T_MAX, NULL);
    PyErr_Restore(type, value, traceback);
    return NULL;
  }
  rec->exported_to = rec->state->depth;
  return Py_NewRef(entries);
}
