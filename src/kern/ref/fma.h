/* fma.h - a * b + c with one rounding, the same bits on every CPU.
 * Promise: where the target of this translation unit has the instruction it is used, else ours; never libm's. */
#ifndef SPARK_KERN_REF_FMA_H
#define SPARK_KERN_REF_FMA_H

/* The software form: exact product in double, sum rounded to odd, then to float. */
float spark_fmaf_soft(float a, float b, float c);

static inline float spark_fma(float a, float b, float c)
{
#if defined(__FMA__) || defined(__aarch64__)
    return __builtin_fmaf(a, b, c);
#else
    return spark_fmaf_soft(a, b, c);
#endif
}

#endif
