/* dialect_test.c - the dialects: bodies to asks, events to replies, and docs/API.md beside the tables it is made from.
 * `dialect_test --write-docs` writes those tables anew. */
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "base/test.h"
#include "serve/api_internal.h"

/* ---- Helpers ---- */

typedef struct world {
    spark_arena *a;
    api_call call;
    api_error e;
    bool ok;
} world;

static world parse_as(const char *path, const char *body, size_t len, const char *type)
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

static world parse(const char *path, const char *body)
{
    return parse_as(path, body, strlen(body), "application/json");
}

static void world_end(world *w) { spark_arena_destroy(&w->a); }

static world taken(const char *path, const char *body)
{
    world w = parse(path, body);
    if (!w.ok) fail_msg("%s %s: %d %s", path, body, w.e.status, w.e.message);
    return w;
}

static void refused(const char *path, const char *body, int status, const char *code, const char *param)
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

static json_t *vars_of(const world *w)
{
    json_t *v = json_loadb((const char *)w->call.asks[0].text.ptr, w->call.asks[0].text.len, JSON_ALLOW_NUL, NULL);
    assert_non_null(v);
    return v;
}

static const char *message_text(const json_t *vars, size_t i, const char *key)
{
    return json_string_value(json_object_get(json_array_get(json_object_get(vars, "messages"), i), key));
}

/* ---- Routes ---- */

static void test_routes_find_each_row_and_nothing_else(void **s)
{
    (void)s;
    for (size_t i = 0; i < api_n_routes; i++) {
        char path[128];
        const char *brace = strchr(api_routes[i].path, '{');
        snprintf(path, sizeof path, "%.*s%s", brace ? (int)(brace - api_routes[i].path) : 99, api_routes[i].path,
                 brace ? "a/b" : "");
        api_match m = api_route_find(api_routes[i].method, spark_bytes_of(path));
        assert_ptr_equal(m.route, &api_routes[i]);
        if (brace) assert_true(spark_bytes_is(m.id, "a/b"));
    }
    assert_int_equal(api_route_find("GET", spark_bytes_of("/v1/nonesuch")).status, 404);
    assert_int_equal(api_route_find("GET", spark_bytes_of("/v1/models/")).status, 404);
    assert_int_equal(api_route_find("POST", spark_bytes_of("/api/chat/")).status, 404);
    assert_int_equal(api_route_find("GET", spark_bytes_of("")).status, 404);
}

static void test_routes_tell_what_a_path_allows(void **s)
{
    (void)s;
    api_match m = api_route_find("DELETE", spark_bytes_of("/props"));
    assert_int_equal(m.status, 405);
    assert_string_equal(m.allow, "GET, HEAD, POST");
    m = api_route_find("GET", spark_bytes_of(CHAT));
    assert_int_equal(m.status, 405);
    assert_string_equal(m.allow, "POST");
    assert_int_equal(m.dialect, API_OPENAI);
    assert_int_equal(api_route_find("HEAD", spark_bytes_of("/")).route->handler, API_ROOT);
    assert_int_equal(api_route_find("HEAD", spark_bytes_of(CHAT)).status, 405);
}

static void test_routes_without_key_are_health_and_root_only(void **s)
{
    (void)s;
    for (size_t i = 0; i < api_n_routes; i++) {
        const bool open = strcmp(api_routes[i].path, "/") == 0 || strstr(api_routes[i].path, "health");
        assert_int_equal(api_routes[i].access == API_OPEN, open);
        const bool watches = strcmp(api_routes[i].path, "/metrics") == 0 ||
                             strcmp(api_routes[i].path, "/spark/live") == 0;
        assert_int_equal(api_routes[i].access == API_METRICS, watches);
    }
}

