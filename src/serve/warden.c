/* warden.c - the loop: signals, the front's wishes, engines that want to be started.
 *
 * Invariants: 1. every descriptor here is close-on-exec; a cell gets exactly those of its spec; 2. the front is told of a model
 * only what holds now: READY comes with a fresh link, and the link of before stays its own until it says SWITCHED. */
#include "serve/warden.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "serve/log.h"
#include "serve/sockets.h"
#include "serve/warden_internal.h"

static spark_status tell(warden *w, const control_message *m)
{
    spark_err err = {0};
    if (w->control < 0) return SPARK_SUCCESS;
    const spark_status s = control_send(w->control, m, &err);
    if (!spark_ok(s)) spark_log(SPARK_LOG_WARN, "front_link", "why=%s", err.text); /* its end is seen by its pidfd */
    return s;
}

/* ---- What the front is told ---- */

void warden_tell_model(warden *w, uint32_t model, const char *why)
{
    warden_model *m = &w->models[model];
    control_message c = {.kind = CONTROL_MODEL, .arg = model, .value = CONTROL_MODEL_ABSENT};
    if (why) c.text = spark_bytes_of(why);
    if (m->current && m->current->state == INSTANCE_READY) {
        warden_instance *i = m->current;
        if (i->next_front == CELL_FRONT_LINKS) { /* all its links are used up: a new engine has new ones */
            warden_drain_engine(i);
            return;
        }
        c.value = CONTROL_MODEL_READY;
        c.fds[c.n_fds++] = i->fronts[i->next_front];
        (void)!spark_ok(tell(w, &c));
        close(i->fronts[i->next_front]);
        i->fronts[i->next_front++] = -1;
        return;
    }
    if (why)
        c.value = CONTROL_MODEL_FAILED;
    else if (m->wanted)
        c.value = CONTROL_MODEL_LOADING;
    (void)!spark_ok(tell(w, &c));
}

/* A descriptor from which bytes can be read, in place of a file. */
static spark_status memory_file(spark_bytes text, int *out, spark_err *err)
{
    const int fd = memfd_create("keys", MFD_CLOEXEC);
    SPARK_CHECK(fd >= 0, err, SPARK_E_IO, SPARK_ERR_NOWHERE, "cannot make a memory file: %s", strerror(errno));
    if (write(fd, text.ptr, text.len) != (ssize_t)text.len) {
        close(fd);
        return spark_fail(err, SPARK_E_IO, SPARK_ERR_NOWHERE, "cannot write a memory file: %s", strerror(errno));
    }
    *out = fd;
    return SPARK_SUCCESS;
}

spark_status warden_tell_keys(warden *w, spark_err *err)
{
    control_message c = {.kind = CONTROL_KEYS};
    if (w->minted_keys.len)
        SPARK_TRY(memory_file(w->minted_keys, &c.fds[0], err));
    else if (w->config->keys)
        SPARK_TRY(spark_file_open(w->config->keys, true, &c.fds[0], err));
    else
        c.arg = 1;
    c.n_fds = c.arg ? 0 : 1;
    (void)!spark_ok(tell(w, &c));
    if (c.n_fds) close(c.fds[0]);
    return SPARK_SUCCESS;
}

static spark_status tell_tls(warden *w, spark_err *err)
{
    const spark_config *o = w->config;
    control_message c = {.kind = CONTROL_TLS};
    if (!o->tls_cert) return SPARK_SUCCESS;
    spark_status s = spark_file_open(o->tls_cert, false, &c.fds[0], err);
    if (spark_ok(s)) c.n_fds++, s = spark_file_open(o->tls_key, true, &c.fds[1], err);
    if (spark_ok(s)) c.n_fds++;
    if (spark_ok(s) && o->tls_client_ca) {
        s = spark_file_open(o->tls_client_ca, false, &c.fds[2], err);
        if (spark_ok(s)) c.n_fds++;
    }
    if (spark_ok(s)) (void)!spark_ok(tell(w, &c));
    for (uint32_t i = 0; i < c.n_fds; i++) close(c.fds[i]);
    return s;
}

spark_status warden_tell_all(warden *w, spark_err *err)
{
    char *text = NULL;
    SPARK_TRY(spark_config_write(w->config, &text, err));
    (void)!spark_ok(tell(w, &(control_message){.kind = CONTROL_SETTINGS, .text = spark_bytes_of(text)}));
    free(text);
    if (w->jail_json)
        (void)!spark_ok(tell(w, &(control_message){.kind = CONTROL_JAIL, .text = spark_bytes_of(w->jail_json)}));
    SPARK_TRY(warden_tell_keys(w, err));
    SPARK_TRY(tell_tls(w, err));
    for (uint32_t i = 0; i < w->n_listeners; i++)
        (void)!spark_ok(
            tell(w, &(control_message){
                        .kind = CONTROL_LISTEN, .arg = w->listener_bits[i], .fds = {w->listeners[i]}, .n_fds = 1}));
    for (uint32_t k = 0; k < w->config->n_models; k++) warden_tell_model(w, k, NULL);
    (void)!spark_ok(tell(w, &(control_message){.kind = CONTROL_GO}));
    return SPARK_SUCCESS;
}

