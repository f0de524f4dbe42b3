/* metrics.h - what the service counts and measures, for /metrics and the page.
 * Nouns:   spark_metrics, all counters, gauges and histograms; a family, a row of the table below; a cell, one family at one value of its
 *          labels; a slot, the place of a model.
 * Promise: every label has a list of values that is fixed when its cells are made: routes at create, models as they are served. Nothing a
 *          client sends becomes a label, and memory is that of create. Counting is some additions (below 100 ns).
 *          Rendering is Prometheus' text format 0.0.4, with the names of vLLM beside ours where they mean the same.
 * Threads: one, the loop's. */
#ifndef SPARK_SERVE_METRICS_H
#define SPARK_SERVE_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct spark_metrics spark_metrics;

/* ---- Labels with fixed values ---- */

/* How a request ended: ours, vLLM's word. */
#define SPARK_METRIC_FINISHES(X)                                                                                       \
    X(STOP, "stop", "stop")                                                                                            \
    X(LENGTH, "length", "length") X(CANCELLED, "cancelled", "abort") X(FAILED, "failed", "error")

/* Why something was turned away. The first nine are SPARK_GATE_REASONS of keys_gate.h. */
/* clang-format off */ /* which moves such a list with every run */
#define SPARK_METRIC_REFUSALS(X)                                                                                       \
    X(NONE, "none") X(KEY, "key") X(EXPIRED, "expired") X(REVOKED, "revoked") X(SCOPE, "scope") X(LOCKOUT, "lockout")                        \
    X(PARALLEL, "parallel") X(REQUEST_RATE, "request_rate") X(TOKEN_RATE, "token_rate") X(HOST, "host")                \
    X(ORIGIN, "origin") X(MALFORMED, "malformed") X(UNSUPPORTED, "unsupported") X(TOO_LARGE, "too_large")              \
    X(TIMEOUT, "timeout") X(CONNECTIONS, "connections") X(MODEL, "model") X(QUEUE, "queue")                            \
    X(CONTEXT, "context") X(MEMORY, "memory") X(DEADLINE, "deadline") X(DRAINING, "draining")                          \
    X(LOADING, "loading") X(BROKEN, "broken") X(TLS, "tls")
/* clang-format on */

#define SPARK_METRIC_CELLS(X) X(FRONT, "front") X(ENGINE, "engine")
#define SPARK_METRIC_PAGES(X) X(USED, "used") X(FREE, "free") X(CACHED, "cached")

#define SPARK_METRIC_KEY_STATES(X) X(VALID, "valid") X(EXPIRED, "expired") X(REVOKED, "revoked")

typedef enum spark_metric_finish {
#define X(name, ...) SPARK_FINISHED_##name,
    SPARK_METRIC_FINISHES(X)
#undef X
        SPARK_N_FINISHED
} spark_metric_finish;
typedef enum spark_metric_refusal {
#define X(name, ...) SPARK_REFUSED_##name,
    SPARK_METRIC_REFUSALS(X)
#undef X
        SPARK_N_REFUSED
} spark_metric_refusal;
typedef enum spark_metric_cell {
#define X(name, ...) SPARK_CELL_##name,
    SPARK_METRIC_CELLS(X)
#undef X
        SPARK_N_CELLS
} spark_metric_cell;
typedef enum spark_metric_page {
#define X(name, ...) SPARK_PAGE_##name,
    SPARK_METRIC_PAGES(X)
#undef X
        SPARK_N_PAGES
} spark_metric_page;

typedef enum spark_metric_key_state {
#define X(name, ...) SPARK_KEY_STATE_##name,
    SPARK_METRIC_KEY_STATES(X)
#undef X
        SPARK_N_KEY_STATES
} spark_metric_key_state;

/* The index of a word of SPARK_GATE_REASONS. */
spark_metric_refusal spark_metrics_refusal(const char *word);
/* The index of an HTTP status; one that is not listed counts as "other". */
uint32_t spark_metrics_status(int status);

/* ---- Families: id, name behind "spark_", type, first label, second label, vLLM's name or NULL, help ---- */

