/* matmul_neon.c - products with base NEON: int8 products in int16, two lines to a sum, widened by pairs. */
#include <arm_neon.h>

#include "base/compiler.h"

#define SPARK_K(name) name##_neon

/* Four activations in each lane. */
SPARK_INLINE int8x16_t mb_all(const int8_t *q)
{
    return vreinterpretq_s8_s32(vld1q_dup_s32((const int32_t *)(const void *)q));
}

/* Two products are at most 2 * 128 * 127, which fits int16. */
SPARK_INLINE int32x4_t mb_dot(const int8x16_t *w, unsigned n, const int8_t *q)
{
    int32x4_t low = vdupq_n_s32(0), high = low; /* rows 0 and 1, rows 2 and 3: two halves of a sum each */
    SPARK_UNROLL(4)
    for (unsigned i = 0; i < n; i += 2) {
        const int8x16_t a = mb_all(q + 4 * i), b = mb_all(q + 4 * i + 4);
        const int16x8_t l = vmlal_s8(vmull_s8(vget_low_s8(w[i]), vget_low_s8(a)), vget_low_s8(w[i + 1]),
                                     vget_low_s8(b));
        low = vpadalq_s16(low, l);
        high = vpadalq_s16(high, vmlal_high_s8(vmull_high_s8(w[i], a), w[i + 1], b));
    }
    return vpaddq_s32(low, high);
}

SPARK_INLINE void mb_dot2(const int8x16_t *w, unsigned n, const int8_t *q0, const int8_t *q1, int32x4_t out[2])
{
    out[0] = mb_dot(w, n, q0);
    out[1] = mb_dot(w, n, q1);
}

#include "kern/arm/matmul_body.h"
