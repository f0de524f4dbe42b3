/* engine_queue.c - who may wait, who gets the next seat, and who must give his back.
 *
 * Order: higher priority first; within one, the tenant that was served least (tokens computed: start-time fair queueing);
 * within a tenant, the oldest. The first in this order gets the next seat or nobody does, so none is overtaken for ever.
 *
 * Room: a request is seated when the pages for its tokens and one more, beside what those with seats will soon need, are free
 * or only cached. Requests that go on for long may need more than there is; then pass_pages (engine.c) takes seats back.
 * Who waits may take the seat of one that is held, of lower priority, or, within a priority, of a tenant with more seats who
 * has computed at least half as much since as it will have to compute again. */
#include <assert.h>
#include <string.h>

#include "base/checked.h"
#include "engine/engine_internal.h"

#define QUEUE_GUESS_NS 1e9 /* how long a request runs, before any has ended */

enum { QUEUE_QUANTUM = 256 /* rows that a seat is kept for, at least, before another tenant may claim it */ };

/* ---- Tenants ---- */

/* The least served of those who have requests: where a tenant that comes anew begins. */
static double queue_now_served(const spark_engine *e)
{
    double least = -1, most = 0;
    for (uint32_t i = 0; i < e->at.n_tenants; i++) {
        const engine_tenant *t = &e->tenants[i];
        if (!t->used) continue;
        if (t->served > most) most = t->served;
        if (t->n_requests && (least < 0 || t->served < least)) least = t->served;
    }
    return least < 0 ? most : least;
}

/* The tenant's place; one that has no request is kept until its place is needed, so that leaving clears no debt. */
static uint32_t queue_tenant(spark_engine *e, uint64_t id)
{
    const double now = queue_now_served(e);
    uint32_t place = ENGINE_NONE;
    for (uint32_t i = 0; i < e->at.n_tenants; i++) {
        engine_tenant *t = &e->tenants[i];
        if (t->used && t->id == id) {
            if (t->n_requests == 0 && t->served < now) t->served = now; /* nor does it save anything up */
            return i;
        }
        if (t->n_requests) continue;
        if (place == ENGINE_NONE || !t->used || (e->tenants[place].used && t->served < e->tenants[place].served))
            place = i;
    }
    assert(place != ENGINE_NONE); /* there are more places than requests */
    e->tenants[place] = (engine_tenant){.id = id, .served = now, .used = true};
    return place;
}

void spark__queue_bill(spark_engine *e, engine_request *r, uint32_t n_tokens)
{
    if (n_tokens <= r->n_billed) return; /* what is computed again was paid for */
    e->tenants[r->tenant].served += n_tokens - r->n_billed;
    if (r->n_billed < r->n_prompt)
        e->stats.prompt_tokens += (n_tokens < r->n_prompt ? n_tokens : r->n_prompt) - r->n_billed;
    r->n_billed = n_tokens;
}

/* ---- Prompts that wait ---- */

static void queue_put(spark_engine *e, uint32_t *block, size_t *at, const void *bytes, size_t n)
{
    for (const uint8_t *p = bytes; n > 0;) {
        if (*at == ENGINE_BLOCK) {
            *block = e->block_next[*block];
            *at = 0;
        }
        const size_t m = n < ENGINE_BLOCK - *at ? n : ENGINE_BLOCK - *at;
        memcpy(e->blocks + (size_t)*block * ENGINE_BLOCK + *at, p, m);
        *at += m;
        p += m;
        n -= m;
    }
}

static void queue_get(const spark_engine *e, uint32_t *block, size_t *at, void *bytes, size_t n)
{
    for (uint8_t *p = bytes; n > 0;) {
        if (*at == ENGINE_BLOCK) {
            *block = e->block_next[*block];
            *at = 0;
        }
        const size_t m = n < ENGINE_BLOCK - *at ? n : ENGINE_BLOCK - *at;
        memcpy(p, e->blocks + (size_t)*block * ENGINE_BLOCK + *at, m);
        *at += m;
        p += m;
        n -= m;
    }
}

