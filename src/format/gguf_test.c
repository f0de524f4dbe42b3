/* gguf_test.c - the reader on files that it makes itself: what is read, and what is refused and how. */
#include <math.h>

#include "base/spark_limits.h"
#include "format/gguf_fixture.h"

/* ---- reading ---- */

static void test_open_finds_every_key_with_its_value(void **state)
{
    (void)state;
    fixture_bytes f = fixture_file();
    spark_arena *a = fixture_arena();
    spark_gguf *g = NULL;
    const spark_gguf_file file = {{f.ptr, f.len}, f.len};
    assert_ok(spark_gguf_open(&g, &file, 1, a, NULL));
    assert_int_equal(spark_gguf_version(g), 3);
    assert_int_equal(spark_gguf_n_keys(g), 17);
    assert_int_equal(spark_gguf_split_count(g), 1);
    assert_true(spark_bytes_is(spark_gguf_key_at(g, 0)->name, "general.architecture"));
    assert_int_equal(spark_gguf_find(g, "n.u8")->as.u, 200);
    assert_int_equal(spark_gguf_find(g, "n.i8")->as.i, -7);
    assert_int_equal(spark_gguf_find(g, "n.u16")->as.u, 60000);
    assert_int_equal(spark_gguf_find(g, "n.i16")->as.i, -30000);
    assert_int_equal(spark_gguf_find(g, "n.i32")->as.i, INT32_MIN);
    assert_true(spark_gguf_find(g, "n.u64")->as.u == UINT64_MAX);
    assert_true(spark_gguf_find(g, "n.i64")->as.i == INT64_MIN);
    assert_true(spark_gguf_find(g, "n.f64")->as.f == 1e300);
    assert_null(spark_gguf_find(g, "n.u"));
    assert_null(spark_gguf_tensor_find(g, "n.u8"));
    spark_arena_destroy(&a);
    fixture_free(&f);
}

static void test_open_gives_tensors_with_their_place_in_the_file(void **state)
{
    (void)state;
    fixture_bytes f = fixture_file();
    spark_arena *a = fixture_arena();
    spark_gguf *g = NULL;
    const spark_gguf_file file = {{f.ptr, f.len}, f.len};
    static const size_t sizes[] = {20, 204, 576};
    assert_ok(spark_gguf_open(&g, &file, 1, a, NULL));
    assert_int_equal(spark_gguf_n_tensors(g), 3);
    size_t byte = 0;
    for (uint32_t i = 0; i < 3; i++) {
        const spark_gguf_tensor *t = spark_gguf_tensor_at(g, i);
        assert_int_equal(t->n_bytes, sizes[i]);
        assert_int_equal(t->offset % 64, 0);
        assert_int_equal(t->file, 0);
        for (size_t j = 0; j < t->n_bytes; j++, byte++) assert_int_equal(f.ptr[t->offset + j], (uint8_t)(byte * 7));
    }
    const spark_gguf_tensor *deep = spark_gguf_tensor_find(g, "deep");
    assert_ptr_equal(deep, spark_gguf_tensor_at(g, 2));
    assert_int_equal(deep->type, SPARK_TYPE_Q4_K);
    assert_int_equal(deep->n_dims, 4);
    assert_int_equal(deep->dims[0] * 1000 + deep->dims[1] * 100 + deep->dims[2] * 10 + deep->dims[3], 256212);
    spark_arena_destroy(&a);
    fixture_free(&f);
}

