/* A library with the CUDA driver's functions: records calls, fails when told to, and keeps "device" memory on the heap,
 * so that sanitizers watch it. Its one kernel, whatever the PTX says, copies the first operand to the second:
 * parameters are two blocks and a number of bytes. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
static int context, function;

EXPORT fake_cuda_state *fake_cuda(void);
EXPORT fake_cuda_state *fake_cuda(void) { return &state; }

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
  header *block = malloc(sizeof *block + bytes);
  if (block == NULL)
    return OUT_OF_MEMORY;
  block->bytes = bytes;
  *out = (uintptr_t)(block + 1);
  return SUCCESS;
}

FAKE(cuMemFree_v2, unsigned long long address) {
  IN_CONTEXT("cuMemFree");
  header *block = (header *)(uintptr_t)address - 1;
  pthread_mutex_lock(&lock);
  state.live_bytes -= block->bytes;
  pthread_mutex_unlock(&lock);
  free(block);
  return SUCCESS;
}

FAKE(cuMemcpyHtoD_v2, unsigned long long to, const void *from, size_t bytes) {
  IN_CONTEXT("cuMemcpyHtoD");
  memcpy((void *)(uintptr_t)to, from, bytes);
  return SUCCESS;
}

FAKE(cuMemcpyDtoH_v2, void *to, unsigned long long from, size_t bytes) {
  IN_CONTEXT("cuMemcpyDtoH");
  memcpy(to, (const void *)(uintptr_t)from, bytes);
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
  *out = &function;
  return strstr(module, entry) != NULL ? SUCCESS : NOT_FOUND;
}

FAKE(cuLaunchKernel, void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
     unsigned shared, void *stream, void **parameters, void **extra) {
  IN_CONTEXT("cuLaunchKernel");
  if (f != &function || gx * gy * gz == 0 || bx * by * bz > 1024 || shared != 0 || stream != NULL || extra != NULL)
    return INVALID_VALUE;
  memcpy(state.grid, (unsigned[]){gx, gy, gz}, sizeof state.grid);
  memcpy(state.block, (unsigned[]){bx, by, bz}, sizeof state.block);
  for (int i = 0; i < 3; i++)
    memcpy(&state.parameters[i], parameters[i], 8);
  memcpy((void *)(uintptr_t)state.parameters[1], (void *)(uintptr_t)state.parameters[0], state.parameters[2]);
  return SUCCESS;
}
