/* session.c - the public spark_session: tokens, their keys and values, and generation.
 *
 * Invariants: 1. tokens[0..n) is the sequence; the first spark_kv_length of them have keys and values, at most one
 * (drawn, not yet fed) has not. 2. logits, if set, belong to the last token. 3. m->turn is held while the pool works. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_internal.h"
#include "base/spark_limits.h"

enum { SESSION_SEQ = 0 }; /* the one sequence of this session's keys and values */

struct spark_session {
    spark_model *model;
    spark_shape shape;
    spark_arena *arena;
    spark_kv *kv;
    spark_exec *exec;
    spark_sampler *sampler;
    spark_row *rows;  /* [n_batch] */
    uint32_t *tokens; /* [n_ctx] */
    uint32_t n;
    const float *logits; /* of the last token, borrowed from exec; NULL = not computed */
    uint32_t n_vocab, n_vocab_text;
    atomic_bool cancel;
};

#define SESSION_ARENA_MAX ((size_t)1 << 31)

static spark_status session_build(spark_session *s, const spark_session_options *o, spark_err *err)
{
    spark_model *m = s->model;
    SPARK_TRY(api_session_shape(m, o, &s->shape, err));
    SPARK_TRY(spark_arena_create(&s->arena, SESSION_ARENA_MAX, err));
    spark_net_info info;
    spark_net_info_get(m->net, &info);
    s->n_vocab = info.n_vocab;
    s->n_vocab_text = spark_tokenizer_n_vocab(m->tokenizer);
    SPARK_TRY(SPARK_NEW(s->arena, s->shape.n_ctx, &s->tokens, err));
    SPARK_TRY(SPARK_NEW(s->arena, s->shape.n_batch, &s->rows, err));
    SPARK_TRY(spark_sampler_create(&s->sampler, &m->kern, s->n_vocab, s->shape.n_ctx, m->dry_breaks, s->arena, err));
    SPARK_TRY(spark_arena_reserve(s->arena, API_GENERATE_BYTES, err));
    SPARK_TRY(spark_kv_create(&s->kv, m->net, &s->shape, err));
    return spark_exec_create(&s->exec, m->net, &s->shape, m->pool, m->isa, err);
}

spark_status spark_session_create(spark_session **out, spark_model *m, const spark_session_options *o, spark_err *err)
{
    SPARK_CHECK(m->loaded, err, SPARK_E_STATE, SPARK_ERR_NOWHERE, "load the model before making a session");
    spark_session *s = calloc(1, sizeof *s);
    SPARK_CHECK(s, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "out of memory");
    s->model = m;
    pthread_mutex_lock(&m->turn);
    const spark_status st = session_build(s, o, err);
    pthread_mutex_unlock(&m->turn);
    if (!spark_ok(st))
        spark_session_destroy(&s);
    else
        *out = s;
    return st;
}

void spark_session_destroy(spark_session **session)
{
    spark_session *s = *session;
    if (!s) return;
    pthread_mutex_lock(&s->model->turn);
    spark_exec_destroy(&s->exec);
    spark_kv_destroy(&s->kv);
    pthread_mutex_unlock(&s->model->turn);
    spark_arena_destroy(&s->arena);
    free(s);
    *session = NULL;
}

size_t spark_session_length(const spark_session *s) { return s->n; }
const uint32_t *spark_session_tokens(const spark_session *s) { return s->tokens; }
void spark_session_cancel(spark_session *s) { atomic_store_explicit(&s->cancel, true, memory_order_relaxed); }

/* Whether a cancel has come since the last look. Each is taken once, so none is lost between two calls. */
static bool session_cancelled(spark_session *s)
{
    return atomic_exchange_explicit(&s->cancel, false, memory_order_relaxed);
}

/* ---- Feeding ---- */

/* One forward pass over the next `n` tokens that have no keys yet; logits of the last, or of all into out. */
static spark_status session_pass(spark_session *s, uint32_t n, bool all, float *out, spark_err *err)
{
    const uint32_t done = spark_kv_length(s->kv, SESSION_SEQ);
    const bool last = done + n == s->n;
    for (uint32_t i = 0; i < n; i++)
        s->rows[i] = (spark_row){
            .token = s->tokens[done + i], .seq = SESSION_SEQ, .logits = all || (last && i + 1 == n)};
    const float *logits = NULL;
    pthread_mutex_lock(&s->model->turn);
    const spark_status st = spark_forward(s->exec, s->kv, s->rows, n, &logits, err);
    pthread_mutex_unlock(&s->model->turn);
    SPARK_TRY(st);
    if (all) memcpy(out, logits, (size_t)n * s->n_vocab * sizeof *out);
    if (last) s->logits = all ? logits + (size_t)(n - 1) * s->n_vocab : logits;
    return SPARK_SUCCESS;
}