static json_t *error_json(api_dialect d, const api_error *e)
{
    api_out o;
    api_out_init(&o, 1 << 16);
    api_print_error(&o, d, e);
    json_t *v = json_loadb((const char *)o.ptr, o.len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(v);
    api_out_free(&o);
    return v;
}

static void test_errors_have_the_form_of_each_dialect(void **s)
{
    (void)s;
    api_error e;
    json_t *v;
    const char *text = NULL, *type = NULL, *param = NULL, *code = NULL;
    int number = 0;
    api_error_set(&e, 400, "invalid_value", "top_p", "a \"quoted\" \xff thing");
    v = error_json(API_OPENAI, &e);
    assert_int_equal(json_unpack(v, "{s:{s:s, s:s, s:s, s:s!}!}", "error", "message", &text, "type", &type, "param",
                                 &param, "code", &code),
                     0);
    assert_string_equal(text, "a \"quoted\" \xef\xbf\xbd thing");
    assert_string_equal(type, "invalid_request_error");
    assert_string_equal(param, "top_p");
    json_decref(v);
    v = error_json(API_OLLAMA, &e);
    assert_int_equal(json_unpack(v, "{s:s!}", "error", &text), 0);
    json_decref(v);
    v = error_json(API_LLAMA, &e);
    assert_int_equal(json_unpack(v, "{s:{s:i, s:s, s:s!}!}", "error", "code", &number, "message", &text, "type", &type),
                     0);
    assert_int_equal(number, 400);
    json_decref(v);
}

static void test_engine_errors_map_to_statuses(void **s)
{
    (void)s;
    static const struct {
        spark_code code;
        uint32_t retry_ms;
        int status;
        const char *word;
    } rows[] = {{SPARK_E_CONTEXT, 0, 400, "context_length_exceeded"},
                {SPARK_E_LIMIT, 700, 429, "rate_limit_exceeded"},
                {SPARK_E_LIMIT, 0, 400, "limit_exceeded"},
                {SPARK_E_MEMORY, 0, 503, "out_of_memory"},
                {SPARK_E_CANCELLED, 0, 504, "deadline_exceeded"},
                {SPARK_E_REFUSED, 0, 400, "refused"},
                {SPARK_E_REFUSED, 9, 503, "deadline_cannot_be_met"},
                {SPARK_E_IO, 0, 503, "engine_lost"},
                {SPARK_E_ARGUMENT, 0, 400, "invalid_value"},
                {SPARK_E_NUMERIC, 0, 500, "value_not_finite"}};
    for (size_t i = 0; i < SPARK_COUNT(rows); i++) {
        api_error e;
        const spark_err err = {.code = rows[i].code, .text = "why"};
        api_error_from(&e, &err, rows[i].retry_ms);
        assert_int_equal(e.status, rows[i].status);
        assert_string_equal(e.code, rows[i].word);
        assert_string_equal(e.message, "why");
        if (rows[i].retry_ms) assert_int_equal(e.retry_ms, rows[i].retry_ms);
        assert_int_equal(e.retry_ms > 0, rows[i].retry_ms > 0 || rows[i].status == 503);
    }
}

/* ---- Chat ---- */

static void test_a_model_that_cannot_chat_says_what_to_ask_instead(void **s)
{
    (void)s;
    static const struct {
        const char *path, *body, *instead;
    } rows[] = {{CHAT, "{" HI "}", "/v1/completions"},
                {"/api/chat", "{" HI "}", "\"raw\": true"},
                {"/api/generate", "{\"model\": \"m\", \"prompt\": \"x\"}", "\"raw\": true"},
                {"/apply-template", "{" HI "}", "/completion "}};
    spark_err why = {0};
    spark_err_set(&why, SPARK_E_UNSUPPORTED, SPARK_ERR_NOWHERE, "the model has no chat template");
    for (size_t i = 0; i < SPARK_COUNT(rows); i++) {
        world w = taken(rows[i].path, rows[i].body);
        api_error e;
        api_error_from(&e, &why, 0);
        api_error_advise(&e, &w.call);
        assert_int_equal(e.status, 400);
        assert_string_equal(e.code, "unsupported");
        assert_non_null(strstr(e.message, "no chat template; "));
        if (!strstr(e.message, rows[i].instead)) fail_msg("%s: %s", rows[i].path, e.message);
        world_end(&w);
    }
    world w = taken("/v1/completions", "{\"model\": \"m\", \"prompt\": \"x\"}");
    api_error e;
    api_error_from(&e, &why, 0);
    api_error_advise(&e, &w.call);
    assert_string_equal(e.message, why.text);
    world_end(&w);
}

static void test_a_time_is_whole_milliseconds_and_nothing_else(void **s)
{
    (void)s;
    static const struct {
        const char *text;
        uint32_t ms;
    } rows[] = {{"1", 1},          {"30000", 30000},  {"4294967295", UINT32_MAX},
                {"", 0},           {"0", 0},          {"00", 0},
                {"01", 0},         {"-1", 0},         {"+1", 0},
                {" 1", 0},         {"1 ", 0},         {"1s", 0},
                {"1.0", 0},        {"1e3", 0},        {"0x1", 0},
                {"4294967296", 0}, {"9999999999", 0}, {"18446744073709551617", 0},
                {"\xff", 0},       {"1, 2", 0}};
    uint32_t ms = 7;
    api_error e = {0};
    assert_true(api_timeout_parse((spark_bytes){0}, &ms, &e));
    assert_int_equal(ms, 0);
    for (size_t i = 0; i < SPARK_COUNT(rows); i++) {
        const bool ok = api_timeout_parse(spark_bytes_of(rows[i].text), &ms, &e);
        if (ok != (rows[i].ms > 0) || ms != rows[i].ms) fail_msg("'%s' is %d, %u", rows[i].text, ok, ms);
        if (ok) continue;
        assert_int_equal(e.status, 400);
        assert_string_equal(e.param, "X-Request-Timeout-Ms");
    }
}

static void test_chat_defaults_are_openais(void **s)
{
    (void)s;
    world w = taken(CHAT, "{" HI "}");
    const spark_ask *a = &w.call.asks[0];
    const spark_sampling *p = &a->generate.sampling;
    assert_int_equal(w.call.n_asks, 1);
    assert_int_equal(a->kind, SPARK_ASK_CHAT);
    assert_true(spark_bytes_is(w.call.model, "m"));
    assert_true(p->temperature == 1 && p->top_p == 1 && p->min_p == 0 && p->top_k == 0 && p->repeat_penalty == 1);
    assert_int_equal(p->penalty_last_n, SPARK_MAX_CTX);
    assert_int_equal(a->generate.max_tokens, 0);
    assert_true(a->random_seed && a->cache);
    assert_false(w.call.stream);
    world_end(&w);
}

static void test_chat_takes_all_that_openai_clients_send(void **s)
{
    (void)s;
    world w = taken(
        CHAT,
        "{" HI ", \"temperature\": 0.5, \"top_p\": 0.9, \"n\": 2, \"seed\": 7, \"stop\": [\"a\", \"\\u00e9\"],"
        " \"max_completion_tokens\": 5.0, \"presence_penalty\": -2, \"frequency_penalty\": 2, \"logit_bias\": {\"5\": "
        "-100, \"7\": 3},"
        " \"logprobs\": true, \"top_logprobs\": 3, \"stream\": true, \"stream_options\": {\"include_usage\": true},"
        " \"user\": \"u\", \"store\": false, \"metadata\": {\"a\": \"b\"}, \"tools\": [], \"tool_choice\": \"none\","
        " \"response_format\": {\"type\": \"text\"}, \"service_tier\": \"auto\", \"parallel_tool_calls\": true,"
        " \"modalities\": [\"text\"], \"reasoning_effort\": null, \"functions\": null, \"top_k\": -1, \"min_p\": 0.1,"
        " \"repetition_penalty\": 1.1, \"chat_template_kwargs\": {\"enable_thinking\": false}}");
    const spark_ask *a = w.call.asks;
    assert_int_equal(w.call.n_asks, 2);
    assert_int_equal(a[0].generate.sampling.seed, 7);
    assert_int_equal(a[1].generate.sampling.seed, 8);
    assert_false(a[0].random_seed);
    assert_int_equal(a[0].generate.max_tokens, 5);
    assert_int_equal(a[0].generate.n_stops, 2);
    assert_string_equal(a[0].generate.stops[1], "\xc3\xa9");
    assert_int_equal(a[0].generate.n_logit_bias, 2);
    assert_int_equal(a[0].generate.logit_bias[0].id, 5);
    assert_true(a[0].generate.logit_bias[0].bias == -100);
    assert_int_equal(a[0].generate.n_logprobs, 3);
    assert_int_equal(a[0].generate.sampling.top_k, 0);
    assert_true(a[0].generate.sampling.repeat_penalty == 1.1f && a[0].generate.sampling.min_p == 0.1f);
    assert_true(w.call.stream && w.call.include_usage && w.call.logprobs);
    json_t *v = vars_of(&w);
    assert_true(json_is_false(json_object_get(v, "enable_thinking")));
    json_decref(v);
    world_end(&w);
}

static void test_chat_messages_reach_the_template_in_one_form(void **s)
{
    (void)s;
    world w = taken(CHAT, "{\"model\": \"m\", \"messages\": [{\"role\": \"developer\", \"content\": \"d\"},"
                          "{\"role\": \"user\", \"name\": \"bob\", \"content\": [{\"type\": \"text\", \"text\": "
                          "\"a\"}, {\"type\": \"text\", \"text\": \"b\"}]},"
                          "{\"role\": \"assistant\", \"content\": null, \"refusal\": null, \"annotations\": [], "
                          "\"tool_calls\": [], \"reasoning\": \"hm\"},"
                          "{\"role\": \"user\", \"content\": \"z\\u0000\"}]}");
    json_t *v = vars_of(&w);
    assert_string_equal(message_text(v, 0, "role"), "system");
    assert_string_equal(message_text(v, 1, "content"), "a\nb");
    assert_string_equal(message_text(v, 1, "name"), "bob");
    assert_string_equal(message_text(v, 2, "content"), "");
    assert_string_equal(message_text(v, 2, "reasoning_content"), "hm");
    assert_int_equal(json_string_length(json_object_get(json_array_get(json_object_get(v, "messages"), 3), "content")),
                     2);
    assert_int_equal(json_object_size(v), 1);
    json_decref(v);
    world_end(&w);
}

static void test_chat_refuses_by_name(void **s)
{
    (void)s;
    static const struct {
        const char *fields, *code, *param;
    } rows[] = {
        {HI ", \"tools\": [{\"type\": \"function\"}]", "unsupported_parameter", "tools"},
        {HI ", \"tool_choice\": \"required\"", "unsupported_parameter", "tool_choice"},
        {HI ", \"response_format\": {\"type\": \"json_object\"}", "unsupported_parameter", "response_format"},
        {HI ", \"response_format\": {\"type\": \"text\", \"x\": 1}", "unsupported_parameter", "response_format"},
        {HI ", \"store\": true", "unsupported_parameter", "store"},
        {HI ", \"reasoning_effort\": \"low\"", "unsupported_parameter", "reasoning_effort"},
        {HI ", \"modalities\": [\"text\", \"audio\"]", "unsupported_parameter", "modalities"},
        {HI ", \"nonesuch\": 1", "unknown_parameter", "nonesuch"},
        {HI ", \"temperature\": \"hot\"", "invalid_type", "temperature"},
        {HI ", \"temperature\": -1", "invalid_value", "temperature"},
        {HI ", \"temperature\": 2.1", "invalid_value", "temperature"},
        {HI ", \"top_p\": 1.5", "invalid_value", "top_p"},
        {HI ", \"n\": 0", "invalid_value", "n"},
        {HI ", \"n\": 65", "invalid_value", "n"},
        {HI ", \"n\": 1.5", "invalid_type", "n"},
        {HI ", \"max_tokens\": \"many\"", "invalid_type", "max_tokens"},
        {HI ", \"max_tokens\": 0", "invalid_value", "max_tokens"},
        {HI ", \"max_tokens\": 3, \"max_completion_tokens\": 4", "invalid_value", "max_tokens"},
        {HI ", \"seed\": 1.5", "invalid_type", "seed"},
        {HI ", \"seed\": true", "invalid_type", "seed"},
        {HI ", \"stop\": 5", "invalid_type", "stop"},
        {HI ", \"stop\": \"\"", "invalid_value", "stop"},
        {HI ", \"stop\": [\"a\\u0000b\"]", "invalid_value", "stop"},
        {HI ", \"logit_bias\": {\"5\": 101}", "invalid_value", "logit_bias"},
        {HI ", \"logit_bias\": {\"x\": 1}", "invalid_value", "logit_bias"},
        {HI ", \"logit_bias\": {\"4294967296\": 1}", "invalid_value", "logit_bias"},
        {HI ", \"logit_bias\": {\"5\": false}", "invalid_value", "logit_bias"},
        {HI ", \"top_logprobs\": 2", "invalid_value", "top_logprobs"},
        {HI ", \"logprobs\": true, \"top_logprobs\": 21", "invalid_value", "top_logprobs"},
        {HI ", \"stream_options\": {\"include_usage\": true}", "invalid_value", "stream_options"},
        {HI ", \"stream\": true, \"stream_options\": {\"x\": true}", "unknown_parameter", "stream_options.x"},
        {HI ", \"stream\": 1", "invalid_type", "stream"},
        {HI ", \"priority\": 5", "unsupported_parameter", "priority"},
        {HI ", \"chat_template_kwargs\": {\"messages\": []}", "invalid_value", "chat_template_kwargs"},
        {"\"model\": \"m\"", "missing_required_parameter", "messages"},
        {"\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]", "missing_required_parameter", "model"},
        {"\"model\": \"\", \"messages\": []", "invalid_value", "model"},
        {"\"model\": \"m\", \"messages\": []", "invalid_value", "messages"},
        {"\"model\": \"m\", \"messages\": \"hi\"", "invalid_type", "messages"},
        {"\"model\": \"m\", \"messages\": [7]", "invalid_type", "messages[0]"},
        {"\"model\": \"m\", \"messages\": [{\"role\": 7, \"content\": \"x\"}]", "invalid_type", "messages[0].role"},
        {"\"model\": \"m\", \"messages\": [{\"role\": \"king\", \"content\": \"x\"}]", "invalid_value",
         "messages[0].role"},
        {"\"model\": \"m\", \"messages\": [{\"role\": \"tool\", \"content\": \"x\"}]", "unsupported_parameter",
         "messages[0].role"},
        {"\"model\": \"m\", \"messages\": [{\"content\": \"x\"}]", "missing_required_parameter", "messages[0].role"},
        {"\"model\": \"m\", \"messages\": [{\"role\": \"user\"}]", "missing_required_parameter", "messages[0].content"},
        {"\"model\": \"m\", \"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image_url\", \"image_url\": "
         "{\"url\": \"x\"}}]}]",
         "unsupported_parameter", "messages[0].content"},
        {"\"model\": \"m\", \"messages\": [{\"role\": \"assistant\", \"tool_calls\": [1]}]", "unsupported_parameter",
         "messages[0].tool_calls"},
    };
    for (size_t i = 0; i < SPARK_COUNT(rows); i++) {
        char body[1024];
        snprintf(body, sizeof body, "{%s}", rows[i].fields);
        refused(CHAT, body, 400, rows[i].code, rows[i].param);
    }
}

/* ---- Hostile JSON ---- */

static void refused_bytes(const char *body, size_t len, const char *code)
{
    world w = parse_as(CHAT, body, len, NULL);
    assert_false(w.ok);
    assert_int_equal(w.e.status, 400);
    assert_string_equal(w.e.code, code);
    world_end(&w);
}

static void test_hostile_json_is_refused(void **s)
{
    (void)s;
    static const char *const bodies[] = {
        "",
        " ",
        "[]",
        "\"x\"",
        "null",
        "{\"model\": ",
        "{\"model\": \"m\"}}",
        "{\"model\": \"m\",}",
        "{'model': 'm'}",
        "{\"model\": \"m\", \"model\": \"m\"}",
        "{\"seed\": 1e999}",
        "{\"seed\": -}",
        "{\"seed\": NaN}",
        "{\"seed\": Infinity}",
        "{\"seed\": 0x10}",
        "{\"seed\": 01}",
        "{\"seed\": 9223372036854775808}",
        "{\"model\": \"\\ud800\"}",
        "{\"model\": \"a\nb\"}",
        "{\"a\\u0000b\": 1}",
        "{\"model\": \"\xc0\xaf\"}",
        "{\"model\": \"\xed\xa0\x80\"}",
        "{\"model\": \"\xff\"}",
        "\xef\xbb\xbf{}",
    };
    for (size_t i = 0; i < SPARK_COUNT(bodies); i++) refused_bytes(bodies[i], strlen(bodies[i]), "invalid_json");
    refused_bytes("{}\0", 3, "invalid_json");
}

static void test_numbers_at_the_edge_are_ranged(void **s)
{
    (void)s;
    refused(CHAT, "{" HI ", \"max_tokens\": 9223372036854775807}", 400, "invalid_value", "max_tokens");
    refused(CHAT, "{" HI ", \"max_tokens\": 1e300}", 400, "invalid_type", "max_tokens");
    refused(CHAT, "{" HI ", \"temperature\": 1e300}", 400, "invalid_value", "temperature");
    world w = taken(CHAT, "{" HI ", \"temperature\": -0.0, \"seed\": -9223372036854775808, \"max_tokens\": -1}");
    assert_true(w.call.asks[0].generate.sampling.temperature == 0);
    assert_int_equal(w.call.asks[0].generate.sampling.seed, (uint64_t)1 << 63);
    assert_int_equal(w.call.asks[0].generate.max_tokens, 0);
    world_end(&w);
}

static void test_deep_json_costs_nothing(void **s)
{
    (void)s;
    const size_t n = 1000000;
    char *deep = malloc(n);
    assert_non_null(deep);
    memset(deep, '[', n);
    refused_bytes(deep, n, "invalid_json");
    for (size_t i = 0; i + 5 <= n; i += 5) memcpy(deep + i, "{\"a\":", 5);
    refused_bytes(deep, n, "invalid_json");
    free(deep);
}

static void test_many_values_are_refused_before_they_take_memory(void **s)
{
    (void)s;
    const size_t n = 3000000;
    char *wide = malloc(n);
    assert_non_null(wide);
    wide[0] = '[';
    for (size_t i = 1; i + 3 <= n; i += 3) memcpy(wide + i, "{},", 3);
    wide[n - 2] = '0';
    wide[n - 1] = ']';
    refused_bytes(wide, n, "invalid_json");
    free(wide);
}

static void test_content_types(void **s)
{
    (void)s;
    static const struct {
        const char *path, *type;
        int status;
    } rows[] = {{CHAT, NULL, 0},
                {CHAT, "application/json", 0},
                {CHAT, "Application/JSON; charset=utf-8", 0},
                {CHAT, "text/plain", 415},
                {CHAT, "application/x-www-form-urlencoded", 415},
                {CHAT, "application/jsonx", 415},
                {CHAT, "", 415},
                {"/api/chat", "application/x-www-form-urlencoded", 0},
                {"/api/chat", "multipart/form-data", 415}};
    for (size_t i = 0; i < SPARK_COUNT(rows); i++) {
        world w = parse_as(rows[i].path, "{" HI "}", strlen("{" HI "}"), rows[i].type);
        assert_int_equal(w.e.status, rows[i].status);
        world_end(&w);
    }
}

/* ---- Completions ---- */

static void test_completions_take_each_form_of_prompt(void **s)
{
    (void)s;
    world w = taken(TEXT, "{" ONCE "}");
    assert_int_equal(w.call.asks[0].kind, SPARK_ASK_TEXT);
    assert_true(spark_bytes_is(w.call.asks[0].text, "Once"));
    assert_int_equal(w.call.asks[0].generate.max_tokens, 16);
    assert_true(w.call.asks[0].parse_special && w.call.asks[0].add_special);
    world_end(&w);
    w = taken(TEXT, "{\"model\": \"m\", \"prompt\": [1, 2.0, 3], \"max_tokens\": 3, \"echo\": true}");
    assert_int_equal(w.call.asks[0].kind, SPARK_ASK_IDS);
    assert_int_equal(w.call.asks[0].n_ids, 3);
    assert_int_equal(w.call.asks[0].ids[1], 2);
    assert_true(w.call.asks[0].echo);
    world_end(&w);
    w = taken(
        TEXT,
        "{\"model\": \"m\", \"prompt\": [\"a\", [1], \"\"], \"n\": 2, \"best_of\": 2, \"seed\": 10, \"suffix\": null}");
    assert_int_equal(w.call.n_asks, 6);
    assert_int_equal(w.call.n_each, 2);
    assert_true(spark_bytes_is(w.call.asks[1].text, "a"));
    assert_int_equal(w.call.asks[2].kind, SPARK_ASK_IDS);
    assert_int_equal(w.call.asks[3].generate.sampling.seed, 11); /* the second answer to the second prompt */
    assert_int_equal(w.call.asks[4].generate.sampling.seed, 10);
    world_end(&w);
}

static void test_completions_refuse_by_name(void **s)
{
    (void)s;
    refused(TEXT, "{\"model\": \"m\"}", 400, "missing_required_parameter", "prompt");
    refused(TEXT, "{\"model\": \"m\", \"prompt\": []}", 400, "invalid_value", "n");
    refused(TEXT, "{\"model\": \"m\", \"prompt\": [[]]}", 400, "invalid_type", "prompt");
    refused(TEXT, "{\"model\": \"m\", \"prompt\": [1, \"a\"]}", 400, "invalid_type", "prompt");
    refused(TEXT, "{\"model\": \"m\", \"prompt\": [-1]}", 400, "invalid_value", "prompt");
    refused(TEXT, "{\"model\": \"m\", \"prompt\": [4294967296]}", 400, "invalid_value", "prompt");
    refused(TEXT, "{" ONCE ", \"suffix\": \"x\"}", 400, "unsupported_parameter", "suffix");
    refused(TEXT, "{" ONCE ", \"best_of\": 3}", 400, "unsupported_parameter", "best_of");
    refused(TEXT, "{" ONCE ", \"echo\": true, \"logprobs\": 1}", 400, "unsupported_parameter", "logprobs");
    refused(TEXT, "{" ONCE ", \"logprobs\": true}", 400, "invalid_type", "logprobs");
    refused(TEXT, "{" ONCE ", \"messages\": []}", 400, "unknown_parameter", "messages");
}

static void test_seeds_of_the_system_go_only_where_none_was_asked(void **s)
{
    (void)s;
    world w = taken(TEXT, "{" ONCE ", \"n\": 3}");
    api_call_seed(&w.call, 100);
    assert_int_equal(w.call.asks[2].generate.sampling.seed, 102);
    api_call_seed(&w.call, UINT64_MAX);
    assert_true(w.call.asks[0].generate.sampling.seed < UINT64_C(1) << 53);
    world_end(&w);
    w = taken(TEXT, "{" ONCE ", \"seed\": 5}");
    api_call_seed(&w.call, 100);
    assert_int_equal(w.call.asks[0].generate.sampling.seed, 5);
    world_end(&w);
}

/* ---- Ollama ---- */

static void test_ollama_chat_defaults_and_options(void **s)
{
    (void)s;
    world w = taken("/api/chat", "{" HI "}");
    const spark_sampling *p = &w.call.asks[0].generate.sampling;
    assert_true(w.call.stream && p->temperature == 0.8f && p->top_p == 0.9f && p->min_p == 0);
    assert_int_equal(p->top_k, 40);
    assert_int_equal(p->penalty_last_n, 64);
    assert_true(w.call.keep_alive_ms == API_KEEP_DEFAULT);
    world_end(&w);
    w = taken("/api/chat", "{" HI ", \"stream\": false, \"keep_alive\": \"1h30m\", \"think\": false, \"format\": \"\", "
                           "\"options\": {\"num_ctx\": 2048,"
                           " \"num_predict\": -2, \"seed\": 3, \"stop\": [\"x\"], \"num_gpu\": 99, \"mirostat\": 0, "
                           "\"top_k\": 0, \"repeat_last_n\": -1}}");
    assert_false(w.call.stream);
    assert_int_equal(w.call.keep_alive_ms, 5400000);
    assert_int_equal(w.call.asks[0].n_ctx, 2048);
    assert_int_equal(w.call.asks[0].generate.max_tokens, 0);
    assert_int_equal(w.call.asks[0].generate.sampling.seed, 3);
    assert_int_equal(w.call.asks[0].generate.sampling.penalty_last_n, SPARK_MAX_CTX);
    json_t *v = vars_of(&w);
    assert_true(json_is_false(json_object_get(v, "enable_thinking")));
    json_decref(v);
    world_end(&w);
}

static void test_ollama_keep_alive_reads_go_durations(void **s)
{
    (void)s;
    static const struct {
        const char *text;
        int64_t ms;
    } rows[] = {{"300", 300000}, {"0", 0},        {"-1", -1},         {"1.5", 1500},      {"\"5m\"", 300000},
                {"\"0\"", 0},    {"\"-1m\"", -1}, {"\"1.5s\"", 1500}, {"\"250ms\"", 250}, {"\"24h\"", 86400000},
                {"1e300", -1}};
    static const char *const bad[] = {"\"\"", "\"5\"", "\"m\"", "\"5x\"", "\"5m3\"", "true", "\"-\"", "\"5mm\"", "[]"};
    char body[256];
    for (size_t i = 0; i < SPARK_COUNT(rows); i++) {
        snprintf(body, sizeof body, "{\"model\": \"m\", \"keep_alive\": %s}", rows[i].text);
        world w = taken("/api/generate", body);
        assert_int_equal(w.call.keep_alive_ms, rows[i].ms);
        assert_int_equal(w.call.n_asks, 0);
        assert_int_equal(w.call.load, rows[i].ms == 0 ? API_LOAD_NO_MORE : API_LOAD_NOW);
        world_end(&w);
    }
    for (size_t i = 0; i < SPARK_COUNT(bad); i++) {
        snprintf(body, sizeof body, "{\"model\": \"m\", \"keep_alive\": %s}", bad[i]);
        world w = parse("/api/generate", body);
        assert_int_equal(w.e.status, 400);
        world_end(&w);
    }
}

static void test_ollama_generate_makes_a_turn_or_takes_it_raw(void **s)
{
    (void)s;
    world w = taken(
        "/api/generate",
        "{\"model\": \"m\", \"prompt\": \"p\", \"system\": \"s\", \"context\": [1, 2], \"template\": \"\"}");
    assert_int_equal(w.call.asks[0].kind, SPARK_ASK_CHAT);
    assert_int_equal(w.call.asks[0].n_ids, 2);
    assert_true(w.call.context && w.call.asks[0].prompt_ids);
    json_t *v = vars_of(&w);
    assert_string_equal(message_text(v, 0, "content"), "s");
    assert_string_equal(message_text(v, 1, "content"), "p");
    json_decref(v);
    world_end(&w);
    w = taken("/api/generate", "{\"model\": \"m\", \"prompt\": \"p\", \"raw\": true}");
    assert_int_equal(w.call.asks[0].kind, SPARK_ASK_TEXT);
    assert_true(w.call.asks[0].parse_special);
    assert_false(w.call.context);
    world_end(&w);
    refused("/api/generate", "{\"model\": \"m\", \"prompt\": \"p\", \"raw\": true, \"context\": [1]}", 400,
            "invalid_value", "raw");
    refused("/api/generate", "{\"model\": \"m\", \"prompt\": \"p\", \"template\": \"{{ .Prompt }}\"}", 400,
            "unsupported_parameter", "template");
    refused("/api/chat", "{" HI ", \"format\": \"json\"}", 400, "unsupported_parameter", "format");
    refused("/api/chat", "{" HI ", \"think\": true}", 400, "unsupported_parameter", "think");
    refused("/api/chat", "{" HI ", \"options\": {\"mirostat\": 2}}", 400, "unsupported_parameter", "options.mirostat");
    refused("/api/chat", "{" HI ", \"options\": {\"temprature\": 2}}", 400, "unknown_parameter", "options.temprature");
    refused("/api/chat", "{" HI ", \"options\": {\"num_ctx\": 0}}", 400, "invalid_value", "options.num_ctx");
    refused("/api/chat", "{" HI ", \"truncate\": true}", 400, "unsupported_parameter", "truncate");
}

static void test_show_takes_the_old_name(void **s)
{
    (void)s;
    world w = taken("/api/show", "{\"name\": \"m\"}");
    assert_true(spark_bytes_is(w.call.model, "m"));
    world_end(&w);
    w = taken("/api/show", "{\"name\": \"old\", \"model\": \"m\", \"verbose\": false}");
    assert_true(spark_bytes_is(w.call.model, "m"));
    world_end(&w);
    refused("/api/show", "{}", 400, "missing_required_parameter", "model");
}

/* ---- llama-server ---- */

static void test_completion_defaults_are_llamacpps(void **s)
{
    (void)s;
    world w = taken("/completion", "{\"prompt\": \"p\", \"n_predict\": -1, \"id_slot\": -1, \"logit_bias\": [[5, 1.5], "
                                   "[6, false]], \"temperature\": -1,"
                                   " \"n_probs\": 2, \"n_keep\": 4, \"grammar\": \"\", \"cache_prompt\": false, "
                                   "\"return_tokens\": true, \"seed\": -1}");
    const spark_ask *a = w.call.asks;
    assert_true(a->generate.sampling.top_p == 0.95f && a->generate.sampling.min_p == 0.05f &&
                a->generate.sampling.temperature == 0);
    assert_int_equal(a->generate.max_tokens, 0);
    assert_int_equal(a->generate.n_logprobs, 2);
    assert_true(a->generate.logit_bias[1].bias == -INFINITY);
    assert_false(a->cache);
    assert_true(a->random_seed && w.call.return_tokens && w.call.model.len == 0);
    world_end(&w);
    refused("/completion", "{\"prompt\": \"p\", \"n_predict\": 0}", 400, "invalid_value", "n_predict");
    refused("/completion", "{\"prompt\": \"p\", \"grammar\": \"root ::= x\"}", 400, "unsupported_parameter", "grammar");
    refused("/completion", "{\"prompt\": \"p\", \"logit_bias\": [[\"Hello\", 1]]}", 400, "invalid_value", "logit_bias");
    refused("/completion", "{\"prompt\": \"p\", \"samplers\": [\"top_k\"]}", 400, "unsupported_parameter", "samplers");
    refused("/completion", "{\"prompt\": [12, \"x\", 3]}", 400, "invalid_type", "prompt");
}

static void test_tokenize_detokenize_and_template(void **s)
{
    (void)s;
    world w = taken("/tokenize", "{\"content\": \"x\", \"with_pieces\": true}");
    assert_int_equal(w.call.asks[0].kind, SPARK_ASK_TOKENIZE);
    assert_true(!w.call.asks[0].add_special && w.call.asks[0].parse_special && w.call.asks[0].pieces);
    world_end(&w);
    w = taken("/detokenize", "{\"tokens\": [1, 2]}");
    assert_int_equal(w.call.asks[0].kind, SPARK_ASK_DETOKENIZE);
    assert_int_equal(w.call.asks[0].n_ids, 2);
    world_end(&w);
    w = taken("/apply-template", "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"stop\": [\"a\"], "
                                 "\"add_generation_prompt\": false}");
    assert_int_equal(w.call.asks[0].kind, SPARK_ASK_TEMPLATE);
    assert_int_equal(w.call.asks[0].generate.n_stops, 0);
    json_t *v = vars_of(&w);
    assert_true(json_is_false(json_object_get(v, "add_generation_prompt")));
    json_decref(v);
    world_end(&w);
    refused("/tokenize", "{}", 400, "missing_required_parameter", "content");
    refused("/detokenize", "{\"tokens\": [\"x\"]}", 400, "invalid_type", "tokens");
    refused("/apply-template", "{}", 400, "missing_required_parameter", "messages");
}

/* ---- Every field of every table ---- */

/* A body that is taken, and where in it the table's object is. */
typedef struct field_place {
    const char *title, *path, *body, *where;
} field_place;

static const field_place field_places[] = {
    {"Both OpenAI routes", CHAT, "{" HI ", \"stream\": true}", ""},
    {"Both OpenAI routes", TEXT, "{" ONCE ", \"stream\": true}", ""},
    {"`/v1/chat/completions`", CHAT, "{" HI ", \"logprobs\": true}", ""},
    {"`/v1/completions`", TEXT, "{" ONCE "}", ""},
    {"`stream_options`", CHAT, "{" HI ", \"stream\": true, \"stream_options\": {}}", "stream_options"},
    {"Sampling, on all routes of OpenAI and llama-server that generate", CHAT, "{" HI "}", ""},
    {"Sampling, on all routes of OpenAI and llama-server that generate", TEXT, "{" ONCE "}", ""},
    {"Sampling, on all routes of OpenAI and llama-server that generate", "/completion", "{" ONCE "}", ""},
    {"A message, on every route that takes messages", CHAT, "{" HI "}", "messages.0"},
    {"A message, on every route that takes messages", "/api/chat", "{" HI "}", "messages.0"},
    {"`/api/chat` and `/api/generate`", "/api/chat", "{" HI "}", ""},
    {"`/api/chat` and `/api/generate`", "/api/generate", "{" ONCE "}", ""},
    {"`/api/chat`", "/api/chat", "{" HI "}", ""},
    {"`/api/generate`", "/api/generate", "{" ONCE "}", ""},
    {"Ollama's `options`", "/api/generate", "{" ONCE ", \"options\": {}}", "options"},
    {"`/api/show`", "/api/show", "{\"model\": \"m\"}", ""},
    {"`/completion`", "/completion", "{" ONCE "}", ""},
    {"`/tokenize`", "/tokenize", "{\"content\": \"x\"}", ""},
    {"`/detokenize`", "/detokenize", "{\"tokens\": [1]}", ""},
};

static json_t *at_path(json_t *v, const char *path);

/* The code of the refusal of a body with this field set so, or "taken". */
static const char *field_outcome(const field_place *p, const char *name, const char *value)
{
    json_t *body = json_loads(p->body, 0, NULL), *v = json_loads(value, JSON_DECODE_ANY, NULL);
    assert_true(body && v);
    json_object_set_new(at_path(body, p->where), name, v);
    char *text = json_dumps(body, 0);
    world w = parse(p->path, text);
    const char *code = w.ok ? "taken" : w.e.code;
    world_end(&w);
    free(text);
    json_decref(body);
    return code;
}

static void field_expect(const field_place *p, const char *name, const char *value, const char *code)
{
    const char *got = field_outcome(p, name, value);
    if (strcmp(got, code) != 0) fail_msg("%s %s: '%s' = %s: %s, not %s", p->path, p->where, name, value, got, code);
}

static void field_try_neutral(const field_place *p, const api_field *f)
{
    static const struct {
        unsigned bit;
        const char *value;
    } rows[] = {{API_IF_FALSE, "false"},     {API_IF_TRUE, "true"},     {API_IF_EMPTY, "\"\""},
                {API_IF_EMPTY, "[]"},        {API_IF_EMPTY, "{}"},      {API_IF_ZERO, "0"},
                {API_IF_ZERO, "0.0"},        {API_IF_ONE, "1"},         {API_IF_ONE, "1.0"},
                {API_IF_MINUS_ONE, "-1"},    {API_IF_NONE, "\"none\""}, {API_IF_AUTO, "\"auto\""},
                {API_IF_AUTO, "\"default\""}};
    for (size_t i = 0; i < SPARK_COUNT(rows); i++)
        field_expect(p, f->name, rows[i].value, f->neutral & rows[i].bit ? "taken" : "unsupported_parameter");
    field_expect(p, f->name, "{\"x\": [1]}", "unsupported_parameter");
    field_expect(p, f->name, "\"x\"", "unsupported_parameter");
}

static void field_try(const field_place *p, const api_field *f)
{
    static const char *const values[] = {"\"x\"", "1", "true", "[]", "{}"}; /* one of each kind */
    json_t *body = json_loads(p->body, 0, NULL);
    const bool needed = json_object_get(at_path(body, p->where), f->name) != NULL;
    json_decref(body);
    if (!needed) field_expect(p, f->name, "null", "taken");
    if (f->cls == API_REFUSED) {
        field_try_neutral(p, f);
        return;
    }
    for (unsigned i = 0; i < SPARK_COUNT(values); i++) {
        if ((f->kinds >> i & 1) == 0) field_expect(p, f->name, values[i], "invalid_type");
        if (f->kinds >> i & 1 && f->cls == API_NEUTRAL) field_expect(p, f->name, values[i], "taken");
    }
}

static size_t fields_walk(const api_fields *const *tables, size_t n)
{
    size_t found = 0;
    for (size_t t = 0; t < n; t++) {
        bool placed = false;
        for (size_t i = 0; i < SPARK_COUNT(field_places); i++) {
            if (strcmp(field_places[i].title, tables[t]->title) != 0) continue;
            placed = true;
            found++;
            for (size_t k = 0; k < tables[t]->n; k++) field_try(&field_places[i], &tables[t]->rows[k]);
        }
        if (!placed) fail_msg("no body for the table '%s'", tables[t]->title);
    }
    return found;
}

static void test_every_field_behaves_as_its_class(void **s)
{
    (void)s;
    const size_t found = fields_walk(api_openai_tables, api_n_openai_tables) +
                         fields_walk(api_ollama_tables, api_n_ollama_tables) +
                         fields_walk(api_llama_tables, api_n_llama_tables);
    assert_int_equal(found, SPARK_COUNT(field_places));
}

/* ---- No memory ---- */

static long fault_left;

static void *fault_malloc(size_t n) { return fault_left-- > 0 ? malloc(n) : NULL; }

/* What each route is asked when memory runs out. */
static const char *const fault_asks[][2] = {
    {CHAT, "{" HI ", \"stop\": [\"a\"], \"logit_bias\": {\"1\": 2}, \"chat_template_kwargs\": {\"a\": 1}, "
           "\"add_generation_prompt\": true}"},
    {CHAT, "{\"model\": \"m\", \"messages\": [{\"role\": \"user\", \"name\": \"n\", \"content\": [{\"type\": \"text\", "
           "\"text\": \"a\"}]}]}"},
    {TEXT, "{\"model\": \"m\", \"prompt\": [\"a\", [1, 2]], \"n\": 2}"},
    {"/api/generate", "{\"model\": \"m\", \"prompt\": \"p\", \"system\": \"s\", \"think\": false}"},
    {"/apply-template", "{" HI "}"}};

static void test_parsing_without_memory_is_an_error_and_leaks_nothing(void **s)
{
    (void)s;
    for (size_t i = 0; i < SPARK_COUNT(fault_asks); i++)
        for (long k = 0, done = 0; !done; k++) {
            fault_left = k;
            json_set_alloc_funcs(fault_malloc, free);
            world w = parse(fault_asks[i][0], fault_asks[i][1]);
            json_set_alloc_funcs(malloc, free);
            done = w.ok;
            assert_true(w.ok || w.e.status == 400 || w.e.status == 503);
            assert_true(k < 500);
            world_end(&w);
        }
}

static void test_a_small_arena_is_an_error(void **s)
{
    (void)s;
    for (size_t i = 0; i < SPARK_COUNT(fault_asks); i++)
        for (size_t max = 0; max < 20000; max += 500) {
            world w = {0};
            const api_match m = api_route_find("POST", spark_bytes_of(fault_asks[i][0]));
            assert_ok(spark_arena_create(&w.a, max, NULL));
            w.ok = api_call_parse(&w.call, m.route, spark_bytes_of(fault_asks[i][1]), (spark_bytes){0}, w.a, &w.e);
            if (!w.ok) assert_int_equal(w.e.status, 503);
            if (max == 0) assert_false(w.ok);
            world_end(&w);
        }
}

/* ---- The shared requests ---- */

/* Rows that need what later versions bring: today refused by name. */
static const char *const requests_due[] = {"json object", "json schema",    "tools required",   "tools none",
                                           "embedding",   "embedding list", "embedding base64", "embedding empty list"};

static bool request_is_due(const char *name)
{
    for (size_t i = 0; i < SPARK_COUNT(requests_due); i++)
        if (strcmp(name, requests_due[i]) == 0) return true;
    return false;
}

static int request_status(const json_t *row)
{
    const api_match m = api_route_find(json_string_value(json_object_get(row, "method")),
                                       spark_bytes_of(json_string_value(json_object_get(row, "path"))));
    if (m.status != 200) return m.status;
    if (m.route->handler == API_LATER) return 501;
    if (strcmp(m.route->method, "GET") == 0) return json_object_get(row, "needs") ? 401 : 200; /* keys: the front's */
    json_t *raw = json_object_get(row, "raw");
    char *body = raw ? strdup(json_string_value(raw)) : json_dumps(json_object_get(row, "body"), 0);
    assert_non_null(body);
    world w = parse(m.route->path, body);
    const int status = w.ok ? 200 : w.e.status;
    free(body);
    world_end(&w);
    return status;
}

static void test_shared_requests_are_taken_or_refused_as_they_say(void **s)
{
    (void)s;
    const char *path = test_data("api/requests.jsonl");
    size_t len = 0, n = 0, n_due = 0;
    if (!path) skip();
    char *text = (char *)test_read(path, &len);
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest), n++) {
        json_t *row = json_loads(line, 0, NULL);
        assert_non_null(row);
        const char *name = json_string_value(json_object_get(row, "name"));
        const int status = request_status(row);
        bool allowed = false;
        for (size_t i = 0; i < json_array_size(json_object_get(row, "status")); i++)
            allowed |= json_integer_value(json_array_get(json_object_get(row, "status"), i)) == status;
        if (request_is_due(name)) {
            n_due++;
            if (allowed) fail_msg("'%s' is listed as due, but gives %d: take it from the list", name, status);
        } else if (!allowed) {
            fail_msg("'%s' gives %d", name, status);
        }
        json_decref(row);
    }
    assert_int_equal(n, 36);
    assert_int_equal(n_due, SPARK_COUNT(requests_due));
    free(text);
}

