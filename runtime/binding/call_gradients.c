/* Gradients through the calls of a trace, as steps: graphs with the values that they read and make. What equal calls
 * have in common is looked up; Python is asked for what is met for the first time and what imported traces have. Next:
 * call_reach.c, frontend/call_gradients.py. */
#include "call_gradients.h"

#include <stdlib.h>

/* ---- steps ------------------------------------------------------------------------------------------------- */

/* The numbers that a step with results of these types gives them. New reference. */
static PyObject *number_results(fb_call_walk *walk, PyObject *avals) {
  long first = -(long)PyList_GET_SIZE(walk->avals) - 1;
  PyObject *results = PyTuple_New(PyTuple_GET_SIZE(avals));
  for (Py_ssize_t i = 0; results != NULL && i < PyTuple_GET_SIZE(avals); i++) {
    PyObject *number = PyLong_FromLong(first - (long)i);
    if (number == NULL || PyList_Append(walk->avals, PyTuple_GET_ITEM(avals, i)) < 0) {
      Py_XDECREF(number);
      Py_CLEAR(results);
    } else {
      PyTuple_SET_ITEM(results, i, number);
    }
  }
  return results;
}

/* Add a step; `operands` is consumed. Its first result, or 0 and an exception. */
static long add_step(fb_call_walk *walk, PyObject *graph, PyObject *operands, PyObject *avals) {
  long first = -(long)PyList_GET_SIZE(walk->avals) - 1;
  PyObject *results = operands == NULL ? NULL : number_results(walk, avals);
  PyObject *step = results == NULL ? NULL : PyTuple_Pack(3, graph, operands, results);
  int status = step == NULL ? -1 : PyList_Append(walk->steps, step);
  Py_XDECREF(step);
  Py_XDECREF(results);
  Py_XDECREF(operands);
  return status < 0 ? 0 : first;
}

/* What a method of the walk gives for two numbers: 1, 0 (None), or -1 and an exception. */
static int ask(const fb_call_walk *walk, const char *method, long first, long second, long *answer) {
  PyObject *found = PyObject_CallMethod(walk->walk, method, "ll", first, second);
  int status = found == NULL ? -1 : found != Py_None;
  *answer = status > 0 ? PyLong_AsLong(found) : 0;
  Py_XDECREF(found);
  return PyErr_Occurred() ? -1 : status;
}

/* The value of a slot that the call in this place read. 0: it is not there any more. */
static int value_of(const fb_call_walk *walk, long slot, long at, long *value) {
  long data = fb_slot_end(walk, slot, walk->data);
  if (data < 0)
    return -1;
  int is_own = PyDict_GET_SIZE(walk->overwritten) == 0 ? fb_has_slot(walk->own, data) : 0;
  *value = data;
  return is_own != 0 ? is_own : ask(walk, "value", slot, at, value);
}

/* ---- the order of ops -------------------------------------------------------------------------------------- */

/* Where the order of the ops of each passed call begins. */
static int lay_out_order(fb_call_walk *walk) {
  for (int32_t i = 0; i < walk->n_passed; i++) {
    fb_met_call *met = &walk->calls[walk->passed[i]];
    met->order = walk->n_order;
    walk->n_order += (int32_t)PyLong_AsLong(PyTuple_GET_ITEM(met->passing, FB_PASSING_N_OPS));
  }
  walk->order = PyMem_Calloc((size_t)walk->n_order + 1, sizeof *walk->order);
  return walk->order == NULL ? (PyErr_NoMemory(), -1) : 0;
}

typedef struct {
  int32_t call, at; /* among those passed, and in what is met of it */
} Entered;

/* The passed call that an operand goes on to, which nobody has entered so far; it is entered now. -1: none. */
static int32_t enter_operand(fb_call_walk *walk, const fb_met_call *met, int32_t operand, char *entered) {
  int32_t below = walk->places[walk->slots[met->operands + operand]].call - 1;
  if (below < 0 || entered[below])
    return -1;
  entered[below] = 1;
  return below;
}

/* The ops of the calls in the order of `autodiff.depth_first`, from the last passed call down. */
static int find_order(fb_call_walk *walk, int32_t root) {
  if (lay_out_order(walk) < 0)
    return -1;
  if (root < 0) /* a leaf */
    return 0;
  Entered *pending = PyMem_Malloc((size_t)(walk->n_passed + 1) * sizeof *pending);
  char *entered = PyMem_Calloc((size_t)walk->n_passed + 1, 1);
  int status = pending == NULL || entered == NULL ? (PyErr_NoMemory(), -1) : 0;
  int32_t n = 0, count = 0;
  if (status == 0) {
    pending[n++] = (Entered){root, 0};
    entered[root] = 1;
  }
  while (status == 0 && n > 0) {
    Entered *top = &pending[n - 1];
    const fb_met_call *met = &walk->calls[walk->passed[top->call]];
    Py_ssize_t n_met;
    const int32_t *order = fb_passing_numbers(met->passing, FB_PASSING_MET, &n_met);
    int32_t below = -1;
    while (below < 0 && top->at < n_met) {
      int32_t k = order[top->at++];
      if (k < 0)
        walk->order[met->order - 1 - k] = count++;
      else
        below = enter_operand(walk, met, k, entered);
    }
    if (below >= 0)
      pending[n++] = (Entered){below, 0};
    else
      n--;
  }
  PyMem_Free(pending);
  PyMem_Free(entered);
  return status;
}

