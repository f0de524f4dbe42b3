/* front.c - start, the warden's messages, the clock. */
#include "serve/front.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/pool.h"
#include "serve/config_time.h"
#include "serve/front_internal.h"
#include "serve/log.h"

enum { FRONT_USED_MS = 1000 };

void front_tell(front *f, control_kind kind, uint32_t arg) { front_tell_value(f, kind, arg, 0); }

void front_tell_value(front *f, control_kind kind, uint32_t arg, uint64_t value)
{
    spark_err err = {0};
    if (!spark_ok(control_send(f->control, &(control_message){.kind = kind, .arg = arg, .value = value}, &err)))
        spark_log_event(f->log, SPARK_LOG_ERROR, "warden_link", NULL,
                        err.text); /* without the warden the process ends anyway */
}

/* ---- What the warden sends ---- */

static void wipe_free(uint8_t *p, size_t len)
{
    if (p) explicit_bzero(p, len);
    free(p);
}

/* All bytes of a file that the warden opened; malloc'd. */
static spark_status front_read(int fd, uint8_t **out, size_t *len, spark_err *err)
{
    size_t cap = 64 << 10, n = 0;
    uint8_t *p = malloc(cap + 1);
    for (ssize_t got = 1; p && got > 0; n += got > 0 ? (size_t)got : 0) {
        if (n == cap && cap < CONTROL_FILE_MAX) {
            uint8_t *larger = malloc(2 * cap + 1); /* not realloc: what moves must be wiped */
            if (larger) memcpy(larger, p, n);
            wipe_free(p, n);
            p = larger;
            cap *= 2;
        }
        got = p ? read(fd, p + n, cap - n) : 0;
    }
    SPARK_CHECK(p, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "out of memory");
    if (n == cap) {
        wipe_free(p, n);
        return spark_fail(err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE, "a file of secrets has over %d bytes",
                          CONTROL_FILE_MAX);
    }
    p[n] = '\0';
    *out = p;
    *len = n;
    return SPARK_SUCCESS;
}

static spark_status front_take_keys(front *f, const control_message *m, spark_err *err)
{
    uint8_t *text = NULL;
    size_t len = 0;
    SPARK_TRY(front_read(m->fds[0], &text, &len, err));
    const spark_status s = spark_gate_load(f->gate, (spark_bytes){text, len}, err);
    wipe_free(text, len);
    if (spark_ok(s)) f->has_keys = true;
    return s;
}

static spark_status front_take_tls(front *f, const control_message *m, spark_err *err)
{
    uint8_t *file[3] = {0};
    size_t len[3] = {0};
    spark_status s = SPARK_SUCCESS;
    for (uint32_t i = 0; i < m->n_fds && i < 3 && spark_ok(s); i++) s = front_read(m->fds[i], &file[i], &len[i], err);
    struct ssl_ctx_st *tls = NULL;
    if (spark_ok(s))
        s = http_tls_create(&tls, (spark_bytes){file[0], len[0]}, (spark_bytes){file[1], len[1]},
                            (spark_bytes){file[2], len[2]}, err);
    for (int i = 0; i < 3; i++) wipe_free(file[i], len[i]);
    SPARK_TRY(s);
    if (f->server) http_server_use_tls(f->server, tls);
    http_tls_destroy(&f->tls); /* connections that began with it keep it as long as they need it */
    f->tls = tls;
    return SPARK_SUCCESS;
}

static spark_status front_open_log(front *f, spark_err *err)
{
    const spark_config *c = f->config;
    const spark_log_options o = {.fd = STDERR_FILENO,
                                 .level = c ? (spark_log_level)c->log_level : SPARK_LOG_INFO,
                                 .format = c ? (spark_log_format)c->log_format : SPARK_LOG_JSON,
                                 .prompts = c && c->log_prompts,
                                 .cell = "front"};
    return spark_log_create(&f->log, &o, err);
}

