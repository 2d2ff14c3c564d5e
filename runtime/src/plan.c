/* Making a plan: every index is checked once here, so that the runner checks none. Next: plan_run.c. */
#include <stdlib.h>
#include <string.h>

#include "plan.h"

#define REQUIRE(condition, ...)                                                                                        \
  do {                                                                                                                 \
    if (FB_UNLIKELY(!(condition)))                                                                                     \
      return fb_fail(FB_INVALID_ARGUMENT, "[plan] " __VA_ARGS__);                                                      \
  } while (0)

static bool in_range(int64_t index, int64_t count) { return index >= 0 && index < count; }

/* ---- checks -------------------------------------------------------------------------------------------- */

static fb_status check_counts(const fb_plan_spec *s) {
  REQUIRE(s->n_symbols >= 0 && s->n_inputs >= 0 && s->n_outputs >= 0 && s->n_exprs >= 0 && s->n_steps >= 0 &&
              s->n_refs >= 0 && s->n_dims >= 0 && s->n_kernels >= 0,
          "a count is negative.");
  REQUIRE(s->n_fallible >= 0 && s->n_fallible <= s->n_steps, "%d of %d steps are marked fallible.", s->n_fallible,
          s->n_steps);
  REQUIRE(in_range(s->arena_bytes, s->n_exprs), "the arena's size is expression %d of %d.", s->arena_bytes, s->n_exprs);
  REQUIRE(s->constants != NULL || s->constant_bytes == 0, "constants are missing.");
  for (int32_t i = 0; i < s->n_kernels; i++)
    REQUIRE(s->kernels[i] != NULL, "kernel %d has no address.", i);
  return FB_OK;
}

static fb_status check_exprs(const fb_plan_spec *s) {
  for (int32_t i = 0; i < s->n_exprs; i++) {
    const fb_expr *x = &s->exprs[i];
    REQUIRE(x->op >= FB_X_CONST && x->op <= FB_X_MAX, "expression %d has operator %d.", i, x->op);
    if (x->op == FB_X_SYMBOL)
      REQUIRE(in_range(x->a, s->n_symbols), "expression %d reads symbol %lld of %d.", i, (long long)x->a, s->n_symbols);
    else if (x->op != FB_X_CONST)
      REQUIRE(in_range(x->a, i) && in_range(x->b, i),
              "expression %d reads expressions %lld and %lld, not earlier ones.", i, (long long)x->a, (long long)x->b);
  }
  return FB_OK;
}

static fb_status check_guards(const fb_plan_spec *s) {
  REQUIRE(s->n_guards >= 0 && (s->n_guards == 0 || s->n_symbols > 0), "%d guards on %d symbols.", s->n_guards,
          s->n_symbols);
  for (int32_t i = 0; i < s->n_guards; i++) {
    const fb_guard *g = &s->guards[i];
    REQUIRE(g->relation >= FB_IS_ZERO && g->relation <= FB_IS_NOT_NEGATIVE, "guard %d has relation %d.", i,
            g->relation);
    REQUIRE(in_range(g->x, s->n_exprs), "guard %d is on expression %d of %d.", i, g->x, s->n_exprs);
  }
  return FB_OK;
}

static fb_status check_boundary(const fb_plan_spec *s) {
  for (int32_t i = 0; i < s->n_inputs; i++)
    REQUIRE(in_range(s->input_bytes[i], s->n_exprs), "the size of input %d is expression %d of %d.", i,
            s->input_bytes[i], s->n_exprs);
  for (int32_t i = 0; i < s->n_outputs; i++) {
    const fb_output *o = &s->outputs[i];
    REQUIRE(o->mode >= FB_OUT_NEW && o->mode <= FB_OUT_OUTPUT, "output %d has mode %d.", i, o->mode);
    REQUIRE(in_range(o->bytes, s->n_exprs), "the size of output %d is expression %d of %d.", i, o->bytes, s->n_exprs);
    if (o->mode == FB_OUT_OUTPUT)
      REQUIRE(in_range(o->source, i), "output %d is output %d, not an earlier one.", i, o->source);
    else if (o->mode != FB_OUT_NEW)
      REQUIRE(in_range(o->source, s->n_inputs), "output %d comes from input %d of %d.", i, o->source, s->n_inputs);
  }
  return FB_OK;
}

