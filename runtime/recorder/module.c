/* The module flambeau.runtime._recorder: functions on traces, settings, statistics. Next: handles.c. */
#include "module.h"

/* ---- running --------------------------------------------------------------------------------------------- */

static PyObject *do_flush(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  return fb_flush_own(fb_recorder_get()) < 0 ? NULL : Py_NewRef(Py_None);
}

/* Called where programs repeat: a loader's next batch, an outermost module call. With True, the caller finds the trace
 * long enough. */
int fb_flush_point(bool is_long) {
  fb_recorder *rec = fb_recorder_get();
  rec->look_again = UINT32_MAX; /* it says itself where it repeats */
  is_long |= rec->new_leaves || fb_trace_is_long(rec) || fb_imports_nest(rec);
  return is_long ? fb_cut(rec) : 0;
}

static PyObject *flush_point(PyObject *module, PyObject *const *args, Py_ssize_t n) {
  (void)module;
  return fb_flush_point(n && args[0] == Py_True) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *flush_if_pending(PyObject *module, PyObject *o) {
  (void)module;
  fb_tensor *t = fb_as_tensor(o, "flush_if_pending");
  if (!t)
    return NULL;
  bool pending = fb_cell_owed(t->cell);
  return fb_flush_cell(t->cell) < 0 ? NULL : PyBool_FromLong(pending);
}

static PyObject *realize(PyObject *module, PyObject *o) {
  (void)module;
  fb_tensor *t = fb_as_tensor(o, "realize");
  if (!t)
    return NULL;
  fb_learning_spoil();
  fb_cell *c = t->cell;
  c->refs++; /* another thread may assign to the tensor's `data` */
  PyObject *buffer = NULL;
  int status = fb_flush_cell(c);
  if (status == 0 && c->buffer) {
    fb_buffer_retain(c->buffer);
    buffer = fb_buffer_to_python(c->buffer);
  } else if (status == 0) {
    fb_cell_raise(c);
  }
  fb_cell_release(c);
  return buffer;
}

static PyObject *set_mode(PyObject *module, PyObject *bits) {
  (void)module;
  unsigned long mode = PyLong_AsUnsignedLong(bits);
  if (PyErr_Occurred())
    return NULL;
  if (mode >= 1u << FB_MODE_BITS)
    return PyErr_Format(PyExc_ValueError, "[set_mode] a mode has 12 bits, got %lu.", mode);
  fb_recorder *rec = fb_recorder_get();
  uint32_t old = rec->mode;
  rec->mode = (uint32_t)mode;
  return PyLong_FromUnsignedLong(old);
}

static PyObject *get_mode(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  return PyLong_FromUnsignedLong(fb_recorder_get()->mode);
}

/* ---- settings -------------------------------------------------------------------------------------------- */

static PyObject *set_slot(PyObject *module, PyObject *args) {
  PyObject *name, *callable, *old;
  (void)module;
  if (!PyArg_ParseTuple(args, "UO:set_slot", &name, &callable) || fb_slots_register(name, callable, &old) < 0)
    return NULL;
  return old;
}

static PyObject **hook_named(PyObject *name) {
#define FB_NAMED(field)                                                                                                \
  if (PyUnicode_CompareWithASCIIString(name, #field) == 0)                                                             \
    return &fb_hooks.field;
  FB_HOOKS(FB_NAMED)
  PyErr_Format(PyExc_TypeError, "[set_hooks] there is no hook '%U'.", name);
  return NULL;
}

static PyObject *set_hooks(PyObject *module, PyObject *args, PyObject *kwargs) {
  PyObject *name, *hook;
  Py_ssize_t at = 0;
  (void)module;
  if (PyTuple_GET_SIZE(args))
    return PyErr_Format(PyExc_TypeError, "[set_hooks] pass hooks by keyword.");
  fb_memo_clear();
  PyObject *before = PyDict_New();
  while (before && kwargs && PyDict_Next(kwargs, &at, &name, &hook)) {
    PyObject **place = hook_named(name);
    if (!place || PyDict_SetItem(before, name, *place ? *place : Py_None) < 0)
      Py_CLEAR(before);
    else
      Py_XSETREF(*place, hook == Py_None ? NULL : Py_NewRef(hook));
  }
  return before;
}

static PyObject *set_limits(PyObject *module, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"max_ops", "soft_ops",     "max_bytes", "max_states",     "max_ns",
                          "soft_ns", "max_programs", "max_types", "soft_backwards", NULL};
  Py_ssize_t ops = fb_limits.max_ops, soft = fb_limits.soft_ops, bytes = (Py_ssize_t)fb_limits.max_bytes;
  Py_ssize_t states = fb_limits.max_states, ns = (Py_ssize_t)fb_limits.max_ns, soft_ns = (Py_ssize_t)fb_limits.soft_ns;
  Py_ssize_t programs = fb_limits.max_programs, types = fb_limits.max_types, backwards = fb_limits.soft_backwards;
  (void)module;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$nnnnnnnnn:set_limits", names, &ops, &soft, &bytes, &states, &ns,
                                   &soft_ns, &programs, &types, &backwards))
    return NULL;
  if (ops < 1 || soft < 1 || bytes < 1 || states < 1 || ns < 1 || soft_ns < 1 || programs < 1 || types < 1 ||
      backwards < 1)
    return PyErr_Format(PyExc_ValueError, "[set_limits] limits must be positive.");
  fb_limits = (fb_limits_t){.max_ops = (uint32_t)ops,
                            .soft_ops = (uint32_t)soft,
                            .max_states = (uint32_t)states,
                            .max_programs = (uint32_t)programs,
                            .max_types = (uint32_t)types,
                            .soft_backwards = (uint32_t)backwards,
                            .max_bytes = (size_t)bytes,
                            .max_ns = (uint64_t)ns,
                            .soft_ns = (uint64_t)soft_ns};
  fb_trie_collect_soon(); /* what is there may be too much by the new ones */
  fb_types_collect_soon();
  fb_statics_collect_soon();
  fb_views_collect_soon();
  Py_RETURN_NONE;
}

