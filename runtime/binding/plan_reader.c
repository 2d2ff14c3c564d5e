/* Reads a PlanSpec, plain tuples as plan_spec.py describes them, into an fb_plan_spec. */
#include "plan_reader.h"

#include <string.h>

#define LAUNCH_FIELDS 5 /* of a step that is a launch; see plan_spec.py */

struct fb_plan_array {
  struct fb_plan_array *before;
  max_align_t items[];
};

static void *new_array(fb_plan_reader *r, Py_ssize_t count, size_t size) {
  struct fb_plan_array *array = PyMem_Calloc(1, sizeof *array + ((size_t)count + 1) * size);
  if (array == NULL)
    return PyErr_NoMemory();
  array->before = r->arrays;
  r->arrays = array;
  return array->items;
}

static Py_ssize_t tuple_missing(const char *what) {
  PyErr_Format(PyExc_TypeError, "[plan] %s are missing. Pass them as a tuple.", what);
  return -1;
}

/* The number of items of a tuple, or of any tuple with exactly `length` items; -1 and TypeError otherwise. */
static Py_ssize_t tuple_size(PyObject *object, const char *what, Py_ssize_t length) {
  if (object == NULL)
    return tuple_missing(what);
  if (!PyTuple_Check(object)) {
    PyErr_Format(PyExc_TypeError, "[plan] %s is a %.100s. Pass a tuple.", what, Py_TYPE(object)->tp_name);
    return -1;
  }
  Py_ssize_t size = PyTuple_GET_SIZE(object);
  if (length < 0 ? size <= INT32_MAX : size == length)
    return size;
  PyErr_Format(PyExc_TypeError, "[plan] %s has %zd items. It needs %zd.", what, size, length);
  return -1;
}

static int read_int64(PyObject *object, int64_t *out) {
  *out = PyLong_AsLongLong(object);
  return *out == -1 && PyErr_Occurred() ? -1 : 0;
}

static int read_int32(PyObject *object, int32_t *out) {
  int64_t wide;
  if (read_int64(object, &wide) < 0)
    return -1;
  if (wide < INT32_MIN || wide > INT32_MAX) {
    PyErr_Format(PyExc_OverflowError, "[plan] %lld does not fit 32 bits.", (long long)wide);
    return -1;
  }
  *out = (int32_t)wide;
  return 0;
}

/* Reads a tuple of exactly `count` 32-bit ints. */
static int read_row(PyObject *row, const char *what, int32_t *out, Py_ssize_t count) {
  if (tuple_size(row, what, count) < 0)
    return -1;
  for (Py_ssize_t i = 0; i < count; i++)
    if (read_int32(PyTuple_GET_ITEM(row, i), &out[i]) < 0)
      return -1;
  return 0;
}

/* Reads a tuple of any number of 32-bit ints into an array of their own. */
static int read_numbers(fb_plan_reader *r, PyObject *row, const char *what, int32_t *n, const int32_t **numbers) {
  Py_ssize_t count = tuple_size(row, what, -1);
  int32_t *array = count < 0 ? NULL : new_array(r, count, sizeof *array);
  if (array == NULL)
    return -1;
  *n = (int32_t)count;
  *numbers = array;
  return read_row(row, what, array, count);
}

static int read_outputs(fb_plan_reader *r, PyObject *outputs) {
  Py_ssize_t count = tuple_size(outputs, "outputs", -1);
  fb_output *array = count < 0 ? NULL : new_array(r, count, sizeof *array);
  if (array == NULL)
    return -1;
  r->spec.n_outputs = (int32_t)count;
  r->spec.outputs = array;
  for (Py_ssize_t i = 0; i < count; i++) {
    int32_t row[3];
    if (read_row(PyTuple_GET_ITEM(outputs, i), "an output", row, 3) < 0)
      return -1;
    array[i] = (fb_output){row[0], row[1], row[2]};
  }
  return 0;
}

static int read_guards(fb_plan_reader *r, PyObject *guards) {
  Py_ssize_t count = tuple_size(guards, "guards", -1);
  fb_guard *array = count < 0 ? NULL : new_array(r, count, sizeof *array);
  if (array == NULL)
    return -1;
  r->spec.n_guards = (int32_t)count;
  r->spec.guards = array;
  for (Py_ssize_t i = 0; i < count; i++) {
    int32_t row[2];
    if (read_row(PyTuple_GET_ITEM(guards, i), "a guard", row, 2) < 0)
      return -1;
    array[i] = (fb_guard){row[0], row[1]};
  }
  return 0;
}

static int read_exprs(fb_plan_reader *r, PyObject *exprs) {
  Py_ssize_t count = tuple_size(exprs, "exprs", -1);
  fb_expr *array = count < 0 ? NULL : new_array(r, count, sizeof *array);
  if (array == NULL)
    return -1;
  r->spec.n_exprs = (int32_t)count;
  r->spec.exprs = array;
  for (Py_ssize_t i = 0; i < count; i++) {
    PyObject *row = PyTuple_GET_ITEM(exprs, i);
    if (tuple_size(row, "an expression", 3) < 0 || read_int32(PyTuple_GET_ITEM(row, 0), &array[i].op) < 0 ||
        read_int64(PyTuple_GET_ITEM(row, 1), &array[i].a) < 0 || read_int64(PyTuple_GET_ITEM(row, 2), &array[i].b) < 0)
      return -1;
  }
  return 0;
}

