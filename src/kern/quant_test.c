/* quant_test.c - the meaning of number formats: against the shared data, exact arithmetic, and itself read back. */
#include "kern/quant.h"

#include <inttypes.h>
#include <string.h>

#include "base/test.h"

static uint64_t quant_state;

static uint32_t quant_random(void)
{
    quant_state ^= quant_state << 13;
    quant_state ^= quant_state >> 7;
    quant_state ^= quant_state << 17;
    return (uint32_t)(quant_state >> 16);
}

static void quant_seed(void) { quant_state = 0x9e3779b97f4a7c15; }

static uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static float float_of(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static const spark_type all_types[] = {
#define TYPE_OF(name, id, elems, bytes, act) SPARK_TYPE_##name,
    SPARK_TYPE_LIST(TYPE_OF)
#undef TYPE_OF
};

#define FOR_TYPES(t) for (const spark_type *t = all_types; t < all_types + SPARK_COUNT(all_types); t++)

/* ---- Halves ---------------------------------------------------------------------------------------------------- */

/* 2^e by repeated doubling: exact. */
static double power_of_two(int e)
{
    double p = 1;
    for (; e > 0; e--) p *= 2;
    for (; e < 0; e++) p /= 2;
    return p;
}

static void test_every_half_widens_to_its_exact_value(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        const int exponent = (int)(h >> 10 & 31), mantissa = (int)(h & 1023);
        const float got = spark_f16_to_f32((uint16_t)h);
        assert_int_equal(bits_of(got) >> 31, h >> 15);
        if (exponent == 31 && mantissa != 0) {
            assert_true(got != got);
            continue;
        }
        double value = exponent == 0 ? mantissa * power_of_two(-24) : (1024 + mantissa) * power_of_two(exponent - 25);
        if (exponent == 31) value = (double)float_of(0x7f800000);
        assert_true((double)got == (h >> 15 ? -value : value));
    }
}

static void test_every_bfloat_widens_to_its_bits(void **state)
{
    (void)state;
    for (uint32_t b = 0; b < 65536; b++) assert_int_equal(bits_of(spark_bf16_to_f32((uint16_t)b)), b << 16);
}

static void test_every_half_narrows_back_to_itself(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        const float x = spark_f16_to_f32((uint16_t)h), y = spark_bf16_to_f32((uint16_t)h);
        if (x == x) assert_int_equal(spark_f32_to_f16(x), h);
        if (y == y) assert_int_equal(spark_f32_to_bf16(y), h);
        if (x != x) assert_true((spark_f32_to_f16(x) & 0x7fff) > 0x7c00); /* a NaN stays one */
        if (y != y) assert_true((spark_f32_to_bf16(y) & 0x7fff) > 0x7f80);
    }
}

/* Between any two neighbours: the tie goes to the even one, a float below or above it to the nearer one. */
static void assert_rounds_between(uint32_t h, float below, float above, uint16_t (*narrow)(float))
{
    const double middle = ((double)below + (double)above) / 2;
    const float tie = (float)middle;
    assert_true((double)tie == middle);
    for (uint32_t sign = 0; sign < 2; sign++) {
        const uint32_t s = sign << 31, top = sign << 15;
        assert_int_equal(narrow(float_of(bits_of(tie) | s)), (h + (h & 1)) | top);
        assert_int_equal(narrow(float_of((bits_of(tie) - 1) | s)), h | top);
        assert_int_equal(narrow(float_of((bits_of(tie) + 1) | s)), (h + 1) | top);
        assert_int_equal(narrow(float_of((bits_of(below) + 1) | s)), h | top);
    }
}

static void test_f16_rounds_to_nearest_even_between_all_neighbours(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7bff; h++)
        assert_rounds_between(h, spark_f16_to_f32((uint16_t)h), spark_f16_to_f32((uint16_t)(h + 1)), spark_f32_to_f16);
}

static void test_bf16_rounds_to_nearest_even_between_all_neighbours(void **state)
{
    (void)state;
    for (uint32_t b = 0; b < 0x7f7f; b++)
        assert_rounds_between(b, spark_bf16_to_f32((uint16_t)b), spark_bf16_to_f32((uint16_t)(b + 1)),
                              spark_f32_to_bf16);
}