static void test_typed_reads_refuse_wrong_kinds_and_ranges_and_leave_defaults_alone(void **state)
{
    (void)state;
    fixture_bytes f = fixture_file();
    spark_arena *a = fixture_arena();
    spark_gguf *g = NULL;
    const spark_gguf_file file = {{f.ptr, f.len}, f.len};
    assert_ok(spark_gguf_open(&g, &file, 1, a, NULL));
    uint32_t u = 77;
    float x = 5;
    bool b = false, found = true;
    spark_bytes s = SPARK_BYTES_LITERAL("default");
    spark_err err = {0};
    assert_ok(spark_gguf_get_u32(g, "absent", 0, 1, &u, &found, NULL));
    assert_ok(spark_gguf_get_f32(g, "absent", &x, NULL, NULL));
    assert_ok(spark_gguf_get_string(g, "absent", &s, NULL, NULL));
    assert_true(u == 77 && !found && x == 5 && spark_bytes_is(s, "default"));
    assert_ok(spark_gguf_get_u32(g, "llama.block_count", 1, 2, &u, &found, NULL));
    assert_true(u == 2 && found);
    assert_ok(spark_gguf_get_f32(g, "llama.eps", &x, NULL, NULL));
    assert_true(x == 1e-5f);
    assert_ok(spark_gguf_get_bool(g, "add_bos", &b, NULL, NULL));
    assert_true(b);
    assert_ok(spark_gguf_get_string(g, "general.architecture", &s, NULL, NULL));
    assert_true(spark_bytes_is(s, "llama"));
    assert_code(spark_gguf_get_u32(g, "llama.block_count", 3, 9, &u, NULL, &err), SPARK_E_FORMAT);
    assert_string_equal(err.text, "key 'llama.block_count' is 2, allowed is 3 to 9");
    assert_true(err.at > 24 && memcmp(f.ptr + err.at + 8, "llama.block_count", 17) == 0);
    assert_code(spark_gguf_get_u32(g, "n.i8", 0, 9, &u, NULL, &err), SPARK_E_FORMAT);
    assert_string_equal(err.text, "key 'n.i8' is -7, allowed is 0 to 9");
    assert_code(spark_gguf_get_u32(g, "n.u64", 0, UINT32_MAX, &u, NULL, NULL), SPARK_E_FORMAT);
    assert_code(spark_gguf_get_u32(g, "add_bos", 0, 9, &u, NULL, &err), SPARK_E_FORMAT);
    assert_string_equal(err.text, "key 'add_bos' is of kind bool, expected an integer");
    assert_code(spark_gguf_get_f32(g, "n.f64", &x, NULL, NULL), SPARK_E_FORMAT); /* too large for a float */
    assert_code(spark_gguf_get_f32(g, "n.u8", &x, NULL, NULL), SPARK_E_FORMAT);
    assert_code(spark_gguf_get_bool(g, "n.u8", &b, NULL, NULL), SPARK_E_FORMAT);
    assert_code(spark_gguf_get_string(g, "n.u8", &s, NULL, NULL), SPARK_E_FORMAT);
    assert_true(u == 2 && x == 1e-5f);
    spark_arena_destroy(&a);
    fixture_free(&f);
}

static void test_arrays_are_walked_in_place(void **state)
{
    (void)state;
    fixture_bytes f = fixture_file();
    spark_arena *a = fixture_arena();
    spark_gguf *g = NULL;
    spark_gguf_value v;
    const spark_gguf_file file = {{f.ptr, f.len}, f.len};
    assert_ok(spark_gguf_open(&g, &file, 1, a, NULL));
    assert_ok(spark_gguf_get_array(g, "tokens", SPARK_GGUF_STRING, &v, NULL, NULL));
    size_t pos = 0;
    assert_int_equal(v.n, 3);
    assert_true(spark_bytes_is(spark_gguf_next_string(&v, &pos), "<s>"));
    assert_true(spark_bytes_is(spark_gguf_next_string(&v, &pos), ""));
    assert_true(spark_bytes_is(spark_gguf_next_string(&v, &pos), "h\xc3\xa9"));
    assert_int_equal(pos, v.as.s.len);
    assert_ok(spark_gguf_get_array(g, "types", SPARK_GGUF_I32, &v, NULL, NULL));
    assert_int_equal(spark_gguf_array_i64(&v, 1), -2);
    assert_true(spark_gguf_array_f64(&v, 2) == 3.0);
    assert_ok(spark_gguf_get_array(g, "flags", SPARK_GGUF_BOOL, &v, NULL, NULL));
    assert_int_equal(spark_gguf_array_i64(&v, 2), 1);
    assert_ok(spark_gguf_get_array(g, "nothing", SPARK_GGUF_F32, &v, NULL, NULL));
    assert_int_equal(v.n, 0);
    assert_code(spark_gguf_get_array(g, "types", SPARK_GGUF_U32, &v, NULL, NULL), SPARK_E_FORMAT);
    assert_code(spark_gguf_get_array(g, "n.u8", SPARK_GGUF_U8, &v, NULL, NULL), SPARK_E_FORMAT);
    spark_arena_destroy(&a);
    fixture_free(&f);
}

