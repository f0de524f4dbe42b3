/* messages.c - payloads, field by field in little endian. */
#include "serve/messages.h"

#include <string.h>

static spark_status messages_end(const spark_cursor *c, spark_err *err)
{
    SPARK_CHECK(spark_cursor_left(c) == 0, err, SPARK_E_FORMAT, spark_cursor_pos(c),
                "bytes behind the end of a message");
    return SPARK_SUCCESS;
}

static spark_status messages_bool(spark_cursor *c, bool *out, spark_err *err)
{
    uint8_t v = 0;
    SPARK_TRY(spark_cursor_u8(c, &v, err));
    SPARK_CHECK(v <= 1, err, SPARK_E_FORMAT, spark_cursor_pos(c) - 1, "%u is neither true nor false", v);
    *out = v;
    return SPARK_SUCCESS;
}

/* ---- Piece: flags, id; with logprobs: token, count, top; then the text to the end ---- */

enum { PIECE_HAS_TOKEN = 1, PIECE_HAS_LOGPROBS = 2 };

static uint8_t *put_token(uint8_t *p, const spark_token_text *t)
{
    const size_t len = t->text.len < SPARK_WIRE_TOKEN_TEXT ? t->text.len : SPARK_WIRE_TOKEN_TEXT;
    spark_store_u32(p, t->id);
    spark_store_f32(p + 4, t->logprob);
    spark_store_u16(p + 8, (uint16_t)len);
    if (len) memcpy(p + 10, t->text.ptr, len);
    return p + 10 + len;
}

size_t spark_put_piece(uint8_t *head, const spark_piece_message *m)
{
    uint8_t *p = head;
    *p++ = (uint8_t)((m->has_token ? PIECE_HAS_TOKEN : 0) | (m->has_logprobs ? PIECE_HAS_LOGPROBS : 0));
    *p++ = (uint8_t)(m->has_logprobs ? m->n_top : 0);
    spark_store_u16(p, 0);
    p += 2;
    if (!m->has_logprobs) {
        spark_store_u32(p, m->token.id);
        return (size_t)(p + 4 - head);
    }
    p = put_token(p, &m->token);
    for (uint32_t i = 0; i < m->n_top; i++) p = put_token(p, &m->top[i]);
    return (size_t)(p - head);
}

static spark_status get_token(spark_cursor *c, spark_token_text *t, spark_err *err)
{
    uint32_t bits = 0;
    uint16_t len = 0;
    SPARK_TRY(spark_cursor_u32(c, &t->id, err));
    SPARK_TRY(spark_cursor_u32(c, &bits, err));
    SPARK_TRY(spark_cursor_u16(c, &len, err));
    memcpy(&t->logprob, &bits, sizeof bits);
    SPARK_CHECK(t->logprob <= 0 && len <= SPARK_WIRE_TOKEN_TEXT, err, SPARK_E_FORMAT, spark_cursor_pos(c),
                "a token's log-probability above 0, or its text of %u bytes", len);
    return spark_cursor_take(c, len, &t->text, err);
}

spark_status spark_get_piece(spark_piece_message *out, spark_bytes in, spark_err *err)
{
    spark_cursor c = spark_cursor_at(in);
    uint8_t flags = 0, n_top = 0;
    uint16_t zero = 0;
    out->n_top = 0;
    SPARK_TRY(spark_cursor_u8(&c, &flags, err));
    SPARK_TRY(spark_cursor_u8(&c, &n_top, err));
    SPARK_TRY(spark_cursor_u16(&c, &zero, err));
    SPARK_CHECK(flags <= 3 && zero == 0 && n_top <= SPARK_MAX_LOGPROBS && (flags & PIECE_HAS_LOGPROBS || n_top == 0),
                err, SPARK_E_FORMAT, 0, "a piece with unknown flags");
    out->has_token = flags & PIECE_HAS_TOKEN;
    out->has_logprobs = flags & PIECE_HAS_LOGPROBS;
    out->token = (spark_token_text){0};
    if (out->has_logprobs)
        SPARK_TRY(get_token(&c, &out->token, err));
    else
        SPARK_TRY(spark_cursor_u32(&c, &out->token.id, err));
    for (; out->n_top < n_top; out->n_top++) SPARK_TRY(get_token(&c, &out->top[out->n_top], err));
    SPARK_TRY(spark_cursor_take(&c, spark_cursor_left(&c), &out->text, err));
    SPARK_CHECK(out->text.len <= SPARK_MAX_TOKEN_BYTES + SPARK_MAX_STOP_BYTES, err, SPARK_E_FORMAT, 4,
                "a piece whose text is too long");
    return SPARK_SUCCESS;
}

/* ---- Started ---- */

void spark_put_started(uint8_t out[SPARK_STARTED_BYTES], const spark_started_message *m)
{
    spark_store_u32(out, m->n_prompt);
    spark_store_u32(out + 4, m->n_cached);
    spark_store_u64(out + 8, m->took_ns);
}

spark_status spark_get_started(spark_started_message *out, spark_bytes in, spark_err *err)
{
    spark_cursor c = spark_cursor_at(in);
    SPARK_TRY(spark_cursor_u32(&c, &out->n_prompt, err));
    SPARK_TRY(spark_cursor_u32(&c, &out->n_cached, err));
    SPARK_CHECK(out->n_cached <= out->n_prompt, err, SPARK_E_FORMAT, 4, "more cached tokens than the prompt has");
    SPARK_TRY(spark_cursor_u64(&c, &out->took_ns, err));
    return messages_end(&c, err);
}

/* ---- Finished ---- */

