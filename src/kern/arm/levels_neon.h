/* levels_neon.h - packed blocks as the operands of a product: for four rows of a panel (a quarter of each line, one register)
 * the signed levels of 32 columns, and the head (scales, minima) of a block. A format has one entry in nl_levels and one in
 * nl_head; the kernels that take weights apart once for many tokens and those that do it in registers use the same.
 * `type` is a constant wherever these are inlined; `lines` points to the quarter's part of a block's first word line.
 * Layouts: panel.h. Needs no more than base NEON; included by matmul_body.h, compiled for each level. */
#ifndef SPARK_KERN_ARM_LEVELS_NEON_H
#define SPARK_KERN_ARM_LEVELS_NEON_H

#include <arm_neon.h>

#include "base/compiler.h"
#include "kern/panel.h"
#include "kern/ref/quant_internal.h"

#define NL_ROWS   4u   /* rows of a quarter: 32-bit lanes of a register */
#define NL_GROUPS 8u   /* groups of 32 columns in a chunk of 256 */
#define NL_CHUNK  256u /* columns that are taken apart at a time */

/* How scales enter a product (NUMERICS): floats for every 32 columns, or integers for 32 or 16 of a block of 256. */
typedef enum nl_kind { NL_FLOAT_32, NL_INT_32, NL_INT_16 } nl_kind;

/* Scales of four rows and (up to) 256 columns. */
typedef struct nl_head {
    float d[NL_GROUPS][NL_ROWS], m[NL_GROUPS][NL_ROWS]; /* NL_FLOAT_32: one a group; else d, dmin of the block in [0] */
    int32_t s[16][NL_ROWS];                             /* sub-scales: 8 or 16 */
    int16_t min[16][NL_ROWS];                           /* sub-minima: 8 or 16, or unused */
} nl_head;

SPARK_INLINE nl_kind nl_kind_of(spark_type type)
{
    if (type == SPARK_TYPE_Q4_K || type == SPARK_TYPE_Q5_K || type == SPARK_TYPE_IQ4_XS) return NL_INT_32;
    const int blocks_of_32 = type == SPARK_TYPE_Q4_0 || type == SPARK_TYPE_Q4_1 || type == SPARK_TYPE_Q5_0 ||
                             type == SPARK_TYPE_Q5_1 || type == SPARK_TYPE_Q8_0 || type == SPARK_TYPE_IQ4_NL ||
                             type == SPARK_TYPE_MXFP4;
    return blocks_of_32 ? NL_FLOAT_32 : NL_INT_16;
}

/* ---- Small things ---------------------------------------------------------------------------------------------- */

SPARK_INLINE uint8x16_t nl_line(const uint8_t *lines, size_t i) { return vld1q_u8(lines + i * PANEL_LINE); }
SPARK_INLINE uint32x4_t nl_words(const uint8_t *lines, size_t i) { return vreinterpretq_u32_u8(nl_line(lines, i)); }
SPARK_INLINE uint8x16_t nl_all8(uint8_t x) { return vdupq_n_u8(x); }
SPARK_INLINE int8x16_t nl_signed(uint8x16_t x) { return vreinterpretq_s8_u8(x); }

/* The bits of `mask` after a shift of each byte that brings bit `from` to bit `to`. */
SPARK_INLINE uint8x16_t nl_move(uint8x16_t x, unsigned from, unsigned to, uint8_t mask)
{
    return vandq_u8(vshlq_u8(x, vdupq_n_s8((int8_t)((int)to - (int)from))), nl_all8(mask));
}

/* Level + offset, unsigned, to level. */
SPARK_INLINE int8x16_t nl_less(uint8x16_t x, int8_t offset) { return vsubq_s8(nl_signed(x), vdupq_n_s8(offset)); }

/* The levels of IQ4_NL and IQ4_XS. */
SPARK_INLINE int8x16_t nl_iq4(uint8x16_t index) { return vqtbl1q_s8(vld1q_s8(spark__iq4_levels), index); }

SPARK_INLINE float32x4_t nl_halves(const uint8_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16((const uint16_t *)(const void *)p)));
}

/* Byte k of each word, unsigned and signed. */
SPARK_INLINE int32x4_t nl_byte(uint32x4_t x, unsigned k)
{
    const uint32x4_t at_0 = vshlq_u32(x, vdupq_n_s32(-8 * (int)k));
    return vreinterpretq_s32_u32(vandq_u32(at_0, vdupq_n_u32(0xff)));
}
SPARK_INLINE int32x4_t nl_signed_byte(uint32x4_t x, unsigned k)
{
    return vshrq_n_s32(vreinterpretq_s32_u32(vshlq_u32(x, vdupq_n_s32(24 - 8 * (int)k))), 24);
}

