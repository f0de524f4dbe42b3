/* front_hostile_test.c - the front between clients and an engine that this test plays, and plays badly: a front in a child without
 * a jail, its warden, its engine and its clients here. What must hold: every request has one end, nothing waits for ever, and
 * what an engine does harms only requests that asked it. */
#include "serve/front_rig.h"

static void test_a_request_goes_through(void **state)
{
    (void)state;
    rig r;
    start_served(&r, settings);
    const int c = ask(&r, one);
    const uint64_t s = take_ask(&r);
    say_started(&r, s);
    say_piece(&r, s, "hello");
    say_finished(&r, s);
    assert_said(hear_client(c, "hello", WAIT_MS), "200 OK");
    close(c);
    stop(&r);
}

/* What an engine says of time is bounded by what the front saw: not before the request was whole, not after now; and once a stream. */
static void test_a_hand_over_is_counted_and_never_longer_than_it_was(void **state)
{
    (void)state;
    static const char two[] = "{\"model\":\"m\",\"prompt\":\"x\",\"n\":2}";
    rig r;
    start_served(&r, settings);
    assert_true(metric(&r, "spark_handover_seconds_count") == 0);
    const uint64_t before = spark_clock_ns();
    const int c = ask(&r, two);
    const uint64_t first = take_ask(&r), second = take_ask(&r);
    say_started_at(&r, first, 0);
    say_started_at(&r, second, UINT64_MAX);
    say_started_at(&r, second, UINT64_MAX);
    say_finished(&r, first);
    say_finished(&r, second);
    assert_said(hear_client(c, "choices", WAIT_MS), "200 OK");
    const double passed = (double)(spark_clock_ns() - before) / 1e9, sum = metric(&r, "spark_handover_seconds_sum");
    assert_true(metric(&r, "spark_handover_seconds_count") == 2);
    if (sum <= 0 || sum > passed) fail_msg("%g s in all, of %g", sum, passed);
    close(c);
    stop(&r);
}

static void test_a_wait_for_a_model_is_no_hand_over(void **state)
{
    (void)state;
    rig r;
    start(&r, settings);
    tell_model(&r, CONTROL_MODEL_LOADING);
    const int c = ask(&r, one);
    assert_string_equal(hear_client(c, NULL, 200), "");
    tell_model(&r, CONTROL_MODEL_READY);
    say_ready(&r, card);
    const uint64_t s = take_ask(&r);
    say_started(&r, s);
    say_finished(&r, s);
    assert_said(hear_client(c, "choices", WAIT_MS), "200 OK");
    assert_true(metric(&r, "spark_handover_seconds_count") == 0);
    close(c);
    stop(&r);
}

/* All that an engine may send without new credit must fit what may wait for the reader of one reply. */
static void reader_pauses(const char *body, uint32_t n)
{
    rig r;
    uint64_t streams[64];
    size_t sent = 0;
    start_served(&r, settings);
    const int c = ask(&r, body);
    for (uint32_t i = 0; i < n; i++) streams[i] = take_ask(&r);
    for (uint32_t i = 0; i < n; i++) say_started(&r, streams[i]);
    const uint64_t end = spark_clock_ns() + 1500000000;
    while (spark_clock_ns() < end) { /* nobody reads */
        spark_wire_frame f;
        bool any = false;
        for (uint32_t i = 0; i < n; i++) {
            if (spark_wire_credit(r.wire, streams[i]) <= 0) continue;
            any = true;
            sent++;
            say_piece(&r, streams[i], " abc");
        }
        while (take(&r, &f, any ? 0 : 50)) assert_int_equal(f.type, SPARK_WIRE_CREDIT);
    }
    for (uint32_t i = 0; i < n; i++) say_finished(&r, streams[i]);
    const char *text = hear_client(c, "[DONE]", WAIT_MS);
    size_t got = 0;
    for (const char *p = text; (p = strstr(p, "\" abc\"")); p++) got++;
    assert_int_equal(got, sent);
    assert_said(text + (strlen(text) > 200 ? strlen(text) - 200 : 0), "[DONE]");
    close(c);
    stop(&r);
}

static void test_a_reader_that_pauses_loses_nothing(void **state)
{
    (void)state;
    reader_pauses("{\"model\":\"m\",\"prompt\":\"x\",\"stream\":true}", 1);
}

