/* Programs: what a state of the trie has been compiled to, and running it. */
#ifndef FB_PROGRAM_H
#define FB_PROGRAM_H

#include "trace.h"

/* What has to outlive a trace. */
typedef struct {
  uint32_t *live, n_live;       /* slots whose data a cell holds; they ascend */
  uint32_t *history, n_history; /* slots whose gradient history a cell holds */
} fb_liveness;

typedef struct {
  PyObject_HEAD PyObject *executable, *updates;
  PyObject *others;                 /* tuple of plans, for when the executable is one for other sizes, or NULL */
  PyObject *fallback;               /* called when none of them is for these sizes */
  uint32_t *outputs, n_outputs;     /* output_slots */
  uint32_t *residuals, n_residuals; /* further outputs, which the backward needs */
  const fb_type **residual_types;   /* found when the first segment is made */
  uint32_t *inputs, n_inputs;       /* input_slots; NULL: all */
  uint32_t *index;                  /* their positions among the trace's inputs */
  uint32_t *history, n_history;     /* the slots for whose history the residuals suffice */
  uint32_t *watched, n_watched;     /* slots whose values the backward reads, kept or computed anew */
  bool has_history;
  uint64_t runs, ns;
} fb_program;

int fb_program_init(PyObject *module);
/* Run on the inputs of rec's trace; the n_outputs outputs are new references. `keep`: donate no residual. */
int fb_program_run(fb_program *p, fb_recorder *rec, bool keep, fb_buffer **outputs);
bool fb_contains(const uint32_t *sorted, uint32_t n, uint32_t slot);
PyObject *fb_input_values(fb_recorder *rec); /* list of (slot, Buffer or number) */
bool fb_program_covers(const fb_program *p, const fb_liveness *found);

#endif