#define SPARK_METRIC_FAMILIES(X)                                                                                       \
    X(BUILD_INFO, "build_info", GAUGE, VERSION, NONE, NULL, "1, with the version")                                     \
    X(START_TIME, "start_time_seconds", GAUGE, NONE, NONE, NULL, "when the service started, since 1970")               \
    X(HTTP_REQUESTS, "http_requests_total", COUNTER, ROUTE, STATUS, NULL, "answered HTTP requests")                    \
    X(REFUSED, "refused_total", COUNTER, REFUSAL, NONE, NULL, "requests and connections turned away, by reason")       \
    X(CONNECTIONS, "connections", GAUGE, NONE, NONE, NULL, "open connections")                                         \
    X(CONNECTIONS_TOTAL, "connections_total", COUNTER, NONE, NONE, NULL, "accepted connections")                       \
    X(REPLIES, "replies_bytes", GAUGE, NONE, NONE, NULL, "answers being gathered, or waiting for their readers")       \
    X(RUNNING, "requests_running", GAUGE, MODEL, NONE, "vllm:num_requests_running", "requests being computed")         \
    X(WAITING, "requests_waiting", GAUGE, MODEL, NONE, "vllm:num_requests_waiting", "requests that wait")              \
    X(REQUESTS, "requests_total", COUNTER, MODEL, FINISH, "vllm:request_success_total", "requests that ended, by how") \
    X(PROMPT_TOKENS, "prompt_tokens_total", COUNTER, MODEL, NONE, "vllm:prompt_tokens_total", "tokens of prompts")     \
    X(GENERATION_TOKENS, "generation_tokens_total", COUNTER, MODEL, NONE, "vllm:generation_tokens_total",              \
      "tokens of answers")                                                                                             \
    X(PREFIX_QUERIES, "prefix_cache_queries_total", COUNTER, MODEL, NONE, "vllm:prefix_cache_queries_total",           \
      "prompt tokens looked for in the prefix cache")                                                                  \
    X(PREFIX_HITS, "prefix_cache_hits_total", COUNTER, MODEL, NONE, "vllm:prefix_cache_hits_total",                    \
      "prompt tokens found in the prefix cache")                                                                       \
    X(PREEMPTIONS, "preemptions_total", COUNTER, MODEL, NONE, "vllm:num_preemptions_total",                            \
      "requests stopped for others, to be computed again")                                                             \
    X(KV_USAGE, "kv_cache_usage_ratio", GAUGE, MODEL, NONE, "vllm:kv_cache_usage_perc", "KV pages in use, 0 to 1")     \
    X(KV_PAGES, "kv_pages", GAUGE, MODEL, PAGE, NULL, "KV pages of 128 positions")                                     \
    X(TTFT, "time_to_first_token_seconds", TIMES, MODEL, NONE, "vllm:time_to_first_token_seconds",                     \
      "from the request to its first token")                                                                           \
    X(ITL, "inter_token_latency_seconds", TIMES, MODEL, NONE, "vllm:inter_token_latency_seconds",                      \
      "between two tokens of an answer")                                                                               \
    X(E2E, "e2e_request_latency_seconds", TIMES, MODEL, NONE, "vllm:e2e_request_latency_seconds",                      \
      "from the request to its end")                                                                                   \
    X(QUEUE_TIME, "request_queue_time_seconds", TIMES, MODEL, NONE, "vllm:request_queue_time_seconds", "waiting")      \
    X(PREFILL_TIME, "request_prefill_time_seconds", TIMES, MODEL, NONE, "vllm:request_prefill_time_seconds",           \
      "from its start to the first token")                                                                             \
    X(DECODE_TIME, "request_decode_time_seconds", TIMES, MODEL, NONE, "vllm:request_decode_time_seconds",              \
      "from the first token to the last")                                                                              \
    X(REQUEST_PROMPT, "request_prompt_tokens", SIZES, MODEL, NONE, "vllm:request_prompt_tokens", "tokens of a prompt") \
    X(REQUEST_GENERATION, "request_generation_tokens", SIZES, MODEL, NONE, "vllm:request_generation_tokens",           \
      "tokens of an answer")                                                                                           \
    X(HANDOVER_TIME, "handover_seconds", SHORT_TIMES, NONE, NONE, NULL,                                                \
      "from the last byte of a request to its engine having it, where that was loaded")                                \
    X(JAIL_LEVEL, "jail_level", GAUGE, CELL, NONE, NULL, "0 off, 1 standard, 2 strict")                                \
    X(CELLS_RESTARTED, "cells_restarted_total", COUNTER, CELL, MODEL, NULL, "cells that ended and were started again") \
    X(MEMORY_BUDGET, "memory_budget_bytes", GAUGE, NONE, NONE, NULL, "--memory; 0: none")                              \
    X(MEMORY_PLANNED, "memory_planned_bytes", GAUGE, CELL, MODEL, NULL, "what the plan says")                          \
    X(MEMORY_RESIDENT, "memory_resident_bytes", GAUGE, CELL, MODEL, NULL, "what the cell has, as the warden sees it")  \
    X(MODEL_READY, "model_ready", GAUGE, MODEL, NONE, NULL, "1 if the model answers now")                              \
    X(RELOADS, "reloads_total", COUNTER, RESULT, NONE, NULL, "reloads of keys, and of certificates")                   \
    X(KEYS, "keys", GAUGE, KEY_STATE, NONE, NULL, "keys of the key file")                                              \
    X(KEY_EXPIRY, "key_expiry_seconds", GAUGE, NONE, NONE, NULL,                                                       \
      "when the first of the valid keys expires, since 1970; absent if none does")                                     \
    X(TLS_EXPIRY, "tls_certificate_expiry_seconds", GAUGE, NONE, NONE, NULL,                                           \
      "when the certificate, or one of its chain, ends, since 1970; absent without TLS")                               \
    X(LOCKED_OUT, "locked_out", GAUGE, NONE, NONE, NULL, "keys and addresses locked out for failed attempts")          \
    X(LOG_DROPPED, "log_lines_dropped_total", COUNTER, NONE, NONE, NULL, "log lines that nobody took in time")

