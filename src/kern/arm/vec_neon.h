/* vec_neon.h - what the bodies in kern/body ask of a vector unit, as NEON: 8 floats a vector, two registers side by side (one
 * has four lanes, and the bodies want a tile's rows in one vector). VF: floats, VI: 32-bit integers, VM: one condition a lane.
 * _n forms touch the first n lanes only (1 <= n <= VF_LANES). The includer defines SPARK_K; compiled with the dot-product
 * instructions, vi_dot uses them. */
#ifndef SPARK_KERN_ARM_VEC_NEON_H
#define SPARK_KERN_ARM_VEC_NEON_H

#include <arm_neon.h>
#include <stdint.h>

#include "base/compiler.h"

#define VF_LANES 8u

typedef struct VF {
    float32x4_t low, high;
} VF;
typedef struct VI {
    int32x4_t low, high;
} VI;
typedef struct VM {
    uint32x4_t low, high;
} VM;

#define VF_EACH(f, a)      ((VF){f((a).low), f((a).high)})
#define VF_EACH_2(f, a, b) ((VF){f((a).low, (b).low), f((a).high, (b).high)})

SPARK_INLINE VF vf_set1(float x) { return (VF){vdupq_n_f32(x), vdupq_n_f32(x)}; }
SPARK_INLINE VF vf_zero(void) { return vf_set1(0); }
SPARK_INLINE VF vf_load(const float *p) { return (VF){vld1q_f32(p), vld1q_f32(p + 4)}; }
SPARK_INLINE void vf_store(float *p, VF x) { vst1q_f32(p, x.low), vst1q_f32(p + 4, x.high); }
/* Lanes from n on read as zero. */
SPARK_INLINE VF vf_load_n(const float *p, uint32_t n)
{
    float whole[VF_LANES] = {0};
    for (uint32_t i = 0; i < n; i++) whole[i] = p[i];
    return vf_load(whole);
}
SPARK_INLINE void vf_store_n(float *p, VF x, uint32_t n)
{
    float whole[VF_LANES];
    vf_store(whole, x);
    for (uint32_t i = 0; i < n; i++) p[i] = whole[i];
}

SPARK_INLINE void vf_prefetch(const void *p) { __builtin_prefetch(p); }

SPARK_INLINE VF vf_add(VF a, VF b) { return VF_EACH_2(vaddq_f32, a, b); }
SPARK_INLINE VF vf_sub(VF a, VF b) { return VF_EACH_2(vsubq_f32, a, b); }
SPARK_INLINE VF vf_mul(VF a, VF b) { return VF_EACH_2(vmulq_f32, a, b); }
SPARK_INLINE VF vf_div(VF a, VF b) { return VF_EACH_2(vdivq_f32, a, b); }
SPARK_INLINE VF vf_fma(VF a, VF b, VF c)
{
    return (VF){vfmaq_f32(c.low, a.low, b.low), vfmaq_f32(c.high, a.high, b.high)};
}
SPARK_INLINE VF vf_max(VF a, VF b) { return VF_EACH_2(vmaxq_f32, a, b); }
SPARK_INLINE VF vf_min(VF a, VF b) { return VF_EACH_2(vminq_f32, a, b); }
SPARK_INLINE VF vf_abs(VF a) { return VF_EACH(vabsq_f32, a); }
SPARK_INLINE VF vf_neg(VF a) { return VF_EACH(vnegq_f32, a); }
SPARK_INLINE VM vf_less(VF a, VF b) { return (VM){vcltq_f32(a.low, b.low), vcltq_f32(a.high, b.high)}; }
SPARK_INLINE VM vf_not_less(VF a, VF b) /* NaN too */
{
    const VM less = vf_less(a, b);
    return (VM){vmvnq_u32(less.low), vmvnq_u32(less.high)};
}
SPARK_INLINE VF vf_select(VM m, VF yes, VF no)
{
    return (VF){vbslq_f32(m.low, yes.low, no.low), vbslq_f32(m.high, yes.high, no.high)};
}
/* The magnitude of a with the sign of s (a >= 0). */
SPARK_INLINE VF vf_with_sign(VF a, VF s)
{
    const uint32x4_t sign = vdupq_n_u32(0x80000000);
    return vf_select((VM){sign, sign}, s, a);
}

/* x with the lanes outside [begin, end) replaced by `other`; begin <= VF_LANES, end may be larger. */
SPARK_INLINE uint32x4_t vm_range(uint32_t first, uint32_t begin, uint32_t end)
{
    static const uint32_t count[4] = {0, 1, 2, 3};
    const uint32x4_t lane = vaddq_u32(vld1q_u32(count), vdupq_n_u32(first));
    return vandq_u32(vcgeq_u32(lane, vdupq_n_u32(begin)), vcltq_u32(lane, vdupq_n_u32(end)));
}
SPARK_INLINE VF vf_keep_range(VF x, uint32_t begin, uint32_t end, VF other)
{
    return vf_select((VM){vm_range(0, begin, end), vm_range(4, begin, end)}, x, other);
}

