/* api_ollama.c - Ollama's routes: their fields, and from bodies to asks.
 * Contract: api/types.go of Ollama. Defaults are Ollama's: temperature 0.8, top_k 40, top_p 0.9, no min_p, stream true.
 * Ollama passes over options that it does not know; here they are refused, as everywhere. */
#include <math.h>
#include <stdio.h>

#include "serve/api_internal.h"

#define SAMPLING(m)  API_AT(ask.generate.sampling.m)
#define TEXT_ONLY    "models here read text only"
#define HARDWARE     "where and how the model computes is the operator's; it never changes an answer"
#define NO_SHIFT     "only speaks of cutting a context that is full: that is an error here"
#define NO_MIROSTAT  "mirostat is not supported; 0 is taken"
#define LATER_SCHEMA "structured output is not supported yet"

/* ---- keep_alive ---- */

/* One number and unit of a Go duration, from *p on; ms or -1. */
static double duration_part(const char **p)
{
    static const struct {
        const char *unit;
        double ms;
    } units[] = {{"ns", 1e-6}, {"us", 1e-3}, {"\xc2\xb5s", 1e-3}, {"ms", 1}, {"s", 1e3}, {"m", 6e4}, {"h", 3.6e6}};
    double x = 0, scale = 1;
    const char *s = *p;
    for (; *s >= '0' && *s <= '9'; s++) x = x * 10 + (*s - '0');
    if (*s == '.')
        for (s++; *s >= '0' && *s <= '9'; s++) x += (*s - '0') * (scale /= 10);
    if (s == *p) return -1;
    for (size_t i = 0; i < SPARK_COUNT(units); i++) {
        const size_t n = strlen(units[i].unit);
        if (strncmp(s, units[i].unit, n) != 0 || (s[n] >= 'a' && s[n] <= 'z')) continue;
        *p = s + n;
        return x * units[i].ms;
    }
    return -1;
}

/* "5m", "1h30m", "-1s", "0": false if it is none. */
static bool duration_read(const char *s, double *ms)
{
    const bool negative = *s == '-';
    double sum = 0;
    if (*s == '-' || *s == '+') s++;
    if (strcmp(s, "0") == 0) {
        *ms = 0;
        return true;
    }
    if (!*s) return false;
    while (*s) {
        const double part = duration_part(&s);
        if (part < 0) return false;
        sum += part;
    }
    *ms = negative ? -sum : sum;
    return true;
}

static bool read_keep_alive(api_reader *r, const api_field *f, json_t *v)
{
    double ms = 0;
    if (json_is_number(v))
        ms = json_number_value(v) * 1000;
    else if (json_string_length(v) > 64 || !duration_read(json_string_value(v), &ms))
        return api_bad(r, "invalid_value", f->name, "'%s' must be seconds, or a time such as \"5m\"", f->name);
    r->call->keep_alive_ms = ms < 0 || ms > 9e15 ? API_KEEP_FOREVER : (int64_t)ms;
    return true;
}

/* ---- Readers of single fields ---- */

static bool read_think(api_reader *r, const api_field *f, json_t *v)
{
    if (!json_is_false(v))
        return api_bad(r, "unsupported_parameter", f->name,
                       "'%s' is refused: thoughts are not told apart from answers yet; false is taken", f->name);
    r->no_thinking = true;
    return true;
}

static bool read_logprobs(api_reader *r, const api_field *f, json_t *v)
{
    (void)f;
    r->has_logprobs = json_is_true(v);
    return true;
}

static bool read_context(api_reader *r, const api_field *f, json_t *v)
{
    return api_ids(r, f->name, v, &r->ask.ids, &r->ask.n_ids);
}

static bool read_prompt(api_reader *r, const api_field *f, json_t *v)
{
    (void)f;
    return api_copy(r, v, &r->content);
}

/* Ollama: -1 = no maximum, -2 = until the context is full; here both end there. */
static bool read_num_predict(api_reader *r, const api_field *f, json_t *v) { return api_read_max(r, f, v); }

static bool read_verbose(api_reader *r, const api_field *f, json_t *v)
{
    if (json_is_false(v)) return true;
    return api_bad(r, "unsupported_parameter", f->name,
                   "'verbose' is refused: vocabularies and tensors are not listed");
}

/* ---- Fields ---- */