static spark_status front_take_settings(front *f, spark_bytes text, spark_err *err)
{
    SPARK_TRY(spark_config_create(&f->config, err));
    SPARK_TRY(spark_config_add_file(f->config, text, "the warden's", err));
    SPARK_TRY(spark_config_finish(f->config, err));
    spark_log_destroy(&f->log); /* until now it knew no settings */
    SPARK_TRY(front_open_log(f, err));
    f->n_models = f->config->n_models;
    for (uint32_t i = 0; i < f->n_models; i++)
        f->models[i] = (front_model){.config = &f->config->models[i],
                                     .card = {.name = f->config->models[i].name},
                                     .keep_ms = f->config->models[i].load == SPARK_LOAD_AT_START
                                                    ? SPARK_FOREVER
                                                    : f->config->models[i].keep_alive};
    return spark_gate_create(&f->gate, f->config->proxy, f->config->proxies.n, err);
}

static spark_status front_take_listener(front *f, const control_message *m, spark_err *err)
{
    SPARK_CHECK(m->n_fds == 1 && f->n_listeners < SPARK_MAX_SETTING_LIST, err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE,
                "a listener without a socket");
    f->doors[f->n_listeners] = (front_door){f, m->arg};
    f->listeners[f->n_listeners++] = (http_listener){.fd = m->fds[0]};
    return SPARK_SUCCESS;
}

static void front_take_model(front *f, const control_message *m)
{
    front_model *model = &f->models[m->arg];
    const control_model_state state = control_model_state_of(m->value);
    if (state == CONTROL_MODEL_READY) { /* it is ready once the engine has described itself on it */
        front_link_add(f, m->arg, control_model_engine(m->value), m->fds[0]);
        return;
    }
    front_link_retire(f, m->arg);
    if (state == CONTROL_MODEL_LEAVING) front_tell(f, CONTROL_UNLOAD, m->arg);
    model->state = state == CONTROL_MODEL_LEAVING ? CONTROL_MODEL_ABSENT : state;
    snprintf(model->why, sizeof model->why, "%.*s", (int)m->text.len, (const char *)m->text.ptr);
    front_model_changed(f, model);
}

static bool front_may_proxy(void *tag, const char *address)
{
    const front_door *door = tag;
    return spark_net_within(address, door->f->config->proxy, door->f->config->proxies.n);
}

/* Everything is told: the door closes for good, and clients come in. */
static spark_status front_go(front *f, spark_err *err)
{
    const spark_config *c = f->config;
    http_limits l;
    http_limits_defaults(&l);
    l.max_connections = c->max_connections;
    l.max_connections_per_address = c->max_per_address;
    l.max_head = (uint32_t)c->max_head;
    l.max_headers = c->max_headers;
    l.max_url = (uint32_t)c->max_url;
    l.max_body = c->max_body;
    l.max_bodies = c->max_bodies;
    l.max_replies = cell_front_plan(c).replies;
    l.head_ms = (uint32_t)c->head_timeout;
    l.body_ms = (uint32_t)c->body_timeout;
    l.idle_ms = (uint32_t)c->idle_timeout;
    l.write_ms = (uint32_t)c->write_timeout;
    l.min_body_rate = (uint32_t)c->min_body_rate;
    l.max_backlog = (uint32_t)c->max_backlog;
    http_handler h = front_handler;
    h.ctx = f;
    SPARK_TRY(front_metrics_start(f, err));
    SPARK_TRY(front_live_start(f, err));
    SPARK_TRY(front_page_start(f, err));
    SPARK_TRY(http_server_create(&f->server, f->base, &l, &h, err));
    SPARK_TRY(spark_jail_serve_phase(f->spec, err));
    for (uint32_t i = 0; i < f->n_listeners; i++) {
        http_listener *at = &f->listeners[i];
        at->is_unix = f->doors[i].bits & CONTROL_LISTEN_UNIX;
        at->proxy_protocol = f->doors[i].bits & CONTROL_LISTEN_PROXY;
        at->may_proxy = front_may_proxy;
        at->tls = f->doors[i].bits & CONTROL_LISTEN_TLS ? f->tls : NULL;
        at->tag = &f->doors[i];
        SPARK_TRY(http_server_listen(f->server, at, err));
    }
    f->going = true;
    if (c->log_prompts)
        spark_log_say(f->log, SPARK_LOG_WARN, "prompts_logged",
                      "prompts and answers are written to this log (log_prompts)");
    front_tell(f, CONTROL_UP, 0);
    return SPARK_SUCCESS;
}

