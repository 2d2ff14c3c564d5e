/* Recording: operands become words of a key, a step in the trie, and results new slots. */
#include "recorder.h"

/* ---- the call being bound -------------------------------------------------------------------------------- */

void fb_call_restart(fb_call *call) {
  call->n = 1;
  call->n_scalars = call->n_operands = 0;
  call->narrow = call->widened = false;
}

void fb_call_init(fb_call *call, fb_recorder *rec, fb_function *f, PyObject *const *values, uint32_t statics) {
  call->rec = rec;
  call->function = f;
  call->words = call->words_;
  call->scalars = call->scalars_;
  call->operands = call->operands_;
  call->cap = call->cap_scalars = call->cap_operands = FB_INLINE_WORDS;
  call->values = values;
  call->statics = statics;
  call->stream = NULL;
  fb_call_restart(call);
}

void fb_call_clear(fb_call *call) {
  if (call->words != call->words_)
    PyMem_Free(call->words);
  if (call->scalars != call->scalars_)
    PyMem_Free(call->scalars);
  if (call->operands != call->operands_)
    PyMem_Free(call->operands);
}

static FB_NOINLINE int spill(void **array, const void *inline_array, uint32_t *cap, size_t item) {
  void *grown = PyMem_Malloc(*cap * 2 * item);
  if (!grown) {
    PyErr_NoMemory();
    return -1;
  }
  memcpy(grown, *array, *cap * item);
  if (*array != inline_array)
    PyMem_Free(*array);
  *array = grown;
  *cap *= 2;
  return 0;
}

int fb_call_word(fb_call *call, uint64_t word) {
  if (FB_UNLIKELY(call->n == call->cap) && spill((void **)&call->words, call->words_, &call->cap, sizeof word) < 0)
    return -1;
  call->words[call->n++] = word;
  return 0;
}

int fb_call_scalar(fb_call *call, fb_scalar scalar) {
  if (FB_UNLIKELY(call->n_scalars == call->cap_scalars) &&
      spill((void **)&call->scalars, call->scalars_, &call->cap_scalars, sizeof scalar) < 0)
    return -1;
  call->scalars[call->n_scalars++] = scalar;
  return 0;
}

int fb_call_note(fb_call *call, fb_tensor *t) {
  if (FB_UNLIKELY(call->n_operands == call->cap_operands) &&
      spill((void **)&call->operands, call->operands_, &call->cap_operands, sizeof t) < 0)
    return -1;
  call->operands[call->n_operands++] = t;
  return 0;
}

int fb_number(PyObject *o, fb_scalar *out) {
  if (PyFloat_Check(o)) {
    *out = (fb_scalar){.kind = FB_FLOAT, .f = PyFloat_AS_DOUBLE(o)};
    return 1;
  }
  if (PyBool_Check(o)) {
    *out = (fb_scalar){.kind = FB_BOOL, .i = o == Py_True};
    return 1;
  }
  if (PyLong_Check(o)) {
    *out = (fb_scalar){.kind = FB_INT, .i = PyLong_AsLongLong(o)};
    return out->i == -1 && PyErr_Occurred() ? -1 : 1;
  }
  PyNumberMethods *methods = Py_TYPE(o)->tp_as_number;
  if (!methods || PySequence_Check(o) || fb_is_tensor(o) || (!methods->nb_index && !methods->nb_float))
    return 0;
  PyObject *number = methods->nb_index ? PyNumber_Index(o) : PyNumber_Float(o);
  if (!number)
    return -1;
  int found = fb_number(number, out);
  Py_DECREF(number);
  return found;
}

/* ---- results --------------------------------------------------------------------------------------------- */

