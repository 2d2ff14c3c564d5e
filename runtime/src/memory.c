/* The caching pool behind fb_buffer_alloc: one free list per size class, four classes per power of two.
 *
 * One spin lock guards lists and statistics; nothing but a few loads and stores happens under it, and it is never held
 * around a call to the system. A block and its header stay together for life.
 */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "internal.h"

#define SMALL_CLASSES 4 /* 64, 128, 192, 256 bytes; then steps of a quarter of a power of two */
#define MAX_LOG2 47
#define GUARDED (SMALL_CLASSES + 4 * (MAX_LOG2 - 8)) /* blocks between guard pages: nobody takes them from a list */
#define CLASSES (GUARDED + 1)
#define CACHE_SLACK ((size_t)64 << 20) /* cached bytes may exceed the most ever live by this much */

static struct {
  _Alignas(FB_ALIGN) atomic_int locked;
  size_t live, cached, peak, high_water, limit, live_buffers, allocations, cache_hits;
  size_t most; /* live and cached bytes up to which a freed block is kept: the limit, if there is one */
  fb_guard_mode guard;
  size_t until_refusal; /* allocations, up to the one that a test wants to fail; 0: none */
  fb_buffer *free[CLASSES];
} pool = {.most = SIZE_MAX};

static void lock(void) {
  while (FB_UNLIKELY(atomic_exchange_explicit(&pool.locked, 1, memory_order_acquire)))
    for (int spins = 0; atomic_load_explicit(&pool.locked, memory_order_relaxed); spins++)
      if (spins < 64)
        fb_pause();
      else
        sched_yield();
}

static void unlock(void) { atomic_store_explicit(&pool.locked, 0, memory_order_release); }

/* Nobody may hold the lock across a fork: the child would wait for a thread it does not have. */
__attribute__((constructor)) static void survive_fork(void) { pthread_atfork(lock, unlock, unlock); }

static int class_of(size_t bytes, size_t *capacity) {
  if (bytes <= SMALL_CLASSES * FB_ALIGN) {
    int small = bytes == 0 ? 0 : (int)((bytes - 1) / FB_ALIGN);
    *capacity = (size_t)(small + 1) * FB_ALIGN;
    return small;
  }
  int log2 = 63 - __builtin_clzll((unsigned long long)bytes - 1);
  int quarter = (int)((bytes - 1) >> (log2 - 2)) & 3;
  *capacity = (size_t)(5 + quarter) << (log2 - 2);
  return SMALL_CLASSES + 4 * (log2 - 8) + quarter;
}

/* A block with `bytes`, `capacity` and `size_class` filled in. */
static fb_buffer *system_alloc(size_t bytes, size_t capacity, int size_class, fb_guard_mode guard) {
  bool is_small = capacity < FB_BIG_BLOCK && guard == FB_GUARD_OFF;
  fb_buffer *b = (fb_buffer *)aligned_alloc(FB_ALIGN, sizeof *b + (is_small ? capacity : 0));
  if (b == NULL)
    return NULL;
  b->bytes = bytes;
  b->capacity = capacity;
  b->size_class = guard == FB_GUARD_OFF ? size_class : GUARDED;
  if (is_small)
    b->data = b + 1;
  else if (guard == FB_GUARD_OFF)
    b->data = fb_pages_alloc(capacity);
  else
    b->data = fb_guarded_alloc(bytes, guard == FB_GUARD_END);
  if (b->data != NULL)
    return b;
  free(b);
  return NULL;
}

static void system_free(fb_buffer *b) {
  if (b->size_class == GUARDED)
    fb_guarded_free(b->data, b->bytes);
  else if (b->capacity >= FB_BIG_BLOCK)
    fb_pages_free(b->data, b->capacity);
  free(b);
}

/* Called with the lock held: empties the cache into one list, to be freed after unlocking. */
static fb_buffer *detach_cache(void) {
  fb_buffer *all = NULL;
  for (int i = 0; i < CLASSES; i++)
    while (pool.free[i] != NULL) {
      fb_buffer *b = pool.free[i];
      pool.free[i] = b->next;
      b->next = all;
      all = b;
    }
  pool.cached = 0;
  return all;
}

static void free_list(fb_buffer *list) {
  while (list != NULL) {
    fb_buffer *b = list;
    list = b->next;
    system_free(b);
  }
}

static void trim(void) {
  lock();
  fb_buffer *list = detach_cache();
  unlock();
  free_list(list);
}

/* Called with the lock held, after pool.live has grown. */
static void count_allocation(void) {
  pool.live_buffers++;
  pool.allocations++;
  if (pool.live > pool.peak) {
    pool.peak = pool.live;
    if (pool.peak > pool.high_water)
      pool.high_water = pool.peak;
  }
}

static fb_status out_of_memory(size_t bytes, const char *who) {
  fb_memory_stats stats;
  fb_memory_get_stats(&stats);
  size_t cached = stats.reserved_bytes - stats.live_bytes;
  if (stats.limit_bytes == 0)
    return fb_fail(FB_OUT_OF_MEMORY,
                   "[memory] %s %zu bytes: %zu bytes are live, %zu bytes are cached, no limit is set. "
                   "Free tensors or use smaller ones.",
                   who, bytes, stats.live_bytes, cached);
  return fb_fail(FB_OUT_OF_MEMORY,
                 "[memory] %s %zu bytes: %zu bytes are live, %zu bytes are cached, the limit is %zu bytes. "
                 "Free tensors or raise the limit with set_memory_limit().",
                 who, bytes, stats.live_bytes, cached, stats.limit_bytes);
}

