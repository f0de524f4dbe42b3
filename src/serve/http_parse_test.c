/* http_parse_test.c - the promises of http_parse.h and http_address.h: one meaning or a refusal, whatever the cuts. */
#include <string.h>

#include "base/test.h"
#include "serve/http_address.h"
#include "serve/http_cases.h"
#include "serve/http_parse_run.h"

static size_t cut_none(void *ctx)
{
    (void)ctx;
    return SIZE_MAX;
}

static size_t cut_each(void *ctx)
{
    (void)ctx;
    return 1;
}

static size_t cut_at(void *ctx) /* once, at *ctx */
{
    size_t *at = ctx;
    const size_t n = *at;
    *at = SIZE_MAX;
    return n ? n : SIZE_MAX;
}

static size_t cut_random(void *ctx)
{
    uint64_t *s = ctx;
    *s = *s * 6364136223846793005u + 1442695040888963407u;
    return 1 + (*s >> 33) % ((*s >> 60) ? 7 : 300);
}

static spark_bytes raw_of(const http_case *c) { return (spark_bytes){(const uint8_t *)c->raw, c->len}; }

static int outcome_status(const parse_outcome *o)
{
    if (o->state == HTTP_PARSE_FAILED) return o->status;
    return o->state == HTTP_PARSE_HEAD && o->n_requests ? 200 : 100;
}

static void test_each_raw_request_gets_its_status(void **state)
{
    (void)state;
    int wrong = 0;
    for (size_t i = 0; i < SPARK_COUNT(http_cases); i++) {
        const http_case *c = &http_cases[i];
        const parse_outcome o = parse_run(raw_of(c), &http_cases_limits, cut_none, NULL);
        if (outcome_status(&o) == c->status && (c->status != 200 || o.keeps == c->keeps)) continue;
        print_error("%s: %d expected, got %d (%s)\n", c->name, c->status, outcome_status(&o),
                    o.message ? o.message : "");
        wrong++;
    }
    assert_int_equal(wrong, 0);
}

static void check_same(const http_case *c, const parse_outcome *whole, const parse_outcome *cut, const char *how)
{
    if (!outcome_same(whole, cut))
        fail_msg("%s, %s: whole gives %d (%s), cut %d (%s)", c->name, how, outcome_status(whole), whole->message,
                 outcome_status(cut), cut->message);
}

static void test_cuts_do_not_change_the_meaning(void **state)
{
    (void)state;
    for (size_t i = 0; i < SPARK_COUNT(http_cases); i++) {
        const http_case *c = &http_cases[i];
        const parse_outcome whole = parse_run(raw_of(c), &http_cases_limits, cut_none, NULL);
        parse_outcome cut = parse_run(raw_of(c), &http_cases_limits, cut_each, NULL);
        check_same(c, &whole, &cut, "byte by byte");
        for (size_t at = 1; at < c->len && at < 600; at++) {
            size_t once = at;
            cut = parse_run(raw_of(c), &http_cases_limits, cut_at, &once);
            check_same(c, &whole, &cut, "cut once");
        }
        for (uint64_t seed = 1; seed < 40; seed++) {
            uint64_t s = seed;
            cut = parse_run(raw_of(c), &http_cases_limits, cut_random, &s);
            check_same(c, &whole, &cut, "random cuts");
        }
    }
}

/* ---- what a request says ----------------------------------------------------------------------------------------- */

static http_parser read_one(const char *raw)
{
    http_parser p;
    http_parser_init(&p, &http_cases_limits, NULL);
    size_t at = http_parser_feed(&p, spark_bytes_of(raw));
    http_parser_accept(&p);
    if (p.state == HTTP_PARSE_BODY) at += http_parser_feed(&p, spark_bytes_of(raw + at));
    if (p.state != HTTP_PARSE_DONE) fail_msg("%s: %s", raw, p.message ? p.message : "not complete");
    return p;
}

static void assert_text(spark_bytes b, const char *expected)
{
    if (!expected) {
        assert_null(b.ptr);
        return;
    }
    assert_non_null(b.ptr);
    assert_string_equal((const char *)b.ptr, expected); /* ends with NUL */
    assert_int_equal(b.len, strlen(expected));
}