static size_t queue_bytes(const spark_request *r)
{
    const spark_generate_options *o = &r->generate;
    size_t n = r->n_prompt * sizeof(uint32_t) + o->n_logit_bias * sizeof(spark_logit_bias);
    for (size_t i = 0; i < o->n_stops; i++) n += sizeof(uint32_t) + strlen(o->stops[i]);
    return n;
}

static uint32_t queue_blocks(const spark_request *r) { return (uint32_t)spark_div_up(queue_bytes(r), ENGINE_BLOCK); }

static void queue_store(spark_engine *e, engine_request *q, const spark_request *r)
{
    const spark_generate_options *o = &r->generate;
    const uint32_t n = queue_blocks(r);
    uint32_t block = q->blocks = e->free_block, last = block;
    for (uint32_t i = 1; i < n; i++) last = e->block_next[last];
    e->free_block = e->block_next[last];
    e->block_next[last] = ENGINE_NONE;
    e->n_blocks_free -= n;
    e->waiting_tokens += r->n_prompt;
    size_t at = 0;
    queue_put(e, &block, &at, r->prompt, r->n_prompt * sizeof *r->prompt);
    if (o->n_logit_bias) queue_put(e, &block, &at, o->logit_bias, o->n_logit_bias * sizeof *o->logit_bias);
    for (size_t i = 0; i < o->n_stops; i++) {
        const uint32_t len = (uint32_t)strlen(o->stops[i]);
        queue_put(e, &block, &at, &len, sizeof len);
        queue_put(e, &block, &at, o->stops[i], len);
    }
}

static void queue_free_blocks(spark_engine *e, engine_request *r)
{
    while (r->blocks != ENGINE_NONE) {
        const uint32_t block = r->blocks;
        r->blocks = e->block_next[block];
        memset(e->blocks + (size_t)block * ENGINE_BLOCK, 0, ENGINE_BLOCK); /* somebody's words */
        e->block_next[block] = e->free_block;
        e->free_block = block;
        e->n_blocks_free++;
    }
}

/* The first seat of a request: it moves to a desk. */
static void queue_unpack(spark_engine *e, engine_request *r)
{
    const uint32_t desk = e->free_desk;
    engine_desk *d = &e->desks[desk];
    e->free_desk = d->next;
    uint32_t block = r->blocks;
    size_t at = 0;
    queue_get(e, &block, &at, d->tokens, r->n_prompt * sizeof *d->tokens);
    queue_get(e, &block, &at, d->bias, r->n_bias * sizeof *d->bias);
    uint8_t *text = d->stop_text;
    for (uint32_t i = 0; i < r->n_stops; i++) {
        uint32_t len = 0;
        queue_get(e, &block, &at, &len, sizeof len);
        queue_get(e, &block, &at, text, len);
        d->stop[i] = (spark_bytes){text, len};
        text += len;
    }
    spark_stops_begin(&d->stops, d->stop, r->n_stops, d->held, e->at.held_cap);
    e->waiting_tokens -= r->n_prompt;
    queue_free_blocks(e, r);
    r->desk = desk;
}

void spark__queue_forget(spark_engine *e, engine_request *r)
{
    if (r->desk == ENGINE_NONE) {
        e->waiting_tokens -= r->n_prompt;
        queue_free_blocks(e, r);
    }
    e->tenants[r->tenant].n_requests--;
}

/* ---- Seats ---- */

/* Pages that the request will have when it has computed its tokens and some more. */
static uint32_t queue_wants(const engine_request *r)
{
    const uint32_t soon = engine_pages(r->n) + 1, most = engine_pages(r->n_most);
    return soon < most ? soon : most;
}

/* What it still lacks of that; a held one will not move. */
static uint32_t queue_lacks(const spark_engine *e, const engine_request *r)
{
    const uint32_t has = engine_pages(engine_length(e, r)), wants = queue_wants(r);
    return r->held || wants < has ? 0 : wants - has;
}