static PyObject *set_shadow(PyObject *module, PyObject *on) {
  (void)module;
  int truth = PyObject_IsTrue(on);
  if (truth < 0)
    return NULL;
  fb_shadow = truth;
  Py_RETURN_NONE;
}

static PyObject *explain_log(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  return fb_explain_events();
}

static PyObject *stats(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  fb_recorder *rec = fb_recorder_get();
  fb_kept kept = fb_kept_for_gradients();
  return Py_BuildValue("{sK sK sK sK sK sK sK sI sI sI sI sI sK sI sI sK sK sK}", "hits", fb_stats.hits, "misses",
                       fb_stats.misses, "flushes", fb_stats.flushes, "failures", fb_stats.failures, "builds",
                       fb_stats.builds, "patterns", fb_stats.patterns, "copied", fb_stats.copied, "states",
                       fb_trie_states(), "programs", fb_trie_programs(), "types", fb_type_count(), "statics",
                       fb_static_count(), "views", fb_view_count(), "live_cells", fb_live_cells(), "pending_ops",
                       rec->state->depth, "pending_slots", rec->n_slots, "histories", kept.segments, "kept_values",
                       kept.values, "kept_bytes", kept.bytes);
}

static PyObject *flush_all(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  return fb_flush_all() < 0 ? NULL : Py_NewRef(Py_None);
}

/* With False, what was counted stays. */
static PyObject *clear(PyObject *module, PyObject *const *args, Py_ssize_t n) {
  PyObject *done = flush_all(module, NULL);
  fb_memo_clear();
  fb_trie_collect(); /* what a trace that was interrupted stands on stays */
  if (!n || args[0] != Py_False)
    fb_stats = (fb_counters){0};
  return done;
}

static PyObject *after_fork(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  fb_recorders_after_fork();
  Py_RETURN_NONE;
}

static PyObject *flush_count(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  return PyLong_FromUnsignedLongLong(fb_stats.flushes);
}

#define FLUSH_DOC PyDoc_STR("flush()\n--\n\nRun what this thread has recorded.")
#define LIMITS_DOC                                                                                                     \
  PyDoc_STR(                                                                                                           \
      "set_limits(*, max_ops=None, soft_ops=None, max_bytes=None, max_states=None, max_ns=None, soft_ns=None, "        \
      "max_programs=None, max_types=None, soft_backwards=None)\n--\n\nHow much a thread records before it runs: "      \
      "calls, bytes of their "                                                                                         \
      "results, "                                                                                                      \
      "estimated nanoseconds; "                                                                                        \
      "the soft "                                                                                                      \
      "ones where the program repeats itself. `max_states`: how many recordings are remembered, "                      \
      "and `max_programs`: how many programs of them. Beyond that those that nobody is in the middle of are "          \
      "forgotten. `max_types`: how many types of tensors (a shape, dtype, device), static arguments and views are "    \
      "remembered of each; beyond that those are forgotten that no tensor, view or recording has. `soft_backwards`: "  \
      "how many "                                                                                                      \
      "equal rounds of a loop that "                                                                                   \
      "accumulates gradients are one program; more rounds are further ones like it.")
