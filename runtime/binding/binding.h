/* What the binding's source files share. */
#ifndef FLAMBEAU_BINDING_H
#define FLAMBEAU_BINDING_H

#define PY_SSIZE_T_CLEAN
#include "binding_api.h"

typedef struct {
  PyObject_HEAD fb_buffer *buffer; /* NULL once donated */
  Py_ssize_t exports;              /* memoryviews that look at it: such a buffer is not donated */
  int readonly;
} BufferObject;

extern PyType_Spec fb_buffer_type_spec, fb_plan_type_spec, fb_device_type_spec, fb_op_list_type_spec;
extern fb_binding_api fb_api;

PyObject *fb_buffer_object(fb_buffer *b, int readonly); /* takes over the reference */
PyObject *fb_buffer_object_wrap(fb_buffer *b);
fb_buffer *fb_buffer_object_get(PyObject *object);
fb_buffer *fb_buffer_object_import(PyObject *object, int *readonly);
PyObject *fb_buffer_object_exporter(const fb_buffer *b, int *readonly);
fb_plan *fb_plan_object_get(PyObject *object);
PyObject *fb_raise(fb_status status, int64_t failure);
int fb_op_list_run(PyObject *list, const fb_input *inputs, const int64_t *symbols, fb_buffer **outputs);
bool fb_op_list_asks(PyObject *list);
PyObject *fb_join_op_lists(PyObject *module, PyObject *args);
fb_device *fb_device_object_get(PyObject *object); /* NULL and an exception when it is no Device */
PyObject *fb_cuda_probe(PyObject *module, PyObject *arguments);

/* cpu_identity.c */
PyObject *fb_cpu_identity(PyObject *module, PyObject *unused);

/* stand_in.c */
PyObject *fb_multiply_add(PyObject *module, PyObject *arguments);
PyObject *fb_matrix_product(PyObject *module, PyObject *arguments);

/* body.c */
PyObject *fb_body_ops(PyObject *module, PyObject *unused);
PyObject *fb_run_body(PyObject *module, PyObject *arguments);

/* call_gradients.c */
PyObject *fb_pass_back(PyObject *module, PyObject *args);

/* object_loader.c */
PyObject *fb_map_object(PyObject *module, PyObject *arguments);

typedef struct {
  const char *name;
  fb_kernel of[4]; /* float32, float64, complex64, complex128; NULL where there is none */
} fb_host_kernel;

/* A dict of the kernels' addresses, four by name. */
PyObject *fb_host_kernels(const fb_host_kernel *kernels, size_t count);
PyObject *fb_lapack_kernels(PyObject *module, PyObject *arguments);
PyObject *fb_fourier_kernels(PyObject *module, PyObject *loops);

#endif
