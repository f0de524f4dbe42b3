/* compiler.h - the only place for compiler extensions. */
#ifndef SPARK_BASE_COMPILER_H
#define SPARK_BASE_COMPILER_H

#define SPARK_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define SPARK_ALIGNED(n)        __attribute__((aligned(n)))
#define SPARK_INLINE            static inline __attribute__((always_inline, unused))
#define SPARK_UNUSED            __attribute__((unused))
/* A function that need not be linked: its address is NULL then. */
#define SPARK_WEAK        __attribute__((weak))
#define SPARK_CALLER()    __builtin_return_address(0)
#define SPARK_TRAP()      __builtin_trap() /* ends the process by a signal, without a system call */
#define SPARK_LIKELY(x)   __builtin_expect(!!(x), 1)
#define SPARK_UNLIKELY(x) __builtin_expect(!!(x), 0)
/* Before a loop whose count is a constant of at most n once inlined: it becomes straight code (kernels keep arrays in registers). */
#define SPARK_UNROLL(n)  SPARK_PRAGMA_(GCC unroll n)
#define SPARK_PRAGMA_(x) _Pragma(#x)
/* Asks for the cache line at p, which may be any address: to read it soon, to read it later or to write it later (both into the
 * second-level cache). */
#define SPARK_PREFETCH(p)       __builtin_prefetch(p)
#define SPARK_PREFETCH_LATER(p) __builtin_prefetch(p, 0, 2)
#define SPARK_PREFETCH_WRITE(p) __builtin_prefetch(p, 1, 2)
/* Bits below the lowest one that is set; x is not 0. */
#define SPARK_LOW_ZEROS(x) ((unsigned)__builtin_ctzll(x))
#define SPARK_COUNT(array) (sizeof(array) / sizeof((array)[0]))

__extension__ typedef unsigned __int128 spark_u128; /* products of two 64-bit numbers */

#endif
