/* model.c - the public spark_model: opened and checked first, planned next, loaded last. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_internal.h"
#include "base/checked.h"
#include "base/spark_limits.h"

#define MODEL_ARENA_MAX   ((size_t)1 << 30) /* vocabulary, tables, template: real models take 5-40 MB */
#define MODEL_DEFAULT_CTX 4096u
/* Tokens of one step of a prompt. Products take weights apart for 48 (AMX: 192) at a time anyway; fewer rows keep what lies
 * between products in the second-level cache (measured 512 -> 192: 3-5 %). Experts share a step's tokens, so theirs is longer. */
#define MODEL_DEFAULT_BATCH 192u
#define MODEL_EXPERTS_BATCH 512u

void spark_model_options_defaults(spark_model_options *o) { *o = (spark_model_options){0}; }

void spark_session_options_defaults(spark_session_options *o) { *o = (spark_session_options){0}; }

/* ---- Opening ---- */

static spark_status model_pick_isa(spark_model *m, spark_err *err)
{
    /* Only the best is asked for unbidden: AMX changes what the process may do with signals. */
    if (!m->options.cpu) {
        m->isa = spark_isa_best();
        return SPARK_SUCCESS;
    }
    for (int isa = 0; isa < SPARK_N_ISAS; isa++) {
        if (strcmp(m->options.cpu, spark_isa_name((spark_isa)isa)) != 0) continue;
        SPARK_CHECK(spark_isa_has((spark_isa)isa), err, SPARK_E_UNSUPPORTED, SPARK_ERR_NOWHERE,
                    "this CPU has no %s, or the system does not grant it", m->options.cpu);
        m->isa = (spark_isa)isa;
        return SPARK_SUCCESS;
    }
    return spark_fail(err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE, "unknown CPU level '%s'", m->options.cpu);
}

/* Tokens that end a repetition for the dry sampler: those whose text has one of llama.cpp's breakers \n : " *. */
static spark_status model_mark_breaks(spark_model *m, uint32_t n_rows, spark_err *err)
{
    const uint32_t n = spark_tokenizer_n_vocab(m->tokenizer);
    static const bool breaks[256] = {['\n'] = true, [':'] = true, ['"'] = true, ['*'] = true};
    SPARK_TRY(SPARK_NEW(m->arena, n_rows, &m->dry_breaks, err)); /* rows beyond the vocabulary can be drawn too */
    for (uint32_t id = 0; id < n; id++) {
        uint8_t buf[SPARK_TOKENIZER_PIECE];
        const spark_bytes piece = spark_tokenizer_piece(m->tokenizer, id, false, buf);
        for (size_t i = 0; i < piece.len && !m->dry_breaks[id]; i++) m->dry_breaks[id] = breaks[piece.ptr[i]];
    }
    return SPARK_SUCCESS;
}

/* The template is compiled now, but a broken one is an error only for those who use it. */
static spark_status model_compile_chat(spark_model *m, spark_err *err)
{
    spark_bytes source = {0};
    bool found = false;
    SPARK_TRY(spark_gguf_get_string(m->gguf, "tokenizer.chat_template", &source, &found, err));
    m->has_template = found;
    m->chat_status = found ? spark_template_compile(&m->chat, source, m->arena, &m->chat_err)
                           : spark_fail(&m->chat_err, SPARK_E_UNSUPPORTED, SPARK_ERR_NOWHERE,
                                        "the model has no chat template");
    return SPARK_SUCCESS;
}

static spark_status model_copy_name(spark_model *m, spark_err *err)
{
    spark_bytes name = {(const uint8_t *)"", 0}, copy;
    SPARK_TRY(spark_gguf_get_string(m->gguf, "general.name", &name, NULL, err));
    SPARK_TRY(spark_arena_copy(m->arena, name, &copy, err));
    m->name = (const char *)copy.ptr;
    return SPARK_SUCCESS;
}

/* Everything that is known without weights. */
static spark_status model_build(spark_model *m, spark_err *err)
{
    SPARK_TRY(spark_tokenizer_load(&m->tokenizer, m->gguf, m->arena, err));
    SPARK_TRY(model_copy_name(m, err));
    SPARK_TRY(model_compile_chat(m, err));
    if (m->options.vocab_only) return SPARK_SUCCESS;
    SPARK_TRY(spark_net_bind(&m->net, m->gguf, m->arena, err));
    spark_net_info info;
    spark_net_info_get(m->net, &info);
    SPARK_CHECK(spark_tokenizer_n_vocab(m->tokenizer) <= info.n_vocab, err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE,
                "the vocabulary has %u tokens but the model has rows for %u", spark_tokenizer_n_vocab(m->tokenizer),
                info.n_vocab);
    return model_mark_breaks(m, info.n_vocab, err);
}

