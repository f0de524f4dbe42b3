/* vocab.c - loads the vocabulary of a GGUF: tokens, types, special ids, what each token decodes to, and the maps that
 * encoding needs. What files leave out or get wrong is treated as llama.cpp treats it where real files depend on it:
 * default ids of a family, end-of-generation tokens known by their text, stripping for Phi-3. The rest is refused. */
#include <stdlib.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/spark_limits.h"
#include "text/tokenizer_internal.h"
#include "text/unichar.h"

#define VOCAB_BLOCK 32u /* tokens whose slots are asked for at once */

/* ---- tokens and types ---- */

bool spark__token_byte(spark_bytes token, uint8_t *out)
{
    uint32_t byte = 0;
    if (token.len != 6 || memcmp(token.ptr, "<0x", 3) != 0 || token.ptr[5] != '>') return false;
    for (int i = 3; i < 5; i++) {
        const uint32_t c = token.ptr[i];
        const uint32_t digit = c - '0' < 10 ? c - '0' : c - 'A' < 6 ? c - 'A' + 10 : 16;
        if (digit == 16) return false;
        byte = byte << 4 | digit;
    }
    *out = (uint8_t)byte;
    return true;
}

static spark_status vocab_load_tokens(spark_tokenizer *t, const spark_gguf *g, spark_arena *a, spark_err *err)
{
    spark_gguf_value list;
    bool found = false;
    SPARK_TRY(spark_gguf_get_array(g, "tokenizer.ggml.tokens", SPARK_GGUF_STRING, &list, &found, err));
    SPARK_CHECK(found && list.n > 0, err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE,
                "tokenizer.ggml.tokens is missing or empty");
    SPARK_CHECK(list.n <= SPARK_MAX_VOCAB, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "tokenizer.ggml.tokens has %llu entries, over the limit %u", (unsigned long long)list.n,
                SPARK_MAX_VOCAB);
    t->n = (uint32_t)list.n;
    SPARK_TRY(SPARK_NEW(a, t->n, &t->tokens, err));
    SPARK_TRY(SPARK_NEW(a, t->n, &t->type, err));
    SPARK_TRY(SPARK_NEW(a, t->n, &t->flags, err));
    size_t pos = 0;
    for (uint32_t i = 0; i < t->n; i++) {
        t->tokens[i] = spark_gguf_next_string(&list, &pos);
        SPARK_CHECK(t->tokens[i].len <= SPARK_MAX_TOKEN_BYTES, err, SPARK_E_LIMIT, i,
                    "tokenizer.ggml.tokens: token %u has %zu bytes, over the limit %u", i, t->tokens[i].len,
                    SPARK_MAX_TOKEN_BYTES);
    }
    return SPARK_SUCCESS;
}

static spark_status vocab_load_types(spark_tokenizer *t, const spark_gguf *g, spark_err *err)
{
    spark_gguf_value list;
    bool found = false;
    memset(t->type, SPARK__TOKEN_NORMAL, t->n);
    SPARK_TRY(spark_gguf_get_array(g, "tokenizer.ggml.token_type", SPARK_GGUF_I32, &list, &found, err));
    if (!found) { /* old files: byte tokens are known by their text */
        uint8_t byte;
        for (uint32_t i = 0; i < t->n && t->kind == SPARK__SPM; i++)
            if (spark__token_byte(t->tokens[i], &byte)) t->type[i] = SPARK__TOKEN_BYTE;
        return SPARK_SUCCESS;
    }
    SPARK_CHECK(list.n >= t->n, err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE,
                "tokenizer.ggml.token_type has %llu entries for %u tokens", (unsigned long long)list.n, t->n);
    for (uint32_t i = 0; i < t->n; i++) {
        const uint32_t type = spark_load_u32(list.as.s.ptr + (size_t)4 * i);
        t->type[i] = type <= SPARK__TOKEN_BYTE ? (uint8_t)type : SPARK__TOKEN_UNDEFINED;
    }
    return SPARK_SUCCESS;
}

/* ---- special ids ---- */

/* An id of the file; absent: *id stays. */
static spark_status vocab_load_id(const spark_tokenizer *t, const spark_gguf *g, const char *key, uint32_t *id,
                                  spark_err *err)
{
    return spark_gguf_get_u32(g, key, 0, t->n - 1, id, NULL, err);
}

