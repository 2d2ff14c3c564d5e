/* Bodies of elementwise kernels, run op by op on a block of elements at a time. Python calls this while a kernel is
 * still to be compiled: each op does to the bit what compiled code does. compiler/baseline/c_bodies.py writes the
 * steps.
 */
#include "body.h"
#include "fused.h"

#include <stdbool.h>
#include <string.h>
#include <tgmath.h>

enum { BLOCK = FB_BODY_BLOCK, UNIT = FB_BODY_UNIT, FEW_BYTES = 1 << 14 };

/* OP(name, spelled, type of x, type of y and z, type of the result, expression) */
#define REAL_OPS(OP, S, R)                                                                                             \
  OP(addf_##S, "arith.addf " #S, R, R, R, x + y)                                                                       \
  OP(subf_##S, "arith.subf " #S, R, R, R, x - y)                                                                       \
  OP(mulf_##S, "arith.mulf " #S, R, R, R, x *y)                                                                        \
  OP(divf_##S, "arith.divf " #S, R, R, R, x / y)                                                                       \
  OP(negf_##S, "arith.negf " #S, R, R, R, -x)                                                                          \
  OP(absf_##S, "math.absf " #S, R, R, R, fabs(x))                                                                      \
  OP(sqrt_##S, "math.sqrt " #S, R, R, R, sqrt(x))                                                                      \
  OP(floor_##S, "math.floor " #S, R, R, R, floor(x))                                                                   \
  OP(ceil_##S, "math.ceil " #S, R, R, R, ceil(x))                                                                      \
  OP(trunc_##S, "math.trunc " #S, R, R, R, trunc(x))                                                                   \
  OP(roundeven_##S, "math.roundeven " #S, R, R, R, rint(x))                                                            \
  OP(copysign_##S, "math.copysign " #S, R, R, R, copysign(x, y))                                                       \
  OP(maximumf_##S, "arith.maximumf " #S, R, R, R, isnan(x) || (x == y ? !signbit(x) : x > y) ? x : y)                  \
  OP(minimumf_##S, "arith.minimumf " #S, R, R, R, isnan(x) || (x == y ? signbit(x) : x < y) ? x : y)                   \
  OP(fma_##S, "math.fma " #S, R, R, R, fma(x, y, z))                                                                   \
  OP(oeq_##S, "arith.cmpf oeq " #S, R, R, bool, x == y)                                                                \
  OP(une_##S, "arith.cmpf une " #S, R, R, bool, x != y)                                                                \
  OP(olt_##S, "arith.cmpf olt " #S, R, R, bool, x < y)                                                                 \
  OP(ole_##S, "arith.cmpf ole " #S, R, R, bool, x <= y)                                                                \
  OP(ogt_##S, "arith.cmpf ogt " #S, R, R, bool, x > y)                                                                 \
  OP(oge_##S, "arith.cmpf oge " #S, R, R, bool, x >= y)

/* A shift is by less than there are bits, as in MLIR; another one gives any number here, too. */
#define INTEGER_OPS(OP, S, I, U)                                                                                       \
  OP(addi_##S, "arith.addi " #S, U, U, U, x + y)                                                                       \
  OP(subi_##S, "arith.subi " #S, U, U, U, x - y)                                                                       \
  OP(muli_##S, "arith.muli " #S, U, U, U, x *y)                                                                        \
  OP(divui_##S, "arith.divui " #S, U, U, U, y == 0 ? 0 : x / y)                                                        \
  OP(shli_##S, "arith.shli " #S, U, U, U, x << (y & (8 * sizeof x - 1)))                                               \
  OP(shrui_##S, "arith.shrui " #S, U, U, U, x >> (y & (8 * sizeof x - 1)))                                             \
  OP(shrsi_##S, "arith.shrsi " #S, I, I, I, x >> (y & (I)(8 * sizeof x - 1)))                                          \
  OP(maxsi_##S, "arith.maxsi " #S, I, I, I, x > y ? x : y)                                                             \
  OP(minsi_##S, "arith.minsi " #S, I, I, I, x < y ? x : y)                                                             \
  OP(slt_##S, "arith.cmpi slt " #S, I, I, bool, x < y)                                                                 \
  OP(sle_##S, "arith.cmpi sle " #S, I, I, bool, x <= y)                                                                \
  OP(sgt_##S, "arith.cmpi sgt " #S, I, I, bool, x > y)                                                                 \
  OP(sge_##S, "arith.cmpi sge " #S, I, I, bool, x >= y)

#define BIT_OPS(OP, S, I)                                                                                              \
  OP(andi_##S, "arith.andi " #S, I, I, I, (I)(x & y))                                                                  \
  OP(ori_##S, "arith.ori " #S, I, I, I, (I)(x | y))                                                                    \
  OP(xori_##S, "arith.xori " #S, I, I, I, (I)(x ^ y))                                                                  \
  OP(eq_##S, "arith.cmpi eq " #S, I, I, bool, x == y)                                                                  \
  OP(ne_##S, "arith.cmpi ne " #S, I, I, bool, x != y)

#define SELECT_OP(OP, S, T) OP(select_##S, "arith.select " #S, bool, T, T, x ? y : z)

#define CONVERSIONS(OP)                                                                                                \
  OP(extf, "arith.extf f32 f64", float, float, double, x)                                                              \
  OP(truncf, "arith.truncf f64 f32", double, double, float, (float)x)                                                  \
  OP(sitofp_i32_f32, "arith.sitofp i32 f32", int32_t, int32_t, float, (float)x)                                        \
  OP(sitofp_i32_f64, "arith.sitofp i32 f64", int32_t, int32_t, double, x)                                              \
  OP(sitofp_i64_f32, "arith.sitofp i64 f32", int64_t, int64_t, float, (float)x)                                        \
  OP(sitofp_i64_f64, "arith.sitofp i64 f64", int64_t, int64_t, double, (double)x)                                      \
  OP(uitofp_f32, "arith.uitofp i1 f32", bool, bool, float, x)                                                          \
  OP(uitofp_f64, "arith.uitofp i1 f64", bool, bool, double, x)                                                         \
  OP(trunci, "arith.trunci i64 i32", int64_t, int64_t, int32_t, (int32_t)x)                                            \
  OP(extsi, "arith.extsi i32 i64", int32_t, int32_t, int64_t, x)                                                       \
  OP(index_i32, "arith.index_cast i32 index", int32_t, int32_t, int64_t, x)                                            \
  OP(index_i64, "arith.index_cast i64 index", int64_t, int64_t, int64_t, x)                                            \
  OP(bits_f32, "arith.bitcast f32 i32", int32_t, int32_t, int32_t, x)                                                  \
  OP(bits_f64, "arith.bitcast f64 i64", int64_t, int64_t, int64_t, x)                                                  \
  OP(float_i32, "arith.bitcast i32 f32", int32_t, int32_t, int32_t, x)                                                 \
  OP(float_i64, "arith.bitcast i64 f64", int64_t, int64_t, int64_t, x)

/* Of one number of `constants`; of a table there, which is how many numbers it has and the numbers. */
#define CONSTANT_OPS(CONSTANT, TABLE)                                                                                  \
  CONSTANT(constant_i1, "arith.constant i1", bool)                                                                     \
  CONSTANT(constant_i32, "arith.constant i32", int32_t)                                                                \
  CONSTANT(constant_i64, "arith.constant i64", int64_t)                                                                \
  CONSTANT(constant_index, "arith.constant index", int64_t)                                                            \
  CONSTANT(constant_f32, "arith.constant f32", float)                                                                  \
  CONSTANT(constant_f64, "arith.constant f64", double)                                                                 \
  TABLE(extract_f32, "tensor.extract f32", float)                                                                      \
  TABLE(extract_f64, "tensor.extract f64", double)                                                                     \
  TABLE(extract_i64, "tensor.extract i64", int64_t)

#define OPS(OP)                                                                                                        \
  REAL_OPS(OP, f32, float)                                                                                             \
  REAL_OPS(OP, f64, double)                                                                                            \
  INTEGER_OPS(OP, i32, int32_t, uint32_t)                                                                              \
  INTEGER_OPS(OP, i64, int64_t, uint64_t)                                                                              \
  BIT_OPS(OP, i1, bool)                                                                                                \
  BIT_OPS(OP, i32, int32_t)                                                                                            \
  BIT_OPS(OP, i64, int64_t)                                                                                            \
  SELECT_OP(OP, i1, bool)                                                                                              \
  SELECT_OP(OP, i32, int32_t)                                                                                          \
  SELECT_OP(OP, i64, int64_t)                                                                                          \
  SELECT_OP(OP, f32, float)                                                                                            \
  SELECT_OP(OP, f64, double)                                                                                           \
  CONVERSIONS(OP)

#define PLACE(name, ...) PLACE_##name,
#define SPELLED(name, spelled, ...) spelled,
enum { OPS(PLACE) CONSTANT_OPS(PLACE, PLACE) N_OPS };
static const char *const names[] = {OPS(SPELLED) CONSTANT_OPS(SPELLED, SPELLED)};

#define EACH(name, spelled, X, Y, OUT, expression)                                                                     \
  case PLACE_##name:                                                                                                   \
    for (int i = 0; i < n; i++) {                                                                                      \
      X x;                                                                                                             \
      Y y, z;                                                                                                          \
      memcpy(&x, given[0] + (size_t)i * sizeof x, sizeof x);                                                           \
      memcpy(&y, given[1] + (size_t)i * sizeof y, sizeof y);                                                           \
      memcpy(&z, given[2] + (size_t)i * sizeof z, sizeof z);                                                           \
      (void)y, (void)z;                                                                                                \
      OUT result = expression;                                                                                         \
      memcpy(out + (size_t)i * sizeof result, &result, sizeof result);                                                 \
    }                                                                                                                  \
    break;
#define FILL(name, spelled, T)                                                                                         \
  case PLACE_##name:                                                                                                   \
    for (int i = 0; i < n; i++)                                                                                        \
      memcpy(out + (size_t)i * sizeof(T), given[0], sizeof(T));                                                        \
    break;
#define LOOK_UP(name, spelled, T)                                                                                      \
  case PLACE_##name:                                                                                                   \
    for (int i = 0; i < n; i++) {                                                                                      \
      int64_t length, place;                                                                                           \
      memcpy(&length, given[0], sizeof length);                                                                        \
      memcpy(&place, given[1] + (size_t)i * sizeof place, sizeof place);                                               \
      place = place < 0 || place >= length ? 0 : place;                                                                \
      memcpy(out + (size_t)i * sizeof(T), given[0] + UNIT + (size_t)place * sizeof(T), sizeof(T));                     \
    }                                                                                                                  \
    break;

/* All steps on n <= BLOCK elements. `at` is where the values are. */
FUSED static void run_block(const fb_body_step *steps, Py_ssize_t n_steps, char **at, int n) {
  for (const fb_body_step *step = steps; step < steps + n_steps; step++) {
    const char *given[] = {at[step->operands[0]], at[step->operands[1]], at[step->operands[2]]};
    char *out = at[step->result];
    switch (step->op) { OPS(EACH) CONSTANT_OPS(FILL, LOOK_UP) }
  }
}

bool fb_body_is_sound(const fb_body *body) {
  int64_t n_all = body->n_values + body->n_constants;
  for (const fb_body_step *step = body->steps; step < body->steps + body->n_steps; step++) {
    bool fits = step->op >= 0 && step->op < N_OPS && step->result >= body->n_operands && step->result < body->n_values;
    for (int k = 0; k < 3; k++)
      fits = fits && step->operands[k] >= 0 && step->operands[k] < n_all;
    if (!fits)
      return false;
  }
  return body->n_steps > 0 && body->n_operands <= body->n_values;
}

bool fb_body_run(const fb_body *body, const char *const *operands, const size_t *sizes, char *out, size_t size,
                 int64_t n) {
  size_t width = UNIT * (size_t)(n < BLOCK ? n : BLOCK), n_all = (size_t)(body->n_values + body->n_constants);
  size_t bytes = n_all * sizeof(char *) + (size_t)body->n_values * width;
  int64_t few[FEW_BYTES / sizeof(int64_t)];
  char **at = bytes <= sizeof few ? (char **)few : PyMem_RawMalloc(bytes);
  if (at == NULL)
    return false;
  char *scratch = (char *)(at + n_all);
  for (int32_t v = 0; v < body->n_values; v++)
    at[v] = scratch + (size_t)v * width;
  for (int32_t v = 0; v < body->n_constants; v++)
    at[body->n_values + v] = (char *)body->constants + UNIT * (size_t)v;
  for (int64_t start = 0; start < n; start += BLOCK) {
    for (int32_t k = 0; k < body->n_operands; k++)
      at[k] = (char *)operands[k] + (size_t)start * sizes[k];
    at[body->steps[body->n_steps - 1].result] = out + (size_t)start * size;
    run_block(body->steps, body->n_steps, at, n - start < BLOCK ? (int)(n - start) : BLOCK);
  }
  if (at != (char **)few)
    PyMem_RawFree(at);
  return true;
}

enum { MOST = 4 };

typedef struct {
  Py_buffer steps, constants, out, operands[MOST];
  Py_ssize_t n_operands, n_values, n;
} body_call;

static bool run_call(const body_call *call, const fb_body *body) {
  const char *operands[MOST];
  size_t sizes[MOST];
  for (Py_ssize_t k = 0; k < call->n_operands; k++) {
    operands[k] = call->operands[k].buf;
    sizes[k] = (size_t)(call->operands[k].len / call->n);
  }
  return fb_body_run(body, operands, sizes, call->out.buf, (size_t)(call->out.len / call->n), call->n);
}

static bool fits(const body_call *call, const fb_body *body) {
  bool found = call->n > 0 && call->out.len >= call->n && call->steps.len % (Py_ssize_t)sizeof(fb_body_step) == 0 &&
               call->constants.len % UNIT == 0 && call->out.len % call->n == 0 && call->out.len / call->n <= UNIT;
  for (Py_ssize_t k = 0; found && k < call->n_operands; k++)
    found = call->operands[k].len >= call->n && call->operands[k].len % call->n == 0;
  return found && fb_body_is_sound(body);
}

PyObject *fb_body_ops(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  PyObject *found = PyTuple_New(N_OPS);
  for (int k = 0; found != NULL && k < N_OPS; k++) {
    PyObject *name = PyUnicode_FromString(names[k]);
    if (name == NULL)
      Py_CLEAR(found);
    else
      PyTuple_SET_ITEM(found, k, name);
  }
  return found;
}

PyObject *fb_run_body(PyObject *module, PyObject *arguments) {
  (void)module;
  body_call call = {0};
  PyObject *operands;
  if (!PyArg_ParseTuple(arguments, "y*y*nO!w*n", &call.steps, &call.constants, &call.n_values, &PyTuple_Type, &operands,
                        &call.out, &call.n))
    return NULL;
  bool has_failed = false, had_memory = true;
  Py_ssize_t n = PyTuple_GET_SIZE(operands);
  while (!has_failed && n <= MOST && call.n_operands < n) {
    PyObject *operand = PyTuple_GET_ITEM(operands, call.n_operands);
    has_failed = PyObject_GetBuffer(operand, &call.operands[call.n_operands], PyBUF_SIMPLE) < 0;
    call.n_operands += !has_failed;
  }
  fb_body body = {.steps = call.steps.buf,
                  .constants = call.constants.buf,
                  .n_steps = (int32_t)(call.steps.len / (Py_ssize_t)sizeof(fb_body_step)),
                  .n_constants = (int32_t)(call.constants.len / UNIT),
                  .n_operands = (int32_t)call.n_operands,
                  .n_values = (int32_t)call.n_values};
  bool is_right = !has_failed && n <= MOST && fits(&call, &body);
  if (is_right) {
    Py_BEGIN_ALLOW_THREADS;
    had_memory = run_call(&call, &body);
    Py_END_ALLOW_THREADS;
  }
  for (Py_ssize_t k = 0; k < call.n_operands; k++)
    PyBuffer_Release(&call.operands[k]);
  PyBuffer_Release(&call.steps);
  PyBuffer_Release(&call.constants);
  PyBuffer_Release(&call.out);
  if (has_failed)
    return NULL;
  if (!is_right)
    return PyErr_Format(PyExc_ValueError,
                        "[run_body] steps or buffers do not fit %zd elements and %zd values. Number "
                        "values in order and pass whole arrays.",
                        call.n, call.n_values);
  return had_memory ? Py_NewRef(Py_None) : PyErr_NoMemory();
}
