/* The trace recorder: tensors, functions, the trie of traces, flushing. See docs/architecture.md, "The recorder".
 *
 * The GIL guards all of it, but any Python code may let other threads in: threads.h has the rules. Where things are:
 * values.h, types.c (interning), tensor.c (handles, cells, leaves), view.c; function.c, statics.c, slots.c (how calls
 * arrive); record.c, learn.c, enter.c (calls and values become entries); stream.c; undo.c; period.c; trie.c, sizes.h,
 * sizes.c, fit.c (states whose sizes differ from run to run); recorder.c (one per thread), threads.c, places.c (what
 * threads share); flush.c, program.c, failure.c (running); history.h, history.c, import.c, backward.c, marks.c
 * (gradients); capture.c (calls recorded without consequences); export.c, inline.c, locate.c (what Python gets to see);
 * buffers.c; module.c.
 */
#ifndef FB_RECORDER_H
#define FB_RECORDER_H

#include "values.h"
#include "sizes.h"

/* ---- the trie -------------------------------------------------------------------------------------------- */

typedef enum {
  FB_ROOT,
  FB_INPUT,
  FB_LEAF,
  FB_GRAFT,
  FB_CALL,
  FB_REACH,
  FB_BACKWARD,
  FB_GRAD,
  FB_SEGMENT,
  FB_LINK,
  FB_MODIFIED,
  FB_FREED
} fb_node_kind;

/* Node flags; any of them leaves the fast path. OVERWRITE: the only result replaces operand 0. CHECKED: a step leads
 * here only when the conditions and guards in `sized` hold. */
enum { FB_CUT = 1, FB_FALLIBLE = 2, FB_COMPLEX = 4, FB_OVERWRITE = 8, FB_CHECKED = 16 };

/* Words of a key: first the header (function, mode, statics), then operands: slot | view << 32, or a tag. */
enum {
  FB_H_INPUT = 1,
  FB_H_LEAF,
  FB_H_GRAFT,
  FB_H_REACH,
  FB_H_BACKWARD,
  FB_H_GRAD,
  FB_H_SEGMENT,
  FB_H_LINK,
  FB_H_MODIFIED,
  FB_H_FREED
}; /* headers below all functions */
#define FB_TAG_FIRST 0xFFFFFFE0u
#define FB_TAG_LIST 0xFFFFFFE0u   /* count << 32 */
#define FB_TAG_NUMBER 0xFFFFFFE1u /* kind << 32; the next word is the value */
#define FB_TAG_SCALAR 0xFFFFFFE2u /* kind << 32: a new scalar slot */
#define FB_TAG_NONE 0xFFFFFFE4u
#define FB_TAG_SIZE 0xFFFFFFE5u    /* the next word is the value of a symbol of an imported trace */
#define FB_TAG_PATTERN 0xFFFFFFE6u /* ends a key in which skeletons stand for types, statics and views */

typedef enum { FB_FLOAT, FB_INT, FB_BOOL, FB_BUFFER } fb_scalar_kind;
typedef struct {
  fb_scalar_kind kind;
  union {
    double f;
    int64_t i;
  };
} fb_scalar;

typedef struct {
  const fb_type *type; /* NULL: no value (a leaf without gradient) */
  int32_t write;       /* which operand's cell it replaces, or -1 */
} fb_result;

/* A state, and the edge that leads to it from its parent. */
struct fb_node {
  fb_node *parent, *recent; /* recent: the child taken last */
  fb_node *children, *sibling;
  fb_node *hash_next, *all_next;
  uint64_t hash, id;
  fb_function *function;
  PyObject *payload;
  fb_result *results;
  const fb_type *type; /* of the first result */
  uint8_t kind, flags;
  bool single; /* the call returns its only result, not a tuple */
  bool marked;
  uint32_t n_results, n_scalars;
  uint32_t base; /* first slot made here: scalars, then results */
  uint32_t depth;
  uint64_t draws;     /* random numbers taken from the stream */
  uint64_t ns;        /* estimated run time of the trace up to here */
  bool has_import;    /* a trace was imported on the way here */
  fb_function **wide; /* NULL-terminated: functions whose numbers are operands at this state */
  PyObject *program;  /* fb_program or NULL */
  uint32_t widenings;
  int line;
  PyObject *file;
  uint32_t *aux; /* FB_REACH: leaf indices; n_aux of them. FB_BACKWARD, FB_GRAD: slots whose history is freed */
  uint32_t n_aux;
  fb_node *imported;  /* FB_SEGMENT: final state of the imported trace */
  uint32_t n_symbols; /* sizes of the trace up to here that differ from run to run */
  bool patterned;     /* has children that are found by patterns */
  fb_sized *sized;    /* NULL: nothing here depends on symbols */
  uint32_t n_words;
  uint64_t words[];
};

