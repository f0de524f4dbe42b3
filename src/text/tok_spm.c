/* tok_spm.c - SentencePiece BPE ("llama"): characters are merged by the score of the token they make. The text is cut into
 * words wherever the two bytes that meet are neighbours in no token of the vocabulary: a merge across such a place would
 * have to make such a token, so it is never made, and merging each side alone gives the same ids. That keeps merging local
 * and makes words that come again. Source: SentencePiece bpe_model.cc; as there, control, unknown and byte tokens are
 * never made of text. */
#include <math.h>

#include "text/tokenizer_internal.h"
#include "text/unichar.h"

static const spark_bytes spm_phantom = {(const uint8_t *)SPARK__PHANTOM, 3};

static bool spm_is_phantom(const uint8_t *p, size_t left) { return left >= 3 && memcmp(p, SPARK__PHANTOM, 3) == 0; }

/* Floats in the order of integers, highest first; -0 counts as 0. */
static uint32_t spm_rank(float score)
{
    const float s = score + 0.0f;
    uint32_t u;
    memcpy(&u, &s, sizeof u);
    return (u & 0x80000000u) ? u : ~(u | 0x80000000u);
}

static spark_status spm_load_scores(spark_tokenizer *t, const spark_gguf *g, spark_arena *a, spark_err *err)
{
    spark_gguf_value scores;
    bool found = false;
    SPARK_TRY(spark_gguf_get_array(g, "tokenizer.ggml.scores", SPARK_GGUF_F32, &scores, &found, err));
    SPARK_CHECK(found, err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE, "tokenizer.ggml.scores is missing");
    SPARK_CHECK(scores.n >= t->n, err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE,
                "tokenizer.ggml.scores has %llu entries for %u tokens", (unsigned long long)scores.n, t->n);
    SPARK_TRY(SPARK_NEW(a, t->n, &t->as.spm.rank, err));
    for (uint32_t i = 0; i < t->n; i++) {
        const float score = spark_load_f32(scores.as.s.ptr + (size_t)4 * i);
        SPARK_CHECK(!isnan(score), err, SPARK_E_FORMAT, i, "tokenizer.ggml.scores: the score of token %u is no number",
                    i);
        t->as.spm.rank[i] = spm_rank(score);
    }
    return SPARK_SUCCESS;
}

static spark_status spm_load_bytes(spark_tokenizer *t, spark_err *err)
{
    for (int b = 0; b < 256; b++) t->as.spm.byte[b] = SPARK_TOKEN_NONE;
    for (uint32_t i = 0; i < t->n; i++) {
        uint8_t byte = 0;
        const bool is_byte = spark__token_byte(t->tokens[i], &byte);
        SPARK_CHECK(is_byte || t->type[i] != SPARK__TOKEN_BYTE, err, SPARK_E_FORMAT, i,
                    "tokenizer.ggml.tokens: token %u has the type of a byte, but its text is not <0xNN>", i);
        if (is_byte && t->as.spm.byte[byte] == SPARK_TOKEN_NONE) t->as.spm.byte[byte] = i;
    }
    for (int b = 0; b < 256; b++) { /* a vocabulary without byte tokens says "unknown" */
        const uint8_t one = (uint8_t)b;
        if (t->as.spm.byte[b] != SPARK_TOKEN_NONE) continue;
        const uint32_t id = spark__plain_get(t, (spark_bytes){&one, 1});
        t->as.spm.byte[b] = id != SPARK_TOKEN_NONE ? id : t->unk;
        SPARK_CHECK(t->as.spm.byte[b] != SPARK_TOKEN_NONE, err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE,
                    "tokenizer.ggml.tokens has no byte tokens and tokenizer.ggml.unknown_token_id is missing");
    }
    return SPARK_SUCCESS;
}

static void spm_join(spark__spm *m, uint8_t left, uint8_t right)
{
    m->joined[left][right / 64] |= (uint64_t)1 << right % 64;
}

static bool spm_joined(const spark__spm *m, uint8_t left, uint8_t right)
{
    return m->joined[left][right / 64] >> right % 64 & 1;
}

spark_status spark__spm_load(spark_tokenizer *t, const spark_gguf *g, spark_arena *a, spark_err *err)
{
    SPARK_TRY(spm_load_scores(t, g, a, err));
    SPARK_TRY(spm_load_bytes(t, err));
    for (uint32_t i = 0; i < t->n; i++) {
        const spark_bytes piece = spark__token_piece(t, i); /* has blanks for U+2581 */
        if (!(t->flags[i] & SPARK__PLAIN)) continue;
        for (size_t k = 1; k < piece.len; k++) spm_join(&t->as.spm, piece.ptr[k - 1], piece.ptr[k]);
    }
    return SPARK_SUCCESS;
}

