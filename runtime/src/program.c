/* Programs compiled ahead of time: makes the plan at the first run, hands weights and inputs to it. */
#include <stdlib.h>
#include <string.h>

#include "flambeau/program.h"
#include "internal.h"
#include "program_checks.h"

/* What the first run makes; lives as long as the process. */
typedef struct {
  fb_plan *plan;
  int32_t n;
  fb_buffer *constants[]; /* per input of the plan; NULL for the caller's */
} program_state;

static void free_state(program_state *state) {
  if (state == NULL)
    return;
  for (int32_t i = 0; i < state->n; i++)
    fb_buffer_release(state->constants[i]);
  fb_plan_release(state->plan);
  free(state);
}

static fb_status make_state(const fb_program *p, program_state **out) {
  int32_t n = p->plan->n_inputs;
  program_state *state = (program_state *)calloc(1, sizeof *state + (size_t)n * sizeof(fb_buffer *));
  if (state == NULL)
    return fb_fail(FB_OUT_OF_MEMORY, "[%s] no memory for the program's tables.", p->name);
  state->n = n;
  fb_status status = fb_plan_create(p->plan, &state->plan);
  for (int32_t i = 0; status == FB_OK && i < n; i++)
    if (p->sources[i].input < 0)
      status = fb_buffer_wrap((void *)p->sources[i].data, p->sources[i].bytes, NULL, NULL, &state->constants[i]);
  if (status != FB_OK) {
    free_state(state);
    state = NULL;
  }
  *out = state;
  return status;
}

/* Of two threads that are first at the same time, one throws its work away. */
static fb_status get_state(const fb_program *p, const program_state **out) {
  _Atomic(program_state *) *cell = (_Atomic(program_state *) *)p->state;
  program_state *state = atomic_load_explicit(cell, memory_order_acquire);
  if (FB_UNLIKELY(state == NULL)) {
    program_state *made = NULL;
    fb_status status = make_state(p, &made);
    if (status != FB_OK)
      return status;
    if (atomic_compare_exchange_strong(cell, &state, made))
      state = made;
    else
      free_state(made);
  }
  *out = state;
  return FB_OK;
}

/* What one run needs, in one block of the pool: after the first run it costs no allocation. */
typedef struct {
  fb_buffer *headers; /* per input of the plan: the caller's memory as a buffer, which ends with the run */
  fb_input *inputs;
  fb_buffer **made;
} program_frame;

static fb_status take_frame(const fb_program *p, int32_t n, program_frame *frame, fb_buffer **block) {
  size_t header_bytes = (size_t)n * sizeof(fb_buffer), input_bytes = (size_t)n * sizeof(fb_input);
  size_t bytes = header_bytes + input_bytes + (size_t)p->n_outputs * sizeof(fb_buffer *);
  fb_status status =
      fb_buffer_alloc(fb_round_up(bytes, FB_ALIGN), block); /* as aligned as a header, also under guard */
  if (status != FB_OK)
    return status;
  char *base = (char *)fb_buffer_data(*block);
  *frame = (program_frame){(fb_buffer *)base, (fb_input *)(base + header_bytes),
                           (fb_buffer **)(base + header_bytes + input_bytes)};
  return FB_OK;
}

static void gather_inputs(const fb_program *p, const program_state *state, const void *const *inputs,
                          const program_frame *frame) {
  for (int32_t i = 0; i < state->n; i++) {
    const fb_source *source = &p->sources[i];
    fb_buffer *buffer = state->constants[i];
    if (source->input >= 0) {
      buffer = &frame->headers[i];
      fb_buffer_borrow(buffer, (void *)inputs[source->input], p->inputs[source->input].bytes);
    }
    frame->inputs[i] = (fb_input){.data = fb_buffer_data(buffer), .buffer = buffer};
  }
}

static fb_status run(const fb_program *p, const program_state *state, const void *const *inputs, void *const *outputs,
                     const program_frame *frame) {
  fb_run call = {.inputs = frame->inputs, .outputs = frame->made};
  gather_inputs(p, state, inputs, frame);
  fb_status status = fb_plan_run(state->plan, &call);
  if (status == FB_KERNEL_FAILED)
    return fb_program_explain(p, frame->inputs, call.failure);
  for (int32_t i = 0; status == FB_OK && i < p->n_outputs; i++) {
    if (p->outputs[i].bytes > 0)
      memcpy(outputs[i], fb_buffer_data(frame->made[i]), p->outputs[i].bytes);
    fb_buffer_release(frame->made[i]);
  }
  return status;
}

