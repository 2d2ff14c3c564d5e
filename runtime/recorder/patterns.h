/* Keys without sizes, and what a node of the trie knows of them. */
#ifndef FB_PATTERNS_H
#define FB_PATTERNS_H

#include "function.h"

/* A key without sizes: interned skeletons stand for types, statics and views; the sizes are a list of their own. */
typedef struct {
  uint64_t *words;
  int64_t *sizes;
  uint32_t n, n_sizes, cap, cap_sizes;
} fb_pattern;
int fb_pattern_make(fb_pattern *p, int kind, fb_function *f, const uint64_t *words, uint32_t n);
void fb_pattern_clear(fb_pattern *p);

typedef struct {
  enum { FB_IS, FB_ANY, FB_EQUALS } kind; /* a constant, a new symbol (at least 2), an expression of symbols */
  int64_t value;
  fb_size *size;
} fb_condition;
typedef struct {
  int relation; /* with 0: ==, !=, <, >= */
  fb_size *size;
} fb_check;

/* What a node knows of sizes. */
typedef struct fb_sized {
  uint64_t *key; /* NULL: the node's words */
  uint32_t n_key, n_sizes, n_guards;
  bool here; /* starts with the user's line: only there */
  fb_condition *conditions;
  fb_check *guards;
  int64_t *sizes, *born; /* at its first time: the sizes of its key, the values of its parent's symbols */
  fb_size *draws;        /* random numbers taken from the stream; NULL: see the node */
  PyObject *exprs;       /* tuple: what the sizes are, ints or Sizes; NULL: ints */
  PyObject *equations;   /* of a flat trace's first state: list of programs of sizes that are 0; or NULL */
} fb_sized;
bool fb_sized_admits(const fb_node *node, fb_recorder *rec, const fb_pattern *pattern);
void fb_sized_free(fb_sized *s);

#endif
