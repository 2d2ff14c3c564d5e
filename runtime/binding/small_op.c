/* The Python type SmallOp: an op on operands of given types, done in C by what its plan would do, but small and never
 * compiled. compiler/baseline/small_ops.py makes them. Next: small_op_kinds.c. */
#include "small_op.h"

#include <string.h>

static PyTypeObject *small_op_type;

static fb_small_op *op_new(void) { return (fb_small_op *)small_op_type->tp_alloc(small_op_type, 0); }

static void op_dealloc(PyObject *self) {
  fb_small_op *op = (fb_small_op *)self;
  PyTypeObject *type = Py_TYPE(self);
  Py_XDECREF(op->code);
  Py_XDECREF(op->values);
  type->tp_free(self);
  Py_DECREF(type);
}

/* ---- running ---------------------------------------------------------------------------------------------- */

static void make_nans_one(char *at, int64_t n, int bytes) {
  const uint32_t nan_f32 = 0x7fc00000;
  const uint64_t nan_f64 = 0x7ff8000000000000;
  for (int64_t i = 0; i < n; i++, at += bytes)
    if (bytes == 4) {
      float x;
      memcpy(&x, at, sizeof x);
      if (x != x)
        memcpy(at, &nan_f32, sizeof nan_f32);
    } else {
      double x;
      memcpy(&x, at, sizeof x);
      if (x != x)
        memcpy(at, &nan_f64, sizeof nan_f64);
    }
}

fb_buffer *fb_small_run(const fb_small_op *op, const char *const *operands) {
  fb_buffer *buffer;
  fb_status status = fb_buffer_alloc(op->out_bytes, &buffer);
  if (status != FB_OK) {
    fb_raise(status, 0);
    return NULL;
  }
  char *out = fb_buffer_data(buffer);
  if (op->n > 0 && !op->run(op, operands, out)) {
    fb_buffer_release(buffer);
    return PyErr_NoMemory(), NULL;
  }
  if (op->nan_bytes > 0)
    make_nans_one(out, op->n, op->nan_bytes);
  return buffer;
}

static PyObject *op_run(PyObject *self, PyObject *args) {
  fb_small_op *op = (fb_small_op *)self;
  Py_buffer views[FB_SMALL_OPERANDS] = {{0}};
  const char *operands[FB_SMALL_OPERANDS];
  int32_t n = 0;
  bool fits = PyTuple_GET_SIZE(args) == op->n_operands;
  for (; fits && n < op->n_operands; n++) {
    if (PyObject_GetBuffer(PyTuple_GET_ITEM(args, n), &views[n], PyBUF_SIMPLE) < 0)
      break;
    operands[n] = views[n].buf;
    fits = (size_t)views[n].len >= op->bytes[n];
  }
  fb_buffer *buffer = fits && !PyErr_Occurred() ? fb_small_run(op, operands) : NULL;
  for (int32_t i = 0; i < n; i++)
    PyBuffer_Release(&views[i]);
  if (buffer == NULL && !PyErr_Occurred())
    PyErr_SetString(PyExc_ValueError, "[small op] operands are not those of the op. Pass whole arrays of its types.");
  return buffer == NULL ? NULL : fb_buffer_object(buffer, 0);
}

/* ---- making ----------------------------------------------------------------------------------------------- */

static PyObject *checked(fb_small_op *op, bool is_right) {
  if (is_right && !PyErr_Occurred())
    return (PyObject *)op;
  if (!PyErr_Occurred())
    PyErr_SetString(PyExc_ValueError, "[small op] the parts of the op make no sense together.");
  Py_XDECREF(op);
  return NULL;
}

static bool is_size(Py_ssize_t size) { return size == 1 || size == 2 || size == 4 || size == 8 || size == 16; }

static void hold_body(fb_small_op *op, PyObject *code, PyObject *constants, int n_values) {
  op->code = PyTuple_Pack(2, code, constants);
  op->body = (fb_body){.steps = (const fb_body_step *)(const void *)PyBytes_AS_STRING(code),
                       .constants = PyBytes_AS_STRING(constants),
                       .n_steps = (int32_t)(PyBytes_GET_SIZE(code) / (Py_ssize_t)sizeof(fb_body_step)),
                       .n_constants = (int32_t)(PyBytes_GET_SIZE(constants) / FB_BODY_UNIT),
                       .n_operands = op->n_operands,
                       .n_values = n_values};
}

/* Whether NaNs of elements of `size` bytes can be made one, or need not be. */
static bool are_nans_right(int nan_bytes, Py_ssize_t size) {
  return nan_bytes == 0 || (nan_bytes == size && (size == 4 || size == 8));
}

