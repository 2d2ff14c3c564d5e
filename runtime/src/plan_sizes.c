/* Size expressions of a plan: evaluation with overflow checks, and the checks that depend on their values. */
#include "plan.h"

static int64_t floor_div(int64_t a, int64_t b) {
  int64_t q = a / b;
  return q - (a % b != 0 && (a < 0) != (b < 0));
}

static int64_t ceil_div(int64_t a, int64_t b) {
  int64_t q = a / b;
  return q + (a % b != 0 && (a < 0) == (b < 0));
}

/* True when the result does not fit or the divisor is zero. */
static bool apply(int32_t op, int64_t a, int64_t b, int64_t *out) {
  switch (op) {
  case FB_X_ADD:
    return __builtin_add_overflow(a, b, out);
  case FB_X_SUB:
    return __builtin_sub_overflow(a, b, out);
  case FB_X_MUL:
    return __builtin_mul_overflow(a, b, out);
  case FB_X_FLOORDIV:
  case FB_X_CEILDIV:
    if (b == 0 || (a == INT64_MIN && b == -1))
      return true;
    *out = op == FB_X_FLOORDIV ? floor_div(a, b) : ceil_div(a, b);
    return false;
  case FB_X_MIN:
    *out = a < b ? a : b;
    return false;
  default:
    *out = a > b ? a : b;
    return false;
  }
}

int32_t fb_evaluate(const fb_expr *exprs, int32_t first, int32_t end, const int64_t *symbols, int64_t *values) {
  for (int32_t i = first; i < end; i++) {
    const fb_expr *x = &exprs[i];
    if (x->op == FB_X_CONST)
      values[i] = x->a;
    else if (x->op == FB_X_SYMBOL)
      values[i] = symbols[x->a];
    else if (FB_UNLIKELY(apply(x->op, values[x->a], values[x->b], &values[i])))
      return i;
  }
  return end;
}

bool fb_holds(int32_t relation, int64_t value) {
  switch (relation) {
  case FB_IS_ZERO:
    return value == 0;
  case FB_IS_NOT_ZERO:
    return value != 0;
  case FB_IS_NEGATIVE:
    return value < 0;
  default:
    return value >= 0;
  }
}

/* Evaluates what the guards need and checks them. A later guard may make sense only where an earlier one holds. */
static bool check_guards(const fb_plan *plan, const int64_t *symbols, int64_t *values) {
  const fb_plan_spec *spec = &plan->spec;
  int32_t known = fb_evaluate(spec->exprs, 0, plan->guard_exprs, symbols, values);
  for (int32_t i = 0; i < spec->n_guards; i++) {
    const fb_guard *g = &spec->guards[i];
    if (g->x >= known || !fb_holds(g->relation, values[g->x]))
      return false;
  }
  return true;
}

static fb_status evaluate(const fb_plan *plan, const int64_t *symbols, int64_t *values) {
  const fb_plan_spec *spec = &plan->spec;
  if (FB_UNLIKELY(!check_guards(plan, symbols, values)))
    return fb_fail(FB_OTHER_SIZES, "[plan] the plan is not for these sizes: one of its guards does not hold.");
  int32_t i = fb_evaluate(spec->exprs, plan->guard_exprs, spec->n_exprs, symbols, values);
  if (FB_LIKELY(i == spec->n_exprs))
    return FB_OK;
  const fb_expr *x = &spec->exprs[i];
  return fb_fail(FB_INVALID_ARGUMENT,
                 "[plan] size expression %d (operator %d on %lld and %lld) has no 64-bit value. Use smaller extents.",
                 (int)i, (int)x->op, (long long)values[x->a], (long long)values[x->b]);
}

static fb_status negative(const char *what, int32_t index, int64_t value) {
  return fb_fail(FB_INVALID_ARGUMENT, "[plan] %s %d is %lld. It must not be negative.", what, (int)index,
                 (long long)value);
}

/* How many bytes the region behind a ref has. */
static int64_t region_bytes(const fb_plan_spec *spec, const fb_ref *ref, const int64_t *values) {
  switch (ref->kind) {
  case FB_REF_INPUT:
    return values[spec->input_bytes[ref->index]];
  case FB_REF_OUTPUT:
    return values[spec->outputs[ref->index].bytes];
  case FB_REF_ARENA:
    return values[ref->index == 0 ? spec->arena_bytes : spec->devices[ref->index - 1].arena_bytes];
  case FB_REF_CONST:
    return (int64_t)spec->constant_bytes;
  case FB_REF_KEPT:
    return values[spec->kept[ref->index]];
  case FB_REF_CURSOR: /* in what it was taken from, which is not known here */
    return INT64_MAX / 2;
  default:
    return 0;
  }
}

