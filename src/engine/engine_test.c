/* engine_test.c - the promises of engine.h on a small random model: the same tokens whatever else is going on, pages that come
 * back, fair turns, and what is refused. The clock is the test's own: it goes on by a microsecond at each look, or as told. */
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/checked.h"
#include "engine/engine_internal.h"
#include "model/fixture.h"

enum { MAX_ID = 128, N_CTX = 400 };

/* ---- What the system gives, counted and refused on demand (not under a sanitizer, which has allocators of its own) ---- */

static unsigned n_taken, refuse_at; /* calls; which of them fails, 0 = none */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COUNTED 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define COUNTED 0
#endif
#endif
#ifndef COUNTED
#define COUNTED 1
#endif

#if COUNTED
static bool take_refused(void)
{
    n_taken++;
    if (refuse_at == 0 || --refuse_at != 0) return false;
    errno = ENOMEM;
    return true;
}

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t count, size_t n);
void *malloc(size_t n) { return take_refused() ? NULL : __libc_malloc(n); }
void *calloc(size_t count, size_t n) { return take_refused() ? NULL : __libc_calloc(count, n); }
void *mmap(void *at, size_t n, int prot, int flags, int fd, off_t off)
{
    return take_refused() ? MAP_FAILED : (void *)syscall(SYS_mmap, at, n, prot, flags, fd, off);
}
int mprotect(void *at, size_t n, int prot) { return take_refused() ? -1 : (int)syscall(SYS_mprotect, at, n, prot); }
#endif

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
static const spark_engine *clock_engine; /* not NULL: each row of a pass takes ROW_NS */
enum { ROW_NS = 10000 };

static uint64_t test_clock(void)
{
    clock_now += clock_step;
    return clock_now + (clock_engine ? clock_engine->stats.n_rows * ROW_NS : 0);
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

static int open_model(void **state)
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

static int close_model(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) spark_pool_destroy(&pools[i]);
    fixture_close(&model);
    return 0;
}

static spark_engine_options plain_options(void)
{
    return (spark_engine_options){.n_ctx = N_CTX,
                                  .n_running = 4,
                                  .n_waiting = 60,
                                  .waiting_tokens = 20000,
                                  .n_batch = 32,
                                  .kv_type = SPARK_KV_F16,
                                  .prefix_cache = true};
}

static spark_engine_parts parts_of(unsigned threads)
{
    return (spark_engine_parts){
        .net = model.net, .kern = &kern, .pool = pools[threads - 1], .isa = spark_isa_best(), .now = test_clock};
}

static void start(const spark_engine_options *o, unsigned threads)
{
    const spark_engine_parts parts = parts_of(threads);
    spark_err err = {0};
    the = (rig){0};
    clock_engine = NULL;
    clock_step = 1000;
    if (!spark_ok(spark_engine_create(&the.e, &parts, o, &err))) fail_msg("%s", err.text);
}

static void listen(void)
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
static void pages_are_valid(void)
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

static bool step(void)
{
    const bool more = spark_engine_step(the.e);
    pages_are_valid();
    listen();
    return more;
}

static void run_dry(void)
{
    for (int i = 0; step(); i++) assert_true(i < 100000);
}

static spark_engine_stats stats(void)
{
    spark_engine_stats s;
    spark_engine_stats_get(the.e, &s);
    return s;
}

/* Everything that was taken has come back. */
static void all_is_free(void)
{
    const spark_engine_stats s = stats();
    assert_int_equal(s.n_pages_free + s.n_pages_cached, s.n_pages);
    assert_int_equal(s.n_running + s.n_waiting, 0);
    assert_int_equal(the.e->n_promised, 0);
    assert_int_equal(the.e->waiting_tokens, 0);
    assert_int_equal(the.e->n_blocks_free, the.e->at.n_blocks);
}

static void stop(void)
{
    all_is_free();
    spark_engine_destroy(&the.e);
    assert_null(the.e);
}

/* ---- Requests, and what they must give ------------------------------------------------------------------------------------ */

static uint32_t random_state = 1;
static uint32_t random_below(uint32_t n)
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
static void wish_make(wish *w, uint64_t id, uint32_t kind, uint32_t common, uint32_t n, uint32_t max_tokens)
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

static void submit(wish *w)
{
    spark_err err = {0};
    w->r.prompt = w->prompt;
    w->r.generate.logit_bias = w->bias;
    if (!spark_ok(spark_engine_submit(the.e, &w->r, NULL, &err))) fail_msg("%s", err.text);
}

/* The tokens by the definition: the prompt in one pass, then one row at a time, in a sequence of its own. */
static void wish_expect(wish *w, spark_kv_type type)
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

static void same(const wish *w)
{
    const heard *h = &the.heard[w->r.id];
    if (!h->finished) fail_msg("request %u did not finish: %s", (unsigned)w->r.id, h->err.text);
    assert_int_equal(h->n_started, 1);
    assert_int_equal(h->finish, SPARK_FINISH_LENGTH);
    assert_int_equal(h->n, w->expected.n);
    assert_memory_equal(h->tokens, w->expected.tokens, h->n * sizeof *h->tokens);
    assert_true(h->logprobs <= w->expected.logprobs && h->logprobs >= w->expected.logprobs);
}

