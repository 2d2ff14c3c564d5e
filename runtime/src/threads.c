/* The thread pool: fork-join loops in which the caller works too.
 *
 * A loop's chunks are dealt out as one contiguous range per participant. Each range has a ticket, a single word that
 * holds all a claim depends on: next chunk, end, and the last worker that may take part. A worker empties its own range
 * first, then helps with the others; nobody waits for a worker that claimed nothing. A claim is one compare-and-swap;
 * it can only succeed while the loop is unfinished, so what it then reads about the loop (task, context, extents) is
 * stable.
 */
#ifndef _GNU_SOURCE /* C++ compilers define it */
#define _GNU_SOURCE
#endif
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"
#include "parking.h"

/* A ticket: end (28 bits) | next (28 bits) | last worker (8 bits). */
#define NEXT_SHIFT 8
#define END_SHIFT 36
#define CHUNK_MASK ((UINT64_C(1) << 28) - 1)
#define MAX_CHUNKS (INT64_C(1) << 20)
#define NO_CHUNK (-1)

typedef struct {
  _Alignas(FB_ALIGN) atomic_uint_least64_t word;
} fb_ticket;

typedef struct {
  fb_task task;
  void *context;
  int64_t n, grain;
  unsigned chunks;
} fb_loop;

static struct {
  fb_loop loop;                        /* written before the tickets, read after a claim */
  atomic_int ranges;                   /* a hint for where to look */
  _Alignas(FB_ALIGN) atomic_uint done; /* chunks of the loop that are finished */
  atomic_uint caller_sleeps;
  _Alignas(FB_ALIGN) atomic_uint round; /* raised once per loop: what idle workers watch */
  atomic_uint sleepers;
  atomic_bool stop;
  _Alignas(FB_ALIGN) atomic_bool busy; /* a loop runs, or the pool is being changed */
  atomic_int wanted;                   /* threads including the caller; 0 until first asked for */
  atomic_llong spin_ns;
  int started; /* workers that exist; guarded by busy */
  pthread_t threads[FB_MAX_THREADS];
  fb_ticket tickets[FB_MAX_THREADS];
} pool = {.spin_ns = 30000};

static _Thread_local bool inside_loop;

static bool try_enter(void) {
  bool idle = false;
  return !atomic_load_explicit(&pool.busy, memory_order_relaxed) &&
         atomic_compare_exchange_strong_explicit(&pool.busy, &idle, true, memory_order_acquire, memory_order_relaxed);
}

static void enter(void) {
  while (!try_enter())
    sched_yield();
}

static void leave(void) { atomic_store_explicit(&pool.busy, false, memory_order_release); }

static int cpu_count(void) {
#if defined(__linux__)
  cpu_set_t cpus;
  if (sched_getaffinity(0, sizeof cpus, &cpus) == 0)
    return CPU_COUNT(&cpus);
#endif
  long online = sysconf(_SC_NPROCESSORS_ONLN);
  return online > 0 ? (int)online : 1;
}

int fb_get_num_threads(void) {
  int wanted = atomic_load_explicit(&pool.wanted, memory_order_relaxed);
  if (FB_LIKELY(wanted > 0))
    return wanted;
  int cpus = cpu_count();
  int unset = 0;
  int chosen = cpus < FB_MAX_THREADS ? cpus : FB_MAX_THREADS;
  return atomic_compare_exchange_strong(&pool.wanted, &unset, chosen) ? chosen : unset;
}

/* ---- waiting ------------------------------------------------------------------------------------------- */

/* Watches a word for a while; true when it came to differ from `value` (or, with `until`, to equal it). */
static bool spin(atomic_uint *word, unsigned value, bool until) {
  int64_t patience = atomic_load_explicit(&pool.spin_ns, memory_order_relaxed);
  int64_t deadline = patience > 0 ? fb_now_ns() + patience : 0;
  do
    for (int i = 0; i < 32; i++) {
      if ((atomic_load_explicit(word, memory_order_acquire) == value) == until)
        return true;
      fb_pause();
    }
  while (patience > 0 && fb_now_ns() < deadline);
  return false;
}

