/* Flushing: find what is alive, get the state's program, run it, and move the results into their cells. */
#include "runs.h"

#define FB_MAX_WIDENINGS 4

static uint32_t history_slot(const fb_cell *c) { return c->use == FB_NO_SLOT ? c->history : c->use; }

/* Where the history of an input is that has only had its data written: still in the trace that it came from. */
static const fb_origin *kept_origin(const fb_recorder *rec, const fb_cell *c) {
  for (uint32_t i = 0; i < rec->n_origins; i++)
    if (rec->origins[i].slot == history_slot(c))
      return &rec->origins[i];
  return NULL;
}

static void take_owners(fb_recorder *rec) {
  for (uint32_t s = 0; s < rec->n_slots; s++)
    if (rec->owner[s])
      rec->owner[s]->home = rec;
}

static int find_live(fb_recorder *rec, fb_liveness *found) {
  found->live = PyMem_Malloc((rec->n_slots + 1) * sizeof(uint32_t));
  found->history = PyMem_Malloc((rec->n_slots + 1) * sizeof(uint32_t));
  if (!found->live || !found->history) {
    take_owners(rec);
    return PyErr_NoMemory(), -1;
  }
  for (uint32_t s = 0; s < rec->n_slots; s++) {
    fb_cell *c = rec->owner[s];
    if (!c)
      continue;
    c->home = rec; /* the trace has just been moved here */
    found->live[found->n_live++] = s;
    c->rooted = c->type->requires_grad && fb_cell_leads_back(c);
    if (c->rooted && !kept_origin(rec, c))
      found->history[found->n_history++] = history_slot(c);
  }
  return 0;
}

/* ---- programs -------------------------------------------------------------------------------------------- */

