/* matmul_float_avx512.c - products with float weights, and activations as int8, on AVX-512. */
#include <immintrin.h>

#include "kern/panel.h"

typedef __m512 vf;
#define V_LANES  16u
#define V_TOKENS 8
#define V_DIRECT 8u

SPARK_INLINE vf v_zero(void) { return _mm512_setzero_ps(); }
SPARK_INLINE vf v_load(const float *p) { return _mm512_load_ps(p); }
SPARK_INLINE void v_store(float *p, vf x) { _mm512_store_ps(p, x); }
SPARK_INLINE vf v_all(float x) { return _mm512_set1_ps(x); }
SPARK_INLINE vf v_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
SPARK_INLINE vf v_add(vf a, vf b) { return _mm512_add_ps(a, b); }
SPARK_INLINE vf v_halves(const uint8_t *p) { return _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)p)); }
SPARK_INLINE vf v_bfloats(const uint8_t *p)
{
    const __m512i x = _mm512_cvtepu16_epi32(_mm256_load_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(x, 16));
}
SPARK_INLINE void v_put(const spark_matmul_args *a, uint32_t row, uint32_t token, vf y)
{
    const uint32_t left = row < a->w->n_rows ? a->w->n_rows - row : 0;
    const __mmask16 mask = left >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << left) - 1);
    if (a->bias) y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(mask, a->bias + row));
    _mm512_mask_storeu_ps(a->out + token * a->out_stride + row, mask, y);
}

#include "kern/x86/matmul_float.h"

static void spark_k_matmul_f32_avx512(const spark_matmul_args *a) { f_run(a, SPARK_TYPE_F32); }
static void spark_k_matmul_f16_avx512(const spark_matmul_args *a) { f_run(a, SPARK_TYPE_F16); }
static void spark_k_matmul_bf16_avx512(const spark_matmul_args *a) { f_run(a, SPARK_TYPE_BF16); }

/* ---- Activations ------------------------------------------------------------------------------------------------ */

SPARK_INLINE __mmask16 q_mask(uint32_t left) { return left >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << left) - 1); }

/* Magnitudes as bits: as integers they are ordered like the floats, and NaN lies above infinity. */
SPARK_INLINE __m512i q_bits(__m512 x)
{
    return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff));
}

/* n <= 16 * n_vec values to bytes. Returns the largest magnitude's bits; d and the q are not set if that is not finite. */
SPARK_INLINE uint32_t q_block(const float *x, uint32_t n, unsigned n_vec, float *d, int8_t *q)
{
    __m512 v[16];
    __m512i max = _mm512_setzero_si512();
    SPARK_UNROLL(16)
    for (unsigned i = 0; i < n_vec; i++) {
        v[i] = _mm512_maskz_loadu_ps(n > 16 * i ? q_mask(n - 16 * i) : 0, x + 16 * i);
        max = _mm512_max_epu32(max, q_bits(v[i]));
    }
    const uint32_t bits = _mm512_reduce_max_epu32(max);
    float a;
    memcpy(&a, &bits, 4);
    if (bits >= 0x7f800000) return bits;
    const __m512 inverse = _mm512_set1_ps(a < 1e-30f ? 0 : 127.0f / a);
    SPARK_UNROLL(16)
    for (unsigned i = 0; i < n_vec; i++)
        _mm_storeu_si128((__m128i *)(void *)(q + 16 * i),
                         _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(v[i], inverse))));
    *d = a < 1e-30f ? 0 : a / 127.0f;
    return bits;
}

static int q_row_32(const float *x, uint32_t n, uint8_t *row)
{
    for (uint32_t k = 0; k < n; k += 32, row += sizeof(spark__act32)) {
        spark__act32 a;
        if (q_block(x + k, n - k < 32 ? n - k : 32, 2, &a.d, a.q) >= 0x7f800000) return 0;
        const __m512i q = _mm512_zextsi256_si512(_mm256_loadu_si256((const __m256i *)(void *)a.q));
        const int sum = _mm512_reduce_add_epi32(_mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), q));
        a.sum = (float)sum;
        a.m8 = -8 * sum;
        a.m16 = -16 * sum;
        a.m128 = -128 * sum;
        memcpy(row, &a, sizeof a);
    }
    return 1;
}

/* Sums of 8 neighbours of 64 bytes. */
SPARK_INLINE __m256i q_sums_8(const int8_t *q)
{
    const __m512i fours = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), _mm512_loadu_si512(q));
    return _mm512_cvtepi64_epi32(_mm512_add_epi32(fours, _mm512_srli_epi64(fours, 32)));
}

static int q_row_256(const float *x, uint32_t n, uint8_t *row)
{
    for (uint32_t k = 0; k < n; k += 256, row += sizeof(spark__act256)) {
        spark__act256 a = {0};
        int32_t sum[32];
        if (q_block(x + k, n - k < 256 ? n - k : 256, 16, &a.d, a.q) >= 0x7f800000) return 0;
        for (unsigned i = 0; i < 4; i++) _mm256_storeu_si256((__m256i *)(void *)(sum + 8 * i), q_sums_8(a.q + 64 * i));
        for (unsigned i = 0; i < 32; i++) a.m8[i] = (int16_t)(-32 * sum[i]);
        for (unsigned i = 0; i < 16; i++) a.m16[i] = (int16_t)(-16 * (sum[2 * i] + sum[2 * i + 1]));
        for (unsigned i = 0; i < 8; i++) {
            const int s = sum[4 * i] + sum[4 * i + 1] + sum[4 * i + 2] + sum[4 * i + 3];
            a.sum32[i] = (int16_t)s;
            a.m32[i] = (int16_t)(-8 * s);
        }
        memcpy(row, &a, sizeof a);
    }
    return 1;
}

static int q_row_float(const float *x, uint32_t n, uint8_t *row)
{
    __m512i max = _mm512_setzero_si512();
    for (uint32_t k = 0; k < n; k += 16) {
        const __mmask16 mask = q_mask(n - k);
        const __m512 v = _mm512_maskz_loadu_ps(mask, x + k);
        max = _mm512_max_epu32(max, q_bits(v));
        _mm512_mask_storeu_ps(row + 4 * (size_t)k, mask, v);
    }
    return _mm512_reduce_max_epu32(max) < 0x7f800000;
}

static int spark_k_quantize_avx512(uint32_t act_block, const float *x, uint32_t n, uint8_t *row)
{
    if (act_block == 32) return q_row_32(x, n, row);
    return act_block == 256 ? q_row_256(x, n, row) : q_row_float(x, n, row);
}

void spark__matmul_init_float_avx512(spark_kern *k)
{
    k->quantize = spark_k_quantize_avx512;
    k->matmul[SPARK_TYPE_F32] = spark_k_matmul_f32_avx512;
    k->matmul[SPARK_TYPE_F16] = spark_k_matmul_f16_avx512;
    k->matmul[SPARK_TYPE_BF16] = spark_k_matmul_bf16_avx512;
}
