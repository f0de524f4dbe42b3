/* http_test.c - the promises of http.h over real sockets: requests, replies, clients that leave. */
#include "serve/http_test_server.h"

/* ---- requests ---------------------------------------------------------------------------------------------------- */

static void check_case(fixture *f, const http_case *c, bool bytewise)
{
    const int fd = dial(f);
    if (bytewise) {
        for (size_t i = 0; i < c->len; i++) {
            if (send(fd, c->raw + i, 1, MSG_NOSIGNAL) != 1) break; /* refused before the end */
            run_ms(f, 0);
        }
    } else {
        say(fd, c->raw, c->len);
    }
    const heard *h = c->status == 100 || c->keeps ? hear(f, fd) : hear_end(f, fd);
    const int status = status_of(h);
    if (status != c->status) fail_msg("%s: %d instead of %d\n%s", c->name, status, c->status, h->text);
    if (c->status != 100 && h->closed == c->keeps) fail_msg("%s: %s", c->name, h->closed ? "closed" : "kept open");
    if (status >= 400) {
        assert_non_null(strstr(h->text, "\r\nContent-Type: application/json\r\n"));
        assert_non_null(strstr(h->text, "\r\nConnection: close\r\n"));
        assert_non_null(strstr(h->text, "\r\n\r\n{\"error\":{\"message\":\""));
        assert_non_null(strstr(h->text, "\"type\":\""));
        assert_non_null(strstr(h->text, "\"code\":\""));
        assert_false(h->reset);
    }
    close(fd);
}

static void test_each_raw_request_gets_its_status_and_close(void **state)
{
    fixture *f = *state;
    start_plain(f);
    for (size_t i = 0; i < SPARK_COUNT(http_cases); i++) check_case(f, &http_cases[i], false);
    settle(f);
    assert_int_equal(http_server_connections(f->server), 0);
    assert_int_equal(http_server_exchanges(f->server), 0);
}

static void test_requests_byte_by_byte_get_the_same(void **state)
{
    fixture *f = *state;
    start_plain(f);
    for (size_t i = 0; i < SPARK_COUNT(http_cases); i++)
        if (http_cases[i].len < 400) check_case(f, &http_cases[i], true);
}

