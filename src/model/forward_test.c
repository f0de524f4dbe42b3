/* forward_test.c - the numbers: reference outputs of every family, trained models, and the law that threads, chunks,
 * neighbours and CPU levels never show. */
#include <dirent.h>
#include <jansson.h>

#include "model/fixture.h"

static const char *const kv_names[] = {"f32", "f16", "q8_0"};

/* ---- Golden cases -------------------------------------------------------------------------------------------------------- */

typedef struct golden {
    char name[256], folder[280];
    json_t *info;
    uint32_t *ids;
    uint32_t n_ids, n_vocab;
    const float *expected;
    uint8_t *npy;
} golden;

static json_t *golden_json(const golden *g, const char *file)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s", g->folder, file);
    const char *full = test_data(path);
    json_t *j = full ? json_load_file(full, 0, NULL) : NULL;
    if (!j) fail_msg("%s: no %s", g->name, file);
    return j;
}

static bool golden_open(golden *g, const char *name)
{
    *g = (golden){0};
    snprintf(g->name, sizeof g->name, "%s", name);
    snprintf(g->folder, sizeof g->folder, "golden/%s", name);
    g->info = golden_json(g, "case.json");
    json_t *tokens = golden_json(g, "tokens.json"), *ids = json_object_get(tokens, "tokens");
    g->n_ids = (uint32_t)json_array_size(ids);
    g->ids = calloc(g->n_ids, sizeof *g->ids);
    assert_non_null(g->ids);
    for (uint32_t i = 0; i < g->n_ids; i++) g->ids[i] = (uint32_t)json_integer_value(json_array_get(ids, i));
    json_decref(tokens);
    g->n_vocab = (uint32_t)json_integer_value(json_object_get(g->info, "n_vocab"));
    char path[400];
    snprintf(path, sizeof path, "%s/logits.npy", g->folder);
    size_t len = 0;
    const char *full = test_data(path);
    if (!full) return false;
    g->npy = test_read(full, &len);
    const size_t head = 10u + g->npy[8] + 256u * g->npy[9], n = (size_t)g->n_ids * g->n_vocab;
    assert_int_equal(len - head, n * sizeof(float));
    float *x = malloc(n * sizeof *x);
    assert_non_null(x);
    memcpy(x, g->npy + head, n * sizeof *x);
    g->expected = x;
    return true;
}

static void golden_close(golden *g)
{
    json_decref(g->info);
    free(g->ids);
    free((void *)(uintptr_t)g->expected);
    free(g->npy);
}

static double golden_log_sum(const float *x, uint32_t n, double *top)
{
    double sum = 0;
    *top = (double)x[0];
    for (uint32_t i = 1; i < n; i++)
        if ((double)x[i] > *top) *top = (double)x[i];
    for (uint32_t i = 0; i < n; i++) sum += spark_exp64((double)x[i] - *top);
    return *top + spark_log64(sum);
}

