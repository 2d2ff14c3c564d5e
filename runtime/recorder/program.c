/* Program: what runs for one trace state and its outputs. A Plan or an OpList runs in C, anything else is called. */
#include "capture.h"
#include <structmember.h>
#include <stddef.h>

PyTypeObject *fb_program_type;

#define FEW_INPUTS 64
#define FB_MOST_EARLIER 15    /* sizes at which a trace that is run op by op has a list, but for the latest */
#define FB_LONG_RUN_NS 100000 /* plans that take longer, or loop, let other threads run meanwhile */

static bool is_long(const fb_program *p, const fb_plan *plan, const fb_recorder *rec) {
  return fb_plan_loops(plan) || (p->runs ? p->ns / p->runs : rec->state->ns) > FB_LONG_RUN_NS;
}

static uint64_t now_ns(void) { return (uint64_t)fb_now_ns(); }

/* ---- running --------------------------------------------------------------------------------------------- */

/* Nobody but the trace, and the cell that was overwritten in it, holds the buffer. */
static bool donatable(const fb_program *p, const fb_recorder *rec, const fb_trace_input *in, bool keep) {
  if (in->kind != FB_BUFFER || !fb_buffer_is_pooled(in->buffer))
    return false;
  if (keep && fb_contains(p->residuals, p->n_residuals, in->slot))
    return false;
  int64_t refs = fb_buffer_refs(in->buffer);
  if (!in->cell)
    return refs == 1;
  return refs == 2 && in->cell->epoch == rec->id && in->cell->slot != in->slot;
}

static int compare_input(const void *slot, const void *input) {
  uint32_t a = *(const uint32_t *)slot, b = ((const fb_trace_input *)input)->slot;
  return (a > b) - (a < b);
}

/* Inputs come in the order of their slots. */
const fb_trace_input *fb_input_at(const fb_recorder *rec, uint32_t slot) {
  return rec->n_inputs ? bsearch(&slot, rec->inputs, rec->n_inputs, sizeof *rec->inputs, compare_input) : NULL;
}

static int resolve_inputs(fb_program *p, const fb_recorder *rec) {
  if (!p->inputs || p->index)
    return 0;
  p->index = PyMem_Calloc(p->n_inputs + 1, sizeof *p->index);
  if (!p->index)
    return PyErr_NoMemory(), -1;
  for (uint32_t i = 0; i < p->n_inputs; i++) {
    const fb_trace_input *in = fb_input_at(rec, p->inputs[i]);
    if (!in) {
      PyErr_Format(PyExc_ValueError, "[program] input slot %u is no input of the trace.", p->inputs[i]);
      PyMem_Free(p->index);
      p->index = NULL;
      return -1;
    }
    p->index[i] = (uint32_t)(in - rec->inputs);
  }
  return 0;
}

static PyObject *input_object(const fb_trace_input *in) {
  switch (in->kind) {
  case FB_FLOAT:
    return PyFloat_FromDouble(in->f);
  case FB_INT:
    return PyLong_FromLongLong(in->i);
  case FB_BOOL:
    return PyBool_FromLong(in->i != 0);
  case FB_CONSTANT: /* part of a call's key, and so no input */
  case FB_BUFFER:
    break;
  }
  if (!in->buffer) /* a region's, which is not computed yet */
    return Py_NewRef(Py_None);
  fb_buffer_retain(in->buffer);
  return fb_buffer_to_python(in->buffer);
}

PyObject *fb_input_values(fb_recorder *rec) {
  PyObject *list = PyList_New(rec->n_inputs);
  for (uint32_t i = 0; list && i < rec->n_inputs; i++) {
    PyObject *value = input_object(&rec->inputs[i]),
             *pair = value ? Py_BuildValue("(IN)", rec->inputs[i].slot, value) : NULL;
    if (!pair)
      Py_CLEAR(list);
    else
      PyList_SET_ITEM(list, i, pair);
  }
  return list;
}

