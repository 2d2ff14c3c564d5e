/* Steps of a plan side by side: their chunks are those of one parallel loop, whichever step they are of. */
#include "plan.h"

typedef struct {
  fb_kernel kernel;
  void *const *bufs;
  const int64_t *dims;
  int64_t n, grain, end; /* end: chunks of this step and of those before it */
} fb_wave_step;

typedef struct {
  fb_wave_step steps[FB_MAX_WAVE];
  char *scratch;
  size_t scratch_stride;
} fb_wave;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static void run_chunks(void *context, int64_t lo, int64_t hi, int worker) {
  const fb_wave *wave = (const fb_wave *)context;
  int64_t begin = 0;
  for (const fb_wave_step *s = wave->steps; lo < hi; begin = s->end, s++) {
    int64_t end = least(hi, s->end);
    if (lo >= end)
      continue;
    int64_t first = (lo - begin) * s->grain, last = end == s->end ? s->n : (end - begin) * s->grain;
    s->kernel(s->bufs, s->dims, first, last, wave->scratch + (size_t)worker * wave->scratch_stride);
    lo = end;
  }
}

void fb_run_wave(fb_execution *e, const fb_step *steps, int64_t count) {
  const fb_plan *plan = e->plan;
  fb_wave wave;
  wave.scratch = e->scratch;
  wave.scratch_stride = e->sizes->scratch;
  void **bufs = e->bufs;
  int64_t chunks = 0;
  for (int64_t k = 0; k < count; k++) {
    const fb_step *step = &steps[k];
    int64_t n = e->sizes->values[step->n], grain = e->sizes->values[step->grain];
    chunks += n > 0 ? (n - 1) / grain + 1 : 0;
    wave.steps[k] =
        (fb_wave_step){plan->spec.kernels[step->kernel], bufs, e->sizes->dims + step->first_dim, n, grain, chunks};
    for (int32_t i = 0; i < step->n_refs; i++)
      *bufs++ = fb_address(e, step->first_ref + i);
  }
  fb_parallel_for_within(chunks, 1, run_chunks, &wave, e->threads);
}