/* ---- Same bytes -------------------------------------------------------------------------------------------------------------- */

static void test_a_request_alone_gives_the_tokens_of_plain_passes(void **state)
{
    (void)state;
    static wish w;
    const spark_engine_options o = plain_options();
    for (uint32_t n = 1; n <= 300; n += 127) {
        wish_make(&w, 3, 0, 0, n, n == 1 ? 0 : 20); /* the first goes on to the end of the context */
        w.r.generate.n_logprobs = 3;
        wish_expect(&w, o.kv_type);
        start(&o, 2);
        submit(&w);
        run_dry();
        same(&w);
        stop();
    }
}

static void test_a_lower_context_ends_a_request_sooner(void **state)
{
    (void)state;
    static wish w;
    const spark_engine_options o = plain_options();
    start(&o, 1);
    wish_make(&w, 0, 0, 0, 20, 0);
    w.r.n_ctx = 33;
    submit(&w);
    run_dry();
    assert_int_equal(the.heard[0].n, 13);
    assert_int_equal(the.heard[0].finish, SPARK_FINISH_LENGTH);
    stop();
}

enum { LOAD = 24, LOAD_SETS = COUNTED ? 3 : 1, LOAD_TRIALS = COUNTED ? 8 : 5 /* sanitizers are slow */ };

static void load_make(wish *all)
{
    for (uint32_t i = 0; i < LOAD; i++) {
        wish *w = &all[i];
        const uint32_t n = 1 + random_below(i % 3 ? 300 : 40) + (i % 4 == 1 ? 20 : 0),
                       most = 1 + random_below(i % 4 ? 20 : 90);
        const uint32_t common = random_below(3) * 130 + random_below(60);
        wish_make(w, i, random_below(2), common, n, i == 7 ? 0 : most);
        w->r.tenant = random_below(2);
        w->r.priority = (int32_t)random_below(3) - 1;
        w->r.cache = random_below(4) != 0;
        w->r.n_public = random_below(3) == 0 ? random_below(n + 1) : 0;
        spark_sampling *s = &w->r.generate.sampling;
        w->r.generate.n_logprobs = random_below(3);
        s->temperature = random_below(4) ? 0.9f : 0;
        s->top_k = random_below(2) * 20;
        s->penalty_last_n = random_below(2) * 64;
        s->repeat_penalty = 1.1f;
        s->dry_multiplier = random_below(3) ? 0 : 0.8f;
        s->dry_allowed_length = 2;
        s->dry_last_n = 64;
        w->bias[1] = (spark_logit_bias){random_below(TAME), 2.5f};
        w->r.generate.n_logit_bias = 1 + random_below(2);
        wish_expect(w, SPARK_KV_F16);
    }
}

/* Requests come at random moments, are held and let go, and share an engine of random shape. */
static void load_run(wish *all, uint64_t *n_preempted, uint64_t *n_cached)
{
    spark_engine_options o = plain_options();
    o.n_running = 1 + random_below(16);
    o.n_batch = o.n_running + random_below(random_below(2) ? 8 : 200);
    o.n_pages = random_below(3) ? 4 + random_below(8) : 0;
    o.itl_target_us = random_below(2) * (1 + random_below(300));
    o.prefix_cache = random_below(4) != 0;
    start(&o, 1 + random_below(3));
    if (random_below(2)) clock_engine = the.e;
    for (uint32_t next = 0, held = LOAD, steps = 0; the.n_ended < LOAD; steps++) {
        assert_true(steps < 100000);
        for (uint32_t k = random_below(4); k-- > 0 && next < LOAD;) submit(&all[next++]);
        if (held < LOAD && random_below(5) == 0) {
            spark_engine_hold(the.e, held, false);
            held = LOAD;
        } else if (held == LOAD && next > 0 && random_below(8) == 0) {
            held = random_below(next);
            spark_engine_hold(the.e, held, true);
        }
        if (!step() && held < LOAD) {
            spark_engine_hold(the.e, held, false);
            held = LOAD;
        }
    }
    for (uint32_t i = 0; i < LOAD; i++) same(&all[i]);
    *n_preempted += stats().n_preempted;
    *n_cached += stats().cached_tokens;
    stop();
}

static void test_tokens_are_the_same_under_any_load_cache_chunk_thread_and_preemption(void **state)
{
    (void)state;
    static wish all[LOAD];
    uint64_t n_preempted = 0, n_cached = 0;
    for (uint32_t set = 0; set < LOAD_SETS; set++) {
        random_state = 77 + set;
        load_make(all);
        for (uint32_t trial = 0; trial < LOAD_TRIALS; trial++) load_run(all, &n_preempted, &n_cached);
    }
    print_message("%u preempted, %u tokens from the cache\n", (unsigned)n_preempted, (unsigned)n_cached);
    assert_true(n_preempted > 0); /* or nothing was shown */
    assert_true(n_cached > 0);
}

