/* Fourier transforms: kernels of plans (`fb_kernel`) that hand lines to NumPy's pocketfft, whose loops Python hands
 * over.
 *
 * A kernel needs neither Python nor its lock: a loop of a NumPy ufunc on numbers runs without. Lines of a parallel loop
 * are transformed one by one as all at once, so bits do not depend on who takes which.
 */
#include "binding.h"

#include <math.h>
#include <string.h>

typedef void loop(char **args, const Py_ssize_t *dimensions, const Py_ssize_t *steps, void *data);

enum { FORWARD, BACKWARD, REAL_EVEN, REAL_ODD, TO_REAL, KINDS };

/* By kind and type (float, double). `fb_kernel`s read it only after `fb_fourier_kernels` has filled it in. */
static struct {
  loop *run;
  void *data;
} loops[KINDS][2];

/* Lines lo to hi of bufs[0], of `from` numbers of `in` bytes, to lines of bufs[1], of `to` numbers of `out` bytes. */
static void transform(int kind, int type, void *const *bufs, int64_t from, int64_t in, int64_t to, int64_t out,
                      int64_t lo, int64_t hi) {
  if (to == 0 || lo >= hi)
    return;
  float one_float = 1;
  double one_double = 1;
  char *factor = type ? (char *)&one_double : (char *)&one_float;
  for (int64_t i = lo; i < hi; i++) {
    char *args[] = {(char *)bufs[0] + i * from * in, factor, (char *)bufs[1] + i * to * out};
    Py_ssize_t dimensions[] = {1, (Py_ssize_t)from, (Py_ssize_t)to};
    Py_ssize_t steps[] = {(Py_ssize_t)(from * in), 0, (Py_ssize_t)(to * out), (Py_ssize_t)in, (Py_ssize_t)out};
    loops[kind][type].run(args, dimensions, steps, loops[kind][type].data);
  }
}

/* NaNs of results are the canonical one. */
static void one_nan_f32(void *buffer, int64_t start, int64_t end) {
  float *a = buffer;
  for (int64_t i = start; i < end; i++)
    a[i] = a[i] == a[i] ? a[i] : NAN;
}

static void one_nan_f64(void *buffer, int64_t start, int64_t end) {
  double *a = buffer;
  for (int64_t i = start; i < end; i++)
    a[i] = a[i] == a[i] ? a[i] : (double)NAN;
}

/* bufs: x, y; dims: numbers of a line of x, length of the transform */
#define KERNELS(suffix, type, size)                                                                                    \
  static void forward_##suffix(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {        \
    (void)scratch;                                                                                                     \
    transform(FORWARD, type, bufs, dims[0], 2 * size, dims[1], 2 * size, lo, hi);                                      \
    one_nan_##suffix(bufs[1], 2 * dims[1] * lo, 2 * dims[1] * hi);                                                     \
  }                                                                                                                    \
  static void backward_##suffix(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {       \
    (void)scratch;                                                                                                     \
    transform(BACKWARD, type, bufs, dims[0], 2 * size, dims[1], 2 * size, lo, hi);                                     \
    one_nan_##suffix(bufs[1], 2 * dims[1] * lo, 2 * dims[1] * hi);                                                     \
  }                                                                                                                    \
  static void real_##suffix(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {           \
    int64_t half = dims[1] / 2 + 1;                                                                                    \
    (void)scratch;                                                                                                     \
    transform(dims[1] % 2 ? REAL_ODD : REAL_EVEN, type, bufs, dims[0], size, half, 2 * size, lo, hi);                  \
    one_nan_##suffix(bufs[1], 2 * half * lo, 2 * half * hi);                                                           \
  }                                                                                                                    \
  static void to_real_##suffix(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {        \
    (void)scratch;                                                                                                     \
    transform(TO_REAL, type, bufs, dims[0], 2 * size, dims[1], size, lo, hi);                                          \
    one_nan_##suffix(bufs[1], dims[1] * lo, dims[1] * hi);                                                             \
  }
KERNELS(f32, 0, 4)
KERNELS(f64, 1, 8)

static const fb_host_kernel kernels[] = {
#define ENTRY(name)                                                                                                    \
  {                                                                                                                    \
    #name, { name##_f32, name##_f64 }                                                                                  \
  }
    ENTRY(forward),
    ENTRY(backward),
    ENTRY(real),
    ENTRY(to_real),
};

/* Takes the loops: for each kind, for float and for double, the addresses of a function and of its data. */
static bool take(PyObject *found) {
  for (int kind = 0; kind < KINDS; kind++)
    for (int type = 0; type < 2; type++) {
      PyObject *run, *data;
      if (!PyArg_ParseTuple(PyTuple_GET_ITEM(found, 2 * kind + type), "OO", &run, &data))
        return false;
      void *function = PyLong_AsVoidPtr(run);
      memcpy(&loops[kind][type].run, &function, sizeof function);
      loops[kind][type].data = PyLong_AsVoidPtr(data);
      if (PyErr_Occurred())
        return false;
    }
  return true;
}

PyObject *fb_fourier_kernels(PyObject *module, PyObject *found) {
  (void)module;
  if (!PyTuple_Check(found) || PyTuple_GET_SIZE(found) != 2 * KINDS) {
    PyErr_SetString(PyExc_TypeError, "[fourier] pass a tuple of ten pairs of addresses.");
    return NULL;
  }
  return take(found) ? fb_host_kernels(kernels, sizeof kernels / sizeof *kernels) : NULL;
}