static int take_outputs(fb_program *p, PyObject *answer, fb_buffer **outputs) {
  PyObject *list = PySequence_Fast(answer, "[program] an executable returns a list of Buffers.");
  if (!list)
    return -1;
  uint32_t n = p->n_outputs + p->n_residuals;
  int status = 0;
  if (PySequence_Fast_GET_SIZE(list) != n) {
    PyErr_Format(PyExc_ValueError, "[program] the executable returned %zd buffers, the program has %u outputs.",
                 PySequence_Fast_GET_SIZE(list), n);
    status = -1;
  }
  for (uint32_t i = 0; status == 0 && i < n; i++) {
    outputs[i] = fb_buffer_from_python(PySequence_Fast_GET_ITEM(list, i));
    if (outputs[i])
      fb_buffer_retain(outputs[i]);
    else
      status = -1;
  }
  for (uint32_t i = 0; status < 0 && i < n; i++) {
    fb_buffer_release(outputs[i]);
    outputs[i] = NULL;
  }
  Py_DECREF(list);
  return status;
}

static int run_callable(fb_program *p, PyObject *executable, fb_recorder *rec, uint32_t n, bool keep,
                        fb_buffer **outputs) {
  uint32_t n_symbols = rec->state->n_symbols;
  PyObject *sizes = n_symbols ? fb_symbol_tuple(rec->symbols, n_symbols) : NULL;
  PyObject *inputs = PyList_New(n), *donate = PyList_New(n), *answer = NULL;
  for (uint32_t i = 0; inputs && donate && i < n; i++) {
    const fb_trace_input *in = &rec->inputs[p->index ? p->index[i] : i];
    PyList_SET_ITEM(donate, i, PyBool_FromLong(donatable(p, rec, in, keep)));
    PyObject *value = input_object(in);
    if (!value)
      Py_CLEAR(inputs);
    else
      PyList_SET_ITEM(inputs, i, value);
  }
  if (inputs && donate && (sizes || !n_symbols))
    answer = PyObject_CallFunctionObjArgs(executable, inputs, donate, sizes, NULL);
  Py_XDECREF(sizes);
  Py_XDECREF(inputs);
  Py_XDECREF(donate);
  int status = answer ? take_outputs(p, answer, outputs) : -1;
  Py_XDECREF(answer);
  return status;
}

/* The trace's inputs as a plan takes them: in `fixed` where they fit. NULL and an exception on failure. */
static fb_input *gather_inputs(const fb_program *p, fb_recorder *rec, uint32_t n, bool keep, fb_input *fixed) {
  fb_input *inputs = n <= FEW_INPUTS ? fixed : PyMem_Malloc(n * sizeof *inputs);
  if (!inputs)
    return (fb_input *)PyErr_NoMemory();
  for (uint32_t i = 0; i < n; i++) {
    fb_trace_input *in = &rec->inputs[p->index ? p->index[i] : i];
    bool is_buffer = in->kind == FB_BUFFER;
    inputs[i] = (fb_input){.data = is_buffer ? fb_buffer_data(in->buffer) : (void *)&in->i,
                           .buffer = is_buffer ? in->buffer : NULL,
                           .donated = donatable(p, rec, in, keep)};
  }
  return inputs;
}

static int run_plan(fb_program *p, fb_plan *plan, fb_recorder *rec, uint32_t n, bool keep, fb_buffer **outputs) {
  fb_input fixed[FEW_INPUTS], *inputs = gather_inputs(p, rec, n, keep, fixed);
  if (!inputs)
    return -1;
  fb_run run = {.inputs = inputs, .outputs = outputs, .symbols = rec->symbols};
  fb_status status;
  if (is_long(p, plan, rec)) {
    fb_plan_retain(plan); /* the program may be given another one meanwhile */
    Py_BEGIN_ALLOW_THREADS;
    status = fb_plan_run(plan, &run);
    Py_END_ALLOW_THREADS;
    fb_plan_release(plan);
  } else {
    status = fb_plan_run(plan, &run);
  }
  for (uint32_t i = 0; status == FB_OK && i < n; i++)
    if (inputs[i].taken) /* our reference now belongs to an output */
      rec->inputs[p->index ? p->index[i] : i].buffer = NULL;
  if (inputs != fixed)
    PyMem_Free(inputs);
  if (status == FB_OTHER_SIZES && p->fallback)
    return run_callable(p, p->fallback, rec, n, keep, outputs);
  if (status != FB_OK)
    fb_raise_status(status, run.failure);
  return status == FB_OK ? 0 : -1;
}

