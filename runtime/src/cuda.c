/* Devices, memory, kernels and launches on NVIDIA GPUs. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda.h"
#include "cuda_driver.h"

#define SMALLEST ((size_t)512)
#define CLASSES 256 /* four per power of two */
#define LOG_BYTES 320

struct fb_cuda_block {
  CUdeviceptr address;
  size_t bytes, capacity;
  fb_cuda_block *next; /* a cached block */
};

struct fb_cuda_kernel {
  void *module, *function;
};

struct fb_cuda {
  fb_cuda_driver driver;
  CUdevice device;
  void *context;
  fb_cuda_info info;    /* guarded by `lock` where it counts */
  pthread_mutex_t lock; /* of the pool */
  fb_cuda_block *cached[CLASSES];
};

static const char broken[] = "After such an error the device is lost to this process: restart it.";

/* The context is current per thread. */
static fb_status enter(fb_cuda *c) {
  CUresult r = c->driver.context_set(c->context);
  return r == 0 ? FB_OK : fb_cuda_fail(&c->driver, FB_DEVICE_FAILED, "cuCtxSetCurrent", r, broken);
}

/* ---- devices ------------------------------------------------------------------------------------------- */

static fb_status no_device(fb_cuda *c, const char *call, CUresult r) {
  return fb_cuda_fail(&c->driver, FB_NO_DEVICE, call, r, "Check the driver with nvidia-smi, or use device('cpu').");
}

static fb_status find_device(fb_cuda *c, int number) {
  const fb_cuda_driver *d = &c->driver;
  int count = 0;
  CUresult r = d->init(0);
  if (r != 0)
    return no_device(c, "cuInit", r);
  if ((r = d->device_count(&count)) != 0)
    return no_device(c, "cuDeviceGetCount", r);
  if (number < 0 || number >= count)
    return fb_fail(FB_NO_DEVICE, "[cuda] there is no device %d: the driver knows %d. Choose one of those, or 'cpu'.",
                   number, count);
  if ((r = d->device_get(&c->device, number)) != 0)
    return no_device(c, "cuDeviceGet", r);
  return FB_OK;
}

static fb_status describe_device(fb_cuda *c) {
  const fb_cuda_driver *d = &c->driver;
  fb_cuda_info *info = &c->info;
  CUresult r = d->device_name(info->name, (int)sizeof info->name, c->device);
  if (r == 0)
    r = d->device_attribute(&info->major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, c->device);
  if (r == 0)
    r = d->device_attribute(&info->minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, c->device);
  if (r == 0)
    r = d->device_memory(&info->total_bytes, c->device);
  if (r != 0)
    return no_device(c, "asking for the device's properties", r);
  r = d->context_retain(&c->context, c->device);
  return r == 0 ? FB_OK : no_device(c, "cuDevicePrimaryCtxRetain", r);
}

fb_status fb_cuda_open(const char *driver, int device, fb_cuda **out) {
  *out = NULL;
  fb_cuda *c = calloc(1, sizeof *c);
  if (c == NULL)
    return fb_fail(FB_OUT_OF_MEMORY, "[cuda] out of memory for %zu bytes.", sizeof *c);
  fb_status status = fb_cuda_driver_open(driver, &c->driver);
  if (status == FB_OK)
    status = find_device(c, device);
  if (status == FB_OK)
    status = describe_device(c);
  if (status != FB_OK) {
    fb_cuda_driver_close(&c->driver);
    free(c);
    return status;
  }
  pthread_mutex_init(&c->lock, NULL);
  *out = c;
  return FB_OK;
}

void fb_cuda_close(fb_cuda *c) {
  if (enter(c) == FB_OK) {
    c->driver.wait();
    fb_cuda_trim(c);
  }
  c->driver.context_release(c->device);
  fb_cuda_driver_close(&c->driver);
  pthread_mutex_destroy(&c->lock);
  free(c);
}

void fb_cuda_get_info(fb_cuda *c, fb_cuda_info *out) {
  pthread_mutex_lock(&c->lock);
  *out = c->info;
  pthread_mutex_unlock(&c->lock);
}

fb_status fb_cuda_wait(fb_cuda *c) {
  fb_status status = enter(c);
  if (status != FB_OK)
    return status;
  CUresult r = c->driver.wait();
  return r == 0 ? FB_OK : fb_cuda_fail(&c->driver, FB_DEVICE_FAILED, "a kernel", r, broken);
}

/* ---- memory -------------------------------------------------------------------------------------------- */

/* The size class of `bytes`, and the size of its blocks: a quarter of a power of two more or less. */
static int class_of(size_t bytes, size_t *capacity) {
  size_t base = SMALLEST;
  for (int power = 0; power < CLASSES / 4; power++, base <<= 1)
    for (int quarter = 0; quarter < 4; quarter++)
      if (bytes <= base + base / 4 * (size_t)quarter) {
        *capacity = base + base / 4 * (size_t)quarter;
        return power * 4 + quarter;
      }
  return -1;
}