/* The default of a family counts only if the vocabulary reaches that far. */
static uint32_t vocab_default(const spark_tokenizer *t, uint32_t id) { return id < t->n ? id : SPARK_TOKEN_NONE; }

static spark_status vocab_load_ids(spark_tokenizer *t, const spark_gguf *g, spark_err *err)
{
    const bool spm = t->kind == SPARK__SPM, wpm = t->kind == SPARK__WPM;
    t->bos = spm ? vocab_default(t, 1) : wpm ? vocab_default(t, 101) : SPARK_TOKEN_NONE;
    t->eos = spm ? vocab_default(t, 2) : SPARK_TOKEN_NONE;
    t->unk = spm ? 0 : wpm ? vocab_default(t, 100) : SPARK_TOKEN_NONE;
    t->sep = wpm ? vocab_default(t, 102) : SPARK_TOKEN_NONE;
    if (wpm) SPARK_TRY(vocab_load_id(t, g, "tokenizer.ggml.cls_token_id", &t->bos, err));
    SPARK_TRY(vocab_load_id(t, g, "tokenizer.ggml.bos_token_id", &t->bos, err));
    SPARK_TRY(vocab_load_id(t, g, "tokenizer.ggml.eos_token_id", &t->eos, err));
    SPARK_TRY(vocab_load_id(t, g, "tokenizer.ggml.unknown_token_id", &t->unk, err));
    SPARK_TRY(vocab_load_id(t, g, "tokenizer.ggml.seperator_token_id", &t->sep, err)); /* sic */
    return SPARK_SUCCESS;
}

static spark_status vocab_load_added(spark_tokenizer *t, const spark_gguf *g, spark_err *err)
{
    t->add_bos = t->kind != SPARK__BPE || spark__pretok_adds_bos(&t->as.bpe.pretok);
    t->space_prefix = t->kind == SPARK__SPM;
    if (t->kind == SPARK__WPM) {
        t->add_sep = true; /* [CLS] text [SEP], whatever the file says */
        SPARK_CHECK(t->sep != SPARK_TOKEN_NONE, err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE,
                    "tokenizer.ggml.seperator_token_id is missing");
    } else {
        SPARK_TRY(spark_gguf_get_bool(g, "tokenizer.ggml.add_bos_token", &t->add_bos, NULL, err));
        SPARK_TRY(spark_gguf_get_bool(g, "tokenizer.ggml.add_eos_token", &t->add_eos, NULL, err));
    }
    if (t->kind == SPARK__SPM)
        SPARK_TRY(spark_gguf_get_bool(g, "tokenizer.ggml.add_space_prefix", &t->space_prefix, NULL, err));
    SPARK_CHECK(!t->add_bos || t->bos != SPARK_TOKEN_NONE, err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE,
                "tokenizer.ggml.bos_token_id is missing, but the vocabulary begins texts with it");
    SPARK_CHECK(!t->add_eos || t->eos != SPARK_TOKEN_NONE, err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE,
                "tokenizer.ggml.eos_token_id is missing, but tokenizer.ggml.add_eos_token is true");
    return SPARK_SUCCESS;
}

/* ---- tokens known by their text ---- */

/* Texts that end a generation, and fill-in-the-middle marks. Converters often leave them ordinary tokens; here they are
 * always control tokens, so a user's text cannot forge one. */
typedef struct vocab_name {
    const char *text;
    bool ends;
} vocab_name;

