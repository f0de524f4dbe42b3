/* gguf_write.c - the writer: two tables, a running size of the head, and a position in the data.
 * The rules for names, alignment and shapes are the reader's own functions, so both sides cannot drift apart. */
#include "format/gguf_write.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/checked.h"
#include "base/spark_limits.h"
#include "format/gguf_internal.h"

enum { GWRITE_VERSION = 3, GWRITE_HEADER_BYTES = 24 };

struct spark_gguf_writer {
    spark_arena *arena;
    spark_gguf_key *keys;
    spark_gguf_tensor *tensors; /* offsets count from the start of the data */
    spark_strmap *key_map, *tensor_map;
    uint32_t n_keys, max_keys, n_tensors, max_tensors, alignment;
    uint64_t head_bytes, data_bytes; /* head without padding; data with it */
    spark_gguf_sink *sink;           /* NULL until the head is written */
    void *sink_ctx;
    uint32_t tensor;  /* the one that data goes to now */
    uint64_t written; /* bytes of it */
};

spark_status spark_gguf_writer_create(spark_gguf_writer **out, uint32_t max_keys, uint32_t max_tensors, spark_arena *a,
                                      spark_err *err)
{
    spark_gguf_writer *w = NULL;
    SPARK_CHECK(max_keys <= SPARK_MAX_GGUF_KEYS && max_tensors <= SPARK_MAX_GGUF_TENSORS, err, SPARK_E_LIMIT,
                SPARK_ERR_NOWHERE, "%" PRIu32 " keys and %" PRIu32 " tensors are over the limits %u and %u", max_keys,
                max_tensors, SPARK_MAX_GGUF_KEYS, SPARK_MAX_GGUF_TENSORS);
    SPARK_TRY(SPARK_NEW(a, 1, &w, err));
    SPARK_TRY(SPARK_NEW(a, max_keys, &w->keys, err));
    SPARK_TRY(SPARK_NEW(a, max_tensors, &w->tensors, err));
    SPARK_TRY(spark_strmap_create(&w->key_map, max_keys, a, err));
    SPARK_TRY(spark_strmap_create(&w->tensor_map, max_tensors, a, err));
    w->arena = a;
    w->max_keys = max_keys;
    w->max_tensors = max_tensors;
    w->alignment = GGUF_DEFAULT_ALIGNMENT;
    w->head_bytes = GWRITE_HEADER_BYTES;
    *out = w;
    return SPARK_SUCCESS;
}

/* ---- what is announced ---- */

static spark_status gwrite_grow_head(spark_gguf_writer *w, uint64_t bytes, spark_err *err)
{
    SPARK_CHECK(bytes <= SPARK_MAX_GGUF_HEAD - w->head_bytes, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "the head exceeds the limit of %u bytes", SPARK_MAX_GGUF_HEAD);
    w->head_bytes += bytes;
    return SPARK_SUCCESS;
}

/* Bytes of a value behind its kind. */
static uint64_t gwrite_value_bytes(const spark_gguf_value *v)
{
    if (v->kind == SPARK_GGUF_STRING) return 8 + (uint64_t)v->as.s.len;
    if (v->kind == SPARK_GGUF_ARRAY) return 12 + (uint64_t)v->as.s.len;
    return spark__gguf_kind_bytes(v->kind);
}

static spark_status gwrite_check_value(const spark_gguf_key *k, spark_err *err)
{
    const spark_gguf_value *v = &k->value;
    assert((uint32_t)v->kind < GGUF_N_KINDS);
    if (v->kind == SPARK_GGUF_STRING)
        SPARK_CHECK(v->as.s.len <= SPARK_MAX_GGUF_STRING, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                    "key '%.*s': a string of %zu bytes is over the limit of %u", GGUF_SHOW(k->name), v->as.s.len,
                    SPARK_MAX_GGUF_STRING);
    if (v->kind != SPARK_GGUF_ARRAY) return SPARK_SUCCESS;
    SPARK_CHECK(v->n <= SPARK_MAX_GGUF_ARRAY, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "key '%.*s': %" PRIu64 " elements are over the limit of %u", GGUF_SHOW(k->name), v->n,
                SPARK_MAX_GGUF_ARRAY);
    assert((uint32_t)v->elem < GGUF_N_KINDS && v->elem != SPARK_GGUF_ARRAY);
    assert(v->elem == SPARK_GGUF_STRING || v->as.s.len == v->n * spark__gguf_kind_bytes(v->elem));
    return SPARK_SUCCESS;
}

