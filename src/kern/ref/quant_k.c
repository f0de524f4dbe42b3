/* quant_k.c - super-blocks of 256 with integer sub-scales: Q2_K to Q6_K and IQ4_XS.
 * Element e is found by three numbers: half = e / 128, row = e / 32 (0..7), lane = e % 32; its sub-scale is e / 16.
 * Source: ggml's block structs. */
#include "base/bytes.h"
#include "kern/ref/quant_internal.h"

static float k_half(const uint8_t *p) { return spark_f16_to_f32(spark_load_u16(p)); }

/* The two bits of element e: 32 bytes hold four rows of 32, the first in the lowest bits. */
static int k_two_bits(const uint8_t *q, unsigned e) { return q[e / 128 * 32 + e % 32] >> e % 128 / 32 * 2 & 3; }

/* The nibble of element e: 32 bytes hold two rows of 32, the first in the low nibbles. */
static int k_nibble(const uint8_t *q, unsigned e) { return q[e / 64 * 32 + e % 32] >> e % 64 / 32 * 4 & 15; }

/* scales[16] (minimum in the high nibble), q[64], d, dmin */
void spark__levels_q2_k(const uint8_t *b, spark_levels *out)
{
    out->d = k_half(b + 80);
    out->dmin = k_half(b + 82);
    for (unsigned g = 0; g < 16; g++) {
        out->s[g] = b[g] & 15;
        out->m[g] = b[g] >> 4;
    }
    for (unsigned e = 0; e < QUANT_SUPER; e++) out->w[e] = (int8_t)k_two_bits(b + 16, e);
}

/* high[32] (bit `row` of byte `lane`), q[64], scales[12], d. Scales: 16 low nibbles in 8 bytes, 16 high pairs in 4. */
void spark__levels_q3_k(const uint8_t *b, spark_levels *out)
{
    const uint8_t *scales = b + 96;
    spark__levels_plain(out, k_half(b + 108));
    for (unsigned g = 0; g < 16; g++) {
        const int low = scales[g % 8] >> g / 8 * 4 & 15, high = scales[8 + g % 4] >> g / 4 * 2 & 3;
        out->s[g] = (int16_t)((low | high << 4) - 32);
    }
    for (unsigned e = 0; e < QUANT_SUPER; e++) {
        const int high = b[e % 32] >> e / 32 & 1;
        out->w[e] = (int8_t)((k_two_bits(b + 32, e) | high << 2) - 4);
    }
}

/* d, dmin, then twelve bytes of 6-bit scales and minima, one pair for 32 elements. */
static void k_scales_k4(const uint8_t *b, spark_levels *out)
{
    out->d = k_half(b);
    out->dmin = k_half(b + 2);
    for (unsigned g = 0; g < 16; g++) {
        uint8_t scale, min;
        spark__k4_scale(b + 4, g / 2, &scale, &min);
        out->s[g] = scale;
        out->m[g] = min;
    }
}

/* d, dmin, scales[12], q[128] */
void spark__levels_q4_k(const uint8_t *b, spark_levels *out)
{
    k_scales_k4(b, out);
    for (unsigned e = 0; e < QUANT_SUPER; e++) out->w[e] = (int8_t)k_nibble(b + 16, e);
}

/* d, dmin, scales[12], high[32] (bit `row` of byte `lane`), q[128] */
void spark__levels_q5_k(const uint8_t *b, spark_levels *out)
{
    k_scales_k4(b, out);
    for (unsigned e = 0; e < QUANT_SUPER; e++) {
        const int high = b[16 + e % 32] >> e / 32 & 1;
        out->w[e] = (int8_t)(k_nibble(b + 48, e) | high << 4);
    }
}

/* low[128] (rows 0 and 1 of a half in the low nibbles, 2 and 3 in the high ones), high[64], scales[16], d */
void spark__levels_q6_k(const uint8_t *b, spark_levels *out)
{
    spark__levels_plain(out, k_half(b + 208));
    for (unsigned g = 0; g < 16; g++) out->s[g] = (int8_t)b[192 + g];
    for (unsigned e = 0; e < QUANT_SUPER; e++) {
        const int low = b[e / 128 * 64 + e % 64] >> e % 128 / 64 * 4 & 15;
        out->w[e] = (int8_t)((low | k_two_bits(b + 128, e) << 4) - 32);
    }
}

/* d, high pairs of the scales (16 bits), their low nibbles [4], q[128]: 16 bytes hold one row of 32, its halves in the nibbles */
void spark__levels_iq4_xs(const uint8_t *b, spark_levels *out)
{
    const unsigned high = spark_load_u16(b + 2);
    spark__levels_plain(out, k_half(b));
    for (unsigned g = 0; g < 16; g++) {
        const unsigned row = g / 2;
        const int scale = (b[4 + row / 2] >> row % 2 * 4 & 15) | (int)(high >> 2 * row & 3) << 4;
        out->s[g] = (int16_t)(scale - 32);
    }
    for (unsigned e = 0; e < QUANT_SUPER; e++)
        out->w[e] = spark__iq4_levels[b[8 + e / 32 * 16 + e % 16] >> e % 32 / 16 * 4 & 15];
}
