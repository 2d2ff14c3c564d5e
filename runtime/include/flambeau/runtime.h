/* Flambeau runtime: buffers, thread pool and plan runner. Plain C11, no Python.
 *
 * Every call that can fail returns an fb_status; fb_last_error() then holds a message for this thread.
 * Nothing here aborts, prints or allocates on the hot path except through fb_buffer_alloc's pool.
 */
#ifndef FLAMBEAU_RUNTIME_H
#define FLAMBEAU_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define FB_API __attribute__((visibility("default")))
#else
#define FB_API
#endif

#define FB_ABI_VERSION 1

typedef enum {
  FB_OK = 0,
  FB_OUT_OF_MEMORY = 1,    /* the pool's limit or the system's memory: message names the sizes */
  FB_INVALID_ARGUMENT = 2, /* a malformed plan or a wrong call */
  FB_KERNEL_FAILED = 3,    /* a fallible kernel reported an error: see fb_run.failure */
  FB_NO_DEVICE = 4,        /* no driver, or no such device */
  FB_DEVICE_FAILED = 5,    /* a device refused code, a launch or a copy */
  FB_OTHER_SIZES = 6,      /* the plan is not for these sizes: a guard does not hold, or an expression makes no sense */
  FB_INTERRUPTED = 7,      /* whoever was asked during a loop wants the run to end: see fb_set_interrupt_check */
} fb_status;

/* Message of the last failing call on this thread; never NULL. */
FB_API const char *fb_last_error(void);

/* ---- buffers ------------------------------------------------------------------------------------------- */

/* A reference-counted block. Pool memory is 64-byte aligned, for speed: nothing relies on more alignment than the
 * elements need, and nobody touches a byte outside of a block's `bytes`. */
typedef struct fb_buffer fb_buffer;
typedef void (*fb_release_fn)(void *owner);

FB_API fb_status fb_buffer_alloc(size_t bytes, fb_buffer **out);
/* Wrap memory owned elsewhere; release(owner) runs when the last reference goes. Never reused by the pool. */
FB_API fb_status fb_buffer_wrap(void *data, size_t bytes, fb_release_fn release, void *owner, fb_buffer **out);
FB_API void fb_buffer_retain(fb_buffer *b);
FB_API void fb_buffer_release(fb_buffer *b); /* NULL is allowed */
FB_API void *fb_buffer_data(const fb_buffer *b);
FB_API size_t fb_buffer_bytes(const fb_buffer *b);
FB_API int64_t fb_buffer_refs(const fb_buffer *b);
FB_API bool fb_buffer_is_pooled(const fb_buffer *b); /* the CPU's pool or a device's: nobody outside looks at it */
FB_API void *fb_buffer_owner(const fb_buffer *b, fb_release_fn release); /* if it was wrapped with `release`; or NULL */

/* A device other than the CPU; src/device.h says what it does. */
typedef struct fb_device fb_device;
/* NULL: the CPU. Data of a buffer on another device is an address there. */
FB_API fb_device *fb_buffer_device(const fb_buffer *b);
/* What was made of the buffer's contents means nothing any more. `may_go_on`: somebody outside may write there at any
 * time, until this is said once more without. */
FB_API void fb_buffer_written(fb_buffer *b, bool may_go_on);
/* The address is told to somebody who may write there unseen, for as long as the buffer lives. */
FB_API void fb_buffer_told(fb_buffer *b);

typedef struct {
  size_t live_bytes, peak_bytes, reserved_bytes, limit_bytes; /* limit 0: none. reserved = live + cached */
  size_t live_buffers, allocations, cache_hits;
} fb_memory_stats;

FB_API void fb_memory_get_stats(fb_memory_stats *out);
FB_API void fb_memory_reset_peak(void);
FB_API void fb_memory_set_limit(size_t bytes);
FB_API void
fb_memory_refuse(size_t nth);       /* for tests: the nth allocation from now on fails (1: the next one); 0: none */
FB_API size_t fb_memory_trim(void); /* give cached blocks, and what plans keep, back to the system; returns bytes */

/* For tests: from now on each block lies alone between two pages that end the process when they are touched. Its last
 * byte (FB_GUARD_END: its data is then aligned no better than its size is) or its first one is next to such a page. */
typedef enum { FB_GUARD_OFF, FB_GUARD_END, FB_GUARD_START } fb_guard_mode;
FB_API void fb_memory_set_guard(fb_guard_mode mode);

/* ---- threads ------------------------------------------------------------------------------------------- */

/* A kernel's body: process items [lo, hi) of its parallel domain. `scratch` is private to the calling thread. It reads
 * and writes nothing but the elements of its operands, which are aligned to their own size only, and its scratch: no
 * vector reaches past the end of either, and of an empty operand not even the first element is touched. */
typedef void (*fb_kernel)(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi, void *scratch);
typedef void (*fb_task)(void *context, int64_t lo, int64_t hi, int worker);

