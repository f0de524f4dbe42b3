/* engine.c - the life of an engine and of its requests, and one step of it.
 *
 * A step: what is too late fails; who waits gets seats; rows are given out, each with the pages that it needs promised; one
 * forward pass; what became full is remembered; tokens are drawn. Nothing here decides about a result: which rows are in a pass
 * does not show in its logits (model.h), nor who draws (sampler.h).
 *
 * Not here: the order of those who wait (engine_queue.c), the prefix cache, the cost of a pass, text. */
#include "engine/engine.h"

#include <assert.h>
#include <string.h>

#include "base/checked.h"
#include "base/clock.h"
#include "engine/engine_internal.h"

/* ---- Where everything lies ------------------------------------------------------------------------------------------ */

/* Room for count objects of `size` bytes on a cache line of its own. Counts are limited (engine_check), so 64 bits hold all. */
static uint64_t engine_take(engine_layout *l, uint64_t count, uint64_t size)
{
    const uint64_t begin = l->total;
    l->total += (count * size + 63) / 64 * 64;
    return begin;
}

static spark_status engine_check(const spark_net_info *i, const spark_engine_options *o, unsigned n_threads,
                                 spark_err *err)
{
    SPARK_CHECK(o->n_ctx >= 2 && o->n_ctx <= i->n_ctx_train && o->n_ctx <= SPARK_MAX_CTX, err, SPARK_E_ARGUMENT,
                SPARK_ERR_NOWHERE, "a context of %u tokens, but the model was made for 2 to %u", o->n_ctx,
                i->n_ctx_train);
    SPARK_CHECK(o->n_running >= 1 && o->n_running <= SPARK_MAX_SEQS && o->n_waiting <= SPARK_MAX_WAITING, err,
                SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "%u requests at once and %u waiting: 1 to %u and at most %u are allowed", o->n_running, o->n_waiting,
                SPARK_MAX_SEQS, SPARK_MAX_WAITING);
    SPARK_CHECK(o->n_batch >= o->n_running && o->n_batch <= SPARK_MAX_BATCH, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "passes of %u rows for %u requests at once: one for each, to %u, are allowed", o->n_batch, o->n_running,
                SPARK_MAX_BATCH);
    SPARK_CHECK(o->n_begun == 0 || (o->n_begun >= o->n_running && o->n_begun <= SPARK_MAX_WAITING), err,
                SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE, "%u requests begun, of which %u run: as many, to %u, are allowed",
                o->n_begun, o->n_running, SPARK_MAX_WAITING);
    const uint32_t least = engine_pages(o->n_ctx);
    SPARK_CHECK(o->n_pages == 0 || (o->n_pages >= least && o->n_pages <= SPARK_MAX_KV_PAGES), err, SPARK_E_ARGUMENT,
                SPARK_ERR_NOWHERE, "%u pages of keys and values: one request of %u tokens needs %u", o->n_pages,
                o->n_ctx, least);
    SPARK_CHECK(n_threads >= 1 && n_threads <= SPARK_POOL_MAX, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "%u threads: 1 to %u are allowed", n_threads, SPARK_POOL_MAX);
    return SPARK_SUCCESS;
}

static uint32_t engine_n_desks(const spark_engine_options *o)
{
    return o->n_begun ? o->n_begun : ENGINE_DESKS * o->n_running;
}

static spark_shape engine_shape(const spark_engine_options *o, unsigned n_threads)
{
    return (spark_shape){.n_ctx = o->n_ctx,
                         .n_seqs = o->n_running,
                         .n_batch = o->n_batch,
                         .n_logits = o->n_running,
                         .n_threads = n_threads,
                         .n_pages = o->n_pages ? o->n_pages : o->n_running * engine_pages(o->n_ctx),
                         .kv_type = o->kv_type};
}

static uint32_t engine_longest_piece(const spark_tokenizer *t)
{
    uint8_t buf[SPARK_TOKENIZER_PIECE];
    size_t longest = 0;
    for (uint32_t id = 0; t && id < spark_tokenizer_n_vocab(t); id++) {
        const size_t len = spark_tokenizer_piece(t, id, false, buf).len;
        if (len > longest) longest = len;
    }
    return (uint32_t)longest;
}

