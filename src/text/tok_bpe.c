/* tok_bpe.c - byte-level BPE ("gpt2"): words of the pre-tokenizer, from bytes up by the ranked merges of the file.
 * The vocabulary writes bytes as printable characters (0x20 as U+0120); here they are bytes again, from the load on. */
#include <assert.h>

#include "base/spark_limits.h"
#include "text/tokenizer_internal.h"

#define BPE_PRINTABLE 324u /* the characters that stand for bytes end at U+0143 */

/* '!'..'~', U+00A1..U+00AC and U+00AE..U+00FF are themselves; the other bytes, in order, are U+0100 and up.
 * Source: GPT-2's bytes_to_unicode. */
static bool bpe_is_itself(uint32_t byte)
{
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xFF && byte != 0xAD);
}

static int bpe_byte_of(uint32_t cp)
{
    if (cp < 256) return bpe_is_itself(cp) ? (int)cp : -1;
    if (cp >= BPE_PRINTABLE) return -1;
    const uint32_t nth = cp - 256; /* 0x00-0x20, then 0x7F-0xA0, then 0xAD */
    return (int)(nth <= 0x20 ? nth : nth <= 0x42 ? nth - 0x21 + 0x7F : 0xAD);
}

void spark__bpe_unprintable_make(spark__unprintable *u)
{
    for (uint32_t cp = 0; cp < SPARK__PRINTABLE; cp++) u->byte[cp] = (int16_t)bpe_byte_of(cp);
}

/* Whether all bytes are '!' to '~', which stand for themselves. */
SPARK_INLINE bool bpe_all_themselves(const uint8_t *p, size_t n)
{
    const uint64_t low = 0x2121212121212121u, one = 0x0101010101010101u, high = 0x8080808080808080u;
    for (; n > 16; n -= 8, p += 8) {
        const uint64_t x = spark_load_u64(p);
        if ((x | (x - low) | (x + one)) & high) return false;
    }
    spark__ends e = spark__load_ends(p, n);
    if (n < 8) e.last = low;
    if (n < 4) e.first |= n == 0 ? low : low << 24; /* of three bytes, some twice; a NUL is none of them */
    return !((e.first | (e.first - low) | (e.first + one) | e.last | (e.last - low) | (e.last + one)) & high);
}

/* memcpy of a few bytes, mostly. */
SPARK_INLINE void bpe_copy(uint8_t *to, const uint8_t *from, size_t n)
{
    if (n > 16) {
        memcpy(to, from, n);
    } else if (n >= 8) {
        memcpy(to, from, 8);
        memcpy(to + n - 8, from + n - 8, 8);
    } else if (n >= 4) {
        memcpy(to, from, 4);
        memcpy(to + n - 4, from + n - 4, 4);
    } else if (n > 0) {
        to[0] = from[0];
        to[n / 2] = from[n / 2];
        to[n - 1] = from[n - 1];
    }
}

size_t spark__bpe_unprintable(const spark__unprintable *u, spark_bytes text, uint8_t *out)
{
    const bool blank = text.len >= 2 && text.ptr[0] == 0xC4 && text.ptr[1] == 0xA0; /* U+0120: so most words begin */
    const size_t begin = blank ? 2 : 0;
    size_t n = blank ? 1 : 0;
    if (blank) out[0] = ' ';
    if (bpe_all_themselves(text.ptr + begin, text.len - begin)) {
        bpe_copy(out + n, text.ptr + begin, text.len - begin);
        return n + text.len - begin;
    }
    for (size_t i = begin; i < text.len;) {
        const uint32_t first = text.ptr[i], next = i + 1 < text.len ? text.ptr[i + 1] : 0;
        const bool wide = first >= 0x80; /* all that can mean a byte has two: U+0080 to U+017F */
        if (wide && (first - 0xC2 > 3 || (next & 0xC0) != 0x80)) return SIZE_MAX;
        const int byte = u->byte[wide ? (first & 31) << 6 | (next & 63) : first];
        if (byte < 0) return SIZE_MAX;
        out[n++] = (uint8_t)byte;
        i += wide ? 2 : 1;
    }
    return n;
}