static void test_a_preempted_request_repeats_no_event_and_goes_on_with_the_same_tokens(void **state)
{
    (void)state;
    static wish w[3];
    spark_engine_options o = plain_options();
    o.n_pages = 4; /* each of three will want three */
    o.prefix_cache = false;
    start(&o, 1);
    for (uint32_t i = 0; i < 3; i++) {
        wish_make(&w[i], i, i, 0, 100, 200);
        wish_expect(&w[i], o.kv_type);
        submit(&w[i]);
    }
    run_dry();
    for (uint32_t i = 0; i < 3; i++) same(&w[i]);
    assert_true(stats().n_preempted >= 1);
    assert_int_equal(the.heard[0].order, 1); /* the oldest gives way to nobody */
    stop();
}

/* ---- Cancel, hold, deadlines ------------------------------------------------------------------------------------------------ */

static uint32_t pages_out(void)
{
    const spark_engine_stats s = stats();
    return s.n_pages - s.n_pages_free - s.n_pages_cached;
}

static void cancelled(uint64_t id, uint32_t pages_left)
{
    spark_engine_cancel(the.e, id);
    assert_int_equal(pages_out(), pages_left); /* at once, without a step */
    listen();
    assert_true(the.heard[id].finished && the.heard[id].finish == SPARK_FINISH_CANCELLED);
}

static void test_cancel_frees_pages_at_once_in_every_state(void **state)
{
    (void)state;
    static wish w;
    for (int cache = 0; cache < 2; cache++) {
        spark_engine_options o = plain_options();
        o.n_running = 1;
        o.prefix_cache = cache;
        start(&o, 1);
        wish_make(&w, 1, 0, 0, 300, 50);
        submit(&w);
        cancelled(1, 0); /* waiting */
        w.r.id = 2;
        submit(&w);
        for (int i = 0; i < 5; i++) step();
        assert_int_equal(the.heard[2].n, 0);
        assert_int_equal(pages_out(), 2);
        cancelled(2, 0); /* prefill */
        w.r.id = 3;
        submit(&w);
        while (the.heard[3].n < 5) step();
        assert_int_equal(pages_out(), 3);
        w.r.id = 4;
        submit(&w);
        spark_engine_hold(the.e, 3, true);
        step(); /* 4 takes the place of 3, which is held */
        assert_int_equal(stats().n_preempted, 1);
        cancelled(3, pages_out()); /* preempted and held */
        while (the.heard[4].n < 5) step();
        cancelled(4, 0);               /* decoding */
        spark_engine_cancel(the.e, 4); /* an unknown id is no error */
        spark_engine_cancel(the.e, 99);
        run_dry();
        assert_int_equal(stats().n_cancelled, 4);
        stop();
    }
}

static void test_a_held_request_computes_nothing_and_keeps_its_pages_while_nobody_needs_them(void **state)
{
    (void)state;
    static wish w[2];
    const spark_engine_options o = plain_options();
    start(&o, 1);
    for (uint32_t i = 0; i < 2; i++) {
        wish_make(&w[i], i, 0, 0, 140, 30);
        wish_expect(&w[i], o.kv_type);
        submit(&w[i]);
    }
    while (the.heard[0].n < 4 || the.heard[1].n < 4) step();
    const uint32_t n = the.heard[0].n;
    spark_engine_hold(the.e, 0, true);
    run_dry();
    same(&w[1]);
    assert_int_equal(the.heard[0].n, n);
    assert_int_equal(pages_out(), 2);
    assert_int_equal(stats().n_held, 1);
    assert_false(step());
    spark_engine_hold(the.e, 0, false);
    run_dry();
    same(&w[0]);
    assert_int_equal(stats().n_preempted, 0);
    stop();
}

static void test_nobody_waits_for_a_held_request(void **state)
{
    (void)state;
    static wish w[3];
    spark_engine_options o = plain_options();
    o.n_running = 2;
    o.n_pages = 4;
    start(&o, 1);
    for (uint32_t i = 0; i < 3; i++) {
        wish_make(&w[i], i, i, 0, 200, 30);
        wish_expect(&w[i], o.kv_type);
    }
    submit(&w[0]);
    submit(&w[1]);
    while (the.heard[0].n == 0 || the.heard[1].n == 0) step();
    spark_engine_hold(the.e, 0, true);
    spark_engine_hold(the.e, 1, true);
    submit(&w[2]);
    run_dry();
    same(&w[2]);
    spark_engine_hold(the.e, 0, false);
    spark_engine_hold(the.e, 1, false);
    run_dry();
    same(&w[0]);
    same(&w[1]);
    stop();
}

