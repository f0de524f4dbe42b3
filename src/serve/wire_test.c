/* wire_test.c - what two ends let pass, in every state, at every cut. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/test.h"
#include "serve/messages.h"
#include "serve/wire.h"

enum { STREAMS = 4 };

/* Two ends and no descriptors between them. */
typedef struct pair {
    spark_wire *client, *engine;
} pair;

static void setup(pair *p, bool configured)
{
    spark_err err;
    assert_ok(spark_wire_create(&p->client, SPARK_WIRE_CLIENT, STREAMS, configured, &err));
    assert_ok(spark_wire_create(&p->engine, SPARK_WIRE_ENGINE, STREAMS, configured, &err));
}

static void teardown(pair *p)
{
    spark_wire_destroy(&p->client);
    spark_wire_destroy(&p->engine);
}

/* Moves what waits at one end to the other, in steps of `step` bytes. */
static void carry(spark_wire *from, spark_wire *to, size_t step)
{
    while (spark_wire_pending(from)) {
        spark_bytes b = spark_wire_peek(from);
        if (b.len > step) b.len = step;
        assert_int_equal(spark_wire_feed(to, b), b.len);
        spark_wire_wrote(from, b.len);
    }
}

static spark_bytes zeros(size_t n)
{
    static const uint8_t z[SPARK_WIRE_ASK_MAX];
    return (spark_bytes){z, n};
}

static void put(spark_wire *w, spark_wire_type t, uint64_t stream, size_t len)
{
    spark_err err;
    assert_ok(spark_wire_put(w, t, stream, zeros(len), (spark_bytes){0}, &err));
}

static spark_wire_frame expect(spark_wire *w, spark_wire_type t, uint64_t stream, size_t len)
{
    spark_wire_frame f;
    bool has = false;
    spark_err err;
    assert_ok(spark_wire_next(w, &f, &has, &err));
    assert_true(has);
    assert_int_equal(f.type, t);
    assert_int_equal(f.stream, stream);
    assert_int_equal(f.payload.len, len);
    return f;
}

static void expect_nothing(spark_wire *w)
{
    spark_wire_frame f;
    bool has = true;
    spark_err err;
    assert_ok(spark_wire_next(w, &f, &has, &err));
    assert_false(has);
}

static void expect_break(spark_wire *w, const char *why)
{
    spark_wire_frame f;
    bool has = false;
    spark_err err = {0};
    for (int again = 0; again < 2; again++) { /* and it stays broken */
        assert_int_equal(spark_wire_next(w, &f, &has, &err).code, SPARK_E_FORMAT);
        assert_non_null(strstr(err.text, why));
    }
}

/* A frame as raw bytes, whatever the rules say. */
static void feed_raw(spark_wire *w, uint32_t len, uint16_t type, uint16_t zero, uint64_t stream)
{
    uint8_t head[SPARK_WIRE_HEAD];
    spark_store_u32(head, len);
    spark_store_u16(head + 4, type);
    spark_store_u16(head + 6, zero);
    spark_store_u64(head + 8, stream);
    spark_wire_feed(w, (spark_bytes){head, sizeof head});
    spark_wire_feed(w, zeros(len <= SPARK_WIRE_ASK_MAX ? len : 0));
}

static void make_ready(pair *p)
{
    put(p->client, SPARK_WIRE_CONFIG, 0, 2);
    carry(p->client, p->engine, SIZE_MAX);
    expect(p->engine, SPARK_WIRE_CONFIG, 0, 2);
    put(p->engine, SPARK_WIRE_READY, 0, 140);
    carry(p->engine, p->client, SIZE_MAX);
    expect(p->client, SPARK_WIRE_READY, 0, 140);
}

static uint64_t open_stream(pair *p)
{
    uint64_t stream = 0;
    spark_err err;
    assert_ok(spark_wire_open(p->client, &stream, &err));
    put(p->client, SPARK_WIRE_ASK, stream, 100);
    carry(p->client, p->engine, SIZE_MAX);
    expect(p->engine, SPARK_WIRE_ASK, stream, 100);
    return stream;
}

