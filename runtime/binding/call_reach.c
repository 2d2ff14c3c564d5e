/* The calls that gradients of a trace pass, from a loss down to the leaves. Next: call_gradients.c. */
#include "call_gradients.h"

#include <string.h>

#define MOST_SLOTS (1L << 28)

bool fb_grow_array(void **items, int32_t *cap, int32_t n, size_t size) {
  if (n <= *cap)
    return true;
  int32_t wanted = n < 32 ? 64 : 2 * n;
  void *grown = PyMem_Realloc(*items, (size_t)wanted * size);
  if (grown == NULL)
    return PyErr_NoMemory(), false;
  *items = grown;
  *cap = wanted;
  return true;
}

fb_place *fb_place_at(fb_call_walk *walk, long slot) {
  if (slot < 0 || slot >= MOST_SLOTS)
    return PyErr_Format(PyExc_ValueError, "[call gradients] %ld is no slot of a trace.", slot), NULL;
  if (slot >= walk->n_places) {
    int32_t before = walk->n_places;
    if (!fb_grow_array((void **)&walk->places, &walk->n_places, (int32_t)slot + 1, sizeof *walk->places))
      return NULL;
    memset(walk->places + before, 0, (size_t)(walk->n_places - before) * sizeof *walk->places);
  }
  return &walk->places[slot];
}

/* ---- what a slot is ---------------------------------------------------------------------------------------- */

/* `table[slot]`, borrowed, or NULL. */
static PyObject *look_up(PyObject *table, long slot) {
  PyObject *key = PyLong_FromLong(slot);
  PyObject *found = key == NULL ? NULL : PyDict_GetItemWithError(table, key);
  Py_XDECREF(key);
  return found;
}

int fb_has_slot(PyObject *set, long slot) {
  if (PySet_GET_SIZE(set) == 0)
    return 0;
  PyObject *key = PyLong_FromLong(slot);
  int found = key == NULL ? -1 : PySet_Contains(set, key);
  Py_XDECREF(key);
  return found;
}

long fb_slot_end(const fb_call_walk *walk, long slot, PyObject *onward) {
  if (PyDict_GET_SIZE(walk->given) == 0 && PyDict_GET_SIZE(onward) == 0)
    return slot;
  for (;;) {
    PyObject *next = look_up(walk->given, slot);
    if (next != NULL)
      slot = PyLong_AsLong(next);
    next = PyErr_Occurred() ? NULL : look_up(onward, slot);
    if (next == NULL)
      return PyErr_Occurred() ? -1 : slot;
    slot = PyLong_AsLong(next);
  }
}

/* ---- calls that are met ------------------------------------------------------------------------------------ */

static int add_slot(fb_call_walk *walk, long base, PyObject *slot) {
  if (!fb_grow_array((void **)&walk->slots, &walk->cap_slots, walk->n_slots + 1, sizeof *walk->slots))
    return -1;
  long number = PyLong_AsLong(slot);
  walk->slots[walk->n_slots++] = base + number;
  return number == -1 && PyErr_Occurred() ? -1 : 0;
}

static int add_slots(fb_call_walk *walk, long base, PyObject *sequence) {
  PyObject *items = PySequence_Fast(sequence, "[call gradients] slots must be a sequence.");
  int status = items == NULL ? -1 : 0;
  for (Py_ssize_t i = 0; status == 0 && i < PySequence_Fast_GET_SIZE(items); i++)
    status = add_slot(walk, base, PySequence_Fast_GET_ITEM(items, i));
  Py_XDECREF(items);
  return status;
}

/* What knows the graph of a call. New reference. */
static PyObject *known_of(const fb_call_walk *walk, PyObject *payload) {
  PyObject *graph = PyObject_GetAttrString(payload, "graph");
  PyObject *key = graph == NULL ? NULL : PyLong_FromVoidPtr(graph);
  PyObject *found = key == NULL ? NULL : Py_XNewRef(PyDict_GetItemWithError(walk->known_graphs, key));
  Py_XDECREF(key);
  if (found != NULL) {
    PyObject *its = PyObject_GetAttrString(found, "graph");
    Py_XDECREF(its);
    if (its != graph)
      Py_CLEAR(found);
  }
  if (graph != NULL && found == NULL && !PyErr_Occurred())
    found = PyObject_CallOneArg(walk->known, graph);
  Py_XDECREF(graph);
  return found;
}

static fb_met_call *new_call(fb_call_walk *walk) {
  if (!fb_grow_array((void **)&walk->calls, &walk->cap_calls, walk->n_calls + 1, sizeof *walk->calls))
    return NULL;
  fb_met_call *met = &walk->calls[walk->n_calls++];
  *met = (fb_met_call){.values = walk->n_slots};
  return met;
}

