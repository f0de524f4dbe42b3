/* engine_bounds_test.c - where the engine of engine.h ends: what it refuses, what it takes and never more, and what fails alone. */
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/engine_fixture.h"

/* ---- What the system gives, counted and refused on demand (not under a sanitizer, which has allocators of its own) ---- */

static unsigned n_taken, refuse_at; /* calls; which of them fails, 0 = none */

#ifdef SPARK_SANITIZED
#define COUNTED 0
#else
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
    w.r.deadline_ns = test_clock() + 100 * ROW_NS;
    refuses(&w.r, SPARK_E_REFUSED, "after the deadline");
    w.r.deadline_ns = test_clock() + 1200 * ROW_NS;
    submit(&w);
    run_dry();
    assert_true(the.heard[3].finished);
    stop();
}

/* One prompt of n tokens in one pass that takes ns (and the clock's own looks). */
static void run_timed(wish *w, uint32_t id, uint32_t n, uint64_t ns)
{
    wish_make(w, id, 0, 0, n, 1);
    w->r.cache = false;
    submit(w);
    clock_step = ns; /* looked at before the pass and after it */
    run_dry();
    clock_step = 1;
}

static void test_a_cold_pass_and_tiny_prompts_do_not_foretell_long_waits(void **state)
{
    (void)state;
    static wish w;
    spark_engine_options o = plain_options();
    o.n_batch = 256;
    start(&o, 1);
    assert_int_equal(stats().wait_ms, 0); /* unknown */
    run_timed(&w, 0, 2, 100000000);
    assert_int_equal(stats().wait_ms, 0); /* page faults tell nothing of what follows */
    run_timed(&w, 1, 2, 1000000);
    const uint32_t after_one = stats().wait_ms;
    /* a pass takes four looks: not as if 2 tokens in 4 ms meant 512 in 1024 */
    if (after_one == 0 || after_one > 200) fail_msg("512 tokens in %u ms", after_one);
    for (uint32_t i = 2; i < 8; i++) run_timed(&w, i, 200, 1000000); /* the pass itself is what takes time */
    const uint32_t after_some = stats().wait_ms;
    if (after_some > 20) fail_msg("512 tokens in %u ms", after_some);
    stop();
}

static void test_a_wrong_estimate_does_not_refuse_for_ever(void **state)
{
    (void)state;
    static wish w;
    spark_engine_options o = plain_options();
    spark_err err = {0};
    uint32_t retry_ms = 0, n_refused = 0;
    start(&o, 1);
    for (uint32_t i = 0; i < 4; i++) { /* too few to refuse by */
        run_timed(&w, i, 20, 50000000);
        wish_make(&w, 50, 0, 0, 20, 1);
        w.r.deadline_ns = test_clock() + 1000000;
        assert_ok(spark_engine_submit(the.e, &w.r, &retry_ms, &err));
        spark_engine_cancel(the.e, 50);
        run_dry();
        the.heard[50] = (heard){0};
    }
    for (uint32_t i = 4; i < 24; i++) run_timed(&w, i, 20, 50000000);
    wish_make(&w, 51, 0, 0, 20, 1);
    clock_step = 0;
    w.r.deadline_ns = test_clock() + 1000000;
    for (; n_refused < 100 && !spark_ok(spark_engine_submit(the.e, &w.r, &retry_ms, &err)); n_refused++)
        assert_int_equal(err.code, SPARK_E_REFUSED);
    if (n_refused == 0 || n_refused > 20) fail_msg("%u refused before one could try", n_refused);
    run_dry();
    assert_true(the.heard[51].finished);
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

static unsigned n_pulses;
static void count_pulse(void *ctx) { *(unsigned *)ctx += 1; }

/* Whoever watches the process must not take a long pass for one that hangs. */
static void test_every_product_of_a_pass_gives_a_sign_of_life(void **state)
{
    (void)state;
    static wish w;
    const spark_engine_options o = plain_options();
    spark_engine_parts parts = parts_of(2);
    spark_net_info info;
    spark_err err = {0};
    start(&o, 2);
    spark_engine_destroy(&the.e);
    n_pulses = 0;
    parts.pulse = count_pulse;
    parts.pulse_ctx = &n_pulses;
    assert_ok(spark_engine_create(&the.e, &parts, &o, &err));
    wish_make(&w, 0, 0, 0, 100, 5);
    submit(&w);
    run_dry();
    spark_net_info_get(model.net, &info);
    /* q, k, v, o, the pair and down; without logits a pass ends after the last layer's k and v */
    assert_true(n_pulses >= stats().n_passes * (6 * (info.n_layers - 1) + 3));
    stop();
}

static bool is_resident(const spark_pages *p)
{
    const size_t n = spark_div_up(p->len, (size_t)sysconf(_SC_PAGESIZE));
    unsigned char *in = malloc(n);
    assert_int_equal(mincore(p->ptr, p->len, in), 0);
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += in[i] & 1;
    free(in);
    return count == n;
}

static void test_between_requests_its_memory_becomes_resident_and_no_result_changes(void **state)
{
    (void)state;
    static wish w[2];
    spark_engine_options o = plain_options();
    o.n_pages = 100;
    start(&o, 2);
    assert_false(is_resident(spark_kv_memory(the.e->kv)));
    wish_make(&w[0], 0, 0, 0, 100, 40);
    wish_make(&w[1], 1, 0, 0, 200, 40);
    for (int i = 0; i < 2; i++) wish_expect(&w[i], o.kv_type);
    submit(&w[0]);
    uint32_t n_settled = 0;
    for (bool more = true; the.heard[0].n_ended == 0; n_settled += more) {
        step();
        more = spark_engine_settle(the.e);
    }
    same(&w[0]);
    assert_true(n_settled > 0);
    while (spark_engine_settle(the.e)) n_settled++;
    assert_true(is_resident(spark_kv_memory(the.e->kv)));
    assert_true(is_resident(spark_exec_memory(the.e->exec)));
    assert_true(is_resident(&the.e->memory));
    submit(&w[1]);
    run_dry();
    same(&w[1]);
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
        cmocka_unit_test(test_submit_refuses_bad_requests_and_says_why),
        cmocka_unit_test(test_the_queue_is_bounded_by_number_and_by_tokens),
        cmocka_unit_test(test_what_cannot_meet_its_deadline_is_refused_at_once),
        cmocka_unit_test(test_a_cold_pass_and_tiny_prompts_do_not_foretell_long_waits),
        cmocka_unit_test(test_a_wrong_estimate_does_not_refuse_for_ever),
        cmocka_unit_test(test_create_refuses_what_cannot_be),
        cmocka_unit_test(test_a_value_that_is_not_finite_fails_only_its_request),
        cmocka_unit_test(test_every_product_of_a_pass_gives_a_sign_of_life),
        cmocka_unit_test(test_between_requests_its_memory_becomes_resident_and_no_result_changes),
        cmocka_unit_test(test_create_survives_every_refusal_of_memory),
        cmocka_unit_test(test_nothing_is_allocated_after_create),
        cmocka_unit_test(test_the_plan_is_exactly_what_is_taken),
        cmocka_unit_test(test_stats_add_up),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
