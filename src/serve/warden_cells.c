/* warden_cells.c - starting cells, and what comes back from them. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/pool.h"
#include "serve/log.h"
#include "serve/messages.h"
#include "serve/sockets.h"
#include "serve/warden_internal.h"

uint64_t warden_backoff(uint64_t *backoff_ms, uint64_t ran_ms)
{
    if (ran_ms >= WARDEN_HEALTHY_MS) *backoff_ms = 0;
    const uint64_t wait = *backoff_ms;
    *backoff_ms = wait == 0 ? WARDEN_BACKOFF_MS : 2 * wait < WARDEN_BACKOFF_MAX_MS ? 2 * wait : WARDEN_BACKOFF_MAX_MS;
    return spark_clock_ns() + wait * 1000000;
}

static spark_status stream_pair(int fds[2], spark_err *err)
{
    SPARK_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0, err, SPARK_E_IO,
                SPARK_ERR_NOWHERE, "cannot make a socket pair: %s", strerror(errno));
    return SPARK_SUCCESS;
}

/* ---- The front ---- */

spark_status warden_start_front(warden *w, spark_err *err)
{
    int pair[2];
    SPARK_TRY(control_pair(pair, err));
    const spark_jail_spec spec = {.role = SPARK_JAIL_FRONT,
                                  .level = w->level,
                                  .fds = &pair[1],
                                  .n_fds = 1,
                                  .n_threads = 1,
                                  .max_files = w->config->max_connections + WARDEN_FRONT_FILES,
                                  .max_memory = w->config->memory ? w->front_memory.planned + WARDEN_FRONT_SLACK : 0,
                                  .uid = spark_jail_uid(w->cells_started++),
                                  .name = "front"};
    const spark_status s = spark_jail_start(&w->front, &spec, err);
    close(pair[1]);
    if (!spark_ok(s)) {
        close(pair[0]);
        return s;
    }
    w->control = pair[0];
    w->front_alive = true;
    w->fronts_started++;
    w->front_quiet = 0;
    w->front_resident = 0; /* this one was told nothing yet */
    for (uint32_t k = 0; k < w->config->n_models; k++) w->models[k].resident = 0;
    w->front_started_ns = spark_clock_ns();
    return warden_tell_all(w, err);
}

/* ---- Engines ---- */

static warden_instance *instance_free(warden *w)
{
    for (uint32_t i = 0; i < WARDEN_INSTANCES; i++)
        if (w->instances[i].state == INSTANCE_FREE) return &w->instances[i];
    return NULL;
}

/* What the budget leaves for engines that have nothing yet. */
static uint64_t warden_budget_left(const warden *w)
{
    uint64_t taken = w->front_memory.planned;
    for (uint32_t i = 0; i < WARDEN_INSTANCES; i++)
        if (w->instances[i].state != INSTANCE_FREE) taken += w->instances[i].planned;
    return taken < w->config->memory ? w->config->memory - taken : 0;
}

static void instance_close(warden_instance *i)
{
    for (uint32_t k = 0; k < CELL_FRONT_LINKS; k++)
        if (i->fronts[k] >= 0) close(i->fronts[k]);
    if (i->link >= 0) close(i->link);
    if (i->cell.pidfd >= 0) close(i->cell.pidfd);
    spark_wire_destroy(&i->wire);
    warden_opened_destroy(&i->opened);
    *i = (warden_instance){.state = INSTANCE_FREE};
}

_Static_assert(1 + CELL_FRONT_LINKS + SPARK_MAX_GGUF_SPLITS + 1 <= SPARK_JAIL_MAX_FDS, "links, files, public prefix");

typedef struct engine_fds {
    int fd[SPARK_JAIL_MAX_FDS];
    uint32_t n, n_links, n_files; /* n_links: ours to close, once the cell has them */
} engine_fds;

