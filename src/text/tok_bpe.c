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

size_t spark__bpe_unprintable(spark_bytes text, uint8_t *out)
{
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint32_t cp = text.ptr[i];
        if (cp >= 0x80) { /* all that can mean a byte has two: U+0080 to U+017F */
            const uint32_t next = i + 1 < text.len ? text.ptr[i + 1] : 0;
            if (cp < 0xC2 || cp > 0xC5 || (next & 0xC0) != 0x80) return SIZE_MAX;
            cp = (cp & 31) << 6 | (next & 63);
            i++;
        }
        const int byte = bpe_byte_of(cp);
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
    uint32_t rank;
    uint32_t at, n, m; /* both halves decoded: bytes[at..at + n) and the m bytes behind it */
    uint32_t hash[2];  /* of the halves */
    uint32_t left, right, made;
    uint64_t pair; /* hash of left and right */
} bpe_line;

/* While the merges are read. The tables take megabytes and are hit anywhere, so merges go through in blocks: each step asks
 * for the memory that the next one needs. */
typedef struct bpe_loader {
    spark_tokenizer *t;
    spark_arena *arena;
    spark_strmap *extra; /* byte strings without a token; absent in the first pass, which only counts them */
    uint32_t n_extra, n_missing;
    uint32_t last; /* what the merge before made */
    uint32_t n_lines, n_bytes;
    bpe_line lines[BPE_BLOCK];
    uint8_t bytes[BPE_BLOCK_BYTES + SPARK_MAX_TOKEN_BYTES]; /* a new merge begins below BPE_BLOCK_BYTES */
} bpe_loader;

