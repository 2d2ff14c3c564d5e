/* What Python gets to call, besides the types. */
#ifndef FB_MODULE_H
#define FB_MODULE_H

#include "runs.h"

int fb_public_init(PyObject *module);
PyObject *fb_py_intercept(PyObject *module, PyObject *args);
PyObject *fb_backward(PyObject *module, PyObject *args, PyObject *kwargs);
PyObject *fb_grad_entry(PyObject *module, PyObject *args, PyObject *kwargs);
PyObject *fb_py_tensor_for_slot(PyObject *module, PyObject *slot);
PyObject *fb_py_slot_for_tensor(PyObject *module, PyObject *tensor);
PyObject *fb_py_import_history(PyObject *module, PyObject *tensor);
PyObject *fb_py_trace_export(PyObject *module, PyObject *unused);
PyObject *fb_py_trace_notes(PyObject *module, PyObject *unused);
PyObject *fb_py_trace_sizes(PyObject *module, PyObject *unused);
PyObject *fb_py_trace_key(PyObject *module, PyObject *unused);
PyObject *fb_py_trace_returns(PyObject *module, PyObject *unused);
PyObject *fb_py_trace_equations(PyObject *module, PyObject *number);
PyObject *fb_py_trace_scalar(PyObject *module, PyObject *number);
PyObject *fb_py_trace_scalars(PyObject *module, PyObject *unused);
PyObject *fb_py_trace_leaves(PyObject *module, PyObject *unused);

/* module.c */
int fb_flush_point(bool is_long); /* a place where programs repeat: flush if the trace is long */

/* handles.c */
PyObject *fb_py_tensor_from_buffer(PyObject *module, PyObject *args, PyObject *kwargs);
PyObject *fb_py_make_leaf(PyObject *module, PyObject *args);
PyObject *fb_py_set_requires_grad(PyObject *module, PyObject *args);
PyObject *fb_py_set_cell(PyObject *module, PyObject *args);
PyObject *fb_py_is_part(PyObject *module, PyObject *o);
PyObject *fb_py_is_lone_view(PyObject *module, PyObject *o);
PyObject *fb_py_set_apart(PyObject *module, PyObject *o);
PyObject *fb_py_is_of_leaf(PyObject *module, PyObject *o);
PyObject *fb_py_view_info(PyObject *module, PyObject *o);
PyObject *fb_py_same_storage(PyObject *module, PyObject *args);
PyObject *fb_py_set_shared(PyObject *module, PyObject *args);
PyObject *fb_py_is_shared(PyObject *module, PyObject *o);
/* A tensor on a buffer, which it holds a reference of its own to, or on a copy where kernels could not read it. */
PyObject *fb_tensor_on(fb_buffer *b, const fb_type *type, PyTypeObject *cls, bool shared, bool unset);
int fb_cell_share(fb_cell *c, bool shared); /* whether others see its memory */

/* arrays.c */
PyObject *fb_py_array_on(PyObject *module, PyObject *tensor);
PyObject *fb_py_tell_address(PyObject *module, PyObject *tensor);
PyObject *fb_py_tensor_on(PyObject *module, PyObject *const *args, Py_ssize_t n);
PyObject *fb_py_move_storage(PyObject *module, PyObject *args);

/* forward.c */
int fb_forward_init(PyObject *module);

/* look.c */
PyObject *fb_py_item(PyObject *module, PyObject *tensor);
PyObject *fb_py_tolist(PyObject *module, PyObject *tensor);
PyObject *fb_py_to_bool(PyObject *module, PyObject *tensor);
PyObject *fb_py_to_int(PyObject *module, PyObject *tensor);
PyObject *fb_py_to_float(PyObject *module, PyObject *tensor);
PyObject *fb_py_to_index(PyObject *module, PyObject *tensor);
PyObject *fb_py_memory(PyObject *module, PyObject *tensor);
PyObject *fb_py_strides(PyObject *module, PyObject *tensor);

/* literal.c */
PyObject *fb_py_literal(PyObject *module, PyObject *const *args, Py_ssize_t n);

/* inline.c */
PyObject *fb_py_free_history(PyObject *module, PyObject *slots);

/* trees.c */
PyObject *fb_py_tree_tensors(PyObject *module, PyObject *tree);
PyObject *fb_py_tree_mapped(PyObject *module, PyObject *const *args, Py_ssize_t n);
PyObject *fb_py_tree_changed(PyObject *module, PyObject *const *args, Py_ssize_t n);

/* together.c */
PyObject *fb_py_together(PyObject *module, PyObject *calls);

#endif
