/* levels_avx512.h - packed blocks of 16 rows as the operands of a product: unsigned levels and the head (scales, minima).
 * A format has one entry in levels_sub (32 columns of levels) and one in levels_head; both the kernels that take weights apart
 * once for many tokens and those that do it in registers use them. `type` is a constant wherever these are inlined.
 * Layouts: panel.h. Included by matmul_avx512.c only; everything static, because it is compiled for one level. */
#ifndef SPARK_KERN_X86_LEVELS_AVX512_H
#define SPARK_KERN_X86_LEVELS_AVX512_H

#include <immintrin.h>

#include "kern/panel.h"
#include "kern/quant.h"

typedef __m512i v16i;
typedef __m512 v16f;

/* How a product with 256-element blocks runs. Levels are unsigned: level * scale_up + offset, with the offset so chosen that the
 * sums of `dot` groups of four fit int16, where one vpdpwssd multiplies by the sub-scale; where they cannot, vpmulld does. */
typedef struct k_traits {
    unsigned dot;     /* groups of four columns whose products are summed before the sub-scale: 8, 4 or 2 */
    unsigned start;   /* where in spark__act256 the sums start that take the offset out of each dot; 0 = no start */
    unsigned n_scale; /* sub-scales in the head: 8 or 16 */
    unsigned
        n_off; /* pairs in the head that put back (dot starts) or take out (no start) the offset times s; 0, 4 or 8 */
    unsigned n_min; /* pairs of minima in the head: 0, 4 (of sum32) or 8 (of m16) */
    unsigned shift; /* isum is 2^shift too large */
    int wide;       /* vpmulld */
} k_traits;

#define K_START(field) ((unsigned)offsetof(spark__act256, field))

SPARK_INLINE k_traits k_traits_of(spark_type type)
{
    switch ((int)type) {
    case SPARK_TYPE_Q2_K: return (k_traits){4, 0, 16, 0, 8, 0, 0};
    case SPARK_TYPE_Q3_K: return (k_traits){4, K_START(m16), 16, 0, 0, 2, 0}; /* levels * 4 + 16 */
    case SPARK_TYPE_Q4_K: return (k_traits){8, K_START(m32), 8, 4, 4, 0, 0};  /* sums of q - 8, then + 8 * s * sum */
    case SPARK_TYPE_Q5_K: return (k_traits){4, K_START(m16), 8, 4, 4, 0, 0};  /* sums of q - 16 */
    case SPARK_TYPE_Q6_K: return (k_traits){2, K_START(m8), 16, 0, 0, 0, 0};
    case SPARK_TYPE_IQ4_XS: return (k_traits){8, 0, 8, 4, 0, 0, 1}; /* levels + 128, then - 128 * s * sum */
    default: return (k_traits){4, 0, 16, 8, 0, 0, 1};               /* any format: levels + 128 */
    }
}

/* Vectors of the head: d, [minimum], scales, pairs of the offset, pairs of minima. */
SPARK_INLINE unsigned k_head(k_traits t) { return 1u + (t.n_min != 0) + t.n_scale + t.n_off + t.n_min; }

/* ---- Small things ---------------------------------------------------------------------------------------------- */

SPARK_INLINE v16i l_line(const uint8_t *lines, size_t i) { return _mm512_load_si512(lines + i * PANEL_LINE); }
SPARK_INLINE v16i l_all8(int x) { return _mm512_set1_epi8((char)x); }
SPARK_INLINE v16i l_all32(int x) { return _mm512_set1_epi32(x); }
SPARK_INLINE v16i l_right(v16i x, unsigned n) { return _mm512_srli_epi32(x, n); }
SPARK_INLINE v16i l_left(v16i x, unsigned n) { return _mm512_slli_epi32(x, n); }
SPARK_INLINE v16i l_and(v16i a, v16i b) { return _mm512_and_si512(a, b); }
SPARK_INLINE v16i l_or_and(v16i a, v16i b, v16i mask)
{
    return _mm512_ternarylogic_epi32(a, b, mask, 0xf8);
} /* a | (b & mask) */
SPARK_INLINE v16f l_halves(const uint8_t *p) { return _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)p)); }
SPARK_INLINE void l_put(uint8_t *to, v16i x) { _mm512_store_si512(to, x); }
SPARK_INLINE void l_putf(uint8_t *to, v16f x) { _mm512_store_ps(to, x); }
/* x shifted so that bit `from` comes to bit `to` */
SPARK_INLINE v16i l_move(v16i x, unsigned from, unsigned to)
{
    return from > to ? l_right(x, from - to) : l_left(x, to - from);
}