typedef enum spark_metric {
#define X(id, ...) SPARK_METRIC_##id,
    SPARK_METRIC_FAMILIES(X)
#undef X
        SPARK_N_METRICS
} spark_metric;

/* ---- Life ---- */

/* routes[n]: the paths of the route table; copied. Slot 0 is no model (label ""), for what has none. */
SPARK_MUST_CHECK spark_status spark_metrics_create(spark_metrics **out, const char *const *routes, uint32_t n,
                                                   spark_err *err);
void spark_metrics_destroy(spark_metrics **m);

/* The slot of a served model, made if it is new (0 if 64 are served already). What a client names as a model gets none. */
uint32_t spark_metrics_serve(spark_metrics *m, const char *model);

/* ---- Counting: a and b are the indices of the family's labels, 0 where it has none ---- */

void spark_metrics_add(spark_metrics *m, spark_metric f, uint32_t a, uint32_t b, double n); /* counters; n >= 0 */
void spark_metrics_set(spark_metrics *m, spark_metric f, uint32_t a, uint32_t b,
                       double v); /* gauges; counters that another process counts */
void spark_metrics_observe(spark_metrics *m, spark_metric f, uint32_t a, double v); /* histograms: seconds, tokens */
double spark_metrics_get(const spark_metrics *m, spark_metric f, uint32_t a, uint32_t b); /* counters, gauges */

/* ---- Reading ---- */

enum { SPARK_HISTOGRAM_BUCKETS = 32 };
typedef struct spark_histogram {
    uint64_t bucket[SPARK_HISTOGRAM_BUCKETS]; /* not cumulative; the last used one is that of +Inf */
    uint64_t count;
    double sum;
} spark_histogram;
spark_histogram spark_metrics_histogram(const spark_metrics *m, spark_metric f, uint32_t a);
/* The quantile q (0 to 1) of what came between two states of a histogram of family f; before NULL = since the start. Linear within a
 * bucket; beyond the last bound that bound; NAN if nothing came. */
double spark_histogram_quantile(spark_metric f, const spark_histogram *now, const spark_histogram *before, double q);

/* The whole page, malloc'd (moves). */
SPARK_MUST_CHECK spark_status spark_metrics_render(const spark_metrics *m, char **out, size_t *len, spark_err *err);

#endif
