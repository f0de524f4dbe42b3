/* api_openai.c - /v1/chat/completions and /v1/completions: their fields, and from bodies to asks.
 * Contract: OpenAI's published description; beside it the sampling fields that clients of vLLM and llama-server send.
 * Defaults are OpenAI's: temperature 1, top_p 1, nothing else filters, penalties count the whole context. */
#include <inttypes.h>
#include <stdio.h>

#include "serve/api_internal.h"

#define LATER_TOOLS  "tools are not supported yet"
#define LATER_SCHEMA "structured output is not supported yet; only {\"type\": \"text\"} is taken"
#define TEXT_ONLY    "models here read and write text only"
#define SAMPLING(m)  API_AT(ask.generate.sampling.m)

/* ---- Readers of single fields ---- */

static bool read_response_format(api_reader *r, const api_field *f, json_t *v)
{
    const char *type = json_string_value(json_object_get(v, "type"));
    if (type && strcmp(type, "text") == 0 && json_object_size(v) == 1) return true;
    return api_bad(r, "unsupported_parameter", f->name, "'%s' is refused: " LATER_SCHEMA, f->name);
}

static bool read_modalities(api_reader *r, const api_field *f, json_t *v)
{
    for (size_t i = 0; i < json_array_size(v); i++) {
        const char *s = json_string_value(json_array_get(v, i));
        if (!s || strcmp(s, "text") != 0)
            return api_bad(r, "unsupported_parameter", f->name, "'%s' is refused: " TEXT_ONLY, f->name);
    }
    return true;
}

static bool read_verbosity(api_reader *r, const api_field *f, json_t *v)
{
    if (strcmp(json_string_value(v), "medium") == 0) return true;
    return api_bad(r, "unsupported_parameter", f->name,
                   "'%s' is refused: models here have one verbosity; only \"medium\" is taken", f->name);
}

static bool read_logprobs_flag(api_reader *r, const api_field *f, json_t *v)
{
    (void)f;
    r->has_logprobs = json_is_true(v);
    return true;
}

static bool read_top_logprobs(api_reader *r, const api_field *f, json_t *v)
{
    r->has_top_logprobs = true;
    return api_read_count(r, f, v);
}

static bool read_logprobs_count(api_reader *r, const api_field *f, json_t *v)
{
    r->has_logprobs = true;
    return api_read_count(r, f, v);
}

static bool read_best_of(api_reader *r, const api_field *f, json_t *v)
{
    r->has_best_of = true;
    return api_read_count(r, f, v);
}

static bool read_include_usage(api_reader *r, const api_field *f, json_t *v)
{
    (void)f;
    r->call->include_usage = json_is_true(v);
    return true;
}

static bool read_include_obfuscation(api_reader *r, const api_field *f, json_t *v)
{
    (void)f;
    r->call->include_obfuscation = json_is_true(v);
    return true;
}

static const api_field stream_option_rows[] = {
    {"include_usage", API_HONOURED, API_BOOL, 0, read_include_usage, 0, 0, 0, "a last chunk with the usage"},
    {"include_obfuscation", API_HONOURED, API_BOOL, 0, read_include_obfuscation, 0, 0, 0,
     "pads each chunk to a multiple of 64 bytes; default false, where OpenAI's service has true"},
};
static const api_fields stream_option_fields = API_FIELDS("`stream_options`", stream_option_rows);

static bool read_stream_options(api_reader *r, const api_field *f, json_t *v)
{
    const api_fields *sets[] = {&stream_option_fields};
    const char *where = r->where;
    (void)f;
    r->stream_options = true;
    r->where = "stream_options.";
    if (!api_read_object(r, v, sets, 1)) return false;
    r->where = where;
    return true;
}

static bool read_add_generation_prompt(api_reader *r, const api_field *f, json_t *v)
{
    (void)f;
    r->has_generation_prompt = true;
    r->generation_prompt = json_is_true(v);
    return true;
}

