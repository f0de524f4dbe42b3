/* tokenizer_expect.h - for the tests of this room: which tokens a text must become, on a vocabulary of tokenizer_fixture.h. */
#ifndef SPARK_TOKENIZER_EXPECT_H
#define SPARK_TOKENIZER_EXPECT_H

#include "base/test.h"
#include "text/tokenizer_fixture.h"

SPARK_UNUSED static void tt_open(fixture *f, const fixture_spec *s)
{
    spark_err err = {0};
    if (!spark_ok(fixture_open(f, s, &err))) fail_msg("%s", err.text);
}

/* Loading must fail with this code and name this in its message. */
SPARK_UNUSED static void tt_refused(const fixture_spec *s, spark_code code, const char *named)
{
    fixture f;
    spark_err err = {0};
    assert_code(fixture_open(&f, s, &err), code);
    if (!strstr(err.text, named)) fail_msg("'%s' does not name %s", err.text, named);
    fixture_close(&f);
}

/* Ids as tokens, each as the file writes it, separated by '|'; frees them. */
SPARK_UNUSED static const char *tt_shown(const fixture *f, spark_ids *ids)
{
    static char shown[1024];
    size_t n = 0;
    shown[0] = 0;
    for (size_t i = 0; i < ids->n; i++) {
        const spark_bytes token = spark_tokenizer_token(f->t, ids->ids[i]);
        n += (size_t)snprintf(shown + n, sizeof shown - n, "%s%.*s", i ? "|" : "", (int)token.len,
                              (const char *)token.ptr);
    }
    spark_ids_free(ids);
    return shown;
}

SPARK_UNUSED static const char *tt_tokens(const fixture *f, spark_bytes text, unsigned flags)
{
    spark_ids ids = {0};
    assert_ok(spark_tokenizer_encode(f->t, text, flags, &ids, NULL));
    return tt_shown(f, &ids);
}

SPARK_UNUSED static void tt_expect(const fixture *f, const char *text, unsigned flags, const char *tokens)
{
    assert_string_equal(tt_tokens(f, spark_bytes_of(text), flags), tokens);
}

SPARK_UNUSED static void tt_round_trip(const fixture *f, spark_bytes text, unsigned flags)
{
    spark_ids ids = {0};
    spark_text back = {0};
    assert_ok(spark_tokenizer_encode(f->t, text, flags, &ids, NULL));
    assert_ok(spark_tokenizer_decode(f->t, ids.ids, ids.n, &back, NULL));
    assert_int_equal(back.len, text.len);
    if (text.len) assert_memory_equal(back.ptr, text.ptr, text.len);
    spark_text_free(&back);
    spark_ids_free(&ids);
}

SPARK_UNUSED static uint32_t tt_random(uint32_t *x) { return *x = *x * 1664525u + 1013904223u; }

#define PH "\xE2\x96\x81"

#endif
