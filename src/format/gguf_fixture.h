/* gguf_fixture.h - a small GGUF file made in memory, and a hand to write broken ones. For tests only. */
#ifndef SPARK_FORMAT_GGUF_FIXTURE_H
#define SPARK_FORMAT_GGUF_FIXTURE_H

#include <string.h>

#include "base/test.h"
#include "format/gguf.h"
#include "format/gguf_write.h"

/* ---- bytes that grow ---- */

typedef struct fixture_bytes {
    uint8_t *ptr;
    size_t len;
} fixture_bytes;

SPARK_UNUSED static void fixture_put(fixture_bytes *b, const void *p, size_t n)
{
    uint8_t *grown = realloc(b->ptr, b->len + n + 1);
    if (!grown) fail_msg("no memory");
    if (n) memcpy(grown + b->len, p, n);
    b->ptr = grown;
    b->len += n;
}

SPARK_UNUSED static void fixture_int(fixture_bytes *b, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++, v >>= 8) fixture_put(b, &(uint8_t){(uint8_t)v}, 1);
}

SPARK_UNUSED static void fixture_text(fixture_bytes *b, const char *s)
{
    fixture_int(b, strlen(s), 8);
    fixture_put(b, s, strlen(s));
}

SPARK_UNUSED static void fixture_header(fixture_bytes *b, uint32_t version, uint64_t n_tensors, uint64_t n_keys)
{
    fixture_put(b, "GGUF", 4);
    fixture_int(b, version, 4);
    fixture_int(b, n_tensors, 8);
    fixture_int(b, n_keys, 8);
}

SPARK_UNUSED static void fixture_key_u32(fixture_bytes *b, const char *name, uint32_t v)
{
    fixture_text(b, name);
    fixture_int(b, SPARK_GGUF_U32, 4);
    fixture_int(b, v, 4);
}

SPARK_UNUSED static void fixture_tensor(fixture_bytes *b, const char *name, uint32_t type, uint64_t d0, uint64_t d1,
                                        uint64_t offset)
{
    fixture_text(b, name);
    fixture_int(b, 2, 4);
    fixture_int(b, d0, 8);
    fixture_int(b, d1, 8);
    fixture_int(b, type, 4);
    fixture_int(b, offset, 8);
}

SPARK_UNUSED static void fixture_free(fixture_bytes *b)
{
    free(b->ptr);
    *b = (fixture_bytes){0};
}

/* ---- opening ---- */

SPARK_UNUSED static spark_arena *fixture_arena(void)
{
    spark_arena *a = NULL;
    assert_ok(spark_arena_create(&a, (size_t)64 << 20, NULL));
    return a;
}

/* Opens bytes as the head of a file of `size` bytes and forgets the result. `err` may be NULL. */
SPARK_UNUSED static spark_code fixture_open(const uint8_t *p, size_t len, uint64_t size, spark_err *err)
{
    spark_arena *a = fixture_arena();
    spark_gguf *g = NULL;
    const spark_gguf_file file = {{p, len}, size};
    const spark_code code = spark_gguf_open(&g, &file, 1, a, err).code;
    assert_true((g != NULL) == (code == SPARK_OK));
    spark_arena_destroy(&a);
    return code;
}

/* Opens b, which must be refused with this code and a text that contains `part`; b is freed. */
SPARK_UNUSED static void fixture_refused(fixture_bytes *b, spark_code code, const char *part)
{
    spark_err err = {0};
    assert_int_equal(fixture_open(b->ptr, b->len, b->len, &err), code);
    if (!strstr(err.text, part)) fail_msg("'%s' does not say '%s'", err.text, part);
    fixture_free(b);
}

/* ---- one good file ---- */

SPARK_UNUSED static spark_status fixture_sink(void *ctx, const void *bytes, size_t n, spark_err *err)
{
    (void)err;
    fixture_put(ctx, bytes, n);
    return SPARK_SUCCESS;
}

