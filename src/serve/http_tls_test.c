/* http_tls_test.c - other ways in than plain TCP: unix sockets, the PROXY protocol, TLS and client certificates. */
#include "serve/http_test_server.h"

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

static void test_a_gathered_reply_reaches_a_slow_reader_under_tls_as_it_was(void **state)
{
    enum { LEN = 12 << 20 }; /* more than the kernel takes */
    fixture *f = *state;
    tls_listener t;
    secure s;
    static char text[32768];
    tls_start(f, &t, false, false);
    assert_true(secure_dial(f, &t.pki, false, 0, &s));
    f->answer = ANSWER_LATER;
    secure_say(&s, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    http_exchange *x = held(f, 0);
    held_bytes body = gather_pattern(http_reply_share(x), LEN);
    assert_true(http_server_replies(f->server) >= LEN);
    http_reply_held(x, 200, "text/plain", &body, NULL, 0);
    assert_int_equal(body.len, 0);
    run_ms(f, 20);
    assert_in_range(http_server_replies(f->server), 1 << 20, LEN + LEN / 8);
    size_t got = 0, head = 0;
    while (head == 0 || got < LEN) {
        const int n = SSL_read(s.ssl, text, (int)sizeof text - 1);
        if (n <= 0) {
            assert_int_equal(SSL_get_error(s.ssl, n), SSL_ERROR_WANT_READ);
            run_ms(f, 1);
            continue;
        }
        size_t at = 0;
        if (head == 0) {
            text[n] = 0;
            head = at = (size_t)(strstr(text, "\r\n\r\n") + 4 - text);
        }
        for (; at < (size_t)n; at++, got++)
            if ((uint8_t)text[at] != pattern_at(got)) fail_msg("byte %zu is another", got);
    }
    settle(f);
    assert_int_equal(http_server_replies(f->server), 0);
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
    settle(f);
    assert_int_equal(f->n_tls_failed, 1);
    assert_string_equal(f->said, "127.0.0.1: unsupported protocol");
    int fd = dial(f);
    SAY(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_true(hear_end(f, fd)->closed);
    close(fd);
    settle(f);
    assert_int_equal(f->n_tls_failed, 2);
    assert_string_equal(f->said, "127.0.0.1: http request");
    fd = dial(f); /* only a look whether somebody is there */
    settle(f);
    close(fd);
    settle(f);
    assert_int_equal(f->n_tls_failed, 2);
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

static void test_a_renewed_certificate_is_shown_to_new_connections_and_old_ones_go_on(void **state)
{
    fixture *f = *state;
    tls_listener t;
    test_pki renewed;
    spark_err err = {0};
    secure before, after;
    char text[4096];
    struct ssl_ctx_st *next = NULL;
    tls_start(f, &t, false, false);
    assert_true(secure_dial(f, &t.pki, false, 0, &before));
    test_pki_create(&renewed);
    assert_ok(http_tls_create(&next, renewed.cert, renewed.key, (spark_bytes){NULL, 0}, &err));
    http_server_use_tls(f->server, next);
    http_tls_destroy(&t.ctx);
    t.ctx = next;
    secure_say(&before, "GET /old HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_true(secure_hear(f, &before, text, sizeof text) > 0);
    secure_close(&before);
    assert_false(secure_dial(f, &t.pki, false, 0, &after)); /* who knows the old authority only */
    secure_close(&after);
    assert_true(secure_dial(f, &renewed, false, 0, &after));
    secure_say(&after, "GET /new HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_true(secure_hear(f, &after, text, sizeof text) > 0);
    secure_close(&after);
    test_pki_destroy(&renewed);
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

static void test_the_end_of_a_certificate_is_known(void **state)
{
    fixture *f = *state;
    tls_listener t;
    const int64_t before = time(NULL);
    tls_start(f, &t, false, false);
    const int64_t left = http_tls_expires_s(t.ctx) - before;
    assert_true(left >= 86400 && left <= 86400 + 60);
    assert_int_equal(http_tls_expires_s(NULL), 0);
    tls_stop(f, &t);
}

static void test_a_chain_ends_with_the_first_of_its_certificates(void **state)
{
    (void)state;
    test_pki p;
    uint8_t *ca = NULL;
    char chain[8192];
    struct ssl_ctx_st *ctx = NULL;
    test_pki_create(&p);
    X509_gmtime_adj(X509_getm_notAfter(p.ca), 3600);
    assert_true(X509_sign(p.ca, p.ca_key, EVP_sha256()) > 0);
    const spark_bytes more = test_pki_pem(p.ca, NULL, &ca);
    const int n = snprintf(chain, sizeof chain, "%.*s%.*s", (int)p.cert.len, (const char *)p.cert.ptr, (int)more.len,
                           (const char *)more.ptr);
    assert_ok(http_tls_create(&ctx, (spark_bytes){(uint8_t *)chain, (size_t)n}, p.key, (spark_bytes){NULL, 0}, NULL));
    const int64_t left = http_tls_expires_s(ctx) - (int64_t)time(NULL);
    assert_in_range(left, 3500, 3600);
    http_tls_destroy(&ctx);
    free(ca);
    test_pki_destroy(&p);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        HTTP_TEST(test_unix_sockets_are_served),
        HTTP_TEST(test_behind_a_proxy_the_address_is_the_clients),
        HTTP_TEST(test_without_a_proxy_header_or_belief_the_connection_is_closed),
        HTTP_TEST(test_clients_of_a_proxy_have_their_own_limits),
        HTTP_TEST(test_tls_serves_many_requests_and_large_ones),
        HTTP_TEST(test_a_gathered_reply_reaches_a_slow_reader_under_tls_as_it_was),
        HTTP_TEST(test_tls_1_2_and_plain_text_are_refused),
        HTTP_TEST(test_mutual_tls_wants_a_certificate_of_its_authority),
        HTTP_TEST(test_a_renewed_certificate_is_shown_to_new_connections_and_old_ones_go_on),
        HTTP_TEST(test_a_tls_goodbye_while_the_handler_thinks_is_seen),
        HTTP_TEST(test_a_proxy_header_may_come_before_tls),
        HTTP_TEST(test_the_end_of_a_certificate_is_known),
        HTTP_TEST(test_a_chain_ends_with_the_first_of_its_certificates),
        cmocka_unit_test(test_wrong_certificates_and_keys_are_refused_with_a_reason),
    };
    return cmocka_run_group_tests_name("http_tls", tests, NULL, NULL);
}
