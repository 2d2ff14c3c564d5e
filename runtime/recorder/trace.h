/* Traces: what one holds besides its place in the trie, the recorders that hold them, and their phases. */
#ifndef FB_TRACE_H
#define FB_TRACE_H

#include "trie.h"

typedef struct {
  uint32_t slot;
  fb_scalar_kind kind;
  union {
    double f;
    int64_t i;
    fb_buffer *buffer; /* NULL once a plan took it */
  };
  fb_cell *cell; /* borrowed; NULL for scalars, snapshots and cells that have died since */
  const fb_type *type;
} fb_trace_input;

/* An input that has gradient history in a flushed trace. */
typedef struct {
  uint32_t slot;
  fb_segment *segment;
  uint32_t segment_slot;
  uint32_t history; /* (of the current trace) where that history was imported to, or FB_NO_SLOT */
} fb_origin;

/* A value that a gradient may read: the cell that slot `slot` went to, and how often that had been written by then. */
typedef struct {
  fb_watch *watch;
  uint32_t slot, writes, aside;
  bool leaf; /* of a leaf, which may be written aside; not known where the trace has the leaf itself */
} fb_watched;

/* Where the current trace has something that another thread's trace has, too. A cell: as its own fields of these names,
 * while its version is this; an anchor: its slot, data (`use`) and index (`history`); a segment: which import (`slot`).
 */
typedef struct {
  const void *key;
  uint32_t slot, use, history, input, version;
} fb_place;
typedef struct {
  fb_place *items;
  uint32_t n, mask;
} fb_places;

/* Where a call of the trace is: an instruction of the user's code, or nowhere. Which line that is matters to errors
 * only. */
typedef struct {
  uint32_t depth;
  int instruction;
  PyCodeObject *code;
} fb_loc;

typedef struct {
  fb_anchor *anchor;
  uint32_t slot; /* of its leaf entry */
  uint32_t data; /* what it held when it was entered */
} fb_trace_leaf;

typedef struct fb_capture fb_capture;
typedef struct fb_region fb_region;
/* Something outside of the trace that recording it has changed. */
typedef struct fb_undo fb_undo;

/* A segment in the current trace. */
typedef struct {
  fb_segment *segment;
  uint32_t base;       /* its slot s is slot base + s here */
  bool *linked;        /* per leaf */
  uint32_t *histories; /* per origin: where its history was imported to, or FB_NO_SLOT */
  uint32_t written;    /* of its values that gradients may read, as the trace was last told: see add_modified; so: */
  uint32_t ends;       /* the segment's, when the trace was last told which of its histories are used up */
} fb_import;

#define FB_MODE_BITS 12
#define FB_GRAD_MODE 1u
#define FB_WHOLE_MODE (1u << 11) /* cuts wait for its end: what is recorded in it runs as one, or not at all */

/* A block in which a scope of mode.c holds some bits of the mode. */
typedef struct {
  struct mode_scope *scope;
  uint32_t mask, before;
} fb_mode_block;

/* Where a trace is in its life; who may touch it then. All changes go through fb_trace_enter. */
typedef enum {
  FB_RECORDING, /* the thread whose recorder it is in */
  FB_QUEUED,    /* it has left its recorder, or was interrupted: whoever runs it next */
  FB_RUNNING,   /* the thread `flusher`; others wait */
  FB_DONE,      /* nobody: its values are in their cells. Empty */
  FB_FAILED     /* nobody: its cells have an error, or what ran before it. Empty */
} fb_phase;

/* A thread's recorder, or one that holds a trace while it runs. What comes before `next` is the trace: see
 * fb_move_trace. */
struct fb_recorder {
  uint64_t id; /* of the current trace; process-unique */
  fb_node *state;
  fb_cell **owner; /* per slot: the live cell whose data it is, for computed slots */
  fb_trace_input *inputs;
  uint32_t n_inputs, cap_inputs;
  uint32_t *entered; /* those of them that are values of cells, or were */
  uint32_t n_entered, cap_entered;
  uint32_t n_slots, cap_slots;
  bool flush_soon;
  bool new_leaves; /* leaves have been made of, or overwritten with, values that are not computed yet */
  bool learns;     /* `learning` is there */
  uint32_t cap_symbols;
  int64_t *symbols; /* values of the state's symbols */
  fb_origin *origins;
  uint32_t n_origins, cap_origins;
  fb_trace_leaf *leaves;
  uint32_t n_leaves, cap_leaves;
  fb_loc *locs;
  uint32_t n_locs, cap_locs;
  fb_import *imports; /* segments that were imported into this trace */
  uint32_t n_imports, cap_imports;
  fb_node **backwards; /* its backward and grad entries */
  uint32_t n_backwards, cap_backwards;
  struct fb_mark *marks;
  uint32_t n_marks, cap_marks;
  fb_undo *undos; /* the latest last */
  uint32_t n_undos, cap_undos;
  fb_places places;
  fb_watched *overtaken; /* inputs whose tensors other traces have written since */
  uint32_t n_overtaken, cap_overtaken;
  uint32_t written;                /* of them, as the trace was last told: see add_modified */
  uint32_t calls_left, look_again; /* until the trace is cut where the program repeats; see fb_note_repetition */
  size_t held_bytes;               /* inputs that only the trace keeps alive */
  /* Its export up to a depth, those of states that it imported, what Python code has worked out about it; or NULL. */
  PyObject *exported, *exported_states, *notes;
  uint32_t exported_to;
  fb_phase phase;