/* ---- Listening ---- */

static spark_status add_listener(warden *w, int fd, uint32_t bits, spark_err *err)
{
    SPARK_CHECK(w->n_listeners < SPARK_MAX_SETTING_LIST, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "more than %u sockets to listen on", SPARK_MAX_SETTING_LIST);
    w->listeners[w->n_listeners] = fd;
    w->listener_bits[w->n_listeners++] = bits;
    return SPARK_SUCCESS;
}

static uint32_t listen_bits(const spark_config *c, const spark_listen *l)
{
    if (l->path) return CONTROL_LISTEN_UNIX | (c->keys ? 0 : CONTROL_LISTEN_OPEN);
    return (c->tls_cert && c->tls != WARDEN_TLS_OFF ? CONTROL_LISTEN_TLS : 0) |
           (c->proxies.n && !l->loopback ? CONTROL_LISTEN_PROXY : 0) |
           (c->no_auth && l->loopback ? CONTROL_LISTEN_OPEN : 0);
}

static spark_status warden_listen(warden *w, spark_err *err)
{
    int fds[SPARK_MAX_SETTING_LIST];
    uint32_t n = 0;
    SPARK_TRY(spark_sockets_of_systemd(fds, SPARK_MAX_SETTING_LIST, &n, err));
    for (uint32_t i = 0; i < n; i++)
        SPARK_TRY(add_listener(w, fds[i], w->config->tls_cert ? CONTROL_LISTEN_TLS : 0, err));
    if (n) return SPARK_SUCCESS; /* systemd says where */
    for (uint32_t i = 0; i < w->config->listen.n; i++) {
        spark_listen *l = &w->config->listens[i];
        int fd = -1;
        SPARK_TRY(spark_socket_listen(l, &fd, err));
        SPARK_TRY(add_listener(w, fd, listen_bits(w->config, l), err));
    }
    return SPARK_SUCCESS;
}

static void warden_stop_listening(warden *w)
{
    for (uint32_t i = 0; i < w->n_listeners; i++) close(w->listeners[i]);
    w->n_listeners = 0;
    for (uint32_t i = 0; i < w->config->listen.n; i++)
        if (w->config->listens[i].path) unlink(w->config->listens[i].path);
}

/* ---- The front ---- */

static void front_says(warden *w, const control_message *m)
{
    const bool names_model = m->kind == CONTROL_LOAD || m->kind == CONTROL_UNLOAD || m->kind == CONTROL_SWITCHED ||
                             m->kind == CONTROL_USED;
    if (names_model && m->arg >= w->config->n_models) {
        spark_log(SPARK_LOG_ERROR, "front_link", "why=a model that does not exist");
        kill(w->front.pid, SIGKILL);
        return;
    }
    warden_model *model = names_model ? &w->models[m->arg] : NULL;
    if (m->kind == CONTROL_UP) w->front_up = true;
    if (m->kind == CONTROL_DRAINED) w->drained = true;
    if (m->kind == CONTROL_LOAD) model->wanted = true;
    if (m->kind == CONTROL_LOAD || m->kind == CONTROL_USED) model->used_ns = spark_clock_ns();
    if (m->kind == CONTROL_SWITCHED && model->other && model->other->state == INSTANCE_READY)
        warden_drain_engine(model->other);
    if (m->kind != CONTROL_UNLOAD || model->config->load == WARDEN_LOAD_AT_START || !model->current) return;
    model->wanted = false;
    if (model->current->state == INSTANCE_READY) warden_drain_engine(model->current);
}

static void warden_read_front(warden *w)
{
    static uint8_t buf[CONTROL_HEAD + CONTROL_TEXT_MAX];
    spark_err err = {0};
    for (bool has = true, closed = false; has && !closed;) {
        control_message m;
        if (!spark_ok(control_receive(w->control, buf, &m, &has, &closed, &err))) {
            kill(w->front.pid, SIGKILL);
            return;
        }
        for (uint32_t i = 0; has && i < m.n_fds; i++) close(m.fds[i]); /* it has none to give */
        if (has) front_says(w, &m);
    }
}

