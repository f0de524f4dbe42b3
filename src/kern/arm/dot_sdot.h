/* dot_sdot.h - int8 products of four rows with one token by the dot-product instruction; for matmul_body.h. */
#ifndef SPARK_KERN_ARM_DOT_SDOT_H
#define SPARK_KERN_ARM_DOT_SDOT_H

#include <arm_neon.h>

#include "base/compiler.h"

SPARK_INLINE int32x4_t mb_dot(const int8x16_t *w, unsigned n, const int8_t *q)
{
    int32x4_t sum = vdupq_n_s32(0);
    SPARK_UNROLL(2)
    for (unsigned i = 0; i < n; i += 4) {
        const int8x16_t a = vld1q_s8(q + 4 * i);
        sum = vdotq_laneq_s32(sum, w[i], a, 0);
        sum = vdotq_laneq_s32(sum, w[i + 1], a, 1);
        sum = vdotq_laneq_s32(sum, w[i + 2], a, 2);
        sum = vdotq_laneq_s32(sum, w[i + 3], a, 3);
    }
    return sum;
}

#endif