static bool is_launch(PyObject *row) { return PyTuple_Check(row) && PyTuple_GET_SIZE(row) == LAUNCH_FIELDS; }

/* Checks the shape of all steps and counts their refs and dims. */
static int count_steps(PyObject *steps, bool may_launch, Py_ssize_t *n_refs, Py_ssize_t *n_dims) {
  Py_ssize_t count = tuple_size(steps, "steps", -1);
  *n_refs = *n_dims = 0;
  for (Py_ssize_t i = 0; i < count; i++) {
    PyObject *row = PyTuple_GET_ITEM(steps, i);
    bool launch = is_launch(row);
    if (launch && !may_launch) {
      PyErr_Format(PyExc_ValueError,
                   "[plan] step %zd is a launch on a GPU, and the plan names no device. Name the one that it runs on.",
                   i);
      return -1;
    }
    Py_ssize_t fields = launch ? LAUNCH_FIELDS : 6;
    if (tuple_size(row, "a step", fields) < 0)
      return -1;
    Py_ssize_t refs = tuple_size(PyTuple_GET_ITEM(row, fields - 2), "a step's refs", -1);
    Py_ssize_t dims = refs < 0 ? -1 : tuple_size(PyTuple_GET_ITEM(row, fields - 1), "a step's dims", -1);
    if (dims < 0)
      return -1;
    dims += launch ? FB_GRID_DIMS : 0;
    *n_refs += refs;
    *n_dims += dims;
  }
  return count < 0 || *n_refs > INT32_MAX || *n_dims > INT32_MAX ? -1 : 0;
}

/* A launch's grid and blocks come before its dims. */
static int read_grid(PyObject *row, int32_t *head, int32_t *dims) {
  head[1] = head[2] = head[3] = 0;
  return read_int32(PyTuple_GET_ITEM(row, 0), &head[0]) < 0 ||
                 read_row(PyTuple_GET_ITEM(row, 1), "a grid", dims, 3) < 0 ||
                 read_row(PyTuple_GET_ITEM(row, 2), "a block", dims + 3, 3) < 0
             ? -1
             : 0;
}

static int read_step(PyObject *row, fb_step *step, fb_ref *refs, int32_t *dims) {
  int32_t head[4];
  bool launch = is_launch(row);
  if (launch && read_grid(row, head, dims) < 0)
    return -1;
  for (int i = 0; i < 4 && !launch; i++)
    if (read_int32(PyTuple_GET_ITEM(row, i), &head[i]) < 0)
      return -1;
  Py_ssize_t fields = PyTuple_GET_SIZE(row);
  PyObject *ref_rows = PyTuple_GET_ITEM(row, fields - 2), *dim_row = PyTuple_GET_ITEM(row, fields - 1);
  step->kernel = head[0];
  step->n = head[1];
  step->grain = head[2];
  step->scratch = head[3];
  step->n_refs = (int32_t)PyTuple_GET_SIZE(ref_rows);
  step->n_dims = (int32_t)PyTuple_GET_SIZE(dim_row);
  for (int32_t i = 0; i < step->n_refs; i++) {
    int32_t ref[3];
    if (read_row(PyTuple_GET_ITEM(ref_rows, i), "a ref", ref, 3) < 0)
      return -1;
    refs[i] = (fb_ref){ref[0], ref[1], ref[2]};
  }
  int32_t before = launch ? FB_GRID_DIMS : 0;
  step->n_dims += before;
  return read_row(dim_row, "a step's dims", dims + before, step->n_dims - before);
}

static int read_steps(fb_plan_reader *r, PyObject *steps) {
  Py_ssize_t n_refs, n_dims;
  if (count_steps(steps, r->spec.n_devices > 0, &n_refs, &n_dims) < 0)
    return -1;
  Py_ssize_t count = PyTuple_GET_SIZE(steps);
  fb_step *array = new_array(r, count, sizeof *array);
  fb_ref *refs = array == NULL ? NULL : new_array(r, n_refs, sizeof *refs);
  int32_t *dims = refs == NULL ? NULL : new_array(r, n_dims, sizeof *dims);
  if (dims == NULL)
    return -1;
  r->spec.n_steps = (int32_t)count;
  r->spec.n_refs = (int32_t)n_refs;
  r->spec.n_dims = (int32_t)n_dims;
  r->spec.steps = array;
  r->spec.refs = refs;
  r->spec.dims = dims;
  int32_t next_ref = 0, next_dim = 0;
  for (Py_ssize_t i = 0; i < count; i++) {
    array[i].first_ref = next_ref;
    array[i].first_dim = next_dim;
    if (read_step(PyTuple_GET_ITEM(steps, i), &array[i], refs + next_ref, dims + next_dim) < 0)
      return -1;
    next_ref += array[i].n_refs;
    next_dim += array[i].n_dims;
  }
  return 0;
}

