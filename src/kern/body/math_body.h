/* math_body.h - exp and tanh a vector at a time: the sequences of ref/math.c, with selection where those branch. */
#ifndef SPARK_KERN_BODY_MATH_BODY_H
#define SPARK_KERN_BODY_MATH_BODY_H

#include "kern/ref/math_poly.h"

/* exp(x) for x <= SPARK_EXP_MAX (any x below, -infinity too). */
SPARK_INLINE VF vf_exp_bounded(VF x)
{
    const VF t = vf_fma(x, vf_set1(SPARK_LOG2E), vf_set1(SPARK_ROUND_MAGIC));
    const VF n = vf_sub(t, vf_set1(SPARK_ROUND_MAGIC));
    VF r = vf_fma(n, vf_set1(-SPARK_LN2_HI), x);
    r = vf_fma(n, vf_set1(-SPARK_LN2_LO), r);
    VF p = vf_set1(SPARK_EXP_E6);
    p = vf_fma(p, r, vf_set1(SPARK_EXP_E5));
    p = vf_fma(p, r, vf_set1(SPARK_EXP_E4));
    p = vf_fma(p, r, vf_set1(SPARK_EXP_E3));
    p = vf_fma(p, r, vf_set1(SPARK_EXP_E2));
    p = vf_fma(p, r, vf_set1(1.0f));
    p = vf_fma(p, r, vf_set1(1.0f));
    return vf_scale2(p, t, vf_not_less(x, vf_set1(SPARK_EXP_MIN)));
}

SPARK_INLINE VF vf_exp(VF x)
{
    return vf_select(vf_less(vf_set1(SPARK_EXP_MAX), x), vf_set1(__builtin_inff()), vf_exp_bounded(x));
}

SPARK_INLINE VF vf_tanh(VF x)
{
    const VF a = vf_abs(x), s = vf_mul(a, a);
    VF p = vf_set1(SPARK_TANH_T5);
    p = vf_fma(p, s, vf_set1(SPARK_TANH_T4));
    p = vf_fma(p, s, vf_set1(SPARK_TANH_T3));
    p = vf_fma(p, s, vf_set1(SPARK_TANH_T2));
    p = vf_fma(p, s, vf_set1(SPARK_TANH_T1));
    p = vf_fma(p, s, vf_set1(SPARK_TANH_T0));
    const VF small = vf_fma(vf_mul(p, s), a, a);
    const VF e = vf_exp(vf_mul(vf_set1(2.0f), a)), one = vf_set1(1.0f);
    const VF large = vf_sub(one, vf_div(vf_set1(2.0f), vf_add(e, one)));
    return vf_with_sign(vf_select(vf_less(a, vf_set1(SPARK_TANH_MID)), small, large), x);
}

#endif
