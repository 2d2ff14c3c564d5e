/* Bodies of elementwise kernels as steps; what body.c and small_op.c share. */
#ifndef FLAMBEAU_BINDING_BODY_H
#define FLAMBEAU_BINDING_BODY_H

#include "binding.h"

#include <stdbool.h>

enum { FB_BODY_BLOCK = 32, FB_BODY_UNIT = 8 };

typedef struct {
  int32_t op, result, operands[3];
} fb_body_step;

typedef struct {
  const fb_body_step *steps;
  const char *constants;
  int32_t n_steps, n_constants, n_operands, n_values; /* constants: of 8 bytes, numbered after the values */
} fb_body;

bool fb_body_is_sound(const fb_body *body);
/* Run on n elements of so many bytes each; `out` may be an operand. False where there is no memory. */
bool fb_body_run(const fb_body *body, const char *const *operands, const size_t *sizes, char *out, size_t size,
                 int64_t n);

#endif