FB_API fb_status fb_set_num_threads(int n); /* 1..256; not while a parallel loop runs */
FB_API int fb_get_num_threads(void);
/* Cut [0, n) into chunks of `grain` (the cut never depends on the thread count) and run them; returns when all are
 * done. One call of the task may get several adjacent chunks: `lo` is a multiple of the grain, and so is `hi` unless it
 * is n. The caller is worker 0. A loop inside a loop, or beside another thread's loop, runs on its caller alone. */
FB_API void fb_parallel_for(int64_t n, int64_t grain, fb_task task, void *context);
FB_API void fb_set_spin_time(int64_t nanoseconds); /* how long idle threads watch for work before they sleep */
FB_API void fb_threads_shutdown(void);             /* join the workers; they come back on the next parallel loop */

/* ---- plans --------------------------------------------------------------------------------------------- */

/* Sizes are expressions over symbols (extents known only at run time), evaluated once per run, or once ever when
 * the plan has no symbols. Operands a, b name earlier expressions; CONST and SYMBOL use `a` itself. */
typedef enum {
  FB_X_CONST,
  FB_X_SYMBOL,
  FB_X_ADD,
  FB_X_SUB,
  FB_X_MUL,
  FB_X_FLOORDIV,
  FB_X_CEILDIV,
  FB_X_MIN,
  FB_X_MAX
} fb_expr_op;
typedef struct {
  int32_t op;
  int64_t a, b;
} fb_expr;

/* Where a kernel's pointer comes from, plus a byte offset. An arena's index is its device's: 0 for the CPU's. STATUS is
 * the int64 word that fallible kernels lower with an atomic minimum to (error_code << 48 | position); it starts at
 * INT64_MAX, which means no error. A CURSOR is an address that the plan's own steps move on: where a loop is in what it
 * goes through. KEPT is what the plan's first steps make of an input: it may be there from an earlier run. */
typedef enum {
  FB_REF_INPUT,
  FB_REF_OUTPUT,
  FB_REF_ARENA,
  FB_REF_CONST,
  FB_REF_STATUS,
  FB_REF_CURSOR,
  FB_REF_KEPT
} fb_ref_kind;
typedef struct {
  int32_t kind, index;
  int32_t offset; /* expression */
} fb_ref;

/* Kernels with a negative index are built in: bufs = {dst, src}, dims = {bytes} / bufs = {dst}, dims = {bytes}. The
 * other two say which step comes next: a branch skips as many as its dim says where its buf, a bool, is false; a jump
 * always does, and may go back. Neither leads out of the fallible steps or out of the others. */
#define FB_KERNEL_COPY (-1)
#define FB_KERNEL_ZERO (-2)
#define FB_KERNEL_BRANCH (-3)
#define FB_KERNEL_JUMP (-4)
/* Writes its bufs, of as many bytes as its dims say, into the run's notes: a call of the host. One of the fallible
 * steps. */
#define FB_KERNEL_NOTE (-5)
#define FB_KERNEL_TRANSFER (-6) /* as a copy, of which one end is on another device than the other */
/* Loops of a given length: bufs = {int64}, dims = {its value}; then, as a branch, bufs = {int64}, dims = {steps to skip
 * where it is 0}, and else it is one less; and bufs = {cursor, place}, no dims: the cursor is at that place now. */
#define FB_KERNEL_SET (-7)
#define FB_KERNEL_COUNT (-8)
#define FB_KERNEL_MOVE (-9)
/* The next so many steps, as its one dim says, read and write nothing that another one of them writes, so threads may
 * run them side by side. They are kernels of the CPU; the count is constant. */
#define FB_KERNEL_WAVE (-10)
#define FB_MAX_WAVE 32

typedef struct {
  int32_t kernel;
  int32_t n, grain, scratch;                    /* expressions: domain, items per chunk, scratch bytes per thread */
  int32_t first_ref, n_refs, first_dim, n_dims; /* ranges of fb_plan_spec.refs and .dims */
} fb_step; /* of a kernel on a device: domain, grain and scratch are not used, and the first dims are FB_GRID_DIMS more
            */

#define FB_GRID_DIMS 6 /* blocks, then threads per block, along x, y and z */

typedef struct {
  fb_device *device;
  int32_t arena_bytes; /* expression */
} fb_plan_device;

/* A condition on the symbols, `x relation 0`: the plan serves only sizes for which all of its guards hold. Guards are
 * checked before anything else, in order; an expression of a guard that has no value makes the guard fail. */
typedef enum { FB_IS_ZERO, FB_IS_NOT_ZERO, FB_IS_NEGATIVE, FB_IS_NOT_NEGATIVE } fb_relation;
typedef struct {
  int32_t relation, x; /* expression */
} fb_guard;
FB_API bool fb_holds(int32_t relation, int64_t value);
/* Evaluates expressions from `first` on, up to the first one that has no value, or `end`; returns where it stopped. */
FB_API int32_t fb_evaluate(const fb_expr *exprs, int32_t first, int32_t end, const int64_t *symbols, int64_t *values);
FB_API int64_t fb_now_ns(void); /* of a clock that only goes forward */