static spark_status model_create(spark_model **out, const spark_model_options *o, spark_err *err)
{
    spark_model *m = calloc(1, sizeof *m);
    SPARK_CHECK(m, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "out of memory");
    if (o) m->options = *o;
    if (m->options.n_threads == 0) m->options.n_threads = spark_cpu_count();
    if (m->options.n_threads > SPARK_POOL_MAX && !(o && o->n_threads)) m->options.n_threads = SPARK_POOL_MAX;
    pthread_mutex_init(&m->turn, NULL);
    *out = m; /* the caller closes it on failure */
    SPARK_CHECK(m->options.n_threads <= SPARK_POOL_MAX, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "%u threads: 1 to %u are allowed", m->options.n_threads, SPARK_POOL_MAX);
    SPARK_TRY(spark_arena_create(&m->arena, MODEL_ARENA_MAX, err));
    spark_arena_use_huge_pages(m->arena);
    SPARK_TRY(model_pick_isa(m, err));
    spark_kern_init(&m->kern, m->isa);
    return SPARK_SUCCESS;
}

spark_status spark_model_open(spark_model **out, const char *path, const spark_model_options *o, spark_err *err)
{
    spark_model *m = NULL;
    spark_status s = model_create(&m, o, err);
    if (spark_ok(s)) s = api_files_open(m, path, err);
    if (spark_ok(s)) s = model_build(m, err);
    if (!spark_ok(s))
        spark_model_close(&m);
    else
        *out = m;
    return s;
}

spark_status spark__model_open_fds(spark_model **out, const int *fds, uint32_t n, const spark_model_options *o,
                                   spark_err *err)
{
    spark_model *m = NULL;
    spark_status s = model_create(&m, o, err);
    if (spark_ok(s)) s = api_files_fds(m, fds, n, err);
    if (spark_ok(s)) s = model_build(m, err);
    if (!spark_ok(s))
        spark_model_close(&m);
    else
        *out = m;
    return s;
}

spark_status spark_model_open_memory(spark_model **out, const void *data, size_t len, const spark_model_options *o,
                                     spark_err *err)
{
    spark_model *m = NULL;
    spark_status s = model_create(&m, o, err);
    if (spark_ok(s)) s = api_files_memory(m, data, len, err);
    if (spark_ok(s)) s = model_build(m, err);
    if (!spark_ok(s))
        spark_model_close(&m);
    else
        *out = m;
    return s;
}

/* src/api/embedded.S: the demo model, or nothing between the two marks. */
extern const uint8_t spark__embedded_begin[], spark__embedded_end[];

static spark_status model_embedded(spark_model *m, spark_err *err)
{
    const size_t len = (size_t)((uintptr_t)spark__embedded_end - (uintptr_t)spark__embedded_begin);
    SPARK_CHECK(len > 0, err, SPARK_E_UNSUPPORTED, SPARK_ERR_NOWHERE, "this build has no embedded model");
    return api_files_memory(m, spark__embedded_begin, len, err);
}

spark_status spark__model_examine(spark_model **out, const char *path, const spark_model_options *o, spark_err *err)
{
    spark_status s = model_create(out, o, err);
    if (spark_ok(s)) s = path ? api_files_open(*out, path, err) : model_embedded(*out, err);
    if (spark_ok(s)) return model_build(*out, err);
    if (!*out || (*out)->n_files == 0) return s;
    const api_file *f = &(*out)->files[0]; /* the directory may be broken where the keys are not */
    const spark_gguf_file head = {{f->memory ? f->memory : f->head.ptr, f->head_len}, f->size};
    spark_err why;
    if (!(*out)->gguf && f->head_len && !spark_ok(spark_gguf_open_keys(&(*out)->gguf, head, (*out)->arena, &why)))
        (*out)->gguf = NULL;
    return s;
}

const spark_gguf *spark__model_gguf(const spark_model *m) { return m->gguf; }

spark_status spark_model_open_embedded(spark_model **out, const spark_model_options *o, spark_err *err)
{
    spark_model *m = NULL;
    spark_status s = model_create(&m, o, err);
    if (spark_ok(s)) s = model_embedded(m, err);
    if (spark_ok(s)) s = model_build(m, err);
    if (!spark_ok(s))
        spark_model_close(&m);
    else
        *out = m;
    return s;
}

void spark_model_close(spark_model **model)
{
    spark_model *m = *model;
    if (!m) return;
    if (m->net) spark_net_unload(m->net);
    spark_pool_destroy(&m->pool);
    api_files_close(m);
    spark_arena_destroy(&m->arena);
    pthread_mutex_destroy(&m->turn);
    free(m);
    *model = NULL;
}

