/* The GPU runtime against a fake driver: calls in order, memory reuse, and every way to fail. */
#include <dlfcn.h>
#include <pthread.h>

#include "cuda.h"
#include "fake_cuda.h"
#include "harness.h"

static const char ptx[] = ".version 7.8\n.target sm_90\n.visible .entry kernel()";
static const unsigned one[3] = {1, 1, 1};
static fake_cuda_state *fake;

/* The fake as if just loaded, failing the given call of a function. */
static void reset(const char *fail, int call, int error) {
  CHECK(fake->live_bytes == 0 && fake->live_modules == 0);
  fake->devices = 1;
  fake->memory = 1 << 20;
  fake->fail_call = call;
  fake->error = error;
  fake->contexts = 0;
  fake->calls[0] = '\0';
  snprintf(fake->fail, sizeof fake->fail, "%s", fail);
}

static fb_cuda *open_fake(void) {
  fb_cuda *c;
  CHECK(fb_cuda_open(FAKE_CUDA, 0, &c) == FB_OK);
  return c;
}

static fb_cuda_block *must_get(fb_cuda *c, size_t bytes) {
  fb_cuda_block *b;
  CHECK(fb_cuda_alloc(c, bytes, &b) == FB_OK && fb_cuda_bytes(b) == bytes);
  return b;
}

static bool says(const char *text) { return strstr(fb_last_error(), text) != NULL; }

static void test_copies_and_launch(void) {
  reset("", 0, 0);
  fb_cuda *c = open_fake();
  fb_cuda_info info;
  fb_cuda_get_info(c, &info);
  CHECK(strcmp(info.name, "Fake device 0") == 0 && info.major == 9 && info.minor == 0 && info.total_bytes == 1 << 20);
  fb_cuda_kernel *k;
  CHECK(fb_cuda_load(c, ptx, &k) == FB_OK);
  fb_cuda_block *blocks[2] = {must_get(c, 1000), must_get(c, 1000)};
  char from[1000], to[1000] = {0};
  for (int i = 0; i < 1000; i++)
    from[i] = (char)(i * 7);
  CHECK(fb_cuda_upload(c, blocks[0], 0, from, 1000) == FB_OK);
  const unsigned grid[3] = {5, 2, 3}, block[3] = {256, 1, 1};
  int64_t bytes = 1000;
  CHECK(fb_cuda_launch(c, k, grid, block, blocks, 2, &bytes, 1) == FB_OK);
  CHECK(fb_cuda_wait(c) == FB_OK);
  CHECK(fb_cuda_download(c, to, blocks[1], 10, 990) == FB_OK && memcmp(to, from + 10, 990) == 0);
  CHECK(memcmp(fake->grid, grid, sizeof grid) == 0 && memcmp(fake->block, block, sizeof block) == 0);
  CHECK(fake->parameters[2] == 1000 && fake->parameters[0] != fake->parameters[1]);
  fb_cuda_release(c, blocks[0]);
  fb_cuda_release(c, blocks[1]);
  fb_cuda_unload(c, k);
  fb_cuda_unload(c, NULL);
  fb_cuda_release(c, NULL);
  fb_cuda_close(c);
  CHECK(fake->contexts == 0 && fake->live_bytes == 0 && fake->live_modules == 0);
  CHECK(strncmp(fake->calls, "cuInit cuDeviceGetCount cuDeviceGet ", 36) == 0);
  CHECK(strstr(fake->calls, "cuMemcpyHtoD cuCtxSetCurrent cuLaunchKernel cuCtxSetCurrent cuCtxSynchronize ") != NULL);
}

static void test_no_driver(void) {
  fb_cuda *c = (fb_cuda *)fake;
  CHECK(fb_cuda_open("/nonexistent/libcuda.so", 0, &c) == FB_NO_DEVICE && c == NULL);
  CHECK(says("[cuda] no driver: /nonexistent/libcuda.so") && says("Install the NVIDIA driver"));
  CHECK(fb_cuda_open("libm.so.6", 0, &c) == FB_NO_DEVICE && says("libm.so.6 has no function cuInit"));
}

