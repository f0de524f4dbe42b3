/* checked.h - size arithmetic that cannot wrap. Each returns false, and leaves *out alone, if the result does not fit. */
#ifndef SPARK_BASE_CHECKED_H
#define SPARK_BASE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "spark/status.h"

SPARK_MUST_CHECK static inline bool spark_add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    if (b > UINT64_MAX - a) return false;
    *out = a + b;
    return true;
}

SPARK_MUST_CHECK static inline bool spark_mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    if (a != 0 && b > UINT64_MAX / a) return false;
    *out = a * b;
    return true;
}

SPARK_MUST_CHECK static inline bool spark_add_size(size_t a, size_t b, size_t *out)
{
    if (b > SIZE_MAX - a) return false;
    *out = a + b;
    return true;
}

SPARK_MUST_CHECK static inline bool spark_mul_size(size_t a, size_t b, size_t *out)
{
    if (a != 0 && b > SIZE_MAX / a) return false;
    *out = a * b;
    return true;
}

/* Rounds up to a multiple of `align`, a power of two. */
SPARK_MUST_CHECK static inline bool spark_align_up(uint64_t n, uint64_t align, uint64_t *out)
{
    if (n > UINT64_MAX - (align - 1)) return false;
    *out = (n + align - 1) & ~(align - 1);
    return true;
}

/* n / k rounded up, for any n. */
SPARK_INLINE uint64_t spark_div_up(uint64_t n, uint64_t k) { return n / k + (n % k != 0); }

/* n rounded up to a multiple of k; for sizes that are known to be far from the end of the range. */
SPARK_INLINE size_t spark_round_up(size_t n, size_t k) { return (n + k - 1) / k * k; }

#endif
