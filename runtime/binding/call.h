/* Inputs of a run, as Python gives them; what plan_type.c and op_list_type.c share. */
#ifndef FLAMBEAU_BINDING_CALL_H
#define FLAMBEAU_BINDING_CALL_H

#include "binding.h"

/* Reads a Buffer, a C-contiguous buffer-protocol object or a number, which goes into the cell. The input then holds a
 * reference to its buffer, if it has one. -1 and an exception on failure. */
int fb_read_input(PyObject *object, fb_input *input, int64_t *cell);
/* Reads exactly so many ints; None stands for none. */
int fb_read_symbols(PyObject *symbols, int64_t *out, Py_ssize_t expected);

#endif