/* p * 2^n, n = the low bits of t (body/math_body.h), or +0 in lanes that are not kept. */
SPARK_INLINE float32x4_t vf_scale2_half(float32x4_t p, float32x4_t t, uint32x4_t keep)
{
    const uint32x4_t n = vshlq_n_u32(vreinterpretq_u32_f32(t), 23);
    return vreinterpretq_f32_u32(vandq_u32(vaddq_u32(vreinterpretq_u32_f32(p), n), keep));
}
SPARK_INLINE VF vf_scale2(VF p, VF t, VM keep)
{
    return (VF){vf_scale2_half(p.low, t.low, keep.low), vf_scale2_half(p.high, t.high, keep.high)};
}

/* j += j + 4, + 2, + 1. */
SPARK_INLINE float vf_fold(VF x)
{
    const float32x4_t b = vaddq_f32(x.low, x.high);
    const float32x2_t c = vadd_f32(vget_low_f32(b), vget_high_f32(b));
    return vget_lane_f32(c, 0) + vget_lane_f32(c, 1);
}
SPARK_INLINE float vf_fold_max(VF x) { return vmaxvq_f32(vmaxq_f32(x.low, x.high)); }

/* Pairs (a0 b0 a1 b1 ...) of two vectors to (a0 a1 ...), (b0 b1 ...) and back. */
SPARK_INLINE void vf_unzip(VF x, VF y, VF *a, VF *b)
{
    *a = (VF){vuzp1q_f32(x.low, x.high), vuzp1q_f32(y.low, y.high)};
    *b = (VF){vuzp2q_f32(x.low, x.high), vuzp2q_f32(y.low, y.high)};
}
SPARK_INLINE void vf_zip(VF a, VF b, VF *x, VF *y)
{
    *x = (VF){vzip1q_f32(a.low, b.low), vzip2q_f32(a.low, b.low)};
    *y = (VF){vzip1q_f32(a.high, b.high), vzip2q_f32(a.high, b.high)};
}

/* Halves; narrowing rounds to nearest even. */
SPARK_INLINE VF vf_load_f16(const uint16_t *p)
{
    const float16x8_t h = vreinterpretq_f16_u16(vld1q_u16(p));
    return (VF){vcvt_f32_f16(vget_low_f16(h)), vcvt_high_f32_f16(h)};
}
SPARK_INLINE void vf_store_f16(uint16_t *p, VF x)
{
    vst1q_u16(p, vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(x.low), x.high)));
}

/* Int8 levels to floats; floats of at most 127 to levels, nearest even. */
SPARK_INLINE VF vf_load_i8(const int8_t *p)
{
    const int16x8_t w = vmovl_s8(vld1_s8(p));
    return (VF){vcvtq_f32_s32(vmovl_s16(vget_low_s16(w))), vcvtq_f32_s32(vmovl_high_s16(w))};
}
SPARK_INLINE void vf_store_i8(int8_t *p, VF x)
{
    const int16x4_t low = vmovn_s32(vcvtnq_s32_f32(x.low));
    vst1_s8(p, vmovn_s16(vmovn_high_s32(low, vcvtnq_s32_f32(x.high))));
}

/* Dot products of four int8 pairs a lane. Levels lie within +-127, so two products fit int16. */
#define VI_DOT_BIAS 0
typedef struct VI_DOT_K {
    int8x16_t low, high;
} VI_DOT_K;
SPARK_INLINE VI vi_set1(int32_t x) { return (VI){vdupq_n_s32(x), vdupq_n_s32(x)}; }
SPARK_INLINE VI_DOT_K vi_dot_load(const uint8_t *p)
{
    return (VI_DOT_K){vreinterpretq_s8_u8(vld1q_u8(p)), vreinterpretq_s8_u8(vld1q_u8(p + 16))};
}
SPARK_INLINE int32x4_t vi_dot_half(int32x4_t acc, int8x16_t k, int32x4_t q)
{
    const int8x16_t x = vreinterpretq_s8_s32(q);
#ifdef __ARM_FEATURE_DOTPROD
    return vdotq_s32(acc, k, x);
#else
    const int16x8_t low = vmull_s8(vget_low_s8(k), vget_low_s8(x)), high = vmull_high_s8(k, x);
    return vpadalq_s16(acc, vpaddq_s16(low, high));
#endif
}
SPARK_INLINE VI vi_dot(VI acc, VI_DOT_K k, VI q)
{
    return (VI){vi_dot_half(acc.low, k.low, q.low), vi_dot_half(acc.high, k.high, q.high)};
}
SPARK_INLINE VF vi_to_f(VI x) { return VF_EACH(vcvtq_f32_s32, x); }

#endif
