/* dialect_test.c - what holds for all dialects: routes, errors, hostile bodies, every field of every table, and docs/API.md beside
 * the tables it is made from. `dialect_test --write-docs` writes those tables anew. */
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
    {"`/api/chat` and `/api/generate`", "/api/chat", "{" HI ", \"logprobs\": true}", ""},
    {"`/api/chat` and `/api/generate`", "/api/generate", "{" ONCE ", \"logprobs\": true}", ""},
    {"`/api/chat`", "/api/chat", "{" HI "}", ""},
    {"`/api/generate`", "/api/generate", "{" ONCE "}", ""},
    {"Ollama's `options`", "/api/generate", "{" ONCE ", \"options\": {}}", "options"},
    {"`/api/show`", "/api/show", "{\"model\": \"m\"}", ""},
    {"`/completion`", "/completion", "{" ONCE "}", ""},
    {"`/tokenize`", "/tokenize", "{\"content\": \"x\"}", ""},
    {"`/detokenize`", "/detokenize", "{\"tokens\": [1]}", ""},
};

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

/* ---- Every parameter of the query ---- */

/* The code of the refusal of one parameter, or "taken". */
static const char *query_outcome(api_query *q, const api_route *r, const char *name, const char *value)
{
    static api_error e;
    *q = (api_query){0};
    if (api_query_take(q, r, spark_bytes_of(name), spark_bytes_of(value), &e)) return "taken";
    assert_int_equal(e.status, 400);
    assert_string_equal(e.param, name);
    assert_non_null(strstr(e.message, name));
    return e.code;
}

static void query_expect(const api_route *r, const char *name, const char *value, const char *code)
{
    api_query q;
    const char *got = query_outcome(&q, r, name, value);
    if (strcmp(got, code) != 0) fail_msg("%s %s?%s=%s: %s, not %s", r->method, r->path, name, value, got, code);
}

/* Routes that pass over what stands there: the page, and those that refuse whatever is asked. */
static bool query_is_not_read(const api_route *r)
{
    return r->handler == API_ROOT || r->handler == API_FORBIDDEN || r->handler == API_LATER;
}

/* Routes on which a probe may add what it likes. */
static bool query_is_of_health(const api_route *r) { return strstr(r->path, "/health") != NULL; }

static void query_try(const api_route *r, const api_parameter *p)
{
    static const char *const nothing[] = {
        [API_UNLESS_OFF] = "0", [API_UNLESS_AS_IT_IS] = NULL, [API_UNLESS_THIS_FORM] = "prometheus"};
    const bool loads = r->handler >= API_CHAT;
    switch (p->cls) {
    case API_HONOURED: query_expect(r, p->name, "", "invalid_value"); break;
    case API_NEUTRAL:
        query_expect(r, p->name, "", "taken");
        query_expect(r, p->name, "2024-10-21", "taken");
        break;
    case API_REFUSED:
        query_expect(r, p->name, "x", "unsupported_parameter");
        query_expect(r, p->name, "", "unsupported_parameter");
        query_expect(r, p->name, "1", p->unless == API_UNLESS_AS_IT_IS && loads ? "taken" : "unsupported_parameter");
        query_expect(r, p->name, "false",
                     p->unless == API_UNLESS_OFF || (p->unless == API_UNLESS_AS_IT_IS && !loads)
                         ? "taken"
                         : "unsupported_parameter");
        if (p->unless && nothing[p->unless]) query_expect(r, p->name, nothing[p->unless], "taken");
        break;
    }
}

static void test_every_query_parameter_behaves_as_its_class(void **s)
{
    (void)s;
    for (size_t i = 0; i < api_n_routes; i++) {
        const api_route *r = &api_routes[i];
        const bool any = query_is_not_read(r) || query_is_of_health(r);
        query_expect(r, "nonesuch", "1", any ? "taken" : "unknown_parameter");
        query_expect(r, "key", "sk-x", query_is_not_read(r) ? "taken" : "unsupported_parameter");
        for (size_t k = 0; k < api_n_parameters; k++) {
            const api_parameter *p = &api_parameters[k];
            size_t n_rows = 0; /* of this name on this route */
            if (!p->name) continue;
            for (size_t m = 0; m < api_n_parameters; m++)
                n_rows += api_parameters[m].name && strcmp(api_parameters[m].name, p->name) == 0 &&
                          api_parameters[m].handlers >> r->handler & 1;
            assert_true(n_rows <= 1);
            if (p->handlers >> r->handler & 1)
                query_try(r, p);
            else if (n_rows == 0)
                query_expect(r, p->name, "1", any ? "taken" : "unknown_parameter");
        }
    }
}

