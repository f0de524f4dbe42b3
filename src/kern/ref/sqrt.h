/* sqrt.h - the IEEE square root without libm: the instruction where there is one, else integers. */
#ifndef SPARK_KERN_REF_SQRT_H
#define SPARK_KERN_REF_SQRT_H

#include <stdint.h>
#include <string.h>

/* Plain form, x >= 0: the root of the mantissa as an integer with one bit more than needed, then rounded. A root of a
 * float is never exactly between two floats, so "last bit set" means "above the middle". */
static inline float spark_sqrtf_soft(float x)
{
    if (!(x > 0) || x > 3.40282347e+38f) return x; /* +-0, infinity, NaN stay */
    int e = 0;
    if (x < 0x1p-100f) { /* denormals become normal: exact */
        x *= 0x1p24f;
        e = -12;
    }
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const int exponent = (int)(bits >> 23) - 127;
    uint64_t m = (bits & 0x7fffff) | 0x800000;
    m <<= 25 + (exponent & 1); /* root of [2^48, 2^50) has 25 bits */
    uint64_t root = 0;
    for (uint64_t bit = UINT64_C(1) << 24; bit != 0; bit >>= 1) {
        if ((root | bit) * (root | bit) <= m) root |= bit;
    }
    root = (root + 1) >> 1; /* 24 bits */
    e += (exponent - (exponent & 1)) / 2;
    const uint32_t scale_bits = (uint32_t)(e + 127 - 23) << 23;
    float scale;
    memcpy(&scale, &scale_bits, sizeof scale);
    return (float)root * scale;
}

#if defined(__x86_64__)
#include <xmmintrin.h>
static inline float spark_sqrtf(float x) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }
#elif defined(__aarch64__)
#include <arm_neon.h>
static inline float spark_sqrtf(float x) { return vget_lane_f32(vsqrt_f32(vdup_n_f32(x)), 0); }
#else
static inline float spark_sqrtf(float x) { return spark_sqrtf_soft(x); }
#endif

#endif
