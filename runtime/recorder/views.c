/* Views, interned: chains of view functions become small numbers that keys are made of. Next: view.c, which makes them.
 */
#include "function.h"

static fb_view **views; /* by id: parents come before what was made from them */
static uint32_t n_views, cap_views, collect_at;
static uint32_t next_id = 1; /* 0 stands for "the base itself" in keys */
static fb_view **view_table; /* open addressing */
static uint32_t view_mask;

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
    fb_view *v = view_table[i];
    if (view_is(v, origin, f, statics, detached, n_own)) {
      f->recent_view = v;
      return v;
    }
  }
  return NULL;
}

/* Those of fb_view_like have no origin, and are found by nobody. */
static void view_place(fb_view *v) {
  if (!v->origin)
    return;
  uint32_t i = view_hash(v->origin, v->function, v->statics, v->detached, v->n_own) & view_mask;
  while (view_table[i])
    i = (i + 1) & view_mask;
  view_table[i] = v;
}

static int view_table_reserve(void) {
  if (view_table && (n_views + 1) * 2 <= view_mask)
    return 0;
  uint32_t size = view_table ? (view_mask + 1) * 2 : 256;
  fb_view **table = PyMem_Calloc(size, sizeof *table);
  if (!table) {
    PyErr_NoMemory();
    return -1;
  }
  PyMem_Free(view_table);
  view_table = table;
  view_mask = size - 1;
  for (uint32_t i = 0; i < n_views; i++)
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
  v->limits = v->sizes = v->layout = NULL;
  v->n_sizes = v->handles = 0;
  v->measured = true;
  v->marked = v->doomed = false;
  v->origin = NULL;
  v->id = next_id++;
  v->function = (fb_function *)Py_NewRef(like->function);
  v->payload = Py_NewRef(payload);
  views[n_views++] = v;
  return v;
}

static void view_free(fb_view *v) {
  PyMem_Free(v->sizes);
  PyMem_Free(v->limits);
  PyMem_Free(v->layout);
  PyMem_Free(v);
}

fb_view *fb_view_add(const fb_view *given) {
  fb_view *v = PyMem_Malloc(sizeof(fb_view));
  if (!v) {
    PyMem_Free(given->limits);
    return (fb_view *)PyErr_NoMemory();
  }
  *v = *given;
  v->identity = v->function->detach && (!v->parent || v->parent->identity);
  bool cut_before = v->parent && v->parent->detached;
  v->unrecorded = v->detached && !v->function->detach && (cut_before ? v->parent->unrecorded : true);
  v->aside = v->function->aside || (v->parent && v->parent->aside);
  v->n_starts = v->n_own + (v->parent ? v->parent->n_starts : 0);
  int status = view_split(v); /* runs Python code: other threads may be let in */
  fb_view *known = status == 0 ? fb_view_find(v->origin, v->function, v->statics, v->detached, v->n_own) : NULL;
  if (status < 0 || known || view_table_reserve() < 0 ||
      fb_grow((void **)&views, &cap_views, n_views + 1, sizeof *views) < 0) {
    view_free(v);
    return known;
  }
  v->id = next_id++;
  Py_INCREF((PyObject *)v->function);
  Py_INCREF(v->payload);
  views[n_views++] = v;
  view_place(v);
  v->function->recent_view = v;
  return v;
}

static fb_view *view_find(uint32_t id) {
  uint32_t low = 0, high = n_views;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (views[middle]->id < id)
      low = middle + 1;
    else
      high = middle;
  }
  return low < n_views && views[low]->id == id ? views[low] : NULL;
}

fb_view *fb_view_by_id(uint32_t id) {
  fb_view *found = view_find(id);
  if (!found)
    PyErr_Format(PyExc_RuntimeError, "[recorder] view %u has been forgotten. Report this as a bug.", id);
  return found;
}

bool fb_view_is_there(uint32_t id) { return view_find(id) != NULL; }
uint32_t fb_view_count(void) { return n_views; }

/* ---- memory ------------------------------------------------------------------------------------------------ */

void fb_views_collect_soon(void) { collect_at = 0; }

bool fb_views_are_full(uint32_t most) { return n_views > most && n_views > collect_at; }

void fb_view_mark(uint32_t id) {
  fb_view *found = view_find(id);
  if (found)
    found->marked = true;
}

bool fb_view_is_dead(const fb_view *v) { return !v->marked && v->doomed; }

/* A view that stays keeps the chain that it ends; what is doomed keeps it without being counted as what lives. */
void fb_views_mark(void) {
  for (uint32_t i = n_views; i-- > 0;) {
    fb_view *v = views[i], *parent = (fb_view *)v->parent;
    v->marked |= v->handles > 0;
    if (fb_view_is_dead(v))
      continue;
    fb_type_hold(v->types[0], v->marked);
    fb_type_hold(v->types[1], v->marked);
    if (!parent)
      fb_type_hold(v->origin, v->marked);
    fb_static_hold(v->statics, v->marked);
    if (parent) {
      parent->marked |= v->marked;
      parent->doomed = false;
    }
  }
}

void fb_views_sweep(void) {
  fb_view *dead = NULL;
  uint32_t kept = 0, live = 0;
  fb_selections_sweep();
  fb_recalled_sweep();
  if (view_table)
    memset(view_table, 0, ((size_t)view_mask + 1) * sizeof *view_table);
  for (uint32_t i = 0; i < n_views; i++) {
    fb_view *v = views[i];
    if (fb_view_is_dead(v)) {
      if (v->function->recent_view == v)
        v->function->recent_view = NULL;
      v->parent = dead; /* nobody asks it for its own any more */
      dead = v;
      continue;
    }
    live += v->marked;
    v->doomed = !v->marked;
    v->marked = false;
    views[kept++] = v;
    view_place(v);
  }
  n_views = kept;
  collect_at = n_views + live; /* as of types */
  while (dead) {
    fb_view *next = (fb_view *)dead->parent;
    fb_function *function = dead->function;
    PyObject *payload = dead->payload;
    view_free(dead);
    dead = next;
    Py_DECREF(payload);
    Py_DECREF((PyObject *)function);
  }
}
