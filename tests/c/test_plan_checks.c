/* fb_plan_create refuses every kind of malformed spec, and says why. Each case breaks one thing of a valid spec. */
#include "plan_builder.h"

static void nothing(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {
  (void)bufs, (void)dims, (void)lo, (void)hi, (void)scratch;
}

/* Expressions: 2 is 64, 3 is 32, 4 is 64 + 32. A fallible kernel step, then a copy from the arena to an update. */
static Builder *valid(void) {
  static const char constants[16];
  Builder *b = new_builder();
  int32_t bytes = constant(b, 64), half = constant(b, 32);
  expr(b, FB_X_ADD, bytes, half);
  add_input(b, bytes);
  add_output(b, FB_OUT_UPDATE, 0, bytes);
  add_output(b, FB_OUT_OUTPUT, 0, bytes);
  b->spec.arena_bytes = bytes;
  b->spec.n_fallible = 1;
  b->spec.constants = constants;
  b->spec.constant_bytes = sizeof constants;
  add_step(b, add_kernel(b, nothing), bytes, 1, 0);
  add_ref(b, FB_REF_ARENA, 0, 0);
  add_ref(b, FB_REF_INPUT, 0, half);
  add_step(b, FB_KERNEL_COPY, 0, 0, 0);
  add_ref(b, FB_REF_OUTPUT, 1, 0);
  add_ref(b, FB_REF_ARENA, 0, 0);
  add_dim(b, bytes);
  return b;
}

typedef struct {
  const char *message;
  void (*break_it)(Builder *b);
} Case;

static void negative_count(Builder *b) { b->spec.n_symbols = -1; }
static void too_fallible(Builder *b) { b->spec.n_fallible = 3; }
static void arena_unknown(Builder *b) { b->spec.arena_bytes = 5; }
static void arena_negative(Builder *b) { b->exprs[b->spec.arena_bytes = 1].a = -7; }
static void constants_missing(Builder *b) { b->spec.constants = NULL; }
static void kernel_missing(Builder *b) { b->kernels[0] = NULL; }
static void bad_operator(Builder *b) { b->exprs[4].op = 9; }
static void bad_symbol(Builder *b) { b->exprs[4] = (fb_expr){FB_X_SYMBOL, 0, 0}; }
static void later_operand(Builder *b) { b->exprs[4].b = 4; }
static void overflow(Builder *b) { b->exprs[2].a = INT64_MAX; }
static void division(Builder *b) { b->exprs[4] = (fb_expr){FB_X_FLOORDIV, 2, 0}; }
static const fb_guard known = {FB_IS_ZERO, 0}, bad_relation = {4, 0}, bad_expression = {FB_IS_ZERO, 5};
static void guards_without_symbols(Builder *b) { b->spec.guards = &known, b->spec.n_guards = 1; }
static void guards_missing(Builder *b) { b->spec.n_symbols = 1, b->spec.n_guards = -1; }
static void guard_relation(Builder *b) { b->spec.n_symbols = 1, b->spec.guards = &bad_relation, b->spec.n_guards = 1; }
static void guard_unknown(Builder *b) { b->spec.n_symbols = 1, b->spec.guards = &bad_expression, b->spec.n_guards = 1; }
static void input_size_unknown(Builder *b) { b->input_bytes[0] = -1; }
static void output_mode(Builder *b) { b->outputs[0].mode = 5; }
static void output_size_unknown(Builder *b) { b->outputs[0].bytes = 99; }
static void output_source(Builder *b) { b->outputs[0].source = 1; }
static void output_of_later(Builder *b) { b->outputs[1].source = 1; }
static void output_too_big(Builder *b) { b->outputs[0].bytes = 4; }
static const int32_t kept_unknown[] = {99}, kept_known[] = {0};
static void kept_late(Builder *b) { b->spec.n_fallible = 0, b->spec.n_kept = 1, b->spec.kept = kept_known; }
static void kept_size(Builder *b) { b->spec.n_fallible = 1, b->spec.n_kept = 1, b->spec.kept = kept_unknown; }
static void kept_of_arena(Builder *b) { b->spec.n_fallible = 1, b->spec.n_kept = 1, b->spec.kept = kept_known; }
static void kept_spare(Builder *b) { b->spec.n_spare = 1; }
static void ref_kind(Builder *b) { b->refs[0].kind = 7; }
static void ref_index(Builder *b) { b->refs[0].index = 1; }
static void ref_input(Builder *b) { b->refs[1].index = -1; }
static void ref_offset_unknown(Builder *b) { b->refs[0].offset = 5; }
static void ref_offset_outside(Builder *b) { b->refs[1].offset = 4; }
static void ref_offset_negative(Builder *b) { b->exprs[1].a = -8, b->refs[1].offset = 1, b->steps[0].grain = 2; }
static void dim_unknown(Builder *b) { b->dims[0] = 5; }
static void step_kernel(Builder *b) { b->steps[0].kernel = 1; }
static void step_built_in(Builder *b) { b->steps[0].kernel = -11; }
static void step_refs(Builder *b) { b->steps[1].n_refs = 3; }
static void step_dims(Builder *b) { b->steps[0].first_dim = 2; }
static void step_domain_unknown(Builder *b) { b->steps[0].n = -1; }
static void step_domain_negative(Builder *b) { b->exprs[1].a = -3, b->steps[0].n = 1, b->steps[0].grain = 2; }
static void step_grain(Builder *b) { b->steps[0].grain = 0; }
static void step_scratch(Builder *b) { b->exprs[1].a = -3, b->steps[0].scratch = 1, b->steps[0].grain = 2; }
static void built_in_refs(Builder *b) { b->steps[1].n_refs = 1; }
static void no_cursor(Builder *b) { b->steps[1].kernel = FB_KERNEL_MOVE, b->steps[1].n_dims = 0; }
static void many_cursors(Builder *b) { b->refs[0] = (fb_ref){FB_REF_CURSOR, 4096, 0}; }
static void wave(Builder *b, int32_t step, int32_t length) {
  b->steps[step] = (fb_step){.kernel = FB_KERNEL_WAVE, .n_dims = 1};
  b->dims[0] = length;
}
static void wave_too_long(Builder *b) { wave(b, 1, 1); }
static void wave_unknown(Builder *b) { wave(b, 1, 4); }
static void wave_of_both_kinds(Builder *b) { wave(b, 0, 1); }
static void wave_of_copies(Builder *b) { wave(b, 0, 1), b->spec.n_fallible = 0; }
static void built_in_past_end(Builder *b) { b->refs[3].offset = 3; }
static void built_in_negative(Builder *b) { b->exprs[1].a = -3, b->dims[0] = 1, b->steps[0].grain = 2; }
static void fallible_writes(Builder *b) { b->spec.n_fallible = 2; }

static const Case cases[] = {
    {"[plan] a count is negative.", negative_count},
    {"[plan] 3 of 2 steps are marked fallible.", too_fallible},
    {"[plan] the arena's size is expression 5 of 5.", arena_unknown},
    {"[plan] the arena's size, expression 1 is -7. It must not be negative.", arena_negative},
    {"[plan] constants are missing.", constants_missing},
    {"[plan] kernel 0 has no address.", kernel_missing},
    {"[plan] expression 4 has operator 9.", bad_operator},
    {"[plan] expression 4 reads symbol 0 of 0.", bad_symbol},
    {"[plan] expression 4 reads expressions 2 and 4, not earlier ones.", later_operand},
    {"[plan] size expression 4 (operator 2 on 9223372036854775807 and 32) has no 64-bit value. Use smaller extents.",
     overflow},
    {"[plan] size expression 4 (operator 5 on 64 and 0) has no 64-bit value. Use smaller extents.", division},
    {"[plan] the size of input 0 is expression -1 of 5.", input_size_unknown},
    {"[plan] output 0 has mode 5.", output_mode},
    {"[plan] the size of output 0 is expression 99 of 5.", output_size_unknown},
    {"[plan] output 0 comes from input 1 of 1.", output_source},
    {"[plan] output 1 is output 1, not an earlier one.", output_of_later},
    {"[plan] output 0 has 96 bytes but comes from input 0 of 64 bytes.", output_too_big},
    {"[plan] 1 results are kept, of 0 steps that come first, on 0 devices.", kept_late},
    {"[plan] the size of kept result 0 is expression 99 of 5.", kept_size},
    {"[plan] step 0 makes a kept result of something else than one input.", kept_of_arena},
    {"[plan] 1 of 0 kept results are spare.", kept_spare},
    {"[plan] ref 0 has kind 7.", ref_kind},
    {"[plan] ref 0 names number 1 of 1.", ref_index},
    {"[plan] ref 1 names number -1 of 1.", ref_input},
    {"[plan] the offset of ref 0 is expression 5 of 5.", ref_offset_unknown},
    {"[plan] ref 1 has offset 96 in a region of 64 bytes.", ref_offset_outside},
    {"[plan] ref 1 has offset -8 in a region of 64 bytes.", ref_offset_negative},
    {"[plan] dim 0 is expression 5 of 5.", dim_unknown},
    {"[plan] step 0 calls kernel 1 of 1.", step_kernel},
    {"[plan] 1 guards on 0 symbols.", guards_without_symbols},
    {"[plan] -1 guards on 1 symbols.", guards_missing},
    {"[plan] guard 0 has relation 4.", guard_relation},
    {"[plan] guard 0 is on expression 5 of 5.", guard_unknown},
    {"[plan] step 0 calls kernel -11 of 1.", step_built_in},
    {"[plan] step 1 begins a wave of 1 steps. Give a constant of at most 32 that follow it and may fail, or not, as it "
     "may.",
     wave_too_long},
    {"[plan] step 1 begins a wave of 2 steps. Give a constant of at most 32 that follow it and may fail, or not, as it "
     "may.",
     wave_unknown},
    {"[plan] step 0 begins a wave of 1 steps. Give a constant of at most 32 that follow it and may fail, or not, as it "
     "may.",
     wave_of_both_kinds},
    {"[plan] step 1 is in a wave, but calls no kernel of the CPU.", wave_of_copies},
    {"[plan] the refs of step 1 are out of range.", step_refs},
    {"[plan] the dims of step 0 are out of range.", step_dims},
    {"[plan] step 0 has domain, grain and scratch -1, 1, 0 of 5 expressions.", step_domain_unknown},
    {"[plan] the domain of step 0 is -3. It must not be negative.", step_domain_negative},
    {"[plan] the grain of step 0 is 0. It must be at least 1.", step_grain},
    {"[plan] the scratch of step 0 is -3. It must not be negative.", step_scratch},
    {"[plan] built-in step 1 has 1 refs and 1 dims.", built_in_refs},
    {"[plan] step 1 moves what is no cursor.", no_cursor},
    {"[plan] ref 0 names number 4096 of 4096.", many_cursors},
    {"[plan] step 1 copies or clears 64 bytes past the end of its ref 1.", built_in_past_end},
    {"[plan] the bytes of step 1 is -3. It must not be negative.", built_in_negative},
    {"[plan] fallible step 1 touches output 1, which updates or replaces an input. Do that after the fallible steps.",
     fallible_writes},
};

static void test_malformed_specs(void) {
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Builder *b = valid();
    cases[i].break_it(b);
    fb_plan *plan = (fb_plan *)b;
    CHECK(fb_plan_create(&b->spec, &plan) == FB_INVALID_ARGUMENT && plan == NULL);
    if (strcmp(fb_last_error(), cases[i].message) != 0)
      fprintf(stderr, "case %zu: expected: %s\n", i, cases[i].message);
    CHECK(strcmp(fb_last_error(), cases[i].message) == 0);
    free(b);
  }
}

