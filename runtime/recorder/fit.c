/* Learning sizes: which sizes of a key are constants, which are symbols, and nodes that depend on them. */
#include "call.h"

#define FB_SIBLINGS 64      /* how many are looked through for values seen before */
#define FB_DISTINCT_SIZES 3 /* so many different ones at one place make a symbol, where none has been yet */

bool fb_strict_sizes(void) {
  const char *text = getenv("FLAMBEAU_STRICT_SIZES");
  return text && *text && strcmp(text, "0") != 0;
}

/* ---- what was seen at this place ------------------------------------------------------------------------- */

static bool same_line(const fb_node *node, int line, PyObject *file) {
  return node->line == line && node->file && file && PyUnicode_Compare(node->file, file) == 0;
}

/* The sibling's sizes if its key is that of the pattern but for them; borrowed, from the node or from `own`. */
static const int64_t *sizes_of(const fb_node *node, int kind, const fb_pattern *wanted, fb_pattern *own) {
  if (node->kind != kind)
    return NULL;
  const uint64_t *key = node->sized ? node->sized->key : NULL;
  uint32_t n = key ? node->sized->n_key : 0;
  const int64_t *sizes = key ? node->sized->sizes : NULL;
  if (!key) {
    if (node->n_words + 1 > wanted->n + wanted->n_sizes ||
        fb_pattern_make(own, kind, node->function, node->words, node->n_words) < 0)
      return NULL;
    key = own->words;
    n = own->n;
    sizes = own->sizes;
  }
  return n == wanted->n && !memcmp(key, wanted->words, n * sizeof *key) ? sizes : NULL;
}

static int note_seen(PyObject *seen, const fb_node *node, const int64_t *sizes, uint32_t n) {
  const fb_node *parent = node->parent;
  bool born = parent->n_symbols && node->sized && node->sized->born;
  if (parent->n_symbols && !born)
    return 0;
  PyObject *symbols = fb_symbol_tuple(born ? node->sized->born : NULL, born ? parent->n_symbols : 0);
  PyObject *values = symbols ? fb_symbol_tuple(sizes, n) : NULL;
  PyObject *item = values ? PyTuple_Pack(2, symbols, values) : NULL;
  int found = item ? PySequence_Contains(seen, item) : -1;
  int status = found == 0 ? PyList_Append(seen, item) : found;
  Py_XDECREF(symbols);
  Py_XDECREF(values);
  Py_XDECREF(item);
  return status < 0 ? -1 : 0;
}

/* A list of (symbols' values, sizes): the siblings that differ from the key in nothing but sizes. */
static PyObject *seen_before(const fb_recorder *rec, int kind, const fb_pattern *pattern) {
  PyObject *seen = PyList_New(0), *file = NULL;
  bool anywhere = rec->state->n_symbols > 0;
  int line = anywhere || !rec->state->children ? 0 : fb_user_line(&file), left = FB_SIBLINGS;
  fb_pattern own = {0};
  for (const fb_node *c = rec->state->children; seen && c && left--; c = c->sibling) {
    if (!anywhere && !same_line(c, line, file))
      continue;
    const int64_t *sizes = sizes_of(c, kind, pattern, &own);
    if (sizes && note_seen(seen, c, sizes, pattern->n_sizes) < 0)
      Py_CLEAR(seen);
  }
  if (PyErr_Occurred())
    Py_CLEAR(seen);
  fb_pattern_clear(&own);
  Py_XDECREF(file);
  return seen;
}

/* ---- fitting --------------------------------------------------------------------------------------------- */

/* Shapes with symbols in them of the operands' slots, else None; one per operand word. */
static PyObject *find_bases(fb_fit *fit, fb_recorder *rec, int kind, const uint64_t *words, uint32_t n) {
  PyObject *bases = PyList_New(0);
  for (uint32_t i = 1; bases && kind == FB_CALL && i < n; i++) {
    uint32_t slot = fb_word_slot(words[i]);
    const fb_type *type = NULL;
    if (slot == FB_TAG_LIST)
      continue;
    if (slot == FB_TAG_NUMBER)
      i++;
    if (slot < FB_TAG_FIRST && rec->state->n_symbols)
      type = fb_slot_type(rec->state, slot);
    bool symbolic = type && type->symbolic;
    fit->sized |= symbolic;
    fit->by_pattern |= symbolic && fb_word_view(words[i]);
    if (PyErr_Occurred() || PyList_Append(bases, symbolic ? type->shape : Py_None) < 0)
      Py_CLEAR(bases);
  }
  return bases;
}

static bool is_plain(PyObject *exprs) {
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(exprs); i++)
    if (!PyLong_CheckExact(PyTuple_GET_ITEM(exprs, i)))
      return false;
  return true;
}

