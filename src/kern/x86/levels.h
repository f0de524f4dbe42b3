/* levels.h - packed blocks of 16 rows as the operands of a product: unsigned levels and the head (scales, minima), for any
 * vector width; included once by the file of each level, everything static.
 * A format has one entry in l_levels_32 or l_levels_256 (32 columns of levels) and in l_head_256. `type` is a constant
 * wherever these are inlined.
 * Before the include: vi, vf and the operations l_* on them; k_traits_of; l_scale and l_scale_signed, which say how
 * a sub-scale stands in its lane. Layouts: panel.h. */
#ifndef SPARK_KERN_X86_LEVELS_H
#define SPARK_KERN_X86_LEVELS_H

/* The lines of one block; vectors of half a line take its first or second half. */
typedef struct l_src {
    const uint8_t *lines;
    unsigned half;
} l_src;

/* Vectors of the head: d, [minimum], scales, pairs of the offset, pairs of minima. */
SPARK_INLINE unsigned k_head(k_traits t) { return 1u + (t.n_min != 0) + t.n_scale + t.n_off + t.n_min; }

/* ---- Small things ---------------------------------------------------------------------------------------------- */

/* x shifted so that bit `from` comes to bit `to` */
SPARK_INLINE vi l_move(vi x, unsigned from, unsigned to)
{
    return from > to ? l_right(x, from - to) : l_left(x, to - from);
}

/* Bytes j and j + 1 (j even) of each word as two 16-bit numbers. */
SPARK_INLINE vi l_byte_pair(vi x, unsigned j)
{
    const vi w = l_right(x, 8 * j);
    return l_or_and(l_and(w, l_all32(0xff)), l_left(w, 8), l_all32(0xff0000));
}

/* 128 plus the levels of IQ4_NL and IQ4_XS: u8 indices 0..15 in each byte. */
SPARK_INLINE vi l_iq4(vi index)
{
    const __m128i table = _mm_setr_epi8(1, 24, 45, 63, 79, 93, 106, 118, (char)129, (char)141, (char)153, (char)166,
                                        (char)181, (char)197, (char)217, (char)241);
    return l_table(table, index);
}

/* Lines of words of a block. The constants repeat spark__plans so that they can be folded. */
SPARK_INLINE unsigned l_lines(spark_type type)
{
    return type == SPARK_TYPE_Q4_1     ? 5
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
}

/* Where the words of block b begin. */
SPARK_INLINE const uint8_t *l_block(spark_type type, const uint8_t *panel, size_t b)
{
    const int half = type == SPARK_TYPE_Q4_0 || type == SPARK_TYPE_IQ4_NL || type == SPARK_TYPE_Q5_0 ||
                     type == SPARK_TYPE_Q8_0 || type == SPARK_TYPE_Q3_K || type == SPARK_TYPE_Q6_K;
    return panel + (b * l_lines(type) + (half ? b / 2 + 1 : 0)) * PANEL_LINE;
}

/* d of block b of a format with an odd half. */
SPARK_INLINE vf l_half_d(l_src s, size_t b, int n_words)
{
    return l_halves(s, (b % 2 ? -(n_words + 1) * 64 + 32 : -64));
}

/* ---- Blocks of 32 ---------------------------------------------------------------------------------------------- */

/* Eight lines of nibbles: low ones are columns 0..15, high ones 16..31. */
SPARK_INLINE void l_nibbles(l_src s, unsigned first, vi w[8])
{
    for (unsigned i = 0; i < 4; i++) {
        const vi x = l_line(s, first + i);
        w[i] = l_and(x, l_all8(15));
        w[4 + i] = l_and(l_right(x, 4), l_all8(15));
    }
}

SPARK_INLINE void l_fifth_bits(vi spread, vi w[8])
{
    for (unsigned i = 0; i < 8; i++) w[i] = l_or_and(w[i], l_move(spread, i, 4), l_all8(16));
}

/* Unsigned levels of one block of 32. */
SPARK_INLINE void l_levels_32(spark_type type, l_src s, vi w[8])
{
    switch ((int)type) {
    case SPARK_TYPE_Q4_0: l_nibbles(s, 0, w); break;
    case SPARK_TYPE_Q4_1: l_nibbles(s, 1, w); break;
    case SPARK_TYPE_IQ4_NL:
        l_nibbles(s, 0, w);
        for (unsigned i = 0; i < 8; i++) w[i] = l_iq4(w[i]);
        break;
    case SPARK_TYPE_Q5_0:
        l_nibbles(s, 1, w);
        l_fifth_bits(l_line(s, 0), w);
        break;
    case SPARK_TYPE_Q5_1:
        l_nibbles(s, 2, w);
        l_fifth_bits(l_line(s, 1), w);
        break;
    default: /* Q8_0 */
        for (unsigned i = 0; i < 8; i++) w[i] = l_xor(l_line(s, i), l_all8(0x80));
    }
}

