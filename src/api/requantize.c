/* requantize.c - from one GGUF to another: keys copied, matrices quantized slice by slice on all threads; see requantize.h.
 *
 * A tensor is a run of blocks, so it is cut anywhere between blocks: a slice is read, widened to float32 and quantized by
 * whichever thread takes it, and slices are handed to the writer in order. */
#include "api/requantize.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_internal.h"
#include "base/checked.h"
#include "kern/quant.h"

enum {
    REQUANTIZE_SLICE = 1 << 17, /* weights: a multiple of every block */
    REQUANTIZE_TURNS = 4,       /* slices of a round for each thread, so that none waits long for the slowest */
    REQUANTIZE_VERSION = 2      /* general.quantization_version: ggml's number for these block layouts */
};

typedef struct requantize_slice {
    uint8_t *raw, *out; /* as in the file; as it will be written */
    float *values;
    size_t n, out_bytes;
    spark_err err;
    bool failed;
} requantize_slice;

typedef struct requantize_state {
    spark_model *m;
    const spark_requantize_options *o;
    spark_gguf_writer *w;
    spark_pool *pool;
    spark_type *types; /* [n_tensors] what each becomes */
    requantize_slice *slices;
    uint32_t n_slices; /* in use in this round */
    spark_ticket ticket;
    const spark_gguf_tensor *t;
    spark_type to;
    uint64_t at;          /* first weight of this round */
    uint64_t done, total; /* bytes of weights read */
} requantize_state;

/* ---- Which tensor becomes what --------------------------------------------------------------------------------- */

static bool requantize_has(spark_bytes name, const char *part)
{
    return memmem(name.ptr, name.len, part, strlen(part)) != NULL;
}

static bool requantize_ends(spark_bytes name, const char *end)
{
    const size_t n = strlen(end);
    return name.len >= n && memcmp(name.ptr + name.len - n, end, n) == 0;
}

/* Vectors, routers and whatever is not a weight matrix stay as they are: they are small, and errors in them spread. */
static bool requantize_keeps(const spark_gguf_tensor *t)
{
    return t->n_dims < 2 || t->dims[1] == 1 || !requantize_ends(t->name, ".weight") ||
           requantize_has(t->name, "ffn_gate_inp");
}

/* The matrix behind the logits: output.weight, or the embedding where both are one. */
static bool requantize_is_output(const spark_gguf *g, const spark_gguf_tensor *t)
{
    if (spark_bytes_is(t->name, "output.weight")) return true;
    return spark_bytes_is(t->name, "token_embd.weight") && !spark_gguf_tensor_find(g, "output.weight");
}

static spark_type requantize_choose(const requantize_state *s, const spark_gguf_tensor *t, const char **why)
{
    const spark_type_info *asked = spark_type_lookup(s->o->type);
    spark_type type = s->o->type;
    *why = NULL;
    if (type != SPARK_TYPE_Q8_0 && asked->act_block != 0 && requantize_is_output(spark__model_gguf(s->m), t)) {
        type = SPARK_TYPE_Q6_K;
        if (type != s->o->type) *why = "the matrix behind the logits";
    }
    if (t->dims[0] % spark_type_lookup(type)->block_elems == 0) return type;
    if (t->dims[0] % 32 == 0) {
        *why = "its rows are no multiple of 256";
        return type == SPARK_TYPE_Q6_K ? SPARK_TYPE_Q8_0 : SPARK_TYPE_Q5_0;
    }
    *why = "its rows are no multiple of 32";
    return SPARK_TYPE_F16;
}

static spark_status requantize_decide(requantize_state *s, spark_err *err)
{
    const spark_gguf *g = spark__model_gguf(s->m);
    for (uint32_t i = 0; i < spark_gguf_n_tensors(g); i++) {
        const spark_gguf_tensor *t = spark_gguf_tensor_at(g, i);
        const char *why = NULL;
        s->types[i] = requantize_keeps(t) ? t->type : requantize_choose(s, t, &why);
        s->total += t->n_bytes;
        if (s->types[i] == t->type && requantize_keeps(t)) continue;
        SPARK_CHECK(
            spark_type_lookup(t->type)->act_block == 0, err, SPARK_E_UNSUPPORTED, SPARK_ERR_NOWHERE,
            "the tensor '%.*s' is %s already, and quantizing twice adds up the errors: take the F16, BF16 or F32 file",
            (int)t->name.len, (const char *)t->name.ptr, spark_type_lookup(t->type)->name);
        if (why && s->o->note) s->o->note(s->o->ctx, t->name, s->types[i], why);
    }
    return SPARK_SUCCESS;
}