static void test_a_deadline_ends_a_request_that_waits_prefills_decodes_or_is_held(void **state)
{
    (void)state;
    static wish w;
    spark_engine_options o = plain_options();
    o.n_running = 2;
    start(&o, 1);
    clock_now = 1000000;
    wish_make(&w, 0, 0, 0, 20, 300);
    w.r.deadline_ns = 50000000;
    submit(&w);
    while (the.heard[0].n < 3) step(); /* decoding */
    wish_make(&w, 1, 0, 0, 20, 300);
    w.r.deadline_ns = 60000000;
    submit(&w);
    while (the.heard[1].n < 3) step();
    spark_engine_hold(the.e, 1, true); /* held */
    wish_make(&w, 2, 0, 0, 300, 300);
    w.r.deadline_ns = 70000000;
    submit(&w);
    step(); /* prefill, on the place of 1 */
    wish_make(&w, 3, 0, 0, 300, 300);
    w.r.deadline_ns = 80000000;
    w.r.priority = -1;
    submit(&w); /* waits */
    assert_int_equal(spark_engine_next_ns(the.e), 50000000);
    for (uint32_t i = 0; i < 4; i++) {
        if (i == 1) spark_engine_hold(the.e, 2, true); /* so that none gets on */
        if (i == 1) spark_engine_hold(the.e, 3, true);
        assert_int_equal(the.n_ended, i);
        clock_now = 50000000 + 10000000 * i;
        step();
        assert_true(the.heard[i].failed && the.heard[i].late);
        assert_int_equal(the.heard[i].err.code, SPARK_E_CANCELLED);
    }
    assert_int_equal(spark_engine_next_ns(the.e), 0);
    assert_int_equal(stats().n_failed, 4);
    stop();
}

/* ---- Turns ------------------------------------------------------------------------------------------------------------------- */

static void test_a_tenant_with_few_requests_is_not_held_up_by_one_with_many(void **state)
{
    (void)state;
    static wish w;
    spark_engine_options o = plain_options();
    o.n_running = 2;
    start(&o, 1);
    for (uint32_t i = 0; i < 40; i++) {
        wish_make(&w, i, 0, 0, 60, 10);
        submit(&w);
    }
    while (the.n_ended < 2) step();
    for (uint32_t i = 40; i < 44; i++) {
        wish_make(&w, i, 0, 0, 60, 10);
        w.r.tenant = 2;
        submit(&w);
    }
    run_dry();
    for (uint32_t i = 40; i < 44; i++)
        assert_true(the.heard[i].order <= 2 + 2 * (i - 40 + 1) + 4); /* about every other turn */
    assert_true(the.heard[39].order == 44);
    stop();
}

static void test_a_tenant_with_endless_requests_gives_a_place_to_another(void **state)
{
    (void)state;
    static wish w[3];
    spark_engine_options o = plain_options();
    o.n_running = 2;
    start(&o, 1);
    for (uint32_t i = 0; i < 3; i++) {
        wish_make(&w[i], i, 0, 0, 10, i < 2 ? 380 : 5);
        wish_expect(&w[i], o.kv_type);
        w[i].r.tenant = i < 2 ? 1 : 2;
    }
    submit(&w[0]);
    submit(&w[1]);
    while (the.heard[0].n < 20) step();
    submit(&w[2]);
    run_dry();
    assert_int_equal(the.heard[2].order, 1);
    assert_int_equal(stats().n_preempted, 1);
    for (uint32_t i = 0; i < 3; i++) same(&w[i]);
    stop();
}

static void test_higher_priority_goes_first_and_takes_the_place_of_lower(void **state)
{
    (void)state;
    static wish w[5];
    spark_engine_options o = plain_options();
    o.n_running = 1;
    start(&o, 1);
    static const int32_t priority[] = {0, -5, 7, 7, 1};
    for (uint32_t i = 0; i < 5; i++) {
        wish_make(&w[i], i, i, 0, 50, 12);
        wish_expect(&w[i], o.kv_type);
        w[i].r.priority = priority[i];
    }
    submit(&w[0]);
    while (the.heard[0].n < 3) step();
    for (uint32_t i = 1; i < 5; i++) submit(&w[i]);
    run_dry();
    static const uint32_t order[] = {4, 5, 1, 2, 3};
    for (uint32_t i = 0; i < 5; i++) {
        same(&w[i]);
        assert_int_equal(the.heard[i].order, order[i]);
    }
    assert_int_equal(stats().n_preempted, 1);
    stop();
}

static void test_a_long_prompt_takes_no_more_of_a_step_than_the_target_allows(void **state)
{
    (void)state;
    static wish w[2];
    spark_engine_options o = plain_options();
    o.n_batch = 128;
    o.itl_target_us = 500; /* 50 rows at ROW_NS */
    start(&o, 1);
    clock_engine = the.e;
    clock_step = 0;
    wish_make(&w[0], 0, 0, 0, 10, 100);
    wish_make(&w[1], 1, 0, 0, 350, 2);
    submit(&w[0]);
    while (the.heard[0].n < 10) step();
    submit(&w[1]);
    uint32_t n_steps = 0;
    for (uint64_t before = stats().n_rows; the.heard[1].n == 0; before = stats().n_rows, n_steps++) {
        const uint32_t n = the.heard[0].n;
        step();
        assert_int_equal(the.heard[0].n, n + 1); /* the stream goes on */
        assert_true(stats().n_rows - before <= 50);
    }
    assert_true(n_steps <= 12); /* 350 rows at 40 or 48 a step, after some that were guessed */
    run_dry();
    stop();
}

