/* What importers see of a trace that has imported others itself: a state as of one that has not. What its calls read of
 * the imported ones enters there as values that have their histories in those; so a chain of traces, each of which goes
 * through the ones before it, costs its length and not their copies within copies.
 *
 * Of a trace with symbols the states belong to its program alone: words say nothing of what was made for all sizes.
 * They hang from one child of the root, where nobody records, have its symbols, and begin with what it knows of these.
 */
#include "capture.h"

typedef struct {
  fb_recorder *rec;
  fb_node *state;
  uint32_t *slots, n_slots; /* made so far; per slot of the trace: there */
  uint8_t *read;            /* per slot of the trace: whether it must be there */
  uint32_t *same;           /* per slot of the trace that was given as an input of an imported one: as which */
  uint64_t *words;
  bool sized; /* there are symbols */
} flattening;

/* ---- what is read ---------------------------------------------------------------------------------------- */

static void mark_words(const fb_node *node, uint8_t *read) {
  for (uint32_t i = 1; i < node->n_words; i++) {
    uint32_t slot = fb_word_slot(node->words[i]);
    if (node->kind == FB_CALL && slot == FB_TAG_NUMBER)
      i++;
    else if (slot < FB_TAG_FIRST)
      read[slot] = 1;
    if (node->kind == FB_GRAFT)
      read[fb_word_high(node->words[i])] = 1;
  }
}

static void mark_slots(const uint32_t *slots, uint32_t n, uint8_t *read) {
  for (uint32_t i = 0; i < n; i++)
    read[slots[i]] = 1;
}

/* Kept values enter a trace in front of the segment that they are given to. Where they were inputs there, calls of this
 * trace may read one slot or the other, and mean the same: with its history. */
static void mark_same(const fb_node *node, uint32_t *same) {
  for (uint32_t i = 2; i < node->n_words && fb_word_slot(node->words[i]) < FB_TAG_FIRST; i++) {
    uint32_t slot = fb_word_slot(node->words[i]);
    for (const fb_node *n = node->imported; n->depth; n = n->parent)
      if (n->kind == FB_INPUT && n->base == slot)
        same[fb_word_high(node->words[i])] = node->base + node->n_scalars + slot;
  }
}

/* ---- states ---------------------------------------------------------------------------------------------- */

/* The draft of the next state, of the first `n` words; its results are in the slots from n_slots on. */
static fb_node *begin(flattening *f, fb_node_kind kind, uint32_t n) {
  fb_node *node = fb_trie_draft(f->state, kind, f->words, n, f->n_slots);
  if (!node || !f->sized)
    return node;
  node->flags |= FB_CHECKED; /* so that it is shared with none */
  node->n_symbols = f->rec->state->n_symbols;
  if (!(node->sized = PyMem_Calloc(1, sizeof *node->sized)))
    return fb_trie_drop(node), (fb_node *)PyErr_NoMemory();
  return node;
}

static int end(flattening *f, fb_node *node) {
  uint32_t n = node->n_scalars + node->n_results;
  if (!(node = fb_trie_publish(node)))
    return -1;
  f->state = node;
  f->n_slots += n;
  return 0;
}

/* A value from outside in the place of slot `slot`. */
static int add_value(flattening *f, const fb_type *type, uint32_t slot) {
  if (!type)
    return PyErr_Occurred() ? -1 : 0;
  f->words[0] = FB_H_INPUT | (uint64_t)type->id << 32;
  fb_node *node = begin(f, FB_INPUT, 1);
  if (!node || fb_trie_set_results(node, 1) < 0)
    return fb_trie_drop(node), -1;
  node->type = type;
  node->results[0] = (fb_result){type, -1};
  f->slots[slot] = f->n_slots;
  return end(f, node);
}

static uint64_t mapped(const flattening *f, uint64_t word) {
  return f->slots[fb_word_slot(word)] | (uint64_t)fb_word_high(word) << 32;
}

static void map_words(flattening *f, const fb_node *node) {
  memcpy(f->words, node->words, node->n_words * sizeof *f->words);
  for (uint32_t i = 1; i < node->n_words && node->kind != FB_INPUT; i++) {
    uint32_t slot = fb_word_slot(node->words[i]);
    if (node->kind == FB_GRAFT)
      f->words[i] = f->slots[slot] | (uint64_t)f->slots[fb_word_high(node->words[i])] << 32;
    else if (node->kind == FB_CALL && slot == FB_TAG_NUMBER)
      i++;
    else if (slot < FB_TAG_FIRST)
      f->words[i] = mapped(f, node->words[i]);
  }
}

