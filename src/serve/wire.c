/* wire.c - one end of a link: a table of what may come when, two buffers, the states of streams.
 *
 * Invariants: 1. in: [begin, end) of the input buffer is what was read and not yet handed out; 2. a slot is open from ASK to
 * FINISHED or FAILED, on both ends, and its generation only grows; 3. broken stands forever. */
#include "serve/wire.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct wire_rule {
    const char *name;
    spark_wire_side from;
    spark_wire_when when;
    uint32_t min, max;
} wire_rule;

static const wire_rule wire_rules[SPARK_WIRE_N_TYPES] = {
#define WIRE_RULE(name, from, when, min, max)                                                                          \
    [SPARK_WIRE_##name] = {#name, SPARK_WIRE_##from, SPARK_WIRE_##when, (min), (max)},
    SPARK_WIRE_FRAMES(WIRE_RULE)
#undef WIRE_RULE
};

typedef struct wire_stream {
    int64_t credit; /* what may still be sent to the client */
    uint32_t generation;
    bool open, answered; /* answered: DATA was */
} wire_stream;

typedef enum wire_link { LINK_IS_NEW, LINK_IS_CONFIGURED, LINK_IS_READY } wire_link;

struct spark_wire {
    spark_wire_side side;
    wire_link first, link;
    uint32_t n_streams, n_open, search; /* search: where the next free slot is looked for */
    wire_stream *streams;
    uint8_t *in, *out;
    size_t in_cap, begin, end;
    size_t out_cap, out_begin, out_end;
    bool broken;
    spark_err why;
};

/* A line in holds the largest frame and many small ones behind it. A client's line out holds two of the largest, so that one can
 * be written while the next is put in line; an engine's answers are seldom so large. Frames of a link without streams are small. */
enum { WIRE_SMALL = 1 << 20, WIRE_CONFIG_MAX = 64 << 10 };
static size_t wire_in_cap(uint32_t n_streams)
{
    return n_streams ? SPARK_WIRE_ASK_MAX + WIRE_SMALL : 2 * (WIRE_CONFIG_MAX + SPARK_WIRE_HEAD);
}

static size_t wire_out_cap(spark_wire_side side, uint32_t n_streams)
{
    return side == SPARK_WIRE_CLIENT && n_streams ? 2 * (SPARK_WIRE_ASK_MAX + SPARK_WIRE_HEAD) : wire_in_cap(n_streams);
}

size_t spark_wire_bytes(spark_wire_side side, uint32_t n_streams)
{
    return sizeof(spark_wire) + n_streams * sizeof(wire_stream) + wire_in_cap(n_streams) +
           wire_out_cap(side, n_streams);
}

spark_status spark_wire_create(spark_wire **out, spark_wire_side side, uint32_t n_streams, bool configured,
                               spark_err *err)
{
    assert(n_streams <= SPARK_WIRE_STREAMS);
    spark_wire *w = calloc(1, sizeof *w);
    SPARK_CHECK(w, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "out of memory");
    *w = (spark_wire){.side = side,
                      .first = configured ? LINK_IS_CONFIGURED : LINK_IS_NEW,
                      .link = configured ? LINK_IS_CONFIGURED : LINK_IS_NEW,
                      .n_streams = n_streams,
                      .streams = calloc(n_streams + !n_streams, sizeof *w->streams),
                      .in_cap = wire_in_cap(n_streams),
                      .out_cap = wire_out_cap(side, n_streams)};
    w->in = malloc(w->in_cap); /* not calloc: what is not touched takes no memory either way, and reads come first */
    w->out = malloc(w->out_cap);
    if (!w->streams || !w->in || !w->out) {
        spark_wire_destroy(&w);
        return spark_fail(err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "out of memory");
    }
    *out = w;
    return SPARK_SUCCESS;
}

void spark_wire_destroy(spark_wire **wire)
{
    spark_wire *w = *wire;
    if (!w) return;
    free(w->streams);
    free(w->in);
    free(w->out);
    free(w);
    *wire = NULL;
}

void spark_wire_reset(spark_wire *w)
{
    memset(w->streams, 0, w->n_streams * sizeof *w->streams);
    w->link = w->first;
    w->n_open = w->search = 0;
    w->begin = w->end = w->out_begin = w->out_end = 0;
    w->broken = false;
}

/* ---- Streams ---- */

static wire_stream *wire_find(const spark_wire *w, uint64_t stream)
{
    return spark_wire_slot(stream) < w->n_streams ? &w->streams[spark_wire_slot(stream)] : NULL;
}

static uint32_t wire_generation(uint64_t stream) { return (uint32_t)(stream >> 32); }

bool spark_wire_is_open(const spark_wire *w, uint64_t stream)
{
    const wire_stream *s = wire_find(w, stream);
    return s && s->open && s->generation == wire_generation(stream);
}

int64_t spark_wire_credit(const spark_wire *w, uint64_t stream)
{
    return spark_wire_is_open(w, stream) ? wire_find(w, stream)->credit : 0;
}

uint32_t spark_wire_n_open(const spark_wire *w) { return w->n_open; }

bool spark_wire_next_open(const spark_wire *w, uint32_t *slot, uint64_t *stream)
{
    for (; *slot < w->n_streams; ++*slot) {
        if (!w->streams[*slot].open) continue;
        *stream = *slot | (uint64_t)w->streams[*slot].generation << 32;
        ++*slot;
        return true;
    }
    return false;
}

spark_status spark_wire_open(spark_wire *w, uint64_t *stream, spark_err *err)
{
    assert(w->side == SPARK_WIRE_CLIENT);
    SPARK_CHECK(w->link == LINK_IS_READY, err, SPARK_E_STATE, SPARK_ERR_NOWHERE, "the engine is not ready");
    SPARK_CHECK(w->n_open < w->n_streams, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "all %u streams to the engine are in use", w->n_streams);
    while (w->streams[w->search].open || w->streams[w->search].generation == UINT32_MAX)
        w->search = (w->search + 1) % w->n_streams;
    *stream = w->search | (uint64_t)(w->streams[w->search].generation + 1) << 32;
    return SPARK_SUCCESS;
}

static void wire_open(spark_wire *w, uint64_t stream)
{
    *wire_find(w, stream) = (wire_stream){SPARK_WIRE_FIRST_CREDIT, wire_generation(stream), true, false};
    w->n_open++;
}

/* What a frame does to link and streams, on the end that sends it and on the end that gets it alike. */
static void wire_apply(spark_wire *w, const spark_wire_frame *f)
{
    wire_stream *s = wire_find(w, f->stream);
    if (f->type == SPARK_WIRE_CONFIG) w->link = LINK_IS_CONFIGURED;
    if (f->type == SPARK_WIRE_READY) w->link = LINK_IS_READY;
    if (f->type == SPARK_WIRE_ASK) wire_open(w, f->stream);
    if (f->type == SPARK_WIRE_PIECE) s->credit -= (int64_t)f->payload.len;
    if (f->type == SPARK_WIRE_DATA) s->answered = true;
    if (f->type == SPARK_WIRE_CREDIT) s->credit += spark_load_u32(f->payload.ptr);
    if (f->type == SPARK_WIRE_FINISHED || f->type == SPARK_WIRE_FAILED) {
        s->open = false;
        w->n_open--;
    }
}

/* ---- In ---- */

static spark_status wire_break(spark_wire *w, const spark_wire_frame *f, const char *what, spark_err *err)
{
    w->broken = true;
    spark_err_set(&w->why, SPARK_E_FORMAT, SPARK_ERR_NOWHERE, "the other end of the link broke its rules: %s %s",
                  f ? wire_rules[f->type].name : "frame", what);
    if (err) *err = w->why;
    return (spark_status){SPARK_E_FORMAT};
}

/* Whether a frame may come now. NULL: yes. *crossed: it was sent before its sender could know that the stream had ended. */
static const char *wire_judge(const spark_wire *w, const spark_wire_frame *f, bool *crossed)
{
    const wire_rule *r = &wire_rules[f->type];
    const wire_stream *s = wire_find(w, f->stream);
    const uint32_t generation = wire_generation(f->stream);
    switch (r->when) {
    case SPARK_WIRE_LINK_ANY: return f->stream != 0 ? "names a stream" : NULL;
    case SPARK_WIRE_LINK_NEW: return f->stream != 0 || w->link != LINK_IS_NEW ? "came again" : NULL;
    case SPARK_WIRE_LINK_CONFIGURED: return f->stream != 0 || w->link != LINK_IS_CONFIGURED ? "came out of turn" : NULL;
    case SPARK_WIRE_LINK_READY:
        return f->stream != 0 || w->link != LINK_IS_READY ? "came before the link was ready" : NULL;
    case SPARK_WIRE_STREAM_NEW:
        if (w->link != LINK_IS_READY) return "came before the link was ready";
        if (!s) return "names a stream beyond the limit";
        return s->open || generation <= s->generation ? "opens a stream that was in use" : NULL;
    case SPARK_WIRE_STREAM_OPEN:
        if (!s || generation > s->generation || generation == 0) return "names a stream that never was";
        *crossed = !s->open || generation < s->generation;
        return *crossed && r->from == SPARK_WIRE_ENGINE ? "came after the end of its stream" : NULL;
    }
    return "has no rule";
}

static const char *wire_judge_credit(const spark_wire *w, const spark_wire_frame *f)
{
    const wire_stream *s = wire_find(w, f->stream);
    if (f->type == SPARK_WIRE_PIECE && s->credit <= -SPARK_WIRE_OVERDRAFT) return "came without credit";
    if (f->type == SPARK_WIRE_DATA && s->answered) return "came twice";
    if (f->type == SPARK_WIRE_CREDIT && s->credit > INT64_MAX / 2) return "grants more than can be counted";
    return NULL;
}

size_t spark_wire_feed(spark_wire *w, spark_bytes in)
{
    if (w->begin == w->end) w->begin = w->end = 0;
    if (w->in_cap - w->end < in.len && w->begin > 0) { /* each byte moves once in half a buffer's worth of reading */
        memmove(w->in, w->in + w->begin, w->end - w->begin);
        w->end -= w->begin;
        w->begin = 0;
    }
    const size_t n = in.len < w->in_cap - w->end ? in.len : w->in_cap - w->end;
    if (n) memcpy(w->in + w->end, in.ptr, n);
    w->end += n;
    return n;
}

spark_status spark_wire_read(spark_wire *w, int fd, bool *closed, spark_err *err)
{
    (void)spark_wire_feed(w, (spark_bytes){0});
    *closed = false;
    if (w->end == w->in_cap) {
        memmove(w->in, w->in + w->begin, w->end - w->begin);
        w->end -= w->begin;
        w->begin = 0;
    }
    const ssize_t n = read(fd, w->in + w->end, w->in_cap - w->end);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return SPARK_SUCCESS;
    SPARK_CHECK(n >= 0 || errno == ECONNRESET, err, SPARK_E_IO, SPARK_ERR_NOWHERE, "cannot read a link: %s",
                strerror(errno));
    if (n > 0) w->end += (size_t)n;
    *closed = n <= 0 && w->end < w->in_cap;
    return SPARK_SUCCESS;
}

/* The frame at the beginning of the input; *has false if it is not whole yet. */
static spark_status wire_parse(spark_wire *w, spark_wire_frame *f, bool *has, spark_err *err)
{
    const uint8_t *p = w->in + w->begin;
    *has = false;
    if (w->end - w->begin < SPARK_WIRE_HEAD) return SPARK_SUCCESS;
    const uint32_t len = spark_load_u32(p), type = spark_load_u16(p + 4);
    if (type >= SPARK_WIRE_N_TYPES || spark_load_u16(p + 6) != 0) return wire_break(w, NULL, "of an unknown type", err);
    *f = (spark_wire_frame){(spark_wire_type)type, spark_load_u64(p + 8), {p + SPARK_WIRE_HEAD, len}};
    if (wire_rules[type].from == w->side) return wire_break(w, f, "came from the wrong side", err);
    if (len < wire_rules[type].min || len > wire_rules[type].max || len > w->in_cap - SPARK_WIRE_HEAD)
        return wire_break(w, f, "has a length out of bounds", err);
    *has = w->end - w->begin - SPARK_WIRE_HEAD >= len;
    return SPARK_SUCCESS;
}

spark_status spark_wire_next(spark_wire *w, spark_wire_frame *out, bool *has, spark_err *err)
{
    for (;;) {
        *has = false;
        if (w->broken) {
            if (err) *err = w->why;
            return (spark_status){w->why.code};
        }
        spark_wire_frame f;
        bool crossed = false;
        SPARK_TRY(wire_parse(w, &f, has, err));
        if (!*has) return SPARK_SUCCESS;
        const char *wrong = wire_judge(w, &f, &crossed);
        if (!wrong && !crossed && wire_rules[f.type].when == SPARK_WIRE_STREAM_OPEN) wrong = wire_judge_credit(w, &f);
        if (wrong) return wire_break(w, &f, wrong, err);
        w->begin += SPARK_WIRE_HEAD + f.payload.len;
        if (crossed) continue;
        wire_apply(w, &f);
        *out = f;
        return SPARK_SUCCESS;
    }
}

/* ---- Out ---- */

size_t spark_wire_pending(const spark_wire *w) { return w->out_end - w->out_begin; }

size_t spark_wire_room(const spark_wire *w)
{
    const size_t left = w->out_cap - spark_wire_pending(w);
    return left > SPARK_WIRE_HEAD ? left - SPARK_WIRE_HEAD : 0;
}

spark_bytes spark_wire_peek(const spark_wire *w) { return (spark_bytes){w->out + w->out_begin, spark_wire_pending(w)}; }

void spark_wire_wrote(spark_wire *w, size_t n)
{
    assert(n <= spark_wire_pending(w));
    w->out_begin += n;
    if (w->out_begin == w->out_end) w->out_begin = w->out_end = 0;
}

spark_status spark_wire_put(spark_wire *w, spark_wire_type type, uint64_t stream, spark_bytes head, spark_bytes tail,
                            spark_err *err)
{
    const size_t len = head.len + tail.len, whole = SPARK_WIRE_HEAD + len;
    bool crossed = false;
    SPARK_CHECK(whole <= w->out_cap - spark_wire_pending(w), err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE, "the link is busy");
    if (w->out_cap - w->out_end < whole) {
        memmove(w->out, w->out + w->out_begin, spark_wire_pending(w));
        w->out_end -= w->out_begin;
        w->out_begin = 0;
    }
    uint8_t *p = w->out + w->out_end;
    spark_store_u32(p, (uint32_t)len);
    spark_store_u16(p + 4, (uint16_t)type);
    spark_store_u16(p + 6, 0);
    spark_store_u64(p + 8, stream);
    if (head.len) memcpy(p + SPARK_WIRE_HEAD, head.ptr, head.len);
    if (tail.len) memcpy(p + SPARK_WIRE_HEAD + head.len, tail.ptr, tail.len);
    const spark_wire_frame f = {type, stream, {p + SPARK_WIRE_HEAD, len}};
    assert(wire_rules[type].from == w->side && len >= wire_rules[type].min && len <= wire_rules[type].max);
    const char *wrong = wire_judge(w, &f, &crossed);
    assert(!wrong && !crossed);
    (void)wrong;
    w->out_end += whole;
    wire_apply(w, &f);
    return SPARK_SUCCESS;
}

spark_status spark_wire_write(spark_wire *w, int fd, spark_err *err)
{
    if (spark_wire_pending(w) == 0) return SPARK_SUCCESS;
    const ssize_t n = write(fd, w->out + w->out_begin, spark_wire_pending(w)); /* SIGPIPE is ignored in every cell */
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return SPARK_SUCCESS;
    SPARK_CHECK(n >= 0, err, SPARK_E_IO, SPARK_ERR_NOWHERE, "cannot write to a link: %s", strerror(errno));
    spark_wire_wrote(w, (size_t)n);
    return SPARK_SUCCESS;
}
