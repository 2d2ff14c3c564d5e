/* The Python type Plan: an fb_plan made from plain tuples (see plan_spec.py), run on Python objects. */
#include "call.h"
#include "plan_reader.h"

#include <string.h>

typedef struct {
  PyObject_HEAD fb_plan *plan;
} PlanObject;

fb_plan *fb_plan_object_get(PyObject *object) {
  if (Py_IS_TYPE(object, fb_api.plan_type))
    return ((PlanObject *)object)->plan;
  PyErr_Format(PyExc_TypeError, "[plan] expected a Plan, got %.100s.", Py_TYPE(object)->tp_name);
  return NULL;
}

static PyObject *plan_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"spec", "kernel_addresses", "devices", NULL};
  PyObject *spec, *addresses, *devices = NULL;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O:Plan", names, &spec, &addresses, &devices))
    return NULL;
  fb_plan_reader reader = {0};
  fb_plan *plan = NULL;
  PlanObject *self = NULL;
  if (fb_read_plan_spec(&reader, spec, addresses, devices) == 0) {
    fb_status status = fb_plan_create(&reader.spec, &plan);
    if (status != FB_OK)
      fb_raise(status, 0);
    else
      self = (PlanObject *)type->tp_alloc(type, 0);
  }
  fb_plan_reader_free(&reader);
  if (self != NULL)
    self->plan = plan;
  else
    fb_plan_release(plan);
  return (PyObject *)self;
}

static void plan_dealloc(PyObject *object) {
  PyTypeObject *type = Py_TYPE(object);
  fb_plan_release(((PlanObject *)object)->plan);
  type->tp_free(object);
  Py_DECREF(type);
}

/* ---- running ------------------------------------------------------------------------------------------- */

/* What one call of run() holds. Buffers that are not donated are retained; donated ones leave their Buffer object for
 * the duration of the run, so that nobody else can use them meanwhile. */
typedef struct {
  PyObject *objects; /* the inputs, as a tuple */
  Py_ssize_t n_inputs, n_outputs;
  fb_input *inputs;
  int64_t *cells; /* host scalars */
  int64_t *symbols;
  fb_buffer **outputs;
  Py_buffer times; /* of the steps, where they are wanted */
} Call;

#define MISALIGNED(data) ((uintptr_t)(data) % 64 != 0)

/* Kernels may rely on 64-byte alignment, which foreign memory need not have. Takes over the reference. */
static fb_buffer *aligned(fb_buffer *b) {
  if (b == NULL || fb_buffer_is_pooled(b) || !MISALIGNED(fb_buffer_data(b)))
    return b;
  fb_buffer *copy;
  fb_status status = fb_buffer_alloc(fb_buffer_bytes(b), &copy);
  if (status == FB_OK)
    memcpy(fb_buffer_data(copy), fb_buffer_data(b), fb_buffer_bytes(b));
  else
    fb_raise(status, 0);
  fb_buffer_release(b);
  return copy;
}

/* 1 when the object is a number, written to the cell; 0 when it is none; -1 and an exception on failure. */
static int read_scalar(PyObject *object, int64_t *cell) {
  if (PyFloat_Check(object)) {
    double value = PyFloat_AS_DOUBLE(object);
    memcpy(cell, &value, sizeof value);
    return 1;
  }
  if (!PyLong_Check(object))
    return 0;
  *cell = PyLong_AsLongLong(object);
  return *cell == -1 && PyErr_Occurred() ? -1 : 1;
}

int fb_read_input(PyObject *object, fb_input *input, int64_t *cell) {
  int scalar = read_scalar(object, cell);
  if (scalar != 0) {
    input->data = cell;
    return scalar < 0 ? -1 : 0;
  }
  fb_buffer *b;
  if (Py_IS_TYPE(object, fb_api.buffer_type)) {
    if ((b = fb_buffer_object_get(object)) != NULL)
      fb_buffer_retain(b);
  } else {
    b = fb_buffer_object_import(object, NULL);
  }
  input->buffer = aligned(b);
  if (input->buffer == NULL)
    return -1;
  input->data = fb_buffer_data(input->buffer);
  return 0;
}

