/* dialect_test.h - for the tests of the dialects: a body parsed as a route would, and a reply made from events of an engine. */
#ifndef SPARK_SERVE_DIALECT_TEST_H
#define SPARK_SERVE_DIALECT_TEST_H

#include <jansson.h>
#include <math.h>
#include <string.h>

#include "base/test.h"
#include "serve/api_internal.h"

/* ---- Bodies ---- */

typedef struct world {
    spark_arena *a;
    api_call call;
    api_error e;
    bool ok;
} world;

SPARK_UNUSED static world parse_as(const char *path, const char *body, size_t len, const char *type)
{
    world w = {0};
    const api_match m = api_route_find("POST", spark_bytes_of(path));
    assert_int_equal(m.status, 200);
    assert_ok(spark_arena_create(&w.a, 64u << 20, NULL));
    const spark_bytes content_type = type ? spark_bytes_of(type) : (spark_bytes){0};
    w.ok = api_call_parse(&w.call, m.route, (spark_bytes){(const uint8_t *)body, len}, content_type, w.a, &w.e);
    if (w.ok != (w.e.status == 0)) fail_msg("%s: ok %d, status %d", body, w.ok, w.e.status);
    return w;
}

SPARK_UNUSED static world parse(const char *path, const char *body)
{
    return parse_as(path, body, strlen(body), "application/json");
}

SPARK_UNUSED static void world_end(world *w) { spark_arena_destroy(&w->a); }

SPARK_UNUSED static world taken(const char *path, const char *body)
{
    world w = parse(path, body);
    if (!w.ok) fail_msg("%s %s: %d %s", path, body, w.e.status, w.e.message);
    return w;
}

SPARK_UNUSED static void refused(const char *path, const char *body, int status, const char *code, const char *param)
{
    world w = parse(path, body);
    if (w.ok) fail_msg("taken: %s %s", path, body);
    if (w.e.status != status || strcmp(w.e.code, code) != 0 || strcmp(w.e.param, param) != 0)
        fail_msg("%s: %d %s '%s' (%s), not %d %s '%s'", body, w.e.status, w.e.code, w.e.param, w.e.message, status,
                 code, param);
    world_end(&w);
}

#define CHAT "/v1/chat/completions"
#define HI   "\"model\": \"m\", \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]"
#define TEXT "/v1/completions"
#define ONCE "\"model\": \"m\", \"prompt\": \"Once\""

SPARK_UNUSED static json_t *vars_of(const world *w)
{
    json_t *v = json_loadb((const char *)w->call.asks[0].text.ptr, w->call.asks[0].text.len, JSON_ALLOW_NUL, NULL);
    assert_non_null(v);
    return v;
}

SPARK_UNUSED static const char *message_text(const json_t *vars, size_t i, const char *key)
{
    return json_string_value(json_object_get(json_array_get(json_object_get(vars, "messages"), i), key));
}

/* ---- Replies ---- */

SPARK_UNUSED static uint64_t test_now(void) { return 1767225600123456789; } /* 2026-01-01T00:00:00.123456789Z */

typedef struct answer {
    world w;
    api_reply *r;
    api_out out;
} answer;

SPARK_UNUSED static answer answer_to(const char *path, const char *body)
{
    answer x = {.w = taken(path, body)};
    api_out_init(&x.out, 64u << 20);
    return x;
}

SPARK_UNUSED static void answer_begin(answer *x)
{
    const api_reply_options o = {.call = &x->w.call,
                                 .model = "m",
                                 .id = "req-0123456789abcdef",
                                 .fingerprint = "fp",
                                 .unix_ns = test_now,
                                 .load_ns = 5,
                                 .share = x->out.share};
    assert_ok(api_reply_create(&x->r, &o, NULL));
}

SPARK_UNUSED static void answer_end(answer *x)
{
    api_reply_destroy(&x->r);
    api_out_free(&x->out);
    world_end(&x->w);
}

