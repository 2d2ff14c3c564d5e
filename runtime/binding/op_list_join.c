/* Op lists one after the other as one list, such as the calls of a trace: each reads what those before it made. Values
 * are given any numbers, by which lists name what they read and make. Next: op_list_run.c. */
#include "op_list.h"

#include <string.h>

typedef struct {
  fb_op_list *list;
  const int32_t *operands, *results;
} Link;

typedef struct {
  Link *links;
  int32_t *numbers;  /* of all values that are named, in order: of inputs, of links, of outputs */
  int32_t *at;       /* by number: the value of the whole list, or -1 */
  int32_t *inner;    /* by value of the list that is being copied: the same */
  fb_op_list *whole; /* what is made */
  int32_t n_links, n_numbers, n_names, n_inner, n_outputs, n_ops, n_exprs;
} Join;

/* ---- reading ---------------------------------------------------------------------------------------------- */

static int append(Join *join, int32_t *cap, PyObject *numbers, int32_t expected) {
  PyObject *items = PySequence_Fast(numbers, "[op lists] numbers must be a sequence.");
  if (items == NULL)
    return -1;
  int32_t n = (int32_t)PySequence_Fast_GET_SIZE(items);
  int status = 0;
  if (expected >= 0 && n != expected) {
    PyErr_Format(PyExc_ValueError, "[op lists] a list of %d values is given %d.", (int)expected, (int)n);
    status = -1;
  }
  if (status == 0 && join->n_numbers + n > *cap) {
    int32_t wanted = 2 * (join->n_numbers + n);
    int32_t *grown = PyMem_Realloc(join->numbers, (size_t)wanted * sizeof *grown);
    if (grown == NULL)
      status = (PyErr_NoMemory(), -1);
    else
      join->numbers = grown, *cap = wanted;
  }
  for (int32_t i = 0; status == 0 && i < n; i++)
    join->numbers[join->n_numbers++] = (int32_t)PyLong_AsLong(PySequence_Fast_GET_ITEM(items, i));
  Py_DECREF(items);
  return status < 0 || PyErr_Occurred() ? -1 : 0;
}

static int read_link(Join *join, int32_t *cap, Link *link, PyObject *row) {
  PyObject *object, *operands, *results;
  if (!PyArg_ParseTuple(row, "O!OO;a link is (OpList, operands, results)", fb_api.op_list_type, &object, &operands,
                        &results))
    return -1;
  fb_op_list *list = link->list = (fb_op_list *)object;
  if (list->n_symbols > 0) {
    PyErr_SetString(PyExc_ValueError, "[op lists] a list with symbols cannot be joined.");
    return -1;
  }
  if (list->n_values > join->n_inner)
    join->n_inner = list->n_values;
  join->n_ops += list->n_ops;
  join->n_exprs += list->n_exprs;
  return append(join, cap, operands, list->n_inputs) < 0 || append(join, cap, results, list->n_outputs) < 0 ? -1 : 0;
}

/* Numbers from 0 on. */
static void renumber(Join *join) {
  int32_t least = 0, most = -1;
  for (int32_t i = 0; i < join->n_numbers; i++) {
    least = join->numbers[i] < least ? join->numbers[i] : least;
    most = join->numbers[i] > most ? join->numbers[i] : most;
  }
  for (int32_t i = 0; i < join->n_numbers; i++)
    join->numbers[i] -= least;
  join->n_names = most - least + 1;
}

static int read_links(Join *join, PyObject *links, PyObject *entered, PyObject *outputs) {
  int32_t cap = 0;
  join->n_links = (int32_t)PyTuple_GET_SIZE(links);
  join->links = PyMem_Calloc((size_t)join->n_links + 1, sizeof *join->links);
  if (join->links == NULL)
    return PyErr_NoMemory(), -1;
  if (append(join, &cap, entered, -1) < 0)
    return -1;
  join->whole->n_inputs = join->n_numbers;
  for (int32_t i = 0; i < join->n_links; i++)
    if (read_link(join, &cap, &join->links[i], PyTuple_GET_ITEM(links, i)) < 0)
      return -1;
  int32_t before = join->n_numbers;
  if (append(join, &cap, outputs, -1) < 0)
    return -1;
  join->n_outputs = join->n_numbers - before;
  renumber(join);
  const int32_t *next = join->numbers + join->whole->n_inputs;
  for (int32_t i = 0; i < join->n_links; i++) {
    Link *link = &join->links[i];
    link->operands = next;
    link->results = next + link->list->n_inputs;
    next = link->results + link->list->n_outputs;
  }
  return 0;
}

/* ---- copying ---------------------------------------------------------------------------------------------- */

/* Numbers of a list as those of the whole; NULL and an exception where there is no memory. */
static int32_t *mapped(const int32_t *numbers, int32_t n, const int32_t *map, int32_t shift) {
  int32_t *found = PyMem_Malloc(((size_t)n + 1) * sizeof *found);
  for (int32_t i = 0; found != NULL && i < n; i++)
    found[i] = (map == NULL ? numbers[i] : map[numbers[i]]) + shift;
  return found == NULL ? (int32_t *)PyErr_NoMemory() : found;
}

