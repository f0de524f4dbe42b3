/* spark.h - language models in your process: open a GGUF, tokenize, generate, and get the same bytes every time.
 *
 * Nouns:   spark_model, one model (description, vocabulary, chat template, and after load its weights);
 *          spark_session, one sequence of tokens on it with its keys and values.
 * Promise: logits are a function of (model file, KV type, tokens); a sampled token of (logits, parameters, seed, position,
 *          tokens before it). Threads, CPU and chunking never show. After spark_session_create nothing is allocated by
 *          feed, sync and generate beyond what spark_model_plan said.
 * Memory:  objects are owned by the caller until close/destroy, which take the address of the pointer and set it to NULL;
 *          every other pointer says until when it is borrowed. The library never prints, exits or aborts.
 * Errors:  every fallible call returns spark_status and fills `err` (may be NULL); outputs are then untouched.
 * Threads: a model may be used from any thread; calls on sessions of one model take turns. spark_session_cancel may come
 *          from any thread or signal handler.
 * Options: plain structs; call their _defaults function first, then change what you need. `reserved` must stay zero.
 *
 *     spark_model *m = NULL; spark_session *s = NULL; spark_err err;
 *     if (spark_model_open(&m, "model.gguf", NULL, &err).code || spark_model_load(m, NULL, NULL, &err).code) ...
 */
#ifndef SPARK_SPARK_H
#define SPARK_SPARK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "spark/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__) || defined(__clang__)
#define SPARK_API __attribute__((visibility("default")))
#else
#define SPARK_API
#endif

typedef struct spark_model spark_model;
typedef struct spark_session spark_session;

/* "0.1.0", and for what and by what it was built: "x86-64, gcc 12.2.0". Static strings. */
SPARK_API const char *spark_version(void);
SPARK_API const char *spark_build_info(void);
/* The number of the definition of every bit (docs/NUMERICS.md). It changes when any result may. */
#define SPARK_NUMERICS_PROFILE 1

/* ---- Model ------------------------------------------------------------------------------------------------------- */

typedef struct spark_model_options {
    uint32_t n_threads; /* 0 = all CPUs the process may use */
    bool vocab_only; /* read metadata and vocabulary only: tokenizing works for any architecture, nothing else does */
    /* The highest CPU level to use ("scalar", "avx2", ...); NULL = the best. Never changes a result. "amx" (the best where a
     * CPU has it) asks Linux for the tile registers, once and for the whole process: signal stacks of its threads must have
     * room for them then (sysconf(_SC_MINSIGSTKSZ), about 12 KiB). "avx512" avoids that. */
    const char *cpu;
    uint64_t reserved[8];
} spark_model_options;
SPARK_API void spark_model_options_defaults(spark_model_options *o);

/* Reads and checks the head of a GGUF file (and of its split siblings): metadata, vocabulary, tensor directory. Weights are
 * not read. o may be NULL. Errors: E_IO, E_FORMAT, E_UNSUPPORTED (names the architecture), E_LIMIT, E_MEMORY. */
SPARK_API SPARK_MUST_CHECK spark_status spark_model_open(spark_model **out, const char *path,
                                                         const spark_model_options *o, spark_err *err);
/* The same from memory, borrowed until close. */
SPARK_API SPARK_MUST_CHECK spark_status spark_model_open_memory(spark_model **out, const void *data, size_t len,
                                                                const spark_model_options *o, spark_err *err);
/* The model embedded in this library, if it was built with one (E_UNSUPPORTED otherwise). */
SPARK_API SPARK_MUST_CHECK spark_status spark_model_open_embedded(spark_model **out, const spark_model_options *o,
                                                                  spark_err *err);
SPARK_API void spark_model_close(spark_model **m); /* sessions on it must be destroyed first */

typedef struct spark_description {
    const char *arch, *name, *tokenizer; /* borrowed until close; name may be "" */
    uint32_t n_layers, n_embd, n_vocab, n_ctx_train;
    uint64_t n_params, file_bytes;
    bool has_chat_template;
    uint32_t default_ctx; /* the smaller of the model's context and 4096 */
    uint64_t reserved[8];
} spark_description;
SPARK_API void spark_model_describe(const spark_model *m, spark_description *out);

typedef enum spark_kv_choice { SPARK_KV_TYPE_F16, SPARK_KV_TYPE_F32, SPARK_KV_TYPE_Q8_0 } spark_kv_choice;

