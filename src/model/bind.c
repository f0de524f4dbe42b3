/* bind.c - from the keys and tensors of a GGUF to a checked description: every hyperparameter in its range and fitting the
 * others, every tensor there, of the shape and type that its place demands, and none left over.
 * Reads no weights. Not here: frequencies (rope.c), where things lie while running (plan.c). */
#include "model/model_internal.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "base/strmap.h"
#include "kern/ref/sqrt.h"

/* What binding carries along. */
typedef struct bind_state {
    spark_net *n;
    const spark_gguf *g;
    spark_arena *a;
    spark_err *err;
    spark_strmap *bound; /* names of tensors that have a place */
    int layer;           /* of tensor names; -1 = none */
} bind_state;

/* ---- Keys ---------------------------------------------------------------------------------------------------------- */

static const char *bind_key(const bind_state *b, const char *name, char out[SPARK_MAX_GGUF_NAME])
{
    snprintf(out, SPARK_MAX_GGUF_NAME, "%s.%s", b->n->family->arch, name);
    return out;
}

static spark_status bind_u32(const bind_state *b, const char *name, uint32_t min, uint32_t max, uint32_t *out,
                             bool required)
{
    char key[SPARK_MAX_GGUF_NAME];
    bool found = false;
    SPARK_TRY(spark_gguf_get_u32(b->g, bind_key(b, name, key), min, max, out, &found, b->err));
    SPARK_CHECK(found || !required, b->err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE, "the key '%s' is missing", key);
    return SPARK_SUCCESS;
}

static spark_status bind_f32(const bind_state *b, const char *name, float min, float max, float *out, bool required)
{
    char key[SPARK_MAX_GGUF_NAME];
    bool found = false;
    SPARK_TRY(spark_gguf_get_f32(b->g, bind_key(b, name, key), out, &found, b->err));
    SPARK_CHECK(found || !required, b->err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE, "the key '%s' is missing", key);
    SPARK_CHECK(!found || (*out >= min && *out <= max), b->err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE,
                "the key '%s' is %g; %g to %g is allowed", key, (double)*out, (double)min, (double)max);
    return SPARK_SUCCESS;
}

static spark_status bind_family(bind_state *b)
{
    spark_bytes arch = {0};
    bool found = false;
    SPARK_TRY(spark_gguf_get_string(b->g, "general.architecture", &arch, &found, b->err));
    SPARK_CHECK(found, b->err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE, "the key 'general.architecture' is missing");
    b->n->family = spark__net_family(arch);
    if (b->n->family) return SPARK_SUCCESS;
    char known[160] = "";
    size_t len = 0;
    for (const char *const *f = spark_net_families(); *f; f++)
        len += (size_t)snprintf(known + len, sizeof known - len, "%s%s", len ? ", " : "", *f);
    assert(len < sizeof known);
    return spark_fail(b->err, SPARK_E_UNSUPPORTED, SPARK_ERR_NOWHERE,
                      "architecture '%.*s' is not supported; known are %s", (int)(arch.len < 40 ? arch.len : 40),
                      (const char *)arch.ptr, known);
}

static spark_status bind_heads(bind_state *b)
{
    spark_net_info *i = &b->n->info;
    SPARK_TRY(bind_u32(b, "attention.head_count", 1, SPARK_MAX_HEADS, &i->n_heads, true));
    i->n_heads_kv = i->n_heads;
    SPARK_TRY(bind_u32(b, "attention.head_count_kv", 1, SPARK_MAX_HEADS, &i->n_heads_kv, false));
    SPARK_CHECK(i->n_heads % i->n_heads_kv == 0, b->err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE,
                "%u attention heads cannot share %u key/value heads", i->n_heads, i->n_heads_kv);
    SPARK_TRY(bind_u32(b, "attention.key_length", 1, SPARK_MAX_HEAD_DIM, &i->head_dim_k, false));
    SPARK_TRY(bind_u32(b, "attention.value_length", 1, SPARK_MAX_HEAD_DIM, &i->head_dim_v, false));
    if (i->head_dim_k == 0 || i->head_dim_v == 0) {
        const uint32_t dim = i->n_embd / i->n_heads;
        SPARK_CHECK(i->n_embd % i->n_heads == 0 && dim <= SPARK_MAX_HEAD_DIM, b->err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE,
                    "an embedding of %u cannot be split into %u heads", i->n_embd, i->n_heads);
        if (i->head_dim_k == 0) i->head_dim_k = dim;
        if (i->head_dim_v == 0) i->head_dim_v = dim;
    }
    b->n->rot_dim = i->head_dim_k;
    SPARK_TRY(bind_u32(b, "rope.dimension_count", 2, SPARK_MAX_HEAD_DIM, &b->n->rot_dim, false));
    SPARK_CHECK(b->n->rot_dim % 2 == 0 && b->n->rot_dim <= i->head_dim_k, b->err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE,
                "rotation of %u dimensions does not fit heads of %u", b->n->rot_dim, i->head_dim_k);
    const uint32_t wide = b->n->family->wide_scale_layers;
    const uint32_t divisor = wide != 0 && i->n_layers == wide ? i->n_embd / i->n_heads : i->head_dim_k;
    b->n->attn_scale = 1.0f / spark_sqrtf((float)(divisor ? divisor : 1));
    return SPARK_SUCCESS;
}

