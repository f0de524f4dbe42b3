/* gguf_data_test.c - the reader on the shared test data: every good model opens, every hostile file gets its answer.
 * Skipped where there is no test data. */
#include <glob.h>
#include <jansson.h>

#include "base/clock.h"
#include "format/gguf_fixture.h"

/* ---- good files ---- */

/* Opens the file as a caller does that reads no more than head_size asks for. */
static spark_gguf *gdata_open(const uint8_t *bytes, size_t len, spark_arena *a)
{
    spark_gguf *g = NULL;
    spark_err err = {0};
    uint64_t have = 0, need = 0;
    do {
        have = need;
        assert_ok(spark_gguf_head_size((spark_bytes){bytes, (size_t)have}, len, &need, &err));
    } while (need > have);
    const spark_gguf_file file = {{bytes, (size_t)need}, len};
    if (!spark_ok(spark_gguf_open(&g, &file, 1, a, &err))) fail_msg("%s", err.text);
    return g;
}

static void gdata_open_all(const char *pattern, size_t at_least, bool vocabulary_only)
{
    const char *path = test_data(".");
    if (!path) skip();
    char full[4200];
    snprintf(full, sizeof full, "%s/%s", path, pattern);
    glob_t found = {0};
    if (glob(full, 0, NULL, &found) == GLOB_NOMATCH) skip();
    assert_true(found.gl_pathc >= at_least);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        size_t len = 0;
        uint8_t *bytes = test_read(found.gl_pathv[i], &len);
        spark_arena *a = fixture_arena();
        const spark_gguf *g = gdata_open(bytes, len, a);
        spark_bytes arch = {0};
        assert_ok(spark_gguf_get_string(g, "general.architecture", &arch, NULL, NULL));
        assert_true(arch.len > 0);
        if ((spark_gguf_n_tensors(g) == 0) != vocabulary_only) fail_msg("%s", found.gl_pathv[i]);
        if (vocabulary_only) {
            spark_gguf_value tokens = {0};
            assert_ok(spark_gguf_get_array(g, "tokenizer.ggml.tokens", SPARK_GGUF_STRING, &tokens, NULL, NULL));
            assert_true(tokens.n > 1000);
        }
        spark_arena_destroy(&a);
        free(bytes);
    }
    globfree(&found);
}

static void test_every_vocabulary_opens_without_tensors(void **state)
{
    (void)state;
    gdata_open_all("tokenizers/gguf/*.gguf", 9, true);
}

static void test_every_golden_model_opens(void **state)
{
    (void)state;
    gdata_open_all("golden/*/*.gguf", 60, false);
}

static void test_every_trained_model_opens(void **state)
{
    (void)state;
    gdata_open_all("llm/*/*.gguf", 8, false);
}

/* ---- hostile files ---- */

/* To be refused by the rooms above, which know what keys and tensors mean. This one must let them through: if it does
 * not, the list is out of date or the reason is wrong. */
static const char *const gdata_later[] = {
    /* architecture and shape: model */
    "arch_missing", "arch_number", "arch_unknown", "arch_format", "miss_embedding_length", "str_embedding_length",
    "miss_feed_forward_length", "str_feed_forward_length", "miss_attention.head_count",
    "miss_attention.layer_norm_rms_epsilon", "str_attention.layer_norm_rms_epsilon", "block_count_2",
    "block_count_7fffffff", "embedding_length_40", "embedding_length_80000000", "feed_forward_length_0",
    "attention.head_count_0", "attention.head_count_3", "attention.head_count_40", "attention.head_count_ffffffff",
    "attention.head_count_kv_3", "attention.head_count_kv_4", "rope.dimension_count_1", "rope.dimension_count_f",
    "experts_max", "experts_used_more",
    /* tensors that are missing or of another shape: model */
    "dims_smaller", "dims_one", "lacks_output_norm.weight", "lacks_blk.0.ffn_down.weight",
    /* vocabulary: tokenizer */
    "tok_tokens_string", "tok_tokens_none", "tok_scores_fewer", "tok_scores_scalar", "tok_token_type_u8",
    "tok_token_type_strings", "tok_bos_string", "tok_model_number", "merges_u8"};

