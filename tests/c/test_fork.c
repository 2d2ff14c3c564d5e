/* fork with live workers: parent and child both go on; exit with live workers ends, from main and from other threads.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

static void add_range(void *context, int64_t lo, int64_t hi, int worker) {
  (void)worker;
  atomic_fetch_add((atomic_llong *)context, (lo + hi - 1) * (hi - lo) / 2);
}

static void check_loop(void) {
  atomic_llong sum = 0;
  fb_parallel_for(10000, 10, add_range, &sum);
  CHECK(sum == 49995000);
}

static void use_everything(void) {
  for (int i = 0; i < 20; i++) {
    check_loop();
    fb_buffer *b = must_alloc(5000);
    memset(fb_buffer_data(b), i, 5000);
    fb_buffer_release(b);
  }
}

/* TSan cannot start threads in the child of a process that has several. */
static void enter_child(void) {
#if defined(__SANITIZE_THREAD__)
  CHECK(fb_set_num_threads(1) == FB_OK);
#endif
}

static void expect_success(pid_t child) {
  int status;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_fork_with_live_workers(void) {
  CHECK(fb_set_num_threads(4) == FB_OK);
  fb_buffer *inherited = must_alloc(100);
  for (int round = 0; round < 10; round++) {
    use_everything();
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      CHECK(fb_get_num_threads() == 4);
      enter_child();
      use_everything();
      fb_buffer_release(inherited);
      exit(0);
    }
    use_everything();
    expect_success(child);
  }
  fb_buffer_release(inherited);
}

static atomic_bool stop;

static void *keep_busy(void *unused) {
  (void)unused;
  while (!atomic_load(&stop))
    use_everything();
  return NULL;
}

/* Another thread holds the pool's locks at any moment of the fork. */
static void test_fork_beside_a_busy_thread(void) {
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, keep_busy, NULL) == 0);
  for (int round = 0; round < 10; round++) {
    usleep(500);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      enter_child();
      use_everything();
      _exit(0);
    }
    expect_success(child);
  }
  atomic_store(&stop, true);
  pthread_join(thread, NULL);
}

static void *keep_locked(void *unused) {
  (void)unused;
  while (!atomic_load(&stop))
    stats_now();
  return NULL;
}

/* The pool's lock is hardly ever free, yet never held in the child. */
static void test_fork_beside_a_thread_in_the_pool(void) {
  pthread_t thread;
  atomic_store(&stop, false);
  CHECK(pthread_create(&thread, NULL, keep_locked, NULL) == 0);
  for (int round = 0; round < 30; round++) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      alarm(10);
      fb_buffer_release(must_alloc(64));
      _exit(0);
    }
    expect_success(child);
  }
  atomic_store(&stop, true);
  pthread_join(thread, NULL);
}

static void exit_inside(void *context, int64_t lo, int64_t hi, int worker) {
  (void)context, (void)lo, (void)hi, (void)worker;
  _exit(0);
}

/* A child that leaves in the middle of a loop must not hang. */
static void test_exit_inside_a_loop(void) {
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    enter_child();
    fb_parallel_for(100, 1, exit_inside, NULL);
    _exit(1);
  }
  expect_success(child);
}

#if !defined(__SANITIZE_THREAD__) /* TSan reports threads that live at exit */
/* exit() in a child whose other thread keeps running loops. */
static void test_exit_beside_a_loop(void) {
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    pthread_t thread;
    atomic_store(&stop, false);
    CHECK(pthread_create(&thread, NULL, keep_busy, NULL) == 0);
    usleep(2000);
    exit(0);
  }
  expect_success(child);
}
#endif

int main(void) {
#if defined(__SANITIZE_ADDRESS__)
  printf("skipped: the child would wait for locks of ASan's allocator that threads of its parent held\n");
  return 0;
#endif
  alarm(60); /* a hang is a failure */
  RUN(test_fork_with_live_workers);
  RUN(test_fork_beside_a_busy_thread);
  RUN(test_fork_beside_a_thread_in_the_pool);
  RUN(test_exit_inside_a_loop);
#if !defined(__SANITIZE_THREAD__)
  RUN(test_exit_beside_a_loop);
#endif
  fb_threads_shutdown();
  return 0;
}
