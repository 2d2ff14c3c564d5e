/* A program run op by op: what its two source files share. */
#ifndef FLAMBEAU_BINDING_OP_LIST_H
#define FLAMBEAU_BINDING_OP_LIST_H

#include "binding.h"

#define FB_LEAST_SIZE 2             /* plans with symbols are for such values: LEAST of dialects/size.py */
#define FB_FIRST_QUESTION_NS 100000 /* after so long the program's owner is asked whether there is something better */

typedef struct {
  fb_plan *plan;   /* NULL: small */
  PyObject *small; /* a SmallOp, or NULL: call */
  PyObject *call;  /* call(sizes, *operands): the results, where there is no plan for these sizes */
  int32_t *operands, *results, *dead, *symbols; /* values; `symbols`: expressions */
  int32_t n_operands, n_results, n_dead, n_symbols;
  bool is_quick;    /* a run of its plan was measured */
  int32_t number;   /* in its source */
  PyObject *source; /* the list that it was joined from, which locates its errors; NULL: the list itself */
} fb_op;

typedef struct {
  PyObject_HEAD fb_op *ops;
  PyObject *located, *weak; /* located(number of the op, exception, sizes): the exception to raise for it */
  fb_expr *exprs;
  int32_t *outputs;
  int32_t n_ops, n_values, n_inputs, n_outputs, n_exprs, n_symbols, most_operands, most_results, most_symbols;
  char is_stale; /* there may be something better to run */
  char is_whole; /* every op has a plan or is small: there will be nothing better */
  long long calls;
  uint64_t ns, ask_ns;
} fb_op_list;

/* An empty list. */
fb_op_list *fb_op_list_new(PyObject *located);

#endif