static int read_inputs(Call *c, const fb_plan *plan) {
  for (Py_ssize_t i = 0; i < c->n_inputs; i++) {
    if (fb_read_input(PyTuple_GET_ITEM(c->objects, i), &c->inputs[i], &c->cells[i]) < 0)
      return -1;
    const fb_buffer *b = c->inputs[i].buffer;
    if (b != NULL && fb_buffer_device(b) != NULL && fb_plan_devices(plan) == 0) {
      PyErr_Format(PyExc_ValueError,
                   "[plan] input %zd lies on another device than the plan reads it on. Move it there.", i);
      return -1;
    }
  }
  return 0;
}

static int donate_one(Call *c, Py_ssize_t i) {
  if (i < 0 || i >= c->n_inputs) {
    PyErr_Format(PyExc_IndexError, "[plan] cannot donate input %zd of %zd.", i, c->n_inputs);
    return -1;
  }
  PyObject *object = PyTuple_GET_ITEM(c->objects, i);
  if (fb_buffer_object_get(object) == NULL)
    return -1;
  BufferObject *holder = (BufferObject *)object;
  if (holder->exports > 0) {
    PyErr_Format(PyExc_BufferError, "[plan] cannot donate input %zd: %zd views look at it. Release them first.", i,
                 holder->exports);
    return -1;
  }
  /* Two references: the object's, and the one read_input took. More: somebody else may read it; other: a copy went in.
   */
  if (c->inputs[i].buffer != holder->buffer || fb_buffer_refs(holder->buffer) != 2)
    return 0;
  fb_buffer_release(holder->buffer);
  holder->buffer = NULL;
  c->inputs[i].donated = true;
  return 0;
}

static int donate(Call *c, PyObject *indices) {
  PyObject *fast = PySequence_Fast(indices, "[plan] donate is no sequence. Pass the numbers of inputs.");
  if (fast == NULL)
    return -1;
  int result = 0;
  for (Py_ssize_t i = 0; result == 0 && i < PySequence_Fast_GET_SIZE(fast); i++) {
    Py_ssize_t index = PyNumber_AsSsize_t(PySequence_Fast_GET_ITEM(fast, i), PyExc_IndexError);
    result = index == -1 && PyErr_Occurred() ? -1 : donate_one(c, index);
  }
  Py_DECREF(fast);
  return result;
}

int fb_read_symbols(PyObject *symbols, int64_t *out, Py_ssize_t expected) {
  PyObject *fast = symbols == Py_None ? PyTuple_New(0) : PySequence_Fast(symbols, "[plan] symbols is no sequence.");
  if (fast == NULL)
    return -1;
  Py_ssize_t count = PySequence_Fast_GET_SIZE(fast);
  int result = 0;
  if (count != expected) {
    PyErr_Format(PyExc_ValueError, "[plan] %zd symbols were passed. The plan has %zd.", count, expected);
    result = -1;
  }
  for (Py_ssize_t i = 0; result == 0 && i < count; i++) {
    out[i] = PyLong_AsLongLong(PySequence_Fast_GET_ITEM(fast, i));
    result = out[i] == -1 && PyErr_Occurred() ? -1 : 0;
  }
  Py_DECREF(fast);
  return result;
}

static int open_call(Call *c, const fb_plan *plan, PyObject *inputs) {
  c->objects = PySequence_Tuple(inputs);
  if (c->objects == NULL)
    return -1;
  Py_ssize_t passed = PyTuple_GET_SIZE(c->objects), expected = fb_plan_inputs(plan);
  if (passed != expected) {
    PyErr_Format(PyExc_ValueError, "[plan] %zd inputs were passed. The plan has %zd.", passed, expected);
    return -1;
  }
  c->n_outputs = fb_plan_outputs(plan);
  c->inputs = PyMem_Calloc((size_t)expected + 1, sizeof *c->inputs);
  c->cells = PyMem_Calloc((size_t)expected + 1, sizeof *c->cells);
  c->symbols = PyMem_Calloc((size_t)fb_plan_symbols(plan) + 1, sizeof *c->symbols);
  c->outputs = PyMem_Calloc((size_t)c->n_outputs + 1, sizeof *c->outputs);
  if (c->inputs == NULL || c->cells == NULL || c->symbols == NULL || c->outputs == NULL) {
    PyErr_NoMemory();
    return -1;
  }
  c->n_inputs = expected;
  return 0;
}

