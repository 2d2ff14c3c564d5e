/* After a failed run: existing cells get the values of the prefix before the failing op, later results keep the error.
 */
#include "recorder.h"

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

/* (class, args), without the traceback and the frames behind it. */
static PyObject *summary_of(PyObject *error) {
  PyObject *args = PyObject_GetAttrString(error, "args");
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
  if (inputs)
    answer = PyObject_CallFunctionObjArgs(fb_hooks.replay, export, slots, inputs, error, NULL);
  Py_XDECREF(export);
  Py_XDECREF(inputs);
  if (answer &&
      (!PyTuple_Check(answer) || PyTuple_GET_SIZE(answer) != 2 || !PyDict_Check(PyTuple_GET_ITEM(answer, 0)) ||
       !PyExceptionInstance_Check(PyTuple_GET_ITEM(answer, 1)))) {
    PyErr_SetString(PyExc_TypeError, "[flush] replay must return ({slot: Buffer}, exception).");
    Py_CLEAR(answer);
  }
  return answer;
}

/* Values of the prefix: a dict from slots to Buffers, or NULL. *error is replaced by the one to raise. */
static PyObject *replay(fb_recorder *rec, const fb_liveness *found, const uint32_t *previous, PyObject **error) {
  if (!fb_hooks.replay || !previous)
    return NULL;
  PyObject *slots = wanted_slots(rec, found, previous), *answer = slots ? ask_replay(rec, slots, *error) : NULL;
  Py_XDECREF(slots);
  PyObject *values = answer ? Py_NewRef(PyTuple_GET_ITEM(answer, 0)) : NULL;
  PyObject *replaced = answer ? Py_NewRef(PyTuple_GET_ITEM(answer, 1)) : fetch_error();
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

static void restore(fb_recorder *rec, PyObject *values, const uint32_t *previous, PyObject *error) {
  PyObject *summary = summary_of(error);
  for (uint32_t i = 0; i < rec->n_inputs; i++)
    if (rec->inputs[i].cell)
      rec->inputs[i].cell->type = rec->inputs[i].type;
  for (uint32_t s = 0; s < rec->n_slots; s++) {
    fb_cell *c = rec->owner[s];
    fb_buffer *value = c ? prefix_value(values, previous, s) : NULL;
    if (value && fb_buffer_bytes(value) >= c->type->bytes) {
      fb_buffer_retain(value);
      fb_cell_set_value(c, value);
      if (c->type->requires_grad) /* the graph of the prefix is not kept */
        fb_cell_set_history(c, fb_segment_freed(), 0);
    } else if (c && !c->buffer) {
      Py_XSETREF(c->error, Py_XNewRef(summary));
    }
  }
  Py_XDECREF(summary);
  PyErr_Clear();
}

void fb_abandon(fb_recorder *rec, const fb_liveness *found) {
  PyObject *error = fetch_error();
  if (fb_is_interruption((PyObject *)Py_TYPE(error))) { /* the trace stays pending: the next observation tries again */
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_DECREF(error);
    return;
  }
  fb_stats.failures++;
  uint32_t *previous = find_previous(rec);
  PyObject *values = replay(rec, found, previous, &error);
  restore(rec, values, previous, error);
  Py_XDECREF(values);
  PyMem_Free(previous);
  fb_recorder_reset(rec);
  PyErr_SetObject((PyObject *)Py_TYPE(error), error);
  Py_DECREF(error);
}
