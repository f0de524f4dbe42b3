/* gguf_write_test.c - the writer's refusals, and models in several files. That what it writes reads back is the work of
 * gguf_test.c, whose fixture it makes. */
#include "format/gguf_fixture.h"

static void test_writer_refuses_what_a_reader_would_refuse(void **state)
{
    (void)state;
    spark_arena *a = fixture_arena();
    spark_gguf_writer *w = NULL;
    spark_err err = {0};
    const uint64_t odd[] = {33}, zero[] = {0}, good[] = {32}, huge[] = {(uint64_t)1 << 63};
    const spark_bytes t = SPARK_BYTES_LITERAL("t");
    assert_ok(spark_gguf_writer_create(&w, 2, 1, a, NULL));
    assert_ok(spark_gguf_put_u32(w, "k", 1, NULL));
    assert_code(spark_gguf_put_u32(w, "k", 1, &err), SPARK_E_ARGUMENT);
    assert_string_equal(err.text, "key 'k' is there already");
    assert_code(spark_gguf_put_u32(w, "", 1, NULL), SPARK_E_FORMAT);
    assert_code(spark_gguf_put_u32(w, "a\nb", 1, NULL), SPARK_E_FORMAT);
    assert_code(spark_gguf_put_u32(w, "general.alignment", 48, NULL), SPARK_E_FORMAT);
    assert_code(spark_gguf_put_tensor(w, t, SPARK_TYPE_Q8_0, 1, odd, NULL), SPARK_E_FORMAT);
    assert_code(spark_gguf_put_tensor(w, t, SPARK_TYPE_F32, 1, zero, NULL), SPARK_E_FORMAT);
    assert_code(spark_gguf_put_tensor(w, t, SPARK_TYPE_Q4_0, 1, huge, NULL),
                SPARK_E_FORMAT); /* bytes alone would fit */
    assert_code(spark_gguf_put_tensor(w, t, SPARK_TYPE_F32, 5, good, NULL), SPARK_E_ARGUMENT);
    assert_code(spark_gguf_put_tensor(w, t, (spark_type)4, 1, good, NULL), SPARK_E_UNSUPPORTED);
    assert_ok(spark_gguf_put_tensor(w, t, SPARK_TYPE_Q8_0, 1, good, NULL));
    assert_code(spark_gguf_put_tensor(w, t, SPARK_TYPE_Q8_0, 1, good, NULL), SPARK_E_LIMIT);
    assert_code(spark_gguf_put_u32(w, "general.alignment", 64, &err), SPARK_E_STATE);
    assert_ok(spark_gguf_put_u32(w, "k2", 1, NULL));
    assert_code(spark_gguf_put_u32(w, "k3", 1, NULL), SPARK_E_LIMIT);
    spark_arena_destroy(&a);
}

static void test_writer_counts_every_byte_of_data(void **state)
{
    (void)state;
    spark_arena *a = fixture_arena();
    spark_gguf_writer *w = NULL;
    spark_err err = {0};
    fixture_bytes out = {0};
    const uint64_t dims[] = {3};
    const uint8_t data[13] = {1, 2, 3};
    assert_ok(spark_gguf_writer_create(&w, 0, 1, a, NULL));
    assert_ok(spark_gguf_put_tensor(w, SPARK_BYTES_LITERAL("t"), SPARK_TYPE_F32, 1, dims, NULL));
    assert_code(spark_gguf_write_data(w, data, 12, NULL), SPARK_E_STATE);
    assert_code(spark_gguf_write_end(w, NULL), SPARK_E_STATE);
    assert_ok(spark_gguf_write_head(w, fixture_sink, &out, NULL));
    assert_int_equal(out.len, spark_gguf_writer_tensor(w, 0).offset);
    assert_code(spark_gguf_write_head(w, fixture_sink, &out, NULL), SPARK_E_STATE);
    assert_code(spark_gguf_put_u32(w, "k", 1, NULL), SPARK_E_STATE);
    assert_ok(spark_gguf_write_data(w, data, 11, NULL));
    assert_code(spark_gguf_write_end(w, &err), SPARK_E_STATE);
    assert_string_equal(err.text, "tensor 't' lacks its last 1 bytes");
    assert_ok(spark_gguf_write_data(w, data, 1, NULL));
    assert_ok(spark_gguf_write_end(w, NULL));
    assert_int_equal(out.len, spark_gguf_writer_size(w));
    assert_int_equal(out.len % 32, 0);
    assert_code(spark_gguf_write_data(w, data, 1, NULL), SPARK_E_ARGUMENT);
    spark_arena_destroy(&a);
    fixture_free(&out);
}

