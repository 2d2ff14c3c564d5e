/* Functions that exist a second time for processors with multiply-adds, which is what their loops are about. GCC's
 * only: which processor there is, Clang's ask of a symbol that lld links into no shared module. Without, `fma` is a
 * call to libm's. */
#ifndef FB_FUSED_H
#define FB_FUSED_H

#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GLIBC__) && !defined(__clang__)
#define FUSED __attribute__((target_clones("fma", "default")))
#else
#define FUSED
#endif

#endif