/* ---- Replies ---- */

static uint64_t test_now(void) { return 1767225600123456789; } /* 2026-01-01T00:00:00.123456789Z */

typedef struct answer {
    world w;
    api_reply *r;
    api_out out;
} answer;

static answer answer_to(const char *path, const char *body)
{
    answer x = {.w = taken(path, body)};
    api_out_init(&x.out, 64u << 20);
    return x;
}

static void answer_begin(answer *x)
{
    const api_reply_options o = {.call = &x->w.call,
                                 .model = "m",
                                 .id = "req-0123456789abcdef",
                                 .fingerprint = "fp",
                                 .unix_ns = test_now,
                                 .load_ns = 5};
    assert_ok(api_reply_create(&x->r, &o, NULL));
}

static void answer_end(answer *x)
{
    api_reply_destroy(&x->r);
    api_out_free(&x->out);
    world_end(&x->w);
}

static spark_piece_message piece_of(const char *text, uint32_t id, bool probs)
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

static const spark_finished_message answer_finish = {.finish = SPARK_FINISH_STOP,
                                                     .stop_string = true,
                                                     .which_stop = 0,
                                                     .n_prompt = 10,
                                                     .n_cached = 4,
                                                     .n_tokens = 3,
                                                     .prompt_us = 2000,
                                                     .decode_us = 3000};