/* A merge as it was read. */
typedef struct bpe_line {
    spark_bytes bytes; /* both halves decoded */
    uint32_t left;     /* bytes of the left one */
    uint32_t made;     /* SPARK_TOKEN_NONE: to be looked up */
} bpe_line;

/* A merge with a product that is no token: for the second pass. Converters leave few of them, those of tokens that are
 * special here. */
typedef struct bpe_late {
    spark_bytes line;
    uint32_t rank;
} bpe_late;

/* While the merges are read. */
typedef struct bpe_loader {
    spark_tokenizer *t;
    spark_arena *arena;
    uint32_t n_extra;
    bool adding;                              /* the second pass: products become symbols */
    uint32_t last;                            /* what the merge before made */
    const uint8_t *merges_wide, *tokens_wide; /* below, 16 bytes can be read */
    bpe_late *late;                           /* on the heap, as are the others */
    spark__bpe_other *others;                 /* merges that make what an earlier one makes of other halves */
    size_t n_late, cap_late, n_others, cap_others;
    spark__unprintable unprintable;
    uint8_t bytes[SPARK_MAX_TOKEN_BYTES];
} bpe_loader;

/* The symbol of a byte string, if it has none a new one. */
static spark_status bpe_add_extra(bpe_loader *l, spark_bytes bytes, uint32_t *out, spark_err *err)
{
    spark_tokenizer *t = l->t;
    spark__bpe *b = &t->as.bpe;
    const uint64_t tag = spark__plain_tag(t->plain.seed, bytes), hash = spark__plain_hash(t->plain.seed, tag);
    spark__plain_slot *slot = spark__plain_find(t, bytes, tag, hash);
    if (slot->tag == 0) {
        SPARK_TRY(spark_arena_copy(l->arena, bytes, &b->extra[l->n_extra], err));
        *slot = (spark__plain_slot){.tag = tag, .id = t->n + l->n_extra++};
        *spark__bpe_filter_word(b, hash) |= spark__bpe_filter_bit(hash);
        if (bytes.len > b->max_made) b->max_made = (uint32_t)bytes.len;
    }
    *out = slot->id;
    return SPARK_SUCCESS;
}

SPARK_INLINE spark_u128 bpe_load16(const uint8_t *p)
{
    return (spark_u128)spark_load_u64(p + 8) << 64 | spark_load_u64(p);
}

/* The split of a merge that makes just this token, which has no blank in it: where both differ first. 0: it does not. 16 bytes can be
 * read of both. */
SPARK_INLINE size_t bpe_split_short(const uint8_t *line, spark_bytes token)
{
    const spark_u128 a = bpe_load16(line), b = bpe_load16(token.ptr), d = a ^ b;
    const uint64_t low = (uint64_t)d, high = (uint64_t)(d >> 64);
    if (token.len > 15 || (low | high) == 0) return 0;
    const unsigned at = low ? SPARK_LOW_ZEROS(low) / 8 : 8 + SPARK_LOW_ZEROS(high) / 8;
    const spark_u128 before = ((spark_u128)1 << 8 * at) - 1, all = ((spark_u128)1 << 8 * token.len) - 1;
    const spark_u128 joined = (a & before) | (a >> 8 & ~before);
    return line[at] == ' ' && ((joined ^ b) & all) == 0 ? at : 0;
}

/* The same for any. */
static size_t bpe_split_long(spark_bytes line, spark_bytes token)
{
    const uint8_t *blank = line.len > 1 ? memchr(line.ptr + 1, ' ', line.len - 1) : NULL;
    const size_t at = blank ? (size_t)(blank - line.ptr) : 0;
    if (at == 0 || memcmp(line.ptr, token.ptr, at) != 0) return 0;
    return memcmp(blank + 1, token.ptr + at, token.len - at) == 0 ? at : 0;
}

