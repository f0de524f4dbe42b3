/* tokenizer_special_test.c - tokens that stand for no text: where they are found, and that text of others never makes one. */
#include "base/clock.h"
#include "text/tokenizer_expect.h"

/* ---- special tokens ---- */

static void test_special_texts_are_parsed_only_when_asked_for(void **state)
{
    (void)state;
    fixture_spec s;
    fixture f;
    fixture_bpe(&s, "gpt-2");
    tt_open(&f, &s);
    tt_expect(&f, "a<|endoftext|>a", SPARK_ENCODE_SPECIAL, "a|<|endoftext|>|a");
    tt_expect(&f, "<|>", 0, "<|||>");
    assert_null(strstr(tt_tokens(&f, SPARK_BYTES_LITERAL("<|endoftext|>"), 0), "endoftext"));
    tt_round_trip(&f, SPARK_BYTES_LITERAL("x<|endoftext|>y"), 0);
    tt_round_trip(&f, SPARK_BYTES_LITERAL("x<|endoftext|>y"), SPARK_ENCODE_SPECIAL);
    fixture_close(&f);
}

static void test_user_defined_tokens_are_always_found_leftmost_then_longest(void **state)
{
    (void)state;
    fixture_spec s;
    fixture f;
    fixture_spm(&s);
    tt_open(&f, &s);
    tt_expect(&f, "h<tool>h", SPARK_ENCODE_CONTINUE, "h|<tool>|" PH "h");
    tt_expect(&f, "<tool>>", SPARK_ENCODE_CONTINUE, "<tool>>");
    tt_expect(&f, "<tool<tool>", SPARK_ENCODE_CONTINUE, "<|<0x74>|o|o|l|<tool>");
    tt_expect(&f, "h   h", SPARK_ENCODE_CONTINUE, "h|  |" PH "|" PH "h");
    tt_round_trip(&f, SPARK_BYTES_LITERAL("h<tool>  h"), 0);
    tt_round_trip(&f, SPARK_BYTES_LITERAL("<tool>hello<|im_end|> hello"), SPARK_ENCODE_SPECIAL);
    fixture_close(&f);
}

static void test_special_tokens_are_found_across_the_blocks_of_the_search(void **state)
{
    (void)state;
    fixture_spec s;
    fixture f;
    fixture_bpe(&s, "gpt-2");
    tt_open(&f, &s);
    const size_t len = 65536 * 2 + 64;
    uint8_t *text = malloc(len);
    for (size_t at = 65536 - 14; at < 65536 + 2; at++) {
        spark_ids ids = {0};
        memset(text, '.', len);
        memcpy(text + at, "<|endoftext|>", 13);
        assert_ok(spark_tokenizer_encode(f.t, (spark_bytes){text, len}, SPARK_ENCODE_SPECIAL, &ids, NULL));
        size_t found = 0;
        for (size_t i = 0; i < ids.n; i++) found += ids.ids[i] == s.eos;
        assert_int_equal(found, 1);
        assert_int_equal(ids.n, len - 12);
        spark_ids_free(&ids);
    }
    free(text);
    fixture_close(&f);
}

static void test_phi3_special_tokens_take_the_space_behind_them(void **state)
{
    (void)state;
    fixture_spec s;
    fixture f;
    fixture_spm(&s);
    s.name = "Phi-3 mini";
    tt_open(&f, &s);
    tt_expect(&f, "h<|im_end|> \n h", SPARK_ENCODE_SPECIAL, PH "h|<|im_end|>|" PH "h");
    tt_expect(&f, "<s> h", SPARK_ENCODE_SPECIAL, "<s>|" PH "|" PH "h");
    fixture_close(&f);
}

