/* The caching pool: size classes, reuse, statistics, limits, wrapped memory, threads. */
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

static void test_alignment_and_size_classes(void) {
  static const size_t sizes[] = {0, 1, 63, 64, 65, 256, 257, 1000, 4096, 5000, (1 << 20) - 1, 1 << 20, (5 << 20) + 7};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    size_t before = stats_now().live_bytes;
    fb_buffer *b = must_alloc(sizes[i]);
    size_t block = stats_now().live_bytes - before;
    CHECK((uintptr_t)fb_buffer_data(b) % 64 == 0);
    CHECK(fb_buffer_bytes(b) == sizes[i] && fb_buffer_is_pooled(b) && fb_buffer_refs(b) == 1);
    CHECK(block >= sizes[i] && block % 64 == 0);
    CHECK(sizes[i] <= 256 ? block - sizes[i] <= 64 : block <= sizes[i] + sizes[i] / 4);
    memset(fb_buffer_data(b), 0xa5, block);
    fb_buffer_release(b);
  }
}

/* Whether a child that touches `at` is ended by that. */
static bool ends_a_process(volatile char *at) {
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    (void)freopen("/dev/null", "w", stderr); /* a sanitizer's report */
    *at = 1;
    _exit(0);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child);
  return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

static void test_guard_pages(void) {
  static const size_t sizes[] = {0, 28, 4097};
  fb_buffer *before = must_alloc(28);
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    fb_memory_set_guard(FB_GUARD_END);
    fb_buffer *end = must_alloc(sizes[i]);
    fb_memory_set_guard(FB_GUARD_START);
    fb_buffer *start = must_alloc(sizes[i]);
    char *last = (char *)fb_buffer_data(end) + sizes[i], *first = fb_buffer_data(start);
    memset(fb_buffer_data(end), 1, sizes[i]);
    memset(first, 1, sizes[i]);
    CHECK(ends_a_process(last) && ends_a_process(first - 1));
    CHECK(sizes[i] > 0 || ends_a_process(first));
    fb_memory_set_guard(FB_GUARD_OFF);
    fb_buffer_release(end);
    fb_buffer_release(start);
  }
  fb_memory_set_guard(FB_GUARD_END);
  fb_buffer_release(before);
  CHECK(fb_memory_trim() == 0); /* nothing is kept while blocks are guarded */
  fb_memory_set_guard(FB_GUARD_OFF);
  fb_memory_trim();
  CHECK(stats_now().live_bytes == 0 && stats_now().reserved_bytes == 0);
}

static void test_every_size_up_to_a_page(void) {
  for (size_t bytes = 1; bytes <= 5000; bytes++) {
    fb_buffer *b = must_alloc(bytes);
    memset(fb_buffer_data(b), 1, bytes);
    fb_buffer_release(b);
  }
}

static void test_reuse_and_statistics(void) {
  fb_memory_trim();
  fb_memory_reset_peak();
  fb_memory_stats start = stats_now();
  fb_buffer *b = must_alloc(1000);
  void *data = fb_buffer_data(b);
  fb_buffer_retain(b);
  CHECK(fb_buffer_refs(b) == 2);
  fb_buffer_release(b);
  fb_buffer_release(b);
  fb_memory_stats freed = stats_now();
  CHECK(freed.live_bytes == start.live_bytes && freed.live_buffers == start.live_buffers);
  CHECK(freed.peak_bytes == start.live_bytes + 1024 && freed.reserved_bytes == start.reserved_bytes + 1024);
  b = must_alloc(900);
  CHECK(fb_buffer_data(b) == data && fb_buffer_bytes(b) == 900);
  CHECK(stats_now().cache_hits == start.cache_hits + 1 && stats_now().allocations == start.allocations + 2);
  CHECK(fb_memory_trim() == 0);
  fb_buffer_release(b);
  CHECK(fb_memory_trim() == 1024 && stats_now().reserved_bytes == start.live_bytes);
  fb_memory_reset_peak();
  CHECK(stats_now().peak_bytes == start.live_bytes);
  fb_buffer_release(NULL);
}

static void test_limit(void) {
  fb_memory_trim();
  CHECK(stats_now().live_bytes == 0);
  fb_buffer *kept = must_alloc(1 << 20), *dropped = must_alloc(2 << 20), *b;
  fb_buffer_release(dropped);
  fb_memory_set_limit(4 << 20);
  CHECK(stats_now().limit_bytes == 4 << 20 && stats_now().reserved_bytes == 3 << 20);
  /* Fits only once the cached 2 MiB are given back. */
  CHECK(fb_buffer_alloc(3 << 20, &b) == FB_OK);
  CHECK(stats_now().reserved_bytes == 4 << 20);
  fb_buffer *refused = b;
  CHECK(fb_buffer_alloc(100000, &refused) == FB_OUT_OF_MEMORY && refused == NULL);
  CHECK(strcmp(fb_last_error(), "[memory] cannot allocate 100000 bytes: 4194304 bytes are live, 0 bytes are cached, "
                                "the limit is 4194304 bytes. Free tensors or raise the limit with "
                                "set_memory_limit().") == 0);
  CHECK(stats_now().live_bytes == 4 << 20 && stats_now().live_buffers == 2);
  fb_buffer_release(b);
  fb_memory_set_limit(1 << 20); /* below what is cached: the cache goes */
  CHECK(stats_now().reserved_bytes == 1 << 20);
  fb_memory_set_limit(512 << 10); /* below what is live: released blocks are not cached */
  fb_buffer_release(kept);
  CHECK(stats_now().reserved_bytes == 0);
  fb_memory_set_limit(0);
}