/* Two pieces and the end, for every choice, turn by turn. */
static void answer_run(answer *x)
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

static answer answer_all(const char *path, const char *body)
{
    answer x = answer_to(path, body);
    answer_begin(&x);
    answer_run(&x);
    assert_false(x.out.failed);
    return x;
}

static json_t *answer_json(const answer *x)
{
    json_error_t why;
    json_t *v = json_loadb((const char *)x->out.ptr, x->out.len, JSON_REJECT_DUPLICATES, &why);
    if (!v) fail_msg("%s: %.*s", why.text, (int)x->out.len, (const char *)x->out.ptr);
    return v;
}

/* Every event of a stream of server-sent events, or line of NDJSON, as a list; the text "[DONE]" as itself. */
static json_t *answer_events(const answer *x, bool sse)
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

static json_t *at_path(json_t *v, const char *path)
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

static const char *text_at(json_t *v, const char *path)
{
    const char *s = json_string_value(at_path(v, path));
    if (!s) fail_msg("no text at %s", path);
    return s;
}

static json_int_t int_at(json_t *v, const char *path)
{
    if (!json_is_integer(at_path(v, path))) fail_msg("no number at %s", path);
    return json_integer_value(at_path(v, path));
}

static void test_chat_reply_has_what_the_contract_requires(void **s)
{
    (void)s;
    answer x = answer_all(CHAT, "{" HI ", \"n\": 2, \"logprobs\": true, \"top_logprobs\": 2}");
    assert_int_equal(api_reply_phase(x.r), API_WHOLE);
    assert_int_equal(api_reply_status(x.r), 200);
    assert_string_equal(api_reply_type(x.r), "application/json");
    json_t *v = answer_json(&x);
    assert_string_equal(text_at(v, "id"), "chatcmpl-0123456789abcdef");
    assert_string_equal(text_at(v, "object"), "chat.completion");
    assert_int_equal(int_at(v, "created"), 1767225600);
    assert_string_equal(text_at(v, "choices.1.message.content"), "Hel\"lo w\xc3\xb6rld\n");
    assert_string_equal(text_at(v, "choices.0.message.role"), "assistant");
    assert_true(json_is_null(at_path(v, "choices.0.message.refusal")));
    assert_string_equal(text_at(v, "choices.0.finish_reason"), "stop");
    assert_int_equal(json_array_size(at_path(v, "choices.0.logprobs.content")), 2);
    assert_int_equal(json_array_size(at_path(v, "choices.0.logprobs.content.0.top_logprobs")), 2);
    assert_true(json_real_value(at_path(v, "choices.0.logprobs.content.0.logprob")) == -0.5);
    assert_true(json_number_value(at_path(v, "choices.0.logprobs.content.0.top_logprobs.1.logprob")) == -9999);
    assert_int_equal(int_at(v, "choices.0.logprobs.content.0.top_logprobs.1.bytes.1"), 0x82);
    assert_int_equal(int_at(v, "usage.prompt_tokens"), 10); /* once, for both answers */
    assert_int_equal(int_at(v, "usage.completion_tokens"), 6);
    assert_int_equal(int_at(v, "usage.total_tokens"), 16);
    assert_int_equal(int_at(v, "usage.prompt_tokens_details.cached_tokens"), 4);
    json_decref(v);
    answer_end(&x);
}

