/* Learning a call: the frontend's rule is asked once, and its answer becomes a state of the trie. */
#include "call.h"

static PyObject *tensor_info(const fb_call *call, PyObject *o) {
  fb_tensor *t = (fb_tensor *)o;
  return fb_operand_info(t, fb_enters_as_elements(call->rec, t, call->function->kind == FB_INPLACE));
}

static PyObject *operand_info(fb_call *call, uint32_t i, uint32_t *next) {
  static const char *const kinds[] = {"float", "int", "bool"};
  fb_scalar scalar;
  PyObject *value = call->values[i];
  if (call->function->param[i].kind == FB_P_TENSORS) {
    Py_ssize_t n = PySequence_Fast_GET_SIZE(value);
    PyObject *list = PyList_New(n);
    for (Py_ssize_t j = 0; list && j < n; j++) {
      PyObject *info = tensor_info(call, PySequence_Fast_GET_ITEM(value, j));
      if (!info)
        Py_CLEAR(list);
      else
        PyList_SET_ITEM(list, j, info);
      ++*next;
    }
    return list;
  }
  ++*next;
  if (call->function->param[i].kind == FB_P_STREAM) {
    ++*next;
    return Py_BuildValue("[(ss)(ss)]", "scalar", "int", "scalar", "int");
  }
  if (fb_is_tensor(value))
    return tensor_info(call, value);
  if (value == Py_None)
    return Py_NewRef(Py_None);
  int is_constant = fb_constant(value, &scalar);
  if (is_constant)
    return is_constant < 0 ? NULL
                           : Py_BuildValue("(sO)", "number", PyTuple_GET_ITEM(fb_static_values((uint32_t)scalar.i), 0));
  if (fb_number(value, &scalar) < 0)
    return NULL;
  if (call->function->param[i].kind != FB_P_NUMBER || !call->narrow)
    return Py_BuildValue("(ss)", "scalar", kinds[scalar.kind]);
  return Py_BuildValue("(sN)", "number",
                       scalar.kind == FB_FLOAT  ? PyFloat_FromDouble(scalar.f)
                       : scalar.kind == FB_BOOL ? PyBool_FromLong(scalar.i)
                                                : PyLong_FromLongLong(scalar.i));
}

/* Ask the frontend: (payload, results, writes[, single]), and with symbols (..., guards, views). New reference. */
static PyObject *ask_expand(fb_call *call, const fb_fit *fit) {
  fb_function *f = call->function;
  PyObject *hook = fit ? fb_hook(fb_hooks.expand_sized, "expand_sized") : fb_hook(fb_hooks.expand, "expand");
  PyObject *operands = hook ? PyList_New(0) : NULL;
  uint32_t next = 0;
  for (uint32_t i = 0; operands && i < f->n_params; i++) {
    if (f->param[i].kind >= FB_P_STATIC)
      continue;
    PyObject *info = operand_info(call, i, &next);
    if (!info || PyList_Append(operands, info) < 0)
      Py_CLEAR(operands);
    Py_XDECREF(info);
  }
  if (!operands)
    return NULL;
  PyObject *statics = fb_function_statics(f, call->statics), *answer = NULL;
  if (statics && fit)
    answer = PyObject_CallFunction(hook, "OOOIOOO", (PyObject *)f, operands, statics, call->rec->mode, fit->values,
                                   fit->bases, fit->exprs);
  else if (statics)
    answer = PyObject_CallFunction(hook, "OOOI", (PyObject *)f, operands, statics, call->rec->mode);
  Py_XDECREF(statics);
  Py_DECREF(operands);
  return answer;
}

/* What the rule says of equal operands has been asked before, as a rule, at another place of the trie. */
static PyObject *run_expand(fb_call *call, const fb_fit *fit) {
  if (fb_shadow)
    return ask_expand(call, fit);
  fb_question question;
  PyObject *answer = fb_memo_find(call, fit, &question);
  if (!answer && (answer = ask_expand(call, fit)))
    fb_memo_keep(&question, answer);
  return answer;
}

