/* api_openai_reply.c - answers of /v1/chat/completions and /v1/completions, whole and as server-sent events. */
#include <inttypes.h>

#include "base/utf8.h"
#include "serve/api_internal.h"

enum { OBFUSCATED_MULTIPLE = 64 }; /* bytes that the length of a padded chunk is a multiple of */

/* {"id":..,"object":..,"created":..,"model":..,"system_fingerprint":..,"choices":[ */
static void openai_head(const api_reply *r, const char *prefix, const char *object, api_out *o)
{
    const char *id = strchr(r->o.id, '-');
    api_out_str(o, "{\"id\":\"");
    api_out_str(o, prefix);
    api_out_chars(o, spark_bytes_of(id ? id + 1 : r->o.id));
    api_out_fmt(o, "\",\"object\":\"%s\",\"created\":%" PRIu64 ",\"model\":", object, r->created_s);
    api_out_cstr(o, r->o.model);
    api_out_str(o, ",\"system_fingerprint\":");
    api_out_cstr(o, r->o.fingerprint);
    api_out_str(o, ",\"choices\":[");
}

static void openai_usage(const api_reply *r, api_out *o)
{
    uint64_t prompt, cached, generated;
    api_reply_counts(r, &prompt, &cached, &generated);
    api_out_fmt(o,
                "{\"prompt_tokens\":%" PRIu64 ",\"completion_tokens\":%" PRIu64 ",\"total_tokens\":%" PRIu64
                ",\"prompt_tokens_details\":{\"cached_tokens\":%" PRIu64
                "},\"completion_tokens_details\":{\"reasoning_tokens\":0}}",
                prompt, generated, prompt + generated, cached);
}

static void openai_error(api_reply *r, api_out *o)
{
    api_out_str(o, "data: ");
    api_print_error(o, API_OPENAI, &r->error);
    api_out_str(o, "\n\n");
}

/* ---- Chunks ---- */

/* The end of a chunk that began at `begin`: usage is null until the last one, padding makes lengths alike. */
static void chunk_close(const api_reply *r, size_t begin, api_out *o)
{
    static const char pad[] = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
    static const char field[] = ",\"obfuscation\":\"\"}\n\n";
    _Static_assert(sizeof pad - 1 >= OBFUSCATED_MULTIPLE, "");
    api_out_str(o, "]");
    if (r->o.call->include_usage) api_out_str(o, ",\"usage\":null");
    if (r->o.call->include_obfuscation && !o->failed) {
        const size_t over = (o->len - begin + sizeof field - 1) % OBFUSCATED_MULTIPLE;
        api_out_str(o, ",\"obfuscation\":\"");
        api_out_raw(o, pad, (OBFUSCATED_MULTIPLE - over) % OBFUSCATED_MULTIPLE);
        api_out_str(o, "\"");
    }
    api_out_str(o, "}\n\n");
}

static void openai_usage_chunk(api_reply *r, const char *prefix, const char *object, api_out *o)
{
    if (r->o.call->include_usage) {
        api_out_str(o, "data: ");
        openai_head(r, prefix, object, o);
        api_out_str(o, "],\"usage\":");
        openai_usage(r, o);
        api_out_str(o, "}\n\n");
    }
    api_out_str(o, "data: [DONE]\n\n");
}

/* ---- Chat ---- */

#define CHAT_ID    "chatcmpl-"
#define CHAT_CHUNK "chat.completion.chunk"

static size_t chat_open(const api_reply *r, uint32_t i, api_out *o)
{
    const size_t begin = o->len;
    api_out_str(o, "data: ");
    openai_head(r, CHAT_ID, CHAT_CHUNK, o);
    api_out_fmt(o, "{\"index\":%u,\"delta\":{", i);
    return begin;
}

