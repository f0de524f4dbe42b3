/* keyed_hash.h - what the hash tables of this room mix their keys with: not cryptographic, but keyed by numbers that are
 * drawn at load, so neither a file nor a text can aim at slow look-ups. */
#ifndef SPARK_TEXT_KEYED_HASH_H
#define SPARK_TEXT_KEYED_HASH_H

#include "base/bytes.h"
#include "base/compiler.h"

/* Two words that share nothing with the file but their product: whatever difference two keys have, whether they collide
 * depends on the seed. (A multiplication whose upper half is dropped would not do: flipping the top bit of one word and
 * two bits of the next gives a collision under any seed.) */
SPARK_INLINE uint64_t spark__mix(uint64_t a, uint64_t b)
{
    const spark_u128 product = (spark_u128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

typedef struct spark__ends {
    uint64_t first, last;
} spark__ends;

/* p[0..n), n <= 7, as one number, as if loaded in little endian. */
SPARK_INLINE uint64_t spark__pack(const uint8_t *p, size_t n)
{
    if (n >= 4) return spark_load_u32(p) | (uint64_t)spark_load_u32(p + n - 4) << 8 * (n - 4);
    if (n == 0) return 0;
    return p[0] | (uint64_t)p[n / 2] << 8 * (n / 2) | (uint64_t)p[n - 1] << 8 * (n - 1);
}

/* p[0..n), n <= 16, as two numbers that overlap, so that no byte is taken alone. Of one n, equal numbers are equal bytes. */
SPARK_INLINE spark__ends spark__load_ends(const uint8_t *p, size_t n)
{
    if (n >= 8) return (spark__ends){spark_load_u64(p), spark_load_u64(p + n - 8)};
    if (n >= 4) return (spark__ends){spark_load_u32(p) | (uint64_t)spark_load_u32(p + n - 4) << 32, 0};
    if (n == 0) return (spark__ends){0, 0};
    return (spark__ends){(uint64_t)p[0] << 16 | (uint64_t)p[n / 2] << 8 | p[n - 1], 0};
}

/* Equal keys; short ones without a call. */
SPARK_INLINE bool spark__key_equal(spark_bytes a, spark_bytes b)
{
    if (a.len != b.len) return false;
    if (a.len > 16) return memcmp(a.ptr, b.ptr, a.len) == 0;
    const spark__ends x = spark__load_ends(a.ptr, a.len), y = spark__load_ends(b.ptr, a.len);
    return ((x.first ^ y.first) | (x.last ^ y.last)) == 0;
}

#endif
