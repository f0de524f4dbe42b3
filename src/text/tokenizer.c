/* tokenizer.c - the public face: takes special tokens out of a text, adds those the vocabulary asks for, and turns ids
 * back into bytes. Of special tokens that overlap, the leftmost counts, and of those the longest, as in the libraries
 * that models are trained with. */
#include "text/tokenizer.h"

#include "base/spark_limits.h"
#include "text/tokenizer_internal.h"

/* Bytes that are searched for special tokens at a time: bounds the memory for the places found. */
#define TOK_BLOCK 65536u

/* Bytes of a special token that can be taken off in search of a shorter one; real ones have below 64. */
#define TOK_SHORTER 256

static bool tok_is_space(uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* Ordinary text between special tokens. */
static spark_status tok_encode_plain(spark__encoder *e, spark_bytes text, bool first, spark_err *err)
{
    if (text.len == 0) return SPARK_SUCCESS;
    switch (e->t->kind) {
    case SPARK__SPM: return spark__spm_encode(e, text, first, err);
    case SPARK__BPE: return spark__bpe_encode(e, text, err);
    case SPARK__WPM: break;
    }
    return spark__wpm_encode(e, text, err);
}

/* How far a text has been turned into ids. */
typedef struct tok_progress {
    size_t done; /* bytes that are ids already */
    bool first;  /* at the beginning or behind a special token */
} tok_progress;

static spark_status tok_encode_special(spark__encoder *e, spark_bytes text, tok_progress *p, size_t at, uint32_t id,
                                       spark_err *err)
{
    const spark_tokenizer *t = e->t;
    size_t end = at;
    if (t->flags[id] & SPARK__LSTRIP)
        while (end > p->done && tok_is_space(text.ptr[end - 1])) end--;
    SPARK_TRY(tok_encode_plain(e, (spark_bytes){text.ptr + p->done, end - p->done}, p->first, err));
    SPARK_TRY(spark_ids_push(e->out, id, err));
    p->done = at + t->tokens[id].len;
    if (t->flags[id] & SPARK__RSTRIP)
        while (p->done < text.len && tok_is_space(text.ptr[p->done])) p->done++;
    p->first = true;
    return SPARK_SUCCESS;
}

/* Which special tokens a text may hold: those that are always found, and the rest where the text is trusted. */
typedef struct tok_trust {
    bool all;              /* the whole text is trusted */
    const spark_run *runs; /* or these runs of it, in order; NULL = none */
    size_t n_runs;
} tok_trust;

/* Whether [begin, end) lies wholly in trusted runs. Places are asked from the last to the first, so *hint, a run behind or
 * at the place, only moves left: linear in the text. */
static bool tok_trusted(const tok_trust *trust, size_t *hint, size_t begin, size_t end)
{
    if (trust->all) return true;
    while (*hint > 0 && trust->runs[*hint].begin > begin) --*hint;
    for (size_t i = *hint; i < trust->n_runs && trust->runs[i].begin < end; i++)
        if (trust->runs[i].end > begin && !trust->runs[i].trusted) return false;
    return trust->n_runs > 0 && trust->runs[trust->n_runs - 1].end >= end;
}

/* The last run that begins before `end`: where a search from there to the left starts. */
static size_t tok_last_run(const tok_trust *trust, size_t end)
{
    size_t lo = 0, hi = trust->n_runs;
    while (hi - lo > 1) {
        const size_t mid = lo + (hi - lo) / 2;
        if (trust->runs[mid].begin < end)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

/* The longest special token at a place whose longest one reaches into text that is not trusted: untrusted text behind a
 * control token must not undo it by making it a longer one. The steps are bounded, so that no vocabulary makes it slow. */
static uint32_t tok_shorter(const spark_tokenizer *t, const tok_trust *trust, size_t *hint, size_t at, uint32_t state)
{
    const uint32_t always = spark__trie_begins(t->special, state, false);
    for (int step = 0; step < TOK_SHORTER && state != 0; step++) {
        uint32_t id = SPARK__TRIE_NONE;
        state = spark__trie_shorten(t->special, state, &id);
        if (id == SPARK__TRIE_NONE) continue;
        if (always != SPARK__TRIE_NONE && t->tokens[id].len <= t->tokens[always].len) break;
        if (tok_trusted(trust, hint, at, at + t->tokens[id].len)) return id;
    }
    return always;
}

/* Where special tokens may begin in text[begin, end), last place first, as pairs (offset from begin, id). */
static spark_status tok_search(const spark_tokenizer *t, spark_bytes text, size_t begin, size_t end,
                               const tok_trust *trust, spark_ids *found, spark_err *err)
{
    const bool all = trust->all || trust->n_runs > 0;
    const size_t longest = t->max_special[all];
    const size_t from = text.len - end < longest ? text.len : end + longest; /* they may reach over the end */
    size_t hint = tok_last_run(trust, end);
    uint32_t state = 0;
    found->n = 0;
    for (size_t i = from; i-- > begin;) {
        state = spark__trie_step(t->special, state, text.ptr[i]);
        if (i >= end || state == 0) continue;
        uint32_t id = spark__trie_begins(t->special, state, all);
        if (id != SPARK__TRIE_NONE && all && !tok_trusted(trust, &hint, i, i + t->tokens[id].len))
            id = tok_shorter(t, trust, &hint, i, state);
        if (id == SPARK__TRIE_NONE) continue;
        SPARK_TRY(spark_ids_push(found, (uint32_t)(i - begin), err));
        SPARK_TRY(spark_ids_push(found, id, err));
    }
    return SPARK_SUCCESS;
}

static spark_status tok_encode_text(spark__encoder *e, spark_bytes text, const tok_trust *trust, bool first,
                                    spark_ids *found, spark_err *err)
{
    const bool all = trust->all || trust->n_runs > 0;
    tok_progress p = {0, first};
    const size_t block = e->t->max_special[all] > TOK_BLOCK ? e->t->max_special[all] : TOK_BLOCK;
    for (size_t begin = 0; begin < text.len && e->t->max_special[all] > 0;) {
        const size_t end = text.len - begin < block ? text.len : begin + block;
        SPARK_TRY(tok_search(e->t, text, begin, end, trust, found, err));
        for (size_t i = found->n; i > 0; i -= 2) {
            const size_t at = begin + found->ids[i - 2];
            if (at >= p.done) SPARK_TRY(tok_encode_special(e, text, &p, at, found->ids[i - 1], err));
        }
        begin = p.done > end ? p.done : end;
    }
    return tok_encode_plain(e, (spark_bytes){text.ptr + p.done, text.len - p.done}, p.first, err);
}

static uint32_t tok_last(const spark_tokenizer *t) /* what ADD puts at the end */
{
    return t->add_eos ? t->eos : t->add_sep ? t->sep : SPARK_TOKEN_NONE;
}

/* Bytes that the vocabulary's way of writing makes of n bytes of text: three for a blank (SPM), a phantom before a word. */
static size_t tok_spelled(size_t n) { return 3 * n + 16; }

/* Ids for n bytes of text: a token is at least one byte, BOS and its kin are added. */
static size_t tok_most_ids(size_t n) { return n + 8; }

/* In an arena whatever is outgrown stays lying there. So all that can be large is made as long as it can get, save the merger: that
 * comes last, and so grows in place. */
static spark_status tok_plan(spark__encoder *e, size_t n, spark_ids *found, spark_err *err)
{
    const size_t n_found = n < TOK_BLOCK ? n : TOK_BLOCK;
    SPARK_TRY(spark__ids_reserve(e->out, tok_most_ids(n), err));
    if (e->t->max_special[1] > 0) SPARK_TRY(spark__ids_reserve(found, 2 * n_found, err));
    if (e->t->kind == SPARK__BPE) return SPARK_SUCCESS;
    return spark__text_reserve(&e->word, tok_spelled(n), err);
}

size_t spark_tokenizer_encode_bytes(size_t n)
{
    const size_t per_table = 64; /* alignment and red zones */
    const size_t n_found = n < TOK_BLOCK ? n : TOK_BLOCK;
    if (n > SPARK_MAX_TEXT) return SIZE_MAX;
    return tok_most_ids(n) * sizeof(uint32_t) + 2 * n_found * sizeof(uint32_t) + tok_spelled(n) +
           spark__word_cache_bytes(n) + spark__merger_bytes(n + n / 4 + 256) + 5 * per_table;
}

static spark_status tok_encode(const spark_tokenizer *t, spark_bytes text, unsigned flags, const tok_trust *trust,
                               spark_ids *out, spark_err *err)
{
    SPARK_CHECK(text.len <= SPARK_MAX_TEXT, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "the text has %zu bytes, over the limit %u", text.len, SPARK_MAX_TEXT);
    const size_t before = out->n;
    const bool add = flags & SPARK_ENCODE_ADD;
    spark_arena *a = out->arena;
    spark__encoder e = {.t = t, .out = out, .merger.arena = a, .word.arena = a};
    spark_ids found = {.arena = a};
    spark_status s = spark__word_cache_create(&e.cache, text.len, t->plain.seed, a, err);
    if (spark_ok(s) && a) s = tok_plan(&e, text.len, &found, err);
    if (spark_ok(s) && add && t->add_bos) s = spark_ids_push(out, t->bos, err);
    if (spark_ok(s)) s = tok_encode_text(&e, text, trust, !(flags & SPARK_ENCODE_CONTINUE), &found, err);
    if (spark_ok(s) && add && tok_last(t) != SPARK_TOKEN_NONE) s = spark_ids_push(out, tok_last(t), err);
    if (!spark_ok(s)) out->n = before;
    spark_ids_free(&found);
    spark__merger_free(&e.merger);
    spark__word_cache_free(&e.cache);
    spark_text_free(&e.word);
    return s;
}

spark_status spark_tokenizer_encode(const spark_tokenizer *t, spark_bytes text, unsigned flags, spark_ids *out,
                                    spark_err *err)
{
    const tok_trust trust = {.all = flags & SPARK_ENCODE_SPECIAL};
    return tok_encode(t, text, flags, &trust, out, err);
}

spark_status spark_tokenizer_encode_runs(const spark_tokenizer *t, spark_bytes text, const spark_run *runs,
                                         size_t n_runs, spark_ids *out, spark_err *err)
{
    const tok_trust trust = {.runs = runs, .n_runs = n_runs};
    return tok_encode(t, text, 0, &trust, out, err);
}

/* Whether encoding puts a space between this token and text behind it, as it does at the beginning. */
static bool tok_splits(const spark_tokenizer *t, uint32_t id)
{
    return t->kind == SPARK__SPM && (spark__token_is_special(t, id) || t->type[id] == SPARK__TOKEN_USER_DEFINED);
}

static spark_status tok_decode(const spark_tokenizer *t, const uint32_t *ids, size_t n, spark_text *out, spark_err *err)
{
    bool drop = t->space_prefix || t->kind == SPARK__WPM;
    for (size_t i = 0; i < n; i++) {
        SPARK_CHECK(ids[i] < t->n, err, SPARK_E_ARGUMENT, i, "token %u is outside the vocabulary of %u", ids[i], t->n);
        if ((i == 0 && t->add_bos && ids[i] == t->bos) || (i + 1 == n && ids[i] == tok_last(t))) continue;
        spark_bytes piece = spark__token_piece(t, ids[i]);
        const bool splits = tok_splits(t, ids[i]);
        if (drop && !splits && piece.len > 0 && piece.ptr[0] == ' ')
            piece = (spark_bytes){piece.ptr + 1, piece.len - 1};
        drop = t->space_prefix && splits;
        SPARK_TRY(spark_text_append(out, piece, err));
    }
    return SPARK_SUCCESS;
}

spark_status spark_tokenizer_decode(const spark_tokenizer *t, const uint32_t *ids, size_t n, spark_text *out,
                                    spark_err *err)
{
    const size_t before = out->len;
    size_t room = 0; /* for all of it at once: in an arena, what is outgrown is lost */
    for (size_t i = 0; i < n; i++) room += ids[i] < t->n ? spark__token_piece(t, ids[i]).len : 0;
    SPARK_TRY(spark__text_reserve(out, room, err));
    const spark_status s = tok_decode(t, ids, n, out, err);
    if (!spark_ok(s)) out->len = before;
    return s;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): the contract lets a family compute its pieces into buf. */
spark_bytes spark_tokenizer_piece(const spark_tokenizer *t, uint32_t id, bool special, uint8_t *buf)
{
    (void)buf; /* every family's pieces are computed at load */
    if (id >= t->n || (!special && spark__token_is_special(t, id))) return (spark_bytes){t->pieces, 0};
    return spark__token_piece(t, id);
}

uint32_t spark_tokenizer_n_vocab(const spark_tokenizer *t) { return t->n; }
uint32_t spark_tokenizer_longest_piece(const spark_tokenizer *t) { return t->max_piece; }

const char *spark_tokenizer_model(const spark_tokenizer *t)
{
    static const char *const names[] = {[SPARK__SPM] = "llama", [SPARK__BPE] = "gpt2", [SPARK__WPM] = "bert"};
    return names[t->kind];
}

spark_bytes spark_tokenizer_token(const spark_tokenizer *t, uint32_t id)
{
    return id < t->n ? t->tokens[id] : (spark_bytes){t->pieces, 0};
}

bool spark_tokenizer_is_special(const spark_tokenizer *t, uint32_t id)
{
    return id < t->n && spark__token_is_special(t, id);
}

bool spark_tokenizer_is_eog(const spark_tokenizer *t, uint32_t id) { return id < t->n && (t->flags[id] & SPARK__EOG); }
uint32_t spark_tokenizer_bos(const spark_tokenizer *t) { return t->bos; }
uint32_t spark_tokenizer_eos(const spark_tokenizer *t) { return t->eos; }
bool spark_tokenizer_adds_bos(const spark_tokenizer *t) { return t->add_bos; }
bool spark_tokenizer_adds_eos(const spark_tokenizer *t) { return tok_last(t) != SPARK_TOKEN_NONE; }

uint32_t spark_tokenizer_find(const spark_tokenizer *t, spark_bytes text)
{
    for (uint32_t i = 0; i < t->n; i++)
        if (spark_bytes_equal(t->tokens[i], text)) return i;
    return SPARK_TOKEN_NONE;
}
