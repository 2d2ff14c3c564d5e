/* Which histories backwards have used up. A segment knows it as soon as such a backward is recorded, whatever thread
 * has done so; its values go once that has run, and nobody can ask for them any more. */
#include "capture.h"

/* ---- ascending sets of slots ----------------------------------------------------------------------------- */

/* Those of `slots` that are slots of the import, as slots of its segment, and new there. NULL: out of memory. */
static uint32_t *new_in(const fb_import *import, const uint32_t *slots, uint32_t n, uint32_t *n_new) {
  const fb_segment *s = import->segment;
  uint32_t *found = PyMem_Malloc((n + (size_t)1) * sizeof *found);
  *n_new = 0;
  for (uint32_t i = 0; found && i < n; i++) {
    uint32_t slot = slots[i] - import->base;
    if (slots[i] >= import->base && slot < s->n_slots && !fb_contains(s->ended, s->n_ended, slot))
      found[(*n_new)++] = slot;
  }
  return found ? found : (uint32_t *)PyErr_NoMemory();
}

/* There is room, and none of them is there. */
static void merge(fb_segment *s, const uint32_t *slots, uint32_t n) {
  uint32_t at = s->n_ended += n;
  for (uint32_t old = at - n; n;)
    s->ended[--at] = old && s->ended[old - 1] > slots[n - 1] ? s->ended[--old] : slots[--n];
  s->ends++;
}

void fb_segment_forget_ended(fb_segment *s, const uint32_t *slots, uint32_t n) {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < s->n_ended; i++)
    if (!fb_contains(slots, n, s->ended[i]))
      s->ended[kept++] = s->ended[i];
  s->n_ended = kept;
  s->ends++;
}

/* ---- recording ------------------------------------------------------------------------------------------- */

static int end_import(fb_recorder *rec, fb_import *import, const uint32_t *slots, uint32_t n, uint32_t now) {
  fb_segment *s = import->segment;
  uint32_t n_new, *added = new_in(import, slots, n, &n_new);
  if (!added)
    return -1;
  if (!n_new || fb_grow((void **)&s->ended, &s->cap_ended, s->n_ended + n_new, sizeof *s->ended) < 0 ||
      fb_undo_note_ended(rec, s, added, n_new, now) < 0) {
    PyMem_Free(added);
    return n_new ? -1 : 0;
  }
  bool up_to_date = import->ends == s->ends;
  merge(s, added, n_new);
  if (up_to_date)
    import->ends = s->ends;
  return 0;
}

int fb_note_ended(fb_recorder *rec, const uint32_t *slots, uint32_t n, uint32_t now) {
  for (uint32_t i = 0; n && i < rec->n_imports; i++)
    if (end_import(rec, &rec->imports[i], slots, n, now) < 0)
      return -1;
  return 0;
}

/* ---- values that nobody can ask for any more ------------------------------------------------------------- */

/* Mark the slots that a backward of the trace itself, or one since, has been through. */
static void mark_ended(const fb_segment *s, fb_node **path, uint8_t *ended) {
  for (uint32_t i = 0; i < s->n_ended; i++)
    ended[s->ended[i]] = 1;
  for (uint32_t i = 0; i < s->state->depth; i++)
    for (uint32_t k = 0; path[i]->kind > FB_REACH && k < path[i]->n_aux; k++)
      ended[path[i]->aux[k]] = 1;
}

/* Whether a backward from one of the roots still comes to a call that none has been through. */
static bool has_calls_left(const fb_segment *s, fb_node **path, const uint8_t *needed, const uint8_t *ended) {
  for (uint32_t i = 0; i < s->state->depth; i++) {
    const fb_node *node = path[i];
    uint32_t first = node->base + node->n_scalars;
    for (uint32_t k = 0; node->kind == FB_CALL && k < node->n_results; k++)
      if (node->results[k].type && node->results[k].type->requires_grad && needed[first + k] && !ended[first + k])
        return true;
  }
  return false;
}

static bool needs_values(const fb_segment *s) {
  uint8_t *needed = PyMem_Calloc(s->n_slots + (size_t)1, 1), *ended = PyMem_Calloc(s->n_slots + (size_t)1, 1);
  fb_node **path = fb_trie_path(s->state);
  bool known = needed && ended && path;
  for (uint32_t i = 0; known && i < s->n_roots; i++)
    needed[s->roots[i]] = 1;
  known = known && fb_reach(s->state, needed) == 0;
  if (known)
    mark_ended(s, path, ended);
  else
    PyErr_Clear(); /* out of memory: they stay */
  bool found = !known || has_calls_left(s, path, needed, ended);
  PyMem_Free(path);
  PyMem_Free(ended);
  PyMem_Free(needed);
  return found;
}

void fb_segment_settle(fb_segment *s) {
  if (--s->pending || s->freed || !s->n_ended)
    return;
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  if (!needs_values(s))
    fb_segment_drop_values(s);
  PyErr_Restore(type, value, traceback);
}
