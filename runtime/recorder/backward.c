/* backward() and grad() as one entry each. On a hit no Python runs, neither rules nor per parameter. */
#include "module.h"

/* Of its own, since other threads may change a list. New reference. */
static PyObject *tuple_of(PyObject *sequence, const char *message) {
  PyObject *items = PySequence_Fast(sequence, message), *tuple = items ? PySequence_Tuple(items) : NULL;
  Py_XDECREF(items);
  return tuple;
}

static int compare_slots(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

static int read_freed(fb_node *node, PyObject *freed) {
  PyObject *items = freed ? PySequence_Tuple(freed) : PyTuple_New(0);
  if (!items)
    return -1;
  node->n_aux = (uint32_t)PyTuple_GET_SIZE(items);
  node->aux = PyMem_Calloc(node->n_aux + 1, sizeof *node->aux);
  for (uint32_t i = 0; node->aux && i < node->n_aux; i++)
    node->aux[i] = (uint32_t)PyLong_AsUnsignedLong(PyTuple_GET_ITEM(items, i));
  Py_DECREF(items);
  if (!node->aux)
    return PyErr_NoMemory(), -1;
  qsort(node->aux, node->n_aux, sizeof *node->aux, compare_slots);
  return PyErr_Occurred() ? -1 : 0;
}

/* Results: None or (shape, dtype, requires_grad[, device]). `writes[i]` is the operand that result i replaces, or -1.
 */
static int read_results(fb_result *results, uint32_t n, PyObject *list, const int32_t *writes) {
  PyObject *items = PySequence_Tuple(list);
  if (!items)
    return -1;
  int status = 0;
  if (PyTuple_GET_SIZE(items) != (Py_ssize_t)n) {
    PyErr_Format(PyExc_ValueError, "[backward] the expansion has %zd results for %u places.", PyTuple_GET_SIZE(items),
                 n);
    status = -1;
  }
  for (uint32_t i = 0; status == 0 && i < n; i++) {
    PyObject *item = PyTuple_GET_ITEM(items, i), *shape, *dtype, *device = NULL;
    int requires_grad;
    results[i].write = -1;
    if (item == Py_None)
      continue;
    if (!PyArg_ParseTuple(item, "OOp|U;a gradient is None or (shape, dtype, requires_grad[, device])", &shape, &dtype,
                          &requires_grad, &device) ||
        !(results[i].type = fb_type_intern(shape, dtype, device, requires_grad)))
      status = -1;
    results[i].write = writes[i];
  }
  Py_DECREF(items);
  return status;
}

/* Make the entry from the hook's answer (payload, results[, freed slots[, guards]]), which is consumed. */
static fb_node *learn(fb_call *call, fb_node_kind kind, PyObject *answer, uint32_t n, const int32_t *writes) {
  PyObject *payload, *list, *freed = NULL, *guards = NULL;
  fb_result *results = PyMem_Calloc(n + 1, sizeof *results);
  fb_node *node = NULL;
  uint64_t cost = 0;
  if (!results)
    PyErr_NoMemory();
  else if (!PyTuple_Check(answer))
    PyErr_SetString(PyExc_TypeError, "[backward] the expansion must be a tuple (payload, results[, freed slots]).");
  else if (PyArg_ParseTuple(answer, "OO|OO;(payload, results[, freed slots[, guards]])", &payload, &list, &freed,
                            &guards) &&
           read_results(results, n, list, writes) == 0) {
    cost = fb_trie_cost(payload);
    node = fb_trie_draft(call->rec->state, kind, call->words, call->n, call->rec->n_slots);
  }
  if (node) {
    node->results = results;
    node->n_results = n;
    node->n_scalars = call->n_scalars;
    node->payload = Py_NewRef(payload);
    fb_trie_charge(node, cost);
    int status = read_freed(node, freed == Py_None ? NULL : freed);
    if (status == 0)
      status = fb_node_guard(node, guards);
    if (status < 0) {
      fb_trie_drop(node);
      node = NULL;
    } else {
      node->line = fb_user_line(&node->file);
      fb_stats.misses++;
      fb_explain("miss", node);
      node = fb_trie_publish(node);
    }
  } else {
    PyMem_Free(results);
  }
  Py_DECREF(answer);
  return node;
}

static int advance(fb_call *call, fb_node *node) {
  fb_recorder *rec = call->rec;
  uint32_t end = node->base + node->n_scalars + node->n_results;
  if (fb_recorder_reserve(rec, end) < 0 ||
      fb_grow((void **)&rec->inputs, &rec->cap_inputs, rec->n_inputs + call->n_scalars, sizeof *rec->inputs) < 0 ||
      fb_grow((void **)&rec->backwards, &rec->cap_backwards, rec->n_backwards + 1, sizeof *rec->backwards) < 0)
    return -1;
  if (fb_note_ended(rec, node->aux, node->n_aux, node->base) < 0)
    return -1;
  fb_take_scalars(rec, call->scalars, call->n_scalars, node->base);
  for (uint32_t s = node->base + node->n_scalars; s < end; s++)
    rec->owner[s] = NULL;
  rec->backwards[rec->n_backwards++] = node;
  rec->state = node;
  rec->n_slots = end;
  return 0;
}

/* The trie knows the call, or the hook is asked. The recorder is held. */
static fb_node *find_or_learn(fb_call *call, fb_node_kind kind, uint32_t header, uint32_t flags, uint32_t n,
                              const int32_t *writes, PyObject *(*ask)(fb_call *call, void *context, uint32_t flags),
                              void *context) {
  call->words[0] = header | (uint64_t)call->rec->mode << 20 | (uint64_t)flags << 32;
  fb_node *node = fb_trie_step(call->rec, call->words, call->n);
  if (node) {
    fb_stats.hits++;
    return node;
  }
  fb_recorder *before = fb_subject_set(call->rec);
  int quiet = fb_quiet_begin(); /* what it makes stays, as what ask_program of flush.c does */
  PyObject *answer = ask(call, context, flags);
  fb_quiet_end(quiet);
  fb_subject_set(before);
  return answer ? learn(call, kind, answer, n, writes) : NULL;
}

static int add_output(fb_call *call, PyObject *o) {
  uint64_t word;
  if (!fb_is_tensor(o)) {
    PyErr_Format(PyExc_TypeError, "[backward] expected a Tensor, got %.100s.", Py_TYPE(o)->tp_name);
    return -1;
  }
  const fb_type *type = fb_tensor_get_type((fb_tensor *)o);
  if (!type || !type->requires_grad) {
    if (type)
      PyErr_Format(PyExc_RuntimeError,
                   "[backward] a tensor of shape %R does not require grad and has no gradient history. "
                   "Compute it from tensors that require grad, while gradients are enabled.",
                   type->shape);
    return -1;
  }
  const fb_view *view = ((fb_tensor *)o)->view;
  if (fb_import_history(call->rec, (fb_tensor *)o, &word) < 0)
    return -1;
  if (fb_history_freed(call->rec, fb_word_slot(word)))
    return fb_raise_freed();
  if (fb_call_word(call, word) < 0 || fb_call_note(call, (fb_tensor *)o) < 0)
    return -1;
  return fb_call_starts(call, (fb_tensor *)o, view, word);
}

static int add_gradient(fb_call *call, PyObject *o) {
  if (o == Py_None)
    return fb_call_word(call, FB_TAG_NONE) < 0 ? -1 : fb_call_note(call, NULL);
  if (fb_is_tensor(o))
    return fb_call_tensor(call, (fb_tensor *)o);
  PyErr_Format(PyExc_TypeError, "[backward] a gradient must be a Tensor or None, got %.100s.", Py_TYPE(o)->tp_name);
  return -1;
}

/* ---- backward -------------------------------------------------------------------------------------------- */

/* The entry that says which leaves the loss reaches (indices into the trace's leaves), or which ones were asked for. */
static fb_node *step_reach(fb_recorder *rec, uint64_t loss, PyObject *hint) {
  Py_ssize_t n_hint = hint == Py_None ? 0 : PySequence_Fast_GET_SIZE(hint);
  uint64_t *words = PyMem_Malloc((size_t)(n_hint + 2) * sizeof *words);
  if (!words)
    return (fb_node *)PyErr_NoMemory();
  uint32_t n = 2;
  words[0] = FB_H_REACH | (uint64_t)(hint != Py_None) << 32;
  words[1] = loss;
  for (Py_ssize_t i = 0; i < n_hint; i++) {
    fb_tensor *t = (fb_tensor *)PySequence_Fast_GET_ITEM(hint, i);
    fb_anchor *a = fb_is_tensor((PyObject *)t) && t->leaf ? t->leaf->anchor : NULL;
    fb_place place;
    if (a && fb_anchor_find(rec, a, &place))
      words[n++] = place.history;
  }
  fb_node *node = fb_trie_step(rec, words, n);
  uint8_t *needed = NULL;
  if (!node && (needed = PyMem_Calloc(rec->n_slots + 1, 1))) {
    needed[fb_word_slot(loss)] = 1;
    if (fb_reach(rec->state, needed) == 0 && (node = fb_trie_draft(rec->state, FB_REACH, words, n, rec->n_slots)))
      node->aux = PyMem_Calloc(rec->n_leaves + (size_t)n_hint + 1, sizeof *node->aux);
    for (uint32_t i = 0; node && node->aux && hint == Py_None && i < rec->n_leaves; i++)
      if (needed[rec->leaves[i].slot])
        node->aux[node->n_aux++] = i;
    for (uint32_t i = 2; node && node->aux && i < n; i++)
      node->aux[node->n_aux++] = (uint32_t)words[i];
    PyMem_Free(needed);
    if (node && !node->aux) {
      fb_trie_drop(node);
      node = (fb_node *)PyErr_NoMemory();
    }
    node = node ? fb_trie_publish(node) : NULL;
  }
  PyMem_Free(words);
  if (node)
    rec->state = node;
  return node;
}

static PyObject *ask_backward(fb_call *call, void *context, uint32_t flags) {
  const fb_node *reach = context;
  PyObject *hook = fb_hook(fb_hooks.expand_backward, "expand_backward");
  uint32_t next = call->rec->n_slots, at = 1;
  PyObject *loss = hook ? fb_ref_of_word(call->words[at++], &next) : NULL;
  PyObject *gradient = loss ? fb_ref_of_word(call->words[at++], &next) : NULL;
  PyObject *leaves = gradient ? PyList_New(reach->n_aux) : NULL;
  for (uint32_t i = 0; leaves && i < reach->n_aux; i++) {
    PyObject *grad = fb_ref_of_word(call->words[at++], &next);
    PyObject *item = grad ? Py_BuildValue("(IN)", call->rec->leaves[reach->aux[i]].slot, grad) : NULL;
    if (!item)
      Py_CLEAR(leaves);
    else
      PyList_SET_ITEM(leaves, i, item);
  }
  PyObject *export = leaves ? fb_export(call->rec) : NULL, *answer = NULL;
  if (export)
    answer = PyObject_CallFunction(hook, "OOOOI", export, loss, gradient, leaves, flags);
  Py_XDECREF(loss);
  Py_XDECREF(gradient);
  Py_XDECREF(leaves);
  Py_XDECREF(export);
  return answer;
}

static int store_gradients(fb_call *call, const fb_node *node, const fb_node *reach) {
  fb_recorder *rec = call->rec;
  for (uint32_t i = 0; i < node->n_results; i++) {
    const fb_result *r = &node->results[i];
    uint32_t slot = node->base + node->n_scalars + i;
    if (!r->type)
      continue;
    if (r->write >= 0) {
      uint32_t mode = rec->mode;
      rec->mode &= ~1u; /* what is added has no history; what it is added to keeps its own */
      int status = fb_write_cell(rec, call->operands[r->write], slot, r->type);
      rec->mode = mode;
      if (status < 0)
        return -1;
      continue;
    }
    fb_leaf *leaf = rec->leaves[reach->aux[i]].anchor->leaf;
    if (!leaf) /* nobody can read it any more */
      continue;
    PyObject *grad = fb_capture_grad(leaf, "backward") == 0 ? fb_new_result(rec, slot, r->type) : NULL;
    if (!grad)
      return -1;
    Py_XSETREF(leaf->grad, grad);
  }
  return 0;
}

/* The gradients that leaves have are read, and those with one get a new value for it. */
static int add_held_gradients(fb_call *call, const fb_node *reach, int32_t *writes) {
  for (uint32_t i = 0; i < reach->n_aux; i++) {
    fb_leaf *leaf = call->rec->leaves[reach->aux[i]].anchor->leaf;
    PyObject *grad = leaf && leaf->grad ? leaf->grad : Py_None;
    writes[i] = grad == Py_None ? -1 : (int32_t)call->n_operands;
    if (fb_call_keep(call, grad) < 0 || add_gradient(call, grad) < 0) /* another thread may drop it */
      return -1;
  }
  return 0;
}

/* Whether another thread has replaced or written one of them meanwhile. */
static bool are_disturbed(const fb_call *call, const fb_node *reach, const int32_t *writes) {
  fb_place place;
  for (uint32_t i = 0; i < reach->n_aux; i++) {
    const fb_leaf *leaf = call->rec->leaves[reach->aux[i]].anchor->leaf;
    const PyObject *grad = leaf ? leaf->grad : NULL;
    if (writes[i] < 0 ? grad != NULL : leaf && grad != (PyObject *)call->operands[writes[i]])
      return true;
    const fb_cell *c = writes[i] < 0 ? NULL : call->operands[writes[i]]->cell;
    if (c && !fb_cell_find(call->rec, c, &place) && (!c->shared || fb_cell_owed(c)))
      return true;
  }
  return false;
}

/* The recorder is held. */
static int record_backward(fb_call *call, PyObject *loss, PyObject *gradient, PyObject *hint, uint32_t flags) {
  fb_recorder *rec = call->rec;
  if (fb_imports_refresh(rec) < 0 || add_output(call, loss) < 0 || add_gradient(call, gradient) < 0)
    return -1;
  const fb_node *reach = step_reach(rec, call->words[1], hint);
  int32_t *writes = reach ? PyMem_Calloc(reach->n_aux + 1, sizeof *writes) : NULL;
  if (!writes)
    return reach ? (PyErr_NoMemory(), -1) : -1;
  fb_node *node = NULL;
  if (add_held_gradients(call, reach, writes) == 0)
    node = find_or_learn(call, FB_BACKWARD, FB_H_BACKWARD, flags, reach->n_aux, writes, ask_backward, (void *)reach);
  bool disturbed = node && (call->trace != rec->id || are_disturbed(call, reach, writes));
  int status = !node ? -1 : disturbed ? fb_begin_again(rec) : advance(call, node);
  PyMem_Free(writes);
  return status < 0 ? -1 : store_gradients(call, node, reach);
}

/* Whether the trace ends with as many equal rounds of a loop that accumulates gradients as one trace is to have: the
 * others are then traces like it, whatever their number. */
static bool has_rounds(const fb_recorder *rec) {
  uint32_t n = fb_limits.soft_backwards, last = rec->n_backwards - 1;
  if (rec->n_backwards < n)
    return false;
  for (uint32_t i = 0; i < n; i++) {
    const fb_node *node = rec->backwards[last - i], *later = i ? rec->backwards[last - i + 1] : NULL;
    bool retains = node->words[0] >> 32 & 1;
    if (node->kind != FB_BACKWARD || retains || (later && later->n_results != node->n_results))
      return false;
    if (i > 1 && later->depth - node->depth != rec->state->depth - rec->backwards[last - 1]->depth)
      return false;
  }
  return true;
}

/* A loop that only accumulates gradients repeats itself after each backward(). If it reads its loss in between, every
 * trace would import the one before it, with all that that one has imported. */
static bool ends_round(const fb_recorder *rec) {
  return rec->flush_soon || fb_imports_nest(rec) || (rec->n_backwards > 1 && fb_trace_is_long(rec)) || has_rounds(rec);
}

PyObject *fb_backward(PyObject *module, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"tensor", "gradient", "retain_graph", "leaves_hint", "flags", NULL};
  PyObject *loss, *gradient = Py_None, *hint = Py_None;
  int retain = 0;
  unsigned int flags = 0;
  (void)module;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OpOI:backward", names, &loss, &gradient, &retain, &hint, &flags))
    return NULL;
  PyObject *leaves =
      hint == Py_None ? Py_NewRef(Py_None) : tuple_of(hint, "[backward] inputs must be a sequence of Tensors.");
  fb_recorder *rec = fb_recorder_get();
  if (!leaves || fb_flush_due(rec) < 0)
    return Py_XDECREF(leaves), NULL;
  int status;
  do {
    fb_call call;
    fb_hold hold;
    fb_hold_begin(&hold, rec);
    fb_call_init(&call, rec, NULL, NULL, 0);
    status = record_backward(&call, loss, gradient, leaves, flags << 1 | (uint32_t)retain);
    fb_call_clear(&call);
    fb_hold_end(&hold);
  } while (status < 0 && fb_may_retry(rec));
  Py_DECREF(leaves);
  if (status == 0 && ends_round(rec))
    status = fb_cut(rec);
  return status < 0 ? NULL : Py_NewRef(Py_None);
}

