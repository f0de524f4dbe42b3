/* engine_test.c - what a request gets, by the promises of engine.h: the same tokens whatever else is going on, pages that come
 * back, fair turns, prefixes found again. What is refused and what memory it takes: engine_bounds_test.c. */
#include "engine/engine_fixture.h"

#ifdef SPARK_SANITIZED
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

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

enum { LOAD = 24, LOAD_SETS = SANITIZED ? 1 : 3, LOAD_TRIALS = SANITIZED ? 5 : 8 /* sanitizers are slow */ };

static void load_make(wish *all, spark_kv_type type)
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
        wish_expect(w, type);
    }
}

/* Requests come at random moments, are held and let go, and share an engine of random shape; whether there are pages for all
 * and a prefix cache changes with the trial, so that a few trials show both. */
static void load_run(wish *all, spark_kv_type type, uint32_t trial, uint64_t *n_preempted, uint64_t *n_cached)
{
    spark_engine_options o = plain_options();
    o.kv_type = type;
    o.n_running = 1 + random_below(16);
    o.n_batch = o.n_running + random_below(random_below(2) ? 8 : 200);
    o.n_pages = trial % 3 ? 4 + random_below(8) : 0;
    o.itl_target_us = random_below(2) * (1 + random_below(300));
    o.prefix_cache = trial % 4 != 3;
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
    static const spark_kv_type types[] = {SPARK_KV_F16, SPARK_KV_Q8_0, SPARK_KV_F32};
    for (uint32_t set = 0; set < LOAD_SETS; set++) {
        uint64_t n_preempted = 0, n_cached = 0;
        const spark_kv_type type = types[set % SPARK_COUNT(types)];
        random_state = 77 + 11 * set;
        load_make(all, type);
        for (uint32_t trial = 0; trial < LOAD_TRIALS; trial++) load_run(all, type, trial, &n_preempted, &n_cached);
        print_message("%u preempted, %u tokens from the cache\n", (unsigned)n_preempted, (unsigned)n_cached);
        assert_true(n_preempted > 0); /* or nothing was shown */
        assert_true(n_cached > 0);
    }
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

/* Two keys of 0 and every other pair of tokens 0 (wish_collide): then all hashes are 0, and only the comparison tells pages
 * apart. */
static void start_with_collisions(void)
{
    const spark_engine_options o = plain_options();
    start(&o, 1);
    the.e->cache.seed[0] = the.e->cache.seed[1] = 0;
}

static void wish_collide(wish *w, uint32_t which)
{
    wish_make(w, which, 0, 0, 300, 10);
    for (uint32_t i = 0; i < 300; i++)
        if (i % 4 >= 2) w->prompt[i] = 0;
}

static void all_hashes_collide(void)
{
    uint32_t n = 0;
    for (uint32_t p = 0; p < stats().n_pages; p++) {
        assert_int_equal(the.e->cache.pages[p].hash, 0);
        n += the.e->cache.pages[p].cached;
    }
    assert_true(n > 2);
}

static void test_a_collision_of_hashes_never_gives_pages_of_other_tokens(void **state)
{
    (void)state;
    static wish w[2];
    start_with_collisions();
    for (uint32_t k = 0; k < 2; k++) wish_collide(&w[k], k);
    wish_expect(&w[1], SPARK_KV_F16);
    assert_int_equal(cached_of(&w[0], 0, 1), 0);
    assert_int_equal(cached_of(&w[1], 1, 1), 0);
    all_hashes_collide();
    assert_int_equal(cached_of(&w[0], 2, 1), 256);
    assert_int_equal(cached_of(&w[1], 3, 1), 256);
    same(&w[1]);
    stop();
}

static void test_a_collision_of_hashes_tells_the_last_token_of_a_page(void **state)
{
    (void)state;
    static wish w;
    start_with_collisions();
    wish_collide(&w, 0);
    assert_int_equal(cached_of(&w, 0, 1), 0);
    w.prompt[253] ^= 1; /* 254 and 255 are 0, so that hashes collide */
    wish_expect(&w, SPARK_KV_F16);
    assert_int_equal(cached_of(&w, 1, 1), 128);
    all_hashes_collide();
    same(&w);
    stop();
}

/* Equal tokens behind a beginning of other tokens have other keys and values. */
static void test_a_collision_of_hashes_never_gives_pages_behind_another_beginning(void **state)
{
    (void)state;
    static wish w;
    start_with_collisions();
    wish_collide(&w, 0);
    assert_int_equal(cached_of(&w, 0, 1), 0);
    w.prompt[0] ^= 1;
    wish_expect(&w, SPARK_KV_F16);
    assert_int_equal(cached_of(&w, 1, 1), 0);
    same(&w);
    assert_int_equal(cached_of(&w, 2, 1), 256); /* its own by now */
    all_hashes_collide();
    stop();
}

static void test_a_collision_of_hashes_never_crosses_tenants(void **state)
{
    (void)state;
    static wish w;
    start_with_collisions();
    wish_collide(&w, 0);
    assert_int_equal(cached_of(&w, 0, 1), 0);
    assert_int_equal(cached_of(&w, 1, 2), 0);
    w.r.n_public = 300;
    assert_int_equal(cached_of(&w, 2, 1), 0); /* what is public is known as such, not as his */
    assert_int_equal(cached_of(&w, 3, 3), 256);
    w.r.n_public = 0;
    assert_int_equal(cached_of(&w, 4, 3), 0);
    assert_int_equal(cached_of(&w, 5, 0), 0); /* not tenant 0 either, which public pages are filed under */
    all_hashes_collide();
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
        cmocka_unit_test(test_a_prefix_is_found_by_its_own_tenant_and_by_no_other),
        cmocka_unit_test(test_what_one_tenant_sees_does_not_depend_on_another),
        cmocka_unit_test(test_a_public_prefix_is_shared_with_all),
        cmocka_unit_test(test_an_answer_is_found_by_the_next_turn),
        cmocka_unit_test(test_equal_prompts_at_once_end_with_shared_pages),
        cmocka_unit_test(test_the_pages_used_longest_ago_go_first_and_the_beginning_of_a_prompt_last),
        cmocka_unit_test(test_a_collision_of_hashes_never_gives_pages_of_other_tokens),
        cmocka_unit_test(test_a_collision_of_hashes_tells_the_last_token_of_a_page),
        cmocka_unit_test(test_a_collision_of_hashes_never_gives_pages_behind_another_beginning),
        cmocka_unit_test(test_a_collision_of_hashes_never_crosses_tenants),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
