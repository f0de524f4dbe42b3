/* kern.h - the table of kernels and every contract in it.
 * Nouns:   spark_kern, one function a slot, chosen for a CPU level; spark_matrix, packed weights; an activation row.
 * Promise: for each slot the _ref function defines the bits; every other level returns the same bits for any tile,
 *          token count, panel range or thread. No slot allocates, locks, or reads or writes outside its arguments.
 * Rules:   callers run inside spark_fpenv_enter (base/fpenv.h; the pool does it). NaN never reaches a kernel: weights
 *          are checked at packing, activations by the slots that say so. Source: NUMERICS.md throughout. */
#ifndef SPARK_KERN_KERN_H
#define SPARK_KERN_KERN_H

#include "base/status.h"
#include "kern/types.h"

/* ---- CPU levels ------------------------------------------------------------------------------------------------ */

typedef enum spark_isa {
    SPARK_ISA_SCALAR,
    SPARK_ISA_AVX2,   /* AVX2 + FMA + F16C */
    SPARK_ISA_AVX512, /* + AVX-512 F, BW, VL, DQ, VNNI */
    SPARK_ISA_AMX,    /* + AMX tiles of int8 */
    SPARK_ISA_NEON,
    SPARK_ISA_DOTPROD, /* + dotprod */
    SPARK_ISA_I8MM,    /* + i8mm */
    SPARK_N_ISAS
} spark_isa;

const char *spark_isa_name(spark_isa isa); /* "scalar", "avx2", "avx512", "amx", "neon", "dotprod", "i8mm" */
int spark_isa_by_name(const char *name);   /* any case; -1 if there is no such level */
spark_isa spark_isa_best(void); /* the best of this CPU that was built, at most SPARK_CPU of the environment */
/* Whether this CPU, build and system can run it. Of AMX it asks the system for the tiles, for the whole process and for good: a
 * process that closes doors to the system asks before. spark_isa_best does too, unless SPARK_CPU names a lower level. */
int spark_isa_has(spark_isa isa);

/* ---- Packed weights -------------------------------------------------------------------------------------------- */

#define SPARK_PANEL_ROWS 16u /* rows are padded to this; lanes are rows, so a panel is one 512-bit register wide */

/* y = W x with W of n_rows x n_cols. `data` holds ceil(n_rows / 16) panels, each panel_bytes, 64-byte aligned. */
typedef struct spark_matrix {
    spark_type type;
    uint32_t n_rows, n_cols;
    const uint8_t *data;
    size_t panel_bytes;
} spark_matrix;

/* Bytes of one packed panel of n_cols columns (a multiple of the type's block and of 64 bytes in the result). */
size_t spark_panel_bytes(spark_type type, uint32_t n_cols);
static inline uint32_t spark_n_panels(uint32_t n_rows) { return (n_rows + SPARK_PANEL_ROWS - 1) / SPARK_PANEL_ROWS; }

/* Packs panels [begin, end) of a matrix from its rows as they lie in a GGUF (`raw` = row 0) to `data` (= panel 0).
 * Any split of the panels over threads gives the same bytes. The level only makes it faster.
 * SPARK_E_NUMERIC with `at` = row if a scale or weight is not finite. */
SPARK_MUST_CHECK spark_status spark_pack(spark_type type, const uint8_t *raw, uint32_t n_rows, uint32_t n_cols,
                                         uint32_t begin, uint32_t end, uint8_t *data, spark_err *err);

/* The exact dequantized values of one row (token embeddings). out[n_cols]. */
void spark_unpack_row(const spark_matrix *w, uint32_t row, float *out);

/* ---- Products -------------------------------------------------------------------------------------------------- */

/* Bytes of one activation row prepared for weights of this type (float types: the floats themselves), a multiple of 64.
 * Types with the same act_block share one form. */
size_t spark_act_bytes(spark_type type, uint32_t n_cols);
/* Where column `col` (a multiple of act_block, or the end) begins in such a row: a row may be prepared piece by piece. */
size_t spark_act_at(spark_type type, uint32_t col);

typedef struct spark_matmul_args {
    const spark_matrix *w;
    uint32_t panel_begin, panel_end; /* the share of this call */
    const uint8_t *acts;             /* [n_tokens] rows from `quantize`, act_stride bytes apart, 64-byte aligned */
    size_t act_stride;
    uint32_t n_tokens; /* >= 1 */
    float *out;        /* out[t * out_stride + row]; rows >= n_rows are not written */
    size_t out_stride; /* in floats */
    const float *bias; /* [n_rows] added after the chain, or NULL */
    void *scratch;     /* of this thread: spark_matmul_scratch bytes, 64-byte aligned */
} spark_matmul_args;

/* Scratch bytes a thread needs for products with n_cols columns and up to n_tokens tokens. */
size_t spark_matmul_scratch(spark_type type, uint32_t n_cols, uint32_t n_tokens);

/* ---- Keys and values ------------------------------------------------------------------------------------------- */

#define SPARK_KV_BLOCK 128u /* positions of one block, aligned to absolute position 0 (NUMERICS, Attention) */

typedef enum spark_kv_type { SPARK_KV_F32, SPARK_KV_F16, SPARK_KV_Q8_0, SPARK_N_KV_TYPES } spark_kv_type;