/* ---- Fields ---- */

static const api_field sampling_rows[] = {
    {"top_k", API_HONOURED, API_NUMBER, 0, api_read_top_k, SAMPLING(top_k), 0, SPARK_MAX_VOCAB, "0 and below = off"},
    {"min_p", API_HONOURED, API_NUMBER, 0, api_read_float, SAMPLING(min_p), 0, 1, ""},
    {"typical_p", API_HONOURED, API_NUMBER, 0, api_read_float, SAMPLING(typical_p), 0, 1, "1 = off"},
    {"top_n_sigma", API_HONOURED, API_NUMBER, 0, api_read_float, SAMPLING(top_n_sigma), -1, 1e4, "-1 = off"},
    {"xtc_probability", API_HONOURED, API_NUMBER, 0, api_read_float, SAMPLING(xtc_probability), 0, 1, ""},
    {"xtc_threshold", API_HONOURED, API_NUMBER, 0, api_read_float, SAMPLING(xtc_threshold), 0, 1, ""},
    {"dynatemp_range", API_HONOURED, API_NUMBER, 0, api_read_float, SAMPLING(dynatemp_range), 0, 1e4, ""},
    {"dynatemp_exponent", API_HONOURED, API_NUMBER, 0, api_read_float, SAMPLING(dynatemp_exponent), 0, 1e4, ""},
    {"min_keep", API_HONOURED, API_NUMBER, 0, api_read_count, SAMPLING(min_keep), 0, SPARK_MAX_VOCAB,
     "how many tokens each filter leaves at least"},
    {"repeat_penalty", API_HONOURED, API_NUMBER, 0, api_read_float, SAMPLING(repeat_penalty), 1e-3, 1e3, "1 = off"},
    {"repetition_penalty", API_HONOURED, API_NUMBER, 0, api_read_float, SAMPLING(repeat_penalty), 1e-3, 1e3,
     "vLLM's name of `repeat_penalty`"},
    {"repeat_last_n", API_HONOURED, API_NUMBER, 0, api_read_last_n, SAMPLING(penalty_last_n), -1, SPARK_MAX_CTX,
     "tokens that penalties count; -1 = the whole context"},
    {"dry_multiplier", API_HONOURED, API_NUMBER, 0, api_read_float, SAMPLING(dry_multiplier), 0, 1e3, "0 = off"},
    {"dry_base", API_HONOURED, API_NUMBER, 0, api_read_float, SAMPLING(dry_base), 1, 1e3, ""},
    {"dry_allowed_length", API_HONOURED, API_NUMBER, 0, api_read_count, SAMPLING(dry_allowed_length), 0, SPARK_MAX_CTX,
     ""},
    {"dry_penalty_last_n", API_HONOURED, API_NUMBER, 0, api_read_last_n, SAMPLING(dry_last_n), -1, SPARK_MAX_CTX,
     "-1 = the whole context"},
    {"ignore_eos", API_HONOURED, API_BOOL, 0, api_read_bool, API_AT(ask.generate.ignore_eog), 0, 0,
     "goes on after the model's end token"},
    {"cache_prompt", API_HONOURED, API_BOOL, 0, api_read_bool, API_AT(ask.cache), 0, 0,
     "false: neither uses nor fills the prefix cache (which never changes an answer)"},
};
const api_fields api_fields_sampling = API_FIELDS("Sampling, on all routes of OpenAI and llama-server that generate",
                                                  sampling_rows);