static void test_array_elements_of_every_kind_convert_without_wrapping(void **state)
{
    (void)state;
    static const double wild[] = {NAN, INFINITY, -INFINITY, 1e19, -2.75};
    static const int64_t tame[] = {0, INT64_MAX, INT64_MIN, INT64_MAX, -2};
    const spark_gguf_value d = {SPARK_GGUF_ARRAY, SPARK_GGUF_F64, 5, {.s = {(const uint8_t *)wild, sizeof wild}}};
    for (size_t i = 0; i < 5; i++) assert_true(spark_gguf_array_i64(&d, i) == tame[i]);
    assert_true(spark_gguf_array_f64(&d, 4) == -2.75);
    static const uint8_t ff[8] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    static const struct {
        spark_gguf_kind kind;
        int64_t i;
        double f;
    } rows[] = {{SPARK_GGUF_U8, 255, 255},
                {SPARK_GGUF_I8, -1, -1},
                {SPARK_GGUF_U16, 65535, 65535},
                {SPARK_GGUF_I16, -1, -1},
                {SPARK_GGUF_U32, UINT32_MAX, 4294967295.0},
                {SPARK_GGUF_I32, -1, -1},
                {SPARK_GGUF_U64, INT64_MAX, 18446744073709551616.0},
                {SPARK_GGUF_I64, -1, -1}};
    for (size_t i = 0; i < SPARK_COUNT(rows); i++) {
        const spark_gguf_value v = {SPARK_GGUF_ARRAY, rows[i].kind, 1, {.s = {ff, sizeof ff}}};
        assert_true(spark_gguf_array_i64(&v, 0) == rows[i].i);
        assert_true(spark_gguf_array_f64(&v, 0) == rows[i].f);
    }
}

static void test_open_keys_needs_no_readable_directory(void **state)
{
    (void)state;
    fixture_bytes b = {0};
    fixture_header(&b, 2, 1, 1);
    fixture_key_u32(&b, "k", 5);
    fixture_tensor(&b, "t", 99, 32, 1, 0);
    spark_arena *a = fixture_arena();
    spark_gguf *g = NULL;
    assert_ok(spark_gguf_open_keys(&g, (spark_gguf_file){{b.ptr, b.len}, b.len}, a, NULL));
    assert_int_equal(spark_gguf_version(g), 2);
    assert_int_equal(spark_gguf_find(g, "k")->as.u, 5);
    assert_int_equal(spark_gguf_n_tensors(g), 0);
    assert_null(spark_gguf_tensor_find(g, "t"));
    uint64_t need = 0;
    assert_ok(spark_gguf_head_size((spark_bytes){b.ptr, b.len}, b.len, &need, NULL));
    assert_int_equal(need, b.len);
    spark_arena_destroy(&a);
    fixture_refused(&b, SPARK_E_UNSUPPORTED, "tensor 't' is of type 99");
}

/* ---- the head alone ---- */

