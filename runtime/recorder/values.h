/* Types, views, cells, leaves and tensors: what values are, before anything is recorded. */
#ifndef FB_VALUES_H
#define FB_VALUES_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "flambeau/runtime.h"

#define FB_LIKELY(x) __builtin_expect(!!(x), 1)
#define FB_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define FB_NOINLINE __attribute__((noinline))
/* What every hit runs: placed together and aligned, so that its speed does not depend on the code around it. */
#define FB_HOT __attribute__((hot, aligned(64)))

typedef struct fb_function fb_function;
typedef struct fb_node fb_node;
typedef struct fb_recorder fb_recorder;
typedef struct fb_segment fb_segment;

/* ---- interned descriptions ------------------------------------------------------------------------------ */

typedef struct fb_size fb_size; /* an expression over a trace's symbols; see sizes.h */

/* With symbols in its shape it describes slots of a trace's states, never tensors: see fb_type_at. */
typedef struct fb_type {
  uint32_t id;                                  /* of no other, now or later */
  uint32_t cells;                               /* live ones of this type */
  uint32_t skeleton;                            /* the same for all types that differ in sizes only */
  bool requires_grad, symbolic, marked, doomed; /* the last two: see fb_interned_limit */
  char code; /* of the struct module for an element, 0 where that has none, or none of it can be read here */
  int ndim;
  size_t bytes, itemsize;
  PyObject *shape, *dtype;         /* tuple of ints (or Sizes); any object with `itemsize` */
  PyObject *size;                  /* the shape as users see it */
  PyObject *device;                /* where values lie: an interned str, the same object for equal ones */
  struct fb_type *with_other_grad; /* same shape and dtype, requires_grad inverted; made on demand */
  fb_size **sizes;                 /* symbolic: per dim, NULL where it is in `dims` */
  const struct fb_type *recent;    /* symbolic: what it was the last time */
  struct fb_type *hash_next;
  uint32_t hash;
  int64_t dims[];
} fb_type;

/* A chain of view functions from a cell's base value. Starts (run-time offsets) are held by the tensor. */
typedef struct fb_view {
  uint32_t id;        /* of no other, now or later */
  const void *origin; /* parent view, or the base type without grad */
  const struct fb_view *parent;
  const struct fb_view *same; /* the view before it that shows the same, and is taken instead; or NULL */
  fb_function *function;
  uint32_t statics;
  bool detached;            /* cut from gradient history, here or in a parent */
  bool identity;            /* nothing but that */
  bool unrecorded;          /* cut by being made, or being of what was made, while grad mode was off */
  bool aside;               /* writes through it are none that gradients recorded before hear of */
  uint32_t n_starts, n_own; /* in the whole chain, in this link */
  const fb_type *types[2];  /* by requires_grad of the base */
  PyObject *payload;        /* the frontend's */
  int64_t *limits;          /* greatest allowed own starts; NULL: unchecked */
  uint32_t skeleton;        /* the same for all chains that differ in sizes only */
  uint32_t n_sizes;         /* sizes among the static arguments of the whole chain */
  int64_t *sizes;
  int64_t *layout;               /* see fb_view_layout, which finds it when it is first asked */
  bool measured, marked, doomed; /* the last two: see fb_interned_limit */
  uint32_t handles;              /* tensors that show it, and notes of what such have shown */
} fb_view;

/* What a view made by indexing selects: see selections.c. */
typedef struct {
  const void *origin; /* as the view's */
  const fb_view *view;
  const int64_t *key; /* `n` numbers: sizes, steps, shape */
  uint32_t n, hash;
  bool detached;
} fb_selection;

const fb_view *fb_selection_find(fb_selection *asked);   /* NULL where none is known; sets the hash */
int fb_selection_remember(const fb_selection *selected); /* that was asked for and not found */

/* A call that may be answered without Python, in words; `pins` are the objects among these. See recall.c. */
#define FB_ASKED_WORDS 20
#define FB_ASKED_PINS 6
#define FB_MOST_SHOWN 64
typedef struct {
  uint64_t words[FB_ASKED_WORDS];
  PyObject *pins[FB_ASKED_PINS]; /* borrowed */
  uint32_t n, n_pins, hash;      /* n 0: it cannot be remembered */
} fb_asked;
/* One of the views that it gave: `n_own` of `starts` from `first`, after those that are the operand's. */
typedef struct {
  const fb_view *view; /* NULL: the operand itself */
  uint32_t first, n_own;
} fb_shown;
/* The recorded call that it came to. */
typedef struct {
  fb_function *function;
  PyTypeObject *made; /* the named tuple that its results were put into, or NULL */
  uint32_t n, refs;
  struct {
    PyObject *value; /* NULL: the argument of index `from` */
    uint32_t from;
  } of[]; /* per parameter */
} fb_forwarded;
/* What it came to: a recorded call, or views. */
typedef struct {
  uint64_t words[FB_ASKED_WORDS];
  PyObject *pins[FB_ASKED_PINS];
  uint32_t n, n_pins, n_shown, n_starts;
  bool is_view, is_tuple,
      becomes; /* is_view: one view, or the operand; becomes: the operand itself shows the only view from then on */
  fb_forwarded *forwarded; /* or NULL */
  fb_shown *shown;
  int64_t *starts;
} fb_recalled;