/* What both routes have. */
static const api_field common_rows[] = {
    {"model", API_HONOURED, API_TEXT, 0, api_read_model, 0, 0, 0, "required"},
    {"temperature", API_HONOURED, API_NUMBER, 0, api_read_float, SAMPLING(temperature), 0, 2, "default 1; 0 = greedy"},
    {"top_p", API_HONOURED, API_NUMBER, 0, api_read_float, SAMPLING(top_p), 0, 1, "default 1"},
    {"n", API_HONOURED, API_NUMBER, 0, api_read_count, API_AT(n), 1, SPARK_MAX_CHOICES,
     "answers to each prompt; with `seed` s the seeds are s, s + 1, ..."},
    {"stop", API_HONOURED, API_TEXT | API_LIST, 0, api_read_stop, 0, 0, 0,
     "text or up to 64 texts (OpenAI: 4) of 1 to 1024 bytes"},
    {"max_tokens", API_HONOURED, API_NUMBER, 0, api_read_max, API_AT(max_tokens), -1, 0,
     "-1 = until the model or the context ends"},
    {"presence_penalty", API_HONOURED, API_NUMBER, 0, api_read_float, SAMPLING(presence_penalty), -2, 2, ""},
    {"frequency_penalty", API_HONOURED, API_NUMBER, 0, api_read_float, SAMPLING(frequency_penalty), -2, 2, ""},
    {"logit_bias", API_HONOURED, API_OBJECT, 0, api_read_bias, 0, -100, 100, "{\"token id\": -100 to 100}"},
    {"seed", API_HONOURED, API_NUMBER, 0, api_read_seed, 0, 0, 0, "the same request and seed give the same bytes"},
    {"stream", API_HONOURED, API_BOOL, 0, api_read_stream, 0, 0, 0, ""},
    {"stream_options", API_HONOURED, API_OBJECT, 0, read_stream_options, 0, 0, 0, "only with `stream`"},
    {"cache_salt", API_HONOURED, API_TEXT, 0, api_read_text, API_AT(cache_salt), 0, 0,
     "any text: this request neither uses nor fills the prefix cache"},
    {"user", API_NEUTRAL, API_TEXT, 0, NULL, 0, 0, 0, "tenants are told apart by their keys"},
    {"safety_identifier", API_NEUTRAL, API_TEXT, 0, NULL, 0, 0, 0, "as `user`"},
    {"prompt_cache_key", API_NEUTRAL, API_TEXT, 0, NULL, 0, 0, 0, "the prefix cache goes by content within a tenant"},
    {"metadata", API_NEUTRAL, API_OBJECT, 0, NULL, 0, 0, 0, "nothing is stored"},
    {"priority", API_REFUSED, API_ANY, API_IF_ZERO, NULL, 0, 0, 0, "priorities are the operator's, by key"},
};
static const api_fields common_fields = API_FIELDS("Both OpenAI routes", common_rows);

