/* Traces as wholes: moving one to where it runs, forgetting it, and the states that nothing stands on any more. */
#include "capture.h"
#include <stddef.h>

static void take_home(fb_recorder **home, uint64_t epoch, const fb_recorder *from, fb_recorder *to) {
  if (*home == from && epoch == to->id)
    *home = to;
}

void fb_move_trace(fb_recorder *from, fb_recorder *to) {
  char trace[offsetof(fb_recorder, next)];
  memcpy(trace, from, sizeof trace);
  memcpy(from, to, sizeof trace);
  memcpy(to, trace, sizeof trace);
  for (uint32_t i = 0; i < to->n_entered; i++) {
    fb_cell *c = to->inputs[to->entered[i]].cell;
    if (c)
      take_home(&c->home, c->epoch, from, to);
  }
  for (uint32_t i = 0; i < to->n_leaves; i++)
    take_home(&to->leaves[i].anchor->home, to->leaves[i].anchor->epoch, from, to);
  for (uint32_t i = 0; i < to->n_imports; i++)
    take_home(&to->imports[i].segment->home, to->imports[i].segment->epoch, from, to);
}

bool fb_imports_nest(const fb_recorder *rec) {
  for (uint32_t i = 0; i < rec->n_imports; i++)
    if (rec->imports[i].segment->state->has_import || rec->imports[i].segment->program->flat)
      return true;
  return false;
}

void fb_recorder_reset(fb_recorder *rec) {
  rec->id = fb_next_trace_id();
  rec->state = fb_trie_root();
  rec->n_slots = 0;
  rec->held_bytes = 0;
  rec->flush_soon = rec->new_leaves = false;
  rec->calls_left = rec->look_again = 0;
  uint32_t n = rec->n_inputs;
  rec->n_inputs = 0;
  for (uint32_t i = 0; i < n; i++)
    if (rec->inputs[i].kind == FB_BUFFER)
      fb_buffer_release(rec->inputs[i].buffer);
  n = rec->n_origins;
  rec->n_origins = 0;
  for (uint32_t i = 0; i < n; i++)
    fb_segment_release(rec->origins[i].segment);
  for (uint32_t i = 0; i < rec->n_leaves; i++)
    fb_anchor_release(rec->leaves[i].anchor);
  n = rec->n_imports;
  rec->n_imports = 0;
  for (uint32_t i = 0; i < n; i++) {
    PyMem_Free(rec->imports[i].linked);
    PyMem_Free(rec->imports[i].histories);
    fb_segment_release(rec->imports[i].segment);
  }
  rec->n_leaves = rec->n_backwards = rec->n_entered = 0;
  fb_places_clear(&rec->places);
  while (rec->n_overtaken)
    fb_watch_release(rec->overtaken[--rec->n_overtaken].watch);
  rec->written = 0;
  fb_trie_limit();
  fb_undo_forget(rec);
  PyObject *exported = rec->exported, *states = rec->exported_states, *notes = rec->notes;
  rec->exported = rec->exported_states = rec->notes = NULL;
  rec->exported_to = 0;
  Py_XDECREF(exported);
  Py_XDECREF(states);
  Py_XDECREF(notes);
  while (rec->n_locs)
    Py_XDECREF((PyObject *)rec->locs[--rec->n_locs].code);
  fb_marks_drop(&rec->marks, &rec->n_marks, &rec->cap_marks);
}

void fb_trie_collect(void) {
  if (!fb_trie_root())
    return;
  for (fb_recorder *r = fb_recorders(); r; r = r->next) {
    fb_trie_mark(r->state);
    for (fb_node *n = r->held ? r->state->children : NULL; n; n = n->sibling)
      fb_trie_mark(n); /* its thread has one of these in hand */
  }
  for (fb_segment *s = fb_segments(); s; s = s->next)
    fb_trie_mark(s->state);
  fb_trie_sweep();
}

/* The static arguments, complex numbers and views in a key. */
static void mark_words(const fb_node *node) {
  if (node->kind == FB_CALL)
    fb_static_mark(fb_word_high(node->words[0]));
  else if (node->kind != FB_REACH && node->kind != FB_BACKWARD && node->kind != FB_GRAD)
    return;
  for (uint32_t i = 1; i < node->n_words; i++) {
    uint32_t slot = fb_word_slot(node->words[i]), view = fb_word_view(node->words[i]);
    if (view)
      fb_view_mark(view);
    else if (slot == FB_TAG_NUMBER && fb_word_high(node->words[i]) == FB_CONSTANT && i + 1 < node->n_words)
      fb_static_mark((uint32_t)node->words[i + 1]);
    i += slot == FB_TAG_NUMBER || slot == FB_TAG_SIZE;
  }
}

static void mark_interned(void) {
  for (const fb_node *node = fb_trie_nodes(); node; node = node->all_next) {
    fb_type_mark(node->type);
    for (uint32_t i = 0; node->results && i < node->n_results; i++) /* NULL: those of the state that it imports */
      fb_type_mark(node->results[i].type);
    mark_words(node);
  }
  for (const fb_recorder *r = fb_recorders(); r; r = r->next)
    for (uint32_t i = 0; i < r->n_inputs; i++)
      fb_type_mark(r->inputs[i].type);
  fb_views_mark();
}

static bool is_any_held(void) {
  for (const fb_recorder *r = fb_recorders(); r; r = r->next)
    if (r->held)
      return true;
  return false;
}

/* Cells count themselves in their types, and handles in their views; states, traces and views are asked here. A call on
 * its way holds its recorder (or says fb_in_hand) while it has a type that none of these has, or makes a cell of it
 * before anybody is let in. What is found without a holder has until the next collection to be asked for again:
 * somebody may have taken it from a tensor that has gone since. Numbers are never given twice, so keys with those of
 * forgotten ones are found by nobody.
 */
void fb_interned_limit(void) {
  static bool collecting;
  if (collecting || fb_in_hand || is_any_held())
    return;
  collecting = true;
  mark_interned();
  fb_types_sweep();
  fb_views_sweep();
  fb_statics_sweep();
  fb_splits_sweep();
  collecting = false;
}

void fb_trie_limit(void) {
  if (fb_trie_is_full())
    fb_trie_collect();
  if (FB_UNLIKELY(fb_types_are_full(fb_limits.max_types) || fb_statics_are_full(fb_limits.max_types) ||
                  fb_views_are_full(fb_limits.max_types)))
    fb_interned_limit();
}