/* Bytes that the first n bytes of a token stand for, which end with a character. */
SPARK_INLINE uint32_t bpe_decoded(spark_bytes token, size_t piece_len, size_t n)
{
    const size_t wide = token.len - piece_len; /* characters of two bytes */
    if (wide == 0) return (uint32_t)n;
    if (wide == 1 && token.ptr[0] >= 0x80) return (uint32_t)n - 1;
    uint32_t count = 0;
    for (size_t i = 0; i < n; i++) count += (token.ptr[i] & 0xC0) != 0x80;
    return count;
}

/* Whether a merge makes this token, and how. */
SPARK_INLINE bool bpe_makes(const bpe_loader *l, spark_bytes line, uint32_t id, bpe_line *out)
{
    const spark_tokenizer *t = l->t;
    if (id >= t->n || !(t->flags[id] & SPARK__PLAIN) || t->tokens[id].len + 1 != line.len) return false;
    const spark_bytes token = t->tokens[id];
    const bool wide = line.ptr < l->merges_wide && token.ptr < l->tokens_wide;
    const size_t split = wide && token.len <= 15 ? bpe_split_short(line.ptr, token) : bpe_split_long(line, token);
    if (split == 0 || split >= token.len || (token.ptr[split] & 0xC0) == 0x80) return false; /* or halves a character */
    out->bytes = spark__token_piece(t, id);
    out->left = bpe_decoded(token, out->bytes.len, split);
    out->made = id;
    return true;
}

/* Decodes a merge; false if it can never apply. */
static bool bpe_decode_line(bpe_loader *l, spark_bytes line, size_t split, bpe_line *out)
{
    const size_t n = spark__bpe_unprintable(&l->unprintable, (spark_bytes){line.ptr, split}, l->bytes);
    if (n == SIZE_MAX) return false; /* names a character that no text produces */
    const spark_bytes right = {line.ptr + split + 1, line.len - split - 1};
    const size_t m = spark__bpe_unprintable(&l->unprintable, right, l->bytes + n);
    if (m == SIZE_MAX || m == 0) return false;
    *out = (bpe_line){{l->bytes, n + m}, (uint32_t)n, spark__plain_get(l->t, (spark_bytes){l->bytes, n + m})};
    return true;
}

/* Keeps a merge of what is a symbol. Of equal ones the first holds. */
static spark_status bpe_keep(bpe_loader *l, const bpe_line *b, uint32_t rank, spark_err *err)
{
    const spark_tokenizer *t = l->t;
    if (b->bytes.len == 2) {
        spark__bpe_bytes *two = &t->as.bpe.bytes[spark_load_u16(b->bytes.ptr)];
        if (two->rank_plus_1 == 0) *two = (spark__bpe_bytes){rank + 1, b->made};
        return SPARK_SUCCESS;
    }
    uint32_t *merge = &t->as.bpe.merge[b->made];
    if (*merge == 0 && b->left < SPARK__MERGE_LEFT) {
        *merge = b->left << SPARK__MERGE_RANK | (rank + 1);
        return SPARK_SUCCESS;
    }
    if (*merge >> SPARK__MERGE_RANK == b->left) return SPARK_SUCCESS;
    void *others = l->others;
    SPARK_TRY(spark__buffer_grow(NULL, &others, &l->cap_others, l->n_others + 1, sizeof *l->others, err));
    l->others = others;
    l->others[l->n_others++] = (spark__bpe_other){b->made, b->left, rank + 1};
    return SPARK_SUCCESS;
}

static spark_status bpe_put_aside(bpe_loader *l, spark_bytes line, uint32_t rank, spark_err *err)
{
    void *late = l->late;
    SPARK_TRY(spark__buffer_grow(NULL, &late, &l->cap_late, l->n_late + 1, sizeof *l->late, err));
    l->late = late;
    l->late[l->n_late++] = (bpe_late){line, rank};
    return SPARK_SUCCESS;
}

