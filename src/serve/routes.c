/* routes.c - the one table of routes: what there is, who may call it, and in whose words it answers. */
#include <stdio.h>

#include "serve/api.h"

#define NO_DOWNLOAD "nothing is ever downloaded, uploaded or written by this server; models are named at its start"
#define NO_WRITING  "models are named at the server's start, not through its API"
#define EMBEDDINGS  "embeddings are not supported yet; they come with encoder models"
#define RERANKING   "reranking is not supported yet; it comes with encoder models"

const api_header api_headers[] = {
    {"Authorization", true, "`Bearer KEY`"},
    {"X-Api-Key", true, "the key, where there is no `Authorization`"},
    {"Content-Type", true, "see the rules"},
    {API_TIMEOUT_HEADER, true,
     "routes that ask a model: milliseconds for the whole request, 1 to 4294967295. The shorter of this and the "
     "operator's `request_timeout` counts. What would begin too late is 503 `deadline_cannot_be_met` at once; what is "
     "not done by then ends with 504 `deadline_exceeded`"},
    {"X-Stainless-Arch, X-Stainless-Helper-Method, X-Stainless-Lang, X-Stainless-OS, X-Stainless-Package-Version, "
     "X-Stainless-Retry-Count, X-Stainless-Runtime, X-Stainless-Runtime-Version, X-Stainless-Timeout",
     false, "sent by OpenAI's clients. Their timeout is their own patience: who has none left goes, and is cancelled"},
    {"OpenAI-Organization, OpenAI-Project, OpenAI-Beta", false, "tenants are told apart by their keys"},
};
const size_t api_n_headers = SPARK_COUNT(api_headers);

bool api_timeout_parse(spark_bytes header, uint32_t *ms, api_error *e)
{
    uint64_t n = 0;
    bool ok = header.len >= 1 && header.len <= 10 && header.ptr[0] != '0';
    *ms = 0;
    if (!header.ptr) return true;
    for (size_t i = 0; ok && i < header.len; i++) {
        ok = header.ptr[i] >= '0' && header.ptr[i] <= '9';
        n = n * 10 + (uint64_t)(header.ptr[i] - '0');
    }
    if (ok && n <= UINT32_MAX) {
        *ms = (uint32_t)n;
        return true;
    }
    api_error_set(e, 400, "invalid_value", API_TIMEOUT_HEADER,
                  "the header " API_TIMEOUT_HEADER " is '%.*s': whole milliseconds are expected, 1 to 4294967295",
                  (int)(header.len < 80 ? header.len : 80), (const char *)header.ptr);
    return false;
}