static int fill_result(fb_call *call, fb_result *r, PyObject *item, PyObject *writes, Py_ssize_t i) {
  PyObject *shape, *dtype, *device = NULL;
  int requires_grad;
  if (!PyArg_ParseTuple(item, "OOp|U;expand: a result is (shape, dtype, requires_grad[, device])", &shape, &dtype,
                        &requires_grad, &device))
    return -1;
  r->type = fb_type_intern(shape, dtype, device, requires_grad);
  r->write = -1;
  if (!r->type)
    return -1;
  if (writes == Py_None || i >= PySequence_Size(writes))
    return 0;
  PyObject *write = PySequence_GetItem(writes, i);
  if (!write)
    return -1;
  r->write = (int32_t)PyLong_AsLong(write);
  Py_DECREF(write);
  if (PyErr_Occurred() || r->write < 0)
    return PyErr_Occurred() ? -1 : 0;
  fb_tensor *t = (uint32_t)r->write < call->n_operands ? call->operands[r->write] : NULL;
  const fb_type *type = fb_type_at(r->type, call->rec->symbols);
  if (type && t && fb_type_with_grad(t->cell->type, false) == fb_type_with_grad(type, false))
    return 0;
  PyErr_Format(PyExc_RuntimeError, "[%U] result %zd of shape %R and dtype %R cannot replace operand %d.",
               call->function->name, i, r->type->shape, r->type->dtype, (int)r->write);
  return -1;
}

typedef struct {
  PyObject *answer, *payload, *guards, *views; /* the last three are borrowed from the first, or NULL */
  fb_result *results;
  uint32_t n;
  int single; /* one bare result is returned */
} fb_expansion;

static void expansion_clear(fb_expansion *e) {
  Py_XDECREF(e->answer);
  PyMem_Free(e->results);
}

static int parse_answer(fb_call *call, fb_expansion *e) {
  PyObject *list, *writes;
  e->single = -1;
  if (!PyTuple_Check(e->answer) ||
      !PyArg_ParseTuple(e->answer, "OOO|iOO!;expand returns (payload, results, writes[, single[, guards, views]])",
                        &e->payload, &list, &writes, &e->single, &e->guards, &PyTuple_Type, &e->views))
    return -1;
  PyObject *items = PySequence_Tuple(list);
  if (!items)
    return -1;
  Py_ssize_t count = PyTuple_GET_SIZE(items);
  e->n = (uint32_t)count;
  e->results = PyMem_Calloc((size_t)count + 1, sizeof *e->results);
  int status = e->results ? 0 : (PyErr_NoMemory(), -1);
  for (Py_ssize_t i = 0; status == 0 && i < count; i++)
    status = fill_result(call, &e->results[i], PyTuple_GET_ITEM(items, i), writes, i);
  Py_DECREF(items);
  if (e->single < 0)
    e->single = count == 1;
  return status;
}

static uint8_t result_flags(const fb_result *results, uint32_t n, bool single) {
  if (n != 1 || !single)
    return FB_COMPLEX;
  return results[0].write < 0 ? 0 : results[0].write == 0 ? FB_OVERWRITE : FB_COMPLEX;
}

static int expand(fb_call *call, const fb_fit *fit, fb_expansion *e) {
  *e = (fb_expansion){.answer = run_expand(call, fit)};
  return e->answer ? parse_answer(call, e) : -1;
}

/* The expansion for all sizes that the fit admits or, where the rule cannot do without values, for those at hand. */
static int expand_fitted(fb_call *call, fb_fit *fit, fb_expansion *e, bool *pinned) {
  *pinned = false;
  if (!fit->sized)
    return expand(call, NULL, e);
  if (expand(call, fit, e) == 0)
    return 0;
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  expansion_clear(e);
  *e = (fb_expansion){0};
  *pinned = true;
  bool asked_too_much = !fb_is_interruption(type) && !fb_is_out_of_memory(type);
  int status = asked_too_much ? expand(call, NULL, e) : 0; /* the user's error, if it is one */
  if (status == 0 && (fb_strict_sizes() || !asked_too_much)) {
    PyErr_Restore(type, value, traceback);
    return -1;
  }
  Py_XDECREF(type);
  Py_XDECREF(value);
  Py_XDECREF(traceback);
  return status;
}

/* Whether what a call became has an op that may fail: a function that has one for some operands says so of all. */
static bool may_fail(const fb_function *f, PyObject *payload) {
  PyObject *found = f->fallible ? PyObject_GetAttrString(payload, "may_fail") : NULL;
  bool may = f->fallible && found != Py_False;
  fb_forget_error();
  Py_XDECREF(found);
  return may;
}

