/* engine_fixture.h - for the tests of this room: an engine on a small random model, requests, and the tokens they must give.
 * The clock is the test's own: it goes on by a microsecond at each look, or as told. For tests only. */
#ifndef SPARK_ENGINE_FIXTURE_H
#define SPARK_ENGINE_FIXTURE_H

#include "base/checked.h"
#include "engine/engine_internal.h"
#include "model/fixture.h"

enum { MAX_ID = 128, N_CTX = 400 };

/* ---- A model, and an engine on it -------------------------------------------------------------------------------------- */

static const fixture_spec small = {.arch = "llama",
                                   .heads = 4,
                                   .heads_kv = 2,
                                   .head_dim = 16,
                                   .ctx = 512,
                                   .type = SPARK_TYPE_F32,
                                   .hot_token = FIXTURE_VOCAB - 1};
enum { HOT = FIXTURE_VOCAB - 1, TAME = FIXTURE_VOCAB - 1 /* tokens below it are harmless */ };

static fixture model;
static spark_pool *pools[3]; /* of 1, 2 and 3 threads */
static spark_kern kern;
static uint64_t clock_now, clock_step = 1000;
static const spark_engine *clock_engine; /* not NULL: each row of a pass takes ROW_NS, and each pass pass_ns */
static uint64_t clock_rows, pass_ns;     /* rows that it has seen */
enum { ROW_NS = 10000 };

SPARK_UNUSED static uint64_t test_clock(void)
{
    const uint64_t rows = clock_engine ? clock_engine->stats.n_rows - clock_rows : 0;
    clock_now += clock_step + rows * ROW_NS + (rows ? pass_ns : 0);
    clock_rows += rows;
    return clock_now;
}

/* What came out for one request. */
typedef struct heard {
    uint32_t n, tokens[N_CTX], n_cached, n_started, n_ended, n_reported;
    double logprobs;
    bool finished, failed, late;
    spark_finish finish;
    spark_err err;
    uint32_t order; /* when it ended, among all */
} heard;

typedef struct rig {
    spark_engine *e;
    heard heard[MAX_ID];
    uint32_t n_ended;
} rig;

static rig the;

SPARK_UNUSED static int open_model(void **state)
{
    (void)state;
    spark_err err = {0};
    fixture_make(&model, &small);
    for (unsigned i = 0; i < 3; i++) assert_ok(spark_pool_create(&pools[i], i + 1, NULL));
    if (!spark_ok(fixture_bind(&model, &err)) || !spark_ok(fixture_load(&model, pools[0], &err)))
        fail_msg("%s", err.text);
    spark_kern_init(&kern, spark_isa_best());
    return 0;
}

SPARK_UNUSED static int close_model(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) spark_pool_destroy(&pools[i]);
    fixture_close(&model);
    return 0;
}

SPARK_UNUSED static spark_engine_options plain_options(void)
{
    return (spark_engine_options){.n_ctx = N_CTX,
                                  .n_running = 4,
                                  .n_waiting = 60,
                                  .waiting_tokens = 20000,
                                  .n_batch = 32,
                                  .kv_type = SPARK_KV_F16,
                                  .prefix_cache = true};
}

SPARK_UNUSED static spark_engine_parts parts_of(unsigned threads)
{
    return (spark_engine_parts){
        .net = model.net, .kern = &kern, .pool = pools[threads - 1], .isa = spark_isa_best(), .now = test_clock};
}

SPARK_UNUSED static void start(const spark_engine_options *o, unsigned threads)
{
    const spark_engine_parts parts = parts_of(threads);
    spark_err err = {0};
    the = (rig){0};
    clock_engine = NULL;
    clock_step = 1000;
    clock_rows = pass_ns = 0;
    if (!spark_ok(spark_engine_create(&the.e, &parts, o, &err))) fail_msg("%s", err.text);
}

