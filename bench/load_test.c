/* load_test.c - what load-generator's figures rest on: percentiles, arrivals, and a reader of answers that is indifferent
 * to how the bytes were cut. */
#include "base/test.h"

#include <string.h>

#include "load_client.h"
#include "load_http.h"
#include "load_stats.h"
#include "load_text.h"

/* ---- Percentiles ---- */

static void test_percentile_is_the_nearest_rank(void **state)
{
    (void)state;
    load_samples s = {0};
    for (int i = 20; i >= 1; i--) load_samples_add(&s, i);
    assert_true(load_percentile(&s, 50) == 10);
    assert_true(load_percentile(&s, 95) == 19);
    assert_true(load_percentile(&s, 99) == 20);
    assert_true(load_percentile(&s, 100) == 20);
    assert_true(load_percentile(&s, 0.1) == 1);
    load_samples_free(&s);
}

static void test_percentile_of_many_leaves_out_exactly_the_greatest(void **state)
{
    (void)state;
    load_samples s = {0};
    for (int i = 0; i < 1000; i++) load_samples_add(&s, (i * 7) % 1000);
    assert_true(load_percentile(&s, 99) == 989);
    assert_true(load_percentile(&s, 50) == 499);
    load_samples_free(&s);
}

static void test_percentile_sorts_again_after_an_addition(void **state)
{
    (void)state;
    load_samples s = {0};
    load_samples_add(&s, 5);
    assert_true(load_percentile(&s, 50) == 5);
    load_samples_add(&s, 1);
    assert_true(load_percentile(&s, 50) == 1);
    assert_true(load_percentile(&s, 100) == 5);
    assert_true(load_mean(&s) == 3);
    load_samples_free(&s);
}

static void test_percentile_of_nothing_is_zero(void **state)
{
    (void)state;
    load_samples s = {0};
    assert_true(load_percentile(&s, 99) == 0);
    assert_true(load_mean(&s) == 0);
}

/* ---- Arrivals ---- */

#define ARRIVALS 20000

static void test_poisson_has_its_rate_and_the_spread_of_an_exponential(void **state)
{
    (void)state;
    static uint64_t at[ARRIVALS];
    double sum = 0, squares = 0;
    load_poisson(7, 50, ARRIVALS, at);
    for (size_t i = 0; i < ARRIVALS; i++) {
        const double gap = (double)(at[i] - (i ? at[i - 1] : 0)) / 1e9;
        sum += gap;
        squares += gap * gap;
    }
    const double mean = sum / ARRIVALS, variance = squares / ARRIVALS - mean * mean;
    assert_true(mean > 0.0195 && mean < 0.0205);
    assert_true(variance > 0.9 * mean * mean && variance < 1.1 * mean * mean);
}

static void test_poisson_ascends_and_is_the_same_for_a_seed(void **state)
{
    (void)state;
    uint64_t a[100], b[100], c[100];
    load_poisson(1, 10, 100, a);
    load_poisson(1, 10, 100, b);
    load_poisson(2, 10, 100, c);
    assert_memory_equal(a, b, sizeof a);
    assert_memory_not_equal(a, c, sizeof a);
    for (size_t i = 1; i < 100; i++) assert_true(a[i] >= a[i - 1]);
}

/* ---- Answers, cut at every byte ---- */

typedef struct heard {
    load_sse sse;
    char text[4096];
    size_t n;
    bool too_long;
} heard;

static void heard_event(void *ctx, const char *data, size_t len)
{
    heard *h = ctx;
    assert_true(h->n + len + 1 <= sizeof h->text);
    memcpy(h->text + h->n, data, len);
    h->n += len;
    h->text[h->n++] = '|';
}

static void heard_body(void *ctx, const char *p, size_t n)
{
    heard *h = ctx;
    if (!load_sse_feed(&h->sse, p, n, heard_event, h)) h->too_long = true;
}

/* Feeds an answer in pieces that end at `cut` and every `step` bytes after it. */
static load_http_state hear(const char *answer, size_t cut, size_t step, heard *h, load_http *http)
{
    const size_t n = strlen(answer);
    *h = (heard){0};
    load_http_reset(http);
    for (size_t at = 0, end = cut; at < n; at = end, end = end + step < n ? end + step : n) {
        if (end > n) end = n;
        const size_t used = load_http_feed(http, answer + at, end - at, heard_body, h);
        if (used < end - at) break;
    }
    load_sse_free(&h->sse);
    return http->state;
}