static void test_chat_stream_begins_with_the_role_and_ends_with_done(void **s)
{
    (void)s;
    answer x = answer_all(CHAT, "{" HI ", \"stream\": true, \"stream_options\": {\"include_usage\": true}}");
    assert_int_equal(api_reply_phase(x.r), API_DONE);
    assert_string_equal(api_reply_type(x.r), "text/event-stream");
    json_t *v = answer_events(&x, true);
    assert_int_equal(json_array_size(v), 6);
    assert_string_equal(text_at(v, "0.choices.0.delta.role"), "assistant");
    assert_string_equal(text_at(v, "0.choices.0.delta.content"), "");
    assert_string_equal(text_at(v, "1.choices.0.delta.content"), "Hel\"lo");
    assert_string_equal(text_at(v, "2.choices.0.delta.content"), " w\xc3\xb6rld\n");
    assert_int_equal(json_object_size(at_path(v, "3.choices.0.delta")), 0);
    assert_string_equal(text_at(v, "3.choices.0.finish_reason"), "stop");
    for (size_t i = 0; i < 4; i++) {
        char path[64];
        snprintf(path, sizeof path, "%zu", i);
        json_t *chunk = at_path(v, path);
        assert_string_equal(text_at(chunk, "object"), "chat.completion.chunk");
        assert_string_equal(text_at(chunk, "id"), "chatcmpl-0123456789abcdef");
        assert_true(json_is_null(at_path(chunk, "usage")));
        if (i < 3) assert_true(json_is_null(at_path(chunk, "choices.0.finish_reason")));
    }
    assert_int_equal(json_array_size(at_path(v, "4.choices")), 0);
    assert_int_equal(int_at(v, "4.usage.total_tokens"), 13);
    assert_string_equal(text_at(v, "5"), "[DONE]");
    json_decref(v);
    answer_end(&x);
}

