/* front_links.c - links to engines: frames in, asks and credit out. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "serve/front_internal.h"

/* Writes what it can now, the rest when the socket takes it. */
static void link_flush(front_link *l)
{
    if (spark_ok(spark_wire_write(l->wire, l->fd, NULL)) && spark_wire_pending(l->wire)) event_add(l->writable, NULL);
    /* an engine that is gone is seen by reading */
}

static void link_on_writable(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    (void)what;
    link_flush(ctx);
}

/* ---- Asks ---- */

spark_status front_ask(front_choice *c, front_link *l, const spark_ask *a, spark_err *err)
{
    uint64_t stream = 0;
    const size_t size = spark_ask_size(a);
    SPARK_CHECK(size <= SPARK_WIRE_ASK_MAX, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "the request takes %zu bytes, of at most %d", size, SPARK_WIRE_ASK_MAX);
    SPARK_TRY(spark_wire_open(l->wire, &stream, err));
    uint8_t *bytes = malloc(size);
    SPARK_CHECK(bytes, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "out of memory");
    const size_t len = spark_ask_encode(a, bytes);
    const spark_status s = spark_wire_put(l->wire, SPARK_WIRE_ASK, stream, (spark_bytes){bytes, len}, (spark_bytes){0},
                                          err);
    free(bytes);
    SPARK_TRY(s);
    c->link = l;
    c->stream = stream;
    c->owed = c->window - SPARK_WIRE_FIRST_CREDIT;
    l->choices[spark_wire_slot(stream)] = c;
    front_choice_grant(c);
    link_flush(l);
    return SPARK_SUCCESS;
}

void front_choice_release(front_choice *c)
{
    front_link *l = c->link;
    if (!l) return;
    l->choices[spark_wire_slot(c->stream)] = NULL;
    c->link = NULL;
    if (!spark_wire_is_open(l->wire, c->stream)) return;
    if (!spark_ok(spark_wire_put(l->wire, SPARK_WIRE_CANCEL, c->stream, (spark_bytes){0}, (spark_bytes){0}, NULL)))
        l->cancel_due = true;
    link_flush(l);
}

/* What found no room before: every stream that runs for nobody. To cancel one twice does no harm. */
static void link_cancel_again(front_link *l)
{
    uint64_t stream;
    if (!l->cancel_due) return;
    for (uint32_t slot = 0; spark_wire_next_open(l->wire, &slot, &stream);) {
        if (l->choices[spark_wire_slot(stream)]) continue;
        if (!spark_ok(spark_wire_put(l->wire, SPARK_WIRE_CANCEL, stream, (spark_bytes){0}, (spark_bytes){0}, NULL)))
            return; /* at the next tick */
    }
    l->cancel_due = false;
    link_flush(l);
}

void front_choice_grant(front_choice *c)
{
    uint8_t n[4];
    if (!c->link || c->owed == 0 || c->owed < c->window / 2 || !spark_wire_is_open(c->link->wire, c->stream)) return;
    spark_store_u32(n, c->owed);
    if (!spark_ok(
            spark_wire_put(c->link->wire, SPARK_WIRE_CREDIT, c->stream, (spark_bytes){n, 4}, (spark_bytes){0}, NULL)))
        return; /* at the next piece, or tick */
    c->owed = 0;
    link_flush(c->link);
}

/* ---- Frames ---- */

/* The engine described its model: from now on new requests go to it. An engine that cannot is of no use: who waits is told, and so is the
 * warden, as the link is lost; where an engine of before serves, it goes on. */
static spark_status link_ready(front_link *l, spark_bytes payload, spark_err *err)
{
    front *f = l->f;
    front_model *m = &f->models[l->model];
    spark_arena *a = NULL;
    l->ready = true;
    if (l->retired) return SPARK_SUCCESS; /* its engine was told to go meanwhile */
    api_card card = {.name = m->config->name, .loaded = true, .created_s = (uint64_t)time(NULL)};
    spark_status s = spark_arena_create(&a, 2 * SPARK_WIRE_ASK_MAX, err);
    if (spark_ok(s)) s = cell_card_parse(&card, payload, a, err);
    if (!spark_ok(s)) {
        spark_arena_destroy(&a);
        if (m->link) return s; /* the engine of before goes on */
        m->state = CONTROL_MODEL_FAILED;
        snprintf(m->why, sizeof m->why, "%s", err->text);
        front_model_changed(f, m);
        return s;
    }
    spark_arena_destroy(&m->card_arena);
    m->card_arena = a;
    m->card = card;
    m->memory = cell_memory_get(payload.ptr);
    m->link = l;
    m->state = CONTROL_MODEL_READY;
    m->used_ns = spark_clock_ns();
    front_tell_value(f, CONTROL_SWITCHED, l->model, l->engine);
    front_model_changed(f, m);
    return SPARK_SUCCESS;
}