static void test_one_connection_serves_many_requests(void **state)
{
    fixture *f = *state;
    start_plain(f);
    const int fd = dial(f);
    for (int i = 0; i < 200; i++) {
        SAY(fd, "POST /n HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
        const heard *h = hear(f, fd);
        assert_int_equal(status_of(h), 200);
        assert_non_null(strstr(h->text, "Content-Length: 3\r\n"));
        assert_non_null(strstr(h->text, "\r\n\r\nabc"));
    }
    assert_int_equal(http_server_connections(f->server), 1);
    close(fd);
}

static void test_a_request_is_whole_when_its_last_byte_was_read(void **state)
{
    fixture *f = *state;
    f->answer = ANSWER_LATER;
    start_plain(f);
    const int fd = dial(f);
    SAY(fd, "POST /n HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab");
    run_ms(f, 60);
    const uint64_t before = spark_clock_ns();
    SAY(fd, "c");
    run_until(f, &f->n_requests, 1);
    const uint64_t whole = http_exchange_whole_ns(f->held[0]);
    assert_true(http_exchange_began_ns(f->held[0]) < before);
    assert_true(whole >= before && whole <= spark_clock_ns());
    http_reply(f->held[0], 200, "text/plain", SPARK_BYTES_LITERAL("ok"), NULL, 0);
    close(fd);
}

static void test_pipelined_requests_are_answered_in_order_one_at_a_time(void **state)
{
    fixture *f = *state;
    f->answer = ANSWER_LATER;
    start_plain(f);
    const int fd = dial(f);
    SAY(fd, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nxGET /3 "
            "HTTP/1.1\r\nHost: a\r\n\r\n");
    for (int i = 1; i <= 3; i++) {
        run_until(f, &f->n_requests, i);
        http_reply(held(f, i - 1), 200, "text/plain", (spark_bytes){(const uint8_t *)&"123"[i - 1], 1}, NULL, 0);
    }
    const heard *h = hear(f, fd);
    assert_int_equal(count_of(h->text, "HTTP/1.1 200 OK"), 3);
    assert_true(strstr(h->text, "\r\n\r\n1HTTP") < strstr(h->text, "\r\n\r\n2HTTP"));
    assert_int_equal(h->text[h->len - 1], '3');
    close(fd);
}

static void test_head_gets_the_length_and_no_body(void **state)
{
    fixture *f = *state;
    f->answer = ANSWER_LATER;
    start_plain(f);
    const int fd = dial(f);
    SAY(fd, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    settle(f);
    http_reply(held(f, 0), 200, "text/plain", SPARK_BYTES_LITERAL("hello"), NULL, 0);
    const heard *h = hear(f, fd);
    assert_non_null(strstr(h->text, "Content-Length: 5\r\n"));
    assert_string_equal(strstr(h->text, "\r\n\r\n"), "\r\n\r\n");
    SAY(fd, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"); /* streamed */
    settle(f);
    http_reply_begin(held(f, 1), 200, "text/plain", NULL, 0);
    http_reply_write(held(f, 1), SPARK_BYTES_LITERAL("hello"));
    http_reply_end(held(f, 1), (spark_bytes){0});
    h = hear(f, fd);
    assert_string_equal(strstr(h->text, "\r\n\r\n"), "\r\n\r\n");
    assert_false(h->closed);
    close(fd);
}

static void test_a_streamed_reply_comes_in_chunks_as_it_is_written(void **state)
{
    fixture *f = *state;
    f->answer = ANSWER_STREAM;
    start_plain(f);
    const int fd = dial(f);
    SAY(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    const heard *h = hear(f, fd);
    assert_non_null(strstr(h->text, "Transfer-Encoding: chunked\r\n"));
    assert_null(strstr(h->text, "Content-Length"));
    http_reply_write(held(f, 0), SPARK_BYTES_LITERAL("data: 1\n\n"));
    http_reply_write(held(f, 0), SPARK_BYTES_LITERAL(""));
    assert_string_equal(hear(f, fd)->text, "9\r\ndata: 1\n\n\r\n");
    http_reply_write(held(f, 0), SPARK_BYTES_LITERAL("0123456789abcdef!"));
    http_reply_end(held(f, 0), (spark_bytes){0});
    assert_string_equal(hear(f, fd)->text, "11\r\n0123456789abcdef!\r\n0\r\n\r\n");
    f->answer = ANSWER_ECHO;
    SAY(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(status_of(hear(f, fd)), 200);
    close(fd);
}

static void test_a_stream_to_a_1_0_client_ends_with_the_connection(void **state)
{
    fixture *f = *state;
    f->answer = ANSWER_STREAM;
    start_plain(f);
    const int fd = dial(f);
    SAY(fd, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    settle(f);
    http_reply_write(held(f, 0), SPARK_BYTES_LITERAL("abc"));
    http_reply_write(held(f, 0), SPARK_BYTES_LITERAL("def"));
    http_reply_end(held(f, 0), (spark_bytes){0});
    const heard *h = hear_end(f, fd);
    assert_null(strstr(h->text, "chunked"));
    assert_non_null(strstr(h->text, "Connection: close\r\n"));
    assert_string_equal(strstr(h->text, "\r\n\r\n"), "\r\n\r\nabcdef");
    assert_false(h->reset);
    close(fd);
}

static void test_an_aborted_stream_has_no_last_chunk(void **state)
{
    fixture *f = *state;
    f->answer = ANSWER_STREAM;
    start_plain(f);
    int fd = dial(f);
    SAY(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    settle(f);
    http_reply_write(held(f, 0), SPARK_BYTES_LITERAL("abc"));
    http_reply_abort(held(f, 0));
    const heard *h = hear_end(f, fd);
    assert_non_null(strstr(h->text, "3\r\nabc\r\n"));
    assert_null(strstr(h->text, "0\r\n\r\n"));
    close(fd);
    fd = dial(f);
    SAY(fd, "GET / HTTP/1.0\r\n\r\n");
    settle(f);
    http_reply_write(held(f, 1), SPARK_BYTES_LITERAL("abc"));
    http_reply_abort(held(f, 1));
    assert_true(hear_end(f, fd)->reset); /* a close would look like the end */
    close(fd);
    assert_int_equal(f->n_gone, 0);
}

static void test_each_reply_carries_its_own_id_and_safe_headers(void **state)
{
    fixture *f = *state;
    f->answer = ANSWER_LATER;
    start_plain(f);
    const int fd = dial(f);
    char first[32];
    const http_field fields[] = {{"X-A", "b\r\nX-Evil: 1"}, {"Cache-Control", "max-age=60"}};
    SAY(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    settle(f);
    snprintf(first, sizeof first, "%s", http_request_id(held(f, 0)));
    assert_int_equal(strlen(first), 20);
    http_reply(held(f, 0), 200, "text/plain", SPARK_BYTES_LITERAL("x"), fields, 2);
    const heard *h = hear(f, fd);
    assert_non_null(strstr(h->text, first));
    assert_non_null(strstr(h->text, "\r\nX-A: b??X-Evil: 1\r\n"));
    assert_non_null(strstr(h->text, "\r\nX-Content-Type-Options: nosniff\r\n"));
    assert_null(strstr(h->text, "no-store"));
    const char *date = strstr(h->text, "\r\nDate: ");
    struct tm tm = {.tm_isdst = 0};
    assert_non_null(date);
    assert_non_null(strptime(date + 8, "%a, %d %b %Y %H:%M:%S GMT", &tm));
    assert_true(llabs((long long)timegm(&tm) - (long long)time(NULL)) < 5);
    SAY(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    settle(f);
    assert_string_not_equal(first, http_request_id(held(f, 1)));
    http_reply(held(f, 1), 204, NULL, (spark_bytes){NULL, 0}, NULL, 0);
    h = hear(f, fd);
    assert_null(strstr(h->text, "Content-Length"));
    assert_non_null(strstr(h->text, "no-store"));
    close(fd);
}

/* ---- heads answered at once -------------------------------------------------------------------------------------- */

static void test_a_reply_at_the_head_spares_the_body(void **state)
{
    fixture *f = *state;
    f->answer = ANSWER_AT_HEAD;
    start_plain(f);
    int fd = dial(f);
    SAY(fd, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8000\r\nExpect: 100-continue\r\n\r\nabc");
    const heard *h = hear(f, fd);
    assert_int_equal(status_of(h), 401); /* and no 100 before */
    assert_non_null(strstr(h->text, "Connection: close\r\n"));
    assert_true(h->closed);
    assert_false(h->reset);
    close(fd);
    fd = dial(f);
    SAY(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); /* without a body the connection stays */
    h = hear(f, fd);
    assert_int_equal(status_of(h), 401);
    assert_false(h->closed);
    close(fd);
    assert_int_equal(f->n_requests, 0);
    assert_int_equal(f->n_gone, 0);
}

static void test_expect_gets_100_once_the_head_is_accepted(void **state)
{
    fixture *f = *state;
    start_plain(f);
    const int fd = dial(f);
    SAY(fd, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    assert_string_equal(hear(f, fd)->text, "HTTP/1.1 100 Continue\r\n\r\n");
    assert_int_equal(f->n_requests, 0);
    SAY(fd, "abc");
    assert_int_equal(status_of(hear(f, fd)), 200);
    close(fd);
}

static void test_a_route_may_take_less_body(void **state)
{
    fixture *f = *state;
    f->max_body = 10;
    start_plain(f);
    int fd = dial(f);
    SAY(fd, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n");
    assert_int_equal(status_of(hear(f, fd)), 413);
    close(fd);
    fd = dial(f);
    SAY(fd, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n01234567\r\n8\r\n");
    assert_int_equal(status_of(hear(f, fd)), 413);
    close(fd);
    assert_int_equal(f->n_gone, 2);
    fd = dial(f); /* the limit was that of those requests */
    f->max_body = 0;
    SAY(fd, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n0123456789a");
    assert_int_equal(status_of(hear(f, fd)), 200);
    close(fd);
}

/* ---- clients that leave ------------------------------------------------------------------------------------------ */

typedef enum leave { LEAVE_CLOSE, LEAVE_HALF, LEAVE_RESET } leave;

static void leave_by(int fd, leave how)
{
    const struct linger now = {1, 0};
    if (how == LEAVE_HALF) shutdown(fd, SHUT_WR);
    if (how == LEAVE_RESET) setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    if (how != LEAVE_HALF) close(fd);
}

static void test_a_client_that_leaves_while_the_handler_thinks_is_gone_once(void **state)
{
    fixture *f = *state;
    f->answer = ANSWER_LATER;
    start_plain(f);
    for (int how = LEAVE_CLOSE; how <= LEAVE_RESET; how++) {
        const int fd = dial(f);
        SAY(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        run_until(f, &f->n_requests, how + 1);
        assert_int_equal(http_server_exchanges(f->server), 1);
        leave_by(fd, (leave)how);
        run_until(f, &f->n_gone, how + 1);
        assert_ptr_equal(f->gone, f->held[how]);
        run_ms(f, 3);
        assert_int_equal(f->n_gone, how + 1);
        assert_int_equal(http_server_exchanges(f->server), 0);
        assert_int_equal(http_server_connections(f->server), 0);
        if (how == LEAVE_HALF) close(fd);
    }
}

static void reset(int fd)
{
    const struct linger now = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(fd);
}

static void test_a_request_that_a_reset_has_overtaken_never_was(void **state)
{
    fixture *f = *state;
    start_plain(f);
    f->answer = ANSWER_LATER;
    int fd = dial(f);
    SAY(fd, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    reset(fd);
    settle(f);
    assert_int_equal(f->n_heads, 0);
    assert_int_equal(http_server_connections(f->server), 0);
    fd = dial(f);
    SAY(fd, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nh");
    run_until(f, &f->n_heads, 1);
    SAY(fd, "i");
    reset(fd);
    run_until(f, &f->n_gone, 1);
    assert_int_equal(f->n_requests, 0);
    fd = dial(f);
    SAY(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    (void)held(f, 0);
    reset(fd); /* later: told at once */
    run_until(f, &f->n_gone, 2);
    assert_int_equal(http_server_connections(f->server), 0);
}

static void test_a_client_that_leaves_during_a_stream_is_gone_once(void **state)
{
    fixture *f = *state;
    f->answer = ANSWER_STREAM;
    start_plain(f);
    for (int how = LEAVE_CLOSE; how <= LEAVE_RESET; how++) {
        const int fd = dial(f);
        SAY(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        settle(f);
        http_reply_write(held(f, how), SPARK_BYTES_LITERAL("abc"));
        settle(f);
        leave_by(fd, (leave)how);
        http_reply_write(held(f, how), SPARK_BYTES_LITERAL("def")); /* not known yet */
        http_reply_write(held(f, how), SPARK_BYTES_LITERAL("ghi"));
        run_until(f, &f->n_gone, how + 1);
        assert_ptr_equal(f->gone, f->held[how]);
        run_ms(f, 3);
        assert_int_equal(f->n_gone, how + 1);
        if (how == LEAVE_HALF) close(fd);
    }
    assert_int_equal(http_server_connections(f->server), 0);
}

static void test_a_client_that_leaves_within_its_body_is_gone(void **state)
{
    fixture *f = *state;
    start_plain(f);
    for (int how = LEAVE_CLOSE; how <= LEAVE_RESET; how++) {
        const int fd = dial(f);
        SAY(fd, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab");
        run_until(f, &f->n_heads, how + 1);
        leave_by(fd, (leave)how);
        run_until(f, &f->n_gone, how + 1);
        if (how == LEAVE_HALF) close(fd);
    }
    assert_int_equal(f->n_requests, 0);
    assert_int_equal(http_server_connections(f->server), 0);
}

static void test_a_broken_body_ends_the_exchange_and_gets_its_400(void **state)
{
    fixture *f = *state;
    start_plain(f);
    const int fd = dial(f);
    SAY(fd, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    settle(f);
    assert_int_equal(f->n_heads, 1);
    SAY(fd, "0x1\r\n");
    assert_int_equal(status_of(hear(f, fd)), 400);
    assert_int_equal(f->n_gone, 1);
    close(fd);
}

static void test_leaving_is_seen_behind_more_than_is_read_ahead(void **state)
{
    fixture *f = *state;
    f->answer = ANSWER_LATER;
    start_plain(f);
    const int fd = dial(f);
    static char more[4 * SPARK_MAX_HTTP_AHEAD];
    memset(more, 'x', sizeof more);
    SAY(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    say(fd, more, sizeof more);
    run_until(f, &f->n_requests, 1);
    assert_int_equal(f->n_gone, 0);
    shutdown(fd, SHUT_WR);
    run_until(f, &f->n_gone, 1);
    close(fd);
}

static void test_a_client_that_sends_and_half_closes_gets_a_ready_answer_whole(void **state)
{
    fixture *f = *state;
    f->limits.max_body = 4 << 20;
    start_plain(f);
    static char body[1 << 20];
    memset(body, 'y', sizeof body);
    const int fd = dial(f);
    SAY(fd, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    shutdown(fd, SHUT_WR);
    const heard *h = hear_end(f, fd);
    assert_int_equal(count_of(h->text, "HTTP/1.1 200 OK"), 2);
    assert_false(h->reset);
    close(fd);
}

static void test_destroy_tells_every_open_exchange(void **state)
{
    fixture *f = *state;
    f->answer = ANSWER_LATER;
    const int before = open_descriptors();
    start_plain(f);
    int fds[5];
    for (int i = 0; i < 5; i++) {
        fds[i] = dial(f);
        SAY(fds[i], "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    settle(f);
    assert_int_equal(http_server_exchanges(f->server), 5);
    http_server_destroy(&f->server);
    assert_int_equal(f->n_gone, 5);
    for (int i = 0; i < 5; i++) close(fds[i]);
    event_base_free(f->base);
    f->base = NULL;
    assert_int_equal(open_descriptors(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        HTTP_TEST(test_each_raw_request_gets_its_status_and_close),
        HTTP_TEST(test_requests_byte_by_byte_get_the_same),
        HTTP_TEST(test_one_connection_serves_many_requests),
        HTTP_TEST(test_a_request_is_whole_when_its_last_byte_was_read),
        HTTP_TEST(test_pipelined_requests_are_answered_in_order_one_at_a_time),
        HTTP_TEST(test_head_gets_the_length_and_no_body),
        HTTP_TEST(test_a_streamed_reply_comes_in_chunks_as_it_is_written),
        HTTP_TEST(test_a_stream_to_a_1_0_client_ends_with_the_connection),
        HTTP_TEST(test_an_aborted_stream_has_no_last_chunk),
        HTTP_TEST(test_each_reply_carries_its_own_id_and_safe_headers),
        HTTP_TEST(test_a_reply_at_the_head_spares_the_body),
        HTTP_TEST(test_expect_gets_100_once_the_head_is_accepted),
        HTTP_TEST(test_a_route_may_take_less_body),
        HTTP_TEST(test_a_client_that_leaves_while_the_handler_thinks_is_gone_once),
        HTTP_TEST(test_a_request_that_a_reset_has_overtaken_never_was),
        HTTP_TEST(test_a_client_that_leaves_during_a_stream_is_gone_once),
        HTTP_TEST(test_a_client_that_leaves_within_its_body_is_gone),
        HTTP_TEST(test_a_broken_body_ends_the_exchange_and_gets_its_400),
        HTTP_TEST(test_leaving_is_seen_behind_more_than_is_read_ahead),
        HTTP_TEST(test_a_client_that_sends_and_half_closes_gets_a_ready_answer_whole),
        HTTP_TEST(test_destroy_tells_every_open_exchange),
    };
    return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}
