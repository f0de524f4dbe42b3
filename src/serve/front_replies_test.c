/* front_replies_test.c - what the front holds of replies: one bound for those that are being made and those that wait for their readers. */
#include "base/clock.h"
#include "serve/front_rig.h"

#define SUM         (1 << 20)
#define SETTINGS(x) "log_level = error\nlisten = unix:/x\nmax_replies = 1M\n" x "[model m]\nfile =\n"

enum { MANY = 12, TOPS = 20 };

static const char probs[] = "{\"prompt\":\"x\",\"n_probs\":20}",
                  probs_stream[] = "{\"prompt\":\"x\",\"n_probs\":20,\"stream\":true}", plain[] = "{\"prompt\":\"x\"}";

typedef struct client {
    int fd;
    uint64_t stream;
    bool cancelled;
} client;

static client asks_for(rig *r, const char *body)
{
    client c = {.fd = dial(r)};
    post(c.fd, "/completion", body);
    c.stream = take_ask(r);
    return c;
}

/* What the front says to its engine. False: nothing more within so many milliseconds. */
static bool hear_front(rig *r, client *c, size_t n, int ms)
{
    spark_wire_frame f;
    if (!take(r, &f, ms)) return false;
    for (size_t i = 0; i < n; i++)
        if (f.type == SPARK_WIRE_CANCEL && c[i].stream == f.stream) c[i].cancelled = true;
    return true;
}

/* One token with its alternatives: about 2 KB of JSON. */
static void say_token(rig *r, uint64_t stream)
{
    static uint8_t head[SPARK_PIECE_HEAD_MAX + 8];
    spark_piece_message m = {.has_token = true, .has_logprobs = true, .n_top = TOPS};
    m.token = (spark_token_text){.id = 5, .logprob = -1.25f, .text = SPARK_BYTES_LITERAL(" abcdef")};
    for (uint32_t k = 0; k < TOPS; k++) m.top[k] = m.token;
    const size_t n = spark_put_piece(head, &m);
    memcpy(head + n, " abcdef", 7);
    say(r, SPARK_WIRE_PIECE, stream, head, n + 7);
}

/* n tokens to each, in turns, as far as their credit goes; ends when all have them, or none gets on for so long. */
static void give_tokens_until(rig *r, client *c, size_t n_clients, uint32_t n, int stuck_ms)
{
    uint32_t given[MANY] = {0};
    size_t n_open = n_clients;
    for (bool on = true; on && n_open > 0;) {
        on = false;
        n_open = 0;
        for (size_t i = 0; i < n_clients; i++) {
            if (c[i].cancelled || given[i] == n) continue;
            n_open++;
            if (spark_wire_credit(r->wire, c[i].stream) > 0) {
                say_token(r, c[i].stream);
                given[i]++;
                on = true;
            }
        }
        while (hear_front(r, c, n_clients, on || n_open == 0 ? 0 : stuck_ms)) on = true;
    }
    while (hear_front(r, c, n_clients, 100)) {
    } /* who is refused with his last token */
}

static void give_tokens(rig *r, client *c, size_t n_clients, uint32_t n)
{
    give_tokens_until(r, c, n_clients, n, WAIT_MS);
}

/* The engine's answer is longer than what is read of it. */
static void give_what_is_taken(rig *r, client *c, size_t n_clients) { give_tokens_until(r, c, n_clients, 2000, 700); }

static void finish(rig *r, client *c, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!c[i].cancelled) say_finished(r, c[i].stream);
    while (hear_front(r, c, n, 100)) {
    }
}

static void hang_up(client *c, size_t n)
{
    for (size_t i = 0; i < n; i++) close(c[i].fd);
}

static double replies_held(rig *r)
{
    const double n = metric(r, "spark_replies_bytes");
    if (n > SUM) fail_msg("%.0f bytes are held", n);
    return n;
}

