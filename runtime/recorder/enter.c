/* How values enter a trace: inputs, snapshots of shared memory, leaves, grafts. Each makes an entry of its own. */
#include "call.h"

/* The type of a new entry of the trace: as `type`, with symbols for sizes that differ from run to run. */
static const fb_type *entry_type(const fb_recorder *rec, const fb_fit *fit, fb_node_kind kind, const uint64_t *words,
                                 const fb_type *type) {
  bool copies = kind == FB_GRAFT || (kind == FB_LEAF && fb_word_slot(words[1]) != FB_NO_SLOT);
  if (copies && rec->state->n_symbols) {
    const fb_type *data = fb_slot_type(rec->state, fb_word_slot(words[1]));
    if (PyErr_Occurred())
      return NULL;
    return data && data->symbolic ? fb_type_with_grad(data, type->requires_grad) : type;
  }
  return fit->by_pattern ? fb_type_intern(fit->exprs, type->dtype, type->device, type->requires_grad) : type;
}

static FB_NOINLINE fb_node *learn_entry(fb_recorder *rec, fb_node_kind kind, const uint64_t *words, uint32_t n,
                                        const fb_type *type) {
  fb_fit fit;
  fb_node *node = NULL;
  const fb_type *learnt =
      fb_fit_make(&fit, rec, kind, NULL, words, n) == 0 ? entry_type(rec, &fit, kind, words, type) : NULL;
  if (learnt && (node = fb_trie_draft(rec->state, kind, words, n, rec->n_slots))) {
    node->type = learnt;
    if (fb_trie_set_results(node, 1) < 0 || fb_fit_apply(&fit, rec, node, NULL, NULL) < 0) {
      fb_trie_drop(node);
      node = NULL;
    } else {
      node->results[0] = (fb_result){learnt, -1};
      node->line = fb_user_line(&node->file);
      node = fb_trie_publish(node);
    }
  }
  fb_fit_clear(&fit);
  return node;
}

/* `rec` is held. */
fb_node *fb_step_entry(fb_recorder *rec, fb_node_kind kind, const uint64_t *words, uint32_t n, const fb_type *type) {
  fb_node *node = fb_trie_lookup(rec, kind, NULL, words, n);
  if (!node && !(node = learn_entry(rec, kind, words, n, type)))
    return NULL;
  if (fb_recorder_reserve(rec, node->base + 1) < 0)
    return NULL;
  rec->owner[node->base] = NULL;
  rec->state = node;
  rec->n_slots = node->base + 1;
  return node;
}

int fb_enter_value(fb_recorder *rec, fb_buffer *buffer, const fb_type *type, fb_cell *cell, uint32_t *slot) {
  if (fb_grow((void **)&rec->inputs, &rec->cap_inputs, rec->n_inputs + 1, sizeof *rec->inputs) < 0 ||
      fb_grow((void **)&rec->entered, &rec->cap_entered, rec->n_entered + 1, sizeof *rec->entered) < 0)
    return -1;
  uint64_t word = FB_H_INPUT | (uint64_t)type->id << 32;
  fb_node *node = fb_step_entry(rec, FB_INPUT, &word, 1, type);
  if (!node)
    return -1;
  if (buffer) /* what a region reads may be there only later */
    fb_buffer_retain(buffer);
  if (cell)
    rec->entered[rec->n_entered++] = rec->n_inputs;
  rec->inputs[rec->n_inputs++] =
      (fb_trace_input){.slot = node->base, .kind = FB_BUFFER, .buffer = buffer, .cell = cell, .type = type};
  *slot = node->base;
  return 0;
}

/* The value that enters has history of its own: place `segment_slot` of `segment`, whose reference is taken over. */
static int note_origin(fb_recorder *rec, fb_segment *segment, uint32_t segment_slot, uint32_t slot) {
  if (!segment)
    return 0;
  if (fb_grow((void **)&rec->origins, &rec->cap_origins, rec->n_origins + 1, sizeof *rec->origins) < 0)
    return fb_segment_release(segment), -1;
  rec->origins[rec->n_origins++] = (fb_origin){slot, segment, segment_slot, FB_NO_SLOT};
  return 0;
}

/* A value of a cell as an input. What the cell holds is taken at once: other threads may be let in, and write it. */
static int enter_cell_value(fb_recorder *rec, const fb_cell *c, fb_buffer *buffer, fb_cell *cell, uint32_t *slot) {
  fb_segment *segment = c->segment;
  uint32_t segment_slot = c->segment_slot;
  if (segment)
    fb_segment_hold(segment);
  if (fb_enter_value(rec, buffer, c->type, cell, slot) == 0)
    return note_origin(rec, segment, segment_slot, *slot);
  if (segment)
    fb_segment_release(segment);
  return -1;
}

