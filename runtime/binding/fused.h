/* Functions that exist a second time for processors with multiply-adds, which is what their loops are about. */
#ifndef FB_FUSED_H
#define FB_FUSED_H

#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GLIBC__)
#define FUSED __attribute__((target_clones("fma", "default")))
#else
#define FUSED
#endif

#endif