SPARK_UNUSED static spark_piece_message piece_of(const char *text, uint32_t id, bool probs)
{
    spark_piece_message m = {.has_token = true,
                             .has_logprobs = probs,
                             .token = {id, -0.5f, spark_bytes_of(text)},
                             .text = spark_bytes_of(text)};
    if (!probs) return m;
    m.n_top = 3;
    m.top[0] = m.token;
    m.top[1] = (spark_token_text){id + 1, -INFINITY, SPARK_BYTES_LITERAL("\xe2\x82")};
    m.top[2] = (spark_token_text){id + 2, -3, spark_bytes_of(text)};
    return m;
}

SPARK_UNUSED static const spark_finished_message answer_finish = {.finish = SPARK_FINISH_STOP,
                                                                  .stop_string = true,
                                                                  .which_stop = 0,
                                                                  .n_prompt = 10,
                                                                  .n_cached = 4,
                                                                  .n_tokens = 3,
                                                                  .prompt_us = 2000,
                                                                  .decode_us = 3000};

/* Two pieces and the end, for every choice, turn by turn. */
SPARK_UNUSED static void answer_run(answer *x)
{
    const bool probs = x->w.call.logprobs;
    const uint32_t n = x->w.call.n_asks;
    const char *texts[] = {"Hel\"lo", " w\xc3\xb6rld\n"};
    for (uint32_t i = 0; i < n; i++) api_reply_started(x->r, i, 10, 4, &x->out);
    for (uint32_t k = 0; k < 2; k++)
        for (uint32_t i = 0; i < n; i++) {
            spark_piece_message m = piece_of(texts[k], 100 + k, probs);
            api_reply_piece(x->r, i, &m, &x->out);
        }
    for (uint32_t i = 0; i < n; i++) api_reply_finished(x->r, i, &answer_finish, &x->out);
}

SPARK_UNUSED static answer answer_all(const char *path, const char *body)
{
    answer x = answer_to(path, body);
    answer_begin(&x);
    answer_run(&x);
    assert_false(x.out.failed);
    return x;
}

SPARK_UNUSED static json_t *answer_json(const answer *x)
{
    json_error_t why;
    json_t *v = json_loadb((const char *)x->out.ptr, x->out.len, JSON_REJECT_DUPLICATES, &why);
    if (!v) fail_msg("%s: %.*s", why.text, (int)x->out.len, (const char *)x->out.ptr);
    return v;
}

/* Every event of a stream of server-sent events, or line of NDJSON, as a list; the text "[DONE]" as itself. */
SPARK_UNUSED static json_t *answer_events(const answer *x, bool sse)
{
    json_t *list = json_array();
    char *text = strndup((const char *)x->out.ptr, x->out.len), *at = text;
    const char *end = sse ? "\n\n" : "\n";
    for (char *stop; (stop = strstr(at, end)) != NULL; at = stop + strlen(end)) {
        *stop = 0;
        if (*at == ':') continue;
        if (sse) {
            assert_memory_equal(at, "data: ", 6);
            at += 6;
        }
        json_t *v = strcmp(at, "[DONE]") == 0 ? json_string(at) : json_loads(at, JSON_REJECT_DUPLICATES, NULL);
        if (!v) fail_msg("not JSON: %s", at);
        json_array_append_new(list, v);
    }
    assert_int_equal(strlen(at), 0);
    free(text);
    return list;
}

SPARK_UNUSED static json_t *at_path(json_t *v, const char *path)
{
    char key[64];
    while (*path && v) {
        const size_t n = strcspn(path, ".");
        snprintf(key, sizeof key, "%.*s", (int)n, path);
        v = json_is_array(v) ? json_array_get(v, (size_t)strtoul(key, NULL, 10)) : json_object_get(v, key);
        path += n + (path[n] == '.');
    }
    return v;
}

SPARK_UNUSED static const char *text_at(json_t *v, const char *path)
{
    const char *s = json_string_value(at_path(v, path));
    if (!s) fail_msg("no text at %s", path);
    return s;
}

SPARK_UNUSED static json_int_t int_at(json_t *v, const char *path)
{
    if (!json_is_integer(at_path(v, path))) fail_msg("no number at %s", path);
    return json_integer_value(at_path(v, path));
}

#endif