static spark_status bind_experts(bind_state *b)
{
    spark_net *n = b->n;
    spark_net_info *i = &n->info;
    SPARK_TRY(bind_u32(b, "expert_count", 0, SPARK_MAX_EXPERTS, &i->n_experts, n->family->routing == NET_ROUTES));
    SPARK_TRY(bind_u32(b, "expert_used_count", 0, SPARK_MAX_EXPERTS, &i->n_experts_used, i->n_experts != 0));
    SPARK_CHECK(i->n_experts == 0 || n->family->routing != NET_DENSE, b->err, SPARK_E_UNSUPPORTED, SPARK_ERR_NOWHERE,
                "a '%s' model with experts is not supported", n->family->arch);
    SPARK_CHECK(i->n_experts != 0 || n->family->routing != NET_ROUTES, b->err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE,
                "a '%s' model needs experts, the file has none", n->family->arch);
    SPARK_CHECK(i->n_experts_used <= i->n_experts && (i->n_experts == 0 || i->n_experts_used > 0), b->err,
                SPARK_E_FORMAT, SPARK_ERR_NOWHERE, "%u of %u experts cannot be used", i->n_experts_used, i->n_experts);
    if (i->n_experts == 0) return SPARK_SUCCESS;
    /* Without a size of its own an expert is as wide as feed_forward_length says (llama), or its part of it (the others). */
    n->n_ff_expert = n->family->routing == NET_MAY_ROUTE ? i->n_ff : i->n_ff / i->n_experts_used;
    SPARK_TRY(bind_u32(b, "expert_feed_forward_length", 1, SPARK_MAX_FF, &n->n_ff_expert, i->n_ff == 0));
    SPARK_CHECK(n->n_ff_expert > 0, b->err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE,
                "a feed_forward_length of %u is too small for %u experts", i->n_ff, i->n_experts_used);
    n->n_ff_shared = n->family->shared_expert ? i->n_ff : 0;
    if (n->family->shared_expert)
        SPARK_TRY(bind_u32(b, "expert_shared_feed_forward_length", 1, SPARK_MAX_FF, &n->n_ff_shared, i->n_ff == 0));
    return SPARK_SUCCESS;
}

/* Which layers have a window: every one, or all but each period-th; a file may give the period or list the layers. */
static spark_status bind_windows(bind_state *b)
{
    spark_net *n = b->n;
    const net_family *f = n->family;
    uint32_t window = f->window_default, period = f->window == NET_WINDOW_PERIODIC ? f->window_period : 0;
    SPARK_TRY(bind_u32(b, "attention.sliding_window", 0, UINT32_MAX, &window, false));
    if (window >= n->info.n_ctx_train && f->window != NET_WINDOW_PERIODIC) window = 0; /* it hides nothing */
    SPARK_CHECK(window == 0 || f->window != NET_WINDOW_NONE, b->err, SPARK_E_UNSUPPORTED, SPARK_ERR_NOWHERE,
                "a '%s' model with a sliding window (%u) is not supported", f->arch, window);
    if (window == 0) return SPARK_SUCCESS;
    n->info.sliding_window = window;
    char key[SPARK_MAX_GGUF_NAME];
    const spark_gguf_value *v = spark_gguf_find(b->g, bind_key(b, "attention.sliding_window_pattern", key));
    const bool listed = f->window == NET_WINDOW_PERIODIC && v && v->kind == SPARK_GGUF_ARRAY;
    spark_gguf_value list = {0};
    if (listed) {
        SPARK_TRY(spark_gguf_get_array(b->g, key, SPARK_GGUF_BOOL, &list, NULL, b->err));
        SPARK_CHECK(list.n >= n->info.n_layers, b->err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE,
                    "'%s' lists %" PRIu64 " of %u layers", key, list.n, n->info.n_layers);
    } else if (f->window == NET_WINDOW_PERIODIC) {
        SPARK_TRY(bind_u32(b, "attention.sliding_window_pattern", 1, SPARK_MAX_LAYERS, &period, false));
    }
    for (uint32_t l = 0; l < n->info.n_layers; l++) {
        const bool local = listed ? spark_gguf_array_i64(&list, l) != 0 : period == 0 || (l + 1) % period != 0;
        n->layers[l].window = local ? window : 0;
        n->layers[l].local_rope = local && f->local_rope_base != 0;
    }
    return SPARK_SUCCESS;
}