static void test_query_parameters_that_are_honoured_say_what_is_asked(void **s)
{
    (void)s;
    const api_route *slots = api_route_find("GET", spark_bytes_of("/slots")).route,
                    *props = api_route_find("GET", spark_bytes_of("/props")).route;
    static const struct {
        const char *value, *code;
        bool on;
    } rows[] = {{"1", "taken", true},           {"true", "taken", true},          {"0", "taken", false},
                {"false", "taken", false},      {"", "invalid_value", false},     {"yes", "invalid_value", false},
                {"11", "invalid_value", false}, {"TRUE", "invalid_value", false}, {" 1", "invalid_value", false}};
    api_query q;
    char name[SPARK_MAX_MODEL_NAME + 2];
    for (size_t i = 0; i < SPARK_COUNT(rows); i++) {
        assert_string_equal(query_outcome(&q, slots, "fail_on_no_slot", rows[i].value), rows[i].code);
        assert_int_equal(q.fail_on_no_slot, rows[i].on);
    }
    query_expect(props, "fail_on_no_slot", "1", "unknown_parameter");
    assert_string_equal(query_outcome(&q, props, "model", "a b"), "taken");
    assert_true(spark_bytes_is(q.model, "a b"));
    memset(name, 'x', sizeof name);
    name[SPARK_MAX_MODEL_NAME + 1] = 0;
    query_expect(slots, "model", name, "invalid_value");
    name[SPARK_MAX_MODEL_NAME] = 0;
    query_expect(slots, "model", name, "taken");
}

/* All of a call that an engine or a reply sees. */
static json_t *call_seen(const api_call *c)
{
    json_t *all = json_pack("[s%, i, i, i, I, b, b, b, b, b, b, b, i]", c->model.len ? (const char *)c->model.ptr : "",
                            c->model.len, (int)c->n_asks, (int)c->n_each, (int)c->load, (json_int_t)c->keep_alive_ms,
                            c->stream, c->include_usage, c->include_obfuscation, c->logprobs, c->return_tokens,
                            c->context, c->pieces, (int)c->n_top);
    assert_non_null(all);
    for (uint32_t i = 0; i < c->n_asks; i++) {
        const size_t n = spark_ask_size(&c->asks[i]);
        uint8_t *bytes = malloc(n);
        assert_non_null(bytes);
        spark_ask_encode(&c->asks[i], bytes);
        for (size_t k = 0; k < n; k++) json_array_append_new(all, json_integer(bytes[k]));
        free(bytes);
    }
    return all;
}

/* The same of a body with this field set so; NULL: it is refused. name NULL: the body as it is. */
static json_t *field_seen(const field_place *p, const char *name, const char *value)
{
    json_t *body = json_loads(p->body, 0, NULL);
    if (name) json_object_set_new(at_path(body, p->where), name, json_loads(value, JSON_DECODE_ANY, NULL));
    char *text = json_dumps(body, 0);
    world w = parse(p->path, text);
    json_t *seen = w.ok ? call_seen(&w.call) : NULL;
    world_end(&w);
    free(text);
    json_decref(body);
    return seen;
}

/* Whether some value of it changes what is asked. */
static bool field_matters(const field_place *p, const char *name)
{
    static const char *const values[] = {"true",
                                         "false",
                                         "3",
                                         "0.5",
                                         "1.5",
                                         "\"other\"",
                                         "\"system\"",
                                         "\"5m\"",
                                         "[\"x\"]",
                                         "[2, 3]",
                                         "{\"3\": 5}",
                                         "{\"top_k\": 3}",
                                         "{\"include_usage\": true}",
                                         "[{\"role\": \"user\", \"content\": \"other\"}]"};
    json_t *plain = field_seen(p, NULL, NULL);
    bool matters = false;
    assert_non_null(plain);
    for (size_t i = 0; i < SPARK_COUNT(values) && !matters; i++) {
        json_t *seen = field_seen(p, name, values[i]);
        matters = seen && !json_equal(plain, seen);
        json_decref(seen);
    }
    json_decref(plain);
    return matters;
}

/* Of these only what is done anyway is taken. */
static bool field_is_fixed(const char *name)
{
    static const char *const fixed[] = {
        "modalities", "verbosity", "response_format", "best_of", "samplers", "dry_sequence_breakers", "verbose"};
    for (size_t i = 0; i < SPARK_COUNT(fixed); i++)
        if (strcmp(name, fixed[i]) == 0) return true;
    return false;
}

static void fields_matter(const field_place *p, const api_fields *const *tables, size_t n)
{
    for (size_t t = 0; t < n; t++)
        for (size_t k = 0; strcmp(p->title, tables[t]->title) == 0 && k < tables[t]->n; k++) {
            const api_field *f = &tables[t]->rows[k];
            const bool beside_model = strcmp(p->path, "/api/show") == 0 &&
                                      strcmp(f->name, "name") == 0; /* its old name */
            const bool honoured = f->cls == API_HONOURED && !field_is_fixed(f->name) && !beside_model;
            if (field_matters(p, f->name) != honoured)
                fail_msg("%s %s: '%s' is %shonoured, and that does not show", p->path, p->where, f->name,
                         honoured ? "" : "not ");
        }
}

