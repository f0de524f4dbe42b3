/* fma.c - fused multiply-add without the instruction.
 * The product of two floats has 48 bits and an exponent far inside double's range, so p = a * b is exact. The sum p + c is
 * rounded to odd: an inexact sum with an even last bit moves one step towards the exact value. Double has 53 bits, more than
 * 2 * 24 + 2, so rounding that to float equals rounding the exact sum (Boldo and Melquiond, "Emulation of a FMA", 2008). */
#include "kern/ref/fma.h"

#include <stdint.h>
#include <string.h>

float spark_fmaf_soft(float a, float b, float c)
{
    const double p = (double)a * (double)b, z = (double)c;
    const double sum = p + z;
    uint64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    if ((bits & 1) != 0 || (bits >> 52 & 0x7ff) == 0x7ff) return (float)sum; /* odd already, or infinite or NaN */
    const double p_part = sum - z, z_part = sum - p_part; /* Knuth's two-sum: sum + error is exactly p + z */
    const double error = (p - p_part) + (z - z_part);
    if (error == 0) return (float)sum;
    bits += (error > 0) == (sum > 0) ? 1 : UINT64_MAX; /* away from or towards zero; an inexact sum is never zero */
    double odd;
    memcpy(&odd, &bits, sizeof odd);
    return (float)odd;
}
