/* After a failed run. An op that fails: existing cells get the values of the prefix before it, later results keep the
 * error. No memory: all of the trace is dropped. An interrupt: the trace stays. */
#include "runs.h"

static PyObject *fetch_error(void) {
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  if (traceback && value)
    PyException_SetTraceback(value, traceback);
  Py_XDECREF(type);
  Py_XDECREF(traceback);
  return value;
}

/* What it says, with the lines that its notes have; NULL, without an exception, where it says no text or has no notes.
 */
static PyObject *text_with_notes(PyObject *error, PyObject *args) {
  PyObject *notes = PyObject_GetAttrString(error, "__notes__"), *made = NULL;
  if (notes && PyList_Check(notes) && args && PyTuple_GET_SIZE(args) == 1 &&
      PyUnicode_Check(PyTuple_GET_ITEM(args, 0))) {
    PyObject *end = PyUnicode_FromString("\n"), *lines = end ? PyUnicode_Join(end, notes) : NULL;
    PyObject *text = lines ? PyUnicode_FromFormat("%U\n%U", PyTuple_GET_ITEM(args, 0), lines) : NULL;
    made = text ? PyTuple_Pack(1, text) : NULL;
    Py_XDECREF(end);
    Py_XDECREF(lines);
    Py_XDECREF(text);
  }
  Py_XDECREF(notes);
  PyErr_Clear();
  return made;
}

/* (class, args), without the traceback and the frames behind it; lines that notes name are in the text then. */
static PyObject *summary_of(PyObject *error) {
  PyObject *args = PyObject_GetAttrString(error, "args");
  PyObject *told = text_with_notes(error, args);
  if (told)
    Py_XSETREF(args, told);
  PyObject *made = args ? PyTuple_Pack(2, (PyObject *)Py_TYPE(error), args) : NULL;
  Py_XDECREF(args);
  return made;
}

/* ---- what a cell held before ----------------------------------------------------------------------------- */

static uint32_t operand_slot(const fb_node *node, uint32_t index) {
  uint32_t at = 0;
  for (uint32_t i = 1; i < node->n_words; i++) {
    uint32_t slot = fb_word_slot(node->words[i]);
    if (slot == FB_TAG_LIST)
      continue;
    if (at++ == index)
      return slot;
    if (slot == FB_TAG_NUMBER)
      i++;
  }
  return FB_NO_SLOT;
}

/* For each slot that is a write, the slot whose data it replaced; FB_NO_SLOT elsewhere. Leaves and grafts are seen
 * through to their data. */
static uint32_t *find_previous(fb_recorder *rec) {
  fb_node **path = fb_trie_path(rec->state);
  uint32_t *previous = PyMem_Malloc((rec->n_slots + 1) * sizeof *previous),
           *data = PyMem_Malloc((rec->n_slots + 1) * sizeof *data);
  if (!path || !previous || !data) {
    PyMem_Free(previous);
    previous = NULL;
    goto done;
  }
  for (uint32_t s = 0; s < rec->n_slots; s++) {
    previous[s] = FB_NO_SLOT;
    data[s] = s;
  }
  for (uint32_t i = 0; i < rec->state->depth; i++) {
    const fb_node *node = path[i];
    if ((node->kind == FB_LEAF || node->kind == FB_GRAFT) && fb_word_slot(node->words[1]) != FB_NO_SLOT)
      data[node->base] = data[fb_word_slot(node->words[1])];
    for (uint32_t k = 0; node->results && k < node->n_results; k++)
      if (node->results[k].type && node->results[k].write >= 0) {
        uint32_t old = operand_slot(node, (uint32_t)node->results[k].write);
        previous[node->base + node->n_scalars + k] = old == FB_NO_SLOT ? old : data[old];
      }
  }
done:
  PyMem_Free(path);
  PyMem_Free(data);
  return previous;
}

static PyObject *wanted_slots(const fb_recorder *rec, const fb_liveness *found, const uint32_t *previous) {
  uint8_t *wanted = PyMem_Calloc(rec->n_slots + 1, 1);
  uint32_t *slots = PyMem_Malloc((rec->n_slots + 1) * sizeof *slots), n = 0;
  PyObject *tuple = NULL;
  if (wanted && slots) {
    for (uint32_t i = 0; i < found->n_live; i++)
      for (uint32_t s = found->live[i]; s != FB_NO_SLOT && !wanted[s]; s = previous[s])
        wanted[s] = 1;
    for (uint32_t s = 0; s < rec->n_slots; s++)
      if (wanted[s])
        slots[n++] = s;
    tuple = fb_slot_tuple(slots, n);
  } else {
    PyErr_NoMemory();
  }
  PyMem_Free(wanted);
  PyMem_Free(slots);
  return tuple;
}

/* ---- the prefix ------------------------------------------------------------------------------------------ */