static void test_frames_arrive_whole_at_every_cut(void **state)
{
    (void)state;
    for (size_t step = 1; step < 200; step += step < 40 ? 1 : 37) {
        pair p;
        setup(&p, true);
        put(p.engine, SPARK_WIRE_READY, 0, 150);
        carry(p.engine, p.client, step);
        expect(p.client, SPARK_WIRE_READY, 0, 150);
        const uint64_t s = open_stream(&p);
        put(p.engine, SPARK_WIRE_STARTED, s, 16);
        put(p.engine, SPARK_WIRE_PIECE, s, 33);
        put(p.engine, SPARK_WIRE_FINISHED, s, 40);
        carry(p.engine, p.client, step);
        expect(p.client, SPARK_WIRE_STARTED, s, 16);
        expect(p.client, SPARK_WIRE_PIECE, s, 33);
        expect(p.client, SPARK_WIRE_FINISHED, s, 40);
        expect_nothing(p.client);
        assert_false(spark_wire_is_open(p.client, s));
        assert_int_equal(spark_wire_n_open(p.engine), 0);
        teardown(&p);
    }
}

static void test_link_frames_have_their_order(void **state)
{
    (void)state;
    pair p;
    setup(&p, false);
    feed_raw(p.engine, 100, SPARK_WIRE_ASK, 0, 1ull << 32);
    expect_break(p.engine, "before the link was ready");
    feed_raw(p.client, 140, SPARK_WIRE_READY, 0, 0);
    expect_break(p.client, "out of turn");
    teardown(&p);
    setup(&p, false);
    make_ready(&p);
    feed_raw(p.engine, 2, SPARK_WIRE_CONFIG, 0, 0);
    expect_break(p.engine, "came again");
    feed_raw(p.client, 16, SPARK_WIRE_PROGRESS, 0, 0);
    expect_break(p.client, "out of turn");
    teardown(&p);
    setup(&p, false);
    feed_raw(p.client, 16, SPARK_WIRE_PLAN, 0, 0);
    expect_break(p.client, "out of turn"); /* before its CONFIG */
    teardown(&p);
    setup(&p, false);
    make_ready(&p);
    feed_raw(p.engine, 8, SPARK_WIRE_GRANT, 0, 0);
    expect_break(p.engine, "out of turn");
    teardown(&p);
}

static void test_a_link_without_streams_carries_a_plan_and_no_ask(void **state)
{
    (void)state;
    pair p;
    spark_err err;
    assert_ok(spark_wire_create(&p.client, SPARK_WIRE_CLIENT, 0, false, &err));
    assert_ok(spark_wire_create(&p.engine, SPARK_WIRE_ENGINE, 0, false, &err));
    assert_true(spark_wire_bytes(SPARK_WIRE_ENGINE, 0) < spark_wire_bytes(SPARK_WIRE_ENGINE, 1) - SPARK_WIRE_ASK_MAX);
    put(p.client, SPARK_WIRE_CONFIG, 0, 64 << 10);
    carry(p.client, p.engine, SIZE_MAX);
    expect(p.engine, SPARK_WIRE_CONFIG, 0, 64 << 10);
    put(p.engine, SPARK_WIRE_PLAN, 0, 16);
    carry(p.engine, p.client, SIZE_MAX);
    expect(p.client, SPARK_WIRE_PLAN, 0, 16);
    put(p.client, SPARK_WIRE_GRANT, 0, 8);
    carry(p.client, p.engine, SIZE_MAX);
    expect(p.engine, SPARK_WIRE_GRANT, 0, 8);
    put(p.engine, SPARK_WIRE_READY, 0, 112);
    carry(p.engine, p.client, SIZE_MAX);
    expect(p.client, SPARK_WIRE_READY, 0, 112);
    uint64_t stream = 0;
    assert_code(spark_wire_open(p.client, &stream, &err), SPARK_E_LIMIT);
    feed_raw(p.engine, 100, SPARK_WIRE_ASK, 0, 1ull << 32);
    expect_break(p.engine, "beyond the limit");
    teardown(&p);
}

static void test_a_frame_larger_than_a_small_line_breaks_it_before_the_payload_comes(void **state)
{
    (void)state;
    pair p;
    spark_err err;
    assert_ok(spark_wire_create(&p.client, SPARK_WIRE_CLIENT, 0, true, &err));
    assert_ok(spark_wire_create(&p.engine, SPARK_WIRE_ENGINE, 0, true, &err));
    uint8_t head[SPARK_WIRE_HEAD] = {0};
    spark_store_u32(head, 1 << 20);
    spark_store_u16(head + 4, SPARK_WIRE_READY); /* which the table allows to be larger */
    spark_wire_feed(p.client, (spark_bytes){head, sizeof head});
    expect_break(p.client, "out of bounds");
    teardown(&p);
}