static void test_a_file_of_100_gb_is_opened_by_its_head(void **state)
{
    (void)state;
    spark_arena *a = fixture_arena();
    spark_gguf_writer *w = NULL;
    spark_gguf *g = NULL;
    fixture_bytes head = {0};
    const uint64_t dims[] = {8192, 8192};
    assert_ok(spark_gguf_writer_create(&w, 0, 400, a, NULL));
    for (int i = 0; i < 400; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%d", i);
        assert_ok(spark_gguf_put_tensor(w, spark_bytes_of(name), SPARK_TYPE_F32, 2, dims, NULL));
    }
    assert_ok(spark_gguf_write_head(w, fixture_sink, &head, NULL));
    const spark_gguf_file file = {{head.ptr, head.len}, spark_gguf_writer_size(w)};
    uint64_t need = 0;
    assert_true(file.size > 107000000000u && head.len < 20000);
    assert_ok(spark_gguf_head_size(file.head, file.size, &need, NULL));
    assert_true(need <= head.len);
    assert_ok(spark_gguf_open(&g, &file, 1, a, NULL));
    const spark_gguf_tensor *last = spark_gguf_tensor_at(g, 399);
    assert_true(last->offset + last->n_bytes == file.size);
    spark_arena_destroy(&a);
    fixture_free(&head);
}

static void test_head_size_asks_for_a_large_head_in_few_steps(void **state)
{
    (void)state;
    enum { WORDS = 300000 };
    const uint64_t file_size = (uint64_t)100 << 30;
    fixture_bytes b = {0};
    fixture_header(&b, 3, 0, 2);
    fixture_text(&b, "tokens");
    fixture_int(&b, SPARK_GGUF_ARRAY, 4);
    fixture_int(&b, SPARK_GGUF_STRING, 4);
    fixture_int(&b, WORDS, 8);
    static uint8_t words[WORDS * 20];
    for (size_t i = 0; i < WORDS; i++) words[i * 20] = 12; /* the length, the rest is its bytes */
    fixture_put(&b, words, sizeof words);
    fixture_key_u32(&b, "last", 1);
    uint64_t have = 0, need = 0, total = 0;
    int asks = 0;
    do {
        have = need;
        total += have;
        assert_ok(
            spark_gguf_head_size((spark_bytes){b.ptr, have < b.len ? (size_t)have : b.len}, file_size, &need, NULL));
        asks++;
    } while (need > have);
    assert_int_equal(need, b.len);
    assert_in_range(asks, 3, 10);
    assert_true(total < 4 * (uint64_t)b.len);
    fixture_free(&b);
}

static void gtest_long_array(fixture_bytes *b, const char *name, uint64_t n)
{
    fixture_text(b, name);
    fixture_int(b, SPARK_GGUF_ARRAY, 4);
    fixture_int(b, SPARK_GGUF_U64, 4);
    fixture_int(b, n, 8);
}

static void test_head_size_refuses_a_head_beyond_the_limit_before_it_is_read(void **state)
{
    (void)state;
    const uint64_t file_size = (uint64_t)1 << 40, array = 8 * (uint64_t)SPARK_MAX_GGUF_ARRAY; /* half of the limit */
    fixture_bytes b = {0}, second = {0};
    spark_err err = {0};
    uint64_t need = 0;
    fixture_header(&b, 3, 0, 2);
    gtest_long_array(&b, "a", SPARK_MAX_GGUF_ARRAY);
    gtest_long_array(&second, "b", SPARK_MAX_GGUF_ARRAY);
    assert_ok(spark_gguf_head_size((spark_bytes){b.ptr, b.len}, file_size, &need, NULL));
    assert_true(need == b.len + array);
    uint8_t *both = calloc(1, (size_t)need + second.len);
    assert_non_null(both);
    memcpy(both, b.ptr, b.len);
    memcpy(both + need, second.ptr, second.len);
    const spark_bytes head = {both, (size_t)need + second.len};
    assert_code(spark_gguf_head_size(head, file_size, &need, &err), SPARK_E_LIMIT);
    assert_string_equal(err.text, "header, keys and directory exceed the limit of 268435456 bytes");
    free(both);
    fixture_free(&b);
    fixture_free(&second);
    fixture_header(&b, 3, 0, 1);
    gtest_long_array(&b, "a", (uint64_t)SPARK_MAX_GGUF_ARRAY + 1);
    assert_code(spark_gguf_head_size((spark_bytes){b.ptr, b.len}, file_size, &need, &err), SPARK_E_LIMIT);
    assert_string_equal(err.text, "array length 16777217 is over the limit of 16777216");
    fixture_free(&b);
}

