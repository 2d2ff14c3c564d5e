/* The executable of an exported program: raw bytes in, raw bytes out. Built with -DFB_PROGRAM=<name>_program. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "flambeau/program.h"

extern const fb_program FB_PROGRAM;
static const fb_program *const program = &FB_PROGRAM;

static const char usage[] =
    "usage: %s [--threads N] [INPUT [OUTPUT]]   read raw input bytes, write raw output bytes (default: stdin, stdout)\n"
    "       %s [--threads N] --check            run the embedded sample, compare with the expected outputs\n"
    "       %s [--threads N] --time N           run the embedded sample N times, print nanoseconds per run\n"
    "       %s --info                           describe inputs and outputs\n"
    "All inputs follow each other without gaps; several records give several records of outputs. '-' is stdin or "
    "stdout.\n"
    "Exit status: 0; 1 if the inputs cannot be computed, read or written; 2 for wrong arguments.\n";

static int fail(const char *what, const char *why) {
  fprintf(stderr, "%s: %s%s%s\n", program->name, what, why[0] ? ": " : "", why);
  return 1;
}

/* ---- describing ------------------------------------------------------------------------------------------ */

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

/* ---- the output ------------------------------------------------------------------------------------------ */

/* A file is written under another name and renamed when all is there: whoever looks finds the old one or the new one.
 */
typedef struct {
  FILE *stream;
  char *target; /* what `partial` becomes; NULL: written as it is */
  char *partial;
} sink;

static char *unfinished; /* to be removed if a signal ends the program */

static void remove_unfinished(int number) {
  if (unfinished != NULL)
    unlink(unfinished);
  signal(number, SIG_DFL);
  raise(number);
}

static void watch_signals(void) {
  const int ending[] = {SIGHUP, SIGINT, SIGPIPE, SIGTERM};
  for (size_t i = 0; i < sizeof ending / sizeof *ending; i++)
    if (signal(ending[i], remove_unfinished) == SIG_IGN)
      signal(ending[i], SIG_IGN);
}

/* The permissions that the file has, or that a new one gets. */
static mode_t permissions(const char *path) {
  struct stat found;
  if (stat(path, &found) == 0)
    return found.st_mode & 07777;
  mode_t mask = umask(0);
  umask(mask);
  return 0666 & ~mask;
}

static bool open_beside(sink *s) {
  static const char suffix[] = ".XXXXXX";
  size_t length = strlen(s->target);
  if ((s->partial = malloc(length + sizeof suffix)) == NULL)
    return false;
  memcpy(s->partial, s->target, length);
  memcpy(s->partial + length, suffix, sizeof suffix);
  int file = mkstemp(s->partial);
  if (file < 0)
    return false;
  unfinished = s->partial;
  watch_signals();
  return fchmod(file, permissions(s->target)) == 0 && (s->stream = fdopen(file, "wb")) != NULL;
}

static bool open_sink(sink *s, const char *path) {
  struct stat found;
  if (path == NULL || strcmp(path, "-") == 0) {
    s->stream = stdout;
    return true;
  }
  bool exists = stat(path, &found) == 0;
  if (exists && (!S_ISREG(found.st_mode) || access(path, W_OK) != 0)) /* a device, or an error */
    return (s->stream = fopen(path, "wb")) != NULL;
  s->target = exists ? realpath(path, NULL) : strdup(path); /* of links, the file */
  return s->target != NULL && open_beside(s);
}

/* The name of the file is on the disk, too, where the file system can say so. */
static void sync_folder(const char *path) {
  const char *end = strrchr(path, '/');
  char *folder = end == NULL ? strdup(".") : strndup(path, end == path ? 1 : (size_t)(end - path));
  int handle = folder == NULL ? -1 : open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (handle >= 0) {
    fsync(handle);
    close(handle);
  }
  free(folder);
}

static bool close_sink(sink *s) {
  bool written = fflush(s->stream) == 0 && (s->target == NULL || fsync(fileno(s->stream)) == 0);
  written &= fclose(s->stream) == 0;
  s->stream = NULL;
  if (!written || s->target == NULL)
    return written;
  written = rename(s->partial, s->target) == 0;
  if (!written)
    return false;
  unfinished = NULL;
  sync_folder(s->target);
  return true;
}