static const api_field chat_rows[] = {
    {"messages", API_HONOURED, API_LIST, 0, api_read_value, API_AT(messages), 0, 0, "required; see messages below"},
    {"max_completion_tokens", API_HONOURED, API_NUMBER, 0, api_read_max, API_AT(max_completion_tokens), -1, 0,
     "as `max_tokens`"},
    {"logprobs", API_HONOURED, API_BOOL, 0, read_logprobs_flag, 0, 0, 0, ""},
    {"top_logprobs", API_HONOURED, API_NUMBER, 0, read_top_logprobs, API_AT(top_logprobs), 0, 20,
     "only with `logprobs`"},
    {"chat_template_kwargs", API_HONOURED, API_OBJECT, 0, api_read_value, API_AT(kwargs), 0, 0,
     "variables for the model's template, such as enable_thinking"},
    {"add_generation_prompt", API_HONOURED, API_BOOL, 0, read_add_generation_prompt, 0, 0, 0, "default true"},
    {"response_format", API_HONOURED, API_OBJECT, 0, read_response_format, 0, 0, 0,
     "{\"type\": \"text\"}; " LATER_SCHEMA},
    {"modalities", API_HONOURED, API_LIST, 0, read_modalities, 0, 0, 0, "[\"text\"]"},
    {"verbosity", API_HONOURED, API_TEXT, 0, read_verbosity, 0, 0, 0, "\"medium\""},
    {"parallel_tool_calls", API_NEUTRAL, API_BOOL, 0, NULL, 0, 0, 0, "speaks of tools"},
    {"prediction", API_NEUTRAL, API_OBJECT, 0, NULL, 0, 0, 0, "a hint for speed; never changes an answer"},
    {"prompt_cache_retention", API_NEUTRAL, API_TEXT, 0, NULL, 0, 0, 0, "a hint for speed"},
    {"prompt_cache_options", API_NEUTRAL, API_OBJECT, 0, NULL, 0, 0, 0, "a hint for speed"},
    {"store", API_REFUSED, API_ANY, API_IF_FALSE, NULL, 0, 0, 0, "nothing is ever stored"},
    {"service_tier", API_REFUSED, API_ANY, API_IF_AUTO, NULL, 0, 0, 0,
     "there is one tier; \"auto\" and \"default\" are taken"},
    {"tools", API_REFUSED, API_ANY, API_IF_EMPTY, NULL, 0, 0, 0, LATER_TOOLS},
    {"tool_choice", API_REFUSED, API_ANY, API_IF_NONE | API_IF_AUTO, NULL, 0, 0, 0, LATER_TOOLS},
    {"functions", API_REFUSED, API_ANY, API_IF_EMPTY, NULL, 0, 0, 0, LATER_TOOLS},
    {"function_call", API_REFUSED, API_ANY, API_IF_NONE | API_IF_AUTO, NULL, 0, 0, 0, LATER_TOOLS},
    {"reasoning_effort", API_REFUSED, API_ANY, 0, NULL, 0, 0, 0,
     "what it means is the template's: send it in chat_template_kwargs, if the model's template reads it"},
    {"web_search_options", API_REFUSED, API_ANY, 0, NULL, 0, 0, 0, "this server reaches no network"},
    {"audio", API_REFUSED, API_ANY, 0, NULL, 0, 0, 0, TEXT_ONLY},
    {"moderation", API_REFUSED, API_ANY, API_IF_FALSE, NULL, 0, 0, 0, "moderation is not supported"},
    {"grammar", API_REFUSED, API_ANY, API_IF_EMPTY, NULL, 0, 0, 0, "grammars are not supported yet"},
    {"json_schema", API_REFUSED, API_ANY, 0, NULL, 0, 0, 0, "structured output is not supported yet"},
    {"structured_outputs", API_REFUSED, API_ANY, API_IF_EMPTY, NULL, 0, 0, 0, "structured output is not supported yet"},
    {"continue_final_message", API_REFUSED, API_ANY, API_IF_FALSE, NULL, 0, 0, 0,
     "an answer is always a turn of its own"},
};
static const api_fields chat_fields = API_FIELDS("`/v1/chat/completions`", chat_rows);

static const api_field completions_rows[] = {
    {"prompt", API_HONOURED, API_TEXT | API_LIST, 0, api_read_value, API_AT(prompt), 0, 0,
     "required; text, texts, ids, or lists of ids. Texts of special tokens become those tokens, as in llama-server and "
     "vLLM"},
    {"echo", API_HONOURED, API_BOOL, 0, api_read_bool, API_AT(ask.echo), 0, 0, "not together with `logprobs`"},
    {"logprobs", API_HONOURED, API_NUMBER, 0, read_logprobs_count, API_AT(top_logprobs), 0, 20, "OpenAI: up to 5"},
    {"best_of", API_HONOURED, API_NUMBER, 0, read_best_of, API_AT(best_of), 1, SPARK_MAX_CHOICES,
     "only the same as `n`: no answer is thrown away"},
    {"add_special_tokens", API_HONOURED, API_BOOL, 0, api_read_bool, API_AT(ask.add_special), 0, 0,
     "default true: BOS, where the vocabulary asks for it"},
    {"suffix", API_REFUSED, API_ANY, API_IF_EMPTY, NULL, 0, 0, 0, "fill-in-the-middle is not supported yet"},
    {"grammar", API_REFUSED, API_ANY, API_IF_EMPTY, NULL, 0, 0, 0, "grammars are not supported yet"},
    {"json_schema", API_REFUSED, API_ANY, 0, NULL, 0, 0, 0, "structured output is not supported yet"},
};
static const api_fields completions_fields = API_FIELDS("`/v1/completions`", completions_rows);

