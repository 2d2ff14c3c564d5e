/* Running a program op by op. Next: the runtime's plan_run.c, for each op's plan. */
#include "op_list.h"
#include "small_op.h"

#include <string.h>

#define FEW_VALUES 96
#define LONG_NS 100000        /* an op that takes longer lets other threads run meanwhile */
#define LARGE_BYTES (1 << 16) /* an op on fewer bytes that was quick once is quick */

/* A value while the program runs. Inputs belong to the caller. */
typedef struct {
  const void *data;
  fb_buffer *buffer; /* NULL: a number of the host */
  bool is_ours;
} Value;

typedef struct {
  fb_op_list *list;
  Value *values;
  int64_t *numbers; /* of the expressions */
  PyObject *sizes;  /* as a tuple, once somebody wants them so */
  const int64_t *symbols;
} Run;

/* ---- one op ----------------------------------------------------------------------------------------------- */

static PyObject *sizes_of(Run *run) {
  int32_t n = run->list->n_symbols;
  if (run->sizes == NULL && (run->sizes = PyTuple_New(n)) != NULL)
    for (int32_t i = 0; i < n; i++) {
      PyObject *size = PyLong_FromLongLong(run->symbols[i]);
      if (size == NULL) {
        Py_CLEAR(run->sizes);
        break;
      }
      PyTuple_SET_ITEM(run->sizes, i, size);
    }
  return run->sizes;
}

static void drop(Value *v) {
  if (v->is_ours)
    fb_buffer_release(v->buffer);
  *v = (Value){0};
}

static void take(Value *v, fb_buffer *buffer) {
  *v = (Value){.data = fb_buffer_data(buffer), .buffer = buffer, .is_ours = true};
}

/* A number of the host gets a buffer, so that Python and outputs can have it. */
static fb_buffer *buffer_of(Value *v) {
  if (v->buffer != NULL)
    return v->buffer;
  fb_buffer *buffer;
  fb_status status = fb_buffer_alloc(sizeof(int64_t), &buffer);
  if (status != FB_OK) {
    fb_raise(status, 0);
    return NULL;
  }
  memcpy(fb_buffer_data(buffer), v->data, sizeof(int64_t));
  take(v, buffer);
  return buffer;
}

static fb_buffer *copy_of(PyObject *object) {
  Py_buffer view;
  if (PyObject_GetBuffer(object, &view, PyBUF_SIMPLE) < 0)
    return NULL;
  fb_buffer *buffer = NULL;
  fb_status status = fb_buffer_alloc((size_t)view.len, &buffer);
  if (status != FB_OK)
    fb_raise(status, 0);
  else if (view.len > 0)
    memcpy(fb_buffer_data(buffer), view.buf, (size_t)view.len);
  PyBuffer_Release(&view);
  return status == FB_OK ? buffer : NULL;
}

static int take_results(Run *run, const fb_op *op, PyObject *answer) {
  PyObject *items = PySequence_Fast(answer, "[op list] an op gives a sequence of results.");
  if (items == NULL)
    return -1;
  int status = 0;
  if (PySequence_Fast_GET_SIZE(items) != op->n_results) {
    PyErr_Format(PyExc_ValueError, "[op list] an op gave %zd results, it has %d.", PySequence_Fast_GET_SIZE(items),
                 (int)op->n_results);
    status = -1;
  }
  for (int32_t i = 0; status == 0 && i < op->n_results; i++) {
    PyObject *item = PySequence_Fast_GET_ITEM(items, i);
    fb_buffer *buffer = Py_IS_TYPE(item, fb_api.buffer_type) ? fb_buffer_object_get(item) : copy_of(item);
    if (buffer == NULL) {
      status = -1;
      break;
    }
    if (Py_IS_TYPE(item, fb_api.buffer_type))
      fb_buffer_retain(buffer);
    take(&run->values[op->results[i]], buffer);
  }
  Py_DECREF(items);
  return status;
}