static const api_field option_rows[] = {
    {"temperature", API_HONOURED, API_NUMBER, 0, api_read_float, SAMPLING(temperature), 0, 1e4,
     "default 0.8; 0 = greedy"},
    {"top_k", API_HONOURED, API_NUMBER, 0, api_read_top_k, SAMPLING(top_k), 0, SPARK_MAX_VOCAB,
     "default 40; 0 and below = off"},
    {"top_p", API_HONOURED, API_NUMBER, 0, api_read_float, SAMPLING(top_p), 0, 1, "default 0.9"},
    {"min_p", API_HONOURED, API_NUMBER, 0, api_read_float, SAMPLING(min_p), 0, 1, "default 0"},
    {"typical_p", API_HONOURED, API_NUMBER, 0, api_read_float, SAMPLING(typical_p), 0, 1, "default 1 = off"},
    {"repeat_last_n", API_HONOURED, API_NUMBER, 0, api_read_last_n, SAMPLING(penalty_last_n), -1, SPARK_MAX_CTX,
     "default 64; -1 = the whole context"},
    {"repeat_penalty", API_HONOURED, API_NUMBER, 0, api_read_float, SAMPLING(repeat_penalty), 1e-3, 1e3,
     "default 1 = off"},
    {"presence_penalty", API_HONOURED, API_NUMBER, 0, api_read_float, SAMPLING(presence_penalty), -1e3, 1e3, ""},
    {"frequency_penalty", API_HONOURED, API_NUMBER, 0, api_read_float, SAMPLING(frequency_penalty), -1e3, 1e3, ""},
    {"seed", API_HONOURED, API_NUMBER, 0, api_read_seed, 0, -1, 0, "below 0 or none: a random one"},
    {"stop", API_HONOURED, API_TEXT | API_LIST, 0, api_read_stop, 0, 0, 0, "up to 64 texts of 1 to 1024 bytes"},
    {"num_predict", API_HONOURED, API_NUMBER, 0, read_num_predict, API_AT(max_tokens), -2, 0,
     "default -1; -1 and -2 = until the model or the context ends"},
    {"num_ctx", API_HONOURED, API_NUMBER, 0, api_read_count, API_AT(ask.n_ctx), 1, SPARK_MAX_CTX,
     "a context smaller than the planned one; a larger one is refused"},
    {"num_keep", API_NEUTRAL, API_NUMBER, 0, NULL, 0, 0, 0, NO_SHIFT},
    {"num_batch", API_NEUTRAL, API_NUMBER, 0, NULL, 0, 0, 0, HARDWARE},
    {"num_gpu", API_NEUTRAL, API_NUMBER, 0, NULL, 0, 0, 0, HARDWARE},
    {"main_gpu", API_NEUTRAL, API_NUMBER, 0, NULL, 0, 0, 0, HARDWARE},
    {"num_thread", API_NEUTRAL, API_NUMBER, 0, NULL, 0, 0, 0, HARDWARE},
    {"use_mmap", API_NEUTRAL, API_BOOL, 0, NULL, 0, 0, 0, HARDWARE},
    {"use_mlock", API_NEUTRAL, API_BOOL, 0, NULL, 0, 0, 0, HARDWARE},
    {"low_vram", API_NEUTRAL, API_BOOL, 0, NULL, 0, 0, 0, HARDWARE},
    {"numa", API_NEUTRAL, API_BOOL, 0, NULL, 0, 0, 0, HARDWARE},
    {"draft_num_predict", API_NEUTRAL, API_NUMBER, 0, NULL, 0, 0, 0, "speculation never changes an answer"},
    {"mirostat_tau", API_NEUTRAL, API_NUMBER, 0, NULL, 0, 0, 0, "only speaks of mirostat"},
    {"mirostat_eta", API_NEUTRAL, API_NUMBER, 0, NULL, 0, 0, 0, "only speaks of mirostat"},
    {"mirostat", API_REFUSED, API_ANY, API_IF_ZERO, NULL, 0, 0, 0, NO_MIROSTAT},
    {"tfs_z", API_REFUSED, API_ANY, API_IF_ONE, NULL, 0, 0, 0, "tail-free sampling is not supported; 1 is taken"},
    {"penalize_newline", API_REFUSED, API_ANY, API_IF_TRUE, NULL, 0, 0, 0,
     "newlines are penalized as other tokens are"},
    {"f16_kv", API_REFUSED, API_ANY, API_IF_TRUE, NULL, 0, 0, 0, "the type of keys and values is the operator's"},
    {"logits_all", API_REFUSED, API_ANY, API_IF_FALSE, NULL, 0, 0, 0, "logits are not given out"},
    {"vocab_only", API_REFUSED, API_ANY, API_IF_FALSE, NULL, 0, 0, 0, "models are served whole"},
};
static const api_fields option_fields = API_FIELDS("Ollama's `options`", option_rows);

