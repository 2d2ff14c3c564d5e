/* The log that explains misses, programs and flushes: how often each happened, by the user's line. */
#include "trace.h"

static PyObject *events; /* a dict from event to count; NULL until there is one */

#define FB_LOG_LIMIT 10000

static PyObject *other_statics(PyObject *now, PyObject *before) {
  return now && before ? PyUnicode_FromFormat("static arguments: %R now, %R before", now, before) : NULL;
}

static PyObject *describe_word(const fb_node *node, const fb_node *other) {
  if (node->n_words != other->n_words)
    return PyUnicode_FromString("number of operands");
  uint64_t mask = (1u << 20) - 1;
  uint64_t a = node->words[0], b = other->words[0];
  if ((a & mask) != (b & mask))
    return PyUnicode_FromFormat("function: %U before", other->function ? other->function->name : node->function->name);
  if ((uint32_t)a != (uint32_t)b)
    return PyUnicode_FromFormat("mode: %u now, %u before", (uint32_t)a >> 20, (uint32_t)b >> 20);
  if (a != b)
    return other_statics(fb_static_values(a >> 32), fb_static_values(b >> 32));
  for (uint32_t i = 1; i < node->n_words; i++)
    if (node->words[i] != other->words[i])
      return PyUnicode_FromFormat("operand %u: another value, view or kind", i - 1);
  return PyUnicode_FromString("nothing");
}

/* A new call on a value that had another type the last time. */
static PyObject *other_input(const fb_node *node) {
  for (const fb_node *p = node->parent; p->depth && p->kind != FB_CALL; p = p->parent) {
    const fb_node *before = p->sibling; /* children are listed from the newest on */
    while (before && before->kind != FB_INPUT)
      before = before->sibling;
    if (p->kind != FB_INPUT || !before)
      continue;
    const fb_type *a = p->type, *b = before->type;
    return PyUnicode_FromFormat("input: shape %R, dtype %R%s now, %R, %R%s before", a->shape, a->dtype,
                                a->requires_grad ? ", requires grad" : "", b->shape, b->dtype,
                                b->requires_grad ? ", requires grad" : "");
  }
  return PyUnicode_FromString("first time here");
}

/* The sibling that agrees with the new node the longest, and the first field where it does not. */
static PyObject *difference(const fb_node *node) {
  const fb_node *nearest = NULL;
  uint32_t best = 0;
  if (node->sized && node->sized->key)
    return PyUnicode_FromString("sizes differ: from now on for all of them");
  for (const fb_node *s = node->parent->children; s; s = s->sibling) {
    if (s == node || s->kind != node->kind)
      continue;
    uint32_t same = (s->function == node->function) + 1;
    for (uint32_t i = 0; i < s->n_words && i < node->n_words; i++)
      same += s->words[i] == node->words[i];
    if (same > best) {
      best = same;
      nearest = s;
    }
  }
  return nearest ? describe_word(node, nearest) : other_input(node);
}

/* Drops the older half of the log: a long run goes on being explained, and dropping one by one would search a dict from
 * its emptied beginning each time. */
static int drop_older_half(void) {
  PyObject *newer = PyDict_New(), *key, *count;
  Py_ssize_t position = 0, at = 0, half = PyDict_GET_SIZE(events) / 2;
  while (newer && PyDict_Next(events, &position, &key, &count)) {
    if (at++ >= half && PyDict_SetItem(newer, key, count) < 0)
      Py_CLEAR(newer);
  }
  if (!newer)
    return -1;
  Py_SETREF(events, newer);
  return 0;
}

/* Counts (kind, file, line, name, field); keeps FB_LOG_LIMIT different ones, the latest. */
static int count_event(PyObject *key, long times) {
  if (!events && !(events = PyDict_New()))
    return -1;
  PyObject *old = PyDict_GetItemWithError(events, key);
  if (!old && PyErr_Occurred())
    return -1;
  if (!old && PyDict_GET_SIZE(events) >= FB_LOG_LIMIT && drop_older_half() < 0)
    return -1;
  PyObject *count = PyLong_FromLong((old ? PyLong_AsLong(old) : 0) + times);
  int status = count ? PyDict_SetItem(events, key, count) : -1;
  Py_XDECREF(count);
  return status;
}

/* A new reference, or NULL without an error. */
static PyObject *event(const char *kind, PyObject *file, int line, const fb_node *node) {
  PyObject *field = strcmp(kind, "miss") ? PyUnicode_FromFormat("%u entries", node->depth) : difference(node);
  PyObject *name = node->function ? Py_NewRef(node->function->name) : PyUnicode_FromString("");
  PyObject *key = field && name ? Py_BuildValue("(sOiOO)", kind, file ? file : Py_None, line, name, field) : NULL;
  if (!key)
    PyErr_Clear();
  Py_XDECREF(field);
  Py_XDECREF(name);
  return key;
}

void fb_explain(const char *kind, const fb_node *node) {
  PyObject *file = node->file;
  int line = node->line;
  if (!strcmp(kind, "miss"))
    Py_XINCREF(file);
  else
    line = fb_user_line(&file);
  PyObject *key = event(kind, file, line, node);
  if (key && count_event(key, 1) < 0)
    PyErr_Clear();
  Py_XDECREF(key);
  Py_XDECREF(file);
}

/* ---- flushes --------------------------------------------------------------------------------------------- */

/* A flush that a loop makes in each round is known by where in the code it is: its line and its text cost as much as a
 * small trace does. */
typedef struct {
  PyCodeObject *code;
  int at; /* the instruction */
  const fb_function *function;
  uint32_t depth;
  PyObject *key;
  long times; /* that the dict does not have yet */
} fb_known_flush;

#define FB_KNOWN_FLUSHES 64

static fb_known_flush known[FB_KNOWN_FLUSHES];

static void settle(fb_known_flush *f) {
  if (f->times && count_event(f->key, f->times) < 0)
    PyErr_Clear();
  f->times = 0;
}

static fb_known_flush *place_of(const PyCodeObject *code, int at, const fb_node *node) {
  uintptr_t hash = (uintptr_t)code >> 5 ^ (uintptr_t)(at * 31) ^ (uintptr_t)node->depth * 131;
  return &known[hash % FB_KNOWN_FLUSHES];
}

static void learn_flush(fb_known_flush *f, PyFrameObject *frame, PyCodeObject *code, int at, const fb_node *node) {
  PyObject *key = event("flush", code->co_filename, PyFrame_GetLineNumber(frame), node);
  if (!key)
    return;
  settle(f);
  Py_XSETREF(f->key, key);
  Py_XSETREF(f->code, (PyCodeObject *)Py_NewRef(code));
  f->at = at;
  f->function = node->function;
  f->depth = node->depth;
  f->times = 1;
  settle(f); /* its place in the log is when it was first met */
}

void fb_explain_flush(const fb_node *node) {
  PyFrameObject *frame = fb_user_frame();
  if (!frame) {
    fb_explain("flush", node);
    return;
  }
  PyCodeObject *code = PyFrame_GetCode(frame);
  int at = PyFrame_GetLasti(frame);
  fb_known_flush *f = place_of(code, at, node);
  if (f->code == code && f->at == at && f->function == node->function && f->depth == node->depth)
    f->times++;
  else
    learn_flush(f, frame, code, at, node);
  Py_DECREF(code);
  Py_DECREF(frame);
}

PyObject *fb_explain_events(void) {
  for (int i = 0; i < FB_KNOWN_FLUSHES; i++)
    settle(&known[i]);
  return events ? PyDict_Copy(events) : PyDict_New();
}
