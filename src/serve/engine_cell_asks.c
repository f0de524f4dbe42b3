/* engine_cell_asks.c - asks into the engine, events out of it. Text work happens in the scratch arena, which is empty again
 * after each ask. */
#include <assert.h>
#include <string.h>

#include "base/clock.h"
#include "serve/engine_cell_internal.h"

static void cell_fail(engine_cell *c, uint32_t link, uint64_t stream, const spark_err *why, uint32_t retry_ms)
{
    uint8_t out[SPARK_FAILED_BYTES];
    const spark_failed_message m = {*why, retry_ms};
    const spark_status s = spark_wire_put(c->links[link].wire, SPARK_WIRE_FAILED, stream,
                                          (spark_bytes){out, spark_put_failed(out, &m)}, (spark_bytes){0}, NULL);
    assert(spark_ok(s)); /* CELL_ROOM */
    (void)s;
}

/* An answer that is no generation: one DATA, then FINISHED. */
static spark_status cell_answer(engine_cell *c, uint32_t link, uint64_t stream, spark_bytes data, spark_err *err)
{
    uint8_t out[SPARK_FINISHED_BYTES];
    SPARK_CHECK(data.len <= SPARK_WIRE_ASK_MAX, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "the answer has %zu bytes, of at most %d", data.len, SPARK_WIRE_ASK_MAX);
    const spark_finished_message m = {.finish = SPARK_FINISH_STOP};
    spark_put_finished(out, &m);
    SPARK_TRY(spark_wire_put(c->links[link].wire, SPARK_WIRE_DATA, stream, data, (spark_bytes){0}, err));
    return spark_wire_put(c->links[link].wire, SPARK_WIRE_FINISHED, stream, (spark_bytes){out, sizeof out},
                          (spark_bytes){0}, err);
}

static unsigned ask_flags(const spark_ask *a)
{
    return (a->add_special ? SPARK_TOKENIZE_ADD : 0u) | (a->parse_special ? SPARK_TOKENIZE_SPECIAL : 0u);
}

/* The ids of a chat behind those of an earlier one. */
static spark_status ask_join(engine_cell *c, const spark_ask *a, spark_ids *ids, spark_err *err)
{
    uint32_t *all = NULL;
    const size_t n = a->n_ids + ids->n;
    SPARK_TRY(SPARK_NEW(c->scratch, n, &all, err));
    memcpy(all, a->ids, a->n_ids * sizeof *all);
    if (ids->n) memcpy(all + a->n_ids, ids->ids, ids->n * sizeof *all);
    *ids = (spark_ids){.ids = all, .n = n};
    return SPARK_SUCCESS;
}

static spark_status ask_ids(engine_cell *c, const spark_ask *a, spark_ids *ids, spark_err *err)
{
    if (a->kind == SPARK_ASK_CHAT) {
        SPARK_TRY(api_chat_ids(c->model, a->text, c->scratch, ids, NULL, err));
        return a->n_ids ? ask_join(c, a, ids, err) : SPARK_SUCCESS;
    }
    if (a->kind != SPARK_ASK_IDS) return api_text_ids(c->model, a->text, ask_flags(a), c->scratch, ids, err);
    *ids = (spark_ids){.n = a->n_ids};
    memcpy(&ids->ids, &a->ids, sizeof a->ids); /* read only from here on */
    return SPARK_SUCCESS;
}

static spark_bytes cell_token_text(const engine_cell *c, uint32_t id, uint8_t buf[SPARK_TOKENIZER_PIECE])
{
    const spark_tokenizer *t = c->model->tokenizer;
    if (id >= spark_tokenizer_n_vocab(t)) return (spark_bytes){0};
    spark_bytes b = spark_tokenizer_piece(t, id, true, buf);
    if (b.len > SPARK_WIRE_TOKEN_TEXT) b.len = SPARK_WIRE_TOKEN_TEXT;
    return b;
}