static void test_open_names_a_head_that_was_not_handed_in_whole(void **state)
{
    (void)state;
    fixture_bytes f = fixture_file();
    spark_err err = {0};
    assert_int_equal(fixture_open(f.ptr, 100, f.len, &err), SPARK_E_ARGUMENT);
    assert_string_equal(err.text, "only the first 100 bytes of the head were handed in");
    assert_int_equal(fixture_open(f.ptr, f.len, f.len - 1, &err), SPARK_E_ARGUMENT);
    fixture_free(&f);
}

/* ---- refusing ---- */

static void test_a_file_cut_at_any_length_is_refused_and_a_prefix_asks_for_more(void **state)
{
    (void)state;
    fixture_bytes f = fixture_file();
    uint64_t head = 0, need = 0;
    assert_ok(spark_gguf_head_size((spark_bytes){f.ptr, f.len}, f.len, &head, NULL));
    assert_true(head > 500 && head < f.len);
    for (size_t len = 0; len < f.len; len++) {
        uint8_t *cut = malloc(len + 1); /* exact but for len 0, so that ASan sees one byte too far */
        assert_non_null(cut);
        memcpy(cut, f.ptr, len);
        uint8_t *exact = realloc(cut, len ? len : 1);
        assert_non_null(exact);
        spark_err err = {0};
        if (fixture_open(exact, len, len, &err) == SPARK_OK)
            fail_msg("opened when cut to %zu of %zu bytes", len, f.len);
        assert_true(err.text[0] != 0 && err.at <= len);
        assert_ok(spark_gguf_head_size((spark_bytes){exact, len}, f.len, &need, NULL));
        if (len < head ? need <= len || need > f.len : need != head) fail_msg("%zu bytes: need %d", len, (int)need);
        free(exact);
    }
    fixture_free(&f);
}

static void test_no_flipped_byte_of_the_head_leads_out_of_the_file(void **state)
{
    (void)state;
    static const uint8_t masks[] = {0xff, 0x01, 0x80, 0x10};
    fixture_bytes f = fixture_file();
    int opened = 0, refused = 0;
    for (size_t at = 0; at < f.len; at++) {
        for (size_t m = 0; m < SPARK_COUNT(masks); m++) {
            spark_arena *a = fixture_arena();
            spark_gguf *g = NULL;
            const spark_gguf_file file = {{f.ptr, f.len}, f.len};
            f.ptr[at] ^= masks[m];
            const bool ok = spark_ok(spark_gguf_open(&g, &file, 1, a, NULL));
            opened += ok;
            refused += !ok;
            for (uint32_t i = 0; ok && i < spark_gguf_n_tensors(g); i++) {
                const spark_gguf_tensor *t = spark_gguf_tensor_at(g, i);
                assert_true(t->offset <= f.len && t->n_bytes <= f.len - t->offset);
            }
            f.ptr[at] ^= masks[m];
            spark_arena_destroy(&a);
        }
    }
    assert_true(opened > 1000 && refused > 1000); /* both happen, or this tests nothing */
    fixture_free(&f);
}

static void test_other_files_are_named_for_what_they_are(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *says;
        size_t len;
        spark_code code;
    } rows[] = {
        {"", "only 0 bytes", 0, SPARK_E_FORMAT},
        {"GGU", "only 3 bytes", 3, SPARK_E_FORMAT},
        {"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer", 43, SPARK_E_FORMAT},
        {"PK\x03\x04.......", "ZIP archive", 11, SPARK_E_FORMAT},
        {"tjgg\x03\0\0\0", "GGJT", 8, SPARK_E_FORMAT},
        {"\x7f"
         "ELF....",
         "begins with 7f 45 4c 46", 8, SPARK_E_FORMAT},
        {"GGUF\1\0\0\0\0\0\0\0\0\0\0\0", "version 1 ", 16, SPARK_E_UNSUPPORTED},
        {"GGUF\0\0\0\3\0\0\0\0\0\0\0\0", "big-endian", 16, SPARK_E_UNSUPPORTED},
        {"GGUF\4\0\0\0\0\0\0\0\0\0\0\0", "version 4 ", 16, SPARK_E_UNSUPPORTED},
    };
    for (size_t i = 0; i < SPARK_COUNT(rows); i++) {
        fixture_bytes b = {0};
        fixture_put(&b, rows[i].bytes, rows[i].len);
        fixture_refused(&b, rows[i].code, rows[i].says);
    }
}

