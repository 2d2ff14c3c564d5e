/* The Python type OpList: a program run op by op. Each op is a plan, run here, or is done by calling Python; values are
 * buffers that live from the op that makes them to the last that reads them. Nothing is overwritten: an op that fails
 * leaves the inputs as they were. Next: op_list_run.c. */
#include "call.h"
#include "op_list.h"
#include "small_op.h"

#include <stddef.h>
#include <string.h>
#include <structmember.h>

/* ---- reading the ops -------------------------------------------------------------------------------------- */

static int32_t *read_numbers(PyObject *object, int32_t *n, int32_t limit) {
  PyObject *items = PySequence_Fast(object, "[op list] numbers must be a sequence.");
  if (items == NULL)
    return NULL;
  *n = (int32_t)PySequence_Fast_GET_SIZE(items);
  int32_t *numbers = PyMem_Calloc((size_t)*n + 1, sizeof *numbers);
  for (int32_t i = 0; numbers != NULL && i < *n; i++) {
    long number = PyLong_AsLong(PySequence_Fast_GET_ITEM(items, i));
    if (number >= 0 && number < limit) {
      numbers[i] = (int32_t)number;
      continue;
    }
    if (!PyErr_Occurred())
      PyErr_Format(PyExc_ValueError, "[op list] there is no number %ld among %d.", number, (int)limit);
    PyMem_Free(numbers);
    numbers = NULL;
  }
  Py_DECREF(items);
  if (numbers == NULL && !PyErr_Occurred())
    PyErr_NoMemory();
  return numbers;
}

static int read_op(fb_op_list *list, fb_op *op, PyObject *row) {
  PyObject *plan, *call, *operands, *results, *dead, *symbols;
  if (!PyArg_ParseTuple(row, "OOOOOO;an op is (plan, call, operands, results, dead, symbols)", &plan, &call, &operands,
                        &results, &dead, &symbols))
    return -1;
  op->call = Py_NewRef(call);
  if (fb_is_small_op(plan)) {
    op->small = Py_NewRef(plan);
  } else if (plan != Py_None) {
    if ((op->plan = fb_plan_object_get(plan)) == NULL)
      return -1;
    fb_plan_retain(op->plan);
  }
  if ((op->operands = read_numbers(operands, &op->n_operands, list->n_values)) == NULL ||
      (op->results = read_numbers(results, &op->n_results, list->n_values)) == NULL ||
      (op->dead = read_numbers(dead, &op->n_dead, list->n_values)) == NULL ||
      (op->symbols = read_numbers(symbols, &op->n_symbols, list->n_exprs)) == NULL)
    return -1;
  if (op->plan != NULL && (fb_plan_inputs(op->plan) != op->n_operands || fb_plan_outputs(op->plan) != op->n_results ||
                           fb_plan_symbols(op->plan) != op->n_symbols)) {
    PyErr_SetString(PyExc_ValueError, "[op list] a plan has other operands, results or symbols than its op.");
    return -1;
  }
  if (op->small != NULL && (((fb_small_op *)op->small)->n_operands != op->n_operands || op->n_results != 1)) {
    PyErr_SetString(PyExc_ValueError, "[op list] a small op has other operands or results than its op.");
    return -1;
  }
  if (op->n_operands > list->most_operands)
    list->most_operands = op->n_operands;
  if (op->n_results > list->most_results)
    list->most_results = op->n_results;
  if (op->n_symbols > list->most_symbols)
    list->most_symbols = op->n_symbols;
  return 0;
}

static int read_exprs(fb_op_list *list, PyObject *rows) {
  list->n_exprs = (int32_t)PyTuple_GET_SIZE(rows);
  list->exprs = PyMem_Calloc((size_t)list->n_exprs + 1, sizeof *list->exprs);
  if (list->exprs == NULL)
    return PyErr_NoMemory(), -1;
  for (int32_t i = 0; i < list->n_exprs; i++) {
    long long a, b;
    int code;
    if (!PyArg_ParseTuple(PyTuple_GET_ITEM(rows, i), "iLL;an expression is (operator, a, b)", &code, &a, &b))
      return -1;
    bool is_leaf = code == FB_X_CONST || code == FB_X_SYMBOL;
    if (code < 0 || code > FB_X_MAX || (code == FB_X_SYMBOL && (a < 0 || a >= list->n_symbols)) ||
        (!is_leaf && (a < 0 || a >= i || b < 0 || b >= i))) {
      PyErr_Format(PyExc_ValueError, "[op list] expression %d makes no sense.", (int)i);
      return -1;
    }
    list->exprs[i] = (fb_expr){code, a, b};
  }
  return 0;
}

