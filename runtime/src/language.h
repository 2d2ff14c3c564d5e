/* The runtime is C11. Whoever writes C++ may compile it along with his own files, as C++11 or later of GCC and Clang.
 */
#ifndef FLAMBEAU_LANGUAGE_H
#define FLAMBEAU_LANGUAGE_H

#ifdef __cplusplus
#include <stddef.h>
#include <stdint.h>

/* Members that a designated initializer leaves out are 0, which is meant. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#if defined(__clang__)
#pragma GCC diagnostic ignored "-Wunknown-warning-option"
#pragma GCC diagnostic ignored "-Wc99-designator"
#pragma GCC diagnostic ignored "-Wc++20-designator"
#endif

#define _Alignas(bytes) alignas(bytes)
#define _Static_assert static_assert
#define _Thread_local thread_local

/* What <stdatomic.h> says, on plain numbers: every access goes through one of these. */
#define _Atomic(type) type
typedef bool atomic_bool;
typedef int atomic_int;
typedef unsigned atomic_uint;
typedef long long atomic_llong;
typedef size_t atomic_size_t;
typedef int64_t atomic_int_least64_t;
typedef uint64_t atomic_uint_least64_t;
#define memory_order_relaxed __ATOMIC_RELAXED
#define memory_order_acquire __ATOMIC_ACQUIRE
#define memory_order_release __ATOMIC_RELEASE
#define memory_order_acq_rel __ATOMIC_ACQ_REL
#define memory_order_seq_cst __ATOMIC_SEQ_CST
#define atomic_init(at, value) __atomic_store_n(at, value, __ATOMIC_RELAXED)
#define atomic_load_explicit(at, order) __atomic_load_n(at, order)
#define atomic_load(at) __atomic_load_n(at, __ATOMIC_SEQ_CST)
#define atomic_store_explicit(at, value, order) __atomic_store_n(at, value, order)
#define atomic_store(at, value) __atomic_store_n(at, value, __ATOMIC_SEQ_CST)
#define atomic_exchange_explicit(at, value, order) __atomic_exchange_n(at, value, order)
#define atomic_fetch_add_explicit(at, value, order) __atomic_fetch_add(at, value, order)
#define atomic_fetch_add(at, value) __atomic_fetch_add(at, value, __ATOMIC_SEQ_CST)
#define atomic_fetch_sub_explicit(at, value, order) __atomic_fetch_sub(at, value, order)
#define atomic_fetch_or_explicit(at, value, order) __atomic_fetch_or(at, value, order)
#define atomic_fetch_sub(at, value) __atomic_fetch_sub(at, value, __ATOMIC_SEQ_CST)
#define atomic_compare_exchange_strong_explicit(at, expected, value, success, failure)                                 \
  __atomic_compare_exchange_n(at, expected, value, false, success, failure)
#define atomic_compare_exchange_weak_explicit(at, expected, value, success, failure)                                   \
  __atomic_compare_exchange_n(at, expected, value, true, success, failure)
#define atomic_compare_exchange_strong(at, expected, value)                                                            \
  __atomic_compare_exchange_n(at, expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
#else
#include <stdatomic.h>
#endif

#endif