static fb_status check_regions(const fb_plan_spec *spec, const int64_t *values) {
  for (int32_t i = 0; i < spec->n_inputs; i++)
    if (values[spec->input_bytes[i]] < 0)
      return negative("the size of input", i, values[spec->input_bytes[i]]);
  for (int32_t i = 0; i < spec->n_outputs; i++) {
    const fb_output *output = &spec->outputs[i];
    if (values[output->bytes] < 0)
      return negative("the size of output", i, values[output->bytes]);
    bool from_input = output->mode == FB_OUT_UPDATE || output->mode == FB_OUT_INPUT;
    if (from_input && values[output->bytes] > values[spec->input_bytes[output->source]])
      return fb_fail(FB_INVALID_ARGUMENT, "[plan] output %d has %lld bytes but comes from input %d of %lld bytes.",
                     (int)i, (long long)values[output->bytes], (int)output->source,
                     (long long)values[spec->input_bytes[output->source]]);
  }
  if (values[spec->arena_bytes] < 0)
    return negative("the arena's size, expression", spec->arena_bytes, values[spec->arena_bytes]);
  for (int32_t k = 0; k < spec->n_kept; k++)
    if (values[spec->kept[k]] < 0)
      return negative("the size of kept result", k, values[spec->kept[k]]);
  for (int32_t k = 0; k < spec->n_devices; k++)
    if (values[spec->devices[k].arena_bytes] < 0)
      return negative("the size of the arena of device", k + 1, values[spec->devices[k].arena_bytes]);
  return FB_OK;
}

static fb_status check_refs(const fb_plan_spec *spec, const fb_sizes *sizes) {
  for (int32_t i = 0; i < spec->n_refs; i++) {
    int64_t bytes = region_bytes(spec, &spec->refs[i], sizes->values);
    bool may_go_back = spec->refs[i].kind == FB_REF_CURSOR;
    if (FB_UNLIKELY((sizes->offsets[i] < 0 && !may_go_back) || sizes->offsets[i] > bytes))
      return fb_fail(FB_INVALID_ARGUMENT, "[plan] ref %d has offset %lld in a region of %lld bytes.", (int)i,
                     (long long)sizes->offsets[i], (long long)bytes);
  }
  return FB_OK;
}

/* Where a branch or jump leads: within the steps that may fail, or within the others; a branch never back. */
static fb_status check_jump(const fb_plan_spec *spec, int32_t index, const fb_sizes *sizes) {
  int64_t by = sizes->dims[spec->steps[index].first_dim];
  bool may_fail = index < spec->n_fallible, is_branch = spec->steps[index].kernel != FB_KERNEL_JUMP;
  int64_t least = (may_fail ? 0 : spec->n_fallible) - (index + 1);
  int64_t most = (may_fail ? spec->n_fallible : spec->n_steps) - (index + 1);
  if (by < (is_branch ? 0 : least) || by > most)
    return fb_fail(FB_INVALID_ARGUMENT, "[plan] step %d skips %lld steps. Here it may skip %lld to %lld.", (int)index,
                   (long long)by, (long long)(is_branch ? 0 : least), (long long)most);
  return FB_OK;
}

/* Built-in kernels are the only ones whose accesses can be checked. */
static fb_status check_built_in(const fb_plan_spec *spec, int32_t index, const fb_sizes *sizes) {
  const fb_step *step = &spec->steps[index];
  bool counts = step->kernel == FB_KERNEL_COUNT || step->kernel == FB_KERNEL_SET;
  bool is_jump = step->kernel == FB_KERNEL_BRANCH || step->kernel == FB_KERNEL_JUMP || step->kernel == FB_KERNEL_COUNT;
  fb_status status = is_jump ? check_jump(spec, index, sizes) : FB_OK;
  if (status != FB_OK || step->kernel == FB_KERNEL_MOVE)
    return status;
  bool is_note = step->kernel == FB_KERNEL_NOTE; /* a size for each */
  int64_t bytes = counts    ? (int64_t)sizeof(int64_t)
                  : is_note ? 0
                  : is_jump ? step->n_refs /* a branch reads one */
                            : sizes->dims[step->first_dim];
  if (bytes < 0)
    return negative("the bytes of step", index, bytes);
  for (int32_t i = step->first_ref; i < step->first_ref + step->n_refs; i++) {
    if (is_note && (bytes = sizes->dims[step->first_dim + i - step->first_ref]) < 0)
      return negative("the bytes of step", index, bytes);
    if (bytes > region_bytes(spec, &spec->refs[i], sizes->values) - sizes->offsets[i])
      return fb_fail(FB_INVALID_ARGUMENT, "[plan] step %d copies or clears %lld bytes past the end of its ref %d.",
                     (int)index, (long long)bytes, (int)(i - step->first_ref));
  }
  return FB_OK;
}