static inline uint64_t fb_tag(uint32_t tag, uint64_t high) { return tag | high << 32; }
static inline uint32_t fb_word_slot(uint64_t w) { return (uint32_t)w; }
static inline uint32_t fb_word_high(uint64_t w) { return (uint32_t)(w >> 32); }

fb_node *fb_trie_root(void);
/* The step from rec's state; NULL: not there. Updates `recent`, and rec's symbols. fb_trie_lookup: patterns, too. */
fb_node *fb_trie_find(fb_recorder *rec, const uint64_t *words, uint32_t n, const fb_pattern *pattern);
fb_node *fb_trie_lookup(fb_recorder *rec, fb_node_kind kind, fb_function *f, const uint64_t *words, uint32_t n);
void fb_trie_place(fb_node *draft, const uint64_t *key, uint32_t n); /* find it by this key */
uint64_t fb_trie_cost(PyObject *payload);                            /* its `cost`, in ns */
void fb_trie_charge(fb_node *node, uint64_t ns);
/* A new state that nobody finds until it is published, complete. Another thread may have learnt the same meanwhile:
 * publishing gives the one that counts. A draft that is not published is freed. */
fb_node *fb_trie_draft(fb_node *state, fb_node_kind kind, const uint64_t *words, uint32_t n, uint32_t base);
fb_node *fb_trie_publish(fb_node *draft); /* NULL: out of memory, and it is freed */
void fb_trie_drop(fb_node *draft);        /* NULL is allowed */
int fb_trie_set_results(fb_node *node, uint32_t n);
bool fb_trie_is_wide(const fb_node *state, const fb_function *f);
int fb_trie_note_number(fb_node *state, fb_function *f, const uint64_t *words, uint32_t n); /* 1: became wide */
void fb_trie_collect(void); /* drop what no trace or segment stands on */
void fb_trie_limit(void);   /* do so when there are too many states */
uint32_t fb_trie_states(void);
uint32_t fb_trie_programs(void);
/* The states from the root (excluded) to `state`, in order; a malloc'd array of state->depth pointers. */
fb_node **fb_trie_path(fb_node *state);

/* ---- traces ---------------------------------------------------------------------------------------------- */

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

typedef struct {
  uint32_t depth;
  int line;
  PyObject *file;
} fb_loc;

typedef struct {
  fb_anchor *anchor;
  uint32_t slot;         /* of its leaf entry */
  uint32_t last, writes; /* (segments) its slot and `anchor->writes` at the end of the trace */
} fb_trace_leaf;

typedef struct fb_capture fb_capture;
/* Something outside of the trace that recording it has changed. */
typedef struct fb_undo fb_undo;

/* A segment in the current trace. */
typedef struct {
  fb_segment *segment;
  uint32_t base;       /* its slot s is slot base + s here */
  bool *linked;        /* per leaf */
  uint32_t *histories; /* per origin: where its history was imported to, or FB_NO_SLOT */
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
  uint32_t calls_left, look_again; /* until the trace is cut where the program repeats; see fb_note_repetition */
  size_t held_bytes;               /* inputs that only the trace keeps alive */
  fb_phase phase;

  fb_recorder *next, *idle;
  fb_capture *capture; /* NULL, or what its thread captures */
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
  uint32_t max_ops, soft_ops, max_states; /* soft: traces this long end where the program repeats itself */
  uint64_t max_ns, soft_ns;               /* the same for estimated run time */
  size_t max_bytes;
} fb_limits_t;

typedef struct {
  uint64_t hits, misses, flushes, failures, builds, patterns; /* patterns: entries for sizes that differ */
} fb_counters;

extern fb_limits_t fb_limits;
extern fb_counters fb_stats;
#include "threads.h"

