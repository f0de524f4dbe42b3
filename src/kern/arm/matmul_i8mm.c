/* matmul_i8mm.c - products with the int8 matrix instructions (FEAT_I8MM): two rows and two tokens at a time, eight columns
 * deep. A single token takes the dot product. */
#include "kern/arm/dot_sdot.h"

#define SPARK_K(name) name##_i8mm

/* Columns of two lines side by side, for rows 0 and 1 (low) and rows 2 and 3; the same work for every pair of tokens of a
 * tile, so the compiler does it once. */
SPARK_INLINE int8x16_t mb_low_rows(int8x16_t a, int8x16_t b)
{
    return vreinterpretq_s8_s32(vzip1q_s32(vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b)));
}
SPARK_INLINE int8x16_t mb_high_rows(int8x16_t a, int8x16_t b)
{
    return vreinterpretq_s8_s32(vzip2q_s32(vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b)));
}

SPARK_INLINE void mb_dot2(const int8x16_t *w, unsigned n, const int8_t *q0, const int8_t *q1, int32x4_t out[2])
{
    int32x4_t low = vdupq_n_s32(0), high = low; /* row 0 x tokens 0 and 1, row 1 x both; rows 2 and 3 */
    SPARK_UNROLL(4)
    for (unsigned i = 0; i < n; i += 2) {
        const int8x16_t a = vcombine_s8(vld1_s8(q0 + 4 * i), vld1_s8(q1 + 4 * i));
        low = vmmlaq_s32(low, mb_low_rows(w[i], w[i + 1]), a);
        high = vmmlaq_s32(high, mb_high_rows(w[i], w[i + 1]), a);
    }
    out[0] = vuzp1q_s32(low, high);
    out[1] = vuzp2q_s32(low, high);
}

#include "kern/arm/matmul_body.h"