static void engine_lay_desks(engine_layout *l, const spark_engine_options *o)
{
    const uint64_t n = l->n_desks;
    l->desks = engine_take(l, n, sizeof(engine_desk));
    l->tokens = engine_take(l, n, (uint64_t)o->n_ctx * sizeof(uint32_t));
    l->bias = engine_take(l, n, SPARK_MAX_LOGIT_BIAS * sizeof(spark_logit_bias));
    l->stop = engine_take(l, n, SPARK_MAX_STOPS * sizeof(spark_bytes));
    l->stop_text = engine_take(l, n, (uint64_t)SPARK_MAX_STOPS * SPARK_MAX_STOP_BYTES);
    l->held = engine_take(l, n, l->held_cap);
    l->top = engine_take(l, n, SPARK_MAX_LOGPROBS * sizeof(spark_logprob));
}

/* Blocks for all that may wait: prompts, the parameters of one request at their largest, and some of each. */
static uint64_t engine_n_blocks(const spark_engine_options *o)
{
    const uint64_t parameters = SPARK_MAX_LOGIT_BIAS * sizeof(spark_logit_bias) +
                                SPARK_MAX_STOPS * ((uint64_t)SPARK_MAX_STOP_BYTES + sizeof(uint32_t));
    const uint64_t prompts = ((uint64_t)o->waiting_tokens + (uint64_t)o->n_running * o->n_ctx) * sizeof(uint32_t);
    return (prompts + parameters) / ENGINE_BLOCK + 2 + 2 * ((uint64_t)o->n_running + o->n_waiting);
}

static void engine_lay_out(engine_layout *l, const spark_engine_options *o, const spark_tokenizer *t, uint32_t n_vocab,
                           unsigned n_threads)
{
    const uint32_t n_samplers = n_threads < ENGINE_MAX_SAMPLERS ? n_threads : ENGINE_MAX_SAMPLERS;
    const uint32_t n_desks = engine_n_desks(o), n_requests = o->n_running + o->n_waiting;
    *l = (engine_layout){.n_requests = n_requests,
                         .n_desks = n_desks,
                         .n_tenants = 2 * n_requests,
                         .n_blocks = (uint32_t)engine_n_blocks(o),
                         .n_events = n_requests + ENGINE_DESK_EVENTS * n_desks,
                         .n_samplers = n_samplers < o->n_running ? n_samplers : o->n_running,
                         .n_buckets = 1,
                         .n_pages = o->n_pages ? o->n_pages : o->n_running * engine_pages(o->n_ctx),
                         .held_cap = (uint32_t)spark_stops_room(SPARK_MAX_STOP_BYTES, engine_longest_piece(t)),
                         .total = spark_round_up(sizeof(spark_engine), 64)};
    l->requests = engine_take(l, n_requests, sizeof(engine_request));
    l->tenants = engine_take(l, l->n_tenants, sizeof(engine_tenant));
    l->running = engine_take(l, o->n_running, sizeof(uint32_t));
    l->seats = engine_take(l, o->n_running, sizeof(uint32_t));
    l->order = engine_take(l, o->n_running, sizeof(uint32_t));
    l->draws = engine_take(l, o->n_running, sizeof(uint32_t));
    l->rows = engine_take(l, o->n_batch, sizeof(spark_row));
    l->events = engine_take(l, l->n_events, sizeof(spark_event));
    l->block_next = engine_take(l, l->n_blocks, sizeof(uint32_t));
    l->blocks = engine_take(l, l->n_blocks, ENGINE_BLOCK);
    engine_lay_desks(l, o);
    if (o->prefix_cache) {
        while (l->n_buckets < l->n_pages) l->n_buckets *= 2;
        l->pages = engine_take(l, l->n_pages, sizeof(engine_page));
        l->buckets = engine_take(l, l->n_buckets, sizeof(uint32_t));
    }
    l->sampler_bytes = spark_sampler_bytes(n_vocab, o->n_ctx);
    l->samplers = engine_take(l, l->n_samplers, l->sampler_bytes);
}

