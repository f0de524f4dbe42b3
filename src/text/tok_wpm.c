/* tok_wpm.c - WordPiece ("bert"): the text is normalized and cut at white space, punctuation and East Asian characters;
 * each word, with U+2581 before it, is read as its longest known prefixes, or is unknown as a whole. GGUF stores the
 * vocabulary that way: "the" as U+2581 "the", "##s" as "s". Source: BERT's tokenization.py, BasicTokenizer. */
#include "text/tokenizer_internal.h"
#include "text/unichar.h"

spark_status spark__wpm_load(spark_tokenizer *t, const spark_gguf *g, spark_arena *a, spark_err *err)
{
    spark__wpm *w = &t->as.wpm;
    w->lowercase = true;
    SPARK_TRY(spark_gguf_get_bool(g, "tokenizer.ggml.normalizer.lowercase", &w->lowercase, NULL, err));
    w->strip_accents = w->lowercase;
    SPARK_TRY(spark_gguf_get_bool(g, "tokenizer.ggml.normalizer.strip_accents", &w->strip_accents, NULL, err));
    for (uint32_t cp = 0; cp < 128; cp++)
        if (spark__ascii_class[cp] & (SPARK__LETTER | SPARK__NUMBER))
            w->within[cp] = (uint8_t)(w->lowercase ? spark__char_lower(cp) : cp);
    SPARK_CHECK(t->unk != SPARK_TOKEN_NONE, err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE,
                "tokenizer.ggml.unknown_token_id is missing");
    spark__trie_entry *entries = malloc(t->n * sizeof *entries);
    SPARK_CHECK(entries, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory for %u tokens", t->n);
    size_t n = 0;
    for (uint32_t i = 0; i < t->n; i++)
        if (t->tokens[i].len > 0 && !spark__token_is_special(t, i))
            entries[n++] = (spark__trie_entry){t->tokens[i], i, true};
    const spark_status s = spark__trie_build(&w->trie, entries, n, false, a, err);
    free(entries);
    return s;
}

static spark_status wpm_encode_word(spark__encoder *e, spark_bytes word, spark_err *err)
{
    const size_t before = e->out->n;
    for (size_t i = 0; i < word.len;) {
        size_t len = 0;
        const uint32_t id = spark__trie_longest(e->t->as.wpm.trie, word.ptr + i, word.len - i, &len);
        if (id == SPARK__TRIE_NONE) {
            e->out->n = before; /* one part unknown: the word is unknown */
            return spark_ids_push(e->out, e->t->unk, err);
        }
        SPARK_TRY(spark_ids_push(e->out, id, err));
        i += len;
    }
    return SPARK_SUCCESS;
}

/* e->word holds the phantom space and, if it is longer, a word. */
static spark_status wpm_flush(spark__encoder *e, spark_err *err)
{
    if (e->word.len <= 3) return SPARK_SUCCESS;
    const spark_bytes word = {e->word.ptr, e->word.len};
    e->word.len = 3;
    return spark__encode_cached(e, word, wpm_encode_word, err);
}

/* Characters that are words of their own. Source: BERT's _is_chinese_char, with the gap before U+2B920 that the tokenizers
 * library has. */
static bool wpm_is_east_asian(uint32_t cp)
{
    return (cp >= 0x4E00 && cp <= 0x9FFF) || (cp >= 0x3400 && cp <= 0x4DBF) || (cp >= 0x20000 && cp <= 0x2A6DF) ||
           (cp >= 0x2A700 && cp <= 0x2B81F) || (cp >= 0x2B920 && cp <= 0x2CEAF) || (cp >= 0xF900 && cp <= 0xFAFF) ||
           (cp >= 0x2F800 && cp <= 0x2FA1F);
}

/* One character, already decomposed. */
static spark_status wpm_char(spark__encoder *e, uint32_t cp, spark_err *err)
{
    const spark__wpm *w = &e->t->as.wpm;
    const uint32_t class = spark__char_class(cp);
    if (class & SPARK__SPACE) return wpm_flush(e, err);
    if (cp == 0 || cp == 0xFFFD || (class & SPARK__CONTROL) || (w->strip_accents && (class & SPARK__NONSPACING)))
        return SPARK_SUCCESS;
    uint8_t utf8[SPARK_UTF8_MAX];
    const size_t n = spark_utf8_encode(w->lowercase ? spark__char_lower(cp) : cp, utf8);
    const bool alone = (class & SPARK__PUNCT) || (cp < 0x7F && (class & SPARK__SYMBOL)) || wpm_is_east_asian(cp);
    if (alone) SPARK_TRY(wpm_flush(e, err));
    SPARK_TRY(spark_text_append(&e->word, (spark_bytes){utf8, n}, err));
    return alone ? wpm_flush(e, err) : SPARK_SUCCESS;
}

/* Where the ASCII letters and digits end that stand at `begin`. */
static size_t wpm_letters_end(const spark__wpm *w, spark_bytes text, size_t begin)
{
    size_t at = begin;
    while (at < text.len && text.ptr[at] < 0x80 && w->within[text.ptr[at]]) at++;
    return at;
}

/* Takes them into the word, all at once: what wpm_char does with each. */
static spark_status wpm_letters(spark__encoder *e, spark_bytes letters, spark_err *err)
{
    SPARK_TRY(spark_text_append(&e->word, letters, err));
    uint8_t *added = e->word.ptr + e->word.len - letters.len;
    for (size_t i = 0; i < letters.len; i++) added[i] = e->t->as.wpm.within[added[i]];
    return SPARK_SUCCESS;
}

spark_status spark__wpm_encode(spark__encoder *e, spark_bytes text, spark_err *err)
{
    e->word.len = 0;
    SPARK_TRY(spark_text_append(&e->word, SPARK_BYTES_LITERAL(SPARK__PHANTOM), err));
    for (size_t i = 0; i < text.len;) {
        const size_t end = wpm_letters_end(&e->t->as.wpm, text, i);
        if (end > i) {
            SPARK_TRY(wpm_letters(e, (spark_bytes){text.ptr + i, end - i}, err));
            i = end;
            continue;
        }
        const spark__char c = spark__char_at(text.ptr, i, text.len);
        uint32_t parts[SPARK__NFD_MAX] = {c.cp};
        const size_t n = c.cp >= 0x80 && e->t->as.wpm.strip_accents ? spark__char_nfd(c.cp, parts) : 1;
        for (size_t k = 0; k < n; k++) SPARK_TRY(wpm_char(e, parts[k], err));
        i += c.len;
    }
    return wpm_flush(e, err);
}
