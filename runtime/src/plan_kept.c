/* What a plan has made of inputs that are the same in one run after the other, as weights are: it is made once.
 *
 * Nothing here holds an operand. A buffer's stamp says whether its contents are those of the run before, and whoever
 * changes or frees a buffer of which something is kept has it forgotten. So what is kept never lasts longer than what
 * it was made of, no write is kept from going in place, and what changes with every run, as in training, is never kept.
 * Results are pool memory and count as such; they go when memory runs out. Next: plan_run.c. */
#include <pthread.h>

#include "plan.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static fb_kept *all; /* that have a result */

static void lock(void) { pthread_mutex_lock(&mutex); }

static void unlock(void) { pthread_mutex_unlock(&mutex); }

/* Nobody may hold the lock across a fork: the child would wait for a thread it does not have. */
__attribute__((constructor)) static void survive_fork(void) { pthread_atfork(lock, unlock, unlock); }

/* Called with the lock held: the result, which the caller releases after unlocking. */
static fb_buffer *detach(fb_kept *k) {
  fb_buffer *result = k->result;
  if (result == NULL)
    return NULL;
  *k->link = k->next;
  if (k->next != NULL)
    k->next->link = k->link;
  k->result = NULL;
  return result;
}

/* One after the other: there are few, and a release may take other locks. */
static bool forget(const fb_buffer *operand) {
  bool found = false;
  for (;;) {
    fb_buffer *result = NULL;
    lock();
    for (fb_kept *k = all; k != NULL && result == NULL; k = k->next)
      if (operand == NULL || k->operand == operand)
        result = detach(k);
    unlock();
    if (result == NULL)
      return found;
    found = true;
    fb_buffer_release(result);
  }
}

void fb_kept_forget(const fb_buffer *operand) { forget(operand); }

bool fb_kept_forget_all(void) { return forget(NULL); }

static uint64_t stamp_of(fb_buffer *b) {
  return b->capacity > 0 ? atomic_load_explicit(&b->stamp, memory_order_relaxed)
                         : atomic_load_explicit(&b->stamp_wrapped, memory_order_relaxed);
}

fb_status fb_kept_find(fb_execution *e, int32_t number, bool *is_missing, bool *is_wanted) {
  const fb_plan *p = e->plan;
  fb_kept *k = &p->kept[number];
  const fb_input *input = &e->run->inputs[p->kept_inputs[number]];
  fb_buffer *b = input->buffer, *found = NULL, *old = NULL;
  bool is_ours = b != NULL && b->device == NULL && input->data == b->data && !input->donated;
  uint64_t stamp = is_ours ? stamp_of(b) : 0;
  lock();
  bool is_same = stamp != 0 && k->operand == b && k->stamp == stamp;
  if (is_same && k->result != NULL) {
    found = k->result;
    fb_buffer_retain(found);
  } else {
    old = detach(k);
    k->operand = b;
    k->stamp = stamp;
  }
  unlock();
  fb_buffer_release(old);
  *is_missing = found == NULL;
  *is_wanted = is_same;
  fb_status status = FB_OK;
  bool is_spare = number >= p->spec.n_kept - p->spec.n_spare;
  if (found == NULL && (is_same || !is_spare))
    status = fb_pool_take((size_t)e->sizes->values[p->spec.kept[number]], &found);
  if (status != FB_OK && is_spare)
    status = FB_OK; /* it goes without */
  e->bases[fb_kept_slot(&p->spec) + (uint32_t)number] = found == NULL ? NULL : found->data;
  e->kept[number] = found;
  return status;
}

void fb_kept_store(fb_execution *e, int32_t number) {
  const fb_plan *p = e->plan;
  fb_kept *k = &p->kept[number];
  fb_buffer *b = e->run->inputs[p->kept_inputs[number]].buffer;
  lock();
  bool is_same = k->operand == b && k->stamp == stamp_of(b);
  if (is_same && k->result == NULL) { /* else another thread was faster */
    k->result = e->kept[number];
    fb_buffer_retain(k->result);
    k->next = all;
    k->link = &all;
    if (all != NULL)
      all->link = &k->next;
    all = k;
    atomic_fetch_or_explicit(&b->kept, FB_KEPT, memory_order_relaxed);
  }
  unlock();
}

void fb_kept_release(fb_execution *e) {
  for (int32_t i = 0; i < e->plan->spec.n_kept; i++)
    fb_buffer_release(e->kept[i]);
}

void fb_kept_end(fb_plan *p) {
  for (int32_t i = 0; i < p->spec.n_kept; i++) {
    lock();
    fb_buffer *result = detach(&p->kept[i]);
    unlock();
    fb_buffer_release(result);
  }
}
