/* Where things are in a trace that another thread's trace has them in, too.
 *
 * A cell, an anchor and a segment say themselves where they are in one trace: `home`, while `epoch` is its id. A second
 * trace that reads them at the same time keeps the answer in this table, so that nobody has to run anybody's trace
 * because both read one parameter. */
#include "capture.h"

static const char removed; /* its address marks a freed item */

static uint32_t hash_of(const void *key) { return (uint32_t)((uintptr_t)key * 0x9E3779B97F4A7C15ull >> 32); }

static fb_place *lookup(const fb_places *table, const void *key) {
  if (FB_LIKELY(!table->n))
    return NULL;
  for (uint32_t i = hash_of(key) & table->mask; table->items[i].key; i = (i + 1) & table->mask)
    if (table->items[i].key == key)
      return &table->items[i];
  return NULL;
}

static fb_place *free_item(fb_places *table, const void *key) {
  uint32_t i = hash_of(key) & table->mask;
  while (table->items[i].key)
    i = (i + 1) & table->mask;
  return &table->items[i];
}

static int reserve(fb_places *table) {
  if (table->items && (table->n + 1) * 2 <= table->mask)
    return 0;
  uint32_t old_size = table->items ? table->mask + 1 : 0, size = old_size ? old_size * 2 : 64;
  fb_places grown = {.items = PyMem_Calloc(size, sizeof *grown.items), .mask = size - 1};
  if (!grown.items)
    return PyErr_NoMemory(), -1;
  for (uint32_t i = 0; i < old_size; i++)
    if (table->items[i].key && table->items[i].key != &removed) {
      *free_item(&grown, table->items[i].key) = table->items[i];
      grown.n++;
    }
  PyMem_Free(table->items);
  *table = grown;
  return 0;
}

/* Overwrites what was there for the same key. A cell that was written has another input now. */
static int put(fb_recorder *rec, fb_place place) {
  fb_place *found = lookup(&rec->places, place.key);
  if (!found) {
    if (reserve(&rec->places) < 0)
      return -1;
    found = free_item(&rec->places, place.key);
    rec->places.n++;
  } else if (found->input != FB_NO_SLOT && found->input != place.input) {
    rec->inputs[found->input].cell = NULL;
  }
  *found = place;
  return 0;
}

void fb_places_clear(fb_places *table) {
  if (!table->n)
    return;
  memset(table->items, 0, (table->mask + 1) * sizeof *table->items);
  table->n = 0;
}

/* ---- cells ----------------------------------------------------------------------------------------------- */

bool fb_cell_find(const fb_recorder *rec, const fb_cell *c, fb_place *place) {
  if (c->epoch == rec->id) {
    *place = (fb_place){c, c->slot, c->use, c->history, c->input, c->version};
    return true;
  }
  const fb_place *found = lookup(&rec->places, c);
  if (!found || found->version != c->version) /* written since by another thread */
    return false;
  *place = *found;
  return true;
}

int fb_cell_put(fb_recorder *rec, fb_cell *c, fb_place place) {
  if (c->epoch != rec->id && fb_is_live(c->home, c->epoch)) {
    c->placed = true;
    place.key = c;
    place.version = c->version;
    return put(rec, place);
  }
  c->home = rec;
  c->epoch = rec->id;
  c->slot = place.slot;
  c->use = place.use;
  c->history = place.history;
  c->input = place.input;
  return 0;
}

void fb_cell_claim(fb_recorder *rec, fb_cell *c, const fb_place *place) {
  if (c->epoch == rec->id)
    return;
  if (fb_is_live(c->home, c->epoch) && c->input != FB_NO_SLOT)
    c->home->inputs[c->input].cell = NULL; /* it keeps the old value, which is no longer the cell's */
  c->home = rec;
  c->epoch = rec->id;
  c->slot = place->slot;
  c->use = place->use;
  c->history = place->history;
  c->input = place->input;
}

void fb_cell_unplace(fb_cell *c) {
  for (fb_recorder *r = fb_recorders(); r; r = r->next) {
    fb_place *found = lookup(&r->places, c);
    if (!found)
      continue;
    if (found->input != FB_NO_SLOT && r->inputs[found->input].cell == c)
      fb_leave_input(r, found->input);
    found->key = &removed;
  }
}

bool fb_cell_is_read_by(const fb_recorder *rec, const fb_cell *c) {
  return (c->home == rec && c->epoch == rec->id && c->slot != FB_NO_SLOT) || lookup(&rec->places, c);
}

/* ---- anchors and segments -------------------------------------------------------------------------------- */

bool fb_anchor_find(const fb_recorder *rec, const fb_anchor *a, fb_place *place) {
  if (a->epoch == rec->id) {
    *place = (fb_place){a, a->slot, a->data, a->index, FB_NO_SLOT, 0};
    return true;
  }
  const fb_place *found = lookup(&rec->places, a);
  if (found)
    *place = *found;
  return found != NULL;
}

int fb_anchor_put(fb_recorder *rec, fb_anchor *a, uint32_t slot, uint32_t data, uint32_t index) {
  if (a->epoch != rec->id && fb_is_live(a->home, a->epoch))
    return put(rec, (fb_place){a, slot, data, index, FB_NO_SLOT, 0});
  a->home = rec;
  a->epoch = rec->id;
  a->slot = slot;
  a->data = data;
  a->index = index;
  return 0;
}

fb_import *fb_import_of(const fb_recorder *rec, const fb_segment *s) {
  if (s->epoch == rec->id)
    return &rec->imports[s->import];
  const fb_place *found = lookup(&rec->places, s);
  return found ? &rec->imports[found->slot] : NULL;
}

int fb_import_put(fb_recorder *rec, fb_segment *s, uint32_t index) {
  if (fb_is_live(s->home, s->epoch))
    return put(rec, (fb_place){s, index, 0, 0, FB_NO_SLOT, 0});
  s->home = rec;
  s->epoch = rec->id;
  s->import = index;
  return 0;
}
