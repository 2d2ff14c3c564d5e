/* Function: what users call. Binds arguments, interns statics, hands over to record.c or view.c. */
#include "call.h"
#include <structmember.h>
#include <stddef.h>

PyTypeObject *fb_function_type;
static PyObject *required;        /* the REQUIRED marker */
static uint32_t n_functions = 16; /* small ids are header words of other entries */

static const char *const kind_names[] = {"tensor", "operand", "tensors", "optional", "number",
                                         "stream", "static",  "starts",  "default",  "size"};
static const char *const function_kinds[] = {"pure", "view", "inplace"};
static const char *const wanted[] = {"a Tensor",
                                     "a Tensor or a number",
                                     "a sequence of Tensors",
                                     "a Tensor or None",
                                     "a number",
                                     "a Generator",
                                     "",
                                     "a tuple of ints",
                                     ""};

/* ---- arguments ------------------------------------------------------------------------------------------- */

static int keyword_error(fb_function *f, PyObject *keyword) {
  PyObject *names = PyTuple_New(f->n_params), *separator = PyUnicode_FromString(", ");
  for (uint32_t i = 0; names && i < f->n_params; i++)
    PyTuple_SET_ITEM(names, i, Py_NewRef(f->param[i].name));
  PyObject *list = names && separator ? PyUnicode_Join(separator, names) : NULL;
  if (list)
    PyErr_Format(PyExc_TypeError, "[%U] there is no argument '%U'. It takes: %U.", f->name, keyword, list);
  Py_XDECREF(names);
  Py_XDECREF(separator);
  Py_XDECREF(list);
  return -1;
}

static bool is_spelling(const fb_param *p, PyObject *keyword) {
  for (Py_ssize_t i = 0; p->spellings && i < PyTuple_GET_SIZE(p->spellings); i++)
    if (PyUnicode_Compare(PyTuple_GET_ITEM(p->spellings, i), keyword) == 0)
      return true;
  return false;
}

/* The parameter of a keyword that is not the very string of a name: another string, or another spelling. */
static FB_NOINLINE uint32_t find_spelled(const fb_function *f, PyObject *keyword) {
  uint32_t i = 0;
  while (i < f->n_params && PyUnicode_Compare(f->param[i].name, keyword) != 0)
    i++;
  for (uint32_t k = 0; i == f->n_params && k < f->n_params; k++)
    if (is_spelling(&f->param[k], keyword))
      return k;
  return i;
}

static int bind_keyword(fb_function *f, PyObject **values, PyObject *keyword, PyObject *value) {
  uint32_t i = 0;
  while (i < f->n_params && f->param[i].name != keyword)
    i++;
  if (FB_UNLIKELY(i == f->n_params) && (i = find_spelled(f, keyword)) == f->n_params)
    return keyword_error(f, keyword);
  if (FB_UNLIKELY(values[i] != NULL)) {
    PyErr_Format(PyExc_TypeError, "[%U] argument '%U' was given twice.", f->name, f->param[i].name);
    return -1;
  }
  values[i] = value;
  return 0;
}

static int count_error(fb_function *f, Py_ssize_t n) {
  if (f->otherwise) { /* no message that nobody sees */
    PyErr_SetNone(PyExc_TypeError);
    return -1;
  }
  PyErr_Format(PyExc_TypeError, "[%U] takes at most %u positional arguments, got %zd.", f->name, f->n_positional, n);
  return -1;
}

static int missing_error(fb_function *f, uint32_t i) {
  PyErr_Format(PyExc_TypeError, "[%U] argument '%U' is missing.", f->name, f->param[i].name);
  return -1;
}

static int type_error(fb_function *f, uint32_t i, PyObject *value) {
  PyErr_Format(PyExc_TypeError, "[%U] argument '%U' must be %s, got %.100s.", f->name, f->param[i].name,
               wanted[f->param[i].kind], Py_TYPE(value)->tp_name);
  return -1;
}

