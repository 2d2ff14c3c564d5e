/* What steps write down for the host: calls that it makes once the run has succeeded. */
#include <stdlib.h>
#include <string.h>

#include "plan.h"

void fb_notes_free(fb_notes *notes) {
  free(notes->data);
  *notes = (fb_notes){0};
}

static char *append(char *to, const void *data, size_t bytes) {
  if (bytes > 0)
    memcpy(to, data, bytes);
  return to + bytes;
}

static fb_status reserve_note(fb_notes *notes, const fb_step *step, const int64_t *sizes) {
  size_t more = sizeof(int64_t);
  for (int32_t i = 0; i < step->n_refs; i++)
    more += sizeof(int64_t) + (size_t)sizes[i];
  if (notes->bytes + more <= notes->capacity)
    return FB_OK;
  size_t capacity = 2 * notes->capacity + more;
  char *grown = (char *)realloc(notes->data, capacity);
  if (grown == NULL)
    return fb_fail(FB_OUT_OF_MEMORY, "[callback] there is no memory for %zu bytes of values to call with. Pass less.",
                   more);
  notes->data = grown;
  notes->capacity = capacity;
  return FB_OK;
}

fb_status fb_write_note(const fb_execution *e, const fb_step *step, const int64_t *sizes) {
  fb_notes *notes = e->run->notes;
  if (notes == NULL)
    return fb_fail(FB_INVALID_ARGUMENT,
                   "[plan] the plan calls the host, and nobody takes its notes. Pass a list for them.");
  fb_status status = reserve_note(notes, step, sizes);
  if (status != FB_OK)
    return status;
  int64_t n = step->n_refs;
  char *to = append(notes->data + notes->bytes, &n, sizeof n);
  for (int32_t i = 0; i < step->n_refs; i++) {
    to = append(to, &sizes[i], sizeof sizes[i]);
    to = append(to, e->bufs[i], (size_t)sizes[i]);
  }
  notes->bytes = (size_t)(to - notes->data);
  return FB_OK;
}
