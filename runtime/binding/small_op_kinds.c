/* What each kind of small op does. Next: small_op.c, which makes them. */
#include "small_op.h"

#include <stdbool.h>
#include <string.h>

enum { BLOCK = FB_BODY_BLOCK, LANES = 64, CHUNK = 4096, CHAIN = 64, UNIT = FB_BODY_UNIT, MOST_PARTS = 64 };

bool fb_small_elementwise(const fb_small_op *op, const char *const *operands, char *out) {
  return fb_body_run(&op->body, operands, op->sizes, out, op->size, op->n);
}

bool fb_small_constant(const fb_small_op *op, const char *const *operands, char *out) {
  (void)operands;
  memcpy(out, PyBytes_AS_STRING(op->values), op->out_bytes);
  return true;
}

/* ---- elements where they lie ------------------------------------------------------------------------------ */

/* A place that goes through a walk. */
typedef struct {
  const fb_walk *walk;
  const char *at;
  int64_t index[FB_SMALL_DIMS];
} Place;

static void move_on(Place *place) {
  for (int32_t d = place->walk->n_dims - 1; d >= 0; d--) {
    place->at += place->walk->strides[d];
    if (++place->index[d] < place->walk->extents[d])
      return;
    place->at -= place->walk->strides[d] * place->walk->extents[d];
    place->index[d] = 0;
  }
}

static void copy_line(const char *from, int64_t stride, size_t size, char *to, int64_t n) {
  if (stride == (int64_t)size) {
    memcpy(to, from, (size_t)n * size);
  } else if (size == 4) {
    for (int64_t i = 0; i < n; i++)
      memcpy(to + i * 4, from + i * stride, 4);
  } else if (size == 8) {
    for (int64_t i = 0; i < n; i++)
      memcpy(to + i * 8, from + i * stride, 8);
  } else {
    for (int64_t i = 0; i < n; i++)
      memcpy(to + i * (int64_t)size, from + i * stride, size);
  }
}

bool fb_small_moved(const fb_small_op *op, const char *const *operands, char *out) {
  fb_walk lines = op->kept; /* all but the last extent */
  int64_t n = lines.n_dims == 0 ? 1 : lines.extents[lines.n_dims - 1];
  int64_t stride = lines.n_dims == 0 ? 0 : lines.strides[lines.n_dims - 1];
  lines.n_dims -= lines.n_dims > 0;
  Place place = {.walk = &lines, .at = operands[0] + op->offset};
  for (int64_t i = 0; i < op->n; i += n, move_on(&place))
    copy_line(place.at, stride, op->size, out + i * (int64_t)op->size, n);
  return true;
}

/* ---- folds: the order of docs/architecture.md ------------------------------------------------------------- */

/* left[i] = combine(left[i], right[i]) */
static bool combine(const fb_small_op *op, char *left, const char *right, int64_t n) {
  const char *operands[] = {left, right};
  const size_t sizes[] = {op->size, op->size};
  return fb_body_run(&op->body, operands, sizes, left, op->size, n);
}

static void fill(const fb_small_op *op, char *to, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    memcpy(to + i * (int64_t)op->size, PyBytes_AS_STRING(op->values), op->size);
}

/* Parts of equal numbers of chunks are added up two by two: `parts` has one for each bit of `chunk`, the chunks so far,
 * the last one being new. At the end, all of them. */
static bool pair_up(const fb_small_op *op, char *parts, int *n_parts, int64_t chunk, bool is_end, int64_t columns) {
  size_t bytes = (size_t)columns * op->size;
  for (; *n_parts > 1 && (is_end || chunk % 2 == 0); chunk /= 2, (*n_parts)--)
    if (!combine(op, parts + (size_t)(*n_parts - 2) * bytes, parts + (size_t)(*n_parts - 1) * bytes, columns))
      return false;
  return true;
}

/* The lanes of a chunk of `n` elements from `place` on, in halves; what is left is in the first one. */
static bool fold_chunk(const fb_small_op *op, Place *place, char *lanes, int64_t n) {
  char elements[LANES * UNIT];
  int64_t size = (int64_t)op->size;
  fill(op, lanes, LANES);
  for (int64_t start = 0; start < n; start += LANES) {
    int64_t now = n - start < LANES ? n - start : LANES;
    for (int64_t i = 0; i < now; i++, move_on(place))
      memcpy(elements + i * size, place->at, op->size);
    if (!combine(op, lanes, elements, now))
      return false;
  }
  int64_t width = 1;
  while (width < LANES && width < n)
    width *= 2; /* lanes beyond hold the identity */
  for (width /= 2; width > 0; width /= 2)
    if (!combine(op, lanes, lanes + width * size, width))
      return false;
  return true;
}

bool fb_small_folded_inner(const fb_small_op *op, const char *const *operands, char *out) {
  int64_t count = fb_walk_size(&op->folded), size = (int64_t)op->size;
  Place row = {.walk = &op->kept, .at = operands[0]};
  char parts[(MOST_PARTS + LANES) * UNIT]; /* the lanes lie where the next part will */
  for (int64_t i = 0; i < op->n; i++, move_on(&row)) {
    Place place = {.walk = &op->folded, .at = row.at};
    int n_parts = 0;
    fill(op, parts, 1);
    for (int64_t start = 0, chunk = 1; start < count; start += CHUNK, chunk++) {
      int64_t now = count - start < CHUNK ? count - start : CHUNK;
      if (!fold_chunk(op, &place, parts + n_parts * size, now))
        return false;
      n_parts++;
      if (!pair_up(op, parts, &n_parts, chunk, false, 1))
        return false;
    }
    if (!pair_up(op, parts, &n_parts, 0, true, 1))
      return false;
    memcpy(out + i * size, parts, op->size);
  }
  return true;
}

/* So many columns, of which `column` is the first. */
static bool fold_columns(const fb_small_op *op, Place *column, char *out, int64_t n) {
  int64_t count = fb_walk_size(&op->folded), size = (int64_t)op->size, at[BLOCK];
  const char *base = column->at;
  for (int64_t i = 0; i < n; i++, move_on(column))
    at[i] = column->at - base;
  char parts[MOST_PARTS * BLOCK * UNIT], elements[BLOCK * UNIT];
  int n_parts = 0;
  fill(op, parts, n);
  Place row = {.walk = &op->folded, .at = base};
  for (int64_t start = 0, chain = 1; start < count; start += CHAIN, chain++) {
    char *part = parts + n_parts++ * n * size;
    fill(op, part, n);
    for (int64_t k = start; k < count && k < start + CHAIN; k++, move_on(&row)) {
      for (int64_t i = 0; i < n; i++)
        memcpy(elements + i * size, row.at + at[i], op->size);
      if (!combine(op, part, elements, n))
        return false;
    }
    if (!pair_up(op, parts, &n_parts, chain, false, n))
      return false;
  }
  if (!pair_up(op, parts, &n_parts, 0, true, n))
    return false;
  memcpy(out, parts, (size_t)(n * size));
  return true;
}

bool fb_small_folded_outer(const fb_small_op *op, const char *const *operands, char *out) {
  Place column = {.walk = &op->kept, .at = operands[0]};
  for (int64_t i = 0; i < op->n; i += BLOCK) {
    int64_t n = op->n - i < BLOCK ? op->n - i : BLOCK;
    if (!fold_columns(op, &column, out + i * (int64_t)op->size, n))
      return false;
  }
  return true;
}
