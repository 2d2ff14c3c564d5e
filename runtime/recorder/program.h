/* Programs: what a state of the trie has been compiled to, and running it. */
#ifndef FB_PROGRAM_H
#define FB_PROGRAM_H

#include "trace.h"

/* What has to outlive a trace. */
typedef struct {
  uint32_t *live, n_live;       /* slots whose data a cell holds; they ascend */
  uint32_t *history, n_history; /* slots whose gradient history a cell holds */
} fb_liveness;

/* What importers see of a trace that has imported others: see flatten.c. */
typedef struct {
  fb_node *state; /* valid while `sweep` is fb_trie_sweeps() */
  uint64_t sweep;
  uint32_t n_slots;
  uint32_t *slots;     /* per slot of the trace: there, or FB_NO_SLOT */
  uint32_t *residuals; /* where the program's are */
  PyObject *equations; /* what is 0 of sizes: a list; NULL: the trace has no symbols */
} fb_flat;

typedef struct {
  PyObject_HEAD PyObject *executable, *updates;
  PyObject *others;                 /* tuple of plans, for when the executable is one for other sizes, or NULL */
  PyObject *fallback;               /* called when none of them is for these sizes, or an OpList asks */
  uint32_t *outputs, n_outputs;     /* output_slots */
  uint32_t *residuals, n_residuals; /* further outputs, which the backward needs */
  const fb_type **residual_types;   /* found when the first segment is made */
  uint32_t *inputs, n_inputs;       /* input_slots; NULL: all */
  uint32_t *index;                  /* their positions among the trace's inputs */
  uint32_t *history, n_history;     /* the slots for whose history the residuals suffice */
  uint32_t *watched, n_watched;     /* slots whose values the backward reads, kept or computed anew */
  uint32_t *followed, n_followed;   /* of them, those overwritten aside; each followed by the slot that is there now */
  fb_flat *flat;                    /* NULL: its trace has imported none */
  bool has_history;
  unsigned char once; /* how often the trace was run by programs in whose place another one is asked for; or 0 */
  int64_t *lasts;     /* of those: the values of the symbols for which no other one is asked for yet, or NULL */
  uint64_t spent;     /* nanoseconds that they took; the frontend counts */
  PyObject *earlier;  /* of those: the one that ran before at other sizes, a Program, or NULL; a few are kept so */
  uint64_t runs, ns;
} fb_program;

int fb_program_init(PyObject *module);
/* Run on the inputs of rec's trace; the n_outputs outputs are new references. `keep`: donate no residual. */
int fb_program_run(fb_program *p, fb_recorder *rec, bool keep, fb_buffer **outputs);
bool fb_contains(const uint32_t *sorted, uint32_t n, uint32_t slot);
const fb_trace_input *fb_input_at(const fb_recorder *rec, uint32_t slot); /* what entered its trace there, or NULL */
PyObject *fb_input_values(fb_recorder *rec);                              /* list of (slot, Buffer or number) */
bool fb_program_covers(const fb_program *p, const fb_liveness *found);
/* The state's program that is to run the trace at these sizes and gives what is alive, now the first; NULL: ask for
 * one. */
fb_program *fb_program_find(const fb_recorder *rec, const fb_liveness *found);
/* Make p the state's first program. Those that are for once, at other sizes, stay behind it if it is one of them. */
void fb_program_put(const fb_recorder *rec, fb_program *p);

int fb_flatten(fb_recorder *rec, fb_program *p); /* p->flat, if its trace is to be seen in another way */
void fb_flat_free(fb_program *p);
/* Where importers see a slot of the trace; FB_NO_SLOT: they do not. */
static inline uint32_t fb_flat_slot(const fb_program *p, uint32_t slot) {
  return p->flat ? p->flat->slots[slot] : slot;
}

#endif