const fb_recalled *fb_recalled_find(fb_asked *asked);             /* NULL where it is not known; sets the hash */
void fb_recalled_keep(const fb_asked *asked, fb_recalled *found); /* takes over what it points to */
void fb_recalled_clear(fb_recalled *found);
void fb_forwarded_leave(fb_forwarded *forwarded); /* one reference less */

/* Borrowed arguments; `device` is a str, NULL for the CPU. */
fb_type *fb_type_intern(PyObject *shape, PyObject *dtype, PyObject *device, bool requires_grad);
bool fb_type_on_cpu(const fb_type *type);
fb_type *fb_type_with_grad(const fb_type *type, bool requires_grad);
fb_type *fb_type_by_id(uint32_t id);
const fb_type *fb_type_at(const fb_type *type, const int64_t *symbols); /* for these values; NULL: error */
static inline void fb_type_enter(const fb_type *type) {
  ((fb_type *)type)->cells++;
} /* a cell takes it, or leaves it */
static inline void fb_type_leave(const fb_type *type) { ((fb_type *)type)->cells--; }
int64_t fb_static_intern(PyObject *const *values, Py_ssize_t n, const char *function, PyObject *names); /* -1: error */
PyObject *fb_static_values(uint32_t id); /* borrowed; NULL: error */
bool fb_static_is_there(uint32_t id);
void fb_static_pin(uint32_t id); /* it stays, until it is let go as often */
void fb_static_unpin(uint32_t id);
bool fb_static_is_stable(PyObject *value); /* identity implies equality for ever */
/* A handle shows it, or does so no more; NULL is allowed. */
static inline void fb_view_enter(const fb_view *view) {
  if (view)
    ((fb_view *)view)->handles++;
}
static inline void fb_view_leave(const fb_view *view) {
  if (view)
    ((fb_view *)view)->handles--;
}
fb_view *fb_view_find(const void *origin, fb_function *function, uint32_t statics, bool detached, uint32_t n_own);
/* What is given, completed: its limits are taken over. One that another thread has added meanwhile counts. */
fb_view *fb_view_add(const fb_view *given);
fb_view *fb_view_by_id(uint32_t id); /* NULL: error */
bool fb_view_is_there(uint32_t id);
fb_view *fb_view_like(const fb_view *v, PyObject *payload); /* for keys of traces with symbols; not interned */
uint32_t fb_type_count(void);
uint32_t fb_types_made(void);
uint32_t fb_static_count(void);
uint32_t fb_view_count(void);

/* Collecting, see fb_interned_limit. Marks, then what has been found unmarked twice is freed. */

/* Held by what `lives`, or by what is doomed and not dead: then it lives as long, without being counted as what does.
 */
static inline void fb_type_hold(const fb_type *type, bool lives) {
  if (type) {
    ((fb_type *)type)->marked |= lives;
    ((fb_type *)type)->doomed = false;
  }
}
void fb_static_hold(uint32_t id, bool lives);
static inline void fb_type_mark(const fb_type *type) { fb_type_hold(type, true); }
static inline void fb_static_mark(uint32_t id) { fb_static_hold(id, true); }
void fb_view_mark(uint32_t id);
extern uint32_t fb_in_hand;                /* code that has types in hand which nothing has yet, and lets others in */
void fb_views_mark(void);                  /* what views hold, after all that holds views has been marked */
bool fb_view_is_dead(const fb_view *view); /* between these marks and the sweep */
void fb_selections_sweep(void);            /* ways to views that are dead */
void fb_recalled_sweep(void);              /* all that is remembered of calls */
void fb_types_sweep(void);
void fb_views_sweep(void);   /* may run Python code */
void fb_statics_sweep(void); /* may run Python code */
void fb_splits_sweep(void);  /* those of statics that are gone */
bool fb_types_are_full(uint32_t most);
bool fb_statics_are_full(uint32_t most);
bool fb_views_are_full(uint32_t most);
void fb_types_collect_soon(void); /* at the next end of a trace, if there are too many */
void fb_statics_collect_soon(void);
void fb_views_collect_soon(void);

/* ---- cells, leaves, tensors ------------------------------------------------------------------------------ */

#define FB_NO_SLOT UINT32_MAX

/* How often a cell has been written. Made for those whose values gradients may read after their trace has run; outlives
 * the cell, so that segments need not keep it alive. */
typedef struct fb_watch {
  uint32_t refs;
  uint32_t writes, aside; /* the latter through views that are aside */
} fb_watch;

/* One value of base storage: a slot of `home`'s trace while epoch == home->id, else `buffer`. Other traces that have
 * read it meanwhile know where they have it themselves: see places.c. */