spark_status spark_engine_plan(const spark_net *net, const spark_tokenizer *tokenizer, const spark_engine_options *o,
                               unsigned n_threads, spark_engine_memory *out, spark_err *err)
{
    spark_net_info info;
    spark_memory m;
    engine_layout l;
    spark_net_info_get(net, &info);
    SPARK_TRY(engine_check(&info, o, n_threads, err));
    const spark_shape shape = engine_shape(o, n_threads);
    SPARK_TRY(spark_net_plan(net, &shape, &m, err));
    engine_lay_out(&l, o, tokenizer, info.n_vocab, n_threads);
    const uint64_t samplers = l.n_samplers * l.sampler_bytes;
    *out = (spark_engine_memory){
        .kv = m.kv, .scratch = m.scratch - m.loading + samplers, .requests = l.total - samplers};
    return SPARK_SUCCESS;
}

/* ---- Life ----------------------------------------------------------------------------------------------------------- */

static void *engine_at(const spark_engine *e, uint64_t offset) { return (uint8_t *)e->memory.ptr + offset; }

static void engine_set_desks(spark_engine *e)
{
    const uint64_t n_ctx = e->options.n_ctx;
    e->desks = engine_at(e, e->at.desks);
    for (uint32_t i = 0; i < e->at.n_desks; i++)
        e->desks[i] = (engine_desk){
            .tokens = engine_at(e, e->at.tokens + i * n_ctx * sizeof(uint32_t)),
            .bias = engine_at(e, e->at.bias + (uint64_t)i * SPARK_MAX_LOGIT_BIAS * sizeof(spark_logit_bias)),
            .stop = engine_at(e, e->at.stop + (uint64_t)i * SPARK_MAX_STOPS * sizeof(spark_bytes)),
            .stop_text = engine_at(e, e->at.stop_text + (uint64_t)i * SPARK_MAX_STOPS * SPARK_MAX_STOP_BYTES),
            .held = engine_at(e, e->at.held + (uint64_t)i * e->at.held_cap),
            .top = engine_at(e, e->at.top + (uint64_t)i * SPARK_MAX_LOGPROBS * sizeof(spark_logprob)),
            .next = i + 1 < e->at.n_desks ? i + 1 : ENGINE_NONE};
    e->free_desk = 0;
    e->used_desk = ENGINE_NONE;
}

static void engine_set_tables(spark_engine *e)
{
    const engine_layout *l = &e->at;
    e->requests = engine_at(e, l->requests);
    e->tenants = engine_at(e, l->tenants);
    e->running = engine_at(e, l->running);
    e->seats = engine_at(e, l->seats);
    e->order = engine_at(e, l->order);
    e->draws = engine_at(e, l->draws);
    e->rows = engine_at(e, l->rows);
    e->events = engine_at(e, l->events);
    e->block_next = engine_at(e, l->block_next);
    e->blocks = engine_at(e, l->blocks);
    for (uint32_t i = 0; i < l->n_requests; i++) e->requests[i].next = i + 1 < l->n_requests ? i + 1 : ENGINE_NONE;
    for (uint32_t i = 0; i < l->n_blocks; i++) e->block_next[i] = i + 1 < l->n_blocks ? i + 1 : ENGINE_NONE;
    for (uint32_t i = 0; i < e->options.n_running; i++) e->seats[i] = i;
    e->n_blocks_free = l->n_blocks;
    for (uint32_t i = 0; i < l->n_samplers; i++)
        e->samplers[i] = spark_sampler_place(engine_at(e, l->samplers + i * l->sampler_bytes), e->parts.kern,
                                             e->n_vocab, e->options.n_ctx, e->parts.dry_breaks);
    engine_set_desks(e);
    spark__cache_create(e);
}