/* ---- grad ------------------------------------------------------------------------------------------------ */

typedef struct {
  uint32_t n_outputs, n_inputs;
} fb_grad_shape;

static PyObject *refs_of(fb_call *call, uint32_t *at, uint32_t n, uint32_t *next) {
  ++*at; /* the list tag */
  PyObject *list = PyList_New(n);
  for (uint32_t i = 0; list && i < n; i++) {
    PyObject *ref = fb_ref_of_word(call->words[(*at)++], next);
    if (!ref)
      Py_CLEAR(list);
    else
      PyList_SET_ITEM(list, i, ref);
  }
  return list;
}

static PyObject *ask_grad(fb_call *call, void *context, uint32_t flags) {
  const fb_grad_shape *shape = context;
  PyObject *hook = fb_hook(fb_hooks.expand_grad, "expand_grad");
  uint32_t next = call->rec->n_slots, at = 1;
  PyObject *outputs = hook ? refs_of(call, &at, shape->n_outputs, &next) : NULL;
  PyObject *gradients = outputs ? refs_of(call, &at, shape->n_outputs, &next) : NULL;
  PyObject *inputs = gradients ? refs_of(call, &at, shape->n_inputs, &next) : NULL;
  PyObject *export = inputs ? fb_export(call->rec) : NULL, *answer = NULL;
  if (export)
    answer = PyObject_CallFunction(hook, "OOOOI", export, outputs, gradients, inputs, flags);
  Py_XDECREF(outputs);
  Py_XDECREF(gradients);
  Py_XDECREF(inputs);
  Py_XDECREF(export);
  return answer;
}

