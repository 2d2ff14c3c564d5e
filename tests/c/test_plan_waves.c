/* Steps of a plan that run side by side. */
#include <sched.h>
#include <stdatomic.h>

#include "plan_builder.h"

enum { N = 1000, BYTES = 8 * N, WAVE = 2 };

static atomic_int arrived, most_at_once;
static bool meets;

/* Waits for the other ones of its wave, if they are to meet: by itself none would ever end. */
static void meet(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {
  CHECK(scratch != NULL);
  *(char *)scratch = 1;
  int now = atomic_fetch_add(&arrived, 1) + 1;
  while (meets && now < dims[0] && atomic_load(&arrived) < dims[0])
    sched_yield();
  if (now > atomic_load(&most_at_once))
    atomic_store(&most_at_once, now);
  for (int64_t i = lo; i < hi; i++)
    ((double *)bufs[0])[i] = ((const double *)bufs[1])[i] + (double)dims[1];
  if (!meets)
    atomic_fetch_sub(&arrived, 1);
}

static void fail_at_negative(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {
  (void)scratch;
  for (int64_t i = lo; i < hi; i++)
    if (((const double *)bufs[1])[i] < 0) {
      int64_t word = dims[1] << 48 | i, seen = atomic_load((atomic_int_least64_t *)bufs[2]);
      while (word < seen && !atomic_compare_exchange_weak((atomic_int_least64_t *)bufs[2], &seen, word)) {
      }
    }
}

/* Output k is the input plus k, by step k of a wave; each has two chunks of N / 2 where `grain` says so. */
static fb_plan *wave_plan(fb_kernel kernel, int64_t grain_value, int32_t n_fallible, bool reports) {
  Builder *b = new_builder();
  int32_t n = constant(b, N), bytes = constant(b, BYTES), grain = constant(b, grain_value), count = constant(b, WAVE);
  add_input(b, bytes);
  int32_t k = add_kernel(b, kernel);
  add_step(b, FB_KERNEL_WAVE, 1, 1, 0);
  add_dim(b, count);
  for (int i = 0; i < WAVE; i++) {
    add_output(b, FB_OUT_NEW, 0, bytes);
    add_step(b, k, n, grain, constant(b, 64));
    add_ref(b, FB_REF_OUTPUT, i, 0);
    add_ref(b, FB_REF_INPUT, 0, 0);
    if (reports)
      add_ref(b, FB_REF_STATUS, 0, 0);
    add_dim(b, count);
    add_dim(b, constant(b, i + 1));
  }
  b->spec.n_fallible = n_fallible;
  return build(b);
}

static void check_wave(fb_plan *plan, bool is_timed) {
  int64_t nanoseconds[1 + WAVE] = {0};
  fb_buffer *x = ramp(N, 0), *outs[WAVE];
  fb_input input = from_buffer(x);
  fb_run run = {.inputs = &input, .outputs = outs, .nanoseconds = is_timed ? nanoseconds : NULL};
  atomic_store(&arrived, 0);
  CHECK(fb_plan_run(plan, &run) == FB_OK);
  for (int k = 0; k < WAVE; k++)
    for (int i = 0; i < N; i++)
      CHECK(at(outs[k], i) == i + k + 1);
  for (int k = 0; k < WAVE; k++)
    fb_buffer_release(outs[k]);
  fb_buffer_release(x);
}

static void test_the_steps_of_a_wave_run_side_by_side(void) {
  fb_plan *plan = wave_plan(meet, N, 0, false);
  CHECK(fb_set_num_threads(WAVE) == FB_OK);
  meets = true;
  check_wave(plan, false); /* would hang, were one step to end before the other begins */
  meets = false;
  atomic_store(&most_at_once, 0);
  check_wave(plan, true); /* one by one, for each gets its own time */
  CHECK(fb_set_num_threads(1) == FB_OK);
  check_wave(plan, false);
  CHECK(atomic_load(&most_at_once) == 1);
  fb_plan_release(plan);
  plan = wave_plan(meet, N / 2, 0, false);
  CHECK(fb_set_num_threads(4) == FB_OK);
  check_wave(plan, false); /* chunks of several steps in one loop */
  fb_plan_release(plan);
}

static void test_a_failure_in_a_wave_changes_nothing(void) {
  fb_plan *plan = wave_plan(fail_at_negative, N, 1 + WAVE, true);
  fb_buffer *x = ramp(N, -1), *outs[WAVE] = {NULL};
  fb_input input = from_buffer(x);
  fb_run run = {.inputs = &input, .outputs = outs};
  for (int threads = 1; threads < 4; threads++) {
    CHECK(fb_set_num_threads(threads) == FB_OK);
    CHECK(fb_plan_run(plan, &run) == FB_KERNEL_FAILED);
    CHECK(run.failure == (int64_t)1 << 48 && outs[0] == NULL && outs[1] == NULL); /* that of the first step */
  }
  fb_buffer_release(x);
  fb_plan_release(plan);
}

int main(void) {
  RUN(test_the_steps_of_a_wave_run_side_by_side);
  RUN(test_a_failure_in_a_wave_changes_nothing);
  fb_threads_shutdown();
  CHECK(stats_now().live_bytes == 0);
  fb_memory_trim();
  return 0;
}