static const char chunked_answer[] =
    "HTTP/1.1 100 Continue\r\n\r\n"
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    "12\r\ndata: {\"a\": 1}\r\n\r\n\r\n"
    "7;name=value\r\n: ping\n\r\n"
    "1D\r\nevent: x\ndata:b\ndata: \ndata: \r\n"
    "6\r\nc\r\rdat\r\n"
    "d\r\na: [DONE]\n\nid\r\n"
    "0\r\nX-Trailer: 1\r\n\r\n";

static void test_events_are_the_same_however_the_bytes_are_cut(void **state)
{
    (void)state;
    heard h;
    static load_http http;
    for (size_t cut = 1; cut < sizeof chunked_answer; cut++) {
        for (size_t step = 1; step < sizeof chunked_answer; step += step < 4 ? 1 : 13) {
            assert_int_equal(hear(chunked_answer, cut, step, &h, &http), LOAD_HTTP_DONE);
            assert_int_equal(http.status, 200);
            assert_true(http.is_stream && http.keep_alive && !h.too_long);
            h.text[h.n] = 0;
            assert_string_equal(h.text, "{\"a\": 1}|b\n\nc|[DONE]|");
        }
    }
}

static void test_a_body_ends_by_its_length_and_what_follows_is_left(void **state)
{
    (void)state;
    static const char answer[] =
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\nConnection: close\r\n\r\ndata: x\n\nHTTP/1.1 ";
    heard h;
    static load_http http;
    for (size_t cut = 1; cut < sizeof answer; cut++) {
        assert_int_equal(hear(answer, cut, 1, &h, &http), LOAD_HTTP_DONE);
        assert_false(http.keep_alive);
        assert_memory_equal(h.text, "x|", 2);
    }
    load_sse_free(&h.sse);
}

static void test_a_body_without_a_length_ends_with_the_connection(void **state)
{
    (void)state;
    heard h;
    static load_http http;
    assert_int_equal(hear("HTTP/1.0 200 OK\n\ndata: x\n\n", 3, 5, &h, &http), LOAD_HTTP_CLOSE);
    assert_true(load_http_eof(&http));
    assert_memory_equal(h.text, "x|", 2);
}

static void test_an_answer_cut_short_is_not_whole(void **state)
{
    (void)state;
    heard h;
    static load_http http;
    for (size_t n = 0; n + 1 < sizeof chunked_answer; n++) {
        char part[sizeof chunked_answer];
        memcpy(part, chunked_answer, n);
        part[n] = 0;
        hear(part, 1, 1, &h, &http);
        assert_false(load_http_eof(&http));
    }
}

static void test_malformed_answers_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1 99 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    };
    heard h;
    static load_http http;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (hear(bad[i], 1, 1, &h, &http) != LOAD_HTTP_BAD) fail_msg("accepted: %s", bad[i]);
}

static void test_a_line_without_an_end_is_bounded(void **state)
{
    (void)state;
    static load_http http;
    heard h = {0};
    char line[1000];
    memset(line, 'a', sizeof line);
    load_http_reset(&http);
    for (int i = 0; i < 20; i++) load_http_feed(&http, line, sizeof line, heard_body, &h);
    assert_int_equal(http.state, LOAD_HTTP_BAD);
}

/* ---- Requests ---- */

static load_text a_text(void)
{
    return (load_text){
        .host = "h:1", .model = "a\"b", .chat = true, .seed = 3, .tokens_per_word = 2, .tokens_around = 10};
}

static void test_requests_are_the_same_for_a_number_and_differ_from_the_first_word(void **state)
{
    (void)state;
    load_text t = a_text();
    size_t la, lb, lc;
    char *a = load_text_request(&t, 1, 40, 8, &la), *b = load_text_request(&t, 1, 40, 8, &lb);
    char *c = load_text_request(&t, 2, 40, 8, &lc);
    assert_string_equal(a, b);
    const char *wa = strstr(a, "content\": \""), *wc = strstr(c, "content\": \"");
    assert_non_null(wa);
    assert_non_null(wc);
    assert_true(strncmp(wa, wc, 20) != 0);
    assert_non_null(strstr(a, "\"model\": \"a\\\"b\""));
    free(a);
    free(b);
    free(c);
}

