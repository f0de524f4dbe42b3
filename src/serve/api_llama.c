/* api_llama.c - llama-server's own routes: their fields, and from bodies to asks.
 * Contract: the server README of llama.cpp. Defaults are llama.cpp's, which are ours too (spark_generate_options_defaults). */
#include "serve/api_internal.h"

#define SAMPLING(m) API_AT(ask.generate.sampling.m)
#define NO_SHIFT    "only speaks of cutting a context that is full: that is an error here"
#define EXACT       "speculation never changes an answer"

/* ---- Readers of single fields ---- */

/* llama.cpp: below 0 is greedy. */
static bool read_temperature(api_reader *r, const api_field *f, json_t *v)
{
    if (!api_read_float(r, f, v)) return false;
    if (r->ask.generate.sampling.temperature < 0) r->ask.generate.sampling.temperature = 0;
    return true;
}

static bool read_n_probs(api_reader *r, const api_field *f, json_t *v)
{
    if (!api_read_count(r, f, v)) return false;
    r->call->logprobs = r->n_probs > 0;
    r->call->n_top = r->n_probs;
    r->ask.generate.n_logprobs = r->n_probs;
    return true;
}

static bool read_return_tokens(api_reader *r, const api_field *f, json_t *v)
{
    (void)f;
    r->call->return_tokens = json_is_true(v);
    return true;
}

/* A list of texts that must be the one list that holds anyway. */
static bool read_fixed_list(api_reader *r, const api_field *f, json_t *v, const char *const *texts, size_t n)
{
    bool same = json_array_size(v) == n || json_array_size(v) == 0;
    for (size_t i = 0; same && i < json_array_size(v); i++) {
        const char *s = json_string_value(json_array_get(v, i));
        same = s && strcmp(s, texts[i]) == 0;
    }
    return same || api_bad(r, "unsupported_parameter", f->name, "'%s' is refused: %s", f->name, f->note);
}

static bool read_samplers(api_reader *r, const api_field *f, json_t *v)
{
    static const char *const order[] = {"penalties", "dry",   "top_n_sigma", "top_k",      "typ_p",
                                        "top_p",     "min_p", "xtc",         "temperature"};
    return read_fixed_list(r, f, v, order, SPARK_COUNT(order));
}

static bool read_breakers(api_reader *r, const api_field *f, json_t *v)
{
    static const char *const breakers[] = {"\n", ":", "\"", "*"};
    return read_fixed_list(r, f, v, breakers, SPARK_COUNT(breakers));
}

/* ---- Fields ---- */