static spark_status bpe_search_line(bpe_loader *l, spark_bytes line, uint32_t rank, spark_err *err)
{
    bpe_line b;
    const uint8_t *blank = line.len > 1 ? memchr(line.ptr + 1, ' ', line.len - 1) : NULL;
    SPARK_CHECK(blank, err, SPARK_E_FORMAT, rank,
                "tokenizer.ggml.merges: merge %u is not two parts with a blank between", rank);
    if (!bpe_decode_line(l, line, (size_t)(blank - line.ptr), &b)) return SPARK_SUCCESS;
    l->last = b.made;
    if (b.made == SPARK_TOKEN_NONE && !l->adding) return bpe_put_aside(l, line, rank, err);
    if (b.made == SPARK_TOKEN_NONE) SPARK_TRY(bpe_add_extra(l, b.bytes, &b.made, err));
    return bpe_keep(l, &b, rank, err);
}

/* Files list merges and tokens in the same order, so what a merge makes is mostly the token behind the last one made, or that
 * one again: then there is nothing to decode or to search. (The one behind SPARK_TOKEN_NONE is 0.) */
SPARK_INLINE spark_status bpe_load_line(bpe_loader *l, spark_bytes line, uint32_t rank, spark_err *err)
{
    bpe_line b;
    SPARK_CHECK(line.len <= SPARK_MAX_TOKEN_BYTES, err, SPARK_E_LIMIT, rank,
                "tokenizer.ggml.merges: merge %u has %zu bytes, over the limit %u", rank, line.len,
                SPARK_MAX_TOKEN_BYTES);
    if (!bpe_makes(l, line, l->last + 1, &b) && !bpe_makes(l, line, l->last, &b))
        return bpe_search_line(l, line, rank, err);
    l->last = b.made;
    return bpe_keep(l, &b, rank, err);
}

static spark_status bpe_load_merges(bpe_loader *l, const spark_gguf_value *merges, spark_err *err)
{
    size_t pos = 0;
    l->last = SPARK_TOKEN_NONE;
    for (uint32_t i = 0; i < merges->n; i++) SPARK_TRY(bpe_load_line(l, spark_gguf_next_string(merges, &pos), i, err));
    return SPARK_SUCCESS;
}

/* Symbols for what is no token: single bytes, and the products that were put aside. */
static spark_status bpe_load_extras(bpe_loader *l, spark_err *err)
{
    spark_tokenizer *t = l->t;
    spark__bpe *b = &t->as.bpe;
    const size_t n_extra = l->n_late + 256;
    void *merge = b->merge;
    SPARK_TRY(spark__plain_reserve(t, t->n + n_extra, l->arena, err));
    SPARK_TRY(spark_arena_extend(l->arena, &merge, t->n * sizeof *b->merge, (t->n + n_extra) * sizeof *b->merge,
                                 _Alignof(max_align_t), err));
    b->merge = merge;
    SPARK_TRY(SPARK_NEW(l->arena, n_extra, &b->extra, err));
    for (uint32_t i = 0; i < 256; i++) {
        const uint8_t byte = (uint8_t)i;
        SPARK_TRY(bpe_add_extra(l, (spark_bytes){&byte, 1}, &b->byte_symbol[i], err)); /* or the token that has it */
    }
    l->adding = true;
    l->last = SPARK_TOKEN_NONE;
    for (size_t i = 0; i < l->n_late; i++) SPARK_TRY(bpe_search_line(l, l->late[i].line, l->late[i].rank, err));
    return SPARK_SUCCESS;
}

SPARK_INLINE uint32_t bpe_other_slot(const spark_tokenizer *t, uint32_t made, uint32_t left)
{
    const uint64_t hash = spark__mix(made ^ t->plain.seed[0], left ^ t->plain.seed[1]);
    return (uint32_t)((hash & UINT32_MAX) * t->as.bpe.n_others >> 32);
}

