/* Why a program failed: its explanation computes the operands that are checked, and the first element that must not be
 * is named as running op by op would name it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "program_checks.h"

typedef struct {
  int64_t integer;
  double real;
} element;

static element read_element(const fb_check *check, const char *data, int64_t position) {
  const char *at = data + (size_t)position * (size_t)check->width;
  element found = {0, 0};
  if (check->kind == FB_CHECK_FLOATS && check->width == 8) {
    memcpy(&found.real, at, 8);
  } else if (check->kind == FB_CHECK_FLOATS) {
    float narrow;
    memcpy(&narrow, at, 4);
    found.real = narrow;
  } else if (check->width == 8) {
    memcpy(&found.integer, at, 8);
  } else {
    int32_t narrow;
    memcpy(&narrow, at, 4);
    found.integer = narrow;
  }
  return found;
}

/* Bounds are compared in the operand's own width, as the kernel does; NaN lies between none. */
static bool holds(const fb_check *check, element x) {
  if (check->kind == FB_CHECK_NONZERO)
    return x.integer != 0;
  if (check->kind == FB_CHECK_INTEGERS)
    return x.integer >= check->least && x.integer <= check->greatest;
  if (check->width == 4)
    return x.real >= (float)check->low && x.real <= (float)check->high;
  return x.real >= check->low && x.real <= check->high;
}

static int64_t first_outside(const fb_check *check, const char *data) {
  for (int64_t i = 0; i < check->elements; i++)
    if (!holds(check, read_element(check, data, i)))
      return i;
  return -1;
}

/* "[1, 2]" */
static void write_place(const fb_check *check, int64_t position, char *text, size_t size) {
  int64_t rest = check->elements;
  size_t used = 0;
  text[0] = '\0';
  for (int32_t d = 0; d < check->rank && used < size; d++) {
    rest /= check->shape[d];
    used += (size_t)snprintf(text + used, size - used, "%s%lld", d ? ", " : "[", (long long)(position / rest));
    position %= rest;
  }
  if (check->rank > 0 && used < size)
    snprintf(text + used, size - used, "]");
}

static fb_status say(const fb_check *check, const char *data, int64_t position) {
  char place[128], value[48] = "";
  element x = read_element(check, data, position);
  write_place(check, position, place, sizeof place);
  if (check->shown && check->kind == FB_CHECK_FLOATS)
    snprintf(value, sizeof value, " = %.*g", check->width == 8 ? 17 : 9, x.real);
  else if (check->shown)
    snprintf(value, sizeof value, " = %lld", (long long)x.integer);
  return fb_fail(FB_KERNEL_FAILED, "%s%s%s%s", check->before, place, value, check->after);
}

/* What is known without the values. */
static fb_status say_op(const fb_program *p, int64_t failure) {
  int64_t code = failure >> 48, position = failure & ((INT64_C(1) << 48) - 1);
  const char *op = code >= 1 && code <= p->n_errors ? p->errors[code - 1] : "an op";
  return fb_fail(FB_KERNEL_FAILED, "[%s] %s cannot be computed on these inputs: element %lld is out of its domain.",
                 p->name, op, (long long)position);
}

/* False when every operand is as it should be. */
static bool find(const fb_program *p, fb_buffer **operands) {
  for (int32_t i = 0; i < p->n_checks; i++) {
    const char *data = (const char *)fb_buffer_data(operands[i]);
    int64_t position = first_outside(&p->checks[i], data);
    if (position >= 0) {
      say(&p->checks[i], data, position);
      return true;
    }
  }
  return false;
}

fb_status fb_program_explain(const fb_program *p, fb_input *inputs, int64_t failure) {
  fb_plan *plan = NULL;
  fb_buffer **operands = (fb_buffer **)calloc((size_t)p->n_checks + 1, sizeof(fb_buffer *));
  bool found = false;
  if (operands != NULL && p->explanation != NULL && fb_plan_create(p->explanation, &plan) == FB_OK) {
    fb_run call = {.inputs = inputs, .outputs = operands};
    found = fb_plan_run(plan, &call) == FB_OK && find(p, operands);
    for (int32_t i = 0; i < p->n_checks; i++)
      fb_buffer_release(operands[i]);
    fb_plan_release(plan);
  }
  free(operands);
  return found ? FB_KERNEL_FAILED : say_op(p, failure);
}
