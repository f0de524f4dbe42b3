/* warden.c - the loop: signals, the front's wishes, engines that want to be started.
 *
 * Invariants: 1. every descriptor here is close-on-exec; a cell gets exactly those of its spec; 2. the front is told of a model
 * only what holds now: READY comes with a fresh link, and the link of before stays its own until it says SWITCHED. */
#include "serve/warden.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "serve/api.h"
#include "serve/config_write.h"
#include "serve/log.h"
#include "serve/poll.h"
#include "serve/sockets.h"
#include "serve/warden_internal.h"

spark_status warden_tell(warden *w, const control_message *m)
{
    spark_err err = {0};
    if (w->control < 0) return SPARK_SUCCESS;
    const spark_status s = control_send(w->control, m, &err);
    if (!spark_ok(s)) {
        spark_log_event(w->log, SPARK_LOG_WARN, "front_link", NULL, err.text);
        kill(w->front.pid, SIGKILL); /* if it has not ended by itself: one that cannot be told anything is of no use */
    }
    return s;
}

/* ---- What the front is told ---- */

void warden_tell_model(warden *w, uint32_t model, const char *why)
{
    warden_model *m = &w->models[model];
    control_message c = {.kind = CONTROL_MODEL, .arg = model, .value = CONTROL_MODEL_ABSENT};
    if (why) c.text = spark_bytes_of(why);
    if (m->current && m->current->state == INSTANCE_READY && !m->leaving) {
        warden_instance *i = m->current;
        if (i->next_front == CELL_FRONT_LINKS) { /* all its links are used up: a new engine has new ones */
            warden_drain_engine(w, i);
            i->released = true; /* the fronts that had them are gone */
            return;
        }
        c.value = control_model_value(CONTROL_MODEL_READY, i->cell_number);
        i->given_to = w->fronts_started;
        c.fds[c.n_fds++] = i->fronts[i->next_front];
        (void)!spark_ok(warden_tell(w, &c));
        close(i->fronts[i->next_front]);
        i->fronts[i->next_front++] = -1;
        return;
    }
    if (why)
        c.value = CONTROL_MODEL_FAILED;
    else if (m->leaving && m->current && m->current->state == INSTANCE_READY)
        c.value = CONTROL_MODEL_LEAVING;
    else if (m->wanted)
        c.value = CONTROL_MODEL_LOADING;
    (void)!spark_ok(warden_tell(w, &c));
}

void warden_tell_restarts(warden *w, uint32_t model)
{
    const uint64_t n = model == CONTROL_THE_FRONT ? w->front_restarts : w->models[model].restarts;
    if (n) (void)!spark_ok(warden_tell(w, &(control_message){.kind = CONTROL_RESTARTED, .arg = model, .value = n}));
}

spark_status warden_tell_all(warden *w, spark_err *err)
{
    char *text = NULL;
    SPARK_TRY(spark_config_write(w->config, &text, err));
    (void)!spark_ok(warden_tell(w, &(control_message){.kind = CONTROL_SETTINGS, .text = spark_bytes_of(text)}));
    free(text);
    if (w->jail_json)
        (void)!spark_ok(warden_tell(w, &(control_message){.kind = CONTROL_JAIL, .text = spark_bytes_of(w->jail_json)}));
    SPARK_TRY(warden_files_start(w, err));
    for (uint32_t i = 0; i < w->n_listeners; i++)
        (void)!spark_ok(warden_tell(
            w, &(control_message){
                   .kind = CONTROL_LISTEN, .arg = w->listener_bits[i], .fds = {w->listeners[i]}, .n_fds = 1}));
    for (uint32_t k = 0; k < w->config->n_models; k++) warden_tell_model(w, k, NULL);
    (void)!spark_ok(warden_tell(w, &(control_message){.kind = CONTROL_GO}));
    for (uint32_t k = 0; k < w->config->n_models; k++) warden_tell_restarts(w, k); /* what it counts begins with GO */
    warden_tell_restarts(w, CONTROL_THE_FRONT);
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
    return (c->tls_cert && c->tls == WARDEN_TLS_ON ? CONTROL_LISTEN_TLS : 0) |
           (spark_config_proxied(c, l) ? CONTROL_LISTEN_PROXY : 0) |
           (c->no_auth && l->loopback ? CONTROL_LISTEN_OPEN : 0);
}