/* ---- Describing and planning ---- */

static uint32_t model_default_ctx(const spark_net_info *info)
{
    return info->n_ctx_train < MODEL_DEFAULT_CTX ? info->n_ctx_train : MODEL_DEFAULT_CTX;
}

void spark_model_describe(const spark_model *m, spark_description *out)
{
    spark_net_info info = {.arch = ""};
    if (m->net) spark_net_info_get(m->net, &info);
    *out = (spark_description){
        .arch = info.arch,
        .name = m->name,
        .tokenizer = spark_tokenizer_model(m->tokenizer),
        .n_layers = info.n_layers,
        .n_embd = info.n_embd,
        .n_vocab = m->net ? info.n_vocab : spark_tokenizer_n_vocab(m->tokenizer),
        .n_ctx_train = info.n_ctx_train,
        .n_params = info.n_params,
        .file_bytes = info.file_bytes,
        .has_chat_template = m->has_template,
        .default_ctx = model_default_ctx(&info),
    };
}

spark_status api_session_shape(const spark_model *m, const spark_session_options *o, spark_shape *shape, spark_err *err)
{
    static const spark_kv_type kinds[] = {
        [SPARK_KV_TYPE_F16] = SPARK_KV_F16, [SPARK_KV_TYPE_F32] = SPARK_KV_F32, [SPARK_KV_TYPE_Q8_0] = SPARK_KV_Q8_0};
    const spark_session_options none = {0};
    if (!o) o = &none;
    SPARK_CHECK(m->net, err, SPARK_E_STATE, SPARK_ERR_NOWHERE, "the model was opened for its vocabulary only");
    SPARK_CHECK((unsigned)o->kv < SPARK_COUNT(kinds), err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE, "unknown KV type %d",
                (int)o->kv);
    spark_net_info info;
    spark_net_info_get(m->net, &info);
    const uint32_t n_ctx = o->n_ctx ? o->n_ctx : model_default_ctx(&info);
    SPARK_CHECK(n_ctx <= info.n_ctx_train, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "a context of %u tokens, but the model was made for at most %u", n_ctx, info.n_ctx_train);
    const uint32_t n_batch = o->n_batch ? o->n_batch : info.n_experts ? MODEL_EXPERTS_BATCH : MODEL_DEFAULT_BATCH;
    const uint32_t n_rows = n_batch < n_ctx ? n_batch : n_ctx, n_logits = o->n_logits ? o->n_logits : 1;
    *shape = (spark_shape){.n_ctx = n_ctx,
                           .n_seqs = 1,
                           .n_batch = n_rows,
                           .n_logits = n_logits < n_rows ? n_logits : n_rows,
                           .n_threads = m->options.n_threads,
                           .kv_type = kinds[o->kv]};
    return SPARK_SUCCESS;
}

spark_status spark_model_plan(const spark_model *m, const spark_session_options *o, spark_plan *out, spark_err *err)
{
    spark_shape shape;
    spark_memory need;
    SPARK_TRY(api_session_shape(m, o, &shape, err));
    SPARK_TRY(spark_net_plan(m->net, &shape, &need, err));
    spark_plan p = {.weights = need.weights, .kv = need.kv, .n_ctx = shape.n_ctx, .n_threads = shape.n_threads};
    spark_net_info info;
    spark_net_info_get(m->net, &info);
    const size_t session = spark_sampler_bytes(info.n_vocab, shape.n_ctx) + api_session_bytes(&shape);
    SPARK_CHECK(spark_add_u64(need.scratch, session, &p.scratch), err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "the plan exceeds what a computer can address");
    p.vocabulary = spark_arena_bytes(m->arena);
    for (uint32_t i = 0; i < m->n_files; i++) p.vocabulary += m->files[i].memory ? 0 : m->files[i].head_len;
    SPARK_CHECK(spark_add_u64(p.weights, p.kv, &p.total) && spark_add_u64(p.total, p.scratch, &p.total) &&
                    spark_add_u64(p.total, p.vocabulary, &p.total),
                err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE, "the plan exceeds what a computer can address");
    *out = p;
    return SPARK_SUCCESS;
}

spark_status spark_model_load(spark_model *m, bool (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx,
                              spark_err *err)
{
    SPARK_CHECK(m->net && !m->loaded, err, SPARK_E_STATE, SPARK_ERR_NOWHERE,
                "the model is loaded, or has only its vocabulary");
    if (!m->pool) SPARK_TRY(spark_pool_create(&m->pool, m->options.n_threads, err));
    const spark_source source = {api_files_read, m};
    SPARK_TRY(spark_net_load(m->net, &source, m->pool, progress, ctx, err));
    m->loaded = true;
    return SPARK_SUCCESS;
}
