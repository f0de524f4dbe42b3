/* tok_bpe.c - byte-level BPE ("gpt2"): words of the pre-tokenizer, from bytes up by the ranked merges of the file.
 * The vocabulary writes bytes as printable characters (0x20 as U+0120); here they are bytes again, from the load on. */
#include "base/spark_limits.h"
#include "text/tokenizer_internal.h"

#define BPE_PRINTABLE   324u  /* the characters that stand for bytes end at U+0143 */
#define BPE_BLOCK       32u   /* merges in flight while loading */
#define BPE_BLOCK_BYTES 4096u /* and their bytes, about */
#define BPE_FILTER_BITS 8u    /* of the filter for each merge, at least: of eight pairs one passes wrongly, at most */

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
    for (size_t i = begin; i < text.len; i++) {
        uint32_t cp = text.ptr[i];
        if (cp >= 0x80) { /* all that can mean a byte has two: U+0080 to U+017F */
            const uint32_t next = i + 1 < text.len ? text.ptr[i + 1] : 0;
            if (cp < 0xC2 || cp > 0xC5 || (next & 0xC0) != 0x80) return SIZE_MAX;
            cp = (cp & 31) << 6 | (next & 63);
            i++;
        }
        const int byte = u->byte[cp];
        if (byte < 0) return SIZE_MAX;
        out[n++] = (uint8_t)byte;
    }
    return n;
}

/* The lower half tells the slot in the table of merges, the upper one the bit in its filter. */
SPARK_INLINE uint64_t bpe_hash(const spark__bpe *b, uint32_t left, uint32_t right)
{
    return spark__mix(left ^ b->seed[0], right ^ b->seed[1]);
}

SPARK_INLINE uint32_t bpe_slot(const spark__bpe *b, uint64_t hash)
{
    return (uint32_t)((hash & UINT32_MAX) * b->n_slots >> 32);
}

SPARK_INLINE uint64_t *bpe_filter_word(const spark__bpe *b, uint64_t hash)
{
    return &b->filter[(hash >> 38) & b->filter_mask];
}

SPARK_INLINE uint64_t bpe_filter_bit(uint64_t hash) { return (uint64_t)1 << (hash >> 32 & 63); }

/* The merge of two symbols, or the free slot where it belongs. */
SPARK_INLINE spark__bpe_merge *bpe_find(const spark__bpe *b, uint32_t left, uint32_t right, uint64_t hash)
{
    for (uint32_t i = bpe_slot(b, hash);; i = i + 1 == b->n_slots ? 0 : i + 1) {
        spark__bpe_merge *m = &b->merges[i];
        if (m->rank_plus_1 == 0 || (m->left == left && m->right == right)) return m;
    }
}

/* A merge on its way into the table. */
typedef struct bpe_line {
    const uint8_t *at; /* both halves decoded: at[0..n) and the m bytes behind it */
    uint32_t n, m;
    uint32_t rank;
    uint32_t hash[2]; /* of the halves */
    uint32_t left, right, made;
    uint64_t pair;    /* hash of left and right */
    spark_bytes line; /* as in the file */
} bpe_line;

/* A merge with a part that is no token: for the second pass. Converters leave few of them, those of tokens that are special here. */
typedef struct bpe_late {
    spark_bytes line;
    uint32_t rank;
} bpe_late;

/* While the merges are read. The tables take megabytes and are hit anywhere, so merges go through in blocks: each step asks
 * for the memory that the next one needs. */
typedef struct bpe_loader {
    spark_tokenizer *t;
    spark_arena *arena;
    spark_strmap
        *extra; /* byte strings without a token; absent in the first pass, which only puts their merges aside */
    uint32_t n_extra;
    bpe_late *late; /* on the heap */
    size_t n_late, cap_late;
    uint32_t last; /* what the merge before made */
    uint32_t n_lines, n_bytes;
    uint32_t single[256];                     /* the token of each byte */
    const uint8_t *merges_wide, *tokens_wide; /* below, 16 bytes can be read */
    bpe_line lines[BPE_BLOCK];
    spark__unprintable unprintable;
    uint8_t bytes[BPE_BLOCK_BYTES + SPARK_MAX_TOKEN_BYTES]; /* a new merge begins below BPE_BLOCK_BYTES */
} bpe_loader;

/* The symbol of a byte string that is no token; SPARK_TOKEN_NONE in the first pass. */
static spark_status bpe_extra(bpe_loader *l, spark_bytes bytes, uint32_t *out, spark_err *err)
{
    *out = SPARK_TOKEN_NONE;
    if (!l->extra) return SPARK_SUCCESS;
    *out = spark_strmap_get(l->extra, bytes);
    if (*out != SPARK_STRMAP_NONE) return SPARK_SUCCESS;
    spark_bytes copy;
    SPARK_TRY(spark_arena_copy(l->arena, bytes, &copy, err));
    l->t->as.bpe.extra[l->n_extra] = copy;
    *out = spark_strmap_put(l->extra, copy, l->t->n + l->n_extra);
    l->n_extra++;
    return SPARK_SUCCESS;
}