static uint32_t spm_pair(const void *ctx, const spark__merger *m, uint32_t left, uint32_t right, uint32_t *made)
{
    const spark__encoder *e = ctx;
    const uint32_t begin = m->symbols[left].begin, end = m->symbols[m->symbols[right].next].begin;
    if (end - begin > e->t->max_plain) return SPARK__NO_RANK;
    *made = spark__plain_get(e->t, (spark_bytes){e->word.ptr + begin, end - begin});
    return *made == SPARK_TOKEN_NONE ? SPARK__NO_RANK : e->t->as.spm.rank[*made];
}

/* A symbol that is no token: its bytes, or one unknown token for all of them. */
static spark_status spm_push_bytes(spark__encoder *e, spark_bytes symbol, spark_err *err)
{
    const uint32_t *byte = e->t->as.spm.byte;
    for (size_t i = 0; i < symbol.len; i++) {
        if (i > 0 && byte[symbol.ptr[i]] == e->t->unk && byte[symbol.ptr[i - 1]] == e->t->unk) continue;
        SPARK_TRY(spark_ids_push(e->out, byte[symbol.ptr[i]], err));
    }
    return SPARK_SUCCESS;
}

/* The ids of e->word, which is spelled as the vocabulary does. */
static spark_status spm_encode_spelled(spark__encoder *e, spark_err *err)
{
    const uint8_t *p = e->word.ptr;
    const size_t len = e->word.len;
    size_t chars = len;
    if (len > e->merger.cap) { /* count only when the sure bound would take more memory */
        chars = 0;
        for (size_t i = 0; i < len; i += spark__char_at(p, i, len).len) chars++;
    }
    SPARK_TRY(spark__merger_reserve(&e->merger, chars, err));
    spark__symbol *s = e->merger.symbols;
    uint32_t n = 0;
    for (size_t i = 0; i < len; i += spark__char_at(p, i, len).len)
        s[n++] = (spark__symbol){.id = SPARK_TOKEN_NONE, .begin = (uint32_t)i};
    s[n].begin = (uint32_t)len;
    spark__merge_run(&e->merger, n, spm_pair, spm_pair, e);
    for (uint32_t i = 0; i < n; i = s[i].next) {
        const spark_bytes symbol = {p + s[i].begin, s[s[i].next].begin - s[i].begin};
        const uint32_t id = s[i].id != SPARK_TOKEN_NONE ? s[i].id : spark__plain_get(e->t, symbol);
        if (id != SPARK_TOKEN_NONE)
            SPARK_TRY(spark_ids_push(e->out, id, err));
        else
            SPARK_TRY(spm_push_bytes(e, symbol, err));
    }
    return SPARK_SUCCESS;
}

/* Appends a word to e->word as the vocabulary spells it: with U+2581 for a blank. */
static spark_status spm_spell(spark__encoder *e, spark_bytes word, spark_err *err)
{
    for (size_t i = 0; i < word.len;) {
        const bool space = word.ptr[i] == ' ';
        size_t n = 1; /* up to the next blank */
        while (!space && i + n < word.len && word.ptr[i + n] != ' ') n++;
        SPARK_TRY(spark_text_append(&e->word, space ? spm_phantom : (spark_bytes){word.ptr + i, n}, err));
        i += n;
    }
    return SPARK_SUCCESS;
}

static spark_status spm_encode_word(spark__encoder *e, spark_bytes word, spark_err *err)
{
    e->word.len = 0;
    SPARK_TRY(spm_spell(e, word, err));
    return spm_encode_spelled(e, err);
}

/* Where the word ends that starts at `begin`: at the first place that no token reaches across. Bytes of one character, or
 * that may be one, stay together. prefixed: U+2581 stands before the word. */
static size_t spm_word_end(const spark__spm *m, spark_bytes text, size_t begin, bool prefixed)
{
    int last = prefixed ? ' ' : -1;
    for (size_t i = begin; i < text.len;) {
        const bool phantom = spm_is_phantom(text.ptr + i, text.len - i);
        const uint8_t byte = phantom ? ' ' : text.ptr[i];
        if (last >= 0 && (byte < 0x80 || last < 0x80) && !spm_joined(m, (uint8_t)last, byte)) return i;
        last = byte;
        i += phantom ? spm_phantom.len : 1;
    }
    return text.len;
}

spark_status spark__spm_encode(spark__encoder *e, spark_bytes text, bool first, spark_err *err)
{
    const spark__spm *m = &e->t->as.spm;
    size_t begin = 0;
    if (first && e->t->space_prefix) { /* this word is not in the text as it is spelled */
        begin = spm_word_end(m, text, 0, true);
        e->word.len = 0;
        SPARK_TRY(spark_text_append(&e->word, spm_phantom, err));
        SPARK_TRY(spm_spell(e, (spark_bytes){text.ptr, begin}, err));
        SPARK_TRY(spm_encode_spelled(e, err));
    }
    while (begin < text.len) {
        const size_t end = spm_word_end(m, text, begin, false);
        SPARK_TRY(spark__encode_cached(e, (spark_bytes){text.ptr + begin, end - begin}, spm_encode_word, err));
        begin = end;
    }
    return SPARK_SUCCESS;
}