static int add_tensors(fb_call *call, uint32_t i, PyObject *value) {
  if (!PyList_Check(value) && !PyTuple_Check(value))
    return type_error(call->function, i, value);
  Py_ssize_t n = PySequence_Fast_GET_SIZE(value);
  if (fb_call_word(call, fb_tag(FB_TAG_LIST, (uint64_t)n)) < 0)
    return -1;
  for (Py_ssize_t j = 0; j < n; j++) {
    PyObject *item = PySequence_Fast_GET_ITEM(value, j);
    if (!fb_is_tensor(item)) {
      PyErr_Format(PyExc_TypeError, "[%U] argument '%U' must be a sequence of Tensors, item %zd is %.100s.",
                   call->function->name, call->function->param[i].name, j, Py_TYPE(item)->tp_name);
      return -1;
    }
    if (fb_call_tensor(call, (fb_tensor *)item) < 0)
      return -1;
  }
  return 0;
}

static int add_scalar(fb_call *call, fb_scalar scalar) {
  return fb_call_word(call, fb_tag(FB_TAG_SCALAR, scalar.kind)) < 0 || fb_call_note(call, NULL) < 0 ||
                 fb_call_scalar(call, scalar) < 0
             ? -1
             : 0;
}

/* A number that the call is specialised for. */
static int add_constant(fb_call *call, fb_scalar scalar) {
  return fb_call_word(call, fb_tag(FB_TAG_NUMBER, scalar.kind)) < 0 || fb_call_word(call, (uint64_t)scalar.i) < 0 ||
                 fb_call_note(call, NULL) < 0
             ? -1
             : 0;
}

static int add_number(fb_call *call, uint32_t i, PyObject *value) {
  fb_scalar scalar;
  int is_constant = fb_constant(value, &scalar);
  if (FB_UNLIKELY(is_constant))
    return is_constant < 0 ? -1 : add_constant(call, scalar);
  int is_number = fb_number(value, &scalar);
  if (is_number <= 0)
    return is_number < 0 ? -1 : type_error(call->function, i, value);
  if (fb_trie_is_wide(call->rec->state, call->function))
    return add_scalar(call, scalar);
  call->narrow = true;
  return add_constant(call, scalar);
}

/* The seed and the offset; None stands for the stream that is the default. */
static int add_stream(fb_call *call, uint32_t i, PyObject *value) {
  PyObject *fallback = call->function->param[i].fallback;
  fb_stream *s = fb_stream_of(value == Py_None && fallback ? fallback : value);
  if (!s)
    return type_error(call->function, i, value);
  call->stream = s;
  call->seed = s->seed;
  call->offset = s->offset;
  return add_scalar(call, (fb_scalar){.kind = FB_INT, .i = call->seed}) < 0
             ? -1
             : add_scalar(call, (fb_scalar){.kind = FB_INT, .i = call->offset});
}

static int add_argument(fb_call *call, uint32_t i, PyObject *value) {
  fb_scalar scalar;
  int is_number;
  switch (call->function->param[i].kind) {
  case FB_P_OPTIONAL:
    if (value == Py_None)
      return fb_call_word(call, FB_TAG_NONE) < 0 ? -1 : fb_call_note(call, NULL);
    break;
  case FB_P_TENSORS:
    return add_tensors(call, i, value);
  case FB_P_NUMBER:
    return add_number(call, i, value);
  case FB_P_STREAM:
    return add_stream(call, i, value);
  case FB_P_STATIC:
  case FB_P_STARTS:
  case FB_P_DEFAULT:
    return 0;
  case FB_P_OPERAND:
    if (FB_LIKELY(fb_is_tensor(value)))
      break;
    is_number = fb_number(value, &scalar);
    if (is_number)
      return is_number < 0 ? -1 : add_scalar(call, scalar);
    is_number = fb_constant(value, &scalar);
    if (is_number)
      return is_number < 0 ? -1 : add_constant(call, scalar);
    break;
  case FB_P_TENSOR:
    break;
  }
  if (FB_UNLIKELY(!fb_is_tensor(value)))
    return type_error(call->function, i, value);
  return fb_call_tensor(call, (fb_tensor *)value);
}

/* Whether a number is static depends on the state after all tensors have entered, so let them enter first. */
static int enter_tensors(fb_call *call, PyObject *const *values) {
  fb_function *f = call->function;
  uint64_t word;
  for (uint32_t i = 0; i < f->n_params; i++) {
    fb_tensor *t = (fb_tensor *)values[i];
    if (f->param[i].kind > FB_P_OPTIONAL || !fb_is_tensor(values[i]) || t->cell->shared)
      continue;
    if (!fb_resident(call->rec, t, &word) && fb_enter(call->rec, t, FB_WHOLE, &word) < 0)
      return -1;
  }
  return 0;
}

