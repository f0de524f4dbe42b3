/* stops_test.c - nothing shown is ever taken back, whatever the boundaries of the pieces. */
#include <string.h>

#include "base/test.h"
#include "base/utf8.h"
#include "engine/stops.h"

/* Pushes `text` in pieces of `step` bytes; returns what was shown, and in *shows whether every part was whole UTF-8. */
static bool run_pieces(const char *text, size_t step, const spark_bytes *stops, size_t n, char *shown, bool *whole)
{
    spark_arena *a = NULL;
    spark_stops s;
    bool stopped = false;
    assert_ok(spark_arena_create(&a, 1 << 20, NULL));
    assert_ok(spark_stops_create(&s, stops, n, step, a, NULL));
    *whole = true;
    size_t len = 0;
    for (size_t at = 0; at < strlen(text) && !stopped; at += step) {
        spark_bytes ready;
        const size_t left = strlen(text) - at;
        stopped = spark_stops_push(&s, (spark_bytes){(const uint8_t *)text + at, left < step ? left : step}, &ready);
        *whole = *whole && spark_utf8_is_valid(ready.ptr, ready.len);
        memcpy(shown + len, ready.ptr, ready.len);
        len += ready.len;
    }
    const spark_bytes last = stopped ? (spark_bytes){NULL, 0} : spark_stops_finish(&s);
    if (last.len) memcpy(shown + len, last.ptr, last.len);
    shown[len + last.len] = 0;
    spark_arena_destroy(&a);
    return stopped;
}

static void test_stop_string_is_found_across_any_boundaries(void **state)
{
    (void)state;
    const spark_bytes stops[] = {spark_bytes_of("</end>"), spark_bytes_of("<|im")};
    for (size_t step = 1; step < 12; step++) {
        char shown[256];
        bool whole = false;
        assert_true(run_pieces("caf\xc3\xa9 <</en <\xe2\x82\xac</end> not this", step, stops, 2, shown, &whole));
        assert_string_equal(shown, "caf\xc3\xa9 <</en <\xe2\x82\xac");
        assert_true(whole);
    }
}

static void test_what_waited_is_shown_at_the_end(void **state)
{
    (void)state;
    const spark_bytes stops[] = {spark_bytes_of("STOP")};
    for (size_t step = 1; step < 8; step++) {
        char shown[256];
        bool whole = false;
        assert_false(run_pieces("no STO", step, stops, 1, shown, &whole));
        assert_string_equal(shown, "no STO");
    }
}

static void test_a_character_is_never_cut_and_a_torn_one_never_shown(void **state)
{
    (void)state;
    for (size_t step = 1; step < 8; step++) {
        char shown[256];
        bool whole = false;
        assert_false(run_pieces("\xf0\x9f\x98\x80 \xf0\x9f\x98", step, NULL, 0, shown, &whole));
        assert_string_equal(shown, "\xf0\x9f\x98\x80 ");
        assert_true(whole);
    }
}

static void test_the_earliest_of_several_stops_wins(void **state)
{
    (void)state;
    const spark_bytes stops[] = {spark_bytes_of("cd"), spark_bytes_of("bcde")};
    char shown[256];
    bool whole = false;
    assert_true(run_pieces("abcdef", 6, stops, 2, shown, &whole));
    assert_string_equal(shown, "a");
}

static void test_empty_and_giant_stops_are_refused(void **state)
{
    (void)state;
    spark_arena *a = NULL;
    spark_stops s;
    static uint8_t big[5000];
    assert_ok(spark_arena_create(&a, 1 << 20, NULL));
    assert_code(spark_stops_create(&s, &(spark_bytes){big, 0}, 1, 8, a, NULL), SPARK_E_ARGUMENT);
    assert_code(spark_stops_create(&s, &(spark_bytes){big, 5000}, 1, 8, a, NULL), SPARK_E_ARGUMENT);
    spark_arena_destroy(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stop_string_is_found_across_any_boundaries),
        cmocka_unit_test(test_what_waited_is_shown_at_the_end),
        cmocka_unit_test(test_a_character_is_never_cut_and_a_torn_one_never_shown),
        cmocka_unit_test(test_the_earliest_of_several_stops_wins),
        cmocka_unit_test(test_empty_and_giant_stops_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
