/* Segments: flushed traces that the gradient history of live cells still needs. */
#include "recorder.h"

static fb_segment *segments;

fb_segment *fb_segments(void) { return segments; }
bool fb_history_freed(fb_recorder *rec, uint32_t slot) {
  (void)rec, (void)slot;
  return false;
}

fb_segment *fb_segment_freed(void) {
  static fb_segment freed = {.refs = 1, .freed = true};
  return &freed;
}

fb_segment *fb_segment_make(fb_recorder *rec, const fb_program *p, fb_buffer **residuals) {
  (void)rec, (void)p, (void)residuals;
  return NULL;
}

void fb_segment_release(fb_segment *s) { s->refs--; }