static PyObject *ask_replay(fb_recorder *rec, PyObject *slots, PyObject *error) {
  PyObject *export = fb_export(rec), *inputs = export ? fb_input_values(rec) : NULL, *answer = NULL;
  fb_recorder *before = fb_subject_set(rec);
  if (inputs)
    answer = PyObject_CallFunctionObjArgs(fb_hooks.replay, export, slots, inputs, error, NULL);
  fb_subject_set(before);
  Py_XDECREF(export);
  Py_XDECREF(inputs);
  if (answer &&
      (!PyTuple_Check(answer) || PyTuple_GET_SIZE(answer) != 3 || !PyDict_Check(PyTuple_GET_ITEM(answer, 0)) ||
       !PyExceptionInstance_Check(PyTuple_GET_ITEM(answer, 1)) || !PyLong_Check(PyTuple_GET_ITEM(answer, 2)))) {
    PyErr_SetString(PyExc_TypeError, "[flush] replay must return ({slot: Buffer}, exception, slot).");
    Py_CLEAR(answer);
  }
  return answer;
}

/* Values of the prefix: a dict from slots to Buffers, or NULL. *error is replaced by the one to raise, *failed by the
 * first slot that is not of the prefix. */
static PyObject *replay(fb_recorder *rec, const fb_liveness *found, const uint32_t *previous, PyObject **error,
                        uint32_t *failed) {
  if (!fb_hooks.replay || !previous)
    return NULL;
  PyObject *slots = wanted_slots(rec, found, previous), *answer = slots ? ask_replay(rec, slots, *error) : NULL;
  Py_XDECREF(slots);
  PyObject *values = answer ? Py_NewRef(PyTuple_GET_ITEM(answer, 0)) : NULL;
  PyObject *replaced = answer ? Py_NewRef(PyTuple_GET_ITEM(answer, 1)) : fetch_error();
  *failed = answer ? (uint32_t)PyLong_AsUnsignedLongMask(PyTuple_GET_ITEM(answer, 2)) : 0;
  Py_XDECREF(answer);
  if (replaced)
    Py_SETREF(*error, replaced);
  return values;
}

/* The last value that slot's storage had in the prefix; borrowed. */
static fb_buffer *prefix_value(PyObject *values, const uint32_t *previous, uint32_t slot) {
  for (uint32_t s = slot; values && s != FB_NO_SLOT; s = previous[s]) {
    PyObject *key = PyLong_FromUnsignedLong(s), *value = key ? PyDict_GetItemWithError(values, key) : NULL;
    Py_XDECREF(key);
    if (value)
      return fb_buffer_from_python(value);
  }
  return NULL;
}

/* How often the cell's storage was written by entries that do not come to pass. */
static uint32_t lost_writes(const uint32_t *previous, uint32_t slot, uint32_t failed) {
  uint32_t n = 0;
  for (uint32_t s = slot; previous && s != FB_NO_SLOT && s >= failed; s = previous[s])
    n += previous[s] != FB_NO_SLOT;
  return n;
}

static void restore(fb_recorder *rec, PyObject *values, const uint32_t *previous, PyObject *error, uint32_t failed) {
  PyObject *summary = summary_of(error);
  for (uint32_t i = 0; i < rec->n_inputs; i++)
    if (rec->inputs[i].cell && rec->inputs[i].cell->epoch == rec->id)
      fb_cell_retype(rec->inputs[i].cell, rec->inputs[i].type);
  for (uint32_t s = 0; s < rec->n_slots; s++) {
    fb_cell *c = rec->owner[s];
    fb_buffer *value = c ? prefix_value(values, previous, s) : NULL;
    uint32_t lost = c ? lost_writes(previous, s, failed) : 0;
    if (c)
      c->version -= lost;
    if (lost && c->unset && !c->shared) { /* not even what was there before */
      fb_buffer_release(c->buffer);
      c->buffer = NULL;
    }
    if (value && fb_buffer_bytes(value) >= c->type->bytes) {
      fb_buffer_retain(value);
      fb_cell_set_value(c, value);
      if (c->type->requires_grad) /* the graph of the prefix is not kept */
        fb_cell_set_history(c, fb_segment_lost(), 0);
    } else if (c && !c->buffer) {
      Py_XSETREF(c->error, Py_XNewRef(summary));
    }
  }
  Py_XDECREF(summary);
  PyErr_Clear();
}

/* Whether the value that storage had at first, before it was written, is a gradient that a backward() made. */
static bool began_as_gradient(const fb_recorder *rec, const uint32_t *previous, uint32_t slot) {
  while (previous[slot] != FB_NO_SLOT)
    slot = previous[slot];
  for (uint32_t i = 0; i < rec->n_backwards; i++) {
    const fb_node *node = rec->backwards[i];
    uint32_t first = node->base + node->n_scalars;
    if (node->kind == FB_BACKWARD && slot >= first && slot < first + node->n_results)
      return true;
  }
  return false;
}

/* Leaves do not keep a gradient that was never computed: where there was none there is none. The journal may put one
 * back that a later backward() had replaced: it knows it by its mark. */
