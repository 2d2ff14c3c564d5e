/* Expansions that have been asked for. A rule knows types, views, statics and numbers, not slots: so the same call at
 * another place of the trie has the same expansion, and a trace that is long and new costs little more than its keys.
 * Where sizes are symbols, the types are those that slots have in the trace, and an answer is one under its guards. */
#include "call.h"

#define FB_MEMO 1024 /* as many are kept, in rows; a newer one takes the place of its row's oldest */
#define FB_ROW 4
static struct {
  fb_question question;
  PyObject *answer;
} memo[FB_MEMO];
static uint8_t oldest[FB_MEMO / FB_ROW]; /* per row */

static bool push(fb_question *q, uint64_t word) {
  if (q->n == FB_QUESTION_WORDS)
    return false;
  q->words[q->n++] = word;
  return true;
}

/* Of a base whose shape has symbols: with its slot's type, and not the one that it has this time. */
static bool push_symbolic(fb_question *q, const fb_type *base, const fb_type *type, bool is_leaf) {
  return push(q, base->id | (uint64_t)is_leaf << 32 | (uint64_t)type->requires_grad << 34) &&
         push(q, (uint64_t)1 << 63);
}

/* What fb_operand_info tells of a tensor. */
static bool push_tensor(const fb_call *call, fb_question *q, const fb_tensor *t, const fb_type *base) {
  bool elements = fb_enters_as_elements(call->rec, t, call->function->kind == FB_INPLACE);
  const fb_type *type = fb_tensor_get_type(t);
  bool is_leaf = t->leaf || fb_tensor_is_leaf(t);
  const fb_view *view = elements ? NULL : t->view;
  if (type && base && base->symbolic)
    return push_symbolic(q, base, type, is_leaf);
  return type && push(q, type->id | (uint64_t)is_leaf << 32 | (uint64_t)elements << 33) &&
         push(q, (view ? view->id : 0) | (uint64_t)t->cell->type->id << 32);
}

static bool read_question(const fb_call *call, const fb_fit *fit, fb_question *q) {
  uint32_t operand = 0;
  q->n = 0;
  if (!push(q, call->words[0]))
    return false;
  for (uint32_t i = 1; i < call->n; i++) {
    uint32_t tag = fb_word_slot(call->words[i]);
    if (tag < FB_TAG_FIRST) {
      const fb_type *base = fit ? fb_slot_type(call->rec->state, tag) : NULL;
      if (!push_tensor(call, q, call->operands[operand++], base))
        return false;
      continue;
    }
    if (!push(q, call->words[i]) || (tag == FB_TAG_NUMBER && !push(q, call->words[++i])))
      return false;
    operand += tag != FB_TAG_LIST;
  }
  return true;
}

static uint32_t row_of(const fb_question *q) {
  uint64_t h = q->n;
  for (uint32_t i = 0; i < q->n; i++)
    h = (h ^ q->words[i]) * 0x9E3779B97F4A7C15ull;
  return (uint32_t)(h >> 40) % (FB_MEMO / FB_ROW);
}

/* Whether what an answer depends on holds for the symbols of the trace: its guards, the fifth of its items. */
static bool is_for(PyObject *answer, const int64_t *symbols) {
  PyObject *guards = PyTuple_Check(answer) && PyTuple_GET_SIZE(answer) > 4 ? PyTuple_GET_ITEM(answer, 4) : NULL;
  bool holds = true;
  for (Py_ssize_t i = 0; holds && guards && i < PyTuple_GET_SIZE(guards); i++) {
    int relation;
    int64_t value;
    PyObject *rows;
    fb_size *size = PyArg_ParseTuple(PyTuple_GET_ITEM(guards, i), "iO!", &relation, &PyTuple_Type, &rows)
                        ? fb_size_read(rows)
                        : NULL;
    holds = size && fb_size_value(size, symbols, &value) && fb_holds(relation, value);
    PyMem_Free(size);
  }
  PyErr_Clear();
  return holds;
}

PyObject *fb_memo_find(const fb_call *call, const fb_fit *fit, fb_question *q) {
  if ((fit && (fit->by_pattern || fit->pattern.n_sizes)) || !read_question(call, fit, q)) {
    PyErr_Clear();
    q->n = 0;
    return NULL;
  }
  for (uint32_t i = row_of(q) * FB_ROW, end = i + FB_ROW; i < end; i++)
    if (memo[i].answer && memo[i].question.n == q->n &&
        !memcmp(memo[i].question.words, q->words, q->n * sizeof *q->words) &&
        is_for(memo[i].answer, call->rec->symbols))
      return Py_NewRef(memo[i].answer);
  return NULL;
}

void fb_memo_keep(const fb_question *q, PyObject *answer) {
  if (!q->n)
    return;
  uint32_t row = row_of(q), i = row * FB_ROW + oldest[row]++ % FB_ROW;
  PyObject *old = memo[i].answer;
  memo[i].question = *q;
  memo[i].answer = Py_NewRef(answer);
  Py_XDECREF(old);
}

void fb_memo_clear(void) {
  for (uint32_t i = 0; i < FB_MEMO; i++)
    Py_CLEAR(memo[i].answer);
}
