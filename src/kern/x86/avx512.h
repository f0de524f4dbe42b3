/* avx512.h - what the products of AVX-512 and AMX share: vectors, the operations that levels.h asks for, the ends of the
 * chains and the storing of results. Included once by the file of each level, which defines k_traits_of before. */
#ifndef SPARK_KERN_X86_AVX512_H
#define SPARK_KERN_X86_AVX512_H

#include <immintrin.h>

#include "kern/panel.h"
#include "kern/x86/traits.h"

typedef __m512i vi;
typedef __m512 vf;

/* ---- The operations that levels.h asks for --------------------------------------------------------------------- */

#define l_line(s, i)         _mm512_load_si512((s).lines + (i) * (size_t)PANEL_LINE)
#define l_halves(s, at)      _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(const void *)((s).lines + (at))))
#define l_words(s, at)       _mm512_cvtepu16_epi32(_mm256_load_si256((const __m256i *)(const void *)((s).lines + (at))))
#define l_put(to, x)         _mm512_store_si512(to, x)
#define l_putf(to, x)        _mm512_store_ps(to, x)
#define l_all8(x)            _mm512_set1_epi8((char)(x))
#define l_all32(x)           _mm512_set1_epi32(x)
#define l_right(x, n)        _mm512_srli_epi32(x, n)
#define l_right_signed(x, n) _mm512_srai_epi32(x, n)
#define l_left(x, n)         _mm512_slli_epi32(x, n)
#define l_left16(x, n)       _mm512_slli_epi16(x, n)
#define l_and(a, b)          _mm512_and_si512(a, b)
#define l_xor(a, b)          _mm512_xor_si512(a, b)
#define l_or_and(a, b, m)    _mm512_ternarylogic_epi32(a, b, m, 0xf8) /* a | (b & m) */
#define l_sub8(a, b)         _mm512_sub_epi8(a, b)
#define l_sub16(a, b)        _mm512_sub_epi16(a, b)
#define l_add16(a, b)        _mm512_add_epi16(a, b)
#define l_sub32(a, b)        _mm512_sub_epi32(a, b)
#define l_negative(x)        _mm512_xor_ps(x, _mm512_set1_ps(-0.0f))
#define l_table(t, index)    _mm512_shuffle_epi8(_mm512_broadcast_i32x4(t), index)
#define l_scale_signed(s)    (s) /* for vpmulld */
#define l_scale(s)           (s) /* the low half of a lane; the high one must be zero for vpdpwssd */

#include "kern/x86/levels.h"

/* ---- Operands --------------------------------------------------------------------------------------------------- */

SPARK_INLINE vi t_word(const uint8_t *p)
{
    int x;
    memcpy(&x, p, 4);
    return l_all32(x);
}

SPARK_INLINE vf t_float(const uint8_t *p)
{
    float x;
    memcpy(&x, p, 4);
    return _mm512_set1_ps(x);
}

SPARK_INLINE vi t_ints(const uint8_t *p, size_t line) { return _mm512_load_si512(p + line * PANEL_LINE); }
SPARK_INLINE vf t_vec(const uint8_t *p) { return _mm512_load_ps(p); }

/* ---- The ends of the chains -------------------------------------------------------------------------------------- */

/* One block of 32 columns. */
SPARK_INLINE vf t_chain_32(int has_min, vi isum, vf d, vf m, const uint8_t *x, vf acc)
{
    const vf dx = t_float(x + offsetof(spark__act32, d)), sum = _mm512_cvtepi32_ps(isum);
    if (!has_min) return _mm512_fmadd_ps(_mm512_mul_ps(d, dx), sum, acc);
    const vf u = _mm512_fmadd_ps(m, t_float(x + offsetof(spark__act32, sum)), _mm512_mul_ps(d, sum));
    return _mm512_fmadd_ps(dx, u, acc);
}

/* The end of a block: offset and minimum, then the chain. `head` is the vector of this row half, `step` bytes apart. */
SPARK_INLINE vf t_chain_256(k_traits k, vi isum, const uint8_t *head, size_t step, const uint8_t *x, vf acc)
{
    const uint8_t *off = head + (1u + (k.n_min != 0) + k.n_scale) * step, *min = off + k.n_off * step;
    const unsigned sum32 = offsetof(spark__act256, sum32), m16 = offsetof(spark__act256, m16);
    const vf dx = t_float(x);
    SPARK_UNROLL(8)
    for (unsigned p = 0; p < k.n_off; p++)
        isum = _mm512_dpwssd_epi32(isum, t_word(x + (k.n_off == 4 ? sum32 : m16) + 4 * p), t_ints(off + p * step, 0));
    if (k.shift) isum = _mm512_srai_epi32(isum, 2);
    if (k.n_min == 0) return _mm512_fmadd_ps(_mm512_mul_ps(t_vec(head), dx), _mm512_cvtepi32_ps(isum), acc);
    vi msum = _mm512_setzero_si512();
    SPARK_UNROLL(8)
    for (unsigned p = 0; p < k.n_min; p++)
        msum = _mm512_dpwssd_epi32(msum, t_word(x + (k.n_min == 4 ? sum32 : m16) + 4 * p), t_ints(min + p * step, 0));
    if (k.n_min == 8) msum = _mm512_srai_epi32(msum, 4);
    vf u = _mm512_mul_ps(t_vec(head), _mm512_cvtepi32_ps(isum));
    u = _mm512_fmadd_ps(t_vec(head + step), _mm512_cvtepi32_ps(msum), u);
    return _mm512_fmadd_ps(dx, u, acc);
}

/* ---- Results --------------------------------------------------------------------------------------------------- */

SPARK_INLINE void t_store(const spark_matmul_args *a, uint32_t panel, uint32_t token, vf y)
{
    const uint32_t row = panel * PANEL_ROWS, left = a->w->n_rows - row;
    const __mmask16 mask = left >= PANEL_ROWS ? (__mmask16)0xffff : (__mmask16)((1u << left) - 1);
    if (a->bias) y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(mask, a->bias + row));
    _mm512_mask_storeu_ps(a->out + token * a->out_stride + row, mask, y);
}

#endif