static const vocab_name vocab_names[] = {
    {"<|eot_id|>", true},
    {"<|im_end|>", true},
    {"<|end|>", true},
    {"<|return|>", true},
    {"<|call|>", true},
    {"<|flush|>", true},
    {"<|calls|>", true},
    {"<end_of_turn>", true},
    {"<|endoftext|>", true},
    {"</s>", true},
    {"<|eom_id|>", true},
    {"<EOT>", true},
    {"_<EOT>", true},
    {"[EOT]", true},
    {"[EOS]", true},
    {"<|end_of_text|>", true},
    {"<eos>", true},
    {"<end_of_utterance>", true},
    {"<turn|>", true},
    {"<|tool_response>", true},
    {"<｜end▁of▁sentence｜>", true},
    {"[e~[", true},
    {"<|fim_pad|>", true},
    {"<fim-pad>", true},
    {"<fim_pad>", true},
    {"<PAD>", true},
    {"[PAD]", true},
    {"<|fim_repo|>", true},
    {"<|repo_name|>", true},
    {"<fim-repo>", true},
    {"<REPO>", true},
    {"<reponame>", true},
    {"<|file_sep|>", true},
    {"<|fim_prefix|>", false},
    {"<fim-prefix>", false},
    {"<fim_prefix>", false},
    {"<｜fim▁begin｜>", false},
    {"<PRE>", false},
    {"▁<PRE>", false},
    {"<|code_prefix|>", false},
    {"<|prefix|>", false},
    {"<|fim_suffix|>", false},
    {"<fim-suffix>", false},
    {"<fim_suffix>", false},
    {"<｜fim▁hole｜>", false},
    {"<SUF>", false},
    {"▁<SUF>", false},
    {"<|code_suffix|>", false},
    {"<|suffix|>", false},
    {"<|fim_middle|>", false},
    {"<fim-middle>", false},
    {"<fim_middle>", false},
    {"<｜fim▁end｜>", false},
    {"<MID>", false},
    {"▁<MID>", false},
    {"<|code_middle|>", false},
    {"<|middle|>", false},
};

/* A look at two bytes and the length tells most tokens from the names above, which have 4 to 32 bytes. */
typedef struct vocab_name_filter {
    uint64_t lengths[256]; /* by vocab_name_byte: a bit for each length */
} vocab_name_filter;

static uint8_t vocab_name_byte(const uint8_t *name) { return (uint8_t)(name[2] * 7 + name[3]); }

static void vocab_name_filter_make(vocab_name_filter *f)
{
    *f = (vocab_name_filter){0};
    for (size_t k = 0; k < SPARK_COUNT(vocab_names); k++) {
        const char *name = vocab_names[k].text;
        f->lengths[vocab_name_byte((const uint8_t *)name)] |= (uint64_t)1 << strlen(name);
    }
}

static void vocab_mark_named(spark_tokenizer *t)
{
    vocab_name_filter f;
    vocab_name_filter_make(&f);
    for (uint32_t i = 0; i < t->n; i++) {
        const spark_bytes token = t->tokens[i];
        if (token.len < 4 || token.len > 32) continue;
        if (!(f.lengths[vocab_name_byte(token.ptr)] >> token.len & 1)) continue;
        for (size_t k = 0; k < SPARK_COUNT(vocab_names); k++) {
            if (!spark_bytes_is(token, vocab_names[k].text)) continue;
            t->type[i] = SPARK__TOKEN_CONTROL;
            if (vocab_names[k].ends) t->flags[i] |= SPARK__EOG;
        }
    }
}

/* Where a vocabulary has tokens that end a turn and others that end a part of it, the latter do not end a generation. */
static void vocab_unmark(spark_tokenizer *t)
{
    bool returns = false, calls = false, flushes = false, responds = false;
    for (uint32_t i = 0; i < t->n; i++) {
        if (!(t->flags[i] & SPARK__EOG)) continue;
        const spark_bytes token = t->tokens[i];
        returns |= spark_bytes_is(token, "<|return|>");
        calls |= spark_bytes_is(token, "<|call|>") || spark_bytes_is(token, "<|calls|>");
        flushes |= spark_bytes_is(token, "<|flush|>");
        responds |= spark_bytes_is(token, "<|tool_response>");
    }
    for (uint32_t i = 0; (calls || responds) && i < t->n; i++) {
        if ((calls && (returns || flushes) && spark_bytes_is(t->tokens[i], "<|end|>")) ||
            (responds && spark_bytes_is(t->tokens[i], "</s>")))
            t->flags[i] &= (uint8_t)~SPARK__EOG;
    }
}

static spark_status vocab_mark_ends(spark_tokenizer *t, const spark_gguf *g, spark_err *err)
{
    static const char *const keys[] = {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id",
                                       "tokenizer.ggml.fim_pad_token_id", "tokenizer.ggml.fim_rep_token_id",
                                       "tokenizer.ggml.fim_sep_token_id"};
    vocab_mark_named(t);
    if (t->eos != SPARK_TOKEN_NONE) t->flags[t->eos] |= SPARK__EOG;
    for (size_t i = 0; i < SPARK_COUNT(keys); i++) {
        uint32_t id = SPARK_TOKEN_NONE;
        SPARK_TRY(vocab_load_id(t, g, keys[i], &id, err));
        if (id != SPARK_TOKEN_NONE) t->flags[id] |= SPARK__EOG;
    }
    vocab_unmark(t);
    return SPARK_SUCCESS;
}

