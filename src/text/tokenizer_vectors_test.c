/* tokenizer_vectors_test.c - the vocabularies of the shared data: every published and every own vector, there and back. */
#include <jansson.h>
#include <string.h>

#include "base/test.h"

#include "text/tokenizer.h"

typedef struct vectors_file {
    uint8_t *bytes;
    spark_arena *arena;
    spark_tokenizer *tokenizer;
} vectors_file;

/* Loads a vocabulary of the shared data; false if it is not there. */
static bool vectors_open(vectors_file *f, const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "tokenizers/gguf/%s.gguf", name);
    const char *full = test_data(path);
    if (!full) return false;
    size_t len = 0;
    spark_gguf *g = NULL;
    spark_err err = {0};
    f->bytes = test_read(full, &len);
    assert_ok(spark_arena_create(&f->arena, (size_t)1 << 30, NULL));
    const spark_gguf_file file = {{f->bytes, len}, len};
    assert_ok(spark_gguf_open(&g, &file, 1, f->arena, NULL));
    if (!spark_ok(spark_tokenizer_load(&f->tokenizer, g, f->arena, &err))) fail_msg("%s: %s", name, err.text);
    return true;
}

static void vectors_close(vectors_file *f)
{
    spark_arena_destroy(&f->arena);
    free(f->bytes);
}

static void vectors_print(const char *title, const uint32_t *ids, size_t n)
{
    print_error("%s:", title);
    for (size_t i = 0; i < n; i++) print_error(" %u", ids[i]);
    print_error("\n");
}

/* Encodes and compares; returns whether equal, and says what differs. */
static bool vectors_encode(const vectors_file *f, const char *name, spark_bytes text, const spark_ids *want)
{
    spark_ids got = {0};
    assert_ok(spark_tokenizer_encode(f->tokenizer, text, 0, &got, NULL));
    const bool equal = got.n == want->n && (got.n == 0 || memcmp(got.ids, want->ids, got.n * sizeof *got.ids) == 0);
    if (!equal) {
        print_error("%s: '%.*s'\n", name, (int)text.len, (const char *)text.ptr);
        vectors_print("  want", want->ids, want->n);
        vectors_print("  got ", got.ids, got.n);
    }
    spark_ids_free(&got);
    return equal;
}

/* The ids of one line of an .out file. */
static const char *vectors_line(const char *p, spark_ids *ids)
{
    ids->n = 0;
    while (*p && *p != '\n') {
        char *end;
        assert_ok(spark_ids_push(ids, (uint32_t)strtoul(p, &end, 10), NULL));
        p = end;
        while (*p == ' ') p++;
    }
    return *p ? p + 1 : p;
}

static int vectors_published(const vectors_file *f, const char *name)
{
    static const char separator[] = "\n__ggml_vocab_test__\n";
    char path[256];
    size_t len = 0;
    int wrong = 0, n = 0;
    snprintf(path, sizeof path, "tokenizers/gguf/%s.gguf.inp", name);
    const char *full = test_data(path);
    if (!full) return 0;
    char *inp = (char *)test_read(full, &len);
    snprintf(path, sizeof path, "tokenizers/gguf/%s.gguf.out", name);
    char *out = (char *)test_read(test_data(path), &len);
    spark_ids want = {0};
    const char *line = out;
    for (const char *text = inp; text;) {
        const char *end = strstr(text, separator);
        line = vectors_line(line, &want);
        wrong += !vectors_encode(
            f, name, (spark_bytes){(const uint8_t *)text, end ? (size_t)(end - text) : strlen(text)}, &want);
        text = end ? end + sizeof separator - 1 : NULL;
        n++;
    }
    assert_true(n >= 40);
    spark_ids_free(&want);
    free(inp);
    free(out);
    return wrong;
}

/* Own vectors; *lost counts texts that do not come back. */
static int vectors_own(const vectors_file *f, const char *name, int *lost)
{
    char path[256];
    snprintf(path, sizeof path, "tokenizers/gguf/%s.cases.json", name);
    json_t *cases = json_load_file(test_data(path), JSON_ALLOW_NUL, NULL);
    assert_non_null(cases);
    int wrong = 0;
    size_t i;
    json_t *c;
    json_array_foreach(cases, i, c)
    {
        const json_t *text = json_object_get(c, "text"), *ids = json_object_get(c, "ids");
        const spark_bytes bytes = {(const uint8_t *)json_string_value(text), json_string_length(text)};
        spark_ids want = {0};
        spark_text back = {0};
        for (size_t k = 0; k < json_array_size(ids); k++)
            assert_ok(spark_ids_push(&want, (uint32_t)json_integer_value(json_array_get(ids, k)), NULL));
        wrong += !vectors_encode(f, name, bytes, &want);
        assert_ok(spark_tokenizer_decode(f->tokenizer, want.ids, want.n, &back, NULL));
        *lost += !spark_bytes_equal((spark_bytes){back.ptr, back.len}, bytes);
        spark_text_free(&back);
        spark_ids_free(&want);
    }
    assert_true(json_array_size(cases) >= 70);
    json_decref(cases);
    return wrong;
}

static void vectors_check(const char *name, int lossy)
{
    vectors_file f;
    if (!vectors_open(&f, name)) skip();
    int lost = 0;
    const int wrong = vectors_published(&f, name) + vectors_own(&f, name, &lost);
    vectors_close(&f);
    assert_int_equal(wrong, 0);
    if (lossy >= 0) assert_int_equal(lost, lossy);
}

#define VECTORS_TEST(id, name, lossy)                                                                                  \
    static void test_##id##_gives_the_published_ids_and_comes_back(void **state)                                       \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        vectors_check(name, lossy);                                                                                    \
    }
VECTORS_TEST(llama_spm, "llama-spm", 0)
VECTORS_TEST(baichuan, "baichuan", 0)
VECTORS_TEST(gpt_2, "gpt-2", 0)
VECTORS_TEST(falcon, "falcon", 0)
VECTORS_TEST(refact, "refact", 0)
VECTORS_TEST(llama_bpe, "llama-bpe", 0)
VECTORS_TEST(qwen2, "qwen2", 0)
VECTORS_TEST(deepseek_llm, "deepseek-llm", 0)
VECTORS_TEST(bert_bge, "bert-bge", -1) /* it normalizes */

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama_spm_gives_the_published_ids_and_comes_back),
        cmocka_unit_test(test_baichuan_gives_the_published_ids_and_comes_back),
        cmocka_unit_test(test_gpt_2_gives_the_published_ids_and_comes_back),
        cmocka_unit_test(test_falcon_gives_the_published_ids_and_comes_back),
        cmocka_unit_test(test_refact_gives_the_published_ids_and_comes_back),
        cmocka_unit_test(test_llama_bpe_gives_the_published_ids_and_comes_back),
        cmocka_unit_test(test_qwen2_gives_the_published_ids_and_comes_back),
        cmocka_unit_test(test_deepseek_llm_gives_the_published_ids_and_comes_back),
        cmocka_unit_test(test_bert_bge_gives_the_published_ids_and_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
