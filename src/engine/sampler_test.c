/* sampler_test.c - each step against its definition, and the promise that only (logits, parameters, seed, history) count. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/test.h"
#include "engine/philox.h"
#include "engine/sampler.h"

static spark_sampler *sampler_make(spark_arena **a, uint32_t n_vocab, const uint8_t *breaks)
{
    static spark_kern kern;
    spark_sampler *s = NULL;
    spark_kern_init(&kern, spark_isa_best());
    assert_ok(spark_arena_create(a, 1 << 24, NULL));
    assert_ok(spark_sampler_create(&s, &kern, n_vocab, 1024, breaks, *a, NULL));
    return s;
}

static spark_sampling sampling_plain(void)
{
    return (spark_sampling){.temperature = 1,
                            .top_p = 1,
                            .typical_p = 1,
                            .top_n_sigma = -1,
                            .repeat_penalty = 1,
                            .dry_base = 1.75f,
                            .dynatemp_exponent = 1,
                            .xtc_threshold = 0.1f};
}

/* How often each token is drawn over `draws` seeds. */
static void sampler_count(spark_sampler *s, spark_sampling p, const float *logits, uint32_t n, uint32_t draws,
                          uint32_t *count)
{
    const uint32_t history[1] = {0};
    memset(count, 0, n * sizeof *count);
    for (uint32_t seed = 0; seed < draws; seed++) {
        p.seed = seed;
        count[spark_sampler_draw(s, &p, NULL, 0, logits, history, 1)]++;
    }
}

