/* Running a plan: reserve all memory, run the steps that may fail, then commit. */
#include <stdlib.h>
#include <string.h>

#include "plan.h"

#define FRAME_POINTERS 256
#define FRAME_NUMBERS 256
/* What the runs of plans without devices do is not to be slower because those with devices do it, too. */
#define FB_INLINE __attribute__((always_inline)) static inline
#define COPY_GRAIN ((int64_t)256 << 10)

typedef struct {
  fb_kernel kernel;
  void *const *bufs;
  const int64_t *dims;
  char *scratch;
  size_t scratch_stride;
} fb_call;

static void run_chunks(void *context, int64_t lo, int64_t hi, int worker) {
  const fb_call *call = (const fb_call *)context;
  call->kernel(call->bufs, call->dims, lo, hi, call->scratch + (size_t)worker * call->scratch_stride);
}

/* ---- built-in kernels ---------------------------------------------------------------------------------- */

static void copy_chunks(void *context, int64_t lo, int64_t hi, int worker) {
  void *const *bufs = (void *const *)context;
  (void)worker;
  memcpy((char *)bufs[0] + lo, (const char *)bufs[1] + lo, (size_t)(hi - lo));
}

static void clear_chunks(void *context, int64_t lo, int64_t hi, int worker) {
  void *const *bufs = (void *const *)context;
  (void)worker;
  memset((char *)bufs[0] + lo, 0, (size_t)(hi - lo));
}

static void run_built_in(int32_t kernel, void **bufs, int64_t bytes) {
  if (kernel == FB_KERNEL_ZERO)
    fb_parallel_for(bytes, COPY_GRAIN, clear_chunks, bufs);
  else if (bufs[0] != bufs[1])
    fb_parallel_for(bytes, COPY_GRAIN, copy_chunks, bufs);
}

/* ---- steps --------------------------------------------------------------------------------------------- */

static void *offset_by(void *base, int64_t offset) { return (void *)((uintptr_t)base + (uintptr_t)offset); }

static void run_shared(fb_execution *e, fb_call call, int64_t n, int64_t grain) {
  fb_parallel_for_within(n, grain, run_chunks, &call, e->threads);
}

/* ---- notes and loops ------------------------------------------------------------------------------------ */

static void run_note(fb_execution *e, const fb_step *step, const int64_t *sizes) {
  e->failure = fb_write_note(e, step, sizes);
  if (e->failure != FB_OK)
    atomic_store_explicit(&e->status, 0, memory_order_relaxed); /* stops the run */
}

#define ASK_NS ((int64_t)100 * 1000 * 1000)

static _Atomic(fb_interrupt_fn) interrupt_check;

void fb_set_interrupt_check(fb_interrupt_fn check) { atomic_store(&interrupt_check, check); }

/* A clock is dear beside a short turn: it is read when about as many turns have gone by as take the time between two
 * questions. */
__attribute__((cold, noinline)) static void ask(fb_execution *e) {
  fb_interrupt_fn check = atomic_load(&interrupt_check);
  fb_turns *turns = &e->turns;
  int64_t now = fb_now_ns(), passed = now - turns->asked_ns;
  turns->count = 0;
  if (turns->limit == 0) { /* the first turn of all */
    *turns = (fb_turns){.limit = 1, .asked_ns = now};
    return;
  }
  if (passed < ASK_NS) {
    turns->limit = passed < ASK_NS / 4 ? turns->limit * 2 : turns->limit;
    if (passed < ASK_NS / 2)
      return;
  } else {
    turns->limit = turns->limit > 1 ? turns->limit / 2 : 1;
  }
  turns->asked_ns = now;
  if (check != NULL && check()) {
    e->failure = fb_fail(FB_INTERRUPTED, "[plan] a loop was interrupted.");
    atomic_store_explicit(&e->status, 0, memory_order_relaxed); /* stops the run */
  }
}

/* After a jump back of one of the fallible steps. */
static inline void turn(fb_execution *e) {
  if (FB_UNLIKELY(++e->turns.count > e->turns.limit))
    ask(e);
}

