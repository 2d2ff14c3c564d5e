/* The driver's functions that cuda.c calls, found by name. */
#ifndef FLAMBEAU_CUDA_DRIVER_H
#define FLAMBEAU_CUDA_DRIVER_H

#include "internal.h"

typedef int CUresult; /* 0 is success */
typedef int CUdevice;
typedef unsigned long long CUdeviceptr;

enum { CUDA_ERROR_OUT_OF_MEMORY = 2 };
enum { CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76 };
enum { CU_JIT_ERROR_LOG_BUFFER = 5, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES = 6 };

/* X(field, symbol, parameters) */
#define FB_CUDA_FUNCTIONS(X)                                                                                           \
  X(init, "cuInit", (unsigned))                                                                                        \
  X(error_name, "cuGetErrorName", (CUresult, const char **))                                                           \
  X(error_string, "cuGetErrorString", (CUresult, const char **))                                                       \
  X(device_count, "cuDeviceGetCount", (int *))                                                                         \
  X(device_get, "cuDeviceGet", (CUdevice *, int))                                                                      \
  X(device_name, "cuDeviceGetName", (char *, int, CUdevice))                                                           \
  X(device_attribute, "cuDeviceGetAttribute", (int *, int, CUdevice))                                                  \
  X(device_memory, "cuDeviceTotalMem_v2", (size_t *, CUdevice))                                                        \
  X(context_retain, "cuDevicePrimaryCtxRetain", (void **, CUdevice))                                                   \
  X(context_release, "cuDevicePrimaryCtxRelease_v2", (CUdevice))                                                       \
  X(context_set, "cuCtxSetCurrent", (void *))                                                                          \
  X(wait, "cuCtxSynchronize", (void))                                                                                  \
  X(alloc, "cuMemAlloc_v2", (CUdeviceptr *, size_t))                                                                   \
  X(release, "cuMemFree_v2", (CUdeviceptr))                                                                            \
  X(upload, "cuMemcpyHtoD_v2", (CUdeviceptr, const void *, size_t))                                                    \
  X(download, "cuMemcpyDtoH_v2", (void *, CUdeviceptr, size_t))                                                        \
  X(copy, "cuMemcpyDtoD_v2", (CUdeviceptr, CUdeviceptr, size_t))                                                       \
  X(module_load, "cuModuleLoadDataEx", (void **, const void *, unsigned, int *, void **))                              \
  X(module_unload, "cuModuleUnload", (void *))                                                                         \
  X(module_function, "cuModuleGetFunction", (void **, void *, const char *))                                           \
  X(launch, "cuLaunchKernel",                                                                                          \
    (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **))

typedef struct {
  void *library;
#define FB_DECLARE(field, symbol, parameters) CUresult(*field) parameters;
  FB_CUDA_FUNCTIONS(FB_DECLARE)
#undef FB_DECLARE
} fb_cuda_driver;

/* Opens the library at `path`; NULL: the system's. */
fb_status fb_cuda_driver_open(const char *path, fb_cuda_driver *out);
void fb_cuda_driver_close(fb_cuda_driver *d);
/* Sets this thread's message to "[cuda] `call` failed: NAME (text). hint". */
fb_status fb_cuda_fail(const fb_cuda_driver *d, fb_status status, const char *call, CUresult error, const char *hint);

#endif
