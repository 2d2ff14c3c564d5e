/* What NumPy lacks to compute the bits of compiled kernels: multiply-adds that round once, and products of matrices in
 * the order of docs/architecture.md. Python calls these while a kernel is still to be compiled, and small ops do.
 */
#include "fused.h"
#include "small_op.h"

#include <math.h>

#define LANES 64
#define CHUNK 4096
#define BLOCK 256

#define REAL float
#define FMA fmaf
#define OF(name) name##_f32
#include "stand_in_kernels.h"
#undef REAL
#undef FMA
#undef OF
#define REAL double
#define FMA fma
#define OF(name) name##_f64
#include "stand_in_kernels.h"

bool fb_small_product(const fb_small_op *op, const char *const *operands, char *out) {
  return (op->size == sizeof(double) ? products_f64 : products_f32)(operands[0], operands[1], out, op->batch, op->m,
                                                                    op->k, op->columns);
}

enum { X, Y, Z, OUT, MOST };

static void release(Py_buffer *views) {
  for (int k = 0; k < MOST; k++)
    if (views[k].obj != NULL)
      PyBuffer_Release(&views[k]);
}

PyObject *fb_multiply_add(PyObject *module, PyObject *arguments) {
  (void)module;
  Py_buffer views[MOST] = {{0}};
  int is_double;
  if (!PyArg_ParseTuple(arguments, "y*y*y*w*p", &views[X], &views[Y], &views[Z], &views[OUT], &is_double))
    return NULL;
  Py_ssize_t bytes = is_double ? sizeof(double) : sizeof(float), n = views[OUT].len / bytes;
  int64_t steps[3];
  bool fits = true;
  for (int k = X; k < OUT; k++) {
    steps[k] = views[k].len == bytes ? 0 : 1;
    fits &= steps[k] == 0 || views[k].len == views[OUT].len;
  }
  if (fits) {
    Py_BEGIN_ALLOW_THREADS;
    (is_double ? multiply_add_f64 : multiply_add_f32)(views[X].buf, views[Y].buf, views[Z].buf, views[OUT].buf, steps,
                                                      n);
    Py_END_ALLOW_THREADS;
  }
  release(views);
  if (!fits)
    return PyErr_Format(PyExc_ValueError, "[multiply_add] operands have other sizes than the result. Pass one element "
                                          "or as many.");
  Py_RETURN_NONE;
}

PyObject *fb_matrix_product(PyObject *module, PyObject *arguments) {
  (void)module;
  Py_buffer views[MOST] = {{0}};
  Py_ssize_t batch, m, k, n;
  int is_double;
  if (!PyArg_ParseTuple(arguments, "y*y*w*nnnnp", &views[X], &views[Y], &views[OUT], &batch, &m, &k, &n, &is_double))
    return NULL;
  Py_ssize_t bytes = is_double ? sizeof(double) : sizeof(float);
  bool fits = views[X].len == batch * m * k * bytes && views[Y].len == batch * k * n * bytes &&
              views[OUT].len == batch * m * n * bytes;
  bool had_memory = true;
  if (fits && views[OUT].len > 0) {
    Py_BEGIN_ALLOW_THREADS;
    had_memory = (is_double ? products_f64 : products_f32)(views[X].buf, views[Y].buf, views[OUT].buf, batch, m, k, n);
    Py_END_ALLOW_THREADS;
  }
  release(views);
  if (!fits)
    return PyErr_Format(PyExc_ValueError,
                        "[matrix_product] buffers have other sizes than %zd x (%zd x %zd x %zd). Pass "
                        "row-major matrices.",
                        batch, m, k, n);
  if (!had_memory)
    return PyErr_NoMemory();
  Py_RETURN_NONE;
}