static void test_a_reader_of_many_choices_that_pauses_loses_nothing(void **state)
{
    (void)state;
    reader_pauses("{\"model\":\"m\",\"prompt\":\"x\",\"stream\":true,\"n\":16}", 16);
}

static void test_a_malformed_piece_fails_its_request_and_cancels_it(void **state)
{
    (void)state;
    rig r;
    spark_wire_frame f;
    start_served(&r, settings);
    const int c = ask(&r, one), other = ask(&r, one);
    const uint64_t a = take_ask(&r), b = take_ask(&r);
    say(&r, SPARK_WIRE_PIECE, a, "\xff\xff\xff\xff\xff", 5);
    assert_said(hear_client(c, "engine_failed", WAIT_MS), "HTTP/1.1 500");
    do assert_true(take(&r, &f, WAIT_MS));
    while (f.type == SPARK_WIRE_CREDIT);
    assert_int_equal(f.type, SPARK_WIRE_CANCEL);
    assert_int_equal(f.stream, a);
    say_finished(&r, b);
    assert_said(hear_client(other, "choices", WAIT_MS), "200 OK");
    close(c);
    close(other);
    stop(&r);
}

static void test_a_lost_engine_fails_its_requests_and_later_ones_wait_for_the_next(void **state)
{
    (void)state;
    rig r;
    int c[20];
    start_served(&r, settings);
    for (int i = 0; i < 20; i++) {
        c[i] = ask(&r, i % 2 ? one : "{\"model\":\"m\",\"prompt\":[\"x\",\"y\"],\"n\":3,\"stream\":true}");
        post(c[i], "/v1/completions", one); /* behind the first, on the same connection */
        const uint64_t s = take_ask(&r);
        for (int k = 1; i % 2 == 0 && k < 6; k++) (void)take_ask(&r);
        if (i % 3 == 0) say_piece(&r, s, "begun");
    }
    close(r.link);
    for (int i = 0; i < 20; i++) assert_said(hear_client(c[i], "engine_failed", WAIT_MS), "engine_failed");
    tell_model(&r, CONTROL_MODEL_LOADING);
    tell_model(&r, CONTROL_MODEL_READY);
    say_ready(&r, card);
    for (int i = 0; i < 20; i++) say_finished(&r, take_ask(&r));
    for (int i = 0; i < 20; i++) {
        assert_said(hear_client(c[i], "choices", WAIT_MS), "200 OK");
        close(c[i]);
    }
    stop(&r);
}

static void test_a_model_that_cannot_be_described_is_told_to_who_waits(void **state)
{
    (void)state;
    rig r;
    start(&r, settings);
    tell_model(&r, CONTROL_MODEL_LOADING);
    const int c = ask(&r, one);
    assert_string_equal(hear_client(c, NULL, 300), ""); /* it waits */
    tell_model(&r, CONTROL_MODEL_READY);
    say_ready(&r, "{}");
    assert_said(hear_client(c, "model_unavailable", WAIT_MS), "HTTP/1.1 503");
    close(c);
    stop(&r);
}

static void test_the_warden_is_answered(void **state)
{
    (void)state;
    rig r;
    start(&r, settings);
    tell(&r, &(control_message){.kind = CONTROL_PING});
    assert_true(hear(&r, CONTROL_PONG, WAIT_MS));
    stop(&r);
}

static void is_served(rig *r)
{
    const int c = ask(r, one);
    say_finished(r, take_ask(r));
    assert_said(hear_client(c, "choices", WAIT_MS), "200 OK");
    close(c);
}

static void test_a_swap_to_an_engine_that_cannot_be_understood_leaves_the_old_one(void **state)
{
    (void)state;
    rig r, next;
    start_served(&r, settings);
    const int running = ask(&r, one);
    const uint64_t s = take_ask(&r);
    start_next(&r, &next, 7);
    say_ready(&next, "{}");
    assert_true(hear(&r, CONTROL_REFUSED, WAIT_MS));
    assert_int_equal(heard_value, 7);
    is_served(&r);
    say_finished(&r, s);
    assert_said(hear_client(running, "choices", WAIT_MS), "200 OK");
    close(running);
    stop_next(&next);
    stop(&r);
}

