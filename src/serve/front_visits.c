/* front_visits.c - the door: which route, which key, from where; and the answers that need no engine. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "serve/front_internal.h"

/* ---- Replies ---- */

static bool list_has(const spark_config_list *l, spark_bytes text)
{
    for (uint32_t i = 0; i < l->n; i++)
        if (spark_bytes_is(text, l->item[i])) return true;
    return false;
}

size_t front_cors(const front *f, http_exchange *x, http_field *out)
{
    const spark_bytes origin = http_request_header(x, "origin");
    size_t n = 0;
    if (!f->config->cors.n) return 0;
    out[n++] = (http_field){"Vary", "Origin"};
    if (!origin.ptr || !list_has(&f->config->cors, origin)) return n;
    out[n++] = (http_field){"Access-Control-Allow-Origin", (const char *)origin.ptr}; /* one of ours, to the byte */
    out[n++] = (http_field){"Access-Control-Expose-Headers", "X-Request-Id, Retry-After"};
    return n;
}

enum { REPLY_FIELDS = FRONT_FIELDS + 8 };

void front_reply(front *f, http_exchange *x, int status, const char *type, spark_bytes body, const http_field *fields,
                 size_t n)
{
    http_field all[REPLY_FIELDS];
    size_t n_all = front_cors(f, x, all);
    for (size_t i = 0; i < n && n_all < SPARK_COUNT(all); i++) all[n_all++] = fields[i];
    http_reply(x, status, type, body, all, n_all);
}

void front_reply_made(front *f, http_exchange *x, int status, const char *type, api_out *out, const api_error *e)
{
    http_field fields[REPLY_FIELDS];
    size_t n = front_cors(f, x, fields);
    char seconds[16], ms[16];
    if (e && e->retry_ms) {
        snprintf(seconds, sizeof seconds, "%u", e->retry_ms / 1000 + (e->retry_ms % 1000 != 0));
        snprintf(ms, sizeof ms, "%u", e->retry_ms);
        fields[n++] = (http_field){"Retry-After", seconds};
        fields[n++] = (http_field){"retry-after-ms", ms};
    }
    if (e && e->no_retry) fields[n++] = (http_field){"x-should-retry", "false"};
    if (out->in_blocks)
        http_reply_held(x, status, type, &out->blocks, fields, n);
    else
        http_reply(x, status, type, api_out_bytes(out), fields, n);
    api_out_free(out);
}

void front_reply_error(front *f, http_exchange *x, api_dialect d, const api_error *e)
{
    api_out out;
    api_out_init(&out, 16 << 10);
    api_print_error(&out, d, e);
    if (e->status == 401) {
        const http_field ask = {"WWW-Authenticate", "Bearer"};
        front_reply(f, x, 401, "application/json", api_out_bytes(&out), &ask, 1);
    } else {
        front_reply_made(f, x, e->status, "application/json", &out, e);
    }
    api_out_free(&out);
}

/* ---- Who may come in ---- */

/* The host of "host:port" or "[::1]:port". */
static spark_bytes host_name(spark_bytes host)
{
    if (host.len && host.ptr[0] == '[') {
        const uint8_t *end = memchr(host.ptr, ']', host.len);
        return end ? (spark_bytes){host.ptr, (size_t)(end - host.ptr) + 1} : host;
    }
    const uint8_t *colon = host.len ? memchr(host.ptr, ':', host.len) : NULL;
    return colon ? (spark_bytes){host.ptr, (size_t)(colon - host.ptr)} : host;
}

static bool host_is_ours(const front *f, spark_bytes host)
{
    static const char *const local[] = {"localhost", "127.0.0.1", "[::1]"};
    const spark_bytes name = host_name(host);
    for (size_t i = 0; i < SPARK_COUNT(local); i++)
        if (spark_bytes_is(name, local[i])) return true;
    return list_has(&f->config->allowed_hosts, name) || list_has(&f->config->allowed_hosts, host);
}

/* A page from elsewhere, opened in a browser here, must not reach a door that asks for no key: not by its origin, and not by a
 * name that was made to point at this machine (DNS rebinding). */
static bool door_is_fooled(const front *f, http_exchange *x, api_error *e)
{
    const spark_bytes host = http_request_header(x, "host"), origin = http_request_header(x, "origin");
    if (!host_is_ours(f, host)) {
        api_error_set(
            e, 403, "host_not_allowed", "",
            "this server answers without keys only to local names; add the host with --allowed-host, or use keys");
        return true;
    }
    if (!origin.ptr || list_has(&f->config->cors, origin)) return false;
    static const char scheme[] = "http://";
    const bool same = origin.len > sizeof scheme - 1 && memcmp(origin.ptr, scheme, sizeof scheme - 1) == 0 &&
                      spark_bytes_equal((spark_bytes){origin.ptr + sizeof scheme - 1, origin.len - (sizeof scheme - 1)},
                                        host);
    if (same) return false; /* our own page */
    api_error_set(e, 403, "origin_not_allowed", "", "pages of this origin may not ask; add it with --cors");
    return true;
}