static spark_status bind_rope_keys(bind_state *b)
{
    net_rope_keys *r = &b->n->rope_keys;
    *r = (net_rope_keys){10000.0f, 1.0f, 1.0f, 32.0f, 1.0f, b->n->info.n_ctx_train, NET_SCALE_LINEAR};
    SPARK_TRY(bind_f32(b, "rope.freq_base", 1.0f, 1e15f, &r->base, false));
    SPARK_TRY(bind_f32(b, "rope.scale_linear", 1e-3f, 1e6f, &r->factor, false)); /* the key of old files */
    SPARK_TRY(bind_f32(b, "rope.scaling.factor", 1e-3f, 1e6f, &r->factor, false));
    SPARK_TRY(bind_f32(b, "rope.scaling.attn_factor", 1e-3f, 1e3f, &r->attn_factor, false));
    SPARK_TRY(bind_f32(b, "rope.scaling.yarn_beta_fast", 1e-3f, 1e6f, &r->beta_fast, false));
    SPARK_TRY(bind_f32(b, "rope.scaling.yarn_beta_slow", 1e-3f, 1e6f, &r->beta_slow, false));
    SPARK_TRY(bind_u32(b, "rope.scaling.original_context_length", 1, SPARK_MAX_CTX, &r->original_ctx, false));
    char key[SPARK_MAX_GGUF_NAME];
    spark_bytes type = SPARK_BYTES_LITERAL("linear");
    SPARK_TRY(spark_gguf_get_string(b->g, bind_key(b, "rope.scaling.type", key), &type, NULL, b->err));
    if (spark_bytes_is(type, "none"))
        r->scaling = NET_SCALE_NONE;
    else if (spark_bytes_is(type, "linear"))
        r->scaling = NET_SCALE_LINEAR;
    else if (spark_bytes_is(type, "yarn"))
        r->scaling = NET_SCALE_YARN;
    else if (spark_bytes_is(type, "longrope"))
        r->scaling = NET_SCALE_LONG;
    else
        return spark_fail(b->err, SPARK_E_UNSUPPORTED, SPARK_ERR_NOWHERE,
                          "'%s' is '%.*s'; none, linear, yarn and longrope are supported", key,
                          (int)(type.len < 40 ? type.len : 40), (const char *)type.ptr);
    return SPARK_SUCCESS;
}

static spark_status bind_keys(bind_state *b)
{
    spark_net *n = b->n;
    spark_net_info *i = &n->info;
    SPARK_TRY(bind_family(b));
    i->arch = n->family->arch;
    SPARK_TRY(bind_u32(b, "context_length", 1, SPARK_MAX_CTX, &i->n_ctx_train, true));
    SPARK_TRY(bind_u32(b, "embedding_length", 1, SPARK_MAX_EMBD, &i->n_embd, true));
    SPARK_TRY(bind_u32(b, "block_count", 1, SPARK_MAX_LAYERS, &i->n_layers, true));
    SPARK_TRY(bind_u32(b, "feed_forward_length", n->family->routing == NET_ROUTES ? 0 : 1, SPARK_MAX_FF, &i->n_ff,
                       n->family->routing != NET_ROUTES));
    SPARK_TRY(bind_f32(b, "attention.layer_norm_rms_epsilon", 1e-30f, 1.0f, &n->eps, true));
    SPARK_TRY(bind_heads(b));
    SPARK_TRY(bind_experts(b));
    n->attn_softcap = n->family->attn_softcap;
    n->final_softcap = n->family->final_softcap;
    SPARK_TRY(bind_f32(b, "attn_logit_softcapping", 0.0f, 1e6f, &n->attn_softcap, false));
    SPARK_TRY(bind_f32(b, "final_logit_softcapping", 0.0f, 1e6f, &n->final_softcap, false));
    n->embed_scale = n->family->embed_scale ? spark_sqrtf((float)i->n_embd) : 1.0f;
    SPARK_TRY(SPARK_NEW(b->a, i->n_layers, &n->layers, b->err));
    SPARK_TRY(bind_windows(b));
    SPARK_TRY(bind_rope_keys(b));
    return spark__rope_bind(n, b->a, b->err);
}

