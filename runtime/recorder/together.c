/* Calls that happen together: an interrupt comes before all of them or after all of them. What records is C, which
 * Python interrupts nowhere; a rule that runs for the first time is Python, and so is a hook. */
#include "module.h"

#define MOST_TRIES 1000

/* Call until no interrupt cuts it short; the first one is kept in *interrupt, a normalized exception. */
static int call_through(PyObject *call, PyObject **interrupt) {
  for (int tries = 0; tries < MOST_TRIES; tries++) {
    PyObject *result = PyObject_CallNoArgs(call), *type, *value, *traceback;
    Py_XDECREF(result);
    if (result)
      return 0;
    if (PyErr_ExceptionMatches(PyExc_Exception))
      return -1;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback && value)
      PyException_SetTraceback(value, traceback);
    if (!*interrupt)
      *interrupt = Py_XNewRef(value);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
  }
  PyErr_SetObject((PyObject *)Py_TYPE(*interrupt), *interrupt);
  return -1;
}

/* together(calls): all of a tuple of callables, or none if an interrupt comes in the first one. */
PyObject *fb_py_together(PyObject *module, PyObject *calls) {
  (void)module;
  PyObject *interrupt = NULL;
  int status = 0;
  if (!PyTuple_Check(calls))
    return PyErr_Format(PyExc_TypeError, "[together] expected a tuple of callables, got %R.", calls);
  for (Py_ssize_t i = 0; status == 0 && i < PyTuple_GET_SIZE(calls); i++) {
    PyObject *call = PyTuple_GET_ITEM(calls, i), *done = i ? NULL : PyObject_CallNoArgs(call);
    status = i ? call_through(call, &interrupt) : done ? 0 : -1;
    Py_XDECREF(done);
  }
  if (status == 0 && interrupt) { /* what was recorded runs before anything else, as where a run is interrupted */
    fb_recorder_get()->flush_soon = true;
    PyErr_SetObject((PyObject *)Py_TYPE(interrupt), interrupt);
    status = -1;
  }
  Py_XDECREF(interrupt);
  if (status < 0)
    return NULL;
  Py_RETURN_NONE;
}