PyObject *fb_new_result(fb_recorder *rec, uint32_t slot, const fb_type *type) {
  if (FB_UNLIKELY(type->symbolic) && !(type = fb_type_at(type, rec->symbols)))
    return NULL;
  fb_cell *c = fb_cell_new(type);
  if (FB_UNLIKELY(!c))
    return NULL;
  c->epoch = rec->id;
  c->home = rec;
  c->slot = c->use = slot;
  rec->owner[slot] = c;
  return fb_tensor_new(c, NULL);
}

void fb_take_scalars(fb_recorder *rec, const fb_scalar *scalars, uint32_t n, uint32_t base) {
  for (uint32_t i = 0; i < n; i++) {
    rec->owner[base + i] = NULL;
    rec->inputs[rec->n_inputs++] = (fb_trace_input){.slot = base + i, .kind = scalars[i].kind, .i = scalars[i].i};
  }
}

int fb_write_cell(fb_recorder *rec, fb_tensor *t, uint32_t slot, const fb_type *type) {
  fb_cell *c = t->cell;
  bool differentiable = rec->mode & 1 && !(t->view && t->view->detached);
  if (FB_UNLIKELY(rec->capture != NULL) && fb_capture_write(rec, t) < 0)
    return -1;
  if (c->epoch != rec->id) { /* a shared cell: only snapshots of it are in the trace */
    c->epoch = rec->id;
    c->home = rec;
    c->slot = c->use = c->input = FB_NO_SLOT;
    rec->flush_soon = true;
  }
  if (FB_UNLIKELY(c->segment != NULL) && fb_segment_note_write(rec, c->segment, c->segment_slot, slot) < 0)
    return -1;
  if (t->leaf) {
    if (FB_UNLIKELY(fb_undo_note_write(rec, t->leaf->anchor, slot) < 0))
      return -1;
    t->leaf->anchor->writes++;
    rec->new_leaves = true;
  }
  if (c->slot != FB_NO_SLOT && rec->owner[c->slot] == c)
    rec->owner[c->slot] = NULL;
  if (!differentiable && c->type->requires_grad) {
    if (c->use != FB_NO_SLOT)
      c->history = c->use;
    c->use = FB_NO_SLOT;
  } else {
    fb_type *mine = fb_type_with_grad(c->type, differentiable && type->requires_grad);
    if (!mine)
      return -1;
    c->type = mine;
    c->use = slot;
  }
  c->slot = slot;
  c->version++;
  rec->owner[slot] = c;
  return 0;
}

static PyObject *collect_results(fb_call *call, const fb_node *node, uint32_t first) {
  fb_recorder *rec = call->rec;
  uint32_t n_new = 0, made = 0;
  for (uint32_t i = 0; i < node->n_results; i++)
    n_new += node->results[i].write < 0;
  PyObject *results = PyTuple_New(n_new);
  for (uint32_t i = 0; i < node->n_results; i++)
    rec->owner[first + i] = NULL;
  for (uint32_t i = 0; results && i < node->n_results; i++) {
    const fb_result *r = &node->results[i];
    if (r->write >= 0) {
      if (fb_write_cell(rec, call->operands[r->write], first + i, r->type) < 0)
        Py_CLEAR(results);
      continue;
    }
    PyObject *made_now = fb_new_result(rec, first + i, r->type);
    if (!made_now)
      Py_CLEAR(results);
    else
      PyTuple_SET_ITEM(results, made++, made_now);
  }
  if (!results || (n_new && !node->single))
    return results;
  PyObject *result = Py_None;
  if (n_new)
    result = PyTuple_GET_ITEM(results, 0);
  else if (call->function->n_params && fb_is_tensor(call->values[0]))
    result = call->values[0];
  Py_INCREF(result);
  Py_DECREF(results);
  return result;
}

