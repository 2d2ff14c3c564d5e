/* Kernels that call other packages' C code, as Python is told of them. */
#include "binding.h"

#include <string.h>

PyObject *fb_host_kernels(const fb_host_kernel *kernels, size_t count) {
  PyObject *found = PyDict_New();
  for (size_t i = 0; found != NULL && i < count; i++) {
    void *addresses[4];
    _Static_assert(sizeof addresses == sizeof kernels[i].of, "functions are as large as pointers");
    memcpy(addresses, kernels[i].of, sizeof addresses);
    PyObject *tuple = Py_BuildValue("(NNNN)", PyLong_FromVoidPtr(addresses[0]), PyLong_FromVoidPtr(addresses[1]),
                                    PyLong_FromVoidPtr(addresses[2]), PyLong_FromVoidPtr(addresses[3]));
    if (tuple == NULL || PyDict_SetItemString(found, kernels[i].name, tuple) < 0)
      Py_CLEAR(found);
    Py_XDECREF(tuple);
  }
  return found;
}
