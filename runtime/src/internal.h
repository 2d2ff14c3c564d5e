/* What the runtime's source files share. Not installed. */
#ifndef FLAMBEAU_INTERNAL_H
#define FLAMBEAU_INTERNAL_H

#include "language.h"

#include "flambeau/runtime.h"

#define FB_LIKELY(x) __builtin_expect(!!(x), 1)
#define FB_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define FB_ALIGN 64
#define FB_MAX_THREADS 256

static inline void fb_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
  __asm__ volatile("yield");
#endif
}

static inline size_t fb_round_up(size_t bytes, size_t multiple) { return (bytes + multiple - 1) & ~(multiple - 1); }

/* Sets this thread's message and returns `status`. */
fb_status fb_fail(fb_status status, const char *format, ...) __attribute__((format(printf, 2, 3), cold));

/* ---- memory -------------------------------------------------------------------------------------------- */

enum { FB_KEPT = 1, FB_TOLD = 2 };

/* 64 bytes, so that the data of a small pooled block can follow its header. */
struct fb_buffer {
  _Alignas(FB_ALIGN) atomic_int_least64_t refs;
  void *data;
  size_t bytes;
  size_t capacity; /* of the pool's size class; 0 for wrapped memory */
  union {
    fb_release_fn release;  /* wrapped memory; may be NULL */
    struct fb_buffer *next; /* a cached block */
  };
  union {
    void *owner;                 /* of wrapped memory */
    atomic_uint_least64_t stamp; /* of pool memory: another one for all other contents; 0: they may change unseen */
  };
  union {
    int32_t size_class;
    atomic_uint stamp_wrapped; /* the same of wrapped memory: 0 until somebody knows that nobody writes there */
  };
  atomic_int kept;   /* FB_KEPT: a plan keeps what it has made of the contents; FB_TOLD: somebody knows the address */
  fb_device *device; /* NULL: the CPU */
};

/* Makes a header of the caller's a buffer over memory of the caller's, for as long as both last: whoever holds a
 * reference must give it back by then, the first one excepted. */
static inline void fb_buffer_borrow(fb_buffer *header, void *data, size_t bytes) {
  *header = (fb_buffer){.data = data, .bytes = bytes};
  atomic_init(&header->refs, 1);
}

static inline bool fb_is_pooled(const fb_buffer *b) { return FB_LIKELY(b->capacity > 0) || b->device != NULL; }

/* Blocks of at least FB_BIG_BLOCK bytes come as whole pages straight from the system. */
#define FB_BIG_BLOCK ((size_t)1 << 20)
void *fb_pages_alloc(size_t bytes);
void fb_pages_free(void *pages, size_t bytes);
/* `bytes` between two pages that may not be touched, next to the second one or to the first. */
void *fb_guarded_alloc(size_t bytes, bool at_end);
void fb_guarded_free(void *data, size_t bytes);

fb_status fb_pool_take(size_t bytes, fb_buffer **out);
void fb_pool_give(fb_buffer *b);

/* What plans keep (plan_kept.c) of a buffer that is about to change or go; of all: whether there was anything. */
void fb_kept_forget(const fb_buffer *operand);
bool fb_kept_forget_all(void);

/* ---- threads ------------------------------------------------------------------------------------------- */

/* fb_parallel_for in which only workers 0 .. max_workers - 1 take part, for callers with that many scratch areas. */
void fb_parallel_for_within(int64_t n, int64_t grain, fb_task task, void *context, int max_workers);

#endif