static void test_no_device(void) {
  fb_cuda *c;
  reset("cuInit", 1, 100);
  CHECK(fb_cuda_open(FAKE_CUDA, 0, &c) == FB_NO_DEVICE && c == NULL);
  CHECK(says("cuInit failed with CUDA_ERROR_NO_DEVICE (100: no description)") && says("device('cpu')"));
  reset("", 0, 0);
  CHECK(fb_cuda_open(FAKE_CUDA, 1, &c) == FB_NO_DEVICE && says("there is no device 1: the driver knows 1"));
  CHECK(fb_cuda_open(FAKE_CUDA, -1, &c) == FB_NO_DEVICE && says("there is no device -1"));
  fake->devices = 0;
  CHECK(fb_cuda_open(FAKE_CUDA, 0, &c) == FB_NO_DEVICE && says("there is no device 0: the driver knows 0"));
}

static void test_every_step_of_opening_may_fail(void) {
  static const char *const steps[] = {"cuDeviceGetCount",     "cuDeviceGet",      "cuDeviceGetName",
                                      "cuDeviceGetAttribute", "cuDeviceTotalMem", "cuDevicePrimaryCtxRetain"};
  for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
    fb_cuda *c;
    reset(steps[i], 1, 999);
    CHECK(fb_cuda_open(FAKE_CUDA, 0, &c) == FB_NO_DEVICE && c == NULL && says("failed with an unknown error (999"));
    CHECK(fake->contexts == 0);
  }
}

static void test_pool(void) {
  reset("", 0, 0);
  fb_cuda *c = open_fake();
  fb_cuda_info info;
  fb_cuda_block *a = must_get(c, 1000), *b = must_get(c, 0);
  CHECK(fake->live_bytes == 1024 + 512);
  fb_cuda_release(c, a);
  CHECK(must_get(c, 900) == a); /* of the same class */
  fb_cuda_release(c, a);
  fb_cuda_release(c, b);
  fb_cuda_get_info(c, &info);
  CHECK(info.live_bytes == 0 && info.reserved_bytes == 1536);
  CHECK(fb_cuda_trim(c) == 1536 && fb_cuda_trim(c) == 0 && fake->live_bytes == 0);
  for (size_t bytes = 1; bytes < 400000; bytes += bytes / 3 + 1) {
    a = must_get(c, bytes);
    fb_cuda_get_info(c, &info);
    CHECK(info.live_bytes >= bytes && info.live_bytes <= (bytes <= 512 ? 512 : bytes + bytes / 4));
    fb_cuda_release(c, a);
  }
  fb_cuda_close(c);
}

static void test_out_of_memory(void) {
  reset("", 0, 0);
  fb_cuda *c = open_fake();
  fb_cuda_block *kept = must_get(c, 512 << 10), *cached = must_get(c, 512 << 10), *b;
  CHECK(fb_cuda_alloc(c, 300 << 10, &b) == FB_OUT_OF_MEMORY && b == NULL);
  CHECK(says("[cuda] out of memory for 307200 bytes on Fake device 0: 1048576 of 1048576 bytes are in use"));
  fb_cuda_release(c, cached);
  b = must_get(c, 300 << 10); /* fits once the cached block is given back */
  CHECK(fb_cuda_alloc(c, (size_t)-1, &cached) == FB_OUT_OF_MEMORY && says("no device has as many"));
  CHECK(fb_cuda_alloc(c, (size_t)1 << 50, &cached) == FB_OUT_OF_MEMORY);
  fb_cuda_release(c, kept);
  fb_cuda_release(c, b);
  fb_cuda_close(c);
  reset("cuMemAlloc", 1, 719);
  c = open_fake();
  CHECK(fb_cuda_alloc(c, 8, &b) == FB_DEVICE_FAILED && b == NULL && says("cuMemAlloc failed with CUDA_ERROR_LAUNCH"));
  fb_cuda_close(c);
}

static void test_bad_ptx(void) {
  reset("", 0, 0);
  fb_cuda *c = open_fake();
  fb_cuda_kernel *k;
  CHECK(fb_cuda_load(c, "nonsense", &k) == FB_DEVICE_FAILED && k == NULL);
  CHECK(says("[cuda] compiling PTX failed with CUDA_ERROR_INVALID_PTX (218") && says("Missing .version directive"));
  CHECK(fb_cuda_load(c, ".version 7.8\n.visible .entry other()", &k) == FB_DEVICE_FAILED && k == NULL);
  CHECK(says("The PTX has no entry named kernel") && fake->live_modules == 0);
  fb_cuda_close(c);
  reset("cuModuleLoadDataEx", 1, 2);
  c = open_fake();
  CHECK(fb_cuda_load(c, ptx, &k) == FB_OUT_OF_MEMORY && says("CUDA_ERROR_OUT_OF_MEMORY"));
  fb_cuda_close(c);
}

