/* ask.h - what one client request asks of an engine, whatever API it came by; and its form on the wire.
 * Nouns:   spark_ask, a checked request: a prompt in one of its forms and how to go on from it.
 * Promise: decode accepts exactly what encode writes; any other bytes are refused with their offset, at a cost linear in their number.
 * Memory:  every pointer is borrowed: of encode from the caller, of decode from the bytes or from the arena. */
#ifndef SPARK_SERVE_ASK_H
#define SPARK_SERVE_ASK_H

#include "base/arena.h"
#include "spark/spark.h"

typedef enum spark_ask_kind {
    SPARK_ASK_CHAT, /* text: JSON object of template variables (messages, tools, ...); ids, if any, go before it; answer: PIECE events */
    SPARK_ASK_TEXT, /* text: a prompt as it is; special tokens in it only with parse_special */
    SPARK_ASK_IDS,  /* ids: a prompt as tokens */
    SPARK_ASK_TOKENIZE, /* text -> DATA: ids (add_special, parse_special), u32 each; with `pieces` u32, u16 length and bytes each */
    SPARK_ASK_DETOKENIZE, /* ids -> DATA: text, any bytes */
    SPARK_ASK_TEMPLATE,   /* text: as CHAT -> DATA: the rendered prompt */
    SPARK_ASK_N_KINDS
} spark_ask_kind;

typedef struct spark_ask {
    spark_ask_kind kind;
    spark_bytes text;
    const uint32_t *ids;
    uint32_t n_ids;
    bool add_special,
        parse_special; /* TEXT, TOKENIZE: BOS as the vocabulary asks; texts of special tokens become those tokens */
    bool pieces;       /* TOKENIZE: with the bytes of each token */
    bool prompt_ids;   /* CHAT, TEXT, IDS: the prompt's ids come first, as DATA, u32 each */
    bool echo;         /* TEXT, IDS: the prompt's own text comes first */
    bool cache;        /* may use and fill the prefix cache (default true) */
    bool random_seed;  /* the client gave none: the front filled generate.sampling.seed from the system */
    uint64_t tenant;   /* of the key; the front's, never the client's */
    int32_t priority;
    uint32_t deadline_ms;            /* from now; 0 = none */
    uint32_t n_ctx;                  /* a lower context than the engine's (Ollama's num_ctx); 0 = the engine's */
    spark_generate_options generate; /* on_piece and ctx unused */
} spark_ask;

void spark_ask_defaults(spark_ask *a); /* those of spark_generate_options_defaults, add_special, cache */

/* Whether encode and decode take it: parts that its kind does not have are empty, texts are UTF-8, numbers finite, counts and
 * sizes within spark_limits.h, and all of it within SPARK_MAX_ASK. What parameters mean is checked by the engine. */
SPARK_MUST_CHECK spark_status spark_ask_check(const spark_ask *a, spark_err *err);

size_t spark_ask_size(const spark_ask *a); /* bytes that encode writes */
size_t spark_ask_encode(const spark_ask *a,
                        uint8_t *out); /* out[spark_ask_size]; a was checked; returns bytes written */
/* Arrays of the result are in arena a; text, ids and stops are copied too, so that `in` may go. */
SPARK_MUST_CHECK spark_status spark_ask_decode(spark_ask *out, spark_bytes in, spark_arena *a, spark_err *err);

#endif
