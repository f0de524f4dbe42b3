/* model_test.c - what binding refuses and how it says so, the plan and what is taken, pages of keys and values, and what a
 * pass leaves behind when it fails. */
#include <pthread.h>

#include "model/fixture.h"

static const fixture_spec small = {
    .arch = "llama", .heads = 4, .heads_kv = 2, .head_dim = 16, .ctx = 512, .type = SPARK_TYPE_F32};
static const spark_shape shape = {
    .n_ctx = 300, .n_seqs = 3, .n_batch = 16, .n_logits = 4, .n_threads = 2, .kv_type = SPARK_KV_F16};

/* ---- Binding ------------------------------------------------------------------------------------------------------- */

static void refuses(const fixture_spec *s, spark_code code, const char *says)
{
    fixture f;
    spark_err err = {0};
    fixture_make(&f, s);
    assert_code(fixture_bind(&f, &err), code);
    if (!strstr(err.text, says)) fail_msg("'%s' does not say '%s'", err.text, says);
    assert_null(f.net);
    fixture_close(&f);
}

static void test_bind_names_an_unknown_architecture_and_those_it_knows(void **state)
{
    (void)state;
    fixture_spec s = small;
    s.arch = "nonesuch";
    refuses(&s, SPARK_E_UNSUPPORTED, "'nonesuch'");
    refuses(&s, SPARK_E_UNSUPPORTED, "llama, qwen2, qwen3, phi3, gemma2, gemma3, qwen2moe, qwen3moe");
}

static void test_bind_names_every_tensor_and_key_that_is_missing(void **state)
{
    (void)state;
    static const char *const names[] = {
        "token_embd.weight",         "output_norm.weight",         "blk.0.attn_norm.weight",  "blk.1.attn_q.weight",
        "blk.0.attn_k.weight",       "blk.1.attn_v.weight",        "blk.0.ffn_norm.weight",   "blk.1.ffn_gate.weight",
        "blk.1.ffn_down.weight",     "llama.embedding_length",     "llama.context_length",    "llama.block_count",
        "llama.feed_forward_length", "llama.attention.head_count", "blk.0.attn_output.weight"};
    for (size_t i = 0; i < SPARK_COUNT(names); i++) {
        fixture_spec s = small;
        s.leave_out = names[i];
        refuses(&s, SPARK_E_FORMAT, names[i]);
    }
}

static void test_bind_refuses_a_tensor_that_has_no_place(void **state)
{
    (void)state;
    fixture_spec s = small;
    s.extra = "blk.0.attn_sinks.weight";
    refuses(&s, SPARK_E_UNSUPPORTED, "blk.0.attn_sinks.weight");
}

static void test_bind_says_which_shape_it_found_and_expected(void **state)
{
    (void)state;
    fixture_spec s = small;
    s.leave_out = "llama.attention.key_length"; /* then heads are 64 / 4 = 16 wide, and fit; with 8 heads they do not */
    s.heads = 8;
    s.head_dim = 16;
    refuses(&s, SPARK_E_FORMAT, "'blk.0.attn_q.weight' is [64, 128, 1, 1], expected [64, 64, 1]");
}

static void test_bind_refuses_heads_and_experts_that_do_not_fit_together(void **state)
{
    (void)state;
    fixture_spec s = small;
    s.heads_kv = 3;
    refuses(&s, SPARK_E_FORMAT, "4 attention heads cannot share 3");
    s = small;
    s.experts = 1;
    refuses(&s, SPARK_E_FORMAT, "2 of 1 experts");
    s.arch = "qwen2";
    s.experts = 4;
    refuses(&s, SPARK_E_UNSUPPORTED, "with experts");
    s = small;
    s.arch = "qwen3moe";
    refuses(&s, SPARK_E_FORMAT, "qwen3moe.expert_count");
    s = small;
    s.arch = "qwen2";
    s.window = 100;
    refuses(&s, SPARK_E_UNSUPPORTED, "sliding window");
}