/* ---- all steps ------------------------------------------------------------------------------------------ */

/* A built-in step that does more than copy or clear; returns how many to skip after it. */
FB_INLINE int64_t run_control(fb_execution *e, const fb_step *step, uint32_t first_slot, const int64_t *dims) {
  int64_t *counter = (int64_t *)e->bufs[0];
  switch (step->kernel) {
  case FB_KERNEL_JUMP:
    return dims[0];
  case FB_KERNEL_BRANCH:
    return *(const char *)counter ? 0 : dims[0];
  case FB_KERNEL_COUNT:
    return *counter == 0 ? dims[0] : (--*counter, 0);
  case FB_KERNEL_SET:
    *counter = dims[0];
    return 0;
  case FB_KERNEL_WAVE: /* by itself a step is timed, and runs where there is one thread */
    if (e->threads == 1 || e->run->nanoseconds != NULL)
      return 0;
    fb_run_wave(e, step + 1, dims[0]);
    return dims[0];
  case FB_KERNEL_MOVE:
    e->bases[first_slot] = e->bufs[1];
    return 0;
  default:
    run_note(e, step, dims);
    return 0;
  }
}

/* Runs a step; returns how many to skip after it. */
FB_INLINE int64_t run_step(fb_execution *e, const fb_step *step) {
  const fb_plan *plan = e->plan;
  const uint32_t *slots = plan->slots + step->first_ref;
  const int64_t *offsets = e->sizes->offsets + step->first_ref;
  const int64_t *dims = e->sizes->dims + step->first_dim;
  for (int32_t i = 0; i < step->n_refs; i++)
    e->bufs[i] = offset_by(e->bases[slots[i]], offsets[i]);
  if (step->kernel < 0) {
    if (fb_is_control(step->kernel))
      return run_control(e, step, step->n_refs > 0 ? slots[0] : 0, dims);
    run_built_in(step->kernel, e->bufs, dims[0]);
    return 0;
  }
  fb_kernel kernel = plan->spec.kernels[step->kernel];
  int64_t n = e->sizes->values[step->n], grain = e->sizes->values[step->grain];
  if (FB_UNLIKELY(n > grain && e->threads > 1))
    run_shared(e, (fb_call){kernel, e->bufs, dims, e->scratch, e->sizes->scratch}, n, grain);
  else if (n > 0)
    kernel(e->bufs, dims, 0, n, e->scratch);
  return 0;
}

__attribute__((cold, noinline)) static fb_status failed_step(fb_execution *e, int64_t i) {
  if (e->failure != FB_OK)
    return e->failure;
  int64_t word = e->run->failure = atomic_load_explicit(&e->status, memory_order_relaxed);
  return fb_fail(FB_KERNEL_FAILED, "[plan] step %d reported error %lld at position %lld.", (int)i,
                 (long long)(word >> 48), (long long)(word & ((INT64_C(1) << 48) - 1)));
}

/* The plan's first steps: those whose results are there are left out. */
__attribute__((noinline)) static fb_status run_kept_steps(fb_execution *e) {
  const fb_plan_spec *spec = &e->plan->spec;
  fb_status status = FB_OK;
  for (int32_t i = 0; status == FB_OK && i < spec->n_kept; i++) {
    int64_t begin = e->run->nanoseconds == NULL ? 0 : fb_now_ns();
    bool is_missing, is_wanted;
    status = fb_kept_find(e, i, &is_missing, &is_wanted);
    if (status == FB_OK && is_missing && e->kept[i] != NULL) {
      run_step(e, &spec->steps[i]);
      if (is_wanted)
        fb_kept_store(e, i);
    }
    if (e->run->nanoseconds != NULL)
      e->run->nanoseconds[i] += fb_now_ns() - begin;
  }
  return status;
}