/* The rules for any key: `k->name` and a string value are the caller's and get copied here. */
spark_status spark_gguf_put_key(spark_gguf_writer *w, const spark_gguf_key *k, spark_err *err)
{
    SPARK_CHECK(!w->sink, err, SPARK_E_STATE, SPARK_ERR_NOWHERE, "the head is already written");
    SPARK_CHECK(w->n_keys < w->max_keys, err, SPARK_E_LIMIT, w->n_keys,
                "more than the %" PRIu32 " keys that were planned", w->max_keys);
    SPARK_TRY(spark__gguf_check_name(k->name, "key", SPARK_ERR_NOWHERE, err));
    SPARK_TRY(gwrite_check_value(k, err));
    SPARK_CHECK(spark_strmap_get(w->key_map, k->name) == SPARK_STRMAP_NONE, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "key '%.*s' is there already", GGUF_SHOW(k->name));
    uint32_t alignment = w->alignment;
    if (spark_bytes_is(k->name, GGUF_KEY_ALIGNMENT)) {
        SPARK_CHECK(w->n_tensors == 0, err, SPARK_E_STATE, SPARK_ERR_NOWHERE,
                    GGUF_KEY_ALIGNMENT " must come before the first tensor");
        SPARK_TRY(spark__gguf_check_alignment(&k->value, SPARK_ERR_NOWHERE, &alignment, err));
    }
    spark_gguf_key mine = *k;
    SPARK_TRY(spark_arena_copy(w->arena, k->name, &mine.name, err));
    if (k->value.kind == SPARK_GGUF_STRING) SPARK_TRY(spark_arena_copy(w->arena, k->value.as.s, &mine.value.as.s, err));
    SPARK_TRY(gwrite_grow_head(w, 8 + mine.name.len + 4 + gwrite_value_bytes(&mine.value), err));
    w->alignment = alignment;
    (void)spark_strmap_put(w->key_map, mine.name, w->n_keys);
    w->keys[w->n_keys++] = mine;
    return SPARK_SUCCESS;
}

spark_status spark_gguf_put_u32(spark_gguf_writer *w, const char *name, uint32_t value, spark_err *err)
{
    const spark_gguf_key k = {spark_bytes_of(name), {.kind = SPARK_GGUF_U32, .as.u = value}};
    return spark_gguf_put_key(w, &k, err);
}

spark_status spark_gguf_put_f32(spark_gguf_writer *w, const char *name, float value, spark_err *err)
{
    const spark_gguf_key k = {spark_bytes_of(name), {.kind = SPARK_GGUF_F32, .as.f = (double)value}};
    return spark_gguf_put_key(w, &k, err);
}

spark_status spark_gguf_put_bool(spark_gguf_writer *w, const char *name, bool value, spark_err *err)
{
    const spark_gguf_key k = {spark_bytes_of(name), {.kind = SPARK_GGUF_BOOL, .as.u = value}};
    return spark_gguf_put_key(w, &k, err);
}

spark_status spark_gguf_put_string(spark_gguf_writer *w, const char *name, spark_bytes value, spark_err *err)
{
    const spark_gguf_key k = {spark_bytes_of(name), {.kind = SPARK_GGUF_STRING, .as.s = value}};
    return spark_gguf_put_key(w, &k, err);
}

spark_status spark_gguf_put_array(spark_gguf_writer *w, const char *name, spark_gguf_kind elem, uint64_t n,
                                  const void *elems, spark_err *err)
{
    assert((uint32_t)elem < GGUF_N_KINDS && elem != SPARK_GGUF_STRING && elem != SPARK_GGUF_ARRAY);
    SPARK_CHECK(n <= SPARK_MAX_GGUF_ARRAY, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "key '%s': %" PRIu64 " elements are over the limit of %u", name, n, SPARK_MAX_GGUF_ARRAY);
    const spark_bytes raw = {elems, (size_t)(n * spark__gguf_kind_bytes(elem))};
    const spark_gguf_key k = {spark_bytes_of(name), {.kind = SPARK_GGUF_ARRAY, .elem = elem, .n = n, .as.s = raw}};
    return spark_gguf_put_key(w, &k, err);
}

static void gwrite_store(uint8_t *p, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)(v >> (8 * i));
}