static fb_status check_kernel(const fb_plan_spec *spec, int32_t index, bool in_wave, fb_sizes *sizes) {
  const fb_step *step = &spec->steps[index];
  int64_t n = sizes->values[step->n], grain = sizes->values[step->grain], scratch = sizes->values[step->scratch];
  if (n < 0)
    return negative("the domain of step", index, n);
  if (scratch < 0)
    return negative("the scratch of step", index, scratch);
  if (grain < 1)
    return fb_fail(FB_INVALID_ARGUMENT, "[plan] the grain of step %d is %lld. It must be at least 1.", (int)index,
                   (long long)grain);
  size_t padded = fb_round_up((size_t)scratch, FB_ALIGN);
  if (padded > sizes->scratch)
    sizes->scratch = padded;
  sizes->scratch_shared |= scratch > 0 && (n > grain || in_wave);
  return FB_OK;
}

static fb_status check_launch(const fb_plan_spec *spec, int32_t index, const fb_sizes *sizes) {
  const fb_step *step = &spec->steps[index];
  for (int i = 0; i < FB_GRID_DIMS; i++) {
    int64_t extent = sizes->dims[step->first_dim + i];
    if (extent < 0 || extent > INT32_MAX)
      return fb_fail(FB_INVALID_ARGUMENT, "[plan] step %d has %lld blocks or threads along an axis.", (int)index,
                     (long long)extent);
  }
  return FB_OK;
}

static fb_status check_sizes_of(const fb_plan_spec *spec, int32_t index, bool in_wave, fb_sizes *sizes) {
  int32_t kernel = spec->steps[index].kernel;
  if (kernel < 0)
    return check_built_in(spec, index, sizes);
  return fb_kernel_device(spec, kernel) ? check_launch(spec, index, sizes) : check_kernel(spec, index, in_wave, sizes);
}

fb_status fb_plan_measure(const fb_plan *plan, const int64_t *symbols, fb_sizes *sizes) {
  const fb_plan_spec *spec = &plan->spec;
  sizes->scratch = 0;
  sizes->scratch_shared = false;
  fb_status status = evaluate(plan, symbols, sizes->values);
  if (status != FB_OK)
    return status;
  for (int32_t i = 0; i < spec->n_refs; i++)
    sizes->offsets[i] = sizes->values[spec->refs[i].offset];
  for (int32_t i = 0; i < spec->n_dims; i++)
    sizes->dims[i] = sizes->values[spec->dims[i]];
  if ((status = check_regions(spec, sizes->values)) != FB_OK || (status = check_refs(spec, sizes)) != FB_OK)
    return status;
  for (int64_t i = 0, wave_end = 0; i < spec->n_steps; i++) {
    status = check_sizes_of(spec, (int32_t)i, i < wave_end, sizes);
    if (status != FB_OK)
      return status;
    if (spec->steps[i].kernel == FB_KERNEL_WAVE)
      wave_end = i + 1 + fb_wave_length(spec, &spec->steps[i]);
  }
  sizes->arena = fb_round_up((size_t)sizes->values[spec->arena_bytes], FB_ALIGN);
  return FB_OK;
}

bool fb_plan_fits(const fb_plan *plan, const int64_t *symbols) {
  enum { ON_STACK = 256 };
  int64_t values[ON_STACK];
  if (plan->guard_exprs <= ON_STACK)
    return check_guards(plan, symbols, values);
  fb_buffer *frame;
  if (fb_pool_take((size_t)plan->guard_exprs * sizeof(int64_t), &frame) != FB_OK)
    return false;
  bool fits = check_guards(plan, symbols, (int64_t *)frame->data);
  fb_buffer_release(frame);
  return fits;
}