/* ---- The head -------------------------------------------------------------------------------------------------- */

/* general.file_type as llama.cpp numbers it: what most of the tensors are. */
static uint32_t requantize_file_type(spark_type type)
{
    static const struct {
        spark_type type;
        uint32_t id;
    } ids[] = {{SPARK_TYPE_F16, 1},   {SPARK_TYPE_Q4_0, 2},  {SPARK_TYPE_Q8_0, 7},
               {SPARK_TYPE_Q4_K, 14}, {SPARK_TYPE_Q6_K, 18}, {SPARK_TYPE_BF16, 32}};
    for (size_t i = 0; i < SPARK_COUNT(ids); i++)
        if (ids[i].type == type) return ids[i].id;
    return 0;
}

static spark_status requantize_head(requantize_state *s, spark_arena *a, spark_gguf_sink *sink, void *sink_ctx,
                                    spark_err *err)
{
    const spark_gguf *g = spark__model_gguf(s->m);
    const uint32_t n_keys = spark_gguf_n_keys(g), n_tensors = spark_gguf_n_tensors(g);
    SPARK_TRY(spark_gguf_writer_create(&s->w, n_keys + 2, n_tensors, a, err));
    for (uint32_t i = 0; i < n_keys; i++) {
        const spark_gguf_key *k = spark_gguf_key_at(g, i);
        if (spark_bytes_is(k->name, "general.file_type") || spark_bytes_is(k->name, "general.quantization_version"))
            continue;
        if (k->name.len > 6 && memcmp(k->name.ptr, "split.", 6) == 0) continue; /* the result is one file */
        SPARK_TRY(spark_gguf_put_key(s->w, k, err));
    }
    SPARK_TRY(spark_gguf_put_u32(s->w, "general.file_type", requantize_file_type(s->o->type), err));
    SPARK_TRY(spark_gguf_put_u32(s->w, "general.quantization_version", REQUANTIZE_VERSION, err));
    for (uint32_t i = 0; i < n_tensors; i++) {
        const spark_gguf_tensor *t = spark_gguf_tensor_at(g, i);
        SPARK_TRY(spark_gguf_put_tensor(s->w, t->name, s->types[i], t->n_dims, t->dims, err));
    }
    return spark_gguf_write_head(s->w, sink, sink_ctx, err);
}

/* ---- The data -------------------------------------------------------------------------------------------------- */

static spark_status requantize_one(const requantize_state *s, requantize_slice *c, uint64_t first, spark_err *err)
{
    const spark_type_info *from = spark_type_lookup(s->t->type);
    const size_t raw_bytes = (size_t)spark_type_row_bytes(from, c->n);
    uint8_t *dst = s->to == s->t->type ? c->out : c->raw;
    SPARK_TRY(api_files_read(s->m, s->t->file, s->t->offset + spark_type_row_bytes(from, first), dst, raw_bytes, err));
    c->out_bytes = (size_t)spark_type_row_bytes(spark_type_lookup(s->to), c->n);
    if (s->to == s->t->type) return SPARK_SUCCESS;
    spark_dequantize(s->t->type, c->raw, c->values, c->n);
    spark_err why = {0};
    const spark_status st = spark_quantize(s->to, c->values, c->out, c->n, &why);
    if (spark_ok(st)) return st;
    return spark_fail(err, st.code, first + (why.at == SPARK_ERR_NOWHERE ? 0 : why.at),
                      "the tensor '%.*s' cannot become %s: %s", (int)s->t->name.len, (const char *)s->t->name.ptr,
                      spark_type_lookup(s->to)->name, why.text);
}

static void requantize_task(void *arg, unsigned thread, unsigned n_threads)
{
    requantize_state *s = arg;
    (void)thread;
    (void)n_threads;
    for (uint32_t i; (i = spark_ticket_take(&s->ticket, 1)) < s->n_slices;) {
        requantize_slice *c = &s->slices[i];
        c->failed = !spark_ok(requantize_one(s, c, s->at + (uint64_t)i * REQUANTIZE_SLICE, &c->err));
    }
}

