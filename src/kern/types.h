/* types.h - the number formats of weights: ids as in GGUF, block sizes, names. Data only.
 * Source: GGUF specification (ggml docs/gguf.md) and ggml's block structs. */
#ifndef SPARK_KERN_TYPES_H
#define SPARK_KERN_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(name, GGUF id, elements a block, bytes a block, elements of one activation block).
 * Activation block (NUMERICS, "Activations as int8"): 0 = float weights, the activation stays float32. */
#define SPARK_TYPE_LIST(X)                                                                                             \
    X(F32, 0, 1, 4, 0)                                                                                                 \
    X(F16, 1, 1, 2, 0)                                                                                                 \
    X(Q4_0, 2, 32, 18, 32)                                                                                             \
    X(Q4_1, 3, 32, 20, 32)                                                                                             \
    X(Q5_0, 6, 32, 22, 32)                                                                                             \
    X(Q5_1, 7, 32, 24, 32)                                                                                             \
    X(Q8_0, 8, 32, 34, 32)                                                                                             \
    X(Q2_K, 10, 256, 84, 256)                                                                                          \
    X(Q3_K, 11, 256, 110, 256)                                                                                         \
    X(Q4_K, 12, 256, 144, 256)                                                                                         \
    X(Q5_K, 13, 256, 176, 256)                                                                                         \
    X(Q6_K, 14, 256, 210, 256)                                                                                         \
    X(IQ2_XXS, 16, 256, 66, 256)                                                                                       \
    X(IQ2_XS, 17, 256, 74, 256)                                                                                        \
    X(IQ3_XXS, 18, 256, 98, 256)                                                                                       \
    X(IQ1_S, 19, 256, 50, 256)                                                                                         \
    X(IQ4_NL, 20, 32, 18, 32)                                                                                          \
    X(IQ3_S, 21, 256, 110, 256)                                                                                        \
    X(IQ2_S, 22, 256, 82, 256)                                                                                         \
    X(IQ4_XS, 23, 256, 136, 256)                                                                                       \
    X(IQ1_M, 29, 256, 56, 256)                                                                                         \
    X(BF16, 30, 1, 2, 0)                                                                                               \
    X(TQ1_0, 34, 256, 54, 256)                                                                                         \
    X(TQ2_0, 35, 256, 66, 256)                                                                                         \
    X(MXFP4, 39, 32, 17, 32)

typedef enum spark_type {
#define SPARK_TYPE_ENUM(name, id, elems, bytes, act) SPARK_TYPE_##name = id,
    SPARK_TYPE_LIST(SPARK_TYPE_ENUM)
#undef SPARK_TYPE_ENUM
        SPARK_N_TYPES = 40 /* one more than the largest id: size of tables indexed by type */
} spark_type;

typedef struct spark_type_info {
    const char *name;     /* "Q4_K"; NULL = this id is not a type we know */
    uint32_t block_elems; /* weights in one block */
    uint32_t block_bytes; /* bytes of one block in a file */
    uint32_t act_block;   /* 0, 32 or 256 */
} spark_type_info;

/* The row of the table, or NULL for an id that we do not know (any value may be asked). */
const spark_type_info *spark_type_lookup(uint32_t id);

/* The type of that name (as printed, any case), or -1. */
int spark_type_by_name(const char *name);

/* Bytes of a row of n weights; n must be a multiple of block_elems. */
static inline uint64_t spark_type_row_bytes(const spark_type_info *t, uint64_t n)
{
    return n / t->block_elems * t->block_bytes;
}

#endif