static void test_a_shared_prefix_is_shared_and_the_rest_is_not(void **state)
{
    (void)state;
    load_text t = a_text();
    t.shared_tokens = 20; /* ten words */
    size_t la, lb;
    char *a = load_text_request(&t, 1, 40, 8, &la), *b = load_text_request(&t, 2, 40, 8, &lb);
    const char *wa = strstr(a, "content\": \"") + 11, *wb = strstr(b, "content\": \"") + 11;
    size_t same = 0, spaces = 0;
    for (; wa[same] == wb[same]; same++) spaces += wa[same] == ' ';
    assert_true(spaces >= 10 && spaces < 14);
    free(a);
    free(b);
}

static void test_a_request_says_its_own_length(void **state)
{
    (void)state;
    load_text t = a_text();
    size_t len;
    t.key = "secret";
    t.extra = "\"top_k\": 1";
    char *a = load_text_request(&t, 1, 5, 8, &len);
    const char *body = strstr(a, "\r\n\r\n") + 4, *said = strstr(a, "Content-Length: ");
    assert_int_equal(strtoul(said + 16, NULL, 10), strlen(body));
    assert_int_equal(len, strlen(a));
    assert_non_null(strstr(a, "Authorization: Bearer secret\r\n"));
    assert_non_null(strstr(body, "\"top_k\": 1, "));
    free(a);
}

static void test_words_are_fitted_to_what_the_server_counts(void **state)
{
    (void)state;
    load_text t = a_text();
    assert_true(load_text_fit(&t, 4, 30, 32, 142)); /* 14 around, 4 a word */
    assert_int_equal(load_text_words(&t, 1014), 250);
    assert_int_equal(load_text_words(&t, 3), 1);
    assert_false(load_text_fit(&t, 4, 30, 32, 30));
    assert_false(load_text_fit(&t, 4, 30, 32, 10));
}

static void test_addresses_are_read_or_refused(void **state)
{
    (void)state;
    load_target t;
    assert_null(load_target_parse(&t, "tcp:127.0.0.1:8080"));
    assert_string_equal(t.host, "127.0.0.1:8080");
    assert_null(load_target_parse(&t, "http://127.0.0.1:8080/v1"));
    assert_string_equal(t.host, "127.0.0.1:8080");
    assert_null(load_target_parse(&t, "tcp:[::1]:8080"));
    assert_null(load_target_parse(&t, "unix:/tmp/x"));
    assert_non_null(load_target_parse(&t, "unix:"));
    assert_non_null(load_target_parse(&t, "tcp:127.0.0.1"));
    assert_non_null(load_target_parse(&t, ":80"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_percentile_is_the_nearest_rank),
        cmocka_unit_test(test_percentile_of_many_leaves_out_exactly_the_greatest),
        cmocka_unit_test(test_percentile_sorts_again_after_an_addition),
        cmocka_unit_test(test_percentile_of_nothing_is_zero),
        cmocka_unit_test(test_poisson_has_its_rate_and_the_spread_of_an_exponential),
        cmocka_unit_test(test_poisson_ascends_and_is_the_same_for_a_seed),
        cmocka_unit_test(test_events_are_the_same_however_the_bytes_are_cut),
        cmocka_unit_test(test_a_body_ends_by_its_length_and_what_follows_is_left),
        cmocka_unit_test(test_a_body_without_a_length_ends_with_the_connection),
        cmocka_unit_test(test_an_answer_cut_short_is_not_whole),
        cmocka_unit_test(test_malformed_answers_are_refused),
        cmocka_unit_test(test_a_line_without_an_end_is_bounded),
        cmocka_unit_test(test_requests_are_the_same_for_a_number_and_differ_from_the_first_word),
        cmocka_unit_test(test_a_shared_prefix_is_shared_and_the_rest_is_not),
        cmocka_unit_test(test_a_request_says_its_own_length),
        cmocka_unit_test(test_words_are_fitted_to_what_the_server_counts),
        cmocka_unit_test(test_addresses_are_read_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
