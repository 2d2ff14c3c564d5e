/* An open NVIDIA GPU as a device of plans. Next: device.h, cuda.h. */
#include <stdlib.h>

#include "cuda.h"
#include "internal.h"

typedef struct {
  fb_device device; /* first: the one is the other */
  fb_cuda *cuda;
} cuda_device;

/* What a buffer gives back. */
typedef struct {
  fb_cuda *cuda;
  fb_cuda_block *block;
} lease;

static fb_cuda *cuda_of(fb_device *d) { return ((cuda_device *)d)->cuda; }

static uint64_t address(const void *data) { return (uint64_t)(uintptr_t)data; }

static void give_back(void *owner) {
  lease *l = (lease *)owner;
  fb_cuda_release(l->cuda, l->block);
  free(l);
}

static fb_status device_alloc(fb_device *d, size_t bytes, fb_buffer **out) {
  *out = NULL;
  lease *l = (lease *)malloc(sizeof *l);
  if (l == NULL)
    return fb_fail(FB_OUT_OF_MEMORY, "[cuda] out of memory for %zu bytes on the host.", sizeof *l);
  l->cuda = cuda_of(d);
  fb_status status = fb_cuda_alloc(l->cuda, bytes, &l->block);
  if (status != FB_OK) {
    free(l);
    return status;
  }
  void *data = (void *)(uintptr_t)fb_cuda_address(l->block);
  status = fb_buffer_wrap_on(d, data, bytes, give_back, l, out);
  if (status != FB_OK)
    give_back(l);
  return status;
}

static fb_status device_upload(fb_device *d, void *to, const void *from, size_t bytes) {
  return fb_cuda_upload_to(cuda_of(d), address(to), from, bytes);
}

static fb_status device_download(fb_device *d, void *to, const void *from, size_t bytes) {
  return fb_cuda_download_from(cuda_of(d), to, address(from), bytes);
}

static fb_status device_copy(fb_device *d, void *to, const void *from, size_t bytes) {
  return fb_cuda_copy(cuda_of(d), address(to), address(from), bytes);
}

static fb_status device_launch(fb_device *d, const void *kernel, const int64_t grid[3], const int64_t block[3],
                               void *const *bufs, size_t n_bufs, const int64_t *dims, size_t n_dims) {
  unsigned extents[2][3];
  uint64_t addresses[FB_CUDA_MAX_PARAMETERS];
  for (int i = 0; i < 3; i++) {
    extents[0][i] = (unsigned)grid[i];
    extents[1][i] = (unsigned)block[i];
  }
  for (size_t i = 0; i < n_bufs && i < FB_CUDA_MAX_PARAMETERS; i++)
    addresses[i] = address(bufs[i]);
  return fb_cuda_launch_at(cuda_of(d), (const fb_cuda_kernel *)kernel, extents[0], extents[1], addresses, n_bufs, dims,
                           n_dims);
}

fb_device *fb_cuda_as_device(fb_cuda *c) {
  cuda_device *made = (cuda_device *)malloc(sizeof *made);
  if (made == NULL)
    return NULL;
  *made = (cuda_device){{device_alloc, device_upload, device_download, device_copy, device_launch}, c};
  return &made->device;
}
