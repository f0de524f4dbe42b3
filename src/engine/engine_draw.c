/* engine_draw.c - from the logits of a pass to tokens, text and events.
 * Drawing is shared among the threads of the pool, one request each at a time; a draw depends on nothing but its own request
 * (sampler.h), so who does it never shows. What follows is quick and done in order of rank. */
#include <string.h>

#include "engine/engine_internal.h"

static void draw_one(const spark_engine *e, spark_sampler *s, engine_request *r)
{
    const engine_desk *d = engine_desk_of(e, r);
    r->drawn = spark_sampler_draw(s, &r->sampling, d->bias, r->n_bias, r->logits, d->tokens, r->n);
    if (r->n_logprobs) r->logprob = spark_sampler_logprobs(s, r->logits, r->drawn, d->top, r->n_logprobs);
}

static void draw_task(void *arg, unsigned thread, unsigned n_threads)
{
    spark_engine *e = arg;
    (void)n_threads;
    if (thread >= e->at.n_samplers) return;
    for (uint32_t i; (i = spark_ticket_take(&e->ticket, 1)) < e->n_draws;)
        draw_one(e, e->samplers[thread], &e->requests[e->draws[i]]);
}

static void draw_piece(spark_engine *e, const engine_request *r, spark_bytes text, bool has_token)
{
    spark_event *v = spark__engine_event(e, r, SPARK_EVENT_PIECE);
    v->piece = (spark_piece){.text = text.len ? (const char *)text.ptr : "", .len = text.len, .has_token = has_token};
    if (!has_token) return;
    v->piece.id = r->drawn;
    v->piece.logprob = r->n_logprobs ? r->logprob : 0;
    v->piece.top = engine_desk_of(e, r)->top;
    v->piece.n_top = r->n_logprobs;
}

static void draw_finish(spark_engine *e, engine_request *r, spark_finish why, bool stopped)
{
    spark_stops *stops = &engine_desk_of(e, r)->stops;
    const uint32_t which = (uint32_t)stops->which;
    spark_bytes rest = {0};
    if (!stopped) rest = spark_stops_finish(stops);
    if (rest.len) draw_piece(e, r, rest, false);
    spark_event *v = spark__engine_end(e, r, SPARK_EVENT_FINISHED);
    e->stats.n_finished++;
    v->finish = why;
    v->stop_string = stopped;
    v->which_stop = stopped ? which : 0;
}

/* What spark_session_generate does with a drawn token. */
static void draw_take(spark_engine *e, engine_request *r)
{
    engine_desk *d = engine_desk_of(e, r);
    const spark_tokenizer *t = e->parts.tokenizer;
    const bool in_text = r->drawn < e->n_vocab_text;
    const bool eog = in_text && !r->ignore_eog && spark_tokenizer_is_eog(t, r->drawn);
    uint8_t buf[SPARK_TOKENIZER_PIECE];
    spark_bytes bytes = {0}, ready = {0};
    if (r->n_drawn++ == 0) r->first_ns = engine_now(e);
    if (!eog && in_text) bytes = spark_tokenizer_piece(t, r->drawn, false, buf);
    const bool stopped = spark_stops_push(&d->stops, bytes, &ready);
    if (!eog) d->tokens[r->n++] = r->drawn;
    e->stats.generated_tokens++;
    draw_piece(e, r, ready, true);
    if (stopped || eog)
        draw_finish(e, r, SPARK_FINISH_STOP, stopped);
    else if (r->n_drawn == r->max_tokens || r->n == r->n_ctx)
        draw_finish(e, r, SPARK_FINISH_LENGTH, false);
}

void spark__draw_all(spark_engine *e)
{
    if (e->n_draws == 1) {
        draw_one(e, e->samplers[0], &e->requests[e->draws[0]]);
    } else {
        spark_ticket_reset(&e->ticket);
        spark_pool_run(e->parts.pool, draw_task, e);
    }
    for (uint32_t i = 0; i < e->n_draws; i++) draw_take(e, &e->requests[e->draws[i]]);
}