void spark_put_finished(uint8_t out[SPARK_FINISHED_BYTES], const spark_finished_message *m)
{
    out[0] = (uint8_t)m->finish;
    out[1] = m->stop_string;
    spark_store_u16(out + 2, m->which_stop);
    spark_store_u32(out + 4, m->n_prompt);
    spark_store_u32(out + 8, m->n_cached);
    spark_store_u32(out + 12, m->n_tokens);
    spark_store_u64(out + 16, m->queue_us);
    spark_store_u64(out + 24, m->prompt_us);
    spark_store_u64(out + 32, m->decode_us);
}

spark_status spark_get_finished(spark_finished_message *out, spark_bytes in, spark_err *err)
{
    spark_cursor c = spark_cursor_at(in);
    uint8_t finish = 0;
    SPARK_TRY(spark_cursor_u8(&c, &finish, err));
    SPARK_CHECK(finish <= SPARK_FINISH_CANCELLED, err, SPARK_E_FORMAT, 0, "an unknown reason to finish");
    out->finish = (spark_finish)finish;
    SPARK_TRY(messages_bool(&c, &out->stop_string, err));
    SPARK_TRY(spark_cursor_u16(&c, &out->which_stop, err));
    SPARK_CHECK(out->which_stop < SPARK_MAX_STOPS, err, SPARK_E_FORMAT, 2, "an unknown stop string");
    SPARK_TRY(spark_cursor_u32(&c, &out->n_prompt, err));
    SPARK_TRY(spark_cursor_u32(&c, &out->n_cached, err));
    SPARK_TRY(spark_cursor_u32(&c, &out->n_tokens, err));
    SPARK_CHECK(out->n_cached <= out->n_prompt, err, SPARK_E_FORMAT, 8, "more cached tokens than the prompt has");
    SPARK_TRY(spark_cursor_u64(&c, &out->queue_us, err));
    SPARK_TRY(spark_cursor_u64(&c, &out->prompt_us, err));
    SPARK_TRY(spark_cursor_u64(&c, &out->decode_us, err));
    return messages_end(&c, err);
}

/* ---- Failed, broken ---- */

size_t spark_put_failed(uint8_t out[SPARK_FAILED_BYTES], const spark_failed_message *m)
{
    const size_t len = strnlen(m->err.text, SPARK_ERR_TEXT - 1);
    spark_store_u16(out, (uint16_t)m->err.code);
    spark_store_u16(out + 2, (uint16_t)len);
    spark_store_u32(out + 4, m->retry_ms);
    spark_store_u64(out + 8, m->err.at);
    spark_store_u32(out + 16, m->err.line);
    spark_store_u32(out + 20, m->err.column);
    memcpy(out + 24, m->err.text, len);
    return 24 + len;
}

spark_status spark_get_failed(spark_failed_message *out, spark_bytes in, spark_err *err)
{
    spark_cursor c = spark_cursor_at(in);
    uint16_t code = 0, len = 0;
    spark_bytes text;
    SPARK_TRY(spark_cursor_u16(&c, &code, err));
    SPARK_TRY(spark_cursor_u16(&c, &len, err));
    SPARK_TRY(spark_cursor_u32(&c, &out->retry_ms, err));
    SPARK_TRY(spark_cursor_u64(&c, &out->err.at, err));
    SPARK_TRY(spark_cursor_u32(&c, &out->err.line, err));
    SPARK_TRY(spark_cursor_u32(&c, &out->err.column, err));
    SPARK_TRY(spark_cursor_take(&c, len, &text, err));
    SPARK_CHECK(code > SPARK_OK && code < SPARK_N_CODES && len < SPARK_ERR_TEXT, err, SPARK_E_FORMAT, 0,
                "an unknown kind of failure");
    const uint64_t at = out->err.at;
    const uint32_t line = out->err.line, column = out->err.column;
    spark_err_set(&out->err, (spark_code)code, at, "%.*s", (int)len, (const char *)text.ptr); /* cleans the text */
    out->err.line = line;
    out->err.column = column;
    return messages_end(&c, err);
}

/* ---- Statistics: every field as 64 bits, in the order of the struct ---- */

#define MESSAGES_STATS(X)                                                                                              \
    X(n_running)                                                                                                       \
    X(n_waiting)                                                                                                       \
    X(n_held)                                                                                                          \
    X(n_pages)                                                                                                         \
    X(n_pages_free)                                                                                                    \
    X(n_pages_cached)                                                                                                  \
    X(prompt_tokens)                                                                                                   \
    X(cached_tokens)                                                                                                   \
    X(generated_tokens)                                                                                                \
    X(n_passes)                                                                                                        \
    X(n_rows) X(n_preempted) X(pass_ns) X(n_submitted) X(n_refused) X(n_finished) X(n_cancelled) X(n_failed) X(wait_ms)

void spark_put_stats(uint8_t out[SPARK_STATS_BYTES], const spark_engine_stats *s)
{
    uint8_t *p = out;
#define MESSAGES_PUT(name) spark_store_u64(p, s->name), p += 8;
    MESSAGES_STATS(MESSAGES_PUT)
#undef MESSAGES_PUT
    memset(p, 0, (size_t)(out + SPARK_STATS_BYTES - p));
}

spark_status spark_get_stats(spark_engine_stats *out, spark_bytes in, spark_err *err)
{
    SPARK_CHECK(in.len == SPARK_STATS_BYTES, err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE, "statistics of another length");
    const uint8_t *p = in.ptr;
    *out = (spark_engine_stats){0};
#define MESSAGES_GET(name) out->name = (__typeof__(out->name))spark_load_u64(p), p += 8;
    MESSAGES_STATS(MESSAGES_GET)
#undef MESSAGES_GET
    return SPARK_SUCCESS;
}
