/* Forwarding: the base of classes whose calls go to `forward`, as those of modules do, without Python in between.
 *
 * Hooks are Python's: where the attribute `_call_hooks` is not None, `_call_impl` makes the call. The outermost call
 * without gradients is a place where a loop of evaluations repeats, so a long trace is cut there. */
#include "module.h"

/* How many calls without gradients enclose the next one in this thread. */
static __thread uint32_t depth __attribute__((tls_model("initial-exec")));
static PyObject *members_name, *hooks_name, *impl_name, *forward_name;

#define MOST_ON_STACK 6

static PyObject *call_method(PyObject *self, PyObject *name, PyObject *args, PyObject *kwargs) {
  Py_ssize_t n = PyTuple_GET_SIZE(args);
  if (FB_LIKELY(!kwargs && n < MOST_ON_STACK)) {
    PyObject *all[MOST_ON_STACK] = {self};
    for (Py_ssize_t i = 0; i < n; i++)
      all[i + 1] = PyTuple_GET_ITEM(args, i);
    return PyObject_VectorcallMethod(name, all, (size_t)n + 1, NULL);
  }
  PyObject *method = PyObject_GetAttr(self, name);
  PyObject *result = method ? PyObject_Call(method, args, kwargs) : NULL;
  Py_XDECREF(method);
  return result;
}

/* Whether a class's own __init__ has called that of modules; the error that says so is its attributes'. */
static bool is_set_up(PyObject *self) {
  PyObject *members = PyObject_GetAttr(self, members_name);
  Py_XDECREF(members);
  return members != NULL;
}

static PyObject *call_forward(PyObject *self, PyObject *args, PyObject *kwargs) {
  PyObject *hooks = is_set_up(self) ? PyObject_GetAttr(self, hooks_name) : NULL;
  if (!hooks)
    return NULL;
  Py_DECREF(hooks); /* what it is, not what is in it */
  return call_method(self, hooks == Py_None ? forward_name : impl_name, args, kwargs);
}

static PyObject *call(PyObject *self, PyObject *args, PyObject *kwargs) {
  if (fb_recorder_get()->mode & FB_GRAD_MODE)
    return call_forward(self, args, kwargs);
  if (depth == 0 && fb_flush_point(false) < 0)
    return NULL;
  depth++;
  PyObject *result = call_forward(self, args, kwargs);
  depth--;
  return result;
}

static PyType_Slot slots[] = {
    {Py_tp_call, call},
    {Py_tp_doc, "Base of classes whose calls go to `forward`; to `_call_impl`, where `_call_hooks` is not None."},
    {0, NULL},
};
static PyType_Spec spec = {
    .name = "flambeau.runtime._recorder.Forwarding",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = slots,
};

int fb_forward_init(PyObject *module) {
  members_name = PyUnicode_InternFromString("_members");
  hooks_name = PyUnicode_InternFromString("_call_hooks");
  impl_name = PyUnicode_InternFromString("_call_impl");
  forward_name = PyUnicode_InternFromString("forward");
  PyObject *type = members_name && hooks_name && impl_name && forward_name ? PyType_FromSpec(&spec) : NULL;
  int status = type ? PyModule_AddType(module, (PyTypeObject *)type) : -1;
  Py_XDECREF(type);
  return status;
}
