/* synthetic.h - models of real shapes with random weights, for measuring speed: speed does not depend on what weights say.
 * shapes.c: what models there are and which tensor takes which type; weights.c: random values of every type;
 * synthetic_model.c: the command. Everything is a function of (shape, mix, seed). */
#ifndef SYNTHETIC_H
#define SYNTHETIC_H

#include "format/gguf_write.h"

typedef struct syn_shape {
    const char *name, *arch, *pre; /* pre: the pre-tokenizer of the vocabulary */
    uint32_t n_layers, n_embd, n_heads, n_heads_kv, head_dim, n_ff, n_vocab, n_ctx;
    uint32_t n_experts, n_experts_used; /* 0 = dense; else n_ff is the width of one expert */
    float rope_base, eps;
    bool tied, qkv_bias, qk_norm, rope_freqs;
} syn_shape;

extern const syn_shape syn_shapes[]; /* the last one has no name */

/* What every weight matrix becomes: one type, or llama.cpp's mixture Q4_K_M. */
typedef struct syn_mix {
    const char *name; /* "q4_0", "q4_k_m" */
    spark_type type;
    uint32_t file_type; /* general.file_type */
    bool more_bits;     /* Q4_K_M: some of attn_v and ffn_down in Q6_K */
} syn_mix;

extern const syn_mix syn_mixes[]; /* the last one has no name */

/* A tensor to be written: name, type, shape, and what its values are like. */
typedef enum syn_fill { SYN_MATRIX, SYN_NORM, SYN_BIAS, SYN_ROPE_FREQS } syn_fill;
typedef struct syn_tensor {
    char name[64];
    spark_type type;
    syn_fill fill;
    uint32_t n_dims;
    uint64_t dims[4];
} syn_tensor;

enum { SYN_MAX_TENSORS = 2048 };

/* Lists the tensors of a model; returns how many. */
uint32_t syn_tensors(const syn_shape *s, const syn_mix *m, syn_tensor out[SYN_MAX_TENSORS]);

/* splitmix64 (Steele, Lea, Flood 2014): every seed gives a different, well mixed sequence. */
typedef struct syn_random {
    uint64_t state;
} syn_random;
uint64_t syn_next(syn_random *r);
float syn_gauss(syn_random *r); /* nearly normal, standard deviation 1 */

/* n random weights (whole blocks) of standard deviation sigma, all finite. */
void syn_weights(spark_type type, float sigma, size_t n, uint8_t *out, syn_random *r);
bool syn_type_known(spark_type type);

#endif