static void test_path_and_query_are_decoded(void **state)
{
    (void)state;
    http_parser p = read_one("GET /v1/models/a%2Fb%20c?x=1+2&e%C3%A9=%26&flag&empty= HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_text(http_parser_path(&p), "/v1/models/a/b c");
    assert_text(http_parser_query(&p, "x"), "1 2");
    assert_text(http_parser_query(&p, "e\xc3\xa9"), "&");
    assert_text(http_parser_query(&p, "flag"), "");
    assert_text(http_parser_query(&p, "empty"), "");
    assert_text(http_parser_query(&p, "other"), NULL);
    spark_bytes name, value;
    assert_true(http_parser_query_at(&p, 0, &name, &value));
    assert_text(name, "x");
    assert_text(value, "1 2");
    assert_true(http_parser_query_at(&p, 3, &name, &value));
    assert_false(http_parser_query_at(&p, 4, &name, &value));
    http_parser_free(&p);
}

static void test_absolute_form_gives_its_path(void **state)
{
    (void)state;
    static const char *const raw[][2] = {{"GET http://Host:80/x?q=1 HTTP/1.1\r\nHost: hOST:80\r\n\r\n", "/x"},
                                         {"GET https://host HTTP/1.1\r\nHost: host\r\n\r\n", "/"},
                                         {"GET http://h?q=1 HTTP/1.1\r\nHost: h\r\n\r\n", "/"}};
    for (size_t i = 0; i < SPARK_COUNT(raw); i++) {
        http_parser p = read_one(raw[i][0]);
        assert_text(http_parser_path(&p), raw[i][1]);
        if (i != 1) assert_text(http_parser_query(&p, "q"), "1");
        http_parser_free(&p);
    }
}

static void test_headers_are_found_and_lists_are_joined(void **state)
{
    (void)state;
    http_parser p = read_one("GET / HTTP/1.1\r\nHOST: h\r\nAccept: a/b \r\nX-Y:\r\naccept:\tc\r\nACCEPT: d, e\r\n\r\n");
    assert_text(http_parser_header(&p, "accept"), "a/b, c, d, e");
    assert_text(http_parser_header(&p, "x-y"), "");
    assert_text(http_parser_header(&p, "host"), "h");
    assert_text(http_parser_header(&p, "z"), NULL);
    http_parser_free(&p);
}

static void test_chunks_become_one_body(void **state)
{
    (void)state;
    http_parser p = read_one("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: "
                             "chunked\r\n\r\n3;x\r\nabc\r\n00a\r\n0123456789\r\n0\r\nA: b\r\n\r\n");
    assert_int_equal(p.body_len, 13);
    assert_memory_equal(p.body, "abc0123456789", 13);
    assert_text(http_parser_header(&p, "a"), NULL); /* trailers are dropped */
    http_parser_free(&p);
}

static void test_expect_continue_is_told_only_with_a_body(void **state)
{
    (void)state;
    http_parser p = read_one("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\nx");
    assert_true(p.expects_continue);
    http_parser_free(&p);
    p = read_one("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n");
    assert_false(p.expects_continue);
    http_parser_free(&p);
}

static void test_a_million_tiny_chunks_are_refused_in_bounded_memory(void **state)
{
    (void)state;
    http_parser p;
    http_budget budget = {.max = 1u << 20};
    http_parser_init(&p, &http_cases_limits, &budget);
    http_parser_feed(&p, spark_bytes_of("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"));
    http_parser_accept(&p);
    int fed = 0;
    while (p.state == HTTP_PARSE_BODY && fed < 1000000) {
        http_parser_feed(&p, spark_bytes_of("1\r\nx\r\n"));
        fed++;
    }
    assert_int_equal(p.status, 413);
    assert_int_equal(fed, (int)http_cases_limits.max_body + 1);
    assert_true(budget.used <= 2 * http_cases_limits.max_body);
    http_parser_free(&p);
    assert_int_equal(budget.used, 0);
}

static void test_bodies_beyond_the_common_budget_get_503(void **state)
{
    (void)state;
    http_parser p;
    http_budget budget = {.max = 4000};
    http_parser_init(&p, &http_cases_limits, &budget);
    static const uint8_t zeros[5000];
    http_parser_feed(&p, spark_bytes_of("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5000\r\n\r\n"));
    http_parser_accept(&p);
    http_parser_feed(&p, (spark_bytes){zeros, sizeof zeros});
    assert_int_equal(p.status, 503);
    assert_string_equal(p.code, "overloaded");
    http_parser_free(&p);
    assert_int_equal(budget.used, 0);
}

static void test_a_declared_length_takes_no_memory_before_its_bytes_come(void **state)
{
    (void)state;
    http_parser p;
    http_budget budget = {.max = 1u << 20};
    http_parser_init(&p, &http_cases_limits, &budget);
    http_parser_feed(&p, spark_bytes_of("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8000\r\n\r\n"));
    http_parser_accept(&p);
    http_parser_feed(&p, spark_bytes_of("x"));
    assert_true(budget.used <= 4096);
    http_parser_free(&p);
}

/* ---- PROXY protocol ---------------------------------------------------------------------------------------------- */

#define PROXY_SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

static void check_proxy(const char *raw, size_t len, http_proxy_result expected, const char *address)
{
    for (size_t n = 0; n <= len; n++) { /* every shorter one needs more, or is refused already */
        http_address a = {.len = 0};
        size_t used = 0;
        uint8_t *exact = malloc(n ? n : 1);
        memcpy(exact, raw, n);
        const http_proxy_result r = http_proxy_read((spark_bytes){exact, n}, &a, &used);
        free(exact);
        if (n < len && expected != HTTP_PROXY_BAD) assert_int_equal(r, HTTP_PROXY_MORE);
        if (n < len) continue;
        assert_int_equal(r, expected);
        if (expected == HTTP_PROXY_BAD) continue;
        assert_int_equal(used, len);
        if (!address) continue;
        char text[HTTP_ADDRESS_TEXT];
        http_address_text(&a, text);
        assert_string_equal(text, address);
    }
}

static void test_proxy_headers_are_read_exactly(void **state)
{
    (void)state;
    check_proxy(HTTP_RAW(PROXY_SIGNATURE "\x21\x11\x00\x0c\x01\x02\x03\x04\x7f\x00\x00\x01\x00\x50\x00\x51"),
                HTTP_PROXY_CLIENT, "1.2.3.4");
    check_proxy(
        HTTP_RAW(PROXY_SIGNATURE "\x21\x11\x00\x0f\x01\x02\x03\x04\x7f\x00\x00\x01\x00\x50\x00\x51\x04\x00\x00"),
        HTTP_PROXY_CLIENT, "1.2.3.4");
    check_proxy(HTTP_RAW(PROXY_SIGNATURE "\x21\x21\x00\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\0\0"
                                         "\0\0\0\0\0\0\x01\x00\x50\x00\x51"),
                HTTP_PROXY_CLIENT, "2001:db8::7");
    check_proxy(HTTP_RAW(PROXY_SIGNATURE "\x21\x21\x00\x24\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0\x07\0\0\0\0\0\0\0\0\0\0"
                                         "\0\0\0\0\0\x01\x00\x50\x00\x51"),
                HTTP_PROXY_CLIENT, "10.0.0.7");
    check_proxy(HTTP_RAW(PROXY_SIGNATURE "\x20\x00\x00\x00"), HTTP_PROXY_LOCAL, NULL);
    check_proxy(HTTP_RAW(PROXY_SIGNATURE "\x20\x11\x00\x0c\x01\x02\x03\x04\x7f\x00\x00\x01\x00\x50\x00\x51"),
                HTTP_PROXY_LOCAL, NULL);
}

static void test_proxy_headers_that_are_not_exact_are_refused(void **state)
{
    (void)state;
    check_proxy(HTTP_RAW("GET / HTTP/1.1\r\n\r\n"), HTTP_PROXY_BAD, NULL);
    check_proxy(HTTP_RAW("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"), HTTP_PROXY_BAD, NULL);
    check_proxy(HTTP_RAW(PROXY_SIGNATURE "\x11\x11\x00\x0c\x01\x02\x03\x04\x7f\x00\x00\x01\x00\x50\x00\x51"),
                HTTP_PROXY_BAD, NULL);
    check_proxy(HTTP_RAW(PROXY_SIGNATURE "\x22\x11\x00\x0c\x01\x02\x03\x04\x7f\x00\x00\x01\x00\x50\x00\x51"),
                HTTP_PROXY_BAD, NULL);
    check_proxy(HTTP_RAW(PROXY_SIGNATURE "\x21\x12\x00\x0c\x01\x02\x03\x04\x7f\x00\x00\x01\x00\x50\x00\x51"),
                HTTP_PROXY_BAD, NULL);                                               /* UDP */
    check_proxy(HTTP_RAW(PROXY_SIGNATURE "\x21\x31\x00\xd8"), HTTP_PROXY_BAD, NULL); /* unix */
    check_proxy(HTTP_RAW(PROXY_SIGNATURE "\x21\x00\x00\x00"), HTTP_PROXY_BAD, NULL); /* PROXY without an address */
    check_proxy(HTTP_RAW(PROXY_SIGNATURE "\x21\x11\x00\x0b\x01\x02\x03\x04\x7f\x00\x00\x01\x00\x50\x00"),
                HTTP_PROXY_BAD, NULL);
    check_proxy(HTTP_RAW(PROXY_SIGNATURE "\x21\x21\x00\x0c\x01\x02\x03\x04\x7f\x00\x00\x01\x00\x50\x00\x51"),
                HTTP_PROXY_BAD, NULL);
    check_proxy(HTTP_RAW(PROXY_SIGNATURE "\x21\x11\xff\xff"), HTTP_PROXY_BAD, NULL); /* longer than HTTP_PROXY_MAX */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_raw_request_gets_its_status),
        cmocka_unit_test(test_cuts_do_not_change_the_meaning),
        cmocka_unit_test(test_path_and_query_are_decoded),
        cmocka_unit_test(test_absolute_form_gives_its_path),
        cmocka_unit_test(test_headers_are_found_and_lists_are_joined),
        cmocka_unit_test(test_chunks_become_one_body),
        cmocka_unit_test(test_expect_continue_is_told_only_with_a_body),
        cmocka_unit_test(test_a_million_tiny_chunks_are_refused_in_bounded_memory),
        cmocka_unit_test(test_bodies_beyond_the_common_budget_get_503),
        cmocka_unit_test(test_a_declared_length_takes_no_memory_before_its_bytes_come),
        cmocka_unit_test(test_proxy_headers_are_read_exactly),
        cmocka_unit_test(test_proxy_headers_that_are_not_exact_are_refused),
    };
    return cmocka_run_group_tests_name("http_parse", tests, NULL, NULL);
}
