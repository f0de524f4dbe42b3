/* weights.c - random weights. Quantized blocks are random bytes with the scales put where they belong: every code occurs
 * equally often, which costs the kernels what real weights cost, and it is as quick as the random numbers are. */
#include <assert.h>
#include <string.h>

#include "kern/quant.h"
#include "synthetic.h"

uint64_t syn_next(syn_random *r)
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

float syn_gauss(syn_random *r)
{
    const uint64_t bits = syn_next(
        r); /* four uniform numbers of 16 bits: their sum has standard deviation 65536 / sqrt(3) */
    const uint64_t sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
    return ((float)sum - 131070.0f) * (1.7320508f / 65536.0f);
}

/* Where the half-precision scales of a block lie, and the standard deviation of its values at d = 1 when all other bytes
 * are random. `min` is subtracted (K types) or added (_1 types), `min_of_d` times d: it moves the mean of the values to 0. */
typedef struct syn_layout {
    spark_type type;
    uint32_t d, min;
    float min_of_d, deviation;
} syn_layout;

#define SYN_NO_MIN UINT32_MAX

static const syn_layout syn_layouts[] = {
    {SPARK_TYPE_Q4_0, 0, SYN_NO_MIN, 0, 4.6f},    {SPARK_TYPE_Q4_1, 0, 2, -7.5f, 4.6f},
    {SPARK_TYPE_Q5_0, 0, SYN_NO_MIN, 0, 9.2f},    {SPARK_TYPE_Q5_1, 0, 2, -15.5f, 9.2f},
    {SPARK_TYPE_Q8_0, 0, SYN_NO_MIN, 0, 73.9f},   {SPARK_TYPE_Q2_K, 80, 82, 1.5f, 13.9f},
    {SPARK_TYPE_Q3_K, 108, SYN_NO_MIN, 0, 42.4f}, {SPARK_TYPE_Q4_K, 0, 2, 7.5f, 258.0f},
    {SPARK_TYPE_Q5_K, 0, 2, 15.5f, 527.0f},       {SPARK_TYPE_Q6_K, 208, SYN_NO_MIN, 0, 1365.0f},
    {SPARK_TYPE_IQ4_NL, 0, SYN_NO_MIN, 0, 71.0f}, {SPARK_TYPE_IQ4_XS, 0, SYN_NO_MIN, 0, 1311.0f},
};

static const syn_layout *syn_find_layout(spark_type type)
{
    for (size_t i = 0; i < SPARK_COUNT(syn_layouts); i++)
        if (syn_layouts[i].type == type) return &syn_layouts[i];
    return NULL;
}

bool syn_type_known(spark_type type)
{
    return type == SPARK_TYPE_F32 || type == SPARK_TYPE_F16 || type == SPARK_TYPE_BF16 || syn_find_layout(type);
}

static void syn_put_half(uint8_t *at, float x)
{
    const uint16_t h = spark_f32_to_f16(x);
    memcpy(at, &h, sizeof h);
}

static void syn_floats(spark_type type, float sigma, size_t n, uint8_t *out, syn_random *r)
{
    for (size_t i = 0; i < n; i++) {
        const float x = sigma * syn_gauss(r);
        const uint16_t half = type == SPARK_TYPE_F16 ? spark_f32_to_f16(x) : spark_f32_to_bf16(x);
        if (type == SPARK_TYPE_F32)
            memcpy(out + 4 * i, &x, sizeof x);
        else
            memcpy(out + 2 * i, &half, sizeof half);
    }
}

void syn_weights(spark_type type, float sigma, size_t n, uint8_t *out, syn_random *r)
{
    const syn_layout *l = syn_find_layout(type);
    const spark_type_info *info = spark_type_lookup(type);
    if (!l) {
        syn_floats(type, sigma, n, out, r);
        return;
    }
    assert(n % info->block_elems == 0);
    const size_t bytes = (size_t)spark_type_row_bytes(info, n);
    for (size_t i = 0; i < bytes; i += 8) {
        const uint64_t bits = syn_next(r);
        memcpy(out + i, &bits, bytes - i < 8 ? bytes - i : 8);
    }
    const float d = sigma / l->deviation;
    for (size_t b = 0; b < n / info->block_elems; b++) {
        uint8_t *block = out + b * info->block_bytes;
        syn_put_half(block + l->d, d);
        if (l->min != SYN_NO_MIN) syn_put_half(block + l->min, d * l->min_of_d);
    }
}