SPARK_UNUSED static void listen(void)
{
    spark_event v;
    while (spark_engine_event(the.e, &v)) {
        assert_true(v.id < MAX_ID);
        heard *h = &the.heard[v.id];
        assert_int_equal(h->n_ended, 0); /* nothing after the end */
        switch (v.kind) {
        case SPARK_EVENT_STARTED:
            h->n_started++;
            h->n_cached = v.n_cached;
            break;
        case SPARK_EVENT_PIECE:
            assert_int_equal(h->n_started, 1);
            assert_true(v.piece.has_token && h->n < N_CTX);
            h->tokens[h->n++] = v.piece.id;
            if (v.piece.n_top) h->logprobs += (double)v.piece.logprob + (double)v.piece.top[v.piece.n_top - 1].logprob;
            break;
        case SPARK_EVENT_FINISHED:
        case SPARK_EVENT_FAILED:
            h->n_ended++;
            h->finished = v.kind == SPARK_EVENT_FINISHED;
            h->failed = v.kind == SPARK_EVENT_FAILED;
            h->finish = v.finish;
            h->err = v.err;
            h->late = v.late;
            h->n_reported = v.n_tokens;
            h->order = ++the.n_ended;
            assert_int_equal(v.n_tokens, h->n);
            break;
        default: fail();
        }
    }
}

/* Every page has as many users as sequences and the cache say, and what the cache offers has no other. */
SPARK_UNUSED static void pages_are_valid(void)
{
    static uint32_t users[1024];
    const spark_engine *e = the.e;
    const uint32_t n = spark_kv_pages(e->kv);
    uint32_t n_free = 0, n_unused = 0;
    assert_true(n <= SPARK_COUNT(users));
    memset(users, 0, sizeof users);
    for (uint32_t q = 0; q < e->options.n_running; q++)
        for (uint32_t i = 0; i < engine_pages(spark_kv_length(e->kv, q)); i++) users[spark_kv_page(e->kv, q, i)]++;
    for (uint32_t p = 0; p < n; p++) {
        const bool cached = e->cache.pages && e->cache.pages[p].cached;
        if (cached) assert_int_equal(e->cache.pages[p].unused, users[p] == 0);
        if (cached && e->cache.pages[p].parent != ENGINE_NONE)
            assert_true(e->cache.pages[e->cache.pages[p].parent].cached);
        n_unused += cached && users[p] == 0;
        assert_int_equal(spark_kv_page_users(e->kv, p), users[p] + cached);
        n_free += users[p] + cached == 0;
    }
    assert_int_equal(spark_kv_pages_free(e->kv), n_free);
    assert_int_equal(e->cache.n_unused, n_unused);
}

SPARK_UNUSED static bool step(void)
{
    const bool more = spark_engine_step(the.e);
    pages_are_valid();
    listen();
    return more;
}

SPARK_UNUSED static void run_dry(void)
{
    for (int i = 0; step(); i++) assert_true(i < 100000);
}

SPARK_UNUSED static spark_engine_stats stats(void)
{
    spark_engine_stats s;
    spark_engine_stats_get(the.e, &s);
    return s;
}

/* Everything that was taken has come back. */
SPARK_UNUSED static void all_is_free(void)
{
    const spark_engine_stats s = stats();
    assert_int_equal(s.n_pages_free + s.n_pages_cached, s.n_pages);
    assert_int_equal(s.n_running + s.n_waiting, 0);
    assert_int_equal(the.e->n_promised, 0);
    assert_int_equal(the.e->waiting_tokens, 0);
    assert_int_equal(the.e->n_blocks_free, the.e->at.n_blocks);
}

SPARK_UNUSED static void stop(void)
{
    all_is_free();
    spark_engine_destroy(&the.e);
    assert_null(the.e);
}

/* ---- Requests, and what they must give ------------------------------------------------------------------------------------ */

static uint32_t random_state = 1;
SPARK_UNUSED static uint32_t random_below(uint32_t n)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)random_state * n >> 32);
}

typedef struct wish {
    spark_request r;
    uint32_t prompt[N_CTX];
    spark_logit_bias bias[3];
    heard expected;
} wish;