/* Where spark__act32 holds the start that takes the offset of the levels out. Formats with a minimum have none. */
SPARK_INLINE unsigned l_start_32(spark_type type)
{
    if (type == SPARK_TYPE_Q4_0) return offsetof(spark__act32, m8);
    return type == SPARK_TYPE_Q5_0 ? offsetof(spark__act32, m16) : offsetof(spark__act32, m128);
}

SPARK_INLINE vf l_d_32(spark_type type, l_src s, size_t b)
{
    if (panel_has_min(type)) return l_halves(s, 0);
    return l_half_d(s, b, type == SPARK_TYPE_Q5_0 ? 5 : type == SPARK_TYPE_Q8_0 ? 8 : 4);
}

/* ---- Blocks of 256 --------------------------------------------------------------------------------------------- */

/* Columns 32 j .. 32 j + 31 as unsigned levels. */
SPARK_INLINE void l_levels_256(spark_type type, l_src s, unsigned j, vi w[8])
{
    for (unsigned i = 0; i < 8; i++) {
        switch ((int)type) {
        case SPARK_TYPE_Q2_K: w[i] = l_and(l_right(l_line(s, 4 + j / 4 * 8 + i), j % 4 * 2), l_all8(3)); break;
        case SPARK_TYPE_Q3_K: /* four times the level: the two bits at 2, the high one at 4 */
            w[i] = l_and(l_move(l_line(s, 8 + j / 4 * 8 + i), j % 4 * 2, 2), l_all8(12));
            w[i] = l_or_and(w[i], l_move(l_line(s, i), j, 4), l_all8(16));
            break;
        case SPARK_TYPE_Q4_K: w[i] = l_and(l_right(l_line(s, 4 + j / 2 * 8 + i), j % 2 * 4), l_all8(15)); break;
        case SPARK_TYPE_Q5_K:
            w[i] = l_and(l_right(l_line(s, 12 + j / 2 * 8 + i), j % 2 * 4), l_all8(15));
            w[i] = l_or_and(w[i], l_move(l_line(s, 4 + i), j, 4), l_all8(16));
            break;
        case SPARK_TYPE_Q6_K:
            w[i] = l_and(l_right(l_line(s, j / 4 * 16 + j % 2 * 8 + i), j % 4 / 2 * 4), l_all8(15));
            w[i] = l_or_and(w[i], l_move(l_line(s, 32 + j / 4 * 8 + i), j % 4 * 2, 4), l_all8(0x30));
            break;
        default: /* IQ4_XS */ w[i] = l_iq4(l_and(l_right(l_line(s, 2 + j * 4 + i % 4), i / 4 * 4), l_all8(15)));
        }
    }
}

/* The eight 6-bit scales and minima of Q4_K and Q5_K, four a word. */
SPARK_INLINE void l_scales_k4(l_src l, vi s[2], vi m[2])
{
    const vi a = l_line(l, 1), b = l_line(l, 2), c = l_line(l, 3);
    s[0] = l_and(a, l_all8(63));
    m[0] = l_and(b, l_all8(63));
    s[1] = l_or_and(l_and(c, l_all8(15)), l_right(a, 2), l_all8(0x30));
    m[1] = l_or_and(l_and(l_right(c, 4), l_all8(15)), l_right(b, 2), l_all8(0x30));
}

/* Each l_head_* writes vector i of the head to `to + i * step`. */
SPARK_INLINE void l_head_k4(spark_type type, l_src l, uint8_t *to, size_t step)
{
    const k_traits k = k_traits_of(type);
    vi s[2], m[2];
    l_scales_k4(l, s, m);
    l_putf(to, l_halves(l, 0));
    l_putf(to + step, l_negative(l_halves(l, 32)));
    for (unsigned j = 0; j < 8; j++)
        l_put(to + (2 + j) * step, l_scale(l_and(l_right(s[j / 4], j % 4 * 8), l_all32(0xff))));
    for (unsigned p = 0; p < k.n_off; p++) /* 8 * s, 16 * s */
        l_put(to + (10 + p) * step, l_left(l_byte_pair(s[p / 2], p % 2 * 2), type == SPARK_TYPE_Q4_K ? 3 : 4));
    for (unsigned p = 0; p < 4; p++) l_put(to + (10 + k.n_off + p) * step, l_byte_pair(m[p / 2], p % 2 * 2));
}