/* Runs the steps; stops after the first fallible one that reports an error. */
static fb_status run_steps(fb_execution *e) {
  const fb_plan_spec *spec = &e->plan->spec;
  for (int64_t i = spec->n_kept; i < spec->n_fallible; i++) {
    int64_t at = i, skipped = run_step(e, &spec->steps[i]);
    i += skipped;
    if (FB_UNLIKELY(skipped < 0))
      turn(e);
    if (FB_UNLIKELY(atomic_load_explicit(&e->status, memory_order_relaxed) != INT64_MAX))
      return failed_step(e, at);
  }
  for (int64_t i = spec->n_fallible; i < spec->n_steps; i++)
    i += run_step(e, &spec->steps[i]);
  return FB_OK;
}

/* As run_steps, where some steps are on devices, or their time is wanted. */
__attribute__((noinline)) static fb_status run_steps_anywhere(fb_execution *e) {
  const fb_plan_spec *spec = &e->plan->spec;
  int64_t *nanoseconds = e->run->nanoseconds;
  for (int64_t i = spec->n_kept; i < spec->n_steps; i++) {
    const fb_step *step = &spec->steps[i];
    int64_t at = i, begin = nanoseconds == NULL ? 0 : fb_now_ns();
    if (spec->n_devices == 0 || !fb_devices_have(spec, step)) {
      i += run_step(e, step);
      if (FB_UNLIKELY(i < at && at < spec->n_fallible))
        turn(e);
    } else {
      fb_status status = fb_devices_step(e, step);
      if (status != FB_OK)
        return status;
    }
    if (nanoseconds != NULL)
      nanoseconds[at] += fb_now_ns() - begin;
    if (at < spec->n_fallible && atomic_load_explicit(&e->status, memory_order_relaxed) != INT64_MAX)
      return failed_step(e, at);
  }
  return FB_OK;
}

/* ---- inputs and outputs -------------------------------------------------------------------------------- */

static fb_status check_inputs(const fb_execution *e) {
  const fb_plan_spec *spec = &e->plan->spec;
  for (int32_t i = 0; i < spec->n_inputs; i++) {
    fb_input *input = &e->run->inputs[i];
    size_t least = (size_t)e->sizes->values[spec->input_bytes[i]];
    size_t bytes = input->buffer != NULL ? input->buffer->bytes : sizeof(int64_t);
    if (FB_UNLIKELY(bytes < least || (input->data == NULL && least > 0)))
      return fb_fail(FB_INVALID_ARGUMENT, "[plan] input %d has %zu bytes, but at least %zu are read.", (int)i,
                     input->data == NULL ? 0 : bytes, least);
    input->taken = false;
    e->bases[i] = (void *)input->data;
  }
  return FB_OK;
}

static fb_status check_places(const fb_execution *e) {
  const fb_plan_spec *spec = &e->plan->spec;
  for (int32_t i = 0; i < spec->n_inputs; i++) {
    int32_t k = spec->input_devices[i];
    const fb_buffer *b = e->run->inputs[i].buffer;
    if ((b == NULL ? NULL : b->device) != (k == 0 ? NULL : spec->devices[k - 1].device))
      return fb_fail(FB_INVALID_ARGUMENT,
                     "[plan] input %d lies on another device than the plan reads it on. Move it there.", (int)i);
  }
  return FB_OK;
}

FB_INLINE bool may_take(const fb_execution *e, int32_t source, size_t bytes) {
  const fb_input *input = &e->run->inputs[source];
  return input->donated && !input->taken && !e->plan->input_kept[source] && input->buffer != NULL &&
         input->data == input->buffer->data && input->buffer->bytes >= bytes && fb_is_pooled(input->buffer);
}

static fb_status copy_of_input(const fb_execution *e, int32_t source, size_t bytes, fb_buffer **out) {
  fb_status status = fb_pool_take(bytes, out);
  if (status != FB_OK)
    return status;
  void *bufs[] = {(*out)->data, (void *)e->run->inputs[source].data};
  run_built_in(FB_KERNEL_COPY, bufs, (int64_t)bytes);
  return FB_OK;
}