/* ---- cotangents -------------------------------------------------------------------------------------------- */

static int add_term(fb_call_walk *walk, long slot, fb_term term) {
  fb_place *place = fb_place_at(walk, slot);
  if (place == NULL || !fb_grow_array((void **)&walk->terms, &walk->cap_terms, walk->n_terms + 1, sizeof *walk->terms))
    return -1;
  term.next = place->terms;
  place->terms = walk->n_terms;
  place->n_terms++;
  walk->terms[walk->n_terms++] = term;
  return 0;
}

/* The seed first, then from the last op back, and an op's operands from left to right. */
static int compare_terms(const void *a, const void *b) {
  const fb_term *x = a, *y = b;
  if (x->order != y->order)
    return x->order > y->order ? -1 : 1;
  return (x->place > y->place) - (x->place < y->place);
}

static int sort_terms(fb_call_walk *walk, fb_term *terms, int32_t n, int32_t root) {
  if (walk->order == NULL && find_order(walk, root) < 0)
    return -1;
  for (int32_t i = 0; i < n; i++)
    if (terms[i].call >= 0)
      terms[i].order = walk->order[walk->calls[walk->passed[terms[i].call]].order + terms[i].node];
    else
      terms[i].order = INT64_MAX;
  qsort(terms, (size_t)n, sizeof *terms, compare_terms);
  return 0;
}

/* The sum of the terms that there are for a slot, all of whose readers have been gone through. 0: there are none. */
static int cotangent_of(fb_call_walk *walk, long slot, int32_t root, long *sum) {
  const fb_place *place = fb_place_at(walk, slot);
  if (place == NULL || place->n_terms == 0)
    return place == NULL ? -1 : 0;
  int32_t n = place->n_terms, at = place->terms;
  fb_term few[8], *terms = n <= 8 ? few : PyMem_Malloc((size_t)n * sizeof *terms);
  if (terms == NULL)
    return PyErr_NoMemory(), -1;
  for (int32_t i = n; i-- > 0; at = terms[i].next)
    terms[i] = walk->terms[at];
  int status = n > 2 ? sort_terms(walk, terms, n, root) : 0; /* two can be added in any order */
  *sum = terms[0].value;
  for (int32_t i = 1; status == 0 && i < n; i++)
    status = ask(walk, "added", *sum, terms[i].value, sum) > 0 ? 0 : -1;
  if (terms != few)
    PyMem_Free(terms);
  return status < 0 ? -1 : 1;
}

/* ---- going back -------------------------------------------------------------------------------------------- */

/* Whether the history of what a call stands for is still there. */
static int is_alive(fb_call_walk *walk, const fb_met_call *met, long slot) {
  Py_ssize_t n;
  const int32_t *within = fb_passing_numbers(met->passing, FB_PASSING_WITHIN, &n);
  int is_freed = fb_has_slot(walk->freed, slot);
  for (Py_ssize_t i = 0; is_freed == 0 && i < n; i++) {
    walk->places[met->base + within[i]].is_passed = true;
    is_freed = fb_has_slot(walk->freed, met->base + within[i]);
  }
  walk->n_joined += n > 0 ? n - 1 : 0;
  return is_freed < 0 ? -1 : !is_freed;
}

/* The cotangent and the values that a derivative reads. 0: one is not there any more. */
static int read_values(fb_call_walk *walk, const fb_met_call *met, long ct, PyObject **found) {
  Py_ssize_t n;
  const int32_t *reads = fb_passing_numbers(met->passing, FB_PASSING_READS, &n);
  PyObject *values = PyTuple_New(n + 1);
  int status = values == NULL ? -1 : 1;
  for (Py_ssize_t i = 0; status > 0 && i <= n; i++) {
    long value = ct;
    if (i > 0)
      status = value_of(walk, walk->slots[met->values + reads[i - 1]], met->at, &value);
    PyObject *number = status > 0 ? PyLong_FromLong(value) : NULL;
    if (number != NULL)
      PyTuple_SET_ITEM(values, i, number);
    else if (status > 0)
      status = -1;
  }
  if (status <= 0)
    Py_CLEAR(values);
  *found = values;
  return status;
}

