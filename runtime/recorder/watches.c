/* Values that gradients may still read after their trace has run, and whether they have been overwritten in their
 * tensors since. */
#include "capture.h"

void fb_watch_release(fb_watch *w) {
  if (!--w->refs)
    PyMem_Free(w);
}

int fb_watch_note(fb_recorder *rec, fb_watch *w, bool aside, uint32_t slot) {
  if (fb_undo_note_write(rec, w, aside, slot) < 0)
    return -1;
  ++*(aside ? &w->aside : &w->writes);
  return 0;
}

static fb_watch *watch_of(fb_cell *c) {
  if (!c->watch && (c->watch = PyMem_Calloc(1, sizeof *c->watch)))
    c->watch->refs = 1; /* the cell's */
  return c->watch ? c->watch : (fb_watch *)PyErr_NoMemory();
}

static int add(fb_watched **list, uint32_t *n, uint32_t *cap, fb_watched watched) {
  if (fb_grow((void **)list, cap, *n + 1, sizeof watched) < 0)
    return -1;
  watched.watch->refs++;
  (*list)[(*n)++] = watched;
  return 0;
}

static int add_to_segment(fb_segment *s, uint32_t *room, fb_watched watched) {
  watched.slot = fb_flat_slot(s->program, watched.slot);
  if (watched.slot == FB_NO_SLOT) /* it is watched where it was made */
    return 0;
  return add(&s->watched, &s->n_watched, room, watched);
}

/* ---- by other traces, while the one that has read it waits ----------------------------------------------- */

static int overtake(fb_recorder *reader, fb_cell *c, uint32_t input) {
  if (input == FB_NO_SLOT || !(reader->n_leaves || reader->n_origins)) /* nothing that it computes has a gradient */
    return 0;
  const fb_watch *w = watch_of(c);
  return w ? add(&reader->overtaken, &reader->n_overtaken, &reader->cap_overtaken,
                 (fb_watched){c->watch, reader->inputs[input].slot, w->writes, w->aside, false})
           : -1;
}

int fb_watch_readers(const fb_recorder *writer, fb_cell *c) {
  fb_place place;
  if (c->epoch != writer->id && fb_is_live(c->home, c->epoch) && overtake(c->home, c, c->input) < 0)
    return -1;
  for (fb_recorder *r = c->placed ? fb_recorders() : NULL; r; r = r->next)
    if (r->id != c->epoch && r != writer && fb_cell_find(r, c, &place) && overtake(r, c, place.input) < 0)
      return -1;
  return 0;
}

/* ---- since the trace has run ----------------------------------------------------------------------------- */

/* The cell whose value, from before the trace or of it, slot `slot` is; NULL: none any more. */
static fb_cell *holder_of(const fb_recorder *rec, uint32_t slot) {
  fb_cell *c = rec->owner[slot];
  const fb_trace_input *in = c ? NULL : fb_input_at(rec, slot);
  if (in)
    c = in->cell;
  return c && !c->shared ? c : NULL;
}

/* The writes from now on to the cell that has slot `held`, on behalf of slot `slot`. Those within the trace are known
 * there. */
static int watch_slot(fb_segment *s, uint32_t *room, const fb_recorder *rec, uint32_t slot, uint32_t held) {
  fb_cell *c = holder_of(rec, held);
  fb_place place = {.slot = held, .use = FB_NO_SLOT};
  if (!c || !fb_cell_find(rec, c, &place) || place.slot != held)
    return 0;
  const fb_watch *w = watch_of(c);
  if (!w)
    return -1;
  bool moved = slot == held && place.use != FB_NO_SLOT;
  return add_to_segment(s, room, (fb_watched){c->watch, moved ? place.use : slot, w->writes, w->aside, false});
}

/* Whether a slot of a trace is a leaf, or what has the history of one. */
static bool is_leaf(const fb_node *state, uint32_t slot) {
  const fb_node *n = state;
  while (n->depth && !((n->kind == FB_LEAF || n->kind == FB_GRAFT) && n->base == slot))
    n = n->parent;
  return n->depth && (n->kind == FB_LEAF || is_leaf(state, fb_word_high(n->words[1])));
}

/* In a flat trace, what an imported one shows under a slot, and under others that show the same, are values of their
 * own, and no leaves: that they were is noted. */
static int add_imported(fb_segment *s, uint32_t *room, const fb_import *in, fb_watched watched) {
  uint32_t slot = watched.slot - in->base;
  const fb_node *state = in->segment->state;
  int status = 0;
  for (const fb_node *n = state; !watched.leaf && n->depth; n = n->parent)
    watched.leaf =
        (n->kind == FB_LEAF || n->kind == FB_GRAFT) && fb_word_slot(n->words[1]) == slot && is_leaf(state, n->base);
  for (const fb_node *n = state; status == 0 && n->depth; n = n->parent)
    if ((n->kind == FB_LEAF || n->kind == FB_GRAFT) && fb_word_slot(n->words[1]) == slot) {
      watched.slot = in->base + n->base;
      status = add_to_segment(s, room, watched);
    }
  watched.slot = in->base + slot;
  return status < 0 ? -1 : add_to_segment(s, room, watched);
}

/* Those of `n` that the program's gradients read; of an imported trace, or NULL. */
static int take_watched(fb_segment *s, uint32_t *room, const fb_program *p, const fb_watched *watched, uint32_t n,
                        const fb_import *in) {
  int status = 0;
  for (uint32_t i = 0; status == 0 && i < n; i++) {
    fb_watched one = watched[i];
    one.slot += in ? in->base : 0;
    if (!fb_contains(p->watched, p->n_watched, one.slot))
      continue;
    status = in && p->flat ? add_imported(s, room, in, one) : add_to_segment(s, room, one);
  }
  return status;
}

int fb_segment_watch(fb_segment *s, const fb_recorder *rec, const fb_program *p) {
  uint32_t room = 0;
  int status = 0;
  for (uint32_t i = 0; status == 0 && i < p->n_watched; i++)
    status = watch_slot(s, &room, rec, p->watched[i], p->watched[i]);
  for (uint32_t i = 0; status == 0 && i + 1 < p->n_followed; i += 2)
    status = watch_slot(s, &room, rec, p->followed[i], p->followed[i + 1]);
  if (status == 0)
    status = take_watched(s, &room, p, rec->overtaken, rec->n_overtaken, NULL);
  for (uint32_t k = 0; status == 0 && p->n_watched && k < rec->n_imports; k++) {
    const fb_import *in = &rec->imports[k];
    status = take_watched(s, &room, p, in->segment->watched, in->segment->n_watched, in);
  }
  return status;
}

void fb_segment_unwatch(fb_segment *s) {
  for (uint32_t i = 0; i < s->n_watched; i++)
    fb_watch_release(s->watched[i].watch);
  PyMem_Free(s->watched);
}

uint32_t fb_watched_writes(const fb_watched *watched, uint32_t n, bool aside, uint32_t base, uint64_t *words) {
  uint32_t found = 0;
  for (uint32_t i = 0; i < n; i++) {
    const fb_watched *w = &watched[i];
    bool written = w->watch->writes != w->writes;
    if (aside ? !written && !w->leaf && w->watch->aside != w->aside : written)
      words[found++] = base + w->slot;
  }
  return found;
}