static bool read_role(api_reader *r, const api_field *f, json_t *v);

static const api_field message_rows[] = {
    {"role", API_HONOURED, API_TEXT, 0, read_role, 0, 0, 0,
     "system, developer (given to the template as system), user, assistant; tool and function with tools"},
    {"content", API_HONOURED, API_TEXT | API_LIST, 0, api_read_value, API_AT(part_content), 0, 0,
     "text, or parts of type `text`, which are joined by newlines; other parts are refused"},
    {"name", API_HONOURED, API_TEXT, 0, api_read_value, API_AT(part_name), 0, 0, "given to the template"},
    {"reasoning_content", API_HONOURED, API_TEXT, 0, api_read_value, API_AT(part_reasoning), 0, 0,
     "given to the template"},
    {"reasoning", API_HONOURED, API_TEXT, 0, api_read_value, API_AT(part_reasoning), 0, 0,
     "another name of `reasoning_content`"},
    {"thinking", API_HONOURED, API_TEXT, 0, api_read_value, API_AT(part_reasoning), 0, 0, "Ollama's name of it"},
    {"annotations", API_NEUTRAL, API_LIST, 0, NULL, 0, 0, 0, "comes back from earlier answers"},
    {"refusal", API_REFUSED, API_ANY, API_IF_EMPTY, NULL, 0, 0, 0, "put the text into `content`"},
    {"audio", API_REFUSED, API_ANY, 0, NULL, 0, 0, 0, TEXT_ONLY},
    {"images", API_REFUSED, API_ANY, API_IF_EMPTY, NULL, 0, 0, 0, TEXT_ONLY},
    {"tool_calls", API_REFUSED, API_ANY, API_IF_EMPTY, NULL, 0, 0, 0, LATER_TOOLS},
    {"tool_call_id", API_REFUSED, API_ANY, API_IF_EMPTY, NULL, 0, 0, 0, LATER_TOOLS},
    {"tool_name", API_REFUSED, API_ANY, API_IF_EMPTY, NULL, 0, 0, 0, LATER_TOOLS},
    {"function_call", API_REFUSED, API_ANY, 0, NULL, 0, 0, 0, LATER_TOOLS},
};
const api_fields api_fields_message = API_FIELDS("A message, on every route that takes messages", message_rows);

const api_fields *const api_openai_tables[] = {&common_fields,        &chat_fields,         &completions_fields,
                                               &stream_option_fields, &api_fields_sampling, &api_fields_message};
const size_t api_n_openai_tables = SPARK_COUNT(api_openai_tables);

/* ---- Messages ---- */

static bool read_role(api_reader *r, const api_field *f, json_t *v)
{
    static const char *const roles[] = {"system", "user", "assistant", "developer"};
    const char *role = json_string_value(v);
    for (size_t i = 0; i < SPARK_COUNT(roles); i++)
        if (strcmp(role, roles[i]) == 0) return true;
    if (strcmp(role, "tool") == 0 || strcmp(role, "function") == 0)
        return api_bad(r, "unsupported_parameter", f->name, "'%srole' is '%s': " LATER_TOOLS, r->where, role);
    return api_bad(r, "invalid_value", f->name, "'%srole' is '%.40s': system, developer, user or assistant is allowed",
                   r->where, role);
}