static void drop_gradients(fb_recorder *rec, const uint32_t *previous) {
  for (uint32_t s = 0; previous && rec->n_backwards && s < rec->n_slots; s++)
    if (rec->owner[s] && !rec->owner[s]->buffer)
      rec->owner[s]->lost_gradient = began_as_gradient(rec, previous, s);
  for (uint32_t i = 0; previous && i < rec->n_leaves; i++) {
    fb_leaf *leaf = rec->leaves[i].anchor->leaf;
    const fb_cell *c = leaf && leaf->grad ? ((fb_tensor *)leaf->grad)->cell : NULL;
    if (c && c->home == rec && fb_cell_pending(c) && !c->buffer && began_as_gradient(rec, previous, c->slot))
      fb_undo_note_gradient(rec, leaf);
  }
}

/* ---- what becomes of the trace --------------------------------------------------------------------------- */

/* What a MemoryError of Python's or NumPy's says, as the error that all lack of memory raises. */
static PyObject *as_out_of_memory(PyObject *error) {
  if (PyErr_GivenExceptionMatches((PyObject *)Py_TYPE(error), fb_out_of_memory()))
    return error;
  PyObject *words = PyObject_Str(error);
  if (words && !PyUnicode_GET_LENGTH(words))
    Py_SETREF(words, PyUnicode_FromString("there is no memory left"));
  PyObject *text = words ? PyUnicode_FromFormat("[memory] %U. Free tensors or use smaller ones.", words) : NULL;
  PyObject *made = text ? PyObject_CallOneArg(fb_out_of_memory(), text) : NULL;
  Py_XDECREF(words);
  Py_XDECREF(text);
  if (!made) {
    PyErr_Clear();
    return error;
  }
  Py_DECREF(error);
  return made;
}

/* Of the trace's calls, those that came first and last of all: where they were recorded when they were new, which may
 * have been by other lines than now. */
static PyObject *recorded_lines(const fb_recorder *rec) {
  fb_node **path = fb_trie_path(rec->state);
  const fb_node *first = NULL, *last = NULL;
  for (uint32_t i = 0; path && i < rec->state->depth; i++)
    if (path[i]->file && path[i]->line > 0) {
      first = first ? first : path[i];
      last = path[i];
    }
  PyMem_Free(path);
  if (!first)
    return NULL;
  return PyUnicode_FromFormat("; when it was new it was recorded from %U:%d to %U:%d", first->file, first->line,
                              last->file, last->line);
}

/* The line at which the trace was run, as a note, and where it came from if the error does not name an op's line. */
static void note_lines(const fb_recorder *rec, PyObject *error) {
  PyObject *recorded = PyObject_HasAttrString(error, "__notes__") ? NULL : recorded_lines(rec), *file = NULL;
  int line = fb_user_line(&file);
  PyObject *note = line > 0 ? PyUnicode_FromFormat("run at %U:%d%V", file, line, recorded, "") : NULL;
  Py_XDECREF(note ? PyObject_CallMethod(error, "add_note", "O", note) : NULL);
  Py_XDECREF(note);
  Py_XDECREF(file);
  Py_XDECREF(recorded);
  PyErr_Clear();
}

/* Nobody is to blame: the trace stays, and runs before anything else is recorded. */
static bool stays(fb_recorder *rec, PyObject *error) {
  if (!fb_is_interruption((PyObject *)Py_TYPE(error)))
    return false;
  rec->flush_soon = true;
  PyErr_SetObject((PyObject *)Py_TYPE(error), error);
  Py_DECREF(error);
  return true;
}

void fb_abandon(fb_recorder *rec, const fb_liveness *found) {
  PyObject *error = fetch_error();
  if (stays(rec, error))
    return;
  uint32_t failed = 0, *previous = find_previous(rec);
  PyObject *values = NULL;
  if (!fb_is_out_of_memory((PyObject *)Py_TYPE(error)))
    values = replay(rec, found, previous, &error, &failed);
  if (!stays(rec, error)) {
    if (fb_is_out_of_memory((PyObject *)Py_TYPE(error))) {
      error = as_out_of_memory(error);
      note_lines(rec, error);
    }
    fb_stats.failures++;
    restore(rec, values, previous, error, failed);
    drop_gradients(rec, previous);
    fb_undo_from(rec, failed);
    fb_recorder_reset(rec);
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_DECREF(error);
  }
  Py_XDECREF(values);
  PyMem_Free(previous);
}

/* Drop what was recorded and has not run, because of an error of lacking memory, which is raised. */
PyObject *fb_py_abandon(PyObject *module, PyObject *error) {
  (void)module;
  fb_recorder *rec = fb_recorder_get();
  if (!PyExceptionInstance_Check(error) || !fb_is_out_of_memory((PyObject *)Py_TYPE(error)))
    return PyErr_Format(PyExc_TypeError, "[abandon] expected an OutOfMemory or MemoryError, got %R.", error);
  PyErr_SetObject((PyObject *)Py_TYPE(error), error);
  if (rec->n_slots)
    fb_flush_drop(rec);
  return NULL;
}