static int enter_graft(fb_recorder *rec, uint32_t data, uint32_t history, const fb_type *type, uint32_t *slot) {
  uint64_t words[2] = {FB_H_GRAFT | (uint64_t)type->requires_grad << 32, data | (uint64_t)history << 32};
  fb_node *node = fb_step_entry(rec, FB_GRAFT, words, 2, type);
  if (!node)
    return -1;
  *slot = node->base;
  return 0;
}

int fb_enter_leaf(fb_recorder *rec, fb_anchor *a, uint32_t data, const fb_type *type, uint32_t *slot) {
  fb_place place;
  if (fb_anchor_find(rec, a, &place)) {
    *slot = place.slot;
    if (place.use == data)
      return 0;
    return enter_graft(rec, data, place.slot, type, slot) < 0 ? -1 : fb_anchor_put(rec, a, *slot, data, place.history);
  }
  if (fb_grow((void **)&rec->leaves, &rec->cap_leaves, rec->n_leaves + 1, sizeof *rec->leaves) < 0)
    return -1;
  uint64_t words[2] = {FB_H_LEAF | (data == FB_NO_SLOT ? (uint64_t)type->id << 32 : 0), data};
  fb_node *node = fb_step_entry(rec, FB_LEAF, words, 2, type);
  if (!node || fb_anchor_put(rec, a, node->base, data, rec->n_leaves) < 0)
    return -1;
  *slot = node->base;
  a->refs++;
  rec->leaves[rec->n_leaves++] = (fb_trace_leaf){.anchor = a, .slot = node->base, .data = data};
  return 0;
}

static fb_buffer *copy_of(fb_buffer *source, size_t bytes) {
  fb_stats.copied += bytes;
  fb_buffer *copy = NULL;
  fb_status status = fb_buffer_alloc(bytes, &copy);
  if (status != FB_OK)
    return fb_raise_status(status, 0), NULL;
  memcpy(fb_buffer_data(copy), fb_buffer_data(source), bytes);
  return copy;
}

/* Shared memory may change at any time: each reading call gets its own copy of the base. */
static int enter_snapshot(fb_recorder *rec, fb_cell *c, uint32_t *slot) {
  fb_buffer *copy = copy_of(c->buffer, c->type->bytes);
  if (!copy)
    return -1;
  int status = enter_cell_value(rec, c, copy, NULL, slot);
  fb_buffer_release(copy);
  return status;
}

/* Elements in strides, row by row. */
static char *gather(char *to, const char *from, const fb_type *type, const int64_t *strides, int dim) {
  size_t size = type->itemsize;
  if (dim == type->ndim || (dim == type->ndim - 1 && strides[dim] == 1)) {
    size *= dim == type->ndim ? 1 : (size_t)type->dims[dim];
    return (char *)memcpy(to, from, size) + size;
  }
  for (int64_t i = 0; i < type->dims[dim]; i++)
    to = gather(to, from + i * strides[dim] * (int64_t)size, type, strides, dim + 1);
  return to;
}

/* A copy of the elements that a view selects, which lie in strides. */
static fb_buffer *gathered(const fb_tensor *t, const fb_type *type, const int64_t *layout) {
  fb_buffer *copy = NULL;
  fb_status status = fb_buffer_alloc(type->bytes, &copy);
  if (status != FB_OK)
    return fb_raise_status(status, 0), NULL;
  int64_t first = layout[0];
  for (uint32_t i = 0; i < t->view->n_starts; i++)
    first += t->starts[i] * layout[1 + type->ndim + (int)i];
  const char *from = (const char *)fb_buffer_data(t->cell->buffer);
  if (type->bytes)
    gather((char *)fb_buffer_data(copy), from + first * (int64_t)type->itemsize, type, layout + 1, 0);
  return copy;
}

static int enter_elements(fb_recorder *rec, fb_buffer *value, const fb_type *type, uint64_t *word) {
  uint32_t slot = FB_NO_SLOT;
  fb_stats.copied += type->bytes;
  int status = fb_enter_value(rec, value, type, NULL, &slot);
  *word = slot;
  return status;
}