/* The places of its first values, where their gradients meet, are its operands. */
static int add_operands(fb_call_walk *walk, fb_met_call *met, int32_t n) {
  met->operands = walk->n_slots;
  met->n_operands = n;
  if (!fb_grow_array((void **)&walk->slots, &walk->cap_slots, walk->n_slots + n, sizeof *walk->slots))
    return -1;
  for (int32_t i = 0; i < n; i++) {
    long place = fb_slot_end(walk, walk->slots[met->values + i], walk->links);
    if (place < 0)
      return -1;
    walk->slots[walk->n_slots++] = place;
  }
  return 0;
}

/* `maker` is (entry of the export, base of its slots, place among the entries). */
static int meet_own(fb_call_walk *walk, PyObject *maker) {
  PyObject *entry, *payload, *operands, *results;
  long base, at;
  fb_met_call *met = new_call(walk);
  if (met == NULL || !PyArg_ParseTuple(maker, "Oll;a maker is (entry, base, place)", &entry, &base, &at))
    return -1;
  payload = PyTuple_GET_ITEM(entry, 1), operands = PyTuple_GET_ITEM(entry, 2), results = PyTuple_GET_ITEM(entry, 3);
  met->base = base;
  met->at = at;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(operands); i++) {
    PyObject *operand = PyTuple_GET_ITEM(operands, i);
    if (operand != Py_None && (add_slot(walk, base, PyTuple_GET_ITEM(operand, 0)) < 0 ||
                               add_slots(walk, base, PyTuple_GET_ITEM(operand, 2)) < 0))
      return -1;
  }
  int32_t n = walk->n_slots - met->values;
  met->results = walk->n_slots;
  met->n_results = (int32_t)PyTuple_GET_SIZE(results);
  if (add_slots(walk, base, results) < 0 || add_operands(walk, met, n) < 0)
    return -1;
  met->call = known_of(walk, payload);
  return met->call == NULL ? -1 : 1;
}

/* Calls of an imported trace as one, as `CallHistory.met_within` gives them. */
static int meet_joined(fb_call_walk *walk, long slot, PyObject *joined) {
  PyObject *call, *values;
  int n;
  fb_met_call *met = new_call(walk);
  if (met == NULL || !PyArg_ParseTuple(joined, "OOill;(call, values, operands, place, base)", &call, &values, &n,
                                       &met->at, &met->base))
    return -1;
  met->is_joined = true;
  met->call = Py_NewRef(call);
  if (add_slots(walk, 0, values) < 0)
    return -1;
  PyObject *result = PyLong_FromLong(slot);
  met->results = walk->n_slots;
  met->n_results = 1;
  int status = result == NULL ? -1 : add_slot(walk, 0, result);
  Py_XDECREF(result);
  return status < 0 || add_operands(walk, met, n) < 0 ? -1 : 1;
}

/* Meet the call that makes a slot; 0: none does. */
static int meet(fb_call_walk *walk, long slot) {
  if (walk->has_joined) {
    PyObject *joined = PyObject_CallMethod(walk->history, "met_within", "l", slot);
    int status = joined == NULL ? -1 : joined == Py_None ? 0 : meet_joined(walk, slot, joined);
    Py_XDECREF(joined);
    if (status != 0)
      return status;
  }
  PyObject *maker = look_up(walk->makers, slot);
  return maker != NULL ? meet_own(walk, maker) : PyErr_Occurred() ? -1 : 0;
}

/* ---- calls that are passed --------------------------------------------------------------------------------- */

/* How gradients pass a call whose operands are wanted as these bytes say. New reference. */
static PyObject *passing_of(const fb_call_walk *walk, PyObject *call, PyObject *wanted) {
  PyObject *ways = PyObject_GetAttrString(call, "passings");
  PyObject *found = ways == NULL ? NULL : Py_XNewRef(PyDict_GetItemWithError(ways, wanted));
  Py_XDECREF(ways);
  if (found == NULL && !PyErr_Occurred())
    found = PyObject_CallFunctionObjArgs(walk->find_passing, call, wanted, NULL);
  if (found != NULL && (!PyTuple_Check(found) || PyTuple_GET_SIZE(found) != FB_PASSING_FIELDS)) {
    PyErr_SetString(PyExc_TypeError, "[call gradients] expected a Passing.");
    Py_CLEAR(found);
  }
  return found;
}

