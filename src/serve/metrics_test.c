/* metrics_test.c - the page of metrics is parsed strictly, as a scraper that believes nothing would. */
#include "serve/metrics.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/spark_limits.h"
#include "base/test.h"
#include "serve/keys_gate.h"

static const char *const routes[] = {"/v1/chat/completions", "/metrics", "odd\"\\\nroute"};

static spark_metrics *fresh(void)
{
    spark_metrics *m = NULL;
    assert_ok(spark_metrics_create(&m, routes, SPARK_COUNT(routes), NULL));
    return m;
}

/* ---- A strict reader of the text format ---- */

typedef struct page {
    char *text;
    char family[128], type[16]; /* of the last HELP and TYPE */
    char seen[256][128];        /* families, each once */
    uint32_t n_seen;
    /* of the histogram being read */
    char series[512];
    double bucket, le;
    bool inf;
    uint32_t n_samples;
} page;

static bool is_name(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char c = s[i];
        const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == ':';
        if (!letter && !(i && c >= '0' && c <= '9')) return false;
    }
    return n > 0;
}

/* {name="value",...}: the labels without le go to out, le to *le. Returns what follows. */
static const char *read_labels(const char *at, char *out, size_t cap, char *le)
{
    size_t n = 0;
    *le = 0;
    if (*at != '{') return at;
    do {
        const char *name = ++at;
        while (*at != '=') assert_true(*at++ != 0);
        const size_t name_len = (size_t)(at - name);
        assert_true(is_name(name, name_len));
        assert_true(*++at == '"');
        const char *value = ++at;
        while (*at != '"') {
            assert_true(*at != 0 && *at != '\n');
            if (*at == '\\') assert_non_null(strchr("\\\"n", *++at));
            at++;
        }
        if (name_len == 2 && memcmp(name, "le", 2) == 0)
            snprintf(le, 32, "%.*s", (int)(at - value), value);
        else
            n += (size_t)snprintf(out + n, cap - n, "%.*s=%.*s;", (int)name_len, name, (int)(at - value), value);
        at++;
    } while (*at == ',');
    assert_int_equal(*at, '}');
    return at + 1;
}

static void read_head(page *p, const char *line)
{
    char name[128], word[16];
    if (strncmp(line, "# HELP ", 7) == 0) {
        assert_int_equal(sscanf(line, "# HELP %127s", name), 1);
        for (uint32_t i = 0; i < p->n_seen; i++) assert_string_not_equal(p->seen[i], name);
        snprintf(p->seen[p->n_seen++], 128, "%s", name);
        snprintf(p->family, sizeof p->family, "%s", name);
        p->type[0] = 0;
        return;
    }
    assert_int_equal(sscanf(line, "# TYPE %127s %15s", name, word), 2);
    assert_string_equal(name, p->family);
    assert_int_equal(p->type[0], 0);
    assert_true(strcmp(word, "counter") == 0 || strcmp(word, "gauge") == 0 || strcmp(word, "histogram") == 0);
    snprintf(p->type, sizeof p->type, "%s", word);
}

static void read_histogram(page *p, const char *suffix, const char *labels, const char *le, double v)
{
    if (strcmp(suffix, "_bucket") == 0) {
        const double bound = strcmp(le, "+Inf") == 0 ? INFINITY : strtod(le, NULL);
        if (strcmp(p->series, labels) != 0 || p->inf) { /* a new series begins */
            assert_true(p->series[0] == 0);
            snprintf(p->series, sizeof p->series, "%.*s;", (int)sizeof p->series - 2, labels);
            snprintf(p->series, sizeof p->series, "%s", labels);
            p->bucket = 0;
            p->le = -1;
            p->inf = false;
        }
        assert_true(bound > p->le && v >= p->bucket);
        p->le = bound;
        p->bucket = v;
        p->inf = isinf(bound);
        return;
    }
    assert_true(p->inf); /* sum and count come after the last bucket */
    assert_string_equal(p->series, labels);
    if (strcmp(suffix, "_count") != 0) {
        assert_string_equal(suffix, "_sum");
        return;
    }
    assert_true(v == p->bucket);
    p->series[0] = 0;
    p->inf = false;
}

