/* Layouts: where in its base the elements lie that a view shows. The frontend measures one, once per chain. */
#include "cells.h"

static int read_numbers(PyObject *numbers, int64_t *to, Py_ssize_t n) {
  if (!PyTuple_Check(numbers) || PyTuple_GET_SIZE(numbers) != n) {
    PyErr_Format(PyExc_TypeError, "[view_layout] expected %zd ints, got %R.", n, numbers);
    return -1;
  }
  for (Py_ssize_t i = 0; i < n; i++) {
    to[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(numbers, i));
    if (to[i] == -1 && PyErr_Occurred())
      return -1;
  }
  return 0;
}

/* (first element, strides, steps of the starts) as one array. */
static int64_t *read_layout(const fb_view *v, PyObject *answer) {
  PyObject *first, *strides, *steps;
  if (!PyArg_ParseTuple(answer, "OOO;view_layout returns (first, strides, steps)", &first, &strides, &steps))
    return NULL;
  uint32_t ndim = (uint32_t)v->types[0]->ndim;
  int64_t *layout = PyMem_Malloc((1 + ndim + v->n_starts) * sizeof *layout);
  if (!layout)
    return (int64_t *)PyErr_NoMemory();
  layout[0] = PyLong_AsLongLong(first);
  if (!PyErr_Occurred() && read_numbers(strides, layout + 1, ndim) == 0 &&
      read_numbers(steps, layout + 1 + ndim, v->n_starts) == 0)
    return layout;
  PyMem_Free(layout);
  return NULL;
}

/* The shape of the base that the chain starts from. */
static PyObject *base_shape(const fb_view *v) {
  while (v->parent)
    v = v->parent;
  return ((const fb_type *)v->origin)->shape;
}

static FB_NOINLINE int measure(fb_view *v) {
  PyObject *hook = fb_hook(fb_hooks.view_layout, "view_layout");
  PyObject *answer = hook ? PyObject_CallFunctionObjArgs(hook, v->payload, base_shape(v), NULL) : NULL;
  if (!answer)
    return -1;
  int64_t *layout = answer == Py_None ? NULL : read_layout(v, answer);
  bool failed = answer != Py_None && !layout;
  Py_DECREF(answer);
  if (failed)
    return -1;
  if (v->measured) { /* by another thread meanwhile */
    PyMem_Free(layout);
    return 0;
  }
  v->layout = layout;
  v->measured = true;
  return 0;
}

int fb_view_layout(const fb_view *v, const int64_t **layout) {
  int status = 0;
  if (FB_UNLIKELY(!v->measured)) {
    fb_in_hand++; /* another thread may assign to the `data` of what shows it */
    status = measure((fb_view *)v);
    fb_in_hand--;
  }
  if (status < 0)
    return -1;
  *layout = v->layout;
  return 0;
}