static void warden_front_ended(warden *w)
{
    int status = 0;
    warden_read_front(w); /* DRAINED may be its last word */
    (void)waitpid(w->front.pid, &status, 0);
    close(w->control);
    close(w->front.pidfd);
    w->control = -1;
    w->front_alive = w->front_up = false;
    if (w->draining) {
        w->drained = true;
        return;
    }
    spark_log(SPARK_LOG_ERROR, "front_ended", "pid=%d status=%d", (int)w->front.pid, status);
    w->front_retry_ns = warden_backoff(&w->front_backoff_ms, (spark_clock_ns() - w->front_started_ns) / 1000000);
}

/* ---- Signals ---- */

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* Keys anew; models whose file is another one now are loaded beside those that run. */
static void warden_reload(warden *w)
{
    spark_err err = {0};
    spark_notify_systemd("RELOADING=1");
    if (!spark_ok(warden_tell_keys(w, &err)))
        spark_log(SPARK_LOG_ERROR, "reload_keys", "why=%s; the old keys stay", err.text);
    for (uint32_t k = 0; k < w->config->n_models; k++) {
        warden_model *m = &w->models[k];
        struct stat now;
        m->retry_ns = 0; /* a model that failed is tried again */
        if (!m->config->file || !m->current || m->current->state != INSTANCE_READY || m->other) continue;
        if (stat(m->config->file, &now) != 0 || same_file(&now, &m->current->file)) continue;
        spark_log(SPARK_LOG_INFO, "model_swap", "model=%s", m->config->name);
        if (!spark_ok(warden_start_engine(w, k, &err)))
            spark_log(SPARK_LOG_ERROR, "model_swap", "model=%s why=%s; the old one stays", m->config->name, err.text);
    }
    spark_notify_systemd("READY=1");
}

static void warden_stop(warden *w)
{
    if (w->draining) { /* the second time: now */
        w->stop = true;
        return;
    }
    spark_log(SPARK_LOG_INFO, "draining", "seconds=%.0f", (double)w->config->drain_timeout / 1000);
    spark_notify_systemd("STOPPING=1");
    w->draining = true;
    w->drained = !w->front_alive;
    w->drain_end_ns = spark_clock_ns() + w->config->drain_timeout * 1000000;
    warden_stop_listening(w);
    (void)!spark_ok(tell(w, &(control_message){.kind = CONTROL_DRAIN}));
}

static void warden_read_signals(warden *w, int fd)
{
    struct signalfd_siginfo s;
    while (read(fd, &s, sizeof s) == sizeof s) {
        if (s.ssi_signo == SIGHUP)
            warden_reload(w);
        else
            warden_stop(w);
    }
}

/* ---- The loop ---- */

static bool any_draining(const warden *w)
{
    for (uint32_t i = 0; i < WARDEN_INSTANCES; i++)
        if (w->instances[i].state == INSTANCE_DRAINING) return true;
    return false;
}

/* Starts what should run and does not. Under a budget, memory is given out again only when it has come back. */
static void warden_start_wanted(warden *w)
{
    spark_err err = {0};
    const uint64_t now = spark_clock_ns();
    if (w->draining) return;
    if (!w->front_alive && now >= w->front_retry_ns && !spark_ok(warden_start_front(w, &err))) {
        spark_log(SPARK_LOG_ERROR, "front_start", "why=%s", err.text);
        w->front_retry_ns = warden_backoff(&w->front_backoff_ms, 0);
    }
    if (w->config->memory && any_draining(w)) return;
    for (uint32_t k = 0; k < w->config->n_models; k++) {
        warden_model *m = &w->models[k];
        if (!m->wanted || m->current || now < m->retry_ns) continue;
        if (spark_ok(warden_start_engine(w, k, &err))) {
            m->retry_ns = 0;
            continue;
        }
        spark_log(SPARK_LOG_ERROR, "model_failed", "model=%s why=%s", m->config->name, err.text);
        m->retry_ns = warden_backoff(&m->backoff_ms, 0);
        if (m->config->load != WARDEN_LOAD_AT_START) m->wanted = false;
        warden_tell_model(w, k, err.text);
    }
}

/* When every model that is loaded at start is ready, and the front is up: once. */
static void warden_announce(warden *w, void (*banner)(const spark_config *c))
{
    if (w->announced || !w->front_up) return;
    for (uint32_t k = 0; k < w->config->n_models; k++) {
        const warden_model *m = &w->models[k];
        if (m->config->load == WARDEN_LOAD_AT_START && !(m->current && m->current->state == INSTANCE_READY)) return;
    }
    w->announced = true;
    spark_notify_systemd("READY=1");
    if (banner) banner(w->config);
}