static void test_counts_are_refused_before_anything_is_allocated_for_them(void **state)
{
    (void)state;
    static const uint64_t counts[] = {UINT64_MAX, INT64_MAX, (uint64_t)1 << 61, (uint64_t)1 << 32, 65537, 3};
    for (size_t i = 0; i < 2 * SPARK_COUNT(counts); i++) {
        const uint64_t n = counts[i / 2];
        spark_arena *a = fixture_arena();
        spark_gguf *g = NULL;
        fixture_bytes b = {0};
        fixture_header(&b, 3, i % 2 ? n : 0, i % 2 ? 0 : n);
        const spark_gguf_file small = {{b.ptr, b.len}, b.len + 20}, large = {{b.ptr, b.len}, (uint64_t)1 << 40};
        assert_code(spark_gguf_open(&g, &small, 1, a, NULL), SPARK_E_FORMAT);
        assert_int_equal(spark_arena_bytes(a), 0);
        if (n > 65536) assert_false(spark_ok(spark_gguf_open(&g, &large, 1, a, NULL)));
        assert_int_equal(spark_arena_bytes(a), 0);
        spark_arena_destroy(&a);
        fixture_free(&b);
    }
}

static void test_a_name_may_be_there_once_only(void **state)
{
    (void)state;
    fixture_bytes b = {0};
    fixture_header(&b, 3, 0, 2);
    fixture_key_u32(&b, "k", 1);
    fixture_key_u32(&b, "k", 1);
    fixture_refused(&b, SPARK_E_FORMAT, "key 'k' is there twice");
    fixture_header(&b, 3, 2, 0);
    fixture_tensor(&b, "t", SPARK_TYPE_F32, 8, 1, 0);
    fixture_tensor(&b, "t", SPARK_TYPE_F32, 8, 1, 32);
    fixture_put(&b, (uint8_t[256]){0}, 256);
    fixture_refused(&b, SPARK_E_FORMAT, "tensor 't' is there twice");
}

static void test_names_are_short_valid_text(void **state)
{
    (void)state;
    char longest[SPARK_MAX_GGUF_NAME + 2];
    memset(longest, 'x', sizeof longest);
    longest[SPARK_MAX_GGUF_NAME + 1] = 0;
    const char *bad[] = {"", "a\xff", "\xc0\xaf", "a\nb", "a\x1b[2J", "\x7f", longest};
    for (size_t i = 0; i < 2 * SPARK_COUNT(bad); i++) {
        fixture_bytes b = {0};
        fixture_header(&b, 3, i % 2, 1 - i % 2);
        if (i % 2)
            fixture_tensor(&b, bad[i / 2], SPARK_TYPE_F32, 8, 1, 0);
        else
            fixture_key_u32(&b, bad[i / 2], 1);
        fixture_put(&b, (uint8_t[64]){0}, 64);
        fixture_refused(&b, bad[i / 2] == longest ? SPARK_E_LIMIT : SPARK_E_FORMAT, i % 2 ? "tensor name" : "key");
    }
    fixture_bytes b = {0};
    longest[SPARK_MAX_GGUF_NAME] = 0;
    fixture_header(&b, 3, 0, 1);
    fixture_key_u32(&b, longest, 1);
    assert_int_equal(fixture_open(b.ptr, b.len, b.len, NULL), SPARK_OK);
    fixture_free(&b);
}