SPARK_INLINE spark_status bpe_symbol(bpe_loader *l, spark_bytes bytes, uint32_t hash, uint32_t *out, spark_err *err)
{
    *out = bytes.len == 1 ? l->single[bytes.ptr[0]] : spark__plain_find(l->t, bytes, hash)->id;
    return SPARK_LIKELY(*out != SPARK_TOKEN_NONE) ? SPARK_SUCCESS : bpe_extra(l, bytes, out, err);
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
    const spark_bytes piece = spark__token_piece(t, id);
    out->at = piece.ptr;
    out->n = bpe_decoded(token, piece.len, split);
    out->m = (uint32_t)piece.len - out->n;
    out->made = id;
    return true;
}

/* Decodes a merge to the end of the block; false if it can never apply. */
static bool bpe_decode_line(bpe_loader *l, spark_bytes line, size_t split, bpe_line *out)
{
    uint8_t *at = l->bytes + l->n_bytes;
    const size_t n = spark__bpe_unprintable(&l->unprintable, (spark_bytes){line.ptr, split}, at);
    if (n == SIZE_MAX) return false; /* names a character that no text produces */
    const size_t m = spark__bpe_unprintable(&l->unprintable, (spark_bytes){line.ptr + split + 1, line.len - split - 1},
                                            at + n);
    if (m == SIZE_MAX || m == 0) return false;
    out->at = at;
    out->n = (uint32_t)n;
    out->m = (uint32_t)m;
    out->made = SPARK_TOKEN_NONE;
    l->n_bytes += (uint32_t)(n + m);
    return true;
}

static spark_status bpe_read_line(bpe_loader *l, spark_bytes line, uint32_t rank, spark_err *err)
{
    SPARK_CHECK(line.len <= SPARK_MAX_TOKEN_BYTES, err, SPARK_E_LIMIT, rank,
                "tokenizer.ggml.merges: merge %u has %zu bytes, over the limit %u", rank, line.len,
                SPARK_MAX_TOKEN_BYTES);
    bpe_line *b = &l->lines[l->n_lines];
    /* Files list merges and tokens in the same order, so what a merge makes is mostly the token behind the last one made, or
     * that one again: then there is nothing to decode or to search. (The one behind SPARK_TOKEN_NONE is 0.) */
    if (bpe_makes(l, line, l->last + 1, b) || bpe_makes(l, line, l->last, b)) {
        l->last = b->made;
    } else {
        const uint8_t *blank = line.len > 1 ? memchr(line.ptr + 1, ' ', line.len - 1) : NULL;
        SPARK_CHECK(blank, err, SPARK_E_FORMAT, rank,
                    "tokenizer.ggml.merges: merge %u is not two parts with a blank between", rank);
        if (!bpe_decode_line(l, line, (size_t)(blank - line.ptr), b)) return SPARK_SUCCESS;
    }
    b->rank = rank;
    b->line = line;
    b->hash[0] = spark__plain_hash(l->t->plain.seed, (spark_bytes){b->at, b->n});
    b->hash[1] = spark__plain_hash(l->t->plain.seed, (spark_bytes){b->at + b->n, b->m});
    if (b->n > 1) spark__plain_prefetch_slot(l->t, b->hash[0]);
    if (b->m > 1) spark__plain_prefetch_slot(l->t, b->hash[1]);
    l->n_lines++;
    if (b->made != SPARK_TOKEN_NONE) return SPARK_SUCCESS;
    const spark_bytes both = {b->at, (size_t)b->n + b->m};
    SPARK_TRY(bpe_symbol(l, both, spark__plain_hash(l->t->plain.seed, both), &b->made, err));
    l->last = b->made;
    return SPARK_SUCCESS;
}

static spark_status bpe_put_aside(bpe_loader *l, const bpe_line *line, spark_err *err)
{
    void *late = l->late;
    SPARK_TRY(spark__buffer_grow(NULL, &late, &l->cap_late, l->n_late + 1, sizeof *l->late, err));
    l->late = late;
    l->late[l->n_late++] = (bpe_late){line->line, line->rank};
    return SPARK_SUCCESS;
}

/* Puts the merges of the block into the table, in their order. */
static spark_status bpe_put_block(bpe_loader *l, spark_err *err)
{
    spark__bpe *b = &l->t->as.bpe;
    bpe_line *const end = l->lines + l->n_lines;
    for (bpe_line *i = l->lines; i < end; i++) {
        if (i->n > 1) spark__plain_prefetch_key(l->t, i->hash[0]);
        if (i->m > 1) spark__plain_prefetch_key(l->t, i->hash[1]);
    }
    for (bpe_line *i = l->lines; i < end; i++) {
        SPARK_TRY(bpe_symbol(l, (spark_bytes){i->at, i->n}, i->hash[0], &i->left, err));
        SPARK_TRY(bpe_symbol(l, (spark_bytes){i->at + i->n, i->m}, i->hash[1], &i->right, err));
        i->pair = bpe_hash(b, i->left, i->right);
        SPARK_PREFETCH_WRITE(&b->merges[bpe_slot(b, i->pair)]);
        SPARK_PREFETCH_WRITE(bpe_filter_word(b, i->pair));
    }
    for (const bpe_line *i = l->lines; i < end; i++) {
        if (i->left == SPARK_TOKEN_NONE || i->right == SPARK_TOKEN_NONE || i->made == SPARK_TOKEN_NONE) {
            SPARK_TRY(bpe_put_aside(l, i, err)); /* its pair is of none of the others */
            continue;
        }
        *bpe_filter_word(b, i->pair) |= bpe_filter_bit(i->pair);
        spark__bpe_merge *slot = bpe_find(b, i->left, i->right, i->pair); /* of equal merges the first holds */
        if (slot->rank_plus_1 == 0) *slot = (spark__bpe_merge){i->left, i->right, i->made, i->rank + 1};
    }
    l->n_lines = l->n_bytes = 0;
    return SPARK_SUCCESS;
}

