/* Sizes that differ from run to run. Included by recorder.h.
 *
 * A value of an extent, seen for the first time, is a constant of the trie's edge. When more values have come at the
 * same point, an edge is made that takes any: the extent becomes a symbol of the states behind it, whose results have
 * types with expressions of symbols in their shapes. Tensors always have plain types: a state's are evaluated with the
 * trace's values of the symbols. */
#ifndef FB_SIZES_H
#define FB_SIZES_H

#include "values.h"

struct fb_size {
  uint32_t n;
  fb_expr rows[]; /* the last is the value */
};
fb_size *fb_size_read(PyObject *size);    /* from (operator, a, b) rows, or a Size; NULL: error */
PyObject *fb_size_rows(const fb_size *s); /* the tuple it was read from */
bool fb_size_value(const fb_size *s, const int64_t *symbols, int64_t *value); /* false: it has none in 64 bits */

/* A key without sizes: interned skeletons stand for types, statics and views; the sizes are a list of their own. */
typedef struct {
  uint64_t *words;
  int64_t *sizes;
  uint32_t n, n_sizes, cap, cap_sizes;
} fb_pattern;
int fb_pattern_make(fb_pattern *p, int kind, fb_function *f, const uint64_t *words, uint32_t n);
void fb_pattern_clear(fb_pattern *p);
uint32_t fb_skeleton_intern(const uint64_t *words, uint32_t n); /* 0: error */
/* The statics with placeholders for sizes (an id), and the sizes. -1: error. */
int64_t fb_static_sizes(fb_function *f, uint32_t statics, const int64_t **sizes, uint32_t *n);

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
} fb_sized;
bool fb_sized_admits(const fb_node *node, fb_recorder *rec, const fb_pattern *pattern);
void fb_sized_free(fb_sized *s);

/* What is to be learnt at a miss. */
typedef struct {
  fb_pattern pattern;
  bool sized;       /* symbols take part: see `exprs` and `values` */
  bool by_pattern;  /* the node has to be found by its pattern */
  PyObject *bases;  /* per operand word of a slot with symbols in its shape that shape, else None */
  PyObject *exprs;  /* tuple, per size: int or Size */
  PyObject *values; /* tuple: all symbols' values, the new ones last */
  uint32_t n_new;
  fb_condition *conditions; /* per size; with by_pattern */
} fb_fit;
int fb_fit_make(fb_fit *fit, fb_recorder *rec, int kind, fb_function *f, const uint64_t *words, uint32_t n);
void fb_fit_clear(fb_fit *fit);
/* Make `node`, which has just been added to rec's state, depend on sizes as `fit` says. `guards`: (relation, rows)s, or
 * NULL; `views`: for the operand words with views, in order, payloads with symbols in them, or NULL. */
int fb_fit_apply(fb_fit *fit, fb_recorder *rec, fb_node *node, PyObject *guards, PyObject *views);
int fb_node_guard(fb_node *node, PyObject *guards);     /* sequence of (relation, rows) */
int fb_node_pin(fb_node *node, const int64_t *symbols); /* for exactly these sizes */
PyObject *fb_symbol_tuple(const int64_t *symbols, uint32_t n);
bool fb_strict_sizes(void);

#endif
