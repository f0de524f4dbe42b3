/* api_ollama_reply.c - answers of /api/chat and /api/generate: lines of JSON, or one. Times in nanoseconds. */
#include <inttypes.h>

#include "serve/api_internal.h"

static void ollama_head(const char *model, uint64_t unix_ns, api_out *o)
{
    api_out_str(o, "{\"model\":");
    api_out_cstr(o, model);
    api_out_str(o, ",\"created_at\":");
    api_out_time(o, unix_ns);
}

static bool ollama_is_chat(const api_call *call) { return call->route->handler == API_OLLAMA_CHAT; }

static void ollama_text(const api_call *call, spark_bytes text, api_out *o)
{
    api_out_str(o, ollama_is_chat(call) ? ",\"message\":{\"role\":\"assistant\",\"content\":" : ",\"response\":");
    api_out_text(o, text);
    if (ollama_is_chat(call)) api_out_str(o, "}");
}

static void ollama_piece(api_reply *r, uint32_t i, const spark_piece_message *m, api_out *o)
{
    (void)i;
    ollama_head(r->o.model, r->o.unix_ns(), o);
    ollama_text(r->o.call, m->text, o);
    api_out_str(o, ",\"done\":false");
    if (r->o.call->logprobs && m->has_token && m->has_logprobs) {
        api_out_str(o, ",\"logprobs\":[");
        api_print_probs(o, m, r->o.call->n_top, false);
        api_out_str(o, "]");
    }
    api_out_str(o, "}\n");
}

/* The last line, or the only one: with `text` what was said, and the numbers. */
static void ollama_last(const api_reply *r, api_choice *c, spark_bytes text, api_out *o)
{
    const uint64_t now = r->o.unix_ns(), total = now > r->began_ns ? now - r->began_ns : 0;
    ollama_head(r->o.model, now, o);
    ollama_text(r->o.call, text, o);
    api_out_fmt(o, ",\"done\":true,\"done_reason\":\"%s\"", api_finish_word(&c->end));
    if (r->o.call->context && c->has_data) { /* without the prompt's ids it would be no context */
        api_out_str(o, ",\"context\":");
        api_print_ids(o, &c->ids);
    }
    api_out_fmt(
        o,
        ",\"total_duration\":%" PRIu64 ",\"load_duration\":%" PRIu64
        ",\"prompt_eval_count\":%u,\"prompt_eval_duration\":%" PRIu64 ",\"eval_count\":%u,\"eval_duration\":%" PRIu64,
        total, r->o.load_ns, c->end.n_prompt, c->end.prompt_us * 1000, c->end.n_tokens, c->end.decode_us * 1000);
    if (c->probs.len) {
        api_out_str(o, ",\"logprobs\":[");
        api_out_move(o, &c->probs);
        api_out_str(o, "]");
    }
    api_out_str(o, "}");
}

static void ollama_finished(api_reply *r, uint32_t i, api_out *o)
{
    ollama_last(r, &r->choices[i], (spark_bytes){0}, o);
    api_out_str(o, "\n");
}

static void ollama_error(api_reply *r, api_out *o)
{
    api_print_error(o, API_OLLAMA, &r->error);
    api_out_str(o, "\n");
}

static void ollama_whole(api_reply *r, api_out *o)
{
    ollama_last(r, &r->choices[0], api_out_bytes(&r->choices[0].text), o);
}

void api_print_loaded(api_out *o, const api_call *call, const char *model, uint64_t unix_ns)
{
    ollama_head(model, unix_ns, o);
    ollama_text(call, (spark_bytes){0}, o);
    api_out_fmt(o, ",\"done\":true,\"done_reason\":\"%s\"}", call->load == API_LOAD_NO_MORE ? "unload" : "load");
    if (call->stream) api_out_str(o, "\n");
}

const api_voice api_voice_ollama_chat = {
    .stream_type = "application/x-ndjson",
    .piece = ollama_piece,
    .finished = ollama_finished,
    .error = ollama_error,
    .whole = ollama_whole,
    .keep = api_keep_probs,
};

const api_voice api_voice_ollama_generate = {
    .stream_type = "application/x-ndjson",
    .piece = ollama_piece,
    .finished = ollama_finished,
    .error = ollama_error,
    .whole = ollama_whole,
    .keep = api_keep_probs,
};
