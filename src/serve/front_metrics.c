/* front_metrics.c - what the front counts. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "serve/front_internal.h"

static uint32_t metrics_slot(const front *f, const front_model *m) { return m ? f->slots[m - f->models] : 0; }

spark_status front_metrics_start(front *f, spark_err *err)
{
    const char **paths = calloc(api_n_routes, sizeof *paths);
    SPARK_CHECK(paths, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "out of memory");
    for (size_t i = 0; i < api_n_routes; i++) paths[i] = api_routes[i].path;
    const spark_status s = spark_metrics_create(&f->metrics, paths, (uint32_t)api_n_routes, err);
    free(paths);
    SPARK_TRY(s);
    for (uint32_t i = 0; i < f->n_models; i++) f->slots[i] = spark_metrics_serve(f->metrics, f->models[i].config->name);
    spark_metrics_set(f->metrics, SPARK_METRIC_START_TIME, 0, 0, (double)time(NULL));
    spark_metrics_set(f->metrics, SPARK_METRIC_MEMORY_BUDGET, 0, 0, (double)f->config->memory);
    spark_metrics_set(f->metrics, SPARK_METRIC_MEMORY_PLANNED, SPARK_CELL_FRONT, 0,
                      (double)cell_front_plan(f->config).planned);
    for (uint32_t cell = 0; cell < SPARK_N_CELLS; cell++)
        spark_metrics_set(f->metrics, SPARK_METRIC_JAIL_LEVEL, cell, 0, f->spec->level);
    return SPARK_SUCCESS;
}

void front_metrics_answer(front *f, const api_route *r, int status)
{
    if (r)
        spark_metrics_add(f->metrics, SPARK_METRIC_HTTP_REQUESTS, (uint32_t)(r - api_routes),
                          spark_metrics_status(status), 1);
}

void front_metrics_refused(front *f, const char *reason)
{
    spark_metrics_add(f->metrics, SPARK_METRIC_REFUSED, spark_metrics_refusal(reason), 0, 1);
}

void front_metrics_refused_by(front *f, const api_error *e)
{
    static const struct {
        const char *code, *reason;
    } by[] = {{"invalid_api_key", "key"},
              {"model_not_allowed", "scope"},
              {"permission_denied", "scope"},
              {"host_not_allowed", "host"},
              {"origin_not_allowed", "origin"},
              {"invalid_json", "malformed"},
              {"invalid_type", "malformed"},
              {"invalid_value", "malformed"},
              {"missing_required_parameter", "malformed"},
              {"unsupported_media_type", "malformed"},
              {"unknown_parameter", "unsupported"},
              {"unsupported_parameter", "unsupported"},
              {"unsupported", "unsupported"},
              {"limit_exceeded", "too_large"},
              {"context_length_exceeded", "context"},
              {"model_not_found", "model"},
              {"rate_limit_exceeded", "queue"},
              {"deadline_cannot_be_met", "deadline"},
              {"out_of_memory", "memory"},
              {"overloaded", "memory"},
              {"shutting_down", "draining"},
              {"not_ready", "loading"},
              {"model_unavailable", "loading"},
              {"engine_lost", "broken"},
              {"engine_failed", "broken"}};
    for (size_t i = 0; i < SPARK_COUNT(by); i++)
        if (e->code && strcmp(e->code, by[i].code) == 0) front_metrics_refused(f, by[i].reason);
}

void front_metrics_request(front *f, const front_job *j, int status, const api_error *e)
{
    const uint32_t slot = metrics_slot(f, j->model);
    const uint32_t how = status == FRONT_CLIENT_GONE ? SPARK_FINISHED_CANCELLED
                         : e                         ? SPARK_FINISHED_FAILED
                         : j->ended_by_length        ? SPARK_FINISHED_LENGTH
                                                     : SPARK_FINISHED_STOP;
    uint64_t prompt = 0, cached = 0, drawn = 0;
    front_metrics_answer(f, j->visit->match.route, status);
    if (e) front_metrics_refused_by(f, e);
    if (!j->model || !j->reply) return;
    api_reply_counts(j->reply, &prompt, &cached, &drawn);
    spark_metrics_add(f->metrics, SPARK_METRIC_REQUESTS, slot, how, 1);
    spark_metrics_observe(f->metrics, SPARK_METRIC_E2E, slot, (double)(spark_clock_ns() - j->began_ns) / 1e9);
    spark_metrics_observe(f->metrics, SPARK_METRIC_REQUEST_PROMPT, slot, (double)prompt);
    spark_metrics_observe(f->metrics, SPARK_METRIC_REQUEST_GENERATION, slot, (double)drawn);
}

void front_metrics_started(front_choice *c, uint64_t took_ns)
{
    const front_job *j = c->job;
    const uint64_t whole = http_exchange_whole_ns(j->visit->x), now = spark_clock_ns();
    if (c->handed || j->waited) return;
    c->handed = true;
    took_ns = took_ns < whole ? whole : took_ns > now ? now : took_ns;
    spark_metrics_observe(j->visit->f->metrics, SPARK_METRIC_HANDOVER_TIME, 0, (double)(took_ns - whole) / 1e9);
}

void front_metrics_token(front_job *j, front_choice *c, uint64_t now_ns)
{
    front *f = j->visit->f;
    const uint32_t slot = metrics_slot(f, j->model);
    if (!j->first_ns) spark_metrics_observe(f->metrics, SPARK_METRIC_TTFT, slot, (double)(now_ns - j->began_ns) / 1e9);
    if (c->token_ns) spark_metrics_observe(f->metrics, SPARK_METRIC_ITL, slot, (double)(now_ns - c->token_ns) / 1e9);
    c->token_ns = now_ns;
}

void front_metrics_finished(const front_job *j, const spark_finished_message *m)
{
    front *f = j->visit->f;
    const uint32_t slot = metrics_slot(f, j->model);
    spark_metrics_observe(f->metrics, SPARK_METRIC_QUEUE_TIME, slot, (double)m->queue_us / 1e6);
    spark_metrics_observe(f->metrics, SPARK_METRIC_PREFILL_TIME, slot, (double)m->prompt_us / 1e6);
    spark_metrics_observe(f->metrics, SPARK_METRIC_DECODE_TIME, slot, (double)m->decode_us / 1e6);
}

/* Counters that the engine keeps, and how things stand now. */
static void metrics_of_model(front *f, const front_model *m)
{
    spark_metrics *x = f->metrics;
    const uint32_t slot = metrics_slot(f, m);
    spark_metrics_set(x, SPARK_METRIC_MODEL_READY, slot, 0, m->link != NULL);
    spark_metrics_set(x, SPARK_METRIC_MEMORY_PLANNED, SPARK_CELL_ENGINE, slot,
                      m->link ? (double)m->card.memory_bytes : 0);
    if (!m->link) return;
    const spark_engine_stats *s = &m->link->stats;
    const uint32_t used = s->n_pages - s->n_pages_free - s->n_pages_cached;
    spark_metrics_set(x, SPARK_METRIC_RUNNING, slot, 0, s->n_running);
    spark_metrics_set(x, SPARK_METRIC_WAITING, slot, 0, s->n_waiting);
    spark_metrics_set(x, SPARK_METRIC_KV_USAGE, slot, 0, s->n_pages ? (double)used / s->n_pages : 0);
    spark_metrics_set(x, SPARK_METRIC_KV_PAGES, slot, SPARK_PAGE_USED, used);
    spark_metrics_set(x, SPARK_METRIC_KV_PAGES, slot, SPARK_PAGE_FREE, s->n_pages_free);
    spark_metrics_set(x, SPARK_METRIC_KV_PAGES, slot, SPARK_PAGE_CACHED, s->n_pages_cached);
    spark_metrics_set(x, SPARK_METRIC_PROMPT_TOKENS, slot, 0, (double)(s->prompt_tokens + s->cached_tokens));
    spark_metrics_set(x, SPARK_METRIC_GENERATION_TOKENS, slot, 0, (double)s->generated_tokens);
    spark_metrics_set(x, SPARK_METRIC_PREFIX_QUERIES, slot, 0, (double)(s->prompt_tokens + s->cached_tokens));
    spark_metrics_set(x, SPARK_METRIC_PREFIX_HITS, slot, 0, (double)s->cached_tokens);
    spark_metrics_set(x, SPARK_METRIC_PREEMPTIONS, slot, 0, (double)s->n_preempted);
}