/* Makes room for a block that the system is about to be asked for; false when not even an empty cache leaves room. */
static bool reserve(size_t capacity, fb_guard_mode *guard) {
  lock();
  *guard = pool.guard;
  bool crowded = pool.limit > 0 && pool.live + pool.cached + capacity > pool.limit;
  bool stale = pool.cached > pool.high_water + CACHE_SLACK;
  fb_buffer *list = crowded || stale ? detach_cache() : NULL;
  bool fits = pool.limit == 0 || pool.live + capacity <= pool.limit;
  if (fits)
    pool.live += capacity;
  unlock();
  free_list(list);
  return fits;
}

/* Also counts the allocation: how many there were is in the block's stamp. */
static size_t finish_reservation(size_t capacity, bool succeeded) {
  lock();
  if (succeeded)
    count_allocation();
  else
    pool.live -= capacity;
  size_t number = pool.allocations;
  unlock();
  return number;
}

static fb_status take_from_system(size_t bytes, size_t capacity, int size_class, fb_buffer **out) {
  fb_guard_mode guard;
  if (!reserve(capacity, &guard) && !(fb_kept_forget_all() && reserve(capacity, &guard)))
    return out_of_memory(bytes, "cannot allocate");
  fb_buffer *b = system_alloc(bytes, capacity, size_class, guard);
  if (b == NULL) {
    fb_kept_forget_all();
    trim();
    b = system_alloc(bytes, capacity, size_class, guard);
  }
  size_t number = finish_reservation(capacity, b != NULL);
  if (b == NULL)
    return out_of_memory(bytes, "the system refused");
  b->next = NULL;
  b->device = NULL;
  atomic_init(&b->kept, 0);
  atomic_init(&b->refs, 1);
  atomic_init(&b->stamp, 2 * (uint64_t)number);
  *out = b;
  return FB_OK;
}

fb_status fb_pool_take(size_t bytes, fb_buffer **out) {
  *out = NULL;
  if (FB_UNLIKELY(bytes > (size_t)1 << MAX_LOG2))
    return out_of_memory(bytes, "cannot allocate");
  size_t capacity;
  int size_class = class_of(bytes, &capacity);
  lock();
  if (FB_UNLIKELY(pool.until_refusal > 0) && --pool.until_refusal == 0) {
    unlock();
    return out_of_memory(bytes, "a test refuses");
  }
  fb_buffer *b = pool.free[size_class];
  if (FB_UNLIKELY(b == NULL)) {
    unlock();
    return take_from_system(bytes, capacity, size_class, out);
  }
  pool.free[size_class] = b->next;
  pool.cached -= capacity;
  pool.live += capacity;
  pool.cache_hits++;
  count_allocation();
  size_t number = pool.allocations;
  unlock();
  b->bytes = bytes;
  atomic_store_explicit(&b->kept, 0, memory_order_relaxed);
  atomic_store_explicit(&b->stamp, 2 * (uint64_t)number, memory_order_relaxed);
  atomic_store_explicit(&b->refs, 1, memory_order_relaxed);
  *out = b;
  return FB_OK;
}

void fb_pool_give(fb_buffer *b) {
  lock();
  pool.live -= b->capacity;
  pool.live_buffers--;
  bool fits = pool.live + pool.cached + b->capacity <= pool.most;
  if (FB_LIKELY(fits)) {
    pool.cached += b->capacity;
    b->next = pool.free[b->size_class];
    pool.free[b->size_class] = b;
  }
  unlock();
  if (!fits)
    system_free(b);
}

void fb_memory_get_stats(fb_memory_stats *out) {
  lock();
  *out = (fb_memory_stats){
      .live_bytes = pool.live,
      .peak_bytes = pool.peak,
      .reserved_bytes = pool.live + pool.cached,
      .limit_bytes = pool.limit,
      .live_buffers = pool.live_buffers,
      .allocations = pool.allocations,
      .cache_hits = pool.cache_hits,
  };
  unlock();
}

void fb_memory_reset_peak(void) {
  lock();
  pool.peak = pool.live;
  unlock();
}

/* Called with the lock held, after the limit or the guard has changed. */
static void choose_most(void) { pool.most = pool.guard != FB_GUARD_OFF ? 0 : pool.limit > 0 ? pool.limit : SIZE_MAX; }

void fb_memory_set_limit(size_t bytes) {
  if (bytes > 0)
    fb_kept_forget_all(); /* what is needed comes back */
  lock();
  pool.limit = bytes;
  choose_most();
  fb_buffer *list = bytes > 0 && pool.live + pool.cached > bytes ? detach_cache() : NULL;
  unlock();
  free_list(list);
}

void fb_memory_refuse(size_t nth) {
  lock();
  pool.until_refusal = nth;
  unlock();
}

size_t fb_memory_trim(void) {
  fb_kept_forget_all();
  lock();
  size_t bytes = pool.cached;
  fb_buffer *list = detach_cache();
  unlock();
  free_list(list);
#if defined(__GLIBC__)
  malloc_trim(0);
#endif
  return bytes;
}

void fb_memory_set_guard(fb_guard_mode mode) {
  lock();
  pool.guard = mode;
  choose_most();
  fb_buffer *list = detach_cache();
  unlock();
  free_list(list);
}