/* Every kind of key and three tensors, whose data are their bytes' positions. */
SPARK_UNUSED static fixture_bytes fixture_file(void)
{
    static const int32_t types[] = {1, -2, 3};
    static const uint8_t flags[] = {1, 0, 1};
    const spark_bytes words[] = {SPARK_BYTES_LITERAL("<s>"), SPARK_BYTES_LITERAL(""), SPARK_BYTES_LITERAL("h\xc3\xa9")};
    const spark_gguf_key more[] = {
        {SPARK_BYTES_LITERAL("n.u8"), {.kind = SPARK_GGUF_U8, .as.u = 200}},
        {SPARK_BYTES_LITERAL("n.i8"), {.kind = SPARK_GGUF_I8, .as.i = -7}},
        {SPARK_BYTES_LITERAL("n.u16"), {.kind = SPARK_GGUF_U16, .as.u = 60000}},
        {SPARK_BYTES_LITERAL("n.i16"), {.kind = SPARK_GGUF_I16, .as.i = -30000}},
        {SPARK_BYTES_LITERAL("n.i32"), {.kind = SPARK_GGUF_I32, .as.i = INT32_MIN}},
        {SPARK_BYTES_LITERAL("n.u64"), {.kind = SPARK_GGUF_U64, .as.u = UINT64_MAX}},
        {SPARK_BYTES_LITERAL("n.i64"), {.kind = SPARK_GGUF_I64, .as.i = INT64_MIN}},
        {SPARK_BYTES_LITERAL("n.f64"), {.kind = SPARK_GGUF_F64, .as.f = 1e300}},
    };
    const uint64_t d1[] = {5}, d2[] = {64, 3}, d4[] = {256, 2, 1, 2};
    spark_arena *a = fixture_arena();
    spark_gguf_writer *w = NULL;
    fixture_bytes out = {0};
    assert_ok(spark_gguf_writer_create(&w, 32, 3, a, NULL));
    assert_ok(spark_gguf_put_string(w, "general.architecture", SPARK_BYTES_LITERAL("llama"), NULL));
    assert_ok(spark_gguf_put_u32(w, "general.alignment", 64, NULL));
    assert_ok(spark_gguf_put_u32(w, "llama.block_count", 2, NULL));
    assert_ok(spark_gguf_put_f32(w, "llama.eps", 1e-5f, NULL));
    assert_ok(spark_gguf_put_bool(w, "add_bos", true, NULL));
    assert_ok(spark_gguf_put_strings(w, "tokens", words, SPARK_COUNT(words), NULL));
    assert_ok(spark_gguf_put_array(w, "types", SPARK_GGUF_I32, SPARK_COUNT(types), types, NULL));
    assert_ok(spark_gguf_put_array(w, "flags", SPARK_GGUF_BOOL, SPARK_COUNT(flags), flags, NULL));
    assert_ok(spark_gguf_put_array(w, "nothing", SPARK_GGUF_F32, 0, NULL, NULL));
    for (size_t i = 0; i < SPARK_COUNT(more); i++) assert_ok(spark_gguf_put_key(w, &more[i], NULL));
    assert_ok(spark_gguf_put_tensor(w, SPARK_BYTES_LITERAL("norm"), SPARK_TYPE_F32, 1, d1, NULL));
    assert_ok(spark_gguf_put_tensor(w, SPARK_BYTES_LITERAL("wide"), SPARK_TYPE_Q8_0, 2, d2, NULL));
    assert_ok(spark_gguf_put_tensor(w, SPARK_BYTES_LITERAL("deep"), SPARK_TYPE_Q4_K, 4, d4, NULL));
    assert_ok(spark_gguf_write_head(w, fixture_sink, &out, NULL));
    uint8_t data[20 + 204 + 576];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)(i * 7);
    for (size_t i = 0; i < sizeof data; i += 100) /* pieces that end inside, at, and beyond a tensor's end */
        assert_ok(spark_gguf_write_data(w, data + i, 100, NULL));
    assert_ok(spark_gguf_write_end(w, NULL));
    assert_int_equal(out.len, spark_gguf_writer_size(w));
    spark_arena_destroy(&a);
    return out;
}

#endif