/* ---- Tensors --------------------------------------------------------------------------------------------------------- */

static const spark_gguf_tensor *bind_find(bind_state *b, const char *name, char full[SPARK_MAX_GGUF_NAME])
{
    if (b->layer < 0)
        snprintf(full, SPARK_MAX_GGUF_NAME, "%s", name);
    else
        snprintf(full, SPARK_MAX_GGUF_NAME, "blk.%d.%s", b->layer, name);
    const spark_gguf_tensor *t = spark_gguf_tensor_find(b->g, full);
    if (t) (void)spark_strmap_put(b->bound, t->name, 0);
    return t;
}

static spark_status bind_missing(bind_state *b, const char *full)
{
    return spark_fail(b->err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE, "the tensor '%s' of a '%s' model is missing", full,
                      b->n->family->arch);
}

/* A tensor of exactly these dimensions. */
static spark_status bind_shape(bind_state *b, const spark_gguf_tensor *t, const char *full, uint64_t d0, uint64_t d1,
                               uint64_t d2)
{
    const uint64_t want[4] = {d0, d1, d2, 1};
    for (size_t d = 0; d < SPARK_COUNT(want); d++)
        SPARK_CHECK(t->dims[d] == want[d], b->err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE,
                    "the tensor '%s' is [%" PRIu64 ", %" PRIu64 ", %" PRIu64 ", %" PRIu64 "], expected [%" PRIu64
                    ", %" PRIu64 ", %" PRIu64 "]",
                    full, t->dims[0], t->dims[1], t->dims[2], t->dims[3], d0, d1, d2);
    return SPARK_SUCCESS;
}

/* Gives a matrix its place in the weights. */
static spark_status bind_place(bind_state *b, net_matrix *m, const spark_gguf_tensor *t, uint64_t row, uint32_t n_rows,
                               uint32_t n_cols, uint32_t n_parts)
{
    uint64_t bytes = 0;
    *m = (net_matrix){
        .m = {.type = t->type, .n_rows = n_rows, .n_cols = n_cols, .panel_bytes = spark_panel_bytes(t->type, n_cols)},
        .source = t,
        .source_row = row,
        .n_parts = n_parts,
        .offset = b->n->weight_bytes};
    SPARK_CHECK(spark_mul_u64(m->m.panel_bytes, spark_n_panels(n_rows), &m->part_bytes) &&
                    spark_mul_u64(m->part_bytes, n_parts, &bytes) &&
                    spark_add_u64(b->n->weight_bytes, bytes, &b->n->weight_bytes) && b->n->weight_bytes <= SIZE_MAX / 2,
                b->err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE, "the weights take more memory than can be addressed");
    return SPARK_SUCCESS;
}

/* The matrix `name` of n_rows x n_cols (times n_parts, if > 0, in a third dimension). */
static spark_status bind_matrix(bind_state *b, net_matrix *m, const char *name, uint32_t n_cols, uint32_t n_rows,
                                uint32_t n_parts, bool required)
{
    char full[SPARK_MAX_GGUF_NAME];
    const spark_gguf_tensor *t = bind_find(b, name, full);
    if (!t) return required ? bind_missing(b, full) : SPARK_SUCCESS;
    SPARK_TRY(bind_shape(b, t, full, n_cols, n_rows, n_parts ? n_parts : 1));
    return bind_place(b, m, t, 0, n_rows, n_cols, n_parts ? n_parts : 1);
}

static spark_status bind_vector_at(bind_state *b, net_vector *v, const spark_gguf_tensor *t, const char *full,
                                   uint64_t first, uint32_t n)
{
    SPARK_CHECK(t->type == SPARK_TYPE_F32 || t->type == SPARK_TYPE_F16 || t->type == SPARK_TYPE_BF16, b->err,
                SPARK_E_UNSUPPORTED, SPARK_ERR_NOWHERE, "the tensor '%s' is %s, expected F32, F16 or BF16", full,
                spark_type_lookup(t->type)->name);
    *v = (net_vector){.source = t, .source_first = first, .n = n, .offset = b->n->weight_bytes};
    b->n->weight_bytes += spark_round_up((size_t)n * sizeof(float), 64); /* n <= SPARK_MAX_FF, and few */
    return SPARK_SUCCESS;
}

