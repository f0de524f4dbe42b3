/* http_test.c - the promises of http.h over real sockets. Server and clients live in one thread: the test sends, lets the loop run
 * until nothing moves, and looks at what came back. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/test.h"
#include "serve/http_cases.h"
#include "serve/http_test_pki.h"

enum { HELD = 64, TEXT = 1 << 16 };

typedef enum answer { ANSWER_ECHO, ANSWER_LATER, ANSWER_AT_HEAD, ANSWER_STREAM } answer;

typedef struct fixture {
    struct event_base *base;
    http_server *server;
    http_limits limits;
    answer answer;
    uint64_t max_body; /* on_head lowers to this if not 0 */
    http_exchange *held[HELD];
    int n_held, n_heads, n_requests, n_gone, n_room;
    http_exchange *gone; /* the last one */
    struct sockaddr_storage address;
    socklen_t address_len;
    char said[256]; /* what the last request said of itself */
    bool believe;
} fixture;

/* ---- the handler ------------------------------------------------------------------------------------------------- */

static void on_head(void *ctx, http_exchange *x)
{
    fixture *f = ctx;
    f->n_heads++;
    if (f->max_body) http_request_max_body(x, f->max_body);
    if (f->answer == ANSWER_AT_HEAD) http_reply(x, 401, "text/plain", SPARK_BYTES_LITERAL("no key"), NULL, 0);
}

static void on_request(void *ctx, http_exchange *x)
{
    fixture *f = ctx;
    const spark_bytes path = http_request_path(x);
    const char *name = http_request_tls_name(x);
    f->n_requests++;
    snprintf(f->said, sizeof f->said, "%s %s from %s%s%s", http_request_method_text(x), (const char *)path.ptr,
             http_request_address(x), name ? " as " : "", name ? name : "");
    if (f->answer == ANSWER_ECHO) {
        const http_field field = {"X-Path", (const char *)path.ptr};
        http_reply(x, 200, "text/plain", http_request_body(x), &field, 1);
        return;
    }
    if (f->answer == ANSWER_STREAM) http_reply_begin(x, 200, "text/event-stream", NULL, 0);
    assert_true(f->n_held < HELD);
    f->held[f->n_held++] = x;
}

static void on_room(void *ctx, http_exchange *x)
{
    (void)x;
    ((fixture *)ctx)->n_room++;
}

static void on_gone(void *ctx, http_exchange *x)
{
    fixture *f = ctx;
    f->n_gone++;
    f->gone = x;
}

/* ---- the fixture ------------------------------------------------------------------------------------------------- */

static void listen_on(fixture *f, struct ssl_ctx_st *tls, bool proxy, bool is_unix);

static void server_start(fixture *f)
{
    const http_handler h = {on_head, on_request, on_room, on_gone, f};
    f->base = event_base_new();
    assert_ok(http_server_create(&f->server, f->base, &f->limits, &h, NULL));
}

static int setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    http_limits_defaults(&f->limits);
    f->limits.max_head = http_cases_limits.max_head;
    f->limits.max_headers = http_cases_limits.max_headers;
    f->limits.max_url = http_cases_limits.max_url;
    f->limits.max_body = http_cases_limits.max_body;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    http_server_destroy(&f->server);
    if (f->base) event_base_free(f->base);
    free(f);
    return 0;
}

static bool test_believes(void *tag, const char *address)
{
    assert_string_equal(address, "127.0.0.1");
    return ((fixture *)tag)->believe;
}

static void listen_on(fixture *f, struct ssl_ctx_st *tls, bool proxy, bool is_unix)
{
    const int fd = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM, 0);
    if (is_unix) {
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        snprintf(a.sun_path + 1, sizeof a.sun_path - 1, "spark-http-test-%d-%d", (int)getpid(),
                 fd); /* abstract: leaves no file */
        memcpy(&f->address, &a, sizeof a);
        f->address_len = sizeof a;
    } else {
        const struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        memcpy(&f->address, &a, sizeof a);
        f->address_len = sizeof a;
    }
    assert_int_equal(bind(fd, (struct sockaddr *)&f->address, f->address_len), 0);
    assert_int_equal(listen(fd, 1024), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&f->address, &f->address_len), 0);
    const http_listener l = {.fd = fd,
                             .tls = tls,
                             .proxy_protocol = proxy,
                             .may_proxy = proxy ? test_believes : NULL,
                             .is_unix = is_unix,
                             .tag = f};
    assert_ok(http_server_listen(f->server, &l, NULL));
}