/* What stands behind "Bearer", or in the header that Anthropic's clients use. */
static spark_bytes presented_key(http_exchange *x)
{
    const spark_bytes a = http_request_header(x, "authorization");
    if (!a.ptr) return http_request_header(x, "x-api-key");
    static const char bearer[] = "bearer ";
    const size_t n = sizeof bearer - 1;
    if (a.len < n) return (spark_bytes){a.ptr, 0};
    for (size_t i = 0; i < n; i++)
        if ((a.ptr[i] | 0x20) != (bearer[i] | 0x20)) return (spark_bytes){a.ptr, 0};
    spark_bytes key = {a.ptr + n, a.len - n};
    for (; key.len && key.ptr[0] == ' '; key.len--) key.ptr++;
    return key;
}

static spark_route_class route_class(const api_route *r)
{
    if (r->access == API_METRICS) return SPARK_ROUTE_METRICS;
    if (r->handler >= API_MODELS && r->handler <= API_SLOTS) return SPARK_ROUTE_MODELS;
    if (r->handler == API_TOKENIZE || r->handler == API_DETOKENIZE || r->handler == API_APPLY_TEMPLATE)
        return SPARK_ROUTE_TOKENIZE;
    return r->handler == API_FORBIDDEN || r->handler == API_LATER ? SPARK_ROUTE_MODELS : SPARK_ROUTE_GENERATE;
}

static bool visit_admit(front *f, http_exchange *x, const api_route *r, bool open_door, spark_gate_verdict *who,
                        api_error *e)
{
    *who = (spark_gate_verdict){.status = 200};
    if (open_door) return true;
    const spark_gate_ask ask = {
        .presented = presented_key(x), .route = route_class(r), .address = http_request_address(x)};
    spark_gate_check(f->gate, &ask, spark_gate_now(), who);
    if (who->status == 200) return true;
    api_error_set(e, who->status, who->code, "", "%s", who->message);
    e->retry_ms = who->retry_after_s * 1000;
    front_metrics_refused(f, who->reason);
    spark_log_begin_limited(f->log, SPARK_LOG_WARN, "refused");
    spark_log_text(f->log, "request", http_request_id(x));
    spark_log_text(f->log, "address", http_request_address(x));
    spark_log_text(f->log, "key", who->id[0] ? who->id : NULL);
    spark_log_text(f->log, "reason", who->reason);
    spark_log_end(f->log);
    return false;
}

static void reply_preflight(front *f, http_exchange *x)
{
    char names[FRONT_ALLOW_MAX] = "";
    size_t n = 0;
    for (size_t i = 0; i < api_n_headers && n < sizeof names; i++)
        n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", i ? ", " : "", api_headers[i].name);
    const http_field fields[] = {{"Access-Control-Allow-Methods", "GET, POST, OPTIONS"},
                                 {"Access-Control-Allow-Headers", names},
                                 {"Access-Control-Max-Age", "600"}};
    front_reply(f, x, 204, NULL, (spark_bytes){0}, fields, SPARK_COUNT(fields));
}

/* Every parameter of the query; false: *e tells which is refused. */
static bool visit_query(http_exchange *x, const api_route *r, api_query *q, api_error *e)
{
    spark_bytes name, value;
    for (uint32_t i = 0; http_request_query(x, i, &name, &value); i++)
        if (!api_query_take(q, r, name, value, e)) return false;
    return true;
}

