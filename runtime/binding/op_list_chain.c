/* Op lists one after the other, as the calls of a trace that runs once: each reads what those before it made. Values
 * have any numbers; they live until the last list that reads them has run. Next: op_list_run.c. */
#include "call.h"
#include "op_list.h"

#include <string.h>

typedef struct {
  const void *data;
  fb_buffer *buffer; /* NULL: a number, or nothing */
  int32_t last;      /* the list that reads or makes it last; n_lists: an output */
} Value;

typedef struct {
  fb_op_list *list;
  const int32_t *operands, *results;
} Link;

typedef struct {
  Link *links;
  int32_t *numbers; /* of all values that are named, in order: of inputs, of links, of outputs */
  Value *values;
  int64_t *cells; /* numbers among the inputs */
  int32_t n_links, n_numbers, n_values, n_inputs, n_outputs, most_operands, most_results;
} Chain;

/* ---- reading ---------------------------------------------------------------------------------------------- */

static int append(Chain *chain, int32_t *cap, PyObject *numbers, int32_t expected) {
  PyObject *items = PySequence_Fast(numbers, "[op lists] numbers must be a sequence.");
  if (items == NULL)
    return -1;
  int32_t n = (int32_t)PySequence_Fast_GET_SIZE(items);
  int status = 0;
  if (expected >= 0 && n != expected) {
    PyErr_Format(PyExc_ValueError, "[op lists] a list of %d values is given %d.", (int)expected, (int)n);
    status = -1;
  }
  if (status == 0 && chain->n_numbers + n > *cap) {
    int32_t wanted = 2 * (chain->n_numbers + n);
    int32_t *grown = PyMem_Realloc(chain->numbers, (size_t)wanted * sizeof *grown);
    if (grown == NULL)
      status = (PyErr_NoMemory(), -1);
    else
      chain->numbers = grown, *cap = wanted;
  }
  for (int32_t i = 0; status == 0 && i < n; i++)
    chain->numbers[chain->n_numbers++] = (int32_t)PyLong_AsLong(PySequence_Fast_GET_ITEM(items, i));
  Py_DECREF(items);
  return status < 0 || PyErr_Occurred() ? -1 : 0;
}

static int read_link(Chain *chain, int32_t *cap, Link *link, PyObject *row) {
  PyObject *list, *operands, *results;
  if (!PyArg_ParseTuple(row, "O!OO;a link is (OpList, operands, results)", fb_api.op_list_type, &list, &operands,
                        &results))
    return -1;
  link->list = (fb_op_list *)list;
  if (link->list->n_symbols > 0) {
    PyErr_SetString(PyExc_ValueError, "[op lists] a list with symbols cannot be run here.");
    return -1;
  }
  if (link->list->n_inputs > chain->most_operands)
    chain->most_operands = link->list->n_inputs;
  if (link->list->n_outputs > chain->most_results)
    chain->most_results = link->list->n_outputs;
  return append(chain, cap, operands, link->list->n_inputs) < 0 ||
                 append(chain, cap, results, link->list->n_outputs) < 0
             ? -1
             : 0;
}

/* Numbers from 0 on, without changing their order. */
static void number_values(Chain *chain) {
  int32_t least = 0, most = -1;
  for (int32_t i = 0; i < chain->n_numbers; i++) {
    least = chain->numbers[i] < least ? chain->numbers[i] : least;
    most = chain->numbers[i] > most ? chain->numbers[i] : most;
  }
  for (int32_t i = 0; i < chain->n_numbers; i++)
    chain->numbers[i] -= least;
  chain->n_values = most - least + 1;
}

static void find_last_uses(Chain *chain) {
  const int32_t *next = chain->numbers + chain->n_inputs;
  for (int32_t i = 0; i < chain->n_links; i++) {
    Link *link = &chain->links[i];
    link->operands = next;
    link->results = next + link->list->n_inputs;
    next = link->results + link->list->n_outputs;
    for (const int32_t *v = link->operands; v < next; v++)
      chain->values[*v].last = i;
  }
  for (int32_t i = 0; i < chain->n_outputs; i++)
    chain->values[next[i]].last = chain->n_links;
}

static int chain_read(Chain *chain, PyObject *links, PyObject *entered, PyObject *outputs) {
  int32_t cap = 0;
  chain->n_links = (int32_t)PyTuple_GET_SIZE(links);
  chain->links = PyMem_Calloc((size_t)chain->n_links + 1, sizeof *chain->links);
  if (chain->links == NULL)
    return PyErr_NoMemory(), -1;
  if (append(chain, &cap, entered, -1) < 0)
    return -1;
  chain->n_inputs = chain->n_numbers;
  for (int32_t i = 0; i < chain->n_links; i++)
    if (read_link(chain, &cap, &chain->links[i], PyTuple_GET_ITEM(links, i)) < 0)
      return -1;
  int32_t before = chain->n_numbers;
  if (append(chain, &cap, outputs, -1) < 0)
    return -1;
  chain->n_outputs = chain->n_numbers - before;
  number_values(chain);
  chain->values = PyMem_Calloc((size_t)chain->n_values + 1, sizeof *chain->values);
  chain->cells = PyMem_Calloc((size_t)chain->n_inputs + 1, sizeof *chain->cells);
  if (chain->values == NULL || chain->cells == NULL)
    return PyErr_NoMemory(), -1;
  find_last_uses(chain);
  return 0;
}

