/* Sleeping on a 32-bit word: futex on Linux, one mutex and condition variable elsewhere. */
#ifndef FLAMBEAU_PARKING_H
#define FLAMBEAU_PARKING_H

#include "language.h"
#include <stdint.h>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#if !defined(SYS_futex) && defined(SYS_futex_time64)
#define SYS_futex SYS_futex_time64
#endif

/* Returns once woken, and at once when *word is not `expected`; may also return for no reason. */
static inline void fb_park(atomic_uint *word, unsigned expected) {
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

static inline void fb_unpark(atomic_uint *word, int how_many) {
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, how_many, NULL, NULL, 0);
}

static inline void fb_parking_after_fork(void) {}

#else
#include <pthread.h>

static pthread_mutex_t parking_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t parking_woken = PTHREAD_COND_INITIALIZER;

static inline void fb_park(atomic_uint *word, unsigned expected) {
  pthread_mutex_lock(&parking_mutex);
  while (atomic_load(word) == expected)
    pthread_cond_wait(&parking_woken, &parking_mutex);
  pthread_mutex_unlock(&parking_mutex);
}

static inline void fb_unpark(atomic_uint *word, int how_many) {
  (void)word, (void)how_many;
  pthread_mutex_lock(&parking_mutex);
  pthread_cond_broadcast(&parking_woken);
  pthread_mutex_unlock(&parking_mutex);
}

static inline void fb_parking_after_fork(void) {
  parking_mutex = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
  parking_woken = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
}
#endif
#endif