static spark_status bind_vector(bind_state *b, net_vector *v, const char *name, uint32_t n, bool required)
{
    char full[SPARK_MAX_GGUF_NAME];
    const spark_gguf_tensor *t = bind_find(b, name, full);
    if (!t) return required ? bind_missing(b, full) : SPARK_SUCCESS;
    SPARK_TRY(bind_shape(b, t, full, n, 1, 1));
    return bind_vector_at(b, v, t, full, 0, n);
}

/* Rows of one tensor that are several matrices: cut at load, so that nobody else needs to know. */
static spark_status bind_cut(bind_state *b, const char *name, const char *bias_name, uint32_t n_cols,
                             const uint32_t *n_rows, net_matrix *const *m, net_vector *const *bias, uint32_t n,
                             bool *found)
{
    char full[SPARK_MAX_GGUF_NAME];
    const spark_gguf_tensor *t = bind_find(b, name, full);
    *found = t != NULL;
    if (!t) return SPARK_SUCCESS;
    uint64_t rows = 0, at = 0;
    for (uint32_t i = 0; i < n; i++) rows += n_rows[i];
    SPARK_TRY(bind_shape(b, t, full, n_cols, rows, 1));
    for (uint32_t i = 0; i < n; at += n_rows[i++]) SPARK_TRY(bind_place(b, m[i], t, at, n_rows[i], n_cols, 1));
    t = bind_find(b, bias_name, full);
    if (!t) return SPARK_SUCCESS;
    SPARK_TRY(bind_shape(b, t, full, rows, 1, 1));
    at = 0;
    for (uint32_t i = 0; i < n; at += n_rows[i++]) SPARK_TRY(bind_vector_at(b, bias[i], t, full, at, n_rows[i]));
    return SPARK_SUCCESS;
}

static spark_status bind_attention(bind_state *b, net_layer *l)
{
    const spark_net_info *i = &b->n->info;
    const uint32_t rows[3] = {i->n_heads * i->head_dim_k, i->n_heads_kv * i->head_dim_k, i->n_heads_kv * i->head_dim_v};
    bool fused = false;
    SPARK_TRY(bind_vector(b, &l->attn_norm, "attn_norm.weight", i->n_embd, true));
    SPARK_TRY(bind_cut(b, "attn_qkv.weight", "attn_qkv.bias", i->n_embd, rows, (net_matrix *[]){&l->q, &l->k, &l->v},
                       (net_vector *[]){&l->q_bias, &l->k_bias, &l->v_bias}, 3, &fused));
    if (!fused) {
        SPARK_TRY(bind_matrix(b, &l->q, "attn_q.weight", i->n_embd, rows[0], 0, true));
        SPARK_TRY(bind_matrix(b, &l->k, "attn_k.weight", i->n_embd, rows[1], 0, true));
        SPARK_TRY(bind_matrix(b, &l->v, "attn_v.weight", i->n_embd, rows[2], 0, true));
        SPARK_TRY(bind_vector(b, &l->q_bias, "attn_q.bias", rows[0], false));
        SPARK_TRY(bind_vector(b, &l->k_bias, "attn_k.bias", rows[1], false));
        SPARK_TRY(bind_vector(b, &l->v_bias, "attn_v.bias", rows[2], false));
    }
    if (b->n->family->qk_norm) {
        SPARK_TRY(bind_vector(b, &l->q_norm, "attn_q_norm.weight", i->head_dim_k, true));
        SPARK_TRY(bind_vector(b, &l->k_norm, "attn_k_norm.weight", i->head_dim_k, true));
    }
    SPARK_TRY(bind_matrix(b, &l->o, "attn_output.weight", i->n_heads * i->head_dim_v, i->n_embd, 0, true));
    SPARK_TRY(bind_vector(b, &l->o_bias, "attn_output.bias", i->n_embd, false));
    if (b->n->family->post_norms)
        SPARK_TRY(bind_vector(b, &l->attn_post_norm, "post_attention_norm.weight", i->n_embd, true));
    return SPARK_SUCCESS;
}