/* The descriptors of the cell: its ends of the links, then the files. Ours stay in the instance. */
static spark_status engine_open_fds(warden_instance *i, const warden_opened *o, engine_fds *f, spark_err *err)
{
    int pair[2];
    SPARK_TRY(stream_pair(pair, err));
    i->link = pair[0];
    f->fd[f->n_links++] = pair[1];
    for (uint32_t k = 0; k < CELL_FRONT_LINKS; k++) {
        SPARK_TRY(stream_pair(pair, err));
        i->fronts[k] = pair[0];
        f->fd[f->n_links++] = pair[1];
    }
    f->n = f->n_links + warden_opened_give(o, f->fd + f->n_links);
    f->n_files = warden_opened_n_files(o);
    return SPARK_SUCCESS;
}

static spark_status engine_send_config(const warden *w, warden_instance *i, const engine_fds *f, spark_err *err)
{
    cell_config c;
    cell_config_of(&c, w->config, w->models[i->model].config);
    c.n_links = CELL_FRONT_LINKS;
    c.n_files = f->n_files;
    c.max_memory = w->config->memory;
    char *text = cell_config_text(&c);
    SPARK_CHECK(text, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "out of memory");
    spark_status s = spark_wire_put(i->wire, SPARK_WIRE_CONFIG, 0, spark_bytes_of(text), (spark_bytes){0}, err);
    free(text);
    if (spark_ok(s)) s = spark_wire_write(i->wire, i->link, err); /* an empty socket takes it whole */
    return s;
}

static spark_status engine_start(warden *w, warden_instance *i, engine_fds *f, spark_err *err)
{
    const spark_config_model *m = w->models[i->model].config;
    char name[64];
    const uint32_t n_threads = m->threads ? m->threads : spark_cpu_count();
    SPARK_TRY(spark_wire_create(&i->wire, SPARK_WIRE_CLIENT, 0, false, err));
    SPARK_TRY(engine_open_fds(i, i->opened ? i->opened : w->models[i->model].kept, f, err));
    snprintf(name, sizeof name, "engine %.50s", m->name);
    const spark_jail_spec spec = {.role = SPARK_JAIL_ENGINE,
                                  .level = w->level,
                                  .fds = f->fd,
                                  .n_fds = f->n,
                                  .n_threads = n_threads,
                                  .max_memory = w->config->memory ? w->config->memory + cell_address_slack(n_threads)
                                                                  : 0, /* a backstop: its share is known only later */
                                  .uid = spark_jail_uid(i->cell_number),
                                  .name = name};
    SPARK_TRY(spark_jail_start(&i->cell, &spec, err));
    return engine_send_config(w, i, f, err);
}

spark_status warden_start_engine(warden *w, uint32_t model, warden_opened *opened, spark_err *err)
{
    warden_instance *i = instance_free(w);
    warden_model *m = &w->models[model];
    if (!i) warden_opened_destroy(&opened);
    SPARK_CHECK(i, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE, "too many engines at once");
    *i = (warden_instance){.model = model,
                           .cell_number = w->cells_started++,
                           .link = -1,
                           .cell = {0, -1},
                           .started_ns = spark_clock_ns(),
                           .opened = opened};
    for (uint32_t k = 0; k < CELL_FRONT_LINKS; k++) i->fronts[k] = -1;
    engine_fds f = {0};
    const spark_status s = engine_start(w, i, &f, err);
    for (uint32_t k = 0; k < f.n_links; k++) close(f.fd[k]);
    if (!spark_ok(s)) {
        warden_kill_engine(i);
        if (i->cell.pid > 0) (void)waitpid(i->cell.pid, NULL, 0);
        instance_close(i);
        return s;
    }
    i->state = INSTANCE_LOADING;
    if (m->current)
        m->other = i;
    else
        m->current = i;
    spark_log_begin(w->log, SPARK_LOG_INFO, "engine_started");
    spark_log_text(w->log, "model", m->config->name);
    spark_log_u64(w->log, "pid", (uint64_t)i->cell.pid);
    spark_log_end(w->log);
    return SPARK_SUCCESS;
}

