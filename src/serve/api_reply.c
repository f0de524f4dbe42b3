/* api_reply.c - from the events of choices to one reply, whatever the dialect: what is kept, when it begins, how it ends.
 * A stream begins with its first event, so that what an engine refuses at once still gets a status of its own; from then on an
 * error is a last message in the stream. A whole reply keeps text until all choices have finished. */
#include <stdlib.h>

#include "serve/api_internal.h"

static const api_voice *const reply_voices[] = {
    [API_CHAT] = &api_voice_chat,
    [API_COMPLETIONS] = &api_voice_completions,
    [API_OLLAMA_CHAT] = &api_voice_ollama_chat,
    [API_OLLAMA_GENERATE] = &api_voice_ollama_generate,
    [API_COMPLETION] = &api_voice_completion,
    [API_TOKENIZE] = &api_voice_tokenize,
    [API_DETOKENIZE] = &api_voice_detokenize,
    [API_APPLY_TEMPLATE] = &api_voice_template,
};

static void choice_outs(api_choice *c, void (*each)(api_out *o))
{
    each(&c->text);
    each(&c->probs);
    each(&c->values);
    each(&c->tops);
    each(&c->offsets);
    each(&c->ids);
}

/* Lists of log-probabilities are what becomes large, and go into the reply as they are. Text and ids are written anew for it. */
static void choice_begin(api_choice *c, held_share *share)
{
    api_out_init_held(&c->probs, SPARK_MAX_REPLY, share);
    c->values = c->tops = c->offsets = c->probs;
    api_out_init(&c->text, SPARK_MAX_REPLY);
    c->text.share = share;
    c->ids = c->text;
}

