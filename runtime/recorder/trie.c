/* The trie of traces: lookup, growth, states whose numbers are operands, and bounded memory. */
#include "trace.h"

static fb_node *root, *all_nodes;
static fb_node **table;
static uint32_t table_mask, n_states, n_programs;
static uint32_t collect_at,
    collect_programs_at; /* what is left after a collection is not looked through again at once */
static uint64_t next_id = 1, n_sweeps;

static uint64_t key_hash(const fb_node *state, const uint64_t *words, uint32_t n) {
  uint64_t h = state->id * 0x9E3779B97F4A7C15ull + n;
  for (uint32_t i = 0; i < n; i++) {
    h ^= words[i] * 0xC2B2AE3D27D4EB4Full;
    h = (h << 27 | h >> 37) * 0x9E3779B97F4A7C15ull;
  }
  return h ^ h >> 32;
}

static fb_node *node_new(fb_node_kind kind, uint32_t n_words) {
  fb_node *node = PyMem_Calloc(1, sizeof(fb_node) + n_words * sizeof(uint64_t));
  if (!node)
    return (fb_node *)PyErr_NoMemory();
  node->kind = (uint8_t)kind;
  node->id = next_id++;
  node->n_words = n_words;
  return node;
}

static void node_place(fb_node *node) {
  fb_node **bucket = &table[node->hash & table_mask];
  node->hash_next = *bucket;
  *bucket = node;
}

static int table_resize(uint32_t size) {
  fb_node **grown = PyMem_Calloc(size, sizeof *grown);
  if (!grown) {
    PyErr_NoMemory();
    return -1;
  }
  PyMem_Free(table);
  table = grown;
  table_mask = size - 1;
  for (fb_node *n = all_nodes; n; n = n->all_next)
    node_place(n);
  return 0;
}

fb_node *fb_trie_root(void) {
  if (!root && table_resize(1024) == 0)
    root = node_new(FB_ROOT, 0);
  return root;
}

static bool has_key(const fb_node *node, const uint64_t *words, uint32_t n) {
  bool by_pattern = node->sized && node->sized->key;
  const uint64_t *key = by_pattern ? node->sized->key : node->words;
  return (by_pattern ? node->sized->n_key : node->n_words) == n && !memcmp(key, words, n * sizeof *words);
}

fb_node *fb_trie_find(fb_recorder *rec, const uint64_t *words, uint32_t n, const fb_pattern *pattern) {
  fb_node *state = rec->state;
  uint64_t hash = key_hash(state, words, n);
  for (fb_node *c = table[hash & table_mask]; c; c = c->hash_next)
    if (c->hash == hash && c->parent == state && has_key(c, words, n) &&
        (!(c->flags & FB_CHECKED) || fb_sized_admits(c, rec, pattern)))
      return state->recent = c;
  return NULL;
}

fb_node *fb_trie_lookup(fb_recorder *rec, fb_node_kind kind, fb_function *f, const uint64_t *words, uint32_t n) {
  fb_node *node = fb_trie_step(rec, words, n);
  if (node || !rec->state->patterned)
    return node;
  fb_pattern pattern = {0};
  if (fb_pattern_make(&pattern, kind, f, words, n) == 0)
    node = fb_trie_find(rec, pattern.words, pattern.n, &pattern);
  else
    PyErr_Clear();
  fb_pattern_clear(&pattern);
  return node;
}

void fb_trie_place(fb_node *draft, const uint64_t *key, uint32_t n) { draft->hash = key_hash(draft->parent, key, n); }

uint64_t fb_trie_cost(PyObject *payload) {
  PyObject *cost = PyObject_GetAttrString(payload, "cost");
  unsigned long long ns = cost ? PyLong_AsUnsignedLongLong(cost) : 0;
  Py_XDECREF(cost);
  if (!PyErr_Occurred())
    return ns;
  fb_forget_error(); /* a payload without an estimate costs nothing */
  return 0;
}

void fb_trie_charge(fb_node *node, uint64_t ns) {
  node->ns += ns;
  if (node->ns >= fb_limits.max_ns)
    node->flags |= FB_CUT;
}

fb_node *fb_trie_draft(fb_node *state, fb_node_kind kind, const uint64_t *words, uint32_t n, uint32_t base) {
  fb_node *node = node_new(kind, n);
  if (!node)
    return NULL;
  memcpy(node->words, words, n * sizeof *words);
  node->hash = key_hash(state, words, n);
  node->parent = state;
  node->depth = state->depth + 1;
  node->ns = state->ns;
  node->n_symbols = state->n_symbols;
  node->has_import = state->has_import || kind == FB_SEGMENT;
  node->base = base;
  if (node->depth >= fb_limits.max_ops)
    node->flags |= FB_CUT;
  return node;
}

/* A state that another thread has published for the same key while this draft was written. */
static fb_node *same_as(const fb_node *draft) {
  for (fb_node *c = table[draft->hash & table_mask]; c; c = c->hash_next)
    if (c->hash == draft->hash && c->parent == draft->parent && has_key(c, draft->words, draft->n_words))
      return c->flags & FB_CHECKED ? NULL : c;
  return NULL;
}

