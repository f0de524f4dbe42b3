/* kv_layout.h - where the bytes of a key/value block lie (128 positions of one layer and head), for every level.
 *
 *   K  8 groups of 16 positions, transposed, so that a vector's lanes are positions:
 *        F32, F16   [dim][16]
 *        Q8_0       for each 32 dims: float d[16], then [dim / 4][16][4] levels (four dims side by side for dot products)
 *   V  128 rows of stride round_up(head_dim_v, 16) elements; Q8_0: int8 levels, and behind all rows float d[128][n_blocks]
 *
 * Blocks come zeroed, so padding (dims beyond the head's) is zero and stays zero. A block is 64-byte aligned. */
#ifndef SPARK_KERN_KV_LAYOUT_H
#define SPARK_KERN_KV_LAYOUT_H

#include "kern/kern.h"

#define SPARK_KV_GROUP 16u /* positions of one K group */
#define SPARK_KV_QK    32u /* dims that share a scale in Q8_0 */
#define SPARK_KV_Q8_BLOCK                                                                                              \
    (SPARK_KV_GROUP * sizeof(float) + SPARK_KV_GROUP * SPARK_KV_QK) /* bytes of 16 positions x 32 dims */

static inline uint32_t spark_kv_n_scales(uint32_t head_dim) { return (head_dim + SPARK_KV_QK - 1) / SPARK_KV_QK; }
static inline uint32_t spark_kv_pad(uint32_t head_dim) { return (head_dim + 15) / 16 * 16; }

/* Bytes of one K group. */
static inline size_t spark_kv_k_bytes(spark_kv_type type, uint32_t dk)
{
    if (type == SPARK_KV_F32) return (size_t)SPARK_KV_GROUP * 4 * dk;
    if (type == SPARK_KV_F16) return (size_t)SPARK_KV_GROUP * 2 * dk;
    return SPARK_KV_GROUP * (spark_kv_n_scales(dk) * sizeof(float) + (size_t)(dk + 3) / 4 * 4);
}

/* Bytes of one V row, without scales. */
static inline size_t spark_kv_v_bytes(spark_kv_type type, uint32_t dv)
{
    return (size_t)spark_kv_pad(dv) * (type == SPARK_KV_F32 ? 4 : type == SPARK_KV_F16 ? 2 : 1);
}

static inline size_t spark_kv_v_offset(spark_kv_type type, uint32_t dk)
{
    return SPARK_KV_BLOCK / SPARK_KV_GROUP * spark_kv_k_bytes(type, dk);
}

/* Q8_0: where the scales of the V rows begin. */
static inline size_t spark_kv_v_scales(uint32_t dk, uint32_t dv)
{
    return spark_kv_v_offset(SPARK_KV_Q8_0, dk) + SPARK_KV_BLOCK * spark_kv_v_bytes(SPARK_KV_Q8_0, dv);
}

/* Byte of level `dim` of lane `position % 16` inside a Q8_0 group. */
static inline size_t spark_kv_q8_level(uint32_t lane, uint32_t dim)
{
    return dim / SPARK_KV_QK * SPARK_KV_Q8_BLOCK + SPARK_KV_GROUP * sizeof(float) +
           dim % SPARK_KV_QK / 4 * (4 * SPARK_KV_GROUP) + lane * 4 + dim % 4;
}

#endif
