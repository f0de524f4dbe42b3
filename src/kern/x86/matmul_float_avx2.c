/* matmul_float_avx2.c - products with float weights, and activations as int8, on AVX2 + FMA + F16C. */
#include <immintrin.h>

#include "kern/panel.h"

typedef __m256 vf;
#define V_LANES  8u
#define V_TOKENS 6
#define V_DIRECT 4u

SPARK_INLINE vf v_zero(void) { return _mm256_setzero_ps(); }
SPARK_INLINE vf v_load(const float *p) { return _mm256_load_ps(p); }
SPARK_INLINE void v_store(float *p, vf x) { _mm256_store_ps(p, x); }
SPARK_INLINE vf v_all(float x) { return _mm256_set1_ps(x); }
SPARK_INLINE vf v_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
SPARK_INLINE vf v_add(vf a, vf b) { return _mm256_add_ps(a, b); }
SPARK_INLINE __m128i v_load_128(const uint8_t *p) { return _mm_load_si128((const __m128i *)(const void *)p); }
SPARK_INLINE vf v_halves(const uint8_t *p) { return _mm256_cvtph_ps(v_load_128(p)); }
SPARK_INLINE vf v_bfloats(const uint8_t *p)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(v_load_128(p)), 16));
}
/* Lanes below n: all ones. */
SPARK_INLINE __m256i v_mask(uint32_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(n < 8 ? n : 8)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
SPARK_INLINE void v_put(const spark_matmul_args *a, uint32_t row, uint32_t token, vf y)
{
    if (row >= a->w->n_rows) return;
    const __m256i mask = v_mask(a->w->n_rows - row);
    if (a->bias) y = _mm256_add_ps(y, _mm256_maskload_ps(a->bias + row, mask));
    _mm256_maskstore_ps(a->out + token * a->out_stride + row, mask, y);
}

#include "kern/x86/matmul_float.h"

static void spark_k_matmul_f32_avx2(const spark_matmul_args *a) { f_run(a, SPARK_TYPE_F32); }
static void spark_k_matmul_f16_avx2(const spark_matmul_args *a) { f_run(a, SPARK_TYPE_F16); }
static void spark_k_matmul_bf16_avx2(const spark_matmul_args *a) { f_run(a, SPARK_TYPE_BF16); }

/* ---- Activations ------------------------------------------------------------------------------------------------ */

/* Magnitudes as bits: as integers they are ordered like the floats, and NaN lies above infinity. */
SPARK_INLINE __m256i q_bits(vf x) { return _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7fffffff)); }

SPARK_INLINE uint32_t q_largest(__m256i max)
{
    __m128i m = _mm_max_epu32(_mm256_castsi256_si128(max), _mm256_extracti128_si256(max, 1));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(m);
}

SPARK_INLINE vf q_load(const float *x, uint32_t n) { return _mm256_maskload_ps(x, v_mask(n)); }

/* 32 values from x (those past n are zero) to bytes. */
SPARK_INLINE void q_bytes(const float *x, uint32_t n, vf inverse, int8_t *q)
{
    __m256i w[4];
    for (unsigned i = 0; i < 4; i++)
        w[i] = _mm256_cvtps_epi32(_mm256_mul_ps(q_load(x + 8 * i, n > 8 * i ? n - 8 * i : 0), inverse));
    const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(w[0], w[1]), _mm256_packs_epi32(w[2], w[3]));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7); /* the packs work within halves */
    _mm256_storeu_si256((__m256i *)(void *)q, _mm256_permutevar8x32_epi32(bytes, order));
}