  fb_recorder *next, *idle;
  fb_capture *capture; /* NULL, or what its thread captures */
  /* NULL, or it records a region: whose values, and those of its outer ones, it reads as they are. */
  fb_recorder *outer;
  struct fb_learning
      *learning; /* calls of Python functions that are on their way, the innermost first: see forwarded.c */
  uint32_t mode;
  fb_mode_block *blocks; /* that have changed the mode, the innermost last */
  uint32_t n_blocks, cap_blocks;
  bool orphan;           /* its thread has ended */
  bool is_run;           /* never a thread's: `origin` is where its trace was recorded */
  unsigned long flusher; /* FB_RUNNING: the thread that runs it */
  fb_recorder *origin;
  bool is_lent;    /* it runs for another thread than the one that recorded it */
  uint32_t n_lent; /* traces of it that other threads run now */
  uint32_t held;   /* slots of the trace are in use: it stays where it is. By thread `holder` */
  unsigned long holder;
  fb_recorder *wanted; /* what a held recorder would have had to wait for: its trace `wanted_id` */
  uint64_t wanted_id;
};

typedef struct {
  uint32_t max_ops, soft_ops, max_states, max_programs,
      max_types;            /* soft: traces this long end where the program repeats itself */
  uint32_t soft_backwards;  /* how many equal rounds of a loop that accumulates gradients are one trace */
  uint64_t max_ns, soft_ns; /* the same for estimated run time */
  size_t max_bytes;
} fb_limits_t;

typedef struct {
  uint64_t hits, misses, flushes, failures, builds, patterns; /* patterns: entries for sizes that differ */
  uint64_t copied;                                            /* bytes of snapshots */
} fb_counters;

extern fb_limits_t fb_limits;
extern fb_counters fb_stats;

#include "threads.h"

extern __thread fb_recorder *fb_current __attribute__((tls_model("initial-exec")));
fb_recorder *fb_recorder_make(void);
fb_recorder *fb_recorders(void);
int fb_mode_add_types(PyObject *module);
PyObject *fb_py_is_entered(PyObject *module, PyObject *type);
void fb_mode_forget(fb_recorder *rec, uint32_t mode); /* all its blocks: another thread takes it over, in this mode */
bool fb_trace_is_long(const fb_recorder *rec);
static inline fb_recorder *fb_recorder_get(void) {
  return FB_LIKELY(fb_current != NULL) ? fb_current : fb_recorder_make();
}
uint64_t fb_next_trace_id(void);
void fb_trace_enter(fb_recorder *rec, fb_phase phase); /* its trace; ends the process if it may not */
uint32_t fb_traces_queued(void);
fb_recorder *fb_region_take(fb_recorder *outer); /* an empty recorder for a region, in the mode of `outer` */
fb_recorder *fb_run_take(void);                  /* an empty recorder for a trace that is about to run */
void fb_run_give(fb_recorder *run);
void fb_note_repetition(fb_recorder *rec, fb_node *node); /* a new call: cut the trace after it if a loop ends there */
int fb_recorder_reserve(fb_recorder *rec, uint32_t slots);
static inline fb_node *fb_trie_step(fb_recorder *rec, const uint64_t *words, uint32_t n) {
  fb_node *c = rec->state->recent;
  if (FB_LIKELY(c && c->n_words == n && !(c->flags & FB_CHECKED))) {
    uint32_t i = 0;
    while (i < n && c->words[i] == words[i])
      i++;
    if (FB_LIKELY(i == n))
      return c;
  }
  return fb_trie_find(rec, words, n, NULL);
}

/* Whether `home`'s trace is around the region that `rec` records. */
static inline bool fb_is_around(const fb_recorder *rec, const fb_recorder *home) {
  for (rec = rec->outer; rec && rec != home;)
    rec = rec->outer;
  return rec != NULL;
}

static inline bool fb_is_live(const fb_recorder *home, uint64_t epoch) { return home && home->id == epoch; }

static inline bool fb_cell_pending(const fb_cell *c) { return fb_is_live(c->home, c->epoch) && c->slot != FB_NO_SLOT; }

/* Its value is a result of a trace that has not run. */
static inline bool fb_cell_owed(const fb_cell *c) { return fb_cell_pending(c) && c->home->owner[c->slot] == c; }

#define FB_HOOKS(X)                                                                                                    \
  X(expand)                                                                                                            \
  X(expand_sized)                                                                                                      \
  X(fit_sizes)                                                                                                         \
  X(equations)                                                                                                         \
  X(build_program)                                                                                                     \
  X(expand_backward)                                                                                                   \
  X(expand_grad) X(read_view) X(replay) X(window) X(copy) X(fill) X(view_layout) X(array_of) X(construct)
typedef struct {
#define FB_FIELD(name) PyObject *name;
  FB_HOOKS(FB_FIELD)
#undef FB_FIELD
} fb_hooks_t;
extern fb_hooks_t fb_hooks;
PyObject *fb_hook(PyObject *hook, const char *name); /* borrowed, or an error */

int fb_user_line(PyObject **file);            /* new reference; returns the line, 0 when there is none */
PyFrameObject *fb_user_frame(void);           /* new reference, or NULL */
PyCodeObject *fb_user_code(int *instruction); /* new reference, or NULL */
void fb_explain(const char *kind, const fb_node *node);
void fb_explain_flush(const fb_node *node);
PyObject *fb_explain_events(void); /* a dict from event to count; new reference */
extern bool fb_shadow;

PyObject *fb_slot_tuple(const uint32_t *slots, uint32_t n);
PyObject *fb_export(fb_recorder *rec); /* one list, which grows with the trace: not to be changed */
PyObject *fb_export_state(fb_node *state, fb_recorder *rec); /* rec NULL: without per-call lines */
PyObject *fb_ref_of_word(uint64_t word, uint32_t *next_scalar);

/* The one call upwards: the layers below runs.h ask for a value this way. It runs rec's trace, or waits until another
 * thread has done so. */
int fb_flush(fb_recorder *rec);

#endif
