/* What calls of functions in Python have come to, found again by what they were given. As many as fit the table: a new
 * one takes the place of the older one of the two that were found where it is looked for. */
#include "values.h"

#define FB_SETS 2048
static fb_recalled *table[FB_SETS][2]; /* the younger one first */

static uint32_t hash_of(const uint64_t *words, uint32_t n) {
  uint64_t h = 0;
  for (uint32_t i = 0; i < n; i++)
    h = (h ^ words[i]) * 0x9E3779B97F4A7C15ull;
  return (uint32_t)(h >> 32 ^ h >> 13);
}

static bool is_of(const fb_recalled *known, const fb_asked *asked) {
  return known && known->n == asked->n && !memcmp(known->words, asked->words, asked->n * sizeof *asked->words);
}

const fb_recalled *fb_recalled_find(fb_asked *asked) {
  asked->hash = hash_of(asked->words, asked->n);
  fb_recalled **set = table[asked->hash % FB_SETS];
  if (FB_LIKELY(is_of(set[0], asked)))
    return set[0];
  return is_of(set[1], asked) ? set[1] : NULL;
}

/* What is let go here are numbers, strings, dtypes, tuples of these, functions and their streams: no Python code runs.
 */
void fb_forwarded_leave(fb_forwarded *forwarded) {
  if (!forwarded || --forwarded->refs)
    return;
  for (uint32_t i = 0; i < forwarded->n; i++)
    Py_XDECREF(forwarded->of[i].value);
  Py_XDECREF((PyObject *)forwarded->made);
  Py_DECREF((PyObject *)forwarded->function);
  PyMem_Free(forwarded);
}

void fb_recalled_clear(fb_recalled *found) {
  fb_forwarded_leave(found->forwarded);
  PyMem_Free(found->starts);
  PyMem_Free(found->shown);
}

static void forget(fb_recalled *known) {
  if (!known)
    return;
  for (uint32_t i = 0; i < known->n_pins; i++)
    Py_DECREF(known->pins[i]);
  fb_recalled_clear(known);
  PyMem_Free(known);
}

/* Without memory for it nothing is remembered. */
void fb_recalled_keep(const fb_asked *asked, fb_recalled *found) {
  fb_recalled *known = PyMem_Malloc(sizeof *known);
  if (!known) {
    fb_recalled_clear(found);
    return;
  }
  *known = *found;
  known->n = asked->n;
  known->n_pins = asked->n_pins;
  memcpy(known->words, asked->words, asked->n * sizeof *asked->words);
  for (uint32_t i = 0; i < asked->n_pins; i++)
    known->pins[i] = Py_NewRef(asked->pins[i]);
  fb_recalled **set = table[asked->hash % FB_SETS], *old = set[1];
  set[1] = set[0];
  set[0] = known;
  forget(old);
}

void fb_recalled_sweep(void) {
  for (uint32_t i = 0; i < 2 * FB_SETS; i++) {
    fb_recalled *old = table[i / 2][i % 2];
    table[i / 2][i % 2] = NULL;
    forget(old);
  }
}
