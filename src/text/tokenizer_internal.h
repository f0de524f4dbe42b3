/* tokenizer_internal.h - what the files of the tokenizer share: the vocabulary, and one encoder a family.
 * vocab.c loads, tokenizer.c takes special tokens out of the text and hands the rest to tok_spm.c, tok_bpe.c, tok_wpm.c. */
#ifndef SPARK_TEXT_TOKENIZER_INTERNAL_H
#define SPARK_TEXT_TOKENIZER_INTERNAL_H

#include "base/compiler.h"
#include "base/strmap.h"
#include "text/keyed_hash.h"
#include "text/merge.h"
#include "text/pretok.h"
#include "text/tokenizer.h"
#include "text/trie.h"
#include "text/word_cache.h"

typedef enum spark__vocab_kind { SPARK__SPM, SPARK__BPE, SPARK__WPM } spark__vocab_kind;

typedef enum spark__token_type { /* ids as in the file */
                                 SPARK__TOKEN_UNDEFINED,
                                 SPARK__TOKEN_NORMAL,
                                 SPARK__TOKEN_UNKNOWN,
                                 SPARK__TOKEN_CONTROL,
                                 SPARK__TOKEN_USER_DEFINED,
                                 SPARK__TOKEN_UNUSED,
                                 SPARK__TOKEN_BYTE
} spark__token_type;

/* Flags of a token. */
enum { SPARK__EOG = 1, SPARK__LSTRIP = 2, SPARK__RSTRIP = 4, SPARK__PLAIN = 8 /* its bytes lead to it */ };

/* What two bytes become, with what rank. */
typedef struct spark__bpe_bytes {
    uint32_t rank_plus_1, made;
} spark__bpe_bytes;

/* A merge that did not fit beside the symbol it makes: a further one, of other halves, or one with a long left half. */
typedef struct spark__bpe_other {
    uint32_t made, left;
    uint32_t rank_plus_1; /* 0: free, so fresh memory is an empty table and a free slot has the rank -1 */
} spark__bpe_other;

/* Byte-level BPE. Symbols are token ids, and numbers from n_vocab up for byte strings that no token has but a merge makes
 * (extra[symbol - n_vocab]). Symbols differ in their bytes, so two neighbours merge if their bytes together are a symbol that
 * a merge makes of halves of just these lengths: the table of merges is the map of tokens, and loading has no pairs to look up. */
typedef struct spark__bpe {
    spark__pretok pretok;
    bool ignore_merges;
    uint32_t byte_symbol[256];
    spark_bytes *extra;
    uint32_t
        *merge; /* [n_vocab + extras] rank + 1 of the first merge that makes it, and bytes of its left half above */
    spark__bpe_other *others; /* open addressing by (made, left) */
    uint32_t n_others;        /* slots; 0: none */
    spark__bpe_bytes *bytes;  /* [65536] by first byte | second << 8: with them a word begins */
    uint32_t max_made;        /* bytes of the longest symbol */
    uint64_t *filter;         /* a bit for each symbol: most pairs are none, and this says so from the cache */
    uint64_t filter_mask;
} spark__bpe;

typedef struct spark__spm {
    uint32_t *rank;          /* [n_vocab] order of the scores: lower merges first */
    uint32_t byte[256];      /* token of a byte that is in no other token */
    uint64_t joined[256][4]; /* bit b of row a: some token has byte b right behind byte a; U+2581 is a blank */
} spark__spm;

typedef struct spark__wpm {
    spark__trie *trie;
    bool lowercase, strip_accents;
    uint8_t within[128]; /* what an ASCII letter or digit becomes in a word, 0 for other characters */
} spark__wpm;

/* A hash map from the bytes of a token to its id. A tag is the key itself up to 7 bytes, which most are; else 56 bits of its
 * hash, and the key is compared where the token has it. BPE: the bytes a token stands for; the others: its text in the file.
 * Of equal keys the first counts. Keys are not empty. */
typedef struct spark__plain_slot {
    uint64_t tag; /* 0: free */
    uint32_t id;
    uint32_t
        merge; /* BPE: rank + 1 of the first merge that makes it, and bytes of its left half from bit MERGE_RANK on */
} spark__plain_slot;

#define SPARK__MERGE_RANK  25u /* bits: SPARK_MAX_GGUF_ARRAY merges at most */
#define SPARK__MERGE_RANKS ((1u << SPARK__MERGE_RANK) - 1)
#define SPARK__MERGE_LEFT  127u /* bytes of a left half that stands elsewhere */