static void visit_on_head(void *ctx, http_exchange *x)
{
    front *f = ctx;
    api_error e = {0};
    api_query query = {0};
    const uint32_t bits = ((const front_door *)http_request_listener(x)->tag)->bits;
    const bool open_door = bits & CONTROL_LISTEN_OPEN;
    const api_match m = api_route_find(http_request_method_text(x), http_request_path(x));
    if (open_door && !(bits & CONTROL_LISTEN_UNIX) && door_is_fooled(f, x, &e)) {
        front_metrics_refused_by(f, &e);
        front_reply_error(f, x, m.dialect, &e);
        return;
    }
    const spark_bytes origin = http_request_header(x, "origin");
    if (http_request_method(x) == HTTP_OPTIONS && origin.ptr && list_has(&f->config->cors, origin)) {
        reply_preflight(f, x);
        return;
    }
    if (m.route && m.route->access == API_OPEN) {
        if (visit_query(x, m.route, &query, &e)) {
            http_request_max_body(x, 0);
            return;
        }
        front_metrics_answer(f, m.route, e.status);
        front_reply_error(f, x, m.dialect, &e);
        return;
    }
    spark_gate_verdict who;
    /* What does not exist is told only to those who may know what does. */
    static const api_route nothing = {.access = API_KEY, .handler = API_MODELS};
    if (!visit_admit(f, x, m.route ? m.route : &nothing, open_door, &who, &e)) {
        front_metrics_answer(f, m.route, e.status);
        front_reply_error(f, x, m.dialect, &e);
        return;
    }
    front_visit *v = calloc(1, sizeof *v);
    const bool understood = m.route && visit_query(x, m.route, &query, &e);
    if (!v || !understood || f->draining) {
        if (!m.route)
            api_error_match(&e, &m, http_request_method_text(x), http_request_path(x));
        else if (understood)
            api_error_set(&e, 503, v ? "shutting_down" : "overloaded", "",
                          v ? "the server is shutting down" : "out of memory");
        if (m.route) front_metrics_refused_by(f, &e);
        if (who.number) spark_gate_done(f->gate, who.number);
        free(v);
        front_metrics_answer(f, m.route, e.status);
        const http_field allow = {"Allow", m.allow};
        if (e.status == 405) {
            api_out out;
            api_out_init(&out, 16 << 10);
            api_print_error(&out, m.dialect, &e);
            front_reply(f, x, 405, "application/json", api_out_bytes(&out), &allow, 1);
            api_out_free(&out);
        } else {
            front_reply_error(f, x, m.dialect, &e);
        }
        return;
    }
    *v = (front_visit){.f = f, .x = x, .match = m, .query = query, .who = who};
    http_exchange_set(x, v);
    if (m.route->method[0] == 'G') http_request_max_body(x, 0);
}

void front_visit_end(front_visit *v)
{
    if (v->who.number) spark_gate_done(v->f->gate, v->who.number);
    free(v);
}

static void visit_on_gone(void *ctx, http_exchange *x)
{
    front_visit *v = http_exchange_get(x);
    (void)ctx;
    if (!v) return;
    if (v->job) front_job_gone(v->job);
    front_visit_end(v);
}

static void visit_on_room(void *ctx, http_exchange *x)
{
    front_visit *v = http_exchange_get(x);
    (void)ctx;
    if (v && v->job) front_job_room(v->job);
}

/* ---- Answers without an engine ---- */

front_model *front_model_find(front *f, spark_bytes name)
{
    if (name.len == 0) return f->n_models ? &f->models[0] : NULL;
    for (uint32_t i = 0; i < f->n_models; i++)
        if (api_card_is(&f->models[i].card, name)) return &f->models[i];
    return NULL;
}

bool front_is_ready(const front *f)
{
    if (!f->going || f->draining) return false;
    for (uint32_t i = 0; i < f->n_models; i++)
        if (f->models[i].config->load == SPARK_LOAD_AT_START && !f->models[i].link) return false;
    return true;
}

/* The cards that this key may see. */
static size_t visit_cards(const front_visit *v, api_card *out)
{
    size_t n = 0;
    const front *f = v->f;
    const spark_keys *keys = v->who.number ? spark_gate_keys(f->gate) : NULL;
    const spark_key *key = keys ? spark_keys_by_number(keys, v->who.number) : NULL;
    for (uint32_t i = 0; i < f->n_models; i++) {
        const front_model *m = &f->models[i];
        if (key && !spark_key_allows_model(key, m->config->name)) continue;
        out[n] = m->card;
        out[n].loaded = m->link != NULL;
        out[n].expires_s =
            m->link && m->config->load != 0 && m->keep_ms != SPARK_FOREVER
                ? (uint64_t)time(NULL) +
                      (m->n_jobs ? m->keep_ms / 1000
                                 : (m->used_ns / 1000000 + m->keep_ms > spark_clock_ns() / 1000000
                                        ? (m->used_ns / 1000000 + m->keep_ms - spark_clock_ns() / 1000000) / 1000
                                        : 0))
                : 0;
        n++;
    }
    return n;
}

static const api_card *visit_card(const front_visit *v, const api_card *cards, size_t n, spark_bytes name)
{
    for (size_t i = 0; i < n; i++)
        if (name.len == 0 || api_card_is(&cards[i], name)) return &cards[i];
    (void)v;
    return NULL;
}

/* What is being decoded; with fail_on_no_slot 503 where no slot is free. A model that is loaded on use has its slots before it is. */
static bool visit_slots(const front_visit *v, const api_card *c, api_out *out, api_error *e)
{
    const front *f = v->f;
    const front_model *m = f->models;
    while (strcmp(m->config->name, c->name) != 0) m++; /* the card is of one of them */
    const uint32_t running = m->link ? m->link->stats.n_running : 0;
    const bool none = m->link ? running >= c->n_slots : m->config->load == SPARK_LOAD_AT_START;
    if (v->query.fail_on_no_slot && none) {
        api_error_set(e, 503, "overloaded", "", "no slot of model '%s' is free", c->name);
        e->retry_ms = 1000;
        return false;
    }
    api_print_slots(out, c, running);
    return true;
}

