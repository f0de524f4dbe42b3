/* fma_test.c - the software fused multiply-add against exact integer arithmetic, on cases made to break it. */
#include <string.h>

#include "base/test.h"
#include "kern/ref/fma.h"

static uint64_t fma_state = 0x9e3779b97f4a7c15;

static uint32_t fma_random(void)
{
    fma_state ^= fma_state << 13;
    fma_state ^= fma_state >> 7;
    fma_state ^= fma_state << 17;
    return (uint32_t)(fma_state >> 16);
}

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

/* A finite number as (-1)^sign * mantissa * 2^exponent. */
typedef struct exact {
    int sign, exponent;
    uint64_t mantissa;
} exact;

static exact exact_of(float x)
{
    const uint32_t u = bits_of(x), e = u >> 23 & 255, m = u & 0x7fffff;
    return (exact){(int)(u >> 31), e ? (int)e - 150 : -149, e ? m | 0x800000 : m};
}

/* Moves the top bit to bit 61. */
static exact exact_normal(exact a)
{
    while (a.mantissa >> 61 == 0) {
        a.mantissa <<= 1;
        a.exponent--;
    }
    return a;
}

static uint64_t shift_sticky(uint64_t m, int by)
{
    if (by <= 0) return m;
    if (by > 63) return m != 0;
    return m >> by | ((m & (((uint64_t)1 << by) - 1)) != 0);
}

/* Rounds to nearest even; the lowest bit of the mantissa may be sticky. */
static float exact_round(exact a)
{
    const uint32_t sign = (uint32_t)a.sign << 31;
    if (a.mantissa == 0) return float_of(sign);
    a = exact_normal(a);
    const int top = a.exponent + 61,
              drop = top < -126 ? -149 - a.exponent : 61 - 23; /* below 2^-126 the unit is 2^-149 */
    const uint64_t m = shift_sticky(a.mantissa, drop - 2), kept = m >> 2, rest = m & 3; /* two bits: half and sticky */
    const uint64_t up = rest == 3 || (rest == 2 && (kept & 1) != 0);
    if (top > 127) return float_of(sign | 0x7f800000);
    const uint64_t biased = top < -126 ? kept : ((uint64_t)(top + 126) << 23) + kept; /* the hidden bit adds one */
    const uint64_t u = biased + up;
    return float_of(sign | (uint32_t)u);
}

static float fma_exact(float x, float y, float z)
{
    const exact a = exact_of(x), b = exact_of(y);
    exact p = {a.sign ^ b.sign, a.exponent + b.exponent, a.mantissa * b.mantissa}, c = exact_of(z);
    if (p.mantissa == 0 && c.mantissa == 0) return float_of((uint32_t)(p.sign & c.sign) << 31);
    if (p.mantissa == 0) return z;
    if (c.mantissa == 0) return exact_round(p);
    p = exact_normal(p);
    c = exact_normal(c);
    if (c.exponent > p.exponent || (c.exponent == p.exponent && c.mantissa > p.mantissa)) {
        const exact swap = p;
        p = c;
        c = swap;
    }
    const uint64_t small = shift_sticky(c.mantissa, p.exponent - c.exponent);
    if (p.sign != c.sign && p.mantissa == small) return 0; /* exact cancellation gives +0 */
    p.mantissa = p.sign == c.sign ? p.mantissa + small : p.mantissa - small;
    if (p.mantissa >> 62) { /* keep bit 61 the top */
        p.mantissa = shift_sticky(p.mantissa, 1);
        p.exponent++;
    }
    return exact_round(p);
}

/* A finite float: any exponent; few bits, all bits, near one, or subnormal, so that sums tie and cancel. */
static float fma_operand(void)
{
    uint32_t u = fma_random();
    switch (fma_random() % 6) {
    case 0: u &= 0xff800000; break;
    case 1: u |= 0x7fffff; break;
    case 2: u = (u & 0x807fffff) | 0x3f800000; break;
    case 3: u &= 0x80ffffff; break;
    case 4: u = (u & 0xff800000) | 1u << fma_random() % 23; break;
    default: break;
    }
    return (u >> 23 & 255) == 255 ? float_of(u & 0xbfffffff) : float_of(u);
}

