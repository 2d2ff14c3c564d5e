/* Finds the CUDA driver's library and the functions in it. */
#include <dlfcn.h>
#include <string.h>

#include "cuda_driver.h"

static const char install[] = "Install the NVIDIA driver, or use device('cpu').";

static bool find(void *library, const char *symbol, void *function) {
  void *found = dlsym(library, symbol);
  memcpy(function, &found, sizeof found); /* ISO C has no cast from an object to a function */
  return found != NULL;
}

fb_status fb_cuda_driver_open(const char *path, fb_cuda_driver *out) {
  const char *name = path != NULL ? path : "libcuda.so.1";
  memset(out, 0, sizeof *out);
  out->library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (out->library == NULL)
    return fb_fail(FB_NO_DEVICE, "[cuda] no driver: %s. %s", dlerror(), install);
#define FB_FIND(field, symbol, parameters)                                                                             \
  if (!find(out->library, symbol, &out->field)) {                                                                      \
    fb_cuda_driver_close(out);                                                                                         \
    return fb_fail(FB_NO_DEVICE, "[cuda] the driver library %s has no function %s. %s", name, symbol, install);        \
  }
  FB_CUDA_FUNCTIONS(FB_FIND)
#undef FB_FIND
  return FB_OK;
}

void fb_cuda_driver_close(fb_cuda_driver *d) {
  if (d->library != NULL)
    dlclose(d->library);
  d->library = NULL;
}

fb_status fb_cuda_fail(const fb_cuda_driver *d, fb_status status, const char *call, CUresult error, const char *hint) {
  const char *name = NULL, *text = NULL;
  if (d->error_name(error, &name) != 0 || name == NULL)
    name = "an unknown error";
  if (d->error_string(error, &text) != 0 || text == NULL)
    text = "no description";
  return fb_fail(status, "[cuda] %s failed with %s (%d: %s). %s", call, name, error, text, hint);
}