/* The same entry, of the slots there. */
static int copy(flattening *f, const fb_node *node) {
  map_words(f, node);
  fb_node *made = begin(f, (fb_node_kind)node->kind, node->n_words);
  if (!made || fb_trie_set_results(made, node->n_results) < 0)
    return fb_trie_drop(made), -1;
  if (node->n_results)
    memcpy(made->results, node->results, node->n_results * sizeof *made->results);
  made->type = node->type;
  made->function = (fb_function *)Py_XNewRef((PyObject *)node->function);
  made->payload = Py_XNewRef(node->payload);
  made->flags |= node->flags & ~FB_CUT;
  made->single = node->single;
  made->n_scalars = node->n_scalars;
  made->draws = node->draws;
  made->line = node->line;
  made->file = Py_XNewRef(node->file);
  fb_trie_charge(made, node->ns - node->parent->ns);
  for (uint32_t i = 0; i < node->n_scalars + node->n_results; i++)
    f->slots[node->base + i] = f->n_slots + i;
  return end(f, made);
}

/* Which of the slots there a backward has used up. */
static int add_freed(flattening *f, const fb_node *node) {
  uint32_t n = 0;
  f->words[0] = FB_H_FREED;
  for (uint32_t i = 0; i < node->n_aux; i++)
    if (f->slots[node->aux[i]] != FB_NO_SLOT)
      f->words[++n] = f->slots[node->aux[i]];
  fb_node *made = n ? begin(f, FB_FREED, n + 1) : NULL;
  if (!made)
    return n ? -1 : 0;
  if (!(made->aux = PyMem_Malloc(n * sizeof *made->aux)))
    return fb_trie_drop(made), PyErr_NoMemory(), -1;
  for (uint32_t i = 0; i < n; i++)
    made->aux[made->n_aux++] = (uint32_t)f->words[i + 1];
  return end(f, made);
}

/* The first states of a trace with symbols. */
static int add_equations(flattening *f, PyObject *equations) {
  f->words[0] = FB_H_REACH;
  fb_node *all = fb_trie_draft(f->state, FB_REACH, f->words, 1, 0);
  if (!all || !(f->state = fb_trie_publish(all)))
    return -1;
  fb_node *own = begin(f, FB_REACH, 1);
  if (!own)
    return -1;
  own->sized->equations = Py_NewRef(equations);
  return end(f, own);
}

/* What has no history of its own here: of an imported trace, or gradients. */
static int add_values(flattening *f, fb_node *node) {
  uint32_t first = node->base + node->n_scalars;
  for (uint32_t slot = 0; node->kind == FB_SEGMENT && slot < node->base; slot++)
    if (f->read[slot] && f->same[slot] != FB_NO_SLOT && f->same[slot] >= first)
      f->read[f->same[slot]] = 1;
  for (uint32_t i = 0; i < node->n_results; i++)
    if (f->read[first + i] &&
        add_value(f, node->kind == FB_SEGMENT ? fb_slot_type(node, first + i) : node->results[i].type, first + i) < 0)
      return -1;
  for (uint32_t slot = 0; node->kind == FB_SEGMENT && slot < node->base; slot++)
    if (f->same[slot] != FB_NO_SLOT && f->same[slot] >= first)
      f->slots[slot] = f->slots[f->same[slot]];
  return 0;
}

static int add(flattening *f, fb_node *node) {
  switch ((fb_node_kind)node->kind) {
  case FB_INPUT:
    return f->same[node->base] == FB_NO_SLOT ? copy(f, node) : 0;
  case FB_LEAF:
  case FB_GRAFT:
  case FB_CALL:
    return copy(f, node);
  case FB_SEGMENT:
    return add_values(f, node);
  case FB_BACKWARD:
  case FB_GRAD:
    return add_values(f, node) < 0 ? -1 : add_freed(f, node);
  case FB_FREED:
    return add_freed(f, node);
  default:
    return 0;
  }
}

static uint32_t most_words(fb_node **path, uint32_t depth) {
  uint32_t most = 1;
  for (uint32_t i = 0; i < depth; i++) {
    most = path[i]->n_words > most ? path[i]->n_words : most;
    most = path[i]->n_aux + 1 > most ? path[i]->n_aux + 1 : most;
  }
  return most;
}

static int run(flattening *f, const fb_program *p, fb_node **path, uint32_t depth, PyObject *equations) {
  memset(f->slots, 0xff, (f->rec->n_slots + (size_t)1) * sizeof *f->slots);
  memset(f->same, 0xff, (f->rec->n_slots + (size_t)1) * sizeof *f->same);
  for (uint32_t i = 0; i < depth; i++)
    if (path[i]->kind == FB_CALL || path[i]->kind == FB_LEAF || path[i]->kind == FB_GRAFT)
      mark_words(path[i], f->read);
  for (uint32_t i = 0; i < depth; i++)
    if (path[i]->kind == FB_SEGMENT)
      mark_same(path[i], f->same);
  mark_slots(p->history, p->n_history, f->read);
  mark_slots(p->residuals, p->n_residuals, f->read);
  int status = equations ? add_equations(f, equations) : 0;
  for (uint32_t i = 0; status == 0 && i < depth; i++)
    status = add(f, path[i]);
  return status;
}

