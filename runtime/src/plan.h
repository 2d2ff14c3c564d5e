/* A plan as the runner wants it. Made by plan.c, sized by plan_sizes.c, run by plan_run.c. */
#ifndef FLAMBEAU_PLAN_H
#define FLAMBEAU_PLAN_H

#include "internal.h"

#define FB_MAX_DEVICES 16 /* of one plan */
#define FB_MAX_CURSORS 4096

/* What the expressions say for one run. Kept in the plan when it has no symbols. */
typedef struct {
  int64_t *values;       /* per expression */
  int64_t *offsets;      /* per ref, in bytes */
  int64_t *dims;         /* per entry of the spec's dims */
  size_t arena, scratch; /* scratch: the most that any step wants, a multiple of 64 */
  bool scratch_shared;   /* a step with scratch may run on several threads: each gets its own */
} fb_sizes;

/* What a plan's step k has made of an input: of which contents, those of the last run, and, if these were the same
 * twice, the result. Guarded by the lock of plan_kept.c. */
typedef struct fb_kept {
  const fb_buffer *operand;
  uint64_t stamp;
  fb_buffer *result;
  struct fb_kept *next, **link; /* among all that have a result */
} fb_kept;

struct fb_plan {
  fb_plan_spec spec; /* its arrays point into `block` */
  atomic_int_least64_t refs;
  atomic_size_t last_arena;
  uint32_t *slots;  /* per ref, where its base address is found: inputs, outputs, arena, constants, status, cursors */
  bool *input_kept; /* per input: it is an output as it is, so nothing may overwrite it */
  bool loops;       /* a step goes back */
  int32_t guard_exprs; /* the guards need the first so many expressions */
  int32_t n_cursors;
  fb_kept *kept;                        /* per KEPT */
  int32_t *kept_inputs;                 /* the input that it is made of */
  size_t bases;                         /* pointers of a run before those of the current step */
  size_t frame_pointers, frame_numbers; /* working memory of one run */
  fb_sizes sizes;                       /* valid when n_symbols is 0 */
  void *block;
};

static inline uint32_t fb_arena_slot(const fb_plan_spec *spec) { return (uint32_t)(spec->n_inputs + spec->n_outputs); }

static inline uint32_t fb_kept_slot(const fb_plan_spec *spec) {
  return fb_arena_slot(spec) + 3 + (uint32_t)spec->n_devices; /* arena, constants, status; the arenas of devices */
}

static inline size_t fb_base_count(const fb_plan_spec *spec) { return fb_kept_slot(spec) + (size_t)spec->n_kept; }

/* Whether a built-in step is one of control flow, which the CPU takes itself. */
static inline bool fb_is_control(int32_t kernel) { return kernel <= FB_KERNEL_BRANCH && kernel != FB_KERNEL_TRANSFER; }

/* How many steps the wave has that begins here; 0: none does. */
static inline int64_t fb_wave_length(const fb_plan_spec *spec, const fb_step *step) {
  return step->kernel == FB_KERNEL_WAVE ? spec->exprs[spec->dims[step->first_dim]].a : 0;
}

/* How often loops went back since somebody was last asked, when that was, and after how many turns it is done again. */
typedef struct {
  int64_t count, limit, asked_ns;
} fb_turns;

/* One run in progress. */
typedef struct {
  const fb_plan *plan;
  fb_run *run;
  const fb_sizes *sizes;
  void **bases; /* per slot */
  void **bufs;  /* of the current step */
  fb_buffer **kept;
  char *scratch;
  int threads;
  atomic_int_least64_t status;
  fb_status failure; /* of a step that could not write its note, or of a loop that was interrupted */
  fb_turns turns;
} fb_execution;

/* Where a ref lies in this run. */
static inline void *fb_address(const fb_execution *e, int32_t ref) {
  return (void *)((uintptr_t)e->bases[e->plan->slots[ref]] + (uintptr_t)e->sizes->offsets[ref]);
}

/* Runs steps that do not depend on one another on all threads at once; every one of them runs, whatever fails. */
void fb_run_wave(fb_execution *e, const fb_step *steps, int64_t count);

/* plan_kept.c: finds or reserves what KEPT number k is, but for a spare one that would not be kept; whether its step
 * has to make it. Then says that it has, and at the end of a run or of a plan, that this needs them no more. */
fb_status fb_kept_find(fb_execution *e, int32_t k, bool *is_missing, bool *is_wanted);
void fb_kept_store(fb_execution *e, int32_t k);
void fb_kept_release(fb_execution *e);
void fb_kept_end(fb_plan *p);

/* Writes the operands of a step, of these sizes, into the run's notes. */
fb_status fb_write_note(const fb_execution *e, const fb_step *step, const int64_t *sizes);

/* Which device a ref is of: 0 is the CPU. */
static inline int32_t fb_ref_device(const fb_plan_spec *spec, const fb_ref *ref) {
  if (spec->n_devices == 0)
    return 0;
  return ref->kind == FB_REF_INPUT    ? spec->input_devices[ref->index]
         : ref->kind == FB_REF_OUTPUT ? spec->output_devices[ref->index]
         : ref->kind == FB_REF_ARENA  ? ref->index
                                      : 0;
}

static inline int32_t fb_kernel_device(const fb_plan_spec *spec, int32_t kernel) {
  return spec->n_devices == 0 || kernel < 0 ? 0 : spec->kernel_devices[kernel];
}

/* What plan_devices.c does of a run with devices: memory for their arenas (one buffer each, released by the caller), an
 * output there that is not taken over from an input, and a step of theirs. */
fb_status fb_devices_reserve(const fb_execution *e, fb_buffer **arenas);
fb_status fb_devices_output(const fb_execution *e, int32_t output, fb_buffer **out);
bool fb_devices_have(const fb_plan_spec *spec, const fb_step *step);
fb_status fb_devices_step(const fb_execution *e, const fb_step *step);

/* Evaluates all expressions into `sizes`, whose arrays exist, and checks guards, then every size, offset and extent. */
fb_status fb_plan_measure(const fb_plan *plan, const int64_t *symbols, fb_sizes *sizes);

#endif