static void test_launch_failures(void) {
  fb_cuda_kernel *k;
  fb_cuda_block *blocks[2];
  int64_t bytes = 8;
  reset("cuLaunchKernel", 1, 719);
  fb_cuda *c = open_fake();
  CHECK(fb_cuda_load(c, ptx, &k) == FB_OK);
  blocks[0] = must_get(c, 8);
  blocks[1] = must_get(c, 8);
  CHECK(fb_cuda_launch(c, k, one, one, blocks, 2, &bytes, 1) == FB_DEVICE_FAILED);
  CHECK(says("launching (1, 1, 1) blocks of (1, 1, 1) threads failed with CUDA_ERROR_LAUNCH_FAILED (719: unspecified"));
  CHECK(fb_cuda_launch(c, k, one, one, blocks, 2, &bytes, FB_CUDA_MAX_PARAMETERS) == FB_INVALID_ARGUMENT);
  CHECK(says("a launch with 514 parameters"));
  snprintf(fake->fail, sizeof fake->fail, "cuCtxSynchronize");
  fake->fail_call = 1;
  CHECK(fb_cuda_wait(c) == FB_DEVICE_FAILED && says("a kernel failed with CUDA_ERROR_LAUNCH_FAILED"));
  CHECK(says("restart it"));
  fb_cuda_release(c, blocks[0]);
  fb_cuda_release(c, blocks[1]);
  fb_cuda_unload(c, k);
  fb_cuda_close(c);
}

static void test_copy_failures(void) {
  char host[8] = {0};
  static const char *const calls[] = {"cuMemcpyHtoD", "cuMemcpyDtoH", "cuCtxSetCurrent"};
  for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
    reset("", 0, 0);
    fb_cuda *c = open_fake();
    fb_cuda_block *b = must_get(c, 8);
    CHECK(fb_cuda_upload(c, b, 8, host, 0) == FB_OK);
    CHECK(fb_cuda_upload(c, b, 1, host, 8) == FB_INVALID_ARGUMENT &&
          says("copy of 8 bytes at offset 1 of a block of 8"));
    CHECK(fb_cuda_download(c, host, b, 9, 0) == FB_INVALID_ARGUMENT);
    snprintf(fake->fail, sizeof fake->fail, "%s", calls[i]);
    fake->fail_call = 1;
    fake->error = 719;
    fb_status up = fb_cuda_upload(c, b, 0, host, 8), down = fb_cuda_download(c, host, b, 0, 8);
    CHECK(up == (i == 1 ? FB_OK : FB_DEVICE_FAILED) && down == (i == 1 ? FB_DEVICE_FAILED : FB_OK) && says(calls[i]));
    fb_cuda_release(c, b);
    fb_cuda_close(c);
  }
}

static void *work(void *device) {
  fb_cuda *c = device;
  for (int i = 0; i < 50; i++) {
    int64_t number = i, back = -1;
    fb_cuda_block *b = must_get(c, 8 + (size_t)(i % 5) * 600);
    CHECK(fb_cuda_upload(c, b, 0, &number, 8) == FB_OK && fb_cuda_download(c, &back, b, 0, 8) == FB_OK);
    CHECK(back == number);
    fb_cuda_release(c, b);
  }
  return NULL;
}

static void test_threads(void) {
  reset("", 0, 0);
  fb_cuda *c = open_fake();
  pthread_t threads[4];
  for (int i = 0; i < 4; i++)
    CHECK(pthread_create(&threads[i], NULL, work, c) == 0);
  for (int i = 0; i < 4; i++)
    pthread_join(threads[i], NULL);
  fb_cuda_info info;
  fb_cuda_get_info(c, &info);
  CHECK(info.live_bytes == 0 && info.reserved_bytes == fake->live_bytes);
  fb_cuda_close(c);
}

int main(void) {
  void *library = dlopen(FAKE_CUDA, RTLD_NOW);
  CHECK(library != NULL);
  void *symbol = dlsym(library, "fake_cuda");
  fake_cuda_fn state;
  memcpy(&state, &symbol, sizeof state);
  fake = state();
  RUN(test_copies_and_launch);
  RUN(test_no_driver);
  RUN(test_no_device);
  RUN(test_every_step_of_opening_may_fail);
  RUN(test_pool);
  RUN(test_out_of_memory);
  RUN(test_bad_ptx);
  RUN(test_launch_failures);
  RUN(test_copy_failures);
  RUN(test_threads);
  CHECK(fake->live_bytes == 0 && fake->live_modules == 0);
  dlclose(library);
  return 0;
}