static void read_sample(page *p, const char *line)
{
    char labels[512] = "-", le[32], *end = NULL;
    const size_t name = strcspn(line, "{ ");
    assert_true(is_name(line, name));
    const char *at = read_labels(line + name, labels + 1, sizeof labels - 1, le);
    assert_int_equal(*at, ' ');
    const double v = strtod(at + 1, &end);
    assert_true(*end == 0 && end > at + 1 && !isnan(v));
    p->n_samples++;
    const size_t family = strlen(p->family);
    assert_true(p->type[0] && name >= family && memcmp(line, p->family, family) == 0);
    char suffix[16];
    snprintf(suffix, sizeof suffix, "%.*s", (int)(name - family), line + family);
    if (strcmp(p->type, "histogram") == 0) {
        read_histogram(p, suffix, labels, le, v);
        return;
    }
    assert_string_equal(suffix, "");
    assert_int_equal(le[0], 0);
    if (strcmp(p->type, "counter") == 0) assert_true(v >= 0 && strcmp(p->family + family - 6, "_total") == 0);
}

static page read_page(const spark_metrics *m)
{
    page p = {0};
    size_t len = 0;
    assert_ok(spark_metrics_render(m, &p.text, &len, NULL));
    assert_true(len == strlen(p.text) && p.text[len - 1] == '\n');
    char *copy = strdup(p.text);
    assert_non_null(copy);
    for (char *line = copy, *next = NULL; *line; line = next) {
        next = strchr(line, '\n');
        assert_non_null(next);
        *next++ = 0;
        if (*line == '#')
            read_head(&p, line);
        else
            read_sample(&p, line);
    }
    assert_int_equal(p.series[0], 0);
    free(copy);
    return p;
}

static void has(const page *p, const char *line)
{
    char whole[512];
    snprintf(whole, sizeof whole, "\n%s\n", line);
    if (!strstr(p->text, whole)) fail_msg("missing: %s", line);
}

/* ---- Claims ---- */

static void test_an_empty_page_and_a_full_one_parse(void **state)
{
    (void)state;
    spark_metrics *m = fresh();
    page p = read_page(m);
    has(&p, "spark_build_info{version=\"" SPARK_VERSION "\"} 1");
    has(&p, "spark_connections 0");
    has(&p, "spark_refused_total{reason=\"queue\"} 0");
    assert_null(strstr(p.text, "spark_http_requests_total{"));
    free(p.text);
    const uint32_t demo = spark_metrics_serve(m, "demo"), odd = spark_metrics_serve(m, "a\"b\\c\nd");
    spark_metrics_add(m, SPARK_METRIC_HTTP_REQUESTS, 0, spark_metrics_status(200), 3);
    spark_metrics_add(m, SPARK_METRIC_HTTP_REQUESTS, 2, spark_metrics_status(418), 1);
    spark_metrics_add(m, SPARK_METRIC_REQUESTS, demo, SPARK_FINISHED_CANCELLED, 2);
    spark_metrics_set(m, SPARK_METRIC_KV_USAGE, demo, 0, 0.25);
    spark_metrics_set(m, SPARK_METRIC_KV_PAGES, demo, SPARK_PAGE_FREE, 7);
    spark_metrics_set(m, SPARK_METRIC_MEMORY_PLANNED, SPARK_CELL_ENGINE, demo, 6442450944.0);
    spark_metrics_set(m, SPARK_METRIC_MEMORY_RESIDENT, SPARK_CELL_FRONT, 0, 1234567);
    spark_metrics_observe(m, SPARK_METRIC_TTFT, demo, 0.25);
    spark_metrics_observe(m, SPARK_METRIC_TTFT, demo, 1000);
    spark_metrics_observe(m, SPARK_METRIC_REQUEST_PROMPT, odd, 5);
    p = read_page(m);
    has(&p, "spark_http_requests_total{route=\"/v1/chat/completions\",status=\"200\"} 3");
    has(&p, "spark_http_requests_total{route=\"odd\\\"\\\\\\nroute\",status=\"other\"} 1");
    has(&p, "spark_requests_total{model=\"demo\",finish=\"cancelled\"} 2");
    has(&p, "vllm:request_success_total{model_name=\"demo\",finished_reason=\"abort\"} 2");
    has(&p, "vllm:kv_cache_usage_perc{model_name=\"demo\"} 0.25");
    has(&p, "spark_kv_pages{model=\"demo\",state=\"free\"} 7");
    has(&p, "spark_memory_planned_bytes{cell=\"engine\",model=\"demo\"} 6442450944");
    has(&p, "spark_memory_resident_bytes{cell=\"front\",model=\"\"} 1234567");
    has(&p, "spark_time_to_first_token_seconds_bucket{model=\"demo\",le=\"0.2\"} 0");
    has(&p, "spark_time_to_first_token_seconds_bucket{model=\"demo\",le=\"0.3\"} 1");
    has(&p, "spark_time_to_first_token_seconds_bucket{model=\"demo\",le=\"640\"} 1");
    has(&p, "vllm:time_to_first_token_seconds_bucket{model_name=\"demo\",le=\"+Inf\"} 2");
    has(&p, "vllm:time_to_first_token_seconds_sum{model_name=\"demo\"} 1000.25");
    has(&p, "spark_request_prompt_tokens_bucket{model=\"a\\\"b\\\\c\\nd\",le=\"5\"} 1");
    has(&p, "spark_request_prompt_tokens_bucket{model=\"a\\\"b\\\\c\\nd\",le=\"2\"} 0");
    has(&p, "spark_handover_seconds_bucket{le=\"+Inf\"} 0");
    has(&p, "spark_handover_seconds_sum 0");
    has(&p, "# TYPE spark_handover_seconds histogram");
    has(&p, "# TYPE spark_request_prompt_tokens histogram");
    has(&p, "spark_handover_seconds_bucket{le=\"1e-05\"} 0");
    free(p.text);
    spark_metrics_destroy(&m);
}