static void test_a_frame_from_the_wrong_side_breaks_the_link(void **state)
{
    (void)state;
    pair p;
    for (int t = 0; t < SPARK_WIRE_N_TYPES; t++) {
        setup(&p, true);
        const bool from_engine = t == SPARK_WIRE_PROGRESS || t == SPARK_WIRE_READY || t == SPARK_WIRE_BROKEN ||
                                 t == SPARK_WIRE_STATS || t == SPARK_WIRE_PONG ||
                                 (t >= SPARK_WIRE_STARTED && t <= SPARK_WIRE_PLAN);
        spark_wire *w = from_engine ? p.engine : p.client;
        feed_raw(w, 4, (uint16_t)t, 0, 0);
        expect_break(w, "wrong side");
        teardown(&p);
    }
}

static void test_unknown_types_and_lengths_break_the_link_before_the_payload_comes(void **state)
{
    (void)state;
    pair p;
    static const struct {
        uint32_t len;
        uint16_t type, zero;
        const char *why;
    } bad[] = {
        {0, SPARK_WIRE_N_TYPES, 0, "unknown type"},
        {0, 0xffff, 0, "unknown type"},
        {2, SPARK_WIRE_CONFIG, 1, "unknown type"},
        {1, SPARK_WIRE_CONFIG, 0, "out of bounds"},
        {(64 << 10) + 1, SPARK_WIRE_CONFIG, 0, "out of bounds"},
        {SPARK_WIRE_ASK_MAX + 1, SPARK_WIRE_ASK, 0, "out of bounds"},
        {UINT32_MAX, SPARK_WIRE_ASK, 0, "out of bounds"},
        {5, SPARK_WIRE_CREDIT, 0, "out of bounds"},
        {1, SPARK_WIRE_CANCEL, 0, "out of bounds"},
    };
    for (size_t i = 0; i < SPARK_COUNT(bad); i++) {
        setup(&p, false);
        uint8_t head[SPARK_WIRE_HEAD] = {0};
        spark_store_u32(head, bad[i].len);
        spark_store_u16(head + 4, bad[i].type);
        spark_store_u16(head + 6, bad[i].zero);
        spark_wire_feed(p.engine, (spark_bytes){head, sizeof head});
        expect_break(p.engine, bad[i].why);
        teardown(&p);
    }
}

static void test_streams_open_once_and_close_once(void **state)
{
    (void)state;
    static const struct {
        spark_wire_type type;
        uint32_t len;
        uint64_t stream;
        const char *why;
    } bad[] = {
        {SPARK_WIRE_ASK, 100, 0 | 1ull << 32, "in use"}, /* open */
        {SPARK_WIRE_ASK, 100, 1 | 1ull << 32, "in use"}, /* closed, the same generation */
        {SPARK_WIRE_ASK, 100, 1, "in use"},              /* an older one */
        {SPARK_WIRE_ASK, 100, STREAMS | 1ull << 32, "beyond the limit"},
        {SPARK_WIRE_CANCEL, 0, 2 | 1ull << 32, "never was"},
        {SPARK_WIRE_CANCEL, 0, 0 | 2ull << 32, "never was"},
        {SPARK_WIRE_CREDIT, 4, STREAMS | 1ull << 32, "never was"},
        {SPARK_WIRE_DRAIN, 0, 1, "names a stream"},
    };
    for (size_t i = 0; i < SPARK_COUNT(bad); i++) {
        pair p;
        setup(&p, false);
        make_ready(&p);
        assert_int_equal(open_stream(&p), 0 | 1ull << 32);
        const uint64_t second = open_stream(&p);
        assert_int_equal(second, 1 | 1ull << 32);
        put(p.engine, SPARK_WIRE_FINISHED, second, 40);
        feed_raw(p.engine, bad[i].len, (uint16_t)bad[i].type, 0, bad[i].stream);
        expect_break(p.engine, bad[i].why);
        teardown(&p);
    }
}