/* Bytes j and j + 1 (j even) of each word as two 16-bit numbers. */
SPARK_INLINE v16i l_byte_pair(v16i x, unsigned j)
{
    const v16i w = l_right(x, 8 * j);
    return l_or_and(l_and(w, l_all32(0xff)), l_left(w, 8), l_all32(0xff0000));
}

/* 128 plus the levels of IQ4_NL and IQ4_XS: u8 indices 0..15 in each byte. */
SPARK_INLINE v16i l_iq4(v16i index)
{
    const __m128i table = _mm_setr_epi8(1, 24, 45, 63, 79, 93, 106, 118, (char)129, (char)141, (char)153, (char)166,
                                        (char)181, (char)197, (char)217, (char)241);
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), index);
}

/* Lines of block b: where its words begin. The constants repeat spark__plans so that they can be folded. */
SPARK_INLINE const uint8_t *l_block(spark_type type, const uint8_t *panel, size_t b)
{
    const unsigned n = type == SPARK_TYPE_Q4_1     ? 5
                       : type == SPARK_TYPE_Q5_0   ? 5
                       : type == SPARK_TYPE_Q5_1   ? 6
                       : type == SPARK_TYPE_Q8_0   ? 8
                       : type == SPARK_TYPE_Q2_K   ? 21
                       : type == SPARK_TYPE_Q3_K   ? 27
                       : type == SPARK_TYPE_Q4_K   ? 36
                       : type == SPARK_TYPE_Q5_K   ? 44
                       : type == SPARK_TYPE_Q6_K   ? 52
                       : type == SPARK_TYPE_IQ4_XS ? 34
                                                   : 4;
    const int half = type == SPARK_TYPE_Q4_0 || type == SPARK_TYPE_IQ4_NL || type == SPARK_TYPE_Q5_0 ||
                     type == SPARK_TYPE_Q8_0 || type == SPARK_TYPE_Q3_K || type == SPARK_TYPE_Q6_K;
    return panel + (b * n + (half ? b / 2 + 1 : 0)) * PANEL_LINE;
}

/* d of block b of a format with an odd half; `lines` = l_block. */
SPARK_INLINE v16f l_half_d(const uint8_t *lines, size_t b, unsigned n_words)
{
    return l_halves(b % 2 ? lines - (n_words + 1) * PANEL_LINE + PANEL_LINE / 2 : lines - PANEL_LINE);
}

/* ---- Blocks of 32 ---------------------------------------------------------------------------------------------- */

/* Eight lines of nibbles: low ones are columns 0..15, high ones 16..31. */
SPARK_INLINE void l_nibbles(const uint8_t *lines, v16i w[8])
{
    for (unsigned i = 0; i < 4; i++) {
        const v16i x = l_line(lines, i);
        w[i] = l_and(x, l_all8(15));
        w[4 + i] = l_and(l_right(x, 4), l_all8(15));
    }
}

SPARK_INLINE void l_fifth_bits(v16i spread, v16i w[8])
{
    for (unsigned i = 0; i < 8; i++) w[i] = l_or_and(w[i], l_move(spread, i, 4), l_all8(16));
}

/* Unsigned levels of one block of 32. */
SPARK_INLINE void l_levels_32(spark_type type, const uint8_t *lines, v16i w[8])
{
    switch ((int)type) {
    case SPARK_TYPE_Q4_0: l_nibbles(lines, w); break;
    case SPARK_TYPE_Q4_1: l_nibbles(lines + PANEL_LINE, w); break;
    case SPARK_TYPE_IQ4_NL:
        l_nibbles(lines, w);
        for (unsigned i = 0; i < 8; i++) w[i] = l_iq4(w[i]);
        break;
    case SPARK_TYPE_Q5_0:
        l_nibbles(lines + PANEL_LINE, w);
        l_fifth_bits(l_line(lines, 0), w);
        break;
    case SPARK_TYPE_Q5_1:
        l_nibbles(lines + 2 * PANEL_LINE, w);
        l_fifth_bits(l_line(lines, 1), w);
        break;
    default: /* Q8_0 */
        for (unsigned i = 0; i < 8; i++) w[i] = _mm512_xor_si512(l_line(lines, i), l_all8(0x80));
    }
}