static void await_round_after(unsigned seen) {
  if (spin(&pool.round, seen, false))
    return;
  atomic_fetch_add(&pool.sleepers, 1); /* sequentially consistent: pairs with the caller's raise of `round` */
  while (atomic_load(&pool.round) == seen)
    fb_park(&pool.round, seen);
  atomic_fetch_sub(&pool.sleepers, 1);
}

static void await_done(unsigned chunks) {
  if (spin(&pool.done, chunks, true))
    return;
  atomic_store(&pool.caller_sleeps, 1); /* pairs with a worker's raise of `done` */
  for (unsigned done; (done = atomic_load(&pool.done)) != chunks;)
    fb_park(&pool.done, done);
  atomic_store(&pool.caller_sleeps, 0);
}

/* ---- working ------------------------------------------------------------------------------------------- */

static int64_t claim(fb_ticket *ticket, int worker) {
  uint64_t word = atomic_load_explicit(&ticket->word, memory_order_acquire);
  for (;;) {
    uint64_t next = word >> NEXT_SHIFT & CHUNK_MASK;
    if (next >= word >> END_SHIFT || (uint64_t)worker > (word & 0xff))
      return NO_CHUNK;
    uint64_t claimed = word + (UINT64_C(1) << NEXT_SHIFT);
    if (atomic_compare_exchange_weak_explicit(&ticket->word, &word, claimed, memory_order_acq_rel,
                                              memory_order_acquire))
      return (int64_t)next;
  }
}

static void run_chunk(const fb_loop *loop, int64_t chunk, int worker) {
  int64_t lo = chunk * loop->grain;
  int64_t hi = loop->n - lo < loop->grain ? loop->n : lo + loop->grain;
  loop->task(loop->context, lo, hi, worker);
}

static void report(unsigned finished) {
  unsigned chunks = pool.loop.chunks; /* read first: once all is reported, the next loop may overwrite it */
  if (atomic_fetch_add(&pool.done, finished) + finished == chunks && atomic_load(&pool.caller_sleeps))
    fb_unpark(&pool.done, 1);
}

static void work(int worker) {
  int ranges = atomic_load_explicit(&pool.ranges, memory_order_relaxed);
  unsigned finished = 0;
  for (int i = 0; i < ranges; i++) {
    fb_ticket *ticket = &pool.tickets[(worker + i) % ranges];
    for (int64_t chunk; (chunk = claim(ticket, worker)) != NO_CHUNK; finished++)
      run_chunk(&pool.loop, chunk, worker);
  }
  if (finished > 0)
    report(finished);
}

static void *worker_main(void *argument) {
  inside_loop = true;
  unsigned seen = 0;
  for (;;) {
    await_round_after(seen);
    seen = atomic_load_explicit(&pool.round, memory_order_acquire);
    if (atomic_load(&pool.stop))
      return NULL;
    work((int)(intptr_t)argument);
  }
}

/* ---- starting and stopping; all with `busy` held ------------------------------------------------------- */

static void raise_round(int to_wake) {
  atomic_fetch_add(&pool.round, 1);
  if (atomic_load(&pool.sleepers) > 0)
    fb_unpark(&pool.round, to_wake);
}

static void stop_workers(void) {
  if (pool.started == 0)
    return;
  atomic_store(&pool.stop, true);
  raise_round(INT_MAX);
  for (int i = 1; i <= pool.started; i++)
    pthread_join(pool.threads[i], NULL);
  atomic_store(&pool.stop, false);
  pool.started = 0;
}

