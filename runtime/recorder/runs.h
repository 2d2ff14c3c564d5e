/* Running traces: what has to outlive one, flushing, and failing. */
#ifndef FB_RUNS_H
#define FB_RUNS_H

#include "call.h"

int fb_flush_all(void);               /* those of all threads; one that fails keeps none of the others */
void fb_flush_drop(fb_recorder *rec); /* its trace never runs, because of the exception that is set */
/* A run has failed with the current exception: cells keep what eager execution would have left them. */
void fb_abandon(fb_recorder *rec, const fb_liveness *found);
PyObject *fb_py_abandon(PyObject *module, PyObject *error);

void fb_recorders_after_fork(void); /* in the child: only this thread is left */

#endif