static void test_an_answer_after_the_end_breaks_the_link(void **state)
{
    (void)state;
    pair p;
    setup(&p, false);
    make_ready(&p);
    const uint64_t s = open_stream(&p);
    put(p.engine, SPARK_WIRE_FAILED, s, 30);
    carry(p.engine, p.client, SIZE_MAX);
    expect(p.client, SPARK_WIRE_FAILED, s, 30);
    feed_raw(p.client, 33, SPARK_WIRE_PIECE, 0, s);
    expect_break(p.client, "after the end");
    teardown(&p);
}

static void test_cancel_and_credit_that_crossed_the_end_are_passed_over(void **state)
{
    (void)state;
    pair p;
    setup(&p, false);
    make_ready(&p);
    const uint64_t s = open_stream(&p);
    put(p.client, SPARK_WIRE_CANCEL, s, 0);
    put(p.client, SPARK_WIRE_CREDIT, s, 4);
    put(p.engine, SPARK_WIRE_FINISHED, s, 40); /* before it saw them */
    carry(p.client, p.engine, SIZE_MAX);
    carry(p.engine, p.client, SIZE_MAX);
    expect(p.client, SPARK_WIRE_FINISHED, s, 40);
    expect_nothing(p.engine);
    const uint64_t again = open_stream(&p); /* another slot or generation; and the link lives */
    assert_int_not_equal(again, s);
    teardown(&p);
}

static void test_a_stream_ends_where_its_credit_and_one_step_end(void **state)
{
    (void)state;
    pair p;
    setup(&p, false);
    make_ready(&p);
    const uint64_t s = open_stream(&p);
    int64_t left = SPARK_WIRE_FIRST_CREDIT;
    for (; left > -SPARK_WIRE_OVERDRAFT; left -= SPARK_WIRE_PIECE_MAX) {
        assert_int_equal(spark_wire_credit(p.client, s), left);
        feed_raw(p.client, SPARK_WIRE_PIECE_MAX, SPARK_WIRE_PIECE, 0, s);
        expect(p.client, SPARK_WIRE_PIECE, s, SPARK_WIRE_PIECE_MAX);
    }
    feed_raw(p.client, 4, SPARK_WIRE_PIECE, 0, s);
    expect_break(p.client, "without credit");
    teardown(&p);
}

static void test_credit_is_counted_on_both_ends(void **state)
{
    (void)state;
    pair p;
    setup(&p, false);
    make_ready(&p);
    const uint64_t s = open_stream(&p);
    put(p.engine, SPARK_WIRE_PIECE, s, 1000);
    carry(p.engine, p.client, SIZE_MAX);
    expect(p.client, SPARK_WIRE_PIECE, s, 1000);
    uint8_t grant[4];
    spark_store_u32(grant, 700);
    spark_err err;
    assert_ok(spark_wire_put(p.client, SPARK_WIRE_CREDIT, s, (spark_bytes){grant, 4}, (spark_bytes){0}, &err));
    carry(p.client, p.engine, SIZE_MAX);
    expect(p.engine, SPARK_WIRE_CREDIT, s, 4);
    assert_int_equal(spark_wire_credit(p.engine, s), SPARK_WIRE_FIRST_CREDIT - 300);
    assert_int_equal(spark_wire_credit(p.client, s), SPARK_WIRE_FIRST_CREDIT - 300);
    teardown(&p);
}

static void test_one_answer_of_data_and_no_more(void **state)
{
    (void)state;
    pair p;
    setup(&p, false);
    make_ready(&p);
    const uint64_t s = open_stream(&p);
    feed_raw(p.client, SPARK_WIRE_ASK_MAX, SPARK_WIRE_DATA, 0, s);
    expect(p.client, SPARK_WIRE_DATA, s, SPARK_WIRE_ASK_MAX);
    feed_raw(p.client, 1, SPARK_WIRE_DATA, 0, s);
    expect_break(p.client, "came twice");
    teardown(&p);
}

