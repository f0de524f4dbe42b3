/* api_test.c - the promises of spark.h, on the embedded demo model (skipped where the build has none). */
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/compiler.h"
#include "base/test.h"
#include "spark/spark.h"

enum { MAX_TOKENS = 40 };

static spark_model *model; /* loaded once for all tests */
static uint32_t n_vocab;

static int open_model(void **state)
{
    (void)state;
    spark_model_options o;
    spark_model_options_defaults(&o);
    o.n_threads = 2;
    spark_err err = {0};
    if (spark_model_open_embedded(&model, &o, &err).code == SPARK_E_UNSUPPORTED) return 0;
    spark_description d;
    if (!model || spark_model_load(model, NULL, NULL, &err).code) return -1;
    spark_model_describe(model, &d);
    n_vocab = d.n_vocab;
    return 0;
}

static int close_model(void **state)
{
    (void)state;
    spark_model_close(&model);
    spark_model_close(&model); /* twice is harmless */
    return 0;
}

static spark_session *session(uint32_t n_ctx, uint32_t n_batch)
{
    if (!model) skip();
    spark_session_options o;
    spark_session *s = NULL;
    spark_session_options_defaults(&o);
    o.n_ctx = n_ctx;
    o.n_batch = n_batch;
    assert_ok(spark_session_create(&s, model, &o, NULL));
    return s;
}

/* Ids that are all valid and not all alike. */
static void some_ids(uint32_t *ids, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) ids[i] = i == 0 ? 1 : 300 + i * 37 % 1000;
}

static void same_logits(spark_session *a, spark_session *b)
{
    const float *x = NULL, *y = NULL;
    assert_ok(spark_session_logits(a, &x, NULL));
    assert_ok(spark_session_logits(b, &y, NULL));
    assert_non_null(x);
    assert_memory_equal(x, y, n_vocab * sizeof *x);
}

/* ---- Sessions ---- */

static void test_logits_do_not_depend_on_how_tokens_were_fed(void **state)
{
    (void)state;
    uint32_t ids[MAX_TOKENS];
    some_ids(ids, MAX_TOKENS);
    spark_session *a = session(64, 0), *b = session(48, 7), *c = session(64, 3);
    assert_ok(spark_session_feed(a, ids, MAX_TOKENS, NULL));
    for (uint32_t i = 0; i < MAX_TOKENS; i++) assert_ok(spark_session_feed(b, ids + i, 1, NULL));
    assert_ok(spark_session_feed(c, ids, MAX_TOKENS, NULL));
    same_logits(a, b);
    same_logits(a, c);
    spark_session_destroy(&a);
    spark_session_destroy(&b);
    spark_session_destroy(&c);
    assert_null(a);
    spark_session_destroy(&a);
}

static void test_sync_equals_feeding_everything_anew(void **state)
{
    (void)state;
    uint32_t ids[MAX_TOKENS], other[MAX_TOKENS];
    some_ids(ids, MAX_TOKENS);
    some_ids(other, MAX_TOKENS);
    for (uint32_t i = 20; i < MAX_TOKENS; i++) other[i] += 5;
    spark_session *a = session(64, 0), *b = session(64, 0);
    assert_ok(spark_session_feed(a, ids, MAX_TOKENS, NULL));
    const uint32_t lengths[] = {MAX_TOKENS, 30, 30, 10, MAX_TOKENS};
    for (size_t i = 0; i < SPARK_COUNT(lengths); i++) {
        assert_ok(spark_session_sync(a, other, lengths[i], NULL));
        assert_int_equal(spark_session_length(a), lengths[i]);
        spark_session_reset(b);
        assert_ok(spark_session_feed(b, other, lengths[i], NULL));
        same_logits(a, b);
    }
    assert_code(spark_session_sync(a, ids, 0, NULL), SPARK_E_ARGUMENT);
    spark_session_destroy(&a);
    spark_session_destroy(&b);
}

static void test_score_gives_the_logits_of_every_token(void **state)
{
    (void)state;
    uint32_t ids[9];
    some_ids(ids, 9);
    spark_session *a = session(64, 0), *b = session(64, 0);
    float *rows = calloc((size_t)9 * n_vocab, sizeof *rows);
    assert_ok(spark_session_score(a, ids, 9, rows, NULL));
    for (uint32_t i = 0; i < 9; i++) {
        const float *logits = NULL;
        assert_ok(spark_session_feed(b, ids + i, 1, NULL));
        assert_ok(spark_session_logits(b, &logits, NULL));
        assert_memory_equal(logits, rows + (size_t)i * n_vocab, n_vocab * sizeof *rows);
    }
    free(rows);
    spark_session_destroy(&a);
    spark_session_destroy(&b);
}

