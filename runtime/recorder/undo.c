/* What recording a trace changes at once, outside of the trace: kept until it has run, and taken back if it is dropped.
 */
#include "capture.h"

typedef enum { FB_UNDO_DRAW, FB_UNDO_WRITE, FB_UNDO_ENDED, FB_UNDO_CALL, FB_UNDO_DROP } fb_undo_kind;

struct fb_undo {
  fb_undo_kind kind;
  uint32_t slot;
  bool due; /* FB_UNDO_CALL: it is to be called */
  union {
    fb_stream *stream;
    fb_watch *watch;
    fb_segment *segment;
    PyObject *object; /* to call, or just to let go */
  };
  union {
    struct {
      int64_t before, after;
    };
    bool aside;
    struct {
      uint32_t *ended, n_ended;
    };
  };
};

static int note(fb_recorder *rec, fb_undo undo) {
  if (fb_grow((void **)&rec->undos, &rec->cap_undos, rec->n_undos + 1, sizeof undo) < 0)
    return -1;
  rec->undos[rec->n_undos++] = undo;
  return 0;
}

int fb_undo_draw(fb_recorder *rec, fb_stream *s, uint64_t draws, uint32_t slot) {
  fb_undo undo = {FB_UNDO_DRAW, slot, .stream = s, .before = s->offset};
  if (fb_stream_advance(s, draws) < 0)
    return -1;
  undo.after = s->offset;
  if (note(rec, undo) < 0) {
    s->offset = undo.before;
    return -1;
  }
  Py_INCREF(s);
  return 0;
}

int fb_undo_note_write(fb_recorder *rec, fb_watch *w, bool aside, uint32_t slot) {
  if (note(rec, (fb_undo){FB_UNDO_WRITE, slot, .watch = w, .aside = aside}) < 0)
    return -1;
  w->refs++;
  return 0;
}

int fb_undo_note_ended(fb_recorder *rec, fb_segment *s, uint32_t *ended, uint32_t n, uint32_t slot) {
  if (note(rec, (fb_undo){FB_UNDO_ENDED, slot, .segment = s, .ended = ended, .n_ended = n}) < 0)
    return -1;
  fb_segment_hold(s);
  s->pending++;
  return 0;
}

void fb_undo_note_gradient(fb_recorder *rec, fb_leaf *leaf) {
  if (note(rec, (fb_undo){FB_UNDO_DROP, 0, .object = leaf->grad}) == 0)
    leaf->grad = NULL;
  else
    PyErr_Clear(); /* it stays, and raises the error when it is read */
}

/* if_lost(tensor, call) */
PyObject *fb_py_if_lost(PyObject *module, PyObject *args) {
  PyObject *o, *call;
  (void)module;
  if (!PyArg_ParseTuple(args, "OO:if_lost", &o, &call))
    return NULL;
  fb_tensor *t = fb_as_tensor(o, "if_lost");
  if (!t)
    return NULL;
  if (fb_cell_owed(t->cell)) {
    if (note(t->cell->home, (fb_undo){FB_UNDO_CALL, t->cell->slot, .object = call}) < 0)
      return NULL;
    Py_INCREF(call);
  }
  Py_RETURN_NONE;
}

static void take_back(fb_undo *undo) {
  switch (undo->kind) {
  case FB_UNDO_DRAW:
    if (undo->stream->offset == undo->after) /* nobody else has moved it since */
      undo->stream->offset = undo->before;
    break;
  case FB_UNDO_WRITE:
    --*(undo->aside ? &undo->watch->aside : &undo->watch->writes);
    break;
  case FB_UNDO_ENDED:
    fb_segment_forget_ended(undo->segment, undo->ended, undo->n_ended);
    break;
  case FB_UNDO_CALL:
    undo->due = true;
    break;
  case FB_UNDO_DROP:
    break;
  }
}

void fb_undo_from(fb_recorder *rec, uint32_t failed) {
  for (uint32_t i = rec->n_undos; i-- > 0;)
    if (rec->undos[i].slot >= failed)
      take_back(&rec->undos[i]);
}

void fb_undo_ended(fb_recorder *rec) {
  for (uint32_t i = rec->n_undos; i-- > 0;)
    if (rec->undos[i].kind == FB_UNDO_ENDED)
      take_back(&rec->undos[i]);
}

static void let_go(fb_undo undo) {
  PyObject *answer;
  switch (undo.kind) {
  case FB_UNDO_DRAW:
    Py_DECREF(undo.stream);
    break;
  case FB_UNDO_WRITE:
    fb_watch_release(undo.watch);
    break;
  case FB_UNDO_ENDED:
    PyMem_Free(undo.ended);
    fb_segment_settle(undo.segment);
    fb_segment_release(undo.segment);
    break;
  case FB_UNDO_CALL:
    answer = undo.due ? PyObject_CallNoArgs(undo.object) : NULL;
    if (undo.due && !answer)
      PyErr_WriteUnraisable(undo.object);
    Py_XDECREF(answer);
    Py_DECREF(undo.object);
    break;
  case FB_UNDO_DROP:
    Py_DECREF(undo.object);
    break;
  }
}

void fb_undo_forget(fb_recorder *rec) {
  while (rec->n_undos)
    let_go(rec->undos[--rec->n_undos]);
}