static fb_cuda_block *take_cached(fb_cuda *c, int size_class) {
  pthread_mutex_lock(&c->lock);
  fb_cuda_block *b = c->cached[size_class];
  if (b != NULL) {
    c->cached[size_class] = b->next;
    c->info.live_bytes += b->capacity;
  }
  pthread_mutex_unlock(&c->lock);
  return b;
}

static fb_status allocate(fb_cuda *c, size_t bytes, size_t capacity, fb_cuda_block *b) {
  CUresult r = c->driver.alloc(&b->address, capacity);
  if (r == CUDA_ERROR_OUT_OF_MEMORY && fb_cuda_trim(c) > 0)
    r = c->driver.alloc(&b->address, capacity);
  if (r == 0) {
    b->capacity = capacity;
    pthread_mutex_lock(&c->lock);
    c->info.live_bytes += capacity;
    c->info.reserved_bytes += capacity;
    pthread_mutex_unlock(&c->lock);
    return FB_OK;
  }
  if (r != CUDA_ERROR_OUT_OF_MEMORY)
    return fb_cuda_fail(&c->driver, FB_DEVICE_FAILED, "cuMemAlloc", r, broken);
  fb_cuda_info info;
  fb_cuda_get_info(c, &info);
  return fb_fail(FB_OUT_OF_MEMORY,
                 "[cuda] out of memory for %zu bytes on %s: %zu of %zu bytes are in use by this process. "
                 "Free tensors, or work in smaller batches.",
                 bytes, info.name, info.live_bytes, info.total_bytes);
}

fb_status fb_cuda_alloc(fb_cuda *c, size_t bytes, fb_cuda_block **out) {
  *out = NULL;
  size_t capacity = 0;
  int size_class = bytes <= (size_t)1 << 60 ? class_of(bytes, &capacity) : -1;
  if (size_class < 0)
    return fb_fail(FB_OUT_OF_MEMORY, "[cuda] out of memory for %zu bytes: no device has as many.", bytes);
  fb_cuda_block *b = take_cached(c, size_class);
  if (b == NULL) {
    fb_status status = enter(c);
    if (status != FB_OK)
      return status;
    if ((b = calloc(1, sizeof *b)) == NULL)
      return fb_fail(FB_OUT_OF_MEMORY, "[cuda] out of memory for %zu bytes on the host.", sizeof *b);
    if ((status = allocate(c, bytes, capacity, b)) != FB_OK) {
      free(b);
      return status;
    }
  }
  b->bytes = bytes;
  *out = b;
  return FB_OK;
}

void fb_cuda_release(fb_cuda *c, fb_cuda_block *b) {
  if (b == NULL)
    return;
  size_t capacity;
  int size_class = class_of(b->capacity, &capacity);
  pthread_mutex_lock(&c->lock);
  b->next = c->cached[size_class];
  c->cached[size_class] = b;
  c->info.live_bytes -= b->capacity;
  pthread_mutex_unlock(&c->lock);
}

size_t fb_cuda_trim(fb_cuda *c) {
  fb_cuda_block *all = NULL;
  size_t bytes = 0;
  pthread_mutex_lock(&c->lock);
  for (int k = 0; k < CLASSES; k++)
    while (c->cached[k] != NULL) {
      fb_cuda_block *b = c->cached[k];
      c->cached[k] = b->next;
      b->next = all;
      all = b;
      bytes += b->capacity;
    }
  c->info.reserved_bytes -= bytes;
  pthread_mutex_unlock(&c->lock);
  if (all != NULL)
    enter(c);
  while (all != NULL) {
    fb_cuda_block *b = all;
    all = b->next;
    c->driver.release(b->address); /* waits for the device; nothing to do if that fails */
    free(b);
  }
  return bytes;
}

size_t fb_cuda_bytes(const fb_cuda_block *b) { return b->bytes; }

uint64_t fb_cuda_address(const fb_cuda_block *b) { return b->address; }

/* ---- copies -------------------------------------------------------------------------------------------- */

static fb_status check_range(const fb_cuda_block *b, size_t offset, size_t bytes) {
  if (offset <= b->bytes && bytes <= b->bytes - offset)
    return FB_OK;
  return fb_fail(FB_INVALID_ARGUMENT, "[cuda] copy of %zu bytes at offset %zu of a block of %zu bytes.", bytes, offset,
                 b->bytes);
}

static fb_status copied(fb_cuda *c, const char *call, CUresult r) {
  return r == 0 ? FB_OK : fb_cuda_fail(&c->driver, FB_DEVICE_FAILED, call, r, broken);
}

fb_status fb_cuda_upload_to(fb_cuda *c, uint64_t to, const void *from, size_t bytes) {
  fb_status status = bytes == 0 ? FB_OK : enter(c);
  return status != FB_OK || bytes == 0 ? status : copied(c, "cuMemcpyHtoD", c->driver.upload(to, from, bytes));
}

fb_status fb_cuda_download_from(fb_cuda *c, void *to, uint64_t from, size_t bytes) {
  fb_status status = bytes == 0 ? FB_OK : enter(c);
  return status != FB_OK || bytes == 0 ? status : copied(c, "cuMemcpyDtoH", c->driver.download(to, from, bytes));
}