void warden_drain_engine(const warden *w, warden_instance *i)
{
    i->state = INSTANCE_DRAINING;
    i->released = !w->front_alive;
    if (i->link < 0) return;
    (void)!spark_ok(spark_wire_put(i->wire, SPARK_WIRE_DRAIN, 0, (spark_bytes){0}, (spark_bytes){0}, NULL));
    (void)!spark_ok(spark_wire_write(i->wire, i->link, NULL)); /* one that is gone will be reaped */
}

void warden_kill_engine(const warden_instance *i)
{
    if (i->cell.pid > 0) kill(i->cell.pid, SIGKILL);
}

/* ---- What an engine says ---- */

/* Another engine that nobody asked for lately makes room, once the front sends it no more: it answers with UNLOAD. False: there
 * is none. */
static bool warden_evict(warden *w, uint32_t for_model)
{
    warden_model *oldest = NULL;
    for (uint32_t k = 0; k < w->config->n_models; k++) {
        warden_model *m = &w->models[k];
        if (k == for_model || !m->current || m->current->state != INSTANCE_READY || m->other || m->leaving) continue;
        if (m->config->load == SPARK_LOAD_AT_START) continue; /* the operator wants it there */
        if (!oldest || m->used_ns < oldest->used_ns) oldest = m;
    }
    if (!oldest) return false;
    spark_log_event(w->log, SPARK_LOG_INFO, "engine_evicted", oldest->config->name, w->models[for_model].config->name);
    oldest->wanted = false;
    oldest->leaving = true;
    if (w->front_alive)
        warden_tell_model(w, (uint32_t)(oldest - w->models), NULL);
    else
        warden_drain_engine(w, oldest->current);
    return true;
}

static bool warden_any(const warden *w, instance_state state, bool waits)
{
    for (uint32_t i = 0; i < WARDEN_INSTANCES; i++)
        if (w->instances[i].state == state && w->instances[i].waits == waits) return true;
    return false;
}

static bool warden_any_leaves(const warden *w)
{
    for (uint32_t k = 0; k < w->config->n_models; k++)
        if (w->models[k].leaving) return true;
    return false;
}

/* What engines hold that may be evicted. */
static uint64_t warden_evictable(const warden *w)
{
    uint64_t bytes = 0;
    for (uint32_t k = 0; k < w->config->n_models; k++) {
        const warden_model *m = &w->models[k];
        if (m->config->load != SPARK_LOAD_AT_START && m->current && m->current->state == INSTANCE_READY)
            bytes += m->current->planned;
    }
    return bytes;
}

static void engine_grant(warden *w, warden_instance *i, uint64_t bytes)
{
    uint8_t out[8];
    spark_err err = {0};
    i->waits = false;
    i->planned = bytes;
    i->quiet = 0; /* until now it waited for us */
    spark_store_u64(out, bytes);
    spark_status s = spark_wire_put(i->wire, SPARK_WIRE_GRANT, 0, (spark_bytes){out, 8}, (spark_bytes){0}, &err);
    if (spark_ok(s)) s = spark_wire_write(i->wire, i->link, &err);
    if (spark_ok(s)) return;
    spark_log_event(w->log, SPARK_LOG_ERROR, "engine_link_broken", w->models[i->model].config->name, err.text);
    warden_kill_engine(i);
}

/* Where models loaded on use do not all fit at once, the one that waits longest goes first, and the others wait until it can make room
 * for them. False: one that was to be there from the start does not fit, and is told so. */
static bool warden_oldest_alone(const warden *w, warden_instance **of, uint32_t n)
{
    uint32_t oldest = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (w->models[of[i]->model].config->load == SPARK_LOAD_AT_START) return false;
        if (of[i]->started_ns < of[oldest]->started_ns) oldest = i;
    }
    of[0] = of[oldest];
    return true;
}