static void test_a_swap_to_an_engine_that_ends_leaves_the_old_one(void **state)
{
    (void)state;
    rig r, next;
    start_served(&r, settings);
    start_next(&r, &next, 7);
    stop_next(&next);
    assert_true(hear(&r, CONTROL_REFUSED, WAIT_MS));
    assert_true(heard_value == (7 | CONTROL_CLOSED));
    is_served(&r);
    stop(&r);
}

static void test_an_engine_that_breaks_the_rules_is_refused_by_its_number(void **state)
{
    (void)state;
    rig r;
    start(&r, settings);
    tell_engine(&r, CONTROL_MODEL_READY, 9);
    say_ready(&r, card);
    assert_true(hear(&r, CONTROL_SWITCHED, WAIT_MS));
    assert_int_equal(heard_value, 9);
    assert_int_equal(write(r.link, "\377\377\377\377 a frame of no type", 24), 24);
    assert_true(hear(&r, CONTROL_REFUSED, WAIT_MS));
    assert_int_equal(heard_value, 9);
    stop(&r);
}

/* The warden ends an engine that drains and does not end, but not while somebody waits for its answer. */
static void test_an_engine_is_released_when_nobody_waits_for_it(void **state)
{
    (void)state;
    rig r, next;
    start_served(&r, settings);
    const int c = ask(&r, one), leaver = ask(&r, one);
    const uint64_t a = take_ask(&r);
    (void)take_ask(&r);
    start_next(&r, &next, 7);
    say_ready(&next, card);
    assert_true(hear(&r, CONTROL_SWITCHED, WAIT_MS));
    assert_false(hear(&r, CONTROL_RELEASED, 500));
    close(leaver);
    assert_false(hear(&r, CONTROL_RELEASED, 500));
    say_finished(&r, a);
    assert_said(hear_client(c, "choices", WAIT_MS), "200 OK");
    assert_true(hear(&r, CONTROL_RELEASED, WAIT_MS)); /* though it has not closed the other stream */
    assert_int_equal(heard_value, 0);
    is_served(&next);
    assert_false(hear(&r, CONTROL_RELEASED, 500));
    close(c);
    stop_next(&next);
    stop(&r);
}

/* A choice that has ended lets go of its stream's place, which the next request gets. */
static void test_a_choice_that_ended_does_not_touch_the_stream_that_follows_it(void **state)
{
    (void)state;
    rig r;
    uint64_t first[2];
    start_served(&r, settings);
    const int c = ask(&r, "{\"model\":\"m\",\"prompt\":\"x\",\"n\":2}");
    for (int i = 0; i < 2; i++) first[i] = take_ask(&r);
    say_finished(&r, first[1]);
    const int later = ask(&r, one);
    const uint64_t next = take_ask(&r);
    assert_int_equal(spark_wire_slot(next), spark_wire_slot(first[1])); /* else this tests nothing */
    say_finished(&r, first[0]);
    assert_said(hear_client(c, "choices", WAIT_MS), "200 OK");
    say_piece(&r, next, "still mine");
    say_finished(&r, next);
    assert_said(hear_client(later, "still mine", WAIT_MS), "still mine");
    close(later);
    close(c);
    stop(&r);
}

static void test_what_the_warden_counts_is_shown(void **state)
{
    (void)state;
    static const char *const lines[] = {"spark_cells_restarted_total{cell=\"front\",model=\"\"} 3",
                                        "spark_cells_restarted_total{cell=\"engine\",model=\"m\"} 2",
                                        "spark_memory_resident_bytes{cell=\"front\",model=\"\"} 4096",
                                        "spark_memory_resident_bytes{cell=\"engine\",model=\"m\"} 8192"};
    rig r;
    start_served(&r, settings);
    tell(&r, &(control_message){.kind = CONTROL_RESTARTED, .arg = CONTROL_THE_FRONT, .value = 3});
    tell(&r, &(control_message){.kind = CONTROL_RESTARTED, .arg = 0, .value = 2});
    tell(&r, &(control_message){.kind = CONTROL_RESIDENT, .arg = CONTROL_THE_FRONT, .value = 4096});
    tell(&r, &(control_message){.kind = CONTROL_RESIDENT, .arg = 0, .value = 8192});
    tell(&r, &(control_message){.kind = CONTROL_RESIDENT, .arg = 1, .value = 1}); /* a model that is none */
    tell(&r, &(control_message){.kind = CONTROL_PING});
    assert_true(hear(&r, CONTROL_PONG, WAIT_MS));
    const int c = dial(&r);
    static const char get[] = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_int_equal(send(c, get, sizeof get - 1, MSG_NOSIGNAL), sizeof get - 1);
    const char *text = hear_client(c, NULL, WAIT_MS);
    for (size_t i = 0; i < SPARK_COUNT(lines); i++) assert_said(text, lines[i]);
    close(c);
    stop(&r);
}