static void test_what_cannot_be_fed_changes_nothing(void **state)
{
    (void)state;
    uint32_t ids[MAX_TOKENS];
    some_ids(ids, MAX_TOKENS);
    spark_session *a = session(16, 0), *b = session(16, 0);
    const float *logits = NULL;
    assert_code(spark_session_logits(a, &logits, NULL), SPARK_E_STATE);
    assert_ok(spark_session_feed(a, ids, 10, NULL));
    assert_ok(spark_session_feed(b, ids, 10, NULL));
    assert_code(spark_session_feed(a, ids, 7, NULL), SPARK_E_CONTEXT);
    assert_code(spark_session_sync(a, ids, 17, NULL), SPARK_E_CONTEXT);
    assert_code(spark_session_feed(a, &n_vocab, 1, NULL), SPARK_E_ARGUMENT);
    assert_code(spark_session_feed(a, ids, SIZE_MAX, NULL), SPARK_E_CONTEXT);
    assert_int_equal(spark_session_length(a), 10);
    same_logits(a, b);
    spark_session_destroy(&a);
    spark_session_destroy(&b);
}

static void test_a_cancelled_feed_changes_nothing(void **state)
{
    (void)state;
    uint32_t ids[MAX_TOKENS];
    some_ids(ids, MAX_TOKENS);
    spark_session *a = session(64, 4), *b = session(64, 4);
    assert_ok(spark_session_feed(a, ids, 10, NULL));
    assert_ok(spark_session_feed(b, ids, 10, NULL));
    spark_session_cancel(a);
    assert_code(spark_session_feed(a, ids + 10, 20, NULL), SPARK_E_CANCELLED);
    assert_int_equal(spark_session_length(a), 10);
    same_logits(a, b); /* computed again: they were gone */
    assert_ok(spark_session_feed(a, ids + 10, 20, NULL));
    assert_ok(spark_session_feed(b, ids + 10, 20, NULL));
    same_logits(a, b);
    spark_session_destroy(&a);
    spark_session_destroy(&b);
}

/* ---- Generation ---- */

typedef struct written {
    char text[8192];
    size_t len;
    uint32_t n_pieces, most;
    spark_session *cancel_in; /* cancel here after `most` pieces */
    bool refuse;              /* return false then */
} written;

static bool keep_piece(void *ctx, const spark_piece *p)
{
    written *w = ctx;
    if (w->len + p->len <= sizeof w->text) memcpy(w->text + w->len, p->text, p->len);
    w->len += p->len;
    if (++w->n_pieces != w->most) return true;
    if (w->cancel_in) spark_session_cancel(w->cancel_in);
    return !w->refuse;
}

static spark_generate_options options(written *w, uint32_t max_tokens)
{
    spark_generate_options o;
    spark_generate_options_defaults(&o);
    o.max_tokens = max_tokens;
    o.sampling.seed = 7;
    o.on_piece = keep_piece;
    o.ctx = w;
    return o;
}

static void generate_alone(written *w)
{
    spark_session *s = session(256, 0);
    uint32_t ids[8];
    some_ids(ids, 8);
    spark_generate_result r;
    const spark_generate_options o = options(w, 60);
    assert_ok(spark_session_feed(s, ids, 8, NULL));
    assert_ok(spark_session_generate(s, &o, &r, NULL));
    spark_session_destroy(&s);
}

static void test_generation_ends_as_it_says(void **state)
{
    (void)state;
    spark_session *s = session(32, 0);
    uint32_t ids[8];
    some_ids(ids, 8);
    written w = {0};
    spark_generate_result r;
    spark_generate_options o = options(&w, 5);
    assert_code(spark_session_generate(s, &o, &r, NULL), SPARK_E_STATE); /* empty */
    assert_ok(spark_session_feed(s, ids, 8, NULL));
    assert_ok(spark_session_generate(s, &o, &r, NULL));
    assert_int_equal(r.finish, SPARK_FINISH_LENGTH);
    assert_int_equal(r.n_tokens, 5);
    assert_int_equal(spark_session_length(s), 13);
    o.max_tokens = 0;
    o.ignore_eog = true;
    assert_ok(spark_session_generate(s, &o, &r, NULL)); /* until the context is full */
    assert_int_equal(r.finish, SPARK_FINISH_LENGTH);
    assert_int_equal(spark_session_length(s), 32);
    assert_ok(spark_session_generate(s, &o, &r, NULL));
    assert_int_equal(r.n_tokens, 0);
    spark_session_destroy(&s);
}