extern __thread fb_recorder *fb_current __attribute__((tls_model("initial-exec")));
fb_recorder *fb_recorder_make(void);
fb_recorder *fb_recorders(void);
void fb_recorders_after_fork(void); /* in the child: only this thread is left */
int fb_mode_add_types(PyObject *module);
void fb_mode_forget(fb_recorder *rec, uint32_t mode); /* all its blocks: another thread takes it over, in this mode */
bool fb_trace_is_long(const fb_recorder *rec);
bool fb_imports_nest(const fb_recorder *rec); /* an imported trace had imported another: such chains must not grow */
static inline fb_recorder *fb_recorder_get(void) {
  return FB_LIKELY(fb_current != NULL) ? fb_current : fb_recorder_make();
}
uint64_t fb_next_trace_id(void);
/* `to` is empty, and `from` then is. The home of the cells that own slots is left to the caller. */
void fb_move_trace(fb_recorder *from, fb_recorder *to);
void fb_trace_enter(fb_recorder *rec, fb_phase phase); /* its trace; ends the process if it may not */
uint32_t fb_traces_queued(void);
fb_recorder *fb_run_take(void); /* an empty recorder for a trace that is about to run */
void fb_run_give(fb_recorder *run);
void fb_lose_run(fb_recorder *run);                       /* after a fork: its values will never be there */
void fb_leave_input(fb_recorder *rec, uint32_t input);    /* the cell of this input has died */
void fb_note_repetition(fb_recorder *rec, fb_node *node); /* a new call: cut the trace after it if a loop ends there */
void fb_recorder_reset(fb_recorder *rec);                 /* forget the trace; its cells are left to the caller */
int fb_recorder_reserve(fb_recorder *rec, uint32_t slots);
int fb_grow(void **array, uint32_t *cap, uint32_t need, size_t item);
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

static inline bool fb_is_live(const fb_recorder *home, uint64_t epoch) { return home && home->id == epoch; }

static inline bool fb_cell_pending(const fb_cell *c) { return fb_is_live(c->home, c->epoch) && c->slot != FB_NO_SLOT; }

/* Its value is a result of a trace that has not run. */
static inline bool fb_cell_owed(const fb_cell *c) { return fb_cell_pending(c) && c->home->owner[c->slot] == c; }

typedef struct {
  PyObject_HEAD int64_t seed, offset;
} fb_stream;

int fb_stream_init(PyObject *module);
fb_stream *fb_stream_of(PyObject *o); /* borrowed; NULL without error for other objects */
int fb_stream_advance(fb_stream *s, uint64_t draws);
/* What has to be taken back if the trace, or its end, does not come to pass. `slot`: one of the entry that did it. */
int fb_undo_draw(fb_recorder *rec, fb_stream *s, uint64_t draws, uint32_t slot); /* the stream moves on */
int fb_undo_note_write(fb_recorder *rec, fb_anchor *a, uint32_t slot);           /* a->writes is about to be raised */
int fb_undo_note_modified(fb_recorder *rec, fb_segment *s, uint32_t modified, uint32_t slot); /* s->modified has it */
void fb_undo_note_gradient(fb_recorder *rec, struct fb_leaf *leaf); /* its gradient was never computed */
PyObject *fb_py_if_lost(PyObject *module, PyObject *args);
void fb_undo_from(fb_recorder *rec, uint32_t failed); /* what entries from slot `failed` on did */
void fb_undo_forget(fb_recorder *rec);                /* last of all: runs what is to be called, and any destructors */
/* How many an expansion says it draws: a number, or a new expression of symbols. */
int fb_stream_draws(PyObject *payload, uint64_t *draws, fb_size **size);

/* One call being recorded. */
#define FB_INLINE_WORDS 20
typedef struct {
  fb_recorder *rec;
  uint64_t trace; /* the words are about this one */
  fb_function *function;
  uint64_t *words, words_[FB_INLINE_WORDS];
  fb_scalar *scalars, scalars_[FB_INLINE_WORDS];
  fb_tensor **operands, *operands_[FB_INLINE_WORDS]; /* flattened; NULL for scalars, None and numbers */
  uint32_t n, cap, n_scalars, cap_scalars, n_operands, cap_operands;
  PyObject *const *values; /* bound arguments */
  uint32_t statics;
  fb_stream *stream; /* that it draws from, or NULL */
  int64_t seed, offset;
  PyObject *kept; /* what the operands are borrowed from, or NULL */
  bool narrow;    /* has numbers specialised by value */
  bool again;     /* bind again: numbers have just become operands, or another thread has changed something */
} fb_call;

