/* Recorders: one per thread, never freed, taken over by a new thread when theirs has ended. */
#include "trace.h"

__thread fb_recorder *fb_current __attribute__((tls_model("initial-exec")));
fb_limits_t fb_limits = {.max_ops = 10000,
                         .soft_ops = 1000,
                         .max_states = 1u << 20,
                         .max_programs = 1024,
                         .max_types = 1u << 14,
                         .soft_backwards = 3,
                         .max_bytes = (size_t)2 << 30,
                         .max_ns = 10000000000u,
                         .soft_ns = 50000000u};
fb_counters fb_stats;
bool fb_shadow;
fb_hooks_t fb_hooks;

static fb_recorder *recorders;
static uint64_t last_trace_id;

uint64_t fb_next_trace_id(void) { return ++last_trace_id; }
fb_recorder *fb_recorders(void) { return recorders; }

PyObject *fb_hook(PyObject *hook, const char *name) {
  if (!hook)
    PyErr_Format(PyExc_RuntimeError, "[recorder] hook '%s' is not set. Import flambeau first.", name);
  return hook;
}

static void thread_ended(PyObject *capsule) {
  fb_recorder *rec = PyCapsule_GetPointer(capsule, NULL);
  if (!rec)
    return;
  rec->orphan = true;
  if (fb_current == rec) /* another thread may take it now, while this one still has objects to drop */
    fb_current = NULL;
}

/* Tell us when the thread ends, through an object in its state's dict. */
static int watch_thread(fb_recorder *rec) {
  PyObject *dict = PyThreadState_GetDict();
  PyObject *capsule = dict ? PyCapsule_New(rec, NULL, thread_ended) : NULL;
  int status = capsule ? PyDict_SetItemString(dict, "flambeau.runtime._recorder", capsule) : -1;
  Py_XDECREF(capsule);
  return status;
}

/* Finish what an ended thread left behind. True when the recorder is free. Others may be let in: it is ours already. */
static bool settle_orphan(fb_recorder *rec) {
  PyObject *type, *value, *traceback;
  rec->orphan = false;
  PyErr_Fetch(&type, &value, &traceback);
  if (!fb_must_not_wait() && fb_flush(rec) < 0) {
    fb_forget_error(); /* whoever reads the values gets the error */
  }
  PyErr_Restore(type, value, traceback);
  rec->orphan = rec->n_slots > 0;
  return !rec->orphan;
}

static fb_recorder *recorder_new(void) {
  fb_recorder *rec = PyMem_Calloc(1, sizeof *rec);
  if (!rec || fb_recorder_reserve(rec, 256) < 0)
    Py_FatalError("flambeau: out of memory while starting a thread");
  rec->id = fb_next_trace_id();
  rec->state = fb_trie_root();
  rec->next = recorders;
  recorders = rec;
  return rec;
}

/* For a new thread, or for Python code that runs while this thread holds its own. */
fb_recorder *fb_recorder_make(void) {
  const fb_hold *hold = fb_holding();
  fb_recorder *rec = recorders;
  while (rec && !(rec->orphan && !rec->held && !rec->is_run && settle_orphan(rec)))
    rec = rec->next;
  if (!rec)
    rec = recorder_new();
  rec->orphan = false;
  fb_mode_forget(rec, hold ? hold->rec->mode : 1);
  fb_current = rec;
  if (!hold && watch_thread(rec) < 0)
    PyErr_Clear(); /* the recorder is then not handed on; nothing else is lost */
  return rec;
}

fb_recorder *fb_region_take(fb_recorder *outer) {
  fb_recorder *rec = recorders;
  while (rec && (!rec->orphan || rec->held || rec->is_run || rec->n_slots))
    rec = rec->next;
  if (!rec)
    rec = recorder_new();
  rec->orphan = false;
  rec->outer = outer;
  fb_mode_forget(rec, outer->mode);
  return rec;
}

/* ---- traces that run ------------------------------------------------------------------------------------- */

static fb_recorder *idle_runs;
static uint32_t n_queued;

/* What may follow a phase, as bits. An empty trace needs no run. */
static const uint8_t followers[] = {
    [FB_RECORDING] = 1 << FB_QUEUED | 1 << FB_DONE,
    [FB_QUEUED] = 1 << FB_RUNNING | 1 << FB_RECORDING,
    [FB_RUNNING] = 1 << FB_QUEUED | 1 << FB_DONE | 1 << FB_FAILED,
    [FB_DONE] = 1 << FB_RECORDING,
    [FB_FAILED] = 1 << FB_RECORDING | 1 << FB_DONE,
};

void fb_trace_enter(fb_recorder *rec, fb_phase phase) {
  bool is_over = phase == FB_DONE || phase == FB_FAILED;
  if (FB_UNLIKELY(!(followers[rec->phase] >> phase & 1) || (is_over && rec->n_slots)))
    Py_FatalError("flambeau: a trace was about to skip a phase");
  n_queued -= rec->phase == FB_QUEUED;
  n_queued += phase == FB_QUEUED;
  rec->phase = phase;
}

uint32_t fb_traces_queued(void) { return n_queued; }

fb_recorder *fb_run_take(void) {
  fb_recorder *run = idle_runs;
  if (run)
    idle_runs = run->idle;
  else if ((run = recorder_new()))
    fb_trace_enter(run, FB_DONE);
  run->is_run = true;
  run->idle = NULL;
  return run;
}

void fb_run_give(fb_recorder *run) {
  run->origin = NULL;
  run->idle = idle_runs;
  idle_runs = run;
}

int fb_recorder_reserve(fb_recorder *rec, uint32_t slots) {
  return slots <= rec->cap_slots ? 0 : fb_grow((void **)&rec->owner, &rec->cap_slots, slots, sizeof *rec->owner);
}

bool fb_trace_is_long(const fb_recorder *rec) {
  return rec->state->depth >= fb_limits.soft_ops || rec->state->ns >= fb_limits.soft_ns;
}