/* An addend for a product: unrelated, its negative within two units, or within fifty binades. */
static float fma_addend(float product)
{
    const uint32_t near = bits_of(-product), any = fma_random();
    uint32_t u = bits_of(fma_operand());
    if (any % 4 == 0) u = near + any / 4 % 5 - 2;
    if (any % 4 == 1) u = (u & 0x807fffff) | ((near >> 23) + any / 4 % 100 - 50) % 255 << 23;
    return (u >> 23 & 255) == 255 ? 0 : float_of(u);
}

static void assert_fma(float a, float b, float c)
{
    const uint32_t got = bits_of(spark_fmaf_soft(a, b, c)), expected = bits_of(fma_exact(a, b, c));
    if (got != expected)
        fail_msg("fma(%a, %a, %a): got %08x expected %08x", (double)a, (double)b, (double)c, got, expected);
}

static void test_soft_fma_rounds_once_on_adversarial_operands(void **state)
{
    (void)state;
    for (int i = 0; i < 4000000; i++) {
        const float a = fma_operand(), b = fma_operand();
        assert_fma(a, b, fma_addend((float)((double)a * b)));
    }
}

static void test_soft_fma_breaks_ties_by_the_smallest_addend(void **state)
{
    (void)state;
    const float tiny = float_of(1), half_ulp = 0x1p-24f;
    assert_fma(1 + 0x1p-23f, half_ulp, 1);
    assert_true(spark_fmaf_soft(half_ulp, 1, 1) == 1);                                         /* a tie goes to even */
    assert_true(spark_fmaf_soft(1 + 0x1p-23f, half_ulp, 1) == 1 + 0x1p-23f);                   /* just above the tie */
    assert_true(spark_fmaf_soft(1 + 0x1p-12f, 1 + 0x1p-12f, tiny) == 1 + 0x1p-11f + 0x1p-23f); /* tie + 2^-149 */
    assert_true(spark_fmaf_soft(1 + 0x1p-12f, 1 + 0x1p-12f, -tiny) == 1 + 0x1p-11f);
}

static void test_soft_fma_keeps_the_signs_of_zero(void **state)
{
    (void)state;
    assert_int_equal(bits_of(spark_fmaf_soft(-1, 0, -0.0f)), 0x80000000);
    assert_int_equal(bits_of(spark_fmaf_soft(-1, 0, 0)), 0);
    assert_int_equal(bits_of(spark_fmaf_soft(1, 1, -1)), 0);
    assert_int_equal(bits_of(spark_fmaf_soft(-float_of(1), float_of(1), 0)), 0x80000000); /* underflow */
}

static void test_soft_fma_carries_infinity_and_nan(void **state)
{
    (void)state;
    const float inf = float_of(0x7f800000), largest = float_of(0x7f7fffff);
    assert_true(spark_fmaf_soft(largest, 2, 0) == inf);
    assert_true(spark_fmaf_soft(largest, 2, -largest) == largest);
    assert_true(spark_fmaf_soft(inf, -1, 5) == -inf);
    const float nan = spark_fmaf_soft(inf, 1, -inf);
    assert_true(nan != nan);
}

static void test_inline_fma_equals_the_software_form(void **state)
{
    (void)state;
    for (int i = 0; i < 100000; i++) {
        const float a = fma_operand(), b = fma_operand(), c = fma_addend((float)((double)a * b));
        assert_int_equal(bits_of(spark_fma(a, b, c)), bits_of(spark_fmaf_soft(a, b, c)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_soft_fma_rounds_once_on_adversarial_operands),
        cmocka_unit_test(test_soft_fma_breaks_ties_by_the_smallest_addend),
        cmocka_unit_test(test_soft_fma_keeps_the_signs_of_zero),
        cmocka_unit_test(test_soft_fma_carries_infinity_and_nan),
        cmocka_unit_test(test_inline_fma_equals_the_software_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
