/* vec_avx2.h - what the bodies in kern/body ask of a vector unit, as AVX2 + FMA + F16C: 8 floats a vector.
 * VF: floats, VI: 32-bit integers, VM: one condition a lane. _n forms touch the first n lanes only (1 <= n <= VF_LANES). */
#ifndef SPARK_KERN_X86_VEC_AVX2_H
#define SPARK_KERN_X86_VEC_AVX2_H

#include <immintrin.h>
#include <stdint.h>

#include "base/compiler.h"

#define VF_LANES      8u
#define SPARK_K(name) name##_avx2

typedef __m256 VF;
typedef __m256i VI;
typedef __m256 VM;

SPARK_INLINE VF vf_set1(float x) { return _mm256_set1_ps(x); }
SPARK_INLINE VF vf_zero(void) { return _mm256_setzero_ps(); }
SPARK_INLINE VF vf_load(const float *p) { return _mm256_loadu_ps(p); }
SPARK_INLINE void vf_store(float *p, VF x) { _mm256_storeu_ps(p, x); }
SPARK_INLINE VI vi_lane(void) { return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7); }
SPARK_INLINE VI vi_first(uint32_t n) { return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), vi_lane()); }
SPARK_INLINE VF vf_load_n(const float *p, uint32_t n) { return _mm256_maskload_ps(p, vi_first(n)); }
SPARK_INLINE void vf_store_n(float *p, VF x, uint32_t n) { _mm256_maskstore_ps(p, vi_first(n), x); }

SPARK_INLINE void vf_prefetch(const void *p) { _mm_prefetch((const char *)p, _MM_HINT_T0); }

SPARK_INLINE VF vf_add(VF a, VF b) { return _mm256_add_ps(a, b); }
SPARK_INLINE VF vf_sub(VF a, VF b) { return _mm256_sub_ps(a, b); }
SPARK_INLINE VF vf_mul(VF a, VF b) { return _mm256_mul_ps(a, b); }
SPARK_INLINE VF vf_div(VF a, VF b) { return _mm256_div_ps(a, b); }
SPARK_INLINE VF vf_fma(VF a, VF b, VF c) { return _mm256_fmadd_ps(a, b, c); }
SPARK_INLINE VF vf_max(VF a, VF b) { return _mm256_max_ps(a, b); }
SPARK_INLINE VF vf_min(VF a, VF b) { return _mm256_min_ps(a, b); }
SPARK_INLINE VF vf_abs(VF a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
/* The magnitude of a with the sign of s (a >= 0). */
SPARK_INLINE VF vf_with_sign(VF a, VF s) { return _mm256_or_ps(a, _mm256_and_ps(s, _mm256_set1_ps(-0.0f))); }
SPARK_INLINE VF vf_neg(VF a) { return _mm256_xor_ps(a, _mm256_set1_ps(-0.0f)); }
SPARK_INLINE VM vf_less(VF a, VF b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
SPARK_INLINE VM vf_not_less(VF a, VF b) { return _mm256_cmp_ps(a, b, _CMP_NLT_UQ); } /* NaN too */
SPARK_INLINE VF vf_select(VM m, VF yes, VF no) { return _mm256_blendv_ps(no, yes, m); }

/* x with the lanes outside [begin, end) replaced by `other`; begin <= VF_LANES, end may be larger. */
SPARK_INLINE VF vf_keep_range(VF x, uint32_t begin, uint32_t end, VF other)
{
    const __m256i outside = _mm256_or_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32((int)begin), vi_lane()),
                                            _mm256_cmpgt_epi32(vi_lane(), _mm256_set1_epi32((int)end - 1)));
    return _mm256_blendv_ps(x, other, _mm256_castsi256_ps(outside));
}

/* p * 2^n, n = the low bits of t (body/math_body.h), or +0 in lanes that are not kept. */
SPARK_INLINE VF vf_scale2(VF p, VF t, VM keep)
{
    const VI n = _mm256_slli_epi32(_mm256_castps_si256(t), 23);
    return _mm256_and_ps(keep, _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), n)));
}

/* j += j + 4, + 2, + 1. */
SPARK_INLINE float vf_fold(VF x)
{
    const __m128 b = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}

SPARK_INLINE float vf_fold_max(VF x)
{
    const __m128 b = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}

/* Pairs (a0 b0 a1 b1 ...) of two vectors to (a0 a1 ...), (b0 b1 ...) and back. */
SPARK_INLINE void vf_unzip(VF x, VF y, VF *a, VF *b)
{
    const __m256 low = _mm256_permute2f128_ps(x, y, 0x20), high = _mm256_permute2f128_ps(x, y, 0x31);
    const __m256 even = _mm256_shuffle_ps(low, high, 0x88), odd = _mm256_shuffle_ps(low, high, 0xdd);
    /* low = x0..3 y0..3, high = x4..7 y4..7, so the shuffles give (x even | y even) within 128-bit halves */
    *a = even;
    *b = odd;
}
SPARK_INLINE void vf_zip(VF a, VF b, VF *x, VF *y)
{
    const __m256 low = _mm256_unpacklo_ps(a, b), high = _mm256_unpackhi_ps(a, b);
    *x = _mm256_permute2f128_ps(low, high, 0x20);
    *y = _mm256_permute2f128_ps(low, high, 0x31);
}

/* Halves; narrowing rounds to nearest even. */
SPARK_INLINE VF vf_load_f16(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}
SPARK_INLINE void vf_store_f16(uint16_t *p, VF x)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

/* Int8 levels to floats; floats of at most 127 to levels, nearest even. */
SPARK_INLINE VF vf_load_i8(const int8_t *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)));
}
SPARK_INLINE void vf_store_i8(int8_t *p, VF x)
{
    const __m256i i = _mm256_cvtps_epi32(x);
    const __m128i w = _mm_packs_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1));
    _mm_storel_epi64((__m128i *)(void *)p, _mm_packs_epi16(w, w));
}

/* Dot products of four int8 pairs a lane: |k| * (q with the sign of k). Levels lie within +-127, so two products are at
 * most 32258 and fit int16. */
#define VI_DOT_BIAS 0
typedef struct VI_DOT_K {
    VI raw, magnitude;
} VI_DOT_K;
SPARK_INLINE VI vi_set1(int32_t x) { return _mm256_set1_epi32(x); }
SPARK_INLINE VI_DOT_K vi_dot_load(const uint8_t *p)
{
    const VI raw = _mm256_loadu_si256((const __m256i *)(const void *)p);
    return (VI_DOT_K){raw, _mm256_abs_epi8(raw)};
}
SPARK_INLINE VI vi_dot(VI acc, VI_DOT_K k, VI q)
{
    const VI pairs = _mm256_maddubs_epi16(k.magnitude, _mm256_sign_epi8(q, k.raw));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
SPARK_INLINE VF vi_to_f(VI x) { return _mm256_cvtepi32_ps(x); }

#endif
