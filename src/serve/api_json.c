/* api_json.c - bodies into values: what is checked before the JSON parser runs, and the readers that tables of fields use. */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/utf8.h"
#include "serve/api_internal.h"

bool api_bad(api_reader *r, const char *code, const char *field, const char *fmt, ...)
{
    char text[512], param[64];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    snprintf(param, sizeof param, "%.20s%.40s", field ? r->where : "", field ? field : "");
    const size_t n = strlen(param);
    if (n && param[n - 1] == '.') param[n - 1] = 0; /* the object itself */
    api_error_set(r->error, 400, code, param, "%s", text);
    return false;
}

bool api_no_memory(api_reader *r)
{
    api_error_set(r->error, 503, "out_of_memory", NULL, "no memory for this request");
    r->error->retry_ms = 1000;
    return false;
}

/* ---- Before parsing ---- */

/* What jansson takes for a value (measured with glibc's malloc): with it the memory of a body is known before it is parsed. */
enum { JSON_COST_CONTAINER = 360, JSON_COST_STRING = 112, JSON_COST_SCALAR = 40 };

typedef struct json_shape {
    size_t depth, deepest, containers, strings, commas;
} json_shape;

/* Counts structure outside of strings; whether it is JSON at all is the parser's business. */
static json_shape json_measure(spark_bytes b)
{
    json_shape s = {0};
    bool in_string = false;
    for (size_t i = 0; i < b.len; i++) {
        const uint8_t c = b.ptr[i];
        if (in_string) {
            if (c == '\\') i++;
            in_string = c != '"';
            continue;
        }
        in_string = c == '"';
        s.strings += c == '"';
        s.commas += c == ',';
        s.containers += c == '{' || c == '[';
        if (c == '{' || c == '[') s.depth++;
        if ((c == '}' || c == ']') && s.depth) s.depth--;
        if (s.depth > s.deepest) s.deepest = s.depth;
    }
    return s;
}

static uint64_t json_cost(json_shape s, size_t len)
{
    return (uint64_t)s.containers * JSON_COST_CONTAINER + (uint64_t)s.strings * JSON_COST_STRING +
           (uint64_t)s.commas * JSON_COST_SCALAR + len;
}

uint64_t api_parse_bytes(spark_bytes body)
{
    const uint64_t cost = json_cost(json_measure(body), body.len);
    return cost < SPARK_MAX_JSON_MEMORY ? cost : SPARK_MAX_JSON_MEMORY; /* what takes more is refused */
}

spark_status api_json_check(spark_bytes b, spark_err *err)
{
    const json_shape s = json_measure(b);
    const uint64_t cost = json_cost(s, b.len);
    SPARK_CHECK(s.deepest <= SPARK_MAX_JSON_DEPTH, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "the JSON is nested %zu deep: at most %u are allowed", s.deepest, SPARK_MAX_JSON_DEPTH);
    SPARK_CHECK(cost <= SPARK_MAX_JSON_MEMORY, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "the JSON holds too many values: %zu lists and objects, %zu texts, %zu commas", s.containers, s.strings,
                s.commas);
    return SPARK_SUCCESS;
}

static bool json_is_bounded(api_reader *r, spark_bytes b)
{
    spark_err err = {0};
    return spark_ok(api_json_check(b, &err)) || api_bad(r, "invalid_json", NULL, "%s", err.text);
}

/* The type of a body: JSON, or nothing said. curl -d says "form" unless told otherwise, and the examples of Ollama and
 * llama-server leave it so; a browser's page can send that without asking, which is why keys or Origin are checked before. */
static bool json_media(api_reader *r, spark_bytes type)
{
    static const char *const taken[] = {"application/json", "application/x-www-form-urlencoded"};
    size_t n = 0;
    if (!type.ptr) return true;
    while (n < type.len && type.ptr[n] != ';' && type.ptr[n] != ' ' && type.ptr[n] != '\t') n++;
    const size_t n_taken = r->call->route->dialect == API_OPENAI ? 1 : 2;
    for (size_t i = 0; i < n_taken; i++)
        if (n == strlen(taken[i]) && strncasecmp((const char *)type.ptr, taken[i], n) == 0) return true;
    api_error_set(r->error, 415, "unsupported_media_type", NULL,
                  "Content-Type is '%.*s': this route takes application/json", (int)(type.len < 80 ? type.len : 80),
                  (const char *)type.ptr);
    return false;
}