static spark_status warden_listen(warden *w, spark_err *err)
{
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
    for (uint32_t i = 0; i < w->n_listeners; i++) { /* as many as were opened, in this order */
        const spark_listen *l = &w->config->listens[i];
        close(w->listeners[i]);
        if (l->path && !l->inherited) unlink(l->path);
    }
    w->n_listeners = 0;
}

/* ---- The front ---- */

static void front_says(warden *w, const control_message *m)
{
    const bool names_model = m->kind == CONTROL_LOAD || m->kind == CONTROL_UNLOAD || m->kind == CONTROL_SWITCHED ||
                             m->kind == CONTROL_REFUSED || m->kind == CONTROL_RELEASED || m->kind == CONTROL_USED;
    if (names_model && m->arg >= w->config->n_models) {
        spark_log_event(w->log, SPARK_LOG_ERROR, "front_link", NULL, "it names a model that does not exist");
        kill(w->front.pid, SIGKILL);
        return;
    }
    warden_model *model = names_model ? &w->models[m->arg] : NULL;
    if (m->kind == CONTROL_UP && !w->front_up) warden_files_front_up(w);
    if (m->kind == CONTROL_UP) w->front_up = true;
    if (m->kind == CONTROL_TAKEN) warden_files_taken(w, (control_kind)m->arg, m->value != 0);
    if (m->kind == CONTROL_DRAINED) w->drained = true;
    if (m->kind == CONTROL_LOAD) model->wanted = true;
    if (m->kind == CONTROL_LOAD) model->used_ns = spark_clock_ns();
    if (m->kind == CONTROL_USED && m->value < spark_clock_ns()) model->used_ns = m->value;
    if (m->kind == CONTROL_SWITCHED) warden_engine_switched(w, m->arg, m->value);
    if (m->kind == CONTROL_REFUSED) warden_engine_refused(w, m->arg, m->value);
    if (m->kind == CONTROL_RELEASED) warden_engine_released(w, m->arg, m->value);
    if (m->kind != CONTROL_UNLOAD || model->config->load == SPARK_LOAD_AT_START || !model->current) return;
    model->wanted = false;
    if (model->current->state != INSTANCE_READY) return;
    warden_model_put_out(model);
    warden_drain_engine(w, model->current);
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
        if (closed) kill(w->front.pid, SIGKILL); /* whether it ends by itself or thought to live on without us */
        for (uint32_t i = 0; has && i < m.n_fds; i++) close(m.fds[i]); /* it has none to give */
        if (has) w->front_quiet = 0;
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
    const bool was_up = w->front_up;
    w->front_alive = w->front_up = false;
    warden_files_front_ended(w);
    for (uint32_t k = 0; k < w->config->n_models; k++) /* it cannot let go of them any more, and need not */
        if (w->models[k].leaving && w->models[k].current->state == INSTANCE_READY)
            warden_drain_engine(w, w->models[k].current);
    for (uint32_t i = 0; i < WARDEN_INSTANCES; i++) /* its clients are gone with it */
        w->instances[i].released |= w->instances[i].state == INSTANCE_DRAINING;
    if (w->draining) {
        w->drained = true;
        return;
    }
    w->front_restarts++;
    if (!w->announced && !was_up && !w->stop) { /* it could not start; why, it has said itself */
        w->exit_code = WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : 1;
        w->stop = true;
    }
    char how[WARDEN_STATUS_TEXT];
    spark_log_event(w->log, SPARK_LOG_ERROR, "front_ended", NULL, warden_status_text(status, how));
    w->front_retry_ns = warden_backoff(&w->front_backoff_ms, (spark_clock_ns() - w->front_started_ns) / 1000000);
}

/* ---- Signals ---- */

/* A model whose files are others now is loaded beside the one that runs; while another swap is under way, or its engine still loads, after
 * that. Where none runs, the next one starts from them. */
static void model_swap(warden *w, uint32_t k)
{
    spark_err err = {0};
    warden_model *m = &w->models[k];
    warden_opened *opened = NULL;
    m->look_again = m->other || !m->current || m->current->state != INSTANCE_READY || !m->current->taken;
    if (m->look_again || !warden_model_is_other(w, m, &opened)) return;
    spark_log_event(w->log, SPARK_LOG_INFO, "model_swap", m->config->name, NULL);
    if (!spark_ok(warden_start_engine(w, k, opened, &err)))
        spark_log_event(w->log, SPARK_LOG_ERROR, "model_swap_failed", m->config->name, err.text);
}