static fb_node *learn(fb_call *call, fb_fit *fit, fb_expansion *e, bool pinned) {
  fb_recorder *rec = call->rec;
  fb_size *draws_size = NULL;
  uint64_t draws = 0, cost = fb_trie_cost(e->payload);
  if (call->stream && fb_stream_draws(e->payload, &draws, &draws_size) < 0)
    return NULL;
  fb_node *node = fb_trie_draft(rec->state, FB_CALL, call->words, call->n, rec->n_slots);
  if (!node) {
    PyMem_Free(draws_size);
    return NULL;
  }
  node->function = (fb_function *)Py_NewRef(call->function);
  node->payload = Py_NewRef(e->payload);
  fb_trie_charge(node, cost);
  node->draws = draws;
  node->results = e->results;
  e->results = NULL;
  node->n_results = e->n;
  node->n_scalars = call->n_scalars;
  node->type = e->n ? node->results[0].type : NULL;
  node->single = e->single;
  node->flags |=
      (may_fail(call->function, e->payload) ? FB_FALLIBLE : 0) | result_flags(node->results, e->n, e->single);
  int status = pinned ? fb_node_pin(node, rec->symbols) : fb_fit_apply(fit, rec, node, e->guards, e->views);
  if (draws_size && node->sized)
    node->sized->draws = draws_size;
  else
    PyMem_Free(draws_size);
  if (status < 0) {
    fb_trie_drop(node);
    return NULL;
  }
  node->line = fb_user_line(&node->file);
  fb_stats.misses++;
  fb_explain("miss", node);
  fb_note_repetition(rec, node);
  return fb_trie_publish(node);
}

/* Whether other threads, let in while the operands were bound, had something forgotten that the words speak of: static
 * arguments, or the view of an operand that shows another now. */
static bool is_forgotten(const fb_call *call) {
  bool found = call->function->n_static && !fb_static_is_there(call->statics);
  for (uint32_t i = 1; !found && i < call->n; i++) {
    uint32_t view = fb_word_view(call->words[i]);
    found = view && !fb_view_is_there(view);
    i += fb_word_slot(call->words[i]) == FB_TAG_NUMBER;
  }
  return found;
}

/* A new state for the call. The recorder is held. */
static fb_node *learn_call(fb_call *call) {
  fb_recorder *rec = call->rec;
  call->again = is_forgotten(call);
  if (call->again)
    return NULL;
  if (call->narrow) {
    int widened = fb_trie_note_number(rec->state, call->function, call->words, call->n);
    call->again = widened > 0;
    if (widened)
      return NULL;
  }
  fb_fit fit;
  fb_expansion e = {0};
  bool pinned;
  fb_node *node = NULL;
  if (fb_fit_make(&fit, rec, FB_CALL, call->function, call->words, call->n) == 0 &&
      expand_fitted(call, &fit, &e, &pinned) == 0)
    node = learn(call, &fit, &e, pinned);
  expansion_clear(&e);
  fb_fit_clear(&fit);
  return node;
}

/* Shadow mode: the rules must say today what they said when the trie learnt it. */
static FB_NOINLINE int check_shadow(fb_call *call, const fb_node *node) {
  fb_expansion e;
  int status = expand(call, NULL, &e);
  bool same = status == 0 && e.n == node->n_results;
  for (uint32_t i = 0; same && i < e.n; i++)
    same = e.results[i].write == node->results[i].write &&
           e.results[i].type == fb_type_at(node->results[i].type, call->rec->symbols);
  if (status == 0 && !same) {
    PyErr_Format(PyExc_RuntimeError, "[%U] shadow check: the rule's results differ from the recorded ones.",
                 call->function->name);
    status = -1;
  }
  expansion_clear(&e);
  return status;
}

/* The state that the call leads to; NULL also where it has to be bound again. The recorder is held. */
fb_node *fb_find_or_learn(fb_call *call) {
  fb_node *node = fb_trie_lookup(call->rec, FB_CALL, call->function, call->words, call->n);
  if (!node)
    return learn_call(call);
  if (FB_UNLIKELY(fb_shadow) && check_shadow(call, node) < 0)
    return NULL;
  fb_stats.hits++;
  return node;
}