static bool vocab_contains(spark_bytes text, const char *part)
{
    const size_t n = strlen(part);
    for (size_t i = 0; i + n <= text.len; i++) {
        size_t k = 0;
        while (k < n && spark__char_lower(text.ptr[i + k]) == (uint8_t)part[k]) k++;
        if (k == n) return true;
    }
    return false;
}

/* Files do not say which special tokens take the white space beside them; it follows from the model's name. */
static spark_status vocab_mark_strips(spark_tokenizer *t, const spark_gguf *g, spark_err *err)
{
    spark_bytes name = {0}, pre = {0};
    SPARK_TRY(spark_gguf_get_string(g, "general.name", &name, NULL, err));
    SPARK_TRY(spark_gguf_get_string(g, "tokenizer.ggml.pre", &pre, NULL, err));
    const bool phi3 = vocab_contains(name, "phi-3") || vocab_contains(name, "phi3");
    const bool jina = vocab_contains(pre, "jina-v2"), modern = vocab_contains(name, "modern-bert");
    for (uint32_t i = 0; (phi3 || jina || modern) && i < t->n; i++) {
        const spark_bytes token = t->tokens[i];
        if (phi3 && (spark__token_is_special(t, i) || t->type[i] == SPARK__TOKEN_USER_DEFINED) &&
            !spark_bytes_is(token, "<unk>") && !spark_bytes_is(token, "<s>") && !spark_bytes_is(token, "<|endoftext|>"))
            t->flags[i] |= SPARK__RSTRIP;
        if ((jina && spark_bytes_is(token, "<mask>")) || (modern && spark_bytes_is(token, "[MASK]")))
            t->flags[i] |= SPARK__LSTRIP;
    }
    return SPARK_SUCCESS;
}

/* ---- pieces and maps ---- */

/* Copies a token's text with every U+2581 as a blank; returns the bytes. */
static size_t vocab_unescape(spark_bytes text, uint8_t *out)
{
    size_t n = 0;
    for (size_t i = 0; i < text.len;) {
        const bool phantom = text.len - i >= 3 && memcmp(text.ptr + i, SPARK__PHANTOM, 3) == 0;
        out[n++] = phantom ? ' ' : text.ptr[i];
        i += phantom ? 3 : 1;
    }
    return n;
}

/* What a token decodes to, at `out`, which has room for its text. *plain: text can become this token. */
static size_t vocab_piece(const spark_tokenizer *t, const spark__unprintable *u, uint32_t id, uint8_t *out, bool *plain)
{
    const spark_bytes token = t->tokens[id];
    const spark__token_type type = t->type[id];
    *plain = false;
    if (type == SPARK__TOKEN_BYTE && spark__token_byte(token, out)) return 1;
    if (!spark__token_is_special(t, id)) {
        *plain = token.len > 0 && type != SPARK__TOKEN_BYTE;
        if (t->kind != SPARK__BPE) return vocab_unescape(token, out);
        const size_t n = spark__bpe_unprintable(u, token, out);
        const spark_bytes bytes = {out, n};
        *plain = n != SIZE_MAX && n > 0 && (type != SPARK__TOKEN_USER_DEFINED || spark_bytes_equal(bytes, token));
        if (*plain) return n;
    }
    if (token.len) memcpy(out, token.ptr, token.len);
    return token.len;
}

void spark__vocab_seed(uint64_t seed[2])
{
    if (getrandom(seed, 2 * sizeof *seed, GRND_NONBLOCK) == (ssize_t)(2 * sizeof *seed)) return;
    seed[0] = spark_clock_ns(); /* early boot: still not the file's choice */
    seed[1] = (uint64_t)(uintptr_t)seed * 0x9E3779B97F4A7C15u;
}

