/* Importing segments: a flushed trace becomes one entry of the current one, and links join the two histories. */
#include "call.h"

static int import_slot(fb_recorder *rec, fb_segment *s, uint32_t slot, uint32_t *imported);

/* An entry without slots: only the state changes. */
static int add_mark(fb_recorder *rec, fb_node_kind kind, const uint64_t *words, uint32_t n) {
  fb_node *node = fb_trie_step(rec, words, n);
  if (!node && (node = fb_trie_draft(rec->state, kind, words, n, rec->n_slots)))
    node = fb_trie_publish(node);
  if (!node)
    return -1;
  rec->state = node;
  return 0;
}

/* Gradients that arrive at slot `from` go on to slot `to`. */
static int add_link(fb_recorder *rec, uint32_t from, uint32_t to) {
  uint64_t words[2] = {FB_H_LINK, from | (uint64_t)to << 32};
  return add_mark(rec, FB_LINK, words, 2);
}

static int add_written(fb_recorder *rec, const fb_watched *watched, uint32_t n, bool aside, uint32_t base,
                       uint64_t *words) {
  words[0] = FB_H_MODIFIED | (uint64_t)aside << 32;
  n = fb_watched_writes(watched, n, aside, base, words + 1);
  return n ? add_mark(rec, FB_MODIFIED, words, n + 1) : 0;
}

/* Which of these tensors have been written since: their old values may not be differentiated through. `told`: what the
 * trace knows of, which grows with each that is written, and with each that was written aside and now is in place. */
static int add_modified(fb_recorder *rec, const fb_watched *watched, uint32_t n, uint32_t base, uint32_t *told) {
  uint64_t *words = PyMem_Malloc((n + (size_t)1) * sizeof *words);
  if (!words)
    return PyErr_NoMemory(), -1;
  uint32_t found = 2 * fb_watched_writes(watched, n, false, 0, words) + fb_watched_writes(watched, n, true, 0, words);
  int status = 0;
  for (int aside = 0; status == 0 && found != *told && aside < 2; aside++)
    status = add_written(rec, watched, n, aside, base, words);
  *told = found;
  PyMem_Free(words);
  return status;
}

static int tell_modified(fb_recorder *rec, fb_import *import) {
  const fb_segment *s = import->segment;
  return add_modified(rec, s->watched, s->n_watched, import->base, &import->written);
}

/* The history of these slots is used up: an entry as of a backward without results. */
int fb_add_freed(fb_recorder *rec, const uint32_t *slots, uint32_t n, uint32_t base) {
  uint64_t *words = PyMem_Malloc((n + (size_t)1) * sizeof *words);
  if (!words)
    return PyErr_NoMemory(), -1;
  words[0] = FB_H_FREED;
  for (uint32_t i = 0; i < n; i++)
    words[i + 1] = base + slots[i];
  int status = n ? fb_grow((void **)&rec->backwards, &rec->cap_backwards, rec->n_backwards + 1, sizeof(fb_node *)) : 0;
  if (n && status == 0 && (status = add_mark(rec, FB_FREED, words, n + 1)) == 0) {
    if (!rec->state->aux && (rec->state->aux = PyMem_Malloc(n * sizeof *slots))) {
      for (uint32_t i = 0; i < n; i++)
        rec->state->aux[i] = base + slots[i];
      rec->state->n_aux = n;
    }
    rec->backwards[rec->n_backwards++] = rec->state;
  }
  PyMem_Free(words);
  return status;
}

/* The key of a segment entry: header, id, slots of provided values, scalars, values of its symbols. */
static int make_key(fb_recorder *rec, fb_segment *s, fb_call *call) {
  const uint32_t *kept = s->program->flat ? s->program->flat->residuals : s->program->residuals;
  if (fb_call_word(call, s->state->id) < 0)
    return -1;
  for (uint32_t i = 0; i < s->n_residuals; i++) {
    const fb_type *type = s->program->residual_types[i];
    uint32_t slot;
    if (!type)
      continue;
    if (!(type = fb_type_at(type, s->symbols)) || !(type = fb_type_with_grad(type, false)))
      return -1;
    if (s->freed) /* by another thread's backward(), just now */
      return fb_raise_freed();
    if (fb_enter_value(rec, s->residuals[i], type, NULL, &slot) < 0 ||
        fb_call_word(call, kept[i] | (uint64_t)slot << 32) < 0)
      return -1;
  }
  for (uint32_t i = 0; i < s->n_scalars; i++) {
    const fb_trace_input *in = &s->scalars[i];
    if (fb_call_word(call, fb_tag(FB_TAG_SCALAR, in->kind)) < 0 || fb_call_word(call, in->slot) < 0 ||
        fb_call_scalar(call, (fb_scalar){.kind = in->kind, .i = in->i}) < 0)
      return -1;
  }
  for (uint32_t i = 0; i < s->state->n_symbols; i++)
    if (fb_call_word(call, FB_TAG_SIZE) < 0 || fb_call_word(call, (uint64_t)s->symbols[i]) < 0)
      return -1;
  return 0;
}