/* No list where there are tensors, or no memory where there are elements. */
static fb_status check_pointers(const fb_program *p, const char *kind, const void *const *pointers, int32_t n,
                                const fb_tensor_info *tensors) {
  if (n > 0 && pointers == NULL)
    return fb_fail(FB_INVALID_ARGUMENT, "[%s] the list of %ss is NULL. Pass %d pointers.", p->name, kind, (int)n);
  for (int32_t i = 0; i < n; i++)
    if (pointers[i] == NULL && tensors[i].bytes > 0)
      return fb_fail(FB_INVALID_ARGUMENT, "[%s] %s %d is NULL. Pass the address of its %zu bytes.", p->name, kind,
                     (int)i, tensors[i].bytes);
  return FB_OK;
}

fb_status fb_program_run(const fb_program *p, const void *const *inputs, void *const *outputs) {
  const program_state *state;
  if (p == NULL)
    return fb_fail(FB_INVALID_ARGUMENT, "[program] the program is NULL. Pass the address of <name>_program.");
  fb_status status = check_pointers(p, "input", inputs, p->n_inputs, p->inputs);
  if (status == FB_OK)
    status = check_pointers(p, "output", (const void *const *)outputs, p->n_outputs, p->outputs);
  if (status == FB_OK)
    status = get_state(p, &state);
  if (status != FB_OK)
    return status;
  program_frame frame;
  fb_buffer *block;
  if ((status = take_frame(p, state->n, &frame, &block)) != FB_OK)
    return status;
  status = run(p, state, inputs, outputs, &frame);
  fb_buffer_release(block);
  return status;
}

/* A dtype of floats: what lies above the bits of infinity is no number, the sign apart. */
typedef struct {
  const char *name;
  size_t width;
  uint64_t infinity;
} float_format;

static const float_format float_formats[] = {
    {"float16", 2, 0x7C00},
    {"bfloat16", 2, 0x7F80},
    {"float32", 4, 0x7F800000},
    {"float64", 8, UINT64_C(0x7FF0000000000000)},
};

/* NULL for a dtype of other numbers. */
static const float_format *find_format(const char *dtype) {
  for (size_t i = 0; i < sizeof float_formats / sizeof *float_formats; i++)
    if (strcmp(dtype, float_formats[i].name) == 0)
      return &float_formats[i];
  return NULL;
}

static bool is_nan(const unsigned char *number, const float_format *format) {
  uint64_t bits = 0;
  for (size_t i = 0; i < format->width; i++) /* little-endian, as every target is */
    bits |= (uint64_t)number[i] << (8 * i);
  return (bits & ~(UINT64_C(1) << (8 * format->width - 1))) > format->infinity;
}

/* Bit for bit, but all NaNs are equal: machines differ in the sign and payload of those they make. */
static fb_status compare(const fb_program *p, int32_t output, const unsigned char *found) {
  const unsigned char *expected = (const unsigned char *)p->expected[output];
  const float_format *format = find_format(p->outputs[output].dtype);
  for (size_t i = 0; i < p->outputs[output].bytes; i++) {
    if (found[i] == expected[i])
      continue;
    size_t number = format ? i - i % format->width : 0;
    if (!format || !is_nan(found + number, format) || !is_nan(expected + number, format))
      return fb_fail(FB_INVALID_ARGUMENT, "[check] %s: byte %zu of output %d is %02x, but %02x is expected.", p->name,
                     i, (int)output, found[i], expected[i]);
  }
  return FB_OK;
}

fb_status fb_program_check(const fb_program *p) {
  if (p == NULL)
    return fb_fail(FB_INVALID_ARGUMENT, "[check] the program is NULL. Pass the address of <name>_program.");
  void **outputs = (void **)calloc((size_t)p->n_outputs, sizeof *outputs);
  fb_status status = outputs == NULL ? fb_fail(FB_OUT_OF_MEMORY, "[check] no memory for the outputs.") : FB_OK;
  for (int32_t i = 0; status == FB_OK && i < p->n_outputs; i++)
    if ((outputs[i] = malloc(p->outputs[i].bytes + 1)) == NULL)
      status = fb_fail(FB_OUT_OF_MEMORY, "[check] no memory for %zu bytes of output %d.", p->outputs[i].bytes, (int)i);
  if (status == FB_OK)
    status = fb_program_run(p, p->sample_inputs, outputs);
  for (int32_t i = 0; status == FB_OK && i < p->n_outputs; i++)
    status = compare(p, i, (const unsigned char *)outputs[i]);
  for (int32_t i = 0; outputs != NULL && i < p->n_outputs; i++)
    free(outputs[i]);
  free(outputs);
  return status;
}
