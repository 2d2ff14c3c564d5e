/* Views made by indexing, found again by what they select: sizes, steps and shape of a window of what they are taken
 * of.
 */
#include "values.h"

static fb_selection *table; /* open addressing; as many as there are views made by indexing */
static uint32_t n_known, mask;

static uint32_t hash_of(const fb_selection *s) {
  uint64_t h = (uint64_t)(uintptr_t)s->origin + s->detached;
  for (uint32_t i = 0; i < s->n; i++)
    h = (h ^ (uint64_t)s->key[i]) * 0x9E3779B97F4A7C15ull;
  return (uint32_t)(h >> 32 ^ h >> 13);
}

const fb_view *fb_selection_find(fb_selection *asked) {
  asked->hash = hash_of(asked);
  for (uint32_t i = asked->hash & mask; table && table[i].view; i = (i + 1) & mask) {
    const fb_selection *k = &table[i];
    if (k->hash == asked->hash && k->origin == asked->origin && k->detached == asked->detached && k->n == asked->n &&
        !memcmp(k->key, asked->key, k->n * sizeof *k->key))
      return k->view;
  }
  return NULL;
}

static void place(const fb_selection *known) {
  uint32_t i = known->hash & mask;
  while (table[i].view)
    i = (i + 1) & mask;
  table[i] = *known;
}

static int reserve(void) {
  if (table && (n_known + 1) * 2 <= mask)
    return 0;
  uint32_t size = table ? (mask + 1) * 2 : 256, old_size = table ? mask + 1 : 0;
  fb_selection *old = table, *grown = PyMem_Calloc(size, sizeof *grown);
  if (!grown)
    return PyErr_NoMemory(), -1;
  table = grown;
  mask = size - 1;
  for (uint32_t i = 0; i < old_size; i++)
    if (old[i].view)
      place(&old[i]);
  PyMem_Free(old);
  return 0;
}

int fb_selection_remember(const fb_selection *found) {
  fb_selection known = *found;
  int64_t *key = PyMem_Malloc(known.n * sizeof *key);
  if (!key)
    return PyErr_NoMemory(), -1;
  memcpy(key, known.key, known.n * sizeof *key);
  known.key = key;
  if (reserve() < 0) {
    PyMem_Free(key);
    return -1;
  }
  place(&known);
  n_known++;
  return 0;
}

/* Without memory for the others all are learnt anew. */
void fb_selections_sweep(void) {
  fb_selection *old = table;
  table = old ? PyMem_Calloc((size_t)mask + 1, sizeof *table) : NULL;
  n_known = 0;
  for (uint32_t i = 0; old && i <= mask; i++) {
    if (table && old[i].view && !fb_view_is_dead(old[i].view)) {
      place(&old[i]);
      n_known++;
    } else {
      PyMem_Free((void *)old[i].key);
    }
  }
  PyMem_Free(old);
}