static const api_field completion_rows[] = {
    {"prompt", API_HONOURED, API_TEXT | API_LIST, 0, api_read_value, API_AT(prompt), 0, 0,
     "text, texts, ids, or lists of ids; not mixed. Texts of special tokens become those tokens"},
    {"model", API_HONOURED, API_TEXT, 0, api_read_model, 0, 0, 0, "default: the first model"},
    {"temperature", API_HONOURED, API_NUMBER, 0, read_temperature, SAMPLING(temperature), -1e4, 1e4,
     "default 0.8; 0 and below = greedy"},
    {"top_p", API_HONOURED, API_NUMBER, 0, api_read_float, SAMPLING(top_p), 0, 1, "default 0.95"},
    {"n_predict", API_HONOURED, API_NUMBER, 0, api_read_max, API_AT(max_tokens), -2, 0,
     "default -1 = until the model or the context ends; 0 is refused"},
    {"max_tokens", API_HONOURED, API_NUMBER, 0, api_read_max, API_AT(max_tokens), -2, 0, "another name of `n_predict`"},
    {"n_cmpl", API_HONOURED, API_NUMBER, 0, api_read_count, API_AT(n), 1, SPARK_MAX_CHOICES, "answers to each prompt"},
    {"n", API_HONOURED, API_NUMBER, 0, api_read_count, API_AT(n), 1, SPARK_MAX_CHOICES, "another name of `n_cmpl`"},
    {"stream", API_HONOURED, API_BOOL, 0, api_read_stream, 0, 0, 0, ""},
    {"stop", API_HONOURED, API_TEXT | API_LIST, 0, api_read_stop, 0, 0, 0, "up to 64 texts of 1 to 1024 bytes"},
    {"seed", API_HONOURED, API_NUMBER, 0, api_read_seed, 0, -1, 0, "below 0 or none: a random one"},
    {"presence_penalty", API_HONOURED, API_NUMBER, 0, api_read_float, SAMPLING(presence_penalty), -1e3, 1e3, ""},
    {"frequency_penalty", API_HONOURED, API_NUMBER, 0, api_read_float, SAMPLING(frequency_penalty), -1e3, 1e3, ""},
    {"logit_bias", API_HONOURED, API_LIST | API_OBJECT, 0, api_read_bias, 0, -1e6, 1e6,
     "[[id, bias], [id, false], ...] or {\"id\": bias}; texts instead of ids are refused"},
    {"n_probs", API_HONOURED, API_NUMBER, 0, read_n_probs, API_AT(n_probs), 0, SPARK_MAX_LOGPROBS,
     "log-probabilities before all filters"},
    {"return_tokens", API_HONOURED, API_BOOL, 0, read_return_tokens, 0, 0, 0, "a stream has them always"},
    {"samplers", API_HONOURED, API_LIST, 0, read_samplers, 0, 0, 0,
     "the order is fixed: penalties, dry, top_n_sigma, top_k, typ_p, top_p, min_p, xtc, temperature"},
    {"dry_sequence_breakers", API_HONOURED, API_LIST, 0, read_breakers, 0, 0, 0,
     "the breakers are fixed: newline, colon, quote, star"},
    {"n_keep", API_NEUTRAL, API_NUMBER, 0, NULL, 0, 0, 0, NO_SHIFT},
    {"n_discard", API_NEUTRAL, API_NUMBER, 0, NULL, 0, 0, 0, NO_SHIFT},
    {"n_cache_reuse", API_NEUTRAL, API_NUMBER, 0, NULL, 0, 0, 0, "a hint for speed"},
    {"mirostat_tau", API_NEUTRAL, API_NUMBER, 0, NULL, 0, 0, 0, "only speaks of mirostat"},
    {"mirostat_eta", API_NEUTRAL, API_NUMBER, 0, NULL, 0, 0, 0, "only speaks of mirostat"},
    {"speculative.n_max", API_NEUTRAL, API_NUMBER, 0, NULL, 0, 0, 0, EXACT},
    {"speculative.n_min", API_NEUTRAL, API_NUMBER, 0, NULL, 0, 0, 0, EXACT},
    {"speculative.p_min", API_NEUTRAL, API_NUMBER, 0, NULL, 0, 0, 0, EXACT},
    {"id_slot", API_REFUSED, API_ANY, API_IF_MINUS_ONE, NULL, 0, 0, 0, "slots are not chosen by clients; -1 is taken"},
    {"mirostat", API_REFUSED, API_ANY, API_IF_ZERO, NULL, 0, 0, 0, "mirostat is not supported; 0 is taken"},
    {"n_indent", API_REFUSED, API_ANY, API_IF_ZERO, NULL, 0, 0, 0, "indentation is not supported; 0 is taken"},
    {"t_max_predict_ms", API_REFUSED, API_ANY, API_IF_ZERO | API_IF_MINUS_ONE, NULL, 0, 0, 0,
     "a time would decide the answer; 0 and -1 are taken. X-Request-Timeout-Ms bounds a request"},
    {"grammar", API_REFUSED, API_ANY, API_IF_EMPTY, NULL, 0, 0, 0, "grammars are not supported yet"},
    {"json_schema", API_REFUSED, API_ANY, 0, NULL, 0, 0, 0, "structured output is not supported yet"},
    {"lora", API_REFUSED, API_ANY, API_IF_EMPTY, NULL, 0, 0, 0, "adapters are not supported yet"},
    {"image_data", API_REFUSED, API_ANY, API_IF_EMPTY, NULL, 0, 0, 0, "models here read text only"},
    {"timings_per_token", API_REFUSED, API_ANY, API_IF_FALSE, NULL, 0, 0, 0, "timings come at the end"},
    {"return_progress", API_REFUSED, API_ANY, API_IF_FALSE, NULL, 0, 0, 0, "progress of a prompt is not told"},
    {"post_sampling_probs", API_REFUSED, API_ANY, API_IF_FALSE, NULL, 0, 0, 0,
     "log-probabilities are those before all filters"},
    {"response_fields", API_REFUSED, API_ANY, API_IF_EMPTY, NULL, 0, 0, 0, "replies are always whole"},
    {"sse_ping_interval", API_REFUSED, API_ANY, 0, NULL, 0, 0, 0, "the interval is the server's"},
};
static const api_fields completion_fields = API_FIELDS("`/completion`", completion_rows);

