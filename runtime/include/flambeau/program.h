/* Programs compiled ahead of time: a plan with its weights, described by constant tables of an object file. Plain C11.
 *
 * A generated header declares `<name>_program` and `<name>_run`; everything here also works on programs by pointer.
 */
#ifndef FLAMBEAU_PROGRAM_H
#define FLAMBEAU_PROGRAM_H

#include "flambeau/runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

/* An input or output of the program: row-major, elements of `dtype` (bool is one byte, 0 or 1) in the machine's order.
 */
typedef struct {
  const char *dtype;
  int32_t rank;
  const int64_t *shape;
  size_t bytes;
} fb_tensor_info;

/* Where the plan's next input comes from: the caller's input of that number, or data of the program if it is -1. */
typedef struct {
  int32_t input;
  const void *data;
  size_t bytes;
} fb_source;

typedef enum { FB_CHECK_INTEGERS, FB_CHECK_NONZERO, FB_CHECK_FLOATS } fb_check_kind;

/* What must hold of the elements of an operand: they lie between two bounds, or are not 0. The error for one that does
 * not is `before`, its place, its value if it is `shown`, and `after`. */
typedef struct {
  const char *before, *after;
  int32_t kind, shown; /* kind: fb_check_kind */
  int32_t width;       /* bytes of an element, an integer or a float */
  int32_t rank;        /* 0: no place is named */
  const int64_t *shape;
  int64_t elements;
  int64_t least, greatest;
  double low, high;
} fb_check;

typedef struct {
  const char *name, *target;
  const fb_plan_spec *plan;
  int32_t n_inputs, n_outputs, n_errors, n_checks;
  const fb_tensor_info *inputs, *outputs;
  const fb_source *sources;                           /* one per input of the plan */
  const char *const *errors;                          /* the op behind each error code, from 1 */
  const void *const *sample_inputs, *const *expected; /* what `fb_program_check` compares */
  void *state;                                        /* a pointer-sized cell, NULL before the first run */
  const fb_plan_spec *explanation; /* computes the operands of `checks` from the same inputs; NULL without checks */
  const fb_check *checks;          /* in the order of the model's operations */
} fb_program;

/* Computes the outputs into the caller's memory, of at least `bytes` each; any alignment will do. Outputs must not
 * overlap inputs. Safe to call from several threads at once. After a failure the outputs are as they were. */
FB_API fb_status fb_program_run(const fb_program *p, const void *const *inputs, void *const *outputs);

/* Runs the program on its sample inputs and compares every output with the expected one, bit for bit; all NaNs are
 * equal. FB_INVALID_ARGUMENT when one differs: the message names the first byte. */
FB_API fb_status fb_program_check(const fb_program *p);

#ifdef __cplusplus
}
#endif
#endif