FB_INLINE fb_status make_output(const fb_execution *e, const fb_output *spec, fb_buffer **out) {
  size_t bytes = (size_t)e->sizes->values[spec->bytes];
  if (spec->mode == FB_OUT_NEW)
    return fb_pool_take(bytes, out);
  if (spec->mode == FB_OUT_OUTPUT) {
    *out = e->run->outputs[spec->source];
    fb_buffer_retain(*out);
    return FB_OK;
  }
  fb_input *input = &e->run->inputs[spec->source];
  if (spec->mode == FB_OUT_INPUT && input->buffer != NULL && input->data == input->buffer->data) {
    *out = input->buffer;
    fb_buffer_retain(*out);
    return FB_OK;
  }
  if (spec->mode != FB_OUT_INPUT && may_take(e, spec->source, bytes)) {
    input->taken = true;
    *out = input->buffer;
    fb_buffer_written(input->buffer, false);
    return FB_OK;
  }
  return spec->mode == FB_OUT_REPLACE ? fb_pool_take(bytes, out) : copy_of_input(e, spec->source, bytes, out);
}

static fb_status make_outputs(const fb_execution *e) {
  const fb_plan_spec *spec = &e->plan->spec;
  for (int32_t i = 0; i < spec->n_outputs; i++) {
    fb_status status = make_output(e, &spec->outputs[i], &e->run->outputs[i]);
    if (FB_UNLIKELY(status != FB_OK))
      return status;
    e->bases[spec->n_inputs + i] = e->run->outputs[i]->data;
  }
  return FB_OK;
}

/* After a failure: drops what was made and gives back what was taken. */
static void undo_outputs(const fb_plan_spec *spec, fb_run *run) {
  for (int32_t i = 0; i < spec->n_outputs; i++) {
    int32_t mode = spec->outputs[i].mode;
    bool from_input = mode == FB_OUT_UPDATE || mode == FB_OUT_REPLACE;
    const fb_input *input = from_input ? &run->inputs[spec->outputs[i].source] : NULL;
    if (input == NULL || !input->taken || input->buffer != run->outputs[i])
      fb_buffer_release(run->outputs[i]);
    run->outputs[i] = NULL;
  }
  for (int32_t i = 0; i < spec->n_inputs; i++)
    run->inputs[i].taken = false;
}

/* ---- one run ------------------------------------------------------------------------------------------- */

/* What cannot be counted cannot be had: the pool refuses SIZE_MAX. */
static size_t working_bytes(const fb_execution *e) {
  size_t areas = e->sizes->scratch_shared ? (size_t)e->threads : 1;
  size_t bytes;
  bool too_much = __builtin_mul_overflow(e->sizes->scratch, areas, &bytes);
  return __builtin_add_overflow(bytes, e->sizes->arena, &bytes) || too_much ? SIZE_MAX : bytes;
}

/* The rest of a run of a plan with devices: its arenas there, its outputs wherever they are, its steps. */
__attribute__((noinline)) static fb_status execute_anywhere(fb_execution *e) {
  const fb_plan_spec *spec = &e->plan->spec;
  fb_buffer *arenas[FB_MAX_DEVICES] = {NULL};
  fb_status status = check_places(e);
  if (status == FB_OK)
    status = fb_devices_reserve(e, arenas);
  for (int32_t i = 0; status == FB_OK && i < spec->n_outputs; i++) {
    const fb_output *o = &spec->outputs[i];
    fb_buffer **out = &e->run->outputs[i];
    bool is_taken = o->mode == FB_OUT_OUTPUT || o->mode == FB_OUT_INPUT ||
                    (o->mode != FB_OUT_NEW && may_take(e, o->source, (size_t)e->sizes->values[o->bytes]));
    status = is_taken || spec->output_devices[i] == 0 ? make_output(e, o, out) : fb_devices_output(e, i, out);
    if (status == FB_OK)
      e->bases[spec->n_inputs + i] = (*out)->data;
  }
  if (status == FB_OK)
    status = run_steps_anywhere(e);
  for (int32_t k = 0; k < spec->n_devices; k++)
    fb_buffer_release(arenas[k]);
  return status;
}