static int add_list(fb_call *call, PyObject *list, int (*add)(fb_call *call, PyObject *o)) {
  if (fb_call_word(call, fb_tag(FB_TAG_LIST, (uint64_t)PySequence_Fast_GET_SIZE(list))) < 0)
    return -1;
  for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(list); i++)
    if (add(call, PySequence_Fast_GET_ITEM(list, i)) < 0)
      return -1;
  return 0;
}

/* For a leaf, the slot of its leaf entry: that is where its gradients meet. */
static int add_input(fb_call *call, PyObject *o) {
  uint64_t word;
  if (!fb_is_tensor(o)) {
    PyErr_Format(PyExc_TypeError, "[grad] inputs must be Tensors, got %.100s.", Py_TYPE(o)->tp_name);
    return -1;
  }
  fb_tensor *t = (fb_tensor *)o;
  if (fb_tensor_is_lost(call->rec, t)) /* nothing leads there any more */
    return fb_call_word(call, FB_TAG_NONE) < 0 ? -1 : fb_call_note(call, NULL);
  const fb_view *view = t->view;
  if (fb_import_history(call->rec, t, &word) < 0)
    return -1;
  fb_place place;
  if (t->leaf && !t->view && fb_anchor_find(call->rec, t->leaf->anchor, &place))
    word = call->rec->leaves[place.history].slot;
  if (fb_call_word(call, word) < 0 || fb_call_note(call, t) < 0)
    return -1;
  return fb_call_starts(call, t, view, word);
}

