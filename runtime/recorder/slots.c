/* Operators of Tensor: each C slot forwards to the Function or callable registered under its name. */
#include "call.h"

#define BINARY(X)                                                                                                      \
  X(nb_add)                                                                                                            \
  X(nb_subtract)                                                                                                       \
  X(nb_multiply)                                                                                                       \
  X(nb_true_divide)                                                                                                    \
  X(nb_floor_divide) X(nb_remainder) X(nb_matrix_multiply) X(nb_and) X(nb_or) X(nb_xor) X(nb_lshift) X(nb_rshift)
#define INPLACE(X)                                                                                                     \
  X(nb_inplace_add)                                                                                                    \
  X(nb_inplace_subtract)                                                                                               \
  X(nb_inplace_multiply)                                                                                               \
  X(nb_inplace_true_divide)                                                                                            \
  X(nb_inplace_floor_divide)                                                                                           \
  X(nb_inplace_remainder)                                                                                              \
  X(nb_inplace_matrix_multiply)                                                                                        \
  X(nb_inplace_and) X(nb_inplace_or) X(nb_inplace_xor) X(nb_inplace_lshift) X(nb_inplace_rshift)
#define UNARY(X) X(nb_negative) X(nb_positive) X(nb_absolute) X(nb_invert) X(nb_int) X(nb_float) X(nb_index)
#define OTHER(X)                                                                                                       \
  X(nb_power) X(nb_inplace_power) X(nb_bool) X(mp_subscript) X(mp_ass_subscript) X(lt) X(le) X(eq) X(ne) X(gt) X(ge)
#define ALL(X) BINARY(X) INPLACE(X) UNARY(X) OTHER(X)

enum {
#define ENUMERATE(name) SLOT_##name,
  ALL(ENUMERATE) N_SLOTS
};
static const char *const slot_names[] = {
#define NAME(name) #name,
    ALL(NAME)};
static PyObject *registered[N_SLOTS];

int fb_slots_register(PyObject *name, PyObject *callable, PyObject **old) {
  for (int i = 0; i < N_SLOTS; i++)
    if (PyUnicode_CompareWithASCIIString(name, slot_names[i]) == 0) {
      *old = registered[i] ? registered[i] : Py_NewRef(Py_None);
      registered[i] = callable == Py_None ? NULL : Py_NewRef(callable);
      return 0;
    }
  PyErr_Format(PyExc_ValueError, "[set_slot] there is no slot '%U'.", name);
  return -1;
}

static bool is_operand(PyObject *o) {
  fb_scalar ignored;
  if (fb_is_tensor(o) || PyFloat_Check(o) || PyLong_Check(o) || PyComplex_Check(o))
    return true;
  int is_number = fb_number(o, &ignored);
  if (is_number < 0)
    PyErr_Clear();
  return is_number != 0;
}

static inline PyObject *binary(int slot, PyObject *a, PyObject *b) {
  PyObject *f = registered[slot];
  if (FB_UNLIKELY(!f))
    Py_RETURN_NOTIMPLEMENTED;
  if (FB_LIKELY(Py_TYPE(f) == fb_function_type && ((fb_function *)f)->binary))
    return fb_record_binary((fb_function *)f, a, b);
  if (!is_operand(a) || !is_operand(b))
    Py_RETURN_NOTIMPLEMENTED;
  PyObject *args[3] = {NULL, a, b};
  return PyObject_Vectorcall(f, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
}

static PyObject *unary(int slot, PyObject *a) {
  if (!registered[slot])
    return PyErr_Format(PyExc_TypeError, "[%s] is not supported by Tensor.", slot_names[slot]);
  return PyObject_CallOneArg(registered[slot], a);
}

#define DEFINE_BINARY(name)                                                                                            \
  static PyObject *do_##name(PyObject *a, PyObject *b) { return binary(SLOT_##name, a, b); }
BINARY(DEFINE_BINARY)
INPLACE(DEFINE_BINARY)
#define DEFINE_UNARY(name)                                                                                             \
  static PyObject *do_##name(PyObject *a) { return unary(SLOT_##name, a); }
UNARY(DEFINE_UNARY)

static PyObject *do_nb_power(PyObject *a, PyObject *b, PyObject *modulus) {
  if (modulus != Py_None)
    Py_RETURN_NOTIMPLEMENTED;
  return binary(SLOT_nb_power, a, b);
}

static PyObject *do_nb_inplace_power(PyObject *a, PyObject *b, PyObject *modulus) {
  (void)modulus;
  return binary(SLOT_nb_inplace_power, a, b);
}

static int do_nb_bool(PyObject *a) {
  PyObject *r = unary(SLOT_nb_bool, a);
  int truth = r ? PyObject_IsTrue(r) : -1;
  Py_XDECREF(r);
  return truth;
}

static PyObject *do_mp_subscript(PyObject *a, PyObject *index) {
  PyObject *view;
  if (FB_LIKELY(fb_try_index((fb_tensor *)a, index, &view)))
    return view;
  if (!registered[SLOT_mp_subscript])
    return PyErr_Format(PyExc_TypeError, "[getitem] Tensor is not subscriptable.");
  PyObject *args[3] = {NULL, a, index};
  return PyObject_Vectorcall(registered[SLOT_mp_subscript], args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
}

static int do_mp_ass_subscript(PyObject *a, PyObject *index, PyObject *value) {
  int status;
  if (FB_LIKELY(value && fb_try_assign((fb_tensor *)a, index, value, &status)))
    return status;
  if (!registered[SLOT_mp_ass_subscript] || !value) {
    PyErr_SetString(PyExc_TypeError, value ? "[setitem] Tensor does not support item assignment."
                                           : "[delitem] elements of a Tensor cannot be deleted.");
    return -1;
  }
  PyObject *r = PyObject_CallFunctionObjArgs(registered[SLOT_mp_ass_subscript], a, index, value, NULL);
  Py_XDECREF(r);
  return r ? 0 : -1;
}

static Py_ssize_t do_mp_length(PyObject *a) {
  const fb_type *type = fb_tensor_get_type((fb_tensor *)a);
  if (!type)
    return -1;
  if (!type->ndim) {
    PyErr_SetString(PyExc_TypeError, "[len] a 0-d tensor has no length.");
    return -1;
  }
  return (Py_ssize_t)type->dims[0];
}

static PyObject *do_richcompare(PyObject *a, PyObject *b, int op) {
  static const int slot[] = {[Py_LT] = SLOT_lt, [Py_LE] = SLOT_le, [Py_EQ] = SLOT_eq,
                             [Py_NE] = SLOT_ne, [Py_GT] = SLOT_gt, [Py_GE] = SLOT_ge};
  return binary(slot[op], a, b);
}

PyType_Slot fb_operator_slots[] = {
#define SLOT(name) {Py_##name, do_##name},
    BINARY(SLOT) INPLACE(SLOT) UNARY(SLOT){Py_nb_power, do_nb_power},
    {Py_nb_inplace_power, do_nb_inplace_power},
    {Py_nb_bool, do_nb_bool},
    {Py_mp_subscript, do_mp_subscript},
    {Py_mp_ass_subscript, do_mp_ass_subscript},
    {Py_mp_length, do_mp_length},
    {Py_tp_iter, fb_iterate},
    {Py_tp_richcompare, do_richcompare}};

size_t fb_operator_slot_count(void) { return sizeof fb_operator_slots / sizeof *fb_operator_slots; }
