/* Reference-counted buffers over pool memory or memory owned elsewhere. Next: memory.c. */
#include <stdlib.h>

#include "device.h"
#include "internal.h"

_Static_assert(sizeof(struct fb_buffer) == FB_ALIGN, "a header fills one cache line");

fb_status fb_buffer_alloc(size_t bytes, fb_buffer **out) { return fb_pool_take(bytes, out); }

fb_status fb_buffer_wrap(void *data, size_t bytes, fb_release_fn release, void *owner, fb_buffer **out) {
  *out = NULL;
  if (data == NULL && bytes > 0)
    return fb_fail(FB_INVALID_ARGUMENT, "[memory] cannot wrap a null pointer of %zu bytes. Pass the data's address.",
                   bytes);
  fb_buffer *b = (fb_buffer *)aligned_alloc(FB_ALIGN, sizeof *b);
  if (b == NULL)
    return fb_fail(FB_OUT_OF_MEMORY, "[memory] cannot allocate a buffer header of %zu bytes. Free memory.", sizeof *b);
  *b = (fb_buffer){.data = data, .bytes = bytes, .release = release, .owner = owner};
  atomic_init(&b->refs, 1);
  *out = b;
  return FB_OK;
}

fb_status fb_buffer_wrap_on(fb_device *d, void *data, size_t bytes, fb_release_fn release, void *owner,
                            fb_buffer **out) {
  fb_status status = fb_buffer_wrap(data, bytes, release, owner, out);
  if (status == FB_OK)
    (*out)->device = d;
  return status;
}

void fb_buffer_retain(fb_buffer *b) { atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed); }

static void destroy(fb_buffer *b) {
  if (FB_UNLIKELY(atomic_load_explicit(&b->kept, memory_order_relaxed)))
    fb_kept_forget(b);
  if (b->capacity > 0) {
    fb_pool_give(b);
    return;
  }
  if (b->release != NULL)
    b->release(b->owner);
  free(b);
}

void fb_buffer_release(fb_buffer *b) {
  if (b == NULL)
    return;
  /* Whoever holds the only reference cannot be raced: no locked instruction is needed then. */
  if (atomic_load_explicit(&b->refs, memory_order_acquire) == 1 ||
      atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) == 1)
    destroy(b);
}

void *fb_buffer_data(const fb_buffer *b) { return b->data; }

size_t fb_buffer_bytes(const fb_buffer *b) { return b->bytes; }

int64_t fb_buffer_refs(const fb_buffer *b) {
  return atomic_load_explicit(&((fb_buffer *)b)->refs, memory_order_acquire);
}

bool fb_buffer_is_pooled(const fb_buffer *b) { return fb_is_pooled(b); }

void *fb_buffer_owner(const fb_buffer *b, fb_release_fn release) {
  return b->capacity == 0 && b->release == release ? b->owner : NULL;
}

/* Stamps of new blocks of the pool are even, see memory.c. */
void fb_buffer_written(fb_buffer *b, bool may_go_on) {
  static atomic_uint_least64_t writes;
  if (b->device != NULL)
    return;
  may_go_on |= (atomic_load_explicit(&b->kept, memory_order_relaxed) & FB_TOLD) != 0;
  uint64_t stamp = may_go_on ? 0 : 2 * atomic_fetch_add_explicit(&writes, 1, memory_order_relaxed) + 1;
  if (b->capacity > 0)
    atomic_store_explicit(&b->stamp, stamp, memory_order_relaxed);
  else
    atomic_store_explicit(&b->stamp_wrapped, (uint32_t)stamp, memory_order_relaxed);
  if (FB_UNLIKELY(atomic_load_explicit(&b->kept, memory_order_relaxed)))
    fb_kept_forget(b);
}

void fb_buffer_told(fb_buffer *b) {
  atomic_fetch_or_explicit(&b->kept, FB_TOLD, memory_order_relaxed);
  fb_buffer_written(b, true);
}

fb_device *fb_buffer_device(const fb_buffer *b) { return b->device; }
