/* Handles that become others: from then on they show what those show. */
#include "capture.h"

/* A leaf stands for a whole base: other views must be copied first. */
int fb_tensor_check_leaf(const fb_tensor *t, const char *what) {
  if (!t->view || t->view->identity)
    return 0;
  PyErr_Format(PyExc_ValueError, "[%s] the tensor is a view of another one's elements. Clone it first.", what);
  return -1;
}

int fb_tensor_copy_starts(const fb_tensor *t, int64_t **starts) {
  *starts = NULL;
  if (!t->starts)
    return 0;
  if (!(*starts = PyMem_Malloc(t->view->n_starts * sizeof **starts)))
    return PyErr_NoMemory(), -1;
  memcpy(*starts, t->starts, t->view->n_starts * sizeof **starts);
  return 0;
}

int fb_tensor_become(fb_tensor *t, const fb_tensor *other) {
  if (fb_capture_handle(t) < 0)
    return -1;
  if (t->view) /* no leaf itself, at most a view of one */
    Py_CLEAR(t->leaf);
  if (t->leaf && fb_tensor_check_leaf(other, "data") < 0)
    return -1;
  int64_t *starts;
  if (fb_tensor_copy_starts(other, &starts) < 0)
    return -1;
  fb_tensor_part(t);
  fb_tensor_show(t, NULL);
  fb_cell *old = t->cell;
  other->cell->refs++;
  t->cell = other->cell;
  fb_tensor_show(t, t->leaf ? NULL : other->view);
  int64_t *old_starts = t->starts;
  t->starts = starts;
  PyMem_Free(old_starts);
  fb_cell_release(old);
  return 0;
}
