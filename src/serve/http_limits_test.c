/* http_limits_test.c - the promises of http.h about time and numbers: slow clients, slow readers, too many, draining. */
#include "serve/http_test_server.h"

/* ---- slow ones --------------------------------------------------------------------------------------------------- */

static void test_slow_heads_bodies_and_idlers_are_closed_in_time(void **state)
{
    fixture *f = *state;
    f->limits.head_ms = 30;
    f->limits.body_ms = 60;
    f->limits.idle_ms = 90;
    start_plain(f);
    const uint64_t began = spark_clock_ns();
    const int silent = dial(f), head = dial(f), body = dial(f), idle = dial(f);
    SAY(head, "GET / HT");
    SAY(body, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab");
    SAY(idle, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(status_of(hear(f, idle)), 200);
    assert_int_equal(hear_end(f, silent)->len, 0);
    assert_int_equal(status_of(hear_end(f, head)), 408);
    assert_int_equal(status_of(hear_end(f, body)), 408);
    assert_int_equal(f->n_gone, 1); /* the body's */
    assert_int_equal(hear_end(f, idle)->len, 0);
    const uint64_t ms = (spark_clock_ns() - began) / 1000000u;
    assert_in_range(ms, 80, 1500);
    close(silent);
    close(head);
    close(body);
    close(idle);
    settle(f);
    assert_int_equal(http_server_connections(f->server), 0);
}

static void test_a_body_below_the_rate_is_refused(void **state)
{
    fixture *f = *state;
    f->limits.min_body_rate = 2000;
    f->limits.min_body_rate_after_ms = 40;
    start_plain(f);
    const int slow = dial(f), quick = dial(f);
    SAY(slow, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\nab");
    SAY(quick, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3001\r\n\r\n");
    for (int i = 0; i < 30; i++) {
        SAY(quick, HTTP_S64 "0123456789012345678901234567890123456789");
        run_ms(f, 5);
    }
    assert_int_equal(status_of(hear_end(f, slow)), 408);
    (void)send(quick, "0123456789012345678901234567890123456789", 1, MSG_NOSIGNAL);
    assert_int_not_equal(status_of(hear(f, quick)), 408);
    close(slow);
    close(quick);
}

/* Fills the stream until the kernel and the backlog are full. */
static size_t fill(fixture *f, http_exchange *x)
{
    static uint8_t piece[8192];
    size_t n = 0;
    while (http_reply_room(x) > 0 && n < (64u << 20)) {
        http_reply_write(x, (spark_bytes){piece, sizeof piece});
        n += sizeof piece;
        run_ms(f, 0);
    }
    return n;
}

static void drain_client(fixture *f, int fd, size_t n)
{
    static char sink[65536];
    size_t got = 0;
    for (int i = 0; i < 5000 && got < n; i++) {
        const ssize_t r = recv(fd, sink, sizeof sink, MSG_DONTWAIT);
        if (r > 0)
            got += (size_t)r;
        else
            run_ms(f, 1);
    }
    assert_true(got >= n);
}

static void test_a_slow_reader_fills_its_backlog_and_gets_room_again(void **state)
{
    fixture *f = *state;
    f->answer = ANSWER_STREAM;
    f->limits.max_backlog = 65536;
    start_plain(f);
    const int fd = dial(f);
    SAY(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    settle(f);
    const size_t n = fill(f, held(f, 0));
    assert_true(n < (60u << 20));
    assert_int_equal(http_reply_room(held(f, 0)), 0);
    assert_int_equal(f->n_room, 0);
    drain_client(f, fd, n);
    run_until(f, &f->n_room, 1);
    assert_true(http_reply_room(held(f, 0)) >= 32768);
    assert_int_equal(f->n_gone, 0);
    http_reply_end(held(f, 0), (spark_bytes){0});
    settle(f);
    assert_int_equal(http_server_exchanges(f->server), 0);
    close(fd);
}

static void test_writing_on_without_room_loses_the_connection(void **state)
{
    fixture *f = *state;
    f->answer = ANSWER_STREAM;
    f->limits.max_backlog = 65536;
    start_plain(f);
    const int fd = dial(f);
    static const uint8_t piece[8192];
    SAY(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    settle(f);
    fill(f, held(f, 0));
    for (int i = 0; i < 9; i++) http_reply_write(held(f, 0), (spark_bytes){piece, sizeof piece});
    settle(f);
    assert_int_equal(f->n_gone, 1);
    close(fd);
}

static void test_a_reader_that_takes_nothing_is_gone_in_time(void **state)
{
    fixture *f = *state;
    f->answer = ANSWER_STREAM;
    f->limits.write_ms = 40;
    start_plain(f);
    const int fd = dial(f);
    SAY(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    settle(f);
    fill(f, held(f, 0));
    run_until(f, &f->n_gone, 1);
    assert_int_equal(http_server_connections(f->server), 0);
    close(fd);
}

static void test_a_large_reply_reaches_a_slow_reader_whole(void **state)
{
    fixture *f = *state;
    f->answer = ANSWER_LATER;
    start_plain(f);
    const int fd = dial(f);
    static uint8_t body[16 << 20];
    SAY(fd, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    settle(f);
    http_reply(held(f, 0), 200, "text/plain", (spark_bytes){body, sizeof body}, NULL, 0);
    drain_client(f, fd, sizeof body);
    assert_true(hear_end(f, fd)->closed);
    close(fd);
}

static void test_a_gathered_reply_is_let_go_of_as_it_is_read(void **state)
{
    enum { LEN = 24 << 20 };
    fixture *f = *state;
    f->answer = ANSWER_LATER;
    f->limits.max_replies = 32u << 20;
    start_plain(f);
    const int fd = dial(f);
    static uint8_t text[65536];
    SAY(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    http_exchange *x = held(f, 0);
    held_bytes body = gather_pattern(http_reply_share(x), LEN);
    http_reply_held(x, 200, "text/plain", &body, NULL, 0);
    run_ms(f, 20);
    uint64_t before = http_server_replies(f->server);
    assert_true(before > 1 << 20);
    size_t got = 0, head = 0;
    while (head == 0 || got < LEN) {
        const ssize_t n = recv(fd, text, sizeof text - 1, MSG_DONTWAIT);
        if (n <= 0) {
            assert_true(n < 0 && errno == EAGAIN);
            run_ms(f, 1);
            assert_true(http_server_replies(f->server) <= before);
            before = http_server_replies(f->server);
            continue;
        }
        size_t at = 0;
        if (head == 0) {
            text[n] = 0;
            head = at = (size_t)(strstr((char *)text, "\r\n\r\n") + 4 - (char *)text);
        }
        for (; at < (size_t)n; at++, got++)
            if (text[at] != pattern_at(got)) fail_msg("byte %zu is another", got);
    }
    settle(f);
    assert_int_equal(http_server_replies(f->server), 0);
    close(fd);
}

static void test_a_client_that_leaves_gives_back_what_was_held_for_it(void **state)
{
    fixture *f = *state;
    f->answer = ANSWER_LATER;
    start_plain(f);
    for (int i = 0; i < 3; i++) {
        const int fd = dial(f);
        SAY(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        http_exchange *x = held(f, i);
        held_bytes body = gather_pattern(http_reply_share(x), 16 << 20);
        http_reply_held(x, 200, "text/plain", &body, NULL, 0);
        run_ms(f, 5);
        assert_true(http_server_replies(f->server) > 1 << 20);
        close(fd);
        for (int k = 0; k < 200 && http_server_replies(f->server) > 0; k++) run_ms(f, 1);
        assert_int_equal(http_server_replies(f->server), 0);
    }
    assert_int_equal(http_server_connections(f->server), 0);
}

/* Some bytes in each write_ms: far below the rate, so it is gone though it always takes something. */
static void test_a_reader_below_the_rate_is_gone_in_time(void **state)
{
    fixture *f = *state;
    static uint8_t body[24 << 20], sink[1 << 18];
    const struct timespec pause = {0, 10000000};
    f->answer = ANSWER_LATER;
    f->limits.write_ms = 300;
    f->limits.min_body_rate = 1u << 30;
    start_plain(f);
    const int fd = dial(f);
    SAY(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    http_reply(held(f, 0), 200, "text/plain", (spark_bytes){body, sizeof body}, NULL, 0);
    const uint64_t began = spark_clock_ns();
    for (int i = 0; i < 80 && http_server_connections(f->server) > 0; i++) { /* 20 MB in 800 ms */
        (void)recv(fd, sink, sizeof sink, MSG_DONTWAIT);
        run_ms(f, 1);
        nanosleep(&pause, NULL);
    }
    assert_true((spark_clock_ns() - began) / 1000000u >= 250);
    assert_int_equal(http_server_connections(f->server), 0);
    assert_int_equal(http_server_replies(f->server), 0);
    close(fd);
}

/* Whether the connection of a reader that takes nothing of a body of so many bytes is there after half a second. */
static bool stays(fixture *f, size_t len)
{
    static uint8_t body[24 << 20];
    const int fd = dial(f), n = f->n_requests;
    SAY(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    run_until(f, &f->n_requests, n + 1);
    http_reply(held(f, n), 200, "text/plain", (spark_bytes){body, len}, NULL, 0);
    run_ms(f, 500);
    const bool there = http_server_connections(f->server) > 0;
    close(fd);
    for (int k = 0; k < 200 && http_server_connections(f->server) > 0; k++) run_ms(f, 1);
    assert_int_equal(http_server_replies(f->server), 0);
    return there;
}

static void test_readers_that_take_nothing_go_sooner_while_replies_are_scarce(void **state)
{
    fixture *f = *state;
    f->answer = ANSWER_LATER;
    f->limits.write_ms = 60000;
    f->limits.write_scarce_ms = 200;
    f->limits.max_replies = 24u << 20;
    start_plain(f);
    assert_true(stays(f, 12u << 20));
    assert_false(stays(f, 20u << 20));
    assert_true(stays(f, 12u << 20));
}

static void test_the_next_request_waits_until_its_client_has_read(void **state)
{
    fixture *f = *state;
    static uint8_t body[16 << 20];
    f->answer = ANSWER_LATER;
    start_plain(f);
    const int fd = dial(f);
    SAY(fd, "GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n");
    http_reply(held(f, 0), 200, "text/plain", (spark_bytes){body, sizeof body}, NULL, 0);
    run_ms(f, 50);
    assert_int_equal(f->n_requests, 1);
    drain_client(f, fd, sizeof body);
    run_until(f, &f->n_requests, 2);
    http_reply(held(f, 1), 200, "text/plain", SPARK_BYTES_LITERAL("second"), NULL, 0);
    assert_non_null(strstr(hear(f, fd)->text, "second"));
    close(fd);
}

/* ---- how many ---------------------------------------------------------------------------------------------------- */

static void test_beyond_max_connections_the_longest_idle_makes_room(void **state)
{
    fixture *f = *state;
    f->limits.max_connections = 3;
    start_plain(f);
    int fds[5];
    for (int i = 0; i < 4; i++) {
        fds[i] = dial(f);
        SAY(fds[i], "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_int_equal(status_of(hear(f, fds[i])), 200);
    }
    assert_true(hear(f, fds[0])->closed);
    assert_false(hear(f, fds[1])->closed);
    f->answer = ANSWER_LATER;
    for (int i = 1; i < 4; i++) SAY(fds[i], "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    settle(f);
    fds[4] = dial(f); /* none is idle */
    SAY(fds[4], "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    const heard *h = hear(f, fds[4]);
    assert_int_equal(status_of(h), 503);
    assert_non_null(strstr(h->text, "Retry-After: 1\r\n"));
    assert_int_equal(http_server_connections(f->server), 3);
    for (int i = 0; i < 5; i++) close(fds[i]);
}

static void test_one_address_has_its_own_limit(void **state)
{
    fixture *f = *state;
    f->limits.max_connections_per_address = 2;
    start_plain(f);
    const int a = dial(f), b = dial(f), c = dial(f);
    settle(f);
    assert_int_equal(status_of(hear(f, c)), 429);
    close(a);
    settle(f);
    const int d = dial(f);
    SAY(d, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(status_of(hear(f, d)), 200);
    close(b);
    close(c);
    close(d);
}

static void test_without_descriptors_accepting_waits_and_does_not_spin(void **state)
{
    fixture *f = *state;
    start_plain(f);
    struct rlimit old, low;
    const int fd = dial(f);
    const int probe = dup(0); /* the next free number */
    close(probe);
    getrlimit(RLIMIT_NOFILE, &old);
    low = (struct rlimit){(rlim_t)probe, old.rlim_max};
    setrlimit(RLIMIT_NOFILE, &low);
    SAY(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    const struct timeval half = {0, 300000};
    event_base_loopexit(f->base, &half);
    const clock_t began = clock();
    event_base_dispatch(f->base);
    const double cpu_ms = (double)(clock() - began) * 1000 / CLOCKS_PER_SEC;
    setrlimit(RLIMIT_NOFILE, &old);
    assert_int_equal(http_server_connections(f->server), 0);
    if (cpu_ms > 100) fail_msg("%.0f ms of CPU in 300 ms", cpu_ms);
    assert_int_equal(status_of(hear(f, fd)) == 200 || (run_ms(f, 200), status_of(hear(f, fd)) == 200), 1);
    close(fd);
}

static void test_draining_closes_idlers_and_finishes_what_runs(void **state)
{
    fixture *f = *state;
    start_plain(f);
    const int idle = dial(f), runs = dial(f);
    SAY(idle, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(status_of(hear(f, idle)), 200);
    f->answer = ANSWER_LATER;
    SAY(runs, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    settle(f);
    http_server_stop_listening(f->server);
    assert_true(hear(f, idle)->closed);
    const int late = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(late, (struct sockaddr *)&f->address, f->address_len), -1);
    assert_int_equal(http_server_exchanges(f->server), 1);
    http_reply(held(f, 0), 200, "text/plain", SPARK_BYTES_LITERAL("done"), NULL, 0);
    const heard *h = hear_end(f, runs);
    assert_int_equal(status_of(h), 200);
    assert_non_null(strstr(h->text, "Connection: close\r\n"));
    assert_int_equal(http_server_connections(f->server), 0);
    close(idle);
    close(runs);
    close(late);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        HTTP_TEST(test_slow_heads_bodies_and_idlers_are_closed_in_time),
        HTTP_TEST(test_a_body_below_the_rate_is_refused),
        HTTP_TEST(test_a_slow_reader_fills_its_backlog_and_gets_room_again),
        HTTP_TEST(test_writing_on_without_room_loses_the_connection),
        HTTP_TEST(test_a_reader_that_takes_nothing_is_gone_in_time),
        HTTP_TEST(test_a_large_reply_reaches_a_slow_reader_whole),
        HTTP_TEST(test_a_gathered_reply_is_let_go_of_as_it_is_read),
        HTTP_TEST(test_a_client_that_leaves_gives_back_what_was_held_for_it),
        HTTP_TEST(test_a_reader_below_the_rate_is_gone_in_time),
        HTTP_TEST(test_readers_that_take_nothing_go_sooner_while_replies_are_scarce),
        HTTP_TEST(test_the_next_request_waits_until_its_client_has_read),
        HTTP_TEST(test_beyond_max_connections_the_longest_idle_makes_room),
        HTTP_TEST(test_one_address_has_its_own_limit),
        HTTP_TEST(test_without_descriptors_accepting_waits_and_does_not_spin),
        HTTP_TEST(test_draining_closes_idlers_and_finishes_what_runs),
    };
    return cmocka_run_group_tests_name("http_limits", tests, NULL, NULL);
}