/* Minima meet m16 = -16 * sum: their sign is turned already. */
SPARK_INLINE void l_head_q2k(l_src l, uint8_t *to, size_t step)
{
    l_putf(to, l_halves(l, 20 * 64));
    l_putf(to + step, l_halves(l, 20 * 64 + 32));
    for (unsigned q = 0; q < 4; q++) {
        const vi x = l_line(l, q), m = l_and(l_right(x, 4), l_all8(15));
        for (unsigned j = 0; j < 4; j++)
            l_put(to + (2 + 4 * q + j) * step, l_scale(l_and(l_right(x, 8 * j), l_all32(15))));
        l_put(to + (18 + 2 * q) * step, l_byte_pair(m, 0));
        l_put(to + (19 + 2 * q) * step, l_byte_pair(m, 2));
    }
}

/* Scales 4 q .. 4 q + 3, signed bytes of x; pairs of `times` them where the head has those. */
SPARK_INLINE void l_put_signed(k_traits k, vi x, unsigned q, unsigned times, uint8_t *to, size_t step)
{
    vi s[4];
    SPARK_UNROLL(4)
    for (unsigned j = 0; j < 4; j++) {
        s[j] = l_right(l_right_signed(l_left(x, 24 - 8 * j), 8), 16);
        l_put(to + (1 + 4 * q + j) * step, l_scale(s[j]));
    }
    SPARK_UNROLL(2)
    for (unsigned p = 0; p < k.n_off / 4; p++) {
        const vi pair = l_or_and(s[2 * p], l_left(s[2 * p + 1], 16), l_all32((int)0xffff0000));
        l_put(to + (17 + 2 * q + p) * step, times == 2 ? l_add16(pair, pair) : pair);
    }
}

SPARK_INLINE void l_head_q3k(l_src l, size_t b, uint8_t *to, size_t step)
{
    l_putf(to, l_half_d(l, b, 27));
    SPARK_UNROLL(4)
    for (unsigned q = 0; q < 4; q++) {
        const vi low = l_and(l_right(l_line(l, 24 + q % 2), q / 2 * 4), l_all8(15));
        const vi all = l_or_and(low, l_move(l_line(l, 26), 2 * q, 4), l_all8(0x30));
        l_put_signed(k_traits_of(SPARK_TYPE_Q3_K), l_sub8(all, l_all8(32)), q, 1, to, step);
    }
}

SPARK_INLINE void l_head_q6k(l_src l, size_t b, uint8_t *to, size_t step)
{
    l_putf(to, l_half_d(l, b, 52));
    SPARK_UNROLL(4)
    for (unsigned q = 0; q < 4; q++) l_put_signed(k_traits_of(SPARK_TYPE_Q6_K), l_line(l, 48 + q), q, 2, to, step);
}

SPARK_INLINE void l_head_iq4xs(l_src l, uint8_t *to, size_t step)
{
    const k_traits k = k_traits_of(SPARK_TYPE_IQ4_XS);
    const vi low = l_line(l, 1), high = l_words(l, 32);
    vi s[8];
    SPARK_UNROLL(8)
    for (unsigned j = 0; j < 8; j++) {
        s[j] = l_or_and(l_and(l_right(low, 4 * j), l_all32(15)), l_move(high, 2 * j, 4), l_all32(0x30));
        s[j] = l_sub32(s[j], l_all32(32));
        l_put(to + (1 + j) * step, l_scale_signed(s[j]));
    }
    SPARK_UNROLL(4)
    for (unsigned p = 0; p < k.n_off; p++) { /* -128 * s */
        const vi pair = l_or_and(l_left(s[2 * p + 1], 16), s[2 * p], l_all32(0xffff));
        l_put(to + (9 + p) * step, l_sub16(l_all32(0), l_left16(pair, 7)));
    }
    l_putf(to, l_halves(l, 0));
}

SPARK_INLINE void l_head_256(spark_type type, l_src l, size_t b, uint8_t *to, size_t step)
{
    switch ((int)type) {
    case SPARK_TYPE_Q2_K: l_head_q2k(l, to, step); break;
    case SPARK_TYPE_Q3_K: l_head_q3k(l, b, to, step); break;
    case SPARK_TYPE_Q6_K: l_head_q6k(l, b, to, step); break;
    case SPARK_TYPE_IQ4_XS: l_head_iq4xs(l, to, step); break;
    default: l_head_k4(type, l, to, step);
    }
}

#endif