/* A prompt that begins with `common` tokens of the given kind, then goes its own way. */
SPARK_UNUSED static void wish_make(wish *w, uint64_t id, uint32_t kind, uint32_t common, uint32_t n,
                                   uint32_t max_tokens)
{
    *w = (wish){.r = {.id = id, .tenant = 1, .prompt = w->prompt, .n_prompt = n, .cache = true}};
    spark_generate_options *o = &w->r.generate;
    for (uint32_t i = 0; i < n; i++)
        w->prompt[i] = i < common ? (i * 7 + i * i + kind) % TAME : (i * 5 + (uint32_t)id * 11 + i * i * i) % TAME;
    o->max_tokens = max_tokens;
    o->sampling = (spark_sampling){.seed = id,
                                   .temperature = 1,
                                   .dynatemp_exponent = 1,
                                   .top_p = 1,
                                   .typical_p = 1,
                                   .top_n_sigma = -1,
                                   .xtc_threshold = 0.1f,
                                   .repeat_penalty = 1,
                                   .dry_base = 1.75f};
    w->bias[0] = (spark_logit_bias){HOT, -__builtin_inff()};
    o->logit_bias = w->bias;
    o->n_logit_bias = 1;
}

SPARK_UNUSED static void submit(wish *w)
{
    spark_err err = {0};
    w->r.prompt = w->prompt;
    w->r.generate.logit_bias = w->bias;
    if (!spark_ok(spark_engine_submit(the.e, &w->r, NULL, &err))) fail_msg("%s", err.text);
}

/* The tokens by the definition: the prompt in one pass, then one row at a time, in a sequence of its own. */
SPARK_UNUSED static void wish_expect(wish *w, spark_kv_type type)
{
    const spark_shape shape = {
        .n_ctx = N_CTX, .n_seqs = 1, .n_batch = N_CTX, .n_logits = 1, .n_threads = 1, .kv_type = type};
    const spark_generate_options *o = &w->r.generate;
    static spark_row rows[N_CTX];
    static uint32_t tokens[N_CTX];
    spark_arena *a = NULL;
    spark_sampler *s = NULL;
    fixture_run run;
    heard *h = &w->expected;
    uint32_t n = w->r.n_prompt, done = 0;
    memcpy(tokens, w->prompt, n * sizeof *tokens);
    fixture_start(&run, &model, &shape, spark_isa_best());
    assert_ok(spark_arena_create(&a, 1 << 24, NULL));
    assert_ok(spark_sampler_create(&s, &kern, FIXTURE_VOCAB, N_CTX, NULL, a, NULL));
    do {
        const float *logits = NULL;
        spark_logprob top[SPARK_MAX_LOGPROBS];
        for (uint32_t i = done; i < n; i++) rows[i - done] = (spark_row){tokens[i], 0, i + 1 == n};
        assert_ok(spark_forward(run.exec, run.kv, rows, n - done, &logits, NULL));
        done = n;
        tokens[n] = spark_sampler_draw(s, &o->sampling, w->bias, o->n_logit_bias, logits, tokens, n);
        if (o->n_logprobs) {
            const float p = spark_sampler_logprobs(s, logits, tokens[n], top, o->n_logprobs);
            h->logprobs += (double)p + (double)top[o->n_logprobs - 1].logprob;
        }
        h->tokens[h->n++] = tokens[n++];
    } while (h->n != o->max_tokens && n < N_CTX);
    spark_arena_destroy(&a);
    fixture_stop(&run);
}

SPARK_UNUSED static void same(const wish *w)
{
    const heard *h = &the.heard[w->r.id];
    if (!h->finished) fail_msg("request %u did not finish: %s", (unsigned)w->r.id, h->err.text);
    assert_int_equal(h->n_started, 1);
    assert_int_equal(h->finish, SPARK_FINISH_LENGTH);
    assert_int_equal(h->n, w->expected.n);
    assert_memory_equal(h->tokens, w->expected.tokens, h->n * sizeof *h->tokens);
    assert_true(h->logprobs <= w->expected.logprobs && h->logprobs >= w->expected.logprobs);
}

#endif
