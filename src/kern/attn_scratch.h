/* attn_scratch.h - how the attention kernels divide their scratch. Rows are worked in chunks (so that keys and values are
 * widened to float once for many rows, and the scratch has a bound), chunks in tiles. */
#ifndef SPARK_KERN_ATTN_SCRATCH_H
#define SPARK_KERN_ATTN_SCRATCH_H

#include "kern/kv_layout.h"

#define SPARK_ATTN_CHUNK 120u /* rows: a multiple of wide tiles */
#define SPARK_ATTN_TILE  14u  /* most rows of a tile at any level */
#define SPARK_ATTN_WIDE  6u   /* rows of a tile when many come (a prompt): leaves more registers for K and V */
#define SPARK_ATTN_PANEL 64u  /* positions (keys) or columns (values) that are widened together */

/* Offsets in bytes, each a multiple of 64. */
typedef struct spark_attn_layout {
    size_t queries;          /* [chunk][pad(head_dim_k)] floats, or the same rows quantized */
    size_t k_wide, v_wide;   /* panels as floats: four groups of keys, [128][64] values */
    size_t scores;           /* [chunk][128] */
    size_t o;                /* [tile][pad(head_dim_v)]: one block's sums */
    size_t state_m, state_l; /* [chunk] */
    size_t state_o;          /* [chunk][pad(head_dim_v)] */
    size_t bytes;
} spark_attn_layout;

static inline size_t spark__attn_take(size_t *end, size_t n_floats)
{
    const size_t begin = *end;
    *end += (n_floats * sizeof(float) + 63) / 64 * 64;
    return begin;
}

static inline spark_attn_layout spark__attn_layout(uint32_t head_dim_k, uint32_t head_dim_v, uint32_t n_rows)
{
    const size_t dk = spark_kv_pad(head_dim_k), dv = spark_kv_pad(head_dim_v);
    const size_t whole = ((size_t)n_rows + SPARK_ATTN_WIDE - 1) / SPARK_ATTN_WIDE * SPARK_ATTN_WIDE; /* and even */
    const size_t rows = whole < SPARK_ATTN_CHUNK ? whole : SPARK_ATTN_CHUNK;
    spark_attn_layout l = {0};
    l.queries = spark__attn_take(&l.bytes, rows * dk);
    l.k_wide = spark__attn_take(&l.bytes, SPARK_ATTN_PANEL * dk);
    l.v_wide = spark__attn_take(&l.bytes, SPARK_ATTN_PANEL * SPARK_KV_BLOCK);
    l.scores = spark__attn_take(&l.bytes, rows * SPARK_KV_BLOCK);
    l.o = spark__attn_take(&l.bytes, SPARK_ATTN_TILE * dv);
    l.state_m = spark__attn_take(&l.bytes, rows);
    l.state_l = spark__attn_take(&l.bytes, rows);
    l.state_o = spark__attn_take(&l.bytes, rows * dv);
    return l;
}

#endif
