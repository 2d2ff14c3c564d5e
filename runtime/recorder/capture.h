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

/* `region`: NULL, or it is one, whose free is then the capture's. */
int fb_capture_start(fb_recorder *rec, fb_region *region);
int fb_capture_finish(fb_recorder *rec); /* drops the trace and takes back what it has changed */
fb_region *fb_capture_region(const fb_recorder *rec);
int fb_region_hold(fb_recorder *rec, fb_cell *cell); /* it reads the cell, which lives until the region ends */
void fb_region_free(fb_region *region);
/* A region gives results and does nothing else: -1, if there is one. */
int fb_region_refuse(const fb_region *region, const char *what, const char *remedy);
bool fb_region_draws(const fb_region *region);      /* whether there is one that may draw random numbers */
PyObject *fb_region_error(const fb_region *region); /* what reading a value of it raises, once it has ended */
PyObject *fb_py_region_begin(PyObject *module, PyObject *name);
PyObject *fb_py_region_draws(PyObject *module, PyObject *unused);
PyObject *fb_py_region_drawn(PyObject *module, PyObject *unused);
PyObject *fb_py_region_inputs(PyObject *module, PyObject *unused);
PyObject *fb_py_region_end(PyObject *module, PyObject *unused);
PyObject *fb_py_leaf_of(PyObject *module, PyObject *tensor);

#endif
