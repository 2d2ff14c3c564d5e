/* Recording: operands become words of a key, a step in the trie, and results new slots. */
#include "call.h"

/* ---- the call being bound -------------------------------------------------------------------------------- */

void fb_call_restart(fb_call *call) {
  call->trace = call->rec->id;
  call->n = 1;
  call->n_scalars = call->n_operands = 0;
  call->stream = NULL;
  call->snapshot = NULL;
  call->narrow = call->again = false;
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
  call->kept = NULL;
  call->pinned = false;
  fb_call_restart(call);
}

void fb_call_clear(fb_call *call) {
  if (call->words != call->words_)
    PyMem_Free(call->words);
  if (call->scalars != call->scalars_)
    PyMem_Free(call->scalars);
  if (call->operands != call->operands_)
    PyMem_Free(call->operands);
  Py_XDECREF(call->kept);
}

int fb_call_keep(fb_call *call, PyObject *o) {
  PyObject *kept = call->kept ? PyTuple_Pack(2, call->kept, o) : Py_NewRef(o); /* nearly always one: no list */
  if (!kept)
    return -1;
  Py_XSETREF(call->kept, kept);
  return 0;
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

/* A Python float; its NaNs are one, as in constants. */
static double float_value(PyObject *o) {
  double value = PyFloat_AS_DOUBLE(o);
  return FB_UNLIKELY(value != value) ? (double)NAN : value;
}

/* NumPy's complex64 is none of Python's complex numbers, and converts to floats. */
static bool is_complex(PyObject *o) { return PyComplex_Check(o) || strstr(Py_TYPE(o)->tp_name, "numpy.complex"); }

/* An int that uint64 holds and int64 does not. */
static bool is_large(PyObject *o) {
  int overflow = 0;
  if (!PyLong_Check(o) || (PyLong_AsLongLongAndOverflow(o, &overflow), overflow <= 0))
    return false;
  PyLong_AsUnsignedLongLong(o);
  bool fits = !PyErr_Occurred();
  PyErr_Clear();
  return fits;
}

static PyObject *constant_of(PyObject *o) {
  if (PyLong_Check(o))
    return PyNumber_Index(o);
  Py_complex value = PyComplex_AsCComplex(o);
  return value.real == -1.0 && PyErr_Occurred() ? NULL : PyComplex_FromCComplex(value);
}

int fb_constant(PyObject *o, fb_scalar *out) {
  if (FB_LIKELY(!is_complex(o) && !is_large(o)))
    return 0;
  PyObject *number = constant_of(o);
  int64_t id = number ? fb_static_intern(&number, 1, "number", NULL) : -1;
  Py_XDECREF(number);
  *out = (fb_scalar){.kind = FB_CONSTANT, .i = id};
  return id < 0 ? -1 : 1;
}

int fb_number(PyObject *o, fb_scalar *out) {
  if (PyFloat_Check(o)) {
    *out = (fb_scalar){.kind = FB_FLOAT, .f = float_value(o)};
    return 1;
  }
  if (PyBool_Check(o)) {
    *out = (fb_scalar){.kind = FB_BOOL, .i = o == Py_True};
    return 1;
  }
  if (PyLong_Check(o)) {
    int overflow = 0;
    *out = (fb_scalar){.kind = FB_INT, .i = PyLong_AsLongLongAndOverflow(o, &overflow)};
    if (FB_LIKELY(!overflow) || is_large(o))
      return !overflow;
    PyErr_SetString(PyExc_OverflowError, "int too big to convert");
    return -1;
  }
  PyNumberMethods *methods = Py_TYPE(o)->tp_as_number;
  if (!methods || PySequence_Check(o) || fb_is_tensor(o) || (!methods->nb_index && !methods->nb_float) || is_complex(o))
    return 0;
  PyObject *number = methods->nb_index ? PyNumber_Index(o) : PyNumber_Float(o);
  if (!number)
    return -1;
  int found = fb_number(number, out);
  Py_DECREF(number);
  return found;
}

/* ---- results --------------------------------------------------------------------------------------------- */

static FB_NOINLINE const fb_type *type_now(fb_recorder *rec, const fb_type *type) {
  fb_hold hold; /* the slot has no cell yet: the trace may not run */
  fb_hold_begin(&hold, rec);
  type = fb_type_at(type, rec->symbols);
  fb_hold_end(&hold);
  return type;
}

FB_HOT PyObject *fb_new_result(fb_recorder *rec, uint32_t slot, const fb_type *type) {
  if (FB_UNLIKELY(type->symbolic) && !(type = type_now(rec, type)))
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

/* The cell's value becomes this trace's, whatever other traces have read. */
/* Where the history of a shared cell is: that of the snapshots of it that have entered. */
static uint32_t history_of_snapshots(const fb_recorder *rec, const fb_cell *c) {
  for (uint32_t i = c->segment ? rec->n_origins : 0; i-- > 0;)
    if (rec->origins[i].segment == c->segment && rec->origins[i].segment_slot == c->segment_slot)
      return rec->origins[i].slot;
  return FB_NO_SLOT;
}

static FB_NOINLINE void take_cell(fb_recorder *rec, fb_cell *c) {
  fb_place place;
  if (!fb_cell_find(rec, c, &place)) { /* a shared cell: only snapshots of it are in the trace */
    place = (fb_place){c, FB_NO_SLOT, FB_NO_SLOT, history_of_snapshots(rec, c), FB_NO_SLOT, c->version};
    rec->flush_soon = true;
  }
  fb_cell_claim(rec, c, &place);
}

static FB_NOINLINE int refuse_apart(void) {
  PyErr_SetString(PyExc_RuntimeError,
                  "[write] this leaf was made of a view: what it is a view of would not see the write. "
                  "Clone the view before requires_grad_().");
  return -1;
}

static FB_NOINLINE int refuse_unrecorded(void) {
  PyErr_SetString(PyExc_RuntimeError,
                  "[write] this view was made under no_grad, of a tensor that requires grad, and is written where "
                  "gradients are recorded. Write under no_grad, or make the view outside of it.");
  return -1;
}

FB_HOT int fb_write_cell(fb_recorder *rec, fb_tensor *t, uint32_t slot, const fb_type *type) {
  fb_cell *c = t->cell;
  bool differentiable = rec->mode & 1 && !(t->view && t->view->detached);
  if (FB_UNLIKELY(c->apart))
    return refuse_apart();
  if (FB_UNLIKELY(rec->mode & 1 && t->view && t->view->unrecorded))
    return refuse_unrecorded();
  if (FB_UNLIKELY(c->placed || c->epoch != rec->id) && fb_watch_readers(rec, c) < 0)
    return -1;
  if (FB_UNLIKELY(rec->capture != NULL) && fb_capture_write(rec, t) < 0)
    return -1;
  if (FB_UNLIKELY(c->epoch != rec->id))
    take_cell(rec, c);
  if (FB_UNLIKELY(c->watch != NULL) && fb_watch_note(rec, c->watch, t->view && t->view->aside, slot) < 0)
    return -1;
  rec->new_leaves |= t->leaf != NULL;
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
    if (FB_UNLIKELY(mine != c->type))
      fb_cell_retype(c, mine);
    c->use = slot;
  }
  c->slot = slot;
  c->version++;
  rec->owner[slot] = c;
  return 0;
}

static PyObject *make_results(fb_call *call, const fb_node *node, uint32_t first) {
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

/* The only result, in slot `slot`, replaces the value of `t`: no Python code runs. */
static inline bool overwrite(fb_recorder *rec, fb_tensor *t, uint32_t slot, const fb_type *type) {
  if (FB_LIKELY(fb_write_cell(rec, t, slot, type) == 0))
    return true;
  rec->owner[slot] = NULL;
  return false;
}

static FB_NOINLINE PyObject *collect_results(fb_call *call, const fb_node *node, uint32_t first) {
  fb_hold hold;
  fb_hold_begin(&hold, call->rec);
  PyObject *results = make_results(call, node, first);
  fb_hold_end(&hold);
  return results;
}

static PyObject *overwritten(fb_call *call, const fb_node *node, uint32_t slot) {
  if (FB_UNLIKELY(call->rec->capture != NULL)) /* makes objects */
    return collect_results(call, node, slot);
  if (!overwrite(call->rec, call->operands[0], slot, node->type))
    return NULL;
  return Py_NewRef(fb_is_tensor(call->values[0]) ? call->values[0] : Py_None);
}

/* ---- the step -------------------------------------------------------------------------------------------- */

static FB_NOINLINE int note_line(fb_recorder *rec, const fb_node *node) {
  fb_loc loc = {.depth = node->depth};
  if (fb_grow((void **)&rec->locs, &rec->cap_locs, rec->n_locs + 1, sizeof loc) < 0)
    return -1;
  loc.code = fb_user_code(&loc.instruction);
  rec->locs[rec->n_locs++] = loc;
  return 0;
}

/* Other threads may have been let in since the operands were bound: what is written may be theirs now, and another call
 * may have drawn the same random numbers. Nobody is let in from here on until the trace has taken the step. */
static FB_NOINLINE bool is_disturbed(const fb_call *call, const fb_node *node) {
  fb_place place;
  for (uint32_t i = 0; i < node->n_results; i++) {
    const fb_cell *c = node->results[i].write >= 0 ? call->operands[node->results[i].write]->cell : NULL;
    if (c && !fb_cell_find(call->rec, c, &place) && (!c->shared || fb_cell_owed(c)))
      return true;
  }
  return call->stream && (call->stream->seed != call->seed || call->stream->offset != call->offset);
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

static FB_NOINLINE fb_node *step_slowly(fb_call *call) {
  fb_hold hold;
  fb_hold_begin(&hold, call->rec);
  fb_node *node = fb_find_or_learn(call);
  fb_hold_end(&hold);
  return node;
}

/* The next state, which nobody drops before the trace has taken the step; NULL also with call->again. */
static inline fb_node *next_state(fb_call *call) {
  fb_recorder *rec = call->rec;
  call->words[0] = call->function->id | (uint64_t)rec->mode << 20 | (uint64_t)call->statics << 32;
  if (FB_UNLIKELY(rec->id != call->trace)) {
    call->again = true;
    return NULL;
  }
  fb_node *node = FB_UNLIKELY(rec->state->patterned || fb_shadow) ? NULL : fb_trie_step(rec, call->words, call->n);
  if (FB_LIKELY(node != NULL))
    fb_stats.hits++;
  else if (!(node = step_slowly(call)))
    return NULL;
  call->again = (node->flags & (FB_COMPLEX | FB_OVERWRITE) || call->stream) && is_disturbed(call, node);
  return FB_UNLIKELY(call->again) ? NULL : node;
}

FB_HOT PyObject *fb_call_finish(fb_call *call) {
  fb_recorder *rec = call->rec;
  fb_node *node = next_state(call);
  if (FB_UNLIKELY(!node))
    return NULL;
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
  bool cut = must_flush(rec, node);
  PyObject *result = FB_LIKELY(!(node->flags & (FB_COMPLEX | FB_OVERWRITE))) ? fb_new_result(rec, first, node->type)
                     : node->flags & FB_COMPLEX                              ? collect_results(call, node, first)
                                                                             : overwritten(call, node, first);
  if (FB_UNLIKELY(cut || rec->flush_soon) && result && fb_cut(rec) < 0)
    Py_CLEAR(result);
  return result;
}

static FB_NOINLINE PyObject *binary_slow(fb_function *f, PyObject *a, PyObject *b) {
  fb_scalar ignored;
  for (int i = 0; i < 2; i++) {
    PyObject *o = i ? b : a;
    int usable = fb_is_tensor(o) || is_complex(o) || is_large(o) ? 1 : fb_number(o, &ignored);
    if (usable < 0)
      return NULL;
    if (!usable)
      Py_RETURN_NOTIMPLEMENTED;
  }
  PyObject *args[3] = {NULL, a, b};
  return f->vectorcall((PyObject *)f, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
}

FB_HOT bool fb_try_binary(fb_function *f, PyObject *a, PyObject *b, PyObject **result) {
  fb_recorder *rec = fb_recorder_get();
  uint64_t words[3];
  fb_scalar scalar;
  uint32_t n_scalars = 0;
  if (FB_UNLIKELY(!fb_is_tensor(a) || !fb_resident(rec, (fb_tensor *)a, &words[1]) || fb_shadow))
    return false;
  if (PyFloat_CheckExact(b) && rec->n_inputs < rec->cap_inputs) {
    scalar = (fb_scalar){.kind = FB_FLOAT, .f = float_value(b)};
    words[2] = fb_tag(FB_TAG_SCALAR, FB_FLOAT);
    n_scalars = 1;
  } else if (FB_UNLIKELY(!fb_is_tensor(b) || !fb_resident(rec, (fb_tensor *)b, &words[2]))) {
    return false;
  }
  words[0] = f->id | (uint64_t)rec->mode << 20;
  fb_node *node = fb_trie_step(rec, words, 3);
  if (FB_UNLIKELY(!node || (node->flags & ~FB_OVERWRITE) || rec->flush_soon | rec->learns))
    return false;
  *result = NULL;
  if (FB_UNLIKELY(advance(rec, node) < 0))
    return true;
  fb_stats.hits++;
  if (n_scalars)
    fb_take_scalars(rec, &scalar, 1, node->base);
  if (!node->flags)
    *result = fb_new_result(rec, node->base + n_scalars, node->type);
  else if (overwrite(rec, (fb_tensor *)a, node->base + n_scalars, node->type))
    *result = Py_NewRef(a);
  return true;
}

FB_HOT PyObject *fb_record_binary(fb_function *f, PyObject *a, PyObject *b) {
  PyObject *result;
  return FB_LIKELY(fb_try_binary(f, a, b, &result)) ? result : binary_slow(f, a, b);
}