static uint32_t golden_best(const float *x, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

/* As check_golden.py: largest difference, mean divergence, agreement of the best token. Prints what is beyond its bound. */
static bool golden_judge(const golden *g, const float *x, bool strict, const char *how)
{
    double worst = 0, kl = 0, same = 0;
    for (uint32_t r = 0; r < g->n_ids; r++) {
        const float *a = g->expected + (size_t)r * g->n_vocab, *b = x + (size_t)r * g->n_vocab;
        double top = 0;
        const double la = golden_log_sum(a, g->n_vocab, &top), lb = golden_log_sum(b, g->n_vocab, &top);
        for (uint32_t i = 0; i < g->n_vocab; i++) {
            const double d = (double)a[i] - (double)b[i];
            if (!(d <= worst && -d <= worst)) worst = d < 0 ? -d : d;
            kl += spark_exp64((double)a[i] - la) * (((double)a[i] - la) - ((double)b[i] - lb));
        }
        same += golden_best(a, g->n_vocab) == golden_best(b, g->n_vocab);
    }
    kl /= g->n_ids;
    same /= g->n_ids;
    const json_t *loose = json_object_get(g->info, "tolerance"),
                 *narrow = json_object_get(g->info, "tolerance_f32_cache");
    const json_t *tight = strict && narrow ? narrow : loose;
    const json_t *top1 = json_object_get(tight, "top1") ? json_object_get(tight, "top1")
                                                        : json_object_get(loose, "top1");
    const double max_abs = json_number_value(json_object_get(tight, "max_abs")),
                 max_kl = json_number_value(json_object_get(tight, "kl_mean"));
    const bool good = worst <= max_abs && kl <= max_kl && same >= json_number_value(top1);
    if (!good || getenv("SPARK_TEST_VERBOSE"))
        print_message("%s %s %s: max abs %.2e (bound %.1e), KL %.2e (bound %.1e), top-1 %.3f\n", good ? "ok  " : "FAIL",
                      g->name, how, worst, max_abs, kl, max_kl, same);
    return good;
}

typedef void golden_fn(const golden *g, fixture *f, uint32_t *n_bad);

/* Calls fn for every case of a family that we know. */
static void golden_each(golden_fn *fn)
{
    const char *root = test_data("golden");
    if (!root) skip();
    DIR *d = opendir(root);
    assert_non_null(d);
    spark_pool *pool = NULL;
    assert_ok(spark_pool_create(&pool, 2, NULL));
    uint32_t n_bad = 0, n = 0;
    for (struct dirent *e = readdir(d); e; e = readdir(d)) {
        static const char *const prefixes[] = {"llama", "mixtral", "qwen2",  "qwen3",
                                               "phi3",  "gemma2",  "gemma3", "quant-"};
        bool ours = false;
        for (size_t i = 0; i < SPARK_COUNT(prefixes); i++)
            ours |= strncmp(e->d_name, prefixes[i], strlen(prefixes[i])) == 0;
        const char *only = getenv("SPARK_TEST_GOLDEN");
        if (!ours || (only && strncmp(e->d_name, only, strlen(only)) != 0)) continue;
        golden g;
        fixture f;
        char path[400];
        assert_true(golden_open(&g, e->d_name));
        snprintf(path, sizeof path, "%s/model.gguf", g.folder);
        assert_true(fixture_open(&f, path, pool));
        fn(&g, &f, &n_bad);
        fixture_close(&f);
        golden_close(&g);
        n++;
    }
    closedir(d);
    spark_pool_destroy(&pool);
    print_message("%u golden cases\n", n);
    assert_true(n > 0);
    assert_int_equal(n_bad, 0);
}

static void golden_compare(const golden *g, fixture *f, uint32_t *n_bad)
{
    float *out = malloc((size_t)g->n_ids * g->n_vocab * sizeof *out);
    assert_non_null(out);
    for (unsigned strict = 0; strict < 2; strict++) {
        const spark_kv_type type = strict ? SPARK_KV_F32 : SPARK_KV_F16;
        fixture_run r;
        fixture_start(&r, f,
                      &(spark_shape){.n_ctx = g->n_ids,
                                     .n_seqs = 1,
                                     .n_batch = g->n_ids,
                                     .n_logits = g->n_ids,
                                     .n_threads = 2,
                                     .kv_type = type},
                      spark_isa_best());
        fixture_feed(&r, 0, g->ids, g->n_ids, g->n_ids, out);
        *n_bad += !golden_judge(g, out, strict, kv_names[type]);
        fixture_stop(&r);
    }
    free(out);
}

static void test_logits_lie_within_the_bounds_of_every_golden_case(void **state)
{
    (void)state;
    golden_each(golden_compare);
}

/* ---- The law of the same bits ------------------------------------------------------------------------------------------------ */

/* Feeds the sequence while others come and go in the same passes; returns its logits in out. */
static void law_with_neighbours(fixture_run *r, const uint32_t *ids, uint32_t n, uint32_t n_vocab, float *out)
{
    spark_row rows[3 * 5];
    for (uint32_t at = 0; at < n; at += 5) {
        const uint32_t m = n - at < 5 ? n - at : 5;
        uint32_t k = 0, n_out = 0;
        const float *logits = NULL;
        for (uint32_t i = 0; i < m; i++) { /* interleaved: one of ours, one of each neighbour */
            rows[k++] = (spark_row){ids[n - 1 - at - i], 0, i % 2 == 0};
            rows[k++] = (spark_row){ids[at + i], 1, true};
            rows[k++] = (spark_row){ids[(at * 7 + i) % n], 2, false};
        }
        if (at % 10 == 0) spark_kv_truncate(r->kv, 2, at / 3);
        assert_ok(spark_forward(r->exec, r->kv, rows, k, &logits, NULL));
        for (uint32_t i = 0; i < k; i++) {
            if (!rows[i].logits) continue;
            if (rows[i].seq == 1)
                memcpy(out + (size_t)(at + i / 3) * n_vocab, logits + (size_t)n_out * n_vocab, n_vocab * sizeof *out);
            n_out++;
        }
    }
}

/* Ways to feed a sequence: threads and rows of a pass (0 = with neighbours). */
typedef struct law_way {
    unsigned threads;
    uint32_t chunk;
} law_way;

static void law_run(const fixture *f, const uint32_t *ids, uint32_t n, spark_kv_type type, spark_isa isa, law_way way,
                    float *out)
{
    const uint32_t n_batch = n > 15 ? n : 15;
    const spark_shape shape = {
        .n_ctx = n, .n_seqs = 3, .n_batch = n_batch, .n_logits = n_batch, .n_threads = way.threads, .kv_type = type};
    fixture_run r;
    fixture_start(&r, f, &shape, isa);
    if (way.chunk)
        fixture_feed(&r, 0, ids, n, way.chunk < n ? way.chunk : n, out);
    else
        law_with_neighbours(&r, ids, n, f->net->info.n_vocab, out);
    fixture_stop(&r);
}

/* The same sequence in every way; all logits must have the bits of the first. */
static void law_check(const char *name, const fixture *f, const uint32_t *ids, uint32_t n, unsigned kv_types,
                      const law_way *ways, size_t n_ways)
{
    const size_t bytes = (size_t)n * f->net->info.n_vocab * sizeof(float);
    float *first = malloc(bytes), *out = malloc(bytes);
    assert_true(first && out);
    for (spark_kv_type type = 0; type < SPARK_N_KV_TYPES; type++) {
        if (!(kv_types & 1u << type)) continue;
        law_run(f, ids, n, type, SPARK_ISA_SCALAR, (law_way){1, n}, first);
        for (spark_isa isa = 0; isa < SPARK_N_ISAS; isa++) {
            if (!spark_isa_has(isa)) continue;
            for (size_t w = 0; w < (isa == SPARK_ISA_SCALAR ? 1 : n_ways); w++) {
                memset(out, 0xff, bytes);
                law_run(f, ids, n, type, isa, ways[w], out);
                if (memcmp(first, out, bytes) != 0)
                    fail_msg("%s: other bits with kv %s, %s, %u threads, chunk %u", name, kv_names[type],
                             spark_isa_name(isa), ways[w].threads, ways[w].chunk);
            }
        }
    }
    free(first);
    free(out);
}

static void law_golden(const golden *g, fixture *f, uint32_t *n_bad)
{
    (void)n_bad;
    static const law_way ways[] = {{2, 7}, {3, 0}, {1, 1}};
    /* formats of weights do not meddle with keys and values: one cache type is enough for them */
    const unsigned types = strncmp(g->name, "quant-", 6) == 0 ? 1u << SPARK_KV_F16 : 7u;
    law_check(g->name, f, g->ids, g->n_ids, types, ways, SPARK_COUNT(ways));
}

static void test_threads_chunks_neighbours_and_cpu_levels_never_show_in_golden_models(void **state)
{
    (void)state;
    golden_each(law_golden);
}

static void test_threads_chunks_neighbours_and_cpu_levels_never_show_over_several_blocks(void **state)
{
    (void)state;
    const fixture_spec specs[] = {
        {.arch = "llama",
         .heads = 6,
         .heads_kv = 3,
         .head_dim = 16,
         .ctx = 512,
         .window = 150,
         .type = SPARK_TYPE_Q8_0},
        {.arch = "llama", .heads = 3, .heads_kv = 1, .head_dim = 20, .ctx = 512, .type = SPARK_TYPE_F32},
        {.arch = "llama", .heads = 4, .heads_kv = 4, .head_dim = 16, .ctx = 512, .experts = 5, .type = SPARK_TYPE_Q8_0},
        /* hidden rows in blocks of 256 and several steps of a unit; more threads than units */
        {.arch = "llama",
         .heads = 2,
         .heads_kv = 1,
         .head_dim = 16,
         .ctx = 512,
         .ff = 1280,
         .type = SPARK_TYPE_Q8_0,
         .down = SPARK_TYPE_Q4_K},
    };
    static const law_way ways[] = {{2, 0}, {4, 128}, {1, 7}, {2, 1}, {3, 3}, {7, 128}, {5, 31}, {2, UINT32_MAX}};
    uint32_t ids[270];
    for (uint32_t i = 0; i < SPARK_COUNT(ids); i++) ids[i] = (i * i + 3 * i) % FIXTURE_VOCAB;
    for (size_t k = 0; k < SPARK_COUNT(specs); k++) {
        spark_pool *pool = NULL;
        fixture f;
        spark_err err = {0};
        fixture_make(&f, &specs[k]);
        assert_ok(spark_pool_create(&pool, 3, NULL));
        if (!spark_ok(fixture_bind(&f, &err)) || !spark_ok(fixture_load(&f, pool, &err))) fail_msg("%s", err.text);
        law_check(specs[k].arch, &f, ids, SPARK_COUNT(ids), 7, ways, SPARK_COUNT(ways));
        spark_pool_destroy(&pool);
        fixture_close(&f);
    }
}

/* ---- Trained models ------------------------------------------------------------------------------------------------------------ */

/* Largest logit error over all prompts, and greedy tokens that differ although the margin is larger than that. */
typedef struct trained_result {
    double error, nll_error;
    uint32_t n_steps, n_wrong;
} trained_result;

static uint32_t *trained_ids(const json_t *j, uint32_t *n)
{
    *n = (uint32_t)json_array_size(j);
    uint32_t *ids = calloc(*n + 1u, sizeof *ids);
    assert_non_null(ids);
    for (uint32_t i = 0; i < *n; i++) ids[i] = (uint32_t)json_integer_value(json_array_get(j, i));
    return ids;
}

static void trained_case(const json_t *c, const fixture *f, fixture_run *r, trained_result *out)
{
    const uint32_t n_vocab = f->net->info.n_vocab;
    uint32_t n_ids = 0, n_greedy = 0;
    uint32_t *ids = trained_ids(json_object_get(c, "ids"), &n_ids),
             *greedy = trained_ids(json_object_get(c, "greedy"), &n_greedy);
    const json_t *logits = json_object_get(c, "logits"), *margins = json_object_get(c, "margins");
    float *x = malloc((size_t)n_ids * n_vocab * sizeof *x);
    assert_non_null(x);
    fixture_feed(r, 0, ids, n_ids, n_ids, x);
    const float *last = x + (size_t)(n_ids - 1) * n_vocab;
    for (uint32_t i = 0; i < n_vocab; i++) {
        const double d = (double)last[i] - json_number_value(json_array_get(logits, i));
        if (d > out->error) out->error = d;
        if (-d > out->error) out->error = -d;
    }
    for (uint32_t i = 0; i < n_greedy && n_ids + i < r->shape.n_ctx; i++) {
        if (golden_best(last, n_vocab) != greedy[i] && json_number_value(json_array_get(margins, i)) > 2 * out->error)
            out->n_wrong++;
        out->n_steps++;
        fixture_feed(r, 0, &greedy[i], 1, 1, x);
        last = x;
    }
    spark_kv_truncate(r->kv, 0, 0);
    free(x);
    free(ids);
    free(greedy);
}

static void trained_nll(const json_t *c, const fixture *f, fixture_run *r, trained_result *out)
{
    const uint32_t n_vocab = f->net->info.n_vocab;
    uint32_t n = 0;
    uint32_t *ids = trained_ids(json_object_get(c, "ids"), &n);
    float *x = malloc((size_t)n * n_vocab * sizeof *x);
    assert_non_null(x);
    fixture_feed(r, 0, ids, n, n, x);
    double sum = 0, top = 0;
    for (uint32_t i = 0; i + 1 < n; i++)
        sum += golden_log_sum(x + (size_t)i * n_vocab, n_vocab, &top) - (double)x[(size_t)i * n_vocab + ids[i + 1]];
    const double d = sum / (n - 1) - json_number_value(json_object_get(c, "mean_nll"));
    out->nll_error = d < 0 ? -d : d;
    spark_kv_truncate(r->kv, 0, 0);
    free(x);
    free(ids);
}

static bool trained_run(const char *name, const char *weights, spark_kv_type type, trained_result *out)
{
    char path[256];
    snprintf(path, sizeof path, "llm/%s/%s.expected.json", name, name);
    const char *full = test_data(path);
    if (!full) return false;
    json_t *expected = json_load_file(full, 0, NULL);
    assert_non_null(expected);
    spark_pool *pool = NULL;
    fixture f;
    fixture_run r;
    size_t i = 0;
    json_t *c = NULL;
    assert_ok(spark_pool_create(&pool, 2, NULL));
    snprintf(path, sizeof path, "llm/%s/%s.%s.gguf", name, name, weights);
    assert_true(fixture_open(&f, path, pool));
    fixture_start(&r, &f,
                  &(spark_shape){.n_ctx = f.net->info.n_ctx_train,
                                 .n_seqs = 1,
                                 .n_batch = 256,
                                 .n_logits = 256,
                                 .n_threads = 2,
                                 .kv_type = type},
                  spark_isa_best());
    *out = (trained_result){0};
    json_array_foreach(json_object_get(expected, "cases"), i, c) trained_case(c, &f, &r, out);
    json_array_foreach(json_object_get(expected, "nll"), i, c) trained_nll(c, &f, &r, out);
    fixture_stop(&r);
    fixture_close(&f);
    spark_pool_destroy(&pool);
    json_decref(expected);
    print_message("%s %s kv %s: logits off by %.2e at most, nll by %.2e; %u of %u greedy tokens differ beyond that\n",
                  name, weights, kv_names[type], out->error, out->nll_error, out->n_wrong, out->n_steps);
    return true;
}

static void test_trained_models_answer_as_in_double_precision(void **state)
{
    (void)state;
    static const char *const names[] = {"stories260K", "babyllama361"};
    for (size_t i = 0; i < SPARK_COUNT(names); i++) {
        trained_result r;
        if (!trained_run(names[i], "f32", SPARK_KV_F32, &r)) skip();
        assert_true(r.error <= 1e-3);
        assert_true(r.nll_error <= 1e-4);
        assert_int_equal(r.n_wrong, 0);
    }
}

/* Bounds measured (error printed above) and doubled: what rounding weights, activations, keys and values to these formats does. */
static void test_trained_models_in_smaller_formats_stay_within_stated_bounds(void **state)
{
    (void)state;
    static const struct {
        const char *name, *weights;
        spark_kv_type type;
        double error, nll_error;
    } cases[] = {
        {"stories260K", "f16", SPARK_KV_F16, 0.2, 0.01},   {"stories260K", "q8_0", SPARK_KV_F16, 1, 0.05},
        {"stories260K", "q8_0", SPARK_KV_Q8_0, 2.7, 0.05}, {"stories260K", "q4_0", SPARK_KV_F16, 5, 0.5},
        {"babyllama361", "f16", SPARK_KV_F16, 0.2, 0.01},  {"babyllama361", "q8_0", SPARK_KV_F16, 1, 0.05},
        {"babyllama361", "q8_0", SPARK_KV_Q8_0, 1, 0.05},  {"babyllama361", "q4_0", SPARK_KV_F16, 5, 0.5},
    };
    for (size_t i = 0; i < SPARK_COUNT(cases); i++) {
        trained_result r;
        if (!trained_run(cases[i].name, cases[i].weights, cases[i].type, &r)) skip();
        assert_true(r.error <= cases[i].error);
        assert_true(r.nll_error <= cases[i].nll_error);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits_lie_within_the_bounds_of_every_golden_case),
        cmocka_unit_test(test_trained_models_answer_as_in_double_precision),
        cmocka_unit_test(test_trained_models_in_smaller_formats_stay_within_stated_bounds),
        cmocka_unit_test(test_threads_chunks_neighbours_and_cpu_levels_never_show_over_several_blocks),
        cmocka_unit_test(test_threads_chunks_neighbours_and_cpu_levels_never_show_in_golden_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
