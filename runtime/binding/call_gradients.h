/* Gradients through the calls of a trace: what its two source files share. */
#ifndef FLAMBEAU_BINDING_CALL_GRADIENTS_H
#define FLAMBEAU_BINDING_CALL_GRADIENTS_H

#include "binding.h"

/* A slot of the trace, where gradients may meet. */
typedef struct {
  bool is_needed, is_entered, is_passed, is_leaf;
  int32_t call;    /* the passed call that makes it + 1; 0: none */
  int32_t n_terms; /* of its cotangent; they are linked, the last one first */
  int32_t terms;
} fb_place;

/* What an op of a call contributes to a cotangent. */
typedef struct {
  int64_t order; /* when the op is met */
  int32_t call, node, place, next;
  long value; /* a slot, or a number below 0 that a step makes */
} fb_term;

/* A call that was met. `operands`, `values` and `results` are where its slots begin in `slots`. */
typedef struct {
  PyObject *call, *passing; /* `Known`, and how gradients pass it: `Passing` of frontend/call_derivatives.py */
  int32_t operands, n_operands, values, results, n_results;
  int32_t order; /* of its ops: where it begins in `order` */
  long at, base;
  bool is_joined;
} fb_met_call;

typedef struct {
  PyObject *history, *walk; /* `CallHistory`, `_BackwardWalk` of the frontend; borrowed, as are the next ones */
  PyObject *known, *known_graphs, *find_passing;
  PyObject *makers, *given, *data, *links, *overwritten, *freed, *own, *steps, *avals; /* what these hold */
  bool has_joined;
  fb_place *places;
  fb_met_call *calls;
  fb_term *terms;
  long *slots;
  int32_t *passed; /* the calls that gradients pass, each after those it depends on */
  int32_t *order;  /* of the ops of these calls, once it is asked for */
  int32_t n_places, n_calls, n_terms, n_slots, n_passed, n_order;
  int32_t cap_calls, cap_terms, cap_slots, cap_passed;
  int64_t cost, n_joined;
} fb_call_walk;

/* Fields of a `Passing`. */
enum {
  FB_PASSING_RESULT,
  FB_PASSING_IS_ALONE,
  FB_PASSING_GRAPH,
  FB_PASSING_AVALS,
  FB_PASSING_COST,
  FB_PASSING_READS,
  FB_PASSING_TERMS,
  FB_PASSING_PASSED,
  FB_PASSING_WITHIN,
  FB_PASSING_MET,
  FB_PASSING_N_OPS,
  FB_PASSING_FIELDS,
};

typedef struct {
  int32_t operand, node, place, output;
} fb_passing_term;

/* All give 1, 0 where it cannot be done by calls alone, or -1 and an exception. */

/* Find the calls from `root` down to the leaves. */
int fb_reach_calls(fb_call_walk *walk, long root);

/* NULL: out of memory. It moves the others. */
fb_place *fb_place_at(fb_call_walk *walk, long slot);
/* Where a slot leads, as long as it leads on. -1: an exception. */
long fb_slot_end(const fb_call_walk *walk, long slot, PyObject *onward);
int fb_has_slot(PyObject *set, long slot);
bool fb_grow_array(void **items, int32_t *cap, int32_t n, size_t size);

static inline const int32_t *fb_passing_numbers(PyObject *passing, int field, Py_ssize_t *n) {
  PyObject *bytes = PyTuple_GET_ITEM(passing, field);
  *n = PyBytes_GET_SIZE(bytes) / (Py_ssize_t)sizeof(int32_t);
  return (const int32_t *)(const void *)PyBytes_AS_STRING(bytes);
}

#endif