static void start_plain(fixture *f)
{
    server_start(f);
    listen_on(f, NULL, false, false);
}

/* ---- clients ----------------------------------------------------------------------------------------------------- */

static void run_ms(fixture *f, int ms)
{
    const uint64_t until = spark_clock_ns() + (uint64_t)ms * 1000000u;
    do {
        event_base_loop(f->base, EVLOOP_NONBLOCK);
        if (ms) usleep(200);
    } while (spark_clock_ns() < until);
}

static void settle(fixture *f)
{
    for (int i = 0; i < 6; i++) run_ms(f, 0);
    run_ms(f, 1);
}

/* Until *counter has reached n, or two seconds have passed. */
static void run_until(fixture *f, const int *counter, int n)
{
    for (int i = 0; i < 2000 && *counter < n; i++) run_ms(f, 1);
    assert_int_equal(*counter, n);
}

/* The exchange of the i-th request that was not answered at once. */
static http_exchange *held(fixture *f, int i)
{
    for (int ms = 0; ms < 2000 && f->n_held <= i; ms++) run_ms(f, 1);
    assert_true(f->n_held > i);
    return f->held[i];
}

static int dial(const fixture *f)
{
    const int on = 1, fd = socket(f->address.ss_family, SOCK_STREAM, 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* else small writes wait for an ACK */
    if (connect(fd, (const struct sockaddr *)&f->address, f->address_len) != 0)
        fail_msg("connect: %s", strerror(errno));
    return fd;
}

static void say(int fd, const char *raw, size_t len)
{
    assert_int_equal(send(fd, raw, len, MSG_NOSIGNAL), (ssize_t)len);
}
#define SAY(fd, literal) say((fd), (literal), sizeof(literal) - 1)

typedef struct heard {
    char text[TEXT];
    size_t len;
    bool closed, reset;
} heard;

static void hear_more(int fd, heard *h)
{
    while (!h->closed && h->len < TEXT - 1) {
        const ssize_t n = recv(fd, h->text + h->len, TEXT - 1 - h->len, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) break;
        if (n <= 0) h->closed = true;
        if (n < 0) h->reset = true;
        if (n > 0) h->len += (size_t)n;
    }
    h->text[h->len] = 0;
}

static const heard *hear(fixture *f, int fd)
{
    static heard h;
    h.len = 0;
    h.closed = h.reset = false;
    settle(f);
    hear_more(fd, &h);
    if (h.len == 0 && !h.closed) { /* slow machine */
        run_ms(f, 3);
        hear_more(fd, &h);
    }
    return &h;
}

/* Until the server closes. */
static const heard *hear_end(fixture *f, int fd)
{
    static heard h;
    h.len = 0;
    h.closed = h.reset = false;
    for (int i = 0; i < 3000 && !h.closed; i++) {
        run_ms(f, 1);
        hear_more(fd, &h);
    }
    assert_true(h.closed);
    return &h;
}

static int status_of(const heard *h)
{
    if (h->len == 0) return 100;
    assert_memory_equal(h->text, "HTTP/1.1 ", 9);
    return (int)strtol(h->text + 9, NULL, 10);
}

static int count_of(const char *text, const char *what)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, what)) != NULL; at++) n++;
    return n;
}