spark_status api_reply_create(api_reply **out, const api_reply_options *o, spark_err *err)
{
    const api_handler h = o->call->route->handler;
    SPARK_CHECK(h < SPARK_COUNT(reply_voices) && reply_voices[h] && o->call->n_asks > 0, err, SPARK_E_ARGUMENT,
                SPARK_ERR_NOWHERE, "no reply to %s is made of events", o->call->route->path);
    api_reply *r = calloc(1, sizeof *r);
    SPARK_CHECK(r, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory for a reply");
    *r = (api_reply){.o = *o, .voice = reply_voices[h], .n = o->call->n_asks, .began_ns = o->unix_ns()};
    r->created_s = r->began_ns / 1000000000;
    r->choices = calloc(r->n, sizeof *r->choices);
    if (!r->choices) {
        free(r);
        return spark_fail(err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory for a reply");
    }
    for (uint32_t i = 0; i < r->n; i++) choice_begin(&r->choices[i], o->share);
    *out = r;
    return SPARK_SUCCESS;
}

size_t api_reply_bytes(uint32_t n_asks) { return sizeof(api_reply) + (size_t)n_asks * sizeof(api_choice); }

static void reply_let_go(api_reply *r)
{
    for (uint32_t i = 0; i < r->n; i++) choice_outs(&r->choices[i], api_out_free);
}

void api_reply_destroy(api_reply **reply)
{
    api_reply *r = *reply;
    if (!r) return;
    reply_let_go(r);
    free(r->choices);
    free(r);
    *reply = NULL;
}

/* ---- Ends ---- */

static bool reply_streams(const api_reply *r) { return r->o.call->stream && r->voice->piece; }
static bool reply_is_over(const api_reply *r) { return r->phase == API_DONE || r->phase == API_WHOLE; }

static void reply_fail(api_reply *r, const api_error *e, api_out *out)
{
    r->error = *e;
    r->has_error = true;
    reply_let_go(r);
    if (r->phase == API_STREAMING) {
        r->phase = API_DONE;
        r->voice->error(r, out);
        return;
    }
    r->phase = API_WHOLE;
    api_out_clear(out);
    api_print_error(out, r->o.call->route->dialect, e);
}

static void reply_fail_with(api_reply *r, int status, const char *code, const char *text, api_out *out)
{
    api_error e;
    api_error_set(&e, status, code, NULL, "%s", text);
    reply_fail(r, &e, out);
}

/* What was gathered does not fit: the sum of all replies, or what one may be. Alone, to try again would not help. */
static void reply_fail_full(api_reply *r, const char *too_large, api_out *out)
{
    const held_share *share = r->o.share;
    api_error e;
    if (!share || !share->refused || held_is_alone(share)) {
        reply_fail_with(r, 400, "reply_too_large", too_large, out);
        return;
    }
    api_error_held(&e);
    reply_fail(r, &e, out);
}

/* What a choice holds, and whether a part of it could not be kept. */
static size_t choice_held(const api_choice *c, bool *failed)
{
    const api_out *parts[] = {&c->text, &c->probs, &c->values, &c->tops, &c->offsets, &c->ids};
    size_t n = 0;
    for (size_t i = 0; i < SPARK_COUNT(parts); i++) {
        n += parts[i]->len;
        *failed |= parts[i]->failed;
    }
    return n;
}

/* After something was kept in a choice that held `before`. */
static bool reply_fits(api_reply *r, const api_choice *c, size_t before, api_out *out)
{
    bool failed = false;
    r->held += choice_held(c, &failed) - before;
    if (!failed && r->held <= SPARK_MAX_REPLY) return true;
    reply_fail_full(r, "the reply takes more memory than one reply may: ask for a stream, or for less of it", out);
    return false;
}

static void reply_end(api_reply *r, api_out *out)
{
    if (reply_streams(r)) {
        r->phase = API_DONE;
        if (r->voice->end) r->voice->end(r, out);
        return;
    }
    r->phase = API_WHOLE;
    api_out_clear(out);
    r->voice->whole(r, out);
    if (!out->failed) return;
    api_out_clear(out);
    out->failed = false;
    reply_fail_full(r, "the reply is too long for one body: ask for a stream", out);
}

/* ---- Events ---- */

static void choice_start(api_reply *r, uint32_t i, api_out *out)
{
    api_choice *c = &r->choices[i];
    if (c->started) return;
    c->started = true;
    if (!reply_streams(r)) return;
    r->phase = API_STREAMING;
    if (r->voice->started) r->voice->started(r, i, out);
}

static bool reply_takes(const api_reply *r, uint32_t i)
{
    return !reply_is_over(r) && i < r->n && !r->choices[i].finished;
}

void api_reply_started(api_reply *r, uint32_t i, uint32_t n_prompt, uint32_t n_cached, api_out *out)
{
    if (!reply_takes(r, i)) return;
    r->choices[i].n_prompt = n_prompt;
    r->choices[i].n_cached = n_cached;
    choice_start(r, i, out);
}

/* Ids that the end of the reply shows. */
static void choice_keep_id(const api_reply *r, api_choice *c, const spark_piece_message *m)
{
    const bool wanted = r->o.call->context || (r->o.call->return_tokens && !reply_streams(r));
    const uint32_t id = m->token.id;
    if (!wanted || !m->has_token) return;
    const uint8_t le[4] = {(uint8_t)id, (uint8_t)(id >> 8), (uint8_t)(id >> 16), (uint8_t)(id >> 24)};
    api_out_raw(&c->ids, le, sizeof le);
}

void api_reply_piece(api_reply *r, uint32_t i, const spark_piece_message *m, api_out *out)
{
    if (!reply_takes(r, i)) return;
    api_choice *c = &r->choices[i];
    bool failed = false;
    const size_t before = choice_held(c, &failed);
    const bool probs = r->o.call->logprobs && m->has_token && m->has_logprobs;
    choice_start(r, i, out);
    c->n_pieces += m->has_token;
    choice_keep_id(r, c, m);
    if (reply_streams(r)) {
        if (m->text.len || probs || (r->voice->every_token && m->has_token)) r->voice->piece(r, i, m, out);
    } else {
        api_out_raw(&c->text, m->text.ptr, m->text.len);
        if (probs) r->voice->keep(c, m, r->o.call->n_top);
    }
    if (!reply_fits(r, c, before, out)) return;
    if (m->has_token && m->has_logprobs) c->n_chars += api_out_count_chars(m->token.text);
}

/* Whether the payload of DATA is what the ask wanted: ids, ids with their bytes, or text. */
static bool data_is_whole(const spark_ask *a, spark_bytes data)
{
    spark_cursor c = spark_cursor_at(data);
    if (a->kind == SPARK_ASK_DETOKENIZE || a->kind == SPARK_ASK_TEMPLATE) return true;
    if (!a->pieces) return data.len % 4 == 0;
    while (spark_cursor_left(&c) > 0) {
        uint32_t id = 0;
        uint16_t len = 0;
        spark_bytes text;
        if (!spark_ok(spark_cursor_u32(&c, &id, NULL)) || !spark_ok(spark_cursor_u16(&c, &len, NULL)) ||
            !spark_ok(spark_cursor_take(&c, len, &text, NULL)))
            return false;
    }
    return true;
}

void api_reply_data(api_reply *r, uint32_t i, spark_bytes payload, api_out *out)
{
    if (!reply_takes(r, i)) return;
    api_choice *c = &r->choices[i];
    bool failed = false;
    const size_t before = choice_held(c, &failed);
    if (!data_is_whole(&r->o.call->asks[i], payload)) {
        reply_fail_with(r, 500, "engine_failed", "the engine's answer is malformed", out);
        return;
    }
    c->has_data = true;
    api_out_raw(r->o.call->context ? &c->ids : &c->text, payload.ptr, payload.len);
    (void)reply_fits(r, c, before, out);
}

void api_reply_finished(api_reply *r, uint32_t i, const spark_finished_message *m, api_out *out)
{
    if (!reply_takes(r, i)) return;
    api_choice *c = &r->choices[i];
    choice_start(r, i, out);
    c->finished = true;
    c->end = *m;
    c->n_prompt = m->n_prompt;
    c->n_cached = m->n_cached;
    if (m->finish == SPARK_FINISH_CANCELLED) {
        reply_fail_with(r, 503, "cancelled", "the request was cancelled by the server", out);
        return;
    }
    if (reply_streams(r)) r->voice->finished(r, i, out);
    if (++r->n_finished == r->n) reply_end(r, out);
}

void api_reply_failed(api_reply *r, uint32_t i, const api_error *e, api_out *out)
{
    if (i < r->n && !reply_is_over(r)) reply_fail(r, e, out);
}

void api_reply_ping(api_reply *r, api_out *out)
{
    if (!reply_streams(r) || reply_is_over(r) || !r->voice->ping) return;
    r->phase = API_STREAMING;
    api_out_str(out, r->voice->ping);
}

/* ---- Looking ---- */

api_phase api_reply_phase(const api_reply *r) { return r->phase; }

int api_reply_status(const api_reply *r) { return r->phase == API_WHOLE && r->has_error ? r->error.status : 200; }

const char *api_reply_type(const api_reply *r)
{
    return r->phase == API_STREAMING || r->phase == API_DONE ? r->voice->stream_type : "application/json";
}

const api_error *api_reply_error(const api_reply *r) { return r->has_error ? &r->error : NULL; }

/* A prompt that has several answers counts once, as OpenAI counts. */
void api_reply_counts(const api_reply *r, uint64_t *n_prompt, uint64_t *n_cached, uint64_t *n_generated)
{
    *n_prompt = *n_cached = *n_generated = 0;
    for (uint32_t i = 0; i < r->n; i++) {
        const api_choice *c = &r->choices[i];
        if (i % r->o.call->n_each == 0) {
            *n_prompt += c->n_prompt;
            *n_cached += c->n_cached;
        }
        *n_generated += c->finished ? c->end.n_tokens : c->n_pieces;
    }
}

/* ---- What dialects share ---- */

const char *api_finish_word(const spark_finished_message *m)
{
    return m->finish == SPARK_FINISH_LENGTH ? "length" : "stop";
}

size_t api_out_count_chars(spark_bytes s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) n += (s.ptr[i] & 0xc0) != 0x80;
    return n;
}

/* -inf has no word in JSON: OpenAI writes -9999. */
void api_print_logprob(api_out *o, float x) { api_out_float(o, x >= -9999.0f ? (double)x : -9999.0); }

static void print_bytes(api_out *o, spark_bytes b)
{
    api_out_str(o, "[");
    for (size_t i = 0; i < b.len; i++) api_out_fmt(o, "%s%u", i ? "," : "", b.ptr[i]);
    api_out_str(o, "]");
}

void api_print_token(api_out *o, const spark_token_text *t, bool with_id)
{
    api_out_str(o, "{");
    if (with_id) api_out_fmt(o, "\"id\":%u,", t->id);
    api_out_str(o, "\"token\":");
    api_out_text(o, t->text);
    api_out_str(o, ",\"bytes\":");
    print_bytes(o, t->text);
    api_out_str(o, ",\"logprob\":");
    api_print_logprob(o, t->logprob);
}

void api_print_probs(api_out *o, const spark_piece_message *m, uint32_t n_top, bool with_id)
{
    api_print_token(o, &m->token, with_id);
    api_out_str(o, ",\"top_logprobs\":[");
    for (uint32_t k = 0; k < m->n_top && k < n_top; k++) {
        if (k) api_out_str(o, ",");
        api_print_token(o, &m->top[k], with_id);
        api_out_str(o, "}");
    }
    api_out_str(o, "]}");
}

void api_keep_probs(api_choice *c, const spark_piece_message *m, uint32_t n_top)
{
    if (c->probs.len) api_out_str(&c->probs, ",");
    api_print_probs(&c->probs, m, n_top, false);
}

void api_keep_probs_id(api_choice *c, const spark_piece_message *m, uint32_t n_top)
{
    if (c->probs.len) api_out_str(&c->probs, ",");
    api_print_probs(&c->probs, m, n_top, true);
}

void api_print_ids(api_out *o, const api_out *ids)
{
    api_out_str(o, "[");
    for (size_t i = 0; i + 4 <= ids->len; i += 4) api_out_fmt(o, "%s%u", i ? "," : "", spark_load_u32(ids->ptr + i));
    api_out_str(o, "]");
}