static spark_status bind_routed(bind_state *b, net_layer *l)
{
    const spark_net *n = b->n;
    const uint32_t embd = n->info.n_embd, experts = n->info.n_experts;
    SPARK_TRY(bind_matrix(b, &l->router, "ffn_gate_inp.weight", embd, experts, 0, true));
    SPARK_TRY(bind_matrix(b, &l->gate, "ffn_gate_exps.weight", embd, n->n_ff_expert, experts, true));
    SPARK_TRY(bind_matrix(b, &l->up, "ffn_up_exps.weight", embd, n->n_ff_expert, experts, true));
    SPARK_TRY(bind_matrix(b, &l->down, "ffn_down_exps.weight", n->n_ff_expert, embd, experts, true));
    if (!n->family->shared_expert) return SPARK_SUCCESS;
    SPARK_TRY(bind_matrix(b, &l->shared_router, "ffn_gate_inp_shexp.weight", embd, 1, 0, true));
    SPARK_TRY(bind_matrix(b, &l->shared_gate, "ffn_gate_shexp.weight", embd, n->n_ff_shared, 0, true));
    SPARK_TRY(bind_matrix(b, &l->shared_up, "ffn_up_shexp.weight", embd, n->n_ff_shared, 0, true));
    return bind_matrix(b, &l->shared_down, "ffn_down_shexp.weight", n->n_ff_shared, embd, 0, true);
}

static spark_status bind_dense(bind_state *b, net_layer *l)
{
    const uint32_t embd = b->n->info.n_embd, ff = b->n->info.n_ff;
    if (b->n->family->fused_gate_up) {
        bool found = false;
        SPARK_TRY(bind_cut(b, "ffn_up.weight", "ffn_up.bias", embd, (const uint32_t[]){ff, ff},
                           (net_matrix *[]){&l->gate, &l->up}, (net_vector *[]){&l->gate_bias, &l->up_bias}, 2,
                           &found));
        char full[SPARK_MAX_GGUF_NAME];
        if (!found) return (void)bind_find(b, "ffn_up.weight", full), bind_missing(b, full);
    } else {
        SPARK_TRY(bind_matrix(b, &l->gate, "ffn_gate.weight", embd, ff, 0, true));
        SPARK_TRY(bind_matrix(b, &l->up, "ffn_up.weight", embd, ff, 0, true));
        SPARK_TRY(bind_vector(b, &l->gate_bias, "ffn_gate.bias", ff, false));
        SPARK_TRY(bind_vector(b, &l->up_bias, "ffn_up.bias", ff, false));
    }
    SPARK_TRY(bind_matrix(b, &l->down, "ffn_down.weight", ff, embd, 0, true));
    return bind_vector(b, &l->down_bias, "ffn_down.bias", embd, false);
}

static unsigned bind_forms(const net_matrix *const *m, size_t n)
{
    unsigned forms = 0;
    for (size_t i = 0; i < n; i++)
        if (m[i]->source) forms |= 1u << spark__net_form(m[i]->m.type);
    return forms;
}

static spark_status bind_layer(bind_state *b, net_layer *l)
{
    SPARK_TRY(bind_attention(b, l));
    SPARK_TRY(bind_vector(b, &l->ffn_norm, "ffn_norm.weight", b->n->info.n_embd, true));
    SPARK_TRY(b->n->info.n_experts ? bind_routed(b, l) : bind_dense(b, l));
    if (b->n->family->post_norms)
        SPARK_TRY(bind_vector(b, &l->ffn_post_norm, "post_ffw_norm.weight", b->n->info.n_embd, true));
    l->qkv_forms = bind_forms((const net_matrix *[]){&l->q, &l->k, &l->v}, 3);
    l->ffn_forms = bind_forms(
        (const net_matrix *[]){&l->gate, &l->up, &l->router, &l->shared_router, &l->shared_gate, &l->shared_up}, 6);
    return SPARK_SUCCESS;
}

