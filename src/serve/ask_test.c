/* ask_test.c - asks to bytes and back. */
#include "serve/dialect_test.h"

static void test_ask_round_trip_keeps_everything(void **s)
{
    (void)s;
    world w = taken(
        CHAT,
        "{" HI
        ", \"seed\": 9, \"stop\": [\"a\", \"bc\"], \"logit_bias\": {\"5\": 1.5}, \"logprobs\": true, \"top_k\": 7}");
    spark_ask *a = &w.call.asks[0], b;
    a->tenant = UINT64_MAX - 1;
    a->priority = -5;
    a->deadline_ms = 77;
    const size_t n = spark_ask_size(a);
    uint8_t *bytes = malloc(n), *again = malloc(n);
    assert_true(bytes && again);
    assert_int_equal(spark_ask_encode(a, bytes), n);
    assert_ok(spark_ask_decode(&b, (spark_bytes){bytes, n}, w.a, NULL));
    assert_int_equal(b.priority, -5);
    assert_int_equal(b.tenant, UINT64_MAX - 1);
    assert_int_equal(b.generate.sampling.seed, 9);
    assert_int_equal(b.generate.sampling.top_k, 7);
    assert_string_equal(b.generate.stops[1], "bc");
    assert_true(b.generate.logit_bias[0].bias == 1.5f);
    assert_true(spark_bytes_equal(a->text, b.text));
    assert_int_equal(spark_ask_encode(&b, again), n);
    assert_memory_equal(bytes, again, n);
    for (size_t i = 0; i < n; i++) { /* every shorter one is refused */
        uint8_t *cut = malloc(i ? i : 1);
        assert_non_null(cut);
        memcpy(cut, bytes, i);
        assert_code(spark_ask_decode(&b, (spark_bytes){cut, i}, w.a, NULL), SPARK_E_FORMAT);
        free(cut);
    }
    free(bytes);
    free(again);
    world_end(&w);
}

static void test_ask_decode_refuses_counts_that_cannot_be(void **s)
{
    (void)s;
    spark_ask a, b;
    spark_arena *arena = NULL;
    spark_ask_defaults(&a);
    a.kind = SPARK_ASK_TEXT;
    a.text = SPARK_BYTES_LITERAL("x");
    uint8_t bytes[512];
    const size_t n = spark_ask_encode(&a, bytes), counts = n - 1 - 16;
    assert_ok(spark_arena_create(&arena, 1 << 20, NULL));
    for (size_t i = 0; i < 4; i++) {
        uint8_t bad[512];
        memcpy(bad, bytes, n);
        memset(bad + counts + 4 * i, 0xff, 4);
        assert_code(spark_ask_decode(&b, (spark_bytes){bad, n}, arena, NULL), SPARK_E_FORMAT);
    }
    bytes[1] = SPARK_ASK_N_KINDS;
    assert_code(spark_ask_decode(&b, (spark_bytes){bytes, n}, arena, NULL), SPARK_E_FORMAT);
    bytes[1] = SPARK_ASK_DETOKENIZE; /* which has no text */
    assert_code(spark_ask_decode(&b, (spark_bytes){bytes, n}, arena, NULL), SPARK_E_FORMAT);
    spark_arena_destroy(&arena);
}

static void test_ask_check_refuses_what_is_not_finite_or_too_long(void **s)
{
    (void)s;
    spark_ask a;
    spark_ask_defaults(&a);
    assert_ok(spark_ask_check(&a, NULL));
    a.generate.sampling.top_p = NAN;
    assert_code(spark_ask_check(&a, NULL), SPARK_E_ARGUMENT);
    spark_ask_defaults(&a);
    a.text.len = SPARK_MAX_ASK;
    a.text.ptr = calloc(1, SPARK_MAX_ASK);
    assert_non_null(a.text.ptr);
    assert_code(spark_ask_check(&a, NULL), SPARK_E_LIMIT);
    free((void *)(uintptr_t)a.text.ptr);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ask_round_trip_keeps_everything),
        cmocka_unit_test(test_ask_decode_refuses_counts_that_cannot_be),
        cmocka_unit_test(test_ask_check_refuses_what_is_not_finite_or_too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