void warden_grant(warden *w)
{
    cell_wish wish[WARDEN_INSTANCES];
    warden_instance *of[WARDEN_INSTANCES];
    uint32_t n = 0, n_short = 0;
    if (warden_any(w, INSTANCE_LOADING, false) || warden_any(w, INSTANCE_DRAINING, false) || warden_any_leaves(w))
        return; /* until all is known */
    for (uint32_t i = 0; i < WARDEN_INSTANCES; i++) {
        if (w->instances[i].state != INSTANCE_LOADING || w->instances[i].link < 0) continue;
        of[n] = &w->instances[i];
        wish[n++] = w->instances[i].wish;
    }
    cell_share(wish, n, warden_budget_left(w));
    while (n_short < n && wish[n_short].granted >= wish[n_short].least) n_short++;
    const uint64_t could = warden_budget_left(w) + warden_evictable(w); /* nobody goes for one that cannot fit */
    if (n_short < n && wish[n_short].least <= could && warden_evict(w, of[n_short]->model))
        return; /* again, once it has gone */
    if (n_short < n && warden_oldest_alone(w, of, n)) {
        wish[0] = of[0]->wish;
        n = 1;
        cell_share(wish, n, warden_budget_left(w));
    }
    for (uint32_t i = 0; i < n; i++) engine_grant(w, of[i], wish[i].granted);
}

/* A slow disk is no reason for systemd to give up. */
static void engine_has_progress(const warden *w, const warden_instance *i, const uint8_t *payload)
{
    if (w->announced) return;
    const uint64_t done = spark_load_u64(payload), total = spark_load_u64(payload + 8);
    spark_notify_systemd("EXTEND_TIMEOUT_USEC=30000000\nSTATUS=loading %.64s: %u %%", w->models[i->model].config->name,
                         (unsigned)((double)done * 100 / ((double)total + 1)));
}

static void engine_has_plan(warden *w, warden_instance *i, const uint8_t *payload)
{
    i->waits = true;
    i->wish = (cell_wish){.least = spark_load_u64(payload), .most = spark_load_u64(payload + 8)};
    if (i->wish.most < i->wish.least) i->wish.most = i->wish.least;
    if (w->config->memory == 0) warden_kill_engine(i); /* nobody asked it */
}

static void engine_log_ready(const warden *w, const warden_instance *i, const cell_memory *m)
{
    char text[CELL_MEMORY_TEXT];
    spark_log_begin(w->log, SPARK_LOG_INFO, "model_ready");
    spark_log_text(w->log, "model", w->models[i->model].config->name);
    spark_log_ms(w->log, "ms", spark_clock_ns() - i->started_ns);
    if (w->config->log_format == SPARK_LOG_READABLE) {
        spark_log_text(w->log, "memory", cell_memory_text(m, text));
    } else {
        spark_log_u64(w->log, "planned_bytes", m->planned);
#define WARDEN_PART(name, words) spark_log_u64(w->log, #name "_bytes", m->name);
        CELL_MEMORY_PARTS(WARDEN_PART)
#undef WARDEN_PART
    }
    spark_log_u64(w->log, "context", m->n_ctx);
    spark_log_u64(w->log, "whole_contexts", cell_memory_contexts(m));
    spark_log_u64(w->log, "parallel", m->n_running);
    spark_log_end(w->log);
}

/* It speaks out of turn: whatever it is, it is no engine of ours any more. */
static void engine_misbehaves(const warden *w, const warden_instance *i, const char *what)
{
    spark_log_event(w->log, SPARK_LOG_ERROR, "engine_link_broken", w->models[i->model].config->name, what);
    warden_kill_engine(i);
}

/* It loads no more, and why. Where it was to take the place of one that runs, that one goes on. */
static void engine_failed(warden *w, warden_instance *i, const spark_err *why)
{
    warden_model *m = &w->models[i->model];
    i->state = INSTANCE_DRAINING;
    warden_kill_engine(i); /* it ends by itself, if it is what we started */
    if (why->code == SPARK_E_MEMORY && m->current == i && warden_evict(w, i->model)) {
        m->retry_ns = spark_clock_ns(); /* again, once the other has gone */
        m->look_again |= warden_model_falls_back(m, i);
        return;
    }
    spark_log_event(w->log, SPARK_LOG_ERROR, "model_failed", m->config->name, why->text);
    if (!w->announced && m->config->load == SPARK_LOAD_AT_START) { /* a start that cannot succeed is told at once */
        w->exit_code = why->code == SPARK_E_ARGUMENT ? 2 : 1; /* a setting that the model cannot have is wrong usage */
        w->stop = true;
    }
    if (m->current != i) return;
    if (warden_model_falls_back(m, i)) { /* at once, of the files of before */
        m->retry_ns = spark_clock_ns();
        return;
    }
    m->retry_ns = warden_backoff(&m->backoff_ms, 0);
    if (m->backoff_ms < WARDEN_BACKOFF_MAX_MS / 8)
        m->backoff_ms = WARDEN_BACKOFF_MAX_MS / 8;                 /* a file seldom mends itself */
    if (m->config->load != SPARK_LOAD_AT_START) m->wanted = false; /* until somebody asks again */
    warden_tell_model(w, i->model, why->text);
}