static bool read_with_pieces(api_reader *r, const api_field *f, json_t *v)
{
    (void)f;
    r->call->pieces = r->ask.pieces = json_is_true(v);
    return true;
}

static const api_field tokenize_rows[] = {
    {"content", API_HONOURED, API_TEXT, 0, api_read_value, API_AT(prompt), 0, 0, "required"},
    {"model", API_HONOURED, API_TEXT, 0, api_read_model, 0, 0, 0, "default: the first model"},
    {"add_special", API_HONOURED, API_BOOL, 0, api_read_bool, API_AT(ask.add_special), 0, 0, "default false"},
    {"parse_special", API_HONOURED, API_BOOL, 0, api_read_bool, API_AT(ask.parse_special), 0, 0, "default true"},
    {"with_pieces", API_HONOURED, API_BOOL, 0, read_with_pieces, 0, 0, 0,
     "each id with its text, or its bytes if that is none"},
};
static const api_fields tokenize_fields = API_FIELDS("`/tokenize`", tokenize_rows);

static const api_field detokenize_rows[] = {
    {"tokens", API_HONOURED, API_LIST, 0, api_read_value, API_AT(prompt), 0, 0, "required; ids"},
    {"model", API_HONOURED, API_TEXT, 0, api_read_model, 0, 0, 0, "default: the first model"},
};
static const api_fields detokenize_fields = API_FIELDS("`/detokenize`", detokenize_rows);

const api_fields *const api_llama_tables[] = {&completion_fields, &tokenize_fields, &detokenize_fields};
const size_t api_n_llama_tables = SPARK_COUNT(api_llama_tables);

/* ---- The routes ---- */

bool api_parse_completion(api_reader *r, json_t *body)
{
    const api_fields *sets[] = {&completion_fields, &api_fields_sampling};
    r->ask.parse_special = true;
    if (!api_read_object(r, body, sets, SPARK_COUNT(sets))) return false;
    r->ask.generate.max_tokens = r->max_tokens;
    return api_take_prompts(r, r->n);
}

bool api_parse_tokenize(api_reader *r, json_t *body)
{
    const api_fields *sets[] = {&tokenize_fields};
    r->ask.kind = SPARK_ASK_TOKENIZE;
    r->ask.add_special = false;
    r->ask.parse_special = true;
    if (!api_read_object(r, body, sets, 1)) return false;
    if (!r->prompt) return api_bad(r, "missing_required_parameter", "content", "'content' is missing");
    return api_copy(r, r->prompt, &r->ask.text) && api_make_asks(r, 1, 1);
}

bool api_parse_detokenize(api_reader *r, json_t *body)
{
    const api_fields *sets[] = {&detokenize_fields};
    r->ask.kind = SPARK_ASK_DETOKENIZE;
    if (!api_read_object(r, body, sets, 1)) return false;
    if (!r->prompt) return api_bad(r, "missing_required_parameter", "tokens", "'tokens' is missing");
    return api_ids(r, "tokens", r->prompt, &r->ask.ids, &r->ask.n_ids) && api_make_asks(r, 1, 1);
}
