/* Segments: flushed traces that the gradient history of live cells still needs, and importing them into a trace. */
#include "capture.h"

static fb_segment *segments;

fb_segment *fb_segments(void) { return segments; }

fb_kept fb_kept_for_gradients(void) {
  fb_kept kept = {0};
  for (const fb_segment *s = segments; s; s = s->next) {
    kept.segments++;
    kept.values += s->n_residuals;
    for (uint32_t i = 0; i < s->n_residuals; i++)
      kept.bytes += fb_buffer_bytes(s->residuals[i]);
  }
  return kept;
}

int fb_raise_freed(void) {
  PyErr_SetString(PyExc_RuntimeError,
                  "[backward] the graph of this tensor was freed by an earlier backward(): gradients cannot go through "
                  "it a second time. Pass retain_graph=True to the earlier call.");
  return -1;
}

bool fb_history_freed(const fb_recorder *rec, uint32_t slot) {
  for (uint32_t i = 0; i < rec->n_backwards; i++)
    if (fb_contains(rec->backwards[i]->aux, rec->backwards[i]->n_aux, slot))
      return true;
  return false;
}

/* ---- what a slot depends on ------------------------------------------------------------------------------ */

static bool reach_edge(uint8_t *needed, uint32_t from, uint32_t to) {
  if (!needed[from] || needed[to])
    return false;
  needed[to] = 1;
  return true;
}

static bool has_links(fb_node **path, uint32_t depth) {
  for (uint32_t i = 0; i < depth; i++)
    if (path[i]->kind == FB_LINK)
      return true;
  return false;
}

static void reach_call(const fb_node *node, uint8_t *needed) {
  bool wanted = false;
  for (uint32_t i = 0; i < node->n_results; i++)
    wanted |= node->results[i].type && node->results[i].type->requires_grad && needed[node->base + node->n_scalars + i];
  for (uint32_t i = 1; wanted && i < node->n_words; i++) {
    uint32_t slot = fb_word_slot(node->words[i]), view = fb_word_view(node->words[i]);
    if (slot == FB_TAG_NUMBER)
      i++;
    if (slot < FB_TAG_FIRST && !(view && fb_view_by_id(view)->detached))
      needed[slot] = 1;
  }
}

/* One sweep from the end to the beginning; *again when an edge that leads forward was followed. */
static int reach_sweep(fb_node **path, uint32_t depth, uint8_t *needed, bool *again) {
  for (uint32_t i = depth; i-- > 0;) {
    const fb_node *node = path[i];
    uint8_t *inner = needed + node->base + node->n_scalars;
    switch ((fb_node_kind)node->kind) {
    case FB_CALL:
    case FB_BACKWARD:
    case FB_GRAD:
      reach_call(node, needed);
      break;
    case FB_GRAFT:
      reach_edge(needed, node->base, fb_word_high(node->words[1]));
      break;
    case FB_LINK:
      *again |= reach_edge(needed, fb_word_slot(node->words[1]), fb_word_high(node->words[1]));
      break;
    case FB_SEGMENT:
      if (memchr(inner, 1, node->n_results) && fb_reach(node->imported, inner) < 0)
        return -1;
      break;
    default:
      break;
    }
  }
  return 0;
}

int fb_reach(fb_node *state, uint8_t *needed) {
  fb_node **path = fb_trie_path(state);
  if (!path)
    return -1;
  bool again = true;
  int status = 0;
  for (int sweep = 0; status == 0 && (again || sweep < 2); sweep++) { /* the first sweep may wake up links behind it */
    again = false;
    status = reach_sweep(path, state->depth, needed, &again);
    if (sweep == 0 && !has_links(path, state->depth))
      break;
  }
  PyMem_Free(path);
  return status;
}

/* A type of an imported trace, in what its symbols are in this one. */
static const fb_type *translated(const fb_type *type, const fb_node *segment) {
  if (!type || !type->symbolic)
    return type;
  PyObject *shape = PyTuple_New(type->ndim);
  for (int i = 0; shape && i < type->ndim; i++) {
    PyObject *size = PyTuple_GET_ITEM(type->shape, i);
    size = type->sizes[i] ? PyObject_CallMethod(size, "substitute", "(O)", segment->sized->exprs) : Py_NewRef(size);
    if (!size)
      Py_CLEAR(shape);
    else
      PyTuple_SET_ITEM(shape, i, size);
  }
  type = shape ? fb_type_intern(shape, type->dtype, type->device, type->requires_grad) : NULL;
  Py_XDECREF(shape);
  return type;
}