/* Starts what is missing; a system that gives fewer threads gets a slower loop, not an error. */
static void start_workers(int workers) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the threads of the program */
  while (pool.started < workers) {
    int id = pool.started + 1;
    if (pthread_create(&pool.threads[id], NULL, worker_main, (void *)(intptr_t)id) != 0)
      break;
    pool.started = id;
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

fb_status fb_set_num_threads(int n) {
  if (n < 1 || n > FB_MAX_THREADS)
    return fb_fail(FB_INVALID_ARGUMENT, "[set_num_threads] %d threads were asked for. Pass 1 to %d.", n,
                   FB_MAX_THREADS);
  if (inside_loop)
    return fb_fail(FB_INVALID_ARGUMENT, "[set_num_threads] called inside a parallel loop. Call it between loops.");
  enter();
  if (n - 1 < pool.started)
    stop_workers();
  atomic_store(&pool.wanted, n);
  leave();
  return FB_OK;
}

void fb_set_spin_time(int64_t nanoseconds) { atomic_store(&pool.spin_ns, nanoseconds > 0 ? nanoseconds : 0); }

void fb_threads_shutdown(void) {
  if (inside_loop)
    return;
  enter();
  stop_workers();
  leave();
}

/* The child has one thread: whatever the parent's pool was doing, here it is idle and empty. */
static void reset_in_child(void) {
  pool.started = 0;
  atomic_store(&pool.sleepers, 0);
  atomic_store(&pool.caller_sleeps, 0);
  atomic_store(&pool.stop, false);
  for (int i = 0; i < FB_MAX_THREADS; i++)
    atomic_store(&pool.tickets[i].word, 0);
  fb_parking_after_fork();
  leave();
}

__attribute__((constructor)) static void survive_fork(void) { pthread_atfork(NULL, NULL, reset_in_child); }

/* ---- loops --------------------------------------------------------------------------------------------- */

static int min_int(int a, int b) { return a < b ? a : b; }

/* A cut with absurdly many chunks is coarsened, by n and grain alone. */
static int64_t coarsen(int64_t n, int64_t grain) {
  int64_t chunks = (n - 1) / grain + 1;
  return chunks <= MAX_CHUNKS ? grain : grain * ((chunks - 1) / MAX_CHUNKS + 1);
}

static void publish(fb_loop loop, int participants) {
  int ranges = participants < (int64_t)loop.chunks ? participants : (int)loop.chunks;
  pool.loop = loop;
  atomic_store_explicit(&pool.ranges, ranges, memory_order_relaxed);
  atomic_store_explicit(&pool.done, 0, memory_order_relaxed);
  for (int i = 0; i < ranges; i++) {
    uint64_t begin = (uint64_t)loop.chunks * (uint64_t)i / (uint64_t)ranges;
    uint64_t end = (uint64_t)loop.chunks * (uint64_t)(i + 1) / (uint64_t)ranges;
    uint64_t word = end << END_SHIFT | begin << NEXT_SHIFT | (uint64_t)(participants - 1);
    atomic_store_explicit(&pool.tickets[i].word, word, memory_order_release);
  }
  raise_round(participants <= pool.started ? INT_MAX : ranges - 1);
}

/* With `busy` held. False when there are no workers to share with. */
static bool run_shared(int64_t n, int64_t grain, fb_task task, void *context, int max_workers) {
  int wanted = fb_get_num_threads();
  if (pool.started < wanted - 1)
    start_workers(wanted - 1);
  int participants = min_int(pool.started + 1, max_workers);
  if (participants < 2)
    return false;
  grain = coarsen(n, grain);
  fb_loop loop = {.task = task, .context = context, .n = n, .grain = grain, .chunks = (unsigned)((n - 1) / grain + 1)};
  publish(loop, participants);
  inside_loop = true;
  work(0);
  inside_loop = false;
  await_done(loop.chunks);
  return true;
}

void fb_parallel_for_within(int64_t n, int64_t grain, fb_task task, void *context, int max_workers) {
  if (n <= 0)
    return;
  if (grain < 1)
    grain = 1;
  bool shared = false;
  if (n > grain && max_workers > 1 && fb_get_num_threads() > 1 && try_enter()) {
    shared = run_shared(n, grain, task, context, max_workers);
    leave();
  }
  if (!shared)
    task(context, 0, n, 0);
}

void fb_parallel_for(int64_t n, int64_t grain, fb_task task, void *context) {
  fb_parallel_for_within(n, grain, task, context, FB_MAX_THREADS);
}