static int call_python(Run *run, const fb_op *op) {
  PyObject *sizes = sizes_of(run), *args = sizes == NULL ? NULL : PyTuple_New(op->n_operands + 1), *answer = NULL;
  if (args != NULL)
    PyTuple_SET_ITEM(args, 0, Py_NewRef(sizes));
  for (int32_t i = 0; args != NULL && i < op->n_operands; i++) {
    fb_buffer *buffer = buffer_of(&run->values[op->operands[i]]);
    if (buffer != NULL)
      fb_buffer_retain(buffer);
    PyObject *object = buffer == NULL ? NULL : fb_buffer_object_wrap(buffer);
    if (object == NULL)
      Py_CLEAR(args);
    else
      PyTuple_SET_ITEM(args, i + 1, object);
  }
  run->list->calls++;
  if (args != NULL)
    answer = PyObject_Call(op->call, args, NULL);
  Py_XDECREF(args);
  int status = answer == NULL ? -1 : take_results(run, op, answer);
  Py_XDECREF(answer);
  return status;
}

/* Other threads run while an op takes long, or nobody knows how long it will. */
static fb_status run_long(fb_op *op, fb_run *run) {
  fb_status status;
  int64_t start = fb_now_ns();
  Py_BEGIN_ALLOW_THREADS;
  status = fb_plan_run(op->plan, run);
  Py_END_ALLOW_THREADS;
  op->is_quick = fb_now_ns() - start < LONG_NS && !fb_plan_loops(op->plan);
  if (op->source != NULL)
    ((fb_op_list *)op->source)->ops[op->number].is_quick = op->is_quick;
  return status;
}

/* The exception of a plan that failed, as the op's own. */
static void locate(Run *run, int32_t number) {
  const fb_op *op = &run->list->ops[number];
  PyObject *located = op->source == NULL ? run->list->located : ((fb_op_list *)op->source)->located;
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  PyObject *sizes = sizes_of(run);
  int place = (int)(op->source == NULL ? number : op->number);
  PyObject *error = sizes == NULL ? NULL : PyObject_CallFunction(located, "iOO", place, value, sizes);
  if (error != NULL && PyExceptionInstance_Check(error))
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
  else if (error != NULL)
    PyErr_SetString(PyExc_TypeError, "[op list] an error must become an exception.");
  Py_XDECREF(error);
  Py_XDECREF(type);
  Py_XDECREF(value);
  Py_XDECREF(traceback);
}

static int run_small(Run *run, int32_t number) {
  const fb_op *op = &run->list->ops[number];
  const fb_small_op *small = (const fb_small_op *)op->small;
  const char *operands[FB_SMALL_OPERANDS];
  for (int32_t i = 0; i < op->n_operands; i++) {
    const Value *v = &run->values[op->operands[i]];
    size_t bytes = v->buffer == NULL ? sizeof(int64_t) : fb_buffer_bytes(v->buffer);
    if (bytes < small->bytes[i] || (v->buffer != NULL && fb_buffer_device(v->buffer) != NULL))
      return call_python(run, op); /* which says what is wrong */
    operands[i] = v->data;
  }
  fb_buffer *buffer = fb_small_run(small, operands);
  if (buffer == NULL) {
    locate(run, number);
    return -1;
  }
  take(&run->values[op->results[0]], buffer);
  return 0;
}

static int run_op(Run *run, int32_t number, fb_input *inputs, fb_buffer **outputs, int64_t *symbols) {
  fb_op *op = &run->list->ops[number];
  if (op->small != NULL)
    return run_small(run, number);
  if (op->plan == NULL)
    return call_python(run, op);
  size_t bytes = 0;
  for (int32_t i = 0; i < op->n_operands; i++) {
    const Value *v = &run->values[op->operands[i]];
    inputs[i] = (fb_input){.data = v->data, .buffer = v->buffer};
    bytes += v->buffer == NULL ? 0 : fb_buffer_bytes(v->buffer);
    if (v->buffer != NULL && fb_buffer_device(v->buffer) != NULL && fb_plan_devices(op->plan) == 0) {
      PyErr_SetString(PyExc_ValueError, "[op list] an operand lies on another device than its op's plan reads it on.");
      return -1;
    }
  }
  for (int32_t i = 0; i < op->n_symbols; i++)
    if ((symbols[i] = run->numbers[op->symbols[i]]) < FB_LEAST_SIZE)
      return call_python(run, op);
  fb_run one = {.inputs = inputs, .outputs = outputs, .symbols = symbols};
  bool is_quick = op->is_quick && bytes < LARGE_BYTES;
  fb_status status = is_quick ? fb_plan_run(op->plan, &one) : run_long(op, &one);
  if (status == FB_OTHER_SIZES)
    return call_python(run, op);
  if (status != FB_OK) {
    fb_raise(status, one.failure);
    locate(run, number);
    return -1;
  }
  for (int32_t i = 0; i < op->n_results; i++)
    take(&run->values[op->results[i]], outputs[i]);
  return 0;
}

