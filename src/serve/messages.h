/* messages.h - what the payloads of frames mean, beside ASK (ask.h), CONFIG and READY (JSON, cell_config.h).
 * Promise: each get_ accepts exactly what its put_ writes; anything else is E_FORMAT. Numbers that come from the other end are checked for what
 *          they claim (counts, lengths), not for being true. */
#ifndef SPARK_SERVE_MESSAGES_H
#define SPARK_SERVE_MESSAGES_H

#include "base/spark_limits.h"
#include "engine/engine.h"
#include "serve/wire.h"

/* A token with the bytes it stands for. */
typedef struct spark_token_text {
    uint32_t id;
    float logprob;
    spark_bytes text; /* at most SPARK_WIRE_TOKEN_TEXT bytes of it */
} spark_token_text;
enum { SPARK_WIRE_TOKEN_TEXT = 1000 };

typedef struct spark_piece_message {
    bool has_token, has_logprobs;
    spark_token_text token; /* logprob and text with has_logprobs */
    uint32_t n_top;         /* at most SPARK_MAX_LOGPROBS */
    spark_token_text top[SPARK_MAX_LOGPROBS];
    spark_bytes text; /* that may be shown; at most SPARK_MAX_TOKEN_BYTES + SPARK_MAX_STOP_BYTES */
} spark_piece_message;
enum { SPARK_PIECE_HEAD_MAX = 16 + (SPARK_MAX_LOGPROBS + 1) * (10 + SPARK_WIRE_TOKEN_TEXT) };
/* Writes all but the text into head[SPARK_PIECE_HEAD_MAX]; returns its length. */
size_t spark_put_piece(uint8_t *head, const spark_piece_message *m);
SPARK_MUST_CHECK spark_status spark_get_piece(spark_piece_message *out, spark_bytes in, spark_err *err);

typedef struct spark_started_message {
    uint32_t n_prompt, n_cached;
    uint64_t took_ns; /* when the engine took the ASK from the wire; spark_clock_ns is one clock for all cells */
} spark_started_message;
enum { SPARK_STARTED_BYTES = 16 };
void spark_put_started(uint8_t out[SPARK_STARTED_BYTES], const spark_started_message *m);
SPARK_MUST_CHECK spark_status spark_get_started(spark_started_message *out, spark_bytes in, spark_err *err);

typedef struct spark_finished_message {
    spark_finish finish;
    bool stop_string;
    uint16_t which_stop;
    uint32_t n_prompt, n_cached, n_tokens;
    uint64_t queue_us, prompt_us, decode_us;
} spark_finished_message;
enum { SPARK_FINISHED_BYTES = 40 };
void spark_put_finished(uint8_t out[SPARK_FINISHED_BYTES], const spark_finished_message *m);
SPARK_MUST_CHECK spark_status spark_get_finished(spark_finished_message *out, spark_bytes in, spark_err *err);

/* Why a stream or a model failed, and when it may be tried again. */
typedef struct spark_failed_message {
    spark_err err;
    uint32_t retry_ms; /* 0 = no advice */
} spark_failed_message;
enum { SPARK_FAILED_BYTES = 24 + SPARK_ERR_TEXT };
size_t spark_put_failed(uint8_t out[SPARK_FAILED_BYTES], const spark_failed_message *m);
SPARK_MUST_CHECK spark_status spark_get_failed(spark_failed_message *out, spark_bytes in, spark_err *err);

enum { SPARK_STATS_BYTES = 8 * 20 };
void spark_put_stats(uint8_t out[SPARK_STATS_BYTES], const spark_engine_stats *s);
SPARK_MUST_CHECK spark_status spark_get_stats(spark_engine_stats *out, spark_bytes in, spark_err *err);

#endif