/* The further merge that makes a symbol of such halves, or the free slot where it belongs. */
static spark__bpe_other *bpe_other(const spark_tokenizer *t, uint32_t made, uint32_t left)
{
    const spark__bpe *b = &t->as.bpe;
    for (uint32_t i = bpe_other_slot(t, made, left);; i = i + 1 == b->n_others ? 0 : i + 1) {
        spark__bpe_other *o = &b->others[i];
        if (o->rank_plus_1 == 0 || (o->made == made && o->left == left)) return o;
    }
}

static spark_status bpe_load_others(bpe_loader *l, spark_err *err)
{
    spark__bpe *b = &l->t->as.bpe;
    if (l->n_others == 0) return SPARK_SUCCESS;
    b->n_others = (uint32_t)(l->n_others + l->n_others / 3 + 8);
    SPARK_TRY(SPARK_NEW(l->arena, b->n_others, &b->others, err));
    for (size_t i = 0; i < l->n_others; i++) {
        spark__bpe_other *slot = bpe_other(l->t, l->others[i].made, l->others[i].left);
        if (slot->rank_plus_1 == 0) *slot = l->others[i];
    }
    return SPARK_SUCCESS;
}

static spark_status bpe_load_table(bpe_loader *l, const spark_gguf_value *merges, spark_err *err)
{
    spark__bpe *b = &l->t->as.bpe;
    b->max_made = l->t->max_plain;
    SPARK_TRY(SPARK_NEW(l->arena, 1 << 16, &b->bytes, err));
    SPARK_TRY(SPARK_NEW(l->arena, l->t->n, &b->merge, err)); /* last, because it is extended */
    SPARK_TRY(bpe_load_merges(l, merges, err));
    SPARK_TRY(bpe_load_extras(l, err));
    return bpe_load_others(l, err);
}