const api_route api_routes[] = {
    {"GET", "/", API_OPEN, API_ROOT, API_PLAIN,
     "the page with `--page`, else the text " API_ROOT_TEXT ", and below it, for who accepts HTML, what to do"},
    {"GET", "/health", API_OPEN, API_HEALTH, API_LLAMA, "200 when every model is ready, else 503"},
    {"GET", "/v1/health", API_OPEN, API_HEALTH, API_LLAMA, "the same"},
    {"GET", "/health/live", API_OPEN, API_LIVE, API_LLAMA, "200 while the process answers"},
    {"GET", "/health/ready", API_OPEN, API_READY, API_LLAMA, "200 when requests are taken"},
    {"GET", "/health/startup", API_OPEN, API_STARTUP, API_LLAMA, "200 once the first start is over"},
    {"GET", "/metrics", API_METRICS, API_METRICS_TEXT, API_LLAMA, "Prometheus text"},

    {"POST", "/v1/chat/completions", API_KEY, API_CHAT, API_OPENAI, "chat"},
    {"POST", "/chat/completions", API_KEY, API_CHAT, API_OPENAI, "the same, as llama-server has it"},
    {"POST", "/v1/completions", API_KEY, API_COMPLETIONS, API_OPENAI, "text completion"},
    {"GET", "/v1/models", API_KEY, API_MODELS, API_OPENAI, "the served models"},
    {"GET", "/v1/models/{id}", API_KEY, API_MODEL, API_OPENAI, "one of them"},
    {"GET", "/models", API_KEY, API_MODELS, API_OPENAI, "as /v1/models"},
    {"POST", "/v1/embeddings", API_KEY, API_LATER, API_OPENAI, EMBEDDINGS},
    {"POST", "/v1/responses", API_KEY, API_LATER, API_OPENAI,
     "the Responses API is not supported yet; use /v1/chat/completions"},
    {"POST", "/v1/rerank", API_KEY, API_LATER, API_OPENAI, RERANKING},

    {"POST", "/api/chat", API_KEY, API_OLLAMA_CHAT, API_OLLAMA, "chat"},
    {"POST", "/api/generate", API_KEY, API_OLLAMA_GENERATE, API_OLLAMA,
     "one prompt, through the template unless `raw`"},
    {"GET", "/api/tags", API_KEY, API_TAGS, API_OLLAMA, "the served models"},
    {"POST", "/api/show", API_KEY, API_SHOW, API_OLLAMA, "one of them"},
    {"GET", "/api/ps", API_KEY, API_PS, API_OLLAMA, "those that are loaded"},
    {"GET", "/api/version", API_KEY, API_VERSION, API_OLLAMA, "version of the server"},
    {"POST", "/api/embed", API_KEY, API_LATER, API_OLLAMA, EMBEDDINGS},
    {"POST", "/api/embeddings", API_KEY, API_LATER, API_OLLAMA, EMBEDDINGS},
    {"POST", "/api/pull", API_KEY, API_FORBIDDEN, API_OLLAMA, NO_DOWNLOAD},
    {"POST", "/api/push", API_KEY, API_FORBIDDEN, API_OLLAMA, NO_DOWNLOAD},
    {"POST", "/api/create", API_KEY, API_FORBIDDEN, API_OLLAMA, NO_WRITING},
    {"POST", "/api/copy", API_KEY, API_FORBIDDEN, API_OLLAMA, NO_WRITING},
    {"DELETE", "/api/delete", API_KEY, API_FORBIDDEN, API_OLLAMA, NO_WRITING},
    {"POST", "/api/blobs/{digest}", API_KEY, API_FORBIDDEN, API_OLLAMA, NO_DOWNLOAD},
    {"GET", "/api/blobs/{digest}", API_KEY, API_FORBIDDEN, API_OLLAMA, NO_DOWNLOAD},

    {"POST", "/completion", API_KEY, API_COMPLETION, API_LLAMA, "text completion"},
    {"POST", "/completions", API_KEY, API_COMPLETION, API_LLAMA, "the same"},
    {"POST", "/tokenize", API_KEY, API_TOKENIZE, API_LLAMA, "text to ids"},
    {"POST", "/detokenize", API_KEY, API_DETOKENIZE, API_LLAMA, "ids to text"},
    {"POST", "/apply-template", API_KEY, API_APPLY_TEMPLATE, API_LLAMA, "messages to a prompt"},
    {"GET", "/props", API_KEY, API_PROPS, API_LLAMA, "settings of a model"},
    {"POST", "/props", API_KEY, API_FORBIDDEN, API_LLAMA, "settings are the operator's"},
    {"GET", "/slots", API_KEY, API_SLOTS, API_LLAMA, "what is being decoded, without its text"},
    {"POST", "/slots/{id}", API_KEY, API_FORBIDDEN, API_LLAMA, "a slot's state is never written to disk"},
    {"POST", "/embedding", API_KEY, API_LATER, API_LLAMA, EMBEDDINGS},
    {"POST", "/embeddings", API_KEY, API_LATER, API_LLAMA, EMBEDDINGS},
    {"POST", "/rerank", API_KEY, API_LATER, API_LLAMA, RERANKING},
    {"POST", "/infill", API_KEY, API_LATER, API_LLAMA, "fill-in-the-middle is not supported yet"},

    {"GET", "/spark/live", API_METRICS, API_WATCH, API_LLAMA,
     "load, latency of the last minute, memory plan and jail, as JSON: what the page shows"},
};
const size_t api_n_routes = SPARK_COUNT(api_routes);

/* Whether path is pattern; a part in braces takes what is left, at least one byte. */
static bool route_is(const char *pattern, spark_bytes path, spark_bytes *id)
{
    const char *brace = strchr(pattern, '{');
    const size_t fixed = brace ? (size_t)(brace - pattern) : strlen(pattern);
    *id = (spark_bytes){0};
    if (path.len < fixed || memcmp(path.ptr, pattern, fixed) != 0) return false;
    if (!brace) return path.len == fixed;
    *id = (spark_bytes){path.ptr + fixed, path.len - fixed};
    return id->len > 0;
}

static bool route_begins(spark_bytes path, const char *with)
{
    return path.len >= strlen(with) && memcmp(path.ptr, with, strlen(with)) == 0;
}

/* Whose words a path that is not in the table is answered in. */
static api_dialect route_dialect(spark_bytes path)
{
    if (route_begins(path, "/v1/") || spark_bytes_is(path, "/v1")) return API_OPENAI;
    if (route_begins(path, "/api/") || spark_bytes_is(path, "/api")) return API_OLLAMA;
    return API_LLAMA;
}

static void route_allow(api_match *m, const char *method)
{
    const size_t n = strlen(m->allow);
    snprintf(m->allow + n, sizeof m->allow - n, "%s%s%s", n ? ", " : "", method,
             strcmp(method, "GET") == 0 ? ", HEAD" : "");
}

api_match api_route_find(const char *method, spark_bytes path)
{
    api_match m = {.status = 404, .dialect = route_dialect(path)};
    const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;
    for (size_t i = 0; i < api_n_routes; i++) {
        const api_route *r = &api_routes[i];
        spark_bytes id;
        if (!route_is(r->path, path, &id)) continue;
        m.dialect = r->dialect;
        if (strcmp(r->method, wanted) == 0)
            return (api_match){.route = r, .status = 200, .id = id, .dialect = r->dialect};
        m.status = 405;
        route_allow(&m, r->method);
    }
    return m;
}

bool api_card_is(const api_card *c, spark_bytes asked)
{
    static const char latest[] = ":latest";
    const size_t n = strlen(c->name), tail = sizeof latest - 1;
    if (asked.len < n || memcmp(asked.ptr, c->name, n) != 0) return false;
    return asked.len == n || (asked.len == n + tail && memcmp(asked.ptr + n, latest, tail) == 0);
}