static void test_info_tells_what_the_file_holds(void **state)
{
    (void)state;
    fixture f;
    spark_net_info i;
    fixture_make(&f, &small);
    assert_ok(fixture_bind(&f, NULL));
    spark_net_info_get(f.net, &i);
    assert_string_equal(i.arch, "llama");
    assert_int_equal(i.n_vocab, FIXTURE_VOCAB);
    assert_int_equal(i.n_layers, FIXTURE_LAYERS);
    assert_int_equal(i.head_dim_k, 16);
    assert_int_equal(i.file_bytes, i.n_params * 4);
    assert_ptr_equal(spark_net_gguf(f.net), f.gguf);
    fixture_close(&f);
}

/* ---- Plan and load -------------------------------------------------------------------------------------------------- */

static void test_plan_is_exactly_what_is_taken(void **state)
{
    (void)state;
    fixture_spec specs[3] = {small, small, small};
    specs[1].type = SPARK_TYPE_Q8_0;
    specs[2].experts = 6;
    for (size_t k = 0; k < SPARK_COUNT(specs); k++)
        for (uint32_t threads = 1; threads <= 3; threads++) {
            fixture f;
            fixture_run r;
            spark_memory plan;
            spark_pool *pool = NULL;
            spark_shape s = shape;
            s.n_threads = threads;
            s.n_pages = threads == 3 ? 2 : 0;
            fixture_make(&f, &specs[k]);
            assert_ok(spark_pool_create(&pool, threads, NULL));
            assert_ok(fixture_bind(&f, NULL));
            assert_ok(spark_net_plan(f.net, &s, &plan, NULL));
            assert_ok(fixture_load(&f, pool, NULL));
            fixture_start(&r, &f, &s, spark_isa_best());
            assert_int_equal(plan.weights, f.net->weights.len);
            assert_int_equal(plan.kv, r.kv->memory.len);
            assert_int_equal(plan.scratch, r.exec->memory.len + threads * f.net->load_buffer);
            fixture_stop(&r);
            spark_pool_destroy(&pool);
            fixture_close(&f);
        }
}

static void test_plan_refuses_shapes_that_cannot_be(void **state)
{
    (void)state;
    fixture f;
    spark_memory plan;
    fixture_make(&f, &small);
    assert_ok(fixture_bind(&f, NULL));
    for (int k = 0; k < 7; k++) {
        spark_shape s = shape;
        if (k == 0) s.n_ctx = 0;
        if (k == 1) s.n_seqs = SPARK_MAX_SEQS + 1;
        if (k == 2) s.n_batch = 0;
        if (k == 3) s.n_logits = s.n_batch + 1;
        if (k == 4) s.n_threads = 0;
        if (k == 5) s.n_ctx = SPARK_MAX_CTX + 1;
        if (k == 6) s.n_pages = SPARK_MAX_KV_PAGES + 1;
        assert_code(spark_net_plan(f.net, &s, &plan, NULL), SPARK_E_ARGUMENT);
    }
    fixture_close(&f);
}

static void test_load_names_the_first_tensor_with_a_value_that_is_not_finite(void **state)
{
    (void)state;
    static const struct {
        const char *name, *says;
    } cases[] = {{"blk.1.ffn_down.weight", "'blk.1.ffn_down.weight' has a weight or scale in row 63"},
                 {"token_embd.weight", "'token_embd.weight' has a weight or scale in row 36"},
                 {"blk.0.attn_norm.weight", "'blk.0.attn_norm.weight'"}};
    for (size_t k = 0; k < SPARK_COUNT(cases); k++) {
        fixture f;
        spark_pool *pool = NULL;
        spark_err err = {0};
        fixture_spec s = small;
        s.nan_in = cases[k].name;
        fixture_make(&f, &s);
        assert_ok(spark_pool_create(&pool, 2, NULL));
        assert_ok(fixture_bind(&f, NULL));
        assert_code(fixture_load(&f, pool, &err), SPARK_E_NUMERIC);
        if (!strstr(err.text, cases[k].says)) fail_msg("'%s' does not say '%s'", err.text, cases[k].says);
        assert_null(f.net->weights.ptr);
        spark_pool_destroy(&pool);
        fixture_close(&f);
    }
}

static bool cancel_at_half(void *ctx, uint64_t done, uint64_t total)
{
    *(uint64_t *)ctx = total;
    return done < total / 2;
}

static spark_status broken_read(void *ctx, uint32_t file, uint64_t offset, void *dst, size_t len, spark_err *err)
{
    (void)ctx, (void)file, (void)dst, (void)len;
    return spark_fail(err, SPARK_E_IO, offset, "the disk is gone");
}