static bool is_new_leaf(const fb_recorder *rec, PyObject *o) {
  if (!fb_is_tensor(o) || !((fb_tensor *)o)->leaf)
    return false;
  const fb_cell *c = ((fb_tensor *)o)->cell;
  return c->home == rec && fb_cell_pending(c) && (c->input == FB_NO_SLOT || rec->inputs[c->input].slot != c->slot);
}

static bool reads_new_leaf(const fb_recorder *rec, const fb_function *f, PyObject *const *values) {
  for (uint32_t i = 0; i < f->n_params; i++) {
    if (f->param[i].kind != FB_P_TENSORS && is_new_leaf(rec, values[i]))
      return true;
    bool is_list = f->param[i].kind == FB_P_TENSORS && (PyList_Check(values[i]) || PyTuple_Check(values[i]));
    for (Py_ssize_t k = 0; is_list && k < PySequence_Fast_GET_SIZE(values[i]); k++)
      if (is_new_leaf(rec, PySequence_Fast_GET_ITEM(values[i], k)))
        return true;
  }
  return false;
}

/* What must run before this call is recorded: what was interrupted or is over a bound; and where a new round of
 * training begins, the values that its parameters have by then. A round that fails then loses nothing but itself. */
static int flush_before(fb_recorder *rec, const fb_function *f, PyObject *const *values) {
  bool due = rec->flush_soon || (rec->mode & 1 && reads_new_leaf(rec, f, values));
  return due ? fb_cut(rec) : 0;
}

/* Lists of tensors as tuples: another thread may change a list while its items are bound. */
static FB_NOINLINE int freeze_lists(fb_call *call, PyObject **values) {
  const fb_function *f = call->function;
  for (uint32_t i = 0; i < f->n_params; i++) {
    if (f->param[i].kind != FB_P_TENSORS || !PyList_Check(values[i]))
      continue;
    PyObject *items = PyList_AsTuple(values[i]);
    int status = items ? fb_call_keep(call, items) : -1;
    Py_XDECREF(items);
    if (status < 0)
      return -1;
    values[i] = items;
  }
  return 0;
}

/* Static arguments that may have been forgotten while operands were bound: not once more. */
static FB_NOINLINE int pin_statics(fb_call *call, PyObject **values, PyObject *const *rest, Py_ssize_t n_rest) {
  int64_t bound = fb_bind_statics(call->function, values, rest, n_rest);
  if (bound < 0)
    return -1;
  call->statics = (uint32_t)bound;
  call->pinned = true;
  fb_static_pin(call->statics);
  return 0;
}

static PyObject *record_call(fb_function *f, PyObject **values, uint32_t statics, PyObject *const *rest,
                             Py_ssize_t n_rest) {
  fb_call call;
  fb_recorder *rec = fb_recorder_get();
  if (FB_UNLIKELY(rec->flush_soon | rec->new_leaves | rec->learns)) {
    if (rec->learns)
      fb_learning_note(rec, f, values, rest, n_rest);
    if (flush_before(rec, f, values) < 0)
      return NULL;
  }
  fb_call_init(&call, rec, f, values, statics);
  PyObject *result = NULL;
  if (f->has_lists && FB_UNLIKELY(freeze_lists(&call, values) < 0))
    goto done;
again:
  if (f->has_numbers && FB_UNLIKELY(enter_tensors(&call, values) < 0))
    goto done;
  for (uint32_t i = 0; i < f->n_params; i++)
    if (FB_UNLIKELY(add_argument(&call, i, values[i]) < 0))
      goto done;
  result = fb_call_finish(&call);
  if (FB_UNLIKELY(!result && call.again)) {
    if (!f->n_static || call.pinned || pin_statics(&call, values, rest, n_rest) == 0) {
      fb_call_restart(&call);
      goto again;
    }
  }
done:
  if (FB_UNLIKELY(call.pinned))
    fb_static_unpin(call.statics);
  fb_call_clear(&call);
  if (FB_UNLIKELY(rec->learns))
    fb_learning_take(rec, result);
  return result;
}

PyObject *fb_function_record(fb_function *f, PyObject **values) {
  int64_t statics = fb_bind_statics(f, values, NULL, 0);
  return FB_UNLIKELY(statics < 0) ? NULL : record_call(f, values, (uint32_t)statics, NULL, 0);
}

