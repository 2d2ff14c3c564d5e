/* The executable of an exported program: raw bytes in, raw bytes out. Built with -DFB_PROGRAM=<name>_program. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "flambeau/program.h"

extern const fb_program FB_PROGRAM;
static const fb_program *const program = &FB_PROGRAM;

static const char usage[] =
    "usage: %s [--threads N] [INPUT [OUTPUT]]   read raw input bytes, write raw output bytes (default: stdin, stdout)\n"
    "       %s --check                          run the embedded sample, compare with the expected outputs\n"
    "       %s --time N                         run the embedded sample N times, print nanoseconds per run\n"
    "       %s --info                           describe inputs and outputs\n"
    "All inputs follow each other without gaps; several records give several records of outputs.\n";

static int fail(const char *what, const char *why) {
  fprintf(stderr, "%s: %s%s%s\n", program->name, what, why[0] ? ": " : "", why);
  return 1;
}

static void describe(const char *kind, const fb_tensor_info *tensors, int32_t n) {
  for (int32_t i = 0; i < n; i++) {
    printf("%s %d: %s [", kind, (int)i, tensors[i].dtype);
    for (int32_t d = 0; d < tensors[i].rank; d++)
      printf("%s%" PRId64, d ? ", " : "", tensors[i].shape[d]);
    printf("], %zu bytes\n", tensors[i].bytes);
  }
}

static int info(void) {
  printf("%s for %s\n", program->name, program->target);
  describe("input", program->inputs, program->n_inputs);
  describe("output", program->outputs, program->n_outputs);
  return 0;
}

/* One block for all tensors, one after the other; `pointers` gets where each begins. NULL without memory. */
static char *reserve(const fb_tensor_info *tensors, int32_t n, void **pointers, size_t *total) {
  *total = 0;
  for (int32_t i = 0; i < n; i++)
    *total += tensors[i].bytes;
  char *block = malloc(*total + 1), *at = block;
  for (int32_t i = 0; block != NULL && i < n; i++) {
    pointers[i] = at;
    at += tensors[i].bytes;
  }
  return block;
}

/* Runs record after record until the input ends; at least one. */
static int stream(FILE *in, FILE *out, void **inputs, void **outputs) {
  size_t in_bytes, out_bytes, got, records = 0;
  char *from = reserve(program->inputs, program->n_inputs, inputs, &in_bytes);
  char *to = reserve(program->outputs, program->n_outputs, outputs, &out_bytes);
  if (from == NULL || to == NULL)
    return fail("no memory for inputs and outputs", "");
  while ((got = fread(from, 1, in_bytes, in)) == in_bytes && (in_bytes > 0 || records == 0)) {
    if (fb_program_run(program, (const void *const *)inputs, outputs) != FB_OK)
      return fail(fb_last_error(), "");
    if (fwrite(to, 1, out_bytes, out) != out_bytes)
      return fail("cannot write", strerror(errno));
    records++;
  }
  char message[128];
  snprintf(message, sizeof message, "record %zu has %zu of %zu bytes", records, got, in_bytes);
  if (ferror(in))
    return fail("cannot read", strerror(errno));
  if ((got > 0 && got < in_bytes) || (records == 0 && in_bytes > 0))
    return fail(message, "see --info");
  if (fclose(out) != 0)
    return fail("cannot write", strerror(errno));
  return 0;
}

static int process(const char *source, const char *target) {
  FILE *in = source == NULL || strcmp(source, "-") == 0 ? stdin : fopen(source, "rb");
  if (in == NULL)
    return fail(source, strerror(errno));
  FILE *out = target == NULL || strcmp(target, "-") == 0 ? stdout : fopen(target, "wb");
  if (out == NULL)
    return fail(target, strerror(errno));
  void **pointers = calloc((size_t)(program->n_inputs + program->n_outputs) + 1, sizeof *pointers);
  return pointers ? stream(in, out, pointers, pointers + program->n_inputs) : fail("no memory", "");
}

static int check(void) {
  if (fb_program_check(program) != FB_OK)
    return fail(fb_last_error(), "");
  printf("%s: %d outputs equal the expected bytes\n", program->name, (int)program->n_outputs);
  return 0;
}

static int measure(long runs) {
  void **outputs = calloc((size_t)program->n_outputs + 1, sizeof *outputs);
  size_t bytes;
  struct timespec start, stop;
  if (outputs == NULL || reserve(program->outputs, program->n_outputs, outputs, &bytes) == NULL)
    return fail("no memory for the outputs", "");
  for (long i = -10; i < runs; i++) { /* ten runs to warm up */
    if (i == 0)
      clock_gettime(CLOCK_MONOTONIC, &start);
    if (fb_program_run(program, program->sample_inputs, outputs) != FB_OK)
      return fail(fb_last_error(), "");
  }
  clock_gettime(CLOCK_MONOTONIC, &stop);
  double ns = (double)(stop.tv_sec - start.tv_sec) * 1e9 + (double)(stop.tv_nsec - start.tv_nsec);
  printf("%.0f\n", ns / (double)runs);
  return 0;
}

/* Older machines would stop at the first vector instruction without a word. */
static bool runs_here(void) {
#if defined(__x86_64__)
  unsigned a, b, c = 0, d;
  bool fma = __get_cpuid(1, &a, &b, &c, &d) && c & bit_FMA && c & bit_OSXSAVE;
  if (!fma || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
    return false;
  return b & bit_AVX2 && (strcmp(program->target, "x86-64-v4") != 0 || (b & bit_AVX512F && b & bit_AVX512VL));
#else
  return true;
#endif
}

int main(int argc, char **argv) {
  if (!runs_here())
    return fail("this processor is older than the program's target", program->target);
  int at = 1;
  if (at + 1 < argc && strcmp(argv[at], "--threads") == 0) {
    if (fb_set_num_threads(atoi(argv[at + 1])) != FB_OK)
      return fail(fb_last_error(), "");
    at += 2;
  }
  const char *first = at < argc ? argv[at] : NULL;
  if (first != NULL && strcmp(first, "--check") == 0)
    return check();
  if (first != NULL && strcmp(first, "--info") == 0)
    return info();
  if (first != NULL && strcmp(first, "--time") == 0 && at + 1 < argc && atol(argv[at + 1]) > 0)
    return measure(atol(argv[at + 1]));
  if (argc - at > 2 || (first != NULL && first[0] == '-' && first[1] != '\0')) {
    fprintf(stderr, usage, argv[0], argv[0], argv[0], argv[0]);
    return 2;
  }
  return process(first, at + 1 < argc ? argv[at + 1] : NULL);
}