/* Pages that r lacks beside all those with seats, below 0 if some would be left. */
static int64_t queue_shortage(const spark_engine *e, const engine_request *r)
{
    if (e->n_running == 0) return 0; /* one request always fits */
    uint32_t n_unused = 0;
    const uint32_t hits = spark__cache_look(e, r, &n_unused);
    int64_t need = (int64_t)queue_wants(r) - hits;
    for (uint32_t i = 0; i < e->n_running; i++) need += queue_lacks(e, &e->requests[e->running[i]]);
    return need - (int64_t)spark_kv_pages_free(e->kv) - (int64_t)(e->cache.n_unused - n_unused);
}

static bool queue_may_oust(const spark_engine *e, const engine_request *r, const engine_request *v, bool for_seat)
{
    if (v->held || v->priority < r->priority) return true;
    const engine_tenant *mine = &e->tenants[r->tenant], *other = &e->tenants[v->tenant];
    const uint32_t again = v->n / 2 > QUEUE_QUANTUM ? v->n / 2 : QUEUE_QUANTUM;
    return for_seat && v->priority == r->priority && other->n_running >= mine->n_running + 2 &&
           mine->served < other->served && v->n_since >= again;
}

/* Who gives way to r: one that is held, else the lowest in rank that may be asked. */
static engine_request *queue_victim(const spark_engine *e, const engine_request *r, bool for_seat)
{
    engine_request *lowest = NULL;
    for (uint32_t i = e->n_running; i-- > 0;) {
        engine_request *v = &e->requests[e->running[i]];
        if (!queue_may_oust(e, r, v, for_seat)) continue;
        if (v->held) return v;
        if (!lowest) lowest = v;
    }
    return lowest;
}

static int64_t queue_yields(const spark_engine *e, const engine_request *v)
{
    return (int64_t)engine_pages(engine_length(e, v)) + queue_lacks(e, v);
}

/* Whether ousting would make up for the shortage: all who are held or lower, or for a seat one of another tenant. */
static bool queue_can_help(const spark_engine *e, const engine_request *r, int64_t shortage, bool for_seat)
{
    bool any = false;
    for (uint32_t i = 0; i < e->n_running; i++) {
        const engine_request *v = &e->requests[e->running[i]];
        if (!queue_may_oust(e, r, v, false)) continue;
        shortage -= queue_yields(e, v);
        any = true;
    }
    const engine_request *other = for_seat && !any ? queue_victim(e, r, true) : NULL;
    if (other) shortage -= queue_yields(e, other);
    return shortage <= 0;
}

static bool queue_make_room(spark_engine *e, const engine_request *r)
{
    if (r->desk == ENGINE_NONE && e->free_desk == ENGINE_NONE) return false;
    for (;;) {
        const bool for_seat = e->n_running == e->options.n_running;
        const int64_t shortage = queue_shortage(e, r);
        if (!for_seat && shortage <= 0) return true;
        engine_request *v = queue_can_help(e, r, shortage, for_seat) ? queue_victim(e, r, for_seat) : NULL;
        if (!v) return false;
        spark__engine_preempt(e, v);
    }
}

static void queue_seat(spark_engine *e, engine_request *r)
{
    const uint32_t index = (uint32_t)(r - e->requests);
    if (r->desk == ENGINE_NONE) queue_unpack(e, r);
    r->seq = e->seats[e->options.n_running - e->n_running - 1];
    uint32_t at = e->n_running++;
    for (; at > 0 && engine_outranks(r, &e->requests[e->running[at - 1]]); at--) e->running[at] = e->running[at - 1];
    e->running[at] = index;
    e->tenants[r->tenant].n_running++;
    r->state = REQUEST_RUNNING;
    r->n_since = r->n_known = r->n_rows = r->n_promised = 0;
    spark__cache_adopt(e, r);
}

void spark__queue_unseat(spark_engine *e, engine_request *r)
{
    const uint32_t index = (uint32_t)(r - e->requests);
    uint32_t at = 0;
    while (e->running[at] != index) at++;
    memmove(&e->running[at], &e->running[at + 1], (e->n_running - at - 1) * sizeof *e->running);
    e->n_running--;
    e->seats[e->options.n_running - e->n_running - 1] = r->seq;
    e->tenants[r->tenant].n_running--;
    e->n_promised -= r->n_promised;
    r->n_promised = r->n_rows = 0;
    r->state = REQUEST_WAITING;
}