static void test_a_word_of_a_client_never_becomes_a_label(void **state)
{
    (void)state;
    spark_metrics *m = fresh();
    (void)spark_metrics_serve(m, "demo");
    static const char *const words[] = {"hostile", "key\"} 1\nx 2", ""};
    for (size_t i = 0; i < SPARK_COUNT(words); i++) {
        assert_int_equal(spark_metrics_refusal(words[i]), SPARK_REFUSED_NONE);
        spark_metrics_add(m, SPARK_METRIC_REFUSED, spark_metrics_refusal(words[i]), 0, 1);
    }
    spark_metrics_add(m, SPARK_METRIC_HTTP_REQUESTS, 0, spark_metrics_status(299), 1);
    spark_metrics_add(m, SPARK_METRIC_PROMPT_TOKENS, 0, 0, 1000); /* slot 0: no model */
    page p = read_page(m);
    assert_null(strstr(p.text, "hostile"));
    assert_null(strstr(p.text, "299"));
    has(&p, "spark_prompt_tokens_total{model=\"\"} 1000");
    free(p.text);
    spark_metrics_destroy(&m);
}

static void test_a_model_keeps_its_slot_and_one_too_many_gets_none(void **state)
{
    (void)state;
    spark_metrics *m = fresh();
    char name[64];
    uint32_t slot[SPARK_MAX_SERVED];
    for (uint32_t i = 0; i < SPARK_MAX_SERVED; i++) {
        snprintf(name, sizeof name, "m%u", i);
        slot[i] = spark_metrics_serve(m, name);
        assert_int_not_equal(slot[i], 0);
        for (uint32_t k = 0; k < i; k++) assert_int_not_equal(slot[i], slot[k]);
    }
    spark_metrics_add(m, SPARK_METRIC_PROMPT_TOKENS, slot[7], 0, 5);
    assert_int_equal(spark_metrics_serve(m, "more"), 0);
    assert_int_equal(spark_metrics_serve(m, "m7"), slot[7]);
    assert_true(spark_metrics_get(m, SPARK_METRIC_PROMPT_TOKENS, slot[7], 0) == 5);
    page p = read_page(m);
    free(p.text);
    spark_metrics_destroy(&m);
}

static void test_every_gate_reason_has_a_place(void **state)
{
    (void)state;
    static const char *const words[] = {SPARK_GATE_REASONS};
    for (uint32_t i = 0; i < SPARK_COUNT(words); i++) assert_int_equal(spark_metrics_refusal(words[i]), i);
    assert_int_equal(spark_metrics_refusal("no such word"), SPARK_REFUSED_NONE);
}

static void test_values_at_a_bound_fall_below_it(void **state)
{
    (void)state;
    spark_metrics *m = fresh();
    const double v[] = {0,   -1,  0.0005, 0.00050001,
                        0.1, 640, 640.1,  INFINITY}; /* the last is no time, and yet must not spoil the sum */
    for (size_t i = 0; i < SPARK_COUNT(v); i++) spark_metrics_observe(m, SPARK_METRIC_TTFT, 0, v[i]);
    const spark_histogram h = spark_metrics_histogram(m, SPARK_METRIC_TTFT, 0);
    assert_int_equal(h.bucket[0], 3);
    assert_int_equal(h.bucket[1], 1);
    assert_int_equal(h.bucket[13], 1);
    assert_int_equal(h.bucket[30], 1);
    assert_int_equal(h.bucket[31], 2);
    assert_int_equal(h.count, SPARK_COUNT(v));
    assert_true(isfinite(h.sum));
    spark_metrics_destroy(&m);
}