/* Whether every argument that has to be left at its default is. */
static int check_defaults(fb_function *f, PyObject *const *values) {
  for (uint32_t i = 0; i < f->n_params; i++)
    if (f->param[i].kind == FB_P_DEFAULT && values[i] != f->param[i].fallback) {
      PyErr_SetNone(PyExc_TypeError);
      return -1;
    }
  return 0;
}

static PyObject *bind_and_record(fb_function *f, PyObject *const *args, Py_ssize_t n, PyObject *kwnames) {
  PyObject *values[64], *quick;
  if (f->binary && n == 2 && !kwnames && fb_try_binary(f, args[0], args[1], &quick))
    return quick;
  for (uint32_t i = 0; i < f->n_params; i++)
    values[i] = NULL;
  PyObject *const *rest = NULL;
  Py_ssize_t n_rest = 0;
  if (FB_UNLIKELY(n > f->n_positional)) {
    if (!f->variadic)
      return count_error(f, n), NULL;
    rest = args + f->n_positional - 1;
    n_rest = n - f->n_positional + 1;
    values[f->n_positional - 1] = Py_None;
  }
  for (Py_ssize_t i = 0; i < n - n_rest; i++)
    values[i] = args[i];
  if (kwnames)
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(kwnames); i++)
      if (FB_UNLIKELY(bind_keyword(f, values, PyTuple_GET_ITEM(kwnames, i), args[n + i]) < 0))
        return NULL;
  for (uint32_t i = 0; i < f->n_params; i++)
    if (!values[i]) {
      if (FB_UNLIKELY(!f->param[i].fallback))
        return missing_error(f, i), NULL;
      values[i] = f->param[i].fallback;
    }
  if (f->has_defaults && FB_UNLIKELY(check_defaults(f, values) < 0))
    return NULL;
  int64_t statics = fb_bind_statics(f, values, rest, n_rest);
  if (FB_UNLIKELY(statics < 0))
    return NULL;
  if (f->kind == FB_VIEW)
    return fb_record_view(f, values, (uint32_t)statics);
  return record_call(f, values, (uint32_t)statics, rest, n_rest);
}

FB_HOT static PyObject *function_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
  fb_function *f = (fb_function *)self;
  PyObject *result = bind_and_record(f, args, PyVectorcall_NARGS(nargsf), kwnames);
  if (FB_LIKELY(result != NULL) || !f->otherwise || !PyErr_ExceptionMatches(PyExc_TypeError))
    return result;
  PyErr_Clear();
  return PyObject_Vectorcall(f->otherwise, args, nargsf, kwnames);
}

static PyObject *intercepted_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
  return fb_intercepted_call(function_vectorcall, self, args, nargsf, kwnames);
}

void fb_function_intercept(fb_function *f) { f->vectorcall = intercepted_vectorcall; }

/* ---- the type -------------------------------------------------------------------------------------------- */

static int index_of(PyObject *text, const char *const *names, int n) {
  for (int i = 0; i < n; i++)
    if (PyUnicode_Check(text) && PyUnicode_CompareWithASCIIString(text, names[i]) == 0)
      return i;
  return -1;
}

static int parse_param(fb_function *f, fb_param *p, PyObject *item) {
  PyObject *name, *kind, *fallback, *spellings = NULL;
  int keyword_only = 0;
  if (!PyTuple_Check(item) ||
      !PyArg_ParseTuple(item, "UUO|pO!", &name, &kind, &fallback, &keyword_only, &PyTuple_Type, &spellings))
    return -1;
  int code = index_of(kind, kind_names, 10);
  if (code < 0) {
    PyErr_Format(PyExc_ValueError, "[function] parameter '%U' of '%U' has unknown kind '%U'.", name, f->name, kind);
    return -1;
  }
  p->is_size = code == FB_P_DEFAULT + 1;
  f->has_sizes |= p->is_size;
  if (p->is_size)
    code = FB_P_STATIC;
  p->name = Py_NewRef(name);
  PyUnicode_InternInPlace(&p->name);
  p->kind = (fb_param_kind)code;
  p->fallback = fallback == required ? NULL : Py_NewRef(fallback);
  p->keyword_only = keyword_only;
  p->spellings = spellings && PyTuple_GET_SIZE(spellings) ? Py_NewRef(spellings) : NULL;
  f->n_positional += !keyword_only;
  f->n_static += code == FB_P_STATIC || (f->kind == FB_VIEW && code == FB_P_NUMBER);
  return 0;
}