/* n <= cap values to cap bytes. Returns the largest magnitude's bits; d and q are not set if that is not finite. */
static uint32_t q_block(const float *x, uint32_t n, uint32_t cap, float *d, int8_t *q)
{
    __m256i max = _mm256_setzero_si256();
    for (uint32_t i = 0; i < n; i += 8) max = _mm256_max_epu32(max, q_bits(q_load(x + i, n - i)));
    const uint32_t bits = q_largest(max);
    float a;
    memcpy(&a, &bits, 4);
    if (bits >= 0x7f800000) return bits;
    const vf inverse = v_all(a < 1e-30f ? 0 : 127.0f / a);
    for (uint32_t i = 0; i < cap; i += 32) q_bytes(x + (i < n ? i : 0), n > i ? n - i : 0, inverse, q + i);
    *d = a < 1e-30f ? 0 : a / 127.0f;
    return bits;
}

/* Sums of 4 neighbours of 32 bytes, in order. */
SPARK_INLINE __m256i q_sums_4(const int8_t *q)
{
    const __m256i bytes = _mm256_loadu_si256((const __m256i *)(const void *)q);
    return _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes), _mm256_set1_epi16(1));
}

static int q_row_32(const float *x, uint32_t n, uint8_t *row)
{
    for (uint32_t k = 0; k < n; k += 32, row += sizeof(spark__act32)) {
        spark__act32 a;
        if (q_block(x + k, n - k < 32 ? n - k : 32, 32, &a.d, a.q) >= 0x7f800000) return 0;
        const __m256i fours = q_sums_4(a.q);
        __m128i s = _mm_add_epi32(_mm256_castsi256_si128(fours), _mm256_extracti128_si256(fours, 1));
        s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
        const int sum = _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
        a.sum = (float)sum;
        a.m8 = -8 * sum;
        a.m16 = -16 * sum;
        a.m128 = -128 * sum;
        memcpy(row, &a, sizeof a);
    }
    return 1;
}

static int q_row_256(const float *x, uint32_t n, uint8_t *row)
{
    for (uint32_t k = 0; k < n; k += 256, row += sizeof(spark__act256)) {
        spark__act256 a = {0};
        int32_t four[64];
        if (q_block(x + k, n - k < 256 ? n - k : 256, 256, &a.d, a.q) >= 0x7f800000) return 0;
        for (unsigned i = 0; i < 8; i++) _mm256_storeu_si256((__m256i *)(void *)(four + 8 * i), q_sums_4(a.q + 32 * i));
        for (unsigned i = 0; i < 32; i++) a.m8[i] = (int16_t)(-32 * (four[2 * i] + four[2 * i + 1]));
        for (unsigned i = 0; i < 16; i++) a.m16[i] = (int16_t)((a.m8[2 * i] + a.m8[2 * i + 1]) / 2);
        for (unsigned i = 0; i < 8; i++) {
            const int sum = -(a.m16[2 * i] + a.m16[2 * i + 1]) / 16;
            a.sum32[i] = (int16_t)sum;
            a.m32[i] = (int16_t)(-8 * sum);
        }
        memcpy(row, &a, sizeof a);
    }
    return 1;
}

static int q_row_float(const float *x, uint32_t n, uint8_t *row)
{
    __m256i max = _mm256_setzero_si256();
    for (uint32_t k = 0; k < n; k += 8) {
        const vf v = q_load(x + k, n - k);
        max = _mm256_max_epu32(max, q_bits(v));
        _mm256_maskstore_ps((float *)(void *)(row + 4 * (size_t)k), v_mask(n - k), v);
    }
    return q_largest(max) < 0x7f800000;
}

static int spark_k_quantize_avx2(uint32_t act_block, const float *x, uint32_t n, uint8_t *row)
{
    if (act_block == 32) return q_row_32(x, n, row);
    return act_block == 256 ? q_row_256(x, n, row) : q_row_float(x, n, row);
}

void spark__matmul_init_float_avx2(spark_kern *k)
{
    k->quantize = spark_k_quantize_avx2;
    k->matmul[SPARK_TYPE_F32] = spark_k_matmul_f32_avx2;
    k->matmul[SPARK_TYPE_F16] = spark_k_matmul_f16_avx2;
    k->matmul[SPARK_TYPE_BF16] = spark_k_matmul_bf16_avx2;
}