static void engine_is_broken(warden *w, warden_instance *i, spark_bytes payload)
{
    spark_failed_message f;
    spark_err err = {0};
    if (!spark_ok(spark_get_failed(&f, payload, &err))) f.err = err;
    engine_failed(w, i, &f.err);
}

static void engine_is_ready(warden *w, warden_instance *i, const uint8_t *payload)
{
    const cell_memory memory = cell_memory_get(payload);
    warden_model *m = &w->models[i->model];
    spark_err err = {0};
    if (w->config->memory && memory.planned > i->planned) {
        engine_misbehaves(w, i, "it plans more memory than it was granted");
        return;
    }
    if (!spark_ok(warden_model_check_read(w, i, &err))) {
        engine_failed(w, i, &err);
        return;
    }
    i->planned = memory.planned;
    i->state = INSTANCE_READY;
    i->greeted = true;
    engine_log_ready(w, i, &memory);
    if (w->announced) warden_log_plan(w);
    if (m->other == i) { /* the front goes over to it, says so, and then the old one drains */
        warden_instance *old = m->current;
        m->current = i;
        m->other = old;
    }
    warden_tell_model(w, i->model, NULL);
}

void warden_read_engine(warden *w, warden_instance *i)
{
    spark_err err = {0};
    bool closed = false, has = true;
    spark_status s = spark_wire_read(i->wire, i->link, &closed, &err);
    while (spark_ok(s) && has) {
        spark_wire_frame f;
        s = spark_wire_next(i->wire, &f, &has, &err);
        if (!spark_ok(s) || !has) break;
        i->quiet = 0;
        if (f.type == SPARK_WIRE_PROGRESS) engine_has_progress(w, i, f.payload.ptr);
        if (f.type == SPARK_WIRE_PROGRESS || f.type == SPARK_WIRE_STATS || f.type == SPARK_WIRE_PONG) continue;
        if (i->state != INSTANCE_LOADING || (f.type == SPARK_WIRE_PLAN && (i->waits || i->planned))) {
            engine_misbehaves(w, i, "it says twice how loading goes");
            return;
        }
        if (f.type == SPARK_WIRE_PLAN) engine_has_plan(w, i, f.payload.ptr);
        if (f.type == SPARK_WIRE_READY) engine_is_ready(w, i, f.payload.ptr);
        if (f.type == SPARK_WIRE_BROKEN) engine_is_broken(w, i, f.payload);
    }
    if (spark_ok(s) && !closed) return;
    if (!spark_ok(s)) engine_misbehaves(w, i, err.text);
    warden_kill_engine(i); /* whether it ends by itself or thought to live on without us */
    close(i->link);        /* the end of its process is seen by its pidfd */
    i->link = -1;
}

/* ---- What the front says of an engine ---- */

static warden_instance *engine_of(const warden *w, uint32_t model, uint64_t engine)
{
    const warden_model *m = &w->models[model];
    warden_instance *const both[] = {m->current, m->other};
    for (size_t k = 0; k < SPARK_COUNT(both); k++)
        if (both[k] && both[k]->cell_number == (uint32_t)engine) return both[k];
    return NULL;
}

