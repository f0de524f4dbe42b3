/* api_llama_reply.c - answers of llama-server's own routes. */
#include <inttypes.h>

#include "base/utf8.h"
#include "serve/api_internal.h"

static void llama_sampling(const spark_ask *a, api_out *o)
{
    const spark_sampling *s = &a->generate.sampling;
    const struct {
        const char *name;
        float value;
    } floats[] = {
        {"temperature", s->temperature},
        {"dynatemp_range", s->dynatemp_range},
        {"dynatemp_exponent", s->dynatemp_exponent},
        {"top_p", s->top_p},
        {"min_p", s->min_p},
        {"top_n_sigma", s->top_n_sigma},
        {"xtc_probability", s->xtc_probability},
        {"xtc_threshold", s->xtc_threshold},
        {"typical_p", s->typical_p},
        {"repeat_penalty", s->repeat_penalty},
        {"presence_penalty", s->presence_penalty},
        {"frequency_penalty", s->frequency_penalty},
        {"dry_multiplier", s->dry_multiplier},
        {"dry_base", s->dry_base},
    };
    api_out_fmt(
        o,
        "\"seed\":%" PRIu64
        ",\"top_k\":%u,\"repeat_last_n\":%u,\"dry_allowed_length\":%u,\"dry_penalty_last_n\":%u,\"min_keep\":%u",
        s->seed, s->top_k, s->penalty_last_n, s->dry_allowed_length, s->dry_last_n, s->min_keep);
    for (size_t i = 0; i < SPARK_COUNT(floats); i++) {
        api_out_fmt(o, ",\"%s\":", floats[i].name);
        api_out_float(o, (double)floats[i].value);
    }
}

static void llama_settings(const api_call *call, const spark_ask *a, api_out *o)
{
    const spark_generate_options *g = &a->generate;
    api_out_str(o, "{");
    llama_sampling(a, o);
    api_out_fmt(o, ",\"n_predict\":%" PRId64 ",\"n_probs\":%u,\"ignore_eos\":%s,\"stream\":%s,\"stop\":[",
                g->max_tokens ? (int64_t)g->max_tokens : INT64_C(-1), g->n_logprobs, g->ignore_eog ? "true" : "false",
                call->stream ? "true" : "false");
    for (size_t i = 0; i < g->n_stops; i++) {
        if (i) api_out_str(o, ",");
        api_out_cstr(o, g->stops[i]);
    }
    api_out_str(o, "]}");
}

static void llama_timings(const api_choice *c, api_out *o)
{
    const double prompt = (double)c->end.prompt_us / 1e3, decode = (double)c->end.decode_us / 1e3;
    const double n_prompt = c->end.n_prompt - (c->end.n_cached < c->end.n_prompt ? c->end.n_cached : c->end.n_prompt);
    const double n = c->end.n_tokens;
    api_out_fmt(
        o,
        "{\"cache_n\":%u,\"prompt_n\":%.0f,\"prompt_ms\":%.3f,\"prompt_per_token_ms\":%.6g,\"prompt_per_second\":%.6g,"
        "\"predicted_n\":%.0f,\"predicted_ms\":%.3f,\"predicted_per_token_ms\":%.6g,\"predicted_per_second\":%.6g}",
        c->end.n_cached, n_prompt, prompt, n_prompt > 0 ? prompt / n_prompt : 0,
        prompt > 0 ? 1e3 * n_prompt / prompt : 0, n, decode, n > 0 ? decode / n : 0, decode > 0 ? 1e3 * n / decode : 0);
}

static void llama_stop(const spark_ask *a, const spark_finished_message *m, api_out *o)
{
    const bool word = m->finish == SPARK_FINISH_STOP && m->stop_string;
    const char *type = m->finish == SPARK_FINISH_LENGTH ? "limit" : word ? "word" : "eos";
    api_out_fmt(o, ",\"stop_type\":\"%s\",\"stopping_word\":", type);
    api_out_cstr(o, word && m->which_stop < a->generate.n_stops ? a->generate.stops[m->which_stop] : "");
}

