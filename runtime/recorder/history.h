/* Segments: traces that have run and that gradient histories go through; and what is kept beside a trace. */
#ifndef FB_HISTORY_H
#define FB_HISTORY_H

#include "program.h"

/* An object of the frontend's (tensor hooks) that belongs to a place in a history and lives as long as that does. */
typedef struct fb_mark {
  uint32_t slot;
  PyObject *object;
} fb_mark;

/* A flushed trace that live cells' histories need. Traces of several threads may import it at the same time. */
struct fb_segment {
  PyObject_HEAD fb_recorder *home;
  uint64_t epoch; /* of a trace it was imported into, that of `home`; `import`: which import of it */
  bool freed;     /* backwards without retain_graph have been through all that its roots lead to: values are gone */
  uint32_t import;
  fb_node *state;
  int64_t *symbols; /* values of its state's symbols */
  uint32_t n_slots;
  fb_trace_input *scalars;
  uint32_t n_scalars;
  fb_origin *origins;
  uint32_t n_origins, n_entered; /* the first n_entered came in as inputs */
  fb_trace_leaf *leaves;
  uint32_t n_leaves;
  fb_program *program; /* whose residuals these are */
  fb_buffer **residuals;
  uint32_t n_residuals;
  fb_watched *watched;
  uint32_t n_watched;
  uint32_t *roots,
      *ended; /* both ascending: where cells and other traces go on from it; what backwards have been through */
  uint32_t n_roots, cap_roots, n_ended, cap_ended;
  uint32_t ends, pending; /* how often `ended` has changed; notes of that which may still be taken back */
  fb_mark *marks;
  uint32_t n_marks, cap_marks;
  fb_segment *next, *previous, *dying;
};

/* A segment is made before the run, where that may fail; after it it takes the residuals' values, which cannot. */
fb_segment *fb_segment_make(fb_recorder *rec, fb_program *p, const uint32_t *roots, uint32_t n_roots);
void fb_segment_take_values(fb_segment *s, fb_buffer **values);
/* A backward of the trace uses up the history of these slots, which ascend: imported segments know it from now on,
 * unless the entry that makes slot `now` does not come to pass. */
int fb_note_ended(fb_recorder *rec, const uint32_t *slots, uint32_t n, uint32_t now);
void fb_segment_forget_ended(fb_segment *s, const uint32_t *slots, uint32_t n);
void fb_segment_settle(fb_segment *s); /* one such note has come to pass, or was taken back */
void fb_segment_drop_values(fb_segment *s);
fb_segment *fb_segment_lost(void); /* stands for the history in a trace that has failed */
int fb_history_init(void);
static inline void fb_segment_hold(fb_segment *s) { Py_INCREF((PyObject *)s); }
static inline void fb_segment_release(fb_segment *s) { Py_DECREF((PyObject *)s); }
/* ---- values that gradients may read, and whether they are still there: watches.c ---- */

void fb_watch_release(fb_watch *w);
int fb_watch_note(fb_recorder *rec, fb_watch *w, bool aside, uint32_t slot); /* its cell gets slot `slot` */
/* The value of `c` is about to be overwritten by the trace of `writer`: those of others that have read it hear of it.
 */
int fb_watch_readers(const fb_recorder *writer, fb_cell *c);
int fb_segment_watch(fb_segment *s, const fb_recorder *rec, const fb_program *p);
void fb_segment_unwatch(fb_segment *s);
/* Those of `n` that have been overwritten since, as slots from `base` on; `aside`: only through aliases without
 * history.
 */
uint32_t fb_watched_writes(const fb_watched *watched, uint32_t n, bool aside, uint32_t base, uint64_t *words);

fb_segment *fb_segments(void);
typedef struct fb_kept {
  uint64_t segments, values, bytes;
} fb_kept;
fb_kept fb_kept_for_gradients(void); /* what all segments hold; a value that two hold counts twice */
int fb_raise_freed(void);            /* -1, and the error for going through a history that a backward has used up */
bool fb_history_freed(const fb_recorder *rec, uint32_t slot);
/* Mark in `needed` (one byte per slot) all slots that marked ones depend on through gradient history. */
int fb_reach(fb_node *state, uint8_t *needed);
/* With symbols of the state's; in an imported trace expressed in those of `state`. NULL: the slot has none. */
const fb_type *fb_slot_type(fb_node *state, uint32_t slot);
int fb_marks_keep(fb_segment *s, const fb_recorder *rec);
bool fb_tensor_is_lost(const fb_recorder *rec, const fb_tensor *t); /* its trace has failed, with its history */
void fb_marks_drop(fb_mark **marks, uint32_t *n, uint32_t *cap);    /* may run Python code: last of all */
PyObject *fb_py_mark_history(PyObject *module, PyObject *args);
PyObject *fb_py_trace_marks(PyObject *module, PyObject *unused);
PyObject *fb_py_known_history(PyObject *module, PyObject *tensor);

void fb_trie_collect(void);               /* drop what no trace or segment stands on */
void fb_trie_limit(void);                 /* do so when there are too many states */
void fb_interned_limit(void);             /* forget types and static arguments that nothing has */
void fb_recorder_reset(fb_recorder *rec); /* forget the trace; its cells are left to the caller */
/* `to` is empty, and `from` then is. The home of the cells that own slots is left to the caller. */
void fb_move_trace(fb_recorder *from, fb_recorder *to);
bool fb_imports_nest(const fb_recorder *rec); /* an imported trace had imported another: such chains must not grow */

/* ---- what of a trace several threads have in theirs: places.c ---- */

void fb_places_clear(fb_places *table);
bool fb_cell_find(const fb_recorder *rec, const fb_cell *c,
                  fb_place *place); /* where its present value is in the trace */
int fb_cell_put(fb_recorder *rec, fb_cell *c, fb_place place);
void fb_cell_claim(fb_recorder *rec, fb_cell *c, const fb_place *place); /* the cell itself says so from now on */
void fb_cell_unplace(fb_cell *c);                                        /* it dies */
bool fb_cell_is_read_by(const fb_recorder *rec, const fb_cell *c);       /* the trace has its value, or had */
bool fb_anchor_find(const fb_recorder *rec, const fb_anchor *a, fb_place *place);
int fb_anchor_put(fb_recorder *rec, fb_anchor *a, uint32_t slot, uint32_t data, uint32_t index);
fb_import *fb_import_of(const fb_recorder *rec, const fb_segment *s); /* NULL: not imported */
int fb_import_put(fb_recorder *rec, fb_segment *s, uint32_t index);

#endif
