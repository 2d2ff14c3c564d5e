/* The trie of traces: its states, which are the meanings of traces, and the edges that lead to them. */
#ifndef FB_TRIE_H
#define FB_TRIE_H

#include "patterns.h"

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

/* FB_CONSTANT: the number of a static value, of a complex number or an int beyond int64, for which calls are
 * specialised. */
typedef enum { FB_FLOAT, FB_INT, FB_BOOL, FB_BUFFER, FB_CONSTANT } fb_scalar_kind;
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
/* The word of an operand, and the number of the view that it names: 0 where the operand is whole, and of a tag. */
static inline uint64_t fb_word_of(uint32_t slot, const fb_view *view) {
  return slot | (view ? (uint64_t)view->id << 32 : 0);
}
static inline uint32_t fb_word_view(uint64_t w) { return fb_word_slot(w) < FB_TAG_FIRST ? fb_word_high(w) : 0; }

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
/* Collecting: mark all that something stands on, with what leads there, then drop the rest. */
void fb_trie_mark(fb_node *node);
void fb_trie_sweep(void);
bool fb_trie_is_full(void);
void fb_trie_collect_soon(void); /* at the next end of a trace, if there are too many */
fb_node *fb_trie_nodes(void);    /* all but the root, linked by all_next */
uint32_t fb_trie_states(void);
uint64_t fb_trie_sweeps(void); /* how often states have been dropped */
uint32_t fb_trie_programs(void);
void fb_trie_set_program(fb_node *state, PyObject *program); /* takes over the reference */
/* The states from the root (excluded) to `state`, in order; a malloc'd array of state->depth pointers. */
fb_node **fb_trie_path(fb_node *state);

#endif