/* The text of a list of parts, joined by newlines as llama-server and vLLM do. */
static json_t *message_join(api_reader *r, json_t *parts)
{
    api_out text;
    json_t *joined = NULL;
    bool ok = true;
    api_out_init(&text, SPARK_MAX_ASK);
    for (size_t i = 0; ok && i < json_array_size(parts); i++) {
        const json_t *part = json_array_get(parts, i), *s = json_object_get(part, "text");
        const char *type = json_string_value(json_object_get(part, "type"));
        if (!type || strcmp(type, "text") != 0)
            ok = api_bad(r, "unsupported_parameter", "content",
                         "'%scontent' has a part of type '%.40s': only text is supported", r->where, type ? type : "");
        else if (!json_is_string(s) || json_object_size(part) != 2)
            ok = api_bad(r, "invalid_value", "content",
                         "a text part of '%scontent' must have 'type' and 'text', and nothing else", r->where);
        if (ok && i) api_out_str(&text, "\n");
        if (ok) api_out_raw(&text, json_string_value(s), json_string_length(s));
    }
    if (ok) joined = json_stringn_nocheck(text.ptr ? (const char *)text.ptr : "", text.len);
    if (ok && (!joined || text.failed)) api_no_memory(r);
    if (text.failed) {
        json_decref(joined);
        joined = NULL;
    }
    api_out_free(&text);
    return joined;
}

static bool message_put(api_reader *r, json_t *to, const char *key, json_t *value)
{
    return json_object_set_new_nocheck(to, key, value) == 0 || api_no_memory(r); /* NULL fails too; value moves */
}

/* The message as templates get it: role, content as one text, and what else they may read. */
static bool message_build(api_reader *r, json_t *message, json_t *to)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    const bool assistant = role && strcmp(role, "assistant") == 0;
    if (!role) return api_bad(r, "missing_required_parameter", "role", "'%srole' is missing", r->where);
    if (!r->part_content && !assistant)
        return api_bad(r, "missing_required_parameter", "content", "'%scontent' is missing", r->where);
    if (strcmp(role, "developer") == 0) role = "system";
    if (!message_put(r, to, "role", json_string_nocheck(role))) return false;
    json_t *text = !r->part_content                 ? json_string_nocheck("")
                   : json_is_array(r->part_content) ? message_join(r, r->part_content)
                                                    : json_incref(r->part_content);
    if (!text) return false; /* message_join told why */
    if (!message_put(r, to, "content", text)) return false;
    if (r->part_name && !message_put(r, to, "name", json_incref(r->part_name))) return false;
    return !r->part_reasoning || message_put(r, to, "reasoning_content", json_incref(r->part_reasoning));
}

static bool take_message(api_reader *r, json_t *message, json_t *list)
{
    const api_fields *sets[] = {&api_fields_message};
    if (!json_is_object(message))
        return api_bad(r, "invalid_type", "", "'%.*s' must be an object", (int)strlen(r->where) - 1, r->where);
    r->part_content = r->part_name = r->part_reasoning = NULL;
    if (!api_read_object(r, message, sets, 1)) return false;
    json_t *to = json_object();
    if (!to) return api_no_memory(r);
    if (!message_build(r, message, to)) {
        json_decref(to);
        return false;
    }
    return json_array_append_new(list, to) == 0 || api_no_memory(r);
}

bool api_take_messages(api_reader *r, json_t *messages, bool may_be_empty)
{
    char where[40];
    const char *outer = r->where;
    json_t *list = json_array();
    bool ok = true;
    if (!list) return api_no_memory(r);
    if (!may_be_empty && json_array_size(messages) == 0)
        ok = api_bad(r, "invalid_value", "messages", "'messages' must hold at least one message");
    for (size_t i = 0; ok && i < json_array_size(messages); i++) {
        snprintf(where, sizeof where, "messages[%zu].", i);
        r->where = where;
        ok = take_message(r, json_array_get(messages, i), list);
        r->where = outer;
    }
    if (!r->vars) r->vars = json_object();
    if (ok && (!r->vars || json_object_set_nocheck(r->vars, "messages", list) != 0)) ok = api_no_memory(r);
    json_decref(list);
    return ok;
}