static int compare_slots(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

static uint32_t *joined(const uint32_t *a, uint32_t n_a, const uint32_t *b, uint32_t n_b, uint32_t spare, uint32_t *n) {
  uint32_t *all = PyMem_Malloc((n_a + n_b + spare + 1) * sizeof *all);
  if (!all)
    return (uint32_t *)PyErr_NoMemory();
  memcpy(all, a, n_a * sizeof *all);
  if (n_b)
    memcpy(all + n_a, b, n_b * sizeof *all);
  *n = n_a + n_b;
  return all;
}

static void sort_unique(uint32_t *slots, uint32_t *n) {
  uint32_t unique = 0;
  qsort(slots, *n, sizeof *slots, compare_slots);
  for (uint32_t i = 0; i < *n; i++)
    if (!i || slots[i] != slots[i - 1])
      slots[unique++] = slots[i];
  *n = unique;
}

static uint32_t add_computed(const fb_node *state, uint32_t *slots, uint32_t n) {
  for (const fb_node *node = state; node->depth; node = node->parent)
    for (uint32_t i = 0; node->kind >= FB_CALL && node->results && i < node->n_results; i++)
      if (node->results[i].type)
        slots[n++] = node->base + node->n_scalars + i;
  return n;
}

/* What is alive now and what the old program gave; past a few widenings, every computed slot. */
static int wanted(fb_recorder *rec, const fb_liveness *found, fb_liveness *all) {
  const fb_node *state = rec->state;
  const fb_program *old = (const fb_program *)state->program;
  all->live = joined(found->live, found->n_live, old ? old->outputs : NULL, old ? old->n_outputs : 0, rec->n_slots,
                     &all->n_live);
  all->history =
      joined(found->history, found->n_history, old ? old->history : NULL, old ? old->n_history : 0, 0, &all->n_history);
  if (!all->live || !all->history)
    return -1;
  if (state->widenings >= FB_MAX_WIDENINGS)
    all->n_live = add_computed(state, all->live, all->n_live);
  sort_unique(all->live, &all->n_live);
  sort_unique(all->history, &all->n_history);
  return 0;
}

static PyObject *ask_program(fb_recorder *rec, const fb_liveness *all) {
  PyObject *hook = fb_hook(fb_hooks.build_program, "build_program"), *program = NULL;
  PyObject *export = hook ? fb_export(rec) : NULL;
  PyObject *live = export ? fb_slot_tuple(all->live, all->n_live) : NULL;
  PyObject *history = NULL;
  if (live)
    history = all->n_history ? fb_slot_tuple(all->history, all->n_history) : Py_NewRef(Py_None);
  fb_recorder *before = fb_subject_set(rec);
  /* Assembling makes many containers that stay: looking through them all, again and again, took as long as making them.
   */
  int collects = PyGC_Disable();
  if (history)
    program = PyObject_CallFunctionObjArgs(hook, export, live, history, NULL);
  if (collects)
    PyGC_Enable();
  fb_subject_set(before);
  Py_XDECREF(export);
  Py_XDECREF(live);
  Py_XDECREF(history);
  return program;
}

static int check_program(PyObject *program, const fb_liveness *found, bool history) {
  fb_liveness values = {found->live, found->n_live, NULL, 0};
  if (Py_TYPE(program) == fb_program_type && fb_program_covers((fb_program *)program, &values) &&
      (!history || ((fb_program *)program)->has_history))
    return 0;
  PyErr_Format(PyExc_TypeError, "[flush] build_program must return a Program with all asked outputs%s, got %R.",
               history ? " and residual_slots" : "", program);
  return -1;
}

static fb_program *build_program(fb_recorder *rec, const fb_liveness *found) {
  fb_node *state = rec->state;
  fb_liveness all = {0};
  PyObject *program = wanted(rec, found, &all) == 0 ? ask_program(rec, &all) : NULL;
  PyMem_Free(all.live);
  if (program && check_program(program, found, all.n_history > 0) < 0)
    Py_CLEAR(program);
  if (!program) {
    PyMem_Free(all.history);
    return NULL;
  }
  fb_program *made = (fb_program *)program;
  PyMem_Free(made->history);
  made->history = all.history;
  made->n_history = all.n_history;
  bool widened = state->program && !((fb_program *)state->program)->once;
  state->widenings += widened;
  fb_program_put(rec, made);
  fb_stats.builds += !made->once;
  fb_explain(made->once ? "walk" : widened ? "widen" : "build", state);
  return made;
}

/* ---- ending a trace -------------------------------------------------------------------------------------- */

static void commit_history(fb_recorder *rec, fb_cell *c, fb_segment *segment) {
  const fb_origin *kept = kept_origin(rec, c);
  if (kept)
    fb_cell_set_history(c, kept->segment, kept->segment_slot);
  else
    fb_cell_set_history(c, segment, fb_flat_slot(segment->program, history_slot(c)));
}

static void commit_histories(fb_recorder *rec, fb_segment *segment) {
  for (uint32_t s = 0; s < rec->n_slots; s++) {
    fb_cell *c = rec->owner[s];
    if (c && c->rooted)
      commit_history(rec, c, segment);
    else if (c && c->segment)
      fb_cell_set_history(c, NULL, 0);
  }
}

static int check_sizes(const fb_recorder *rec, const fb_program *p, fb_buffer **outputs) {
  for (uint32_t i = 0; i < p->n_outputs; i++) {
    const fb_cell *c = rec->owner[p->outputs[i]];
    if (!c || fb_buffer_bytes(outputs[i]) >= c->type->bytes)
      continue;
    PyErr_Format(PyExc_ValueError, "[flush] output %u has %zu bytes, its tensor needs %zu.", i,
                 fb_buffer_bytes(outputs[i]), c->type->bytes);
    return -1;
  }
  return 0;
}

/* Cells take their new values; what nobody wants is released. Cells die only in fb_recorder_reset, if at all. */
static void commit(fb_recorder *rec, const fb_program *p, fb_buffer **outputs) {
  for (uint32_t i = 0; i < p->n_outputs; i++) {
    fb_cell *c = rec->owner[p->outputs[i]];
    if (c)
      fb_cell_set_value(c, outputs[i]);
    else
      fb_buffer_release(outputs[i]);
  }
}

/* ---- the flush ------------------------------------------------------------------------------------------- */

static int run_program(fb_recorder *rec, const fb_liveness *found) {
  fb_program *p = fb_program_find(rec, found);
  bool keeps_history = found->n_history > 0;
  if (!p)
    p = build_program(rec, found);
  if (!p)
    return -1;
  fb_buffer **outputs = PyMem_Calloc(p->n_outputs + p->n_residuals + 1, sizeof *outputs);
  if (!outputs)
    return PyErr_NoMemory(), -1;
  Py_INCREF(p);
  fb_segment *segment = NULL;
  int status = 0;
  if (keeps_history && !(segment = fb_segment_make(rec, p, found->history, found->n_history)))
    status = -1;
  if (status == 0)
    status = fb_program_run(p, rec, keeps_history, outputs);
  if (status == 0)
    status = check_sizes(rec, p, outputs);
  if (status == 0) {
    if (segment)
      fb_segment_take_values(segment, outputs + p->n_outputs);
    if (rec->origin && rec->origin->capture)
      fb_undo_ended(rec);
    commit(rec, p, outputs);
    commit_histories(rec, segment);
  }
  if (segment)
    fb_segment_release(segment);
  for (uint32_t i = status == 0 ? p->n_outputs : 0; i < p->n_outputs + p->n_residuals; i++)
    fb_buffer_release(outputs[i]); /* the others belong to their cells now */
  Py_DECREF(p);
  PyMem_Free(outputs);
  return status;
}

/* Another thread may be running this trace, or have its slots in hand. 1: we may go on, 0: it has run, -1: error. */
static int await_turn(fb_recorder *rec) {
  unsigned long me = PyThread_get_thread_ident();
  uint64_t id = rec->id;
  while (rec->id == id && (rec->phase == FB_RUNNING || rec->held || fb_capture_holds(rec))) {
    if (fb_capture_holds(rec) && fb_is_mine(rec))
      return fb_capture_refuse(rec);
    if ((rec->phase == FB_RUNNING && rec->flusher == me) || (rec->held && rec->holder == me)) {
      PyErr_SetString(PyExc_RuntimeError,
                      "[flush] a value was read in the middle of recording or running what computes it, by a finalizer "
                      "or a signal handler. Read it outside of these.");
      return -1;
    }
    if (fb_must_not_wait()) {
      PyErr_SetString(PyExc_RuntimeError,
                      "[flush] a value that another thread is computing was read by a finalizer or a signal handler in "
                      "the middle of a run. Read it outside of these.");
      return -1;
    }
    rec->flush_soon |= rec->held > 0; /* its thread may well be faster than we get a turn */
    if (fb_await_change() < 0)
      return -1;
  }
  return rec->id == id;
}

static int run_trace(fb_recorder *run, fb_liveness *found) {
  int status = find_live(run, found);
  if (status == 0 && found->n_live) {
    fb_explain_flush(run->state);
    status = run_program(run, found);
  }
  if (status < 0)
    fb_abandon(run, found);
  return status;
}

/* The trace leaves its recorder: nobody records into it, and whoever wants its values waits. */
static fb_recorder *begin_run(fb_recorder *rec) {
  fb_recorder *run = rec;
  if (!rec->is_run) {
    run = fb_run_take();
    run->origin = rec;
    fb_move_trace(rec, run);
    fb_trace_enter(run, FB_QUEUED);
    fb_trace_enter(rec, FB_RECORDING);
  }
  fb_trace_enter(run, FB_RUNNING);
  run->flusher = PyThread_get_thread_ident();
  run->is_lent = run->origin != fb_current;
  run->origin->n_lent += run->is_lent;
  fb_runs_begin();
  return run;
}

/* It has run, or it was interrupted and stays pending: where it was recorded if nothing else is there now. */
static void end_run(fb_recorder *run, int status) {
  fb_recorder *origin = run->origin;
  fb_runs_end();
  fb_trace_enter(run, run->n_slots ? FB_QUEUED : status < 0 ? FB_FAILED : FB_DONE);
  origin->n_lent -= run->is_lent;
  if (!origin->n_slots &&
      !origin->held) { /* also when it is empty: the arrays that are in the cache go on being used */
    fb_move_trace(run, origin);
    fb_trace_enter(origin, FB_RECORDING);
    fb_trace_enter(run, FB_DONE);
    take_owners(origin);
  }
  if (run->n_slots)
    origin->flush_soon = true;
  else
    fb_run_give(run);
  fb_tell_change();
}

int fb_flush(fb_recorder *rec) {
  if (!rec->n_slots)
    return 0;
  int free_to_run = await_turn(rec);
  if (free_to_run <= 0)
    return free_to_run;
  fb_recorder *run = begin_run(rec);
  fb_liveness found = {0};
  int status = run_trace(run, &found);
  if (status == 0) {
    fb_stats.flushes++;
    fb_recorder_reset(run);
  }
  PyMem_Free(found.live);
  PyMem_Free(found.history);
  end_run(run, status);
  return status;
}

void fb_flush_drop(fb_recorder *rec) {
  fb_recorder *run = begin_run(rec);
  take_owners(run);
  fb_abandon(run, &(fb_liveness){0});
  end_run(run, -1);
}

int fb_flush_all(void) {
  PyObject *type = NULL, *value = NULL, *traceback = NULL; /* the first error */
  for (fb_recorder *r = fb_recorders(); r; r = r->next) {
    if ((!fb_is_mine(r) && fb_capture_holds(r)) || fb_flush(r) == 0)
      continue;
    if (type)
      fb_forget_error();
    else
      PyErr_Fetch(&type, &value, &traceback);
  }
  if (!type)
    return 0;
  PyErr_Restore(type, value, traceback);
  return -1;
}

/* Its values may lie in buffers that are half overwritten. */
static void lose_run(fb_recorder *run) {
  if (run->flusher == PyThread_get_thread_ident())
    return;
  PyObject *error = Py_BuildValue("(O(s))", PyExc_RuntimeError,
                                  "[fork] another thread was computing this value when the process forked. Compute it "
                                  "again.");
  for (uint32_t s = 0; s < run->n_slots; s++) {
    fb_cell *c = run->owner[s];
    if (!c)
      continue;
    fb_buffer_release(c->buffer);
    c->buffer = NULL;
    Py_XSETREF(c->error, Py_XNewRef(error));
  }
  Py_XDECREF(error);
  PyErr_Clear();
  fb_recorder_reset(run);
  fb_trace_enter(run, FB_FAILED);
  fb_run_give(run);
}

/* Only this thread is left. What others were running is not to be had: its inputs may be half overwritten. */
void fb_recorders_after_fork(void) {
  fb_threads_after_fork();
  for (fb_recorder *r = fb_recorders(); r; r = r->next) {
    r->orphan |= r != fb_current && !r->is_run;
    r->held = r->n_lent = 0;
    r->is_lent = false;
    if (r->phase == FB_RUNNING)
      lose_run(r);
  }
}