static void front_drain(front *f)
{
    f->draining = true;
    if (f->server) http_server_stop_listening(f->server);
}

/* What went wrong, and in a file of settings or keys, where. */
static void front_log_failure(front *f, const char *event, const spark_err *err)
{
    spark_log_begin(f->log, SPARK_LOG_ERROR, event);
    spark_log_text(f->log, "why", err->text);
    if (err->line) spark_log_u64(f->log, "line", err->line);
    spark_log_end(f->log);
}

/* What holds from now on. */
static void front_log_reloaded(front *f, bool keys)
{
    char expires[32] = "";
    if (!keys) spark_time_write(http_tls_expires_s(f->tls), -1, expires);
    spark_log_begin(f->log, SPARK_LOG_INFO, "reloaded");
    spark_log_text(f->log, "what", keys ? "keys" : "tls");
    if (keys) spark_log_u64(f->log, "keys", f->has_keys ? spark_keys_count(spark_gate_keys(f->gate)) : 0);
    spark_log_text(f->log, "expires", expires[0] ? expires : NULL);
    spark_log_end(f->log);
}

/* Keys or certificates came: at start they must be right; later, where they are not, the old ones stay. */
static spark_status front_reload(front *f, const control_message *m, spark_err *err)
{
    const bool keys = m->kind == CONTROL_KEYS, unread = m->arg == CONTROL_UNREAD;
    const spark_status s = unread ? SPARK_SUCCESS : keys ? front_take_keys(f, m, err) : front_take_tls(f, m, err);
    const bool ok = !unread && spark_ok(s);
    if (!f->going) return s;
    spark_metrics_add(f->metrics, SPARK_METRIC_RELOADS, ok ? 1 : 0, 0, 1);
    if (unread) return SPARK_SUCCESS; /* why, the warden has said */
    if (ok)
        front_log_reloaded(f, keys);
    else
        front_log_failure(f, keys ? "reload_keys_failed" : "reload_tls_failed", err);
    front_tell_value(f, CONTROL_TAKEN, (uint32_t)m->kind, ok);
    return SPARK_SUCCESS;
}

static spark_status front_obey(front *f, const control_message *m, spark_err *err)
{
    SPARK_CHECK(m->kind == CONTROL_SETTINGS || f->config, err, SPARK_E_STATE, SPARK_ERR_NOWHERE,
                "the settings come first");
    switch ((int)m->kind) {
    case CONTROL_SETTINGS: return front_take_settings(f, m->text, err);
    case CONTROL_JAIL:
        free(f->jail_json);
        f->jail_json = strndup((const char *)m->text.ptr, m->text.len);
        return SPARK_SUCCESS;
    case CONTROL_KEYS:
    case CONTROL_TLS: return front_reload(f, m, err);
    case CONTROL_LISTEN: return front_take_listener(f, m, err);
    case CONTROL_MODEL:
        SPARK_CHECK(m->arg < f->n_models, err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE,
                    "a model that is not in the settings");
        front_take_model(f, m);
        return SPARK_SUCCESS;
    case CONTROL_GO: return front_go(f, err);
    case CONTROL_DRAIN: front_drain(f); return SPARK_SUCCESS;
    case CONTROL_PING: front_tell(f, CONTROL_PONG, 0); return SPARK_SUCCESS;
    case CONTROL_RESTARTED: front_metrics_cell(f, SPARK_METRIC_CELLS_RESTARTED, m->arg, m->value); return SPARK_SUCCESS;
    case CONTROL_RESIDENT: front_metrics_cell(f, SPARK_METRIC_MEMORY_RESIDENT, m->arg, m->value); return SPARK_SUCCESS;
    default: return spark_fail(err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE, "a control message that is not for the front");
    }
}