static void test_load_can_be_cancelled_and_passes_on_a_failed_read(void **state)
{
    (void)state;
    fixture f;
    spark_pool *pool = NULL;
    spark_err err = {0};
    uint64_t total = 0;
    fixture_make(&f, &small);
    assert_ok(spark_pool_create(&pool, 1, NULL));
    assert_ok(fixture_bind(&f, NULL));
    assert_code(spark_net_load(f.net, &(spark_source){fixture_read, &f}, pool, cancel_at_half, &total, &err),
                SPARK_E_CANCELLED);
    assert_int_equal(total, f.net->info.file_bytes);
    assert_code(spark_net_load(f.net, &(spark_source){broken_read, &f}, pool, NULL, NULL, &err), SPARK_E_IO);
    assert_string_equal(err.text, "the disk is gone");
    assert_ok(fixture_load(&f, pool, NULL)); /* nothing half done stays */
    assert_code(fixture_load(&f, pool, NULL), SPARK_E_STATE);
    spark_pool_destroy(&pool);
    fixture_close(&f);
}

static void test_packed_weights_do_not_depend_on_the_number_of_threads(void **state)
{
    (void)state;
    fixture f[2];
    fixture_spec s = small;
    s.type = SPARK_TYPE_Q8_0;
    s.experts = 5;
    for (unsigned k = 0; k < 2; k++) {
        spark_pool *pool = NULL;
        fixture_make(&f[k], &s);
        assert_ok(spark_pool_create(&pool, 1 + 2 * k, NULL));
        assert_ok(fixture_bind(&f[k], NULL));
        assert_ok(fixture_load(&f[k], pool, NULL));
        spark_pool_destroy(&pool);
    }
    assert_memory_equal(f[0].net->weights.ptr, f[1].net->weights.ptr, f[0].net->weights.len);
    for (unsigned k = 0; k < 2; k++) fixture_close(&f[k]);
}

/* ---- Keys, values and failing passes -------------------------------------------------------------------------------------- */

typedef struct stream {
    fixture f;
    fixture_run r;
    spark_pool *loader;
} stream;

static void stream_open_shaped(stream *s, const fixture_spec *spec, const spark_shape *how)
{
    spark_err err = {0};
    fixture_make(&s->f, spec);
    assert_ok(spark_pool_create(&s->loader, 1, NULL));
    if (!spark_ok(fixture_bind(&s->f, &err)) || !spark_ok(fixture_load(&s->f, s->loader, &err)))
        fail_msg("%s", err.text);
    fixture_start(&s->r, &s->f, how, spark_isa_best());
}

static void stream_open(stream *s, const fixture_spec *spec) { stream_open_shaped(s, spec, &shape); }

static void stream_close(stream *s)
{
    fixture_stop(&s->r);
    spark_pool_destroy(&s->loader);
    fixture_close(&s->f);
}

static void ids_fill(uint32_t *ids, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) ids[i] = (i * 7 + i * i) % FIXTURE_VOCAB;
}

static void test_fork_and_truncate_give_the_logits_of_a_sequence_fed_alone(void **state)
{
    (void)state;
    stream s;
    uint32_t ids[300];
    float alone[FIXTURE_VOCAB], forked[FIXTURE_VOCAB];
    ids_fill(ids, SPARK_COUNT(ids));
    stream_open(&s, &small);
    static const uint32_t cuts[] = {1, 127, 128, 129, 200, 256};
    for (size_t k = 0; k < SPARK_COUNT(cuts); k++) {
        fixture_feed(&s.r, 0, ids, 280, 16, NULL);
        assert_ok(spark_kv_fork(s.r.kv, 0, 1, cuts[k], NULL));
        spark_kv_truncate(s.r.kv, 0, cuts[k]);
        /* both owners go on in their own way: a page that is still shared must be copied first */
        fixture_feed(&s.r, 0, ids + 7, 3, 1, NULL);
        fixture_feed(&s.r, 1, ids + 20, 3, 1, NULL);
        fixture_feed(&s.r, 1, ids + 11, 1, 1, forked);
        fixture_feed(&s.r, 2, ids, cuts[k], 16, NULL);
        fixture_feed(&s.r, 2, ids + 20, 3, 3, NULL);
        fixture_feed(&s.r, 2, ids + 11, 1, 1, alone);
        assert_memory_equal(alone, forked, sizeof alone);
        for (uint32_t q = 0; q < 3; q++) spark_kv_truncate(s.r.kv, q, 0);
        assert_int_equal(s.r.kv->n_free, s.r.kv->n_pages);
    }
    stream_close(&s);
}