/* With `bases` and `sizes` in place. */
static fb_status execute(fb_execution *e) {
  const fb_plan_spec *spec = &e->plan->spec;
  fb_status status = check_inputs(e);
  if (status != FB_OK)
    return status;
  fb_buffer *working = NULL;
  for (int32_t i = 0; i < spec->n_kept; i++)
    e->kept[i] = NULL; /* outputs may fail before these are found */
  size_t bytes = working_bytes(e);
  if (bytes > 0 && (status = fb_pool_take(bytes, &working)) != FB_OK)
    return status;
  char *arena = working == NULL ? NULL : (char *)working->data;
  e->scratch = (char *)offset_by(arena, (int64_t)e->sizes->arena);
  e->bases[fb_arena_slot(spec)] = arena;
  e->bases[fb_arena_slot(spec) + 1] = (void *)spec->constants;
  e->bases[fb_arena_slot(spec) + 2] = &e->status;
  for (int32_t i = 0; i < e->plan->n_cursors; i++)
    e->bases[fb_base_count(spec) + (size_t)i] = NULL;
  for (int32_t i = 0; i < spec->n_kept; i++)
    e->kept[i] = NULL; /* before anything that may fail: they are released at the end */
  if (FB_UNLIKELY(spec->n_devices > 0))
    status = execute_anywhere(e);
  else if ((status = make_outputs(e)) == FB_OK && (spec->n_kept == 0 || (status = run_kept_steps(e)) == FB_OK))
    status = FB_UNLIKELY(e->run->nanoseconds != NULL) ? run_steps_anywhere(e) : run_steps(e);
  if (spec->n_kept > 0)
    fb_kept_release(e);
  fb_buffer_release(working);
  return status;
}

static fb_status run_in_frame(fb_plan *p, fb_run *run, void **pointers, int64_t *numbers) {
  fb_execution e = {
      .plan = p,
      .run = run,
      .sizes = &p->sizes,
      .bases = pointers,
      .bufs = pointers + p->bases,
      .kept = (fb_buffer **)(pointers + p->frame_pointers - p->spec.n_kept),
      .threads = fb_get_num_threads(),
  };
  atomic_init(&e.status, INT64_MAX);
  fb_sizes measured;
  if (p->spec.n_symbols > 0) {
    measured.values = numbers;
    measured.offsets = measured.values + p->spec.n_exprs;
    measured.dims = measured.offsets + p->spec.n_refs;
    fb_status status = fb_plan_measure(p, run->symbols, &measured);
    if (FB_UNLIKELY(status != FB_OK))
      return status == FB_INVALID_ARGUMENT ? FB_OTHER_SIZES : status;
    e.sizes = &measured;
  }
  atomic_store_explicit(&p->last_arena, e.sizes->arena, memory_order_relaxed);
  return execute(&e);
}

/* The pointers and numbers of one run, which for most plans fit the stack. */
static fb_status run_with_frame(fb_plan *p, fb_run *run) {
  if (FB_LIKELY(p->frame_pointers <= FRAME_POINTERS && p->frame_numbers <= FRAME_NUMBERS)) {
    void *pointers[FRAME_POINTERS];
    int64_t numbers[FRAME_NUMBERS];
    return run_in_frame(p, run, pointers, numbers);
  }
  fb_buffer *frame;
  size_t pointer_bytes = fb_round_up(p->frame_pointers * sizeof(void *), sizeof(int64_t));
  fb_status status = fb_pool_take(pointer_bytes + p->frame_numbers * sizeof(int64_t), &frame);
  if (status != FB_OK)
    return status;
  status = run_in_frame(p, run, (void **)frame->data, (int64_t *)((char *)frame->data + pointer_bytes));
  fb_buffer_release(frame);
  return status;
}

fb_status fb_plan_run(fb_plan *p, fb_run *run) {
  run->failure = INT64_MAX;
  for (int32_t i = 0; i < p->spec.n_outputs; i++)
    run->outputs[i] = NULL;
  fb_status status = run_with_frame(p, run);
  if (FB_UNLIKELY(status != FB_OK))
    undo_outputs(&p->spec, run);
  return status;
}
