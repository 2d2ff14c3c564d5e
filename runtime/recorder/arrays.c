/* Tensors on the memory of NumPy arrays, and arrays on that of tensors. Arrays that programs are fed with, writable and
 * one element after the other, are lent in C; others go on to the frontend (host.py), which knows what is shared, what
 * is copied and what is refused. */
#include "module.h"

static fb_buffer *writable(PyObject *array) {
  int readonly = 0;
  fb_buffer *b = fb_buffer_import(array, &readonly);
  if (b && !readonly)
    return b;
  fb_buffer_release(b);
  PyErr_Clear();
  return NULL;
}

static fb_type *type_of(PyObject *array, PyObject *dtypes) {
  static PyObject *dtype_name, *shape_name;
  PyObject *described = fb_attribute_of(array, &dtype_name, "dtype");
  PyObject *dtype = described ? PyDict_GetItemWithError(dtypes, described) : NULL; /* borrowed */
  PyObject *shape = dtype ? fb_attribute_of(array, &shape_name, "shape") : NULL;
  fb_type *type = shape ? fb_type_intern(shape, dtype, NULL, false) : NULL;
  Py_XDECREF(described);
  Py_XDECREF(shape);
  return type;
}

/* tensor_on(array, dtypes): a tensor that shares the memory of a NumPy array whose dtype is among these, {NumPy's:
 * ours}; None for one that it does not know. */
PyObject *fb_py_tensor_on(PyObject *module, PyObject *const *args, Py_ssize_t n) {
  (void)module;
  if (n != 2 || !PyDict_Check(args[1]))
    return PyErr_Format(PyExc_TypeError, "[tensor_on] takes an array and a dict of dtypes.");
  if (!fb_is_array(args[0]))
    Py_RETURN_NONE;
  fb_buffer *b = writable(args[0]);
  fb_type *type = b ? type_of(args[0], args[1]) : NULL;
  PyObject *made = type ? fb_tensor_on(b, type, NULL, true, false) : NULL;
  fb_buffer_release(b);
  return made || PyErr_Occurred() ? made : Py_NewRef(Py_None);
}

/* tell_address(tensor): whoever is told where a computed tensor lies may write there, and no array says for how long.
 */
PyObject *fb_py_tell_address(PyObject *module, PyObject *o) {
  (void)module;
  fb_tensor *t = fb_as_tensor(o, "tell_address");
  if (t && t->cell->buffer)
    fb_buffer_told(t->cell->buffer);
  return t ? Py_NewRef(Py_None) : NULL;
}

/* array_on(tensor): an array that shares the memory of a tensor, which is shared from now on; None where strides do not
 * say what the tensor shows, or where it does not lie here. */
PyObject *fb_py_array_on(PyObject *module, PyObject *o) {
  fb_tensor *t = fb_as_tensor(o, "numpy");
  PyObject *array_type = t ? fb_array_type() : NULL;
  if (!t || fb_cell_share(t->cell, true) < 0)
    return NULL;
  PyObject *parts = array_type ? fb_py_memory(module, o) : Py_NewRef(Py_None);
  if (!parts || parts == Py_None)
    return parts;
  PyObject *array = PyObject_Call(array_type, parts, NULL);
  Py_DECREF(parts);
  return array;
}

/* move_storage(tensor, buffer): the storage of a tensor, which its views and whoever else has it share, lies in a
 * buffer from now on, which others see: the elements are copied there. */
PyObject *fb_py_move_storage(PyObject *module, PyObject *args) {
  (void)module;
  PyObject *o, *given;
  if (!PyArg_ParseTuple(args, "OO:move_storage", &o, &given))
    return NULL;
  fb_tensor *t = fb_as_tensor(o, "move_storage");
  fb_buffer *b = t ? fb_buffer_from_python(given) : NULL;
  if (!b)
    return NULL;
  fb_cell *c = t->cell; /* held: others may be let in, and put the tensor elsewhere */
  if (fb_buffer_bytes(b) < c->type->bytes)
    return PyErr_Format(PyExc_ValueError, "[move_storage] the buffer has %zu bytes, the storage %zu.",
                        fb_buffer_bytes(b), c->type->bytes);
  c->refs++;
  int status = fb_cell_share(c, false);
  if (status == 0 && !c->buffer)
    status = fb_cell_raise(c);
  if (status == 0) {
    memcpy(fb_buffer_data(b), fb_buffer_data(c->buffer), c->type->bytes);
    fb_buffer_retain(b);
    fb_cell_set_value(c, b);
    c->shared = true;
    fb_buffer_written(b, true);
  }
  fb_cell_release(c);
  return status < 0 ? NULL : Py_NewRef(Py_None);
}