static void test_cutting_into_a_shared_page_does_not_change_the_other_sequence(void **state)
{
    (void)state;
    stream s;
    uint32_t ids[200];
    float before[FIXTURE_VOCAB], after[FIXTURE_VOCAB];
    ids_fill(ids, SPARK_COUNT(ids));
    stream_open(&s, &small);
    fixture_feed(&s.r, 0, ids, 128, 16, NULL);
    assert_ok(spark_kv_fork(s.r.kv, 0, 1, 128, NULL));
    fixture_feed(&s.r, 0, ids, 1, 1, before);
    spark_kv_truncate(s.r.kv, 1, 100);
    fixture_feed(&s.r, 1, ids + 50, 20, 16, NULL);
    spark_kv_truncate(s.r.kv, 0, 128);
    fixture_feed(&s.r, 0, ids, 1, 1, after);
    assert_memory_equal(before, after, sizeof before);
    stream_close(&s);
}

static void test_fork_refuses_what_it_cannot_do(void **state)
{
    (void)state;
    stream s;
    uint32_t ids[20];
    ids_fill(ids, SPARK_COUNT(ids));
    stream_open(&s, &small);
    fixture_feed(&s.r, 0, ids, 20, 16, NULL);
    assert_code(spark_kv_fork(s.r.kv, 0, 1, 21, NULL), SPARK_E_ARGUMENT);
    assert_code(spark_kv_fork(s.r.kv, 0, 0, 1, NULL), SPARK_E_ARGUMENT);
    assert_code(spark_kv_fork(s.r.kv, 0, 3, 1, NULL), SPARK_E_ARGUMENT);
    assert_code(spark_kv_fork(s.r.kv, 1, 0, 0, NULL), SPARK_E_STATE);
    stream_close(&s);
}

static const spark_shape scarce = {
    .n_ctx = 300, .n_seqs = 3, .n_batch = 16, .n_logits = 4, .n_threads = 2, .n_pages = 3, .kv_type = SPARK_KV_F16};

static void test_a_sequence_that_finds_no_page_is_refused_and_nothing_changes(void **state)
{
    (void)state;
    stream s;
    uint32_t ids[140];
    spark_err err = {0};
    ids_fill(ids, SPARK_COUNT(ids));
    stream_open_shaped(&s, &small, &scarce);
    assert_int_equal(spark_kv_pages(s.r.kv), 3);
    fixture_feed(&s.r, 0, ids, 130, 16, NULL);
    fixture_feed(&s.r, 1, ids, 127, 16, NULL);
    const spark_row rows[] = {{1, 0, false}, {2, 1, false}, {3, 1, true}};
    assert_code(spark_forward(s.r.exec, s.r.kv, rows, 3, NULL, &err), SPARK_E_MEMORY);
    assert_int_equal(spark_kv_length(s.r.kv, 0), 130);
    assert_int_equal(spark_kv_length(s.r.kv, 1), 127);
    assert_code(spark_forward(s.r.exec, s.r.kv, (const spark_row[]){{1, 2, true}}, 1, NULL, NULL), SPARK_E_MEMORY);
    assert_code(spark_kv_fork(s.r.kv, 0, 2, 129, NULL), SPARK_E_MEMORY);
    assert_int_equal(spark_kv_length(s.r.kv, 2), 0);
    assert_ok(spark_kv_fork(s.r.kv, 0, 2, 128, NULL)); /* full pages cost nothing */
    spark_kv_truncate(s.r.kv, 0, 0);
    spark_kv_truncate(s.r.kv, 2, 100); /* the last owner may write to the page that was shared */
    assert_ok(spark_forward(s.r.exec, s.r.kv, (const spark_row[]){{1, 2, true}}, 1, NULL, NULL));
    assert_int_equal(spark_kv_pages_free(s.r.kv), 1);
    stream_close(&s);
}