static fb_node *learn_segment(fb_recorder *rec, fb_segment *s, fb_call *call) {
  fb_fit fit;
  fb_node *node = NULL;
  if (fb_fit_make(&fit, rec, FB_SEGMENT, NULL, call->words, call->n) == 0 &&
      (node = fb_trie_draft(rec->state, FB_SEGMENT, call->words, call->n, rec->n_slots))) {
    node->n_results = s->n_slots; /* their types are those of the imported trace */
    node->n_scalars = call->n_scalars;
    node->imported = s->state;
    if (fb_fit_apply(&fit, rec, node, NULL, NULL) < 0) {
      fb_trie_drop(node);
      node = NULL;
    } else {
      node->line = fb_user_line(&node->file);
      node = fb_trie_publish(node);
    }
  }
  fb_fit_clear(&fit);
  return node;
}

static int step_segment(fb_recorder *rec, fb_segment *s, fb_call *call, uint32_t *base) {
  call->words[0] = FB_H_SEGMENT;
  fb_node *node = fb_trie_lookup(rec, FB_SEGMENT, NULL, call->words, call->n);
  if (!node && !(node = learn_segment(rec, s, call)))
    return -1;
  uint32_t end = node->base + node->n_scalars + node->n_results;
  if (fb_recorder_reserve(rec, end) < 0 ||
      fb_grow((void **)&rec->inputs, &rec->cap_inputs, rec->n_inputs + call->n_scalars, sizeof *rec->inputs) < 0)
    return -1;
  fb_take_scalars(rec, call->scalars, call->n_scalars, node->base);
  memset(rec->owner + node->base, 0, (end - node->base) * sizeof *rec->owner);
  rec->state = node;
  rec->n_slots = end;
  *base = node->base + node->n_scalars;
  return 0;
}

/* What this trace knows of the segment beside where it is. */
static int new_import(fb_segment *s, fb_import *made) {
  *made = (fb_import){.segment = s,
                      .linked = PyMem_Calloc(s->n_leaves + 1, sizeof *made->linked),
                      .histories = PyMem_Malloc((s->n_origins + 1) * sizeof *made->histories)};
  if (!made->linked || !made->histories) {
    PyMem_Free(made->linked);
    PyMem_Free(made->histories);
    return PyErr_NoMemory(), -1;
  }
  for (uint32_t i = 0; i < s->n_origins; i++)
    made->histories[i] = FB_NO_SLOT;
  return 0;
}

static int enter_segment(fb_recorder *rec, fb_segment *s) {
  fb_call call;
  uint32_t base;
  fb_call_init(&call, rec, NULL, NULL, 0);
  bool freed = s->freed;
  int status = make_key(rec, s, &call) == 0 ? step_segment(rec, s, &call, &base) : -1;
  fb_call_clear(&call);
  if (status < 0)
    return -1;
  if (s->freed != freed) /* by another thread, in between */
    return fb_raise_freed();
  fb_import made;
  if (fb_grow((void **)&rec->imports, &rec->cap_imports, rec->n_imports + 1, sizeof *rec->imports) < 0 ||
      new_import(s, &made) < 0)
    return -1;
  made.base = base;
  fb_segment_hold(s);
  rec->imports[rec->n_imports++] = made;
  fb_import *import = &rec->imports[rec->n_imports - 1];
  if (fb_import_put(rec, s, rec->n_imports - 1) < 0 || tell_modified(rec, import) < 0)
    return -1;
  import->ends = s->ends;
  return fb_add_freed(rec, s->ended, s->n_ended, base);
}

/* Histories that another thread's backward has used up since the segment was imported. */
static int add_ended(fb_recorder *rec, fb_import *import) {
  const fb_segment *s = import->segment;
  uint32_t *slots = PyMem_Malloc((s->n_ended + (size_t)1) * sizeof *slots), n = 0;
  if (!slots)
    return PyErr_NoMemory(), -1;
  for (uint32_t i = 0; i < s->n_ended; i++)
    if (!fb_history_freed(rec, import->base + s->ended[i]))
      slots[n++] = s->ended[i];
  import->ends = s->ends;
  int status = fb_add_freed(rec, slots, n, import->base);
  PyMem_Free(slots);
  return status;
}

int fb_imports_refresh(fb_recorder *rec) {
  if (FB_UNLIKELY(rec->n_overtaken) && add_modified(rec, rec->overtaken, rec->n_overtaken, 0, &rec->written) < 0)
    return -1;
  for (uint32_t i = 0; i < rec->n_imports; i++) {
    fb_import *import = &rec->imports[i];
    if ((import->ends != import->segment->ends && add_ended(rec, import) < 0) || tell_modified(rec, import) < 0)
      return -1;
  }
  return 0;
}

