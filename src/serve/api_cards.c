/* api_cards.c - what is said of served models, in OpenAI's and Ollama's forms; and the reference of routes and fields. */
#include <inttypes.h>
#include <stdio.h>

#include "serve/api_internal.h"

/* ---- OpenAI ---- */

void api_print_model(api_out *o, const api_card *c)
{
    api_out_str(o, "{\"id\":");
    api_out_cstr(o, c->name);
    api_out_fmt(o,
                ",\"object\":\"model\",\"created\":%" PRIu64
                ",\"owned_by\":\"spark\",\"meta\":{\"n_vocab\":%u,\"n_ctx\":%u,"
                "\"n_ctx_train\":%u,\"n_embd\":%u,\"n_params\":%" PRIu64 ",\"size\":%" PRIu64 "}}",
                c->created_s, c->n_vocab, c->n_ctx, c->n_ctx_train, c->n_embd, c->n_params, c->file_bytes);
}

void api_print_models(api_out *o, const api_card *cards, size_t n)
{
    api_out_str(o, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < n; i++) {
        if (i) api_out_str(o, ",");
        api_print_model(o, &cards[i]);
    }
    api_out_str(o, "]}");
}

/* ---- Ollama ---- */

/* "494.03M", as Ollama writes it. */
static void card_parameters(api_out *o, uint64_t n)
{
    const double x = (double)n;
    if (n >= 1000000000)
        api_out_fmt(o, "\"%.1fB\"", x / 1e9);
    else if (n >= 1000000)
        api_out_fmt(o, "\"%.2fM\"", x / 1e6);
    else
        api_out_fmt(o, "\"%.2fK\"", x / 1e3);
}

static void card_details(api_out *o, const api_card *c)
{
    api_out_str(o, "{\"parent_model\":\"\",\"format\":\"gguf\",\"family\":");
    api_out_cstr(o, c->arch);
    api_out_str(o, ",\"families\":[");
    api_out_cstr(o, c->arch);
    api_out_str(o, "],\"parameter_size\":");
    card_parameters(o, c->n_params);
    api_out_str(o, ",\"quantization_level\":");
    api_out_cstr(o, c->quantization);
    api_out_fmt(o, ",\"context_length\":%u,\"embedding_length\":%u}", c->n_ctx_train, c->n_embd);
}

/* name, model, size, digest, details: without the closing brace. */
static void card_open(api_out *o, const api_card *c, uint64_t size)
{
    api_out_str(o, "{\"name\":");
    api_out_cstr(o, c->name);
    api_out_str(o, ",\"model\":");
    api_out_cstr(o, c->name);
    api_out_fmt(o, ",\"size\":%" PRIu64 ",\"digest\":", size);
    api_out_cstr(o, c->digest ? c->digest : "0000000000000000000000000000000000000000000000000000000000000000");
    api_out_str(o, ",\"details\":");
    card_details(o, c);
}

void api_print_tags(api_out *o, const api_card *cards, size_t n)
{
    api_out_str(o, "{\"models\":[");
    for (size_t i = 0; i < n; i++) {
        if (i) api_out_str(o, ",");
        card_open(o, &cards[i], cards[i].file_bytes);
        api_out_str(o, ",\"modified_at\":");
        api_out_time(o, cards[i].created_s * 1000000000);
        api_out_str(o, ",\"capabilities\":[\"completion\"]}");
    }
    api_out_str(o, "]}");
}

void api_print_ps(api_out *o, const api_card *cards, size_t n)
{
    bool any = false;
    api_out_str(o, "{\"models\":[");
    for (size_t i = 0; i < n; i++) {
        if (!cards[i].loaded) continue;
        if (any) api_out_str(o, ",");
        any = true;
        card_open(o, &cards[i], cards[i].memory_bytes);
        api_out_str(o, ",\"expires_at\":");
        if (cards[i].expires_s)
            api_out_time(o, cards[i].expires_s * 1000000000);
        else
            api_out_str(o, "\"2318-01-01T00:00:00Z\""); /* never: far away, as Ollama writes it */
        api_out_fmt(o, ",\"size_vram\":0,\"context_length\":%u}", cards[i].n_ctx);
    }
    api_out_str(o, "]}");
}

static void show_info(api_out *o, const api_card *c)
{
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {{"context_length", c->n_ctx_train},
                   {"embedding_length", c->n_embd},
                   {"block_count", c->n_layers},
                   {"vocab_size", c->n_vocab}};
    api_out_str(o, "{\"general.architecture\":");
    api_out_cstr(o, c->arch);
    if (!c->arch) { /* never loaded until now: nothing is known */
        api_out_str(o, "}");
        return;
    }
    api_out_fmt(o, ",\"general.parameter_count\":%" PRIu64, c->n_params);
    for (size_t i = 0; i < SPARK_COUNT(numbers); i++) {
        api_out_str(o, ",\"");
        api_out_chars(o, spark_bytes_of(c->arch));
        api_out_fmt(o, ".%s\":%" PRIu64, numbers[i].key, numbers[i].value);
    }
    api_out_str(o, "}");
}

