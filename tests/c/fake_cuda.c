/* A library with the CUDA driver's functions: records calls, fails when told to, and keeps "device" memory on the heap,
 * so that sanitizers watch it. Its one kernel, whatever the PTX says, copies the first operand to the second:
 * parameters are two blocks and a number of bytes.
 *
 * With `unreadable` set it is a device of its own: memory lies at addresses that end the process when they are touched,
 * and `launch` runs the kernels of the PTX, on the same memory where `fake_cuda_seen` says that it can be seen. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fake_cuda.h"

#define EXPORT __attribute__((visibility("default")))

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_CONTEXT = 201, INVALID_PTX = 218, NOT_FOUND = 500 };

typedef struct {
  size_t bytes;
  char padding[256 - sizeof(size_t)];
} header;

static fake_cuda_state state = {.devices = 1, .memory = 1 << 20};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local void *current;
static int context;

EXPORT fake_cuda_state *fake_cuda(void);
EXPORT fake_cuda_state *fake_cuda(void) { return &state; }

/* ---- memory that nobody else reads ----------------------------------------------------------------------- */

#define APART ((size_t)1 << 32) /* addresses, not memory */

static char *apart, *seen; /* the same pages twice: the first may not be touched */
static size_t next_apart;
static struct {
  size_t place, bytes;
} blocks[1 << 14];
static int n_blocks;

static int take_apart(size_t bytes, unsigned long long *out) {
  int result = SUCCESS;
  pthread_mutex_lock(&lock);
  if (apart == NULL) {
    int file = memfd_create("fake device", 0);
    int made = file >= 0 && ftruncate(file, (off_t)APART) == 0;
    apart = made ? mmap(NULL, APART, PROT_NONE, MAP_SHARED | MAP_NORESERVE, file, 0) : MAP_FAILED;
    seen = made ? mmap(NULL, APART, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0) : MAP_FAILED;
    if (file >= 0)
      close(file);
  }
  size_t place = next_apart + sizeof(header);
  next_apart = (place + bytes + 255) & ~(size_t)255;
  if (apart == MAP_FAILED || seen == MAP_FAILED || next_apart > APART || n_blocks == 1 << 14) {
    result = OUT_OF_MEMORY;
  } else {
    ((header *)(seen + place) - 1)->bytes = blocks[n_blocks].bytes = bytes;
    blocks[n_blocks++].place = place;
  }
  *out = (uintptr_t)(apart + place);
  pthread_mutex_unlock(&lock);
  return result;
}

EXPORT void *fake_cuda_seen(unsigned long long address);
EXPORT void *fake_cuda_seen(unsigned long long address) {
  uintptr_t at = (uintptr_t)address, from = (uintptr_t)apart;
  return apart != NULL && at >= from && at < from + APART ? seen + (at - from) : (void *)at;
}

/* How many bytes there are from an address to the end of its block. */
EXPORT size_t fake_cuda_extent(unsigned long long address);
EXPORT size_t fake_cuda_extent(unsigned long long address) {
  size_t at = (size_t)address - (size_t)(uintptr_t)apart;
  for (int i = 0; i < n_blocks; i++)
    if (at >= blocks[i].place && at <= blocks[i].place + blocks[i].bytes)
      return blocks[i].place + blocks[i].bytes - at;
  return 0;
}

/* Notes a call; what it must fail with, or SUCCESS. */
static int note(const char *name) {
  pthread_mutex_lock(&lock);
  size_t used = strlen(state.calls);
  snprintf(state.calls + used, sizeof state.calls - used, "%s ", name);
  int result = strcmp(name, state.fail) == 0 && --state.fail_call == 0 ? state.error : SUCCESS;
  pthread_mutex_unlock(&lock);
  return result;
}

#define FAKE(name, ...)                                                                                                \
  EXPORT int name(__VA_ARGS__);                                                                                        \
  EXPORT int name(__VA_ARGS__)
#define NOTE(name)                                                                                                     \
  do {                                                                                                                 \
    int failed = note(name);                                                                                           \
    if (failed != SUCCESS)                                                                                             \
      return failed;                                                                                                   \
  } while (0)
#define IN_CONTEXT(name)                                                                                               \
  NOTE(name);                                                                                                          \
  if (current != &context)                                                                                             \
  return INVALID_CONTEXT

FAKE(cuGetErrorName, int error, const char **out) {
  *out = error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY"
         : error == INVALID_PTX ? "CUDA_ERROR_INVALID_PTX"
         : error == 100         ? "CUDA_ERROR_NO_DEVICE"
         : error == 719         ? "CUDA_ERROR_LAUNCH_FAILED"
                                : NULL;
  return *out != NULL ? SUCCESS : INVALID_VALUE;
}

FAKE(cuGetErrorString, int error, const char **out) {
  *out = error == 719 ? "unspecified launch failure" : NULL;
  return *out != NULL ? SUCCESS : INVALID_VALUE;
}

FAKE(cuInit, unsigned flags) {
  NOTE("cuInit");
  return flags == 0 ? SUCCESS : INVALID_VALUE;
}

FAKE(cuDeviceGetCount, int *out) {
  NOTE("cuDeviceGetCount");
  *out = state.devices;
  return SUCCESS;
}

FAKE(cuDeviceGet, int *out, int number) {
  NOTE("cuDeviceGet");
  *out = number + 40;
  return SUCCESS;
}