spark_status spark_engine_create(spark_engine **out, const spark_engine_parts *parts, const spark_engine_options *o,
                                 spark_err *err)
{
    const unsigned n_threads = spark_pool_threads(parts->pool);
    spark_net_info info;
    engine_layout l;
    spark_pages memory = {0};
    spark_net_info_get(parts->net, &info);
    SPARK_TRY(engine_check(&info, o, n_threads, err));
    const spark_shape shape = engine_shape(o, n_threads);
    engine_lay_out(&l, o, parts->tokenizer, info.n_vocab, n_threads);
    SPARK_CHECK(l.total <= SIZE_MAX / 2, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE, "%llu bytes for requests are too many",
                (unsigned long long)l.total);
    SPARK_TRY(spark_pages_alloc(&memory, (size_t)l.total, "requests", err));
    spark_engine *e = memory.ptr;
    *e = (spark_engine){.parts = *parts,
                        .options = *o,
                        .at = l,
                        .memory = memory,
                        .n_vocab = info.n_vocab,
                        .n_vocab_text = parts->tokenizer ? spark_tokenizer_n_vocab(parts->tokenizer) : 0,
                        .n_threads = n_threads};
    if (!e->parts.now) e->parts.now = spark_clock_ns;
    spark_status st = spark_kv_create(&e->kv, parts->net, &shape, err);
    if (spark_ok(st)) st = spark_exec_create(&e->exec, parts->net, &shape, parts->pool, parts->isa, err);
    if (!spark_ok(st)) {
        spark_engine_destroy(&e);
        return st;
    }
    spark_exec_pulse(e->exec, parts->pulse, parts->pulse_ctx);
    engine_set_tables(e);
    *out = e;
    return SPARK_SUCCESS;
}

void spark_engine_destroy(spark_engine **engine)
{
    spark_engine *e = *engine;
    if (!e) return;
    spark_exec_destroy(&e->exec);
    spark_kv_destroy(&e->kv);
    spark_pages memory = e->memory; /* the struct lies in it */
    spark_pages_free(&memory);
    *engine = NULL;
}

/* ---- Requests end and make room ------------------------------------------------------------------------------------- */

spark_event *spark__engine_event(spark_engine *e, const engine_request *r, spark_event_kind kind)
{
    assert(e->n_events < e->at.n_events); /* ENGINE_DESK_EVENTS of each in a step, and they are taken between steps */
    spark_event *v = &e->events[e->n_events++];
    *v = (spark_event){.id = r->id, .kind = kind};
    return v;
}

/* Empties the sequence; its full pages stay in the cache, if it takes part. */
static void engine_let_go(spark_engine *e, engine_request *r)
{
    spark__cache_leave(e, r);
    spark_kv_truncate(e->kv, r->seq, 0);
    spark__queue_unseat(e, r);
}

void spark__engine_preempt(spark_engine *e, engine_request *r)
{
    engine_let_go(e, r);
    e->stats.n_preempted++;
}

static void engine_times(spark_event *v, const engine_request *r, uint64_t now)
{
    const uint64_t start = r->announced ? r->start_ns : now, first = r->n_drawn ? r->first_ns : now;
    v->n_tokens = r->n_drawn;
    v->queue_ns = start - r->submit_ns;
    v->prompt_ns = first - start;
    v->decode_ns = now - first;
}

spark_event *spark__engine_end(spark_engine *e, engine_request *r, spark_event_kind kind)
{
    const uint64_t now = engine_now(e);
    spark_event *v = spark__engine_event(e, r, kind);
    engine_times(v, r, now);
    if (r->state == REQUEST_RUNNING) engine_let_go(e, r);
    if (r->announced && kind == SPARK_EVENT_FINISHED) spark__cost_learn_run(&e->cost, now - r->start_ns);
    spark__queue_forget(e, r);
    if (r->desk != ENGINE_NONE) { /* its text is borrowed until the next step */
        engine_desk *d = engine_desk_of(e, r);
        d->n_used = r->n;
        d->next = e->used_desk;
        e->used_desk = r->desk;
    }
    r->state = REQUEST_FREE;
    r->next = e->free_request;
    e->free_request = (uint32_t)(r - e->requests);
    e->n_alive--;
    return v;
}

static void engine_fail(spark_engine *e, engine_request *r, const spark_err *why, bool late)
{
    spark_event *v = spark__engine_end(e, r, SPARK_EVENT_FAILED);
    v->err = *why;
    v->late = late;
    e->stats.n_failed++;
}

static engine_request *engine_find(const spark_engine *e, uint64_t id)
{
    for (uint32_t i = 0; i < e->at.n_requests; i++)
        if (e->requests[i].state != REQUEST_FREE && e->requests[i].id == id) return &e->requests[i];
    return NULL;
}

