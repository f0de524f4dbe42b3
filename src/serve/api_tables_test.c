/* api_tables_test.c - every field of every table and every parameter of the query behaves as its row says, and docs/API.md holds
 * what the tables say. `api_tables_test --write-docs` writes them there anew. */
#include "serve/dialect_test.h"

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

/* ---- docs/API.md ---- */

#define DOCS_BEGIN "<!-- tables: begin, made by `api_tables_test --write-docs` -->\n"
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
        fail_msg("docs/API.md is not what the tables in src/serve say: run api_tables_test --write-docs");
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
        cmocka_unit_test(test_every_field_behaves_as_its_class),
        cmocka_unit_test(test_every_query_parameter_behaves_as_its_class),
        cmocka_unit_test(test_query_parameters_that_are_honoured_say_what_is_asked),
        cmocka_unit_test(test_what_is_honoured_changes_what_is_asked_and_nothing_else_does),
        cmocka_unit_test(test_each_number_of_sampling_goes_where_its_name_says),
        cmocka_unit_test(test_reference_is_what_the_tables_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