const fb_type *fb_slot_type(fb_node *state, uint32_t slot) {
  for (fb_node *n = state; n->depth; n = n->parent) {
    uint32_t first = n->base + n->n_scalars;
    if (slot < first || slot >= first + n->n_results)
      continue;
    return n->kind == FB_SEGMENT ? translated(fb_slot_type(n->imported, slot - first), n)
                                 : n->results[slot - first].type;
  }
  return NULL;
}

/* ---- making and releasing -------------------------------------------------------------------------------- */

/* Releasing may let other threads in, who must not find what is gone: all is taken out first. */
void fb_segment_drop_values(fb_segment *s) {
  uint32_t n = s->n_residuals;
  s->freed = true;
  s->n_residuals = 0;
  for (uint32_t i = 0; i < n; i++)
    fb_buffer_release(s->residuals[i]);
}

static void drop_structure(fb_segment *s) {
  uint32_t n_origins = s->n_origins, n_leaves = s->n_leaves;
  s->n_origins = s->n_leaves = 0;
  for (uint32_t i = 0; i < n_leaves; i++)
    fb_anchor_release(s->leaves[i].anchor);
  for (uint32_t i = 0; i < n_origins; i++)
    fb_segment_release(s->origins[i].segment);
  fb_marks_drop(&s->marks, &s->n_marks, &s->cap_marks);
}

static int insert(uint32_t **slots, uint32_t *n, uint32_t *cap, uint32_t slot) {
  if (fb_contains(*slots, *n, slot))
    return 0;
  if (fb_grow((void **)slots, cap, *n + 1, sizeof **slots) < 0)
    return -1;
  uint32_t at = (*n)++;
  for (; at && (*slots)[at - 1] > slot; at--)
    (*slots)[at] = (*slots)[at - 1];
  (*slots)[at] = slot;
  return 0;
}

static void segment_free(fb_segment *s) {
  PyTypeObject *type = Py_TYPE(s);
  if (s->previous)
    s->previous->next = s->next;
  else if (segments == s)
    segments = s->next;
  if (s->next)
    s->next->previous = s->previous;
  PyMem_Free(s->symbols);
  PyMem_Free(s->scalars);
  PyMem_Free(s->origins);
  PyMem_Free(s->leaves);
  PyMem_Free(s->residuals);
  fb_segment_unwatch(s);
  PyMem_Free(s->roots);
  PyMem_Free(s->ended);
  Py_XDECREF(s->program);
  PyObject_GC_Del(s);
  Py_DECREF(type);
}

/* Chains of segments can be long: parents are released one by one, not by recursion. */
static void segment_dealloc(fb_segment *s) {
  static fb_segment *pending;
  static bool busy;
  PyObject_GC_UnTrack(s);
  s->epoch = 0;
  s->dying = pending;
  pending = s;
  if (busy)
    return;
  busy = true;
  while (pending) {
    fb_segment *dead = pending;
    pending = dead->dying;
    fb_segment_drop_values(dead);
    drop_structure(dead);
    segment_free(dead);
  }
  busy = false;
}

/* Marks may refer to tensors whose histories come here again: the collector has to see all that holds a segment. */
static int segment_traverse(fb_segment *s, visitproc visit, void *arg) {
  Py_VISIT(Py_TYPE(s));
  for (uint32_t i = 0; i < s->n_marks; i++)
    Py_VISIT(s->marks[i].object);
  for (uint32_t i = 0; i < s->n_origins; i++)
    Py_VISIT(s->origins[i].segment);
  return 0;
}

static int segment_clear(fb_segment *s) {
  fb_marks_drop(&s->marks, &s->n_marks, &s->cap_marks);
  return 0;
}

static PyType_Slot segment_slots[] = {
    {Py_tp_traverse, segment_traverse}, {Py_tp_clear, segment_clear}, {Py_tp_dealloc, segment_dealloc}, {0, NULL}};
static PyType_Spec segment_spec = {"flambeau.runtime._recorder.Segment", sizeof(fb_segment), 0,
                                   Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                                   segment_slots};
static PyTypeObject *segment_type;
static fb_segment *lost;

