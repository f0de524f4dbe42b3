/* dialect_test.c - what holds for all dialects: routes, errors, hostile bodies, no memory, the shared requests, replies.
 * The tables of fields and parameters: api_tables_test.c. */
#include "serve/dialect_test.h"

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

static void test_what_is_not_there_names_the_routes_that_may_have_been_meant(void **s)
{
    (void)s;
    static const struct {
        const char *path;
        api_dialect dialect;
        const char *names;
    } rows[] = {{"/v1", API_OPENAI, "/v1/chat/completions"},
                {"/v1/", API_OPENAI, "/v1/chat/completions"},
                {"/v1/v1/models", API_OPENAI, "GET /v1/models"},
                {"/api", API_OLLAMA, "/api/chat"},
                {"/api/v1/chat", API_OLLAMA, "/api/chat"},
                {"/v1/messages", API_OPENAI, "POST /v1/chat/completions"},
                {"/lora-adapters", API_LLAMA, "llama-server's are POST /completion"},
                {"/models/load", API_LLAMA, "Ollama's with /api"},
                {"/reranking", API_LLAMA, "OpenAI's routes begin with /v1"},
                {"/v10", API_LLAMA, "--page"},
                {"/index.html", API_LLAMA, "--page"}};
    for (size_t i = 0; i < SPARK_COUNT(rows); i++) {
        char path[1024];
        for (int length = 0; length < 2; length++) { /* a path without end takes no room from the advice */
            snprintf(path, sizeof path, "%s%0*d", rows[i].path, length ? 900 : 0, 0);
            path[length ? 900 : strlen(rows[i].path)] = 0;
            const api_match m = api_route_find("GET", spark_bytes_of(path));
            api_error e;
            api_error_match(&e, &m, "GET", spark_bytes_of(path));
            assert_int_equal(e.status, 404);
            if (!length) assert_int_equal(m.dialect, rows[i].dialect);
            if (!length) assert_non_null(strstr(e.message, rows[i].names));
            assert_non_null(strstr(e.message, "docs/API.md lists all routes"));
        }
    }
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

static void test_a_prompt_that_is_too_long_names_the_field_that_it_came_in(void **s)
{
    (void)s;
    static const struct {
        const char *path, *body, *param;
    } rows[] = {{CHAT, "{" HI "}", "messages"},
                {"/v1/completions", "{\"model\": \"m\", \"prompt\": \"x\"}", "prompt"},
                {"/v1/completions", "{\"model\": \"m\", \"prompt\": [1, 2]}", "prompt"}};
    const spark_err why = {.code = SPARK_E_CONTEXT, .text = "why"};
    for (size_t i = 0; i < SPARK_COUNT(rows); i++) {
        world w = taken(rows[i].path, rows[i].body);
        api_error e;
        api_error_from(&e, &why, 0);
        api_error_advise(&e, &w.call);
        assert_string_equal(e.param, rows[i].param);
        assert_string_equal(e.message, "why");
        world_end(&w);
    }
}

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

static void answer_held(answer *x, held_share *share)
{
    api_out_init_held(&x->out, 1 << 20, share);
    answer_begin(x);
    answer_run(x);
}

static void test_replies_gathered_in_a_share_are_the_same_and_give_back_all_of_it(void **s)
{
    (void)s;
    static const char *const routes[][2] = {{CHAT, "{" HI "}"},
                                            {CHAT, "{" HI ", \"n\": 3, \"logprobs\": true, \"top_logprobs\": 2}"},
                                            {TEXT, "{" ONCE ", \"n\": 2, \"logprobs\": 3}"},
                                            {"/completion", "{" ONCE ", \"n_probs\": 3}"},
                                            {"/api/chat", "{" HI ", \"stream\": false, \"logprobs\": true}"},
                                            {"/api/generate", "{" ONCE ", \"stream\": false}"}};
    for (size_t i = 0; i < SPARK_COUNT(routes); i++) {
        held_sum sum = {.max = 1 << 20};
        held_share share = {.sum = &sum};
        answer a = answer_all(routes[i][0], routes[i][1]), b = answer_to(routes[i][0], routes[i][1]);
        answer_held(&b, &share);
        assert_int_equal(b.out.len, a.out.len);
        size_t at = 0;
        for (const held_block *k = b.out.blocks.first; k; k = k->next) {
            assert_memory_equal(k->bytes + k->at, a.out.ptr + at, k->len - k->at);
            at += k->len - k->at;
        }
        assert_int_equal(at, a.out.len);
        assert_true(share.used >= a.out.len);
        answer_end(&a);
        answer_end(&b);
        assert_int_equal(sum.used, 0);
    }
}

/* The sum is short when the reply is gathered, or only when it is put together; alone, or since others hold the most of it. */
static void test_a_reply_that_does_not_fit_the_sum_is_an_error_of_its_own(void **s)
{
    (void)s;
    int n_whole = 0, n_later = 0, n_never = 0;
    for (uint64_t max = 1024; max < 32 << 10; max += 256) {
        const uint64_t others = max % 512 ? 100 : 0;
        held_sum sum = {.used = others, .max = max};
        held_share share = {.sum = &sum};
        answer x = answer_to(TEXT, "{" ONCE ", \"n\": 2, \"logprobs\": 3}");
        answer_held(&x, &share);
        assert_int_equal(api_reply_phase(x.r), API_WHOLE);
        assert_true(sum.used <= max);
        const api_error *e = api_reply_error(x.r);
        n_whole += !e;
        n_later += e && e->status == 503;
        n_never += e && e->status == 400;
        if (e) assert_string_equal(e->code, others ? "overloaded" : "reply_too_large");
        answer_end(&x);
        assert_int_equal(sum.used, others);
    }
    assert_true(n_whole > 0 && n_later > 0 && n_never > 0);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_routes_find_each_row_and_nothing_else),
        cmocka_unit_test(test_routes_tell_what_a_path_allows),
        cmocka_unit_test(test_what_is_not_there_names_the_routes_that_may_have_been_meant),
        cmocka_unit_test(test_routes_without_key_are_health_and_root_only),
        cmocka_unit_test(test_errors_have_the_form_of_each_dialect),
        cmocka_unit_test(test_engine_errors_map_to_statuses),
        cmocka_unit_test(test_a_prompt_that_is_too_long_names_the_field_that_it_came_in),
        cmocka_unit_test(test_a_model_that_cannot_chat_says_what_to_ask_instead),
        cmocka_unit_test(test_a_time_is_whole_milliseconds_and_nothing_else),
        cmocka_unit_test(test_hostile_json_is_refused),
        cmocka_unit_test(test_numbers_at_the_edge_are_ranged),
        cmocka_unit_test(test_deep_json_costs_nothing),
        cmocka_unit_test(test_many_values_are_refused_before_they_take_memory),
        cmocka_unit_test(test_content_types),
        cmocka_unit_test(test_parsing_without_memory_is_an_error_and_leaks_nothing),
        cmocka_unit_test(test_a_small_arena_is_an_error),
        cmocka_unit_test(test_shared_requests_are_taken_or_refused_as_they_say),
        cmocka_unit_test(test_error_in_mid_stream_is_its_last_event),
        cmocka_unit_test(test_replies_without_text_stay_valid),
        cmocka_unit_test(test_replies_gathered_in_a_share_are_the_same_and_give_back_all_of_it),
        cmocka_unit_test(test_a_reply_that_does_not_fit_the_sum_is_an_error_of_its_own),
        cmocka_unit_test(test_reply_that_grows_too_large_is_an_error),
        cmocka_unit_test(test_ping_begins_a_stream_of_events_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