static void test_what_is_honoured_changes_what_is_asked_and_nothing_else_does(void **s)
{
    (void)s;
    for (size_t i = 0; i < SPARK_COUNT(field_places); i++) {
        fields_matter(&field_places[i], api_openai_tables, api_n_openai_tables);
        fields_matter(&field_places[i], api_ollama_tables, api_n_ollama_tables);
        fields_matter(&field_places[i], api_llama_tables, api_n_llama_tables);
    }
}

/* By hand, beside the tables: where a number of this name belongs, and a value of it that is nobody's default. */
typedef struct number_place {
    const char *name, *text;
    size_t at;
    float real; /* or, where it is 0, a count */
    uint32_t count;
} number_place;

#define REAL(name, member)                                                                                             \
    {                                                                                                                  \
        name, "0.625", offsetof(spark_sampling, member), 0.625f, 0                                                     \
    }
#define COUNT(name, member)                                                                                            \
    {                                                                                                                  \
        name, "7", offsetof(spark_sampling, member), 0, 7                                                              \
    }
static const number_place number_places[] = {
    REAL("temperature", temperature),
    REAL("dynatemp_range", dynatemp_range),
    REAL("dynatemp_exponent", dynatemp_exponent),
    REAL("top_p", top_p),
    REAL("min_p", min_p),
    REAL("typical_p", typical_p),
    REAL("top_n_sigma", top_n_sigma),
    REAL("xtc_probability", xtc_probability),
    REAL("xtc_threshold", xtc_threshold),
    REAL("repeat_penalty", repeat_penalty),
    REAL("repetition_penalty", repeat_penalty),
    REAL("frequency_penalty", frequency_penalty),
    REAL("presence_penalty", presence_penalty),
    REAL("dry_multiplier", dry_multiplier),
    {"dry_base", "1.625", offsetof(spark_sampling, dry_base), 1.625f, 0},
    COUNT("top_k", top_k),
    COUNT("min_keep", min_keep),
    COUNT("repeat_last_n", penalty_last_n),
    COUNT("dry_allowed_length", dry_allowed_length),
    COUNT("dry_penalty_last_n", dry_last_n),
};
#undef REAL
#undef COUNT

typedef struct number_route {
    const char *path, *before, *after; /* of the field in a body */
    size_t n_known;
} number_route;

/* Whether the route knows it; then its value stands where its name says, and everything else is as without it. */
static bool number_goes(const number_route *r, const number_place *p)
{
    char body[256];
    snprintf(body, sizeof body, "%s, \"%s\": null%s", r->before, p->name, r->after);
    world plain = parse(r->path, body);
    const bool known = plain.ok;
    if (known) {
        spark_sampling want = plain.call.asks[0].generate.sampling;
        memcpy((uint8_t *)&want + p->at, p->real > 0 ? (const void *)&p->real : (const void *)&p->count, 4);
        snprintf(body, sizeof body, "%s, \"%s\": %s%s", r->before, p->name, p->text, r->after);
        world w = taken(r->path, body);
        if (memcmp(&want, &w.call.asks[0].generate.sampling, sizeof want) != 0)
            fail_msg("%s: '%s' is not where it belongs, or not alone", r->path, p->name);
        world_end(&w);
    }
    world_end(&plain);
    return known;
}

static void test_each_number_of_sampling_goes_where_its_name_says(void **s)
{
    (void)s;
    enum { ALL = SPARK_COUNT(number_places) };
    static const number_route routes[] = {{CHAT, "{" HI ", \"seed\": 1", "}", ALL},
                                          {TEXT, "{" ONCE ", \"seed\": 1", "}", ALL},
                                          {"/completion", "{" ONCE ", \"seed\": 1", "}", ALL},
                                          {"/api/generate", "{" ONCE ", \"options\": {\"seed\": 1", "}}", 9}};
    for (size_t r = 0; r < SPARK_COUNT(routes); r++) {
        size_t n = 0;
        for (size_t i = 0; i < SPARK_COUNT(number_places); i++) n += number_goes(&routes[r], &number_places[i]);
        assert_int_equal(n, routes[r].n_known);
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
        cmocka_unit_test(test_every_field_behaves_as_its_class),
        cmocka_unit_test(test_every_query_parameter_behaves_as_its_class),
        cmocka_unit_test(test_query_parameters_that_are_honoured_say_what_is_asked),
        cmocka_unit_test(test_what_is_honoured_changes_what_is_asked_and_nothing_else_does),
        cmocka_unit_test(test_each_number_of_sampling_goes_where_its_name_says),
        cmocka_unit_test(test_parsing_without_memory_is_an_error_and_leaks_nothing),
        cmocka_unit_test(test_a_small_arena_is_an_error),
        cmocka_unit_test(test_shared_requests_are_taken_or_refused_as_they_say),
        cmocka_unit_test(test_error_in_mid_stream_is_its_last_event),
        cmocka_unit_test(test_replies_without_text_stay_valid),
        cmocka_unit_test(test_reply_that_grows_too_large_is_an_error),
        cmocka_unit_test(test_ping_begins_a_stream_of_events_only),
        cmocka_unit_test(test_reference_is_what_the_tables_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
