/* What tests ask of the fake CUDA driver: found in the library by name, as the driver's functions are. */
#ifndef FLAMBEAU_FAKE_CUDA_H
#define FLAMBEAU_FAKE_CUDA_H

#include <stddef.h>

typedef struct {
  int devices;         /* how many there are */
  size_t memory;       /* bytes of each */
  size_t live_bytes;   /* allocated now */
  int live_modules;    /* loaded now */
  int contexts;        /* retained now */
  int fail_call;       /* 1-based: which call of `fail` gives `error` */
  int error;           /* a CUresult */
  char fail[64];       /* the function that fails, or empty */
  char calls[1 << 15]; /* the names of all functions called, each followed by a space */
  unsigned grid[3], block[3];
  unsigned long long parameters[8]; /* of the last launch */
  int unreadable;                   /* blocks from now on lie where only the device sees them */
  int (*launch)(const char *ptx, const unsigned *grid, const unsigned *block, void **parameters); /* runs kernels */
} fake_cuda_state;

/* Exported as fake_cuda: the state, which tests read and write between calls. */
typedef fake_cuda_state *(*fake_cuda_fn)(void);

/* Exported as fake_cuda_seen: where the memory of an address on the device can be read and written. */
typedef void *(*fake_cuda_seen_fn)(unsigned long long address);

#endif