/* Computes every token that has no keys yet. With `out`: logits after each, in steps of one row. */
static spark_status session_catch_up(spark_session *s, float *out, spark_err *err)
{
    s->logits = NULL;
    for (uint32_t done; (done = spark_kv_length(s->kv, SESSION_SEQ)) < s->n;) {
        SPARK_CHECK(!session_cancelled(s), err, SPARK_E_CANCELLED, done, "cancelled");
        uint32_t step = s->n - done < s->shape.n_batch ? s->n - done : s->shape.n_batch;
        if (out && step > s->shape.n_logits) step = s->shape.n_logits;
        SPARK_TRY(session_pass(s, step, out != NULL, out, err));
        if (out) out += (size_t)step * s->n_vocab;
    }
    return SPARK_SUCCESS;
}

static spark_status session_append(spark_session *s, const uint32_t *ids, size_t n, spark_err *err)
{
    SPARK_CHECK(n <= s->shape.n_ctx - s->n, err, SPARK_E_CONTEXT, s->n,
                "%zu tokens and %zu more do not fit a context of %u", (size_t)s->n, n, s->shape.n_ctx);
    for (size_t i = 0; i < n; i++)
        SPARK_CHECK(ids[i] < s->n_vocab, err, SPARK_E_ARGUMENT, i, "token id %u, but the vocabulary has %u tokens",
                    ids[i], s->n_vocab);
    if (n) memcpy(s->tokens + s->n, ids, n * sizeof *ids);
    s->n += (uint32_t)n;
    return SPARK_SUCCESS;
}

/* Takes back tokens that could not be computed, so that a failed call has changed nothing. */
static void session_cut(spark_session *s, uint32_t n)
{
    if (spark_kv_length(s->kv, SESSION_SEQ) > n) spark_kv_truncate(s->kv, SESSION_SEQ, n);
    s->n = n;
    s->logits = NULL;
}

static spark_status session_extend(spark_session *s, const uint32_t *ids, size_t n, float *out, spark_err *err)
{
    const uint32_t before = s->n;
    SPARK_TRY(session_append(s, ids, n, err));
    const spark_status st = session_catch_up(s, out, err);
    if (!spark_ok(st)) session_cut(s, before);
    return st;
}

spark_status spark_session_feed(spark_session *s, const uint32_t *ids, size_t n, spark_err *err)
{
    return n == 0 ? SPARK_SUCCESS : session_extend(s, ids, n, NULL, err);
}

spark_status spark_session_score(spark_session *s, const uint32_t *ids, size_t n, float *out, spark_err *err)
{
    SPARK_CHECK(spark_kv_length(s->kv, SESSION_SEQ) == s->n, err, SPARK_E_STATE, SPARK_ERR_NOWHERE,
                "a drawn token is still to be fed: score before generating, or reset");
    return n == 0 ? SPARK_SUCCESS : session_extend(s, ids, n, out, err);
}

void spark_session_reset(spark_session *s) { session_cut(s, 0); }

spark_status spark_session_sync(spark_session *s, const uint32_t *ids, size_t n, spark_err *err)
{
    SPARK_CHECK(n >= 1, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "a session cannot be made to hold no tokens: reset it");
    SPARK_CHECK(n <= s->shape.n_ctx, err, SPARK_E_CONTEXT, SPARK_ERR_NOWHERE, "%zu tokens do not fit a context of %u",
                n, s->shape.n_ctx);
    uint32_t common = 0;
    while (common < s->n && common < n && s->tokens[common] == ids[common]) common++;
    if (common == n && common == s->n && s->logits) return SPARK_SUCCESS;
    if (common == n) common--; /* the last token is computed again, for its logits */
    session_cut(s, common);
    return spark_session_feed(s, ids + common, n - common, err);
}

/* A drawn token may wait to be fed; whoever needs logits feeds it. */
static spark_status session_need_logits(spark_session *s, spark_err *err)
{
    SPARK_CHECK(s->n > 0, err, SPARK_E_STATE, SPARK_ERR_NOWHERE, "the session is empty: feed at least one token");
    if (s->logits) return SPARK_SUCCESS;
    spark_kv_truncate(s->kv, SESSION_SEQ, s->n - 1); /* after a failed call only the logits may be missing: once more */
    return session_catch_up(s, NULL, err);
}

spark_status spark_session_logits(spark_session *s, const float **logits, spark_err *err)
{
    SPARK_TRY(session_need_logits(s, err));
    *logits = s->logits;
    return SPARK_SUCCESS;
}

/* ---- Generating ---- */

/* One running generation. */
typedef struct session_run {
    spark_session *s;
    const spark_generate_options *o;
    spark_stops stops;
    spark_logprob *top;
    spark_generate_result result;
    bool ended, stopped; /* stopped: a stop string was found, so what waits is never shown */
} session_run;