static uint8_t *put_id(uint8_t *p, uint32_t id)
{
    spark_store_u32(p, id);
    return p + 4;
}

/* Ids as the payload of DATA. */
static spark_status ids_bytes(engine_cell *c, const spark_ids *ids, spark_bytes *out, spark_err *err)
{
    uint8_t *bytes = NULL;
    SPARK_TRY(SPARK_NEW(c->scratch, 4 * ids->n, &bytes, err));
    for (size_t i = 0; i < ids->n; i++) (void)put_id(bytes + 4 * i, ids->ids[i]);
    *out = (spark_bytes){bytes, 4 * ids->n};
    return SPARK_SUCCESS;
}

/* The same, each with the bytes it stands for (ask.h). */
static spark_status pieces_bytes(engine_cell *c, const spark_ids *ids, spark_bytes *out, spark_err *err)
{
    uint8_t buf[SPARK_TOKENIZER_PIECE], *bytes = NULL;
    size_t n = 0;
    for (size_t i = 0; i < ids->n; i++) n += 6 + cell_token_text(c, ids->ids[i], buf).len;
    SPARK_TRY(SPARK_NEW(c->scratch, n, &bytes, err));
    uint8_t *p = bytes;
    for (size_t i = 0; i < ids->n; i++) {
        const spark_bytes text = cell_token_text(c, ids->ids[i], buf);
        p = put_id(p, ids->ids[i]);
        *p++ = (uint8_t)text.len;
        *p++ = (uint8_t)(text.len >> 8);
        if (text.len) memcpy(p, text.ptr, text.len);
        p += text.len;
    }
    *out = (spark_bytes){bytes, n};
    return SPARK_SUCCESS;
}

/* The prompt's ids first, for those who asked for them. */
static spark_status cell_prompt_ids(engine_cell *c, uint32_t link, uint64_t stream, const spark_ids *ids,
                                    spark_err *err)
{
    spark_bytes data;
    SPARK_TRY(ids_bytes(c, ids, &data, err));
    SPARK_CHECK(data.len <= SPARK_WIRE_ASK_MAX, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "the prompt has %zu tokens, of at most %d to be told", ids->n, SPARK_WIRE_ASK_MAX / 4);
    return spark_wire_put(c->links[link].wire, SPARK_WIRE_DATA, stream, data, (spark_bytes){0}, err);
}

/* The prompt's own text first, for those who asked for it. */
static spark_status cell_echo(engine_cell *c, uint32_t link, uint64_t stream, const spark_ask *a, spark_err *err)
{
    spark_text text = {0};
    spark_piece_message m = {.text = a->text};
    if (a->kind != SPARK_ASK_TEXT) {
        SPARK_TRY(api_detokenize(c->model, a->ids, a->n_ids, c->scratch, &text, err));
        m.text = (spark_bytes){text.ptr, text.len};
    }
    SPARK_CHECK(m.text.len <= SPARK_MAX_TOKEN_BYTES, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "echo: the prompt has %zu bytes, of at most %u", m.text.len, SPARK_MAX_TOKEN_BYTES);
    const size_t head = spark_put_piece(c->piece_head, &m);
    return spark_wire_put(c->links[link].wire, SPARK_WIRE_PIECE, stream, (spark_bytes){c->piece_head, head}, m.text,
                          err);
}

/* The request's own context may be lower than the engine's. */
static spark_status ask_limit(const engine_cell *c, const spark_ask *a, size_t n_prompt, uint32_t *max_tokens,
                              spark_err *err)
{
    const uint32_t n_ctx = a->n_ctx && a->n_ctx < c->n_ctx ? a->n_ctx : c->n_ctx;
    SPARK_CHECK(n_prompt >= 1, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE, "the prompt has no tokens");
    SPARK_CHECK(n_prompt < n_ctx, err, SPARK_E_CONTEXT, n_ctx,
                "the prompt has %zu tokens and the context %u: none is left for an answer", n_prompt, n_ctx);
    const uint32_t left = n_ctx - (uint32_t)n_prompt;
    *max_tokens = a->generate.max_tokens && a->generate.max_tokens < left ? a->generate.max_tokens : left;
    return SPARK_SUCCESS;
}