static void test_a_full_line_refuses_and_loses_nothing(void **state)
{
    (void)state;
    pair p;
    setup(&p, false);
    make_ready(&p);
    const uint64_t s = open_stream(&p);
    size_t n = 0;
    spark_err err;
    while (spark_ok(spark_wire_put(p.engine, SPARK_WIRE_STATS, 0, zeros(160), (spark_bytes){0}, &err))) n++;
    assert_int_equal(err.code, SPARK_E_LIMIT);
    assert_true(spark_wire_room(p.engine) < 160);
    while (n > 0) { /* it comes out as it went in, and there is room again */
        carry(p.engine, p.client, SIZE_MAX);
        for (size_t before = n; n > 0;) {
            spark_wire_frame f;
            bool has = false;
            assert_ok(spark_wire_next(p.client, &f, &has, &err));
            if (!has) break;
            assert_int_equal(f.type, SPARK_WIRE_STATS);
            assert_true(n <= before);
            n--;
        }
    }
    put(p.engine, SPARK_WIRE_FINISHED, s, 40);
    teardown(&p);
}

/* A frame without a payload has a head still. */
static void test_a_full_line_has_no_room_for_an_empty_frame(void **state)
{
    (void)state;
    spark_err err;
    for (size_t left = 0; left <= SPARK_WIRE_HEAD; left++) {
        pair p;
        setup(&p, false);
        make_ready(&p);
        const uint64_t s = open_stream(&p);
        while (spark_wire_room(p.client) > 100 + 2 * SPARK_WIRE_HEAD) {
            uint64_t filler = 0;
            const size_t room = spark_wire_room(p.client) - 2 * SPARK_WIRE_HEAD - 100;
            assert_ok(spark_wire_open(p.client, &filler, &err));
            put(p.client, SPARK_WIRE_ASK, filler, room < 8 ? 8 : room < SPARK_WIRE_ASK_MAX ? room : SPARK_WIRE_ASK_MAX);
        }
        const size_t room = spark_wire_room(p.client);
        uint64_t last = 0;
        assert_ok(spark_wire_open(p.client, &last, &err));
        put(p.client, SPARK_WIRE_ASK, last, room - left);
        assert_code(spark_wire_put(p.client, SPARK_WIRE_CANCEL, s, zeros(0), (spark_bytes){0}, &err),
                    left < SPARK_WIRE_HEAD ? SPARK_E_LIMIT : SPARK_OK);
        teardown(&p);
    }
}

static void test_names_that_never_were_and_streams_of_the_link_break_it(void **state)
{
    (void)state;
    pair p;
    setup(&p, false);
    make_ready(&p);
    feed_raw(p.engine, 0, SPARK_WIRE_CANCEL, 0, 1); /* slot 1, generation 0 */
    expect_break(p.engine, "never was");
    feed_raw(p.client, 160, SPARK_WIRE_STATS, 0, (uint64_t)1 << 32);
    expect_break(p.client, "STATS");
    teardown(&p);
}

static void test_all_streams_in_use_is_an_error_of_its_own(void **state)
{
    (void)state;
    pair p;
    uint64_t s = 0;
    spark_err err;
    setup(&p, false);
    assert_int_equal(spark_wire_open(p.client, &s, &err).code, SPARK_E_STATE);
    make_ready(&p);
    for (int i = 0; i < STREAMS; i++) s = open_stream(&p);
    assert_int_equal(spark_wire_n_open(p.client), STREAMS);
    assert_int_equal(spark_wire_open(p.client, &s, &err).code, SPARK_E_LIMIT);
    uint32_t slot = 0, n = 0;
    for (uint64_t each; spark_wire_next_open(p.client, &slot, &each); n++)
        assert_true(spark_wire_is_open(p.client, each));
    assert_int_equal(n, STREAMS);
    spark_wire_reset(p.client);
    assert_int_equal(spark_wire_n_open(p.client), 0);
    teardown(&p);
}

/* ---- Payloads ---- */

#define ROUND_TRIP(get, out, bytes, len)                                                                               \
    do {                                                                                                               \
        spark_err why_;                                                                                                \
        assert_ok(get(&(out), (spark_bytes){(bytes), (len)}, &why_));                                                  \
    } while (0)