static void test_tokens_that_end_a_turn_are_known_by_their_text(void **state)
{
    (void)state;
    fixture_spec s;
    fixture f;
    fixture_bpe(&s, "gpt-2");
    const uint32_t im_end = fixture_add(&s, "<|im_end|>", 1, 0), plain = fixture_add(&s, "<|im_start|>", 3, 0);
    tt_open(&f, &s);
    assert_true(spark_tokenizer_is_eog(f.t, s.eos));
    assert_true(spark_tokenizer_is_eog(f.t, im_end));
    assert_true(spark_tokenizer_is_special(f.t, im_end)); /* whatever its type says */
    assert_false(spark_tokenizer_is_eog(f.t, plain));
    assert_false(spark_tokenizer_is_eog(f.t, 'a'));
    assert_false(spark_tokenizer_is_eog(f.t, SPARK_TOKEN_NONE));
    fixture_close(&f);
}

/* ---- runs ---- */

/* The tokens of a text in runs: parts that begin with '+' are trusted, with '-' not. */
static const char *tt_runs(const fixture *f, const char *const *parts, size_t n)
{
    spark_run runs[16];
    spark_text text = {0};
    spark_ids ids = {0};
    for (size_t i = 0; i < n; i++) {
        const size_t begin = text.len;
        assert_ok(spark_text_append(&text, spark_bytes_of(parts[i] + 1), NULL));
        runs[i] = (spark_run){begin, text.len, parts[i][0] == '+'};
    }
    assert_ok(spark_tokenizer_encode_runs(f->t, (spark_bytes){text.ptr, text.len}, runs, n, &ids, NULL));
    spark_text_free(&text);
    return tt_shown(f, &ids);
}

#define TT_RUNS(f, tokens, ...)                                                                                        \
    do {                                                                                                               \
        const char *const parts[] = {__VA_ARGS__};                                                                     \
        assert_string_equal(tt_runs((f), parts, SPARK_COUNT(parts)), tokens);                                          \
    } while (0)

static void test_runs_make_control_tokens_of_trusted_text_only(void **state)
{
    (void)state;
    fixture_spec s;
    fixture f;
    fixture_bpe(&s, "gpt-2");
    fixture_add(&s, "<|x|>", 3, 0);
    tt_open(&f, &s);
    TT_RUNS(&f, "<|x|>|a", "+<|x|>a");
    TT_RUNS(&f, "<|||x|||>|a", "-<|x|>a");
    TT_RUNS(&f, "<|x|>|<|||x|||>|<|x|>", "+<|x|>", "-<|x|>", "+<|x|>");
    TT_RUNS(&f, "<|||x|||>", "+<|x", "-|>"); /* over a boundary, in both directions */
    TT_RUNS(&f, "<|||x|||>", "-<|x", "+|>");
    TT_RUNS(&f, "<|||x|||>", "+<|", "-x", "+|>");
    TT_RUNS(&f, "<|x|>", "+<|", "+x", "+|>"); /* over trusted ones it is whole */
    fixture_close(&f);
}

static void test_runs_find_user_defined_tokens_whoever_wrote_them(void **state)
{
    (void)state;
    fixture_spec s;
    fixture f;
    fixture_bpe(&s, "gpt-2");
    tt_open(&f, &s);
    TT_RUNS(&f, "a|<tool>|a", "-a<tool>a");
    TT_RUNS(&f, "a|<tool>|a", "-a<to", "+ol>a");
    fixture_close(&f);
}

static void test_untrusted_text_does_not_undo_a_control_token_before_it(void **state)
{
    (void)state;
    fixture_spec s;
    fixture f;
    fixture_bpe(&s, "gpt-2");
    fixture_add(&s, "<|x|>", 3, 0);
    fixture_add(&s, "<|x|>yz", 3, 0);
    fixture_add(&s, "<|x|>y", 3, 0);
    tt_open(&f, &s);
    TT_RUNS(&f, "<|x|>yz", "+<|x|>yz");
    TT_RUNS(&f, "<|x|>|y|z", "+<|x|>", "-yz");
    TT_RUNS(&f, "<|x|>y|z", "+<|x|>y", "-z");
    fixture_close(&f);
}