static void run_end(session_run *r, spark_finish why)
{
    if (!r->ended) r->result.finish = why; /* the first reason stands */
    r->ended = true;
}

static void run_emit(session_run *r, spark_bytes text, const spark_piece *token)
{
    spark_piece piece = token ? *token : (spark_piece){0};
    piece.text = text.len ? (const char *)text.ptr : "";
    piece.len = text.len;
    if (r->o->on_piece && !r->o->on_piece(r->o->ctx, &piece)) run_end(r, SPARK_FINISH_CANCELLED);
}

/* Draws one token, shows what may be shown, and appends it. */
static void run_draw(session_run *r)
{
    spark_session *s = r->s;
    const spark_tokenizer *t = s->model->tokenizer;
    const uint32_t id = spark_sampler_draw(s->sampler, &r->o->sampling, r->o->logit_bias, r->o->n_logit_bias, s->logits,
                                           s->tokens, s->n);
    r->result.n_tokens++;
    spark_piece piece = {.has_token = true, .id = id, .top = r->top, .n_top = r->o->n_logprobs};
    if (r->o->n_logprobs) piece.logprob = spark_sampler_logprobs(s->sampler, s->logits, id, r->top, r->o->n_logprobs);
    const bool eog = id < s->n_vocab_text && spark_tokenizer_is_eog(t, id) && !r->o->ignore_eog;
    uint8_t buf[SPARK_TOKENIZER_PIECE];
    spark_bytes bytes = {0};
    if (!eog && id < s->n_vocab_text) bytes = spark_tokenizer_piece(t, id, false, buf);
    spark_bytes ready = {0};
    r->stopped = spark_stops_push(&r->stops, bytes, &ready);
    if (r->stopped || eog) run_end(r, SPARK_FINISH_STOP);
    if (!eog) {
        s->tokens[s->n++] = id;
        s->logits = NULL;
    }
    if (r->result.n_tokens == r->o->max_tokens || s->n == s->shape.n_ctx) run_end(r, SPARK_FINISH_LENGTH);
    run_emit(r, ready, &piece);
}

static spark_status run_loop(session_run *r, spark_err *err)
{
    spark_session *s = r->s;
    if (s->n == s->shape.n_ctx) run_end(r, SPARK_FINISH_LENGTH);
    while (!r->ended) {
        spark_err why = {0};
        const spark_status st = session_need_logits(s, &why);
        if (st.code == SPARK_E_CANCELLED)
            run_end(r, SPARK_FINISH_CANCELLED);
        else if (!spark_ok(st)) {
            if (err) *err = why;
            return st;
        } else
            run_draw(r);
        if (session_cancelled(s)) run_end(r, SPARK_FINISH_CANCELLED);
    }
    spark_bytes rest = {0};
    if (!r->stopped) rest = spark_stops_finish(&r->stops);
    run_emit(r, rest, NULL);
    return SPARK_SUCCESS;
}

static spark_status run_prepare(session_run *r, spark_err *err)
{
    spark_session *s = r->s;
    const spark_generate_options *o = r->o;
    SPARK_CHECK(s->n > 0, err, SPARK_E_STATE, SPARK_ERR_NOWHERE, "the session is empty: feed at least one token");
    SPARK_TRY(spark_sampling_check(&o->sampling, o->logit_bias, o->n_logit_bias, s->n_vocab, err));
    const uint32_t max_top = SPARK_MAX_LOGPROBS < s->n_vocab ? SPARK_MAX_LOGPROBS : s->n_vocab;
    SPARK_CHECK(o->n_logprobs <= max_top, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "%u logprobs: at most %u are allowed", o->n_logprobs, max_top);
    SPARK_CHECK(o->n_stops <= SPARK_MAX_STOPS, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "%zu stop strings: at most %u are allowed", o->n_stops, SPARK_MAX_STOPS);
    spark_bytes stops[SPARK_MAX_STOPS];
    for (size_t i = 0; i < o->n_stops; i++) stops[i] = spark_bytes_of(o->stops[i]);
    SPARK_TRY(SPARK_NEW(s->arena, o->n_logprobs, &r->top, err));
    return spark_stops_create(&r->stops, stops, o->n_stops, SPARK_MAX_TOKEN_BYTES, s->arena, err);
}

spark_status spark_session_generate(spark_session *s, const spark_generate_options *o, spark_generate_result *out,
                                    spark_err *err)
{
    session_run r = {.s = s, .o = o};
    const spark_mark mark = spark_arena_mark(s->arena);
    spark_status st = run_prepare(&r, err);
    if (spark_ok(st)) st = run_loop(&r, err);
    spark_arena_reset(s->arena, mark);
    if (spark_ok(st)) *out = r.result;
    return st;
}
