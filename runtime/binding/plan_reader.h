/* From Python tuples to an fb_plan_spec. */
#ifndef FLAMBEAU_PLAN_READER_H
#define FLAMBEAU_PLAN_READER_H

#include "binding.h"

/* The spec and the arrays it points into. Start from zeros; free after fb_plan_create has copied the spec. */
typedef struct {
  fb_plan_spec spec;
  struct fb_plan_array *arrays; /* the last one made; each knows the one before */
} fb_plan_reader;

/* `devices` are the Device objects of the spec's devices. -1 and an exception on failure. */
int fb_read_plan_spec(fb_plan_reader *r, PyObject *spec, PyObject *addresses, PyObject *devices);
void fb_plan_reader_free(fb_plan_reader *r);

#endif