static PyObject *record_grad(fb_call *call, PyObject *outputs, PyObject *gradients, PyObject *inputs, uint32_t flags) {
  fb_grad_shape shape = {(uint32_t)PySequence_Fast_GET_SIZE(outputs), (uint32_t)PySequence_Fast_GET_SIZE(inputs)};
  if (fb_imports_refresh(call->rec) < 0 || add_list(call, outputs, add_output) < 0 ||
      add_list(call, gradients, add_gradient) < 0 || add_list(call, inputs, add_input) < 0)
    return NULL;
  int32_t *writes = PyMem_Malloc((shape.n_inputs + 1) * sizeof *writes);
  if (!writes)
    return PyErr_NoMemory();
  for (uint32_t i = 0; i < shape.n_inputs; i++)
    writes[i] = -1;
  fb_node *node = find_or_learn(call, FB_GRAD, FB_H_GRAD, flags, shape.n_inputs, writes, ask_grad, &shape);
  if (node && (call->trace != call->rec->id ? fb_begin_again(call->rec) : advance(call, node)) < 0)
    node = NULL;
  PyMem_Free(writes);
  PyObject *results = node ? PyTuple_New(shape.n_inputs) : NULL;
  for (uint32_t i = 0; results && i < shape.n_inputs; i++) {
    const fb_type *type = node->results[i].type;
    PyObject *made = type ? fb_new_result(call->rec, node->base + node->n_scalars + i, type) : Py_NewRef(Py_None);
    if (!made)
      Py_CLEAR(results);
    else
      PyTuple_SET_ITEM(results, i, made);
  }
  return results;
}

