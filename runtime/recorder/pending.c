/* Values that are not there yet: cutting the trace, waiting for a value, and what a cell gets in the end. */
#include "capture.h"

int fb_cut(fb_recorder *rec) {
  if (FB_UNLIKELY(fb_capture_holds(rec)))
    return 0;
  if (FB_LIKELY(!rec->held && !(rec->mode & FB_WHOLE_MODE)))
    return FB_UNLIKELY(fb_traces_queued()) ? fb_flush_own(rec) : fb_flush(rec);
  rec->flush_soon = true;
  return 0;
}

int fb_flush_cell(fb_cell *c) {
  int status = 0;
  c->refs++;
  while (status == 0 && fb_cell_owed(c))
    status = fb_flush(c->home);
  fb_cell_release(c);
  return status;
}

/* What was interrupted runs before anything else; what another thread runs is waited for. */
int fb_flush_own(fb_recorder *rec) {
  if (fb_capture_holds(rec))
    return 0;
  unsigned long me = PyThread_get_thread_ident();
  for (fb_recorder *r = fb_traces_queued() || rec->n_lent ? fb_recorders() : NULL; r; r = r->next)
    if (r->is_run && r->origin == rec && !(r->phase == FB_RUNNING && r->flusher == me) && fb_flush(r) < 0)
      return -1;
  return fb_flush(rec);
}

int fb_cell_raise(const fb_cell *c) {
  if (!c->error)
    PyErr_SetString(PyExc_RuntimeError, "[tensor] this tensor's value was never computed. Compute it again.");
  else
    PyErr_SetObject(PyTuple_GET_ITEM(c->error, 0), PyTuple_GET_ITEM(c->error, 1));
  return -1;
}

int fb_cell_settle(fb_recorder *rec, fb_cell *c) {
  while (fb_cell_owed(c) && (c->home != rec || c->shared) && !fb_is_around(rec, c->home)) {
    if (rec->held)
      return fb_wants_other(rec, c->home);
    if (fb_flush_cell(c) < 0)
      return -1;
  }
  return c->buffer || fb_cell_pending(c) ? 0 : fb_cell_raise(c);
}

void fb_cell_set_value(fb_cell *c, fb_buffer *value) {
  c->unset = false;
  if (c->shared && c->buffer) {
    memcpy(fb_buffer_data(c->buffer), fb_buffer_data(value), c->type->bytes);
    fb_buffer_release(value);
    return;
  }
  fb_buffer *old = c->buffer;
  c->buffer = value;
  fb_buffer_release(old);
}

void fb_cell_set_history(fb_cell *c, fb_segment *segment, uint32_t slot) {
  fb_segment *old = c->segment;
  c->segment = segment;
  c->segment_slot = slot;
  if (segment)
    fb_segment_hold(segment);
  if (old)
    fb_segment_release(old);
}
