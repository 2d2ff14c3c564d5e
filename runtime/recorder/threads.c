/* Holding a recorder, waiting for other threads, and whom a hook is asked about. The rules are in threads.h. */
#include "trace.h"
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define INITIAL_EXEC __attribute__((tls_model("initial-exec")))
static __thread fb_hold *holding INITIAL_EXEC;
static __thread fb_recorder *subject INITIAL_EXEC;
static __thread uint32_t n_held INITIAL_EXEC, n_running INITIAL_EXEC;

/* ---- waiting --------------------------------------------------------------------------------------------- */

#define FB_PATIENCE_NS 50000000 /* then look for signals */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static atomic_uint changes;
static uint32_t waiters; /* guarded by the GIL */

static void sleep_until_change(unsigned seen) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_nsec += FB_PATIENCE_NS;
  until.tv_sec += until.tv_nsec / 1000000000;
  until.tv_nsec %= 1000000000;
  pthread_mutex_lock(&mutex);
  while (atomic_load(&changes) == seen && pthread_cond_timedwait(&changed, &mutex, &until) == 0)
    continue;
  pthread_mutex_unlock(&mutex);
}

int fb_await_change(void) {
  unsigned seen = atomic_load(&changes);
  waiters++;
  Py_BEGIN_ALLOW_THREADS;
  sleep_until_change(seen);
  Py_END_ALLOW_THREADS;
  waiters--;
  return PyErr_CheckSignals();
}

void fb_tell_change(void) {
  if (FB_LIKELY(!waiters))
    return;
  pthread_mutex_lock(&mutex);
  atomic_fetch_add(&changes, 1);
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&mutex);
}

void fb_threads_after_fork(void) {
  mutex = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
  changed = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
  waiters = 0;
}

uint32_t fb_runs_begin(void) { return ++n_running; }
void fb_runs_end(void) { n_running--; }
bool fb_must_not_wait(void) { return n_running || n_held; }

/* ---- holding --------------------------------------------------------------------------------------------- */

static void grasp(fb_recorder *rec) {
  rec->holder = PyThread_get_thread_ident();
  rec->held++;
  n_held++;
}

static void let_go(fb_recorder *rec) {
  n_held--;
  if (!--rec->held)
    fb_tell_change();
}

void fb_hold_begin(fb_hold *hold, fb_recorder *rec) {
  *hold = (fb_hold){.rec = rec, .current = fb_current, .outer = holding};
  grasp(rec);
  holding = hold;
  fb_current = NULL; /* made when somebody asks for it */
}

void fb_hold_end(fb_hold *hold) {
  if (FB_UNLIKELY(fb_current != NULL))
    fb_current->orphan = true; /* its values are there for whoever reads them */
  fb_current = hold->current;
  holding = hold->outer;
  let_go(hold->rec);
}

const fb_hold *fb_holding(void) { return holding; }

fb_recorder *fb_mine(void) {
  const fb_hold *hold = holding;
  while (hold && hold->outer)
    hold = hold->outer;
  return hold ? hold->rec : fb_current;
}

bool fb_is_mine(const fb_recorder *rec) { return rec == fb_current || rec == fb_mine(); }

fb_recorder *fb_subject(void) { return subject ? subject : fb_recorder_get(); }

fb_recorder *fb_subject_set(fb_recorder *rec) {
  fb_recorder *before = subject;
  subject = rec;
  return before;
}

/* ---- beginning again ------------------------------------------------------------------------------------- */

static PyObject *again; /* a class of BaseException: no `except Exception` keeps it */

int fb_wants_other(fb_recorder *rec, fb_recorder *other) {
  rec->wanted = other;
  rec->wanted_id = other->id;
  PyErr_SetNone(again);
  return -1;
}

int fb_begin_again(fb_recorder *rec) {
  fb_wants_other(rec, rec);
  rec->wanted_id = 0; /* no trace has it */
  return -1;
}

bool fb_may_retry(fb_recorder *rec) {
  if (!PyErr_ExceptionMatches(again) || rec->held)
    return false;
  PyErr_Clear();
  return rec->wanted->id != rec->wanted_id || fb_flush(rec->wanted) == 0;
}

/* held(fn, *args): what fn returns. It records into the thread's trace and has slots in hand, so nobody runs the trace
 * meanwhile. Where it needs a value of another thread it is called anew, once that is there. */
PyObject *fb_held(PyObject *module, PyObject *const *args, Py_ssize_t n) {
  (void)module;
  if (n < 1)
    return PyErr_Format(PyExc_TypeError, "[held] a function is missing.");
  fb_recorder *rec = fb_recorder_get();
  PyObject *result;
  do {
    grasp(rec);
    result = PyObject_Vectorcall(args[0], args + 1, (size_t)(n - 1), NULL);
    let_go(rec);
  } while (!result && fb_may_retry(rec));
  return result;
}

int fb_threads_init(PyObject *module) {
  again = PyErr_NewException("flambeau.runtime._recorder._Again", PyExc_BaseException, NULL);
  return again ? PyModule_AddObjectRef(module, "_Again", again) : -1;
}