static void test_quantiles_are_near_and_of_the_time_between(void **state)
{
    (void)state;
    spark_metrics *m = fresh();
    const spark_histogram empty = spark_metrics_histogram(m, SPARK_METRIC_TTFT, 0);
    assert_true(isnan(spark_histogram_quantile(SPARK_METRIC_TTFT, &empty, NULL, 0.5)));
    for (int i = 1; i <= 1000; i++) spark_metrics_observe(m, SPARK_METRIC_TTFT, 0, i / 1000.0);
    const spark_histogram first = spark_metrics_histogram(m, SPARK_METRIC_TTFT, 0);
    const double q[] = {0.05, 0.5, 0.95, 0.99};
    for (size_t i = 0; i < SPARK_COUNT(q); i++) {
        const double got = spark_histogram_quantile(SPARK_METRIC_TTFT, &first, NULL, q[i]);
        if (fabs(got - q[i]) > 0.01) fail_msg("quantile %g is %g", q[i], got); /* evenly spread, so linear is exact */
    }
    for (int i = 0; i < 10; i++) spark_metrics_observe(m, SPARK_METRIC_TTFT, 0, 30);
    const spark_histogram second = spark_metrics_histogram(m, SPARK_METRIC_TTFT, 0);
    assert_in_range((unsigned)spark_histogram_quantile(SPARK_METRIC_TTFT, &second, &first, 0.5), 20, 40);
    assert_true(isnan(spark_histogram_quantile(SPARK_METRIC_TTFT, &second, &second, 0.5)));
    for (int i = 0; i < 100; i++) spark_metrics_observe(m, SPARK_METRIC_TTFT, 0, 1e6);
    const spark_histogram third = spark_metrics_histogram(m, SPARK_METRIC_TTFT, 0);
    assert_true(spark_histogram_quantile(SPARK_METRIC_TTFT, &third, &second, 0.99) == 640);
    spark_metrics_destroy(&m);
}

static void test_observing_takes_less_than_100_ns(void **state)
{
    (void)state;
    enum { N = 100000 };
    spark_metrics *m = fresh();
    const uint32_t slot = spark_metrics_serve(m, "demo");
    double best = 1e9;
    for (int tries = 0; tries < 5; tries++) {
        const uint64_t began = spark_clock_ns();
        for (int i = 0; i < N; i++) spark_metrics_observe(m, SPARK_METRIC_ITL, slot, (double)(i % 1000) / 500);
        const double each = (double)(spark_clock_ns() - began) / (double)N;
        best = each < best ? each : best;
    }
    print_message("an observation takes %.1f ns\n", best);
    assert_true(best < 100); /* the best of five: about 10 where nobody disturbs */
    spark_metrics_destroy(&m);
}

static void test_a_hand_over_is_resolved_to_some_microseconds(void **state)
{
    (void)state;
    static const double v[] = {12e-6, 22e-6, 45e-6, 85e-6, 110e-6, 250e-6, 700e-6};
    for (size_t i = 0; i < SPARK_COUNT(v); i++) {
        spark_metrics *m = fresh();
        spark_metrics_observe(m, SPARK_METRIC_HANDOVER_TIME, 0, v[i]);
        const spark_histogram h = spark_metrics_histogram(m, SPARK_METRIC_HANDOVER_TIME, 0);
        const double got = spark_histogram_quantile(SPARK_METRIC_HANDOVER_TIME, &h, NULL, 1);
        if (got < v[i] || got > 1.5 * v[i]) fail_msg("%g is read as %g", v[i], got);
        spark_metrics_destroy(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_empty_page_and_a_full_one_parse),
        cmocka_unit_test(test_a_word_of_a_client_never_becomes_a_label),
        cmocka_unit_test(test_a_model_keeps_its_slot_and_one_too_many_gets_none),
        cmocka_unit_test(test_every_gate_reason_has_a_place),
        cmocka_unit_test(test_values_at_a_bound_fall_below_it),
        cmocka_unit_test(test_a_hand_over_is_resolved_to_some_microseconds),
        cmocka_unit_test(test_quantiles_are_near_and_of_the_time_between),
        cmocka_unit_test(test_observing_takes_less_than_100_ns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