static void wait_empty(rig *r)
{
    for (int i = 0; i < 100 && replies_held(r) > 0; i++) usleep(20000);
    assert_true(replies_held(r) == 0);
}

static int count_of(const char *text, const char *what)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, what)); at++) n++;
    return n;
}

/* Reads the whole reply; it has so many tokens. */
static void assert_whole(const client *c, int n_tokens)
{
    const char *text = hear_client(c->fd, "\"timings\":", WAIT_MS);
    assert_said(text, "HTTP/1.1 200");
    assert_int_equal(count_of(text, "\"top_logprobs\":["), n_tokens);
}

/* A large reply, alone, is made; a sum that had leaked would refuse it. */
static void assert_nothing_leaked(rig *r)
{
    wait_empty(r);
    client c = asks_for(r, probs);
    give_tokens(r, &c, 1, 300);
    finish(r, &c, 1);
    assert_false(c.cancelled);
    assert_whole(&c, 300);
    close(c.fd);
    wait_empty(r);
}

static void assert_small_ones_are_served(rig *r)
{
    client c = asks_for(r, plain);
    say_piece(r, c.stream, "hello");
    say_finished(r, c.stream);
    assert_said(hear_client(c.fd, "\"timings\":", WAIT_MS), "\"content\":\"hello\"");
    close(c.fd);
}

static void assert_who_reads_is_served(rig *r)
{
    client c = asks_for(r, probs_stream);
    for (int part = 0; part < 4; part++) {
        give_tokens(r, &c, 1, 40);
        assert_int_equal(count_of(hear_client(c.fd, NULL, 100), "\"top_logprobs\":["), 40);
    }
    finish(r, &c, 1);
    assert_false(c.cancelled);
    assert_said(hear_client(c.fd, "\"timings\":", WAIT_MS), "\"stop\":true");
    close(c.fd);
}

static void test_what_would_pass_the_sum_is_told_and_cancelled_and_others_are_answered(void **state)
{
    (void)state;
    rig r;
    client c[MANY];
    int n_refused = 0;
    start_served(&r, SETTINGS(""));
    for (int i = 0; i < MANY; i++) c[i] = asks_for(&r, probs);
    give_tokens(&r, c, MANY, 100);
    assert_true(replies_held(&r) > SUM / 2);
    for (int i = 0; i < MANY; i++) n_refused += c[i].cancelled;
    assert_in_range(n_refused, MANY - 5, MANY - 3); /* 2 KB a token */
    assert_small_ones_are_served(&r);
    finish(&r, c, MANY);
    for (int i = 0; i < MANY; i++) {
        if (!c[i].cancelled) {
            assert_whole(&c[i], 100);
            continue;
        }
        const char *text = hear_client(c[i].fd, "try again", WAIT_MS);
        assert_said(text, "HTTP/1.1 503");
        assert_said(text, "\r\nRetry-After: 1\r\n");
        assert_said(text, "unavailable_error");
    }
    hang_up(c, MANY);
    assert_nothing_leaked(&r);
    stop(&r);
}

static void test_a_reply_that_is_too_large_alone_is_not_told_to_try_again(void **state)
{
    (void)state;
    rig r;
    start_served(&r, SETTINGS(""));
    client c = asks_for(&r, probs);
    give_tokens(&r, &c, 1, 1000);
    assert_true(c.cancelled);
    const char *text = hear_client(c.fd, "ask for a stream", WAIT_MS);
    assert_said(text, "HTTP/1.1 400");
    assert_null(strstr(text, "Retry-After"));
    close(c.fd);
    assert_nothing_leaked(&r);
    stop(&r);
}