static json_t *json_load_body(api_reader *r, spark_bytes b)
{
    json_error_t why;
    const size_t valid = spark_utf8_valid_prefix(b.ptr, b.len, SIZE_MAX);
    if (valid != b.len) {
        api_bad(r, "invalid_json", NULL, "the body is not valid UTF-8 at byte %zu", valid);
        return NULL;
    }
    if (!json_is_bounded(r, b)) return NULL;
    json_t *v = json_loadb((const char *)b.ptr, b.len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    if (!v && json_error_code(&why) == json_error_out_of_memory) {
        api_no_memory(r);
    } else if (!v) {
        api_bad(r, "invalid_json", NULL, "the body is not JSON: %s (line %d, column %d)",
                b.len ? why.text : "it is empty", why.line, why.column);
    } else if (!json_is_object(v)) {
        api_bad(r, "invalid_json", NULL, "the body must be a JSON object");
        json_decref(v);
        v = NULL;
    }
    return v;
}

/* ---- Tables ---- */

static unsigned json_kind(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_STRING: return API_TEXT;
    case JSON_INTEGER:
    case JSON_REAL: return API_NUMBER;
    case JSON_TRUE:
    case JSON_FALSE: return API_BOOL;
    case JSON_ARRAY: return API_LIST;
    case JSON_OBJECT: return API_OBJECT;
    case JSON_NULL: break;
    }
    return 0;
}

static void json_kind_words(char *out, size_t room, unsigned kinds)
{
    static const char *const words[] = {"text", "a number", "true or false", "a list", "an object"};
    size_t n = 0;
    out[0] = 0;
    for (unsigned i = 0; i < SPARK_COUNT(words); i++)
        if (kinds >> i & 1) n += (size_t)snprintf(out + n, room - n, "%s%s", n ? " or " : "", words[i]);
}

static bool field_asks_nothing(const api_field *f, const json_t *v)
{
    const unsigned if_ = f->neutral;
    const double x = json_is_number(v) ? json_number_value(v) : NAN;
    const char *s = json_is_string(v) ? json_string_value(v) : NULL;
    const bool empty = (s && json_string_length(v) == 0) || (json_is_array(v) && json_array_size(v) == 0) ||
                       (json_is_object(v) && json_object_size(v) == 0);
    return (if_ & API_IF_FALSE && json_is_false(v)) || (if_ & API_IF_TRUE && json_is_true(v)) ||
           (if_ & API_IF_EMPTY && empty) || (if_ & API_IF_ZERO && x == 0) || (if_ & API_IF_ONE && x == 1) ||
           (if_ & API_IF_MINUS_ONE && x == -1) || (if_ & API_IF_NONE && s && strcmp(s, "none") == 0) ||
           (if_ & API_IF_AUTO && s && (strcmp(s, "auto") == 0 || strcmp(s, "default") == 0));
}

static bool field_read(api_reader *r, const api_field *f, json_t *v)
{
    if (json_is_null(v)) return true; /* in all three dialects the same as leaving it out */
    if (f->cls == API_REFUSED)
        return field_asks_nothing(f, v) ||
               api_bad(r, "unsupported_parameter", f->name, "'%s%s' is refused: %s", r->where, f->name, f->note);
    if ((json_kind(v) & f->kinds) == 0) {
        char words[80];
        json_kind_words(words, sizeof words, f->kinds);
        return api_bad(r, "invalid_type", f->name, "'%s%s' must be %s", r->where, f->name, words);
    }
    return f->cls == API_NEUTRAL || f->read(r, f, v);
}

static const api_field *field_find(const api_fields *const *sets, size_t n_sets, const char *name)
{
    for (size_t s = 0; s < n_sets; s++)
        for (size_t i = 0; i < sets[s]->n; i++)
            if (strcmp(sets[s]->rows[i].name, name) == 0) return &sets[s]->rows[i];
    return NULL;
}

bool api_read_object(api_reader *r, json_t *object, const api_fields *const *sets, size_t n_sets)
{
    const char *key;
    json_t *v;
    json_object_foreach(object, key, v)
    {
        const api_field *f = field_find(sets, n_sets, key);
        if (!f)
            return api_bad(r, "unknown_parameter", key, "Unrecognized request argument supplied: '%s%.100s'", r->where,
                           key);
        if (!field_read(r, f, v)) return false;
    }
    return true;
}

/* ---- Readers ---- */

#define FIELD_IN(type, r, f) ((type *)(void *)((char *)(r) + (f)->at)) /* at is offsetof a member of that type */