typedef struct spark_session_options {
    uint32_t n_ctx;   /* positions; 0 = default_ctx of the description */
    uint32_t n_batch; /* tokens of one step of a prompt; 0 = 192, or 512 with experts. Never changes a result */
    uint32_t
        n_logits; /* rows of one step that spark_session_score may compute at once; 0 = 1. Never changes a result */
    spark_kv_choice kv; /* how keys and values are stored: part of what defines a result */
    uint64_t reserved[8];
} spark_session_options;
SPARK_API void spark_session_options_defaults(spark_session_options *o);

/* Bytes that load and a session will take, before any is taken. */
typedef struct spark_plan {
    uint64_t weights, kv, scratch, vocabulary, total; /* vocabulary: metadata, tokenizer, template */
    uint32_t n_ctx, n_threads;
} spark_plan;
SPARK_API SPARK_MUST_CHECK spark_status spark_model_plan(const spark_model *m, const spark_session_options *o,
                                                         spark_plan *out, spark_err *err);

/* Reads every weight once into its kernel-ready form. progress (may be NULL) gets bytes done and total in the calling
 * thread, first with 0 done; returning false stops with E_CANCELLED. E_NUMERIC names the tensor with a value that is not
 * finite. */
SPARK_API SPARK_MUST_CHECK spark_status spark_model_load(spark_model *m,
                                                         bool (*progress)(void *ctx, uint64_t done, uint64_t total),
                                                         void *ctx, spark_err *err);

/* ---- Text and tokens --------------------------------------------------------------------------------------------- */

/* Ids and bytes that the library allocated; release with the _free functions. */
typedef struct spark_tokens {
    uint32_t *ids;
    size_t n;
} spark_tokens;
typedef struct spark_buffer {
    char *ptr; /* NUL-terminated; may hold NUL bytes before len */
    size_t len;
} spark_buffer;
SPARK_API void spark_tokens_free(spark_tokens *t);
SPARK_API void spark_buffer_free(spark_buffer *b);

#define SPARK_TOKENIZE_SPECIAL 1u /* texts of special tokens become those tokens: never for a text you did not write */
#define SPARK_TOKENIZE_ADD     2u /* add BOS, EOS, CLS, SEP as the vocabulary asks */

SPARK_API SPARK_MUST_CHECK spark_status spark_model_tokenize(const spark_model *m, const char *text, size_t len,
                                                             unsigned flags, spark_tokens *out, spark_err *err);
/* Bytes of a whole sequence (the space that some vocabularies put first is dropped, added special tokens left out). */
SPARK_API SPARK_MUST_CHECK spark_status spark_model_detokenize(const spark_model *m, const uint32_t *ids, size_t n,
                                                               spark_buffer *out, spark_err *err);
SPARK_API bool spark_model_is_eog(const spark_model *m, uint32_t id); /* ends a generation */

/* Renders the model's chat template. `vars` is a JSON object with "messages" [{"role", "content"}, ...] and whatever else
 * the template reads ("tools", "enable_thinking", ...); bos_token and eos_token are filled in, add_generation_prompt is
 * true unless set. Only the template's own text may become special tokens: contents of messages never do.
 * text (may be NULL) gets the rendering. Errors: E_FORMAT with line and column, E_REFUSED with the template's own words,
 * E_UNSUPPORTED if the model has no template. */
SPARK_API SPARK_MUST_CHECK spark_status spark_model_chat(const spark_model *m, const char *vars, size_t len,
                                                         spark_tokens *out, spark_buffer *text, spark_err *err);

/* ---- Session ----------------------------------------------------------------------------------------------------- */

SPARK_API SPARK_MUST_CHECK spark_status spark_session_create(spark_session **out, spark_model *m,
                                                             const spark_session_options *o, spark_err *err);
SPARK_API void spark_session_destroy(spark_session **s);

/* Appends tokens. E_CONTEXT if they do not fit (nothing is appended then). */
SPARK_API SPARK_MUST_CHECK spark_status spark_session_feed(spark_session *s, const uint32_t *ids, size_t n,
                                                           spark_err *err);
/* Makes the session hold exactly these tokens (n >= 1): what it already has in common with them is kept, the rest is
 * forgotten, and only what is new is computed. Gives the same logits as feeding all of them to a new session. */
SPARK_API SPARK_MUST_CHECK spark_status spark_session_sync(spark_session *s, const uint32_t *ids, size_t n,
                                                           spark_err *err);