static void test_refusals(void) {
  fb_buffer *b, *c;
  fb_memory_refuse(2);
  b = must_alloc(1000);
  CHECK(fb_buffer_alloc(500, &c) == FB_OUT_OF_MEMORY && c == NULL);
  c = must_alloc(500);
  fb_memory_refuse(1);
  fb_memory_refuse(0);
  fb_buffer_release(must_alloc(500));
  fb_buffer_release(b);
  fb_buffer_release(c);
}

static void test_impossible_sizes(void) {
  fb_buffer *b;
  CHECK(fb_buffer_alloc(SIZE_MAX, &b) == FB_OUT_OF_MEMORY && b == NULL);
  CHECK(strstr(fb_last_error(), "18446744073709551615 bytes") != NULL && strstr(fb_last_error(), "no limit") != NULL);
  fb_memory_set_limit((size_t)1 << 40);
  CHECK(fb_buffer_alloc((size_t)1 << 47, &b) == FB_OUT_OF_MEMORY && b == NULL);
  fb_memory_set_limit(0);
}

/* A program whose sizes keep growing must not keep a cache of all it ever used. */
static void test_cache_is_bounded(void) {
  fb_memory_trim();
  fb_memory_reset_peak();
  for (size_t bytes = 1 << 20; bytes < (size_t)100 << 20; bytes += bytes / 4)
    fb_buffer_release(must_alloc(bytes));
  size_t bound = 2 * stats_now().peak_bytes + ((size_t)64 << 20);
  CHECK(stats_now().reserved_bytes <= bound);
  fb_memory_trim();
}

static int releases;

static void count_release(void *owner) {
  CHECK(owner == &releases);
  releases++;
}

static void test_wrapped(void) {
  char memory[100];
  fb_buffer *b;
  size_t reserved = stats_now().reserved_bytes;
  CHECK(fb_buffer_wrap(memory, sizeof memory, count_release, &releases, &b) == FB_OK);
  CHECK(fb_buffer_data(b) == memory && fb_buffer_bytes(b) == 100 && !fb_buffer_is_pooled(b));
  fb_buffer_retain(b);
  fb_buffer_release(b);
  CHECK(releases == 0);
  fb_buffer_release(b);
  CHECK(releases == 1 && stats_now().reserved_bytes == reserved);
  CHECK(fb_buffer_wrap(memory, sizeof memory, NULL, NULL, &b) == FB_OK);
  fb_buffer_release(b);
  CHECK(fb_buffer_wrap(NULL, 8, NULL, NULL, &b) == FB_INVALID_ARGUMENT && b == NULL);
  CHECK(fb_buffer_wrap(NULL, 0, NULL, NULL, &b) == FB_OK);
  fb_buffer_release(b);
}

enum { KEPT = 16, ROUNDS = 4000 };

/* Writes a pattern of its own into every block it holds and finds it again. */
static void *churn(void *argument) {
  unsigned seed = (unsigned)(uintptr_t)argument;
  fb_buffer *kept[KEPT] = {0};
  for (int round = 0; round < ROUNDS; round++) {
    seed = seed * 1664525u + 1013904223u;
    int slot = (int)(seed >> 8) % KEPT;
    if (kept[slot] != NULL) {
      CHECK(*(void **)fb_buffer_data(kept[slot]) == (void *)kept[slot]);
      fb_buffer_retain(kept[slot]);
      fb_buffer_release(kept[slot]);
      fb_buffer_release(kept[slot]);
    }
    kept[slot] = must_alloc(8 + (seed >> 12) % 3000);
    *(void **)fb_buffer_data(kept[slot]) = kept[slot];
    if (round % 512 == 0)
      fb_memory_trim();
  }
  for (int i = 0; i < KEPT; i++)
    fb_buffer_release(kept[i]);
  return NULL;
}

static void test_many_threads(void) {
  pthread_t threads[4];
  size_t live = stats_now().live_bytes;
  for (uintptr_t i = 0; i < 4; i++)
    CHECK(pthread_create(&threads[i], NULL, churn, (void *)(i + 1)) == 0);
  for (int i = 0; i < 4; i++)
    pthread_join(threads[i], NULL);
  CHECK(stats_now().live_bytes == live);
}

static void *drop(void *b) {
  fb_buffer_release(b);
  return NULL;
}

static void test_last_reference_on_another_thread(void) {
  size_t live = stats_now().live_bytes;
  for (int i = 0; i < 200; i++) {
    fb_buffer *b = must_alloc(64);
    pthread_t thread;
    fb_buffer_retain(b);
    CHECK(pthread_create(&thread, NULL, drop, b) == 0);
    *(int *)fb_buffer_data(b) = i;
    fb_buffer_release(b);
    pthread_join(thread, NULL);
  }
  CHECK(stats_now().live_bytes == live);
}

int main(void) {
  RUN(test_alignment_and_size_classes);
  RUN(test_guard_pages);
  RUN(test_every_size_up_to_a_page);
  RUN(test_reuse_and_statistics);
  RUN(test_limit);
  RUN(test_refusals);
  RUN(test_impossible_sizes);
  RUN(test_cache_is_bounded);
  RUN(test_wrapped);
  RUN(test_many_threads);
  RUN(test_last_reference_on_another_thread);
  fb_memory_trim();
  return 0;
}
