/* Recording a call without consequences. */
#ifndef FB_CAPTURE_H
#define FB_CAPTURE_H

#include "cells.h"

/* Before a change: log it if this thread captures. Things made since the capture began are left out. */
int fb_capture_write(fb_recorder *rec, fb_tensor *t); /* the recorder captures */
int fb_capture_grad(fb_leaf *leaf, const char *name);
int fb_capture_stream(fb_stream *s);
int fb_capture_handle(fb_tensor *t);           /* cell, view, leaf or attributes of a handle */
int fb_capture_cell(fb_cell *cell);            /* new, from host memory */
int fb_capture_leaf(fb_leaf *leaf);            /* new */
bool fb_capture_holds(const fb_recorder *rec); /* its trace must not run now */
int fb_capture_refuse(fb_recorder *rec);       /* somebody wanted it to: -1 */
PyObject *fb_py_capture_begin(PyObject *module, PyObject *unused);
PyObject *fb_py_capture_open(PyObject *module, PyObject *unused);
PyObject *fb_py_capture_end(PyObject *module, PyObject *unused);
PyObject *fb_py_capture_read(PyObject *module, PyObject *unused);
PyObject *fb_py_capture_changes(PyObject *module, PyObject *unused);
PyObject *fb_py_capture_note(PyObject *module, PyObject *args);
PyObject *fb_py_capture_outside(PyObject *module, PyObject *tensor);
PyObject *fb_py_capturing(PyObject *module, PyObject *unused);
PyObject *fb_py_leaf_of(PyObject *module, PyObject *tensor);

#endif
