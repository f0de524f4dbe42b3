/* fpenv.h - the floating-point environment that NUMERICS.md demands: round to nearest even, denormals kept.
 * It is thread state, so every thread that computes enters it and gives the caller's back. */
#ifndef SPARK_BASE_FPENV_H
#define SPARK_BASE_FPENV_H

#include <stdint.h>

#include "base/compiler.h"

typedef struct spark_fpenv {
    uint64_t control;
} spark_fpenv;

#if defined(__x86_64__)
SPARK_INLINE spark_fpenv spark_fpenv_enter(void)
{
    const spark_fpenv saved = {__builtin_ia32_stmxcsr()};
    __builtin_ia32_ldmxcsr(0x1f80); /* all exceptions masked, nearest even, FTZ and DAZ off */
    return saved;
}
SPARK_INLINE void spark_fpenv_leave(spark_fpenv saved) { __builtin_ia32_ldmxcsr((uint32_t)saved.control); }
#elif defined(__aarch64__)
SPARK_INLINE spark_fpenv spark_fpenv_enter(void)
{
    spark_fpenv saved;
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved.control));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0)); /* nearest even, FZ, FZ16 and DN off */
    return saved;
}
SPARK_INLINE void spark_fpenv_leave(spark_fpenv saved) { __asm__ volatile("msr fpcr, %0" : : "r"(saved.control)); }
#else
#include <fenv.h>
SPARK_INLINE spark_fpenv spark_fpenv_enter(void)
{
    const spark_fpenv saved = {(uint64_t)fegetround()};
    fesetround(FE_TONEAREST);
    return saved;
}
SPARK_INLINE void spark_fpenv_leave(spark_fpenv saved) { fesetround((int)saved.control); }
#endif

#endif