/* The table of tokens and, where the vocabulary says how many there are, whether both agree. */
static spark_status bind_embedding(bind_state *b)
{
    spark_net_info *i = &b->n->info;
    char full[SPARK_MAX_GGUF_NAME];
    const spark_gguf_tensor *t = bind_find(b, "token_embd.weight", full);
    if (!t) return bind_missing(b, full);
    SPARK_CHECK(t->dims[1] <= SPARK_MAX_VOCAB, b->err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "%" PRIu64 " tokens are over the limit of %u", t->dims[1], SPARK_MAX_VOCAB);
    i->n_vocab = (uint32_t)t->dims[1];
    SPARK_TRY(bind_shape(b, t, full, i->n_embd, i->n_vocab, 1));
    const spark_gguf_value *tokens = spark_gguf_find(b->g, "tokenizer.ggml.tokens");
    SPARK_CHECK(!tokens || tokens->kind != SPARK_GGUF_ARRAY || tokens->n == i->n_vocab, b->err, SPARK_E_FORMAT,
                SPARK_ERR_NOWHERE, "the vocabulary has %" PRIu64 " tokens, '%s' has %u rows", tokens->n, full,
                i->n_vocab);
    return bind_place(b, &b->n->embedding, t, 0, i->n_vocab, i->n_embd, 1);
}

/* The divisors of the frequencies: one tensor, or a long and a short one between which the file's context decides. */
static spark_status bind_rope_factors(bind_state *b)
{
    spark_net *n = b->n;
    net_vector factors[3] = {0};
    SPARK_TRY(bind_vector(b, &factors[0], "rope_freqs.weight", n->rot_dim / 2, false));
    SPARK_TRY(bind_vector(b, &factors[1], "rope_factors_short.weight", n->rot_dim / 2, false));
    SPARK_TRY(bind_vector(b, &factors[2], "rope_factors_long.weight", n->rot_dim / 2, false));
    const bool has_pair = factors[1].source || factors[2].source;
    SPARK_CHECK(has_pair || n->rope_keys.scaling != NET_SCALE_LONG, b->err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE,
                "rope scaling is 'longrope', but 'rope_factors_long.weight' is missing");
    SPARK_CHECK(!has_pair || (factors[1].source && factors[2].source && !factors[0].source), b->err, SPARK_E_FORMAT,
                SPARK_ERR_NOWHERE,
                "'rope_factors_long.weight' and 'rope_factors_short.weight' go together, without 'rope_freqs.weight'");
    const unsigned use = !has_pair ? 0 : n->info.n_ctx_train > n->rope_keys.original_ctx ? 2 : 1;
    n->rope_factors = factors[use]; /* the other one keeps its place in the file, unread */
    return SPARK_SUCCESS;
}

/* A tensor without a place means a part that we do not know: without it the answers would be wrong. */
static spark_status bind_none_left(bind_state *b)
{
    for (uint32_t i = 0; i < spark_gguf_n_tensors(b->g); i++) {
        const spark_bytes name = spark_gguf_tensor_at(b->g, i)->name;
        SPARK_CHECK(spark_strmap_get(b->bound, name) != SPARK_STRMAP_NONE, b->err, SPARK_E_UNSUPPORTED,
                    SPARK_ERR_NOWHERE, "the tensor '%.*s' has no place in a '%s' model of %u layers",
                    (int)(name.len < 100 ? name.len : 100), (const char *)name.ptr, b->n->family->arch,
                    b->n->info.n_layers);
    }
    return SPARK_SUCCESS;
}

static spark_status bind_tensors(bind_state *b)
{
    spark_net *n = b->n;
    SPARK_TRY(bind_embedding(b));
    SPARK_TRY(bind_rope_factors(b));
    for (uint32_t l = 0; l < n->info.n_layers; l++) {
        b->layer = (int)l;
        SPARK_TRY(bind_layer(b, &n->layers[l]));
    }
    b->layer = -1;
    SPARK_TRY(bind_vector(b, &n->output_norm, "output_norm.weight", n->info.n_embd, true));
    SPARK_TRY(bind_matrix(b, &n->head, "output.weight", n->info.n_embd, n->info.n_vocab, 0, false));
    SPARK_TRY(bind_vector(b, &n->head_bias, "output.bias", n->info.n_vocab, false));
    return bind_none_left(b);
}

/* ---- The whole -------------------------------------------------------------------------------------------------------- */

#define BIND_MATRICES(l)                                                                                               \
    {                                                                                                                  \
        &(l)->q, &(l)->k, &(l)->v, &(l)->o, &(l)->router, &(l)->gate, &(l)->up, &(l)->down, &(l)->shared_router,       \
            &(l)->shared_gate, &(l)->shared_up, &(l)->shared_down                                                      \
    }
#define BIND_VECTORS(l)                                                                                                \
    {                                                                                                                  \
        &(l)->attn_norm, &(l)->q_norm, &(l)->k_norm, &(l)->attn_post_norm, &(l)->ffn_norm, &(l)->ffn_post_norm,        \
            &(l)->q_bias, &(l)->k_bias, &(l)->v_bias, &(l)->o_bias, &(l)->gate_bias, &(l)->up_bias, &(l)->down_bias    \
    }

