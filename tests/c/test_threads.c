/* Parallel loops: coverage of the domain, the cut, nesting, concurrent callers, resizing, exit with live workers. */
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "harness.h"
#include "internal.h"

enum { N = 100000 };

static atomic_uchar visits[N];

typedef struct {
  int64_t grain, n;
  atomic_int calls, max_worker;
} Cut;

static void visit(void *context, int64_t lo, int64_t hi, int worker) {
  Cut *cut = context;
  CHECK(lo % cut->grain == 0 && (hi % cut->grain == 0 || hi == cut->n) && lo < hi && worker >= 0);
  for (int64_t i = lo; i < hi; i++)
    atomic_fetch_add_explicit(&visits[i], 1, memory_order_relaxed);
  atomic_fetch_add(&cut->calls, 1);
  int most = atomic_load(&cut->max_worker);
  while (worker > most && !atomic_compare_exchange_weak(&cut->max_worker, &most, worker))
    ;
}

static void check_loop(int64_t n, int64_t grain, int threads) {
  CHECK(fb_set_num_threads(threads) == FB_OK && fb_get_num_threads() == threads);
  memset(visits, 0, sizeof visits);
  Cut cut = {.grain = grain, .n = n};
  fb_parallel_for(n, grain, visit, &cut);
  for (int64_t i = 0; i < N; i++)
    CHECK(visits[i] == (i < n));
  CHECK(cut.max_worker < threads);
  if (threads == 1 || n <= grain)
    CHECK(cut.calls == (n > 0));
}

static void test_each_item_once(void) {
  static const int64_t sizes[] = {0, 1, 2, 7, 1000, N}, grains[] = {1, 3, 64, 4096, N};
  for (int threads = 1; threads <= 7; threads += 2)
    for (int i = 0; i < 6; i++)
      for (int j = 0; j < 5; j++)
        check_loop(sizes[i], grains[j], threads);
}

static void test_default_and_bad_counts(void) {
  CHECK(fb_get_num_threads() >= 1 && fb_get_num_threads() <= 256);
  CHECK(fb_set_num_threads(0) == FB_INVALID_ARGUMENT);
  CHECK(fb_set_num_threads(257) == FB_INVALID_ARGUMENT);
  CHECK(strcmp(fb_last_error(), "[set_num_threads] 257 threads were asked for. Pass 1 to 256.") == 0);
}

static void add_range(void *context, int64_t lo, int64_t hi, int worker) {
  (void)worker;
  atomic_fetch_add((atomic_llong *)context, (lo + hi - 1) * (hi - lo) / 2);
}

static void count_range(void *context, int64_t lo, int64_t hi, int worker) {
  (void)worker;
  CHECK(lo % 3 == 0);
  atomic_fetch_add((atomic_llong *)context, hi - lo);
}

static void nested(void *context, int64_t lo, int64_t hi, int worker) {
  (void)worker;
  CHECK(fb_set_num_threads(2) == FB_INVALID_ARGUMENT || fb_get_num_threads() == 1);
  fb_threads_shutdown(); /* ignored inside a loop */
  for (int64_t i = lo; i < hi; i++)
    fb_parallel_for(100, 10, add_range, context);
}

static void test_nested(void) {
  CHECK(fb_set_num_threads(4) == FB_OK);
  atomic_llong sum = 0;
  fb_parallel_for(50, 1, nested, &sum);
  CHECK(sum == 50 * 4950);
}

static void *call_loops(void *unused) {
  (void)unused;
  for (int round = 0; round < 300; round++) {
    atomic_llong sum = 0;
    fb_parallel_for(1000, 7, add_range, &sum);
    CHECK(sum == 499500);
  }
  return NULL;
}

static void *resize(void *unused) {
  (void)unused;
  for (int round = 0; round < 60; round++) {
    CHECK(fb_set_num_threads(1 + round % 6) == FB_OK);
    if (round % 7 == 0)
      fb_threads_shutdown();
  }
  return NULL;
}

static void test_concurrent_callers_and_resizing(void) {
  pthread_t threads[4];
  for (int i = 0; i < 4; i++)
    CHECK(pthread_create(&threads[i], NULL, i == 3 ? resize : call_loops, NULL) == 0);
  for (int i = 0; i < 4; i++)
    pthread_join(threads[i], NULL);
}

/* Many tiny loops in a row: late workers meet the next loop's tickets. */
static void test_rounds_in_a_row(void) {
  CHECK(fb_set_num_threads(4) == FB_OK);
  for (int round = 0; round < 5000; round++) {
    atomic_llong sum = 0;
    fb_parallel_for(2 + round % 9, 1 + round % 3, add_range, &sum);
    int64_t n = 2 + round % 9;
    CHECK(sum == n * (n - 1) / 2);
  }
}

static void test_sleeping_workers_wake(void) {
  fb_set_spin_time(0);
  for (int round = 0; round < 50; round++) {
    atomic_llong sum = 0;
    usleep(200);
    fb_parallel_for(1000, 10, add_range, &sum);
    CHECK(sum == 499500);
  }
  fb_set_spin_time(30000);
}

/* A cut with more chunks than the pool keeps apart is coarsened, whatever the number of threads. */
static void test_very_many_chunks(void) {
  int64_t n = (INT64_C(1) << 31) + 5;
  for (int threads = 1; threads <= 4; threads++) {
    CHECK(fb_set_num_threads(threads) == FB_OK);
    atomic_llong count = 0;
    fb_parallel_for(n, 3, count_range, &count);
    CHECK(count == n);
  }
}

/* A plan has scratch for so many workers; more may exist by the time its loop runs. */
static void test_no_more_workers_than_the_caller_has_room_for(void) {
  CHECK(fb_set_num_threads(5) == FB_OK);
  for (int round = 0; round < 500; round++) {
    Cut cut = {.grain = 1, .n = 200};
    fb_parallel_for_within(200, 1, visit, &cut, 2);
    CHECK(cut.max_worker < 2);
  }
}

static void test_shutdown_and_restart(void) {
  CHECK(fb_set_num_threads(3) == FB_OK);
  for (int round = 0; round < 20; round++) {
    call_loops(NULL);
    fb_threads_shutdown();
    fb_threads_shutdown();
  }
}

int main(void) {
  RUN(test_default_and_bad_counts);
  RUN(test_each_item_once);
  RUN(test_nested);
  RUN(test_concurrent_callers_and_resizing);
  RUN(test_rounds_in_a_row);
  RUN(test_sleeping_workers_wake);
  RUN(test_very_many_chunks);
  RUN(test_no_more_workers_than_the_caller_has_room_for);
  RUN(test_shutdown_and_restart);
#if !defined(__SANITIZE_THREAD__) /* TSan reports threads that live at exit */
  CHECK(fb_set_num_threads(4) == FB_OK);
  call_loops(NULL);
#endif
  return 0;
}
