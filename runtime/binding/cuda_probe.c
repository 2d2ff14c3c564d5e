/* Which NVIDIA GPU there is, for Python. */
#include "../src/cuda.h"
#include "binding.h"

PyObject *fb_cuda_probe(PyObject *module, PyObject *arguments) {
  (void)module;
  const char *driver = NULL;
  int device = 0;
  if (!PyArg_ParseTuple(arguments, "|zi:cuda_device", &driver, &device))
    return NULL;
  fb_cuda *c;
  fb_cuda_info info = {0};
  fb_status status;
  Py_BEGIN_ALLOW_THREADS;
  status = fb_cuda_open(driver, device, &c);
  if (status == FB_OK) {
    fb_cuda_get_info(c, &info);
    fb_cuda_close(c);
  }
  Py_END_ALLOW_THREADS;
  if (status != FB_OK)
    return fb_raise(status, 0);
  return Py_BuildValue("{ss s(ii) sn}", "name", info.name, "capability", info.major, info.minor, "total_bytes",
                       (Py_ssize_t)info.total_bytes);
}