bool api_read_float(api_reader *r, const api_field *f, json_t *v)
{
    const double x = json_number_value(v);
    if (!(x >= f->lo && x <= f->hi))
        return api_bad(r, "invalid_value", f->name, "'%s%s' is %g: %g to %g is allowed", r->where, f->name, x, f->lo,
                       f->hi);
    *FIELD_IN(float, r, f) = (float)x;
    return true;
}

bool api_integer(api_reader *r, const char *field, const json_t *v, int64_t lo, int64_t hi, int64_t *out)
{
    int64_t n = 0;
    if (json_is_integer(v)) {
        n = json_integer_value(v);
    } else {
        const double x = json_real_value(v);
        if (!json_is_real(v) || !(x >= -9007199254740992.0 && x <= 9007199254740992.0) || x != (double)(int64_t)x)
            return api_bad(r, "invalid_type", field, "'%s%s' must be a whole number", r->where, field);
        n = (int64_t)x;
    }
    if (n < lo || n > hi)
        return api_bad(r, "invalid_value", field, "'%s%s' is %" PRId64 ": %" PRId64 " to %" PRId64 " is allowed",
                       r->where, field, n, lo, hi);
    *out = n;
    return true;
}

bool api_read_count(api_reader *r, const api_field *f, json_t *v)
{
    int64_t n = 0;
    if (!api_integer(r, f->name, v, (int64_t)f->lo, (int64_t)f->hi, &n)) return false;
    *FIELD_IN(uint32_t, r, f) = (uint32_t)n;
    return true;
}

bool api_read_last_n(api_reader *r, const api_field *f, json_t *v)
{
    int64_t n = 0;
    if (!api_integer(r, f->name, v, -1, (int64_t)f->hi, &n)) return false;
    *FIELD_IN(uint32_t, r, f) = n < 0 ? SPARK_MAX_CTX : (uint32_t)n;
    return true;
}

bool api_read_top_k(api_reader *r, const api_field *f, json_t *v)
{
    int64_t n = 0;
    if (!api_integer(r, f->name, v, INT32_MIN, (int64_t)f->hi, &n)) return false;
    *FIELD_IN(uint32_t, r, f) = n < 0 ? 0 : (uint32_t)n;
    return true;
}

bool api_read_stream(api_reader *r, const api_field *f, json_t *v)
{
    (void)f;
    r->call->stream = json_is_true(v);
    return true;
}

bool api_read_max(api_reader *r, const api_field *f, json_t *v)
{
    int64_t n = 0;
    if (!api_integer(r, f->name, v, (int64_t)f->lo, INT32_MAX, &n)) return false;
    if (n == 0)
        return api_bad(r, "invalid_value", f->name, "'%s%s' is 0: at least one token is generated", r->where, f->name);
    *FIELD_IN(uint32_t, r, f) = n < 0 ? 0 : (uint32_t)n;
    if (f->at == API_AT(max_tokens)) r->has_max_tokens = true;
    if (f->at == API_AT(max_completion_tokens)) r->has_max_completion_tokens = true;
    return true;
}

bool api_read_bool(api_reader *r, const api_field *f, json_t *v)
{
    *FIELD_IN(bool, r, f) = json_is_true(v);
    return true;
}

bool api_copy(api_reader *r, const json_t *text, spark_bytes *out)
{
    const spark_bytes b = {(const uint8_t *)json_string_value(text), json_string_length(text)};
    return spark_ok(spark_arena_copy(r->arena, b, out, NULL)) || api_no_memory(r);
}

bool api_read_text(api_reader *r, const api_field *f, json_t *v) { return api_copy(r, v, FIELD_IN(spark_bytes, r, f)); }

bool api_read_value(api_reader *r, const api_field *f, json_t *v)
{
    *FIELD_IN(json_t *, r, f) = v;
    return true;
}

bool api_read_seed(api_reader *r, const api_field *f, json_t *v)
{
    int64_t n = 0;
    if (!api_integer(r, f->name, v, INT64_MIN, INT64_MAX, &n)) return false;
    if (f->lo < 0 && n < 0) return true; /* these servers: any seed below 0 is a random one */
    r->ask.generate.sampling.seed = (uint64_t)n;
    r->has_seed = true;
    return true;
}

