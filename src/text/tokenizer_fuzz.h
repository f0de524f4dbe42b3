/* tokenizer_fuzz.h - the body of spm_fuzz, bpe_fuzz and wpm_fuzz: any text on a small vocabulary. Not only crashes count:
 * every id must lie in the vocabulary, no ordinary text may become a control token, what is lossless must come back, and
 * for SPM a naive merging of the whole text must give the same ids. Each target defines
 *   void fuzz_spec(fixture_spec *s, uint8_t choice); and FUZZ_LOSSLESS, FUZZ_NAIVE as 0 or 1, before it includes this.
 * Input: one byte of encode flags, one byte of choice, then the text. */
#ifndef SPARK_TEXT_TOKENIZER_FUZZ_H
#define SPARK_TEXT_TOKENIZER_FUZZ_H

#include "text/tokenizer_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_CLAIM(x)                                                                                                  \
    do {                                                                                                               \
        if (!(x)) abort();                                                                                             \
    } while (0)

/* The text as SPM sees it: U+2581 is a blank. */
static void fuzz_normalize(spark_bytes text, spark_text *out)
{
    for (size_t i = 0; i < text.len; i++) {
        const bool phantom = FUZZ_NAIVE && text.len - i >= 3 && memcmp(text.ptr + i, "\xE2\x96\x81", 3) == 0;
        const uint8_t byte = phantom ? ' ' : text.ptr[i];
        FUZZ_CLAIM(spark_ok(spark_text_append(out, (spark_bytes){&byte, 1}, NULL)));
        i += phantom ? 2 : 0;
    }
}

static void fuzz_comes_back(const fixture *f, spark_bytes text, const spark_ids *ids)
{
    spark_text back = {0}, want = {0}, got = {0};
    FUZZ_CLAIM(spark_ok(spark_tokenizer_decode(f->t, ids->ids, ids->n, &back, NULL)));
    fuzz_normalize(text, &want);
    fuzz_normalize((spark_bytes){back.ptr, back.len}, &got); /* a U+2581 of byte tokens */
    if (FUZZ_LOSSLESS)
        FUZZ_CLAIM(spark_bytes_equal((spark_bytes){want.ptr, want.len}, (spark_bytes){got.ptr, got.len}));
    spark_text_free(&back);
    spark_text_free(&want);
    spark_text_free(&got);
}

#if FUZZ_NAIVE
#include "base/utf8.h"

/* The ordinary token of a text, straight from the spec. */
static uint32_t fuzz_find(const fixture_spec *s, const uint8_t *p, size_t len)
{
    for (uint32_t i = 0; i < s->n; i++)
        if ((s->tokens[i].type == 1 || s->tokens[i].type == 4) && strlen(s->tokens[i].text) == len &&
            memcmp(s->tokens[i].text, p, len) == 0)
            return i;
    return SPARK_TOKEN_NONE;
}

/* Merges the whole text, best pair first, by looking at all of them each time. */
static void fuzz_naive(const fixture_spec *s, const fixture *f, spark_bytes text)
{
    uint8_t escaped[3 * 200];
    size_t len = 0, ends[600], n = 0;
    spark_ids got = {0};
    if (text.len > 200 || s->space_prefix > 0) return;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '<' || (text.ptr[i] == ' ' && i + 1 < text.len && text.ptr[i + 1] == ' '))
            return; /* special */
        const bool space = text.ptr[i] == ' ';
        memcpy(escaped + len, space ? (const uint8_t *)"\xE2\x96\x81" : text.ptr + i, space ? 3 : 1);
        len += space ? 3 : 1;
    }
    for (size_t i = 0; i < len; n++) {
        uint32_t cp;
        const size_t c = spark_utf8_decode(escaped + i, len - i, &cp);
        i += c ? c : 1;
        ends[n] = i;
    }
    for (;;) {
        size_t best = SIZE_MAX;
        float score = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            const size_t begin = i ? ends[i - 1] : 0;
            const uint32_t id = fuzz_find(s, escaped + begin, ends[i + 1] - begin);
            if (id == SPARK_TOKEN_NONE || (best != SIZE_MAX && s->tokens[id].score <= score)) continue;
            best = i;
            score = s->tokens[id].score;
        }
        if (best == SIZE_MAX) break;
        memmove(ends + best, ends + best + 1, (n - best - 1) * sizeof *ends);
        n--;
    }
    FUZZ_CLAIM(spark_ok(spark_tokenizer_encode(f->t, text, SPARK_ENCODE_CONTINUE, &got, NULL)));
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        const size_t begin = i ? ends[i - 1] : 0;
        const uint32_t id = fuzz_find(s, escaped + begin, ends[i] - begin);
        if (id != SPARK_TOKEN_NONE)
            FUZZ_CLAIM(k < got.n && got.ids[k++] == id);
        else
            for (size_t b = begin; b < ends[i]; b++) FUZZ_CLAIM(k < got.n && got.ids[k++] == 3u + escaped[b]);
    }
    FUZZ_CLAIM(k == got.n);
    spark_ids_free(&got);
}
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static fixture loaded[8]; /* by choice; lives as long as the program */
    static fixture_spec specs[8];
    if (size < 2) return 0;
    const unsigned flags = data[0] % 8, choice = data[1] % 8;
    const spark_bytes text = {data + 2, size - 2};
    fixture *f = &loaded[choice];
    if (!f->t) {
        fuzz_spec(&specs[choice], (uint8_t)choice);
        FUZZ_CLAIM(spark_ok(fixture_open(f, &specs[choice], NULL)));
    }
    spark_ids ids = {0};
    FUZZ_CLAIM(spark_ok(spark_tokenizer_encode(f->t, text, flags, &ids, NULL)));
    const bool prefixed = !(flags & SPARK_ENCODE_CONTINUE) || spark_tokenizer_model(f->t)[0] != 'l';
    for (size_t i = 0; i < ids.n; i++) {
        FUZZ_CLAIM(ids.ids[i] < spark_tokenizer_n_vocab(f->t));
        const bool added = (flags & SPARK_ENCODE_ADD) && (i == 0 || i + 1 == ids.n);
        if (!(flags & SPARK_ENCODE_SPECIAL) && !added && FUZZ_LOSSLESS)
            FUZZ_CLAIM(!spark_tokenizer_is_special(f->t, ids.ids[i]));
    }
    if (prefixed && (flags & SPARK_ENCODE_SPECIAL) == 0) fuzz_comes_back(f, text, &ids);
#if FUZZ_NAIVE
    fuzz_naive(&specs[choice], f, text);
#endif
    spark_ids_free(&ids);
    return 0;
}

#endif