static void test_without_decoding_requests_a_prompt_takes_whole_batches(void **state)
{
    (void)state;
    static wish w;
    spark_engine_options o = plain_options();
    o.itl_target_us = 1;
    start(&o, 1);
    wish_make(&w, 0, 0, 0, 4 * o.n_batch, 1);
    submit(&w);
    run_dry();
    assert_int_equal(stats().n_passes, 4);
    stop();
}

/* ---- Prefix cache -------------------------------------------------------------------------------------------------------------- */

static uint32_t cached_of(wish *w, uint64_t id, uint64_t tenant)
{
    w->r.id = id;
    w->r.tenant = tenant;
    submit(w);
    run_dry();
    return the.heard[id].n_cached;
}

static void test_a_prefix_is_found_by_its_own_tenant_and_by_no_other(void **state)
{
    (void)state;
    static wish w;
    const spark_engine_options o = plain_options();
    start(&o, 1);
    wish_make(&w, 0, 0, 0, 300, 4);
    assert_int_equal(cached_of(&w, 0, 1), 0);
    assert_int_equal(cached_of(&w, 1, 1), 256);
    assert_int_equal(cached_of(&w, 2, 2), 0);
    assert_int_equal(cached_of(&w, 3, 2), 256);
    w.r.n_prompt = 256; /* the last token is always computed */
    assert_int_equal(cached_of(&w, 4, 1), 128);
    w.r.n_prompt = 257;
    assert_int_equal(cached_of(&w, 5, 1), 256);
    w.r.cache = false;
    assert_int_equal(cached_of(&w, 6, 1), 0);
    w.r.cache = true;
    w.prompt[0] ^= 1; /* another beginning: nothing behind it counts */
    assert_int_equal(cached_of(&w, 7, 1), 0);
    w.prompt[0] ^= 1;
    w.prompt[130] ^= 1;
    assert_int_equal(cached_of(&w, 8, 1), 128);
    assert_int_equal(stats().cached_tokens, 256 + 256 + 128 + 256 + 128);
    stop();
}

static void test_what_one_tenant_sees_does_not_depend_on_another(void **state)
{
    (void)state;
    static wish w;
    const spark_engine_options o = plain_options();
    uint64_t passes[2];
    for (int other = 0; other < 2; other++) {
        start(&o, 1);
        wish_make(&w, 0, 0, 0, 300, 4);
        if (other) (void)cached_of(&w, 0, 1);
        const uint64_t before = stats().n_passes;
        assert_int_equal(cached_of(&w, 1, 2), 0);
        passes[other] = stats().n_passes - before;
        stop();
    }
    assert_int_equal(passes[0], passes[1]);
}

static void test_a_public_prefix_is_shared_with_all(void **state)
{
    (void)state;
    static wish w;
    const spark_engine_options o = plain_options();
    start(&o, 1);
    wish_make(&w, 0, 0, 0, 390, 2);
    w.r.n_public = 300; /* two whole pages */
    assert_int_equal(cached_of(&w, 0, 1), 0);
    assert_int_equal(cached_of(&w, 1, 2), 256);
    assert_int_equal(cached_of(&w, 2, 1), 384);
    w.r.n_public = 0; /* who does not know that it is public has pages of his own */
    assert_int_equal(cached_of(&w, 3, 3), 0);
    stop();
}

static void test_an_answer_is_found_by_the_next_turn(void **state)
{
    (void)state;
    static wish w;
    const spark_engine_options o = plain_options();
    start(&o, 1);
    wish_make(&w, 0, 0, 0, 100, 60);
    (void)cached_of(&w, 0, 1);
    memcpy(w.prompt + 100, the.heard[0].tokens, 60 * sizeof *w.prompt);
    for (uint32_t i = 160; i < 200; i++) w.prompt[i] = i % TAME;
    w.r.n_prompt = 200;
    w.r.id = 1;
    wish_expect(&w, o.kv_type);
    assert_int_equal(cached_of(&w, 1, 1), 128);
    same(&w);
    stop();
}

static void test_equal_prompts_at_once_end_with_shared_pages(void **state)
{
    (void)state;
    static wish w[2];
    spark_engine_options o = plain_options();
    o.n_batch = 300; /* both are computed in one pass */
    start(&o, 1);
    for (uint32_t i = 0; i < 2; i++) {
        wish_make(&w[i], i, 0, 130, 140, 40);
        w[i].r.tenant = 1;
        wish_expect(&w[i], o.kv_type);
        submit(&w[i]);
    }
    while (the.heard[0].n < 20 || the.heard[1].n < 20) step();
    assert_int_equal(pages_out(), 1 + 2); /* one shared, and the last of each */
    run_dry();
    same(&w[0]);
    same(&w[1]);
    stop();
}

