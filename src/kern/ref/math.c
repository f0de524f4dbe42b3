/* math.c - exp, tanh, log and erf in single precision: fixed sequences of fma, the meaning of every faster form.
 * Errors against the exact function are bounded by SPARK_*_ULP (ops_test.c). NaN gives some NaN or a number, never a trap. */
#include <stdint.h>
#include <string.h>

#include "kern/kern.h"
#include "kern/ref/fma.h"
#include "kern/ref/math_poly.h"

static uint32_t math_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static float math_float(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static float math_abs(float x) { return math_float(math_bits(x) & 0x7fffffff); }
static float math_with_sign(float magnitude, float sign)
{
    return math_float((math_bits(magnitude) & 0x7fffffff) | (math_bits(sign) & 0x80000000));
}

/* x = n ln2 + r; exp(x) = 2^n exp(r). */
float spark_expf(float x)
{
    if (x < SPARK_EXP_MIN) return 0.0f;
    if (x > SPARK_EXP_MAX) return math_float(0x7f800000);
    const float t = spark_fma(x, SPARK_LOG2E, SPARK_ROUND_MAGIC);
    const float n = t - SPARK_ROUND_MAGIC;
    float r = spark_fma(n, -SPARK_LN2_HI, x);
    r = spark_fma(n, -SPARK_LN2_LO, r);
    float p = SPARK_EXP_E6;
    p = spark_fma(p, r, SPARK_EXP_E5);
    p = spark_fma(p, r, SPARK_EXP_E4);
    p = spark_fma(p, r, SPARK_EXP_E3);
    p = spark_fma(p, r, SPARK_EXP_E2);
    p = spark_fma(p, r, 1.0f);
    p = spark_fma(p, r, 1.0f);
    /* The low bits of t hold n (the magic's own bits leave at the top); p is within [0.7, 1.42) and x within the bounds
     * above, so the exponent field neither underflows nor overflows. */
    return math_float(math_bits(p) + (math_bits(t) << 23));
}

float spark_tanhf(float x)
{
    const float a = math_abs(x);
    if (a < SPARK_TANH_MID) {
        const float s = a * a;
        float p = SPARK_TANH_T5;
        p = spark_fma(p, s, SPARK_TANH_T4);
        p = spark_fma(p, s, SPARK_TANH_T3);
        p = spark_fma(p, s, SPARK_TANH_T2);
        p = spark_fma(p, s, SPARK_TANH_T1);
        p = spark_fma(p, s, SPARK_TANH_T0);
        return math_with_sign(spark_fma(p * s, a, a), x);
    }
    return math_with_sign(1.0f - 2.0f / (spark_expf(2.0f * a) + 1.0f), x);
}

/* x = 2^e (1 + f) with 1 + f in [2/3, 4/3). */
float spark_logf(float x)
{
    if (x > 3.40282347e+38f) return x;
    float e = 0;
    if (x < 0x1p-126f) {
        x *= 0x1p23f;
        e = -23;
    }
    const uint32_t two_thirds = 0x3f2aaaab;
    const uint32_t above = math_bits(x) - two_thirds;
    e += (float)((int32_t)above >> 23);
    const float f = math_float((above & 0x7fffff) + two_thirds) - 1.0f;
    float p = SPARK_LOG_L9;
    p = spark_fma(p, f, SPARK_LOG_L8);
    p = spark_fma(p, f, SPARK_LOG_L7);
    p = spark_fma(p, f, SPARK_LOG_L6);
    p = spark_fma(p, f, SPARK_LOG_L5);
    p = spark_fma(p, f, SPARK_LOG_L4);
    p = spark_fma(p, f, SPARK_LOG_L3);
    p = spark_fma(p, f, SPARK_LOG_L2);
    p = spark_fma(p, f, SPARK_LOG_L1);
    p = spark_fma(p, f, SPARK_LOG_L0);
    float y = spark_fma(e, SPARK_LN2_LO, f);
    y = spark_fma(p, f * f, y);
    return spark_fma(e, SPARK_LN2_HI, y);
}

float spark_erff(float x)
{
    float a = math_abs(x);
    if (a < SPARK_ERF_MID) {
        const float s = x * x;
        float p = SPARK_ERF_S6;
        p = spark_fma(p, s, SPARK_ERF_S5);
        p = spark_fma(p, s, SPARK_ERF_S4);
        p = spark_fma(p, s, SPARK_ERF_S3);
        p = spark_fma(p, s, SPARK_ERF_S2);
        p = spark_fma(p, s, SPARK_ERF_S1);
        p = spark_fma(p, s, SPARK_ERF_S0);
        return spark_fma(p, x, x);
    }
    if (a > SPARK_ERF_MAX) a = SPARK_ERF_MAX;
    float p = SPARK_ERF_B7;
    p = spark_fma(p, a, SPARK_ERF_B6);
    p = spark_fma(p, a, SPARK_ERF_B5);
    p = spark_fma(p, a, SPARK_ERF_B4);
    p = spark_fma(p, a, SPARK_ERF_B3);
    p = spark_fma(p, a, SPARK_ERF_B2);
    p = spark_fma(p, a, SPARK_ERF_B1);
    p = spark_fma(p, a, SPARK_ERF_B0);
    return math_with_sign(1.0f - spark_expf(p * a), x);
}