typedef struct spark__plain {
    spark__plain_slot *slots;
    uint32_t mask;
    uint64_t seed[2]; /* drawn at load, so a file cannot aim at slow look-ups */
} spark__plain;

struct spark_tokenizer {
    spark__vocab_kind kind;
    uint32_t n;
    spark_bytes *tokens; /* [n] as in the file */
    uint8_t *type;       /* [n] spark__token_type */
    uint8_t *flags;      /* [n] */
    uint32_t *piece_at;  /* [n + 1] decoded bytes of token i: pieces[piece_at[i] .. piece_at[i + 1]) */
    uint8_t *pieces;
    spark__plain plain;      /* what text becomes: no control, unknown or byte tokens, so no text can forge one */
    uint32_t max_plain;      /* bytes of the longest key of `plain` */
    uint32_t max_piece;      /* and of the longest piece */
    spark__trie *special;    /* control, unknown and (always) user-defined tokens */
    uint32_t max_special[2]; /* bytes of the longest: user-defined only, all */
    uint32_t bos, eos, sep, unk;
    bool add_bos, add_eos, add_sep, space_prefix;
    union {
        spark__bpe bpe;
        spark__spm spm;
        spark__wpm wpm;
    } as;
};

#define SPARK__PHANTOM "\xE2\x96\x81" /* U+2581, the visible space of SPM and WordPiece vocabularies */

static inline bool spark__token_is_special(const spark_tokenizer *t, uint32_t id)
{
    return t->type[id] == SPARK__TOKEN_CONTROL || t->type[id] == SPARK__TOKEN_UNKNOWN;
}

static inline spark_bytes spark__token_piece(const spark_tokenizer *t, uint32_t id)
{
    return (spark_bytes){t->pieces + t->piece_at[id], t->piece_at[id + 1] - t->piece_at[id]};
}

/* The byte of a "<0xNN>" token. */
bool spark__token_byte(spark_bytes token, uint8_t *out);

static inline spark_bytes spark__plain_key(const spark_tokenizer *t, uint32_t id)
{
    if (t->kind != SPARK__BPE) return t->tokens[id];
    return SPARK_LIKELY(id < t->n) ? spark__token_piece(t, id) : t->as.bpe.extra[id - t->n];
}

#define SPARK__TAG_LONG 0xFF00000000000000u

/* The tag of a key that is not empty. */
SPARK_INLINE uint64_t spark__plain_tag(const uint64_t seed[2], spark_bytes key)
{
    const uint8_t *p = key.ptr;
    size_t n = key.len;
    if (n < 8) return spark__pack(p, n) | (uint64_t)n << 56;
    uint64_t h = seed[0] ^ n;
    for (; n > 16; n -= 16, p += 16) h = spark__mix(spark_load_u64(p) ^ seed[1], spark_load_u64(p + 8) ^ h);
    const spark__ends ends = spark__load_ends(p, n);
    return spark__mix(ends.first ^ seed[1], ends.last ^ h) | SPARK__TAG_LONG;
}

/* What a tag is looked up by. The lower half tells the slot, the upper one the bit in the filter of BPE. */
SPARK_INLINE uint64_t spark__plain_hash(const uint64_t seed[2], uint64_t tag)
{
    return spark__mix(tag ^ seed[0], seed[1]);
}

SPARK_INLINE uint32_t spark__plain_slot_of(const spark_tokenizer *t, uint64_t hash)
{
    return (uint32_t)(hash ^ hash >> 32) & t->plain.mask;
}

/* The slot of a key, or the free one where it belongs. */
SPARK_INLINE spark__plain_slot *spark__plain_find(const spark_tokenizer *t, spark_bytes key, uint64_t tag,
                                                  uint64_t hash)
{
    for (uint32_t i = spark__plain_slot_of(t, hash);; i = (i + 1) & t->plain.mask) {
        spark__plain_slot *s = &t->plain.slots[i];
        if (s->tag == 0) return s;
        if (s->tag != tag) continue;
        if (tag < SPARK__TAG_LONG || spark__key_equal(spark__plain_key(t, s->id), key)) return s;
    }
}

/* The ordinary token of these bytes, or SPARK_TOKEN_NONE. */
SPARK_INLINE uint32_t spark__plain_get(const spark_tokenizer *t, spark_bytes key)
{
    if (key.len == 0) return SPARK_TOKEN_NONE;
    const uint64_t tag = spark__plain_tag(t->plain.seed, key);
    const spark__plain_slot *s = spark__plain_find(t, key, tag, spark__plain_hash(t->plain.seed, tag));
    return s->tag && s->id < t->n ? s->id : SPARK_TOKEN_NONE;
}