static int read_ops(fb_op_list *list, PyObject *rows) {
  list->is_whole = true;
  list->ops = PyMem_Calloc((size_t)PyTuple_GET_SIZE(rows) + 1, sizeof *list->ops);
  if (list->ops == NULL)
    return PyErr_NoMemory(), -1;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(rows); i++) {
    list->n_ops = (int32_t)i + 1;
    if (read_op(list, &list->ops[i], PyTuple_GET_ITEM(rows, i)) < 0)
      return -1;
    list->is_whole &= list->ops[i].plan != NULL || list->ops[i].small != NULL;
  }
  return 0;
}

/* Every value that is read has been made, and is not dead. */
static int check_order(const fb_op_list *list) {
  char *is_there = PyMem_Calloc((size_t)list->n_values + 1, 1);
  if (is_there == NULL)
    return PyErr_NoMemory(), -1;
  memset(is_there, 1, (size_t)list->n_inputs);
  bool ok = true;
  for (int32_t i = 0; i < list->n_ops; i++) {
    const fb_op *op = &list->ops[i];
    for (int32_t k = 0; k < op->n_operands; k++)
      ok &= is_there[op->operands[k]];
    for (int32_t k = 0; k < op->n_results; k++) {
      ok &= !is_there[op->results[k]];
      is_there[op->results[k]] = 1;
    }
    for (int32_t k = 0; k < op->n_dead; k++)
      is_there[op->dead[k]] = 0;
  }
  for (int32_t i = 0; i < list->n_outputs; i++)
    ok &= is_there[list->outputs[i]];
  PyMem_Free(is_there);
  if (!ok)
    PyErr_SetString(PyExc_ValueError, "[op list] an op reads what is not there.");
  return ok ? 0 : -1;
}

fb_op_list *fb_op_list_new(PyObject *located) {
  fb_op_list *list = (fb_op_list *)fb_api.op_list_type->tp_alloc(fb_api.op_list_type, 0);
  if (list != NULL) {
    list->located = Py_NewRef(located);
    list->ask_ns = FB_FIRST_QUESTION_NS;
  }
  return list;
}

static PyObject *list_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  (void)type; /* nothing is derived from it */
  static char *names[] = {"n_values", "n_inputs", "ops", "outputs", "located", "n_symbols", "exprs", NULL};
  PyObject *ops, *outputs, *located, *exprs = NULL;
  int n_values, n_inputs, n_symbols = 0;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iiO!OO|iO!:OpList", names, &n_values, &n_inputs, &PyTuple_Type, &ops,
                                   &outputs, &located, &n_symbols, &PyTuple_Type, &exprs))
    return NULL;
  if (n_inputs < 0 || n_values < n_inputs || n_symbols < 0)
    return PyErr_Format(PyExc_ValueError, "[op list] %d values, %d of them inputs, and %d symbols make no sense.",
                        n_values, n_inputs, n_symbols);
  fb_op_list *list = fb_op_list_new(located);
  if (list == NULL)
    return NULL;
  list->n_values = n_values;
  list->n_inputs = n_inputs;
  list->n_symbols = n_symbols;
  if ((exprs != NULL && read_exprs(list, exprs) < 0) || read_ops(list, ops) < 0 ||
      (list->outputs = read_numbers(outputs, &list->n_outputs, n_values)) == NULL || check_order(list) < 0)
    Py_CLEAR(list);
  return (PyObject *)list;
}

static int list_traverse(PyObject *self, visitproc visit, void *arg) {
  fb_op_list *list = (fb_op_list *)self;
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(list->located);
  for (int32_t i = 0; i < list->n_ops; i++) {
    Py_VISIT(list->ops[i].call);
    Py_VISIT(list->ops[i].source);
  }
  return 0;
}

static int list_clear(PyObject *self) {
  fb_op_list *list = (fb_op_list *)self;
  Py_CLEAR(list->located);
  for (int32_t i = 0; i < list->n_ops; i++) {
    Py_CLEAR(list->ops[i].call);
    Py_CLEAR(list->ops[i].source);
  }
  return 0;
}

static void list_dealloc(PyObject *self) {
  fb_op_list *list = (fb_op_list *)self;
  PyTypeObject *type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  if (list->weak != NULL)
    PyObject_ClearWeakRefs(self);
  list_clear(self);
  for (int32_t i = 0; i < list->n_ops; i++) {
    fb_op *op = &list->ops[i];
    if (op->plan != NULL)
      fb_plan_release(op->plan);
    Py_XDECREF(op->small);
    PyMem_Free(op->operands);
    PyMem_Free(op->results);
    PyMem_Free(op->dead);
    PyMem_Free(op->symbols);
  }
  PyMem_Free(list->ops);
  PyMem_Free(list->outputs);
  PyMem_Free(list->exprs);
  type->tp_free(self);
  Py_DECREF(type);
}

