/* quant_basic.c - formats with one scale a block: Q4_0 to Q8_0, the 4-bit tables, the ternary ones.
 * Layouts as in GGUF: numbers little endian, a block's first half in the low nibbles. Source: ggml's block structs. */
#include "base/bytes.h"
#include "kern/ref/quant_internal.h"

static float basic_half(const uint8_t *p) { return spark_f16_to_f32(spark_load_u16(p)); }

void spark__levels_q4_0(const uint8_t *b, spark_levels *out)
{
    spark__levels_plain(out, basic_half(b));
    const uint8_t *q = b + 2;
    for (unsigned i = 0; i < 16; i++) {
        out->w[i] = (int8_t)((q[i] & 15) - 8);
        out->w[16 + i] = (int8_t)((q[i] >> 4) - 8);
    }
}

/* value = d * q + m. */
static void basic_plus_min(spark_levels *out, const uint8_t *b)
{
    spark__levels_plain(out, basic_half(b));
    out->dmin = -basic_half(b + 2);
    for (unsigned g = 0; g < SPARK_COUNT(out->m); g++) out->m[g] = 1;
}

void spark__levels_q4_1(const uint8_t *b, spark_levels *out)
{
    basic_plus_min(out, b);
    const uint8_t *q = b + 4;
    for (unsigned i = 0; i < 16; i++) {
        out->w[i] = (int8_t)(q[i] & 15);
        out->w[16 + i] = (int8_t)(q[i] >> 4);
    }
}

/* 32 fifth bits, then 32 nibbles. */
static void basic_five_bits(const uint8_t *p, int offset, int8_t *w)
{
    const uint32_t high = spark_load_u32(p);
    const uint8_t *q = p + 4;
    for (unsigned i = 0; i < 16; i++) {
        w[i] = (int8_t)(((q[i] & 15) | (int)(high >> i & 1) << 4) - offset);
        w[16 + i] = (int8_t)((q[i] >> 4 | (int)(high >> (16 + i) & 1) << 4) - offset);
    }
}

void spark__levels_q5_0(const uint8_t *b, spark_levels *out)
{
    spark__levels_plain(out, basic_half(b));
    basic_five_bits(b + 2, 16, out->w);
}

void spark__levels_q5_1(const uint8_t *b, spark_levels *out)
{
    basic_plus_min(out, b);
    basic_five_bits(b + 4, 0, out->w);
}

void spark__levels_q8_0(const uint8_t *b, spark_levels *out)
{
    spark__levels_plain(out, basic_half(b));
    memcpy(out->w, b + 2, 32);
}

/* ---- Tables of 16 levels --------------------------------------------------------------------------------------- */

const int8_t spark__iq4_levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/* Twice the E2M1 values 0, 0.5, 1, 1.5, 2, 3, 4, 6; the eighth bit is the sign, and minus zero is zero. */
static const int8_t basic_e2m1_levels[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static void basic_table(const uint8_t *q, const int8_t *levels, int8_t *w)
{
    for (unsigned i = 0; i < 16; i++) {
        w[i] = levels[q[i] & 15];
        w[16 + i] = levels[q[i] >> 4];
    }
}

void spark__levels_iq4_nl(const uint8_t *b, spark_levels *out)
{
    spark__levels_plain(out, basic_half(b));
    basic_table(b + 2, spark__iq4_levels, out->w);
}

/* The scale is 2^(e - 127) (E8M0), halved here because the levels are doubled. e < 2 gives a subnormal float. */
void spark__levels_mxfp4(const uint8_t *b, spark_levels *out)
{
    const uint32_t e = b[0], bits = e < 2 ? 0x00200000u << e : (e - 1) << 23;
    float d;
    memcpy(&d, &bits, sizeof d);
    spark__levels_plain(out, d);
    basic_table(b + 1, basic_e2m1_levels, out->w);
}

/* ---- Ternary --------------------------------------------------------------------------------------------------- */

/* Digit `n` of a byte that holds up to five base-3 digits as a fixed-point fraction of 256, the first one most significant. */
static int8_t basic_trit(uint8_t byte, unsigned n)
{
    static const uint8_t power[5] = {1, 3, 9, 27, 81};
    const uint8_t fraction = (uint8_t)(byte * power[n]);
    return (int8_t)((fraction * 3 >> 8) - 1);
}

/* 32 bytes of five digits, 16 of five, 4 of four; digits of one place lie side by side. */
void spark__levels_tq1_0(const uint8_t *b, spark_levels *out)
{
    static const struct {
        uint8_t n_bytes, n_digits;
    } runs[] = {{32, 5}, {16, 5}, {4, 4}};
    spark__levels_plain(out, basic_half(b + 52));
    int8_t *w = out->w;
    for (unsigned r = 0; r < SPARK_COUNT(runs); r++) {
        for (unsigned n = 0; n < runs[r].n_digits; n++)
            for (unsigned i = 0; i < runs[r].n_bytes; i++) *w++ = basic_trit(b[i], n);
        b += runs[r].n_bytes;
    }
}

void spark__levels_tq2_0(const uint8_t *b, spark_levels *out)
{
    spark__levels_plain(out, basic_half(b + 64));
    for (unsigned e = 0; e < QUANT_SUPER; e++)
        out->w[e] = (int8_t)((b[e / 128 * 32 + e % 32] >> e % 128 / 32 * 2 & 3) - 1);
}