/* Op by op. From time to time its owner is asked, who may have a plan by now. */
static int run_op_list(fb_program *p, fb_recorder *rec, uint32_t n, bool keep, fb_buffer **outputs) {
  if (FB_UNLIKELY(fb_op_list_asks(p->executable)))
    return run_callable(p, p->fallback, rec, n, keep, outputs);
  fb_input fixed[FEW_INPUTS], *inputs = gather_inputs(p, rec, n, keep, fixed);
  if (!inputs)
    return -1;
  int status = fb_op_list_run(p->executable, inputs, rec->symbols, outputs);
  if (inputs != fixed)
    PyMem_Free(inputs);
  return status;
}

/* The plan to run: the executable, or the first of the others that is for these sizes. NULL: call the executable. */
static fb_plan *choose_plan(const fb_program *p, const int64_t *symbols) {
  fb_plan *first = fb_plan_from_python(p->executable);
  Py_ssize_t n = first && p->others && PyTuple_Check(p->others) ? PyTuple_GET_SIZE(p->others) : 0;
  if (FB_LIKELY(!n) || fb_plan_fits(first, symbols))
    return first;
  for (Py_ssize_t i = 0; i < n; i++) {
    fb_plan *plan = fb_plan_from_python(PyTuple_GET_ITEM(p->others, i));
    if (plan && fb_plan_fits(plan, symbols))
      return plan;
  }
  return first;
}

int fb_program_run(fb_program *p, fb_recorder *rec, bool keep, fb_buffer **outputs) {
  if (resolve_inputs(p, rec) < 0)
    return -1;
  uint32_t n = p->inputs ? p->n_inputs : rec->n_inputs;
  uint64_t start = now_ns();
  fb_plan *plan = choose_plan(p, rec->symbols);
  int status;
  if (FB_LIKELY(plan != NULL))
    status = run_plan(p, plan, rec, n, keep, outputs);
  else if (p->fallback && fb_is_op_list(p->executable))
    status = run_op_list(p, rec, n, keep, outputs);
  else
    status = run_callable(p, p->executable, rec, n, keep, outputs);
  p->runs++;
  p->ns += now_ns() - start;
  return status;
}

bool fb_contains(const uint32_t *sorted, uint32_t n, uint32_t slot) {
  uint32_t low = 0, high = n;
  while (low < high) {
    uint32_t middle = (low + high) / 2;
    if (sorted[middle] < slot)
      low = middle + 1;
    else
      high = middle;
  }
  return low < n && sorted[low] == slot;
}

static bool covers(const uint32_t *has, uint32_t n_has, const uint32_t *wanted, uint32_t n) {
  for (uint32_t i = 0; i < n; i++)
    if (!fb_contains(has, n_has, wanted[i]))
      return false;
  return true;
}

bool fb_program_covers(const fb_program *p, const fb_liveness *found) {
  return covers(p->outputs, p->n_outputs, found->live, found->n_live) &&
         covers(p->history, p->n_history, found->history, found->n_history);
}

static bool is_for(const fb_program *p, const fb_recorder *rec) {
  if (!p->once)
    return true;
  for (uint32_t i = 0; p->lasts && i < rec->state->n_symbols; i++)
    if (p->lasts[i] != rec->symbols[i])
      return false;
  return p->lasts != NULL;
}

/* What all of them have cost goes along with the first. */
static void count_along(fb_program *p, const fb_program *first) {
  p->once = first->once > p->once ? first->once : p->once;
  p->spent = first->spent > p->spent ? first->spent : p->spent;
}

fb_program *fb_program_find(const fb_recorder *rec, const fb_liveness *found) {
  fb_program *first = (fb_program *)rec->state->program, *before = NULL, *p = first;
  while (p && !(is_for(p, rec) && fb_program_covers(p, found))) {
    before = p;
    p = (fb_program *)p->earlier;
  }
  if (p && before) { /* references move, none is made */
    before->earlier = p->earlier;
    p->earlier = (PyObject *)first;
    rec->state->program = (PyObject *)p;
    count_along(p, first);
  }
  return p;
}

/* Let go of those that have not run or are for the sizes of now, and of what has not been used for the longest time. */
static void prune(fb_program *p, const fb_recorder *rec) {
  for (int kept = 0; p->earlier;) {
    fb_program *next = (fb_program *)p->earlier;
    if (kept < FB_MOST_EARLIER && next->lasts && !is_for(next, rec)) {
      p = next;
      kept++;
    } else {
      p->earlier = Py_XNewRef(next->earlier);
      Py_DECREF(next);
    }
  }
}