static PyObject *make_elementwise(PyObject *type, PyObject *args) {
  (void)type;
  PyObject *code, *constants, *sizes;
  int n_values, nan_bytes;
  Py_ssize_t size, n;
  if (!PyArg_ParseTuple(args, "SSiO!nni:elementwise", &code, &constants, &n_values, &PyTuple_Type, &sizes, &size, &n,
                        &nan_bytes))
    return NULL;
  fb_small_op *op = op_new();
  if (op == NULL)
    return NULL;
  bool fits = PyTuple_GET_SIZE(sizes) <= FB_SMALL_OPERANDS && is_size(size) && size <= FB_BODY_UNIT && n >= 0 &&
              are_nans_right(nan_bytes, size);
  for (Py_ssize_t k = 0; fits && k < PyTuple_GET_SIZE(sizes); k++) {
    op->sizes[k] = PyLong_AsSize_t(PyTuple_GET_ITEM(sizes, k));
    fits = !PyErr_Occurred() && is_size((Py_ssize_t)op->sizes[k]) && op->sizes[k] <= FB_BODY_UNIT;
    op->bytes[k] = op->sizes[k] * (size_t)n;
    op->n_operands++;
  }
  op->run = fb_small_elementwise;
  op->n = n;
  op->size = (size_t)size;
  op->out_bytes = (size_t)(n * size);
  op->nan_bytes = nan_bytes;
  hold_body(op, code, constants, n_values);
  return checked(op, fits && fb_body_is_sound(&op->body));
}

/* Reads (extents, strides in elements) and widens [least, most], which bound where the elements are. */
static bool read_walk(PyObject *given, fb_walk *walk, Py_ssize_t size, int64_t *least, int64_t *most) {
  PyObject *extents, *strides;
  if (!PyArg_ParseTuple(given, "O!O!;a walk is (extents, strides)", &PyTuple_Type, &extents, &PyTuple_Type, &strides))
    return false;
  Py_ssize_t n = PyTuple_GET_SIZE(extents);
  if (n > FB_SMALL_DIMS || n != PyTuple_GET_SIZE(strides))
    return false;
  walk->n_dims = (int32_t)n;
  for (Py_ssize_t d = 0; d < n; d++) {
    int64_t extent = PyLong_AsLongLong(PyTuple_GET_ITEM(extents, d));
    int64_t stride = PyLong_AsLongLong(PyTuple_GET_ITEM(strides, d));
    if (PyErr_Occurred() || extent < 0 || extent > INT32_MAX || stride > INT32_MAX || stride < -INT32_MAX)
      return false;
    walk->extents[d] = extent;
    walk->strides[d] = stride * size;
    *(stride < 0 ? least : most) += (extent - 1) * stride;
  }
  return true;
}

static PyObject *make_moved(PyObject *type, PyObject *args) {
  (void)type;
  Py_ssize_t size, n_given, offset;
  PyObject *walk;
  if (!PyArg_ParseTuple(args, "nnOn:moved", &size, &n_given, &walk, &offset))
    return NULL;
  fb_small_op *op = op_new();
  if (op == NULL)
    return NULL;
  int64_t least = offset, most = offset;
  bool fits = is_size(size) && n_given >= 0 && read_walk(walk, &op->kept, size, &least, &most);
  op->run = fb_small_moved;
  op->n_operands = 1;
  op->n = fits ? fb_walk_size(&op->kept) : 0;
  op->size = (size_t)size;
  op->bytes[0] = (size_t)(n_given * size);
  op->out_bytes = (size_t)(op->n * size);
  op->offset = offset * size;
  return checked(op, fits && (op->n == 0 || (least >= 0 && most < n_given)));
}

static PyObject *make_constant(PyObject *type, PyObject *args) {
  (void)type;
  PyObject *values;
  if (!PyArg_ParseTuple(args, "S:constant", &values))
    return NULL;
  fb_small_op *op = op_new();
  if (op == NULL)
    return NULL;
  op->run = fb_small_constant;
  op->values = Py_NewRef(values);
  op->n = (int64_t)(op->out_bytes = (size_t)PyBytes_GET_SIZE(values));
  return checked(op, true);
}

