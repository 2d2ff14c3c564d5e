/* What plans make once of inputs that stay the same. */
#include "plan_builder.h"

enum { N = 100 };

static void first_number(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {
  (void)dims, (void)lo, (void)hi, (void)scratch;
  *(double *)bufs[1] = *(const double *)bufs[0];
}

static void number_or_none(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {
  (void)dims, (void)lo, (void)hi, (void)scratch;
  *(double *)bufs[0] = bufs[1] == NULL ? -1 : *(const double *)bufs[1];
}

/* The first number of the input, which is kept, in an output of so many bytes; -1 where it is spare and not kept. */
static fb_plan *keeping_plan(int64_t output_bytes, int32_t spare) {
  static int32_t size;
  Builder *b = new_builder();
  size = constant(b, sizeof(double));
  int32_t one = constant(b, 1);
  add_input(b, size);
  add_output(b, FB_OUT_NEW, 0, constant(b, output_bytes));
  add_step(b, add_kernel(b, first_number), one, one, 0);
  add_ref(b, FB_REF_INPUT, 0, 0);
  add_ref(b, FB_REF_KEPT, 0, 0);
  add_step(b, add_kernel(b, number_or_none), one, one, 0);
  add_ref(b, FB_REF_OUTPUT, 0, 0);
  add_ref(b, FB_REF_KEPT, 0, 0);
  b->spec.n_fallible = b->spec.n_kept = 1;
  b->spec.n_spare = spare;
  b->spec.kept = &size;
  return build(b);
}

/* Until an input is the same twice nobody makes what is spare, and who reads it gets no address. */
static void test_what_is_spare_is_made_to_be_kept(void) {
  fb_plan *plan = keeping_plan(sizeof(double), 1);
  fb_buffer *x = ramp(N, 7);
  for (int i = 0; i < 3; i++) {
    fb_buffer *out = NULL;
    fb_input input = from_buffer(x);
    fb_run run = {.inputs = &input, .outputs = &out};
    CHECK(fb_plan_run(plan, &run) == FB_OK);
    CHECK(at(out, 0) == (i == 0 ? -1 : at(x, 0)));
    fb_buffer_release(out);
  }
  fb_buffer_release(x);
  fb_plan_release(plan);
}

/* What lies where the next call has its frame. */
__attribute__((noinline)) static void leave_behind(int byte) {
  volatile char used[1 << 14];
  for (size_t i = 0; i < sizeof used; i++)
    used[i] = (char)byte;
}

static void test_a_run_without_memory_for_its_outputs_releases_nothing_that_it_does_not_have(void) {
  for (int32_t spare = 0; spare < 2; spare++) {
    fb_plan *plan = keeping_plan(1 << 21, spare);
    fb_buffer *x = ramp(N, 7), *out = NULL;
    fb_input input = from_buffer(x);
    fb_run run = {.inputs = &input, .outputs = &out};
    for (int i = 0; i < 3; i++) {
      fb_memory_set_limit(1 << 20);
      leave_behind(0x5A);
      CHECK(fb_plan_run(plan, &run) == FB_OUT_OF_MEMORY && out == NULL);
      fb_memory_set_limit(0);
      CHECK(fb_plan_run(plan, &run) == FB_OK && at(out, 0) == (i == 0 && spare ? -1 : at(x, 0)));
      fb_buffer_release(out);
    }
    fb_buffer_release(x);
    fb_plan_release(plan);
  }
}

int main(void) {
  RUN(test_what_is_spare_is_made_to_be_kept);
  RUN(test_a_run_without_memory_for_its_outputs_releases_nothing_that_it_does_not_have);
  fb_threads_shutdown();
  CHECK(stats_now().live_bytes == 0);
  fb_memory_trim();
  return 0;
}