static void test_alignment_is_a_power_of_two_from_8_to_the_limit(void **state)
{
    (void)state;
    static const uint32_t bad[] = {0, 1, 2, 4, 3, 12, 48, SPARK_MAX_ALIGNMENT * 2, UINT32_MAX, 0x80000000u};
    for (size_t i = 0; i < SPARK_COUNT(bad); i++) {
        fixture_bytes b = {0};
        fixture_header(&b, 3, 0, 1);
        fixture_key_u32(&b, "general.alignment", bad[i]);
        fixture_refused(&b, SPARK_E_FORMAT, "not a power of two from 8 to 1048576");
    }
    for (uint32_t good = 8; good <= SPARK_MAX_ALIGNMENT; good *= 2) {
        fixture_bytes b = {0};
        fixture_header(&b, 3, 0, 1);
        fixture_key_u32(&b, "general.alignment", good);
        assert_int_equal(fixture_open(b.ptr, b.len, b.len, NULL), SPARK_OK);
        fixture_free(&b);
    }
}

static void test_booleans_are_0_or_1_and_arrays_hold_no_arrays(void **state)
{
    (void)state;
    fixture_bytes b = {0};
    fixture_header(&b, 3, 0, 1);
    fixture_text(&b, "k");
    fixture_int(&b, SPARK_GGUF_BOOL, 4);
    fixture_int(&b, 2, 1);
    fixture_refused(&b, SPARK_E_FORMAT, "a boolean is 2");
    fixture_header(&b, 3, 0, 1);
    fixture_text(&b, "k");
    fixture_int(&b, SPARK_GGUF_ARRAY, 4);
    fixture_int(&b, SPARK_GGUF_BOOL, 4);
    fixture_int(&b, 3, 8);
    fixture_int(&b, 0x030001, 3);
    fixture_refused(&b, SPARK_E_FORMAT, "a boolean is 3");
    fixture_header(&b, 3, 0, 1);
    fixture_text(&b, "k");
    fixture_int(&b, SPARK_GGUF_ARRAY, 4);
    fixture_int(&b, SPARK_GGUF_ARRAY, 4);
    fixture_int(&b, 0, 8);
    fixture_refused(&b, SPARK_E_UNSUPPORTED, "arrays of arrays");
}

/* One tensor of this type and shape in a file with 4096 bytes of data. */
static void gtest_one_tensor(uint32_t type, uint64_t d0, uint64_t d1, uint64_t offset, spark_code code,
                             const char *says)
{
    fixture_bytes b = {0};
    fixture_header(&b, 3, 1, 0);
    fixture_tensor(&b, "w", type, d0, d1, offset);
    while (b.len % 32) fixture_int(&b, 0, 1);
    fixture_put(&b, (uint8_t[4096]){0}, 4096);
    if (code != SPARK_OK) {
        fixture_refused(&b, code, says);
        return;
    }
    assert_int_equal(fixture_open(b.ptr, b.len, b.len, NULL), SPARK_OK);
    fixture_free(&b);
}

static void test_shapes_types_and_places_of_tensors_are_checked(void **state)
{
    (void)state;
    const uint64_t big = (uint64_t)1 << 32;
    gtest_one_tensor(SPARK_TYPE_F32, 1024, 1, 0, SPARK_OK, "");
    gtest_one_tensor(SPARK_TYPE_F32, 1016, 1, 32, SPARK_OK, "");
    gtest_one_tensor(SPARK_TYPE_F32, 1017, 1, 32, SPARK_E_FORMAT, "4068 bytes at offset 32 do not fit");
    gtest_one_tensor(SPARK_TYPE_F32, 1, 1, 4096, SPARK_E_FORMAT, "do not fit into the file's 4096 bytes");
    gtest_one_tensor(SPARK_TYPE_F32, 1, 1, UINT64_MAX - 31, SPARK_E_FORMAT, "do not fit");
    gtest_one_tensor(SPARK_TYPE_F32, 8, 1, 16, SPARK_E_FORMAT, "no multiple of the alignment 32");
    gtest_one_tensor(SPARK_TYPE_F32, 0, 1, 0, SPARK_E_FORMAT, "dimension 0 is 0");
    gtest_one_tensor(SPARK_TYPE_F32, 1, 0, 0, SPARK_E_FORMAT, "dimension 1 is 0");
    gtest_one_tensor(SPARK_TYPE_F32, big, big, 0, SPARK_E_FORMAT, "overflow");
    gtest_one_tensor(SPARK_TYPE_F32, (uint64_t)1 << 62, 1, 0, SPARK_E_FORMAT, "overflow");
    gtest_one_tensor(SPARK_TYPE_Q8_0, 32, 120, 0, SPARK_OK, "");
    gtest_one_tensor(SPARK_TYPE_Q8_0, 48, 2, 0, SPARK_E_FORMAT, "rows of 48 elements are not whole blocks of Q8_0");
    gtest_one_tensor(SPARK_TYPE_Q4_K, 128, 2, 0, SPARK_E_FORMAT, "not whole blocks");
    gtest_one_tensor(26, 32, 1, 0, SPARK_E_UNSUPPORTED, "type 26 (I32)");
    gtest_one_tensor(4, 32, 1, 0, SPARK_E_UNSUPPORTED, "removed");
    gtest_one_tensor(UINT32_MAX, 32, 1, 0, SPARK_E_UNSUPPORTED, "type 4294967295 (unknown)");
}