static int take_flag(PyObject *extra, const char *name, bool *flag) {
  PyObject *value = PyDict_GetItemString(extra, name);
  int truth = value ? PyObject_IsTrue(value) : 0;
  *flag = truth > 0;
  return truth;
}

static int function_fill(fb_function *f, PyObject *params, PyObject *kind, PyObject *extra) {
  int code = index_of(kind, function_kinds, 3);
  if (code < 0) {
    PyErr_Format(PyExc_ValueError, "[function] '%U' has unknown kind %R. Use pure, view or inplace.", f->name, kind);
    return -1;
  }
  f->kind = (fb_function_kind)code;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(params); i++, f->n_params++)
    if (parse_param(f, &f->param[i], PyTuple_GET_ITEM(params, i)) < 0)
      return -1;
  if (take_flag(extra, "variadic", &f->variadic) < 0 || take_flag(extra, "fallible", &f->fallible) < 0 ||
      take_flag(extra, "detach", &f->detach) < 0 || take_flag(extra, "aside", &f->aside) < 0)
    return -1;
  f->otherwise = PyDict_GetItemString(extra, "otherwise");
  for (uint32_t i = 0; i < f->n_params; i++) {
    f->has_numbers |= f->param[i].kind == FB_P_NUMBER;
    f->has_lists |= f->param[i].kind == FB_P_TENSORS;
    f->has_defaults |= f->param[i].kind == FB_P_DEFAULT;
    if (f->param[i].kind == FB_P_DEFAULT && (!f->otherwise || !f->param[i].fallback)) {
      PyErr_Format(PyExc_ValueError, "[function] parameter '%U' of '%U' needs a default, and the function `otherwise`.",
                   f->param[i].name, f->name);
      return -1;
    }
  }
  if (f->variadic && (!f->n_positional || f->param[f->n_positional - 1].kind != FB_P_STATIC)) {
    PyErr_Format(PyExc_ValueError, "[function] the last positional parameter of variadic '%U' must be static.",
                 f->name);
    return -1;
  }
  if (f->kind == FB_VIEW && (!f->n_params || f->param[0].kind != FB_P_TENSOR)) {
    PyErr_Format(PyExc_ValueError, "[function] the first parameter of view '%U' must be a tensor.", f->name);
    return -1;
  }
  f->binary = f->n_params == 2 && f->n_positional == 2 && f->kind != FB_VIEW;
  for (uint32_t i = 0; i < f->n_params; i++)
    f->binary &= f->param[i].kind == FB_P_OPERAND || (i == 0 && f->param[i].kind == FB_P_TENSOR);
  f->cache = fb_new_statics();
  return f->cache ? 0 : (PyErr_NoMemory(), -1);
}

static PyObject *function_new(PyTypeObject *cls, PyObject *args, PyObject *kwargs) {
  PyObject *name, *params, *kind, *rule;
  (void)cls;
  if (!PyArg_ParseTuple(args, "UO!UO:Function", &name, &PyTuple_Type, &params, &kind, &rule))
    return NULL;
  Py_ssize_t n = PyTuple_GET_SIZE(params);
  if (n > 60 || n_functions >= 1u << 20)
    return PyErr_Format(PyExc_ValueError, "[function] '%U' is one parameter or function too many.", name);
  fb_function *f = PyObject_GC_NewVar(fb_function, fb_function_type, n);
  if (!f)
    return NULL;
  memset((char *)f + sizeof(PyVarObject), 0, sizeof *f - sizeof(PyVarObject) + (size_t)n * sizeof(fb_param));
  f->vectorcall = fb_intercepting() ? intercepted_vectorcall : function_vectorcall;
  f->id = n_functions++;
  f->name = Py_NewRef(name);
  f->params = Py_NewRef(params);
  f->rule = Py_NewRef(rule);
  f->extra = kwargs ? PyDict_Copy(kwargs) : PyDict_New();
  PyObject_GC_Track(f);
  if (!f->extra || function_fill(f, params, kind, f->extra) < 0)
    Py_CLEAR(f);
  return (PyObject *)f;
}

static int function_traverse(fb_function *f, visitproc visit, void *arg) {
  Py_VISIT(Py_TYPE(f));
  Py_VISIT(f->rule);
  Py_VISIT(f->params);
  Py_VISIT(f->extra);
  return 0;
}

