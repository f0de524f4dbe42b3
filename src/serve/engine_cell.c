/* engine_cell.c - start and loop of an engine cell.
 *
 * Invariants: 1. a front's frames are looked at only while no event waits and the line out has room for any answer, so no answer is
 * ever lost; the warden's always, for they ask nothing that can wait; 2. the cell ends when the warden's link closes; 3. a front's link that closes or breaks its rules takes its
 * requests with it, and the next link serves the next front. */
#include "serve/engine_cell.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/clock.h"
#include "base/pages.h"
#include "serve/engine_cell_internal.h"
#include "serve/poll.h"
#include "text/json_heap.h"

enum {
    CELL_PROGRESS_NS = 100000000,
};

static int cell_say(const engine_cell *c, const char *what, const spark_err *err)
{
    fprintf(stderr, "spark: engine %s: %s%s%s\n", c->config.name, what, err ? ": " : "", err ? err->text : "");
    return 1;
}

/* ---- Before the door closes: the warden's word, threads ---- */

/* Writes what waits on the warden's link, sleeping while it is full. */
static spark_status cell_flush(cell_link *l, spark_err *err)
{
    while (spark_wire_pending(l->wire) > 0) {
        int ready = 0;
        SPARK_TRY(spark_wire_write(l->wire, l->fd, err));
        struct pollfd p = {.fd = l->fd, .events = POLLOUT};
        if (spark_wire_pending(l->wire) > 0) SPARK_TRY(spark_poll(&p, 1, -1, &ready, err));
    }
    return SPARK_SUCCESS;
}

/* The next frame of the warden, sleeping until it is there. */
static spark_status cell_await(engine_cell *c, spark_wire_type type, spark_wire_frame *f, spark_err *err)
{
    cell_link *l = &c->links[CELL_WARDEN];
    for (;;) {
        int ready = 0;
        bool has = false, closed = false;
        SPARK_TRY(spark_wire_next(l->wire, f, &has, err));
        if (has) {
            SPARK_CHECK(f->type == type, err, SPARK_E_STATE, SPARK_ERR_NOWHERE, "told to end before it was ready");
            return SPARK_SUCCESS;
        }
        struct pollfd p = {.fd = l->fd, .events = POLLIN};
        SPARK_TRY(spark_poll(&p, 1, -1, &ready, err));
        SPARK_TRY(spark_wire_read(l->wire, l->fd, &closed, err));
        SPARK_CHECK(!closed, err, SPARK_E_IO, SPARK_ERR_NOWHERE, "the warden is gone");
    }
}

static spark_status cell_await_config(engine_cell *c, spark_err *err)
{
    spark_wire_frame f;
    SPARK_TRY(cell_await(c, SPARK_WIRE_CONFIG, &f, err));
    return cell_config_parse(&c->config, f.payload, err);
}

static spark_status cell_start(engine_cell *c, const spark_jail_spec *spec, spark_err *err)
{
    static const uint32_t n_streams[CELL_N_LINKS] = {[CELL_FRONT] = SPARK_WIRE_STREAMS};
    for (uint32_t i = 0; i < CELL_N_LINKS; i++) {
        c->links[i].fd = -1;
        SPARK_TRY(spark_wire_create(&c->links[i].wire, SPARK_WIRE_ENGINE, n_streams[i], i == CELL_FRONT, err));
    }
    c->streams = calloc(SPARK_WIRE_STREAMS, sizeof(cell_stream));
    SPARK_CHECK(c->streams, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "out of memory");
    c->links[CELL_WARDEN].fd = CELL_FIRST_FD;
    SPARK_TRY(cell_await_config(c, err));
    SPARK_CHECK(spec->n_fds == 1 + c->config.n_links + c->config.n_files + c->config.has_public, err, SPARK_E_ARGUMENT,
                SPARK_ERR_NOWHERE, "%u descriptors, but %u links and %u files", spec->n_fds, c->config.n_links,
                c->config.n_files);
    SPARK_TRY(spark_pool_create(&c->pool, c->config.n_threads, err));
    spark_pool_pin(c->pool);
    (void)spark_isa_best();  /* asks Linux for AMX where there is some */
    api_text_prepare_cell(); /* from here on JSON lives in scratch */
    return spark_jail_open_phase(spec, err);
}