static void test_two_who_share_a_page_and_both_write_need_one_more(void **state)
{
    (void)state;
    stream s;
    uint32_t ids[128];
    ids_fill(ids, SPARK_COUNT(ids));
    stream_open_shaped(&s, &small, &scarce);
    fixture_feed(&s.r, 0, ids, 128, 16, NULL);
    assert_ok(spark_kv_fork(s.r.kv, 0, 1, 128, NULL));
    spark_kv_truncate(s.r.kv, 0, 50);
    spark_kv_truncate(s.r.kv, 1, 60);
    fixture_feed(&s.r, 2, ids, 10, 16, NULL);
    assert_int_equal(spark_kv_pages_free(s.r.kv), 1);
    const spark_row rows[] = {{1, 0, false}, {2, 1, true}};
    assert_ok(spark_forward(s.r.exec, s.r.kv, rows, 2, NULL, NULL));
    assert_int_equal(spark_kv_pages_free(s.r.kv), 0);
    assert_int_not_equal(spark_kv_page(s.r.kv, 0, 0), spark_kv_page(s.r.kv, 1, 0));
    for (uint32_t q = 0; q < 3; q++) assert_int_equal(spark_kv_page_users(s.r.kv, spark_kv_page(s.r.kv, q, 0)), 1);
    stream_close(&s);
}

static void test_held_pages_outlive_their_sequence_and_are_adopted_with_the_same_logits(void **state)
{
    (void)state;
    stream s;
    uint32_t ids[270], pages[2];
    float alone[FIXTURE_VOCAB], adopted[FIXTURE_VOCAB];
    ids_fill(ids, SPARK_COUNT(ids));
    stream_open(&s, &small);
    fixture_feed(&s.r, 0, ids, 260, 16, NULL);
    for (uint32_t i = 0; i < 2; i++) {
        pages[i] = spark_kv_page(s.r.kv, 0, i);
        spark_kv_page_hold(s.r.kv, pages[i]);
    }
    fixture_feed(&s.r, 0, ids + 260, 1, 1, alone);
    spark_kv_truncate(s.r.kv, 0, 0);
    assert_int_equal(spark_kv_pages_free(s.r.kv), spark_kv_pages(s.r.kv) - 2);
    spark_kv_adopt(s.r.kv, 1, pages, 1);
    spark_kv_adopt(s.r.kv, 1, pages + 1, 1); /* it may go on at a page's edge */
    assert_int_equal(spark_kv_length(s.r.kv, 1), 256);
    assert_int_equal(spark_kv_page_users(s.r.kv, pages[1]), 2);
    fixture_feed(&s.r, 1, ids + 256, 4, 4, NULL);
    fixture_feed(&s.r, 1, ids + 260, 1, 1, adopted);
    assert_memory_equal(alone, adopted, sizeof alone);
    fixture_feed(&s.r, 2, ids, 260, 16, NULL);
    spark_kv_replace(s.r.kv, 2, 0, pages[0]); /* the same tokens: the same bits */
    spark_kv_replace(s.r.kv, 2, 1, pages[1]);
    assert_int_equal(spark_kv_page_users(s.r.kv, pages[1]), 3);
    fixture_feed(&s.r, 2, ids + 260, 1, 1, adopted);
    assert_memory_equal(alone, adopted, sizeof alone);
    for (uint32_t q = 0; q < 3; q++) spark_kv_truncate(s.r.kv, q, 0);
    for (uint32_t i = 0; i < 2; i++) spark_kv_page_release(s.r.kv, pages[i]);
    assert_int_equal(spark_kv_pages_free(s.r.kv), spark_kv_pages(s.r.kv));
    stream_close(&s);
}

