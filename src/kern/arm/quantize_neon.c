/* quantize_neon.c - activations to int8 (NUMERICS, "Activations as int8"). Every level of this architecture uses it. */
#include <arm_neon.h>

#include "kern/arm/arm.h"
#include "kern/panel.h"

#define QN_INFINITE 0x7f800000u /* this and above: not finite, as bits of a magnitude */

static uint32_t qn_max_bits(const float *x, uint32_t n)
{
    const uint32x4_t magnitude = vdupq_n_u32(0x7fffffff);
    uint32x4_t max = vdupq_n_u32(0);
    uint32_t i = 0, tail = 0;
    for (; i + 4 <= n; i += 4) max = vmaxq_u32(max, vandq_u32(vreinterpretq_u32_f32(vld1q_f32(x + i)), magnitude));
    for (; i < n; i++) {
        uint32_t u;
        memcpy(&u, x + i, sizeof u);
        u &= 0x7fffffff;
        tail = u > tail ? u : tail;
    }
    const uint32_t all = vmaxvq_u32(max);
    return all > tail ? all : tail;
}

/* Sixteen levels: rounded to nearest even. */
static int8x16_t qn_levels(const float *x, float inverse)
{
    int32x4_t q[4];
    for (unsigned i = 0; i < 4; i++) q[i] = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 4 * i), inverse));
    const int16x8_t low = vcombine_s16(vmovn_s32(q[0]), vmovn_s32(q[1]));
    const int16x8_t high = vcombine_s16(vmovn_s32(q[2]), vmovn_s32(q[3]));
    return vcombine_s8(vmovn_s16(low), vmovn_s16(high));
}

/* q[n] of n values, n a multiple of 16. Returns d; a block that is nearly zero is zero. */
static float qn_block(const float *x, uint32_t n, uint32_t max_bits, int8_t *q)
{
    float a;
    memcpy(&a, &max_bits, sizeof a);
    const int tiny = a < 1e-30f;
    const float inverse = tiny ? 0.0f : 127.0f / a;
    for (uint32_t i = 0; i < n; i += 16) vst1q_s8(q + i, qn_levels(x + i, inverse));
    return tiny ? 0.0f : a / 127.0f;
}

/* A short last block is filled up with zeros, whose levels are zero. */
static const float *qn_whole(const float *x, uint32_t n, uint32_t block, float *pad)
{
    if (n >= block) return x;
    memset(pad, 0, block * sizeof *pad);
    memcpy(pad, x, n * sizeof *pad);
    return pad;
}

static int qn_row_32(const float *x, uint32_t n, uint8_t *row)
{
    float pad[32];
    for (uint32_t k = 0; k < n; k += 32, row += sizeof(spark__act32)) {
        const float *block = qn_whole(x + k, n - k, 32, pad);
        const uint32_t max = qn_max_bits(block, 32);
        if (max >= QN_INFINITE) return 0;
        spark__act32 a;
        a.d = qn_block(block, 32, max, a.q);
        const int sum = vaddlvq_s8(vld1q_s8(a.q)) + vaddlvq_s8(vld1q_s8(a.q + 16));
        a.sum = (float)sum;
        a.m8 = -8 * sum;
        a.m16 = -16 * sum;
        a.m128 = -128 * sum;
        memcpy(row, &a, sizeof a);
    }
    return 1;
}

static int qn_row_256(const float *x, uint32_t n, uint8_t *row)
{
    float pad[256];
    for (uint32_t k = 0; k < n; k += 256, row += sizeof(spark__act256)) {
        const float *block = qn_whole(x + k, n - k, 256, pad);
        const uint32_t max = qn_max_bits(block, 256);
        if (max >= QN_INFINITE) return 0;
        spark__act256 a = {0};
        a.d = qn_block(block, 256, max, a.q);
        for (unsigned i = 0; i < 16; i++) {
            const int8x16_t q = vld1q_s8(a.q + 16 * i);
            const int low = vaddlv_s8(vget_low_s8(q)), high = vaddlv_s8(vget_high_s8(q));
            a.m8[2 * i] = (int16_t)(-32 * low);
            a.m8[2 * i + 1] = (int16_t)(-32 * high);
            a.m16[i] = (int16_t)(-16 * (low + high));
        }
        for (unsigned i = 0; i < 8; i++) {
            a.sum32[i] = (int16_t)((a.m16[2 * i] + a.m16[2 * i + 1]) / -16);
            a.m32[i] = (int16_t)(-8 * a.sum32[i]);
        }
        memcpy(row, &a, sizeof a);
    }
    return 1;
}

static int spark_k_quantize_neon(uint32_t act_block, const float *x, uint32_t n, uint8_t *row)
{
    if (act_block == 32) return qn_row_32(x, n, row);
    if (act_block == 256) return qn_row_256(x, n, row);
    memcpy(row, x, sizeof(float) * n);
    return qn_max_bits(x, n) < QN_INFINITE;
}

void spark__quantize_init_neon(spark_kern *k) { k->quantize = spark_k_quantize_neon; }