static void chat_started(api_reply *r, uint32_t i, api_out *o)
{
    const size_t begin = chat_open(r, i, o);
    api_out_str(o,
                "\"role\":\"assistant\",\"content\":\"\",\"refusal\":null},\"logprobs\":null,\"finish_reason\":null}");
    chunk_close(r, begin, o);
}

static void chat_piece(api_reply *r, uint32_t i, const spark_piece_message *m, api_out *o)
{
    const size_t begin = chat_open(r, i, o);
    api_out_str(o, "\"content\":");
    api_out_text(o, m->text);
    api_out_str(o, "},\"logprobs\":");
    if (r->o.call->logprobs && m->has_token && m->has_logprobs) {
        api_out_str(o, "{\"content\":[");
        api_print_probs(o, m, r->o.call->n_top, false);
        api_out_str(o, "],\"refusal\":null}");
    } else {
        api_out_str(o, "null");
    }
    api_out_str(o, ",\"finish_reason\":null}");
    chunk_close(r, begin, o);
}

static void chat_finished(api_reply *r, uint32_t i, api_out *o)
{
    const size_t begin = chat_open(r, i, o);
    api_out_fmt(o, "},\"logprobs\":null,\"finish_reason\":\"%s\"}", api_finish_word(&r->choices[i].end));
    chunk_close(r, begin, o);
}

static void chat_end(api_reply *r, api_out *o) { openai_usage_chunk(r, CHAT_ID, CHAT_CHUNK, o); }

static void chat_choice(api_reply *r, uint32_t i, api_out *o)
{
    api_choice *c = &r->choices[i];
    api_out_fmt(o, "{\"index\":%u,\"message\":{\"role\":\"assistant\",\"content\":", i);
    api_out_text(o, api_out_bytes(&c->text));
    api_out_str(o, ",\"refusal\":null},\"logprobs\":");
    if (r->o.call->logprobs) {
        api_out_str(o, "{\"content\":[");
        api_out_move(o, &c->probs);
        api_out_str(o, "],\"refusal\":null}");
    } else {
        api_out_str(o, "null");
    }
    api_out_fmt(o, ",\"finish_reason\":\"%s\"}", api_finish_word(&c->end));
}

static void openai_whole(api_reply *r, const char *prefix, const char *object,
                         void (*choice)(api_reply *r, uint32_t i, api_out *o), api_out *o)
{
    openai_head(r, prefix, object, o);
    for (uint32_t i = 0; i < r->n; i++) {
        if (i) api_out_str(o, ",");
        choice(r, i, o);
    }
    api_out_str(o, "],\"usage\":");
    openai_usage(r, o);
    api_out_str(o, "}");
}

static void chat_whole(api_reply *r, api_out *o) { openai_whole(r, CHAT_ID, "chat.completion", chat_choice, o); }

const api_voice api_voice_chat = {
    .stream_type = "text/event-stream",
    .ping = ": ping\n\n",
    .started = chat_started,
    .piece = chat_piece,
    .finished = chat_finished,
    .end = chat_end,
    .error = openai_error,
    .whole = chat_whole,
    .keep = api_keep_probs,
};

/* ---- Completions ---- */

#define TEXT_ID     "cmpl-"
#define TEXT_OBJECT "text_completion"

/* A token as a name: text, or OpenAI's way to write bytes that are none. */
static void text_token(api_out *o, spark_bytes b)
{
    if (spark_utf8_is_valid(b.ptr, b.len)) {
        api_out_text(o, b);
        return;
    }
    api_out_str(o, "\"bytes:");
    for (size_t i = 0; i < b.len; i++) api_out_fmt(o, "\\\\x%02x", b.ptr[i]);
    api_out_str(o, "\"");
}

static bool text_top_is_new(const spark_piece_message *m, uint32_t k)
{
    for (uint32_t j = 0; j < k; j++)
        if (spark_bytes_equal(m->top[j].text, m->top[k].text)) return false;
    return true;
}

