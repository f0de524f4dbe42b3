/* fixture.h - for the tests of this room: a model opened from a file of the shared data, or made of random weights here,
 * loaded, and run. For tests only. */
#ifndef SPARK_MODEL_FIXTURE_H
#define SPARK_MODEL_FIXTURE_H

#include <string.h>

#include "base/test.h"
#include "format/gguf_write.h"
#include "kern/quant.h"
#include "model/model_internal.h"

typedef struct fixture {
    spark_arena *arena;
    spark_gguf *gguf;
    spark_net *net;
    uint8_t *bytes;
    size_t len;
} fixture;

SPARK_UNUSED static spark_status fixture_read(void *ctx, uint32_t file, uint64_t offset, void *dst, size_t len,
                                              spark_err *err)
{
    const fixture *f = ctx;
    if (file != 0 || offset > f->len || len > f->len - offset)
        return spark_fail(err, SPARK_E_IO, offset, "past the end");
    memcpy(dst, f->bytes + offset, len);
    return SPARK_SUCCESS;
}

/* Takes over f->bytes; binds and, if it is a model, says so. */
SPARK_UNUSED static spark_status fixture_bind(fixture *f, spark_err *err)
{
    SPARK_TRY(spark_arena_create(&f->arena, 256u << 20, err));
    SPARK_TRY(spark_gguf_open(&f->gguf, &(spark_gguf_file){{f->bytes, f->len}, f->len}, 1, f->arena, err));
    return spark_net_bind(&f->net, f->gguf, f->arena, err);
}

SPARK_UNUSED static spark_status fixture_load(fixture *f, spark_pool *pool, spark_err *err)
{
    const spark_source source = {fixture_read, f};
    return spark_net_load(f->net, &source, pool, NULL, NULL, err);
}

SPARK_UNUSED static void fixture_close(fixture *f)
{
    if (f->net) spark_net_unload(f->net);
    spark_arena_destroy(&f->arena);
    free(f->bytes);
    *f = (fixture){0};
}

/* Opens and loads a file of the shared data; false if there is none. */
SPARK_UNUSED static bool fixture_open(fixture *f, const char *relative, spark_pool *pool)
{
    const char *path = test_data(relative);
    spark_err err = {0};
    *f = (fixture){0};
    if (!path) return false;
    f->bytes = test_read(path, &f->len);
    if (!spark_ok(fixture_bind(f, &err)) || !spark_ok(fixture_load(f, pool, &err)))
        fail_msg("%s: %s", relative, err.text);
    return true;
}

/* ---- A model made here ------------------------------------------------------------------------------------------------- */

/* What a test may want to be different. */
typedef struct fixture_spec {
    const char *arch;
    uint32_t heads, heads_kv, head_dim, ctx, window, experts;
    uint32_t ff;           /* 0 = FIXTURE_FF */
    spark_type type;       /* of matrices: F32 or Q8_0 */
    spark_type down;       /* of ffn_down, if not F32; any type that can be quantized to */
    const char *leave_out; /* a tensor or key that is not written */
    const char *extra;     /* one more tensor */
    const char *nan_in;    /* a tensor whose last value is NaN */
    const char *scale_up;  /* a tensor whose values are 3e38 times as large */
    uint32_t hot_token;    /* not 0: a pass over this token, and over no other, gives values that are not finite */
} fixture_spec;

enum { FIXTURE_EMBD = 64, FIXTURE_FF = 96, FIXTURE_VOCAB = 37, FIXTURE_LAYERS = 2 };

typedef struct fixture_build {
    fixture *f;
    const fixture_spec *s;
    spark_gguf_writer *w;
    uint32_t random;
    struct {
        char name[64];
        uint64_t dims[3];
        spark_type type;
    } tensors[96];
    uint32_t n_tensors;
} fixture_build;

SPARK_UNUSED static spark_status fixture_sink(void *ctx, const void *bytes, size_t n, spark_err *err)
{
    (void)err;
    fixture *f = ctx;
    f->bytes = realloc(f->bytes, f->len + n + 1);
    assert_non_null(f->bytes);
    memcpy(f->bytes + f->len, bytes, n);
    f->len += n;
    return SPARK_SUCCESS;
}

SPARK_UNUSED static float fixture_random(fixture_build *b)
{
    b->random = b->random * 1664525u + 1013904223u;
    return (float)(int32_t)b->random / 2147483648.0f;
}

SPARK_UNUSED static void fixture_tensor(fixture_build *b, int layer, const char *name, uint64_t d0, uint64_t d1,
                                        uint64_t d2)
{
    char full[64];
    if (layer < 0)
        snprintf(full, sizeof full, "%s", name);
    else
        snprintf(full, sizeof full, "blk.%d.%s", layer, name);
    if (b->s->leave_out && strcmp(full, b->s->leave_out) == 0) return;
    assert_true(b->n_tensors < SPARK_COUNT(b->tensors));
    memcpy(b->tensors[b->n_tensors].name, full, sizeof full);
    const uint64_t dims[3] = {d0, d1, d2};
    const bool down = b->s->down != SPARK_TYPE_F32 && strstr(name, "ffn_down");
    const spark_type type = d1 == 0 ? SPARK_TYPE_F32 : down ? b->s->down : b->s->type;
    memcpy(b->tensors[b->n_tensors].dims, dims, sizeof dims);
    b->tensors[b->n_tensors++].type = type;
    assert_ok(spark_gguf_put_tensor(b->w, spark_bytes_of(full), type, d1 == 0 ? 1 : d2 == 0 ? 2 : 3, dims, NULL));
}