void fb_call_init(fb_call *call, fb_recorder *rec, fb_function *f, PyObject *const *values, uint32_t statics);
void fb_call_restart(fb_call *call);
void fb_call_clear(fb_call *call);
int fb_call_word(fb_call *call, uint64_t word);
int fb_call_scalar(fb_call *call, fb_scalar scalar);
int fb_call_note(fb_call *call, fb_tensor *t);
int fb_call_tensor(fb_call *call, fb_tensor *t); /* appends the operand's word (and its starts); sets `again` */
/* The starts of an operand's view, if its word says that it is one; `view` is what it was when that was found. */
int fb_call_starts(fb_call *call, const fb_tensor *t, const fb_view *view, uint64_t word);
int fb_call_keep(fb_call *call, PyObject *o); /* until the call is over */
/* The state that the call leads to; NULL also where it has to be bound again. The recorder is held. */
fb_node *fb_find_or_learn(fb_call *call);
PyObject *fb_call_finish(fb_call *call); /* step, expand on a miss, make results */
/* Make the tensor's value and history slots of the trace; `whole`: never a snapshot of just a view's elements. */
int fb_enter(fb_recorder *rec, fb_tensor *t, bool whole, uint64_t *word);
/* Whether a view of shared memory enters, or has entered, as a copy of its elements alone. */
bool fb_enters_as_elements(const fb_recorder *rec, const fb_tensor *t, bool whole);
/* Now no other trace owes its value; raises the stored error. Waits; a held `rec` must not, see fb_wants_other. */
int fb_cell_settle(fb_recorder *rec, fb_cell *c);
int fb_cell_raise(const fb_cell *c); /* -1, with the error that has kept its value from being computed */
int fb_enter_value(fb_recorder *rec, fb_buffer *buffer, const fb_type *type, fb_cell *cell, uint32_t *slot);
int fb_enter_leaf(fb_recorder *rec, fb_anchor *a, uint32_t data, const fb_type *type, uint32_t *slot);
fb_node *fb_step_entry(fb_recorder *rec, fb_node_kind kind, const uint64_t *words, uint32_t n, const fb_type *type);
void fb_take_scalars(fb_recorder *rec, const fb_scalar *scalars, uint32_t n, uint32_t base);
int fb_write_cell(fb_recorder *rec, fb_tensor *t, uint32_t slot, const fb_type *type);
PyObject *fb_new_result(fb_recorder *rec, uint32_t slot, const fb_type *type);
PyObject *fb_record_binary(fb_function *f, PyObject *a, PyObject *b); /* f takes two operands */
/* Record a hit on plain operands. False: nothing was done, take the general way. */
bool fb_try_binary(fb_function *f, PyObject *a, PyObject *b, PyObject **result);
int fb_number(PyObject *o, fb_scalar *out); /* 1: a number, 0: not, -1: error */

/* The operand word of a tensor that is in the trace already and needs no scalars. */
static inline bool fb_resident(const fb_recorder *rec, const fb_tensor *t, uint64_t *word) {
  const fb_cell *c = t->cell;
  if (FB_UNLIKELY(c->epoch != rec->id))
    return false;
  uint32_t slot = c->use;
  if (t->leaf && rec->mode & 1) {
    const fb_anchor *a = t->leaf->anchor;
    if (FB_UNLIKELY(a->epoch != rec->id || a->data != c->slot))
      return false;
    slot = a->slot;
  }
  if (FB_UNLIKELY(slot == FB_NO_SLOT))
    return false;
  *word = slot;
  if (t->view) {
    if (t->view->n_starts)
      return false;
    *word |= (uint64_t)t->view->id << 32;
  }
  return true;
}

/* ---- functions ------------------------------------------------------------------------------------------- */

typedef enum {
  FB_P_TENSOR,
  FB_P_OPERAND,
  FB_P_TENSORS,
  FB_P_OPTIONAL,
  FB_P_NUMBER,
  FB_P_STREAM,
  FB_P_STATIC,
  FB_P_STARTS,
  FB_P_DEFAULT
} fb_param_kind;
typedef enum { FB_PURE, FB_VIEW, FB_INPLACE } fb_function_kind;

typedef struct {
  PyObject *name, *fallback; /* fallback NULL: required */
  fb_param_kind kind;
  bool keyword_only;
  PyObject *spellings; /* tuple of other names that callers may use, or NULL */
  bool is_size;        /* static: the ints in it are sizes, which may differ from run to run */
} fb_param;

#define FB_STATIC_CACHE 8
struct fb_function {
  PyObject_VAR_HEAD vectorcallfunc vectorcall;
  uint32_t id, n_params, n_positional, n_static;
  fb_function_kind kind;
  bool binary; /* exactly two positional operands */
  bool variadic, fallible, detach, has_numbers, has_lists, has_sizes;
  PyObject *name, *rule, *params, *extra;
  PyObject *otherwise; /* called instead when binding fails with a TypeError; `extra` holds it */
  PyObject **cache;    /* rows of pinned statics, found by identity */
  uint32_t cache_id[FB_STATIC_CACHE];
  const fb_view *recent_view;
  PyObject *weakrefs;
  fb_param param[];
};