/* The result of a choice: whole replies say all of it, a stream's last event has no text left. */
static void llama_result(api_reply *r, uint32_t i, api_out *o)
{
    api_choice *c = &r->choices[i];
    const spark_ask *a = &r->o.call->asks[i];
    api_out_fmt(o, "{\"index\":%u,\"content\":", i);
    api_out_text(o, api_out_bytes(&c->text));
    api_out_str(o, ",\"tokens\":");
    api_print_ids(o, &c->ids);
    api_out_str(o, ",\"id_slot\":-1,\"stop\":true,\"model\":");
    api_out_cstr(o, r->o.model);
    api_out_fmt(o, ",\"tokens_predicted\":%u,\"tokens_evaluated\":%u,\"tokens_cached\":%u,\"truncated\":false",
                c->end.n_tokens, c->end.n_prompt, c->end.n_cached);
    api_out_str(o, ",\"generation_settings\":");
    llama_settings(r->o.call, a, o);
    api_out_str(o, ",\"prompt\":");
    api_out_text(o, a->text);
    llama_stop(a, &c->end, o);
    if (r->o.call->logprobs && !r->o.call->stream) {
        api_out_str(o, ",\"completion_probabilities\":[");
        api_out_move(o, &c->probs);
        api_out_str(o, "]");
    }
    api_out_str(o, ",\"timings\":");
    llama_timings(c, o);
    api_out_str(o, "}");
}

static void completion_piece(api_reply *r, uint32_t i, const spark_piece_message *m, api_out *o)
{
    const api_choice *c = &r->choices[i];
    api_out_fmt(o, "data: {\"index\":%u,\"content\":", i);
    api_out_text(o, m->text);
    api_out_str(o, ",\"tokens\":[");
    if (m->has_token) api_out_fmt(o, "%u", m->token.id);
    api_out_fmt(o, "],\"stop\":false,\"id_slot\":-1,\"tokens_predicted\":%u,\"tokens_evaluated\":%u", c->n_pieces,
                c->n_prompt);
    if (r->o.call->logprobs && m->has_token && m->has_logprobs) {
        api_out_str(o, ",\"completion_probabilities\":[");
        api_print_probs(o, m, r->o.call->n_top, true);
        api_out_str(o, "]");
    }
    api_out_str(o, "}\n\n");
}

static void completion_finished(api_reply *r, uint32_t i, api_out *o)
{
    api_out_str(o, "data: ");
    llama_result(r, i, o);
    api_out_str(o, "\n\n");
}

static void llama_error(api_reply *r, api_out *o)
{
    api_out_str(o, "data: ");
    api_print_error(o, API_LLAMA, &r->error);
    api_out_str(o, "\n\n");
}

static void completion_whole(api_reply *r, api_out *o)
{
    if (r->n > 1) api_out_str(o, "[");
    for (uint32_t i = 0; i < r->n; i++) {
        if (i) api_out_str(o, ",");
        llama_result(r, i, o);
    }
    if (r->n > 1) api_out_str(o, "]");
}

const api_voice api_voice_completion = {
    .stream_type = "text/event-stream",
    .ping = ": ping\n\n",
    .every_token = true,
    .piece = completion_piece,
    .finished = completion_finished,
    .error = llama_error,
    .whole = completion_whole,
    .keep = api_keep_probs_id,
};

/* ---- Answers that are not generated: the payload of DATA is in `text` ---- */

/* A token's text, or its bytes where they are none. */
static void llama_piece_text(spark_bytes b, api_out *o)
{
    if (spark_utf8_is_valid(b.ptr, b.len)) {
        api_out_text(o, b);
        return;
    }
    api_out_str(o, "[");
    for (size_t i = 0; i < b.len; i++) api_out_fmt(o, "%s%u", i ? "," : "", b.ptr[i]);
    api_out_str(o, "]");
}

