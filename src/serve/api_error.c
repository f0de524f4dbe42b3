/* api_error.c - refusals: what a status means in each dialect, and what an engine's errors are to a client. */
#include <stdarg.h>
#include <stdio.h>

#include "base/utf8.h"
#include "serve/api_internal.h"

/* OpenAI's type of each status, llama-server's, and whether trying again is for nothing. */
static const struct error_status {
    int status;
    const char *openai, *llama;
    bool no_retry;
} error_statuses[] = {
    {400, "invalid_request_error", "invalid_request_error", false},
    {401, "invalid_request_error", "authentication_error", false},
    {403, "permission_error", "permission_error", false},
    {404, "invalid_request_error", "not_found_error", false},
    {405, "invalid_request_error", "invalid_request_error", false},
    {413, "invalid_request_error", "invalid_request_error", false},
    {415, "invalid_request_error", "invalid_request_error", false},
    {429, "rate_limit_error", "rate_limit_error", false},
    {500, "server_error", "server_error", true},
    {501, "invalid_request_error", "not_supported_error", true},
    {503, "server_error", "unavailable_error", false},
    {504, "server_error", "unavailable_error", true},
};

static const struct error_status *error_status_of(int status)
{
    for (size_t i = 0; i < SPARK_COUNT(error_statuses); i++)
        if (error_statuses[i].status == status) return &error_statuses[i];
    return &error_statuses[status < 500 ? 0 : 8];
}

static void error_copy(char *out, size_t room, const char *text)
{
    const size_t len = strlen(text), fits = len < room - 1 ? len : room - 1;
    const size_t n = fits - spark_utf8_incomplete_tail((const uint8_t *)text, fits);
    memcpy(out, text, n);
    out[n] = 0;
}