/* Gradients pass the calls that this one stands for, too. */
static int go_within(fb_call_walk *walk, const fb_met_call *met, long slot) {
  Py_ssize_t n;
  const int32_t *within = fb_passing_numbers(met->passing, FB_PASSING_WITHIN, &n);
  long base = met->base;
  PyObject *inner = PyTuple_New(n);
  for (Py_ssize_t i = 0; inner != NULL && i < n; i++) {
    PyObject *number = PyLong_FromLong(base + within[i]);
    fb_place *place = number == NULL ? NULL : fb_place_at(walk, base + within[i]);
    if (place == NULL) {
      Py_XDECREF(number);
      Py_CLEAR(inner);
      break;
    }
    place->is_needed = true;
    PyTuple_SET_ITEM(inner, i, number);
  }
  PyObject *done = inner == NULL ? NULL : PyObject_CallMethod(walk->history, "go_within", "llN", base, slot, inner);
  Py_XDECREF(done);
  return done == NULL ? -1 : 0;
}

static int pass_on(fb_call_walk *walk, int32_t number, long result) {
  const fb_met_call *met = &walk->calls[number];
  if (result >= met->n_results)
    return PyErr_SetString(PyExc_ValueError, "[call gradients] a call has fewer results than its graph."), -1;
  long slot = walk->slots[met->results + result];
  fb_place *place = fb_place_at(walk, slot);
  if (place == NULL ||
      !fb_grow_array((void **)&walk->passed, &walk->cap_passed, walk->n_passed + 1, sizeof *walk->passed))
    return -1;
  walk->passed[walk->n_passed++] = number;
  place->is_needed = true;
  place->call = walk->n_passed;
  return met->is_joined ? go_within(walk, met, slot) : 0;
}

/* All that a call depends on was gone through. 0: it hands on the gradients of several results. */
static int pass(fb_call_walk *walk, int32_t number) {
  fb_met_call *met = &walk->calls[number];
  PyObject *wanted = PyBytes_FromStringAndSize(NULL, met->n_operands);
  bool is_any = false;
  for (int32_t i = 0; wanted != NULL && i < met->n_operands; i++) {
    const fb_place *place = fb_place_at(walk, walk->slots[met->operands + i]);
    if (place == NULL)
      Py_CLEAR(wanted);
    else
      is_any |= (PyBytes_AS_STRING(wanted)[i] = (char)place->is_needed);
  }
  if (wanted == NULL || !is_any) {
    Py_XDECREF(wanted);
    return PyErr_Occurred() ? -1 : 1;
  }
  met->passing = passing_of(walk, met->call, wanted);
  Py_DECREF(wanted);
  if (met->passing == NULL)
    return -1;
  long result = PyLong_AsLong(PyTuple_GET_ITEM(met->passing, FB_PASSING_RESULT));
  bool is_alone = PyTuple_GET_ITEM(met->passing, FB_PASSING_IS_ALONE) == Py_True;
  return result >= 0 && pass_on(walk, number, result) < 0 ? -1 : is_alone;
}

typedef struct {
  long slot;
  int32_t call; /* that was met, once what it depends on was pushed; -1: not yet */
} Pending;

static int push(Pending **pending, int32_t *cap, int32_t *n, long slot, int32_t call) {
  if (!fb_grow_array((void **)pending, cap, *n + 1, sizeof **pending))
    return -1;
  (*pending)[(*n)++] = (Pending){slot, call};
  return 0;
}

int fb_reach_calls(fb_call_walk *walk, long root) {
  Pending *pending = NULL;
  int32_t cap = 0, n = 0;
  int status = push(&pending, &cap, &n, root, -1) < 0 ? -1 : 1;
  while (status > 0 && n > 0) {
    Pending top = pending[--n];
    if (top.call >= 0) {
      status = pass(walk, top.call);
      continue;
    }
    const fb_place *place = fb_place_at(walk, top.slot);
    int met = place == NULL ? -1 : place->is_entered ? 0 : meet(walk, top.slot);
    if (met <= 0) {
      status = met < 0 ? -1 : 1;
      continue;
    }
    int32_t number = walk->n_calls - 1;
    const fb_met_call *call = &walk->calls[number];
    for (int32_t i = 0; status > 0 && i < call->n_results; i++) {
      fb_place *result = fb_place_at(walk, walk->slots[call->results + i]);
      if (result == NULL)
        status = -1;
      else
        result->is_entered = true;
    }
    if (status > 0 && push(&pending, &cap, &n, top.slot, number) < 0)
      status = -1;
    for (int32_t i = 0; status > 0 && i < call->n_operands; i++)
      status = push(&pending, &cap, &n, walk->slots[call->operands + i], -1) < 0 ? -1 : 1;
  }
  PyMem_Free(pending);
  return status;
}