spark_status spark__bpe_load(spark_tokenizer *t, const spark_gguf *g, spark_arena *a, spark_err *err)
{
    spark__bpe *b = &t->as.bpe;
    b->ignore_merges = spark__pretok_ignores_merges(&b->pretok);
    spark_gguf_value merges;
    bool found = false;
    SPARK_TRY(spark_gguf_get_array(g, "tokenizer.ggml.merges", SPARK_GGUF_STRING, &merges, &found, err));
    SPARK_CHECK(found, err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE, "tokenizer.ggml.merges is missing");
    SPARK_CHECK(merges.n <= SPARK_MAX_GGUF_ARRAY, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "tokenizer.ggml.merges has %llu entries, over the limit %u", (unsigned long long)merges.n,
                SPARK_MAX_GGUF_ARRAY);
    const spark_bytes last_token = t->tokens[t->n - 1]; /* tokens lie in one array, in their order */
    bpe_loader *l = calloc(1, sizeof *l);
    SPARK_CHECK(l, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory to read tokenizer.ggml.merges");
    l->t = t;
    l->arena = a;
    spark__bpe_unprintable_make(&l->unprintable);
    l->merges_wide = merges.as.s.len > 16 ? merges.as.s.ptr + merges.as.s.len - 16 : merges.as.s.ptr;
    l->tokens_wide = last_token.ptr + last_token.len - t->tokens[0].ptr > 16 ? last_token.ptr + last_token.len - 16
                                                                             : t->tokens[0].ptr;
    const spark_status s = bpe_load_table(l, &merges, err);
    free(l->late);
    free(l->others);
    free(l);
    return s;
}

/* The tag of bytes of the text. */
SPARK_INLINE uint64_t bpe_tag(const spark__encoder *e, spark_bytes both)
{
    if (both.len < 8 && both.ptr < e->wide)
        return (spark_load_u64(both.ptr) & (((uint64_t)1 << 8 * both.len) - 1)) | (uint64_t)both.len << 56;
    return spark__plain_tag(e->t->plain.seed, both);
}

SPARK_INLINE uint32_t bpe_pair(const void *ctx, const spark__merger *m, uint32_t left, uint32_t right, uint32_t *made)
{
    const spark__encoder *e = ctx;
    const spark_tokenizer *t = e->t;
    const spark__bpe *b = &t->as.bpe;
    const uint32_t begin = m->symbols[left].begin, end = m->symbols[m->symbols[right].next].begin;
    const spark_bytes both = {e->bytes + begin, end - begin};
    *made = 0;
    if (both.len > b->max_made) return SPARK__NO_RANK;
    const uint64_t tag = bpe_tag(e, both), hash = spark__plain_hash(t->plain.seed, tag);
    if (!(*spark__bpe_filter_word(b, hash) & spark__bpe_filter_bit(hash))) return SPARK__NO_RANK;
    const spark__plain_slot *slot = spark__plain_find(t, both, tag, hash);
    if (slot->tag == 0) return SPARK__NO_RANK;
    *made = slot->id;
    const uint32_t n_left = m->symbols[right].begin - begin, merge = b->merge[slot->id];
    if (SPARK_LIKELY(merge >> SPARK__MERGE_RANK == n_left)) return (merge & SPARK__MERGE_RANKS) - 1;
    return b->n_others ? bpe_other(t, slot->id, n_left)->rank_plus_1 - 1 : SPARK__NO_RANK;
}

/* The same for two single bytes, which a word begins with. */
SPARK_INLINE uint32_t bpe_pair_first(const void *ctx, const spark__merger *m, uint32_t left, uint32_t right,
                                     uint32_t *made)
{
    (void)m, (void)right;
    const spark__encoder *e = ctx;
    const spark__bpe_bytes *two = &e->t->as.bpe.bytes[spark_load_u16(e->bytes + left)];
    *made = two->made;
    return two->rank_plus_1 - 1; /* SPARK__NO_RANK if none makes it */
}

static spark_status bpe_push(spark__encoder *e, uint32_t symbol, spark_err *err)
{
    const spark_tokenizer *t = e->t;
    if (symbol < t->n) return spark_ids_push(e->out, symbol, err);
    const spark_bytes bytes = t->as.bpe.extra[symbol - t->n]; /* no token: its bytes, as far as they are tokens */
    for (size_t i = 0; i < bytes.len; i++) {
        const uint32_t one = t->as.bpe.byte_symbol[bytes.ptr[i]];
        if (one < t->n) SPARK_TRY(spark_ids_push(e->out, one, err));
    }
    return SPARK_SUCCESS;
}

static spark_status bpe_encode_word(spark__encoder *e, spark_bytes word, spark_err *err)
{
    const spark__bpe *b = &e->t->as.bpe;
    if (b->ignore_merges && word.len <= e->t->max_plain) {
        const uint32_t id = spark__plain_get(e->t, word);
        if (id != SPARK_TOKEN_NONE) return spark_ids_push(e->out, id, err);
    }
    SPARK_TRY(spark__merger_reserve(&e->merger, word.len, err));
    spark__symbol *s = e->merger.symbols;
    e->bytes = word.ptr;
    s[word.len].begin = (uint32_t)word.len;
    for (uint32_t i = 0; i < word.len; i++) s[i] = (spark__symbol){.id = b->byte_symbol[word.ptr[i]], .begin = i};
    spark__merge_run(&e->merger, (uint32_t)word.len, bpe_pair_first, bpe_pair, e);
    for (uint32_t i = 0; i < word.len; i = s[i].next) SPARK_TRY(bpe_push(e, s[i].id, err));
    return SPARK_SUCCESS;
}

static spark_status bpe_word(void *ctx, spark_bytes word, spark_err *err)
{
    spark__encoder *e = ctx;
    if (word.len == 1) return bpe_push(e, e->t->as.bpe.byte_symbol[word.ptr[0]], err);
    return spark__encode_cached(e, word, bpe_encode_word, err);
}

spark_status spark__bpe_encode(spark__encoder *e, spark_bytes text, spark_err *err)
{
    e->wide = text.len >= 8 ? text.ptr + text.len - 7 : text.ptr;
    return spark__pretok_run(&e->t->as.bpe.pretok, text, bpe_word, e, err);
}
