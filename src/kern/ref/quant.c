/* quant.c - halves, and the one rule from levels to values.
 * Every quantized value is  d * s * w - dmin * m  with each operation rounded to float by itself, left to right. The products
 * are exact in float (at most 11 + 8 + 5 bits), so only the difference rounds, and formats without a minimum are exact.
 * What the bytes of each format are: quant_basic.c, quant_k.c, quant_iq.c. */
#include "kern/quant.h"

#include <assert.h>
#include <string.h>

#include "base/bytes.h"
#include "kern/ref/quant_internal.h"

static uint32_t quant_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static float quant_float(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

float spark_f16_to_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 0x3ff;
    if (exponent == 31) return quant_float(sign | 0x7f800000 | mantissa << 13);
    if (exponent == 0) return quant_float(sign | quant_bits((float)mantissa * 0x1p-24f));
    return quant_float(sign | (exponent + 127 - 15) << 23 | mantissa << 13);
}

uint16_t spark_f32_to_f16(float x)
{
    const uint32_t u = quant_bits(x), magnitude = u & 0x7fffffff;
    const uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
    if (magnitude > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff)); /* a quiet NaN */
    if (magnitude >= 0x477ff000) return sign | 0x7c00; /* 65520 and above: infinity */
    if (magnitude >= 0x38800000) { /* 2^-14 and above: a normal half; a carry goes into the exponent */
        const uint32_t even = magnitude >> 13 & 1;
        return (uint16_t)(sign | (magnitude - ((127u - 15u) << 23) + 0xfff + even) >> 13);
    }
    const uint32_t shift = 126 - (magnitude >> 23); /* to units of 2^-24 */
    if (shift > 24) return sign;                    /* below 2^-25 */
    const uint32_t mantissa = (magnitude & 0x7fffff) | 0x800000;
    const uint32_t h = mantissa >> shift, rest = mantissa & ((1u << shift) - 1), half = 1u << (shift - 1);
    return (uint16_t)(sign | (h + (rest > half || (rest == half && (h & 1) != 0))));
}

float spark_bf16_to_f32(uint16_t b) { return quant_float((uint32_t)b << 16); }

uint16_t spark_f32_to_bf16(float x)
{
    const uint32_t u = quant_bits(x);
    if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)(u >> 16 | 0x40); /* a quiet NaN */
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* ---- The table of formats -------------------------------------------------------------------------------------- */

#define QUANT_NO_HALF 0xffu

typedef struct quant_format {
    spark__levels_fn *levels;
    uint8_t d_at, dmin_at; /* where the block holds halves that must be finite, or QUANT_NO_HALF */
} quant_format;

static const quant_format quant_formats[SPARK_N_TYPES] = {
    [SPARK_TYPE_Q4_0] = {spark__levels_q4_0, 0, QUANT_NO_HALF},
    [SPARK_TYPE_Q4_1] = {spark__levels_q4_1, 0, 2},
    [SPARK_TYPE_Q5_0] = {spark__levels_q5_0, 0, QUANT_NO_HALF},
    [SPARK_TYPE_Q5_1] = {spark__levels_q5_1, 0, 2},
    [SPARK_TYPE_Q8_0] = {spark__levels_q8_0, 0, QUANT_NO_HALF},
    [SPARK_TYPE_Q2_K] = {spark__levels_q2_k, 80, 82},
    [SPARK_TYPE_Q3_K] = {spark__levels_q3_k, 108, QUANT_NO_HALF},
    [SPARK_TYPE_Q4_K] = {spark__levels_q4_k, 0, 2},
    [SPARK_TYPE_Q5_K] = {spark__levels_q5_k, 0, 2},
    [SPARK_TYPE_Q6_K] = {spark__levels_q6_k, 208, QUANT_NO_HALF},
    [SPARK_TYPE_IQ2_XXS] = {spark__levels_iq2_xxs, 0, QUANT_NO_HALF},
    [SPARK_TYPE_IQ2_XS] = {spark__levels_iq2_xs, 0, QUANT_NO_HALF},
    [SPARK_TYPE_IQ2_S] = {spark__levels_iq2_s, 0, QUANT_NO_HALF},
    [SPARK_TYPE_IQ3_XXS] = {spark__levels_iq3_xxs, 0, QUANT_NO_HALF},
    [SPARK_TYPE_IQ3_S] = {spark__levels_iq3_s, 0, QUANT_NO_HALF},
    [SPARK_TYPE_IQ1_S] = {spark__levels_iq1_s, 0, QUANT_NO_HALF},
    [SPARK_TYPE_IQ1_M] = {spark__levels_iq1_m, QUANT_NO_HALF, QUANT_NO_HALF},
    [SPARK_TYPE_IQ4_NL] = {spark__levels_iq4_nl, 0, QUANT_NO_HALF},
    [SPARK_TYPE_IQ4_XS] = {spark__levels_iq4_xs, 0, QUANT_NO_HALF},
    [SPARK_TYPE_TQ1_0] = {spark__levels_tq1_0, 52, QUANT_NO_HALF},
    [SPARK_TYPE_TQ2_0] = {spark__levels_tq2_0, 64, QUANT_NO_HALF},
    [SPARK_TYPE_MXFP4] = {spark__levels_mxfp4, QUANT_NO_HALF, QUANT_NO_HALF},
};