/* Gives donated buffers that no output took back to their objects, and drops everything else. */
static void close_call(Call *c) {
  for (Py_ssize_t i = 0; i < c->n_inputs; i++) {
    if (!c->inputs[i].donated)
      fb_buffer_release(c->inputs[i].buffer);
    else if (!c->inputs[i].taken)
      ((BufferObject *)PyTuple_GET_ITEM(c->objects, i))->buffer = c->inputs[i].buffer;
  }
  for (Py_ssize_t i = 0; c->outputs != NULL && i < c->n_outputs; i++)
    fb_buffer_release(c->outputs[i]);
  PyBuffer_Release(&c->times);
  PyMem_Free(c->inputs);
  PyMem_Free(c->cells);
  PyMem_Free(c->symbols);
  PyMem_Free(c->outputs);
  Py_XDECREF(c->objects);
}

static int want_times(Call *c, const fb_plan *plan, PyObject *times) {
  if (times == NULL || times == Py_None)
    return 0;
  if (PyObject_GetBuffer(times, &c->times, PyBUF_WRITABLE) < 0)
    return -1;
  Py_ssize_t expected = (Py_ssize_t)sizeof(int64_t) * fb_plan_steps(plan);
  if (c->times.len == expected)
    return 0;
  PyErr_Format(PyExc_ValueError, "[plan] `times` has %zd bytes, its steps take %zd.", c->times.len, expected);
  return -1;
}

static int64_t read_number(const char **at) {
  int64_t number;
  memcpy(&number, *at, sizeof number);
  *at += sizeof number;
  return number;
}

/* Appends each note to the list, as a tuple of bytes. */
static int append_notes(PyObject *list, const fb_notes *notes) {
  for (const char *at = notes->data; at < notes->data + notes->bytes;) {
    int64_t n = read_number(&at);
    PyObject *note = PyTuple_New((Py_ssize_t)n);
    for (int64_t i = 0; note != NULL && i < n; i++) {
      int64_t bytes = read_number(&at);
      PyObject *operand = PyBytes_FromStringAndSize(at, (Py_ssize_t)bytes);
      at += bytes;
      if (operand == NULL)
        Py_CLEAR(note);
      else
        PyTuple_SET_ITEM(note, (Py_ssize_t)i, operand);
    }
    int status = note == NULL ? -1 : PyList_Append(list, note);
    Py_XDECREF(note);
    if (status < 0)
      return -1;
  }
  return 0;
}

static PyObject *run_noted(Call *c, fb_plan *plan, fb_notes *notes);

static PyObject *run_call(Call *c, fb_plan *plan, PyObject *list) {
  fb_notes notes = {0};
  PyObject *result = run_noted(c, plan, list == NULL ? NULL : &notes);
  if (result != NULL && list != NULL && append_notes(list, &notes) < 0)
    Py_CLEAR(result);
  fb_notes_free(&notes);
  return result;
}

static PyObject *run_noted(Call *c, fb_plan *plan, fb_notes *notes) {
  fb_run run = {
      .inputs = c->inputs, .outputs = c->outputs, .symbols = c->symbols, .notes = notes, .nanoseconds = c->times.buf};
  fb_status status;
  Py_BEGIN_ALLOW_THREADS;
  status = fb_plan_run(plan, &run);
  Py_END_ALLOW_THREADS;
  if (status != FB_OK)
    return fb_raise(status, run.failure);
  PyObject *list = PyList_New(c->n_outputs);
  for (Py_ssize_t i = 0; list != NULL && i < c->n_outputs; i++) {
    PyObject *output = fb_buffer_object(c->outputs[i], 0);
    c->outputs[i] = NULL;
    if (output == NULL)
      Py_CLEAR(list);
    else
      PyList_SET_ITEM(list, i, output);
  }
  return list;
}