static void llama_pieces(spark_bytes data, api_out *o)
{
    spark_cursor c = spark_cursor_at(data);
    for (bool first = true; spark_cursor_left(&c) > 0; first = false) {
        uint32_t id = 0;
        uint16_t len = 0;
        spark_bytes text;
        if (!spark_ok(spark_cursor_u32(&c, &id, NULL)) || !spark_ok(spark_cursor_u16(&c, &len, NULL)) ||
            !spark_ok(spark_cursor_take(&c, len, &text, NULL)))
            return; /* does not happen: api_reply_data saw it whole */
        api_out_fmt(o, "%s{\"id\":%u,\"piece\":", first ? "" : ",", id);
        llama_piece_text(text, o);
        api_out_str(o, "}");
    }
}

static void tokenize_whole(api_reply *r, api_out *o)
{
    const api_out *data = &r->choices[0].text;
    api_out_str(o, "{\"tokens\":");
    if (r->o.call->pieces) {
        api_out_str(o, "[");
        llama_pieces(api_out_bytes(data), o);
        api_out_str(o, "]");
    } else {
        api_print_ids(o, data);
    }
    api_out_str(o, "}");
}

static void llama_one_text(const api_reply *r, const char *key, api_out *o)
{
    api_out_fmt(o, "{\"%s\":", key);
    api_out_text(o, api_out_bytes(&r->choices[0].text));
    api_out_str(o, "}");
}

static void detokenize_whole(api_reply *r, api_out *o) { llama_one_text(r, "content", o); }
static void template_whole(api_reply *r, api_out *o) { llama_one_text(r, "prompt", o); }

const api_voice api_voice_tokenize = {.error = llama_error, .whole = tokenize_whole, .keep = api_keep_probs};
const api_voice api_voice_detokenize = {.error = llama_error, .whole = detokenize_whole, .keep = api_keep_probs};
const api_voice api_voice_template = {.error = llama_error, .whole = template_whole, .keep = api_keep_probs};

/* ---- Properties ---- */

void api_print_props(api_out *o, const api_card *c)
{
    spark_ask a;
    const api_call call = {.stream = true};
    spark_ask_defaults(&a);
    a.generate.sampling.seed = UINT32_MAX; /* llama-server's word for a random one */
    api_out_fmt(o,
                "{\"default_generation_settings\":{\"id\":0,\"id_task\":-1,\"n_ctx\":%u,\"speculative\":false,\"is_"
                "processing\":false,\"params\":",
                c->n_ctx);
    llama_settings(&call, &a, o);
    api_out_fmt(o, "},\"total_slots\":%u,\"model_alias\":", c->n_slots);
    api_out_cstr(o, c->name);
    api_out_str(o, ",\"model_path\":"); /* where files lie is nobody's business */
    api_out_cstr(o, c->name);
    api_out_str(o, ",\"chat_template\":");
    api_out_cstr(o, c->chat_template ? c->chat_template : "");
    api_out_str(o, ",\"modalities\":{\"vision\":false,\"audio\":false},\"build_info\":\"spark " SPARK_VERSION
                   "\",\"is_sleeping\":");
    api_out_str(o, c->loaded ? "false}" : "true}");
}

void api_print_slots(api_out *o, const api_card *c, uint32_t n_running)
{
    api_out_str(o, "[");
    for (uint32_t i = 0; i < c->n_slots; i++)
        api_out_fmt(o, "%s{\"id\":%u,\"n_ctx\":%u,\"speculative\":false,\"is_processing\":%s}", i ? "," : "", i,
                    c->n_ctx, i < n_running ? "true" : "false");
    api_out_str(o, "]");
}

void api_print_health(api_out *o, bool ok)
{
    api_error e;
    if (ok) {
        api_out_str(o, "{\"status\":\"ok\"}");
        return;
    }
    api_error_set(&e, 503, NULL, NULL, "Loading model");
    api_print_error(o, API_LLAMA, &e);
}