static bool read_options(api_reader *r, const api_field *f, json_t *v)
{
    const api_fields *sets[] = {&option_fields};
    (void)f;
    r->where = "options.";
    if (!api_read_object(r, v, sets, 1)) return false;
    r->where = "";
    return true;
}

static const api_field both_rows[] = {
    {"model", API_HONOURED, API_TEXT, 0, api_read_model, 0, 0, 0, "required; NAME or NAME:latest"},
    {"stream", API_HONOURED, API_BOOL, 0, api_read_stream, 0, 0, 0, "default true"},
    {"options", API_HONOURED, API_OBJECT, 0, read_options, 0, 0, 0, "see below"},
    {"keep_alive", API_HONOURED, API_NUMBER | API_TEXT, 0, read_keep_alive, 0, 0, 0,
     "seconds, or a time such as \"5m\"; below 0 = forever; 0 = unload after this. Less than the operator's "
     "`keep_alive` "
     "takes a key with the right `admin`; else his counts. Models loaded at start stay"},
    {"think", API_HONOURED, API_BOOL | API_TEXT, 0, read_think, 0, 0, 0,
     "false: the template gets enable_thinking false; other values are refused until thoughts are told apart from "
     "answers"},
    {"logprobs", API_HONOURED, API_BOOL, 0, read_logprobs, 0, 0, 0, ""},
    {"top_logprobs", API_HONOURED, API_NUMBER, 0, api_read_count, API_AT(top_logprobs), 0, 20, "only with `logprobs`"},
    {"format", API_REFUSED, API_ANY, API_IF_EMPTY, NULL, 0, 0, 0, LATER_SCHEMA},
    {"truncate", API_REFUSED, API_ANY, API_IF_FALSE, NULL, 0, 0, 0,
     "a prompt is never cut: one that is too long is an error"},
    {"shift", API_REFUSED, API_ANY, API_IF_FALSE, NULL, 0, 0, 0,
     "a context is never shifted: an answer ends where it is full"},
};
static const api_fields both_fields = API_FIELDS("`/api/chat` and `/api/generate`", both_rows);

static const api_field chat_rows[] = {
    {"messages", API_HONOURED, API_LIST, 0, api_read_value, API_AT(messages), 0, 0,
     "see messages; none: the model is loaded, or unloaded with keep_alive 0 (403 without the right `admin`)"},
    {"tools", API_REFUSED, API_ANY, API_IF_EMPTY, NULL, 0, 0, 0, "tools are not supported yet"},
};
static const api_fields chat_fields = API_FIELDS("`/api/chat`", chat_rows);

static const api_field generate_rows[] = {
    {"prompt", API_HONOURED, API_TEXT, 0, read_prompt, 0, 0, 0,
     "none or empty: the model is loaded, or unloaded with keep_alive 0 (403 without the right `admin`)"},
    {"system", API_HONOURED, API_TEXT, 0, api_read_text, API_AT(system), 0, 0,
     "a system message before the prompt; not with `raw`"},
    {"raw", API_HONOURED, API_BOOL, 0, api_read_bool, API_AT(raw), 0, 0,
     "the prompt as it is, no template; texts of special tokens become those tokens"},
    {"context", API_HONOURED, API_LIST, 0, read_context, 0, 0, 0,
     "of an earlier answer: these tokens go before the prompt; not with `raw`"},
    {"template", API_REFUSED, API_ANY, API_IF_EMPTY, NULL, 0, 0, 0, "the model's own template is used; or send `raw`"},
    {"suffix", API_REFUSED, API_ANY, API_IF_EMPTY, NULL, 0, 0, 0, "fill-in-the-middle is not supported yet"},
    {"images", API_REFUSED, API_ANY, API_IF_EMPTY, NULL, 0, 0, 0, TEXT_ONLY},
    {"width", API_REFUSED, API_ANY, API_IF_ZERO, NULL, 0, 0, 0, "images are not made"},
    {"height", API_REFUSED, API_ANY, API_IF_ZERO, NULL, 0, 0, 0, "images are not made"},
    {"steps", API_REFUSED, API_ANY, API_IF_ZERO, NULL, 0, 0, 0, "images are not made"},
};
static const api_fields generate_fields = API_FIELDS("`/api/generate`", generate_rows);