void spark_engine_cancel(spark_engine *e, uint64_t id)
{
    engine_request *r = engine_find(e, id);
    if (!r) return;
    spark__engine_end(e, r, SPARK_EVENT_FINISHED)->finish = SPARK_FINISH_CANCELLED;
    e->stats.n_cancelled++;
}

void spark_engine_hold(spark_engine *e, uint64_t id, bool hold)
{
    engine_request *r = engine_find(e, id);
    if (r) r->held = hold;
}

/* ---- A pass --------------------------------------------------------------------------------------------------------- */

/* Who gives his pages to r: one that is held, else the lowest in rank below r. */
static engine_request *pass_victim(const spark_engine *e, const engine_request *r)
{
    engine_request *lowest = NULL;
    for (uint32_t i = e->n_running; i-- > 0;) {
        engine_request *v = &e->requests[e->running[i]];
        if (v == r || (spark_kv_length(e->kv, v->seq) == 0 && v->n_promised == 0)) continue;
        if (v->held) return v;
        if (!lowest && engine_outranks(r, v)) lowest = v;
    }
    return lowest;
}

/* Sees to it that n pages are free beside those promised; returns how many of them are. */
static uint32_t pass_find_pages(spark_engine *e, const engine_request *r, uint32_t n)
{
    while (spark_kv_pages_free(e->kv) - e->n_promised < n) {
        if (spark__cache_evict(e)) continue;
        engine_request *v = pass_victim(e, r);
        if (!v) break;
        spark__engine_preempt(e, v);
    }
    const uint32_t free = spark_kv_pages_free(e->kv) - e->n_promised;
    return free < n ? free : n;
}

/* Gives r up to n rows of the pass, and the pages they need. Without a page it waits: those before it will end. */
static void pass_give(spark_engine *e, engine_request *r, uint32_t n)
{
    const uint32_t length = spark_kv_length(e->kv, r->seq), has = engine_pages(length);
    const uint32_t found = pass_find_pages(e, r, engine_pages(length + n) - has);
    const uint32_t room = (has + found) * SPARK_KV_BLOCK - length;
    r->n_rows = n < room ? n : room;
    r->n_promised = engine_pages(length + r->n_rows) - has;
    e->n_promised += r->n_promised;
    r->asked = true;
    e->order[e->n_order++] = (uint32_t)(r - e->requests);
}

static bool pass_may_ask(const engine_request *r) { return !r->held && !r->asked; }

/* A row for everyone who needs just one, by rank. *streams: some of them are streams. */
static void pass_give_decode(spark_engine *e, engine_mix *m, bool *streams)
{
    for (uint32_t i = 0; i < e->n_running; i++) {
        engine_request *r = &e->requests[e->running[i]];
        if (!pass_may_ask(r) || r->n - spark_kv_length(e->kv, r->seq) != 1) continue;
        const uint32_t before = e->n_running;
        pass_give(e, r, 1);
        m->n_decode += r->n_rows;
        m->decode_depth += r->n_rows ? r->n : 0;
        *streams |= engine_decodes(r);
        if (e->n_running != before) i = UINT32_MAX; /* who gave pages has left the list: once more from its beginning */
    }
}

static engine_request *pass_next_prompt(const spark_engine *e)
{
    engine_request *best = NULL;
    for (uint32_t i = 0; i < e->n_running; i++) {
        engine_request *r = &e->requests[e->running[i]];
        if (pass_may_ask(r) && (!best || spark__queue_before(e, r, best))) best = r;
    }
    return best;
}

/* Rows of a prompt at this depth that the pass has time for. */
static uint32_t pass_fit(const spark_engine *e, const engine_mix *m, uint32_t depth)
{
    return spark__cost_rows(&e->cost, m, depth, e->options.itl_target_us);
}