static spark_status gwtest_full(void *ctx, const void *bytes, size_t n, spark_err *err)
{
    int *left = ctx;
    (void)bytes;
    SPARK_CHECK((*left)-- > 0, err, SPARK_E_IO, n, "disk full");
    return SPARK_SUCCESS;
}

static void test_a_failing_sink_stops_the_writer_wherever_it_fails(void **state)
{
    (void)state;
    const uint64_t dims[] = {3};
    int calls = 0;
    for (bool done = false; !done; calls++) {
        spark_arena *a = fixture_arena();
        spark_gguf_writer *w = NULL;
        spark_err err = {0};
        int left = calls;
        assert_ok(spark_gguf_writer_create(&w, 1, 1, a, NULL));
        assert_ok(spark_gguf_put_u32(w, "k", 1, NULL));
        assert_ok(spark_gguf_put_tensor(w, SPARK_BYTES_LITERAL("t"), SPARK_TYPE_F32, 1, dims, NULL));
        done = spark_ok(spark_gguf_write_head(w, gwtest_full, &left, &err)) &&
               spark_ok(spark_gguf_write_data(w, (uint8_t[12]){0}, 12, &err));
        assert_true(done || (err.code == SPARK_E_IO && strcmp(err.text, "disk full") == 0));
        spark_arena_destroy(&a);
    }
    assert_true(calls > 10);
}

/* ---- split files ---- */

typedef struct gwtest_split {
    int64_t no, count, total; /* -1: key left out */
    const char *extra;        /* a key that only this file has, or NULL */
    uint32_t extra_value;
    const char *tensor;
    uint32_t alignment;
} gwtest_split;

static fixture_bytes gwtest_file(const gwtest_split *s)
{
    spark_arena *a = fixture_arena();
    spark_gguf_writer *w = NULL;
    fixture_bytes out = {0};
    const uint64_t dims[] = {64};
    assert_ok(spark_gguf_writer_create(&w, 8, 1, a, NULL));
    if (s->extra) assert_ok(spark_gguf_put_u32(w, s->extra, s->extra_value, NULL));
    if (s->alignment) assert_ok(spark_gguf_put_u32(w, "general.alignment", s->alignment, NULL));
    if (s->no >= 0) assert_ok(spark_gguf_put_u32(w, "split.no", (uint32_t)s->no, NULL));
    if (s->count >= 0) assert_ok(spark_gguf_put_u32(w, "split.count", (uint32_t)s->count, NULL));
    if (s->total >= 0) assert_ok(spark_gguf_put_u32(w, "split.tensors.count", (uint32_t)s->total, NULL));
    assert_ok(spark_gguf_put_tensor(w, spark_bytes_of(s->tensor), SPARK_TYPE_F32, 1, dims, NULL));
    assert_ok(spark_gguf_write_head(w, fixture_sink, &out, NULL));
    assert_ok(spark_gguf_write_data(w, (uint8_t[256]){0}, 256, NULL));
    spark_arena_destroy(&a);
    return out;
}

static void gwtest_open_pair(const gwtest_split *first, const gwtest_split *second, const char *says)
{
    fixture_bytes one = gwtest_file(first), two = gwtest_file(second);
    spark_arena *a = fixture_arena();
    spark_gguf *g = NULL;
    spark_err err = {0};
    const spark_gguf_file files[] = {{{one.ptr, one.len}, one.len}, {{two.ptr, two.len}, two.len}};
    const spark_status s = spark_gguf_open(&g, files, 2, a, &err);
    if (says) {
        if (spark_ok(s) || !strstr(err.text, says)) fail_msg("'%s' does not say '%s'", err.text, says);
        assert_int_equal(spark_arena_bytes(a), 0);
    } else {
        if (!spark_ok(s)) fail_msg("refused: %s", err.text);
        assert_int_equal(spark_gguf_n_tensors(g), 2);
        assert_int_equal(spark_gguf_split_count(g), 2);
        assert_int_equal(spark_gguf_tensor_find(g, "a")->file, 0);
        assert_int_equal(spark_gguf_tensor_find(g, "b")->file, 1);
        assert_int_equal(spark_gguf_tensor_find(g, "b")->offset % (second->alignment ? second->alignment : 32), 0);
        assert_int_equal(spark_gguf_find(g, "x")->as.u, 7);
    }
    spark_arena_destroy(&a);
    fixture_free(&one);
    fixture_free(&two);
}