/* ---- Asks ---- */

bool api_take_vars(api_reader *r, spark_ask_kind kind)
{
    if (r->has_generation_prompt &&
        json_object_set_new_nocheck(r->vars, "add_generation_prompt", json_boolean(r->generation_prompt)) != 0)
        return api_no_memory(r);
    const size_t n = json_dumpb(r->vars, NULL, 0, JSON_COMPACT);
    char *text = NULL;
    if (n == 0 || !spark_ok(SPARK_NEW(r->arena, n + 1, &text, NULL))) return api_no_memory(r);
    if (json_dumpb(r->vars, text, n, JSON_COMPACT) != n) return api_no_memory(r);
    r->ask.kind = kind;
    r->ask.text = (spark_bytes){(const uint8_t *)text, n};
    return true;
}

bool api_make_asks(api_reader *r, uint32_t n_prompts, uint32_t n_each)
{
    api_call *c = r->call;
    if (n_prompts == 0 || (uint64_t)n_prompts * n_each > SPARK_MAX_CHOICES)
        return api_bad(r, "invalid_value", "n", "%u prompts with n %u: 1 to %u answers of one request are allowed",
                       n_prompts, n_each, SPARK_MAX_CHOICES);
    c->n_asks = n_prompts * n_each;
    c->n_each = n_each;
    if (!spark_ok(SPARK_NEW(r->arena, c->n_asks, &c->asks, NULL))) return api_no_memory(r);
    for (uint32_t i = 0; i < c->n_asks; i++) {
        c->asks[i] = r->ask;
        c->asks[i].random_seed = !r->has_seed;
        if (r->has_seed) c->asks[i].generate.sampling.seed += i % n_each;
    }
    return true;
}

static bool prompt_is_ids(const json_t *v) { return json_array_size(v) > 0 && json_is_number(json_array_get(v, 0)); }

static bool take_prompt(api_reader *r, json_t *v, spark_ask *ask)
{
    if (json_is_string(v)) {
        ask->kind = SPARK_ASK_TEXT;
        return api_copy(r, v, &ask->text);
    }
    if (!prompt_is_ids(v))
        return api_bad(r, "invalid_type", "prompt", "a prompt must be text or a list of token ids, and not empty");
    ask->kind = SPARK_ASK_IDS;
    return api_ids(r, "prompt", v, &ask->ids, &ask->n_ids);
}

bool api_take_prompts(api_reader *r, uint32_t n)
{
    json_t *p = r->prompt;
    const bool one = p && (json_is_string(p) || prompt_is_ids(p));
    if (!p) return api_bad(r, "missing_required_parameter", "prompt", "you must provide a prompt");
    const size_t n_prompts = one ? 1 : json_array_size(p);
    if (!api_make_asks(r, n_prompts > UINT32_MAX ? UINT32_MAX : (uint32_t)n_prompts, n)) return false;
    for (uint32_t i = 0; i < n_prompts; i++) {
        spark_ask *first = &r->call->asks[i * n];
        if (!take_prompt(r, one ? p : json_array_get(p, i), first)) return false;
        for (uint32_t k = 1; k < n; k++) {
            first[k].kind = first->kind;
            first[k].text = first->text;
            first[k].ids = first->ids;
            first[k].n_ids = first->n_ids;
        }
    }
    return true;
}

/* ---- The routes ---- */

static void openai_defaults(api_reader *r)
{
    spark_sampling *s = &r->ask.generate.sampling;
    s->temperature = 1;
    s->top_p = 1;
    s->min_p = 0;
    s->top_k = 0;
    s->penalty_last_n = SPARK_MAX_CTX;
}

