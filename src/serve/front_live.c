/* front_live.c - GET /spark/live: how things stand now, and how they went during the last minute, for the page and for scripts.
 * A ring keeps the state of every model each two seconds; rates and percentiles are differences between now and then. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "serve/front_internal.h"

enum { LIVE_STEP_S = 2, LIVE_STATES = 31, LIVE_RATE_STATES = 2 }; /* a minute of steps; rates look back two of them */

/* One model at one moment. The counters of an engine begin anew with each engine. */
typedef struct live_state {
    uint64_t generated, prompt;
    uint32_t running, waiting;
    spark_histogram ttft, itl;
} live_state;

struct front_live {
    uint64_t at_ns[LIVE_STATES];
    uint32_t n, next;   /* states that are there; where the next one goes */
    live_state *states; /* [LIVE_STATES][n_models] */
};

spark_status front_live_start(front *f, spark_err *err)
{
    f->live = calloc(1, sizeof *f->live);
    if (f->live) f->live->states = calloc((size_t)LIVE_STATES * (f->n_models ? f->n_models : 1), sizeof(live_state));
    SPARK_CHECK(f->live && f->live->states, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory for the live view");
    front_live_tick(f, spark_clock_ns());
    return SPARK_SUCCESS;
}

/* ---- The ring ---- */

static live_state live_now(const front *f, uint32_t model)
{
    const front_link *l = f->models[model].link;
    live_state s = {.ttft = spark_metrics_histogram(f->metrics, SPARK_METRIC_TTFT, f->slots[model]),
                    .itl = spark_metrics_histogram(f->metrics, SPARK_METRIC_ITL, f->slots[model])};
    if (!l) return s;
    s.generated = l->stats.generated_tokens;
    s.prompt = l->stats.prompt_tokens;
    s.running = l->stats.n_running;
    s.waiting = l->stats.n_waiting;
    return s;
}

/* The place in the ring of the state that is `back` steps old; 0 = the newest. At most n - 1. */
static uint32_t live_place(const front_live *v, uint32_t back)
{
    return (v->next + LIVE_STATES - 1 - back) % LIVE_STATES;
}

static const live_state *live_then(const front *f, uint32_t back, uint32_t model)
{
    return &f->live->states[(size_t)live_place(f->live, back) * f->n_models + model];
}

void front_live_tick(front *f, uint64_t now_ns)
{
    front_live *v = f->live;
    if (!v || (v->n && now_ns - v->at_ns[live_place(v, 0)] < (uint64_t)LIVE_STEP_S * 1000000000)) return;
    for (uint32_t i = 0; i < f->n_models; i++) v->states[(size_t)v->next * f->n_models + i] = live_now(f, i);
    v->at_ns[v->next] = now_ns;
    v->next = (v->next + 1) % LIVE_STATES;
    if (v->n < LIVE_STATES) v->n++;
}

/* ---- What is told ---- */

/* A second's part of what was counted between two moments. */
static double live_rate(uint64_t now, uint64_t then, uint64_t ns)
{
    const uint64_t more = now >= then ? now - then : now; /* less than before: another engine counts */
    return ns ? (double)more * 1e9 / (double)ns : 0;
}

static void live_put_quantiles(api_out *o, const char *name, spark_metric m, const spark_histogram *now,
                               const spark_histogram *then)
{
    static const double quantiles[] = {0.5, 0.95, 0.99};
    static const char *const names[] = {"p50", "p95", "p99"};
    api_out_fmt(o, ",\"%s\":{\"n\":%" PRIu64, name, now->count - then->count);
    for (size_t i = 0; i < SPARK_COUNT(quantiles); i++) {
        const double s = spark_histogram_quantile(m, now, then, quantiles[i]);
        if (isnan(s))
            api_out_fmt(o, ",\"%s\":null", names[i]);
        else
            api_out_fmt(o, ",\"%s\":%.3f", names[i], s * 1e3);
    }
    api_out_str(o, "}");
}

/* Tokens a second of each step of the last minute, the oldest first. */
static void live_put_history(const front *f, uint32_t model, const live_state *now, uint64_t now_ns, api_out *o)
{
    const front_live *v = f->live;
    api_out_fmt(o, ",\"history\":{\"step_s\":%d,\"tokens_per_s\":[", LIVE_STEP_S);
    for (uint32_t back = v->n; back--;) {
        const live_state *from = live_then(f, back, model), *to = back ? live_then(f, back - 1, model) : now;
        const uint64_t from_ns = v->at_ns[live_place(v, back)],
                       to_ns = back ? v->at_ns[live_place(v, back - 1)] : now_ns;
        if (back == 0 && to_ns - from_ns < 500000000 && v->n > 1) break; /* too short to tell */
        api_out_fmt(o, "%s%.1f", back + 1 < v->n ? "," : "",
                    live_rate(to->generated, from->generated, to_ns - from_ns));
    }
    api_out_str(o, "]}");
}

static uint64_t live_resident(const front *f, uint32_t cell, uint32_t slot)
{
    return (uint64_t)spark_metrics_get(f->metrics, SPARK_METRIC_MEMORY_RESIDENT, cell, slot);
}

static void live_put_memory(const front *f, const front_model *m, api_out *o)
{
    if (!m->link) {
        api_out_str(o, ",\"memory\":null,\"pages\":null");
        return;
    }
    const spark_engine_stats *s = &m->link->stats;
    api_out_fmt(o,
                ",\"memory\":{\"planned\":%" PRIu64 ",\"weights\":%" PRIu64 ",\"kv\":%" PRIu64 ",\"rest\":%" PRIu64
                ",\"resident\":%" PRIu64 "},\"pages\":{\"total\":%u,\"used\":%u,\"cached\":%u,\"free\":%u}",
                m->memory.planned, m->memory.weights, m->memory.kv,
                m->memory.planned - m->memory.weights - m->memory.kv,
                live_resident(f, SPARK_CELL_ENGINE, f->slots[m - f->models]), s->n_pages,
                s->n_pages - s->n_pages_free - s->n_pages_cached, s->n_pages_cached, s->n_pages_free);
}

static void live_put_model(const front *f, uint32_t i, uint64_t now_ns, api_out *o)
{
    static const char *const states[] = {[CONTROL_MODEL_ABSENT] = "absent",
                                         [CONTROL_MODEL_LOADING] = "loading",
                                         [CONTROL_MODEL_READY] = "ready",
                                         [CONTROL_MODEL_FAILED] = "failed"};
    const front_model *m = &f->models[i];
    const front_live *v = f->live;
    const live_state now = live_now(f, i), *oldest = live_then(f, v->n - 1, i);
    const uint32_t back = v->n > LIVE_RATE_STATES ? LIVE_RATE_STATES - 1 : v->n - 1;
    const live_state *then = live_then(f, back, i);
    const uint64_t ns = now_ns - v->at_ns[live_place(v, back)];
    api_out_str(o, "{\"name\":");
    api_out_cstr(o, m->config->name);
    api_out_fmt(o, ",\"state\":\"%s\",\"why\":", m->link ? "ready" : states[m->state]);
    api_out_cstr(o, m->link ? "" : m->why);
    api_out_fmt(o, ",\"n_ctx\":%u,\"slots\":%u,\"running\":%u,\"waiting\":%u,\"wait_ms\":%u,\"jobs\":%u", m->card.n_ctx,
                m->card.n_slots, now.running, now.waiting, m->link ? m->link->stats.wait_ms : 0, m->n_jobs);
    api_out_fmt(o, ",\"tokens_per_s\":%.1f,\"prompt_tokens_per_s\":%.1f", live_rate(now.generated, then->generated, ns),
                live_rate(now.prompt, then->prompt, ns));
    live_put_quantiles(o, "ttft_ms", SPARK_METRIC_TTFT, &now.ttft, &oldest->ttft);
    live_put_quantiles(o, "itl_ms", SPARK_METRIC_ITL, &now.itl, &oldest->itl);
    live_put_history(f, i, &now, now_ns, o);
    live_put_memory(f, m, o);
    api_out_str(o, "}");
}

void front_live_print(front *f, api_out *o)
{
    const front_live *v = f->live;
    const uint64_t now = spark_clock_ns();
    const double since = spark_metrics_get(f->metrics, SPARK_METRIC_START_TIME, 0, 0);
    uint64_t planned = (uint64_t)spark_metrics_get(f->metrics, SPARK_METRIC_MEMORY_PLANNED, SPARK_CELL_FRONT, 0),
             resident = live_resident(f, SPARK_CELL_FRONT, 0);
    for (uint32_t i = 0; i < f->n_models; i++) {
        planned += f->models[i].link ? f->models[i].memory.planned : 0;
        resident += live_resident(f, SPARK_CELL_ENGINE, f->slots[i]);
    }
    api_out_fmt(o, "{\"version\":\"" SPARK_VERSION "\",\"ready\":%s,\"draining\":%s,\"uptime_s\":%.0f",
                front_is_ready(f) ? "true" : "false", f->draining ? "true" : "false",
                fmax((double)time(NULL) - since, 0));
    api_out_fmt(o, ",\"window_s\":%" PRIu64 ",\"connections\":%u",
                (now - v->at_ns[live_place(v, v->n - 1)]) / 1000000000, http_server_connections(f->server));
    api_out_fmt(o, ",\"memory\":{\"budget\":%" PRIu64 ",\"planned\":%" PRIu64 ",\"resident\":%" PRIu64 "},\"models\":[",
                f->config->memory, planned, resident);
    for (uint32_t i = 0; i < f->n_models; i++) {
        if (i) api_out_str(o, ",");
        live_put_model(f, i, now, o);
    }
    api_out_str(o, "],\"jail\":");
    api_out_str(o, f->jail_json ? f->jail_json : "null"); /* JSON of the warden */
    api_out_str(o, "}");
}