/* ... or of just the elements that a view selects. */
static int enter_view_snapshot(fb_recorder *rec, fb_tensor *t, uint64_t *word) {
  const int64_t *layout;
  const fb_view *view;
  do { /* measuring runs Python code, and another thread may assign to `data` */
    view = t->view;
    if (fb_view_layout(view, &layout) < 0)
      return -1;
  } while (view != t->view);
  if (layout) {
    fb_buffer *value = gathered(t, t->view->types[0], layout);
    int status = value ? enter_elements(rec, value, t->view->types[0], word) : -1;
    if (value)
      fb_buffer_release(value);
    return status;
  }
  PyObject *hook = fb_hook(fb_hooks.read_view, "read_view");
  const fb_type *base = t->cell->type, *type = t->view->types[0];
  PyObject *starts = hook ? fb_tensor_starts(t) : NULL;
  if (!starts)
    return -1;
  fb_buffer_retain(t->cell->buffer);
  PyObject *buffer = fb_buffer_to_python(t->cell->buffer);
  PyObject *copy =
      buffer ? PyObject_CallFunctionObjArgs(hook, buffer, base->shape, base->dtype, t->view->payload, starts, NULL)
             : NULL;
  Py_XDECREF(buffer);
  Py_DECREF(starts);
  fb_buffer *value = copy ? fb_buffer_from_python(copy) : NULL;
  int status = value ? enter_elements(rec, value, type, word) : -1;
  Py_XDECREF(copy);
  return status;
}

static int enter_cell(fb_recorder *rec, fb_cell *c, fb_place *place) {
  uint32_t slot, version = c->version;
  fb_buffer *buffer = c->buffer;
  if (FB_UNLIKELY(rec->outer != NULL) && fb_region_hold(rec, c) < 0)
    return -1;
  if (buffer)
    fb_buffer_retain(buffer);
  int status = enter_cell_value(rec, c, buffer, c, &slot);
  fb_buffer_release(buffer);
  if (status < 0)
    return -1;
  *place = (fb_place){c, slot, slot, FB_NO_SLOT, rec->n_inputs - 1, version};
  if (c->version == version)
    return fb_cell_put(rec, c, *place);
  rec->inputs[rec->n_inputs - 1].cell = NULL; /* written meanwhile: this call sees the value from before */
  return 0;
}

/* Kernels rely on elements being aligned. */
static bool is_aligned(const fb_cell *c) {
  size_t size = c->type->itemsize;
  return !size || (uintptr_t)fb_buffer_data(c->buffer) % size == 0;
}

/* The flag is dropped once nobody else can write the memory, for nobody ever will again. Not in a call that has taken a
 * snapshot already: what it knows of its operands stays as it is. */
static bool is_shared(fb_cell *c, int how) {
  if (c->shared && !(how & FB_STAYS_SHARED) && fb_buffer_is_private(c->buffer) && is_aligned(c)) {
    c->shared = false;
    fb_buffer_written(c->buffer, false);
  }
  return c->shared;
}

/* What a tensor is for the duration of a call; another thread may assign to its `data` or `requires_grad`. */
typedef struct {
  fb_cell *cell;
  const fb_view *view;
  fb_leaf *leaf;
  bool history; /* is wanted */
} fb_entering;

static bool shared_needs_history(const fb_recorder *rec, const fb_tensor *t) {
  return rec->mode & 1 && (t->leaf || t->cell->type->requires_grad) && !(t->view && t->view->detached);
}

bool fb_enters_as_elements(const fb_recorder *rec, const fb_tensor *t, bool whole) {
  return t->view && t->cell->shared && !whole && !rec->outer && !shared_needs_history(rec, t);
}

static int enter_shared(fb_recorder *rec, fb_tensor *t, const fb_entering *e, bool whole, uint64_t *word) {
  uint32_t slot;
  bool needs_history = shared_needs_history(rec, t);
  if (fb_enters_as_elements(rec, t, whole))
    return enter_view_snapshot(rec, t, word);
  if (enter_snapshot(rec, e->cell, &slot) < 0)
    return -1;
  if (needs_history && e->leaf) {
    fb_type *type = fb_type_with_grad(e->cell->type, true);
    if (!type || fb_enter_leaf(rec, e->leaf->anchor, slot, type, &slot) < 0)
      return -1;
  }
  *word = fb_word_of(slot, e->view);
  return 0;
}