bool api_read_model(api_reader *r, const api_field *f, json_t *v)
{
    const size_t n = json_string_length(v);
    if (n == 0 || n > SPARK_MAX_MODEL_NAME || memchr(json_string_value(v), 0, n))
        return api_bad(r, "invalid_value", f->name, "'%s' must have 1 to %u bytes", f->name, SPARK_MAX_MODEL_NAME);
    if (r->call->model.len > 0 &&
        !spark_bytes_equal(r->call->model, (spark_bytes){(const uint8_t *)json_string_value(v), n}))
        return api_bad(r, "invalid_value", f->name, "'model' and 'name' say different things");
    return api_copy(r, v, &r->call->model);
}

bool api_need_model(api_reader *r)
{
    return r->call->model.len > 0 ||
           api_bad(r, "missing_required_parameter", "model", "you must provide a model parameter");
}

/* ---- Lists of generation ---- */

static bool read_one_stop(api_reader *r, const char *field, const json_t *v, const char **out)
{
    spark_bytes copy;
    const size_t n = json_is_string(v) ? json_string_length(v) : 0;
    if (!json_is_string(v))
        return api_bad(r, "invalid_type", field, "'%s%s' must be text or a list of texts", r->where, field);
    if (n == 0 || n > SPARK_MAX_STOP_BYTES || memchr(json_string_value(v), 0, n))
        return api_bad(r, "invalid_value", field,
                       "a text of '%s%s' has %zu bytes: 1 to %u are allowed, none of them zero", r->where, field, n,
                       SPARK_MAX_STOP_BYTES);
    if (!api_copy(r, v, &copy)) return false;
    *out = (const char *)copy.ptr;
    return true;
}

bool api_read_stop(api_reader *r, const api_field *f, json_t *v)
{
    const size_t n = json_is_array(v) ? json_array_size(v) : 1;
    const char **stops = NULL;
    if (n > SPARK_MAX_STOPS)
        return api_bad(r, "invalid_value", f->name, "'%s%s' has %zu texts: at most %u are allowed", r->where, f->name,
                       n, SPARK_MAX_STOPS);
    if (!spark_ok(SPARK_NEW(r->arena, n, &stops, NULL))) return api_no_memory(r);
    for (size_t i = 0; i < n; i++)
        if (!read_one_stop(r, f->name, json_is_array(v) ? json_array_get(v, i) : v, &stops[i])) return false;
    r->ask.generate.stops = stops;
    r->ask.generate.n_stops = n;
    return true;
}

static bool read_bias_id(api_reader *r, const char *field, const char *text, uint32_t *out)
{
    uint64_t id = 0;
    const char *p = text;
    for (; *p >= '0' && *p <= '9' && id <= UINT32_MAX; p++) id = id * 10 + (uint64_t)(*p - '0');
    if (p == text || *p || id > UINT32_MAX)
        return api_bad(r, "invalid_value", field, "'%s': '%.40s' is not a token id", field, text);
    *out = (uint32_t)id;
    return true;
}

static bool read_bias_value(api_reader *r, const api_field *f, const json_t *v, float *out)
{
    const double x = json_is_number(v) ? json_number_value(v) : NAN;
    if (json_is_false(v) && f->kinds & API_LIST) {
        *out = -INFINITY;
        return true;
    }
    if (!(x >= f->lo && x <= f->hi))
        return api_bad(r, "invalid_value", f->name, "a value of '%s' is not a number from %g to %g", f->name, f->lo,
                       f->hi);
    *out = (float)x;
    return true;
}

static bool read_bias_pair(api_reader *r, const api_field *f, const json_t *pair, spark_logit_bias *out)
{
    int64_t id = 0;
    const json_t *first = json_array_get(pair, 0); /* NULL if pair is no list */
    if (json_array_size(pair) != 2 || !json_is_number(first))
        return api_bad(r, "invalid_value", f->name, "'%s' must hold pairs of a token id and a number (or false)",
                       f->name);
    if (!api_integer(r, f->name, first, 0, UINT32_MAX, &id)) return false;
    out->id = (uint32_t)id;
    return read_bias_value(r, f, json_array_get(pair, 1), &out->bias);
}