static void front_on_control(evutil_socket_t fd, short what, void *ctx)
{
    front *f = ctx;
    spark_err err = {0};
    (void)what;
    for (bool has = true, closed = false; has;) {
        control_message m;
        spark_status s = control_receive(fd, f->control_buf, &m, &has, &closed, &err);
        if (spark_ok(s) && has) s = front_obey(f, &m, &err);
        const bool kept = has && (m.kind == CONTROL_LISTEN ||
                                  (m.kind == CONTROL_MODEL && control_model_state_of(m.value) == CONTROL_MODEL_READY));
        for (uint32_t i = 0; has && !kept && i < m.n_fds; i++) close(m.fds[i]);
        if (!spark_ok(s)) front_log_failure(f, "front_failed", &err);
        if (!spark_ok(s) || closed) {
            event_base_loopbreak(f->base);
            return;
        }
    }
}

/* ---- The clock ---- */

/* A model that was loaded on use and lies idle for longer than it should. */
static void front_look_idle(front *f, uint64_t now)
{
    for (uint32_t i = 0; i < f->n_models; i++) {
        front_model *m = &f->models[i];
        if (!m->link) continue;
        if (m->used_ns > m->told_used_ns && m->used_ns - m->told_used_ns > (uint64_t)FRONT_USED_MS * 1000000) {
            m->told_used_ns = m->used_ns;
            front_tell_value(f, CONTROL_USED, i, m->used_ns);
        }
        if (m->config->load == SPARK_LOAD_AT_START || m->keep_ms == SPARK_FOREVER || m->n_jobs) continue;
        if ((now - m->used_ns) / 1000000 >= m->keep_ms) front_model_unload(f, m);
    }
}

static void front_on_tick(evutil_socket_t fd, short what, void *ctx)
{
    front *f = ctx;
    (void)fd;
    (void)what;
    front_jobs_tick(f);
    front_links_sweep(f);
    front_look_idle(f, spark_clock_ns());
    front_live_tick(f, spark_clock_ns());
    spark_log_tick(f->log);
    if (f->draining && !f->told_drained && f->server && http_server_exchanges(f->server) == 0) {
        f->told_drained = true;
        front_tell(f, CONTROL_DRAINED, 0);
    }
}

/* ---- Start ---- */

static spark_status front_start(front *f, spark_err *err)
{
    SPARK_TRY(http_warm(err));
    json_object_seed(0); /* jansson would open /dev/urandom with its first object */
    spark_keys_warm();
    SPARK_CHECK(getrandom(&f->seed, sizeof f->seed, 0) == sizeof f->seed, err, SPARK_E_IO, SPARK_ERR_NOWHERE,
                "no random numbers");
    snprintf(f->fingerprint, sizeof f->fingerprint, "spark-%s-n%d", spark_version(), SPARK_NUMERICS_PROFILE);
    struct event_config *ec = event_config_new();
    f->base = ec ? event_base_new_with_config(ec) : NULL;
    if (ec) event_config_free(ec);
    f->control_event = f->base ? event_new(f->base, f->control, EV_READ | EV_PERSIST, front_on_control, f) : NULL;
    f->timer = f->base ? event_new(f->base, -1, EV_PERSIST, front_on_tick, f) : NULL;
    SPARK_CHECK(f->control_event && f->timer, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "cannot make an event loop");
    static const struct timeval tick = {0, 100000};
    event_add(f->control_event, NULL);
    event_add(f->timer, &tick);
    spark_thread_wakes_soon();
    return spark_jail_open_phase(f->spec, err);
}

int spark_front_cell(const spark_jail_spec *spec)
{
    static front the_front; /* large */
    front *f = &the_front;
    spark_err err = {0};
    f->spec = spec;
    f->control = SPARK_JAIL_FIRST_FD;
    if (!spark_ok(front_open_log(f, &err))) return 1;
    if (!spark_ok(front_start(f, &err))) {
        spark_log_event(f->log, SPARK_LOG_ERROR, "front_start_failed", NULL, err.text);
        return 1;
    }
    event_base_dispatch(f->base);
    spark_gate_destroy(&f->gate); /* wipes the salt of the keys; the rest goes with the process */
    return 0;                     /* the warden is gone, or what it said made no sense: told above */
}