static int function_clear(fb_function *f) {
  f->otherwise = NULL;
  Py_CLEAR(f->rule);
  Py_CLEAR(f->extra);
  return 0;
}

static void function_dealloc(fb_function *f) {
  PyTypeObject *type = Py_TYPE(f);
  PyObject_GC_UnTrack(f);
  if (f->weakrefs)
    PyObject_ClearWeakRefs((PyObject *)f);
  fb_free_statics(f);
  for (uint32_t i = 0; i < f->n_params; i++) {
    Py_XDECREF(f->param[i].name);
    Py_XDECREF(f->param[i].fallback);
    Py_XDECREF(f->param[i].spellings);
  }
  Py_XDECREF(f->name);
  Py_XDECREF(f->params);
  Py_XDECREF(f->rule);
  Py_XDECREF(f->extra);
  type->tp_free(f);
  Py_DECREF(type);
}

static PyObject *function_get(PyObject *self, PyObject *instance, PyObject *owner) {
  (void)owner;
  return instance && instance != Py_None ? PyMethod_New(self, instance) : Py_NewRef(self);
}

static PyObject *function_getattro(PyObject *self, PyObject *name) {
  PyObject *found = PyObject_GenericGetAttr(self, name);
  if (found || !PyErr_ExceptionMatches(PyExc_AttributeError))
    return found;
  PyObject *extra = ((fb_function *)self)->extra ? PyDict_GetItemWithError(((fb_function *)self)->extra, name) : NULL;
  if (!extra)
    return NULL;
  PyErr_Clear();
  return Py_NewRef(extra);
}

static PyObject *function_repr(fb_function *f) { return PyUnicode_FromFormat("<flambeau function %U>", f->name); }

static PyObject *function_kind_name(fb_function *f, void *closure) {
  (void)closure;
  return PyUnicode_FromString(function_kinds[f->kind]);
}

static PyObject *function_doc(fb_function *f, void *closure) {
  (void)closure;
  PyObject *doc = f->extra ? PyDict_GetItemString(f->extra, "doc") : NULL;
  return Py_NewRef(doc ? doc : Py_None);
}

static PyGetSetDef function_getset[] = {{"kind", (getter)function_kind_name, NULL, NULL, NULL},
                                        {"__doc__", (getter)function_doc, NULL, NULL, NULL},
                                        {NULL, NULL, NULL, NULL, NULL}};
static PyMemberDef function_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(fb_function, vectorcall), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(fb_function, weakrefs), READONLY, NULL},
    {"name", T_OBJECT, offsetof(fb_function, name), READONLY, NULL},
    {"__name__", T_OBJECT, offsetof(fb_function, name), READONLY, NULL},
    {"__qualname__", T_OBJECT, offsetof(fb_function, name), READONLY, NULL},
    {"rule", T_OBJECT, offsetof(fb_function, rule), READONLY, NULL},
    {"params", T_OBJECT, offsetof(fb_function, params), READONLY, NULL},
    {NULL, 0, 0, 0, NULL}};
static PyType_Slot function_slots[] = {{Py_tp_new, function_new},
                                       {Py_tp_call, PyVectorcall_Call},
                                       {Py_tp_dealloc, function_dealloc},
                                       {Py_tp_traverse, function_traverse},
                                       {Py_tp_clear, function_clear},
                                       {Py_tp_descr_get, function_get},
                                       {Py_tp_getattro, function_getattro},
                                       {Py_tp_repr, function_repr},
                                       {Py_tp_getset, function_getset},
                                       {Py_tp_members, function_members},
                                       {0, NULL}};
static PyType_Spec function_spec = {"flambeau.runtime._recorder.Function", sizeof(fb_function), sizeof(fb_param),
                                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
                                        Py_TPFLAGS_METHOD_DESCRIPTOR,
                                    function_slots};

int fb_function_init(PyObject *module) {
  fb_function_type = (PyTypeObject *)PyType_FromSpec(&function_spec);
  required = PyObject_CallNoArgs((PyObject *)&PyBaseObject_Type);
  if (!fb_function_type || !required)
    return -1;
  return PyModule_AddObjectRef(module, "Function", (PyObject *)fb_function_type) < 0 ||
                 PyModule_AddObjectRef(module, "REQUIRED", required) < 0
             ? -1
             : 0;
}
