/* Times the runtime's primitives from C; prints "name nanoseconds" lines. Built and run by runtime.py. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "flambeau/runtime.h"

static double now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* The median over 21 rounds of the time per call. */
static double median_ns(void (*body)(void *), void *context, int calls) {
  double rounds[21];
  for (int r = 0; r < 21; r++) {
    double start = now_ns();
    for (int i = 0; i < calls; i++)
      body(context);
    rounds[r] = (now_ns() - start) / calls;
  }
  qsort(rounds, 21, sizeof *rounds, compare);
  return rounds[10];
}

static void alloc_and_release(void *context) {
  fb_buffer *b;
  fb_buffer_alloc(*(size_t *)context, &b);
  fb_buffer_release(b);
}

static void small_kernel(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {
  (void)dims, (void)lo, (void)hi, (void)scratch;
  *(double *)bufs[0] = *(const double *)bufs[1];
}

static void small_task(void *context, int64_t lo, int64_t hi, int worker) {
  (void)context, (void)lo, (void)hi, (void)worker;
}

static void parallel_loop(void *context) { fb_parallel_for(*(int64_t *)context, 1, small_task, NULL); }

static void sleep_then_loop(void *context) {
  struct timespec pause = {0, 200000};
  nanosleep(&pause, NULL);
  double start = now_ns();
  fb_parallel_for(8, 1, small_task, NULL);
  *(double *)context += now_ns() - start;
}

enum { MAX_STEPS = 101 };

/* A plan of `steps` one-item steps, each from the input to the one output. */
static fb_plan *plan_of(int steps) {
  static const fb_expr exprs[] = {{FB_X_CONST, 0, 0}, {FB_X_CONST, 1, 0}, {FB_X_CONST, 64, 0}};
  static const int32_t input_bytes[] = {2};
  static const fb_output outputs[] = {{FB_OUT_UPDATE, 0, 2}};
  static const fb_kernel kernels[] = {small_kernel};
  static fb_step table[MAX_STEPS];
  static fb_ref refs[2 * MAX_STEPS];
  for (int i = 0; i < steps; i++) {
    table[i] = (fb_step){0, 1, 1, 0, 2 * i, 2, 0, 0};
    refs[2 * i] = (fb_ref){FB_REF_OUTPUT, 0, 0};
    refs[2 * i + 1] = (fb_ref){FB_REF_INPUT, 0, 0};
  }
  fb_plan_spec spec = {.n_inputs = 1,
                       .n_outputs = 1,
                       .n_exprs = 3,
                       .n_steps = steps,
                       .n_refs = 2 * steps,
                       .n_kernels = 1,
                       .input_bytes = input_bytes,
                       .outputs = outputs,
                       .exprs = exprs,
                       .steps = table,
                       .refs = refs,
                       .kernels = kernels};
  fb_plan *plan;
  if (fb_plan_create(&spec, &plan) != FB_OK) {
    fprintf(stderr, "%s\n", fb_last_error());
    exit(1);
  }
  return plan;
}

static fb_buffer *held;

/* Donates the buffer and takes the output, as a loop that updates parameters does. */
static void run_plan(void *plan) {
  fb_input input = {.data = fb_buffer_data(held), .buffer = held, .donated = true};
  fb_run run = {.inputs = &input, .outputs = &held};
  if (fb_plan_run(plan, &run) != FB_OK)
    exit(1);
}

int main(void) {
  size_t sizes[] = {64, 4096, (size_t)8 << 20};
  const char *names[] = {"alloc+release_64B", "alloc+release_4KiB", "alloc+release_8MiB"};
  for (int i = 0; i < 3; i++)
    printf("%s %.1f\n", names[i], median_ns(alloc_and_release, &sizes[i], 20000));
  fb_buffer_alloc(64, &held);
  fb_plan *one = plan_of(1), *many = plan_of(MAX_STEPS);
  double one_ns = median_ns(run_plan, one, 20000), many_ns = median_ns(run_plan, many, 2000);
  printf("plan_of_one_step %.1f\nplan_per_further_step %.1f\n", one_ns, (many_ns - one_ns) / (MAX_STEPS - 1));
  for (int threads = 1; threads <= 2; threads++) {
    int64_t n = 8;
    fb_set_num_threads(threads);
    printf("parallel_for_8_chunks_%d_threads %.1f\n", threads, median_ns(parallel_loop, &n, 2000));
  }
  double total = 0;
  for (int i = 0; i < 200; i++)
    sleep_then_loop(&total);
  printf("parallel_for_8_chunks_2_threads_asleep %.1f\n", total / 200);
  fb_plan_release(one);
  fb_plan_release(many);
  fb_buffer_release(held);
  return 0;
}
