/* Writes plan specs for the tests: fixed arrays and one function per kind of entry, each returning its index. */
#ifndef FLAMBEAU_TEST_PLAN_BUILDER_H
#define FLAMBEAU_TEST_PLAN_BUILDER_H

#include "harness.h"

enum { MAX_ITEMS = 600 };

typedef struct {
  fb_plan_spec spec;
  int32_t input_bytes[MAX_ITEMS], dims[MAX_ITEMS];
  fb_output outputs[MAX_ITEMS];
  fb_expr exprs[MAX_ITEMS];
  fb_step steps[MAX_ITEMS];
  fb_ref refs[3 * MAX_ITEMS];
  fb_kernel kernels[16];
} Builder;

static inline int32_t expr(Builder *b, int32_t op, int64_t x, int64_t y) {
  b->exprs[b->spec.n_exprs] = (fb_expr){op, x, y};
  return b->spec.n_exprs++;
}

static inline int32_t constant(Builder *b, int64_t value) { return expr(b, FB_X_CONST, value, 0); }

/* Expression 0 is zero and expression 1 is one. */
static inline Builder *new_builder(void) {
  Builder *b = calloc(1, sizeof *b);
  CHECK(b != NULL);
  b->spec = (fb_plan_spec){.input_bytes = b->input_bytes,
                           .outputs = b->outputs,
                           .exprs = b->exprs,
                           .steps = b->steps,
                           .refs = b->refs,
                           .dims = b->dims,
                           .kernels = b->kernels};
  constant(b, 0);
  constant(b, 1);
  return b;
}

static inline int32_t add_input(Builder *b, int32_t bytes) {
  b->input_bytes[b->spec.n_inputs] = bytes;
  return b->spec.n_inputs++;
}

static inline int32_t add_output(Builder *b, int32_t mode, int32_t source, int32_t bytes) {
  b->outputs[b->spec.n_outputs] = (fb_output){mode, source, bytes};
  return b->spec.n_outputs++;
}

static inline int32_t add_kernel(Builder *b, fb_kernel kernel) {
  b->kernels[b->spec.n_kernels] = kernel;
  return b->spec.n_kernels++;
}

static inline int32_t add_step(Builder *b, int32_t kernel, int32_t n, int32_t grain, int32_t scratch) {
  b->steps[b->spec.n_steps] = (fb_step){kernel, n, grain, scratch, b->spec.n_refs, 0, b->spec.n_dims, 0};
  return b->spec.n_steps++;
}

/* A ref or dim of the step added last. */
static inline void add_ref(Builder *b, int32_t kind, int32_t index, int32_t offset) {
  b->refs[b->spec.n_refs++] = (fb_ref){kind, index, offset};
  b->steps[b->spec.n_steps - 1].n_refs++;
}

static inline void add_dim(Builder *b, int32_t dim) {
  b->dims[b->spec.n_dims++] = dim;
  b->steps[b->spec.n_steps - 1].n_dims++;
}

static inline fb_plan *build(Builder *b) {
  fb_plan *plan;
  CHECK(fb_plan_create(&b->spec, &plan) == FB_OK);
  memset(b, 0xee, sizeof *b); /* the plan must have copied everything */
  free(b);
  return plan;
}

static inline fb_input from_buffer(fb_buffer *b) { return (fb_input){.data = fb_buffer_data(b), .buffer = b}; }

static inline fb_input from_cell(const void *cell) { return (fb_input){.data = cell}; }

/* A buffer of doubles start, start + 1, ... */
static inline fb_buffer *ramp(int n, double start) {
  fb_buffer *b = must_alloc((size_t)n * 8);
  for (int i = 0; i < n; i++)
    ((double *)fb_buffer_data(b))[i] = start + i;
  return b;
}

static inline double at(const fb_buffer *b, int i) { return ((double *)fb_buffer_data(b))[i]; }

#endif