static bool count_heap(void *ctx, const spark_piece *piece)
{
    size_t *most = ctx;
    const struct mallinfo2 now = mallinfo2();
    (void)piece;
    if (now.uordblks + now.hblkhd > *most) *most = now.uordblks + now.hblkhd;
    return true;
}

static void test_generating_takes_nothing_from_the_heap(void **state)
{
    (void)state;
    uint32_t ids[8];
    const char *stops[] = {"never seen", "nor this"};
    spark_session *s = session(64, 0);
    some_ids(ids, 8);
    assert_ok(spark_session_feed(s, ids, 8, NULL));
    const struct mallinfo2 before = mallinfo2(); /* zero under a sanitizer, whose allocator is another */
    size_t most = 0;
    spark_generate_options o;
    spark_generate_result r;
    spark_generate_options_defaults(&o);
    o.max_tokens = 20;
    o.stops = stops;
    o.n_stops = 2;
    o.n_logprobs = 5;
    o.on_piece = count_heap;
    o.ctx = &most;
    assert_ok(spark_session_generate(s, &o, &r, NULL));
    assert_int_equal(most, before.uordblks + before.hblkhd);
    spark_session_destroy(&s);
}

static void test_a_cancel_or_a_callback_ends_a_generation(void **state)
{
    (void)state;
    spark_session *s = session(64, 0);
    uint32_t ids[8];
    some_ids(ids, 8);
    assert_ok(spark_session_feed(s, ids, 8, NULL));
    spark_generate_result r;
    written by_cancel = {.cancel_in = s, .most = 3}, by_callback = {.refuse = true, .most = 4};
    spark_generate_options o = options(&by_cancel, 0);
    assert_ok(spark_session_generate(s, &o, &r, NULL));
    assert_int_equal(r.finish, SPARK_FINISH_CANCELLED);
    assert_int_equal(r.n_tokens, 3);
    o = options(&by_callback, 0);
    assert_ok(spark_session_generate(s, &o, &r, NULL));
    assert_int_equal(r.finish, SPARK_FINISH_CANCELLED);
    assert_int_equal(r.n_tokens, 4);
    spark_session_destroy(&s);
}

static void test_nonsense_options_are_refused(void **state)
{
    (void)state;
    spark_session *s = session(64, 0);
    uint32_t ids[2] = {1, 300};
    const char *empty = "", *broken = "\xc3";
    const spark_logit_bias far = {n_vocab, 1}, nan_bias = {1, __builtin_nanf("")};
    assert_ok(spark_session_feed(s, ids, 2, NULL));
    spark_generate_result r;
    for (int i = 0; i < 9; i++) {
        spark_generate_options o = options(NULL, 3);
        o.on_piece = NULL;
        if (i == 0) o.sampling.temperature = __builtin_nanf("");
        if (i == 1) o.sampling.top_p = -1;
        if (i == 2) o.n_logprobs = 100000;
        if (i == 3) {
            o.stops = &empty;
            o.n_stops = 1;
        }
        if (i == 4) {
            o.stops = &broken;
            o.n_stops = 1;
        }
        if (i == 5) o.n_stops = 100000;
        if (i == 6) {
            o.logit_bias = &far;
            o.n_logit_bias = 1;
        }
        if (i == 7) {
            o.logit_bias = &nan_bias;
            o.n_logit_bias = 1;
        }
        if (i == 8) o.sampling.repeat_penalty = 0;
        const spark_code code = spark_session_generate(s, &o, &r, NULL).code;
        if (code != SPARK_E_ARGUMENT && code != SPARK_E_LIMIT) fail_msg("options %d: code %d", i, code);
    }
    assert_int_equal(spark_session_length(s), 2);
    spark_session_destroy(&s);
}

