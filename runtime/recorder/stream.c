/* Stream: where random numbers are drawn from, a seed and how many were drawn. Calls that draw enter both as scalars.
 */
#include "recorder.h"
#include <structmember.h>
#include <stddef.h>

static PyTypeObject *stream_type;

fb_stream *fb_stream_of(PyObject *o) { return PyObject_TypeCheck(o, stream_type) ? (fb_stream *)o : NULL; }

void fb_stream_advance(fb_stream *s, uint64_t draws) {
  s->offset = (int64_t)(((uint64_t)s->offset + draws) & INT64_MAX);
}

int fb_stream_draws(PyObject *payload, uint64_t *draws, fb_size **size) {
  PyObject *found = PyObject_GetAttrString(payload, "draws");
  *draws = 0;
  *size = NULL;
  if (found && PyLong_Check(found))
    *draws = PyLong_AsUnsignedLongLong(found);
  else if (found)
    *size = fb_size_read(found);
  Py_XDECREF(found);
  return PyErr_Occurred() ? -1 : 0;
}

static void stream_dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);
  type->tp_free(self);
  Py_DECREF(type);
}

static PyMemberDef members[] = {{"_seed", T_LONGLONG, offsetof(fb_stream, seed), 0, NULL},
                                {"_offset", T_LONGLONG, offsetof(fb_stream, offset), 0, NULL},
                                {NULL, 0, 0, 0, NULL}};
static PyType_Slot slots[] = {{Py_tp_new, PyType_GenericNew},
                              {Py_tp_dealloc, stream_dealloc},
                              {Py_tp_members, members},
                              {Py_tp_doc, "A seed and how many numbers were drawn: `_seed`, `_offset`."},
                              {0, NULL}};
static PyType_Spec spec = {"flambeau.runtime._recorder.Stream", sizeof(fb_stream), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots};

int fb_stream_init(PyObject *module) {
  stream_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
  return stream_type ? PyModule_AddObjectRef(module, "Stream", (PyObject *)stream_type) : -1;
}
