/* Single ops on small operands, done in C while they have no plan; what small_op.c, small_op_kinds.c and op_list_run.c
 * share.
 */
#ifndef FLAMBEAU_BINDING_SMALL_OP_H
#define FLAMBEAU_BINDING_SMALL_OP_H

#include "body.h"

enum { FB_SMALL_OPERANDS = 4, FB_SMALL_DIMS = 8 };

/* How elements are visited: `extents`, and bytes from one to the next along each. */
typedef struct {
  int32_t n_dims;
  int64_t extents[FB_SMALL_DIMS], strides[FB_SMALL_DIMS];
} fb_walk;

/* How many elements are visited. */
static inline int64_t fb_walk_size(const fb_walk *walk) {
  int64_t n = 1;
  for (int32_t d = 0; d < walk->n_dims; d++)
    n *= walk->extents[d];
  return n;
}

typedef struct fb_small_op {
  PyObject_HEAD bool (*run)(const struct fb_small_op *op, const char *const *operands,
                            char *out); /* false: no memory */
  int32_t n_operands;
  size_t bytes[FB_SMALL_OPERANDS], sizes[FB_SMALL_OPERANDS]; /* of the operands, of an element of each */
  size_t out_bytes, size;
  int64_t n;               /* elements of the result */
  int nan_bytes;           /* of floats whose NaNs are made the canonical one; or 0 */
  PyObject *code, *values; /* bytes that it holds */
  fb_body body;
  fb_walk kept, folded; /* of the one operand that is moved or folded */
  int64_t offset;
  int64_t batch, m, k, columns; /* of products */
} fb_small_op;

/* The result of the op in a new buffer; NULL and an exception on failure. */
fb_buffer *fb_small_run(const fb_small_op *op, const char *const *operands);
bool fb_is_small_op(PyObject *object);
int fb_small_init(PyObject *module);

bool fb_small_elementwise(const fb_small_op *op, const char *const *operands, char *out);
bool fb_small_moved(const fb_small_op *op, const char *const *operands, char *out);
bool fb_small_constant(const fb_small_op *op, const char *const *operands, char *out);
bool fb_small_folded_inner(const fb_small_op *op, const char *const *operands, char *out);
bool fb_small_folded_outer(const fb_small_op *op, const char *const *operands, char *out);
bool fb_small_product(const fb_small_op *op, const char *const *operands, char *out);

#endif
