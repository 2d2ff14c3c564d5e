/* Calls: how arguments become the words of a key, values enter a trace, and results come out. */
#ifndef FB_CALL_H
#define FB_CALL_H

#include "capture.h"

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
  const fb_tensor *snapshot; /* the last operand that entered as one, or NULL */
  uint64_t snapshot_word;
  PyObject *kept; /* what the operands are borrowed from, or NULL */
  bool narrow;    /* has numbers specialised by value */
  bool pinned;    /* `statics` are: see fb_static_pin */
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
/* Make the tensor's value and history slots of the trace. WHOLE: never a snapshot of just a view's elements. */
enum { FB_WHOLE = 1, FB_STAYS_SHARED = 2 };
int fb_enter(fb_recorder *rec, fb_tensor *t, int how, uint64_t *word);
/* Whether a view of shared memory enters, or has entered, as a copy of its elements alone. */
bool fb_enters_as_elements(const fb_recorder *rec, const fb_tensor *t, bool whole);
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
/* The same, of complex numbers and of ints beyond int64 that uint64 holds. */
int fb_constant(PyObject *o, fb_scalar *out);

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
  *word = fb_word_of(slot, t->view);
  return !t->view || !t->view->n_starts;
}

/* What is to be learnt at a miss. */
typedef struct {
  fb_pattern pattern;
  bool sized;       /* symbols take part: see `exprs` and `values` */
  bool by_pattern;  /* the node has to be found by its pattern */
  PyObject *bases;  /* per operand word of a slot with symbols in its shape that shape, else None */
  PyObject *exprs;  /* tuple, per size: int or Size */
  PyObject *values; /* tuple: all symbols' values, the new ones last */
  uint32_t n_new;
  fb_condition *conditions; /* per size; with by_pattern */
} fb_fit;
/* Expansions that have been asked for: what the frontend is told of a call, without the slots. */
#define FB_QUESTION_WORDS 32
typedef struct {
  uint64_t words[FB_QUESTION_WORDS];
  uint32_t n; /* 0: too long to be kept */
} fb_question;
/* `fit`: what is known of its sizes, or NULL. A new reference, or NULL without an error. */
PyObject *fb_memo_find(const fb_call *call, const fb_fit *fit, fb_question *question);
void fb_memo_keep(const fb_question *question, PyObject *answer);
void fb_memo_clear(void);
int fb_fit_make(fb_fit *fit, fb_recorder *rec, int kind, fb_function *f, const uint64_t *words, uint32_t n);
void fb_fit_clear(fb_fit *fit);
/* Make `node`, which has just been added to rec's state, depend on sizes as `fit` says. `guards`: (relation, rows)s, or
 * NULL; `views`: for the operand words with views, in order, payloads with symbols in them, or NULL. */
int fb_fit_apply(fb_fit *fit, fb_recorder *rec, fb_node *node, PyObject *guards, PyObject *views);
int fb_node_guard(fb_node *node, PyObject *guards);     /* sequence of (relation, rows) */
int fb_node_pin(fb_node *node, const int64_t *symbols); /* for exactly these sizes */
bool fb_strict_sizes(void);

/* t[index] where that is a view by ints, slices, None and `...`. False: it is not, or is wrong. */
bool fb_try_index(fb_tensor *t, PyObject *index, PyObject **result);
/* t[index] = value likewise, for numbers, and for tensors of its dtype that have no more dims. */
bool fb_try_assign(fb_tensor *t, PyObject *index, PyObject *value, int *status);
PyObject *fb_iterate(PyObject *tensor);
/* recall.c: a call of a Python function that gives views or comes to one recorded call. What that follows from, besides
 * the operand's type or view and plain arguments. */
enum { FB_NOT_RECALLED, FB_BY_OPERAND, FB_BY_TYPES, FB_BY_PLACE };
/* What an equal call has come to; false where none is known: then, if asked->n, it may be learnt. `function`: a number
 * of its own. */
bool fb_recall(fb_asked *asked, uint32_t function, int recalled, PyObject *const *args, Py_ssize_t n, PyObject *kwnames,
               PyObject **result);
/* forwarded.c: what such a call records, noted on its way. */
#define FB_MOST_FORWARDED 16
typedef struct fb_learning {
  struct fb_learning *outer;
  fb_recorder *rec;
  const fb_node *state; /* the trace as it is if nothing else has been recorded */
  uint64_t trace;
  fb_cell *cell; /* the operand's before it, and its view */
  const fb_view *view;
  fb_function *function; /* NULL: no call yet */
  PyObject *values[FB_MOST_FORWARDED], *result;
  bool spoilt;
} fb_learning;
void fb_learning_begin(fb_learning *learning, const fb_tensor *t);
void fb_learning_note(fb_recorder *rec, fb_function *f, PyObject *const *values, PyObject *const *rest,
                      Py_ssize_t n_rest);
void fb_learning_take(fb_recorder *rec, PyObject *result); /* of the call that was noted; NULL: it failed */
void fb_learning_spoil(void);
void fb_learning_end(fb_learning *learning);
/* Remembers what the call came to, if that is all there is to it; `n`: arguments, those by keyword among them. */
void fb_remember(const fb_asked *asked, const fb_learning *learning, PyObject *const *args, Py_ssize_t n,
                 PyObject *result);
fb_forwarded *fb_forwarded_of(const fb_learning *learning, PyObject *const *args, Py_ssize_t n, PyObject *result);
PyObject *fb_forward(fb_forwarded *forwarded, PyObject *const *args);
PyObject *fb_function_record(fb_function *f, PyObject **values);           /* all arguments, in order */
int fb_slots_register(PyObject *name, PyObject *callable, PyObject **old); /* `old`: a new reference */
extern PyType_Slot fb_operator_slots[];
size_t fb_operator_slot_count(void);
int fb_function_init(PyObject *module);
/* intercept.c: calls with tensors of one class go to handler(callable, *args, **kwargs), where the callable says so. */
bool fb_intercepting(void);
int fb_intercept(PyObject *cls, PyObject *handler);
PyObject *fb_intercepted_call(vectorcallfunc plain, PyObject *self, PyObject *const *args, size_t nargsf,
                              PyObject *kwnames);
void fb_function_intercept(fb_function *f);
PyObject *fb_py_alias(PyObject *module, PyObject *args);
PyObject *fb_py_not_recalled(PyObject *module, PyObject *unused); /* forwarded.c */
/* Enter the tensor and import what the history of its value needs; the word of its place in that history. */
int fb_import_history(fb_recorder *rec, fb_tensor *t, uint64_t *word);
int fb_import_reachable(fb_recorder *rec, const uint64_t *words, uint32_t n);
int fb_imports_refresh(fb_recorder *rec); /* what other traces have done meanwhile to what is imported */
int fb_add_freed(fb_recorder *rec, const uint32_t *slots, uint32_t n, uint32_t base);

#endif