#define ITEM_DOC                                                                                                       \
  PyDoc_STR(                                                                                                           \
      "item(self)\n--\n\n"                                                                                             \
      "The only element as a Python number of the matching kind. Raises RuntimeError for more elements or none.")
#define TOLIST_DOC                                                                                                     \
  PyDoc_STR("tolist(self)\n--\n\nThe elements as nested lists of Python numbers; a number for a 0-d tensor.")
#define FB_KEYWORDS(f) (PyCFunction)(void (*)(void))(f), METH_VARARGS | METH_KEYWORDS
#define FB_FAST(f) (PyCFunction)(void (*)(void))(f), METH_FASTCALL
static PyMethodDef methods[] = {{"flush", do_flush, METH_NOARGS, FLUSH_DOC},
                                {"flush_all", flush_all, METH_NOARGS, NULL},
                                {"abandon", fb_py_abandon, METH_O, NULL},
                                {"if_lost", fb_py_if_lost, METH_VARARGS, NULL},
                                {"together", fb_py_together, METH_O, NULL},
                                {"intercept", fb_py_intercept, METH_VARARGS, NULL},
                                {"alias", fb_py_alias, METH_VARARGS, NULL},
                                {"flush_if_pending", flush_if_pending, METH_O, NULL},
                                {"flush_point", FB_FAST(flush_point), NULL},
                                {"flush_count", flush_count, METH_NOARGS, NULL},
                                {"_after_fork", after_fork, METH_NOARGS, NULL},
                                {"realize", realize, METH_O, NULL},
                                {"item", fb_py_item, METH_O, ITEM_DOC},
                                {"tolist", fb_py_tolist, METH_O, TOLIST_DOC},
                                {"to_bool", fb_py_to_bool, METH_O, NULL},
                                {"to_int", fb_py_to_int, METH_O, NULL},
                                {"to_float", fb_py_to_float, METH_O, NULL},
                                {"to_index", fb_py_to_index, METH_O, NULL},
                                {"memory", fb_py_memory, METH_O, NULL},
                                {"strides", fb_py_strides, METH_O, NULL},
                                {"literal", FB_FAST(fb_py_literal), NULL},
                                {"set_mode", set_mode, METH_O, NULL},
                                {"get_mode", get_mode, METH_NOARGS, NULL},
                                {"tensor_from_buffer", FB_KEYWORDS(fb_py_tensor_from_buffer), NULL},
                                {"array_on", fb_py_array_on, METH_O, NULL},
                                {"tell_address", fb_py_tell_address, METH_O, NULL},
                                {"tensor_on", FB_FAST(fb_py_tensor_on), NULL},
                                {"move_storage", fb_py_move_storage, METH_VARARGS, NULL},
                                {"make_leaf", fb_py_make_leaf, METH_VARARGS, NULL},
                                {"set_requires_grad", fb_py_set_requires_grad, METH_VARARGS, NULL},
                                {"set_cell", fb_py_set_cell, METH_VARARGS, NULL},
                                {"not_recalled", fb_py_not_recalled, METH_NOARGS, NULL},
                                {"is_lone_view", fb_py_is_lone_view, METH_O, NULL},
                                {"is_part", fb_py_is_part, METH_O, NULL},
                                {"set_apart", fb_py_set_apart, METH_O, NULL},
                                {"is_of_leaf", fb_py_is_of_leaf, METH_O, NULL},
                                {"view_info", fb_py_view_info, METH_O, NULL},
                                {"same_storage", fb_py_same_storage, METH_VARARGS, NULL},
                                {"set_shared", fb_py_set_shared, METH_VARARGS, NULL},
                                {"is_shared", fb_py_is_shared, METH_O, NULL},
                                {"slot_for_tensor", fb_py_slot_for_tensor, METH_O, NULL},
                                {"backward", FB_KEYWORDS(fb_backward), NULL},
                                {"grad_entry", FB_KEYWORDS(fb_grad_entry), NULL},
                                {"replace_grad", fb_py_replace_grad, METH_VARARGS, NULL},
                                {"free_history", fb_py_free_history, METH_O, NULL},
                                {"mark_history", fb_py_mark_history, METH_VARARGS, NULL},
                                {"track", fb_py_track, METH_O, NULL},
                                {"trace_marks", fb_py_trace_marks, METH_NOARGS, NULL},
                                {"known_history", fb_py_known_history, METH_O, NULL},
                                {"import_history", fb_py_import_history, METH_O, NULL},
                                {"tensor_for_slot", fb_py_tensor_for_slot, METH_O, NULL},
                                {"trace_export", fb_py_trace_export, METH_NOARGS, NULL},
                                {"trace_notes", fb_py_trace_notes, METH_NOARGS, NULL},
                                {"trace_leaves", fb_py_trace_leaves, METH_NOARGS, NULL},
                                {"trace_sizes", fb_py_trace_sizes, METH_NOARGS, NULL},
                                {"trace_key", fb_py_trace_key, METH_NOARGS, NULL},
                                {"trace_returns", fb_py_trace_returns, METH_NOARGS, NULL},
                                {"trace_equations", fb_py_trace_equations, METH_O, NULL},
                                {"trace_scalar", fb_py_trace_scalar, METH_O, NULL},
                                {"trace_scalars", fb_py_trace_scalars, METH_NOARGS, NULL},
                                {"is_entered", fb_py_is_entered, METH_O, NULL},
                                {"tree_tensors", fb_py_tree_tensors, METH_O, NULL},
                                {"tree_mapped", FB_FAST(fb_py_tree_mapped), NULL},
                                {"tree_changed", FB_FAST(fb_py_tree_changed), NULL},
                                {"set_slot", set_slot, METH_VARARGS, NULL},
                                {"set_hooks", FB_KEYWORDS(set_hooks), NULL},
                                {"set_limits", FB_KEYWORDS(set_limits), LIMITS_DOC},
                                {"set_shadow", set_shadow, METH_O, NULL},
                                {"explain_log", explain_log, METH_NOARGS, NULL},
                                {"held", FB_FAST(fb_held), NULL},
                                {"stats", stats, METH_NOARGS, NULL},
                                {"region_begin", fb_py_region_begin, METH_O, NULL},
                                {"region_draws", fb_py_region_draws, METH_NOARGS, NULL},
                                {"region_drawn", fb_py_region_drawn, METH_NOARGS, NULL},
                                {"region_inputs", fb_py_region_inputs, METH_NOARGS, NULL},
                                {"region_end", fb_py_region_end, METH_NOARGS, NULL},
                                {"capture_begin", fb_py_capture_begin, METH_NOARGS, NULL},
                                {"capture_open", fb_py_capture_open, METH_NOARGS, NULL},
                                {"capture_end", fb_py_capture_end, METH_NOARGS, NULL},
                                {"capture_read", fb_py_capture_read, METH_NOARGS, NULL},
                                {"capture_changes", fb_py_capture_changes, METH_NOARGS, NULL},
                                {"capture_note", fb_py_capture_note, METH_VARARGS, NULL},
                                {"capture_outside", fb_py_capture_outside, METH_O, NULL},
                                {"capturing", fb_py_capturing, METH_NOARGS, NULL},
                                {"leaf_of", fb_py_leaf_of, METH_O, NULL},
                                {"clear", FB_FAST(clear), NULL},
                                {NULL, NULL, 0, NULL}};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                                        "flambeau.runtime._recorder",
                                        "The trace recorder; see recorder.py.",
                                        -1,
                                        methods,
                                        NULL,
                                        NULL,
                                        NULL,
                                        NULL};

PyMODINIT_FUNC PyInit__recorder(void) {
  PyObject *module = PyModule_Create(&definition);
  if (!module)
    return NULL;
  if (fb_buffers_init() < 0 || fb_tensor_init(module, fb_operator_slots, fb_operator_slot_count()) < 0 ||
      fb_function_init(module) < 0 || fb_stream_init(module) < 0 || fb_program_init(module) < 0 ||
      fb_history_init() < 0 || fb_holders_init() < 0 || fb_public_init(module) < 0 || fb_shape_init(module) < 0 ||
      fb_threads_init(module) < 0 || fb_mode_add_types(module) < 0 || fb_forward_init(module) < 0 || !fb_trie_root()) {
    Py_DECREF(module);
    return NULL;
  }
  return module;
}
