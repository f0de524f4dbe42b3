/* http_test_server.h - a server and its clients in one thread, for the tests of HTTP: a test sends, lets the loop run until nothing
 * moves, and looks at what came back. */
#ifndef SPARK_SERVE_HTTP_TEST_SERVER_H
#define SPARK_SERVE_HTTP_TEST_SERVER_H

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
    int n_held, n_heads, n_requests, n_gone, n_room, n_tls_failed;
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

static void on_tls_failed(void *ctx, const char *address, const char *why)
{
    fixture *f = ctx;
    f->n_tls_failed++;
    snprintf(f->said, sizeof f->said, "%s: %s", address, why);
}

/* ---- the fixture ------------------------------------------------------------------------------------------------- */

SPARK_UNUSED static void server_start(fixture *f)
{
    const http_handler h = {.on_head = on_head,
                            .on_request = on_request,
                            .on_room = on_room,
                            .on_gone = on_gone,
                            .on_tls_failed = on_tls_failed,
                            .ctx = f};
    f->base = event_base_new();
    assert_ok(http_server_create(&f->server, f->base, &f->limits, &h, NULL));
}

SPARK_UNUSED static int setup(void **state)
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

SPARK_UNUSED static int teardown(void **state)
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

SPARK_UNUSED static void listen_on(fixture *f, struct ssl_ctx_st *tls, bool proxy, bool is_unix)
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

SPARK_UNUSED static void start_plain(fixture *f)
{
    server_start(f);
    listen_on(f, NULL, false, false);
}

/* ---- clients ----------------------------------------------------------------------------------------------------- */

SPARK_UNUSED static void run_ms(fixture *f, int ms)
{
    const uint64_t until = spark_clock_ns() + (uint64_t)ms * 1000000u;
    do {
        event_base_loop(f->base, EVLOOP_NONBLOCK);
        if (ms) usleep(200);
    } while (spark_clock_ns() < until);
}

SPARK_UNUSED static void settle(fixture *f)
{
    for (int i = 0; i < 6; i++) run_ms(f, 0);
    run_ms(f, 1);
}

/* Until *counter has reached n, or two seconds have passed. */
SPARK_UNUSED static void run_until(fixture *f, const int *counter, int n)
{
    for (int i = 0; i < 2000 && *counter < n; i++) run_ms(f, 1);
    assert_int_equal(*counter, n);
}

/* The exchange of the i-th request that was not answered at once. */
SPARK_UNUSED static http_exchange *held(fixture *f, int i)
{
    for (int ms = 0; ms < 2000 && f->n_held <= i; ms++) run_ms(f, 1);
    assert_true(f->n_held > i);
    return f->held[i];
}

SPARK_UNUSED static int dial(const fixture *f)
{
    const int on = 1, fd = socket(f->address.ss_family, SOCK_STREAM, 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* else small writes wait for an ACK */
    if (connect(fd, (const struct sockaddr *)&f->address, f->address_len) != 0)
        fail_msg("connect: %s", strerror(errno));
    return fd;
}

SPARK_UNUSED static void say(int fd, const char *raw, size_t len)
{
    assert_int_equal(send(fd, raw, len, MSG_NOSIGNAL), (ssize_t)len);
}
#define SAY(fd, literal) say((fd), (literal), sizeof(literal) - 1)

typedef struct heard {
    char text[TEXT];
    size_t len;
    bool closed, reset;
} heard;

SPARK_UNUSED static void hear_more(int fd, heard *h)
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

SPARK_UNUSED static const heard *hear(fixture *f, int fd)
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
SPARK_UNUSED static const heard *hear_end(fixture *f, int fd)
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

/* Bytes that differ from their neighbours, gathered in a share in pieces of all sizes. */
SPARK_UNUSED static uint8_t pattern_at(size_t i) { return (uint8_t)(i * 7 ^ i >> 9); }
SPARK_UNUSED static held_bytes gather_pattern(held_share *share, size_t n)
{
    uint8_t piece[5000];
    held_bytes b = {0};
    for (size_t at = 0, len = 1; at < n; at += len) {
        len = 1 + (len * 31 + 17) % sizeof piece;
        if (len > n - at) len = n - at;
        for (size_t i = 0; i < len; i++) piece[i] = pattern_at(at + i);
        assert_true(held_append(&b, share, piece, len));
    }
    return b;
}

SPARK_UNUSED static int status_of(const heard *h)
{
    if (h->len == 0) return 100;
    assert_memory_equal(h->text, "HTTP/1.1 ", 9);
    return (int)strtol(h->text + 9, NULL, 10);
}

SPARK_UNUSED static int count_of(const char *text, const char *what)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, what)) != NULL; at++) n++;
    return n;
}

SPARK_UNUSED static int open_descriptors(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

#define HTTP_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