static void test_a_refused_pass_changes_nothing(void **state)
{
    (void)state;
    stream s;
    uint32_t ids[300];
    const float *logits = NULL;
    spark_err err = {0};
    ids_fill(ids, SPARK_COUNT(ids));
    stream_open(&s, &small);
    fixture_feed(&s.r, 0, ids, 299, 16, NULL);
    const uint32_t n_free = s.r.kv->n_free;
    const spark_row full[] = {{1, 1, false}, {2, 0, false}, {3, 0, true}};
    assert_code(spark_forward(s.r.exec, s.r.kv, full, 3, &logits, &err), SPARK_E_CONTEXT);
    assert_int_equal(err.at, 2);
    const spark_row token[] = {{1, 1, false}, {FIXTURE_VOCAB, 1, true}};
    assert_code(spark_forward(s.r.exec, s.r.kv, token, 2, &logits, &err), SPARK_E_ARGUMENT);
    assert_int_equal(err.at, 1);
    const spark_row seq[] = {{1, 3, true}};
    assert_code(spark_forward(s.r.exec, s.r.kv, seq, 1, &logits, &err), SPARK_E_ARGUMENT);
    const spark_row many[] = {{1, 1, true}, {1, 1, true}, {1, 1, true}, {1, 1, true}, {1, 1, true}};
    assert_code(spark_forward(s.r.exec, s.r.kv, many, 5, &logits, &err), SPARK_E_ARGUMENT);
    assert_int_equal(spark_kv_length(s.r.kv, 0), 299);
    assert_int_equal(spark_kv_length(s.r.kv, 1), 0);
    assert_int_equal(s.r.kv->n_free, n_free);
    assert_null(logits);
    stream_close(&s);
}

static void test_a_value_that_is_not_finite_ends_the_pass_and_takes_it_back(void **state)
{
    (void)state;
    static const char *const names[] = {"blk.0.attn_q.weight", "blk.0.attn_k.weight",       "blk.1.attn_output.weight",
                                        "blk.1.ffn_up.weight", "blk.1.ffn_gate_inp.weight", "blk.0.ffn_up_exps.weight"};
    for (size_t k = 0; k < SPARK_COUNT(names); k++)
        for (uint32_t experts = 0; experts <= 4; experts += 4) {
            if (k >= 3 && (k >= 4) != (experts > 0)) continue; /* these have other names there */
            stream s;
            uint32_t ids[10];
            fixture_spec spec = small;
            spark_err err = {0};
            spec.scale_up = names[k];
            spec.experts = experts;
            ids_fill(ids, SPARK_COUNT(ids));
            stream_open(&s, &spec);
            for (uint32_t n = 1; n <= 10; n += 9) {
                spark_row rows[10];
                const float *logits = NULL;
                for (uint32_t i = 0; i < n; i++) rows[i] = (spark_row){ids[i], i % 3, i + 1 == n};
                assert_code(spark_forward(s.r.exec, s.r.kv, rows, n, &logits, &err), SPARK_E_NUMERIC);
                assert_true(err.at < n);
                for (uint32_t q = 0; q < 3; q++) assert_int_equal(spark_kv_length(s.r.kv, q), 0);
                assert_int_equal(s.r.kv->n_free, s.r.kv->n_pages);
            }
            stream_close(&s);
        }
}

static void test_exec_refuses_another_plan(void **state)
{
    (void)state;
    stream s;
    spark_kv *longer = NULL;
    spark_exec *e = NULL;
    spark_shape big = shape;
    const spark_row row = {1, 0, true};
    big.n_ctx = 2 * shape.n_ctx;
    stream_open(&s, &small);
    assert_ok(spark_kv_create(&longer, s.f.net, &big, NULL));
    assert_code(spark_forward(s.r.exec, longer, &row, 1, NULL, NULL), SPARK_E_ARGUMENT);
    spark_kv_destroy(&longer);
    spark_net_unload(s.f.net);
    assert_code(spark_exec_create(&e, s.f.net, &shape, s.r.pool, spark_isa_best(), NULL), SPARK_E_STATE);
    assert_null(e);
    stream_close(&s);
}

/* ---- Signs of life ------------------------------------------------------------------------------------------------- */

typedef struct pulse_count {
    pthread_t caller;
    unsigned n, n_strange; /* strange: not from the caller's thread */
} pulse_count;

static void pulse_take(void *ctx)
{
    pulse_count *c = ctx;
    c->n++;
    c->n_strange += !pthread_equal(c->caller, pthread_self());
}

/* What a listener hears of one pass over n rows, logits of the last only. */
static pulse_count pulses_of(const fixture_spec *spec, uint32_t n, unsigned threads)
{
    const spark_shape how = {
        .n_ctx = n, .n_seqs = 1, .n_batch = n, .n_logits = 1, .n_threads = threads, .kv_type = SPARK_KV_F32};
    stream s;
    spark_row *rows = calloc(n, sizeof *rows);
    pulse_count c = {.caller = pthread_self()};
    assert_non_null(rows);
    stream_open_shaped(&s, spec, &how);
    for (uint32_t i = 0; i < n; i++) rows[i] = (spark_row){i % FIXTURE_VOCAB, 0, i + 1 == n};
    spark_exec_pulse(s.r.exec, pulse_take, &c);
    assert_ok(spark_forward(s.r.exec, s.r.kv, rows, n, NULL, NULL));
    stream_close(&s);
    free(rows);
    return c;
}