static PyObject *make_folded(PyObject *type, PyObject *args) {
  (void)type;
  PyObject *code, *constants, *identity, *kept, *folded;
  int n_values, is_inner, nan_bytes;
  Py_ssize_t n_given;
  if (!PyArg_ParseTuple(args, "SSiSnOOpi:folded", &code, &constants, &n_values, &identity, &n_given, &kept, &folded,
                        &is_inner, &nan_bytes))
    return NULL;
  fb_small_op *op = op_new();
  if (op == NULL)
    return NULL;
  Py_ssize_t size = PyBytes_GET_SIZE(identity);
  int64_t least = 0, most = 0;
  bool fits = is_size(size) && size <= FB_BODY_UNIT && read_walk(kept, &op->kept, size, &least, &most) &&
              read_walk(folded, &op->folded, size, &least, &most) && are_nans_right(nan_bytes, size);
  int64_t n_read = fits ? fb_walk_size(&op->kept) * fb_walk_size(&op->folded) : 0;
  op->run = is_inner ? fb_small_folded_inner : fb_small_folded_outer;
  op->n_operands = 2; /* of the body */
  op->n = fits ? fb_walk_size(&op->kept) : 0;
  op->size = (size_t)size;
  op->bytes[0] = (size_t)(n_given * size);
  op->out_bytes = (size_t)(op->n * size);
  op->nan_bytes = nan_bytes;
  op->values = Py_NewRef(identity);
  hold_body(op, code, constants, n_values);
  op->n_operands = 1;
  return checked(op, fits && n_given >= 0 && (n_read == 0 || (least >= 0 && most < n_given)) &&
                         fb_body_is_sound(&op->body));
}

static PyObject *make_product(PyObject *type, PyObject *args) {
  (void)type;
  Py_ssize_t batch, m, k, columns;
  int size, nan_bytes;
  if (!PyArg_ParseTuple(args, "nnnnii:product", &batch, &m, &k, &columns, &size, &nan_bytes))
    return NULL;
  fb_small_op *op = op_new();
  if (op == NULL)
    return NULL;
  bool fits =
      batch >= 0 && m >= 0 && k >= 0 && columns >= 0 && (size == 4 || size == 8) && are_nans_right(nan_bytes, size);
  size_t bytes = (size_t)size;
  op->run = fb_small_product;
  op->n_operands = 2;
  op->n = batch * m * columns;
  op->size = bytes;
  op->bytes[0] = (size_t)(batch * m * k) * bytes;
  op->bytes[1] = (size_t)(batch * k * columns) * bytes;
  op->out_bytes = (size_t)op->n * bytes;
  op->nan_bytes = nan_bytes;
  op->batch = batch, op->m = m, op->k = k, op->columns = columns;
  return checked(op, fits);
}

static PyMethodDef methods[] = {
    {"run", op_run, METH_VARARGS, PyDoc_STR("run(*operands)\n--\n\nThe result as a Buffer.")},
    {"elementwise", make_elementwise, METH_VARARGS | METH_STATIC,
     PyDoc_STR("elementwise(steps, constants, n_values, sizes, size, n, nan_bytes)\n--\n\nA body as of `run_body` on n "
               "elements; bytes of an element of each operand, and of the result.\n`nan_bytes`: its size where its "
               "NaNs are to be the canonical one, else 0.")},
    {"moved", make_moved, METH_VARARGS | METH_STATIC,
     PyDoc_STR(
         "moved(size, n, (extents, strides), offset)\n--\n\nElements of so many bytes of an operand of n: strides "
         "and the place of the first are in elements.")},
    {"constant", make_constant, METH_VARARGS | METH_STATIC, PyDoc_STR("constant(values)\n--\n\nThese bytes.")},
    {"folded", make_folded, METH_VARARGS | METH_STATIC,
     PyDoc_STR("folded(steps, constants, n_values, identity, n, kept, folded, is_inner, nan_bytes)\n--\n\nA fold of an "
               "operand of n elements by a body of two, in the order of reductions; `kept` and `folded` are "
               "(extents, strides) of\nthe axes that stay and that go.")},
    {"product", make_product, METH_VARARGS | METH_STATIC,
     PyDoc_STR("product(batch, m, k, n, size, nan_bytes)\n--\n\nThe products of matrices as by `matrix_product`.")},
    {0},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("An op on small operands of given types, done in C.")},
    {Py_tp_dealloc, op_dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "flambeau.runtime._binding.SmallOp",
    .basicsize = sizeof(fb_small_op),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

bool fb_is_small_op(PyObject *object) { return Py_IS_TYPE(object, small_op_type); }

int fb_small_init(PyObject *module) {
  small_op_type = (PyTypeObject *)PyType_FromSpec(&spec);
  return small_op_type == NULL ? -1 : PyModule_AddType(module, small_op_type);
}