static void test_chat_stream_waits_for_its_first_event(void **s)
{
    (void)s;
    api_error e;
    answer x = answer_to(CHAT, "{" HI ", \"stream\": true}");
    answer_begin(&x);
    assert_int_equal(api_reply_phase(x.r), API_WAITING);
    api_error_set(&e, 429, "rate_limit_exceeded", NULL, "later");
    api_reply_failed(x.r, 0, &e, &x.out);
    assert_int_equal(api_reply_phase(x.r), API_WHOLE);
    assert_int_equal(api_reply_status(x.r), 429);
    json_t *v = answer_json(&x);
    assert_string_equal(text_at(v, "error.code"), "rate_limit_exceeded");
    json_decref(v);
    answer_end(&x);
}

static void test_error_in_mid_stream_is_its_last_event(void **s)
{
    (void)s;
    static const struct {
        const char *path, *body;
        bool sse;
    } rows[] = {{CHAT, "{" HI ", \"stream\": true}", true},
                {TEXT, "{" ONCE ", \"stream\": true}", true},
                {"/completion", "{" ONCE ", \"stream\": true}", true},
                {"/api/chat", "{" HI "}", false}};
    for (size_t i = 0; i < SPARK_COUNT(rows); i++) {
        api_error e;
        answer x = answer_to(rows[i].path, rows[i].body);
        answer_begin(&x);
        spark_piece_message m = piece_of("a", 1, false);
        api_reply_started(x.r, 0, 3, 0, &x.out);
        api_reply_piece(x.r, 0, &m, &x.out);
        assert_int_equal(api_reply_phase(x.r), API_STREAMING);
        api_error_set(&e, 500, "value_not_finite", NULL, "broken");
        api_reply_failed(x.r, 0, &e, &x.out);
        assert_int_equal(api_reply_phase(x.r), API_DONE);
        assert_int_equal(api_reply_status(x.r), 200);
        const size_t len = x.out.len;
        api_reply_piece(x.r, 0, &m, &x.out); /* what comes after the end says nothing */
        api_reply_finished(x.r, 0, &answer_finish, &x.out);
        assert_int_equal(x.out.len, len);
        json_t *v = answer_events(&x, rows[i].sse);
        assert_non_null(json_object_get(json_array_get(v, json_array_size(v) - 1), "error"));
        json_decref(v);
        answer_end(&x);
    }
}

static void test_stream_of_many_choices_keeps_them_apart(void **s)
{
    (void)s;
    answer x = answer_all(TEXT, "{\"model\": \"m\", \"prompt\": [\"a\", \"b\"], \"n\": 2, \"stream\": true}");
    json_t *v = answer_events(&x, true);
    size_t of[4] = {0}, i;
    json_t *chunk;
    json_array_foreach(v, i, chunk)
    {
        if (json_is_string(chunk)) continue;
        const json_int_t k = int_at(chunk, "choices.0.index");
        assert_in_range(k, 0, 3);
        of[k]++;
        assert_null(json_object_get(chunk, "usage"));
    }
    for (i = 0; i < 4; i++) assert_int_equal(of[i], 3);
    assert_string_equal(text_at(v, "12"), "[DONE]");
    json_decref(v);
    answer_end(&x);
}

static void test_text_reply_has_the_old_logprobs(void **s)
{
    (void)s;
    answer x = answer_all(TEXT, "{" ONCE ", \"logprobs\": 3}");
    json_t *v = answer_json(&x);
    assert_string_equal(text_at(v, "object"), "text_completion");
    assert_string_equal(text_at(v, "choices.0.text"), "Hel\"lo w\xc3\xb6rld\n");
    assert_string_equal(text_at(v, "choices.0.logprobs.tokens.0"), "Hel\"lo");
    assert_int_equal(int_at(v, "choices.0.logprobs.text_offset.1"), 6);
    assert_int_equal(json_object_size(at_path(v, "choices.0.logprobs.top_logprobs.0")),
                     2); /* two of three have the same text */
    assert_non_null(json_object_get(at_path(v, "choices.0.logprobs.top_logprobs.0"), "bytes:\\xe2\\x82"));
    assert_int_equal(json_array_size(at_path(v, "choices.0.logprobs.token_logprobs")), 2);
    json_decref(v);
    answer_end(&x);
    x = answer_all(TEXT, "{" ONCE ", \"logprobs\": 1, \"stream\": true}");
    v = answer_events(&x, true);
    assert_int_equal(int_at(v, "1.choices.0.logprobs.text_offset.0"), 6);
    assert_int_equal(json_array_size(at_path(v, "1.choices.0.logprobs.tokens")), 1);
    json_decref(v);
    answer_end(&x);
}

static void test_obfuscated_chunks_have_like_lengths(void **s)
{
    (void)s;
    answer x = answer_all(CHAT, "{" HI ", \"stream\": true, \"stream_options\": {\"include_obfuscation\": true}}");
    char *text = strndup((const char *)x.out.ptr, x.out.len), *at = text;
    for (char *stop; (stop = strstr(at, "\n\n")) != NULL; at = stop + 2)
        if (strncmp(at, "data: [DONE]", 12) != 0) assert_int_equal((size_t)(stop + 2 - at) % 64, 0);
    free(text);
    json_t *v = answer_events(&x, true);
    assert_non_null(at_path(v, "1.obfuscation"));
    json_decref(v);
    answer_end(&x);
}

static void test_ollama_replies_as_lines_or_one(void **s)
{
    (void)s;
    answer x = answer_all("/api/chat", "{" HI "}");
    assert_string_equal(api_reply_type(x.r), "application/x-ndjson");
    json_t *v = answer_events(&x, false);
    assert_int_equal(json_array_size(v), 3);
    assert_string_equal(text_at(v, "0.created_at"), "2026-01-01T00:00:00.123456789Z");
    assert_string_equal(text_at(v, "0.message.content"), "Hel\"lo");
    assert_true(json_is_false(at_path(v, "0.done")));
    assert_true(json_is_true(at_path(v, "2.done")));
    assert_string_equal(text_at(v, "2.done_reason"), "stop");
    assert_int_equal(int_at(v, "2.eval_count"), 3);
    assert_int_equal(int_at(v, "2.eval_duration"), 3000000);
    assert_int_equal(int_at(v, "2.load_duration"), 5);
    json_decref(v);
    answer_end(&x);
}

static void test_ollama_generate_gives_its_context(void **s)
{
    (void)s;
    static const uint8_t prompt[8] = {7, 0, 0, 0, 8, 1, 0, 0};
    answer x = answer_to("/api/generate",
                         "{\"model\": \"m\", \"prompt\": \"p\", \"stream\": false, \"logprobs\": true}");
    answer_begin(&x);
    api_reply_data(x.r, 0, (spark_bytes){prompt, sizeof prompt}, &x.out);
    answer_run(&x);
    json_t *v = answer_json(&x);
    assert_string_equal(text_at(v, "response"), "Hel\"lo w\xc3\xb6rld\n");
    assert_int_equal(json_array_size(at_path(v, "context")), 4);
    assert_int_equal(int_at(v, "context.1"), 264);
    assert_int_equal(int_at(v, "context.2"), 100);
    assert_int_equal(json_array_size(at_path(v, "logprobs")), 2);
    json_decref(v);
    answer_end(&x);
}

static void test_ollama_load_and_unload_answer_at_once(void **s)
{
    (void)s;
    api_out o;
    api_out_init(&o, 1 << 12);
    world w = taken("/api/generate", "{\"model\": \"m\", \"keep_alive\": 0}");
    api_print_loaded(&o, &w.call, "m", test_now());
    json_t *v = json_loadb((const char *)o.ptr, o.len, 0, NULL);
    assert_string_equal(text_at(v, "done_reason"), "unload");
    assert_string_equal(text_at(v, "response"), "");
    json_decref(v);
    world_end(&w);
    api_out_free(&o);
}

static void test_llama_reply_tells_why_it_stopped(void **s)
{
    (void)s;
    answer x = answer_all("/completion",
                          "{\"prompt\": \"p\", \"stop\": [\"END\"], \"n_probs\": 1, \"return_tokens\": true}");
    json_t *v = answer_json(&x);
    assert_string_equal(text_at(v, "stop_type"), "word");
    assert_string_equal(text_at(v, "stopping_word"), "END");
    assert_string_equal(text_at(v, "prompt"), "p");
    assert_int_equal(int_at(v, "tokens.1"), 101);
    assert_int_equal(int_at(v, "tokens_evaluated"), 10);
    assert_int_equal(int_at(v, "completion_probabilities.0.id"), 100);
    assert_int_equal(int_at(v, "timings.predicted_n"), 3);
    assert_int_equal(int_at(v, "timings.prompt_n"), 6);
    assert_string_equal(text_at(v, "generation_settings.stop.0"), "END");
    json_decref(v);
    answer_end(&x);
    x = answer_all("/completion", "{\"prompt\": [\"p\", \"q\"], \"stream\": true}");
    v = answer_events(&x, true);
    assert_int_equal(json_array_size(v), 6);
    assert_true(json_is_true(at_path(v, "5.stop")));
    assert_int_equal(int_at(v, "5.index"), 1);
    json_decref(v);
    answer_end(&x);
    x = answer_all("/completion", "{\"prompt\": [\"p\", \"q\"]}");
    v = answer_json(&x);
    assert_int_equal(json_array_size(v), 2);
    json_decref(v);
    answer_end(&x);
}