/* Logits after the last token: [n_vocab], borrowed until the next call on the session. E_STATE if it is empty. */
SPARK_API SPARK_MUST_CHECK spark_status spark_session_logits(spark_session *s, const float **logits, spark_err *err);
/* Feeds tokens and writes the logits after each: out[n][n_vocab]. */
SPARK_API SPARK_MUST_CHECK spark_status spark_session_score(spark_session *s, const uint32_t *ids, size_t n, float *out,
                                                            spark_err *err);
SPARK_API void spark_session_reset(spark_session *s); /* forgets all tokens */
SPARK_API size_t spark_session_length(const spark_session *s);
SPARK_API const uint32_t *spark_session_tokens(const spark_session *s); /* borrowed until the next call */
/* Ends the running feed, sync, score or generate soon, with E_CANCELLED or SPARK_FINISH_CANCELLED; if none is running, the
 * next one. Async-signal-safe. */
SPARK_API void spark_session_cancel(spark_session *s);

/* ---- Generation -------------------------------------------------------------------------------------------------- */

/* Applied in this order (llama.cpp's): logit bias, penalties, dry, top_n_sigma, top_k, typical_p, top_p, min_p, xtc,
 * temperature, draw. A value in brackets turns its step off. */
typedef struct spark_sampling {
    uint64_t seed;
    float temperature;                          /* 0.8; 0 = greedy (equal logits: the lower id) */
    float dynatemp_range, dynatemp_exponent;    /* [0], 1 */
    uint32_t top_k;                             /* 40 [0] */
    float top_p, min_p, typical_p, top_n_sigma; /* 0.95 [1], 0.05 [0], [1], [-1] */
    float xtc_probability, xtc_threshold;       /* [0], 0.1 */
    uint32_t min_keep;                          /* 0: how many tokens each of the steps above must leave */
    uint32_t penalty_last_n;                    /* 64 [0]: how many of the latest tokens count */
    float repeat_penalty, frequency_penalty, presence_penalty; /* [1], [0], [0] */
    float dry_multiplier, dry_base;                            /* [0], 1.75 */
    uint32_t dry_allowed_length, dry_last_n;                   /* 2, 64 */
    uint64_t reserved[8];
} spark_sampling;

typedef struct spark_logit_bias {
    uint32_t id;
    float bias; /* -INFINITY forbids the token */
} spark_logit_bias;

typedef struct spark_logprob {
    uint32_t id;
    float logprob; /* natural, of the softmax of all logits before any of the steps above */
} spark_logprob;

/* What the callback gets: text that is ready (whole characters only, nothing that may still become a stop string; may be
 * empty) and the token that was just drawn. */
typedef struct spark_piece {
    const char *text; /* borrowed for the call; not NUL-terminated */
    size_t len;
    bool has_token; /* false in the last call, which only hands out what was held back */
    uint32_t id;
    float logprob; /* these three only with n_logprobs > 0 */
    const spark_logprob *top;
    uint32_t n_top;
} spark_piece;

typedef struct spark_generate_options {
    uint32_t max_tokens; /* 0 = until the model ends, a stop string comes, or the context is full */
    spark_sampling sampling;
    const char *const *stops; /* [n_stops] UTF-8, each 1 to 1024 bytes */
    size_t n_stops;
    const spark_logit_bias *logit_bias;
    size_t n_logit_bias;
    uint32_t n_logprobs;                                   /* 0 = none */
    bool ignore_eog;                                       /* go on after the model's end token (benchmarks) */
    bool (*on_piece)(void *ctx, const spark_piece *piece); /* may be NULL; false cancels */
    void *ctx;
    uint64_t reserved[8];
} spark_generate_options;
SPARK_API void spark_generate_options_defaults(spark_generate_options *o);

typedef enum spark_finish { SPARK_FINISH_STOP, SPARK_FINISH_LENGTH, SPARK_FINISH_CANCELLED } spark_finish;

typedef struct spark_generate_result {
    spark_finish finish;
    uint32_t n_tokens; /* drawn, an end token included; they are in spark_session_tokens, save the end token */
    uint64_t reserved[8];
} spark_generate_result;

/* Draws tokens until something ends it. Needs at least one token in the session. */
SPARK_API SPARK_MUST_CHECK spark_status spark_session_generate(spark_session *s, const spark_generate_options *o,
                                                               spark_generate_result *out, spark_err *err);

#ifdef __cplusplus
}
#endif
#endif