static void test_replies_that_nobody_reads_are_in_the_sum(void **state)
{
    (void)state;
    rig r;
    client c[MANY];
    int n = 0;
    start_served(&r, SETTINGS(""));
    for (; n < MANY; n++) { /* one after the other: the engine is done with each, and only its reader is not */
        c[n] = asks_for(&r, probs);
        give_tokens(&r, &c[n], 1, 200);
        finish(&r, &c[n], 1);
        (void)replies_held(&r);
        if (c[n].cancelled) break;
    }
    assert_in_range(n, 2, MANY - 1);
    assert_said(hear_client(c[n].fd, "try again", WAIT_MS), "HTTP/1.1 503");
    assert_small_ones_are_served(&r);
    assert_whole(&c[0], 200); /* who reads late still has all of it */
    hang_up(c, (size_t)n + 1);
    assert_nothing_leaked(&r);
    stop(&r);
}

/* A backlog above the sum, so that it is the sum that ends them. */
static void test_streams_that_nobody_reads_end_with_the_error_before_they_pass_the_sum(void **state)
{
    (void)state;
    rig r;
    client c[MANY];
    int n_told = 0;
    start_served(&r, SETTINGS("max_backlog = 64M\n"));
    for (int i = 0; i < MANY; i++) c[i] = asks_for(&r, probs_stream);
    give_what_is_taken(&r, c, MANY);
    assert_true(replies_held(&r) > SUM / 2);
    assert_small_ones_are_served(&r);
    assert_who_reads_is_served(&r);
    for (int i = 0; i < MANY; i++) {
        if (!c[i].cancelled) continue;
        const char *text = hear_client(c[i].fd, "try again", WAIT_MS);
        assert_said(text, "HTTP/1.1 200");
        assert_said(text, "unavailable_error");
        n_told++;
    }
    assert_in_range(n_told, 1, MANY);
    hang_up(c, MANY);
    while (hear_front(&r, c, MANY, 100)) {
    }
    assert_nothing_leaked(&r);
    stop(&r);
}

static void test_streams_wait_for_the_sum_and_lose_nothing(void **state)
{
    (void)state;
    rig r;
    client c[MANY];
    start_served(&r, SETTINGS("max_backlog = 128K\n"));
    for (int i = 0; i < MANY; i++) c[i] = asks_for(&r, probs_stream);
    give_what_is_taken(&r, c, MANY);
    assert_true(replies_held(&r) > SUM / 4);
    for (int i = 0; i < MANY; i++) {
        assert_false(c[i].cancelled);
        say_finished(&r, c[i].stream);
        assert_said(hear_client(c[i].fd, "\"timings\":", WAIT_MS), "\"stop\":true");
    }
    hang_up(c, MANY);
    assert_nothing_leaked(&r);
    stop(&r);
}

static void test_who_does_not_read_is_asked_for_no_more(void **state)
{
    (void)state;
    rig r;
    static const char get[] = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    start_served(&r, SETTINGS(""));
    const int fd = dial(&r);
    size_t sent = 0;
    for (int idle = 0; idle < 20;) { /* until even the kernel takes no more */
        const ssize_t n = send(fd, get, sizeof get - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n != (ssize_t)sizeof get - 1) {
            idle++;
            usleep(10000);
            if (n > 0) break;
            continue;
        }
        sent++;
        if (sent > 100000) break;
    }
    assert_true(sent < 100000);
    assert_true(replies_held(&r) <= 128 << 10); /* one page */
    const char *text = hear_client(fd, NULL, 1000);
    assert_true(count_of(text, "HTTP/1.1 200") > 10);
    close(fd);
    assert_nothing_leaked(&r);
    stop(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_would_pass_the_sum_is_told_and_cancelled_and_others_are_answered),
        cmocka_unit_test(test_a_reply_that_is_too_large_alone_is_not_told_to_try_again),
        cmocka_unit_test(test_replies_that_nobody_reads_are_in_the_sum),
        cmocka_unit_test(test_streams_that_nobody_reads_end_with_the_error_before_they_pass_the_sum),
        cmocka_unit_test(test_streams_wait_for_the_sum_and_lose_nothing),
        cmocka_unit_test(test_who_does_not_read_is_asked_for_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
