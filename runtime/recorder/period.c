/* Where a program repeats itself and nobody looks at a value: loops over plain tensors have nothing else to end a
 * trace. Asked on misses only; the answer stays with the state, as any other place where traces are cut. */
#include "trace.h"

#define FB_LOOKED_AT 1024

/* The trace's last calls, the latest first, as far back as none has gradient history: that would be cut to pieces. */
static uint32_t last_calls(const fb_node *state, const fb_node **calls) {
  uint32_t n = 0;
  for (const fb_node *node = state; node->depth && n < FB_LOOKED_AT; node = node->parent) {
    if (node->type && node->type->requires_grad && node->kind == FB_CALL)
      break;
    if (node->kind == FB_CALL)
      calls[n++] = node;
  }
  return n;
}

/* The same function, mode and static arguments; operands differ from one round to the next. */
static int compare(const fb_node *a, const fb_node *b) {
  if (a->words[0] != b->words[0])
    return a->words[0] < b->words[0] ? -1 : 1;
  return (a->n_words > b->n_words) - (a->n_words < b->n_words);
}

/* The least number of calls after which the last ones came again, and again; 0: none. */
static uint32_t period_of(const fb_node **calls, uint32_t n) {
  for (uint32_t p = 1; 3 * p <= n; p++) {
    uint32_t i = 0;
    while (i < 2 * p && compare(calls[i], calls[i + p]) == 0)
      i++;
    if (i == 2 * p)
      return p;
  }
  return 0;
}

/* Every trace of the loop is to begin with the same call of it: how many calls are left before the least rotation. */
static uint32_t calls_left(const fb_node **calls, uint32_t p) {
  uint32_t best = 0;
  for (uint32_t r = 1; r < p; r++)
    for (uint32_t k = 0; k < p; k++) { /* oldest first: call k of the round is calls[p - 1 - k] */
      int order = compare(calls[p - 1 - (r + k) % p], calls[p - 1 - (best + k) % p]);
      if (order < 0)
        best = r;
      if (order != 0)
        break;
    }
  return best;
}

static uint32_t end_of(const fb_node *call) { return call->base + call->n_scalars + call->n_results; }

/* Does a call follow from one that was a whole round earlier, by whatever way through the last three rounds? If none
 * does, as where layers are initialised, rounds leave their results behind, and a trace may have more of them. */
static bool hands_on(const fb_node **calls, uint32_t p) {
  uint32_t from[FB_LOOKED_AT], n = 3 * p; /* the earliest call that each follows from */
  for (uint32_t k = n; k--;) {
    from[k] = k;
    for (uint32_t i = 1; i < calls[k]->n_words; i++) {
      uint32_t slot = fb_word_slot(calls[k]->words[i]), maker = k + 1;
      i += slot == FB_TAG_NUMBER || slot == FB_TAG_SIZE;
      if (slot >= FB_TAG_FIRST || slot < calls[n - 1]->base)
        continue;
      while (maker < n && calls[maker]->base > slot)
        maker++;
      if (maker < n && slot < end_of(calls[maker]) && from[maker] > from[k]) /* otherwise it is an input */
        from[k] = from[maker];
    }
    if (from[k] - k >= p)
      return true;
  }
  return false;
}

void fb_note_repetition(fb_recorder *rec, fb_node *node) {
  if (rec->calls_left) {
    if (--rec->calls_left == 0)
      node->flags |= FB_CUT;
    return;
  }
  uint32_t least = fb_limits.soft_ops / 4;
  if (node->depth < least || node->depth < rec->look_again)
    return;
  rec->look_again = node->depth + node->depth / 2;
  const fb_node **calls = PyMem_Malloc(FB_LOOKED_AT * sizeof *calls);
  uint32_t n = calls ? last_calls(node, calls) : 0, p = calls ? period_of(calls, n) : 0;
  bool is_long = node->depth >= fb_limits.soft_ops || node->ns >= fb_limits.soft_ns;
  if (p && (is_long || hands_on(calls, p))) {
    rec->calls_left = calls_left(calls, p);
    if (!rec->calls_left)
      node->flags |= FB_CUT;
  }
  PyMem_Free(calls);
}