/* What the trace knows of its symbols, those of the traces that it has imported included. */
static PyObject *ask_equations(fb_recorder *rec) {
  PyObject *hook = fb_hook(fb_hooks.equations, "equations"), *export = hook ? fb_export(rec) : NULL;
  fb_recorder *before = fb_subject_set(rec);
  int quiet = fb_quiet_begin();
  PyObject *found = export ? PyObject_CallOneArg(hook, export) : NULL;
  fb_quiet_end(quiet);
  fb_subject_set(before);
  Py_XDECREF(export);
  if (found && !PyList_CheckExact(found)) {
    PyErr_SetString(PyExc_TypeError, "[equations] the answer must be a list.");
    Py_CLEAR(found);
  }
  return found;
}

static int make(fb_recorder *rec, fb_program *p, PyObject *equations, fb_flat *made) {
  uint32_t depth = rec->state->depth;
  fb_node **path = fb_trie_path(rec->state);
  flattening f = {.rec = rec, .state = fb_trie_root(), .sized = equations != NULL};
  f.slots = PyMem_Malloc((rec->n_slots + (size_t)1) * sizeof *f.slots);
  f.same = PyMem_Malloc((rec->n_slots + (size_t)1) * sizeof *f.same);
  f.read = PyMem_Calloc(rec->n_slots + (size_t)1, 1);
  f.words = path ? PyMem_Malloc(most_words(path, depth) * sizeof *f.words) : NULL;
  bool allocated = path && f.slots && f.same && f.read && f.words;
  if (!allocated)
    PyErr_NoMemory();
  int quiet = fb_quiet_begin(); /* nothing stands on the new states yet */
  int status = allocated ? run(&f, p, path, depth, equations) : -1;
  fb_quiet_end(quiet);
  PyMem_Free(path);
  PyMem_Free(f.read);
  PyMem_Free(f.same);
  PyMem_Free(f.words);
  if (status < 0) {
    PyMem_Free(f.slots);
    return -1;
  }
  *made = (fb_flat){.state = f.state, .n_slots = f.n_slots, .slots = f.slots, .sweep = fb_trie_sweeps()};
  return 0;
}

static int map_residuals(fb_program *p) {
  fb_flat *flat = p->flat;
  flat->residuals = PyMem_Malloc((p->n_residuals + (size_t)1) * sizeof *flat->residuals);
  if (!flat->residuals)
    return PyErr_NoMemory(), -1;
  for (uint32_t i = 0; i < p->n_residuals; i++)
    flat->residuals[i] = flat->slots[p->residuals[i]];
  return 0;
}

static int make_flat(fb_recorder *rec, fb_program *p) {
  PyObject *equations = rec->state->n_symbols ? ask_equations(rec) : NULL;
  if (rec->state->n_symbols && !equations)
    return -1;
  fb_flat made, *flat = NULL;
  if (make(rec, p, equations, &made) == 0 && !(flat = PyMem_Malloc(sizeof made))) {
    PyMem_Free(made.slots);
    PyErr_NoMemory();
  }
  if (!flat)
    return Py_XDECREF(equations), -1;
  *flat = made;
  flat->equations = equations;
  p->flat = flat;
  if (map_residuals(p) == 0)
    return 0;
  fb_flat_free(p);
  return -1;
}

/* The states of p->flat are gone; the new ones are equal. */
static int make_again(fb_recorder *rec, fb_program *p) {
  fb_flat made;
  if (make(rec, p, p->flat->equations, &made) < 0)
    return -1;
  p->flat->state = made.state;
  p->flat->sweep = made.sweep;
  PyMem_Free(made.slots);
  return 0;
}

int fb_flatten(fb_recorder *rec, fb_program *p) {
  if (!rec->state->has_import || (p->flat && p->flat->sweep == fb_trie_sweeps()))
    return 0;
  return p->flat ? make_again(rec, p) : make_flat(rec, p);
}

void fb_flat_free(fb_program *p) {
  if (!p->flat)
    return;
  Py_XDECREF(p->flat->equations);
  PyMem_Free(p->flat->slots);
  PyMem_Free(p->flat->residuals);
  PyMem_Free(p->flat);
  p->flat = NULL;
}