typedef enum {
  FB_OUT_NEW,     /* a fresh buffer, fully written by the steps */
  FB_OUT_UPDATE,  /* starts as the value of input `source`: its buffer when donated, else a copy; read and written in
                     place */
  FB_OUT_REPLACE, /* fully written; may take the donated buffer of input `source`, which steps no longer read by then */
  FB_OUT_INPUT,   /* is input `source` itself */
  FB_OUT_OUTPUT,  /* is output `source` itself */
} fb_out_mode;
typedef struct {
  int32_t mode, source, bytes; /* expression */
} fb_output;

typedef struct {
  int32_t n_symbols, n_inputs, n_outputs, n_exprs, n_steps, n_fallible, n_refs, n_dims, n_kernels;
  const int32_t *input_bytes; /* expressions: the least size of each input */
  const fb_output *outputs;
  const fb_expr *exprs;
  const fb_step *steps; /* the first n_fallible may fail and write no UPDATE or REPLACE output */
  const fb_ref *refs;
  const int32_t *dims; /* expressions */
  const fb_kernel *kernels;
  int32_t arena_bytes; /* expression */
  const void *constants;
  size_t constant_bytes;
  const fb_guard *guards; /* only where the plan has symbols */
  int32_t n_guards;
  int32_t n_devices; /* other than the CPU. Where there are none, the rest is NULL */
  const fb_plan_device *devices;
  const int32_t *input_devices, *output_devices, *kernel_devices; /* 0: the CPU; k: devices[k - 1]. Kernels there are
                                                                   * what the device launches, not addresses */
  int32_t n_kept;                                                 /* only where there are no devices */
  const int32_t *kept; /* expressions: the bytes of KEPT number k, which step k makes of one input and of nothing else.
                        * While that is the same, unwritten, in one run after the other, it is made once */
  int32_t n_spare; /* the last so many of these are made only where they are kept; until then their address is NULL */
} fb_plan_spec;

typedef struct fb_plan fb_plan;

/* Checks and copies the spec (kernel code must outlive the plan). */
FB_API fb_status fb_plan_create(const fb_plan_spec *spec, fb_plan **out);
FB_API void fb_plan_retain(fb_plan *p);
FB_API void fb_plan_release(fb_plan *p);

typedef struct {
  const void *data;  /* where the value lies: a buffer's data or, for host scalars, any 8 aligned bytes */
  fb_buffer *buffer; /* its buffer, NULL for host scalars. A plan without devices does not look where it lies */
  bool donated;      /* the caller gives this reference away if the run succeeds and an output takes it; nobody else may
                      * then read the buffer again. Wrapped memory is never taken. */
  bool taken;        /* set by the run: an output took the buffer; its reference now belongs to that output */
} fb_input;

/* What steps have written down for the host, in order: per note the number of operands, then for each its size in bytes
 * and its bytes. Numbers are int64, unaligned. */
typedef struct {
  char *data;
  size_t bytes, capacity;
} fb_notes;
FB_API void fb_notes_free(fb_notes *notes); /* and empty again */

typedef struct {
  fb_input *inputs;
  fb_buffer **outputs;    /* filled with new references on success; all NULL after a failure */
  const int64_t *symbols; /* NULL when the plan has none */
  int64_t failure;        /* the status word after FB_KERNEL_FAILED */
  fb_notes *notes;        /* NULL: a plan with notes is refused. What is there after a failure means nothing */
  int64_t *nanoseconds;   /* NULL, or one per step, to which the time that it took is added */
} fb_run;

/* All or nothing: memory is reserved first, then the fallible steps run, then the commit steps, which cannot fail.
 * FB_OTHER_SIZES comes before all of this: then nothing has happened. */
FB_API fb_status fb_plan_run(fb_plan *p, fb_run *run);
/* While a plan loops, `check` is asked from time to time, some ten times a second, whether to end the run, which then
 * has done nothing. NULL, the default: nobody is asked. Steps after the fallible ones are never interrupted. */
typedef bool (*fb_interrupt_fn)(void);
FB_API void fb_set_interrupt_check(fb_interrupt_fn check);
FB_API int32_t fb_plan_inputs(const fb_plan *p);
FB_API int32_t fb_plan_outputs(const fb_plan *p);
FB_API int32_t fb_plan_symbols(const fb_plan *p);
FB_API int32_t fb_plan_steps(const fb_plan *p);
FB_API int32_t fb_plan_devices(const fb_plan *p); /* how many other than the CPU */
/* Whether the plan's guards hold for these values of its symbols. */
FB_API bool fb_plan_fits(const fb_plan *p, const int64_t *symbols);
FB_API bool fb_plan_loops(const fb_plan *p);         /* whether a step goes back: nobody knows how long a run takes */
FB_API size_t fb_plan_arena_bytes(const fb_plan *p); /* of the last run; 0 before the first */

#ifdef __cplusplus
}
#endif
#endif
