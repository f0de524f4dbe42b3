/* api_fuzz.c - aims at api_call_parse, api_query_take and api_reply_*: the first byte chooses a route, the rest is a body. What is taken must make
 * asks that cross the wire unchanged, and a reply to it, whatever its pieces hold, must be valid JSON throughout. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "serve/api.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t fuzz_now(void) { return 1767225600000000000; }

static void fuzz_json(const uint8_t *p, size_t len)
{
    json_t *v = json_loadb((const char *)p, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    if (!v) abort();
    json_decref(v);
}

static void fuzz_ask(const spark_ask *ask, spark_arena *a)
{
    spark_ask again;
    const size_t n = spark_ask_size(ask);
    uint8_t *bytes = malloc(2 * n);
    if (!bytes || spark_ask_check(ask, NULL).code != SPARK_OK || spark_ask_encode(ask, bytes) != n) abort();
    if (spark_ask_decode(&again, (spark_bytes){bytes, n}, a, NULL).code != SPARK_OK) abort();
    if (spark_ask_encode(&again, bytes + n) != n || memcmp(bytes, bytes + n, n) != 0) abort();
    free(bytes);
}

/* Every event of a stream is a line of JSON. */
static void fuzz_stream(const api_out *o, bool sse)
{
    size_t at = 0;
    while (at < o->len) {
        const uint8_t *end = memchr(o->ptr + at, '\n', o->len - at);
        if (!end) abort();
        const uint8_t *line = o->ptr + at;
        size_t len = (size_t)(end - line);
        at += len + 1;
        if (sse && (at >= o->len || o->ptr[at++] != '\n' || len < 6 || memcmp(line, "data: ", 6) != 0)) abort();
        if (sse) {
            line += 6;
            len -= 6;
        }
        if (len != 6 || memcmp(line, "[DONE]", 6) != 0) fuzz_json(line, len);
    }
}

/* Pieces of the body itself: text that is no UTF-8, or ends within a character. */
static void fuzz_events(api_reply *r, const api_call *call, spark_bytes body, api_out *o)
{
    const spark_finished_message end = {.finish = SPARK_FINISH_STOP, .stop_string = true, .n_prompt = 3, .n_tokens = 2};
    const spark_bytes half = {body.ptr, body.len / 2}, rest = {body.ptr + half.len, body.len - half.len};
    const spark_token_text token = {7, -1, half.len > 900 ? (spark_bytes){half.ptr, 900} : half};
    spark_piece_message m = {
        .has_token = true, .has_logprobs = true, .token = token, .n_top = 2, .top = {token, token}, .text = half};
    for (uint32_t i = 0; i < call->n_asks; i++) {
        api_reply_started(r, i, 3, 1, o);
        if (call->asks[i].kind > SPARK_ASK_IDS || call->context) api_reply_data(r, i, half, o);
        if (call->asks[i].kind > SPARK_ASK_IDS) continue;
        m.text = half;
        api_reply_piece(r, i, &m, o);
        m.text = rest;
        api_reply_piece(r, i, &m, o);
    }
    for (uint32_t i = 0; i < call->n_asks; i++) api_reply_finished(r, i, &end, o);
}

static void fuzz_reply(const api_call *call, spark_bytes body)
{
    const api_reply_options options = {
        .call = call, .model = "m", .id = "req-1", .fingerprint = "f", .unix_ns = fuzz_now};
    api_reply *r = NULL;
    api_out o;
    api_out_init(&o, 256u << 20);
    if (api_reply_create(&r, &options, NULL).code != SPARK_OK) abort();
    fuzz_events(r, call, body, &o);
    if (o.failed) abort();
    const bool sse = strcmp(api_reply_type(r), "text/event-stream") == 0;
    if (api_reply_phase(r) == API_WHOLE)
        fuzz_json(o.ptr, o.len);
    else if (api_reply_phase(r) == API_DONE)
        fuzz_stream(&o, sse);
    else
        abort();
    api_reply_destroy(&r);
    api_out_free(&o);
}

static void fuzz_error(api_dialect d, const api_error *e)
{
    api_out o;
    api_out_init(&o, 1 << 16);
    api_print_error(&o, d, e);
    fuzz_json(o.ptr, o.len);
    api_out_free(&o);
}

/* A time is what it says when written again, or a refusal. */
static void fuzz_timeout(spark_bytes text)
{
    uint32_t ms = 0;
    char again[16];
    api_error e;
    if (!api_timeout_parse(text, &ms, &e)) {
        fuzz_error(API_OPENAI, &e);
        return;
    }
    snprintf(again, sizeof again, "%u", ms);
    if (text.ptr && !spark_bytes_is(text, again)) abort();
}

/* NAME=VALUE: what is taken stays within what was said; what is not has words. */
static void fuzz_query(const api_route *r, spark_bytes text)
{
    const uint8_t *eq = text.len ? memchr(text.ptr, '=', text.len) : NULL;
    const size_t n = eq ? (size_t)(eq - text.ptr) : text.len;
    const spark_bytes value = {text.ptr + n + (eq != NULL), text.len - n - (eq != NULL)};
    api_query q = {0};
    api_error e;
    if (!api_query_take(&q, r, (spark_bytes){text.ptr, n}, value, &e))
        fuzz_error(r->dialect, &e);
    else if (q.model.len && !spark_bytes_equal(q.model, value))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    spark_arena *a = NULL;
    api_call call;
    api_error e;
    if (size == 0) return 0;
    const api_route *route = &api_routes[data[0] % api_n_routes];
    const spark_bytes body = {data + 1, size - 1};
    fuzz_timeout(body);
    fuzz_query(route, body);
    if (spark_arena_create(&a, 64u << 20, NULL).code != SPARK_OK) abort();
    if (api_call_parse(&call, route, body, (spark_bytes){0}, a, &e)) {
        for (uint32_t i = 0; i < call.n_asks; i++) fuzz_ask(&call.asks[i], a);
        if (call.n_asks) fuzz_reply(&call, body);
    } else {
        fuzz_error(route->dialect, &e);
    }
    spark_arena_destroy(&a);
    return 0;
}