int fb_function_init(PyObject *module);
int fb_public_init(PyObject *module);
/* The id of a call's static arguments; `rest`: several arguments for a variadic one. -1: error. */
int64_t fb_bind_statics(fb_function *f, PyObject *const *values, PyObject *const *rest, Py_ssize_t n_rest);
PyObject **fb_new_statics(void);
void fb_free_statics(fb_function *f);
PyObject *fb_record_view(fb_function *f, PyObject *const *values, uint32_t statics);
PyObject *fb_function_statics(fb_function *f, uint32_t id); /* new dict */

/* ---- hooks, locations, export, running ------------------------------------------------------------------- */

#define FB_HOOKS(X)                                                                                                    \
  X(expand) X(expand_sized) X(fit_sizes) X(build_program) X(expand_backward) X(expand_grad) X(read_view) X(replay)
typedef struct {
#define FB_FIELD(name) PyObject *name;
  FB_HOOKS(FB_FIELD)
#undef FB_FIELD
} fb_hooks_t;
extern fb_hooks_t fb_hooks;
PyObject *fb_hook(PyObject *hook, const char *name); /* borrowed, or an error */

int fb_user_line(PyObject **file); /* new reference; returns the line, 0 when there is none */
void fb_explain(const char *kind, const fb_node *node);
extern PyObject *fb_explain_list; /* NULL: off */
extern bool fb_shadow;

PyObject *fb_operand_info(fb_tensor *t, bool elements); /* `elements`: it entered as a copy of just what it shows */
PyObject *fb_tensor_starts(const fb_tensor *t);
PyObject *fb_slot_tuple(const uint32_t *slots, uint32_t n);
PyObject *fb_export(fb_recorder *rec);
PyObject *fb_export_state(fb_node *state, fb_recorder *rec); /* rec NULL: without per-call lines */

/* What has to outlive a trace. */
typedef struct {
  uint32_t *live, n_live;       /* slots whose data a cell holds; they ascend */
  uint32_t *history, n_history; /* slots whose gradient history a cell holds */
} fb_liveness;

int fb_flush(fb_recorder *rec);       /* run its trace, or wait until another thread has done so */
int fb_cut(fb_recorder *rec);         /* a good place to end the trace: run it, or soon; not while capturing */
int fb_flush_cell(fb_cell *c);        /* until no trace owes its value */
int fb_flush_own(fb_recorder *rec);   /* all that its thread has recorded */
int fb_flush_all(void);               /* those of all threads; one that fails keeps none of the others */
void fb_flush_drop(fb_recorder *rec); /* its trace never runs, because of the exception that is set */
/* Before a call is recorded: what was interrupted, or is over a bound, runs first, so that pending work never piles up.
 */
static inline int fb_flush_due(fb_recorder *rec) { return FB_UNLIKELY(rec->flush_soon) ? fb_cut(rec) : 0; }
void fb_cell_set_value(fb_cell *c, fb_buffer *value); /* takes over the reference */
void fb_cell_set_history(fb_cell *c, fb_segment *segment, uint32_t slot);
/* A run has failed with the current exception: cells keep what eager execution would have left them. */
void fb_abandon(fb_recorder *rec, const fb_liveness *found);
PyObject *fb_py_abandon(PyObject *module, PyObject *error);

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
  bool has_history;
  uint64_t runs, ns;
} fb_program;

int fb_program_init(PyObject *module);
/* Run on the inputs of rec's trace; the n_outputs outputs are new references. `keep`: donate no residual. */
int fb_program_run(fb_program *p, fb_recorder *rec, bool keep, fb_buffer **outputs);
bool fb_contains(const uint32_t *sorted, uint32_t n, uint32_t slot);
PyObject *fb_input_values(fb_recorder *rec); /* list of (slot, Buffer or number) */
bool fb_program_covers(const fb_program *p, const fb_liveness *found);

/* Python buffers (the binding's types). */
int fb_buffers_init(void);
PyObject *fb_buffer_to_python(fb_buffer *b);   /* takes over the reference */
fb_buffer *fb_buffer_from_python(PyObject *o); /* borrowed; NULL with TypeError */
fb_plan *fb_plan_from_python(PyObject *o);     /* borrowed; NULL without error when not a Plan */
PyObject *fb_raise_status(fb_status status, int64_t failure);
bool fb_is_interruption(PyObject *type);  /* no Exception, as KeyboardInterrupt */
bool fb_is_out_of_memory(PyObject *type); /* OutOfMemory or MemoryError */
PyObject *fb_out_of_memory(void);         /* the class; borrowed */

#include "capture.h"
#include "history.h"

#endif