void api_error_set(api_error *e, int status, const char *code, const char *param, const char *fmt, ...)
{
    const struct error_status *s = error_status_of(status);
    char text[sizeof e->message + 1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    *e = (api_error){.status = status, .type = s->openai, .code = code, .no_retry = s->no_retry};
    error_copy(e->param, sizeof e->param, param ? param : "");
    error_copy(e->message, sizeof e->message, text);
}

/* What there is instead, for whom a base URL was typed into a browser, or a path from memory. */
static const char *const error_routes[API_N_DIALECTS] = {
    [API_PLAIN] = "",
    [API_OPENAI] =
        "clients of OpenAI ask POST /v1/chat/completions, POST /v1/completions, GET /v1/models (their base URL "
        "ends in /v1)",
    [API_OLLAMA] =
        "clients of Ollama ask POST /api/chat, POST /api/generate, GET /api/tags (their base URL has no path)",
    [API_LLAMA] = "OpenAI's routes begin with /v1, Ollama's with /api; llama-server's are POST /completion and others; "
                  "GET /health needs no key, and a page stands at / where the server runs with --page"};

void api_error_match(api_error *e, const api_match *m, const char *method, spark_bytes path)
{
    const int n = (int)(path.len < 80 ? path.len : 80); /* the advice behind it needs the room */
    if (m->status == 405)
        api_error_set(e, 405, "method_not_allowed", NULL, "%.16s is not allowed for %.*s; allowed: %s", method, n,
                      (const char *)path.ptr, m->allow);
    else
        api_error_set(e, 404, "not_found", NULL, "there is no %.16s %.*s: %s; docs/API.md lists all routes", method, n,
                      (const char *)path.ptr, error_routes[m->dialect]);
}

void api_route_refusal(api_error *e, const api_route *r)
{
    if (r->handler == API_FORBIDDEN)
        api_error_set(e, 403, "forbidden_by_policy", NULL, "%s: %s", r->path, r->note);
    else
        api_error_set(e, 501, "not_implemented", NULL, "%s: %s", r->path, r->note);
}

void api_error_model(api_error *e, spark_bytes name)
{
    const int n = (int)(name.len < 200 ? name.len : 200);
    api_error_set(e, 404, "model_not_found", "model", "model '%.*s' not found", n, (const char *)name.ptr);
}

void api_error_held(api_error *e)
{
    api_error_set(
        e, 503, "overloaded", "",
        "the replies that are being made and read take all the memory that they may together: try again, ask for a "
        "stream, or for less of it (logprobs)");
    e->retry_ms = 1000;
}

/* ---- From the engine ---- */

static const struct error_code {
    int status, busy_status; /* busy: the scheduler refused for now */
    const char *code, *busy_code;
} error_codes[SPARK_N_CODES] = {
    [SPARK_OK] = {500, 500, "internal_error", "internal_error"},
    [SPARK_E_ARGUMENT] = {400, 400, "invalid_value", "invalid_value"},
    [SPARK_E_FORMAT] = {400, 400, "invalid_value",
                        "invalid_value"}, /* also: what the template makes of these messages */
    [SPARK_E_LIMIT] = {400, 429, "limit_exceeded", "rate_limit_exceeded"},
    [SPARK_E_UNSUPPORTED] = {400, 400, "unsupported", "unsupported"}, /* the model has no chat template */
    [SPARK_E_MEMORY] = {503, 503, "out_of_memory", "out_of_memory"},
    [SPARK_E_IO] = {503, 503, "engine_lost", "engine_lost"}, /* it crashed and is started again */
    [SPARK_E_CONTEXT] = {400, 400, "context_length_exceeded", "context_length_exceeded"},
    [SPARK_E_NUMERIC] = {500, 500, "value_not_finite", "value_not_finite"},
    [SPARK_E_CANCELLED] = {504, 504, "deadline_exceeded", "deadline_exceeded"},
    [SPARK_E_STATE] = {503, 503, "not_ready", "not_ready"},
    [SPARK_E_REFUSED] = {400, 503, "refused",
                         "deadline_cannot_be_met"}, /* the template's own words, or the scheduler's */
};

void api_error_from(api_error *e, const spark_err *err, uint32_t retry_ms)
{
    const struct error_code *c = &error_codes[(unsigned)err->code < SPARK_N_CODES ? err->code : SPARK_OK];
    const char *text = err->text[0] ? err->text : spark_code_text(err->code);
    const int status = retry_ms ? c->busy_status : c->status;
    if (err->line)
        api_error_set(e, status, retry_ms ? c->busy_code : c->code, NULL, "%s (template line %u, column %u)", text,
                      err->line, err->column);
    else
        api_error_set(e, status, retry_ms ? c->busy_code : c->code, NULL, "%s", text);
    e->retry_ms = retry_ms ? retry_ms : status == 503 ? 1000 : 0;
}

void api_error_advise(api_error *e, const api_call *call)
{
    static const char *const instead[API_N_DIALECTS] = {
        [API_PLAIN] = "/v1/completions takes a prompt as text",
        [API_OPENAI] = "/v1/completions takes a prompt as text",
        [API_OLLAMA] = "/api/generate takes a prompt as text with \"raw\": true",
        [API_LLAMA] = "/completion takes a prompt as text"};
    const spark_ask_kind kind = call->n_asks ? call->asks[0].kind : SPARK_ASK_TEXT;
    char text[sizeof e->message];
    if (e->code && strcmp(e->code, "context_length_exceeded") == 0 && !e->param[0])
        snprintf(e->param, sizeof e->param, "%s", kind == SPARK_ASK_CHAT ? "messages" : "prompt");
    if (!e->code || strcmp(e->code, "unsupported") != 0) return;
    if (kind != SPARK_ASK_CHAT && kind != SPARK_ASK_TEMPLATE) return;
    memcpy(text, e->message, sizeof text);
    api_error_set(e, e->status, e->code, e->param,
                  "%s; %s, and a model whose file holds a template (tokenizer.chat_template) can chat", text,
                  instead[call->route->dialect]);
}

/* ---- In the words of each dialect ---- */

static void print_openai(api_out *o, const api_error *e)
{
    api_out_str(o, "{\"error\":{\"message\":");
    api_out_cstr(o, e->message);
    api_out_str(o, ",\"type\":");
    api_out_cstr(o, e->type);
    api_out_str(o, ",\"param\":");
    api_out_cstr(o, e->param[0] ? e->param : NULL);
    api_out_str(o, ",\"code\":");
    api_out_cstr(o, e->code);
    api_out_str(o, "}}");
}

static void print_llama(api_out *o, const api_error *e)
{
    const bool context = e->code && strcmp(e->code, "context_length_exceeded") == 0;
    api_out_fmt(o, "{\"error\":{\"code\":%d,\"message\":", e->status);
    api_out_cstr(o, e->message);
    api_out_fmt(o, ",\"type\":\"%s\"}}", context ? "exceed_context_size_error" : error_status_of(e->status)->llama);
}

void api_print_error(api_out *o, api_dialect d, const api_error *e)
{
    switch (d) {
    case API_OLLAMA:
        api_out_str(o, "{\"error\":");
        api_out_cstr(o, e->message);
        api_out_str(o, "}");
        break;
    case API_LLAMA: print_llama(o, e); break;
    case API_PLAIN:
    case API_OPENAI:
    case API_N_DIALECTS: print_openai(o, e); break;
    }
}
