/* Views, interned: chains of view functions become small numbers that keys are made of. Next: view.c, which makes them.
 */
#include "function.h"

static fb_view **views;
static uint32_t n_views, cap_views;
static uint32_t *view_table, view_mask; /* open addressing; id + 1, 0 is empty */

static uint32_t view_hash(const void *origin, const fb_function *f, uint32_t statics, bool detached, uint32_t n_own) {
  uint64_t h = (uint64_t)(uintptr_t)origin * 0x9E3779B97F4A7C15ull;
  h ^= ((uint64_t)f->id << 32 | statics) * 0xC2B2AE3D27D4EB4Full;
  h ^= (uint64_t)(n_own * 2 + detached) * 0xD6E8FEB86659FD93ull;
  return (uint32_t)(h >> 29);
}

static bool view_is(const fb_view *v, const void *origin, const fb_function *f, uint32_t statics, bool detached,
                    uint32_t n_own) {
  return v->origin == origin && v->function == f && v->statics == statics && v->detached == detached &&
         v->n_own == n_own;
}

fb_view *fb_view_find(const void *origin, fb_function *f, uint32_t statics, bool detached, uint32_t n_own) {
  const fb_view *recent = f->recent_view;
  if (FB_LIKELY(recent && view_is(recent, origin, f, statics, detached, n_own)))
    return (fb_view *)recent;
  if (!view_table)
    return NULL;
  for (uint32_t i = view_hash(origin, f, statics, detached, n_own) & view_mask; view_table[i];
       i = (i + 1) & view_mask) {
    fb_view *v = views[view_table[i] - 1];
    if (view_is(v, origin, f, statics, detached, n_own)) {
      f->recent_view = v;
      return v;
    }
  }
  return NULL;
}

static void view_place(const fb_view *v) {
  uint32_t i = view_hash(v->origin, v->function, v->statics, v->detached, v->n_own) & view_mask;
  while (view_table[i])
    i = (i + 1) & view_mask;
  view_table[i] = v->id + 1;
}

static int view_table_reserve(void) {
  if (view_table && (n_views + 1) * 2 <= view_mask)
    return 0;
  uint32_t size = view_table ? (view_mask + 1) * 2 : 256;
  uint32_t *table = PyMem_Calloc(size, sizeof *table);
  if (!table) {
    PyErr_NoMemory();
    return -1;
  }
  PyMem_Free(view_table);
  view_table = table;
  view_mask = size - 1;
  for (uint32_t i = 1; i < n_views; i++)
    if (views[i]->origin)
      view_place(views[i]);
  return 0;
}

/* The sizes among its own statics after its parent's, and what is left of the chain without them. */
static int view_split(fb_view *v) {
  const int64_t *own;
  uint32_t n, inherited = v->parent ? v->parent->n_sizes : 0;
  int64_t statics = fb_static_sizes(v->function, v->statics, &own, &n);
  if (statics < 0 || !(v->sizes = PyMem_Malloc((inherited + n + 1) * sizeof *v->sizes)))
    return PyErr_Occurred() ? -1 : (PyErr_NoMemory(), -1);
  if (inherited)
    memcpy(v->sizes, v->parent->sizes, inherited * sizeof *v->sizes);
  if (n)
    memcpy(v->sizes + inherited, own, n * sizeof *v->sizes);
  v->n_sizes = inherited + n;
  uint64_t words[5] = {v->parent ? v->parent->skeleton : 0, v->function->id, (uint64_t)statics, v->detached, v->n_own};
  v->skeleton = fb_skeleton_intern(words, 5);
  return v->skeleton ? 0 : -1;
}

fb_view *fb_view_like(const fb_view *like, PyObject *payload) {
  if (fb_grow((void **)&views, &cap_views, n_views + 1, sizeof *views) < 0)
    return NULL;
  fb_view *v = PyMem_Calloc(1, sizeof *v);
  if (!v)
    return (fb_view *)PyErr_NoMemory();
  *v = *like;
  v->limits = NULL;
  v->sizes = NULL;
  v->n_sizes = 0;
  v->origin = NULL;
  v->id = n_views;
  v->function = (fb_function *)Py_NewRef(like->function);
  v->payload = Py_NewRef(payload);
  views[n_views++] = v;
  return v;
}

static void view_free(fb_view *v) {
  PyMem_Free(v->sizes);
  PyMem_Free(v->limits);
  PyMem_Free(v);
}

/* View 0 stands for "the base itself" in keys, so ids start at 1. */
fb_view *fb_view_add(const fb_view *given) {
  fb_view *v = PyMem_Malloc(sizeof(fb_view));
  if (!v) {
    PyMem_Free(given->limits);
    return (fb_view *)PyErr_NoMemory();
  }
  *v = *given;
  v->identity = v->function->detach && (!v->parent || v->parent->identity);
  v->aside = v->function->aside || (v->parent && v->parent->aside);
  v->n_starts = v->n_own + (v->parent ? v->parent->n_starts : 0);
  int status = view_split(v); /* runs Python code: other threads may be let in */
  fb_view *known = status == 0 ? fb_view_find(v->origin, v->function, v->statics, v->detached, v->n_own) : NULL;
  if (!n_views)
    n_views = 1;
  if (status < 0 || known || view_table_reserve() < 0 ||
      fb_grow((void **)&views, &cap_views, n_views + 1, sizeof *views) < 0) {
    view_free(v);
    return known;
  }
  v->id = n_views;
  Py_INCREF((PyObject *)v->function);
  Py_INCREF(v->payload);
  views[n_views++] = v;
  view_place(v);
  v->function->recent_view = v;
  return v;
}

void fb_views_mark(void) {
  for (uint32_t i = 1; i < n_views; i++) {
    const fb_view *v = views[i];
    if (!v->parent)
      fb_type_mark(v->origin); /* NULL: one of fb_view_like */
    fb_type_mark(v->types[0]);
    fb_type_mark(v->types[1]);
    fb_static_mark(v->statics);
  }
}

fb_view *fb_view_by_id(uint32_t id) { return views[id]; }
uint32_t fb_view_count(void) { return n_views ? n_views - 1 : 0; }