/* One round: as many slices as there is room for, then their bytes in order. */
static spark_status requantize_round(requantize_state *s, uint64_t n, uint32_t max_slices, spark_err *err)
{
    const uint64_t left = n - s->at;
    const uint64_t slices = spark_div_up(left, REQUANTIZE_SLICE);
    s->n_slices = slices < max_slices ? (uint32_t)slices : max_slices;
    for (uint32_t i = 0; i < s->n_slices; i++) {
        const uint64_t rest = left - (uint64_t)i * REQUANTIZE_SLICE;
        s->slices[i].n = rest < REQUANTIZE_SLICE ? (size_t)rest : REQUANTIZE_SLICE;
    }
    spark_ticket_reset(&s->ticket);
    spark_pool_run(s->pool, requantize_task, s);
    for (uint32_t i = 0; i < s->n_slices; i++) {
        const requantize_slice *c = &s->slices[i];
        if (c->failed) {
            if (err) *err = c->err;
            return (spark_status){c->err.code};
        }
        SPARK_TRY(spark_gguf_write_data(s->w, c->out, c->out_bytes, err));
        s->at += c->n;
        s->done += spark_type_row_bytes(spark_type_lookup(s->t->type), c->n);
    }
    SPARK_CHECK(!s->o->progress || s->o->progress(s->o->ctx, s->done, s->total), err, SPARK_E_CANCELLED,
                SPARK_ERR_NOWHERE, "cancelled");
    return SPARK_SUCCESS;
}

static spark_status requantize_data(requantize_state *s, uint32_t max_slices, spark_err *err)
{
    const spark_gguf *g = spark__model_gguf(s->m);
    SPARK_CHECK(!s->o->progress || s->o->progress(s->o->ctx, 0, s->total), err, SPARK_E_CANCELLED, SPARK_ERR_NOWHERE,
                "cancelled");
    for (uint32_t i = 0; i < spark_gguf_n_tensors(g); i++) {
        s->t = spark_gguf_tensor_at(g, i);
        s->to = s->types[i];
        s->at = 0;
        const spark_type_info *from = spark_type_lookup(s->t->type);
        const uint64_t n = s->t->n_bytes / from->block_bytes * from->block_elems;
        while (s->at < n) SPARK_TRY(requantize_round(s, n, max_slices, err));
    }
    return spark_gguf_write_end(s->w, err);
}

/* ---- All of it ------------------------------------------------------------------------------------------------- */

static spark_status requantize_room(requantize_state *s, spark_arena *a, uint32_t n_slices, spark_err *err)
{
    SPARK_TRY(SPARK_NEW(a, spark_gguf_n_tensors(spark__model_gguf(s->m)), &s->types, err));
    SPARK_TRY(SPARK_NEW(a, n_slices, &s->slices, err));
    for (uint32_t i = 0; i < n_slices; i++) { /* no block is larger than four bytes a weight */
        SPARK_TRY(SPARK_NEW(a, REQUANTIZE_SLICE * sizeof(float), &s->slices[i].raw, err));
        SPARK_TRY(SPARK_NEW(a, REQUANTIZE_SLICE * sizeof(float), &s->slices[i].out, err));
        SPARK_TRY(SPARK_NEW(a, REQUANTIZE_SLICE, &s->slices[i].values, err));
    }
    return SPARK_SUCCESS;
}

spark_status spark__model_requantize(spark_model *m, const spark_requantize_options *o, spark_gguf_sink *sink,
                                     void *sink_ctx, spark_err *err)
{
    requantize_state s = {.m = m, .o = o};
    spark_arena *a = NULL;
    SPARK_CHECK(requantize_file_type(o->type) != 0, err, SPARK_E_UNSUPPORTED, SPARK_ERR_NOWHERE,
                "weights cannot be written as type %d", (int)o->type);
    SPARK_CHECK(o->n_threads >= 1 && o->n_threads <= SPARK_POOL_MAX, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "%u threads: 1 to %u are allowed", o->n_threads, SPARK_POOL_MAX);
    const uint32_t n_slices = o->n_threads * REQUANTIZE_TURNS;
    const size_t room = (size_t)n_slices * REQUANTIZE_SLICE * 3 * sizeof(float);
    SPARK_TRY(
        spark_arena_create(&a, room + ((size_t)1 << 30), err)); /* the head with its vocabulary stays far below 1 GiB */
    spark_status st = requantize_room(&s, a, n_slices, err);
    if (spark_ok(st)) st = spark_pool_create(&s.pool, o->n_threads, err);
    if (spark_ok(st)) st = requantize_decide(&s, err);
    if (spark_ok(st)) st = requantize_head(&s, a, sink, sink_ctx, err);
    if (spark_ok(st)) st = requantize_data(&s, n_slices, err);
    spark_pool_destroy(&s.pool);
    spark_arena_destroy(&a);
    return st;
}