static const api_field show_rows[] = {
    {"model", API_HONOURED, API_TEXT, 0, api_read_model, 0, 0, 0, "required"},
    {"name", API_HONOURED, API_TEXT, 0, api_read_model, 0, 0, 0, "an old name of `model`; both say the same"},
    {"verbose", API_HONOURED, API_BOOL, 0, read_verbose, 0, 0, 0, "only false"},
    {"system", API_REFUSED, API_ANY, API_IF_EMPTY, NULL, 0, 0, 0, "models are shown as they are"},
    {"template", API_REFUSED, API_ANY, API_IF_EMPTY, NULL, 0, 0, 0, "models are shown as they are"},
    {"options", API_REFUSED, API_ANY, API_IF_EMPTY, NULL, 0, 0, 0, "models are shown as they are"},
};
static const api_fields show_fields = API_FIELDS("`/api/show`", show_rows);

const api_fields *const api_ollama_tables[] = {&both_fields, &chat_fields, &generate_fields, &option_fields,
                                               &show_fields};
const size_t api_n_ollama_tables = SPARK_COUNT(api_ollama_tables);

/* ---- The routes ---- */

static bool ollama_read(api_reader *r, json_t *body, const api_fields *own)
{
    const api_fields *sets[] = {own, &both_fields};
    spark_sampling *s = &r->ask.generate.sampling;
    s->top_p = 0.9f;
    s->min_p = 0;
    r->call->stream = true;
    if (!api_read_object(r, body, sets, SPARK_COUNT(sets)) || !api_need_model(r)) return false;
    if (r->top_logprobs && !r->has_logprobs)
        return api_bad(r, "invalid_value", "top_logprobs", "'top_logprobs' is only allowed when 'logprobs' is true");
    r->call->logprobs = r->has_logprobs;
    r->call->n_top = r->top_logprobs;
    r->ask.generate.n_logprobs = !r->has_logprobs ? 0 : r->top_logprobs ? r->top_logprobs : 1;
    r->ask.generate.max_tokens = r->max_tokens;
    return true;
}

/* A request without a prompt only loads the model, or lets it go. */
static bool ollama_load(api_reader *r)
{
    r->call->load = r->call->keep_alive_ms == 0 ? API_LOAD_NO_MORE : API_LOAD_NOW;
    return true;
}

static bool ollama_thinking(api_reader *r)
{
    return !r->no_thinking || json_object_set_new_nocheck(r->vars, "enable_thinking", json_false()) == 0 ||
           api_no_memory(r);
}

bool api_parse_ollama_chat(api_reader *r, json_t *body)
{
    if (!ollama_read(r, body, &chat_fields)) return false;
    if (json_array_size(r->messages) == 0) return ollama_load(r);
    return api_take_messages(r, r->messages, false) && ollama_thinking(r) && api_take_vars(r, SPARK_ASK_CHAT) &&
           api_make_asks(r, 1, 1);
}

static json_t *generate_message(const char *role, spark_bytes text)
{
    return json_pack("{s:s, s:s%}", "role", role, "content", (const char *)text.ptr, text.len);
}

/* The prompt as a conversation of one turn. */
static bool generate_messages(api_reader *r)
{
    json_t *list = json_array();
    bool ok = list != NULL;
    r->vars = json_object();
    if (ok && r->system.len) ok = json_array_append_new(list, generate_message("system", r->system)) == 0;
    if (ok) ok = json_array_append_new(list, generate_message("user", r->content)) == 0;
    if (ok) ok = r->vars && json_object_set_nocheck(r->vars, "messages", list) == 0;
    json_decref(list);
    return ok || api_no_memory(r);
}

bool api_parse_ollama_generate(api_reader *r, json_t *body)
{
    if (!ollama_read(r, body, &generate_fields)) return false;
    if (r->content.len == 0) return ollama_load(r);
    r->call->context = !r->raw;
    r->ask.prompt_ids = !r->raw;
    if (r->raw) {
        if (r->system.len || r->ask.n_ids)
            return api_bad(r, "invalid_value", "raw", "'raw' does not go together with 'system' or 'context'");
        r->ask.kind = SPARK_ASK_TEXT;
        r->ask.parse_special = true;
        r->ask.text = r->content;
        return api_make_asks(r, 1, 1);
    }
    return generate_messages(r) && ollama_thinking(r) && api_take_vars(r, SPARK_ASK_CHAT) && api_make_asks(r, 1, 1);
}

bool api_parse_show(api_reader *r, json_t *body)
{
    const api_fields *sets[] = {&show_fields};
    return api_read_object(r, body, sets, 1) && api_need_model(r);
}