/* An error ends the link. */
static spark_status link_take(front_link *l, const spark_wire_frame *frame, spark_err *err)
{
    if (frame->type == SPARK_WIRE_READY) return link_ready(l, frame->payload, err);
    if (frame->type == SPARK_WIRE_STATS) return spark_get_stats(&l->stats, frame->payload, err);
    if (frame->stream == 0) return SPARK_SUCCESS;
    front_choice *c = l->choices[spark_wire_slot(frame->stream)];
    if (frame->type == SPARK_WIRE_FINISHED || frame->type == SPARK_WIRE_FAILED) {
        l->choices[spark_wire_slot(frame->stream)] = NULL;
        if (c) c->link = NULL;
    }
    if (c) front_job_event(c, frame);
    return SPARK_SUCCESS;
}

static void link_close(front_link *l)
{
    front *f = l->f;
    front_model *m = &f->models[l->model];
    front_link **at = &f->links;
    while (*at != l) at = &(*at)->next;
    *at = l->next;
    if (m->link == l) {
        m->link = NULL;
        m->state = CONTROL_MODEL_LOADING; /* the warden will tell how it goes on */
    }
    if (l->readable) event_free(l->readable);
    if (l->writable) event_free(l->writable);
    close(l->fd);
    spark_wire_destroy(&l->wire);
    free(l);
}

/* The engine is gone, or broke its rules: its requests fail, each with a typed error. */
static void link_lost(front_link *l, bool closed)
{
    front *f = l->f;
    if (!l->retired) front_tell_value(f, CONTROL_REFUSED, l->model, l->engine | (closed ? CONTROL_CLOSED : 0));
    for (uint32_t i = 0; i < FRONT_STREAMS; i++) {
        front_choice *c = l->choices[i];
        if (!c) continue;
        l->choices[i] = NULL;
        c->link = NULL;
        front_job_lost(c);
    }
    link_close(l);
}

static void link_on_readable(evutil_socket_t fd, short what, void *ctx)
{
    front_link *l = ctx;
    spark_err err = {0};
    bool closed = false;
    (void)what;
    spark_status s = spark_wire_read(l->wire, fd, &closed, &err);
    for (bool has = true; spark_ok(s) && has;) {
        spark_wire_frame frame;
        s = spark_wire_next(l->wire, &frame, &has, &err);
        if (spark_ok(s) && has) s = link_take(l, &frame, &err);
    }
    if (!spark_ok(s))
        spark_log_event(l->f->log, SPARK_LOG_ERROR, "engine_link_broken", l->f->models[l->model].config->name,
                        err.text);
    if (!spark_ok(s) || closed) link_lost(l, spark_ok(s));
}

/* ---- Links ---- */

static void link_refuse(front *f, uint32_t model, uint32_t engine, const char *why)
{
    spark_log_event(f->log, SPARK_LOG_ERROR, "engine_link", f->models[model].config->name, why);
    front_tell_value(f, CONTROL_REFUSED, model, engine);
}

void front_link_add(front *f, uint32_t model, uint32_t engine, int fd)
{
    spark_err err = {0};
    front_link *l = calloc(1, sizeof *l);
    if (!l || !spark_ok(spark_wire_create(&l->wire, SPARK_WIRE_CLIENT, FRONT_STREAMS, true, &err))) {
        link_refuse(f, model, engine, "out of memory");
        free(l);
        close(fd);
        return;
    }
    l->f = f;
    l->model = model;
    l->engine = engine;
    l->fd = fd;
    l->next = f->links;
    f->links = l;
    l->readable = event_new(f->base, fd, EV_READ | EV_PERSIST, link_on_readable, l);
    l->writable = event_new(f->base, fd, EV_WRITE, link_on_writable, l);
    if (l->readable && l->writable && event_add(l->readable, NULL) == 0) return;
    link_refuse(f, model, engine, "out of memory");
    link_close(l);
}

void front_link_retire(front *f, uint32_t model)
{
    f->models[model].link = NULL;
    for (front_link *l = f->links; l; l = l->next) l->retired |= l->model == model;
}

static bool link_is_waited_for(const front_link *l)
{
    for (uint32_t i = 0; i < FRONT_STREAMS; i++)
        if (l->choices[i]) return true;
    return false;
}

/* Of an engine that serves no new request: from here on the warden may end it. */
static void link_release(front_link *l)
{
    if (l->released || !(l->ready || l->retired) || link_is_waited_for(l)) return;
    l->released = true;
    front_tell_value(l->f, CONTROL_RELEASED, l->model, l->engine);
}

void front_links_sweep(front *f)
{
    for (front_link *l = f->links, *next; l; l = next) {
        next = l->next;
        link_cancel_again(l);
        if (f->models[l->model].link != l) link_release(l);
        if (!l->ready && ++l->ticks > FRONT_GREET_TICKS) {
            spark_log_event(f->log, SPARK_LOG_ERROR, "engine_link", f->models[l->model].config->name,
                            "its engine does not describe itself");
            link_lost(l, false);
            continue;
        }
        if (l->ready && f->models[l->model].link != l && spark_wire_n_open(l->wire) == 0) link_close(l);
    }
}
