/* Patterns: keys without sizes, and whether sizes meet a node's conditions and guards. */
#include "trace.h"

/* ---- patterns -------------------------------------------------------------------------------------------- */

static int pattern_word(fb_pattern *p, uint64_t word) {
  if (fb_grow((void **)&p->words, &p->cap, p->n + 1, sizeof word) < 0)
    return -1;
  p->words[p->n++] = word;
  return 0;
}

static int pattern_sizes(fb_pattern *p, const int64_t *sizes, uint32_t n) {
  if (fb_grow((void **)&p->sizes, &p->cap_sizes, p->n_sizes + n + 1, sizeof *sizes) < 0)
    return -1;
  if (n)
    memcpy(p->sizes + p->n_sizes, sizes, n * sizeof *sizes);
  p->n_sizes += n;
  return 0;
}

static int pattern_header(fb_pattern *p, int kind, fb_function *f, uint64_t word) {
  const int64_t *sizes;
  uint32_t n;
  if (kind == FB_CALL) {
    int64_t skeleton = fb_static_sizes(f, fb_word_high(word), &sizes, &n);
    if (skeleton < 0 || pattern_sizes(p, sizes, n) < 0)
      return -1;
    word = (uint32_t)word | (uint64_t)skeleton << 32;
  } else if (kind == FB_INPUT || (kind == FB_LEAF && fb_word_high(word))) {
    const fb_type *type = fb_type_by_id(fb_word_high(word));
    if (pattern_sizes(p, type->dims, (uint32_t)type->ndim) < 0)
      return -1;
    word = (uint32_t)word | (uint64_t)type->skeleton << 32;
  }
  return pattern_word(p, word);
}

static bool has_operands(int kind) {
  return kind == FB_CALL || kind == FB_REACH || kind == FB_BACKWARD || kind == FB_GRAD;
}

int fb_pattern_make(fb_pattern *p, int kind, fb_function *f, const uint64_t *words, uint32_t n) {
  p->n = p->n_sizes = 0;
  if (pattern_header(p, kind, f, words[0]) < 0)
    return -1;
  for (uint32_t i = 1; i < n; i++) {
    uint64_t word = words[i];
    uint32_t slot = fb_word_slot(word);
    int status = 0;
    if (slot == FB_TAG_SIZE) {
      int64_t value = (int64_t)words[++i];
      status = pattern_sizes(p, &value, 1);
    } else if (slot == FB_TAG_NUMBER && has_operands(kind)) {
      status = pattern_word(p, word);
      word = words[++i];
    } else if (has_operands(kind) && fb_word_view(word)) {
      const fb_view *view = fb_view_by_id(fb_word_view(word));
      status = view ? pattern_sizes(p, view->sizes, view->n_sizes) : -1;
      word = slot | (uint64_t)(view ? view->skeleton : 0) << 32;
    }
    if (status < 0 || pattern_word(p, word) < 0)
      return -1;
  }
  return pattern_word(p, FB_TAG_PATTERN);
}

void fb_pattern_clear(fb_pattern *p) {
  PyMem_Free(p->words);
  PyMem_Free(p->sizes);
  *p = (fb_pattern){0};
}

/* ---- conditions and guards ------------------------------------------------------------------------------- */

static bool is_here(const fb_node *node) {
  PyObject *file;
  int line = fb_user_line(&file);
  bool here = line == node->line && file && node->file && PyUnicode_Compare(file, node->file) == 0;
  Py_XDECREF(file);
  return here;
}

bool fb_sized_admits(const fb_node *node, fb_recorder *rec, const fb_pattern *pattern) {
  const fb_sized *s = node->sized;
  uint32_t at = node->parent->n_symbols;
  int64_t value;
  if (fb_grow((void **)&rec->symbols, &rec->cap_symbols, node->n_symbols + 1, sizeof *rec->symbols) < 0) {
    PyErr_Clear();
    return false;
  }
  for (uint32_t i = 0; s->conditions && i < s->n_sizes; i++) {
    const fb_condition *c = &s->conditions[i];
    int64_t size = pattern->sizes[i];
    if (c->kind == FB_ANY && size >= 2)
      rec->symbols[at++] = size;
    else if (c->kind == FB_ANY || (c->kind == FB_IS && size != c->value) ||
             (c->kind == FB_EQUALS && (!fb_size_value(c->size, rec->symbols, &value) || size != value)))
      return false;
  }
  for (uint32_t i = 0; i < s->n_guards; i++)
    if (!fb_size_value(s->guards[i].size, rec->symbols, &value) || !fb_holds(s->guards[i].relation, value))
      return false;
  return !s->here || is_here(node);
}

void fb_sized_free(fb_sized *s) {
  if (!s)
    return;
  for (uint32_t i = 0; s->conditions && i < s->n_sizes; i++)
    PyMem_Free(s->conditions[i].size);
  for (uint32_t i = 0; i < s->n_guards; i++)
    PyMem_Free(s->guards[i].size);
  PyMem_Free(s->key);
  PyMem_Free(s->conditions);
  PyMem_Free(s->guards);
  PyMem_Free(s->sizes);
  PyMem_Free(s->born);
  PyMem_Free(s->draws);
  Py_XDECREF(s->exprs);
  Py_XDECREF(s->equations);
  PyMem_Free(s);
}