/* ---- from Python ------------------------------------------------------------------------------------------ */

static PyObject *outputs_as_list(fb_buffer **outputs, int32_t n) {
  PyObject *list = PyList_New(n);
  for (int32_t i = 0; i < n; i++) {
    PyObject *output = list == NULL ? NULL : fb_buffer_object(outputs[i], 0);
    if (list == NULL)
      fb_buffer_release(outputs[i]);
    else if (output == NULL)
      Py_CLEAR(list);
    else
      PyList_SET_ITEM(list, i, output);
  }
  return list;
}

static PyObject *list_run(PyObject *self, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"inputs", "symbols", NULL};
  fb_op_list *list = (fb_op_list *)self;
  PyObject *given, *symbols = Py_None;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:run", names, &given, &symbols))
    return NULL;
  PyObject *objects = PySequence_Tuple(given), *result = NULL;
  if (objects == NULL)
    return NULL;
  size_t n = (size_t)list->n_inputs + 1;
  fb_input *inputs = PyMem_Calloc(n, sizeof *inputs);
  int64_t *cells = PyMem_Calloc(n + (size_t)list->n_symbols, sizeof *cells);
  fb_buffer **outputs = PyMem_Calloc((size_t)list->n_outputs + 1, sizeof *outputs);
  int status = inputs == NULL || cells == NULL || outputs == NULL ? (PyErr_NoMemory(), -1) : 0;
  if (status == 0 && PyTuple_GET_SIZE(objects) != list->n_inputs) {
    PyErr_Format(PyExc_RuntimeError, "[run] the program has %d inputs, got %zd. Pass one each.", (int)list->n_inputs,
                 PyTuple_GET_SIZE(objects));
    status = -1;
  }
  if (status == 0)
    status = fb_read_symbols(symbols, cells + n, list->n_symbols);
  for (int32_t i = 0; status == 0 && i < list->n_inputs; i++)
    status = fb_read_input(PyTuple_GET_ITEM(objects, i), &inputs[i], &cells[i]);
  if (status == 0 && fb_op_list_run(self, inputs, cells + n, outputs) == 0)
    result = outputs_as_list(outputs, list->n_outputs);
  for (int32_t i = 0; inputs != NULL && i < list->n_inputs; i++)
    fb_buffer_release(inputs[i].buffer);
  PyMem_Free(inputs);
  PyMem_Free(cells);
  PyMem_Free(outputs);
  Py_DECREF(objects);
  return result;
}

static PyMethodDef methods[] = {
    {"run", (PyCFunction)(void (*)(void))list_run, METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("run(inputs, symbols=None)\n--\n\n"
               "Run once; inputs as of `Plan.run`. Returns a list of Buffers. Raises what the op that fails raises.")},
    {0},
};

static PyMemberDef members[] = {
    {"is_stale", T_BOOL, offsetof(fb_op_list, is_stale), 0, "Whether its owner is to be asked before the next run."},
    {"is_whole", T_BOOL, offsetof(fb_op_list, is_whole), READONLY, "Whether every op has a Plan or a SmallOp."},
    {"calls", T_LONGLONG, offsetof(fb_op_list, calls), READONLY, "How many ops were done by calling Python."},
    {"ns", T_ULONGLONG, offsetof(fb_op_list, ns), 0, "Nanoseconds spent in it."},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(fb_op_list, weak), READONLY, NULL},
    {0},
};

static PyType_Slot slots[] = {
    {Py_tp_doc,
     (void *)PyDoc_STR(
         "OpList(n_values, n_inputs, ops, outputs, located, n_symbols=0, exprs=())\n--\n\n"
         "A program run op by op. Values are numbers, the inputs' come first. An op is (Plan, SmallOp or None, call, "
         "operands, results,\nvalues that nobody reads any more, expressions of the plan's symbols). "
         "`call(sizes, *operands)` does what has no plan.")},
    {Py_tp_new, list_new},
    {Py_tp_dealloc, list_dealloc},
    {Py_tp_traverse, list_traverse},
    {Py_tp_clear, list_clear},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {0, NULL},
};

PyType_Spec fb_op_list_type_spec = {
    .name = "flambeau.runtime._binding.OpList",
    .basicsize = sizeof(fb_op_list),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};