FAKE(cuDeviceGetName, char *out, int length, int device) {
  NOTE("cuDeviceGetName");
  snprintf(out, (size_t)length, "Fake device %d", device - 40);
  return SUCCESS;
}

FAKE(cuDeviceGetAttribute, int *out, int attribute, int device) {
  NOTE("cuDeviceGetAttribute");
  *out = attribute == 75 ? 9 : 0;
  return device >= 40 ? SUCCESS : INVALID_VALUE;
}

FAKE(cuDeviceTotalMem_v2, size_t *out, int device) {
  NOTE("cuDeviceTotalMem");
  *out = state.memory;
  return device >= 40 ? SUCCESS : INVALID_VALUE;
}

FAKE(cuDevicePrimaryCtxRetain, void **out, int device) {
  NOTE("cuDevicePrimaryCtxRetain");
  state.contexts++;
  *out = &context;
  return device >= 40 ? SUCCESS : INVALID_VALUE;
}

FAKE(cuDevicePrimaryCtxRelease_v2, int device) {
  NOTE("cuDevicePrimaryCtxRelease");
  state.contexts--;
  return device >= 40 ? SUCCESS : INVALID_VALUE;
}

FAKE(cuCtxSetCurrent, void *given) {
  NOTE("cuCtxSetCurrent");
  current = given;
  return SUCCESS;
}

FAKE(cuCtxSynchronize, void) {
  IN_CONTEXT("cuCtxSynchronize");
  return SUCCESS;
}

FAKE(cuMemAlloc_v2, unsigned long long *out, size_t bytes) {
  IN_CONTEXT("cuMemAlloc");
  pthread_mutex_lock(&lock);
  int full = state.live_bytes + bytes > state.memory;
  state.live_bytes += full ? 0 : bytes;
  pthread_mutex_unlock(&lock);
  if (full)
    return OUT_OF_MEMORY;
  if (state.unreadable)
    return take_apart(bytes, out);
  header *block = malloc(sizeof *block + bytes);
  if (block == NULL)
    return OUT_OF_MEMORY;
  block->bytes = bytes;
  *out = (uintptr_t)(block + 1);
  return SUCCESS;
}

FAKE(cuMemFree_v2, unsigned long long address) {
  IN_CONTEXT("cuMemFree");
  header *block = (header *)fake_cuda_seen(address) - 1;
  pthread_mutex_lock(&lock);
  state.live_bytes -= block->bytes;
  pthread_mutex_unlock(&lock);
  if ((void *)block == (void *)((header *)(uintptr_t)address - 1))
    free(block);
  return SUCCESS;
}

FAKE(cuMemcpyHtoD_v2, unsigned long long to, const void *from, size_t bytes) {
  IN_CONTEXT("cuMemcpyHtoD");
  memcpy(fake_cuda_seen(to), from, bytes);
  return SUCCESS;
}

FAKE(cuMemcpyDtoH_v2, void *to, unsigned long long from, size_t bytes) {
  IN_CONTEXT("cuMemcpyDtoH");
  memcpy(to, fake_cuda_seen(from), bytes);
  return SUCCESS;
}

FAKE(cuMemcpyDtoD_v2, unsigned long long to, unsigned long long from, size_t bytes) {
  IN_CONTEXT("cuMemcpyDtoD");
  memmove(fake_cuda_seen(to), fake_cuda_seen(from), bytes);
  return SUCCESS;
}

FAKE(cuModuleLoadDataEx, void **out, const void *image, unsigned n, int *options, void **values) {
  IN_CONTEXT("cuModuleLoadDataEx");
  if (strstr(image, ".version") == NULL) {
    if (n == 2 && options[0] == 5 && options[1] == 6)
      snprintf(values[0], (size_t)(uintptr_t)values[1], "ptxas fatal: Missing .version directive");
    return INVALID_PTX;
  }
  *out = strdup(image);
  state.live_modules++;
  return SUCCESS;
}

FAKE(cuModuleUnload, void *module) {
  IN_CONTEXT("cuModuleUnload");
  state.live_modules--;
  free(module);
  return SUCCESS;
}

FAKE(cuModuleGetFunction, void **out, void *module, const char *name) {
  IN_CONTEXT("cuModuleGetFunction");
  char entry[128];
  snprintf(entry, sizeof entry, ".entry %s(", name);
  *out = module;
  return strstr(module, entry) != NULL ? SUCCESS : NOT_FOUND;
}

FAKE(cuLaunchKernel, void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
     unsigned shared, void *stream, void **parameters, void **extra) {
  IN_CONTEXT("cuLaunchKernel");
  if (f == NULL || gx * gy * gz == 0 || bx * by * bz > 1024 || shared != 0 || stream != NULL || extra != NULL)
    return INVALID_VALUE;
  memcpy(state.grid, (unsigned[]){gx, gy, gz}, sizeof state.grid);
  memcpy(state.block, (unsigned[]){bx, by, bz}, sizeof state.block);
  if (state.launch != NULL)
    return state.launch(f, state.grid, state.block, parameters);
  for (int i = 0; i < 3; i++)
    memcpy(&state.parameters[i], parameters[i], 8);
  memcpy((void *)(uintptr_t)state.parameters[1], (void *)(uintptr_t)state.parameters[0], state.parameters[2]);
  return SUCCESS;
}
