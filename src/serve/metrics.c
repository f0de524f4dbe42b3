/* metrics.c - cells in one array, and their text. Source: Prometheus exposition formats, text version 0.0.4. */
#include "serve/metrics.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/spark_limits.h"

typedef enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_TIMES, METRIC_SHORT_TIMES, METRIC_SIZES } metric_type;
typedef enum metric_label {
    LABEL_NONE,
    LABEL_VERSION,
    LABEL_MODEL,
    LABEL_ROUTE,
    LABEL_STATUS,
    LABEL_FINISH,
    LABEL_REFUSAL,
    LABEL_CELL,
    LABEL_PAGE,
    LABEL_RESULT,
    LABEL_KEY_STATE,
    N_LABELS
} metric_label;

static const struct {
    const char *name;
    metric_type type;
    metric_label a, b;
    const char *alias, *help;
} metric_families[SPARK_N_METRICS] = {
#define X(id, name, type, a, b, alias, help)                                                                           \
    [SPARK_METRIC_##id] = {"spark_" name, METRIC_##type, LABEL_##a, LABEL_##b, alias, help},
    SPARK_METRIC_FAMILIES(X)
#undef X
};

/* From a millisecond to ten minutes; steps of about one half, so that a percentile read from them is off by a quarter at most. */
static const double metric_times[] = {0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04,
                                      0.05,   0.075, 0.1,   0.15,  0.2,   0.3,    0.4,  0.5,   0.75, 1,    1.5,
                                      2.5,    5,     7.5,   10,    20,    40,     80,   160,   640};
/* From some microseconds to ten seconds, finest where a hand-over should be. */
static const double metric_short_times[] = {5e-6,   1e-5, 1.5e-5,  2e-5,   2.5e-5, 3e-5, 4e-5, 5e-5, 6e-5,
                                            7.5e-5, 1e-4, 1.25e-4, 1.5e-4, 2e-4,   3e-4, 4e-4, 5e-4, 7.5e-4,
                                            1e-3,   2e-3, 5e-3,    0.01,   0.02,   0.05, 0.1,  1,    10};
static const double metric_sizes[] = {1,    2,    5,    10,    20,    50,    100,    200,   500,
                                      1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000};
_Static_assert(sizeof metric_times / sizeof *metric_times < SPARK_HISTOGRAM_BUCKETS, "and one bucket for +Inf");

static const char *const metric_finishes[] = {
#define X(id, ours, vllm) ours,
    SPARK_METRIC_FINISHES(X)
#undef X
};
static const char *const metric_vllm_finishes[] = {
#define X(id, ours, vllm) vllm,
    SPARK_METRIC_FINISHES(X)
#undef X
};
static const char *const metric_refusals[] = {
#define X(id, text) text,
    SPARK_METRIC_REFUSALS(X)
#undef X
};
static const char *const metric_cells[] = {
#define X(id, text) text,
    SPARK_METRIC_CELLS(X)
#undef X
};
static const char *const metric_pages[] = {
#define X(id, text) text,
    SPARK_METRIC_PAGES(X)
#undef X
};
static const char *const metric_key_states[] = {
#define X(id, text) text,
    SPARK_METRIC_KEY_STATES(X)
#undef X
};
static const char *const metric_results[] = {"failed", "ok"};
static const char *const metric_versions[] = {SPARK_VERSION};
static const int metric_statuses[] = {200, 204, 304, 400, 401, 403, 404, 405, 408, 409, 411, 413, 414, 415,
                                      417, 421, 422, 426, 429, 431, 499, 500, 501, 502, 503, 504, 505};

enum { METRIC_SLOTS = SPARK_MAX_SERVED + 1, METRIC_ROUTES = 128, METRIC_STATUSES = SPARK_COUNT(metric_statuses) + 1 };

typedef struct metric_slot {
    char name[SPARK_MAX_SERVED_NAME + 1];
    bool used;
} metric_slot;

struct spark_metrics {
    char *routes[METRIC_ROUTES];
    uint32_t n_routes;
    metric_slot slots[METRIC_SLOTS];
    uint32_t begin[SPARK_N_METRICS];  /* of the family's cells in values, or in histograms */
    uint32_t second[SPARK_N_METRICS]; /* values of its second label */
    double *values;
    spark_histogram *histograms;
};

static bool metric_is_histogram(spark_metric f) { return metric_families[f].type >= METRIC_TIMES; }

static const double *metric_bounds(spark_metric f, uint32_t *n)
{
    static const struct {
        const double *bounds;
        uint32_t n;
    } of[] = {[METRIC_TIMES] = {metric_times, SPARK_COUNT(metric_times)},
              [METRIC_SHORT_TIMES] = {metric_short_times, SPARK_COUNT(metric_short_times)},
              [METRIC_SIZES] = {metric_sizes, SPARK_COUNT(metric_sizes)}};
    *n = of[metric_families[f].type].n;
    return of[metric_families[f].type].bounds;
}

/* How many values a label has. */
static uint32_t metric_width(const spark_metrics *m, metric_label l)
{
    switch (l) {
    case LABEL_MODEL: return METRIC_SLOTS;
    case LABEL_ROUTE: return m->n_routes;
    case LABEL_STATUS: return METRIC_STATUSES;
    case LABEL_FINISH: return SPARK_N_FINISHED;
    case LABEL_REFUSAL: return SPARK_N_REFUSED;
    case LABEL_CELL: return SPARK_N_CELLS;
    case LABEL_PAGE: return SPARK_N_PAGES;
    case LABEL_RESULT: return SPARK_COUNT(metric_results);
    case LABEL_KEY_STATE: return SPARK_N_KEY_STATES;
    case LABEL_NONE:
    case LABEL_VERSION:
    case N_LABELS: break;
    }
    return 1;
}

/* ---- Life ---- */

static bool metric_lay_out(spark_metrics *m)
{
    uint32_t n_values = 0, n_histograms = 0;
    for (uint32_t f = 0; f < SPARK_N_METRICS; f++) {
        uint32_t *n = metric_is_histogram((spark_metric)f) ? &n_histograms : &n_values;
        m->begin[f] = *n;
        m->second[f] = metric_width(m, metric_families[f].b);
        *n += metric_width(m, metric_families[f].a) * m->second[f];
    }
    m->values = calloc(n_values, sizeof *m->values);
    m->histograms = calloc(n_histograms, sizeof *m->histograms);
    return m->values && m->histograms;
}

spark_status spark_metrics_create(spark_metrics **out, const char *const *routes, uint32_t n, spark_err *err)
{
    SPARK_CHECK(n <= METRIC_ROUTES, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE, "%u routes: at most %d", n, METRIC_ROUTES);
    spark_metrics *m = calloc(1, sizeof *m);
    bool ok = m != NULL;
    for (uint32_t i = 0; ok && i < n; i++) {
        ok = (m->routes[i] = strdup(routes[i])) != NULL;
        m->n_routes += ok;
    }
    if (!ok || !metric_lay_out(m)) {
        spark_metrics_destroy(&m);
        return spark_fail(err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory for metrics");
    }
    spark_metrics_set(m, SPARK_METRIC_BUILD_INFO, 0, 0, 1);
    *out = m;
    return SPARK_SUCCESS;
}

void spark_metrics_destroy(spark_metrics **m)
{
    if (!*m) return;
    for (uint32_t i = 0; i < (*m)->n_routes; i++) free((*m)->routes[i]);
    free((*m)->values);
    free((*m)->histograms);
    free(*m);
    *m = NULL;
}

uint32_t spark_metrics_serve(spark_metrics *m, const char *model)
{
    uint32_t slot = 1;
    while (slot < METRIC_SLOTS && m->slots[slot].used && strcmp(m->slots[slot].name, model) != 0) slot++;
    if (slot == METRIC_SLOTS || strlen(model) > SPARK_MAX_SERVED_NAME) return 0;
    snprintf(m->slots[slot].name, sizeof m->slots[slot].name, "%s", model);
    m->slots[slot].used = true;
    return slot;
}

spark_metric_refusal spark_metrics_refusal(const char *word)
{
    for (uint32_t i = 0; i < SPARK_N_REFUSED; i++)
        if (strcmp(metric_refusals[i], word) == 0) return (spark_metric_refusal)i;
    return SPARK_REFUSED_NONE;
}

uint32_t spark_metrics_status(int status)
{
    uint32_t i = 0;
    while (i < SPARK_COUNT(metric_statuses) && metric_statuses[i] != status) i++;
    return i;
}

/* ---- Counting ---- */

static uint32_t metric_at(const spark_metrics *m, spark_metric f, uint32_t a, uint32_t b)
{
    assert(f < SPARK_N_METRICS && a < metric_width(m, metric_families[f].a) && b < m->second[f]);
    return m->begin[f] + a * m->second[f] + b;
}

void spark_metrics_add(spark_metrics *m, spark_metric f, uint32_t a, uint32_t b, double n)
{
    assert(n >= 0 && metric_families[f].type == METRIC_COUNTER);
    m->values[metric_at(m, f, a, b)] += n;
}

void spark_metrics_set(spark_metrics *m, spark_metric f, uint32_t a, uint32_t b, double v)
{
    assert(!metric_is_histogram(f));
    m->values[metric_at(m, f, a, b)] = v;
}

double spark_metrics_get(const spark_metrics *m, spark_metric f, uint32_t a, uint32_t b)
{
    assert(!metric_is_histogram(f));
    return m->values[metric_at(m, f, a, b)];
}

void spark_metrics_observe(spark_metrics *m, spark_metric f, uint32_t a, double v)
{
    uint32_t n = 0, low = 0;
    assert(metric_is_histogram(f));
    const double *bound = metric_bounds(f, &n);
    v = v > 0 ? fmin(v, 1e12) : 0;     /* a sum that once is NaN or infinite would stay so */
    for (uint32_t width = n; width;) { /* the first bound that is not below v */
        const uint32_t half = width / 2;
        if (bound[low + half] < v) {
            low += half + 1;
            width -= half + 1;
        } else {
            width = half;
        }
    }
    spark_histogram *h = &m->histograms[metric_at(m, f, a, 0)];
    h->bucket[low]++;
    h->count++;
    h->sum += v;
}

spark_histogram spark_metrics_histogram(const spark_metrics *m, spark_metric f, uint32_t a)
{
    assert(metric_is_histogram(f));
    return m->histograms[metric_at(m, f, a, 0)];
}

double spark_histogram_quantile(spark_metric f, const spark_histogram *now, const spark_histogram *before, double q)
{
    static const spark_histogram none;
    uint32_t n = 0;
    const double *bound = metric_bounds(f, &n);
    if (!before) before = &none;
    const double count = (double)(now->count - before->count);
    if (now->count <= before->count) return NAN;
    double below = 0;
    for (uint32_t i = 0; i < n; i++) {
        const double here = (double)(now->bucket[i] - before->bucket[i]);
        if (here > 0 && below + here >= q * count) {
            const double from = i ? bound[i - 1] : 0, part = (q * count - below) / here;
            return from + (bound[i] - from) * (part > 0 ? part : 0);
        }
        below += here;
    }
    return bound[n - 1];
}

/* ---- Rendering ---- */

typedef struct metric_text { /* a label's value and how it is named */
    const char *name, *value;
} metric_text;

static metric_text metric_label_text(const spark_metrics *m, metric_label l, uint32_t i, bool vllm, char status[8])
{
    switch (l) {
    case LABEL_VERSION: return (metric_text){"version", metric_versions[i]};
    case LABEL_MODEL: return (metric_text){vllm ? "model_name" : "model", m->slots[i].name};
    case LABEL_ROUTE: return (metric_text){"route", m->routes[i]};
    case LABEL_STATUS:
        if (i < SPARK_COUNT(metric_statuses)) snprintf(status, 8, "%d", metric_statuses[i]);
        return (metric_text){"status", i < SPARK_COUNT(metric_statuses) ? status : "other"};
    case LABEL_FINISH:
        return vllm ? (metric_text){"finished_reason", metric_vllm_finishes[i]}
                    : (metric_text){"finish", metric_finishes[i]};
    case LABEL_REFUSAL: return (metric_text){"reason", metric_refusals[i]};
    case LABEL_CELL: return (metric_text){"cell", metric_cells[i]};
    case LABEL_PAGE: return (metric_text){"state", metric_pages[i]};
    case LABEL_RESULT: return (metric_text){"result", metric_results[i]};
    case LABEL_KEY_STATE: return (metric_text){"state", metric_key_states[i]};
    case LABEL_NONE:
    case N_LABELS: break;
    }
    return (metric_text){"", ""};
}

static void metric_put_label(FILE *out, const char *before, metric_text t)
{
    fprintf(out, "%s%s=\"", before, t.name);
    for (const char *at = t.value; *at; at++) {
        if (*at == '\n')
            fputs("\\n", out);
        else if (*at == '"' || *at == '\\')
            fprintf(out, "\\%c", *at);
        else
            fputc(*at, out);
    }
    fputc('"', out);
}

/* "name{labels" without the closing brace: le may follow. Returns what goes before a further label. */
static const char *metric_put_labels(FILE *out, const spark_metrics *m, spark_metric f, uint32_t a, uint32_t b,
                                     bool vllm)
{
    const metric_label label[2] = {metric_families[f].a, metric_families[f].b};
    const uint32_t index[2] = {a, b};
    const char *before = "{";
    char status[8];
    for (int i = 0; i < 2; i++) {
        if (label[i] == LABEL_NONE) continue;
        metric_put_label(out, before, metric_label_text(m, label[i], index[i], vllm, status));
        before = ",";
    }
    return before;
}

static void metric_put_number(FILE *out, double v)
{
    fprintf(out, fabs(v) < 9e15 && v == floor(v) ? " %.0f\n" : " %.12g\n", v);
}

static void metric_put_histogram(FILE *out, const spark_metrics *m, spark_metric f, uint32_t a, bool vllm)
{
    const char *name = vllm ? metric_families[f].alias : metric_families[f].name;
    const spark_histogram *h = &m->histograms[metric_at(m, f, a, 0)];
    uint32_t n = 0;
    uint64_t sum = 0;
    const double *bound = metric_bounds(f, &n);
    for (uint32_t i = 0; i <= n; i++) {
        sum += h->bucket[i];
        fprintf(out, "%s_bucket", name);
        fputs(metric_put_labels(out, m, f, a, 0, vllm), out);
        if (i < n)
            fprintf(out, "le=\"%.12g\"}", bound[i]);
        else
            fputs("le=\"+Inf\"}", out);
        metric_put_number(out, (double)sum);
    }
    for (int which = 0; which < 2; which++) {
        fprintf(out, "%s_%s", name, which ? "count" : "sum");
        if (*metric_put_labels(out, m, f, a, 0, vllm) == ',') fputc('}', out);
        metric_put_number(out, which ? (double)h->count : h->sum);
    }
}

static void metric_put_value(FILE *out, const spark_metrics *m, spark_metric f, uint32_t a, uint32_t b, bool vllm)
{
    fputs(vllm ? metric_families[f].alias : metric_families[f].name, out);
    if (*metric_put_labels(out, m, f, a, b, vllm) == ',') fputc('}', out);
    metric_put_number(out, m->values[metric_at(m, f, a, b)]);
}

/* Whether a cell is shown: those of served models, and else what has happened. Two labels of many values would make thousands of
 * zeros, and an end that there is not would lie in 1970. */
static bool metric_shown(const spark_metrics *m, spark_metric f, uint32_t a, uint32_t b)
{
    const bool model_a = metric_families[f].a == LABEL_MODEL, model_b = metric_families[f].b == LABEL_MODEL;
    if (f == SPARK_METRIC_KEY_EXPIRY || f == SPARK_METRIC_TLS_EXPIRY) return m->values[metric_at(m, f, a, b)] != 0;
    if (model_a && m->slots[a].used) return true;
    if (!model_a && !model_b && metric_families[f].a != LABEL_ROUTE) return true;
    if (f == SPARK_METRIC_CELLS_RESTARTED && (a == SPARK_CELL_ENGINE ? m->slots[b].used : b == 0))
        return true; /* one that appears with its first count has no increase */
    const uint32_t at = metric_at(m, f, a, b);
    return metric_is_histogram(f) ? m->histograms[at].count > 0 : m->values[at] != 0;
}

static void metric_put_family(FILE *out, const spark_metrics *m, spark_metric f, bool vllm)
{
    static const char *const types[] = {"counter", "gauge", "histogram", "histogram", "histogram"};
    const char *name = vllm ? metric_families[f].alias : metric_families[f].name;
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, metric_families[f].help, name, types[metric_families[f].type]);
    for (uint32_t a = 0; a < metric_width(m, metric_families[f].a); a++)
        for (uint32_t b = 0; b < m->second[f]; b++) {
            if (!metric_shown(m, f, a, b)) continue;
            if (metric_is_histogram(f))
                metric_put_histogram(out, m, f, a, vllm);
            else
                metric_put_value(out, m, f, a, b, vllm);
        }
}

spark_status spark_metrics_render(const spark_metrics *m, char **out, size_t *len, spark_err *err)
{
    char *text = NULL;
    FILE *f = open_memstream(&text, len);
    SPARK_CHECK(f, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory for the page of metrics");
    for (uint32_t i = 0; i < SPARK_N_METRICS; i++) {
        metric_put_family(f, m, (spark_metric)i, false);
        if (metric_families[i].alias) metric_put_family(f, m, (spark_metric)i, true);
    }
    const bool bad = ferror(f) != 0;
    if (fclose(f) != 0 || bad) {
        free(text);
        return spark_fail(err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory for the page of metrics");
    }
    *out = text;
    return SPARK_SUCCESS;
}