static void test_tensors_may_lie_in_any_order_but_not_on_each_other(void **state)
{
    (void)state;
    enum { N = 500 };
    for (int overlap = 0; overlap < 2; overlap++) {
        fixture_bytes b = {0};
        fixture_header(&b, 3, N, 0);
        for (uint64_t i = 0; i < N; i++) {
            char name[16];
            snprintf(name, sizeof name, "t%d", (int)i);
            const uint64_t place = i * 183 % N; /* 183 and 500 share no factor: every place once */
            fixture_tensor(&b, name, SPARK_TYPE_F32, overlap && i == 250 ? 9 : 8, 1, place * 32);
        }
        while (b.len % 32) fixture_int(&b, 0, 1);
        static const uint8_t zeros[N * 32];
        fixture_put(&b, zeros, sizeof zeros);
        if (overlap) {
            fixture_refused(&b, SPARK_E_FORMAT, "tensors 't250' and 't97' overlap");
            continue;
        }
        assert_int_equal(fixture_open(b.ptr, b.len, b.len, NULL), SPARK_OK);
        fixture_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open_finds_every_key_with_its_value),
        cmocka_unit_test(test_open_gives_tensors_with_their_place_in_the_file),
        cmocka_unit_test(test_typed_reads_refuse_wrong_kinds_and_ranges_and_leave_defaults_alone),
        cmocka_unit_test(test_arrays_are_walked_in_place),
        cmocka_unit_test(test_array_elements_of_every_kind_convert_without_wrapping),
        cmocka_unit_test(test_open_keys_needs_no_readable_directory),
        cmocka_unit_test(test_a_file_of_100_gb_is_opened_by_its_head),
        cmocka_unit_test(test_head_size_asks_for_a_large_head_in_few_steps),
        cmocka_unit_test(test_head_size_refuses_a_head_beyond_the_limit_before_it_is_read),
        cmocka_unit_test(test_open_names_a_head_that_was_not_handed_in_whole),
        cmocka_unit_test(test_a_file_cut_at_any_length_is_refused_and_a_prefix_asks_for_more),
        cmocka_unit_test(test_no_flipped_byte_of_the_head_leads_out_of_the_file),
        cmocka_unit_test(test_other_files_are_named_for_what_they_are),
        cmocka_unit_test(test_counts_are_refused_before_anything_is_allocated_for_them),
        cmocka_unit_test(test_a_name_may_be_there_once_only),
        cmocka_unit_test(test_names_are_short_valid_text),
        cmocka_unit_test(test_alignment_is_a_power_of_two_from_8_to_the_limit),
        cmocka_unit_test(test_booleans_are_0_or_1_and_arrays_hold_no_arrays),
        cmocka_unit_test(test_shapes_types_and_places_of_tensors_are_checked),
        cmocka_unit_test(test_tensors_may_lie_in_any_order_but_not_on_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