static fb_segment *segment_new(void) {
  int quiet = fb_quiet_begin();
  fb_segment *s = PyObject_GC_New(fb_segment, segment_type);
  fb_quiet_end(quiet);
  if (s)
    memset((char *)s + sizeof(PyObject), 0, sizeof *s - sizeof(PyObject));
  return s;
}

int fb_history_init(void) {
  segment_type = (PyTypeObject *)PyType_FromSpec(&segment_spec);
  lost = segment_type ? segment_new() : NULL;
  if (lost)
    lost->freed = true;
  return lost ? 0 : -1;
}

fb_segment *fb_segment_lost(void) { return lost; }

static int find_residual_types(fb_program *p, fb_node *state) {
  if (p->residual_types)
    return 0;
  p->residual_types = PyMem_Calloc(p->n_residuals + 1, sizeof *p->residual_types);
  if (!p->residual_types)
    return PyErr_NoMemory(), -1;
  for (uint32_t i = 0; i < p->n_residuals; i++)
    p->residual_types[i] = fb_slot_type(state, p->residuals[i]); /* NULL: a scalar, kept with the inputs anyway */
  return PyErr_Occurred() ? -1 : 0;
}

/* ---- histories that pass through an imported trace ------------------------------------------------------- */

/* Mark the slots that calls of the trace read, and those where live cells have their history. */
static int mark_read(const fb_recorder *rec, uint8_t *read) {
  fb_node **path = fb_trie_path(rec->state);
  if (!path)
    return -1;
  for (uint32_t k = 0; k < rec->state->depth; k++)
    for (uint32_t i = 1; path[k]->kind == FB_CALL && i < path[k]->n_words; i++) {
      uint32_t slot = fb_word_slot(path[k]->words[i]);
      if (slot == FB_TAG_NUMBER)
        i++;
      else if (slot < FB_TAG_FIRST)
        read[slot] = 1;
    }
  PyMem_Free(path);
  for (uint32_t slot = 0; slot < rec->n_slots; slot++) {
    const fb_cell *c = rec->owner[slot];
    if (c && c->type->requires_grad && fb_cell_leads_back(c))
      read[c->use == FB_NO_SLOT ? c->history : c->use] = 1;
  }
  return 0;
}

/* Where the history of slot `slot` of an imported trace is: there, or where that trace had it from. */
static fb_origin origin_of(const fb_import *import, uint32_t slot) {
  fb_segment *s = import->segment;
  for (uint32_t i = 0; i < s->n_origins; i++)
    if (s->origins[i].slot == slot)
      return (fb_origin){import->base + slot, s->origins[i].segment, s->origins[i].segment_slot, FB_NO_SLOT};
  return (fb_origin){import->base + slot, s, slot, FB_NO_SLOT};
}

/* A place more that histories go on from: what is made room for here is noted in fb_segment_take_values. */
static int add_origin(fb_segment *s, uint32_t *room, fb_origin origin, uint32_t slot) {
  fb_segment *from = origin.segment;
  origin.slot = slot;
  if (fb_grow((void **)&s->origins, room, s->n_origins + 1, sizeof *s->origins) < 0 ||
      fb_grow((void **)&from->roots, &from->cap_roots, from->n_roots + s->n_origins + 1, sizeof *from->roots) < 0)
    return -1;
  fb_segment_hold(from);
  s->origins[s->n_origins++] = origin;
  return 0;
}

/* Mark the slots of imported traces whose histories importers of this one go on to. */
static int mark_passed(const fb_recorder *rec, const fb_program *p, uint8_t *read) {
  if (!p->flat)
    return mark_read(rec, read);
  for (uint32_t slot = 0; slot < rec->n_slots; slot++)
    read[slot] = p->flat->slots[slot] != FB_NO_SLOT;
  return 0;
}

/* Gradients recorded op by op read values of imported traces: their history goes on in those traces themselves. */
static int take_imports(fb_segment *s, const fb_recorder *rec, const fb_program *p) {
  uint8_t *read = rec->n_imports ? PyMem_Calloc(rec->n_slots + 1, 1) : NULL;
  uint32_t room = s->n_origins + 1;
  int status = !rec->n_imports ? 0 : !read ? (PyErr_NoMemory(), -1) : mark_passed(rec, p, read);
  for (uint32_t k = 0; status == 0 && k < rec->n_imports; k++) {
    const fb_import *in = &rec->imports[k];
    for (uint32_t slot = 0; status == 0 && slot < in->segment->n_slots; slot++)
      if (read[in->base + slot])
        status = add_origin(s, &room, origin_of(in, slot), fb_flat_slot(p, in->base + slot));
  }
  PyMem_Free(read);
  return status;
}