static void test_pieces_come_back_as_they_went(void **state)
{
    (void)state;
    static uint8_t buf[SPARK_WIRE_PIECE_MAX];
    static spark_piece_message m, back;
    m = (spark_piece_message){
        .has_token = true,
        .has_logprobs = true,
        .token = {7, -0.5f, SPARK_BYTES_LITERAL(" cat")},
        .n_top = 2,
        .top = {{7, -0.5f, SPARK_BYTES_LITERAL(" cat")}, {9, -1.25f, SPARK_BYTES_LITERAL("\xff")}}};
    const size_t head = spark_put_piece(buf, &m);
    memcpy(buf + head, "at", 2);
    ROUND_TRIP(spark_get_piece, back, buf, head + 2);
    assert_true(back.has_token && back.has_logprobs);
    assert_int_equal(back.n_top, 2);
    assert_true(spark_bytes_is(back.token.text, " cat") && spark_bytes_is(back.top[1].text, "\xff"));
    assert_true(back.top[1].logprob == -1.25f && back.top[1].id == 9);
    assert_true(spark_bytes_is(back.text, "at"));
    spark_err err;
    for (size_t n = 0; n < head; n++) assert_false(spark_ok(spark_get_piece(&back, (spark_bytes){buf, n}, &err)));
    buf[0] = 4;
    assert_false(spark_ok(spark_get_piece(&back, (spark_bytes){buf, head}, &err)));
}

static void test_a_piece_of_the_largest_parts_fits_its_frame(void **state)
{
    (void)state;
    static uint8_t buf[SPARK_PIECE_HEAD_MAX];
    static spark_piece_message m;
    m = (spark_piece_message){
        .has_token = true, .has_logprobs = true, .token.text = zeros(70000), .n_top = SPARK_MAX_LOGPROBS};
    for (uint32_t i = 0; i < SPARK_MAX_LOGPROBS; i++) m.top[i].text = zeros(70000);
    const size_t head = spark_put_piece(buf, &m);
    assert_true(head <= SPARK_PIECE_HEAD_MAX);
    assert_true(head + SPARK_MAX_TOKEN_BYTES + SPARK_MAX_STOP_BYTES <= SPARK_WIRE_PIECE_MAX);
}

static void test_ends_come_back_as_they_went(void **state)
{
    (void)state;
    uint8_t buf[SPARK_FAILED_BYTES];
    spark_err err;
    const spark_finished_message f = {SPARK_FINISH_LENGTH, true, 3, 100, 64, 17, 1, 2, 3};
    spark_finished_message f2;
    spark_put_finished(buf, &f);
    ROUND_TRIP(spark_get_finished, f2, buf, SPARK_FINISHED_BYTES);
    assert_memory_equal(&f, &f2, sizeof f);
    assert_false(spark_ok(spark_get_finished(&f2, (spark_bytes){buf, SPARK_FINISHED_BYTES - 1}, &err)));
    spark_store_u32(buf + 8, 101); /* more cached than there were */
    assert_false(spark_ok(spark_get_finished(&f2, (spark_bytes){buf, SPARK_FINISHED_BYTES}, &err)));
    spark_failed_message m = {.retry_ms = 1500}, m2;
    spark_err_set(&m.err, SPARK_E_LIMIT, 12, "the queue of %d is full", 5);
    const size_t n = spark_put_failed(buf, &m);
    ROUND_TRIP(spark_get_failed, m2, buf, n);
    assert_int_equal(m2.retry_ms, 1500);
    assert_int_equal(m2.err.code, SPARK_E_LIMIT);
    assert_int_equal(m2.err.at, 12);
    assert_string_equal(m2.err.text, "the queue of 5 is full");
    buf[24] = 7; /* a control byte in the text does not reach a terminal */
    ROUND_TRIP(spark_get_failed, m2, buf, n);
    assert_int_equal(m2.err.text[0], '?');
    buf[0] = SPARK_OK;
    assert_false(spark_ok(spark_get_failed(&m2, (spark_bytes){buf, n}, &err)));
}

static void test_ends_and_tokens_that_cannot_be_are_refused(void **state)
{
    (void)state;
    uint8_t out[SPARK_FINISHED_BYTES], piece[64];
    spark_finished_message end;
    static spark_piece_message m;
    spark_err err;
    spark_put_finished(out, &(spark_finished_message){.stop_string = true, .which_stop = SPARK_MAX_STOPS});
    assert_code(spark_get_finished(&end, (spark_bytes){out, sizeof out}, &err), SPARK_E_FORMAT);
    m = (spark_piece_message){.has_token = true, .has_logprobs = true, .token = {.logprob = 0.5f}};
    const size_t n = spark_put_piece(piece, &m);
    assert_code(spark_get_piece(&m, (spark_bytes){piece, n}, &err), SPARK_E_FORMAT);
}

