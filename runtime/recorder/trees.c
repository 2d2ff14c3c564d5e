/* Dicts, lists and tuples of tensors, nested: walked in C, for every call of a transform does so several times. */
#include "module.h"

static PyObject *mapping_type(void) {
  static PyObject *mapping;
  if (!mapping) {
    PyObject *module = PyImport_ImportModule("collections.abc");
    mapping = module ? PyObject_GetAttrString(module, "Mapping") : NULL;
    Py_XDECREF(module);
  }
  return mapping;
}

/* Whether a class registered itself takes long to ask, so Python's own leaves are known. */
static int is_mapping(PyObject *o) {
  if (PyDict_Check(o))
    return 1;
  if (o == Py_None || PyLong_Check(o) || PyFloat_Check(o) || PyUnicode_Check(o) || PyFunction_Check(o))
    return 0;
  PyObject *mapping = mapping_type();
  return mapping ? PyObject_IsInstance(o, mapping) : -1;
}

static bool is_sequence(PyObject *o) { return PyTuple_Check(o) || PyList_Check(o); }

/* ---- tensors in order ------------------------------------------------------------------------------------ */

static int list_tensors(PyObject *found, PyObject *tree);

/* Items are read one by one: what asks for a mapping's items is Python, which may change a list. */
static int list_items(PyObject *found, PyObject *items) {
  int status = 0;
  for (Py_ssize_t i = 0; status == 0 && i < PySequence_Fast_GET_SIZE(items); i++) {
    PyObject *item = Py_NewRef(PySequence_Fast_GET_ITEM(items, i));
    status = list_tensors(found, item);
    Py_DECREF(item);
  }
  return status;
}

static int list_inside(PyObject *found, PyObject *tree) {
  if (is_sequence(tree))
    return list_items(found, tree);
  int is_found = is_mapping(tree);
  if (is_found <= 0)
    return is_found;
  PyObject *values = PyMapping_Values(tree);
  int status = values ? list_items(found, values) : -1;
  Py_XDECREF(values);
  return status;
}

static int list_tensors(PyObject *found, PyObject *tree) {
  if (fb_is_tensor(tree))
    return PyList_Append(found, tree);
  if (Py_EnterRecursiveCall(" in a tree of tensors"))
    return -1;
  int status = list_inside(found, tree);
  Py_LeaveRecursiveCall();
  return status;
}

PyObject *fb_py_tree_tensors(PyObject *module, PyObject *tree) {
  (void)module;
  PyObject *found = PyList_New(0);
  if (found && list_tensors(found, tree) < 0)
    Py_CLEAR(found);
  return found;
}

/* ---- leaves changed -------------------------------------------------------------------------------------- */

typedef struct {
  PyObject *change; /* called with leaves */
  bool all;         /* of whatever type; else with tensors, and others stay */
} fb_walk;

static PyObject *walked(fb_walk walk, PyObject *tree);

static PyObject *walked_items(fb_walk walk, PyObject *items) {
  PyObject *made = PyList_New(0);
  for (Py_ssize_t i = 0; made && i < PySequence_Fast_GET_SIZE(items); i++) {
    PyObject *item = Py_NewRef(PySequence_Fast_GET_ITEM(items, i)), *value = walked(walk, item);
    if (!value || PyList_Append(made, value) < 0)
      Py_CLEAR(made);
    Py_XDECREF(value);
    Py_DECREF(item);
  }
  return made;
}

/* A list as what `like` is: a named tuple takes its fields apart, other classes take a list. */
static PyObject *as_sequence(PyObject *list, PyObject *like) {
  if (PyList_CheckExact(like))
    return list;
  PyObject *made = PyList_AsTuple(list), *type = (PyObject *)Py_TYPE(like);
  if (made && !PyTuple_CheckExact(like)) {
    int is_named = PyObject_HasAttrString(like, "_fields");
    PyObject *args = made;
    made = is_named ? PyObject_Call(type, args, NULL) : PyObject_CallOneArg(type, list);
    Py_DECREF(args);
  }
  Py_DECREF(list);
  return made;
}

static PyObject *walked_mapping(fb_walk walk, PyObject *tree) {
  PyObject *items = PyMapping_Items(tree), *made = items ? PyDict_New() : NULL;
  for (Py_ssize_t i = 0; made && i < PyList_GET_SIZE(items); i++) {
    PyObject *pair = PySequence_Tuple(PyList_GET_ITEM(items, i)), *key, *item, *value = NULL;
    if (!pair || !PyArg_ParseTuple(pair, "OO:items", &key, &item) || !(value = walked(walk, item)) ||
        PyDict_SetItem(made, key, value) < 0)
      Py_CLEAR(made);
    Py_XDECREF(value);
    Py_XDECREF(pair);
  }
  Py_XDECREF(items);
  return made;
}

static PyObject *walked_inside(fb_walk walk, PyObject *tree) {
  if (is_sequence(tree)) {
    PyObject *made = walked_items(walk, tree);
    return made ? as_sequence(made, tree) : NULL;
  }
  int found = is_mapping(tree);
  if (found < 0)
    return NULL;
  if (found)
    return walked_mapping(walk, tree);
  return walk.all ? PyObject_CallOneArg(walk.change, tree) : Py_NewRef(tree);
}

static PyObject *walked(fb_walk walk, PyObject *tree) {
  if (fb_is_tensor(tree))
    return PyObject_CallOneArg(walk.change, tree);
  if (Py_EnterRecursiveCall(" in a tree of tensors"))
    return NULL;
  PyObject *made = walked_inside(walk, tree);
  Py_LeaveRecursiveCall();
  return made;
}

static PyObject *changed(const char *name, bool all, PyObject *const *args, Py_ssize_t n) {
  if (n != 2)
    return PyErr_Format(PyExc_TypeError, "[%s] takes a function and a tree, got %zd arguments.", name, n);
  return walked((fb_walk){args[0], all}, args[1]);
}

PyObject *fb_py_tree_mapped(PyObject *module, PyObject *const *args, Py_ssize_t n) {
  (void)module;
  return changed("tree_mapped", false, args, n);
}

PyObject *fb_py_tree_changed(PyObject *module, PyObject *const *args, Py_ssize_t n) {
  (void)module;
  return changed("tree_changed", true, args, n);
}