static void test_the_valid_spec(void) { fb_plan_release(build(valid())); }

/* Division rounds as its name says, for all signs. */
static void test_division(void) {
  static const int64_t a[] = {7, -7, 7, -7, 6, -6}, d[] = {2, 2, -2, -2, 3, 3};
  static const int64_t floors[] = {3, -4, -4, 3, 2, -2}, ceils[] = {4, -3, -3, 4, 2, -2};
  for (int i = 0; i < 6; i++) {
    Builder *b = new_builder();
    int32_t x = constant(b, a[i]), y = constant(b, d[i]);
    int32_t eight = constant(b, 8);
    int32_t floor = expr(b, FB_X_ADD, expr(b, FB_X_FLOORDIV, x, y), eight);
    int32_t ceil = expr(b, FB_X_ADD, expr(b, FB_X_CEILDIV, x, y), eight);
    add_output(b, FB_OUT_NEW, 0, expr(b, FB_X_MIN, floor, constant(b, 1000)));
    add_output(b, FB_OUT_NEW, 0, expr(b, FB_X_MAX, ceil, expr(b, FB_X_SUB, ceil, eight)));
    fb_plan *plan = build(b);
    fb_buffer *outputs[2];
    fb_run run = {.outputs = outputs};
    CHECK(fb_plan_run(plan, &run) == FB_OK);
    CHECK((int64_t)fb_buffer_bytes(outputs[0]) == floors[i] + 8);
    CHECK((int64_t)fb_buffer_bytes(outputs[1]) == ceils[i] + 8);
    fb_buffer_release(outputs[0]);
    fb_buffer_release(outputs[1]);
    fb_plan_release(plan);
  }
}

int main(void) {
  RUN(test_the_valid_spec);
  RUN(test_malformed_specs);
  RUN(test_division);
  fb_memory_trim();
  return 0;
}