static int give_terms(fb_call_walk *walk, int32_t number, const fb_met_call *met, long ct, long first) {
  Py_ssize_t n;
  const int32_t *numbers = fb_passing_numbers(met->passing, FB_PASSING_PASSED, &n);
  for (Py_ssize_t i = 0; i < n; i++) {
    fb_place *place = fb_place_at(walk, walk->slots[met->operands + numbers[i]]);
    if (place == NULL)
      return -1;
    place->is_passed = true;
  }
  numbers = fb_passing_numbers(met->passing, FB_PASSING_TERMS, &n);
  const fb_passing_term *terms = (const fb_passing_term *)(const void *)numbers;
  int status = 0;
  for (Py_ssize_t i = 0; status == 0 && i < n * (Py_ssize_t)sizeof *numbers / (Py_ssize_t)sizeof *terms; i++) {
    fb_term term = {.call = number, .node = terms[i].node, .place = terms[i].place};
    term.value = terms[i].output < 0 ? ct : first - terms[i].output;
    status = add_term(walk, walk->slots[met->operands + terms[i].operand], term);
  }
  return status;
}

/* 0: it may not run by itself, or what it reads is not there any more. */
static int go_back(fb_call_walk *walk, int32_t number, int32_t root) {
  const fb_met_call *met = &walk->calls[walk->passed[number]];
  long slot = walk->slots[met->results + PyLong_AsLong(PyTuple_GET_ITEM(met->passing, FB_PASSING_RESULT))], ct,
       first = 0;
  const fb_place *place = fb_place_at(walk, slot);
  if (place == NULL || place->n_terms == 0)
    return place == NULL ? -1 : 1;
  PyObject *graph = PyTuple_GET_ITEM(met->passing, FB_PASSING_GRAPH), *values = NULL;
  PyObject *avals = PyTuple_GET_ITEM(met->passing, FB_PASSING_AVALS);
  if (graph == Py_None)
    return 0;
  int status = is_alive(walk, met, slot);
  if (status > 0)
    status = cotangent_of(walk, slot, root, &ct);
  if (status > 0)
    status = read_values(walk, met, ct, &values);
  if (status <= 0)
    return status;
  if (PyTuple_GET_SIZE(avals) == 0)
    Py_DECREF(values);
  else if ((first = add_step(walk, graph, values, avals)) == 0)
    return -1;
  walk->cost += PyLong_AsLongLong(PyTuple_GET_ITEM(met->passing, FB_PASSING_COST));
  return PyErr_Occurred() || give_terms(walk, number, met, ct, first) < 0 ? -1 : 1;
}

/* From the root, whose cotangent is the walk's `seed()`. */
static int go_all_the_way(fb_call_walk *walk, long slot) {
  fb_place *place = fb_place_at(walk, slot);
  if (place == NULL || !place->is_needed)
    return place == NULL ? -1 : 1;
  place->is_passed = true;
  int32_t root = place->call - 1;
  PyObject *seed = PyObject_CallMethod(walk->walk, "seed", NULL);
  long value = seed == NULL ? -1 : PyLong_AsLong(seed);
  Py_XDECREF(seed);
  int status = PyErr_Occurred() || add_term(walk, slot, (fb_term){.call = -1, .value = value}) < 0 ? -1 : 1;
  for (int32_t i = walk->n_passed; status > 0 && i-- > 0;)
    status = go_back(walk, i, root);
  return status;
}

/* ---- from Python ------------------------------------------------------------------------------------------- */

static int read_leaves(fb_call_walk *walk, PyObject *leaves) {
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(leaves); i++) {
    long slot = PyLong_AsLong(PyTuple_GET_ITEM(leaves, i));
    fb_place *place = slot == -1 && PyErr_Occurred() ? NULL : fb_place_at(walk, slot);
    if (place == NULL)
      return -1;
    place->is_leaf = place->is_needed = true;
  }
  return 0;
}

static PyObject *cotangents(fb_call_walk *walk, PyObject *leaves, int32_t root) {
  PyObject *list = PyList_New(PyTuple_GET_SIZE(leaves));
  for (Py_ssize_t i = 0; list != NULL && i < PyList_GET_SIZE(list); i++) {
    long value;
    int status = cotangent_of(walk, PyLong_AsLong(PyTuple_GET_ITEM(leaves, i)), root, &value);
    PyObject *found = status > 0 ? PyLong_FromLong(value) : status == 0 ? Py_NewRef(Py_None) : NULL;
    if (found == NULL)
      Py_CLEAR(list);
    else
      PyList_SET_ITEM(list, i, found);
  }
  return list;
}

