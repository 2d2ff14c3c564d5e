/* The binding's Buffer and Plan types, reached through its capsule. */
#include "function.h"
#include "../binding/binding_api.h"

static const fb_binding_api *api;

int fb_buffers_init(void) {
  PyObject *binding = PyImport_ImportModule("flambeau.runtime._binding");
  PyObject *capsule = binding ? PyObject_GetAttrString(binding, "_C_API") : NULL;
  if (capsule)
    api = PyCapsule_GetPointer(capsule, FB_BINDING_CAPSULE);
  Py_XDECREF(capsule);
  Py_XDECREF(binding);
  if (api && api->version != FB_BINDING_VERSION) {
    PyErr_SetString(PyExc_ImportError, "[recorder] the binding has another version. Reinstall flambeau.");
    return -1;
  }
  return api ? 0 : -1;
}

PyObject *fb_buffer_exporter(const fb_buffer *b, bool *readonly) {
  int flag;
  PyObject *exporter = api->buffer_exporter(b, &flag);
  *readonly = flag;
  return exporter;
}

fb_buffer *fb_buffer_import(PyObject *exporter, int *readonly) { return api->buffer_import(exporter, readonly); }

PyObject *fb_buffer_to_python(fb_buffer *b) { return api->buffer_wrap(b); }
fb_buffer *fb_buffer_from_python(PyObject *o) { return api->buffer_get(o); }
fb_plan *fb_plan_from_python(PyObject *o) { return Py_IS_TYPE(o, api->plan_type) ? api->plan_get(o) : NULL; }
bool fb_is_op_list(PyObject *o) { return Py_IS_TYPE(o, api->op_list_type); }
bool fb_op_list_asks(PyObject *list) { return api->op_list_asks(list); }
int fb_op_list_run(PyObject *list, const fb_input *inputs, const int64_t *symbols, fb_buffer **outputs) {
  return api->op_list_run(list, inputs, symbols, outputs);
}
PyObject *fb_raise_status(fb_status status, int64_t failure) { return api->raise(status, failure); }

PyObject *fb_out_of_memory(void) { return api->out_of_memory; }

void fb_forget_error(void) {
  if (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_KeyboardInterrupt))
    PyErr_SetInterrupt(); /* it is raised when Python code runs again */
  PyErr_Clear();
}

bool fb_is_interruption(PyObject *type) { return !PyErr_GivenExceptionMatches(type, PyExc_Exception); }

bool fb_is_out_of_memory(PyObject *type) {
  return PyErr_GivenExceptionMatches(type, api->out_of_memory) || PyErr_GivenExceptionMatches(type, PyExc_MemoryError);
}
