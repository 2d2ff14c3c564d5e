/* What other extensions get from flambeau.runtime._binding: PyCapsule_Import(FB_BINDING_CAPSULE, 0). */
#ifndef FLAMBEAU_BINDING_API_H
#define FLAMBEAU_BINDING_API_H

#include <Python.h>

#include "flambeau/runtime.h"

#define FB_BINDING_CAPSULE "flambeau.runtime._binding._C_API"
#define FB_BINDING_VERSION 3

typedef struct {
  int version; /* FB_BINDING_VERSION: check it */
  PyTypeObject *buffer_type, *plan_type, *device_type, *op_list_type;
  PyObject *out_of_memory, *kernel_failed, *other_sizes; /* exception classes */

  /* A new Buffer that takes over the caller's reference; on failure the reference is released and NULL returned. */
  PyObject *(*buffer_wrap)(fb_buffer *b);
  /* The fb_buffer inside a Buffer, borrowed; NULL and an exception when it is no Buffer or was donated. */
  fb_buffer *(*buffer_get)(PyObject *object);
  /* A new reference to an fb_buffer that shares the memory of any C-contiguous buffer-protocol object and keeps the
   * object alive; its last release may happen on any thread. `readonly` may be NULL. NULL and an exception on failure.
   */
  fb_buffer *(*buffer_import)(PyObject *object, int *readonly);
  /* The object that exported an imported fb_buffer's memory, borrowed: the buffer holds one reference to it. NULL
   * without an exception for other memory. `readonly`, which may be NULL: whether it is not to be written to. */
  PyObject *(*buffer_exporter)(const fb_buffer *b, int *readonly);
  /* The fb_plan inside a Plan, borrowed; NULL and an exception when it is no Plan. */
  fb_plan *(*plan_get)(PyObject *object);
  /* Sets the exception for a failed call and returns NULL. `failure` is fb_run.failure, used for FB_KERNEL_FAILED. */
  PyObject *(*raise)(fb_status status, int64_t failure);
  /* Runs an OpList. The outputs are new references; -1 and an exception on failure. */
  int (*op_list_run)(PyObject *list, const fb_input *inputs, const int64_t *symbols, fb_buffer **outputs);
  /* Whether the list's owner is to be asked for something better before it runs again, of which this is note taken. */
  bool (*op_list_asks)(PyObject *list);
} fb_binding_api;

#endif