/* Keys and certificates anew, and models whose file changed. */
static void warden_reload(warden *w)
{
    spark_notify_systemd("RELOADING=1\nMONOTONIC_USEC=%" PRIu64, spark_clock_ns() / 1000);
    warden_files_reload(w);
    for (uint32_t k = 0; k < w->config->n_models; k++) {
        w->models[k].retry_ns = 0; /* a model that failed is tried again */
        model_swap(w, k);
    }
    spark_notify_systemd("READY=1");
}

static void warden_stop(warden *w)
{
    if (w->draining) { /* the second time: now */
        w->stop = true;
        return;
    }
    spark_log_event(w->log, SPARK_LOG_INFO, "draining", NULL, NULL);
    spark_notify_systemd("STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=%" PRIu64,
                         w->config->drain_timeout * 1000 + 5000000);
    w->draining = true;
    w->drained = !w->front_alive;
    w->drain_end_ns = spark_clock_ns() + w->config->drain_timeout * 1000000;
    warden_stop_listening(w);
    (void)!spark_ok(warden_tell(w, &(control_message){.kind = CONTROL_DRAIN}));
    for (uint32_t k = 0; k < w->config->n_models; k++) /* who waits for one that is not started any more is told */
        if (w->models[k].wanted && !w->models[k].current) warden_tell_model(w, k, WARDEN_ENDS);
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

static uint64_t earlier(uint64_t a, uint64_t b) { return b && (!a || b < a) ? b : a; }

/* A start that cannot succeed ends, and is told at once; later, things may mend. */
static void warden_give_up(warden *w, const spark_err *why)
{
    if (w->announced) return;
    w->exit_code = why->code == SPARK_E_REFUSED ? 3 : 1;
    w->stop = true;
}

/* Starts what should run and does not. Under a budget memory is given out only when it has come back: warden_grant. */
static void warden_start_wanted(warden *w)
{
    spark_err err = {0};
    const uint64_t now = spark_clock_ns();
    if (w->draining) return;
    if (!w->front_alive && now >= w->front_retry_ns && !spark_ok(warden_start_front(w, &err))) {
        spark_log_event(w->log, SPARK_LOG_ERROR, "front_start_failed", NULL, err.text);
        w->front_retry_ns = warden_backoff(&w->front_backoff_ms, 0);
        if (w->front_alive) kill(w->front.pid, SIGKILL); /* it waits for what will not come */
        warden_give_up(w, &err);
    }
    for (uint32_t k = 0; k < w->config->n_models && !w->stop; k++) {
        warden_model *m = &w->models[k];
        warden_opened *opened = NULL;
        if (m->look_again) model_swap(w, k);
        if (!m->wanted || m->current || now < m->retry_ns) continue;
        if (spark_ok(warden_model_open(w, m, &opened, &err)) && spark_ok(warden_start_engine(w, k, opened, &err))) {
            m->retry_ns = 0;
            continue;
        }
        spark_log_event(w->log, SPARK_LOG_ERROR, "model_failed", m->config->name, err.text);
        if (m->config->load == SPARK_LOAD_AT_START) warden_give_up(w, &err);
        m->retry_ns = warden_backoff(&m->backoff_ms, 0);
        if (m->config->load != SPARK_LOAD_AT_START) m->wanted = false;
        warden_tell_model(w, k, err.text);
    }
}

/* A model that is loaded on use is opened then: a path that is wrong already is told while somebody looks. */
static void warden_look_for_files(const warden *w)
{
    for (uint32_t k = 0; k < w->config->n_models; k++) {
        const spark_config_model *m = &w->config->models[k];
        if (m->load == SPARK_LOAD_AT_START || !m->file || access(m->file, R_OK) == 0) continue;
        spark_log_begin(w->log, SPARK_LOG_WARN, "model_file");
        spark_log_text(w->log, "model", m->name);
        spark_log_text(w->log, "file", m->file);
        spark_log_text(w->log, "why", strerror(errno));
        spark_log_end(w->log);
    }
}

void warden_log_plan(const warden *w)
{
    uint64_t engines = 0, on_use = 0;
    for (uint32_t k = 0; k < w->config->n_models; k++) on_use += w->config->models[k].load != SPARK_LOAD_AT_START;
    for (uint32_t i = 0; i < WARDEN_INSTANCES; i++)
        if (w->instances[i].state != INSTANCE_FREE) engines += w->instances[i].planned;
    spark_log_begin(w->log, SPARK_LOG_INFO, "memory_plan");
    spark_log_u64(w->log, "planned_bytes", engines + w->front_memory.planned);
    spark_log_u64(w->log, "engines_bytes", engines);
    spark_log_u64(w->log, "front_bytes", w->front_memory.planned);
    if (w->config->memory) spark_log_u64(w->log, "budget_bytes", w->config->memory);
    if (on_use) spark_log_u64(w->log, "models_on_use", on_use);
    if (on_use && w->config->memory) spark_log_u64(w->log, "planned_at_most_bytes", w->config->memory);
    spark_log_end(w->log);
}

/* When every model that is loaded at start answers, and the front is up: once. */
static void warden_announce(warden *w, void (*banner)(const spark_config *c))
{
    if (w->announced || !w->front_up) return;
    for (uint32_t k = 0; k < w->config->n_models; k++) {
        const warden_model *m = &w->models[k];
        if (m->config->load == SPARK_LOAD_AT_START && !(m->current && m->current->taken)) return;
    }
    w->announced = true;
    warden_log_plan(w);
    spark_notify_systemd("READY=1\nSTATUS=serving %u models", w->config->n_models);
    if (banner) banner(w->config);
}

static int warden_patience(const warden *w)
{
    uint64_t next = earlier(w->tick_ns + 1, w->draining ? w->drain_end_ns : 0);
    const uint64_t now = spark_clock_ns();
    if (!w->draining && !w->front_alive) next = earlier(next, w->front_retry_ns + 1);
    for (uint32_t k = 0; k < w->config->n_models && !w->draining; k++)
        if (w->models[k].wanted && !w->models[k].current) next = earlier(next, w->models[k].retry_ns + 1);
    return next <= now ? 0 : (int)((next - now) / 1000000) + 1;
}

static bool warden_done(warden *w)
{
    if (w->stop || (w->draining && spark_clock_ns() >= w->drain_end_ns)) return true;
    if (!w->draining || !w->drained) return false;
    bool alive = false;
    for (uint32_t i = 0; i < WARDEN_INSTANCES; i++) { /* the front needs them no more, and is ended last */
        if (w->instances[i].state == INSTANCE_LOADING) warden_kill_engine(&w->instances[i]);
        if (w->instances[i].state == INSTANCE_READY) warden_drain_engine(w, &w->instances[i]);
        alive |= w->instances[i].state != INSTANCE_FREE;
    }
    return !alive;
}

/* Instances up to the last that is in use. No more are waited for: poll refuses more places than this process may have descriptors,
 * be they empty. */
static uint32_t warden_n_instances(const warden *w)
{
    uint32_t n = WARDEN_INSTANCES;
    while (n > 0 && w->instances[n - 1].state == INSTANCE_FREE) n--;
    return n;
}

/* Sleeps until one of p[n] has something. False: none has; and where it cannot wait, it ends. */
static bool warden_wait(warden *w, struct pollfd *p, uint32_t n)
{
    int ready = 0;
    spark_err err = {0};
    if (spark_ok(spark_poll(p, n, warden_patience(w), &ready, &err))) return ready > 0;
    spark_log_event(w->log, SPARK_LOG_ERROR, "warden_failed", NULL, err.text);
    w->exit_code = 1;
    w->stop = true;
    return false;
}

/* Sleeps until something happens, and does what it asks for. */
static void warden_turn(warden *w, int signals)
{
    const uint32_t n = warden_n_instances(w);
    struct pollfd p[3 + 2 * WARDEN_INSTANCES];
    p[0] = (struct pollfd){.fd = signals, .events = POLLIN};
    p[1] = (struct pollfd){.fd = w->front_alive ? w->control : -1, .events = POLLIN};
    p[2] = (struct pollfd){.fd = w->front_alive ? w->front.pidfd : -1, .events = POLLIN};
    for (uint32_t i = 0; i < n; i++) {
        const warden_instance *e = &w->instances[i];
        p[3 + 2 * i] = (struct pollfd){.fd = e->state == INSTANCE_FREE ? -1 : e->link, .events = POLLIN};
        p[4 + 2 * i] = (struct pollfd){.fd = e->state == INSTANCE_FREE ? -1 : e->cell.pidfd, .events = POLLIN};
    }
    if (!warden_wait(w, p, 3 + 2 * n)) return;
    if (p[1].revents) warden_read_front(w);
    if (p[2].revents) warden_front_ended(w);
    for (uint32_t i = 0; i < n; i++) {
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
    for (uint32_t i = 0; i < WARDEN_INSTANCES; i++) warden_opened_destroy(&w->instances[i].opened);
    for (uint32_t k = 0; k < w->config->n_models; k++) warden_opened_destroy(&w->models[k].kept);
    warden_stop_listening(w);
    warden_files_close(w);
    free(w->jail_json);
}

/* Descriptors of this process, with every model at the swap and one of its engines starting: its files are there once more then, until they
 * are in their places. */
static uint32_t warden_own_files(const spark_config *c)
{
    const uint32_t of_engine = 2 + CELL_FRONT_LINKS; /* its link, its pidfd, and the links that no front has yet */
    uint32_t files = 0, most = 0;
    for (uint32_t k = 0; k < c->n_models; k++) {
        const uint32_t n = warden_opened_count(&c->models[k]); /* of those kept, and as many of the new */
        files += 2 * n;
        most = n > most ? n : most;
    }
    return WARDEN_OWN_FILES + c->listen.n + 2 * c->n_models * of_engine + files + most;
}

/* Asked before anything is opened: descriptors for this process, and for a front that has few connections. The limit that holds is
 * raised to what this process may need. */
static spark_status warden_check_files(const spark_config *c, spark_err *err)
{
    struct rlimit files;
    const uint32_t least = c->max_connections < WARDEN_LEAST_CONNECTIONS ? c->max_connections
                                                                         : WARDEN_LEAST_CONNECTIONS;
    const uint32_t own = warden_own_files(c), front = least + WARDEN_FRONT_FILES, need = own > front ? own : front;
    SPARK_CHECK(getrlimit(RLIMIT_NOFILE, &files) == 0, err, SPARK_E_IO, SPARK_ERR_NOWHERE, "getrlimit: %s",
                strerror(errno));
    SPARK_CHECK(files.rlim_max >= need, err, SPARK_E_REFUSED, SPARK_ERR_NOWHERE,
                "%u descriptors are needed, and the system allows %" PRIu64
                "; raise ulimit -Hn (systemd: LimitNOFILE=) to %u at least",
                need, (uint64_t)files.rlim_max, need);
    if (files.rlim_cur >= own) return SPARK_SUCCESS;
    files.rlim_cur = own;
    SPARK_CHECK(setrlimit(RLIMIT_NOFILE, &files) == 0, err, SPARK_E_IO, SPARK_ERR_NOWHERE, "setrlimit: %s",
                strerror(errno));
    return SPARK_SUCCESS;
}

/* As many connections as the system grants descriptors for: told, if they are fewer than asked for. */
static void warden_fit_connections(warden *w)
{
    struct rlimit files;
    spark_config *c = w->config;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_max >= (uint64_t)c->max_connections + WARDEN_FRONT_FILES)
        return;
    c->max_connections = (uint32_t)files.rlim_max - WARDEN_FRONT_FILES; /* that there are enough was checked */
    c->origin[SPARK_SET_max_connections].source = SPARK_FROM_FLAG;      /* the front is told what holds */
    spark_log_say(w->log, SPARK_LOG_WARN, "max_connections",
                  "%u connections, since the system allows %llu descriptors (ulimit -Hn)", c->max_connections,
                  (unsigned long long)files.rlim_max);
}

static spark_status warden_open_log(warden *w, spark_err *err)
{
    spark_config *c = w->config;
    if (c->log_format == SPARK_LOG_AUTO) { /* decided once, for the cells too: they may not ask */
        c->log_format = isatty(STDERR_FILENO) ? SPARK_LOG_READABLE : SPARK_LOG_JSON;
        c->origin[SPARK_SET_log_format].source = SPARK_FROM_FLAG;
    }
    const int fd = spark_log_nonblocking(STDERR_FILENO);
    if (fd != STDERR_FILENO) { /* what the cells take over as theirs does not block either */
        (void)dup3(fd, STDERR_FILENO, 0);
        close(fd);
    }
    return spark_log_create(&w->log,
                            &(spark_log_options){.fd = STDERR_FILENO,
                                                 .level = (spark_log_level)c->log_level,
                                                 .format = (spark_log_format)c->log_format,
                                                 .cell = "warden"},
                            err);
}

/* What cells of this level have, for the front to show: each means that the system was asked for, and whether they have it. */
static spark_status warden_tell_means(warden *w, const spark_jail_report *granted, spark_err *err)
{
    spark_jail_report used = *granted;
    api_out o;
    if (w->level != SPARK_JAIL_STRICT) SPARK_TRY(spark_jail_probe_at(&used, w->level, err));
    api_out_init(&o, CONTROL_TEXT_MAX);
    api_out_fmt(&o, "{\"level\":\"%s\",\"reachable\":\"%s\",\"means\":[", spark_jail_level_name(w->level),
                spark_jail_level_name(granted->level));
    for (uint32_t i = 0; i < granted->n_means; i++) {
        const spark_jail_means *m = &granted->means[i], *own = NULL;
        for (uint32_t k = 0; k < used.n_means; k++)
            if (strcmp(used.means[k].name, m->name) == 0) own = &used.means[k];
        api_out_fmt(&o, "%s{\"name\":\"%s\",\"holds\":%s,\"required\":%s,\"detail\":", i ? "," : "", m->name,
                    own && own->holds ? "true" : "false", m->required[w->level] ? "true" : "false");
        api_out_cstr(&o, own ? own->why : m->holds ? "not used at this level" : m->why);
        api_out_str(&o, "}");
    }
    api_out_str(&o, "]}");
    w->jail_json = o.failed ? NULL : strndup((const char *)o.ptr, o.len);
    api_out_free(&o);
    SPARK_CHECK(w->jail_json, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "out of memory");
    return SPARK_SUCCESS;
}

/* The level that the operator demands; less is refused (law 5), with what is missing and what could be had. */
static spark_status warden_check_jail(warden *w, spark_err *err)
{
    static const spark_jail_level levels[] = {SPARK_JAIL_STRICT, SPARK_JAIL_STANDARD,
                                              SPARK_JAIL_OFF}; /* choices of `jail` */
    spark_jail_report r;
    w->level = levels[w->config->jail];
    SPARK_TRY(spark_jail_probe(&r, err));
    const spark_jail_means *m = spark_jail_missing(&r, w->level);
    SPARK_CHECK(!m, err, SPARK_E_REFUSED, SPARK_ERR_NOWHERE, "level %s cannot be had here: %s (%s); --jail %s can",
                spark_jail_level_name(w->level), m->name, m->why, spark_jail_level_name(r.level));
    return warden_tell_means(w, &r, err);
}

spark_status spark_warden_run(spark_config *c, spark_bytes keys, void (*banner)(const spark_config *c), int *exit_code,
                              spark_err *err)
{
    static warden the_warden; /* large, and the process has one */
    warden *w = &the_warden;
    *w = (warden){.config = c, .control = -1};
    for (uint32_t k = 0; k < c->n_models; k++)
        w->models[k] = (warden_model){.config = &c->models[k], .wanted = c->models[k].load == SPARK_LOAD_AT_START};
    SPARK_TRY(warden_check_files(c, err));
    const int signals = warden_signals();
    SPARK_TRY(warden_files_open(w, keys, err));
    w->front_memory = cell_front_plan(c);
    SPARK_CHECK(c->memory == 0 || c->memory > w->front_memory.planned, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE,
                "memory: the budget of %.0f MiB is less than the %.0f MiB that front and warden need",
                (double)c->memory / (1 << 20), (double)w->front_memory.planned / (1 << 20));
    SPARK_TRY(warden_check_jail(w, err));
    SPARK_CHECK(signals >= 0, err, SPARK_E_IO, SPARK_ERR_NOWHERE, "cannot take signals: %s", strerror(errno));
    SPARK_TRY(warden_open_log(w, err));
    warden_fit_connections(w);
    warden_look_for_files(w);
    SPARK_TRY(warden_listen(w, err));
    while (!warden_done(w)) {
        warden_start_wanted(w);
        warden_files_offer(w);
        warden_grant(w);
        warden_turn(w, signals);
        warden_tick(w); /* what came until now was heard */
        warden_announce(w, banner);
    }
    warden_end(w);
    if (w->exit_code) /* what was wrong stands above */
        spark_log_event(w->log, SPARK_LOG_ERROR, "stopped", NULL, w->announced ? "failed" : "the start failed");
    else
        spark_log_event(w->log, SPARK_LOG_INFO, "stopped", NULL, w->drained ? "drained" : "not drained");
    spark_log_destroy(&w->log);
    close(signals);
    *exit_code = w->exit_code;
    return SPARK_SUCCESS;
}