/* The rest of the pass: prompts in fair order, as many rows as the time allows. */
static void pass_give_prompts(spark_engine *e, engine_mix *m, bool streams)
{
    bool looks = false; /* at streams alone */
    for (;;) {
        engine_request *r = pass_next_prompt(e);
        uint32_t room = e->options.n_batch - m->n_decode - m->n_prompt;
        if (!r || room == 0) return;
        spark__cache_adopt(e, r);
        const uint32_t length = spark_kv_length(e->kv, r->seq), left = r->n - length;
        const bool timed = streams && engine_is_timed(e, left + r->n_since);   /* all that it computes with its seat */
        looks = looks || (timed && m->n_decode && spark__cost_look(&e->cost)); /* no pass is empty */
        const uint32_t fit = !timed ? room : looks ? 0 : pass_fit(e, m, length);
        if (fit == 0) {
            if (e->options.itl_target_us != SPARK_ITL_AUTO) return;
            r->asked = true; /* short ones behind it are not held up */
            continue;
        }
        if (fit < room) room = fit;
        pass_give(e, r, left < room ? left : room);
        m->n_prompt += r->n_rows;
        m->prompt_depth += (double)r->n_rows * (length + 0.5 * r->n_rows);
    }
}

/* Gives out rows; returns what the pass consists of. Whoever was asked and then lost his seat has none. */
static engine_mix pass_give_all(spark_engine *e)
{
    engine_mix m = {0};
    bool streams = false;
    e->n_order = 0;
    for (uint32_t i = 0; i < e->n_running; i++) e->requests[e->running[i]].asked = false;
    pass_give_decode(e, &m, &streams);
    pass_give_prompts(e, &m, streams);
    return m;
}

/* What the target is a share of moves with noise too, so only one of the operator's is judged. */
static void pass_learn(spark_engine *e, const engine_mix *m, uint64_t ns)
{
    const uint32_t target = e->options.itl_target_us;
    spark__cost_learn(&e->cost, m, ns);
    if (target != 0 && target != SPARK_ITL_AUTO && m->n_decode && m->n_prompt)
        spark__cost_judge(&e->cost, spark__cost_target(&e->cost, m, target), ns);
}

static void pass_announce(spark_engine *e, engine_request *r)
{
    if (r->announced) return;
    r->announced = true;
    r->start_ns = engine_now(e);
    spark_event *v = spark__engine_event(e, r, SPARK_EVENT_STARTED);
    v->n_prompt = r->n_prompt;
    v->n_cached = r->n_known * SPARK_KV_BLOCK;
    e->stats.cached_tokens += v->n_cached;
}

static uint32_t pass_rows(spark_engine *e)
{
    uint32_t n = 0;
    for (uint32_t k = 0; k < e->n_order; k++) {
        engine_request *r = &e->requests[e->order[k]];
        if (r->n_rows == 0) continue;
        const uint32_t length = spark_kv_length(e->kv, r->seq);
        const uint32_t *tokens = engine_desk_of(e, r)->tokens + length;
        pass_announce(e, r);
        for (uint32_t i = 0; i < r->n_rows; i++)
            e->rows[n++] = (spark_row){.token = tokens[i], .seq = r->seq, .logits = length + i + 1 == r->n};
    }
    return n;
}

/* The request whose row of the pass this is, and the position that the row has in it. */
static engine_request *pass_owner(const spark_engine *e, uint64_t row, uint32_t *position)
{
    for (uint32_t k = 0; k < e->n_order; k++) {
        engine_request *r = &e->requests[e->order[k]];
        if (row < r->n_rows) {
            *position = spark_kv_length(e->kv, r->seq) + (uint32_t)row;
            return r;
        }
        row -= r->n_rows;
    }
    return NULL;
}

/* The rows are computed: what they were promised is taken, tenants pay, full pages are remembered, logits are handed on. */
static void pass_account(spark_engine *e, const float *logits)
{
    e->n_draws = e->n_promised = 0;
    for (uint32_t k = 0; k < e->n_order; k++) {
        engine_request *r = &e->requests[e->order[k]];
        if (r->n_rows == 0) continue;
        const uint32_t length = spark_kv_length(e->kv, r->seq);
        spark__queue_bill(e, r, length);
        r->n_since += r->n_rows;
        r->n_rows = r->n_promised = 0;
        spark__cache_add(e, r);
        if (length < r->n) continue;
        r->logits = logits + (size_t)e->n_draws * e->n_vocab;
        e->draws[e->n_draws++] = e->order[k];
    }
}