fb_node *fb_trie_publish(fb_node *node) {
  fb_node *state = node->parent, *known = node->flags & FB_CHECKED ? NULL : same_as(node);
  if (known) {
    fb_trie_drop(node);
    return known;
  }
  if (n_states >= table_mask && table_resize((table_mask + 1) * 2) < 0) {
    fb_trie_drop(node);
    return NULL;
  }
  node_place(node);
  node->all_next = all_nodes;
  all_nodes = node;
  node->sibling = state->children;
  state->children = node;
  state->recent = node;
  n_states++;
  return node;
}

int fb_trie_set_results(fb_node *node, uint32_t n) {
  node->n_results = n;
  if (!n)
    return 0;
  node->results = PyMem_Calloc(n, sizeof(fb_result));
  if (!node->results) {
    node->n_results = 0;
    PyErr_NoMemory();
    return -1;
  }
  return 0;
}

/* ---- numbers: static until several values were seen at the same state ------------------------------------- */

#define FB_DISTINCT_NUMBERS 3

bool fb_trie_is_wide(const fb_node *state, const fb_function *f) {
  for (fb_function **w = state->wide; w && *w; w++)
    if (*w == f)
      return true;
  return false;
}

/* Do two keys differ in nothing but the values of numbers? */
static bool same_but_numbers(const fb_node *node, const uint64_t *words, uint32_t n) {
  if (node->n_words != n)
    return false;
  for (uint32_t i = 0; i < n; i++) {
    if (node->words[i] != words[i])
      return false;
    if (i && fb_word_slot(words[i]) == FB_TAG_NUMBER)
      i++;
  }
  return true;
}

int fb_trie_note_number(fb_node *state, fb_function *f, const uint64_t *words, uint32_t n) {
  int seen = 1; /* the new value */
  for (fb_node *node = state->children; node && seen < FB_DISTINCT_NUMBERS; node = node->sibling)
    seen += node->function == f && same_but_numbers(node, words, n);
  if (seen < FB_DISTINCT_NUMBERS)
    return 0;
  uint32_t count = 0;
  while (state->wide && state->wide[count])
    count++;
  fb_function **wide = PyMem_Realloc(state->wide, (count + 2) * sizeof *wide);
  if (!wide) {
    PyErr_NoMemory();
    return -1;
  }
  wide[count] = f;
  wide[count + 1] = NULL;
  state->wide = wide;
  return 1;
}

/* ---- memory ---------------------------------------------------------------------------------------------- */

static void node_free(fb_node *node) {
  n_programs -= node->program != NULL;
  Py_XDECREF((PyObject *)node->function);
  Py_XDECREF(node->payload);
  Py_XDECREF(node->program);
  Py_XDECREF(node->file);
  PyMem_Free(node->results);
  PyMem_Free(node->wide);
  PyMem_Free(node->aux);
  fb_sized_free(node->sized);
  PyMem_Free(node);
}

void fb_trie_drop(fb_node *draft) {
  if (draft)
    node_free(draft);
}

void fb_trie_mark(fb_node *node) {
  for (; node && !node->marked; node = node->parent) {
    node->marked = true;
    if (node->imported)
      fb_trie_mark(node->imported);
  }
}

void fb_trie_sweep(void) {
  fb_node *dropped = NULL, **link = &all_nodes;
  n_sweeps++;
  while (*link) {
    fb_node *node = *link;
    if (node->marked) {
      node->recent = node->children = NULL;
      link = &node->all_next;
    } else {
      *link = node->all_next;
      node->all_next = dropped;
      dropped = node;
      n_states--;
    }
  }
  root->recent = root->children = NULL;
  root->marked = false;
  memset(table, 0, (table_mask + 1) * sizeof *table);
  for (fb_node *n = all_nodes; n; n = n->all_next) {
    n->marked = false;
    node_place(n);
    n->sibling = n->parent->children;
    n->parent->children = n;
  }
  collect_at = n_states * 2;
  while (dropped) { /* last, since releasing payloads may run Python code */
    fb_node *next = dropped->all_next;
    node_free(dropped);
    dropped = next;
  }
  collect_programs_at = n_programs * 2;
}

bool fb_trie_is_full(void) {
  return (n_states > fb_limits.max_states && n_states > collect_at) ||
         (n_programs > fb_limits.max_programs && n_programs > collect_programs_at);
}

void fb_trie_collect_soon(void) { collect_at = collect_programs_at = 0; }

fb_node *fb_trie_nodes(void) { return all_nodes; }

uint32_t fb_trie_states(void) { return n_states; }

uint64_t fb_trie_sweeps(void) { return n_sweeps; }

uint32_t fb_trie_programs(void) { return n_programs; }

void fb_trie_set_program(fb_node *state, PyObject *program) {
  n_programs += state->program == NULL;
  Py_XSETREF(state->program, program);
}

fb_node **fb_trie_path(fb_node *state) {
  fb_node **path = PyMem_Malloc((state->depth + 1) * sizeof *path);
  if (!path)
    return (fb_node **)PyErr_NoMemory();
  for (fb_node *n = state; n->depth; n = n->parent)
    path[n->depth - 1] = n;
  return path;
}