spark_status spark__plain_reserve(spark_tokenizer *t, uint64_t n, spark_arena *a, spark_err *err)
{
    const spark__plain old = t->plain;
    uint32_t slots = 8;
    SPARK_CHECK(n <= SPARK_MAX_VOCAB + 3 * (uint64_t)SPARK_MAX_GGUF_ARRAY, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "the vocabulary has too many strings");
    while (slots < n + n / 2) slots *= 2; /* at most two thirds full */
    if (old.slots && slots <= old.mask + 1) return SPARK_SUCCESS;
    SPARK_TRY(SPARK_NEW(a, slots, &t->plain.slots, err));
    t->plain.mask = slots - 1;
    for (uint32_t i = 0; old.slots && i <= old.mask; i++) {
        const spark__plain_slot *s = &old.slots[i];
        if (s->tag == 0) continue;
        uint32_t at = spark__plain_slot_of(t, spark__plain_hash(old.seed, s->tag));
        while (t->plain.slots[at].tag) at = (at + 1) & t->plain.mask;
        t->plain.slots[at] = *s;
    }
    return SPARK_SUCCESS;
}

/* An empty map; and the filter of BPE: of eight strings that are no tokens, it takes one for one, at most. */
static spark_status vocab_create_plain(spark_tokenizer *t, spark_arena *a, spark_err *err)
{
    uint32_t words = 1;
    spark__vocab_seed(t->plain.seed);
    SPARK_TRY(spark__plain_reserve(t, (uint64_t)t->n + 256, a, err)); /* some are added by BPE */
    if (t->kind != SPARK__BPE) return SPARK_SUCCESS;
    while (words < t->n / 8) words *= 2;
    SPARK_TRY(SPARK_NEW(a, words, &t->as.bpe.filter, err));
    t->as.bpe.filter_mask = words - 1;
    return SPARK_SUCCESS;
}

/* A token whose tag is on its way into the map. */
typedef struct vocab_coming {
    uint64_t tag, hash; /* tag 0: no text becomes it */
} vocab_coming;

static void vocab_put_plain(spark_tokenizer *t, uint32_t id, const vocab_coming *c)
{
    const spark_bytes key = spark__plain_key(t, id);
    spark__plain_slot *slot = spark__plain_find(t, key, c->tag, c->hash);
    if (slot->tag) return;
    slot->tag = c->tag;
    slot->id = id;
    t->flags[id] |= SPARK__PLAIN;
    if (key.len > t->max_plain) t->max_plain = (uint32_t)key.len;
    if (t->kind == SPARK__BPE) *spark__bpe_filter_word(&t->as.bpe, c->hash) |= spark__bpe_filter_bit(c->hash);
}

/* The pieces of n <= VOCAB_BLOCK tokens and their places in the map. Block by block, so that the slots, which are anywhere
 * in megabytes, are on their way while the next pieces are made. */
static void vocab_put_block(spark_tokenizer *t, const spark__unprintable *u, uint32_t begin, uint32_t n)
{
    vocab_coming coming[VOCAB_BLOCK];
    for (uint32_t k = 0; k < n; k++) {
        const uint32_t id = begin + k, at = t->piece_at[id];
        bool plain = false;
        const uint32_t len = (uint32_t)vocab_piece(t, u, id, t->pieces + at, &plain);
        t->piece_at[id + 1] = at + len;
        if (len > t->max_piece) t->max_piece = len;
        coming[k] = (vocab_coming){0};
        if (!plain) continue;
        coming[k].tag = spark__plain_tag(t->plain.seed, spark__plain_key(t, id));
        coming[k].hash = spark__plain_hash(t->plain.seed, coming[k].tag);
        SPARK_PREFETCH_WRITE(&t->plain.slots[spark__plain_slot_of(t, coming[k].hash)]);
    }
    for (uint32_t k = 0; k < n; k++)
        if (coming[k].tag) vocab_put_plain(t, begin + k, &coming[k]);
}

static spark_status vocab_load_pieces(spark_tokenizer *t, spark_arena *a, spark_err *err)
{
    size_t room = 0;
    for (uint32_t i = 0; i < t->n; i++) room += t->tokens[i].len;
    SPARK_CHECK(room <= UINT32_MAX, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE, "tokenizer.ggml.tokens has %zu bytes", room);
    SPARK_TRY(SPARK_NEW(a, (size_t)t->n + 1, &t->piece_at, err));
    SPARK_TRY(SPARK_NEW(a, room + 1, &t->pieces, err));
    SPARK_TRY(vocab_create_plain(t, a, err));
    spark__unprintable u;
    spark__bpe_unprintable_make(&u);
    for (uint32_t i = 0; i < t->n; i += VOCAB_BLOCK)
        vocab_put_block(t, &u, i, t->n - i < VOCAB_BLOCK ? t->n - i : VOCAB_BLOCK);
    return SPARK_SUCCESS;
}