/* ---- all ops ---------------------------------------------------------------------------------------------- */

static int run_ops(Run *run) {
  fb_op_list *list = run->list;
  fb_input few_inputs[8], *inputs = few_inputs;
  fb_buffer *few_outputs[8], **outputs = few_outputs;
  int64_t few_symbols[8], *symbols = few_symbols;
  if (list->most_operands > 8)
    inputs = PyMem_Calloc((size_t)list->most_operands, sizeof *inputs);
  if (list->most_results > 8)
    outputs = PyMem_Calloc((size_t)list->most_results, sizeof *outputs);
  if (list->most_symbols > 8)
    symbols = PyMem_Calloc((size_t)list->most_symbols, sizeof *symbols);
  int status = inputs == NULL || outputs == NULL || symbols == NULL ? (PyErr_NoMemory(), -1) : 0;
  for (int32_t i = 0; status == 0 && i < list->n_ops; i++) {
    const fb_op *op = &list->ops[i];
    status = run_op(run, i, inputs, outputs, symbols);
    for (int32_t k = 0; status == 0 && k < op->n_dead; k++)
      drop(&run->values[op->dead[k]]);
    if (status == 0)
      status = PyErr_CheckSignals();
  }
  if (inputs != few_inputs)
    PyMem_Free(inputs);
  if (outputs != few_outputs)
    PyMem_Free(outputs);
  if (symbols != few_symbols)
    PyMem_Free(symbols);
  return status;
}

static int give_outputs(Run *run, fb_buffer **outputs) {
  const fb_op_list *list = run->list;
  for (int32_t i = 0; i < list->n_outputs; i++) {
    if ((outputs[i] = buffer_of(&run->values[list->outputs[i]])) == NULL) {
      while (i-- > 0) {
        fb_buffer_release(outputs[i]);
        outputs[i] = NULL;
      }
      return -1;
    }
    fb_buffer_retain(outputs[i]);
  }
  return 0;
}

static int run_with(Run *run, const fb_input *inputs, fb_buffer **outputs) {
  fb_op_list *list = run->list;
  for (int32_t i = 0; i < list->n_inputs; i++)
    run->values[i] = (Value){.data = inputs[i].data, .buffer = inputs[i].buffer};
  if (fb_evaluate(list->exprs, 0, list->n_exprs, run->symbols, run->numbers) < list->n_exprs) {
    PyErr_SetString(fb_api.other_sizes, "[op list] a size has no 64-bit value. Use smaller extents.");
    return -1;
  }
  int status = run_ops(run) < 0 ? -1 : give_outputs(run, outputs);
  for (int32_t i = 0; i < list->n_values; i++)
    drop(&run->values[i]);
  Py_CLEAR(run->sizes);
  return status;
}

int fb_op_list_run(PyObject *self, const fb_input *inputs, const int64_t *symbols, fb_buffer **outputs) {
  fb_op_list *list = (fb_op_list *)self;
  Value few_values[FEW_VALUES], *values = few_values;
  int64_t few_numbers[FEW_VALUES], *numbers = few_numbers;
  if (list->n_values > FEW_VALUES)
    values = PyMem_Malloc((size_t)list->n_values * sizeof *values);
  if (list->n_exprs > FEW_VALUES)
    numbers = PyMem_Malloc((size_t)list->n_exprs * sizeof *numbers);
  int status = -1;
  if (values == NULL || numbers == NULL) {
    PyErr_NoMemory();
  } else {
    memset(values, 0, (size_t)list->n_values * sizeof *values);
    Py_INCREF(self); /* it may be replaced meanwhile */
    uint64_t start = (uint64_t)fb_now_ns();
    status = run_with(&(Run){.list = list, .values = values, .numbers = numbers, .symbols = symbols}, inputs, outputs);
    list->ns += (uint64_t)fb_now_ns() - start;
    Py_DECREF(self);
  }
  if (values != few_values)
    PyMem_Free(values);
  if (numbers != few_numbers)
    PyMem_Free(numbers);
  return status;
}

bool fb_op_list_asks(PyObject *self) {
  fb_op_list *list = (fb_op_list *)self;
  if (!list->is_stale && list->ns < list->ask_ns)
    return false;
  list->is_stale = false;
  list->ask_ns = 2 * list->ns + FB_FIRST_QUESTION_NS;
  return true;
}