void warden_engine_switched(warden *w, uint32_t model, uint64_t engine)
{
    warden_model *m = &w->models[model];
    warden_instance *i = engine_of(w, model, engine);
    if (!i || i != m->current || i->state == INSTANCE_LOADING) return;
    i->taken = true;
    if (i->state == INSTANCE_READY) warden_model_accept(m, i); /* else it was put out meanwhile */
    if (m->other && m->other->state == INSTANCE_READY) warden_drain_engine(w, m->other);
}

/* The new engine of a swap is of no use: the one of before, which the front has never left, goes on. The next reload tries again. */
static void warden_swap_back(warden *w, uint32_t model)
{
    warden_model *m = &w->models[model];
    warden_instance *refused = m->current;
    m->current = m->other;
    m->other = refused;
    refused->state = INSTANCE_DRAINING;
    warden_kill_engine(refused);
    spark_log_event(w->log, SPARK_LOG_ERROR, "model_swap_failed", m->config->name,
                    "the front cannot use the new engine; the one of before goes on");
    if (m->current->given_to != w->fronts_started) warden_tell_model(w, model, NULL);
}

void warden_engine_refused(warden *w, uint32_t model, uint64_t engine)
{
    warden_model *m = &w->models[model];
    warden_instance *i = engine_of(w, model, engine);
    if (!i || i->state != INSTANCE_READY || i->refused) return;
    if (i == m->current && !i->taken && m->other && m->other->state == INSTANCE_READY) {
        warden_swap_back(w, model);
        return;
    }
    i->refused = 1; /* if it has not ended by itself: soon */
    if (engine & CONTROL_CLOSED || w->announced || m->config->load != SPARK_LOAD_AT_START) return;
    spark_log_event(w->log, SPARK_LOG_ERROR, "model_failed", m->config->name, "the front cannot use its engine");
    w->exit_code = 1; /* a start that cannot succeed */
    w->stop = true;
}

void warden_engine_released(warden *w, uint32_t model, uint64_t engine)
{
    warden_instance *i = engine_of(w, model, engine);
    if (i && i->state == INSTANCE_DRAINING) i->released = true;
}

const char *warden_status_text(int status, char buf[WARDEN_STATUS_TEXT])
{
    if (WIFSIGNALED(status))
        snprintf(buf, WARDEN_STATUS_TEXT, "signal %d", WTERMSIG(status));
    else
        snprintf(buf, WARDEN_STATUS_TEXT, "exit %d", WEXITSTATUS(status));
    return buf;
}

void warden_engine_ended(warden *w, warden_instance *i)
{
    int status = 0;
    char how[WARDEN_STATUS_TEXT];
    warden_model *m = &w->models[i->model];
    if (i->link >= 0) warden_read_engine(w, i); /* its last words */
    (void)waitpid(i->cell.pid, &status, 0);
    const bool expected = i->state == INSTANCE_DRAINING;
    const uint64_t ran_ms = (spark_clock_ns() - i->started_ns) / 1000000;
    spark_log_event(w->log, expected ? SPARK_LOG_INFO : SPARK_LOG_ERROR, "engine_ended", m->config->name,
                    warden_status_text(status, how));
    const bool was_current = m->current == i;
    if (was_current) {
        m->current = m->other; /* a successor that loads still, or none */
        m->other = NULL;
        if (m->leaving) warden_model_put_out(m);
        m->leaving = false;
    } else if (m->other == i) {
        m->other = NULL;
    }
    instance_close(i);
    if (was_current && !expected) m->retry_ns = warden_backoff(&m->backoff_ms, ran_ms);
    if (!expected) m->restarts++;
    if (!expected) warden_tell_restarts(w, (uint32_t)(m - w->models));
    if (!was_current || (m->current && m->current->state == INSTANCE_READY)) return;
    if (w->draining) {
        warden_tell_model(w, (uint32_t)(m - w->models), WARDEN_ENDS);
        return;
    }
    /* The first time it starts again at once, and requests may wait for it; then they are told. */
    const bool waits = expected || m->retry_ns <= spark_clock_ns();
    warden_tell_model(w, (uint32_t)(m - w->models),
                      waits ? NULL : "its engine ended unexpectedly and will be started again");
}