static fb_status check_refs(const fb_plan_spec *s) {
  for (int32_t i = 0; i < s->n_refs; i++) {
    const fb_ref *r = &s->refs[i];
    REQUIRE(r->kind >= FB_REF_INPUT && r->kind <= FB_REF_KEPT, "ref %d has kind %d.", i, r->kind);
    int32_t count = r->kind == FB_REF_INPUT    ? s->n_inputs
                    : r->kind == FB_REF_OUTPUT ? s->n_outputs
                    : r->kind == FB_REF_ARENA  ? 1 + s->n_devices
                    : r->kind == FB_REF_CURSOR ? FB_MAX_CURSORS
                    : r->kind == FB_REF_KEPT   ? s->n_kept
                                               : 1;
    REQUIRE(in_range(r->index, count), "ref %d names number %d of %d.", i, r->index, count);
    REQUIRE(in_range(r->offset, s->n_exprs), "the offset of ref %d is expression %d of %d.", i, r->offset, s->n_exprs);
  }
  for (int32_t i = 0; i < s->n_dims; i++)
    REQUIRE(in_range(s->dims[i], s->n_exprs), "dim %d is expression %d of %d.", i, s->dims[i], s->n_exprs);
  return FB_OK;
}

/* Whether a ref reaches a value that must not change before everything that can fail has succeeded. */
static bool is_committed(const fb_plan_spec *s, const fb_ref *r) {
  if (r->kind != FB_REF_OUTPUT)
    return false;
  const fb_output *o = &s->outputs[r->index];
  while (o->mode == FB_OUT_OUTPUT)
    o = &s->outputs[o->source];
  return o->mode == FB_OUT_UPDATE || o->mode == FB_OUT_REPLACE;
}

static fb_status check_devices(const fb_plan_spec *s) {
  REQUIRE(s->n_devices >= 0 && s->n_devices <= FB_MAX_DEVICES, "%d devices; plans take at most %d.", s->n_devices,
          FB_MAX_DEVICES);
  for (int32_t k = 0; k < s->n_devices; k++)
    REQUIRE(s->devices[k].device != NULL && in_range(s->devices[k].arena_bytes, s->n_exprs),
            "device %d is missing, or its arena's size is expression %d of %d.", k + 1, s->devices[k].arena_bytes,
            s->n_exprs);
  const int32_t *places[] = {s->input_devices, s->output_devices, s->kernel_devices};
  const int32_t counts[] = {s->n_inputs, s->n_outputs, s->n_kernels};
  for (int list = 0; list < 3 && s->n_devices > 0; list++)
    for (int32_t i = 0; i < counts[list]; i++)
      REQUIRE(in_range(places[list][i], 1 + s->n_devices), "something lies on device %d of %d.", places[list][i],
              s->n_devices);
  for (int32_t i = 0; i < s->n_outputs && s->n_devices > 0; i++) {
    const fb_output *o = &s->outputs[i];
    int32_t from = o->mode == FB_OUT_NEW      ? s->output_devices[i]
                   : o->mode == FB_OUT_OUTPUT ? s->output_devices[o->source]
                                              : s->input_devices[o->source];
    REQUIRE(from == s->output_devices[i], "output %d lies on device %d, but what it comes from on %d.", i,
            s->output_devices[i], from);
  }
  return FB_OK;
}

/* Every pointer that a kernel gets is one of its device: what comes from elsewhere must be transferred first. */
static fb_status check_step_places(const fb_plan_spec *s, int32_t index) {
  const fb_step *step = &s->steps[index];
  const fb_ref *refs = s->refs + step->first_ref;
  bool is_here = fb_is_control(step->kernel);
  for (int32_t i = 0; is_here && i < step->n_refs; i++)
    REQUIRE(fb_ref_device(s, &refs[i]) == 0, "step %d reads on the CPU what lies on another device.", index);
  if (is_here)
    return FB_OK;
  int32_t place = step->kernel < 0 ? fb_ref_device(s, &refs[0]) : fb_kernel_device(s, step->kernel);
  if (step->kernel == FB_KERNEL_TRANSFER) {
    REQUIRE(place != fb_ref_device(s, &refs[1]), "step %d transfers within device %d.", index, place);
    return FB_OK;
  }
  for (int32_t i = 0; i < step->n_refs; i++)
    REQUIRE(fb_ref_device(s, &refs[i]) == place, "step %d runs on device %d, but its ref %d lies on device %d.", index,
            place, i, fb_ref_device(s, &refs[i]));
  REQUIRE(place == 0 || step->kernel != FB_KERNEL_ZERO, "step %d clears memory of device %d.", index, place);
  REQUIRE(place == 0 || step->kernel < 0 || step->n_dims >= FB_GRID_DIMS, "launch %d has %d dims, and no grid.", index,
          step->n_dims);
  return FB_OK;
}

