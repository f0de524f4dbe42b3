/* quant_iq.c - super-blocks of lattice points: IQ2_*, IQ3_*, IQ1_*.
 * A block is 8 rows of 32 elements; a row is four groups of 8, each one point of 8 (IQ2, IQ1) or two of 4 (IQ3) with signs.
 * Sub-scales are odd numbers 2s + 1; the powers of two around them go into d, where they are exact.
 * The points themselves: quant_grids.c. Source: ggml's block structs. */
#include "base/bytes.h"
#include "kern/ref/quant_internal.h"

#define IQ_ROWS   8u
#define IQ_GROUPS 4u /* of a row, 8 elements each */

static const int8_t iq_levels2[4] = {8, 25, 43, 0}; /* the fourth index does not occur */
static const int8_t iq_levels3_xxs[8] = {4, 12, 20, 28, 36, 44, 52, 62};
static const int8_t iq_levels3_s[8] = {1, 3, 5, 7, 9, 11, 13, 15};

static float iq_half(const uint8_t *p) { return spark_f16_to_f32(spark_load_u16(p)); }

/* `count` bits of a byte from bit `at`. */
static unsigned iq_bits(uint8_t byte, unsigned at, unsigned count)
{
    return (unsigned)byte >> at & ((1u << count) - 1);
}

static int16_t iq_odd(uint32_t s) { return (int16_t)(2 * s + 1); }

/* Seven signs, and an eighth that makes their number even. */
static unsigned iq_even_signs(uint32_t seven)
{
    unsigned parity = seven ^ seven >> 4;
    parity ^= parity >> 2;
    parity ^= parity >> 1;
    return seven | (parity & 1) << 7;
}

/* Eight elements of one point; bit i of `signs` negates element i. */
static void iq_point8(uint16_t point, unsigned signs, int8_t *w)
{
    for (unsigned i = 0; i < 8; i++) {
        const int8_t level = iq_levels2[point >> 2 * i & 3];
        w[i] = (int8_t)(signs >> i & 1 ? -level : level);
    }
}

/* Four elements of one point. */
static void iq_point4(uint16_t point, const int8_t *levels, unsigned signs, int8_t *w)
{
    for (unsigned i = 0; i < 4; i++) {
        const int8_t level = levels[point >> 3 * i & 7];
        w[i] = (int8_t)(signs >> i & 1 ? -level : level);
    }
}

/* ---- IQ2 ------------------------------------------------------------------------------------------------------- */

/* d, then for each row four point numbers and 32 bits: four times seven signs, four bits of scale */
void spark__levels_iq2_xxs(const uint8_t *b, spark_levels *out)
{
    spark__levels_plain(out, iq_half(b) * 0.125f);
    for (unsigned row = 0; row < IQ_ROWS; row++) {
        const uint8_t *q = b + 2 + 8 * row;
        const uint32_t signs = spark_load_u32(q + 4);
        out->s[2 * row] = out->s[2 * row + 1] = iq_odd(signs >> 28);
        for (unsigned g = 0; g < IQ_GROUPS; g++)
            iq_point8(spark__grid_iq2_xxs[q[g]], iq_even_signs(signs >> 7 * g & 127), out->w + 32 * row + 8 * g);
    }
}

/* Sixteen scales of four bits. */
static void iq2_scales(const uint8_t *p, spark_levels *out)
{
    for (unsigned g = 0; g < 16; g++) out->s[g] = iq_odd(iq_bits(p[g / 2], g % 2 * 4, 4));
}

/* d, words[32] (nine bits of point, seven of signs), scales[8] */
void spark__levels_iq2_xs(const uint8_t *b, spark_levels *out)
{
    spark__levels_plain(out, iq_half(b) * 0.125f);
    iq2_scales(b + 66, out);
    for (unsigned g = 0; g < IQ_ROWS * IQ_GROUPS; g++) {
        const unsigned q = spark_load_u16(b + 2 + 2 * g);
        iq_point8(spark__grid_iq2_xs[q & 511], iq_even_signs(q >> 9), out->w + 8 * g);
    }
}

/* d, low[32] (eight bits of point), signs[32], high[8] (two more bits of four points), scales[8] */
void spark__levels_iq2_s(const uint8_t *b, spark_levels *out)
{
    spark__levels_plain(out, iq_half(b) * 0.125f);
    iq2_scales(b + 74, out);
    for (unsigned g = 0; g < IQ_ROWS * IQ_GROUPS; g++) {
        const unsigned high = iq_bits(b[66 + g / 4], g % 4 * 2, 2);
        iq_point8(spark__grid_iq2_s[b[2 + g] | high << 8], b[34 + g], out->w + 8 * g);
    }
}