static void test_who_waits_for_a_model_that_went_away_asks_for_it_again(void **state)
{
    (void)state;
    rig r;
    start(&r, "log_level = error\nlisten = unix:/x\n[model m]\nfile =\nload = use\n");
    const int c = ask(&r, one);
    assert_true(hear(&r, CONTROL_LOAD, WAIT_MS));
    tell_model(&r, CONTROL_MODEL_ABSENT); /* another client unloaded it meanwhile */
    assert_true(hear(&r, CONTROL_LOAD, WAIT_MS));
    tell_model(&r, CONTROL_MODEL_READY);
    say_ready(&r, card);
    say_finished(&r, take_ask(&r));
    assert_said(hear_client(c, "choices", WAIT_MS), "200 OK");
    close(c);
    stop(&r);
}

/* The engine is gone, as it was told; the next one is ready and has the client's request. */
static void answered_by_the_next_engine(rig *r, int client)
{
    close(r->link);
    tell_model(r, CONTROL_MODEL_READY);
    say_ready(r, card);
    say_finished(r, take_ask(r));
    assert_said(hear_client(client, "choices", WAIT_MS), "200 OK");
}

/* A request that comes now wakes the model and waits for its next engine: this one hears nothing of it. */
static void asks_and_is_answered_by_the_next_engine(rig *r)
{
    spark_wire_frame f;
    const int c = ask(r, one);
    assert_true(hear(r, CONTROL_LOAD, WAIT_MS));
    assert_false(take(r, &f, 100));
    answered_by_the_next_engine(r, c);
    close(c);
}

/* An engine that is told to go must get no more requests: they would be lost with it. */
static void test_what_comes_after_an_unload_goes_to_the_next_engine(void **state)
{
    (void)state;
    rig r;
    start_served(&r, "log_level = error\nlisten = unix:/x\n[model m]\nfile =\nload = use\n");
    const int leaver = dial(&r);
    post(leaver, "/api/generate", "{\"model\":\"m\",\"keep_alive\":0}");
    assert_said(hear_client(leaver, "unload", WAIT_MS), "200 OK");
    assert_true(hear(&r, CONTROL_UNLOAD, WAIT_MS));
    asks_and_is_answered_by_the_next_engine(&r);
    close(leaver);
    stop(&r);
}

/* A warden that wants the memory back asks the front first: what it sent before is answered, the rest goes elsewhere. */
static void test_a_model_that_is_taken_away_is_let_go_of_by_the_front(void **state)
{
    (void)state;
    rig r;
    start_served(&r, "log_level = error\nlisten = unix:/x\n[model m]\nfile =\nload = use\n");
    const int c = ask(&r, one);
    const uint64_t s = take_ask(&r);
    tell_model(&r, CONTROL_MODEL_LEAVING);
    assert_true(hear(&r, CONTROL_UNLOAD, WAIT_MS));
    const int later = ask(&r, one);
    assert_true(hear(&r, CONTROL_LOAD, WAIT_MS));
    say_finished(&r, s);
    assert_said(hear_client(c, "choices", WAIT_MS), "200 OK");
    answered_by_the_next_engine(&r, later);
    close(c);
    close(later);
    stop(&r);
}

/* The same before its engine has greeted: a greeting that comes too late is passed over. */
static void test_a_model_that_is_taken_away_before_it_is_ready_is_let_go_of(void **state)
{
    (void)state;
    rig r;
    start(&r, "log_level = error\nlisten = unix:/x\n[model m]\nfile =\nload = use\n");
    tell_model(&r, CONTROL_MODEL_READY);
    tell_model(&r, CONTROL_MODEL_LEAVING);
    assert_true(hear(&r, CONTROL_UNLOAD, WAIT_MS));
    say_ready(&r, card);
    asks_and_is_answered_by_the_next_engine(&r);
    stop(&r);
}