static void test_philox_gives_the_published_numbers(void **state)
{
    (void)state;
    const uint32_t zero[4] = {0}, ones[4] = {~0u, ~0u, ~0u, ~0u},
                   expect0[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
                   expect1[4] = {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd};
    uint32_t out[4];
    spark_philox(zero, zero, out);
    assert_memory_equal(out, expect0, sizeof out);
    spark_philox(ones, ones, out);
    assert_memory_equal(out, expect1, sizeof out);
}

static void test_greedy_takes_the_lower_id_of_equal_logits(void **state)
{
    (void)state;
    spark_arena *a = NULL;
    spark_sampler *s = sampler_make(&a, 4, NULL);
    const float logits[4] = {1, 3, 3, 2};
    spark_sampling p = sampling_plain();
    p.temperature = 0;
    assert_int_equal(spark_sampler_draw(s, &p, NULL, 0, logits, NULL, 0), 1);
    const spark_logit_bias bias = {1, -INFINITY};
    assert_int_equal(spark_sampler_draw(s, &p, &bias, 1, logits, NULL, 0), 2);
    spark_arena_destroy(&a);
}

static void test_draws_follow_the_probabilities(void **state)
{
    (void)state;
    spark_arena *a = NULL;
    spark_sampler *s = sampler_make(&a, 4, NULL);
    const float logits[4] = {logf(0.1f), logf(0.4f), logf(0.3f), logf(0.2f)};
    const double expect[4] = {0.1, 0.4, 0.3, 0.2};
    uint32_t count[4];
    sampler_count(s, sampling_plain(), logits, 4, 20000, count);
    for (int i = 0; i < 4; i++) assert_true(fabs(count[i] / 20000.0 - expect[i]) < 0.02);
    spark_arena_destroy(&a);
}

static void test_each_filter_keeps_what_it_defines(void **state)
{
    (void)state;
    spark_arena *a = NULL;
    spark_sampler *s = sampler_make(&a, 5, NULL);
    const float logits[5] = {logf(0.05f), logf(0.4f), logf(0.3f), logf(0.15f), logf(0.1f)};
    const struct {
        const char *name;
        spark_sampling p;
        uint32_t kept; /* bit i: token i may be drawn */
    } cases[] = {
        {"top_k", {.temperature = 1, .top_p = 1, .typical_p = 1, .repeat_penalty = 1, .top_k = 2}, 1 << 1 | 1 << 2},
        {"top_p", {.temperature = 1, .top_p = 0.69f, .typical_p = 1, .repeat_penalty = 1}, 1 << 1 | 1 << 2},
        {"top_p above",
         {.temperature = 1, .top_p = 0.71f, .typical_p = 1, .repeat_penalty = 1},
         1 << 1 | 1 << 2 | 1 << 3},
        {"min_p",
         {.temperature = 1, .top_p = 1, .typical_p = 1, .repeat_penalty = 1, .min_p = 0.3f},
         1 << 1 | 1 << 2 | 1 << 3},
        {"min_keep",
         {.temperature = 1, .top_p = 1, .typical_p = 1, .repeat_penalty = 1, .min_p = 0.9f, .min_keep = 2},
         1 << 1 | 1 << 2},
        {"xtc",
         {.temperature = 1,
          .top_p = 1,
          .typical_p = 1,
          .repeat_penalty = 1,
          .xtc_probability = 1,
          .xtc_threshold = 0.14f},
         1 << 3 | 1 << 4 | 1},
        {"typical", {.temperature = 1, .top_p = 1, .typical_p = 0.2f, .repeat_penalty = 1}, 1 << 2},
    };
    for (size_t c = 0; c < SPARK_COUNT(cases); c++) {
        uint32_t count[5], kept = 0;
        sampler_count(s, cases[c].p, logits, 5, 3000, count);
        for (uint32_t i = 0; i < 5; i++) kept |= (uint32_t)(count[i] > 0) << i;
        if (kept != cases[c].kept) fail_msg("%s keeps %x, expected %x", cases[c].name, kept, cases[c].kept);
    }
    spark_arena_destroy(&a);
}

static void test_top_n_sigma_keeps_logits_near_the_best(void **state)
{
    (void)state;
    spark_arena *a = NULL;
    spark_sampler *s = sampler_make(&a, 4, NULL);
    const float logits[4] = {0, 0, 4, 3.5f}; /* mean 1.875, sigma 1.892 */
    spark_sampling p = sampling_plain();
    uint32_t count[4];
    p.top_n_sigma = 1;
    sampler_count(s, p, logits, 4, 2000, count);
    assert_int_equal(count[0] + count[1], 0);
    assert_true(count[2] > 0 && count[3] > 0);
    spark_arena_destroy(&a);
}

static void test_penalties_change_only_recent_tokens(void **state)
{
    (void)state;
    spark_arena *a = NULL;
    spark_sampler *s = sampler_make(&a, 4, NULL);
    const float logits[4] = {2, 3, -1, 2.5f};
    const uint32_t history[] = {3, 1, 1, 2};
    spark_sampling p = sampling_plain();
    p.temperature = 0;
    p.repeat_penalty = 2;
    p.penalty_last_n = 3;
    assert_int_equal(spark_sampler_draw(s, &p, NULL, 0, logits, history, 4), 3); /* 1 falls to 1.5; 3 is too far back */
    p.penalty_last_n = 4;
    assert_int_equal(spark_sampler_draw(s, &p, NULL, 0, logits, history, 4), 0); /* now 3 falls to 1.25 */
    p.repeat_penalty = 1;
    p.frequency_penalty = 0.3f;
    assert_int_equal(spark_sampler_draw(s, &p, NULL, 0, logits, history, 4), 1); /* 3 - 2 * 0.3 = 2.4 > 2.2 */
    p.presence_penalty = 0.5f;
    assert_int_equal(spark_sampler_draw(s, &p, NULL, 0, logits, history, 4), 0); /* 1.9, 1.7 < 2 */
    spark_arena_destroy(&a);
}

static void test_dry_penalises_the_continuation_of_a_repetition(void **state)
{
    (void)state;
    spark_arena *a = NULL;
    uint8_t breaks[8] = {0};
    spark_sampler *s = sampler_make(&a, 8, breaks);
    const float logits[8] = {0, 0, 0, 0, 5, 4, 0, 0};
    const uint32_t history[] = {1, 2, 3, 4, 7, 1, 2, 3}; /* "1 2 3" again: 4 would go on */
    spark_sampling p = sampling_plain();
    p.temperature = 0;
    p.dry_multiplier = 1;
    p.dry_allowed_length = 2;
    p.dry_last_n = 64;
    assert_int_equal(spark_sampler_draw(s, &p, NULL, 0, logits, history, 8), 5); /* 5 - 1.75 = 3.25 < 4 */
    breaks[3] = 1; /* the last token ends every repetition */
    assert_int_equal(spark_sampler_draw(s, &p, NULL, 0, logits, history, 8), 4);
    spark_arena_destroy(&a);
}

static void test_select_and_sort_agree(void **state)
{
    (void)state;
    spark_arena *a = NULL;
    enum { V = 5000 };
    spark_sampler *s = sampler_make(&a, V, NULL);
    static float logits[V];
    for (uint32_t i = 0; i < V; i++) logits[i] = (float)(spark_uniform(7, i, 0) * 8) - 4;
    for (uint32_t i = 0; i < V; i += 7) logits[i] = logits[(i * 13) % V]; /* ties */
    const uint32_t history[1] = {0};
    for (uint32_t seed = 0; seed < 200; seed++) {
        spark_sampling p = sampling_plain();
        p.seed = seed;
        p.top_k = V - 1; /* select all but the least: the draw must be the sorted one's, which never reaches it */
        const uint32_t some = spark_sampler_draw(s, &p, NULL, 0, logits, history, 1);
        p.top_k = 0;
        assert_int_equal(some, spark_sampler_draw(s, &p, NULL, 0, logits, history, 1));
        p.min_p = 0.3f; /* before the sort, or after top_p has looked at all */
        const uint32_t few = spark_sampler_draw(s, &p, NULL, 0, logits, history, 1);
        p.top_p = 0.9999f;
        assert_int_equal(few, spark_sampler_draw(s, &p, NULL, 0, logits, history, 1));
    }
    spark_arena_destroy(&a);
}

static int sampler_double_order(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The running sums of probabilities in order, roughly: from a sum in double. */
static void sampler_running_sums(double *c, const float *logits, uint32_t n, float t)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += c[i] = exp((double)(logits[i] / t));
    for (uint32_t i = 0; i < n; i++) c[i] = -c[i] / sum;
    qsort(c, n, sizeof *c, sampler_double_order); /* the largest first */
    for (uint32_t i = 0; i < n; i++) c[i] = (i ? c[i - 1] : 0) - c[i];
}

static bool sampler_is_near(const double *c, uint32_t n, double u)
{
    uint32_t lo = 0, hi = n;
    while (lo < hi) {
        const uint32_t mid = (lo + hi) / 2;
        *(c[mid] > u ? &hi : &lo) = c[mid] > u ? mid : mid + 1;
    }
    return (lo < n && c[lo] - u < 1e-6) || (lo > 0 && u - c[lo - 1] < 1e-6);
}

/* A draw that needs no sort is the sort's, above all where the number falls between two candidates. */
static void test_a_quick_draw_is_the_sorted_one(void **state)
{
    (void)state;
    enum { V = 8000, LIKELY = 200, SEEDS = 1000000 };
    static float logits[V];
    static double c[V];
    spark_arena *a = NULL;
    spark_sampler *s = sampler_make(&a, V, NULL);
    for (int shape = 0; shape < 4; shape++) {
        spark_sampling p = sampling_plain();
        p.temperature = shape == 1 ? 0.7f : 1;
        for (uint32_t i = 0; i < V; i++) logits[i] = (float)spark_uniform(9, i, 0) * 6 - (i % (V / LIKELY) ? 9 : 0);
        for (uint32_t i = 0; i < V; i += 5) logits[i] = logits[i * 13 % V]; /* ties */
        for (uint32_t i = 3; shape == 2 && i < V; i += 3) logits[i] = -INFINITY;
        if (shape == 3) logits[V - 1] = -FLT_MAX;
        sampler_running_sums(c, logits, V, p.temperature);
        uint32_t n_near = 0;
        for (p.seed = 0; p.seed < SEEDS; p.seed++) {
            const bool near = sampler_is_near(c, V, spark_uniform(p.seed, 1, 0));
            if (!near && p.seed % 1000 != 0) continue;
            n_near += near;
            p.top_k = V; /* sorted */
            const uint32_t sorted = spark_sampler_draw(s, &p, NULL, 0, logits, (const uint32_t[]){0}, 1);
            p.top_k = 0;
            assert_int_equal(spark_sampler_draw(s, &p, NULL, 0, logits, (const uint32_t[]){0}, 1), sorted);
            if (n_near == 300) break;
        }
        assert_true(n_near > 100);
    }
    spark_arena_destroy(&a);
}

static const float *sampler_sorting;

static int sampler_order(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    const float lx = sampler_sorting[x], ly = sampler_sorting[y];
    return lx > ly ? -1 : lx < ly ? 1 : x < y ? -1 : x > y;
}

static void test_the_largest_are_those_of_a_full_sort(void **state)
{
    (void)state;
    enum { MOST = 5000, TOP = 300 };
    static const uint32_t sizes[] = {1, 2, 63, 64, 65, 100, 127, 128, 130, 321, MOST};
    static const uint32_t tops[] = {1, 5, 40, TOP};
    static float logits[MOST];
    static uint32_t sorted[MOST];
    static spark_logprob top[TOP];
    for (size_t k = 0; k < SPARK_COUNT(sizes); k++) {
        const uint32_t n = sizes[k];
        spark_arena *a = NULL;
        spark_sampler *s = sampler_make(&a, n, NULL);
        for (uint32_t i = 0; i < n; i++) {
            logits[i] = (float)(int)(spark_uniform(11, i, (uint32_t)k) * 400) / 16 - 12; /* with ties */
            sorted[i] = i;
        }
        sampler_sorting = logits;
        qsort(sorted, n, sizeof *sorted, sampler_order);
        for (size_t t = 0; t < SPARK_COUNT(tops); t++) {
            const uint32_t n_top = tops[t] < n ? tops[t] : n;
            (void)spark_sampler_logprobs(s, logits, 0, top, n_top);
            for (uint32_t i = 0; i < n_top; i++) assert_int_equal(top[i].id, sorted[i]);
        }
        spark_sampling p = sampling_plain();
        p.temperature = 0;
        for (uint32_t i = 0; i < n && i < 200; i++) { /* greedy, wherever the largest stands */
            const float was = logits[i];
            logits[i] = 100;
            const uint32_t history[1] = {0};
            assert_int_equal(spark_sampler_draw(s, &p, NULL, 0, logits, history, 1), i);
            logits[i] = was;
        }
        spark_arena_destroy(&a);
    }
}

static void test_top_n_sigma_holds_with_a_large_top_k_too(void **state)
{
    (void)state;
    spark_arena *a = NULL;
    enum { V = 500 };
    spark_sampler *s = sampler_make(&a, V, NULL);
    static float logits[V];
    for (uint32_t i = 0; i < V; i++) logits[i] = (float)(spark_uniform(5, i, 0) * 4);
    const uint32_t history[1] = {0};
    for (uint32_t seed = 0; seed < 200; seed++) {
        spark_sampling p = sampling_plain();
        p.seed = seed;
        p.top_n_sigma = 0.7f;
        const uint32_t all = spark_sampler_draw(s, &p, NULL, 0, logits, history, 1);
        p.top_k = V - 1;
        assert_int_equal(all, spark_sampler_draw(s, &p, NULL, 0, logits, history, 1));
    }
    spark_arena_destroy(&a);
}

static void test_logprobs_are_of_the_raw_softmax(void **state)
{
    (void)state;
    spark_arena *a = NULL;
    spark_sampler *s = sampler_make(&a, 3, NULL);
    const float logits[3] = {logf(0.2f), logf(0.7f), logf(0.1f)};
    spark_logprob top[2];
    assert_true(fabsf(spark_sampler_logprobs(s, logits, 2, top, 2) - logf(0.1f)) < 1e-6f);
    assert_int_equal(top[0].id, 1);
    assert_int_equal(top[1].id, 0);
    assert_true(fabsf(top[1].logprob - logf(0.2f)) < 1e-6f);
    spark_arena_destroy(&a);
}

static void test_bad_parameters_are_refused_by_name(void **state)
{
    (void)state;
    spark_err err = {0};
    spark_sampling p = sampling_plain();
    p.top_p = NAN;
    assert_code(spark_sampling_check(&p, NULL, 0, 4, &err), SPARK_E_ARGUMENT);
    assert_non_null(strstr(err.text, "top_p"));
    p = sampling_plain();
    const spark_logit_bias bias = {4, 1};
    assert_code(spark_sampling_check(&p, &bias, 1, 4, &err), SPARK_E_ARGUMENT);
    const spark_logit_bias nan_bias = {1, NAN};
    assert_code(spark_sampling_check(&p, &nan_bias, 1, 4, &err), SPARK_E_ARGUMENT);
    assert_ok(spark_sampling_check(&p, NULL, 0, 4, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox_gives_the_published_numbers),
        cmocka_unit_test(test_greedy_takes_the_lower_id_of_equal_logits),
        cmocka_unit_test(test_draws_follow_the_probabilities),
        cmocka_unit_test(test_each_filter_keeps_what_it_defines),
        cmocka_unit_test(test_top_n_sigma_keeps_logits_near_the_best),
        cmocka_unit_test(test_penalties_change_only_recent_tokens),
        cmocka_unit_test(test_dry_penalises_the_continuation_of_a_repetition),
        cmocka_unit_test(test_select_and_sort_agree),
        cmocka_unit_test(test_a_quick_draw_is_the_sorted_one),
        cmocka_unit_test(test_the_largest_are_those_of_a_full_sort),
        cmocka_unit_test(test_top_n_sigma_holds_with_a_large_top_k_too),
        cmocka_unit_test(test_logprobs_are_of_the_raw_softmax),
        cmocka_unit_test(test_bad_parameters_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
