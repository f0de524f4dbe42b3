/* wire_fuzz.c - a link whose other end sends any bytes: spark_wire_feed, spark_wire_next, and the payloads behind it, the
 * description of a model among them (cell_card_parse). The first byte picks the end, the second how the bytes are cut; a second end gets
 * them in one piece and must see the same frames. */
#include <stdlib.h>

#include "serve/cell_config.h"
#include "serve/cell_plan.h"
#include "serve/front_internal.h"
#include "serve/messages.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STREAMS = 8 };

static spark_wire *fuzz_end(spark_wire_side side, bool ready)
{
    spark_wire *w = NULL;
    spark_err err;
    if (!spark_ok(spark_wire_create(&w, side, STREAMS, true, &err))) abort();
    if (!ready) return w;
    static const uint8_t zero[CELL_MEMORY_BYTES];
    uint8_t head[SPARK_WIRE_HEAD] = {CELL_MEMORY_BYTES, 0, 0, 0, SPARK_WIRE_READY};
    spark_wire_frame f;
    bool has = false;
    if (side == SPARK_WIRE_ENGINE) {
        if (!spark_ok(spark_wire_put(w, SPARK_WIRE_READY, 0, (spark_bytes){zero, sizeof zero}, (spark_bytes){0}, &err)))
            abort();
        return w;
    }
    spark_wire_feed(w, (spark_bytes){head, sizeof head});
    spark_wire_feed(w, (spark_bytes){zero, sizeof zero});
    if (!spark_ok(spark_wire_next(w, &f, &has, &err)) || !has) abort();
    for (int i = 0; i < STREAMS / 2; i++) { /* some streams are open */
        uint64_t s = 0;
        if (!spark_ok(spark_wire_open(w, &s, &err)) ||
            !spark_ok(spark_wire_put(w, SPARK_WIRE_ASK, s, (spark_bytes){zero, 8}, (spark_bytes){0}, &err)))
            abort();
    }
    return w;
}

/* What an engine says of its model, as the front reads it. */
static uint64_t fuzz_card(spark_bytes ready)
{
    api_card card = {.name = "m"};
    spark_arena *a = NULL;
    spark_err err;
    uint64_t sum = 0;
    if (!spark_ok(spark_arena_create(&a, 1 << 20, &err))) abort();
    if (spark_ok(cell_card_parse(&card, ready, a, &err))) sum = strlen(card.arch) + card.n_ctx;
    spark_arena_destroy(&a);
    return sum;
}

/* A frame that was let through keeps what the table says. */
static uint64_t fuzz_payload(const spark_wire_frame *f)
{
    static spark_piece_message piece;
    spark_started_message started;
    spark_finished_message finished;
    spark_failed_message failed;
    spark_engine_stats stats;
    spark_err err;
    uint64_t sum = (uint64_t)f->type * 31 + f->payload.len + f->stream;
    if (f->type == SPARK_WIRE_PIECE && spark_ok(spark_get_piece(&piece, f->payload, &err)))
        sum += piece.n_top + piece.text.len;
    if (f->type == SPARK_WIRE_STARTED && spark_ok(spark_get_started(&started, f->payload, &err))) {
        uint8_t back[SPARK_STARTED_BYTES];
        spark_put_started(back, &started);
        if (memcmp(back, f->payload.ptr, sizeof back) != 0) abort();
    }
    if (f->type == SPARK_WIRE_FINISHED && spark_ok(spark_get_finished(&finished, f->payload, &err)))
        sum += finished.n_tokens;
    if (f->type == SPARK_WIRE_FAILED && spark_ok(spark_get_failed(&failed, f->payload, &err))) sum += failed.err.code;
    if (f->type == SPARK_WIRE_STATS && spark_ok(spark_get_stats(&stats, f->payload, &err))) sum += stats.n_pages;
    if (f->type == SPARK_WIRE_READY) sum += fuzz_card(f->payload);
    return sum;
}

/* Feeds in steps; returns a digest of all that came out. */
static uint64_t fuzz_run(spark_wire *w, const uint8_t *data, size_t size, size_t step)
{
    uint64_t digest = 1;
    for (size_t at = 0; at < size;) {
        const size_t n = size - at < step ? size - at : step;
        if (spark_wire_feed(w, (spark_bytes){data + at, n}) != n) abort(); /* inputs are smaller than the buffer */
        at += n;
        for (bool has = true; has;) {
            spark_wire_frame f;
            spark_err err;
            if (!spark_ok(spark_wire_next(w, &f, &has, &err))) return digest * 31 + 7;
            if (has) digest = digest * 1099511628211u + fuzz_payload(&f);
            if (spark_wire_n_open(w) > STREAMS) abort();
        }
    }
    return digest;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > 1 << 16) return 0;
    const spark_wire_side side = data[0] & 1 ? SPARK_WIRE_ENGINE : SPARK_WIRE_CLIENT;
    spark_wire *cut = fuzz_end(side, data[0] & 2), *whole = fuzz_end(side, data[0] & 2);
    const uint64_t a = fuzz_run(cut, data + 2, size - 2, 1 + data[1]),
                   b = fuzz_run(whole, data + 2, size - 2, SIZE_MAX);
    if (a != b) abort();
    spark_wire_destroy(&cut);
    spark_wire_destroy(&whole);
    cell_config c;
    spark_err err;
    (void)!spark_ok(cell_config_parse(&c, (spark_bytes){data, size}, &err));
    return 0;
}