/* Whether a gets a seat before b. */
bool spark__queue_before(const spark_engine *e, const engine_request *a, const engine_request *b)
{
    const double x = e->tenants[a->tenant].served, y = e->tenants[b->tenant].served;
    if (a->priority != b->priority) return a->priority > b->priority;
    return a->tenant != b->tenant && (x < y || x > y) ? x < y : a->order < b->order;
}

void spark__queue_admit(spark_engine *e)
{
    for (;;) {
        engine_request *next = NULL;
        if (e->n_alive == e->n_running) return;
        for (uint32_t i = 0; i < e->at.n_requests; i++) {
            engine_request *r = &e->requests[i];
            if (r->state == REQUEST_WAITING && !r->held && (!next || spark__queue_before(e, r, next))) next = r;
        }
        if (!next || !queue_make_room(e, next)) return;
        queue_seat(e, next);
    }
}

/* ---- Prediction ---- */

/* Nanoseconds that so many rows of prompts take now, beside those who decode: in passes as full as they will be for a prompt of
 * n_prompt rows. */
static double queue_rows_ns(const spark_engine *e, double n_rows, uint32_t n_prompt)
{
    engine_mix m = {0};
    double pass_ns = 0, row_ns = 0;
    spark__cost_prompts(&e->cost, &pass_ns, &row_ns);
    if (n_rows <= 0 || pass_ns + row_ns <= 0) return 0;
    for (uint32_t i = 0; i < e->n_running; i++) {
        const engine_request *r = &e->requests[e->running[i]];
        if (r->held || !engine_decodes(r)) continue;
        m.n_decode++;
        m.decode_depth += r->n;
    }
    uint32_t rows = e->options.n_batch - m.n_decode;
    if (m.n_decode && engine_is_timed(e, n_prompt)) {
        const uint32_t fit = spark__cost_rows(&e->cost, &m, 0, e->options.itl_target_us);
        if (fit < rows) rows = fit;
    }
    if (rows == 0) rows = 1;
    double own_ns = pass_ns + m.n_decode * row_ns; /* of a pass, beside the rows that are asked for */
    const double alone_ns = m.n_decode ? spark__cost_of(&e->cost, &m) : 0;
    if (own_ns < alone_ns) own_ns = alone_ns;
    return (double)spark_div_up((uint64_t)n_rows, rows) * own_ns + n_rows * row_ns;
}

double spark__queue_predict(const spark_engine *e, uint64_t tenant, int32_t priority, uint32_t n_prompt)
{
    double rows = n_prompt, others = 0;
    uint32_t ahead = 0, below = 0;
    for (uint32_t i = 0; i < e->at.n_requests; i++) {
        const engine_request *r = &e->requests[i];
        if (r->state == REQUEST_FREE || r->held) continue;
        below += r->state == REQUEST_RUNNING && r->priority < priority;
        if (r->priority < priority || engine_decodes(r)) continue;
        const bool mine = e->tenants[r->tenant].id == tenant || r->priority > priority;
        *(mine ? &rows : &others) += r->n - engine_length(e, r);
        ahead += r->state == REQUEST_WAITING && mine;
    }
    rows += others < rows ? others : rows; /* another tenant's queue goes ahead only by its share */
    const uint32_t seats = e->options.n_running - e->n_running + below;
    const double turns = seats > ahead ? 0 : (double)(ahead - seats + 1) / e->options.n_running;
    return queue_rows_ns(e, rows, n_prompt) + turns * e->cost.run_ns;
}

static uint32_t queue_ms(double ns)
{
    const double ms = ns / 1e6;
    return ms < 1 ? 1 : ms > 3600e3 ? 3600000 : (uint32_t)ms;
}

/* ---- Taking a request in ---- */

static uint32_t queue_ctx(const spark_engine *e, const spark_request *r)
{
    return r->n_ctx ? r->n_ctx : e->options.n_ctx;
}