/* One pass without the requests whose values are not finite: those fail. Returns the number of rows computed. */
static uint32_t pass_run(spark_engine *e, bool *clean)
{
    *clean = true;
    for (;;) {
        const float *logits = NULL;
        spark_err err = {0};
        const uint32_t n = pass_rows(e);
        if (n == 0) return 0;
        const spark_status st = spark_forward(e->exec, e->kv, e->rows, n, &logits, &err);
        if (spark_ok(st)) {
            pass_account(e, logits);
            return n;
        }
        *clean = false;
        uint32_t position = 0;
        engine_request *bad = pass_owner(e, st.code == SPARK_E_NUMERIC ? err.at : 0, &position);
        assert(st.code == SPARK_E_NUMERIC && bad); /* rows and pages were checked */
        if (st.code == SPARK_E_NUMERIC)
            spark_err_set(&err, SPARK_E_NUMERIC, position, "a value is not finite at token %u", position);
        engine_fail(e, bad, &err, false);
    }
}

/* ---- A step --------------------------------------------------------------------------------------------------------- */

static void step_clear(spark_engine *e)
{
    e->n_events = e->n_taken = 0;
    while (e->used_desk != ENGINE_NONE) {
        const uint32_t i = e->used_desk;
        engine_desk *d = &e->desks[i];
        e->used_desk = d->next;
        memset(d->tokens, 0, d->n_used * sizeof *d->tokens); /* somebody's words */
        memset(d->held, 0, d->stops.len);
        d->next = e->free_desk;
        e->free_desk = i;
    }
}

static void step_deadlines(spark_engine *e)
{
    const uint64_t now = engine_now(e);
    for (uint32_t i = 0; i < e->at.n_requests; i++) {
        engine_request *r = &e->requests[i];
        if (r->state == REQUEST_FREE || r->deadline_ns == 0 || now < r->deadline_ns) continue;
        spark_err err = {0};
        spark_err_set(&err, SPARK_E_CANCELLED, SPARK_ERR_NOWHERE, "the deadline passed after %u tokens", r->n_drawn);
        engine_fail(e, r, &err, true);
    }
}

bool spark_engine_step(spark_engine *e)
{
    bool clean = true;
    step_clear(e);
    step_deadlines(e);
    spark__queue_admit(e);
    const uint64_t start = engine_now(e);
    const engine_mix mix = pass_give_all(e);
    const uint32_t n = pass_run(e, &clean);
    if (n > 0) {
        e->stats.n_rows += n;
        spark__draw_all(e);
        const uint64_t ns = engine_now(e) - start;
        if (clean) pass_learn(e, &mix, ns);
        e->stats.n_passes++;
        e->stats.pass_ns += ns;
    }
    return n > 0 || e->n_events > 0;
}

bool spark_engine_settle(spark_engine *e)
{
    const spark_pages *memory[] = {spark_exec_memory(e->exec), &e->memory, spark_kv_memory(e->kv)};
    if (e->n_settled == SPARK_COUNT(memory)) return false;
    const spark_pages *p = memory[e->n_settled];
    spark_pages_touch(p, e->settled, ENGINE_SETTLE);
    e->settled += ENGINE_SETTLE;
    if (e->settled >= p->len) {
        e->settled = 0;
        e->n_settled++;
    }
    return true;
}

bool spark_engine_event(spark_engine *e, spark_event *out)
{
    if (e->n_taken == e->n_events) {
        e->n_taken = e->n_events = 0;
        return false;
    }
    *out = e->events[e->n_taken++];
    return true;
}

uint64_t spark_engine_next_ns(const spark_engine *e)
{
    uint64_t next = 0;
    for (uint32_t i = 0; i < e->at.n_requests; i++) {
        const engine_request *r = &e->requests[i];
        if (r->state != REQUEST_FREE && r->deadline_ns != 0 && (next == 0 || r->deadline_ns < next))
            next = r->deadline_ns;
    }
    return next;
}

void spark_engine_stats_get(const spark_engine *e, spark_engine_stats *out)
{
    *out = e->stats;
    spark__queue_stats(e, out);
    out->n_pages = spark_kv_pages(e->kv);
    out->n_pages_free = spark_kv_pages_free(e->kv);
    out->n_pages_cached = e->cache.n_unused;
}