/* A wave's steps are kernels of the CPU, all of them among those that may fail, or none. */
static fb_status check_wave(const fb_plan_spec *s, int32_t index) {
  const fb_expr *count = &s->exprs[s->dims[s->steps[index].first_dim]];
  int32_t end = index < s->n_fallible ? s->n_fallible : s->n_steps;
  REQUIRE(count->op == FB_X_CONST && count->a >= 0 && count->a <= FB_MAX_WAVE && count->a < end - index,
          "step %d begins a wave of %lld steps. Give a constant of at most %d that follow it and may fail, or not, as "
          "it may.",
          index, (long long)count->a, FB_MAX_WAVE);
  for (int32_t i = index + 1; i <= index + count->a; i++)
    REQUIRE(s->steps[i].kernel >= 0 && fb_kernel_device(s, s->steps[i].kernel) == 0,
            "step %d is in a wave, but calls no kernel of the CPU.", i);
  return FB_OK;
}

static fb_status check_step(const fb_plan_spec *s, int32_t index) {
  const fb_step *step = &s->steps[index];
  REQUIRE(step->kernel >= FB_KERNEL_WAVE && step->kernel < s->n_kernels, "step %d calls kernel %d of %d.", index,
          step->kernel, s->n_kernels);
  REQUIRE(step->first_ref >= 0 && step->n_refs >= 0 && step->first_ref <= s->n_refs - step->n_refs,
          "the refs of step %d are out of range.", index);
  REQUIRE(step->first_dim >= 0 && step->n_dims >= 0 && step->first_dim <= s->n_dims - step->n_dims,
          "the dims of step %d are out of range.", index);
  REQUIRE(in_range(step->n, s->n_exprs) && in_range(step->grain, s->n_exprs) && in_range(step->scratch, s->n_exprs),
          "step %d has domain, grain and scratch %d, %d, %d of %d expressions.", index, step->n, step->grain,
          step->scratch, s->n_exprs);
  static const int32_t built_in_refs[] = {
      2, 1, 1, 0, 0, 2, 1, 1, 2, 0}; /* of copy, zero, branch, jump, (note), transfer, set, count, move, wave */
  if (step->kernel == FB_KERNEL_NOTE)
    REQUIRE(step->n_refs == step->n_dims && index < s->n_fallible,
            "step %d notes %d refs with %d sizes. Note each with its size, in the steps that may fail.", index,
            step->n_refs, step->n_dims);
  else if (step->kernel < 0)
    REQUIRE(step->n_refs == built_in_refs[-1 - step->kernel] && step->n_dims == (step->kernel != FB_KERNEL_MOVE),
            "built-in step %d has %d refs and %d dims.", index, step->n_refs, step->n_dims);
  if (step->kernel == FB_KERNEL_MOVE)
    REQUIRE(s->refs[step->first_ref].kind == FB_REF_CURSOR, "step %d moves what is no cursor.", index);
  for (int32_t i = 0; index < s->n_fallible && i < step->n_refs; i++)
    REQUIRE(!is_committed(s, &s->refs[step->first_ref + i]),
            "fallible step %d touches output %d, which updates or replaces an input. Do that after the fallible steps.",
            index, s->refs[step->first_ref + i].index);
  return check_step_places(s, index);
}

/* The input that KEPT number k is made of; -1 where there is none, or more than that. */
static int32_t kept_input(const fb_plan_spec *s, int32_t k) {
  const fb_step *step = &s->steps[k];
  int32_t found = -1;
  for (int32_t i = 0; i < step->n_refs; i++) {
    const fb_ref *r = &s->refs[step->first_ref + i];
    if (r->kind == FB_REF_INPUT && found < 0)
      found = r->index;
    else if (r->kind != FB_REF_KEPT || r->index != k)
      return -1;
  }
  return found;
}

static fb_status check_kept(const fb_plan_spec *s) {
  REQUIRE(s->n_kept == 0 || s->kept != NULL, "the sizes of %d kept results are missing.", s->n_kept);
  REQUIRE(s->n_kept >= 0 && s->n_kept <= s->n_fallible && (s->n_kept == 0 || s->n_devices == 0),
          "%d results are kept, of %d steps that come first, on %d devices.", s->n_kept, s->n_fallible, s->n_devices);
  REQUIRE(s->n_spare >= 0 && s->n_spare <= s->n_kept, "%d of %d kept results are spare.", s->n_spare, s->n_kept);
  for (int32_t k = 0; k < s->n_kept; k++) {
    REQUIRE(in_range(s->kept[k], s->n_exprs), "the size of kept result %d is expression %d of %d.", k, s->kept[k],
            s->n_exprs);
    REQUIRE(s->steps[k].kernel >= 0 && kept_input(s, k) >= 0,
            "step %d makes a kept result of something else than one input.", k);
  }
  return FB_OK;
}