static bool openai_read(api_reader *r, json_t *body, const api_fields *own)
{
    const api_fields *sets[] = {own, &common_fields, &api_fields_sampling};
    openai_defaults(r);
    if (!api_read_object(r, body, sets, SPARK_COUNT(sets)) || !api_need_model(r)) return false;
    if (r->stream_options && !r->call->stream)
        return api_bad(r, "invalid_value", "stream_options", "'stream_options' is only allowed when 'stream' is true");
    if (r->cache_salt.len) r->ask.cache = false;
    return true;
}

static void openai_logprobs(api_reader *r)
{
    if (!r->has_logprobs) return;
    r->call->logprobs = true;
    r->call->n_top = r->top_logprobs;
    r->ask.generate.n_logprobs = r->top_logprobs ? r->top_logprobs : 1; /* 0 would give none at all */
}

static bool chat_max_tokens(api_reader *r)
{
    if (r->has_max_tokens && r->has_max_completion_tokens && r->max_tokens != r->max_completion_tokens)
        return api_bad(r, "invalid_value", "max_tokens",
                       "'max_tokens' and 'max_completion_tokens' differ: send one of them");
    r->ask.generate.max_tokens = r->has_max_completion_tokens ? r->max_completion_tokens : r->max_tokens;
    return true;
}

/* Variables of the client's own, below those that the request has names for. */
static bool chat_kwargs(api_reader *r)
{
    static const char *const ours[] = {"messages", "tools", "add_generation_prompt", "bos_token", "eos_token"};
    for (size_t i = 0; i < SPARK_COUNT(ours); i++)
        if (json_object_get(r->kwargs, ours[i]))
            return api_bad(r, "invalid_value", "chat_template_kwargs", "'chat_template_kwargs' may not set '%s'",
                           ours[i]);
    return !r->kwargs || json_object_update(r->vars, r->kwargs) == 0 || api_no_memory(r);
}

bool api_parse_chat(api_reader *r, json_t *body)
{
    if (!openai_read(r, body, &chat_fields)) return false;
    if (r->has_top_logprobs && !r->has_logprobs)
        return api_bad(r, "invalid_value", "top_logprobs", "'top_logprobs' is only allowed when 'logprobs' is true");
    if (!r->messages) return api_bad(r, "missing_required_parameter", "messages", "you must provide messages");
    openai_logprobs(r);
    return chat_max_tokens(r) && api_take_messages(r, r->messages, false) && chat_kwargs(r) &&
           api_take_vars(r, SPARK_ASK_CHAT) && api_make_asks(r, 1, r->n);
}

bool api_parse_completions(api_reader *r, json_t *body)
{
    r->max_tokens = 16;
    r->ask.parse_special = true;
    if (!openai_read(r, body, &completions_fields)) return false;
    if (r->has_best_of && r->best_of != r->n)
        return api_bad(r, "unsupported_parameter", "best_of", "'best_of' is %u and 'n' %u: only the same is supported",
                       r->best_of, r->n);
    if (r->ask.echo && r->has_logprobs)
        return api_bad(r, "unsupported_parameter", "logprobs",
                       "'logprobs' together with 'echo' is not supported: a prompt's own "
                       "log-probabilities are not computed");
    openai_logprobs(r);
    r->ask.generate.max_tokens = r->max_tokens;
    return api_take_prompts(r, r->n);
}

bool api_parse_apply_template(api_reader *r, json_t *body)
{
    const api_fields *sets[] = {&chat_fields, &common_fields, &api_fields_sampling};
    if (!api_read_object(r, body, sets, SPARK_COUNT(sets))) return false;
    if (!r->messages) return api_bad(r, "missing_required_parameter", "messages", "you must provide messages");
    r->ask = (spark_ask){0};
    spark_ask_defaults(&r->ask);
    return api_take_messages(r, r->messages, false) && chat_kwargs(r) && api_take_vars(r, SPARK_ASK_TEMPLATE) &&
           api_make_asks(r, 1, 1);
}
