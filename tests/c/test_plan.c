/* Running plans: output modes, donation, transactions, expressions with symbols, parallel steps, memory. */
#include <pthread.h>
#include <stdatomic.h>

#include "plan_builder.h"

/* ---- kernels: doubles; the domain counts elements ------------------------------------------------------ */

/* bufs[0] = bufs[1] + the scalar bufs[2] */
static void add_scalar(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {
  (void)dims, (void)scratch;
  double *out = bufs[0];
  const double *in = bufs[1], s = *(const double *)bufs[2];
  for (int64_t i = lo; i < hi; i++)
    out[i] = in[i] + s;
}

/* bufs[0] = dims[0] * bufs[1], by way of scratch */
static void scale_through_scratch(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {
  double *out = bufs[0], *mine = scratch;
  const double *in = bufs[1];
  for (int64_t i = lo; i < hi; i++) {
    mine[i % 8] = in[i];
    out[i] = mine[i % 8] * (double)dims[0];
  }
}

/* Reports error 7 at the first negative element of bufs[0]; bufs[1] is the status word. */
static void check_nonnegative(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {
  (void)dims, (void)scratch;
  const double *in = bufs[0];
  atomic_int_least64_t *status = bufs[1];
  for (int64_t i = lo; i < hi; i++) {
    int64_t word = INT64_C(7) << 48 | i, before = atomic_load(status);
    while (in[i] < 0 && word < before && !atomic_compare_exchange_weak(status, &before, word))
      ;
  }
}

static void must_not_run(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {
  (void)bufs, (void)dims, (void)lo, (void)hi, (void)scratch;
  CHECK(!"a step ran that must not");
}

static int live_buffers(void) { return (int)stats_now().live_buffers; }

static void drop_outputs(fb_run *run, int n) {
  for (int i = 0; i < n; i++)
    fb_buffer_release(run->outputs[i]);
}

/* ---- tests --------------------------------------------------------------------------------------------- */

enum { N = 100, BYTES = 800 };

/* out = (x + s) + c, the first sum in the arena. Inputs x and s, constant c. */
static fb_plan *two_step_plan(int32_t mode, int64_t grain_value) {
  static const double c = 0.5;
  Builder *b = new_builder();
  int32_t n = constant(b, N), bytes = constant(b, BYTES), eight = constant(b, 8), at64 = constant(b, 64);
  int32_t grain = constant(b, grain_value), arena = constant(b, 64 + BYTES);
  add_input(b, bytes);
  add_input(b, eight);
  add_output(b, mode, 0, bytes);
  b->spec.constants = &c;
  b->spec.constant_bytes = sizeof c;
  b->spec.arena_bytes = arena;
  int32_t kernel = add_kernel(b, add_scalar);
  add_step(b, kernel, n, grain, 0);
  add_ref(b, FB_REF_ARENA, 0, at64);
  add_ref(b, FB_REF_INPUT, 0, 0);
  add_ref(b, FB_REF_INPUT, 1, 0);
  add_step(b, kernel, n, grain, 0);
  add_ref(b, FB_REF_OUTPUT, 0, 0);
  add_ref(b, FB_REF_ARENA, 0, at64);
  add_ref(b, FB_REF_CONST, 0, 0);
  return build(b);
}

static void check_two_step(int32_t mode, bool donated, bool also_held, bool expect_taken) {
  fb_plan *plan = two_step_plan(mode, 10);
  CHECK(fb_plan_inputs(plan) == 2 && fb_plan_outputs(plan) == 1 && fb_plan_symbols(plan) == 0);
  CHECK(fb_plan_arena_bytes(plan) == 0);
  fb_buffer *x = ramp(N, 1);
  double s = 2;
  fb_input inputs[] = {from_buffer(x), from_cell(&s)};
  inputs[0].donated = donated;
  if (also_held)
    fb_buffer_retain(x);
  fb_buffer *outputs[1];
  fb_run run = {.inputs = inputs, .outputs = outputs};
  int live = live_buffers();
  CHECK(fb_plan_run(plan, &run) == FB_OK && run.failure == INT64_MAX);
  CHECK(inputs[0].taken == expect_taken && (outputs[0] == x) == expect_taken);
  CHECK(live_buffers() == live + !expect_taken && fb_plan_arena_bytes(plan) == 896);
  for (int i = 0; i < N; i++) {
    CHECK(at(outputs[0], i) == i + 3.5);
    CHECK(expect_taken || at(x, i) == i + 1);
  }
  drop_outputs(&run, 1);
  for (int i = 0; i < !expect_taken + also_held; i++)
    fb_buffer_release(x);
  fb_plan_retain(plan);
  fb_plan_release(plan);
  fb_plan_release(plan);
}

static void test_modes_and_donation(void) {
  check_two_step(FB_OUT_NEW, false, false, false);
  check_two_step(FB_OUT_NEW, true, false, false);
  check_two_step(FB_OUT_UPDATE, false, false, false);
  check_two_step(FB_OUT_UPDATE, true, false, true);
  check_two_step(FB_OUT_REPLACE, false, false, false);
  check_two_step(FB_OUT_REPLACE, true, false, true);
  check_two_step(FB_OUT_REPLACE, true, true, true); /* the caller may keep a reference it no longer reads */
}

/* x += s in place: an update that is not donated starts as a copy. */
static void test_update_starts_from_the_input(void) {
  Builder *b = new_builder();
  int32_t n = constant(b, N), bytes = constant(b, BYTES);
  add_input(b, bytes);
  add_input(b, constant(b, 8));
  add_output(b, FB_OUT_UPDATE, 0, bytes);
  add_step(b, add_kernel(b, add_scalar), n, n, 0);
  add_ref(b, FB_REF_OUTPUT, 0, 0);
  add_ref(b, FB_REF_OUTPUT, 0, 0);
  add_ref(b, FB_REF_INPUT, 1, 0);
  fb_plan *plan = build(b);
  double s = 0.25;
  fb_buffer *x = ramp(N, 0), *outputs[1];
  fb_input inputs[] = {from_buffer(x), from_cell(&s)};
  fb_run run = {.inputs = inputs, .outputs = outputs};
  CHECK(fb_plan_run(plan, &run) == FB_OK && outputs[0] != x);
  CHECK(at(outputs[0], 9) == 9.25 && at(x, 9) == 9);
  fb_buffer_release(x);
  for (int round = 0; round < 3; round++) { /* and a donated one is the same block all the way */
    x = outputs[0];
    inputs[0] = from_buffer(x);
    inputs[0].donated = true;
    CHECK(fb_plan_run(plan, &run) == FB_OK && outputs[0] == x && fb_buffer_refs(x) == 1);
  }
  CHECK(at(x, 9) == 10);
  fb_buffer_release(x);
  fb_plan_release(plan);
}

static void test_outputs_that_are_others(void) {
  Builder *b = new_builder();
  int32_t bytes = constant(b, BYTES), eight = constant(b, 8);
  add_input(b, bytes);
  add_input(b, eight);
  add_output(b, FB_OUT_INPUT, 0, bytes);
  add_output(b, FB_OUT_REPLACE, 0, bytes); /* may not take input 0: it is output 0 */
  add_output(b, FB_OUT_OUTPUT, 1, bytes);
  add_output(b, FB_OUT_INPUT, 1, eight);
  add_step(b, FB_KERNEL_ZERO, 0, 0, 0);
  add_ref(b, FB_REF_OUTPUT, 2, 0);
  add_dim(b, bytes);
  fb_plan *plan = build(b);
  fb_buffer *x = ramp(N, 5), *outputs[4];
  double s = 3;
  fb_input inputs[] = {from_buffer(x), from_cell(&s)};
  inputs[0].donated = true;
  fb_run run = {.inputs = inputs, .outputs = outputs};
  CHECK(fb_plan_run(plan, &run) == FB_OK && !inputs[0].taken);
  CHECK(outputs[0] == x && outputs[1] != x && outputs[2] == outputs[1]);
  CHECK(fb_buffer_refs(x) == 2 && fb_buffer_refs(outputs[1]) == 2);
  CHECK(at(x, 0) == 5 && at(outputs[1], N - 1) == 0 && at(outputs[3], 0) == 3);
  drop_outputs(&run, 4);
  fb_buffer_release(x);
  fb_plan_release(plan);
}

static void test_two_outputs_want_one_donation(void) {
  Builder *b = new_builder();
  int32_t bytes = constant(b, BYTES);
  add_input(b, bytes);
  add_output(b, FB_OUT_UPDATE, 0, bytes);
  add_output(b, FB_OUT_UPDATE, 0, bytes);
  fb_plan *plan = build(b);
  fb_buffer *x = ramp(N, 5), *outputs[2];
  fb_input inputs[] = {from_buffer(x)};
  inputs[0].donated = true;
  fb_run run = {.inputs = inputs, .outputs = outputs};
  CHECK(fb_plan_run(plan, &run) == FB_OK && inputs[0].taken);
  CHECK(outputs[0] == x && outputs[1] != x && at(outputs[1], 7) == 12);
  drop_outputs(&run, 2);
  fb_plan_release(plan);
}

/* check(x); out0 = fresh; x updated: a fallible step, then a commit. */
static fb_plan *fallible_plan(int64_t huge_output) {
  Builder *b = new_builder();
  int32_t n = constant(b, N), grain = constant(b, 16), bytes = constant(b, BYTES);
  add_input(b, bytes);
  add_output(b, FB_OUT_UPDATE, 0, bytes);
  add_output(b, FB_OUT_NEW, 0, constant(b, huge_output));
  b->spec.arena_bytes = bytes;
  b->spec.n_fallible = 2;
  add_step(b, add_kernel(b, check_nonnegative), n, grain, 0);
  add_ref(b, FB_REF_INPUT, 0, 0);
  add_ref(b, FB_REF_STATUS, 0, 0);
  add_step(b, FB_KERNEL_COPY, 0, 0, 0);
  add_ref(b, FB_REF_ARENA, 0, 0);
  add_ref(b, FB_REF_INPUT, 0, 0);
  add_dim(b, bytes);
  add_step(b, FB_KERNEL_ZERO, 0, 0, 0);
  add_ref(b, FB_REF_OUTPUT, 0, 0);
  add_dim(b, bytes);
  return build(b);
}

static void check_failure(fb_plan *plan, fb_buffer *x, fb_status expected) {
  fb_buffer *outputs[2] = {x, x};
  fb_input inputs[] = {from_buffer(x)};
  inputs[0].donated = true;
  fb_run run = {.inputs = inputs, .outputs = outputs};
  int live = live_buffers();
  CHECK(fb_plan_run(plan, &run) == expected);
  CHECK(outputs[0] == NULL && outputs[1] == NULL && !inputs[0].taken && live_buffers() == live);
  CHECK(fb_buffer_refs(x) == 1 && at(x, 0) == -40 && at(x, N - 1) == N - 41);
  CHECK(run.failure == (expected == FB_KERNEL_FAILED ? INT64_C(7) << 48 : INT64_MAX));
}

static void test_failures_change_nothing(void) {
  fb_buffer *x = ramp(N, -40);
  fb_plan *plan = fallible_plan(64);
  CHECK(fb_set_num_threads(3) == FB_OK);
  for (int round = 0; round < 20; round++)
    check_failure(plan, x, FB_KERNEL_FAILED);
  CHECK(strcmp(fb_last_error(), "[plan] step 0 reported error 7 at position 0.") == 0);
  fb_plan *big = fallible_plan(INT64_C(1) << 40);
  fb_memory_set_limit(1 << 20);
  check_failure(big, x, FB_OUT_OF_MEMORY);
  fb_memory_set_limit(0);
  for (int i = 0; i < N; i++)
    ((double *)fb_buffer_data(x))[i] = i;
  fb_buffer *outputs[2];
  fb_input inputs[] = {from_buffer(x)};
  inputs[0].donated = true;
  fb_run run = {.inputs = inputs, .outputs = outputs};
  CHECK(fb_plan_run(plan, &run) == FB_OK && outputs[0] == x && at(x, N - 1) == 0);
  drop_outputs(&run, 2);
  fb_plan_release(plan);
  fb_plan_release(big);
}

static void test_bad_inputs(void) {
  fb_plan *plan = two_step_plan(FB_OUT_NEW, 10);
  fb_buffer *small = ramp(N - 1, 0), *x = ramp(N, 0), *outputs[1];
  double s = 1;
  fb_input inputs[] = {from_buffer(small), from_cell(&s)};
  fb_run run = {.inputs = inputs, .outputs = outputs};
  CHECK(fb_plan_run(plan, &run) == FB_INVALID_ARGUMENT);
  CHECK(strcmp(fb_last_error(), "[plan] input 0 has 792 bytes, but at least 800 are read.") == 0);
  inputs[0] = from_buffer(x);
  inputs[1] = from_cell(NULL);
  CHECK(fb_plan_run(plan, &run) == FB_INVALID_ARGUMENT && outputs[0] == NULL);
  fb_buffer_release(small);
  fb_buffer_release(x);
  fb_plan_release(plan);
}

/* out[0:n] = 3 x[k:k+n], in which n and k are symbols. */
static void test_symbols_and_scratch(void) {
  Builder *b = new_builder();
  b->spec.n_symbols = 2;
  int32_t n = expr(b, FB_X_SYMBOL, 0, 0), k = expr(b, FB_X_SYMBOL, 1, 0), eight = constant(b, 8);
  int32_t bytes = expr(b, FB_X_MUL, n, eight), offset = expr(b, FB_X_MUL, k, eight);
  int32_t grain = expr(b, FB_X_MAX, expr(b, FB_X_CEILDIV, n, eight), 1);
  add_input(b, expr(b, FB_X_ADD, bytes, offset));
  add_output(b, FB_OUT_NEW, 0, bytes);
  add_step(b, add_kernel(b, scale_through_scratch), n, grain, constant(b, 64));
  add_ref(b, FB_REF_OUTPUT, 0, 0);
  add_ref(b, FB_REF_INPUT, 0, offset);
  add_dim(b, constant(b, 3));
  fb_plan *plan = build(b);
  fb_buffer *x = ramp(2000, 0), *outputs[1];
  fb_input inputs[] = {from_buffer(x)};
  for (int threads = 1; threads <= 4; threads++) {
    CHECK(fb_set_num_threads(threads) == FB_OK);
    for (int64_t n_value = 0; n_value < 2000; n_value += 331) {
      int64_t symbols[] = {n_value, 5};
      fb_run run = {.inputs = inputs, .outputs = outputs, .symbols = symbols};
      CHECK(fb_plan_run(plan, &run) == FB_OK && fb_buffer_bytes(outputs[0]) == (size_t)n_value * 8);
      for (int i = 0; i < n_value; i++)
        CHECK(at(outputs[0], i) == 3.0 * (i + 5));
      drop_outputs(&run, 1);
    }
  }
  int64_t too_far[] = {1996, 5}, negative[] = {-1, 0}, overflow[] = {INT64_MAX / 4, 0};
  fb_run run = {.inputs = inputs, .outputs = outputs, .symbols = too_far};
  CHECK(fb_plan_run(plan, &run) == FB_INVALID_ARGUMENT && strstr(fb_last_error(), "16008") != NULL);
  run.symbols = negative;
  CHECK(fb_plan_run(plan, &run) == FB_OTHER_SIZES && outputs[0] == NULL);
  run.symbols = overflow;
  CHECK(fb_plan_run(plan, &run) == FB_OTHER_SIZES && strstr(fb_last_error(), "no 64-bit value") != NULL);
  fb_buffer_release(x);
  fb_plan_release(plan);
}

/* A copy of n bytes for 4 <= n < 10, n != 7, where n is a symbol: the arrays must outlive the call that builds it. */
static fb_plan *guarded_copy(void) {
  Builder *b = new_builder();
  b->spec.n_symbols = 1;
  int32_t n = expr(b, FB_X_SYMBOL, 0, 0);
  fb_guard guards[] = {{FB_IS_NOT_NEGATIVE, expr(b, FB_X_SUB, n, constant(b, 4))},
                       {FB_IS_NEGATIVE, expr(b, FB_X_SUB, n, constant(b, 10))},
                       {FB_IS_NOT_ZERO, expr(b, FB_X_SUB, n, constant(b, 7))}};
  b->spec.guards = guards;
  b->spec.n_guards = 3;
  add_input(b, n);
  add_output(b, FB_OUT_UPDATE, 0, n);
  return build(b);
}

/* Outside of its guards a plan does nothing, whatever else is wrong. */
static void test_guards(void) {
  fb_plan *plan = guarded_copy();
  for (int64_t n = 0; n < 16; n++) {
    fb_buffer *x = must_alloc(64), *outputs[1];
    fb_input inputs[] = {from_buffer(x)};
    inputs[0].donated = true;
    fb_run run = {.inputs = inputs, .outputs = outputs, .symbols = &n};
    bool fits = n >= 4 && n < 10 && n != 7;
    CHECK(fb_plan_fits(plan, &n) == fits);
    CHECK(fb_plan_run(plan, &run) == (fits ? FB_OK : FB_OTHER_SIZES));
    CHECK(inputs[0].taken == fits && outputs[0] == (fits ? x : NULL));
    fb_buffer_release(x);
  }
  int64_t n = 12;
  fb_input absent[] = {{.data = NULL}};
  fb_buffer *outputs[1];
  fb_run run = {.inputs = absent, .outputs = outputs, .symbols = &n};
  CHECK(fb_plan_run(plan, &run) == FB_OTHER_SIZES && strstr(fb_last_error(), "not for these sizes") != NULL);
  fb_plan_release(plan);
}

/* 100 // (n - 3) has no value at n = 3: there a guard on it does not hold, nor do the plan's other sizes matter. */
static void test_guards_without_a_value(void) {
  Builder *b = new_builder();
  b->spec.n_symbols = 1;
  int32_t quotient =
      expr(b, FB_X_FLOORDIV, constant(b, 100), expr(b, FB_X_SUB, expr(b, FB_X_SYMBOL, 0, 0), constant(b, 3)));
  fb_guard guards[] = {{FB_IS_NOT_NEGATIVE, quotient}};
  b->spec.guards = guards;
  b->spec.n_guards = 1;
  add_output(b, FB_OUT_NEW, 0, expr(b, FB_X_FLOORDIV, constant(b, 64), quotient));
  fb_plan *plan = build(b);
  fb_buffer *outputs[1];
  int64_t n = 3;
  fb_run run = {.outputs = outputs, .symbols = &n};
  CHECK(fb_plan_run(plan, &run) == FB_OTHER_SIZES && !fb_plan_fits(plan, &n));
  n = 104;
  CHECK(fb_plan_fits(plan, &n) && fb_plan_run(plan, &run) == FB_OTHER_SIZES);
  n = 13;
  CHECK(fb_plan_run(plan, &run) == FB_OK && fb_buffer_bytes(outputs[0]) == 6);
  fb_buffer_release(outputs[0]);
  fb_plan_release(plan);
}

/* More refs, inputs and steps than the frame on the stack holds. */
static void test_big_frame(void) {
  Builder *b = new_builder();
  int32_t bytes = constant(b, 64);
  for (int i = 0; i < 300; i++) {
    add_input(b, bytes);
    add_output(b, FB_OUT_NEW, 0, bytes);
    add_step(b, FB_KERNEL_COPY, 0, 0, 0);
    add_ref(b, FB_REF_OUTPUT, i, 0);
    add_ref(b, FB_REF_INPUT, 299 - i, 0);
    add_dim(b, bytes);
  }
  fb_plan *plan = build(b);
  static fb_input inputs[300];
  static fb_buffer *outputs[300];
  for (int i = 0; i < 300; i++)
    inputs[i] = from_buffer(ramp(8, i));
  fb_run run = {.inputs = inputs, .outputs = outputs};
  CHECK(fb_plan_run(plan, &run) == FB_OK);
  for (int i = 0; i < 300; i++)
    CHECK(at(outputs[i], 1) == 300 - i);
  drop_outputs(&run, 300);
  for (int i = 0; i < 300; i++)
    fb_buffer_release(inputs[i].buffer);
  fb_plan_release(plan);
}

static void test_empty_domain_runs_nothing(void) {
  Builder *b = new_builder();
  add_step(b, add_kernel(b, must_not_run), 0, 1, 0);
  fb_plan *plan = build(b);
  fb_run run = {0};
  CHECK(fb_plan_run(plan, &run) == FB_OK);
  fb_plan_release(plan);
}

static void test_big_copy(void) {
  enum { BIG = 3 << 20 };
  Builder *b = new_builder();
  int32_t bytes = constant(b, BIG);
  add_input(b, bytes);
  add_output(b, FB_OUT_UPDATE, 0, bytes);
  fb_plan *plan = build(b);
  CHECK(fb_set_num_threads(3) == FB_OK);
  fb_buffer *x = ramp(BIG / 8, 1), *outputs[1];
  fb_input inputs[] = {from_buffer(x)};
  fb_run run = {.inputs = inputs, .outputs = outputs};
  CHECK(fb_plan_run(plan, &run) == FB_OK);
  CHECK(memcmp(fb_buffer_data(x), fb_buffer_data(outputs[0]), BIG) == 0);
  drop_outputs(&run, 1);
  fb_buffer_release(x);
  fb_plan_release(plan);
}

static void *run_often(void *plan) {
  double s = 1;
  fb_buffer *x = ramp(N, 0), *outputs[1];
  fb_input inputs[] = {from_buffer(x), from_cell(&s)};
  fb_run run = {.inputs = inputs, .outputs = outputs};
  for (int round = 0; round < 300; round++) {
    CHECK(fb_plan_run(plan, &run) == FB_OK && at(outputs[0], N - 1) == N + 0.5);
    drop_outputs(&run, 1);
  }
  fb_buffer_release(x);
  return NULL;
}

static void test_one_plan_on_many_threads(void) {
  CHECK(fb_set_num_threads(3) == FB_OK);
  fb_plan *plan = two_step_plan(FB_OUT_NEW, 10);
  pthread_t threads[4];
  for (int i = 0; i < 4; i++)
    CHECK(pthread_create(&threads[i], NULL, run_often, plan) == 0);
  for (int round = 0; round < 50; round++)
    CHECK(fb_set_num_threads(1 + round % 5) == FB_OK);
  for (int i = 0; i < 4; i++)
    pthread_join(threads[i], NULL);
  fb_plan_release(plan);
}

static int asked;
static bool end_at_the_third(void) { return ++asked == 3; }

/* A step that goes back to itself, between one that writes what may be written and one that must not. */
static void test_a_loop_is_interrupted(void) {
  Builder *b = new_builder();
  int32_t bytes = constant(b, BYTES), back = constant(b, -1);
  add_input(b, bytes);
  add_output(b, FB_OUT_REPLACE, 0, bytes);
  add_step(b, FB_KERNEL_JUMP, 1, 1, 0);
  add_dim(b, back);
  add_step(b, add_kernel(b, must_not_run), 1, 1, 0);
  b->spec.n_fallible = 1;
  fb_plan *plan = build(b);
  CHECK(fb_plan_loops(plan));
  fb_buffer *x, *out = NULL;
  CHECK(fb_buffer_alloc(BYTES, &x) == FB_OK);
  fb_input input = {.data = fb_buffer_data(x), .buffer = x, .donated = true};
  fb_run run = {.inputs = &input, .outputs = &out};
  fb_set_interrupt_check(end_at_the_third);
  CHECK(fb_plan_run(plan, &run) == FB_INTERRUPTED && asked == 3);
  CHECK(out == NULL && !input.taken && fb_buffer_refs(x) == 1);
  fb_set_interrupt_check(NULL);
  fb_buffer_release(x);
  fb_plan_release(plan);
}

/* Element by element, one cursor forwards through the input and one backwards through the output. */
static void test_a_loop_counts_and_moves_cursors(void) {
  Builder *b = new_builder();
  int32_t bytes = constant(b, BYTES), size = constant(b, sizeof(double)), back = constant(b, -(int64_t)sizeof(double));
  add_input(b, bytes);
  add_output(b, FB_OUT_NEW, 0, bytes);
  b->spec.arena_bytes = size;
  add_step(b, FB_KERNEL_MOVE, 1, 1, 0);
  add_ref(b, FB_REF_CURSOR, 0, 0);
  add_ref(b, FB_REF_INPUT, 0, 0);
  add_step(b, FB_KERNEL_MOVE, 1, 1, 0);
  add_ref(b, FB_REF_CURSOR, 1, 0);
  add_ref(b, FB_REF_OUTPUT, 0, bytes);
  add_step(b, FB_KERNEL_SET, 1, 1, 0);
  add_ref(b, FB_REF_ARENA, 0, 0);
  add_dim(b, constant(b, N));
  add_step(b, FB_KERNEL_COUNT, 1, 1, 0);
  add_ref(b, FB_REF_ARENA, 0, 0);
  add_dim(b, constant(b, 4));
  add_step(b, FB_KERNEL_MOVE, 1, 1, 0);
  add_ref(b, FB_REF_CURSOR, 1, 0);
  add_ref(b, FB_REF_CURSOR, 1, back);
  add_step(b, FB_KERNEL_COPY, 1, 1, 0);
  add_ref(b, FB_REF_CURSOR, 1, 0);
  add_ref(b, FB_REF_CURSOR, 0, 0);
  add_dim(b, size);
  add_step(b, FB_KERNEL_MOVE, 1, 1, 0);
  add_ref(b, FB_REF_CURSOR, 0, 0);
  add_ref(b, FB_REF_CURSOR, 0, size);
  add_step(b, FB_KERNEL_JUMP, 1, 1, 0);
  add_dim(b, constant(b, -5));
  fb_plan *plan = build(b);
  fb_buffer *x = ramp(N, 1), *out = NULL;
  fb_input input = from_buffer(x);
  fb_run run = {.inputs = &input, .outputs = &out};
  CHECK(fb_plan_run(plan, &run) == FB_OK);
  for (int i = 0; i < N; i++)
    CHECK(at(out, i) == N - i);
  fb_buffer_release(out);
  fb_buffer_release(x);
  fb_plan_release(plan);
}

int main(void) {
  RUN(test_modes_and_donation);
  RUN(test_update_starts_from_the_input);
  RUN(test_outputs_that_are_others);
  RUN(test_two_outputs_want_one_donation);
  RUN(test_failures_change_nothing);
  RUN(test_bad_inputs);
  RUN(test_symbols_and_scratch);
  RUN(test_guards);
  RUN(test_guards_without_a_value);
  RUN(test_big_frame);
  RUN(test_empty_domain_runs_nothing);
  RUN(test_big_copy);
  RUN(test_one_plan_on_many_threads);
  RUN(test_a_loop_is_interrupted);
  RUN(test_a_loop_counts_and_moves_cursors);
  fb_threads_shutdown();
  CHECK(stats_now().live_bytes == 0);
  fb_memory_trim();
  return 0;
}