static uint64_t earlier(uint64_t a, uint64_t b) { return b && (!a || b < a) ? b : a; }

static int warden_patience(const warden *w)
{
    uint64_t next = w->draining ? w->drain_end_ns : 0;
    const uint64_t now = spark_clock_ns();
    if (!w->draining && !w->front_alive) next = earlier(next, w->front_retry_ns + 1);
    for (uint32_t k = 0; k < w->config->n_models && !w->draining; k++)
        if (w->models[k].wanted && !w->models[k].current) next = earlier(next, w->models[k].retry_ns + 1);
    if (!next) return -1;
    return next <= now ? 0 : (int)((next - now) / 1000000) + 1;
}

static bool warden_done(warden *w)
{
    if (w->stop || (w->draining && spark_clock_ns() >= w->drain_end_ns)) return true;
    if (!w->draining || !w->drained) return false;
    bool alive = w->front_alive;
    for (uint32_t i = 0; i < WARDEN_INSTANCES; i++) { /* the front needs them no more */
        if (w->instances[i].state == INSTANCE_LOADING) warden_kill_engine(&w->instances[i]);
        if (w->instances[i].state == INSTANCE_READY) warden_drain_engine(&w->instances[i]);
        alive |= w->instances[i].state != INSTANCE_FREE;
    }
    return !alive;
}

/* Sleeps until something happens, and does what it asks for. */
static void warden_turn(warden *w, int signals)
{
    struct pollfd p[3 + 2 * WARDEN_INSTANCES];
    p[0] = (struct pollfd){.fd = signals, .events = POLLIN};
    p[1] = (struct pollfd){.fd = w->front_alive ? w->control : -1, .events = POLLIN};
    p[2] = (struct pollfd){.fd = w->front_alive ? w->front.pidfd : -1, .events = POLLIN};
    for (uint32_t i = 0; i < WARDEN_INSTANCES; i++) {
        const warden_instance *e = &w->instances[i];
        p[3 + 2 * i] = (struct pollfd){.fd = e->state == INSTANCE_FREE ? -1 : e->link, .events = POLLIN};
        p[4 + 2 * i] = (struct pollfd){.fd = e->state == INSTANCE_FREE ? -1 : e->cell.pidfd, .events = POLLIN};
    }
    if (poll(p, SPARK_COUNT(p), warden_patience(w)) < 0) return; /* EINTR */
    if (p[1].revents) warden_read_front(w);
    if (p[2].revents) warden_front_ended(w);
    for (uint32_t i = 0; i < WARDEN_INSTANCES; i++) {
        warden_instance *e = &w->instances[i];
        if (p[3 + 2 * i].fd >= 0 && p[3 + 2 * i].revents) warden_read_engine(w, e);
        if (p[4 + 2 * i].fd >= 0 && p[4 + 2 * i].revents) warden_engine_ended(w, e);
    }
    if (p[0].revents) warden_read_signals(w, signals);
}

static int warden_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void warden_end(warden *w)
{
    if (w->front_alive) kill(w->front.pid, SIGKILL);
    for (uint32_t i = 0; i < WARDEN_INSTANCES; i++)
        if (w->instances[i].state != INSTANCE_FREE) warden_kill_engine(&w->instances[i]);
    while (waitpid(-1, NULL, 0) > 0) {
    }
    warden_stop_listening(w);
    free(w->jail_json);
}

int spark_warden_run(spark_config *c, spark_bytes keys, void (*banner)(const spark_config *c))
{
    static warden the_warden; /* large, and the process has one */
    warden *w = &the_warden;
    spark_err err = {0};
    *w = (warden){.config = c, .minted_keys = keys, .control = -1, .level = warden_level(c)};
    for (uint32_t k = 0; k < c->n_models; k++)
        w->models[k] = (warden_model){.config = &c->models[k], .wanted = c->models[k].load == WARDEN_LOAD_AT_START};
    const int signals = warden_signals();
    if (!spark_ok(warden_check_jail(w, &err))) {
        spark_log(SPARK_LOG_ERROR, "jail", "why=%s", err.text);
        return 3;
    }
    if (signals < 0 || !spark_ok(warden_listen(w, &err))) {
        spark_log(SPARK_LOG_ERROR, "start", "why=%s", signals < 0 ? strerror(errno) : err.text);
        return 1;
    }
    while (!warden_done(w)) {
        warden_start_wanted(w);
        warden_turn(w, signals);
        warden_announce(w, banner);
    }
    warden_end(w);
    spark_log(SPARK_LOG_INFO, "stopped", "drained=%s", w->drained ? "yes" : "no");
    close(signals);
    return 0;
}