/* ---- Signs of life ---- */

/* A line without room holds enough of them already. */
static void cell_pong(engine_cell *c)
{
    (void)!spark_ok(
        spark_wire_put(c->links[CELL_WARDEN].wire, SPARK_WIRE_PONG, 0, (spark_bytes){0}, (spark_bytes){0}, NULL));
}

/* From within a pass: on a slow machine one of them can take minutes, and nothing is read meanwhile. */
static void cell_pulse(void *ctx)
{
    engine_cell *c = ctx;
    const uint64_t now = spark_clock_ns();
    if (now < c->next_pulse_ns) return;
    c->next_pulse_ns = now + (uint64_t)CELL_PULSE_MS * 1000000;
    cell_pong(c);
    (void)!spark_ok(
        spark_wire_write(c->links[CELL_WARDEN].wire, c->links[CELL_WARDEN].fd, NULL)); /* the loop will see */
}

/* ---- The model, and memory for all that will come ---- */

static spark_status cell_open_model(engine_cell *c, spark_err *err)
{
    spark_model_options o;
    int fds[SPARK_MAX_GGUF_SPLITS];
    spark_model_options_defaults(&o);
    o.n_threads = c->config.n_threads;
    if (c->config.cpu[0]) o.cpu = c->config.cpu;
    for (uint32_t i = 0; i < c->config.n_files; i++) fds[i] = CELL_FIRST_FD + 1 + (int)(c->config.n_links + i);
    if (c->config.n_files == 0)
        SPARK_TRY(spark_model_open_embedded(&c->model, &o, err));
    else
        SPARK_TRY(spark__model_open_fds(&c->model, fds, c->config.n_files, &o, err));
    c->model->pool = c->pool; /* moves */
    c->pool = NULL;
    return SPARK_SUCCESS;
}

/* Under a budget the warden divides it: it is told the least and the most, and says how much. */
static spark_status cell_await_grant(engine_cell *c, cell_plan *p, spark_err *err)
{
    uint8_t out[16];
    spark_wire_frame f;
    cell_link *w = &c->links[CELL_WARDEN];
    if (c->config.max_memory == 0) return SPARK_SUCCESS;
    spark_store_u64(out, p->least.planned);
    spark_store_u64(out + 8, p->most.planned);
    SPARK_TRY(spark_wire_put(w->wire, SPARK_WIRE_PLAN, 0, (spark_bytes){out, 16}, (spark_bytes){0}, err));
    SPARK_TRY(cell_flush(w, err));
    SPARK_TRY(cell_await(c, SPARK_WIRE_GRANT, &f, err));
    return cell_plan_fit(p, &c->config, c->model, spark_load_u64(f.payload.ptr), err);
}

typedef struct cell_loading {
    engine_cell *c;
    uint64_t last_ns;
} cell_loading;

static bool cell_progress(void *ctx, uint64_t done, uint64_t total)
{
    cell_loading *l = ctx;
    const uint64_t now = spark_clock_ns();
    if (done != total && now - l->last_ns < CELL_PROGRESS_NS) return true;
    l->last_ns = now;
    uint8_t out[16];
    spark_store_u64(out, done);
    spark_store_u64(out + 8, total);
    cell_link *w = &l->c->links[CELL_WARDEN];
    return spark_ok(spark_wire_put(w->wire, SPARK_WIRE_PROGRESS, 0, (spark_bytes){out, 16}, (spark_bytes){0}, NULL)) &&
           spark_ok(cell_flush(w, NULL));
}

