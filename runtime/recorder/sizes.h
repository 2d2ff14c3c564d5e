/* Sizes that differ from run to run.
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

PyObject *fb_symbol_tuple(const int64_t *symbols, uint32_t n);
uint32_t fb_skeleton_intern(const uint64_t *words, uint32_t n); /* 0: error */
/* The statics with placeholders for sizes (an id), and the sizes. -1: error. */
int64_t fb_static_sizes(fb_function *f, uint32_t statics, const int64_t **sizes, uint32_t *n);

#endif