void front_metrics_cell(front *f, spark_metric m, uint32_t cell, uint64_t n)
{
    if (f->metrics && cell == CONTROL_THE_FRONT)
        spark_metrics_set(f->metrics, m, SPARK_CELL_FRONT, 0, (double)n);
    else if (f->metrics && cell < f->n_models)
        spark_metrics_set(f->metrics, m, SPARK_CELL_ENGINE, f->slots[cell], (double)n);
}

/* Counts only: whose keys they are is not told. */
static void metrics_of_secrets(front *f)
{
    const spark_keys *keys = spark_gate_keys(f->gate);
    const int64_t now = spark_gate_now().s;
    uint32_t n[SPARK_N_KEY_STATES] = {0};
    int64_t first = 0;
    for (uint32_t i = 0; keys && i < spark_keys_count(keys); i++) {
        const spark_key *k = spark_keys_at(keys, i);
        n[k->revoked                  ? SPARK_KEY_STATE_REVOKED
          : spark_key_is_over(k, now) ? SPARK_KEY_STATE_EXPIRED
                                      : SPARK_KEY_STATE_VALID]++;
        if (k->expires && !spark_key_is_over(k, now) && (!first || k->expires < first)) first = k->expires;
    }
    for (uint32_t i = 0; i < SPARK_N_KEY_STATES; i++) spark_metrics_set(f->metrics, SPARK_METRIC_KEYS, i, 0, n[i]);
    spark_metrics_set(f->metrics, SPARK_METRIC_KEY_EXPIRY, 0, 0, (double)first);
    spark_metrics_set(f->metrics, SPARK_METRIC_TLS_EXPIRY, 0, 0, (double)http_tls_expires_s(f->tls));
}

void front_metrics_refresh(front *f)
{
    metrics_of_secrets(f);
    for (uint32_t i = 0; i < f->n_models; i++) metrics_of_model(f, &f->models[i]);
    spark_metrics_set(f->metrics, SPARK_METRIC_CONNECTIONS, 0, 0, http_server_connections(f->server));
    spark_metrics_set(f->metrics, SPARK_METRIC_REPLIES, 0, 0, (double)http_server_replies(f->server));
    spark_metrics_set(f->metrics, SPARK_METRIC_CONNECTIONS_TOTAL, 0, 0, (double)http_server_accepted(f->server));
    spark_metrics_set(f->metrics, SPARK_METRIC_LOG_DROPPED, 0, 0, (double)spark_log_dropped(f->log));
    spark_metrics_set(f->metrics, SPARK_METRIC_LOCKED_OUT, 0, 0, spark_gate_locked(f->gate, spark_gate_now()));
}

void front_metrics_print(front *f, api_out *out)
{
    char *text = NULL;
    size_t len = 0;
    spark_err err;
    front_metrics_refresh(f);
    if (!spark_ok(spark_metrics_render(f->metrics, &text, &len, &err))) {
        out->failed = true;
        return;
    }
    api_out_raw(out, text, len);
    free(text);
}