void fb_program_put(const fb_recorder *rec, fb_program *p) {
  const fb_program *first = (const fb_program *)rec->state->program;
  if (p->once && first && first != p && first->once && !p->earlier) {
    p->earlier = Py_NewRef(rec->state->program);
    count_along(p, first);
    prune(p, rec);
  }
  fb_trie_set_program(rec->state, (PyObject *)p);
}

/* ---- the type -------------------------------------------------------------------------------------------- */

static int read_slots(PyObject *value, uint32_t **slots, uint32_t *n) {
  PyObject *items = PySequence_Fast(value, "[program] slots must be a sequence of ints.");
  if (!items)
    return -1;
  *n = (uint32_t)PySequence_Fast_GET_SIZE(items);
  *slots = PyMem_Calloc(*n + 1, sizeof **slots);
  for (uint32_t i = 0; *slots && i < *n; i++)
    (*slots)[i] = (uint32_t)PyLong_AsUnsignedLong(PySequence_Fast_GET_ITEM(items, i));
  Py_DECREF(items);
  return !*slots ? (PyErr_NoMemory(), -1) : PyErr_Occurred() ? -1 : 0;
}

static bool ascend(const uint32_t *slots, uint32_t n) {
  for (uint32_t i = 1; i < n; i++)
    if (slots[i - 1] >= slots[i])
      return false;
  return true;
}

static PyObject *program_new(PyTypeObject *cls, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"executable",  "output_slots", "updates",  "residual_slots",
                          "input_slots", "watched",      "followed", NULL};
  PyObject *executable, *outputs, *updates = Py_None, *residuals = Py_None, *inputs = Py_None, *watched = Py_None;
  PyObject *followed = Py_None;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|OOOOO:Program", names, &executable, &outputs, &updates, &residuals,
                                   &inputs, &watched, &followed))
    return NULL;
  fb_program *p = (fb_program *)cls->tp_alloc(cls, 0);
  if (!p)
    return NULL;
  p->executable = Py_NewRef(executable);
  p->fallback = fb_plan_from_python(executable) ? NULL : Py_NewRef(executable);
  p->updates = Py_NewRef(updates);
  p->has_history = residuals != Py_None;
  if (read_slots(outputs, &p->outputs, &p->n_outputs) < 0 ||
      (residuals != Py_None && read_slots(residuals, &p->residuals, &p->n_residuals) < 0) ||
      (inputs != Py_None && read_slots(inputs, &p->inputs, &p->n_inputs) < 0) ||
      (watched != Py_None && read_slots(watched, &p->watched, &p->n_watched) < 0) ||
      (followed != Py_None && read_slots(followed, &p->followed, &p->n_followed) < 0))
    Py_CLEAR(p);
  if (p && (!ascend(p->outputs, p->n_outputs) || !ascend(p->residuals, p->n_residuals) ||
            !ascend(p->watched, p->n_watched))) {
    PyErr_SetString(PyExc_ValueError, "[program] output_slots, residual_slots and watched must ascend.");
    Py_CLEAR(p);
  }
  return (PyObject *)p;
}

static int program_traverse(fb_program *p, visitproc visit, void *arg) {
  Py_VISIT(Py_TYPE(p));
  Py_VISIT(p->executable);
  Py_VISIT(p->others);
  Py_VISIT(p->earlier);
  Py_VISIT(p->fallback);
  Py_VISIT(p->updates);
  return 0;
}

static int program_clear(fb_program *p) {
  Py_CLEAR(p->executable);
  Py_CLEAR(p->others);
  Py_CLEAR(p->earlier);
  Py_CLEAR(p->fallback);
  Py_CLEAR(p->updates);
  return 0;
}

static void program_dealloc(fb_program *p) {
  PyTypeObject *type = Py_TYPE(p);
  PyObject_GC_UnTrack(p);
  program_clear(p);
  PyMem_Free(p->outputs);
  PyMem_Free(p->residuals);
  PyMem_Free((void *)p->residual_types);
  PyMem_Free(p->inputs);
  PyMem_Free(p->index);
  PyMem_Free(p->history);
  PyMem_Free(p->watched);
  PyMem_Free(p->followed);
  PyMem_Free(p->lasts);
  fb_flat_free(p);
  type->tp_free(p);
  Py_DECREF(type);
}

static PyObject *get_outputs(fb_program *p, void *closure) {
  (void)closure;
  return fb_slot_tuple(p->outputs, p->n_outputs);
}