/* ---- IQ3 ------------------------------------------------------------------------------------------------------- */

/* d, points[64], then for each row 32 bits: four times seven signs, four bits of scale */
void spark__levels_iq3_xxs(const uint8_t *b, spark_levels *out)
{
    spark__levels_plain(out, iq_half(b) * 0.25f);
    for (unsigned row = 0; row < IQ_ROWS; row++) {
        const uint8_t *q = b + 2 + 8 * row;
        const uint32_t signs = spark_load_u32(b + 66 + 4 * row);
        out->s[2 * row] = out->s[2 * row + 1] = iq_odd(signs >> 28);
        for (unsigned g = 0; g < IQ_GROUPS; g++) {
            const unsigned eight = iq_even_signs(signs >> 7 * g & 127);
            int8_t *w = out->w + 32 * row + 8 * g;
            iq_point4(spark__grid_iq3_xxs[q[2 * g]], iq_levels3_xxs, eight, w);
            iq_point4(spark__grid_iq3_xxs[q[2 * g + 1]], iq_levels3_xxs, eight >> 4, w + 4);
        }
    }
}

/* d, low[64] (eight bits of point), high[8] (the ninth of eight points), signs[32], scales[4] (four bits a row) */
void spark__levels_iq3_s(const uint8_t *b, spark_levels *out)
{
    spark__levels_plain(out, iq_half(b));
    for (unsigned g = 0; g < 16; g++) out->s[g] = iq_odd(iq_bits(b[106 + g / 4], g / 2 % 2 * 4, 4));
    for (unsigned p = 0; p < 2 * IQ_ROWS * IQ_GROUPS; p++) {
        const unsigned high = iq_bits(b[66 + p / 8], p % 8, 1), signs = iq_bits(b[74 + p / 2], p % 2 * 4, 4);
        iq_point4(spark__grid_iq3_s[b[2 + p] | high << 8], iq_levels3_s, signs, out->w + 4 * p);
    }
}

/* ---- IQ1 ------------------------------------------------------------------------------------------------------- */

/* Eight elements of a ternary point, each moved by an eighth up or down: 8 * (-1, 0, 1) +- 1 in eighths. */
static void iq1_point(uint16_t point, int down, int8_t *w)
{
    for (unsigned i = 0; i < 8; i++) w[i] = (int8_t)(8 * ((point >> 2 * i & 3) - 1) + (down ? -1 : 1));
}

/* d, low[32] (eight bits of point), then for each row 16 bits: four times three high bits, three of scale, one of shift */
void spark__levels_iq1_s(const uint8_t *b, spark_levels *out)
{
    spark__levels_plain(out, iq_half(b) * 0.125f);
    for (unsigned row = 0; row < IQ_ROWS; row++) {
        const unsigned q = spark_load_u16(b + 34 + 2 * row);
        out->s[2 * row] = out->s[2 * row + 1] = iq_odd(q >> 12 & 7u);
        for (unsigned g = 0; g < IQ_GROUPS; g++) {
            const unsigned high = q >> 3 * g & 7u;
            iq1_point(spark__grid_iq1[b[2 + 4 * row + g] | high << 8], q >> 15 != 0, out->w + 32 * row + 8 * g);
        }
    }
}

uint16_t spark__iq1_m_scale(const uint8_t *b)
{
    unsigned bits = 0;
    for (unsigned i = 0; i < 4; i++) bits |= (unsigned)spark_load_u16(b + 48 + 2 * i) >> 12 << 4 * i;
    return (uint16_t)bits;
}

/* low[32] (eight bits of point), high[16] (a nibble a point: three high bits, one of shift), four words: four times three bits
 * of scale, a nibble of d */
void spark__levels_iq1_m(const uint8_t *b, spark_levels *out)
{
    spark__levels_plain(out, spark_f16_to_f32(spark__iq1_m_scale(b)) * 0.125f);
    for (unsigned g = 0; g < 16; g++) out->s[g] = iq_odd((unsigned)spark_load_u16(b + 48 + g / 4 * 2) >> g % 4 * 3 & 7);
    for (unsigned p = 0; p < IQ_ROWS * IQ_GROUPS; p++) {
        const unsigned high = iq_bits(b[32 + p / 2], p % 2 * 4, 4);
        iq1_point(spark__grid_iq1[b[p] | (high & 7) << 8], high >> 3 != 0, out->w + 8 * p);
    }
}