SPARK_UNUSED static void fixture_u32(fixture_build *b, const char *name, uint32_t value)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", b->s->arch, name);
    if (b->s->leave_out && strcmp(key, b->s->leave_out) == 0) return;
    assert_ok(spark_gguf_put_u32(b->w, key, value, NULL));
}

static inline uint32_t fixture_ff(const fixture_spec *s) { return s->ff ? s->ff : FIXTURE_FF; }

SPARK_UNUSED static void fixture_keys(fixture_build *b)
{
    const fixture_spec *s = b->s;
    char key[96];
    assert_ok(spark_gguf_put_string(b->w, "general.architecture", spark_bytes_of(s->arch), NULL));
    fixture_u32(b, "context_length", s->ctx);
    fixture_u32(b, "embedding_length", FIXTURE_EMBD);
    fixture_u32(b, "block_count", FIXTURE_LAYERS);
    fixture_u32(b, "feed_forward_length", fixture_ff(s));
    fixture_u32(b, "attention.head_count", s->heads);
    fixture_u32(b, "attention.head_count_kv", s->heads_kv);
    fixture_u32(b, "attention.key_length", s->head_dim);
    fixture_u32(b, "attention.value_length", s->head_dim);
    if (s->window) fixture_u32(b, "attention.sliding_window", s->window);
    if (s->experts) {
        fixture_u32(b, "expert_count", s->experts);
        fixture_u32(b, "expert_used_count", 2);
    }
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", s->arch);
    assert_ok(spark_gguf_put_f32(b->w, key, 1e-5f, NULL));
}

SPARK_UNUSED static void fixture_layer(fixture_build *b, int l)
{
    const fixture_spec *s = b->s;
    const uint32_t ff = fixture_ff(s);
    fixture_tensor(b, l, "attn_norm.weight", FIXTURE_EMBD, 0, 0);
    fixture_tensor(b, l, "attn_q.weight", FIXTURE_EMBD, s->heads * s->head_dim, 0);
    fixture_tensor(b, l, "attn_k.weight", FIXTURE_EMBD, s->heads_kv * s->head_dim, 0);
    fixture_tensor(b, l, "attn_v.weight", FIXTURE_EMBD, s->heads_kv * s->head_dim, 0);
    fixture_tensor(b, l, "attn_v.bias", s->heads_kv * s->head_dim, 0, 0);
    fixture_tensor(b, l, "attn_output.weight", s->heads * s->head_dim, FIXTURE_EMBD, 0);
    fixture_tensor(b, l, "ffn_norm.weight", FIXTURE_EMBD, 0, 0);
    if (s->experts) {
        fixture_tensor(b, l, "ffn_gate_inp.weight", FIXTURE_EMBD, s->experts, 0);
        fixture_tensor(b, l, "ffn_gate_exps.weight", FIXTURE_EMBD, ff, s->experts);
        fixture_tensor(b, l, "ffn_up_exps.weight", FIXTURE_EMBD, ff, s->experts);
        fixture_tensor(b, l, "ffn_down_exps.weight", ff, FIXTURE_EMBD, s->experts);
        return;
    }
    fixture_tensor(b, l, "ffn_gate.weight", FIXTURE_EMBD, ff, 0);
    fixture_tensor(b, l, "ffn_up.weight", FIXTURE_EMBD, ff, 0);
    fixture_tensor(b, l, "ffn_down.weight", ff, FIXTURE_EMBD, 0);
}

/* Only the hot token has something in the last column, and the first norm makes it enormous. */
SPARK_UNUSED static void fixture_heat(const fixture_build *b, const char *name, float *x, size_t n)
{
    if (b->s->hot_token == 0) return;
    if (strcmp(name, "blk.0.attn_norm.weight") == 0) x[FIXTURE_EMBD - 1] = 1e30f;
    if (strcmp(name, "token_embd.weight") != 0) return;
    for (size_t k = FIXTURE_EMBD - 1; k < n; k += FIXTURE_EMBD) x[k] = k / FIXTURE_EMBD == b->s->hot_token ? 1 : 0;
}