static fb_status check_spec(const fb_plan_spec *s) {
  fb_status status = check_counts(s);
  if (status != FB_OK || (status = check_exprs(s)) != FB_OK || (status = check_guards(s)) != FB_OK ||
      (status = check_boundary(s)) != FB_OK || (status = check_devices(s)) != FB_OK ||
      (status = check_refs(s)) != FB_OK)
    return status;
  for (int32_t i = 0; i < s->n_steps; i++)
    if ((status = check_step(s, i)) != FB_OK)
      return status;
  for (int32_t i = 0; i < s->n_steps; i++)
    if (s->steps[i].kernel == FB_KERNEL_WAVE && (status = check_wave(s, i)) != FB_OK)
      return status;
  return check_kept(s);
}

/* ---- copying ------------------------------------------------------------------------------------------- */

/* Hands out aligned pieces of one block; with no block yet it only counts. */
typedef struct {
  char *base;
  size_t used;
} fb_carver;

static void *carve(fb_carver *c, size_t count, size_t size) {
  void *piece = c->base == NULL ? NULL : c->base + c->used;
  c->used += fb_round_up(count * size, 16);
  return piece;
}

static void *carve_copy(fb_carver *c, const void *source, size_t count, size_t size) {
  void *piece = carve(c, count, size);
  if (piece != NULL && count > 0)
    memcpy(piece, source, count * size);
  return piece;
}

#define CARVE(c, type, n) ((type *)carve(c, (size_t)(n), sizeof(type)))
#define CARVE_COPY(c, type, from, n) ((const type *)carve_copy(c, from, (size_t)(n), sizeof(type)))

static void lay_out(fb_plan *p, const fb_plan_spec *s, fb_carver *c) {
  p->spec = *s;
  p->spec.constants = carve_copy(c, s->constants, s->constant_bytes, 1); /* first: the block is 64-byte aligned */
  p->spec.input_bytes = CARVE_COPY(c, int32_t, s->input_bytes, s->n_inputs);
  p->spec.outputs = CARVE_COPY(c, fb_output, s->outputs, s->n_outputs);
  p->spec.exprs = CARVE_COPY(c, fb_expr, s->exprs, s->n_exprs);
  p->spec.steps = CARVE_COPY(c, fb_step, s->steps, s->n_steps);
  p->spec.refs = CARVE_COPY(c, fb_ref, s->refs, s->n_refs);
  p->spec.dims = CARVE_COPY(c, int32_t, s->dims, s->n_dims);
  p->spec.kernels = CARVE_COPY(c, fb_kernel, s->kernels, s->n_kernels);
  p->spec.guards = CARVE_COPY(c, fb_guard, s->guards, s->n_guards);
  bool is_anywhere = s->n_devices > 0;
  p->spec.devices = CARVE_COPY(c, fb_plan_device, s->devices, s->n_devices);
  p->spec.input_devices = CARVE_COPY(c, int32_t, s->input_devices, is_anywhere ? s->n_inputs : 0);
  p->spec.output_devices = CARVE_COPY(c, int32_t, s->output_devices, is_anywhere ? s->n_outputs : 0);
  p->spec.kernel_devices = CARVE_COPY(c, int32_t, s->kernel_devices, is_anywhere ? s->n_kernels : 0);
  p->spec.kept = CARVE_COPY(c, int32_t, s->kept, s->n_kept);
  p->kept = CARVE(c, fb_kept, s->n_kept);
  p->kept_inputs = CARVE(c, int32_t, s->n_kept);
  p->slots = CARVE(c, uint32_t, s->n_refs);
  p->input_kept = CARVE(c, bool, s->n_inputs);
  p->sizes.values = CARVE(c, int64_t, s->n_exprs);
  p->sizes.offsets = CARVE(c, int64_t, s->n_refs);
  p->sizes.dims = CARVE(c, int64_t, s->n_dims);
}

static uint32_t slot_of(const fb_plan_spec *s, const fb_ref *r) {
  switch (r->kind) {
  case FB_REF_INPUT:
    return (uint32_t)r->index;
  case FB_REF_OUTPUT:
    return (uint32_t)(s->n_inputs + r->index);
  case FB_REF_ARENA:
    return fb_arena_slot(s) + (r->index == 0 ? 0 : 2 + (uint32_t)r->index);
  case FB_REF_CURSOR:
    return (uint32_t)fb_base_count(s) + (uint32_t)r->index;
  case FB_REF_KEPT:
    return fb_kept_slot(s) + (uint32_t)r->index;
  default:
    return fb_arena_slot(s) + (uint32_t)(r->kind - FB_REF_ARENA);
  }
}

