/* Where the user's code stands, and the log that explains misses and flushes. */
#include "trace.h"

PyObject *fb_explain_list; /* a dict from event to count */

static bool is_ours(PyFrameObject *frame) {
  PyObject *globals = PyFrame_GetGlobals(frame);
  PyObject *name = PyDict_GetItemString(globals, "__name__");
  bool ours = false;
  if (name && PyUnicode_Check(name)) {
    const char *text = PyUnicode_AsUTF8(name);
    ours = text && !strncmp(text, "flambeau", 8) && (!text[8] || text[8] == '.');
  }
  Py_DECREF(globals);
  return ours;
}

static int find_line(PyObject **file) {
  *file = NULL;
  PyFrameObject *frame = PyEval_GetFrame();
  Py_XINCREF(frame);
  while (frame && is_ours(frame)) {
    PyFrameObject *back = PyFrame_GetBack(frame);
    Py_DECREF(frame);
    frame = back;
  }
  if (!frame)
    return 0;
  PyCodeObject *code = PyFrame_GetCode(frame);
  int line = PyFrame_GetLineNumber(frame);
  *file = Py_NewRef(code->co_filename);
  Py_DECREF(code);
  Py_DECREF(frame);
  return line;
}

/* Lets no other thread in. */
int fb_user_line(PyObject **file) {
  int quiet = fb_quiet_begin(), line = find_line(file);
  fb_quiet_end(quiet);
  return line;
}

/* ---- the log --------------------------------------------------------------------------------------------- */

#define FB_LOG_LIMIT 10000

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
    return PyUnicode_FromFormat("static arguments: %R now, %R before", fb_static_values(a >> 32),
                                fb_static_values(b >> 32));
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
  Py_ssize_t position = 0, at = 0, half = PyDict_GET_SIZE(fb_explain_list) / 2;
  while (newer && PyDict_Next(fb_explain_list, &position, &key, &count)) {
    if (at++ >= half && PyDict_SetItem(newer, key, count) < 0)
      Py_CLEAR(newer);
  }
  if (!newer)
    return -1;
  Py_SETREF(fb_explain_list, newer);
  return 0;
}

/* Counts (kind, file, line, name, field); keeps FB_LOG_LIMIT different ones, the latest. */
static int count_event(PyObject *key) {
  if (!fb_explain_list && !(fb_explain_list = PyDict_New()))
    return -1;
  PyObject *old = PyDict_GetItemWithError(fb_explain_list, key);
  if (!old && PyErr_Occurred())
    return -1;
  if (!old && PyDict_GET_SIZE(fb_explain_list) >= FB_LOG_LIMIT && drop_older_half() < 0)
    return -1;
  PyObject *count = PyLong_FromLong((old ? PyLong_AsLong(old) : 0) + 1);
  int status = count ? PyDict_SetItem(fb_explain_list, key, count) : -1;
  Py_XDECREF(count);
  return status;
}

void fb_explain(const char *kind, const fb_node *node) {
  PyObject *file = node->file, *field, *name;
  int line = node->line;
  bool is_miss = !strcmp(kind, "miss");
  if (is_miss)
    Py_XINCREF(file);
  else
    line = fb_user_line(&file);
  field = is_miss ? difference(node) : PyUnicode_FromFormat("%u entries", node->depth);
  name = node->function ? Py_NewRef(node->function->name) : PyUnicode_FromString("");
  PyObject *key = field && name ? Py_BuildValue("(sOiOO)", kind, file ? file : Py_None, line, name, field) : NULL;
  if (!key || count_event(key) < 0)
    PyErr_Clear();
  Py_XDECREF(key);
  Py_XDECREF(field);
  Py_XDECREF(name);
  Py_XDECREF(file);
}