static json_t *answer_data(const char *path, const char *body, const void *data, size_t len)
{
    answer x = answer_to(path, body);
    answer_begin(&x);
    api_reply_data(x.r, 0, (spark_bytes){data, len}, &x.out);
    api_reply_finished(x.r, 0, &answer_finish, &x.out);
    assert_int_equal(api_reply_phase(x.r), API_WHOLE);
    json_t *v = answer_json(&x);
    answer_end(&x);
    return v;
}

static void test_data_becomes_tokens_or_text(void **s)
{
    (void)s;
    json_t *v = answer_data("/tokenize", "{\"content\": \"x\"}", "\1\0\0\0\0\1\0\0", 8);
    assert_int_equal(int_at(v, "tokens.1"), 256);
    json_decref(v);
    v = answer_data("/tokenize", "{\"content\": \"x\", \"with_pieces\": true}", "\1\0\0\0\2\0hi\2\0\0\0\1\0\xc3", 15);
    assert_string_equal(text_at(v, "tokens.0.piece"), "hi");
    assert_int_equal(int_at(v, "tokens.1.piece.0"), 0xc3);
    assert_int_equal(json_array_size(at_path(v, "tokens")), 2);
    json_decref(v);
    v = answer_data("/detokenize", "{\"tokens\": [1]}",
                    "a\xff"
                    "b",
                    3);
    assert_string_equal(text_at(v, "content"), "a\xef\xbf\xbd"
                                               "b");
    json_decref(v);
    v = answer_data("/apply-template", "{" HI "}", "<s>hi", 5);
    assert_string_equal(text_at(v, "prompt"), "<s>hi");
    json_decref(v);
}

static void test_malformed_data_of_an_engine_is_an_error(void **s)
{
    (void)s;
    static const char *const bodies[] = {"{\"content\": \"x\"}", "{\"content\": \"x\", \"with_pieces\": true}"};
    for (size_t i = 0; i < 2; i++) {
        answer x = answer_to("/tokenize", bodies[i]);
        answer_begin(&x);
        api_reply_data(x.r, 0, SPARK_BYTES_LITERAL("\1\0\0\0\2\0h"), &x.out);
        assert_int_equal(api_reply_phase(x.r), API_WHOLE);
        assert_int_equal(api_reply_status(x.r), 500);
        answer_end(&x);
    }
}

static void test_replies_without_text_stay_valid(void **s)
{
    (void)s;
    static const char *const routes[][2] = {{CHAT, "{" HI "}"},
                                            {TEXT, "{" ONCE ", \"logprobs\": 0}"},
                                            {"/completion", "{" ONCE "}"},
                                            {"/api/chat", "{" HI ", \"stream\": false}"},
                                            {"/api/generate", "{" ONCE ", \"stream\": false}"},
                                            {"/tokenize", "{\"content\": \"\"}"},
                                            {"/detokenize", "{\"tokens\": []}"}};
    for (size_t i = 0; i < SPARK_COUNT(routes); i++) {
        answer x = answer_to(routes[i][0], routes[i][1]);
        answer_begin(&x);
        api_reply_finished(x.r, 0, &answer_finish, &x.out);
        json_decref(answer_json(&x));
        answer_end(&x);
    }
}

static void test_reply_that_grows_too_large_is_an_error(void **s)
{
    (void)s;
    answer x = answer_to(CHAT, "{" HI "}");
    answer_begin(&x);
    char *text = malloc(60000);
    assert_non_null(text);
    memset(text, 'x', 60000);
    spark_piece_message m = {.has_token = true, .text = {(const uint8_t *)text, 60000}};
    for (size_t i = 0; i < 600 && api_reply_phase(x.r) == API_WAITING; i++) api_reply_piece(x.r, 0, &m, &x.out);
    assert_int_equal(api_reply_phase(x.r), API_WHOLE);
    assert_int_equal(api_reply_status(x.r), 400);
    json_decref(answer_json(&x));
    free(text);
    answer_end(&x);
}

static void test_ping_begins_a_stream_of_events_only(void **s)
{
    (void)s;
    answer x = answer_to(CHAT, "{" HI ", \"stream\": true}");
    answer_begin(&x);
    api_reply_ping(x.r, &x.out);
    assert_int_equal(api_reply_phase(x.r), API_STREAMING);
    assert_memory_equal(x.out.ptr, ": ping\n\n", x.out.len);
    answer_end(&x);
    x = answer_to("/api/chat", "{" HI "}");
    answer_begin(&x);
    api_reply_ping(x.r, &x.out);
    assert_int_equal(x.out.len, 0);
    answer_end(&x);
}

/* ---- Cards ---- */

static const api_card test_card = {.name = "tiny",
                                   .arch = "llama",
                                   .quantization = "Q4_0",
                                   .chat_template = "{{ \"x\" }}",
                                   .n_params = 494032768,
                                   .file_bytes = 1000,
                                   .memory_bytes = 2000,
                                   .n_ctx = 4096,
                                   .n_ctx_train = 32768,
                                   .n_embd = 896,
                                   .n_vocab = 1000,
                                   .n_layers = 24,
                                   .n_slots = 4,
                                   .created_s = 1767225600,
                                   .loaded = true};

static json_t *printed(api_out *o)
{
    json_t *v = json_loadb((const char *)o->ptr, o->len, JSON_REJECT_DUPLICATES, NULL);
    if (!v) fail_msg("not JSON: %.*s", (int)o->len, (const char *)o->ptr);
    api_out_free(o);
    return v;
}

static void test_cards_in_each_form(void **s)
{
    (void)s;
    api_out o;
    api_out_init(&o, 1 << 20);
    const api_card cards[] = {test_card, test_card};
    api_print_models(&o, cards, 2);
    json_t *v = printed(&o);
    assert_string_equal(text_at(v, "data.1.id"), "tiny");
    assert_string_equal(text_at(v, "data.0.object"), "model");
    assert_int_equal(int_at(v, "data.0.meta.n_ctx"), 4096);
    json_decref(v);
    api_print_tags(&o, cards, 2);
    v = printed(&o);
    assert_string_equal(text_at(v, "models.0.details.parameter_size"), "494.03M");
    assert_int_equal(strlen(text_at(v, "models.0.digest")), 64);
    json_decref(v);
    api_print_ps(&o, cards, 1);
    v = printed(&o);
    assert_int_equal(int_at(v, "models.0.context_length"), 4096);
    json_decref(v);
    api_print_show(&o, &cards[0]);
    v = printed(&o);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(v, "model_info"), "llama.context_length")),
                     32768);
    json_decref(v);
    api_print_props(&o, &cards[0]);
    v = printed(&o);
    assert_int_equal(int_at(v, "default_generation_settings.params.top_k"), 40);
    assert_int_equal(int_at(v, "total_slots"), 4);
    json_decref(v);
    api_print_slots(&o, &cards[0], 1);
    v = printed(&o);
    assert_true(json_is_true(at_path(v, "0.is_processing")) && json_is_false(at_path(v, "3.is_processing")));
    json_decref(v);
    api_print_version(&o);
    json_decref(printed(&o));
    api_print_health(&o, false);
    v = printed(&o);
    assert_string_equal(text_at(v, "error.type"), "unavailable_error");
    json_decref(v);
}

static void test_a_model_that_was_never_loaded_is_shown_without_what_is_not_known(void **s)
{
    (void)s;
    const api_card bare = {.name = "later"};
    api_out o;
    api_out_init(&o, 1 << 16);
    void (*const one[])(api_out *, const api_card *) = {api_print_show, api_print_model, api_print_props};
    for (size_t i = 0; i < SPARK_COUNT(one); i++) {
        one[i](&o, &bare);
        json_decref(printed(&o));
    }
    api_print_tags(&o, &bare, 1);
    json_decref(printed(&o));
    api_print_show(&o, &bare);
    json_t *v = printed(&o);
    assert_int_equal(json_object_size(json_object_get(v, "model_info")), 1);
    json_decref(v);
}

static void test_names_match_with_latest(void **s)
{
    (void)s;
    assert_true(api_card_is(&test_card, spark_bytes_of("tiny")));
    assert_true(api_card_is(&test_card, spark_bytes_of("tiny:latest")));
    assert_false(api_card_is(&test_card, spark_bytes_of("tiny:7b")));
    assert_false(api_card_is(&test_card, spark_bytes_of("tin")));
    assert_false(api_card_is(&test_card, spark_bytes_of("")));
}

static void test_longer_context_than_planned_is_refused(void **s)
{
    (void)s;
    api_error e;
    world w = taken("/api/chat", "{" HI ", \"options\": {\"num_ctx\": 4097}}");
    assert_false(api_call_check(&w.call, &test_card, &e));
    assert_int_equal(e.status, 400);
    assert_string_equal(e.code, "context_length_exceeded");
    world_end(&w);
    w = taken("/api/chat", "{" HI ", \"options\": {\"num_ctx\": 4096}}");
    assert_true(api_call_check(&w.call, &test_card, &e));
    world_end(&w);
}

static void test_times_are_rfc_3339(void **s)
{
    (void)s;
    static const struct {
        uint64_t ns;
        const char *text;
    } rows[] = {{0, "\"1970-01-01T00:00:00.000000000Z\""},
                {951782400000000000, "\"2000-02-29T00:00:00.000000000Z\""},
                {4107542399999999999, "\"2100-02-28T23:59:59.999999999Z\""},
                {1709251199000000001, "\"2024-02-29T23:59:59.000000001Z\""}};
    for (size_t i = 0; i < SPARK_COUNT(rows); i++) {
        api_out o;
        api_out_init(&o, 100);
        api_out_time(&o, rows[i].ns);
        assert_int_equal(o.len, strlen(rows[i].text));
        assert_memory_equal(o.ptr, rows[i].text, o.len);
        api_out_free(&o);
    }
}