static spark_status cell_generate(engine_cell *c, uint32_t link, uint64_t stream, const spark_ask *a,
                                  uint32_t *retry_ms, spark_err *err)
{
    spark_ids ids = {0};
    SPARK_TRY(ask_ids(c, a, &ids, err));
    spark_request r = {.id = cell_request_id(link, stream),
                       .tenant = a->tenant,
                       .priority = a->priority,
                       .prompt = ids.ids,
                       .cache = a->cache,
                       .generate = a->generate};
    SPARK_TRY(ask_limit(c, a, ids.n, &r.generate.max_tokens, err));
    r.n_prompt = (uint32_t)ids.n;
    r.n_public = cell_public_length(c, ids.ids, r.n_prompt);
    if (a->deadline_ms) r.deadline_ns = spark_clock_ns() + (uint64_t)a->deadline_ms * 1000000;
    SPARK_TRY(spark_engine_submit(c->engine, &r, retry_ms, err));
    c->streams[spark_wire_slot(stream)].n_prompt = r.n_prompt;
    spark_status s = a->prompt_ids ? cell_prompt_ids(c, link, stream, &ids, err) : SPARK_SUCCESS;
    if (spark_ok(s) && a->echo) s = cell_echo(c, link, stream, a, err);
    if (!spark_ok(s)) spark_engine_cancel(c->engine, r.id); /* its event finds the stream closed */
    return s;
}

static spark_status cell_other(engine_cell *c, uint32_t link, uint64_t stream, const spark_ask *a, spark_err *err)
{
    spark_ids ids = {0};
    spark_text text = {0};
    if (a->kind == SPARK_ASK_TOKENIZE) {
        SPARK_TRY(ask_ids(c, a, &ids, err));
        spark_bytes data;
        SPARK_TRY(a->pieces ? pieces_bytes(c, &ids, &data, err) : ids_bytes(c, &ids, &data, err));
        return cell_answer(c, link, stream, data, err);
    }
    if (a->kind == SPARK_ASK_DETOKENIZE)
        SPARK_TRY(api_detokenize(c->model, a->ids, a->n_ids, c->scratch, &text, err));
    else
        SPARK_TRY(api_chat_ids(c->model, a->text, c->scratch, &ids, &text, err));
    return cell_answer(c, link, stream, (spark_bytes){text.ptr, text.len}, err);
}

void cell_take_ask(engine_cell *c, uint32_t link, const spark_wire_frame *f)
{
    const spark_mark mark = spark_arena_mark(c->scratch);
    spark_err why = {0};
    uint32_t retry_ms = 0;
    spark_ask a;
    c->streams[spark_wire_slot(f->stream)] = (cell_stream){.took_ns = spark_clock_ns()};
    spark_status s = spark_ask_decode(&a, f->payload, c->scratch, &why);
    if (spark_ok(s))
        s = a.kind <= SPARK_ASK_IDS ? cell_generate(c, link, f->stream, &a, &retry_ms, &why)
                                    : cell_other(c, link, f->stream, &a, &why);
    spark_arena_reset(c->scratch, mark);
    if (!spark_ok(s)) cell_fail(c, link, f->stream, &why, retry_ms);
}

/* ---- Events ---- */