fb_status fb_cuda_copy(fb_cuda *c, uint64_t to, uint64_t from, size_t bytes) {
  fb_status status = bytes == 0 ? FB_OK : enter(c);
  return status != FB_OK || bytes == 0 ? status : copied(c, "cuMemcpyDtoD", c->driver.copy(to, from, bytes));
}

fb_status fb_cuda_upload(fb_cuda *c, fb_cuda_block *to, size_t offset, const void *from, size_t bytes) {
  fb_status status = check_range(to, offset, bytes);
  return status != FB_OK ? status : fb_cuda_upload_to(c, to->address + offset, from, bytes);
}

fb_status fb_cuda_download(fb_cuda *c, void *to, const fb_cuda_block *from, size_t offset, size_t bytes) {
  fb_status status = check_range(from, offset, bytes);
  return status != FB_OK ? status : fb_cuda_download_from(c, to, from->address + offset, bytes);
}

/* ---- kernels ------------------------------------------------------------------------------------------- */

static fb_status load(fb_cuda *c, const char *ptx, fb_cuda_kernel *k) {
  char log[LOG_BYTES] = "";
  int options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
  void *values[] = {log, (void *)(uintptr_t)(sizeof log - 1)};
  CUresult r = c->driver.module_load(&k->module, ptx, 2, options, values);
  if (r == CUDA_ERROR_OUT_OF_MEMORY)
    return fb_cuda_fail(&c->driver, FB_OUT_OF_MEMORY, "cuModuleLoadDataEx", r, "Free tensors.");
  log[sizeof log - 1] = '\0';
  if (r != 0)
    return fb_cuda_fail(&c->driver, FB_DEVICE_FAILED, "compiling PTX", r,
                        log[0] != '\0' ? log : "A newer driver may be needed.");
  r = c->driver.module_function(&k->function, k->module, "kernel");
  if (r == 0)
    return FB_OK;
  c->driver.module_unload(k->module);
  return fb_cuda_fail(&c->driver, FB_DEVICE_FAILED, "cuModuleGetFunction", r, "The PTX has no entry named kernel.");
}

fb_status fb_cuda_load(fb_cuda *c, const char *ptx, fb_cuda_kernel **out) {
  *out = NULL;
  fb_status status = enter(c);
  if (status != FB_OK)
    return status;
  fb_cuda_kernel *k = calloc(1, sizeof *k);
  if (k == NULL)
    return fb_fail(FB_OUT_OF_MEMORY, "[cuda] out of memory for %zu bytes on the host.", sizeof *k);
  if ((status = load(c, ptx, k)) != FB_OK) {
    free(k);
    return status;
  }
  *out = k;
  return FB_OK;
}

void fb_cuda_unload(fb_cuda *c, fb_cuda_kernel *k) {
  if (k == NULL)
    return;
  if (enter(c) == FB_OK)
    c->driver.module_unload(k->module);
  free(k);
}

fb_status fb_cuda_launch(fb_cuda *c, const fb_cuda_kernel *k, const unsigned grid[3], const unsigned block[3],
                         fb_cuda_block *const *blocks, size_t n_blocks, const int64_t *dims, size_t n_dims) {
  uint64_t addresses[FB_CUDA_MAX_PARAMETERS];
  for (size_t i = 0; i < n_blocks && i < FB_CUDA_MAX_PARAMETERS; i++)
    addresses[i] = blocks[i]->address;
  return fb_cuda_launch_at(c, k, grid, block, addresses, n_blocks, dims, n_dims);
}

fb_status fb_cuda_launch_at(fb_cuda *c, const fb_cuda_kernel *k, const unsigned grid[3], const unsigned block[3],
                            const uint64_t *addresses, size_t n_addresses, const int64_t *dims, size_t n_dims) {
  if (n_addresses > FB_CUDA_MAX_PARAMETERS || n_dims > FB_CUDA_MAX_PARAMETERS - n_addresses)
    return fb_fail(FB_INVALID_ARGUMENT, "[cuda] a launch with %zu parameters; kernels take at most %d.",
                   n_addresses + n_dims, FB_CUDA_MAX_PARAMETERS);
  fb_status status = enter(c);
  if (status != FB_OK)
    return status;
  void *parameters[FB_CUDA_MAX_PARAMETERS];
  for (size_t i = 0; i < n_addresses; i++)
    parameters[i] = (void *)&addresses[i];
  for (size_t i = 0; i < n_dims; i++)
    parameters[n_addresses + i] = (void *)&dims[i];
  CUresult r =
      c->driver.launch(k->function, grid[0], grid[1], grid[2], block[0], block[1], block[2], 0, NULL, parameters, NULL);
  if (r == 0)
    return FB_OK;
  char call[128];
  snprintf(call, sizeof call, "launching (%u, %u, %u) blocks of (%u, %u, %u) threads", grid[0], grid[1], grid[2],
           block[0], block[1], block[2]);
  return fb_cuda_fail(&c->driver, FB_DEVICE_FAILED, call, r, broken);
}