static void test_statistics_come_back_as_they_went(void **state)
{
    (void)state;
    uint8_t buf[SPARK_STATS_BYTES];
    spark_engine_stats s = {.n_running = 3, .n_pages_cached = 9, .generated_tokens = 1ull << 40, .wait_ms = 77}, back;
    spark_put_stats(buf, &s);
    ROUND_TRIP(spark_get_stats, back, buf, sizeof buf);
    assert_int_equal(back.n_running, 3);
    assert_int_equal(back.n_pages_cached, 9);
    assert_int_equal(back.generated_tokens, 1ull << 40);
    assert_int_equal(back.wait_ms, 77);
}

/* ARCHITECTURE.md shows the table of frames: a row for each, as it is here, and no other. */
static void test_the_page_of_the_house_has_these_frames(void **state)
{
    (void)state;
    static const char *const rows[] = {
#define PAGE_ROW(name, from, when, min, max) #name "|" #from "|" #when,
        SPARK_WIRE_FRAMES(PAGE_ROW)
#undef PAGE_ROW
    };
    static const long bounds[][2] = {
#define PAGE_ROW(name, from, when, min, max) {(min), (max)},
        SPARK_WIRE_FRAMES(PAGE_ROW)
#undef PAGE_ROW
    };
    char path[4096], line[1024], want[256];
    const char *root = getenv("SPARK_SOURCE");
    snprintf(path, sizeof path, "%s/ARCHITECTURE.md", root ? root : ".");
    FILE *f = fopen(path, "r");
    if (!f) skip();
    size_t n = 0;
    bool inside = false;
    while (fgets(line, sizeof line, f)) {
        if (strstr(line, "<!-- frames of the wire -->")) inside = true;
        if (strstr(line, "<!-- end -->")) inside = false;
        if (!inside || strncmp(line, "| `", 3) != 0) continue;
        assert_true(n < SPARK_COUNT(rows));
        char name[64], from[64], when[64];
        assert_int_equal(sscanf(rows[n], "%63[^|]|%63[^|]|%63s", name, from, when), 3);
        snprintf(want, sizeof want, "| `%s` | %s | %s | %ld | %ld |", name, from, when, bounds[n][0], bounds[n][1]);
        line[strlen(want)] = '\0';
        assert_string_equal(line, want);
        n++;
    }
    fclose(f);
    assert_int_equal(n, SPARK_COUNT(rows));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames_arrive_whole_at_every_cut),
        cmocka_unit_test(test_link_frames_have_their_order),
        cmocka_unit_test(test_a_link_without_streams_carries_a_plan_and_no_ask),
        cmocka_unit_test(test_a_frame_larger_than_a_small_line_breaks_it_before_the_payload_comes),
        cmocka_unit_test(test_a_frame_from_the_wrong_side_breaks_the_link),
        cmocka_unit_test(test_unknown_types_and_lengths_break_the_link_before_the_payload_comes),
        cmocka_unit_test(test_streams_open_once_and_close_once),
        cmocka_unit_test(test_an_answer_after_the_end_breaks_the_link),
        cmocka_unit_test(test_cancel_and_credit_that_crossed_the_end_are_passed_over),
        cmocka_unit_test(test_a_stream_ends_where_its_credit_and_one_step_end),
        cmocka_unit_test(test_credit_is_counted_on_both_ends),
        cmocka_unit_test(test_one_answer_of_data_and_no_more),
        cmocka_unit_test(test_a_full_line_refuses_and_loses_nothing),
        cmocka_unit_test(test_a_full_line_has_no_room_for_an_empty_frame),
        cmocka_unit_test(test_names_that_never_were_and_streams_of_the_link_break_it),
        cmocka_unit_test(test_all_streams_in_use_is_an_error_of_its_own),
        cmocka_unit_test(test_pieces_come_back_as_they_went),
        cmocka_unit_test(test_a_piece_of_the_largest_parts_fits_its_frame),
        cmocka_unit_test(test_ends_come_back_as_they_went),
        cmocka_unit_test(test_ends_and_tokens_that_cannot_be_are_refused),
        cmocka_unit_test(test_statistics_come_back_as_they_went),
        cmocka_unit_test(test_the_page_of_the_house_has_these_frames),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