/* {"token": logprob, ...}: of tokens with the same text only the likeliest has a place. */
static void text_top(api_out *o, const spark_piece_message *m, uint32_t n_top)
{
    bool any = false;
    api_out_str(o, "{");
    for (uint32_t k = 0; k < m->n_top && k < n_top; k++) {
        if (!text_top_is_new(m, k)) continue;
        if (any) api_out_str(o, ",");
        any = true;
        text_token(o, m->top[k].text);
        api_out_str(o, ":");
        api_print_logprob(o, m->top[k].logprob);
    }
    api_out_str(o, "}");
}

static void text_keep(api_choice *c, const spark_piece_message *m, uint32_t n_top)
{
    api_out *const lists[] = {&c->probs, &c->values, &c->tops, &c->offsets};
    for (size_t i = 0; i < SPARK_COUNT(lists); i++)
        if (lists[i]->len) api_out_str(lists[i], ",");
    text_token(&c->probs, m->token.text);
    api_print_logprob(&c->values, m->token.logprob);
    text_top(&c->tops, m, n_top);
    api_out_fmt(&c->offsets, "%zu", c->n_chars);
}

static void text_lists(api_choice *c, api_out *o)
{
    static const char *const names[] = {"tokens", "token_logprobs", "top_logprobs", "text_offset"};
    api_out *const lists[] = {&c->probs, &c->values, &c->tops, &c->offsets};
    for (size_t i = 0; i < SPARK_COUNT(lists); i++) {
        api_out_fmt(o, "%s\"%s\":[", i ? "," : "{", names[i]);
        api_out_move(o, lists[i]);
        api_out_str(o, "]");
    }
    api_out_str(o, "}");
}

static void text_piece(api_reply *r, uint32_t i, const spark_piece_message *m, api_out *o)
{
    const size_t begin = o->len;
    api_choice *c = &r->choices[i];
    api_out_str(o, "data: ");
    openai_head(r, TEXT_ID, TEXT_OBJECT, o);
    api_out_fmt(o, "{\"index\":%u,\"text\":", i);
    api_out_text(o, m->text);
    api_out_str(o, ",\"logprobs\":");
    if (r->o.call->logprobs && m->has_token && m->has_logprobs) {
        text_keep(c, m, r->o.call->n_top);
        text_lists(c, o);
    } else {
        api_out_str(o, "null");
    }
    api_out_str(o, ",\"finish_reason\":null}");
    chunk_close(r, begin, o);
}

static void text_finished(api_reply *r, uint32_t i, api_out *o)
{
    const size_t begin = o->len;
    api_out_str(o, "data: ");
    openai_head(r, TEXT_ID, TEXT_OBJECT, o);
    api_out_fmt(o, "{\"index\":%u,\"text\":\"\",\"logprobs\":null,\"finish_reason\":\"%s\"}", i,
                api_finish_word(&r->choices[i].end));
    chunk_close(r, begin, o);
}

static void text_end(api_reply *r, api_out *o) { openai_usage_chunk(r, TEXT_ID, TEXT_OBJECT, o); }

static void text_choice(api_reply *r, uint32_t i, api_out *o)
{
    api_choice *c = &r->choices[i];
    api_out_fmt(o, "{\"index\":%u,\"text\":", i);
    api_out_text(o, api_out_bytes(&c->text));
    api_out_str(o, ",\"logprobs\":");
    if (r->o.call->logprobs)
        text_lists(c, o);
    else
        api_out_str(o, "null");
    api_out_fmt(o, ",\"finish_reason\":\"%s\"}", api_finish_word(&c->end));
}

static void text_whole(api_reply *r, api_out *o) { openai_whole(r, TEXT_ID, TEXT_OBJECT, text_choice, o); }

const api_voice api_voice_completions = {
    .stream_type = "text/event-stream",
    .ping = ": ping\n\n",
    .piece = text_piece,
    .finished = text_finished,
    .end = text_end,
    .error = openai_error,
    .whole = text_whole,
    .keep = text_keep,
};