static void drop_sink(sink *s) {
  int error = errno;
  if (unfinished != NULL)
    unlink(unfinished);
  unfinished = NULL;
  free(s->partial);
  free(s->target);
  errno = error;
}

/* Whether writing `path` would overwrite what is read from `in`, whatever it is called. */
static bool is_input(FILE *in, const char *path) {
  struct stat a, b;
  return path != NULL && fstat(fileno(in), &a) == 0 && stat(path, &b) == 0 && S_ISREG(a.st_mode) &&
         a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* ---- running --------------------------------------------------------------------------------------------- */

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

static int fail_record(size_t record, const char *why) {
  char message[640];
  snprintf(message, sizeof message, "record %zu: %s", record, why);
  return fail(record ? message : why, "");
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
      return fail_record(records, fb_last_error());
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
  if (in_bytes == 0 && in != stdin && fgetc(in) != EOF)
    return fail("the program has no inputs, but the file has bytes", "see --info");
  return 0;
}

static int process(const char *source, const char *target) {
  FILE *in = source == NULL || strcmp(source, "-") == 0 ? stdin : fopen(source, "rb");
  if (in == NULL)
    return fail(source, strerror(errno));
  if (is_input(in, target))
    return fail(target, "is the input, which would be lost. Write to another file");
  void **pointers = calloc((size_t)(program->n_inputs + program->n_outputs) + 1, sizeof *pointers);
  if (pointers == NULL)
    return fail("no memory", "");
  sink out = {NULL, NULL, NULL};
  int status = open_sink(&out, target) ? stream(in, out.stream, pointers, pointers + program->n_inputs)
                                       : fail(target, strerror(errno));
  if (status == 0 && !close_sink(&out))
    status = fail("cannot write", strerror(errno));
  drop_sink(&out);
  return status;
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

/* ---- arguments ------------------------------------------------------------------------------------------- */

typedef struct {
  const char *mode; /* NULL: read and write */
  const char *paths[2];
  int n_paths;
  long threads, runs;
} arguments;

/* A whole number from 1 on; 0 for anything else. */
static long number(const char *text) {
  char *end;
  errno = 0;
  long value = text != NULL && text[0] >= '0' && text[0] <= '9' ? strtol(text, &end, 10) : 0;
  return value > 0 && errno == 0 && *end == '\0' ? value : 0;
}

static bool parse(int argc, char **argv, arguments *found) {
  for (int i = 1; i < argc; i++) {
    const char *word = argv[i];
    if (strcmp(word, "--threads") == 0) {
      if (found->threads || (found->threads = number(argv[++i])) == 0 || found->threads > INT_MAX)
        return false;
    } else if (word[0] == '-' && word[1] != '\0') {
      bool known = strcmp(word, "--check") == 0 || strcmp(word, "--time") == 0 || strcmp(word, "--info") == 0 ||
                   strcmp(word, "--help") == 0;
      if (!known || found->mode != NULL)
        return false;
      found->mode = word;
      if (strcmp(word, "--time") == 0 && (found->runs = number(argv[++i])) == 0)
        return false;
    } else {
      if (found->n_paths == 2)
        return false;
      found->paths[found->n_paths++] = word;
    }
  }
  return found->mode == NULL || found->n_paths == 0;
}

static int show_usage(FILE *where, const char *name) {
  fprintf(where, usage, name, name, name, name);
  return where == stdout ? 0 : 2;
}

static int act(const arguments *given, const char *name) {
  const char *mode = given->mode;
  if (mode == NULL)
    return process(given->paths[0], given->paths[1]);
  if (strcmp(mode, "--help") == 0)
    return show_usage(stdout, name);
  if (strcmp(mode, "--info") == 0)
    return info();
  return strcmp(mode, "--check") == 0 ? check() : measure(given->runs);
}

int main(int argc, char **argv) {
  const char *name = argc > 0 ? argv[0] : program->name;
  arguments given = {NULL, {NULL, NULL}, 0, 0, 0};
  if (!parse(argc, argv, &given))
    return show_usage(stderr, name);
  if (!runs_here())
    return fail("this processor is older than the program's target", program->target);
  if (given.threads && fb_set_num_threads((int)given.threads) != FB_OK)
    return fail(fb_last_error(), "");
  int status = act(&given, name);
  if (fflush(stdout) != 0 && status == 0)
    return fail("cannot write", strerror(errno));
  return status;
}