static PyObject *get_residuals(fb_program *p, void *closure) {
  (void)closure;
  return p->has_history ? fb_slot_tuple(p->residuals, p->n_residuals) : Py_NewRef(Py_None);
}

static PyObject *get_inputs(fb_program *p, void *closure) {
  (void)closure;
  return p->inputs ? fb_slot_tuple(p->inputs, p->n_inputs) : Py_NewRef(Py_None);
}

static int set_lasts(fb_program *p, PyObject *sizes, void *closure) {
  (void)closure;
  PyMem_Free(p->lasts);
  p->lasts = NULL;
  if (!sizes || sizes == Py_None)
    return 0;
  PyObject *items = PySequence_Fast(sizes, "[program] sizes must be a sequence of ints.");
  Py_ssize_t n = items ? PySequence_Fast_GET_SIZE(items) : 0;
  int64_t *found = items ? PyMem_Calloc((size_t)n + 1, sizeof *found) : NULL;
  for (Py_ssize_t i = 0; found && i < n; i++)
    found[i] = PyLong_AsLongLong(PySequence_Fast_GET_ITEM(items, i));
  Py_XDECREF(items);
  if (PyErr_Occurred() || !found) {
    PyMem_Free(found);
    return PyErr_Occurred() ? -1 : (PyErr_NoMemory(), -1);
  }
  p->lasts = found;
  return 0;
}

static PyObject *get_earlier(fb_program *p, void *closure) {
  (void)closure;
  return Py_NewRef(p->earlier ? p->earlier : Py_None);
}

static int set_earlier(fb_program *p, PyObject *none, void *closure) {
  (void)closure;
  if (none && none != Py_None) {
    PyErr_SetString(PyExc_TypeError, "[program] earlier can only be set to None.");
    return -1;
  }
  Py_CLEAR(p->earlier);
  return 0;
}

static PyGetSetDef program_getset[] = {
    {"earlier", (getter)get_earlier, (setter)set_earlier,
     "Where it is for once: the Program that ran before at other sizes; None lets it go, and those before it.", NULL},
    {"lasts", NULL, (setter)set_lasts,
     "Where it is for once: the values of the symbols for which no other program is asked for yet, or None.", NULL},
    {"output_slots", (getter)get_outputs, NULL, "Slots of the outputs, ascending.", NULL},
    {"residual_slots", (getter)get_residuals, NULL,
     "Further outputs, which backward() needs; None: no history was asked for.", NULL},
    {"input_slots", (getter)get_inputs, NULL, "Slots of the inputs; None: all.", NULL},
    {NULL, NULL, NULL, NULL, NULL}};
static PyMemberDef program_members[] = {
    {"executable", T_OBJECT, offsetof(fb_program, executable), 0, "A Plan, an OpList or a callable; may be replaced."},
    {"others", T_OBJECT, offsetof(fb_program, others), 0, "A tuple of Plans for other sizes, or None."},
    {"once", T_UBYTE, offsetof(fb_program, once), 0,
     "How often the trace was run by programs after which another one is asked for, with this one; 0: it stays."},
    {"spent", T_ULONGLONG, offsetof(fb_program, spent), 0, "Nanoseconds that making and running such programs took."},
    {"updates", T_OBJECT, offsetof(fb_program, updates), 0, "Whatever the frontend stores."},
    {"runs", T_ULONGLONG, offsetof(fb_program, runs), 0, "How often it ran."},
    {"ns", T_ULONGLONG, offsetof(fb_program, ns), 0, "Nanoseconds spent in it."},
    {NULL, 0, 0, 0, NULL}};
static PyType_Slot program_slots[] = {{Py_tp_new, program_new},
                                      {Py_tp_dealloc, program_dealloc},
                                      {Py_tp_traverse, program_traverse},
                                      {Py_tp_clear, program_clear},
                                      {Py_tp_getset, program_getset},
                                      {Py_tp_members, program_members},
                                      {0, NULL}};
static PyType_Spec program_spec = {"flambeau.runtime._recorder.Program", sizeof(fb_program), 0,
                                   Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, program_slots};

int fb_program_init(PyObject *module) {
  fb_program_type = (PyTypeObject *)PyType_FromSpec(&program_spec);
  return fb_program_type ? PyModule_AddObjectRef(module, "Program", (PyObject *)fb_program_type) : -1;
}