static spark_status vocab_load_special(spark_tokenizer *t, spark_arena *a, spark_err *err)
{
    spark__trie_entry *entries = malloc(t->n * sizeof *entries); /* few of them are touched */
    SPARK_CHECK(entries, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory for %u tokens", t->n);
    size_t n = 0;
    for (uint32_t i = 0; i < t->n; i++) {
        const bool always = t->type[i] == SPARK__TOKEN_USER_DEFINED;
        if (t->type[i] == SPARK__TOKEN_NORMAL) continue;
        const uint32_t len = (uint32_t)t->tokens[i].len;
        if (len == 0 || (!always && !spark__token_is_special(t, i))) continue;
        entries[n++] = (spark__trie_entry){t->tokens[i], i, always};
        if (len > t->max_special[1]) t->max_special[1] = len;
        if (always && len > t->max_special[0]) t->max_special[0] = len;
    }
    const spark_status s = spark__trie_build(&t->special, entries, n, true, a, err);
    free(entries);
    return s;
}

/* ---- the whole ---- */

static spark_status vocab_load_kind(spark_tokenizer *t, const spark_gguf *g, spark_err *err)
{
    spark_bytes model = {0}, pre = SPARK_BYTES_LITERAL("default");
    bool found = false;
    SPARK_TRY(spark_gguf_get_string(g, "tokenizer.ggml.model", &model, &found, err));
    SPARK_CHECK(found, err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE, "tokenizer.ggml.model is missing");
    if (spark_bytes_is(model, "llama"))
        t->kind = SPARK__SPM;
    else if (spark_bytes_is(model, "gpt2"))
        t->kind = SPARK__BPE;
    else if (spark_bytes_is(model, "bert"))
        t->kind = SPARK__WPM;
    else
        return spark_fail(err, SPARK_E_UNSUPPORTED, SPARK_ERR_NOWHERE, "tokenizer.ggml.model '%.*s' is not supported",
                          (int)(model.len < 64 ? model.len : 64), (const char *)model.ptr);
    if (t->kind != SPARK__BPE) return SPARK_SUCCESS;
    SPARK_TRY(spark_gguf_get_string(g, "tokenizer.ggml.pre", &pre, NULL, err));
    SPARK_CHECK(spark__pretok_find(pre, &t->as.bpe.pretok), err, SPARK_E_UNSUPPORTED, SPARK_ERR_NOWHERE,
                "tokenizer.ggml.pre '%.*s' is not supported", (int)(pre.len < 64 ? pre.len : 64),
                (const char *)pre.ptr);
    return SPARK_SUCCESS;
}

spark_status spark_tokenizer_load(spark_tokenizer **out, const spark_gguf *g, spark_arena *a, spark_err *err)
{
    spark_tokenizer *t = NULL;
    SPARK_TRY(SPARK_NEW(a, 1, &t, err));
    SPARK_TRY(vocab_load_kind(t, g, err));
    SPARK_TRY(vocab_load_tokens(t, g, a, err));
    SPARK_TRY(vocab_load_types(t, g, err));
    SPARK_TRY(vocab_load_ids(t, g, err));
    SPARK_TRY(vocab_load_added(t, g, err));
    SPARK_TRY(vocab_mark_ends(t, g, err));
    SPARK_TRY(vocab_mark_strips(t, g, err));
    SPARK_TRY(vocab_load_pieces(t, a, err));
    SPARK_TRY(vocab_load_special(t, a, err));
    switch (t->kind) {
    case SPARK__SPM: SPARK_TRY(spark__spm_load(t, g, a, err)); break;
    case SPARK__BPE: SPARK_TRY(spark__bpe_load(t, g, a, err)); break;
    case SPARK__WPM: SPARK_TRY(spark__wpm_load(t, g, a, err)); break;
    }
    *out = t;
    return SPARK_SUCCESS;
}