/* Prints the answer; false: *e instead. */
static bool visit_print(front_visit *v, api_out *out, api_error *e)
{
    static api_card cards[SPARK_MAX_SERVED];
    const size_t n = visit_cards(v, cards);
    api_call call = {0};
    spark_arena *a = NULL;
    const spark_bytes asked = v->query.model.len ? v->query.model : v->match.id;
    const api_card *c = visit_card(v, cards, n, asked);
    switch ((int)v->match.route->handler) {
    case API_METRICS_TEXT: front_metrics_print(v->f, out); return true;
    case API_WATCH: front_live_print(v->f, out); return true;
    case API_MODELS: api_print_models(out, cards, n); return true;
    case API_TAGS: api_print_tags(out, cards, n); return true;
    case API_PS: api_print_ps(out, cards, n); return true;
    case API_VERSION: api_print_version(out); return true;
    case API_SHOW:
        if (front_parse(v, &call, &a, e)) {
            c = visit_card(v, cards, n, call.model);
            if (c) api_print_show(out, c);
            if (!c) api_error_model(e, call.model);
        } else {
            c = NULL;
        }
        spark_arena_destroy(&a);
        return c != NULL;
    case API_MODEL:
        if (c) api_print_model(out, c);
        break;
    case API_PROPS:
        if (c) api_print_props(out, c);
        break;
    case API_SLOTS:
        if (c) return visit_slots(v, c, out, e);
        break;
    default: api_route_refusal(e, v->match.route); return false;
    }
    if (!c) api_error_model(e, asked);
    return c != NULL;
}

static void visit_answer(front_visit *v)
{
    api_out out;
    api_error e = {0};
    api_out_init_held(&out, FRONT_OUT_MAX, http_reply_share(v->x));
    const bool is_text = v->match.route->handler == API_METRICS_TEXT;
    http_reply_share(v->x)->last = is_text; /* who watches must see why others are refused */
    const bool printed = visit_print(v, &out, &e), ok = printed && !out.failed;
    if (printed && !ok) api_error_held(&e);
    if (!ok) api_out_free(&out);
    front_metrics_answer(v->f, v->match.route, ok ? 200 : e.status);
    if (ok)
        front_reply_made(v->f, v->x, 200, is_text ? "text/plain; version=0.0.4; charset=utf-8" : "application/json",
                         &out, NULL);
    else
        front_reply_error(v->f, v->x, v->match.dialect, &e);
    front_visit_end(v);
}

/* Routes that ask for no key: no visit was made. */
static void answer_open(front *f, http_exchange *x)
{
    const api_match m = api_route_find(http_request_method_text(x), http_request_path(x));
    bool ok = true;
    switch ((int)m.route->handler) {
    case API_ROOT: front_page(f, x); return;
    case API_STARTUP: ok = f->started_once; break;
    case API_HEALTH:
    case API_READY: ok = front_is_ready(f); break;
    default: break; /* LIVE */
    }
    f->started_once |= ok && front_is_ready(f);
    front_metrics_answer(f, m.route, ok ? 200 : 503);
    api_out out;
    api_out_init(&out, 1024);
    api_print_health(&out, ok);
    front_reply(f, x, ok ? 200 : 503, "application/json", api_out_bytes(&out), NULL, 0);
    api_out_free(&out);
}

static void visit_on_request(void *ctx, http_exchange *x)
{
    front_visit *v = http_exchange_get(x);
    if (!v)
        answer_open(ctx, x);
    else if (v->match.route->handler >= API_CHAT && v->match.route->handler <= API_APPLY_TEMPLATE)
        front_job_start(v);
    else
        visit_answer(v);
}

/* What never became a request. */
static void visit_on_refused(void *ctx, int status, bool connection)
{
    const char *reason = "malformed";
    if (status == 408) reason = "timeout";
    if (status == 413 || status == 414 || status == 431) reason = "too_large";
    if (status == 503) reason = "memory";
    front_metrics_refused(ctx, connection ? "connections" : reason);
}

static void visit_on_tls_failed(void *ctx, const char *address, const char *why)
{
    front *f = ctx;
    front_metrics_refused(f, "tls");
    spark_log_begin_limited(f->log, SPARK_LOG_INFO, "refused");
    spark_log_text(f->log, "address", address);
    spark_log_text(f->log, "reason", "tls");
    spark_log_text(f->log, "why", why);
    spark_log_end(f->log);
}

const http_handler front_handler = {.on_head = visit_on_head,
                                    .on_request = visit_on_request,
                                    .on_room = visit_on_room,
                                    .on_gone = visit_on_gone,
                                    .on_refused = visit_on_refused,
                                    .on_tls_failed = visit_on_tls_failed};
