/* shapes.c - which models there are, their tensors, and the type of each. */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "synthetic.h"

/* clang-format off */
const syn_shape syn_shapes[] = {
    /* For tests: rows that are a multiple of 256, and rows that are not (ffn_down). */
    {.name = "nano", .arch = "llama", .pre = "llama-bpe", .n_layers = 2, .n_embd = 256, .n_heads = 4, .n_heads_kv = 2,
     .head_dim = 64, .n_ff = 320, .n_vocab = 1024, .n_ctx = 512, .rope_base = 10000, .eps = 1e-5f},
    {.name = "tiny-llama", .arch = "llama", .pre = "llama-bpe", .n_layers = 6, .n_embd = 288, .n_heads = 6, .n_heads_kv = 6,
     .head_dim = 48, .n_ff = 768, .n_vocab = 32000, .n_ctx = 8192, .rope_base = 10000, .eps = 1e-5f, .tied = true},
    {.name = "qwen2.5-0.5b", .arch = "qwen2", .pre = "qwen2", .n_layers = 24, .n_embd = 896, .n_heads = 14, .n_heads_kv = 2,
     .head_dim = 64, .n_ff = 4864, .n_vocab = 151936, .n_ctx = 32768, .rope_base = 1000000, .eps = 1e-6f, .tied = true,
     .qkv_bias = true},
    {.name = "llama-3.2-1b", .arch = "llama", .pre = "llama-bpe", .n_layers = 16, .n_embd = 2048, .n_heads = 32, .n_heads_kv = 8,
     .head_dim = 64, .n_ff = 8192, .n_vocab = 128256, .n_ctx = 131072, .rope_base = 500000, .eps = 1e-5f, .tied = true,
     .rope_freqs = true},
    {.name = "moe-8x2", .arch = "llama", .pre = "llama-bpe", .n_layers = 12, .n_embd = 1024, .n_heads = 16, .n_heads_kv = 8,
     .head_dim = 64, .n_ff = 3584, .n_vocab = 32000, .n_ctx = 32768, .n_experts = 8, .n_experts_used = 2, .rope_base = 1000000,
     .eps = 1e-5f},
    {.name = "moe-64x8", .arch = "qwen3moe", .pre = "qwen2", .n_layers = 12, .n_embd = 1024, .n_heads = 16, .n_heads_kv = 4,
     .head_dim = 64, .n_ff = 512, .n_vocab = 32000, .n_ctx = 32768, .n_experts = 64, .n_experts_used = 8, .rope_base = 1000000,
     .eps = 1e-6f, .qk_norm = true},
    {.name = NULL},
};
/* clang-format on */

const syn_mix syn_mixes[] = {
    {"f32", SPARK_TYPE_F32, 0, false},        {"f16", SPARK_TYPE_F16, 1, false},
    {"q4_0", SPARK_TYPE_Q4_0, 2, false},      {"q4_1", SPARK_TYPE_Q4_1, 3, false},
    {"q8_0", SPARK_TYPE_Q8_0, 7, false},      {"q5_0", SPARK_TYPE_Q5_0, 8, false},
    {"q5_1", SPARK_TYPE_Q5_1, 9, false},      {"q2_k", SPARK_TYPE_Q2_K, 10, false},
    {"q3_k", SPARK_TYPE_Q3_K, 11, false},     {"q4_k", SPARK_TYPE_Q4_K, 14, false},
    {"q4_k_m", SPARK_TYPE_Q4_K, 15, true},    {"q5_k", SPARK_TYPE_Q5_K, 16, false},
    {"q6_k", SPARK_TYPE_Q6_K, 18, false},     {"iq4_nl", SPARK_TYPE_IQ4_NL, 25, false},
    {"iq4_xs", SPARK_TYPE_IQ4_XS, 30, false}, {"bf16", SPARK_TYPE_BF16, 32, false},
    {NULL, SPARK_TYPE_F32, 0, false},
};

/* ---- Types as llama.cpp's quantizer picks them, so that both engines do the work that real files ask for ------------ */

/* Rows that blocks of 256 do not fit take the nearest type with blocks of 32. */
static spark_type syn_fitting(spark_type type, uint64_t n_cols)
{
    static const spark_type instead[][2] = {
        {SPARK_TYPE_Q2_K, SPARK_TYPE_IQ4_NL}, {SPARK_TYPE_Q3_K, SPARK_TYPE_IQ4_NL},
        {SPARK_TYPE_Q4_K, SPARK_TYPE_Q5_0},   {SPARK_TYPE_Q5_K, SPARK_TYPE_Q5_1},
        {SPARK_TYPE_Q6_K, SPARK_TYPE_Q8_0},   {SPARK_TYPE_IQ4_XS, SPARK_TYPE_IQ4_NL},
    };
    if (n_cols % 256 == 0) return type;
    for (size_t i = 0; i < SPARK_COUNT(instead); i++)
        if (instead[i][0] == type) return instead[i][1];
    return type;
}

/* Q4_K_M: the first and last eighth of the layers, and every third between. */
static bool syn_more_bits(uint32_t layer, uint32_t n)
{
    return layer < n / 8 || layer >= 7 * n / 8 || (layer - n / 8) % 3 == 2;
}