void spark__levels_plain(spark_levels *out, float d)
{
    out->d = d;
    out->dmin = 0;
    for (unsigned g = 0; g < SPARK_COUNT(out->s); g++) {
        out->s[g] = 1;
        out->m[g] = 0;
    }
}

void spark_block_levels(spark_type type, const void *block, spark_levels *out)
{
    assert(quant_formats[type].levels);
    quant_formats[type].levels(block, out);
}

/* ---- Values ---------------------------------------------------------------------------------------------------- */

/* Value `i` of a float type. */
static float quant_read_float(spark_type type, const uint8_t *p, size_t i)
{
    if (type == SPARK_TYPE_F32) return spark_load_f32(p + 4 * i);
    const uint16_t bits = spark_load_u16(p + 2 * i);
    return type == SPARK_TYPE_F16 ? spark_f16_to_f32(bits) : spark_bf16_to_f32(bits);
}

static void quant_block_values(spark_type type, const uint8_t *block, uint32_t n, float *out)
{
    spark_levels l;
    spark_block_levels(type, block, &l);
    for (uint32_t e = 0; e < n; e++) {
        const uint32_t group = e / 16;
        const float scale = l.d * (float)l.s[group], min = l.dmin * (float)l.m[group];
        out[e] = scale * (float)l.w[e] - min;
    }
}

void spark_dequantize(spark_type type, const void *src, float *out, size_t n)
{
    const spark_type_info *t = spark_type_lookup(type);
    assert(t && n % t->block_elems == 0);
    const uint8_t *p = src;
    if (t->act_block == 0) {
        for (size_t i = 0; i < n; i++) out[i] = quant_read_float(type, p, i);
        return;
    }
    for (size_t i = 0; i < n; i += t->block_elems, p += t->block_bytes)
        quant_block_values(type, p, t->block_elems, out + i);
}

/* ---- Finite or not --------------------------------------------------------------------------------------------- */

static bool quant_is_finite(float x) { return (quant_bits(x) & 0x7f800000) != 0x7f800000; }

static bool quant_half_is_finite(uint16_t h) { return (h & 0x7c00) != 0x7c00; }

/* MXFP4 alone can hold values above float's range: its scale is a power of two up to 2^127. 255 is NaN (OCP MX 1.0). */
static bool quant_mxfp4_is_finite(const uint8_t *block)
{
    if (block[0] == 255) return false;
    float value[32];
    quant_block_values(SPARK_TYPE_MXFP4, block, 32, value);
    for (unsigned e = 0; e < 32; e++)
        if (!quant_is_finite(value[e])) return false;
    return true;
}

static bool quant_block_is_finite(spark_type type, const uint8_t *block)
{
    if (type == SPARK_TYPE_MXFP4) return quant_mxfp4_is_finite(block);
    if (type == SPARK_TYPE_IQ1_M) return quant_half_is_finite(spark__iq1_m_scale(block));
    const quant_format *f = &quant_formats[type];
    return quant_half_is_finite(spark_load_u16(block + f->d_at)) &&
           (f->dmin_at == QUANT_NO_HALF || quant_half_is_finite(spark_load_u16(block + f->dmin_at)));
}

int spark_weights_finite(spark_type type, const void *src, size_t n, size_t *bad)
{
    const spark_type_info *t = spark_type_lookup(type);
    assert(t && n % t->block_elems == 0);
    const uint8_t *p = src;
    for (size_t i = 0; i < n; i += t->block_elems, p += t->block_bytes) {
        if (t->act_block == 0 ? quant_is_finite(quant_read_float(type, p, 0)) : quant_block_is_finite(type, p))
            continue;
        *bad = i;
        return 0;
    }
    return 1;
}