/* Where spark__act32 holds the start that takes the offset of the levels out. Formats with a minimum have none. */
SPARK_INLINE unsigned l_start_32(spark_type type)
{
    if (type == SPARK_TYPE_Q4_0) return offsetof(spark__act32, m8);
    return type == SPARK_TYPE_Q5_0 ? offsetof(spark__act32, m16) : offsetof(spark__act32, m128);
}

SPARK_INLINE v16f l_d_32(spark_type type, const uint8_t *lines, size_t b)
{
    if (panel_has_min(type)) return l_halves(lines);
    return l_half_d(lines, b, type == SPARK_TYPE_Q5_0 ? 5 : type == SPARK_TYPE_Q8_0 ? 8 : 4);
}

/* ---- Blocks of 256 --------------------------------------------------------------------------------------------- */

/* Columns 32 j .. 32 j + 31 as unsigned levels. */
SPARK_INLINE void l_levels_256(spark_type type, const uint8_t *lines, unsigned j, v16i w[8])
{
    for (unsigned i = 0; i < 8; i++) {
        switch ((int)type) {
        case SPARK_TYPE_Q2_K: w[i] = l_and(l_right(l_line(lines, 4 + j / 4 * 8 + i), j % 4 * 2), l_all8(3)); break;
        case SPARK_TYPE_Q3_K: /* four times the level: the two bits at 2, the high one at 4 */
            w[i] = l_and(l_move(l_line(lines, 8 + j / 4 * 8 + i), j % 4 * 2, 2), l_all8(12));
            w[i] = l_or_and(w[i], l_move(l_line(lines, i), j, 4), l_all8(16));
            break;
        case SPARK_TYPE_Q4_K: w[i] = l_and(l_right(l_line(lines, 4 + j / 2 * 8 + i), j % 2 * 4), l_all8(15)); break;
        case SPARK_TYPE_Q5_K:
            w[i] = l_and(l_right(l_line(lines, 12 + j / 2 * 8 + i), j % 2 * 4), l_all8(15));
            w[i] = l_or_and(w[i], l_move(l_line(lines, 4 + i), j, 4), l_all8(16));
            break;
        case SPARK_TYPE_Q6_K:
            w[i] = l_and(l_right(l_line(lines, j / 4 * 16 + j % 2 * 8 + i), j % 4 / 2 * 4), l_all8(15));
            w[i] = l_or_and(w[i], l_move(l_line(lines, 32 + j / 4 * 8 + i), j % 4 * 2, 4), l_all8(0x30));
            break;
        default: /* IQ4_XS */ w[i] = l_iq4(l_and(l_right(l_line(lines, 2 + j * 4 + i % 4), i / 4 * 4), l_all8(15)));
        }
    }
}

/* The eight 6-bit scales and minima of Q4_K and Q5_K, four a word. */
SPARK_INLINE void l_scales_k4(const uint8_t *lines, v16i s[2], v16i m[2])
{
    const v16i a = l_line(lines, 1), b = l_line(lines, 2), c = l_line(lines, 3);
    s[0] = l_and(a, l_all8(63));
    m[0] = l_and(b, l_all8(63));
    s[1] = l_or_and(l_and(c, l_all8(15)), l_right(a, 2), l_all8(0x30));
    m[1] = l_or_and(l_and(l_right(c, 4), l_all8(15)), l_right(b, 2), l_all8(0x30));
}

/* Each writes vector i of the head to `to + i * step`. */
SPARK_INLINE void l_head_k4(spark_type type, const uint8_t *lines, uint8_t *to, size_t step)
{
    v16i s[2], m[2];
    l_scales_k4(lines, s, m);
    l_putf(to, l_halves(lines));
    l_putf(to + step, _mm512_sub_ps(_mm512_set1_ps(-0.0f), l_halves(lines + PANEL_LINE / 2)));
    for (unsigned j = 0; j < 8; j++) l_put(to + (2 + j) * step, l_and(l_right(s[j / 4], j % 4 * 8), l_all32(0xff)));
    for (unsigned p = 0; p < 4; p++) {
        l_put(to + (10 + p) * step, l_left(l_byte_pair(s[p / 2], p % 2 * 2), type == SPARK_TYPE_Q4_K ? 3 : 4));
        l_put(to + (14 + p) * step, l_byte_pair(m[p / 2], p % 2 * 2));
    }
}