static int read_kernels(fb_plan_reader *r, PyObject *addresses) {
  if (tuple_size(addresses, "kernel_addresses", r->spec.n_kernels) < 0)
    return -1;
  fb_kernel *array = new_array(r, r->spec.n_kernels, sizeof *array);
  if (array == NULL)
    return -1;
  r->spec.kernels = array;
  for (int32_t i = 0; i < r->spec.n_kernels; i++) {
    void *address = PyLong_AsVoidPtr(PyTuple_GET_ITEM(addresses, i));
    if (address == NULL && PyErr_Occurred())
      return -1;
    memcpy(&array[i], &address, sizeof address);
  }
  return 0;
}

/* Notes device `number` for the positions that a row names. */
static int read_places(PyObject *positions, int32_t *places, int32_t count, int32_t number) {
  Py_ssize_t n = tuple_size(positions, "the places of a device", -1);
  for (Py_ssize_t i = 0; i < n; i++) {
    int32_t k;
    if (read_int32(PyTuple_GET_ITEM(positions, i), &k) < 0)
      return -1;
    if (k < 0 || k >= count) {
      PyErr_Format(PyExc_ValueError, "[plan] device %d has number %d of %d.", (int)number, (int)k, (int)count);
      return -1;
    }
    places[k] = number;
  }
  return n < 0 ? -1 : 0;
}

static int read_devices(fb_plan_reader *r, PyObject *rows, PyObject *devices) {
  Py_ssize_t count = tuple_size(rows, "the spec's devices", -1);
  if (count <= 0)
    return (int)count;
  if (tuple_size(devices, "devices", count) < 0)
    return -1;
  fb_plan_device *array = new_array(r, count, sizeof *array);
  int32_t counts[] = {r->spec.n_inputs, r->spec.n_outputs, r->spec.n_kernels};
  int32_t *places[3];
  for (int i = 0; i < 3; i++)
    if ((places[i] = counts[i] < 0 ? NULL : new_array(r, counts[i], sizeof *places[i])) == NULL)
      return -1;
  if (array == NULL)
    return -1;
  for (Py_ssize_t k = 0; k < count; k++) {
    PyObject *row = PyTuple_GET_ITEM(rows, k);
    if (tuple_size(row, "a device", 5) < 0 ||
        (array[k].device = fb_device_object_get(PyTuple_GET_ITEM(devices, k))) == NULL ||
        read_int32(PyTuple_GET_ITEM(row, 1), &array[k].arena_bytes) < 0)
      return -1;
    for (int i = 0; i < 3; i++)
      if (read_places(PyTuple_GET_ITEM(row, 2 + i), places[i], counts[i], (int32_t)k + 1) < 0)
        return -1;
  }
  r->spec.n_devices = (int32_t)count;
  r->spec.devices = array;
  r->spec.input_devices = places[0];
  r->spec.output_devices = places[1];
  r->spec.kernel_devices = places[2];
  return 0;
}

int fb_read_plan_spec(fb_plan_reader *r, PyObject *spec, PyObject *addresses, PyObject *devices) {
  if (tuple_size(spec, "the spec", 13) < 0)
    return -1;
  PyObject **fields = &PyTuple_GET_ITEM(spec, 0);
  if (read_int32(fields[0], &r->spec.n_symbols) < 0 ||
      read_numbers(r, fields[1], "inputs", &r->spec.n_inputs, &r->spec.input_bytes) < 0 ||
      read_outputs(r, fields[2]) < 0 || read_exprs(r, fields[3]) < 0 || read_int32(fields[8], &r->spec.n_kernels) < 0 ||
      read_devices(r, fields[10], devices) < 0 || read_steps(r, fields[4]) < 0 ||
      read_int32(fields[5], &r->spec.n_fallible) < 0 || read_int32(fields[6], &r->spec.arena_bytes) < 0 ||
      read_guards(r, fields[9]) < 0 || read_numbers(r, fields[11], "kept", &r->spec.n_kept, &r->spec.kept) < 0 ||
      read_int32(fields[12], &r->spec.n_spare) < 0)
    return -1;
  if (r->spec.n_kernels < 0) {
    PyErr_Format(PyExc_ValueError, "[plan] n_kernels is %d.", (int)r->spec.n_kernels);
    return -1;
  }
  char *constants;
  Py_ssize_t constant_bytes;
  if (PyBytes_AsStringAndSize(fields[7], &constants, &constant_bytes) < 0)
    return -1;
  r->spec.constants = constants;
  r->spec.constant_bytes = (size_t)constant_bytes;
  return read_kernels(r, addresses);
}

void fb_plan_reader_free(fb_plan_reader *r) {
  while (r->arrays != NULL) {
    struct fb_plan_array *before = r->arrays->before;
    PyMem_Free(r->arrays);
    r->arrays = before;
  }
}