/* The slots whose history gradients have passed, in order. */
static PyObject *ended(const fb_call_walk *walk) {
  PyObject *list = PyList_New(0);
  for (int32_t i = 0; list != NULL && i < walk->n_places; i++) {
    const fb_place *place = &walk->places[i];
    if (!place->is_passed || !place->is_needed || place->is_leaf)
      continue;
    PyObject *slot = PyLong_FromLong(i);
    if (slot == NULL || PyList_Append(list, slot) < 0)
      Py_CLEAR(list);
    Py_XDECREF(slot);
  }
  PyObject *slots = list == NULL ? NULL : PyList_AsTuple(list);
  Py_XDECREF(list);
  return slots;
}

static PyObject *pass_back(fb_call_walk *walk, long slot, PyObject *leaves) {
  int status = read_leaves(walk, leaves) < 0 ? -1 : fb_reach_calls(walk, slot);
  if (status > 0 && !walk->has_joined)
    status = go_all_the_way(walk, slot);
  else if (status > 0) {
    PyObject *meets = PyObject_GetAttrString(walk->history, "meets");
    int is_met = meets == NULL ? -1 : PyObject_IsTrue(meets);
    Py_XDECREF(meets);
    status = is_met != 0 ? (is_met < 0 ? -1 : 0) : go_all_the_way(walk, slot);
  }
  if (status <= 0)
    return status < 0 ? NULL : Py_NewRef(Py_None);
  int32_t root = slot < walk->n_places ? walk->places[slot].call - 1 : -1;
  PyObject *found = cotangents(walk, leaves, root), *slots = found == NULL ? NULL : ended(walk);
  if (slots == NULL) {
    Py_XDECREF(found);
    return NULL;
  }
  return Py_BuildValue("(NNLL)", found, slots, (long long)walk->cost, (long long)walk->n_joined);
}

typedef struct {
  const char *name;
  PyObject **field;
  PyTypeObject *type;
} Attribute;

static int take_attributes(PyObject *owner, const Attribute *wanted, size_t n) {
  for (size_t i = 0; i < n; i++) {
    *wanted[i].field = PyObject_GetAttrString(owner, wanted[i].name);
    if (*wanted[i].field == NULL)
      return -1;
    if (!PyObject_TypeCheck(*wanted[i].field, wanted[i].type))
      return PyErr_Format(PyExc_TypeError, "[call gradients] %s is no %s.", wanted[i].name, wanted[i].type->tp_name),
             -1;
  }
  return 0;
}

PyObject *fb_pass_back(PyObject *module, PyObject *args) {
  (void)module;
  fb_call_walk walk = {0};
  PyObject *leaves, *answer = NULL;
  long slot;
  if (!PyArg_ParseTuple(args, "OOlO!O!OO:pass_back", &walk.history, &walk.walk, &slot, &PyTuple_Type, &leaves,
                        &PyDict_Type, &walk.known_graphs, &walk.known, &walk.find_passing))
    return NULL;
  Attribute of_history[] = {
      {"makers", &walk.makers, &PyDict_Type}, {"given", &walk.given, &PyDict_Type},
      {"data", &walk.data, &PyDict_Type},     {"links", &walk.links, &PyDict_Type},
      {"freed", &walk.freed, &PySet_Type},    {"overwritten", &walk.overwritten, &PyDict_Type},
      {"own", &walk.own, &PySet_Type},
  };
  Attribute of_walk[] = {{"steps", &walk.steps, &PyList_Type}, {"avals", &walk.avals, &PyList_Type}};
  PyObject *joined = PyObject_GetAttrString(walk.history, "joined");
  int has_joined = joined == NULL ? -1 : PyObject_IsTrue(joined);
  Py_XDECREF(joined);
  walk.has_joined = has_joined > 0;
  const size_t n_history = sizeof of_history / sizeof *of_history, n_walk = sizeof of_walk / sizeof *of_walk;
  if (has_joined >= 0 && take_attributes(walk.history, of_history, n_history) == 0 &&
      take_attributes(walk.walk, of_walk, n_walk) == 0)
    answer = pass_back(&walk, slot, leaves);
  for (size_t i = 0; i < n_history; i++)
    Py_XDECREF(*of_history[i].field);
  for (size_t i = 0; i < n_walk; i++)
    Py_XDECREF(*of_walk[i].field);
  for (int32_t i = 0; i < walk.n_calls; i++) {
    Py_XDECREF(walk.calls[i].call);
    Py_XDECREF(walk.calls[i].passing);
  }
  PyMem_Free(walk.places);
  PyMem_Free(walk.calls);
  PyMem_Free(walk.terms);
  PyMem_Free(walk.slots);
  PyMem_Free(walk.passed);
  PyMem_Free(walk.order);
  return answer;
}
