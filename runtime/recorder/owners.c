/* Whose memory a buffer is: whether anybody but us can still write to what NumPy has lent.
 *
 * An array that the buffer was imported from holds a reference to what it is a view of, and so on down to the array
 * that owns the memory. Whoever else can reach one of them, or some other view of the same memory (an array, a
 * memoryview, a DLPack capsule, a ctypes object), holds a reference to one of these. If each has no other reference
 * than the next one's, and no weak one, then nobody can, and nobody ever will: there is nothing left to start from. */
#include <stddef.h>

#include "values.h"

static PyObject *array_type; /* numpy.ndarray, while NumPy is there */

PyObject *fb_array_type(void) {
  if (FB_UNLIKELY(!array_type)) {
    PyObject *modules = PyImport_GetModuleDict(), *numpy = PyDict_GetItemString(modules, "numpy");
    array_type = numpy ? PyObject_GetAttrString(numpy, "ndarray") : NULL;
    if (!array_type)
      PyErr_Clear();
  }
  return array_type;
}

bool fb_is_array(PyObject *o) { return (PyObject *)Py_TYPE(o) == fb_array_type(); } /* a subclass may do as it likes */

static bool has_weakrefs(PyObject *o) {
  Py_ssize_t offset = Py_TYPE(o)->tp_weaklistoffset;
  return offset > 0 && *(PyObject **)((char *)o + offset);
}

static bool is_only_ours(PyObject *o) { return Py_REFCNT(o) == 1 && !has_weakrefs(o); }

static bool owns_memory(PyObject *array) {
  static PyObject *flags_name, *owns_name;
  PyObject *flags = fb_attribute_of(array, &flags_name, "flags");
  PyObject *owns = flags ? fb_attribute_of(flags, &owns_name, "owndata") : NULL;
  bool found = owns && PyObject_IsTrue(owns) > 0;
  Py_XDECREF(owns);
  Py_XDECREF(flags);
  return found;
}

/* Down the chain of `base`s to the array that owns the memory. */
static bool is_owned_by_us(PyObject *array) {
  static PyObject *base_name;
  while (fb_is_array(array) && is_only_ours(array)) {
    PyObject *base = fb_attribute_of(array, &base_name, "base");
    if (!base)
      return false;
    if (base == Py_None) {
      Py_DECREF(base);
      return owns_memory(array);
    }
    Py_DECREF(base); /* the array still holds it */
    array = base;
  }
  return false;
}

bool fb_buffer_is_private(const fb_buffer *b) {
  bool readonly;
  if (fb_buffer_refs(b) != 1)
    return false;
  if (fb_buffer_is_pooled(b))
    return true;
  PyObject *exporter = fb_buffer_exporter(b, &readonly);
  int quiet = fb_quiet_begin();
  bool is_private = exporter && is_owned_by_us(exporter);
  fb_quiet_end(quiet);
  if (PyErr_Occurred())
    PyErr_Clear();
  return is_private;
}