/* Minima meet m16 = -16 * sum: their sign is turned already. */
SPARK_INLINE void l_head_q2k(const uint8_t *lines, uint8_t *to, size_t step)
{
    l_putf(to, l_halves(lines + 20 * PANEL_LINE));
    l_putf(to + step, l_halves(lines + 20 * PANEL_LINE + PANEL_LINE / 2));
    for (unsigned q = 0; q < 4; q++) {
        const v16i x = l_line(lines, q), m = l_and(l_right(x, 4), l_all8(15));
        for (unsigned j = 0; j < 4; j++) l_put(to + (2 + 4 * q + j) * step, l_and(l_right(x, 8 * j), l_all32(15)));
        l_put(to + (18 + 2 * q) * step, l_byte_pair(m, 0));
        l_put(to + (19 + 2 * q) * step, l_byte_pair(m, 2));
    }
}

/* Four signed bytes to four vectors of numbers for vpdpwssd: the high half of a lane must be zero. */
SPARK_INLINE void l_put_signed(v16i x, uint8_t *to, size_t step)
{
    for (unsigned j = 0; j < 4; j++) l_put(to + j * step, l_right(_mm512_srai_epi32(l_left(x, 24 - 8 * j), 8), 16));
}

SPARK_INLINE void l_head_q3k(const uint8_t *lines, size_t b, uint8_t *to, size_t step)
{
    l_putf(to, l_half_d(lines, b, 27));
    for (unsigned q = 0; q < 4; q++) {
        const v16i low = l_and(l_right(l_line(lines, 24 + q % 2), q / 2 * 4), l_all8(15));
        const v16i all = l_or_and(low, l_move(l_line(lines, 26), 2 * q, 4), l_all8(0x30));
        l_put_signed(_mm512_sub_epi8(all, l_all8(32)), to + (1 + 4 * q) * step, step);
    }
}

SPARK_INLINE void l_head_q6k(const uint8_t *lines, size_t b, uint8_t *to, size_t step)
{
    l_putf(to, l_half_d(lines, b, 52));
    for (unsigned q = 0; q < 4; q++) l_put_signed(l_line(lines, 48 + q), to + (1 + 4 * q) * step, step);
}

SPARK_INLINE void l_head_iq4xs(const uint8_t *lines, uint8_t *to, size_t step)
{
    const v16i low = l_line(lines, 1), high = _mm512_cvtepu16_epi32(_mm256_load_si256((const __m256i *)(lines + 32)));
    v16i s[8];
    for (unsigned j = 0; j < 8; j++) {
        s[j] = l_or_and(l_and(l_right(low, 4 * j), l_all32(15)), l_move(high, 2 * j, 4), l_all32(0x30));
        s[j] = _mm512_sub_epi32(s[j], l_all32(32));
        l_put(to + (1 + j) * step, s[j]);
    }
    for (unsigned p = 0; p < 4; p++) {
        const v16i pair = l_or_and(l_left(s[2 * p + 1], 16), s[2 * p], l_all32(0xffff));
        l_put(to + (9 + p) * step, _mm512_mullo_epi16(pair, _mm512_set1_epi16(-128)));
    }
    l_putf(to, l_halves(lines));
}

SPARK_INLINE void l_head_256(spark_type type, const uint8_t *lines, size_t b, uint8_t *to, size_t step)
{
    switch ((int)type) {
    case SPARK_TYPE_Q2_K: l_head_q2k(lines, to, step); break;
    case SPARK_TYPE_Q3_K: l_head_q3k(lines, b, to, step); break;
    case SPARK_TYPE_Q6_K: l_head_q6k(lines, b, to, step); break;
    case SPARK_TYPE_IQ4_XS: l_head_iq4xs(lines, to, step); break;
    default: l_head_k4(type, lines, to, step);
    }
}

#endif