typedef struct fb_cell {
  uint32_t refs, version;
  uint32_t cut; /* those of its handles through which nobody comes to its history */
  uint64_t epoch;
  uint32_t slot;    /* data, valid in `epoch` */
  uint32_t use;     /* slot that operands use: data with history; FB_NO_SLOT: data parted from history, graft first */
  uint32_t history; /* history slot while `use` is FB_NO_SLOT */
  uint32_t input;   /* index into home->inputs when the committed value entered the trace, else FB_NO_SLOT */
  fb_recorder *home;
  const fb_type *type; /* base shape, dtype; requires_grad says whether the cell has (or had) gradient history */
  fb_buffer *buffer;   /* the committed value */
  fb_segment *segment; /* committed history: slot segment_slot of a flushed trace */
  uint32_t segment_slot;
  fb_watch *watch;            /* NULL: no gradient reads its values */
  struct fb_holders *holders; /* its handles that the collector sees, or NULL: see holders.c */
  bool shared;                /* memory visible to others: snapshot on reading, write through */
  bool unset;                 /* nothing was ever written to the buffer */
  bool apart;                 /* copied from a view that others see: a write would not reach them */
  bool placed;                /* traces of several threads have, or had, read it */
  bool rooted;                /* the trace that runs keeps its history */
  bool lost_gradient;         /* a backward() of a trace that was dropped made it */
  PyObject *error;            /* (class, args): why the value was never computed */
} fb_cell;

/* A leaf's place in traces and segments; outlives the leaf so that they need not keep it alive. */
typedef struct fb_anchor {
  uint32_t refs;
  uint32_t slot, data; /* leaf slot, and the data slot it was made from, valid in `epoch` */
  uint64_t epoch;
  fb_recorder *home;    /* whose trace that is */
  struct fb_leaf *leaf; /* NULL once dead */
  uint32_t index;       /* position among the trace's leaves */
} fb_anchor;

typedef struct fb_leaf {
  PyObject_HEAD fb_anchor *anchor;
  PyObject *grad; /* Tensor or NULL */
} fb_leaf;

typedef struct fb_tensor {
  PyObject_HEAD fb_cell *cell;
  const fb_view *view; /* NULL: the base itself */
  fb_leaf *leaf;       /* NULL unless this is a leaf requiring grad, or a view of one */
  int64_t *starts;     /* view->n_starts numbers, or NULL */
  PyObject *dict, *weakrefs;
  struct fb_holders *holders; /* of its cell, or NULL: only while the collector sees it */
  bool cut;                   /* it is counted among its cell's `cut` */
} fb_tensor;

extern PyTypeObject *fb_tensor_type, *fb_leaf_type, *fb_function_type, *fb_program_type;

static inline bool fb_is_tensor(PyObject *o) {
  return Py_TYPE(o) == fb_tensor_type || PyType_IsSubtype(Py_TYPE(o), fb_tensor_type);
}
int fb_shape_init(PyObject *module);
PyObject *fb_size_of(PyObject *shape); /* a Size of a tuple of ints, new reference */

/* Python buffers (the binding's types). */
int fb_buffers_init(void);
PyObject *fb_buffer_to_python(fb_buffer *b);                      /* takes over the reference */
fb_buffer *fb_buffer_from_python(PyObject *o);                    /* borrowed; NULL with TypeError */
fb_buffer *fb_buffer_import(PyObject *exporter, int *readonly);   /* new reference, or an error */
PyObject *fb_buffer_exporter(const fb_buffer *b, bool *readonly); /* whose memory it is, or NULL; borrowed */
/* Whether nobody but the holder of the only reference can write to it: see owners.c. */
bool fb_buffer_is_private(const fb_buffer *b);
PyObject *fb_array_type(void);             /* numpy.ndarray, borrowed; NULL without an error while NumPy is not there */
bool fb_is_array(PyObject *o);             /* one of these, and of no subclass */
fb_plan *fb_plan_from_python(PyObject *o); /* borrowed; NULL without error when not a Plan */
/* Programs run op by op (OpList): see the binding's API. */
bool fb_is_op_list(PyObject *o);
bool fb_op_list_asks(PyObject *list);
int fb_op_list_run(PyObject *list, const fb_input *inputs, const int64_t *symbols, fb_buffer **outputs);
PyObject *fb_raise_status(fb_status status, int64_t failure);
void fb_forget_error(void);               /* of Python code that is asked for nothing that counts; not an interrupt */
bool fb_is_interruption(PyObject *type);  /* no Exception, as KeyboardInterrupt */
bool fb_is_out_of_memory(PyObject *type); /* OutOfMemory or MemoryError */
PyObject *fb_out_of_memory(void);         /* the class; borrowed */

/* An attribute by a name that is made once, for `PyObject_GetAttrString` makes, hashes and looks for it anew each time.
 */
static inline PyObject *fb_attribute_of(PyObject *o, PyObject **kept, const char *name) {
  if (FB_UNLIKELY(!*kept))
    *kept = PyUnicode_InternFromString(name);
  return *kept ? PyObject_GetAttr(o, *kept) : NULL;
}

int fb_grow(void **array, uint32_t *cap, uint32_t need, size_t item);
/* No collection of garbage in between: allocating Python objects then runs no finalizers, and lets nobody in. */
static inline int fb_quiet_begin(void) { return PyGC_Disable(); }
static inline void fb_quiet_end(int was) {
  if (was)
    PyGC_Enable();
}

#endif