/* The symbol of a byte string; SPARK_TOKEN_NONE and counted where it would be a new one in the first pass. */
static spark_status bpe_symbol(bpe_loader *l, spark_bytes bytes, uint32_t hash, uint32_t *out, spark_err *err)
{
    *out = spark__plain_find(l->t, bytes, hash)->id;
    if (*out != SPARK_TOKEN_NONE) return SPARK_SUCCESS;
    l->n_missing++;
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

/* The same for what a merge makes. Files list merges and tokens in the same order, so a look at what follows the last one
 * mostly saves the search. */
static spark_status bpe_made(bpe_loader *l, spark_bytes bytes, uint32_t *out, spark_err *err)
{
    const spark_tokenizer *t = l->t;
    for (uint32_t id = l->last; id < t->n && id <= l->last + 1; id++) {
        if (!(t->flags[id] & SPARK__PLAIN) || !spark_bytes_equal(spark__token_piece(t, id), bytes)) continue;
        *out = l->last = id;
        return SPARK_SUCCESS;
    }
    SPARK_TRY(bpe_symbol(l, bytes, spark__plain_hash(t->plain.seed, bytes), out, err));
    l->last = *out;
    return SPARK_SUCCESS;
}

/* Decodes a merge to the end of the block, if it can ever apply. */
static spark_status bpe_read_line(bpe_loader *l, spark_bytes line, uint32_t rank, spark_err *err)
{
    SPARK_CHECK(line.len <= SPARK_MAX_TOKEN_BYTES, err, SPARK_E_LIMIT, rank,
                "tokenizer.ggml.merges: merge %u has %zu bytes, over the limit %u", rank, line.len,
                SPARK_MAX_TOKEN_BYTES);
    const uint8_t *blank = line.len > 1 ? memchr(line.ptr + 1, ' ', line.len - 1) : NULL;
    SPARK_CHECK(blank, err, SPARK_E_FORMAT, rank,
                "tokenizer.ggml.merges: merge %u is not two parts with a blank between", rank);
    const size_t split = (size_t)(blank - line.ptr);
    uint8_t *out = l->bytes + l->n_bytes;
    const size_t n = spark__bpe_unprintable((spark_bytes){line.ptr, split}, out);
    if (n == SIZE_MAX) return SPARK_SUCCESS; /* names a character that no text produces: never applies */
    const size_t m = spark__bpe_unprintable((spark_bytes){blank + 1, line.len - split - 1}, out + n);
    if (m == SIZE_MAX || m == 0) return SPARK_SUCCESS;
    bpe_line *b = &l->lines[l->n_lines++];
    *b = (bpe_line){.rank = rank, .at = l->n_bytes, .n = (uint32_t)n, .m = (uint32_t)m};
    b->hash[0] = spark__plain_hash(l->t->plain.seed, (spark_bytes){out, n});
    b->hash[1] = spark__plain_hash(l->t->plain.seed, (spark_bytes){out + n, m});
    for (int i = 0; i < 2; i++) spark__plain_prefetch_slot(l->t, b->hash[i]);
    l->n_bytes += (uint32_t)(n + m);
    return SPARK_SUCCESS;
}

/* Puts the merges of the block into the table, in their order. */
static spark_status bpe_put_block(bpe_loader *l, spark_err *err)
{
    spark__bpe *b = &l->t->as.bpe;
    bpe_line *const end = l->lines + l->n_lines;
    for (bpe_line *i = l->lines; i < end; i++)
        for (int k = 0; k < 2; k++) spark__plain_prefetch_key(l->t, i->hash[k]);
    for (bpe_line *i = l->lines; i < end; i++) {
        const uint8_t *p = l->bytes + i->at;
        SPARK_TRY(bpe_symbol(l, (spark_bytes){p, i->n}, i->hash[0], &i->left, err));
        SPARK_TRY(bpe_symbol(l, (spark_bytes){p + i->n, i->m}, i->hash[1], &i->right, err));
        SPARK_TRY(bpe_made(l, (spark_bytes){p, (size_t)i->n + i->m}, &i->made, err));
        i->pair = bpe_hash(b, i->left, i->right);
        SPARK_PREFETCH(&b->merges[bpe_slot(b, i->pair)]);
        SPARK_PREFETCH(bpe_filter_word(b, i->pair));
    }
    for (const bpe_line *i = l->lines; i < end; i++) {
        if (i->left == SPARK_TOKEN_NONE || i->right == SPARK_TOKEN_NONE || i->made == SPARK_TOKEN_NONE) continue;
        *bpe_filter_word(b, i->pair) |= bpe_filter_bit(i->pair);
        spark__bpe_merge *slot = bpe_find(b, i->left, i->right, i->pair); /* of equal merges the first holds */
        if (slot->rank_plus_1 == 0) *slot = (spark__bpe_merge){i->left, i->right, i->made, i->rank + 1};
    }
    l->n_lines = l->n_bytes = 0;
    return SPARK_SUCCESS;
}

static spark_status bpe_load_merges(bpe_loader *l, const spark_gguf_value *merges, spark_err *err)
{
    size_t pos = 0;
    l->n_missing = 0;
    for (uint32_t i = 0; i < merges->n; i++) {
        SPARK_TRY(bpe_read_line(l, spark_gguf_next_string(merges, &pos), i, err));
        if (l->n_lines == BPE_BLOCK || l->n_bytes >= BPE_BLOCK_BYTES) SPARK_TRY(bpe_put_block(l, err));
    }
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
    SPARK_TRY(bpe_load_merges(l, merges, err));
    const uint32_t n_missing = l->n_missing;
    SPARK_TRY(spark_strmap_create(&l->extra, n_missing + 256, l->arena, err));
    SPARK_TRY(SPARK_NEW(l->arena, n_missing + 256, &b->extra, err));
    for (uint32_t i = 0; i < 256; i++) {
        const uint8_t byte = (uint8_t)i;
        const spark_bytes one = {&byte, 1};
        SPARK_TRY(bpe_symbol(l, one, spark__plain_hash(l->t->plain.seed, one), &b->byte_symbol[i], err));
    }
    return n_missing > 0 ? bpe_load_merges(l, merges, err) : SPARK_SUCCESS;
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
    bpe_loader *l = calloc(1, sizeof *l);
    SPARK_CHECK(l, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory to read tokenizer.ggml.merges");
    l->t = t;
    l->arena = a;
    const spark_status s = bpe_load_table(l, &merges, err);
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