static int take_inputs(Chain *chain, PyObject *given) {
  if (PyTuple_GET_SIZE(given) != chain->n_inputs) {
    PyErr_Format(PyExc_ValueError, "[op lists] %zd inputs are given for %d numbers.", PyTuple_GET_SIZE(given),
                 (int)chain->n_inputs);
    return -1;
  }
  for (int32_t i = 0; i < chain->n_inputs; i++) {
    fb_input input = {0};
    if (fb_read_input(PyTuple_GET_ITEM(given, i), &input, &chain->cells[i]) < 0)
      return -1;
    Value *v = &chain->values[chain->numbers[i]];
    v->data = input.data;
    v->buffer = input.buffer;
  }
  return 0;
}

/* ---- running ---------------------------------------------------------------------------------------------- */

static int run_link(Chain *chain, int32_t number, fb_input *inputs, fb_buffer **outputs) {
  const Link *link = &chain->links[number];
  int32_t n_operands = link->list->n_inputs, n_results = link->list->n_outputs;
  for (int32_t k = 0; k < n_operands; k++) {
    const Value *v = &chain->values[link->operands[k]];
    if (v->data == NULL && v->buffer == NULL) {
      PyErr_SetString(PyExc_ValueError, "[op lists] a list reads what is not there.");
      return -1;
    }
    inputs[k] = (fb_input){.data = v->data, .buffer = v->buffer};
  }
  if (fb_op_list_run((PyObject *)link->list, inputs, NULL, outputs) < 0)
    return -1;
  for (int32_t k = 0; k < n_results; k++) {
    Value *v = &chain->values[link->results[k]];
    fb_buffer_release(v->buffer);
    v->buffer = outputs[k];
    v->data = fb_buffer_data(outputs[k]);
  }
  for (int32_t k = 0; k < n_operands + n_results; k++) {
    Value *v = &chain->values[link->operands[k]]; /* the results' numbers follow */
    if (v->last == number) {
      fb_buffer_release(v->buffer);
      v->buffer = NULL;
      v->data = NULL;
    }
  }
  return 0;
}

static int run_links(Chain *chain) {
  fb_input *inputs = PyMem_Calloc((size_t)chain->most_operands + 1, sizeof *inputs);
  fb_buffer **outputs = PyMem_Calloc((size_t)chain->most_results + 1, sizeof *outputs);
  int status = inputs == NULL || outputs == NULL ? (PyErr_NoMemory(), -1) : 0;
  for (int32_t i = 0; status == 0 && i < chain->n_links; i++)
    status = run_link(chain, i, inputs, outputs);
  PyMem_Free(inputs);
  PyMem_Free(outputs);
  return status;
}

static PyObject *take_outputs(Chain *chain) {
  const int32_t *numbers = chain->numbers + chain->n_numbers - chain->n_outputs;
  PyObject *list = PyList_New(chain->n_outputs);
  for (int32_t i = 0; list != NULL && i < chain->n_outputs; i++) {
    fb_buffer *buffer = chain->values[numbers[i]].buffer;
    if (buffer != NULL)
      fb_buffer_retain(buffer);
    else
      PyErr_SetString(PyExc_ValueError, "[op lists] an output was not made.");
    PyObject *output = buffer == NULL ? NULL : fb_buffer_object(buffer, 0);
    if (output == NULL)
      Py_CLEAR(list);
    else
      PyList_SET_ITEM(list, i, output);
  }
  return list;
}

PyObject *fb_run_op_lists(PyObject *module, PyObject *args) {
  (void)module;
  PyObject *rows, *entered, *given, *outputs, *answer = NULL;
  if (!PyArg_ParseTuple(args, "OOOO:run_op_lists", &rows, &entered, &given, &outputs))
    return NULL;
  Chain chain = {0};
  PyObject *links = PySequence_Tuple(rows); /* holds the lists, whatever Python code does meanwhile */
  PyObject *inputs = links == NULL ? NULL : PySequence_Tuple(given);
  if (inputs != NULL && chain_read(&chain, links, entered, outputs) == 0 && take_inputs(&chain, inputs) == 0 &&
      run_links(&chain) == 0)
    answer = take_outputs(&chain);
  for (int32_t i = 0; chain.values != NULL && i < chain.n_values; i++)
    fb_buffer_release(chain.values[i].buffer);
  PyMem_Free(chain.values);
  PyMem_Free(chain.cells);
  PyMem_Free(chain.numbers);
  PyMem_Free(chain.links);
  Py_XDECREF(links);
  Py_XDECREF(inputs);
  return answer;
}