static int copy_op(Join *join, fb_op_list *list, int32_t number, fb_op *to, int32_t shift) {
  const fb_op *from = &list->ops[number];
  for (int32_t i = 0; i < from->n_results; i++)
    join->inner[from->results[i]] = join->whole->n_values++;
  *to = (fb_op){.n_operands = from->n_operands, .n_results = from->n_results, .n_symbols = from->n_symbols};
  to->is_quick = from->is_quick;
  to->source = Py_NewRef(from->source == NULL ? (PyObject *)list : from->source);
  to->number = from->source == NULL ? number : from->number;
  to->call = Py_NewRef(from->call);
  to->small = Py_XNewRef(from->small);
  if ((to->plan = from->plan) != NULL)
    fb_plan_retain(to->plan);
  to->operands = mapped(from->operands, from->n_operands, join->inner, 0);
  to->results = to->operands == NULL ? NULL : mapped(from->results, from->n_results, join->inner, 0);
  to->symbols = to->results == NULL ? NULL : mapped(from->symbols, from->n_symbols, NULL, shift);
  return to->symbols == NULL ? -1 : 0;
}

static int copy_list(Join *join, const Link *link) {
  fb_op_list *list = link->list, *whole = join->whole;
  for (int32_t i = 0; i < list->n_inputs; i++)
    if ((join->inner[i] = join->at[link->operands[i]]) < 0) {
      PyErr_SetString(PyExc_ValueError, "[op lists] a list reads what is not there.");
      return -1;
    }
  int32_t shift = whole->n_exprs;
  for (int32_t i = 0; i < list->n_exprs; i++) {
    fb_expr *expr = &whole->exprs[whole->n_exprs++];
    *expr = list->exprs[i];
    if (expr->op != FB_X_CONST && expr->op != FB_X_SYMBOL)
      expr->a += shift, expr->b += shift;
  }
  for (int32_t i = 0; i < list->n_ops; i++)
    if (copy_op(join, list, i, &whole->ops[whole->n_ops++], shift) < 0)
      return -1;
  for (int32_t i = 0; i < list->n_outputs; i++)
    join->at[link->results[i]] = join->inner[list->outputs[i]];
#define LARGER(most)                                                                                                   \
  if (list->most > whole->most)                                                                                        \
  whole->most = list->most
  whole->is_whole &= list->is_whole;
  LARGER(most_operands);
  LARGER(most_results);
  LARGER(most_symbols);
#undef LARGER
  return 0;
}

static int copy_lists(Join *join) {
  fb_op_list *whole = join->whole;
  whole->ops = PyMem_Calloc((size_t)join->n_ops + 1, sizeof *whole->ops);
  whole->exprs = PyMem_Calloc((size_t)join->n_exprs + 1, sizeof *whole->exprs);
  join->at = PyMem_Malloc(((size_t)join->n_names + 1) * sizeof *join->at);
  join->inner = PyMem_Malloc(((size_t)join->n_inner + 1) * sizeof *join->inner);
  if (whole->ops == NULL || whole->exprs == NULL || join->at == NULL || join->inner == NULL)
    return PyErr_NoMemory(), -1;
  memset(join->at, -1, (size_t)join->n_names * sizeof *join->at);
  for (int32_t i = 0; i < whole->n_inputs; i++)
    join->at[join->numbers[i]] = i;
  whole->n_values = whole->n_inputs;
  whole->is_whole = true;
  for (int32_t i = 0; i < join->n_links; i++)
    if (copy_list(join, &join->links[i]) < 0)
      return -1;
  return 0;
}

static int find_outputs(Join *join) {
  fb_op_list *whole = join->whole;
  const int32_t *names = join->numbers + join->n_numbers - join->n_outputs;
  whole->n_outputs = join->n_outputs;
  if ((whole->outputs = mapped(names, join->n_outputs, join->at, 0)) == NULL)
    return -1;
  for (int32_t i = 0; i < join->n_outputs; i++)
    if (whole->outputs[i] < 0) {
      PyErr_SetString(PyExc_ValueError, "[op lists] an output was not made.");
      return -1;
    }
  return 0;
}

/* What each op is the last to read or make. */
static int find_dead(fb_op_list *whole) {
  char *is_needed = PyMem_Calloc((size_t)whole->n_values + 1, 1);
  if (is_needed == NULL)
    return PyErr_NoMemory(), -1;
  for (int32_t i = 0; i < whole->n_outputs; i++)
    is_needed[whole->outputs[i]] = 1;
  for (int32_t i = whole->n_ops - 1; i >= 0; i--) {
    fb_op *op = &whole->ops[i];
    op->dead = PyMem_Malloc(((size_t)(op->n_results + op->n_operands) + 1) * sizeof *op->dead);
    if (op->dead == NULL) {
      PyMem_Free(is_needed);
      return PyErr_NoMemory(), -1;
    }
    for (int32_t k = 0; k < op->n_results + op->n_operands; k++) {
      int32_t v = k < op->n_results ? op->results[k] : op->operands[k - op->n_results];
      if (!is_needed[v])
        op->dead[op->n_dead++] = v;
      is_needed[v] = 1;
    }
  }
  PyMem_Free(is_needed);
  return 0;
}

PyObject *fb_join_op_lists(PyObject *module, PyObject *args) {
  (void)module;
  PyObject *rows, *entered, *outputs;
  if (!PyArg_ParseTuple(args, "OOO:join_op_lists", &rows, &entered, &outputs))
    return NULL;
  PyObject *links = PySequence_Tuple(rows); /* holds the lists, whatever Python code does meanwhile */
  Join join = {.whole = links == NULL ? NULL : fb_op_list_new(Py_None)};
  if (join.whole != NULL && (read_links(&join, links, entered, outputs) < 0 || copy_lists(&join) < 0 ||
                             find_outputs(&join) < 0 || find_dead(join.whole) < 0))
    Py_CLEAR(join.whole);
  PyMem_Free(join.links);
  PyMem_Free(join.numbers);
  PyMem_Free(join.at);
  PyMem_Free(join.inner);
  Py_XDECREF(links);
  return (PyObject *)join.whole;
}