static void test_narrowing_overflows_to_infinity(void **state)
{
    (void)state;
    assert_int_equal(spark_f32_to_f16(float_of(bits_of(65520.0f) - 1)), 0x7bff);
    assert_int_equal(spark_f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(spark_f32_to_f16(-3e38f), 0xfc00);
    assert_int_equal(spark_f32_to_f16(float_of(0x7f800000)), 0x7c00);
    assert_int_equal(spark_f32_to_bf16(float_of(0x7f7f7fff)), 0x7f7f);
    assert_int_equal(spark_f32_to_bf16(float_of(0x7f7f8000)), 0x7f80);
    assert_int_equal(spark_f32_to_f16(float_of(0x80000001)), 0x8000); /* the smallest subnormal float */
}

/* The nearest half by trying both neighbours, for floats of every exponent. */
static void test_f16_is_nearest_for_floats_of_every_exponent(void **state)
{
    (void)state;
    quant_seed();
    for (int i = 0; i < 500000; i++) {
        const float x = float_of(quant_random() & 0x7fffffff);
        if (!(x < 65504.0f)) continue;
        const uint16_t h = spark_f32_to_f16(x);
        const double at = (double)spark_f16_to_f32(h) - (double)x, off = at < 0 ? -at : at;
        assert_true((double)spark_f16_to_f32((uint16_t)(h + 1)) - (double)x >= off);
        if (h > 0) assert_true((double)x - (double)spark_f16_to_f32((uint16_t)(h - 1)) >= off);
    }
}

/* ---- Blocks ---------------------------------------------------------------------------------------------------- */

/* Values of all blocks of the shared data, or NULL; the caller frees both. */
static uint8_t *read_blocks(const spark_type_info *t, size_t *n, float **values)
{
    char name[64];
    size_t block_bytes, value_bytes;
    snprintf(name, sizeof name, "quants/%s.blocks.bin", t->name);
    const char *path = test_data(name);
    if (!path) return NULL;
    uint8_t *blocks = test_read(path, &block_bytes);
    snprintf(name, sizeof name, "quants/%s.f32.bin", t->name);
    path = test_data(name);
    assert_non_null(path);
    uint8_t *raw = test_read(path, &value_bytes);
    *n = value_bytes / 4;
    assert_int_equal(block_bytes, spark_type_row_bytes(t, *n));
    *values = malloc(value_bytes);
    memcpy(*values, raw, value_bytes);
    free(raw);
    return blocks;
}

static void test_dequantized_values_equal_the_shared_data_bit_for_bit(void **state)
{
    (void)state;
    unsigned n_types = 0;
    FOR_TYPES(type)
    {
        const spark_type_info *t = spark_type_lookup(*type);
        size_t n;
        float *expected;
        uint8_t *blocks = read_blocks(t, &n, &expected);
        if (!blocks) continue;
        float *got = malloc(n * sizeof *got);
        spark_dequantize(*type, blocks, got, n);
        for (size_t i = 0; i < n; i++)
            if (bits_of(got[i]) != bits_of(expected[i]))
                fail_msg("%s[%zu]: got %a expected %a", t->name, i, (double)got[i], (double)expected[i]);
        n_types++;
        free(got);
        free(expected);
        free(blocks);
    }
    if (n_types == 0) skip();
    assert_int_equal(n_types, 24); /* all but F32 */
}

/* Fills n blocks with random bytes whose scales are finite. */
static void random_blocks(spark_type type, uint8_t *blocks, size_t n)
{
    const spark_type_info *t = spark_type_lookup(type);
    for (size_t b = 0; b < n; b++) {
        size_t bad;
        do {
            for (size_t i = 0; i < t->block_bytes; i++) blocks[b * t->block_bytes + i] = (uint8_t)quant_random();
        } while (!spark_weights_finite(type, blocks + b * t->block_bytes, t->block_elems, &bad));
    }
}

/* d * s * w and dmin * m are exact in double, and so is nearly always their difference; it rounds once to the value. */
static void assert_levels_give_values(spark_type type, const uint8_t *block)
{
    const spark_type_info *t = spark_type_lookup(type);
    spark_levels l;
    float value[256];
    spark_block_levels(type, block, &l);
    spark_dequantize(type, block, value, t->block_elems);
    for (unsigned e = 0; e < t->block_elems; e++) {
        const double product = (double)l.d * l.s[e / 16] * l.w[e], minimum = (double)l.dmin * l.m[e / 16];
        if ((float)(product - minimum) != value[e])
            fail_msg("%s element %u: levels give %a, value is %a", t->name, e, product - minimum, (double)value[e]);
        if (minimum == 0) assert_true(product == (double)value[e]);
    }
}

static void test_levels_give_exactly_the_values(void **state)
{
    (void)state;
    quant_seed();
    FOR_TYPES(type)
    {
        const spark_type_info *t = spark_type_lookup(*type);
        if (t->act_block == 0) continue;
        uint8_t random[256 * 2];
        for (int i = 0; i < 200; i++) {
            random_blocks(*type, random, 1);
            assert_levels_give_values(*type, random);
        }
        size_t n;
        float *values;
        uint8_t *blocks = read_blocks(t, &n, &values);
        if (!blocks) continue;
        for (size_t i = 0; i < n / t->block_elems; i++) assert_levels_give_values(*type, blocks + i * t->block_bytes);
        free(values);
        free(blocks);
    }
}

/* What NUMERICS.md's table says of levels, sub-scales and minima; its products fit int32 only because of this. */
static void test_levels_stay_inside_the_ranges_of_numerics(void **state)
{
    (void)state;
    static const struct {
        spark_type type;
        int w_low, w_high, s_low, s_high, m_high;
    } ranges[] = {
        {SPARK_TYPE_Q4_0, -8, 7, 1, 1, 0},       {SPARK_TYPE_Q4_1, 0, 15, 1, 1, 1},
        {SPARK_TYPE_Q5_0, -16, 15, 1, 1, 0},     {SPARK_TYPE_Q5_1, 0, 31, 1, 1, 1},
        {SPARK_TYPE_Q8_0, -128, 127, 1, 1, 0},   {SPARK_TYPE_Q2_K, 0, 3, 0, 15, 15},
        {SPARK_TYPE_Q3_K, -4, 3, -32, 31, 0},    {SPARK_TYPE_Q4_K, 0, 15, 0, 63, 63},
        {SPARK_TYPE_Q5_K, 0, 31, 0, 63, 63},     {SPARK_TYPE_Q6_K, -32, 31, -128, 127, 0},
        {SPARK_TYPE_IQ4_NL, -127, 113, 1, 1, 0}, {SPARK_TYPE_IQ4_XS, -127, 113, -32, 31, 0},
        {SPARK_TYPE_IQ2_XXS, -43, 43, 1, 31, 0}, {SPARK_TYPE_IQ2_XS, -43, 43, 1, 31, 0},
        {SPARK_TYPE_IQ2_S, -43, 43, 1, 31, 0},   {SPARK_TYPE_IQ3_XXS, -62, 62, 1, 31, 0},
        {SPARK_TYPE_IQ3_S, -15, 15, 1, 31, 0},   {SPARK_TYPE_IQ1_S, -9, 9, 1, 15, 0},
        {SPARK_TYPE_IQ1_M, -9, 9, 1, 15, 0},     {SPARK_TYPE_TQ1_0, -1, 1, 1, 1, 0},
        {SPARK_TYPE_TQ2_0, -1, 2, 1, 1, 0},      {SPARK_TYPE_MXFP4, -12, 12, 1, 1, 0},
    };
    quant_seed();
    for (size_t r = 0; r < SPARK_COUNT(ranges); r++) {
        const spark_type_info *t = spark_type_lookup(ranges[r].type);
        int low = 127, high = -128;
        for (int i = 0; i < 500; i++) {
            uint8_t block[256 * 2];
            spark_levels l;
            random_blocks(ranges[r].type, block, 1);
            spark_block_levels(ranges[r].type, block, &l);
            for (unsigned e = 0; e < t->block_elems; e++) {
                low = l.w[e] < low ? l.w[e] : low;
                high = l.w[e] > high ? l.w[e] : high;
                assert_in_range(l.s[e / 16] + 1000, ranges[r].s_low + 1000, ranges[r].s_high + 1000);
                assert_in_range(l.m[e / 16], 0, ranges[r].m_high);
            }
        }
        assert_int_equal(low, ranges[r].w_low);
        assert_int_equal(high, ranges[r].w_high);
    }
}

/* FNV-1a over the bits of 64 random blocks, for machines without the shared data. Recorded when all its blocks passed. */
static void test_values_of_random_blocks_are_the_recorded_ones(void **state)
{
    (void)state;
    static const uint64_t recorded[SPARK_N_TYPES] = {
        [SPARK_TYPE_F32] = 0x1f0d748ea03be8b9,     [SPARK_TYPE_F16] = 0x4eec4745852fc825,
        [SPARK_TYPE_Q4_0] = 0x63a035d450de9b25,    [SPARK_TYPE_Q4_1] = 0x0e7f207c93299ce8,
        [SPARK_TYPE_Q5_0] = 0xeb4e03db3c969f25,    [SPARK_TYPE_Q5_1] = 0x9d66d5d86e55337a,
        [SPARK_TYPE_Q8_0] = 0x7221203a8f8e3f25,    [SPARK_TYPE_Q2_K] = 0x986dddd1b20739c6,
        [SPARK_TYPE_Q3_K] = 0x644e126c876f09e5,    [SPARK_TYPE_Q4_K] = 0x865edd34354662fb,
        [SPARK_TYPE_Q5_K] = 0x3bdc16d1ac4a8138,    [SPARK_TYPE_Q6_K] = 0x7546334eaebe3e85,
        [SPARK_TYPE_IQ2_XXS] = 0x653c0788885e461d, [SPARK_TYPE_IQ2_XS] = 0x5017009d26f190e1,
        [SPARK_TYPE_IQ3_XXS] = 0x9dde5d54e95cbdad, [SPARK_TYPE_IQ1_S] = 0x5713a90623af4ca5,
        [SPARK_TYPE_IQ4_NL] = 0x6fb634d0929be525,  [SPARK_TYPE_IQ3_S] = 0xdb33aba4fb02d435,
        [SPARK_TYPE_IQ2_S] = 0xdf1938e664e53e3d,   [SPARK_TYPE_IQ4_XS] = 0xbf74a2d475d93b15,
        [SPARK_TYPE_IQ1_M] = 0xc8d10bf912952665,   [SPARK_TYPE_BF16] = 0x2fb21c2861410825,
        [SPARK_TYPE_TQ1_0] = 0x0841d98de13aa325,   [SPARK_TYPE_TQ2_0] = 0xde90ebd42d324325,
        [SPARK_TYPE_MXFP4] = 0x2c1d3424eaeec325,
    };
    FOR_TYPES(type)
    {
        const spark_type_info *t = spark_type_lookup(*type);
        uint8_t blocks[64 * 256];
        float values[64 * 256];
        quant_seed();
        random_blocks(*type, blocks, 64);
        spark_dequantize(*type, blocks, values, 64 * t->block_elems);
        uint64_t hash = 0xcbf29ce484222325;
        for (size_t i = 0; i < 64 * t->block_elems; i++) hash = (hash ^ bits_of(values[i])) * 0x100000001b3;
        if (hash != recorded[*type]) fail_msg("%s: values have hash 0x%016" PRIx64, t->name, hash);
    }
}

/* ---- Not finite ------------------------------------------------------------------------------------------------ */

/* Where a block holds its halves; -1 = none. */
static const struct {
    spark_type type;
    int half[2];
} half_at[] = {
    {SPARK_TYPE_F16, {0, -1}},    {SPARK_TYPE_Q4_0, {0, -1}},   {SPARK_TYPE_Q4_1, {0, 2}},
    {SPARK_TYPE_Q5_0, {0, -1}},   {SPARK_TYPE_Q5_1, {0, 2}},    {SPARK_TYPE_Q8_0, {0, -1}},
    {SPARK_TYPE_Q2_K, {80, 82}},  {SPARK_TYPE_Q3_K, {108, -1}}, {SPARK_TYPE_Q4_K, {0, 2}},
    {SPARK_TYPE_Q5_K, {0, 2}},    {SPARK_TYPE_Q6_K, {208, -1}}, {SPARK_TYPE_IQ2_XXS, {0, -1}},
    {SPARK_TYPE_IQ2_XS, {0, -1}}, {SPARK_TYPE_IQ2_S, {0, -1}},  {SPARK_TYPE_IQ3_XXS, {0, -1}},
    {SPARK_TYPE_IQ3_S, {0, -1}},  {SPARK_TYPE_IQ1_S, {0, -1}},  {SPARK_TYPE_IQ4_NL, {0, -1}},
    {SPARK_TYPE_IQ4_XS, {0, -1}}, {SPARK_TYPE_TQ1_0, {52, -1}}, {SPARK_TYPE_TQ2_0, {64, -1}},
};

static void test_an_infinite_or_nan_scale_is_found_at_its_block(void **state)
{
    (void)state;
    quant_seed();
    for (size_t i = 0; i < 2 * SPARK_COUNT(half_at); i++) {
        const spark_type type = half_at[i / 2].type;
        const spark_type_info *t = spark_type_lookup(type);
        const int at = half_at[i / 2].half[i % 2];
        if (at < 0) continue;
        uint8_t blocks[3 * 256];
        size_t bad = 77;
        random_blocks(type, blocks, 3);
        assert_true(spark_weights_finite(type, blocks, 3 * t->block_elems, &bad));
        assert_int_equal(bad, 77);
        for (unsigned high = 0x7c; high <= 0xfe; high += high == 0x7c ? 2 : 0x80) { /* infinity, NaN, -NaN */
            blocks[2 * t->block_bytes + (unsigned)at] = 0;
            blocks[2 * t->block_bytes + (unsigned)at + 1] = (uint8_t)high;
            assert_false(spark_weights_finite(type, blocks, 3 * t->block_elems, &bad));
            assert_int_equal(bad, 2 * t->block_elems);
        }
    }
}

static void test_formats_without_a_plain_half_find_what_is_not_finite(void **state)
{
    (void)state;
    size_t bad;
    uint8_t iq1_m[56] = {0};
    assert_true(spark_weights_finite(SPARK_TYPE_IQ1_M, iq1_m, 256, &bad));
    iq1_m[55] = 0x70; /* the top nibbles of words 3 and 2 together: 0x7c00 */
    iq1_m[53] = 0xc0;
    assert_false(spark_weights_finite(SPARK_TYPE_IQ1_M, iq1_m, 256, &bad));

    uint8_t mxfp4[17] = {254};
    assert_true(spark_weights_finite(SPARK_TYPE_MXFP4, mxfp4, 32, &bad));
    mxfp4[16] = 0x70; /* 12 * 2^126 does not fit */
    assert_false(spark_weights_finite(SPARK_TYPE_MXFP4, mxfp4, 32, &bad));
    mxfp4[0] = 252;
    assert_true(spark_weights_finite(SPARK_TYPE_MXFP4, mxfp4, 32, &bad));
    memset(mxfp4, 0, sizeof mxfp4);
    mxfp4[0] = 255; /* NaN, whatever the levels */
    assert_false(spark_weights_finite(SPARK_TYPE_MXFP4, mxfp4, 32, &bad));

    const float f32[3] = {1, 3.4e38f, float_of(0xff800000)};
    assert_false(spark_weights_finite(SPARK_TYPE_F32, f32, 3, &bad));
    assert_int_equal(bad, 2);
    const uint8_t bf16[4] = {0x7f, 0x7f, 0x80, 0x7f};
    assert_false(spark_weights_finite(SPARK_TYPE_BF16, bf16, 2, &bad));
    assert_int_equal(bad, 1);
}

/* ---- Quantizing ------------------------------------------------------------------------------------------------ */

enum { N_WEIGHTS = 256 * 64 };

static const spark_type quantized_types[] = {SPARK_TYPE_F16,  SPARK_TYPE_BF16, SPARK_TYPE_Q8_0, SPARK_TYPE_Q4_0,
                                             SPARK_TYPE_Q5_0, SPARK_TYPE_Q4_K, SPARK_TYPE_Q6_K};

static uint8_t quantized[N_WEIGHTS * 2];
static float source[N_WEIGHTS], values[N_WEIGHTS];

static float uniform(void) { return (float)(quant_random() >> 8) * 0x1p-23f - 1; }

/* Nearly normal: twelve uniform numbers. */
static float gaussian(void)
{
    float sum = 0;
    for (int i = 0; i < 12; i++) sum += uniform();
    return sum / 2;
}

static float weight_gaussian(size_t i)
{
    (void)i;
    return 0.02f * gaussian();
}

static float weight_uniform(size_t i)
{
    (void)i;
    return 0.02f * uniform();
}

static float weight_outliers(size_t i) { return 0.02f * gaussian() * (i % 97 == 0 ? 20 : 1); }

static float weight_shifted(size_t i)
{
    (void)i;
    return 0.02f + 0.002f * gaussian();
}

/* Fills source and values; returns the mean squared error over the mean square. */
static double round_trip(spark_type type, float (*weight)(size_t))
{
    quant_seed();
    for (size_t i = 0; i < N_WEIGHTS; i++) source[i] = weight(i);
    assert_ok(spark_quantize(type, source, quantized, N_WEIGHTS, NULL));
    spark_dequantize(type, quantized, values, N_WEIGHTS);
    double error = 0, square = 0;
    for (size_t i = 0; i < N_WEIGHTS; i++) {
        const double off = (double)source[i] - (double)values[i];
        error += off * off;
        square += (double)source[i] * (double)source[i];
    }
    return error / square;
}

/* Relative RMSE allowed, on gaussian, uniform, gaussian with outliers of twenty sigma, and shifted weights. For the quantized
 * types it is what ggml's reference quantizers leave on these very weights, rounded up (we leave 0.89 to 1.00 of it) - but
 * 2 % more for Q4_K with outliers, where our search keeps the outlier better at the others' cost. */
static void test_errors_are_no_larger_than_those_of_the_reference_quantizers(void **state)
{
    (void)state;
    float (*const weights[])(size_t) = {weight_gaussian, weight_uniform, weight_outliers, weight_shifted};
    static const struct {
        spark_type type;
        double bound[4];
    } rows[] = {
        {SPARK_TYPE_F16, {.00022, .00022, .00022, .00022}},  {SPARK_TYPE_BF16, {.0018, .0018, .0018, .0018}},
        {SPARK_TYPE_Q8_0, {.00522, .00372, .01164, .00269}}, {SPARK_TYPE_Q4_0, {.08388, .06492, .15060, .04284}},
        {SPARK_TYPE_Q5_0, {.04196, .03107, .09123, .02122}}, {SPARK_TYPE_Q4_K, {.07026, .05462, .10162, .02083}},
        {SPARK_TYPE_Q6_K, {.01750, .01344, .03209, .00934}},
    };
    for (size_t r = 0; r < SPARK_COUNT(rows); r++)
        for (size_t w = 0; w < SPARK_COUNT(weights); w++) {
            const double bound = rows[r].bound[w], got = round_trip(rows[r].type, weights[w]);
            if (!(got <= bound * bound))
                fail_msg("%s, weights %zu: relative squared error %g over %g", spark_type_lookup(rows[r].type)->name, w,
                         got, bound * bound);
        }
}

/* The search is arithmetic in a fixed order: any compiler, flag or CPU must find the same scales. */
static void test_quantized_bytes_are_the_recorded_ones(void **state)
{
    (void)state;
    static const uint64_t recorded[] = {0x1cb08e0aeebb0639, 0xcde60da9eef16944, 0xb8dabbac8319f8cb, 0x7dbe4aa0d77b17f8,
                                        0x1afa8ba0089b2ddd, 0x0ace73354651f229, 0x1164a1ae4bf14509};
    for (size_t k = 0; k < SPARK_COUNT(quantized_types); k++) {
        const spark_type_info *t = spark_type_lookup(quantized_types[k]);
        (void)round_trip(quantized_types[k], weight_outliers);
        uint64_t hash = 0xcbf29ce484222325;
        for (size_t i = 0; i < spark_type_row_bytes(t, N_WEIGHTS); i++) hash = (hash ^ quantized[i]) * 0x100000001b3;
        if (hash != recorded[k]) fail_msg("%s: bytes have hash 0x%016" PRIx64, t->name, hash);
    }
}

/* Rounds what was quantized once more; every value must stay. */
static void assert_idempotent(spark_type type, float (*weight)(size_t))
{
    static float again[N_WEIGHTS];
    (void)round_trip(type, weight);
    assert_ok(spark_quantize(type, values, quantized, N_WEIGHTS, NULL));
    spark_dequantize(type, quantized, again, N_WEIGHTS);
    for (size_t i = 0; i < N_WEIGHTS; i++)
        if (again[i] != values[i])
            fail_msg("type %d element %zu: %a became %a", (int)type, i, (double)values[i], (double)again[i]);
}

static void test_quantized_values_quantize_to_themselves(void **state)
{
    (void)state;
    static const spark_type types[] = {SPARK_TYPE_F16, SPARK_TYPE_BF16, SPARK_TYPE_Q8_0, SPARK_TYPE_Q4_0,
                                       SPARK_TYPE_Q5_0};
    for (size_t i = 0; i < SPARK_COUNT(types); i++) {
        assert_idempotent(types[i], weight_gaussian);
        assert_idempotent(types[i], weight_outliers);
    }
}

/* Quantizes one super-block of equal weights, alternately negated if asked, and returns its largest relative error. */
static double constant_error(spark_type type, float x, int alternate)
{
    const spark_type_info *t = spark_type_lookup(type);
    size_t bad;
    for (size_t i = 0; i < 256; i++) source[i] = alternate && i % 2 ? -x : x;
    assert_ok(spark_quantize(type, source, quantized, 256, NULL));
    assert_true(spark_weights_finite(type, quantized, 256 / t->block_elems * t->block_elems, &bad));
    spark_dequantize(type, quantized, values, 256);
    double worst = 0;
    for (size_t i = 0; i < 256; i++) {
        double off = ((double)values[i] - (double)source[i]) / (x != 0 ? (double)x : 1);
        off = off < 0 ? -off : off;
        worst = off > worst ? off : worst;
    }
    return worst;
}

static void test_zeros_stay_zeros(void **state)
{
    (void)state;
    for (size_t i = 0; i < SPARK_COUNT(quantized_types); i++)
        assert_true(constant_error(quantized_types[i], 0, 0) == 0);
}

static void test_constant_rows_keep_their_value(void **state)
{
    (void)state;
    static const float xs[] = {1, -1, 0.3f, -700, 3e-3f, 65504};
    for (size_t i = 0; i < SPARK_COUNT(quantized_types); i++)
        for (size_t k = 0; k < SPARK_COUNT(xs); k++)
            if (!(constant_error(quantized_types[i], xs[k], 0) < 0.01))
                fail_msg("%s of %g", spark_type_lookup(quantized_types[i])->name, (double)xs[k]);
}

static void test_rows_below_the_smallest_half_become_zero(void **state)
{
    (void)state;
    static const float xs[] = {1e-45f, 1e-40f, 1.2e-38f, 1e-20f, 2e-8f};
    for (size_t i = 0; i < SPARK_COUNT(quantized_types); i++)
        for (size_t k = 0; k < SPARK_COUNT(xs); k++)
            if (quantized_types[i] != SPARK_TYPE_BF16) assert_true(constant_error(quantized_types[i], xs[k], 1) == 1);
}

/* A tiny group beside a large one must neither divide by zero nor disturb it. */
static void test_groups_of_very_different_size_share_a_block(void **state)
{
    (void)state;
    static const spark_type types[] = {SPARK_TYPE_Q4_K, SPARK_TYPE_Q6_K};
    for (size_t k = 0; k < SPARK_COUNT(types); k++) {
        for (size_t i = 0; i < 256; i++) source[i] = (i % 3 ? 1.0f : -1.0f) * (i < 32 ? 1e-42f : i < 64 ? 1e-9f : 1000);
        assert_ok(spark_quantize(types[k], source, quantized, 256, NULL));
        spark_dequantize(types[k], quantized, values, 256);
        for (size_t i = 0; i < 256; i++) {
            const float off = values[i] - source[i];
            assert_true(off > -20 && off < 20);
        }
    }
}

/* The largest weight each format takes; the next float is refused. */
static const struct {
    spark_type type;
    float limit;
} limits[] = {
    {SPARK_TYPE_F16, 65519.996f},       {SPARK_TYPE_BF16, 0x1.fefffep127f}, {SPARK_TYPE_Q8_0, 127 * 65504.0f},
    {SPARK_TYPE_Q4_0, 8 * 65504.0f},    {SPARK_TYPE_Q5_0, 16 * 65504.0f},   {SPARK_TYPE_Q4_K, 63 * 65504.0f},
    {SPARK_TYPE_Q6_K, 4096 * 65504.0f},
};

static void test_the_largest_weight_of_each_format_fits(void **state)
{
    (void)state;
    for (size_t i = 0; i < SPARK_COUNT(limits); i++) {
        assert_true(constant_error(limits[i].type, limits[i].limit, 0) < 0.05);
        assert_true(constant_error(limits[i].type, limits[i].limit, 1) < 0.15);
        assert_true(constant_error(limits[i].type, -limits[i].limit, 0) < 0.05);
    }
}

static void test_weights_beyond_the_range_are_refused_with_their_index(void **state)
{
    (void)state;
    for (size_t i = 0; i < SPARK_COUNT(limits); i++) {
        spark_err err = {0};
        memset(source, 0, 512 * sizeof *source);
        memset(quantized, 0xab, sizeof quantized);
        source[300] = -float_of(bits_of(limits[i].limit) + 1);
        assert_code(spark_quantize(limits[i].type, source, quantized, 512, &err), SPARK_E_NUMERIC);
        assert_int_equal(err.at, 300);
        assert_int_equal(quantized[0], 0xab); /* nothing was written */
    }
}

static void test_weights_that_are_not_finite_are_refused_with_their_index(void **state)
{
    (void)state;
    static const uint32_t bits[] = {0x7f800000, 0xff800000, 0x7fc00000, 0xff800001};
    for (size_t i = 0; i < SPARK_COUNT(quantized_types); i++)
        for (size_t k = 0; k < SPARK_COUNT(bits); k++) {
            spark_err err = {0};
            memset(source, 0, 512 * sizeof *source);
            memcpy(&source[471], &bits[k], sizeof bits[k]);
            assert_code(spark_quantize(quantized_types[i], source, quantized, 512, &err), SPARK_E_NUMERIC);
            assert_int_equal(err.at, 471);
        }
}

static void test_other_types_and_broken_blocks_are_refused(void **state)
{
    (void)state;
    spark_err err;
    assert_code(spark_quantize(SPARK_TYPE_IQ2_S, source, quantized, 256, &err), SPARK_E_UNSUPPORTED);
    assert_code(spark_quantize((spark_type)99, source, quantized, 256, &err), SPARK_E_UNSUPPORTED);
    assert_code(spark_quantize(SPARK_TYPE_Q4_K, source, quantized, 32, &err), SPARK_E_ARGUMENT);
    assert_code(spark_quantize(SPARK_TYPE_Q8_0, source, quantized, 33, &err), SPARK_E_ARGUMENT);
    assert_ok(spark_quantize(SPARK_TYPE_Q8_0, source, quantized, 0, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_half_widens_to_its_exact_value),
        cmocka_unit_test(test_every_bfloat_widens_to_its_bits),
        cmocka_unit_test(test_every_half_narrows_back_to_itself),
        cmocka_unit_test(test_f16_rounds_to_nearest_even_between_all_neighbours),
        cmocka_unit_test(test_bf16_rounds_to_nearest_even_between_all_neighbours),
        cmocka_unit_test(test_narrowing_overflows_to_infinity),
        cmocka_unit_test(test_f16_is_nearest_for_floats_of_every_exponent),
        cmocka_unit_test(test_dequantized_values_equal_the_shared_data_bit_for_bit),
        cmocka_unit_test(test_levels_give_exactly_the_values),
        cmocka_unit_test(test_levels_stay_inside_the_ranges_of_numerics),
        cmocka_unit_test(test_values_of_random_blocks_are_the_recorded_ones),
        cmocka_unit_test(test_an_infinite_or_nan_scale_is_found_at_its_block),
        cmocka_unit_test(test_formats_without_a_plain_half_find_what_is_not_finite),
        cmocka_unit_test(test_errors_are_no_larger_than_those_of_the_reference_quantizers),
        cmocka_unit_test(test_quantized_bytes_are_the_recorded_ones),
        cmocka_unit_test(test_quantized_values_quantize_to_themselves),
        cmocka_unit_test(test_zeros_stay_zeros),
        cmocka_unit_test(test_constant_rows_keep_their_value),
        cmocka_unit_test(test_rows_below_the_smallest_half_become_zero),
        cmocka_unit_test(test_groups_of_very_different_size_share_a_block),
        cmocka_unit_test(test_the_largest_weight_of_each_format_fits),
        cmocka_unit_test(test_weights_beyond_the_range_are_refused_with_their_index),
        cmocka_unit_test(test_weights_that_are_not_finite_are_refused_with_their_index),
        cmocka_unit_test(test_other_types_and_broken_blocks_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
