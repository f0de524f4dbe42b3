/* tokenizer.h - text to token ids and back, exactly as the model was trained to see it.
 * Nouns:   spark_tokenizer, the vocabulary of one model with its rules (SPM, BPE, WordPiece).
 * Promise: linear time in the text for any text; a special token is produced from text only where the caller says so.
 * Threads: immutable after load; any number may encode and decode, each with its own output and scratch. */
#ifndef SPARK_TEXT_TOKENIZER_H
#define SPARK_TEXT_TOKENIZER_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "format/gguf.h"

typedef struct spark_tokenizer spark_tokenizer;

/* Ids, owned by whoever made it. Grows by doubling; freed with spark_ids_free. With an arena it grows there, and whatever
 * a call needs for its work while it fills them is taken there too: then no heap is touched, and a reset of the arena frees
 * all of it (spark_ids_free only forgets). */
typedef struct spark_ids {
    uint32_t *ids;
    size_t n, cap;
    spark_arena *arena; /* borrowed; NULL = heap */
} spark_ids;
SPARK_MUST_CHECK spark_status spark_ids_push(spark_ids *ids, uint32_t id, spark_err *err);
void spark_ids_free(spark_ids *ids);

/* Bytes, owned likewise. */
typedef struct spark_text {
    uint8_t *ptr;
    size_t len, cap;
    spark_arena *arena;
} spark_text;
SPARK_MUST_CHECK spark_status spark_text_append(spark_text *t, spark_bytes b, spark_err *err);
void spark_text_free(spark_text *t);

typedef enum spark_encode_flags {
    SPARK_ENCODE_SPECIAL = 1,  /* texts of special (control) tokens inside the text become those tokens */
    SPARK_ENCODE_ADD = 2,      /* add what the vocabulary asks for: BOS, EOS, CLS, SEP */
    SPARK_ENCODE_CONTINUE = 4, /* the text goes on after earlier tokens: no space prefix (SPM) */
} spark_encode_flags;

/* Bytes of an arena that encoding a text of n bytes may take at most, its ids included. Holds unless the vocabulary spells
 * single characters as several tokens on a large scale, which no real one does; then E_LIMIT may come. */
size_t spark_tokenizer_encode_bytes(size_t n);

/* Builds the tokenizer from tokenizer.* keys alone. The heads behind `g` must outlive it. Everything else is in `a`.
 * Errors name the key; an unknown tokenizer.ggml.model or .pre is SPARK_E_UNSUPPORTED and names it. */
SPARK_MUST_CHECK spark_status spark_tokenizer_load(spark_tokenizer **out, const spark_gguf *g, spark_arena *a,
                                                   spark_err *err);

/* Appends the ids of `text` (any bytes; invalid UTF-8 goes through the byte tokens or the unknown token, as the family
 * does) to *out. On error *out has its old length. */
SPARK_MUST_CHECK spark_status spark_tokenizer_encode(const spark_tokenizer *t, spark_bytes text, unsigned flags,
                                                     spark_ids *out, spark_err *err);

/* Part of a text. Only trusted parts (a template's own words) may have special tokens parsed in them. */
typedef struct spark_run {
    size_t begin, end; /* bytes */
    bool trusted;
} spark_run;

/* Encodes a rendered chat as one text: split into words across the runs as if there were none, but the text of a control
 * token becomes that token only where it lies wholly in trusted runs. The runs cover the text in order. Adds no BOS. */
SPARK_MUST_CHECK spark_status spark_tokenizer_encode_runs(const spark_tokenizer *t, spark_bytes text,
                                                          const spark_run *runs, size_t n_runs, spark_ids *out,
                                                          spark_err *err);

/* Decodes a whole sequence: drops the space that SPM puts first and the special tokens that ADD would have added.
 * An id outside the vocabulary is an error at its index. */
SPARK_MUST_CHECK spark_status spark_tokenizer_decode(const spark_tokenizer *t, const uint32_t *ids, size_t n,
                                                     spark_text *out, spark_err *err);

/* The bytes of one token in a continuation: nothing is dropped; control tokens give no bytes unless `special`.
 * Borrowed from the tokenizer, or from `buf` (at least SPARK_TOKENIZER_PIECE bytes) for what must be computed. */
#define SPARK_TOKENIZER_PIECE 16u
spark_bytes spark_tokenizer_piece(const spark_tokenizer *t, uint32_t id, bool special, uint8_t *buf);

uint32_t spark_tokenizer_n_vocab(const spark_tokenizer *t);
uint32_t spark_tokenizer_longest_piece(const spark_tokenizer *t);         /* bytes that one token can decode to */
const char *spark_tokenizer_model(const spark_tokenizer *t);              /* "llama", "gpt2", "bert" */
spark_bytes spark_tokenizer_token(const spark_tokenizer *t, uint32_t id); /* as it stands in the file */
bool spark_tokenizer_is_special(const spark_tokenizer *t, uint32_t id);   /* control or unknown */
bool spark_tokenizer_is_eog(const spark_tokenizer *t, uint32_t id); /* ends a generation: EOS, EOT, EOM and their kin */

#define SPARK_TOKEN_NONE UINT32_MAX
uint32_t spark_tokenizer_bos(const spark_tokenizer *t); /* SPARK_TOKEN_NONE if the vocabulary has none */
uint32_t spark_tokenizer_eos(const spark_tokenizer *t);
bool spark_tokenizer_adds_bos(const spark_tokenizer *t);
bool spark_tokenizer_adds_eos(const spark_tokenizer *t);
/* The id whose text is exactly this, or SPARK_TOKEN_NONE. */
uint32_t spark_tokenizer_find(const spark_tokenizer *t, spark_bytes text);

#endif
