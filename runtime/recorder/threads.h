/* How threads share recorders, cells and the trie. Included by trace.h. docs/architecture.md, "Threads", has the
 * why.
 *
 * - A recorder belongs to a thread: only that one records into it. Any thread may *run* its trace, for a value of it.
 * - A trace that runs has left its recorder (fb_move_trace): the thread records on, whoever wants a value waits.
 * - Code that may let other threads in, while it has slots of the trace in hand, *holds* the recorder: its trace stays.
 *   Python code that happens to run meanwhile (finalizers, signal handlers) gets another recorder.
 * - Nobody waits for a trace while holding a recorder: fb_wants_other, let go, wait, begin again.
 * - What other threads can find (trie, interned types, views, statics) is complete before it is put there.
 */
#ifndef FB_THREADS_H
#define FB_THREADS_H

typedef struct fb_hold {
  fb_recorder *rec, *current;
  struct fb_hold *outer;
} fb_hold;

void fb_hold_begin(fb_hold *hold, fb_recorder *rec);
void fb_hold_end(fb_hold *hold);
bool fb_is_mine(const fb_recorder *rec); /* this thread's, in hand or not */
fb_recorder *fb_mine(void);              /* this thread's recorder, the outermost one; NULL: none yet */
const fb_hold *fb_holding(void);         /* this thread's innermost one, or NULL */
PyObject *fb_held(PyObject *module, PyObject *const *args, Py_ssize_t n); /* held(fn, *args) */

/* The trace that a hook is asked about; outside of hooks the thread's own. */
fb_recorder *fb_subject(void);
fb_recorder *fb_subject_set(fb_recorder *rec); /* returns the one before, NULL: none */

int fb_wants_other(fb_recorder *rec, fb_recorder *other); /* -1, with an exception that is not for users */
int fb_begin_again(fb_recorder *rec);                     /* the same, with nothing to wait for */
bool fb_may_retry(fb_recorder *rec);                      /* that was the reason; now we waited, and may begin again */

int fb_await_change(void); /* GIL released; -1: a signal handler raised */
void fb_tell_change(void); /* a hold or a run has ended */
void fb_threads_after_fork(void);
int fb_threads_init(PyObject *module);
uint32_t fb_runs_begin(void); /* this thread runs a trace: it waits for no other */
void fb_runs_end(void);
bool fb_must_not_wait(void);

#endif