/* Ask the frontend what the sizes are: sets exprs and values. */
static int ask_fit(fb_fit *fit, fb_recorder *rec, PyObject *seen) {
  PyObject *hook = fb_hook(fb_hooks.fit_sizes, "fit_sizes");
  PyObject *sizes = hook ? fb_symbol_tuple(fit->pattern.sizes, fit->pattern.n_sizes) : NULL;
  PyObject *answer = sizes ? PyObject_CallFunctionObjArgs(hook, fit->values, sizes, seen, fit->bases, NULL) : NULL;
  Py_XDECREF(sizes);
  if (!answer)
    return -1;
  PyObject *exprs, *values;
  int status = 0;
  if (answer != Py_None) {
    status = PyArg_ParseTuple(answer, "O!O!;fit_sizes returns (sizes, values) or None", &PyTuple_Type, &exprs,
                              &PyTuple_Type, &values)
                 ? 0
                 : -1;
    if (status == 0 &&
        (PyTuple_GET_SIZE(exprs) != fit->pattern.n_sizes || PyTuple_GET_SIZE(values) < PyTuple_GET_SIZE(fit->values))) {
      PyErr_SetString(PyExc_ValueError, "[fit_sizes] one expression per size, and all symbols' values, are wanted.");
      status = -1;
    }
    if (status == 0 && !is_plain(exprs)) {
      fit->sized = fit->by_pattern = true;
      Py_XSETREF(fit->exprs, Py_NewRef(exprs));
      Py_XSETREF(fit->values, Py_NewRef(values));
      fit->n_new = (uint32_t)PyTuple_GET_SIZE(values) - rec->state->n_symbols;
    }
  }
  Py_DECREF(answer);
  return status;
}

/* What to check of each size when the node is met again. Runs Python, so no node may wait for it. */
static int set_conditions(fb_fit *fit, uint32_t known) {
  uint32_t n = fit->pattern.n_sizes;
  fit->conditions = PyMem_Calloc(n + 1, sizeof *fit->conditions);
  if (!fit->conditions)
    return PyErr_NoMemory(), -1;
  for (uint32_t i = 0; i < n; i++) {
    PyObject *expr = PyTuple_GET_ITEM(fit->exprs, i);
    fb_condition *c = &fit->conditions[i];
    if (PyLong_CheckExact(expr)) {
      *c = (fb_condition){FB_IS, PyLong_AsLongLong(expr), NULL};
      continue;
    }
    if (!(c->size = fb_size_read(expr)))
      return -1;
    /* the first place that mentions a new symbol by itself is where its value comes from */
    bool is_new = c->size->n == 1 && c->size->rows[0].op == FB_X_SYMBOL && c->size->rows[0].a == known;
    known += is_new;
    c->kind = is_new ? FB_ANY : FB_EQUALS;
  }
  return 0;
}

/* The trace's own symbols, and after them the new ones. */
static int take_values(fb_fit *fit, fb_recorder *rec) {
  uint32_t n = (uint32_t)PyTuple_GET_SIZE(fit->values);
  if (fb_grow((void **)&rec->symbols, &rec->cap_symbols, n + 1, sizeof *rec->symbols) < 0)
    return -1;
  for (uint32_t i = rec->state->n_symbols; i < n; i++)
    rec->symbols[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(fit->values, i));
  return PyErr_Occurred() ? -1 : 0;
}

int fb_fit_make(fb_fit *fit, fb_recorder *rec, int kind, fb_function *f, const uint64_t *words, uint32_t n) {
  *fit = (fb_fit){0};
  const fb_node *state = rec->state;
  if (fb_pattern_make(&fit->pattern, kind, f, words, n) < 0 ||
      !(fit->values = fb_symbol_tuple(rec->symbols, state->n_symbols)) ||
      !(fit->exprs = fb_symbol_tuple(fit->pattern.sizes, fit->pattern.n_sizes)) ||
      !(fit->bases = find_bases(fit, rec, kind, words, n)))
    return -1;
  int status = 0;
  if (fit->pattern.n_sizes && (state->n_symbols || state->children) && fb_hooks.fit_sizes) {
    PyObject *seen = seen_before(rec, kind, &fit->pattern);
    if (!seen)
      return -1;
    if (state->n_symbols || PyList_GET_SIZE(seen) + 1 >= FB_DISTINCT_SIZES)
      status = ask_fit(fit, rec, seen);
    Py_DECREF(seen);
  }
  if (status == 0 && fit->by_pattern)
    status = set_conditions(fit, state->n_symbols);
  return status < 0 ? -1 : take_values(fit, rec);
}

void fb_fit_clear(fb_fit *fit) {
  for (uint32_t i = 0; fit->conditions && i < fit->pattern.n_sizes; i++)
    PyMem_Free(fit->conditions[i].size);
  PyMem_Free(fit->conditions);
  fb_pattern_clear(&fit->pattern);
  Py_XDECREF(fit->bases);
  Py_XDECREF(fit->exprs);
  Py_XDECREF(fit->values);
}