static bool gdata_is_later(const char *file)
{
    for (size_t i = 0; i < SPARK_COUNT(gdata_later); i++) {
        const size_t n = strlen(gdata_later[i]);
        if (strncmp(file, gdata_later[i], n) == 0 && strcmp(file + n, ".gguf") == 0) return true;
    }
    return false;
}

/* The archive unpacked into memory, or NULL if this machine has no zstd. */
static uint8_t *gdata_unpack(const char *path, size_t *len)
{
    char command[4200];
    snprintf(command, sizeof command, "zstd -dcq '%s'", path);
    FILE *p = popen(command, "r");
    assert_non_null(p);
    fixture_bytes all = {0};
    static uint8_t piece[65536];
    for (size_t n; (n = fread(piece, 1, sizeof piece, p)) > 0;) fixture_put(&all, piece, n);
    const int code = pclose(p);
    if (code != 0) free(all.ptr);
    *len = all.len;
    return code == 0 ? all.ptr : NULL;
}

/* Finds a member of a tar archive (POSIX ustar: name at 0, octal size at 124, 512-byte blocks). */
static spark_bytes gdata_member(const uint8_t *tar, size_t len, const char *name)
{
    for (size_t at = 0; at + 512 <= len && tar[at];) {
        const size_t size = strtoul((const char *)tar + at + 124, NULL, 8);
        const char *member = (const char *)tar + at;
        if (strncmp(member, "./", 2) == 0) member += 2;
        if (strcmp(member, name) == 0 && at + 512 + size <= len) return (spark_bytes){tar + at + 512, size};
        at += 512 + (size + 511) / 512 * 512;
    }
    fail_msg("no %s in the archive", name);
    return (spark_bytes){0};
}

static void gdata_hostile_file(const char *file, const char *expect, spark_bytes b)
{
    spark_err err = {0};
    uint64_t need = 0;
    uint8_t *exact = malloc(b.len ? b.len : 1); /* so that ASan sees one byte too far */
    assert_non_null(exact);
    memcpy(exact, b.ptr, b.len);
    const uint64_t begin = spark_clock_ns();
    const bool head = spark_ok(spark_gguf_head_size((spark_bytes){exact, b.len}, b.len, &need, NULL));
    const bool opened = fixture_open(exact, b.len, b.len, &err) == SPARK_OK; /* in an arena of 64 MiB */
    const uint64_t took = spark_clock_ns() - begin;
    free(exact);
    if (opened && !head) fail_msg("%s: opened, but head_size refused", file);
    if (!opened && strcmp(expect, "accept") == 0) fail_msg("%s: %s", file, err.text);
    if (strcmp(expect, "reject") == 0 && opened != gdata_is_later(file))
        fail_msg("%s: %s", file, opened ? "was accepted" : err.text);
    if (!opened && !err.text[0]) fail_msg("%s: refused without a word", file);
    if (took > 2000000000u) fail_msg("%s: took %d ms", file, (int)(took / 1000000));
}

static void test_hostile_files_get_the_answer_that_the_format_owes_them(void **state)
{
    (void)state;
    const char *path = test_data("hostile/hostile.tar.zst");
    if (!path) skip();
    size_t len = 0, n_files = 0;
    uint8_t *tar = gdata_unpack(path, &len);
    if (!tar) skip();
    path = test_data("hostile/index.jsonl");
    assert_non_null(path);
    FILE *index = fopen(path, "rb");
    assert_non_null(index);
    for (char line[4096]; fgets(line, sizeof line, index);) {
        json_t *row = json_loads(line, 0, NULL);
        const char *file = NULL, *kind = NULL, *expect = NULL;
        assert_int_equal(json_unpack(row, "{s:s, s:s, s:s}", "file", &file, "kind", &kind, "expect", &expect), 0);
        if (strcmp(kind, "gguf") == 0) {
            gdata_hostile_file(file, expect, gdata_member(tar, len, file));
            n_files++;
        }
        json_decref(row);
    }
    assert_true(n_files >= 196);
    fclose(index);
    free(tar);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_vocabulary_opens_without_tensors),
        cmocka_unit_test(test_every_golden_model_opens),
        cmocka_unit_test(test_every_trained_model_opens),
        cmocka_unit_test(test_hostile_files_get_the_answer_that_the_format_owes_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
