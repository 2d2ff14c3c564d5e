/* Values that gradients may still read after their trace has run, and whether they have been overwritten in their
 * tensors since. */
#include "capture.h"

void fb_watch_release(fb_watch *w) {
  if (!--w->refs)
    PyMem_Free(w);
}

int fb_watch_note(fb_recorder *rec, fb_watch *w, bool detached, uint32_t slot) {
  if (fb_undo_note_write(rec, w, detached, slot) < 0)
    return -1;
  ++*(detached ? &w->aside : &w->writes);
  return 0;
}

static fb_watch *watch_of(fb_cell *c) {
  if (!c->watch && (c->watch = PyMem_Calloc(1, sizeof *c->watch)))
    c->watch->refs = 1; /* the cell's */
  return c->watch ? c->watch : (fb_watch *)PyErr_NoMemory();
}

static int add(fb_segment *s, uint32_t *room, fb_watched watched) {
  if (fb_grow((void **)&s->watched, room, s->n_watched + 1, sizeof *s->watched) < 0)
    return -1;
  watched.watch->refs++;
  s->watched[s->n_watched++] = watched;
  return 0;
}

/* The cell whose value, from before the trace or of it, slot `slot` is; NULL: none any more. */
static fb_cell *holder_of(const fb_recorder *rec, uint32_t slot) {
  fb_cell *c = rec->owner[slot];
  uint32_t low = 0, high = rec->n_inputs;
  while (!c && low < high) {
    uint32_t middle = (low + high) / 2;
    if (rec->inputs[middle].slot < slot)
      low = middle + 1;
    else
      high = middle;
  }
  if (!c && low < rec->n_inputs && rec->inputs[low].slot == slot)
    c = rec->inputs[low].cell;
  return c && !c->shared ? c : NULL;
}

/* A cell whose value the trace has read or made. That of one that has been overwritten in the trace is known there; by
 * another thread: it counts as written from the start. */
static int watch_slot(fb_segment *s, uint32_t *room, const fb_recorder *rec, uint32_t slot) {
  fb_cell *c = holder_of(rec, slot);
  fb_place place = {.slot = slot, .use = FB_NO_SLOT};
  bool current = c && fb_cell_find(rec, c, &place);
  if (!c || (current && place.slot != slot))
    return 0;
  const fb_watch *w = watch_of(c);
  if (!w)
    return -1;
  slot = current && place.use != FB_NO_SLOT ? place.use : slot;
  return add(s, room, (fb_watched){c->watch, slot, w->writes - !current, w->aside});
}

int fb_segment_watch(fb_segment *s, const fb_recorder *rec, const fb_program *p) {
  uint32_t room = 0;
  int status = 0;
  for (uint32_t i = 0; status == 0 && i < p->n_watched; i++)
    status = watch_slot(s, &room, rec, p->watched[i]);
  for (uint32_t k = 0; p->n_watched && k < rec->n_imports; k++) {
    const fb_import *in = &rec->imports[k];
    for (uint32_t i = 0; status == 0 && i < in->segment->n_watched; i++) {
      fb_watched watched = in->segment->watched[i];
      watched.slot += in->base;
      if (fb_contains(p->watched, p->n_watched, watched.slot))
        status = add(s, &room, watched);
    }
  }
  return status;
}

void fb_segment_unwatch(fb_segment *s) {
  for (uint32_t i = 0; i < s->n_watched; i++)
    fb_watch_release(s->watched[i].watch);
  PyMem_Free(s->watched);
}

uint32_t fb_segment_writes(const fb_segment *s, bool aside, uint32_t base, uint64_t *words) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < s->n_watched; i++) {
    const fb_watched *w = &s->watched[i];
    bool written = w->watch->writes != w->writes;
    if (aside ? !written && w->watch->aside != w->aside : written)
      words[n++] = base + w->slot;
  }
  return n;
}