static void test_bad_session_options_are_refused(void **state)
{
    (void)state;
    if (!model) skip();
    spark_session *s = NULL;
    spark_plan plan;
    for (int i = 0; i < 2; i++) {
        spark_session_options o;
        spark_session_options_defaults(&o);
        if (i == 0) o.n_ctx = UINT32_MAX;
        if (i == 1) o.kv = (spark_kv_choice)99;
        assert_code(spark_session_create(&s, model, &o, NULL), SPARK_E_ARGUMENT);
        assert_code(spark_model_plan(model, &o, &plan, NULL), SPARK_E_ARGUMENT);
    }
    spark_session_options large;
    spark_session_options_defaults(&large);
    large.n_batch = large.n_logits = UINT32_MAX; /* more than the context never helps */
    assert_ok(spark_session_create(&s, model, &large, NULL));
    spark_session_destroy(&s);
}

/* ---- Models ---- */

static void test_the_plan_is_the_sum_of_its_parts_and_grows_with_the_context(void **state)
{
    (void)state;
    if (!model) skip();
    spark_session_options o;
    spark_session_options_defaults(&o);
    spark_plan small, large;
    o.n_ctx = 64;
    assert_ok(spark_model_plan(model, &o, &small, NULL));
    o.n_ctx = 512;
    assert_ok(spark_model_plan(model, &o, &large, NULL));
    assert_int_equal(large.total, large.weights + large.kv + large.scratch + large.vocabulary);
    assert_int_equal(large.weights, small.weights);
    assert_true(large.kv > small.kv && large.n_ctx == 512 && large.n_threads == 2);
}

static void test_a_model_is_opened_or_an_error_told(void **state)
{
    (void)state;
    spark_model *m = NULL;
    spark_err err = {0};
    spark_model_options o;
    spark_model_options_defaults(&o);
    assert_code(spark_model_open(&m, "/nonexistent.gguf", NULL, &err), SPARK_E_IO);
    assert_true(strlen(err.text) > 0);
    assert_code(spark_model_open(&m, "/", NULL, NULL), SPARK_E_IO);
    assert_code(spark_model_open_memory(&m, "GGUF", 4, NULL, NULL), SPARK_E_FORMAT);
    assert_code(spark_model_open_memory(&m, "", 0, NULL, NULL), SPARK_E_FORMAT);
    o.cpu = "z80";
    assert_code(spark_model_open_embedded(&m, &o, NULL), SPARK_E_ARGUMENT);
    o.cpu = NULL;
    o.n_threads = 100000;
    assert_code(spark_model_open_embedded(&m, &o, NULL), SPARK_E_ARGUMENT);
    assert_null(m);
}

static void test_a_vocabulary_alone_tokenizes_and_nothing_else(void **state)
{
    (void)state;
    if (!model) skip();
    spark_model *m = NULL;
    spark_model_options o;
    spark_model_options_defaults(&o);
    o.vocab_only = true;
    assert_ok(spark_model_open_embedded(&m, &o, NULL));
    spark_tokens t = {0};
    spark_buffer b = {0};
    spark_plan plan;
    spark_session *s = NULL;
    assert_ok(spark_model_tokenize(m, "Once upon", 9, SPARK_TOKENIZE_ADD, &t, NULL));
    assert_ok(spark_model_detokenize(m, t.ids, t.n, &b, NULL));
    assert_string_equal(b.ptr, "Once upon");
    assert_code(spark_model_load(m, NULL, NULL, NULL), SPARK_E_STATE);
    assert_code(spark_model_plan(m, NULL, &plan, NULL), SPARK_E_STATE);
    assert_code(spark_session_create(&s, m, NULL, NULL), SPARK_E_STATE);
    spark_tokens_free(&t);
    spark_tokens_free(&t);
    spark_buffer_free(&b);
    spark_model_close(&m);
}

static bool stop_loading(void *ctx, uint64_t done, uint64_t total)
{
    (void)ctx, (void)done, (void)total;
    return false;
}

static void test_loading_can_be_stopped_and_begun_again(void **state)
{
    (void)state;
    if (!model) skip();
    spark_model *m = NULL;
    assert_ok(spark_model_open_embedded(&m, NULL, NULL));
    assert_code(spark_model_load(m, stop_loading, NULL, NULL), SPARK_E_CANCELLED);
    assert_ok(spark_model_load(m, NULL, NULL, NULL));
    assert_code(spark_model_load(m, NULL, NULL, NULL), SPARK_E_STATE);
    spark_model_close(&m);
}