/* Adds what exists to the list; without a list it only counts. */
static void bind_list(spark_net *n, net_piece *list, net_matrix *const *m, size_t n_m, net_vector *const *v, size_t n_v)
{
    for (size_t i = 0; i < n_m; i++)
        if (m[i]->source) {
            if (list) list[n->n_pieces].matrix = m[i];
            n->n_pieces++;
        }
    for (size_t i = 0; i < n_v; i++)
        if (v[i]->source) {
            if (list) list[n->n_pieces].vector = v[i];
            n->n_pieces++;
        }
}

static void bind_list_all(spark_net *n, net_piece *list)
{
    n->n_pieces = 0;
    bind_list(n, list, (net_matrix *[]){&n->embedding, &n->head}, 2,
              (net_vector *[]){&n->rope_factors, &n->output_norm, &n->head_bias}, 3);
    for (uint32_t i = 0; i < n->info.n_layers; i++) {
        net_layer *l = &n->layers[i];
        net_matrix *const m[] = BIND_MATRICES(l);
        net_vector *const v[] = BIND_VECTORS(l);
        bind_list(n, list, m, SPARK_COUNT(m), v, SPARK_COUNT(v));
    }
}

/* Staging memory while loading: a slice of about a megabyte, but at least one panel of the widest matrix. */
static uint64_t bind_staging(const net_piece *p)
{
    const spark_type type = p->vector ? p->vector->source->type : p->matrix->m.type;
    const uint64_t row = spark_type_row_bytes(spark_type_lookup(type), p->vector ? p->vector->n : p->matrix->m.n_cols);
    const uint64_t panel = p->vector ? 0 : row * SPARK_PANEL_ROWS, whole = p->vector ? row : row * p->matrix->m.n_rows;
    const uint64_t slice = panel > NET_LOAD_SLICE ? panel : NET_LOAD_SLICE;
    return whole < slice ? whole : slice;
}

static spark_status bind_pieces(bind_state *b)
{
    spark_net *n = b->n;
    bind_list_all(n, NULL);
    SPARK_TRY(SPARK_NEW(b->a, n->n_pieces, &n->pieces, b->err));
    bind_list_all(n, n->pieces);
    for (uint32_t i = 0; i < n->n_pieces; i++) {
        const uint64_t need = bind_staging(&n->pieces[i]);
        if (need > n->load_buffer) n->load_buffer = need;
    }
    n->load_buffer = (n->load_buffer + 63) & ~(uint64_t)63; /* the next thread's begins on a line of its own */
    for (uint32_t i = 1; i < n->n_pieces; i++)
        n->pieces[i].first_job = n->pieces[i - 1].first_job + spark__load_jobs(n, &n->pieces[i - 1]);
    return SPARK_SUCCESS;
}

spark_status spark_net_bind(spark_net **out, const spark_gguf *g, spark_arena *a, spark_err *err)
{
    spark_net *n = NULL;
    SPARK_TRY(SPARK_NEW(a, 1, &n, err));
    n->gguf = g;
    bind_state b = {.n = n, .g = g, .a = a, .err = err, .layer = -1};
    SPARK_TRY(spark_strmap_create(&b.bound, spark_gguf_n_tensors(g) + 1, a, err));
    SPARK_TRY(bind_keys(&b));
    SPARK_TRY(bind_tensors(&b));
    SPARK_TRY(bind_pieces(&b));
    for (uint32_t i = 0; i < spark_gguf_n_tensors(g); i++) {
        const spark_gguf_tensor *t = spark_gguf_tensor_at(g, i);
        n->info.n_params += t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3];
        n->info.file_bytes += t->n_bytes;
    }
    *out = n;
    return SPARK_SUCCESS;
}

void spark_net_info_get(const spark_net *n, spark_net_info *out) { *out = n->info; }

const spark_gguf *spark_net_gguf(const spark_net *n) { return n->gguf; }

unsigned spark__net_form(spark_type type)
{
    const uint32_t block = spark_type_lookup(type)->act_block;
    return block == 0 ? NET_FORM_FLOAT : block == 32 ? NET_FORM_32 : NET_FORM_256;
}

uint32_t spark__net_form_block(unsigned form) { return form == NET_FORM_FLOAT ? 0 : form == NET_FORM_32 ? 32 : 256; }