static void cell_pass_piece(engine_cell *c, uint32_t link, uint64_t stream, const spark_piece *p)
{
    uint8_t buf[SPARK_MAX_LOGPROBS + 1][SPARK_TOKENIZER_PIECE];
    spark_piece_message *m = &c->piece;
    *m = (spark_piece_message){.has_token = p->has_token,
                               .has_logprobs = p->has_token && p->n_top > 0,
                               .token = {.id = p->id, .logprob = p->logprob},
                               .n_top = p->has_token ? p->n_top : 0,
                               .text = {(const uint8_t *)p->text, p->len}};
    if (m->has_logprobs) m->token.text = cell_token_text(c, p->id, buf[SPARK_MAX_LOGPROBS]);
    for (uint32_t i = 0; i < m->n_top; i++)
        m->top[i] = (spark_token_text){p->top[i].id, p->top[i].logprob, cell_token_text(c, p->top[i].id, buf[i])};
    const size_t head = spark_put_piece(c->piece_head, m);
    spark_wire *w = c->links[link].wire;
    const spark_status s = spark_wire_put(w, SPARK_WIRE_PIECE, stream, (spark_bytes){c->piece_head, head}, m->text,
                                          NULL);
    assert(spark_ok(s)); /* the caller saw room */
    (void)s;
    if (spark_wire_credit(w, stream) > 0) return;
    c->streams[spark_wire_slot(stream)].held = true; /* until its reader grants more */
    spark_engine_hold(c->engine, cell_request_id(link, stream), true);
}

static void cell_pass_end(engine_cell *c, uint32_t link, uint64_t stream, const spark_event *e)
{
    const cell_stream *s = &c->streams[spark_wire_slot(stream)];
    uint8_t out[SPARK_FINISHED_BYTES];
    const spark_finished_message m = {.finish = e->finish,
                                      .stop_string = e->stop_string,
                                      .which_stop = (uint16_t)e->which_stop,
                                      .n_prompt = s->n_prompt,
                                      .n_cached = s->n_cached,
                                      .n_tokens = e->n_tokens,
                                      .queue_us = e->queue_ns / 1000,
                                      .prompt_us = e->prompt_ns / 1000,
                                      .decode_us = e->decode_ns / 1000};
    spark_put_finished(out, &m);
    const spark_status st = spark_wire_put(c->links[link].wire, SPARK_WIRE_FINISHED, stream,
                                           (spark_bytes){out, sizeof out}, (spark_bytes){0}, NULL);
    assert(spark_ok(st));
    (void)st;
}

static void cell_pass_event(engine_cell *c, const spark_event *e)
{
    const uint32_t link = cell_request_link(e->id);
    const uint64_t stream = cell_request_stream(e->id);
    spark_wire *w = c->links[link].wire;
    if (!spark_wire_is_open(w, stream)) return; /* its front is gone, or it failed before */
    cell_stream *s = &c->streams[spark_wire_slot(stream)];
    uint8_t started[SPARK_STARTED_BYTES];
    switch (e->kind) {
    case SPARK_EVENT_STARTED:
        s->n_cached = e->n_cached;
        spark_put_started(started, &(spark_started_message){e->n_prompt, e->n_cached, s->took_ns});
        (void)!spark_ok(spark_wire_put(w, SPARK_WIRE_STARTED, stream, (spark_bytes){started, sizeof started},
                                       (spark_bytes){0}, NULL));
        return;
    case SPARK_EVENT_PIECE: cell_pass_piece(c, link, stream, &e->piece); return;
    case SPARK_EVENT_FINISHED: cell_pass_end(c, link, stream, e); return;
    case SPARK_EVENT_FAILED: cell_fail(c, link, stream, &e->err, 0); return;
    }
}

void cell_pass_events(engine_cell *c)
{
    spark_event e;
    c->events_wait = true;
    for (;;) {
        const cell_link *l = &c->links[CELL_FRONT]; /* the warden asks nothing, and gets no event */
        if (l->fd >= 0 && spark_wire_room(l->wire) < SPARK_WIRE_PIECE_MAX) return;
        if (!spark_engine_event(c->engine, &e)) break;
        cell_pass_event(c, &e);
    }
    c->events_wait = false;
}