static int take_trace(fb_segment *s, fb_recorder *rec, fb_program *p) {
  if (find_residual_types(p, rec->state) < 0)
    return -1;
  s->program = (fb_program *)Py_NewRef(p);
  for (uint32_t i = 0; i < rec->n_inputs; i++)
    if (rec->inputs[i].kind != FB_BUFFER && fb_flat_slot(p, rec->inputs[i].slot) != FB_NO_SLOT) {
      s->scalars[s->n_scalars] = rec->inputs[i];
      s->scalars[s->n_scalars++].slot = fb_flat_slot(p, rec->inputs[i].slot);
    }
  for (uint32_t i = 0; i < rec->n_origins; i++) {
    fb_segment_hold(rec->origins[i].segment);
    s->origins[s->n_origins] = rec->origins[i];
    s->origins[s->n_origins++].slot = fb_flat_slot(p, rec->origins[i].slot);
  }
  s->n_entered = s->n_origins;
  if (take_imports(s, rec, p) < 0 || fb_marks_keep(s, rec) < 0 || fb_segment_watch(s, rec, p) < 0)
    return -1;
  for (uint32_t i = 0; i < rec->n_leaves; i++) {
    fb_anchor *a = rec->leaves[i].anchor;
    a->refs++;
    s->leaves[s->n_leaves++] = (fb_trace_leaf){.anchor = a, .slot = fb_flat_slot(p, rec->leaves[i].slot)};
  }
  return 0;
}

fb_segment *fb_segment_make(fb_recorder *rec, fb_program *p, const uint32_t *roots, uint32_t n_roots) {
  fb_segment *s = segment_new();
  if (!s || fb_flatten(rec, p) < 0)
    return s ? fb_segment_release(s), NULL : NULL;
  s->state = p->flat ? p->flat->state : rec->state;
  s->n_slots = p->flat ? p->flat->n_slots : rec->n_slots;
  s->symbols = PyMem_Calloc(rec->state->n_symbols + 1, sizeof *s->symbols);
  if (s->symbols && rec->state->n_symbols) /* a thread that has met none has no array of them */
    memcpy(s->symbols, rec->symbols, rec->state->n_symbols * sizeof *s->symbols);
  s->scalars = PyMem_Calloc(rec->n_inputs + 1, sizeof *s->scalars);
  s->origins = PyMem_Calloc(rec->n_origins + 1, sizeof *s->origins);
  s->leaves = PyMem_Calloc(rec->n_leaves + 1, sizeof *s->leaves);
  s->residuals = PyMem_Calloc(p->n_residuals + 1, sizeof *s->residuals);
  s->next = segments;
  if (segments)
    segments->previous = s;
  segments = s;
  bool allocated = s->symbols && s->scalars && s->origins && s->leaves && s->residuals;
  if (!allocated)
    PyErr_NoMemory();
  int status = allocated ? take_trace(s, rec, p) : -1;
  for (uint32_t i = 0; status == 0 && i < n_roots; i++)
    if ((status = insert(&s->roots, &s->n_roots, &s->cap_roots, fb_flat_slot(p, roots[i]))) == 0 &&
        fb_history_freed(rec, roots[i]))
      status = insert(&s->ended, &s->n_ended, &s->cap_ended, fb_flat_slot(p, roots[i]));
  if (status < 0) {
    fb_segment_release(s);
    return NULL;
  }
  PyObject_GC_Track(s);
  return s;
}

void fb_segment_take_values(fb_segment *s, fb_buffer **values) {
  for (uint32_t i = 0; i < s->program->n_residuals; i++) {
    fb_buffer_retain(values[i]);
    s->residuals[s->n_residuals++] = values[i];
  }
  for (uint32_t i = s->n_entered; i < s->n_origins; i++) {
    fb_segment *from = s->origins[i].segment;
    if (insert(&from->roots, &from->n_roots, &from->cap_roots, s->origins[i].segment_slot) < 0)
      PyErr_Clear(); /* cannot be: there is room */
  }
}
