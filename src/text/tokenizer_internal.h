/* tokenizer_internal.h - what the files of the tokenizer share: the vocabulary, and one encoder a family.
 * vocab.c loads, tokenizer.c takes special tokens out of the text and hands the rest to tok_spm.c, tok_bpe.c, tok_wpm.c. */
#ifndef SPARK_TEXT_TOKENIZER_INTERNAL_H
#define SPARK_TEXT_TOKENIZER_INTERNAL_H

#include "base/strmap.h"
#include "text/merge.h"
#include "text/pretok.h"
#include "text/tokenizer.h"
#include "text/trie.h"

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
enum { SPARK__EOG = 1, SPARK__LSTRIP = 2, SPARK__RSTRIP = 4 };

typedef struct spark__bpe_merge {
    uint32_t left, right; /* symbols; left == UINT32_MAX: free */
    uint32_t rank, made;
} spark__bpe_merge;

/* Byte-level BPE. Symbols are token ids, and numbers from n_vocab up for byte strings that no token has but a merge names
 * (extra[symbol - n_vocab]). */
typedef struct spark__bpe {
    const spark__pretok *pretok;
    bool ignore_merges;
    uint32_t byte_symbol[256];
    spark_bytes *extra;
    spark__bpe_merge *merges; /* open addressing by (left, right) */
    uint32_t n_slots;
    uint64_t seed; /* of the hash: drawn at load, so a file cannot aim at it */
} spark__bpe;

typedef struct spark__spm {
    uint32_t *rank;     /* [n_vocab] order of the scores: lower merges first */
    uint32_t byte[256]; /* token of a byte that is in no other token */
    bool joins[256];    /* some token has U+2581 inside, behind a character that ends with this byte */
} spark__spm;

typedef struct spark__wpm {
    spark__trie *trie;
    bool lowercase, strip_accents;
} spark__wpm;

struct spark_tokenizer {
    spark__vocab_kind kind;
    uint32_t n;
    spark_bytes *tokens; /* [n] as in the file */
    uint8_t *type;       /* [n] spark__token_type */
    uint8_t *flags;      /* [n] */
    uint32_t *piece_at;  /* [n + 1] decoded bytes of token i: pieces[piece_at[i] .. piece_at[i + 1]) */
    uint8_t *pieces;
    spark_strmap *plain;     /* what text becomes: no control, unknown or byte tokens, so no text can forge one.
                            SPM: as in the file; BPE: the bytes it stands for */
    uint32_t max_plain;      /* bytes of the longest key of `plain` */
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

/* Where one encode call works. */
typedef struct spark__encoder {
    const spark_tokenizer *t;
    spark_ids *out;
    spark__merger merger;
    spark_text word; /* SPM, WordPiece: the word as the vocabulary writes it */
} spark__encoder;

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
size_t spark__bpe_unprintable(spark_bytes text, uint8_t *out);

#endif
