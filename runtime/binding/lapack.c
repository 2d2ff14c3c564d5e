/* Linear algebra: kernels of plans (`fb_kernel`) that loop over a batch and call LAPACK, which Python hands over.
 *
 * A kernel needs neither Python nor its lock. LAPACK's own threads are asked to stay out meanwhile, so that the bits of
 * a result do not depend on how many there are.
 */
#include "binding.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

/* Lowers the status word to the code and the position of a failure. */
static void failed(void *status, int64_t code, int64_t position) {
  _Atomic(int64_t) *word = (_Atomic(int64_t) *)status;
  int64_t mine = code << 48 | position, found = atomic_load(word);
  while (mine < found && !atomic_compare_exchange_weak(word, &found, mine))
    ;
}

#define IS_COMPLEX 0
#define REAL float
#define NUMBER float
#define OF(name) f32_##name
#include "lapack_kernels.h"
#undef REAL
#undef NUMBER
#undef OF
#define REAL double
#define NUMBER double
#define OF(name) f64_##name
#include "lapack_kernels.h"
#undef REAL
#undef NUMBER
#undef OF
#undef IS_COMPLEX
#define IS_COMPLEX 1
#define REAL float
#define NUMBER float _Complex
#define OF(name) c64_##name
#include "lapack_kernels.h"
#undef REAL
#undef NUMBER
#undef OF
#define REAL double
#define NUMBER double _Complex
#define OF(name) c128_##name
#include "lapack_kernels.h"
#undef REAL
#undef NUMBER
#undef OF
#undef IS_COMPLEX

/* ---- LAPACK's threads ----------------------------------------------------------------------------------- */

static struct {
  int (*get)(void);
  void (*set)(int);
  pthread_mutex_t lock;
  int running, before;
} threads = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void begin(void) {
  if (threads.set == NULL)
    return;
  pthread_mutex_lock(&threads.lock);
  if (threads.running++ == 0 && (threads.before = threads.get()) > 1)
    threads.set(1);
  pthread_mutex_unlock(&threads.lock);
}

static void end(void) {
  if (threads.set == NULL)
    return;
  pthread_mutex_lock(&threads.lock);
  if (--threads.running == 0 && threads.before > 1)
    threads.set(threads.before);
  pthread_mutex_unlock(&threads.lock);
}

/* In a forked child no other thread runs, nor will one let go of the lock. */
static void after_fork(void) {
  pthread_mutex_init(&threads.lock, NULL);
  threads.running = 0;
}

/* ---- kernels -------------------------------------------------------------------------------------------- */

#define KERNEL_OF(name, type)                                                                                          \
  static void name##_##type(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {           \
    begin();                                                                                                           \
    type##_##name(bufs, dims, lo, hi, scratch);                                                                        \
    end();                                                                                                             \
  }
#define KERNEL(name) KERNEL_OF(name, f32) KERNEL_OF(name, f64) KERNEL_OF(name, c64) KERNEL_OF(name, c128)
KERNEL(cholesky)
KERNEL(lu)
KERNEL(ldl)
KERNEL(solve_factored)
KERNEL(triangular_solve)
KERNEL(ldl_solve)
KERNEL(qr)
KERNEL(geqrf)
KERNEL(eigh)
KERNEL(eig)
KERNEL(svd)
KERNEL(pseudo_inverse)

/* bufs: pivots, order; dims: how many, rows */
static void row_order(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch) {
  int64_t k = dims[0], rows = dims[1];
  (void)scratch;
  for (int64_t i = lo; i < hi && rows > 0; i++) {
    const int32_t *pivots = (const int32_t *)bufs[0] + i * k;
    int64_t *order = (int64_t *)bufs[1] + i * rows;
    for (int64_t r = 0; r < rows; r++)
      order[r] = r;
    for (int64_t j = 0; j < k; j++) {
      int64_t at = pivots[j] - INT64_C(1);
      if (at < 0 || at >= rows || j >= rows) /* of no factorisation */
        continue;
      int64_t kept = order[j];
      order[j] = order[at];
      order[at] = kept;
    }
  }
}

static const fb_host_kernel kernels[] = {
#define ENTRY(name)                                                                                                    \
  {                                                                                                                    \
    #name, { name##_f32, name##_f64, name##_c64, name##_c128 }                                                         \
  }
    ENTRY(cholesky),
    ENTRY(lu),
    ENTRY(ldl),
    ENTRY(solve_factored),
    ENTRY(triangular_solve),
    ENTRY(ldl_solve),
    ENTRY(qr),
    ENTRY(geqrf),
    ENTRY(eigh),
    ENTRY(eig),
    ENTRY(svd),
    ENTRY(pseudo_inverse),
    {"row_order", {row_order, row_order}},
};

/* ---- from Python ---------------------------------------------------------------------------------------- */

/* The routine of that name among capsules; false and an exception where it is not there. */
static bool take(PyObject *routines, const char *name, void *place) {
  PyObject *capsule = PyDict_GetItemString(routines, name);
  if (capsule == NULL || !PyCapsule_CheckExact(capsule)) {
    PyErr_Format(PyExc_RuntimeError, "[lapack] there is no routine %s. Reinstall SciPy.", name);
    return false;
  }
  void *address = PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule));
  memcpy(place, &address, sizeof address);
  return address != NULL;
}

static bool take_all(PyObject *routines) {
#define TAKE(place, real, complex)                                                                                     \
  (take(routines, "s" real, &f32_lapack.place) && take(routines, "d" real, &f64_lapack.place) &&                       \
   take(routines, "c" complex, &c64_lapack.place) && take(routines, "z" complex, &c128_lapack.place))
#define ALIKE(name) TAKE(name, #name, #name)
  return ALIKE(potrf) && ALIKE(getrf) && ALIKE(geqrf) && TAKE(orgqr, "orgqr", "ungqr") &&
         TAKE(syevd, "syevd", "heevd") && ALIKE(gesdd) && ALIKE(geev) && ALIKE(sytrf) && ALIKE(sytrs) &&
         TAKE(hetrf, "sytrf", "hetrf") && TAKE(hetrs, "sytrs", "hetrs") && ALIKE(trsv) && ALIKE(trsm);
}

static void *address_of(PyObject *number) { return number == Py_None ? NULL : PyLong_AsVoidPtr(number); }

PyObject *fb_lapack_kernels(PyObject *module, PyObject *arguments) {
  (void)module;
  PyObject *routines, *get, *set;
  if (!PyArg_ParseTuple(arguments, "O!OO:lapack_kernels", &PyDict_Type, &routines, &get, &set) || !take_all(routines))
    return NULL;
  void *get_threads = address_of(get), *set_threads = address_of(set);
  if (PyErr_Occurred())
    return NULL;
  static bool told;
  if (!told && pthread_atfork(NULL, NULL, after_fork) == 0)
    told = true;
  memcpy(&threads.get, &get_threads, sizeof get_threads);
  memcpy(&threads.set, &set_threads, sizeof set_threads);
  return fb_host_kernels(kernels, sizeof kernels / sizeof *kernels);
}