/* ---- nodes ----------------------------------------------------------------------------------------------- */

static fb_sized *sized_of(fb_node *node) {
  if (!node->sized && !(node->sized = PyMem_Calloc(1, sizeof *node->sized)))
    PyErr_NoMemory();
  return node->sized;
}

static int add_guard(fb_node *node, int relation, fb_size *size) {
  fb_sized *s = sized_of(node);
  fb_check *grown = s && size ? PyMem_Realloc(s->guards, (s->n_guards + 1) * sizeof *grown) : NULL;
  if (!grown) {
    PyMem_Free(size);
    return PyErr_Occurred() ? -1 : (PyErr_NoMemory(), -1);
  }
  s->guards = grown;
  s->guards[s->n_guards++] = (fb_check){relation, size};
  node->flags |= FB_CHECKED;
  return 0;
}

int fb_node_guard(fb_node *node, PyObject *guards) {
  PyObject *items = guards ? PySequence_Tuple(guards) : NULL;
  if (!items)
    return guards ? -1 : 0;
  int status = 0;
  for (Py_ssize_t i = 0; status == 0 && i < PyTuple_GET_SIZE(items); i++) {
    int relation;
    PyObject *rows;
    status =
        PyArg_ParseTuple(PyTuple_GET_ITEM(items, i), "iO!;a guard is (relation, rows)", &relation, &PyTuple_Type, &rows)
            ? add_guard(node, relation, fb_size_read(rows))
            : -1;
  }
  Py_DECREF(items);
  return status;
}

int fb_node_pin(fb_node *node, const int64_t *symbols) {
  for (uint32_t i = 0; i < node->n_symbols; i++) {
    fb_size *s = PyMem_Calloc(1, sizeof *s + 3 * sizeof *s->rows);
    if (!s)
      return PyErr_NoMemory(), -1;
    s->n = 3;
    s->rows[0] = (fb_expr){FB_X_SYMBOL, i, 0};
    s->rows[1] = (fb_expr){FB_X_CONST, -symbols[i], 0};
    s->rows[2] = (fb_expr){FB_X_ADD, 0, 1};
    if (add_guard(node, 0, s) < 0)
      return -1;
  }
  return 0;
}

static int64_t *copied(const int64_t *values, uint32_t n) {
  int64_t *made = PyMem_Malloc((n + 1) * sizeof *made);
  if (!made)
    return (int64_t *)PyErr_NoMemory();
  if (n)
    memcpy(made, values, n * sizeof *made);
  return made;
}

/* Words are what a trace's export reads: views with symbols take the place of those of the first time. */
static int set_views(fb_node *node, PyObject *views) {
  Py_ssize_t at = 0;
  for (uint32_t i = 1; i < node->n_words; i++) {
    uint64_t *word = &node->words[i];
    uint32_t view = fb_word_view(*word);
    i += fb_word_slot(*word) == FB_TAG_NUMBER;
    if (!view)
      continue;
    PyObject *payload = at < PyTuple_GET_SIZE(views) ? PyTuple_GET_ITEM(views, at) : NULL;
    at++;
    if (!payload || payload == Py_None)
      continue;
    fb_view *v = fb_view_like(fb_view_by_id(view), payload);
    if (!v)
      return -1;
    *word = fb_word_of(fb_word_slot(*word), v);
  }
  return 0;
}

int fb_fit_apply(fb_fit *fit, fb_recorder *rec, fb_node *node, PyObject *guards, PyObject *views) {
  uint32_t known = node->parent->n_symbols;
  node->n_symbols = known + fit->n_new;
  bool imports = node->kind == FB_SEGMENT && fit->pattern.n_sizes; /* of a trace with symbols */
  if (!known && !fit->sized && !imports)
    return 0;
  fb_sized *s = sized_of(node);
  if (!s || fb_node_guard(node, guards) < 0)
    return -1;
  s->n_sizes = fit->pattern.n_sizes;
  s->exprs = Py_NewRef(fit->exprs);
  if (!(s->sizes = copied(fit->pattern.sizes, s->n_sizes)) || !(s->born = copied(rec->symbols, known)))
    return -1;
  if (!fit->by_pattern)
    return 0;
  s->n_key = fit->pattern.n;
  s->here = !known;
  if (!(s->key = PyMem_Malloc(s->n_key * sizeof *s->key)))
    return PyErr_NoMemory(), -1;
  memcpy(s->key, fit->pattern.words, s->n_key * sizeof *s->key);
  s->conditions = fit->conditions;
  fit->conditions = NULL;
  if (views && set_views(node, views) < 0)
    return -1;
  node->flags |= FB_CHECKED;
  node->parent->patterned = true;
  fb_stats.patterns++;
  fb_trie_place(node, s->key, s->n_key);
  return 0;
}