static void test_split_files_open_together_if_they_agree(void **state)
{
    (void)state;
    const gwtest_split a = {0, 2, 2, "x", 7, "a", 0};
    gwtest_open_pair(&a, &(gwtest_split){1, 2, 2, NULL, 0, "b", 0}, NULL);
    gwtest_open_pair(&a, &(gwtest_split){1, 2, 2, "x", 7, "b", 128}, NULL);
    gwtest_open_pair(&(gwtest_split){0, 2, -1, "x", 7, "a", 0}, &(gwtest_split){1, 2, -1, NULL, 0, "b", 0}, NULL);
    gwtest_open_pair(&a, &(gwtest_split){0, 2, 2, NULL, 0, "b", 0}, "file 2 of 2: split.no says that it is file 0");
    gwtest_open_pair(&a, &(gwtest_split){-1, 2, 2, NULL, 0, "b", 0}, "file 2 of 2: split.no");
    gwtest_open_pair(&a, &(gwtest_split){1, 3, 2, NULL, 0, "b", 0}, "split.count says 3 files, but there are 2");
    gwtest_open_pair(&a, &(gwtest_split){-1, -1, -1, NULL, 0, "b", 0}, "split.count says 1 files");
    gwtest_open_pair(&a, &(gwtest_split){1, 2, 3, NULL, 0, "b", 0}, "split.tensors.count is 3, but");
    gwtest_open_pair(&a, &(gwtest_split){1, 2, 2, "y", 7, "b", 0}, "key 'y' is not in the first file");
    gwtest_open_pair(&a, &(gwtest_split){1, 2, 2, "x", 8, "b", 0}, "key 'x' differs from the first file");
    gwtest_open_pair(&a, &(gwtest_split){1, 2, 2, NULL, 0, "a", 0}, "tensor 'a' is there twice");
}

static void test_one_file_of_a_split_tells_how_many_there_are(void **state)
{
    (void)state;
    static const struct {
        int64_t no, count;
        uint32_t expect; /* 0: refused */
    } rows[] = {{0, 3, 3}, {2, 3, 3}, {3, 3, 0}, {-1, -1, 1}, {0, 0, 1}, {0, 1024, 1024}, {0, 1025, 0}, {0, 65535, 0}};
    for (size_t i = 0; i < SPARK_COUNT(rows); i++) {
        fixture_bytes b = gwtest_file(&(gwtest_split){rows[i].no, rows[i].count, 9, NULL, 0, "t", 0});
        spark_arena *a = fixture_arena();
        spark_gguf *g = NULL;
        const spark_gguf_file file = {{b.ptr, b.len}, b.len};
        const bool ok = spark_ok(spark_gguf_open(&g, &file, 1, a, NULL));
        assert_int_equal(ok ? spark_gguf_split_count(g) : 0, rows[i].expect);
        spark_arena_destroy(&a);
        fixture_free(&b);
    }
}

static void test_split_paths_name_the_siblings(void **state)
{
    (void)state;
    char out[64];
    assert_ok(spark_gguf_split_path("d/x-00002-of-00003.gguf", 0, 3, out, sizeof out, NULL));
    assert_string_equal(out, "d/x-00001-of-00003.gguf");
    assert_ok(spark_gguf_split_path("x-00001-of-01024.gguf", 1023, 1024, out, sizeof out, NULL));
    assert_string_equal(out, "x-01024-of-01024.gguf");
    assert_ok(spark_gguf_split_path("x-00001-of-00002.gguf", 1, 2, out, sizeof "x-00002-of-00002.gguf", NULL));
    static const char *const bad[] = {
        "",
        "x.gguf",
        "-00001-of-00002.gguf",
        "d/-00001-of-00002.gguf",
        "x-0001-of-00002.gguf",
        "x-00001-of-00002.ggu",
        "x-00001-of-00002.gguf ",
        "x-00001-fo-00002.gguf",
        "x-0000a-of-00002.gguf",
        "x-00001-of-+0002.gguf",
        "x_00001-of-00002.gguf",
        "x-00000-of-00002.gguf",
        "x-00003-of-00002.gguf",
        "x-00001-of-00003.gguf", /* three files, but the head says two */
    };
    for (size_t i = 0; i < SPARK_COUNT(bad); i++)
        assert_code(spark_gguf_split_path(bad[i], 0, 2, out, sizeof out, NULL), SPARK_E_ARGUMENT);
    assert_code(spark_gguf_split_path("x-00001-of-00002.gguf", 2, 2, out, sizeof out, NULL), SPARK_E_ARGUMENT);
    assert_code(spark_gguf_split_path("x-00001-of-00002.gguf", 1, 2, out, 21, NULL), SPARK_E_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_writer_refuses_what_a_reader_would_refuse),
        cmocka_unit_test(test_writer_counts_every_byte_of_data),
        cmocka_unit_test(test_a_failing_sink_stops_the_writer_wherever_it_fails),
        cmocka_unit_test(test_split_files_open_together_if_they_agree),
        cmocka_unit_test(test_one_file_of_a_split_tells_how_many_there_are),
        cmocka_unit_test(test_split_paths_name_the_siblings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