static PyObject *plan_run(PyObject *self, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"inputs", "symbols", "donate", "notes", "times", NULL};
  PyObject *inputs, *symbols = Py_None, *donated = NULL, *notes = Py_None, *times = NULL;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OOOO:run", names, &inputs, &symbols, &donated, &notes, &times))
    return NULL;
  if (notes != Py_None && !PyList_Check(notes))
    return PyErr_Format(PyExc_TypeError, "[plan] `notes` is no list, but of type %.100s.", Py_TYPE(notes)->tp_name);
  fb_plan *plan = ((PlanObject *)self)->plan;
  Call call = {0};
  PyObject *result = NULL;
  if (open_call(&call, plan, inputs) == 0 && read_inputs(&call, plan) == 0 &&
      fb_read_symbols(symbols, call.symbols, fb_plan_symbols(plan)) == 0 && want_times(&call, plan, times) == 0 &&
      (donated == NULL || donate(&call, donated) == 0))
    result = run_call(&call, plan, notes == Py_None ? NULL : notes);
  close_call(&call);
  return result;
}

static PyObject *plan_fits(PyObject *self, PyObject *symbols) {
  fb_plan *plan = ((PlanObject *)self)->plan;
  Call call = {.symbols = PyMem_Calloc((size_t)fb_plan_symbols(plan) + 1, sizeof(int64_t))};
  PyObject *result = NULL;
  if (call.symbols == NULL)
    PyErr_NoMemory();
  else if (fb_read_symbols(symbols, call.symbols, fb_plan_symbols(plan)) == 0)
    result = PyBool_FromLong(fb_plan_fits(plan, call.symbols));
  PyMem_Free(call.symbols);
  return result;
}

static PyObject *get_arena_bytes(PyObject *self, void *closure) {
  (void)closure;
  return PyLong_FromSize_t(fb_plan_arena_bytes(((PlanObject *)self)->plan));
}

static PyObject *get_steps(PyObject *self, void *closure) {
  (void)closure;
  return PyLong_FromLong(fb_plan_steps(((PlanObject *)self)->plan));
}

static PyMethodDef methods[] = {
    {"run", (PyCFunction)(void (*)(void))plan_run, METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR(
         "run(inputs, symbols=None, donate=(), notes=None, times=None)\n--\n\n"
         "Run once. Inputs are Buffers, C-contiguous buffer-protocol objects or numbers (float: f64, int and bool: "
         "i64).\n"
         "`donate` names inputs whose Buffer the plan may take; a taken one is empty afterwards. `notes` is a list "
         "that gets\n"
         "what the plan has written down for the host, a tuple of bytes each; `times` is writable memory, an int64 per "
         "step,\n"
         "to which nanoseconds are added. Returns a list of\n"
         "Buffers. Raises OutOfMemory, KernelFailed or OtherSizes, and then inputs are as they were.")},
    {"fits", plan_fits, METH_O,
     PyDoc_STR("fits(symbols)\n--\n\nWhether the plan's guards hold for these values of its symbols.")},
    {0},
};

static PyGetSetDef getters[] = {
    {"steps", get_steps, NULL, PyDoc_STR("How many there are."), NULL},
    {"arena_bytes", get_arena_bytes, NULL, PyDoc_STR("Temporary memory of the last run; 0 before the first."), NULL},
    {0},
};

static PyType_Slot slots[] = {
    {Py_tp_doc,
     (void *)PyDoc_STR(
         "Plan(spec, kernel_addresses, devices=())\n--\n\n"
         "A checked program: a PlanSpec (or the same as a plain tuple), the addresses of its kernels, and the\n"
         "Device objects of the devices that it names.")},
    {Py_tp_new, plan_new},
    {Py_tp_dealloc, plan_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, getters},
    {0, NULL},
};

PyType_Spec fb_plan_type_spec = {
    .name = "flambeau.runtime._binding.Plan",
    .basicsize = sizeof(PlanObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};