static bool goes_back(const fb_plan_spec *s, const fb_step *step) {
  if (step->kernel != FB_KERNEL_JUMP)
    return false;
  const fb_expr *skip = &s->exprs[s->dims[step->first_dim]];
  return skip->op != FB_X_CONST || skip->a < 0;
}

/* How many pointers a step needs while it runs, a wave all those of its steps. */
static int32_t pointers_of(const fb_plan_spec *s, int32_t index) {
  int32_t found = s->steps[index].n_refs, count = (int32_t)fb_wave_length(s, &s->steps[index]);
  for (int32_t i = index + 1; i <= index + count; i++)
    found += s->steps[i].n_refs;
  return found;
}

static void derive(fb_plan *p) {
  const fb_plan_spec *s = &p->spec;
  for (int32_t i = 0; i < s->n_refs; i++) {
    p->slots[i] = slot_of(s, &s->refs[i]);
    if (s->refs[i].kind == FB_REF_CURSOR && s->refs[i].index >= p->n_cursors)
      p->n_cursors = s->refs[i].index + 1;
  }
  memset(p->input_kept, 0, (size_t)s->n_inputs * sizeof *p->input_kept);
  for (int32_t i = 0; i < s->n_outputs; i++)
    if (s->outputs[i].mode == FB_OUT_INPUT)
      p->input_kept[s->outputs[i].source] = true;
  memset(p->kept, 0, (size_t)s->n_kept * sizeof *p->kept);
  for (int32_t i = 0; i < s->n_kept; i++)
    p->kept_inputs[i] = kept_input(s, i);
  int32_t max_refs = 0;
  for (int32_t i = 0; i < s->n_steps; i++) {
    p->loops |= goes_back(s, &s->steps[i]);
    int32_t refs = pointers_of(s, i);
    if (refs > max_refs)
      max_refs = refs;
  }
  p->bases = fb_base_count(s) + (size_t)p->n_cursors;
  p->frame_pointers = p->bases + (size_t)max_refs + (size_t)s->n_kept;
  for (int32_t i = 0; i < s->n_guards; i++)
    if (s->guards[i].x >= p->guard_exprs)
      p->guard_exprs = s->guards[i].x + 1;
  if (s->n_symbols > 0)
    p->frame_numbers = (size_t)s->n_exprs + (size_t)s->n_refs + (size_t)s->n_dims;
}

fb_status fb_plan_create(const fb_plan_spec *spec, fb_plan **out) {
  *out = NULL;
  fb_status status = check_spec(spec);
  if (status != FB_OK)
    return status;
  fb_plan counted;
  fb_carver carver = {0};
  lay_out(&counted, spec, &carver);
  size_t bytes = fb_round_up(carver.used + 1, FB_ALIGN);
  fb_plan *p = (fb_plan *)calloc(1, sizeof *p);
  carver = (fb_carver){.base = (char *)aligned_alloc(FB_ALIGN, bytes)};
  if (p == NULL || carver.base == NULL) {
    free(p);
    free(carver.base);
    return fb_fail(FB_OUT_OF_MEMORY, "[plan] cannot allocate a plan of %zu bytes. Free memory.", bytes);
  }
  p->block = carver.base;
  lay_out(p, spec, &carver);
  derive(p);
  atomic_init(&p->refs, 1);
  if (spec->n_symbols == 0 && (status = fb_plan_measure(p, NULL, &p->sizes)) != FB_OK) {
    fb_plan_release(p);
    return status;
  }
  *out = p;
  return FB_OK;
}

void fb_plan_retain(fb_plan *p) { atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed); }

void fb_plan_release(fb_plan *p) {
  if (p == NULL || atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) != 1)
    return;
  fb_kept_end(p);
  free(p->block);
  free(p);
}

int32_t fb_plan_inputs(const fb_plan *p) { return p->spec.n_inputs; }
int32_t fb_plan_steps(const fb_plan *p) { return p->spec.n_steps; }

int32_t fb_plan_outputs(const fb_plan *p) { return p->spec.n_outputs; }

int32_t fb_plan_devices(const fb_plan *p) { return p->spec.n_devices; }

int32_t fb_plan_symbols(const fb_plan *p) { return p->spec.n_symbols; }

bool fb_plan_loops(const fb_plan *p) { return p->loops; }

size_t fb_plan_arena_bytes(const fb_plan *p) {
  return atomic_load_explicit(&((fb_plan *)p)->last_arena, memory_order_relaxed);
}