/* ---- The list ------------------------------------------------------------------------------------------------------- */

typedef struct syn_list {
    const syn_shape *s;
    const syn_mix *m;
    syn_tensor *t;
    uint32_t n;
} syn_list;

static syn_tensor *syn_add(syn_list *l, spark_type type, syn_fill fill, uint64_t d0, uint64_t d1, uint64_t d2)
{
    assert(l->n < SYN_MAX_TENSORS);
    syn_tensor *t = &l->t[l->n++];
    *t = (syn_tensor){.type = type,
                      .fill = fill,
                      .n_dims = d2   ? 3
                                : d1 ? 2
                                     : 1,
                      .dims = {d0, d1 ? d1 : 1, d2 ? d2 : 1, 1}};
    return t;
}

SPARK_PRINTF(2, 3) static void syn_name(syn_tensor *t, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(t->name, sizeof t->name, fmt, args);
    va_end(args);
}

static void syn_matrix(syn_list *l, uint32_t layer, const char *name, spark_type type, uint64_t cols, uint64_t rows,
                       uint64_t parts)
{
    syn_name(syn_add(l, syn_fitting(type, cols), SYN_MATRIX, cols, rows, parts), "blk.%u.%s.weight", layer, name);
}

static void syn_vector(syn_list *l, uint32_t layer, const char *name, syn_fill fill, uint64_t n)
{
    syn_name(syn_add(l, SPARK_TYPE_F32, fill, n, 0, 0), "blk.%u.%s", layer, name);
}

static void syn_attention(syn_list *l, uint32_t i, spark_type v_type)
{
    const syn_shape *s = l->s;
    const uint64_t q = (uint64_t)s->n_heads * s->head_dim, kv = (uint64_t)s->n_heads_kv * s->head_dim;
    syn_vector(l, i, "attn_norm.weight", SYN_NORM, s->n_embd);
    syn_matrix(l, i, "attn_q", l->m->type, s->n_embd, q, 0);
    syn_matrix(l, i, "attn_k", l->m->type, s->n_embd, kv, 0);
    syn_matrix(l, i, "attn_v", v_type, s->n_embd, kv, 0);
    if (s->qkv_bias) {
        syn_vector(l, i, "attn_q.bias", SYN_BIAS, q);
        syn_vector(l, i, "attn_k.bias", SYN_BIAS, kv);
        syn_vector(l, i, "attn_v.bias", SYN_BIAS, kv);
    }
    if (s->qk_norm) {
        syn_vector(l, i, "attn_q_norm.weight", SYN_NORM, s->head_dim);
        syn_vector(l, i, "attn_k_norm.weight", SYN_NORM, s->head_dim);
    }
    syn_matrix(l, i, "attn_output", l->m->type, q, s->n_embd, 0);
}

static void syn_feed_forward(syn_list *l, uint32_t i, spark_type down_type)
{
    const syn_shape *s = l->s;
    const bool moe = s->n_experts != 0;
    syn_vector(l, i, "ffn_norm.weight", SYN_NORM, s->n_embd);
    if (moe) syn_matrix(l, i, "ffn_gate_inp", SPARK_TYPE_F32, s->n_embd, s->n_experts, 0);
    syn_matrix(l, i, moe ? "ffn_gate_exps" : "ffn_gate", l->m->type, s->n_embd, s->n_ff, s->n_experts);
    syn_matrix(l, i, moe ? "ffn_up_exps" : "ffn_up", l->m->type, s->n_embd, s->n_ff, s->n_experts);
    syn_matrix(l, i, moe ? "ffn_down_exps" : "ffn_down", down_type, s->n_ff, s->n_embd, s->n_experts);
}

uint32_t syn_tensors(const syn_shape *s, const syn_mix *m, syn_tensor out[SYN_MAX_TENSORS])
{
    syn_list l = {s, m, out, 0};
    const bool small = spark_type_lookup(m->type)->act_block != 0 && m->type != SPARK_TYPE_Q8_0;
    const spark_type head = syn_fitting(small ? SPARK_TYPE_Q6_K : m->type, s->n_embd);
    const spark_type embd = s->tied ? head : syn_fitting(m->type, s->n_embd);
    syn_name(syn_add(&l, embd, SYN_MATRIX, s->n_embd, s->n_vocab, 0), "token_embd.weight");
    if (s->rope_freqs)
        syn_name(syn_add(&l, SPARK_TYPE_F32, SYN_ROPE_FREQS, s->head_dim / 2, 0, 0), "rope_freqs.weight");
    for (uint32_t i = 0; i < s->n_layers; i++) {
        const spark_type more = m->more_bits && syn_more_bits(i, s->n_layers) ? SPARK_TYPE_Q6_K : m->type;
        syn_attention(&l, i, more);
        syn_feed_forward(&l, i, more);
    }
    syn_name(syn_add(&l, SPARK_TYPE_F32, SYN_NORM, s->n_embd, 0, 0), "output_norm.weight");
    if (!s->tied) syn_name(syn_add(&l, head, SYN_MATRIX, s->n_embd, s->n_vocab, 0), "output.weight");
    return l.n;
}