/* ---- Threads ---- */

static void *generate_thread(void *arg)
{
    generate_alone(arg);
    return NULL;
}

static void test_two_sessions_at_once_give_the_bytes_of_one(void **state)
{
    (void)state;
    if (!model) skip();
    static written alone, first, second;
    pthread_t a, b;
    generate_alone(&alone);
    assert_int_equal(pthread_create(&a, NULL, generate_thread, &first), 0);
    assert_int_equal(pthread_create(&b, NULL, generate_thread, &second), 0);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    assert_true(alone.len > 0 && alone.len <= sizeof alone.text);
    assert_int_equal(first.len, alone.len);
    assert_int_equal(second.len, alone.len);
    assert_memory_equal(first.text, alone.text, alone.len);
    assert_memory_equal(second.text, alone.text, alone.len);
}

static atomic_bool running;

static bool say_running(void *ctx, const spark_piece *p)
{
    (void)ctx, (void)p;
    atomic_store(&running, true);
    return true;
}

static void *cancel_thread(void *arg)
{
    while (!atomic_load(&running)) {
    }
    spark_session_cancel(arg);
    return NULL;
}

static void test_another_thread_can_cancel(void **state)
{
    (void)state;
    spark_session *s = session(512, 0);
    uint32_t id = 1;
    pthread_t other;
    spark_generate_result r;
    spark_generate_options o = options(NULL, 0);
    o.on_piece = say_running;
    o.ignore_eog = true;
    assert_ok(spark_session_feed(s, &id, 1, NULL));
    assert_int_equal(pthread_create(&other, NULL, cancel_thread, s), 0);
    assert_ok(spark_session_generate(s, &o, &r, NULL));
    pthread_join(other, NULL);
    assert_int_equal(r.finish, SPARK_FINISH_CANCELLED);
    assert_true(r.n_tokens < 511);
    spark_session_destroy(&s);
}

/* Runs before any model is opened with the best level: what a process was granted stays. */
static void test_a_lower_cpu_level_does_not_ask_for_amx(void **state)
{
    (void)state;
#if defined(__x86_64__)
    enum { GET_XCOMP_PERM = 0x1022, TILE_DATA = 18 };
    unsigned long granted = 0;
    spark_model *m = NULL;
    spark_model_options o;
    spark_model_options_defaults(&o);
    o.cpu = "scalar";
    if (spark_model_open_embedded(&m, &o, NULL).code == SPARK_E_UNSUPPORTED) skip();
    assert_ok(spark_model_load(m, NULL, NULL, NULL));
    spark_model_close(&m);
    if (syscall(SYS_arch_prctl, GET_XCOMP_PERM, &granted) == 0) assert_int_equal(granted >> TILE_DATA & 1, 0);
#endif
}

int main(void)
{
    const struct CMUnitTest first[] = {cmocka_unit_test(test_a_lower_cpu_level_does_not_ask_for_amx)};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits_do_not_depend_on_how_tokens_were_fed),
        cmocka_unit_test(test_sync_equals_feeding_everything_anew),
        cmocka_unit_test(test_score_gives_the_logits_of_every_token),
        cmocka_unit_test(test_what_cannot_be_fed_changes_nothing),
        cmocka_unit_test(test_a_cancelled_feed_changes_nothing),
        cmocka_unit_test(test_generation_ends_as_it_says),
        cmocka_unit_test(test_generating_takes_nothing_from_the_heap),
        cmocka_unit_test(test_a_cancel_or_a_callback_ends_a_generation),
        cmocka_unit_test(test_nonsense_options_are_refused),
        cmocka_unit_test(test_bad_session_options_are_refused),
        cmocka_unit_test(test_the_plan_is_the_sum_of_its_parts_and_grows_with_the_context),
        cmocka_unit_test(test_a_model_is_opened_or_an_error_told),
        cmocka_unit_test(test_a_vocabulary_alone_tokenizes_and_nothing_else),
        cmocka_unit_test(test_loading_can_be_stopped_and_begun_again),
        cmocka_unit_test(test_two_sessions_at_once_give_the_bytes_of_one),
        cmocka_unit_test(test_another_thread_can_cancel),
    };
    return cmocka_run_group_tests(first, NULL, NULL) + cmocka_run_group_tests(tests, open_model, close_model);
}