/* Where block b of a panel lies: its word lines, and the line of d and the minimum (split: d in the first half). */
SPARK_INLINE const uint8_t *nl_block(spark_type type, const uint8_t *panel, size_t b)
{
    return panel + panel_words_line(&spark__plans[type], b) * PANEL_LINE;
}
SPARK_INLINE const uint8_t *nl_d(spark_type type, const uint8_t *panel, size_t b)
{
    const spark__plan *p = &spark__plans[type];
    if (p->half_at != PANEL_NONE) return panel + panel_half_at(p, b);
    return panel + (panel_words_line(p, b) + p->d_word) * PANEL_LINE;
}

/* ---- Levels ---------------------------------------------------------------------------------------------------- */

/* Words first..first + 3 hold nibbles: the low ones are columns 0..15, the high ones 16..31. */
SPARK_INLINE uint8x16_t nl_nibble(const uint8_t *lines, unsigned first, unsigned i)
{
    return nl_move(nl_line(lines, first + i % 4), i / 4 * 4, 0, 15);
}

/* Registers w[i] = columns 32 g + 4 i .. + 3 of the four rows. */
SPARK_INLINE void nl_levels(spark_type type, const uint8_t *lines, unsigned g, int8x16_t w[8])
{
    SPARK_UNROLL(8)
    for (unsigned i = 0; i < 8; i++) {
        uint8x16_t x;
        switch ((int)type) {
        case SPARK_TYPE_Q4_0: w[i] = nl_less(nl_nibble(lines, 0, i), 8); break;
        case SPARK_TYPE_Q4_1: w[i] = nl_signed(nl_nibble(lines, 1, i)); break;
        case SPARK_TYPE_Q5_0: /* fifth bits: spread words */
            x = vorrq_u8(nl_nibble(lines, 1, i), nl_move(nl_line(lines, 0), i, 4, 16));
            w[i] = nl_less(x, 16);
            break;
        case SPARK_TYPE_Q5_1:
            w[i] = nl_signed(vorrq_u8(nl_nibble(lines, 2, i), nl_move(nl_line(lines, 1), i, 4, 16)));
            break;
        case SPARK_TYPE_Q8_0: w[i] = nl_signed(nl_line(lines, i)); break;
        case SPARK_TYPE_IQ4_NL: w[i] = nl_iq4(nl_nibble(lines, 0, i)); break;
        case SPARK_TYPE_Q2_K: w[i] = nl_signed(nl_move(nl_line(lines, 4 + g / 4 * 8 + i), g % 4 * 2, 0, 3)); break;
        case SPARK_TYPE_Q3_K:
            x = nl_move(nl_line(lines, 8 + g / 4 * 8 + i), g % 4 * 2, 0, 3);
            w[i] = nl_less(vorrq_u8(x, nl_move(nl_line(lines, i), g, 2, 4)), 4);
            break;
        case SPARK_TYPE_Q4_K: w[i] = nl_signed(nl_move(nl_line(lines, 4 + g / 2 * 8 + i), g % 2 * 4, 0, 15)); break;
        case SPARK_TYPE_Q5_K:
            x = nl_move(nl_line(lines, 12 + g / 2 * 8 + i), g % 2 * 4, 0, 15);
            w[i] = nl_signed(vorrq_u8(x, nl_move(nl_line(lines, 4 + i), g, 4, 16)));
            break;
        case SPARK_TYPE_Q6_K:
            x = nl_move(nl_line(lines, g / 4 * 16 + g % 2 * 8 + i), g % 4 / 2 * 4, 0, 15);
            w[i] = nl_less(vorrq_u8(x, nl_move(nl_line(lines, 32 + g / 4 * 8 + i), g % 4 * 2, 4, 0x30)), 32);
            break;
        default: /* IQ4_XS */ w[i] = nl_iq4(nl_nibble(lines, 2 + g * 4, i));
        }
    }
}

/* ---- Heads ----------------------------------------------------------------------------------------------------- */

SPARK_INLINE void nl_put_min(nl_head *h, unsigned g, int32x4_t m) { vst1_s16(h->min[g], vmovn_s32(m)); }