/* Makes room in the map for so many keys in all. */
SPARK_MUST_CHECK spark_status spark__plain_reserve(spark_tokenizer *t, uint64_t n, spark_arena *a, spark_err *err);

SPARK_INLINE uint64_t *spark__bpe_filter_word(const spark__bpe *b, uint64_t hash)
{
    return &b->filter[(hash >> 38) & b->filter_mask];
}
SPARK_INLINE uint64_t spark__bpe_filter_bit(uint64_t hash) { return (uint64_t)1 << (hash >> 32 & 63); }

/* Numbers the file cannot know. */
void spark__vocab_seed(uint64_t seed[2]);

/* Makes room for n more ids. */
SPARK_MUST_CHECK spark_status spark__ids_grow(spark_ids *ids, size_t n, spark_err *err);
SPARK_INLINE spark_status spark__ids_reserve(spark_ids *ids, size_t n, spark_err *err)
{
    return SPARK_LIKELY(n <= ids->cap - ids->n) ? SPARK_SUCCESS : spark__ids_grow(ids, n, err);
}

/* Makes room for n more bytes. */
SPARK_MUST_CHECK spark_status spark__text_reserve(spark_text *t, size_t n, spark_err *err);

/* Where one encode call works: on the heap, or in the arena of `out`. */
typedef struct spark__encoder {
    const spark_tokenizer *t;
    spark_ids *out;
    spark__merger merger;
    spark__word_cache cache;
    spark_text word;      /* SPM, WordPiece: the word as the vocabulary writes it */
    const uint8_t *bytes; /* BPE: the word */
    const uint8_t *wide;  /* BPE: before it, 8 bytes of text can be read */
} spark__encoder;

/* Appends the ids of one word; they depend on nothing but its bytes. */
typedef spark_status spark__encode_word(spark__encoder *e, spark_bytes word, spark_err *err);

/* The same, from the cache if the word is there. */
SPARK_INLINE spark_status spark__encode_cached(spark__encoder *e, spark_bytes word, spark__encode_word *encode,
                                               spark_err *err)
{
    if (!spark__word_cache_takes(&e->cache, word.len)) return encode(e, word, err);
    const spark__cache_key key = spark__word_cache_key(word);
    spark__cached *slot = spark__word_cache_slot(&e->cache, &key, word.len);
    const size_t before = e->out->n;
    if (SPARK_LIKELY(spark__word_cache_hit(slot, &key, word.len))) {
        SPARK_TRY(spark__ids_reserve(e->out, SPARK__CACHE_IDS, err));
        memcpy(e->out->ids + before, slot->ids, sizeof slot->ids); /* all: a copy of fixed size is cheaper */
        e->out->n += slot->n;
        return SPARK_SUCCESS;
    }
    SPARK_TRY(encode(e, word, err));
    spark__word_cache_put(slot, &key, word.len, e->out, before);
    return SPARK_SUCCESS;
}

/* The end of loading for a family; merges and scores come from g. */
SPARK_MUST_CHECK spark_status spark__spm_load(spark_tokenizer *t, const spark_gguf *g, spark_arena *a, spark_err *err);
SPARK_MUST_CHECK spark_status spark__bpe_load(spark_tokenizer *t, const spark_gguf *g, spark_arena *a, spark_err *err);
SPARK_MUST_CHECK spark_status spark__wpm_load(spark_tokenizer *t, const spark_gguf *g, spark_arena *a, spark_err *err);

/* Ordinary text, without special tokens. first: it stands at the beginning or behind a special token. */
SPARK_MUST_CHECK spark_status spark__spm_encode(spark__encoder *e, spark_bytes text, bool first, spark_err *err);
SPARK_MUST_CHECK spark_status spark__bpe_encode(spark__encoder *e, spark_bytes text, spark_err *err);
SPARK_MUST_CHECK spark_status spark__wpm_encode(spark__encoder *e, spark_bytes text, spark_err *err);

/* BPE vocabularies write a byte as a printable character. Undoes it: out has room for text.len bytes; returns how many,
 * or SIZE_MAX if some character stands for no byte. */
#define SPARK__PRINTABLE 384u /* characters of one or two bytes up to U+017F */
typedef struct spark__unprintable {
    int16_t byte[SPARK__PRINTABLE]; /* of each character, or -1 */
} spark__unprintable;
void spark__bpe_unprintable_make(spark__unprintable *u);
size_t spark__bpe_unprintable(const spark__unprintable *u, spark_bytes text, uint8_t *out);

#endif