PyObject *fb_grad_entry(PyObject *module, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"outputs", "inputs", "grad_outputs", "flags", NULL};
  PyObject *outputs, *inputs, *gradients = Py_None;
  unsigned int flags = 0;
  (void)module;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|OI:grad_entry", names, &outputs, &inputs, &gradients, &flags))
    return NULL;
  PyObject *result = NULL, *out = tuple_of(outputs, "[grad] outputs must be a sequence of Tensors.");
  PyObject *in = out ? tuple_of(inputs, "[grad] inputs must be a sequence of Tensors.") : NULL, *seeds = NULL;
  if (in && gradients == Py_None) {
    PyObject *one = Py_BuildValue("(O)", Py_None);
    seeds = one ? PySequence_Repeat(one, PySequence_Fast_GET_SIZE(out)) : NULL;
    Py_XDECREF(one);
  } else if (in) {
    seeds = tuple_of(gradients, "[grad] grad_outputs must be a sequence of Tensors or None.");
  }
  if (seeds && PySequence_Fast_GET_SIZE(seeds) != PySequence_Fast_GET_SIZE(out)) {
    PyErr_Format(PyExc_ValueError, "[grad] %zd outputs have %zd grad_outputs. Give one, or None, for each.",
                 PySequence_Fast_GET_SIZE(out), PySequence_Fast_GET_SIZE(seeds));
  } else if (seeds && fb_flush_due(fb_recorder_get()) == 0) {
    fb_recorder *rec = fb_recorder_get();
    do {
      fb_call call;
      fb_hold hold;
      fb_hold_begin(&hold, rec);
      fb_call_init(&call, rec, NULL, NULL, 0);
      result = record_grad(&call, out, seeds, in, flags);
      fb_call_clear(&call);
      fb_hold_end(&hold);
    } while (!result && fb_may_retry(rec));
    if (result && ends_round(rec) && fb_cut(rec) < 0)
      Py_CLEAR(result);
  }
  Py_XDECREF(out);
  Py_XDECREF(in);
  Py_XDECREF(seeds);
  return result;
}