static spark_status bpe_load_line(bpe_loader *l, spark_bytes line, uint32_t rank, spark_err *err)
{
    SPARK_TRY(bpe_read_line(l, line, rank, err));
    return l->n_lines == BPE_BLOCK || l->n_bytes >= BPE_BLOCK_BYTES ? bpe_put_block(l, err) : SPARK_SUCCESS;
}

static spark_status bpe_load_merges(bpe_loader *l, const spark_gguf_value *merges, spark_err *err)
{
    size_t pos = 0;
    l->last = SPARK_TOKEN_NONE;
    for (uint32_t i = 0; i < merges->n; i++) SPARK_TRY(bpe_load_line(l, spark_gguf_next_string(merges, &pos), i, err));
    return bpe_put_block(l, err);
}

/* The second pass, over the merges that were put aside: now their strings get symbols. */
static spark_status bpe_load_late(bpe_loader *l, spark_err *err)
{
    const size_t n = l->n_late;
    l->last = SPARK_TOKEN_NONE;
    for (size_t i = 0; i < n; i++) SPARK_TRY(bpe_load_line(l, l->late[i].line, l->late[i].rank, err));
    return bpe_put_block(l, err);
}

/* The table, the symbols of single bytes, and (where needed, which is rare) the strings that are no tokens. */
static spark_status bpe_load_table(bpe_loader *l, const spark_gguf_value *merges, spark_err *err)
{
    spark__bpe *b = &l->t->as.bpe;
    b->n_slots = (uint32_t)(merges->n + merges->n / 3 + 8);
    SPARK_TRY(SPARK_NEW(l->arena, b->n_slots, &b->merges, err));
    uint32_t words = 1;
    while (words < merges->n / (64 / BPE_FILTER_BITS)) words *= 2;
    SPARK_TRY(SPARK_NEW(l->arena, words, &b->filter, err));
    b->filter_mask = words - 1;
    for (uint32_t i = 0; i < 256; i++)
        l->single[i] = spark__plain_get(l->t, (spark_bytes){&(const uint8_t){(uint8_t)i}, 1});
    SPARK_TRY(bpe_load_merges(l, merges, err));
    const uint32_t n_extra = 3 * (uint32_t)l->n_late + 256; /* both halves and what they make; single bytes */
    SPARK_TRY(spark_strmap_create(&l->extra, n_extra, l->arena, err));
    SPARK_TRY(SPARK_NEW(l->arena, n_extra, &b->extra, err));
    for (uint32_t i = 0; i < 256; i++) {
        const uint8_t byte = (uint8_t)i;
        const spark_bytes one = {&byte, 1};
        SPARK_TRY(bpe_symbol(l, one, 0, &b->byte_symbol[i], err));
    }
    return bpe_load_late(l, err);
}

spark_status spark__bpe_load(spark_tokenizer *t, const spark_gguf *g, spark_arena *a, spark_err *err)
{
    spark__bpe *b = &t->as.bpe;
    b->ignore_merges = spark__pretok_ignores_merges(&b->pretok);
    spark__vocab_seed(b->seed);
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
    free(l);
    return s;
}

static uint32_t bpe_pair(const void *ctx, const spark__merger *m, uint32_t left, uint32_t right, uint32_t *made)
{
    const spark__bpe *b = &((const spark__encoder *)ctx)->t->as.bpe;
    const uint32_t a = m->symbols[left].id, c = m->symbols[right].id;
    const uint64_t hash = bpe_hash(b, a, c);
    *made = 0;
    if (!(*bpe_filter_word(b, hash) & bpe_filter_bit(hash))) return SPARK__NO_RANK;
    const spark__bpe_merge *found = bpe_find(b, a, c, hash);
    *made = found->made;
    return found->rank_plus_1 - 1; /* SPARK__NO_RANK of a free slot */
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
    for (uint32_t i = 0; i < word.len; i++) s[i] = (spark__symbol){.id = b->byte_symbol[word.ptr[i]], .begin = i};
    spark__merge_run(&e->merger, (uint32_t)word.len, bpe_pair, e);
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
    return spark__pretok_run(&e->t->as.bpe.pretok, text, bpe_word, e, err);
}