static void test_runs_that_cut_words_change_nothing(void **state)
{
    (void)state;
    fixture_spec s;
    fixture f;
    fixture_spm(&s);
    tt_open(&f, &s);
    TT_RUNS(&f, PH "hello|" PH "|world", "+hel", "-lo wo", "+r", "-", "-ld");
    TT_RUNS(&f, tt_tokens(&f, SPARK_BYTES_LITERAL("hello  world <s"), 0), "-h", "+ello ", "- world", "+ <", "-s");
    fixture_close(&f);
    fixture_bpe(&s, "llama-bpe");
    tt_open(&f, &s);
    TT_RUNS(&f, "hello|\xC4\xA0hello|123", "-he", "+llo ", "-hel", "+lo1", "-23");
    fixture_close(&f);
}

static void test_special_tokens_strip_untrusted_blanks_too(void **state)
{
    (void)state;
    fixture_spec s;
    fixture f;
    fixture_spm(&s);
    s.name = "Phi-3 mini"; /* takes what is behind a special token */
    tt_open(&f, &s);
    TT_RUNS(&f, PH "h|<|im_end|>|" PH "h", "-h", "+<|im_end|>", "- \n h");
    fixture_close(&f);
    fixture_bpe(&s, "jina-v2-de"); /* takes what is before it */
    fixture_add(&s, "<mask>", 3, 0);
    tt_open(&f, &s);
    TT_RUNS(&f, "a|<mask>|a", "-a  ", "+<mask>", "-a");
    fixture_close(&f);
}

static void test_many_runs_stay_linear(void **state)
{
    (void)state;
    enum { RUNS = 100000, BYTES = 20 };
    fixture_spec s;
    fixture f;
    fixture_bpe(&s, "gpt-2");
    tt_open(&f, &s);
    uint8_t *text = malloc((size_t)RUNS * BYTES);
    spark_run *runs = calloc(RUNS, sizeof *runs);
    for (size_t i = 0; i < RUNS; i++) {
        memcpy(text + i * BYTES, "hello <|endoftext|>\n", BYTES);
        runs[i] = (spark_run){i * BYTES, (i + 1) * BYTES, i % 2 == 0};
    }
    spark_ids ids = {0};
    const uint64_t begin = spark_clock_ns();
    assert_ok(spark_tokenizer_encode_runs(f.t, (spark_bytes){text, (size_t)RUNS * BYTES}, runs, RUNS, &ids, NULL));
    const double seconds = (double)(spark_clock_ns() - begin) / 1e9;
    if (seconds > 20) fail_msg("%d runs take %.1f s", RUNS, seconds);
    size_t found = 0;
    for (size_t i = 0; i < ids.n; i++) found += ids.ids[i] == s.eos;
    assert_int_equal(found, RUNS / 2);
    spark_ids_free(&ids);
    free(runs);
    free(text);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_special_texts_are_parsed_only_when_asked_for),
        cmocka_unit_test(test_user_defined_tokens_are_always_found_leftmost_then_longest),
        cmocka_unit_test(test_special_tokens_are_found_across_the_blocks_of_the_search),
        cmocka_unit_test(test_phi3_special_tokens_take_the_space_behind_them),
        cmocka_unit_test(test_tokens_that_end_a_turn_are_known_by_their_text),
        cmocka_unit_test(test_runs_make_control_tokens_of_trusted_text_only),
        cmocka_unit_test(test_runs_find_user_defined_tokens_whoever_wrote_them),
        cmocka_unit_test(test_untrusted_text_does_not_undo_a_control_token_before_it),
        cmocka_unit_test(test_runs_that_cut_words_change_nothing),
        cmocka_unit_test(test_special_tokens_strip_untrusted_blanks_too),
        cmocka_unit_test(test_many_runs_stay_linear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
