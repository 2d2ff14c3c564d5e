/* A plan as the runner wants it. Made by plan.c, sized by plan_sizes.c, run by plan_run.c. */
#ifndef FLAMBEAU_PLAN_H
#define FLAMBEAU_PLAN_H

#include "internal.h"

/* What the expressions say for one run. Kept in the plan when it has no symbols. */
typedef struct {
  int64_t *values;       /* per expression */
  int64_t *offsets;      /* per ref, in bytes */
  int64_t *dims;         /* per entry of the spec's dims */
  size_t arena, scratch; /* scratch: the most that any step wants, a multiple of 64 */
  bool scratch_shared;   /* a step with scratch may run on several threads: each gets its own */
} fb_sizes;

struct fb_plan {
  fb_plan_spec spec; /* its arrays point into `block` */
  atomic_int_least64_t refs;
  atomic_size_t last_arena;
  uint32_t *slots;     /* per ref, where its base address is found: inputs, outputs, arena, constants, status */
  bool *input_kept;    /* per input: it is an output as it is, so nothing may overwrite it */
  int32_t guard_exprs; /* the guards need the first so many expressions */
  size_t frame_pointers, frame_numbers; /* working memory of one run */
  fb_sizes sizes;                       /* valid when n_symbols is 0 */
  void *block;
};

static inline uint32_t fb_arena_slot(const fb_plan_spec *spec) { return (uint32_t)(spec->n_inputs + spec->n_outputs); }

static inline size_t fb_base_count(const fb_plan_spec *spec) { return fb_arena_slot(spec) + 3; }

/* Evaluates all expressions into `sizes`, whose arrays exist, and checks guards, then every size, offset and extent. */
fb_status fb_plan_measure(const fb_plan *plan, const int64_t *symbols, fb_sizes *sizes);

#endif