/* ---- misses ---------------------------------------------------------------------------------------------- */

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
static PyObject *run_expand(fb_call *call, const fb_fit *fit) {
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
  uint64_t id = call->rec->id;
  fb_node *state = call->rec->state;
  if (statics && fit)
    answer = PyObject_CallFunction(hook, "OOOIOOO", (PyObject *)f, operands, statics, call->rec->mode, fit->values,
                                   fit->bases, fit->exprs);
  else if (statics)
    answer = PyObject_CallFunction(hook, "OOOI", (PyObject *)f, operands, statics, call->rec->mode);
  Py_XDECREF(statics);
  Py_DECREF(operands);
  if (answer && (call->rec->id != id || call->rec->state != state)) {
    Py_CLEAR(answer);
    PyErr_Format(PyExc_RuntimeError, "[%U] its rule recorded or flushed. Rules work on Values only.", f->name);
  }
  return answer;
}

static int fill_result(fb_call *call, fb_result *r, PyObject *item, PyObject *writes, Py_ssize_t i) {
  PyObject *shape, *dtype;
  int requires_grad;
  if (!PyArg_ParseTuple(item, "OOp;expand: a result is (shape, dtype, requires_grad)", &shape, &dtype, &requires_grad))
    return -1;
  r->type = fb_type_intern(shape, dtype, requires_grad);
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

static fb_node *learn(fb_call *call, fb_fit *fit, fb_expansion *e, bool pinned) {
  fb_recorder *rec = call->rec;
  fb_size *draws_size = NULL;
  uint64_t draws = 0, cost = fb_trie_cost(e->payload);
  if (call->stream && fb_stream_draws(e->payload, &draws, &draws_size) < 0)
    return NULL;
  fb_node *node = fb_trie_add(rec->state, FB_CALL, call->words, call->n, rec->n_slots);
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
  node->flags |= (call->function->fallible ? FB_FALLIBLE : 0) | result_flags(node->results, e->n, e->single);
  int status = pinned ? fb_node_pin(node, rec->symbols) : fb_fit_apply(fit, rec, node, e->guards, e->views);
  if (draws_size && node->sized)
    node->sized->draws = draws_size;
  else
    PyMem_Free(draws_size);
  node->line = fb_user_line(&node->file);
  fb_stats.misses++;
  fb_explain("miss", node);
  return status < 0 ? NULL : node;
}

static FB_NOINLINE fb_node *miss(fb_call *call) {
  fb_recorder *rec = call->rec;
  if (call->narrow) {
    int widened = fb_trie_note_number(rec->state, call->function, call->words, call->n);
    call->widened = widened > 0;
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
  if (node)
    fb_note_repetition(rec, node);
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

/* ---- the step -------------------------------------------------------------------------------------------- */

static FB_NOINLINE int note_line(fb_recorder *rec, const fb_node *node) {
  fb_loc loc = {.depth = node->depth};
  if (fb_grow((void **)&rec->locs, &rec->cap_locs, rec->n_locs + 1, sizeof loc) < 0)
    return -1;
  loc.line = fb_user_line(&loc.file);
  rec->locs[rec->n_locs++] = loc;
  return 0;
}

static inline bool must_flush(const fb_recorder *rec, const fb_node *node) {
  return rec->flush_soon || node->flags & FB_CUT;
}

static inline int advance(fb_recorder *rec, fb_node *node) {
  uint32_t end = node->base + node->n_scalars + node->n_results;
  if (FB_UNLIKELY(end > rec->cap_slots) && fb_recorder_reserve(rec, end) < 0)
    return -1;
  rec->state = node;
  rec->n_slots = end;
  return 0;
}

static uint64_t draws_of(const fb_recorder *rec, const fb_node *node) {
  int64_t draws = 0;
  if (!node->sized || !node->sized->draws)
    return node->draws;
  fb_size_value(node->sized->draws, rec->symbols, &draws);
  return (uint64_t)draws;
}

PyObject *fb_call_finish(fb_call *call) {
  fb_recorder *rec = call->rec;
  call->words[0] = call->function->id | (uint64_t)rec->mode << 20 | (uint64_t)call->statics << 32;
  fb_node *node = fb_trie_lookup(rec, FB_CALL, call->function, call->words, call->n);
  if (FB_LIKELY(node != NULL)) {
    if (FB_UNLIKELY(fb_shadow) && check_shadow(call, node) < 0)
      return NULL;
    fb_stats.hits++;
  } else if (!(node = miss(call))) {
    return NULL;
  }
  if (FB_UNLIKELY(call->n_scalars) &&
      fb_grow((void **)&rec->inputs, &rec->cap_inputs, rec->n_inputs + call->n_scalars, sizeof *rec->inputs) < 0)
    return NULL;
  if (FB_UNLIKELY(node->flags & FB_FALLIBLE) && note_line(rec, node) < 0)
    return NULL;
  if (FB_UNLIKELY(advance(rec, node) < 0))
    return NULL;
  if (call->n_scalars)
    fb_take_scalars(rec, call->scalars, call->n_scalars, node->base);
  if (call->stream && fb_undo_draw(rec, call->stream, draws_of(rec, node), node->base) < 0)
    return NULL;
  uint32_t first = node->base + node->n_scalars;
  PyObject *result = FB_LIKELY(!(node->flags & (FB_COMPLEX | FB_OVERWRITE))) ? fb_new_result(rec, first, node->type)
                                                                             : collect_results(call, node, first);
  if (FB_UNLIKELY(must_flush(rec, node)) && result && fb_cut(rec) < 0)
    Py_CLEAR(result);
  return result;
}

static FB_NOINLINE PyObject *binary_slow(fb_function *f, PyObject *a, PyObject *b) {
  fb_scalar ignored;
  for (int i = 0; i < 2; i++) {
    PyObject *o = i ? b : a;
    int usable = fb_is_tensor(o) ? 1 : fb_number(o, &ignored);
    if (usable < 0)
      return NULL;
    if (!usable)
      Py_RETURN_NOTIMPLEMENTED;
  }
  PyObject *args[3] = {NULL, a, b};
  return f->vectorcall((PyObject *)f, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
}

bool fb_try_binary(fb_function *f, PyObject *a, PyObject *b, PyObject **result) {
  fb_recorder *rec = fb_recorder_get();
  uint64_t words[3];
  fb_scalar scalar;
  uint32_t n_scalars = 0;
  if (FB_UNLIKELY(!fb_is_tensor(a) || !fb_resident(rec, (fb_tensor *)a, &words[1]) || fb_shadow))
    return false;
  if (PyFloat_CheckExact(b) && rec->n_inputs < rec->cap_inputs) {
    scalar = (fb_scalar){.kind = FB_FLOAT, .f = PyFloat_AS_DOUBLE(b)};
    words[2] = fb_tag(FB_TAG_SCALAR, FB_FLOAT);
    n_scalars = 1;
  } else if (FB_UNLIKELY(!fb_is_tensor(b) || !fb_resident(rec, (fb_tensor *)b, &words[2]))) {
    return false;
  }
  words[0] = f->id | (uint64_t)rec->mode << 20;
  fb_node *node = fb_trie_step(rec, words, 3);
  if (FB_UNLIKELY(!node || (node->flags & ~FB_OVERWRITE) || rec->flush_soon))
    return false;
  *result = NULL;
  if (FB_UNLIKELY(advance(rec, node) < 0))
    return true;
  fb_stats.hits++;
  if (n_scalars)
    fb_take_scalars(rec, &scalar, 1, node->base);
  if (!node->flags)
    *result = fb_new_result(rec, node->base + n_scalars, node->type);
  else if (fb_write_cell(rec, (fb_tensor *)a, node->base + n_scalars, node->type) == 0)
    *result = Py_NewRef(a);
  return true;
}

PyObject *fb_record_binary(fb_function *f, PyObject *a, PyObject *b) {
  PyObject *result;
  return FB_LIKELY(fb_try_binary(f, a, b, &result)) ? result : binary_slow(f, a, b);
}