static void test_the_pages_used_longest_ago_go_first_and_the_beginning_of_a_prompt_last(void **state)
{
    (void)state;
    static wish w[3];
    spark_engine_options o = plain_options();
    o.n_pages = 6;
    start(&o, 1);
    for (uint32_t i = 0; i < 3; i++) wish_make(&w[i], i, i, 390, 390, 1);
    assert_int_equal(cached_of(&w[0], 0, 1), 0); /* pages 3 of 6 */
    w[1].r.n_prompt = 200;
    assert_int_equal(cached_of(&w[1], 1, 1), 0);
    assert_int_equal(stats().n_pages_cached, 4);
    assert_int_equal(cached_of(&w[2], 2, 1), 0); /* needs 4: the two free ones, and the last two of 0 */
    assert_int_equal(cached_of(&w[1], 3, 1), 128);
    assert_int_equal(cached_of(&w[0], 4, 1), 128); /* its beginning stayed */
    stop();
}

static void test_a_collision_of_hashes_never_gives_wrong_pages(void **state)
{
    (void)state;
    static wish w[2];
    const spark_engine_options o = plain_options();
    start(&o, 1);
    the.e->cache.seed[0] = the.e->cache.seed[1] = 0; /* and every other pair of tokens 0: then all hashes are 0 */
    for (uint32_t k = 0; k < 2; k++) {
        wish_make(&w[k], k, 0, 0, 300, 10);
        for (uint32_t i = 0; i < 300; i++)
            if (i % 4 >= 2) w[k].prompt[i] = 0;
        wish_expect(&w[k], o.kv_type);
    }
    assert_int_equal(cached_of(&w[0], 0, 1), 0);
    for (uint32_t p = 0; p < stats().n_pages; p++) assert_int_equal(the.e->cache.pages[p].hash, 0);
    assert_int_equal(cached_of(&w[1], 1, 1), 0);
    assert_int_equal(cached_of(&w[0], 2, 1), 256);
    assert_int_equal(cached_of(&w[1], 3, 1), 256);
    same(&w[1]);
    stop();
}

/* ---- Refusals ------------------------------------------------------------------------------------------------------------------- */

static void refuses(const spark_request *r, spark_code code, const char *says)
{
    spark_err err = {0};
    uint32_t retry_ms = 0;
    const spark_engine_stats before = stats();
    assert_code(spark_engine_submit(the.e, r, &retry_ms, &err), code);
    if (!strstr(err.text, says)) fail_msg("'%s' does not say '%s'", err.text, says);
    assert_int_equal(retry_ms > 0, code == SPARK_E_LIMIT || code == SPARK_E_REFUSED);
    assert_int_equal(stats().n_waiting, before.n_waiting);
    assert_int_equal(stats().n_submitted, before.n_submitted);
}

static void test_submit_refuses_bad_requests_and_says_why(void **state)
{
    (void)state;
    static wish w;
    const spark_engine_options o = plain_options();
    spark_request r;
    const char *empty = "";
    start(&o, 1);
    wish_make(&w, 1, 0, 0, 20, 5);
#define BAD(change, code, says) (r = w.r, change, refuses(&r, code, says))
    BAD(r.n_prompt = 0, SPARK_E_ARGUMENT, "at least one token");
    BAD(r.n_prompt = N_CTX, SPARK_E_CONTEXT, "do not fit a context of 400");
    BAD(r.n_ctx = N_CTX + 1, SPARK_E_CONTEXT, "401 tokens was asked for, and 400 are planned");
    BAD(r.n_ctx = 20, SPARK_E_CONTEXT, "do not fit a context of 20");
    BAD(r.n_public = 21, SPARK_E_ARGUMENT, "21 public tokens of a prompt of 20");
    BAD(r.priority = 1001, SPARK_E_ARGUMENT, "priority 1001");
    BAD(r.generate.sampling.top_p = 2, SPARK_E_ARGUMENT, "top_p");
    BAD(r.generate.n_logprobs = 38, SPARK_E_ARGUMENT, "38 logprobs: at most 37");
    BAD((r.generate.stops = &empty, r.generate.n_stops = 1), SPARK_E_ARGUMENT, "stop string 1 has 0 bytes");
    BAD(r.generate.n_stops = SPARK_MAX_STOPS + 1, SPARK_E_ARGUMENT, "65 stop strings");
    w.prompt[7] = FIXTURE_VOCAB;
    BAD((void)0, SPARK_E_ARGUMENT, "token id 37");
    w.prompt[7] = 0;
    submit(&w);
    BAD((void)0, SPARK_E_ARGUMENT, "still alive");
#undef BAD
    run_dry();
    stop();
}

static void test_the_queue_is_bounded_by_number_and_by_tokens(void **state)
{
    (void)state;
    static wish w;
    spark_engine_options o = plain_options();
    o.n_running = 2;
    o.n_waiting = 3;
    start(&o, 1);
    for (uint32_t i = 0; i < 5; i++) {
        wish_make(&w, i, 0, 0, 20, 5);
        submit(&w);
    }
    w.r.id = 5;
    refuses(&w.r, SPARK_E_LIMIT, "the queue is full: 5 requests");
    run_dry();
    submit(&w);
    run_dry();
    assert_int_equal(stats().n_refused, 1);
    stop();
    o.n_waiting = 50;
    o.waiting_tokens = 500;
    start(&o, 1);
    for (uint32_t i = 0; i < 4; i++) { /* two will run: 800 tokens count for them */
        wish_make(&w, i, 0, 0, 320, 5);
        submit(&w);
    }
    w.r.id = 4;
    refuses(&w.r, SPARK_E_LIMIT, "the queue is full: 1280 prompt tokens wait, and 320 more do not fit");
    run_dry();
    submit(&w);
    run_dry();
    stop();
}

