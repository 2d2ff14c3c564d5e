/* Handles and cells as traces see them, random streams, what recording changed, and waiting for values. */
#ifndef FB_CELLS_H
#define FB_CELLS_H

#include "history.h"

int fb_tensor_init(PyObject *module, const PyType_Slot *operators, size_t n);
fb_tensor *fb_as_tensor(PyObject *o, const char *what); /* borrowed, or NULL with TypeError */
/* Now no other trace owes its value; raises the stored error. Waits; a held `rec` must not, see fb_wants_other. */
int fb_cell_settle(fb_recorder *rec, fb_cell *c);
int fb_cell_raise(const fb_cell *c); /* -1, with the error that has kept its value from being computed */
int fb_cut(fb_recorder *rec);        /* a good place to end the trace: run it, or soon; not while capturing */
int fb_flush_cell(fb_cell *c);       /* until no trace owes its value */
int fb_flush_own(fb_recorder *rec);  /* all that its thread has recorded */
/* Before a call is recorded: what was interrupted, or is over a bound, runs first, so that pending work never piles up.
 */
static inline int fb_flush_due(fb_recorder *rec) { return FB_UNLIKELY(rec->flush_soon) ? fb_cut(rec) : 0; }
void fb_cell_set_value(fb_cell *c, fb_buffer *value); /* takes over the reference */
void fb_cell_set_history(fb_cell *c, fb_segment *segment, uint32_t slot);

typedef struct {
  PyObject_HEAD int64_t seed, offset;
} fb_stream;

int fb_stream_init(PyObject *module);
fb_stream *fb_stream_of(PyObject *o); /* borrowed; NULL without error for other objects */
int fb_stream_advance(fb_stream *s, uint64_t draws);
/* What has to be taken back if the trace, or its end, does not come to pass. `slot`: one of the entry that did it. */
int fb_undo_draw(fb_recorder *rec, fb_stream *s, uint64_t draws, uint32_t slot);  /* the stream moves on */
int fb_undo_note_write(fb_recorder *rec, fb_watch *w, bool aside, uint32_t slot); /* is about to be counted */
/* s->ended has these, which are taken over; s->pending counts the note. */
int fb_undo_note_ended(fb_recorder *rec, fb_segment *s, uint32_t *ended, uint32_t n, uint32_t slot);
void fb_undo_ended(fb_recorder *rec); /* no history was used up: what is captured changes none */
void fb_undo_note_gradient(fb_recorder *rec, struct fb_leaf *leaf); /* its gradient was never computed */
PyObject *fb_py_if_lost(PyObject *module, PyObject *args);
void fb_undo_from(fb_recorder *rec, uint32_t failed); /* what entries from slot `failed` on did */
void fb_undo_forget(fb_recorder *rec);                /* last of all: runs what is to be called, and any destructors */
/* How many an expansion says it draws: a number, or a new expression of symbols. */
int fb_stream_draws(PyObject *payload, uint64_t *draws, fb_size **size);

PyObject *fb_operand_info(fb_tensor *t, bool elements); /* `elements`: it entered as a copy of just what it shows */
PyObject *fb_tensor_starts(const fb_tensor *t);

/* Views: chains with one more link, by what they start from, whether they are cut from history, and the new link. */
PyObject *fb_record_view(fb_function *f, PyObject *const *values, uint32_t statics);
bool fb_view_detaches(const fb_function *f, const fb_tensor *t); /* whether a view by `f` is cut from history */
const void *fb_view_origin(const fb_tensor *t);                  /* NULL: out of memory */
const fb_view *fb_view_link(fb_function *f, PyObject *const *values, uint32_t n_own);        /* of bound arguments */
PyObject *fb_view_shown(fb_tensor *t, const fb_view *v, const int64_t *own, uint32_t n_own); /* after t's own */
PyObject *fb_view_handle(fb_tensor *t, const fb_view *v, const int64_t *own); /* with its v->n_own starts */

/* How the elements that a view shows lie in the base: strides per dim, in elements, and then per start how many
 * elements one more of it moves. layout[0] is the first element where all starts are 0. NULL with no error: not in
 * strides. Runs Python code the first time. */
int fb_view_layout(const fb_view *v, const int64_t **layout);

/* tensor.c */
void fb_leave_input(fb_recorder *rec, uint32_t input); /* the cell of this input has died */
const fb_type *fb_tensor_get_type(const fb_tensor *t);
bool fb_tensor_is_leaf(const fb_tensor *t);
/* A handle on `cell` (its reference is taken over). `cls` NULL: Tensor itself. */
PyObject *fb_tensor_new(fb_cell *cell, PyTypeObject *cls);
int fb_tensor_track(fb_tensor *t); /* let the garbage collector see it, once it may be part of a cycle */
void fb_tensor_part(fb_tensor *t); /* before it gets another cell, or none */
/* A handle that shows its cell through `v`, a view or NULL: whether that is cut from history is counted. */
void fb_tensor_show(fb_tensor *t, const fb_view *v);
int fb_tensor_check_leaf(const fb_tensor *t, const char *what);
int fb_tensor_copy_starts(const fb_tensor *t, int64_t **starts);
int fb_tensor_become(fb_tensor *t, const fb_tensor *other); /* it shows what the other shows, with its history */
/* A new handle of `t`'s cell, of class `cls` (NULL: Tensor), that does so. NULL: error. */
fb_tensor *fb_tensor_through(const fb_tensor *t, const fb_view *v, PyTypeObject *cls);
/* Somebody may still come to the history of `c`: if not, it is dropped, and a trace that ends keeps none for it. */
static inline bool fb_cell_leads_back(const fb_cell *c) { return c->refs > c->cut; }
int fb_holders_init(void);
PyObject *fb_py_track(PyObject *module, PyObject *tensor);
fb_cell *fb_cell_new(const fb_type *type);
void fb_cell_release(fb_cell *c);
void fb_cell_retype(fb_cell *c, const fb_type *type);
int fb_tensor_restore_grad(fb_tensor *t); /* it does again */
int fb_tensor_make_leaf(fb_tensor *t);
int fb_tensor_end_leaf(fb_tensor *t); /* it does not require grad any more */
PyObject *fb_py_replace_grad(PyObject *module, PyObject *args);
void fb_anchor_release(fb_anchor *a);
uint64_t fb_live_cells(void);

#endif