/* On one thread, where each piece of work is its own. The second (last) layer goes on with one row: one step, one tile of
 * each head. */
enum {
    PULSE_PRODUCTS = 6 * FIXTURE_LAYERS + 1, /* q, k, v, o, the pair, down; the head */
    PULSE_LAST = 1 + 2
};

static void test_a_pair_pulses_before_each_step_that_fits_the_cache(void **state)
{
    (void)state;
    enum { COLUMNS = NET_JOINED_FLOATS / 256, TILES = 2 * 256 / (NET_ATTN_ROWS / 2) }; /* of 256 rows in a step */
    for (uint32_t steps = 1; steps <= 4; steps++) {
        fixture_spec s = small;
        s.ff = steps * COLUMNS;
        assert_int_equal(pulses_of(&s, 256, 1).n, PULSE_PRODUCTS + PULSE_LAST + TILES + steps);
    }
}

static void test_attention_pulses_before_each_tile_of_each_head(void **state)
{
    (void)state;
    enum { ROWS = NET_ATTN_ROWS / 2 }; /* of a tile: two query heads share a head of keys */
    static const struct {
        uint32_t n, tiles;
    } rows[] = {{1, 1}, {NET_SMALL, 1}, {ROWS, 1}, {ROWS + 1, 2}, {4 * ROWS, 4}};
    for (size_t i = 0; i < SPARK_COUNT(rows); i++)
        assert_int_equal(pulses_of(&small, rows[i].n, 1).n, PULSE_PRODUCTS + PULSE_LAST + 1 + 2 * rows[i].tiles);
}

static void test_pulses_come_from_the_thread_that_called(void **state)
{
    (void)state;
    const pulse_count c = pulses_of(&small, 256, 3);
    assert_true(c.n >= PULSE_PRODUCTS);
    assert_int_equal(c.n_strange, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bind_names_an_unknown_architecture_and_those_it_knows),
        cmocka_unit_test(test_bind_names_every_tensor_and_key_that_is_missing),
        cmocka_unit_test(test_bind_refuses_a_tensor_that_has_no_place),
        cmocka_unit_test(test_bind_says_which_shape_it_found_and_expected),
        cmocka_unit_test(test_bind_refuses_heads_and_experts_that_do_not_fit_together),
        cmocka_unit_test(test_info_tells_what_the_file_holds),
        cmocka_unit_test(test_plan_is_exactly_what_is_taken),
        cmocka_unit_test(test_plan_refuses_shapes_that_cannot_be),
        cmocka_unit_test(test_load_names_the_first_tensor_with_a_value_that_is_not_finite),
        cmocka_unit_test(test_load_can_be_cancelled_and_passes_on_a_failed_read),
        cmocka_unit_test(test_packed_weights_do_not_depend_on_the_number_of_threads),
        cmocka_unit_test(test_fork_and_truncate_give_the_logits_of_a_sequence_fed_alone),
        cmocka_unit_test(test_cutting_into_a_shared_page_does_not_change_the_other_sequence),
        cmocka_unit_test(test_fork_refuses_what_it_cannot_do),
        cmocka_unit_test(test_a_sequence_that_finds_no_page_is_refused_and_nothing_changes),
        cmocka_unit_test(test_two_who_share_a_page_and_both_write_need_one_more),
        cmocka_unit_test(test_held_pages_outlive_their_sequence_and_are_adopted_with_the_same_logits),
        cmocka_unit_test(test_a_refused_pass_changes_nothing),
        cmocka_unit_test(test_a_value_that_is_not_finite_ends_the_pass_and_takes_it_back),
        cmocka_unit_test(test_exec_refuses_another_plan),
        cmocka_unit_test(test_a_pair_pulses_before_each_step_that_fits_the_cache),
        cmocka_unit_test(test_attention_pulses_before_each_tile_of_each_head),
        cmocka_unit_test(test_pulses_come_from_the_thread_that_called),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