static void test_what_cannot_meet_its_deadline_is_refused_at_once(void **state)
{
    (void)state;
    static wish w;
    spark_engine_options o = plain_options();
    o.n_running = 1;
    start(&o, 1);
    clock_engine = the.e; /* a row takes ROW_NS */
    for (uint32_t i = 0; i < 3; i++) {
        wish_make(&w, i, 0, 0, 200, 5);
        submit(&w);
        run_dry();
    }
    wish_make(&w, 3, 0, 0, 300, 5);
    w.r.cache = false;
    w.r.deadline_ns = test_clock() + 150 * ROW_NS;
    refuses(&w.r, SPARK_E_REFUSED, "after the deadline");
    w.r.deadline_ns = test_clock() + 1200 * ROW_NS;
    submit(&w);
    run_dry();
    assert_true(the.heard[3].finished);
    stop();
}

static void test_create_refuses_what_cannot_be(void **state)
{
    (void)state;
    static const struct {
        size_t field;
        uint32_t value;
        const char *says;
    } cases[] = {{offsetof(spark_engine_options, n_ctx), 1, "a context of 1"},
                 {offsetof(spark_engine_options, n_ctx), 513, "made for 2 to 512"},
                 {offsetof(spark_engine_options, n_running), 0, "0 requests at once"},
                 {offsetof(spark_engine_options, n_batch), 3, "passes of 3 rows for 4 requests"},
                 {offsetof(spark_engine_options, n_pages), 3, "needs 4"},
                 {offsetof(spark_engine_options, n_begun), 3, "3 requests begun"},
                 {offsetof(spark_engine_options, n_waiting), SPARK_MAX_WAITING + 1, "waiting"}};
    const spark_engine_parts parts = parts_of(1);
    for (size_t i = 0; i < SPARK_COUNT(cases); i++) {
        spark_engine_options o = plain_options();
        spark_engine *e = NULL;
        spark_engine_memory m;
        spark_err err = {0};
        memcpy((uint8_t *)&o + cases[i].field, &cases[i].value, sizeof cases[i].value);
        assert_code(spark_engine_create(&e, &parts, &o, &err), SPARK_E_ARGUMENT);
        if (!strstr(err.text, cases[i].says)) fail_msg("'%s' does not say '%s'", err.text, cases[i].says);
        assert_null(e);
        assert_code(spark_engine_plan(model.net, NULL, &o, 1, &m, NULL), SPARK_E_ARGUMENT);
    }
}

/* ---- Failures ---------------------------------------------------------------------------------------------------------------------- */

static void test_a_value_that_is_not_finite_fails_only_its_request(void **state)
{
    (void)state;
    static wish w[4];
    const spark_engine_options o = plain_options();
    start(&o, 2);
    for (uint32_t i = 0; i < 4; i++) {
        wish_make(&w[i], i, 0, 100, 150, 20);
        if (i % 2 == 0) wish_expect(&w[i], o.kv_type);
        if (i == 1) w[i].prompt[140] = HOT;
        if (i == 3) w[i].prompt[0] = HOT;
        submit(&w[i]);
    }
    run_dry();
    for (uint32_t i = 0; i < 4; i += 2) {
        same(&w[i]);
        assert_true(the.heard[i + 1].failed && !the.heard[i + 1].late);
        assert_int_equal(the.heard[i + 1].err.code, SPARK_E_NUMERIC);
    }
    assert_int_equal(the.heard[1].err.at, 140);
    assert_int_equal(the.heard[3].err.at, 0);
    stop();
}

static void test_create_survives_every_refusal_of_memory(void **state)
{
    (void)state;
    const spark_engine_options o = plain_options();
    const spark_engine_parts parts = parts_of(1);
    if (!COUNTED) return; /* a sanitizer's allocator is not ours to refuse */
    for (unsigned at = 1;; at++) {
        spark_engine *e = NULL;
        spark_err err = {0};
        refuse_at = at;
        const spark_status st = spark_engine_create(&e, &parts, &o, &err);
        if (spark_ok(st)) {
            refuse_at = 0;
            assert_true(at > 6); /* three regions, two calls each */
            spark_engine_destroy(&e);
            return;
        }
        assert_int_equal(st.code, SPARK_E_MEMORY);
        assert_null(e);
    }
}