spark_status spark_gguf_put_strings(spark_gguf_writer *w, const char *name, const spark_bytes *strings, uint64_t n,
                                    spark_err *err)
{
    size_t bytes = 0;
    void *raw = NULL;
    SPARK_CHECK(n <= SPARK_MAX_GGUF_ARRAY, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "key '%s': %" PRIu64 " strings are over the limit of %u", name, n, SPARK_MAX_GGUF_ARRAY);
    for (uint64_t i = 0; i < n; i++) {
        SPARK_CHECK(strings[i].len <= SPARK_MAX_GGUF_STRING && bytes <= SPARK_MAX_GGUF_HEAD, err, SPARK_E_LIMIT,
                    SPARK_ERR_NOWHERE, "key '%s': its strings are too long", name);
        bytes += 8 + strings[i].len;
    }
    SPARK_TRY(spark_arena_alloc(w->arena, bytes, 1, 1, &raw, err));
    uint8_t *p = raw;
    for (uint64_t i = 0; i < n; p += strings[i].len, i++) {
        gwrite_store(p, strings[i].len, 8);
        p += 8;
        if (strings[i].len) memcpy(p, strings[i].ptr, strings[i].len);
    }
    const spark_gguf_key k = {spark_bytes_of(name),
                              {.kind = SPARK_GGUF_ARRAY, .elem = SPARK_GGUF_STRING, .n = n, .as.s = {raw, bytes}}};
    return spark_gguf_put_key(w, &k, err);
}

spark_status spark_gguf_put_tensor(spark_gguf_writer *w, spark_bytes name, spark_type type, uint32_t n_dims,
                                   const uint64_t *dims, spark_err *err)
{
    spark_gguf_tensor t = {.name = name, .type = type, .n_dims = n_dims, .dims = {1, 1, 1, 1}, .offset = w->data_bytes};
    SPARK_CHECK(!w->sink, err, SPARK_E_STATE, SPARK_ERR_NOWHERE, "the head is already written");
    SPARK_CHECK(w->n_tensors < w->max_tensors, err, SPARK_E_LIMIT, w->n_tensors,
                "more than the %" PRIu32 " tensors that were planned", w->max_tensors);
    SPARK_CHECK(n_dims >= 1 && n_dims <= SPARK_MAX_DIMS, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "tensor '%.*s': %" PRIu32 " dimensions, expected 1 to %u", GGUF_SHOW(name), n_dims, SPARK_MAX_DIMS);
    memcpy(t.dims, dims, n_dims * sizeof dims[0]);
    SPARK_TRY(spark__gguf_check_name(name, "tensor name", SPARK_ERR_NOWHERE, err));
    SPARK_TRY(spark__gguf_measure(&t, SPARK_ERR_NOWHERE, err));
    SPARK_CHECK(spark_strmap_get(w->tensor_map, name) == SPARK_STRMAP_NONE, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "tensor '%.*s' is there already", GGUF_SHOW(name));
    uint64_t padded = 0, end = 0;
    SPARK_CHECK(spark_align_up(t.n_bytes, w->alignment, &padded) && spark_add_u64(t.offset, padded, &end) &&
                    end <= INT64_MAX,
                err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE, "the file would be too large");
    SPARK_TRY(spark_arena_copy(w->arena, name, &t.name, err));
    SPARK_TRY(gwrite_grow_head(w, 8 + name.len + 4 + 8 * n_dims + 4 + 8, err));
    w->data_bytes = end;
    (void)spark_strmap_put(w->tensor_map, t.name, w->n_tensors);
    w->tensors[w->n_tensors++] = t;
    return SPARK_SUCCESS;
}

/* The head is padded even when no tensor follows, as other writers do. */
static uint64_t gwrite_data_start(const spark_gguf_writer *w)
{
    return (w->head_bytes + w->alignment - 1) / w->alignment * w->alignment;
}

uint64_t spark_gguf_writer_size(const spark_gguf_writer *w) { return gwrite_data_start(w) + w->data_bytes; }

spark_gguf_tensor spark_gguf_writer_tensor(const spark_gguf_writer *w, uint32_t i)
{
    assert(i < w->n_tensors);
    spark_gguf_tensor t = w->tensors[i];
    t.offset += gwrite_data_start(w);
    return t;
}

/* ---- writing ---- */

static spark_status gwrite_number(const spark_gguf_writer *w, uint64_t v, size_t n, spark_err *err)
{
    uint8_t b[8];
    gwrite_store(b, v, n);
    return w->sink(w->sink_ctx, b, n, err);
}

static spark_status gwrite_bytes(const spark_gguf_writer *w, spark_bytes b, spark_err *err)
{
    return b.len ? w->sink(w->sink_ctx, b.ptr, b.len, err) : SPARK_SUCCESS;
}

static spark_status gwrite_string(const spark_gguf_writer *w, spark_bytes s, spark_err *err)
{
    SPARK_TRY(gwrite_number(w, s.len, 8, err));
    return gwrite_bytes(w, s, err);
}

static spark_status gwrite_padding(const spark_gguf_writer *w, uint64_t n, spark_err *err)
{
    static const uint8_t zeros[4096];
    while (n > 0) {
        const size_t step = n < sizeof zeros ? (size_t)n : sizeof zeros;
        SPARK_TRY(w->sink(w->sink_ctx, zeros, step, err));
        n -= step;
    }
    return SPARK_SUCCESS;
}

