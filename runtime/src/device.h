/* A device other than the CPU, as buffers and the plan runner see it: its memory, copies, and launches. All of its work
 * runs in the order in which it is asked for. Addresses are the device's own: this process does not read them.
 *
 * The runner calls it through these functions only, so that programs without devices link none. cuda_device.c makes
 * one. */
#ifndef FLAMBEAU_DEVICE_H
#define FLAMBEAU_DEVICE_H

#include "flambeau/runtime.h"

struct fb_device {
  /* A buffer whose data is an address on the device; it returns to the device's pool with its last reference. */
  fb_status (*alloc)(fb_device *d, size_t bytes, fb_buffer **out);
  fb_status (*upload)(fb_device *d, void *to, const void *from, size_t bytes);
  fb_status (*download)(fb_device *d, void *to, const void *from, size_t bytes);
  fb_status (*copy)(fb_device *d, void *to, const void *from, size_t bytes); /* both on the device */
  /* Start `kernel` on grid[0] x grid[1] x grid[2] blocks of threads; its parameters are bufs, then dims. */
  fb_status (*launch)(fb_device *d, const void *kernel, const int64_t grid[3], const int64_t block[3],
                      void *const *bufs, size_t n_bufs, const int64_t *dims, size_t n_dims);
};

/* A buffer over `data` on a device; release(owner) runs when the last reference goes. */
FB_API fb_status fb_buffer_wrap_on(fb_device *d, void *data, size_t bytes, fb_release_fn release, void *owner,
                                   fb_buffer **out);

#endif