static spark_status cell_make_ready(engine_cell *c, const cell_plan *p, spark_err *err)
{
    const spark_mark mark = spark_arena_mark(c->scratch);
    spark_json_heap_use(c->scratch);
    const char *text = cell_card_text(c->model, &p->engine);
    spark_json_heap_use(NULL);
    SPARK_CHECK(text, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory for the description of the model");
    const size_t len = strlen(text);
    c->ready = malloc(CELL_MEMORY_BYTES + len);
    if (c->ready) {
        cell_memory_put(c->ready, &p->memory);
        memcpy(c->ready + CELL_MEMORY_BYTES, text, len);
        c->ready_len = CELL_MEMORY_BYTES + len;
    }
    spark_arena_reset(c->scratch, mark);
    SPARK_CHECK(c->ready, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "out of memory");
    return SPARK_SUCCESS;
}

static spark_status cell_load(engine_cell *c, spark_err *err)
{
    cell_plan p = {0};
    cell_loading l = {c, 0};
    spark_pages pages = {0};
    SPARK_TRY(cell_open_model(c, err));
    SPARK_TRY(cell_plan_make(&p, &c->config, c->model, err));
    SPARK_TRY(cell_await_grant(c, &p, err));
    c->n_ctx = p.engine.n_ctx;
    SPARK_TRY(spark_model_load(c->model, cell_progress, &l, err));
    const spark_engine_parts parts = {.net = c->model->net,
                                      .kern = &c->model->kern,
                                      .tokenizer = c->model->tokenizer,
                                      .dry_breaks = c->model->dry_breaks,
                                      .pool = c->model->pool,
                                      .isa = c->model->isa,
                                      .pulse = cell_pulse,
                                      .pulse_ctx = c};
    SPARK_TRY(spark_engine_create(&c->engine, &parts, &p.engine, err));
    SPARK_TRY(spark_pages_alloc(&pages, p.text, "text of requests", err));
    SPARK_TRY(spark_arena_create_within(&c->scratch, pages.ptr, p.text, err));
    if (c->config.has_public)
        SPARK_TRY(cell_read_public(c, CELL_FIRST_FD + 1 + (int)(c->config.n_links + c->config.n_files), err));
    return cell_make_ready(c, &p, err);
}

/* ---- Asks ---- */

static spark_status cell_greet(engine_cell *c, uint32_t link)
{
    const size_t len = link == CELL_WARDEN ? CELL_MEMORY_BYTES : c->ready_len; /* the warden does not parse the rest */
    return spark_wire_put(c->links[link].wire, SPARK_WIRE_READY, 0, (spark_bytes){c->ready, len}, (spark_bytes){0},
                          NULL);
}

/* Takes the next of the links that were made for fronts. */
static void cell_next_front(engine_cell *c)
{
    cell_link *l = &c->links[CELL_FRONT];
    l->fd = -1;
    if (c->next_front == c->config.n_links) return;
    l->fd = CELL_FIRST_FD + 1 + (int)c->next_front++;
    spark_wire_reset(l->wire);
    l->used = false;
    (void)!spark_ok(cell_greet(c, CELL_FRONT)); /* an empty line has room */
    c->stats_due = true;                        /* so that pages are known before the first request */
}

/* Nobody is left to tell. */
static void cell_forget_events(engine_cell *c)
{
    for (spark_event e; spark_engine_event(c->engine, &e);) {
    }
}

static void cell_drop_front(engine_cell *c)
{
    c->stats_due = true;
    const cell_link *l = &c->links[CELL_FRONT];
    uint64_t stream;
    cell_forget_events(c); /* before a cancel makes one, too: they have room for what one step makes */
    for (uint32_t slot = 0; spark_wire_next_open(l->wire, &slot, &stream);) {
        spark_engine_cancel(c->engine, cell_request_id(CELL_FRONT, stream));
        cell_forget_events(c);
    }
    c->events_wait = false;
    cell_next_front(c); /* the old descriptor stays open, unused: the door lets no close through */
}

static void cell_take_credit(engine_cell *c, uint32_t link, uint64_t stream)
{
    cell_stream *s = &c->streams[spark_wire_slot(stream)];
    if (!s->held || spark_wire_credit(c->links[link].wire, stream) <= 0) return;
    s->held = false;
    spark_engine_hold(c->engine, cell_request_id(link, stream), false);
}

/* false: the link broke its rules. */
static bool cell_take_frame(engine_cell *c, uint32_t link, const spark_wire_frame *f)
{
    if ((f->type == SPARK_WIRE_DRAIN || f->type == SPARK_WIRE_PING) && link != CELL_WARDEN) return false;
    if (f->type == SPARK_WIRE_PING) {
        cell_pong(c);
        return true;
    }
    c->stats_due = true;
    c->links[link].used = true;
    if (f->type == SPARK_WIRE_ASK) cell_take_ask(c, link, f);
    if (f->type == SPARK_WIRE_CANCEL) spark_engine_cancel(c->engine, cell_request_id(link, f->stream));
    if (f->type == SPARK_WIRE_CREDIT) cell_take_credit(c, link, f->stream);
    if (f->type == SPARK_WIRE_DRAIN) c->draining = true;
    cell_pass_events(c);
    return true;
}

static bool cell_has_room(const engine_cell *c, const cell_link *l)
{
    return l == &c->links[CELL_WARDEN] || (!c->events_wait && spark_wire_room(l->wire) >= CELL_ROOM);
}

/* Reads and answers what a link brought. false: it is closed or broken. */
static bool cell_serve_link(engine_cell *c, uint32_t link, bool readable)
{
    cell_link *l = &c->links[link];
    spark_err err = {0};
    bool closed = false;
    spark_status s = SPARK_SUCCESS;
    if (readable) s = spark_wire_read(l->wire, l->fd, &closed, &err);
    for (l->more = true; spark_ok(s) && l->more && cell_has_room(c, l);) {
        spark_wire_frame f;
        s = spark_wire_next(l->wire, &f, &l->more, &err);
        if (spark_ok(s) && l->more && !cell_take_frame(c, link, &f))
            s = spark_fail(&err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE, "a front spoke as the warden");
        if (spark_ok(s) && (!l->more || !cell_has_room(c, l)))
            s = spark_wire_write(l->wire, l->fd, &err); /* may make room */
    }
    if (spark_ok(s)) s = spark_wire_write(l->wire, l->fd, &err);
    if (!spark_ok(s)) cell_say(c, link == CELL_FRONT ? "link of the front" : "link of the warden", &err);
    return spark_ok(s) && !closed;
}

/* Tells how things stand: every 100 ms while there is work, and once when it has ended. */
static void cell_put_stats(engine_cell *c, bool busy)
{
    const uint64_t now = spark_clock_ns();
    spark_engine_stats stats;
    uint8_t out[SPARK_STATS_BYTES];
    if (busy ? now < c->next_stats_ns : !c->stats_due) return;
    c->stats_due = busy;
    c->next_stats_ns = now + (uint64_t)CELL_STATS_MS * 1000000;
    spark_engine_stats_get(c->engine, &stats);
    spark_put_stats(out, &stats);
    for (uint32_t i = 0; i < CELL_N_LINKS; i++) /* a busy line goes without */
        if (c->links[i].fd >= 0)
            (void)!spark_ok(spark_wire_put(c->links[i].wire, SPARK_WIRE_STATS, 0, (spark_bytes){out, sizeof out},
                                           (spark_bytes){0}, NULL));
}

/* Whether what waits for room has it: where a line was emptied at once, no descriptor will tell. */
static bool cell_can_go_on(const engine_cell *c)
{
    const cell_link *front = &c->links[CELL_FRONT]; /* events go to no other */
    const bool room = front->fd < 0 || spark_wire_room(front->wire) >= SPARK_WIRE_PIECE_MAX;
    bool more = false;
    for (uint32_t i = 0; i < CELL_N_LINKS; i++) {
        const cell_link *l = &c->links[i];
        more |= l->fd >= 0 && l->more && cell_has_room(c, l);
    }
    return c->events_wait ? room : more;
}

/* Milliseconds that poll may sleep: 0 while there is work, else until the engine's next deadline. */
static int cell_patience(const engine_cell *c, bool busy)
{
    if (((busy || c->stats_due) && !c->events_wait) || cell_can_go_on(c)) return 0;
    const uint64_t next = spark_engine_next_ns(c->engine), now = spark_clock_ns();
    if (next == 0 || c->events_wait) return -1;
    return next <= now ? 0 : next - now > 60000000000u ? 60000 : (int)((next - now) / 1000000) + 1;
}

/* Told to drain, and nothing is left to answer (of events that wait the streams are open). What a front asked before it was told of the
 * drain is answered still: it lies in the link by then, so the caller has looked there last. */
static bool cell_drained(const engine_cell *c)
{
    if (!c->draining) return false;
    for (uint32_t i = 0; i < CELL_N_LINKS; i++)
        if (c->links[i].fd >= 0 && c->links[i].used &&
            (spark_wire_n_open(c->links[i].wire) || spark_wire_pending(c->links[i].wire)))
            return false;
    return true;
}

static int cell_loop(engine_cell *c)
{
    for (bool busy = false;;) {
        const bool drained = cell_drained(c);
        int ready = 0;
        spark_err err = {0};
        struct pollfd p[CELL_N_LINKS];
        for (uint32_t i = 0; i < CELL_N_LINKS; i++)
            p[i] = (struct pollfd){.fd = c->links[i].fd,
                                   .events = (short)((cell_has_room(c, &c->links[i]) ? POLLIN : 0) |
                                                     (spark_wire_pending(c->links[i].wire) ? POLLOUT : 0))};
        const bool settles = !busy && !drained && spark_engine_settle(c->engine);
        const int patience = drained || settles ? 0 : cell_patience(c, busy);
        if (!spark_ok(spark_poll(p, CELL_N_LINKS, patience, &ready, &err))) return cell_say(c, "ends", &err);
        if (ready == 0 && drained) return 0;
        if (c->events_wait) cell_pass_events(c);
        if (!cell_serve_link(c, CELL_WARDEN, p[CELL_WARDEN].revents & (POLLIN | POLLHUP))) return 0;
        if (p[CELL_FRONT].fd >= 0 && !cell_serve_link(c, CELL_FRONT, p[CELL_FRONT].revents & (POLLIN | POLLHUP)))
            cell_drop_front(c);
        if (c->events_wait) continue; /* full lines: nothing is computed that nobody takes */
        busy = spark_engine_step(c->engine);
        cell_pass_events(c);
        cell_put_stats(c, busy);
    }
}

int spark_engine_cell(const spark_jail_spec *spec)
{
    static engine_cell cell; /* large, and the process has one */
    engine_cell *c = &cell;
    spark_err err = {0};
    spark_status s = cell_start(c, spec, &err);
    if (!spark_ok(s)) return cell_say(c, "cannot start", &err);
    s = cell_load(c, &err);
    if (!spark_ok(s)) { /* the warden tells; the process ends as one that was asked for too much */
        uint8_t out[SPARK_FAILED_BYTES];
        const size_t n = spark_put_failed(out, &(spark_failed_message){err, 0});
        if (spark_ok(spark_wire_put(c->links[CELL_WARDEN].wire, SPARK_WIRE_BROKEN, 0, (spark_bytes){out, n},
                                    (spark_bytes){0}, NULL)))
            (void)!spark_ok(cell_flush(&c->links[CELL_WARDEN], NULL));
        return 1;
    }
    s = spark_jail_serve_phase(spec, &err);
    if (!spark_ok(s)) return cell_say(c, "cannot close its door", &err);
    (void)!spark_ok(cell_greet(c, CELL_WARDEN));
    cell_next_front(c);
    return cell_loop(c);
}
