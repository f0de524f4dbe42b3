/* vec_avx512.h - what the bodies in kern/body ask of a vector unit, as AVX-512 (F BW VL DQ VNNI): 16 floats a vector.
 * VF: floats, VI: 32-bit integers, VM: one condition a lane. _n forms touch the first n lanes only (1 <= n <= VF_LANES). */
#ifndef SPARK_KERN_X86_VEC_AVX512_H
#define SPARK_KERN_X86_VEC_AVX512_H

#include <immintrin.h>
#include <stdint.h>

#include "base/compiler.h"

#define VF_LANES      16u
#define SPARK_K(name) name##_avx512

typedef __m512 VF;
typedef __m512i VI;
typedef __mmask16 VM;

SPARK_INLINE VF vf_set1(float x) { return _mm512_set1_ps(x); }
SPARK_INLINE VF vf_zero(void) { return _mm512_setzero_ps(); }
SPARK_INLINE VF vf_load(const float *p) { return _mm512_loadu_ps(p); }
SPARK_INLINE void vf_store(float *p, VF x) { _mm512_storeu_ps(p, x); }
SPARK_INLINE VM vm_first(uint32_t n) { return (VM)((1u << n) - 1); }
SPARK_INLINE VF vf_load_n(const float *p, uint32_t n) { return _mm512_maskz_loadu_ps(vm_first(n), p); }
SPARK_INLINE void vf_store_n(float *p, VF x, uint32_t n) { _mm512_mask_storeu_ps(p, vm_first(n), x); }

/* Into the second-level cache: measured 3 to 5 % faster for attention than into the first. */
SPARK_INLINE void vf_prefetch(const void *p) { _mm_prefetch((const char *)p, _MM_HINT_T1); }

SPARK_INLINE VF vf_add(VF a, VF b) { return _mm512_add_ps(a, b); }
SPARK_INLINE VF vf_sub(VF a, VF b) { return _mm512_sub_ps(a, b); }
SPARK_INLINE VF vf_mul(VF a, VF b) { return _mm512_mul_ps(a, b); }
SPARK_INLINE VF vf_div(VF a, VF b) { return _mm512_div_ps(a, b); }
SPARK_INLINE VF vf_fma(VF a, VF b, VF c) { return _mm512_fmadd_ps(a, b, c); }
SPARK_INLINE VF vf_max(VF a, VF b) { return _mm512_max_ps(a, b); }
SPARK_INLINE VF vf_min(VF a, VF b) { return _mm512_min_ps(a, b); }
SPARK_INLINE VF vf_abs(VF a) { return _mm512_abs_ps(a); }
/* The magnitude of a with the sign of s (a >= 0). */
SPARK_INLINE VF vf_with_sign(VF a, VF s) { return _mm512_or_ps(a, _mm512_and_ps(s, _mm512_set1_ps(-0.0f))); }
SPARK_INLINE VF vf_neg(VF a) { return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f)); }
SPARK_INLINE VM vf_less(VF a, VF b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
SPARK_INLINE VM vf_not_less(VF a, VF b) { return _mm512_cmp_ps_mask(a, b, _CMP_NLT_UQ); } /* NaN too */
SPARK_INLINE VF vf_select(VM m, VF yes, VF no) { return _mm512_mask_blend_ps(m, no, yes); }

/* x with the lanes outside [begin, end) replaced by `other`; begin <= VF_LANES, end may be larger. */
SPARK_INLINE VF vf_keep_range(VF x, uint32_t begin, uint32_t end, VF other)
{
    const uint32_t upper = end >= VF_LANES ? 0xffffu : (1u << end) - 1;
    return _mm512_mask_blend_ps((VM)(upper & ~((1u << begin) - 1)), other, x);
}

/* p * 2^n, n = the low bits of t (body/math_body.h), or +0 in lanes that are not kept. */
SPARK_INLINE VF vf_scale2(VF p, VF t, VM keep)
{
    const VI n = _mm512_slli_epi32(_mm512_castps_si512(t), 23);
    return _mm512_castsi512_ps(_mm512_maskz_add_epi32(keep, _mm512_castps_si512(p), n));
}

/* j += j + 8, + 4, + 2, + 1. */
SPARK_INLINE float vf_fold(VF x)
{
    const __m256 a = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}

SPARK_INLINE float vf_fold_max(VF x)
{
    const __m256 a = _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    const __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}

/* Pairs (a0 b0 a1 b1 ...) of two vectors to (a0 a1 ...), (b0 b1 ...) and back. */
SPARK_INLINE void vf_unzip(VF x, VF y, VF *a, VF *b)
{
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    *a = _mm512_permutex2var_ps(x, even, y);
    *b = _mm512_permutex2var_ps(x, _mm512_add_epi32(even, _mm512_set1_epi32(1)), y);
}
SPARK_INLINE void vf_zip(VF a, VF b, VF *x, VF *y)
{
    const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    *x = _mm512_permutex2var_ps(a, low, b);
    *y = _mm512_permutex2var_ps(a, _mm512_add_epi32(low, _mm512_set1_epi32(8)), b);
}

/* Halves; narrowing rounds to nearest even. */
SPARK_INLINE VF vf_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
SPARK_INLINE void vf_store_f16(uint16_t *p, VF x)
{
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

/* Int8 levels to floats; floats of at most 127 to levels, nearest even. */
SPARK_INLINE VF vf_load_i8(const int8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
}
SPARK_INLINE void vf_store_i8(int8_t *p, VF x)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x)));
}

/* Dot products of four int8 pairs a lane. The unit wants one operand unsigned: k + 128, and the sum starts at
 * -128 * (sum of q), which the caller has prepared (VI_DOT_BIAS times that sum). */
#define VI_DOT_BIAS (-128)
typedef struct VI_DOT_K {
    VI u;
} VI_DOT_K;
SPARK_INLINE VI vi_set1(int32_t x) { return _mm512_set1_epi32(x); }
SPARK_INLINE VI_DOT_K vi_dot_load(const uint8_t *p)
{
    return (VI_DOT_K){_mm512_xor_si512(_mm512_loadu_si512(p), _mm512_set1_epi8(-128))};
}
SPARK_INLINE VI vi_dot(VI acc, VI_DOT_K k, VI q) { return _mm512_dpbusd_epi32(acc, k.u, q); }
SPARK_INLINE VF vi_to_f(VI x) { return _mm512_cvtepi32_ps(x); }

#endif