SPARK_UNUSED static void fixture_data(fixture_build *b, uint32_t i)
{
    const uint64_t *d = b->tensors[i].dims;
    const char *name = b->tensors[i].name;
    const bool norm = strstr(name, "norm") != NULL;
    const size_t n = (size_t)(d[0] * (d[1] ? d[1] : 1) * (d[2] ? d[2] : 1));
    const float scale = (norm ? 0.3f : 2.0f / 8) * (b->s->scale_up && strcmp(name, b->s->scale_up) == 0 ? 3e38f : 1);
    float *x = malloc(n * sizeof *x);
    assert_non_null(x);
    for (size_t k = 0; k < n; k++) x[k] = fixture_random(b) * scale + (norm ? 1.0f : 0.0f);
    fixture_heat(b, name, x, n);
    if (b->s->nan_in && strcmp(name, b->s->nan_in) == 0) memset(&x[n - 1], 0xff, sizeof *x);
    const spark_type type = b->tensors[i].type;
    if (type == SPARK_TYPE_Q8_0) {
        uint8_t *q = calloc(n / 32, 34); /* scale 1/512, levels of the random numbers */
        assert_non_null(q);
        for (size_t k = 0; k < n; k++) {
            q[k / 32 * 34 + 1] = 0x18;
            q[k / 32 * 34 + 2 + k % 32] = (uint8_t)(int8_t)(x[k] * 400);
        }
        assert_ok(spark_gguf_write_data(b->w, q, n / 32 * 34, NULL));
        free(q);
    } else if (type != SPARK_TYPE_F32) {
        const size_t bytes = n / spark_type_lookup(type)->block_elems * spark_type_lookup(type)->block_bytes;
        uint8_t *q = malloc(bytes);
        assert_non_null(q);
        assert_ok(spark_quantize(type, x, q, n, NULL));
        assert_ok(spark_gguf_write_data(b->w, q, bytes, NULL));
        free(q);
    } else {
        assert_ok(spark_gguf_write_data(b->w, x, n * sizeof *x, NULL));
    }
    free(x);
}

/* The file of a small random model; bind it with fixture_bind. */
SPARK_UNUSED static void fixture_make(fixture *f, const fixture_spec *s)
{
    static fixture_build b; /* large */
    spark_arena *a = NULL;
    *f = (fixture){0};
    b = (fixture_build){.f = f, .s = s, .random = 1};
    assert_ok(spark_arena_create(&a, 16u << 20, NULL));
    assert_ok(spark_gguf_writer_create(&b.w, 32, SPARK_COUNT(b.tensors), a, NULL));
    fixture_keys(&b);
    fixture_tensor(&b, -1, "token_embd.weight", FIXTURE_EMBD, FIXTURE_VOCAB, 0);
    for (int l = 0; l < FIXTURE_LAYERS; l++) fixture_layer(&b, l);
    fixture_tensor(&b, -1, "output_norm.weight", FIXTURE_EMBD, 0, 0);
    if (s->extra) fixture_tensor(&b, -1, s->extra, FIXTURE_EMBD, 0, 0);
    assert_ok(spark_gguf_write_head(b.w, fixture_sink, f, NULL));
    for (uint32_t i = 0; i < b.n_tensors; i++) fixture_data(&b, i);
    assert_ok(spark_gguf_write_end(b.w, NULL));
    spark_arena_destroy(&a);
}

/* ---- A stream of passes ------------------------------------------------------------------------------------------------- */

typedef struct fixture_run {
    spark_pool *pool;
    spark_kv *kv;
    spark_exec *exec;
    spark_shape shape;
} fixture_run;

SPARK_UNUSED static void fixture_start(fixture_run *r, const fixture *f, const spark_shape *s, spark_isa isa)
{
    spark_err err = {0};
    *r = (fixture_run){.shape = *s};
    if (!spark_ok(spark_pool_create(&r->pool, s->n_threads, &err)) ||
        !spark_ok(spark_kv_create(&r->kv, f->net, s, &err)) ||
        !spark_ok(spark_exec_create(&r->exec, f->net, s, r->pool, isa, &err)))
        fail_msg("%s", err.text);
}

SPARK_UNUSED static void fixture_stop(fixture_run *r)
{
    spark_exec_destroy(&r->exec);
    spark_kv_destroy(&r->kv);
    spark_pool_destroy(&r->pool);
}

/* Appends tokens to a sequence in passes of at most `chunk` rows; out (may be NULL) gets the logits after each. */
SPARK_UNUSED static void fixture_feed(fixture_run *r, uint32_t seq, const uint32_t *ids, uint32_t n, uint32_t chunk,
                                      float *out)
{
    spark_row *rows = malloc(chunk * sizeof *rows);
    assert_non_null(rows);
    for (uint32_t at = 0; at < n; at += chunk) {
        const uint32_t m = n - at < chunk ? n - at : chunk;
        const float *logits = NULL;
        spark_err err = {0};
        for (uint32_t i = 0; i < m; i++) rows[i] = (spark_row){ids[at + i], seq, out != NULL};
        if (!spark_ok(spark_forward(r->exec, r->kv, rows, m, &logits, &err))) fail_msg("%s", err.text);
        const size_t vocab = r->exec->net->info.n_vocab;
        if (out) memcpy(out + at * vocab, logits, m * vocab * sizeof(float));
    }
    free(rows);
}

#endif
