/* A tiny test harness: CHECK ends the program with the failing line; RUN names each case. */
#ifndef FLAMBEAU_TEST_HARNESS_H
#define FLAMBEAU_TEST_HARNESS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flambeau/runtime.h"

#define CHECK(condition)                                                                                               \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      fprintf(stderr, "%s:%d: CHECK(%s) failed; last error: %s\n", __FILE__, __LINE__, #condition, fb_last_error());   \
      exit(1);                                                                                                         \
    }                                                                                                                  \
  } while (0)

#define RUN(test)                                                                                                      \
  do {                                                                                                                 \
    printf("%s\n", #test);                                                                                             \
    fflush(stdout);                                                                                                    \
    test();                                                                                                            \
  } while (0)

static inline fb_memory_stats stats_now(void) {
  fb_memory_stats stats;
  fb_memory_get_stats(&stats);
  return stats;
}

static inline fb_buffer *must_alloc(size_t bytes) {
  fb_buffer *b;
  CHECK(fb_buffer_alloc(bytes, &b) == FB_OK);
  return b;
}

#endif