static void test_a_silent_engine_is_not_waited_for_beyond_the_timeout(void **state)
{
    (void)state;
    rig r;
    start_served(&r, "log_level = error\nlisten = unix:/x\nrequest_timeout = 500ms\n[model m]\nfile =\n");
    const int c = ask(&r, one);
    (void)take_ask(&r);
    assert_said(hear_client(c, "deadline_exceeded", WAIT_MS), "HTTP/1.1 504");
    close(c);
    stop(&r);
}

/* Clients leave while the link is full of what others asked: the engine hears of it once it reads again. */
static void test_who_leaves_while_the_link_is_full_is_cancelled_later(void **state)
{
    (void)state;
    enum { LEAVERS = 60, FILLERS = 64 };
    static char body[BODY_MAX + 128];
    rig r;
    int c[LEAVERS], filler[FILLERS], n_fillers = 0;
    uint64_t streams[LEAVERS];
    start_served(&r, "log_level = error\nlisten = unix:/x\nmax_body = 8M\n[model m]\nfile =\n");
    for (int i = 0; i < LEAVERS; i++) {
        c[i] = ask(&r, one);
        streams[i] = take_ask(&r);
    }
    for (size_t len = BODY_MAX - 4096; len >= 1 && n_fillers < FILLERS; len /= 2)
        for (int k = 0; k < 3 && n_fillers < FILLERS; k++) { /* until one of that size is refused */
            char *p = body + snprintf(body, sizeof body, "{\"model\":\"m\",\"prompt\":\"");
            memset(p, 'x', len);
            memcpy(p + len, "\"}", 3);
            filler[n_fillers] = ask(&r, body);
            if (strstr(hear_client(filler[n_fillers++], "busy", len > 65536 ? 400 : 60), "429")) break;
        }
    for (int i = 0; i < LEAVERS; i++) close(c[i]);
    (void)hear_client(filler[0], NULL, 300); /* the front sees them leave */
    for (int left = LEAVERS; left > 0;) {
        spark_wire_frame f;
        if (!take(&r, &f, 3000)) fail_msg("%d of %d were never cancelled", left, LEAVERS);
        for (int i = 0; i < LEAVERS && f.type == SPARK_WIRE_CANCEL; i++)
            if (streams[i] == f.stream) {
                streams[i] = 0;
                left--;
            }
    }
    for (int i = 0; i < n_fillers; i++) close(filler[i]);
    stop(&r);
}

/* ---- Anything at all ---- */

static uint64_t dice_state;
static uint32_t dice(uint32_t n)
{
    dice_state = dice_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(dice_state >> 33) % n;
}

/* One legal frame of any kind, sensible or not. */
static void say_anything(rig *r, uint64_t stream)
{
    uint8_t bytes[300];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(dice(3) ? dice(4) : dice(256));
    const spark_wire_type types[] = {SPARK_WIRE_STARTED, SPARK_WIRE_PIECE,    SPARK_WIRE_PIECE, SPARK_WIRE_DATA,
                                     SPARK_WIRE_PIECE,   SPARK_WIRE_FINISHED, SPARK_WIRE_FAILED};
    const spark_wire_type t = types[dice(SPARK_COUNT(types))];
    const size_t len = t == SPARK_WIRE_STARTED    ? 16
                       : t == SPARK_WIRE_FINISHED ? 40
                       : t == SPARK_WIRE_FAILED   ? 16 + dice(280)
                                                  : 4 + dice(290);
    spark_err err;
    if (t == SPARK_WIRE_DATA) { /* once a stream; twice would be illegal */
        if (dice(4)) return;
    } else if (t == SPARK_WIRE_PIECE && dice(2)) {
        say_piece(r, stream, "fine");
        return;
    }
    const spark_bytes payload = {bytes, len};
    if (spark_ok(spark_wire_put(r->wire, t, stream, payload, (spark_bytes){0}, &err))) flush_link(r);
}

static void read_all(rig *r)
{
    spark_wire_frame f;
    while (take(r, &f, 0)) {
    }
}

