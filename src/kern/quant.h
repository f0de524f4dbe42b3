/* quant.h - what the bytes of a weight block mean: exact values, integer levels, and the way back.
 * Promise: dequantization gives bit for bit the values of shared/data/quants (ggml's to_float, each operation rounded by
 *          itself); levels give the exact integer decomposition that NUMERICS.md defines products on.
 * Plain C only; speed is not needed here, meaning is. */
#ifndef SPARK_KERN_QUANT_H
#define SPARK_KERN_QUANT_H

#include "base/status.h"
#include "kern/types.h"

/* IEEE half and bfloat16, exact widening; narrowing rounds to nearest even (f16: overflow gives infinity). */
float spark_f16_to_f32(uint16_t h);
uint16_t spark_f32_to_f16(float x);
float spark_bf16_to_f32(uint16_t b);
uint16_t spark_f32_to_bf16(float x);

/* n weights (a multiple of block_elems) of any known type to float32. */
void spark_dequantize(spark_type type, const void *src, float *out, size_t n);

/* One block taken apart. Element e has the value  d * s[e / 16] * w[e] - dmin * m[e / 16]  (in exact arithmetic).
 * Blocks of 32 use s[0..1], m[0..1] and w[0..31]; without sub-scales s = 1; without a minimum dmin = 0 and m = 0.
 * Q4_1, Q5_1: dmin = -m of the file, m = 1. E.g. Q6_K: s = its signed 8-bit scales, w = q - 32. IQ1_*: w = 8g +- 1 with d / 8. */
typedef struct spark_levels {
    float d, dmin;
    int16_t s[16], m[16];
    int8_t w[256];
} spark_levels;

/* Quantized types only (act_block != 0). */
void spark_block_levels(spark_type type, const void *block, spark_levels *out);

/* Whether d, dmin (or each value, for float types) of n weights are finite; else *bad is the index of the first bad element. */
SPARK_MUST_CHECK int spark_weights_finite(spark_type type, const void *src, size_t n, size_t *bad);

/* Quantizes a row of n floats (n a multiple of block_elems) to F16, BF16, Q8_0, Q4_0, Q5_0, Q4_K or Q6_K; other types are
 * SPARK_E_UNSUPPORTED. A weight that is not finite or beyond what the format's scales reach (65504 times 127, 8, 16, 63, 4096;
 * F16 and BF16: what would round to infinity) is SPARK_E_NUMERIC with its index, before anything is written.
 * Deterministic, block by block; the error is that of ggml's reference quantizers without an importance matrix or less,
 * but for Q4_K with 20-sigma outliers: 2 % more (quant_test.c has the numbers). */
SPARK_MUST_CHECK spark_status spark_quantize(spark_type type, const float *src, void *dst, size_t n, spark_err *err);

#endif
