/* NVIDIA GPUs through the driver's library, which is looked for when it is first asked for: nothing links against it.
 *
 * Every call may come from any thread. All work of a device runs in order; copies wait for it. Failures are statuses:
 * FB_NO_DEVICE without a driver or device, FB_OUT_OF_MEMORY, FB_DEVICE_FAILED for PTX that the driver refuses, launches
 * and copies that fail; fb_last_error() then names the driver's call, its error and what was asked of it. */
#ifndef FLAMBEAU_CUDA_H
#define FLAMBEAU_CUDA_H

#include "device.h"

/* Parameters of one kernel: what 4096 bytes hold. */
#define FB_CUDA_MAX_PARAMETERS 512

typedef struct fb_cuda fb_cuda;               /* an open device */
typedef struct fb_cuda_block fb_cuda_block;   /* memory on it */
typedef struct fb_cuda_kernel fb_cuda_kernel; /* a loaded kernel */

typedef struct {
  char name[96];
  int major, minor; /* compute capability: sm_<major><minor> */
  size_t total_bytes;
  size_t live_bytes, reserved_bytes; /* of the pool; reserved = live + cached */
} fb_cuda_info;

/* `driver` is the path of the driver's library; NULL means the system's libcuda.so.1. */
FB_API fb_status fb_cuda_open(const char *driver, int device, fb_cuda **out);
/* Waits for the device. Its blocks and kernels must have been released; cached memory goes back to the driver. */
FB_API void fb_cuda_close(fb_cuda *c);
FB_API void fb_cuda_get_info(fb_cuda *c, fb_cuda_info *out);

/* Pooled: released blocks are kept for requests of about the same size, and given back when memory runs short. */
FB_API fb_status fb_cuda_alloc(fb_cuda *c, size_t bytes, fb_cuda_block **out);
FB_API void fb_cuda_release(fb_cuda *c, fb_cuda_block *b); /* NULL is allowed */
FB_API size_t fb_cuda_trim(fb_cuda *c);                    /* give cached blocks back; returns bytes */
FB_API size_t fb_cuda_bytes(const fb_cuda_block *b);
FB_API uint64_t fb_cuda_address(const fb_cuda_block *b);

FB_API fb_status fb_cuda_upload(fb_cuda *c, fb_cuda_block *to, size_t offset, const void *from, size_t bytes);
FB_API fb_status fb_cuda_download(fb_cuda *c, void *to, const fb_cuda_block *from, size_t offset, size_t bytes);

/* The same at addresses on the device, which nothing checks; and from one to another of its addresses. */
FB_API fb_status fb_cuda_upload_to(fb_cuda *c, uint64_t to, const void *from, size_t bytes);
FB_API fb_status fb_cuda_download_from(fb_cuda *c, void *to, uint64_t from, size_t bytes);
FB_API fb_status fb_cuda_copy(fb_cuda *c, uint64_t to, uint64_t from, size_t bytes);

/* PTX text, ended by a zero byte, that defines the entry `kernel`. The driver compiles it here. */
FB_API fb_status fb_cuda_load(fb_cuda *c, const char *ptx, fb_cuda_kernel **out);
FB_API void fb_cuda_unload(fb_cuda *c, fb_cuda_kernel *k); /* NULL is allowed */

/* Start a kernel: its parameters are the blocks' addresses, then the dims. It may still run, and fail, after this: see
 * fb_cuda_wait. */
FB_API fb_status fb_cuda_launch(fb_cuda *c, const fb_cuda_kernel *k, const unsigned grid[3], const unsigned block[3],
                                fb_cuda_block *const *blocks, size_t n_blocks, const int64_t *dims, size_t n_dims);
/* The same with the addresses themselves. */
FB_API fb_status fb_cuda_launch_at(fb_cuda *c, const fb_cuda_kernel *k, const unsigned grid[3], const unsigned block[3],
                                   const uint64_t *addresses, size_t n_addresses, const int64_t *dims, size_t n_dims);
FB_API fb_status fb_cuda_wait(fb_cuda *c); /* until all work is done */

/* The open device for the plan runner; see device.h. It is as long there as the process. */
FB_API fb_device *fb_cuda_as_device(fb_cuda *c);

#endif