static spark_status gwrite_scalar(const spark_gguf_writer *w, const spark_gguf_value *v, spark_err *err)
{
    uint64_t u = v->as.u; /* of the signed kinds the low bytes, too */
    if (v->kind == SPARK_GGUF_F64) memcpy(&u, &v->as.f, sizeof u);
    if (v->kind == SPARK_GGUF_F32) {
        const float f = (float)v->as.f;
        uint32_t bits = 0;
        memcpy(&bits, &f, sizeof bits);
        u = bits;
    }
    return gwrite_number(w, u, spark__gguf_kind_bytes(v->kind), err);
}

static spark_status gwrite_key(const spark_gguf_writer *w, const spark_gguf_key *k, spark_err *err)
{
    const spark_gguf_value *v = &k->value;
    SPARK_TRY(gwrite_string(w, k->name, err));
    SPARK_TRY(gwrite_number(w, (uint64_t)v->kind, 4, err));
    if (v->kind == SPARK_GGUF_STRING) return gwrite_string(w, v->as.s, err);
    if (v->kind != SPARK_GGUF_ARRAY) return gwrite_scalar(w, v, err);
    SPARK_TRY(gwrite_number(w, (uint64_t)v->elem, 4, err));
    SPARK_TRY(gwrite_number(w, v->n, 8, err));
    return gwrite_bytes(w, v->as.s, err);
}

static spark_status gwrite_tensor(const spark_gguf_writer *w, const spark_gguf_tensor *t, spark_err *err)
{
    SPARK_TRY(gwrite_string(w, t->name, err));
    SPARK_TRY(gwrite_number(w, t->n_dims, 4, err));
    for (uint32_t d = 0; d < t->n_dims; d++) SPARK_TRY(gwrite_number(w, t->dims[d], 8, err));
    SPARK_TRY(gwrite_number(w, (uint64_t)t->type, 4, err));
    return gwrite_number(w, t->offset, 8, err);
}

spark_status spark_gguf_write_head(spark_gguf_writer *w, spark_gguf_sink *sink, void *ctx, spark_err *err)
{
    SPARK_CHECK(!w->sink, err, SPARK_E_STATE, SPARK_ERR_NOWHERE, "the head is already written");
    w->sink = sink;
    w->sink_ctx = ctx;
    SPARK_TRY(gwrite_bytes(w, SPARK_BYTES_LITERAL(GGUF_MAGIC), err));
    SPARK_TRY(gwrite_number(w, GWRITE_VERSION, 4, err));
    SPARK_TRY(gwrite_number(w, w->n_tensors, 8, err));
    SPARK_TRY(gwrite_number(w, w->n_keys, 8, err));
    for (uint32_t i = 0; i < w->n_keys; i++) SPARK_TRY(gwrite_key(w, &w->keys[i], err));
    for (uint32_t i = 0; i < w->n_tensors; i++) SPARK_TRY(gwrite_tensor(w, &w->tensors[i], err));
    return gwrite_padding(w, gwrite_data_start(w) - w->head_bytes, err);
}

spark_status spark_gguf_write_data(spark_gguf_writer *w, const void *bytes, uint64_t n, spark_err *err)
{
    const uint8_t *p = bytes;
    SPARK_CHECK(w->sink, err, SPARK_E_STATE, SPARK_ERR_NOWHERE, "the head comes before the data");
    while (n > 0) {
        SPARK_CHECK(w->tensor < w->n_tensors, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                    "%" PRIu64 " bytes more than the tensors have", n);
        const uint64_t size = w->tensors[w->tensor].n_bytes;
        const uint64_t step = n < size - w->written ? n : size - w->written;
        SPARK_TRY(w->sink(w->sink_ctx, p, (size_t)step, err));
        p += step;
        n -= step;
        w->written += step;
        if (w->written < size) continue;
        SPARK_TRY(gwrite_padding(w, (w->alignment - size % w->alignment) % w->alignment, err));
        w->tensor++;
        w->written = 0;
    }
    return SPARK_SUCCESS;
}

spark_status spark_gguf_write_end(const spark_gguf_writer *w, spark_err *err)
{
    SPARK_CHECK(w->sink, err, SPARK_E_STATE, SPARK_ERR_NOWHERE, "the head was not written");
    SPARK_CHECK(w->tensor == w->n_tensors, err, SPARK_E_STATE, SPARK_ERR_NOWHERE,
                "tensor '%.*s' lacks its last %" PRIu64 " bytes", GGUF_SHOW(w->tensors[w->tensor].name),
                w->tensors[w->tensor].n_bytes - w->written);
    return SPARK_SUCCESS;
}