void api_print_show(api_out *o, const api_card *c)
{
    api_out_str(o, "{\"modelfile\":\"\",\"parameters\":\"\",\"template\":");
    api_out_cstr(o, c->chat_template ? c->chat_template : "");
    api_out_str(o, ",\"details\":");
    card_details(o, c);
    api_out_str(o, ",\"model_info\":");
    show_info(o, c);
    api_out_str(o, ",\"capabilities\":[\"completion\"],\"modified_at\":");
    api_out_time(o, c->created_s * 1000000000);
    api_out_str(o, "}");
}

void api_print_version(api_out *o) { api_out_str(o, "{\"version\":\"" SPARK_VERSION "\"}"); }

/* ---- The reference ---- */

static void reference_cell(api_out *o, const char *text)
{
    for (; *text; text++) {
        if (*text == '|') api_out_str(o, "\\");
        api_out_raw(o, text, 1);
    }
}

static void reference_routes(api_out *o)
{
    static const char *const access[] = {[API_OPEN] = "anyone", [API_METRICS] = "metrics key", [API_KEY] = "key"};
    api_out_str(o, "### Routes\n\n| method | path | who | what |\n|---|---|---|---|\n");
    for (size_t i = 0; i < api_n_routes; i++) {
        const api_route *r = &api_routes[i];
        const char *refused = r->handler == API_FORBIDDEN ? "403: " : r->handler == API_LATER ? "501: " : "";
        api_out_fmt(o, "| %s | `%s` | %s | %s", r->method, r->path, access[r->access], refused);
        reference_cell(o, r->note);
        api_out_str(o, " |\n");
    }
}

static void reference_headers(api_out *o)
{
    api_out_str(o, "\n### Headers\n\n| header | class | |\n|---|---|---|\n");
    for (size_t i = 0; i < api_n_headers; i++) {
        api_out_fmt(o, "| `%s` | %s | ", api_headers[i].name, api_headers[i].honoured ? "honoured" : "changes nothing");
        reference_cell(o, api_headers[i].note);
        api_out_str(o, " |\n");
    }
}

/* What a refused field may say all the same. */
static void reference_neutral(api_out *o, unsigned neutral)
{
    static const struct {
        unsigned bit;
        const char *words;
    } words[] = {{API_IF_FALSE, "false"},
                 {API_IF_TRUE, "true"},
                 {API_IF_EMPTY, "an empty value"},
                 {API_IF_ZERO, "0"},
                 {API_IF_ONE, "1"},
                 {API_IF_MINUS_ONE, "-1"},
                 {API_IF_NONE, "\"none\""},
                 {API_IF_AUTO, "\"auto\", \"default\""}};
    bool any = false;
    for (size_t i = 0; i < SPARK_COUNT(words); i++) {
        if (!(neutral & words[i].bit)) continue;
        api_out_str(o, any ? ", " : " (but for ");
        api_out_str(o, words[i].words);
        any = true;
    }
    if (any) api_out_str(o, ")");
}

static void reference_fields(api_out *o, const api_fields *t)
{
    static const char *const classes[] = {
        [API_HONOURED] = "honoured", [API_NEUTRAL] = "changes nothing", [API_REFUSED] = "refused"};
    api_out_str(o, "\n### ");
    api_out_str(o, t->title);
    api_out_str(o, "\n\n| field | class | |\n|---|---|---|\n");
    for (size_t i = 0; i < t->n; i++) {
        const api_field *f = &t->rows[i];
        api_out_fmt(o, "| `%s` | %s", f->name, classes[f->cls]);
        if (f->cls == API_REFUSED) reference_neutral(o, f->neutral);
        api_out_str(o, " | ");
        reference_cell(o, f->note);
        if (f->cls == API_HONOURED && (f->read == api_read_float || f->read == api_read_count)) {
            api_out_fmt(o, "%s%.9g to %.9g", f->note[0] ? "; " : "", f->lo, f->hi);
        }
        api_out_str(o, " |\n");
    }
}

void api_print_reference(api_out *o)
{
    reference_routes(o);
    reference_headers(o);
    api_print_parameters(o);
    for (size_t i = 0; i < api_n_openai_tables; i++) reference_fields(o, api_openai_tables[i]);
    for (size_t i = 0; i < api_n_ollama_tables; i++) reference_fields(o, api_ollama_tables[i]);
    for (size_t i = 0; i < api_n_llama_tables; i++) reference_fields(o, api_llama_tables[i]);
}