/* Bytes of one block (128 positions of one layer and one key/value head): K transposed in groups of 16 positions, then V
 * row-major, each with its scales. A multiple of 64. */
size_t spark_kv_block_bytes(spark_kv_type type, uint32_t head_dim_k, uint32_t head_dim_v);

/* One key/value head, n_rows query rows (tokens x the query heads that share it; any mix). */
typedef struct spark_attn_args {
    spark_kv_type type;
    uint32_t head_dim_k, head_dim_v;
    const uint8_t *const *blocks; /* blocks[i] holds positions [128 i, 128 i + 128) of this layer and head */
    uint32_t n_rows;
    const float *q; /* row r at q + q_offset[r], head_dim_k floats, rotated */
    const size_t *q_offset;
    float *out; /* row r at out + out_offset[r], head_dim_v floats */
    const size_t *out_offset;
    const uint32_t *first, *last; /* row r sees positions first[r]..last[r], both included */
    float scale;                  /* multiplies a score */
    float softcap;                /* 0 = none; else cap * tanh(score / cap) */
    const float *sink;            /* [n_rows] or NULL: one more, last block (m = sink, l = 1, o = 0) */
    void *scratch;                /* of this thread: spark_attn_scratch bytes, 64-byte aligned */
} spark_attn_args;

size_t spark_attn_scratch(uint32_t head_dim_k, uint32_t head_dim_v, uint32_t n_rows);

/* A block's (m, l, o) by itself, for work split over blocks: floats [2 + head_dim_v] a row. */
#define SPARK_ATTN_PART(head_dim_v) (2u + (head_dim_v))

/* ---- The table ------------------------------------------------------------------------------------------------- */

typedef struct spark_kern {
    spark_isa isa;

    /* x[n] -> one activation row for weights of act_block 0 (copy), 32 or 256. Returns 0 if max |x| is not finite. */
    int (*quantize)(uint32_t act_block, const float *x, uint32_t n, uint8_t *row);

    /* Products with weights of each type; every known type has one. */
    void (*matmul[SPARK_N_TYPES])(const spark_matmul_args *a);

    /* out[i] = x[i] * (1 / sqrt(mean(x^2) + eps)) * w[i]; out may be x. */
    void (*rms_norm)(float *out, const float *x, const float *w, uint32_t n, float eps);
    /* out = (x - mean) * (1 / sqrt(var + eps)) * w + b (b may be NULL); var of the differences; out may be x. */
    void (*layer_norm)(float *out, const float *x, const float *w, const float *b, uint32_t n, float eps);
    void (*add)(float *y, const float *x, uint32_t n);           /* y += x */
    void (*scale)(float *x, float s, uint32_t n);                /* x *= s */
    void (*axpy)(float *y, float w, const float *x, uint32_t n); /* y = fma(w, x, y) */
    void (*silu_mul)(float *g, const float *u, uint32_t n);      /* g = g / (1 + exp(-g)) * u */
    void (*gelu_mul)(float *g, const float *u, uint32_t n);      /* g = gelu_tanh(g) * u */
    void (*softcap)(float *x, float cap, uint32_t n);            /* x = cap * tanh(x / cap) */
    /* Softmax in place with the 32-lane sum by index; returns the maximum. */
    float (*softmax)(float *x, uint32_t n);
    /* Rotates pairs of the first rot_dim elements of each of n_heads heads (head_dim apart) by cos/sin[rot_dim / 2].
     * neighbours: pairs (2i, 2i+1), else (i, i + rot_dim/2). a' = fma(-b, sin, a * cos), b' = fma(a, sin, b * cos). */
    void (*rope)(float *x, uint32_t n_heads, uint32_t head_dim, uint32_t rot_dim, int neighbours, const float *cos,
                 const float *sin);

    /* Stores key and value of one position (0..127) of a block, rounded as the type says. Returns 0 if not finite. */
    int (*kv_store)(spark_kv_type type, uint32_t head_dim_k, uint32_t head_dim_v, uint8_t *block, uint32_t position,
                    const float *k, const float *v);
    /* Full attention of the rows. */
    void (*attn)(const spark_attn_args *a);
    /* The same in two steps, equal bits: parts of blocks [begin, end) (part of block b, row r at
     * parts + ((b - begin) * n_rows + r) * SPARK_ATTN_PART; a block the row does not see has l = 0), then the merge. */
    void (*attn_part)(const spark_attn_args *a, uint32_t begin, uint32_t end, float *parts);
    void (*attn_merge)(const spark_attn_args *a, uint32_t begin, uint32_t end, const float *parts);
} spark_kern;

/* Fills every slot with _ref, then climbs as far as `isa` (which this CPU must have). */
void spark_kern_init(spark_kern *k, spark_isa isa);

/* ---- Scalar functions with defined bits ------------------------------------------------------------------------ */

float spark_expf(float x); /* exp(x < -87) = +0; at most 1 ulp off */
float spark_tanhf(float x);
float spark_logf(float x); /* x > 0 */
float spark_erff(float x);

/* Double functions for tables made at load: only + - * / and comparisons, so equal bits everywhere. Within 2 ulp. */
double spark_exp64(double x);
double spark_log64(double x);
void spark_sincos64(double x, double *sin, double *cos); /* |x| < 2^30, with reduction */

#endif