bool api_read_bias(api_reader *r, const api_field *f, json_t *v)
{
    const size_t n = json_is_array(v) ? json_array_size(v) : json_object_size(v);
    spark_logit_bias *bias = NULL;
    const char *key;
    json_t *value;
    size_t i = 0;
    if (n > SPARK_MAX_LOGIT_BIAS)
        return api_bad(r, "invalid_value", f->name, "'%s' has %zu entries: at most %u are allowed", f->name, n,
                       SPARK_MAX_LOGIT_BIAS);
    if (!spark_ok(SPARK_NEW(r->arena, n, &bias, NULL))) return api_no_memory(r);
    for (; json_is_array(v) && i < n; i++)
        if (!read_bias_pair(r, f, json_array_get(v, i), &bias[i])) return false;
    json_object_foreach(v, key, value)
    {
        if (!read_bias_id(r, f->name, key, &bias[i].id) || !read_bias_value(r, f, value, &bias[i].bias)) return false;
        i++;
    }
    r->ask.generate.logit_bias = bias;
    r->ask.generate.n_logit_bias = n;
    return true;
}

bool api_ids(api_reader *r, const char *what, json_t *list, const uint32_t **ids, uint32_t *n)
{
    const size_t count = json_array_size(list);
    uint32_t *copy = NULL;
    if (count > SPARK_MAX_ASK / 4)
        return api_bad(r, "invalid_value", what, "'%s' has %zu ids: at most %u are allowed", what, count,
                       SPARK_MAX_ASK / 4);
    if (!spark_ok(SPARK_NEW(r->arena, count, &copy, NULL))) return api_no_memory(r);
    for (size_t i = 0; i < count; i++) {
        int64_t id = 0;
        if (!api_integer(r, what, json_array_get(list, i), 0, UINT32_MAX, &id)) return false;
        copy[i] = (uint32_t)id;
    }
    *ids = copy;
    *n = (uint32_t)count;
    return true;
}

/* ---- From body to call ---- */

static bool (*const call_parsers[])(api_reader *r, json_t *body) = {
    [API_SHOW] = api_parse_show,
    [API_CHAT] = api_parse_chat,
    [API_COMPLETIONS] = api_parse_completions,
    [API_OLLAMA_CHAT] = api_parse_ollama_chat,
    [API_OLLAMA_GENERATE] = api_parse_ollama_generate,
    [API_COMPLETION] = api_parse_completion,
    [API_TOKENIZE] = api_parse_tokenize,
    [API_DETOKENIZE] = api_parse_detokenize,
    [API_APPLY_TEMPLATE] = api_parse_apply_template,
};

static bool call_parse_as(api_reader *r, json_t *body)
{
    const api_handler h = r->call->route->handler;
    if (h < SPARK_COUNT(call_parsers) && call_parsers[h]) return call_parsers[h](r, body);
    api_error_set(r->error, 500, "internal_error", NULL, "%s takes no body", r->call->route->path);
    return false;
}

static bool call_check_asks(api_reader *r)
{
    spark_err err = {0};
    for (uint32_t i = 0; i < r->call->n_asks; i++)
        if (!spark_ok(spark_ask_check(&r->call->asks[i], &err))) {
            api_error_from(r->error, &err, 0);
            return false;
        }
    return true;
}

bool api_call_parse(api_call *out, const api_route *route, spark_bytes body, spark_bytes content_type, spark_arena *a,
                    api_error *e)
{
    *out = (api_call){.route = route, .keep_alive_ms = API_KEEP_DEFAULT};
    api_reader r = {.call = out, .arena = a, .error = e, .where = "", .n = 1};
    *e = (api_error){0};
    spark_ask_defaults(&r.ask);
    if (!json_media(&r, content_type)) return false;
    json_t *json = json_load_body(&r, body);
    const bool ok = json && call_parse_as(&r, json) && call_check_asks(&r);
    json_decref(r.vars);
    json_decref(json);
    return ok || (e->status == 0 && api_no_memory(&r)); /* the parser's only silent failure */
}

/* Below 2^53: a seed that a reply shows can be sent again by clients whose numbers are doubles. */
void api_call_seed(api_call *c, uint64_t random)
{
    const uint64_t mask = (UINT64_C(1) << 53) - 1;
    for (uint32_t i = 0; i < c->n_asks; i++)
        if (c->asks[i].random_seed) c->asks[i].generate.sampling.seed = (random + i) & mask;
}

bool api_call_check(const api_call *call, const api_card *c, api_error *e)
{
    for (uint32_t i = 0; i < call->n_asks; i++) {
        if (call->asks[i].n_ctx <= c->n_ctx) continue;
        api_error_set(e, 400, "context_length_exceeded", "num_ctx",
                      "num_ctx is %u, but %s is served with a context of %u tokens", call->asks[i].n_ctx, c->name,
                      c->n_ctx);
        return false;
    }
    return true;
}
