/* math64.c - exp, log, sine and cosine in double precision, for tables made at load (RoPE frequencies and angles).
 * Only + - * / and comparisons, each rounded by itself, so any IEEE machine gives the same bits; series with exact
 * coefficients instead of fitted ones, because speed matters little here. Within 2 ulp (ops_test.c). */
#include <stdint.h>
#include <string.h>

#include "kern/kern.h"

#define M64_LN2_HI 0x1.62e42feep-1 /* 32 bits: n * LN2_HI is exact for |n| < 2^20 */
#define M64_LN2_LO 0x1.a39ef35793c76p-33

/* 2^n for a normal result. */
static double m64_pow2(int n)
{
    const uint64_t u = (uint64_t)(n + 1023) << 52;
    double x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* Nearest integer, ties to even, for |x| < 2^51. */
static double m64_round(double x)
{
    const double magic = 0x1.8p52;
    return (x + magic) - magic;
}

double spark_exp64(double x)
{
    if (x > 709.782712893384) return 1e308 * 1e308;
    if (x < -745.2) return 0.0;
    const double n = m64_round(x * 1.4426950408889634);
    const double hi = x - n * M64_LN2_HI, lo = n * M64_LN2_LO;
    const double r = hi - lo;
    double p = 0; /* (exp(r) - 1 - r) / r^2 by its series; |r| <= 0.347, so r^14 / 14! is below 2^-57 */
    for (int i = 13; i >= 2; i--) p = (1.0 + p * r) / (double)i;
    const double small = p * r * r + ((hi - r) - lo); /* with the rounding error of r itself */
    const double y = 1.0 + (r + small);
    const int half = (int)n / 2; /* in two steps: 2^n alone may be denormal or too large */
    return y * m64_pow2(half) * m64_pow2((int)n - half);
}

/* x = 2^e (1 + f), s = f / (2 + f): log(1 + f) = 2 atanh(s) = f - (f^2/2 - s (f^2/2 + R)), R = 2 s^2 (1/3 + s^2/5 + ...). */
double spark_log64(double x)
{
    if (!(x > 0) || x > 1.7976931348623157e308) return x > 0 ? x : -(1e308 * 1e308);
    int e = 0;
    if (x < 0x1p-1022) {
        x *= 0x1p54;
        e = -54;
    }
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    const uint64_t root_half = UINT64_C(0x3fe6a09e667f3bcd);
    const uint64_t above = u - root_half;
    e += (int)((int64_t)above >> 52);
    u = (above & UINT64_C(0xfffffffffffff)) + root_half;
    memcpy(&x, &u, sizeof x);
    const double f = x - 1.0, s = f / (2.0 + f), z = s * s, half_square = 0.5 * f * f;
    double series = 0; /* z <= 0.0295: z^11 is below 2^-55 */
    for (int k = 23; k >= 3; k -= 2) series = series * z + 2.0 / (double)k;
    const double r = series * z;
    if (e == 0) return f - (half_square - s * (half_square + r));
    const double n = (double)e;
    return n * M64_LN2_HI - ((half_square - (s * (half_square + r) + n * M64_LN2_LO)) - f);
}

/* 1 / (i (i - 1)): one step of the series of sine (odd i) or cosine (even i). */
static const double m64_step[] = {
    0,        0,         1.0 / 2,   1.0 / 6,   1.0 / 12,  1.0 / 20,  1.0 / 30,  1.0 / 42,  1.0 / 56,  1.0 / 72,
    1.0 / 90, 1.0 / 110, 1.0 / 132, 1.0 / 156, 1.0 / 182, 1.0 / 210, 1.0 / 240, 1.0 / 272, 1.0 / 306,
};

/* pi / 2 in parts of 23 bits: n * part is exact for |n| < 2^30, and the parts go on far enough (160 bits) for an angle that
 * lies next to a multiple of pi / 2. */
static const double m64_half_pi[] = {
    0x1.921fb4p+0, 0x1.4442dp-24, 0x1.84698p-48, 0x1.3198ap-69, 0x1.701b8p-92, 0x1.cd129p-115, 0x1.270440p-142,
};

/* x - n pi/2 as hi + lo. */
static void m64_reduce(double x, double n, double *hi, double *lo)
{
    double h = x, l = 0;
    for (unsigned i = 0; i < sizeof m64_half_pi / sizeof m64_half_pi[0]; i++) {
        const double b = -(n * m64_half_pi[i]), sum = h + b;
        const double bb = sum - h; /* two-sum: sum + error is exactly h + b */
        l += (h - (sum - bb)) + (b - bb);
        h = sum;
    }
    *hi = h + l;
    *lo = l - (*hi - h);
}

void spark_sincos64(double x, double *sin, double *cos)
{
    const double n = m64_round(x * 0.6366197723675814);
    double r, tail;
    m64_reduce(x, n, &r, &tail);
    const double z = r * r;
    /* Taylor series; |r| <= 0.7855, so r^19/19! and r^20/20! are below 2^-60. The tail enters by the derivative. */
    double a = 0, b = 0;
    for (int i = 17; i >= 3; i -= 2) a = -(a * z + 1.0) * m64_step[i];
    for (int i = 18; i >= 4; i -= 2) b = -(b * z + 1.0) * m64_step[i];
    const double s = r + (a * z * r + tail * (1.0 - 0.5 * z));
    const double half = 0.5 * z, w = 1.0 - half;
    const double c = w + (((1.0 - w) - half) + (-(b * z * half) - r * tail));
    const unsigned quarter = (unsigned)(int64_t)n & 3;
    const double along = quarter & 1 ? c : s, across = quarter & 1 ? s : c;
    *sin = quarter & 2 ? -along : along;
    *cos = quarter == 1 || quarter == 2 ? -across : across;
}