static int link_leaf(fb_recorder *rec, fb_segment *s, uint32_t i) {
  fb_anchor *a = s->leaves[i].anchor;
  uint32_t leaf_slot = s->leaves[i].slot, slot;
  const fb_type *type = fb_slot_type(s->state, leaf_slot);
  if (!type || !(type = fb_type_at(type, s->symbols)))
    return -1;
  fb_place place;
  a->refs++; /* another thread may free the segment */
  int status = fb_anchor_find(rec, a, &place) ? 0 : fb_enter_leaf(rec, a, FB_NO_SLOT, type, &place.slot);
  fb_anchor_release(a);
  slot = place.slot;
  if (status < 0)
    return -1;
  fb_import *import = fb_import_of(rec, s);
  import->linked[i] = true;
  return add_link(rec, import->base + leaf_slot, slot);
}

static int link_origin(fb_recorder *rec, fb_segment *s, uint32_t i) {
  fb_origin in = s->origins[i];
  uint32_t parent;
  fb_segment_hold(in.segment);
  int status = import_slot(rec, in.segment, in.segment_slot, &parent);
  fb_segment_release(in.segment);
  if (status < 0)
    return -1;
  fb_import *import = fb_import_of(rec, s);
  import->histories[i] = parent;
  return add_link(rec, import->base + in.slot, parent);
}

/* Join the leaves and the parents that `slot` of the segment depends on. */
static int link_needed(fb_recorder *rec, fb_segment *s, uint32_t slot) {
  uint8_t *needed = PyMem_Calloc(s->n_slots + 1, 1);
  if (!needed)
    return PyErr_NoMemory(), -1;
  needed[slot] = 1;
  int status = fb_reach(s->state, needed);
  for (uint32_t i = 0; status == 0 && i < s->n_leaves; i++)
    if (needed[s->leaves[i].slot] && !fb_import_of(rec, s)->linked[i])
      status = link_leaf(rec, s, i);
  for (uint32_t i = 0; status == 0 && i < s->n_origins; i++)
    if (needed[s->origins[i].slot] && fb_import_of(rec, s)->histories[i] == FB_NO_SLOT)
      status = link_origin(rec, s, i);
  PyMem_Free(needed);
  return status;
}

static int raise_lost(void) {
  PyErr_SetString(
      PyExc_RuntimeError,
      "[backward] this tensor has its value but no gradient history any more: an operation that was recorded with "
      "it has failed, and what was still to be done was dropped. Compute the tensor again.");
  return -1;
}

/* The recorder is held. */
static int import_slot(fb_recorder *rec, fb_segment *s, uint32_t slot, uint32_t *imported) {
  if (s == fb_segment_lost())
    return raise_lost();
  if (Py_EnterRecursiveCall(" while importing gradient history"))
    return -1;
  int status = fb_import_of(rec, s) ? 0 : enter_segment(rec, s);
  if (status == 0)
    status = link_needed(rec, s, slot);
  Py_LeaveRecursiveCall();
  if (status == 0)
    *imported = fb_import_of(rec, s)->base + slot;
  return status;
}

static bool has_unlinked(const fb_recorder *rec) {
  for (uint32_t i = 0; i < rec->n_origins; i++)
    if (rec->origins[i].history == FB_NO_SLOT)
      return true;
  return false;
}

static int link_trace_input(fb_recorder *rec, uint32_t i) {
  fb_origin in = rec->origins[i];
  uint32_t slot; /* the trace keeps the segment */
  if (import_slot(rec, in.segment, in.segment_slot, &slot) < 0)
    return -1;
  rec->origins[i].history = slot;
  return add_link(rec, in.slot, slot);
}

int fb_import_reachable(fb_recorder *rec, const uint64_t *words, uint32_t n) {
  if (!has_unlinked(rec))
    return 0;
  uint8_t *needed = PyMem_Calloc(rec->n_slots + 1, 1);
  if (!needed)
    return PyErr_NoMemory(), -1;
  for (uint32_t i = 0; i < n; i++)
    needed[fb_word_slot(words[i])] = 1;
  int status = fb_reach(rec->state, needed);
  for (uint32_t i = 0; status == 0 && i < rec->n_origins; i++)
    if (rec->origins[i].history == FB_NO_SLOT && needed[rec->origins[i].slot])
      status = link_trace_input(rec, i);
  PyMem_Free(needed);
  return status;
}

int fb_import_history(fb_recorder *rec, fb_tensor *t, uint64_t *word) {
  uint32_t mode = rec->mode;
  rec->mode |= 1; /* history is wanted, whatever the mode says about new results */
  int status = fb_resident(rec, t, word) ? 0 : fb_enter(rec, t, FB_WHOLE, word);
  rec->mode = mode;
  if (status < 0 || fb_import_reachable(rec, word, 1) < 0)
    return -1;
  for (uint32_t i = 0; i < rec->n_origins; i++)
    if (rec->origins[i].slot == fb_word_slot(*word))
      *word = (*word & ~(uint64_t)UINT32_MAX) | rec->origins[i].history;
  return 0;
}