static void test_out_stops_at_its_maximum(void **s)
{
    (void)s;
    api_out o;
    api_out_init(&o, 300);
    for (size_t i = 0; i < 100; i++) api_out_str(&o, "four");
    assert_true(o.failed);
    assert_int_equal(o.len, 300);
    api_out_free(&o);
}

/* ---- Asks ---- */

static void test_ask_round_trip_keeps_everything(void **s)
{
    (void)s;
    world w = taken(
        CHAT,
        "{" HI
        ", \"seed\": 9, \"stop\": [\"a\", \"bc\"], \"logit_bias\": {\"5\": 1.5}, \"logprobs\": true, \"top_k\": 7}");
    spark_ask *a = &w.call.asks[0], b;
    a->tenant = UINT64_MAX - 1;
    a->priority = -5;
    a->deadline_ms = 77;
    const size_t n = spark_ask_size(a);
    uint8_t *bytes = malloc(n), *again = malloc(n);
    assert_true(bytes && again);
    assert_int_equal(spark_ask_encode(a, bytes), n);
    assert_ok(spark_ask_decode(&b, (spark_bytes){bytes, n}, w.a, NULL));
    assert_int_equal(b.priority, -5);
    assert_int_equal(b.tenant, UINT64_MAX - 1);
    assert_int_equal(b.generate.sampling.seed, 9);
    assert_int_equal(b.generate.sampling.top_k, 7);
    assert_string_equal(b.generate.stops[1], "bc");
    assert_true(b.generate.logit_bias[0].bias == 1.5f);
    assert_true(spark_bytes_equal(a->text, b.text));
    assert_int_equal(spark_ask_encode(&b, again), n);
    assert_memory_equal(bytes, again, n);
    for (size_t i = 0; i < n; i++) { /* every shorter one is refused */
        uint8_t *cut = malloc(i ? i : 1);
        assert_non_null(cut);
        memcpy(cut, bytes, i);
        assert_code(spark_ask_decode(&b, (spark_bytes){cut, i}, w.a, NULL), SPARK_E_FORMAT);
        free(cut);
    }
    free(bytes);
    free(again);
    world_end(&w);
}

static void test_ask_decode_refuses_counts_that_cannot_be(void **s)
{
    (void)s;
    spark_ask a, b;
    spark_arena *arena = NULL;
    spark_ask_defaults(&a);
    a.kind = SPARK_ASK_TEXT;
    a.text = SPARK_BYTES_LITERAL("x");
    uint8_t bytes[512];
    const size_t n = spark_ask_encode(&a, bytes), counts = n - 1 - 16;
    assert_ok(spark_arena_create(&arena, 1 << 20, NULL));
    for (size_t i = 0; i < 4; i++) {
        uint8_t bad[512];
        memcpy(bad, bytes, n);
        memset(bad + counts + 4 * i, 0xff, 4);
        assert_code(spark_ask_decode(&b, (spark_bytes){bad, n}, arena, NULL), SPARK_E_FORMAT);
    }
    bytes[1] = SPARK_ASK_N_KINDS;
    assert_code(spark_ask_decode(&b, (spark_bytes){bytes, n}, arena, NULL), SPARK_E_FORMAT);
    bytes[1] = SPARK_ASK_DETOKENIZE; /* which has no text */
    assert_code(spark_ask_decode(&b, (spark_bytes){bytes, n}, arena, NULL), SPARK_E_FORMAT);
    spark_arena_destroy(&arena);
}

static void test_ask_check_refuses_what_is_not_finite_or_too_long(void **s)
{
    (void)s;
    spark_ask a;
    spark_ask_defaults(&a);
    assert_ok(spark_ask_check(&a, NULL));
    a.generate.sampling.top_p = NAN;
    assert_code(spark_ask_check(&a, NULL), SPARK_E_ARGUMENT);
    spark_ask_defaults(&a);
    a.text.len = SPARK_MAX_ASK;
    a.text.ptr = calloc(1, SPARK_MAX_ASK);
    assert_non_null(a.text.ptr);
    assert_code(spark_ask_check(&a, NULL), SPARK_E_LIMIT);
    free((void *)(uintptr_t)a.text.ptr);
}

/* ---- docs/API.md ---- */

#define DOCS_BEGIN "<!-- tables: begin, made by `dialect_test --write-docs` -->\n"
#define DOCS_END   "<!-- tables: end -->\n"

static char *docs_path(void)
{
    static char path[4096];
    const char *root = getenv("SPARK_SOURCE");
    snprintf(path, sizeof path, "%s/docs/API.md", root ? root : ".");
    return path;
}

static void test_reference_is_what_the_tables_say(void **s)
{
    (void)s;
    size_t len = 0;
    api_out o;
    char *text = (char *)test_read(docs_path(), &len);
    api_out_init(&o, 1 << 20);
    api_print_reference(&o);
    const char *begin = strstr(text, DOCS_BEGIN), *end = strstr(text, DOCS_END);
    if (!begin || !end) fail_msg("docs/API.md has no tables");
    begin += strlen(DOCS_BEGIN);
    if ((size_t)(end - begin) != o.len || memcmp(begin, o.ptr, o.len) != 0)
        fail_msg("docs/API.md is not what the tables in src/serve say: run dialect_test --write-docs");
    api_out_free(&o);
    free(text);
}

static int docs_write(void)
{
    size_t len = 0;
    api_out o;
    char *text = (char *)test_read(docs_path(), &len);
    char *begin = strstr(text, DOCS_BEGIN), *end = strstr(text, DOCS_END);
    FILE *f = begin && end ? fopen(docs_path(), "wb") : NULL;
    if (!f) return 1;
    api_out_init(&o, 1 << 20);
    api_print_reference(&o);
    begin += strlen(DOCS_BEGIN);
    fwrite(text, 1, (size_t)(begin - text), f);
    fwrite(o.ptr, 1, o.len, f);
    fwrite(end, 1, strlen(end), f);
    api_out_free(&o);
    free(text);
    return fclose(f) != 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--write-docs") == 0) return docs_write();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_routes_find_each_row_and_nothing_else),
        cmocka_unit_test(test_routes_tell_what_a_path_allows),
        cmocka_unit_test(test_routes_without_key_are_health_and_root_only),
        cmocka_unit_test(test_errors_have_the_form_of_each_dialect),
        cmocka_unit_test(test_engine_errors_map_to_statuses),
        cmocka_unit_test(test_a_model_that_cannot_chat_says_what_to_ask_instead),
        cmocka_unit_test(test_a_time_is_whole_milliseconds_and_nothing_else),
        cmocka_unit_test(test_chat_defaults_are_openais),
        cmocka_unit_test(test_chat_takes_all_that_openai_clients_send),
        cmocka_unit_test(test_chat_messages_reach_the_template_in_one_form),
        cmocka_unit_test(test_chat_refuses_by_name),
        cmocka_unit_test(test_hostile_json_is_refused),
        cmocka_unit_test(test_numbers_at_the_edge_are_ranged),
        cmocka_unit_test(test_deep_json_costs_nothing),
        cmocka_unit_test(test_many_values_are_refused_before_they_take_memory),
        cmocka_unit_test(test_content_types),
        cmocka_unit_test(test_completions_take_each_form_of_prompt),
        cmocka_unit_test(test_completions_refuse_by_name),
        cmocka_unit_test(test_seeds_of_the_system_go_only_where_none_was_asked),
        cmocka_unit_test(test_ollama_chat_defaults_and_options),
        cmocka_unit_test(test_ollama_keep_alive_reads_go_durations),
        cmocka_unit_test(test_ollama_generate_makes_a_turn_or_takes_it_raw),
        cmocka_unit_test(test_show_takes_the_old_name),
        cmocka_unit_test(test_completion_defaults_are_llamacpps),
        cmocka_unit_test(test_tokenize_detokenize_and_template),
        cmocka_unit_test(test_every_field_behaves_as_its_class),
        cmocka_unit_test(test_parsing_without_memory_is_an_error_and_leaks_nothing),
        cmocka_unit_test(test_a_small_arena_is_an_error),
        cmocka_unit_test(test_shared_requests_are_taken_or_refused_as_they_say),
        cmocka_unit_test(test_chat_reply_has_what_the_contract_requires),
        cmocka_unit_test(test_chat_stream_begins_with_the_role_and_ends_with_done),
        cmocka_unit_test(test_chat_stream_waits_for_its_first_event),
        cmocka_unit_test(test_error_in_mid_stream_is_its_last_event),
        cmocka_unit_test(test_stream_of_many_choices_keeps_them_apart),
        cmocka_unit_test(test_text_reply_has_the_old_logprobs),
        cmocka_unit_test(test_obfuscated_chunks_have_like_lengths),
        cmocka_unit_test(test_ollama_replies_as_lines_or_one),
        cmocka_unit_test(test_ollama_generate_gives_its_context),
        cmocka_unit_test(test_ollama_load_and_unload_answer_at_once),
        cmocka_unit_test(test_llama_reply_tells_why_it_stopped),
        cmocka_unit_test(test_data_becomes_tokens_or_text),
        cmocka_unit_test(test_malformed_data_of_an_engine_is_an_error),
        cmocka_unit_test(test_replies_without_text_stay_valid),
        cmocka_unit_test(test_reply_that_grows_too_large_is_an_error),
        cmocka_unit_test(test_ping_begins_a_stream_of_events_only),
        cmocka_unit_test(test_cards_in_each_form),
        cmocka_unit_test(test_a_model_that_was_never_loaded_is_shown_without_what_is_not_known),
        cmocka_unit_test(test_names_match_with_latest),
        cmocka_unit_test(test_longer_context_than_planned_is_refused),
        cmocka_unit_test(test_times_are_rfc_3339),
        cmocka_unit_test(test_out_stops_at_its_maximum),
        cmocka_unit_test(test_ask_round_trip_keeps_everything),
        cmocka_unit_test(test_ask_decode_refuses_counts_that_cannot_be),
        cmocka_unit_test(test_ask_check_refuses_what_is_not_finite_or_too_long),
        cmocka_unit_test(test_reference_is_what_the_tables_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
