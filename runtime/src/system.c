/* What the operating system gives: a clock; whole pages for big blocks, which go back to it at once when the cache is
 * trimmed. */
#ifndef _GNU_SOURCE /* C++ compilers define it */
#define _GNU_SOURCE
#endif
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif

#define HUGE_PAGE ((size_t)2 << 20)
#define HUGE_PAGE_WORTHWHILE ((size_t)4 << 20)

int64_t fb_now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void *map(size_t bytes) {
  void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return p == MAP_FAILED ? NULL : p;
}

/* Maps one huge page more than needed and returns the ends, so that the block starts on a huge page. */
static void *map_aligned(size_t bytes) {
  char *p = (char *)map(bytes + HUGE_PAGE);
  if (p == NULL)
    return NULL;
  size_t head = (HUGE_PAGE - (uintptr_t)p % HUGE_PAGE) % HUGE_PAGE;
  if (head > 0)
    munmap(p, head);
  munmap(p + head + bytes, HUGE_PAGE - head);
#ifdef MADV_HUGEPAGE
  madvise(p + head, bytes, MADV_HUGEPAGE);
#endif
  return p + head;
}

void *fb_pages_alloc(size_t bytes) { return bytes >= HUGE_PAGE_WORTHWHILE ? map_aligned(bytes) : map(bytes); }

void fb_pages_free(void *pages, size_t bytes) { munmap(pages, bytes); }

static size_t page_bytes(void) { return (size_t)sysconf(_SC_PAGESIZE); }

void *fb_guarded_alloc(size_t bytes, bool at_end) {
  size_t page = page_bytes(), inside = fb_round_up(bytes, page);
  char *p = (char *)map(inside + 2 * page);
  if (p == NULL)
    return NULL;
  if (mprotect(p, page, PROT_NONE) != 0 || mprotect(p + page + inside, page, PROT_NONE) != 0) {
    munmap(p, inside + 2 * page);
    return NULL;
  }
  return p + page + (at_end ? inside - bytes : 0);
}

void fb_guarded_free(void *data, size_t bytes) {
  size_t page = page_bytes();
  char *first = (char *)data - (uintptr_t)data % page;
  munmap(first - page, fb_round_up(bytes, page) + 2 * page);
}