static int enter_plain(fb_recorder *rec, const fb_entering *e, uint64_t *word) {
  fb_cell *c = e->cell;
  fb_place place;
  if (!fb_cell_find(rec, c, &place) && enter_cell(rec, c, &place) < 0)
    return -1;
  uint32_t slot = place.slot;
  if (e->history && e->leaf) {
    fb_type *type = fb_type_with_grad(c->type, true);
    if (!type || fb_enter_leaf(rec, e->leaf->anchor, slot, type, &slot) < 0)
      return -1;
  } else if (e->history) {
    if (place.use == FB_NO_SLOT && (enter_graft(rec, place.slot, place.history, c->type, &place.use) < 0 ||
                                    (place.version == c->version && fb_cell_put(rec, c, place) < 0)))
      return -1;
    slot = place.use;
  } else if (place.use != FB_NO_SLOT) {
    slot = place.use;
  }
  *word = fb_word_of(slot, e->view);
  return 0;
}

/* It is in the trace, and the cell says where. */
static inline bool is_known(const fb_recorder *rec, const fb_tensor *t, uint64_t *word) {
  const fb_cell *c = t->cell;
  if (c->epoch != rec->id || c->shared || c->slot == FB_NO_SLOT)
    return false;
  uint32_t slot = c->use;
  bool history = rec->mode & 1 && !(t->view && t->view->detached);
  if (history && t->leaf) {
    const fb_anchor *a = t->leaf->anchor;
    if (a->epoch != rec->id || a->data != c->slot)
      return false;
    slot = a->slot;
  }
  if (slot == FB_NO_SLOT && history)
    return false;
  *word = fb_word_of(slot == FB_NO_SLOT ? c->slot : slot, t->view);
  return true;
}

int fb_enter(fb_recorder *rec, fb_tensor *t, int how, uint64_t *word) {
  if (is_known(rec, t, word))
    return 0;
  fb_entering e = {.cell = t->cell, .view = t->view, .leaf = (fb_leaf *)Py_XNewRef((PyObject *)t->leaf)};
  e.history = rec->mode & 1 && !(e.view && e.view->detached);
  e.cell->refs++;
  int status = fb_cell_settle(rec, e.cell);
  if (status == 0) {
    fb_hold hold;
    fb_hold_begin(&hold, rec);
    bool is_snapshot = FB_UNLIKELY(e.cell->shared) && !rec->outer && is_shared(e.cell, how); /* a region does not run */
    status = is_snapshot ? enter_shared(rec, t, &e, how & FB_WHOLE, word) : enter_plain(rec, &e, word);
    fb_hold_end(&hold);
  }
  Py_XDECREF((PyObject *)e.leaf);
  fb_cell_release(e.cell);
  return status;
}

int fb_call_starts(fb_call *call, const fb_tensor *t, const fb_view *view, uint64_t word) {
  if (t->view != view)
    call->trace = 0; /* another thread assigned to its `data`: bind again */
  if (!fb_word_view(word) || call->trace != call->rec->id)
    return 0;
  for (uint32_t i = 0; i < view->n_starts; i++)
    if (fb_call_scalar(call, (fb_scalar){.kind = FB_INT, .i = t->starts[i]}) < 0)
      return -1;
  return 0;
}

/* An earlier operand of the call is a snapshot of the same elements: one call reads memory of others once. */
static bool has_snapshot(const fb_call *call, const fb_tensor *t) {
  const fb_tensor *s = call->snapshot;
  return s && t->cell->shared && s->cell == t->cell && s->view == t->view && s->leaf == t->leaf &&
         (!t->view || !t->view->n_starts || !memcmp(s->starts, t->starts, t->view->n_starts * sizeof *t->starts));
}

static FB_NOINLINE int enter_operand(fb_call *call, fb_tensor *t, uint64_t *word) {
  const fb_cell *cell = t->cell;
  if (has_snapshot(call, t)) {
    *word = call->snapshot_word;
    return 0;
  }
  bool whole = !call->function || call->function->kind == FB_INPLACE;
  if (fb_enter(call->rec, t, (whole ? FB_WHOLE : 0) | (call->snapshot ? FB_STAYS_SHARED : 0), word) < 0)
    return -1;
  if (t->cell != cell)
    call->trace = 0;
  if (t->cell->shared) {
    call->snapshot = t;
    call->snapshot_word = *word;
  }
  return 0;
}

int fb_call_tensor(fb_call *call, fb_tensor *t) {
  uint64_t word;
  const fb_view *view = t->view;
  if (FB_UNLIKELY(!fb_resident(call->rec, t, &word)) && enter_operand(call, t, &word) < 0)
    return -1;
  if (fb_call_word(call, word) < 0 || fb_call_note(call, t) < 0)
    return -1;
  return FB_LIKELY(!fb_word_view(word)) ? 0 : fb_call_starts(call, t, view, word);
}