static int open_descriptors(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

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
    http_reply_end(held(f, 1));
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
    http_reply_end(held(f, 0));
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
    http_reply_end(held(f, 0));
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
    http_reply_end(held(f, 0));
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

/* ---- other ways in ----------------------------------------------------------------------------------------------- */

static void test_unix_sockets_are_served(void **state)
{
    fixture *f = *state;
    server_start(f);
    listen_on(f, NULL, false, true);
    const int fd = dial(f);
    SAY(fd, "GET /u HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(status_of(hear(f, fd)), 200);
    assert_string_equal(f->said, "GET /u from unix");
    f->answer = ANSWER_LATER;
    SAY(fd, "GET /u HTTP/1.1\r\nHost: a\r\n\r\n");
    settle(f);
    shutdown(fd, SHUT_WR);
    run_until(f, &f->n_gone, 1);
    close(fd);
}

static const char proxy_header[] =
    "\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x07\x7f\x00\x00\x01\x00\x50\x00\x51";
static const char proxy_local[] = "\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";

static void test_behind_a_proxy_the_address_is_the_clients(void **state)
{
    fixture *f = *state;
    f->believe = true;
    server_start(f);
    listen_on(f, NULL, true, false);
    int fd = dial(f);
    SAY(fd, proxy_header);
    SAY(fd, "GET /p HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(status_of(hear(f, fd)), 200);
    assert_string_equal(f->said, "GET /p from 203.0.113.7");
    close(fd);
    fd = dial(f); /* byte by byte */
    for (size_t i = 0; i < sizeof proxy_header - 1; i++) {
        say(fd, proxy_header + i, 1);
        run_ms(f, 0);
    }
    SAY(fd, "GET /q HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(status_of(hear(f, fd)), 200);
    assert_string_equal(f->said, "GET /q from 203.0.113.7");
    close(fd);
    fd = dial(f);
    SAY(fd, proxy_local);
    SAY(fd, "GET /l HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(status_of(hear(f, fd)), 200);
    assert_string_equal(f->said, "GET /l from 127.0.0.1");
    close(fd);
}

static void test_without_a_proxy_header_or_belief_the_connection_is_closed(void **state)
{
    fixture *f = *state;
    f->believe = true;
    server_start(f);
    listen_on(f, NULL, true, false);
    int fd = dial(f);
    SAY(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    const heard *h = hear(f, fd);
    assert_int_equal(h->len, 0);
    assert_true(h->closed);
    close(fd);
    f->believe = false;
    fd = dial(f);
    h = hear(f, fd);
    assert_int_equal(h->len, 0);
    assert_true(h->closed);
    close(fd);
    assert_int_equal(f->n_requests, 0);
}

static void test_clients_of_a_proxy_have_their_own_limits(void **state)
{
    fixture *f = *state;
    f->believe = true;
    f->limits.max_connections_per_address = 1;
    server_start(f);
    listen_on(f, NULL, true, false);
    const int a = dial(f), b = dial(f), c = dial(f);
    char other[sizeof proxy_header];
    memcpy(other, proxy_header, sizeof other);
    other[19] = 8;
    SAY(a, proxy_header);
    settle(f);
    SAY(b, proxy_header);
    say(c, other, sizeof other - 1);
    assert_true(hear(f, b)->closed);
    assert_false(hear(f, a)->closed);
    assert_false(hear(f, c)->closed);
    close(a);
    close(b);
    close(c);
}

/* ---- TLS --------------------------------------------------------------------------------------------------------- */

typedef struct secure {
    int fd;
    SSL_CTX *ctx;
    SSL *ssl;
} secure;

static bool secure_dial(fixture *f, const test_pki *p, bool with_certificate, int max_version, secure *s)
{
    s->fd = dial(f);
    s->ctx = SSL_CTX_new(TLS_client_method());
    X509_STORE_add_cert(SSL_CTX_get_cert_store(s->ctx), p->ca);
    SSL_CTX_set_verify(s->ctx, SSL_VERIFY_PEER, NULL);
    if (max_version) SSL_CTX_set_max_proto_version(s->ctx, max_version);
    if (with_certificate) {
        SSL_CTX_use_certificate(s->ctx, p->client);
        SSL_CTX_use_PrivateKey(s->ctx, p->client_key);
    }
    s->ssl = SSL_new(s->ctx);
    fcntl(s->fd, F_SETFL, O_NONBLOCK);
    SSL_set_fd(s->ssl, s->fd);
    for (int i = 0; i < 500; i++) {
        const int r = SSL_connect(s->ssl);
        if (r == 1) return true;
        if (SSL_get_error(s->ssl, r) != SSL_ERROR_WANT_READ) return false;
        run_ms(f, 1);
    }
    return false;
}

static void secure_close(secure *s)
{
    SSL_free(s->ssl);
    SSL_CTX_free(s->ctx);
    close(s->fd);
}

static int secure_hear(fixture *f, secure *s, char *text, size_t cap)
{
    int got = 0;
    for (int i = 0; i < 300; i++) {
        const int n = SSL_read(s->ssl, text + got, (int)cap - 1 - got);
        if (n > 0)
            got += n;
        else if (got || SSL_get_error(s->ssl, n) != SSL_ERROR_WANT_READ)
            break;
        else
            run_ms(f, 1);
    }
    text[got] = 0;
    return got;
}

static void secure_say(secure *s, const char *text)
{
    assert_int_equal(SSL_write(s->ssl, text, (int)strlen(text)), (int)strlen(text));
}

typedef struct tls_listener {
    test_pki pki;
    struct ssl_ctx_st *ctx;
} tls_listener;

static void tls_start(fixture *f, tls_listener *t, bool mutual, bool proxy)
{
    spark_err err = {0};
    assert_ok(http_warm(&err));
    test_pki_create(&t->pki);
    t->ctx = NULL;
    assert_ok(
        http_tls_create(&t->ctx, t->pki.cert, t->pki.key, mutual ? t->pki.authority : (spark_bytes){NULL, 0}, &err));
    server_start(f);
    listen_on(f, t->ctx, proxy, false);
}

static void tls_stop(fixture *f, tls_listener *t)
{
    http_server_destroy(&f->server);
    http_tls_destroy(&t->ctx);
    test_pki_destroy(&t->pki);
}

static void test_tls_serves_many_requests_and_large_ones(void **state)
{
    fixture *f = *state;
    f->limits.max_body = 1 << 20;
    tls_listener t;
    secure s;
    char text[4096];
    tls_start(f, &t, false, false);
    assert_true(secure_dial(f, &t.pki, false, 0, &s));
    assert_string_equal(SSL_get_version(s.ssl), "TLSv1.3");
    for (int i = 0; i < 20; i++) {
        secure_say(&s, "POST /t HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
        assert_true(secure_hear(f, &s, text, sizeof text) > 0);
        assert_memory_equal(text, "HTTP/1.1 200 OK", 15);
        assert_non_null(strstr(text, "\r\n\r\nhello"));
    }
    f->answer = ANSWER_LATER;
    static uint8_t body[1 << 20];
    secure_say(&s, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    settle(f);
    http_reply(held(f, 0), 200, "text/plain", (spark_bytes){body, sizeof body}, NULL, 0);
    size_t got = 0;
    while (got < sizeof body) {
        const int n = SSL_read(s.ssl, text, sizeof text);
        if (n > 0)
            got += (size_t)n;
        else if (SSL_get_error(s.ssl, n) == SSL_ERROR_WANT_READ)
            run_ms(f, 1);
        else
            fail_msg("closed after %zu bytes", got);
    }
    secure_close(&s);
    tls_stop(f, &t);
}

static void test_tls_1_2_and_plain_text_are_refused(void **state)
{
    fixture *f = *state;
    tls_listener t;
    secure s;
    tls_start(f, &t, false, false);
    assert_false(secure_dial(f, &t.pki, false, TLS1_2_VERSION, &s));
    secure_close(&s);
    const int fd = dial(f);
    SAY(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_true(hear_end(f, fd)->closed);
    close(fd);
    settle(f);
    assert_int_equal(http_server_connections(f->server), 0);
    assert_int_equal(f->n_heads, 0);
    tls_stop(f, &t);
}

static void test_mutual_tls_wants_a_certificate_of_its_authority(void **state)
{
    fixture *f = *state;
    tls_listener t;
    test_pki other;
    secure s;
    char text[4096];
    tls_start(f, &t, true, false);
    test_pki_create(&other);
    (void)secure_dial(f, &t.pki, false, 0, &s); /* TLS 1.3: the client hears of it with its first read */
    (void)SSL_write(s.ssl, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 28);
    assert_int_equal(secure_hear(f, &s, text, sizeof text), 0);
    secure_close(&s);
    X509_up_ref(t.pki.ca);
    X509_free(other.ca);
    other.ca = t.pki.ca; /* knows the server, but its own certificate is signed by another */
    (void)secure_dial(f, &other, true, 0, &s);
    (void)SSL_write(s.ssl, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 28);
    assert_int_equal(secure_hear(f, &s, text, sizeof text), 0);
    secure_close(&s);
    assert_int_equal(f->n_heads, 0);
    assert_true(secure_dial(f, &t.pki, true, 0, &s));
    secure_say(&s, "GET /m HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_true(secure_hear(f, &s, text, sizeof text) > 0);
    assert_string_equal(f->said, "GET /m from 127.0.0.1 as CN=ward 7");
    secure_close(&s);
    test_pki_destroy(&other);
    tls_stop(f, &t);
}

static void test_a_tls_goodbye_while_the_handler_thinks_is_seen(void **state)
{
    fixture *f = *state;
    f->answer = ANSWER_LATER;
    tls_listener t;
    secure s;
    tls_start(f, &t, false, false);
    assert_true(secure_dial(f, &t.pki, false, 0, &s));
    secure_say(&s, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    run_until(f, &f->n_requests, 1);
    SSL_shutdown(s.ssl); /* close_notify, no FIN */
    run_until(f, &f->n_gone, 1);
    secure_close(&s);
    assert_true(secure_dial(f, &t.pki, false, 0, &s));
    secure_say(&s, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    run_until(f, &f->n_requests, 2);
    shutdown(s.fd, SHUT_RDWR); /* FIN, no close_notify */
    run_until(f, &f->n_gone, 2);
    secure_close(&s);
    tls_stop(f, &t);
}

static void test_a_proxy_header_may_come_before_tls(void **state)
{
    fixture *f = *state;
    f->believe = true;
    tls_listener t;
    secure s = {.fd = -1};
    char text[4096];
    tls_start(f, &t, false, true);
    s.fd = dial(f);
    SAY(s.fd, proxy_header);
    s.ctx = SSL_CTX_new(TLS_client_method());
    s.ssl = SSL_new(s.ctx);
    fcntl(s.fd, F_SETFL, O_NONBLOCK);
    SSL_set_fd(s.ssl, s.fd);
    for (int i = 0; i < 300 && SSL_connect(s.ssl) != 1; i++) run_ms(f, 1);
    secure_say(&s, "GET /p HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_true(secure_hear(f, &s, text, sizeof text) > 0);
    assert_string_equal(f->said, "GET /p from 203.0.113.7");
    secure_close(&s);
    tls_stop(f, &t);
}

static void test_wrong_certificates_and_keys_are_refused_with_a_reason(void **state)
{
    (void)state;
    test_pki a, b;
    struct ssl_ctx_st *ctx = NULL;
    spark_err err = {0};
    const spark_bytes none = {NULL, 0};
    test_pki_create(&a);
    test_pki_create(&b);
    assert_code(http_tls_create(&ctx, a.cert, b.key, none, &err), SPARK_E_ARGUMENT);
    assert_non_null(strstr(err.text, "key"));
    assert_code(http_tls_create(&ctx, none, a.key, none, &err), SPARK_E_ARGUMENT);
    assert_non_null(strstr(err.text, "certificate"));
    assert_code(http_tls_create(&ctx, a.key, a.key, none, &err), SPARK_E_ARGUMENT);
    assert_code(http_tls_create(&ctx, a.cert, a.key, a.key, &err), SPARK_E_ARGUMENT);
    assert_non_null(strstr(err.text, "authorities"));
    assert_null(ctx);
    test_pki_destroy(&a);
    test_pki_destroy(&b);
}

#define HTTP_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        HTTP_TEST(test_each_raw_request_gets_its_status_and_close),
        HTTP_TEST(test_requests_byte_by_byte_get_the_same),
        HTTP_TEST(test_one_connection_serves_many_requests),
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
        HTTP_TEST(test_a_client_that_leaves_during_a_stream_is_gone_once),
        HTTP_TEST(test_a_client_that_leaves_within_its_body_is_gone),
        HTTP_TEST(test_a_broken_body_ends_the_exchange_and_gets_its_400),
        HTTP_TEST(test_leaving_is_seen_behind_more_than_is_read_ahead),
        HTTP_TEST(test_a_client_that_sends_and_half_closes_gets_a_ready_answer_whole),
        HTTP_TEST(test_destroy_tells_every_open_exchange),
        HTTP_TEST(test_slow_heads_bodies_and_idlers_are_closed_in_time),
        HTTP_TEST(test_a_body_below_the_rate_is_refused),
        HTTP_TEST(test_a_slow_reader_fills_its_backlog_and_gets_room_again),
        HTTP_TEST(test_writing_on_without_room_loses_the_connection),
        HTTP_TEST(test_a_reader_that_takes_nothing_is_gone_in_time),
        HTTP_TEST(test_a_large_reply_reaches_a_slow_reader_whole),
        HTTP_TEST(test_beyond_max_connections_the_longest_idle_makes_room),
        HTTP_TEST(test_one_address_has_its_own_limit),
        HTTP_TEST(test_without_descriptors_accepting_waits_and_does_not_spin),
        HTTP_TEST(test_draining_closes_idlers_and_finishes_what_runs),
        HTTP_TEST(test_unix_sockets_are_served),
        HTTP_TEST(test_behind_a_proxy_the_address_is_the_clients),
        HTTP_TEST(test_without_a_proxy_header_or_belief_the_connection_is_closed),
        HTTP_TEST(test_clients_of_a_proxy_have_their_own_limits),
        HTTP_TEST(test_tls_serves_many_requests_and_large_ones),
        HTTP_TEST(test_tls_1_2_and_plain_text_are_refused),
        HTTP_TEST(test_mutual_tls_wants_a_certificate_of_its_authority),
        HTTP_TEST(test_a_tls_goodbye_while_the_handler_thinks_is_seen),
        HTTP_TEST(test_a_proxy_header_may_come_before_tls),
        cmocka_unit_test(test_wrong_certificates_and_keys_are_refused_with_a_reason),
    };
    return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}
