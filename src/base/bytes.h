/* bytes.h - foreign bytes and the one way to read them.
 * Nouns:   spark_bytes, a borrowed run of bytes; spark_cursor, a position in one that cannot leave it.
 * Promise: a read either delivers whole values in little endian or fails with the offset; the cursor then stays. */
#ifndef SPARK_BASE_BYTES_H
#define SPARK_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/status.h"

typedef struct spark_bytes {
    const uint8_t *ptr;
    size_t len;
} spark_bytes;

#define SPARK_BYTES_LITERAL(s) ((spark_bytes){(const uint8_t *)(s), sizeof(s) - 1})

static inline spark_bytes spark_bytes_of(const char *s) { return (spark_bytes){(const uint8_t *)s, strlen(s)}; }

static inline bool spark_bytes_equal(spark_bytes a, spark_bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool spark_bytes_is(spark_bytes a, const char *s) { return spark_bytes_equal(a, spark_bytes_of(s)); }

typedef struct spark_cursor {
    const uint8_t *base;
    size_t size, pos; /* pos <= size always */
} spark_cursor;

static inline spark_cursor spark_cursor_at(spark_bytes b) { return (spark_cursor){b.ptr, b.len, 0}; }
static inline size_t spark_cursor_left(const spark_cursor *c) { return c->size - c->pos; }
static inline uint64_t spark_cursor_pos(const spark_cursor *c) { return c->pos; }

/* Borrows the next n bytes. */
SPARK_MUST_CHECK spark_status spark_cursor_take(spark_cursor *c, uint64_t n, spark_bytes *out, spark_err *err);
SPARK_MUST_CHECK spark_status spark_cursor_u8(spark_cursor *c, uint8_t *out, spark_err *err);
SPARK_MUST_CHECK spark_status spark_cursor_u16(spark_cursor *c, uint16_t *out, spark_err *err);
SPARK_MUST_CHECK spark_status spark_cursor_u32(spark_cursor *c, uint32_t *out, spark_err *err);
SPARK_MUST_CHECK spark_status spark_cursor_u64(spark_cursor *c, uint64_t *out, spark_err *err);

/* Little-endian loads from memory that is known to be long enough. */
static inline uint16_t spark_load_u16(const void *p)
{
    const uint8_t *b = p;
    return (uint16_t)(b[0] | b[1] << 8);
}
static inline uint32_t spark_load_u32(const void *p)
{
    const uint8_t *b = p;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}
static inline uint64_t spark_load_u64(const void *p)
{
    return spark_load_u32(p) | (uint64_t)spark_load_u32((const uint8_t *)p + 4) << 32;
}
static inline float spark_load_f32(const void *p)
{
    const uint32_t u = spark_load_u32(p);
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* And stores, to memory that is known to be long enough. */
static inline void spark_store_u16(void *p, uint16_t v)
{
    uint8_t *b = p;
    b[0] = (uint8_t)v;
    b[1] = (uint8_t)(v >> 8);
}
static inline void spark_store_u32(void *p, uint32_t v)
{
    spark_store_u16(p, (uint16_t)v);
    spark_store_u16((uint8_t *)p + 2, (uint16_t)(v >> 16));
}
static inline void spark_store_u64(void *p, uint64_t v)
{
    spark_store_u32(p, (uint32_t)v);
    spark_store_u32((uint8_t *)p + 4, (uint32_t)(v >> 32));
}
static inline void spark_store_f32(void *p, float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    spark_store_u32(p, u);
}

#endif