static void test_an_engine_that_says_anything_harms_only_its_own_requests(void **state)
{
    (void)state;
    static const char *const bodies[] = {one, "{\"model\":\"m\",\"prompt\":\"x\",\"stream\":true,\"logprobs\":2}",
                                         "{\"model\":\"m\",\"prompt\":[\"x\",\"y\"],\"n\":4,\"stream\":true}",
                                         "{\"model\":\"m\",\"prompt\":\"x\",\"n\":3,\"echo\":true}"};
    rig r;
    int c[24];
    start_served(&r, settings);
    for (uint32_t seed = 1; seed <= 40; seed++) {
        dice_state = seed;
        for (int i = 0; i < 24; i++) c[i] = ask(&r, bodies[dice(SPARK_COUNT(bodies))]);
        for (int step = 0; step < 400; step++) {
            uint64_t stream = 0;
            uint32_t slot = dice(48);
            read_all(&r);
            if (step % 16 == 7) { /* a client leaves, or asks on */
                const uint32_t k = dice(24);
                if (dice(2)) {
                    close(c[k]);
                    c[k] = ask(&r, bodies[dice(SPARK_COUNT(bodies))]);
                } else {
                    post(c[k], "/v1/completions", one);
                }
            }
            if (spark_wire_next_open(r.wire, &slot, &stream)) say_anything(&r, stream);
        }
        if (seed % 4 == 0) { /* the engine breaks the rules: the next one comes */
            uint8_t junk[64];
            memset(junk, 0xee, sizeof junk);
            (void)!write(r.link, junk, sizeof junk);
        }
        for (int i = 0; i < 24; i++) close(c[i]);
        if (seed % 4) continue;
        close(r.link);
        tell_model(&r, CONTROL_MODEL_READY);
        say_ready(&r, card);
        assert_true(hear(&r, CONTROL_SWITCHED, WAIT_MS));
    }
    read_all(&r);
    for (uint32_t slot = 0; slot < SPARK_WIRE_STREAMS;) { /* all streams end, whatever is left */
        uint64_t stream;
        if (!spark_wire_next_open(r.wire, &slot, &stream)) break;
        say_finished(&r, stream);
    }
    const int last = ask(&r, one);
    spark_wire_frame f;
    do assert_true(take(&r, &f, WAIT_MS));
    while (f.type != SPARK_WIRE_ASK);
    say_piece(&r, f.stream, "all is well");
    say_finished(&r, f.stream);
    assert_said(hear_client(last, "all is well", WAIT_MS), "200 OK");
    close(last);
    stop(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_request_goes_through),
        cmocka_unit_test(test_a_hand_over_is_counted_and_never_longer_than_it_was),
        cmocka_unit_test(test_a_wait_for_a_model_is_no_hand_over),
        cmocka_unit_test(test_a_reader_that_pauses_loses_nothing),
        cmocka_unit_test(test_a_reader_of_many_choices_that_pauses_loses_nothing),
        cmocka_unit_test(test_a_malformed_piece_fails_its_request_and_cancels_it),
        cmocka_unit_test(test_a_lost_engine_fails_its_requests_and_later_ones_wait_for_the_next),
        cmocka_unit_test(test_a_model_that_cannot_be_described_is_told_to_who_waits),
        cmocka_unit_test(test_the_warden_is_answered),
        cmocka_unit_test(test_a_swap_to_an_engine_that_cannot_be_understood_leaves_the_old_one),
        cmocka_unit_test(test_a_swap_to_an_engine_that_ends_leaves_the_old_one),
        cmocka_unit_test(test_an_engine_that_breaks_the_rules_is_refused_by_its_number),
        cmocka_unit_test(test_an_engine_is_released_when_nobody_waits_for_it),
        cmocka_unit_test(test_a_choice_that_ended_does_not_touch_the_stream_that_follows_it),
        cmocka_unit_test(test_what_the_warden_counts_is_shown),
        cmocka_unit_test(test_who_waits_for_a_model_that_went_away_asks_for_it_again),
        cmocka_unit_test(test_what_comes_after_an_unload_goes_to_the_next_engine),
        cmocka_unit_test(test_a_model_that_is_taken_away_is_let_go_of_by_the_front),
        cmocka_unit_test(test_a_model_that_is_taken_away_before_it_is_ready_is_let_go_of),
        cmocka_unit_test(test_a_silent_engine_is_not_waited_for_beyond_the_timeout),
        cmocka_unit_test(test_who_leaves_while_the_link_is_full_is_cancelled_later),
        cmocka_unit_test(test_an_engine_that_says_anything_harms_only_its_own_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