static spark_status queue_check_prompt(const spark_engine *e, const spark_request *r, spark_err *err)
{
    SPARK_CHECK(r->n_prompt >= 1, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE, "a prompt needs at least one token");
    SPARK_CHECK(r->n_ctx <= e->options.n_ctx, err, SPARK_E_CONTEXT, SPARK_ERR_NOWHERE,
                "a context of %u tokens was asked for, and %u are planned", r->n_ctx, e->options.n_ctx);
    SPARK_CHECK(r->n_prompt < queue_ctx(e, r), err, SPARK_E_CONTEXT, SPARK_ERR_NOWHERE,
                "a prompt of %u tokens and one to answer do not fit a context of %u", r->n_prompt, queue_ctx(e, r));
    for (uint32_t i = 0; i < r->n_prompt; i++)
        SPARK_CHECK(r->prompt[i] < e->n_vocab, err, SPARK_E_ARGUMENT, i,
                    "token id %u, but the vocabulary has %u tokens", r->prompt[i], e->n_vocab);
    SPARK_CHECK(r->n_public <= r->n_prompt, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "%u public tokens of a prompt of %u", r->n_public, r->n_prompt);
    return SPARK_SUCCESS;
}

static spark_status queue_check(const spark_engine *e, const spark_request *r, spark_err *err)
{
    const spark_generate_options *o = &r->generate;
    spark_bytes stops[SPARK_MAX_STOPS];
    const uint32_t max_top = SPARK_MAX_LOGPROBS < e->n_vocab ? SPARK_MAX_LOGPROBS : e->n_vocab;
    for (uint32_t i = 0; i < e->at.n_requests; i++)
        SPARK_CHECK(e->requests[i].state == REQUEST_FREE || e->requests[i].id != r->id, err, SPARK_E_ARGUMENT,
                    SPARK_ERR_NOWHERE, "a request of this id is still alive");
    SPARK_TRY(queue_check_prompt(e, r, err));
    SPARK_CHECK(r->priority >= -1000 && r->priority <= 1000, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "priority %d: -1000 to 1000 is allowed", (int)r->priority);
    SPARK_CHECK(o->n_logit_bias <= SPARK_MAX_LOGIT_BIAS && o->n_stops <= SPARK_MAX_STOPS, err, SPARK_E_ARGUMENT,
                SPARK_ERR_NOWHERE, "%zu logit biases and %zu stop strings: at most %u and %u are allowed",
                o->n_logit_bias, o->n_stops, SPARK_MAX_LOGIT_BIAS, SPARK_MAX_STOPS);
    SPARK_TRY(spark_sampling_check(&o->sampling, o->logit_bias, o->n_logit_bias, e->n_vocab, err));
    SPARK_CHECK(o->n_logprobs <= max_top, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "%u logprobs: at most %u are allowed", o->n_logprobs, max_top);
    for (size_t i = 0; i < o->n_stops; i++) stops[i] = spark_bytes_of(o->stops[i]);
    return spark_stops_check(stops, o->n_stops, err);
}

/* Nothing would come before a new prompt: there is a seat, and all who have one decode. */
static bool queue_is_clear(const spark_engine *e)
{
    if (e->n_alive == 0) return true;
    for (uint32_t i = 0; i < e->at.n_requests; i++) {
        const engine_request *r = &e->requests[i];
        if (r->state != REQUEST_FREE && !r->held && !engine_decodes(r)) return false;
    }
    return e->n_running < e->options.n_running;
}

/* Who is refused teaches nothing, so a wrong estimate must not refuse for ever. Where others' prompts come first, these teach.
 * Where the way is clear, only what would take twice the time is refused, and each time counts as a doubt: after some, one may try. */
static spark_status queue_check_deadline(spark_engine *e, const spark_request *r, double *retry_ns, spark_err *err)
{
    if (r->deadline_ns == 0 || !spark__cost_is_sure(&e->cost)) return SPARK_SUCCESS;
    const double now = (double)engine_now(e), first = spark__queue_predict(e, r->tenant, r->priority, r->n_prompt);
    const bool clear = queue_is_clear(e);
    if (now + (clear ? first / 2 : first) < (double)r->deadline_ns) return SPARK_SUCCESS;
    if (clear) spark__cost_doubt(&e->cost);
    *retry_ns = first;
    return spark_fail(err, SPARK_E_REFUSED, SPARK_ERR_NOWHERE,
                      "the first token would come in about %.0f ms, after the deadline", first / 1e6);
}