/* Q4_K, Q5_K: eight 6-bit scales and minima in three words; the upper four take their high bits from the first eight bytes. */
SPARK_INLINE void nl_scales_k4(const uint8_t *lines, nl_head *h)
{
    const uint8x16_t a = nl_line(lines, 1), b = nl_line(lines, 2), c = nl_line(lines, 3);
    const uint8x16_t s[2] = {vandq_u8(a, nl_all8(63)), vorrq_u8(nl_move(c, 0, 0, 15), nl_move(a, 6, 4, 0x30))};
    const uint8x16_t m[2] = {vandq_u8(b, nl_all8(63)), vorrq_u8(nl_move(c, 4, 0, 15), nl_move(b, 6, 4, 0x30))};
    SPARK_UNROLL(8)
    for (unsigned g = 0; g < 8; g++) {
        vst1q_s32(h->s[g], nl_byte(vreinterpretq_u32_u8(s[g / 4]), g % 4));
        nl_put_min(h, g, nl_byte(vreinterpretq_u32_u8(m[g / 4]), g % 4));
    }
}

/* Q3_K: sixteen scales of 6 bits less 32: low nibbles in words 24 and 25, pairs of high bits in word 26. */
SPARK_INLINE void nl_scales_q3_k(const uint8_t *lines, nl_head *h)
{
    const uint8x16_t high = nl_line(lines, 26);
    SPARK_UNROLL(16)
    for (unsigned g = 0; g < 16; g++) {
        const uint8x16_t low = nl_move(nl_line(lines, 24 + g / 4 % 2), g / 8 * 4, 0, 15);
        const uint8x16_t s = vorrq_u8(low, nl_move(high, g / 4 * 2, 4, 0x30));
        vst1q_s32(h->s[g], vsubq_s32(nl_byte(vreinterpretq_u32_u8(s), g % 4), vdupq_n_s32(32)));
    }
}

/* IQ4_XS: eight scales of 6 bits less 32: low nibbles in word 1, pairs of high bits in the second halves of line 0. */
SPARK_INLINE void nl_scales_iq4_xs(const uint8_t *lines, const uint8_t *high_at, nl_head *h)
{
    const uint32x4_t low = nl_words(lines, 1), high = vmovl_u16(vld1_u16((const uint16_t *)(const void *)high_at));
    SPARK_UNROLL(8)
    for (unsigned g = 0; g < 8; g++) {
        const uint32x4_t l = vandq_u32(vshlq_u32(low, vdupq_n_s32(-4 * (int)g)), vdupq_n_u32(15));
        const uint32x4_t u = vandq_u32(vshlq_u32(high, vdupq_n_s32(4 - 2 * (int)g)), vdupq_n_u32(0x30));
        vst1q_s32(h->s[g], vsubq_s32(vreinterpretq_s32_u32(vorrq_u32(l, u)), vdupq_n_s32(32)));
    }
}

/* The head of quarter q of block b; a block of 32 fills entry g of d and m. */
SPARK_INLINE void nl_head_of(spark_type type, const uint8_t *panel, size_t b, unsigned q, unsigned g, nl_head *h)
{
    const uint8_t *lines = nl_block(type, panel, b) + 16 * q, *d = nl_d(type, panel, b) + 8 * q;
    vst1q_f32(h->d[g], nl_halves(d));
    if (panel_has_min(type)) vst1q_f32(h->m[g], nl_halves(d + PANEL_LINE / 2));
    switch ((int)type) {
    case SPARK_TYPE_Q2_K:
        SPARK_UNROLL(16)
        for (unsigned i = 0; i < 16; i++) {
            const int32x4_t x = nl_byte(nl_words(lines, i / 4), i % 4);
            vst1q_s32(h->s[i], vandq_s32(x, vdupq_n_s32(15)));
            nl_put_min(h, i, vshrq_n_s32(x, 4));
        }
        break;
    case SPARK_TYPE_Q3_K: nl_scales_q3_k(lines, h); break;
    case SPARK_TYPE_Q4_K:
    case SPARK_TYPE_Q5_K: nl_scales_k4(lines, h); break;
    case SPARK_TYPE_Q6_K:
        SPARK_UNROLL(16)
        for (unsigned i = 0; i < 16; i++) vst1q_s32(h->s[i], nl_signed_byte(nl_words(lines, 48 + i / 4), i % 4));
        break;
    case SPARK_TYPE_IQ4_XS: nl_scales_iq4_xs(lines, d + PANEL_LINE / 2, h); break;
    default: break; /* blocks of 32 have no sub-scales */
    }
}

#endif