static void test_nothing_is_allocated_after_create(void **state)
{
    (void)state;
    static wish w[12];
    spark_engine_options o = plain_options();
    o.n_pages = 4;
    start(&o, 3);
    for (uint32_t i = 0; i < 12; i++) wish_make(&w[i], i, 0, 150, 100 + 5 * i, 0);
    const unsigned before = n_taken;
    for (uint32_t i = 0; i < 12; i++) {
        submit(&w[i]);
        (void)spark_engine_step(the.e);
        for (spark_event v; spark_engine_event(the.e, &v);) {
        }
        if (i == 6) spark_engine_cancel(the.e, 5);
        for (spark_event v; spark_engine_event(the.e, &v);) {
        }
    }
    while (spark_engine_step(the.e))
        for (spark_event v; spark_engine_event(the.e, &v);) {
        }
    (void)stats();
    assert_int_equal(n_taken, before);
    assert_true(stats().n_preempted > 0);
    stop();
}

static void test_the_plan_is_exactly_what_is_taken(void **state)
{
    (void)state;
    for (unsigned threads = 1; threads <= 3; threads++)
        for (int cache = 0; cache < 2; cache++) {
            spark_engine_options o = plain_options();
            spark_engine_memory m;
            o.prefix_cache = cache;
            o.n_pages = 7;
            assert_ok(spark_engine_plan(model.net, NULL, &o, threads, &m, NULL));
            start(&o, threads);
            assert_int_equal(m.kv, the.e->kv->memory.len);
            assert_int_equal(m.scratch + m.requests, the.e->exec->memory.len + the.e->memory.len);
            stop();
        }
}

static void test_stats_add_up(void **state)
{
    (void)state;
    static wish w;
    spark_engine_options o = plain_options();
    o.n_running = 2;
    start(&o, 1);
    for (uint32_t i = 0; i < 6; i++) {
        wish_make(&w, i, 0, 0, 100, 10);
        submit(&w);
    }
    assert_int_equal(stats().n_waiting, 6);
    step();
    assert_int_equal(stats().n_running, 2);
    assert_int_equal(stats().n_waiting, 4);
    run_dry();
    const spark_engine_stats s = stats();
    assert_int_equal(s.prompt_tokens, 600);
    assert_int_equal(s.generated_tokens, 60);
    assert_int_equal(s.n_rows, 600 + 54); /* the last token of an answer is not computed */
    assert_int_equal(s.n_finished, 6);
    assert_int_equal(s.n_submitted, 6);
    assert_true(s.pass_ns > 0 && s.n_passes > 0);
    assert_int_equal(the.e->cost.prompt_seen, true);
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_request_alone_gives_the_tokens_of_plain_passes),
        cmocka_unit_test(test_tokens_are_the_same_under_any_load_cache_chunk_thread_and_preemption),
        cmocka_unit_test(test_a_lower_context_ends_a_request_sooner),
        cmocka_unit_test(test_a_preempted_request_repeats_no_event_and_goes_on_with_the_same_tokens),
        cmocka_unit_test(test_cancel_frees_pages_at_once_in_every_state),
        cmocka_unit_test(test_a_held_request_computes_nothing_and_keeps_its_pages_while_nobody_needs_them),
        cmocka_unit_test(test_nobody_waits_for_a_held_request),
        cmocka_unit_test(test_a_deadline_ends_a_request_that_waits_prefills_decodes_or_is_held),
        cmocka_unit_test(test_a_tenant_with_few_requests_is_not_held_up_by_one_with_many),
        cmocka_unit_test(test_a_tenant_with_endless_requests_gives_a_place_to_another),
        cmocka_unit_test(test_higher_priority_goes_first_and_takes_the_place_of_lower),
        cmocka_unit_test(test_a_long_prompt_takes_no_more_of_a_step_than_the_target_allows),
        cmocka_unit_test(test_without_decoding_requests_a_prompt_takes_whole_batches),
        cmocka_unit_test(test_a_prefix_is_found_by_its_own_tenant_and_by_no_other),
        cmocka_unit_test(test_what_one_tenant_sees_does_not_depend_on_another),
        cmocka_unit_test(test_a_public_prefix_is_shared_with_all),
        cmocka_unit_test(test_an_answer_is_found_by_the_next_turn),
        cmocka_unit_test(test_equal_prompts_at_once_end_with_shared_pages),
        cmocka_unit_test(test_the_pages_used_longest_ago_go_first_and_the_beginning_of_a_prompt_last),
        cmocka_unit_test(test_a_collision_of_hashes_never_gives_wrong_pages),
        cmocka_unit_test(test_submit_refuses_bad_requests_and_says_why),
        cmocka_unit_test(test_the_queue_is_bounded_by_number_and_by_tokens),
        cmocka_unit_test(test_what_cannot_meet_its_deadline_is_refused_at_once),
        cmocka_unit_test(test_create_refuses_what_cannot_be),
        cmocka_unit_test(test_a_value_that_is_not_finite_fails_only_its_request),
        cmocka_unit_test(test_create_survives_every_refusal_of_memory),
        cmocka_unit_test(test_nothing_is_allocated_after_create),
        cmocka_unit_test(test_the_plan_is_exactly_what_is_taken),
        cmocka_unit_test(test_stats_add_up),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