/* Refuses what would only wait to die. */
static spark_status queue_check_room(spark_engine *e, const spark_request *r, double *retry_ns, spark_err *err)
{
    const spark_engine_options *o = &e->options;
    const uint32_t most = o->n_running + o->n_waiting;
    *retry_ns = (e->cost.run_ns > 0 ? e->cost.run_ns : QUEUE_GUESS_NS) / o->n_running;
    SPARK_CHECK(e->n_alive < most, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "the queue is full: %u requests run or wait, as many as may", most);
    /* who would find a seat free does not count as waiting */
    const uint64_t room = o->waiting_tokens + (uint64_t)(o->n_running - e->n_running) * o->n_ctx;
    const uint64_t after = e->waiting_tokens + r->n_prompt;
    if (after > room) *retry_ns += queue_rows_ns(e, (double)(after - room), r->n_prompt);
    SPARK_CHECK(after <= room && queue_blocks(r) <= e->n_blocks_free, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "the queue is full: %llu prompt tokens wait, and %u more do not fit",
                (unsigned long long)e->waiting_tokens, r->n_prompt);
    return queue_check_deadline(e, r, retry_ns, err);
}

static void queue_take(spark_engine *e, const spark_request *r)
{
    const spark_generate_options *o = &r->generate;
    const uint32_t index = e->free_request, n_ctx = queue_ctx(e, r);
    engine_request *q = &e->requests[index];
    e->free_request = q->next;
    e->n_alive++;
    *q = (engine_request){.id = r->id,
                          .order = e->next_order++,
                          .deadline_ns = r->deadline_ns,
                          .tenant = queue_tenant(e, r->tenant),
                          .priority = r->priority,
                          .state = REQUEST_WAITING,
                          .cache = r->cache,
                          .ignore_eog = o->ignore_eog,
                          .sampling = o->sampling,
                          .n_bias = (uint32_t)o->n_logit_bias,
                          .n_stops = (uint32_t)o->n_stops,
                          .n_logprobs = o->n_logprobs,
                          .max_tokens = o->max_tokens,
                          .n_prompt = r->n_prompt,
                          .n_public = r->n_public,
                          .n = r->n_prompt,
                          .n_ctx = n_ctx,
                          .n_most = o->max_tokens && o->max_tokens < n_ctx - r->n_prompt ? r->n_prompt + o->max_tokens
                                                                                         : n_ctx,
                          .desk = ENGINE_NONE,
                          .submit_ns = engine_now(e)};
    e->tenants[q->tenant].n_requests++;
    queue_store(e, q, r);
    e->stats.n_submitted++;
}

spark_status spark_engine_submit(spark_engine *e, const spark_request *r, uint32_t *retry_ms, spark_err *err)
{
    double retry_ns = 0;
    if (retry_ms) *retry_ms = 0;
    SPARK_TRY(queue_check(e, r, err));
    const spark_status st = queue_check_room(e, r, &retry_ns, err);
    if (!spark_ok(st)) {
        e->stats.n_refused++;
        if (retry_ms) *retry_ms = queue_ms(retry_ns);
        return st;
    }
    queue_take(e, r);
    return SPARK_SUCCESS;
}

void spark__queue_stats(const spark_engine *e, spark_engine_stats *out)
{
    for (uint32_t i = 0; i < e->at.n_requests; i++) {
        const engine_request *r = &e->requests[i];
        if (r->state == REQUEST_FREE) continue;
        out->n_running += r->state == REQUEST_RUNNING;
        out->n_waiting += r->state == REQUEST_WAITING;
        out->n_held += r->held;
    }
    const double wait = spark__queue_predict(e, UINT64_MAX, 0, 512);
    out->wait_ms = wait < 1e6 ? 0 : queue_ms(wait);
}
